"""Solutions of tracts as files, and the one decoder of variables' names.

A file is text in the form of Gurobi's .sol: comment lines that begin with ``#``, then lines ``name value``. Our names say
whom a variable counts in 13 characters, ``M1018_045r32N``:

    M or F      sex
    1018        block, the last four digits of its id
    045         first age of the age category
    32          set of races, 01 to 63 (see :mod:`dbrecon.recon.census.kinds`)
    H or N      Hispanic or Latino, or not

The tract is in the first comment, ``# Solution of tract SSCCCTTTTTT``; only non-zero variables are listed. What Gurobi writes
of our LP files is read too (all variables, no tract), and the predecessor's spelling, with the values 0 and 1:
``C_{block}_{sex}_{first age of the P12 group}_{person}_{sex}_{age}_{white}_{black}_{aian}_{asian}_{nhopi}_{sor}_{hisp}``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from dbrecon.errors import InputError
from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, N_KINDS, RACES, IntArray, age_category, join_kind, split_kind
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, OLDEST, People, digits

DUMMIES = ("__dummy", "__nobody")
"""Variables that count nobody: the predecessor's objective, and what stands in our LP text where no variable is left."""

TOLERANCE = 1e-6
"""How far from a whole number a solver's value may be (Gurobi's default IntFeasTol is 1e-5, but it prints rounded values)."""

NAME_WIDTH = 13
REMEDY = "make the solution again (--step4 --force)"

_TITLE = re.compile(rb"# Solution of tract ([0-9]{11})\s*")
_COMMENT = re.compile(rb"# (\w+) = (.*)")
_OLD_NAME = re.compile(rf"C_(\d{{15}})_(male|female)_\d+(?:\.\d+)?_\d+_(male|female)_(\d{{1,3}}){'_([YN])' * 7}", re.ASCII)
_MOST_PEOPLE = 1e9
_WIDEST_VALUE = 40

# Category of each first age 0..999 as written in a name, -1 where it's not the first of one.
_CATEGORY_OF_FIRST_AGE = np.full(1000, -1, np.int64)
_CATEGORY_OF_FIRST_AGE[FIRST_AGES] = np.arange(N_AGES)


@dataclass(frozen=True)
class Solution:
    """A tract's people as its solution file tells them. ``tract`` is the 11-digit id; ``notes`` are the ``# key = value`` lines."""

    tract: str
    people: People
    notes: Mapping[str, str]


def variable_names(block: IntArray, kind: IntArray) -> npt.NDArray[np.bytes_]:
    """(n,) S13: the name of the variable that counts the people of ``kind`` in ``block``.

    ``block`` is a block's number within its tract (0..9999) or its whole id; ``kind`` is 0..25955.
    """
    sex, age, race, hisp = split_kind(kind)
    text = np.empty((len(kind), NAME_WIDTH), np.uint8)
    text[:, 0] = np.where(sex == 0, ord("M"), ord("F"))
    text[:, 1:5] = digits(block % BLOCKS_PER_TRACT, 4)
    text[:, 5] = ord("_")
    text[:, 6:9] = digits(FIRST_AGES[age], 3)
    text[:, 9] = ord("r")
    text[:, 10:12] = digits(race, 2)
    text[:, 12] = np.where(hisp == 1, ord("H"), ord("N"))
    return text.view(f"S{NAME_WIDTH}").ravel()


def format_solution(tract: str, block: IntArray, kind: IntArray, count: IntArray, notes: Mapping[str, str] | None = None) -> bytes:
    """A solution's text. The variables come in the order given, those that are 0 are left out.

    ``tract`` is the 11-digit id; ``block``, ``kind`` as in :func:`variable_names`; ``count`` >= 0; ``notes`` become lines
    ``# key = value``. ValueError for a negative count or a tract that is none: a caller's mistake.
    """
    if not re.fullmatch(r"[0-9]{11}", tract) or (count < 0).any():
        raise ValueError(f"not a solution: tract {tract!r}, smallest count {count.min(initial=0)}")
    head = f"# Solution of tract {tract}\n" + "".join(f"# {key} = {value}\n" for key, value in (notes or {}).items())
    some = count > 0
    names, values = variable_names(block[some], kind[some]), count[some]
    width = len(str(values.max(initial=0)))
    text = np.full((len(values), NAME_WIDTH + width + 2), ord("\n"), np.uint8)
    text[:, :NAME_WIDTH] = names.view(np.uint8).reshape(-1, NAME_WIDTH)
    text[:, NAME_WIDTH] = ord(" ")
    text[:, NAME_WIDTH + 1 : -1] = digits(values, width)
    kept = np.ones(text.shape, bool)
    kept[:, NAME_WIDTH + 1 : -1] = values[:, None] >= 10 ** np.arange(width - 1, -1, -1)
    return head.encode() + text[kept].tobytes()


