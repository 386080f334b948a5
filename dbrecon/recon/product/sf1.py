"""A state's Summary File 1 as published: one zip with a geographic header and numbered segments.

Which cells a segment holds is data: ``config/segments_2010_sf1.csv`` (2010 SF1 technical documentation, chapter "How to use the
product", file segments). Which tables are used is read from the product's TOML file, without the matrices of
``dbrecon.recon.census.tables``.
"""

import csv
import re
import tomllib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dbrecon.errors import InputError
from dbrecon.paths import CONFIG
from dbrecon.recon.product.archive import Archive

DEFAULT_TABLES = CONFIG / "tables_2010_sf1.toml"
DEFAULT_SEGMENTS = CONFIG / "segments_2010_sf1.csv"

_ANY_HEADER = re.compile(r"([a-z]{2})geo2010\.(\w+)")


def header_member(stusab: str) -> str:
    """The zip's member with the geographic header."""
    return f"{stusab}geo2010.sf1"


def segment_member(stusab: str, segment: int) -> str:
    """The zip's member with a data segment."""
    return f"{stusab}{segment:05d}2010.sf1"


class Sf1Zip(Archive):
    """A state's zip of Summary File 1."""

    def __init__(self, file: BinaryIO, stusab: str, name: str) -> None:
        """Read the zip's directory. Raises InputError if there is none."""
        super().__init__(file, name)
        self.stusab = stusab

    def require(self, members: Iterable[str]) -> None:
        """Raises InputError if a member is not there; it says so if the zip is another state's, or of another release."""
        if not self.has(header_member(self.stusab)):
            self._name_other()
        super().require(members)

    def _name_other(self) -> None:
        """Raises InputError if the header that is there is another state's, or another release's."""
        for member in self.members:
            header = _ANY_HEADER.fullmatch(member.lower().rsplit("/", 1)[-1])
            if header is None:
                continue
            other, ending = header.groups()
            if ending != "sf1":
                release = "the Urban/Rural Update" if ending.startswith("ur") else "another release"
                raise InputError(
                    f"{self.name}: holds {member}: it is of {release}, not of Summary File 1; "
                    f"get {self.stusab}2010.sf1.zip (step 0)"
                )
            raise InputError(
                f"{self.name}: holds {member}: it is the zip of {other.upper()}, not of {self.stusab.upper()}; "
                f"rename it to {other}2010.sf1.zip, and get {self.stusab.upper()}'s (step 0)"
            )


class TableSpec(NamedTuple):
    """What must be known of a table to read it: see ``dbrecon.recon.census.tables.Table``, which has the same names."""

    name: str
    prefix: str
    level: str
    segment: int
    cells: int

    @property
    def cell_names(self) -> tuple[str, ...]:
        """Names as in the technical documentation: P0010001, P012A003, PCT0120209."""
        width = 4 if self.prefix[-1].isdigit() else 3
        return tuple(f"{self.prefix}{n:0{width}d}" for n in range(1, self.cells + 1))


@lru_cache(maxsize=4)
def read_tables(path: Path = DEFAULT_TABLES) -> tuple[TableSpec, ...]:
    """The product's tables in the file's order, which is that of the county files' columns.

    Raises InputError, naming the file, if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)["table"]
        return tuple(TableSpec(t["name"], t["prefix"], t["level"], t["segment"], t["cells"]) for t in tables)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); set [sf1] tables to a table file") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    except KeyError as error:
        raise InputError(f"{path}: a table lacks its {error}") from error


class SegmentTable(NamedTuple):
    """A table's place in its segment: the number of cells before it, and its own."""

    prefix: str
    start: int
    cells: int


@lru_cache(maxsize=4)
def load_segments(path: Path = DEFAULT_SEGMENTS) -> dict[int, tuple[SegmentTable, ...]]:
    """The segments' tables in file order: CSV with ``segment,table,cells``.

    Raises InputError, naming the file, if it cannot be read.
    """
    segments: dict[int, list[SegmentTable]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                tables = segments.setdefault(int(row["segment"]), [])
                start = tables[-1].start + tables[-1].cells if tables else 0
                tables.append(SegmentTable(row["table"], start, int(row["cells"])))
    except OSError as error:
        raise InputError(f"{path}: the segments' layout cannot be read ({error.strerror}); restore the file") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a segment layout ({error}); its columns are segment,table,cells") from error
    return {segment: tuple(tables) for segment, tables in segments.items()}
