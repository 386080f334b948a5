"""From a state's zip to the rows of its counties' files: every cell that is used, as the text that was published.

Header and segments are read line by line in step. A line begins with known characters (``SF1ST,OH,000,03,0000001,``), so that
one comparison holds it to the header's LOGRECNO. The cells needed are few runs of neighbouring fields, so that they are cut out
as text and written as they are, with commas between them: nothing is parsed that need not be. On a county of 3,769 blocks this
takes 0.055 CPU seconds, where pyarrow.csv takes 0.14 to parse the same five segments and 0.1 more to write the rows.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise, zip_longest
from typing import NamedTuple

from dbrecon.errors import InputError
from dbrecon.recon.census.geography import BYTE_ORDER_MARK, TRACT_LEVEL, UTF8_MARK, text, wanted_lines
from dbrecon.recon.product.archive import GET_ANEW
from dbrecon.recon.product.release import SEPARATED, Release, SegmentTable, StateZip, TableSpec

_RECNO_DIGITS = 7
_CELL_CHARACTERS = b"0123456789,"
_LONGEST_COUNT = 9  # digits; no country counts so many people
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_TOO_LONG = b"0" * (_LONGEST_COUNT + 1)
_EMPTY_CELL = re.compile(rb",,")  # here three times as fast as the operator in


_WITHHELD = b"-1"  # in county files, whatever a release writes for it


def _are_counts(cells: bytes) -> bool:
    """Return whether a row of text with commas is one of counts."""
    # Leaves nothing of a row of counts; an empty cell makes two commas meet, or one stand at an end.
    if cells.translate(None, _CELL_CHARACTERS) or _EMPTY_CELL.search(cells) or cells[:1] == b"," or cells[-1:] == b",":
        return False
    return _TOO_LONG not in cells.translate(_AS_ZEROS)


class Run(NamedTuple):
    """Neighbouring cells of a segment."""

    segment: int
    start: int
    cells: int


class Cutter:
    """Cuts the runs that are needed out of a segment's lines.

    ``begin`` is what each line begins with before its LOGRECNO, ``separators`` how many it has; ``runs`` are in order and do not
    touch.
    """

    def __init__(self, runs: Sequence[Run], cells: int, begin: str, separator: bytes) -> None:
        self.separator = separator
        self.separators = begin.encode().count(separator) + cells
        self.id_width = len(begin) + _RECNO_DIGITS + len(separator)
        first, last = runs[0], runs[-1]
        self._before = first.start
        self._after = cells - last.start - last.cells
        # From the right: (cells from the end of the run before, gap between the two)
        self._gaps = [
            (right.start + right.cells - left.start - left.cells, right.start - left.start - left.cells)
            for left, right in pairwise(runs)
        ][::-1]

    def __call__(self, line: bytes) -> list[bytes]:
        """Return the runs' text, in order. The line has ``separators`` of them."""
        cells, separator = line[self.id_width :], self.separator
        if self._after:
            cells = cells.rsplit(separator, self._after)[0]
        if self._before:
            cells = cells.split(separator, self._before)[self._before]
        found = []
        for count, gap in self._gaps:
            cells, *rest = cells.rsplit(separator, count)
            found.append(separator.join(rest[gap:]))
        found.append(cells)
        return found[::-1]


