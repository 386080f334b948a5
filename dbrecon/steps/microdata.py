"""Step 5: the solutions of a county's tracts -> the county's people, synth_out_{SSCCC}.csv."""

import logging
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from dbrecon.ctools.cli import explain
from dbrecon.ctools.progress import counted
from dbrecon.ctools.storage import DamagedFile, MissingFile, exists, read_bytes, sopen
from dbrecon.errors import DBReconError, InputError, UsageError, VerificationError
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import SOLVED, CountyClaim, Worker
from dbrecon.place import Place
from dbrecon.recon.people.people import HEADER, People, write_rows
from dbrecon.recon.people.solution import REMEDY, Solution, parse_solution
from dbrecon.recon.tract.county_tables import CountyTables
from dbrecon.recon.tract.verify import verify_people
from dbrecon.states import STATES
from dbrecon.steps.lp_files import read_county
from dbrecon.steps.methods import builder_of, with_years

if TYPE_CHECKING:
    from dbrecon.ledger.ledger import Ledger

log = logging.getLogger(__name__)


def make_microdata(experiment: Experiment, stusab: str, county: str, tracts: Sequence[tuple[str, int]]) -> int:
    """Write the people of a county from the solutions of its tracts; return how many they are.

    ``tracts`` are all tracts (six digits) of the county that have people, with their published populations; others may be among
    them with 0. Bounded memory: one tract at a time.

    A solution that counts by age bins is completed from the county's tables, and checked against every published cell.

    Raises, and leaves no file that was not there: InputError for a tract without a solution or with a damaged one, or county tables
    that are needed and not there, VerificationError for one whose people are not as many as the published population, or do not
    make the published cells.
    """
    people = 0
    tables = _Tables(experiment, stusab, county)
    with sopen(experiment.synth_out(stusab, county), "wb", kms_key=experiment.kms_key) as out:
        out.write(HEADER)
        for tract, population in sorted(tracts):
            if population:
                found = _solution(experiment, stusab, county, tract, population)
                people += write_rows(tables.complete(found, experiment.sol(stusab, county, tract)), out)
    return people


class _Tables:
    """The tables of a county, which are read when the first solution needs them."""

    def __init__(self, experiment: Experiment, stusab: str, county: str) -> None:
        self._experiment, self._stusab, self._county = experiment, stusab, county

    @cached_property
    def _county_tables(self) -> CountyTables:
        product = builder_of(self._experiment).product
        return read_county(self._experiment, product, self._stusab, STATES[self._stusab].fips, self._county)

    def complete(self, found: Solution, source: str) -> People:
        """A solution's people with single years. ``source`` names it in errors."""
        people = found.people
        if people.exact.all():
            return People(people.geoid_block, people.kind, people.count)
        tables = self._county_tables.tract(found.tract[5:])
        dealt = with_years(self._experiment, people, tables, found.seed, source)
        verify_people(self._county_tables.product, tables, dealt, source, REMEDY)
        return dealt


def _solution(experiment: Experiment, stusab: str, county: str, tract: str, population: int) -> Solution:
    """The solution of one tract, with as many people as published."""
    path = experiment.sol(stusab, county, tract)
    place = f"{stusab} {county} {tract}"
    try:
        text = read_bytes(path)
    except DamagedFile:
        again = f"--step3 --step4 --force --stusab {stusab} --county {county} --tract {tract}"
        raise InputError(f"{path}: the solution of tract {place} is not a whole gzip file; make it again ({again}).") from None
    except MissingFile:
        again = f"--step4 --force --stusab {stusab} --county {county} --tract {tract}"
        wanted = f"tract {place} with {counted(population, 'person')}"
        raise InputError(f"{path}: there is no solution of {wanted}; make it ({again}).") from None
    found = parse_solution(text, path, f"{STATES[stusab].fips}{county}{tract}")
    people = found.people
    if people.population != population:
        raise VerificationError(
            f"{path}: the solution of tract {place} has {counted(people.population, 'person')}, the tables {population:,}; "
            f"make it again (--step4 --force --stusab {stusab} --county {county} --tract {tract})."
        )
    return found


