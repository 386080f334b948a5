"""Which tables there are: a product that comes with the program, a folder like one, or a table set of one's own.

One's own is a few :class:`Table` that say by what they divide people. It may be as small as a teacher's three tables of one block.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from dbrecon.errors import UsageError
from dbrecon.library import frames
from dbrecon.recon.census.kinds import FIRST_AGES, RACES, SEXES
from dbrecon.recon.census.subset import restricted
from dbrecon.recon.census.tables import Box, Product, load_product, product_of
from dbrecon.recon.product.release import load_release

OLDEST = 110  # the first age of the last category, 110 and over

Part = dict[str, Any]
DIVISIONS: dict[str, list[Part]] = {
    "sex": [{"sex": sex} for sex in SEXES],
    "hisp": [{"hisp": False}, {"hisp": True}],
    "race": [*({"race_alone": race} for race in RACES), {"races": [2, len(RACES)]}],
}
"""What ``by`` may name: both sexes; not Hispanic and Hispanic; each race alone, then two or more races."""


@dataclass(frozen=True)
class ages:  # noqa: N801 - reads as a word in by=("sex", ages(0, 18, 65))
    """Divide people by age groups that begin at these ages, ascending from 0: ``ages(0, 18, 65)`` is under 18, 18 to 64, 65 and
    over.

    Raises UsageError for ages that are not so, and one between 100 and 110 that is no category's (100, 105, 110).

    >>> dbrecon.ages(0, 18, 65)
    ages(starts=(0, 18, 65))
    """

    starts: tuple[int, ...]

    def __init__(self, *starts: int) -> None:
        known = set(FIRST_AGES.tolist())
        if not starts or starts[0] != 0 or list(starts) != sorted(set(starts)) or not set(starts) <= known:
            raise UsageError(f"ages{starts}: give the first age of each group, ascending from 0; above 100 only 105 and 110")
        object.__setattr__(self, "starts", starts)

    def parts(self) -> list[Part]:
        """Return the groups as selectors of a product's file."""
        ends = [*(start - 1 for start in self.starts[1:]), OLDEST]
        return [{"ages": [first, last]} for first, last in zip(self.starts, ends, strict=True)]


@dataclass(frozen=True)
class Table:
    """A table of counts: its name, and by what it divides the people of its universe, the coarsest first.

    ``by``: "sex", "hisp", "race" (see ``DIVISIONS``) and :class:`ages`, each at most once. Its cells are everyone, then each group
    followed by its own groups, as in census tables. ``universe`` selects whom it counts, such as ``{"race_alone": "black"}``,
    ``{"ages": [18, 110]}``, ``{"hisp": True}`` or ``{"sex": "female"}``. ``level``: of each "block", or of the "tract".

    >>> dbrecon.Table("OLD", by=["sex"], universe={"ages": [65, 110]}).by
    ['sex']
    """

    name: str
    by: Sequence[str | ages] = ()
    universe: Mapping[str, Any] = field(default_factory=dict)
    level: str = "block"

    def divisions(self) -> list[list[Part]]:
        """Return the parts of each division. Raises UsageError for one that is not known, or comes twice."""
        if isinstance(self.by, str | ages):
            raise UsageError(f"table {self.name}: by= is a list, as in by=[{self.by!r}]")
        found = []
        for division in self.by:
            if not isinstance(division, ages) and division not in DIVISIONS:
                raise UsageError(f"table {self.name}: cannot divide by {division!r}; take {', '.join(DIVISIONS)} or ages(0, ...)")
            found.append(division.parts() if isinstance(division, ages) else DIVISIONS[division])
        words = [division if isinstance(division, str) else "ages" for division in self.by]
        if len(set(words)) < len(words):
            raise UsageError(f"table {self.name}: divides by the same twice: {', '.join(words)}")
        return found


