"""Steps 1 and 2 on Spark: a state's zip a task, the biggest first. The ledger is told by the driver."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from dbrecon.ctools.progress import Progress
from dbrecon.errors import DBReconError
from dbrecon.experiment import Experiment
from dbrecon.node.tasks import Failed, Failure
from dbrecon.spark.accounts import cause, executors_trouble
from dbrecon.spark.engine import Answered, Engine
from dbrecon.spark.setup import SparkError

WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class StateTask:
    """Step 1 or 2 of a state. ``counties`` are those of the state that step 1 has found (for step 2)."""

    experiment: Experiment
    stusab: str
    step: int
    counties: tuple[str, ...] = ()
    force: bool = False


@dataclass(frozen=True)
class StateDone:
    """How many files (step 1) or counties (step 2) were made; the rest was there."""

    made: int


def run_states(engine: Engine, name: str, work: str, tasks: Sequence[StateTask], hear: Callable[[StateTask, Any], None]) -> None:
    """Run the tasks as one job; ``hear`` gets each state's StateDone or Failure as it comes. Raises SparkError."""
    job = engine.submit(name, work, tasks)
    left = dict(enumerate(tasks))
    with Progress(name, "state", len(tasks)) if len(tasks) > 1 else nullcontext() as progress:
        while True:
            for event in engine.wait(WAIT_SECONDS):
                if event.job != job:
                    continue
                if not isinstance(event, Answered):
                    if event.failure is not None:
                        raise _given_up(event.failure)
                    return
                task = left.pop(event.index, None)
                if task is None:
                    continue  # Spark has run it twice
                for said in event.answer.said:
                    hear(task, said.failure if isinstance(said, Failed) else said)
                if progress is not None:
                    progress.add(1)


def _given_up(account: str) -> DBReconError:
    trouble: Failure | None = executors_trouble(account)
    return SparkError(f"Spark gave up: {trouble.message if trouble else cause(account)}; what was done stays, run it again")
