"""Work for pools and nodes in tests: tasks that succeed, fail, or take their worker process with them."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.records import LpStats, SolStats
from cluster.tasks import Begun, CountyTask, CountyWritten, Failed, Failure, LpMade, Send, Solved, TractTask
from dbrerrors import InputError, StorageError


def serve_words(task: Any, send: Callable[[Any], None]) -> None:
    """What a word says."""
    if task == "pid":
        send(os.getpid())
    elif task == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif task == "segfault":
        ctypes.string_at(0)
    elif task == "exit":
        sys.exit(3)
    elif task == "bug":
        raise ZeroDivisionError("a bug")
    elif task == "sleep":
        send("asleep")
        time.sleep(60)
    else:
        send(f"did {task}")


def serve_tracts(task: TractTask | CountyTask, send: Send) -> None:
    """Tracts by their numbers: 000666 kills its worker, 000500 fails, 000404 meets a full disk once, the rest are solved."""
    if isinstance(task, CountyTask):
        send(CountyWritten(task.claim.pop, 0.0))
        return
    for index, claim in enumerate(task.claims):
        send(Begun(index))
        if claim.tract == "000666":
            os.kill(os.getpid(), signal.SIGKILL)
        elif claim.tract == "000500":
            send(Failed(index, Failure.of(InputError("the tables contradict each other"), "tract")))
        elif claim.tract == "000404" and not (full := Path(task.experiment.root) / "full").exists():
            full.touch()
            send(Failed(index, Failure.of(StorageError("the disk is full"), "node")))
        else:
            if claim.needs_lp:
                send(LpMade(index, LpStats(1, 1, 1, 0.0)))
            if 4 in task.steps:
                send(Solved(index, SolStats("none", 0.0)))


def serve_broken_disk(task: TractTask | CountyTask, send: Send) -> None:
    """A node on which nothing can be written."""
    assert isinstance(task, TractTask)
    for index in range(len(task.claims)):
        send(Begun(index))
        send(Failed(index, Failure.of(StorageError("the disk is full"), "node")))


def serve_slowly(task: TractTask | CountyTask, send: Send) -> None:
    """Tracts that take longer than a test."""
    send(Begun(0))
    time.sleep(60)


def serve_steadily(task: TractTask | CountyTask, send: Send) -> None:
    """Tracts that take half a second each, with a file in ``at-work`` meanwhile that names the process."""
    if isinstance(task, CountyTask):
        send(CountyWritten(task.claim.pop, 0.0))
        return
    folder = Path(task.experiment.root) / "at-work"
    folder.mkdir(exist_ok=True)
    for index, claim in enumerate(task.claims):
        send(Begun(index))
        mark = folder / str(os.getpid())
        mark.touch()
        time.sleep(0.5)
        mark.unlink()
        send(Solved(index, SolStats("none", 0.0)) if not claim.needs_lp else LpMade(index, LpStats(1, 1, 1, 0.0)))
        if claim.needs_lp:
            send(Solved(index, SolStats("none", 0.0)))
