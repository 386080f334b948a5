"""Published tables as data: what each cell of each table counts.

A product (``config/products/NAME/tables.toml``) says for each table its level, universe and division. From that this module derives

* the names of all cells, in file order;
* ``membership``: a sparse matrix, kinds of person x cells, that tabulates any people by one product;
* *partitions*: the undivided cells of a table as an array over (sex and age) x (race and origin) that says which cell counts a
  kind; the cells of one table less those of another within them are a partition too. The model is built from partitions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.errors import InputError
from dbrecon.paths import CONFIG
from dbrecon.recon.census.categories import EVERY_KIND, Categories, Groups, read_categories
from dbrecon.recon.census.cell_names import cell_names
from dbrecon.recon.census.inexact import Inexact
from dbrecon.recon.census.kinds import (
    FIRST_AGES,
    N_AGES,
    N_KINDS,
    N_RACE_SETS,
    N_RH,
    N_SA,
    RACE_BITS,
    RACE_COUNT,
    RACE_SETS_IN_ORDER,
    RACES,
    SEXES,
    IntArray,
)
from dbrecon.recon.census.table_keys import check_selectors, check_spec
from dbrecon.recon.definition_files import read_toml

LEVELS = ("block", "tract")
INEXACT_KEYS = ("rounded_to", "rounding", "suppressed_below")
COMPARISON_AGES = (*range(22), 22, 25, 30, 35, 40, 45, 50, 55, 60, 62, 65, 67, 70, 75, 80, 85)
"""First ages of the 38 bins in which people are compared (Abowd et al., arXiv 2312.11283) where a product names no others."""

DEFAULT_PRODUCT = CONFIG / "products" / "sf1_2010" / "tables.toml"

BoolArray = npt.NDArray[np.bool_]
Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Box:
    """Some sexes x an interval of age categories x some race sets x some Hispanic origins, as four masks."""

    sex: BoolArray  # (2,)
    age: BoolArray  # (103,)
    race: BoolArray  # (63,) by code - 1
    hisp: BoolArray  # (2,)

    @cached_property
    def sa(self) -> npt.NDArray[np.intp]:
        """Numbers of the (sex, age) pairs inside."""
        return (self.sex.nonzero()[0][:, None] * N_AGES + self.age.nonzero()[0]).ravel()

    @cached_property
    def rh(self) -> npt.NDArray[np.intp]:
        """Numbers of the (race set, origin) pairs inside."""
        return (self.race.nonzero()[0][:, None] * 2 + self.hisp.nonzero()[0]).ravel()

    def select(self, spec: Spec, where: str, groups: Groups = EVERY_KIND.groups) -> "Box":
        """Return the part of this box that a table's or a part's selectors name; ``groups`` are the product's of races.

        Raises InputError for a selector that is not known; ``where`` names the place in the file.
        """
        check_selectors({key: value for key, value in spec.items() if key != "then"}, where)
        sex, age, race, hisp = self.sex, self.age, self.race, self.hisp
        if "sex" in spec:
            sex = sex & (np.array(SEXES) == spec["sex"])
        if "ages" in spec:
            first, last = spec["ages"]
            age = age & (first <= FIRST_AGES) & (last >= FIRST_AGES)
        codes = np.arange(1, N_RACE_SETS + 1)
        if "race" in spec:
            race = race & ((codes & RACE_BITS[spec["race"]]) > 0)
        if "race_alone" in spec:
            race = race & (codes == RACE_BITS[spec["race_alone"]])
        if "races" in spec:
            n = spec["races"]
            low, high = n if isinstance(n, list) else (n, n)
            race = race & (RACE_COUNT[codes] >= low) & (RACE_COUNT[codes] <= high)
        if "race_group" in spec:
            if spec["race_group"] not in groups:
                known = ", ".join(groups) or "none: [categories.race] names them"
                raise InputError(f"{where}: there is no race_group {spec['race_group']!r}; there are {known}")
            race = race & groups[spec["race_group"]]
        if "hisp" in spec:
            hisp = hisp & (np.array([False, True]) == spec["hisp"])
        return Box(sex, age, race, hisp)


EVERYONE = Box(np.ones(2, bool), np.ones(N_AGES, bool), np.ones(N_RACE_SETS, bool), np.ones(2, bool))


@dataclass(frozen=True)
class Cell:
    """One cell of a table: a box, and the positions (in the table) of the parts it is the sum of."""

    box: Box
    parts: tuple[int, ...]


@dataclass(frozen=True)
class Partition:
    """Counts of disjoint groups of people, at one level.

    ``index`` (206, 126) holds for each kind the number of its group, or -1; ``coefficients`` (cells of the level, groups) turns a
    unit's published cells into the groups' counts; ``labels`` name the groups.
    """

    name: str
    level: str
    index: npt.NDArray[np.int16]
    coefficients: sp.csr_array
    labels: tuple[str, ...]

    @property
    def by_sa_only(self) -> bool:
        """Whether a kind's group depends on sex and age alone."""
        return bool((self.index == self.index[:, :1]).all())

    @property
    def by_rh_only(self) -> bool:
        """Whether a kind's group depends on race and origin alone."""
        return bool((self.index == self.index[:1, :]).all())


