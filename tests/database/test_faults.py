"""The database goes away, and nodes stand still: work goes on afterwards, and nothing is marked twice or lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import Engine

from dbrecon.ctools.database import make_engine
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import SysLoad
from dbrecon.node.assignment import Assignment, Outcome
from dbrecon.node.machine import Node
from dbrecon.node.source import Experiments
from dbrecon.settings import Config
from tests.node_world import ALL, SETTINGS, R, ledger_with
from tests.paths import CHECKOUT
from tests.servers import MariaServer
from tests.waiting import wait_for

LEASE_SECONDS = 2
AWAY_SECONDS = 2.5
STEADILY = "tests.worker_tasks:serve_steadily"
NODE = """
import sys
from tests.database.test_faults import node_of
from dbrecon.ctools.database import make_engine
outcome = node_of(make_engine(sqlite_path=sys.argv[1]), sys.argv[2]).run()
print(outcome.solved)
"""

pytestmark = pytest.mark.mariadb


def node_of(engine: Engine, root: str) -> Node:
    """A node with a lease shorter than the troubles here, that waits a minute for its database."""
    ini = Path(root) / "config.ini"
    text = SETTINGS.replace("lease_seconds = 60", f"lease_seconds = {LEASE_SECONDS}").replace("max_lp = 2", "max_lp = 1")
    ini.write_text(text, encoding="utf-8")
    config = Config.load(str(ini), env={"DAS_S3ROOT": root})
    experiments = Experiments(lambda: [Experiment.make(R, config)], alone=True)
    return Node(Ledger(engine, patience=60), lambda: config, experiments, STEADILY, Assignment(ALL))


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.mysql)])
def server(request: pytest.FixtureRequest) -> MariaServer:
    """MariaDB's server, and MySQL's own."""
    found: MariaServer = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def server_env(server: MariaServer) -> dict[str, str]:
    """MYSQL_HOST and its partners, for a fresh database there."""
    return server.settings(server.fresh_database())


def restart(server: MariaServer) -> None:
    server.kill()
    time.sleep(AWAY_SECONDS)
    server.start()


def write_nothing(server: MariaServer) -> None:
    server.execute("SET GLOBAL read_only = 1")
    try:
        time.sleep(AWAY_SECONDS)
    finally:
        server.execute("SET GLOBAL read_only = 0")


def be_full(server: MariaServer) -> None:
    """All connections are taken by others, and ours are cut."""
    before = server.execute("SELECT @@max_connections")[0][0]
    server.execute("SET GLOBAL max_connections = 10")
    ours = server.execute(f"SELECT id FROM information_schema.processlist WHERE user = '{server.user}'")
    with ExitStack() as stack:
        stack.callback(server.execute, f"SET GLOBAL max_connections = {before}")
        for row in ours:
            with suppress(pymysql.err.OperationalError):  # it has gone meanwhile
                server.execute(f"KILL {row[0]}")
        end = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < end:
            try:
                stack.enter_context(pymysql.connect(host="127.0.0.1", port=server.port, user=server.user, password=server.password))
            except pymysql.err.OperationalError:
                time.sleep(0.1)


@pytest.fixture
def two_nodes(server_env: dict[str, str], tmp_path: Path) -> Iterator[tuple[Ledger, Callable[[], list[Outcome]]]]:
    """Two nodes at work on ten tracts; the function waits for both, and gives what they did."""
    settings = {name.lower(): value for name, value in server_env.items()}
    engines = [make_engine(sqlite_path="", **settings) for _ in range(3)]
    ledger = ledger_with(engines[2], [f"{i:06d}" for i in range(100, 106)])
    outcomes: list[Outcome] = []
    nodes = [node_of(engine, str(tmp_path)) for engine in engines[:2]]
    threads = [threading.Thread(target=lambda node=node: outcomes.append(node.run())) for node in nodes]

    def wait() -> list[Outcome]:
        for thread in threads:
            thread.join(60)
        return outcomes

    for thread in threads:
        thread.start()
    try:
        yield ledger, wait
    finally:
        for node in nodes:
            node.halt()
        wait()
        for engine in engines:
            engine.dispose()


@pytest.mark.parametrize("trouble", [restart, write_nothing, be_full])
def test_a_database_that_is_away_for_longer_than_a_lease_is_waited_for(
    two_nodes: tuple[Ledger, Callable[[], list[Outcome]]], server: MariaServer, trouble: Callable[[MariaServer], None]
) -> None:
    ledger, wait = two_nodes
    wait_for(lambda: any(state.sol_count for state in ledger.tract_states(R, "oh")), "the first solution")
    trouble(server)
    outcomes = wait()
    states = ledger.tract_states(R, "oh")
    assert [(state.status, state.attempts, state.lp_count, state.sol_count) for state in states] == [("solved", 0, 1, 1)] * 6
    assert sum(outcome.solved for outcome in outcomes) <= 6, "the answer to a commit may be lost, but none is counted twice"
    assert sum(outcome.counties for outcome in outcomes) == 1
    assert ledger.claimants(R) == []


def test_a_node_uses_one_connection(two_nodes: tuple[Ledger, Callable[[], list[Outcome]]], server: MariaServer) -> None:
    count = f"SELECT count(*) FROM information_schema.processlist WHERE user = '{server.user}'"
    most = 0
    for _ in range(15):
        most = max(most, server.execute(count)[0][0])
        time.sleep(0.1)
    assert most <= 3, "two nodes, and this test's own ledger"


def test_two_processes_of_a_node_may_report_in_the_same_second(server_env: dict[str, str]) -> None:
    """A scheduler and a --run beside it, say."""
    settings = {name.lower(): value for name, value in server_env.items()}
    engines = [make_engine(sqlite_path="", **settings) for _ in range(2)]
    done: list[int] = []

    def report(engine: Engine) -> None:
        for second in range(100):
            Ledger(engine, clock=partial(int, 1_600_000_000 + second)).record_sysload(SysLoad("ann", 1.0, 1.0, 1.0, 1, 2, 0))
        done.append(100)

    threads = [threading.Thread(target=report, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [100, 100]
    for engine in engines:
        engine.dispose()


def test_a_halt_does_not_wait_for_a_database_that_is_away(
    server_env: dict[str, str], server: MariaServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The node's patience is a minute, which its thread would spend here."""
    engine = make_engine(sqlite_path="", **{name.lower(): value for name, value in server_env.items()})
    ledger = ledger_with(engine, [f"{i:06d}" for i in range(100, 120)])
    node = node_of(engine, str(tmp_path))
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(node.run()))
    thread.start()
    wait_for(lambda: bool(ledger.claimants(R)), "a claim")
    server.kill()
    try:
        wait_for(lambda: any("is away" in line for line in caplog.messages), "the loss of the database")
        node.halt()
        thread.join(20)
        assert [outcome.halted for outcome in outcomes] == [True]
    finally:
        server.start()
        thread.join()
        engine.dispose()


def test_a_scheduler_that_stood_still_for_longer_than_its_lease_harms_nobody(tmp_path: Path) -> None:
    database = str(tmp_path / "ledger.sqlite3")
    engine = make_engine(sqlite_path=database)
    ledger = ledger_with(engine, ["000100", "000200", "000300"])
    command = [sys.executable, "-c", NODE, database, str(tmp_path)]
    env = dict(os.environ) | {"DBRECON_HOSTNAME": "sleeper", "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(command, env=env, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as sleeper:
        try:
            wait_for(lambda: bool(ledger.claimants(R)), "a claim")
            sleeper.send_signal(signal.SIGSTOP)
            outcome = node_of(engine, str(tmp_path)).run()
        finally:
            sleeper.send_signal(signal.SIGCONT)
        output, _ = sleeper.communicate(timeout=30)
    assert sleeper.returncode == 0
    assert outcome.solved + int(output) == 3
    assert outcome.solved >= 1
    assert [state.sol_count for state in ledger.tract_states(R, "oh")] == [1, 1, 1]
    engine.dispose()
