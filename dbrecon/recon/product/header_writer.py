"""Lines of a geographic header, as a release has them, from the records of invented or known people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.geography import FixedHeader, SeparatedHeader
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.people.people import BLOCKS_PER_TRACT
from dbrecon.recon.product.release import Release

TextArray = npt.NDArray[np.uint8]

_ZERO, _NEWLINE = ord("0"), ord("\n")


@dataclass(frozen=True)
class Records:
    """A county's records without its counts: what the header needs. Arrays are in the records' order."""

    code: str
    name: str
    geoid: IntArray  # 15 digits; zeros where the level has no tract or no block
    level: npt.NDArray[np.int8]  # 0 county, 1 tract, 2 block
    population: IntArray
    logrecno: IntArray  # filled in when all counties are there

    def rows(self, levels: Sequence[int]) -> IntArray:
        """Return the positions of the records of some levels."""
        return np.flatnonzero(np.isin(self.level, levels))


def fixed_digits(values: IntArray, width: int, fill: str = "0") -> TextArray:
    """Return (n, width) numbers right-aligned in a field."""
    text = np.empty((len(values), width), np.uint8)
    rest = values.copy()
    for place in range(width - 1, -1, -1):
        digit = rest % 10 + _ZERO
        text[:, place] = digit if fill == "0" or place == width - 1 else np.where(rest > 0, digit, ord(fill))
        rest //= 10
    return text


def header_text(release: Release, stusab: str, state: str) -> "_FixedText | _SeparatedText":
    """Return the writer of a state's header in the release's shape."""
    layout = release.header
    if isinstance(layout, SeparatedHeader):
        return _SeparatedText(layout, stusab, state)
    assert isinstance(layout, FixedHeader)
    return _FixedText(layout, stusab, state)


def _tract_name(code: int) -> str:
    """Return "Census Tract 9771", or 9771.02 where the suffix isn't 00 (2010 SF1 technical documentation)."""
    return f"Census Tract {code // 100}" + (f".{code % 100:02d}" if code % 100 else "")


