"""The geographic header of a Summary File: one line a record, of fixed width or of separated fields.

Where which field stands is data: ``config/products/NAME/header.csv``, from the technical documentation of the release. Summary
levels used: 040 state, 050 county, 140 tract, and the product's blocks (101, 750, 100), each the whole of its unit.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from dbrecon.errors import InputError
from dbrecon.paths import CONFIG
from dbrecon.recon.definition_files import check_file

DEFAULT_HEADER = CONFIG / "products" / "sf1_2010" / "header.csv"

STATE_LEVEL = "040"
COUNTY_LEVEL = "050"
TRACT_LEVEL = "140"
BLOCK_LEVELS = ("101", "750")
MAX_PLACE = 10_000
"""No line of a header has so many fields, or columns."""


class Unit(NamedTuple):
    """A record of the header. Codes are text with their leading zeros, empty where the level has none; counts are of 2010.

    ``arealand`` and ``areawatr`` are square metres, ``intptlat`` and ``intptlon`` degrees as published; empty if not given.
    """

    stusab: str
    sumlev: str
    geocomp: str
    logrecno: str
    state: str
    county: str
    tract: str
    blkgrp: str
    block: str
    name: str
    pop100: int
    hu100: int
    arealand: str
    areawatr: str
    intptlat: str
    intptlon: str

    @property
    def geoid(self) -> str:
        """Digits of state (2), county (3), tract (6) and block (4), as far as the level has them."""
        return self.state + self.county + self.tract + self.block


UNIT_FIELDS = tuple(name.upper() for name in Unit._fields)
_POP100 = Unit._fields.index("pop100")
_HU100 = Unit._fields.index("hu100")
_NAME = Unit._fields.index("name")
_AREAS = tuple(Unit._fields.index(name) for name in ("arealand", "areawatr"))
_POINT = ((Unit._fields.index("intptlat"), 90), (Unit._fields.index("intptlon"), 180))
_DEGREES = re.compile(r"[+-]?[0-9]{1,3}(\.[0-9]*)?")
MAX_NAME = 125
"""As many characters as NAME may have in the files of 2020, and 35 more than in those of 2010."""


class Key(NamedTuple):
    """What is looked at in every line: state, LOGRECNO, summary level, and whether the record is of a whole unit."""

    state: bytes
    recno: bytes
    level: bytes
    whole: bool


class HeaderLayout:
    """Where each field of the header stands, and how its lines are read. Two shapes of file are below."""

    def __init__(
        self, encodings: tuple[str, ...], file_id: str, whole: tuple[tuple[str, str], ...], block_levels: tuple[str, ...]
    ) -> None:
        self.encodings = encodings
        self.file_id = file_id.encode()
        self.whole = whole
        self.block_levels = block_levels

    @property
    def levels(self) -> tuple[str, ...]:
        """The summary levels that are used."""
        return (STATE_LEVEL, COUNTY_LEVEL, TRACT_LEVEL, *self.block_levels)

    def wrong_length(self, line: bytes) -> str:
        """Return what is wrong with the line's length or number of fields; nothing if it is right."""
        raise NotImplementedError

    def key(self, line: bytes) -> Key:
        """Return the fields that are looked at in every line."""
        raise NotImplementedError

    def values(self, line: bytes, names: Iterable[str]) -> list[bytes]:
        """Return the bytes of some fields."""
        raise NotImplementedError

    def lines_in(self, size: int) -> int:
        """About how many lines a header of so many bytes has."""
        raise NotImplementedError

    def decode(self, value: bytes) -> str:
        """Return a field's text, by the first of the encodings that it fits."""
        for encoding in self.encodings:
            try:
                return value.decode(encoding)
            except UnicodeDecodeError:
                continue
        return value.decode("latin-1")

    def unit(self, line: bytes, where: str) -> Unit:
        """Return the record of a line. Raises InputError, beginning with ``where``, for a code or a count that cannot be one."""
        values: list[str | int] = [self.decode(value).strip() for value in self.values(line, UNIT_FIELDS)]
        for i in (_POP100, _HU100):
            value = str(values[i])
            if not value.isascii() or not value.isdigit():
                raise InputError(f"{where}: {UNIT_FIELDS[i]} is {value!r}, not a count; get the file anew")
            values[i] = int(value)
        self._check_measures(values, where)
        unit = Unit(*values)  # type: ignore[arg-type]  # two ints at their places, text elsewhere
        return self._checked(unit, where)

    @staticmethod
    def _check_measures(values: Sequence[str | int], where: str) -> None:
        """Raise InputError for a name, an area or a point that cannot be one; areas and points may be empty."""
        if len(str(values[_NAME])) > MAX_NAME:
            raise InputError(
                f"{where}: NAME has {len(str(values[_NAME]))} characters, and no name more than {MAX_NAME}; get the file anew"
            )
        for i in _AREAS:
            value = str(values[i])
            if value and not (value.isascii() and value.isdigit()):
                raise InputError(f"{where}: {UNIT_FIELDS[i]} is {value!r}, not a number of square metres; get the file anew")
        for i, most in _POINT:
            value = str(values[i])
            if value and (not _DEGREES.fullmatch(value) or abs(float(value)) > most):
                raise InputError(f"{where}: {UNIT_FIELDS[i]} is {value!r}, not degrees up to {most}; get the file anew")

    @staticmethod
    def _checked(unit: Unit, where: str) -> Unit:
        wanted = 2
        if unit.sumlev != STATE_LEVEL:
            wanted = 5 if unit.sumlev == COUNTY_LEVEL else 11 if unit.sumlev == TRACT_LEVEL else 15
        geoid = unit.geoid
        if len(geoid) != wanted or not (geoid.isascii() and geoid.isdigit()):
            raise InputError(
                f"{where}: summary level {unit.sumlev} with state {unit.state!r}, county {unit.county!r}, tract "
                f"{unit.tract!r} and block {unit.block!r} is no unit's id; get the file anew"
            )
        return unit


