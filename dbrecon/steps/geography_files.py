"""Step 1: the geographic header of states' zips becomes ``geofile_{st}.csv``, and tracts and geography in the database.

Doing it twice changes nothing. --force makes it new: the state's tracts begin anew, since any of its tables may have changed.
"""

import csv
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager

from dbrecon.ctools.progress import Progress, counted
from dbrecon.ctools.storage import exists, sopen
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import GeoRow, TractRow
from dbrecon.place import Place
from dbrecon.recon.artifacts import read_geofile
from dbrecon.recon.census.geography import TRACT_LEVEL, UNIT_FIELDS, Unit, load_header_layout, read_units
from dbrecon.recon.product.sf1 import header_member
from dbrecon.states import STATES
from dbrecon.steps.download import open_sf1
from dbrecon.steps.prepare import tell_put_back


def make_geo_files(experiment: Experiment, ledger: Ledger, stusab: str, force: bool = False) -> bool:
    """Write a state's geofile, then its geography and tracts into the ledger. False if both were there already.

    Records: summary levels 040, 050, 140 and 101 (or 750), component 00. The header is streamed once. Raises InputError for a
    zip that is missing or damaged, or a header that is not as it should be; then nothing is changed.
    """
    path = experiment.geofile(stusab)
    entered = ledger.has_geography(experiment.reident, stusab)
    if entered and exists(path) and not force:
        return False
    tracts: list[TractRow] = []
    with _geography(experiment, stusab, tracts) as rows:
        if entered and not force:
            for _ in rows:
                pass
        else:
            _replace(ledger, experiment.reident, stusab, rows, tracts, force)
    return True


def _replace(ledger: Ledger, reident: str, stusab: str, rows: Iterable[GeoRow], tracts: Iterable[TractRow], force: bool) -> bool:
    """``Ledger.replace_geography``, which says how much finished work is to be done again."""
    solved, written = ledger.finished(reident, Place(stusab))
    entered = ledger.replace_geography(reident, stusab, rows, tracts, force=force)
    if entered:
        tell_put_back(solved, written, Place(stusab))
    return entered


def step1(experiment: Experiment, ledger: Ledger, stusab: str, force: bool = False) -> str:
    """Step 1 of a state, and what to tell the operator of it. Raises as :func:`make_geo_files`."""
    made = make_geo_files(experiment, ledger, stusab, force)
    return what_was_made(experiment, ledger, stusab) if made else f"{stusab}: step 1 is done already"


def what_was_made(experiment: Experiment, ledger: Ledger, stusab: str) -> str:
    """A state's tracts and people as step 1 has found them, and the geofile."""
    people = [one.pop for one in ledger.tract_states(experiment.reident, stusab)]
    without = f", {people.count(0):,} of them without people" if 0 in people else ""
    found = f"{counted(len(people), 'tract')}{without}; {counted(sum(people), 'person')}"
    return f"{stusab}: {found}: {experiment.geofile(stusab)}"


def write_geofile(experiment: Experiment, stusab: str) -> None:
    """Write a state's geofile alone, where there is no database; :func:`enter_geofile` does the rest. Raises InputError."""
    with _geography(experiment, stusab, []) as rows:
        for _ in rows:
            pass


def enter_geofile(experiment: Experiment, ledger: Ledger, stusab: str, force: bool = False) -> bool:
    """Enter geography and tracts into the ledger from the state's geofile. False if they were there already, and not ``force``.

    Raises InputError for a geofile that is not one of ours, StorageError for one that cannot be read.
    """
    path, tracts = experiment.geofile(stusab), list[TractRow]()
    with sopen(path, "r") as file:
        units = read_geofile(file, stusab, STATES[stusab].fips, path)
        return _replace(ledger, experiment.reident, stusab, _entered(units, tracts), tracts, force)


@contextmanager
def _geography(experiment: Experiment, stusab: str, tracts: list[TractRow]) -> Iterator[Iterator[GeoRow]]:
    """The ledger's rows from the state's zip, each written into the geofile on its way; tracts are added to ``tracts``."""
    with open_sf1(experiment, stusab) as sf1:
        member = header_member(stusab)
        sf1.verify([member])
        layout = load_header_layout()
        units = read_units(sf1.lines(member), layout, stusab, STATES[stusab].fips, f"{sf1.name}: member {member}")
        shown = _shown(units, stusab, sf1.size(member) // (layout.width + 1))
        # Closed whatever happens, so that a geofile that was begun does not stay.
        with closing(_entered(_written(shown, experiment.geofile(stusab), experiment.kms_key), tracts)) as rows:
            yield rows


def _shown(units: Iterable[Unit], stusab: str, lines: int) -> Iterator[Unit]:
    """The units, with progress; ``lines`` is about how many lines the header has."""
    done = 0
    with Progress(stusab, "line", lines) as progress:
        for count, unit in enumerate(units, 1):
            if count % 4096 == 0:  # LOGRECNO counts lines in nearly every file
                progress.add(min(int(unit.logrecno), lines) - done)
                done = min(int(unit.logrecno), lines)
            yield unit


def _written(units: Iterable[Unit], path: str, kms_key: str | None) -> Generator[Unit, None, None]:
    """The units, each written into the geofile on its way, which is in place when the last one has been taken."""
    with sopen(path, "w", kms_key=kms_key) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(UNIT_FIELDS)
        for unit in units:
            writer.writerow(unit)
            yield unit


def _entered(units: Iterator[Unit], tracts: list[TractRow]) -> Generator[GeoRow, None, None]:
    """The ledger's rows of units; tracts are added to ``tracts``. Closes a generator that it reads from."""
    with ExitStack() as stack:
        if isinstance(units, Generator):
            stack.callback(units.close)
        for unit in units:
            if unit.sumlev == TRACT_LEVEL:
                tracts.append(TractRow(unit.state, unit.county, unit.tract, unit.pop100))
            yield geo_row(unit)


def geo_row(unit: Unit) -> GeoRow:
    """What the ledger keeps of a record."""
    return GeoRow(
        unit.sumlev,
        unit.geocomp,
        int(unit.logrecno),
        unit.state,
        unit.county,
        unit.tract,
        unit.block,
        unit.name,
        unit.pop100,
        unit.hu100,
        int(unit.arealand or 0),
        int(unit.areawatr or 0),
        float(unit.intptlat or 0),
        float(unit.intptlon or 0),
    )
