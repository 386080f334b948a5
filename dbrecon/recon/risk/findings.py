"""What is found of a reconstruction, county by county: small sums that a report is made of, whatever the size of the place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, N_RH, N_SA, IntArray
from dbrecon.recon.census.tables import Product
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People
from dbrecon.recon.risk.matching_study import County, between, pieces_of, study_pieces
from dbrecon.recon.risk.reidentification import (
    NO_BLOCKS,
    Blocks,
    BoolArray,
    Known,
    MarkedRecords,
    Records,
    Tally,
    confirmed_pairs,
    in_two_passes,
)
from dbrecon.recon.risk.sure import SureBlocks, SureSizes
from dbrecon.recon.study.evaluation import (
    MEASURES,
    PEOPLE_AT_ONCE,
    SIZE_STARTS,
    Agreement,
    BlockCounts,
    CountyEvaluation,
    Margins,
    NoBaselines,
    binned,
    compare,
    matched_by_block,
)

Floats = npt.NDArray[np.float64]

LEVELS = 1000
"""Confidence is told in steps of 1 / LEVELS."""

RECORDS, TRUE, MATCHED, CONFIRMED = range(4)
FIVE_YEARS = 5
OLDEST_GROUP = 85 // FIVE_YEARS


@dataclass(frozen=True)
class Results:
    """A county's results. ``people`` are in their file's order, and so are ``certain`` (n,) and ``confidence`` (n,), 0 to 1: the
    share of samples that have the record. ``blocks`` and these two are None where they are not known."""

    people: Records
    blocks: SureBlocks | None = None
    certain: BoolArray | None = None
    confidence: Floats | None = None


@dataclass(frozen=True)
class Truth:
    """The true people of a county, and what an attacker knows of them (see :class:`Known`)."""

    people: Records
    known: Known

    @classmethod
    def known_to_all(cls, people: Records) -> "Truth":
        """Make an attacker who knows everybody's block, sex and age."""
        return cls(people, Known.of_truth(people.without_race(), np.arange(len(people)), people))


