"""The least shared people of all independent parts of a system at once: one linear program closes most of them.

Parts do not meet in any sum, so the optimum of the whole is that of each part, and so are its multipliers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.objective import SCALE, FloatArray, Objective, scaled, too_large
from dbrecon.recon.certainty.part import WHOLE, Part
from dbrecon.recon.solve.propagation import CountSystem


@dataclass(frozen=True)
class JointMinima:
    """Of each part (parts,): the least shared people, as far as a linear program and its solution prove it (``closed``), or bounds
    alone do (``settled``); ``steps``: the work."""

    least: IntArray
    closed: npt.NDArray[np.bool_]
    settled: npt.NDArray[np.bool_]
    steps: int


def shared_minima(
    system: CountSystem, lower: IntArray, upper: IntArray, label: IntArray, n_parts: int, counts: IntArray
) -> JointMinima:
    """Minimise the people in common with ``counts``, a solution, over each part: ``label`` (columns,) as of ``components``."""
    columns = np.flatnonzero(label >= 0)
    bound = _binding(system, lower, upper).restrict(columns, counts)[0]
    part = Part(bound, lower[columns], upper[columns], counts[columns])
    filled = np.flatnonzero(part.known > 0)
    objective = Objective.shared(filled, part.known[filled])
    costs, constants = objective.lines(part.lower, part.upper)
    of_column = label[columns]
    of_term = of_column[filled]
    people = _sums(of_term, objective.caps, n_parts)
    ends = np.minimum(costs * part.lower[filled], costs * part.upper[filled])
    settled = _ceiling(_sums(of_term, ends + constants, n_parts)) >= people
    nothing = JointMinima(people, settled, settled, part.steps)
    if settled.all():
        return nothing
    answer = part.relax(filled, costs, part.lower, part.upper)
    multipliers = None if answer.values is None or answer.multipliers is None else scaled(answer.multipliers)
    if answer.values is None or multipliers is None:
        return nothing
    reduced = -bound.combine(multipliers)
    reduced[filled] += costs
    if too_large(bound, part.lower, part.upper, reduced, multipliers):
        return nothing
    of_rows = np.where(multipliers > 0, multipliers * bound.row_lower, multipliers * bound.row_upper)
    total = _sums(of_term, constants, n_parts)
    total += _sums(of_column[bound.columns[bound.starts[:-1]]], of_rows, n_parts)
    total += _sums(of_column, np.minimum(reduced * part.lower, reduced * part.upper), n_parts)
    value = _sums(of_term, _values(objective, answer.values), n_parts)
    met = _met(part, of_column, answer.values, n_parts)
    closed = settled | (met & (value <= _ceiling(total)))
    return JointMinima(np.where(settled, people, value), closed, settled, part.steps)


def _binding(system: CountSystem, lower: IntArray, upper: IntArray) -> CountSystem:
    """Return the sums that can be missed within the bounds: the others say nothing."""
    binding = (system.sums(upper) > system.row_upper) | (system.sums(lower) < system.row_lower)
    rows = np.flatnonzero(binding)
    starts = np.concatenate([[0], np.cumsum(np.diff(system.starts)[rows])])
    columns = system.columns[binding[system.row_of]]
    return CountSystem(starts, columns, system.row_lower[rows], system.row_upper[rows], system.n_columns)


def _values(objective: Objective, values: FloatArray) -> IntArray:
    """Return (terms,) of the whole numbers next to a solver's values."""
    return np.minimum(np.rint(values[objective.columns]).astype(np.int64), objective.caps)


def _met(part: Part, of_column: IntArray, values: FloatArray, n_parts: int) -> npt.NDArray[np.bool_]:
    """Return (parts,) whether a solver's values are whole there, and meet every bound and sum."""
    counts = np.rint(values).astype(np.int64)
    system = part.system
    bad = (np.abs(values - counts) > WHOLE) | (counts < part.lower) | (counts > part.upper)
    sums = system.sums(counts)
    missed = (sums < system.row_lower) | (sums > system.row_upper)
    met = np.ones(n_parts, bool)
    met[of_column[bad]] = False
    met[of_column[system.columns[system.starts[:-1]]][missed]] = False
    return met


def _sums(label: IntArray, values: IntArray, n_parts: int) -> IntArray:
    total = np.zeros(n_parts, np.int64)
    np.add.at(total, label, values)
    return total


def _ceiling(total: IntArray) -> IntArray:
    return -(-total // SCALE)
