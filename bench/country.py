#!/usr/bin/env python3
"""The country, run: 51 synthetic states with the populations, counties and tracts of 2010, each from its tables to its people.

    make bench-country                              # what is left to be run, the smallest state first, until it is done
    make bench-country COUNTRY="--minutes 10"       # ... and no state is begun after ten minutes
    bench/country.py --states wy,vt --again         # these, also where there is a result
    bench/country.py --report                       # only the table of what there is

A state is made, goes through steps 1 to 5 by the commands that an operator types, is looked at as ``--status`` and the dashboard
look, and its files are removed before the next is made: the disk holds one state at a time. All states share one experiment and one
ledger (SQLite in the folder, or what MYSQL_HOST and its partners name), which stays, and grows to the country's size.

A state's figures are in bench/results/country/STATE.json, with the sitting in which they were measured; a state that has them is
not run again, so that a sitting may be broken off and gone on with. The report tells sittings apart, since machines differ from
day to day, and gives the rest of the country in proportion to people.
"""

import argparse
import csv
import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
import highspy

from bench.bench import PR_SET_CHILD_SUBREAPER, Cost, measured
from bench.bench_state import bytes_under
from bench.talk import add_common, start
from dbrecon.console.commands import open_ledger
from dbrecon.ctools.cli import run_command
from dbrecon.ctools.progress import counted
from dbrecon.dashboard.views import Views
from dbrecon.errors import UsageError
from dbrecon.ledger.readings import DashboardReader
from dbrecon.settings import Config

HERE = Path(__file__).resolve().parent.parent
RESULTS = HERE / "bench" / "results" / "country"
TABLE = HERE / "bench" / "states_2010.csv"
"""People, counties and tracts by state: 2010 Census, resident population, and the Census Bureau's 2010 geographic entity tallies
(census.gov/geographies/reference-files/time-series/geo/tallies.2010.html). Sums, as published: 308,745,538, 3,143 and 73,057."""
REIDENT = "country"
SEED = 1


@dataclass(frozen=True)
class State:
    """A state of 2010."""

    stusab: str
    people: int
    counties: int
    tracts: int


@dataclass(frozen=True)
class Result:
    """What a state took. Seconds of processors are those of all processes; ``ledger_ms`` and ``dashboard_ms`` are one reading of
    --status, and of the dashboard's page, when ``ledger_tracts`` were in the ledger."""

    stusab: str
    people: int
    tracts: int
    sitting: str
    machine: str
    make_cpu: float
    steps_cpu: dict[str, float]
    steps_wall: dict[str, float]
    peak_mib: float
    zip_bytes: int
    files_bytes: int
    ledger_tracts: int
    ledger_bytes: int
    ledger_ms: float
    dashboard_ms: float

    @property
    def cpu(self) -> float:
        """CPU seconds of steps 1 to 5."""
        return sum(self.steps_cpu.values())

    @property
    def wall(self) -> float:
        """Wall seconds of steps 1 to 5."""
        return sum(self.steps_wall.values())


def states() -> list[State]:
    """All states, the smallest first."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [State(row["stusab"], int(row["people"]), int(row["counties"]), int(row["tracts"])) for row in csv.DictReader(file)]
    return sorted(rows, key=lambda state: state.people)


def results() -> dict[str, Result]:
    """What is measured, by state."""
    found = (Result(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(RESULTS.glob("*.json")))
    return {result.stusab: result for result in found}


def machine() -> str:
    """What measured: commit, processors, versions."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    versions = f"Python {platform.python_version()}, HiGHS {highspy.Highs().version()}"
    return f"commit {commit.stdout.strip()}, {os.cpu_count()} processors ({platform.machine()}), {versions}"


def milliseconds(work: Callable[[], object]) -> float:
    """Wall milliseconds of a reading."""
    begin = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begin)


def run_state(state: State, folder: Path, env: dict[str, str], sitting: str) -> Result:
    """Make a state, reconstruct it, look at it, and remove its files."""
    base = folder / "2010-re" / REIDENT
    dist, work = base / "dist", base / "work" / state.stusab
    shutil.rmtree(work, ignore_errors=True)  # what a sitting left that was broken off
    shape = ["--people", str(state.people), "--counties", str(state.counties), "--tracts", str(state.tracts), "--seed", str(SEED)]
    made = measured(["bench/make_state.py", "-q", "--stusab", state.stusab, *shape, "--out", str(dist)], env)
    force = ["--force"] if state.stusab in open_ledger(Config.load(env=env)).stusabs(REIDENT) else []
    costs: dict[str, Cost] = {}
    for name, command in (
        ("step 1", ["dbrtool.py", "-q", "--step1", *force, "--stusab", state.stusab]),
        ("step 2", ["dbrtool.py", "-q", "--step2", "--stusab", state.stusab]),
        ("steps 3 to 5", ["dbrtool.py", "-q", "--run", "--stusab", state.stusab]),
    ):
        costs[name] = measured(command, env)
    result = looked_at(state, folder, env, sitting, made, costs)
    shutil.rmtree(work)
    for path in dist.glob("*.zip"):
        path.unlink()
    return result


