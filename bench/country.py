#!/usr/bin/env python3
"""The country, run: 51 synthetic states with the populations, counties and tracts of 2010, each from its tables to its people.

    make bench-country                              # what is left to be run, the smallest state first, until it is done
    make bench-country COUNTRY="--minutes 10"       # ... and no state is begun after ten minutes
    make bench-country COUNTRY=--certainty          # ... and how sure it is (step 6), where that is not measured yet
    bench/country.py --states wy,vt --again         # these, also where there is a result
    bench/country.py --states ca --schedulers 4     # steps 3 to 5 by four hosts that share MySQL (--server mariadb: MariaDB)
    bench/country.py --report                       # only the table of what there is

A state is made, goes through steps 1 to 5 (and 6) by the commands that an operator types, is looked at as ``--status`` and the
dashboard look, and its files are removed before the next is made: the disk holds one state at a time. All states share one
experiment and one ledger (SQLite in the folder, or what MYSQL_HOST and its partners name), which stays, and grows to the country's
size.

A state's figures are in bench/results/country/STATE.json, those of step 6 in certainty/STATE.json and those of several schedulers
in schedulers/STATE-NUMBER-SERVER.json below it, with the sitting in which they were measured; what has its figures is not run
again, so that a sitting may be broken off and gone on with. The report tells sittings apart, since machines differ from day to day,
and gives the rest of the country in proportion to people.
"""

import argparse
import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
import highspy

from bench.bench import PR_SET_CHILD_SUBREAPER, Cost, measured
from bench.bench_state import bytes_under
from bench.country_results import Certainty, Result, State, Together, keep, kept, report, states
from bench.talk import add_common, start
from dbrecon.console.commands import open_ledger
from dbrecon.ctools.cli import run_command
from dbrecon.ctools.progress import counted
from dbrecon.dashboard.views import Views
from dbrecon.errors import UsageError
from dbrecon.ledger.readings import DashboardReader
from dbrecon.ledger.records import TractState
from dbrecon.settings import Config

HERE = Path(__file__).resolve().parent.parent
REIDENT = "country"
SEED = 1


def machine() -> str:
    """Say what measured: commit, processors, versions."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    versions = f"Python {platform.python_version()}, HiGHS {highspy.Highs().version()}"
    return f"commit {commit.stdout.strip()}, {os.cpu_count()} processors ({platform.machine()}), {versions}"


def milliseconds(work: Callable[[], object]) -> float:
    """Wall milliseconds of a reading."""
    begin = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begin)


def bare_environment(folder: Path) -> dict[str, str]:
    """Return this environment, with the experiment's root there and no settings but the standard ones."""
    kept_names = {name: value for name, value in os.environ.items() if not name.startswith("DBRECON_")}
    return kept_names | {"DAS_S3ROOT": str(folder), "REIDENT": REIDENT}


# -- a state ------------------------------------------------------------------------------------------------------------


def prepare_state(state: State, folder: Path, env: dict[str, str]) -> tuple[Cost, dict[str, Cost]]:
    """Make a state and take it through steps 1 and 2: what its making and each step cost."""
    base = folder / "2010-re" / REIDENT
    shutil.rmtree(base / "work" / state.stusab, ignore_errors=True)  # what a sitting left that was broken off
    shape = ["--people", str(state.people), "--counties", str(state.counties), "--tracts", str(state.tracts), "--seed", str(SEED)]
    made = measured(["bench/make_state.py", "-q", "--stusab", state.stusab, *shape, "--out", str(base / "dist")], env)
    force = ["--force"] if state.stusab in open_ledger(Config.load(env=env)).stusabs(REIDENT) else []
    costs = {
        "step 1": measured(["dbrtool.py", "-q", "--step1", *force, "--stusab", state.stusab], env),
        "step 2": measured(["dbrtool.py", "-q", "--step2", "--stusab", state.stusab], env),
    }
    return made, costs