def format_named_solution(tract: str, names: Sequence[str], values: IntArray, notes: Mapping[str, str]) -> bytes:
    """A solution's text in the names of a program that was read from a file. Variables that are 0 are left out."""
    head = f"# Solution of tract {tract}\n" + "".join(f"# {key} = {value}\n" for key, value in notes.items())
    return (head + "".join(f"{names[i]} {values[i]}\n" for i in np.flatnonzero(values).tolist())).encode()


def decode_names(names: Sequence[str], tract: str | None, source: str) -> tuple[IntArray, IntArray]:
    """(block ids, kinds) of variables named in either spelling; both are -1 for one of ``DUMMIES``.

    ``tract`` (11 digits) completes our names, which hold the block alone; None will do for the predecessor's. ``source`` is what
    errors call the place the names come from. Raises InputError for a name that is neither.
    """
    try:
        array = np.array(names, dtype=np.bytes_) if len(names) else np.empty(0, "S1")
    except UnicodeEncodeError as error:
        raise InputError(f"{source}: a variable's name has the character {error.object[error.start]!r}; {REMEDY}.") from error
    lengths = np.char.str_len(array)
    ours = (lengths == NAME_WIDTH) & (np.char.startswith(array, b"M") | np.char.startswith(array, b"F"))
    block, kind = np.full(len(array), -1, np.int64), np.full(len(array), -1, np.int64)
    text = np.ascontiguousarray(array[ours].astype(f"S{NAME_WIDTH}")).view(np.uint8).reshape(-1, NAME_WIDTH)
    number, kind[ours], good = _decode(text)
    if not good.all():
        bad = names[int(np.flatnonzero(ours)[np.argmin(good)])]
        raise InputError(f"{source}: the variable {bad} names nobody; {REMEDY}.")
    if ours.any():
        block[ours] = number + _blocks_of(tract, source)
    for i in np.flatnonzero(~ours).tolist():
        if names[i] not in DUMMIES:
            found = _decode_old(names[i])
            if found is None:
                raise InputError(f"{source}: the variable {names[i][:80]!r} names nobody; {REMEDY}.")
            block[i], kind[i] = found
    return block, kind


def _blocks_of(tract: str | None, source: str) -> int:
    """The id of the tract's block 0000, as a number."""
    if tract is None:
        raise InputError(f"{source}: does not say which tract it is of; its first line must be '# Solution of tract SSCCCTTTTTT'.")
    return int(tract) * BLOCKS_PER_TRACT


def _decode(text: npt.NDArray[np.uint8]) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_]]:
    """(block number, kind, whether the name is right) of our names, given as (n, 13) ASCII."""
    value = text.astype(np.int64) - ord("0")
    numeric = value[:, [1, 2, 3, 4, 6, 7, 8, 10, 11]]
    good = ((numeric >= 0) & (numeric <= 9)).all(axis=1)
    good &= (text[:, 5] == ord("_")) & (text[:, 9] == ord("r"))
    good &= np.isin(text[:, 0], [ord("M"), ord("F")]) & np.isin(text[:, 12], [ord("H"), ord("N")])
    block = value[:, 1:5] @ np.array([1000, 100, 10, 1])
    age = _CATEGORY_OF_FIRST_AGE[np.where(good, value[:, 6:9] @ np.array([100, 10, 1]), 0)]
    race = value[:, 10] * 10 + value[:, 11]
    good &= (age >= 0) & (race >= 1) & (race <= 63)
    sex, hisp = (text[:, 0] == ord("F")).astype(np.int64), (text[:, 12] == ord("H")).astype(np.int64)
    return block, join_kind(sex, age, race, hisp), good


