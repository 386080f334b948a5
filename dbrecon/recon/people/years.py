"""Single years of age, given out to people who are counted by bins.

The tract's tables count each group of a bin (:class:`dbrecon.recon.census.bins.YearCounts`) by year; any dealing of these years to
the group's members meets every published cell.

The *even* dealing spreads: the n people of an entry (of one block, alike but for the year) take the (k + u) / n quantiles
(k = 0 .. n - 1) of the group's years, u a number in [0, 1) that is drawn for the block and kind from the seed. The *best* one first
divides the group's years among its entries of one size, two, three ... so that the most one-to-one matches with the truth are
expected (:mod:`dbrecon.recon.people.dealing`), then deals evenly to those of each size.

Where no table tells years the people of each sex and bin are spread evenly over its categories: such years carry no information.

A pure function of the people, the published cells and the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbrecon.errors import InputError, Subject, VerificationError
from dbrecon.recon.census.bins import AgeBins, Binning
from dbrecon.recon.census.kinds import N_AGES, N_RH, IntArray
from dbrecon.recon.people.dealing import Sizes, best_flows
from dbrecon.recon.people.people import BinnedPeople, People

UNSIGNED = np.uint64


@dataclass(frozen=True)
class Undealt:
    """The people of a tract's solution, the tract's published cells, the seed, and what errors call the place the people come
    from."""

    people: BinnedPeople
    tract_cells: IntArray
    seed: int
    source: str


def deal_years(people: BinnedPeople, binning: Binning, tract_cells: IntArray, seed: int, source: str, best: bool = True) -> People:
    """People with single age categories, by the best dealing or the even one. ``tract_cells`` are their tract's published cells.

    Raises InputError for an interval that is no bin of ``binning``, VerificationError where the people of a group are not as many
    as the tract's cells tell; ``source`` is what errors call the place the people come from. The order of ``people`` does not
    matter.
    """
    return deal_tracts([Undealt(people, tract_cells, seed, source)], binning, best)[0]


def deal_tracts(tracts: Sequence[Undealt], binning: Binning, best: bool = True) -> list[People]:
    """As :func:`deal_years`, the same for many tracts at once, which is faster than one by one."""
    years = binning.years
    parts = [_Part.of(tract, binning) for tract in tracts]
    binned = _joined([part.grouped for part in parts])
    tract = np.repeat(np.arange(len(parts)), [len(part.group) for part in parts])
    group = np.concatenate([part.group for part in parts]) + tract * years.n_groups
    n = len(years.first)
    starts = np.append((np.arange(len(parts))[:, None] * n + years.starts[:-1]).ravel(), len(parts) * n)
    seeds = np.array([tract.seed for tract in tracts], np.int64)
    dealt = _deal(binned, group, starts, np.concatenate([part.left for part in parts]), seeds[tract], best)
    owner, count = np.divmod(dealt.last, max(1, n))
    intervals = BinnedPeople(
        dealt.geoid_block, dealt.kind + (years.first[count] - dealt.age) * N_RH, years.last[count], dealt.count
    )
    return [part.with_years(intervals.select(owner == i), tracts[i].seed) for i, part in enumerate(parts)]


@dataclass(frozen=True)
class _Part:
    """What is known of a tract's people: ``known`` of single ages, ``grouped`` whose ages the tract tells (``group`` of each entry,
    ``left`` of each count), ``ungrouped`` whose ages no table tells."""

    known: People
    grouped: BinnedPeople
    group: IntArray
    left: IntArray
    ungrouped: BinnedPeople

    @classmethod
    def of(cls, tract: Undealt, binning: Binning) -> "_Part":
        people = tract.people.merged()
        exact = people.exact
        known = People(people.geoid_block[exact], people.kind[exact], people.count[exact])
        binned = people.select(~exact)
        kinds = _binned_kinds(binned, binning.bins, tract.source)
        left = binning.years.values(tract.tract_cells) - _taken(known, binning)
        group = binning.years.index.ravel()[kinds].astype(np.int64)
        in_group = group >= 0
        if len(group):
            _check_totals(group[in_group], binned.count[in_group], left, binning, tract.source)
        else:
            left = np.zeros_like(left)  # whoever checks the cells will tell better what is wrong
        return cls(known, binned.select(in_group), group[in_group], left, binned.select(~in_group))

    def with_years(self, intervals: BinnedPeople, seed: int) -> People:
        """Return the tract's people, when those whose ages are told have these ``intervals``."""
        whole = intervals.select(intervals.exact)
        rest = _joined([intervals.select(~intervals.exact), self.ungrouped])
        parts = [self.known, People(whole.geoid_block, whole.kind, whole.count)]
        return People.concatenate([*parts, _spread(rest, np.full(len(rest.kind), seed, np.int64))]).merged()


def _binned_kinds(people: BinnedPeople, bins: AgeBins, source: str) -> IntArray:
    number = bins.of_age[people.age]
    strange = (bins.first[number] != people.age) | (bins.last[number] != people.last)
    if strange.any():
        i = int(np.argmax(strange))
        wide = f"{people.age[i]} to {people.last[i]}"
        raise InputError(
            f"{source}: counts the ages {wide} together, which are no bin of this experiment's tables",
            about=Subject.LP_AND_SOLUTION,
        )
    return bins.of_kind(people.kind)


