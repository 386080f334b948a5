"""Step 4: a tract's integer program -> its checked solution, with HiGHS or Gurobi."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from dbrecon.ctools import storage
from dbrecon.ctools.progress import counted
from dbrecon.ctools.staging import Staged
from dbrecon.errors import ContradictoryTables, DBReconError, InputError, SolverError, Subject, VerificationError
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import SolStats
from dbrecon.recon.people.people import BinnedPeople
from dbrecon.recon.people.solution import format_named_solution, format_solution
from dbrecon.recon.people.variable_names import decode_names
from dbrecon.recon.solve.lp_reader import read_lp
from dbrecon.recon.solve.program import Answer, Infeasible, NamedProgram, Options, Program
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.tract.lp_text import ages_of_lp, tract_of_lp
from dbrecon.recon.tract.model import Model, ModelBuilder, TractTables
from dbrecon.recon.tract.verify import check_answer, people_of, verify, verify_people
from dbrecon.settings import Config
from dbrecon.steps.contradictions import explained, explained_by_names, explained_cell
from dbrecon.steps.lp_files import build_model
from dbrecon.steps.methods import with_any_years
from dbrecon.steps.origin import Origin, check_accepted, staged
from dbrecon.version import PROGRAM


def solver_options(config: Config, binned: bool) -> Options:
    """Return how the settings want a program solved. Those that count single ages, and other systems', are solved as they stand."""
    return Options(
        solver=config.solve.solver,
        seed=config.solve.seed,
        seconds=config.solve.time_limit,
        token_wait=config.solve.gurobi_token_wait,
        objective=config.solve.objective if binned else "none",
    )


def solve_model(
    experiment: Experiment, builder: ModelBuilder, stusab: str, tables: TractTables, model: Model, origin: Origin
) -> SolStats:
    """Solve a tract's program that is in memory, check every cell of every table, and write the solution, to be accepted.

    Raises Infeasible (with the contradiction, which is written beside the LP file), TimeLimit, LicenceError, SolverError;
    VerificationError or InputError if a published cell is not met; StorageError. Nothing is written then.
    """
    begin, seed = time.monotonic(), experiment.config.solve.seed
    answer, people = _solved_model(experiment, builder, stusab, tables, model)
    program = Program.of_model(model)
    notes = _notes(tables.population, answer.solver, program, seed) | origin.notes(experiment, builder.product.name)
    with staged(experiment.sol(stusab, tables.geoid[2:5], tables.geoid[5:]), origin, experiment.kms_key) as file:
        file.write(format_solution(tables.geoid, people, notes))
    return _stats(answer.solver, seed, begin, file.made)


def _solved_model(
    experiment: Experiment, builder: ModelBuilder, stusab: str, tables: TractTables, model: Model
) -> tuple[Answer, BinnedPeople]:
    """Return the answer to the program of a tract's tables, and its people, who meet every cell. Raises as :func:`solve_model`."""
    what = f"tract {tables.geoid}"
    program = Program.of_model(model)
    try:
        answer = solve(program, solver_options(experiment.config, not model.bins.single), what)
    except Infeasible:
        raise explained(experiment, builder, stusab, tables, model, program) from None
    check_answer(model, answer.values)
    people = people_of(model, answer.values)
    dealt = with_any_years(experiment, people, tables, what)
    try:
        verify(builder.product, tables, dealt)
    except ContradictoryTables as error:
        raise explained_cell(error, experiment, builder, stusab, tables, model, dealt) from None
    return answer, people


def solve_lp(experiment: Experiment, builder: ModelBuilder, stusab: str, tables: TractTables, origin: Origin) -> SolStats:
    """Solve a tract's program from its LP file, ours or the predecessor's, check every cell, and write the solution.

    Raises as :func:`solve_model` does, and InputError for an LP file that is another than the ledger has accepted
    (``origin.lp_sha256``), damaged, or of another tract. What the file's program cannot give is blamed on it only if the tables'
    own program gives it.
    """
    begin = time.monotonic()
    county, tract = tables.geoid[2:5], tables.geoid[5:]
    path = experiment.lp(stusab, county, tract)
    file = _LpFile.read(path, origin.lp_sha256)
    if file.tract not in (None, tables.geoid):
        raise InputError(f"{path}: is the program of tract {file.tract}, not of {tables.geoid}", about=Subject.LP_FILE)
    seed = experiment.config.solve.seed
    try:
        solved = file.solved(experiment.config, tables.geoid)
        people = with_any_years(experiment, solved.people, tables, path)
        verify_people(builder.product, tables, people, path, Subject.LP_FILE)
    except (Infeasible, VerificationError) as error:
        _solved_model(experiment, builder, stusab, tables, build_model(experiment, builder, stusab, tables))
        if not isinstance(error, Infeasible):
            raise
        raise file.explained(experiment.ilp(stusab, county, tract), experiment.kms_key, Subject.LP_FILE) from None
    origin = replace(origin, lp_sha256=file.sha256)
    with staged(experiment.sol(stusab, county, tract), origin, experiment.kms_key) as out:
        out.write(solved.text(tables.geoid, seed, origin.notes(experiment, builder.product.name)))
    return _stats(solved.answer.solver, seed, begin, out.made)


