"""What Spark's executors run for steps 1 and 2, in the process that :mod:`dbrecon.spark.executor` keeps: a state a task.

Steps 3 to 5 are :mod:`dbrecon.node.worker`'s there, as on a node of workflow 1.
"""

from dbrecon.errors import DBReconError
from dbrecon.node.tasks import Failed, Failure, Send
from dbrecon.node.worker import blame
from dbrecon.spark.states import StateDone, StateTask
from dbrecon.steps.county_files import counties_to_make, write_county_files
from dbrecon.steps.geography_files import write_geofile


def serve_states(task: StateTask, send: Send) -> None:
    """Write a state's files; the ledger is the driver's. Sends StateDone, or Failed."""
    try:
        done = StateDone(_do(task))
    except DBReconError as error:
        send(Failed(0, Failure.of(error, blame(error))))
    else:
        send(done)  # type: ignore[arg-type]  # what a tract's process never sends


def _do(task: StateTask) -> int:
    if task.step == 1:
        write_geofile(task.experiment, task.stusab)
        return 1
    todo = task.counties if task.force else counties_to_make(task.experiment, task.stusab, task.counties)
    if todo:
        write_county_files(task.experiment, task.stusab, task.counties, todo)
    return len(todo)
