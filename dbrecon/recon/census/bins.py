"""Age bins: which ages a program may count together, derived from the product's tables.

No block table tells the single years of adults apart; a tract's tables do, for groups of sex, race and origin. A program may
count the ages of a *bin* together, and the years be given out afterwards, if every binned answer can be completed. That is so where

* no cell of a block table begins or ends within the bin;
* the tract's constraints that divide the bin count disjoint *groups* of (sex, race set, origin), or groups that lie within one
  another, and each of them divides all of the bin's ages: then each group's total in the bin is a constraint of the binned
  program, and its counts by year may be given to its members in any order;
* every published tract cell that divides the bin is a sum of such counts.

Where year by race and year by origin are published without year by race and origin, the groups cross: completing a binned answer
is a three-way problem that may have no answer. Such ages stay single, as do all others for which the rule does not hold.
"""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, N_RACE_SETS, N_RH, IntArray
from dbrecon.recon.census.tables import Constraint, Partition, Product

BoolArray = npt.NDArray[np.bool_]

COLUMNS = 2 * N_RH
"""Pairs of a sex and a (race set, origin), numbered ``sex * 126 + rh``: what groups are sets of."""


@dataclass(frozen=True)
class AgeBins:
    """Intervals that divide the 103 age categories. ``starts``: the first category of each, ascending, beginning with 0.

    A *binned kind* is ``(sex * n + bin) * 126 + rh``: numbered as kinds are, with the bin in the place of the age.
    """

    starts: tuple[int, ...]

    @property
    def n(self) -> int:
        """How many bins there are."""
        return len(self.starts)

    @property
    def n_sa(self) -> int:
        """How many pairs of a sex and a bin there are."""
        return 2 * self.n

    @property
    def n_kinds(self) -> int:
        """How many binned kinds there are."""
        return self.n_sa * N_RH

    @property
    def single(self) -> bool:
        """Whether every age category is a bin of its own: then binned kinds are kinds."""
        return self.n == N_AGES

    @cached_property
    def first(self) -> IntArray:
        """(n,) the first category of each bin."""
        return np.array(self.starts, np.int64)

    @cached_property
    def last(self) -> IntArray:
        """(n,) the last category of each bin."""
        return np.append(self.first[1:], N_AGES) - 1

    @cached_property
    def of_age(self) -> IntArray:
        """(103,) the bin of each category."""
        return np.repeat(np.arange(self.n), self.last - self.first + 1)

    def split(self, kind: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """(sex, bin, race code 1..63, hisp) of binned kinds."""
        sa, rh = np.divmod(kind, N_RH)
        sex, number = np.divmod(sa, self.n)
        race, hisp = np.divmod(rh, 2)
        return sex, number, race + 1, hisp

    def join(self, sex: IntArray, number: IntArray, race: IntArray, hisp: IntArray) -> IntArray:
        """Binned kinds: the inverse of :meth:`split`."""
        return ((sex * self.n + number) * N_RACE_SETS + (race - 1)) * 2 + hisp

    def of_kind(self, kind: IntArray) -> IntArray:
        """The binned kind that counts each kind (0..25955)."""
        sa, rh = np.divmod(kind, N_RH)
        sex, age = np.divmod(sa, N_AGES)
        return (sex * self.n + self.of_age[age]) * N_RH + rh

    def first_kind(self, kind: IntArray) -> IntArray:
        """The kind (0..25955) of the first age of each binned kind."""
        sa, rh = np.divmod(kind, N_RH)
        sex, number = np.divmod(sa, self.n)
        return (sex * N_AGES + self.first[number]) * N_RH + rh

    @cached_property
    def first_sa(self) -> IntArray:
        """(2 n,) the number of (sex, first category) of each pair of a sex and a bin."""
        return np.concatenate([self.first, N_AGES + self.first])

    def refined(self, other: "AgeBins") -> "AgeBins":
        """The common refinement: ages together that are together in both."""
        return AgeBins(tuple(sorted({*self.starts, *other.starts})))

    def __str__(self) -> str:
        """As ``0, 1, 22-24``, in years."""
        return ", ".join(self._name(number) for number in range(self.n))

    def wide(self) -> str:
        """The bins of several age categories, as ``22-24, 25-29``; the last one is open: ``85+``."""
        return ", ".join(self._name(number) for number in np.flatnonzero(self.last > self.first).tolist())

    def _name(self, number: int) -> str:
        first, last = FIRST_AGES[self.first[number]], FIRST_AGES[self.last[number]]
        if self.last[number] == N_AGES - 1:
            return f"{first}+"
        return str(first) if first == last else f"{first}-{last}"


SINGLE_AGES = AgeBins(tuple(range(N_AGES)))
"""Every age category by itself."""


@dataclass(frozen=True)
class YearCounts:
    """What a tract's tables tell of ages within bins: counts of disjoint groups of (sex, race set, origin), by interval of ages.

    ``index`` (2 n, 126) holds the group of each (sex, bin) and (race set, origin), -1 where nothing is told. Group g's counts are
    numbers ``starts[g]`` up to ``starts[g + 1]``, ascending in age: ``coefficients`` (tract cells, counts) makes them of the
    published cells; count i is of the categories ``first[i]`` to ``last[i]``.
    """

    index: npt.NDArray[np.int32]
    starts: IntArray
    first: IntArray
    last: IntArray
    coefficients: sp.csr_array

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return len(self.starts) - 1

    def values(self, tract_cells: IntArray) -> IntArray:
        """(counts,) the counts, from a tract's published cells."""
        return np.asarray(tract_cells @ self.coefficients)


@dataclass(frozen=True)
class Binning:
    """A product's bins and what its tract tables tell of the ages within them."""

    bins: AgeBins
    years: YearCounts


@dataclass(frozen=True)
class _Group:
    """A set of columns whose members a tract constraint counts by intervals of a bin's ages.

    ``members`` (252,); ``counts`` are numbers of the partition's groups, each for the ages from ``starts`` on.
    """

    partition: Partition
    members: BoolArray
    counts: tuple[int, ...]
    starts: tuple[int, ...]


def by_column(index: npt.NDArray[np.integer], first: int, last: int) -> npt.NDArray[np.integer]:
    """(ages, 252) a partition's index (206, 126) at the ages ``first`` to ``last``."""
    ages = index.reshape(2, N_AGES, N_RH)[:, first : last + 1]
    return ages.transpose(1, 0, 2).reshape(last + 1 - first, COLUMNS)


def _groups_that_divide(partition: Partition, index: npt.NDArray[np.integer], first: int, last: int) -> list[_Group] | None:
    """The groups whose counts divide a bin; None where it is divided otherwise.

    ``index`` is the partition's, with -1 for what is no constraint.
    """
    inside = by_column(index, first, last)
    divided = np.flatnonzero((inside != inside[0]).any(axis=0))
    if not len(divided):
        return []
    inside = inside[:, divided]
    _, leader, group = np.unique(inside[0], return_index=True, return_inverse=True)
    if (inside < 0).any() or (inside != inside[:, leader[group]]).any():
        return None
    found = []
    for number, column in enumerate(leader.tolist()):
        counts, starts = np.unique(inside[:, column], return_index=True)
        members = np.zeros(COLUMNS, bool)
        members[divided[group == number]] = True
        everywhere = np.isin(index, counts).sum()
        if everywhere != members.sum() * len(inside):  # it counts others too, of other groups or ages
            return None
        order = np.argsort(starts)
        found.append(_Group(partition, members, tuple(counts[order].tolist()), tuple((first + starts[order]).tolist())))
    return found


def _written(constraint: Constraint) -> npt.NDArray[np.integer]:
    return np.where(constraint.written, constraint.partition.index, np.int16(-1))


def _nest(groups: list[_Group]) -> bool:
    """Whether any two groups are disjoint, or the one lies within the other and both divide the ages alike."""
    members = np.array([group.members for group in groups]).astype(np.int64)
    common, sizes = members @ members.T, members.sum(axis=1)
    nested = common == np.minimum(sizes[:, None], sizes)
    alike = np.array([[a.starts == b.starts for b in groups] for a in groups])
    return bool(((common == 0) | (nested & alike)).all())


@dataclass(frozen=True)
class _Atom:
    """Members of a group that are in none of the groups within it: their counts by age are the group's less those groups'."""

    members: BoolArray
    starts: tuple[int, ...]
    coefficients: sp.csr_array  # (tract cells, counts)


def _atoms(groups: list[_Group]) -> list[_Atom]:
    """The atoms of groups that nest, each column in one at the most."""
    order = sorted(range(len(groups)), key=lambda i: int(groups[i].members.sum()))
    within: dict[int, list[int]] = {i: [] for i in order}
    outermost: list[int] = []
    for i in order:  # the smaller come first, so that those still outermost are the ones right within i
        within[i] = [j for j in outermost if (groups[i].members & groups[j].members).any()]
        outermost = [j for j in outermost if j not in within[i]] + [i]
    atoms = []
    for i in order:
        members = groups[i].members.copy()
        coefficients = _coefficients(groups[i])
        for j in within[i]:
            members &= ~groups[j].members
            coefficients = coefficients - _coefficients(groups[j])
        if members.any():
            atoms.append(_Atom(members, groups[i].starts, sp.csr_array(coefficients)))
    return atoms


def _coefficients(group: _Group) -> sp.csr_array:
    return sp.csr_array(group.partition.coefficients[:, list(group.counts)])


def _tell_all(atoms: list[_Atom], product: Product, first: int, last: int) -> bool:
    """Whether every published tract cell that divides the bin is a sum of the atoms' counts there."""
    told: dict[tuple[bytes, bytes, bytes], set[bytes]] = {}
    for table in product.tables_of("tract"):
        for cell in table.cells:
            ages = cell.box.age[first : last + 1]
            if ages.any() and not ages.all():
                key = (cell.box.sex.tobytes(), cell.box.race.tobytes(), cell.box.hisp.tobytes())
                told.setdefault(key, set()).add(ages.tobytes())
    for (sex, race, hisp), divisions in told.items():
        members = np.outer(np.frombuffer(sex, bool), np.outer(np.frombuffer(race, bool), np.frombuffer(hisp, bool))).ravel()
        parts = [atom for atom in atoms if (atom.members & members).any()]
        if sum(int((atom.members & members).sum()) for atom in parts) != members.sum():
            return False
        if any((atom.members & ~members).any() for atom in parts):
            return False
        edges = {first + 1 + int(i) for text in divisions for i in np.flatnonzero(np.diff(np.frombuffer(text, bool)))}
        if any(not edges <= set(atom.starts) for atom in parts):
            return False
    return True


def _block_bins(product: Product) -> AgeBins:
    """Ages together that no cell of a block table tells apart."""
    ages = np.array(list({cell.box.age.tobytes(): cell.box.age for t in product.tables_of("block") for cell in t.cells}.values()))
    edges = np.flatnonzero((ages[:, 1:] != ages[:, :-1]).any(axis=0)) + 1
    return AgeBins((0, *edges.tolist()))


def derive_binning(product: Product) -> Binning:
    """A product's bins: as wide as every binned answer can be completed; see this module's text."""
    starts: list[int] = []
    atoms_of: dict[int, list[_Atom]] = {}
    written = [(c.partition, _written(c)) for c in product.constraints if c.partition.level == "tract"]
    candidates = _block_bins(product)
    for first, last in zip(candidates.first.tolist(), candidates.last.tolist(), strict=True):
        atoms = _atoms_of_bin(product, written, first, last) if first < last else []
        if atoms is None:
            starts += range(first, last + 1)
        else:
            atoms_of[len(starts)] = atoms
            starts.append(first)
    bins = AgeBins(tuple(starts))
    return Binning(bins, _year_counts(bins, atoms_of, len(product.columns("tract"))))


def _atoms_of_bin(
    product: Product, written: list[tuple[Partition, npt.NDArray[np.integer]]], first: int, last: int
) -> list[_Atom] | None:
    """The atoms by which the tract's tables divide a bin; None if its ages have to stay single."""
    groups: list[_Group] = []
    for partition, index in written:
        found = _groups_that_divide(partition, index, first, last)
        if found is None:
            return None
        groups += found
    if groups and not _nest(groups):
        return None
    atoms = _atoms(groups)
    return atoms if _tell_all(atoms, product, first, last) else None


def _year_counts(bins: AgeBins, atoms_of: dict[int, list[_Atom]], n_cells: int) -> YearCounts:
    index = np.full((2, bins.n, N_RH), -1, np.int32)
    lengths: list[int] = []
    first: list[int] = []
    last: list[int] = []
    blocks: list[sp.csr_array] = [sp.csr_array((n_cells, 0), dtype=np.int64)]
    for number, atoms in atoms_of.items():
        for atom in atoms:
            index[:, number][atom.members.reshape(2, N_RH)] = len(lengths)
            lengths.append(len(atom.starts))
            first += atom.starts
            last += [start - 1 for start in atom.starts[1:]] + [int(bins.last[number])]
            blocks.append(atom.coefficients)
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    coefficients = sp.csr_array(sp.hstack(blocks))
    return YearCounts(index.reshape(-1, N_RH), starts, np.array(first, np.int64), np.array(last, np.int64), coefficients)


def binned_constraint(constraint: Constraint, bins: AgeBins) -> Constraint:
    """A constraint over binned kinds: its partition's index and ``written`` are (2 n, 126).

    ValueError if counts of it would be lost, which are not divided by the bins as :func:`derive_binning` wants.
    """
    partition = binned_partition(constraint.partition, bins)
    written = constraint.written[bins.first_sa]
    if (written & (partition.index < 0)).any():
        raise ValueError(f"{partition.name} is not divided by ages {bins} as its constraints need")
    return Constraint(partition, written)


def binned_partition(partition: Partition, bins: AgeBins) -> Partition:
    """A partition over binned kinds, ``index`` (2 n, 126).

    Counts that divide a bin become their sum where they divide it as :func:`derive_binning` wants; else its people are in no group.
    """
    if bins.single:
        return partition
    binned = partition.index[bins.first_sa].reshape(2, bins.n, N_RH)
    sums: list[tuple[int, ...]] = []
    n = len(partition.labels)
    for number in np.flatnonzero(bins.last > bins.first).tolist():
        first, last = int(bins.first[number]), int(bins.last[number])
        inside = by_column(partition.index, first, last)
        divided = (inside != inside[0]).any(axis=0)
        if not divided.any():
            continue
        here = binned[:, number].reshape(COLUMNS)  # a copy
        here[divided] = -1
        for group in _groups_that_divide(partition, partition.index, first, last) or []:
            here[group.members] = n + len(sums)
            sums.append(group.counts)
        binned[:, number] = here.reshape(2, N_RH)
    index = binned.reshape(bins.n_sa, N_RH)
    if not sums:
        return Partition(partition.name, partition.level, index, partition.coefficients, partition.labels)
    return _with_sums(partition, index, sums)


def _with_sums(partition: Partition, binned: npt.NDArray[np.int16], sums: list[tuple[int, ...]]) -> Partition:
    """The groups that ``binned`` names: the partition's, and numbered after them the sums of some.

    They are numbered anew, a sum in the place of its first count.
    """
    n = len(partition.labels)
    adds_up = sp.csr_array(
        (np.ones(sum(map(len, sums)), np.int64), (np.concatenate(sums), np.repeat(np.arange(len(sums)), [len(s) for s in sums]))),
        shape=(n, len(sums)),
    )
    rank = np.argsort([*range(n), *(counts[0] for counts in sums)], kind="stable")
    used = rank[np.isin(rank, binned)]
    number_of = np.full(n + len(sums) + 1, -1, np.int16)  # the last, at -1, stays
    number_of[used] = np.arange(len(used))
    coefficients = sp.csr_array(sp.hstack([partition.coefficients, partition.coefficients @ adds_up]))[:, used]
    labels = [*partition.labels, *(sum_label(partition.labels[counts[0]], partition.labels[counts[-1]]) for counts in sums)]
    named = tuple(labels[i] for i in used.tolist())
    return Partition(partition.name, partition.level, number_of[binned], sp.csr_array(coefficients), named)


_SUM = re.compile(r"(?P<first>[A-Z]+[0-9A-Z]*[0-9]{2})_(?P<last>[0-9]{2,3})(?P<rest>_[a-z]\w*)?")
_CELL = re.compile(r"(?P<cell>[A-Z]+[0-9]+[A-Z]*[0-9]*)(?P<rest>_.*)?")


def sum_label(first: str, last: str) -> str:
    """The name of the sum of consecutive counts: ``PCT012I048_052`` of PCT012I048 to PCT012I052, ``PCT012A048_052_hisp`` of
    PCT012A048_hisp to PCT012A052_hisp."""
    begin, end = _CELL.fullmatch(first), _CELL.fullmatch(last)
    if begin is None or end is None:
        return f"{first}_to_{last}"
    digits = re.search(r"[0-9]+$", end["cell"])
    number = digits[0][-3:] if digits else end["cell"]  # three digits: four would look like a block's number
    return f"{begin['cell']}_{number}{begin['rest'] or ''}"


def cells_of_sum(label: str) -> list[str]:
    """The counts that a label of :func:`sum_label` sums; the label itself where it names a single count."""
    match = _SUM.fullmatch(label)
    if match is None:
        return [label]
    last, width = match["last"], len(match["last"])
    prefix, first = match["first"][:-width], match["first"][-width:]
    return [f"{prefix}{number:0{width}d}{match['rest'] or ''}" for number in range(int(first), int(last) + 1)]
