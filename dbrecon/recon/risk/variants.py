"""What other tables, or other protections, would give away: known people tabulated, reconstructed and compared, variant by variant.

Everything is done in memory, tract by tract; the records never leave the process but for its workers.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dbrecon.errors import InputError
from dbrecon.recon.census.bins import AgeBins, comparison_bins
from dbrecon.recon.census.inexact import SUPPRESSED, Inexact
from dbrecon.recon.census.kinds import N_KINDS, N_RH, IntArray
from dbrecon.recon.census.subset import restricted
from dbrecon.recon.census.tables import Product, load_product
from dbrecon.recon.certainty.record import certainty_bins, certainty_builder, counts_of
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.certainty.tract_certainty import certainty
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People
from dbrecon.recon.risk.protections import RecordProtection
from dbrecon.recon.risk.reidentification import (
    NO_BLOCKS,
    Blocks,
    Certain,
    Known,
    Records,
    Tally,
    population_of,
    study_county,
)
from dbrecon.recon.risk.sure import SureBlocks, SureSizes
from dbrecon.recon.solve.program import Options
from dbrecon.recon.study.evaluation import binned
from dbrecon.recon.tract.model import Model, TractTables
from dbrecon.recon.tract.reconstruct import Reconstruction, Reconstructor
from dbrecon.recon.tract.verify import tabulate

MOST_NONZEROS = 1_500_000
"""Of the largest program that is tried where cells are inexact: a million take some 10 CPU seconds, 2.5 million hours."""


@dataclass(frozen=True)
class Variant:
    """One way to publish: the tables, what is done to the records before they are tabulated (None: nothing), and to cells before
    they are published (None: nothing).

    ``product`` and ``tables`` are what :func:`dbrecon.recon.census.tables.load_product` takes: workers load it once each.
    ``inexact`` holds for the tables that are named in ``inexact_tables``; where none is, for all but the first
    block table, which tells how many people there are, and tallies of races, whose sums count people several times.
    """

    name: str
    product: Path
    tables: str = "all"
    protection: RecordProtection | None = None
    inexact: Inexact | None = None
    inexact_tables: tuple[str, ...] = ()


@lru_cache(maxsize=64)  # as many as there are tables to leave out in turn
def product_of(product: Path, tables: str, inexact: Inexact | None = None, names: tuple[str, ...] = ()) -> Product:
    """Return the tables of a variant. Raises InputError and UsageError as ``load_product`` and ``restricted`` do."""
    exact = load_product(product, tables)
    if inexact is None:
        return exact
    first = exact.tables_of("block")[0]
    chosen = names or tuple(table.name for table in exact.tables if table != first and not table.tallies)
    return restricted(exact, "all", dict.fromkeys(chosen, inexact))


@dataclass(frozen=True)
class TractResult:
    """What one variant gives away of one tract. ``blocks`` (B,) are those with people after the protection.

    ``people``: the reconstruction; ``differ`` and ``certain`` (B,): the most people by which another data set with these tables can
    differ, and people who are in all of them; these and ``certain_people`` are None where cells are not exact: certainty is not
    told of such tables. ``error``: the sum over the tract's cells of |published - true|, and their number. ``solver``: its name and
    version.
    """

    blocks: IntArray
    people: Records
    block_people: IntArray
    differ: IntArray | None
    certain: IntArray | None
    certain_people: People | None
    error: tuple[float, int]
    solver: str


@dataclass(frozen=True)
class VariantResult:
    """What one variant gives away in all: sums over tracts.

    ``truth``: how many true people; ``matched`` (2,): true records matched one to one on exact age and on bins; ``error``: the
    mean absolute error of a published cell (one that is withheld stands for the middle of what it may be); ``people``: the
    reconstruction; ``certain_people``: those in every data set with these tables, their ages the first of their bins. ``blocks``
    and ``certain_people`` are None where cells are not exact.
    """

    name: str
    solver: str
    truth: int
    matched: tuple[int, int]
    error: float
    tally: Tally = field(repr=False)
    blocks: SureBlocks | None = field(repr=False)
    people: People = field(repr=False)
    certain_people: People | None = field(repr=False)

    @property
    def agreement(self) -> tuple[float, float]:
        """The shares of true people matched on exact age and on bins, 0 to 1."""
        return self.matched[0] / self.truth, self.matched[1] / self.truth

    @property
    def sizes(self) -> SureSizes | None:
        """How sure it is, by size of block; None where that is not told."""
        return None if self.blocks is None else SureSizes.of(self.blocks)


def tracts_of(product: Product, people: People) -> Iterator[TractTables]:
    """Yield the tables of each tract with people, as they would be published; ascending."""
    order = np.argsort(people.geoid_block, kind="stable")
    block, kind, count = people.geoid_block[order], people.kind[order], people.count[order]
    tract = block // BLOCKS_PER_TRACT
    for geoid in np.unique(tract).tolist():
        start, end = np.searchsorted(tract, [geoid, geoid + 1])
        blocks, at = np.unique(block[start:end], return_inverse=True)
        block_cells, tract_cells = tabulate(product, len(blocks), at, kind[start:end], count[start:end])
        yield TractTables(f"{geoid:011d}", blocks % BLOCKS_PER_TRACT, block_cells, tract_cells)


@lru_cache(maxsize=8)
def _reconstructor(product: Path, tables: str, inexact: Inexact | None, names: tuple[str, ...]) -> Reconstructor:
    return Reconstructor(product_of(product, tables, inexact, names))


def study_tract(variant: Variant, tables: TractTables, true_cells: TractTables, options: Options, budget: Budget) -> TractResult:
    """Reconstruct one tract of a variant, and find how sure that is. ``true_cells`` are its cells without any protection."""
    reconstructor = _reconstructor(variant.product, variant.tables, variant.inexact, variant.inexact_tables)
    found = reconstructor.reconstruct(tables, options)
    ids = int(tables.geoid) * BLOCKS_PER_TRACT + tables.blocks
    people = Records.of_people(found.people, comparison_bins(reconstructor.product))
    block_people = np.bincount(np.searchsorted(ids, people.block), minlength=len(ids))
    error = cell_error(reconstructor.product, tables, true_cells)
    if reconstructor.product.inexact:
        return TractResult(ids, people, block_people, None, None, None, error, found.solver)
    model, values = _in_compared_bins(reconstructor, found, tables)
    sure = certainty(model, values, budget)
    counts = np.minimum(sure.cells.lower, values)
    certain_people = People(ids[model.block], model.bins.first_kind(model.kind), counts).select(counts > 0)
    return TractResult(ids, people, block_people, sure.exact.upper, sure.certain, certain_people, error, found.solver)


def _in_compared_bins(reconstructor: Reconstructor, found: Reconstruction, tables: TractTables) -> tuple[Model, IntArray]:
    """Return the program of which certainty is told, and its answer: in the bins of every way to publish, or finer.

    A reconstruction's own may be coarser where tables tell less, and then fewer people would seem to differ.
    """
    if certainty_bins(reconstructor.product) == found.model.bins:
        return found.model, found.values
    model = certainty_builder(reconstructor.product).build(tables)
    return model, counts_of(model, found.people)


def cell_error(product: Product, published: TractTables, true: TractTables) -> tuple[float, int]:
    """Return (the sum of |published - true| over all cells of blocks and tract, how many cells these are)."""
    blocks = np.union1d(published.blocks, true.blocks)
    cells = np.zeros((2, len(blocks), published.block_cells.shape[1]))
    cells[0, np.searchsorted(blocks, published.blocks)] = _as_read(product, "block", published.block_cells)
    cells[1, np.searchsorted(blocks, true.blocks)] = true.block_cells
    total = np.abs(cells[0] - cells[1]).sum() + np.abs(_as_read(product, "tract", published.tract_cells) - true.tract_cells).sum()
    return float(total), cells[0].size + published.tract_cells.size


def _as_read(product: Product, level: str, cells: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return published cells as somebody reads them: one that is withheld as the middle of what it may be."""
    least, most = product.intervals(level, cells)
    return np.where(cells == SUPPRESSED, (least + most) / 2, cells)


