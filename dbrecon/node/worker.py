"""What a worker process runs: the steps of claimed tracts, and of counties that are complete."""

import time

from dbrecon.ctools.patience import patience, patient
from dbrecon.errors import DBReconError, StorageError
from dbrecon.node.tasks import Begun, CountyTask, CountyWritten, Failed, Failure, LpMade, Send, Solved, StorageAway, TractTask
from dbrecon.recon.solve.program import LicenceError
from dbrecon.recon.tract.county_tables import CountyTables
from dbrecon.recon.tract.model import ModelBuilder
from dbrecon.steps.lp_files import make_lp, read_county
from dbrecon.steps.methods import builder_of
from dbrecon.steps.microdata import make_microdata
from dbrecon.steps.solutions import solve_lp, solve_model


def serve(task: TractTask | CountyTask, send: Send) -> None:
    """Do a task in a worker process: make the artifacts, and say what came of each claim. Storage that is away is waited for."""
    with patient(task.experiment.config.run.storage_wait, lambda text: send(StorageAway(text))):
        _serve(task, send)


def _serve(task: TractTask | CountyTask, send: Send) -> None:
    if isinstance(task, CountyTask):
        _write_county(task, send)
        return
    first = task.claims[0]
    try:
        builder = builder_of(task.experiment)
    except DBReconError as error:
        _fail_all(task, error, "setup", send)
        return
    try:
        county = read_county(task.experiment, builder.product, first.stusab, first.state, first.county)
    except DBReconError as error:
        _fail_all(task, error, blame(error), send)
        return
    for index in range(len(task.claims)):
        send(Begun(index))
        try:
            _do_tract(task, index, builder, county, send)
        except DBReconError as error:
            send(Failed(index, Failure.of(error, blame(error))))


def _fail_all(task: TractTask, error: DBReconError, to_blame: str, send: Send) -> None:
    for index in range(len(task.claims)):
        send(Failed(index, Failure.of(error, to_blame)))


def blame(error: DBReconError) -> str:
    """Whose fault an error of a task is: see :class:`dbrecon.node.tasks.Failure`."""
    if isinstance(error, LicenceError):
        return "setup"
    if patience().ran_out:
        return "setup"
    return "node" if isinstance(error, StorageError) else "tract"


def _do_tract(task: TractTask, index: int, builder: ModelBuilder, county: CountyTables, send: Send) -> None:
    """Steps 3 and 4 of one tract. Done together they share the program in memory."""
    claim = task.claims[index]
    tables = county.tract(claim.tract)
    if not claim.needs_lp:
        send(Solved(index, solve_lp(task.experiment, builder, claim.stusab, tables)))
        return
    model, made = make_lp(task.experiment, builder, claim.stusab, tables)
    send(LpMade(index, made))
    if 4 in task.steps:
        send(Solved(index, solve_model(task.experiment, builder, claim.stusab, tables, model)))


def _write_county(task: CountyTask, send: Send) -> None:
    begin = time.monotonic()
    try:
        people = make_microdata(task.experiment, task.claim.stusab, task.claim.county, task.tracts)
    except DBReconError as error:
        send(Failed(0, Failure.of(error, blame(error))))
    else:
        send(CountyWritten(people, time.monotonic() - begin))
