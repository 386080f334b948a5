"""Step 2: the segments of states' zips become one block file and one tract file per county.

Counties whose files are there, and made of the zip that lies in dist/, are left as they are; --force makes them again. Where a
county's tables are others than before, its tracts go back to work. (After a change of the zip step 1 comes first.)
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from typing import Protocol

from dbrecon.ctools import staging
from dbrecon.ctools.progress import Progress, counted
from dbrecon.ctools.staging import Staged
from dbrecon.ctools.storage import remove
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import CountyDigests, StateClaim
from dbrecon.recon.product.county_rows import CountyRows, StateReader
from dbrecon.steps.download import open_zip, state_reader
from dbrecon.steps.geography_files import derived_geofile
from dbrecon.steps.holding import state_held
from dbrecon.steps.provenance import Zip, broken_link, counties_to_make, zip_of

log = logging.getLogger(__name__)
ROWS_AT_ONCE = 256
LEVELS = ("block", "tract")


class Entering(Protocol):
    """What becomes of a county's two files when both are whole."""

    def __call__(self, county: str, block: Staged, tract: Staged) -> None:
        """Enter them."""


def make_county_files(experiment: Experiment, ledger: Ledger, stusab: str, force: bool = False) -> int:
    """Write ``sf1_block_*.csv`` and ``sf1_tract_*.csv`` of each county that lacks one; return how many counties that were.

    Made again are also those that the ledger has not, has with another size, or has as made of another zip; tracts whose tables are
    others then begin anew. The zip is streamed, with one county's rows in memory. A county's files come into place when both are
    whole, so that a run that was interrupted goes on with the counties that lack them. Raises InputError, naming member and line,
    for a zip that is missing, damaged or out of step, and removes what this run has written; also if step 1 has not been done with
    this zip.
    """
    with state_held(experiment, ledger, stusab) as claim:
        counties, todo = files_to_make(experiment, ledger, stusab, force)
        if todo:
            written: list[str] = []
            zip_digest = zip_of(experiment, ledger, stusab).digest

            def enter(county: str, block: Staged, tract: Staged) -> None:
                enter_files(ledger, claim, county, zip_digest, block, tract)
                written.append(county)

            try:
                write_county_files(experiment, stusab, counties, todo, enter, claim.fence)
            except InputError:
                take_back(experiment, ledger, claim, written)
                raise
        return len(todo)


def take_back(experiment: Experiment, ledger: Ledger, claim: StateClaim, counties: Sequence[str]) -> None:
    """Remove the files of counties that were made of a zip that then showed itself damaged. Raises LostLease."""
    ledger.forget_county_files(claim, counties)
    for county in counties:
        remove(experiment.block_csv(claim.stusab, county))
        remove(experiment.tract_csv(claim.stusab, county))


def files_to_make(experiment: Experiment, ledger: Ledger, stusab: str, force: bool) -> tuple[list[str], list[str]]:
    """All counties of a state, and those whose files are to be made. InputError if step 1 has not been done with this zip."""
    if not ledger.has_geography(experiment.reident, stusab):
        raise InputError(f"{stusab}: step 1 has not been done; run s1_make_geo_files.py {stusab} (or --step1) first")
    counties, found = ledger.counties(experiment.reident, stusab), zip_of(experiment, ledger, stusab)
    if found.changed:
        _take_over(experiment, ledger, found, stusab)
    return counties, counties if force else counties_to_make(experiment, ledger, stusab, counties, found.digest)


def _take_over(experiment: Experiment, ledger: Ledger, found: Zip, stusab: str) -> None:
    """Take over a zip that has changed since step 1, if it has the same geography: then its tables alone are others.

    InputError if it has not: step 1 must come first. Which tracts begin anew is decided county by county.
    """
    geofile, zip_digest = derived_geofile(experiment, stusab)
    if geofile != ledger.state_digests(experiment.reident, stusab).geofile:
        raise InputError(broken_link(found, stusab))
    log.warning("%s is not the zip that step 1 has read, but has the same geography: its tables are read anew", found.path)
    ledger.note_zip(experiment.reident, stusab, zip_digest)


def enter_files(ledger: Ledger, claim: StateClaim, county: str, zip_digest: str | None, block: Staged, tract: Staged) -> None:
    """Put a county's two files in their place and into the ledger; say so if tracts begin anew. Raises LostLease."""
    files = CountyDigests(zip_digest, block.digest, tract.digest, block.size, tract.size)
    begun = ledger.enter_county_files(claim.reident, claim.stusab, county, files, [block, tract], claim)
    if begun:
        text = "%s %s: its tables are others than before; to be made again: %s"
        log.warning(text, claim.stusab, county, counted(begun, "tract"))


def step2(experiment: Experiment, ledger: Ledger, stusab: str, force: bool = False) -> str:
    """Step 2 of a state, and what to tell the operator of it. Raises as :func:`make_county_files`."""
    made = make_county_files(experiment, ledger, stusab, force)
    return what_was_made(stusab, made, len(ledger.counties(experiment.reident, stusab)))