def check_size(variant: Variant, truth: People, seed: int) -> None:
    """Refuse a way to publish whose programs are too large to be solved: InputError, told by the tract with most blocks.

    Cells that may be 0 or not leave nearly every kind of person possible, where exact ones forbid most.
    """
    if variant.inexact is None:
        return
    tracts, blocks = np.unique(np.unique(truth.geoid_block) // BLOCKS_PER_TRACT, return_counts=True)
    tract = int(tracts[np.argmax(blocks)])
    reconstructor = _reconstructor(variant.product, variant.tables, variant.inexact, variant.inexact_tables)
    product = reconstructor.product
    records = _records(product, truth.select(truth.geoid_tract == tract))
    [(tables, _)] = _tasks(product, records, _protected(variant, records, seed), seed)
    model = reconstructor.builder.build(tables)
    if model.n_nonzeros > MOST_NONZEROS:
        fewer = ",".join(table.name for table in product.inexact[:2])
        raise InputError(
            f"{variant.name}: so many cells leave {model.n_variables:,} kinds of people possible in the {blocks.max():,} blocks of "
            f"tract {tract:011d}, too many to be solved for; protect fewer tables (round=5:{fewer}), or suppress instead"
        )


def in_categories(product: Product, people: People) -> People:
    """Return true people, merged, in the categories that the product knows."""
    return replace(people, kind=product.categories.standing_for(people.kind)).merged()


def _records(product: Product, people: People) -> Records:
    return Records.of_people(in_categories(product, people), comparison_bins(product))


def _protected(variant: Variant, records: Records, seed: int) -> Records:
    if variant.protection is None:
        return records
    return variant.protection(records, np.random.default_rng([seed, len(variant.name)]))


def study_variant(
    variant: Variant,
    truth: People,
    seed: int,
    options: Options,
    budget: Budget,
    executor: Executor | None = None,
    done: Callable[[int], object] = int,
) -> VariantResult:
    """Study a variant on true people: agreement, certainty, reidentification by somebody who knows everybody's block, sex and age.

    A pure function of the people, the variant and the seed, however many workers the ``executor`` has; ``done`` hears of each
    tract. Raises InputError where there is nobody, and what a reconstruction raises.
    """
    if not truth.population:
        raise InputError(f"{variant.name}: there is nobody to study")
    product = product_of(variant.product, variant.tables, variant.inexact, variant.inexact_tables)
    records = _records(product, truth)
    protected = _protected(variant, records, seed)
    tasks = _tasks(product, records, protected, seed)
    run: Callable[..., Iterator[TractResult]] = executor.map if executor is not None else map
    n = len(tasks)
    published, true_cells = [task[0] for task in tasks], [task[1] for task in tasks]
    results = []
    for result in run(study_tract, [variant] * n, published, true_cells, [options] * n, [budget] * n):
        results.append(result)
        done(1)
    return _sum_up(variant.name, records, protected, results, seed)


def _tasks(product: Product, records: Records, protected: Records, seed: int) -> list[tuple[TractTables, TractTables]]:
    """Each tract's tables as published, and as they would be of the true records. Protections move nobody to another tract."""
    true = {tables.geoid: tables for tables in tracts_of(product, _people(records))}
    return [(_published(product, tables, seed), true[tables.geoid]) for tables in tracts_of(product, _people(protected))]


def _published(product: Product, tables: TractTables, seed: int) -> TractTables:
    """Return a tract's counts as they are published: rounded and withheld where the product says so."""
    if not product.inexact:
        return tables
    rng = np.random.default_rng([seed, int(tables.geoid)])
    block_cells = product.publish("block", tables.block_cells, rng)
    return replace(tables, block_cells=block_cells, tract_cells=product.publish("tract", tables.tract_cells, rng))


def _people(records: Records) -> People:
    return People(records.block, records.sa * N_RH + records.rh, np.ones(len(records), np.int64))


def _sum_up(name: str, truth: Records, protected: Records, results: Sequence[TractResult], seed: int) -> VariantResult:
    """Sum tracts up. The attacker looks people up in the block and at the age that they have in ``protected``: who knows that ages
    or blocks were made coarser makes the own ones so too."""
    people = Records.concatenate([result.people for result in results])
    blocks = _sure_blocks(results)
    certain_people = None
    if blocks is not None:
        certain_people = People.concatenate([r.certain_people for r in results if r.certain_people is not None])
    everywhere, shares = population_of([people])
    known = Known.of_truth(protected.without_race(), np.arange(len(truth)), truth)
    settled = NO_BLOCKS if blocks is None else Blocks(blocks.geoid, blocks.differ == 0)
    certain = None if certain_people is None else Certain(certain_people)
    tally = study_county(known, people, truth, everywhere, shares, np.random.default_rng(seed), settled, certain)
    error, cells = np.sum([r.error for r in results], axis=0)
    found = _people(people).merged()
    return VariantResult(
        name=name,
        solver=results[0].solver,
        truth=len(truth),
        matched=_agreement(found, _people(truth), truth.bins),
        error=float(error / cells),
        tally=tally,
        blocks=blocks,
        people=found,
        certain_people=certain_people,
    )


def _sure_blocks(results: Sequence[TractResult]) -> SureBlocks | None:
    """Return how sure each block's people are; None where that is not told."""
    if any(result.differ is None for result in results):
        return None
    geoid, people, differ, certain = (
        np.concatenate([getattr(r, name) for r in results]) for name in ("blocks", "block_people", "differ", "certain")
    )
    order = np.argsort(geoid)
    return SureBlocks(geoid[order], people[order], differ[order], certain[order])


def _agreement(people: People, truth: People, bins: AgeBins) -> tuple[int, int]:
    """Count true records matched one to one on block, sex, age (exact; bin), race and origin."""
    return _in_common(people.merged(), truth.merged()), _in_common(binned(people, bins), binned(truth, bins))


def _in_common(first_people: People, second_people: People) -> int:
    first = int(min(first_people.geoid_block.min(initial=10**15), second_people.geoid_block.min(initial=10**15)))
    first_keys, second_keys = ((p.geoid_block - first) * N_KINDS + p.kind for p in (first_people, second_people))
    _, a, b = np.intersect1d(first_keys, second_keys, assume_unique=True, return_indices=True)
    return int(np.minimum(first_people.count[a], second_people.count[b]).sum())
