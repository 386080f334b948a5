"""How good a reconstruction is: cells it does not reproduce, and its agreement with the true people, beside two baselines.

Agreement is the share of the true records that can be matched one to one with reconstructed records that are equal on
{block, sex, age, race, Hispanic}, as in Abowd et al., arXiv 2312.11283: for each combination the smaller of the two counts.
Exact age is the year, from 100 on the category (100-104, 105-109, 110 and over); age in bins is by those that the product names for
comparison, else 38: single years up to 21, then P12's groups.

The baselines know published counts alone, never the truth:

* modal: everybody of the reconstruction gets the race set and Hispanic origin that most people of the block have (of equals the
  one that tables print first, not Hispanic before Hispanic); block, sex and age stay.
* random: as many people as the block has; each gets sex and age group, race set, and origin by three independent draws from
  the block's published counts, and a single age (a category of the 103) from the group, all alike.

Work and memory go county by county; the truth is first sorted into a temporary folder, a file for each county.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.bins import AgeBins, comparison_bins
from dbrecon.recon.census.categories import EVERY_KIND
from dbrecon.recon.census.kinds import N_KINDS, N_RACE_SETS, N_RH, RACE_SETS_IN_ORDER, IntArray
from dbrecon.recon.census.tables import Partition, Product
from dbrecon.recon.csv_pieces import CsvPieces
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People
from dbrecon.recon.study.truth import TruthFile, load_county, sorted_by_county

SIZE_STARTS = (1, 10, 50, 100, 250, 500, 1000)
"""Smallest populations of the classes of blocks."""

METHODS = ("reconstruction", "modal", "random")
MEASURES = ("exact_age", "binned_age")
EXAMPLES = 5

_RH_IN_ORDER = np.array([(code - 1) * 2 + hisp for code in RACE_SETS_IN_ORDER for hisp in (0, 1)])
PEOPLE_AT_ONCE = 200_000

_READ_BYTES = 1 << 22


class WrongCell(NamedTuple):
    """A cell that the people do not reproduce: its name, the unit's GEOID, and the two counts."""

    cell: str
    geoid: str
    published: int
    reconstructed: int


@dataclass(frozen=True)
class Violations:
    """How many published cells of a level are not reproduced, of how many, and the first few of them."""

    wrong: int = 0
    cells: int = 0
    examples: tuple[WrongCell, ...] = ()

    def __add__(self, other: "Violations") -> "Violations":
        examples = (self.examples + other.examples)[:EXAMPLES]
        return Violations(self.wrong + other.wrong, self.cells + other.cells, examples)


class Units(NamedTuple):
    """Published counts of some blocks or tracts: ``geoid`` (n,), ids as numbers; ``cells`` (n, cells of the level)."""

    geoid: IntArray
    cells: npt.NDArray[np.integer]


@dataclass(frozen=True)
class County:
    """What is evaluated of a county: its reconstructed people, and its published units a piece at a time.

    ``blocks`` and ``tracts`` give the county's units when called; each unit comes once. A product without tract tables
    leaves ``tracts`` unused.
    """

    people: People
    blocks: Callable[[], Iterator[Units]]
    tracts: Callable[[], Iterator[Units]]


@dataclass(frozen=True)
class Agreement:
    """Records matched with the truth. The last axis is the class of the block by its true population (``SIZE_STARTS``).

    ``matched`` (3 ``METHODS``, 2 ``MEASURES``, 7); ``truth`` (7,) true people; ``blocks`` (7,) blocks they live in; ``baselines``:
    whether the tables tell what these need.
    """

    matched: IntArray = field(default_factory=lambda: np.zeros((len(METHODS), len(MEASURES), len(SIZE_STARTS)), np.int64))
    truth: IntArray = field(default_factory=lambda: np.zeros(len(SIZE_STARTS), np.int64))
    blocks: IntArray = field(default_factory=lambda: np.zeros(len(SIZE_STARTS), np.int64))
    baselines: bool = True

    def __add__(self, other: "Agreement") -> "Agreement":
        baselines = self.baselines and other.baselines
        return Agreement(self.matched + other.matched, self.truth + other.truth, self.blocks + other.blocks, baselines)

    def known(self, method: str) -> bool:
        """Return whether the method could be used with the tables that there are."""
        return self.baselines or method == METHODS[0]

    def share(self, method: str, measure: str) -> float:
        """Return the share of all true people that are matched, 0 to 1; NaN if there are none, or the method is not known."""
        total = int(self.truth.sum())
        matched = int(self.matched[METHODS.index(method), MEASURES.index(measure)].sum())
        return matched / total if total and self.known(method) else float("nan")


