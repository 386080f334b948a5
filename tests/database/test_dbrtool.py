"""What an operator reads when he types ./dbrtool.py: registering, wrong commands, and the text of --status."""

import gzip
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbrecon.console import main as dbrtool
from dbrecon.console.entry import run_program
from dbrecon.console.status_report import format_status
from dbrecon.ctools.database import make_engine
from dbrecon.ledger.ledger import ErrorReport, Ledger, LpStats, SolStats, Worker
from dbrecon.ledger.records import InProgress, Quarantine, Status
from dbrecon.place import Place
from tests.helpers import TractRow, geography
from tests.paths import CHECKOUT

PASSWORD = "k7/secret word"
Run = Callable[..., subprocess.CompletedProcess[str]]


def run(*args: str, stdin: str = "", **env: str | Path) -> subprocess.CompletedProcess[str]:
    """./dbrtool.py in an environment with nothing of the caller's but what it takes to start Python."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, str(CHECKOUT / "dbrtool.py"), *args],
        env=kept | {name: str(value) for name, value in env.items()},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """The same without a process of its own, which is quicker where there are many commands to try."""
    on_term, root = signal.getsignal(signal.SIGTERM), logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run_here(*args: str, **env: str | Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["dbrtool.py", *args])
        for name in ("DAS_S3ROOT", "REIDENT", "MYSQL_HOST", "MYSQL_DATABASE", "MYSQL_USER", "MYSQL_PASSWORD", "DBRECON_CONFIG"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(SystemExit) as left:
            run_program(dbrtool.main)
        printed = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return subprocess.CompletedProcess(args, left.value.code, printed.out, printed.err)

    yield run_here
    signal.signal(signal.SIGTERM, on_term)
    root.handlers[:] = handlers
    root.setLevel(level)


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One sentence on stderr, nothing on stdout, the documented exit code."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root on SQLite with an experiment r1 in which Ohio has two counties, and three of four tracts are at some stage."""
    root = tmp_path_factory.mktemp("root")
    done = run("--register", "r1", DAS_S3ROOT=root)
    assert done.returncode == 0, done.stderr
    ledger = Ledger(make_engine(sqlite_path=root / "2010-re" / "dbrecon.sqlite3"))
    tracts = [TractRow("39", "001", tract, pop) for tract, pop in [("000100", 3), ("000200", 2000), ("990000", 0)]]
    ledger.replace_geography(
        "r1", "oh", geography([*tracts, TractRow("39", "003", "000100", 7), TractRow("39", "003", "000200", 8)])
    )
    worker = Worker("node9", "1-2")
    [claim] = ledger.claim("r1", worker, place=Place("oh", "001", ("000100",)))
    ledger.solved(claim, SolStats("HiGHS", 0.1), LpStats(1, 1, 1, 0.1))
    [claim] = ledger.claim("r1", worker, place=Place("oh", "001", ("000200",)))
    stack = "Traceback (most recent call last):\n  somewhere"
    ledger.record_error(ErrorReport("r1", "node9", 1, "P1 contradicts PCT12", "s4_run_gurobi.py", 51, stack, "oh", "001", "000200"))
    ledger.failed(claim, "P1 contradicts PCT12\nand more", 1)
    ledger.claim("r1", worker, place=Place("oh", "003", ("000100",)), lease_seconds=3600)
    return root


# --- registering -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [["--register", "new1"], ["--reident", "new1", "--register"], ["--reg", "new1"]])
def test_an_experiment_is_registered_and_the_next_step_is_told(tmp_path: Path, how: list[str]) -> None:
    done = run(*how, DAS_S3ROOT=tmp_path)
    assert done.returncode == 0
    assert str(tmp_path / "2010-re" / "new1" / "dist") in done.stdout
    assert "--step1 --step2" in done.stdout
    assert (tmp_path / "2010-re" / "new1" / "dist").is_dir()
    assert run("--reidents", DAS_S3ROOT=tmp_path).stdout.splitlines()[1].split()[:2] == ["new1", "all"]


