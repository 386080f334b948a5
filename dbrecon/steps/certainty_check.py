"""Whether a county's files of certainty are there, whole, and of its people and tables as they are now.

The sidecar, written last, has the digests of what they were made of, and of each of them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dbrecon.ctools import storage
from dbrecon.ctools.staging import digest_of
from dbrecon.errors import DBReconError, InputError, Subject
from dbrecon.experiment import Experiment
from dbrecon.recon.certainty.record import TractRecord
from dbrecon.recon.certainty.sample_record import SampleOrder, SampleRecord
from dbrecon.recon.solve.highs import highs_version
from dbrecon.steps.certainty_records import budget_of

Digests = Mapping[str, str | None]
"""SHA-256 of what certainty is made of, by the sidecar's names; what is not known is missing or empty."""


def county_paths(experiment: Experiment, stusab: str, county: str) -> dict[str, str]:
    """Return the county's files of certainty that the sidecar tells of, by its names for them."""
    files = {
        "certainty": experiment.certainty,
        "people_certainty": experiment.people_certainty,
        "cells": experiment.certainty_cells,
        "sample_blocks": experiment.sample_blocks,
        "sample_cells": experiment.sample_cells,
    }
    return {name: path(stusab, county) for name, path in files.items()}


def records_of(experiment: Experiment) -> tuple[Callable[[str, str, str], str], ...]:
    """Return where a tract's files of step 6 lie."""
    return experiment.certainty_record, experiment.samples_record, experiment.samples


def _sources(experiment: Experiment, stusab: str, county: str) -> dict[str, str]:
    """Return what certainty is made of."""
    return {
        "people": experiment.synth_out(stusab, county),
        "block_tables": experiment.block_csv(stusab, county),
        "tract_tables": experiment.tract_csv(stusab, county),
    }


def has_samples(experiment: Experiment, stusab: str, county: str, tracts: Sequence[str], order: SampleOrder) -> bool:
    """Return whether a county's files of certainty are with the samples that are ordered."""
    try:
        found = read_sidecar(experiment.certainty_sidecar(stusab, county)).get("samples") or {}
    except InputError:
        return False
    draws = "walk" if order.walking else "corners"
    if [found.get(name) for name in ("number", "seed", "draws")] != [order.number, order.seed, draws]:
        return False
    files = [experiment.sample_blocks(stusab, county)]
    files += [experiment.samples(stusab, county, tract) for tract in tracts if order.keep]
    return None not in storage.sizes(files).values()


def is_current(experiment: Experiment, stusab: str, county: str, cells: bool, accepted: Digests | None = None) -> bool:
    """Return whether a county's files of certainty are there and of its people, tables and budget as they are now.

    ``accepted`` are the digests of people and tables that the ledger knows: these files are not read then.
    """
    path = experiment.certainty_sidecar(stusab, county)
    try:
        sidecar = read_sidecar(path)
    except InputError:
        return False
    if sidecar.get("budget") != asdict(budget_of(experiment)) or sidecar.get("solver") != highs_version():
        return False
    if (cells and not sidecar.get("cells")) or _stale(experiment, stusab, county, sidecar, accepted or {}) is not None:
        return False
    paths = county_paths(experiment, stusab, county)
    wanted = {paths[name]: made["bytes"] for name, made in sidecar.get("files", {}).items()}
    sizes = storage.sizes([*wanted, paths["certainty"], paths["people_certainty"]])
    return None not in sizes.values() and all(sizes[file] == size for file, size in wanted.items())


def stale_because(experiment: Experiment, stusab: str, county: str, accepted: Digests | None = None) -> str | None:
    """Return why a county's certainty is not of its people and tables as they are now; None if it is.

    ``accepted`` are digests that are known, and need no reading of files. Raises InputError if there is no certainty.
    """
    return _stale(experiment, stusab, county, read_sidecar(experiment.certainty_sidecar(stusab, county)), accepted or {})


def _stale(experiment: Experiment, stusab: str, county: str, sidecar: dict[str, Any], accepted: Digests) -> str | None:
    for name, file in _sources(experiment, stusab, county).items():
        try:
            if (accepted.get(name) or digest_of(file)) != sidecar["sha256"][name]:
                return f"{file} has changed since"
        except storage.MissingFile:
            return f"{file} is no more"
    return None


@dataclass(frozen=True)
class Fault:
    """A file of certainty that is missing, damaged or ``stale``; of a tract's ``record`` the county's files can still be whole."""

    path: str
    error: DBReconError
    stale: bool = False
    record: bool = False


def certainty_faults(
    experiment: Experiment, stusab: str, county: str, tracts: Sequence[str], accepted: Digests
) -> list[Fault] | None:
    """Return what is wrong with a county's files of certainty; None if step 6 has made none of them. DeniedFile if one may not be
    read."""
    path, paths = experiment.certainty_sidecar(stusab, county), county_paths(experiment, stusab, county)

    def wrong(what: str) -> DBReconError:
        return InputError(what, about=Subject.CERTAINTY, place=f"{stusab} {county}")

    if not storage.exists(path):
        left = [name for name, size in storage.sizes(list(paths.values())).items() if size is not None]
        return [Fault(path, wrong(f"{path} does not exist, though {left[0]} does"))] if left else None
    try:
        sidecar = read_sidecar(path)
    except (InputError, storage.DamagedFile) as error:
        return [Fault(path, error)]
    faults = []
    if why := _stale(experiment, stusab, county, sidecar, accepted):
        faults.append(Fault(path, wrong(f"{path} is stale: {why}"), stale=True))
    for name, made in sidecar.get("files", {}).items():
        try:
            if digest_of(paths[name]) != made["sha256"]:
                faults.append(Fault(paths[name], wrong(f"{paths[name]} is not what step 6 wrote: it was changed")))
        except storage.MissingFile:
            faults.append(Fault(paths[name], wrong(f"{paths[name]} does not exist")))
    return faults + _record_faults(experiment, stusab, county, tracts)


def _record_faults(experiment: Experiment, stusab: str, county: str, tracts: Sequence[str]) -> list[Fault]:
    """Tracts' records that are there and not whole."""
    faults = []
    parts = ((experiment.certainty_record, TractRecord.parse), (experiment.samples_record, SampleRecord.parse))
    for tract in tracts:
        for where, parse in parts:
            path = where(stusab, county, tract)
            try:
                parse(storage.read_bytes(path), path)
            except storage.MissingFile:
                continue
            except (InputError, storage.DamagedFile) as error:
                faults.append(Fault(path, error, record=True))
    return faults


def read_sidecar(path: str) -> dict[str, Any]:
    """Return a county's sidecar. Raises InputError, naming it, if it is not there or not whole."""
    try:
        sidecar = json.loads(storage.read_bytes(path))
        sidecar["sha256"]["people"], sidecar["sha256"]["block_tables"], sidecar["sha256"]["tract_tables"]
    except storage.MissingFile:
        raise InputError(f"{path}: certainty of this county is not computed yet; do step 6 first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no whole file of a county's certainty", about=Subject.CERTAINTY) from error
    return dict(sidecar)
