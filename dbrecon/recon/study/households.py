"""The people of one synthetic tract: households by type, group quarters, ages, races. See :mod:`dbrecon.recon.study.synthetic`.

Shares of household types, group quarters and races are rough figures for the United States in 2010, tuned until ages,
sexes, races and block sizes came out near the published totals: realistic, not an estimate of anything.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import N_RACE_SETS, N_RH, RACE_BITS, RACES, IntArray, age_category, join_kind

GROUPS = ("white", "black", "hispanic", "asian", "aian", "nhopi")
"""Whom a head of household counts with; all but the third are not Hispanic."""

Floats = npt.NDArray[np.float64]
OLDEST = 112


class Quarters(NamedTuple):
    """A kind of group quarters: people of a typical one, share of women, and how its residents' ages are drawn."""

    name: str
    typical: int
    women: float


QUARTERS = (Quarters("prison", 1100, 0.05), Quarters("dormitory", 500, 0.53), Quarters("nursing home", 95, 0.69))
QUARTERS_SHARE = (0.0073, 0.0082, 0.0049)
"""Share of all people who live in each: 2.3, 2.5 and 1.5 of 308.7 million."""

SINGLE, COUPLE, FAMILY, ONE_PARENT, SHARING = range(5)
_TYPES = np.array([0.26, 0.275, 0.25, 0.115, 0.10])
_TYPES_CONCENTRATION = 60.0
_ADULTS = np.array([1, 2, 2, 1, 2])
_MEAN_SIZE = 2.3  # below the true mean of about 2.6, so that enough households are drawn at once
_GRANDPARENT = 0.05
_MIXED_COUPLE = 0.06
_OTHER_RACE_KEPT = 0.45  # a child of parents who differ has one parent's races rather than both's
_BLOCK_SPREAD = {False: 1.05, True: 1.2}
_TRACT_CONCENTRATION = 2.8
_BLOCK_CONCENTRATION = 9.0


@dataclass(frozen=True)
class TractPeople:
    """``block`` (n,) is a populated block's position 0..n_blocks-1, ``kind`` (n,) as in :mod:`dbrecon.recon.census.kinds`."""

    n_blocks: int
    block: IntArray
    kind: IntArray


@dataclass(frozen=True)
class _Households:
    """One entry a person, in order of household: what the ages and races are made from."""

    household: IntArray
    role: IntArray  # 0 head, 1 .. adults-1 other adults, then children, then a grandparent
    type: IntArray  # of the household
    adults: IntArray
    children: IntArray

    @property
    def is_child(self) -> npt.NDArray[np.bool_]:
        return (self.role >= self.adults) & (self.role < self.adults + self.children)

    @property
    def is_grandparent(self) -> npt.NDArray[np.bool_]:
        return self.role >= self.adults + self.children


def people_of_tract(rng: np.random.Generator, people: int, blocks: int, quarters: IntArray, races: Floats) -> TractPeople:
    """Make exactly ``people`` people in up to ``blocks`` blocks of households and one for each of the group quarters.

    ``quarters`` (3,) are the people in each kind of QUARTERS; ``races`` (6,) the county's shares of GROUPS. With too
    few households for the blocks there are fewer blocks.
    """
    tract_races = rng.dirichlet(races * _TRACT_CONCENTRATION + 0.004)
    homes = _households(rng, people - int(quarters.sum()))
    n_homes = int(homes.household[-1]) + 1 if len(homes.household) else 0
    n_blocks = min(blocks, n_homes)
    block_of_home = _place(rng, n_homes, n_blocks)
    block_races = rng.dirichlet(tract_races * _BLOCK_CONCENTRATION + 1e-3, n_blocks)
    age = _ages(rng, homes)
    sex = _sexes(rng, homes, age)
    race_hisp = _races(rng, homes, block_races[block_of_home])
    block = [block_of_home[homes.household]]
    kind = [_kinds(sex, age, race_hisp)]
    for which, residents in enumerate(quarters.tolist()):
        if residents:
            block.append(np.full(residents, n_blocks))
            kind.append(_residents(rng, which, residents, tract_races))
            n_blocks += 1
    mixed = rng.permutation(n_blocks)  # or group quarters would always have the last number
    return TractPeople(n_blocks, mixed[np.concatenate(block)], np.concatenate(kind))


