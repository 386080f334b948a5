#!/usr/bin/env python3
"""Step 3: a county's tables -> one integer program a tract, as LP text."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.console.entry import run_program
from dbrecon.console.step_scripts import step3

if __name__ == "__main__":
    run_program(step3)
