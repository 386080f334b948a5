"""Age bins: which ages a program may count together, derived from the product's tables.

No block table tells the single years of adults apart; a tract's tables do, for groups of sex, race and origin. A program may
count the ages of a *bin* together, and the years be given out afterwards, if every binned answer can be completed. That is so where

* no cell of a block table begins or ends within the bin;
* the tract's constraints that divide the bin count disjoint *groups* of (sex, race set, origin), or groups that lie within one
  another, and each of them divides all of the bin's ages: then each group's total in the bin is a constraint of the binned
  program, and its counts by year may be given to its members in any order;
* every published tract cell that divides the bin is a sum of such counts.

Where year by race and year by origin are published without year by race and origin, the groups cross: completing a binned answer
is a three-way problem that may have no answer. Such bins are cut wherever a tract's cell begins, into single years where these are
published, as are all others for which the rule does not hold.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, N_RACE_SETS, N_RH, IntArray
from dbrecon.recon.census.tables import COMPARISON_AGES, Constraint, Partition, Product

BoolArray = npt.NDArray[np.bool_]

COLUMNS = 2 * N_RH
"""Pairs of a sex and a (race set, origin), numbered ``sex * 126 + rh``: what groups are sets of."""


@dataclass(frozen=True)
class AgeBins:
    """Intervals that divide the 103 age categories. ``starts``: the first category of each, ascending, beginning with 0.

    A *binned kind* is ``(sex * n + bin) * 126 + rh``: numbered as kinds are, with the bin in the place of the age.
    """

    starts: tuple[int, ...]

    @classmethod
    def of_years(cls, first_ages: Sequence[int]) -> "AgeBins":
        """Return the bins that begin at these ages in years, ascending from 0, each the first of a category."""
        return cls(tuple(np.searchsorted(FIRST_AGES, first_ages).tolist()))

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
        """Return (sex, bin, race code 1..63, hisp) of binned kinds."""
        sa, rh = np.divmod(kind, N_RH)
        sex, number = np.divmod(sa, self.n)
        race, hisp = np.divmod(rh, 2)
        return sex, number, race + 1, hisp

    def join(self, sex: IntArray, number: IntArray, race: IntArray, hisp: IntArray) -> IntArray:
        """Return binned kinds: the inverse of :meth:`split`."""
        return ((sex * self.n + number) * N_RACE_SETS + (race - 1)) * 2 + hisp

    def of_kind(self, kind: IntArray) -> IntArray:
        """Return the binned kind that counts each kind (0..25955)."""
        sa, rh = np.divmod(kind, N_RH)
        sex, age = np.divmod(sa, N_AGES)
        return (sex * self.n + self.of_age[age]) * N_RH + rh

    def first_kind(self, kind: IntArray) -> IntArray:
        """Return the kind (0..25955) of the first age of each binned kind."""
        sa, rh = np.divmod(kind, N_RH)
        sex, number = np.divmod(sa, self.n)
        return (sex * N_AGES + self.first[number]) * N_RH + rh

    @cached_property
    def first_sa(self) -> IntArray:
        """(2 n,) the number of (sex, first category) of each pair of a sex and a bin."""
        return np.concatenate([self.first, N_AGES + self.first])

    def refined(self, other: "AgeBins") -> "AgeBins":
        """Return the common refinement: ages together that are together in both."""
        return AgeBins(tuple(sorted({*self.starts, *other.starts})))

    def __str__(self) -> str:
        """As ``0, 1, 22-24``, in years."""
        return ", ".join(self._name(number) for number in range(self.n))

    def wide(self) -> str:
        """Return the bins of several age categories, as ``22-24, 25-29``; the last one is open: ``85+``."""
        return ", ".join(self._name(number) for number in np.flatnonzero(self.last > self.first).tolist())

    def _name(self, number: int) -> str:
        first, last = FIRST_AGES[self.first[number]], FIRST_AGES[self.last[number]]
        if self.last[number] == N_AGES - 1:
            return f"{first}+"
        return str(first) if first == last else f"{first}-{last}"


SINGLE_AGES = AgeBins(tuple(range(N_AGES)))
"""Every age category by itself."""

COMPARISON_BINS = AgeBins.of_years(COMPARISON_AGES)
"""The 38 bins in which people are compared where a product names no others."""


def comparison_bins(product: Product) -> AgeBins:
    """Return the bins in which people of a product are compared: the one source for evaluation, certainty and reidentification."""
    return AgeBins.of_years(product.comparison_ages)


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
        """Return (counts,) the counts, from a tract's published cells."""
        return np.asarray(tract_cells @ self.coefficients)


