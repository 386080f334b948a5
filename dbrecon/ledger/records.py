"""What goes into the ledger and what comes out of it: plain, picklable records without any SQL.

All times are Unix time (seconds since 1970, UTC) as integers. ``stusab`` is the postal code in lower case ("oh"), ``state``
the two-digit FIPS code ("39"), ``county`` three digits, ``tract`` six digits, ``block`` four.
"""

import os
import time
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from dbrecon.ctools.host import host_name
from dbrecon.ctools.proc import process_facts
from dbrecon.ctools.staging import Staged
from dbrecon.errors import DatabaseError, DBReconError, UsageError
from dbrecon.ledger.lifecycle import CERTAIN, COUNTY, EMPTY, LP, NEW, OPEN, QUARANTINED, SOLVED, TRACT, WRITTEN

__all__ = [
    "CERTAIN",
    "COUNTY_STATUSES",
    "EMPTY",
    "FOUND",
    "LP",
    "NEW",
    "OPEN",
    "QUARANTINED",
    "SOLVED",
    "TRACT_STATUSES",
    "WRITTEN",
    "Beats",
    "Claim",
    "Claimant",
    "CountyClaim",
    "CountyDigests",
    "ErrorEntry",
    "ErrorReport",
    "ExperimentProgress",
    "ExperimentRow",
    "GeoRow",
    "HeldState",
    "Holder",
    "InProgress",
    "LostLease",
    "LpStats",
    "Quarantine",
    "SolStats",
    "SolvedTract",
    "StateClaim",
    "StateDigests",
    "Status",
    "SysLoad",
    "SysLoadEntry",
    "TractState",
    "Work",
    "Worker",
]  # fmt: skip

TRACT_STATUSES, COUNTY_STATUSES = TRACT.states, COUNTY.states

WORKER_LENGTH = 255
FOUND = "rescan"
"""Stands as the host of files that --rescan has found, whose makers are not known: they do not count as made in the past hour."""


class LostLease(DBReconError):
    """A worker wanted to finish or give back what is no longer its own: its lease ended, or an operator took it away.

    What it made is not accepted, so that nobody reads it; it must not do more for this claim.
    """

    exit_code = 5


class UnknownExperiment(DatabaseError):
    """The database has no experiment ``reident``, or has it no more."""

    def __init__(self, text: str, reident: str = "") -> None:
        super().__init__(text)
        self.reident = reident


class GeoRow(NamedTuple):
    """One record of the geographic header (2010 SF1), fields in the order of the columns of ``{R}_geo`` after ``stusab``.

    Fields that a summary level does not have are "". Areas are square metres, points are degrees.
    """

    sumlev: str
    geocomp: str
    logrecno: int
    state: str
    county: str
    tract: str
    block: str
    name: str
    pop100: int
    hu100: int
    arealand: int
    areawatr: int
    intptlat: float
    intptlon: float


SILENT_SECONDS = 180
"""Three of a host's reports: see :class:`Beats`."""


@dataclass(frozen=True, slots=True)
class Beats:
    """How schedulers show that they live: a lease holds for ``lease_seconds``, and is extended every ``heartbeat_seconds``."""

    lease_seconds: int = 300
    heartbeat_seconds: int = 60

    @property
    def silence_seconds(self) -> int:
        """A host that has been silent for longer counts as gone, for --status, --watch, --unlock, nodes that wait and the
        dashboard alike: three heartbeats, or three reports where these are farther apart."""
        return max(SILENT_SECONDS, 3 * self.heartbeat_seconds)


@dataclass(frozen=True, slots=True)
class Worker:
    """Who claims: ``host`` is the node, ``name`` is unique among all that ever ran there (pid and start, say)."""

    host: str
    name: str

    def __post_init__(self) -> None:
        if not self.host or not self.name or len(self.host) + len(self.name) >= WORKER_LENGTH:
            raise UsageError(
                f"a worker needs a host and a name of together less than {WORKER_LENGTH} characters, "
                f"not {self.host!r} and {self.name!r}; set a shorter host name"
            )

    @classmethod
    def here(cls, host: str | None = None) -> "Worker":
        """Return this process, by its pid, the time of the call and the process's start (ticks since the machine's, which no
        setting of the clock changes); ``host`` defaults to the node's name."""
        facts = process_facts(os.getpid())
        return cls(host or host_name(), f"{os.getpid()}-{time.time_ns()}" + (f"-{facts.started}" if facts else ""))

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"

    def lives(self) -> bool:
        """Return whether the process of a worker of this host is there, and is not a later one of the same number.

        Of a worker that an earlier program has named, without its start, the number alone is known: its lease ends by itself.
        """
        pid, _, rest = self.name.partition("-")
        started = rest.partition("-")[2]
        facts = process_facts(int(pid))
        return facts is not None and not facts.gone and started in ("", str(facts.started))


@dataclass(frozen=True, slots=True)
class StateDigests:
    """What step 1 has entered of a state: the digests of the zip that it has read, and of the geofile. None: not known."""

    zip: str | None = None
    geofile: str | None = None


