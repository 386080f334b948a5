"""Worker processes of one node, which outlive neither their parent nor a bad task of their own.

A worker gets tasks by a pipe and sends messages back while it works. The parent alone decides: workers ignore Ctrl-C, and end when
their parent does. A worker that dies in a task is reported with what it died of, and replaced.
"""

import contextlib
import gc
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from typing import Any

from dbrecon.ctools import staging
from dbrecon.ctools.proc import process_facts
from dbrecon.ctools.process_pool import end_with_parent, shielded
from dbrecon.ctools.signals import delivered_again, when_safe
from dbrecon.errors import DBReconError, UsageError
from dbrecon.node.pool import Died, Finished, Message, WorkerEvent

Serve = Callable[[Any, Callable[[Any], None]], None]
"""What a worker runs: ``serve(task, send)``; everything it sends reaches the parent as a :class:`dbrecon.node.pool.Message`."""

CLOSE_SECONDS = 10.0
TIDY_SECONDS = 0.5
"""How long a worker that is ended in its task may take to clear away the file that it was writing."""
START_ATTEMPTS = 5
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

SOCKET_PATH_BYTES = 107  # Linux, unix(7)


@dataclass(frozen=True)
class _Done:
    pass


@dataclass(frozen=True)
class _Crash:
    reason: str
    stack: str


class _Terminated(BaseException):
    """SIGTERM came."""


@dataclass
class _Slot:
    process: BaseProcess
    connection: Connection
    task: Any = None
    busy: bool = False
    crash: _Crash | None = None
    started: int | None = None

    def end_orphan(self) -> None:
        """End the process if it is still there: when the workers' common ancestor dies, they all count as ended, and live on."""
        pid = self.process.pid
        facts = process_facts(pid) if pid else None
        if pid and facts is not None and facts.started == self.started and not facts.gone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class WorkerPool:
    """At most ``size`` worker processes, started when there is a task for them.

    ``work`` names the :data:`Serve` function as ``module:function``; the workers' common ancestor imports the module once.
    ``size`` may be changed at any time; workers above it are let go when they are free. ``preload`` names more modules that the
    ancestor imports.
    """

    def __init__(self, work: str, size: int, preload: Sequence[str] = ()) -> None:
        _check_temporary_folder(tempfile.gettempdir())
        self.size = size
        self._work = work
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([work.partition(":")[0], *preload])
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
        """Return the task of each busy worker."""
        return {number: slot.task for number, slot in self._slots.items() if slot.busy}

    def pid(self, worker: int) -> int | None:
        """Return the process id of a worker; None if it has gone."""
        slot = self._slots.get(worker)
        return None if slot is None else slot.process.pid

    def pids(self) -> list[int]:
        """Return the process ids of all workers, idle ones included."""
        return [slot.process.pid for slot in list(self._slots.values()) if slot.process.pid is not None]

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

    def wait(self, seconds: float) -> list[WorkerEvent]:
        """Return what happened, within ``seconds`` at the most."""
        sources: dict[Any, int] = {}
        for number, slot in self._slots.items():
            sources[slot.connection] = number
            sources[slot.process.sentinel] = number
        events: list[WorkerEvent] = []
        for number in sorted({sources[source] for source in wait(list(sources), seconds)}):
            events += self._collect(number)
        return events

    def kill(self, worker: int) -> None:
        """End a worker; it may clear away what it was writing. Nothing more is heard of its task."""
        self._end([self._slots.pop(worker)])

    def _end(self, slots: list[_Slot]) -> None:
        for slot in slots:
            slot.process.terminate()
        deadline = time.monotonic() + TIDY_SECONDS
        for slot in slots:
            slot.process.join(max(0.0, deadline - time.monotonic()))
            slot.process.kill()
            slot.process.join()
            slot.end_orphan()
            slot.connection.close()

    def close(self) -> None:
        """Let all workers go; those that are busy, or do not leave in time, are killed."""
        self._end([self._slots.pop(number) for number in [n for n, slot in self._slots.items() if slot.busy]])
        for slot in self._slots.values():
            slot.connection.close()  # an idle worker leaves when its pipe ends
        for number in list(self._slots):
            slot = self._slots.pop(number)
            slot.process.join(CLOSE_SECONDS)
            if slot.process.exitcode is None:
                slot.process.kill()
                slot.process.join()
            slot.end_orphan()

    def _start(self) -> int:
        """Start a worker. Raises DBReconError if the workers' common ancestor, which makes them, dies again and again."""
        parent, child = self._context.Pipe()
        for attempt in range(START_ATTEMPTS):
            process = self._context.Process(target=_main, args=(child, self._work), daemon=True)
            try:
                self._start_process(process)
                break
            except (EOFError, ConnectionError) as error:  # it was killed just then; the next attempt starts it anew
                lost = error
                time.sleep(0.1 * (attempt + 1))
        else:
            raise DBReconError(
                "no worker process can be started, since the one that makes them dies: see whether memory runs out"
            ) from lost
        child.close()
        number, self._next = self._next, self._next + 1
        facts = process_facts(process.pid or 0)
        self._slots[number] = _Slot(process, parent, started=facts.started if facts else None)
        return number

    def _start_process(self, process: ForkServerProcess) -> None:
        # In the workers' common ancestor too, and before they could ignore them.
        with shielded(), _clean_start():
            process.start()

    def _collect(self, number: int) -> list[WorkerEvent]:
        """Return all that a worker has sent, and its end."""
        slot = self._slots[number]
        events: list[WorkerEvent] = []
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
                    events.append(Message(number, slot.task, body, pid=slot.process.pid or 0))
        except (EOFError, ConnectionResetError):
            ended = True
        if ended or slot.process.exitcode is not None:
            events += self._remove_ended(number)
        elif not slot.busy and len(self._slots) > self.size:
            self.kill(number)
        return events

    def _remove_ended(self, number: int) -> list[WorkerEvent]:
        """Take a worker whose process ends out of the pool; what it died of if it had a task."""
        slot = self._slots.pop(number)
        slot.process.join(CLOSE_SECONDS)
        if slot.process.exitcode is None:  # it closed its pipe and lives on
            slot.process.kill()
            slot.process.join()
        slot.end_orphan()
        slot.connection.close()
        if not slot.busy:
            return []
        crash = slot.crash or _Crash(cause_of_death(slot.process.exitcode), "")
        return [Died(number, slot.task, crash.reason, crash.stack)]


