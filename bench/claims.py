#!/usr/bin/env python3
"""What the ledger costs: claims a second by 1, 8 and 64 processes, one claim's cost as tracts are done, and workers' idle share.

    bench/claims.py [--seconds 5] [--people 400000]

Runs on a private MariaDB server with the country's 73,057 tracts in 3,143 counties. A claim takes up to 8 tracts of one county, as
a scheduler's does. In an operating cluster a scheduler claims for all its workers by one connection.
"""

import argparse
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
import psutil
from sqlalchemy import update

from bench.make_state import make_state
from bench.talk import add_common, start
from dbrecon.ctools.cli import run_command
from dbrecon.ctools.database import make_engine
from dbrecon.errors import VerificationError
from dbrecon.ledger.ledger import LP, SOLVED, GeoRow, Ledger, Worker
from dbrecon.ledger.schema import experiment_tables
from dbrecon.recon.study.synthetic import plan_state
from dbrecon.states import STATES
from tests.ports import free_port
from tests.servers import MariaServer

HERE = Path(__file__).resolve().parent.parent
REIDENT = "claims"
TRACTS, COUNTIES = 73_057, 3_143
AT_ONCE = 8
PROBES = 200


def country() -> dict[str, list[GeoRow]]:
    """73,057 tracts in 3,143 counties, spread over the states, none like another in size."""
    stusabs, found = list(STATES), dict[str, list[GeoRow]]()
    for number in range(TRACTS):
        county = number % COUNTIES
        stusab = stusabs[county % len(stusabs)]
        place = STATES[stusab].fips, f"{county // len(stusabs):03d}", f"{number // COUNTIES:06d}"
        row = GeoRow("140", "00", number + 1, *place, "", "", 1000 + number * 7919 % 8000, 0, 0, 0, 0.0, 0.0)
        found.setdefault(stusab, []).append(row)
    return found


def open_ledger(arguments: dict[str, Any]) -> Ledger:
    """Open a ledger of this process's own."""
    return Ledger(make_engine(sqlite_path="", **arguments), patience=60.0)


def fill(ledger: Ledger, reident: str) -> None:
    """Register an experiment with the whole country as new work."""
    ledger.register(reident, "all", "2010_sf1")
    for stusab, rows in country().items():
        ledger.replace_geography(reident, stusab, rows)


def claim_cost(ledger: Ledger) -> tuple[float, float]:
    """Return median and worst milliseconds of a claim, with its release."""
    worker, times = Worker("bench", "1-1"), []
    for _ in range(PROBES):
        begin = time.perf_counter()
        claims = ledger.claim(REIDENT, worker, limit=AT_ONCE)
        times.append(1000 * (time.perf_counter() - begin))
        ledger.release(claims)
    return statistics.median(times), max(times)


def nearly_all_done(ledger: Ledger) -> None:
    """All but a hundredth of the tracts are solved, half of the rest have their LP."""
    tracts = experiment_tables(REIDENT).tracts
    with ledger.engine.begin() as connection:
        connection.execute(update(tracts).where(tracts.c.tract >= "000000").values(status=SOLVED))
        few = tracts.c.county == "007"
        connection.execute(update(tracts).where(few).values(status="new"))
        connection.execute(update(tracts).where(few, tracts.c.pop > 5000).values(status=LP))


def claim_on(number: int, seconds: float, arguments: dict[str, Any], begin: Barrier, results: Any) -> None:
    """Claim for some seconds and finish nothing, in a process of its own; return what it got."""
    ledger, worker, got, calls = open_ledger(arguments), Worker(f"bench{number}", f"{os.getpid()}-1"), [], 0
    ledger.experiments()
    begin.wait()
    end, cpu = time.monotonic() + seconds, time.process_time()
    while time.monotonic() < end:
        claims = ledger.claim(REIDENT, worker, limit=AT_ONCE, lease_seconds=3600)
        got += [str(claim) for claim in claims]
        calls += 1
        if not claims:
            break
    results.put((calls, got, time.process_time() - cpu))


@dataclass(frozen=True)
class Claims:
    """What processes did that claimed at once: claims and tracts a second, and CPU milliseconds of a claim's client."""

    claims: float
    tracts: float
    cpu_ms: float


