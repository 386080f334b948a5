"""Products as folders of data: those that come with the program, what their files say, and what a folder of one's own must have."""

import itertools
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from dbrecon.errors import InputError, UsageError
from dbrecon.recon.census.kinds import FIRST_AGES, RACES, join_kind
from dbrecon.recon.census.tables import Product, load_product
from dbrecon.recon.product.county_rows import LevelPlan
from dbrecon.recon.product.coverage import coverage
from dbrecon.recon.product.release import PRODUCTS, Release, load_release, shipped

PRODUCTS_KNOWN = ("sf1_2010", "dhc2020")


@cache
def product_of(name: str) -> Product:
    return load_product(load_release(name).tables_path)


def test_the_products_that_come_with_the_program() -> None:
    assert set(shipped()) == set(PRODUCTS_KNOWN)
    assert [load_release(name).product for name in PRODUCTS_KNOWN] == ["2010_sf1", "2020_dhc"]
    assert load_release("2020_dhc") == load_release("dhc2020")


def test_zips_and_members_have_the_names_that_the_census_bureau_gives_them() -> None:
    release = load_release("dhc2020")
    assert (release.zip_of("oh"), release.header_member("oh"), release.segment_member("oh", 7)) == (
        "oh2020.dhc.zip", "ohgeo2020.dhc", "oh000072020.dhc",
    )  # fmt: skip
    assert release.line_head("ak", 1) == b"DHCST|AK|000|01|"
    assert len(release.header.places) == 97  # type: ignore[attr-defined]
    assert len(release.segments) == 44


@pytest.mark.parametrize("name", PRODUCTS_KNOWN)
@pytest.mark.parametrize("level", ["block", "tract"])
def test_every_table_lies_where_its_segment_has_it(name: str, level: str) -> None:
    release = load_release(name)
    plan = LevelPlan([table for table in release.tables if table.level == level], release)
    assert plan.columns == product_of(name).columns(level)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRODUCTS_KNOWN)
@pytest.mark.parametrize("level", ["block", "tract"])
def test_every_cell_follows_from_the_counts_that_are_written(name: str, level: str) -> None:
    found = coverage(product_of(name), level)
    assert found.missing == ()
    assert found.cells == len(product_of(name).columns(level)) > 800


@pytest.mark.slow
def test_a_constraint_that_lacks_is_missed() -> None:
    product = product_of("sf1_2010")
    less = Product(
        product.name,
        product.title,
        product.tables,
        product.partitions,
        tuple(constraint for constraint in product.constraints if constraint.partition.name != "P14"),
    )
    assert coverage(less, "block").missing[0] == "P0140003"


# --- what the cells of the DHC count, by an independent plain tabulator -----------------------------------------------

STARTS = [0, 5, 10, 15, 18, 20, 21, 22, 25, 30, 35, 40, 45, 50, 55, 60, 62, 65, 67, 70, 75, 80, 85]
GROUPS = [*RACES, "multi"]
ITERATIONS: list[tuple[str, str | None, bool | None]] = [("H", None, True), ("I", "white", False)]
ITERATIONS += [(letter, race, None) for letter, race in zip("ABCDEFG", GROUPS, strict=True)]
ITERATIONS += [(letter, race, False) for letter, race in zip("JKLMNO", GROUPS[1:], strict=True)]
ITERATIONS += [(letter, race, True) for letter, race in zip("PQRSTUV", GROUPS, strict=True)]
COMBINED = ["W", "X", "Y", "Z", "AA", "AB", "AC", "AD", "AE", "AF", "AG", "AH"]


def is_of(races: set[str], wanted: str | None) -> bool:
    if wanted is None:
        return True
    return len(races) > 1 if wanted == "multi" else races == {wanted}


def number_of(prefix: str, cell: int) -> str:
    letters = re.sub(r"^[A-Z]+\d+", "", prefix)
    return f"{prefix}{cell:0{4 - len(letters)}d}"


