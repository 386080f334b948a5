"""Which counties of a place have their people written: those that commands on people take."""

from __future__ import annotations

import logging

from dbrecon.console.commands import asked_place, asked_reident, open_ledger
from dbrecon.console.parser import Arguments
from dbrecon.ctools.progress import counted
from dbrecon.errors import InputError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.claiming import listed
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import EMPTY, WRITTEN
from dbrecon.place import Place
from dbrecon.settings import Config
from dbrecon.steps.prepare import COUNTIES_NAMED, open_experiment

log = logging.getLogger(__name__)


def asked_counties(args: Arguments, config: Config, command: str) -> tuple[Experiment, Ledger, Place]:
    """Return the experiment, its ledger and the place of ``command`` ("--export", say): everywhere, a state or a county.

    Raises UsageError for tracts, or a place that is not in the ledger; DatabaseError for what is not registered.
    """
    reident, place, ledger = asked_reident(args), asked_place(args), open_ledger(config, make=False)
    experiment = open_experiment(ledger, config, reident)
    ledger.check_place(reident, place)
    if place.tracts:
        raise UsageError(f"{command} takes whole counties: leave --tract out")
    return experiment, ledger, place


def written_counties(ledger: Ledger, reident: str, place: Place) -> list[tuple[str, str]]:
    """Return state and county where people are written, as --status counts them: elsewhere files may be of earlier tables.

    Warns of those that are left out. Raises InputError if all are.
    """
    found = {
        (stusab, county): status
        for stusab in ([place.stusab] if place.stusab else ledger.stusabs(reident))
        for county, status in ledger.county_statuses(reident, stusab).items()
        if status != EMPTY and place.county in (None, county)
    }
    written = [county for county, status in found.items() if status == WRITTEN]
    if not written:
        where = f"in {place.text()}" if place.stusab else "anywhere"
        raise InputError(f"{reident} has no people written {where}: --run first (--step5 where all tracts are solved)")
    left_out = [" ".join(county) for county, status in found.items() if status != WRITTEN]
    if left_out:
        which = f"{len(left_out):,} of {counted(len(found), 'county')} ({listed(left_out, COUNTIES_NAMED)})"
        log.warning("left out, since their people are not written: %s; --run writes them, or --step5", which)
    return written


def checked_counties(experiment: Experiment, ledger: Ledger, place: Place) -> list[tuple[str, str]]:
    """Return the counties of a place whose people are written, and are with their tables what the ledger has accepted.
    InputError."""
    from dbrecon.steps.provenance import check_people, check_tables

    counties = written_counties(ledger, experiment.reident, place)
    for stusab in dict.fromkeys(stusab for stusab, _ in counties):
        of_state = [county for state, county in counties if state == stusab]
        check_tables(experiment, ledger, stusab, of_state)
        check_people(experiment, ledger, stusab, of_state)
    return counties
