"""What the command lines share: which experiment, which place, and the ledger that knows them."""

import argparse
import logging
import os
import re

from dbrecon.ctools import storage
from dbrecon.ctools.database import check_exists, make_engine
from dbrecon.ctools.progress import counted
from dbrecon.errors import UsageError
from dbrecon.experiment import Experiment, check_reident
from dbrecon.fleet.credentials import with_credentials
from dbrecon.ledger.ledger import Ledger
from dbrecon.place import Place
from dbrecon.settings import Config
from dbrecon.states import check_stusab

log = logging.getLogger(__name__)

COUNTIES_NAMED = 5
"""So many of the counties that a sentence is about are named in it."""


def add_reident(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add --reident, whose default is the environment's REIDENT."""
    parser.add_argument("--reident", metavar="R", default=os.environ.get("REIDENT"), help="the experiment (default: $REIDENT)")


def asked_reident(args: argparse.Namespace) -> str:
    """The REIDENT of the command line or the environment. Raises UsageError if there is none or it cannot be one."""
    if not args.reident:
        raise UsageError("which experiment? Give --reident R or set the environment variable REIDENT")
    return check_reident(args.reident)


def add_place(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add --stusab, --county and --tract."""
    parser.add_argument("--stusab", metavar="ST", help="a state by its two letters, or all")
    parser.add_argument("--county", metavar="CCC", help="a county of the state, by its three digits")
    parser.add_argument("--tract", metavar="TTTTTT,...", help="tracts of the county, by their six digits")


def asked_place(args: argparse.Namespace) -> Place:
    """The place of the command line. Raises UsageError for an unknown state, or a county without its state."""
    stusab = None if args.stusab in (None, "all") else check_stusab(args.stusab)
    tracts = tuple(part.strip() for part in args.tract.split(",") if part.strip()) if args.tract else None
    if args.county is not None and stusab is None:
        raise UsageError("a county needs its state: give --stusab too")
    if tracts is not None and args.county is None:
        raise UsageError("a tract needs its county: give --county too")
    county = args.county.zfill(3) if args.county and re.fullmatch("[0-9]{1,2}", args.county) else args.county  # 59 is 059
    return Place(stusab, county, tracts)


def open_ledger(config: Config, patience: float = 0.0, *, make: bool = True) -> Ledger:
    """The ledger that the settings or the encrypted credentials name. ``patience``: seconds to wait for a database that is away.

    Commands that only read, or change what is there, do not ``make`` it: a misspelt root stays as it is. NoSuchDatabase then.
    """
    engine = make_engine(**with_credentials(config).database())
    if not make:
        check_exists(engine)
    return Ledger(engine, patience=patience)


def open_experiment(ledger: Ledger, config: Config, reident: str) -> Experiment:
    """A registered experiment. Raises DatabaseError, naming those that exist, if it is none."""
    return Experiment.make(reident, config, ledger.experiment(reident).tables)


def reset(ledger: Ledger, reident: str, step: int, place: Place) -> None:
    """For --force: put what the step has made in a place back to work, and say how much of it was finished."""
    solved, written = ledger.finished(reident, place)
    ledger.reset(reident, step, place)
    tell_put_back(0 if step == 5 else solved, written, place)


def tell_put_back(solved: int, written: int, place: Place) -> None:
    """Say how much finished work --force has put back, if there was any."""
    parts = [counted(solved, "solved tract")] if solved else []
    parts += [counted(written, "written county", "written counties")] if written else []
    if parts:
        verb = "is" if solved + written == 1 else "are"
        log.info("--force: %s of %s %s to be done again", " and ".join(parts), place.text(), verb)


def check_writable(config: Config) -> None:
    """StorageError if nothing can be written where the experiments lie: better now than after hours."""
    storage.make_writable_check(f"{config.root()}/2010-re", config.s3.kms_key)
