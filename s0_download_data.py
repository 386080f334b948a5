#!/usr/bin/env python3
"""Step 0: download states' SF1 zips from the Census Bureau into ``dist/``, and check what lies there."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.ctools.cli import run_command
from dbrecon.steps.download import main

if __name__ == "__main__":
    run_command(main)
