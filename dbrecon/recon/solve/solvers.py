"""Solving integer programs with HiGHS or Gurobi, behind one function.

The answer is a pure function of the program, the solver's version and the seed: one thread, no clock in the search (the time
limit ends it with an error, never with another answer).
"""

import contextlib
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import highspy
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.errors import InputError, SolverError, UsageError
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.tract.model import Model

if TYPE_CHECKING:
    import gurobipy

FloatArray = npt.NDArray[np.float64]

SOLVERS = ("auto", "highs", "gurobi")
REMEDY = "make it again (--step3 --force)"
"""What to do about an LP file of an experiment that cannot be read."""

ROUNDING = 1e-3
"""A value farther than this from an integer is no solution; what is rounded is checked in integers in any case."""

RESTRICTED_SIZE = 2000
"""Variables, and constraints, that Gurobi's size-limited licence allows (its documentation, "pip license")."""


PROBING, ENUMERATION = 1 << 15, 1 << 16  # numbers of HiGHS's presolve rules (HighsPresolve: PresolveRuleType)
QUICK_PRESOLVE = {"presolve_rule_off": PROBING | ENUMERATION}
"""Without two rules that cost a third of a tract's solve and help hardly any (figures in bench/README.md)."""

FIRST_CHECKS = 3
"""HiGHS's branch and cut asks whether to go on: twice before the search that settles nearly every tract (feasibility jump, then the
root's relaxation), and a third time when it begins to cut. Its steps are counted, not seconds: the answer is the same on any
machine."""

REST_CHECKS = 200
"""The same for what a rounded relaxation leaves, which is small."""

_SOLVED = (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kModelEmpty)
_INFEASIBLE = (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)


class Infeasible(SolverError):
    """No people can meet all constraints."""


class TimeLimit(SolverError):
    """The solver did not finish in the time it was given."""


class LicenceError(SolverError):
    """Gurobi cannot be used: no licence, one too small, or no token free."""


@dataclass(frozen=True)
class Program:
    """Find integers ``column_lower <= x <= column_upper`` with ``lower <= A x <= upper``.

    A is in compressed rows: row i has ``values[k]`` in column ``columns[k]`` for k from ``starts[i]`` up to ``starts[i + 1]``.
    """

    starts: IntArray
    columns: IntArray
    values: FloatArray
    lower: FloatArray
    upper: FloatArray
    column_lower: FloatArray
    column_upper: FloatArray

    @classmethod
    def of_model(cls, model: Model) -> "Program":
        """The program of a tract's model."""
        rhs = model.rhs.astype(np.float64)
        n = model.n_variables
        ones = np.ones(model.n_nonzeros)
        return cls(model.starts, model.columns, ones, rhs, rhs, np.zeros(n), np.full(n, np.inf))

    @property
    def n_variables(self) -> int:
        """Number of variables."""
        return len(self.column_upper)

    @property
    def n_constraints(self) -> int:
        """Number of constraints."""
        return len(self.lower)

    def matrix(self) -> sp.csr_array:
        """(constraints, variables) the coefficients."""
        return sp.csr_array((self.values, self.columns, self.starts), shape=(self.n_constraints, self.n_variables))

    def with_rows(self, rows: IntArray) -> "Program":
        """The program that keeps only some of its constraints."""
        matrix = self.matrix()[rows]
        starts, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
        return Program(starts, columns, matrix.data, self.lower[rows], self.upper[rows], self.column_lower, self.column_upper)


@dataclass(frozen=True)
class NamedProgram:
    """A program read from an LP file, with the names of its variables and constraints."""

    program: Program
    variables: tuple[str, ...]
    constraints: tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """How to solve. ``seconds``: the time limit of one program; ``token_wait``: how long to wait for a free Gurobi token."""

    solver: str = "highs"
    seed: int = 1
    seconds: float = 600.0
    token_wait: float = 600.0


@dataclass(frozen=True)
class Answer:
    """(variables,) integers, and the solver's name and version."""

    values: IntArray
    solver: str


def solve(program: Program, options: Options, what: str) -> Answer:
    """Solve a program; ``what`` names it in errors ("tract 39059977100").

    Raises Infeasible, TimeLimit, LicenceError, or SolverError for any other end than a solution.
    """
    if options.solver not in SOLVERS:
        raise UsageError(f"[solve] solver = {options.solver!r} is not a solver; take one of {', '.join(SOLVERS)}")
    if options.solver == "gurobi" or (options.solver == "auto" and gurobi_allows(program)):
        return _solve_gurobi(program, options, what)
    return _solve_highs(program, options, what)


