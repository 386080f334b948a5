"""Step 1: the geographic header of states' zips becomes ``geofile_{st}.csv``, and tracts and geography in the database.

Doing it twice changes nothing. --force, and a zip that is another than before, make it new: the state's tracts begin anew, since
any of its tables may have changed.
"""

import csv
import hashlib
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from dbrecon.ctools import staging
from dbrecon.ctools.progress import Progress, counted
from dbrecon.ctools.staging import Staged, digest_of
from dbrecon.ctools.storage import exists, sopen
from dbrecon.ctools.terminal import printable
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import GeoRow, StateClaim, StateDigests
from dbrecon.place import Place
from dbrecon.recon.artifacts import read_geofile
from dbrecon.recon.census.geography import (
    TRACT_LEVEL,
    UNIT_FIELDS,
    HeaderLayout,
    Unit,
    read_units,
)
from dbrecon.states import STATES
from dbrecon.steps.download import open_zip
from dbrecon.steps.holding import state_held
from dbrecon.steps.prepare import tell_put_back
from dbrecon.steps.provenance import zip_of

log = logging.getLogger(__name__)
ROWS_AT_ONCE = 4096
NAME_KEPT = 100
"""Characters of a name in the database; the geofile has all. Counties' and tracts' names are shorter by far."""


@dataclass(frozen=True)
class Geofile:
    """A geofile that step 1 has written, to be entered into the ledger, and the digest of the zip that it is made of."""

    staged: Staged
    zip_digest: str


def make_geo_files(experiment: Experiment, ledger: Ledger, stusab: str, force: bool = False) -> bool:
    """Write a state's geofile, then enter it into the ledger. False if it was there, made of the zip that lies in ``dist/``.

    Records: summary levels 040, 050, 140 and 101 (or 750), component 00. A zip that has changed since makes the state anew, as
    ``force`` does. Raises InputError for a zip that is missing or damaged, a header that is not as it should be, or people in a
    tract that has no blocks for them; then nothing is changed.
    """
    with state_held(experiment, ledger, stusab) as claim:
        anew = needs_geofile(experiment, ledger, stusab, force)
        if anew is None:
            return False
        enter_geofile(experiment, ledger, claim, write_geofile(experiment, stusab, claim.fence), anew)
        return True


def needs_geofile(experiment: Experiment, ledger: Ledger, stusab: str, force: bool) -> bool | None:
    """Return whether the state's geography is to begin anew; None if nothing is to be done: it is there, of today's zip."""
    if force or not ledger.has_geography(experiment.reident, stusab):
        return force
    found = zip_of(experiment, ledger, stusab)
    if found.changed:
        log.warning("%s is not the zip that step 1 has read: %s begins anew", found.path, stusab)
        return True
    path, accepted = experiment.geofile(stusab), ledger.state_digests(experiment.reident, stusab).geofile
    if exists(path) and accepted and digest_of(path) != accepted:
        log.warning("%s was changed since step 1 made it: it is made again", path)
        return False
    return None if exists(path) else False


def step1(experiment: Experiment, ledger: Ledger, stusab: str, force: bool = False) -> str:
    """Step 1 of a state, and what to tell the operator of it. Raises as :func:`make_geo_files`."""
    made = make_geo_files(experiment, ledger, stusab, force)
    return what_was_made(experiment, ledger, stusab) if made else f"{stusab}: step 1 is done already"


def what_was_made(experiment: Experiment, ledger: Ledger, stusab: str) -> str:
    """Return a state's tracts and people as step 1 has found them, and the geofile."""
    people = [tract.pop for tract in ledger.tract_states(experiment.reident, stusab)]
    without = f", {people.count(0):,} of them without people" if 0 in people else ""
    found = f"{counted(len(people), 'tract')}{without}; {counted(sum(people), 'person')}"
    return f"{stusab}: {found}: {experiment.geofile(stusab)}"


def write_geofile(experiment: Experiment, stusab: str, fence: int) -> Geofile:
    """Write a state's geofile from its zip, to be accepted by :func:`enter_geofile`. The header is streamed, no database is needed.

    ``fence`` is the number of the claim on the state: on S3 a later file replaces an earlier one.
    Raises InputError as :func:`make_geo_files`; then there is no file.
    """
    with staging.stage(experiment.geofile(stusab), fence=fence, kms_key=experiment.kms_key) as file:
        zip_digest = _copy_header(experiment, stusab, file.write)
    return Geofile(file.made, zip_digest)


def derived_geofile(experiment: Experiment, stusab: str) -> tuple[str, str]:
    """Return the digests of the geofile that the state's zip gives, without writing it, and of the zip. Raises InputError."""
    content = hashlib.sha256()
    zip_digest = _copy_header(experiment, stusab, content.update)
    return content.hexdigest(), zip_digest