@dataclass(frozen=True)
class _Solved:
    """A program from a file, its answer, and the people in it."""

    named: NamedProgram
    answer: Answer
    people: BinnedPeople

    def text(self, geoid: str, seed: int, more: dict[str, str] | None = None) -> bytes:
        """Return the solution's text, in the names of the file's variables. ``more`` are notes of what it was made of."""
        notes = _notes(self.people.population, self.answer.solver, self.named.program, seed) | (more or {})
        return format_named_solution(geoid, self.named.variables, self.answer.values, notes)


@dataclass(frozen=True)
class _LpFile:
    """An LP file's program, the tract that it says it is of, if it does, and whether it counts ages by bins."""

    path: str
    named: NamedProgram
    tract: str | None
    binned: bool
    sha256: str

    @classmethod
    def read(cls, path: str, accepted: str = "") -> "_LpFile":
        """Raise InputError for a file that is not there, not whole, no LP file, or not the one of that digest ("": any)."""
        try:
            text = storage.read_bytes(path)
        except storage.MissingFile:
            raise InputError(f"{path}: there is no such LP file", about=Subject.LP_FILE) from None
        except storage.DamagedFile:
            raise InputError(f"{path}: the LP file is not a whole gzip file", about=Subject.LP_FILE) from None
        sha256 = check_accepted(text, accepted, path, "the LP file", Subject.LP_FILE)
        return cls(path, read_lp(text, path), tract_of_lp(text), ages_of_lp(text) is not None, sha256)

    def solved(self, config: Config, geoid: str | None) -> _Solved:
        """Return the answer of the program of tract ``geoid``."""
        what = f"tract {geoid}" if geoid else self.path
        answer = solve(self.named.program, solver_options(config, self.binned), what)
        if not self.named.program.is_met_by(answer.values):
            raise SolverError(
                f"{what}: {answer.solver} gave an answer that does not meet the program's constraints exactly; nothing was kept; "
                "try another solver ([solve] solver), or smaller coefficients"
            )
        used = np.flatnonzero(answer.values)  # the predecessor also names people without a race, whom its constraints exclude
        block, kind, last = decode_names([self.named.variables[i] for i in used.tolist()], geoid, self.path, Subject.LP_FILE)
        people = BinnedPeople(block, kind, last, answer.values[used]).select(kind >= 0)
        return _Solved(self.named, answer, people)

    def explained(self, ilp_path: str, kms_key: str | None, fault: Subject) -> Infeasible:
        """Return the error for a program without a solution, which is ``fault``'s; the contradiction is written to ``ilp_path``."""
        return explained_by_names(ilp_path, self.path, self.named, kms_key, fault)


def solve_file(config: Config, lp_path: str, sol_path: str) -> str:
    """Solve an LP file that belongs to no experiment, and write its solution. Returns a sentence that says what came out.

    Nothing but the file's own constraints can be checked. Raises as :func:`solve_lp` does.
    """
    with _of_no_experiment():
        file = _LpFile.read(lp_path)
        try:
            solved = file.solved(config, file.tract)
        except Infeasible:
            raise file.explained(_ilp_beside(lp_path), config.s3.kms_key, Subject.CONSTRAINTS) from None
    geoid = file.tract or (f"{solved.people.geoid_tract[0]:011d}" if len(solved.people.kind) else None)
    if geoid is None:
        raise InputError(f"{lp_path}: names no tract, and its solution has nobody; give the LP file of a tract")
    _write(sol_path, solved.text(geoid, config.solve.seed), config.s3.kms_key)
    return f"{sol_path}: {counted(solved.people.population, 'person')} of tract {geoid}, solved with {solved.answer.solver}"


@contextmanager
def _of_no_experiment() -> Iterator[None]:
    """Have errors about an LP file be about one that no step can make again."""
    try:
        yield
    except DBReconError as error:
        if error.about is Subject.LP_FILE:
            error.about = Subject.SINGLE_LP_FILE
        raise


def _ilp_beside(lp_path: str) -> str:
    stem = lp_path.removesuffix(".gz").removesuffix(".lp")
    return f"{stem}.ilp"


def _notes(people: int, solver: str, program: Program, seed: int) -> dict[str, str]:
    return {
        "people": str(people),
        "variables": str(program.n_variables),
        "constraints": str(program.n_constraints),
        "solver": solver,
        "seed": str(seed),
    }


def _write(path: str, text: bytes, kms_key: str | None) -> None:
    with storage.sopen(path, "wb", kms_key=kms_key) as file:
        file.write(text)


def _stats(solver: str, seed: int, begin: float, file: Staged) -> SolStats:
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return SolStats(solver, time.monotonic() - begin, peak_kib // 1024, file, seed, PROGRAM)
