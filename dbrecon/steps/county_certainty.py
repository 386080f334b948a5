"""Step 6 of a county: its tracts' records -> how sure the people are, certainty_{SSCCC}.csv and what goes with it."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dbrecon.ctools import storage
from dbrecon.ctools.extras import extra
from dbrecon.ctools.progress import counted
from dbrecon.errors import InputError
from dbrecon.experiment import CELL_KINDS, Experiment
from dbrecon.recon.certainty.county import (
    CONFIDENCE_HEADER,
    PEOPLE_HEADER,
    block_lines,
    cell_lines,
    certain_flags,
    per_cent,
    summary_of,
)
from dbrecon.recon.certainty.record import TractRecord, people_digest
from dbrecon.recon.certainty.sample_files import (
    confidence,
    decimal,
    sample_block_lines,
    sample_cell_lines,
    samples_summary,
)
from dbrecon.recon.certainty.sample_record import SampleRecord
from dbrecon.recon.people.attributes import Attributes
from dbrecon.recon.solve.highs import highs_version
from dbrecon.states import STATES
from dbrecon.steps.certainty_check import (
    Digests,
    cells_name,
    check_sources,
    county_paths,
    is_current,
    kind_of_cells,
    source_digests,
)
from dbrecon.steps.certainty_records import budget_of, builder_for, load_record, make_record_of, people_of_tract
from dbrecon.steps.methods import attributes_known
from dbrecon.steps.samples import samples_of


def write_county(experiment: Experiment, stusab: str, county: str, tracts: Sequence[str], accepted: Digests) -> None:
    """Write a county's files of certainty from the records of its ``tracts``. What is there and current is left alone.

    Raises InputError if a record is not there, or not of the county's people as they are, or these or the tables are not those that
    were ``accepted``.
    """
    check_sources(experiment, stusab, county, accepted)
    if is_current(experiment, stusab, county, cells=None):
        return
    for tract in tracts:
        make_record_of(experiment, stusab, county, tract)  # mostly it is there and matches
    close_county(experiment, stusab, county, tracts)


def count_of(records: Sequence[TractRecord]) -> str:
    """Return what was found of a county, in a line."""
    sums = summary_of(records)
    people, differ, certain = sums["people"], sums["differ_upper"], sums["certain"]
    open_blocks = sums["blocks_by_proof"]["open"]
    still_open = f"; {counted(open_blocks, 'block')} open" if open_blocks else ""
    share = per_cent(differ, people)
    return (
        f"{counted(people, 'person')} in {counted(sums['blocks'], 'block')}; at most {differ:,} may differ ({share} %), "
        f"{certain:,} are certain{still_open}"
    )


def samples_line(sidecar: dict[str, Any]) -> str:
    """Return what the samples of a county tell, in a line."""
    found, people = sidecar["samples"], sidecar["people"]
    broken_off = f"; {found['unfinished']:,} draws of parts broken off at the budget" if found["unfinished"] else ""
    apart, away = (
        f"{found[name]:,.1f} people ({100 * found[name] / people:.2f} %)" for name in ("mean_differ", "mean_from_people")
    )
    return (
        f"{counted(found['number'], 'sample')}, seed {found['seed']}: two of them differ by {apart} on average, one from these "
        f"people by {away}; {counted(found['blocks_that_vary'], 'block')} and {counted(found['cells_that_vary'], 'cell')} "
        f"vary{broken_off}{_mixing(found)}"
    )


def _mixing(found: dict[str, Any]) -> str:
    """Return how well a walk mixed."""
    if found["draws"] != "walk":
        return ""
    unsure = f"{counted(found['unmixed_cells'], 'cell')} unmixed, {found['stuck_cells']:,} stuck"
    return f"; a walk of {counted(found['moves'], 'move')}, samples correlate by {found['autocorrelation'] or 0:.3f}; {unsure}"


def close_county(
    experiment: Experiment, stusab: str, county: str, tracts: Sequence[str], cells: str | None = None
) -> list[TractRecord]:
    """Write a county's files of certainty from the records of its ``tracts``, ascending; the sidecar last, since it says that the
    rest is there. Cells are among them where every record has intervals, confidence where there are samples of all.

    ``cells`` is the kind in which cells are wanted; without it they are written as they were before.

    Returns the records. Raises InputError if one is not there, or not of the county's people as they are.
    """
    records = [load_record(experiment, stusab, county, tract) for tract in tracts]
    samples = samples_of(experiment, stusab, county, records)
    has_cells = all(record.intervals for record in records)
    kind = cells or kind_of_cells(experiment, stusab, county) or CELL_KINDS[0]
    lines: dict[str, Iterable[bytes]] = {"certainty": block_lines(records)}
    if samples:
        lines["sample_blocks"] = sample_block_lines(samples)
    if has_cells:
        lines |= _cells(kind, records, samples, attributes_known(experiment))
    lines["people_certainty"] = _people_lines(experiment, stusab, county, records, samples)
    paths = county_paths(experiment, stusab, county)
    written = {name: _write(experiment, path, lines.get(name)) for name, path in paths.items()}
    sidecar = _sidecar(experiment, stusab, county, records, has_cells)
    sidecar["files"] = {name: made for name, made in written.items() if made is not None}
    if samples:
        sidecar["samples"] = samples_summary(samples)
    text = json.dumps(sidecar, indent=1, sort_keys=True).encode() + b"\n"
    _write(experiment, experiment.certainty_sidecar(stusab, county), [text])
    return records


def _cells(
    kind: str, records: Sequence[TractRecord], samples: Sequence[SampleRecord], attributes: Attributes | None
) -> Mapping[str, Iterable[bytes]]:
    """Return the files of cells, by the sidecar's names for them."""
    of_cells, of_samples = cells_name("cells", kind), cells_name("sample_cells", kind)
    if kind == "csv":
        return {of_cells: cell_lines(records, attributes)} | (
            {of_samples: sample_cell_lines(samples, attributes)} if samples else {}
        )
    with extra("study"):
        from dbrecon.recon.certainty.cell_table import cell_pieces, sample_cell_pieces
    return {of_cells: cell_pieces(records, attributes)} | ({of_samples: sample_cell_pieces(samples, attributes)} if samples else {})