def test_the_environment_names_the_experiment_to_register_and_the_tables_may_be_chosen(tmp_path: Path) -> None:
    assert run("--register", "--tables", "block", DAS_S3ROOT=tmp_path, REIDENT="env1").returncode == 0
    assert run("--reidents", DAS_S3ROOT=tmp_path).stdout.splitlines()[1].split()[:2] == ["env1", "block"]


@pytest.mark.parametrize("name", ["2010x", "a;drop", "a b", "_a", "a-b", "ä", "a" * 41])
def test_a_name_that_cannot_be_a_reident_is_refused(typed: Run, root: Path, name: str) -> None:
    assert_refused(typed("--register", name, DAS_S3ROOT=root), 2, repr(name), "begins with a letter")


@pytest.mark.parametrize("name", ["r1", "R1"])
def test_a_name_that_exists_is_refused(typed: Run, root: Path, name: str) -> None:
    assert_refused(typed("--register", name, DAS_S3ROOT=root), 2, "REIDENT r1 exists")


def test_files_of_an_earlier_experiment_of_that_name_are_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "2010-re" / "old" / "work" / "oh").mkdir(parents=True)
    done = run("--register", "old", DAS_S3ROOT=tmp_path)
    assert done.returncode == 0
    assert "files of an earlier experiment" in done.stderr


@pytest.mark.parametrize("answer", ["", "yes\n", "R1\n"])
def test_drop_removes_nothing_unless_the_name_is_typed(root: Path, answer: str) -> None:
    done = run("--reident", "r1", "--drop", stdin=answer, DAS_S3ROOT=root)
    assert (done.returncode, done.stdout) == (1, "Nothing was removed.\n")
    assert "Type its name" in done.stderr
    assert run("--reident", "r1", "--status", DAS_S3ROOT=root).returncode == 0


def test_drop_removes_the_tables_and_no_files(tmp_path: Path) -> None:
    run("--register", "r1", DAS_S3ROOT=tmp_path)
    zipped = tmp_path / "2010-re" / "r1" / "dist" / "oh2010.sf1.zip"
    zipped.write_bytes(b"published")
    done = run("--reident", "r1", "--drop", stdin="r1\n", DAS_S3ROOT=tmp_path)
    assert done.returncode == 0
    assert str(zipped.parent.parent) in done.stdout
    assert zipped.read_bytes() == b"published"
    assert_refused(run("--reident", "r1", "--status", DAS_S3ROOT=tmp_path), 5, "not registered", "it has none yet")


def test_without_experiments_the_list_says_how_to_make_one(tmp_path: Path) -> None:
    Ledger(make_engine(sqlite_path=tmp_path / "2010-re" / "dbrecon.sqlite3")).experiments()
    assert "has no experiments yet: make one with --register R" in run("--reidents", DAS_S3ROOT=tmp_path).stdout


READING = (
    ["--status"], ["--status", "--json"], ["--reidents"], ["--errors"], ["--evaluate"], ["--watch"], ["--rescan"],
    ["--rescan", "--dry_run"], ["--dashboard", "--port", "0"], ["--unlock"], ["--retry_quarantined"], ["--drop"],
)  # fmt: skip


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_command_that_makes_no_experiment_makes_nothing_at_a_misspelt_root(
    typed: Run, tmp_path: Path, arguments: list[str]
) -> None:
    done = typed(*arguments, DAS_S3ROOT=tmp_path / "rote", REIDENT="r1")
    assert_refused(done, 5, str(tmp_path / "rote/2010-re/dbrecon.sqlite3"), "--register", "correct DAS_S3ROOT")
    assert list(tmp_path.iterdir()) == []


def test_the_list_of_experiments_tells_how_far_each_is(root: Path) -> None:
    lines = run("--reidents", DAS_S3ROOT=root).stdout.splitlines()
    assert lines[0].split() == ["REIDENT", "TABLES", "CREATED", "(UTC)", "SOLVED/TRACTS", "STATES"]
    assert lines[1].split()[4:] == ["1/4", "oh"]


