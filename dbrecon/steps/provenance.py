"""What an experiment's files are made of, and whether that is still there: the zip, the geofile, the county files.

A state's zip is known by the digest of its directory (:attr:`StateZip.digest`), which holds the CRC-32 and the size of every
member; steps 1 and 2 check the members against it while they read them. To compute
it on every command takes a millisecond on a disk and
two or three requests on S3, where a digest of all bytes would take minutes. All other files are known by SHA-256, taken while they
are written or read anyway.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dbrecon.ctools import storage
from dbrecon.ctools.staging import digest_of
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import CountyDigests
from dbrecon.recon.product.release import StateZip


@dataclass(frozen=True)
class Zip:
    """A state's zip as it lies in ``dist/``, beside what step 1 has read. A digest is None where there is no zip, or none is
    known."""

    path: str
    digest: str | None
    entered: str | None

    @property
    def changed(self) -> bool:
        """Whether the zip is another than step 1 has read. One that is gone, or was never known, cannot be told."""
        return None not in (self.digest, self.entered) and self.digest != self.entered


def zip_of(experiment: Experiment, ledger: Ledger, stusab: str) -> Zip:
    """Return a state's zip. Raises InputError if it is no zip, StorageError if it cannot be read."""
    path = experiment.dist_zip(stusab)
    try:
        with storage.open_ranges(path) as file:
            digest = StateZip(file, experiment.release, stusab, path).digest
    except storage.MissingFile:
        digest = None
    entered = ledger.state_digests(experiment.reident, stusab)
    return Zip(path, digest, entered.zip)


def made_of(experiment: Experiment, ledger: Ledger) -> dict[str, Any]:
    """Return what an experiment's results were made of: product, seed, program, solvers, and by state the digests of zip and
    geography.

    As JSON can hold it; None for what is not known.
    """
    row = ledger.experiment(experiment.reident)
    states = {stusab: asdict(ledger.state_digests(row.reident, stusab)) for stusab in ledger.stusabs(row.reident)}
    return {
        "product": row.product,
        "product_title": experiment.release.title,
        "tables": row.tables,
        "tables_toml_sha256": hashlib.sha256(Path(experiment.tables_path).read_bytes()).hexdigest(),
        "ages": row.ages,
        "seed": row.seed,
        "program": row.program or None,
        "solutions": [asdict(maker) for maker in ledger.makers(row.reident)],
        "states": states,
    }


def broken_link(found: Zip, stusab: str) -> str:
    """Return the sentence for a zip that has changed."""
    return (
        f"{found.path} is not the zip that step 1 has read: what was made of that one is not what these tables say; "
        f"make it again (--step1 --step2 --stusab {stusab}, then --run), or put the earlier zip back"
    )


def check_zip(experiment: Experiment, ledger: Ledger, stusab: str) -> str | None:
    """Return the digest of a state's zip, None if there is none. InputError if it is another than step 1 has read."""
    found = zip_of(experiment, ledger, stusab)
    if found.changed:
        raise InputError(broken_link(found, stusab))
    return found.digest


def check_tables(experiment: Experiment, ledger: Ledger, stusab: str, counties: Iterable[str]) -> None:
    """InputError, naming the link that is broken, if the counties' two files are not those of today's zip that the ledger has."""
    check_zip(experiment, ledger, stusab)
    files = ledger.county_files(experiment.reident, stusab)
    for county in counties:
        entered = files.get(county)
        if entered is None:
            raise InputError(f"{stusab} {county}: step 2 has made no files since step 1; make them (--step2 --stusab {stusab})")
        again = f"make it again (--step2 --force --stusab {stusab}, then --run)"
        _check_file(experiment.block_csv(stusab, county), entered.block, "the county file", again)
        _check_file(experiment.tract_csv(stusab, county), entered.tract, "the county file", again)


def check_people(experiment: Experiment, ledger: Ledger, stusab: str, counties: Iterable[str]) -> None:
    """Raise InputError if a county's file of people is not the one that the ledger has accepted."""
    people = ledger.people_digests(experiment.reident, stusab)
    for county in counties:
        again = f"make it again (--step5 --force --stusab {stusab} --county {county})"
        _check_file(experiment.synth_out(stusab, county), people.get(county), "the file of people", again)


def _check_file(path: str, accepted: str | None, what: str, remedy: str) -> None:
    if accepted and digest_of(path) != accepted:
        raise InputError(f"{path}: is not {what} as the ledger has it: it was changed since; {remedy}")


def counties_to_make(
    experiment: Experiment, ledger: Ledger, stusab: str, counties: Collection[str], zip_digest: str | None = None
) -> list[str]:
    """Return those of a state's counties whose two files are not there, not those that step 2 has entered, or made of another zip.

    Looks at names and sizes alone: whoever reads a file compares its digest.
    """
    entered = ledger.county_files(experiment.reident, stusab)
    paths = {county: (experiment.block_csv(stusab, county), experiment.tract_csv(stusab, county)) for county in counties}
    sizes = storage.sizes([path for pair in paths.values() for path in pair])
    return [county for county in counties if not _stands(entered.get(county), [sizes[path] for path in paths[county]], zip_digest)]


def _stands(files: CountyDigests | None, sizes: list[int | None], zip_digest: str | None) -> bool:
    if files is None or None in sizes:
        return False
    if zip_digest is not None and files.zip != zip_digest and (files.zip is not None or files.block):
        return False  # made of another zip, or entered as they were, when there was none to compare them with
    wanted = (files.block_bytes, files.tract_bytes)
    return all(want is None or want == size for want, size in zip(wanted, sizes, strict=True))
