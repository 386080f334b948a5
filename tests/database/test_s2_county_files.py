"""Step 2: the segments of a state's zip become a block file and a tract file per county."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from dbrecon.console import state_steps
from dbrecon.console.step_commands import do_states
from dbrecon.errors import InputError, StorageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.product.county_rows import CountyRows, StateReader
from dbrecon.recon.product.release import load_release
from dbrecon.steps.county_files import make_county_files, step2
from dbrecon.steps.geography_files import enter_geofile, make_geo_files
from dbrecon.steps.holding import state_held
from tests.paths import CHECKOUT, SHARED_DATA
from tests.tiny_sf1 import (
    Record,
    environment,
    make_experiment,
    make_members,
    put_zip,
    read_slowly,
    some_records,
    zip_bytes,
)


def start(root: Path, content: bytes, stusab: str = "nm", tables: str = "all") -> tuple[Experiment, Ledger]:
    """An experiment below ``root`` with one zip, step 1 done."""
    experiment, ledger = make_experiment(root, tables)
    put_zip(experiment, content, stusab)
    make_geo_files(experiment, ledger, stusab)
    return experiment, ledger


def county_files(experiment: Experiment) -> dict[str, bytes]:
    """Every file in the counties' folders, those under construction included."""
    root = Path(experiment.base) / "work"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob("*/*/*")) if path.is_file()}


def rows(path: str) -> list[list[str]]:
    with open(path, encoding="ascii", newline="") as file:
        return list(csv.reader(file))


def assert_same_as_slow_reading(experiment: Experiment, content: bytes, stusab: str) -> None:
    expected = read_slowly(content, stusab)
    for (level, county), wanted in expected.items():
        path = (experiment.block_csv if level == "block" else experiment.tract_csv)(stusab, county)
        assert rows(path) == wanted
    assert len(county_files(experiment)) == len(expected)


def test_every_cell_is_the_published_one_whatever_the_order_of_counties_and_levels(tmp_path: Path) -> None:
    content = zip_bytes(make_members(some_records(["013", "001", "007"])))
    experiment, ledger = start(tmp_path, content)
    assert make_county_files(experiment, ledger, "nm") == 3
    assert_same_as_slow_reading(experiment, content, "nm")
    blocks = [row[0] for row in rows(experiment.block_csv("nm", "013"))[1:]]
    assert blocks == ["350130001011002", "350130001011003", "350130002001002", "350130002001003"]
    assert [row[0][5:] for row in rows(experiment.tract_csv("nm", "013"))[1:]] == ["000101", "000200", "990000"]


@pytest.mark.parametrize("stusab", ["oh", "al", "ca", "nd", "nj"])
def test_every_cell_of_real_zips_is_the_published_one(tmp_path: Path, stusab: str) -> None:
    folder = SHARED_DATA / ("guernsey" if stusab == "oh" else "real_tracts")
    if not folder.is_dir():
        pytest.skip("the real tables lie in ../shared, which is not here")
    content = (folder / f"{stusab}2010.sf1.zip").read_bytes()
    experiment, ledger = start(tmp_path, content, stusab)
    make_county_files(experiment, ledger, stusab)
    assert_same_as_slow_reading(experiment, content, stusab)


def test_columns_are_those_of_the_product_that_step_3_reads_with() -> None:
    product = load_product()
    for level in ("block", "tract"):
        own = [name for table in load_release().tables if table.level == level for name in table.cell_names]
        assert own == list(product.columns(level))


def test_blocks_of_level_750_and_members_that_are_only_stored_and_dos_line_ends_read_alike(tmp_path: Path) -> None:
    members = make_members([Record("140", "013", "000101", "", 5), Record("750", "013", "000101", "1000", 5)])
    content = zip_bytes({name: text.replace(b"\n", b"\r\n") for name, text in members.items()}, zipfile.ZIP_STORED)
    experiment, ledger = start(tmp_path, content)
    make_county_files(experiment, ledger, "nm")
    assert_same_as_slow_reading(experiment, zip_bytes(members), "nm")


