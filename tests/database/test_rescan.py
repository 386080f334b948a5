"""--rescan, --ls and --info: the files of an experiment against its ledger, and which side is put right."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from dbrecon.console import file_info as files
from dbrecon.console import rescan, scan
from dbrecon.console.parser import Arguments
from dbrecon.ctools import storage
from dbrecon.ctools.database import make_engine
from dbrecon.errors import InputError, StorageError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.reconcile import Change
from dbrecon.ledger.records import CountyDigests, Worker
from dbrecon.node.daemon import run_here
from dbrecon.place import Place
from dbrecon.recon.artifacts import check_solution
from dbrecon.recon.census.kinds import join_kind, split_kind
from dbrecon.recon.tract.lp_text import format_lp
from dbrecon.recon.tract.verify import tabulate
from dbrecon.settings import Config
from dbrecon.steps.county_files import make_county_files
from dbrecon.steps.geography_files import make_geo_files
from dbrecon.steps.lp_files import read_county
from dbrecon.steps.methods import binning_of, builder_of
from dbrecon.steps.origin import Origin
from dbrecon.steps.solutions import solve_file
from tests.paths import CHECKOUT

STUSAB, PEOPLE = "de", 8000


@dataclass
class Made:
    """A finished experiment, r1, of a small state."""

    root: Path

    @property
    def config(self) -> Config:
        return Config.load(env={"DAS_S3ROOT": str(self.root)}, hostname="here")

    @property
    def experiment(self) -> Experiment:
        return Experiment.make("r1", self.config)

    def ledger(self) -> Ledger:
        return Ledger(make_engine(**self.config.database()))

    def tasks(self) -> list[scan.Task]:
        return list(rescan.tasks_of(self.experiment, self.ledger(), Place()))

    def put_right(self, dry_run: bool = False) -> tuple[list[Change], list[scan.Report]]:
        """What --rescan does, in this process."""
        changes, reports = [], []
        for task in self.tasks():
            before = self.ledger().snapshot("r1", task.stusab, task.county)
            answers: list[scan.Report | StorageError] = []
            scan.serve(replace(task, lp_digests=before.lp_digests()), answers.append)
            (report,) = answers
            assert isinstance(report, scan.Report)
            changes += self.ledger().put_right("r1", report.found, before, dry_run)
            reports.append(report)
        return changes, reports


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of an experiment that is done."""
    root = tmp_path_factory.mktemp("original")
    dist = root / "2010-re" / "r1" / "dist"
    options = ["-q", "--stusab", STUSAB, "--people", str(PEOPLE), "--counties", "1", "--seed", "8", "--out", str(dist)]
    subprocess.run([sys.executable, "bench/make_state.py", *options], cwd=CHECKOUT, check=True, capture_output=True, timeout=120)
    made = Made(root)
    ledger = made.ledger()
    ledger.register("r1", "all", "2010_sf1")
    make_geo_files(made.experiment, ledger, STUSAB)
    make_county_files(made.experiment, ledger, STUSAB)
    assert run_here(ledger, made.config, "r1", Place(), frozenset({3, 4, 5})) == 0
    return root


@pytest.fixture
def made(original: Path, tmp_path: Path) -> Made:
    """A copy of it, to damage."""
    shutil.copytree(original, tmp_path / "root")
    return Made(tmp_path / "root")


@dataclass
class Files:
    """The county's first tract with people, and its files."""

    county: str
    tract: str
    other: str
    lp: Path
    sol: Path
    people: Path
    blocks: Path
    tracts: Path


