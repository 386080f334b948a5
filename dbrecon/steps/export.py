"""A place's people with their certainty, in files that other programs read: Parquet, CSV, DuckDB.

GEOIDs are text, so that no leading zero is lost. A county's files are read a piece at a time, so that memory does not grow with it.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Protocol

from dbrecon.ctools import storage
from dbrecon.ctools.extras import extra
from dbrecon.errors import InputError, StorageError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.recon.census.kinds import RACES
from dbrecon.recon.csv_pieces import CsvPieces
from dbrecon.recon.people.people import COLUMNS

with extra("export"):
    import duckdb
    import pyarrow as pa
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    from dbrecon.steps.county_results import has_certainty

READ_BYTES = 1 << 24

_WORD = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("geoid_tract", _WORD),
        ("geoid_block", _WORD),
        ("sex", _WORD),
        ("age", pa.int16()),
        *((race, _WORD) for race in RACES),
        ("hisp", _WORD),
        ("certain", _WORD),  # Y or N; missing where certainty has not been found
        ("confidence", pa.float32()),  # missing where no samples were drawn
    ]
)
NOTES = "dbrecon"
"""The key of a Parquet file's metadata that says what the people were made of, as JSON."""


@dataclass(frozen=True)
class Part:
    """One file to write: its path below the folder without an ending, and whose people it has."""

    path: str
    counties: tuple[tuple[str, str], ...]


class Sink(Protocol):
    """What takes people, a piece at a time."""

    def write(self, people: pa.Table) -> None:
        """Take some more."""


def parts_of(counties: Sequence[tuple[str, str]], *, partitioned: bool) -> list[Part]:
    """Return the files of some counties (state, three digits): one a state, or one a county in folders that name their columns."""
    if partitioned:
        return [Part(f"people/stusab={state}/county={county}/people", ((state, county),)) for state, county in counties]
    states = dict.fromkeys(state for state, _ in counties)
    return [Part(f"people_{state}", tuple(county for county in counties if county[0] == state)) for state in states]


def export_people(
    experiment: Experiment,
    parts: Sequence[Part],
    folder: str,
    kind: str,
    notes: Mapping[str, object],
    done: Callable[[int], object],
) -> dict[str, int]:
    """Write people as "parquet", "csv" or "duckdb" below ``folder``; return each file's path and how many people it has.

    With "duckdb" all go into one database, ``{reident}.duckdb``, as its table ``people``. ``notes`` are kept beside them; ``done``
    hears of each county. Raises UsageError for a file that is there, InputError for people that are not whole, StorageError.
    """
    if kind == "duckdb":
        path = f"{folder}/{experiment.reident}.duckdb"
        _refuse([path])
        with _database(path, notes) as sink:
            return {path: sum(_write(experiment, part, sink, done) for part in parts)}
    paths = {part: f"{folder}/{part.path}.{kind}" for part in parts}
    _refuse(paths.values())
    written = {}
    for part, path in paths.items():
        with storage.sopen(path, "wb", kms_key=experiment.kms_key) as file, _sink(kind, file, notes) as sink:
            written[path] = _write(experiment, part, sink, done)
    return written


def _refuse(paths: Iterable[str]) -> None:
    for path in paths:
        if storage.exists(path):
            raise UsageError(f"{path} is there already: name another folder, or remove it")


def _write(experiment: Experiment, part: Part, sink: Sink, done: Callable[[int], object]) -> int:
    people = 0
    for stusab, county in part.counties:
        for piece in county_people(experiment, stusab, county):
            sink.write(piece)
            people += piece.num_rows
        done(1)
    return people