def looked_at(state: State, folder: Path, env: dict[str, str], sitting: str, made: Cost, costs: dict[str, Cost]) -> Result:
    """The figures of a state that is done. Ends the bench if a tract of it is not solved."""
    config = Config.load(env=env)
    ledger = open_ledger(config)
    tracts = [one for stusab in ledger.stusabs(REIDENT) for one in ledger.tract_states(REIDENT, stusab) if one.pop]
    ours = [one for one in tracts if one.stusab == state.stusab]
    if unsolved := [one for one in ours if one.status != "solved"]:
        sys.exit(
            f"{state.stusab}: {counted(len(unsolved), 'tract')} not solved, {unsolved[0]} first; ./dbrtool.py --status says why"
        )
    base = folder / "2010-re" / REIDENT
    views = Views(DashboardReader(ledger.engine, ledger.beats), config)
    return Result(
        state.stusab, state.people, len(ours), sitting, machine(), made.cpu,
        {name: round(cost.cpu, 2) for name, cost in costs.items()}, {name: round(cost.wall, 2) for name, cost in costs.items()},
        round(max(cost.peak for cost in costs.values()), 1), bytes_under(base / "dist"), bytes_under(base / "work" / state.stusab),
        len(tracts), bytes_under(*folder.glob("2010-re/dbrecon.sqlite3*")), round(milliseconds(lambda: ledger.status(REIDENT)), 1),
        round(milliseconds(lambda: views.page(REIDENT, "1d")), 1),
    )  # fmt: skip


def report(found: Sequence[Result], everyone: Sequence[State]) -> str:
    """What was measured, a table a sitting, and what the country takes in proportion, as Markdown."""
    lines = []
    for sitting in sorted({result.sitting for result in found}):
        group = sorted((result for result in found if result.sitting == sitting), key=lambda result: result.people)
        lines += [f"## {sitting}, {group[0].machine}\n", HEAD, RULE, *map(row, group)]
        lines += [total(group), ""]
    people, country = sum(result.people for result in found), sum(state.people for state in everyone)
    cpu = sum(result.cpu for result in found)
    lines.append(
        f"{counted(len(found), 'state')} of {len(everyone)}, {people:,} of {country:,} people ({people / country:.1%}), were run."
    )
    if found:
        lines.append(
            f"At {cpu / people * 1e6:.1f} CPU seconds a million the country takes "
            f"{cpu / people * country:,.0f} CPU seconds (in proportion)."
        )
    return "\n".join(lines) + "\n"


HEAD = (
    "| state | people | tracts | CPU s, steps 1 to 5 | a million people | wall s | steps 1 and 2, wall s | peak MiB | MB of files "
    "| tracts in the ledger | its MB | --status ms | dashboard ms |"
)
RULE = "|---|" + "--:|" * 12


def row(result: Result) -> str:
    """A state's line of the table."""
    early = sum(seconds for name, seconds in result.steps_wall.items() if name != "steps 3 to 5")
    cells = [
        result.stusab, f"{result.people:,}", f"{result.tracts:,}", f"{result.cpu:.1f}", f"{result.cpu / result.people * 1e6:.1f}",
        f"{result.wall:.1f}", f"{early:.1f}", f"{result.peak_mib:.0f}", f"{result.files_bytes / 1e6:,.0f}",
        f"{result.ledger_tracts:,}", f"{result.ledger_bytes / 1e6:.1f}", f"{result.ledger_ms:.0f}", f"{result.dashboard_ms:.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def total(group: Sequence[Result]) -> str:
    """The sum of a sitting."""
    people, cpu, wall = (sum(values) for values in zip(*((r.people, r.cpu, r.wall) for r in group), strict=True))
    tracts, size, peak = sum(r.tracts for r in group), sum(r.files_bytes for r in group), max(r.peak_mib for r in group)
    cells = (
        f"{people:,} | {tracts:,} | {cpu:.1f} | {cpu / people * 1e6:.1f} | {wall:.1f} | | {peak:.0f} | {size / 1e6:,.0f} | | | | |"
    )
    return f"| **all** | {cells}"


def sit(todo: Sequence[State], folder: Path, minutes: float) -> None:
    """Run one state after the other; none is begun after so many minutes."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("DBRECON_")}
    env |= {"DAS_S3ROOT": str(folder), "REIDENT": REIDENT}
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # workers whose parent ended first are measured too
    if REIDENT not in {row.reident for row in open_ledger(Config.load(env=env)).experiments()}:
        measured(["dbrtool.py", "-q", "--register", REIDENT], env)
    sitting, begin = time.strftime("%Y-%m-%d %H:%M", time.gmtime()), time.monotonic()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for state in todo:
        if time.monotonic() - begin > 60 * minutes:
            print(f"{minutes:g} minutes are over: the same command goes on with {state.stusab}", file=sys.stderr)
            return
        result = run_state(state, folder, env, sitting)
        part = RESULTS / f"{state.stusab}.part"
        part.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
        part.replace(RESULTS / f"{state.stusab}.json")
        print(f"{state.stusab}: {state.people:,} people, {result.wall:.0f} s, {result.cpu:.0f} CPU s", file=sys.stderr, flush=True)


def asked(words: str | None, everyone: Sequence[State], done: dict[str, Result], again: bool) -> list[State]:
    """The states to be run."""
    names = words.split(",") if words else [state.stusab for state in everyone]
    if unknown := sorted(set(names) - {state.stusab for state in everyone}):
        raise UsageError(f"--states {words}: {', '.join(unknown)} is none of the 51 (wy,vt for example).")
    return [state for state in everyone if state.stusab in names and (again or state.stusab not in done)]


def main() -> int:
    """Run what is asked, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", metavar="ST[,ST]", help="these alone (default: all)")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin no state after so many (default: go on to the end)"
    )
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument("--report", action="store_true", help="run nothing, print the table")
    parser.add_argument("--folder", default="country-data", help="where states and the ledger lie (default %(default)s)")
    add_common(parser)
    args = parser.parse_args()
    start(args)
    everyone = states()
    todo = asked(args.states, everyone, results(), args.again)
    if not args.report:
        sit(todo, Path(args.folder).absolute(), args.minutes)
    text = report(list(results().values()), everyone)
    print(text, end="")
    return 0


if __name__ == "__main__":
    run_command(main)
