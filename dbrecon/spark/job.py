"""What Spark's executors run for steps 1 and 2, in the process that :mod:`dbrecon.spark.executor` keeps: a state a task.

Steps 3 to 5 are :mod:`dbrecon.node.worker`'s there, as on a node of workflow 1.
"""

from dbrecon.ctools import staging
from dbrecon.ctools.staging import Staged
from dbrecon.errors import DBReconError, InputError
from dbrecon.node.tasks import Failed, Failure, Send
from dbrecon.node.worker import blame
from dbrecon.spark.state_tasks import StateDone, StateTask
from dbrecon.steps.county_files import write_county_files
from dbrecon.steps.geography_files import write_geofile


def serve_states(task: StateTask, send: Send) -> None:
    """Write a state's files; the ledger is the driver's. Sends StateDone, or Failed."""
    try:
        done = _do(task)
    except DBReconError as error:
        send(Failed(0, Failure.of(error, blame(error))))
    else:
        send(done)  # type: ignore[arg-type]  # what a tract's process never sends


def _do(task: StateTask) -> StateDone:
    if task.step == 1:
        made = write_geofile(task.experiment, task.stusab)
        return StateDone(made.zip_digest, made)
    counties: list[tuple[str, Staged, Staged]] = []

    def enter(county: str, block: Staged, tract: Staged) -> None:
        counties.append((county, block, tract))

    try:
        zip_digest = write_county_files(task.experiment, task.stusab, task.counties, task.todo, enter)
    except InputError:
        for _, *files in counties:
            for file in files:
                staging.discard(file)
        raise
    return StateDone(zip_digest, counties=tuple(counties))
