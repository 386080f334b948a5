#!/usr/bin/env python3
"""Hard tracts: seconds and memory of the worst that were found, each in a process of its own.

    bench/hard.py

Aim: no tract of a state takes more than 60 seconds or 2 GiB. Most of these are harder than any real tract: people drawn evenly from
all 25,956 kinds fill tables that no zero thins out.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
import numpy as np

from dbrecon.ctools.cli import run_command
from dbrecon.recon.census.bins import derive_binning
from dbrecon.recon.census.kinds import N_KINDS, IntArray, split_kind
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.people.years import deal_years
from dbrecon.recon.solve.program import Options, Program
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.study.synthetic import make_county, plan_state
from dbrecon.recon.tract.model import ModelBuilder, TractTables
from dbrecon.recon.tract.verify import check_answer, people_of, tabulate, verify

SEED = 1
Drawn = tuple[IntArray, IntArray, IntArray]


def evenly(blocks: int, people: int, ages: tuple[int, int] = (0, 102)) -> Drawn:
    """Return people of all kinds alike, of some age categories, in some blocks."""
    rng = np.random.default_rng(SEED)
    age = split_kind(np.arange(N_KINDS))[1]
    kinds = np.flatnonzero((age >= ages[0]) & (age <= ages[1]))
    return rng.integers(0, blocks, people), rng.choice(kinds, people), np.ones(people, np.int64)


def of_state(big_tract: int = 0, big_block: int = 0) -> Drawn:
    """Draw the biggest tract of a synthetic state."""
    plan = plan_state("de", "10", max(big_tract, big_block) + 6000, SEED, None, big_tract, big_block)
    found: tuple[int, Drawn] | None = None
    for number in range(len(plan.counties)):
        people = make_county(plan, number).people
        for tract in np.unique(people.geoid_tract):
            here = people.geoid_tract == tract
            size = int(people.count[here].sum())
            if found is None or size > found[0]:
                block = np.unique(people.geoid_block[here], return_inverse=True)[1]
                found = size, (block, people.kind[here], people.count[here])
    assert found is not None
    return found[1]


TRACTS: dict[str, Callable[[], Drawn]] = {
    "9,000 people of a synthetic state": lambda: of_state(big_tract=9_000),
    "40,000 people of a synthetic state": lambda: of_state(big_tract=40_000),
    "40,000 people in one block": lambda: of_state(big_block=40_000),
    "a dormitory town: 8,000 people of 18 to 24, all races, 50 blocks": lambda: evenly(50, 8_000, (18, 24)),
    "a prison: 3,000 people of 20 to 50, all races, one block": lambda: evenly(1, 3_000, (20, 50)),
    "2,000 people of all kinds in one block": lambda: evenly(1, 2_000),
    "8,000 people of all kinds in 3 blocks": lambda: evenly(3, 8_000),
    "6,000 people of all kinds in 4 blocks": lambda: evenly(4, 6_000),
    "4,000 people of all kinds in 40 blocks": lambda: evenly(40, 4_000),
    "8,000 people of all kinds in 200 blocks": lambda: evenly(200, 8_000),
}


def work(name: str, tables: str) -> None:
    """Build, solve and check one tract; print what it took."""
    product = load_product(tables=tables)
    block, kind, count = TRACTS[name]()
    n_blocks = int(block.max()) + 1
    block_cells, tract_cells = tabulate(product, n_blocks, block, kind, count)
    populated = block_cells[:, 0] > 0
    tract = TractTables("10001000100", 1000 + np.flatnonzero(populated), block_cells[populated], tract_cells)
    binning = derive_binning(product)
    builder = ModelBuilder(product, binning.bins)
    begin = time.process_time()
    model = builder.build(tract)
    built = time.process_time()
    answer = solve(Program.of_model(model), Options(), name)
    solved = time.process_time()
    check_answer(model, answer.values)
    verify(product, tract, deal_years(people_of(model, answer.values), binning, tract.tract_cells, 0, name))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = f"{model.n_variables:>9,}{model.n_constraints:>9,}"
    print(f"{name[:66]:<68}{tables:<6}{size}{built - begin:8.2f}{solved - built:8.2f}{peak:8.0f}", flush=True)


def main() -> int:
    """Run all of them, on all tables and on block tables alone."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{'tract':<68}{'tables':<6}{'variables':>9}{'rows':>9}{'model s':>8}{'solve s':>8}{'MiB':>8}")
    for name in TRACTS:
        for tables in ("all", "block"):
            process = multiprocessing.get_context("spawn").Process(target=work, args=(name, tables))
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(f"{name} ({tables}) was not solved")
    return 0


if __name__ == "__main__":
    run_command(main)
