"""A product of the tests' own, as a folder alone: few tables, other ages and races, through all commands; what it does not tell."""

import csv
import gzip
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from dbrecon.recon.census.kinds import N_KINDS, RACES
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.people.attributes import NOT_TOLD, attributes_of
from dbrecon.recon.product.release import load_release
from tests.database.test_dhc import tool
from tests.paths import CHECKOUT

FOLDER = CHECKOUT / "tests" / "products" / "small_area"
FIVE_YEARS = ", ".join([*(f"{first}-{first + 4}" for first in range(0, 85, 5)), "85+"])
Person = dict[str, str]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment whose people are written and certain, and the truth beside it."""
    folder = tmp_path_factory.mktemp("small")
    assert "the Small Area Counts" in tool(folder, "dbrtool.py", "--register", "sa", "--product", str(FOLDER))
    dist = folder / "small-re" / "sa" / "dist"
    state = ["--stusab", "de", "--people", "1000", "--counties", "2", "--out", str(dist), "--truth", str(folder / "truth.csv.gz")]
    tool(folder, "bench/make_state.py", "-q", "--product", str(FOLDER), *state)
    tool(folder, "dbrtool.py", "-q", "--reident", "sa", "--step1", "--step2", "--run", "--step6")
    return folder


def test_the_folder_is_a_product(tmp_path: Path) -> None:
    said = tool(tmp_path, "dbrtool.py", "-q", "--check_product", str(FOLDER))
    assert "all 17 cells follow from the 13 counts that are written (rank 12)" in said
    assert "a random state of 1,000 people goes through all steps and meets every cell" in said
    assert list(tmp_path.iterdir()) == []


def people(path: Path) -> list[Person]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return list(csv.DictReader(file))


def files(root: Path, name: str) -> list[Path]:
    return sorted((root / "small-re" / "sa" / "work" / "de").rglob(name))


def cells_of(person: Person) -> list[tuple[str, str]]:
    """(unit, cell) of each cell that counts a person: written out, and sharing nothing with the product."""
    block, tract, age, male = person["geoid_block"], person["geoid_tract"], int(person["age"]), person["sex"] == "male"
    third = 0 if age < 15 else 1 if age < 65 else 2
    known = [race for race in RACES if person[race] == "Y"]
    several = len(known) > 1 or NOT_TOLD in (person[race] for race in RACES)
    group = 6 if several else RACES.index(known[0])
    by_sex = ["B10001", f"B1{2 if male else 6:04d}", f"B1{(3 if male else 7) + third:04d}"]
    cells = [(block, name) for name in [*by_sex, "B20001", f"B2{2 + group:04d}"]]
    return [*cells, (tract, "T10001"), (tract, f"T1{2 + min(age // 5, 17):04d}")]


def tabulated(everyone: list[Person]) -> Counter[tuple[str, str]]:
    return Counter(cell for person in everyone for cell in cells_of(person))


def test_every_published_cell_is_the_truth_s_and_that_of_the_people(root: Path) -> None:
    published: Counter[tuple[str, str]] = Counter()
    for level in ("block", "tract"):
        for path in files(root, f"sac_{level}_*.csv"):
            for row in people(path):
                geoid = row.pop(f"geoid_{level}")
                row.pop("logrecno")
                published |= Counter({(geoid, name): int(value) for name, value in row.items() if value != "0"})
    assert published == tabulated(people(root / "truth.csv.gz"))
    found = [person for path in files(root, "synth_out_*.csv") for person in people(path)]
    assert len(found) == 1000
    assert tabulated(found) == published


def test_people_s_files_say_what_is_not_told(root: Path) -> None:
    found = [person for path in files(root, "synth_out_*.csv") for person in people(path)]
    assert {person["hisp"] for person in found} == {NOT_TOLD}
    races = {tuple(person[race] for race in RACES) for person in found}
    assert (NOT_TOLD,) * 6 in races  # of two races or more, whichever these are
    assert all(set(item) == {"N", "Y"} for item in races - {(NOT_TOLD,) * 6})


def test_evaluate_rescan_and_certainty_know_it(root: Path) -> None:
    found = json.loads(tool(root, "dbrtool.py", "-q", "--reident", "sa", "--evaluate", str(root / "truth.csv.gz"), "--json"))
    assert [found["violations"][level]["wrong"] for level in ("block", "tract")] == [0, 0]
    assert found["agreement"]["reconstruction"]["binned_age"]["all"] > 0.2
    [sidecar] = files(root, "certainty_10001.json")
    assert found["age_bins"] == json.loads(sidecar.read_text())["age_bins"] == FIVE_YEARS, "[comparison] of its tables.toml"
    assert found["agreement"]["modal"]["binned_age"]["all"] is None  # no table has the counts that it needs
    assert "the ledger and the files agree" in tool(root, "dbrtool.py", "-q", "--reident", "sa", "--rescan")
    answer = json.loads(tool(root, "dbrtool.py", "-q", "--reident", "sa", "--certainty", "--json"))
    assert answer["counties"] == 2


def test_files_that_were_copied_are_entered_with_the_product_that_is_named(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "small-re", tmp_path / "small-re")
    said = tool(tmp_path, "dbrtool.py", "-q", "--rescan", "--reident", "sa", "--product", str(FOLDER))
    assert "sa, on all tables, with the seed 0" in said
    assert "2 counties' certainty" in said
    assert "sa" in tool(tmp_path, "dbrtool.py", "--reidents")


def test_what_tables_tell_is_everything_in_the_products_that_come_with_the_program() -> None:
    for name in ("sf1_2010", "dhc2020"):
        assert attributes_of(load_product(load_release(name).tables_path)) is None
    assert attributes_of(load_product(tables="block")) is None


def test_people_of_one_class_are_read_as_one_of_it() -> None:
    found = attributes_of(load_product(tables="P1,P8"))
    assert found is not None
    assert found.columns(0).split(",")[:2] == [NOT_TOLD, NOT_TOLD]
    assert len(found.kind_of) == 63
    for kind in range(0, N_KINDS, 997):
        stands_for = int(found.kind[kind])
        assert found.kind_of[found.columns(stands_for)] == stands_for
        assert found.columns(kind) == found.columns(stands_for)
