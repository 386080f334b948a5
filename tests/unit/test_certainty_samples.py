"""Samples of step 6, against the list of all data sets with the same tables and against sums done the plain slow way."""

import csv
import io
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbrecon.ctools.storage import read_bytes
from dbrecon.experiment import Experiment
from dbrecon.recon.census.bins import SINGLE_AGES
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.calibration import STARTS, calibrate
from dbrecon.recon.certainty.sample_record import SampleOrder, SampleRecord
from dbrecon.recon.certainty.sampling import draw_samples
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.people.people import People
from dbrecon.recon.tract.model import Model
from dbrecon.settings import Config
from dbrecon.steps.certainty_records import make_record_of
from dbrecon.steps.county_certainty import close_county
from dbrecon.steps.samples import make_samples_of
from tests.certainty_world import SmallTract, listed, small_tracts, write_county
from tests.helpers import random_people

TRACTS = {"000100": random_people(1, 5, 120), "000200": random_people(2, 3, 60, 30)}
Cell = tuple[str, ...]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(small_tracts(), st.sampled_from([Budget(), Budget(checks=1)]))
def test_every_draw_is_a_data_set_with_these_tables(tract: SmallTract, budget: Budget) -> None:
    drawn = draw_samples(tract.model, tract.counts, 12, 5, budget)
    known = {tuple(row) for row in listed(tract.model).tolist()}
    for values in drawn.values:
        whole = tract.counts.copy()
        whole[drawn.columns] = values
        assert tuple(whole.tolist()) in known
    again = draw_samples(tract.model, tract.counts, 12, 5, budget)
    assert np.array_equal(drawn.values, again.values)


def tract_of_grids(sizes: tuple[int, ...], shared: tuple[int, ...]) -> SmallTract:
    """A block for each size: a 3 x 3 grid of kinds, so many people in each row and column. The tract counts ``shared`` kinds."""
    members, row_block, kinds = [], [], np.arange(9).reshape(3, 3)
    for number in range(len(sizes)):
        for line in [*kinds, *kinds.T]:
            members.append(9 * number + line)
            row_block.append(number)
    for of_tract in shared:
        members.append(np.arange(of_tract, 9 * len(sizes), 9))
        row_block.append(-1)
    grids = [sum(np.roll(np.eye(3, dtype=np.int64), shift, 1) for shift in range(size)) for size in sizes]
    counts = np.stack(grids).ravel()
    starts = np.concatenate([[0], np.cumsum([len(columns) for columns in members])])
    rhs = np.array([counts[columns].sum() for columns in members])
    block, kind = np.arange(len(counts)) // 9, np.arange(len(counts)) % 9
    blocks, group = 1000 + np.arange(len(sizes)), np.zeros(len(members), np.int64)
    columns = np.concatenate(members)
    of_one_sex = np.array([True])
    model = Model("10001000100", blocks, block, kind, starts, columns, rhs, group, np.array(row_block), ("count",), of_one_sex)
    return SmallTract(model, counts)


def ways_of_grids(tract: SmallTract, shared: tuple[int, ...]) -> int:
    """How many data sets have the tables of a tract of grids, listed the plain way."""
    grids = []
    for counts in tract.counts.reshape(-1, 9):
        size = int(counts[:3].sum())
        lines = [line for line in itertools.product(range(size + 1), repeat=3) if sum(line) == size]
        grids.append(
            [sum(rows, ()) for rows in itertools.product(lines, repeat=3) if {*map(sum, zip(*rows, strict=True))} == {size}]
        )
    sums = tuple(int(tract.counts[kind::9].sum()) for kind in shared)
    return sum(tuple(sum(grid[kind] for grid in chosen) for kind in shared) == sums for chosen in itertools.product(*grids))


def distance_from_uniform(values: IntArray, ways: int) -> float:
    """The total variation between how often values occur and the uniform distribution over so many ways."""
    _, times = np.unique(values, axis=0, return_counts=True)
    return float(np.abs(times / len(values) - 1 / ways).sum() + (ways - len(times)) / ways) / 2


