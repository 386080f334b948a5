"""Variables' names in LP and solution files: the one encoder and decoder of them.

A name says whom the variable counts. ``M1018_045_049r32N``:

    M or F      sex
    1018        block, the last four digits of its id
    045_049     the age category, or the first and the last of an interval of them (100: 100 to 104; 110: 110 and over)
    32          set of races, 01 to 63 (see :mod:`dbrecon.recon.census.kinds`)
    H or N      Hispanic or Latino, or not

A single age category stands alone: ``M1018_045r32N``. The predecessor's spelling, of variables that are 0 or 1, is read too:
``C_{block}_{sex}_{first age of the P12 group}_{person}_{sex}_{age}_{white}_{black}_{aian}_{asian}_{nhopi}_{sor}_{hisp}``.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, RACES, IntArray, age_category, join_kind, split_kind
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, OLDEST, digits

DUMMIES = ("__dummy", "__nobody")
"""Variables that count nobody: the predecessor's objective, and what stands in our LP text where no variable is left."""

SINGLE_WIDTH, RANGE_WIDTH = 13, 17
"""Characters of a name of one age category, and of an interval's."""

_OLD_NAME = re.compile(rf"C_(\d{{15}})_(male|female)_\d+(?:\.\d+)?_\d+_(male|female)_(\d{{1,3}}){'_([YN])' * 7}", re.ASCII)

# Category of each first age 0..999 as written in a name, -1 where it's not the first of one.
_CATEGORY_OF_FIRST_AGE = np.full(1000, -1, np.int64)
_CATEGORY_OF_FIRST_AGE[FIRST_AGES] = np.arange(N_AGES)

Bytes = npt.NDArray[np.uint8]


def variable_names(block: IntArray, kind: IntArray, last: IntArray | None = None) -> npt.NDArray[np.bytes_]:
    """Return (n,) S13, or S17 where there are intervals: the name of the variable that counts the people of ``kind`` in ``block``.

    ``block`` is a block's number within its tract (0..9999) or its whole id; ``kind`` is 0..25955; ``last`` is the last age
    category of those that are counted together, beginning with the kind's; None: of each the kind's alone.
    """
    sex, age, race, hisp = split_kind(kind)
    ranged = np.zeros(len(kind), bool) if last is None else last > age
    width = RANGE_WIDTH if ranged.any() else SINGLE_WIDTH
    text = np.zeros((len(kind), width), np.uint8)
    text[:, 0] = np.where(sex == 0, ord("M"), ord("F"))
    text[:, 1:5] = digits(block % BLOCKS_PER_TRACT, 4)
    text[:, 5] = ord("_")
    text[:, 6:9] = digits(FIRST_AGES[age], 3)
    tail = np.empty((len(kind), 4), np.uint8)
    tail[:, 0] = ord("r")
    tail[:, 1:3] = digits(race, 2)
    tail[:, 3] = np.where(hisp == 1, ord("H"), ord("N"))
    text[:, 9:13] = tail
    if last is not None and width == RANGE_WIDTH:
        text[ranged, 9] = ord("_")
        text[ranged, 10:13] = digits(FIRST_AGES[last[ranged]], 3)
        text[ranged, 13:17] = tail[ranged]
    return text.view(f"S{width}").ravel()


