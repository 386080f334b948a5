"""Solving with HiGHS.

The answer is a pure function of the program, HiGHS's version and the seed: one thread, no clock in the search (the time limit ends
it with an error, never with another answer).
"""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import highspy
import numpy as np
import scipy.sparse as sp

from dbrecon.errors import SolverError, Subject
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.solve.program import ROUNDING, Answer, FloatArray, Infeasible, Options, Program, TimeLimit, rounded
from dbrecon.recon.solve.quiet_highs import CONTINUOUS, INTEGER, QuietHighs
from dbrecon.recon.solve.spread import spread

PROBING, ENUMERATION = 1 << 15, 1 << 16  # numbers of HiGHS's presolve rules (HighsPresolve: PresolveRuleType)
QUICK_PRESOLVE = {"presolve_rule_off": PROBING | ENUMERATION}
"""Without two rules that cost a third of a tract's solve and help hardly any (figures in bench/README.md)."""

WITHOUT_PRESOLVE: dict[str, float | str] = {"presolve": "off"}
"""For what propagation leaves: presolve takes longer there than the steps that it saves (figures in bench/README.md)."""

FIRST_CHECKS = 3
"""HiGHS's branch and cut asks whether to go on: twice before the search that settles nearly every tract (feasibility jump, then the
root's relaxation), and a third time when it begins to cut. Its steps are counted, not seconds: the answer is the same on any
machine."""

REST_CHECKS = 200
"""The same for what a rounded relaxation leaves, which is small."""

_SOLVED = (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kModelEmpty)
_INFEASIBLE = (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)


@lru_cache(maxsize=1)
def highs_version() -> str:
    """HiGHS's name and version."""
    return f"HiGHS {QuietHighs({}).version()}"


def _highs(
    program: Program, integer: bool, seed: int, seconds: float, strategy: Mapping[str, float | str] | None = None
) -> QuietHighs:
    """Return a solver that holds the program and our options."""
    highs = QuietHighs({**(strategy or {}), "random_seed": seed, "time_limit": seconds})
    highs.load(
        (program.starts, program.columns, program.values),
        (program.lower, program.upper),
        (program.column_lower, program.column_upper),
        np.zeros(program.n_variables) if program.cost is None else program.cost,
        INTEGER if integer else CONTINUOUS,
    )
    return highs


def solve_highs(program: Program, options: Options, what: str) -> Answer:
    """Three strategies, each for what the one before does not settle: branch and cut as far as its root; the relaxation, rounded
    down, and an integer program for the few who are left; branch and cut to its end."""
    deadline = time.monotonic() + options.seconds

    def left() -> float:
        return max(1e-3, deadline - time.monotonic())

    if program.cost is not None:
        return Answer(rounded(_optimum(program, options, left(), what), what, "HiGHS"), highs_version())
    if options.objective == "spread":
        found = _spread(program, options, left, what)
        if found is not None:
            return Answer(found, highs_version())
    status, values = _branch_and_cut(program, options.seed, left(), QUICK_PRESOLVE, FIRST_CHECKS)
    if status == highspy.HighsModelStatus.kInterrupt:
        values = _round_relaxation(program, options.seed, left)
        if values is None:
            status, values = _branch_and_cut(program, options.seed, left(), {}, None)
    if values is not None:
        return Answer(rounded(values, what, "HiGHS"), highs_version())
    if status in _INFEASIBLE:
        raise Infeasible(f"{what}: no people can make all of its published counts")
    _refuse_late(status, options, what)
    raise _unexpected(status, what)


def _unexpected(status: highspy.HighsModelStatus, what: str) -> SolverError:
    ended = QuietHighs({}).modelStatusToString(status)
    return SolverError(f"{what}: HiGHS ended with {ended!r}; try another solver or seed ([solve])")


def _optimum(program: Program, options: Options, seconds: float, what: str) -> FloatArray:
    """Return the values with the least cost, by branch and cut to its end."""
    highs = _highs(program, True, options.seed, seconds, {"mip_rel_gap": 0.0, "mip_abs_gap": 0.0})
    highs.run()
    status = highs.getModelStatus()
    if status in _SOLVED:
        return np.asarray(highs.getSolution().col_value, np.float64)
    if status == highspy.HighsModelStatus.kInfeasible or (
        status in _INFEASIBLE and feasible(replace(program, cost=None), True, seconds) is False
    ):
        raise Infeasible(f"{what}: no people can make all of its published counts")
    if status in (highspy.HighsModelStatus.kUnbounded, highspy.HighsModelStatus.kUnboundedOrInfeasible):
        raise SolverError(f"{what}: its objective has no bound: no constraint limits whom it counts; correct the program")
    _refuse_late(status, options, what)
    raise _unexpected(status, what)


def _refuse_late(status: highspy.HighsModelStatus, options: Options, what: str) -> None:
    if status == highspy.HighsModelStatus.kTimeLimit:
        raise TimeLimit(f"{what}: HiGHS found no answer in {options.seconds:g} seconds", about=Subject.SOLVER_TIME)


def _spread(program: Program, options: Options, left: Callable[[], float], what: str) -> IntArray | None:
    """Return the most plausible answer, if it is found within its budget of steps. Raises TimeLimit where the clock ends it."""

    def relaxation(units: Program, steps: int) -> FloatArray | None:
        highs = _highs(units, False, options.seed, left(), WITHOUT_PRESOLVE | {"simplex_iteration_limit": steps})
        highs.run()
        status = highs.getModelStatus()
        _refuse_late(status, options, what)
        return np.asarray(highs.getSolution().col_value, np.float64) if status in _SOLVED else None

    def rest(few: Program) -> FloatArray | None:
        if few.n_variables == 0:
            return np.zeros(0)
        status, values = _branch_and_cut(few, options.seed, left(), QUICK_PRESOLVE, REST_CHECKS)
        _refuse_late(status, options, what)
        return values

    return spread(program, relaxation, rest)


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
    rest, columns = program.without(whole)
    if rest.n_variables == 0:
        return whole
    _, found = _branch_and_cut(rest, seed, left(), QUICK_PRESOLVE, REST_CHECKS)
    if found is None:
        return None
    whole[columns] += found
    return whole


def feasible(program: Program, integer: bool, seconds: float) -> bool | None:
    """Return whether a program has a solution, by HiGHS: in integers, or its relaxation. None if the time did not suffice."""
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
