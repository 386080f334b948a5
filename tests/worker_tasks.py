"""Work for pools and nodes in tests: tasks that succeed, fail, or take their worker process with them."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbrecon.ctools import staging
from dbrecon.ctools.proc import process_facts
from dbrecon.errors import InputError, StorageError
from dbrecon.ledger.records import LpStats, SolStats
from dbrecon.node.tasks import Begun, CountyTask, CountyWritten, Failed, Failure, LpMade, Send, Solved, TractTask

BOUND_SECONDS = 60


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
    elif isinstance(task, Path):
        try:
            task.touch()
            send("writing")
            time.sleep(BOUND_SECONDS)
        finally:
            task.unlink()
    elif isinstance(task, tuple) and task[0] == "stage":
        with staging.stage(task[1]) as file:
            file.write(b"whole")
        send(file.made)
    elif task == "sleep":
        send("asleep")
        time.sleep(BOUND_SECONDS)
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


def serve_short_outage(task: TractTask | CountyTask, send: Send) -> None:
    """Storage that fails every tract once."""
    assert isinstance(task, TractTask)
    for index, claim in enumerate(task.claims):
        send(Begun(index))
        if not (met := Path(task.experiment.root) / f"met-{claim.tract}").exists():
            met.touch()
            send(Failed(index, Failure.of(StorageError("the disk is full"), "node")))
        else:
            send(LpMade(index, LpStats(1, 1, 1, 0.0)))
            send(Solved(index, SolStats("none", 0.0)))


def serve_in_the_way(task: TractTask | CountyTask, send: Send) -> None:
    """A folder stands where the first solution belongs when it is to come into place; the next attempt finds it gone."""
    assert isinstance(task, TractTask)
    for index, claim in enumerate(task.claims):
        send(Begun(index))
        path = Path(task.experiment.root) / f"{claim.tract}.sol"
        if path.is_dir():
            path.rmdir()
        with staging.stage(str(path), claim.token, claim.fence) as file:
            file.write(b"solved")
        if not (tried := Path(task.experiment.root) / "tried").exists():
            tried.touch()
            path.mkdir()
        send(LpMade(index, LpStats(1, 1, 1, 0.0)))
        send(Solved(index, SolStats("none", 0.0, file=file.made)))


def serve_always_in_the_way(task: TractTask | CountyTask, send: Send) -> None:
    """No solution can ever come into place."""
    assert isinstance(task, TractTask)
    for index, claim in enumerate(task.claims):
        send(Begun(index))
        path = Path(task.experiment.root) / f"{claim.tract}.sol"
        with staging.stage(str(path), claim.token, claim.fence) as file:
            file.write(b"solved")
        path.mkdir(exist_ok=True)
        send(LpMade(index, LpStats(1, 1, 1, 0.0)))
        send(Solved(index, SolStats("none", 0.0, file=file.made)))


def serve_bad_county(task: TractTask | CountyTask, send: Send) -> None:
    """A county whose people cannot be written at the first attempt."""
    if isinstance(task, CountyTask) and not (tried := Path(task.experiment.root) / "tried").exists():
        tried.touch()
        send(Failed(0, Failure.of(InputError("a solution is damaged"), "tract")))
    else:
        serve_tracts(task, send)


def serve_slowly(task: TractTask | CountyTask, send: Send) -> None:
    """Tracts that take longer than a test."""
    send(Begun(0))
    time.sleep(BOUND_SECONDS)


def serve_steadily(task: TractTask | CountyTask, send: Send) -> None:
    """Tracts that take half a second each; ``at-work`` names their process."""
    _serve_one_by_one(task, send, lambda root: _marked(root, lambda: time.sleep(0.5)))


def serve_when_told(task: TractTask | CountyTask, send: Send) -> None:
    """Tracts that take until there is a file ``go``."""
    _serve_one_by_one(task, send, lambda root: _until((root / "go").exists))


def serve_until_stopped(task: TractTask | CountyTask, send: Send) -> None:
    """Tracts that take longer than a test; ``at-work`` names their process."""
    _serve_one_by_one(task, send, lambda root: _marked(root, lambda: time.sleep(BOUND_SECONDS)))


def serve_when_alone(task: TractTask | CountyTask, send: Send) -> None:
    """Tracts that are done only when two workers have been at work and no other is any more; ``at-work`` names their process."""

    def work(root: Path) -> None:
        (root / f"came-{os.getpid()}").touch()
        _until(lambda: len(list(root.glob("came-*"))) > 1)
        _until(lambda: at_work(root) == 1)

    _serve_one_by_one(task, send, lambda root: _marked(root, lambda: work(root)))


def at_work(root: Path) -> int:
    """How many live processes there are among those that ``at-work`` names."""
    marks = [process_facts(int(path.name)) for path in (root / "at-work").glob("*")]
    return sum(facts is not None and not facts.gone for facts in marks)


def _serve_one_by_one(task: TractTask | CountyTask, send: Send, work: Callable[[Path], None]) -> None:
    if isinstance(task, CountyTask):
        send(CountyWritten(task.claim.pop, 0.0))
        return
    for index, claim in enumerate(task.claims):
        send(Begun(index))
        work(Path(task.experiment.root))
        if claim.needs_lp:
            send(LpMade(index, LpStats(1, 1, 1, 0.0)))
        if 4 in task.steps:
            send(Solved(index, SolStats("none", 0.0)))


def _marked(root: Path, work: Callable[[], None]) -> None:
    mark = root / "at-work" / str(os.getpid())
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    work()
    mark.unlink()


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND_SECONDS
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("what this task waits for does not come")
        time.sleep(0.02)
