"""What a worker process runs: the steps of claimed tracts, and of counties that are complete."""

import time
from dataclasses import dataclass, replace

from dbrecon.ctools.patience import patience, patient
from dbrecon.errors import DBReconError, InputError, StorageError, VerificationError
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import Claim, CountyClaim, CountyDigests
from dbrecon.node.tasks import (
    Begun,
    CertaintyMade,
    CertaintyTask,
    CountyTask,
    CountyWritten,
    Failed,
    Failure,
    LpMade,
    Send,
    Solved,
    StorageAway,
    TractTask,
)
from dbrecon.recon.census.tables import Product
from dbrecon.recon.solve.program import Infeasible, LicenceError
from dbrecon.recon.tract.county_tables import CountyTables
from dbrecon.recon.tract.model import ModelBuilder
from dbrecon.steps.lp_files import make_lp, read_county
from dbrecon.steps.methods import builder_of
from dbrecon.steps.microdata import make_microdata
from dbrecon.steps.origin import Origin
from dbrecon.steps.solutions import solve_lp, solve_model


def serve(task: TractTask | CountyTask | CertaintyTask, send: Send) -> None:
    """Do a task in a worker process: make the artifacts, and say what came of each claim. Storage that is away is waited for."""
    with patient(task.experiment.config.run.storage_wait, lambda text: send(StorageAway(text))):
        _serve(task, send)


def _serve(task: TractTask | CountyTask | CertaintyTask, send: Send) -> None:
    if isinstance(task, CountyTask):
        _write_county(task, send)
        return
    if isinstance(task, CertaintyTask):
        _certify(task, send)
        return
    try:
        builder = builder_of(task.experiment)
    except DBReconError as error:
        _fail_all(task, error, "setup", send)
        return
    try:
        county = _county_of(task.experiment, builder.product, task.claims[0])
    except DBReconError as error:
        _fail_all(task, error, blame(error), send)
        return
    for index in range(len(task.claims)):
        send(Begun(index))
        try:
            _do_tract(task, index, builder, county, send)
        except DBReconError as error:
            send(Failed(index, Failure.of(error, blame(error), final=is_final(error))))


@dataclass
class _Kept:
    """The county that this process has read last: mostly the next task is of the same one."""

    files: tuple[str, str, CountyDigests] | None = None
    tables: CountyTables | None = None


_kept = _Kept()


def _county_of(experiment: Experiment, product: Product, claim: Claim | CountyClaim) -> CountyTables:
    """Return the claim's county. What is kept is what the ledger has accepted, by its digest, so it need not be read again."""
    path, files = experiment.block_csv(claim.stusab, claim.county), claim.county_files
    key = (path, experiment.tables, files) if files is not None and files.block and files.tract else None
    if key is not None and key == _kept.files and _kept.tables is not None and _kept.tables.product is product:
        return _kept.tables
    _kept.files = _kept.tables = None  # before the next is read: one county at a time is enough
    tables = read_county(experiment, product, claim.stusab, claim.county, files)
    if key is not None:
        _kept.files, _kept.tables = key, tables
    return tables


def _fail_all(task: TractTask, error: DBReconError, to_blame: str, send: Send) -> None:
    for index in range(len(task.claims)):
        send(Failed(index, Failure.of(error, to_blame, final=is_final(error))))


def blame(error: DBReconError) -> str:
    """Return whose fault an error of a task is: see :class:`dbrecon.node.tasks.Failure`."""
    if isinstance(error, LicenceError):
        return "setup"
    if patience().ran_out:
        return "setup"
    return "node" if isinstance(error, StorageError) else "tract"


def is_final(error: DBReconError) -> bool:
    """Whether trying again cannot help: the tables are to blame, or a file that is not there, not whole, or not the one that was
    accepted."""
    return isinstance(error, (InputError, VerificationError, Infeasible))


def _do_tract(task: TractTask, index: int, builder: ModelBuilder, county: CountyTables, send: Send) -> None:
    """Do steps 3 and 4 of one tract. Done together they share the program in memory."""
    claim = task.claims[index]
    tables, origin = county.tract(claim.tract), Origin.of(claim, county.digest(claim.tract))
    if not claim.needs_lp:
        send(Solved(index, solve_lp(task.experiment, builder, claim.stusab, tables, origin)))
        return
    model, made = make_lp(task.experiment, builder, claim.stusab, tables, origin)
    send(LpMade(index, made))
    if 4 in task.steps:
        origin = replace(origin, lp_sha256=made.file.digest if made.file else "")
        send(Solved(index, solve_model(task.experiment, builder, claim.stusab, tables, model, origin)))


def _write_county(task: CountyTask, send: Send) -> None:
    begin = time.monotonic()
    try:
        product = builder_of(task.experiment).product
        people, file = make_microdata(task.experiment, _county_of(task.experiment, product, task.claim), task.claim)
    except DBReconError as error:
        send(Failed(0, Failure.of(error, blame(error), final=is_final(error))))
    else:
        send(CountyWritten(people, time.monotonic() - begin, file))


def _certify(task: CertaintyTask, send: Send) -> None:
    """Step 6 of some tracts, or of a county's files."""
    from dbrecon.steps.certainty_records import make_record_of
    from dbrecon.steps.county_certainty import write_county  # step 6 alone needs them

    for index, claim in enumerate(task.claims):
        begin = time.monotonic()
        send(Begun(index))
        try:
            if claim.of_county:
                write_county(task.experiment, claim.stusab, claim.county, claim.tracts, claim.accepted)
            else:
                make_record_of(task.experiment, claim.stusab, claim.county, claim.tract, accepted=claim.accepted)
        except DBReconError as error:
            send(Failed(index, Failure.of(error, blame(error), final=is_final(error))))
        else:
            send(CertaintyMade(index, time.monotonic() - begin))
