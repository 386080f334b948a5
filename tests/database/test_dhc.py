"""The 2020 DHC from its zip to its people: real names and shapes of files, however segments of tract tables treat blocks."""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from dbrecon.ctools.database import make_engine
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.recon.product.release import load_release
from dbrecon.recon.product.writer import write_state_zip
from dbrecon.recon.study.synthetic import make_counties, plan_state
from dbrecon.settings import Config
from dbrecon.steps.county_files import make_county_files
from dbrecon.steps.geography_files import make_geo_files
from tests.paths import CHECKOUT
from tests.tiny_sf1 import zip_bytes
from tests.unit.test_release import cells_of_person

RELEASE = load_release("dhc2020")
PLAN = plan_state("de", "10", 1000, 3, 2)


@cache
def members(block_lines: str) -> dict[str, bytes]:
    """The members of a small state's zip."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "de2020.dhc.zip"
        write_state_zip(path, "de", "10", make_counties(PLAN), RELEASE, block_lines=block_lines)
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def files_of(root: Path, content: dict[str, bytes], product: str = "2020_dhc", name: str = "de2020.dhc.zip") -> dict[str, bytes]:
    """Steps 1 and 2: every file that they make."""
    config = Config.load(env={"DAS_S3ROOT": str(root)}, hostname="here")
    experiment = Experiment.make("r1", config, product=product)
    dist = Path(experiment.dist)
    dist.mkdir(parents=True)
    (dist / name).write_bytes(zip_bytes(content))
    ledger = Ledger(make_engine(**config.database()))
    ledger.register("r1", "all", product)
    make_geo_files(experiment, ledger, "de")
    make_county_files(experiment, ledger, "de")
    return {path.name: path.read_bytes() for path in (dist.parent / "work").rglob("*.csv")}


def test_every_cell_of_every_unit_is_that_of_its_people(tmp_path: Path) -> None:
    """By an independent plain tabulator, which counts people one by one."""
    files = files_of(tmp_path, members("none"))
    races = ("white", "black", "aian", "asian", "nhopi", "sor")
    for county in make_counties(PLAN):
        wanted: dict[str, dict[str, int]] = {}
        people = county.people.merged()
        for block, kind, count in zip(people.geoid_block.tolist(), people.kind.tolist(), people.count.tolist(), strict=True):
            sa, rh = divmod(kind, 126)
            sex, age = divmod(sa, 103)
            code, hisp = rh // 2 + 1, bool(rh % 2)
            years = age if age < 100 else (100, 105, 110)[age - 100]
            of_person = cells_of_person(sex, years, {race for i, race in enumerate(races) if code >> (5 - i) & 1}, hisp)
            for unit in (f"{block:015d}", f"{block // 10000:011d}"):
                cells = wanted.setdefault(unit, {})
                for name, n in of_person.items():
                    if name.startswith("PCT") == (len(unit) == 11):
                        cells[name] = cells.get(name, 0) + n * count
        found = {}
        for level in ("block", "tract"):
            for row in csv.DictReader(io.StringIO(files[f"dhc_{level}_10{county.code}.csv"].decode())):
                geoid = row.pop(f"geoid_{level}")
                row.pop("logrecno")
                found[geoid] = {name: int(value) for name, value in row.items() if value != "0"}
        assert {unit: cells for unit, cells in found.items() if cells} == wanted


@pytest.mark.parametrize("block_lines", ["empty", "zeros"])
def test_what_segments_of_tract_tables_have_for_blocks_makes_no_difference(tmp_path: Path, block_lines: str) -> None:
    assert files_of(tmp_path / "a", members(block_lines)) == files_of(tmp_path / "b", members("none"))
    assert (tmp_path / "a" / "2020-re" / "r1" / "dist" / "de2020.dhc.zip").exists()


def test_lines_of_the_id_alone_stand_for_none(tmp_path: Path) -> None:
    content = {
        name: b"".join(line.rstrip(b"|") + b"\n" for line in text.split(b"\n") if line) if "geo" not in name else text
        for name, text in members("empty").items()
    }
    assert files_of(tmp_path / "a", content) == files_of(tmp_path / "b", members("none"))


def test_names_beyond_ascii_are_read_as_utf_8_and_as_windows_1252(tmp_path: Path) -> None:
    header = members("none")["degeo2020.dhc"]
    name = next(line.split(b"|")[87] for line in header.split(b"\n") if line.split(b"|")[2] == b"050")
    for encoding in ("utf-8", "cp1252"):
        content = {**members("none"), "degeo2020.dhc": header.replace(name, "Doña Ana County".encode(encoding))}
        assert "Doña Ana County" in files_of(tmp_path / encoding, content)["geofile_de.csv"].decode()


SEGMENT, TRACT_SEGMENT, HEADER = "de000062020.dhc", "de000212020.dhc", "degeo2020.dhc"


Lines = list[bytes]


def cell(number: int, value: bytes) -> Callable[[Lines], Lines]:
    def change(lines: Lines) -> Lines:
        at = max(i for i, line in enumerate(lines) if line.split(b"|")[5] != b"0")  # the last block with adults
        fields = lines[at].split(b"|")
        fields[number] = value
        return [*lines[:at], b"|".join(fields), *lines[at + 1 :]]

    return change


def in_header(number: int, value: bytes) -> Callable[[Lines], Lines]:
    """The last line's field of that number, counted from 0."""

    def change(lines: Lines) -> Lines:
        fields = lines[-1].split(b"|")
        fields[number] = value
        return [*lines[:-1], b"|".join(fields)]

    return change


