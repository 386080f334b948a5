"""Tracts' tables from their county's two files, as arrays.

A county file is CSV: a header, then rows ``geoid,logrecno,cells`` sorted by geoid, so that a tract's rows lie together: they are
found by bisection and only they are read and parsed. A cell that was withheld stands there as -1.
"""

import contextlib
import hashlib
import mmap
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.inexact import SUPPRESSED
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.census.tables import Product
from dbrecon.recon.tract.model import TractTables

MOST_PEOPLE = 999_999_999
"""What a cell counts at the most; a larger one is an error of the file."""

_WIDEST = 15
"""So many digits has a block's id, and nothing more."""


def parse_counts(text: bytes, source: str) -> IntArray:
    """Return (fields,) the non-negative integers of a text in which each is followed by a comma or the end of a line.

    Raises InputError, naming ``source``, for anything else.
    """
    if not text.endswith(b"\n"):
        raise InputError(f"{source}: ends within a line", about=Subject.COUNTY_FILES)
    fields, values = text.replace(b"\n", b",")[:-1], np.empty(0, np.int64)
    if not text.translate(None, b"0123456789,\n"):  # NumPy would take signs and spaces too
        with contextlib.suppress(ValueError):
            values = np.fromstring(fields, np.int64, sep=",")
    if len(values) != fields.count(b",") + 1 or values.max() >= 10**_WIDEST:
        wrong = next(field for field in fields.split(b",") if not (field.isdigit() and len(field) <= _WIDEST))
        shown = wrong[:40].decode("latin-1")
        raise InputError(f"{source}: a field is {shown!r}, which is no count of people", about=Subject.COUNTY_FILES)
    return values


_WITHHELD = re.compile(rb",-1(?=[,\n])")
_MARK = 10**14
"""Stands for a withheld cell while the text is parsed, which knows no sign."""

Text = bytes | mmap.mmap
"""A file's content: in memory, or mapped, so that what is not looked at is not read."""


def rows_of(text: Text, tract: bytes) -> bytes:
    """Return the lines after the first that begin with ``tract``: found by bisection, since they are sorted. Empty if there are
    none."""
    begin = _first_line(text, tract)
    return text[begin : _first_line(text, tract + b"~")]  # ~ comes after all digits


def _first_line(text: Text, key: bytes) -> int:
    """Return where the first line after the header begins that is not less than ``key``; the text's length if there is none."""
    low = text.find(b"\n") + 1
    high = len(text)
    while low < high:
        middle = (low + high) // 2
        line = max(low, text.rfind(b"\n", low, middle) + 1)  # the line that ``middle`` lies in
        if text[line : line + len(key)] < key:
            end = text.find(b"\n", middle)
            low = end + 1 if end >= 0 else len(text)
        else:
            high = line
    return low


@lru_cache(maxsize=4)
def _header(columns: tuple[str, ...], geoid_column: str) -> bytes:
    """Return a county file's first line."""
    return ",".join([geoid_column, "logrecno", *columns]).encode() + b"\n"


@dataclass(frozen=True)
class CountyFile:
    """The text of a county file of one level, and what errors call it."""

    text: Text
    source: str

    def cells(self, tract: str, product: Product, level: str) -> tuple[IntArray, npt.NDArray[np.int64]]:
        """Return (geoids, (rows, cells)) of the tract's rows.

        Raises InputError if the file's columns are not the product's, if it is cut off, if a row is not whole, or a cell is none
        that its table can have.
        """
        columns, geoid_column = product.columns(level), f"geoid_{level}"
        header = _header(columns, geoid_column)
        if self.text[: len(header)] != header:
            raise InputError(f"{self.source}: does not have the columns of this experiment's tables", about=Subject.COUNTY_FILES)
        if self.text[-1:] != b"\n":
            raise InputError(f"{self.source}: is cut off in its last line", about=Subject.COUNTY_FILES)
        rows = rows_of(self.text, tract.encode())
        width = len(columns) + 2
        if not rows:
            return np.zeros(0, np.int64), np.zeros((0, len(columns)), np.int64)
        if product.inexact:
            rows = _WITHHELD.sub(b",%d" % _MARK, rows)
        values = parse_counts(rows, self.source)
        if len(values) != rows.count(b"\n") * width:
            raise InputError(f"{self.source}: a row of tract {tract} does not have {width} fields", about=Subject.COUNTY_FILES)
        table = values.reshape(-1, width)
        if not rows.startswith(tract.encode()) or (np.diff(table[:, 0]) <= 0).any():
            raise InputError(f"{self.source}: the rows of tract {tract} are not in order", about=Subject.COUNTY_FILES)
        cells = table[:, 2:]
        if product.inexact:
            cells[cells == _MARK] = SUPPRESSED
        _check_cells(cells, table[:, 0], product, level, self.source)
        return table[:, 0], cells


def _check_cells(cells: IntArray, geoids: IntArray, product: Product, level: str, source: str) -> None:
    """Raise InputError for a cell (rows, cells) of more people than there are, or that its table's rounding does not give."""
    wrong = cells > MOST_PEOPLE
    if product.inexact:
        wrong |= product.impossible(level, cells)
    if not wrong.any():
        return
    row, column = np.argwhere(wrong)[0]
    where = f"{product.columns(level)[column]} of {level} {geoids[row]:0{15 if level == 'block' else 11}d}"
    value = int(cells[row, column])
    if value > MOST_PEOPLE:
        raise InputError(f"{source}: {where} is {value:,}, more people than there are", about=Subject.COUNTY_FILES)
    owners = [table for table in product.tables_of(level) for _ in table.cells]
    how = owners[column].inexact or "exact"
    raise InputError(
        f"{source}: {where} is {value}, but {owners[column].name} is {how} in the product's tables.toml", about=Subject.COUNTY_FILES
    )


@dataclass(frozen=True)
class CountyTables:
    """What is published of a county's tracts, as text that is parsed tract by tract."""

    product: Product
    county: str  # five digits
    blocks: CountyFile
    tracts: CountyFile

    def digest(self, tract: str) -> str:
        """SHA-256 (hex) of what is published of a tract (six digits): the product, and the tract's rows of both files with their
        headers, as text. Equal tables have equal digests, whatever lies beside them in the files."""
        found = hashlib.sha256(f"{self.product.name}\n".encode())
        for file in (self.blocks, self.tracts):
            found.update(file.text[: file.text.find(b"\n") + 1])
            found.update(rows_of(file.text, (self.county + tract).encode()))
        return found.hexdigest()

    def tract(self, tract: str) -> TractTables:
        """Return the tables of a tract (six digits). Raises InputError if the county has no such tract, or a file is damaged."""
        geoid = self.county + tract
        block_geoids, block_cells = self.blocks.cells(geoid, self.product, "block")
        tract_geoids, tract_cells = self.tracts.cells(geoid, self.product, "tract")
        if len(tract_geoids) != 1:
            raise InputError(
                f"{self.tracts.source}: has {len(tract_geoids)} rows of tract {geoid}, where one belongs",
                about=Subject.COUNTY_FILES,
            )
        return TractTables(geoid, block_geoids % 10_000, block_cells, tract_cells[0])
