"""Writes a state's zip of a release from known people: the files that the Census Bureau would publish of them.

What is written: the geographic header and the segments with tables that are used, and those between them; in them
every table of the product, P3, P4, P5 and the medians P13, P13A ... P13I. Other tables of those segments are
zero-filled. Records, in order of LOGRECNO: the state (component 00, and once more as its urban part, 01), then each
county, followed by its tracts, each followed by its blocks; in a release whose files are sorted by summary level, all
counties, then all tracts, then all blocks. Lines end with a line feed.

A county is tabulated when it comes and kept as compressed counts in a temporary file, for the state's record stands
first: memory is bounded by the largest county.
"""

import os
import secrets
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.errors import InputError, StorageError
from dbrecon.recon.census.inexact import SUPPRESSED, Inexact
from dbrecon.recon.census.kinds import FIRST_AGES, N_KINDS, N_RH, N_SA, RACE_BITS, RACE_COUNT, RACES, IntArray, split_kind
from dbrecon.recon.census.tables import Product, load_product
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People
from dbrecon.recon.product.header_writer import Records, TextArray, fixed_digits, header_text
from dbrecon.recon.product.release import FIXED, Release, load_release

_DATE = (2011, 6, 1, 0, 0, 0)  # always the same, so that the same people make the same bytes
_ROWS_AT_ONCE = 4096
_COMMA, _ZERO, _NEWLINE = ord(","), ord("0"), ord("\n")
_ITERATIONS = "ABCDEFGHI"


