"""Work for Spark's executors in tests: tracts that are solved, fail, or take processes with them."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from dbrecon.ledger.records import LpStats, SolStats
from dbrecon.node.tasks import Begun, CountyTask, CountyWritten, LpMade, Send, Solved, TractTask
from tests.worker_tasks import serve_tracts

SLEEP_SECONDS = 60.0
SLOW_SECONDS = 0.2


def serve(task: TractTask | CountyTask, send: Send) -> None:
    """As :func:`tests.worker_tasks.serve_tracts`; besides, 000667 kills Spark's own Python worker, 000668 does so once, 000777
    hangs once, and those from 900000 on are slow."""
    if isinstance(task, CountyTask):
        send(CountyWritten(task.claim.pop, 0.0))
        return
    for index, claim in enumerate(task.claims):
        once = Path(task.experiment.root) / "once"
        if claim.tract == "000667" or (claim.tract == "000668" and not once.exists()):
            once.touch()
            os.kill(os.getppid(), signal.SIGKILL)
        send(Begun(index))
        if claim.tract == "000777" and not (sleeper := Path(task.experiment.root) / "sleeper").exists():
            sleeper.write_text(str(os.getpid()))
            time.sleep(SLEEP_SECONDS)
        if claim.tract.startswith("9"):
            time.sleep(SLOW_SECONDS)
        if claim.tract in ("000666", "000500", "000404"):
            serve_tracts(TractTask(task.experiment, task.steps, (claim,)), lambda said, at=index: send(_moved(said, at)))  # type: ignore[misc]
        else:
            send(LpMade(index, LpStats(1, 1, 1, 0.0)))
            send(Solved(index, SolStats("none", 0.0)))


def _moved(said: Any, index: int) -> Any:
    """What was said of a task's only claim, said of its ``index``-th."""
    return type(said)(**{**vars(said), "index": index})


def serve_environment(task: Any, send: Any) -> None:
    """The values of the environment variables that the task names, and whether a database is known."""
    send({name: os.environ.get(name) for name in task})


def serve_gate(task: Any, send: Any) -> None:
    """Ends when the file that the task names is there."""
    while not os.path.exists(task):
        time.sleep(0.02)
    send(task)