def cells_of_person(sex: int, age: int, races: set[str], hisp: bool) -> dict[str, int]:  # noqa: C901 - a list of tables
    """Every cell of the DHC that counts a person, from the table outlines: written out, and sharing nothing with the product."""
    cells: dict[str, int] = {}

    def count(prefix: str, *numbers: int) -> None:
        for number in numbers:
            cells[number_of(prefix, number)] = cells.get(number_of(prefix, number), 0) + 1

    group = 7 if len(races) > 1 else 1 + RACES.index(next(iter(races)))
    count("P001", 1)
    count("P003", 1, 1 + group)
    count("P004", 1, 3 if hisp else 2)
    count("P005", 1, 10 if hisp else 2, (10 if hisp else 2) + group)
    for race in races:
        count("P006", 1, 2 + RACES.index(race))
        count("P007", 1, 9 if hisp else 2, (10 if hisp else 3) + RACES.index(race))
    outline = [2] if len(races) == 1 else [9, {2: 10, 3: 26, 4: 47, 5: 63, 6: 70}[len(races)]]
    first = {1: 3, 2: 11, 3: 27, 4: 48, 5: 64, 6: 71}[len(races)]
    position = [set(item) for item in itertools.combinations(RACES, len(races))].index(races)
    for whole, nonhispanic, universe in (("P008", "P009", True), ("P010", "P011", age >= 18)):
        if universe:
            count(whole, 1, *outline, first + position)
            count(nonhispanic, 1, *([2] if hisp else [3, *(cell + 2 for cell in outline), first + position + 2]))
    by_age = [1, 26 if sex else 2, (27 if sex else 3) + sum(age >= start for start in STARTS) - 1]
    count("P012", *by_age)
    for letter, group_race, origin in ITERATIONS:
        if is_of(races, group_race) and origin in (None, hisp):
            count(f"P012{letter}", *by_age)
    for letter, (combined_origin, combined) in zip(COMBINED, itertools.product((False, True), RACES), strict=True):
        if combined in races and combined_origin == hisp:
            count(f"P012{letter}", *by_age)
    if age < 20:
        count("P014", 1, 23 if sex else 2, (24 if sex else 3) + age)
    by_year = [1, 106 if sex else 2, (107 if sex else 3) + min(age, 100 + (age >= 105) + (age >= 110))]
    count("PCT012", *by_year)
    for letter, group_race, origin in [item for item in ITERATIONS if item[0] <= "O"]:
        if is_of(races, group_race) and origin in (None, hisp):
            count(f"PCT012{letter}", *by_year)
    return cells


def test_the_cells_of_the_dhc_count_what_the_outlines_say() -> None:
    product = product_of("dhc2020")
    rng = np.random.default_rng(5)
    for _ in range(300):
        sex, age, code, hisp = int(rng.integers(2)), int(rng.integers(103)), int(rng.integers(1, 64)), int(rng.integers(2))
        races = {race for bit, race in enumerate(RACES) if code >> (5 - bit) & 1}
        kind = int(join_kind(*(np.array([item]) for item in (sex, age, code, hisp)))[0])
        found: dict[str, int] = {}
        for level in ("block", "tract"):
            row = product.membership(level)[[kind]].toarray()[0]
            found |= {name: int(n) for name, n in zip(product.columns(level), row, strict=True) if n}
        assert found == cells_of_person(sex, int(FIRST_AGES[age]), races, bool(hisp))


# --- folders of one's own -----------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PRODUCTS / "dhc2020", tmp_path / "own"))


def test_a_folder_of_ones_own_is_a_product(own: Path) -> None:
    release = load_release(str(own))
    assert isinstance(release, Release)
    assert release.folder == own
    assert release.zip_of("ri") == "ri2020.dhc.zip"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("year = 2020\n", "", "lacks 'year'"),
        ('shape = "separated"', 'shape = "wide"', "shape is fixed, or separated with a separator"),
        ('prefix = "2020-re"', 'prefix = "../x"', "prefix and county_files become names of folders and files"),
        ('member = "{st}geo2020.dhc"', 'member = "{state}geo"', "may stand in names, and no other braces"),
        ("year = 2020\n", "year = \n", "not TOML"),
        ('name = "{st}2020.dhc.zip"', 'name = "../{st}2020.dhc.zip"', "name is that of a file in dist/"),
        ('name = "{st}2020.dhc.zip"', 'name = "all2020.dhc.zip"', "another for each state"),
    ],
)
def test_what_a_product_toml_lacks_is_said(own: Path, old: str, new: str, expected: str) -> None:
    path = own / "product.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=re.escape(str(path)) + f".*{expected}"):
        load_release(str(own))


@pytest.mark.parametrize("name", ["header.csv", "segments.csv"])
def test_a_layout_with_a_field_of_no_end_is_refused_in_a_sentence(own: Path, name: str) -> None:
    with (own / name).open("a") as file:
        file.write("x" * 200_000 + "\n")
    release = load_release(str(own))
    with pytest.raises(InputError, match=re.escape(str(own / name)) + ": not a .* layout"):
        _ = release.header, release.segments


def test_an_unknown_product_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"dhc2021: no product, and no folder with a product.toml; .*: dhc2020, sf1_2010"):
        load_release("dhc2021")
    with pytest.raises(UsageError, match="no product"):
        load_release(str(tmp_path))
