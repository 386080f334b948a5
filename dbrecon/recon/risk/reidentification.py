"""Reidentification: what an attacker who knows people's block, sex and age learns of race and origin from a reconstruction.

Source of the study: Abowd et al., arXiv 2312.11283, section 5. An attacker's record is matched one to one with a reconstructed
one of its block, first on sex and exact age, then on sex and bin of age (*putative* match). It is *confirmed* when the true
record of the same id has the race set and the origin of the reconstructed one. Precision is confirmed / putative, recall is
confirmed / true people.

Beside the reconstruction three guesses are matched in the same way, so that each rate has its baselines:

* ``modal guess`` (the paper's MDG): everybody has the race and origin that most people of the block have; of ties, and in blocks
  of one person, those of the block group, and if these tie, of all people of the study.
* ``proportional guess`` (PRG): each person's race and origin are drawn from the block's, in proportion.
* ``random people``: sex and bin of age, race set, and origin of three people of the block drawn independently; the year at random
  in the bin.

The chance that *somebody* fits (Ruggles and Van Riper, "The Role of Chance") is given too: how often a person of random sex and
age, drawn from all people of the study, finds somebody of that sex and age in the block.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.bins import COMPARISON_BINS, AgeBins
from dbrecon.recon.census.kinds import N_AGES, N_RH, IntArray
from dbrecon.recon.people.people import People
from dbrecon.recon.risk.matching import EXACT, Match, match_in_two_passes
from dbrecon.recon.study.evaluation import SIZE_STARTS

BoolArray = npt.NDArray[np.bool_]

METHODS = ("reconstruction", "modal guess", "proportional guess", "random people")
CLASSES = (
    "all",
    "modal",
    "nonmodal",
    "unique",
    "variability 0",
    "nonmodal, variability 0",
    "nonmodal, unique, variability 0",
    "certain",
)
"""Whom the rates are of. Modal: of the block's most frequent race and origin. Unique: the only person of block, sex and bin of age.
Variability 0: the block has one solution on binned age. Certain: matched with a record that every solution has."""

MEASURES = ("known", "putative", "putative_exact", "confirmed", "confirmed_exact", "true_people")
BLOCK_GROUPS = 1000  # a block group's id is a block's without its last three digits


@dataclass(frozen=True)
class Records:
    """People one an entry: ``block`` 15-digit ids as numbers, ``sa`` = sex * 103 + age category, ``rh`` = (race - 1) * 2 + origin.

    ``rh`` is -1 where it is not known. int64 arrays of one length. ``bins`` are those in which ages are compared, the same for all
    records of a study.
    """

    block: IntArray
    sa: IntArray
    rh: IntArray
    bins: AgeBins = COMPARISON_BINS

    def __len__(self) -> int:
        return len(self.block)

    @classmethod
    def of_people(cls, people: People, bins: AgeBins = COMPARISON_BINS) -> "Records":
        """Return each person of merged or unmerged people, in their order."""
        kind = np.repeat(people.kind, people.count)
        return cls(np.repeat(people.geoid_block, people.count), kind // N_RH, kind % N_RH, bins)

    @classmethod
    def concatenate(cls, parts: Sequence["Records"]) -> "Records":
        """All records of ``parts`` (at least one), compared in the same bins."""
        block, sa, rh = (np.concatenate([getattr(part, name) for part in parts]) for name in ("block", "sa", "rh"))
        return cls(block, sa, rh, parts[0].bins)

    def without_race(self) -> "Records":
        """Return what somebody knows who knows block, sex and age alone."""
        return replace(self, rh=np.full(len(self), -1, np.int64))

    def select(self, chosen: BoolArray | IntArray) -> "Records":
        """Return some of the records."""
        return Records(self.block[chosen], self.sa[chosen], self.rh[chosen], self.bins)

    @property
    def exact(self) -> IntArray:
        """A key of block, sex and exact age."""
        return self.block * (2 * N_AGES) + self.sa

    @property
    def binned(self) -> IntArray:
        """A key of block, sex and bin of age."""
        sex, age = np.divmod(self.sa, N_AGES)
        keys: IntArray = self.block * self.bins.n_sa + sex * self.bins.n + self.bins.of_age[age]
        return keys


def in_two_passes(known: Records, others: Records, rng: np.random.Generator) -> Match:
    """Match records one to one on block, sex and exact age, then on block, sex and bin of age."""
    if known.bins != others.bins:
        raise ValueError(f"ages in bins {known.bins} are not compared with ages in bins {others.bins}")
    return match_in_two_passes((known.exact, known.binned), (others.exact, others.binned), rng)


@dataclass(frozen=True)
class Known:
    """An attacker's records, and what the truth says of the same ids.

    ``records.rh`` is -1 (not known to the attacker). ``true`` (n,) is the position of the true record of the same id, -1 without
    one; ``true_rh`` (n,) its race and origin, -1 without one. With ``by_id`` False the truth has no ids: then the positions are
    found by :func:`link_without_ids`, and serve the classes alone.
    """

    records: Records
    true: IntArray
    true_rh: IntArray
    by_id: bool = True

    @classmethod
    def of_truth(cls, records: Records, true: IntArray, truth: Records) -> "Known":
        """Record whose true ones are at positions ``true`` of ``truth``, or at -1."""
        rh = truth.rh[np.maximum(true, 0)] if len(truth) else np.full(len(true), -1, np.int64)
        return cls(records, true, np.where(true >= 0, rh, -1))


@dataclass(frozen=True)
class Blocks:
    """What certainty tells of blocks: ``geoid`` (n,) sorted, ``variability_zero`` (n,). Of others nothing is known."""

    geoid: IntArray
    variability_zero: BoolArray

    def zero(self, block: IntArray) -> BoolArray:
        """Return whether each block is known to have variability 0."""
        if not len(self.geoid):
            return np.zeros(len(block), bool)
        at = np.minimum(np.searchsorted(self.geoid, block), len(self.geoid) - 1)
        unique: npt.NDArray[np.bool_] = (self.geoid[at] == block) & self.variability_zero[at]
        return unique


NO_BLOCKS = Blocks(np.empty(0, np.int64), np.empty(0, bool))


@dataclass(frozen=True)
class Tally:
    """Counts of records: ``counts`` (4 ``METHODS``, 8 ``CLASSES``, 7 block sizes, 6 ``MEASURES``); ``chance`` (2,) expected records
    whose sex and age somebody of the block has by chance, exact and binned, out of ``known`` of everybody."""

    counts: IntArray = field(
        default_factory=lambda: np.zeros((len(METHODS), len(CLASSES), len(SIZE_STARTS), len(MEASURES)), np.int64)
    )
    chance: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.counts + other.counts, self.chance + other.chance)

    def count(self, method: str, group: str, measure: str, size: int | None = None) -> int:
        """Return one count; of all block sizes, or of one (its position in SIZE_STARTS)."""
        here = self.counts[METHODS.index(method), CLASSES.index(group), :, MEASURES.index(measure)]
        return int(here.sum() if size is None else here[size])

    def precision(self, method: str, group: str = "all", size: int | None = None) -> float:
        """Return confirmed / putative, 0 to 1; NaN without putative matches."""
        return _ratio(self.count(method, group, "confirmed", size), self.count(method, group, "putative", size))

    def recall(self, method: str, group: str = "all", size: int | None = None) -> float:
        """Return confirmed / true people, 0 to 1; NaN where there are none."""
        return _ratio(self.count(method, group, "confirmed", size), self.count(method, group, "true_people", size))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def link_without_ids(known: Records, truth: Records, rng: np.random.Generator) -> IntArray:
    """For each of an attacker's records a true one of its block, sex and exact age, else bin of age; -1 where none is left."""
    match = in_two_passes(known, truth, rng)
    linked = np.full(len(known), -1, np.int64)
    linked[match.left] = match.right
    return linked