def rounded(values: FloatArray, what: str, solver: str) -> IntArray:
    """The integers that a solver's values stand for. Raises SolverError if one is no integer."""
    integers = np.rint(values)
    if len(values) and np.abs(values - integers).max() > ROUNDING:
        raise SolverError(f"{what}: {solver} gave a value that is no integer; solve it with another solver ([solve] solver)")
    return integers.astype(np.int64)


@lru_cache(maxsize=1)
def highs_version() -> str:
    """HiGHS's name and version."""
    return f"HiGHS {highspy.Highs().version()}"


def _highs(program: Program, integer: bool, seed: int, seconds: float, strategy: dict[str, int] | None = None) -> highspy.Highs:
    """A solver that holds the program and our options."""
    highs = highspy.Highs()
    for name, value in (strategy or {}).items():
        highs.setOptionValue(name, value)
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    highs.setOptionValue("parallel", "off")
    highs.setOptionValue("random_seed", seed)
    highs.setOptionValue("time_limit", seconds)
    n = program.n_variables
    integrality = int(highspy.HighsVarType.kInteger if integer else highspy.HighsVarType.kContinuous)
    highs.passModel(
        n,
        program.n_constraints,
        len(program.columns),
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        np.zeros(n),
        program.column_lower,
        program.column_upper,
        program.lower,
        program.upper,
        program.starts.astype(np.int32),
        program.columns.astype(np.int32),
        program.values,
        np.full(n, integrality, np.int32),
    )
    return highs


def _solve_highs(program: Program, options: Options, what: str) -> Answer:
    """Three strategies, each for what the one before does not settle: branch and cut as far as its root; the relaxation, rounded
    down, and an integer program for the few who are left; branch and cut to its end."""
    deadline = time.monotonic() + options.seconds

    def left() -> float:
        return max(1e-3, deadline - time.monotonic())

    status, values = _branch_and_cut(program, options.seed, left(), QUICK_PRESOLVE, FIRST_CHECKS)
    if status == highspy.HighsModelStatus.kInterrupt:
        values = _round_relaxation(program, options.seed, left)
        if values is None:
            status, values = _branch_and_cut(program, options.seed, left(), {}, None)
    if values is not None:
        return Answer(rounded(values, what, "HiGHS"), highs_version())
    if status in _INFEASIBLE:
        raise Infeasible(f"{what}: no people can make all of its published counts")
    if status == highspy.HighsModelStatus.kTimeLimit:
        raise TimeLimit(f"{what}: HiGHS found no answer in {options.seconds:g} seconds; raise [solve] time_limit")
    ended = highspy.Highs().modelStatusToString(status)
    raise SolverError(f"{what}: HiGHS ended with {ended!r}; try another solver or seed ([solve])")


def _branch_and_cut(
    program: Program, seed: int, seconds: float, strategy: dict[str, int], checks: int | None
) -> tuple[highspy.HighsModelStatus, FloatArray | None]:
    """HiGHS's status and, if it is a solution, its values. Interrupted at the ``checks``-th time that it asks (None: never)."""
    highs = _highs(program, True, seed, seconds, strategy)
    asked = itertools.count(1)

    def ask(event: Any) -> None:
        if checks is not None and next(asked) >= checks:
            event.interrupt()

    highs.cbMipInterrupt += ask
    highs.run()
    status = highs.getModelStatus()
    return status, np.asarray(highs.getSolution().col_value, np.float64) if status in _SOLVED else None


def _round_relaxation(program: Program, seed: int, left: Callable[[], float]) -> FloatArray | None:
    """Solve the relaxation, keep what is whole in it, and solve for the rest: what is found together is exact.

    After rounding down most constraints are met, and forbid everyone they count to be one more; few variables are left. None if
    the rest has no solution (the whole may have one) or is not settled, or the program has negative coefficients.
    """
    if (program.values < 0).any():
        return None
    relaxation = _highs(program, False, seed, left(), QUICK_PRESOLVE)
    relaxation.run()
    if relaxation.getModelStatus() not in _SOLVED:
        return None
    values = np.asarray(relaxation.getSolution().col_value, np.float64)
    whole = np.maximum(np.floor(values + ROUNDING), program.column_lower)
    rest, columns = _rest(program, whole)
    if rest.n_variables == 0:
        return whole
    _, found = _branch_and_cut(rest, seed, left(), QUICK_PRESOLVE, REST_CHECKS)
    if found is None:
        return None
    whole[columns] += found
    return whole


