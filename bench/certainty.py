#!/usr/bin/env python3
"""What certainty costs: CPU seconds a million people of step 6's parts, the share of LPs and MIPs, memory, and what was closed.

    bench/certainty.py --people 1160000 --seed 7
    bench/certainty.py --people 10000000 --counties 102 --tracts 60

On synthetic counties (bench/make_state.py's), reconstructed in memory; one process. CPU time, since other work on the machine
does not count in it. --tracts takes so many of the tracts, evenly among all.
"""

import argparse
import itertools
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
import numpy as np

from bench.talk import add_common, start
from dbrecon.ctools.cli import run_command
from dbrecon.recon.census.tables import Product, load_product
from dbrecon.recon.certainty import minimum
from dbrecon.recon.certainty.blockwise import blockwise_system
from dbrecon.recon.certainty.labels import Labels
from dbrecon.recon.certainty.record import certainty_builder, counts_of
from dbrecon.recon.certainty.search import Budget, Proof
from dbrecon.recon.certainty.tract_certainty import blockwise_distances, bounds, certainty
from dbrecon.recon.certainty.warm_lp import WarmLp
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People
from dbrecon.recon.solve.program import Options
from dbrecon.recon.solve.propagation import CountSystem
from dbrecon.recon.study.synthetic import StatePlan, make_counties, plan_state
from dbrecon.recon.tract.model import TractTables
from dbrecon.recon.tract.reconstruct import Reconstructor
from dbrecon.recon.tract.verify import tabulate


