"""A study of reidentification: an attacker's file, a reconstruction and a truth, several times over, in one set of figures."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.people.people import BLOCKS_PER_TRACT
from dbrecon.recon.risk.reidentification import (
    CLASSES,
    METHODS,
    NO_BLOCKS,
    Blocks,
    Known,
    MarkedRecords,
    Marks,
    Records,
    Tally,
    link_without_ids,
    population_of,
    study_county,
)
from dbrecon.recon.study.evaluation import PEOPLE_AT_ONCE, SIZE_STARTS

PUBLISHED_PRECISION: Mapping[str, Mapping[str, float]] = {
    "reconstruction": {
        "all": 77.9,
        "nonmodal": 43.3,
        "modal": 88.5,
        "nonmodal, variability 0": 68.5,
        "nonmodal, unique, variability 0": 95.2,
    },
    "modal guess": {
        "all": 76.6,
        "nonmodal": 0.9,
        "modal": 99.7,
        "nonmodal, variability 0": 1.7,
        "nonmodal, unique, variability 0": 2.5,
    },
    "proportional guess": {
        "all": 66.3,
        "nonmodal": 16.0,
        "modal": 81.7,
        "nonmodal, variability 0": 17.2,
        "nonmodal, unique, variability 0": 20.2,
    },
}
"""Per cent, of the real 2010 country with block and tract tables (Abowd et al., arXiv 2312.11283): to compare, not to expect."""


@dataclass(frozen=True)
class County:
    """What is studied of a county: its reconstructed people, what certainty tells of its blocks, and its certain people."""

    people: Records
    blocks: Blocks = NO_BLOCKS
    certain: Marks | None = None


@dataclass(frozen=True)
class Rate:
    """A share over the repeats: its mean, least and most, 0 to 1; NaN where it is of nobody."""

    mean: float
    least: float
    most: float


@dataclass(frozen=True)
class Study:
    """The result of :func:`study`: a tally for each repeat. ``by_id``: whether the truth has the attacker's ids."""

    attacker: str
    truth: str
    tallies: tuple[Tally, ...]
    by_id: bool
    knows_variability: bool
    seed: int

    def precision(self, method: str, group: str = "all", size: int | None = None) -> Rate:
        """Return confirmed / putative matches."""
        return _over([tally.precision(method, group, size) for tally in self.tallies])

    def recall(self, method: str, group: str = "all", size: int | None = None) -> Rate:
        """Return confirmed matches / true people."""
        return _over([tally.recall(method, group, size) for tally in self.tallies])

    def count(self, method: str, group: str, measure: str) -> float:
        """Return the mean of a count over the repeats."""
        return float(np.mean([tally.count(method, group, measure) for tally in self.tallies]))

    def chance(self) -> tuple[float, float]:
        """Return the share of an attacker's records whose sex and age (exact, bin) somebody of the block would have by chance."""
        known = self.tallies[0].count("reconstruction", "all", "known")
        exact, binned = self.tallies[0].chance / known if known else (float("nan"), float("nan"))
        return float(exact), float(binned)

    def groups(self) -> tuple[str, ...]:
        """Return the classes that the inputs tell of: those of variability and certainty only where certainty is known."""
        return CLASSES if self.knows_variability else tuple(g for g in CLASSES if "variability" not in g and g != "certain")

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, as JSON can hold them; None for rates of nobody."""
        chance = self.chance()
        return {
            "attacker": self.attacker,
            "truth": self.truth,
            "confirmed_by": "id" if self.by_id else "equal block, sex, age, race and origin (the truth has no ids)",
            "repeats": len(self.tallies),
            "seed": self.seed,
            "chance_that_somebody_fits": {"exact_age": _number(chance[0]), "binned_age": _number(chance[1])},
            "methods": {method: {group: self._figures(method, group) for group in self.groups()} for method in METHODS},
            "by_block_size": {
                method: {
                    str(first): {
                        "precision": _rate(self.precision(method, "all", i)),
                        "recall": _rate(self.recall(method, "all", i)),
                    }
                    for i, first in enumerate(SIZE_STARTS)
                }
                for method in METHODS
            },
            "published_precision_per_cent": PUBLISHED_PRECISION,
        }

    def as_json(self) -> str:
        """:meth:`as_dict` as text."""
        return json.dumps(self.as_dict(), indent=2)

    def _figures(self, method: str, group: str) -> dict[str, Any]:
        counts = ("known", "putative", "putative_exact", "confirmed", "confirmed_exact", "true_people")
        return {name: self.count(method, group, name) for name in counts} | {
            "precision": _rate(self.precision(method, group)),
            "recall": _rate(self.recall(method, group)),
        }


def _over(values: list[float]) -> Rate:
    return Rate(float(np.mean(values)), float(np.min(values)), float(np.max(values)))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _rate(rate: Rate) -> dict[str, float | None]:
    return {"mean": _number(rate.mean), "least": _number(rate.least), "most": _number(rate.most)}


def study(
    attacker: Known,
    truth: Records,
    counties: Mapping[int, Callable[[], County]],
    names: tuple[str, str],
    seed: int = 0,
    repeats: int = 5,
    population: tuple[int, npt.NDArray[np.float64]] | None = None,
) -> Study:
    """Study ``counties`` (SSCCC as a number -> what loads one), ``repeats`` times with other ties.

    ``attacker.true`` are positions in ``truth``, -1 without one; with ``by_id`` False they are found here. The attacker's records
    of other counties are left out. ``names`` are the attacker's and the truth's, for the report. ``population`` is what
    :func:`population_of` gives for all counties, which are loaded once more to find it where it is None.
    """
    tallies = [Tally() for _ in range(repeats)]
    knows_variability = False
    everywhere, shares = population or population_of(load().people for load in counties.values())
    for code in sorted(counties):
        county = counties[code]()
        knows_variability |= bool(len(county.blocks.geoid))
        known, true_people = county_part(attacker, truth, code, np.random.default_rng([seed, code]))
        found = study_pieces(known, county, true_people, (everywhere, shares), (seed, code), repeats)
        tallies = [before + more for before, more in zip(tallies, found, strict=True)]
    return Study(*names, tuple(tallies), attacker.by_id, knows_variability, seed)


def study_pieces(
    known: Known,
    county: County,
    truth: Records,
    population: tuple[int, npt.NDArray[np.float64]],
    seed: tuple[int, ...],
    repeats: int,
    at_once: int = PEOPLE_AT_ONCE,
) -> list[Tally]:
    """Study one county, some whole tracts at a time so that memory does not grow with it: a tally for each repeat.

    ``population`` is what :func:`population_of` gives for the whole study; ``seed`` is the study's, and the county's number.
    """
    tallies = [Tally() for _ in range(repeats)]
    marks = None if county.certain is None else county.certain.marks(county.people)
    for number, (low, high) in enumerate(pieces_of(county.people.block, at_once)):
        inside = between(county.people.block, low, high)
        people = county.people.select(inside)
        part, true_people = _within(known, truth, low, high)
        certain = None if marks is None else MarkedRecords(marks[inside])
        for repeat in range(repeats):
            rng = np.random.default_rng([*seed, repeat, *([number] if number else [])])
            tallies[repeat] += study_county(part, people, true_people, *population, rng, county.blocks, certain)
    return tallies


def pieces_of(block: IntArray, at_once: int) -> list[tuple[int, int]]:
    """Return ranges of block ids (from, below) of about so many people each, whole tracts; together they hold every id."""
    tracts, people = np.unique(block // BLOCKS_PER_TRACT, return_counts=True)
    first = np.unique((np.cumsum(people) - people) // at_once, return_index=True)[1]
    bounds = [0, *(tracts[first[1:]] * BLOCKS_PER_TRACT).tolist(), 10**15]
    return list(itertools.pairwise(bounds))


def between(block: IntArray, low: int, high: int) -> npt.NDArray[np.bool_]:
    """Return (n,) whether each block is of a range (from, below)."""
    return np.asarray((block >= low) & (block < high))


def county_part(attacker: Known, truth: Records, code: int, rng: np.random.Generator) -> tuple[Known, Records]:
    """Return an attacker's records in a county, and the true people there; where there are no ids, with one of them for each."""
    known, people = _within(attacker, truth, code * 10**10, (code + 1) * 10**10)
    if attacker.by_id:
        return known, people
    return replace(known, true=link_without_ids(known.records, people, rng)), people


