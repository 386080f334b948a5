"""What a scheduler asks of its workers, and what they answer. All of it is picklable."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from dbrecon.ctools.staging import Staged
from dbrecon.errors import DBReconError
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import CertaintyClaim, Claim, CountyClaim, ErrorReport, LpStats, SolStats
from dbrecon.remedies import explain


@runtime_checkable
class ClaimedTask(Protocol):
    """A task of the scheduling loop: what to do with some claims of one experiment."""

    @property
    def experiment(self) -> Experiment:
        """Whose claims they are."""

    @property
    def claims(self) -> tuple[Claim | CountyClaim, ...]:
        """The claims, which messages name by their index here."""


@dataclass(frozen=True)
class TractTask:
    """Take claimed tracts of one county through ``steps`` (3, 4 or both)."""

    experiment: Experiment
    steps: frozenset[int]
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class CountyTask:
    """Write a county's people. ``tracts`` are those with people, with their populations."""

    experiment: Experiment
    claim: CountyClaim
    tracts: tuple[tuple[str, int], ...]

    @property
    def claims(self) -> tuple[CountyClaim, ...]:
        """The one claim."""
        return (self.claim,)


@dataclass(frozen=True)
class CertaintyTask:
    """Compute the certainty of claimed tracts of one county, or write a county's files of it."""

    experiment: Experiment
    claims: tuple[CertaintyClaim, ...]


@dataclass(frozen=True)
class Begun:
    """The worker begins the task's ``index``-th claim."""

    index: int


@dataclass(frozen=True)
class StorageAway:
    """The worker waits for storage, and why: it keeps what it has, and goes on when storage is back."""

    text: str


@dataclass(frozen=True)
class LpMade:
    """The LP of the ``index``-th claim is in place."""

    index: int
    stats: LpStats


@dataclass(frozen=True)
class Solved:
    """The checked solution of the ``index``-th claim is in place."""

    index: int
    stats: SolStats


@dataclass(frozen=True)
class CountyWritten:
    """The county's people are in place."""

    people: int
    seconds: float
    file: Staged | None = None
    index: ClassVar[int] = 0


@dataclass(frozen=True)
class CertaintyMade:
    """The certainty of the ``index``-th claim is in place."""

    index: int
    seconds: float


@dataclass(frozen=True)
class Failure:
    """An error as it can travel: its text, the place in the code, the traceback.

    ``blame`` is "tract"; "node" (its disk or network: not the tract's fault, and it may pass); or "setup" (a licence, say: it
    will not pass while the scheduler runs). ``final``: trying again cannot help.
    """

    message: str
    file: str
    line: int
    stack: str
    exit_code: int
    blame: str
    final: bool = False

    @classmethod
    def of(cls, error: DBReconError, blame: str, *, final: bool = False) -> "Failure":
        """Return the failure that an error means."""
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-1] if frames else None
        stack = "".join(traceback.format_exception(error))
        file, line = (last.filename, last.lineno or 0) if last else ("", 0)
        return cls(explain(error), file, line, stack, error.exit_code, blame, final)

    def report(self, claim: Claim | CountyClaim, pid: int) -> ErrorReport:
        """For the table of errors."""
        return ErrorReport(
            reident=claim.reident,
            host=claim.worker.host,
            pid=pid,
            message=self.message,
            file=self.file,
            line=self.line,
            stack=self.stack,
            stusab=claim.stusab,
            county=claim.county,
            tract=claim.tract if isinstance(claim, Claim) else "",
        )


@dataclass(frozen=True)
class Failed:
    """The ``index``-th claim failed (of a county's task: 0)."""

    index: int
    failure: Failure


Send = Callable[[Begun | StorageAway | LpMade | Solved | CountyWritten | CertaintyMade | Failed], None]