def _taken(known: People, binning: Binning) -> IntArray:
    """Return how many of each count of the tract the people of known age are. Zeros where all counts are of wide bins' members."""
    years, bins = binning.years, binning.bins
    taken = np.zeros(len(years.first), np.int64)
    age = known.kind // N_RH % N_AGES
    wide = (bins.last > bins.first)[bins.of_age[age]]
    if wide.any():
        age, count = age[wide], known.count[wide]
        group = years.index.ravel()[bins.of_kind(known.kind[wide])]
        age, count, group = age[group >= 0], count[group >= 0], group[group >= 0]
        key = np.repeat(np.arange(years.n_groups), np.diff(years.starts)) * N_AGES + years.last
        np.add.at(taken, np.searchsorted(key, group * N_AGES + age), count)
    return taken


def _check_totals(group: IntArray, count: IntArray, left: IntArray, binning: Binning, source: str) -> None:
    """Whether each group has as many people as years are left for it."""
    years = binning.years
    totals = np.add.reduceat(left, years.starts[:-1]) if years.n_groups else np.zeros(0, np.int64)
    found = np.bincount(group, weights=count, minlength=years.n_groups).astype(np.int64)
    wrong = totals != found
    if wrong.any() or (left < 0).any():
        g = int(np.argmax(wrong)) if wrong.any() else int(np.searchsorted(years.starts, np.argmin(left), side="right")) - 1
        ages = f"{years.first[years.starts[g]]} to {years.last[years.starts[g + 1] - 1]}"
        raise VerificationError(
            f"{source}: its people do not reproduce the published tables: {found[g]} of the ages {ages} are of a group of "
            f"which the tract's tables count {totals[g]}; nothing was kept",
            about=Subject.LP_AND_SOLUTION,
        )


def _deal(people: BinnedPeople, group: IntArray, starts: IntArray, counts: IntArray, seed: IntArray, best: bool) -> BinnedPeople:
    """Give each group's counts to its members: evenly, or by the best flow to entries of each size, and evenly among these.

    In the answer ``last`` is the number of the count.
    """
    number = np.repeat(np.arange(len(counts)), counts)  # groups ascend in both, and have as many people as years
    person = _in_order(people, group, seed)
    if best and len(person):
        key = group * (int(people.count.max()) + 1) + people.count
        _, an_entry, size, entries = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
        sizes = Sizes(group[an_entry], people.count[an_entry], entries)
        n_ages = int(np.diff(starts).max())
        numbers = starts[sizes.group][:, None] + np.arange(n_ages)
        cell = size[person] * n_ages + number - starts[group[person]]
        even = np.bincount(cell, minlength=numbers.size).reshape(numbers.shape)
        number = np.repeat(numbers.ravel(), best_flows(sizes, even, starts, counts).ravel())
        person = _in_order(people, size, seed)
    return _tallied(people, person, number, len(counts))


def _in_order(people: BinnedPeople, group: IntArray, seed: IntArray) -> IntArray:
    """Return the people one by one (their entries' numbers), group by group, in the order of their quantiles."""
    person = np.repeat(np.arange(len(group)), people.count)
    return person[np.lexsort((person, _quantiles(people, seed), group[person]))]


def _tallied(people: BinnedPeople, person: IntArray, number: IntArray, n_numbers: int) -> BinnedPeople:
    """People one by one (``person``: their entry, ``number``: what each was given) as counts again, ``last`` holding the number."""
    key, count = np.unique(person * n_numbers + number, return_counts=True)
    entry, given = np.divmod(key, max(1, n_numbers))
    return BinnedPeople(people.geoid_block[entry], people.kind[entry], given, count.astype(np.int64))


def _quantiles(people: BinnedPeople, seed: IntArray) -> npt.NDArray[np.float64]:
    """Return where each person stands among the entry's: (k + u) / n, one after the other."""
    n = people.count
    within = np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n, n)
    return (within + np.repeat(_draws(people, seed), n)) / np.repeat(n, n)


def _draws(people: BinnedPeople, seed: IntArray) -> npt.NDArray[np.float64]:
    """Return a number in [0, 1) for each entry, of block, kind and seed: splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    state = _mixed(seed.astype(UNSIGNED))
    for values in (people.geoid_block, people.kind):
        state = _mixed(state ^ values.astype(UNSIGNED))
    return (state >> UNSIGNED(11)).astype(np.float64) * 2.0**-53


def _mixed(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = state + UNSIGNED(0x9E3779B97F4A7C15)
    state = (state ^ (state >> UNSIGNED(30))) * UNSIGNED(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> UNSIGNED(27))) * UNSIGNED(0x94D049BB133111EB)
    return state ^ (state >> UNSIGNED(31))


def _joined(parts: Sequence[BinnedPeople]) -> BinnedPeople:
    names = ("geoid_block", "kind", "last", "count")
    return BinnedPeople(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _spread(people: BinnedPeople, seed: IntArray) -> People:
    """Give the people of each sex and interval its categories evenly: of N people the one at rank i category i w // N of its w."""
    key = people.kind // N_RH * N_AGES + people.last
    _, group = np.unique(key, return_inverse=True)
    person = _in_order(people, group, seed)
    sizes = np.bincount(group, weights=people.count).astype(np.int64)
    rank = np.arange(len(person)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    width = (people.last - people.age + 1)[person]
    dealt = _tallied(people, person, rank * width // sizes[group[person]], N_AGES)
    return People(dealt.geoid_block, dealt.kind + dealt.last * N_RH, dealt.count)