def test_a_county_of_tracts_without_any_block_has_a_block_file_without_rows(tmp_path: Path) -> None:
    content = zip_bytes(make_members([Record("140", "013", "990000"), Record("140", "015", "990000")]))
    experiment, ledger = start(tmp_path, content)
    make_county_files(experiment, ledger, "nm")
    assert [len(rows(experiment.block_csv("nm", county))) for county in ("013", "015")] == [1, 1]
    assert [len(rows(experiment.tract_csv("nm", county))) for county in ("013", "015")] == [2, 2]


def test_an_experiment_on_block_tables_needs_no_tract_tables(tmp_path: Path) -> None:
    members = make_members(some_records())
    content = zip_bytes(members)
    only_blocks = zip_bytes({name: text for name, text in members.items() if name < "nm00017" or "geo" in name})
    experiment, ledger = start(tmp_path, only_blocks, tables="block")
    make_county_files(experiment, ledger, "nm")
    assert rows(experiment.block_csv("nm", "013")) == read_slowly(content, "nm")["block", "013"]
    assert [row[0] for row in rows(experiment.tract_csv("nm", "013"))] == [
        "geoid_tract", "35013000101", "35013000200", "35013990000",
    ]  # fmt: skip


# -- bad input ----------------------------------------------------------------------------------------------------------


def line_of(members: dict[str, bytes], member: str, number: int, change: Callable[[bytes], bytes | None]) -> dict[str, bytes]:
    """The members with one line of one changed, or taken out where ``change`` gives None."""
    lines = members[member].splitlines(keepends=True)
    assert change(lines[number - 1]) != lines[number - 1]
    lines[number - 1] = change(lines[number - 1]) or b""
    return members | {member: b"".join(lines)}


def cell(position: int, value: bytes) -> Callable[[bytes], bytes]:
    """Sets a cell, counted from 1, of a line."""

    def change(line: bytes) -> bytes:
        fields = line.rstrip(b"\n").split(b",")
        fields[4 + position] = value
        return b",".join(fields) + b"\n"

    return change


S1, S4, S8, P12, P12B = (f"nm{segment:05d}2010.sf1" for segment in (1, 4, 8, 17, 21))
LAST = len(some_records())
EMPTY = "350130002001001"
LAST_RECNO = f"LOGRECNO '{LAST:07d}'"
Members = dict[str, bytes]


def without(member: str) -> Callable[[Members], Members]:
    return lambda members: {name: text for name, text in members.items() if name != member}


def line(member: str, number: int, change: Callable[[bytes], bytes | None]) -> Callable[[Members], Members]:
    return lambda members: line_of(members, member, number, change)


def no_line(_: bytes) -> None:
    return None


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda text: text.replace(old, new)


def short_everywhere(members: Members) -> Members:
    return {name: text if "geo" in name else text[: text.rindex(b"SF1ST")] for name, text in members.items()}


def tract_segments_short(members: Members) -> Members:
    return {name: text[: text.rindex(b"SF1ST")] if P12 <= name < "nmg" else text for name, text in members.items()}


def last_line_twice(members: Members) -> Members:
    return members | {S4: members[S4] + members[S4].splitlines(keepends=True)[-1]}


def of_no_record(members: Members) -> Members:
    last = members[S4].splitlines(keepends=True)[-1]
    return members | {S4: members[S4] + last.replace(LAST_RECNO[-8:-1].encode(), b"9999999")}


def marked(text: bytes) -> bytes:
    return b"\xef\xbb\xbf" + text


def field_dropped(text: bytes) -> bytes:
    return text[: text.rindex(b",")] + b"\n"


