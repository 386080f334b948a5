"""Where this program's own files lie: in a checkout, or in an installed package."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

HOME = PACKAGE.parent
"""The checkout, with the scripts and ``config/``; of an installed package the folder it is installed into."""

CONFIG = PACKAGE / "config" if (PACKAGE / "config").is_dir() else HOME / "config"
"""Settings' defaults, tables and layouts."""
