"""Step 1: a state's geographic header becomes its geofile, and tracts and geography in the ledger."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import dbrecon.steps.geography_files as s1_make_geo_files
from dbrecon.ctools.storage import exists
from dbrecon.errors import InputError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger, LpStats, SolStats, Worker
from dbrecon.place import Place
from dbrecon.recon.census.geography import Unit, read_units
from dbrecon.steps.download import asked_states
from dbrecon.steps.geography_files import make_geo_files
from tests.paths import CHECKOUT, SHARED, SHARED_DATA
from tests.tiny_sf1 import Record, environment, make_experiment, make_members, put_zip, some_records, zip_bytes

HEADER = "nmgeo2010.sf1"


@pytest.fixture
def made(tmp_path: Path) -> tuple[Experiment, Ledger]:
    return make_experiment(tmp_path)


def geofile(experiment: Experiment, stusab: str = "nm") -> list[dict[str, str]]:
    with open(experiment.geofile(stusab), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_geofile_has_every_unit_with_its_codes_and_its_latin_1_name_in_utf_8(made: tuple[Experiment, Ledger]) -> None:
    experiment, ledger = made
    put_zip(experiment, zip_bytes(make_members(some_records())))
    assert make_geo_files(experiment, ledger, "nm")
    rows = geofile(experiment)
    county = next(row for row in rows if row["SUMLEV"] == "050")
    assert county == {
        "STUSAB": "NM", "SUMLEV": "050", "GEOCOMP": "00", "LOGRECNO": "0000003", "STATE": "35", "COUNTY": "013", "TRACT": "",
        "BLKGRP": "", "BLOCK": "", "NAME": "Doña Ana County", "POP100": "40", "HU100": "4", "AREALAND": "1234567",
        "AREAWATR": "89", "INTPTLAT": "+32.3526466", "INTPTLON": "-106.8327890",
    }  # fmt: skip
    kept = [record for record in some_records() if record.geocomp == "00" and record.sumlev != "060"]
    assert [(row["SUMLEV"], row["COUNTY"], row["TRACT"], row["BLOCK"]) for row in rows] == [
        (record.sumlev, record.county, record.tract, record.block) for record in kept
    ]


def test_ledger_gets_tracts_with_their_people_and_the_geography(made: tuple[Experiment, Ledger]) -> None:
    experiment, ledger = made
    put_zip(experiment, zip_bytes(make_members(some_records())))
    make_geo_files(experiment, ledger, "nm")
    tracts = [(tract_row.county, tract_row.tract, tract_row.pop, tract_row.status) for tract_row in ledger.tract_states("r1", "nm")]
    assert tracts == [
        (county, tract, pop, "new" if pop else "empty")
        for county in ("001", "013")
        for tract, pop in [("000101", 12), ("000200", 12), ("990000", 0)]
    ]
    county = ledger.geography("r1", "nm", "050")[0]
    assert (county.name, county.arealand, round(county.intptlat, 6)) == ("Doña Ana County", 1234567, 32.352647)


def test_a_county_s_name_commands_no_terminal(made: tuple[Experiment, Ledger]) -> None:
    experiment, ledger = made
    records = [Record("050", "013", pop=5, name="\x1b[31mRed\x9b County")]
    records += [Record("140", "013", "000101", "", 5), Record("101", "013", "000101", "1000", 5)]
    put_zip(experiment, zip_bytes(make_members(records)))
    make_geo_files(experiment, ledger, "nm")
    assert ledger.county_names("r1", Place("nm")) == {("nm", "013"): "\\x1b[31mRed\\x9b County"}


def test_level_750_is_a_block(made: tuple[Experiment, Ledger]) -> None:
    experiment, ledger = made
    records = [Record("140", "013", "000101", "", 5), Record("750", "013", "000101", "1000", 5)]
    put_zip(experiment, zip_bytes(make_members(records)))
    make_geo_files(experiment, ledger, "nm")
    assert [(row.tract, row.block) for row in ledger.geography("r1", "nm", "750")] == [("000101", "1000")]


def test_a_header_with_dos_line_ends_gives_the_same_geofile(made: tuple[Experiment, Ledger], tmp_path: Path) -> None:
    experiment, ledger = made
    members = make_members(some_records())
    put_zip(experiment, zip_bytes(members))
    make_geo_files(experiment, ledger, "nm")
    expected = geofile(experiment)
    put_zip(experiment, zip_bytes({name: content.replace(b"\n", b"\r\n") for name, content in members.items()}))
    make_geo_files(experiment, ledger, "nm", force=True)
    assert geofile(experiment) == expected


def test_twice_changes_nothing_even_if_the_zip_is_gone(made: tuple[Experiment, Ledger]) -> None:
    experiment, ledger = made
    path = put_zip(experiment, zip_bytes(make_members(some_records())))
    make_geo_files(experiment, ledger, "nm")
    before = (Path(experiment.geofile("nm")).stat(), ledger.tract_states("r1", "nm"))
    path.unlink()
    assert not make_geo_files(experiment, ledger, "nm")
    assert (Path(experiment.geofile("nm")).stat(), ledger.tract_states("r1", "nm")) == before


def test_ctrl_c_leaves_nothing_and_the_next_run_does_all(made: tuple[Experiment, Ledger], monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, ledger = made
    put_zip(experiment, zip_bytes(make_members(some_records())))

    def interrupted(*args: Any) -> Iterator[Unit]:
        yield from islice(read_units(*args), 5)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(s1_make_geo_files, "read_units", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_geo_files(experiment, ledger, "nm")
    assert [path for path in Path(experiment.base).glob("work/**/*") if path.is_file()] == []
    assert not ledger.has_geography("r1", "nm")
    assert make_geo_files(experiment, ledger, "nm")
    assert len(ledger.tract_states("r1", "nm")) == 6


def test_a_lost_geofile_is_written_again_and_no_progress_is_lost(made: tuple[Experiment, Ledger]) -> None:
    experiment, ledger = made
    put_zip(experiment, zip_bytes(make_members(some_records())))
    make_geo_files(experiment, ledger, "nm")
    before = ledger.tract_states("r1", "nm")
    content = Path(experiment.geofile("nm")).read_bytes()
    Path(experiment.geofile("nm")).unlink()
    assert make_geo_files(experiment, ledger, "nm")
    assert Path(experiment.geofile("nm")).read_bytes() == content
    assert ledger.tract_states("r1", "nm") == before


def test_a_lost_geofile_of_another_zip_is_not_mixed_in(made: tuple[Experiment, Ledger]) -> None:
    """The zip has changed since: nothing of the earlier state is kept beside the new geofile."""
    experiment, ledger = made
    put_zip(experiment, zip_bytes(make_members(some_records())))
    make_geo_files(experiment, ledger, "nm")
    Path(experiment.geofile("nm")).unlink()
    put_zip(experiment, zip_bytes(make_members(some_records(["099"]))))
    assert make_geo_files(experiment, ledger, "nm")
    assert {tract.county for tract in ledger.tract_states("r1", "nm")} == {"099"}


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ([Record("100", "013", "000101", "1000", 8)], r"has 8 people, its blocks have 0; blocks stand there at summary level 100"),
        ([], r"tract 35013000101 has 8 people, its blocks have 0; get"),
        ([Record("101", "013", "000101", "1000", 7)], r"has 8 people, its blocks have 7; get"),
    ],
)
def test_people_of_a_tract_that_its_blocks_have_not_are_refused(
    made: tuple[Experiment, Ledger], blocks: list[Record], said: str
) -> None:
    experiment, ledger = made
    put_zip(experiment, zip_bytes(make_members([*blocks, Record("140", "013", "000101", "", 8)])))
    with pytest.raises(InputError, match=said):
        make_geo_files(experiment, ledger, "nm")
    assert not ledger.has_geography("r1", "nm")
    assert [path for path in Path(experiment.base).glob("work/**/*") if path.is_file()] == []


@pytest.mark.parametrize("forced", [True, False])
def test_what_changed_in_the_zip_is_taken_over(made: tuple[Experiment, Ledger], forced: bool) -> None:
    experiment, ledger = made
    put_zip(experiment, zip_bytes(make_members(some_records())))
    make_geo_files(experiment, ledger, "nm")
    put_zip(experiment, zip_bytes(make_members([Record("101", "099", "000101", "1000", 8), Record("140", "099", "000101", "", 8)])))
    make_geo_files(experiment, ledger, "nm", force=forced)
    assert [(tract.county, tract.pop) for tract in ledger.tract_states("r1", "nm")] == [("099", 8)]
    assert {row["COUNTY"] for row in geofile(experiment)} == {"099"}


def test_force_says_how_much_finished_work_is_to_be_done_again(
    made: tuple[Experiment, Ledger], caplog: pytest.LogCaptureFixture
) -> None:
    experiment, ledger = made
    caplog.set_level("INFO")
    put_zip(experiment, zip_bytes(make_members(some_records())))
    make_geo_files(experiment, ledger, "nm", force=True)
    assert "--force" not in caplog.text, "nothing was finished"
    for claim in ledger.claim("r1", Worker.here(), place=Place("nm", "013"), limit=2):
        ledger.solved(claim, SolStats("HiGHS", 0.1), LpStats(1, 1, 1, 0.1))
    make_geo_files(experiment, ledger, "nm")
    assert "--force" not in caplog.text, "nothing was put back"
    make_geo_files(experiment, ledger, "nm", force=True)
    assert "--force: 2 solved tracts of nm are to be done again" in caplog.text


def cut_line(content: bytes) -> bytes:
    lines = content.split(b"\n")
    lines[4] = lines[4][:-30]
    return b"\n".join(lines)


def records_of(*records: Record) -> Callable[[bytes], bytes]:
    return lambda _: make_members(records)[HEADER]


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "line cut off": (cut_line, "line 5: 470 bytes"),
    "utf-8": (lambda content: content.decode("latin-1").encode(), "line 3: 501 bytes"),
    "other state": (lambda content: content.replace(b"SF1ST NM", b"SF1ST AZ"), "line 1: of state 'AZ', not 'NM'"),
    "other fips": (lambda content: content.replace(b"  35 ", b"  04 ").replace(b"  35013", b"  04013"), "state 04, but NM is 35"),
    "logrecno twice": (lambda content: content.replace(b"0000006", b"0000005"), "line 6: LOGRECNO '0000005'"),
    "negative population": (lambda content: content.replace(b"       40 ", b"      -40 "), "line 3: POP100 is '-40'"),
    "block of no tract": (
        records_of(Record("140", "013", "000101"), Record("101", "013", "000200", "1000", 5)),
        "line 2: a block of tract 35013000200",
    ),
    "tract twice": (
        records_of(Record("140", "013", "000101"), Record("140", "013", "000101")),
        "line 2: 35013000101 stands already in line 1",
    ),
    "no tract": (records_of(Record("040", pop=3)), "there is no tract"),
    "no county": (records_of(Record("140", "", "000101")), "line 1: summary level 140 with state '35', county ''"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_header_is_refused_by_member_and_line_and_changes_nothing(made: tuple[Experiment, Ledger], damage: str) -> None:
    experiment, ledger = made
    change, expected = DAMAGES[damage]
    members = make_members(some_records())
    changed = members | {HEADER: change(members[HEADER])}
    assert changed != members
    put_zip(experiment, zip_bytes(changed))
    with pytest.raises(InputError, match=expected.replace("(", r"\(")) as caught:
        make_geo_files(experiment, ledger, "nm")
    assert HEADER in str(caught.value)
    assert not exists(experiment.geofile("nm"))
    assert not ledger.has_geography("r1", "nm")


BAD_ZIPS: dict[str, tuple[bytes, str]] = {
    "text": (b"404: file not found\n" * 50, "not a zip file"),
    "empty": (b"", "not a zip file"),
    "truncated": (zip_bytes(make_members(some_records()))[:-5000], "cut off"),
    "no header": (zip_bytes({"readme.txt": b"hello"}), f"member {HEADER} is missing"),
    "lzma": (zip_bytes(make_members(some_records()), compression=14), "compressed by method 14"),
}


@pytest.mark.parametrize("kind", BAD_ZIPS)
def test_what_is_no_whole_zip_is_refused_by_name(made: tuple[Experiment, Ledger], kind: str) -> None:
    experiment, ledger = made
    content, expected = BAD_ZIPS[kind]
    path = put_zip(experiment, content)
    with pytest.raises(InputError, match=expected) as caught:
        make_geo_files(experiment, ledger, "nm")
    assert str(path) in str(caught.value)
    assert not exists(experiment.geofile("nm"))


def test_a_state_without_zip_is_told_where_it_belongs(made: tuple[Experiment, Ledger]) -> None:
    experiment, ledger = made
    with pytest.raises(InputError, match="there is no zip of New Mexico; run step 0") as caught:
        make_geo_files(experiment, ledger, "nm")
    assert experiment.dist_zip("nm") in str(caught.value)


def test_all_is_every_state_whose_zip_is_there(made: tuple[Experiment, Ledger]) -> None:
    experiment, _ = made
    for stusab in ("oh", "nm"):
        put_zip(experiment, b"", stusab)
    (Path(experiment.dist) / "xx2010.sf1.zip").write_bytes(b"")
    (Path(experiment.dist) / "al2010.sf1.zip.part").write_bytes(b"")
    assert asked_states(experiment, ["all"]) == ["nm", "oh"]
    with pytest.raises(UsageError, match="'xx' is no state"):
        asked_states(experiment, ["xx"])


def test_the_script_ends_with_one_sentence_and_the_documented_exit_code(made: tuple[Experiment, Ledger], tmp_path: Path) -> None:
    experiment, _ = made
    put_zip(experiment, b"no zip")
    run = [sys.executable, str(CHECKOUT / "s1_make_geo_files.py")]
    codes = {}
    for words in (["nm"], ["--stusab", "xx"], ["--reident", "r2", "nm"], ["--reident", "a;drop", "nm"]):
        done = subprocess.run([*run, *words], env=os.environ | environment(tmp_path), capture_output=True, text=True, check=False)
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ")
        codes[words[-1] if len(words) == 1 else words[1]] = done.returncode
    assert codes == {"nm": 3, "xx": 2, "r2": 5, "a;drop": 2}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real tables lie in ../shared, which is not here")
def test_the_people_of_guernsey_county_are_all_in_its_tracts(made: tuple[Experiment, Ledger]) -> None:
    experiment, ledger = made
    put_zip(experiment, (SHARED_DATA / "guernsey" / "oh2010.sf1.zip").read_bytes(), "oh")
    make_geo_files(experiment, ledger, "oh")
    tracts = ledger.tract_states("r1", "oh")
    assert len(tracts) == 10
    assert sum(tract.pop for tract in tracts) == 40087
    assert len(ledger.geography("r1", "oh", "101")) == 3769


def test_the_result_is_told_once_and_tells_the_tracts_without_people(made: tuple[Experiment, Ledger], tmp_path: Path) -> None:
    experiment, _ = made
    records = [
        Record("101", "013", "000101", "1000", 1500),
        Record("140", "013", "000101", pop=1500),
        Record("140", "013", "000102"),
        Record("140", "013", "000103"),
    ]
    put_zip(experiment, zip_bytes(make_members(records)))
    command = [sys.executable, str(CHECKOUT / "s1_make_geo_files.py"), "nm"]
    messages = []
    for _ in range(2):
        done = subprocess.run(command, env=os.environ | environment(tmp_path), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        messages.append(done.stdout)
    found = f"nm: 3 tracts, 2 of them without people; 1,500 people: {experiment.geofile('nm')}\n"
    assert messages == [found, "nm: step 1 is done already\n"]