# --- folders that cannot be written ---------------------------------------------------------------------------------------


def run_read_only(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """./dbrtool.py where the root is mounted read-only: that binds the system's administrator too."""
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", mount, str(root)]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a folder read-only, which this system does not allow")
    command = [*unshare, sys.executable, str(CHECKOUT / "dbrtool.py"), *args]
    env = {"PATH": os.environ["PATH"], "DAS_S3ROOT": str(root), "REIDENT": "r1"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("somebody_writes", [False, True])
@pytest.mark.parametrize(("arguments", "said"), [(["--status", "--json"], '"sol_created": 1'), (["--reidents"], "1/2")])
def test_a_command_that_only_reads_does_so_where_nothing_can_be_written(
    tmp_path: Path, arguments: list[str], said: str, somebody_writes: bool
) -> None:
    engine = make_engine(sqlite_path=tmp_path / "2010-re" / "dbrecon.sqlite3")
    ledger = Ledger(engine)
    ledger.register("r1", "all", "2010_sf1")
    ledger.replace_geography("r1", "oh", geography([TractRow("39", "001", tract, 5) for tract in ("000100", "000200")]))
    [claim] = ledger.claim("r1", Worker("node9", "1-2"))
    ledger.solved(claim, SolStats("HiGHS", 0.1), LpStats(1, 1, 1, 0.1))
    if not somebody_writes:
        engine.dispose()
    assert (tmp_path / "2010-re" / "dbrecon.sqlite3-wal").exists() == somebody_writes
    done = run_read_only(tmp_path, *arguments)
    engine.dispose()
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


def test_a_command_that_writes_is_refused_where_nothing_can_be_written(tmp_path: Path) -> None:
    run("--register", "r1", DAS_S3ROOT=tmp_path)
    done = run_read_only(tmp_path, "--retry_quarantined")
    assert_refused(done, 5, str(tmp_path), "attempt to write a readonly database", "permissions")


# --- wrong commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--status", "--drop"], "--drop and --status cannot be done at once"),
        (["--status", "--step3"], "--status and --step3 cannot be done at once"),
        (["--step3", "--county", "001"], "a county needs its state"),
        (["--step3", "--stusab", "all", "--county", "001"], "a county needs its state"),
        (["--step3", "--stusab", "oh", "--tract", "000100"], "a tract needs its county"),
        (["--step3", "--stusab", "zz"], "'zz' is no state"),
        (["--step1", "--stusab", "zz"], "'zz' is no state"),
        (["--step3", "--stusab", "ca"], "r1 has no state ca (it has oh)"),
        (["--step3", "--stusab", "oh", "--county", "002"], "oh has no county 002: choose from 001, 003"),
        (["--run", "--stusab", "oh", "--county", "2"], "oh has no county 002: choose from 001, 003"),
        (["--step5", "--stusab", "oh", "--county", "002"], "oh has no county 002: choose from 001, 003"),
        (
            ["--step4", "--stusab", "oh", "--county", "003", "--tract", "000100,000700"],
            "no tract 000700: choose from 000100, 000200",
        ),
        (["--step4", "--stusab", "oh", "--county", "003", "--tract", "000100,7"], "'7' is not a tract's six digits"),
        (["--step5", "--stusab", "oh", "--county", "003"], "has tracts that are not solved"),
        (["--retry_quarantined", "--stusab", "oh", "--county", "9"], "oh has no county 009"),
        (["--step1", "--stusab", "oh", "--county", "001"], "do whole states: leave --county out"),
        (["--run", "--stusab", "oh,ca"], "name one, or none for all"),
        (["--run", "--step5"], "leave --step5 out"),
        (["--run", "--force"], "--force goes with steps"),
        (["--drop", "--stusab", "oh"], "--drop takes no --stusab"),
        (
            ["--status", "--stusab", "oh", "--county", "1", "--tract", "000100"],
            "--status shows a state or a county: leave --tract out",
        ),
        (["--status", "--tables", "block"], "--tables is settled when"),
        (["--errors", "--json"], "--json goes with --status, --evaluate, --certainty, --reidentify or --cluster"),
        (["--errors", "0"], "'0' is not a number of 1 or more"),
        (["--step0"], "which states shall be downloaded?"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--st"], "ambiguous option: --st could match"),
        (["--register", "x", "--tables", "some"], "tables some: there is no table 'some'; those of this product: P1, "),
    ],
)
def test_a_wrong_command_is_refused_in_one_sentence(typed: Run, root: Path, arguments: list[str], said: str) -> None:
    assert_refused(typed(*arguments, DAS_S3ROOT=root, REIDENT="r1"), 2, said)


