#!/usr/bin/env python3
"""What Spark costs over workflow 1: steps 3 to 5 of a synthetic state by the scheduler, and by Spark on the same cores.

    bench/spark.py --people 1000000

Both run as the commands that an operator types, one after the other, on SQLite and local files; then every file of the one is
compared with the other's. Spark is the embedded one (local[*], or what --master says); CPU seconds hold all processes of this
machine that the command started, so those of another master's executors are missing.
"""

import argparse
import ctypes
import filecmp
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
from bench.bench import PR_SET_CHILD_SUBREAPER, Cost, measured
from dbrecon.ctools.cli import run_command


def main() -> int:
    """Run both, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000_000, help="of the synthetic state (default %(default)s)")
    parser.add_argument("--master", default="local[*]", help="(default %(default)s)")
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="dbrecon-bench-") as folder:
        root = Path(folder)
        (root / "config.ini").write_text(f"[spark]\nmaster = {args.master}\n", encoding="utf-8")
        env = {name: value for name, value in os.environ.items() if not name.startswith(("MYSQL_", "DBRECON_"))}
        env |= {"DAS_S3ROOT": folder, "DBRECON_CONFIG": str(root / "config.ini")}
        state = ["bench/make_state.py", "-q", "--stusab", "de", "--people", str(args.people), "--out", folder]
        measured(state, env)
        for reident in ("scheduler", "spark"):
            dist = root / "2010-re" / reident / "dist"
            measured(["dbrtool.py", "--register", reident], env)
            shutil.copy(root / "de2010.sf1.zip", dist)
            measured(["dbrtool.py", "-q", "--reident", reident, "--step1", "--step2"], env)
        scheduler = measured(["dbrtool.py", "-q", "--reident", "scheduler", "--run"], env)
        spark = measured(["dbrtool.py", "-q", "--reident", "spark", "--spark", "--run"], env)
        idle = measured(["dbrtool.py", "-q", "--reident", "spark", "--spark", "--run"], env)
        report(args.people, scheduler, spark, idle)
        compare(root / "2010-re" / "scheduler" / "work", root / "2010-re" / "spark" / "work")
    return 0


def report(people: int, scheduler: Cost, spark: Cost, idle: Cost) -> None:
    """Print the costs, and what is more by how much."""
    print(f"\nsteps 3 to 5 of {people:,} people on {len(os.sched_getaffinity(0))} processors")
    print(f"  {'':<34}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}")
    for what, cost in (("scheduler", scheduler), ("Spark", spark), ("Spark, with nothing to do", idle)):
        print(f"  {what:<34}{cost.wall:9.1f}{cost.cpu:9.1f}{cost.peak:10.0f}")
    print(f"  {'more by Spark, %':<34}{100 * (spark.wall / scheduler.wall - 1):9.1f}{100 * (spark.cpu / scheduler.cpu - 1):9.1f}")
    wall, cpu = (spark.wall - idle.wall) / scheduler.wall, (spark.cpu - idle.cpu) / scheduler.cpu
    print(f"  {'    less its start and end, %':<34}{100 * (wall - 1):9.1f}{100 * (cpu - 1):9.1f}   (aim 25)")


def compare(first: Path, other: Path) -> None:
    """Say how many files are the same; end with 1 if one is not."""
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    others = sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file())
    same, different, broken = filecmp.cmpfiles(first, other, names, shallow=False)
    print(f"  {len(same):,} of {len(names):,} files are the same, byte for byte")
    if names != others or different or broken:
        sys.exit(f"these differ: {sorted(set(names) ^ set(others)) + different + broken}")


if __name__ == "__main__":
    run_command(main)