def most_frequent(unit: IntArray, rh: IntArray) -> tuple[IntArray, IntArray, BoolArray]:
    """Return (units sorted, race and origin that most people of the unit have, whether no other has as many)."""
    pair, count = np.unique(unit * N_RH + rh, return_counts=True)
    units, first = np.unique(pair // N_RH, return_index=True)
    sizes = np.diff(np.append(first, len(pair)))
    is_mode = count == np.repeat(np.maximum.reduceat(count, first), sizes) if len(pair) else np.zeros(0, bool)
    modes = pair[is_mode]
    _, first_mode, number = np.unique(modes // N_RH, return_index=True, return_counts=True)
    return units, modes[first_mode] % N_RH, number == 1


def modal_guess(people: Records, everywhere: int) -> Records:
    """Return the paper's MDG on reconstructed people; ``everywhere`` is the race and origin that most people of the study have."""
    blocks, mode, single = most_frequent(people.block, people.rh)
    alone = np.bincount(np.searchsorted(blocks, people.block), minlength=len(blocks)) == 1
    groups, group_mode, group_single = most_frequent(people.block // BLOCK_GROUPS, people.rh)
    of_group = np.where(group_single, group_mode, everywhere)[np.searchsorted(groups, blocks // BLOCK_GROUPS)]
    guess = np.where(single & ~alone, mode, of_group)
    return replace(people, rh=guess[np.searchsorted(blocks, people.block)])


def proportional_guess(people: Records, rng: np.random.Generator) -> Records:
    """Return the paper's PRG on reconstructed people: race and origin of somebody of the block, drawn with replacement."""
    return replace(people, rh=people.rh[_somebody_of_block(people.block, rng)])


def marginal_people(people: Records, rng: np.random.Generator) -> Records:
    """As many random people of each block, by three independent draws from its published margins, and a year of the bin."""
    sex, age = np.divmod(people.sa[_somebody_of_block(people.block, rng)], N_AGES)
    race = people.rh[_somebody_of_block(people.block, rng)] // 2
    origin = people.rh[_somebody_of_block(people.block, rng)] % 2
    first, years = people.bins.first, people.bins.last - people.bins.first + 1
    of_age = people.bins.of_age[age]
    drawn = sex * N_AGES + first[of_age] + rng.integers(0, years[of_age])
    return replace(people, sa=drawn, rh=race * 2 + origin)


def _somebody_of_block(block: IntArray, rng: np.random.Generator) -> IntArray:
    """For each person the position of a random person of the same block."""
    order = np.argsort(block, kind="stable")
    ordered = block[order]
    first = np.searchsorted(ordered, block, side="left")
    size = np.searchsorted(ordered, block, side="right") - first
    chosen: IntArray = order[first + rng.integers(0, size)]
    return chosen


class Marks(Protocol):
    """What tells which of the reconstructed records every solution has."""

    def marks(self, people: Records) -> BoolArray:
        """Return one for each record."""


@dataclass(frozen=True)
class MarkedRecords:
    """The records' certainty as it stands in a file, one flag for each, in their order."""

    flags: BoolArray

    def marks(self, people: Records) -> BoolArray:
        """Return the flags. Raises InputError if they are not as many as the people."""
        if len(people) != len(self.flags):
            found = f"the certainty of {len(self.flags)} people is known, but there are {len(people)}"
            raise InputError(found, about=Subject.CERTAINTY)
        return self.flags


@dataclass(frozen=True)
class Certain:
    """How many records of each (block, kind) every solution has: merged people."""

    people: People

    def marks(self, people: Records) -> BoolArray:
        """Of equal records as many as are certain, the first ones, are marked. Age counts by its bin."""
        certain = Records.of_people(self.people, people.bins)
        key, wanted = people.binned * N_RH + people.rh, certain.binned * N_RH + certain.rh
        order = np.argsort(key, kind="stable")
        ordered, wanted = key[order], np.sort(wanted)
        rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered, side="left")
        number = np.searchsorted(wanted, ordered, side="right") - np.searchsorted(wanted, ordered, side="left")
        marks = np.zeros(len(key), bool)
        marks[order] = rank < number
        return marks


def study_county(
    known: Known,
    reconstructed: Records,
    truth: Records,
    everywhere: int,
    sex_age_shares: npt.NDArray[np.float64],
    rng: np.random.Generator,
    blocks: Blocks = NO_BLOCKS,
    certain: Marks | None = None,
) -> Tally:
    """Match an attacker's records of some blocks with a reconstruction and with the baselines; count by class.

    ``known.true`` are positions in ``truth``, the true people of these blocks; an id whose person lives elsewhere has -1 there, and
    counts in "all" alone.
    ``everywhere``: the study's most frequent race and origin; ``sex_age_shares`` (206,) its people by sex and age category.
    """
    tally = Tally()
    size = _block_size(reconstructed.block, known.records.block)
    groups = _classes(known, truth, blocks)
    guesses = (
        reconstructed,
        modal_guess(reconstructed, everywhere),
        proportional_guess(reconstructed, rng),
        marginal_people(reconstructed, rng),
    )
    marks = certain.marks(reconstructed) if certain is not None else np.zeros(len(reconstructed), bool)
    for number, guess in enumerate(guesses):
        match = in_two_passes(known.records, guess, rng)
        confirmed = confirmed_pairs(known, truth, guess, match, rng)
        matched_certain = np.zeros(len(known.records), bool)
        if number == 0:
            matched_certain[match.left] = marks[match.right]
        _add(tally.counts[number], {**groups, "certain": matched_certain}, size, match, confirmed)
    tally.counts[..., MEASURES.index("true_people")] = _true_people(truth, reconstructed, blocks)
    tally.chance[:] = chance_of_somebody(known.records.block, reconstructed, sex_age_shares)
    return tally


def confirmed_pairs(known: Known, truth: Records, guess: Records, match: Match, rng: np.random.Generator) -> BoolArray:
    """Return (pairs,) whether what the guess says of race and origin is true of the person."""
    guessed = guess.rh[match.right]
    if known.by_id:
        return np.asarray(known.true_rh[match.left] == guessed)
    claims = known.records.select(match.left)
    keys = (claims.exact * N_RH + guessed, claims.binned * N_RH + guessed)
    found = match_in_two_passes(keys, (truth.exact * N_RH + truth.rh, truth.binned * N_RH + truth.rh), rng)
    confirmed = np.zeros(len(match), bool)
    confirmed[found.left] = True
    return confirmed


def _block_size(reconstructed: IntArray, block: IntArray) -> IntArray:
    """Return the class of each block (position in SIZE_STARTS) by its reconstructed, hence published, people; the first for empty
    ones."""
    ordered = np.sort(reconstructed)
    people = np.searchsorted(ordered, block, side="right") - np.searchsorted(ordered, block, side="left")
    return np.maximum(np.searchsorted(SIZE_STARTS, people, side="right") - 1, 0)


def _modal(truth: Records) -> BoolArray:
    """Return whether each true person has a race and origin that no other in the block outnumbers."""
    pair, inverse, count = np.unique(truth.block * N_RH + truth.rh, return_inverse=True, return_counts=True)
    if not len(pair):
        return np.zeros(0, bool)
    _, first, sizes = np.unique(pair // N_RH, return_index=True, return_counts=True)
    is_mode = count == np.repeat(np.maximum.reduceat(count, first), sizes)
    return np.asarray(is_mode[inverse])


def _unique(truth: Records) -> BoolArray:
    """Return whether each true person is the only one of block, sex and bin of age."""
    _, inverse, count = np.unique(truth.binned, return_inverse=True, return_counts=True)
    return np.asarray(count[inverse] == 1)


def _classes_of_truth(truth: Records, blocks: Blocks) -> dict[str, BoolArray]:
    """Return (true people,) membership in each class but "certain", which is of matches."""
    modal, unique, zero = _modal(truth), _unique(truth), blocks.zero(truth.block)
    return {
        "all": np.ones(len(truth), bool),
        "modal": modal,
        "nonmodal": ~modal,
        "unique": unique,
        "variability 0": zero,
        "nonmodal, variability 0": ~modal & zero,
        "nonmodal, unique, variability 0": ~modal & unique & zero,
    }


def _classes(known: Known, truth: Records, blocks: Blocks) -> dict[str, BoolArray]:
    """Return (attacker's records,) the same of the people behind them; one without a true record counts in "all" alone."""
    linked = known.true >= 0
    groups = {}
    for name, member in _classes_of_truth(truth, blocks).items():
        groups[name] = np.zeros(len(linked), bool)
        groups[name][linked] = member[known.true[linked]]
    groups["all"] = np.ones(len(linked), bool)
    return groups


def _add(counts: IntArray, groups: Mapping[str, BoolArray], size: IntArray, match: Match, confirmed: BoolArray) -> None:
    """Count one method's matches: ``counts`` (classes, sizes, measures) is added to."""
    exact = match.stage == EXACT
    of_measure = {
        "known": np.arange(len(size)),
        "putative": match.left,
        "putative_exact": match.left[exact],
        "confirmed": match.left[confirmed],
        "confirmed_exact": match.left[confirmed & exact],
    }
    for i, group in enumerate(CLASSES):
        for measure, records in of_measure.items():
            here = records[groups[group][records]]
            counts[i, :, MEASURES.index(measure)] += np.bincount(size[here], minlength=counts.shape[1])


def _true_people(truth: Records, reconstructed: Records, blocks: Blocks) -> IntArray:
    """Return (classes, sizes) how many true people there are; none are "certain", which is of matches."""
    size = _block_size(reconstructed.block, truth.block)
    groups = _classes_of_truth(truth, blocks)
    nobody = np.zeros(len(truth), bool)
    return np.stack([np.bincount(size[groups.get(name, nobody)], minlength=len(SIZE_STARTS)) for name in CLASSES])


def chance_of_somebody(block: IntArray, people: Records, sex_age_shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(2,) how many records in these blocks would find somebody of their sex and age (exact, bin), were theirs drawn at random."""
    sex, age = np.divmod(np.arange(2 * N_AGES), N_AGES)
    bins = people.bins
    binned_shares = np.bincount(sex * bins.n + bins.of_age[age], weights=sex_age_shares, minlength=bins.n_sa)
    found = []
    for key, width, shares in ((people.exact, 2 * N_AGES, sex_age_shares), (people.binned, bins.n_sa, binned_shares)):
        present = np.unique(key)
        blocks, number = np.unique(present // width, return_inverse=True)
        chance = np.bincount(number, weights=shares[present % width], minlength=len(blocks))
        at = np.searchsorted(blocks, block)
        inside = at < len(blocks)
        inside[inside] = blocks[at[inside]] == block[inside]
        found.append(float(chance[at[inside]].sum()))
    return np.array(found)


def population_of(counties: Iterable[Records]) -> tuple[int, npt.NDArray[np.float64]]:
    """Return (the most frequent race and origin of all people, (206,) shares of sex and age category)."""
    rh, sa = np.zeros(N_RH, np.int64), np.zeros(2 * N_AGES, np.int64)
    for records in counties:
        rh += np.bincount(records.rh, minlength=N_RH)
        sa += np.bincount(records.sa, minlength=2 * N_AGES)
    return int(np.argmax(rh)), sa / max(1, sa.sum())