@pytest.mark.parametrize(
    ("option", "of_folder"),
    [
        ("--info", "is a folder; name a file."),
        ("--evaluate", "this folder has no .csv, .csv.gz or .parquet; name the files of true people"),
    ],
)
def test_a_name_that_leads_to_no_file_is_to_be_corrected(typed: Run, root: Path, option: str, of_folder: str) -> None:
    nowhere = str(root / "nowhere.csv")
    done = typed(option, nowhere, DAS_S3ROOT=root, REIDENT="r1")
    assert_refused(done, 3, f"{nowhere}: there is no such file; correct the name.\n")
    assert_refused(typed(option, str(root), DAS_S3ROOT=root, REIDENT="r1"), 3, str(root), f"{of_folder}\n")


def test_a_file_that_is_cut_off_is_damaged_data_and_said_once(typed: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.sol.gz"
    path.write_bytes(gzip.compress(b"# Solution of tract 39059977100\n" * 100)[:-20])
    assert_refused(
        typed("--info", str(path)), 3, f"error: {path} is not a whole gzip file; get a whole copy of it, or make it again.\n"
    )


def test_a_command_that_needs_an_experiment_asks_for_it(root: Path) -> None:
    assert_refused(run("--status", DAS_S3ROOT=root), 2, "--reident", "REIDENT")


def test_an_unknown_experiment_is_refused_with_those_that_exist(root: Path) -> None:
    assert_refused(run("--status", "--reident", "r9", DAS_S3ROOT=root), 5, "r9 is not registered", "it has r1")


def test_without_an_action_the_usage_is_short(root: Path) -> None:
    done = run(DAS_S3ROOT=root, REIDENT="r1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: dbrtool.py")
    assert len(done.stderr.splitlines()) <= 3


def test_help_is_grouped_by_task_with_examples_and_exit_codes() -> None:
    done = run("--help", "all")
    assert done.returncode == 0
    places = [done.stdout.index(f"\n{title}") for title in ("experiments:", "states (", "tracts and", "where:", "watching:")]
    assert places == sorted(places)
    assert done.stdout.index("\nexamples:") < done.stdout.index("\nexit codes:")


def test_doctor_says_what_to_do_about_a_node_that_refuses_the_connection(tmp_path: Path) -> None:
    settings = tmp_path / "config.ini"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        settings.write_text(f"[cluster]\nhosts = {host}\nssh_config = {tmp_path}/none\nrepository = {CHECKOUT}\n")
        done = run("--doctor", DAS_S3ROOT=tmp_path, DBRECON_CONFIG=settings, HOME=tmp_path)
    remedy = "see that it is up and that sshd runs there, or take it out of [cluster] hosts"
    assert f"FAIL  {host}: Connection refused: {remedy}\n" in done.stdout


def test_no_root_is_a_sentence() -> None:
    assert_refused(run("--register", "r1"), 2, "set DAS_S3ROOT")


@pytest.mark.parametrize("arguments", [["--register", "r2"], ["--step1"], ["--run"]])
def test_a_root_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, arguments: list[str]) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("a file where a folder belongs")
    done = run(*arguments, DAS_S3ROOT=in_the_way / "root", REIDENT="r1")
    assert_refused(done, 4, str(in_the_way), "move it away")


