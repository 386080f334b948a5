"""A product with categories of its own, as a folder alone: groups of races, no origin; through all commands, in its own words."""

import csv
import gzip
import json
import tomllib
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import dbrecon
from dbrecon.errors import InputError, UsageError
from dbrecon.recon.census.kinds import RACES
from dbrecon.recon.census.tables import load_product, product_of
from dbrecon.recon.certainty.claims import parse_claim
from tests.database.test_dhc import tool
from tests.helpers import published_cells
from tests.paths import CHECKOUT

FOLDER = CHECKOUT / "tests" / "products" / "register"
GROUPS = ("Northern", "Southern", "Asian or Pacific", "Other or several")
AGES = (0, 15, 30, 65)
Person = dict[str, str]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment whose people are written and certain, with cells, and the truth beside it."""
    folder = tmp_path_factory.mktemp("register")
    tool(folder, "dbrtool.py", "--register", "rg", "--product", str(FOLDER))
    dist = folder / "register-re" / "rg" / "dist"
    state = ["--stusab", "de", "--people", "1000", "--counties", "2", "--out", str(dist), "--truth", str(folder / "truth.csv.gz")]
    tool(folder, "bench/make_state.py", "-q", "--product", str(FOLDER), *state)
    tool(folder, "dbrtool.py", "-q", "--reident", "rg", "--step1", "--step2", "--run")
    tool(folder, "dbrtool.py", "-q", "--reident", "rg", "--step6", "--cells", "csv", "--samples", "2")
    return folder


def people(path: Path) -> list[Person]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return list(csv.DictReader(file))


def files(root: Path, name: str) -> list[Path]:
    return sorted((root / "register-re" / "rg" / "work" / "de").rglob(name))


def group_of(person: Person) -> str:
    """By the six flags of a true person."""
    races = {race for race in RACES if person[race] == "Y"}
    if races in ({"white"}, {"black"}):
        return GROUPS[races == {"black"}]
    return GROUPS[2] if races <= {"asian", "nhopi"} else GROUPS[3]


def cells_of(person: Person, group: str) -> list[tuple[str, str]]:
    """(unit, cell) of each cell that counts a person: written out, and sharing nothing with the product."""
    block, tract, age, male = person["geoid_block"], person["geoid_tract"], int(person["age"]), person["sex"] == "male"
    fourth = sum(age >= first for first in AGES[1:])
    names = ["EVERY001", "AGE001", f"AGE{2 if male else 7:03d}", f"AGE{(3 if male else 8) + fourth:03d}"]
    names += ["GROUP001", f"GROUP{2 + GROUPS.index(group):03d}"]
    names += ["NORTH001", f"NORTH{2 if male else 3:03d}"] if group == "Northern" else []
    return [*((block, name) for name in names), (tract, "DECADE001"), (tract, f"DECADE{2 + min(age // 10, 9):03d}")]


def test_check_product_says_which_categories_there_are(tmp_path: Path) -> None:
    said = tool(tmp_path, "dbrtool.py", "-q", "--check_product", str(FOLDER))
    assert f"categories: race groups {', '.join(GROUPS)}; no origin" in said
    assert "a random state of 1,000 people goes through all steps and meets every cell" in said


def test_every_published_cell_is_the_truth_s_and_that_of_the_people_by_their_groups(root: Path) -> None:
    truth = Counter(cell for person in people(root / "truth.csv.gz") for cell in cells_of(person, group_of(person)))
    found = [person for path in files(root, "synth_out_*.csv") for person in people(path)]
    assert Counter(cell for person in found for cell in cells_of(person, person["race_group"])) == truth
    assert published_cells(root / "register-re" / "rg" / "work", "reg") == truth


def test_people_s_files_and_exports_name_the_group_and_no_race_or_origin_that_is_not_told(root: Path, tmp_path: Path) -> None:
    paths = files(root, "synth_out_*.csv")
    found = [person for path in paths for person in people(path)]
    assert {person["hisp"] for person in found} == {"not told"}
    assert {person["race_group"] for person in found} == set(GROUPS)
    assert {tuple(person[race] for race in RACES) for person in found if person["race_group"] == "Asian or Pacific"} == {
        ("N", "N", "N", "not told", "not told", "N")
    }
    frame = dbrecon.read_people(paths[0], "pandas")
    assert frame["race_group"].tolist() == [person["race_group"] for person in people(paths[0])]
    tool(root, "dbrtool.py", "-q", "--reident", "rg", "--export", "parquet", "--out", str(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out" / "people_de.parquet")
    assert Counter(table["race_group"].to_pylist()) == Counter(
        person["race_group"] for path in files(root, "synth_out_*.csv") for person in people(path)
    )


def test_truth_and_people_are_compared_in_the_product_s_categories(root: Path) -> None:
    said = tool(root, "dbrtool.py", "-q", "--reident", "rg", "--evaluate", str(root / "truth.csv.gz"))
    assert "True people matched on {block, sex, age, race group}, %" in said
    true = Counter(
        (person["geoid_block"], person["sex"], sum(int(person["age"]) >= first for first in AGES), group_of(person))
        for person in people(root / "truth.csv.gz")
    )
    found = Counter(
        (person["geoid_block"], person["sex"], sum(int(person["age"]) >= first for first in AGES), person["race_group"])
        for path in files(root, "synth_out_*.csv")
        for person in people(path)
    )
    answer = json.loads(tool(root, "dbrtool.py", "-q", "--reident", "rg", "--evaluate", str(root / "truth.csv.gz"), "--json"))
    share = answer["agreement"]["reconstruction"]["binned_age"]["all"]
    assert share == pytest.approx((true & found).total() / 1000)


def test_certainty_and_cells_are_told_of_groups(root: Path) -> None:
    [path, _] = files(root, "certainty_cells_*.csv")
    cells = people(path)
    assert {cell["race_group"] for cell in cells} <= set(GROUPS)
    assert {cell["hisp"] for cell in cells} == {"not told"}
    assert "the ledger and the files agree" in tool(root, "dbrtool.py", "-q", "--reident", "rg", "--rescan")


def test_cells_as_parquet_say_the_same(root: Path) -> None:
    [as_text] = files(root, "certainty_cells_*001.csv")
    text = [(cell["geoid_block"], cell["race_group"], cell["asian"], int(cell["count"])) for cell in people(as_text)]
    one_county = ["--force", "--stusab", "de", "--county", "001"]
    tool(root, "dbrtool.py", "-q", "--reident", "rg", "--step6", "--cells", "parquet", *one_county)
    [as_table] = files(root, "certainty_cells_*001.parquet")
    words = {True: "Y", False: "N", None: "not told"}
    rows = pq.read_table(as_table, columns=["geoid_block", "race_group", "asian", "count"]).to_pylist()
    assert [(row["geoid_block"], row["race_group"], words[row["asian"]], row["count"]) for row in rows] == text


def test_a_group_that_is_published_exactly_is_certain_and_claimed_by_its_name(root: Path) -> None:
    """No set of races within a group is an alternative to another."""
    everyone = [person for path in files(root, "synth_out_*.csv") for person in people(path)]
    found = Counter((person["geoid_block"], person["race_group"]) for person in everyone)
    (block, group), n = found.most_common(1)[0]
    said = tool(root, "dbrtool.py", "-q", "--reident", "rg", "--claim", f"block {block}: at least 2 people, {group.lower()}")
    assert f"exactly {n} such people in every data set with these tables" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("asian alone", "a part of the race group 'Asian or Pacific'"),
        ("not Hispanic", "an origin, which these tables do"),
    ],
)
def test_a_claim_about_what_the_product_does_not_tell_is_refused(words: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_claim(f"block 100010001001000: a person, {words}", load_product(FOLDER / "tables.toml").categories)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('"Northern" = ["white"]', '"Northern" = ["whit"]', r"Northern: 'whit' is no set of races; take some of white, black"),
        ('"Northern" = ["white"]', '"Northern" = ["white", "black"]', "Southern: black is in a group already"),
        ('"Northern" = ["white"]', '"Northern" = "white"', "Northern is 'white', but must be a list of sets of races"),
        ('"Northern" = ["white"]', '"North, ern" = ["white"]', "'North, ern' cannot be a group's name"),
        ('"Northern" = ["white"]', '"not told" = ["white"]', "'not told' cannot be a group's name"),
        ('"all others"', '["aian"]', r"categories.race\]: sor is in no group; let one group be 'all others'"),
        ('["black"]', '"all others"', "Southern and Other or several are both 'all others'"),
        ("origin = false", 'origin = "no"', r"\[categories\] origin is 'no', but must be true or false"),
        ("origin = false", "age = false", r"\[categories\] may have sex = false, origin = false, and race"),
        ('race_group = "Northern"', 'race_group = "Nordic"', "there is no race_group 'Nordic'; there are Northern, Southern"),
        (
            'race_group = "Northern"',
            'race_alone = "asian"',
            "table NORTH: NORTH001 counts people of a part of the race group 'Asian",
        ),
        ('race_group = "Northern"', "hisp = true", "table NORTH: NORTH001 counts people of an origin, which"),
    ],
)
def test_categories_that_cannot_be_are_refused_by_name(before: str, after: str, complaint: str) -> None:
    text = (FOLDER / "tables.toml").read_text()
    assert before in text
    with pytest.raises(InputError, match=complaint):
        product_of(tomllib.loads(text.replace(before, after)), "tables.toml")