@dataclass(frozen=True, slots=True)
class CountyDigests:
    """What step 2 has entered of a county's two files: of which zip they are made, their digests, and their bytes.

    A digest is "" for files that were made by a program that kept none; then the zip is not known either.
    """

    zip: str | None
    block: str
    tract: str
    block_bytes: int | None = None
    tract_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SolvedTract:
    """A solved tract (six digits) with its people, and the digest of the solution that was accepted ("": none was kept)."""

    tract: str
    pop: int
    sol_digest: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """One tract that ``worker`` holds until its lease ends. ``status`` is what it was: NEW (make the LP) or LP (solve it)."""

    reident: str
    stusab: str
    state: str
    county: str
    tract: str
    pop: int
    status: str
    attempts: int  # failures before this claim
    worker: Worker
    token: str
    fence: int = 0  # of two claims on a tract the later has the higher
    lp_digest: str | None = None  # of the LP file that was accepted
    county_files: CountyDigests | None = None

    @property
    def needs_lp(self) -> bool:
        """True if the ledger knows of no LP file of this tract."""
        return self.status == NEW

    def __str__(self) -> str:
        return f"{self.stusab} {self.county} {self.tract}"


COUNTY_FILES = "000000"
"""Stands for a tract's code where a county's own files of certainty are meant: no tract with people has it."""


@dataclass(frozen=True, slots=True)
class CertaintyClaim(Claim):
    """One tract whose certainty ``worker`` shall compute; or, where ``tract`` is ``COUNTY_FILES``, the county whose files of
    certainty it shall write from its ``tracts``. ``people_digest`` is that of the county's accepted file of people ("": not
    known)."""

    tracts: tuple[str, ...] = ()
    people_digest: str = ""

    @property
    def accepted(self) -> dict[str, str]:
        """What the ledger has accepted of the files that certainty is made of, by the sidecar's names; "" where it keeps none."""
        files = self.county_files
        tables = {"block_tables": files.block if files else "", "tract_tables": files.tract if files else ""}
        return {"people": self.people_digest, **tables}

    @property
    def of_county(self) -> bool:
        """True if the county's files are to be written."""
        return self.tract == COUNTY_FILES

    def __str__(self) -> str:
        return f"certainty of {self.stusab} {self.county}{'' if self.of_county else f' {self.tract}'}"


@dataclass(frozen=True, slots=True)
class CountyClaim:
    """One county, every tract with people solved, whose file of people ``worker`` shall write."""

    reident: str
    stusab: str
    state: str
    county: str
    solved: tuple[SolvedTract, ...]  # with people, ascending
    pop: int
    attempts: int
    worker: Worker
    token: str
    fence: int = 0
    county_files: CountyDigests | None = None

    def __str__(self) -> str:
        return f"{self.stusab} {self.county}"


@dataclass(frozen=True, slots=True)
class StateClaim:
    """One state whose step 1 or 2 ``worker`` shall do, for ``lease_seconds`` from now, or from the last county that it entered."""

    reident: str
    stusab: str
    worker: Worker
    token: str
    fence: int
    lease_seconds: int
    county: ClassVar[str] = ""

    def __str__(self) -> str:
        return self.stusab


@dataclass(frozen=True, slots=True)
class HeldState:
    """A state that a worker on ``host`` holds for so many seconds more."""

    host: str
    seconds: int


@dataclass(frozen=True, slots=True)
class LpStats:
    """The LP that was written. ``seconds`` is wall time of building and writing it; ``file`` is what the ledger is to accept."""

    variables: int
    constraints: int
    nonzeros: int
    seconds: float
    file: Staged | None = None


@dataclass(frozen=True, slots=True)
class SolStats:
    """The checked solution that was written. ``seconds`` is wall time of solving, checking and writing it."""

    solver: str  # name and version
    seconds: float
    memory_mib: int | None = None  # peak of the worker, for predicting what tracts of this size need
    file: Staged | None = None  # what the ledger is to accept
    seed: int | None = None
    program: str = ""  # this program's version


@dataclass(frozen=True, slots=True)
class Maker:
    """What made the solutions of ``tracts`` tracts: solver and version, seed (None: not known), this program's version."""

    solver: str
    seed: int | None
    program: str
    tracts: int


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """A registered experiment. ``tables`` is "all" or "block"; ``product`` names the table definitions; ``ages`` is "bins" or
    "single"."""

    reident: str
    tables: str
    product: str
    created: int
    seed: int = 0
    program: str = ""
    ages: str = "bins"


@dataclass(frozen=True, slots=True)
class ExperimentProgress:
    """An experiment, its states whose step 1 is complete, and of its ``tracts`` with people those that are ``solved``."""

    row: ExperimentRow
    stusabs: tuple[str, ...]
    solved: int
    tracts: int


@dataclass(frozen=True, slots=True)
class TractState:
    """Where one tract stands, as ``Ledger.tract_states`` gives it. Times and stats are None until they are known."""

    stusab: str
    state: str
    county: str
    tract: str
    pop: int
    status: str
    attempts: int
    error: str | None
    claimed_by: str | None
    lp_start: int | None
    lp_end: int | None
    lp_host: str | None
    sol_start: int | None
    sol_end: int | None
    sol_host: str | None
    variables: int | None
    constraints: int | None
    nonzeros: int | None
    solver: str | None
    solve_seconds: float | None
    lp_count: int  # finishing updates of step 3
    sol_count: int  # finishing updates of step 4