@dataclass(frozen=True)
class Table:
    """A published table. ``cells`` are in file order; ``inexact`` says how they are rounded or withheld, if they are."""

    name: str
    prefix: str
    level: str
    segment: int
    cells: tuple[Cell, ...]
    inexact: Inexact | None = None

    @cached_property
    def cell_names(self) -> tuple[str, ...]:
        """Names as in the file."""
        return cell_names(self.prefix, len(self.cells))

    @cached_property
    def undivided(self) -> tuple[int, ...]:
        """Positions of the cells that have no parts."""
        return tuple(i for i, cell in enumerate(self.cells) if not cell.parts)

    @property
    def tallies(self) -> bool:
        """Whether a person may be in several of its cells that are not sums, and there are sums of such cells."""
        return self.index is None and any(cell.parts for cell in self.cells)

    @property
    def counts_everyone(self) -> bool:
        """Whether the first cell counts everyone."""
        everyone = self.cells[0].box
        return bool(everyone.sex.all() and everyone.age.all() and everyone.race.all() and everyone.hisp.all())

    @cached_property
    def index(self) -> npt.NDArray[np.int16] | None:
        """(206, 126) which undivided cell (its number among them) counts each kind, -1 for none.

        None if a person can be in several (the tallies of races).
        """
        index = np.full((N_SA, N_RH), -1, np.int16)
        for number, i in enumerate(self.undivided):
            box = self.cells[i].box
            at = box.sa[:, None], box.rh
            if (index[at] >= 0).any():
                return None
            index[at] = number
        return index

    def membership(self) -> sp.csr_array:
        """Return (25956, cells) how often each cell counts each kind: a cell with parts is their sum."""
        n = len(self.undivided)
        if self.index is not None:
            leaf = self.index.ravel()
            starts = np.concatenate([[0], np.cumsum(leaf >= 0)])
            leaf = leaf[leaf >= 0].astype(np.int32)
            leaves = sp.csr_array((np.ones(len(leaf), np.int32), leaf, starts), shape=(N_KINDS, n))
        else:
            counted = np.zeros((N_SA, N_RH, n), np.int32)
            for number, i in enumerate(self.undivided):
                counted[self.cells[i].box.sa[:, None], self.cells[i].box.rh, number] = 1
            leaves = sp.csr_array(counted.reshape(N_KINDS, n))
        return sp.csr_array(leaves @ self._sums())

    def _sums(self) -> sp.csr_array:
        """Return (undivided cells, cells) which undivided cells each cell is the sum of."""
        sums = np.zeros((len(self.undivided), len(self.cells)), np.int32)
        sums[np.arange(len(self.undivided)), self.undivided] = 1
        for i in reversed(range(len(self.cells))):  # parts come after their whole
            for part in self.cells[i].parts:
                sums[:, i] += sums[:, part]
        return sp.csr_array(sums)


