"""Kinds of person: sex x age category x set of races x Hispanic origin, numbered.

    sex   0 male, 1 female
    age   0..102: single years 0..99, then 100-104, 105-109, 110 and over
    race  1..63: bits of white (32), black (16), aian (8), asian (4), nhopi (2), sor (1)
    hisp  0 not Hispanic, 1 Hispanic

A kind is two numbers: ``sa = sex * 103 + age`` (206 of them) and ``rh = (race - 1) * 2 + hisp`` (126), or one,
``kind = sa * 126 + rh`` (25,956).
"""

import itertools

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

SEXES = ("male", "female")
RACES = ("white", "black", "aian", "asian", "nhopi", "sor")
N_AGES = 103
N_RACE_SETS = 63
N_SA = 2 * N_AGES
N_RH = 2 * N_RACE_SETS
N_KINDS = N_SA * N_RH

FIRST_AGES = np.concatenate([np.arange(100), [100, 105, 110]])
"""First age of each of the 103 categories."""

RACE_BITS = {race: 1 << (len(RACES) - 1 - i) for i, race in enumerate(RACES)}

RACE_COUNT = np.array([bin(code).count("1") for code in range(N_RACE_SETS + 1)])
"""How many races each race set (index: its code, 0..63) has."""

RACE_SETS_IN_ORDER = tuple(
    sum(RACE_BITS[race] for race in combination)
    for size in range(1, len(RACES) + 1)
    for combination in itertools.combinations(RACES, size)
)
"""The 63 codes in the order in which tables print them: by number of races, then lexicographically."""


def age_category(ages: npt.NDArray[np.integer]) -> IntArray:
    """Return the category 0..102 of each age in years (0..110 and over)."""
    return np.searchsorted(FIRST_AGES, ages, side="right").astype(np.int64) - 1


def join_kind(sex: IntArray, age: IntArray, race: IntArray, hisp: IntArray) -> IntArray:
    """Return numbers of kinds, 0..25955. ``age`` is a category 0..102, ``race`` a code 1..63."""
    return ((sex * N_AGES + age) * N_RACE_SETS + (race - 1)) * 2 + hisp


def split_kind(kind: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Return the inverse of :func:`join_kind`: (sex, age category, race code, hisp)."""
    sa, rh = np.divmod(kind, N_RH)
    sex, age = np.divmod(sa, N_AGES)
    race, hisp = np.divmod(rh, 2)
    return sex, age, race + 1, hisp