def without_last_field(at: int) -> Callable[[Lines], Lines]:
    return lambda lines: [line.rsplit(b"|", 1)[0] if number == at else line for number, line in enumerate(lines)]


def cut(lines: Lines) -> Lines:
    return lines[:-1]


def twice(lines: Lines) -> Lines:
    return [*lines[:5], *lines[4:]]


def shifted(lines: Lines) -> Lines:
    """Each LOGRECNO with the cells of the line before."""
    width = len(lines[0]) - len(b"|".join(lines[0].split(b"|")[5:]))
    return [line[:width] + before[width:] for line, before in zip(lines, lines[:1] + lines[:-1], strict=True)]


def with_mark(lines: Lines) -> Lines:
    return [b"\xef\xbb\xbf" + lines[0], *lines[1:]]


def of_another_release(lines: Lines) -> Lines:
    return [lines[0].replace(b"DHCST", b"PLST", 1), *lines[1:]]


DAMAGES: dict[str, tuple[str, Callable[[Lines], Lines], str]] = {
    "cut segment": (SEGMENT, cut, "line .*: no line with cells for block .*: the member is cut off"),
    "cut tract segment": (TRACT_SEGMENT, cut, "line .*: no line with cells for tract"),
    "a segment's line twice": (SEGMENT, twice, "line 6: LOGRECNO '0000005' stands there twice"),
    "shifted segment": (SEGMENT, shifted, "line .*: P0.* of block .* is '.*', but P0010001 and POP100 say that nobody lives there"),
    "no number": (SEGMENT, cell(7, b"x"), "line .*: P0100003 of block .* is 'x', not a count"),
    "empty field": (SEGMENT, cell(7, b""), "line .*: P0100003 of block .* is '', not a count"),
    "quoted field": (SEGMENT, cell(7, b'"1"'), "line .*: P0100003 of block .* not a count"),
    "comma in a field": (SEGMENT, cell(7, b"1,000"), "line .*: P0100003 of block .* is '1,000', not a count"),
    "a field less": (SEGMENT, without_last_field(7), "line .* fields instead of"),
    "duplicate LOGRECNO": (HEADER, twice, "line 6: LOGRECNO .* is no number above"),
    "a point that is none": (HEADER, in_header(92, b"north"), "line .*: INTPTLAT is 'north', not degrees up to 90"),
    "no number as a point": (HEADER, in_header(93, b"nan"), "line .*: INTPTLON is 'nan', not degrees up to 180"),
    "a point off the earth": (HEADER, in_header(93, b"-180.5"), "line .*: INTPTLON is '-180.5', not degrees up to 180"),
    "an area that is none": (HEADER, in_header(84, b"big"), "line .*: AREALAND is 'big', not a number of square metres"),
    "a name without end": (HEADER, in_header(87, b"x" * 126), "line .*: NAME has 126 characters, and no name more than 125"),
    "byte-order mark": (HEADER, with_mark, "line 1: begins with a byte-order mark"),
    "byte-order mark of a segment": (SEGMENT, with_mark, "line 1: begins with a byte-order mark"),
    "byte-order mark of a tract segment": (TRACT_SEGMENT, with_mark, "line 1: begins with a byte-order mark"),
    "a header's field less": (HEADER, without_last_field(5), "line 6: 96 fields instead of 97"),
    "another release": (HEADER, of_another_release, "line 1: FILEID is 'PLST.*of another release"),
}