def files_of(made: Made) -> Files:
    (task,) = made.tasks()
    tract, other = task.tracts[0][0], task.tracts[1][0]
    experiment, place = made.experiment, (STUSAB, task.county)
    paths = (experiment.lp(*place, tract), experiment.sol(*place, tract), experiment.synth_out(*place))
    tables = (experiment.block_csv(*place), experiment.tract_csv(*place))
    return Files(task.county, tract, other, *(Path(path) for path in (*paths, *tables)))


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Changes what a file holds; a packed one stays whole gzip."""
    packed = path.suffix == ".gz"
    content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    changed = change(content)
    assert changed != content
    path.write_bytes(gzip.compress(changed, 1) if packed else changed)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_sex(text: bytes) -> bytes:
    """A solution in which somebody is of the other sex: as many people, but not those of the tables."""
    return re.sub(rb"(?m)^M(\d{4}_\d{3}r\d\d[HN] \d+)$", rb"F\1", text, count=1)


def one_fewer(text: bytes) -> bytes:
    return re.sub(rb"(?m)^(.{13}) 1\n", b"", text, count=1)


BACK_TO_LP, BACK_TO_NEW, REOPENED = ("solved", "lp"), ("solved", "new"), ("written", "open")
DAMAGES: dict[str, tuple[Callable[[Files], None], list[tuple[str, str]]]] = {
    "nothing": (lambda target: None, []),
    "no LP file": (lambda target: target.lp.unlink(), [BACK_TO_NEW, REOPENED]),
    "LP file cut off": (lambda target: cut(target.lp), [BACK_TO_NEW, REOPENED]),
    "LP file without End": (lambda target: edit(target.lp, lambda text: text.removesuffix(b"End\n")), [BACK_TO_NEW, REOPENED]),
    "LP file that lacks a constraint": (
        lambda target: edit(target.lp, lambda text: re.sub(rb"(?m)^ P\w+: [^=\n]*= \d+\n", b"", text, count=1)),
        [BACK_TO_NEW, REOPENED],
    ),
    "LP file of another tract": (
        lambda target: edit(target.lp, lambda text: text.replace(target.tract.encode(), target.other.encode(), 1)),
        [BACK_TO_NEW, REOPENED],
    ),
    "LP file in which a published count was changed": (
        lambda target: edit(target.lp, lambda text: re.sub(rb"(?m)^( P\w+: .* = )\d+$", rb"\g<1>4711", text, count=1)),
        [BACK_TO_NEW, REOPENED],
    ),
    "no solution": (lambda target: target.sol.unlink(), [BACK_TO_LP, REOPENED]),
    "solution cut off": (lambda target: cut(target.sol), [BACK_TO_LP, REOPENED]),
    "empty solution": (lambda target: os.truncate(target.sol, 0), [BACK_TO_LP, REOPENED]),
    "solution with somebody missing": (lambda target: edit(target.sol, one_fewer), [BACK_TO_LP, REOPENED]),
    "solution that a cell contradicts": (lambda target: edit(target.sol, other_sex), [BACK_TO_LP, REOPENED]),
    "solution of another tract": (
        lambda target: edit(target.sol, lambda text: text.replace(target.tract.encode(), target.other.encode(), 1)),
        [BACK_TO_LP, REOPENED],
    ),
    "no people": (lambda target: target.people.unlink(), [REOPENED]),
    "people cut off": (lambda target: cut(target.people), [REOPENED]),
    "somebody too many": (lambda target: edit(target.people, lambda text: text + text.splitlines(keepends=True)[-1]), [REOPENED]),
    "somebody of the other sex": (
        lambda target: edit(target.people, lambda text: text.replace(b",male,", b",female,", 1)),
        [REOPENED],
    ),
    "people of other columns": (lambda target: edit(target.people, lambda text: text.replace(b"hisp", b"hispanic", 1)), [REOPENED]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_work_of_a_file_that_is_not_there_or_not_right_is_done_again(made: Made, damage: str) -> None:
    do, expected = DAMAGES[damage]
    target = files_of(made)
    do(target)
    changes, _ = made.put_right()
    assert [(change.was, change.becomes) for change in changes] == expected
    assert {change.tract for change in changes} <= {target.tract, ""}
    status = made.ledger().status("r1")
    tracts = len(made.tasks()[0].tracts)
    assert status.sol_created == tracts - (BACK_TO_LP in expected or BACK_TO_NEW in expected)
    assert made.put_right()[0] == [], "a second rescan finds nothing more to change"


def test_a_dry_run_tells_the_same_and_changes_nothing(made: Made) -> None:
    files_of(made).sol.unlink()
    changes, _ = made.put_right(dry_run=True)
    assert [(change.was, change.becomes) for change in changes] == [BACK_TO_LP, REOPENED]
    assert made.put_right(dry_run=True)[0] == changes


def test_files_that_the_ledger_does_not_know_of_are_checked_and_entered(made: Made) -> None:
    target = files_of(made)
    made.ledger().reset("r1", 3)
    edit(target.sol, other_sex)
    changes, _ = made.put_right()
    assert {(change.was, change.becomes) for change in changes if change.tract != target.tract} == {("new", "solved")}
    assert [change.becomes for change in changes if change.tract == target.tract] == ["lp"]
    (state,) = [state for state in made.ledger().tract_states("r1", STUSAB) if state.tract == target.other]
    assert (state.status, state.lp_host, state.sol_host) == ("solved", "rescan", "rescan")
    assert state.variables
    assert (state.solver or "").startswith("HiGHS")
    assert state.sol_end == int(Path(made.experiment.sol(STUSAB, target.county, target.other)).stat().st_mtime)


def test_a_quarantined_tract_stays_so_unless_its_solution_is_there(made: Made) -> None:
    target, ledger = files_of(made), made.ledger()
    ledger.reset("r1", 3)
    for claim in ledger.claim("r1", Worker.here(), limit=10, place=Place(STUSAB, target.county, (target.tract, target.other))):
        assert ledger.failed(claim, "a test", 1)
    target.sol.unlink()
    made.put_right()
    found = {state.tract: state.status for state in ledger.tract_states("r1", STUSAB)}
    assert (found[target.tract], found[target.other]) == ("quarantined", "solved")


def test_an_lp_file_that_was_changed_is_named_and_not_adopted_from_quarantine(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    target, ledger = files_of(made), made.ledger()
    edit(target.lp, lambda text: re.sub(rb"(?m)^( P\w+: .* = )\d+$", rb"\g<1>4711", text, count=1))
    assert rescan.rescan(arguments(dry_run=True), made.config) == InputError.exit_code
    said = capsys.readouterr().out
    assert f"solved -> new: {target.lp}: is not the LP file as the ledger has it" in said
    assert "people: written -> open: 1 tract of it is to be done again" in said
    assert rescan.rescan(arguments(), made.config) == 0
    assert rescan.rescan(arguments(dry_run=True), made.config) == InputError.exit_code
    again = capsys.readouterr().out.partition("r1: ")[2].partition("r1: ")[2]
    assert f"{target.lp}: is not the LP file as the ledger has it" in again, "until it is made again"
    assert "agree" not in again
    assert run_here(made.ledger(), made.config, "r1", Place(), frozenset({3, 4, 5})) == 0
    assert rescan.rescan(arguments(), made.config) == 0
    assert "the ledger and the files agree" in capsys.readouterr().out
    edit(target.lp, lambda text: re.sub(rb"(?m)^( P\w+: .* = )\d+$", rb"\g<1>4711", text, count=1))
    ledger.reset("r1", 4, Place(STUSAB, target.county, (target.tract,)))
    (claim,) = ledger.claim("r1", Worker.here(), limit=1, place=Place(STUSAB, target.county, (target.tract,)))
    assert ledger.failed(claim, "a test", 1)
    made.put_right()
    assert {state.tract: state.status for state in ledger.tract_states("r1", STUSAB)}[target.tract] == "quarantined"


def forget(made: Made, what: str) -> None:
    """The ledger has accepted no LP file: it is gone, with the zip or without, or step 3 is to be done anew."""
    if what == "--step3 --force":
        made.ledger().reset("r1", 3)
        return
    for path in (made.root / "2010-re").glob("dbrecon.sqlite3*"):
        path.unlink()
    if what == "a copy without its zip":
        Path(made.experiment.dist_zip(STUSAB)).unlink()


FORGOTTEN = ["--step3 --force", "a copy", "a copy without its zip"]
EDITS: dict[str, Callable[[bytes], bytes]] = {
    "count": lambda text: re.sub(rb"(?m)^( P\w+_\d{4}: .* = )\d+$", rb"\g<1>4711", text, count=1),
    "variable": lambda text: re.sub(rb"(?m)^( P\w+_\d{4}: [^=\n]*) \+ \w+", rb"\1", text, count=1),
    "count, and no word of its tables": lambda text: re.sub(
        rb"(?m)^( P\w+_\d{4}: .* = )\d+$", rb"\g<1>4711", re.sub(rb"\\ tables_sha256.*\n", b"", text), count=1
    ),
}


@pytest.mark.parametrize("what", FORGOTTEN)
@pytest.mark.parametrize("edited", EDITS)
def test_an_lp_file_that_no_digest_vouches_for_is_compared_with_the_tables(
    made: Made, what: str, edited: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = files_of(made)
    forget(made, what)
    edit(target.lp, EDITS[edited])
    for _ in range(2):
        assert rescan.rescan(arguments(), made.config) == 0
        said = capsys.readouterr().out
        assert re.search(
            rf"{target.lp}: (is not the program of the tables as they are now: P\w+ is 4711 there, and|was changed)", said
        )
        assert "agree" not in said
    found = {state.tract: state.status for state in made.ledger().tract_states("r1", STUSAB) if state.pop}
    assert (found.pop(target.tract), set(found.values())) == ("new", {"solved"})


def forge(made: Made, target: Files) -> None:
    """The county's files, an LP file and a solution in which everybody of a tract is of the other sex: they agree."""
    builder, place = builder_of(made.experiment), (STUSAB, target.county)
    geoid = f"10{target.county}{target.tract}"
    tables = read_county(made.experiment, builder.product, *place, CountyDigests(None, "", ""))
    _, people = check_solution(
        gzip.decompress(target.sol.read_bytes()),
        str(target.sol),
        geoid,
        tables.tract(target.tract).population,
        tables,
        binning_of(made.experiment),
    )
    assert people is not None
    sex, age, race, hisp = split_kind(people.kind)
    blocks = np.unique(people.geoid_block)
    cells = tabulate(
        builder.product, len(blocks), np.searchsorted(blocks, people.geoid_block), join_kind(1 - sex, age, race, hisp), people.count
    )
    rows = [(target.blocks, str(block), row) for block, row in zip(blocks, cells[0], strict=True)] + [
        (target.tracts, geoid, cells[1])
    ]
    for path, unit, row in rows:
        forged = ",".join(map(str, row)).encode()
        path.write_bytes(re.sub(rb"(?m)^(%s,\d+),.*$" % unit.encode(), rb"\1," + forged, path.read_bytes()))
    tables = read_county(made.experiment, builder.product, *place, CountyDigests(None, "", ""))
    of_tract = tables.tract(target.tract)
    notes = Origin(tables.digest(target.tract)).lp_notes()
    text = format_lp(builder.build(of_tract), of_tract.population, builder.product.name, "all", notes)
    target.lp.write_bytes(gzip.compress(text))
    target.sol.unlink()
    solve_file(made.config, str(target.lp), str(target.sol))


