"""Steps 1 and 2 of several states at once: each of them is a task of a pool. The ledger is told by whoever gave the task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dbrecon.ctools import staging
from dbrecon.ctools.progress import Progress
from dbrecon.ctools.staging import Staged
from dbrecon.errors import DBReconError, InputError, RemoteError
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import StateClaim
from dbrecon.node.pool import Broken, Died, Event, Finished, Message
from dbrecon.node.tasks import Failed, Failure
from dbrecon.node.worker import blame
from dbrecon.steps.county_files import write_county_files
from dbrecon.steps.download import OF_A_ZIP
from dbrecon.steps.geography_files import Geofile, write_geofile

WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class StateTask:
    """Step 1 or 2 of a state that is claimed. ``counties`` are those of the state that step 1 has found, ``todo`` those to be made
    (for step 2)."""

    experiment: Experiment
    claim: StateClaim
    step: int
    counties: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()
    force: bool = False

    @property
    def stusab(self) -> str:
        """The state."""
        return self.claim.stusab


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


class StateWork(Protocol):
    """What is to be done, and what becomes of it."""

    @property
    def left(self) -> int:
        """How many states are not done."""

    def next(self) -> StateTask | None:
        """Return the next task; None if there is none just now."""

    def hear(self, task: StateTask, said: Answer) -> None:
        """Take what is said of a task."""

    def ended(self, task: StateTask) -> None:
        """Take note that nothing more is heard of a task."""

    def beat(self) -> None:
        """Show that this process lives, if it is time."""


def run_states(pool: StatePool, name: str, work: StateWork) -> None:
    """Do the work in a pool, which is closed. Raises RemoteError where the pool itself fails, DBReconError where a worker dies."""
    states = work.left
    with closing(pool), Progress(name, "state", states) as progress:
        while _give(pool, work):
            for event in pool.wait(WAIT_SECONDS):
                if isinstance(event, Broken):
                    raise RemoteError(f"{event.failure.message}; what was done stays, run it again")
                if isinstance(event, Died):
                    raise DBReconError(f"{event.task.stusab}: {event.reason}; what was done stays, run it again")
                if isinstance(event, Finished):
                    work.ended(event.task)
                elif isinstance(event, Message):
                    work.hear(event.task, event.body.failure if isinstance(event.body, Failed) else event.body)
            work.beat()
            progress.at(states - work.left)


def _give(pool: StatePool, work: StateWork) -> bool:
    """Give the pool what it has room for. Returns whether something is left."""
    while pool.free and (task := work.next()) is not None:
        pool.submit(task)
    return work.left > 0


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
        geofile = write_geofile(task.experiment, task.stusab, task.claim.fence)
        return StateDone(geofile.zip_digest, geofile)

    def enter(county: str, block: Staged, tract: Staged) -> None:
        made(CountyMade(county, block, tract))

    return StateDone(write_county_files(task.experiment, task.stusab, task.counties, task.todo, enter, task.claim.fence))