@dataclass(frozen=True)
class Constraint:
    """A partition that becomes constraints; ``written`` (206, 126) leaves out groups that follow from others."""

    partition: Partition
    written: BoolArray


@dataclass(frozen=True)
class Product:
    """A census's tables: see the module's text. Made by :func:`load_product`.

    ``partitions`` and ``constraints`` are of exact cells; ``ranges`` are the cells of inexact tables, in disjoint groups.
    ``comparison_ages`` are the first ages of the bins in which people are compared and certainty is told; ``categories`` are
    those of people that the product knows.
    """

    name: str
    title: str
    tables: tuple[Table, ...]
    partitions: Mapping[str, Partition]
    constraints: tuple[Constraint, ...]
    ranges: tuple[Partition, ...] = ()
    comparison_ages: tuple[int, ...] = COMPARISON_AGES
    categories: Categories = field(default=EVERY_KIND, compare=False)
    _membership: dict[str, sp.csr_array] = field(default_factory=dict, repr=False, compare=False)

    def tables_of(self, level: str) -> tuple[Table, ...]:
        """Return the level's tables, in the file's order."""
        return tuple(table for table in self.tables if table.level == level)

    def columns(self, level: str) -> tuple[str, ...]:
        """Return names of all cells of the level, in the order of the county files' columns."""
        return self._columns[level]

    @cached_property
    def _columns(self) -> dict[str, tuple[str, ...]]:
        return {level: tuple(name for table in self.tables_of(level) for name in table.cell_names) for level in LEVELS}

    def membership(self, level: str) -> sp.csr_array:
        """Return (25956, cells of the level): tabulates people, ``counts of kinds @ membership = cells``."""
        if level not in self._membership:
            self._membership[level] = sp.csr_array(sp.hstack([t.membership() for t in self.tables_of(level)]))
        return self._membership[level]

    @cached_property
    def inexact(self) -> tuple[Table, ...]:
        """The tables whose cells are rounded or withheld."""
        return tuple(table for table in self.tables if table.inexact is not None)

    def _inexact_columns(self, level: str) -> Iterable[tuple[Inexact, slice]]:
        at = 0
        for table in self.tables_of(level):
            if table.inexact is not None:
                yield table.inexact, slice(at, at + len(table.cells))
            at += len(table.cells)

    def publish(self, level: str, counts: IntArray, rng: np.random.Generator | None = None) -> IntArray:
        """(..., cells of the level) what is published of units whose cells are ``counts``: rounded, ``SUPPRESSED`` or as they are.

        ``rng`` is needed where a table is rounded at random.
        """
        published = np.array(counts, np.int64)
        for inexact, columns in self._inexact_columns(level):
            published[..., columns] = inexact.publish(counts[..., columns], rng)
        return published

    def intervals(self, level: str, published: npt.NDArray[np.integer]) -> tuple[IntArray, IntArray]:
        """(..., cells of the level) the least and the most that published cells may stand for: themselves, where they are exact."""
        if not self.inexact:
            exact = np.asarray(published, np.int64)
            return exact, exact
        least, most = np.array(published, np.int64), np.array(published, np.int64)
        for inexact, columns in self._inexact_columns(level):
            least[..., columns], most[..., columns] = inexact.interval(published[..., columns])
        return least, most

    def impossible(self, level: str, published: npt.NDArray[np.integer]) -> BoolArray:
        """(..., cells of the level) which cells cannot be: negative ones, or those that their table's rounding does not give."""
        found = published < 0
        for inexact, columns in self._inexact_columns(level):
            found[..., columns] = inexact.impossible(published[..., columns])
        return np.asarray(found)


