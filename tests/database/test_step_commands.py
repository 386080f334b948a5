"""From published tables to checked people by the operator's commands: undisturbed, interrupted, and with bad input."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dbrecon.recon.tract.lp_text import ages_of_lp
from tests.paths import CHECKOUT, SHARED_DATA
from tests.tiny_sf1 import make_members, segment_tables, some_records, zip_bytes

DATA = SHARED_DATA
SECONDS = 120.0
Result = subprocess.CompletedProcess[str]


@dataclass
class Operator:
    """Someone at a terminal with one experiment, r1, below ``root``."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    def start(self, *args: str, settings: str = "") -> "subprocess.Popen[str]":
        """A command in a process group of its own, as a terminal starts it; with ``settings`` beside the usual ones."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        ini, mysql_port = self.root.parent / f"{self.root.name}.ini", self.env.get("MYSQL_PORT")
        port = f"[db]\nmysql_port = {mysql_port}\n" if mysql_port else ""
        ini.write_text(f"[run]\nretry_seconds = 0\n{port}{settings}")
        ours = {"DAS_S3ROOT": str(self.root), "REIDENT": "r1", "DBRECON_CONFIG": str(ini)}
        return subprocess.Popen(
            [sys.executable, str(CHECKOUT / "dbrtool.py"), *args],
            env=kept | ours | self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *args: str, settings: str = "") -> Result:
        return finished(self.start(*args, settings=settings))

    def done(self, *args: str) -> str:
        """What a command that goes well prints."""
        result = self.run(*args)
        assert result.returncode == 0, f"{args}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.done("--status", "--json"))
        return answer

    @property
    def base(self) -> Path:
        return self.root / "2010-re" / "r1"

    def register(self, *zips: Path, tables: str = "all", ages: str = "bins") -> "Operator":
        self.done("--register", "r1", "--tables", tables, "--ages", ages)
        for path in zips:
            shutil.copy(path, self.base / "dist")
        return self

    def files(self, pattern: str) -> dict[str, bytes]:
        """Files of the experiment, by name and with their content; those under construction too."""
        return {path.name: path.read_bytes() for path in sorted(self.base.glob(pattern)) if path.is_file()}

    def people(self) -> dict[str, bytes]:
        return self.files("work/*/*/synth_out_*.csv")

    def evaluated(self, truth: Path) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.done("--evaluate", str(truth), "--json"))
        return answer


def finished(process: "subprocess.Popen[str]") -> Result:
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Result(process.args, process.returncode, out, err)


def wait_until(happened: Callable[[], bool], process: "subprocess.Popen[str]") -> bool:
    """True as soon as it has happened; False if the process ended before."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        if process.poll() is not None:
            return happened()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.0005)
    return True


def wrong_cells(evaluation: dict[str, Any]) -> int:
    return sum(level["wrong"] for level in evaluation["violations"].values())


@pytest.fixture(scope="module")
def real_zips() -> list[Path]:
    zips = sorted((DATA / "real_tracts").glob("*.zip"))
    if not zips:
        pytest.skip("needs ../shared/data/real_tracts, which is not here")
    return zips


