#!/usr/bin/env python3
"""Step 6: a county's people and tables -> how sure the people are, certainty_{SSCCC}.csv."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.console.entry import run_program
from dbrecon.console.step_scripts import step6

if __name__ == "__main__":
    run_program(step6)
