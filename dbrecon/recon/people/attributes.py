"""Which attributes of people a product's tables tell, and what a people's file says where they tell nothing.

Sex and age are not told where no cell selects by them. Race sets and origins that no cell tells apart are one class: a flag in
which the members of a class differ is not told of its people, unless two classes would be written alike: then their first members
stand for them. All members of a class make the same cells, so that a file's people are read as the first of them, and reproduce the
tables. A product that names groups of races has each person's in a last column.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dbrecon.recon.census.categories import Categories
from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, N_KINDS, N_RH, RACES, SEXES, IntArray, split_kind
from dbrecon.recon.census.tables import Product

NOT_TOLD = "not told"
RACE_GROUP = "race_group"
"""The last column of people's files, where a product names groups of races."""


@dataclass(frozen=True)
class Attributes:
    """What a product's tables tell of people. ``kind`` (25956,): the first of each kind's class; ``flags`` (126,): the columns of
    races and origin, as text, of each pair of a race set and an origin; ``groups`` (126,): the group of each, if there
    are any."""

    sex: bool
    age: bool
    kind: IntArray
    flags: tuple[str, ...]
    groups: tuple[str, ...] = ()

    def columns(self, kind: int) -> str:
        """Return the columns after the block, with commas, of people of a kind."""
        sa, rh = divmod(kind, N_RH)
        sex, age = divmod(sa, N_AGES)
        return f"{SEXES[sex] if self.sex else NOT_TOLD},{FIRST_AGES[age] if self.age else NOT_TOLD},{self.flags[rh]}"

    def line(self, kind: int) -> str:
        """Return what a line of people of a kind has after the block."""
        return f"{self.columns(kind)},{self.groups[kind % N_RH]}" if self.groups else self.columns(kind)

    def kind_of_line(self, text: str) -> int:
        """Return the inverse of :meth:`line`. Raises KeyError."""
        return self.kind_of[text.rpartition(",")[0] if self.groups else text]

    @cached_property
    def kind_of(self) -> dict[str, int]:
        """The kind that stands for people with these columns."""
        return {self.columns(kind): kind for kind in np.unique(self.kind).tolist()}


def attributes_of(product: Product) -> Attributes | None:
    """Return what the product's tables tell; None where they tell everything but single years."""
    boxes = [cell.box for table in product.tables for cell in table.cells]
    sex, age = (any(not getattr(box, name).all() for box in boxes) for name in ("sex", "age"))
    distinct = {(box.race.tobytes(), box.hisp.tobytes()): box for box in boxes}
    selects = np.array([np.outer(box.race, box.hisp).ravel() for box in distinct.values()])
    _, first, of_rh = np.unique(selects, axis=1, return_index=True, return_inverse=True)
    if sex and age and len(first) == N_RH and not product.categories.groups:
        return None
    rh = np.arange(N_RH)
    bits = np.concatenate([(rh // 2 + 1)[:, None] >> np.arange(len(RACES) - 1, -1, -1) & 1, (rh % 2)[:, None]], axis=1)
    flags = _distinct_flags([bits[of_rh.ravel() == number] for number in range(len(first))])
    of_sex, of_age, race, hisp = split_kind(np.arange(N_KINDS))
    of_class = first[of_rh.ravel()[(race - 1) * 2 + hisp]]
    kind = ((of_sex if sex else 0 * of_sex) * N_AGES + (of_age if age else 0 * of_age)) * N_RH + of_class
    members = of_rh.ravel().tolist()
    return Attributes(sex, age, kind, tuple(flags[number] for number in members), _groups(product.categories, members))


def _groups(categories: Categories, members: Sequence[int]) -> tuple[str, ...]:
    """Return the group of each pair of a race set and an origin whose class is ``members``: none told where a class has several."""
    own = categories.group_of
    if not own:
        return ()
    of_class: dict[int, set[str]] = {}
    for name, number in zip(own, members, strict=True):
        of_class.setdefault(number, set()).add(name)
    return tuple(name if len(of_class[number]) == 1 else NOT_TOLD for name, number in zip(own, members, strict=True))


def _distinct_flags(classes: Sequence[IntArray]) -> list[str]:
    """Return the columns of each class: where several would be alike (one race or more, whichever), its first member's."""
    texts = [_flags(bits) for bits in classes]
    return [text if texts.count(text) == 1 else _flags(bits[:1]) for text, bits in zip(texts, classes, strict=True)]


def _flags(bits: IntArray) -> str:
    """Return the columns of a class whose members have these flags, (members, 7)."""
    same = (bits == bits[0]).all(axis=0)
    return ",".join("NY"[bit] if known else NOT_TOLD for bit, known in zip(bits[0].tolist(), same.tolist(), strict=True))
