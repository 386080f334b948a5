"""What files are made of: changed zips, county files, solutions and people are noticed, and nothing false is called well."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dbrecon.ctools import staging, storage
from dbrecon.ctools.database import make_engine
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import LostLease, Worker
from dbrecon.node.daemon import run_here
from dbrecon.node.tasks import LpMade, Solved, TractTask
from dbrecon.node.worker import serve
from dbrecon.place import Place
from dbrecon.settings import Config
from dbrecon.steps.county_certainty import write_county
from dbrecon.steps.county_files import make_county_files
from dbrecon.steps.geography_files import make_geo_files
from tests.paths import CHECKOUT

ST = "de"
ALL = frozenset({3, 4, 5})


@dataclass
class World:
    """An experiment of a small state; ``other`` is a zip of the same geography and other people."""

    root: Path
    other: Path

    @property
    def config(self) -> Config:
        return Config.load(env={"DAS_S3ROOT": str(self.root)}, hostname="here")

    @property
    def experiment(self) -> Experiment:
        return Experiment.make("r1", self.config)

    def ledger(self) -> Ledger:
        return Ledger(make_engine(**self.config.database()))

    def run(self) -> int:
        return run_here(self.ledger(), self.config, "r1", Place(), ALL)

    def rescan(self, *more: str) -> int:
        return self.command("--rescan", *more)

    def command(self, *words: str) -> int:
        return subprocess.run(
            [sys.executable, str(CHECKOUT / "dbrtool.py"), "--reident", "r1", *words],
            cwd=CHECKOUT, env={"DAS_S3ROOT": str(self.root), "PATH": "/usr/bin:/bin"}, check=False,
        ).returncode  # fmt: skip

    def change_zip(self) -> None:
        shutil.copy(self.other, self.experiment.dist_zip(ST))

    def statuses(self) -> set[str]:
        return {tract.status for tract in self.ledger().tract_states("r1", ST) if tract.pop}

    def people(self) -> bytes:
        (county,) = self.ledger().counties("r1", ST)
        return Path(self.experiment.synth_out(ST, county)).read_bytes()


def make_zip(folder: Path, seed: int) -> Path:
    options = ["-q", "--stusab", ST, "--people", "6000", "--counties", "1", "--seed", str(seed), "--out", str(folder)]
    subprocess.run([sys.executable, "bench/make_state.py", *options], cwd=CHECKOUT, check=True, capture_output=True, timeout=120)
    (made,) = folder.glob("*.zip")
    return made


@pytest.fixture(scope="module")
def zips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two releases of a state of the same name, of other people."""
    folder = tmp_path_factory.mktemp("zips")
    return make_zip(folder / "one", 8), make_zip(folder / "two", 9)