def _kinds(sex: IntArray, age: IntArray, race_hisp: IntArray) -> IntArray:
    return join_kind(sex, age_category(age), race_hisp // 2 + 1, race_hisp % 2)


def _households(rng: np.random.Generator, people: int) -> _Households:
    """Return households of exactly ``people`` people in all: the last one loses whom there is no room for."""
    mix = rng.dirichlet(_TYPES * _TYPES_CONCENTRATION)
    n = int(people / _MEAN_SIZE) + 20
    while True:
        kind = rng.choice(len(_TYPES), n, p=mix)
        adults = _ADULTS[kind] + np.where(kind == SHARING, rng.poisson(0.6, n), 0)
        children = np.where(kind == FAMILY, 1 + np.minimum(rng.poisson(1.0, n), 6), 0)
        children += np.where(kind == ONE_PARENT, 1 + np.minimum(rng.poisson(0.7, n), 5), 0)
        children += np.where(kind == SHARING, rng.random(n) < 0.2, 0)
        size = adults + children + ((rng.random(n) < _GRANDPARENT) & (children > 0))
        if size.sum() >= people:
            break
        n *= 2
    household = np.repeat(np.arange(n), size)[:people]
    role = (np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size))[:people]
    return _Households(household, role, kind[household], adults[household], children[household])


def _place(rng: np.random.Generator, homes: int, blocks: int) -> IntArray:
    """Return (homes,) the block of each household: every block has one, the rest go by the blocks' very different sizes."""
    if not blocks:
        return np.zeros(0, np.int64)
    weights = rng.lognormal(0, _BLOCK_SPREAD[homes > 20 * blocks], blocks)
    place = rng.choice(blocks, homes, p=weights / weights.sum())
    place[rng.permutation(homes)[:blocks]] = np.arange(blocks)
    return place


def _ages(rng: np.random.Generator, homes: _Households) -> IntArray:
    """Return ages in years. The household's head has one by its type, the others one that goes with it."""
    first = homes.role == 0
    head = _ages_of_heads(rng, homes.type[first])
    of_head = head[homes.household]
    noise = rng.standard_normal(len(homes.role))
    sharing = homes.type == SHARING
    adult = np.clip(of_head + np.where(sharing, 5.0, 3.6) * noise - 1, 18, OLDEST)
    age = np.where(first, of_head, adult)
    # Children are born when the parent was about 28; who would not be born yet, or be 25, has any age that fits.
    child = of_head - np.clip(28 + 5.5 * noise, 15, 45)
    fits = np.clip(of_head - 16, 1, 18)
    child = np.where((child < 0) | (child >= 25), rng.random(len(child)) * fits, child)
    age = np.where(homes.is_child, child, age)
    age = np.where(homes.is_grandparent, np.clip(of_head + 28 + 4 * noise, 40, OLDEST), age)
    return np.floor(age).astype(np.int64)


def _ages_of_heads(rng: np.random.Generator, kind: IntArray) -> Floats:
    n = len(kind)
    young, middle = 20 + 18 * rng.random(n), 40 + 26 * rng.random(n)
    old = 64 + np.where(kind == SINGLE, rng.triangular(0, 0, 37, n), rng.triangular(0, 0, 30, n))
    phase = rng.random(n)
    by_phase = np.where(phase < 0.17, young, np.where(phase < 0.61, middle, old))
    parent = np.where(kind == FAMILY, rng.triangular(22, 42, 62, n), rng.triangular(18, 37, 60, n))
    sharing = rng.triangular(18, 30, 75, n)
    has_children = (kind == FAMILY) | (kind == ONE_PARENT)
    return np.minimum(np.where(has_children, parent, np.where(kind == SHARING, sharing, by_phase)), OLDEST)


def _sexes(rng: np.random.Generator, homes: _Households, age: IntArray) -> IntArray:
    """0 male, 1 female. More women live alone in old age; two adults of a couple nearly always differ."""
    first = homes.role == 0
    women = np.full(len(age), 0.475)
    women[homes.is_child] = 0.485
    women[homes.is_grandparent] = 0.68
    women[first & (homes.type == ONE_PARENT)] = 0.72
    alone = first & (homes.type == SINGLE)
    women[alone] = np.clip(0.39 + (age[alone] - 40) * 0.009, 0.38, 0.82)
    sex = (rng.random(len(age)) < women).astype(np.int64)
    partner = np.flatnonzero((homes.role == 1) & ((homes.type == COUPLE) | (homes.type == FAMILY)))
    sex[partner] = np.where(rng.random(len(partner)) < 0.99, 1 - sex[partner - 1], sex[partner - 1])
    return sex