@pytest.mark.slow
def test_a_walk_draws_all_data_sets_alike_and_corners_do_not() -> None:
    tract = tract_of_grids((3, 2), (0, 5))
    ways = ways_of_grids(tract, (0, 5))
    assert ways > 50
    drawn = draw_samples(tract.model, tract.counts, 300, 1, Budget(), walking=True)
    by_chance = distance_from_uniform(np.random.default_rng(1).integers(0, ways, (300, 1)), ways)
    assert distance_from_uniform(drawn.values, ways) < 1.3 * by_chance
    assert (drawn.mixing.stuck, drawn.mixing.unmixed) == (0, 0)
    assert abs(drawn.mixing.covariance) < 0.05 * drawn.mixing.variance, "samples after one another are independent"
    corners = draw_samples(tract.model, tract.counts, 300, 1, Budget())
    assert distance_from_uniform(corners.values, ways) > 2 * by_chance


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(small_tracts())
def test_a_walk_stays_among_the_data_sets_with_these_tables(tract: SmallTract) -> None:
    drawn = draw_samples(tract.model, tract.counts, 3, 5, Budget(), walking=True)
    known = {tuple(row) for row in listed(tract.model).tolist()}
    for values in drawn.values:
        whole = tract.counts.copy()
        whole[drawn.columns] = values
        assert tuple(whole.tolist()) in known


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    experiment = Experiment("r1", str(tmp_path), "all", Config())
    write_county(experiment, "de", "001", TRACTS)
    return experiment


def step6(experiment: Experiment, order: SampleOrder | None = None, cells: bool = False) -> list[bool]:
    """Do step 6 of the county; which tracts' samples had to be drawn."""
    for tract in TRACTS:
        make_record_of(experiment, "de", "001", tract, cells)
    drawn = [] if order is None else [make_samples_of(experiment, "de", "001", tract, order) for tract in TRACTS]
    close_county(experiment, "de", "001", sorted(TRACTS))
    return drawn


def rows_of(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(read_bytes(path).decode())))


def kept_samples(experiment: Experiment) -> list[Counter[Cell]]:
    """Each kept sample of the county as people by block and cell, counted the plain way."""
    found: list[Counter[Cell]] = [Counter() for _ in range(9)]
    for tract in TRACTS:
        for row in pq.read_table(experiment.samples("de", "001", tract)).to_pylist():
            flags = ["NY"[row[name]] for name in ("white", "black", "aian", "asian", "nhopi", "sor", "hisp")]
            last = "" if row["age_last"] is None else str(row["age_last"])
            found[row["sample"] - 1][row["geoid_block"], row["sex"], str(row["age_first"]), last, *flags] += row["count"]
    return found


def cells_of_people(experiment: Experiment, samples: list[Counter[Cell]]) -> list[Cell]:
    """The cell of each line of the people's file."""
    ages = sorted({(int(cell[2]), int(cell[3] or 999)) for sample in samples for cell in sample})
    found = []
    for row in rows_of(experiment.synth_out("de", "001")):
        first, last = next(pair for pair in ages if pair[0] <= int(row["age"]) <= pair[1])
        flags = [row[name] for name in ("white", "black", "aian", "asian", "nhopi", "sor", "hisp")]
        found.append((row["geoid_block"], row["sex"], str(first), "" if last == 999 else str(last), *flags))
    return found