@dataclass(frozen=True)
class Tracts:
    """Tracts with people, ascending: ``geoid`` (T,), ``people`` (T,); ``differ`` and ``certain`` people, ``true`` people and how
    many of them are ``matched`` with ages in bins: (T,) floats, NaN where that is not known."""

    geoid: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    people: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    differ: Floats = field(default_factory=lambda: np.empty(0))
    certain: Floats = field(default_factory=lambda: np.empty(0))
    true: Floats = field(default_factory=lambda: np.empty(0))
    matched: Floats = field(default_factory=lambda: np.empty(0))

    def __add__(self, other: "Tracts") -> "Tracts":
        return Tracts(*(np.concatenate([getattr(self, f), getattr(other, f)]) for f in self.__dataclass_fields__))

    def by_county(self) -> "Tracts":
        """Return the same sums by county (SSCCC as a number); NaN for one of which a tract is not known."""
        county, at = np.unique(self.geoid // 10**6, return_inverse=True)
        names = list(self.__dataclass_fields__)[1:]
        sums = [np.bincount(at, weights=getattr(self, name), minlength=len(county)).astype(np.float64) for name in names]
        return Tracts(county, sums[0].astype(np.int64), *sums[1:])


@dataclass(frozen=True)
class Findings:
    """Sums over counties. ``sex_age`` (206,) people by sex and age category; ``published`` (2, 18) people by sex and five years of
    age as tables have them, None where no table tells; ``blocks`` and ``block_people`` (7,) by size of block.

    ``baselines``: whether the tables tell what the agreement's baselines need.
    ``agreement`` and ``tallies`` (one a repeat) are of counties with a truth. ``by_confidence`` (1001, 4): records, true ones,
    matched with an attacker's, of these confirmed. ``certain`` (2,): certain records of counties with a truth, and the true ones.
    ``evaluated_by``: the files of true people of an earlier evaluation, which gave ``agreement``.
    """

    sex_age: IntArray = field(default_factory=lambda: np.zeros(N_SA, np.int64))
    published: IntArray | None = field(default_factory=lambda: np.zeros((2, OLDEST_GROUP + 1), np.int64))
    blocks: IntArray = field(default_factory=lambda: np.zeros(len(SIZE_STARTS), np.int64))
    block_people: IntArray = field(default_factory=lambda: np.zeros(len(SIZE_STARTS), np.int64))
    sure: SureSizes = field(default_factory=SureSizes)
    tracts: Tracts = field(default_factory=Tracts)
    agreement: Agreement = field(default_factory=Agreement)
    baselines: bool = True
    tallies: tuple[Tally, ...] = ()
    by_confidence: IntArray = field(default_factory=lambda: np.zeros((LEVELS + 1, 4), np.int64))
    certain: IntArray = field(default_factory=lambda: np.zeros(2, np.int64))
    evaluated_by: frozenset[str] = frozenset()

    def __add__(self, other: "Findings") -> "Findings":
        published = None if self.published is None or other.published is None else self.published + other.published
        tallies = tuple(a + b for a, b in zip(self.tallies, other.tallies, strict=True)) if self.tallies and other.tallies else ()
        rest = [n for n in self.__dataclass_fields__ if n not in ("published", "tallies", "baselines", "evaluated_by")]
        sums = {name: getattr(self, name) + getattr(other, name) for name in rest}
        baselines, by = self.baselines and other.baselines, self.evaluated_by | other.evaluated_by
        tallies = tallies or self.tallies or other.tallies
        return Findings(**sums, published=published, baselines=baselines, tallies=tallies, evaluated_by=by)

    @property
    def people(self) -> int:
        """How many people are reconstructed."""
        return int(self.sex_age.sum())

    @property
    def knows_certainty(self) -> bool:
        """Whether certainty has been found for some county."""
        return bool(self.sure.blocks.sum())

    @property
    def knows_truth(self) -> bool:
        """Whether true people were given for some county."""
        return bool(self.agreement.truth.sum())


def find(
    product: Product,
    county: int,
    results: Results,
    published: IntArray | None,
    truth: Truth | None,
    population: tuple[int, Floats],
    seed: int,
    repeats: int,
) -> Findings:
    """Find what there is to tell of one county (SSCCC as a number).

    ``published`` (2, 18): see :func:`published_ages`. ``population``: what ``population_of`` gives for the whole place; the draws
    are those of ``evaluate`` and ``study`` of the same seed.
    """
    people = results.people
    size = np.searchsorted(SIZE_STARTS, block_people := np.unique(people.block, return_counts=True)[1], side="right") - 1
    found = Findings(
        sex_age=np.bincount(people.sa, minlength=N_SA),
        published=published,
        blocks=np.bincount(size, minlength=len(SIZE_STARTS)),
        block_people=np.bincount(size, weights=block_people, minlength=len(SIZE_STARTS)).astype(np.int64),
        sure=SureSizes() if results.blocks is None else SureSizes.of(results.blocks),
        tracts=sum((_tracts(results.blocks, *piece) for piece in _tract_pieces(people, truth)), Tracts()),
    )
    return found if truth is None else found + _compared(product, county, results, truth, population, seed, repeats)


def evaluated(found: Findings, kept: CountyEvaluation, truth: Sequence[str]) -> Findings:
    """Return what was found of one county without a truth, and how much of it an evaluation against ``truth`` found true."""
    if kept.agreement is None:
        return found
    at = np.searchsorted(kept.tracts, found.tracts.geoid)
    here = np.isin(found.tracts.geoid, kept.tracts)
    true, matched = np.zeros(len(here)), np.zeros(len(here))
    true[here], matched[here] = kept.true[at[here]], kept.matched[at[here], MEASURES.index("binned_age")]
    tracts = replace(found.tracts, true=true, matched=matched)
    return replace(
        found, agreement=kept.agreement, baselines=kept.agreement.baselines, tracts=tracts, evaluated_by=frozenset(truth)
    )


def _compared(
    product: Product, county: int, results: Results, truth: Truth, population: tuple[int, Floats], seed: int, repeats: int
) -> Findings:
    """Measure what the truth tells of a county."""
    agreement = _agreement(product, results.people, truth.people, np.random.default_rng([seed, county]))
    settled = NO_BLOCKS if results.blocks is None else Blocks(results.blocks.geoid, results.blocks.differ == 0)
    marks = None if results.certain is None else MarkedRecords(results.certain)
    tallies = study_pieces(truth.known, County(results.people, settled, marks), truth.people, population, (seed, county), repeats)
    certain = np.zeros(2, np.int64)
    if results.certain is not None:
        is_true = true_records(results.people, truth.people, results.certain.astype(np.float64))
        certain[:] = results.certain.sum(), (results.certain & is_true).sum()
    levels = np.zeros((LEVELS + 1, 4), np.int64)
    if results.confidence is not None:
        levels = _by_confidence(results.people, results.confidence, truth, np.random.default_rng([seed, county, 0]))
    known = agreement.baselines
    return Findings(agreement=agreement, baselines=known, tallies=tuple(tallies), by_confidence=levels, certain=certain)


def _agreement(product: Product, records: Records, truth: Records, rng: np.random.Generator) -> Agreement:
    people = _people(records)
    return compare(people, _people(truth), baseline_counts(product, people), rng, records.bins)


def baseline_counts(product: Product, people: People) -> BlockCounts | None:
    """Count what the baselines know of blocks, from people who reproduce the tables; None where no table tells it."""
    try:
        return Margins(product).of_people(people)
    except NoBaselines:
        return None


def _people(records: Records) -> People:
    return People(records.block, records.sa * N_RH + records.rh, np.ones(len(records), np.int64))


def _merged(records: Records) -> People:
    return _people(records).merged()


def _tract_pieces(people: Records, truth: Truth | None) -> Iterator[tuple[Records, Records | None]]:
    """Yield people and true people, some whole tracts at a time so that memory does not grow with the county."""
    for low, high in pieces_of(people.block, PEOPLE_AT_ONCE):
        true = None if truth is None else truth.people.select(between(truth.people.block, low, high))
        yield people.select(between(people.block, low, high)), true


def _tracts(blocks: SureBlocks | None, records: Records, truth: Records | None) -> Tracts:
    geoid, people = np.unique(records.block // BLOCKS_PER_TRACT, return_counts=True)

    def summed(block: IntArray, number: IntArray) -> Floats:
        at = np.searchsorted(geoid, tract := block // BLOCKS_PER_TRACT)
        inside = at < len(geoid)
        inside[inside] = geoid[at[inside]] == tract[inside]
        return np.bincount(at[inside], weights=number[inside], minlength=len(geoid)).astype(np.float64)

    unknown = np.full(len(geoid), np.nan)
    differ, certain, true, matched = unknown, unknown, unknown, unknown
    if blocks is not None:
        differ, certain = (summed(blocks.geoid, number) for number in (blocks.differ, blocks.certain))
    if truth is not None:
        everyone = _merged(truth)
        true = summed(everyone.geoid_block, everyone.count)
        matched = summed(*matched_by_block(binned(_merged(records), records.bins), binned(everyone, records.bins)))
    return Tracts(geoid, people, differ, certain, true, matched)


def true_records(people: Records, truth: Records, first: Floats) -> BoolArray:
    """Return (n,) which records are true: one to one with a true one of equal block, sex, bin of age, race and origin.

    Of equal records those with the highest ``first`` (n,) are matched first, then in their order.
    """
    key, wanted = people.binned * N_RH + people.rh, np.sort(truth.binned * N_RH + truth.rh)
    order = np.lexsort((-first, key))
    ordered = key[order]
    rank = np.arange(len(key)) - np.searchsorted(ordered, ordered, side="left")
    number = np.searchsorted(wanted, ordered, side="right") - np.searchsorted(wanted, ordered, side="left")
    is_true = np.zeros(len(key), bool)
    is_true[order] = rank < number
    return is_true


def _by_confidence(people: Records, confidence: Floats, truth: Truth, rng: np.random.Generator) -> IntArray:
    """Return (1001, 4) records, true ones, matched and confirmed ones by confidence."""
    level = np.rint(confidence * LEVELS).astype(np.int64)
    match = in_two_passes(truth.known.records, people, rng)
    confirmed = confirmed_pairs(truth.known, truth.people, people, match, rng)
    of_level = (level, level[true_records(people, truth.people, confidence)], level[match.right], level[match.right][confirmed])
    return np.stack([np.bincount(levels, minlength=LEVELS + 1) for levels in of_level], axis=1)


def precision_by_rank(levels: IntArray, points: int = 100) -> Floats:
    """(points, 2) share of putative matches taken, most confident first, and the precision among them; ``levels`` (1001, 4) as in
    :class:`Findings`, with at least one match.

    Source: Dick et al., PNAS 2023 (RAP-Rank). Of equally confident matches the expected number is confirmed.
    """
    here = np.flatnonzero(levels[:, MATCHED])[::-1]
    matched, confirmed = (np.concatenate([[0], np.cumsum(levels[here, column])]) for column in (MATCHED, CONFIRMED))
    taken = np.unique(np.maximum(1, np.linspace(0, matched[-1], points + 1)[1:].round()))
    return np.column_stack([taken / matched[-1], np.interp(taken, matched, confirmed) / taken])


def five_years(sex_age: IntArray) -> IntArray:
    """Return (2, 18) people by sex and five-year group of age, the last of 85 and over, of (206,) by sex and age category."""
    sex, age = np.divmod(np.arange(N_SA), N_AGES)
    counts = np.zeros((2, OLDEST_GROUP + 1), np.int64)
    np.add.at(counts, (sex, np.minimum(FIRST_AGES[age] // FIVE_YEARS, OLDEST_GROUP)), sex_age)
    return counts


def published_ages(product: Product, level: str, cells: IntArray) -> IntArray | None:
    """(2, 18) people by sex and five-year group of age as tables have them: ``cells`` (cells of the level,) are summed over units.

    None where no table of the level counts everybody by sex and ages that make such groups.
    """
    groups = np.minimum(np.tile(FIRST_AGES // FIVE_YEARS, 2), OLDEST_GROUP) + np.repeat([0, OLDEST_GROUP + 1], N_AGES)
    for partition in product.partitions.values():
        if partition.level != level or not partition.by_sa_only or (partition.index < 0).any():
            continue
        part = partition.index[:, 0].astype(np.int64)
        first = np.array([groups[part == number].min() for number in range(len(partition.labels))])
        last = np.array([groups[part == number].max() for number in range(len(partition.labels))])
        if (first == last).all():
            counts = np.asarray(cells.astype(np.int64) @ partition.coefficients).astype(np.int64)
            return np.bincount(first, weights=counts, minlength=2 * (OLDEST_GROUP + 1)).astype(np.int64).reshape(2, -1)
    return None


def total(parts: Sequence[Findings]) -> Findings:
    """Return the sums over some counties."""
    found = Findings()
    for part in parts:
        found += part
    return found
