"""A zip is read as people's tools repack it; what it says of itself is not believed; what it is instead is said."""

import gzip
import io
import random
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dbrecon.errors import InputError
from dbrecon.recon.product.archive import MAX_LINE, MAX_MEMBERS, Archive
from dbrecon.recon.product.release import StateZip, load_release
from dbrecon.remedies import explain, sentence
from dbrecon.steps.county_files import make_county_files
from dbrecon.steps.geography_files import make_geo_files
from tests.paths import CHECKOUT, SHARED
from tests.tiny_sf1 import make_experiment, make_members, put_zip, some_records, zip_bytes

MEMBERS = make_members(some_records())
CASES = SHARED / "cases"


def archive_of(content: bytes) -> Archive:
    return Archive(io.BytesIO(content), "the.zip")


def county_files(root: Path, content: bytes, stusab: str = "nm") -> dict[str, bytes]:
    """Steps 1 and 2 of a state's zip: every file that they make, by its path below the experiment."""
    experiment, ledger = make_experiment(root)
    put_zip(experiment, content, stusab)
    make_geo_files(experiment, ledger, stusab)
    make_county_files(experiment, ledger, stusab)
    work = Path(experiment.base) / "work"
    return {str(path.relative_to(work)): path.read_bytes() for path in work.rglob("*.csv")}


def in_a_folder(members: dict[str, bytes]) -> dict[str, bytes]:
    return {"nm2010.sf1/": b"", **{f"nm2010.sf1/{name}": text for name, text in members.items()}}


def by_windows(members: dict[str, bytes]) -> dict[str, bytes]:
    return {f"nm2010.sf1\\{name}": text for name, text in members.items()}


def by_a_mac(members: dict[str, bytes]) -> dict[str, bytes]:
    return {**in_a_folder(members), **{f"__MACOSX/nm2010.sf1/._{name}": b"\0\5" for name in members}}


def in_capitals(members: dict[str, bytes]) -> dict[str, bytes]:
    return {name.upper(): text for name, text in members.items()}


