"""What reports are made of: sums over counties, equal to those of the studies that they stand for."""

import dataclasses

import numpy as np
import pytest

from dbrecon.console.report_command import rings_of
from dbrecon.recon.census.bins import COMPARISON_BINS
from dbrecon.recon.census.kinds import N_AGES, N_RH, N_SA, IntArray
from dbrecon.recon.census.tables import Product, load_product
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People
from dbrecon.recon.risk.findings import (
    LEVELS,
    Findings,
    Results,
    Truth,
    find,
    five_years,
    precision_by_rank,
    published_ages,
    total,
)
from dbrecon.recon.risk.matching_study import County, study_pieces
from dbrecon.recon.risk.reidentification import Records, population_of
from dbrecon.recon.risk.sure import SureBlocks
from dbrecon.recon.study.evaluation import Margins, Units, compare
from dbrecon.recon.tract.verify import tabulate
from dbrecon.report.place_sections import Geography, calibration, places

COUNTY = 39_059
TRACTS = (977_100, 977_200)
WHITE, BLACK = 62, 30


@pytest.fixture(scope="module")
def product() -> Product:
    return load_product()


def random_records(seed: int, number: int, blocks: int = 8) -> Records:
    """People of two tracts, of some ages and few races."""
    rng = np.random.default_rng(seed)
    tract = np.array(TRACTS)[rng.integers(0, 2, number)]
    block = (COUNTY * 10**6 + tract) * BLOCKS_PER_TRACT + 1000 + rng.integers(0, blocks, number)
    people = Records(block, rng.integers(0, N_SA, number), rng.choice([WHITE, WHITE, BLACK, 3], number))
    return people.select(np.lexsort((people.rh, people.sa, people.block)))


def found(product: Product, results: Results, truth: Records | None, repeats: int = 1) -> Findings:
    known = None if truth is None else Truth.known_to_all(truth)
    return find(product, COUNTY, results, None, known, population_of([results.people]), 0, repeats)


def test_the_truth_itself_is_right_in_everything(product: Product) -> None:
    people = random_records(1, 900)
    sums = found(product, Results(people), people, repeats=2)
    assert sums.people == 900
    assert [sums.agreement.share("reconstruction", m) for m in ("exact_age", "binned_age")] == [1.0, 1.0]
    assert len(sums.tallies) == 2
    assert sums.tracts.matched.tolist() == sums.tracts.true.tolist() == sums.tracts.people.tolist()
    assert sums.tallies[0].count("reconstruction", "all", "putative_exact") == 900


def test_agreement_is_the_evaluation_s_and_the_rates_the_study_s(product: Product) -> None:
    people, truth = random_records(2, 700), random_records(3, 700)
    sums = found(product, Results(people), truth)
    blocks, at = np.unique(people.block, return_inverse=True)
    cells, _ = tabulate(product, len(blocks), at, people.sa * N_RH + people.rh, np.ones(700, np.int64))
    expected = compare(
        merged(people),
        merged(truth),
        Margins(product).of(Units(blocks, cells)),
        np.random.default_rng([0, COUNTY]),
        COMPARISON_BINS,
    )
    assert (sums.agreement.matched == expected.matched).all()
    tally = study_pieces(Truth.known_to_all(truth).known, County(people), truth, population_of([people]), (0, COUNTY), 1)[0]
    assert (sums.tallies[0].counts == tally.counts).all()


def merged(records: Records) -> People:
    return People(records.block, records.sa * N_RH + records.rh, np.ones(len(records), np.int64)).merged()


def test_a_county_in_pieces_has_everybody_once() -> None:
    people, truth = random_records(4, 800), random_records(5, 800)
    known = Truth.known_to_all(truth).known
    whole, pieces = (
        study_pieces(known, County(people), truth, population_of([people]), (0, COUNTY), 1, at_once)[0] for at_once in (10**6, 10)
    )
    for measure in ("known", "true_people", "putative", "putative_exact"):
        for method in ("reconstruction", "modal guess"):
            assert whole.count(method, "all", measure) == pieces.count(method, "all", measure)
    assert whole.chance == pytest.approx(pieces.chance)


def test_counties_add_up(product: Product) -> None:
    people, other = random_records(6, 300), random_records(7, 200)
    moved = Records(other.block + 10**10, other.sa, other.rh)
    parts = [found(product, Results(people), people), found(product, Results(moved), moved), found(product, Results(moved), None)]
    sums = total(parts)
    assert sums.people == 700
    assert int(sums.blocks.sum()) == sum(len(np.unique(item.block)) for item in (people, moved, moved))
    assert sums.tallies[0].count("reconstruction", "all", "known") == 500
    by_county = total(parts[:2]).tracts.by_county()
    assert (by_county.geoid.tolist(), by_county.people.tolist()) == ([COUNTY, COUNTY + 1], [300, 200])
    assert np.isnan(by_county.differ).all()


@pytest.mark.parametrize("tables", ["all", "block"])
def test_published_ages_are_those_of_the_people_who_were_counted(tables: str) -> None:
    product = load_product(tables=tables)
    level = "tract" if tables == "all" else "block"
    people = random_records(8, 2000)
    cells = tabulate(product, 1, np.zeros(2000, np.int64), people.sa * N_RH + people.rh, np.ones(2000, np.int64))
    counted = np.asarray(cells[0][0] if level == "block" else cells[1]).ravel()
    expected = five_years(np.bincount(people.sa, minlength=N_SA))
    shown = published_ages(product, level, counted)
    assert shown is not None
    assert shown.tolist() == expected.tolist()
    assert expected.sum() == 2000