def claims_at_once(processes: int, seconds: float, arguments: dict[str, Any]) -> Claims:
    """Let processes claim at once; VerificationError if a tract was got twice."""
    context = multiprocessing.get_context("spawn")
    begin, results = context.Barrier(processes + 1), context.SimpleQueue()
    workers = [context.Process(target=claim_on, args=(number, seconds, arguments, begin, results)) for number in range(processes)]
    for process in workers:
        process.start()
    begin.wait()
    started = time.monotonic()
    gathered = [results.get() for _ in workers]
    took = time.monotonic() - started
    for process in workers:
        process.join()
    got = [tract for _, tracts, _ in gathered for tract in tracts]
    if len(got) != len(set(got)):
        raise VerificationError(f"{len(got) - len(set(got))} tracts were claimed twice by {processes} processes")
    calls = sum(calls for calls, _, _ in gathered)
    return Claims(calls / took, len(got) / took, 1000 * sum(cpu for _, _, cpu in gathered) / calls)


def idle_share(folder: Path, people: int, env: dict[str, str]) -> tuple[float, float]:
    """Return the share of workers' time that is neither building nor solving (with their files), and a run's wall seconds."""
    stusab, reident = "de", "idle"
    root = folder / "root"
    dist = root / "2010-re" / reident / "dist"
    dist.mkdir(parents=True)
    make_state(plan_state(stusab, STATES[stusab].fips, people, 1), str(dist / f"{stusab}2010.sf1.zip"), None)
    env = env | {"DAS_S3ROOT": str(root), "REIDENT": reident}
    for arguments in (["--register"], ["--step1", "--step2", "--stusab", stusab]):
        _do(env, *arguments)
    begin = time.monotonic()
    _do(env, "--run")
    took = time.monotonic() - begin
    ledger = open_ledger({name.lower(): value for name, value in env.items() if name.startswith("MYSQL_")})
    tracts = experiment_tables(reident).tracts
    with ledger.engine.connect() as connection:
        rows = connection.execute(tracts.select().where(tracts.c.pop > 0)).all()
    ledger.engine.dispose()
    worked = sum(row.lp_seconds + row.solve_seconds for row in rows)
    return 1 - worked / (took * len(os.sched_getaffinity(0))), took


def _cpu_of(server: MariaServer) -> float:
    assert server.process is not None
    times = psutil.Process(server.process.pid).cpu_times()
    return float(times.user + times.system)


def _do(env: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "dbrtool.py", "-q", *arguments]
    done = subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VerificationError(f"{' '.join(command)} left with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def bench(folder: Path, seconds: float, people: int) -> None:
    """Measure all of it, and print it."""
    server = MariaServer(folder, free_port())
    server.install()
    try:
        server.start()
        password = server.password.replace("'", "''")
        server.execute(f"CREATE USER '{server.user}'@'127.0.0.1' IDENTIFIED BY '{password}'", "SET GLOBAL max_connections = 300")
        settings = server.settings(server.fresh_database())
        arguments = {name.lower(): value for name, value in settings.items()}
        ledger = open_ledger(arguments)
        begin = time.monotonic()
        fill(ledger, REIDENT)
        print(f"{TRACTS:,} tracts in {COUNTIES:,} counties, entered in {time.monotonic() - begin:.1f} s")
        for processes in (1, 8, 64):
            before = _cpu_of(server)
            found = claims_at_once(processes, seconds, arguments)
            served = 1000 * (_cpu_of(server) - before) / (found.claims * seconds)
            print(
                f"  {processes:>2} processes: {found.claims:6,.0f} claims a second, {found.tracts:6,.0f} tracts a second; "
                f"CPU of a claim: {found.cpu_ms:.1f} ms, and {served:.1f} ms of the server"
            )
            ledger.release_hosts(REIDENT, [f"bench{number}" for number in range(processes)])
        print("one claim alone, ms:          median   worst")
        print("  none done                 {:8.1f}{:8.1f}".format(*claim_cost(ledger)))
        nearly_all_done(ledger)
        print("  99 % done                 {:8.1f}{:8.1f}".format(*claim_cost(ledger)))
        ledger.engine.dispose()
        kept = {name: value for name, value in os.environ.items() if not re.match("MYSQL_|DBRECON_|DAS_|REIDENT", name)}
        share, took = idle_share(folder, people, kept | settings)
        print(f"a run of {people:,} people: {took:.1f} s; neither building nor solving, start and end too: {100 * share:.1f} %")
    finally:
        server.stop()


def main() -> int:
    """Read the command line and measure what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of claiming by each number of processes (default %(default)s)")
    parser.add_argument("--people", type=int, default=400_000, help="in the run (default %(default)s)")
    add_common(parser)
    args = parser.parse_args()
    start(args)
    with tempfile.TemporaryDirectory(prefix="dbr") as folder:
        bench(Path(folder), args.seconds, args.people)
    return 0


if __name__ == "__main__":
    run_command(main)