def _rest(program: Program, whole: FloatArray) -> tuple[Program, IntArray]:
    """What is left of a program (without negative coefficients) when ``whole`` is taken; and the old numbers of its columns."""
    matrix = program.matrix()
    taken = matrix @ whole
    lower, upper = program.lower - taken, program.upper - taken
    full = upper < 0.5
    forbidden = matrix.T @ full.astype(np.float64) > 0
    columns = np.flatnonzero(~forbidden & (program.column_upper - whole > 0.5))
    rows = np.flatnonzero(~full | (lower > 0.5))
    kept = sp.csr_array(matrix[rows][:, columns])
    room = program.column_upper[columns] - whole[columns]
    starts, indices = kept.indptr.astype(np.int64), kept.indices.astype(np.int64)
    return Program(starts, indices, kept.data, lower[rows], upper[rows], np.zeros(len(columns)), room), columns


def feasible(program: Program, integer: bool, seconds: float) -> bool | None:
    """Whether a program has a solution, by HiGHS: in integers, or its relaxation. None if the time did not suffice."""
    highs = _highs(program, integer, 1, seconds)
    highs.run()
    status = highs.getModelStatus()
    if status in _SOLVED:
        return True
    return False if status in _INFEASIBLE else None


def infeasibility_duals(program: Program, seconds: float) -> FloatArray | None:
    """(constraints,) duals of "meet all constraints with the least total error": where they are not zero is a set of constraints
    that has no solution even in fractions. None if the relaxation has a solution, or time ran out.

    Source: the dual of the elastic program certifies its positive optimum by these constraints alone (Farkas' lemma).
    """
    m, n = program.n_constraints, program.n_variables
    elastic = sp.csr_array(sp.hstack([program.matrix(), sp.eye_array(m), -sp.eye_array(m)]))
    wide = Program(
        elastic.indptr.astype(np.int64),
        elastic.indices.astype(np.int64),
        elastic.data,
        program.lower,
        program.upper,
        np.concatenate([program.column_lower, np.zeros(2 * m)]),
        np.concatenate([program.column_upper, np.full(2 * m, np.inf)]),
    )
    highs = _highs(wide, False, 1, seconds)
    slack = np.arange(n, n + 2 * m, dtype=np.int32)
    highs.changeColsCost(2 * m, slack, np.ones(2 * m))
    highs.run()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal or highs.getInfo().objective_function_value < 1e-6:
        return None
    return np.asarray(highs.getSolution().row_dual, np.float64)


def read_lp(text: bytes, source: str, remedy: str = REMEDY) -> NamedProgram:
    """A program from LP text (ours, the predecessor's, or any that HiGHS reads). ``source`` names the file in errors, which
    end with ``remedy``.

    Raises InputError if the text is cut off or is no LP.
    """
    if not text.rstrip().endswith(b"End"):
        raise InputError(f"{source}: the LP file does not end with End: it is cut off; {remedy}")
    # HiGHS wants a name that ends in .lp. The file itself has none, so that a kill leaves no more than a link that leads nowhere.
    with tempfile.TemporaryFile() as file, tempfile.TemporaryDirectory(prefix="dbrecon-lp-") as folder:
        file.write(text)
        file.flush()
        path = Path(folder) / "model.lp"
        path.symlink_to(f"/proc/self/fd/{file.fileno()}")
        highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        status = highs.readModel(str(path))
    lp = highs.getLp()
    if status == highspy.HighsStatus.kError or lp.num_row_ == 0:  # HiGHS takes a text without sections for an empty program
        raise InputError(f"{source}: this is no LP file that HiGHS can read; {remedy}")
    matrix = sp.csc_array(
        (np.array(lp.a_matrix_.value_), np.array(lp.a_matrix_.index_), np.array(lp.a_matrix_.start_)),
        shape=(lp.num_row_, lp.num_col_),
    ).tocsr()
    program = Program(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int64),
        matrix.data,
        np.array(lp.row_lower_, np.float64),
        np.array(lp.row_upper_, np.float64),
        np.array(lp.col_lower_, np.float64),
        np.array(lp.col_upper_, np.float64),
    )
    return NamedProgram(program, tuple(lp.col_names_), tuple(lp.row_names_))


# Gurobi


@contextlib.contextmanager
def _gurobi_environment(wait: float) -> Iterator["gurobipy.Env"]:
    """A silent, started Gurobi environment. Raises LicenceError with the remedy."""
    gurobipy = _gurobipy()
    environment = _with_token(lambda: gurobipy.Env(params={"OutputFlag": 0}), wait)
    try:
        yield environment
    finally:
        environment.dispose()


def _gurobipy() -> Any:
    try:
        import gurobipy
    except ImportError as error:
        raise LicenceError("Gurobi is not installed here: pip install gurobipy, or set [solve] solver = highs") from error
    return gurobipy


def no_token_free(message: str) -> bool:
    """Whether Gurobi's message of a licence error says that all tokens are taken for now, so that waiting helps."""
    text = message.lower()
    return "token" in text and any(word in text for word in ("in use", "unavailable", "no available", "exceed"))