def confident() -> tuple[Results, Records]:
    """Four people alike but for their race, two of them true, the surest first."""
    block = (COUNTY * 10**6 + TRACTS[0]) * BLOCKS_PER_TRACT + 1000
    people = Records(np.full(4, block), np.full(4, 30), np.array([WHITE, WHITE, BLACK, 3]))
    truth = dataclasses.replace(people, rh=np.array([WHITE, BLACK, 5, 5]))
    blocks = SureBlocks(np.array([block]), np.array([4]), np.array([2]), np.array([1]))
    return Results(people, blocks, np.array([False, True, False, False]), np.array([0.5, 1.0, 0.5, 0.25])), truth


@pytest.mark.slow
def test_records_are_counted_by_their_confidence_and_certain_ones_are_matched_first(product: Product) -> None:
    results, truth = confident()
    sums = found(product, results, truth)
    assert sums.certain.tolist() == [1, 1]
    at = {int(level): sums.by_confidence[level, :2].tolist() for level in np.flatnonzero(sums.by_confidence[:, 0])}
    assert at == {LEVELS // 4: [1, 0], LEVELS // 2: [2, 1], LEVELS: [1, 1]}
    section = calibration(sums)
    assert section is not None
    rows = {row[0]: row[1:4] for row in section.tables[0].rows}
    assert rows["50-60 %"] == (2, 50.0, 50.0)
    assert rows["90-100 %"] == (1, 100.0, 100.0)
    assert [figure.name for figure in section.figures] == ["calibration", "precision_by_rank"]
    unmatched = sums.by_confidence * np.array([1, 1, 0, 0], np.int64)
    nobody = calibration(dataclasses.replace(sums, by_confidence=unmatched))
    assert nobody is not None
    assert [figure.name for figure in nobody.figures] == ["calibration"]


def test_precision_by_rank_falls_from_the_surest_matches_on() -> None:
    levels = np.zeros((LEVELS + 1, 4), np.int64)
    levels[900], levels[500], levels[100] = (2, 2, 2, 2), (1, 0, 1, 0), (1, 0, 1, 0)
    curve = precision_by_rank(levels, points=4)
    assert curve[:, 0].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve[:, 1] == pytest.approx([1.0, 1.0, 2 / 3, 0.5])


def test_the_curve_by_rank_is_that_of_the_matches_one_after_the_other() -> None:
    rng = np.random.default_rng(9)
    matches = [(int(level), bool(rng.random() < level / LEVELS)) for level in rng.choice([0, 250, 500, 1000], 40)]
    levels = np.zeros((LEVELS + 1, 4), np.int64)
    for level, right in matches:
        levels[level, 2:] += [1, right]
    curve = precision_by_rank(levels, points=40)
    by_level = {level: [right for other, right in matches if other == level] for level, _ in matches}
    expected, seen = [], []
    for level in sorted(by_level, reverse=True):  # of equally confident ones the expected number is right
        seen += [sum(by_level[level]) / len(by_level[level])] * len(by_level[level])
    for taken in range(1, 41):
        expected.append((taken / 40, sum(seen[:taken]) / taken))
    assert curve == pytest.approx(np.array(expected))


@pytest.mark.slow
def test_places_are_drawn_where_they_are_known(product: Product) -> None:
    results, truth = confident()
    sums = found(product, results, truth)
    other = found(product, Results(Records(results.people.block + 10**10, results.people.sa, results.people.rh)), None)
    both = total([sums, other])
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 0]])
    geography = Geography(
        {"39059": "Guernsey County"},
        {f"{COUNTY}": [square], f"{COUNTY + 1}": [square + 1]},
        {COUNTY * 10**6 + TRACTS[0]: (-81.5, 40.0)},
    )
    section = places(both.tracts, geography)
    assert section is not None
    kinds = {"map_counties_differ", "map_tracts_differ", "map_counties_certain", "map_tracts_certain"}
    assert {figure.name for figure in section.figures} == kinds | {"map_counties_matched", "map_tracts_matched"}
    assert section.tables[0].rows[0][:5] == ("39059", "Guernsey County", 4, 50.0, 25.0)
    assert places(other.tracts, geography) is None


def test_a_shape_s_path_is_read_as_its_rings() -> None:
    rings = [np.asarray(ring).tolist() for ring in rings_of("M10 5l3-1 2 4zm-2 1l1 1-1 1z")]
    assert rings == [[[10, 5], [13, 4], [15, 8], [10, 5]], [[8, 6], [9, 7], [8, 8], [8, 6]]]


def test_ages_of_one_sex_stay_with_it() -> None:
    sex_age: IntArray = np.zeros(N_SA, np.int64)
    sex_age[[4, 5, N_AGES - 1, N_AGES + 84, N_AGES + 85]] = 1, 2, 3, 4, 5
    groups = five_years(sex_age)
    assert groups[0, [0, 1, 17]].tolist() == [1, 2, 3]
    assert groups[1, [16, 17]].tolist() == [4, 5]
