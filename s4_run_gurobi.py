#!/usr/bin/env python3
"""Step 4: a tract's integer program -> its checked solution, with HiGHS or Gurobi."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.ctools.cli import run_command
from dbrecon.steps.solutions import main

if __name__ == "__main__":
    run_command(main)
