"""Which counties of a place have their people written: those that commands on people take."""

from __future__ import annotations

import logging

from dbrecon.ctools.progress import counted
from dbrecon.errors import InputError
from dbrecon.ledger.claiming import listed
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import EMPTY, WRITTEN
from dbrecon.place import Place
from dbrecon.steps.prepare import COUNTIES_NAMED

log = logging.getLogger(__name__)


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
        raise InputError(f"{reident} has no people written in {place.text()}: --run first (--step5 where all tracts are solved)")
    left_out = [" ".join(county) for county, status in found.items() if status != WRITTEN]
    if left_out:
        which = f"{len(left_out):,} of {counted(len(found), 'county')} ({listed(left_out, COUNTIES_NAMED)})"
        log.warning("left out, since their people are not written: %s; --run writes them, or --step5", which)
    return written