class FixedHeader(HeaderLayout):
    """Lines of fixed width. ``fields`` gives a field's slice, counted from 0; ``width`` is a line's length."""

    def __init__(self, fields: dict[str, slice], *more: Any) -> None:
        super().__init__(*more)
        self.fields = fields
        self.width: int = max(field.stop for field in fields.values())
        self._key = tuple(fields[name] for name in ("STUSAB", "LOGRECNO", "SUMLEV"))
        self._whole = [fields[name] for name, _ in self.whole]
        self._values = [value.encode() for _, value in self.whole]

    def wrong_length(self, line: bytes) -> str:
        """See HeaderLayout."""
        if len(line) == self.width:
            return ""
        return f"{len(line)} bytes long instead of {self.width} (fixed width)"

    def key(self, line: bytes) -> Key:
        """See HeaderLayout."""
        state, recno, level = self._key
        return Key(line[state], line[recno], line[level], [line[at] for at in self._whole] == self._values)

    def values(self, line: bytes, names: Iterable[str]) -> list[bytes]:
        """See HeaderLayout."""
        return [line[self.fields[name]] for name in names]

    def lines_in(self, size: int) -> int:
        """See HeaderLayout."""
        return size // (self.width + 1)


class SeparatedHeader(HeaderLayout):
    """Fields between separators. ``places`` gives a field's number, counted from 0."""

    def __init__(self, places: dict[str, int], separator: bytes, *more: Any) -> None:
        super().__init__(*more)
        self.places = places
        self.separator = separator
        self._fields = max(places.values()) + 1
        self._key = tuple(places[name] for name in ("STUSAB", "LOGRECNO", "SUMLEV"))
        self._whole = [places[name] for name, _ in self.whole]
        self._values = [value.encode() for _, value in self.whole]
        self._splits = max((*self._key, *self._whole)) + 1

    def wrong_length(self, line: bytes) -> str:
        """See HeaderLayout."""
        found = line.count(self.separator) + 1
        return (
            "" if found == self._fields else f"{found} fields instead of {self._fields}, separated by {self.separator.decode()!r}"
        )

    def key(self, line: bytes) -> Key:
        """See HeaderLayout."""
        parts = line.split(self.separator, self._splits)
        state, recno, level = self._key
        return Key(parts[state], parts[recno], parts[level], [parts[at] for at in self._whole] == self._values)

    def values(self, line: bytes, names: Iterable[str]) -> list[bytes]:
        """See HeaderLayout."""
        parts = line.split(self.separator)
        return [parts[self.places[name]] for name in names]

    def lines_in(self, size: int) -> int:
        """See HeaderLayout."""
        return size // 300  # bytes a line, about


