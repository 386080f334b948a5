"""Steps 1 and 2 on Spark: a state's zip a task, the biggest first. The ledger is told by the driver."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from dbrecon.ctools.progress import Progress
from dbrecon.ctools.staging import Staged
from dbrecon.experiment import Experiment
from dbrecon.node.pool import Broken, Finished, Message
from dbrecon.node.tasks import Failed
from dbrecon.spark.engine import Engine
from dbrecon.spark.setup import SparkError
from dbrecon.spark.task_pool import SparkPool
from dbrecon.steps.geography_files import Geofile

WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class StateTask:
    """Step 1 or 2 of a state. ``counties`` are those of the state that step 1 has found, ``todo`` those to be made (for step 2)."""

    experiment: Experiment
    stusab: str
    step: int
    counties: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()
    force: bool = False


@dataclass(frozen=True)
class StateDone:
    """The files that were made, to be accepted: the geofile (step 1), or pairs of each county (step 2), of the zip with that
    digest."""

    zip_digest: str | None
    geofile: Geofile | None = None
    counties: tuple[tuple[str, Staged, Staged], ...] = ()


def run_states(engine: Engine, name: str, work: str, tasks: Sequence[StateTask], hear: Callable[[StateTask, Any], None]) -> None:
    """Run the tasks as one job; ``hear`` gets each state's StateDone or Failure as it comes. Raises SparkError."""
    pool = SparkPool(engine, lambda _: name, work, lambda task: task, lambda _: 0.0, 1.0)
    left = {pool.submit(task) for task in tasks}
    with pool, Progress(name, "state", len(tasks)) if len(tasks) > 1 else nullcontext() as progress:
        while left:
            for event in pool.wait(WAIT_SECONDS):
                if isinstance(event, Broken):
                    raise SparkError(f"{event.failure.message}; what was done stays, run it again")
                if isinstance(event, Finished):
                    left.remove(event.worker)
                    if progress is not None:
                        progress.add(1)
                elif isinstance(event, Message):
                    hear(event.task, event.body.failure if isinstance(event.body, Failed) else event.body)
