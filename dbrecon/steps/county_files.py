"""Step 2: the segments of states' zips become one block file and one tract file per county.

Counties whose files are there are left as they are; --force makes them again. (After a change of the published tables begin with
step 1 --force, which sends the tracts back to work.)
"""

from collections.abc import Collection, Sequence

from dbrecon.ctools.progress import Progress, counted
from dbrecon.ctools.storage import missing, remove, sopen
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.recon.product.county_rows import CountyRows, StateReader
from dbrecon.steps.download import open_sf1, state_reader

ROWS_AT_ONCE = 256


def make_county_files(experiment: Experiment, ledger: Ledger, stusab: str, force: bool = False) -> int:
    """Write ``sf1_block_*.csv`` and ``sf1_tract_*.csv`` of each county that lacks one, and return how many counties that were.

    The zip is streamed, with one county's rows in memory. A county's file appears when it is whole, so that a run that was
    interrupted goes on with the counties that lack one. Raises InputError, naming member and line, for a zip that is missing,
    damaged or out of step, and removes what this run has written; also if step 1 has not been done with this zip.
    """
    if not ledger.has_geography(experiment.reident, stusab):
        raise InputError(f"{stusab}: step 1 has not been done; run s1_make_geo_files.py {stusab} (or --step1) first")
    counties = ledger.counties(experiment.reident, stusab)
    todo = counties if force else counties_to_make(experiment, stusab, counties)
    if todo:
        write_county_files(experiment, stusab, counties, todo)
    return len(todo)


def step2(experiment: Experiment, ledger: Ledger, stusab: str, force: bool = False) -> str:
    """Step 2 of a state, and what to tell the operator of it. Raises as :func:`make_county_files`."""
    made = make_county_files(experiment, ledger, stusab, force)
    return what_was_made(stusab, made, len(ledger.counties(experiment.reident, stusab)))


def what_was_made(stusab: str, made: int, counties: int) -> str:
    """Of how many of a state's counties step 2 has made the files."""
    if not made:
        return f"{stusab}: step 2 is done already"
    return f"{stusab}: files of {counted(made, 'county')} written" + (f", of {counties:,} in all" if made < counties else "")


def write_county_files(experiment: Experiment, stusab: str, counties: Sequence[str], todo: Sequence[str]) -> None:
    """Write the files of the counties ``todo``; ``counties`` are all that step 1 has found. Raises as :func:`make_county_files`."""
    with open_sf1(experiment, stusab) as sf1:
        reader = state_reader(experiment, sf1)
        sf1.verify(reader.members)
        last_lines = reader.last_lines()
        _check_counties({county for _, county in last_lines}, counties, reader, stusab)
        _write(experiment, stusab, reader, last_lines, todo)


def counties_to_make(experiment: Experiment, stusab: str, counties: Sequence[str]) -> list[str]:
    """Those of a state's counties that lack one of their two files."""
    files = {path(stusab, county): county for county in counties for path in (experiment.block_csv, experiment.tract_csv)}
    lacking = {files[path] for path in missing(files)}
    return [county for county in counties if county in lacking]


def _check_counties(in_zip: Collection[str], in_ledger: Collection[str], reader: StateReader, stusab: str) -> None:
    differing = sorted(set(in_zip) ^ set(in_ledger))
    if differing:
        raise InputError(
            f"{reader.sf1.name}: county {differing[0]} is {'not ' if differing[0] in in_ledger else ''}in this zip, unlike in the "
            f"one that step 1 has read; run s1_make_geo_files.py --force {stusab} (or --step1 --force) first"
        )


def _write(
    experiment: Experiment, stusab: str, reader: StateReader, last_lines: dict[tuple[str, str], int], todo: Sequence[str]
) -> None:
    skip = frozenset(county for _, county in last_lines) - set(todo)
    written: list[str] = []
    with Progress(stusab, "file", 2 * len(todo)) as progress:
        try:
            for part in reader.counties(last_lines, skip):
                written.append(_write_file(experiment, stusab, reader, part))
                progress.add(1)
        except InputError:
            for path in written:
                remove(path)
            raise


def _write_file(experiment: Experiment, stusab: str, reader: StateReader, part: CountyRows) -> str:
    path = (experiment.block_csv if part.level == "block" else experiment.tract_csv)(stusab, part.county)
    columns = [f"geoid_{part.level}", "logrecno", *reader.plans[part.level].columns]
    with sopen(path, "wb", kms_key=experiment.kms_key) as file:
        file.write(",".join(columns).encode() + b"\n")
        for start in range(0, len(part.rows), ROWS_AT_ONCE):
            file.write(b"\n".join(part.rows[start : start + ROWS_AT_ONCE]) + b"\n")
    return path
