"""Whether the files of a tract and a county are whole and right, and what they hold: functions of their bytes.

All raise InputError, naming ``source``, for a file that is not; gzip has been unpacked, and so checked, before.
"""

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.bins import Binning
from dbrecon.recon.census.geography import TRACT_LEVEL, UNIT_FIELDS, Unit
from dbrecon.recon.census.tables import Product
from dbrecon.recon.people.attributes import Attributes
from dbrecon.recon.people.people import BinnedPeople, People, header_of, write_rows
from dbrecon.recon.people.solution import parse_solution
from dbrecon.recon.people.years import deal_years
from dbrecon.recon.solve.lp_reader import read_lp
from dbrecon.recon.tract.county_tables import CountyTables
from dbrecon.recon.tract.lp_text import HEAD_BYTES, ages_of_lp, tract_of_lp
from dbrecon.recon.tract.model import TractTables
from dbrecon.recon.tract.verify import verify_people

_MADE_FOR = re.compile(rb"\\ Product (\S+), tables (\S+): (\d+) people in (\d+) blocks\r?\n")
_SIZE = re.compile(rb"\\ (\d+) variables, (\d+) constraints, (\d+) coefficients\r?\n")
_OF_TABLES = re.compile(rb"\\ tables_sha256: ([0-9a-f]{64})\r?\n")
_BOUNDS = re.compile(rb"^[ \t]*[Bb](?:ounds?|OUNDS?)[ \t]*\r?$", re.MULTILINE)
_LAST_WORD = re.compile(rb"(?:^|\s)end\s*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class LpFile:
    """A whole LP file. What a foreign one does not say is None; its constraints are counted in either case."""

    tract: str | None
    people: int | None
    blocks: int | None
    tables: str | None
    variables: int | None
    constraints: int
    nonzeros: int | None
    ages_together: str | None
    tables_sha256: str | None = None
    product: str | None = None


@dataclass(frozen=True)
class SolutionFile:
    """A whole solution. ``seed`` is the one that its years are to be given out by."""

    tract: str
    people: BinnedPeople
    seed: int
    solver: str
    variables: int | None
    constraints: int | None
    notes: Mapping[str, str]


def read_lp_file(text: bytes, source: str) -> LpFile:
    """Return what an LP file says of itself, if it is whole: it ends with End, and has as many constraints as its head tells."""
    if not _LAST_WORD.search(text[-64:]):
        raise InputError(f"{source}: does not end with End: it is cut off", about=Subject.LP_FILE)
    head = text[:HEAD_BYTES]
    made_for, size, of_tables = _MADE_FOR.search(head), _SIZE.search(head), _OF_TABLES.search(head)
    bounds = _BOUNDS.search(text) if size is None else None  # ours have none
    equations = text.count(b"=", 0, bounds.start() if bounds else len(text))
    if size and int(size[2]) != equations:
        raise InputError(f"{source}: has {equations} constraints in place of {int(size[2])}", about=Subject.LP_FILE)
    return LpFile(
        tract=tract_of_lp(text),
        people=int(made_for[3]) if made_for else None,
        blocks=int(made_for[4]) if made_for else None,
        tables=made_for[2].decode() if made_for else None,
        variables=int(size[1]) if size else None,
        constraints=equations,
        nonzeros=int(size[3]) if size else None,
        ages_together=ages_of_lp(text),
        tables_sha256=of_tables[1].decode() if of_tables else None,
        product=made_for[1].decode("ascii", "replace") if made_for else None,
    )


def check_lp(text: bytes, source: str, tract: str, population: int, tables: str, tables_sha256: str | None = None) -> LpFile:
    """Return the same, of a tract (11 digits) of that population, in an experiment on ``tables``.

    ``tables_sha256``: of the tract's tables, where they are known. A foreign LP file, the predecessor's, does not say what it was
    made for; its solution will be checked.
    """
    found = read_lp_file(text, source)
    if found.tract not in (None, tract):
        raise InputError(f"{source}: is the program of tract {found.tract}, not of {tract}", about=Subject.LP_FILE)
    if found.people not in (None, population):
        raise InputError(f"{source}: is of {found.people} people, but {population} are published", about=Subject.LP_FILE)
    if found.tables not in (None, tables):
        raise InputError(f"{source}: is on {found.tables} tables, not on {tables}", about=Subject.LP_FILE)
    if None not in (tables_sha256, found.tables_sha256) and found.tables_sha256 != tables_sha256:
        raise InputError(f"{source}: was made of other tables than the county files hold now", about=Subject.LP_FILE)
    return found


def check_program(text: bytes, source: str, expected: bytes) -> None:
    """Whether a whole LP file is the program of the tables at hand, whose LP text is ``expected``.

    One that says of which tables it was made is the same, line for line, but for comments. Of others, of earlier versions or the
    predecessor's, every constraint that both have must count as many people.
    """
    if _without_comments(text) == _without_comments(expected):
        return
    found, wanted = _counts(text, source), _counts(expected, source)
    for name in found.keys() & wanted.keys():
        if found[name] != wanted[name]:
            is_now = f"{name} is {_bounds(found[name])} there, and {_bounds(wanted[name])} by the county files"
            raise InputError(f"{source}: is not the program of the tables as they are now: {is_now}", about=Subject.LP_FILE)
    if _OF_TABLES.search(text[:HEAD_BYTES]) and ages_of_lp(text) == ages_of_lp(expected):
        raise InputError(f"{source}: was changed since it was made of the county files' tables", about=Subject.LP_FILE)


def _without_comments(text: bytes) -> bytes:
    head, found, body = text.partition(b"\nMinimize")
    return found + body if found and all(line.startswith(b"\\") for line in head.splitlines()) else text


def _counts(text: bytes, source: str) -> dict[str, tuple[float, float]]:
    """Return the least and most of each constraint of a program, by name."""
    named = read_lp(text, source)
    bounds = zip(named.program.lower.tolist(), named.program.upper.tolist(), strict=True)
    return dict(zip(named.constraints, bounds, strict=True))


def _bounds(found: tuple[float, float]) -> str:
    least, most = found
    return f"{least:g}" if least == most else f"from {least:g} to {most:g}"


def read_solution_file(text: bytes, source: str, tract: str | None = None) -> SolutionFile:
    """Return a solution's people and notes."""
    found = parse_solution(text, source, tract)
    notes = found.notes
    numbers = {name: int(notes[name]) for name in ("variables", "constraints") if notes.get(name, "").isdecimal()}
    solver = notes.get("solver", "")
    return SolutionFile(found.tract, found.people, found.seed, solver, numbers.get("variables"), numbers.get("constraints"), notes)


def check_solution(
    text: bytes, source: str, tract: str, population: int, county: CountyTables | None, binning: Binning
) -> tuple[SolutionFile, People | None]:
    """Return a solution of that tract (11 digits) with as many people as published; with ``county``, one that meets every cell.

    Returns it, and its people with single years given out; without ``county`` these are None where the solution counts by bins.
    Raises VerificationError where a published cell is not met.
    """
    found = read_solution_file(text, source, tract)
    people = found.people
    if people.population != population:
        raise InputError(f"{source}: has {people.population} people, but {population} are published", about=Subject.SOLUTION)
    if county is None:
        return found, People(people.geoid_block, people.kind, people.count) if people.exact.all() else None
    tables: TractTables = county.tract(tract[5:])
    dealt = deal_years(people, binning, tables.tract_cells, found.seed, source)
    verify_people(county.product, tables, dealt, source, Subject.SOLUTION)
    return found, dealt


def check_county_tables(county: CountyTables, tracts: Iterable[tuple[str, int]]) -> None:
    """Whether a county's two files have every tract (six digits, population), each with the people that are published."""
    product: Product = county.product
    everyone = product.columns("block")[0]
    for tract, population in tracts:
        tables = county.tract(tract)
        found = int(tables.block_cells[:, 0].sum()) if len(tables.blocks) else 0
        if found != population:
            raise InputError(
                f"{county.blocks.source}: {everyone} of tract {county.county}{tract} is {found}, but {population} people "
                "live there",
                about=Subject.COUNTY_FILES,
            )


class PeopleComparison:
    """Compares a county's file of people with its solutions, tract by tract, ascending: it must hold them byte for byte."""

    def __init__(self, file: BinaryIO, source: str, attributes: Attributes | None = None) -> None:
        """``file`` is open at its beginning; ``attributes``: what the tables tell of people, if that is not everything."""
        self._file, self._source, self._attributes = _Hashing(file), source, attributes
        header = header_of(attributes)
        if self._file.read(len(header)) != header:
            raise self._differs("its first line is another")

    def add(self, tract: str, people: People) -> None:
        """Compare the next tract with people. Raises InputError if the file goes on otherwise."""
        expecting = _Expecting(self._file, lambda: self._differs(f"in tract {tract}"))
        write_rows(people, expecting, self._attributes)  # type: ignore[arg-type]

    def end(self) -> None:
        """Raise InputError if there is more."""
        if self._file.read(1):
            raise self._differs("it has people of no tract")

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the whole file, after :meth:`end`."""
        return self._file.hash.hexdigest()

    def _differs(self, where: str) -> InputError:
        return InputError(f"{self._source}: is not what the solutions give ({where})", about=Subject.PEOPLE)


class _Hashing:
    """A file to read from, whose content is hashed on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.hash = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.hash.update(data)
        return data


class _Expecting:
    """A file to write to, which compares what is written with what another holds."""

    def __init__(self, file: _Hashing, error: Callable[[], InputError]) -> None:
        self._file, self._error = file, error

    def write(self, data: bytes) -> int:
        if self._file.read(len(data)) != data:
            raise self._error()
        return len(data)


def _rows(lines: Iterable[str], source: str, stusab: str) -> Iterator[list[str]]:
    """Yield the rows of CSV. InputError for what is none, a field of megabytes, say."""
    try:
        yield from csv.reader(lines)
    except csv.Error as error:
        raise InputError(f"{source}: is no CSV file of ours ({error})", about=Subject.GEOFILE, place=stusab) from error


def read_geofile(lines: Iterable[str], stusab: str, fips: str, source: str) -> Iterator[Unit]:
    """Yield the records of a state's geofile, as step 1 wrote them."""
    rows = _rows(lines, source, stusab)
    if next(rows, None) != list(UNIT_FIELDS):
        raise InputError(f"{source}: does not have the columns of a geofile", about=Subject.GEOFILE, place=stusab)
    counts = [UNIT_FIELDS.index("POP100"), UNIT_FIELDS.index("HU100")]
    number, tracts = 1, 0
    for row in rows:
        number += 1
        whole = len(row) == len(UNIT_FIELDS) and all(row[i].isascii() and row[i].isdigit() for i in counts)
        values: list[str | int] = list(row)
        for i in counts if whole else ():
            values[i] = int(row[i])
        unit = Unit(*values) if whole else None  # type: ignore[arg-type]  # two ints at their places, text elsewhere
        if unit is None or unit.state != fips:
            raise InputError(
                f"{source}, line {number}: is no record of a state with code {fips}", about=Subject.GEOFILE, place=stusab
            )
        tracts += unit.sumlev == TRACT_LEVEL
        yield unit
    if not tracts:
        raise InputError(f"{source}: has no tract", about=Subject.GEOFILE, place=stusab)
