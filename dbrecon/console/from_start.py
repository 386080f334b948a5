"""``--register --run``: a reconstruction from nothing to its people, by one command that goes on where it ended before."""

from __future__ import annotations

from dbrecon.console.commands import asked_place, open_ledger, states_asked
from dbrecon.console.parser import Arguments
from dbrecon.console.registration import chosen_name, chosen_product, register_new, seeded
from dbrecon.console.step_commands import do_states, do_tracts
from dbrecon.ctools import storage
from dbrecon.ctools.database import describe
from dbrecon.ctools.progress import say
from dbrecon.errors import InputError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.node.daemon import EXIT_QUARANTINED
from dbrecon.place import EVERYWHERE, Place
from dbrecon.settings import Config
from dbrecon.steps.download import states_to_download, stusabs_in_dist
from dbrecon.steps.prepare import check_writable, open_experiment, settled
from dbrecon.steps.provenance import counties_to_make


def run_from_start(args: Arguments, config: Config) -> int:
    """Register the experiment if it is new, make what its states lack, and work until nothing is left; --run's exit code.

    Each step does what it does alone: what is there already is left as it is, and what ends a step ends this.
    """
    reident = chosen_name(args)
    if args.step3 or args.step4:
        raise UsageError("--register --run does all steps: leave --step3 and --step4 out")
    if args.county is not None:
        asked_place(args)  # a county of several states, or of none, is refused before anything is done
    check_writable(config)
    ledger = open_ledger(config)
    experiment = _registered(ledger, config, reident, args)
    stusabs = _states(experiment, states_asked(args))
    _download_lacking(experiment, ledger, stusabs)
    say(f"Steps 1 and 2: geography and county files of {', '.join(stusabs)}, into {experiment.base}/work")
    do_states([1, 2], experiment, ledger, stusabs, force=False)
    return _solve(args, ledger, experiment, _places(args, stusabs))


def _registered(ledger: Ledger, config: Config, reident: str, args: Arguments) -> Experiment:
    """Return the experiment, made now if it is new. UsageError if it is there on another product, tables or ages than are asked
    for."""
    tables, ages, product = args.tables, args.ages, chosen_product(args.product)
    found = {row.reident: row for row in ledger.experiments()}.get(reident)
    if found is None:
        experiment = Experiment.make(reident, seeded(args, config), tables or "all", ages or "bins", product)
        _check_certainty(args, experiment)
        say(f"Registering {reident} in {describe(ledger.engine)}, on {experiment.tables} tables")
        register_new(ledger, experiment)
        return experiment
    if tables and tables != found.tables:
        raise UsageError(f"{reident} is registered on {found.tables} tables: leave --tables {tables} out, or register another name")
    if ages and ages != found.ages:
        raise UsageError(f"{reident} is registered with --ages {found.ages}: leave --ages {ages} out, or register another name")
    if args.product and product != found.product:
        raise UsageError(f"{reident} is registered on {found.product}: leave --product out, or register another name")
    if args.seed is not None and args.seed != (seed := settled(ledger, found, config).seed):
        raise UsageError(f"{reident} is registered with the seed {seed}: leave --seed out, or register another name")
    say(f"{reident} is registered in {describe(ledger.engine)} already: going on with it")
    experiment = open_experiment(ledger, config, reident, to_solve=True)
    _check_certainty(args, experiment)
    return experiment


def _check_certainty(args: Arguments, experiment: Experiment) -> None:
    """Raise UsageError, before anything is done, for --step6 on tables that have none."""
    if args.step6:
        from dbrecon.steps.certainty_records import check_available

        check_available(experiment)


def _states(experiment: Experiment, words: list[str]) -> list[str]:
    """Return the states to do: those that are named (``all``: as step 0 has it); else those whose zip is in dist/."""
    found = states_to_download(words) if words else stusabs_in_dist(experiment)
    if not found:
        raise InputError(f"{experiment.dist}: there is no zip of any state; name the states to download (--stusab ri)")
    return found


def _download_lacking(experiment: Experiment, ledger: Ledger, stusabs: list[str]) -> None:
    """Step 0 of the states that have no zip and need one."""
    lacking = [
        stusab
        for stusab in stusabs
        if not storage.exists(experiment.dist_zip(stusab)) and not _is_unpacked(experiment, ledger, stusab)
    ]
    for stusab in lacking:
        say(f"Step 0: downloading {experiment.url(stusab)} to {experiment.dist_zip(stusab)}")
    if lacking:
        do_states([0], experiment, ledger, lacking, force=False)
    else:
        say(f"Step 0: nothing is to be downloaded to {experiment.dist}")


def _is_unpacked(experiment: Experiment, ledger: Ledger, stusab: str) -> bool:
    """Return whether steps 1 and 2 have taken all that they need from the state's zip."""
    if not ledger.has_geography(experiment.reident, stusab) or not storage.exists(experiment.geofile(stusab)):
        return False
    return not counties_to_make(experiment, ledger, stusab, ledger.counties(experiment.reident, stusab))


def _places(args: Arguments, stusabs: list[str]) -> list[Place]:
    """Return what is to be solved, one after the other: each state that was named, or all of the experiment at once."""
    if args.stusab in (None, "all"):
        return [EVERYWHERE]
    return [asked_place(args)] if len(stusabs) == 1 else [Place(stusab) for stusab in stusabs]


def _solve(args: Arguments, ledger: Ledger, experiment: Experiment, places: list[Place]) -> int:
    """Do steps 3 to 5, or with --step6 to 6, of each place; return the exit code of the first that was broken off, else 10 if a
    tract
    is in quarantine."""
    worst = 0
    steps, made = ("3 to 6", "solutions, people and their certainty") if args.step6 else ("3 to 5", "solutions and people")
    for place in places:
        say(f"Steps {steps}: LP files, {made} of {place.text()}, into {experiment.base}/work")
        code = do_tracts(args, experiment, ledger, place)
        if code not in (0, EXIT_QUARANTINED):
            return code
        worst = max(worst, code)
    return worst
