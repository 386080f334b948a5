"""People in files that other programs read."""

from __future__ import annotations

import os

from dbrecon.console.disclosure import check_writable, load_arrow
from dbrecon.console.parser import Arguments
from dbrecon.console.written import asked_counties, checked_counties
from dbrecon.ctools.extras import extra
from dbrecon.ctools.progress import Progress, counted
from dbrecon.errors import UsageError
from dbrecon.recon.census.geography import COUNTY_LEVEL, TRACT_LEVEL
from dbrecon.settings import Config
from dbrecon.steps.provenance import made_of


def export(args: Arguments, config: Config) -> int:
    """Write the people of a place, with their certainty where it has been found, and print a line a file."""
    load_arrow()
    with extra("export"):
        from dbrecon.steps.export import Source, export_people, parts_of, places_of

    experiment, ledger, place = asked_counties(args, config, "--export")
    if args.partitioned and args.export == "duckdb":
        raise UsageError("--partitioned goes with --export parquet or csv: DuckDB keeps all in one file")
    folder = str(args.out or f"export-{experiment.reident}").rstrip("/")
    check_writable(folder)
    counties = checked_counties(experiment, ledger, place)
    parts = parts_of(counties, partitioned=bool(args.partitioned))
    levels = {COUNTY_LEVEL: "county", TRACT_LEVEL: "tract", **dict.fromkeys(experiment.release.block_levels, "block")}
    with Progress("exported", "county", len(counties)) as progress:
        source = Source(
            experiment,
            lambda stusab, county: places_of(
                (level, row)
                for sumlev, level in levels.items()
                for row in ledger.geography(experiment.reident, stusab, sumlev, county)
            ),
            {"reident": experiment.reident, **made_of(experiment, ledger)},
            progress.add,
        )
        written = export_people(source, parts, folder, args.export)
    if args.partitioned:
        print(f"{os.path.join(folder, 'people')}: {counted(sum(written.values()), 'person')} in {counted(len(written), 'file')}")
        return 0
    for path, people in written.items():
        print(f"{path}: {counted(people, 'person')}")
    return 0
