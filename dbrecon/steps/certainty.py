"""Step 6: a county's people and tables -> how sure the people are, certainty_{SSCCC}.csv and what goes with it.

The work is a tract's: its record lies in ``certainty/`` of the county and says by digests which people and tables it is of.
What is there
and matches is not computed again. When all tracts of a county have theirs, the county's files are written.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from dbrecon.ctools import storage
from dbrecon.ctools.progress import counted
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.certainty.county import (
    PEOPLE_HEADER,
    block_lines,
    cell_lines,
    certain_flags,
    per_cent,
    summary_of,
)
from dbrecon.recon.certainty.record import TractRecord, certainty_builder, people_digest, tables_digest, tract_record
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.people.people import People
from dbrecon.recon.people.rows import parse_rows
from dbrecon.recon.solve.highs import highs_version
from dbrecon.recon.tract.county_tables import CountyTables
from dbrecon.recon.tract.model import ModelBuilder
from dbrecon.states import STATES
from dbrecon.steps.lp_files import AS_THEY_ARE, read_county

PROBE_BYTES = 1 << 12
READ_BYTES = 1 << 20


def budget_of(experiment: Experiment) -> Budget:
    """The work that the settings allow."""
    settings = experiment.config.certainty
    return Budget(settings.tree_steps, settings.mip_checks, settings.tract_steps)


@lru_cache(maxsize=2)
def _builder(tables_file: str, tables: str) -> ModelBuilder:
    return certainty_builder(load_product(Path(tables_file), tables))


def builder_for(experiment: Experiment) -> ModelBuilder:
    """The builder of the programs of which certainty is told; one a process."""
    return _builder(experiment.tables_path, experiment.tables)


def make_record(experiment: Experiment, county: CountyTables, stusab: str, tract: str, intervals: bool) -> tuple[TractRecord, bool]:
    """The record of a tract (six digits), and whether it had to be computed: one that is there and matches is taken.

    ``intervals``: with every count's least and most. Raises InputError if the people are not there or do not meet the tables.
    """
    builder, budget = builder_for(experiment), budget_of(experiment)
    tables = county.tract(tract)
    people = people_of_tract(experiment, stusab, tables.geoid)
    path = experiment.certainty_record(stusab, tables.geoid[2:5], tract)
    wanted = (people_digest(people, builder.bins), tables_digest(tables), budget, highs_version())
    found = _read_record(path)
    if found is not None and (found.intervals or not intervals) and wanted == _made_of(found):
        return found, False
    record = tract_record(builder, tables, people, budget, highs_version(), intervals)
    with storage.sopen(path, "wb", kms_key=experiment.kms_key) as file:
        file.write(record.text())
    return record, True


def make_record_of(
    experiment: Experiment, stusab: str, county: str, tract: str, intervals: bool = False, force: bool = False
) -> bool:
    """Make the record of a tract (six digits), in any process; whether it was computed. ``force``: though it is there."""
    if force:
        storage.remove(experiment.certainty_record(stusab, county, tract))
    tables = read_county(experiment, builder_for(experiment).product, stusab, county, AS_THEY_ARE)
    return make_record(experiment, tables, stusab, tract, intervals)[1]


def write_county(experiment: Experiment, stusab: str, county: str, tracts: Sequence[str]) -> None:
    """Write a county's files of certainty from the records of its ``tracts``. What is there and current is left alone.

    Raises InputError if a record is not there, or not of the county's people as they are.
    """
    if is_current(experiment, stusab, county, cells=False):
        return
    records = []
    for tract in tracts:
        make_record_of(experiment, stusab, county, tract)  # mostly it is there and matches
        records.append(load_record(experiment, stusab, county, tract))
    close_county(experiment, stusab, county, records, all(record.intervals for record in records))


def load_record(experiment: Experiment, stusab: str, county: str, tract: str) -> TractRecord:
    """A tract's record that is there. Raises InputError if it is not whole, MissingFile."""
    path = experiment.certainty_record(stusab, county, tract)
    return TractRecord.parse(storage.read_bytes(path), path)