@dataclass(frozen=True, slots=True)
class Work:
    """What is left for some steps and places."""

    claimable: int  # tracts that can be claimed now
    running: int  # tracts under a live lease
    waiting: int  # tracts that failed and rest before their next attempt
    counties_claimable: int  # counties whose people can be written now
    counties_running: int
    counties_waiting: int
    quarantined: int  # tracts
    counties_quarantined: int
    certainty_claimable: int = 0  # tracts, and counties' files, of step 6
    certainty_running: int = 0
    certainty_waiting: int = 0
    certainty_quarantined: int = 0

    @property
    def nothing_left(self) -> bool:
        """True if no work can be claimed, now or later (quarantined work aside)."""
        tracts = self.claimable + self.running + self.waiting
        tracts += self.certainty_claimable + self.certainty_running + self.certainty_waiting
        return tracts + self.counties_claimable + self.counties_running + self.counties_waiting == 0


@dataclass(frozen=True, slots=True)
class InProgress:
    """A tract under a live lease, and since when."""

    stusab: str
    county: str
    tract: str
    pop: int
    host: str
    since: int


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A tract (or a county: ``tract`` is "") that was taken out of the work, and why; ``name`` is its county's."""

    stusab: str
    county: str
    tract: str
    pop: int
    attempts: int
    error: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Claimant:
    """A worker that holds tracts, counties or states; ``lease_end`` is the last of its leases to end, ``claimed_at`` its last
    claim."""

    worker: Worker
    tracts: int
    counties: int
    states: int
    lease_end: int
    claimed_at: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A host that holds tracts, counties or states of an experiment (certainty counts as tracts).

    ``heard_at``: its last report, claim or heartbeat; ``lease_end``: when the last of its leases ends; ``silent``: it counts as
    gone (:class:`Beats`).
    """

    host: str
    tracts: int
    counties: int
    lease_end: int
    heard_at: int
    silent: bool
    states: int = 0


@dataclass(frozen=True, slots=True)
class CertaintyStatus:
    """How far step 6 is, of counties in which it has begun: tracts, and counties whose files of it are written."""

    created: int = 0
    remaining: int = 0  # those in quarantine too
    in_process: int = 0  # held under a live lease
    quarantined: int = 0
    counties_created: int = 0
    counties_remaining: int = 0
    counties_quarantined: int = 0

    @property
    def waiting(self) -> bool:
        """Whether a scheduler has something to do yet. A county waits for an operator where one of its tracts does."""
        stuck = self.quarantined or self.counties_quarantined
        return self.remaining > self.quarantined or bool(self.counties_remaining and not stuck)

    @property
    def begun(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.counties_created or self.counties_remaining)


@dataclass(frozen=True, slots=True)
class Status:
    """What ``--status`` prints. Counts named lp_, sol_ and csv_ are tracts with people, as in the predecessor."""

    now: int
    completed_states: tuple[str, ...]  # every county's people are written
    lp_created: int
    lp_remaining: int
    lp_in_process: int  # held under a live lease
    lp_hostlocked: int  # held by a host whose lease is over: free to be claimed by others
    sol_created: int
    sol_remaining: int
    sol_ready: int  # LP in place, not solved
    csv_completed: int
    csv_remaining: int
    lps_in_progress: tuple[InProgress, ...]
    sols_in_progress: tuple[InProgress, ...]
    lps_past_hour: tuple[tuple[str, int], ...]  # (host, files)
    sols_past_hour: tuple[tuple[str, int], ...]
    quarantined: tuple[Quarantine, ...]
    quarantined_tracts: int
    quarantined_counties: int
    people: int
    people_solved: int
    people_quarantined: int
    people_per_hour: float | None  # while somebody worked, in the past hour; None until two moments with solutions are known
    seconds_left: float | None  # None where nobody is at work; at the least until silent hosts' leases end
    at_work: bool  # whether a host that is heard of holds a tract
    silent: tuple[Holder, ...]  # hosts that count as gone and hold something, anywhere in the experiment
    certainty: CertaintyStatus = CertaintyStatus()


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error for the table of errors. Texts may be as long as they like."""

    reident: str
    host: str
    pid: int
    message: str
    file: str = ""
    line: int = 0
    stack: str = ""
    stusab: str = ""
    county: str = ""
    tract: str = ""


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """An error as the table of errors holds it."""

    id: int
    at: int
    report: ErrorReport


@dataclass(frozen=True, slots=True)
class SysLoad:
    """What a node says of itself once a minute."""

    host: str
    load1: float
    load5: float
    load15: float
    free_memory_mib: int
    total_memory_mib: int
    running: int  # tracts in work


@dataclass(frozen=True, slots=True)
class SysLoadEntry:
    """A node's report and when it was made."""

    at: int
    load: SysLoad
