"""Data frames of others: what comes in becomes Arrow, what goes out is of the kind that came in.

Frames are those that narwhals knows (pandas, polars, pyarrow, Modin, cuDF). GEOIDs are text in them, for they may begin with 0.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from dbrecon.ctools.extras import extra
from dbrecon.errors import InputError, UsageError
from dbrecon.recon.census.kinds import FIRST_AGES, N_RH, RACES, SEXES, IntArray, split_kind
from dbrecon.recon.people.attributes import NOT_TOLD, RACE_GROUP, Attributes
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People

with extra("frames"):
    import narwhals as nw
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

FRAMES = ("pandas", "polars", "pyarrow")
MOST_PEOPLE = 999_999_999


@dataclass(frozen=True)
class FrameFile:
    """A frame as a file in memory, for what reads files: Parquet, whose rows errors name."""

    name: str
    content: bytes

    def open(self) -> "nullcontext[BinaryIO]":
        """Open it at its beginning."""
        return nullcontext(io.BytesIO(self.content))


def chosen(frames: str | None) -> str:
    """Return the kind of frame to give back: the one that is named, else the first of ``FRAMES`` that is installed.

    Raises UsageError for a kind that is not known.
    """
    if frames is None:
        return next(kind for kind in FRAMES if find_spec(kind) is not None)
    if frames not in FRAMES:
        raise UsageError(f"frames {frames!r} is not a kind of data frame; take one of {', '.join(FRAMES)}")
    return frames


def kind_of(frame: object) -> str | None:
    """Return which of ``FRAMES`` a frame is; None if it is another that narwhals knows, or none."""
    module = type(frame).__module__.partition(".")[0]
    return module if module in FRAMES else None


def is_frame(value: object) -> bool:
    """Return whether it is a data frame that can be taken."""
    return nw.dependencies.is_into_dataframe(value) and not isinstance(value, nw.LazyFrame)


def arrow(frame: object, what: str) -> pa.Table:
    """Return a frame as an Arrow table. Raises UsageError if it is no frame; ``what`` is what the error calls it."""
    if isinstance(frame, pa.Table):
        return frame
    if not is_frame(frame):
        raise UsageError(f"{what}: a {type(frame).__name__} is no data frame; give one of {', '.join(FRAMES)} (polars: collected)")
    try:
        return nw.from_native(frame, eager_only=True).to_arrow()  # type: ignore[call-overload]  # whatever narwhals knows
    except nw.exceptions.DuplicateError as error:
        names = list(map(str, getattr(frame, "columns", ())))
        twice = next((name for name in names if names.count(name) > 1), "?")
        raise InputError(f"{what}: has two columns {twice}; leave one out") from error


def native(columns: Mapping[str, Any] | pa.Table, frames: str | None) -> Any:
    """Return a frame of the kind ``frames`` (see :func:`chosen`)."""
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    kind = chosen(frames)
    with extra("frames"):
        return table if kind == "pyarrow" else nw.from_arrow(table, backend=kind).to_native()  # type: ignore[arg-type]


def as_file(frame: object, what: str, missing: str | None = None) -> FrameFile:
    """Return a frame of records as a file in memory; ``missing`` is the text that stands for a value that is not there."""
    out = io.BytesIO()
    table = arrow(frame, what)
    for place, name in enumerate(table.column_names):
        if missing is not None and table.column(place).null_count:
            table = table.set_column(place, name, table.column(place).cast(pa.string()).fill_null(missing))
    kept = [name for name in table.column_names if not name.startswith("__index_level")]
    pq.write_table(table.select(kept), out, compression="none")
    return FrameFile(what, out.getvalue())


def texts(values: Sequence[str]) -> pa.Array:
    """Return text, of that type where there is none too."""
    return pa.array(values, pa.string())


def geoids(values: IntArray, width: int) -> pa.Array:
    """Return GEOIDs as text of ``width`` digits."""
    return pc.utf8_lpad(pa.array(values).cast(pa.string()), width=width, padding="0")


def person_columns(kind: IntArray, attributes: Attributes | None = None) -> dict[str, pa.Array]:
    """Return the columns of people behind their places: sex, age (of a category its first year), races and origin.

    What the tables do not tell of people (``attributes``) is null.
    """
    sex, age, race, hisp = split_kind(kind)
    columns = {"sex": _words(sex, SEXES), "age": pa.array(FIRST_AGES[age].astype(np.int16))}
    for place, name in enumerate(RACES):
        columns[name] = _words(race >> (5 - place) & 1, ("N", "Y"))
    columns["hisp"] = _words(hisp, ("N", "Y"))
    if attributes is None:
        return columns
    groups = {RACE_GROUP: _untold(attributes.groups, kind)} if attributes.groups else {}
    return {name: _known(name, column, kind, attributes) for name, column in columns.items()} | groups


def _known(name: str, column: pa.Array, kind: IntArray, attributes: Attributes) -> pa.Array:
    """Return a column of people, null where the tables do not tell it."""
    if name in ("sex", "age"):
        return column if getattr(attributes, name) else pa.nulls(len(column), column.type)
    flags = [flags.split(",")[(*RACES, "hisp").index(name)] for flags in attributes.flags]
    return _untold(flags, kind)


def _untold(words: Sequence[str], kind: IntArray) -> pa.Array:
    """Return of each kind the word of its races and origin, of which there are 126; null where it is not told."""
    return pc.take(pa.array([None if word == NOT_TOLD else word for word in words], pa.string()), pa.array(kind % N_RH))


def _words(number: IntArray, words: tuple[str, ...]) -> pa.Array:
    return pc.take(pa.array(words), pa.array(number))


def people_columns(people: People, attributes: Attributes | None = None) -> dict[str, pa.Array]:
    """Return the columns of a people's file, one row a person, in the file's order. ``attributes`` as in :func:`person_columns`."""
    if attributes is not None:
        people = People(people.geoid_block, attributes.kind[people.kind], people.count)
    merged = people.merged()
    block, kind = np.repeat(merged.geoid_block, merged.count), np.repeat(merged.kind, merged.count)
    places = {"geoid_tract": geoids(block // BLOCKS_PER_TRACT, 11), "geoid_block": geoids(block, 15)}
    return places | person_columns(kind, attributes)


def counts_of_frame(frame: object, id_column: str, width: int, columns: tuple[str, ...], what: str) -> tuple[IntArray, IntArray]:
    """Return (units,) GEOIDs as numbers, ascending, and (units, cells) the published cells that a frame of one's own has.

    The frame may have other columns too. Raises InputError for a column that is missing, an id that is not one or comes twice, and
    a cell that is no count.
    """
    table = arrow(frame, what)
    place_of = {name: place for place, name in enumerate(table.column_names)}
    missing = [name for name in (id_column, *columns) if name not in place_of]
    if missing:
        raise InputError(
            f"{what}: the column {missing[0]} is missing ({len(missing):,} are); it must have {id_column} and all cells"
        )
    ids = _geoids_of(table.column(place_of[id_column]), width, id_column, what)
    order = np.argsort(ids)
    twice = np.flatnonzero(np.diff(ids[order]) == 0)
    if len(twice):
        raise InputError(f"{what}: {id_column} {ids[order][twice[0]]:0{width}d} comes twice; give each unit one row")
    cells = np.empty((len(ids), len(columns)), np.int64)
    for place, name in enumerate(columns):
        cells[:, place] = _counts(table.column(place_of[name]), name, what)
    return ids[order], cells[order]


def _geoids_of(column: pa.ChunkedArray, width: int, name: str, what: str) -> IntArray:
    try:
        values = column.cast(pa.string()).fill_null("")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{what}: the column {name} holds {column.type}; give texts of {width} digits") from error
    fits = pc.match_substring_regex(values, rf"^[0-9]{{{width}}}$").to_numpy()
    if not fits.all():
        bad = values[int(np.argmin(fits))].as_py()
        hint = "; it has lost its leading zero: keep GEOIDs as text" if bad.isdigit() and len(bad) == width - 1 else ""
        if pa.types.is_floating(column.type):
            hint = "; it was read as a number, which loses digits: keep GEOIDs as text"
        raise InputError(f"{what}: {name} is {bad!r}, but must be {width} digits{hint}")
    return np.asarray(values.cast(pa.int64()).to_numpy(), np.int64)


def _counts(column: pa.ChunkedArray, name: str, what: str) -> npt.NDArray[np.int64]:
    try:
        if pa.types.is_boolean(column.type):
            raise pa.ArrowInvalid("true and false")
        values = column.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{what}: the column {name} holds {column.type} that are no counts; give whole numbers") from error
    counts = values.to_numpy() if not values.null_count else np.array([-1])
    if counts.min(initial=0) < 0 or counts.max(initial=0) > MOST_PEOPLE:
        raise InputError(f"{what}: the column {name} has a value that is missing, negative or above {MOST_PEOPLE:,}")
    return np.asarray(counts, np.int64)