def _write(experiment: Experiment, path: str, lines: Iterable[bytes] | None) -> dict[str, Any] | None:
    """Write a file of lines, and tell its bytes and digest; None: it goes, since it would be of other people."""
    if lines is None:
        storage.remove(path)
        return None
    digest, size = hashlib.sha256(), 0
    with storage.sopen(path, "wb", kms_key=experiment.kms_key) as file:
        for piece in lines:
            file.write(piece)
            digest.update(piece)
            size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _people_lines(
    experiment: Experiment, stusab: str, county: str, records: Sequence[TractRecord], samples: Sequence[SampleRecord]
) -> Iterator[bytes]:
    """Line for line beside the county's people, header first: who is certain; with samples, the share of them that hold each."""
    yield (CONFIDENCE_HEADER if samples else PEOPLE_HEADER).encode() + b"\n"
    for number, record in enumerate(records):
        people = people_of_tract(experiment, stusab, record.geoid)
        if people_digest(people, builder_for(experiment).bins) != record.people_digest:
            raise InputError(f"{experiment.synth_out(stusab, county)}: has changed while certainty was computed; do step 6 again")
        flags = certain_flags(record, people).tolist()
        if not samples:
            yield b"".join((b"N\n", b"Y\n")[flag] for flag in flags)
            continue
        drawn = samples[number].number
        shares = [decimal(holders, drawn) for holders in range(drawn + 1)]
        holders = confidence(samples[number], people).tolist()
        yield "".join(f"{'NY'[flag]},{shares[held]}\n" for flag, held in zip(flags, holders, strict=True)).encode()


def _sidecar(experiment: Experiment, stusab: str, county: str, records: Sequence[TractRecord], cells: bool) -> dict[str, Any]:
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
        "sha256": source_digests(experiment, stusab, county),
        **summary_of(records),
    }