class LevelPlan:
    """How the columns of one level's county file are cut out of the segments. The first column counts everyone.

    ``segments`` are the ones needed, ascending; ``cutters`` fit them; ``columns`` are names in the file's order.
    """

    def __init__(self, tables: Sequence[TableSpec], release: Release) -> None:
        """Raise InputError for a table that its segment does not hold, or with another number of cells."""
        layout, self._separator = release.segments, release.separator
        self.columns = tuple(name for table in tables for name in table.cell_names)
        runs: list[Run] = []
        for table in tables:
            run = _place(table, layout, release)
            if runs and runs[-1].segment == run.segment and runs[-1].start + runs[-1].cells == run.start:
                runs[-1] = Run(run.segment, runs[-1].start, runs[-1].cells + run.cells)
            else:
                runs.append(run)
        in_file_order = sorted(runs)
        self._order = [in_file_order.index(run) for run in runs]
        self.segments = tuple(sorted({run.segment for run in runs}))
        self.cutters = []
        for segment in self.segments:
            last = layout[segment][-1]
            own = [run for run in in_file_order if run.segment == segment]
            begin = release.line_head("xx", segment).decode()
            self.cutters.append(Cutter(own, last.start + last.cells, begin, release.separator))

        self._withheld = release.withheld
        self._may_withhold = {name for table in tables if table.withholds for name in table.cell_names}
        self._total_line = self.segments.index(runs[0].segment) if runs else 0
        self._total_cell = runs[0].start if runs else 0

    def total(self, lines: Sequence[bytes]) -> bytes:
        """Return text of the first column: everyone."""
        cells = lines[self._total_line][self.cutters[self._total_line].id_width :]
        return cells.split(self._separator, self._total_cell + 1)[self._total_cell]

    def cells(self, lines: Sequence[bytes]) -> bytes | None:
        """Return the columns' text, joined by commas, from one line of each segment; None if a cell is no count."""
        found: list[bytes] = []
        for cutter, line in zip(self.cutters, lines, strict=True):
            found += cutter(line)
        cells = self._separator.join([found[i] for i in self._order])
        if self._separator != b",":
            if b"," in cells:
                return None
            cells = cells.replace(self._separator, b",")
        if self._may_withhold:
            return self._with_withheld(cells)
        return cells if _are_counts(cells) else None

    def _with_withheld(self, cells: bytes) -> bytes | None:
        """Return a row in which some cells may be withheld, with -1 for those; None if another is no count."""
        values = cells.split(b",")
        withheld = [self._is_withheld(name, value) for name, value in zip(self.columns, values, strict=True)]
        if not _are_counts(b",".join(b"0" if is_so else value for is_so, value in zip(withheld, values, strict=True))):
            return None
        return b",".join(_WITHHELD if is_so else value for is_so, value in zip(withheld, values, strict=True))

    def _is_withheld(self, name: str, value: bytes) -> bool:
        return value == self._withheld and name in self._may_withhold

    def bad_cell(self, lines: Sequence[bytes]) -> tuple[int, str, bytes]:
        """Of lines for which ``cells`` is None: position of the line, the first bad cell's name and its text."""
        for i, name, value in self._each_cell(lines):
            if (not value.isdigit() or len(value) > _LONGEST_COUNT) and not self._is_withheld(name, value):
                return i, name, value
        raise AssertionError("no cell is bad")

    def counting_cell(self, lines: Sequence[bytes]) -> tuple[int, str, bytes]:
        """Of a block's lines: the first cell that is not 0, as :meth:`bad_cell` gives one."""
        return next(cell for cell in self._each_cell(lines) if cell[2].strip(b"0"))

    def _each_cell(self, lines: Sequence[bytes]) -> Iterator[tuple[int, str, bytes]]:
        found = [(i, piece) for i, cutter in enumerate(self.cutters) for piece in cutter(lines[i])]
        values = [(i, value) for k in self._order for i, piece in [found[k]] for value in piece.split(self._separator)]
        for name, (i, value) in zip(self.columns, values, strict=True):
            yield i, name, value


def _place(table: TableSpec, layout: dict[int, tuple[SegmentTable, ...]], release: Release) -> Run:
    for place in layout.get(table.segment, ()):
        if place.prefix == table.prefix and place.cells == table.cells:
            return Run(table.segment, place.start, place.cells)
    raise InputError(
        f"table {table.name} is said to be {table.prefix} with {table.cells} cells in segment {table.segment}, but the segments' "
        f"layout has no such table there; correct tables.toml or segments.csv in {release.folder}"
    )


