#!/usr/bin/env python3
"""CPU seconds and peak memory of every step, beside the floor, measured in the same run.

    make bench                                          a synthetic state of 100,000 people
    bench/bench.py --zip oh2010.sf1.zip [--zip ...]

The floor is what cannot be left out: inflating the needed members (by Python's zipfile) for steps 1 and 2; building the model and
HiGHS's own solve of it for steps 3 to 5. It is measured in one process, without its start-up; steps are measured as the
commands that an operator types, with the start-up of all their processes, on SQLite and local files.
"""

import argparse
import ctypes
import os
import platform
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
from dbrecon.console.commands import open_ledger
from dbrecon.ctools.cli import run_command
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import CountyDigests
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.solve.highs import highs_version
from dbrecon.recon.solve.program import Options, Program
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.tract.model import ModelBuilder
from dbrecon.settings import Config
from dbrecon.steps.download import open_zip, state_reader
from dbrecon.steps.lp_files import read_county
from dbrecon.steps.prepare import open_experiment

HERE = Path(__file__).resolve().parent.parent
PR_SET_CHILD_SUBREAPER = 36
SYNTHETIC_PEOPLE = 100_000


@dataclass(frozen=True)
class Cost:
    """What some work took: CPU seconds, wall seconds, MiB of the largest process."""

    cpu: float
    wall: float
    peak: float


def measured(command: list[str], env: dict[str, str]) -> Cost:
    """Run a command; its cost includes all its descendants'. Ends the bench if it fails."""
    return measured_together([(command, env)])


def measured_together(commands: Sequence[tuple[list[str], dict[str, str]]]) -> Cost:
    """Run commands, each with its environment, side by side; the cost is of all their descendants. Ends the bench if one fails."""
    begin = time.monotonic()
    started: dict[int, tuple[subprocess.Popen[bytes], list[str]]] = {}
    for words, env in commands:
        child = subprocess.Popen([sys.executable, *words], cwd=HERE, env=env, stdout=subprocess.DEVNULL)
        started[child.pid] = child, words
    cpu, peak, failed = 0.0, 0, []
    while True:  # the commands, and processes that outlived their parent by a moment, which are ours then
        try:
            pid, status, usage = os.wait3(0)
        except ChildProcessError:
            break
        cpu, peak = cpu + usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss)
        if pid in started:
            child, words = started[pid]
            child.returncode = os.waitstatus_to_exitcode(status)
            failed += [f"{' '.join(words)} left with code {child.returncode}"] if child.returncode else []
    if failed:
        sys.exit("; ".join(failed))
    return Cost(cpu, time.monotonic() - begin, peak / 1024)


def cpu_of(work: Callable[[], object]) -> float:
    """Return CPU seconds of a function in this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def inflate(experiment: Experiment, stusab: str) -> int:
    """Unpack the members that steps 1 and 2 need with Python's zipfile; return their bytes."""
    with open_zip(experiment, stusab) as opened:
        members = state_reader(experiment, opened).members
    total = 0
    with zipfile.ZipFile(experiment.dist_zip(stusab)) as archive:
        for member in members:
            with archive.open(member) as file:
                while block := file.read(1 << 20):
                    total += len(block)
    return total


def floor_of_solving(experiment: Experiment, ledger_tracts: list[tuple[str, str]], stusab: str) -> tuple[float, float]:
    """Return CPU seconds of building all tracts' models, and of HiGHS's own solves, and nothing else."""
    builder = ModelBuilder(load_product(tables=experiment.tables))
    building = solving = 0.0
    county, tables_of_county = "", None
    for code, tract in ledger_tracts:
        if code != county:
            county, tables_of_county = code, read_county(experiment, builder.product, stusab, code, CountyDigests(None, "", ""))
        assert tables_of_county is not None
        tables = tables_of_county.tract(tract)
        begin = time.process_time()
        model = builder.build(tables)
        built = time.process_time()
        solve(Program.of_model(model), Options(), tables.geoid)
        building, solving = building + built - begin, solving + time.process_time() - built
    return building, solving


def row(what: str, cpu: float, people: int, peak: float | None = None, wall: float | None = None, note: str = "") -> None:
    """Print a line of the table."""
    memory = f"{peak:9.0f}" if peak is not None else " " * 9
    clock = f"{wall:9.2f}" if wall is not None else " " * 9
    print(f"  {what:<34}{cpu:9.3f}{cpu / people * 1e6:12.2f}{clock}{memory}   {note}")


