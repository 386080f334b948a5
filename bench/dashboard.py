#!/usr/bin/env python3
"""The dashboard and --status at the country's size: 73,057 tracts half done on MariaDB, and a hundred viewers.

    make bench                         with the other measurements
    bench/dashboard.py --serve         only fills the database and serves it, to look at
    bench/dashboard.py --seconds 30 --viewers 300

Printed are the time of each answer read from the database, of each answer told again, requests per second of clients that ask
again as soon as they are answered, and the latency that viewers see who ask as the page does. Server and clients share the machine.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
from sqlalchemy import Connection, Engine, insert, text

from dbrecon.ctools.cli import run_command
from dbrecon.ctools.database import make_engine
from dbrecon.errors import DBReconError
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.lifecycle import ENTERED, FREE, LEASED
from dbrecon.ledger.records import EMPTY, LP, NEW, OPEN, QUARANTINED, SOLVED, WRITTEN, ErrorReport
from dbrecon.ledger.schema import experiment_tables, sysload
from dbrecon.states import STATES
from tests.ports import free_port
from tests.servers import MariaServer

HERE = Path(__file__).resolve().parent.parent
REIDENT = "country"
TRACTS = 73_057
HOSTS = [f"node{number:02d}" for number in range(1, 31)]
STATUS_READINGS = 30
HOURS = 9  # since the run began
API = f"/api/v1/experiments/{REIDENT}"
PAGE = (  # what the page asks for, and how often (seconds) while files are being made
    (API, 5.0), (f"{API}/throughput?range=1h", 5.0), (f"{API}/counties", 10.0), (f"{API}/states", 10.0), (f"{API}/hosts", 5.0),
    (f"{API}/errors", 5.0),
)  # fmt: skip
ONCE = (f"{API}/running", f"{API}/throughput?range=all", f"{API}/states/ca/counties/037", "/api/re-recon")


# -- a country, two thirds done -----------------------------------------------------------------------------------------


def county_codes() -> list[tuple[str, str]]:
    """Return (stusab, county) of every county on the dashboard's map, Puerto Rico's left out as the national figure does."""
    shapes = json.loads((HERE / "dashboard" / "static" / "vendor" / "counties.json").read_text())
    stusabs = {state.fips: stusab for stusab, state in STATES.items() if stusab != "pr"}
    return [(stusabs[code[:2]], code[2:]) for code in shapes["counties"] if code[:2] in stusabs]


def tract_numbers(rng: random.Random, counties: int) -> list[int]:
    """Return how many tracts each county has: few in most, very many in some; TRACTS in all."""
    weights = [rng.paretovariate(0.9) for _ in range(counties)]
    spare, total = TRACTS - counties, sum(min(weight, 400) for weight in weights)
    numbers = [1 + int(spare * min(weight, 400) / total) for weight in weights]
    for _ in range(TRACTS - sum(numbers)):
        numbers[rng.randrange(counties)] += 1
    return numbers


def tract_row(rng: random.Random, now: int, stusab: str, county: str, number: int, share: float) -> dict[str, Any]:
    """Make a tract of a state of which ``share`` is solved."""
    pop = 0 if rng.random() < 0.006 else max(1, int(rng.gammavariate(6, 720)))
    row: dict[str, Any] = {
        "stusab": stusab, "state": STATES[stusab].fips, "county": county, "tract": f"{number:06d}",
        "pop": pop, "status": NEW, "attempts": 0, "lost": 0, "hold": FREE, "hold_ends": None, "fence": 0,
        "lp_count": 0, "sol_count": 0, "error": None,
        **dict.fromkeys(("claimed_by", "claimed_host", "claimed_at", "token", "lp_start", "lp_end", "lp_host", "lp_seconds",
                         "sol_start", "sol_end", "sol_host", "solve_seconds", "solver", "variables", "constraints", "nonzeros",
                         "memory_mib")),
    }  # fmt: skip
    if pop == 0:
        return row | {"status": EMPTY}
    host, luck = rng.choice(HOSTS), rng.random()
    if luck < share:
        end = now - int(HOURS * 3600 * (1 - (luck / share) ** 0.8) * share)
        seconds = rng.lognormvariate(-1.2, 0.8) * pop / 4000
        stats = {"variables": int(2.2 * pop), "constraints": int(1.4 * pop), "nonzeros": 12 * pop, "memory_mib": 140 + pop // 100}
        made = {"lp_start": end - 1, "lp_end": end - 1, "lp_host": host, "lp_seconds": seconds / 4, "lp_count": 1}
        solved = {"sol_start": end - 1, "sol_end": end, "sol_host": host, "solve_seconds": seconds, "sol_count": 1}
        return row | stats | made | solved | {"status": SOLVED, "solver": "HiGHS"}
    if luck < share + 0.04:
        since = now - rng.randrange(1, 400)
        held = {
            "claimed_host": host,
            "claimed_by": f"{host}/1-1",
            "claimed_at": since,
            "token": "t",
            "hold": LEASED,
            "hold_ends": now + 86400,
        }
        return row | held | ({"status": LP, "lp_end": since + 1, "lp_host": host, "lp_count": 1} if rng.random() < 0.5 else {})
    if luck > 0.9996:
        return row | {"status": QUARANTINED, "attempts": 3, "error": f"P0120003 of block 1002 contradicts PCT0120003 ({pop})"}
    return row


def fill(engine: Engine, seed: int) -> None:
    """Fill the country's tables with a run that is two thirds through."""
    rng = random.Random(seed)
    Ledger(engine).register(REIDENT, "all", "2010_sf1")
    tables, codes = experiment_tables(REIDENT), county_codes()
    numbers = dict(zip(codes, tract_numbers(rng, len(codes)), strict=True))
    order = sorted({stusab for stusab, _ in codes})
    rng.shuffle(order)
    shares = {stusab: max(0.0, min(1.0, 1.45 - 1.6 * place / len(order))) for place, stusab in enumerate(order)}
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        now = int(time.time())
        rows = []
        for (stusab, county), number in numbers.items():
            share = min(1.0, shares[stusab] * rng.uniform(0.6, 1.2)) if shares[stusab] < 1 else 1.0
            tracts = [tract_row(rng, now, stusab, county, index + 1, share) for index in range(number)]
            connection.execute(insert(tables.tracts), tracts)
            rows.append(county_row(stusab, county, tracts, now))
        connection.execute(insert(tables.counties), rows)
        states = [
            {"stusab": stusab, "state": STATES[stusab].fips, "status": ENTERED, "geo_end": now - HOURS * 3600} for stusab in order
        ]
        connection.execute(insert(tables.states), states)
        fill_load(connection, rng, now)
    ledger = Ledger(engine)
    for number in range(40):
        stusab, county = rng.choice(codes)
        message = f"county {county}: P0120003 of block 1002 contradicts PCT0120003 of tract 000100"
        stack = "".join(f'  File "recon/model.py", line {line}, in build\n' for line in range(20))
        host = rng.choice(HOSTS)
        ledger.record_error(ErrorReport(REIDENT, host, 4000 + number, message, "recon/model.py", 211, stack, stusab, county))


