#!/usr/bin/env python3
"""A synthetic state of any size through every step, with what each costs: does cost grow with people, and memory not?

    make bench-state PEOPLE=10000000

Each step is the command that an operator types, on SQLite and local files, with as many workers as there are cores; its cost has
the start-up of all its processes in it. The floor is inflating the needed members, building the models, and HiGHS's own solves:
models and solves are measured on every k-th tract, at most 600 of them, in one process, and scaled by people. The result is
printed, and kept under bench/results/.
"""

import argparse
import ctypes
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
import highspy
import numpy as np

from bench.bench import PR_SET_CHILD_SUBREAPER, Cost, cpu_of, floor_of_solving, inflate, measured
from dbrecon.console.commands import open_ledger
from dbrecon.ctools.cli import run_command
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import TractState
from dbrecon.settings import Config
from dbrecon.steps.prepare import open_experiment

HERE = Path(__file__).resolve().parent.parent
RESULTS = HERE / "bench" / "results"
STUSAB = "oh"
SAMPLED_TRACTS = 300


@dataclass(frozen=True)
class Step:
    """A step's cost, and the bytes of the files it made."""

    name: str
    cost: Cost
    written: int


def bytes_under(*paths: Path) -> int:
    """Return bytes of the files that are, or lie below, some paths."""
    total = 0
    for path in paths:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        total += sum(item.stat().st_size for item in files)
    return total


def run_steps(folder: Path, env: dict[str, str]) -> list[Step]:
    """Run steps 1 and 2, then 3 to 5 by the scheduler; return what each took."""
    work = folder / "2010-re" / "state" / "work" / STUSAB
    database = folder / "2010-re" / "dbrecon.sqlite3"
    steps = []
    for name, command in (
        ("step 1", ["s1_make_geo_files.py", "-q", STUSAB]),
        ("step 2", ["s2_pandas_build_csv.py", "-q", STUSAB]),
        ("steps 3 to 5", ["dbrtool.py", "-q", "--run"]),
    ):
        before = bytes_under(work, database)
        cost = measured(command, env)
        steps.append(Step(name, cost, bytes_under(work, database) - before))
        print(f"  {name}: {cost.wall:.0f} s", file=sys.stderr, flush=True)
    return steps


def sampled(ledger: Ledger) -> tuple[list[TractState], list[TractState]]:
    """Return (all tracts with people, every k-th of them)."""
    states = [state for state in ledger.tract_states("state", STUSAB) if state.pop]
    return states, states[:: max(1, len(states) // SAMPLED_TRACTS)]


def floors(experiment: Experiment, states: list[TractState], sample: list[TractState]) -> tuple[float, float, float]:
    """Return CPU seconds of the whole state's unzipping, model building and solving."""
    unzip = cpu_of(lambda: inflate(experiment, STUSAB))
    build, solving = floor_of_solving(experiment, [(state.county, state.tract) for state in sample], STUSAB)
    scale = sum(state.pop for state in states) / sum(state.pop for state in sample)
    return unzip, build * scale, solving * scale


def table(people: int, tracts: int, zip_bytes: int, steps: list[Step], floor: tuple[float, float, float]) -> list[str]:
    """Return the result as Markdown."""
    head = "| | CPU s | per million people | per 1,000 tracts | wall s | peak MiB of a process | MB written |"
    lines = [head, "|---|--:|--:|--:|--:|--:|--:|"]

    def row(name: str, cpu: float, rest: str = "| | | |") -> None:
        lines.append(f"| {name} | {cpu:.1f} | {cpu / people * 1e6:.2f} | {cpu / tracts * 1e3:.1f} {rest}")

    for step in steps:
        row(step.name, step.cost.cpu, f"| {step.cost.wall:.1f} | {step.cost.peak:.0f} | {step.written / 1e6:.0f} |")
    total = sum(step.cost.cpu for step in steps)
    wall, peak = sum(step.cost.wall for step in steps), max(step.cost.peak for step in steps)
    row("**all**", total, f"| {wall:.1f} | {peak:.0f} | {sum(step.written for step in steps) / 1e6:.0f} |")
    for name, cpu in zip(("floor: unzip", "floor: models", "floor: HiGHS"), floor, strict=True):
        row(name, cpu)
    row("**floor**", sum(floor))
    ratio, cost = total / sum(floor), total / people * 1e6
    lines.append(f"\nAll of it costs {ratio:.2f} times the floor (aim: 1.6), {cost:.1f} CPU seconds per million people (aim: 120).")
    lines.append(f"The zip has {zip_bytes / 1e6:.0f} MB.")
    return lines


def slowest(states: list[TractState]) -> list[str]:
    """Return the tracts that took longest, and say whether any took too long."""
    timed = sorted(states, key=lambda state: -(state.solve_seconds or 0))
    lines = ["\nThe slowest tracts (solve, check, write; aim: none above 60 s):\n"]
    lines += ["| people | variables | seconds |", "|--:|--:|--:|"]
    lines += [f"| {state.pop:,} | {state.variables or 0:,} | {state.solve_seconds:.1f} |" for state in timed[:5]]
    return lines


def bench(people: int, seed: int, folder: Path) -> str:
    """Make the state, run it, and say what it cost, as Markdown."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MYSQL_", "DBRECON_"))}
    env |= {"DAS_S3ROOT": str(folder), "REIDENT": "state"}
    dist = folder / "2010-re" / "state" / "dist"
    measured(["dbrtool.py", "--register", "state"], env)
    options = ["--stusab", STUSAB, "--people", str(people), "--seed", str(seed), "--out", str(dist)]
    made = measured(["bench/make_state.py", "-q", *options], env)
    print(f"  the state: {made.wall:.0f} s", file=sys.stderr, flush=True)
    steps = run_steps(folder, env)
    config = Config.load(env=env)
    ledger = open_ledger(config)
    experiment = open_experiment(ledger, config, "state")
    states, sample = sampled(ledger)
    unsolved = [state for state in states if state.status != "solved"]
    lines = [f"# {people:,} people, {len(states):,} tracts with people\n"]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    lines.append(f"{time.strftime('%Y-%m-%d', time.gmtime())}, commit {commit.stdout.strip()}, {os.cpu_count()} processors")
    versions = f"Python {platform.python_version()}, HiGHS {highspy.Highs().version()}, numpy {np.__version__}"
    lines.append(f"({platform.machine()}), {versions}.")
    lines.append(f"Unsolved tracts: {len(unsolved)}.\n")
    zip_bytes = bytes_under(dist)
    lines += table(people, len(states), zip_bytes, steps, floors(experiment, states, sample))
    lines += slowest(states)
    return "\n".join(lines) + "\n"


def main() -> int:
    """Bench a state of the size that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000_000, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="dbrecon-state-") as folder:
        text = bench(args.people, args.seed, Path(folder))
    print(text)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"state_{args.people}.md"
    path.write_text(text, encoding="utf-8")
    print(f"kept in {path.relative_to(HERE)}")
    return 0


if __name__ == "__main__":
    run_command(main)
