"""The parts of a report, each made of one study's figures: what a reader is told, drawn and given to compute with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.risk.matching_study import PUBLISHED_PRECISION, Study
from dbrecon.recon.risk.sure import SureSizes
from dbrecon.recon.risk.variants import VariantResult
from dbrecon.recon.study.evaluation import MEASURES, METHODS, SIZE_STARTS, Agreement
from dbrecon.report import figures
from dbrecon.report.document import Figure, Section, Table, Value

PUBLISHED_AGREEMENT = {"all tables": (0.485, 0.952), "block tables": (0.442, 0.929)}
"""Of the 2010 country, exact age and 38 bins (Abowd et al., arXiv 2312.11283)."""

PER_CENT = "\u00a0%"  # never parted from its number

FIVE_YEAR_GROUPS = (*(f"{a}-{a + 4}" for a in range(0, 85, 5)), "85+")


def size_labels() -> list[str]:
    """Return the classes of blocks by people: "1-9", ..., "1000+"."""
    lasts = [f"-{following - 1}" for following in SIZE_STARTS[1:]] + ["+"]
    return [f"{first}{last}" for first, last in zip(SIZE_STARTS, lasts, strict=True)]


def share(part: float, whole: float) -> float:
    """Divide; NaN for a share of nothing."""
    return part / whole if whole else float("nan")


def per_cent(value: float, digits: int = 1) -> str:
    """Write a share as a sentence has it: never rounded up to 100 or down to 0."""
    if np.isnan(value):
        return "–"
    shown = f"{100 * value:.{digits}f}"
    if value < 1 and float(shown) == 100:
        return f"over {100 - 10.0**-digits:.{digits}f}{PER_CENT}"
    if value > 0 and float(shown) == 0:
        return f"under {10.0**-digits:.{digits}f}{PER_CENT}"
    return f"{shown}{PER_CENT}"


def agreement(found: Agreement, *, baselines: bool = True) -> Section:
    """How much of a reconstruction is true, by size of block, beside guesses that know published counts alone, if there are any."""
    truth, methods = found.truth, METHODS if baselines else METHODS[:1]
    labels = size_labels()
    series = {
        f"{method}, {'year of age' if measure == 'exact_age' else 'bins'}": [
            share(int(found.matched[i, j, size]), int(truth[size])) for size in range(len(labels))
        ]
        for i, method in enumerate(methods[:2])
        for j, measure in enumerate(MEASURES)
    }
    rows: list[tuple[Value, ...]] = []
    for size, label in enumerate(labels):
        rates = [100 * share(int(found.matched[i, j, size]), int(truth[size])) for i in range(len(methods)) for j in range(2)]
        rows.append((label, int(found.blocks[size]), int(truth[size]), *rates))
    whole = [100 * share(int(found.matched[i, j].sum()), int(truth.sum())) for i in range(len(methods)) for j in range(2)]
    rows.append(("all", int(found.blocks.sum()), int(truth.sum()), *whole))
    columns = ("block size", "blocks", "people", *(f"{m}, {a}, %" for m in methods for a in ("exact age", "bins")))
    exact, bins = found.share("reconstruction", "exact_age"), found.share("reconstruction", "binned_age")
    published = PUBLISHED_AGREEMENT["all tables"]

    def guess(method: str) -> str:
        return per_cent(found.share(method, "binned_age"))

    return Section(
        "agreement",
        "How much of it is true",
        (
            f"Of the true records {per_cent(exact)} can be matched one to one with a reconstructed record of the "
            f"same block, sex, year "
            f"of age, race and origin, and {per_cent(bins)} when ages count in bins. Of the 2010 country with "
            f"block and tract tables it "
            f"was {per_cent(published[0])} and {per_cent(published[1])}.",
            "Two guesses that know published counts alone: the modal guess gives everybody the race and origin that most people of "
            f"the block have ({guess('modal')} with ages in bins), random people are drawn from the counts of each block "
            f"({guess('random')})."
            if baselines
            else "These tables tell too little of blocks for guesses to stand beside it.",
        ),
        (
            figures.bars_by_group(
                "agreement", "True records matched, by people of the block.", describe(series, labels), labels, series, "matched"
            ),
        ),
        (Table("agreement", "True records matched one to one, by size of block", columns, tuple(rows)),),
    )


def describe(series: dict[str, list[float]], groups: Sequence[str]) -> str:
    """Say what bars show, in words."""
    parts = []
    for name, values in series.items():
        shown = ", ".join(f"{group} {per_cent(v, 0)}" for group, v in zip(groups, values, strict=True) if not np.isnan(v))
        parts.append(f"{name}: {shown}")
    return "Bars. " + "; ".join(parts) + "."


CERTAIN_IS_OF_RECORDS = (
    "In blocks of variability 0, and where the matched record is certain, there is such a person, but it can be another one of the "
    "same block, sex and age: only of people who are unique there it must be theirs."
)


def reidentification(result: Study) -> Section:
    """Show what an attacker learns who knows block, sex and age, by class of people, beside guesses and published figures."""
    groups = [g for g in result.groups() if g != "certain"]  # who is certain is a class of the reconstruction's matches alone
    methods = ("reconstruction", "modal guess", "proportional guess", "random people")
    precision = {m: [result.precision(m, g).mean for g in groups] for m in methods}
    chance = result.chance()
    nonmodal = result.precision("reconstruction", "nonmodal").mean
    by = "by id" if result.by_id else "by equal block, sex, age, race and origin, for the truth has no ids"
    return Section(
        "reidentification",
        "What an attacker learns",
        (
            "An attacker knows people's block, sex and age, and takes their race and origin from the "
            "reconstruction. A match is one "
            f"to one, on exact age first, then on its bin; it is confirmed {by}. Precision is the share of "
            f"matches that are confirmed.",
            f"Precision is {per_cent(result.precision('reconstruction').mean)} for all, and {per_cent(nonmodal)} "
            f"for people who are not "
            "of their block's most frequent race and origin, whom a guess cannot find: the modal guess gets "
            f"{per_cent(result.precision('modal guess', 'nonmodal').mean)} of them.",
            f"By chance alone somebody of the block has a random person's sex and exact age in {per_cent(chance[0])} of cases, and "
            f"the sex and age bin in {per_cent(chance[1])}; matches here are one to one, which is harder.",
            *([CERTAIN_IS_OF_RECORDS] if "certain" in result.groups() else []),
        ),
        (
            figures.bars_by_group(
                "precision",
                "Precision by class of people and method.",
                describe(precision, groups),
                groups,
                precision,
                "precision",
            ),
        ),
        (_reidentification_table(result, methods, groups),),
    )


def _reidentification_table(result: Study, methods: Sequence[str], groups: Sequence[str]) -> Table:
    """Tabulate all rates; how far they lie apart only where ties were drawn more than once."""
    spread = ("least, %", "most, %") if len(result.tallies) > 1 else ()
    rows: list[tuple[Value, ...]] = []
    for method in methods:
        for group in result.groups() if method == "reconstruction" else groups:
            rate, recall = result.precision(method, group), result.recall(method, group)
            matched, confirmed = (round(result.count(method, group, what)) for what in ("putative", "confirmed"))
            shares = [100 * value for value in (rate.mean, *((rate.least, rate.most) if spread else ()), recall.mean)]
            rows.append((method, group, matched, confirmed, *shares, PUBLISHED_PRECISION.get(method, {}).get(group)))
    columns = ("method", "people", "matched", "confirmed", "precision, %", *spread, "recall, %", "2010 country, precision, %")
    return Table("reidentification", "Reidentification by class of people", columns, tuple(rows))


@dataclass(frozen=True)
class WayToPublish:
    """What one way to publish gives away, in shares of 0 to 1; None where it is not known. ``error`` is the mean absolute
    difference that a protection makes in a published cell, in people."""

    name: str
    exact: float | None
    binned: float | None
    without_variability: float | None
    differ: float | None
    certain: float | None
    precision: float | None
    precision_nonmodal: float | None
    error: float | None = None

    @classmethod
    def of(cls, result: VariantResult) -> "WayToPublish":
        """Of a variant that was studied."""
        sizes, tally = result.sizes, result.tally
        return cls(
            result.name,
            *result.agreement,
            None if sizes is None else sizes.without_variability,
            None if sizes is None else sizes.differ_share,
            None if sizes is None else sizes.certain_share,
            tally.precision("reconstruction"),
            tally.precision("reconstruction", "nonmodal"),
            result.error,
        )


SHARES = {
    "exact": "agreement, exact age, %",
    "binned": "agreement, bins, %",
    "without_variability": "blocks without variability, %",
    "differ": "people who can differ, %",
    "certain": "people certain, %",
    "precision": "precision, all, %",
    "precision_nonmodal": "precision, nonmodal, %",
}
"""What is told of ways to publish, and the headings of its columns."""


def what_if(ways: Sequence[WayToPublish]) -> Section:
    """Show what other tables or protections would give away, side by side, and what they cost in accuracy."""
    known = [way for way in ways if way.certain is not None]
    words = []
    if known:
        best = min(known, key=lambda way: way.certain or 0.0)
        words.append(
            f"Of {len(ways)} ways to publish, '{best.name}' leaves the fewest people certain ({per_cent(best.certain or 0.0)})."
        )
    if any(way.error for way in ways):
        words.append(
            "The error is what a protection changes in the published cells, on average. Where records are changed before they are "
            "tabulated, blocks without variability and certain people are of the changed records, which need not be true; "
            "agreement and precision are always against the true ones. An attacker looks people up in the block and at the age as "
            "which they are published."
        )
    return Section(
        "what-if",
        "What other tables or protections would give away",
        tuple(words),
        (_side_by_side(ways),),
        (_what_if_table(ways),),
    )


def _what_if_table(ways: Sequence[WayToPublish]) -> Table:
    """Tabulate what is known of some of the ways; the error only where it was measured."""
    known = [name for name in SHARES if any(getattr(way, name) is not None for way in ways)]
    measured = any(way.error is not None for way in ways)
    columns = ("way to publish", *(SHARES[name] for name in known), *(["mean error of a cell, people"] if measured else []))
    rows = []
    for way in ways:
        shares = [getattr(way, name) for name in known]
        rows.append((way.name, *(None if v is None else 100 * v for v in shares), *([way.error] if measured else [])))
    return Table("what_if", "Ways to publish, side by side", columns, tuple(rows), digits=2)


def _side_by_side(ways: Sequence[WayToPublish]) -> Figure:
    measures = {
        "agreement, exact age": "exact",
        "agreement, bins": "binned",
        "blocks without variability": "without_variability",
        "people certain": "certain",
        "precision, all": "precision",
        "precision, nonmodal": "precision_nonmodal",
    }
    names = [way.name for way in ways]
    shown = {label: _known(ways, name) for label, name in measures.items()}
    shown = {label: values for label, values in shown.items() if not np.isnan(values).all()}
    errors = {"mean error of a cell": _known(ways, "error")} if any(way.error for way in ways) else {}
    by_way = {name: [values[i] for values in shown.values()] for i, name in enumerate(names)}
    alt = describe(by_way, list(shown)) + "".join(
        f" Mean error of a cell: {', '.join(f'{n} {e:.4f}' for n, e in zip(names, values, strict=True))}."
        for values in errors.values()
    )
    caption = f"Ways to publish, in per cent{', and their error in people' if errors else ''}."
    return figures.bars_by_row("what_if", caption, alt, names, shown, errors)


def _known(ways: Sequence[WayToPublish], name: str) -> list[float]:
    """Return one measure of each way, NaN where it is not known."""
    return [float("nan") if getattr(way, name) is None else getattr(way, name) for way in ways]


PUBLISHED_WITHOUT_VARIABILITY = {
    "1-9": 1_815_218 / 1_823_665,
    "10-49": 2_096_508 / 2_671_753,
    "50-99": 324_641 / 994_513,
    "100-249": 67_884 / 540_455,
    "250-499": 3_718 / 126_344,
    "500-999": 308 / 40_492,
    "1000+": 105 / 9_805,
    "all": 4_308_382 / 6_207_027,
}
"""Shares of blocks of the 2010 country by people (Abowd et al., arXiv 2312.11283): a bound found block by block, so too low."""


def certainty(sure: SureSizes) -> Section:
    """Return how far another data set with the same tables can differ, by size of block, beside the published national figures."""
    labels = size_labels()
    rows: list[tuple[Value, ...]] = []
    for label, here in [*((label, slice(i, i + 1)) for i, label in enumerate(labels)), ("all", slice(None))]:
        blocks, people, differ, sure_people, settled, settled_people = (
            int(getattr(sure, name)[here].sum()) for name in SureSizes.__dataclass_fields__
        )
        published = PUBLISHED_WITHOUT_VARIABILITY.get(label)
        rows.append(
            (
                label,
                blocks,
                people,
                100 * share(settled, blocks),
                settled_people,
                100 * share(differ, people),
                100 * share(sure_people, people),
                None if published is None else 100 * published,
            )
        )
    columns = (
        "block size",
        "blocks",
        "people",
        "blocks without variability, %",
        "people in these",
        "people who can differ, %",
        "people certain, %",
        "2010 country: blocks without variability, %",
    )
    ours = [share(int(s), int(n)) for s, n in zip(sure.settled_blocks, sure.blocks, strict=True)]
    series = {"here": ours, "2010 country, published bound": [PUBLISHED_WITHOUT_VARIABILITY[label] for label in labels]}
    return Section(
        "certainty",
        "How sure that is, without any truth",
        (
            f"In {per_cent(sure.without_variability)} of the blocks with people only one set of people, with ages in bins, makes "
            f"the published tables. Of all people, counted so, {per_cent(sure.certain_share)} are in every data set that has "
            f"these tables; at most {per_cent(sure.differ_share)} can differ between the reconstruction and another such data set. "
            "All blocks of a "
            "tract are taken together; nobody needs to know the truth to find this.",
            f"The published figures of the 2010 country are bounds found block by block: "
            f"{per_cent(PUBLISHED_WITHOUT_VARIABILITY['all'])} of its blocks without variability, and 10.0"
            + PER_CENT
            + " of its people who can differ, which its authors think at "
            "least twice too many.",
        ),
        (
            figures.bars_by_group(
                "certainty",
                "Blocks with only one solution, by people of the block.",
                describe(series, labels),
                labels,
                series,
                "blocks without variability",
            ),
        ),
        (Table("certainty", "Solution variability by size of block", columns, tuple(rows)),),
    )


def attack_in_words(study: Study) -> str:
    """Return what an attacker learns, in one sentence, each rate beside that of a guess."""
    ours, guess = (
        [per_cent(study.precision(method, group).mean) for group in ("all", "nonmodal")]
        for method in ("reconstruction", "modal guess")
    )
    return (
        f"Somebody who knows people's block, sex and age is right about race and origin in {ours[0]} of the matches (a guess of "
        f"the block's majority: {guess[0]}), and in {ours[1]} of those of people who differ from it (the guess: {guess[1]})."
    )


def pyramids(published: IntArray | None, reconstructed: IntArray) -> Section:
    """Draw people by sex and five-year group of age; two arrays (2, 18), the first None where no table tells."""
    if published is None:
        words = "No published table counts men and women by ages that make groups of five years."
    elif (published == reconstructed).all():
        words = "The published and the reconstructed numbers of men and women by age are equal, as they must be."
    else:
        words = "The published and the reconstructed numbers of men and women by age differ."
    shown = {"reconstructed": reconstructed} if published is None else {"published": published, "reconstructed": reconstructed}
    return Section(
        "pyramid",
        "The people reconstructed",
        (words,),
        (
            figures.pyramid(
                "pyramid",
                "People by sex and age.",
                f"Population pyramid of {int(reconstructed.sum()):,} people. {words}",
                FIVE_YEAR_GROUPS,
                None if published is None else published.astype(np.float64),
                reconstructed.astype(np.float64),
            ),
        ),
        (
            Table(
                "pyramid",
                "People by sex and age",
                ("age", *(f"{sex}, {name}" for sex in ("men", "women") for name in shown)),
                tuple(
                    (group, *(int(n[sex, i]) for sex in (0, 1) for n in shown.values())) for i, group in enumerate(FIVE_YEAR_GROUPS)
                ),
            ),
        ),
    )


METHODS_AND_LIMITS = Section(
    "methods",
    "Methods, limits and ethics",
    (
        "Every published cell becomes an equation, in integers, over counts of people by block, sex, age, race "
        "and origin. A solver "
        "finds people who meet all of them; every cell of every table is then counted again and compared. That a reconstruction "
        "reproduces the tables does not make it true: other people may reproduce them too. How far they can differ is measured, "
        "block by block, by the certainty figures.",
        "Years of age within a bin are given out by a rule where only a tract's tables tell them; where no table tells them they "
        "carry no information. Agreement and reidentification are measured against the truth that was given, and "
        "hold for it alone.",
        "Reconstructed records describe nobody until they are compared with a truth; with one, they may. Keep this report, and the "
        "files it was made of, as confidential as that truth.",
        "Sources: Abowd et al., arXiv 2312.11283 (agreement, variability, reidentification); Ruggles and Van Riper, Population "
        "Research and Policy Review 2022 (chance); Dick et al., PNAS 2023 (confidence ranks).",
    ),
)
