"""Tracts' tables from their county's two files, as arrays.

A county file is CSV: a header, then rows ``geoid,logrecno,cells`` sorted by geoid, so that a tract's rows lie together: they are
found by searching the text and only they are parsed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbrecon.errors import InputError
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.census.tables import Product
from dbrecon.recon.tract.model import TractTables

REMEDY = "make the county files again (--step2 --force)"


def parse_counts(text: bytes, source: str) -> IntArray:
    """(fields,) the non-negative integers of a text in which each is followed by a comma or the end of a line.

    Raises InputError, naming ``source``, for anything else.
    """
    data = np.frombuffer(text, np.uint8)
    digit = data - np.uint8(ord("0"))  # wraps around below "0", so that all others are above 9
    ends = np.flatnonzero(digit > 9)
    marks = data[ends]
    if not len(text) or text[-1:] != b"\n" or not ((marks == ord(",")) | (marks == ord("\n"))).all():
        raise InputError(f"{source}: holds what is no count, or ends within a line; {REMEDY}")
    lengths = np.diff(ends, prepend=-1) - 1
    if lengths.min() < 1 or lengths.max() > 15:
        raise InputError(f"{source}: a field is empty or too long for a count; {REMEDY}")
    values = digit[ends - 1].astype(np.int64)
    longer, power = np.flatnonzero(lengths > 1), 10
    for place in range(2, int(lengths.max()) + 1):
        longer = longer[lengths[longer] >= place]
        values[longer] += digit[ends[longer] - place].astype(np.int64) * power
        power *= 10
    return values


def rows_of(text: bytes, tract: bytes) -> bytes:
    """The lines that begin with ``tract``: all of them, since the lines are sorted. Empty if there are none."""
    start = text.find(b"\n" + tract) + 1
    if not start:
        return b""
    last = text.rfind(b"\n" + tract) + 1
    return text[start : text.index(b"\n", last) + 1]


@dataclass(frozen=True)
class CountyFile:
    """The text of a county file of one level, and what errors call it."""

    text: bytes
    source: str

    def cells(self, tract: str, columns: tuple[str, ...], geoid_column: str) -> tuple[IntArray, npt.NDArray[np.int64]]:
        """(geoids, (rows, cells)) of the tract's rows.

        Raises InputError if the file's columns are not those, if it is cut off, or if a row is not whole.
        """
        header = ",".join([geoid_column, "logrecno", *columns]).encode()
        if not self.text.startswith(header + b"\n"):
            raise InputError(f"{self.source}: has not the columns of this experiment's tables; {REMEDY}")
        if not self.text.endswith(b"\n"):
            raise InputError(f"{self.source}: is cut off in its last line; {REMEDY}")
        rows = rows_of(self.text, tract.encode())
        width = len(columns) + 2
        if not rows:
            return np.zeros(0, np.int64), np.zeros((0, len(columns)), np.int64)
        values = parse_counts(rows, self.source)
        if len(values) != rows.count(b"\n") * width:
            raise InputError(f"{self.source}: a row of tract {tract} has not {width} fields; {REMEDY}")
        table = values.reshape(-1, width)
        return table[:, 0], table[:, 2:]


@dataclass(frozen=True)
class CountyTables:
    """What is published of a county's tracts, as text that is parsed tract by tract."""

    product: Product
    county: str  # five digits
    blocks: CountyFile
    tracts: CountyFile

    def tract(self, tract: str) -> TractTables:
        """The tables of a tract (six digits). Raises InputError if the county has no such tract, or a file is damaged."""
        geoid = self.county + tract
        block_geoids, block_cells = self.blocks.cells(geoid, self.product.columns("block"), "geoid_block")
        tract_geoids, tract_cells = self.tracts.cells(geoid, self.product.columns("tract"), "geoid_tract")
        if len(tract_geoids) != 1:
            raise InputError(f"{self.tracts.source}: has {len(tract_geoids)} rows of tract {geoid}, where one belongs; {REMEDY}")
        return TractTables(geoid, block_geoids % 10_000, block_cells, tract_cells[0])