def tracts_of(product: Product, plan: StatePlan, most: int | None) -> Iterator[TractTables]:
    """Yield the tables of a plan's tracts, or of so many of them, evenly among all."""
    every = 1 if most is None else max(1, plan.n_tracts // most)
    number = itertools.count()
    for county in make_counties(plan):
        people = county.people
        chosen = [geoid for geoid in np.unique(people.geoid_tract).tolist() if next(number) % every == every // 2]
        for geoid in chosen:
            yield tract_tables(product, geoid, people.select(people.geoid_tract == geoid))


def tract_tables(product: Product, geoid: int, here: People) -> TractTables:
    """Return the tables of the people of one tract."""
    blocks, at = np.unique(here.geoid_block % BLOCKS_PER_TRACT, return_inverse=True)
    return TractTables(f"{geoid:011d}", blocks, *tabulate(product, len(blocks), at, here.kind, here.count))


def timed(owner: Any, name: str, seconds: dict[str, float]) -> None:
    """Have a function add the CPU seconds it takes to ``seconds``."""
    plain: Callable[..., Any] = getattr(owner, name)

    def run(*args: Any) -> Any:
        begin = time.process_time()
        try:
            return plain(*args)
        finally:
            seconds[name] += time.process_time() - begin

    setattr(owner, name, run)


def measure(
    product: Product, tracts: Iterator[TractTables], objective: str, budget: Budget
) -> tuple[dict[str, float], Counter[str]]:
    """Return CPU seconds by part, and counts of what was found."""
    seconds: dict[str, float] = defaultdict(float)
    found: Counter[str] = Counter()
    reconstructor, builder = Reconstructor(product), certainty_builder(product)
    timed(WarmLp, "minimise", seconds)
    timed(minimum, "solve_mip", seconds)
    for tables in tracts:
        begin = time.process_time()
        made = reconstructor.reconstruct(tables, Options(objective=objective))
        solved = time.process_time()
        model = builder.build(tables)
        counts = counts_of(model, made.people)
        system = CountSystem.of_model(model)
        built, inside = time.process_time(), seconds["minimise"] + seconds["solve_mip"]
        relaxed, _ = blockwise_system(system, model.block, model.row_block)
        lower, upper = bounds(relaxed)
        blockwise_distances(relaxed, lower, upper, model, Labels.of_model(model, lower < upper), counts, budget)
        blockwise, inside = time.process_time(), seconds["minimise"] + seconds["solve_mip"] - inside
        certain = certainty(model, counts, budget)
        end = time.process_time()
        seconds["reconstruction"] += solved - begin
        seconds["blockwise bound"] += blockwise - built
        seconds["step 6"] += end - blockwise + (built - solved)
        seconds["slowest tract"] = max(seconds["slowest tract"], end - blockwise)
        seconds["solver in the blockwise bound, measured twice"] += inside
        found.update(Proof(proof).name.lower() for proof in certain.exact.proof.tolist())
        found.update(
            people=int(certain.people.sum()),
            blocks=len(certain.people),
            tracts=1,
            differ=int(certain.exact.upper.sum()),
            differ_least=int(certain.exact.lower.sum()),
            blockwise=int(certain.blockwise.upper.sum()),
            without=int((certain.exact.upper == 0).sum()),
            certain=int(certain.certain.sum()),
            steps=certain.steps,
        )
    return seconds, found


def report(seconds: dict[str, float], found: Counter[str]) -> str:
    """Return the figures as Markdown."""
    people = found["people"]
    twice = seconds["solver in the blockwise bound, measured twice"]
    lps = seconds["minimise"]
    rows = [
        ("reconstruction of the same tracts, for comparison", seconds["reconstruction"]),
        ("step 6", seconds["step 6"]),
        ("of it the blockwise bound", seconds["blockwise bound"]),
    ]
    lines = ["| CPU seconds | all | a million people |", "|---|--:|--:|"]
    lines += [f"| {name} | {value:.2f} | {1e6 * value / people:.1f} |" for name, value in rows]
    share = 100 * (lps + seconds["solve_mip"] - twice) / max(seconds["step 6"], 1e-9)
    proofs = ", ".join(f"{proof.name.lower()} {found[proof.name.lower()]:,}" for proof in Proof)
    lines += [
        "",
        f"{people:,} people, {found['tracts']:,} tracts, {found['blocks']:,} blocks; peak memory "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB",
        f"LPs and MIPs are {share:.0f} % of step 6 (MIPs, the blockwise bound's measured twice, {seconds['solve_mip']:.2f} s); "
        f"the slowest tract took {seconds['slowest tract']:.1f} s",
        f"blocks without variability {100 * found['without'] / found['blocks']:.1f} %; cumulative "
        f"{100 * found['differ_least'] / people:.3f} to {100 * found['differ'] / people:.3f} %, blockwise "
        f"{100 * found['blockwise'] / people:.3f} %; certain {100 * found['certain'] / people:.2f} %",
        f"blocks by proof: {proofs}; {found['steps']:,} solver steps",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=100_000, help="how many (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another county (default %(default)s)")
    parser.add_argument("--counties", type=int, default=1, help="in how many counties (default %(default)s)")
    parser.add_argument("--tracts", type=int, metavar="N", help="N of the tracts alone, evenly among all")
    parser.add_argument("--big_tract", type=int, default=0, metavar="N", help="one tract has N people")
    parser.add_argument("--block_tables", action="store_true", help="on block tables alone")
    parser.add_argument(
        "--objective", choices=("spread", "none"), default="spread", help="of the reconstruction ([solve] objective)"
    )
    parser.add_argument("--tree_steps", type=int, default=Budget.tree, help="[certainty] tree_steps (default %(default)s)")
    parser.add_argument("--tract_steps", type=int, default=Budget.tract, help="[certainty] tract_steps (default %(default)s)")
    add_common(parser)
    args = parser.parse_args()
    start(args)
    plan = plan_state("de", "10", args.people, args.seed, args.counties, args.big_tract)
    product = load_product(tables="block" if args.block_tables else "all")
    tracts = tracts_of(product, plan, args.tracts)
    print(report(*measure(product, tracts, args.objective, Budget(tree=args.tree_steps, tract=args.tract_steps))))
    return 0


if __name__ == "__main__":
    run_command(main)
