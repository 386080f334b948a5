"""Synthetic states of any size: counties, tracts, blocks and people that look like America's, from a seed.

:func:`plan_state` lays out the geography without people (a few numbers a tract); :func:`make_county` fills one
county. Every tract has its own random stream, made of seed, state, county and tract, so counties can be made in any
order, anywhere, and are the same. Memory is bounded by a county. There is a Python loop over tracts, none over
households or people.

How people are made (:mod:`dbrecon.recon.study.households` makes the people of one tract):
a tract's households and group quarters (prisons, dormitories, nursing homes), of races mixed as the tract's and the
block's draw from a Dirichlet distribution around the county's. Counts of people, tracts and
blocks are the 2010 Census's; other shares are rough, chosen so that tables look alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dbrecon.errors import UsageError
from dbrecon.recon.census.kinds import N_KINDS, N_RACE_SETS, N_RH, IntArray
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, HEADER, People, people_csv
from dbrecon.recon.product.writer import County
from dbrecon.recon.study.households import QUARTERS, QUARTERS_SHARE, TractPeople, people_of_tract

FEWEST_PEOPLE = 1000
"""A smaller state has no room for every kind of block and of race."""

PEOPLE_PER_COUNTY = 98_232  # 308,745,538 / 3,143
PEOPLE_PER_TRACT = 4_257  # 308,745,538 / 72,531 tracts with people
MOST_COUNTIES = 400
MOST_TRACTS = 9_000
MOST_BLOCKS = 8_000  # of a tract: nine block groups of a thousand numbers each

SMALLEST_COUNTY = 90
_WATER_TRACT = 990_000
_PARK_TRACT = 980_000
_TRUTH_LINES_AT_ONCE = 200_000
_COUNTY_SPREAD = 1.3
_TRACT_SPREAD = 0.38
_EMPTY_PER_POPULATED = 0.78  # 4,871,270 empty blocks and 6,207,027 populated ones
_URBAN_SHARE = 0.7
_PEOPLE_PER_BLOCK = {True: 74.0, False: 30.0}  # of urban and rural tracts: 50 on the whole
_RACE_SHARES = np.array([0.656, 0.122, 0.163, 0.047, 0.009, 0.003])  # by head of household: see households.GROUPS

_COUNTY_NAMES = (
    "Adams",
    "Peñasco",
    "Clark",
    "Douglas",
    "Fairfield",
    "Grant",
    "Jefferson",
    "Lincoln",
    "Marion",
    "Warren",
)


@dataclass(frozen=True)
class CountyPlan:
    """A county's geography, one entry a tract with people; ``races`` (6,) are its shares of ``households.GROUPS``."""

    code: str
    name: str
    tracts: IntArray  # six-digit numbers
    people: IntArray
    populated_blocks: IntArray  # of households: group quarters have blocks of their own
    empty_blocks: IntArray
    quarters: IntArray  # (tracts, 3): people in the tract's prison, dormitory and nursing home, 0 if it has none
    races: tuple[float, ...]
    empty_tracts: tuple[int, ...]  # with a block each and nobody: water, a park

    @property
    def population(self) -> int:
        """People of the county."""
        return int(self.people.sum())


@dataclass(frozen=True)
class StatePlan:
    """A state's geography. ``state`` is its two-digit FIPS code."""

    stusab: str
    state: str
    seed: int
    counties: tuple[CountyPlan, ...]

    @property
    def population(self) -> int:
        """People of the state, exactly."""
        return sum(county.population for county in self.counties)

    @property
    def n_tracts(self) -> int:
        """Tracts, those without people too."""
        return sum(len(county.tracts) + len(county.empty_tracts) for county in self.counties)


