"""A state by several schedulers at once: each a host of its own, with its own locks, that share one database server."""

import ctypes
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from bench.bench import PR_SET_CHILD_SUBREAPER, Cost, measured, measured_together
from bench.country import REIDENT, bare_environment, drop_state, machine, prepare_state, say, solved_tracts
from bench.country_results import State, Together, keep, kept
from bench.servers import served, server_at_work
from dbrecon.console.commands import open_ledger
from dbrecon.errors import VerificationError
from dbrecon.settings import Config


def run_together(state: State, folder: Path, kind: str, schedulers: int, workers: int | None, again: bool) -> None:
    """Measure a state by so many schedulers, unless it is measured. VerificationError if a tract was not done exactly once."""
    if f"{state.stusab}-{schedulers}-{kind}" in kept(Together) and not again:
        say(f"{state.stusab} by {schedulers} schedulers on {kind} is measured; --again measures it again")
        return
    sitting = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    workers = workers or max(1, (os.cpu_count() or 1) // schedulers)
    shutil.rmtree(folder, ignore_errors=True)  # its ledger is on a server that is gone
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="dbr") as short, server_at_work(kind, Path(short)) as server:
        env = bare_environment(folder) | server.settings(server.fresh_database())
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=_adopt_orphans) as aside:  # whose children have no server
            aside.submit(measured, ["dbrtool.py", "-q", "--register", REIDENT], env).result()
            aside.submit(prepare_state, state, folder, env).result()
            before = served(server)
            cost = aside.submit(_measure, folder, env, schedulers, workers).result()
            after = served(server)
        by_host = _tracts_by_host(env, state)
        result = Together(
            state.stusab, state.people, sum(by_host), sitting, machine(), after.version, schedulers, workers, round(cost.cpu, 2),
            round(cost.wall, 2), round(cost.peak, 1), by_host, round(after.cpu - before.cpu, 2), round(after.mib, 1),
            after.statements - before.statements, after.connections, after.deadlocks,
        )  # fmt: skip
    keep(result)
    say(f"{state.stusab}: {by_host} tracts by {schedulers} schedulers, {result.wall:.0f} s, {result.cpu:.0f} CPU s")
    drop_state(state, folder)


def _adopt_orphans() -> None:
    """Have workers whose parent ended first measured too."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _measure(folder: Path, env: dict[str, str], schedulers: int, workers: int) -> Cost:
    """Run so many schedulers until nothing is left; what all their processes cost."""
    settings = folder / "config.ini"
    settings.write_text(f"[run]\nmax_lp = {workers}\nmax_sol = {workers}\n", encoding="utf-8")
    commands = []
    for number in range(1, schedulers + 1):
        home = folder / f"host{number}"
        home.mkdir()
        host = {"HOME": str(home), "DBRECON_HOSTNAME": f"host{number}", "DBRECON_CONFIG": str(settings)}
        commands.append((["scheduler.py", "-q", "--reident", REIDENT], env | host))
    return measured_together(commands)


def _tracts_by_host(env: dict[str, str], state: State) -> list[int]:
    """How many tracts each scheduler solved, the most first."""
    ledger = open_ledger(Config.load(env={name: value for name, value in env.items() if re.match("MYSQL_|DAS_|REIDENT", name)}))
    tracts = solved_tracts(ledger.tract_states(REIDENT, state.stusab), state.stusab)
    if often := [tract for tract in tracts if tract.sol_count != 1]:
        raise VerificationError(f"{state.stusab}: {often[0].county} {often[0].tract} was solved {often[0].sol_count} times")
    ledger.engine.dispose()
    return [number for _, number in Counter(tract.sol_host for tract in tracts).most_common()]
