"""Solutions of tracts as files.

A file is text in the form of Gurobi's .sol: comment lines that begin with ``#``, then lines ``name value``; names are those of
:mod:`dbrecon.recon.people.variable_names`. The tract is in the first comment, ``# Solution of tract SSCCCTTTTTT``; only
non-zero variables are listed. What Gurobi writes of our LP files is read too (all variables, no tract), and the predecessor's
names, with the values 0 and 1.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.kinds import IntArray, split_kind
from dbrecon.recon.people.people import BinnedPeople, digits
from dbrecon.recon.people.variable_names import (
    DUMMIES,
    RANGE_WIDTH,
    SINGLE_WIDTH,
    decode,
    decode_old,
    first_block_of,
    variable_names,
)

TOLERANCE = 1e-6
"""How far from a whole number a solver's value may be (Gurobi's default IntFeasTol is 1e-5, but it prints rounded values)."""

_TITLE = re.compile(rb"# Solution of tract ([0-9]{11})\s*")
_COMMENT = re.compile(rb"# (\w+) = (.*)")
_MOST_PEOPLE = 1e9
_WIDEST_VALUE = 40


@dataclass(frozen=True)
class Solution:
    """A tract's people as its solution file tells them. ``tract`` is the 11-digit id; ``notes`` are the ``# key = value`` lines."""

    tract: str
    people: BinnedPeople
    notes: Mapping[str, str]

    @property
    def seed(self) -> int:
        """The seed that its years are to be given out by; 0 where it does not say."""
        text = self.notes.get("seed", "")
        return int(text) if text.isdecimal() and len(text) < 19 else 0


def format_solution(tract: str, people: BinnedPeople, notes: Mapping[str, str] | None = None) -> bytes:
    """Return a solution's text. The variables come in the order given, those that are 0 are left out.

    ``tract`` is the 11-digit id; blocks are ids or numbers within the tract; ``notes`` become lines ``# key = value``. ValueError
    for a negative count or a tract that is none: a caller's mistake.
    """
    if not re.fullmatch(r"[0-9]{11}", tract) or (people.count < 0).any():
        raise ValueError(f"not a solution: tract {tract!r}, smallest count {people.count.min(initial=0)}")
    head = f"# Solution of tract {tract}\n" + "".join(f"# {key} = {value}\n" for key, value in (notes or {}).items())
    people = people.select(people.count > 0)
    names, values = variable_names(people.geoid_block, people.kind, people.last), people.count
    name_width, width = names.dtype.itemsize, len(str(values.max(initial=0)))
    text = np.full((len(values), name_width + width + 2), ord("\n"), np.uint8)
    text[:, :name_width] = names.view(np.uint8).reshape(-1, name_width)
    text[:, name_width] = ord(" ")
    text[:, name_width + 1 : -1] = digits(values, width)
    kept = text != 0
    kept[:, name_width + 1 : -1] = values[:, None] >= 10 ** np.arange(width - 1, -1, -1)
    return head.encode() + bytes(text[kept].tobytes())


def format_named_solution(tract: str, names: Sequence[str], values: IntArray, notes: Mapping[str, str]) -> bytes:
    """Return a solution's text in the names of a program that was read from a file. Variables that are 0 are left out."""
    head = f"# Solution of tract {tract}\n" + "".join(f"# {key} = {value}\n" for key, value in notes.items())
    return (head + "".join(f"{names[i]} {values[i]}\n" for i in np.flatnonzero(values).tolist())).encode()


@dataclass(frozen=True)
class _Lines:
    """Where the lines ``name value`` of a text lie: offsets of name, separator and end, and their numbers (from 1)."""

    text: bytes
    source: str
    start: IntArray
    separator: IntArray
    end: IntArray
    number: IntArray

    def fail(self, i: int, what: str) -> NoReturn:
        line = self.text[self.start[i] : self.end[i]][:80].decode("latin-1")
        raise InputError(f"{self.source}, line {self.number[i]}: {what}: {line!r}", about=Subject.SOLUTION)

    def name(self, i: int) -> str:
        return self.text[self.start[i] : self.separator[i]].decode("latin-1")

    def gather(self, start: IntArray, width: int) -> npt.NDArray[np.uint8]:
        """Return (lines, width) bytes from ``start`` on. The caller sees to it that they lie in the text."""
        digits: npt.NDArray[np.uint8] = np.frombuffer(self.text, np.uint8)[start[:, None] + np.arange(width)]
        return digits


def parse_solution(text: bytes, source: str, tract: str | None = None) -> Solution:
    """Read a solution file of either spelling. ``source`` is what errors call it; ``tract`` (11 digits) the one it should be of.

    The names of variables whose value is 0 are not looked at. Raises InputError, with file and line, for a line that is not
    ``name value``, a name that is no person's, a value that is negative or not whole within 1e-6, a variable that comes twice, a
    last line without an end (the file was cut off), and people of another tract.
    """
    lines, notes, titled = _split(text, source)
    if tract is not None and titled is not None and titled != tract:
        raise InputError(f"{source}: is the solution of tract {titled}, not of {tract}", about=Subject.SOLUTION)
    values = _values(lines)
    people = _people_of(lines, values, titled or tract)
    tract = titled or tract or (f"{people.geoid_tract[0]:011d}" if len(people.kind) else None)
    if tract is None:
        raise InputError(f"{source}: has neither a tract nor people", about=Subject.SOLUTION)
    stray = people.geoid_tract != int(tract)
    if stray.any():
        where = int(people.geoid_block[np.argmax(stray)])
        raise InputError(f"{source}: puts people in block {where:015d}, which is not in tract {tract}", about=Subject.SOLUTION)
    return Solution(tract, people.merged(), notes)


