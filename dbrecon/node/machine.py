"""The scheduler of one node: the scheduling loop with worker processes of this machine, as memory allows."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from dbrecon.ctools.proc import Memory, memory, process_line
from dbrecon.ctools.progress import counted, duration
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Claim, SysLoad, Worker
from dbrecon.node.assignment import Assignment, Outcome
from dbrecon.node.control import Commands
from dbrecon.node.loop import Scheduler
from dbrecon.node.memory import Busy, Floors, MemoryGuard
from dbrecon.node.pool import NO_ROOM, Died, Finished, Message, WorkerEvent
from dbrecon.node.processes import WorkerPool
from dbrecon.node.source import Claimer, Experiments
from dbrecon.node.stages import AnyClaim
from dbrecon.node.tasks import Begun, Failed, Solved
from dbrecon.settings import Config

REPORT_SECONDS = 60.0
WORK = "dbrecon.node.worker:serve"
"""What worker processes run. By name: this process needs none of what they import."""
ANCESTOR, ANCESTOR_TABLES = "dbrecon.node.ancestor", "DBRECON_ANCESTOR_TABLES"


@dataclass
class _AtWork:
    """What a worker is at: the people of its tracts that are not done, by index, and since when it is at the current one.

    A county's file is written a tract at a time: it needs no more memory than a small tract.
    """

    pops: dict[int, int]
    since: float = field(default_factory=time.monotonic)


@contextmanager
def _tables_ready(experiment: Experiment) -> Iterator[None]:
    """Have a workers' ancestor that starts in this block get an experiment's tables ready (:mod:`.ancestor`)."""
    os.environ[ANCESTOR_TABLES] = json.dumps([experiment.tables_path, experiment.tables, experiment.ages])
    try:
        yield
    finally:
        os.environ.pop(ANCESTOR_TABLES, None)  # a pool of another thread may have taken it away


class NodePool(WorkerPool):
    """Worker processes for the scheduling loop: as many as the settings say, with tracts for which there is memory."""

    begins_at_once = True

    def __init__(self, work: str, config: Callable[[], Config], makes_lps: bool, read_memory: Callable[[], Memory]) -> None:
        self._config, self._makes_lps, self._read_memory = config, makes_lps, read_memory
        self._at_work: dict[int, _AtWork] = {}
        self._guard = MemoryGuard(Floors.of(config(), read_memory().total_mib), self._memory_users, read_memory)
        super().__init__(work, self._configured_size(), (ANCESTOR,) if work == WORK else ())

    def __enter__(self) -> NodePool:
        self._guard.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close()
        finally:
            self._guard.__exit__(kind, error, at)

    def text(self) -> str:
        """Say how many processes."""
        return counted(self.size, "worker process", "worker processes")

    @property
    def one_at_a_time(self) -> bool:
        """See :class:`dbrecon.node.pool.Pool`."""
        return self._guard.one_at_a_time

    def room(self) -> int | None:
        """See :class:`dbrecon.node.pool.Pool`."""
        self.size = self._configured_size()
        self._guard.floors = Floors.of(self._config(), self._read_memory().total_mib)
        return self._guard.room() if self.free else NO_ROOM

    def submit(self, task: Any) -> int:
        """Give a task to a free worker; returns its number."""
        with _tables_ready(task.experiment):
            worker = super().submit(task)
        self._at_work[worker] = _AtWork({i: claim.pop for i, claim in enumerate(task.claims) if isinstance(claim, Claim)})
        return worker

    def wait(self, seconds: float) -> list[WorkerEvent]:
        """Return what happened, within ``seconds`` at the most."""
        return [self._noted(event) for event in super().wait(seconds)]

    def abandon(self, worker: int) -> bool:
        """End the worker of a task."""
        self._at_work.pop(worker, None)
        self.kill(worker)
        return True

    def begun(self) -> set[int]:
        """Return the workers that have a task."""
        return set(self.tasks())

    def _noted(self, event: WorkerEvent) -> WorkerEvent:
        """Return the event, for which the books on memory are kept; it says whose fault it is that a worker was stopped."""
        if isinstance(event, Finished):
            self._at_work.pop(event.worker, None)
        elif isinstance(event, Message):
            self._note_message(self._at_work[event.worker], event)
        elif isinstance(event, Died):
            self._at_work.pop(event.worker, None)
            stopped = self._guard.was_stopped(event.worker)
            if stopped is not None:
                blame = "" if not stopped.alone else "tract" if stopped.too_big else "node"
                return Died(event.worker, event.task, stopped.text(), "", blame)
        return event

    def _note_message(self, at_work: _AtWork, message: Message) -> None:
        body = message.body
        if isinstance(body, Begun):
            at_work.since = time.monotonic()
        elif isinstance(body, Solved | Failed):
            pop = at_work.pops.pop(body.index, None)
            if isinstance(body, Solved) and pop is not None:
                self._guard.learn(message.worker, pop, body.stats.memory_mib)

    def _configured_size(self) -> int:
        run = self._config().run
        return (run.max_lp if self._makes_lps else run.max_sol) or len(os.sched_getaffinity(0))

    def _memory_users(self) -> list[Busy]:
        """Return the workers at work; from any thread."""
        found = []
        for worker, at_work in self._at_work.copy().items():
            pid = self.pid(worker)
            if pid is not None:
                found.append(Busy(worker, pid, at_work.since, max(at_work.pops.copy().values(), default=0)))
        return found


class Node(Scheduler):
    """The scheduler of this node. ``experiments`` gives those to work on, with the settings as they are now; ``work`` names what
    workers run, as in :class:`WorkerPool`."""

    def __init__(
        self,
        ledger: Ledger,
        config: Callable[[], Config],
        experiments: Experiments,
        work: str,
        assignment: Assignment,
        read_memory: Callable[[], Memory] = memory,
    ) -> None:
        worker = Worker.here()
        self._processes = NodePool(work, config, 3 in assignment.steps, read_memory)
        claimer = Claimer(ledger, config, experiments, assignment, worker, self._processes)
        super().__init__(ledger, config, experiments, assignment, worker, self._processes, claimer)
        self._read_memory = read_memory
        self._reported = float("-inf")

    def _tick(self) -> None:
        super()._tick()
        self._report()

    def _report(self) -> None:
        """Enter what this node says of itself once a minute."""
        if time.monotonic() - self._reported < REPORT_SECONDS:
            return
        self._reported = time.monotonic()
        now = self._read_memory()
        load = SysLoad(self._worker.host, *os.getloadavg(), int(now.free_mib), int(now.total_mib), len(self._in_work()))
        self._ledger.record_sysload(load)

    # -- what others ask (from another thread) -----------------------------------------------------------------------

    def commands(self) -> Commands:
        """Return what a running scheduler can be told: see :data:`dbrecon.node.control.COMMANDS`."""
        return {"stop": self.stop, "halt": self.halt, "list": self._list, "ps": self._ps, "uptime": self._uptime}

    def _list(self) -> str:
        lines = []
        for worker, held in sorted(self._held.copy().items()):
            pid = self._pool.pid(worker) or 0
            for index, claim in sorted(held.claims.copy().items()):
                what = duration(time.monotonic() - held.begun) if index == held.current else "waits"
                lines.append(_claim_line(pid, claim, what))
        return "\n".join(lines) or "nothing is in work"

    def _ps(self) -> str:
        pids = [os.getpid(), *self._processes.pids()]
        return "\n".join(["     pid  state     cpu s  MiB", *filter(None, map(process_line, pids))])

    def _uptime(self) -> str:
        done, up = self._outcome, duration(time.monotonic() - self._started)
        return f"pid {os.getpid()}, up {up}; workers: {self._processes.busy} of {self._processes.size} busy; {_done(done)}" + (
            "; halting" if done.halted else "; stopping" if self._stopping else ""
        )


def _claim_line(pid: int, claim: AnyClaim, what: str) -> str:
    return f"{pid:>8}  {claim.reident} {claim}  {counted(claim.pop, 'person')}  {what}"


def _done(outcome: Outcome) -> str:
    return (
        f"done: {counted(outcome.lps, 'LP file')}, {counted(outcome.solved, 'tract')} ({counted(outcome.people, 'person')}), "
        f"{counted(outcome.counties, 'county')}"
    )
