#!/usr/bin/env python3
"""Step 2: the segments of states' zips become one block file and one tract file per county."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.ctools.cli import run_command
from dbrecon.steps.county_files import main

if __name__ == "__main__":
    run_command(main)