def count_of(records: Sequence[TractRecord]) -> str:
    """What was found of a county, in a line."""
    sums = summary_of(records)
    people, differ, certain = sums["people"], sums["differ_upper"], sums["certain"]
    open_blocks = sums["blocks_by_proof"]["open"]
    still_open = f"; {counted(open_blocks, 'block')} open" if open_blocks else ""
    share = per_cent(differ, people)
    return (
        f"{counted(people, 'person')} in {counted(sums['blocks'], 'block')}; at most {differ:,} may differ ({share} %), "
        f"{certain:,} are certain{still_open}"
    )


def is_current(experiment: Experiment, stusab: str, county: str, cells: bool) -> bool:
    """Whether a county's files of certainty are there and of its people, tables and budget as they are now."""
    path = experiment.certainty_sidecar(stusab, county)
    try:
        sidecar = read_sidecar(path)
    except InputError:
        return False
    if sidecar.get("budget") != asdict(budget_of(experiment)) or sidecar.get("solver") != highs_version():
        return False
    if (cells and not sidecar.get("cells")) or stale_because(experiment, stusab, county) is not None:
        return False
    files = [experiment.certainty(stusab, county), experiment.people_certainty(stusab, county)]
    return None not in storage.sizes(files).values()


def _made_of(record: TractRecord) -> tuple[str, str, Budget, str]:
    return record.people_digest, record.tables_digest, record.budget, record.solver


def _read_record(path: str) -> TractRecord | None:
    """The record at ``path``; None if there is none, or none that is whole: it is made again."""
    try:
        return TractRecord.parse(storage.read_bytes(path), path)
    except (storage.MissingFile, storage.DamagedFile, InputError):
        return None


def people_of_tract(experiment: Experiment, stusab: str, geoid: str) -> People:
    """The people of a tract (11 digits), one an entry in the file's order, out of its county's file, of which no more is read
    than that
    needs. Raises InputError if the file is not there or has nobody of the tract."""
    path = experiment.synth_out(stusab, geoid[2:5])
    try:
        with storage.sopen(path, "rb") as file:
            rows = lines_of(file, geoid.encode())
    except storage.MissingFile:
        raise InputError(f"{path}: the county's people are not written yet; step 5 comes first") from None
    if not rows:
        raise InputError(f"{path}: has nobody of tract {geoid}, where the tables have people; make it again (--step5 --force)")
    return parse_rows(rows, path)


def lines_of(file: IO[bytes], prefix: bytes) -> bytes:
    """The lines of a sorted file (after its header) that begin with ``prefix``, found by bisection."""
    low, high = 0, file.seek(0, io.SEEK_END)  # the first line that is not below the prefix begins in (low, high]
    end = high
    while high - low > PROBE_BYTES:
        middle = (low + high) // 2
        start, line = _line_after(file, middle)
        if start < end and line[: len(prefix)] < prefix:
            low = middle
        else:
            high = middle
    start, line = _line_after(file, low)
    while start < end and line[: len(prefix)] < prefix:
        start += len(line)
        file.seek(start)
        line = file.readline()
    file.seek(start)
    return b"".join(_while_prefixed(file, prefix))


def _line_after(file: IO[bytes], offset: int) -> tuple[int, bytes]:
    """(where it begins, the line) of the first line that begins after ``offset``; never the header."""
    file.seek(offset)
    skipped = file.readline()
    return offset + len(skipped), file.readline()


def _while_prefixed(file: IO[bytes], prefix: bytes) -> Iterator[bytes]:
    while line := file.readline():
        if not line.startswith(prefix):
            return
        yield line