def _races(rng: np.random.Generator, homes: _Households, shares: Floats) -> IntArray:
    """Return (n,) (race - 1) * 2 + hisp of each person; ``shares`` (households, 6) of GROUPS where the household lives."""
    n = len(shares)
    head = _draw_race(rng, _draw_group(rng, shares))
    partner = head.copy()
    other = rng.random(n)
    fresh = other < _MIXED_COUPLE
    partner[fresh] = head[rng.integers(0, n, int(fresh.sum()))] if n else head[:0]
    of_head, of_partner = head[homes.household], partner[homes.household]
    result: IntArray = np.where((homes.role > 0) & (homes.role < homes.adults), of_partner, of_head)
    children = homes.is_child & (homes.adults > 1) & (of_head != of_partner)
    both = children & (rng.random(len(result)) >= _OTHER_RACE_KEPT)
    union = (of_head // 2 + 1) | (of_partner // 2 + 1)
    result[both] = ((union - 1) * 2 + ((of_head % 2) | (of_partner % 2)))[both]
    return result


def _draw_group(rng: np.random.Generator, shares: Floats) -> IntArray:
    """Return (n,) an index of GROUPS for each row of shares (n, 6)."""
    reached = np.cumsum(shares, axis=1)
    groups: IntArray = np.minimum((rng.random(len(shares))[:, None] > reached).sum(axis=1), len(GROUPS) - 1)
    return groups


def _draw_race(rng: np.random.Generator, group: IntArray) -> IntArray:
    """Return (n,) (race - 1) * 2 + hisp of a person of each group."""
    found = np.searchsorted(_REACHED, group + rng.random(len(group)), side="right")
    kinds: IntArray = np.clip(found - group * N_RH, 0, N_RH - 1)
    return kinds


def _residents(rng: np.random.Generator, which: int, n: int, tract_races: Floats) -> IntArray:
    """Return (n,) kinds of the residents of a prison (men of working age), a dormitory (18 to 22), a nursing home (old)."""
    if which == 0:
        age: npt.NDArray[np.floating] = rng.triangular(18, 30, 62, n)
        shares = 0.5 * tract_races + 0.5 * np.array([0.36, 0.40, 0.20, 0.01, 0.02, 0.01])
    elif which == 1:
        age = 18.0 + rng.choice(5, n, p=[0.26, 0.31, 0.22, 0.15, 0.06])
        shares = 0.5 * tract_races + 0.5 * np.array([0.68, 0.12, 0.10, 0.09, 0.005, 0.005])
    else:
        age = np.clip(rng.normal(83, 9, n), 45, OLDEST)
        shares = tract_races
    sex = (rng.random(n) < QUARTERS[which].women).astype(np.int64)
    group = _draw_group(rng, np.tile(shares, (n, 1)))
    return _kinds(sex, np.floor(age).astype(np.int64), _draw_race(rng, group))


def _race_shares() -> Floats:
    """Return (6, 126) how likely a person of each of GROUPS has each (race set, origin)."""
    several = dict(zip(GROUPS, (0.010, 0.030, 0.05, 0.075, 0.22, 0.45), strict=True))
    alone = {
        "hispanic": {"white": 0.56, "sor": 0.40, "black": 0.022, "aian": 0.014, "asian": 0.003, "nhopi": 0.001},
    }
    shares = np.zeros((len(GROUPS), N_RH))
    for row, group in enumerate(GROUPS):
        own = alone.get(group, {group: 0.998, "sor": 0.002})
        hisp = int(group == "hispanic")
        for race, share in own.items():
            shares[row, (RACE_BITS[race] - 1) * 2 + hisp] += share * (1 - several[group])
        base = "white" if group == "hispanic" else group
        shares[row, hisp::2] += several[group] * _several_races(RACE_BITS[base])
    rows: Floats = shares / shares.sum(axis=1, keepdims=True)
    return rows


def _several_races(own: int) -> Floats:
    """Return (63,) shares of the sets of two and more races with the race ``own``: each race more makes a set rarer."""
    frequent = {"white": 4.0, "black": 1.2, "aian": 0.9, "asian": 0.7, "nhopi": 0.15, "sor": 1.0}
    shares = np.zeros(N_RACE_SETS)
    for code in range(1, N_RACE_SETS + 1):
        others = [race for race in RACES if code & RACE_BITS[race] & ~own]
        if code & own and others:
            shares[code - 1] = np.prod([0.2 * frequent[race] for race in others])
    return np.asarray(shares / shares.sum())


_REACHED = (np.cumsum(_race_shares(), axis=1) + np.arange(len(GROUPS))[:, None]).ravel()