@lru_cache(maxsize=8)
def load_header_layout(
    path: Path = DEFAULT_HEADER,
    separator: bytes | None = None,
    encodings: tuple[str, ...] = ("latin-1",),
    file_id: str = "SF1ST",
    whole: tuple[tuple[str, str], ...] = (("GEOCOMP", "00"),),
    block_levels: tuple[str, ...] = BLOCK_LEVELS,
) -> HeaderLayout:
    """Read a header's layout: CSV with ``field,start,length``, columns counted from 1, or with ``field,number`` if separated.

    Raises InputError, naming the file, if it cannot be read or lacks a field that is needed.
    """
    more = encodings, file_id, whole, block_levels
    columns = "field,number" if separator else "field,start,length"
    check_file(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        _check_fields(rows, [name for name, _ in whole], columns, path)
        layout: HeaderLayout
        if separator:
            layout = SeparatedHeader({row["field"]: int(row["number"]) - 1 for row in rows}, separator, *more)
        else:
            starts = {row["field"]: (int(row["start"]) - 1, int(row["length"])) for row in rows}
            layout = FixedHeader({name: slice(start, start + length) for name, (start, length) in starts.items()}, *more)
    except OSError as error:
        raise InputError(f"{path}: the header's layout cannot be read ({error.strerror}); restore the file") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a header layout ({error}); its columns are {columns}") from error
    return layout


def _check_fields(rows: Sequence[Mapping[str, str]], whole: Sequence[str], columns: str, path: Path) -> None:
    """Raise InputError for a header that lacks a field, or has one twice or where none can be; KeyError or ValueError else."""
    fields = [row["field"] for row in rows]
    lacking = [name for name in (*UNIT_FIELDS, *whole) if name not in fields]
    if lacking:
        needed = ", ".join(dict.fromkeys((*UNIT_FIELDS, *whole)))
        raise InputError(f"{path}: has no field {lacking[0]}; this product's geographic header has {needed}, and others")
    place = columns.split(",")[1]
    twice = [name for name, times in Counter(fields).items() if times > 1]
    twice += [f"{place} {number}" for number, times in Counter(row[place] for row in rows).items() if times > 1]
    if twice:
        raise InputError(f"{path}: has {twice[0]} twice; each field has a place of its own")
    for row in rows:
        for column in columns.split(",")[1:]:
            if not 1 <= int(row[column]) <= MAX_PLACE:
                raise InputError(
                    f"{path}: {column} of {row['field']} is {row[column]}, but must be a number from 1 to {MAX_PLACE:,}"
                )


def wanted_lines(
    lines: Iterable[bytes], layout: HeaderLayout, stusab: str, where: str, levels: Iterable[str] | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield the lines, with their numbers from 1, of the given levels (all that are used) and of whole units; every line is
    checked.

    Raises InputError, beginning with ``where`` (the file and member), for a line of another length, state or release, or a LOGRECNO
    that does not increase: data are joined to the header by it.
    """
    wanted = frozenset(level.encode() for level in (layout.levels if levels is None else levels))
    expected, last, key_of, file_id = stusab.upper().encode(), b"", layout.key, layout.file_id
    for number, line in enumerate(lines, 1):
        if wrong := layout.wrong_length(line):
            mark = BYTE_ORDER_MARK if line.startswith(UTF8_MARK) else ""
            raise InputError(f"{where}, line {number}: {mark}{wrong}; get the file anew")
        key = key_of(line)
        record = key.recno
        if key.state != expected or record <= last or not record.isdigit() or not line.startswith(file_id):
            raise _header_fault(line, key, layout, expected, last, f"{where}, line {number}")
        last = record
        if key.whole and key.level in wanted:
            yield number, line


UTF8_MARK = b"\xef\xbb\xbf"
BYTE_ORDER_MARK = "begins with a byte-order mark, which no published file has; "


def _header_fault(line: bytes, key: Key, layout: HeaderLayout, expected: bytes, last: bytes, where: str) -> InputError:
    if line.startswith(UTF8_MARK):
        return InputError(f"{where}: {BYTE_ORDER_MARK}get the file anew")
    if not line.startswith(layout.file_id):
        found = line[: len(layout.file_id)]
        return InputError(
            f"{where}: FILEID is {text(found)}, not {text(layout.file_id)}: the file is of another release; put the right zip there"
        )
    if key.state != expected:
        return InputError(f"{where}: of state {text(key.state)}, not {text(expected)}; put the right state's zip there")
    return InputError(f"{where}: LOGRECNO {text(key.recno)} is no number above {text(last)}; get the file anew")


def text(value: bytes) -> str:
    """Return bytes of a file as they are named in an error: quoted, whatever they hold, and not too long."""
    shown = value[:40].decode("latin-1")
    return repr(shown + "..." if len(value) > 40 else shown)


def read_units(lines: Iterable[bytes], layout: HeaderLayout, stusab: str, fips: str, where: str) -> Iterator[Unit]:
    """Yield the records of states, counties, tracts and blocks as wholes, in file order.

    ``fips`` is the state's two-digit code. Raises InputError for what :func:`wanted_lines` refuses, another state's code, a tract
    or block that stands there twice, a block of a tract that has no record, or no tract at all.
    """
    tracts: dict[str, int] = {}
    blocks: dict[str, int] = {}
    tract_of_blocks: dict[str, int] = {}
    for number, line in wanted_lines(lines, layout, stusab, where):
        at = f"{where}, line {number}"
        unit = layout.unit(line, at)
        if unit.state != fips:
            raise InputError(f"{at}: state {unit.state}, but {stusab.upper()} is {fips}; put the right state's zip there")
        if unit.sumlev in layout.block_levels or unit.sumlev == TRACT_LEVEL:
            geoid = unit.geoid
            seen = tracts if unit.sumlev == TRACT_LEVEL else blocks
            if seen.setdefault(geoid, number) != number:
                raise InputError(f"{at}: {geoid} stands already in line {seen[geoid]}; get the file anew")
            tract_of_blocks.setdefault(geoid[:11], number)
        yield unit
    _check_tracts(tracts, tract_of_blocks, where)


def _check_tracts(tracts: dict[str, int], tract_of_blocks: dict[str, int], where: str) -> None:
    """``tracts`` have records; ``tract_of_blocks`` gives the first line that speaks of a tract."""
    if not tracts:
        raise InputError(f"{where}: there is no tract (summary level {TRACT_LEVEL}, component 00); get the file anew")
    for geoid, number in tract_of_blocks.items():
        if geoid not in tracts:
            raise InputError(f"{where}, line {number}: a block of tract {geoid}, which has no record; get the file anew")