def drop_state(state: State, folder: Path) -> None:
    """Remove the files of a state."""
    base = folder / "2010-re" / REIDENT
    shutil.rmtree(base / "work" / state.stusab)
    for path in (base / "dist").glob("*.zip"):
        path.unlink()


def run_state(state: State, folder: Path, env: dict[str, str], sitting: str, wanted: Collection[type]) -> None:
    """Make a state, reconstruct it, look at it, compute its certainty if that is wanted; keep what of it is, and drop the state."""
    made, costs = prepare_state(state, folder, env)
    costs["steps 3 to 5"] = measured(["dbrtool.py", "-q", "--run", "--stusab", state.stusab], env)
    if Result in wanted:
        result = looked_at(state, folder, env, sitting, made, costs)
        keep(result)
        say(f"{state.stusab}: {state.people:,} people, {result.wall:.0f} s, {result.cpu:.0f} CPU s")
    if Certainty in wanted:
        certainty = certainty_of(state, folder, env, sitting)
        keep(certainty)
        say(f"{state.stusab}: certainty of {counted(certainty.blocks, 'block')}, {certainty.wall:.0f} s, {certainty.cpu:.0f} CPU s")
    drop_state(state, folder)


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def solved_tracts(tracts: Sequence[TractState], stusab: str) -> list[TractState]:
    """Return a state's tracts that have people. Ends the bench if one is not solved."""
    ours = [tract for tract in tracts if tract.stusab == stusab and tract.pop]
    if unsolved := [item for item in ours if item.status != "solved"]:
        sys.exit(f"{stusab}: {counted(len(unsolved), 'tract')} not solved, {unsolved[0]} first; ./dbrtool.py --status says why")
    return ours


def looked_at(state: State, folder: Path, env: dict[str, str], sitting: str, made: Cost, costs: dict[str, Cost]) -> Result:
    """Return the figures of a state that is done. Ends the bench if a tract of it is not solved."""
    config = Config.load(env=env)
    ledger = open_ledger(config)
    tracts = [tract for stusab in ledger.stusabs(REIDENT) for tract in ledger.tract_states(REIDENT, stusab) if tract.pop]
    ours = solved_tracts(tracts, state.stusab)
    base = folder / "2010-re" / REIDENT
    views = Views(DashboardReader(ledger.engine, ledger.beats), config)
    return Result(
        state.stusab, state.people, len(ours), sitting, machine(), made.cpu,
        {name: round(cost.cpu, 2) for name, cost in costs.items()}, {name: round(cost.wall, 2) for name, cost in costs.items()},
        round(max(cost.peak for cost in costs.values()), 1), bytes_under(base / "dist"), bytes_under(base / "work" / state.stusab),
        len(tracts), bytes_under(*folder.glob("2010-re/dbrecon.sqlite3*")), round(milliseconds(lambda: ledger.status(REIDENT)), 1),
        round(milliseconds(lambda: views.page(REIDENT, "1d")), 1),
    )  # fmt: skip


def certainty_of(state: State, folder: Path, env: dict[str, str], sitting: str) -> Certainty:
    """Return the figures of step 6 of a state whose people are written."""
    work = folder / "2010-re" / REIDENT / "work" / state.stusab
    before = bytes_under(work)
    cost = measured(["dbrtool.py", "-q", "--run", "--step6", "--stusab", state.stusab], env)
    found = asked_json(["--certainty", "--json", "--stusab", state.stusab], env)
    everyone = found["sizes"][-1]
    tracts = [tract for tract in open_ledger(Config.load(env=env)).tract_states(REIDENT, state.stusab) if tract.pop]
    if everyone["people"] != state.people:
        sys.exit(f"{state.stusab}: the certainty of {everyone['people']:,} people is known; ./dbrtool.py --status says why")
    return Certainty(
        state.stusab, state.people, len(tracts), sitting, machine(), round(cost.cpu, 2), round(cost.wall, 2), round(cost.peak, 1),
        bytes_under(work) - before, everyone["blocks"], found["proofs"], everyone["cumulative_upper"],
        everyone["cumulative_blockwise"], everyone["blocks_without_variability_pct"], everyone["certain_pct"],
    )  # fmt: skip


