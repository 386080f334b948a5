"""A place's people with their certainty, and its counties, tracts and blocks by name with a point inside each, in files that other
programs read: Parquet, CSV, DuckDB.

GEOIDs are text, so that no leading zero is lost. A county's files are read a piece at a time, so that memory does not grow with it.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Protocol

from dbrecon.ctools import storage
from dbrecon.ctools.extras import extra
from dbrecon.errors import InputError, StorageError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import GeoRow
from dbrecon.recon.census.kinds import RACES
from dbrecon.recon.csv_pieces import CsvPieces
from dbrecon.recon.people.attributes import NOT_TOLD, RACE_GROUP
from dbrecon.recon.people.people import COLUMNS

with extra("export"):
    import duckdb
    import pyarrow as pa
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    from dbrecon.steps.county_results import has_certainty
    from dbrecon.steps.methods import attributes_known

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
WITH_GROUPS = SCHEMA.insert(SCHEMA.get_field_index("hisp") + 1, pa.field(RACE_GROUP, _WORD))
"""The columns of people of a product that names groups of races."""
PLACES = pa.schema(
    [
        ("geoid", pa.string()),
        ("level", pa.string()),  # county, tract or block
        ("name", pa.string()),
        ("people", pa.int64()),
        ("latitude", pa.float64()),  # of a point inside, in degrees as published; missing where none is
        ("longitude", pa.float64()),
    ]
)
NOTES = "dbrecon"
"""The key of a Parquet file's metadata that says what the people were made of, as JSON."""


@dataclass(frozen=True)
class Part:
    """Two files to write, their paths below the folder without an ending: one of people, one of places; and of which counties."""

    people: str
    places: str
    counties: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Source:
    """Where people and places are taken from. ``places`` gives a county's, in the columns of PLACES; ``notes`` are kept beside
    them; ``done`` hears of each county."""

    experiment: Experiment
    places: Callable[[str, str], pa.Table]
    notes: Mapping[str, object]
    done: Callable[[int], object]

    @property
    def schema(self) -> pa.Schema:
        """The columns of people."""
        return people_schema(self.experiment)


def people_schema(experiment: Experiment) -> pa.Schema:
    """Return the columns of an experiment's people."""
    attributes = attributes_known(experiment)
    return WITH_GROUPS if attributes is not None and attributes.groups else SCHEMA


class Sink(Protocol):
    """What takes people or places, a piece at a time."""

    def write(self, rows: pa.Table) -> None:
        """Take some more."""


def parts_of(counties: Sequence[tuple[str, str]], *, partitioned: bool) -> list[Part]:
    """Return the files of some counties (state, three digits): one a state, or one a county in folders that name their columns."""
    if partitioned:
        folders = {county: f"stusab={county[0]}/county={county[1]}" for county in counties}
        return [Part(f"people/{folder}/people", f"places/{folder}/places", (county,)) for county, folder in folders.items()]
    states = dict.fromkeys(state for state, _ in counties)
    of_state = {state: tuple(county for county in counties if county[0] == state) for state in states}
    return [Part(f"people_{state}", f"places_{state}", of_state[state]) for state in states]


def export_people(source: Source, parts: Sequence[Part], folder: str, kind: str) -> dict[str, int]:
    """Write people and places as "parquet", "csv" or "duckdb" below ``folder``; return each people's file and how many it has.

    With "duckdb" all go into one database, ``{reident}.duckdb``, as its tables ``people`` and ``places``. Raises UsageError for a
    file that is there, InputError for people that are not whole, StorageError.
    """
    kms_key = source.experiment.kms_key
    if kind == "duckdb":
        path = f"{folder}/{source.experiment.reident}.duckdb"
        _refuse([path])
        with _database(path, source) as (people, places):
            return {path: sum(_write(source, part, people, places) for part in parts)}
    paths = {part: (f"{folder}/{part.people}.{kind}", f"{folder}/{part.places}.{kind}") for part in parts}
    _refuse(path for pair in paths.values() for path in pair)
    written = {}
    for part, (of_people, of_places) in paths.items():
        with ExitStack() as stack:
            people, places = (
                stack.enter_context(
                    _sink(kind, stack.enter_context(storage.sopen(path, "wb", kms_key=kms_key)), schema, source.notes)
                )
                for path, schema in ((of_people, source.schema), (of_places, PLACES))
            )
            written[of_people] = _write(source, part, people, places)
    return written


def _refuse(paths: Iterable[str]) -> None:
    for path in paths:
        if storage.exists(path):
            raise UsageError(f"{path} is there already: name another folder, or remove it")


def _write(source: Source, part: Part, people: Sink, places: Sink) -> int:
    written = 0
    for stusab, county in part.counties:
        places.write(source.places(stusab, county))
        for piece in county_people(source.experiment, stusab, county):
            people.write(piece)
            written += piece.num_rows
        source.done(1)
    return written