def test_confidence_and_distances_are_those_of_the_kept_samples(experiment: Experiment) -> None:
    assert step6(experiment, SampleOrder(9, 4, keep=True), cells=True) == [True, True]
    samples = kept_samples(experiment)
    people = cells_of_people(experiment, samples)
    beside = rows_of(experiment.people_certainty("de", "001"))
    seen: Counter[Cell] = Counter()
    for cell, line in zip(people, beside, strict=True):
        seen[cell] += 1
        holders = sum(sample[cell] >= seen[cell] for sample in samples)
        assert line["confidence"] == f"{holders / 9:.4f}"
        assert line["certain"] == "N" or holders == 9
    assert {line["certain"] for line in beside if line["confidence"] != "1.0000"} == {"N"}

    own = Counter(people)
    blocks = rows_of(experiment.sample_blocks("de", "001"))
    assert any(float(row["mean_differ"]) > 0 for row in blocks)
    for row in blocks:
        apart = [distance(a, b, row["geoid_block"]) for a, b in itertools.combinations(samples, 2)]
        away = [distance(own, sample, row["geoid_block"]) for sample in samples]
        assert float(row["mean_differ"]) == pytest.approx(np.mean(apart), abs=6e-5)
        assert float(row["mean_from_people"]) == pytest.approx(np.mean(away), abs=6e-5)
        assert int(row["most_from_people"]) == max(away)
    for line in rows_of(experiment.sample_cells("de", "001")):
        values = [sample[tuple(list(line.values())[:11])] for sample in samples]
        assert float(line["mean"]) == pytest.approx(np.mean(values), abs=6e-5)
        assert float(line["standard_deviation"]) == pytest.approx(np.std(values), abs=6e-5)
        assert (int(line["min"]), int(line["max"])) == (min(values), max(values))


def distance(first: Counter[Cell], other: Counter[Cell], block: str) -> int:
    return sum(abs(first[cell] - other[cell]) for cell in first.keys() | other.keys() if cell[0] == block) // 2


def test_samples_that_are_there_are_not_drawn_again_and_never_of_other_people(experiment: Experiment) -> None:
    order = SampleOrder(3, 1)
    step6(experiment, order)
    first = read_bytes(experiment.people_certainty("de", "001"))
    assert step6(experiment, order) == [False, False]
    assert step6(experiment) == []
    assert read_bytes(experiment.people_certainty("de", "001")) == first, "what was drawn stays"
    Path(experiment.samples_record("de", "001", "000200")).write_bytes(b"half")
    assert step6(experiment, order) == [False, True]
    assert step6(experiment, SampleOrder(3, 2)) == [True, True]
    assert step6(experiment, SampleOrder(3, 2, keep=True)) == [True, True], "they were not kept"
    write_county(experiment, "de", "001", TRACTS | {"000200": random_people(9, 3, 60, 30)})
    step6(experiment)
    assert read_bytes(experiment.people_certainty("de", "001")).startswith(b"certain\n"), "some are of other people"
    assert not Path(experiment.sample_blocks("de", "001")).exists()
    assert step6(experiment, SampleOrder(3, 2)) == [False, True]
    assert not Path(experiment.samples("de", "001", "000200")).exists(), "kept samples of other people are gone"


def test_a_record_is_read_as_it_was_written(experiment: Experiment) -> None:
    step6(experiment, SampleOrder(2))
    path = experiment.samples_record("de", "001", "000100")
    assert SampleRecord.parse(read_bytes(path), path).text() == read_bytes(path)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(STARTS))), st.lists(st.integers(0, 3)))
def test_calibration_counts_the_kth_of_equals_as_true_if_the_truth_has_k(
    people: list[tuple[int, int, float]], truth: list[int]
) -> None:
    blocks = np.array([100010001001000 + block for block, _, _ in people], np.int64)
    one_each = np.ones(len(people), np.int64)
    reconstructed = People(blocks, np.array([kind for _, kind, _ in people], np.int64), one_each)
    known = People(np.full(len(truth), 100010001001000), np.array(truth, np.int64), np.ones(len(truth), np.int64))
    found = calibrate(reconstructed, np.array([share for _, _, share in people]), known, SINGLE_AGES)
    left, true = Counter(truth), [0] * len(STARTS)
    for block, kind, share in people:
        if block == 0 and left[kind] > 0:
            left[kind] -= 1
            true[STARTS.index(share)] += 1
    assert found.true.tolist() == true
    assert found.people.tolist() == [sum(share == start for _, _, share in people) for start in STARTS]
    assert [row["people"] for row in found.rows()] == found.people.tolist()
