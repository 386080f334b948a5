#!/usr/bin/env python3
"""Several schedulers on one database, while workers, schedulers and the database server die at random: everything is done once.

    make soak                                      some minutes
    bench/soak.py --seconds 20 --people 60000 --seed 7
    make soak SERVER=mysql                         the same on MySQL's own server
    make soak SERVER=sqlite                        on the one file that a machine's schedulers share, which nothing can kill

Each scheduler is a node of its own ($DBRECON_HOSTNAME), with a private server (MariaDB's, or MySQL's own) between them, and is
started again a moment after it has ended, as cron would. From a seed come SIGKILL to workers, SIGKILL, SIGTERM, SIGINT and long
SIGSTOP to schedulers, SIGKILL and restart of the database server, and spells in which it is read-only or takes no connections.
When all is done: every tract was solved once, counting the updates; every county was written once; every file is whole; the people
are byte for byte those of an undisturbed run; nothing is claimed, and no process is left.
"""

import argparse
import gzip
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
import psutil
import pymysql

from bench.make_state import make_state
from bench.talk import add_common, start
from dbrecon.ctools.cli import run_command
from dbrecon.ctools.database import make_engine
from dbrecon.errors import VerificationError
from dbrecon.ledger.ledger import SOLVED, Ledger
from dbrecon.recon.study.synthetic import plan_state
from dbrecon.states import STATES
from tests.helpers import forget_host
from tests.mysql_server import MysqlServer
from tests.ports import free_port
from tests.servers import MariaServer

log = logging.getLogger(__name__)

HERE = Path(__file__).resolve().parent.parent


class SqliteFile:
    """In the place of a server: the file below the root, which every scheduler of this machine opens."""

    user = ""

    def __init__(self, folder: Path, _port: int) -> None:
        self.path = folder.parent / "soak" / "2010-re" / "dbrecon.sqlite3"

    def install(self) -> None:
        """Nothing is to be installed, started, made or stopped."""

    start = make_user = stop = install

    def fresh_database(self) -> str:
        """Return the name of the only schema there is."""
        return "main"

    def settings(self, _database: str) -> dict[str, str]:
        """No server: SQLite below the root."""
        return {}

    def execute(self, query: str) -> list[tuple[object, ...]]:
        """Run a query; return its rows."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()


SERVERS: dict[str, Any] = {"mariadb": MariaServer, "mysql": MysqlServer, "sqlite": SqliteFile}
REIDENT, STUSAB = "soak", "de"
LEASE_SECONDS = 4
SETTINGS = f"""[run]
max_lp = 1
claim_tracts = 3
lease_seconds = {LEASE_SECONDS}
heartbeat_seconds = 1
max_attempts = 100
retry_seconds = 0
"""
RESTART_SECONDS = (0.2, 2.0)
PAUSE_SECONDS = (0.5, 1.6 * LEASE_SECONDS)
AWAY_SECONDS = (0.1, 2.0)
BETWEEN_FAULTS_SECONDS = (0.05, 0.7)
END_SECONDS = 120.0
EXPECTED_ENDS = {0, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}
"""Done, halted, told to leave before it had begun, or killed. Anything else is a scheduler's own mistake."""