def county_row(stusab: str, county: str, tracts: list[dict[str, Any]], now: int) -> dict[str, Any]:
    """Sum up the county of these tracts: its people are written where all are solved."""
    pop, left = sum(row["pop"] for row in tracts), [row for row in tracts if row["status"] not in (SOLVED, EMPTY)]
    status = EMPTY if not pop else OPEN if left else WRITTEN
    written = {"csv_start": now - 60, "csv_end": now - 59, "csv_host": HOSTS[0], "csv_count": 1}
    nothing: dict[str, Any] = {"csv_start": None, "csv_end": None, "csv_host": None, "csv_count": 0}
    row = {"stusab": stusab, "state": STATES[stusab].fips, "county": county, "name": f"County {county}", "pop": pop}
    row |= {"status": status, "tracts": sum(tract["pop"] > 0 for tract in tracts)}
    row |= {"attempts": 0, "lost": 0, "hold": FREE, "fence": 0, "error": None}
    return row | (written if status == WRITTEN else nothing)


def fill_load(connection: Connection, rng: random.Random, now: int) -> None:
    """Enter a week of reports of every host, one a minute; one host has been silent for some hours."""
    for host in HOSTS:
        begin = now - (7 * 86400 if host == HOSTS[0] else 7200)
        silent = 4000 if host == HOSTS[-1] else 0
        rows = [
            {"host": host, "at": at, "load1": 96 + rng.gauss(0, 6), "load5": 95.0, "load15": 94.0, "running": 96,
             "free_memory_mib": 180_000 + int(rng.gauss(0, 9000)), "total_memory_mib": 384_000}
            for at in range(begin, now - silent, 60)
        ]  # fmt: skip
        connection.execute(insert(sysload), rows)


