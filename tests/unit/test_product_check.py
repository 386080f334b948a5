"""What --check_product and readers of a product's folder refuse: keys that are not known, outlines and words that do not hold."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dbrecon.console import product_check
from dbrecon.errors import InputError
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.product.published_labels import check_labels
from dbrecon.recon.product.release import PRODUCTS, load_release
from tests.paths import CHECKOUT

SMALL = CHECKOUT / "tests" / "products" / "small_area"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SMALL, tmp_path / "own"))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


TABLES = {
    "an unknown key of a table": (
        "cells = 9\n",
        "cells = 9\nunivers = {}\n",
        "table B1: the key 'univers' is not known",
    ),
    "an unknown key above": ("[ages]", "colour = 1\n[ages]", "the key 'colour' is not known"),
    "an unknown key of a constraint": (
        'counts = "B2"',
        'counts = "B2"\nwithout = {}',
        "constraint B2: the key 'without' is not known",
    ),
    "an unknown selector": ('race_alone = "white"', 'raze = "white"', "race_group: the selector 'raze' is not known"),
    "a race that there is not": ('race_alone = "white"', 'race_alone = "green"', "race_alone cannot be 'green'"),
    "a sex that there is not": ('sex = "male"', 'sex = "mail"', "sex cannot be 'mail'"),
    "a number of races": ("races = [2, 6]", "races = [2, 7]", r"races cannot be \[2, 7\]"),
    "ages to compare in that begin late": ("[0, 5, 10", "[5, 10", r"\[comparison\]: ages_from must be the first ages of bins"),
    "ages to compare in that nobody has": ("80, 85]", "80, 101]", r"ascending from 0; it is \[0, 5, .*101\]"),
    "ages to compare in, misspelt": (
        "[comparison]\nages_from",
        "[comparison]\nages",
        "the key 'ages' is not known",
    ),
    "ages that do not ascend": ("[0, 15, 65]", "[0, 65, 15]", "ages_from must be ages that ascend"),
    "other ages": ("single_years_to = 99", "single_years_to = 90", "ages] must be"),
    "cells as text": ("cells = 9", 'cells = "9"', "cells is '9', but must be a whole number"),
    "two tables of one name": ('name = "B2"', 'name = "B1"', "'B1' names two tables or differences"),
    "a division without end": (
        "ages_from = [0, 15, 65]\nages_to = 110",
        'parts = [{ then = "sex_by_age" }]',
        "sex_by_age has no end",
    ),
    "a part that is text": (
        "[divisions.three_ages]",
        'each = "race set"\n[divisions.x]\nparts = ["male"]\n[divisions.three_ages]',
        "parts must be",
    ),
    "parts that overlap": (
        '{ race_alone = "black" }',
        '{ race = "white" }',
        "constraint counts B2, but some people are in several of its",
    ),
    "a name that --tables cannot take": ('name = "B1"', 'name = "B-1"', "name cannot be 'B-1'"),
    "a set's name": ('name = "B1"', 'name = "all"', "name cannot be 'all'"),
    "a missing key": ('counts = "B2"', "within = {}", "constraint .: lacks counts"),
    "a rounding that is none": ("cells = 9\n", "cells = 9\nrounded_to = 0\n", "table B1: rounded_to is a whole number from 1"),
}


@pytest.mark.parametrize("fault", TABLES)
def test_what_tables_toml_must_not_say_is_named(own: Path, fault: str) -> None:
    old, new, expected = TABLES[fault]
    path = own / "tables.toml"
    change(path, old, new)
    with pytest.raises(InputError, match=re.escape(str(path)) + f": .*{expected}"):
        load_product(path)


PRODUCT = {
    "an unknown key": ('title = "', 'titel = "', "the key 'titel' is not known"),
    "a key below": ("every_record = false", "every_record = false\nquotes = 1", r"\[segments\]: the key 'quotes' is not known"),
    "text for a number": ("year = 2020", 'year = "2020"', "year is '2020', but must be a whole number"),
    "a number for a flag": ("every_record = false", "every_record = 0", "every_record is 0, but must be true or false"),
    "an attribute in a name": ('"{st}.small.zip"', '"{st.upper}.small.zip"', "{st.upper} stands for nothing"),
    "a conversion": ('"{st}places.txt"', '"{st!r}places.txt"', "{st!r} stands for nothing"),
    "an odd format": ("{segment:02d}.txt", "{segment:x}.txt", "{segment:x} stands for nothing"),
    "a brace that does not close": ('"{st}places.txt"', '"{stplaces.txt"', "its braces do not close"),
    "no segment": ("{st}counts{segment:02d}.txt", "{st}counts.txt", r"member is the same for every segment"),
    "a whole unit's number": ('GEOCOMP = "00"', "GEOCOMP = 0", "GEOCOMP = 0: it must be text"),
    "no block level": ('block_levels = ["100"]', "block_levels = []", "block_levels is ..; it is the summary levels of blocks"),
    "a tract's level for a block": ('block_levels = ["100"]', 'block_levels = ["140"]', "block_levels is ..140"),
    "a beginning without separator": ('{segment:02d};"', '{segment:02d}"', "begin is .* let it end with ';'"),
    "a digit as separator": ('separator = ";"\nbegin', 'separator = "1"\nbegin', "shape is fixed, or separated with a separator"),
    "a count as withheld": ("every_record", 'withheld = "5"\nevery_record', "withheld is '5', which could not be told from counts"),
    "a folder in the zip": ('"{st}places.txt"', '"x/{st}places.txt"', "a member is named without its folder"),
    "county shapes of another year": (
        "year = 2020",
        "year = 2020\ncounty_shapes = 2015",
        "county_shapes is the year of a census .* 2010, 2020",
    ),
    "two bytes a letter": ('"utf-8"', '"utf-16"', "encodings has .'utf-16'"),
    "an encoding": ('"utf-8"', '"utf-88"', "encodings has .'utf-88'"),
}


@pytest.mark.parametrize("fault", PRODUCT)
def test_what_product_toml_must_not_say_is_named(own: Path, fault: str) -> None:
    old, new, expected = PRODUCT[fault]
    path = own / "product.toml"
    change(path, old, new)
    with pytest.raises(InputError, match=re.escape(str(path)) + f": .*{expected}"):
        load_release(str(own))


LAYOUTS = {
    "a header's field twice": ("header.csv", "STUSAB,2", "STUSAB,2\nSTUSAB,21", "has STUSAB twice"),
    "two fields in one place": ("header.csv", "STUSAB,2", "STUSAB,1", "has number 1 twice"),
    "a place before the first": (
        "header.csv",
        "STUSAB,2",
        "STUSAB,0",
        "number of STUSAB is 0, but must be a number from 1 to 10,000",
    ),
    "a field that is needed": ("header.csv", "INTPTLAT,19\n", "", "has no field INTPTLAT"),
    "a field that tells whole units": ("product.toml", "GEOCOMP = ", "COMPONENT = ", "header.csv: has no field COMPONENT"),
    "a table twice in the segments": ("segments.csv", "1,B1,9", "1,B1,9\n1,B1,9", "table B1 stands there twice"),
    "a table with no cell": ("segments.csv", "1,B1,9", "1,B1,0", "table B1 has 0 cells"),
}


@pytest.mark.parametrize("fault", LAYOUTS)
def test_what_layouts_must_not_say_is_named(own: Path, fault: str) -> None:
    name, old, new, expected = LAYOUTS[fault]
    change(own / name, old, new)
    release = load_release(str(own))
    with pytest.raises(InputError, match=expected):
        _ = release.header, release.segments


def test_a_folder_of_ones_own_has_a_name_of_its_own(own: Path) -> None:
    for name in ("product.toml", "tables.toml"):
        change(own / name, 'product = "small_area"', 'product = "2010_sf1"')
    with pytest.raises(InputError, match="product '2010_sf1' is one that comes with the program"):
        product_check._check_name(load_release(str(own)))


def checked(folder: Path) -> None:
    release = load_release(str(folder))
    product_check._check_outlines(release, load_product(release.tables_path))


def leave_out(folder: Path) -> None:
    change(folder / "tables.toml", ' { race_alone = "black" },', "")
    change(folder / "tables.toml", "cells = 8", "cells = 7")


def count_nobody(folder: Path) -> None:
    change(folder / "tables.toml", "cells = 8", 'cells = 8\nuniverse = { race_alone = "white" }')


def first_of_some(folder: Path) -> None:
    change(folder / "tables.toml", "cells = 9", "cells = 9\nuniverse = { hisp = true }")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (leave_out, "B20001 of B2 counts people whom none of its parts counts"),
        (count_nobody, "B20003 of B2 counts nobody"),
        (first_of_some, "the first block table must count everyone, exactly"),
    ],
)
def test_outlines_that_do_not_hold_are_refused(own: Path, damage: Callable[[Path], None], expected: str) -> None:
    damage(own)
    with pytest.raises(InputError, match=expected):
        checked(own)


@pytest.mark.parametrize(("name", "cells", "tables"), [("sf1_2010", [844, 3344], 34), ("dhc2020", [2097, 3344], 62)])
def test_labels_say_what_cells_count(name: str, cells: list[int], tables: int) -> None:
    """All of them: the Census Bureau's words, against the boxes."""
    product = load_product(load_release(name).tables_path)
    assert check_labels(product, PRODUCTS / name / "labels.csv") == (sum(cells), 0)
    assert [len(product.columns(level)) for level in ("block", "tract")] == cells
    assert len(product.tables) == tables


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("P0120003,Under 5 years", "P0120003,Under 6 years", "P0120003 of P12 is 'Under 6 years', but .* count others by age"),
        ("P0120002,Male:", "P0120002,Female:", "count others by sex"),
        ("P0080013,White; Asian", "P0080013,White; Some Other Race", "P0080013 of P8 .* by race"),
        ("P0040003,Hispanic", "P0040003,Not Hispanic", "by hisp"),
        ("P4,P0040003,Hispanic or Latino\n", "", "has 2 labels for P4, not 3: one a cell"),
        ("P4,P0040003", "P4,P0040004", "has P0040004 of P4 where its cell P0040003 belongs"),
        ("P4,P0040003", "Q4,P0040003", "has labels of Q4, which is none of the product's tables"),
    ],
)
def test_a_label_that_belies_its_cell_is_refused(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = Path(shutil.copy(PRODUCTS / "dhc2020" / "labels.csv", tmp_path))
    change(path, old, new)
    with pytest.raises(InputError, match=expected):
        check_labels(load_product(load_release("dhc2020").tables_path), path)
