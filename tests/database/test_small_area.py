"""A product of the tests' own, as a folder alone: few tables, other ages and races, through all commands; what it does not tell."""

import csv
import gzip
import itertools
import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import dbrecon
from dbrecon.errors import InputError
from dbrecon.recon.census.kinds import N_KINDS, RACES
from dbrecon.recon.census.tables import load_product, product_of
from dbrecon.recon.people.attributes import NOT_TOLD, attributes_of
from dbrecon.recon.product.release import load_release
from dbrecon.recon.product.writer import write_state_zip
from dbrecon.recon.study.synthetic import make_counties, plan_state
from tests.console_world import Operator, assert_refused
from tests.database.test_dhc import Lines, files_of, tool
from tests.helpers import published_cells
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
    published = published_cells(root / "small-re" / "sa" / "work", "sac")
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


def test_the_library_reads_what_is_not_told_as_missing(root: Path) -> None:
    path = files(root, "synth_out_*.csv")[0]
    frame = dbrecon.read_people(path, "pandas")
    assert frame["hisp"].isna().all()
    assert [str(age) for age in frame["age"]] == [person["age"] for person in people(path)]
    assert frame["white"].isna().sum() == sum(person["white"] == NOT_TOLD for person in people(path)) > 0


def test_info_counts_what_is_not_told(root: Path) -> None:
    path = files(root, "synth_out_*.csv")[0]
    said = tool(root, "dbrtool.py", "--info", str(path))
    untold = sum(person["white"] == NOT_TOLD for person in people(path))
    assert f"not told by any table: white of {untold:,}, black of {untold:,}" in said
    assert f"hisp of {len(people(path)):,}" in said


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


def test_of_rounded_tables_no_certainty_is_told_by_any_command(tmp_path: Path) -> None:
    """One sentence, before anything is read or answered."""
    product = tmp_path / "rounded"
    shutil.copytree(FOLDER, product)
    tables = product / "tables.toml"
    tables.write_text(tables.read_text().replace('name = "B2"\n', 'name = "B2"\nrounded_to = 5\n'))
    (tmp_path / "claims.txt").write_text("tract 10001000100: somebody\n")
    operator = Operator(tmp_path / "home", env={"DAS_S3ROOT": str(tmp_path / "root"), "REIDENT": "sa"})
    operator.done("--register", "sa", "--product", str(product))
    claim, claims = ["--claim", "tract 10001000100: somebody"], ["--claims", str(tmp_path / "claims.txt")]
    for command in (["--step6"], ["--step6", "--samples", "3"], ["--run", "--step6"], ["--certainty"], claim, claims):
        assert_refused(operator.here(*command), 2, "certainty is not available where cells are rounded or withheld (B2)")


def test_files_that_were_copied_are_entered_with_the_product_that_is_named(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "small-re", tmp_path / "small-re")
    said = tool(tmp_path, "dbrtool.py", "-q", "--rescan", "--reident", "sa", "--product", str(FOLDER))
    assert "sa, on all tables, with the seed 0" in said
    assert "2 counties' certainty" in said
    assert "sa" in tool(tmp_path, "dbrtool.py", "--reidents")


# --- the same product as files of fixed width ---------------------------------------------------------------------------

WIDTHS = {"FILEID": 6, "STUSAB": 2, "SUMLEV": 3, "GEOVAR": 2, "GEOCOMP": 2, "CHARITER": 3, "CIFSN": 2, "LOGRECNO": 7, "STATE": 2,
          "COUNTY": 3, "TRACT": 6, "BLKGRP": 1, "BLOCK": 4, "AREALAND": 14, "AREAWATR": 14, "NAME": 90, "POP100": 9, "HU100": 9,
          "INTPTLAT": 11, "INTPTLON": 12}  # fmt: skip


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the same tables whose files have fields of fixed width, as the Census Bureau's once had."""
    folder = Path(shutil.copytree(FOLDER, tmp_path_factory.mktemp("fixed") / "fixed_width"))
    text = (folder / "product.toml").read_text()
    text = text.replace('shape = "separated"\nseparator = ";"\n', 'shape = "fixed"\n')
    text = text.replace('separator = ";"\nbegin = "SAC;{ST};{segment:02d};"', 'shape = "fixed"\nbegin = "SAC   {ST}{segment:02d}"')
    (folder / "product.toml").write_text(text)
    starts = itertools.accumulate(WIDTHS.values(), initial=1)
    lines = [f"{field},{start},{width}" for (field, width), start in zip(WIDTHS.items(), starts, strict=False)]
    (folder / "header.csv").write_text("\n".join(["field,start,length", *lines]) + "\n")
    (folder / "segments.csv").write_text("segment,table,cells,width\n1,X1,2,4\n1,B1,9,5\n1,B2,8,6\n2,T1,19,9\n")
    return folder


PLAN = plan_state("de", "10", 1000, 1, 2)


