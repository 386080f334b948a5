"""Where this program's own files lie, and what its commands are called: in a checkout, or in an installed package."""

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

INSTALLED = (PACKAGE / "config").is_dir()
"""Whether this is an installed package, which has ``config/`` inside, rather than a checkout, which has it beside."""

IMPORT_ROOT = PACKAGE.parent
"""What belongs on Python's path for ``import dbrecon``."""

HOME = PACKAGE if INSTALLED else PACKAGE.parent
"""The checkout, with the scripts and ``config/``; of an installed package the folder of the package."""

CONFIG = HOME / "config"
"""Settings' defaults, tables and layouts."""


def local_path(value: str, folder: str) -> str:
    """Return the local path that a setting means: as it is if absolute, else below the checkout.

    Of an installed package it is one of the package's own files (``config/...``), or lies below ``folder``, where the
    settings file is.
    """
    path = Path(value).expanduser()
    return str(HOME / path if not INSTALLED or (HOME / path).exists() else Path(folder, path))


def command(name: str) -> str:
    """Return what an operator types to start ``name``: ``./dbrtool.py`` in a checkout, ``dbrtool`` where the package is
    installed."""
    return name if INSTALLED else f"./{name}.py"


def as_typed(text: str) -> str:
    """Return a text that names commands as a checkout's scripts (``./dbrtool.py --status``), with the names that they have here."""
    return re.sub(r"(?:\./)?\b(dbrtool|scheduler)\.py\b", r"\1", text) if INSTALLED else text
