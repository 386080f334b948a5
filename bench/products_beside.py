#!/usr/bin/env python3
"""The same synthetic people as 2010 SF1 and as 2020 DHC, in one run: what each product's steps cost, and how much memory they take.

    bench/products_beside.py --people 1000000
    bench/products_beside.py --stream 4

Each step is the command that an operator types, on SQLite and local files. With --stream a DHC state is made whose members have so
many GiB unpacked (mostly blocks without people), and steps 1 and 2 are measured on it. All files are removed afterwards.
"""

import argparse
import ctypes
import os
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
import numpy as np

from bench.bench import PR_SET_CHILD_SUBREAPER, Cost, measured
from dbrecon.ctools.cli import run_command
from dbrecon.recon.product.release import load_release
from dbrecon.recon.product.writer import County, write_state_zip
from dbrecon.recon.study.synthetic import make_counties, plan_state

PRODUCTS = ("sf1_2010", "dhc2020")
STUSAB, STATE = "de", "10"
STEPS = {"steps 1 and 2": ["--step1", "--step2"], "steps 3 to 5": ["--run"]}
BYTES_OF_EMPTY_BLOCK = 4_700  # of all members together
BLOCKS_A_TRACT = 8_000


def environment(folder: Path, product: str) -> dict[str, str]:
    """Return what the commands need, and nothing of a database elsewhere."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MYSQL_", "DBRECON_"))}
    return env | {"DAS_S3ROOT": str(folder), "REIDENT": product.split("_", maxsplit=1)[0]}


def costs_of(product: str, people: int, folder: Path) -> dict[str, Cost]:
    """Measure what each step of a product costs for so many people."""
    env = environment(folder, product)
    measured(["dbrtool.py", "--register", env["REIDENT"], "--product", product], env)
    dist = folder / load_release(product).prefix / env["REIDENT"] / "dist"
    options = ["--product", product, "--stusab", STUSAB, "--people", str(people), "--out", str(dist)]
    measured(["bench/make_state.py", "-q", *options], env)
    return {name: measured(["dbrtool.py", "-q", *words], env) for name, words in STEPS.items()}


def beside(people: int) -> str:
    """Return both products' costs as Markdown."""
    with tempfile.TemporaryDirectory(prefix="dbrecon-products-") as folder:
        costs = {product: costs_of(product, people, Path(folder)) for product in PRODUCTS}
    lines = [
        f"{people:,} people",
        "",
        "| | sf1_2010, CPU s | dhc2020, CPU s | ratio | peak MiB of a process |",
        "|---|--:|--:|--:|--:|",
    ]
    first, second = (costs[product] for product in PRODUCTS)
    for name in STEPS:
        this, other = first[name], second[name]
        lines.append(
            f"| {name} | {this.cpu:.1f} | {other.cpu:.1f} | {other.cpu / this.cpu:.2f} | {this.peak:.0f}, {other.peak:.0f} |"
        )
    totals = [sum(cost.cpu for cost in of.values()) for of in (first, second)]
    peaks = [max(cost.peak for cost in of.values()) for of in (first, second)]
    ratio = totals[1] / totals[0]
    lines.append(f"| **all** | {totals[0]:.1f} | {totals[1]:.1f} | {ratio:.2f} | {peaks[0]:.0f}, {peaks[1]:.0f} |")
    return "\n".join(lines)


def streamed(gibibytes: float) -> str:
    """Measure what steps 1 and 2 cost on a zip of so much text."""
    with tempfile.TemporaryDirectory(prefix="dbrecon-products-") as folder:
        env = environment(Path(folder), "dhc2020")
        measured(["dbrtool.py", "--register", env["REIDENT"], "--product", "dhc2020"], env)
        path = Path(folder) / "2020-re" / env["REIDENT"] / "dist" / f"{STUSAB}2020.dhc.zip"
        write_state_zip(
            path, STUSAB, STATE, with_empty_blocks(int(gibibytes * 2**30 / BYTES_OF_EMPTY_BLOCK)), load_release("dhc2020")
        )
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        cost, zipped = measured(["dbrtool.py", "-q", *STEPS["steps 1 and 2"]], env), path.stat().st_size
    return (
        f"steps 1 and 2 of a zip of {zipped / 1e6:.0f} MB, {unpacked / 2**30:.2f} GiB unpacked: {cost.cpu:.0f} CPU s, "
        f"{cost.wall:.0f} s, peak {cost.peak:.0f} MiB"
    )


def with_empty_blocks(blocks: int) -> list[County]:
    """Make a small state, and add so many blocks without people to its first county."""
    counties = list(make_counties(plan_state(STUSAB, STATE, 100_000, seed=1, counties=3)))
    first = counties[0]
    tracts = int(STATE + first.code) * 10**6 + 100_000 + np.arange(-(-blocks // BLOCKS_A_TRACT))
    empty = (tracts[:, None] * 10_000 + 1_000 + np.arange(BLOCKS_A_TRACT)).ravel()[:blocks]
    wider = County(first.code, first.name, np.union1d(first.tracts, tracts), np.union1d(first.blocks, empty), first.people)
    return [wider, *counties[1:]]


def main() -> int:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000_000, help="default %(default)s")
    parser.add_argument("--stream", type=float, metavar="GIB", help="a zip of so many GiB unpacked instead")
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    print(streamed(args.stream) if args.stream else beside(args.people))
    return 0


if __name__ == "__main__":
    run_command(main)