def test_half_of_the_settings_for_mysql_is_a_sentence(tmp_path: Path) -> None:
    done = run("--reidents", DAS_S3ROOT=tmp_path, MYSQL_HOST="localhost", MYSQL_PASSWORD=PASSWORD)
    assert_refused(done, 2, "MYSQL_DATABASE and MYSQL_USER not set")
    assert PASSWORD not in done.stderr


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_database_out_of_reach_is_a_sentence_without_the_password(tmp_path: Path, debug: list[str]) -> None:
    mysql = {"MYSQL_HOST": "127.0.0.1", "MYSQL_DATABASE": "d", "MYSQL_USER": "u", "MYSQL_PASSWORD": PASSWORD}
    settings = tmp_path / "config.ini"
    settings.write_text("[db]\nmysql_port = 1\n")
    done = run("--reidents", *debug, DAS_S3ROOT=tmp_path, DBRECON_CONFIG=settings, **mysql)
    assert done.returncode == 5
    assert "see that it runs and can be reached" in done.stderr.splitlines()[-1]
    assert PASSWORD not in done.stdout + done.stderr
    assert debug or done.stderr.count("\n") == 1


def test_run_before_the_steps_that_it_needs_says_which(tmp_path: Path, root: Path) -> None:
    run("--register", "r1", DAS_S3ROOT=tmp_path)
    assert_refused(run("--reident", "r1", "--run", DAS_S3ROOT=tmp_path), 3, "r1 has no states yet", "--step1 --step2")
    done = run("--reident", "r1", "--run", DAS_S3ROOT=root)
    assert_refused(done, 3, "oh lacks the county files of 2 of 2 counties (001, 003)", "--step2 --stusab oh")


def test_a_state_without_zip_says_where_the_zip_belongs(root: Path) -> None:
    done = run("--reident", "r1", "--step1", "--stusab", "az", DAS_S3ROOT=root)
    assert_refused(done, 3, str(root / "2010-re" / "r1" / "dist" / "az2010.sf1.zip"), "Arizona")


# --- status and errors -----------------------------------------------------------------------------------------------

EMPTY_STATUS = Status(
    now=1617825092, completed_states=(), lp_created=72368, lp_remaining=163, lp_in_process=0, lp_hostlocked=0,
    sol_created=72124, sol_remaining=407, sol_ready=244, csv_completed=0, csv_remaining=72531, lps_in_progress=(),
    sols_in_progress=(), lps_past_hour=(), sols_past_hour=(), quarantined=(), quarantined_tracts=0, quarantined_counties=0,
    people=100, people_solved=0, people_quarantined=0, people_per_hour=None, seconds_left=None, at_work=True,
    silent=(),
)  # fmt: skip
MANUAL = """Current Time
   now(): 2021-04-07 19:51:32
----------------------
Completed States:
----------------------
Files created and remaining
   lp_created: 72368
   lp_remaining: 163
   lp_in_process: 0
   lp_hostlocked: 0
   sol_created: 72124
   sol_remaining: 407
   sol_ready: 244
   csv_completed: 0
   csv_remaining: 72531

----------------------
LP files in progress
----------------------
SOLs in progress
----------------------
Number of LP files created in past hour:
----------------------
Number of SOL files created in past hour:
----------------------
"""


def test_status_has_the_manuals_sections_and_names() -> None:
    text = format_status(EMPTY_STATUS).replace("19:51:32 UTC (time_t 1617825092)", "19:51:32")
    assert text.startswith(MANUAL)


def with_status(**changes: object) -> str:
    return format_status(Status(**{name: getattr(EMPTY_STATUS, name) for name in Status.__slots__} | changes), 60)


