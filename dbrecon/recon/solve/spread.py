"""The most plausible of a program's answers: people spread over kinds as evenly as the counts allow.

The tables leave many answers. For people of single races the likelihood under any national table of sex, age, race and origin is
the same for all of them, since the tract publishes those counts; what tells them apart is in how many ways the people can be
arranged. The answer with most arrangements makes the sum of log(x!) least. That is a sum of convex functions, so unit columns with
costs log 1, log 2, log 3, ... make it a linear program, whose vertices are nearly always whole.

First, bounds that follow from the counts alone (:mod:`dbrecon.recon.solve.propagation`) fix most variables: the linear program is
of the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from dbrecon.recon.census.factorials import log_factorial
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.solve.program import FloatArray, Program
from dbrecon.recon.solve.propagation import UNBOUNDED, Contradiction, CountSystem, propagate

WHOLE = 1e-6
"""How near to whole numbers a vertex is that is whole."""

SINGLE_UNITS = 8
"""So many units of a variable have columns of their own; then come columns of 2, 4, 8 ... units at their mean cost."""

STEPS = 2000
STEPS_A_ROW = 4
"""The budget of the linear program: simplex iterations, and so many more for each constraint. Tracts take half a step a row."""

Relaxation = Callable[[Program, int], FloatArray | None]
"""Solves a program's relaxation within a number of steps: its values, or None where they do not suffice."""

Rest = Callable[[Program], FloatArray | None]
"""Solves a program in integers: its values, or None where that fails."""


@dataclass(frozen=True)
class Open:
    """What propagation leaves of a program: variables ``columns`` count ``lower`` at least, and ``program`` is of what they count
    more."""

    columns: IntArray
    lower: IntArray
    program: Program


def spread(program: Program, relaxation: Relaxation, rest: Rest) -> IntArray | None:
    """Return (variables,) the integers that meet the program and have the least sum of log(x!), or near it.

    None if the program is none of counts, the budget does not suffice, or what the relaxation leaves fractional cannot be
    completed.
    """
    reduced = _reduced(program)
    if reduced is None:
        return None
    answer = reduced.lower
    if len(reduced.columns):
        units = _Units.of(reduced)
        values = relaxation(units.program, STEPS + STEPS_A_ROW * reduced.program.n_constraints)
        if values is None:
            return None
        more = _completed(reduced.program, units.counts(values), rest)
        if more is None:
            return None
        answer = answer.copy()
        answer[reduced.columns] += more
    return answer


def _reduced(program: Program) -> Open | None:
    """Return the program without the variables that the counts alone fix. None if it is none of counts, or contradicts itself."""
    if not (program.values == 1).all() or (np.diff(program.starts) == 0).any() or not program.n_constraints:
        return None
    least = np.maximum(program.lower, 0).astype(np.int64)
    most = np.minimum(program.upper, float(UNBOUNDED)).astype(np.int64)
    system = CountSystem(program.starts, program.columns, least, most, program.n_variables)
    highest = np.minimum(program.column_upper, float(UNBOUNDED)).astype(np.int64)
    try:
        lower, upper = propagate(system, program.column_lower.astype(np.int64), highest)
    except Contradiction:
        return None
    columns = np.flatnonzero(upper > lower)
    if len(columns) and upper[columns].max() >= UNBOUNDED:
        return None
    left, _ = system.restrict(columns, lower)
    taken = left.sums(lower[columns])
    low, high = (left.row_lower - taken).astype(np.float64), (left.row_upper - taken).astype(np.float64)
    high[left.row_upper > UNBOUNDED // 2] = np.inf
    room = (upper[columns] - lower[columns]).astype(np.float64)
    return Open(columns, lower, Program(left.starts, left.columns, np.ones(len(left.columns)), low, high, 0 * room, room))


@dataclass(frozen=True)
class _Units:
    """The relaxation in unit columns: ``variable`` (columns,) is whose units each holds."""

    variable: IntArray
    program: Program

    @classmethod
    def of(cls, reduced: Open) -> "_Units":
        """Return columns of one unit each, then of 2, 4, 8 ... units, up to each variable's bound."""
        least, room = reduced.lower[reduced.columns], reduced.program.column_upper.astype(np.int64)
        steps = np.concatenate([np.arange(SINGLE_UNITS), SINGLE_UNITS - 2 + 2 ** np.arange(1, 41)])  # where each column begins
        number = np.searchsorted(steps, room)  # columns of each variable
        variable = np.repeat(np.arange(len(room)), number)
        which = np.arange(len(variable)) - np.repeat(np.cumsum(number) - number, number)
        begin, end = steps[which], np.minimum(steps[which + 1], room[variable])
        base = least[variable]
        cost = (log_factorial(base + end) - log_factorial(base + begin)) / (end - begin)
        matrix = sp.csr_array(reduced.program.matrix().tocsc()[:, variable])
        starts, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
        low, high, width = reduced.program.lower, reduced.program.upper, (end - begin).astype(np.float64)
        return cls(variable, Program(starts, columns, matrix.data, low, high, 0 * width, width, cost))

    def counts(self, values: FloatArray) -> FloatArray:
        """Return (variables,) what the columns' values make."""
        return np.bincount(self.variable, weights=values).astype(np.float64)


def _completed(program: Program, values: FloatArray, rest: Rest) -> IntArray | None:
    """Return the values where they are whole; else rounded down, with an integer program for those who are left."""
    whole = np.floor(values + WHOLE)
    if (values - whole > WHOLE).any():
        left, columns = program.without(whole)
        found = rest(left)
        if found is None:
            return None
        whole[columns] += found
    return whole.astype(np.int64)