def asked_json(words: list[str], env: dict[str, str]) -> dict[str, Any]:
    """Return what the operator's tool answers in JSON. Ends the bench if it fails."""
    done = subprocess.run(
        [sys.executable, "dbrtool.py", "-q", *words], cwd=HERE, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"dbrtool.py {' '.join(words)} left with code {done.returncode}: {done.stderr[-1000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# -- a sitting ----------------------------------------------------------------------------------------------------------


def sit(todo: dict[State, set[type]], folder: Path, minutes: float) -> None:
    """Run one state after the other, for what of it is wanted; none is begun after so many minutes."""
    env = bare_environment(folder)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # workers whose parent ended first are measured too
    if REIDENT not in {row.reident for row in open_ledger(Config.load(env=env)).experiments()}:
        measured(["dbrtool.py", "-q", "--register", REIDENT], env)
    sitting, begin = time.strftime("%Y-%m-%d %H:%M", time.gmtime()), time.monotonic()
    for state, wanted in todo.items():
        if time.monotonic() - begin > 60 * minutes:
            say(f"{minutes:g} minutes are over: the same command goes on with {state.stusab}")
            return
        run_state(state, folder, env, sitting, wanted)


def asked(words: str | None, everyone: Sequence[State]) -> list[State]:
    """Return the states that are named, or all. UsageError for one that is none."""
    names = words.split(",") if words else [state.stusab for state in everyone]
    if unknown := sorted(set(names) - {state.stusab for state in everyone}):
        raise UsageError(f"--states {words}: {', '.join(unknown)} is none of the 51 (wy,vt for example).")
    return [state for state in everyone if state.stusab in names]


def left(chosen: Sequence[State], done: dict[type, Collection[str]], again: bool) -> dict[State, set[type]]:
    """Return what is to be measured of the states, of the kinds in ``done``: all ``again``, or what has no result."""
    wanted = {state: {kind for kind, names in done.items() if again or state.stusab not in names} for state in chosen}
    return {state: kinds for state, kinds in wanted.items() if kinds}


def run_asked(args: argparse.Namespace, everyone: Sequence[State]) -> None:
    """Measure what the options ask for."""
    chosen, folder = asked(args.states, everyone), Path(args.folder).absolute()
    if args.schedulers:
        if not args.states:
            raise UsageError(f"--schedulers {args.schedulers}: say for which states, --states ca for example.")
        from bench.country_schedulers import run_together  # it needs what the tests need

        for state in chosen:
            run_together(state, folder / "schedulers", args.server, args.schedulers, args.workers, args.again)
        return
    done: dict[type, Collection[str]] = {Result: kept(Result)}
    if args.certainty:
        done[Certainty] = kept(Certainty)
    sit(left(chosen, done, args.again), folder, args.minutes)


def main() -> int:
    """Run what is asked, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", metavar="ST[,ST]", help="these alone (default: all)")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin no state after so many (default: go on to the end)"
    )
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--certainty", action="store_true", help="also step 6 of each state")
    parser.add_argument("--schedulers", type=int, metavar="N", help="instead: N schedulers as hosts of their own, on one server")
    parser.add_argument("--server", choices=("mysql", "mariadb"), default="mysql", help="for --schedulers (default %(default)s)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="for --schedulers: each one's processes (default: the cores shared out)"
    )
    parser.add_argument("--report", action="store_true", help="run nothing, print the table")
    parser.add_argument("--folder", default="country-data", help="where states and the ledger lie (default %(default)s)")
    add_common(parser)
    args = parser.parse_args()
    start(args)
    everyone = states()
    if not args.report:
        run_asked(args, everyone)
    found, certain, together = kept(Result), kept(Certainty), kept(Together)
    print(report(list(found.values()), everyone, list(certain.values()), list(together.values())), end="")
    return 0


if __name__ == "__main__":
    run_command(main)
