"""What an audit has found of some ways to publish, kept until its report is whole: an audit that was ended goes on from there.

The file holds rates alone, under digests of what they are of.
"""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from dbrecon.ctools import storage
from dbrecon.errors import InputError
from dbrecon.recon.risk.variants import Variant
from dbrecon.report.sections import WayToPublish


class KeptWays:
    """Rates by way to publish, in a file; in none with ``path`` None.

    ``made_of`` tells what else than the way the rates follow from: records, seed, program. Raises InputError for a file that is
    not whole, StorageError.
    """

    def __init__(self, path: str | None = None, made_of: str = "", kms_key: str | None = None) -> None:
        self._path, self._made_of, self._kms_key = path, made_of, kms_key
        self._known: dict[str, WayToPublish] = {}
        if path is not None and storage.exists(path):
            try:
                self._known = {key: WayToPublish(**way) for key, way in json.loads(storage.read_bytes(path)).items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise InputError(f"{path}: is not what an audit keeps of its ways to publish ({error}); remove it") from error

    def find(self, variant: Variant) -> WayToPublish | None:
        """Return what is known of a way, if anything."""
        return self._known.get(self._key(variant))

    def keep(self, variant: Variant, way: WayToPublish) -> None:
        """Add what was found of a way. Raises StorageError."""
        self._known[self._key(variant)] = way
        if self._path is not None:
            known = {key: asdict(way) for key, way in self._known.items()}
            with storage.sopen(self._path, "wb", kms_key=self._kms_key) as file:
                file.write(json.dumps(known, indent=1).encode())

    def remove(self) -> None:
        """Remove the file, the report being whole. Raises StorageError."""
        if self._path is not None and storage.exists(self._path):
            storage.remove(self._path)

    def _key(self, variant: Variant) -> str:
        return hashlib.sha256(f"{self._made_of}\n{variant}\n{_definitions(variant.product)}".encode()).hexdigest()


@cache
def _definitions(product: Path) -> str:
    return hashlib.sha256(product.read_bytes()).hexdigest()