def plan_state(
    stusab: str,
    state: str,
    people: int,
    seed: int,
    counties: int | None = None,
    big_tract: int = 0,
    big_block: int = 0,
    tracts: int | None = None,
) -> StatePlan:
    """Lay out a state of exactly ``people`` people.

    ``stusab`` and ``state`` are its postal and FIPS codes; ``counties`` is their number (else as many as is usual);
    ``big_tract`` and ``big_block``, if not 0, are the people of one tract more that is unusually large, the latter
    all in one block; ``tracts`` is about how many with people there are, each county rounding its own (else as many as is usual).

    Raises UsageError for numbers that cannot be.
    """
    if tracts is not None and not 0 < tracts <= people:
        raise UsageError(f"{people} people cannot be dealt into {tracts} tracts")
    if people < FEWEST_PEOPLE:
        raise UsageError(f"{people} people are too few for a synthetic state; take at least {FEWEST_PEOPLE}")
    n = counties or min(max(4, round(people / PEOPLE_PER_COUNTY)), MOST_COUNTIES)
    ordinary = people - big_tract - big_block
    if not 1 <= n <= min(MOST_COUNTIES, ordinary // SMALLEST_COUNTY):
        raise UsageError(
            f"{ordinary} people cannot be dealt into {n} counties; take 1 to {MOST_COUNTIES}, each of {SMALLEST_COUNTY} and up"
        )
    if min(big_tract, big_block) < 0:
        raise UsageError("a big tract or block cannot have a negative number of people; take 0 for none")
    rng = np.random.default_rng([seed, int(state)])
    weights = rng.lognormal(0, _COUNTY_SPREAD, n)
    sizes = SMALLEST_COUNTY + apportion(ordinary - n * SMALLEST_COUNTY, weights)
    largest = int(np.argmax(sizes))
    plans = []
    for i, size in enumerate(sizes.tolist()):
        extra = ((big_tract, False), (big_block, True)) if i == largest else ()
        park, per_tract = i == largest, people / tracts if tracts else PEOPLE_PER_TRACT
        plans.append(_plan_county(rng, i, size, tuple(e for e in extra if e[0]), park, per_tract))
    return StatePlan(stusab, state, seed, tuple(plans))


def apportion(total: int, weights: np.ndarray) -> IntArray:
    """Whole numbers in proportion to ``weights`` that add up to ``total`` (largest remainders)."""
    exact = total * weights / weights.sum()
    whole: IntArray = np.floor(exact).astype(np.int64)
    missing = total - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return whole


def _plan_county(
    rng: np.random.Generator, number: int, people: int, extra: tuple[tuple[int, bool], ...], park: bool, per_tract: float
) -> CountyPlan:
    n = max(1, round(people / per_tract))
    if n > MOST_TRACTS:
        raise UsageError(f"a county of {people} people has more than {MOST_TRACTS} tracts; ask for more counties")
    sizes = apportion(people, np.clip(rng.lognormal(0, _TRACT_SPREAD, n), 0.33, 2.0))
    quarters = _plan_quarters(rng, sizes)
    urban = rng.random(n) < _URBAN_SHARE
    density = np.where(urban, _PEOPLE_PER_BLOCK[True], _PEOPLE_PER_BLOCK[False]) * rng.lognormal(0, 0.35, n) * 1.06
    populated = np.clip(np.rint((sizes - quarters.sum(axis=1)) / density), 1, None).astype(np.int64)
    for size, in_one_block in extra:
        sizes = np.append(sizes, size)
        quarters = np.vstack([quarters, np.zeros((1, len(QUARTERS)), np.int64)])
        populated = np.append(populated, 1 if in_one_block else max(1, round(size / _PEOPLE_PER_BLOCK[True])))
    populated = np.minimum(populated, MOST_BLOCKS // 2)
    empty = rng.poisson(populated * _EMPTY_PER_POPULATED * rng.lognormal(0, 0.3, len(sizes)))
    empty = np.minimum(empty, MOST_BLOCKS - populated - len(QUARTERS))
    tracts = 100 * np.arange(1, len(sizes) + 1) + rng.choice([0, 1, 2], len(sizes), p=[0.6, 0.2, 0.2])
    coastal = number % 3 == 1 or number == 0
    nobody = ((_PARK_TRACT,) if park else ()) + ((_WATER_TRACT,) if coastal else ())
    races = rng.dirichlet(_RACE_SHARES * 14)
    name = f"{_COUNTY_NAMES[number % len(_COUNTY_NAMES)]} County"
    return CountyPlan(f"{2 * number + 1:03d}", name, tracts, sizes, populated, empty, quarters, tuple(races), nobody)


def _plan_quarters(rng: np.random.Generator, sizes: IntArray) -> IntArray:
    """Return people in group quarters, (tracts, 3): of few tracts, with less than half of their people."""
    quarters = np.zeros((len(sizes), len(QUARTERS)), np.int64)
    for i, (kind, share) in enumerate(zip(QUARTERS, QUARTERS_SHARE, strict=True)):
        tracts = max(1, round(int(sizes.sum()) * share / kind.typical)) if sizes.sum() > 20 * kind.typical else 0
        chosen = rng.choice(len(sizes), min(tracts, len(sizes)), replace=False)
        wanted = np.rint(kind.typical * rng.lognormal(-0.1, 0.5, len(chosen))).astype(np.int64)
        quarters[chosen, i] = np.minimum(wanted, sizes[chosen] // 6)
    return quarters


def make_counties(plan: StatePlan) -> Iterator[County]:
    """Yield all counties of a plan, in order, one at a time; their people are in ascending order of block."""
    for i in range(len(plan.counties)):
        yield make_county(plan, i)


def make_county(plan: StatePlan, index: int) -> County:
    """Return the plan's county ``index`` with its people. The same plan and index always give the same."""
    county = plan.counties[index]
    first = int(plan.state + county.code) * 10**6
    blocks, parts = [], []
    for i, tract in enumerate(county.tracts.tolist()):
        rng = np.random.default_rng([plan.seed, int(plan.state), int(county.code), tract])
        made = people_of_tract(
            rng, int(county.people[i]), int(county.populated_blocks[i]), county.quarters[i], np.array(county.races)
        )
        numbers = _block_numbers(rng, made.n_blocks, int(county.empty_blocks[i]))
        blocks.append((first + tract) * BLOCKS_PER_TRACT + numbers)
        populated = np.sort(rng.permutation(len(numbers))[: made.n_blocks])
        parts.append(_tract_people(made, blocks[-1][populated]))
    for tract in county.empty_tracts:
        # Water is block 0001 of block group 0.
        blocks.append(np.array([(first + tract) * BLOCKS_PER_TRACT + (1 if tract == _WATER_TRACT else 1000)]))
    people = People.concatenate(parts)
    if index == _most_populous(plan):
        people = _with_every_race_set(np.random.default_rng([plan.seed, int(plan.state)]), people)
    tracts = np.sort(np.concatenate([first + county.tracts, first + np.array(county.empty_tracts, np.int64)]))
    return County(county.code, county.name, tracts, np.sort(np.concatenate(blocks)), people)


def truth_lines(county: County) -> Iterator[bytes]:
    """Yield the lines of the county's people as a people's file has them, without its header, some tracts at a time."""
    people = county.people
    ends = np.cumsum(people.count)
    tract = people.geoid_tract
    start = 0
    while start < len(tract):
        wanted = np.searchsorted(ends, (ends[start - 1] if start else 0) + _TRUTH_LINES_AT_ONCE)
        stop = int(np.searchsorted(tract, tract[min(wanted, len(tract) - 1)], side="right"))
        piece = People(people.geoid_block[start:stop], people.kind[start:stop], people.count[start:stop])
        yield people_csv(piece)[len(HEADER) :]
        start = stop


def _most_populous(plan: StatePlan) -> int:
    return int(np.argmax([county.population for county in plan.counties]))


def _block_numbers(rng: np.random.Generator, populated: int, empty: int) -> IntArray:
    """Return four-digit numbers of a tract's blocks, ascending: block groups 1, 2, ... of about equal size."""
    n = populated + empty
    groups = min(9, max(-(-n // 999), int(rng.integers(1, 5))))
    each = np.array([len(part) for part in np.array_split(np.arange(n), groups)])
    return np.concatenate([1000 * (group + 1) + np.arange(size) for group, size in enumerate(each.tolist())])


def _tract_people(made: TractPeople, blocks: IntArray) -> People:
    """Return entries of a tract in ascending order of block and kind, each once."""
    key, count = np.unique(made.block * N_KINDS + made.kind, return_counts=True)
    return People(blocks[key // N_KINDS], key % N_KINDS, count.astype(np.int64))


def _with_every_race_set(rng: np.random.Generator, people: People) -> People:
    """Return the same people, but one each of 63 of them has the next of the 63 sets of races."""
    persons = rng.choice(people.population, N_RACE_SETS, replace=False)
    entries = np.searchsorted(np.cumsum(people.count), persons, side="right")
    count = people.count.copy()
    np.subtract.at(count, entries, 1)
    kind = people.kind[entries]
    race_and_origin = np.arange(N_RACE_SETS) * 2 + kind % 2
    changed = People(people.geoid_block[entries], kind // N_RH * N_RH + race_and_origin, np.ones(N_RACE_SETS, np.int64))
    return People.concatenate([People(people.geoid_block, people.kind, count), changed]).merged()