def county_people(experiment: Experiment, stusab: str, county: str) -> Iterator[pa.Table]:
    """Yield a county's people, a piece at a time, in the columns of SCHEMA. Raises InputError for files that are not whole."""
    path = experiment.synth_out(stusab, county)
    beside = experiment.people_certainty(stusab, county)
    sure = _certainty(beside) if has_certainty(experiment, stusab, county) else None
    start = 0
    for piece in _pieces(path, {name: SCHEMA.field(name).type for name in COLUMNS}):
        table = pa.table({name: piece.column(name) for name in COLUMNS})
        flags = None if sure is None else sure.slice(start, piece.num_rows)
        if flags is not None and flags.num_rows != piece.num_rows:
            raise InputError(f"{beside}: has fewer lines than there are people in {path}; make it again (--step6 --force)")
        start += piece.num_rows
        for name in ("certain", "confidence"):
            known = flags is not None and name in flags.column_names
            column = flags.column(name) if flags is not None and known else pa.nulls(piece.num_rows, SCHEMA.field(name).type)
            table = table.append_column(SCHEMA.field(name), column)
        yield table.cast(SCHEMA)
    if sure is not None and start != sure.num_rows:
        raise InputError(f"{beside}: has more lines than there are people in {path}; make it again (--step6 --force)")


def _certainty(path: str) -> pa.Table:
    """Return a county's certainty line by line."""
    types = {"certain": SCHEMA.field("certain").type, "confidence": SCHEMA.field("confidence").type}
    return pa.Table.from_batches(list(_pieces(path, types)))


def _pieces(path: str, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a file of ours. Raises InputError if it is not whole."""
    with storage.sopen(path, "rb") as file:
        try:
            yield from CsvPieces(file, types, READ_BYTES, null_values=[""])
        except pa.ArrowInvalid as error:
            raise InputError(f"{path}: is not whole ({' '.join(str(error).split())}); --rescan finds what is") from error


# -- what files are written by -------------------------------------------------------------------------------------------


@contextmanager
def _sink(kind: str, file: IO[bytes], notes: Mapping[str, object]) -> Iterator[Sink]:
    if kind == "csv":
        yield _Csv(file)
        return
    schema = SCHEMA.with_metadata({NOTES: json.dumps(dict(notes))})
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield _Parquet(writer, schema)


@dataclass(frozen=True)
class _Parquet:
    writer: pq.ParquetWriter
    schema: pa.Schema

    def write(self, people: pa.Table) -> None:
        """See Sink."""
        self.writer.write_table(people.replace_schema_metadata(self.schema.metadata))


class _Csv:
    """Lines as in a county's file, and two columns more; what is missing is empty."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._file.write(",".join(SCHEMA.names).encode() + b"\n")

    def write(self, people: pa.Table) -> None:
        """See Sink."""
        plain = [column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column for column in people.columns]
        table = pa.table(plain, names=SCHEMA.names)
        pacsv.write_csv(table, self._file, pacsv.WriteOptions(include_header=False, quoting_style="none"))


@dataclass(frozen=True)
class _Table:
    connection: duckdb.DuckDBPyConnection

    def write(self, people: pa.Table) -> None:
        """See Sink."""
        self.connection.register("more", people)
        self.connection.execute("INSERT INTO people SELECT * FROM more")
        self.connection.unregister("more")


@contextmanager
def _database(path: str, notes: Mapping[str, object]) -> Iterator[Sink]:
    """Yield a database that comes into place when it is whole. Raises UsageError for a path on S3, StorageError."""
    if storage.is_s3(path):
        raise UsageError(f"{path}: DuckDB writes to local disks alone: name a local folder (--export parquet goes to S3 too)")
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as room:
            with duckdb.connect(f"{room}/people.duckdb") as connection:
                connection.register("none", SCHEMA.empty_table())
                connection.execute("CREATE TABLE people AS SELECT * FROM none")
                connection.unregister("none")
                connection.execute("CREATE TABLE made_of (name VARCHAR, value VARCHAR)")
                connection.executemany("INSERT INTO made_of VALUES (?, ?)", [[k, json.dumps(v)] for k, v in notes.items()])
                yield _Table(connection)
            os.replace(f"{room}/people.duckdb", path)
    except (OSError, duckdb.IOException) as error:
        raise StorageError(f"{path}: cannot be written ({error}); check the folder and its room") from error