@dataclass(frozen=True)
class Binning:
    """A product's bins and what its tract tables tell of the ages within them."""

    bins: AgeBins
    years: YearCounts


@dataclass(frozen=True)
class _Group:
    """A set of columns whose members a tract partition counts by intervals of a bin's ages.

    ``members`` (252,); ``counts`` are numbers of the partition's groups, each for the ages from ``starts`` on.
    """

    number: int  # of the bin
    members: BoolArray
    counts: tuple[int, ...]
    starts: tuple[int, ...]


def _divide(index: npt.NDArray[np.integer], bins: AgeBins) -> tuple[list[_Group], BoolArray, BoolArray]:
    """How a partition's ``index`` (206, 126) divides bins: the groups; (bins, 252) which columns are divided; (bins,) which bins
    are divided otherwise than group by group, each group with counts of its own for all of the bin's ages."""
    by_age = index.reshape(2, N_AGES, N_RH).transpose(1, 0, 2).reshape(N_AGES, COLUMNS).astype(np.int64)
    leader = by_age[bins.first]  # a column's group at its bin's first age
    divided = np.logical_or.reduceat(by_age != leader[bins.of_age], bins.first)
    bad = np.zeros(bins.n, bool)
    if not divided.any():
        return [], divided, bad
    age, column = np.nonzero(divided[bins.of_age])
    number, count = bins.of_age[age], by_age[age, column]
    n_groups = int(by_age.max()) + 1
    of = leader[number, column] * bins.n + number  # the group: its leader, and the bin
    led_by, count_at = np.full(n_groups, -1), np.full((n_groups * bins.n, N_AGES), -1)
    kept = (count >= 0) & (leader[number, column] >= 0)
    bad[number[~kept]] = True
    led_by[count[kept]], count_at[of[kept], age[kept]] = of[kept], count[kept]
    elsewhere = np.bincount(by_age[by_age >= 0], minlength=n_groups) != np.bincount(count[kept], minlength=n_groups)
    shared = np.zeros(n_groups, bool)  # counts that reach into two bins, of which the last has the lead
    shared[count[kept][led_by[count[kept]] != of[kept]]] = True
    wrong = shared[count[kept]] | (count_at[of[kept], age[kept]] != count[kept]) | elsewhere[count[kept]]
    bad[number[kept][wrong]] = True
    groups = []
    for group_bin in np.unique(of[kept & ~bad[number]]).tolist():
        group, at = divmod(group_bin, bins.n)
        counts, first = np.unique(count_at[group_bin, bins.first[at] : bins.last[at] + 1], return_index=True)
        order = np.argsort(first)
        starts = tuple((bins.first[at] + first[order]).tolist())
        groups.append(_Group(at, divided[at] & (leader[at] == group), tuple(counts[order].tolist()), starts))
    return groups, divided, bad


def _nest(groups: list[_Group]) -> bool:
    """Return whether any two groups are disjoint, or the one lies within the other and both divide the ages alike."""
    members = np.array([group.members for group in groups]).astype(np.int64)
    common, sizes = members @ members.T, members.sum(axis=1)
    nested = common == np.minimum(sizes[:, None], sizes)
    pattern = {starts: i for i, starts in enumerate(dict.fromkeys(group.starts for group in groups))}
    which = np.array([pattern[group.starts] for group in groups])
    return bool(((common == 0) | (nested & (which[:, None] == which))).all())


@dataclass(frozen=True)
class _Atom:
    """Members of a group that are in none of the groups within it: their counts by age are the group's less those groups'.

    ``terms``: for each count the numbers of the tract's groups that make it, each with its sign.
    """

    members: BoolArray
    starts: tuple[int, ...]
    terms: list[list[tuple[int, int]]]


def _atoms(groups: list[_Group]) -> list[_Atom]:
    """Return the atoms of groups that nest, each column in one at the most."""
    order = sorted(range(len(groups)), key=lambda i: int(groups[i].members.sum()))
    atoms: list[_Atom] = []
    outermost: list[int] = []
    for i in order:  # the smaller come first, so that those still outermost are the ones right within i
        within = [j for j in outermost if (groups[i].members & groups[j].members).any()]
        outermost = [j for j in outermost if j not in within] + [i]
        members = groups[i].members.copy()
        terms = [[(count, 1)] for count in groups[i].counts]
        for j in within:
            members &= ~groups[j].members
            for own, taken in zip(terms, groups[j].counts, strict=True):
                own.append((taken, -1))
        if members.any():
            atoms.append(_Atom(members, groups[i].starts, terms))
    return atoms


