"""Certainty of real tracts and of Guernsey County, against what is known of them; skipped where the shared data are not there."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import highspy
import numpy as np
import pytest
import scipy.sparse as sp

from dbrecon.recon.census.bins import COMPARISON_BINS, SINGLE_AGES, comparison_bins
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.certainty.record import certainty_builder, counts_of
from dbrecon.recon.certainty.search import Budget, Proof
from dbrecon.recon.certainty.tract_certainty import TractCertainty, certainty
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People
from dbrecon.recon.people.people_reader import read_people
from dbrecon.recon.solve.program import Options
from dbrecon.recon.solve.propagation import UNBOUNDED, CountSystem, propagate
from dbrecon.recon.tract.model import Model, ModelBuilder, TractTables
from dbrecon.recon.tract.reconstruct import Reconstructor
from dbrecon.recon.tract.verify import tabulate
from tests.paths import SHARED_DATA

GUERNSEY = SHARED_DATA / "guernsey" / "truth_guernsey_oh.csv.gz"
REAL_TRACTS = sorted((SHARED_DATA / "real_tracts").glob("truth_*.csv.gz"))
PRODUCT = load_product()
BUILDER = certainty_builder(PRODUCT)

needs_shared = pytest.mark.skipif(not GUERNSEY.exists(), reason=f"no published data at {SHARED_DATA}")


def tracts_of(path: Path) -> Iterator[tuple[TractTables, People]]:
    """The tables of each tract of a file of true people (they were tabulated from it), and its people."""
    everyone = read_people(path)
    for geoid in np.unique(everyone.geoid_tract).tolist():
        people = everyone.select(everyone.geoid_tract == geoid)
        blocks, at = np.unique(people.geoid_block % BLOCKS_PER_TRACT, return_inverse=True)
        block_cells, tract_cells = tabulate(PRODUCT, len(blocks), at, people.kind, people.count)
        yield TractTables(f"{geoid:011d}", blocks, block_cells, tract_cells), people


@lru_cache(maxsize=1)
def guernsey() -> list[tuple[TractTables, People, Model, IntArray, TractCertainty]]:
    found = []
    for tables, people in tracts_of(GUERNSEY):
        model = BUILDER.build(tables)
        counts = counts_of(model, people)
        found.append((tables, people, model, counts, certainty(model, counts, Budget())))
    return found


def test_its_bins_are_those_in_which_reconstructions_are_compared() -> None:
    assert BUILDER.bins == comparison_bins(PRODUCT) == COMPARISON_BINS
    assert BUILDER.bins.n == 38


@needs_shared
@pytest.mark.parametrize("path", REAL_TRACTS, ids=lambda path: path.name)
def test_no_block_of_the_real_tracts_can_be_otherwise(path: Path) -> None:
    for tables, people in tracts_of(path):
        model = BUILDER.build(tables)
        found = certainty(model, counts_of(model, people), Budget())
        assert found.exact.upper.sum() == found.blockwise.upper.sum() == found.any_two.sum() == 0
        assert found.certain.sum() == people.population
        assert set(found.exact.proof.tolist()) == {Proof.PROPAGATION}
        made = Reconstructor(PRODUCT).reconstruct(tables, Options()).people
        assert (counts_of(model, made) == counts_of(model, people)).all(), "whoever reconstructs it finds these people"


@needs_shared
def test_guernsey_s_blocks_without_variability_and_certain_people() -> None:
    """These do not depend on the reconstruction (here it is the truth itself)."""
    exact = np.concatenate([found.exact.upper for *_, found in guernsey()])
    blockwise = np.concatenate([found.blockwise.upper for *_, found in guernsey()])
    assert len(exact) == 2_185
    assert (exact == 0).sum() == 2_093
    assert (blockwise == 0).sum() == 2_054
    assert sum(int(found.certain.sum()) for *_, found in guernsey()) == 39_738
    assert Proof.OPEN not in np.concatenate([found.exact.proof for *_, found in guernsey()])
    assert (exact.sum(), blockwise.sum()) == (292, 486), "these do depend on it: the farthest from the truth"


@needs_shared
@pytest.mark.parametrize("objective", ["spread", "none"])
def test_guernsey_from_its_tables_alone_is_as_sure_and_the_truth_is_no_farther_than_it_says(objective: str) -> None:
    """The sums are of other people than the truth (294 and 487 spread, 296 and 493 at a vertex; 297 and 492 were published)."""
    reconstructor = Reconstructor(PRODUCT)
    without, certain, differ, truth_differs = np.zeros(2, np.int64), 0, np.zeros(2, np.int64), 0
    for tables, _, model, truth, _ in guernsey():
        counts = counts_of(model, reconstructor.reconstruct(tables, Options(objective=objective)).people)
        found = certainty(model, counts, Budget(), intervals=True)
        assert ((found.cells.lower <= truth) & (truth <= found.cells.upper)).all()
        away = np.bincount(model.block, weights=np.abs(truth - counts), minlength=len(model.blocks)) / 2
        assert (away <= found.exact.upper).all()
        assert (found.exact.lower == found.exact.upper).all()
        for number, distances in enumerate((found.exact, found.blockwise)):
            without[number] += (distances.upper == 0).sum()
            differ[number] += distances.upper.sum()
        certain += int(found.certain.sum())
        truth_differs += int(away.sum())
    assert without.tolist() == [2_093, 2_054]
    assert certain == 39_738
    assert 290 <= differ[0] <= 300
    assert 484 <= differ[1] <= 496
    assert 0 < truth_differs <= differ[0]


def unbinned_distance(model: Model, kinds: IntArray, people: People, block: int) -> int:
    """The distance of a block by the big-M program over single ages, as the solver says: the plain way, without any reduction.

    ``kinds`` (variables,) are the comparison's kinds of the model's.
    """
    n = model.n_variables
    here = np.flatnonzero(model.block == block)
    cells, cell_of = np.unique(kinds[here], return_inverse=True)
    inside = people.geoid_block % BLOCKS_PER_TRACT == model.blocks[block]
    h = np.array([int(people.count[inside & (BUILDER.bins.of_kind(people.kind) == cell)].sum()) for cell in cells], np.float64)
    k, big = len(cells), float(h.sum())
    system = CountSystem.of_model(model)
    upper = propagate(system, np.zeros(n, np.int64), np.full(n, UNBOUNDED))[1].astype(np.float64)
    sums = sp.csr_array((np.ones(model.n_nonzeros), model.columns, model.starts), shape=(model.n_constraints, n))
    pick = sp.csr_array((np.ones(len(here)), (cell_of, here)), shape=(k, n))
    unit, zero = sp.eye_array(k), sp.csr_array((k, n))
    # s <= the people in common, as large as can be, were it not minimised: s >= x - big z and s >= h - big (1 - z).
    rows = sp.csr_array(
        sp.vstack(
            [
                sp.hstack([sums, sp.csr_array((model.n_constraints, 2 * k))]),
                sp.hstack([-pick, unit, big * unit]),
                sp.hstack([zero, unit, -big * unit]),
            ]
        )
    )
    highs = highspy.Highs()
    for name, value in (("output_flag", False), ("threads", 1), ("mip_rel_gap", 0.0), ("mip_abs_gap", 0.9)):
        highs.setOptionValue(name, value)
    highs.passModel(
        n + 2 * k,
        rows.shape[0],
        rows.nnz,
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        np.concatenate([np.zeros(n), np.ones(k), np.zeros(k)]),
        np.zeros(n + 2 * k),
        np.concatenate([upper, h, np.ones(k)]),
        np.concatenate([model.rhs, np.zeros(k), h - big]).astype(np.float64),
        np.concatenate([model.rhs.astype(np.float64), np.full(2 * k, np.inf)]),
        rows.indptr.astype(np.int32),
        rows.indices.astype(np.int32),
        rows.data.astype(np.float64),
        np.ones(n + 2 * k, np.int32),
    )
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return int(h.sum()) - round(highs.getInfo().objective_function_value)


@pytest.mark.slow
@needs_shared
def test_distances_are_those_of_the_program_over_single_ages() -> None:
    """Bins, propagation, parts, chords and proofs change nothing: real blocks, the whole tract's program of single ages."""
    single = ModelBuilder(PRODUCT, SINGLE_AGES)
    for tables, people, model, _, found in guernsey()[:2]:
        plain = single.build(tables)
        kinds = BUILDER.bins.of_kind(plain.kind)
        farthest = np.argsort(-found.exact.upper, kind="stable")[:2].tolist()
        only_blockwise = np.flatnonzero((found.exact.upper == 0) & (found.blockwise.upper > 0))[:1].tolist()
        for block in farthest + only_blockwise:
            assert unbinned_distance(plain, kinds, people, block) == found.exact.upper[block]
        assert model.blocks.tolist() == plain.blocks.tolist()


@needs_shared
@pytest.mark.parametrize("path", REAL_TRACTS[:2], ids=lambda path: path.name)
def test_blocks_of_real_tracts_are_as_sure_by_the_program_over_single_ages(path: Path) -> None:
    tables, people = next(tracts_of(path))
    plain = ModelBuilder(PRODUCT, SINGLE_AGES).build(tables)
    kinds = BUILDER.bins.of_kind(plain.kind)
    for block in np.argsort(-np.bincount(plain.block), kind="stable")[:3].tolist():
        assert unbinned_distance(plain, kinds, people, block) == 0


@needs_shared
def test_the_truth_lies_within_every_interval_of_a_reconstruction() -> None:
    """Solutions that the search has seen stand for reconstructions; from each the truth is no farther than its upper bound."""
    for _, _, _, counts, found in guernsey():
        assert ((found.cells.lower <= counts) & (counts <= found.cells.upper)).all()
        assert (found.cells.seen_lower >= found.cells.lower).all()
        assert (found.cells.seen_upper <= found.cells.upper).all()