@dataclass(frozen=True)
class County:
    """A county's geography and people.

    code: "CCC"; tracts (T,): 11-digit ids and blocks (B,): 15-digit ids, as ascending numbers, also of those with
    nobody; people: may be in any order, all of them in ``blocks``.
    """

    code: str
    name: str
    tracts: IntArray
    blocks: IntArray
    people: People

    def check(self, state: str) -> None:
        """Raise InputError if ids are not ascending, not of this county, or people live outside the blocks."""
        for name, ids, digits in (("tracts", self.tracts, 6), ("blocks", self.blocks, 10)):
            if len(ids) and ((np.diff(ids) <= 0).any() or (ids // 10**digits != int(state + self.code)).any()):
                raise InputError(f"county {state}{self.code}: its {name} must ascend and begin with {state}{self.code}")
        if not np.isin(self.blocks // BLOCKS_PER_TRACT, self.tracts).all():
            raise InputError(f"county {state}{self.code}: a block lies in none of its tracts; give every tract")
        homeless = ~np.isin(self.people.geoid_block, self.blocks)
        if homeless.any():
            block = int(self.people.geoid_block[np.argmax(homeless)])
            raise InputError(f"county {state}{self.code}: people live in block {block:015d}, not one of its; give every block")


class _Spool:
    """Sparse counts of kinds (records x 25,956), a matrix a county, kept on disk in little space and read in turn."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by close()

    def append(self, counts: sp.csr_array) -> None:
        for array in (counts.indptr.astype(np.int64), counts.indices.astype(np.uint16), counts.data.astype(np.int32)):
            np.save(self._file, array)

    def __iter__(self) -> Iterator[sp.csr_array]:
        end = self._file.seek(0, os.SEEK_END)
        position = 0
        while position < end:
            self._file.seek(position)  # the writer of another member may have read in between
            starts, kinds, counts = (np.load(self._file) for _ in range(3))
            position = self._file.tell()
            yield sp.csr_array((counts, kinds.astype(np.int32), starts), shape=(len(starts) - 1, N_KINDS))

    def close(self) -> None:
        self._file.close()


def write_state_zip(
    path: Path,
    stusab: str,
    state: str,
    counties: Iterable[County],
    release: Release | None = None,
    progress: Callable[[str], None] | None = None,
    block_lines: str = "none",
) -> int:
    """Write ``path``, a state's zip of the release (2010 SF1 unless given), and return how many people it tells of.

    ``state`` is the two-digit FIPS code; ``counties`` come in ascending order and are consumed one at a time;
    ``progress`` is told the name of each county and member when it is done; ``block_lines`` is what segments of tract tables have
    for a block: "none", "empty" cells, or "zeros". The file gets its name when it is whole.

    Raises InputError for a county that is not consistent, StorageError if the disk refuses.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            of, tell = release or load_release(), progress or (lambda _: None)
            with _StateWriter(stusab, state, of, tell, path.parent, block_lines) as writer:
                for county in counties:
                    writer.add(county)
                with zipfile.ZipFile(partial, "w") as archive:
                    writer.write(archive)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error}); see to space and permissions") from error
    return writer.population


class _StateWriter:
    """Collects the counties' counts, then writes the members."""

    def __init__(
        self, stusab: str, state: str, release: Release, progress: Callable[[str], None], scratch: Path, block_lines: str
    ) -> None:
        self.stusab = stusab
        self.state = state
        self.release = release
        self.progress = progress
        self.block_lines = block_lines
        self.tables = _TableTexts(load_product(release.tables_path), release)
        self.passes: tuple[tuple[int, ...], ...] = ((0,), (1,), (2,)) if release.sorted_by_level else ((0, 1, 2),)
        self.records: list[Records] = []
        self.state_counts = np.zeros(N_KINDS, np.int64)
        self.every = _Spool(scratch)
        self.without_blocks = _Spool(scratch)

    def __enter__(self) -> "_StateWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.every.close()
        self.without_blocks.close()

    @property
    def population(self) -> int:
        return int(self.state_counts.sum())

    def add(self, county: County) -> None:
        """Tabulate a county's people by kind for each of its records."""
        county.check(self.state)
        last = self.records[-1] if self.records else None
        if last and county.code <= last.code:
            raise InputError(f"county {self.state}{county.code} comes after {last.code}; give counties in ascending order")
        blocks, tracts, whole = _counts_by_level(county)
        self.state_counts += whole
        upper = sp.csr_array(sp.vstack([sp.csr_array(whole[None, :]), tracts]))
        geoid = np.concatenate([[int(self.state + county.code) * 10**10], county.tracts * BLOCKS_PER_TRACT, county.blocks])
        level = np.repeat(np.arange(3, dtype=np.int8), [1, len(county.tracts), len(county.blocks)])
        order = np.lexsort((level, geoid))
        every = sp.csr_array(sp.vstack([upper, blocks]))[order]
        self.every.append(every)
        self.without_blocks.append(upper)
        empty = np.zeros(len(geoid), np.int64)
        self.records.append(Records(county.code, county.name, geoid[order], level[order], every.sum(axis=1), empty))
        self.progress(f"county {county.code}")

    def write(self, archive: zipfile.ZipFile) -> None:
        """Write all members."""
        self._number()
        members = {self.release.header_member(self.stusab): self._header_lines()}
        for segment in segments_written(self.release):
            members[self.release.segment_member(self.stusab, segment)] = self._segment_lines(segment)
        for name, pieces in members.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as member:
                for piece in pieces:
                    member.write(piece)
            self.progress(name)

    def _number(self) -> None:
        """Give every record its LOGRECNO: 1 and 2 are the state's."""
        following = 3
        for levels in self.passes:
            for records in self.records:
                rows = records.rows(levels)
                records.logrecno[rows] = np.arange(following, following + len(rows))
                following += len(rows)

    def _header_lines(self) -> Iterator[bytes]:
        head = header_text(self.release, self.stusab, self.state)
        yield head.state_lines(self.population)
        for levels in self.passes:
            for records in self.records:
                rows = records.rows(levels)
                for start in range(0, len(rows), _ROWS_AT_ONCE):
                    yield head.county_lines(records, rows[start : start + _ROWS_AT_ONCE])

    def _segment_lines(self, segment: int) -> Iterator[bytes]:
        text, shaped = self.tables.segment(segment), _Shape(self.release, self.stusab, segment)
        state = sp.csr_array(np.stack([self.state_counts, self.state_counts]))
        yield shaped.lines(np.array([1, 2]), text(state))
        with_blocks = has_blocks(self.release, segment)
        for levels in self.passes:
            for records, counts in zip(self.records, self.every if with_blocks else self.without_blocks, strict=True):
                kept = records.rows(levels if with_blocks else [level for level in levels if level < 2])
                # Counts without blocks are the county's, then its tracts', as they stand among all records.
                place = kept if with_blocks else np.searchsorted(records.rows((0, 1)), kept)
                for start in range(0, len(kept), _ROWS_AT_ONCE):
                    rows = slice(start, start + _ROWS_AT_ONCE)
                    yield shaped.lines(records.logrecno[kept[rows]], text(counts[place[rows]]))
                if not with_blocks and 2 in levels and self.block_lines != "none":
                    yield shaped.without_people(records.logrecno[records.rows((2,))], b"0" if self.block_lines == "zeros" else b"")


def has_blocks(release: Release, segment: int) -> bool:
    """Whether a segment has lines for blocks: by its tables' levels, where they are used; else PCT, HCT and PCO tables go down to
    tracts, or counties, alone."""
    levels = {table.level for table in release.tables if table.segment == segment}
    if levels:
        return "block" in levels
    return not all(table.prefix.startswith(("PCT", "HCT", "PCO")) for table in release.segments[segment])


def segments_written(release: Release) -> tuple[int, ...]:
    """Return the segments of the product's tables, and those between the ones with blocks."""
    used = sorted({table.segment for table in release.tables})
    blocks = [segment for segment in used if has_blocks(release, segment)]
    between = [segment for segment in release.segments if blocks and min(blocks) <= segment <= max(blocks)]
    return tuple(sorted({*used, *between}))


def _counts_by_level(county: County) -> tuple[sp.csr_array, sp.csr_array, IntArray]:
    """Count of kinds: (blocks, 25956), (tracts, 25956) and (25956,) of the whole county."""
    people = county.people.merged()
    block = np.searchsorted(county.blocks, people.geoid_block)
    tract = np.searchsorted(county.tracts, people.geoid_tract)

    def matrix(row: IntArray, n: int) -> sp.csr_array:
        # The constructor from coordinates adds up equal ones.
        return sp.coo_array((people.count, (row, people.kind)), shape=(n, N_KINDS)).tocsr()

    whole = np.bincount(people.kind, weights=people.count, minlength=N_KINDS).astype(np.int64)
    return matrix(block, len(county.blocks)), matrix(tract, len(county.tracts)), whole


SegmentText = Callable[[sp.csr_array], TextArray]


class _TableTexts:
    """Turns counts of kinds into the text of segments' cells."""

    def __init__(self, product: Product, release: Release) -> None:
        self.segments = release.segments
        self.withheld = release.withheld
        self.inexact = {table.prefix: table.inexact for table in product.inexact}
        self.counted = {table.prefix: sp.csr_array(table.membership()) for table in product.tables}
        self.counted = _race_and_origin_tables() | self.counted
        self.universes = _universes()

    def segment(self, segment: int) -> SegmentText:
        """Return a function of counts (n, 25956) that gives (n, width) text: the segment's cells, a comma after each.

        Characters 0 are padding, to be left out.
        """
        parts: list[SegmentText] = []
        for table in self.segments[segment]:
            inexact = self.inexact.get(table.prefix)
            if inexact is not None:
                rng = np.random.default_rng([segment, len(parts)])
                parts.append(_inexact_text(self.counted[table.prefix], inexact, rng, self.withheld))
            elif table.prefix in self.counted:
                parts.append(_count_text(self.counted[table.prefix]))
            elif table.prefix in self.universes:
                parts.append(_median_text(self.universes[table.prefix]))
            else:
                parts.append(_zero_text(table.cells))
        return lambda counts: np.hstack([part(counts) for part in parts])


def _count_text(membership: sp.csr_array) -> SegmentText:
    return lambda counts: format_counts((counts @ membership).toarray())


def _inexact_text(membership: sp.csr_array, inexact: Inexact, rng: np.random.Generator, withheld: bytes) -> SegmentText:
    """Return cells rounded, or withheld and then ``withheld``; random rounding goes on from one call to the next."""

    def text(counts: sp.csr_array) -> TextArray:
        shown = inexact.publish((counts @ membership).toarray(), rng)
        width = max(len(withheld), len(str(int(shown.max(initial=0)))))
        cells = np.char.mod("%d", shown).astype(f"S{width}")
        cells[shown == SUPPRESSED] = withheld
        characters = np.full((*shown.shape, width + 1), _COMMA, np.uint8)
        characters[..., :width] = cells.view(np.uint8).reshape(*shown.shape, width)
        return characters.reshape(len(shown), -1)

    return text


def _zero_text(cells: int) -> SegmentText:
    zeros = np.tile(np.array([_ZERO, _COMMA], np.uint8), cells)
    return lambda counts: np.broadcast_to(zeros, (counts.shape[0], len(zeros)))


def _median_text(universe: npt.NDArray[np.bool_]) -> SegmentText:
    return lambda counts: _format_tenths(median_ages(counts, universe))


def _race_and_origin_tables() -> dict[str, sp.csr_array]:
    """P3 (race), P4 (Hispanic origin), P5 (origin by race): (25956, cells) each.

    They stand beside the tables used and follow from P8 and P9; a published file has them filled.
    """
    *_, race, hisp = split_kind(np.arange(N_KINDS))
    anyone = np.ones(N_KINDS, bool)
    by_race = [race == RACE_BITS[name] for name in RACES] + [RACE_COUNT[race] > 1]
    origins = [hisp == 0, hisp == 1]
    columns = {
        "P003": [anyone, *by_race],
        "P004": [anyone, *origins],
        "P005": [anyone, *(origin & of_race for origin in origins for of_race in [anyone, *by_race])],
    }
    return {name: sp.csr_array(np.stack(masks, axis=1).astype(np.int32)) for name, masks in columns.items()}


def _universes() -> dict[str, npt.NDArray[np.bool_]]:
    """Return (25956,) the kinds of whom P13 and P13A ... P13I give the median age: the universes of P12 and P12A ... P12I."""
    *_, race, hisp = split_kind(np.arange(N_KINDS))
    white = race == RACE_BITS["white"]
    masks = [race == RACE_BITS[name] for name in RACES]
    masks += [RACE_COUNT[race] > 1, hisp == 1, white & (hisp == 0)]
    return {"P013": np.ones(N_KINDS, bool)} | {f"P013{letter}": mask for letter, mask in zip(_ITERATIONS, masks, strict=True)}


def median_ages(counts: sp.csr_array, universe: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return (n, 3) median age of both sexes, males, females in each row of ``counts`` (n, 25956) among the kinds in
    ``universe``.

    By linear interpolation within the single year that holds the middle (2010 SF1 technical documentation); 0 where
    there is nobody.
    """
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    inside = universe[counts.indices]
    cell = row[inside] * N_SA + counts.indices[inside] // N_RH
    by_sex = np.bincount(cell, weights=counts.data[inside], minlength=counts.shape[0] * N_SA)
    by_sex = by_sex.reshape(counts.shape[0], 2, -1)
    medians = np.zeros((counts.shape[0], 3))
    for column, by_age in enumerate((by_sex.sum(axis=1), by_sex[:, 0], by_sex[:, 1])):
        inhabited = np.flatnonzero(by_age.any(axis=1))
        medians[inhabited, column] = _interpolated(by_age[inhabited])
    return medians


def _interpolated(by_age: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the median of each row of counts by age category; no row is empty."""
    years = np.diff(np.append(FIRST_AGES, FIRST_AGES[-1] + 5))
    below = np.cumsum(by_age, axis=1)
    half = below[:, -1] / 2
    middle = np.argmax(below >= half[:, None], axis=1)
    here = by_age[np.arange(len(by_age)), middle]
    reached = below[np.arange(len(by_age)), middle]
    medians: npt.NDArray[np.float64] = FIRST_AGES[middle] + years[middle] * (half - reached + here) / here
    return medians


def format_counts(values: npt.NDArray[np.integer]) -> TextArray:
    """Return (n, width) the decimal digits of values (n, cells) >= 0, each cell followed by a comma, padded with characters 0.

    Most cells are 0, so a column is as wide as its largest value.
    """
    largest = values.max(axis=0, initial=0)
    digits = np.array([len(str(value)) for value in largest.tolist()], np.intp)
    ends = np.cumsum(digits + 1) - 1
    text = np.empty((len(values), int(ends[-1]) + 1), np.uint8)
    text[:, ends] = _COMMA
    text[:, ends - 1] = values % 10 + _ZERO
    for place in range(1, int(digits.max())):
        columns = np.flatnonzero(digits > place)
        rest = values[:, columns] // 10**place
        text[:, ends[columns] - 1 - place] = np.where(rest > 0, rest % 10 + _ZERO, 0)
    return text


def _format_tenths(values: npt.NDArray[np.float64]) -> TextArray:
    """Return (n, width) the values with one decimal, each followed by a comma, padded with characters 0."""
    tenths = np.rint(values * 10).astype(np.int64)
    parts = []
    for column in tenths.T:
        whole = format_counts(column[:, None] // 10)
        whole[:, -1] = ord(".")
        parts += [whole, format_counts(column[:, None] % 10)]
    return np.hstack(parts)


class _Shape:
    """Writes the lines of a segment as the release has them: separated, or of fixed width."""

    def __init__(self, release: Release, stusab: str, segment: int) -> None:
        self._head = release.line_head(stusab, segment)
        self._separator = release.separator
        self._widths = [table.width for table in release.segments[segment] for _ in range(table.cells)]
        self._fixed = release.segment_shape == FIXED
        self._layout = f"{release.folder / 'segments.csv'}: segment {segment}"

    def lines(self, logrecno: IntArray, cells: TextArray) -> bytes:
        """Return the lines of records whose cells are text, each followed by a comma; characters 0 are left out."""
        start = np.broadcast_to(np.frombuffer(self._head, np.uint8), (len(cells), len(self._head)))
        comma = np.full((len(cells), 1), _COMMA, np.uint8)
        text = np.hstack([start, fixed_digits(logrecno, 7), comma, cells])
        text[:, -1] = _NEWLINE
        return self._shaped(text.tobytes().translate(None, b"\0"))

    def without_people(self, logrecno: IntArray, cell: bytes) -> bytes:
        """Return lines in which every cell is ``cell``."""
        cells = (b"," + cell) * len(self._widths)
        return self._shaped(b"".join(self._head + b"%07d" % recno + cells + b"\n" for recno in logrecno.tolist()))

    def _shaped(self, lines: bytes) -> bytes:
        """Return lines with commas in the release's shape."""
        if not self._fixed:
            return lines if self._separator == b"," else lines.replace(b",", self._separator)
        begin = len(self._head) + 7
        return b"".join(self._padded(line[:begin], line[begin + 1 :].split(b",")) for line in lines.splitlines())

    def _padded(self, start: bytes, cells: Sequence[bytes]) -> bytes:
        for cell, width in zip(cells, self._widths, strict=True):
            if len(cell) > width:
                raise InputError(f"{self._layout}: {cell.decode()} does not fit a width of {width}; make it wider")
        return start + b"".join(cell.rjust(width) for cell, width in zip(cells, self._widths, strict=True)) + b"\n"