class _Published:
    """Of all cells of a product's tract tables: (universes, 252) whom they count, (universes, 103) at which ages they begin or
    end, and (103,) at which any does."""

    def __init__(self, product: Product) -> None:
        ages: dict[tuple[bytes, bytes, bytes], dict[bytes, BoolArray]] = {}
        for table in product.tables_of("tract"):
            for cell in table.cells:
                box = cell.box
                ages.setdefault((box.sex.tobytes(), box.race.tobytes(), box.hisp.tobytes()), {})[box.age.tobytes()] = box.age
        masks = [[np.frombuffer(text, bool) for text in key] for key in ages]
        self.members = np.array([np.outer(sex, np.outer(race, hisp)).ravel() for sex, race, hisp in masks]).astype(np.int64)
        self.edges = np.zeros((len(ages), N_AGES), bool)
        for edges, found in zip(self.edges, ages.values(), strict=True):
            intervals = np.array(list(found.values()))
            edges[1:] = (intervals[:, 1:] != intervals[:, :-1]).any(axis=0)
        self.begin: BoolArray = np.asarray(self.edges.any(axis=0))

    def follow(self, atoms: list[_Atom], first: int, last: int) -> bool:
        """Return whether every cell that divides the bin is a sum of the atoms' counts there."""
        edges = self.edges[:, first + 1 : last + 1]
        dividing = edges.any(axis=1)
        if not dividing.any():
            return True
        if not atoms:
            return False
        members, edges = self.members[dividing], edges[dividing]
        of_atom = np.array([atom.members for atom in atoms]).astype(np.int64)
        cuts = np.array([np.isin(np.arange(first + 1, last + 1), atom.starts) for atom in atoms])
        common = members @ of_atom.T
        whole = ((common == 0) | (common == of_atom.sum(axis=1))).all() and (common.sum(axis=1) == members.sum(axis=1)).all()
        cut_elsewhere = (edges.astype(np.int64) @ (~cuts).T.astype(np.int64)) > 0
        return bool(whole and not (cut_elsewhere & (common > 0)).any())


def _block_bins(product: Product) -> AgeBins:
    """Return ages together that no cell of a block table tells apart."""
    ages = np.array(list({cell.box.age.tobytes(): cell.box.age for t in product.tables_of("block") for cell in t.cells}.values()))
    edges = np.flatnonzero((ages[:, 1:] != ages[:, :-1]).any(axis=0)) + 1
    return AgeBins((0, *edges.tolist()))


def derive_binning(product: Product) -> Binning:
    """Return a product's bins: as wide as every binned answer can be completed; see this module's text."""
    candidates = _block_bins(product)
    written = [constraint for constraint in product.constraints if constraint.partition.level == "tract"]
    groups, single = _written_groups(written, candidates)
    published = _Published(product)
    starts: list[int] = []
    atoms_of: dict[int, list[_Atom]] = {}
    for number, (first, last) in enumerate(zip(candidates.first.tolist(), candidates.last.tolist(), strict=True)):
        of_bin = groups.get(number, [])
        merges = first == last or (not single[number] and (not of_bin or _nest(of_bin)))
        atoms = _atoms(of_bin) if merges else []
        if first < last and not (merges and published.follow(atoms, first, last)):
            starts += [first, *(np.flatnonzero(published.begin[first + 1 : last + 1]) + first + 1).tolist()]
        else:
            atoms_of[len(starts)] = atoms
            starts.append(first)
    bins = AgeBins(tuple(starts))
    return Binning(bins, _year_counts(bins, atoms_of, written, len(product.columns("tract"))))


def _written_groups(written: list[Constraint], bins: AgeBins) -> tuple[dict[int, list[_Group]], BoolArray]:
    """By bin, the groups whose counts the tract's constraints make, numbered through all constraints; and which bins they divide
    otherwise."""
    groups: dict[int, list[_Group]] = {}
    single = np.zeros(bins.n, bool)
    offset = 0
    for constraint in written:
        found, _, bad = _divide(np.where(constraint.written, constraint.partition.index, np.int16(-1)), bins)
        single |= bad
        for group in found:
            numbered = tuple(count + offset for count in group.counts)
            groups.setdefault(group.number, []).append(_Group(group.number, group.members, numbered, group.starts))
        offset += len(constraint.partition.labels)
    return groups, single