@pytest.fixture(scope="module")
def real_truth(real_zips: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The true people of all real tracts in one file."""
    path = tmp_path_factory.mktemp("truth") / "truth.csv.gz"
    parts = [gzip.decompress(file.read_bytes()) for file in sorted((DATA / "real_tracts").glob("truth_*.csv.gz"))]
    header = parts[0].partition(b"\n")[0] + b"\n"
    assert all(part.startswith(header) for part in parts)
    path.write_bytes(gzip.compress(b"".join([header, *(part[len(header) :] for part in parts)])))
    return path


@pytest.fixture(scope="module")
def real(real_zips: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """The real tracts of four states, done undisturbed on SQLite."""
    operator = Operator(tmp_path_factory.mktemp("real") / "root").register(*real_zips)
    operator.done("--step1", "--step2", "--stusab", "all")
    operator.done("--run")
    return operator


@pytest.fixture(scope="module")
def guernsey_zip() -> Path:
    path = DATA / "guernsey" / "oh2010.sf1.zip"
    if not path.exists():
        pytest.skip("needs ../shared/data/guernsey, which is not here")
    return path


@pytest.fixture(scope="module")
def guernsey(guernsey_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """Guernsey County, done undisturbed on SQLite."""
    operator = Operator(tmp_path_factory.mktemp("guernsey") / "root").register(guernsey_zip)
    operator.done("--step1", "--step2")
    operator.done("--run")
    return operator


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path / "root")


def fresh_operator(folder: Path) -> Operator:
    """One more operator, with a root of his own below the folder."""
    return Operator(Path(tempfile.mkdtemp(dir=folder)))


# --- undisturbed -----------------------------------------------------------------------------------------------------


def test_every_real_tract_is_solved_and_exact_but_for_single_years_of_age(real: Operator, real_truth: Path) -> None:
    evaluation = real.evaluated(real_truth)
    assert wrong_cells(evaluation) == 0
    assert evaluation["agreement"]["reconstruction"]["binned_age"]["all"] == 1.0
    assert evaluation["true_people_left_out_by_county"] == {}
    assert evaluation["reconstructed_people"] == 6956


def test_status_says_that_all_is_done(real: Operator) -> None:
    status = real.status()
    assert status["completed_states"] == ["al", "ca", "nd", "nj"]
    assert (status["lp_created"], status["sol_created"], status["csv_completed"]) == (6, 6, 6)
    assert [status[name] for name in ("lp_remaining", "sol_remaining", "csv_remaining", "lp_in_process")] == [0] * 4
    assert (status["people_solved"], status["people"]) == (6956, 6956)


def test_guernsey_county_agrees_with_its_people(guernsey: Operator) -> None:
    evaluation = guernsey.evaluated(DATA / "guernsey" / "truth_guernsey_oh.csv.gz")
    assert wrong_cells(evaluation) == 0
    agreement = evaluation["agreement"]["reconstruction"]
    assert agreement["binned_age"]["all"] >= 0.99
    assert agreement["exact_age"]["all"] >= 0.45


def test_the_evaluation_is_told_on_one_screen(real: Operator, real_truth: Path) -> None:
    output = real.done("--evaluate", str(real_truth)).splitlines()
    assert len(output) < 24
    assert "published cells not reproduced: 0 of" in "".join(output)


def test_a_truth_in_several_files_or_a_folder_gives_the_same_figures(real: Operator, real_truth: Path, tmp_path: Path) -> None:
    whole = {name: value for name, value in real.evaluated(real_truth).items() if name != "truth"}
    files = sorted((DATA / "real_tracts").glob("truth_*.csv.gz"))
    for path in files:
        shutil.copy(path, tmp_path)
    (tmp_path / "notes.txt").write_text("of the states")
    for words in ([str(path) for path in files], [str(tmp_path)]):
        answer = real.run("--evaluate", *words, "--json")
        assert {name: value for name, value in json.loads(answer.stdout).items() if name != "truth"} == whole
    assert f"{tmp_path}/notes.txt: not read, being neither .csv, .csv.gz nor .parquet" in answer.stderr
    twice = real.run("--evaluate", str(files[0]), str(files[0]))
    assert (twice.returncode, twice.stdout) == (2, "")
    assert f"{files[0]} is named twice" in twice.stderr


def test_people_that_are_not_written_are_left_out_of_the_evaluation_and_named(real: Operator, operator: Operator) -> None:
    shutil.copytree(real.root, operator.root)
    counties = sorted(path.parent.name[2:] for path in operator.base.glob("work/*/*/synth_out_*.csv"))
    county = next(path.parent.name[2:] for path in operator.base.glob("work/nj/*/synth_out_*.csv"))
    place = ["--stusab", "nj", "--county", county]
    operator.done("--step4", "--force", *place)
    result = operator.run("--evaluate")
    assert result.returncode == 0
    assert f"left out, since their people are not written: 1 of {len(counties)} counties (nj {county})" in result.stderr
    assert f"people of {len(counties) - 1} counties" in result.stdout
    refused = operator.run("--evaluate", *place)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert refused.stderr.startswith(f"error: r1 has no people written in nj {county}: --run first")


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_published_cells_that_the_people_do_not_give_are_an_error(real: Operator, operator: Operator, as_json: list[str]) -> None:
    shutil.copytree(real.root, operator.root)
    path = next(operator.base.glob("work/nd/*/synth_out_*.csv"))
    path.write_bytes(path.read_bytes().replace(b",male,", b",female,", 1))
    result = operator.run("--evaluate", *as_json)
    assert result.returncode == 3
    assert result.stdout, "the report is there too"
    assert re.fullmatch(r"error: these people do not give \d+ of [\d,]+ published cells: .*--rescan .*\n", result.stderr)


def test_a_second_run_finds_nothing_left_and_touches_no_file(real: Operator) -> None:
    before = {path: path.stat().st_mtime_ns for path in real.base.rglob("*")}
    output = real.done("--step1", "--step2")
    assert "al: step 1 is done already\n" in output
    assert "al: step 2 is done already\n" in output
    assert "nothing was left to do" in real.done("--run")
    assert {path: path.stat().st_mtime_ns for path in real.base.rglob("*")} == before


@pytest.mark.mariadb
def test_mariadb_gives_the_same_people_byte_for_byte(
    real: Operator, real_zips: list[Path], operator: Operator, mariadb_env: dict[str, str]
) -> None:
    operator.env = mariadb_env
    operator.register(*real_zips).done("--step1", "--step2", "--run")
    assert operator.people() == real.people()
    clock = dict.fromkeys(("now", "people_per_hour", "seconds_left", "experiment"))
    assert operator.status() | clock == real.status() | clock
    assert not list(operator.root.rglob("*.sqlite3"))


def test_steps_by_hand_give_the_same_files_byte_for_byte(real: Operator, real_zips: list[Path], operator: Operator) -> None:
    """Solving the LP file that lies there, rather than the program in memory, changes nothing."""
    operator.register(*real_zips).done("--step1", "--step2")
    assert "6 LP files made" in operator.done("--step3")
    assert operator.people() == {}
    assert "6 tracts solved" in operator.done("--step4")
    assert "people of 6 counties written" in operator.done("--step5")
    assert operator.people() == real.people()
    assert operator.files("work/*/*/lp/*") == real.files("work/*/*/lp/*")


def test_steps_in_the_wrong_order_say_what_comes_first(real_zips: list[Path], operator: Operator) -> None:
    operator.register(real_zips[-1]).done("--step1", "--step2")
    for step, first in [("--step4", "first comes --step3"), ("--step5", "first comes --step3 --step4")]:
        result = operator.run(step)
        assert (result.returncode, "nothing was done" in result.stdout) == (3, True)
        assert "not ready for this: 1" in result.stderr
        assert first in result.stderr


def test_what_no_tract_could_do_without_is_missed_before_any_is_tried(real_zips: list[Path], operator: Operator) -> None:
    """The census's table file, and a county's files of step 2 where finished tracts are to be solved again."""
    product = operator.root.parent / "own_product"
    shutil.copytree(CHECKOUT / "config" / "products" / "sf1_2010", product)
    operator.done("--register", "r1", "--product", str(product))
    shutil.copy(real_zips[-1], operator.base / "dist")
    operator.done("--step1", "--step2", "--run")
    before = operator.status()
    (product / "tables.toml").rename(product / "away.toml")
    result = operator.run("--run")
    assert (result.returncode, result.stderr.count("\n")) == (3, 1)
    assert f"{product}/tables.toml: no such table file; restore the product's folder" in result.stderr
    (product / "away.toml").rename(product / "tables.toml")
    for path in operator.base.glob("work/*/*/sf1_tract_*"):
        path.unlink()
    result = operator.run("--step4", "--force")
    assert result.returncode == 3
    assert "lacks the county files of 1 of 1 county" in result.stderr
    clock = dict.fromkeys(("now", "people_per_hour", "seconds_left", "experiment"))
    assert operator.status() | clock == before | clock


def test_force_makes_one_tract_again_and_nothing_else(real: Operator, real_zips: list[Path], operator: Operator) -> None:
    operator.register(*real_zips).done("--step1", "--step2", "--run")
    before = {path: path.stat().st_mtime_ns for path in operator.base.glob("work/*/*/sol/*")}
    [chosen] = [path for path in before if path.parts[-3].startswith("01")]
    county, tract = chosen.name[8:11], chosen.name[11:17]
    place = ["--stusab", "al", "--county", county, "--tract", tract]
    result = operator.run("--step3", "--step4", "--force", *place)
    assert "1 tract solved and checked" in result.stdout
    assert f"--force: 1 solved tract and 1 written county of al {county} {tract} are to be done again\n" in result.stderr
    after = {path: path.stat().st_mtime_ns for path in operator.base.glob("work/*/*/sol/*")}
    assert {path for path in before if after[path] != before[path]} == {chosen}
    assert str(operator.base) in operator.done("--step5", "--stusab", "al", "--county", county)
    assert operator.people() == real.people()


def test_block_tables_alone_are_enough_for_an_experiment(real_zips: list[Path], real_truth: Path, operator: Operator) -> None:
    operator.register(*real_zips, tables="block").done("--step1", "--step2", "--run")
    evaluation = operator.evaluated(real_truth)
    assert list(evaluation["violations"]) == ["block"]
    assert "spread evenly over age groups, and carry no information" in operator.done("--evaluate", str(real_truth))
    assert wrong_cells(evaluation) == 0
    assert evaluation["agreement"]["reconstruction"]["binned_age"]["all"] > 0.9


def test_single_ages_throughout_are_a_choice_and_their_solutions_go_on_under_bins(
    real_zips: list[Path], operator: Operator
) -> None:
    operator.register(real_zips[-1], ages="single").done("--step1", "--step2", "--run")
    programs = [gzip.decompress(text) for text in operator.files("work/*/*/lp/*.lp.gz").values()]
    assert programs
    assert [ages_of_lp(text) for text in programs] == [None] * len(programs)
    assert "--ages is settled when an experiment is registered" in operator.run("--run", "--ages", "bins").stderr
    people = operator.people()
    (operator.root / "2010-re" / "dbrecon.sqlite3").unlink()
    operator.done("--rescan")  # registers the files that are there, as ever by bins
    operator.done("--step5", "--force", "--stusab", real_zips[-1].name[:2])
    assert operator.people() == people
    operator.done("--step3", "--step4", "--force", "--stusab", real_zips[-1].name[:2])
    assert ages_of_lp(gzip.decompress(next(iter(operator.files("work/*/*/lp/*.lp.gz").values())))) is not None


# --- interrupted -----------------------------------------------------------------------------------------------------


def interrupted(ready: Callable[[], Operator], step: str, halfway: Callable[[Operator], bool]) -> tuple[Operator, Result]:
    """Ctrl-C while the step is halfway, and the operator who typed it."""
    return struck_halfway(ready, step, halfway, lambda process: os.killpg(process.pid, signal.SIGINT))


def struck_halfway(
    ready: Callable[[], Operator], step: str, halfway: Callable[[Operator], bool], strike: Callable[["subprocess.Popen[str]"], None]
) -> tuple[Operator, Result]:
    """Where the step was further before it could be stopped there is another operator, and another try."""
    for _ in range(10):
        operator = ready()
        result = _struck(operator, step, lambda operator=operator: halfway(operator), strike)  # type: ignore[misc]
        if result is not None:
            return operator, result
    raise AssertionError("it was over before it could be struck")


def _struck(
    operator: Operator, step: str, halfway: Callable[[], bool], strike: Callable[["subprocess.Popen[str]"], None]
) -> Result | None:
    """Strike as soon as the step is halfway; None if it was over before that could be seen."""
    process = operator.start(step)
    seen = wait_until(halfway, process)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGSTOP)  # what is halfway when it stops is halfway still when the signal comes
        wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", process)
    still = seen and process.poll() is None and halfway()
    if process.poll() is None:
        strike(process)
        os.killpg(process.pid, signal.SIGCONT)
    result = finished(process)
    return result if still else None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """The zip of a state of 300 counties, with which steps 1 and 2 are busy for a while, and what they make of it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    zipped = folder / "nm2010.sf1.zip"
    zipped.write_bytes(zip_bytes(make_members(some_records([f"{number:03d}" for number in range(1, 600, 2)]))))
    operator = Operator(folder / "root").register(zipped)
    operator.done("--step1", "--step2")
    return zipped, operator.files("work/**/*")


def test_ctrl_c_in_step_1_leaves_nothing_and_a_rerun_completes(undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    zipped, expected = undisturbed

    def halfway(operator: Operator) -> bool:
        return any((operator.base / "work" / "nm").glob(".geofile_nm.csv.*"))

    operator, result = interrupted(lambda: fresh_operator(tmp_path).register(zipped), "--step1", halfway)
    assert result.returncode == 130, result.stderr
    assert result.stderr.splitlines()[-1] == "interrupted"
    assert operator.files("work/**/*") == {}
    operator.done("--step1", "--step2")
    assert operator.files("work/**/*") == expected


def test_ctrl_c_in_step_2_leaves_whole_files_only_and_a_rerun_completes(
    undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    zipped, expected = undisturbed

    def ready() -> Operator:
        operator = fresh_operator(tmp_path).register(zipped)
        operator.done("--step1")
        return operator

    def halfway(operator: Operator) -> bool:
        return 5 < len(list((operator.base / "work" / "nm").glob("*/sf1_*.csv"))) < 590

    operator, result = interrupted(ready, "--step2", halfway)
    assert result.returncode == 130, result.stderr
    left = operator.files("work/**/*")
    assert left.items() < expected.items()
    operator.done("--step2")
    assert operator.files("work/**/*") == expected


@pytest.fixture
def ready(guernsey_zip: Path, tmp_path: Path) -> Callable[[], Operator]:
    """Operators who have Guernsey County after steps 1 and 2."""

    def make() -> Operator:
        operator = fresh_operator(tmp_path).register(guernsey_zip)
        operator.done("--step1", "--step2")
        return operator

    return make


def test_ctrl_c_in_a_run_puts_the_tracts_back_and_a_rerun_completes(guernsey: Operator, ready: Callable[[], Operator]) -> None:
    def halfway(operator: Operator) -> bool:
        return 1 <= len(list(operator.base.glob("work/oh/39059/sol/model_*"))) < 8

    waiting, result = interrupted(ready, "--run", halfway)
    assert result.returncode == 130, result.stderr
    assert "run it again to go on" in result.stdout
    assert "Traceback" not in result.stderr
    status = waiting.status()
    assert (status["lp_in_process"], status["sols_in_progress"], status["quarantined"]) == (0, [], [])
    assert 0 < status["sol_remaining"] <= 10
    waiting.done("--run")
    assert waiting.people() == guernsey.people()


def test_a_killed_run_is_completed_by_the_next_at_once(guernsey: Operator, ready: Callable[[], Operator]) -> None:
    def halfway(operator: Operator) -> bool:
        return 2 <= len(list(operator.base.glob("work/oh/39059/sol/model_*"))) < 8

    waiting, _ = struck_halfway(ready, "--run", halfway, lambda process: process.kill())
    assert not waiting.people()
    waiting.done("--run")
    assert waiting.people() == guernsey.people()
    assert waiting.files("work/oh/39059/*/*").keys() >= guernsey.files("work/oh/39059/*/*").keys()


# --- bad input -------------------------------------------------------------------------------------------------------


def contradicting(source: Path, target: Path, county: str) -> str:
    """Copies North Dakota's zip; in a tract of the county one man of PCT12 becomes 20 years older. Returns the tract."""
    with zipfile.ZipFile(source) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    [segment] = [number for number, tables in segment_tables().items() if "PCT012" in dict(tables)]
    first = 5 + sum(cells for _, cells in segment_tables()[segment][: [t for t, _ in segment_tables()[segment]].index("PCT012")])
    logrecnos = {
        line[18:25]: line[54:60].decode()
        for line in members["ndgeo2010.sf1"].splitlines()
        if line[8:13] == b"14000" and line[29:32] == county.encode() and line[54:60] < b"990000"
    }
    [[logrecno, tract]] = logrecnos.items()
    name = f"nd{segment:05d}2010.sf1"
    lines = members[name].splitlines(keepends=True)
    [number] = [n for n, line in enumerate(lines) if line.split(b",", 5)[4] == logrecno]
    cells = lines[number].split(b",")
    young = next(n for n in range(first + 2 + 25, first + 2 + 45) if int(cells[n]) > 0)
    cells[young] = b"%d" % (int(cells[young]) - 1)
    cells[young + 20] = b"%d" % (int(cells[young + 20]) + 1)
    members[name] = b"".join([*lines[:number], b",".join(cells), *lines[number + 1 :]])
    target.write_bytes(zip_bytes(members))
    return tract


def test_a_tract_whose_tables_contradict_its_blocks_is_quarantined_alone_and_can_be_mended(
    real: Operator, real_zips: list[Path], operator: Operator
) -> None:
    [source] = [path for path in real_zips if path.name.startswith("nd")]
    expected = {name: text for name, text in real.people().items() if name.startswith("synth_out_38")}
    county = sorted(expected)[1][-7:-4]
    operator.register()
    bad = operator.base / "dist" / source.name
    tract = contradicting(source, bad, county)
    operator.done("--step1", "--step2")
    result = operator.run("--run")

    assert result.returncode == 10, result.stderr
    assert f"r1 nd {county} {tract}: " in result.stdout
    [quarantined] = operator.status()["quarantined"]
    assert (quarantined["county"], quarantined["tract"], quarantined["attempts"]) == (county, tract, 1), "it is not tried again"
    assert "contradict" in quarantined["error"]
    assert "PCT0120" in quarantined["error"]
    assert re.search(rf"nd {county} {tract} \(.+\): ", operator.done("--status")), "its place is named"
    assert f"nd {county} {tract}: " in operator.done("--errors")
    assert operator.people().items() == expected.items() - {(f"synth_out_38{county}.csv", expected[f"synth_out_38{county}.csv"])}
    assert operator.run("--run").returncode == 10, "it stays in quarantine"

    shutil.copy(source, bad)
    operator.done("--step2", "--force", "--stusab", "nd")
    assert "1 put back to work" in operator.done("--retry_quarantined")
    operator.done("--run")
    assert operator.people() == expected
    assert operator.status()["quarantined"] == []


def test_a_state_with_a_bad_zip_does_not_stop_the_others(real_zips: list[Path], operator: Operator) -> None:
    operator.register(real_zips[-1])
    (operator.base / "dist" / "al2010.sf1.zip").write_text("a text file named .zip")
    result = operator.run("--step1", "--step2")
    assert result.returncode == 3
    assert "not a zip file" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: 1 of 2 states failed, for the reasons given above: al"
    assert len(operator.files("work/nj/*/sf1_*.csv")) == 2
    validated = operator.run("--validate")
    assert validated.returncode == 3
    assert "nj2010.sf1.zip is whole" in validated.stdout
    operator.done("--run")
    assert operator.people().keys() == {"synth_out_34017.csv"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Mounts a file system of 8 KiB at a folder; all are unmounted at the end."""
    mounted: list[Path] = []

    def mount(folder: Path) -> None:
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a small file system")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_while_an_lp_is_written_loses_nothing(
    real: Operator, real_zips: list[Path], operator: Operator, small_disk: Callable[[Path], None]
) -> None:
    [source] = [path for path in real_zips if path.name.startswith("al")]
    operator.register(source).done("--step1", "--step2")
    [county] = list(operator.base.glob("work/al/01*"))
    small_disk(county / "lp")
    result = operator.run("--run", settings="storage_wait = 0\n")
    assert result.returncode == 4, result.stderr
    assert "the disk is full" in result.stderr.splitlines()[-1]
    assert list((county / "lp").iterdir()) == []
    status = operator.status()
    assert (status["lp_created"], status["lp_in_process"], status["quarantined"]) == (0, 0, [])
    subprocess.run(["mount", "-o", "remount,size=64m", str(county / "lp")], check=True)
    operator.done("--run")
    assert operator.people().items() <= real.people().items()
    assert len(operator.people()) == 1
