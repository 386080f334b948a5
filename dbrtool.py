#!/usr/bin/env python3
"""The operator's command line: registers experiments, runs their steps, and shows where they stand."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.console.main import run

if __name__ == "__main__":
    run()