def _decode_old(name: str) -> tuple[int, int] | None:
    """(block id, kind) of a predecessor's name; None if it isn't one."""
    match = _OLD_NAME.fullmatch(name)
    if match is None:
        return None
    block, sex_of_group, sex, age, *flags = match.groups()
    race = int("".join("01"[flag == "Y"] for flag in flags[: len(RACES)]), 2)
    if sex != sex_of_group or race == 0 or int(age) > OLDEST:
        return None
    category = age_category(np.array([int(age)]))
    one = np.array([1])
    kind = join_kind(one * (sex == "female"), category, one * race, one * (flags[-1] == "Y"))
    return int(block), int(kind[0])


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
        raise InputError(f"{self.source}, line {self.number[i]}: {what}: {line!r}; {REMEDY}.")

    def name(self, i: int) -> str:
        return self.text[self.start[i] : self.separator[i]].decode("latin-1")

    def gather(self, start: IntArray, width: int) -> npt.NDArray[np.uint8]:
        """(lines, width) bytes from ``start`` on. The caller sees to it that they lie in the text."""
        digits: npt.NDArray[np.uint8] = np.frombuffer(self.text, np.uint8)[start[:, None] + np.arange(width)]
        return digits


def parse_solution(text: bytes, source: str, tract: str | None = None) -> Solution:
    """Read a solution file of either spelling. ``source`` is what errors call it; ``tract`` (11 digits) the one it should be of.

    The names of variables whose value is 0 are not looked at. Raises InputError, with file and line, for a line that is not
    ``name value``, a name that is no person's, a value that is negative or not whole within 1e-6, a variable that comes twice, a
    last line without an end (the file was cut off), and people of another tract.
    """
    lines, notes, told = _split(text, source)
    if tract is not None and told is not None and told != tract:
        raise InputError(f"{source}: is the solution of tract {told}, not of {tract}; {REMEDY}.")
    values = _values(lines)
    chosen = np.flatnonzero(values)
    block, kind = _people_of(lines, chosen, told or tract)
    somebody = kind >= 0
    people = People(block[somebody], kind[somebody], values[chosen][somebody])
    tract = told or tract or (f"{people.geoid_tract[0]:011d}" if len(people.kind) else None)
    if tract is None:
        raise InputError(f"{source}: has neither a tract nor people; {REMEDY}.")
    stray = people.geoid_tract != int(tract)
    if stray.any():
        where = int(people.geoid_block[np.argmax(stray)])
        raise InputError(f"{source}: puts people in block {where:015d}, which is not in tract {tract}; {REMEDY}.")
    return Solution(tract, people.merged(), notes)


def _split(text: bytes, source: str) -> tuple[_Lines, dict[str, str], str | None]:
    """The lines ``name value``, the notes in the comments, and the tract that they tell."""
    if not text.endswith(b"\n"):
        state = "is cut off in its last line" if text else "is empty"
        raise InputError(f"{source}: the solution {state}; {REMEDY}.")
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
    """The whole numbers that the lines give."""
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


def _people_of(lines: _Lines, chosen: IntArray, tract: str | None) -> tuple[IntArray, IntArray]:
    """(block ids, kinds) of the lines ``chosen``."""
    first = lines.gather(lines.start[chosen], 1)[:, 0]
    length = lines.separator[chosen] - lines.start[chosen]
    ours = (length == NAME_WIDTH) & np.isin(first, [ord("M"), ord("F")])
    block, kind = np.full(len(chosen), -1, np.int64), np.full(len(chosen), -1, np.int64)
    number, kind[ours], good = _decode(lines.gather(lines.start[chosen[ours]], NAME_WIDTH))
    if not good.all():
        lines.fail(int(chosen[ours][np.argmin(good)]), "names nobody")
    if ours.any():
        block[ours] = number + _blocks_of(tract, lines.source)
    seen: set[str] = set()
    for i in np.flatnonzero(~ours):
        name = lines.name(int(chosen[i]))
        found = (-1, -1) if name in DUMMIES else _decode_old(name)
        if found is None:
            lines.fail(int(chosen[i]), "names nobody")
        if name in seen:
            lines.fail(int(chosen[i]), "gives a variable a second time")
        seen.add(name)
        block[i], kind[i] = found
    _, once, counts = np.unique(block[ours] * N_KINDS + kind[ours], return_inverse=True, return_counts=True)
    if (counts > 1).any():
        twice = chosen[ours][counts[once] > 1]
        lines.fail(int(twice[-1]), "gives a variable a second time")
    return block, kind
