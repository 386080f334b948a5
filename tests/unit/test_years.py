"""Single years given out: every count of the tract is met, and the dealing makes the most expected matches."""

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from dbrecon.errors import InputError, Subject, VerificationError
from dbrecon.recon.census.bins import derive_binning
from dbrecon.recon.census.kinds import N_KINDS, N_RH, IntArray, join_kind
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.people.dealing import SCALE, Flows, Sizes, best_flows, gains, improve
from dbrecon.recon.people.people import BinnedPeople
from dbrecon.recon.people.years import Undealt, deal_tracts, deal_years
from dbrecon.recon.tract.verify import verify_people
from tests.helpers import tables_of

PRODUCT, BLOCK_PRODUCT = load_product(), load_product(tables="block")
BINNING = derive_binning(PRODUCT)
TRACT = 10001000100


def binned(people: list[tuple[int, int]]) -> BinnedPeople:
    """People (four-digit block, kind) by the bins of the 2010 tables."""
    bins = BINNING.bins
    kinds = bins.of_kind(np.array([kind for _, kind in people]))
    block = TRACT * 10_000 + np.array([block for block, _ in people])
    first = bins.first_kind(kinds)
    return BinnedPeople(block, first, bins.last[bins.split(kinds)[1]], np.ones(len(people), np.int64)).merged()


def kind_of(sex: int, age: int, race: int, hisp: int) -> int:
    return int(join_kind(*(np.array([value]) for value in (sex, age, race, hisp)))[0])


PEOPLE = st.lists(st.tuples(st.integers(1000, 1003), st.integers(0, N_KINDS - 1)), min_size=1, max_size=80)
ALIKE = st.lists(st.tuples(st.integers(1000, 1004), st.sampled_from([kind_of(0, age, 32, 0) for age in range(45, 50)])), min_size=2)