def _segment_lines(archive: StateZip, segment: int) -> Iterator[bytes]:
    """Return the lines of a segment with a separator between LOGRECNO and each cell, whatever their shape in the file."""
    release = archive.release
    member = release.segment_member(archive.stusab, segment)
    lines = archive.lines(member)
    if release.segment_shape == SEPARATED:
        return lines
    begin = len(release.line_head(archive.stusab, segment)) + _RECNO_DIGITS
    widths = [table.width for table in release.segments[segment] for _ in range(table.cells)]
    return _cut_apart(lines, begin, widths, release.separator, f"{archive.name}: member {member}")


def _cut_apart(lines: Iterable[bytes], begin: int, widths: Sequence[int], separator: bytes, where: str) -> Iterator[bytes]:
    """Yield lines of fixed width with ``separator`` before each cell, which is without its blanks. A line of its first ``begin``
    bytes alone has empty cells."""
    ends = list(accumulate(widths, initial=begin))
    cells, width = [slice(start, end) for start, end in pairwise(ends)], ends[-1]
    for number, line in enumerate(lines, 1):
        if len(line) != width and line[begin:].strip():
            raise InputError(f"{where}, line {number}: {len(line)} bytes long instead of {width} (fixed width): {_CUT_OFF}")
        yield separator.join([line[:begin], *(line[cell].strip() for cell in cells)])


class CountyRows(NamedTuple):
    """A county's rows of one level ("block" or "tract"): ``geoid,logrecno,cells`` as in the file, sorted by geoid.

    Blocks without people are left out, tracts without people are not.
    """

    level: str
    county: str
    rows: list[bytes]