class TableSet:
    """A table set of one's own, under a name. The first block table must count everyone.

    ``product`` is what the rest of the library takes; so is the set itself. Raises UsageError for a table that cannot be,
    InputError for selectors that are not known.

    >>> small = dbrecon.TableSet("two tables", [dbrecon.Table("SEX", by=["sex"]), dbrecon.Table("ORIGIN", by=["hisp"])])
    >>> small.cells("pandas")["counts"].tolist()
    ['everyone', 'male', 'female', 'everyone', 'not Hispanic', 'Hispanic']
    """

    def __init__(self, name: str, tables: Sequence[Table]) -> None:
        """Take the tables in their order."""
        self.name = name
        self.tables = tuple(tables)
        for table in tables:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", str(table.name)):
                raise UsageError(
                    f"table set {name}: {table.name!r} cannot be a table's name: take a letter, then letters, digits and _"
                )
        blocks = [table for table in tables if table.level == "block"]
        if not blocks or blocks[0].universe:
            raise UsageError(f"table set {name}: the first block table must count everyone: give it no universe")
        if len({table.name for table in tables}) < len(self.tables):
            raise UsageError(f"table set {name}: two tables have the same name")

    def __repr__(self) -> str:
        return f"TableSet({self.name!r}, tables {', '.join(table.name for table in self.tables)})"

    @cached_property
    def product(self) -> Product:
        """The set as the reconstruction knows it."""
        divisions: dict[str, Any] = {}
        specs = [self._spec(table, divisions) for table in self.tables]
        spec = {
            "product": self.name,
            "title": self.name,
            "races": list(RACES),
            "divisions": divisions,
            "comparison": {"ages_from": self._ages_from()},
            "table": specs,
            "constraint": [{"counts": table.name} for table in self.tables],
        }
        return product_of(spec, f"table set {self.name}")

    def _ages_from(self) -> list[int]:
        """First ages of the groups that the tables tell apart: people are compared in these."""
        groups = [division for table in self.tables for division in table.by if isinstance(division, ages)]
        return sorted({0}.union(*(group.starts for group in groups)))

    @staticmethod
    def _spec(table: Table, divisions: dict[str, Any]) -> dict[str, Any]:
        """Return the table as a product's file has it; its divisions are added to ``divisions``."""
        parts_of, cells = table.divisions(), 1
        for number, parts in reversed(list(enumerate(parts_of))):
            then = {"then": f"{table.name}/{number + 1}"} if number + 1 < len(parts_of) else {}
            divisions[f"{table.name}/{number}"] = {"parts": [part | then for part in parts]}
            cells = 1 + len(parts) * cells
        divide = {"divide": f"{table.name}/0"} if parts_of else {}
        return {
            "name": table.name,
            "prefix": table.name,
            "level": table.level,
            "segment": 1,
            "universe": dict(table.universe),
            "cells": cells,
            **divide,
        }

    def cells(self, frames_kind: str | None = None) -> Any:
        """Return a frame with a row a cell: level, table, cell (its column's name), and counts, whom it counts, in words."""
        return cells_of(self, frames_kind)


AnyProduct = str | TableSet | Product
"""What names a set of tables: a product that comes with the program or its folder, a table set, a loaded product."""


def product(tables: AnyProduct = "sf1_2010", subset: str = "all") -> Product:
    """Load a set of tables: "sf1_2010", "dhc2020", the folder of a product, or a :class:`TableSet`.

    ``subset``: "block" takes its block tables alone, "all-P8" all but some, "P1,P12" those of a list. Raises UsageError for a
    product or a table that is not there, InputError for a folder that is no product.

    >>> [table.name for table in dbrecon.product("sf1_2010", "P1,P12").tables]
    ['P1', 'P12']
    """
    if isinstance(tables, TableSet):
        return restricted(tables.product, subset)
    if isinstance(tables, Product):
        return restricted(tables, subset)
    if not isinstance(tables, str | os.PathLike):
        raise UsageError(f"a {type(tables).__name__} is no product: give its name, its folder or a TableSet")
    return load_product(load_release(os.fspath(tables)).tables_path, subset)


def cells_of(tables: AnyProduct, frames_kind: str | None = None) -> Any:
    """Return a frame of all cells of a set of tables: level, table, cell, and whom it counts in words."""
    rows = [
        (table.level, table.name, name, in_words(cell.box))
        for table in product(tables).tables
        for name, cell in zip(table.cell_names, table.cells, strict=True)
    ]
    names = ("level", "table", "cell", "counts")
    return frames.native({name: [row[place] for row in rows] for place, name in enumerate(names)}, frames_kind)


def in_words(box: Box) -> str:
    """Return whom a cell counts: "male, 18 to 64, white alone, not Hispanic"."""
    words = [SEXES[int(box.sex.nonzero()[0][0])]] if box.sex.sum() == 1 else []
    if not box.age.all():
        words.append(_ages_in_words(box))
    if not box.race.all():
        words.append(_races_in_words(box))
    if box.hisp.sum() == 1:
        words.append("Hispanic" if box.hisp[1] else "not Hispanic")
    return ", ".join(words) or "everyone"


def _ages_in_words(box: Box) -> str:
    inside = np.flatnonzero(box.age)
    if not len(inside):
        return "of no age"
    first, last = int(FIRST_AGES[inside[0]]), int(inside[-1])
    if last == len(FIRST_AGES) - 1:
        return f"{first} and over"
    end = int(FIRST_AGES[last + 1]) - 1
    return str(first) if end == first else f"under {end + 1}" if first == 0 else f"{first} to {end}"


def _races_in_words(box: Box) -> str:
    codes = np.flatnonzero(box.race) + 1
    if len(codes) == 1:
        names = [race for place, race in enumerate(RACES) if codes[0] >> (5 - place) & 1]
        return f"{names[0]} alone" if len(names) == 1 else " and ".join(names)
    common = int(np.bitwise_and.reduce(codes))
    if len(codes) == 1 << (len(RACES) - 1) and common in {1 << place for place in range(len(RACES))}:
        return f"{RACES[5 - common.bit_length() + 1]}, alone or with others"
    sizes = {int(code).bit_count() for code in codes}
    if len(sizes) == 1:
        return f"{sizes.pop()} races"
    return f"{min(sizes)} or more races" if max(sizes) == len(RACES) else f"{len(codes)} sets of races"
