"""A synthetic state has exactly the people and kinds of places asked for, and the same ones for the same seed."""

import gzip
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dbrecon.errors import UsageError
from dbrecon.recon.census.kinds import RACE_COUNT, IntArray, split_kind
from dbrecon.recon.people.people import HEADER, People, people_csv
from dbrecon.recon.people.people_reader import read_people
from dbrecon.recon.product.writer import County
from dbrecon.recon.study.synthetic import StatePlan, make_counties, make_county, plan_state, truth_lines
from tests.paths import CHECKOUT


@pytest.fixture(scope="module")
def plan() -> StatePlan:
    return plan_state("de", "10", 200_000, seed=7)


@pytest.fixture(scope="module")
def counties(plan: StatePlan) -> list[County]:
    return list(make_counties(plan))


@pytest.fixture(scope="module")
def people(counties: list[County]) -> People:
    return People.concatenate([county.people for county in counties])


def sizes_of_blocks(people: People) -> tuple[IntArray, IntArray]:
    """(populated blocks, their people)."""
    blocks, where = np.unique(people.geoid_block, return_inverse=True)
    return blocks, np.bincount(where, weights=people.count).astype(np.int64)


def share(people: People, chosen: npt.NDArray[np.bool_]) -> float:
    return float(people.count[chosen].sum() / people.population)


@pytest.mark.parametrize("size", [1_000, 1_001, 39_999, 123_456])
def test_a_state_has_exactly_the_people_asked_for(size: int) -> None:
    plan = plan_state("de", "10", size, seed=3)
    made = list(make_counties(plan))
    assert sum(county.people.population for county in made) == plan.population == size
    assert [c.people.population for c in made] == [c.population for c in plan.counties]


@pytest.mark.parametrize("size", [1_000, 40_000])
def test_every_set_of_races_is_there(size: int) -> None:
    people = People.concatenate([c.people for c in make_counties(plan_state("de", "10", size, seed=5))])
    assert set(split_kind(people.kind)[2].tolist()) == set(range(1, 64))


def test_a_county_is_the_same_whenever_it_is_made(plan: StatePlan, counties: list[County]) -> None:
    again = make_county(plan_state("de", "10", 200_000, seed=7), 1)
    assert again.blocks.tolist() == counties[1].blocks.tolist()
    assert people_csv(again.people) == people_csv(counties[1].people)


def test_another_seed_makes_other_people(plan: StatePlan, counties: list[County]) -> None:
    other = make_county(plan_state("de", "10", 200_000, seed=8), 0)
    assert people_csv(other.people) != people_csv(counties[0].people)


def test_counties_differ_much_in_size(plan: StatePlan) -> None:
    populations = sorted(county.population for county in plan.counties)
    assert populations[-1] > 4 * populations[0]


