"""A census reconstructed from its published tables, and how sure that is. See docs/architecture.md for the rooms."""

__version__ = "0.1.0"
