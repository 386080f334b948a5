#!/usr/bin/env python3
"""The main job in one go, on a synthetic state with known people: from its published tables to checked people.

    make demo [PRODUCT=dhc2020]

Everything lies in demo-data/ beside this checkout's files, which each run makes anew. SQLite, local files, HiGHS.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
from dbrecon.recon.product.release import DEFAULT_RELEASE, load_release, shipped

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE / "demo-data"
PEOPLE = 40_000
STUSAB = "de"
TRUTH = ROOT / "truth_de.csv.gz"


def environment() -> dict[str, str]:
    """Return the embedded default: a local root, no MySQL, this checkout's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MYSQL_", "DBRECON_"))}
    return kept | {"DAS_S3ROOT": str(ROOT), "REIDENT": "demo"}


def run(what: str, *command: str) -> str:
    """Run one of the product's commands, show it and how long it took; return what it printed. Its failure is the demo's."""
    print(f"\n{what}\n  $ {' '.join(command)}", flush=True)
    begin = time.monotonic()
    done = subprocess.run([sys.executable, *command], cwd=HERE, env=environment(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.stdout.write(done.stdout)
        sys.exit(f"the demo ends here: {command[0]} left with code {done.returncode}")
    print(f"  ({time.monotonic() - begin:.1f} s)", flush=True)
    return done.stdout


def indented(text: str) -> str:
    """Move each line of the text in."""
    return "".join(f"  {line}\n" if line else "\n" for line in text.rstrip().splitlines())


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--product", default=DEFAULT_RELEASE, choices=shipped(), help="whose tables (default %(default)s)")
    release = load_release(parser.parse_args().product)
    base = ROOT / release.prefix / "demo"
    dist = base / "dist"
    begin = time.monotonic()
    shutil.rmtree(ROOT, ignore_errors=True)
    print(f"A reconstruction from beginning to end: {PEOPLE:,} invented people of a state called {STUSAB.upper()}.")
    zip_and_truth = ["--out", str(dist.relative_to(HERE)), "--truth", str(TRUTH.relative_to(HERE))]
    run(
        "Making the state: its tables as published, and its people:",
        *("bench/make_state.py", "-q", "--stusab", STUSAB, "--people", str(PEOPLE), "--seed", "1"),
        *("--product", release.name, *zip_and_truth),
    )
    run("Registering an experiment (its tables are in SQLite):", "dbrtool.py", "--register", "demo", "--product", release.name)
    run("Steps 1 and 2, from the zip to each county's tables:", "dbrtool.py", "-q", "--step1", "--step2", "--stusab", "all")
    did = run("Steps 3 to 5, by the scheduler: an integer program a tract, solved, checked:", "dbrtool.py", "-q", "--run")
    print(indented(did), end="")
    report = run("Comparing the reconstructed people with the true ones:", "dbrtool.py", "-q", "--evaluate", zip_and_truth[-1])
    print(indented(report))
    work = base.relative_to(HERE) / "work" / STUSAB
    print(f"""All of it took {time.monotonic() - begin:.0f} seconds. The files:
  {dist.relative_to(HERE)}/   the state's zip, as published
  {work}/10001/   a county: its tables, lp/, sol/, and synth_out_10001.csv, its people
  {zip_and_truth[-1]}   who really lives there
What to try next:
  export DAS_S3ROOT={ROOT} REIDENT=demo
  ./dbrtool.py --status
  ./dbrtool.py --step4 --stusab {STUSAB} --county 001 --force   solve a county again, from its LP files
  ./dbrtool.py --register blocks --tables block   an experiment on block tables alone
  ./dbrtool.py --help""")


if __name__ == "__main__":
    main()
