#!/usr/bin/env python3
"""The country's claims by many claimants at once, on a real server: claims a second, latencies, deadlocks, connections, CPU.

    bench/claimants.py --keep                       # 30 schedulers of 96 workers on MariaDB and on MySQL; kept in results/claims.md
    bench/claimants.py --claimants 120 --workers 1 --server mariadb     # nodes of one processor

A claimant is what a scheduler is to the database: a connection of its own, by which it claims up to 8 tracts (--batch) of a county
at a time and enters each, solved, with its LP. 30 nodes of 96 processors are 30 claimants with 96 workers each, since a node's
scheduler claims for all its workers: with --workers 96 --work 500 a tract takes half a second of a worker, so that each claimant
enters a tract every 5.2 ms, if the database keeps up. Nothing is solved. Claimants are threads of a few processes, which share this
machine with the server.

The ledger has the 73,057 tracts and 3,143 counties of the country. No tract may be got twice.
"""

import argparse
import itertools
import multiprocessing
import os
import queue
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
import numpy as np

from bench.claims import AT_ONCE, COUNTIES, REIDENT, TRACTS, fill, open_ledger
from bench.servers import SERVERS, Served, served, server_at_work
from bench.talk import add_common, start
from dbrecon.ctools.cli import run_command
from dbrecon.errors import VerificationError
from dbrecon.ledger.ledger import LpStats, SolStats, Worker
from tests.servers import MariaServer

RESULTS = Path(__file__).resolve().parent / "results" / "claims.md"
PROCESSES = 3
END_SECONDS = 30.0
"""How long what was asked at the end of the time may take to be answered; all is killed then."""
OPTIONS = ("--max-connections=3200", "--innodb-buffer-pool-size=512M", "--innodb-flush-log-at-trx-commit=2")


@dataclass
class Seen:
    """What claimants saw: milliseconds of each claim and of each tract's entry, and the tracts."""

    claims: list[float] = field(default_factory=list)
    entries: list[float] = field(default_factory=list)
    tracts: list[str] = field(default_factory=list)
    cpu: float = 0.0
    claims_cpu: float = 0.0

    def take(self, other: "Seen") -> None:
        """Add what others saw."""
        self.claims += other.claims
        self.entries += other.entries
        self.tracts += other.tracts
        self.cpu += other.cpu
        self.claims_cpu += other.claims_cpu


@dataclass(frozen=True)
class Course:
    """A measurement: what was seen within ``seconds``, and what the server did meanwhile."""

    claimants: int
    workers: int
    batch: int
    work_ms: float
    seconds: float
    seen: Seen
    server: Served
    server_cpu: float
    deadlocks: int

    def row(self) -> list[str]:
        """Its line of the table."""
        tracts = len(self.seen.tracts)
        return [
            f"{self.claimants:,} x {self.workers}", f"{self.work_ms:g}", f"{self.batch}",
            f"{len(self.seen.claims) / self.seconds:,.0f}",
            f"{tracts / self.seconds:,.0f}", *quantiles(self.seen.claims), *quantiles(self.seen.entries), f"{self.deadlocks}",
            f"{self.server.connections:,}", f"{1000 * self.server_cpu / tracts:.2f}", f"{1000 * self.seen.cpu / tracts:.2f}",
            f"{1000 * self.seen.claims_cpu / tracts:.2f}",
            f"{self.server.mib:,.0f}", f"{TRACTS / (tracts / self.seconds):,.0f}",
        ]  # fmt: skip


HEAD = (
    "claimants x workers", "ms of a worker a tract", "tracts a claim",
    "claims a s", "tracts a s", "claim ms, median", "99 %", "entry ms, median",
    "99 %", "deadlocks", "connections", "server's CPU ms a tract", "clients'", "of it claims",
    "server's MiB", "the country in s",
)  # fmt: skip


def quantiles(milliseconds: Sequence[float]) -> list[str]:
    """Return the median and the 99th percentile."""
    return [f"{value:,.1f}" for value in np.percentile(milliseconds, (50, 99))] if milliseconds else ["", ""]


def claim_and_enter(
    number: int, arguments: dict[str, Any], begin: threading.Barrier, seconds: float, pace: float, batch: int, seen: Seen
) -> None:
    """Be a claimant, in a thread."""
    ledger, worker = open_ledger(arguments), Worker(f"node{number}", f"{os.getpid()}-{number}")
    ledger.experiments()  # connected
    begin.wait()
    time.sleep(random.uniform(0, pace * batch))  # they do not all come at once
    due = time.monotonic()
    end = due + seconds
    while time.monotonic() < end:
        at, cpu = time.perf_counter(), time.thread_time()
        claims = ledger.claim(REIDENT, worker, limit=batch, lease_seconds=3600)
        seen.claims.append(1000 * (time.perf_counter() - at))
        seen.claims_cpu += time.thread_time() - cpu
        if not claims:
            break
        for claim in claims:
            due += pace
            time.sleep(max(0.0, due - time.monotonic()))
            if time.monotonic() > end:
                break
            at = time.perf_counter()
            ledger.solved(claim, SolStats("none", 0.05), LpStats(7000, 5000, 45000, 0.02))
            seen.entries.append(1000 * (time.perf_counter() - at))
            seen.tracts.append(str(claim))
    ledger.engine.dispose()


