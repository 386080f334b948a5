"""Cells as Parquet: which cell a row is of, and what is counted there; a county's cells a piece at a time."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dbrecon.recon.census.bins import AgeBins
from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, N_RH, RACES, SEXES, IntArray
from dbrecon.recon.certainty.record import TractRecord
from dbrecon.recon.certainty.sample_record import SampleRecord
from dbrecon.recon.people.attributes import NOT_TOLD, RACE_GROUP, Attributes

_WORD = pa.dictionary(pa.int32(), pa.string())
_KEY = [
    ("geoid_block", _WORD),
    ("sex", _WORD),
    ("age_first", pa.int16()),
    ("age_last", pa.int16()),  # null for the open interval at the end
    *((race, pa.bool_()) for race in RACES),
    ("hisp", pa.bool_()),
]
_INTERVALS = ("count", "min", "max", "seen_min", "seen_max")
CELL_SCHEMA = pa.schema([*_KEY, *((name, pa.int32()) for name in _INTERVALS)])
_OF_SAMPLES = {"count": pa.int32(), "mean": pa.float64(), "standard_deviation": pa.float64(), "min": pa.int32(), "max": pa.int32()}
SAMPLE_CELL_SCHEMA = pa.schema([*_KEY, *_OF_SAMPLES.items()])

ROWS_AT_ONCE = 1 << 17


def cell_columns(
    geoid: str, bins: AgeBins, blocks: IntArray, block: IntArray, kind: IntArray, attributes: Attributes | None = None
) -> dict[str, Any]:
    """Return the columns that say which cell each row is of: ``block`` are positions in the tract's four-digit ``blocks``, ``kind``
    binned kinds.

    ``attributes``: what the tables tell of people; where the product names race groups, what they do not tell is null.
    """
    sex, age, race, hisp = bins.split(kind)
    last = bins.last[age]
    following = np.append(FIRST_AGES, 0)[last + 1] - 1
    names = pa.array([f"{geoid}{number:04d}" for number in blocks.tolist()], pa.string())
    columns: dict[str, Any] = {
        "geoid_block": pa.DictionaryArray.from_arrays(block.astype(np.int32), names),
        "sex": pa.DictionaryArray.from_arrays(sex.astype(np.int32), pa.array(SEXES)),
        "age_first": FIRST_AGES[bins.first[age]].astype(np.int16),
        "age_last": pa.array(following.astype(np.int16), mask=last == N_AGES - 1),
    }
    if attributes is not None and attributes.groups:
        return columns | _told_columns(attributes, pa.array(kind % N_RH))
    for bit, name in enumerate(RACES):
        columns[name] = (race >> (len(RACES) - 1 - bit) & 1).astype(bool)
    return columns | {"hisp": hisp.astype(bool)}


def _told_columns(attributes: Attributes, rh: pa.Array) -> dict[str, pa.Array]:
    """Return the columns of races, origin and race group of pairs of a race set and an origin, null where nothing is told."""
    flags = zip(*(flags.split(",") for flags in attributes.flags), strict=True)
    columns = {
        name: pc.take(pa.array([None if flag == NOT_TOLD else flag == "Y" for flag in of_name], pa.bool_()), rh)
        for name, of_name in zip((*RACES, "hisp"), flags, strict=True)
    }
    return columns | {RACE_GROUP: pc.take(pa.array(attributes.groups), rh).dictionary_encode()}


def _schema(schema: pa.Schema, attributes: Attributes | None) -> pa.Schema:
    """Return a schema of cells with the column of race groups, where the product names some."""
    named = attributes is not None and attributes.groups
    return schema.insert(len(_KEY), pa.field(RACE_GROUP, _WORD)) if named else schema


def cell_pieces(records: Iterable[TractRecord], attributes: Attributes | None = None) -> Iterator[bytes]:
    """Yield the Parquet file of the cells that are filled or may vary, as :func:`.county.cell_lines` has them."""
    schema = _schema(CELL_SCHEMA, attributes)
    return _pieces(schema, (_cells(record, attributes).cast(schema) for record in records))


def _cells(record: TractRecord, attributes: Attributes | None) -> pa.Table:
    cells = record.cells
    key = cell_columns(record.geoid, AgeBins(record.bins), record.blocks["block"], cells["block"], cells["kind"], attributes)
    counts = (cells[name] for name in ("count", "least", "most", "seen_least", "seen_most"))
    return pa.table(key | dict(zip(_INTERVALS, counts, strict=True)))


def sample_cell_pieces(records: Iterable[SampleRecord], attributes: Attributes | None = None) -> Iterator[bytes]:
    """Yield the Parquet file of the cells in which samples or people differ, as :func:`.sample_files.sample_cell_lines` has it."""
    schema = _schema(SAMPLE_CELL_SCHEMA, attributes)
    return _pieces(schema, (_sample_cells(record, attributes).cast(schema) for record in records))


def _sample_cells(record: SampleRecord, attributes: Attributes | None) -> pa.Table:
    cells, blocks = record.cells, record.blocks["block"]
    key = cell_columns(
        record.geoid, AgeBins(record.bins), blocks, np.searchsorted(blocks, cells["block"]), cells["kind"], attributes
    )
    mean, spread = record.mean_and_spread()
    counts = (cells["count"], mean, spread, cells["least"], cells["most"])
    return pa.table(key | dict(zip(_OF_SAMPLES, counts, strict=True)))


def _pieces(schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[bytes]:
    out = _Taken()
    with pq.ParquetWriter(pa.PythonFile(out, mode="w"), schema, compression="zstd") as writer:
        for group in _grouped(tables):
            writer.write_table(pa.concat_tables(group).unify_dictionaries())
            yield out.take()
    yield out.take()


def _grouped(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Yield tables together that have some rows, so that row groups are not small."""
    group: list[pa.Table] = []
    rows = 0
    for table in tables:
        group.append(table)
        rows += table.num_rows
        if rows >= ROWS_AT_ONCE:
            yield group
            group, rows = [], 0
    if group:
        yield group


class _Taken(io.RawIOBase):
    """A file that is written to and whose bytes are taken away meanwhile."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Return True: it is for writing."""
        return True

    def write(self, data: Any) -> int:
        """Keep some bytes."""
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        """Return how many bytes there were, taken or not."""
        return self._size

    def take(self) -> bytes:
        """Return the bytes written since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken
