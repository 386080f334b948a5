"""Talking to a running scheduler: what is typed is answered, by nobody but our own, and whoever does not answer is named."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dbrecon.ctools.database import make_engine
from dbrecon.ctools.locks import NodeLock, node_lock_path
from dbrecon.errors import DBReconError, StorageError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import CountyDigests, Quarantine, Worker
from dbrecon.node.assignment import Assignment, Outcome
from dbrecon.node.control import ControlServer, NotRunning, control_path, tell
from dbrecon.node.daemon import exit_code, summary
from dbrecon.node.machine import Node
from dbrecon.node.source import Experiments
from dbrecon.settings import Config
from tests.node_world import ALL, SETTINGS, R, ledger_with
from tests.paths import CHECKOUT
from tests.waiting import wait_for


@pytest.fixture(autouse=True)
def _own_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A name of this test's own, so that schedulers of this machine are not spoken to."""
    monkeypatch.setenv("DBRECON_HOSTNAME", f"test-{os.getpid()}-{time.monotonic_ns()}")
    paths = (control_path(), node_lock_path("scheduler"))
    yield
    for path in paths:
        Path(path).unlink(missing_ok=True)


def test_a_command_is_answered(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with ControlServer(path, {"list": lambda: "one\ntwo"}):
        assert tell("list", path) == "one\ntwo\n"
        assert tell("list", path) == "one\ntwo\n"


def test_only_this_user_may_talk(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with ControlServer(str(path), {}):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_unknown_command_is_answered_with_those_there_are(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with ControlServer(path, {"list": lambda: "", "stop": lambda: ""}):
        assert tell("dance", path) == "unknown command 'dance': one of list, stop\n"


def test_one_who_says_nothing_keeps_nobody_else_waiting_for_long(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with ControlServer(path, {"list": lambda: "here"}), socket.socket(socket.AF_UNIX) as silent:
        silent.connect(path)
        assert tell("list", path) == "here\n"


def test_the_socket_of_a_dead_one_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with ControlServer(path, {"list": lambda: "alive"}):
        assert tell("list", path) == "alive\n"
    assert not os.path.exists(path)


def test_a_file_that_is_no_socket_is_left_alone_and_named(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(StorageError, match=re.escape(str(path))):
        ControlServer(str(path), {})
    assert path.read_text() == "mine"


def test_a_socket_in_a_folder_that_is_open_to_others_is_neither_made_nor_spoken_to(tmp_path: Path) -> None:
    """Somebody else may listen there in the scheduler's place."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    path = str(tmp_path / "shared" / "s")
    with pytest.raises(StorageError, match="is open to other users"):
        ControlServer(path, {})
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(StorageError, match="is open to other users"):
            tell("list", path)


def test_a_home_whose_path_is_longer_than_a_sockets_name_may_be_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / ".dbrecon" / "s"
    with ControlServer(str(path), {"list": lambda: "here"}):
        assert tell("list", str(path)) == "here\n"


def test_without_a_scheduler_one_is_told_so() -> None:
    with pytest.raises(NotRunning, match="no scheduler of yours runs on this node"):
        tell("list")


def test_one_that_does_not_answer_is_named_by_its_process() -> None:
    lock = NodeLock(node_lock_path("scheduler"))
    assert lock.acquire() is None
    with lock, pytest.raises(DBReconError, match=rf"the scheduler with pid {os.getpid()}, since .* does not answer"):
        tell("list")


@pytest.mark.parametrize("name", ["a/b", "-x", "a b", "x" * 101])
def test_a_host_name_that_cannot_be_one_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("DBRECON_HOSTNAME", name)
    with pytest.raises(UsageError, match="DBRECON_HOSTNAME"):
        Worker.here()


# -- a node ----------------------------------------------------------------------------------------------------------------


@contextmanager
def running(root: Path, work: str = "tests.worker_tasks:serve_slowly") -> Iterator[tuple[Node, Ledger, list[Outcome]]]:
    """A node at two of three tracts, which take long."""
    engine = make_engine(sqlite_path=str(root / "ledger.sqlite3"))
    ledger = ledger_with(engine, ["000100", "000200", "000300"])
    (root / "config.ini").write_text(SETTINGS.replace("claim_tracts = 3", "claim_tracts = 1"), encoding="utf-8")
    config = Config.load(str(root / "config.ini"), env={"DAS_S3ROOT": str(root)})
    made = Node(ledger, lambda: config, Experiments(lambda: [Experiment.make(R, config)], alone=True), work, Assignment(ALL))
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(made.run()))
    thread.start()
    try:
        wait_for(lambda: made.commands()["list"]().count("people") == 2, "two tracts in work")
        yield made, Ledger(engine), outcomes
    finally:
        made.halt()
        thread.join()
        engine.dispose()


def test_the_operator_sees_what_runs_and_how(tmp_path: Path) -> None:
    with running(tmp_path) as (node, ledger, _):
        commands = node.commands()
        lines = commands["list"]().splitlines()
        assert [line.split()[1:6] for line in lines] == [[R, "oh", "001", "000300", "300"], [R, "oh", "001", "000200", "200"]]
        pids = {line.split()[0] for line in lines}
        table = [line.split() for line in commands["ps"]().splitlines()]
        assert table[0] == ["pid", "state", "cpu", "s", "MiB"]
        assert pids | {str(os.getpid())} == {row[0] for row in table[1:]}
        assert f"pid {os.getpid()}, up " in commands["uptime"]()
        assert "workers: 2 of 2 busy" in commands["uptime"]()
        wait_for(lambda: len(ledger.sysload()) == 1, "a report of the node")
        [report] = ledger.sysload()
        assert report.load.running == 2
        assert 0 < report.load.free_memory_mib < report.load.total_memory_mib


def test_stop_takes_nothing_new_and_halt_puts_back(tmp_path: Path) -> None:
    with running(tmp_path) as (node, ledger, outcomes):
        assert node.commands()["stop"]() == "stopping: 2 tracts in work are finished first"
        time.sleep(1.2)
        assert outcomes == [], "the tracts in work are not finished yet"
        assert node.commands()["halt"]() == "halting: 2 tracts in work are put back"
        wait_for(lambda: bool(outcomes), "the end")
        assert (outcomes[0].halted, outcomes[0].put_back, ledger.claimants(R)) == (True, 2, [])


def test_what_is_in_work_when_it_is_told_to_stop_is_done_and_the_rest_is_told(tmp_path: Path) -> None:
    with running(tmp_path, "tests.worker_tasks:serve_when_told") as (node, _, outcomes):
        assert node.stop() == "stopping: 2 tracts in work are finished first"
        (tmp_path / "go").touch()
        wait_for(lambda: bool(outcomes), "the end")
        text = summary(outcomes[0])
        assert text.startswith("2 tracts solved and checked (500 people); told to stop, 1 tract is left; ")
        assert exit_code(outcomes[0]) == 0


def test_told_to_stop_it_leaves_with_0_though_some_tracts_are_quarantined_if_others_are_left() -> None:
    bad = ("r1", Quarantine("oh", "001", "000100", 1200, 3, "no"))
    assert exit_code(Outcome(quarantined=[bad])) == 10
    assert exit_code(Outcome(quarantined=[bad], ended="told to stop", left=(5, 0))) == 0
    assert exit_code(Outcome(quarantined=[bad], ended="told to stop")) == 10, "nothing but that is left"


# -- scheduler.py ----------------------------------------------------------------------------------------------------------


def scheduler(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(CHECKOUT / "scheduler.py"), "--reident", R, *arguments]


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A scheduler that waits for what another host has in work."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "DBRECON_HOSTNAME") if name in os.environ}
    env = kept | {"DAS_S3ROOT": str(tmp_path)}
    engine: Engine = make_engine(sqlite_path=str(tmp_path / "2010-re" / "dbrecon.sqlite3"))
    ledger = ledger_with(engine, ["000100"])
    experiment = Experiment.make(R, Config.load(env=env))
    for path in (experiment.block_csv("oh", "001"), experiment.tract_csv("oh", "001")):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).touch()
    ledger.enter_county_files(R, "oh", "001", CountyDigests(None, "", "", 0, 0), [])
    ledger.claim(R, Worker("elsewhere", "1-1"), lease_seconds=3600)
    engine.dispose()
    with subprocess.Popen(scheduler(tmp_path), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            wait_for(lambda: os.path.exists(control_path()) or process.poll() is not None, "the scheduler")
            yield process, env
        finally:
            process.kill()


def test_a_scheduler_says_what_it_works_on_and_for_whom_it_waits(waiting: tuple[subprocess.Popen[str], dict[str, str]]) -> None:
    process, env = waiting
    assert process.stdout is not None
    begins, waits = process.stdout.readline(), process.stdout.readline()
    assert f"INFO {env['DBRECON_HOSTNAME']} works on {R}: steps 3, 4, 5; " in begins
    assert waits.endswith(f"INFO waiting for 1 tract of {R} that elsewhere is at work on\n")


def test_a_second_scheduler_leaves_and_the_first_is_told_to_stop(
    waiting: tuple[subprocess.Popen[str], dict[str, str]], tmp_path: Path
) -> None:
    process, env = waiting
    second = subprocess.run(scheduler(tmp_path), env=env, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert f"a scheduler runs on this node already: pid {process.pid}, since 20" in second.stdout
    quiet = subprocess.run(scheduler(tmp_path, "--quiet"), env=env, capture_output=True, text=True, check=False)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", ""), "cron would mail or log it every minute"
    assert tell("list") == "nothing is in work\n"
    output = subprocess.run(scheduler(tmp_path, "--tell", "stop"), env=env, capture_output=True, text=True, check=False)
    assert (output.returncode, output.stdout) == (0, "stopping: nothing is in work\n")
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "nothing was done; told to stop, 1 tract is left; " in said
    assert not os.path.exists(control_path())
