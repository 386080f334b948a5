"""Steps 1 and 2 of several states at once: a state's zip is a task of a pool. The ledger is told by whoever gave the task."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dbrecon.ctools import staging
from dbrecon.ctools.progress import Progress
from dbrecon.ctools.staging import Staged
from dbrecon.errors import DBReconError, InputError, RemoteError
from dbrecon.experiment import Experiment
from dbrecon.node.pool import Broken, Died, Event, Finished, Message
from dbrecon.node.tasks import Failed, Failure
from dbrecon.node.worker import blame
from dbrecon.steps.county_files import write_county_files
from dbrecon.steps.download import OF_A_ZIP
from dbrecon.steps.geography_files import Geofile, write_geofile

WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class StateTask:
    """Step 1 or 2 of a state. ``counties`` are those of the state that step 1 has found, ``todo`` those to be made (for step 2);
    ``fence`` is the time by the ledger's clock."""

    experiment: Experiment
    stusab: str
    step: int
    counties: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()
    force: bool = False
    fence: int = 0


@dataclass(frozen=True)
class CountyMade:
    """The two files of a county, whole, to be accepted."""

    county: str
    block: Staged
    tract: Staged


@dataclass(frozen=True)
class StateDone:
    """The files that were made of the zip with that digest, to be accepted: the geofile (step 1), or those of the counties that
    were not sent before (step 2)."""

    zip_digest: str | None
    geofile: Geofile | None = None
    counties: tuple[CountyMade, ...] = ()


Answer = StateDone | CountyMade | Failure


class StatePool(Protocol):
    """What runs the tasks: worker processes, or Spark."""

    @property
    def free(self) -> int:
        """How many tasks may be submitted now."""

    def submit(self, task: Any) -> int:
        """Take a task."""

    def wait(self, seconds: float) -> Sequence[Event]:
        """Return what happened, within ``seconds`` at the most."""

    def close(self) -> None:
        """Stop what is at work."""


def run_states(pool: StatePool, name: str, tasks: Sequence[StateTask], hear: Callable[[StateTask, Answer], None]) -> None:
    """Run the tasks in a pool, which is closed; ``hear`` gets what is said of each state as it comes. Raises RemoteError where the
    pool itself fails, DBReconError where a worker dies."""
    waiting, left = deque(tasks), set[int]()
    with closing(pool), Progress(name, "state", len(tasks)) if len(tasks) > 1 else nullcontext() as progress:
        while waiting or left:
            while waiting and pool.free:
                left.add(pool.submit(waiting.popleft()))
            for event in pool.wait(WAIT_SECONDS):
                if isinstance(event, Broken):
                    raise RemoteError(f"{event.failure.message}; what was done stays, run it again")
                if isinstance(event, Died):
                    raise DBReconError(f"{event.task.stusab}: {event.reason}; what was done stays, run it again")
                if isinstance(event, Finished):
                    left.remove(event.worker)
                    if progress is not None:
                        progress.add(1)
                elif isinstance(event, Message):
                    hear(event.task, event.body.failure if isinstance(event.body, Failed) else event.body)


# -- what the workers run, by name ----------------------------------------------------------------------------------------

Send = Callable[[Any], None]


def serve(task: StateTask, send: Send) -> None:
    """Write a state's files on this node. Sends CountyMade as counties are whole, then StateDone, or Failed."""
    _answer(send, lambda: _do(task, send))


def serve_whole(task: StateTask, send: Send) -> None:
    """Write a state's files where an answer comes once: on Spark's executors. Sends StateDone, or Failed and nothing is left."""
    made: list[CountyMade] = []

    def do() -> StateDone:
        try:
            done = _do(task, made.append)
        except InputError:
            for county in made:
                staging.discard(county.block)
                staging.discard(county.tract)
            raise
        return StateDone(done.zip_digest, done.geofile, tuple(made))

    _answer(send, do)


def _answer(send: Send, do: Callable[[], StateDone]) -> None:
    try:
        done = do()
    except DBReconError as error:
        failure = Failure.of(error, blame(error))
        if isinstance(error, OF_A_ZIP):  # the others go on
            failure = replace(failure, exit_code=InputError.exit_code)
        send(Failed(0, failure))
    else:
        send(done)


def _do(task: StateTask, made: Callable[[CountyMade], None]) -> StateDone:
    if task.step == 1:
        geofile = write_geofile(task.experiment, task.stusab, task.fence)
        return StateDone(geofile.zip_digest, geofile)

    def enter(county: str, block: Staged, tract: Staged) -> None:
        made(CountyMade(county, block, tract))

    return StateDone(write_county_files(task.experiment, task.stusab, task.counties, task.todo, enter, task.fence))