class _SeparatedText:
    """Lines of a geographic header with separators, otherwise as _FixedText's."""

    def __init__(self, layout: SeparatedHeader, stusab: str, state: str) -> None:
        self.layout = layout
        self.levels = ("050", "140", layout.block_levels[0])
        fields = {"FILEID": layout.file_id.decode(), "STUSAB": stusab.upper(), "CHARITER": "000", "CIFSN": "00", "STATE": state,
                  "FUNCSTAT": "S", **dict(layout.whole)}  # fmt: skip
        self.fields = fields
        self.blank = [""] * (max(layout.places.values()) + 1)

    def _line(self, **fields: str) -> bytes:
        values = self.blank.copy()
        for name, value in {**self.fields, **fields}.items():
            if name in self.layout.places:
                values[self.layout.places[name]] = value
        return (self.layout.separator.decode().join(values) + "\n").encode(self.layout.encodings[0])

    def state_lines(self, population: int) -> bytes:
        """Return the state's record, and its urban part's."""
        counts = {"POP100": str(population), "HU100": str((population + 1) // 2), "SUMLEV": "040"}
        whole = self._line(**counts, LOGRECNO="0000001", NAME="State")
        return whole + self._line(**counts, LOGRECNO="0000002", NAME="State -- Urban", GEOCOMP="01")

    def county_lines(self, records: Records, rows: IntArray) -> bytes:
        """Return some of a county's records."""
        found = zip(
            *(array[rows].tolist() for array in (records.geoid, records.level, records.population, records.logrecno)), strict=True
        )
        return b"".join(self._record(records, *item) for item in found)

    def _record(self, records: Records, geoid: int, level: int, population: int, logrecno: int) -> bytes:
        tract, block = geoid // BLOCKS_PER_TRACT % 10**6, geoid % BLOCKS_PER_TRACT
        fields = {"SUMLEV": self.levels[level], "LOGRECNO": f"{logrecno:07d}", "COUNTY": records.code,
                  "POP100": str(population), "HU100": str((population + 1) // 2)}  # fmt: skip
        if level == 0:
            return self._line(**fields, NAME=records.name)
        fields["TRACT"] = f"{tract:06d}"
        if level == 1:
            return self._line(**fields, NAME=_tract_name(tract))
        return self._line(**fields, BLKGRP=str(block // 1000), BLOCK=f"{block:04d}", NAME=f"Block {block:04d}")


class _FixedText:
    """Lines of the geographic header. As in published files, HU100 is there; here one housing unit for two people."""

    def __init__(self, layout: FixedHeader, stusab: str, state: str) -> None:
        self.levels = (b"050", b"140", layout.block_levels[0].encode())
        self.fields = layout.fields
        self.blank = np.full(layout.width + 1, ord(" "), np.uint8)
        self.blank[-1] = _NEWLINE
        known = {"FILEID": layout.file_id.decode(), "STUSAB": stusab.upper(), "CHARITER": "000", "STATE": state, "FUNCSTAT": "S"}
        for name, value in (known | dict(layout.whole)).items():
            if name in layout.fields:
                self._put(self.blank[None, :], name, value.encode())

    def _put(self, lines: TextArray, field: str, value: bytes) -> None:
        start = self.fields[field].start
        value = value[: self.fields[field].stop - start]
        lines[:, start : start + len(value)] = np.frombuffer(value, np.uint8)

    def _put_number(self, lines: TextArray, field: str, values: IntArray, fill: str = "0") -> None:
        place = self.fields[field]
        lines[:, place] = fixed_digits(values, place.stop - place.start, fill)

    def _put_counts(self, lines: TextArray, population: IntArray) -> None:
        self._put_number(lines, "POP100", population, " ")
        self._put_number(lines, "HU100", (population + 1) // 2, " ")

    def state_lines(self, population: int) -> bytes:
        """Return the state's record, and its urban part's."""
        lines = np.tile(self.blank, (2, 1))
        self._put(lines, "SUMLEV", b"040")
        self._put_number(lines, "LOGRECNO", np.array([1, 2]))
        for line, component, name in zip(lines, (b"00", b"01"), (b"State", b"State -- Urban"), strict=True):
            self._put(line[None, :], "GEOCOMP", component)
            self._put(line[None, :], "NAME", name)
        self._put_counts(lines, np.array([population, population]))
        return lines.tobytes()

    def county_lines(self, records: Records, rows: IntArray) -> bytes:
        """Return some of a county's records."""
        geoid, level = records.geoid[rows], records.level[rows]
        lines = np.tile(self.blank, (len(geoid), 1))
        self._put(lines, "GEOCOMP", b"00")
        self._put(lines, "COUNTY", records.code.encode())
        self._put_number(lines, "LOGRECNO", records.logrecno[rows])
        self._put_counts(lines, records.population[rows])
        names = {0: self._names(records.name), 1: self._tract_names, 2: self._block_names}
        for which, name in names.items():
            chosen = np.flatnonzero(level == which)
            part = lines[chosen]
            self._put(part, "SUMLEV", self.levels[which])
            if which >= 1:
                self._put_number(part, "TRACT", geoid[chosen] // BLOCKS_PER_TRACT % 10**6)
            if which == 2:
                self._put_number(part, "BLKGRP", geoid[chosen] // 1000 % 10)
                self._put_number(part, "BLOCK", geoid[chosen] % BLOCKS_PER_TRACT)
            name(part, geoid[chosen])
            lines[chosen] = part
        return lines.tobytes()

    def _names(self, name: str) -> Callable[[TextArray, IntArray], None]:
        return lambda lines, _: self._put(lines, "NAME", name.encode("latin-1"))

    def _tract_names(self, lines: TextArray, geoid: IntArray) -> None:
        for i, code in enumerate((geoid // BLOCKS_PER_TRACT % 10**6).tolist()):
            self._put(lines[i : i + 1], "NAME", _tract_name(code).encode())

    def _block_names(self, lines: TextArray, geoid: IntArray) -> None:
        self._put(lines, "NAME", b"Block ")
        start = self.fields["NAME"].start + len("Block ")
        lines[:, start : start + 4] = fixed_digits(geoid % BLOCKS_PER_TRACT, 4)