def _copy_header(experiment: Experiment, stusab: str, write: Callable[[bytes], object]) -> str:
    """Give the geofile's content to ``write``; return the zip's digest."""
    with open_zip(experiment, stusab) as archive:
        member, layout = archive.header, archive.release.header
        archive.verify([member])
        people = PeopleInBlocks(f"{archive.name}: member {member}")
        lines = people.watching(archive.lines(member), layout)
        units = read_units(lines, layout, stusab, STATES[stusab].fips, f"{archive.name}: member {member}")
        write(_csv([UNIT_FIELDS]))
        shown = _shown(units, stusab, layout.lines_in(archive.size(member)))
        while rows := list(islice(shown, ROWS_AT_ONCE)):
            write(_csv(rows))
            people.add(rows)
        people.check()
        return archive.digest


def _csv(rows: Iterable[Iterable[str | int]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def enter_geofile(experiment: Experiment, ledger: Ledger, claim: StateClaim, made: Geofile | None, force: bool = False) -> bool:
    """Enter geography and tracts into the ledger from the geofile of a state that is held, and accept it if it was just ``made``.

    False if the state was there already, and not ``force``: then the geofile alone is put in its place. Raises InputError for a
    geofile that is not one of ours, StorageError for one that cannot be read, LostLease if the state is another's by now.
    """
    stusab, path = claim.stusab, experiment.geofile(claim.stusab)
    source = made.staged.temporary or path if made else path
    solved, written = ledger.finished(experiment.reident, Place(stusab))
    with sopen(source, "r") as text:
        rows = map(geo_row, read_geofile(text, stusab, STATES[stusab].fips, path))
        digests = StateDigests(made.zip_digest, made.staged.digest) if made else StateDigests(None, digest_of(path))
        file = made.staged if made else None
        entered = ledger.replace_geography(claim.reident, stusab, rows, force=force, digests=digests, file=file, claim=claim)
    if entered:
        tell_put_back(solved, written, Place(stusab))
    return entered


class PeopleInBlocks:
    """Whether a header's blocks have the people of its tracts. ``where`` begins its error: the zip and the member."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._levels: Counter[str] = Counter()
        self._tracts: dict[str, int] = {}
        self._blocks: Counter[str] = Counter()
        self._block_levels: tuple[str, ...] = ()

    def watching(self, lines: Iterable[bytes], layout: HeaderLayout) -> Iterator[bytes]:
        """Yield the header's lines; the summary levels of those with a block's number are counted on the way."""
        self._block_levels = layout.block_levels
        for line in lines:
            if not layout.wrong_length(line):  # which is refused by whoever reads it
                level, block = layout.values(line, ("SUMLEV", "BLOCK"))
                if block.strip():
                    self._levels[level.decode("latin-1")] += 1
            yield line

    def add(self, units: Iterable[Unit]) -> None:
        """Add the next records."""
        for unit in units:
            if unit.sumlev == TRACT_LEVEL:
                self._tracts[unit.geoid] = unit.pop100
            elif unit.sumlev in self._block_levels:
                self._blocks[unit.geoid[:11]] += unit.pop100

    def check(self) -> None:
        """Raise InputError for the first tract whose blocks have not its people."""
        for geoid, people in self._tracts.items():
            if self._blocks[geoid] == people:
                continue
            has = f"tract {geoid} has {counted(people, 'person')}, its blocks have {self._blocks[geoid]:,}"
            others = sorted(set(self._levels) - set(self._block_levels))
            if others and not self._blocks[geoid]:
                known = ", ".join(self._block_levels)
                has += f"; blocks stand there at summary level {', '.join(others)}, which is not one of {known}"
            raise InputError(f"{self._where}: {has}; get the state's zip anew (step 0)")


def _shown(units: Iterable[Unit], stusab: str, lines: int) -> Iterator[Unit]:
    """Yield the units, with progress; ``lines`` is about how many lines the header has."""
    done = 0
    with Progress(stusab, "line", lines) as progress:
        for count, unit in enumerate(units, 1):
            if count % 4096 == 0:  # LOGRECNO counts lines in nearly every file
                progress.add(min(int(unit.logrecno), lines) - done)
                done = min(int(unit.logrecno), lines)
            yield unit


def geo_row(unit: Unit) -> GeoRow:
    """Return what the ledger keeps of a record."""
    return GeoRow(
        unit.sumlev,
        unit.geocomp,
        int(unit.logrecno),
        unit.state,
        unit.county,
        unit.tract,
        unit.block,
        printable(unit.name)[:NAME_KEPT],
        unit.pop100,
        unit.hu100,
        int(unit.arealand or 0),
        int(unit.areawatr or 0),
        float(unit.intptlat or 0),
        float(unit.intptlon or 0),
    )