class _Reader:
    """Turns the parsed TOML into a :class:`Product`."""

    def __init__(self, spec: Spec, path: str) -> None:
        self.spec = spec
        self.path = path
        self.divisions: Spec = spec.get("divisions", {})
        self.categories = read_categories(spec["categories"], path) if "categories" in spec else EVERY_KIND
        self.groups = self.categories.groups

    def fail(self, what: str) -> InputError:
        return InputError(f"{self.path}: {what}")

    def parts(self, box: Box, division: str) -> Iterable[tuple[Box, str | None]]:
        """Return the boxes that a division cuts a box into, each with the name of its own division."""
        if division not in self.divisions:
            raise self.fail(f"division {division!r} is not defined; those that are: {', '.join(self.divisions)}")
        rule = self.divisions[division]
        if "parts" in rule:
            for part in rule["parts"]:
                yield box.select(part, f"{self.path}: division {division}", self.groups), part.get("then")
        elif "ages_from" in rule:
            starts = FIRST_AGES.tolist() if rule["ages_from"] == "every category" else rule["ages_from"]
            for first, following in zip(starts, [*starts[1:], rule["ages_to"] + 1], strict=True):
                yield box.select({"ages": [first, following - 1]}, self.path), None
        elif rule.get("each") == "race set":
            for code in RACE_SETS_IN_ORDER:
                if box.race[code - 1]:
                    only = np.zeros(N_RACE_SETS, bool)
                    only[code - 1] = True
                    yield Box(box.sex, box.age, only, box.hisp), None
        elif rule.get("each") == "race group":
            for name in self.groups:
                yield box.select({"race_group": name}, self.path, self.groups), None
        else:
            raise self.fail(f"division {division!r} has neither parts, ages_from nor each = 'race set' or 'race group'")

    def outline(self, box: Box, division: str | None, cells: list[Cell]) -> int:
        """Append the cell of ``box`` and, after it, its parts'; return the cell's position."""
        position = len(cells)
        cells.append(Cell(box, ()))
        if division is not None:
            parts = tuple(self.outline(part, then, cells) for part, then in self.parts(box, division))
            cells[position] = Cell(box, parts)
        return position

    def table(self, spec: Spec) -> Table:
        if spec["level"] not in LEVELS:
            raise self.fail(f"table {spec['name']} has level {spec['level']!r}; take one of {', '.join(LEVELS)}")
        cells: list[Cell] = []
        universe = EVERYONE.select(spec.get("universe", {}), f"{self.path}: table {spec['name']}", self.groups)
        self.outline(universe, spec.get("divide"), cells)
        how = {key: spec[key] for key in INEXACT_KEYS if key in spec}
        try:
            inexact = Inexact(**how)
        except InputError as error:
            raise self.fail(f"table {spec['name']}: {error}") from None
        if len(cells) != spec["cells"]:
            raise self.fail(f"table {spec['name']} has {spec['cells']} cells, but its division makes {len(cells)}")
        for cell, of_cell in zip(cells, cell_names(spec["prefix"], len(cells)), strict=True):
            if cut := self.categories.cut_by(cell.box.sex, cell.box.race, cell.box.hisp):
                raise self.fail(f"table {spec['name']}: {of_cell} counts people of {cut}, which [categories] does not tell apart")
        name, prefix, level, segment = (spec[key] for key in ("name", "prefix", "level", "segment"))
        return Table(name, prefix, level, segment, tuple(cells), None if inexact.exact else inexact)

    def partition(self, table: Table, index: npt.NDArray[np.int16], offset: int, width: int) -> Partition:
        """Return the undivided cells of a table, whose first cell is column ``offset`` of its level's ``width``."""
        n = len(table.undivided)
        coefficients = sp.csr_array((np.ones(n, np.int64), (np.array(table.undivided) + offset, np.arange(n))), shape=(width, n))
        labels = tuple(table.cell_names[i] for i in table.undivided)
        return Partition(table.name, table.level, index, coefficients, labels)

    def difference(self, spec: Spec, known: Mapping[str, Partition]) -> Partition:
        """Return cells of one partition less those of another that lie within them."""
        for name in (spec["of"], spec["less"]):
            if name not in known:
                raise self.fail(f"difference {spec['name']}: {name!r} is neither a table nor an earlier difference")
        whole, part = known[spec["of"]], known[spec["less"]]
        taken = part.index >= 0
        if "less_within" in spec:
            taken &= self.mask(spec["less_within"], spec["name"])
        lies_in = np.zeros((len(part.labels), len(whole.labels) + 1), bool)  # the last column: outside of all
        lies_in[part.index[taken], whole.index[taken]] = True
        if lies_in[:, -1].any() or (lies_in.sum(axis=1) > 1).any():
            raise self.fail(f"difference {spec['name']}: the cells of {part.name} do not lie within those of {whole.name}")
        inside = sp.csr_array(lies_in[:, :-1].astype(np.int64))
        index = np.where(taken, np.int16(-1), whole.index)
        labels = tuple(f"{label}_{spec['label']}" for label in whole.labels)
        coefficients = sp.csr_array(whole.coefficients - part.coefficients @ inside)
        return Partition(spec["name"], whole.level, index, coefficients, labels)

    def constraint(self, spec: Spec, known: Mapping[str, Partition], overlapping: frozenset[str]) -> Constraint:
        if spec["counts"] in overlapping:
            raise self.fail(f"constraint counts {spec['counts']}, but some people are in several of its cells: its parts overlap")
        if spec["counts"] not in known:
            raise self.fail(f"constraint counts {spec['counts']!r}, which is neither a table nor a difference")
        partition = known[spec["counts"]]
        written = partition.index >= 0
        if "within" in spec:
            written &= self.mask(spec["within"], spec["counts"])
        if "outside" in spec:
            written &= ~self.mask(spec["outside"], spec["counts"])
        is_written = np.zeros(len(partition.labels), bool)
        is_written[partition.index[written]] = True
        if is_written[partition.index[~written & (partition.index >= 0)]].any():
            raise self.fail(f"constraint {spec['counts']}: within or outside cuts through a cell")
        return Constraint(partition, written)

    def mask(self, selectors: Spec, name: str) -> BoolArray:
        """Return (206, 126) the kinds that selectors name."""
        box = EVERYONE.select(selectors, f"{self.path}: {name}", self.groups)
        mask = np.zeros((N_SA, N_RH), bool)
        mask[np.ix_(box.sa, box.rh)] = True
        return mask

    def product(self) -> Product:
        if self.spec.get("races") != list(RACES):
            raise self.fail(f"races must be {list(RACES)}")
        tables = tuple(self.table(spec) for spec in self.spec["table"])
        if not any(table.level == "block" for table in tables):
            raise self.fail("has no table of blocks, and people are reconstructed by block")
        known: dict[str, Partition] = {}
        for level in LEVELS:
            of_level = [table for table in tables if table.level == level]
            offsets = np.cumsum([0] + [len(table.cells) for table in of_level])
            for table, offset in zip(of_level, offsets, strict=False):
                if table.index is not None:
                    known[table.name] = self.partition(table, table.index, int(offset), int(offsets[-1]))
        for spec in self.spec.get("difference", []):
            known[spec["name"]] = self.difference(spec, known)
        overlapping = frozenset(table.name for table in tables if table.index is None)
        constraints = tuple(self.constraint(spec, known, overlapping) for spec in self.spec["constraint"])
        comparison = tuple(self.spec.get("comparison", {}).get("ages_from", COMPARISON_AGES))
        name, title = self.spec["product"], self.spec["title"]
        return Product(name, title, tables, known, constraints, comparison_ages=comparison, categories=self.categories)


def product_of(spec: Spec, source: str) -> Product:
    """Make a product of a table file's content, parsed. Raises InputError, naming ``source``, if it contradicts itself."""
    check_spec(spec, source)
    return _Reader(spec, source).product()


@lru_cache(maxsize=8)
def load_product(path: Path = DEFAULT_PRODUCT, tables: str = "all") -> Product:
    """Read a product's tables from its TOML file: those of ``tables``, in the words that ``--tables`` takes
    (:mod:`dbrecon.recon.census.subset`).

    Raises InputError, naming the file, if it cannot be read or contradicts itself; UsageError for tables that there are not.
    """
    from dbrecon.recon.census.subset import restricted  # here, since it is made of what this module defines

    return restricted(product_of(read_toml(path), str(path)), tables)
