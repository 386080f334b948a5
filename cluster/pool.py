"""Worker processes of one node, which outlive neither their parent nor a bad task of their own.

A worker gets tasks by a pipe and sends messages back while it works. The parent alone decides: workers ignore Ctrl-C, and end when
their parent does. A worker that dies in a task is reported with what it died of, and replaced.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

Serve = Callable[[Any, Callable[[Any], None]], None]
"""What a worker runs: ``serve(task, send)``; everything it sends reaches the parent as a :class:`Message`."""

CLOSE_SECONDS = 10.0


@dataclass(frozen=True)
class Message:
    """Something that a worker sent about its task."""

    worker: int
    task: Any
    body: Any


@dataclass(frozen=True)
class Finished:
    """A worker is through with its task and free."""

    worker: int
    task: Any


@dataclass(frozen=True)
class Died:
    """A worker ended in the middle of its task. ``reason`` says of what; ``stack`` is its traceback if it was an exception."""

    worker: int
    task: Any
    reason: str
    stack: str


Event = Message | Finished | Died


@dataclass(frozen=True)
class _Done:
    pass


@dataclass(frozen=True)
class _Crash:
    reason: str
    stack: str


@dataclass
class _Slot:
    process: BaseProcess
    connection: Connection
    task: Any = None
    busy: bool = False
    crash: _Crash | None = None


class WorkerPool:
    """At most ``size`` worker processes, started when there is a task for them.

    ``work`` names the :data:`Serve` function as ``module:function``; the workers' common ancestor imports the module once.
    ``size`` may be changed at any time; workers above it are let go when they are free.
    """

    def __init__(self, work: str, size: int) -> None:
        self.size = size
        self._work = work
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([work.partition(":")[0]])
        self._slots: dict[int, _Slot] = {}
        self._next = 0

    @property
    def busy(self) -> int:
        """How many workers have a task."""
        return sum(slot.busy for slot in self._slots.values())

    @property
    def free(self) -> int:
        """How many tasks could be submitted now."""
        return max(0, self.size - self.busy)

    def tasks(self) -> dict[int, Any]:
        """The task of each busy worker."""
        return {number: slot.task for number, slot in self._slots.items() if slot.busy}

    def pid(self, worker: int) -> int | None:
        """The process id of a worker."""
        return self._slots[worker].process.pid

    def submit(self, task: Any) -> int:
        """Give a task to a free worker; returns its number. There must be one free (:attr:`free`)."""
        if not self.free:
            raise ValueError("no worker is free")
        number = next((n for n, slot in self._slots.items() if not slot.busy), None)
        if number is None:
            number = self._start()
        slot = self._slots[number]
        slot.task, slot.busy = task, True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died while it was idle: wait() reports that
            slot.connection.send(task)
        return number

    def wait(self, seconds: float) -> list[Event]:
        """What happened, within ``seconds`` at the most."""
        sources: dict[Any, int] = {}
        for number, slot in self._slots.items():
            sources[slot.connection] = number
            sources[slot.process.sentinel] = number
        events: list[Event] = []
        for number in sorted({sources[source] for source in wait(list(sources), seconds)}):
            events += self._collect(number)
        return events

    def kill(self, worker: int) -> None:
        """End a worker at once. Nothing more is heard of its task."""
        slot = self._slots.pop(worker)
        slot.process.kill()
        slot.process.join()
        slot.connection.close()

    def close(self) -> None:
        """Let all workers go; those that are busy, or do not leave in time, are killed."""
        for number in [n for n, slot in self._slots.items() if slot.busy]:
            self.kill(number)
        for slot in self._slots.values():
            slot.connection.close()  # an idle worker leaves when its pipe ends
        for number in list(self._slots):
            slot = self._slots.pop(number)
            slot.process.join(CLOSE_SECONDS)
            if slot.process.exitcode is None:
                slot.process.kill()
                slot.process.join()

    def _start(self) -> int:
        parent, child = self._context.Pipe()
        process = self._context.Process(target=_main, args=(child, self._work), daemon=True)
        # Ctrl-C reaches the whole terminal group. Blocked here, it stays blocked in the workers' common ancestor and in them, also
        # before they could ignore it. The tracker comes first: starting it would unblock the signal again.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        child.close()
        number, self._next = self._next, self._next + 1
        self._slots[number] = _Slot(process, parent)
        return number

    def _collect(self, number: int) -> list[Event]:
        """All that a worker has sent, and its end."""
        slot = self._slots[number]
        events: list[Event] = []
        ended = False
        try:
            while slot.connection.poll():
                body = slot.connection.recv()
                if isinstance(body, _Done):
                    events.append(Finished(number, slot.task))
                    slot.task, slot.busy = None, False
                elif isinstance(body, _Crash):
                    slot.crash = body
                else:
                    events.append(Message(number, slot.task, body))
        except (EOFError, ConnectionResetError):
            ended = True
        if ended or slot.process.exitcode is not None:
            events += self._bury(number)
        elif not slot.busy and len(self._slots) > self.size:
            self.kill(number)
        return events

    def _bury(self, number: int) -> list[Event]:
        slot = self._slots.pop(number)
        slot.process.join(CLOSE_SECONDS)
        if slot.process.exitcode is None:  # it closed its pipe and lives on
            slot.process.kill()
            slot.process.join()
        slot.connection.close()
        if not slot.busy:
            return []
        crash = slot.crash or _Crash(_cause_of_death(slot.process.exitcode), "")
        return [Died(number, slot.task, crash.reason, crash.stack)]


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name if -exitcode in list(signal.Signals) else f"signal {-exitcode}"
        hint = " (the system kills so when memory runs out)" if -exitcode == signal.SIGKILL else ""
        return f"its worker process was ended by {name}{hint}"
    return f"its worker process left with code {exitcode}"


def _main(connection: Connection, work: str) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    module, _, function = work.partition(":")
    serve: Serve = getattr(importlib.import_module(module), function)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            serve(task, connection.send)
        except BrokenPipeError:
            return  # the parent is gone
        except BaseException as error:
            connection.send(_Crash(f"{type(error).__name__}: {error}", traceback.format_exc()))
            raise
        connection.send(_Done())


def _leave_with_parent() -> None:
    """End this process when its parent has ended, even in the middle of a solve."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