class Follower:
    """Reads the segments of a level in step with one another and with the header, and makes the rows.

    ``level`` is "block" or "tract". Where the release has a line for every record in segments with block tables, one that lacks is
    a fault at once; else (and in segments with tract tables) it is one where its unit's cells are needed.
    """

    def __init__(self, archive: StateZip, plan: LevelPlan, level: str) -> None:
        release, stusab = archive.release, archive.stusab
        self.level = level
        self.plan = plan
        self._zip = archive.name
        self._members = [release.segment_member(stusab, segment) for segment in plan.segments]
        heads = [release.line_head(stusab, segment) for segment in plan.segments]
        self._checks = [(head, cutter.separators) for head, cutter in zip(heads, plan.cutters, strict=True)]
        self._separator = release.separator
        self._recno = [slice(len(head), len(head) + _RECNO_DIGITS) for head in heads]
        self._lines = [_segment_lines(archive, segment) for segment in plan.segments]
        self._source = zip_longest(*self._lines, fillvalue=b"")
        self._every = level == "block" and release.every_record
        self._strict = release.every_record
        self._numbers = [0] * len(self._members)
        self._ahead: list[bytes] | None = None  # once the segments are not in step: the line of each that comes next
        self._next: tuple[bytes, ...] | None = None
        self._before: Sequence[bytes] = [b""] * len(self._members)  # the line of each that was given last
        self._nobody: list[bytes] | None = None  # the cells of a block without people, once some have been looked at
        self._number = 0
        self._advance()

    def _advance(self) -> None:
        self._next = next(self._source, None)
        self._number += 1
        if self._strict or not self._next:
            self.next_recno = self._next[0][self._recno[0]] if self._next else b""
        else:
            self.next_recno = self._first_recno(self._next)

    def _first_recno(self, lines: Iterable[bytes]) -> bytes:
        """Return the smallest LOGRECNO of the segments' lines, of which those at their end are empty."""
        return min((line[at] for line, at in zip(lines, self._recno, strict=True) if line), default=b"")

    def at(self, recno: bytes) -> tuple[bytes, ...] | None:
        """Return the lines of the header's record with that LOGRECNO, checked; None if the segments have none for it."""
        if self._ahead is not None:
            return self._each_at(recno)
        lines = self._next
        if lines is None or (not self._every and self.next_recno != recno):
            if self._every and self._members:
                raise self._fault(0, self._number, f"missing, where LOGRECNO {text(recno)} belongs: {_CUT_OFF}")
            in_front = self._strict or lines is None or self.next_recno > recno
            return None if in_front else self._leave_step(recno)
        end = recno + self._separator
        for line, (head, separators) in zip(lines, self._checks, strict=True):
            if not line.startswith(head + end) or line.count(self._separator) != separators:
                if not self._strict:
                    return self._leave_step(recno)
                raise self._line_fault(lines, end)
        self._before = lines
        self._advance()
        return lines

    def _leave_step(self, recno: bytes) -> tuple[bytes, ...] | None:
        """From here on each segment is followed by itself, for one may have lines that another lacks."""
        self._ahead, self._before = list(self._next or ()), list(self._before)
        self._numbers = [self._number] * len(self._members)
        return self._each_at(recno)

    def _each_at(self, recno: bytes) -> tuple[bytes, ...] | None:
        """:meth:`at` where segments are not in step. A line without cells, or with empty ones, stands for none."""
        ahead, before, end = self._ahead, self._before, recno + self._separator
        assert ahead is not None
        assert isinstance(before, list)
        found: list[bytes] = []
        for i, (line, (head, separators)) in enumerate(zip(ahead, self._checks, strict=True)):
            if not line:
                continue
            if not line.startswith(head) or line[self._recno[i]] < recno:
                raise self._fault(i, self._numbers[i], self._misplaced(i, line, head + end))
            if line[self._recno[i]] != recno:
                continue
            before[i], ahead[i] = line, next(self._lines[i], b"")
            self._numbers[i] += 1
            if line.count(self._separator) == separators and line.strip(self._separator)[len(head) + _RECNO_DIGITS :]:
                found.append(line)
            elif line[len(head) + _RECNO_DIGITS :].strip(self._separator):
                fields = line.count(self._separator) + 1
                raise self._fault(i, self._numbers[i] - 1, f"{fields} fields instead of {separators + 1}: {_CUT_OFF}")
        self.next_recno = self._first_recno(ahead)
        self._number = max(self._numbers)
        return tuple(found) if len(found) == len(ahead) else None

    def end(self) -> None:
        """Raise InputError if lines are left over when the header is at its end."""
        left = self._next if self._ahead is None else tuple(self._ahead)
        if left and any(left):
            i = next(i for i, line in enumerate(left) if line)
            number = self._number if self._ahead is None else self._numbers[i]
            raise self._fault(i, number, self._misplaced(i, left[i]))

    def row(self, lines: tuple[bytes, ...] | None, recno: bytes, geoid: bytes, pop100: int) -> bytes:
        """Return ``geoid,logrecno,cells`` of the record whose lines ``at`` has just given; empty for a block without people.

        Raises InputError for a cell that is no count, or a first cell (everyone) that belies the header's POP100.
        """
        if not self._members:
            return geoid + b"," + recno
        if lines is None and self._ahead is not None:
            raise self._lacking(recno, geoid)
        if lines is None and self._next is None:
            raise self._fault(0, self._number, f"missing, where {self._unit(geoid)}, LOGRECNO {text(recno)}, belongs: {_CUT_OFF}")
        if lines is None:
            raise self._no_line_of(geoid, recno)
        if self._nobody is not None and not pop100 and all(map(bytes.endswith, lines, self._nobody)):
            return b""
        cells = self.plan.cells(lines)
        if cells is None:
            i, name, value = self.plan.bad_cell(lines)
            what = f"{name} of {self._unit(geoid)} is {text(value)}, not a count; {GET_ANEW}"
            raise self._fault(i, self._number - 1, what)
        total = int(self.plan.total(lines))
        if total != pop100 and (self.level == "block" or not total or not pop100):
            raise self._fault(
                0,
                self._number - 1,
                f"{self.plan.columns[0]} of {self._unit(geoid)} is {total}, but the header's POP100 is {pop100}; "
                f"header and segments must be of one release: {GET_ANEW}",
            )
        if total or self.level != "block":
            return geoid + b"," + recno + b"," + cells
        if cells.strip(b"0,"):
            i, name, value = self.plan.counting_cell(lines)
            everyone = f"{self.plan.columns[0]} and POP100 say that nobody lives there"
            raise self._fault(i, self._number - 1, f"{name} of {self._unit(geoid)} is {text(value)}, but {everyone}; {GET_ANEW}")
        self._nobody = [line[cutter.id_width - 1 :] for line, cutter in zip(lines, self.plan.cutters, strict=True)]
        return b""

    def _no_line_of(self, geoid: bytes, recno: bytes) -> InputError:
        """For a unit in whose place there are lines of something else."""
        assert self._next is not None
        for i, (line, (head, _)) in enumerate(zip(self._next, self._checks, strict=True)):
            if line and not line.startswith(head):
                return self._fault(i, self._number, self._misplaced(i, line, head + recno))
        return self._fault(0, self._number, f"not the line of {self._unit(geoid)}, LOGRECNO {text(recno)}: {_OUT_OF_STEP}")

    def _misplaced(self, i: int, line: bytes, wanted: bytes = b"") -> str:
        """Return what is wrong with a segment's line that does not begin with ``wanted``, or comes after the last."""
        head, recno = self._checks[i][0], line[self._recno[i]]
        if line.startswith(UTF8_MARK):
            return f"{BYTE_ORDER_MARK}{GET_ANEW}"
        if recno == self._before[i][self._recno[i]]:
            return f"LOGRECNO {text(recno)} stands there twice; {GET_ANEW}"
        if not line.startswith(head) or (self._strict and wanted):
            wanted = wanted or head
            return f"begins with {text(line[: len(wanted)])} instead of {text(wanted)}: {_OUT_OF_STEP}"
        return f"LOGRECNO {text(recno)} has no record in the header, or not in this order; {GET_ANEW}"

    def _lacking(self, recno: bytes, geoid: bytes) -> InputError:
        """For a unit whose cells are needed: the first segment that has no line for it."""
        assert self._ahead is not None
        behind = [i for i, line in enumerate(self._ahead) if not line or line[self._recno[i]] > recno]
        i = min(behind, key=lambda i: self._numbers[i], default=0)
        why = _OUT_OF_STEP if self._ahead[i] else _CUT_OFF
        return self._fault(i, self._numbers[i], f"no line with cells for {self._unit(geoid)}, LOGRECNO {text(recno)}: {why}")

    def _line_fault(self, lines: tuple[bytes, ...], end: bytes) -> InputError:
        """Return what is wrong with the first of the lines that is not as it should be. ``end`` is LOGRECNO and comma."""
        for i, (line, (head, separators)) in enumerate(zip(lines, self._checks, strict=True)):
            fields = line.count(self._separator) + 1
            if not line:
                return self._fault(i, self._number, f"missing, where LOGRECNO {text(end[:-1])} belongs: {_CUT_OFF}")
            if not line.startswith(head + end):
                return self._fault(i, self._number, self._misplaced(i, line, head + end))
            if fields != separators + 1:
                return self._fault(i, self._number, f"{fields} fields instead of {separators + 1}: {_CUT_OFF}")
        raise AssertionError("no line is at fault")

    def _unit(self, geoid: bytes) -> str:
        return f"{self.level} {geoid.decode('latin-1')}"

    def _fault(self, i: int, number: int, what: str) -> InputError:
        return InputError(f"{self._zip}: member {self._members[i]}, line {number}: {what}")


