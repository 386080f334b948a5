"""Packages that only parts of the program need: which extra brings each, and one sentence where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dbrecon.errors import UsageError
from dbrecon.paths import INSTALLED

EXTRAS = {
    "aws": ("boto3", "botocore", "cryptography", "smart_open"),
    "cluster": ("paramiko", "pymysql"),
    "dashboard": ("flask", "waitress", "werkzeug"),
    "export": ("duckdb", "pyarrow"),
    "frames": ("narwhals", "pyarrow"),
    "gurobi": ("gurobipy",),
    "report": ("jinja2", "matplotlib", "pyarrow"),
    "spark": ("pyspark",),
    "study": ("pyarrow",),
}
"""Extras of the installed package, as pyproject.toml declares them, and the modules that each brings."""

PURPOSES = {
    "aws": "what is on S3 or of AWS",
    "cluster": "what is on MySQL or reached by SSH",
    "dashboard": "the dashboard",
    "export": "exporting people",
    "frames": "the library's data frames",
    "gurobi": "Gurobi",
    "report": "a report",
    "spark": "Spark",
    "study": "reading people's files",
}


class MissingPackage(UsageError):
    """A package that this installation was made without."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import packages of the extra ``name`` in here. Raises MissingPackage, which says what to install, where one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS[name]:
            raise
        module = "boto3" if module == "botocore" else module  # by which it comes
        raise MissingPackage(f"{PURPOSES[name]} needs {module}, which is not installed: {remedy(name)}") from None


def remedy(name: str) -> str:
    """Return what to type for the packages of the extra ``name``."""
    if INSTALLED:
        return f"pip install 'dbrecon[{name}]'"
    return "make spark" if name == "spark" else "make setup"
