#!/usr/bin/env python3
"""Print every setting as it holds on this host: config/config.ini, then the environment; secrets are masked."""

import dbrecon.ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
from dbrecon.console.entry import run_program
from dbrecon.settings import SETTINGS, Config


def main() -> int:
    """Print one setting a line, as it could stand in the file."""
    config = Config.load()
    print(f"# {config.path}")
    for setting in SETTINGS:
        value = getattr(getattr(config, setting.section), setting.name)
        shown = "" if value is None else "..." if setting.description.secret else str(value)
        print(f"[{setting.section}] {setting.name} = {shown}")
    return 0


if __name__ == "__main__":
    run_program(main)