@pytest.fixture(scope="module")
def fixed_members(fixed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("zip") / "de.small.zip"
    write_state_zip(path, "de", "10", make_counties(PLAN), load_release(str(fixed)))
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def made_of(root: Path, product: Path, content: dict[str, bytes]) -> dict[str, bytes]:
    """Steps 1 and 2: every file that they make."""
    return files_of(root, content, str(product), "de.small.zip")


def test_segments_and_header_of_fixed_width_give_the_same_files(
    root: Path, fixed: Path, fixed_members: dict[str, bytes], tmp_path: Path
) -> None:
    lines = fixed_members["decounts01.txt"].splitlines()
    assert {len(line) for line in lines} == {10 + 7 + 2 * 4 + 9 * 5 + 8 * 6}
    assert lines[0].startswith(b"SAC   DE010000001   0   0 1000")
    made = made_of(tmp_path, fixed, fixed_members)
    assert made == {path.name: path.read_bytes() for path in (*files(root, "sac_*.csv"), *files(root, "geofile_de.csv"))}


def in_line(number: int, change: Callable[[bytes], bytes]) -> Callable[[Lines], Lines]:
    return lambda lines: [change(line) if at == number else line for at, line in enumerate(lines, 1)]


FIXED_DAMAGES: dict[str, tuple[Callable[[Lines], Lines], str]] = {
    "a shorter line": (
        in_line(6, lambda line: line[:-3]),
        "line 6: 115 bytes long instead of 118 .fixed width.: the member is cut off",
    ),
    "a line less": (lambda lines: lines[:-1], "line 33: missing, where block .* belongs: the member is cut off"),
    "a line twice": (lambda lines: [*lines[:5], *lines[4:]], "line 6: LOGRECNO '0000005' stands there twice"),
    "another segment's line": (in_line(4, lambda line: line.replace(b"DE01", b"DE02")), "line 4: begins with .* instead of"),
}


@pytest.mark.parametrize("damage", FIXED_DAMAGES)
def test_damage_of_fixed_width_is_named_by_member_and_line(
    fixed: Path, fixed_members: dict[str, bytes], tmp_path: Path, damage: str
) -> None:
    change, expected = FIXED_DAMAGES[damage]
    lines = change(fixed_members["decounts01.txt"].splitlines())
    content = {**fixed_members, "decounts01.txt": b"\n".join([*lines, b""])}
    with pytest.raises(InputError, match=f"de.small.zip: member decounts01.txt, {expected}"):
        made_of(tmp_path, fixed, content)


def test_a_cell_of_fixed_width_that_is_no_count_is_named(fixed: Path, fixed_members: dict[str, bytes], tmp_path: Path) -> None:
    lines = fixed_members["decounts01.txt"].splitlines()
    at = max(number for number, line in enumerate(lines) if int(line[25:30]))  # a block with people
    for text, shown in ((b" 1,2 ", "1,2"), (b"     ", ""), (b"  1x ", "1x")):
        changed = [line[:30] + text + line[35:] if number == at else line for number, line in enumerate(lines)]
        content = {**fixed_members, "decounts01.txt": b"\n".join([*changed, b""])}
        with pytest.raises(InputError, match=f"member decounts01.txt, line {at + 1}: B10002 of block .* is '{shown}', not a count"):
            made_of(tmp_path / shown, fixed, content)


def test_a_count_that_its_width_cannot_hold_is_not_written(fixed: Path, tmp_path: Path) -> None:
    narrow = Path(shutil.copytree(fixed, tmp_path / "narrow"))
    text = (narrow / "segments.csv").read_text()
    (narrow / "segments.csv").write_text(text.replace("1,B1,9,5", "1,B1,9,2"))
    with pytest.raises(InputError, match=r"segments.csv: segment 1: 1000 does not fit a width of 2"):
        write_state_zip(tmp_path / "de.small.zip", "de", "10", make_counties(PLAN), load_release(str(narrow)))


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        (
            "segments.csv",
            "segment,table,cells,width",
            "segment,table,cells,wide",
            "not a segment layout .* segment,table,cells,width",
        ),
        ("segments.csv", "1,B1,9,5", "1,B1,9,0", "table B1 has 9 cells of width 0"),
        (
            "product.toml",
            'shape = "fixed"\nbegin',
            'shape = "fixed"\nseparator = ";"\nbegin',
            r"\[segments\] shape is fixed, or separated",
        ),
        ("product.toml", 'shape = "fixed"\nbegin', 'shape = "separated"\nbegin', r"\[segments\] shape is fixed, or separated"),
    ],
)
def test_a_layout_of_fixed_width_that_cannot_be_is_refused(
    fixed: Path, tmp_path: Path, name: str, old: str, new: str, expected: str
) -> None:
    own = Path(shutil.copytree(fixed, tmp_path / "own"))
    text = (own / name).read_text()
    assert old in text
    (own / name).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=f"{name}: .*{expected}"):
        _ = load_release(str(own)).segments


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


def test_groups_that_flags_cannot_tell_apart_are_not_written_alike() -> None:
    """People of one race, and of more, whichever: cells tell them apart, so that a file of people must."""
    part = {"divisions": {"number": {"parts": [{"races": 1}, {"races": [2, 6]}]}}}
    table = {"name": "N1", "prefix": "N1", "level": "block", "segment": 1, "cells": 3, "divide": "number"}
    spec = {
        "product": "number",
        "title": "Number of races",
        "races": list(RACES),
        "table": [table],
        "constraint": [{"counts": "N1"}],
    }
    found = attributes_of(product_of(spec | part, "number"))
    assert found is not None
    assert len(found.kind_of) == 2
    for kind in range(0, N_KINDS, 997):
        assert found.kind_of[found.columns(kind)] == found.kind[kind]
