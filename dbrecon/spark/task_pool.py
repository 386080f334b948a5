"""Spark in the place of a pool of worker processes: tasks go to executors as Spark jobs, and their answers come back.

Spark may run a task twice (retries, speculation): an answer that was heard before says nothing. A Spark job that fails tells which
task was at fault, not which of its claims; those are then run one by one, with nothing else at work.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from dbrecon.ctools.progress import counted
from dbrecon.node.pool import NO_ROOM, Broken, Event, Finished, Message
from dbrecon.node.tasks import ClaimedTask, Failed, Failure
from dbrecon.spark.accounts import cause, executors_trouble, failed_task, never_tried
from dbrecon.spark.engine import Answered, Engine
from dbrecon.spark.setup import SparkError

log = logging.getLogger(__name__)

MOST_CLAIMS = 20_000


@dataclass
class _Part:
    """What of a submitted task is one task of Spark: ``task`` as executors get it; its claims are those of ``indices``."""

    number: int
    task: Any
    indices: tuple[int, ...]
    load: float


@dataclass
class _Job:
    """The parts of a job that are not answered, by their index; ``alone``: whether it is one claim with nothing else at work."""

    parts: dict[int, _Part]
    alone: bool = False


class SparkPool:
    """What :class:`dbrecon.node.pool.Pool` says, each task one of Spark's. Tasks given between two ``wait()``s become one job.

    ``name`` names a job for Spark's pages by its tasks; ``work`` names what does them; ``ship`` makes of a task what executors get
    (events carry it as it was given). ``load`` is a task's size, of which each of Spark's slots gets ``capacity`` at once: a
    wave. The next is given when half of it is done, so that jobs stay few.
    """

    begins_at_once = False
    one_at_a_time = False

    def __init__(
        self,
        engine: Engine,
        name: Callable[[Sequence[Any]], str],
        work: str,
        ship: Callable[[Any], Any],
        load: Callable[[Any], float],
        capacity: float,
    ) -> None:
        self._engine, self._name, self._work, self._ship, self._load = engine, name, work, ship, load
        self._slot_capacity = capacity
        self._tasks: dict[int, Any] = {}
        self._open: dict[int, int] = {}
        self._given: list[_Part] = []
        self._suspects: deque[_Part] = deque()
        self._suspected: set[str] = set()
        self._jobs: dict[int, _Job] = {}
        self._next = self._claims = 0
        self._filling = False
        self._at_work = self._capacity = 0.0
        self._begun: set[tuple[int, int]] | None = None
        self.size = 0
        self.wave = 0.0
        """How much is given in the wave that is being filled."""
        self.jobs_ended = 0

    def __enter__(self) -> SparkPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop what is at work."""
        self._engine.cancel()

    def text(self) -> str:
        """Say that it is Spark."""
        return "on Spark"

    @property
    def idle(self) -> bool:
        """Whether nothing is given to Spark."""
        return not self._jobs and not self._given

    @property
    def free(self) -> int:
        """How many tasks may surely be given now."""
        return 0 if self.room() == NO_ROOM else 1

    def room(self) -> int | None:
        """NO_ROOM until half of what was given is done; then no limit until the next wave is full."""
        if not self._filling:
            self.size = self._engine.slots
            self._capacity = self._slot_capacity * self.size
            if self._jobs and self._at_work > self._capacity / 2:
                return NO_ROOM
            self._filling, self.wave = True, self._capacity - self._at_work
        return None if self._at_work < self._capacity and self._claims < MOST_CLAIMS else NO_ROOM

    def submit(self, task: Any) -> int:
        """Take a task; returns its number. Claims that are suspected of killing executors wait for the end, to be run alone."""
        self._next += 1
        claims = claims_of(task)
        suspected = [index for index, claim in enumerate(claims) if str(claim) in self._suspected]
        good = [index for index in range(len(claims)) if index not in suspected]
        self._tasks[self._next] = task
        self._claims += len(claims)
        self._open[self._next] = len(suspected)
        self._suspects += [self._part(self._next, (index,)) for index in suspected]
        if good or not claims:
            self._open[self._next] += 1
            self._give(self._part(self._next, tuple(good)))
        return self._next

    def wait(self, seconds: float) -> list[Event]:
        """Return what happened, within ``seconds`` at the most."""
        self._filling = False
        if self._begun is None:
            self._start_given()
        events: list[Event] = []
        for event in self._engine.wait(seconds):
            if isinstance(event, Answered):
                events += self._answered(event)
            elif (job := self._jobs.pop(event.job, None)) is not None:
                self.jobs_ended += 1
                self._at_work -= 0.0 if job.alone else sum(part.load for part in job.parts.values())
                events += self._given_up(job, event.failure) if event.failure is not None else self._given_again(job)
        return events

    def _start_given(self) -> None:
        """Start a job of what was given, or, when nothing else is at work, one suspect."""
        given, self._given = self._given, []
        if given:
            self._start(sorted(given, key=lambda part: -part.load))
        elif not self._jobs and self._suspects:
            self._start([self._suspects.popleft()], alone=True)

    def abandon(self, worker: int) -> bool:
        """Spark does not stop one task of a job."""
        return False

    def pid(self, worker: int) -> int | None:
        """None: the work is done elsewhere."""
        return None

    def begun(self) -> set[int]:
        """Return the tasks that executors had begun when this was first asked, as far as they are still at work.

        Executors begin a job's tasks in their order. None where there are no executors any more.
        """
        counts = self._engine.at_work()
        if self._begun is None:
            ordered = {number: sorted(job.parts) for number, job in self._jobs.items()}
            self._begun = {(number, index) for number, left in ordered.items() for index in left[: counts.get(number, 0)]}
        if not counts:
            return set()
        return {part.number for number, job in self._jobs.items() for at, part in job.parts.items() if (number, at) in self._begun}

    # -- jobs -------------------------------------------------------------------------------------------------------

    def _part(self, number: int, indices: tuple[int, ...]) -> _Part:
        task = self._tasks[number]
        if len(indices) < len(claims_of(task)):
            task = replace(task, claims=tuple(task.claims[index] for index in indices))
        return _Part(number, self._ship(task), indices, self._load(task))

    def _give(self, part: _Part) -> None:
        self._given.append(part)
        self._at_work += part.load

    def _start(self, parts: list[_Part], alone: bool = False) -> None:
        tasks = [part.task for part in parts]
        self._jobs[self._engine.submit(self._name(tasks), self._work, tasks)] = _Job(dict(enumerate(parts)), alone)

    def _answered(self, event: Answered) -> list[Event]:
        job = self._jobs.get(event.job)
        part = job.parts.pop(event.index, None) if job is not None else None
        if job is None or part is None:
            return []  # Spark has run it twice
        self._at_work -= 0.0 if job.alone else part.load
        bodies = [_of_whole(said, part.indices) for said in event.answer.said]
        return self._ended(part, bodies, event.answer.host, event.answer.pid)

    def _ended(self, part: _Part, bodies: Sequence[Any], host: str = "", pid: int = 0) -> list[Event]:
        """Return what was said of a part, and that its task is finished if this was the last."""
        task = self._tasks[part.number]
        events: list[Event] = [Message(part.number, task, body, host, pid) for body in bodies]
        self._open[part.number] -= 1
        if not self._open[part.number]:
            del self._open[part.number], self._tasks[part.number]
            self._claims -= len(claims_of(task))
            events.append(Finished(part.number, task))
        return events

    def _given_again(self, job: _Job) -> list[Event]:
        """Return what a job has not answered is done again."""
        for part in job.parts.values():
            self._give(part)
        return []

    def _given_up(self, job: _Job, account: str) -> list[Event]:
        """Find out what is to blame for a job's failure: the set-up, a task, or Spark itself. The rest of the job is done again."""
        reason, trouble, index = cause(account), executors_trouble(account), failed_task(account)
        if trouble is not None or index is None or index not in job.parts or (job.alone and never_tried(account)):
            self._given_again(job)
            gave_up = Failure(f"Spark gave up: {reason}", "", 0, account, SparkError.exit_code, "node")
            return [Broken(trouble or gave_up)]
        culprit = job.parts.pop(index)
        self._given_again(job)
        claims = claims_of(culprit.task)
        if job.alone:
            log.warning("Spark gave up a task of %s: %s", claims[0] if claims else culprit.task, reason)
            failure = Failure(f"Spark gave up its task: {reason}", "", 0, account, 1, "tract", final=True)
            return self._ended(culprit, [_of_whole(Failed(0, failure), culprit.indices)])
        if claims:
            number = counted(len(claims), "tract")
            log.warning("Spark gave up a task of %s (%s, ...), which is run tract by tract: %s", number, claims[0], reason)
        self._suspected |= {str(claim) for claim in claims}
        self._open[culprit.number] += max(1, len(culprit.indices)) - 1
        self._suspects += [self._part(culprit.number, (i,)) for i in culprit.indices] or [culprit]
        return []


def _of_whole(said: Any, indices: tuple[int, ...]) -> Any:
    """Return what was said of a part's claim, said of the submitted task's."""
    return said if indices == tuple(range(len(indices))) else replace(said, index=indices[said.index])


def claims_of(task: Any) -> tuple[Any, ...]:
    """Return a task's claims; none of what is no task of the scheduling loop."""
    return task.claims if isinstance(task, ClaimedTask) else ()
