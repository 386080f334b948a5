#!/usr/bin/env python3
"""Whether the most plausible answer is nearer to the truth, on populations that were made in different ways.

    bench/plausible.py [--tracts 8]

For each population: people who are wrong on 38 bins, and on single years, by the first answer that the solver finds (`objective =
none`) and by the one that spreads people (`spread`), each with years dealt evenly and dealt for the most expected matches; and CPU
seconds of the two solves. A population on which spreading loses is marked; it stays in the list.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
import numpy as np

from dbrecon.ctools.cli import run_command
from dbrecon.recon.census.bins import Binning, derive_binning
from dbrecon.recon.census.kinds import N_RH, IntArray
from dbrecon.recon.census.tables import Product, load_product
from dbrecon.recon.people.people import BinnedPeople, People
from dbrecon.recon.people.years import deal_years
from dbrecon.recon.solve.program import Options, Program
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.study.households import people_of_tract
from dbrecon.recon.tract.model import ModelBuilder, TractTables
from dbrecon.recon.tract.verify import people_of, tabulate, verify

SEED = 20100401
MIXED = np.array([0.4, 0.2, 0.25, 0.1, 0.03, 0.02])  # shares of households' race groups in a diverse county
WHITE = np.array([0.93, 0.02, 0.02, 0.01, 0.01, 0.01])
NO_QUARTERS = np.zeros(3, np.int64)


@dataclass(frozen=True)
class Tract:
    """The truth of a tract: people (blocks numbered from 0)."""

    block: IntArray
    kind: IntArray


def households(rng: np.random.Generator, people: int, blocks: int, races: np.ndarray, quarters: IntArray = NO_QUARTERS) -> Tract:
    """Return couples and children in households, of like race; blocks differ from the tract as real ones do."""
    made = people_of_tract(rng, people, blocks, quarters, races)
    return Tract(made.block, made.kind)


def segregated(rng: np.random.Generator) -> Tract:
    """Return every block of one race and origin alone, that of somebody who lives there."""
    tract = households(rng, 4000, 80, MIXED)
    race = np.zeros(int(tract.block.max()) + 1, np.int64)
    race[tract.block] = tract.kind % N_RH  # the last one who is counted there
    return Tract(tract.block, tract.kind // N_RH * N_RH + race[tract.block])


def independent(rng: np.random.Generator) -> Tract:
    """Block, age and race drawn independently of one another: what favours spreading."""
    tract = households(rng, 4000, 80, MIXED)
    order = rng.permutation(len(tract.kind))
    return Tract(tract.block, tract.kind // N_RH * N_RH + (tract.kind % N_RH)[order])


def clans(rng: np.random.Generator) -> Tract:
    """Draw blocks of which half are copies of their neighbour, sex, age and race alike: what spreading must get wrong."""
    tract = households(rng, 4000, 80, MIXED)
    order = np.argsort(tract.block, kind="stable")
    block, kind = tract.block[order], tract.kind[order]
    copied = (rng.random(len(kind)) < 0.5) & (np.roll(block, 1) == block)
    for i in np.flatnonzero(copied).tolist():
        kind[i] = kind[i - 1]
    return Tract(block, kind)


def populations(tracts: int) -> Iterator[tuple[str, list[Tract]]]:
    """Yield the populations, each of so many tracts of 4,000 people or so."""
    makers = {
        "households, diverse": lambda rng: households(rng, 4000, 80, MIXED),
        "households, nearly all white": lambda rng: households(rng, 4000, 80, WHITE),
        "households, small blocks": lambda rng: households(rng, 4000, 250, MIXED),
        "prison, dormitory, nursing home": lambda rng: households(rng, 5000, 40, MIXED, np.array([1800, 1200, 400])),
        "segregated: a race a block": segregated,
        "independent draws": independent,
        "clans: half are their neighbour's copies": clans,
    }
    for number, (name, make) in enumerate(makers.items()):
        yield name, [make(np.random.default_rng([SEED, number, i])) for i in range(tracts)]


def published(product: Product, tract: Tract) -> TractTables:
    """Return the tract's tables."""
    n_blocks = int(tract.block.max()) + 1
    block_cells, tract_cells = tabulate(product, n_blocks, tract.block, tract.kind, np.ones(len(tract.kind), np.int64))
    populated = block_cells[:, 0] > 0
    return TractTables("10001000100", 1000 + np.flatnonzero(populated), block_cells[populated], tract_cells)


def wrong(truth: Tract, block: IntArray, kind: IntArray, count: IntArray, kinds: int) -> int:
    """Count the true people who have no partner of their block and kind among those that were made."""
    key, number = np.unique(np.concatenate([truth.block * kinds + truth.kind, block * kinds + kind]), return_inverse=True)
    n = len(truth.kind)
    existing = np.bincount(number[:n], minlength=len(key))
    made = np.bincount(number[n:], weights=count, minlength=len(key))
    return n - int(np.minimum(existing, made).sum())


def measure(product: Product, binning: Binning, builder: ModelBuilder, tract: Tract, objective: str) -> np.ndarray:
    """Return (wrong on bins, wrong on years dealt evenly, wrong on years dealt best, CPU seconds of the solve)."""
    tables, bins = published(product, tract), binning.bins
    model = builder.build(tables)
    begin = time.process_time()
    answer = solve(Program.of_model(model), Options(objective=objective), "a tract")
    seconds = time.process_time() - begin
    people = people_of(model, answer.values)
    binned = Tract(tract.block, bins.of_kind(tract.kind))
    found = [wrong(binned, _block_of(people), bins.of_kind(people.kind), people.count, bins.n_kinds)]
    for best in (False, True):
        dealt = deal_years(people, binning, tables.tract_cells, 0, "a tract", best)
        verify(product, tables, dealt)
        found.append(wrong(tract, _block_of(dealt), dealt.kind, dealt.count, 206 * N_RH))
    return np.array([*found, seconds])


def _block_of(people: BinnedPeople | People) -> IntArray:
    return people.geoid_block % 10_000 - 1000


def main() -> int:
    """Print a line a population."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracts", type=int, default=8, help="of each population (default %(default)s)")
    tracts = parser.parse_args().tracts
    product = load_product()
    binning = derive_binning(product)
    builder = ModelBuilder(product, binning.bins)
    print(f"{'':42}{'people':>8}{'wrong on 38 bins':>20}{'on years, evenly':>20}{'on years, best':>20}{'solve, CPU s':>15}")
    print(f"{'':50}" + f"{'none':>10}{'spread':>10}" * 3 + f"{'none':>8}{'spread':>7}")
    for name, made in populations(tracts):
        totals = [sum(measure(product, binning, builder, tract, objective) for tract in made) for objective in ("none", "spread")]
        first, spread = (np.asarray(total) for total in totals)
        people = sum(len(tract.kind) for tract in made)
        pairs = "".join(f"{first[i]:>10,.0f}{spread[i]:>10,.0f}" for i in range(3))
        lost = "   spreading loses" if spread[0] > first[0] or spread[2] > first[2] else ""
        print(f"{name:42}{people:>8,}{pairs}{first[3]:>8.2f}{spread[3]:>7.2f}{lost}", flush=True)
    return 0


if __name__ == "__main__":
    run_command(main)