def what_was_made(stusab: str, made: int, counties: int) -> str:
    """Of how many of a state's counties step 2 has made the files."""
    if not made:
        return f"{stusab}: step 2 is done already"
    return f"{stusab}: files of {counted(made, 'county')} written" + (f", of {counties:,} in all" if made < counties else "")


def write_county_files(
    experiment: Experiment, stusab: str, counties: Sequence[str], todo: Sequence[str], enter: Entering, fence: int
) -> str:
    """Write the files of the counties ``todo``, each pair given to ``enter`` when it is whole; ``counties`` are all that step 1 has
    found, ``fence`` is the number of the claim on the state: on S3 a later file replaces an earlier one.

    Returns the zip's digest. Raises as :func:`make_county_files`; files that were not entered are gone then.
    """
    with open_zip(experiment, stusab) as archive:
        reader = state_reader(experiment, archive)
        archive.verify(reader.members)
        last_lines = reader.last_lines()
        _check_counties({county for _, county in last_lines}, counties, reader, stusab)
        # The pairs are closed here: whatever ends the loop, nothing that is not entered stays.
        with (
            Progress(stusab, "file", 2 * len(todo)) as progress,
            closing(_staged(experiment, stusab, reader, last_lines, todo, fence, lambda: progress.add(1))) as pairs,
        ):
            for county, block, tract in pairs:
                enter(county, block, tract)
        return archive.digest


def derived_files(experiment: Experiment, stusab: str, counties: Sequence[str], todo: Collection[str]) -> dict[str, CountyDigests]:
    """Return what the zip that lies in ``dist/`` gives for the files of the counties ``todo``, without writing them.

    Raises as :func:`make_county_files`.
    """
    found: dict[str, dict[str, tuple[str, int]]] = {}
    with open_zip(experiment, stusab) as archive:
        reader = state_reader(experiment, archive)
        archive.verify(reader.members)
        last_lines = reader.last_lines()
        _check_counties({county for _, county in last_lines}, counties, reader, stusab)
        for part in reader.counties(last_lines, _others(last_lines, todo)):
            content = hashlib.sha256()
            size = 0
            for piece in _pieces(reader, part):
                content.update(piece)
                size += len(piece)
            found.setdefault(part.county, {})[part.level] = (content.hexdigest(), size)
        return {
            county: CountyDigests(archive.digest, level["block"][0], level["tract"][0], level["block"][1], level["tract"][1])
            for county, level in found.items()
        }


def _check_counties(in_zip: Collection[str], in_ledger: Collection[str], reader: StateReader, stusab: str) -> None:
    differing = sorted(set(in_zip) ^ set(in_ledger))
    if differing:
        raise InputError(
            f"{reader.archive.name}: county {differing[0]} is {'not ' if differing[0] in in_ledger else ''}in this zip, "
            f"unlike in the one that step 1 has read; run s1_make_geo_files.py --force {stusab} (or --step1 --force) first"
        )


def _others(last_lines: dict[tuple[str, str], int], todo: Collection[str]) -> frozenset[str]:
    return frozenset(county for _, county in last_lines) - set(todo)


def _staged(
    experiment: Experiment,
    stusab: str,
    reader: StateReader,
    last_lines: dict[tuple[str, str], int],
    todo: Collection[str],
    fence: int,
    written: Callable[[], None],
) -> Generator[tuple[str, Staged, Staged], None, None]:
    """Yield each county with its two files, staged, when both are whole; those that were not taken are removed at the end."""
    waiting: dict[str, dict[str, Staged]] = {}
    try:
        for part in reader.counties(last_lines, _others(last_lines, todo)):
            pair = waiting.setdefault(part.county, {})
            pair[part.level] = _write_file(experiment, stusab, reader, part, fence)
            written()
            if len(pair) == len(LEVELS):
                yield part.county, pair["block"], pair["tract"]
                del waiting[part.county]
    finally:
        for pair in waiting.values():
            for file in pair.values():
                staging.discard(file)


def _write_file(experiment: Experiment, stusab: str, reader: StateReader, part: CountyRows, fence: int) -> Staged:
    path = (experiment.block_csv if part.level == "block" else experiment.tract_csv)(stusab, part.county)
    with staging.stage(path, fence=fence, kms_key=experiment.kms_key) as file:
        for piece in _pieces(reader, part):
            file.write(piece)
    return file.made


def _pieces(reader: StateReader, part: CountyRows) -> Iterator[bytes]:
    """Yield the text of a county's file."""
    columns = [f"geoid_{part.level}", "logrecno", *reader.plans[part.level].columns]
    yield ",".join(columns).encode() + b"\n"
    for at in range(0, len(part.rows), ROWS_AT_ONCE):
        yield b"\n".join(part.rows[at : at + ROWS_AT_ONCE]) + b"\n"
