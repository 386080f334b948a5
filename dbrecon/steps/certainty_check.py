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
from dbrecon.experiment import CELL_KINDS, Experiment
from dbrecon.recon.certainty.record import TractRecord
from dbrecon.recon.certainty.sample_record import SampleOrder, SampleRecord
from dbrecon.recon.solve.highs import highs_version
from dbrecon.steps.certainty_records import budget_of
from dbrecon.steps.origin import ACCEPTED, NotAccepted

SOURCES = ("people", "block_tables", "tract_tables")
"""What certainty is made of, as the sidecar calls it."""


Digests = Mapping[str, str | None]
"""SHA-256 of what certainty is made of, by the sidecar's names; what is not known is missing or empty."""


READ = ("certainty", "people_certainty")
"""What summaries and reports read."""


def county_paths(experiment: Experiment, stusab: str, county: str) -> dict[str, str]:
    """Return the county's files of certainty that the sidecar tells of, by its names for them."""
    files = {
        "certainty": experiment.certainty,
        "people_certainty": experiment.people_certainty,
        "sample_blocks": experiment.sample_blocks,
    }
    paths = {name: path(stusab, county) for name, path in files.items()}
    for kind in CELL_KINDS:
        paths[cells_name("cells", kind)] = experiment.certainty_cells(stusab, county, kind)
        paths[cells_name("sample_cells", kind)] = experiment.sample_cells(stusab, county, kind)
    return paths


def _names() -> set[str]:
    """Return all names of files that a sidecar may tell of."""
    return {"certainty", "people_certainty", "sample_blocks"} | {
        cells_name(what, kind) for what in ("cells", "sample_cells") for kind in CELL_KINDS
    }


def cells_name(what: str, kind: str) -> str:
    """Return the sidecar's name for a file of cells, "cells" or "sample_cells", of a kind."""
    return what if kind == "csv" else f"{what}_{kind}"


def kind_of_cells(experiment: Experiment, stusab: str, county: str) -> str | None:
    """Return the kind of the files of cells that the county has, as its sidecar tells; None if it has none."""
    try:
        files = read_sidecar(experiment.certainty_sidecar(stusab, county))["files"]
    except (InputError, storage.DamagedFile):
        return None
    return next((kind for kind in CELL_KINDS if cells_name("cells", kind) in files), None)


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


def check_sources(experiment: Experiment, stusab: str, county: str, accepted: Digests) -> None:
    """InputError if the county's people or tables are not those that the ledger has accepted."""
    about = {"people": Subject.PEOPLE, "block_tables": Subject.COUNTY_FILES, "tract_tables": Subject.COUNTY_FILES}
    for name, path in _sources(experiment, stusab, county).items():
        if (digest := accepted.get(name)) and digest_of(path) != digest:
            place = f"{stusab} {county}" if name == "people" else stusab
            raise NotAccepted(f"{path}: is not {ACCEPTED}: it was changed, or is of other work", about=about[name], place=place)


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


def is_current(experiment: Experiment, stusab: str, county: str, cells: str | None, accepted: Digests | None = None) -> bool:
    """Return whether a county's files of certainty are there and of its people, tables and budget as they are now.

    ``cells`` is the kind in which cells are wanted. ``accepted`` are the digests of people and tables that the ledger knows: these
    files are not read then.
    """
    path = experiment.certainty_sidecar(stusab, county)
    try:
        sidecar = read_sidecar(path)
    except InputError:
        return False
    if sidecar.get("budget") != asdict(budget_of(experiment)) or sidecar.get("solver") != highs_version():
        return False
    lacking = cells and cells_name("cells", cells) not in sidecar["files"]
    if lacking or changed_since(experiment, stusab, county, sidecar["sha256"], accepted) is not None:
        return False
    paths = county_paths(experiment, stusab, county)
    wanted = {paths[name]: made["bytes"] for name, made in sidecar["files"].items()}
    sizes = storage.sizes([*wanted, paths["certainty"], paths["people_certainty"]])
    whole = None not in sizes.values() and all(sizes[file] == size for file, size in wanted.items())
    return whole and _edited(experiment, stusab, county, sidecar) is None


def stale_because(experiment: Experiment, stusab: str, county: str, accepted: Digests | None = None) -> str | None:
    """Return why a county's certainty is not of its people and tables as they are now, or not as step 6 wrote it; None if it is.

    ``accepted`` are digests that are known, and need no reading of files. Raises InputError if there is no certainty.
    """
    sidecar = read_sidecar(experiment.certainty_sidecar(stusab, county))
    return changed_since(experiment, stusab, county, sidecar["sha256"], accepted) or _edited(experiment, stusab, county, sidecar)


def _edited(experiment: Experiment, stusab: str, county: str, sidecar: dict[str, Any]) -> str | None:
    """Return which of the files that are read by others is not what step 6 wrote, in words; None if all are."""
    paths = county_paths(experiment, stusab, county)
    for name in READ:
        made = sidecar.get("files", {}).get(name)
        if made is not None and digest_of(paths[name]) != made["sha256"]:
            return f"{paths[name]} is not what step 6 wrote"
    return None


def source_digests(experiment: Experiment, stusab: str, county: str, accepted: Digests | None = None) -> dict[str, str]:
    """Return the digests of a county's people and tables by the sidecar's names. ``accepted`` as in :func:`changed_since`."""
    sources = _sources(experiment, stusab, county)
    return {name: (accepted or {}).get(name) or digest_of(file) for name, file in sources.items()}


def changed_since(
    experiment: Experiment, stusab: str, county: str, made_of: Digests, accepted: Digests | None = None
) -> str | None:
    """Which of a county's people and tables is not that of which something was ``made_of``, in words; None if all are.

    ``accepted`` are digests that are known, and need no reading of files.
    """
    for name, file in _sources(experiment, stusab, county).items():
        try:
            if ((accepted or {}).get(name) or digest_of(file)) != made_of[name]:
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
    if why := changed_since(experiment, stusab, county, sidecar["sha256"], accepted):
        faults.append(Fault(path, wrong(f"{path} is stale: {why}"), stale=True))
    for name, made in sidecar["files"].items():
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
        digests = [sidecar["sha256"][name] for name in SOURCES]
        files = {name: (made["bytes"], made["sha256"]) for name, made in sidecar["files"].items()}
        if not {*map(type, digests)} <= {str} or {*files} - _names() or not all(map(_is_made, files.values())):
            raise ValueError(path)
    except storage.MissingFile:
        raise InputError(f"{path}: certainty of this county is not computed yet; do step 6 first") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is no whole file of a county's certainty", about=Subject.CERTAINTY) from error
    return dict(sidecar)


def _is_made(made: tuple[object, object]) -> bool:
    """Whether these are the bytes and the digest of a file."""
    return type(made[0]) is int and type(made[1]) is str
