"""The steps, from the published zip to the people; and tracts that failed."""

import argparse
from collections.abc import Sequence
from functools import partial

from dbrecon.console.commands import (
    add_place,
    asked_place,
    asked_reident,
    check_writable,
    open_experiment,
    open_ledger,
)
from dbrecon.console.options import Action, Actions, states_asked
from dbrecon.ctools.progress import counted
from dbrecon.errors import UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.place import EVERYWHERE, Place
from dbrecon.settings import Config

STEPS = range(6)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this module's actions."""
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


def asked_steps(args: argparse.Namespace) -> list[int]:
    """The numbers of the steps on the command line."""
    return [step for step in STEPS if getattr(args, f"step{step}")]


def check_options(args: argparse.Namespace, action: str) -> None:
    """UsageError for steps and places that do not go together."""
    steps = asked_steps(args)
    if action == "spark":  # the same, done elsewhere
        action = "run" if args.run else "steps"
    if args.force and action not in ("steps", "launch", "launch_all"):
        raise UsageError("--force goes with steps (--step1 --force, say), since it makes again what exists")
    if action == "run" and 5 in steps:
        raise UsageError("--run writes the people of each county by itself: leave --step5 out, or leave --run out")
    whole_states = action == "validate" or any(step < 3 for step in steps)
    if whole_states and args.county is not None:
        raise UsageError("steps 0 to 2 and --validate do whole states: leave --county out")
    if args.stusab and "," in args.stusab and not (whole_states and action != "run" and max(steps, default=0) < 3):
        raise UsageError(f"--stusab {args.stusab}: several states at once are for steps 0 to 2; here name one, or none for all")


def validate(args: argparse.Namespace, config: Config) -> int:
    """Check the zips in dist/, and name what is wrong with each; the exit code is that of bad data if something is."""
    from dbrecon.steps.download import report_validity

    return report_validity(Experiment.make(asked_reident(args), config), states_asked(args))


def do_steps(args: argparse.Namespace, config: Config) -> int:
    """Do the steps in their order; with --run, the scheduler after them."""
    steps, reident = asked_steps(args), asked_reident(args)
    of_tracts = frozenset(step for step in steps if step > 2)
    place = asked_place(args) if args.run or of_tracts else EVERYWHERE
    check_writable(config)
    ledger = open_ledger(config)
    experiment = open_experiment(ledger, config, reident)
    do_states(steps, experiment, ledger, states_asked(args), args.force)
    if not args.run and not of_tracts:
        return 0
    if of_tracts == {5} and place.stusab and place.county:
        return one_county(experiment, ledger, place, args.force)
    from dbrecon.node.daemon import run_here, steps_of

    if args.run:
        of_tracts = steps_of(args.step3, args.step4)
    return run_here(ledger, config, reident, place, of_tracts, args.force)


def do_states(steps: Sequence[int], experiment: Experiment, ledger: Ledger, words: list[str], force: bool) -> None:
    """Steps 0 to 2, each for all states before the next; they print what they have made."""
    from dbrecon.steps.county_files import step2
    from dbrecon.steps.download import asked_states, download, each_state, states_to_download
    from dbrecon.steps.geography_files import step1

    if 0 in steps:
        each_state(states_to_download(words), lambda stusab: download(experiment, stusab, force))
    later = [(1, step1), (2, step2)]
    if any(number in steps for number, _ in later):
        stusabs = asked_states(experiment, words)
        works = [partial(work, experiment, ledger, force=force) for number, work in later if number in steps]
        each_state(stusabs, *works)


def one_county(experiment: Experiment, ledger: Ledger, place: Place, force: bool) -> int:
    """Step 5 of one county, which says why if it cannot be done."""
    from dbrecon.steps.microdata import make_counties

    for written, people in make_counties(experiment, ledger, place, force):
        print(f"{experiment.synth_out(place.stusab or '', written)}: {counted(people, 'person')}")
    return 0


def retry_quarantined(args: argparse.Namespace, config: Config) -> int:
    """Put what is in quarantine back to work."""
    reident, place, ledger = asked_reident(args), asked_place(args), open_ledger(config, make=False)
    open_experiment(ledger, config, reident)
    ledger.check_place(reident, place)
    number = ledger.retry_quarantined(reident, place)
    print(f"{number:,} put back to work; go on with --run" if number else f"nothing is in quarantine in {place.text()}")
    return 0


ACTIONS: Actions = {
    "validate": Action(validate),
    "steps": Action(do_steps),
    "run": Action(do_steps),
    "retry_quarantined": Action(retry_quarantined),
}
