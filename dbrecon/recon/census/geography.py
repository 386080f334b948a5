"""The geographic header of a Summary File: fixed width, Latin-1, one line a record.

Which columns hold which field is data: ``config/geo_header_2010.csv``, from the 2010 SF1 technical documentation
(chapter "Data dictionary", geographic header record). Summary levels and components used: 040 state, 050 county, 140 tract,
101 block (in some products 750), each with component 00, the whole of the unit.
"""

import csv
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from dbrecon.errors import InputError
from dbrecon.paths import CONFIG

DEFAULT_HEADER = CONFIG / "geo_header_2010.csv"

STATE_LEVEL = "040"
COUNTY_LEVEL = "050"
TRACT_LEVEL = "140"
BLOCK_LEVELS = ("101", "750")
LEVELS = (STATE_LEVEL, COUNTY_LEVEL, TRACT_LEVEL, *BLOCK_LEVELS)
WHOLE = "00"


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


class HeaderLayout:
    """Where each field of the header stands. ``fields`` gives a field's slice, counted from 0; ``width`` is a line's length."""

    def __init__(self, fields: dict[str, slice]) -> None:
        self.fields = fields
        self.width = max(field.stop for field in fields.values())
        self._unit = tuple(fields[name] for name in UNIT_FIELDS)

    def unit(self, line: bytes, where: str) -> Unit:
        """The record of a line. Raises InputError, beginning with ``where``, for a code or a count that cannot be one."""
        text = line.decode("latin-1")
        values: list[str | int] = [text[field].strip() for field in self._unit]
        for i in (_POP100, _HU100):
            value = str(values[i])
            if not value.isascii() or not value.isdigit():
                raise InputError(f"{where}: {UNIT_FIELDS[i]} is {value!r}, not a count; get the file anew")
            values[i] = int(value)
        unit = Unit(*values)  # type: ignore[arg-type]  # two ints at their places, text elsewhere
        return self._checked(unit, where)

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


@lru_cache(maxsize=4)
def load_header_layout(path: Path = DEFAULT_HEADER) -> HeaderLayout:
    """Read a header's layout: CSV with ``field,start,length``, columns counted from 1.

    Raises InputError, naming the file, if it cannot be read or lacks a field that is needed.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            fields = {
                row["field"]: slice(int(row["start"]) - 1, int(row["start"]) - 1 + int(row["length"]))
                for row in csv.DictReader(file)
            }
        return HeaderLayout(fields)
    except OSError as error:
        raise InputError(f"{path}: the header's layout cannot be read ({error.strerror}); restore the file") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a header layout ({error}); its columns are field,start,length") from error


def wanted_lines(
    lines: Iterable[bytes], layout: HeaderLayout, stusab: str, where: str, levels: Iterable[str] = LEVELS
) -> Iterator[tuple[int, bytes]]:
    """The lines, with their numbers from 1, of the given levels and component 00; every line is checked.

    Raises InputError, beginning with ``where`` (the file and member), for a line of another width or state, or a LOGRECNO that
    does not increase: data are joined to the header by it.
    """
    fields = layout.fields
    level, component, recno, state = (fields[name] for name in ("SUMLEV", "GEOCOMP", "LOGRECNO", "STUSAB"))
    wanted = frozenset(one.encode() for one in levels)
    width, whole, expected, last = layout.width, WHOLE.encode(), stusab.upper().encode(), b""
    for number, line in enumerate(lines, 1):
        if len(line) != width:
            raise InputError(
                f"{where}, line {number}: {len(line)} bytes long instead of {width} (Latin-1, fixed width); get the file anew"
            )
        record = line[recno]
        if line[state] != expected or record <= last or not record.isdigit():
            raise _header_fault(line[state], expected, record, last, f"{where}, line {number}")
        last = record
        if line[level] in wanted and line[component] == whole:
            yield number, line


def _header_fault(state: bytes, expected: bytes, record: bytes, last: bytes, where: str) -> InputError:
    if state != expected:
        return InputError(f"{where}: of state {text(state)}, not {text(expected)}; put the right state's zip there")
    return InputError(f"{where}: LOGRECNO {text(record)} is no number above {text(last)}; get the file anew")


def text(value: bytes) -> str:
    """Bytes of a file as they are named in an error: quoted, whatever they hold, and not too long."""
    shown = value[:40].decode("latin-1")
    return repr(shown + "..." if len(value) > 40 else shown)


def read_units(lines: Iterable[bytes], layout: HeaderLayout, stusab: str, fips: str, where: str) -> Iterator[Unit]:
    """The records of levels 040, 050, 140 and 101 or 750 with component 00, in file order.

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
        if unit.sumlev in BLOCK_LEVELS or unit.sumlev == TRACT_LEVEL:
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
        raise InputError(f"{where}: there is no tract (summary level {TRACT_LEVEL}, component {WHOLE}); get the file anew")
    for geoid, number in tract_of_blocks.items():
        if geoid not in tracts:
            raise InputError(f"{where}, line {number}: a block of tract {geoid}, which has no record; get the file anew")