def _with_token(start: Callable[[], Any], wait: float) -> Any:
    """Call ``start``, again and again while no token is free, at growing and jittered intervals, for ``wait`` seconds at most."""
    gurobipy = _gurobipy()
    deadline = time.monotonic() + wait
    pause = 1.0
    while True:
        try:
            return start()
        except gurobipy.GurobiError as error:
            if error.errno != gurobipy.GRB.Error.NO_LICENSE:
                raise SolverError(f"Gurobi does not start: {error}; set [solve] solver = highs to do without") from error
            if not no_token_free(str(error)):
                raise LicenceError(
                    f"Gurobi has no licence here ({error}): set GRB_LICENSE_FILE to one, or set [solve] solver = highs"
                ) from error
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise LicenceError(
                    f"no Gurobi token became free in {wait:g} seconds ({error}): raise [solve] gurobi_token_wait, run fewer "
                    "workers, or set [solve] solver = highs"
                ) from error
            time.sleep(min(remaining, pause * random.uniform(0.5, 1.5)))
            pause = min(60.0, pause * 2)


@lru_cache(maxsize=1)
def gurobi_is_restricted() -> bool | None:
    """Whether Gurobi's licence here is the size-limited one; None if there is no Gurobi or no licence."""
    try:
        gurobipy = _gurobipy()
        with _gurobi_environment(0.0) as environment, gurobipy.Model(env=environment) as model:
            model.addMVar(RESTRICTED_SIZE + 1)
            model.optimize()
    except LicenceError:
        return None
    except gurobipy.GurobiError as error:
        if error.errno == gurobipy.GRB.Error.SIZE_LIMIT_EXCEEDED:
            return True
        raise SolverError(f"Gurobi does not work here: {error}; set [solve] solver = highs") from error
    return False


def gurobi_allows(program: Program) -> bool:
    """Whether Gurobi is here with a licence for a program of this size."""
    restricted = gurobi_is_restricted()
    if restricted is None:
        return False
    return not restricted or max(program.n_variables, program.n_constraints) <= RESTRICTED_SIZE


def _solve_gurobi(program: Program, options: Options, what: str) -> Answer:
    gurobipy = _gurobipy()
    solver = "Gurobi " + ".".join(map(str, gurobipy.gurobi.version()))
    try:
        with _gurobi_environment(options.token_wait) as environment, gurobipy.Model(env=environment) as model:
            variables = _load_gurobi(gurobipy, model, program, options, what)
            model.optimize()
            _check_gurobi_status(gurobipy, model.Status, options, what)
            return Answer(rounded(np.asarray(variables.X, np.float64), what, "Gurobi"), solver)
    except gurobipy.GurobiError as error:
        if error.errno == gurobipy.GRB.Error.SIZE_LIMIT_EXCEEDED:
            raise LicenceError(
                f"{what}: Gurobi's licence here is limited in size (the program has {program.n_variables} variables and "
                f"{program.n_constraints} constraints): get a full licence, or set [solve] solver = auto or highs"
            ) from error
        raise SolverError(f"{what}: Gurobi failed: {error}; set [solve] solver = highs to do without") from error


def _load_gurobi(gurobipy: Any, model: Any, program: Program, options: Options, what: str) -> Any:
    """Put the program into a Gurobi model; return its variables."""
    model.Params.Threads = 1
    model.Params.Seed = options.seed
    model.Params.TimeLimit = options.seconds
    model.Params.MIPGap = 0
    variables = model.addMVar(program.n_variables, lb=program.column_lower, ub=program.column_upper, vtype=gurobipy.GRB.INTEGER)
    equal = program.lower == program.upper
    senses = np.where(equal, "=", np.where(np.isinf(program.lower), "<", ">"))
    if (~equal & np.isfinite(program.lower) & np.isfinite(program.upper)).any():
        raise InputError(f"{what}: the program has a constraint with two bounds, which no census table makes")
    rhs = np.where(np.isinf(program.lower), program.upper, program.lower)
    model.addMConstr(program.matrix(), variables, senses, rhs)
    return variables


def _check_gurobi_status(gurobipy: Any, status: int, options: Options, what: str) -> None:
    if status in (gurobipy.GRB.INFEASIBLE, gurobipy.GRB.INF_OR_UNBD):
        raise Infeasible(f"{what}: no people can make all of its published counts")
    if status == gurobipy.GRB.TIME_LIMIT:
        raise TimeLimit(f"{what}: Gurobi found no answer in {options.seconds:g} seconds; raise [solve] time_limit")
    if status != gurobipy.GRB.OPTIMAL:
        raise SolverError(f"{what}: Gurobi ended with status {status}; set [solve] solver = highs")