def test_work_in_progress_is_listed_the_longest_at_work_first() -> None:
    at_work = [InProgress("oh", "059", f"{n:06d}", 4021, "node1", 1617825092 - n) for n in (100, 300, 200)]
    lines = with_status(sols_in_progress=tuple(at_work)).splitlines()
    start = lines.index("SOLs in progress")
    assert [line.split()[2] for line in lines[start + 1 : start + 4]] == ["000300:", "000200:", "000100:"]
    assert "4,021 people, node1, since 5 min 00 s" in lines[start + 1]


def test_long_lists_are_shortened_and_say_so() -> None:
    at_work = tuple(InProgress("oh", "059", f"{n:06d}", 1, "node1", 1) for n in range(96))
    assert "   and 86 more (--verbose shows all)" in with_status(lps_in_progress=at_work).splitlines()


def test_quarantine_is_listed_with_the_first_line_of_its_error_cut_to_the_terminal() -> None:
    long = "tables contradict " + "x" * 90 + "\nmore"
    bad = (Quarantine("oh", "059", "977100", 9, 3, long), Quarantine("oh", "061", "", 9, 3, ""))
    lines = with_status(quarantined=bad, quarantined_tracts=1, quarantined_counties=1).splitlines()
    assert "Quarantined: 2" in lines
    assert lines[lines.index("Quarantined: 2") + 1].startswith("   oh 059 977100: tables contradict xxx")
    assert lines[lines.index("Quarantined: 2") + 2].startswith("   oh 061 county: ")
    assert max(map(len, lines)) == 60


def test_rate_and_time_left_are_told_while_there_is_work() -> None:
    text = with_status(people_solved=25, people_per_hour=1_234_567.0, seconds_left=7500.0)
    assert "   solved: 25 of 100 (25.0 %)\n   rate: 1,234,567 an hour\n   time left: 2 h 05 min" in text


def test_where_nobody_works_no_time_is_left_but_a_sentence() -> None:
    text = with_status(people_solved=25, sol_remaining=3, quarantined_tracts=1, at_work=False)
    assert "nobody is at work on the 2 tracts left: --run or a s" in text
    assert "time left" not in text
    assert "nobody is at work" not in with_status(sol_remaining=1, quarantined_tracts=1, at_work=False)


def test_status_tells_where_every_tract_stands(root: Path) -> None:
    lines = [line.strip() for line in run("--reident", "r1", "--status", DAS_S3ROOT=root).stdout.splitlines()]
    numbers = dict(line.split(": ") for line in lines if line.startswith(("lp_", "sol_", "csv_")))
    assert numbers == {
        "lp_created": "1", "lp_remaining": "3", "lp_in_process": "1", "lp_hostlocked": "0", "sol_created": "1",
        "sol_remaining": "3", "sol_ready": "0", "csv_completed": "0", "csv_remaining": "4",
    }  # fmt: skip
    assert lines[lines.index("LP files in progress") + 1].startswith("oh 003 000100: 7 people, node9, since ")
    assert lines[lines.index("Number of SOL files created in past hour:") + 1] == "node9: 1"
    assert "oh 001 000200: P1 contradicts PCT12" in lines


def test_under_watch_no_line_is_wider_than_the_terminal(root: Path) -> None:
    done = run("--reident", "r1", "--status", DAS_S3ROOT=root, COLUMNS="30")
    assert max(map(len, done.stdout.splitlines())) == 30


def test_status_can_be_read_by_scripts(root: Path) -> None:
    answer = json.loads(run("--reident", "r1", "--status", "--json", DAS_S3ROOT=root).stdout)
    assert (answer["reident"], answer["lp_created"], answer["people"], answer["sols_past_hour"]) == ("r1", 1, 2018, {"node9": 1})
    assert [item["error"] for item in answer["quarantined"]] == ["P1 contradicts PCT12\nand more"]


def test_errors_are_told_with_time_host_place_and_source(root: Path) -> None:
    done = run("--reident", "r1", "--errors", DAS_S3ROOT=root)
    assert " UTC node9 pid 1: r1 oh 001 000200: s4_run_gurobi.py:51 P1 contradicts PCT12" in done.stdout
    assert "Traceback" not in done.stdout
    assert "Traceback" in run("--reident", "r1", "--errors", "5", "--verbose", DAS_S3ROOT=root).stdout


