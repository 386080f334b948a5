"""What the command lines share: which experiment, which place, and the ledger that knows them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from dbrecon.console.parser import Arguments, split
from dbrecon.errors import DatabaseError, UsageError
from dbrecon.experiment import Experiment, check_reident
from dbrecon.place import Place
from dbrecon.settings import Config
from dbrecon.states import STATES

if TYPE_CHECKING:
    from dbrecon.ledger.ledger import Ledger


def asked_reident(args: Arguments) -> str:
    """Return the REIDENT of the command line or the environment. Raises UsageError if there is none or it cannot be one."""
    if not args.reident:
        raise UsageError("which experiment? Give --reident R or set the environment variable REIDENT")
    return check_reident(args.reident)


def asked_place(args: Arguments) -> Place:
    """Return the place of the command line. Raises UsageError for several states, or a county without its state."""
    states = [word for word in states_asked(args) if word != "all"]
    if len(states) > 1:
        raise UsageError(f"{', '.join(states)}: several states at once are for steps 0 to 2; here name one, or none for all")
    stusab = states[0] if states else None
    if args.county is not None and stusab is None:
        raise UsageError("a county needs its state: give --stusab too")
    if args.tract is not None and args.county is None:
        raise UsageError("a tract needs its county: give --county too")
    return Place(stusab, args.county, tuple(split(args.tract)) if args.tract else None)


def place_in_words(ledger: Ledger, reident: str, place: Place) -> str:
    """Return a place with its names, as in "oh 059 (Guernsey County, Ohio)"."""
    if place.stusab is None:
        return place.text()
    county = ledger.county_names(reident, place).get((place.stusab, place.county), "") if place.county else ""
    return f"{place.text()} ({', '.join(name for name in (county, STATES[place.stusab].name) if name)})"


def states_asked(args: Arguments) -> list[str]:
    """Return the states that are named, or ``all``."""
    return split(args.stusab)


def asked_steps(args: Arguments) -> list[int]:
    """Return the numbers of the steps on the command line."""
    return [step for step in range(7) if getattr(args, f"step{step}")]


def open_ledger(config: Config, patience: float = 0.0, *, make: bool = True) -> Ledger:
    """Return the ledger that the settings or the encrypted credentials name. ``patience``: seconds to wait for a database that is
    away.

    Commands that only read, or change what is there, do not ``make`` it: a misspelt root stays as it is. NoSuchDatabase then.
    Those that do make it also upgrade the tables of an earlier version.
    """
    from dbrecon.ctools.database import check_exists, make_engine  # slow to load, and --tell and --help need none of it
    from dbrecon.fleet.credentials import with_credentials
    from dbrecon.ledger.ledger import Ledger
    from dbrecon.ledger.records import Beats

    engine = make_engine(**with_credentials(config).database())
    if not make:
        check_exists(engine)
    beats = Beats(config.run.lease_seconds, config.run.heartbeat_seconds)
    return Ledger(engine, patience=patience, upgrade=make, beats=beats)


def find_experiment(config: Config, reident: str, product: str | None = None) -> Experiment:
    """Return an experiment for commands that need its files alone: as the database has it; else, where that does not answer or does
    not know it, of the first product in whose folder it lies; ``product`` names another, or its folder."""
    from dbrecon.ctools import storage
    from dbrecon.recon.product.release import load_release, shipped
    from dbrecon.steps.prepare import open_experiment

    with contextlib.suppress(DatabaseError):
        return open_experiment(open_ledger(config, make=False), config, reident)
    if product is not None:
        from dbrecon.console.registration import chosen_product

        return Experiment.make(reident, config, product=chosen_product(product))
    found = [Experiment.make(reident, config, product=load_release(name).product) for name in shipped()]
    with_files = [experiment for experiment in found if next(storage.listdir(experiment.base), None) is not None]
    return with_files[0] if with_files else Experiment.make(reident, config)