# -- measuring ----------------------------------------------------------------------------------------------------------


@contextmanager
def dashboard(env: dict[str, str], port: int) -> Iterator[str]:
    """Start the server as an operator does; yield its address."""
    command = [sys.executable, "dbrtool.py", "-q", "--dashboard", "--port", str(port)]
    process = subprocess.Popen(command, cwd=HERE, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line.startswith("http"):
            raise DBReconError("the dashboard did not start: see above")
        yield line.removesuffix("/re-recon.html")
    finally:
        process.terminate()
        process.wait(30)


def ask(url: str) -> tuple[float, int, int]:
    """Return milliseconds, bytes as they go over the wire, and bytes of the JSON."""
    begin = time.perf_counter()
    with urlopen(Request(url, headers={"Accept-Encoding": "gzip"})) as response:
        body = response.read()
    took = 1000 * (time.perf_counter() - begin)
    with urlopen(url) as response:
        return took, len(body), len(response.read())


class Viewer:
    """One browser: asks with the entity tags it has, on one connection while the server keeps it."""

    def __init__(self, host: str, port: int) -> None:
        self._place, self._tags = (host, port), dict[str, str]()
        self.times: list[float] = []
        self.received = 0

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(*self._place)
        self._hung_up = False

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        await self._writer.wait_closed()

    async def get(self, path: str) -> None:
        """Ask once; RuntimeError for any answer but 200 and 304."""
        tag = f"If-None-Match: {self._tags[path]}\r\n" if path in self._tags else ""
        begin = time.perf_counter()
        if self._hung_up:
            await self.open()
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n{tag}\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, fields = head.split(" ", 2)[1], dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        length = 0 if status == "304" else int(fields["content-length"])
        await self._reader.readexactly(length)
        self.times.append(1000 * (time.perf_counter() - begin))
        self.received += len(head) + length
        if status not in ("200", "304"):
            raise RuntimeError(f"{path}: {status}")
        self._tags[path] = fields["etag"]
        if fields.get("connection") == "close":  # waitress does so after each 304
            self._hung_up = True
            await self.close()


async def look(viewers: list[Viewer], seconds: float, paced: bool) -> float:
    """Let viewers ask: ``paced`` as the page does, else at once again. Returns the seconds it took."""
    for viewer in viewers:
        await viewer.open()
    begin = time.perf_counter()
    end = begin + seconds

    async def at_once(viewer: Viewer) -> None:
        while time.perf_counter() < end:
            await viewer.get(API)

    async def as_the_page(viewer: Viewer, offset: float) -> None:
        due = [(begin + offset, path, every) for path, every in PAGE]
        while (soonest := min(due))[0] < end:
            await asyncio.sleep(max(0.0, soonest[0] - time.perf_counter()))
            await viewer.get(soonest[1])
            due[due.index(soonest)] = (soonest[0] + soonest[2], *soonest[1:])

    spread = itertools.count()
    each = [as_the_page(viewer, 5.0 * next(spread) / len(viewers)) if paced else at_once(viewer) for viewer in viewers]
    await asyncio.gather(*each)
    took = time.perf_counter() - begin
    for viewer in viewers:
        await viewer.close()
    return took


def percentile(values: list[float], share: float) -> float:
    """Return the value below which that share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(base: str, engine: Engine, viewers: int, seconds: float) -> None:
    """Print all figures of a server."""
    port = int(base.rsplit(":", 1)[1])
    print(f"  {'answer':<58}{'from the database':>18}{'told again':>12}{'JSON':>9}{'packed':>9}")
    for path in [path for path, _ in PAGE] + list(ONCE):
        first, packed, whole = ask(base + path)
        again = min(ask(base + path)[0] for _ in range(5))
        print(f"  {path:<58}{first:>15.1f} ms{again:>9.1f} ms{whole / 1000:>6.0f} kB{packed / 1000:>6.0f} kB")
    for paced in (False, True):
        crowd = [Viewer("127.0.0.1", port) for _ in range(viewers)]
        before = statements(engine)
        took = asyncio.run(look(crowd, seconds, paced))
        asked = statements(engine) - before
        times = [duration for viewer in crowd for duration in viewer.times]
        manner = "as the page does" if paced else f"{API} at once again"
        mb = sum(viewer.received for viewer in crowd) / 1e6
        print(
            f"  {viewers} viewers, {manner}: {len(times) / took:,.0f} requests a second; p50 {percentile(times, 0.5):.1f} ms, "
            f"p99 {percentile(times, 0.99):.1f} ms, slowest {max(times):.1f} ms; {mb / took:.1f} MB/s; "
            f"{asked / took:.1f} statements a second reach the database"
        )


def measure_status(engine: Engine) -> None:
    """Print what --status and a page of --watch ask of the database."""
    ledger, times = Ledger(engine), []
    for _ in range(STATUS_READINGS):
        begin = time.perf_counter()
        ledger.status(REIDENT)
        ledger.sysload()
        times.append(1000 * (time.perf_counter() - begin))
    middle = percentile(times, 0.5)
    print(f"  --status and --watch read it in {middle:.1f} ms (median of {len(times)}, slowest {max(times):.1f} ms)")


def statements(engine: Engine) -> int:
    """Count the SELECTs that the server has run since it started."""
    with engine.connect() as connection:
        return int(connection.execute(text("SHOW GLOBAL STATUS LIKE 'Com_select'")).one()[1])


def main() -> int:
    """Fill a private MariaDB, and measure (or serve)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help="serve until Ctrl-C, and measure nothing")
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dbrecon-bench-") as name:
        server = MariaServer(Path(name), free_port())
        server.install()
        server.start()
        try:
            password = server.password.replace("'", "''")
            server.execute(f"CREATE USER '{server.user}'@'127.0.0.1' IDENTIFIED BY '{password}'")
            settings = server.settings(server.fresh_database())
            begin = time.monotonic()
            engine = make_engine(sqlite_path="", **{key.lower(): value for key, value in settings.items()})
            fill(engine, args.seed)
            print(f"\nThe dashboard, {TRACTS:,} tracts on MariaDB (filled in {time.monotonic() - begin:.0f} s)", flush=True)
            env = {key: value for key, value in os.environ.items() if not key.startswith("DBRECON_")}
            with dashboard(env | settings | {"DAS_S3ROOT": name}, args.port) as base:
                if args.serve:
                    print(f"{base}/re-recon.html", flush=True)
                    while True:
                        time.sleep(60)
                measure_status(engine)
                measure(base, engine, args.viewers, args.seconds)
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    run_command(main)