def claimants_here(
    numbers: range, arguments: dict[str, Any], begin: Barrier, seconds: float, pace: float, batch: int, results: Any
) -> None:
    """Run some claimants in this process."""
    seen, ready = [Seen() for _ in numbers], threading.Barrier(len(numbers) + 1)
    threads = [
        threading.Thread(target=claim_and_enter, args=(number, arguments, ready, seconds, pace, batch, record))
        for number, record in zip(numbers, seen, strict=True)
    ]
    for thread in threads:
        thread.start()
    begin.wait()
    cpu = time.process_time()
    ready.wait()
    for thread in threads:
        thread.join()
    together = Seen(cpu=time.process_time() - cpu)
    for record in seen:
        together.take(record)
    results.put(together)


def measure(server: MariaServer, claimants: int, seconds: float, work: float, workers: int, batch: int) -> Course:
    """Let so many claim and enter the country's tracts, from a fresh database on. VerificationError if a tract was got twice."""
    arguments = {name.lower(): value for name, value in server.settings(server.fresh_database()).items()}
    pace = work / 1000 / workers
    ledger = open_ledger(arguments)
    fill(ledger, REIDENT)
    ledger.engine.dispose()
    context, seen = multiprocessing.get_context("spawn"), Seen()
    parts = [range(first, claimants, PROCESSES) for first in range(min(PROCESSES, claimants))]
    begin, results = context.Barrier(len(parts) + 1), context.Queue()
    shared = (arguments, begin, seconds, pace, batch, results)
    processes = [context.Process(target=claimants_here, args=(part, *shared)) for part in parts]
    for process in processes:
        process.start()
    begin.wait()
    before, started = served(server), time.monotonic()
    try:
        for _ in processes:
            seen.take(results.get(timeout=seconds + END_SECONDS))
    except queue.Empty:
        for process in processes:
            process.kill()
        server.kill()
        raise VerificationError(
            f"{claimants:,} claimants do not end {END_SECONDS:.0f} s after their time: the server cannot keep up with them"
        ) from None
    took, after = time.monotonic() - started, served(server)
    for process in processes:
        process.join()
    if len(seen.tracts) != len(set(seen.tracts)):
        raise VerificationError(f"{len(seen.tracts) - len(set(seen.tracts))} tracts were entered twice by {claimants} claimants")
    deadlocks = after.deadlocks - before.deadlocks
    return Course(claimants, workers, batch, work, took, seen, after, after.cpu - before.cpu, deadlocks)


def bench(
    kind: str, claimants: Sequence[int], seconds: float, workers: int, works: Sequence[float], batches: Sequence[int]
) -> list[str]:
    """Measure all numbers of claimants, lengths of work and batches on a server; return the table."""
    rows, version = [], ""
    for work, number, batch in itertools.product(works, claimants, batches):
        with tempfile.TemporaryDirectory(prefix="dbr") as folder, server_at_work(kind, Path(folder), *OPTIONS) as server:
            course = measure(server, number, seconds, work, workers, batch)
        version = course.server.version
        rows.append(course.row())
        print(f"{version}: {dict(zip(HEAD, rows[-1], strict=False))}", file=sys.stderr, flush=True)
    lines = [f"| {' | '.join(row)} |" for row in (HEAD, ["--:"] * len(HEAD), *rows)]
    return [f"## {version}", "", *lines, ""]


def main() -> int:
    """Measure as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claimants", type=int, nargs="+", default=[30], help="how many at once (default 30)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of claiming (default %(default)s)")
    parser.add_argument("--workers", type=int, default=96, help="of each claimant (default %(default)s)")
    parser.add_argument(
        "--work",
        type=float,
        nargs="+",
        default=[500.0, 2000.0],
        help="ms that a worker takes for a tract (default 500 2000)",
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[AT_ONCE], help=f"tracts of a claim (default {AT_ONCE})")
    parser.add_argument("--server", choices=sorted(SERVERS), help="one alone (default: both)")
    parser.add_argument("--keep", action="store_true", help=f"write the tables into {RESULTS.name}")
    add_common(parser)
    args = parser.parse_args()
    start(args)
    lines = [
        "# Claims by many claimants", "",
        f"`bench/claimants.py {' '.join(sys.argv[1:])}`, {TRACTS:,} tracts in {COUNTIES:,} counties; "
        f"clients and server on {os.cpu_count()} processors; server options {' '.join(OPTIONS)}. \"The country in s\" is all its "
        "tracts at that rate.", "",
    ]  # fmt: skip
    for kind in [args.server] if args.server else sorted(SERVERS):
        lines += bench(kind, args.claimants, args.seconds, args.workers, args.work, args.batch)
    text = "\n".join(lines)
    print(text)
    if args.keep:
        RESULTS.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_command(main)