def close_county(experiment: Experiment, stusab: str, county: str, records: Sequence[TractRecord], cells: bool) -> str:
    """Write a county's files of certainty from its tracts' records, ascending; the sidecar last, since it says that the rest is
    there."""
    key = experiment.kms_key
    with storage.sopen(experiment.certainty(stusab, county), "wb", kms_key=key) as file:
        for lines in block_lines(records):
            file.write(lines)
    if cells:
        with storage.sopen(experiment.certainty_cells(stusab, county), "wb", kms_key=key) as file:
            for lines in cell_lines(records):
                file.write(lines)
    digest = _write_people(experiment, stusab, county, records)
    sidecar = _sidecar(experiment, stusab, county, records, digest, cells)
    with storage.sopen(experiment.certainty_sidecar(stusab, county), "wb", kms_key=key) as file:
        file.write(json.dumps(sidecar, indent=1, sort_keys=True).encode() + b"\n")
    return experiment.certainty(stusab, county)


def _write_people(experiment: Experiment, stusab: str, county: str, records: Sequence[TractRecord]) -> str:
    """Write, line for line beside the county's people, who is certain. Returns the SHA-256 of the people's file."""
    with storage.sopen(experiment.people_certainty(stusab, county), "wb", kms_key=experiment.kms_key) as file:
        file.write(PEOPLE_HEADER.encode() + b"\n")
        for record in records:
            people = people_of_tract(experiment, stusab, record.geoid)
            if people_digest(people, builder_for(experiment).bins) != record.people_digest:
                raise InputError(
                    f"{experiment.synth_out(stusab, county)}: has changed while certainty was computed; do step 6 again"
                )
            file.write(b"".join((b"N\n", b"Y\n")[flag] for flag in certain_flags(record, people).tolist()))
    return file_digest(experiment.synth_out(stusab, county))


def file_digest(path: str) -> str:
    """SHA-256 of a file's bytes, in hex, read a piece at a time."""
    digest = hashlib.sha256()
    with storage.sopen(path, "rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _sidecar(
    experiment: Experiment, stusab: str, county: str, records: Sequence[TractRecord], people: str, cells: bool
) -> dict[str, Any]:
    bins = builder_for(experiment).bins
    return {
        "county": f"{STATES[stusab].fips}{county}",
        "stusab": stusab,
        "tables": experiment.tables,
        "product": builder_for(experiment).product.name,
        "age_bins": str(bins),
        "solver": highs_version(),
        "seed": 0,
        "budget": asdict(budget_of(experiment)),
        "cells": cells,
        "sha256": {
            "people": people,
            "block_tables": file_digest(experiment.block_csv(stusab, county)),
            "tract_tables": file_digest(experiment.tract_csv(stusab, county)),
        },
        **summary_of(records),
    }


def stale_because(experiment: Experiment, stusab: str, county: str) -> str | None:
    """Why a county's certainty is not of its people and tables as they are now; None if it is. Raises InputError if there is
    none."""
    path = experiment.certainty_sidecar(stusab, county)
    sidecar = read_sidecar(path)
    files = {
        "people": experiment.synth_out(stusab, county),
        "block_tables": experiment.block_csv(stusab, county),
        "tract_tables": experiment.tract_csv(stusab, county),
    }
    for name, file in files.items():
        try:
            if file_digest(file) != sidecar["sha256"][name]:
                return f"{file} has changed since"
        except storage.MissingFile:
            return f"{file} is no more"
    return None


def read_sidecar(path: str) -> dict[str, Any]:
    """A county's sidecar. Raises InputError, naming it, if it is not there or not whole."""
    try:
        sidecar = json.loads(storage.read_bytes(path))
        sidecar["sha256"]["people"], sidecar["sha256"]["block_tables"], sidecar["sha256"]["tract_tables"]
    except storage.MissingFile:
        raise InputError(f"{path}: certainty of this county is not computed yet; do step 6 first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no whole file of a county's certainty; do step 6 again (--force)") from error
    return dict(sidecar)