@dataclass(frozen=True)
class CountyEvaluation:
    """What is found of one county. ``agreement`` is None without true people there; then ``tracts`` (T,) is empty.

    ``tracts``: tracts of true people, ascending, 11 digits as numbers; ``true`` (T,) how many they are; ``matched`` (T, 2
    ``MEASURES``) how many of them are matched with reconstructed ones.
    """

    people: int
    violations: Mapping[str, Violations]
    agreement: Agreement | None = None
    tracts: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    true: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    matched: IntArray = field(default_factory=lambda: np.empty((0, len(MEASURES)), np.int64))


@dataclass(frozen=True)
class Evaluation:
    """The result of :func:`evaluate`. Counties are SSCCC.

    ``violations`` has an entry for each level that the product has tables of, over all reconstructed counties; ``agreement`` is
    over ``compared``, the counties that both have; ``left_out`` counts the true people of counties that were not
    reconstructed; ``without_truth`` are the counties of which the truth has nobody; ``people`` are reconstructed in all;
    ``bins`` are those in which ages are compared; ``inexact`` names the tables whose cells are rounded or withheld; ``by``
    says what people are compared by.
    """

    truth_name: str
    people: int
    violations: Mapping[str, Violations]
    agreement: Agreement
    compared: tuple[str, ...]
    left_out: Mapping[str, int]
    without_truth: tuple[str, ...]
    seed: int
    bins: AgeBins
    inexact: tuple[str, ...] = ()
    by: str = EVERY_KIND.words

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, as JSON can hold them; shares are of true people, None where there are none."""
        return {
            "truth": self.truth_name,
            "reconstructed_people": self.people,
            "true_people_compared": int(self.agreement.truth.sum()),
            "counties_compared": list(self.compared),
            "counties_without_truth": list(self.without_truth),
            "true_people_left_out_by_county": dict(self.left_out),
            "violations": {
                level: {"wrong": v.wrong, "cells": v.cells, "examples": [e._asdict() for e in v.examples]}
                for level, v in self.violations.items()
            },
            "agreement": {
                method: {
                    measure: {
                        label: _share(matched, truth) if self.agreement.known(method) else None
                        for label, matched, truth in with_all(self.agreement.matched[i, j], self.agreement.truth)
                    }
                    for j, measure in enumerate(MEASURES)
                }
                for i, method in enumerate(METHODS)
            },
            "true_people_by_block_size": {label: n for label, n, _ in with_all(self.agreement.truth, self.agreement.truth)},
            "blocks_by_block_size": {label: n for label, n, _ in with_all(self.agreement.blocks, self.agreement.truth)},
            "age_bins": str(self.bins),
            "seed_of_random_people": self.seed,
            **({"tables_rounded_or_withheld": list(self.inexact)} if self.inexact else {}),
        }

    def as_json(self) -> str:
        """:meth:`as_dict` as text."""
        return json.dumps(self.as_dict(), indent=2)


def evaluate(
    truth: Sequence[TruthFile],
    counties: Mapping[str, Callable[[], County]],
    product: Product,
    seed: int = 0,
    done: Callable[[str, CountyEvaluation], object] | None = None,
) -> Evaluation:
    """Evaluate the reconstructed ``counties`` (SSCCC -> what loads one) against the files of true people ``truth``; without
    any, count the published cells alone.

    ``product`` is the experiment's (restricted, if it is); ``seed`` draws the random people; ``done`` hears what is found of each
    county. Raises InputError for a truth file that is not of the form, and one that has nobody in any of the counties.
    """
    violations = {level: Violations() for level in ("block", "tract") if product.tables_of(level)}
    margins, bins = margins_of(product), comparison_bins(product)
    agreement, people, compared = Agreement(), 0, []
    nobody: tuple[dict[str, Path], dict[str, int]] = ({}, {})
    truth_name = ", ".join(file.name for file in truth)
    known = sorted_by_county(truth, set(counties), product.categories) if truth else nullcontext(nobody)
    with known as (true_people, left_out):
        if truth and counties and not true_people:
            raise InputError(
                f"{truth_name}: has nobody in the reconstructed counties ({listed(sorted(counties))}), but people of "
                f"{listed(sorted(left_out))}; name the truth of this experiment."
            )
        for code in sorted(counties):
            found = _evaluate_county(code, counties[code](), product, margins, true_people.get(code), seed, bins)
            people += found.people
            violations = {level: before + found.violations[level] for level, before in violations.items()}
            if found.agreement is not None:
                compared.append(code)
                agreement += found.agreement
            if done is not None:
                done(code, found)
        without = tuple(sorted(set(counties) - set(true_people)))
    inexact = tuple(table.name for table in product.inexact)
    words = product.categories.words
    return Evaluation(truth_name, people, violations, agreement, tuple(compared), left_out, without, seed, bins, inexact, words)


def _evaluate_county(
    code: str, county: County, product: Product, margins: "Margins | None", truth: Path | None, seed: int, bins: AgeBins
) -> CountyEvaluation:
    county = replace(county, people=county.people.merged())
    counts: list[BlockCounts | None] = []
    levels = [level for level in ("block", "tract") if product.tables_of(level)]
    violations = {level: _check_level(county, product, level, margins, counts) for level in levels}
    if not counts:
        raise InputError(f"county {code}: its block file lists no block", about=Subject.COUNTY_FILES)
    if truth is None:
        return CountyEvaluation(county.people.population, violations)
    known = BlockCounts.concatenate([margin for margin in counts if margin is not None]) if margins is not None else None
    people, true = county.people, load_county(truth).merged()
    agreement = compare(people, true, known, np.random.default_rng([seed, int(code)]), bins)
    tracts = np.unique(true.geoid_tract)
    matched = [_by_tract(tracts, *matched_by_block(*both)) for both in ((people, true), (binned(people, bins), binned(true, bins)))]
    true_people = _by_tract(tracts, true.geoid_block, true.count)
    return CountyEvaluation(people.population, violations, agreement, tracts, true_people, np.stack(matched, axis=1))


def _by_tract(tracts: IntArray, block: IntArray, number: IntArray) -> IntArray:
    """(tracts,) the sums of blocks' numbers; ``tracts`` are sorted, and each block is of one of them."""
    at = np.searchsorted(tracts, block // BLOCKS_PER_TRACT)
    return np.bincount(at, weights=number, minlength=len(tracts)).astype(np.int64)


# --- published cells -------------------------------------------------------------------------------------------------


def count_violations(people: People, units: Units, product: Product, level: str) -> Violations:
    """Compare every cell of ``units`` (blocks or tracts, any order) with the people who live there. Others are not looked at.

    A cell that is rounded or withheld is reproduced by any count that it may stand for.
    """
    order = np.argsort(units.geoid)
    geoid = people.geoid_block if level == "block" else people.geoid_tract
    place = np.searchsorted(units.geoid, geoid, sorter=order)
    found = np.zeros(len(geoid), bool)
    inside = place < len(order)
    found[inside] = units.geoid[order[place[inside]]] == geoid[inside]
    row = order[place[found]]
    counts = sp.csr_array((people.count[found], (row, people.kind[found])), shape=(len(units.geoid), N_KINDS))
    tabulated = (counts @ product.membership(level)).toarray()
    if product.inexact:
        least, most = product.intervals(level, units.cells)
        differs = (tabulated < least) | (tabulated > most)
    else:
        differs = tabulated != units.cells
    names, width = product.columns(level), 15 if level == "block" else 11
    examples = tuple(
        WrongCell(names[j], f"{units.geoid[i]:0{width}d}", int(units.cells[i, j]), int(tabulated[i, j]))
        for i, j in np.argwhere(differs)[:EXAMPLES].tolist()
    )
    return Violations(int(differs.sum()), differs.size, examples)


def _check_level(
    county: County, product: Product, level: str, margins: "Margins | None", counts: list["BlockCounts | None"]
) -> Violations:
    """Return a county's violations of one level; the blocks' margins are added to ``counts`` on the way. Its people are merged."""
    width = 1 if level == "block" else BLOCKS_PER_TRACT
    total, seen = Violations(), []
    for units in county.blocks() if level == "block" else county.tracts():
        if not len(units.geoid):
            continue
        here = _between(county.people, int(units.geoid.min()) * width, (int(units.geoid.max()) + 1) * width)
        total += count_violations(here, units, product, level)
        seen.append(units.geoid)
        if level == "block":
            counts.append(margins.of(units) if margins is not None else None)
    # Units that the files do not list have nobody, as far as is published.
    geoid = county.people.geoid_block if level == "block" else county.people.geoid_tract
    unlisted = np.setdiff1d(geoid, np.concatenate([np.empty(0, np.int64), *seen]))
    if len(unlisted):
        nobody = Units(unlisted, np.zeros((len(unlisted), len(product.columns(level))), np.int64))
        total += count_violations(county.people, nobody, product, level)
    return total


def read_units(file: BinaryIO | IO[bytes], name: str, product: Product, level: str) -> Iterator[Units]:
    """Yield the units of a county file (``sf1_block_*.csv`` or ``sf1_tract_*.csv``), a piece at a time.

    Raises InputError for a file that lacks a column or has a value that is no count.
    """
    id_column, columns = f"geoid_{level}", product.columns(level)
    try:
        pieces = CsvPieces(file, {id_column: pa.int64(), **dict.fromkeys(columns, pa.int32())}, _READ_BYTES)
        missing = {id_column, *columns}.difference(pieces.names)
        if missing:
            raise InputError(f"{name}: the column {min(missing)} is missing", about=Subject.COUNTY_FILES)
        for batch in pieces:
            place_of = {column: place for place, column in enumerate(batch.schema.names)}
            cells = np.empty((batch.num_rows, len(columns)), np.int32)
            for j, column in enumerate(columns):
                cells[:, j] = batch.column(place_of[column]).to_numpy()
            yield Units(batch.column(id_column).to_numpy().astype(np.int64), cells)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: not a county file ({reason})", about=Subject.COUNTY_FILES) from error


# --- baselines -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlockCounts:
    """Published counts of blocks that the baselines use.

    ``geoid`` (B,) sorted; ``sex_age`` (B, groups) people by sex and age group; ``sa_of_group`` names for each group its (sex, age)
    numbers; ``race_origin`` (B, 126) people by race set and origin.
    """

    geoid: IntArray
    sex_age: npt.NDArray[np.int32]
    race_origin: npt.NDArray[np.int32]
    sa_of_group: tuple[IntArray, ...]

    @classmethod
    def concatenate(cls, parts: list["BlockCounts"]) -> "BlockCounts":
        """Return all blocks of ``parts`` (of one product, at least one), by geoid."""
        geoid = np.concatenate([part.geoid for part in parts])
        order = np.argsort(geoid)
        return cls(
            geoid[order],
            np.concatenate([part.sex_age for part in parts])[order],
            np.concatenate([part.race_origin for part in parts])[order],
            parts[0].sa_of_group,
        )

    def slices(self, people: int) -> Iterator[tuple["BlockCounts", int, int]]:
        """Yield the blocks, in pieces of about so many people: each piece with the range of ids (from, below) that it stands for.

        The ranges together hold every id.
        """
        before = np.cumsum(self.sex_age.sum(axis=1)) - self.sex_age.sum(axis=1)
        starts = np.unique(before // people, return_index=True)[1].tolist()
        lows = [0, *self.geoid[starts[1:]].tolist(), 10**15]
        for start, end, low, high in zip(starts, [*starts[1:], len(before)], lows, lows[1:], strict=False):
            part = slice(start, end)
            yield BlockCounts(self.geoid[part], self.sex_age[part], self.race_origin[part], self.sa_of_group), low, high


class NoBaselines(InputError):
    """A product whose block tables tell too little for the baselines."""


class Margins:
    """Finds among a product's block tables those that count by sex and age group, and by race set and origin."""

    def __init__(self, product: Product) -> None:
        """Raise NoBaselines if the product has no such tables."""
        self.product = product
        block = [partition for partition in product.partitions.values() if partition.level == "block"]
        whole = [partition for partition in block if partition.by_sa_only and (partition.index >= 0).all()]
        # For each (race set, origin) a group of everyone who has just these.
        alone: dict[int, tuple[Partition, int]] = {}
        for partition in block:
            if partition.by_rh_only:
                group_of_rh = partition.index[0]
                for rh in np.flatnonzero(group_of_rh >= 0).tolist():
                    if (group_of_rh == group_of_rh[rh]).sum() == 1:
                        alone[rh] = (partition, int(group_of_rh[rh]))
        finest = max(whole, key=lambda partition: len(partition.labels), default=None)
        if finest is None or len(finest.labels) == 1 or len(alone) < N_RH:
            raise NoBaselines(
                f"{product.title}: no block table counts everyone by sex and age, or by race set and Hispanic origin; "
                "an evaluation needs both for its baselines."
            )
        self._sex_age = finest.coefficients
        self._race_origin = sp.hstack([alone[rh][0].coefficients[:, [alone[rh][1]]] for rh in range(N_RH)]).tocsr()
        groups = finest.index[:, 0]
        self._group_of_sa = groups.astype(np.int64)
        self._sa_of_group = tuple(np.flatnonzero(groups == g).astype(np.int64) for g in range(len(finest.labels)))

    def of(self, units: Units) -> BlockCounts:
        """Return the counts of some blocks."""
        order = np.argsort(units.geoid)
        cells = units.cells[order].astype(np.int64)
        sex_age, race_origin = (np.asarray(cells @ matrix).astype(np.int32) for matrix in (self._sex_age, self._race_origin))
        return BlockCounts(units.geoid[order], sex_age, race_origin, self._sa_of_group)

    def of_people(self, people: People) -> BlockCounts:
        """Return the counts of the blocks of people who reproduce the tables: the same as :meth:`of` the published ones."""
        geoid, block = np.unique(people.geoid_block, return_inverse=True)
        sa, rh = np.divmod(people.kind, N_RH)
        counts = []
        for group, number in ((self._group_of_sa[sa], len(self._sa_of_group)), (rh, N_RH)):
            flat = np.bincount(block * number + group, weights=people.count, minlength=len(geoid) * number)
            counts.append(flat.reshape(-1, number).astype(np.int32))
        return BlockCounts(geoid, counts[0], counts[1], self._sa_of_group)


def margins_of(product: Product) -> Margins | None:
    """Return what finds the baselines' counts; None where the product has no such tables."""
    try:
        return Margins(product)
    except NoBaselines:
        return None


def modal_people(people: People, counts: BlockCounts) -> People:
    """Return the modal baseline, merged. People in blocks that are not published as inhabited are left out."""
    most = _RH_IN_ORDER[np.argmax(counts.race_origin[:, _RH_IN_ORDER], axis=1)]
    place = np.searchsorted(counts.geoid, people.geoid_block)
    place = np.minimum(place, len(counts.geoid) - 1)
    known = counts.geoid[place] == people.geoid_block
    kind = people.kind // N_RH * N_RH + most[place]
    return People(people.geoid_block, kind, people.count).select(known).merged()


def random_people(counts: BlockCounts, rng: np.random.Generator) -> People:
    """Return the random baseline, merged.

    Raises InputError for a block whose tables count different numbers of people.
    """
    population = counts.sex_age.sum(axis=1)
    different = population != counts.race_origin.sum(axis=1)
    if different.any() or (counts.race_origin < 0).any():
        bad = different | (counts.race_origin < 0).any(axis=1)
        raise InputError(
            f"block {counts.geoid[np.argmax(bad)]:015d}: its tables by age and by race contradict each other; "
            "get the state's zip anew (step 0)."
        )
    first = np.repeat(np.cumsum(population) - population, population)
    size = np.repeat(population, population)

    def draw(people_of_blocks: npt.NDArray[np.integer]) -> IntArray:
        # The blocks' people stand one after the other, by group: a person drawn from one's own block has one of its groups.
        groups = np.tile(np.arange(people_of_blocks.shape[1]), len(population))
        of_person = np.repeat(groups, people_of_blocks.ravel())
        return of_person[first + rng.integers(0, size)]

    by_race = counts.race_origin.reshape(-1, N_RACE_SETS, 2)
    group, race, hisp = draw(counts.sex_age), draw(by_race.sum(axis=2)), draw(by_race.sum(axis=1))
    ages_in_group = np.array([len(sa) for sa in counts.sa_of_group])
    first_in_group = np.cumsum(ages_in_group) - ages_in_group
    sa = np.concatenate(counts.sa_of_group)[first_in_group[group] + rng.integers(0, ages_in_group[group])]
    kind = sa * N_RH + race * 2 + hisp
    return People(np.repeat(counts.geoid, population), kind, np.ones(len(kind), np.int64)).merged()


# --- agreement -------------------------------------------------------------------------------------------------------


def compare(people: People, truth: People, counts: BlockCounts | None, rng: np.random.Generator, bins: AgeBins) -> Agreement:
    """Return the agreement of one county's people and of the baselines with its true people, on exact age and on ``bins``; without
    ``counts`` of the people alone."""
    if counts is None:
        return replace(_compare([people.merged()], truth.merged(), bins), baselines=False)
    total = Agreement()
    for piece, low, high in counts.slices(PEOPLE_AT_ONCE):  # merged by pieces: of a large county that takes much memory
        here = _part(people, low, high)
        total += _compare([here, modal_people(here, piece), random_people(piece, rng)], _part(truth, low, high), bins)
    return total


def _compare(guesses: Sequence[People], truth: People, bins: AgeBins) -> Agreement:
    """Return the agreement of each method's people with the truth, all merged, of some blocks."""
    blocks, number = np.unique(truth.geoid_block, return_inverse=True)
    population = np.zeros(len(blocks), np.int64)
    np.add.at(population, number, truth.count)
    size_class = np.searchsorted(SIZE_STARTS, population, side="right") - 1
    n_classes = len(SIZE_STARTS)
    matched = np.zeros((len(METHODS), len(MEASURES), n_classes), np.int64)
    binned_truth = binned(truth, bins)
    for i, guess in enumerate(guesses):
        for j, (guessed, true) in enumerate(((guess, truth), (binned(guess, bins), binned_truth))):
            where, n = matched_by_block(guessed, true)
            np.add.at(matched[i, j], size_class[np.searchsorted(blocks, where)], n)
    true_people = np.zeros(n_classes, np.int64)
    np.add.at(true_people, size_class, population)
    return Agreement(matched, true_people, np.bincount(size_class, minlength=n_classes))


def _part(people: People, low: int, high: int) -> People:
    """Return those whose block is at least ``low`` and below ``high``, merged."""
    return people.select((people.geoid_block >= low) & (people.geoid_block < high)).merged()


def _between(people: People, low: int, high: int) -> People:
    """Of merged people those whose block is at least ``low`` and below ``high``."""
    start, end = np.searchsorted(people.geoid_block, [low, high])
    return People(people.geoid_block[start:end], people.kind[start:end], people.count[start:end])


def binned(people: People, bins: AgeBins) -> People:
    """Return the same people, merged, with binned kinds."""
    return People(people.geoid_block, bins.of_kind(people.kind), people.count).merged()


def matched_by_block(guess: People, truth: People) -> tuple[IntArray, IntArray]:
    """Return (block, number) of the records that two merged people share, one to one."""
    first = int(truth.geoid_block.min(initial=10**15))
    inside = (guess.geoid_block >= first) & (guess.geoid_block <= truth.geoid_block.max(initial=0))
    guess = guess.select(inside)
    guess_key, truth_key = ((people.geoid_block - first) * N_KINDS + people.kind for people in (guess, truth))
    _, of_guess, of_truth = np.intersect1d(guess_key, truth_key, assume_unique=True, return_indices=True)
    return truth.geoid_block[of_truth], np.minimum(guess.count[of_guess], truth.count[of_truth])


# --- shares ------------------------------------------------------------------------------------------------------


def _size_labels() -> list[str]:
    lasts = [f"-{following - 1}" for following in SIZE_STARTS[1:]] + ["+"]
    return [f"{first}{last}" for first, last in zip(SIZE_STARTS, lasts, strict=True)]


def with_all(numbers: IntArray, truth: IntArray) -> list[tuple[str, int, int]]:
    """Return (label, number, true people) of each class of blocks, and of all."""
    rows = list(zip(_size_labels(), numbers.tolist(), truth.tolist(), strict=True))
    return [*rows, ("all", int(numbers.sum()), int(truth.sum()))]


def _share(matched: int, truth: int) -> float | None:
    return matched / truth if truth else None


def listed(names: list[str], most: int = 6) -> str:
    """Return some names, and how many more there are."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def agreement_rows(agreement: Agreement, methods: Sequence[str] = METHODS) -> list[tuple[str, str, str, int, int]]:
    """Return (method, measure, size of block, matched, true people) of each class of blocks, and of all."""
    return [
        (method, measure, label, matched, truth)
        for method in methods
        for j, measure in enumerate(MEASURES)
        for label, matched, truth in with_all(agreement.matched[METHODS.index(method), j], agreement.truth)
    ]
