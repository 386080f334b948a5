#!/usr/bin/env python3
"""Step 5: the solutions of a county's tracts -> the county's people, synth_out_{SSCCC}.csv."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.console.entry import run_program
from dbrecon.console.step_scripts import step5

if __name__ == "__main__":
    run_program(step5)