def test_a_path_that_the_terminal_s_encoding_lacks_is_shown_all_the_same(tmp_path: Path) -> None:
    root = tmp_path / "Zählung"
    run("--register", "r1", DAS_S3ROOT=root)
    (root / "2010-re" / "r1" / "dist" / "oh2010.sf1.zip").write_bytes(b"published")
    done = run("--reident", "r1", "--ls", DAS_S3ROOT=root, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "1 file, 9 bytes\n")
    assert "Z\\xe4hlung/2010-re/r1/dist/oh2010.sf1.zip" in done.stdout


def test_the_status_of_a_county_counts_its_tracts_alone(root: Path) -> None:
    whole = json.loads(run("--reident", "r1", "--status", "--json", DAS_S3ROOT=root).stdout)
    parts = [
        json.loads(run("--reident", "r1", "--status", "--json", "oh", county, DAS_S3ROOT=root).stdout) for county in ("1", "003")
    ]
    for name in ("lp_created", "sol_created", "sol_remaining", "csv_remaining", "people", "people_solved", "quarantined_tracts"):
        assert sum(part[name] for part in parts) == whole[name]
    assert [(part["stusab"], part["county"]) for part in parts] == [("oh", "001"), ("oh", "003")]
    assert parts[0]["people"] not in (0, whole["people"])
    shown = run("--reident", "r1", "--status", "--stusab", "oh", "--county", "001", DAS_S3ROOT=root).stdout
    assert shown.startswith("Place\n   oh 001 (Ohio)\n---")


# --- the interpreter -------------------------------------------------------------------------------------------------


def checkout_with_a_script(folder: Path) -> Path:
    """A checkout of nothing but dbrecon/ctools/venv.py and a script that imports it first."""
    package = folder / "dbrecon" / "ctools"
    package.mkdir(parents=True)
    (folder / "dbrecon" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "venv.py").write_bytes((CHECKOUT / "dbrecon" / "ctools" / "venv.py").read_bytes())
    script = folder / "tool.py"
    script.write_text("import dbrecon.ctools.venv\nprint('reached')\n")
    return script


def make_venv(folder: Path) -> None:
    """A virtual environment whose interpreter tells what it was to run."""
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho .venv runs: "$@"\n')
    python.chmod(0o755)


def test_a_bare_python_starts_the_script_again_in_the_virtual_environment(tmp_path: Path) -> None:
    script = checkout_with_a_script(tmp_path)
    make_venv(tmp_path)
    done = subprocess.run([sys.executable, "-S", script, "--status", "a b"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f".venv runs: -S {script} --status a b\n")


def test_a_bare_python_without_virtual_environment_says_what_makes_it(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-S", checkout_with_a_script(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "sqlalchemy" in done.stderr
    assert "make setup" in done.stderr
    assert done.stderr.count("\n") == 1


BENCHES = sorted(  # demo.py is for make
    path.name for path in (CHECKOUT / "bench").glob("*.py") if "__main__" in path.read_text("utf-8") and path.name != "demo.py"
)


@pytest.mark.parametrize("name", BENCHES)
def test_a_script_of_bench_typed_outside_the_virtual_environment_is_started_there(tmp_path: Path, name: str) -> None:
    checkout_with_a_script(tmp_path)
    make_venv(tmp_path)
    script = tmp_path / "bench" / name
    script.parent.mkdir()
    script.write_bytes((CHECKOUT / "bench" / name).read_bytes())
    done = subprocess.run([sys.executable, "-S", script, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f".venv runs: -S {script} --help\n"), done.stderr
    assert os.access(CHECKOUT / "bench" / name, os.X_OK)


def test_a_python_with_the_packages_goes_on(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, checkout_with_a_script(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "reached\n")