def _split(text: bytes, source: str) -> tuple[_Lines, dict[str, str], str | None]:
    """Return the lines ``name value``, the notes in the comments, and the tract that they tell."""
    if not text.endswith(b"\n"):
        state = "is cut off in its last line" if text else "is empty"
        raise InputError(f"{source}: the solution {state}", about=Subject.SOLUTION)
    data = np.frombuffer(text, np.uint8)
    end = np.flatnonzero(data == ord("\n"))
    start = np.concatenate([[0], end[:-1] + 1])
    end = end - ((end > start) & (data[end - 1] == ord("\r")))
    comment = data[start] == ord("#")
    notes: dict[str, str] = {}
    tract = None
    for i in np.flatnonzero(comment):
        line = text[start[i] : end[i]]
        if title := _TITLE.fullmatch(line):
            tract = title.group(1).decode()
        elif note := _COMMENT.fullmatch(line):
            notes[note.group(1).decode()] = note.group(2).decode("utf-8", "replace")
    kept = np.flatnonzero(~comment & (end > start))
    start, end = start[kept], end[kept]
    spaces = np.append(np.flatnonzero(data == ord(" ")), len(text))
    separator = spaces[np.searchsorted(spaces, start)]
    lines = _Lines(text, source, start, separator, end, kept + 1)
    broken = (separator >= end) | (separator == start)
    if broken.any():
        lines.fail(int(np.argmax(broken)), "is not a variable's name and its value")
    return lines, notes, tract


def _values(lines: _Lines) -> IntArray:
    """Return the whole numbers that the lines give."""
    width = lines.end - lines.separator - 1
    if (width > _WIDEST_VALUE).any():
        lines.fail(int(np.argmax(width > _WIDEST_VALUE)), "does not end in a number")
    values = np.zeros(len(width), np.int64)
    plain = (width > 0) & (width <= 9)  # of digits alone, as nearly always
    data = np.frombuffer(lines.text, np.uint8)
    for place in range(int(width[plain].max(initial=0))):
        here = plain & (place < width)
        digit = data[np.where(here, lines.separator + 1 + place, 0)].astype(np.int64) - ord("0")
        plain &= ~here | ((digit >= 0) & (digit <= 9))
        values = np.where(here, values * 10 + digit, values)
    for i in np.flatnonzero(~plain):
        values[i] = _whole(lines, int(i))
    return values


def _whole(lines: _Lines, i: int) -> int:
    text = lines.text[lines.separator[i] + 1 : lines.end[i]]
    if not re.fullmatch(rb"[ \t]*[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?[ \t]*", text) or not re.search(rb"[0-9]", text):
        lines.fail(i, "does not end in a number")
    value = float(text)
    if value < -TOLERANCE:
        lines.fail(i, "counts fewer than no people")
    if value > _MOST_PEOPLE:
        lines.fail(i, "counts more people than there are")
    if abs(value - round(value)) > TOLERANCE:
        lines.fail(i, "does not count whole people")
    return round(value)


def _people_of(lines: _Lines, values: IntArray, tract: str | None) -> BinnedPeople:
    """Return the people that the lines count, but for those that count nobody."""
    chosen = np.flatnonzero(values)
    first = lines.gather(lines.start[chosen], 1)[:, 0]
    length = lines.separator[chosen] - lines.start[chosen]
    sexed = np.isin(first, [ord("M"), ord("F")])
    block, kind, last = (np.full(len(chosen), -1, np.int64) for _ in range(3))
    rest = np.ones(len(chosen), bool)
    for width in (SINGLE_WIDTH, RANGE_WIDTH):
        ours = np.flatnonzero((length == width) & sexed)
        number, kind[ours], last[ours], good = decode(lines.gather(lines.start[chosen[ours]], width))
        if not good.all():
            lines.fail(int(chosen[ours[np.argmin(good)]]), "names nobody")
        if len(ours):
            block[ours] = number + first_block_of(tract, lines.source, "# Solution of tract ")
        rest[ours] = False
    _refuse_twice(lines, chosen, BinnedPeople(block, kind, last, values[chosen]), ~rest)
    _decode_others(lines, chosen, np.flatnonzero(rest), block, kind)
    last[rest] = split_kind(kind[rest])[1]
    somebody = kind >= 0
    return BinnedPeople(block, kind, last, values[chosen]).select(somebody)


def _refuse_twice(lines: _Lines, chosen: IntArray, people: BinnedPeople, ours: npt.NDArray[np.bool_]) -> None:
    """Raise InputError if one of our names comes twice."""
    order = people.select(ours).order()
    names = np.flatnonzero(ours)[order]
    same = np.ones(max(0, len(names) - 1), bool)
    for values in (people.geoid_block, people.kind, people.last):
        same &= values[names[1:]] == values[names[:-1]]
    if same.any():
        lines.fail(int(chosen[names[1:][same]].max()), "gives a variable a second time")


def _decode_others(lines: _Lines, chosen: IntArray, others: IntArray, block: IntArray, kind: IntArray) -> None:
    """Enter the predecessor's variables; those that count nobody stay -1."""
    seen: set[str] = set()
    for i in others.tolist():
        name = lines.name(int(chosen[i]))
        found = (-1, -1) if name in DUMMIES else decode_old(name)
        if found is None:
            lines.fail(int(chosen[i]), "names nobody")
        if name in seen:
            lines.fail(int(chosen[i]), "gives a variable a second time")
        seen.add(name)
        block[i], kind[i] = found
