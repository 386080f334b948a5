#!/usr/bin/env python3
"""The operator's command line: registers experiments, runs their steps, and shows where they stand."""

import ctools.venv  # noqa: F401 - first of all: without the packages this starts again under .venv

# isort: split
import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cluster.commands import Place, add_place, add_reident, asked_place, asked_reident, open_experiment, open_ledger
from cluster.ledger import Ledger
from cluster.status import format_errors, format_experiments, format_status, status_dict
from ctools import cli, storage
from ctools.database import describe
from ctools.progress import Progress
from dbrecon import STATES, TABLE_CHOICES, Config, Experiment, check_reident
from dbrerrors import InputError, UsageError

if TYPE_CHECKING:
    from recon.evaluation import County, Units
    from recon.tables import Product

log = logging.getLogger(__name__)

ACTIONS = ("register", "reidents", "drop", "validate", "run", "status", "errors", "retry_quarantined", "evaluate")
STEPS = range(6)
ERRORS_SHOWN = 20
COUNTIES_NAMED = 5

USAGE = "dbrtool.py --reident R ACTION [options]"
EPILOG = """examples:
  ./dbrtool.py --register r1                              an experiment on all 34 tables
  ./dbrtool.py --reident r1 --step0 --stusab ri,de        two states' zips from the Census Bureau
  ./dbrtool.py --reident r1 --step1 --step2 --stusab all  geography and county files of all zips in dist/
  ./dbrtool.py --reident r1 --run                         LP files, solutions and people, until nothing is left
  ./dbrtool.py --reident r1 --step4 --stusab oh --county 059 --tract 977100,977200 --force
  watch './dbrtool.py --status --reident r1'
  ./dbrtool.py --reident r1 --evaluate truth.csv.gz
With `export REIDENT=r1` there is no need of --reident. A long option may be shortened while it stays unambiguous.

where things are:
  $DAS_S3ROOT   the folder (or s3://bucket/prefix) of all experiments; it must be set
  MYSQL_HOST, MYSQL_DATABASE, MYSQL_USER, MYSQL_PASSWORD   the database; without them, SQLite below $DAS_S3ROOT
  config/config.ini   the settings

exit codes:
  0    done (--run: every tract is solved)
  1    the answer to --drop was not the name; or an error of the system
  2    a wrong command, or a setting that cannot be
  3    data that are missing, damaged or contradictory
  4    a file or bucket that cannot be read or written
  5    the database, or an experiment it does not have
  6    the solver or its licence
  7    a solution that does not give the published counts
  10   nothing is left but tracts in quarantine (--status lists them)
  130  interrupted (Ctrl-C): the same command goes on from there
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage of forty options."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)") from None


def positive(text: str) -> int:
    """A number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    """All options, grouped by task."""
    parser = _Parser(
        prog="dbrtool.py",
        usage=USAGE,
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("experiments")
    add_reident(group)
    group.add_argument("--register", nargs="?", const="", metavar="R", help="make a new experiment of that name")
    group.add_argument("--tables", choices=TABLE_CHOICES, help="with --register: all tables (default), or block tables alone")
    group.add_argument("--reidents", action="store_true", help="list the experiments")
    group.add_argument("--drop", action="store_true", help="remove the experiment's tables from the database, but no files")
    group = parser.add_argument_group("states (--stusab: one, several with commas, or all whose zip is in dist/)")
    group.add_argument("--step0", action="store_true", help="download the states' zips")
    group.add_argument("--validate", action="store_true", help="check the zips in dist/, and name what is broken")
    group.add_argument("--step1", action="store_true", help="geography and tracts into the database")
    group.add_argument("--step2", action="store_true", help="a block file and a tract file for each county")
    group = parser.add_argument_group("tracts and counties")
    group.add_argument("--run", action="store_true", help="run the scheduler here until nothing is left (--step3, --step4: of it)")
    group.add_argument("--step3", action="store_true", help="LP files")
    group.add_argument("--step4", action="store_true", help="solutions, checked against every published cell")
    group.add_argument("--step5", action="store_true", help="the people of counties whose tracts are solved")
    group.add_argument("--retry_quarantined", action="store_true", help="put tracts in quarantine back to work")
    group = parser.add_argument_group("where")
    add_place(group)
    group.add_argument("--force", action="store_true", help="with a step: make again what exists")
    group = parser.add_argument_group("watching")
    group.add_argument("--status", action="store_true", help="how far the experiment is")
    group.add_argument(
        "--errors", nargs="?", const=ERRORS_SHOWN, type=positive, metavar="N", help="the newest errors (--verbose: with stacks)"
    )
    group.add_argument("--evaluate", metavar="TRUTH", help="compare the people with a file of the true ones (.csv, .csv.gz)")
    group.add_argument("--json", action="store_true", help="with --status and --evaluate: for scripts")
    cli.add_common(parser)
    return parser


# -- what was asked -------------------------------------------------------------------------------------------------


def asked_steps(args: argparse.Namespace) -> list[int]:
    """The numbers of the steps on the command line."""
    return [step for step in STEPS if getattr(args, f"step{step}")]


def asked_action(args: argparse.Namespace) -> str | None:
    """The one thing to do: one of ``ACTIONS``, "steps", or None if there is nothing. Raises UsageError for two."""
    actions = [name for name in ACTIONS if getattr(args, name) not in (None, False)]
    steps = [f"step{step}" for step in asked_steps(args)]
    if len(actions) > 1 or (steps and actions not in ([], ["run"])):
        together = " and ".join(f"--{name}" for name in [*actions, *steps][:2])
        raise UsageError(f"{together} cannot be done at once: give one command after the other")
    return actions[0] if actions else "steps" if steps else None


def check_options(args: argparse.Namespace, action: str) -> None:
    """UsageError for options that mean nothing for this action."""
    steps = asked_steps(args)
    if args.tables and action != "register":
        raise UsageError("--tables is settled when an experiment is registered: give it with --register")
    if args.json and action not in ("status", "evaluate"):
        raise UsageError("--json goes with --status or --evaluate")
    if args.force and action != "steps":
        raise UsageError("--force goes with steps (--step1 --force, say), since it makes again what exists")
    if action == "run" and 5 in steps:
        raise UsageError("--run writes the people of each county by itself: leave --step5 out, or leave --run out")
    placeless = action in ("register", "reidents", "drop", "status", "errors")
    named = [name for name in ("stusab", "county", "tract") if getattr(args, name) is not None]
    if placeless and named:
        raise UsageError(f"--{action} takes no --{named[0]}")
    whole_states = action == "validate" or any(step < 3 for step in steps)
    if whole_states and "county" in named:
        raise UsageError("steps 0 to 2 and --validate do whole states: leave --county out")
    if args.stusab and "," in args.stusab and not (whole_states and action != "run" and max(steps, default=0) < 3):
        raise UsageError(f"--stusab {args.stusab}: several states at once are for steps 0 to 2; here name one, or none for all")


def states_asked(args: argparse.Namespace) -> list[str]:
    """The words of --stusab."""
    return [word.strip() for word in (args.stusab or "").split(",") if word.strip()]


# -- experiments ----------------------------------------------------------------------------------------------------


def register(args: argparse.Namespace, config: Config) -> int:
    """Make an experiment, and say what comes next."""
    from recon.tables import load_product

    name = args.register or args.reident
    if not name:
        raise UsageError("which name? Give it: --register R")
    reident, tables = check_reident(name), args.tables or "all"
    experiment = Experiment.make(reident, config, tables)
    check_writable(config)
    product = load_product(Path(config.get("sf1", "tables")), tables)
    ledger = open_ledger(config)
    ledger.register(reident, tables, product.name)
    if not storage.is_s3(experiment.dist):
        os.makedirs(experiment.dist, exist_ok=True)
    if next(storage.listdir(f"{experiment.base}/work"), None) is not None:
        left = "files of an earlier experiment: move them away, or begin with --step1 --step2 --force"
        log.warning("%s/work has %s", experiment.base, left)
    print(f"{reident} is registered in {describe(ledger.engine)}, on {'all' if tables == 'all' else 'block'} tables.")
    print(f"Next: put states' zips into {experiment.dist} (as oh2010.sf1.zip),")
    print(f"      or download some:   ./dbrtool.py --reident {reident} --step0 --stusab ri")
    print(f"then: ./dbrtool.py --reident {reident} --step1 --step2")
    print(f"and:  ./dbrtool.py --reident {reident} --run")
    return 0


def list_reidents(config: Config) -> int:
    """List the experiments."""
    ledger = open_ledger(config)
    rows = ledger.experiments()
    if not rows:
        print(f"{describe(ledger.engine)} has no experiments yet: make one with --register R")
        return 0
    print(format_experiments([(row, ledger.stusabs(row.reident), ledger.status(row.reident)) for row in rows]))
    return 0


def drop(args: argparse.Namespace, config: Config) -> int:
    """Remove an experiment's tables, if its name is typed."""
    reident, ledger = asked_reident(args), open_ledger(config)
    experiment = open_experiment(ledger, config, reident)
    status = ledger.status(reident)
    workers = len(ledger.claimants(reident))
    at_work = f" {workers} schedulers are at work on it." if workers else ""
    question = (
        f"{reident} in {describe(ledger.engine)}: {status.sol_created:,} of {status.sol_created + status.sol_remaining:,} tracts "
        f"are solved.{at_work} Its tables will be removed, its files stay.\nType its name to remove it:"
    )
    if not cli.confirm(question, reident):
        print("Nothing was removed.")
        return 1
    ledger.drop(reident)
    print(f"The tables of {reident} are removed. Its files stay in {experiment.base}")
    return 0


# -- steps ----------------------------------------------------------------------------------------------------------


def check_writable(config: Config) -> None:
    """StorageError if nothing can be written where the experiments lie: better now than after hours."""
    storage.make_writable_check(f"{config.root()}/2010-re")


def validate(args: argparse.Namespace, config: Config) -> int:
    """Check the zips in dist/, and name what is wrong with each; the exit code is that of bad data if something is."""
    from s0_download_data import report_validity

    return report_validity(Experiment.make(asked_reident(args), config), states_asked(args))


def do_steps(args: argparse.Namespace, config: Config) -> int:
    """Do the steps in their order; with --run, the scheduler after them."""
    steps, reident = asked_steps(args), asked_reident(args)
    of_tracts = frozenset(step for step in steps if step > 2)
    place = asked_place(args) if args.run or of_tracts else Place()
    check_writable(config)
    ledger = open_ledger(config)
    experiment = open_experiment(ledger, config, reident)
    do_states(steps, experiment, ledger, states_asked(args), args.force)
    if not args.run and not of_tracts:
        return 0
    if of_tracts == {5} and place.stusab and place.county:
        return one_county(experiment, ledger, place.stusab, place.county, args.force)
    from scheduler import run_here, steps_of

    if args.run:
        of_tracts = steps_of(args.step3, args.step4)
    check_ready(experiment, ledger, place, of_tracts)
    return run_here(ledger, config, reident, place, of_tracts, args.force)


def do_states(steps: Sequence[int], experiment: Experiment, ledger: Ledger, words: list[str], force: bool) -> None:
    """Steps 0 to 2, each for all states before the next; they print what they have made."""
    from s0_download_data import asked_states, download, each_state, states_to_download
    from s1_make_geo_files import make_geo_files
    from s2_pandas_build_csv import make_county_files

    def step1(stusab: str) -> str:
        make_geo_files(experiment, ledger, stusab, force)
        return experiment.geofile(stusab)

    def step2(stusab: str) -> str:
        number = make_county_files(experiment, ledger, stusab, force)
        return f"{stusab}: {number:,} counties' files written" if number else f"{stusab}: step 2 is done already"

    if 0 in steps:
        each_state(states_to_download(words), lambda stusab: download(experiment, stusab, force))
    later = [(1, step1), (2, step2)]
    if any(number in steps for number, _ in later):
        stusabs = asked_states(experiment, words)
        each_state(stusabs, *(work for number, work in later if number in steps))


def one_county(experiment: Experiment, ledger: Ledger, stusab: str, county: str, force: bool) -> int:
    """Step 5 of one county, which says why if it cannot be done."""
    from s5_make_microdata import make_counties

    for written, people in make_counties(experiment, ledger, stusab, county, force):
        print(f"{experiment.synth_out(stusab, written)}: {people:,} people")
    return 0


def check_ready(experiment: Experiment, ledger: Ledger, place: Place, steps: frozenset[int]) -> None:
    """Say so if what the steps need is not there: InputError without step 2; a warning where they will find less than asked."""
    from s2_pandas_build_csv import counties_to_make

    reident = experiment.reident
    ledger.check_place(reident, place.stusab, place.county, place.tracts)
    states = [place.stusab] if place.stusab else ledger.stusabs(reident)
    for stusab in states if steps & {3, 4} else []:
        if ledger.work_left(reident, steps & {3, 4}, stusab, place.county, place.tracts).nothing_left and 3 not in steps:
            continue
        counties = [place.county] if place.county else ledger.counties(reident, stusab)
        lacking = counties_to_make(experiment, stusab, counties)
        if lacking:
            more = ", ..." if len(lacking) > COUNTIES_NAMED else ""
            raise InputError(
                f"{reident}: {stusab} lacks the county files of {len(lacking):,} of {len(counties):,} counties "
                f"({', '.join(lacking[:COUNTIES_NAMED])}{more}): run --step2 --stusab {stusab} first"
            )
    first = "34" if steps == {5} else "3" if 3 not in steps else ""
    left = ledger.work_left(reident, [int(step) for step in first], place.stusab, place.county, place.tracts)
    number = left.claimable + left.running + left.waiting
    if number:
        log.warning("tracts that are not ready for this: %d; first comes --step%s", number, " --step".join(first))


# -- quarantine and errors ------------------------------------------------------------------------------------------


def retry_quarantined(args: argparse.Namespace, config: Config) -> int:
    """Put what is in quarantine back to work."""
    reident, place, ledger = asked_reident(args), asked_place(args), open_ledger(config)
    open_experiment(ledger, config, reident)
    ledger.check_place(reident, place.stusab, place.county, place.tracts)
    number = ledger.retry_quarantined(reident, place.stusab, place.county, place.tracts)
    print(f"{number:,} put back to work; go on with --run" if number else f"nothing is in quarantine in {place.text()}")
    return 0


def show_errors(args: argparse.Namespace, config: Config) -> int:
    """The newest errors, of one experiment or of all."""
    ledger = open_ledger(config)
    if args.reident:
        ledger.experiment(asked_reident(args))
    errors = ledger.errors(args.reident, args.errors)
    print(format_errors(errors, args.verbose) if errors else "no errors are recorded")
    return 0


def show_status(args: argparse.Namespace, config: Config) -> int:
    """Where an experiment stands."""
    reident, ledger = asked_reident(args), open_ledger(config)
    ledger.experiment(reident)
    status = ledger.status(reident)
    if args.json:
        print(json.dumps(status_dict(reident, status), indent=2))
        return 0
    # `watch` gives the width of its terminal in COLUMNS; what goes into a file or a pipe stays whole.
    on_screen = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    width = shutil.get_terminal_size().columns if on_screen else None
    everything = {"shown": None} if args.verbose else {}
    print(format_status(status, width, **everything))
    return 0


# -- evaluation -----------------------------------------------------------------------------------------------------


def evaluate_people(args: argparse.Namespace, config: Config) -> int:
    """Compare the counties that are written with the truth."""
    from recon.evaluation import evaluate, format_report
    from recon.tables import load_product

    reident, place, ledger = asked_reident(args), asked_place(args), open_ledger(config)
    experiment = open_experiment(ledger, config, reident)
    ledger.check_place(reident, place.stusab, place.county, place.tracts)
    if place.tracts:
        raise UsageError("--evaluate compares whole counties: leave --tract out")
    product = load_product(Path(config.get("sf1", "tables")), experiment.tables)
    counties = list(_written(experiment, ledger, place))
    if not counties:
        raise InputError(f"{reident} has no people written yet in {place.text()}: --run first")
    with storage.sopen(args.evaluate, "rb") as truth, Progress("evaluated", "county", len(counties)) as progress:

        def load(stusab: str, county: str) -> "County":
            progress.add(1)
            return _county(experiment, product, stusab, county)

        loaders = {STATES[stusab].fips + county: partial(load, stusab, county) for stusab, county in counties}
        result = evaluate(truth, args.evaluate, loaders, product)
    print(result.as_json() if args.json else format_report(result).rstrip())
    return 0


def _written(experiment: Experiment, ledger: Ledger, place: Place) -> Iterator[tuple[str, str]]:
    """State and county of each file of people."""
    for stusab in [place.stusab] if place.stusab else ledger.stusabs(experiment.reident):
        for county in [place.county] if place.county else ledger.counties(experiment.reident, stusab):
            if storage.exists(experiment.synth_out(stusab, county)):
                yield stusab, county


def _county(experiment: Experiment, product: "Product", stusab: str, county: str) -> "County":
    """What is evaluated of a county."""
    from recon.evaluation import County
    from recon.people_reader import read_people

    path = experiment.synth_out(stusab, county)
    with storage.sopen(path, "rb") as file:
        people = read_people(file, path)
    blocks = partial(_units, experiment.block_csv(stusab, county), product, "block")
    return County(people, blocks, partial(_units, experiment.tract_csv(stusab, county), product, "tract"))


def _units(path: str, product: "Product", level: str) -> "Iterator[Units]":
    from recon.evaluation import read_units

    with storage.sopen(path, "rb") as file:
        yield from read_units(file, path, product, level)


# -------------------------------------------------------------------------------------------------------------------


def main() -> int:
    """The command line."""
    args = make_parser().parse_args()
    cli.start(args)
    action = asked_action(args)
    if action is None:
        sys.stderr.write(f"usage: {USAGE}\nnothing to do: name an action (--register, --run, --status, ...); --help shows all\n")
        return UsageError.exit_code
    check_options(args, action)
    config = Config.load()
    if action == "reidents":
        return list_reidents(config)
    commands = {
        "register": register,
        "drop": drop,
        "validate": validate,
        "steps": do_steps,
        "run": do_steps,
        "status": show_status,
        "errors": show_errors,
        "retry_quarantined": retry_quarantined,
        "evaluate": evaluate_people,
    }
    return commands[action](args, config)


if __name__ == "__main__":
    cli.run_command(main)