@dataclass
class SoakNode:
    """A scheduler that is started again after it ended; ``paused_until`` while it is stopped by SIGSTOP."""

    host: str
    env: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    start_at: float = 0.0
    log_before: int = 0
    paused_until: float | None = None
    codes: "Counter[int]" = field(default_factory=Counter)

    def tend(self, rng: random.Random, may_start: bool) -> None:
        """Do what cron and time do: start it when it is due, wake it when its pause is over."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            self.codes[self.process.returncode] += 1
            self.process, self.paused_until = None, None
            self.start_at = now + rng.uniform(*RESTART_SECONDS)
        if self.process is None and may_start and now >= self.start_at:
            with open(self.log, "ab") as log_file:
                self.log_before = log_file.tell()
                command = [sys.executable, "scheduler.py", "--reident", REIDENT]
                self.process = subprocess.Popen(command, cwd=HERE, env=self.env, stdout=log_file, stderr=log_file)
        if self.process is not None and self.paused_until is not None and now >= self.paused_until:
            self.process.send_signal(signal.SIGCONT)
            self.paused_until = None

    def signal(self, number: int) -> bool:
        """Send a signal to the scheduler; return False if there is none."""
        if self.process is None:
            return False
        self.process.send_signal(number)
        return True

    def interrupt(self) -> bool:
        """Ctrl-C for the scheduler, once it has said something: Python itself does not leave in order before it has begun."""
        return self.log.exists() and self.log.stat().st_size > self.log_before and self.signal(signal.SIGINT)

    def workers(self) -> list[psutil.Process]:
        """List the worker processes and their common ancestor."""
        if self.process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []


class Soak:
    """A soak in ``folder``; ``rng`` decides all."""

    def __init__(self, folder: Path, rng: random.Random, nodes: int, server: str) -> None:
        self.folder, self.rng = folder, rng
        self.server = SERVERS[server](folder / "server", free_port())
        self.database = ""
        self.faults: Counter[str] = Counter()
        self.root = folder / "soak"
        (folder / "server").mkdir()
        (folder / "config.ini").write_text(SETTINGS, encoding="utf-8")
        self.server.install()
        self.server.start()
        self.server.make_user()
        self.database = self.server.fresh_database()
        self.env = _bare_environment(folder) | self.server.settings(self.database) | {"DAS_S3ROOT": str(self.root)}
        self.nodes = [
            SoakNode(host, self.env | {"DBRECON_HOSTNAME": host}, folder / f"{host}.log")
            for host in (f"soak{os.getpid()}-{number}" for number in range(1, nodes + 1))
        ]
        self.seen: dict[int, psutil.Process] = {}
        self._mend: list[tuple[float, Callable[[], object]]] = []

    # -- faults -----------------------------------------------------------------------------------------------------

    def kill_worker(self) -> bool:
        """SIGKILL to a process below a scheduler."""
        workers = self.rng.choice(self.nodes).workers()
        if workers:
            with suppress(psutil.NoSuchProcess):
                self.rng.choice(workers).kill()
        return bool(workers)

    def kill_scheduler(self) -> bool:
        """SIGKILL to a scheduler."""
        return self.rng.choice(self.nodes).signal(signal.SIGKILL)

    def stop_scheduler(self) -> bool:
        """SIGTERM to a scheduler."""
        return self.rng.choice(self.nodes).signal(signal.SIGTERM)

    def halt_scheduler(self) -> bool:
        """SIGINT to a scheduler."""
        return self.rng.choice(self.nodes).interrupt()

    def pause_scheduler(self) -> bool:
        """SIGSTOP to a scheduler, mostly for longer than its leases; its workers go on."""
        node = self.rng.choice(self.nodes)
        if node.paused_until is not None or not node.signal(signal.SIGSTOP):
            return False
        node.paused_until = time.monotonic() + self.rng.uniform(*PAUSE_SECONDS)
        return True

    def kill_database(self) -> bool:
        """SIGKILL to the database server, which is started again a moment later."""
        self._mend_all()
        self.server.kill()
        time.sleep(self.rng.uniform(*AWAY_SECONDS))
        self.server.start()
        return True

    def make_read_only(self) -> bool:
        """Have the database take no writes for a moment, as after a failover."""
        return self._for_a_while("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0")

    def drop_connections(self) -> bool:
        """Cut all connections of the schedulers."""
        query = f"SELECT id FROM information_schema.processlist WHERE user = '{self.server.user}'"
        ids = [row[0] for row in self.server.execute(query)]
        for number in ids:
            with suppress(pymysql.err.OperationalError):  # it went by itself
                self.server.execute(f"KILL {number}")
        return bool(ids)

    def _for_a_while(self, begin: str, end: str) -> bool:
        self.server.execute(begin)
        self._mend.append((time.monotonic() + self.rng.uniform(*AWAY_SECONDS), lambda: self.server.execute(end)))
        return True

    def _mend_all(self, due: float = float("inf")) -> None:
        for item in [waiting for waiting in self._mend if waiting[0] <= due]:
            item[1]()
            self._mend.remove(item)

    # -- the course of it -------------------------------------------------------------------------------------------

    def run(self, seconds: float, ledger: Ledger) -> None:
        """Faults for ``seconds``, or as long as there is work; then peace until all is done."""
        faults = [
            *[self.kill_worker] * 4, *[self.kill_scheduler] * 4, *[self.pause_scheduler] * 2, self.stop_scheduler,
            self.halt_scheduler,
            *([self.kill_database, self.make_read_only, self.drop_connections] if self.server.user else []),
        ]  # fmt: skip
        begin = next_fault = time.monotonic()
        while True:
            now = time.monotonic()
            troubled = now - begin < seconds
            self._mend_all(now if troubled else float("inf"))
            done = self.all_done(ledger)
            for node in self.nodes:
                node.tend(self.rng, may_start=not done)
                self.seen.update({process.pid: process for process in node.workers()})
            if done and all(node.process is None for node in self.nodes):
                return
            if troubled and now >= next_fault:
                fault = self.rng.choice(faults)
                self.faults[fault.__name__] += fault()
                next_fault = time.monotonic() + self.rng.uniform(*BETWEEN_FAULTS_SECONDS)
            if now - begin > seconds + END_SECONDS:
                raise VerificationError(f"not done {END_SECONDS:.0f} s after the last fault: see {self.folder}")
            time.sleep(0.05)

    def all_done(self, ledger: Ledger) -> bool:
        """Return whether nothing is left."""
        return ledger.work_left(REIDENT).nothing_left

    def end(self) -> None:
        """End whatever still runs."""
        for node in self.nodes:
            if node.process is not None:
                node.signal(signal.SIGCONT)
                node.process.kill()
                node.process.wait()
            forget_host(node.host)
        self.server.stop()

    # -- what must be true at the end -------------------------------------------------------------------------------

    def verify(self, ledger: Ledger, reference: Path) -> list[str]:
        """Say what is wrong, in sentences."""
        tracts = [tract for tract in ledger.tract_states(REIDENT, STUSAB) if tract.pop]
        wrong = [f"{tract.county} {tract.tract} is {tract.status}: {tract.error}" for tract in tracts if tract.status != SOLVED]
        wrong += [f"{tract.county} {tract.tract} was solved {tract.sol_count} times" for tract in tracts if tract.sol_count != 1]
        wrong += [f"{tract.county} {tract.tract}: {tract.lp_count} LP files counted" for tract in tracts if tract.lp_count != 1]
        counties = self.server.execute(f"SELECT county, csv_count FROM {self.database}.{REIDENT}_counties WHERE tracts > 0")
        wrong += [f"county {county} was written {count} times" for county, count in counties if count != 1]
        wrong += [f"{claimant.worker} still holds {claimant.tracts} tracts" for claimant in ledger.claimants(REIDENT)]
        ends = {code for node in self.nodes for code in node.codes} - EXPECTED_ENDS
        wrong += [f"a scheduler left with {code}: see its log" for code in sorted(ends)]
        wrong += [f"process {process.pid} is left: {process.cmdline()}" for process in self.seen.values() if _lives(process)]
        return wrong + _differing(self.root / "2010-re" / REIDENT / "work", reference / "2010-re" / REIDENT / "work")


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        process.wait(10)
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _differing(work: Path, reference: Path) -> list[str]:
    """Return files of one tree that are not in the other, or differ once they are unpacked; a broken one differs."""
    wrong = []
    existing = {path.relative_to(work) for path in work.rglob("*") if path.is_file()}
    expected = {path.relative_to(reference) for path in reference.rglob("*") if path.is_file()}
    wrong += [f"{path} is missing" for path in sorted(expected - existing)]
    wrong += [f"{path} is left over" for path in sorted(existing - expected) if not path.name.startswith(".")]
    for path in sorted(existing & expected):
        try:
            if _content(work / path) != _content(reference / path):
                wrong.append(f"{path} differs")
        except (OSError, EOFError) as error:
            wrong.append(f"{path} is broken: {error}")
    return wrong


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _bare_environment(folder: Path) -> dict[str, str]:
    """Return this environment without what leads to another experiment."""
    ours = ("MYSQL_", "DBRECON_", "DAS_", "REIDENT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"DBRECON_CONFIG": str(folder / "config.ini")}


def prepare(zip_path: Path, env: dict[str, str]) -> None:
    """Run steps 0 to 2 of the state under the root of ``env``."""
    root = Path(env["DAS_S3ROOT"])
    dist = root / "2010-re" / REIDENT / "dist"
    dist.mkdir(parents=True)
    shutil.copy(zip_path, dist)
    _do(env, "--register", REIDENT)
    _do(env, "--reident", REIDENT, "--step1", "--step2", "--stusab", STUSAB)


def _do(env: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "dbrtool.py", "-q", *arguments]
    done = subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VerificationError(f"{' '.join(command)} left with {done.returncode}: {done.stderr[-2000:]}")


def soak(folder: Path, seconds: float, people: int, seed: int, nodes: int, server: str) -> None:
    """One soak in an empty folder. VerificationError, naming what is wrong, if something is."""
    started = time.monotonic()
    zip_path = folder / f"{STUSAB}2010.sf1.zip"
    make_state(plan_state(STUSAB, STATES[STUSAB].fips, people, seed), str(zip_path), None)
    peace = folder / "peace"
    course = Soak(folder, random.Random(seed), nodes, server)
    try:
        prepare(zip_path, course.env)
        undisturbed = _bare_environment(folder) | {"DAS_S3ROOT": str(peace)}
        prepare(zip_path, undisturbed)
        _do(undisturbed, "--reident", REIDENT, "--run")
        settings = {name.lower(): value for name, value in course.server.settings(course.database).items()}
        engine = make_engine(**{"sqlite_path": str(course.root / "2010-re" / "dbrecon.sqlite3"), **settings})
        ledger = Ledger(engine, patience=60.0)
        begin = time.monotonic()
        log.info("ready after %.0f s; the schedulers begin", begin - started)
        course.run(seconds, ledger)
        took = time.monotonic() - begin
        log.info("done after %.0f s; now everything is checked", time.monotonic() - started)
        wrong = course.verify(ledger, peace)
        tracts = sum(tract.pop > 0 for tract in ledger.tract_states(REIDENT, STUSAB))
        engine.dispose()
    finally:
        course.end()
    faults = ", ".join(f"{name} {count}" for name, count in sorted(course.faults.items()))
    codes: Counter[int] = sum((node.codes for node in course.nodes), Counter())
    print(f"seed {seed}: {tracts} tracts by {nodes} schedulers in {took:.0f} s; faults: {faults}; schedulers' ends: {dict(codes)}")
    if wrong:
        raise VerificationError(f"soak with seed {seed}: {len(wrong)} things are wrong: {'; '.join(wrong[:10])}")


def main() -> int:
    """Read the command line and run the soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=150.0, help="how long there are faults (default %(default)s)")
    parser.add_argument("--people", type=int, default=1_200_000, help="in the synthetic state (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the state and the faults (default %(default)s)")
    parser.add_argument("--nodes", type=int, default=4, help="schedulers (default %(default)s)")
    parser.add_argument("--server", choices=sorted(SERVERS), default="mariadb", help="the database (default %(default)s)")
    parser.add_argument("--keep", help="an empty folder for all files, which are kept")
    add_common(parser)
    args = parser.parse_args()
    start(args)
    if args.keep:
        os.makedirs(args.keep, exist_ok=True)
        soak(Path(args.keep).resolve(), args.seconds, args.people, args.seed, args.nodes, args.server)
        return 0
    with tempfile.TemporaryDirectory(prefix="dbr") as folder:
        soak(Path(folder), args.seconds, args.people, args.seed, args.nodes, args.server)
    return 0


if __name__ == "__main__":
    run_command(main)
