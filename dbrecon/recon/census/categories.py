"""The categories of people that a product knows, where these are not a sex, a set of six races and an origin: ``[categories]``.

    [categories]
    origin = false
    [categories.race]
    "White" = ["white"]
    "Asian or Pacific" = ["asian", "nhopi", "asian+nhopi"]
    "Other or several" = "all others"

One kind of person stands for all of a category: the sets of a group are one to the program, and certainty tells of groups.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dbrecon.errors import InputError
from dbrecon.recon.census.kinds import N_AGES, N_RACE_SETS, N_RH, RACE_BITS, RACE_SETS_IN_ORDER, RACES, IntArray

BoolArray = npt.NDArray[np.bool_]
Groups = Mapping[str, BoolArray]

REST = "all others"
_NAME = re.compile(r"[^\W_][\w ()/&'.-]{0,59}")
_WORDS = ("not told", REST)


@dataclass(frozen=True, eq=False)
class Categories:
    """``sex``, ``origin``: whether there are two. ``groups``: the race sets (63,) of each group, by its name, in the file's order;
    none where each set is a category of its own."""

    sex: bool = True
    origin: bool = True
    groups: Groups = field(default_factory=dict)

    @property
    def every_kind(self) -> bool:
        """Whether each kind of person is a category of its own."""
        return self.sex and self.origin and not self.groups

    @cached_property
    def sexes(self) -> BoolArray:
        """(2,) the sexes that stand for all."""
        return np.array([True, self.sex])

    @cached_property
    def race_and_origin(self) -> BoolArray:
        """(126,) the pairs of a race set and an origin that stand for all: of each group its first set."""
        sets = np.ones(N_RACE_SETS, bool)
        if self.groups:
            sets = np.zeros(N_RACE_SETS, bool)
            sets[[int(np.argmax(members)) for members in self.groups.values()]] = True
        return np.outer(sets, [True, self.origin]).ravel()

    def standing_for(self, kind: IntArray) -> IntArray:
        """Return the kind of person that stands for each kind (0..25955)."""
        if self.every_kind:
            return kind
        sa, rh = np.divmod(kind, N_RH)
        standing: IntArray = (sa if self.sex else sa % N_AGES) * N_RH + self._standing[rh]
        return standing

    @cached_property
    def _standing(self) -> IntArray:
        """(126,) the pair of a race set and an origin that stands for each."""
        sets = np.arange(N_RACE_SETS)
        for members in self.groups.values():
            sets[members] = np.argmax(members)
        pairs: IntArray = sets.repeat(2) * 2 + np.tile([0, int(self.origin)], N_RACE_SETS)
        return pairs

    @property
    def words(self) -> str:
        """What people are compared by, in a report."""
        words = ["block", *(["sex"] if self.sex else []), "age", "race group" if self.groups else "race"]
        return ", ".join([*words, *(["Hispanic"] if self.origin else [])])

    @cached_property
    def group_of(self) -> tuple[str, ...]:
        """The group of each of the 126 pairs; empty where there are none."""
        if not self.groups:
            return ()
        return tuple(next(name for name, sets in self.groups.items() if sets[rh // 2]) for rh in range(N_RH))

    def cut_by(self, sex: BoolArray, race: BoolArray, hisp: BoolArray) -> str:
        """Return the category of which a box of people has a part only; empty if there is none."""
        for divided, mask, name in ((self.sex, sex, "a sex"), (self.origin, hisp, "an origin")):
            if not divided and not mask.all():
                return name
        for name, sets in self.groups.items():
            if (race & sets).any() and not race[sets].all():
                return f"a part of the race group {name!r}"
        return ""


EVERY_KIND = Categories()


def read_categories(spec: Any, where: str) -> Categories:
    """Return what ``[categories]`` says. Raises InputError, beginning with ``where``, for what is not known, and unless each set
    of races is in one group."""
    where = f"{where}: [categories]"
    if not isinstance(spec, Mapping) or not set(spec) <= {"sex", "origin", "race"}:
        raise InputError(f"{where} may have sex = false, origin = false, and race: groups, each with its sets of races")
    for key in ("sex", "origin"):
        if not isinstance(spec.get(key, True), bool):
            raise InputError(f"{where} {key} is {spec[key]!r}, but must be true or false: whether the tables know one")
    groups = _groups(spec["race"], f"{where[:-1]}.race]") if "race" in spec else {}
    return Categories(spec.get("sex", True), spec.get("origin", True), groups)


def _groups(entries: Any, where: str) -> Groups:
    if not isinstance(entries, Mapping) or len(entries) < 2:
        raise InputError(f"{where} must have two groups or more, each a name with its sets of races")
    groups = {name: np.zeros(N_RACE_SETS, bool) for name in entries}
    taken = np.zeros(N_RACE_SETS, bool)
    for name, sets in entries.items():
        if not _NAME.fullmatch(name) or name in _WORDS:
            raise InputError(
                f"{where}: {name!r} cannot be a group's name: it begins with a letter or a digit, and has no commas or quotes"
            )
        if sets != REST:
            groups[name] = _members(sets, taken, f"{where}: {name}")
            taken |= groups[name]
    rest = [name for name, sets in entries.items() if sets == REST]
    if len(rest) > 1:
        raise InputError(f"{where}: {rest[0]} and {rest[1]} are both {REST!r}; let one of them name its sets")
    if rest and taken.all():
        raise InputError(f"{where}: no set of races is left for {rest[0]}; the other groups have them all")
    if not rest and not taken.all():
        raise InputError(f"{where}: {_set_text(~taken)} is in no group; let one group be {REST!r}")
    return groups | dict.fromkeys(rest, ~taken)


def _members(sets: Any, taken: BoolArray, where: str) -> BoolArray:
    if not isinstance(sets, list) or not sets:
        raise InputError(f'{where} is {sets!r}, but must be a list of sets of races, as ["asian", "asian+nhopi"], or {REST!r}')
    members = np.zeros(N_RACE_SETS, bool)
    for text in sets:
        races = text.split("+") if isinstance(text, str) else []
        if not races or not set(races) <= set(RACES) or len(set(races)) < len(races):
            raise InputError(f"{where}: {text!r} is no set of races; take some of {', '.join(RACES)}, joined by +")
        code = sum(RACE_BITS[race] for race in races)
        if taken[code - 1] or members[code - 1]:
            raise InputError(f"{where}: {text} is in a group already; each set of races is in one")
        members[code - 1] = True
    return members


def _set_text(sets: BoolArray) -> str:
    """Return the first of some sets of races, as it is written."""
    code = next(code for code in RACE_SETS_IN_ORDER if sets[code - 1])
    return "+".join(race for race in RACES if code & RACE_BITS[race])
