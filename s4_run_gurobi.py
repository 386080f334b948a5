#!/usr/bin/env python3
"""Step 4: a tract's integer program -> its checked solution, with HiGHS or Gurobi."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.console.entry import run_program
from dbrecon.console.step_scripts import step4

if __name__ == "__main__":
    run_program(step4)
