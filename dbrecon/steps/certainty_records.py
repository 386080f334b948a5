"""Step 6 of a tract: its people and tables -> its record, in ``certainty/`` of the county.

A record says by digests which people and tables it is of, and by its own that it is as it was written. What is there and
matches is not computed again.
"""

import io
import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import IO, TypeVar

from dbrecon.ctools import storage
from dbrecon.errors import InputError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import CountyDigests
from dbrecon.recon.census.subset import chosen_tables
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.certainty.json_record import JsonRecord
from dbrecon.recon.certainty.record import TractRecord, certainty_builder, people_digest, tables_digest, tract_record
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.people.people import People
from dbrecon.recon.people.rows import parse_rows
from dbrecon.recon.solve.highs import highs_version
from dbrecon.recon.tract.county_tables import CountyTables
from dbrecon.recon.tract.model import ModelBuilder
from dbrecon.steps.lp_files import read_county
from dbrecon.steps.methods import attributes_known

PROBE_BYTES, PIECE_BYTES = 1 << 12, 1 << 17

log = logging.getLogger(__name__)

Record = TypeVar("Record", bound=JsonRecord)


def check_available(experiment: Experiment) -> None:
    """Raise UsageError where certainty is not available: it is of exact tables alone."""
    used = chosen_tables(experiment.tables, [(table.name, table.level) for table in experiment.release.tables])
    inexact = [table.name for table in experiment.release.tables if table.name in used and (table.rounds or table.withholds)]
    if inexact:
        raise UsageError(
            f"{experiment.reident}: certainty is not available where cells are rounded or withheld ({', '.join(inexact)}); "
            "--evaluate tells how near its people come"
        )


def budget_of(experiment: Experiment) -> Budget:
    """Return the work that the settings allow."""
    settings = experiment.config.certainty
    return Budget(settings.tree_steps, settings.mip_checks, settings.tract_steps)


@lru_cache(maxsize=2)
def _builder(tables_file: str, tables: str) -> ModelBuilder:
    return certainty_builder(load_product(Path(tables_file), tables))


def builder_for(experiment: Experiment) -> ModelBuilder:
    """Return the builder of the programs of which certainty is told; one a process. UsageError where it is not available."""
    check_available(experiment)
    return _builder(experiment.tables_path, experiment.tables)


def make_record(experiment: Experiment, county: CountyTables, stusab: str, tract: str, intervals: bool) -> tuple[TractRecord, bool]:
    """Return the record of a tract (six digits), and whether it had to be computed: one that is there and matches is taken.

    ``intervals``: with every count's least and most. Raises InputError if the people are not there or do not meet the tables.
    """
    builder, budget = builder_for(experiment), budget_of(experiment)
    tables = county.tract(tract)
    people = people_of_tract(experiment, stusab, tables.geoid)
    path = experiment.certainty_record(stusab, tables.geoid[2:5], tract)
    wanted = (people_digest(people, builder.bins), tables_digest(tables), budget, highs_version())
    found = whole_record(TractRecord, path)
    if found is not None and (found.intervals or not intervals) and wanted == _made_of(found):
        return found, False
    record = tract_record(builder, tables, people, budget, highs_version(), intervals)
    with storage.sopen(path, "wb", kms_key=experiment.kms_key) as file:
        file.write(record.text())
    return record, True


def make_record_of(
    experiment: Experiment,
    stusab: str,
    county: str,
    tract: str,
    intervals: bool = False,
    force: bool = False,
    accepted: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Make the record of a tract (six digits), in any process; whether it was computed. ``force``: though it is there.

    ``accepted``: the digests of the county's tables, by the sidecar's names; InputError for a file that is another.
    """
    if force:
        storage.remove(experiment.certainty_record(stusab, county, tract))
    files = CountyDigests(None, accepted.get("block_tables", ""), accepted.get("tract_tables", ""))
    tables = read_county(experiment, builder_for(experiment).product, stusab, county, files)
    return make_record(experiment, tables, stusab, tract, intervals)[1]


def load_record(experiment: Experiment, stusab: str, county: str, tract: str) -> TractRecord:
    """Return a tract's record that is there. Raises InputError if it is not whole, MissingFile."""
    path = experiment.certainty_record(stusab, county, tract)
    return TractRecord.parse(storage.read_bytes(path), path)


def _made_of(record: TractRecord) -> tuple[str, str, Budget, str]:
    return record.people_digest, record.tables_digest, record.budget, record.solver


def whole_record(kind: type[Record], path: str, then: str = "it is made again") -> Record | None:
    """Return the record at ``path``; None if there is none, or none as it was written, which is told, with what comes ``then``."""
    try:
        return kind.parse(storage.read_bytes(path), path)
    except storage.MissingFile:
        return None
    except (storage.DamagedFile, InputError):
        log.warning("%s: was changed or cut short since step 6 wrote it; %s", path, then)
        return None


def people_of_tract(experiment: Experiment, stusab: str, geoid: str) -> People:
    """Return the people of a tract (11 digits), one an entry in the file's order, out of its county's file, of which no more is
    read than that needs. Raises InputError if the file is not there or has nobody of the tract."""
    path = experiment.synth_out(stusab, geoid[2:5])
    try:
        with storage.sopen(path, "rb") as file:
            rows = lines_of(file, geoid.encode())
    except storage.MissingFile:
        raise InputError(f"{path}: the county's people are not written yet; step 5 comes first") from None
    if not rows:
        raise InputError(f"{path}: has nobody of tract {geoid}, where the tables have people; make it again (--step5 --force)")
    return parse_rows(rows, path, attributes_known(experiment))


def lines_of(file: IO[bytes], prefix: bytes) -> bytes:
    """Return the lines of a sorted file (after its header) that begin with ``prefix``, found by bisection."""
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
    return _while_prefixed(file, prefix)


def _line_after(file: IO[bytes], offset: int) -> tuple[int, bytes]:
    """Return (where it begins, the line) of the first line that begins after ``offset``; never the header."""
    file.seek(offset)
    skipped = file.readline()
    return offset + len(skipped), file.readline()


def _while_prefixed(file: IO[bytes], prefix: bytes) -> bytes:
    """Return the lines from here on that begin with ``prefix``: many at a time, since a tract has thousands."""
    text = b"\n"
    while True:
        piece = file.read(PIECE_BYTES)
        text += piece
        last = text.rfind(b"\n" + prefix)
        end = text.find(b"\n", last + 1) + 1 or len(text)
        if not piece or len(text) - end >= len(prefix):
            return text[1:end] if last >= 0 else b""