def test_a_segment_that_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"de2020.dhc.zip: member {SEGMENT} is missing"):
        files_of(tmp_path, {name: text for name, text in members("none").items() if name != SEGMENT})


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_zip_is_refused_by_member_line_and_field(tmp_path: Path, damage: str) -> None:
    member, change, expected = DAMAGES[damage]
    lines = change(members("none")[member].split(b"\n")[:-1])
    with pytest.raises(InputError, match=f"de2020.dhc.zip: member {member}, {expected}") as caught:
        files_of(tmp_path, {**members("none"), member: b"".join(line + b"\n" for line in lines)})
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "2020-re").rglob("dhc_*.csv")) == []


def test_a_zip_of_2010_under_this_name_is_named_for_what_it_is(tmp_path: Path) -> None:
    content = {name.replace("2020.dhc", "2010.sf1"): text for name, text in members("none").items()}
    with pytest.raises(InputError, match=r"holds degeo2010.sf1: it is of the 2010 Census Summary File 1, not of the 2020 Census"):
        files_of(tmp_path, content)


def test_dos_line_ends_give_the_same_files(tmp_path: Path) -> None:
    content = {name: text.replace(b"\n", b"\r\n") for name, text in members("none").items()}
    assert files_of(tmp_path / "a", content) == files_of(tmp_path / "b", members("none"))


def test_the_same_people_make_the_same_zip() -> None:
    once = members("none")
    members.cache_clear()
    assert members("none") == once
    assert np.array([len(text) for text in once.values()]).sum() > 100_000


def tool(root: Path, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MYSQL_", "DBRECON_", "REIDENT"))}
    command = [sys.executable, *arguments]
    env |= {"DAS_S3ROOT": str(root)}
    done = subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_experiments_of_two_products_share_a_database_and_every_cell_is_met(tmp_path: Path) -> None:
    """By the commands that an operator types: registered, read, solved, checked against the files and the truth."""
    for reident, product, folder, county_file in (
        ("r10", "sf1_2010", "2010-re", "sf1_block_10001.csv"),
        ("r20", "dhc2020", "2020-re", "dhc_block_10001.csv"),
    ):
        said = tool(tmp_path, "dbrtool.py", "--register", reident, "--product", product)
        release = load_release(product)
        assert f"(as {release.zip_of('oh')})" in said
        dist, truth = tmp_path / folder / reident / "dist", tmp_path / "truth.csv.gz"
        state = ["--stusab", "de", "--people", "1500", "--counties", "2", "--out", str(dist), "--truth", str(truth)]
        tool(tmp_path, "bench/make_state.py", "-q", "--product", product, *state)
        assert [path.name for path in dist.iterdir()] == [release.zip_of("de")]
        tool(tmp_path, "dbrtool.py", "--reident", reident, "--step1", "--step2")
        tool(tmp_path, "dbrtool.py", "-q", "--reident", reident, "--run")
        assert (tmp_path / folder / reident / "work" / "de" / "10001" / county_file).exists()
        found = json.loads(tool(tmp_path, "dbrtool.py", "-q", "--reident", reident, "--evaluate", str(truth), "--json"))
        assert found["violations"]["block"]["wrong"] == found["violations"]["tract"]["wrong"] == 0
        assert found["reconstructed_people"] == found["true_people_compared"] == 1500
        assert "the ledger and the files agree" in tool(tmp_path, "dbrtool.py", "--reident", reident, "--rescan")
        assert "is whole" in tool(tmp_path, "s0_download_data.py", "--reident", reident, "--validate")
    listed = tool(tmp_path, "dbrtool.py", "--reidents")
    assert "r10" in listed
    assert "r20" in listed