def _within(attacker: Known, truth: Records, low: int, high: int) -> tuple[Known, Records]:
    """Return an attacker's records in a range of blocks, and the true people there, whose positions are then those in this part."""
    inside = between(attacker.records.block, low, high)
    here = np.flatnonzero(between(truth.block, low, high))
    true = attacker.true[inside]
    at = np.minimum(np.searchsorted(here, true), max(len(here) - 1, 0))
    lives_here = (here[at] == true) if len(here) else np.zeros(len(true), bool)
    true = np.where(lives_here, at, -1)
    return Known(attacker.records.select(inside), true, attacker.true_rh[inside], attacker.by_id), truth.select(here)


_HEADINGS = {
    "all": "all",
    "modal": "modal",
    "nonmodal": "nonmodal",
    "unique": "unique",
    "variability 0": "var. 0",
    "nonmodal, variability 0": "nonm.,v0",
    "nonmodal, unique, variability 0": "& unique",
    "certain": "certain",
}


def format_study(result: Study) -> str:
    """Return the study on one screen."""
    known, putative = result.count("reconstruction", "all", "known"), result.count("reconstruction", "all", "putative")
    exact = result.count("reconstruction", "all", "putative_exact")
    confirmed = result.count("reconstruction", "all", "confirmed")
    by = "ids" if result.by_id else "equal block, sex, age, race and origin, for the truth has no ids"
    chance = result.chance()
    chances = f"{_percent(chance[0])} % on exact age, {_percent(chance[1])} % on its bin"
    lines = [
        f"Reidentification by {result.attacker}, confirmed with {result.truth} (by {by})",
        f"  {known:,.0f} records the attacker knows; matched {putative:,.0f} ({exact:,.0f} on exact age), right {confirmed:,.0f}",
        f"  chance that somebody of the block is of a random person's sex and age: {chances}",
        "",
        *_table(result, "Precision: confirmed / matched, %", result.precision),
        *_published(result),
        "",
        *_table(result, "Recall: confirmed / true people, %", result.recall),
    ]
    if len(result.tallies) > 1:
        spread = result.precision("reconstruction")
        between = f"{_percent(spread.least, 2)} and {_percent(spread.most, 2)} %"
        lines += ["", f"  Means of {len(result.tallies)} draws of ties; the precision lay between {between}."]
    if not result.knows_variability:
        lines += ["", "  Blocks of variability 0 and certain people are not known without the people's certainty."]
    return "\n".join(lines) + "\n"


def _table(result: Study, title: str, rate: Callable[[str, str], Rate]) -> list[str]:
    groups = [g for g in result.groups() if not (g == "certain" and "Recall" in title)]
    head = f"  {title:36}" + "".join(f"{_HEADINGS[g]:>10}" for g in groups)
    rows = []
    for method in METHODS:
        shares = [rate(method, g).mean if g != "certain" or method == METHODS[0] else float("nan") for g in groups]
        rows.append(f"    {method:34}" + "".join(f"{_percent(share):>10}" for share in shares))
    return [head, *rows]


def _published(result: Study) -> list[str]:
    return [
        f"    {'2010 country: ' + method:34}"
        + "".join(f"{figures[g]:>10.1f}" if g in figures else f"{'':>10}" for g in result.groups()).rstrip()
        for method, figures in PUBLISHED_PRECISION.items()
    ]


def _percent(share: float, digits: int = 1) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.{digits}f}"
