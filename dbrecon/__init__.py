"""A census reconstructed from its published tables, and how sure that is.

What is listed in ``__all__`` is the library, for scripts and notebooks; each name is loaded when it is used first. It knows no
environment variable, no database and no command, and writes no file that it was not asked for. docs/architecture.md has the rooms
behind it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dbrecon.version import VERSION

if TYPE_CHECKING:
    from dbrecon.errors import DBReconError
    from dbrecon.library.certainty import Certainty, certainty
    from dbrecon.library.files import read_people, read_solution, solve_lp, write_people
    from dbrecon.library.measures import check, evaluate, reidentify, tabulate
    from dbrecon.library.published import Published, read_tables, tables_of_frames
    from dbrecon.library.reconstruction import Reconstruction, reconstruct
    from dbrecon.library.synthetic import SyntheticState, make_state
    from dbrecon.library.table_sets import Table, TableSet, ages, product

__version__ = VERSION

__all__ = [
    "Certainty", "DBReconError", "Published", "Reconstruction", "SyntheticState", "Table", "TableSet", "ages", "certainty", "check",
    "evaluate", "make_state", "product", "read_people", "read_solution", "read_tables", "reconstruct", "reidentify", "solve_lp",
    "tables_of_frames", "tabulate", "write_people",
]  # fmt: skip

_HOMES = {
    "errors": ("DBReconError",),
    "library.certainty": ("Certainty", "certainty"),
    "library.files": ("read_people", "read_solution", "solve_lp", "write_people"),
    "library.measures": ("check", "evaluate", "reidentify", "tabulate"),
    "library.published": ("Published", "read_tables", "tables_of_frames"),
    "library.reconstruction": ("Reconstruction", "reconstruct"),
    "library.synthetic": ("SyntheticState", "make_state"),
    "library.table_sets": ("Table", "TableSet", "ages", "product"),
}


def __getattr__(name: str) -> object:
    """Load a name of the library when it is asked for."""
    for home, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(f"dbrecon.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'dbrecon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
