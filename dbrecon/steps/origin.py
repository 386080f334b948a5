"""What a tract's files are made of, and under which claim: what step 3 and 4 write into them and put them in place by."""

import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dbrecon.ctools import staging, storage
from dbrecon.ctools.staging import Stage
from dbrecon.errors import InputError, Subject
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import Claim, CountyClaim
from dbrecon.version import PROGRAM

HEAD_BYTES = 4096
_SEED = re.compile(rb"^# seed = (\d{1,10})\r?$", re.MULTILINE)
_TABLES = re.compile(rb"^# tables = ([\w,-]+)\r?$", re.MULTILINE)
TABLES = "tables_sha256"
LP = "lp_sha256"
ACCEPTED = "as the ledger has it"


@dataclass(frozen=True)
class Origin:
    """``tables_sha256`` is that of the tract's tables (:meth:`CountyTables.digest`), ``lp_sha256`` that of the LP file that
    was accepted or just made; ``token`` and ``fence`` are the claim's.

    The claim is not in a file's content, or equal tables would not give equal files: it is in the name of the local file that waits
    to be accepted, and in the metadata of an object on S3.
    """

    tables_sha256: str = ""
    token: str = ""
    fence: int = 0
    lp_sha256: str = ""

    @classmethod
    def of(cls, claim: Claim, tables_sha256: str) -> "Origin":
        """Return the origin of what is made of these tables under a claim."""
        return cls(tables_sha256, claim.token, claim.fence, claim.lp_digest or "")

    def lp_notes(self) -> tuple[str, ...]:
        """Return the comment lines of an LP file, without =, which counts constraints there."""
        return (f"{TABLES}: {self.tables_sha256}",) if self.tables_sha256 else ()

    def notes(self, experiment: Experiment, product: str) -> dict[str, str]:
        """Return the comments of a solution, but for the solver's and its seed."""
        found = {TABLES: self.tables_sha256, LP: self.lp_sha256} if self.tables_sha256 else {}
        return {"product": product, "tables": experiment.tables} | found | {"program": PROGRAM}


def recorded_tables(path: str) -> str | None:
    """Return the tables that a solution says it was made for, in the words of an experiment; None as :func:`recorded_seed`."""
    found = _recorded(_TABLES, path)
    return found[1].decode("ascii") if found else None


def recorded_seed(path: str) -> int | None:
    """Return the seed that a solution says it was made with; None if there is no such file, it is damaged, or says none."""
    found = _recorded(_SEED, path)
    return int(found[1]) if found else None


def _recorded(pattern: re.Pattern[bytes], path: str) -> re.Match[bytes] | None:
    try:
        return pattern.search(storage.read_bytes(path)[:HEAD_BYTES])
    except (storage.MissingFile, storage.DamagedFile):
        return None


@contextmanager
def staged(path: str, origin: Origin | CountyClaim, kms_key: str | None) -> Iterator[Stage]:
    """Yield a file that is written under a claim, to be accepted by the ledger."""
    with staging.stage(path, origin.token, origin.fence, kms_key) as file:
        yield file


class NotAccepted(InputError):
    """A file that is another than the one that was accepted."""


def check_accepted(content: bytes | mmap.mmap, accepted: str | None, path: str, what: str, about: Subject, place: str = "") -> str:
    """Return the digest of a file's unpacked content. NotAccepted, ``about`` that kind of file of that place, if it is another than
    was accepted (None, "": nothing is known)."""
    digest = staging.digest(content)
    if accepted and digest != accepted:
        found = f"{path}: is not {what} {ACCEPTED}: it was changed, or is of other work"
        raise NotAccepted(found, about=about, place=place)
    return digest