@pytest.fixture(scope="module")
def finished(zips: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = World(tmp_path_factory.mktemp("finished"), zips[1])
    ledger = world.ledger()
    ledger.register("r1", "all", "2010_sf1")
    Path(world.experiment.dist).mkdir(parents=True)
    shutil.copy(zips[0], world.experiment.dist_zip(ST))
    make_geo_files(world.experiment, ledger, ST)
    make_county_files(world.experiment, ledger, ST)
    assert world.run() == 0
    return world.root


@pytest.fixture
def world(finished: Path, zips: tuple[Path, Path], tmp_path: Path) -> World:
    """A finished experiment, to be changed."""
    shutil.copytree(finished, tmp_path / "root")
    return World(tmp_path / "root", zips[1])


def test_after_a_change_of_the_zip_steps_1_and_2_make_again_what_followed(
    world: World, zips: tuple[Path, Path], tmp_path: Path
) -> None:
    before = world.people()
    world.change_zip()
    ledger = world.ledger()
    assert make_geo_files(world.experiment, ledger, ST), "without --force"
    assert make_county_files(world.experiment, ledger, ST) == 1
    assert world.statuses() == {"new"}
    assert world.run() == 0
    fresh = World(tmp_path / "fresh", zips[0])
    other = fresh.ledger()
    other.register("r1", "all", "2010_sf1")
    Path(fresh.experiment.dist).mkdir(parents=True)
    shutil.copy(zips[1], fresh.experiment.dist_zip(ST))
    make_geo_files(fresh.experiment, other, ST)
    make_county_files(fresh.experiment, other, ST)
    assert fresh.run() == 0
    assert world.people() == fresh.people() != before


def test_after_step_1_with_force_the_old_county_files_are_made_again(world: World) -> None:
    """The sequence that step 2's own documentation names."""
    world.change_zip()
    ledger = world.ledger()
    assert make_geo_files(world.experiment, ledger, ST, force=True)
    assert make_county_files(world.experiment, ledger, ST) == 1


def test_a_zip_replaced_without_any_command_is_noticed_by_every_command(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.change_zip()
    with pytest.raises(InputError, match=r"is not the zip that step 1 has read.*--step1 --step2 --stusab de"):
        world.run()
    with pytest.raises(InputError, match=r"is not the zip that step 1 has read.*--step1 --step2 --stusab de"):
        make_county_files(world.experiment, world.ledger(), ST)
    steps = [["--step3"], ["--step4"], ["--step5"], ["--step5", "--force"], ["--step6"]]
    for words in (["--rescan"], ["--rescan", "--dry_run"], ["--evaluate"], ["--certainty"], *steps):
        assert world.command(*words) == 3, words
        assert "is not the zip that step 1 has read" in "".join(capfd.readouterr())
    assert world.statuses() == {"solved"}, "nothing is thrown away for it: the earlier zip may come back"


def test_a_zip_that_was_packed_anew_with_the_same_content_is_the_same(world: World) -> None:
    import zipfile

    path = Path(world.experiment.dist_zip(ST))
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name, content in reversed(members.items()):
            new.writestr(name, content)
    assert make_county_files(world.experiment, world.ledger(), ST) == 0
    assert world.rescan() == 0


def test_a_rescan_after_step_1_with_force_adopts_no_old_solution(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.change_zip()
    make_geo_files(world.experiment, world.ledger(), ST, force=True)
    assert world.rescan("--dry_run") == 3, "the county files are of the other zip"
    assert f"is not what the zip gives that lies in dist/ now; make it again (--step2 --stusab {ST})" in capfd.readouterr().out
    assert world.rescan() == 3
    assert world.statuses() == {"new"}
    assert world.ledger().status("r1").completed_states == ()


def test_a_rescan_after_step_1_with_force_and_the_same_zip_adopts_what_is_right(world: World) -> None:
    make_geo_files(world.experiment, world.ledger(), ST, force=True)
    assert world.statuses() == {"new"}
    assert world.rescan() == 0
    assert world.statuses() == {"solved"}
    assert world.ledger().status("r1").completed_states == (ST,)


def edit_solution(world: World) -> Path:
    """Somebody is of another sex in the accepted solution of the first tract."""
    tract = next(tract_row for tract_row in world.ledger().tract_states("r1", ST) if tract_row.pop)
    path = Path(world.experiment.sol(ST, tract.county, tract.tract))
    text = re.sub(rb"(?m)^M(\d{4}_\d{3}r\d\d[HN] \d+)$", rb"F\1", gzip.decompress(path.read_bytes()), count=1)
    path.write_bytes(gzip.compress(text))
    return path


def test_a_solution_edited_between_steps_4_and_5_does_not_become_people(world: World) -> None:
    before, path = world.people(), edit_solution(world)
    world.ledger().reset("r1", 5)
    assert world.run() == 10
    (quarantined,) = world.ledger().status("r1").quarantined
    assert str(path) in quarantined.error
    assert "as the ledger has it" in quarantined.error
    assert (quarantined.attempts, len(world.ledger().errors("r1"))) == (1, 1), "trying again cannot help"
    assert world.people() == before


def test_people_that_are_gone_are_written_again(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    (county,) = world.ledger().counties("r1", ST)
    path, before = Path(world.experiment.synth_out(ST, county)), world.people()
    path.unlink()
    assert world.command("--evaluate") == 3
    gone = f"{path}: the county's file of people is gone; make it again (--step5 --force --stusab {ST} --county {county})"
    assert gone in capfd.readouterr().err
    for command in (["--run"], ["--step5", "--stusab", ST]):
        path.unlink(missing_ok=True)
        assert world.command(*command) == 0
        assert "the people of 1 county written" in capfd.readouterr().out
        assert world.people() == before


def test_county_files_edited_after_step_2_are_not_solved(world: World) -> None:
    """Not even where block and tract file were changed so that they agree with each other."""
    (county,) = world.ledger().counties("r1", ST)
    path = Path(world.experiment.block_csv(ST, county))
    text = path.read_bytes()
    path.write_bytes(text.replace(b",0\n", b",1\n", 1))
    assert path.read_bytes() != text
    world.ledger().reset("r1", 3)
    assert world.run() == 10
    assert all(str(path) in tract.error and "--step2 --force" in tract.error for tract in world.ledger().status("r1").quarantined)


def test_people_that_were_changed_are_not_called_well(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Two people have changed places: every cell is as published."""
    (county,) = world.ledger().counties("r1", ST)
    path = Path(world.experiment.synth_out(ST, county))
    head, first, second, *rest = path.read_bytes().splitlines(keepends=True)
    assert first != second
    path.write_bytes(b"".join([head, second, first, *rest]))
    assert world.command("--evaluate") == 3
    assert f"{path}: is not the file of people as the ledger has it" in capfd.readouterr().err


def test_certainty_is_of_the_accepted_people_and_tables_alone(world: World) -> None:
    """What was edited after the run is named, at the first attempt."""
    (county,) = world.ledger().counties("r1", ST)
    tables, people = Path(world.experiment.block_csv(ST, county)), Path(world.experiment.synth_out(ST, county))
    right = tables.read_bytes()
    tables.write_bytes(right[:-2] + b"9\n")
    assert run_here(world.ledger(), world.config, "r1", Place(), frozenset({6})) == 10
    errors = {quarantine.error for quarantine in world.ledger().status("r1").quarantined}
    assert {error.partition(";")[0] for error in errors} == {
        f"{tables}: is not the county file as the ledger has it: it was changed, or is of other work"
    }
    tables.write_bytes(right)
    people.write_bytes(people.read_bytes().replace(b",female,", b",male,", 1))
    accepted = {"people": world.ledger().people_digests("r1", ST)[county] or ""}
    with pytest.raises(InputError, match=f"{people}: is not as the ledger has it"):
        write_county(world.experiment, ST, county, [], accepted)


def test_a_claim_is_answered_from_the_accepted_people_and_tables_alone(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Edited so that they agree with one another, people and tables would prove what was never published."""
    (county,) = world.ledger().counties("r1", ST)
    tables, people = Path(world.experiment.block_csv(ST, county)), Path(world.experiment.synth_out(ST, county))
    claim, proof = f"block {people.read_bytes().splitlines()[1].split(b',')[1].decode()}: somebody", str(world.root / "proof.json")
    assert world.command("--claim", claim, "--certificate", proof) == 0
    right = people.read_bytes()
    people.write_bytes(right.replace(b",female,", b",male,", 1))
    assert world.command("--claim", claim) == 3
    people.write_bytes(right)
    tables.write_bytes(tables.read_bytes()[:-2] + b"9\n")
    capfd.readouterr()
    for words in (["--claim", claim], ["--check_claim", proof]):
        assert world.command(*words) == 3
        assert "is not the county file as the ledger has it" in capfd.readouterr().err


# -- a worker that was overtaken ------------------------------------------------------------------------------------------


def test_a_worker_that_lost_its_lease_overwrites_nothing_and_what_it_leaves_is_listed(world: World) -> None:
    """Frozen after its claim; the zip changed, steps 1 and 2 done again, another node solved the tract; then it wakes."""
    ledger, worker = world.ledger(), Worker("frozen", "1-1")
    ledger.reset("r1", 3)
    claims = tuple(ledger.claim("r1", worker, limit=1))
    world.change_zip()
    old_files = world.root.parent / "old"
    shutil.copytree(world.root, old_files)
    make_geo_files(world.experiment, ledger, ST)
    make_county_files(world.experiment, ledger, ST)
    assert world.run() == 0
    before = {path: path.read_bytes() for path in world.root.rglob("*.gz")}

    # The woken process has the old county in memory: its files are what lay there when it read them.
    (county,) = ledger.counties("r1", ST)
    new = {
        path: Path(path).read_bytes() for path in (world.experiment.block_csv(ST, county), world.experiment.tract_csv(ST, county))
    }
    for path in new:
        shutil.copy(old_files / Path(path).relative_to(world.root), path)
    said: list[object] = []
    serve(TractTask(world.experiment, frozenset({3, 4}), claims), said.append)
    for path, content in new.items():
        Path(path).write_bytes(content)
    lp, sol = (event for event in said if isinstance(event, LpMade | Solved))

    assert {path: path.read_bytes() for path in world.root.rglob("*.gz")} == before
    assert isinstance(lp, LpMade)
    assert isinstance(sol, Solved)
    left = storage.unfinished(f"{world.experiment.base}/work")
    assert sorted(file.path for file in left) == sorted(stats.file.temporary for stats in (lp.stats, sol.stats) if stats.file)
    assert all(claims[0].token in file.path for file in left)
    with pytest.raises(LostLease):
        ledger.solved(claims[0], sol.stats, lp.stats)
    assert storage.unfinished(f"{world.experiment.base}/work") == []
    assert {path: path.read_bytes() for path in world.root.rglob("*.gz")} == before


def test_a_file_that_was_cleared_before_it_was_accepted_is_made_again(world: World) -> None:
    ledger = world.ledger()
    ledger.reset("r1", 3)
    claims = tuple(ledger.claim("r1", Worker("here", "1-1"), limit=1))
    said: list[object] = []
    serve(TractTask(world.experiment, frozenset({3, 4}), claims), said.append)
    lp, sol = (event.stats for event in said if isinstance(event, LpMade | Solved))
    assert sol.file is not None
    staging.discard(sol.file)
    storage.remove(sol.file.path)
    with pytest.raises(LostLease, match="is gone before it was accepted; it is made again"):
        ledger.solved(claims[0], sol, lp)  # type: ignore[arg-type]
    assert world.run() == 0
