"""A census reconstructed from its published tables, and how sure that is. See docs/architecture.md for the rooms."""

from dbrecon.version import VERSION

__version__ = VERSION
