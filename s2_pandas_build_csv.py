#!/usr/bin/env python3
"""Step 2: the segments of states' zips become one block file and one tract file per county."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.console.entry import run_program
from dbrecon.console.step_scripts import step2

if __name__ == "__main__":
    run_program(step2)
