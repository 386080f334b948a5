"""What Spark's executors do: the scheduler's worker functions, each task in a process apart from Spark's own Python worker.

A tract that takes its process down (a crash in a solver's library, memory) must count against that tract, as it does on a node
of workflow 1; Spark alone would see that a task of a hundred tracts failed. Nothing here needs Spark's packages or a database.
"""

import contextlib
import importlib
import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import IO, Any

from dbrecon.ctools.host import host_name
from dbrecon.errors import DBReconError, RemoteError
from dbrecon.node.processes import cause_of_death
from dbrecon.node.tasks import Begun, Failed, Failure, LpMade, Solved, StorageAway, TractTask

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
LONGEST_REST = 30.0


@dataclass(frozen=True)
class Answer:
    """What came of a task: where it ran, and what its process said of each claim (or state), in order."""

    host: str
    pid: int
    said: tuple[Any, ...]


class Trouble(DBReconError):
    """The executor's or the set-up's own trouble, no tract's: it fails the Spark task, so that Spark tries it elsewhere.

    Its text can be found again in Spark's account of the failure: see :meth:`found_in`.
    """

    @classmethod
    def of(cls, place: str, failure: Failure) -> "Trouble":
        """Return the trouble that kept a task from being done at ``place``."""
        message = f"{place}: {failure.message}" if place else failure.message
        return cls(json.dumps({"message": message, "exit_code": failure.exit_code, "host": host_name()}))

    @classmethod
    def found_in(cls, text: str) -> Failure | None:
        """Return the failure that a trouble's text in Spark's account tells of; None if there is none."""
        found = re.search(r"\bTrouble: (\{.*\})", text)
        if found is None:
            return None
        fields = json.loads(found[1])
        return Failure(f"{fields['message']} (on {fields['host']})", "", 0, text, int(fields["exit_code"]), "node")


def do(work: str, task: Any, attempt: int = 0) -> Answer:
    """Do a task with ``work`` ("module:function", called with the task and a function that takes its messages).

    ``attempt`` counts Spark's from 0. A tract whose process dies is a failed tract in the answer, and those after it are done
    in a new process. Raises Trouble where the executor or the set-up is to blame, after a rest, so that a broken executor
    does not eat up all attempts at once.
    """
    said: list[Any] = []
    child, offset, rest = _child(work), 0, task
    while rest is not None:
        listener = _Listener(said, offset, rest, attempt)
        try:
            death = child.run(rest, listener.hear)
        except BaseException:
            child.close()
            raise
        if death is None:
            break
        said.append(Failed(offset + listener.at, Failure(death.reason, "", 0, death.stack, 1, "tract")))
        rest, offset = _after(rest, listener.at), offset + listener.at + 1
    return Answer(host_name(), os.getpid(), tuple(said))


@lru_cache(maxsize=1)
def _child(work: str) -> "Child":
    return Child(work)


def _after(task: Any, index: int) -> Any:
    """Return what is left of a task when its ``index``-th claim has ended it; None if nothing is."""
    if not isinstance(task, TractTask) or index + 1 >= len(task.claims):
        return None
    return replace(task, claims=task.claims[index + 1 :])


@dataclass
class _Listener:
    """Takes what the process says of a task, whose claims are the answer's from ``offset`` on."""

    said: list[Any]
    offset: int
    task: Any
    attempt: int
    at: int = 0

    def hear(self, message: Any) -> None:
        if isinstance(message, Begun):
            self.at = message.index
        elif isinstance(message, Failed) and message.failure.blame != "tract":
            time.sleep(min(2.0**self.attempt, LONGEST_REST))
            raise Trouble.of(self._place(message.index), message.failure)
        elif isinstance(message, StorageAway):
            log.warning("%s", message.text)
        elif isinstance(message, LpMade | Solved | Failed):
            self.said.append(replace(message, index=message.index + self.offset))
        else:
            self.said.append(message)

    def _place(self, index: int) -> str:
        claims = self.task.claims if isinstance(self.task, TractTask) else [getattr(self.task, "claim", "")]
        return str(claims[index])


@dataclass(frozen=True)
class Death:
    """What ended the process in the middle of a task. ``stack`` is the traceback if it was an exception."""

    reason: str
    stack: str


@dataclass(frozen=True)
class _Ready:
    pass


@dataclass(frozen=True)
class _Done:
    pass


class Child:
    """A process that runs ``work`` for one task after the other; started with the first task, and again after it died."""

    def __init__(self, work: str) -> None:
        self._work = work
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, task: Any, hear: Callable[[Any], None]) -> Death | None:
        """Do a task; ``hear`` gets what the work sends. None if it came to its end. Raises Trouble if the process cannot work."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _write(process.stdin, task)
        except BrokenPipeError:  # it was killed while it had nothing to do
            self._reap()
            return self.run(task, hear)
        while not isinstance(message := _read(process.stdout), _Done):
            if message is None:
                return Death(cause_of_death(self._reap()), "")
            if isinstance(message, Death):
                self._reap()
                return message
            hear(message)
        return None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        # The code may have been shipped: what this process finds, the child finds too.
        env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", "dbrecon.spark.executor", self._work]
        self._process = process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True
        )
        assert process.stdout is not None
        first = _read(process.stdout)
        if not isinstance(first, _Ready):
            reason = first.reason if isinstance(first, Death) else cause_of_death(self._reap())
            remedy = "give executors a Python with the packages ([spark] python, [spark] environment)"
            message = f"{sys.executable} cannot run the work ({reason}): {remedy}"
            raise Trouble.of("", Failure(message, "", 0, "", RemoteError.exit_code, "setup"))
        return process

    def _reap(self) -> int | None:
        """Reap the process, whose end has begun; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # the dead did not read all that was sent
            process.stdin.close()
        try:
            return process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _write(stream: IO[bytes], message: Any) -> None:
    pickle.dump(message, stream)
    stream.flush()


def _read(stream: IO[bytes]) -> Any:
    """Return the next message; None if the other side ended, also in the middle of one."""
    try:
        return pickle.load(stream)
    except (EOFError, pickle.UnpicklingError):
        return None


def main() -> None:
    """Live the process's life. What a library prints is talk."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    module, _, function = sys.argv[1].partition(":")
    try:
        serve = getattr(importlib.import_module(module), function)
    except ImportError as error:
        _write(answers, Death(f"{type(error).__name__}: {error}", traceback.format_exc()))
        return
    _write(answers, _Ready())
    inbox = _Inbox(sys.stdin.buffer)
    while True:
        task = inbox.next()
        try:
            serve(task, lambda message: _write(answers, message))
        except BrokenPipeError:
            return  # the parent is gone
        except BaseException as error:
            _write(answers, Death(f"{type(error).__name__}: {error}", traceback.format_exc()))
            raise
        _write(answers, _Done())


class _Inbox:
    """Reads tasks in a thread of its own, so that the process ends with its parent, also in the middle of a solve."""

    def __init__(self, tasks: IO[bytes]) -> None:
        self._tasks = tasks
        self._task: Any = None
        self._arrived = threading.Semaphore(0)
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self) -> Any:
        """Wait for a task."""
        self._arrived.acquire()
        return self._task

    def _listen(self) -> None:
        while (task := _read(self._tasks)) is not None:
            self._task = task
            self._arrived.release()
        os._exit(1)


if __name__ == "__main__":
    # Not this module's other self, __main__: messages are pickled by their module's name.
    from dbrecon.spark import executor as spark_executor  # noqa: PLW0406

    spark_executor.main()