@contextlib.contextmanager
def _clean_start() -> Iterator[None]:
    """Hides the program's main module, which multiprocessing would have every worker import, with all that it imports; and
    shows the workers' common ancestor the way to our modules, which it knows only where it is started in their folder."""
    main, path = sys.modules["__main__"], os.environ.get("PYTHONPATH")
    sys.modules["__main__"] = types.ModuleType("__main__")
    os.environ["PYTHONPATH"] = os.pathsep.join([_HOME, path] if path else [_HOME])
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path


def _check_temporary_folder(folder: str) -> None:
    """UsageError where a name in ``folder`` would be too long for a socket: the one by which workers are started lies there."""
    longest = SOCKET_PATH_BYTES - len("/pymp-xxxxxxxx/listener-xxxxxxxx")
    if len(os.fsencode(folder)) > longest:
        raise UsageError(f"the folder for temporary files, {folder}, has a longer name than {longest} bytes: set TMPDIR to another")


def cause_of_death(exitcode: int | None) -> str:
    """Return what a process died of, for people."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name if -exitcode in list(signal.Signals) else f"signal {-exitcode}"
        hint = " (the system kills so when memory runs out)" if -exitcode == signal.SIGKILL else ""
        return f"its worker process was ended by {name}{hint}"
    return f"its worker process ended with code {exitcode}"


def _main(connection: Connection, work: str) -> None:
    """Live a worker's life."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):  # what a terminal sends reaches its whole group; the parent decides
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()  # what the common ancestor made stays shared with it: the collector shall not write to it
    end_with_parent()
    module, _, function = work.partition(":")
    serve: Serve = getattr(importlib.import_module(module), function)
    try:
        with delivered_again({_Terminated: signal.SIGTERM}):
            signal.signal(signal.SIGTERM, when_safe(_leave_tidily))
            _serve_all(connection, serve)
    except _Terminated:
        staging.discard_last()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _leave_tidily(_number: int, _frame: types.FrameType | None) -> None:
    """Clear what is being written away on the way out; what the solver's library does is not interrupted."""
    raise _Terminated


def _serve_all(connection: Connection, serve: Serve) -> None:
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            serve(task, connection.send)
        except BrokenPipeError:
            return  # the parent is gone
        except _Terminated:
            raise
        except BaseException as error:
            connection.send(_Crash(f"{type(error).__name__}: {error}", traceback.format_exc()))
            raise
        connection.send(_Done())