@pytest.mark.parametrize("what", ["nothing", *FORGOTTEN[:2]])
def test_files_that_were_changed_so_that_they_agree_are_seen(made: Made, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As long as the county files' digests, or the zip, are there."""
    target = files_of(made)
    if what != "nothing":
        forget(made, what)
    forge(made, target)
    assert rescan.rescan(arguments(dry_run=what != "a copy"), made.config) == InputError.exit_code
    said = capsys.readouterr().out
    wrong = "the county file as the ledger has it" if what != "a copy" else "what the zip gives that lies in dist/ now"
    assert f"{target.blocks}: is not {wrong}" in said
    again = "--step2" if what == "a copy" else "--step2 --force"
    assert f"make it again ({again} --stusab {STUSAB})" in said
    assert "agree" not in said
    found = {state.tract: state.status for state in made.ledger().tract_states("r1", STUSAB)}
    assert found[target.tract] == ("solved" if what == "nothing" else "new")


def test_a_copy_without_its_zip_says_what_cannot_be_known_and_the_zip_settles_it(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files were changed so that they agree."""
    target, zip_file = files_of(made), Path(made.experiment.dist_zip(STUSAB))
    right = target.blocks.read_bytes()
    shutil.copy(zip_file, tmp_path)
    forget(made, "a copy without its zip")
    forge(made, target)
    for _ in range(2):
        assert rescan.rescan(arguments(), made.config) == 0
        said = capsys.readouterr().out
        assert f"{STUSAB}: there is no zip in dist/, nor was one ever read here: its county files are taken as they are." in said
        assert "whether the files are what was published cannot be known without the zip" in said
    assert {state.status for state in made.ledger().tract_states("r1", STUSAB) if state.pop} == {"solved"}
    shutil.copy(tmp_path / zip_file.name, zip_file)
    assert rescan.rescan(arguments(dry_run=True), made.config) == InputError.exit_code
    wrong = f"{target.blocks}: is not what the zip gives that lies in dist/ now; make it again (--step2 --stusab {STUSAB})"
    assert wrong in capsys.readouterr().out
    assert make_county_files(made.experiment, made.ledger(), STUSAB) == 1
    assert target.blocks.read_bytes() == right
    assert rescan.rescan(arguments(), made.config) == 0
    found = {state.tract: state.status for state in made.ledger().tract_states("r1", STUSAB) if state.pop}
    assert found[target.tract] == "new", "its solution is of other tables"


def test_a_zip_that_comes_later_vouches_for_the_files_of_a_copy(made: Made, tmp_path: Path) -> None:
    zip_file = Path(made.experiment.dist_zip(STUSAB))
    shutil.copy(zip_file, tmp_path)
    forget(made, "a copy without its zip")
    assert rescan.rescan(arguments(), made.config) == 0
    shutil.copy(tmp_path / zip_file.name, zip_file)
    assert rescan.rescan(arguments(), made.config) == 0
    zips = {files.zip for files in made.ledger().county_files("r1", STUSAB).values() if files}
    assert zips == {made.ledger().state_digests("r1", STUSAB).zip} != {None}
    assert make_county_files(made.experiment, made.ledger(), STUSAB) == 0, "they stand"


def test_a_geofile_that_was_changed_is_named_and_made_again(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(made.experiment.geofile(STUSAB))
    right = path.read_bytes()
    edit(path, lambda text: text.replace(b"County", b"Borough", 1))
    assert make_geo_files(made.experiment, made.ledger(), STUSAB)
    assert path.read_bytes() == right
    edit(path, lambda text: text.replace(b"County", b"Borough", 1))
    assert rescan.rescan(arguments(), made.config) == InputError.exit_code
    assert f"{path} is not the geofile that step 1 has entered: it was changed; make it again (--step1" in capsys.readouterr().out
    make_geo_files(made.experiment, made.ledger(), STUSAB)
    assert rescan.rescan(arguments(), made.config) == 0


def test_damaged_county_files_are_named_and_what_was_solved_stays(made: Made) -> None:
    target = files_of(made)
    cut(target.blocks)
    changes, (report,) = made.put_right()
    assert report.tables_lack
    assert [path for path, _ in report.faults] == [str(target.blocks)]
    assert [change for change in changes if change.tract] == []


def test_without_county_files_no_solution_is_taken_on_trust(made: Made) -> None:
    target = files_of(made)
    made.ledger().reset("r1", 3)
    target.tracts.unlink()
    changes, (report,) = made.put_right()
    assert report.tables_lack
    assert changes == []
    assert {state.status for state in made.ledger().tract_states("r1", STUSAB)} == {"new", "empty"}


def test_a_file_of_no_tract_is_told_and_left_alone(made: Made) -> None:
    stranger = files_of(made).lp.parent / "notes.txt"
    stranger.write_text("mine")
    _, (report,) = made.put_right()
    assert report.foreign == (str(stranger),)
    assert stranger.exists()


# -- files that this user may not read -----------------------------------------------------------------------------------

WRITE_ONLY = Path("/proc/sys/vm/compact_memory")  # nobody may read it, the system's administrator neither


def deny(path: Path) -> None:
    path.unlink()
    path.symlink_to(WRITE_ONLY)
    if not WRITE_ONLY.exists():
        pytest.skip("needs a file that nobody may read")


@pytest.mark.parametrize("what", ["lp", "sol", "people", "blocks"])
def test_a_file_that_may_not_be_read_is_named_and_the_ledger_left_as_it_is(
    made: Made, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    target, before = files_of(made), made.ledger().tract_states("r1", STUSAB)
    deny(getattr(target, what))
    assert rescan.rescan(arguments(), made.config) == StorageError.exit_code
    said = capsys.readouterr().out
    assert "not verified, and the ledger left as it is, for want of the right to read: 1\n" in said
    assert f"Cannot read {getattr(target, what)} (Permission denied)" in said
    assert "the ledger and the files agree" not in said
    assert made.ledger().tract_states("r1", STUSAB) == before
    assert made.ledger().status("r1").csv_remaining == 0


def test_what_else_is_wrong_is_put_right_though_a_file_may_not_be_read(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    target = files_of(made)
    deny(target.sol)
    deny(Path(made.experiment.geofile(STUSAB)))
    Path(made.experiment.sol(STUSAB, target.county, target.other)).unlink()
    assert rescan.rescan(arguments(), made.config) == StorageError.exit_code
    assert "right to read: 2\n" in capsys.readouterr().out
    found = {state.tract: state.status for state in made.ledger().tract_states("r1", STUSAB)}
    assert (found[target.tract], found[target.other]) == ("solved", "lp")
    assert made.ledger().status("r1").csv_completed == 0


# -- the command --------------------------------------------------------------------------------------------------------


def arguments(**given: object) -> Arguments:
    names = dict.fromkeys(("stusab", "county", "tract", "info", "clear_uploads", "product"))
    return Arguments(**(names | {"reident": "r1", "dry_run": False, "verbose": False} | given))


def test_a_copy_under_another_database_is_entered_as_a_whole(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for name in os.listdir(made.root / "2010-re"):
        if name.startswith("dbrecon.sqlite3"):
            os.unlink(made.root / "2010-re" / name)
    assert rescan.rescan(arguments(), made.config) == 0
    said = capsys.readouterr().out
    assert "entered in the ledger: 2" in said
    assert "new -> solved: its LP file and checked solution are there" in said
    status = made.ledger().status("r1")
    assert status.sol_remaining == status.csv_remaining == 0
    assert status.sol_created == status.lp_created == len(made.tasks()[0].tracts)
    assert made.ledger().experiment("r1").tables == "all"
    assert rescan.rescan(arguments(), made.config) == 0
    assert "the ledger and the files agree" in capsys.readouterr().out


def test_a_dry_run_on_a_copy_says_that_it_is_not_registered_and_makes_no_database(made: Made) -> None:
    database = made.root / "2010-re" / "dbrecon.sqlite3"
    database.unlink()
    with pytest.raises(UsageError, match="r1 is not registered in this database, but has files"):
        rescan.rescan(arguments(dry_run=True), made.config)
    assert not database.exists()


def test_what_steps_1_and_2_must_make_again_is_said_and_can_be_made_again(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    target, geofile = files_of(made), Path(made.experiment.geofile(STUSAB))
    before = {path: path.read_bytes() for path in (target.blocks, geofile)}
    cut(target.blocks)
    cut(geofile)
    assert rescan.rescan(arguments(), made.config) == InputError.exit_code
    said = capsys.readouterr().out
    assert "to be made again, by hand: 2" in said
    assert str(target.blocks) in said
    of_geofile = [line for line in said.splitlines() if str(geofile) in line]
    assert len(of_geofile) == 1
    assert of_geofile[0].count(str(geofile)) == of_geofile[0].count("--step1") == 1
    make_geo_files(made.experiment, made.ledger(), STUSAB)
    make_county_files(made.experiment, made.ledger(), STUSAB)
    assert {path: path.read_bytes() for path in before} == before
    assert rescan.rescan(arguments(), made.config) == 0


def test_the_empty_folder_of_a_state_that_never_was_is_no_state(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="there is no zip of Florida"):
        make_geo_files(made.experiment, made.ledger(), "fl")
    assert rescan.rescan(arguments(), made.config) == 0
    assert "fl" not in capsys.readouterr().out.split()


def test_a_geofile_with_a_field_of_no_end_is_damaged(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    geofile = Path(made.experiment.geofile(STUSAB))
    edit(geofile, lambda text: text + b"x" * 200_000 + b"\n")
    assert rescan.rescan(arguments(), made.config) == InputError.exit_code
    assert f"{geofile}: is no CSV file of ours (field larger than field limit" in capsys.readouterr().out


def test_files_are_listed_with_their_sizes(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.list_files(arguments(stusab=STUSAB), made.config) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    work = made.root / "2010-re" / "r1" / "work" / STUSAB
    assert {line[-1]: int(line[0]) for line in lines} == {
        str(path): path.stat().st_size for path in work.rglob("*") if path.is_file()
    }


def facts(made: Made, path: Path | str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert files.show_info(arguments(info=str(path)), made.config) == 0
    lines = capsys.readouterr().out.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_file_tells_what_it_holds(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    target = files_of(made)
    (state,) = [state for state in made.ledger().tract_states("r1", STUSAB) if state.tract == target.tract]
    for path in (target.lp, target.sol):
        shown = facts(made, path, capsys)
        assert shown["tract"] == f"10{target.county}{target.tract}"
        assert shown["people"] == f"{state.pop:,}"
        assert (shown["variables"], shown["constraints"]) == (f"{state.variables:,}", f"{state.constraints:,}")
        assert shown["status"] == "solved"
        assert " on " in shown["solved"]
    assert shown["solver"].startswith("HiGHS")
    assert facts(made, target.people, capsys)["people"] == facts(made, target.blocks, capsys)["people"] == f"{PEOPLE:,}"
    assert facts(made, target.tracts, capsys)["kind"] == "a county's tract tables (step 2)"
    assert facts(made, made.experiment.geofile(STUSAB), capsys)["people"] == f"{PEOPLE:,}"
    assert facts(made, made.experiment.dist_zip(STUSAB), capsys)["state"] == "Delaware"


@pytest.mark.parametrize("what", ["lp", "sol", "people", "blocks"])
def test_a_damaged_file_is_told_by_info(made: Made, what: str) -> None:
    path = getattr(files_of(made), what)
    cut(path)
    with pytest.raises((InputError, StorageError), match=re.escape(str(path))):
        files.show_info(arguments(info=str(path)), made.config)


def test_a_file_of_no_kind_is_refused(tmp_path: Path, made: Made) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="no kind of file"):
        files.show_info(arguments(info=str(tmp_path / "notes.txt")), made.config)
    with pytest.raises(storage.MissingFile):
        files.show_info(arguments(info=str(tmp_path / "nope.lp")), made.config)


def test_what_a_killed_writer_left_is_listed_and_cleared(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    left = files_of(made).lp.parent / ".model.lp.gz.4711.0123abcd.tmp"
    left.write_bytes(b"half")
    assert files.list_unfinished(arguments(), made.config) == 0
    assert str(left) in capsys.readouterr().out
    files.clear_unfinished(arguments(clear_uploads="24"), made.config)
    assert left.exists(), "somebody may still be writing it"
    os.utime(left, (1e9, 1e9))
    files.clear_unfinished(arguments(clear_uploads="24"), made.config)
    assert not left.exists()