def places_of(rows: Iterable[tuple[str, GeoRow]]) -> pa.Table:
    """Return records of the geographic header, each with its level, in the columns of PLACES."""
    found = list(rows)
    known = [(row.intptlat, row.intptlon) != (0.0, 0.0) for _, row in found]
    columns = [
        [row.state + row.county + row.tract + row.block for _, row in found],
        [level for level, _ in found],
        [row.name for _, row in found],
        [row.pop100 for _, row in found],
        [row.intptlat if point else None for (_, row), point in zip(found, known, strict=True)],
        [row.intptlon if point else None for (_, row), point in zip(found, known, strict=True)],
    ]
    return pa.table(columns, schema=PLACES)


def county_people(experiment: Experiment, stusab: str, county: str) -> Iterator[pa.Table]:
    """Yield a county's people, a piece at a time, in the columns of :func:`people_schema`.

    Raises InputError for files that are not whole.
    """
    path = experiment.synth_out(stusab, county)
    beside = experiment.people_certainty(stusab, county)
    sure = _certainty(beside) if has_certainty(experiment, stusab, county) else None
    schema = people_schema(experiment)
    own = [*COLUMNS, *([RACE_GROUP] if schema is WITH_GROUPS else [])]
    start = 0
    for piece in _pieces(path, {name: schema.field(name).type for name in own}):
        table = pa.table({name: piece.column(name) for name in own})
        flags = None if sure is None else sure.slice(start, piece.num_rows)
        if flags is not None and flags.num_rows != piece.num_rows:
            raise InputError(f"{beside}: has fewer lines than there are people in {path}; make it again (--step6 --force)")
        start += piece.num_rows
        for name in ("certain", "confidence"):
            known = flags is not None and name in flags.column_names
            column = flags.column(name) if flags is not None and known else pa.nulls(piece.num_rows, SCHEMA.field(name).type)
            table = table.append_column(SCHEMA.field(name), column)
        yield table.cast(schema)
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
            yield from CsvPieces(file, types, READ_BYTES, null_values=["", NOT_TOLD])  # of ages
        except pa.ArrowInvalid as error:
            raise InputError(f"{path}: is not whole ({' '.join(str(error).split())}); --rescan finds what is") from error


# -- what files are written by -------------------------------------------------------------------------------------------


@contextmanager
def _sink(kind: str, file: IO[bytes], schema: pa.Schema, notes: Mapping[str, object]) -> Iterator[Sink]:
    if kind == "csv":
        yield _Csv(file, schema)
        return
    schema = schema.with_metadata({NOTES: json.dumps(dict(notes))})
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield _Parquet(writer, schema)


@dataclass(frozen=True)
class _Parquet:
    writer: pq.ParquetWriter
    schema: pa.Schema

    def write(self, rows: pa.Table) -> None:
        """See Sink."""
        self.writer.write_table(rows.replace_schema_metadata(self.schema.metadata))


class _Csv:
    """Lines with a first one of names; what is missing is empty."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self._file = file
        self._options = pacsv.WriteOptions(include_header=False, quoting_style="needed" if schema is PLACES else "none")
        self._file.write(",".join(schema.names).encode() + b"\n")

    def write(self, rows: pa.Table) -> None:
        """See Sink."""
        plain = [column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column for column in rows.columns]
        pacsv.write_csv(pa.table(plain, names=rows.column_names), self._file, self._options)


@dataclass(frozen=True)
class _Table:
    connection: duckdb.DuckDBPyConnection
    name: str

    def write(self, rows: pa.Table) -> None:
        """See Sink."""
        self.connection.register("more", rows)
        self.connection.execute(f"INSERT INTO {self.name} SELECT * FROM more")
        self.connection.unregister("more")


@contextmanager
def _database(path: str, source: Source) -> Iterator[tuple[Sink, Sink]]:
    """Yield the tables people and places of a database that comes into place when it is whole.

    Raises UsageError for a path on S3, StorageError.
    """
    if storage.is_s3(path):
        raise UsageError(f"{path}: DuckDB writes to local disks alone: name a local folder (--export parquet goes to S3 too)")
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as room:
            with duckdb.connect(f"{room}/people.duckdb") as connection:
                for name, schema in (("people", source.schema), ("places", PLACES)):
                    connection.register("none", schema.empty_table())
                    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM none")
                    connection.unregister("none")
                connection.execute("CREATE TABLE made_of (name VARCHAR, value VARCHAR)")
                connection.executemany("INSERT INTO made_of VALUES (?, ?)", [[k, json.dumps(v)] for k, v in source.notes.items()])
                yield _Table(connection, "people"), _Table(connection, "places")
            os.replace(f"{room}/people.duckdb", path)
    except (OSError, duckdb.IOException) as error:
        raise StorageError(f"{path}: cannot be written ({error}); check the folder and its room") from error