# In some_records() line 5 is block 350130002001003, line 7 one without people, line 19 a block of county 001, and the last the
# water tract of county 001, which is line 14 of the tract segments.
DAMAGES: dict[str, tuple[Callable[[Members], Members], str]] = {
    "missing segment": (without(S4), f"member {S4} is missing"),
    "two missing segments": (lambda members: without(S8)(without(S4)(members)), f"members {S4}, {S8} are missing"),
    "missing tract segment": (without(P12B), f"member {P12B} is missing"),
    "a line short at the end": (line(S8, LAST, no_line), f"member {S8}, line {LAST}: missing, where {LAST_RECNO} belongs"),
    "every segment a line short": (short_everywhere, f"line {LAST}: missing"),
    "a line short amid": (line(S4, 7, no_line), f"member {S4}, line 7: begins with 'SF1ST,NM,000,04,0000008,'"),
    "a tract segment a line short": (line(P12B, 2, no_line), f"member {P12B}, line 2: begins with"),
    "all tract segments lack a tract": (
        tract_segments_short,
        f"member {P12}, line 14: missing, where tract 35001990000, {LAST_RECNO}, belongs",
    ),
    "a line too many": (last_line_twice, f"member {S4}, line {LAST + 1}: {LAST_RECNO} stands there twice"),
    "a line twice amid": (line(S4, 7, lambda text: text + text), f"member {S4}, line 8: LOGRECNO '0000007' stands there twice"),
    "a line of no record": (of_no_record, f"member {S4}, line {LAST + 1}: LOGRECNO '9999999' has no record in the header"),
    "byte-order mark": (line(S4, 1, marked), f"member {S4}, line 1: begins with a byte-order mark"),
    "byte-order mark of a tract segment": (line(P12, 1, marked), f"member {P12}, line 1: begins with a byte-order mark"),
    "out of step": (line(S4, 6, replaced(b"0000006", b"0000007")), f"member {S4}, line 6: begins"),
    "tract line of no record": (line(P12, 3, replaced(b"0000003", b"0000002")), f"member {P12}, line 3: not the line of tract"),
    "other state": (
        lambda members: members | {S1: members[S1].replace(b",NM,", b",AZ,")},
        f"member {S1}, line 1: begins with 'SF1ST,AZ",
    ),
    "negative count": (line(S4, 5, cell(150, b"-3")), f"member {S4}, line 5: P0120006 of block 350130002001003 is '-3'"),
    "negative count where nobody lives": (line(S4, 7, cell(1, b"-1")), f"member {S4}, line 7: P0100001 of block"),
    "people where nobody lives": (
        line(S4, 7, cell(150, b"3")),
        f"member {S4}, line 7: P0120006 of block {EMPTY} is '3', but P0010001",
    ),
    "people where nobody lives either": (line(S4, 8, cell(150, b"3")), f"member {S4}, line 8: P0120006 of block"),
    "no number where nobody lives": (line(S4, 7, cell(150, b"x")), f"member {S4}, line 7: P0120006 of block {EMPTY} is 'x', not a"),
    "fraction": (line(S8, 5, cell(1, b"1.5")), f"member {S8}, line 5: P012F001 of block 350130002001003 is '1.5'"),
    "2^64": (line(S8, 5, cell(1, b"18446744073709551616")), f"member {S8}, line 5: P012F001 of block 350130002001003 is '18446"),
    "thirty digits in a tract": (line(P12B, 14, cell(209, b"1" * 30)), f"member {P12B}, line 14: PCT012B209 of tract"),
    "empty cell": (line(S8, 5, cell(196, b"")), f"member {S8}, line 5: P012I049 of block 350130002001003 is ''"),
    "word in a tract": (line(P12B, 14, cell(209, b"NA")), f"member {P12B}, line 14: PCT012B209 of tract"),
    "field missing": (line(S4, 5, field_dropped), f"member {S4}, line 5: 243 fields"),
    "field too many": (line(S1, 5, replaced(b"\n", b",0\n")), f"member {S1}, line 5: 7 fields instead of 6"),
    "other population": (line(S1, 5, cell(1, b"9")), f"member {S1}, line 5: P0010001 of block 350130002001003 is 9, "),
    "people in an empty tract": (line(P12, 14, cell(1, b"4")), "is 4, but the header's POP100 is 0"),
    "an empty member": (lambda members: members | {S4: b""}, f"member {S4}, line 1: missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_segment_is_named_with_its_line_and_leaves_no_file(tmp_path: Path, damage: str) -> None:
    change, expected = DAMAGES[damage]
    members = make_members(some_records())
    assert change(members) != members
    experiment, ledger = start(tmp_path, zip_bytes(change(members)))
    with pytest.raises(InputError) as caught:
        make_county_files(experiment, ledger, "nm")
    assert expected in str(caught.value)
    assert experiment.dist_zip("nm") in str(caught.value)
    assert county_files(experiment) == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_of_several_states_at_once_a_bad_one_leaves_no_file_and_the_others_have_theirs(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In turn in this process, and in two worker processes. The bad state's damage is in the last of its counties."""
    monkeypatch.setattr(state_steps, "workers_for", lambda _states: workers)
    experiment, ledger = make_experiment(tmp_path)
    good = {stusab: zip_bytes(make_members(some_records(), stusab)) for stusab in ("oh", "al")}
    members = make_members(some_records())
    bad = zip_bytes(line(P12B, 14, cell(209, b"NA"))(members))
    for stusab, content in {**good, "nm": bad}.items():
        put_zip(experiment, content, stusab)
    with pytest.raises(InputError, match="1 of 3 states failed, for the reasons given above: nm"):
        do_states([1, 2], experiment, ledger, ["all"], force=False)
    assert ledger.stusabs(experiment.reident) == ["al", "nm", "oh"]
    made = county_files(experiment)
    assert {name[:2] for name in made} == {"al", "oh"}
    for stusab, content in good.items():
        for (level, county), wanted in read_slowly(content, stusab).items():
            assert rows((experiment.block_csv if level == "block" else experiment.tract_csv)(stusab, county)) == wanted
    assert set(ledger.county_files(experiment.reident, "nm").values()) <= {None}
    assert sorted(capsys.readouterr().out.splitlines())[-1] == "oh: files of 2 counties written"
    do_states([1, 2], experiment, ledger, ["al", "oh"], force=False)
    assert sorted(capsys.readouterr().out.splitlines())[-1] == "oh: step 2 is done already"
    assert county_files(experiment) == made


def flip_a_stored_byte(content: bytes) -> bytes:
    """One digit of a cell changed where the zip keeps it, not where it keeps its checksum."""
    start = content.index(b"SF1ST,NM,000,04,0000009") + 30
    assert content[start : start + 1].isdigit()
    return content[:start] + bytes([content[start] ^ 1]) + content[start + 1 :]


def test_damage_that_only_the_checksum_shows_leaves_no_file(tmp_path: Path) -> None:
    content = zip_bytes(make_members(some_records()), zipfile.ZIP_STORED)
    experiment, ledger = start(tmp_path, content)
    put_zip(experiment, flip_a_stored_byte(content))
    with pytest.raises(InputError, match=f"member {S4} is damaged"):
        make_county_files(experiment, ledger, "nm")
    assert county_files(experiment) == {}


def test_deflated_data_that_are_damaged_are_named(tmp_path: Path) -> None:
    content = zip_bytes(make_members(some_records()))
    experiment, ledger = start(tmp_path, content)
    with zipfile.ZipFile(BytesIO(content)) as file:
        offset = file.getinfo(S4).header_offset + 100
    put_zip(experiment, content[:offset] + b"\xff" * 40 + content[offset + 40 :])
    with pytest.raises(InputError, match=f"member {S4} is damaged"):
        make_county_files(experiment, ledger, "nm")
    assert county_files(experiment) == {}


def test_a_bad_zip_does_not_cost_the_files_of_an_earlier_run(tmp_path: Path) -> None:
    members = make_members(some_records())
    experiment, ledger = start(tmp_path, zip_bytes(members))
    make_county_files(experiment, ledger, "nm")
    before = county_files(experiment)
    Path(experiment.block_csv("nm", "001")).unlink()
    put_zip(experiment, zip_bytes(line_of(members, S4, 19, cell(1, b"-1"))))
    with pytest.raises(InputError):
        make_county_files(experiment, ledger, "nm")
    assert county_files(experiment) == {name: text for name, text in before.items() if "block_35001" not in name}


def test_a_zip_of_other_counties_than_step_1_has_read_is_refused(tmp_path: Path) -> None:
    experiment, ledger = start(tmp_path, zip_bytes(make_members(some_records())))
    put_zip(experiment, zip_bytes(make_members(some_records(["013", "003"]))))
    with pytest.raises(InputError, match=r"is not the zip that step 1 has read.*--step1 --step2 --stusab nm"):
        make_county_files(experiment, ledger, "nm")


def test_a_header_of_other_counties_than_the_ledger_has_is_refused(tmp_path: Path) -> None:
    """Where the zip that step 1 has read is not known: its geography came from a geofile that was copied."""
    content = zip_bytes(make_members(some_records(["013", "003"])))
    experiment, _ = start(tmp_path / "other", content)
    copied, ledger = make_experiment(tmp_path / "copied")
    put_zip(copied, zip_bytes(make_members(some_records())))
    shutil.copytree(Path(experiment.base) / "work", Path(copied.base) / "work")
    with state_held(copied, ledger, "nm") as claim:
        enter_geofile(copied, ledger, claim, None)
    with pytest.raises(InputError, match=r"county 001 is not in this zip|county 001 is in this zip"):
        make_county_files(copied, ledger, "nm")


def test_step_2_before_step_1_says_so(tmp_path: Path) -> None:
    experiment, ledger = make_experiment(tmp_path)
    put_zip(experiment, zip_bytes(make_members(some_records())))
    with pytest.raises(InputError, match="step 1 has not been done"):
        make_county_files(experiment, ledger, "nm")


# -- twice, and interrupted ---------------------------------------------------------------------------------------------


def test_twice_writes_nothing_and_needs_no_zip(tmp_path: Path) -> None:
    experiment, ledger = start(tmp_path, zip_bytes(make_members(some_records())))
    make_county_files(experiment, ledger, "nm")
    before = {path: path.stat().st_mtime_ns for path in Path(experiment.base).glob("work/*/*/*")}
    Path(experiment.dist_zip("nm")).unlink()
    assert make_county_files(experiment, ledger, "nm") == 0
    assert step2(experiment, ledger, "nm") == "nm: step 2 is done already"
    assert {path: path.stat().st_mtime_ns for path in Path(experiment.base).glob("work/*/*/*")} == before


def test_force_makes_the_files_again(tmp_path: Path) -> None:
    experiment, ledger = start(tmp_path, zip_bytes(make_members(some_records())))
    make_county_files(experiment, ledger, "nm")
    before = county_files(experiment)
    Path(experiment.block_csv("nm", "013")).write_text("spoilt")
    assert make_county_files(experiment, ledger, "nm", force=True) == 2
    assert county_files(experiment) == before


def test_what_is_told_are_the_counties_whose_files_were_made(tmp_path: Path) -> None:
    experiment, ledger = start(tmp_path, zip_bytes(make_members(some_records())))
    assert step2(experiment, ledger, "nm") == "nm: files of 2 counties written"
    Path(experiment.block_csv("nm", "013")).unlink()
    assert step2(experiment, ledger, "nm") == "nm: files of 1 county written, of 2 in all"


def test_a_run_that_could_not_write_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    experiment, ledger = start(tmp_path, zip_bytes(make_members(some_records())))
    in_the_way = Path(experiment.county_dir("nm", "001"))
    in_the_way.write_text("a file where a folder belongs")
    with pytest.raises(StorageError, match="35001"):
        make_county_files(experiment, ledger, "nm")
    assert county_files(experiment) == {}
    in_the_way.unlink()
    assert make_county_files(experiment, ledger, "nm") == 2
    assert len(county_files(experiment)) == 4


def test_ctrl_c_leaves_whole_files_only_and_the_next_run_completes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = zip_bytes(make_members(some_records()))
    experiment, ledger = start(tmp_path, content)
    real = StateReader.counties

    def interrupted(self: StateReader, *args: object) -> object:
        parts: list[CountyRows] = list(real(self, *args))  # type: ignore[arg-type]
        yield from parts[:3]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StateReader, "counties", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_county_files(experiment, ledger, "nm")
    assert len(county_files(experiment)) == 2
    assert make_county_files(experiment, ledger, "nm") == 1
    assert_same_as_slow_reading(experiment, content, "nm")


def test_a_killed_process_leaves_whole_files_only_and_the_next_run_completes_them(tmp_path: Path) -> None:
    content = zip_bytes(make_members(some_records([f"{number:03d}" for number in range(1, 120, 2)])))
    experiment, ledger = start(tmp_path / "undisturbed", content)
    make_county_files(experiment, ledger, "nm")
    expected = county_files(experiment)

    experiment, ledger = start(tmp_path / "killed", content)
    command = [sys.executable, str(CHECKOUT / "s2_pandas_build_csv.py"), "nm"]
    process = subprocess.Popen(command, env=os.environ | environment(tmp_path / "killed"), stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not list(Path(experiment.base).glob("work/nm/*/sf1_*")):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait()
    found = {name: text for name, text in county_files(experiment).items() if name.endswith(".csv")}
    assert found
    assert found.items() <= expected.items()
    make_county_files(experiment, ledger, "nm")
    found = {name: text for name, text in county_files(experiment).items() if name.endswith(".csv")}
    assert found == expected
