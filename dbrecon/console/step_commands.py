"""The steps, from the published zip to the people; and tracts that failed."""

from collections.abc import Sequence
from functools import partial

from dbrecon.console.commands import asked_place, asked_reident, asked_steps, find_experiment, open_ledger, states_asked
from dbrecon.console.parser import Arguments
from dbrecon.ctools.progress import counted
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.place import EVERYWHERE, Place
from dbrecon.settings import Config
from dbrecon.steps.prepare import check_writable, open_experiment


def validate(args: Arguments, config: Config) -> int:
    """Check the zips in dist/, and name what is wrong with each; the exit code is that of bad data if something is."""
    from dbrecon.steps.download import report_validity

    return report_validity(find_experiment(config, asked_reident(args)), states_asked(args))


def do_steps(args: Arguments, config: Config) -> int:
    """Do the steps in their order; with --run, the scheduler after them."""
    steps, reident = asked_steps(args), asked_reident(args)
    of_tracts = frozenset(step for step in steps if 2 < step < 6)
    place = asked_place(args) if args.run or max(steps, default=0) > 2 else EVERYWHERE
    check_writable(config)
    ledger = open_ledger(config)
    experiment = open_experiment(ledger, config, reident, to_solve=bool(args.run or of_tracts))
    if 6 in steps:
        from dbrecon.steps.certainty_records import check_available

        check_available(experiment)
    do_states(steps, experiment, ledger, states_asked(args), args.force)
    return do_tracts(args, experiment, ledger, place, of_tracts)


def do_tracts(
    args: Arguments, experiment: Experiment, ledger: Ledger, place: Place, of_tracts: frozenset[int] = frozenset()
) -> int:
    """Do steps 3 to 6 of a place, as far as --run, ``of_tracts`` (of 3 to 5) and --step6 ask for them; return the exit code.

    What asks more of step 6 than a scheduler does (--force, --cells, --samples) comes after the rest.
    """
    by_hand = args.force or args.cells or args.samples is not None
    if args.step6 and not by_hand:
        of_tracts |= {6}
        from dbrecon.console.certainty_commands import reopen_stale

        reopen_stale(experiment, ledger, place)
    code = _schedule(args, experiment, ledger, place, of_tracts) if args.run or of_tracts else 0
    if args.step6 and by_hand and code == 0:
        from dbrecon.console.certainty_commands import asked_samples, certify_counties

        samples = asked_samples(args)
        certify_counties(experiment, ledger, place, cells=args.cells, force=args.force, samples=samples)
    return code


def _schedule(args: Arguments, experiment: Experiment, ledger: Ledger, place: Place, of_tracts: frozenset[int]) -> int:
    """Do steps 3 to 6 of a place, as a scheduler does them."""
    if not args.run and of_tracts == {5} and place.stusab and place.county:
        write_counties(experiment, ledger, place, args.force)
        return 0
    from dbrecon.node.daemon import run_here, steps_of

    if args.run:
        of_tracts = steps_of(args.step3, args.step4) | (of_tracts & {6})
    return run_here(ledger, experiment.config, experiment.reident, place, of_tracts, args.force)


def do_states(steps: Sequence[int], experiment: Experiment, ledger: Ledger, words: list[str], force: bool) -> None:
    """Do steps 0 to 2 of states; they print what they have made."""
    if 0 in steps:
        from dbrecon.steps.download import download, each_state, states_to_download

        each_state(states_to_download(words), lambda stusab: download(experiment, stusab, force))
    if {1, 2} & set(steps):
        from dbrecon.console.state_steps import do_states_here, workers_for
        from dbrecon.steps.county_files import step2
        from dbrecon.steps.download import asked_states, each_state
        from dbrecon.steps.geography_files import step1

        stusabs = asked_states(experiment, words)
        if workers_for(len(stusabs)) > 1:
            do_states_here(experiment, ledger, {1, 2} & set(steps), stusabs, force)
            return
        works = [partial(work, experiment, ledger, force=force) for number, work in ((1, step1), (2, step2)) if number in steps]
        each_state(stusabs, *works)


def write_counties(experiment: Experiment, ledger: Ledger, place: Place, force: bool) -> None:
    """Step 5 of a county, which says why if it cannot be done, or of every county of a state that is ready."""
    from dbrecon.steps.microdata import make_counties

    for written, people in make_counties(experiment, ledger, place, force):
        print(f"{experiment.synth_out(place.stusab or '', written)}: {counted(people, 'person')}")


def retry_quarantined(args: Arguments, config: Config) -> int:
    """Put what is in quarantine back to work."""
    reident, place, ledger = asked_reident(args), asked_place(args), open_ledger(config, make=False)
    open_experiment(ledger, config, reident)
    ledger.check_place(reident, place)
    number = ledger.retry_quarantined(reident, place)
    print(f"{number:,} put back to work; go on with --run" if number else f"nothing is in quarantine in {place.text()}")
    return 0
