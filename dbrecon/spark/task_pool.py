"""Spark in the place of a pool of worker processes, for work whose loop is written for one (``--rescan``)."""

from collections.abc import Callable
from typing import Any

from dbrecon.node.processes import Died, Event, Finished, Message
from dbrecon.node.tasks import Failed
from dbrecon.spark.accounts import cause, executors_trouble, failed_task
from dbrecon.spark.engine import Answered, Engine
from dbrecon.spark.setup import SparkError

TASKS_PER_SLOT = 8


class SparkPool:
    """What :class:`dbrecon.node.processes.WorkerPool` does for tasks that send messages and end, each a task of Spark.

    Tasks given between two ``wait()``s become one job, named ``name``. ``ship`` makes of a task what executors get; messages carry
    the task as it was given.
    """

    def __init__(self, engine: Engine, name: str, work: str, ship: Callable[[Any], Any]) -> None:
        self._engine, self._name, self._work, self._ship = engine, name, work, ship
        self._given: list[tuple[int, Any]] = []
        self._jobs: dict[int, dict[int, tuple[int, Any]]] = {}
        self._next = 0

    @property
    def free(self) -> int:
        """How many tasks may be given now: none until half of them are done, so that jobs stay few."""
        busy, most = len(self._given) + sum(map(len, self._jobs.values())), TASKS_PER_SLOT * self._engine.slots
        return 0 if self._jobs and busy > most // 2 else max(0, most - busy)

    def submit(self, task: Any) -> int:
        """Give a task; returns its number."""
        self._next += 1
        self._given.append((self._next, task))
        return self._next

    def wait(self, seconds: float) -> list[Event]:
        """What happened, within ``seconds`` at the most. Raises SparkError if Spark gave up and no task is to blame."""
        if self._given:
            tasks = [self._ship(task) for _, task in self._given]
            job = self._engine.submit(f"{self._name}: {len(tasks):,} tasks", self._work, tasks)
            self._jobs[job], self._given = dict(enumerate(self._given)), []
        events: list[Event] = []
        for event in self._engine.wait(seconds):
            if isinstance(event, Answered):
                events += self._answered(event)
            elif (left := self._jobs.pop(event.job, None)) is not None and event.failure is not None:
                events.append(_died(left, event.failure))
        return events

    def close(self) -> None:
        """Stop what is at work."""
        self._engine.cancel()

    def _answered(self, event: Answered) -> list[Event]:
        number, task = self._jobs.get(event.job, {}).pop(event.index, (0, None))
        if not number:
            return []  # Spark has run it twice
        failed = [one.failure for one in event.answer.said if isinstance(one, Failed)]
        if failed:  # its process died, for nothing else fails here
            return [Died(number, task, failed[0].message, failed[0].stack)]
        return [*(Message(number, task, one) for one in event.answer.said), Finished(number, task)]


def _died(tasks: dict[int, tuple[int, Any]], account: str) -> Died:
    """The task that Spark gave up."""
    trouble, index = executors_trouble(account), failed_task(account)
    if trouble is not None or index is None or index not in tasks:
        raise SparkError(f"Spark gave up: {trouble.message if trouble else cause(account)}; run it again")
    return Died(*tasks[index], f"Spark gave up its task: {cause(account)}", account)
