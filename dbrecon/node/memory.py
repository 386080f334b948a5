"""A node's memory: what a tract will need, whether there is room for it, and who is stopped before the node runs out.

Measured on synthetic tracts of 3,000 to 37,000 people: a worker that has its modules loaded and HiGHS at work takes 130 MiB, and
2 MiB more for each 1,000 people. The prediction takes twice the latter; where a worker's peak shows more, it learns.

The guard watches from a thread of its own: the scheduler's main thread may be waiting for the database.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from dbrecon.ctools.proc import Memory, memory, process_facts
from dbrecon.ctools.progress import counted
from dbrecon.node.pool import NO_ROOM
from dbrecon.settings import Config

log = logging.getLogger(__name__)

WORKER_MIB = 150.0
MIB_PER_PERSON = 0.004
WATCH_SECONDS = 0.5
GONE_SECONDS = 5.0  # how long a killed process may take to give its memory back
AUTOMATIC_SHARE = 0.1
AUTOMATIC_MOST_MIB = 4096.0
SAID_EVERY_SECONDS = 60.0


@dataclass(frozen=True)
class Floors:
    """MiB of free memory: under ``start`` no new work begins; under ``stop`` the youngest worker is stopped."""

    start: float
    stop: float

    @classmethod
    def of(cls, config: Config, total_mib: float) -> Floors:
        """As the settings say; where they leave it open, a tenth of the memory (at most 4 GiB), and half of that."""
        start = config.run.min_free_mib or min(AUTOMATIC_SHARE * total_mib, AUTOMATIC_MOST_MIB)
        return cls(float(start), float(config.run.stop_free_mib or start / 2))


@dataclass(frozen=True)
class Busy:
    """A worker at work: its process, since when (monotonic clock), and the people of the biggest tract of its task."""

    worker: int
    pid: int
    since: float
    pop: int


@dataclass(frozen=True)
class Stopped:
    """A worker that the guard ended: how much it had, of how much, and whether it was the only one at work."""

    rss_mib: float
    free_mib: float
    total_mib: float
    alone: bool
    pop: int

    @property
    def too_big(self) -> bool:
        """Whether its tract is to blame: it ran alone, and had most of the memory."""
        return self.alone and self.rss_mib > self.total_mib / 2

    def text(self) -> str:
        """Return what happened, for people."""
        beside = "alone" if self.alone else "beside others"
        return f"its worker was stopped at {self.rss_mib:,.0f} MiB, {beside}, when {self.free_mib:,.0f} MiB were free on this node"


class MemoryGuard:
    """Watches the node's memory while its ``with`` block lasts.

    ``busy`` gives the workers at work and is called from the guard's thread; ``read`` gives the memory as it is.
    """

    def __init__(self, floors: Floors, busy: Callable[[], list[Busy]], read: Callable[[], Memory] = memory) -> None:
        self.floors = floors
        self._busy, self._read = busy, read
        self._stopped: dict[int, Stopped] = {}
        self._factor = 1.0
        self._biggest: dict[int, int] = {}
        self._alone_from: int | None = None
        self._said = float("-inf")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> MemoryGuard:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    # -- before a tract is started ------------------------------------------------------------------------------------

    def need_mib(self, pop: int) -> float:
        """Return the predicted peak of a worker with a tract of so many people."""
        return self._factor * (WORKER_MIB + MIB_PER_PERSON * pop)

    def learn(self, worker: int, pop: int, peak_mib: float | None) -> None:
        """Learn that a worker has done such a tract, and had this peak in its life so far: predictions will not be less again."""
        pop = self._biggest[worker] = max(pop, self._biggest.get(worker, 0))
        if peak_mib is not None and peak_mib > self.need_mib(pop):
            self._factor *= peak_mib / self.need_mib(pop)
            people = counted(pop, "person")
            log.info("a tract of %s needed %.0f MiB: more is reckoned with from now on", people, peak_mib)

    def room(self) -> int | None:
        """Return the people of the biggest tract that may be started now; NO_ROOM is none at all, None is no limit."""
        busy, now = self._busy(), self._read()
        if now.free_mib < self.floors.start:
            self._say("%.0f MiB of memory are free, less than min_free_mib (%.0f): waiting", now.free_mib, self.floors.start)
            return NO_ROOM
        if not busy:
            return None
        if self._alone_from is not None and any(worker.pop >= self._alone_from for worker in busy):
            return NO_ROOM
        return self._biggest_beside(busy, now)

    @property
    def one_at_a_time(self) -> bool:
        """Whether what is started now, with no other at work, may be something that must run alone."""
        return self._alone_from is not None and not self._busy()

    def _biggest_beside(self, busy: list[Busy], now: Memory) -> int | None:
        spare = now.free_mib - self.floors.start
        for worker in busy:  # what they have not taken yet is promised to them
            facts = process_facts(worker.pid)
            spare -= max(0.0, self.need_mib(worker.pop) - (facts.rss_mib if facts else 0.0))
        most = int((spare / self._factor - WORKER_MIB) / MIB_PER_PERSON)
        if most < 0:
            return NO_ROOM
        return most if self._alone_from is None else min(most, self._alone_from - 1)

    # -- while tracts are at work -----------------------------------------------------------------------------------

    def was_stopped(self, worker: int) -> Stopped | None:
        """Return how the guard ended a worker; None if it did not."""
        return self._stopped.pop(worker, None)

    def _watch(self) -> None:
        while not self._end.wait(WATCH_SECONDS):
            now = self._read()
            busy = self._busy() if now.free_mib < self.floors.stop else []
            if busy:
                self._stop_youngest(busy, now)

    def _stop_youngest(self, busy: list[Busy], now: Memory) -> None:
        youngest = max(busy, key=lambda worker: worker.since)
        facts = process_facts(youngest.pid)
        if facts is None or facts.gone:
            return
        stopped = Stopped(facts.rss_mib, now.free_mib, now.total_mib, len(busy) == 1, youngest.pop)
        self._stopped[youngest.worker] = stopped
        if not stopped.alone:
            self._alone_from = youngest.pop if self._alone_from is None else min(self._alone_from, youngest.pop)
        try:
            os.kill(youngest.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        log.warning("worker %d: %s", youngest.pid, stopped.text())
        deadline = time.monotonic() + GONE_SECONDS
        while (facts := process_facts(youngest.pid)) is not None and not facts.gone and time.monotonic() < deadline:
            time.sleep(0.02)

    def _say(self, text: str, *values: float) -> None:
        if time.monotonic() - self._said >= SAID_EVERY_SECONDS:
            self._said = time.monotonic()
            log.warning(text, *values)