def bench(zip_path: Path, folder: Path) -> None:
    """Measure one state's zip."""
    stusab = zip_path.name[:2]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MYSQL_", "DBRECON_"))}
    env |= {"DAS_S3ROOT": str(folder), "REIDENT": "bench"}
    dist = folder / "2010-re" / "bench" / "dist"
    dist.mkdir(parents=True)
    (dist / zip_path.name).symlink_to(zip_path.resolve())
    measured(["dbrtool.py", "--register", "bench"], env)
    step1 = measured(["s1_make_geo_files.py", "-q", stusab], env)
    step2 = measured(["s2_pandas_build_csv.py", "-q", stusab], env)
    steps345 = measured(["dbrtool.py", "-q", "--run"], env)
    again = [measured([name, "-q", stusab], env).cpu for name in ("s1_make_geo_files.py", "s2_pandas_build_csv.py")]
    idle = measured(["dbrtool.py", "-q", "--run"], env)
    report(stusab, env, Measured(step1, step2, sum(again), steps345, idle.cpu))


@dataclass(frozen=True)
class Measured:
    """The steps' costs; ``again12`` and ``again345`` are CPU seconds of the same commands when nothing is left to do."""

    step1: Cost
    step2: Cost
    again12: float
    steps345: Cost
    again345: float


def report(stusab: str, env: dict[str, str], steps: Measured) -> None:
    """Measure the floors on the same files, and print all of it."""
    config = Config.load(env=env)
    ledger = open_ledger(config)
    experiment = open_experiment(ledger, config, "bench")
    states = [state for state in ledger.tract_states("bench", stusab) if state.pop]
    people = sum(state.pop for state in states)
    inflated = [0]
    unzip = min(cpu_of(lambda: inflated.__setitem__(0, inflate(experiment, stusab))) for _ in range(3))
    build, solving = floor_of_solving(experiment, [(state.county, state.tract) for state in states], stusab)
    floor = build + solving
    print(f"\n{stusab}: {people:,} people in {len(states)} tracts; {inflated[0] / 1e6:.1f} MB in the needed members of the zip")
    print(f"  {'':<34}{'CPU s':>9}{'per million':>12}{'wall s':>9}{'peak MiB':>9}")
    row("floor of steps 1, 2: unzip", unzip, people)
    row("step 1", steps.step1.cpu, people, steps.step1.peak, steps.step1.wall)
    row("step 2", steps.step2.cpu, people, steps.step2.peak, steps.step2.wall)
    both = steps.step1.cpu + steps.step2.cpu
    row("steps 1 and 2", both, people, None, None, f"{both / unzip:.1f} x their floor; aim 3 x, 40 s per million")
    net = both - steps.again12
    row("    less a run with nothing to do", net, people, None, None, f"{net / unzip:.1f} x their floor")
    row("floor of steps 3 to 5: model", build, people)
    row("floor of steps 3 to 5: HiGHS", solving, people)
    row("floor of steps 3 to 5", floor, people, None, None, "aim 80 s per million")
    ratio = f"{steps.steps345.cpu / floor:.2f} x their floor; aim 2.5 x"
    row("steps 3 to 5, files written", steps.steps345.cpu, people, steps.steps345.peak, steps.steps345.wall, ratio)
    net = steps.steps345.cpu - steps.again345
    row("  less a run with nothing to do", net, people, None, None, f"{net / floor:.2f} x their floor")


def main() -> int:
    """Bench the given zips, or a synthetic state."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zip", action="append", type=Path, default=[], help="a state's zip, as oh2010.sf1.zip")
    parser.add_argument("--people", type=int, default=SYNTHETIC_PEOPLE, help="of the synthetic state (default %(default)s)")
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    processor = platform.processor() or platform.machine()
    print(f"Python {platform.python_version()}, {highs_version()}, {os.cpu_count()} processors ({processor})")
    with tempfile.TemporaryDirectory(prefix="dbrecon-bench-") as folder:
        zips = args.zip
        if not zips:
            measured(
                ["bench/make_state.py", "-q", "--stusab", "de", "--people", str(args.people), "--out", folder], dict(os.environ)
            )
            zips = [Path(folder) / "de2010.sf1.zip"]
        for number, path in enumerate(zips):
            bench(path, Path(folder) / str(number))
    return 0


if __name__ == "__main__":
    run_command(main)