def each_text(change: Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda members: {name: change(text) for name, text in members.items()}


REPACKED = {
    "folder": in_a_folder, "windows": by_windows, "mac": by_a_mac, "capitals": in_capitals,
    "empty last line": each_text(lambda text: text + b"\n"), "empty last lines": each_text(lambda text: text + b"\n \n\n"),
    "Ctrl-Z": each_text(lambda text: text + b"\x1a"), "Ctrl-Z in a line of its own": each_text(lambda text: text + b"\x1a\n"),
    "no last line end": each_text(lambda text: text.removesuffix(b"\n")),
    "DOS": each_text(lambda text: text.replace(b"\n", b"\r\n") + b"\r\n\x1a"),
}  # fmt: skip


@pytest.mark.parametrize("how", REPACKED)
def test_a_repacked_zip_gives_the_same_files(tmp_path: Path, how: str) -> None:
    expected = county_files(tmp_path / "plain", zip_bytes(MEMBERS))
    assert len(expected) == 5
    assert county_files(tmp_path / "other", zip_bytes(REPACKED[how](MEMBERS))) == expected


@pytest.mark.parametrize(
    "case", ["zip_folder/nd2010.sf1.zip", "header_blank_last_line/nd2010.sf1.zip", "header_blank_last_line/ctrlz.zip"]
)
def test_repacked_zips_that_met_people_are_read(tmp_path: Path, case: str) -> None:
    plain = SHARED / "data" / "real_tracts" / "nd2010.sf1.zip"
    if not plain.exists() or not (CASES / case).exists():
        pytest.skip("the shared cases are not here")
    expected = county_files(tmp_path / "plain", plain.read_bytes(), "nd")
    assert county_files(tmp_path / "other", (CASES / case).read_bytes(), "nd") == expected


def test_an_empty_line_within_a_member_is_refused_by_its_number(tmp_path: Path) -> None:
    header = MEMBERS["nmgeo2010.sf1"].split(b"\n")
    header.insert(3, b"")
    with pytest.raises(InputError, match=r"member nmgeo2010.sf1, line 4: 0 bytes long instead of 500"):
        county_files(tmp_path, zip_bytes({**MEMBERS, "nmgeo2010.sf1": b"\n".join(header)}))


OTHERS = {
    "another state": (
        {name.replace("nm", "de", 1): text for name, text in MEMBERS.items()},
        r"holds degeo2010.sf1: it is the zip of DE, not of NM; rename it to de2010.sf1.zip, and get NM's \(step 0\)",
    ),
    "Urban/Rural Update": (
        {name.replace(".sf1", ".ur1"): text for name, text in MEMBERS.items()},
        r"holds nmgeo2010.ur1: it is of the Urban/Rural Update, not of the 2010 Census Summary File 1; get nm2010",
    ),
    "a zip in a zip": ({"nm2010.sf1.zip": b"PK"}, "members nmgeo2010.sf1.* are missing; it holds another zip, nm2010.sf1.zip"),
    "a zip of other files": ({"a": b"", "b": b"", "c": b"", "d": b""}, r"members .* are missing; it holds a, b, c, \.\.\.: get"),
    "an empty zip": ({}, "members .* are missing; it holds nothing: get a complete zip"),
    "a member twice": ({**MEMBERS, "old/nmgeo2010.sf1": b""}, "has member nmgeo2010.sf1 2 times .nmgeo2010.sf1 and old/nmgeo2010"),
    "a member less": ({"nmgeo2010.sf1": MEMBERS["nmgeo2010.sf1"]}, r"members nm000012010.sf1, .* are missing; get a complete zip"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_another_zip_under_this_name_is_named_for_what_it_is(what: str) -> None:
    members, expected = OTHERS[what]
    release = load_release()
    archive = StateZip(io.BytesIO(zip_bytes(members)), release, "nm", "the.zip")
    wanted = [release.header_member("nm"), release.segment_member("nm", 1), release.segment_member("nm", 2)]
    with pytest.raises(InputError, match=f"the.zip: {expected}"):
        archive.require(wanted)


def test_an_endless_line_is_refused_in_no_time_and_memory(tmp_path: Path) -> None:
    endless = zip_bytes({"m": b"0" * (60 << 20)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        InputError, match=f"member m, line 1: longer than {MAX_LINE:,} bytes, and so no line of a table; get the zip"
    ):
        list(archive_of(endless).lines("m"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 << 10


@pytest.mark.parametrize(("text", "line"), [(b"a\n" + b"b" * (MAX_LINE * 2), 2), (b"a\nb\n" + b"c" * (MAX_LINE * 2) + b"\nd\n", 3)])
def test_the_line_that_is_too_long_is_told_by_its_number(text: bytes, line: int) -> None:
    with pytest.raises(InputError, match=f"member m, line {line}: longer than"):
        list(archive_of(zip_bytes({"m": text})).lines("m"))


def test_lines_are_those_that_a_plain_reader_gives() -> None:
    text = b"".join(b"%d,%s\n" % (n, b"x" * (n % 700)) for n in range(3000))
    assert list(archive_of(zip_bytes({"m": text})).lines("m")) == text.splitlines()


def test_endless_empty_lines_are_refused() -> None:
    with pytest.raises(InputError, match="member m, line 262145: more than 1,000 empty lines"):
        list(archive_of(zip_bytes({"m": b"\n" * (1 << 22)})).lines("m"))


def test_a_member_that_unpacks_to_far_more_is_refused_before_it_is_unpacked() -> None:
    bomb = archive_of(zip_bytes({"m": b"0\n" * (40 << 20)}))
    with pytest.raises(InputError, match=r"member m would unpack from 81,\d\d\d to 83,886,080 bytes, and so holds no tables"):
        bomb.verify(["m"])


def test_a_member_larger_than_the_directory_says_is_damaged() -> None:
    content = zip_bytes({"m": b"12345678"})
    size = (8).to_bytes(4, "little")
    at = content.rindex(b"PK\1\2") + 24
    assert content[at : at + 4] == size
    shorter = content[:at] + (5).to_bytes(4, "little") + content[at + 4 :]
    with pytest.raises(InputError, match=r"member m is damaged .more than the 5 bytes that the zip's directory tells"):
        list(archive_of(shorter).pieces("m"))


def test_a_directory_of_countless_members_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(MAX_MEMBERS + 1):
            file.writestr(f"{number}", b"")
    with pytest.raises(InputError, match="has 10,001 members, and no state's zip more than 10,000"):
        archive_of(buffer.getvalue())


def test_names_in_a_zip_command_no_terminal() -> None:
    with pytest.raises(InputError) as caught:
        archive_of(zip_bytes({"a\x1b[2J\x9bm.txt": b""})).require(["m"])
    for said in (sentence(caught.value), explain(caught.value)):
        assert r"it holds a\x1b[2J\x9bm.txt: get" in said


def test_a_directory_with_wrong_bytes_is_refused_in_a_sentence_or_read() -> None:
    """Empty names and negative offsets among them."""
    whole = zip_bytes({name: text[:600] for name, text in MEMBERS.items()})
    begin, chance = whole.index(b"PK\1\2"), random.Random(1)
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[chance.randrange(begin, len(whole))] = chance.choice([0, 1, 127, 128, 255])
        try:
            refused += len(archive_of(bytes(damaged)).faults()) > 0
        except InputError:
            refused += 1
    assert 50 < refused < 450


@pytest.mark.slow
def test_info_on_a_gzip_bomb_is_a_sentence(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(1 << 20)) * 1000  # 1 MB that unpacks to 1 GiB
    unpacks = "unpacks to more than 300 times its size, and so is no file of an experiment; name another"
    for name, expected in {
        "model_39059977100.lp.gz": unpacks, "model_39059977100.sol.gz": unpacks, "sf1_block_39059.csv.gz": unpacks,
        "synth_out_39059.csv.gz": "not a CSV file of people (it holds a NUL",
    }.items():  # fmt: skip
        path = tmp_path / name
        path.write_bytes(packed)
        command = f"ulimit -v 1000000; exec {sys.executable} {CHECKOUT}/dbrtool.py --info {path}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300, check=False)
        assert done.stderr.count("\n") == 1, done.stderr
        assert str(path) in done.stderr
        assert expected in done.stderr
        assert done.returncode == 3


@pytest.mark.slow
def test_a_file_larger_than_memory_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model_39059977100.lp"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    command = f"ulimit -v 1000000; exec {sys.executable} {CHECKOUT}/dbrtool.py --info {path}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr.count("\n") == 1
    assert f"{path} does not fit into the memory that this process may take; raise its limit (ulimit -v)" in done.stderr
    assert done.returncode == 4
