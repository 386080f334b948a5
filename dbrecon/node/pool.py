"""What the scheduling loop asks of whoever does its tasks: the worker processes of a node, or Spark's executors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from dbrecon.node.tasks import Failure

NO_ROOM = -1


@dataclass(frozen=True)
class Message:
    """Something that was said of a task. ``worker`` is what ``submit`` returned; ``host`` and ``pid`` are whose process said it."""

    worker: int
    task: Any
    body: Any
    host: str = field(default="", compare=False)
    pid: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Finished:
    """A worker is through with its task and free."""

    worker: int
    task: Any


@dataclass(frozen=True)
class Died:
    """A worker ended in the middle of its task. ``reason`` says of what; ``stack`` is its traceback if it was an exception.

    ``blame`` as in :class:`dbrecon.node.tasks.Failure`; "" is nobody's: what it was at may be done again, uncounted.
    """

    worker: int
    task: Any
    reason: str
    stack: str
    blame: str = "tract"


@dataclass(frozen=True)
class Broken:
    """The pool itself cannot go on, and no task is to blame. What it had is not done."""

    failure: Failure


WorkerEvent = Message | Finished | Died
Event = WorkerEvent | Broken


class Pool(Protocol):
    """Does tasks, for the length of a ``with`` block, at whose end it stops what is at work."""

    begins_at_once: bool
    """Whether a task is at work from the moment that it is submitted."""
    size: int
    """How many tasks are done at once."""

    @property
    def one_at_a_time(self) -> bool:
        """Whether what is submitted next, with nothing else at work, may be something that must run alone."""

    def text(self) -> str:
        """Return what it is, for people: "4 worker processes"."""

    def room(self) -> int | None:
        """Return the people of the biggest tract that may be submitted now; NO_ROOM is none at all, None is no limit."""

    def submit(self, task: Any) -> int:
        """Take a task; returns the number by which its events tell of it."""

    def wait(self, seconds: float) -> Sequence[Event]:
        """Return what happened, within ``seconds`` at the most."""

    def abandon(self, worker: int) -> bool:
        """Stop a task, if that can be done. Then nothing more is heard of it."""

    def begun(self) -> set[int]:
        """Return which tasks were at work when this was first asked, and still are."""

    def pid(self, worker: int) -> int | None:
        """Return the process on this node that does a task; None if there is none."""

    def __enter__(self) -> Pool: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None: ...
