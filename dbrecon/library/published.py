"""Published tables of a place: read from a state's zip, from the two files of a county, or from frames of one's own."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from dbrecon.ctools import storage
from dbrecon.errors import InputError, UsageError
from dbrecon.library import frames as frame_kinds
from dbrecon.library import table_sets
from dbrecon.library.frames import MOST_PEOPLE
from dbrecon.library.table_sets import AnyProduct
from dbrecon.recon.census.tables import Product
from dbrecon.recon.people.attributes import Attributes, attributes_of
from dbrecon.recon.people.people import BLOCKS_PER_TRACT
from dbrecon.recon.product.archive import Archive
from dbrecon.recon.product.county_rows import CountyRows, LevelPlan, StateReader
from dbrecon.recon.product.release import Release, StateZip, load_release
from dbrecon.recon.tract.county_tables import CountyFile, CountyTables
from dbrecon.recon.tract.model import TractTables
from dbrecon.states import STATES, check_stusab

PLACEHOLDER_BLOCK = "990010001001000"
"""The GEOID of a block that lies nowhere: no state has the code 99."""


@dataclass(frozen=True, repr=False)
class Published:
    """What is published of some tracts. ``loaders`` has for each tract (11 digits, ascending) what gives its tables.

    Made by :func:`read_tables`, :func:`tables_of_frames` and :func:`dbrecon.tabulate`. ``frames`` is the kind of frame that its
    methods, and what is made of it, give.
    """

    product: Product
    loaders: Mapping[str, Callable[[], TractTables]] = field(repr=False)
    frames: str | None = None

    @classmethod
    def of_tracts(cls, product: Product, tracts: Iterable[TractTables], frames: str | None = None) -> "Published":
        """Return tables that are in memory already."""
        return cls(product, {tables.geoid: partial(_given, tables) for tables in tracts}, frame_kinds.chosen(frames))

    @cached_property
    def attributes(self) -> Attributes | None:
        """What the tables tell of people; None where they tell everything but single years."""
        return attributes_of(self.product)

    @property
    def tracts(self) -> tuple[str, ...]:
        """The tracts with people: GEOIDs of 11 digits, ascending."""
        return tuple(self.loaders)

    def tract(self, geoid: str) -> TractTables:
        """Return the tables of one tract, as arrays of counts.

        ``blocks`` (n,) has the last four digits of the GEOIDs of those with people; ``block_cells`` (n, cells) and ``tract_cells``
        (cells,) are in the order of ``product.columns``. Raises UsageError if it is not there.

        >>> tables = published.tract(published.tracts[0])
        >>> tables.block_cells.shape == (len(tables.blocks), 844)
        True
        """
        if geoid not in self.loaders:
            raise UsageError(f"tract {geoid} is not among the {len(self.loaders):,} tracts with people that were read")
        return self.loaders[geoid]()

    def __repr__(self) -> str:
        return f"Published({self.product.title}; tracts: {len(self.loaders):,})"

    def __iter__(self) -> Iterator[TractTables]:
        return (load() for load in self.loaders.values())

    def __len__(self) -> int:
        return len(self.loaders)

    def only(self, *tracts: str) -> "Published":
        """Return some of the tracts: GEOIDs, or what they begin with. Raises UsageError for one that is not there, or none."""
        if not tracts:
            raise UsageError("only() takes tracts: name one or more, by their GEOIDs or what these begin with")
        for wanted in tracts:
            if not any(geoid.startswith(wanted) for geoid in self.loaders):
                raise UsageError(f"tract {wanted} is not among the {len(self.loaders):,} tracts with people that were read")
        kept = {geoid: load for geoid, load in self.loaders.items() if geoid.startswith(tracts)}
        return Published(self.product, kept, self.frames)

    def blocks(self, frames: str | None = None) -> Any:
        """Return a frame with a row a block with people: geoid_block (15 digits, text), then a column a cell (people).

        >>> int(published.blocks()["P0010001"].sum())
        1000
        """
        tables = list(self)
        ids = [int(tract.geoid) * BLOCKS_PER_TRACT + tract.blocks for tract in tables]
        return self._cells("block", 15, ids, [tract.block_cells for tract in tables], frames)

    def tract_cells(self, frames: str | None = None) -> Any:
        """Return a frame with a row a tract: geoid_tract (11 digits, text), then a column a cell (people).

        >>> published.tract_cells().shape
        (1, 3345)
        """
        tables = list(self)
        ids = [np.array([int(tract.geoid)]) for tract in tables]
        return self._cells("tract", 11, ids, [tract.tract_cells[None, :] for tract in tables], frames)

    def _cells(self, level: str, width: int, ids: list[Any], cells: list[Any], frames: str | None) -> Any:
        columns = self.product.columns(level)
        everything = np.concatenate([np.zeros((0, len(columns)), np.int64), *cells])
        geoid = frame_kinds.geoids(np.concatenate([np.zeros(0, np.int64), *ids]), width)
        named = {name: everything[:, place] for place, name in enumerate(columns)}
        return frame_kinds.native({f"geoid_{level}": geoid} | named, frames or self.frames)


def read_tables(
    source: str | os.PathLike[str],
    county: str | None = None,
    *,
    product: str = "sf1_2010",
    subset: str = "all",
    state: str | None = None,
    frames: str | None = None,
) -> Published:
    """Read published tables of a county, or of a whole state.

    ``source``: a state's zip as published, a folder with such a zip, or a folder with a county's two files as step 2 makes them
    (``sf1_block_39059.csv``, ``sf1_tract_39059.csv``); local, or ``s3://``. ``county`` is its three digits; None: all counties of
    the zip. ``state`` (two letters) is needed where a folder has the zips of several. ``product``: "sf1_2010", "dhc2020" or a
    product's folder; ``subset``: some of its tables, as :func:`dbrecon.product` has it. ``frames`` ("pandas", "polars", "pyarrow")
    is the kind of frame that methods give.

    Raises InputError for tables that are missing, damaged or contradict themselves, StorageError for what cannot be read,
    UsageError for a place or product that does not exist.

    >>> dbrecon.read_tables(path, "001", frames="pandas")
    Published(2010 Census Summary File 1; tracts: 1)
    """
    path, release, loaded = path_of(source).rstrip("/"), load_release(product), table_sets.product(product, subset)
    if county is not None and not re.fullmatch(r"\d{3}", str(county)):
        raise UsageError(f"county {county!r}: give its three digits, as in '059'")
    if not path.lower().endswith(".zip"):
        found = _in_folder(path, release, state, county)
        if isinstance(found, tuple):
            return _of_county_files(found, loaded, frames)
        path = found
    with ExitStack() as stack:
        file = stack.enter_context(storage.open_ranges(path))
        stusab = check_stusab(state) if state else _state_of(Archive(file, path), release, path)
        counties = list(_counties(StateZip(file, release, stusab, path), loaded, county))
    loaders = dict(sorted(pair for county in counties for pair in _loaders(county).items()))
    return Published(loaded, loaders, frame_kinds.chosen(frames))


def path_of(value: object) -> str:
    """Return a path as text. Raises UsageError for anything else."""
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"a {type(value).__name__} is no path: give a text, or a pathlib.Path")
    return str(os.fspath(value))


def _in_folder(folder: str, release: Release, state: str | None, county: str | None) -> str | tuple[str, str]:
    """Return the zip of a folder, or a county's two files. Raises InputError where it has neither, UsageError where it has
    several."""
    names = sorted(storage.listdir(folder))
    zips = {release.zip_of(stusab) for stusab in ([check_stusab(state)] if state else STATES)}
    found: list[str | tuple[str, str]] = [f"{folder}/{name}" for name in names if name in zips]
    pattern = re.compile(rf"{release.county_files}_block_(\d\d{county or '[0-9]{3}'})\.csv")
    for name in names if not found else ():
        code = pattern.fullmatch(name)
        if code and (state is None or code[1][:2] == STATES[check_stusab(state)].fips):
            found.append((f"{folder}/{name}", f"{folder}/{release.county_files}_tract_{code[1]}.csv"))
    if not found:
        wanted = f"{release.zip_of(state or 'ST')}, nor {release.county_files}_block_SSCCC.csv"
        raise InputError(f"{folder}: has neither {wanted}; name a zip of the {release.title}, or a folder that holds one")
    if len(found) > 1:
        raise UsageError(f"{folder}: has the tables of {len(found)} places; say which by state= and county=")
    return found[0]


def _of_county_files(paths: tuple[str, str], product: Product, frames: str | None) -> Published:
    blocks, tracts = (CountyFile(storage.read_bytes(path), path) for path in paths)
    code = re.search(r"_(\d{5})\.csv", paths[0])
    assert code is not None
    return Published(product, _loaders(CountyTables(product, code[1], blocks, tracts)), frame_kinds.chosen(frames))


def _state_of(archive: Archive, release: Release, path: str) -> str:
    """Return whose zip it is, by its header's name. Raises InputError if it is no state's of this release."""
    for stusab in STATES:
        if archive.has(release.header_member(stusab)):
            return stusab
    raise InputError(
        f"{path}: has no header such as {release.header_member('ri')}: it is no state's zip of the {release.title}; "
        "name its product by product="
    )


def _counties(archive: StateZip, product: Product, county: str | None) -> Iterator[CountyTables]:
    """Yield the counties of a zip, or one."""
    release = archive.release
    of_level = {level: [t for t in release.tables if t.level == level and product.tables_of(level)] for level in ("block", "tract")}
    reader = StateReader(archive, LevelPlan(of_level["block"], release), LevelPlan(of_level["tract"], release))
    archive.require(reader.members)
    archive.verify(reader.members)
    last_lines = reader.last_lines()
    codes = {code for _, code in last_lines}
    if county is not None and county not in codes:
        raise UsageError(f"{archive.name}: has no county {county}; its counties are {', '.join(sorted(codes))}")
    waiting: dict[str, dict[str, CountyFile]] = {}
    skipped = frozenset(codes - {county}) if county else frozenset[str]()
    for part in reader.counties(last_lines, skipped):
        pair = waiting.setdefault(part.county, {})
        pair[part.level] = _county_file(archive.name, reader, part)
        if len(pair) == len(of_level):
            yield CountyTables(product, STATES[archive.stusab].fips + part.county, pair["block"], pair["tract"])
            del waiting[part.county]


def _county_file(name: str, reader: StateReader, part: CountyRows) -> CountyFile:
    columns = [f"geoid_{part.level}", "logrecno", *reader.plans[part.level].columns]
    return CountyFile(b"\n".join([",".join(columns).encode(), *part.rows, b""]), f"{name}, county {part.county}")


def _loaders(county: CountyTables) -> dict[str, Callable[[], TractTables]]:
    """Return what loads each tract of a county that has people."""
    text = county.blocks.text
    tracts = sorted({line[:11] for line in text[text.find(b"\n") + 1 :].splitlines()})
    return {tract.decode(): partial(county.tract, tract[5:].decode()) for tract in tracts}


def tables_of_frames(
    tables: AnyProduct,
    blocks: object,
    tracts: object = None,
    *,
    subset: str = "all",
    frames: str | None = None,
) -> Published:
    """Take published tables out of frames of one's own.

    ``blocks`` has a row a block: the column geoid_block (15 digits, text), and a column for each block cell of ``tables``; blocks
    without people may be left out. ``tracts`` likewise has geoid_tract (11 digits) and the tract cells; it is needed where there
    are tract tables. For a small set ``blocks`` may be a mapping instead: of each table's name, its cells for a single block (all
    of them, or those alone that have no parts), and perhaps of "geoid_block" its id.

    Raises InputError for a column that is missing, a value that is no count, and blocks of a tract that is not in ``tracts``.

    >>> small = dbrecon.TableSet("two tables", [dbrecon.Table("SEX", by=["sex"]), dbrecon.Table("ORIGIN", by=["hisp"])])
    >>> published = dbrecon.tables_of_frames(small, {"SEX": [2, 1], "ORIGIN": [3, 0]}, frames="pandas")
    >>> dbrecon.reconstruct(published).people()[["sex", "hisp"]].value_counts().to_dict()
    {('male', 'N'): 2, ('female', 'N'): 1}
    """
    loaded = table_sets.product(tables, subset)
    kind = frames or frame_kinds.kind_of(blocks)
    if isinstance(blocks, Mapping):
        return Published.of_tracts(loaded, [_single_block(loaded, blocks)], kind)
    ids, cells = frame_kinds.counts_of_frame(blocks, "geoid_block", 15, loaded.columns("block"), "the frame of blocks")
    inhabited = cells[:, 0] > 0
    ids, cells = ids[inhabited], cells[inhabited]
    of_tract = _tract_rows(loaded, tracts)
    found = []
    for geoid in np.unique(ids // BLOCKS_PER_TRACT).tolist():
        start, end = np.searchsorted(ids, [geoid * BLOCKS_PER_TRACT, (geoid + 1) * BLOCKS_PER_TRACT])
        if of_tract is not None and geoid not in of_tract:
            raise InputError(f"the frame of tracts has no row of tract {geoid:011d}, in which blocks have people; add it")
        tract_cells = of_tract[geoid] if of_tract is not None else np.zeros(0, np.int64)
        found.append(TractTables(f"{geoid:011d}", ids[start:end] % BLOCKS_PER_TRACT, cells[start:end], tract_cells))
    return Published.of_tracts(loaded, found, kind)


def _given(tables: TractTables) -> TractTables:
    return tables


def _tract_rows(loaded: Product, tracts: object) -> dict[int, Any] | None:
    """Return the tract cells by tract; None where there are no tract tables. Raises UsageError where they are there, but not
    given."""
    if not loaded.tables_of("tract"):
        return None
    if tracts is None:
        raise UsageError(f"{loaded.title} has tract tables: give tracts= a frame of them, or take subset='block'")
    ids, cells = frame_kinds.counts_of_frame(tracts, "geoid_tract", 11, loaded.columns("tract"), "the frame of tracts")
    return dict(zip(ids.tolist(), cells, strict=True))


def _single_block(loaded: Product, counts: Mapping[str, Any]) -> TractTables:
    """Return a single block's tables, table by table."""
    geoid = str(counts.get("geoid_block", PLACEHOLDER_BLOCK))
    if not re.fullmatch(r"\d{15}", geoid):
        raise InputError(f"geoid_block is {geoid!r}, but must be the 15 digits of a block")
    unknown = set(counts) - {"geoid_block"} - {table.name for table in loaded.tables}
    if unknown:
        raise InputError(f"{loaded.title} has no table {sorted(unknown)[0]}; it has {', '.join(t.name for t in loaded.tables)}")
    of_level = {
        level: np.concatenate([np.zeros(0, np.int64), *(_whole_table(table, counts) for table in loaded.tables_of(level))])
        for level in ("block", "tract")
    }
    return TractTables(geoid[:11], np.array([int(geoid[11:])]), of_level["block"][None, :], of_level["tract"])


def _is_count(value: object) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and 0 <= int(value) <= MOST_PEOPLE  # type: ignore[call-overload]


def _whole_table(table: Any, counts: Mapping[str, Any]) -> Any:
    """Return all cells of a table of which all, or those without parts, are given."""
    if table.name not in counts:
        raise InputError(f"the counts of table {table.name} are missing")
    given: Sequence[int] = np.atleast_1d(np.asarray(counts[table.name], object)).tolist()
    if any(not _is_count(value) for value in given):
        raise InputError(f"table {table.name}: {given} are no counts of people: give whole numbers, at most {MOST_PEOPLE:,}")
    if len(given) == len(table.cells):
        return np.array(given, np.int64)
    if len(given) != len(table.undivided):
        raise InputError(
            f"table {table.name}: {len(given)} counts are given, but it has {len(table.cells)} cells, {len(table.undivided)} of "
            "them without parts"
        )
    whole = dict(zip(table.undivided, given, strict=True))
    for place in reversed(range(len(table.cells))):  # parts come after their whole
        if place not in whole:
            whole[place] = sum(whole[part] for part in table.cells[place].parts)
    return np.array([whole[place] for place in range(len(table.cells))], np.int64)
