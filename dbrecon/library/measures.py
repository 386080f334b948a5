"""What is asked of people and tables: tables that people make, cells that disagree, agreement with a truth, reidentification."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dbrecon.errors import InputError, UsageError
from dbrecon.library import frames as frame_kinds
from dbrecon.library.certainty import Certainty
from dbrecon.library.published import Published
from dbrecon.library.reconstruction import Reconstruction, by_tract, check_published, people_in_place
from dbrecon.library.table_sets import AnyProduct, product
from dbrecon.recon.census.bins import COMPARISON_BINS, comparison_bins
from dbrecon.recon.census.categories import EVERY_KIND
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People
from dbrecon.recon.tract.verify import Violation, violations

if TYPE_CHECKING:
    from dbrecon.recon.study.evaluation import BlockCounts

COUNTY = 10**10


def tabulate(people: Any, tables: AnyProduct = "sf1_2010", *, subset: str = "all", frames: str | None = None) -> Published:
    """Return the tables of a product, or of a set of one's own, as published of people (a frame, or a reconstruction).

    Raises InputError for a frame that is not of the form, or that has nobody.

    >>> dbrecon.tabulate(people, "sf1_2010", subset="block")
    Published(2010 Census Summary File 1; tracts: 1)
    """
    loaded = product(tables, subset)
    records = people_in_place(people).merged()
    if not records.population:
        raise InputError("the frame of people has nobody, of whom tables could be made")
    from dbrecon.recon.risk.variants import tracts_of

    return Published.of_tracts(loaded, tracts_of(loaded, records), frames or frame_kinds.kind_of(people))


def check(people: Any, published: Published | None = None, *, frames: str | None = None) -> Any:
    """Count every published cell from people, in integers: a frame of those that disagree, empty if none does.

    Its columns: unit, cell, published, reconstructed. People in blocks of which nothing is published disagree with the first
    cell, which then counts nobody. Raises InputError for a frame that is not of the form, UsageError for what are no published
    tables.

    >>> len(dbrecon.check(found))
    0
    >>> dbrecon.check(people.head(999), published).columns.tolist()
    ['unit', 'cell', 'published', 'reconstructed']
    """
    published = _published(people, published, "check")
    records = people_in_place(people, published.attributes)
    found: list[Violation] = []
    published_blocks = [np.zeros(0, np.int64)]
    for tables, residents in by_tract(records, published):
        ids = int(tables.geoid) * BLOCKS_PER_TRACT + tables.blocks
        inside = np.isin(residents.geoid_block, ids)
        published_blocks.append(ids)
        at = np.searchsorted(ids, residents.geoid_block[inside])
        found += violations(published.product, tables, at, residents.kind[inside], residents.count[inside])
    first = published.product.columns("block")[0]
    strays = records.select(~np.isin(records.geoid_block, np.concatenate(published_blocks)))
    for block in np.unique(strays.geoid_block).tolist():
        found.append(Violation(f"block {block:015d}", first, 0, int(strays.count[strays.geoid_block == block].sum())))
    columns: dict[str, Any] = {name: frame_kinds.texts([getattr(cell, name) for cell in found]) for name in ("unit", "cell")}
    columns |= {name: np.array([getattr(cell, name) for cell in found], np.int64) for name in ("published", "reconstructed")}
    return frame_kinds.native(columns, frames or frame_kinds.kind_of(people) or published.frames)


def evaluate(people: Any, truth: Any, published: Published | None = None, *, seed: int = 0, frames: str | None = None) -> Any:
    """Return how many of the true people are matched one to one on {block, sex, age, race, Hispanic}, beside two baselines.

    A frame with a row for each method ("reconstruction", "modal", "random"), measure ("exact_age"; "binned_age", by the product's
    bins for comparison, else 38) and size of block (by its true people; "all"): matched, truth, share. Baselines know published
    counts alone (see the manual); they need block tables of sex by age, and of every set of races by origin, and are left out where
    there are none. Raises InputError for a frame that is not of the form, and for a truth that has nobody.

    >>> agreement = dbrecon.evaluate(people, people, published)
    >>> agreement[agreement["method"] == "reconstruction"]["share"].dropna().unique().tolist()
    [1.0]
    """
    from dbrecon.recon.study.evaluation import METHODS, agreement_rows, compare

    published = _published(people, published, "evaluate")
    found, true_people = people_in_place(people, published.attributes).merged(), people_in_place(truth, what="the truth")
    true_people = replace(true_people, kind=published.product.categories.standing_for(true_people.kind)).merged()
    if not true_people.population:
        raise InputError("the truth has nobody")
    counts = _block_counts(published)
    bins = comparison_bins(published.product)
    agreement = compare(found, true_people, counts, np.random.default_rng(seed), bins)
    rows = agreement_rows(agreement, METHODS if counts is not None else METHODS[:1])
    columns: dict[str, list[Any]] = {
        name: [row[place] for row in rows] for place, name in enumerate(("method", "measure", "block_size", "matched", "truth"))
    }
    columns["share"] = [matched / of if of else None for matched, of in zip(columns["matched"], columns["truth"], strict=True)]
    return frame_kinds.native(columns, frames or frame_kinds.kind_of(truth) or published.frames)


def _block_counts(published: Published) -> "BlockCounts | None":
    """Return what the baselines know of the blocks; None where no table tells it."""
    from dbrecon.recon.study.evaluation import BlockCounts, Margins, NoBaselines, Units

    try:
        margins = Margins(published.product)
    except NoBaselines:
        return None
    units = [Units(int(tables.geoid) * BLOCKS_PER_TRACT + tables.blocks, tables.block_cells) for tables in published]
    return BlockCounts.concatenate([margins.of(of_tract) for of_tract in units])


def reidentify(
    people: Any,
    truth: Any,
    attacker: Any = None,
    *,
    certainty: Certainty | None = None,
    seed: int = 0,
    repeats: int = 1,
    frames: str | None = None,
) -> Any:
    """Measure what somebody who knows block, sex and age of people learns of race and origin from a reconstruction.

    ``attacker``: a frame of id, geoid_block, sex, age; None is one who knows everybody of the truth. ``truth``: a frame of people,
    with their id where the attacker has one. With ``certainty`` the rates of blocks without variability and of certain people
    are told too. The result has a row for each method (the reconstruction, and guesses that know published counts alone) and class
    of people: putative and confirmed matches, precision and recall (means over ``repeats`` draws of ties). Raises InputError for a
    frame that is not of the form, and an id that comes twice.

    >>> rates = dbrecon.reidentify(found, people)
    >>> int(rates["putative"].max())
    1000
    """
    from dbrecon.recon.risk.matching_study import County, study
    from dbrecon.recon.risk.record_files import read_attacker, read_truth
    from dbrecon.recon.risk.reidentification import Blocks, Certain, Known, Records

    bins = comparison_bins(people.published.product) if isinstance(people, Reconstruction) else COMPARISON_BINS
    categories = people.published.product.categories if isinstance(people, Reconstruction) else EVERY_KIND
    true = read_truth([frame_kinds.as_file(truth, "the truth")], bins, categories)
    if attacker is None:
        known = Known.of_truth(true.records.without_race(), np.arange(len(true.records)), true.records)
    else:
        known = read_attacker([frame_kinds.as_file(attacker, "the attacker's frame")], true)
    found = people_in_place(people).merged()
    blocks = None if certainty is None else Blocks(*_settled(certainty))
    sure = None if certainty is None else Certain(_certain_people(certainty))
    counties = {}
    for code in np.unique(found.geoid_block // COUNTY).tolist():
        here = Records.of_people(found.select(found.geoid_block // COUNTY == code), bins)
        counties[code] = partial(_same_county, County(here, blocks, sure) if blocks is not None else County(here))
    result = study(known, true.records, counties, ("attacker", "truth"), seed, repeats)
    return frame_kinds.native(_rates(result), frames or frame_kinds.kind_of(truth))


def _same_county(county: Any) -> Any:
    return county


def _settled(found: Certainty) -> tuple[Any, Any]:
    """Return blocks, ascending, and whether each has one solution alone."""
    records = [record for record, _ in found.by_tract.values()]
    ids = np.concatenate([int(record.geoid) * BLOCKS_PER_TRACT + record.blocks["block"] for record in records])
    return ids, np.concatenate([record.blocks["differ_upper"] == 0 for record in records])


def _certain_people(found: Certainty) -> People:
    from dbrecon.recon.certainty.county import certain_flags

    return People.concatenate([people.select(certain_flags(record, people)) for record, people in found.by_tract.values()])


def _rates(result: Any) -> dict[str, list[Any]]:
    from dbrecon.recon.risk.reidentification import METHODS

    rows = [
        (method, group, result.count(method, group, "putative"), result.count(method, group, "confirmed"),
         _or_none(result.precision(method, group).mean), _or_none(result.recall(method, group).mean))
        for method in METHODS
        for group in result.groups()
    ]  # fmt: skip
    names = ("method", "people", "putative", "confirmed", "precision", "recall")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _published(people: Any, published: Published | None, name: str) -> Published:
    if published is not None:
        check_published(published)
        return published
    if isinstance(people, Reconstruction):
        return people.published
    raise UsageError(f"{name} of a frame of people needs the published tables: published=")
