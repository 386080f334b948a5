"""Solving with Gurobi, where it is installed and has a licence."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dbrecon.errors import InputError, SolverError, Subject

if TYPE_CHECKING:
    import gurobipy

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.solve.program import (
    RESTRICTED_SIZE,
    Answer,
    FloatArray,
    Infeasible,
    LicenceError,
    Options,
    Program,
    TimeLimit,
    rounded,
)
from dbrecon.recon.solve.spread import spread

REST_NODES = 100
"""Of branch and bound, for what a rounded relaxation leaves, which is small."""


@contextlib.contextmanager
def _gurobi_environment(wait: float) -> Iterator["gurobipy.Env"]:
    """Yield a silent, started Gurobi environment. Raises LicenceError."""
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
        raise LicenceError("Gurobi is not installed here", about=Subject.GUROBI_PACKAGE) from error
    return gurobipy


def no_token_free(message: str) -> bool:
    """Return whether Gurobi's message of a licence error says that all tokens are taken for now, so that waiting helps."""
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
                raise SolverError(f"Gurobi does not start: {error}", about=Subject.SOLVER) from error
            if not no_token_free(str(error)):
                raise LicenceError(f"Gurobi has no licence here ({error})", about=Subject.GUROBI_LICENCE) from error
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise LicenceError(
                    f"no Gurobi token became free in {wait:g} seconds ({error})", about=Subject.GUROBI_TOKEN
                ) from error
            time.sleep(min(remaining, pause * random.uniform(0.5, 1.5)))
            pause = min(60.0, pause * 2)


@lru_cache(maxsize=1)
def gurobi_is_restricted() -> bool | None:
    """Return whether Gurobi's licence here is the size-limited one; None if there is no Gurobi or no licence."""
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
        raise SolverError(f"Gurobi does not work here: {error}", about=Subject.SOLVER) from error
    return False


def gurobi_allows(program: Program) -> bool:
    """Return whether Gurobi is here with a licence for a program of this size."""
    restricted = gurobi_is_restricted()
    if restricted is None:
        return False
    return not restricted or max(program.n_variables, program.n_constraints) <= RESTRICTED_SIZE


def solve_gurobi(program: Program, options: Options, what: str) -> Answer:
    """Solve a program with Gurobi; raises what :func:`dbrecon.recon.solve.solvers.solve` does."""
    gurobipy = _gurobipy()
    solver = "Gurobi " + ".".join(map(str, gurobipy.gurobi.version()))
    try:
        with _gurobi_environment(options.token_wait) as environment, gurobipy.Model(env=environment) as model:
            found = _spread(gurobipy, environment, program, options, what) if options.objective == "spread" else None
            if found is not None:
                return Answer(found, solver)
            variables = _load_gurobi(gurobipy, model, program, options, what)
            model.optimize()
            _check_gurobi_status(gurobipy, model.Status, options, what)
            return Answer(rounded(np.asarray(variables.X, np.float64), what, "Gurobi"), solver)
    except gurobipy.GurobiError as error:
        if error.errno == gurobipy.GRB.Error.SIZE_LIMIT_EXCEEDED:
            raise LicenceError(
                f"{what}: Gurobi's licence here is limited in size (the program has {program.n_variables} variables and "
                f"{program.n_constraints} constraints)",
                about=Subject.GUROBI_SIZE,
            ) from error
        raise SolverError(f"{what}: Gurobi failed: {error}", about=Subject.SOLVER) from error


def _spread(gurobipy: Any, environment: Any, program: Program, options: Options, what: str) -> IntArray | None:
    """Return the most plausible answer, if it is found within its budget of steps and the licence allows its linear program."""

    def values(few: Program, integer: bool, limit: str, steps: int) -> FloatArray | None:
        if gurobi_is_restricted() and max(few.n_variables, few.n_constraints) > RESTRICTED_SIZE:
            return None
        with gurobipy.Model(env=environment) as model:
            variables = _load_gurobi(gurobipy, model, few, options, what, integer)
            model.setParam(limit, steps)
            model.optimize()
            if model.Status == gurobipy.GRB.TIME_LIMIT:
                _check_gurobi_status(gurobipy, model.Status, options, what)
            return np.asarray(variables.X, np.float64) if model.Status == gurobipy.GRB.OPTIMAL else None

    def relaxation(units: Program, steps: int) -> FloatArray | None:
        return values(units, False, "IterationLimit", steps)

    def rest(few: Program) -> FloatArray | None:
        return np.zeros(0) if few.n_variables == 0 else values(few, True, "NodeLimit", REST_NODES)

    return spread(program, relaxation, rest)


def _load_gurobi(gurobipy: Any, model: Any, program: Program, options: Options, what: str, integer: bool = True) -> Any:
    """Put the program, or its relaxation, into a Gurobi model; return its variables."""
    model.Params.Threads = 1
    model.Params.Seed = options.seed
    model.Params.TimeLimit = options.seconds
    model.Params.MIPGap = 0
    if program.cost is not None:
        model.Params.DualReductions = 0  # so that it tells "no bound" from "no solution"
    kind = gurobipy.GRB.INTEGER if integer else gurobipy.GRB.CONTINUOUS
    cost = 0.0 if program.cost is None else program.cost
    variables = model.addMVar(program.n_variables, lb=program.column_lower, ub=program.column_upper, obj=cost, vtype=kind)
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
    if status == gurobipy.GRB.UNBOUNDED:
        raise SolverError(f"{what}: its objective has no bound: no constraint limits whom it counts; correct the program")
    if status == gurobipy.GRB.TIME_LIMIT:
        raise TimeLimit(f"{what}: Gurobi found no answer in {options.seconds:g} seconds", about=Subject.SOLVER_TIME)
    if status != gurobipy.GRB.OPTIMAL:
        raise SolverError(f"{what}: Gurobi ended with status {status}", about=Subject.SOLVER)