_CUT_OFF = f"the member is cut off or damaged; {GET_ANEW}"
_OUT_OF_STEP = f"out of step with the header; {GET_ANEW}"


_GEOID = {"tract": ("STATE", "COUNTY", "TRACT"), "block": ("STATE", "COUNTY", "TRACT", "BLOCK")}


class StateReader:
    """Streams the counties of a state. ``block`` and ``tract`` are the plans of the two levels.

    Its methods raise InputError, naming member and line, for anything that is not as it should be.
    """

    def __init__(self, archive: StateZip, block: LevelPlan, tract: LevelPlan) -> None:
        self.archive = archive
        self.plans = {"block": block, "tract": tract}
        self.layout = archive.release.header
        self.header = archive.header

    @property
    def members(self) -> list[str]:
        """The members that are needed, the header first."""
        release, stusab = self.archive.release, self.archive.stusab
        segments = sorted({segment for plan in self.plans.values() for segment in plan.segments})
        return [self.header] + [release.segment_member(stusab, segment) for segment in segments]

    def last_lines(self) -> dict[tuple[str, str], int]:
        """For each level and county, the header's line (from 1) of its last record; 0 if it has none. Reads the header once."""
        found: dict[tuple[str, str], int] = {}
        where = f"{self.archive.name}: member {self.header}"
        lines, levels = self.archive.lines(self.header), [TRACT_LEVEL, *self.layout.block_levels]
        for number, line in wanted_lines(lines, self.layout, self.archive.stusab, where, levels):
            name = "tract" if self.layout.key(line).level == TRACT_LEVEL.encode() else "block"
            (county,) = self.layout.values(line, ("COUNTY",))
            found[name, county.decode("latin-1")] = number
        counties = sorted({county for _, county in found})
        return {(name, county): found.get((name, county), 0) for county in counties for name in self.plans}

    def counties(self, last_lines: dict[tuple[str, str], int], skip: frozenset[str] = frozenset()) -> Iterator[CountyRows]:
        """Each county's rows of each level as soon as they are complete; counties in ``skip`` are not read, only kept in step.

        ``last_lines`` is that method's result. Holds the rows of the counties that are begun: in SF1's order, one.
        """
        for (level, county), number in last_lines.items():
            if not number and county not in skip:
                yield CountyRows(level, county, [])
        held: dict[tuple[str, str], list[bytes]] = {}
        for number, level, county, row in self._rows(skip):
            rows = held.setdefault((level, county), [])
            if row:
                rows.append(row)
            if last_lines[level, county] == number:
                yield CountyRows(level, county, self._sorted(held.pop((level, county)), level))

    def _sorted(self, rows: list[bytes], level: str) -> list[bytes]:
        width = 15 if level == "block" else 11
        rows.sort()
        for row, following in pairwise(rows):
            if row[:width] == following[:width]:
                geoid = row[:width].decode()
                raise InputError(f"{self.archive.name}: member {self.header} has {level} {geoid} twice; {GET_ANEW}")
        return rows

    def _rows(self, skip: frozenset[str]) -> Iterator[tuple[int, str, str, bytes]]:
        """Yield (header line, level, county, row) of each block and tract; the row is empty where there is none to write."""
        blocks = Follower(self.archive, self.plans["block"], "block")
        tracts = Follower(self.archive, self.plans["tract"], "tract")
        kinds = {level.encode(): blocks for level in self.layout.block_levels} | {TRACT_LEVEL.encode(): tracts}
        names = {follower: ("POP100", "COUNTY", *_GEOID[follower.level]) for follower in (blocks, tracts)}
        key_of, skipped = self.layout.key, {county.encode() for county in skip}
        for number, line in enumerate(self.archive.lines(self.header), 1):
            key = key_of(line)
            of_block = blocks.at(key.recno)
            of_tract = tracts.at(key.recno) if tracts.next_recno == key.recno else None
            follower = kinds.get(key.level)
            if follower is None or not key.whole:
                continue
            pop, county, *parts = self.layout.values(line, names[follower])
            if county in skipped:
                continue
            row = follower.row(of_block if follower is blocks else of_tract, key.recno, b"".join(parts), int(pop))
            yield number, follower.level, county.decode("latin-1"), row
        blocks.end()
        tracts.end()
