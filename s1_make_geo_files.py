#!/usr/bin/env python3
"""Step 1: the geographic header of states' zips becomes ``geofile_{st}.csv``, and tracts and geography in the database."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.console.entry import run_program
from dbrecon.console.step_scripts import step1

if __name__ == "__main__":
    run_program(step1)
