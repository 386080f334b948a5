"""Step 5: the solutions of a county's tracts -> the county's people, synth_out_{SSCCC}.csv."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

from dbrecon.ctools.progress import counted
from dbrecon.ctools.staging import Staged
from dbrecon.ctools.storage import DamagedFile, MissingFile, exists, read_bytes
from dbrecon.errors import DBReconError, InputError, Subject, UsageError, VerificationError
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import SOLVED, CountyClaim, SolvedTract, Worker
from dbrecon.place import Place
from dbrecon.recon.people.people import People, header_of, write_rows
from dbrecon.recon.people.solution import Solution, parse_solution
from dbrecon.recon.people.years import Undealt, deal_tracts
from dbrecon.recon.tract.county_tables import CountyTables
from dbrecon.recon.tract.verify import verify_people
from dbrecon.remedies import explain
from dbrecon.steps.lp_files import read_county
from dbrecon.steps.methods import attributes_known, binning_of, builder_of
from dbrecon.steps.origin import check_accepted, staged

if TYPE_CHECKING:
    from dbrecon.ledger.ledger import Ledger

log = logging.getLogger(__name__)

PEOPLE_AT_ONCE = 60_000
"""So many people's years are dealt at once, in about as many kilobytes; a bigger tract's alone."""


def make_microdata(experiment: Experiment, county: CountyTables, claim: CountyClaim) -> tuple[int, Staged]:
    """Write the people of a county from the accepted solutions of its tracts; return how many they are, and the file.

    A solution that counts by age bins is completed from the county's tables. Each tract's people are counted again and compared
    with every published cell. Bounded memory: some tracts at a time.

    Raises, and leaves nothing: InputError for a tract without a solution, with a damaged one, or with another than the ledger has
    accepted; VerificationError for one whose people are not as many as published, or do not make a published cell.
    """
    people, attributes = 0, attributes_known(experiment)
    with staged(experiment.synth_out(claim.stusab, claim.county), claim, experiment.kms_key) as out:
        out.write(header_of(attributes))
        for batch in _batches(claim.solved):
            for of_tract in _people(experiment, county, claim, batch):
                people += write_rows(of_tract, cast("BinaryIO", out), attributes)
    return people, out.made


def _batches(tracts: Sequence[SolvedTract]) -> Iterator[list[SolvedTract]]:
    """Yield the tracts in their order, some at a time: their years are dealt together."""
    batch: list[SolvedTract] = []
    for tract in tracts:
        if batch and sum(other.pop for other in batch) + tract.pop > PEOPLE_AT_ONCE:
            yield batch
            batch = []
        batch.append(tract)
    if batch:
        yield batch


def _people(experiment: Experiment, county: CountyTables, claim: CountyClaim, tracts: list[SolvedTract]) -> Iterator[People]:
    """Yield the people of some tracts, with single years, of whom the tables say the same."""
    tables = [county.tract(tract.tract) for tract in tracts]
    undealt = []
    for tract, of_tract in zip(tracts, tables, strict=True):
        path = experiment.sol(claim.stusab, claim.county, tract.tract)
        found = _solution(county, claim, tract, path)
        undealt.append(Undealt(found.people, of_tract.tract_cells, found.seed, path))
    for known, of_tract, dealt in zip(undealt, tables, deal_tracts(undealt, binning_of(experiment)), strict=True):
        verify_people(county.product, of_tract, dealt, known.source, Subject.SOLUTION)
        yield dealt


def _solution(county: CountyTables, claim: CountyClaim, tract: SolvedTract, path: str) -> Solution:
    """Return the accepted solution of one tract, with as many people as published."""
    place = f"{claim.stusab} {claim.county} {tract.tract}"
    where = f"--stusab {claim.stusab} --county {claim.county} --tract {tract.tract}"
    try:
        text = read_bytes(path)
    except DamagedFile:
        again = f"--step3 --step4 --force {where}"
        raise InputError(f"{path}: the solution of tract {place} is not a whole gzip file; make it again ({again}).") from None
    except MissingFile:
        wanted = f"tract {place} with {counted(tract.pop, 'person')}"
        raise InputError(f"{path}: there is no solution of {wanted}; make it (--step4 --force {where}).") from None
    check_accepted(text, tract.sol_digest, path, f"the solution of tract {place}", Subject.OTHER_SOLUTION, place)
    found = parse_solution(text, path, f"{county.county}{tract.tract}")
    people = found.people
    if people.population != tract.pop:
        raise VerificationError(
            f"{path}: the solution of tract {place} has {counted(people.population, 'person')}, the tables {tract.pop:,}; "
            f"make it again (--step4 --force {where})."
        )
    return found


def write_claimed(experiment: Experiment, ledger: "Ledger", claim: CountyClaim) -> int:
    """Write a claimed county's people, then enter it in the ledger; return how many they are.

    If that fails, the claim is given back and the error goes on.
    """
    begun = time.monotonic()
    try:
        county = read_county(experiment, builder_of(experiment).product, claim.stusab, claim.county, claim.county_files)
        people, file = make_microdata(experiment, county, claim)
    except BaseException:
        ledger.release([claim])
        raise
    ledger.csv_written(claim, time.monotonic() - begun, file)
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
    for code in ledger.counties(reident, stusab) if county is None else [county]:
        claim = ledger.claim_county(reident, worker, lease_seconds=lease, place=Place(stusab, code))
        if claim is None:
            if county is not None:
                raise UsageError(_why_not(ledger, reident, stusab, code))
            continue
        try:
            people = write_claimed(experiment, ledger, claim)
        except DBReconError as error:
            if county is not None:
                raise
            failures.append(error)
            log.error("county %s of %s is not written: %s", code, stusab, explain(error))
        else:
            yield code, people
    if failures:
        raise failures[0]


def _is_due(experiment: Experiment, ledger: "Ledger", stusab: str, county: str) -> bool:
    """Return False if the ledger has the county's people as written and the file is there; if it has gone, the county is
    reopened."""
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
    """Return the county's tracts with people that are not solved, each with its status; None if it has no people at all."""
    states = [tract for tract in ledger.tract_states(reident, stusab, county) if tract.pop]
    return [f"{tract.tract} ({tract.status})" for tract in states if tract.status != SOLVED] if states else None


def _why_not(ledger: "Ledger", reident: str, stusab: str, county: str) -> str:
    """Return why a county cannot be claimed."""
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
