#!/usr/bin/env python3
"""Step 3: a county's tables -> one integer program a tract, as LP text."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.ctools.cli import run_command
from dbrecon.steps.lp_files import main

if __name__ == "__main__":
    run_command(main)