def write_claimed(experiment: Experiment, ledger: "Ledger", claim: CountyClaim) -> int:
    """Write a claimed county's people, then enter it in the ledger; return how many they are.

    If that fails, the claim is given back and the error goes on.
    """
    begun = time.monotonic()
    try:
        states = ledger.tract_states(experiment.reident, claim.stusab, claim.county)
        people = make_microdata(experiment, claim.stusab, claim.county, [(one.tract, one.pop) for one in states])
    except BaseException:
        ledger.release([claim])
        raise
    ledger.csv_written(claim, time.monotonic() - begun)
    return people


def make_counties(experiment: Experiment, ledger: "Ledger", place: Place, force: bool = False) -> Iterator[tuple[str, int]]:
    """Write the people of one county, or of each county of a state that is ready; yield every county with its number of people.

    What is written already is left alone unless ``force``. A county that fails does not stop the others: the first error is
    raised at the end. Raises UsageError if a county was asked for that cannot be written now.
    """
    reident, stusab, county = experiment.reident, place.stusab, place.county
    if stusab is None or place.tracts is not None:
        raise UsageError(f"people are written of a county or of each county of a state, not of {place.text()}.")
    ledger.check_place(reident, place)
    if force:
        from dbrecon.steps.prepare import put_back

        put_back(ledger, reident, 5, place)
    elif county is not None and not _is_due(experiment, ledger, stusab, county):
        return
    worker, lease = Worker.here(), experiment.config.run.lease_seconds
    failures: list[DBReconError] = []
    for one in ledger.counties(reident, stusab) if county is None else [county]:
        claim = ledger.claim_county(reident, worker, lease_seconds=lease, place=Place(stusab, one))
        if claim is None:
            if county is not None:
                raise UsageError(_why_not(ledger, reident, stusab, one))
            continue
        try:
            people = write_claimed(experiment, ledger, claim)
        except DBReconError as error:
            if county is not None:
                raise
            failures.append(error)
            log.error("county %s of %s is not written: %s", one, stusab, explain(error))
        else:
            yield one, people
    if failures:
        raise failures[0]


def _is_due(experiment: Experiment, ledger: "Ledger", stusab: str, county: str) -> bool:
    """False if the ledger has the county's people as written and the file is there; if it has gone, the county is reopened."""
    work = ledger.work_left(experiment.reident, (5,), Place(stusab, county))
    counties_left = work.counties_claimable + work.counties_running + work.counties_waiting + work.counties_quarantined
    if counties_left or _open_tracts(ledger, experiment.reident, stusab, county) != []:
        return True
    path = experiment.synth_out(stusab, county)
    if exists(path):
        log.info("%s exists; --force makes it again", path)
        return False
    ledger.reset(experiment.reident, 5, Place(stusab, county))
    return True


def _open_tracts(ledger: "Ledger", reident: str, stusab: str, county: str) -> list[str] | None:
    """The county's tracts with people that are not solved, each with its status; None if it has no people at all."""
    states = [one for one in ledger.tract_states(reident, stusab, county) if one.pop]
    return [f"{one.tract} ({one.status})" for one in states if one.status != SOLVED] if states else None


def _why_not(ledger: "Ledger", reident: str, stusab: str, county: str) -> str:
    """Why a county cannot be claimed."""
    tracts = _open_tracts(ledger, reident, stusab, county)
    if tracts is None:
        return f"County {county} of {stusab} has no people: there is nothing to write."
    if tracts:
        return (
            f"County {county} of {stusab} has tracts that are not solved, {len(tracts):,} in all "
            f"({', '.join(tracts[:5])}{', ...' if len(tracts) > 5 else ''}): solve them first "
            f"(--step3 --step4 --stusab {stusab} --county {county}; quarantined ones after --retry_quarantined)."
        )
    return (
        f"County {county} of {stusab} is being written by another worker, rests after a failure, or is quarantined: see --status."
    )
