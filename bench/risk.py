#!/usr/bin/env python3
"""What telling the risk costs: reidentification, the report of a place, an export, the audit of records.

    bench/risk.py --people 1000000 10000000

Each command is the one that an operator types, on a synthetic state with its truth, which is made and reconstructed first (not
counted). CPU seconds are of all its processes; the peak is of the largest one. ``--folder F`` keeps the states there, and takes
those that are there.
"""

import argparse
import ctypes
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
from bench.bench import PR_SET_CHILD_SUBREAPER, Cost, measured
from dbrecon.ctools.cli import run_command

STUSAB = "oh"
AUDITED = 40_000
HEAD = "| | people | CPU s | CPU s a million | wall s | peak MiB of a process |\n|---|--:|--:|--:|--:|--:|"


def environment(folder: Path, people: int) -> dict[str, str]:
    """Return where an experiment of so many people lies."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MYSQL_", "DBRECON_"))}
    return env | {"DAS_S3ROOT": str(folder / "root"), "REIDENT": f"people_{people}"}


def truth_of(folder: Path, people: int) -> Path:
    """Return where its true people lie."""
    return folder / f"truth_{people}.csv.gz"


def make(folder: Path, people: int) -> None:
    """Make a state and reconstruct it, unless that is done."""
    env, truth = environment(folder, people), truth_of(folder, people)
    dist = folder / "root" / "2010-re" / env["REIDENT"] / "dist"
    if not dist.exists():
        measured(["dbrtool.py", "--register", env["REIDENT"]], env)
    if not truth.exists():
        options = ["--stusab", STUSAB, "--people", str(people), "--truth", str(truth), "--out", str(dist)]
        measured(["bench/make_state.py", "-q", *options], env)
        measured(["dbrtool.py", "-q", "--step1", "--step2", "--stusab", STUSAB], env)
    measured(["dbrtool.py", "-q", "--run"], env)


def row(name: str, people: int, cost: Cost) -> str:
    """Return a line of the table."""
    a_million = cost.cpu / people * 1e6
    return f"| {name} | {people:,} | {cost.cpu:.1f} | {a_million:.1f} | {cost.wall:.0f} | {cost.peak:.0f} |"


def bench(folder: Path, people: int, room: Path) -> None:
    """Print what each command costs on a state of so many people."""
    env, truth = environment(folder, people), str(truth_of(folder, people))
    report = ["dbrtool.py", "-q", "--report", "--truth", truth, "--out", str(room / f"report_{people}")]
    print(row("`--report --truth`", people, measured(report, env)), flush=True)
    export = ["dbrtool.py", "-q", "--export", "parquet", "--out", str(room / f"export_{people}")]
    print(row("`--export parquet`", people, measured(export, env)), flush=True)
    if people > 2_000_000:
        return
    known = room / f"known_{people}"
    measured(["dbrtool.py", "-q", "--make_attacker", truth, "--coverage", "1", "--out", str(known)], env)
    words = ["--reidentify", str(known / "attacker.csv"), "--truth", str(known / "truth.csv")]
    print(row("`--reidentify`, 5 draws of ties", people, measured(["dbrtool.py", "-q", *words], env)), flush=True)


def bench_audit(folder: Path, room: Path) -> None:
    """Print what the audit of the demo's people costs."""
    env = environment(folder, AUDITED)
    truth, dist = room / "audited.csv.gz", room / "dist"
    options = ["--stusab", "de", "--people", str(AUDITED), "--truth", str(truth), "--out", str(dist)]
    measured(["bench/make_state.py", "-q", *options], env)
    audit = ["dbrtool.py", "-q", "--audit", str(truth)]
    print(row("`--audit`", AUDITED, measured([*audit, "--out", str(room / "audit")], env)), flush=True)
    ways = ["--what_if", "block", "swap=0.1", "--out", str(room / "audit_ways")]
    print(row("`--audit --what_if block swap=0.1`", AUDITED, measured([*audit, *ways], env)), flush=True)


def main() -> int:
    """Bench states of the sizes that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="*", default=[1_000_000], help="default %(default)s")
    parser.add_argument("--folder", type=Path, help="where states are kept (default: a temporary folder)")
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="dbrecon-risk-") as room:
        folder = args.folder or Path(room)
        print(HEAD)
        bench_audit(folder, Path(room))
        for people in args.people:
            make(folder, people)
            bench(folder, people, Path(room))
    return 0


if __name__ == "__main__":
    run_command(main)
