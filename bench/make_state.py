#!/usr/bin/env python3
"""Makes a synthetic state: its zip of published tables, and the people it tells of.

    bench/make_state.py --stusab de --people 40000 --seed 1 --out demo/dist --truth demo/truth_de.csv.gz

The state's code is a real one, since the system knows no others; its people are invented. The same options make the
same bytes.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dbrecon.ctools.venv  # noqa: F401 - without the packages this starts again under .venv

# isort: split
from tqdm import tqdm

from bench.talk import add_common, start
from dbrecon.ctools.cli import run_command
from dbrecon.ctools.progress import counted
from dbrecon.ctools.storage import sopen
from dbrecon.errors import StorageError, UsageError
from dbrecon.recon.people.people import HEADER
from dbrecon.recon.product.release import DEFAULT_RELEASE, Release, load_release, shipped
from dbrecon.recon.product.writer import County, segments_written, write_state_zip
from dbrecon.recon.study.synthetic import StatePlan, make_counties, plan_state, truth_lines
from dbrecon.states import STATES, check_stusab

log = logging.getLogger(__name__)


def make_state(plan: StatePlan, out: str, truth: str | None, release: Release | None = None) -> None:
    """Write the plan's zip to the local path ``out`` and, if ``truth`` is a path, its people there (gzip by ``.gz``).

    Raises StorageError if one cannot be written; then neither is there, nor replaced.
    """
    folder = os.path.dirname(os.path.abspath(out))
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: the folder cannot be made ({error.strerror}); take another --out.") from error
    release = release or load_release()
    steps = len(plan.counties) + 1 + len(segments_written(release))
    with tqdm(total=steps, disable=not sys.stderr.isatty(), unit="part", leave=False) as bar:

        def tell(what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update()
            log.debug("%s: %s done", out, what)

        state = plan.state
        if truth is None:
            write_state_zip(Path(out), plan.stusab, state, make_counties(plan), release, progress=tell)
            return
        with sopen(truth, "wb") as file:
            file.write(HEADER)

            def recorded_counties() -> Iterator[County]:
                for county in make_counties(plan):
                    for lines in truth_lines(county):
                        file.write(lines)
                    yield county

            write_state_zip(Path(out), plan.stusab, state, recorded_counties(), release, progress=tell)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stusab", required=True, help="two-letter code of the state to play, as in de")
    parser.add_argument("--people", type=int, required=True, help="how many, exactly")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another state (default %(default)s)")
    parser.add_argument("--out", required=True, help="the zip to write, or the folder to put it into under its published name")
    parser.add_argument("--product", default=DEFAULT_RELEASE, help=f"{', '.join(shipped())} or a folder (default %(default)s)")
    parser.add_argument("--truth", help="where to write the people, one a line; gzipped if it ends in .gz")
    parser.add_argument("--counties", type=int, help="how many (default: one for every 98,000 people, at least 4)")
    parser.add_argument("--tracts", type=int, help="about how many have people (default: one for every 4,257 people)")
    parser.add_argument("--big_tract", type=int, default=0, metavar="N", help="one tract has N people, as in 40000")
    parser.add_argument("--big_block", type=int, default=0, metavar="N", help="one tract has N people, all in one block")
    add_common(parser)
    return parser.parse_args(arguments)


def main() -> int:
    """Make the state and print where it is, as one line a file."""
    args = parse()
    start(args)
    stusab = check_stusab(args.stusab)
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed}: a seed is 0 or more.")
    sizes = args.counties, args.big_tract, args.big_block, args.tracts
    plan = plan_state(stusab, STATES[stusab].fips, args.people, args.seed, *sizes)
    release = load_release(args.product)
    out = args.out if args.out.endswith(".zip") else os.path.join(args.out, release.zip_of(stusab))
    make_state(plan, out, args.truth, release)
    made = (counted(plan.population, "person"), counted(len(plan.counties), "county"), counted(plan.n_tracts, "tract"))
    print(f"{out}: {', '.join(made)}")
    if args.truth:
        print(f"{args.truth}: the people, one a line")
    return 0


if __name__ == "__main__":
    run_command(main)