def test_ids_are_consistent(plan: StatePlan, counties: list[County]) -> None:
    for county in counties:
        county.check(plan.state)  # ascending, in their county, blocks in tracts, people in blocks
        assert (county.blocks % 10_000 // 1000 > 0).sum() >= len(county.blocks) - 1, "only water is in block group 0"


def test_blocks_are_as_many_and_as_unequal_as_americas(counties: list[County], people: People) -> None:
    _, sizes = sizes_of_blocks(people)
    all_blocks = sum(len(county.blocks) for county in counties)
    assert 15_000 < len(sizes) / 0.2 < 26_000, "populated blocks per million people (20,100 in 2010)"
    assert 0.35 < 1 - len(sizes) / all_blocks < 0.52, "blocks without people (44 % in 2010)"
    assert np.median(sizes) < 0.65 * sizes.mean()
    assert sizes.max() > 500


def test_tracts_are_of_usual_size(people: People) -> None:
    _, where = np.unique(people.geoid_tract, return_inverse=True)
    sizes = np.bincount(where, weights=people.count)
    assert 3_000 < sizes.mean() < 5_500
    assert np.mean((sizes > 1_200) & (sizes < 8_000)) > 0.85


def test_there_is_a_water_tract_and_another_without_people(counties: list[County], people: People) -> None:
    empty = set(np.concatenate([county.tracts for county in counties]).tolist()) - set(people.geoid_tract.tolist())
    assert {code % 10**6 for code in empty} == {990_000, 980_000}


def test_ages_and_races_are_spread_as_in_2010(people: People) -> None:
    sex, age, race, hisp = split_kind(people.kind)
    for found, published in [
        (share(people, age < 18), 0.240),
        (share(people, age >= 65), 0.130),
        (share(people, sex == 0), 0.492),
        (share(people, RACE_COUNT[race] > 1), 0.029),
    ]:
        assert 0.6 < found / published < 1.6, published
    assert share(people, age >= 85) > 0.005
    assert (age >= 100).any()
    some_other = race == 1
    assert share(people, some_other & (hisp == 1)) > 10 * share(people, some_other & (hisp == 0))


def test_neighbours_are_more_alike_than_the_states_people(people: People) -> None:
    white = (split_kind(people.kind)[2] == 32).astype(float)
    _, where = np.unique(people.geoid_block, return_inverse=True)
    size = np.bincount(where, weights=people.count)
    of_block = np.bincount(where, weights=people.count * white) / size
    overall = share(people, white > 0)
    variance = np.average((of_block - overall) ** 2, weights=size)
    assert variance > 0.25 * overall * (1 - overall)


@pytest.mark.parametrize(
    ("what", "ages", "least"),
    [("prison", (18, 62), 300), ("dormitory", (18, 22), 100), ("nursing home", (60, 102), 30)],
)
def test_group_quarters_have_blocks_of_their_own(people: People, what: str, ages: tuple[int, int], least: int) -> None:
    sex, age, *_ = split_kind(people.kind)
    _, where = np.unique(people.geoid_block, return_inverse=True)
    fits = (age >= ages[0]) & (age <= ages[1]) & ((sex == 0) | (what != "prison"))
    size = np.bincount(where, weights=people.count)
    inside = np.bincount(where, weights=people.count * fits)
    assert ((size >= least) & (inside >= 0.9 * size)).any()


def test_a_big_tract_and_a_big_block_can_be_had() -> None:
    plan = plan_state("de", "10", 120_000, seed=1, big_tract=40_000, big_block=30_000)
    people = People.concatenate([county.people for county in make_counties(plan)])
    _, where = np.unique(people.geoid_tract, return_inverse=True)
    sizes = np.bincount(where, weights=people.count)
    assert sorted(sizes.tolist())[-2:] == [30_000, 40_000]
    assert sizes_of_blocks(people)[1].max() == 30_000
    assert people.population == 120_000


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"people": 10}, "10 people"),
        ({"people": 5_000, "counties": 500}, "500 counties"),
        ({"people": 5_000, "big_tract": 6_000}, "counties"),
        ({"people": 5_000, "big_block": -1}, "negative"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options: dict[str, int], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        plan_state("de", "10", seed=1, **options)


def test_the_lines_of_the_truth_are_the_people_file_in_pieces(monkeypatch: pytest.MonkeyPatch, counties: list[County]) -> None:
    monkeypatch.setattr("dbrecon.recon.study.synthetic._TRUTH_LINES_AT_ONCE", 9_000)
    county = max(counties, key=lambda c: c.people.population)
    pieces = list(truth_lines(county))
    assert len(pieces) > 2
    assert HEADER + b"".join(pieces) == people_csv(county.people)


@pytest.mark.slow
def test_the_command_writes_the_zip_and_the_people_it_tells_of(tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv.gz"
    command = [sys.executable, str(CHECKOUT / "bench" / "make_state.py"), "--stusab", "DE", "--people", "3000"]
    done = subprocess.run([*command, "--out", str(tmp_path), "--truth", str(truth)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(f"{tmp_path / 'de2010.sf1.zip'}: 3,000 people")
    with zipfile.ZipFile(tmp_path / "de2010.sf1.zip") as archive:
        assert archive.read("de000012010.sf1").splitlines()[0] == b"SF1ST,DE,000,01,0000001,3000"
    assert read_people(io.BytesIO(gzip.decompress(truth.read_bytes())), "truth").population == 3_000


def test_the_command_refuses_a_state_that_is_none(tmp_path: Path) -> None:
    command = [sys.executable, str(CHECKOUT / "bench" / "make_state.py"), "--stusab", "zz", "--people", "3000"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == UsageError.exit_code
    assert "'zz' is no state" in done.stderr
    assert not list(tmp_path.iterdir())
