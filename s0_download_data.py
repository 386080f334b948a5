#!/usr/bin/env python3
"""Step 0: download states' SF1 zips from the Census Bureau into ``dist/``, and check what lies there."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.console.entry import run_program
from dbrecon.console.step_scripts import step0

if __name__ == "__main__":
    run_program(step0)
