"""The audit of a set of tables: an agency's own records tabulated, reconstructed and studied, in one report.

Nothing leaves the machine, and no record is written: the report holds counts and rates.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from types import MappingProxyType

import numpy as np

from dbrecon.ctools.progress import counted
from dbrecon.recon.census.bins import comparison_bins
from dbrecon.recon.census.kinds import N_RH, N_SA, IntArray
from dbrecon.recon.census.tables import Product
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.people.people import People
from dbrecon.recon.risk.findings import baseline_counts, five_years
from dbrecon.recon.risk.matching_study import Study
from dbrecon.recon.risk.variants import Variant, VariantResult, check_size, in_categories, product_of, study_variant
from dbrecon.recon.solve.program import Options
from dbrecon.recon.study.evaluation import Agreement, compare
from dbrecon.report import sections
from dbrecon.report.document import Report, Section
from dbrecon.report.kept_ways import KeptWays
from dbrecon.report.sections import WayToPublish, per_cent

log = logging.getLogger(__name__)


def audit(
    truth: People,
    variants: Sequence[Variant],
    name: str,
    options: Options,
    budget: Budget,
    executor: Executor | None = None,
    kept: KeptWays | None = None,
    done: Callable[[int], object] = int,
    provenance: Mapping[str, str] = MappingProxyType({}),
) -> Report:
    """Study what publishing tables of ``truth`` would give away; ``variants`` are ways to publish, the first the one in question.

    ``name`` is what the report calls the records; ``kept`` has what an earlier audit found of the other ways, and takes what this
    one finds; ``done`` hears of each tract that is studied; ``provenance`` is told too. Raises InputError where there is nobody,
    and what a reconstruction raises.
    """
    kept = kept or KeptWays()
    ways = [kept.find(variant) for variant in variants[1:]]
    for variant, way in zip(variants, (None, *ways), strict=True):
        if way is None:
            check_size(variant, truth, options.seed)
    first = study_variant(variants[0], truth, options.seed, options, budget, executor, done)
    beside = [WayToPublish.of(first)]
    for variant, way in zip(variants[1:], ways, strict=True):
        if way is None:
            log.info("%s of %s: %s", len(beside) + 1, counted(len(variants), "way"), variant.name)
            way = WayToPublish.of(study_variant(variant, truth, options.seed, options, budget, executor, done))
            kept.keep(variant, way)
        beside.append(way)
    sure, asked = first.sizes, variants[0]
    product = product_of(asked.product, asked.tables, asked.inexact, asked.inexact_tables)
    agreement, baselines = _compared(product, first.people, truth, options.seed)
    study = Study(name, name, (first.tally,), by_id=True, knows_variability=sure is not None, seed=options.seed)
    parts: list[Section] = [
        sections.agreement(agreement, baselines=baselines),
        *([sections.certainty(sure)] if sure is not None else []),
        sections.reidentification(study),
        *([sections.what_if(beside)] if len(beside) > 1 else []),
        sections.pyramids(by_sex_and_age(truth), by_sex_and_age(first.people)),
        sections.METHODS_AND_LIMITS,
    ]
    blocks, tracts = (len(np.unique(geoid)) for geoid in (first.people.geoid_block, truth.geoid_tract))
    people = f"{truth.population:,} people in {blocks:,} blocks of {tracts:,} tracts"
    return Report(
        f"What the tables of {name} give away",
        f"{product.title}, {variants[0].name}: {people}",
        _summary(first, agreement, study),
        tuple(parts),
        {
            "records": name,
            "product": product.title,
            "tables": ", ".join(table.name for table in product.tables),
            "ways to publish": ", ".join(variant.name for variant in variants),
            "seed": str(options.seed),
            "solver": first.solver,
            **provenance,
        },
    )


def _compared(product: Product, people: People, truth: People, seed: int) -> tuple[Agreement, bool]:
    """Return how many of the truth are among people, and whether baselines are known."""
    counts, bins = baseline_counts(product, people), comparison_bins(product)
    return compare(people, in_categories(product, truth), counts, np.random.default_rng(seed), bins), counts is not None


def by_sex_and_age(people: People) -> IntArray:
    """Return (2, 18) people by sex and five-year group of age, the last of 85 and over."""
    return five_years(np.bincount(people.kind // N_RH, weights=people.count, minlength=N_SA).astype(np.int64))


def _summary(result: VariantResult, agreement: Agreement, study: Study) -> tuple[str, ...]:
    """Return the findings, a sentence each."""
    sure = result.sizes
    exact, bins = agreement.share("reconstruction", "exact_age"), agreement.share("reconstruction", "binned_age")
    return (
        f"From these tables alone {per_cent(bins)} of the records can be rebuilt with age in bins, and {per_cent(exact)} with the "
        "exact year of age.",
        "How sure that is without a truth is not told of cells that are rounded or withheld."
        if sure is None
        else f"{per_cent(sure.certain_share)} of the people, with age in bins, are in every data set that has these tables, which "
        f"can be known without any truth; {per_cent(sure.without_variability)} of the blocks have only one solution.",
        sections.attack_in_words(study),
    )
