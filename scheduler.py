#!/usr/bin/env python3
"""The daemon of one node: keeps its cores busy with claimed tracts, and closes counties."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.console.scheduler import run

if __name__ == "__main__":
    run()