def decode(text: Bytes) -> tuple[IntArray, IntArray, IntArray, npt.NDArray[np.bool_]]:
    """Return (block number, kind, last age category, whether the name is right) of our names, given as (n, 13) or (n, 17) ASCII."""
    tail = text.shape[1] - 4
    value = text.astype(np.int64) - ord("0")
    good = (text[:, 5] == ord("_")) & (text[:, tail] == ord("r"))
    good &= np.isin(text[:, 0], [ord("M"), ord("F")]) & np.isin(text[:, -1], [ord("H"), ord("N")])
    numeric = value[:, [1, 2, 3, 4, 6, 7, 8, *range(10, tail), tail + 1, tail + 2]]
    good &= ((numeric >= 0) & (numeric <= 9)).all(axis=1)

    def category(first: int) -> IntArray:
        return _CATEGORY_OF_FIRST_AGE[np.where(good, value[:, first : first + 3] @ np.array([100, 10, 1]), 0)]

    age = last = category(6)
    if text.shape[1] == RANGE_WIDTH:
        last = category(10)
        good &= (text[:, 9] == ord("_")) & (last > age)
    race = value[:, tail + 1] * 10 + value[:, tail + 2]
    good &= (age >= 0) & (race >= 1) & (race <= 63)
    sex, hisp = (text[:, 0] == ord("F")).astype(np.int64), (text[:, -1] == ord("H")).astype(np.int64)
    return value[:, 1:5] @ np.array([1000, 100, 10, 1]), join_kind(sex, age, race, hisp), last, good


def decode_names(names: Sequence[str], tract: str | None, source: str, about: Subject) -> tuple[IntArray, IntArray, IntArray]:
    """Return (block ids, kinds, last age categories) of variables named in either spelling; all are -1 for one of ``DUMMIES``.

    ``tract`` (11 digits) completes our names, which hold the block alone; None will do for the predecessor's. ``source`` is what
    errors call the place the names come from, ``about`` what kind of file that is. Raises InputError for a name that is neither.
    """
    block, kind, last = (np.full(len(names), -1, np.int64) for _ in range(3))
    rest = np.ones(len(names), bool)
    lengths = np.array([len(name) for name in names], np.int64)
    for width in (SINGLE_WIDTH, RANGE_WIDTH):
        ours = np.flatnonzero(lengths == width)
        ours = ours[[names[i][0] in "MF" and names[i].isascii() for i in ours.tolist()]] if len(ours) else ours
        text = np.frombuffer("".join(names[i] for i in ours.tolist()).encode("ascii"), np.uint8).reshape(-1, width)
        number, kind[ours], last[ours], good = decode(text)
        if not good.all():
            raise InputError(f"{source}: the variable {names[int(ours[np.argmin(good)])]!r} names nobody", about=about)
        if len(ours):
            block[ours] = number + first_block_of(tract, source, "\\ Reconstruction of census tract ")
        rest[ours] = False
    for i in np.flatnonzero(rest).tolist():
        if names[i] not in DUMMIES:
            found = decode_old(names[i])
            if found is None:
                raise InputError(f"{source}: the variable {names[i][:80]!r} names nobody", about=about)
            block[i], kind[i] = found
            last[i] = split_kind(kind[i])[1]
    return block, kind, last


def is_variable(name: str) -> bool:
    """Return whether a name is one of ours or of the predecessor's."""
    if len(name) in (SINGLE_WIDTH, RANGE_WIDTH) and name.isascii():
        return bool(decode(np.frombuffer(name.encode("ascii"), np.uint8).reshape(1, -1))[3].all()) or decode_old(name) is not None
    return decode_old(name) is not None


def first_block_of(tract: str | None, source: str, first_line: str) -> int:
    """Return the id of the tract's block 0000, as a number. InputError if the tract is not known, which ``first_line`` says."""
    if tract is None:
        raise InputError(f"{source}: does not say which tract it is of; its first line must be '{first_line}SSCCCTTTTTT'.")
    return int(tract) * BLOCKS_PER_TRACT


def decode_old(name: str) -> tuple[int, int] | None:
    """Return (block id, kind) of a predecessor's name; None if it isn't one."""
    match = _OLD_NAME.fullmatch(name)
    if match is None:
        return None
    block, sex_of_group, sex, age, *flags = match.groups()
    race = int("".join("01"[flag == "Y"] for flag in flags[: len(RACES)]), 2)
    if sex != sex_of_group or race == 0 or int(age) > OLDEST:
        return None
    category = age_category(np.array([int(age)]))
    unit = np.array([1])
    kind = join_kind(unit * (sex == "female"), category, unit * race, unit * (flags[-1] == "Y"))
    return int(block), int(kind[0])