def _year_counts(bins: AgeBins, atoms_of: dict[int, list[_Atom]], written: list[Constraint], n_cells: int) -> YearCounts:
    index = np.full((2, bins.n, N_RH), -1, np.int32)
    first: list[int] = []
    last: list[int] = []
    starts = [0]
    terms: list[tuple[int, int, int]] = []  # tract group, count, sign
    for number, atoms in atoms_of.items():
        for atom in atoms:
            index[:, number][atom.members.reshape(2, N_RH)] = len(starts) - 1
            terms += [(group, starts[-1] + i, sign) for i, made_of in enumerate(atom.terms) for group, sign in made_of]
            starts.append(starts[-1] + len(atom.starts))
            first += atom.starts
            last += [start - 1 for start in atom.starts[1:]] + [int(bins.last[number])]
    coefficients = sp.csr_array((n_cells, starts[-1]), dtype=np.int64)
    if terms:
        group, count, sign = np.array(terms, np.int64).T
        of_groups = sp.csr_array(sp.hstack([constraint.partition.coefficients for constraint in written]))
        coefficients = sp.csr_array(of_groups @ sp.csr_array((sign, (group, count)), shape=(of_groups.shape[1], starts[-1])))
    whole = np.array(starts, np.int64), np.array(first, np.int64), np.array(last, np.int64)
    return YearCounts(index.reshape(-1, N_RH), *whole, coefficients)


def binned_constraint(constraint: Constraint, partition: Partition, bins: AgeBins) -> Constraint:
    """Return a constraint over binned kinds; ``partition`` is its partition over these, of :func:`binned_partition`.

    ValueError if counts of it would be lost, which are not divided by the bins as :func:`derive_binning` wants.
    """
    if bins.single:
        return constraint
    written = constraint.written[bins.first_sa]
    if (written & (partition.index < 0)).any():
        raise ValueError(f"{partition.name} is not divided by ages {bins} as its constraints need")
    return Constraint(partition, written)


def binned_partition(partition: Partition, bins: AgeBins) -> Partition:
    """Return a partition over binned kinds, ``index`` (2 n, 126).

    Counts that divide a bin become their sum where they divide it as :func:`derive_binning` wants; else its people are in no group.
    """
    if bins.single:
        return partition
    groups, divided, _ = _divide(partition.index, bins)
    binned = partition.index[bins.first_sa].reshape(2, bins.n, N_RH)
    if divided.any():
        binned[divided.reshape(bins.n, 2, N_RH).transpose(1, 0, 2)] = -1
        for i, group in enumerate(groups):
            binned[:, group.number][group.members.reshape(2, N_RH)] = len(partition.labels) + i
    index = binned.reshape(bins.n_sa, N_RH)
    if not groups:
        return Partition(partition.name, partition.level, index, partition.coefficients, partition.labels)
    return _with_sums(partition, index, [group.counts for group in groups])


def _with_sums(partition: Partition, binned: npt.NDArray[np.int16], sums: list[tuple[int, ...]]) -> Partition:
    """Return the groups that ``binned`` names: the partition's, and numbered after them the sums of some.

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
    chosen = sp.csc_array(sp.hstack([sp.eye_array(n, dtype=np.int64, format="csc"), adds_up.tocsc()]))[:, used]
    coefficients = partition.coefficients @ sp.csr_array(chosen)
    labels = [*partition.labels, *(sum_label(partition.labels[counts[0]], partition.labels[counts[-1]]) for counts in sums)]
    named = tuple(labels[i] for i in used.tolist())
    return Partition(partition.name, partition.level, number_of[binned], sp.csr_array(coefficients), named)


_SUM = re.compile(r"(?P<first>[A-Z]+[0-9A-Z]*[0-9]{2})_(?P<last>[0-9]{2,3})(?P<rest>_[a-z]\w*)?")
_CELL = re.compile(r"(?P<cell>[A-Z]+[0-9]+[A-Z]*[0-9]*)(?P<rest>_.*)?")


def sum_label(first: str, last: str) -> str:
    """Return the name of the sum of consecutive counts: ``PCT012I048_052`` of PCT012I048 to PCT012I052, ``PCT012A048_052_hisp`` of
    PCT012A048_hisp to PCT012A052_hisp."""
    begin, end = _CELL.fullmatch(first), _CELL.fullmatch(last)
    if begin is None or end is None:
        return f"{first}_to_{last}"
    digits = re.search(r"[0-9]+$", end["cell"])
    number = digits[0][-3:] if digits else end["cell"]  # three digits: four would look like a block's number
    return f"{begin['cell']}_{number}{begin['rest'] or ''}"


def cells_of_sum(label: str) -> list[str]:
    """Return the counts that a label of :func:`sum_label` sums; the label itself where it names a single count."""
    match = _SUM.fullmatch(label)
    if match is None:
        return [label]
    last, width = match["last"], len(match["last"])
    prefix, first = match["first"][:-width], match["first"][-width:]
    return [f"{prefix}{number:0{width}d}{match['rest'] or ''}" for number in range(int(first), int(last) + 1)]