@given(st.one_of(PEOPLE, ALIKE), st.integers(0, 5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_people_meet_every_published_cell(people: list[tuple[int, int]], seed: int, best: bool) -> None:
    tables = tables_of(PRODUCT, people)
    verify_people(PRODUCT, tables, deal_years(binned(people), BINNING, tables.tract_cells, seed, "x", best), "x", Subject.SOLUTION)


@given(ALIKE, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_people_does_not_matter(drawn: list[tuple[int, int]], random: Random) -> None:
    tables = tables_of(PRODUCT, drawn)
    people_in_order = binned(drawn)
    order = np.array(random.sample(range(len(people_in_order.kind)), len(people_in_order.kind)))
    other = BinnedPeople(
        people_in_order.geoid_block[order], people_in_order.kind[order], people_in_order.last[order], people_in_order.count[order]
    )
    first, second = (deal_years(people, BINNING, tables.tract_cells, 3, "x") for people in (people_in_order, other))
    assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("geoid_block", "kind", "count"))


def test_many_tracts_at_once_get_what_each_gets_alone() -> None:
    rng = np.random.default_rng(3)
    drawn = [[(1000 + int(b), kind_of(0, int(a), 32, 0)) for b, a in zip(rng.integers(0, 9, n), rng.integers(40, 60, n),
    strict=True)]
             for n in (5, 80, 300)]  # fmt: skip
    tracts = [Undealt(binned(people), tables_of(PRODUCT, people).tract_cells, seed, "x") for seed, people in enumerate(drawn)]
    for tract, together in zip(tracts, deal_tracts(tracts, BINNING), strict=True):
        alone = deal_years(tract.people, BINNING, tract.tract_cells, tract.seed, tract.source)
        assert all(np.array_equal(getattr(alone, name), getattr(together, name)) for name in ("geoid_block", "kind", "count"))


def test_people_of_known_age_keep_it_and_the_others_get_the_rest() -> None:
    """A solution may count some of a bin's people by single years."""
    people = [(1000, kind_of(0, age, 32, 0)) for age in (45, 46, 47)]
    tables = tables_of(PRODUCT, people)
    known = BinnedPeople(np.array([TRACT * 10_000 + 1000]), np.array([people[1][1]]), np.array([46]), np.array([1]))
    two = BinnedPeople(known.geoid_block, np.array([people[0][1]]), np.array([49]), np.array([2]))
    both = BinnedPeople(*(np.concatenate([getattr(known, n), getattr(two, n)]) for n in ("geoid_block", "kind", "last", "count")))
    dealt = deal_years(both, BINNING, tables.tract_cells, 0, "x")
    assert sorted(dealt.kind.tolist()) == sorted(kind for _, kind in people)


def test_people_of_a_group_that_the_tract_counts_otherwise_are_refused() -> None:
    tables = tables_of(PRODUCT, [(1000, kind_of(0, 45, 32, 0))])
    with pytest.raises(
        VerificationError, match=r"x\.sol: its people do not reproduce the published tables: 2 of the ages 45 to 49"
    ):
        deal_years(binned([(1000, kind_of(0, 45, 32, 0))] * 2), BINNING, tables.tract_cells, 0, "x.sol")


def test_ages_that_are_no_bin_of_the_tables_are_refused() -> None:
    tables = tables_of(PRODUCT, [(1000, kind_of(0, 45, 32, 0))])
    one_entry = np.array([1])
    strange = BinnedPeople(one_entry * TRACT * 10_000 + 1000, one_entry * kind_of(0, 45, 32, 0), one_entry * 47, one_entry)
    with pytest.raises(
        InputError, match=r"x\.sol: counts the ages 45 to 47 together, which are no bin of this experiment's tables"
    ):
        deal_years(strange, BINNING, tables.tract_cells, 0, "x.sol")


def test_where_no_table_tells_years_they_are_spread_evenly() -> None:
    people = [(1000 + i % 7, kind_of(1, 50, 16, 0)) for i in range(50)]
    dealt = deal_years(binned(people), derive_binning(BLOCK_PRODUCT), np.zeros(0, np.int64), 0, "x")
    ages = np.repeat(dealt.kind // N_RH % 103, dealt.count)
    assert np.bincount(ages, minlength=55)[50:55].tolist() == [10] * 5


def test_another_seed_gives_other_years() -> None:
    people = [(1000 + i % 20, kind_of(0, 45 + i % 5, 32, 0)) for i in range(40)]
    tables = tables_of(PRODUCT, people)
    dealt = [deal_years(binned(people), BINNING, tables.tract_cells, seed, "x") for seed in (0, 0, 1)]
    assert np.array_equal(dealt[0].kind, dealt[1].kind)
    assert not (np.array_equal(dealt[0].kind, dealt[2].kind) and np.array_equal(dealt[0].geoid_block, dealt[2].geoid_block))


# --- the most expected matches ---------------------------------------------------------------------------------------


def expected_matches(given_out: IntArray, ages: IntArray) -> float:
    """Of entries (entries, ages): the sum of E min(k, X), X hypergeometric, the plain way."""
    total = int(ages.sum())
    return float(
        sum(
            sum(hypergeom.sf(j - 1, total, int(p), int(row.sum())) for j in range(1, int(k) + 1))
            for row in given_out
            for k, p in zip(row, ages, strict=True)
        )
    )


def all_dealings(sizes: list[int], ages: list[int]) -> list[list[tuple[int, ...]]]:
    """Every way to give ``ages`` to entries of ``sizes``."""
    if not sizes:
        return [[]]
    ways = []
    for row in itertools.product(*(range(min(sizes[0], p) + 1) for p in ages)):
        if sum(row) == sizes[0]:
            left = [p - k for p, k in zip(ages, row, strict=True)]
            ways += [[row, *rest] for rest in all_dealings(sizes[1:], left)]
    return ways


def dealt_by_size(sizes: list[int], ages: list[int]) -> tuple[Sizes, IntArray]:
    """A group's sizes, and any flow to begin with: the ages in their order."""
    size, entries = np.unique(sizes, return_counts=True)
    years = np.repeat(np.arange(len(ages)), ages)
    owner = np.repeat(np.arange(len(size)), size * entries)
    flow = np.zeros((len(size), len(ages)), np.int64)
    np.add.at(flow, (owner, years), 1)
    return Sizes(np.zeros(len(size), np.int64), size, entries), flow


def value_of(sizes: Sizes, flow: IntArray, ages: IntArray) -> float:
    """Expected matches of a flow, each size's years spread evenly over its entries."""
    gain = gains(sizes.size[None, :], ages[None, :])[0]
    total = 0
    for s, (m, row) in enumerate(zip(sizes.entries, flow, strict=True)):
        for a, k in enumerate(row):
            total += sum(int(gain[s, a, i // m + 1]) for i in range(int(k)))
    return total / SCALE


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.data())
@settings(max_examples=80, deadline=None)
def test_no_dealing_has_more_expected_matches(sizes: list[int], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, sum(sizes)), min_size=2, max_size=2)))
    ages = [cuts[0], cuts[1] - cuts[0], sum(sizes) - cuts[1]]
    best = max(expected_matches(np.array(way), np.array(ages)) for way in all_dealings(sizes, ages))
    of_sizes, begin = dealt_by_size(sizes, ages)
    flow = best_flows(of_sizes, begin, np.array([0, 3]), np.array(ages))
    assert flow.sum(axis=0).tolist() == ages
    assert (flow.sum(axis=1) == of_sizes.size * of_sizes.entries).all()
    assert value_of(of_sizes, flow, np.array(ages)) == pytest.approx(best, abs=1e-6)


def test_where_greedy_dealing_is_not_the_best() -> None:
    sizes, begin = dealt_by_size([1, 3, 3], [4, 2, 1])
    flow = best_flows(sizes, begin, np.array([0, 3]), np.array([4, 2, 1]))
    assert value_of(sizes, flow, np.array([4, 2, 1])) == pytest.approx(5.00, abs=0.005)


@pytest.mark.parametrize("seed", range(12))
def test_the_end_is_as_good_from_any_beginning(seed: int) -> None:
    """Also where only a cycle of three ages or more helps."""
    rng = np.random.default_rng(seed)
    size, entries = np.array([1, 2, 4, 7]), rng.integers(1, 4, 4)
    ages = rng.multinomial(int((size * entries).sum()), rng.dirichlet(np.ones(6)))
    ends = set()
    for _ in range(4):
        owner = rng.permutation(np.repeat(np.arange(4), size * entries))
        flow = np.zeros((1, 4, 6), np.int64)
        np.add.at(flow[0], (owner, np.repeat(np.arange(6), ages)), 1)
        flows = Flows(size[None, :], entries[None, :], ages[None, :], flow)
        ends.add(round(value_of(Sizes(np.zeros(4, np.int64), size, entries), improve(flows)[0], ages), 9))
    assert len(ends) == 1
