"""The same minimum by HiGHS's branch and cut: its cuts close what a tree of chords does not, but its word is floating point.

min(x, h) is written with one binary z a count whose cap lies strictly between its bounds: m >= x - (u - h) z, m >= h - (h -
l)(1 - z).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.objective import FloatArray, Objective
from dbrecon.recon.solve.propagation import CountSystem
from dbrecon.recon.solve.quiet_highs import CONTINUOUS, INTEGER, QuietHighs

SURE = 1e-5
"""How far above an integer the solver's bound must be before the next integer is taken for the least."""


@dataclass(frozen=True)
class MipAnswer:
    """``bound``: the least value by the solver's word; ``values`` (columns,) the best that it found, or None; ``checks``: its
    work, in the
    number of times that it asked whether to go on; ``finished``: whether it had its way."""

    bound: int
    values: FloatArray | None
    checks: int
    finished: bool


def solve_mip(
    system: CountSystem,
    lower: IntArray,
    upper: IntArray,
    objective: Objective,
    known: IntArray,
    checks: int,
    target: int | None = None,
    floors: Sequence[tuple[IntArray, int]] = (),
) -> MipAnswer:
    """Minimise an objective from the solution ``known``; interrupted when HiGHS asks for the ``checks``-th time whether to go on.

    Each of ``floors`` are terms of the objective and a number that they are known not to be below together. A solution whose value
    is ``target`` ends it too. These checks are steps of its search, not of a clock: the answer is the
    same on any machine.
    """
    highs = _program(system, lower, upper, objective, known, floors)
    asked = itertools.count(1)
    last = 0

    def ask(event: Any) -> None:
        nonlocal last
        last = next(asked)
        if last >= checks:
            event.interrupt()

    if target is not None:
        highs.setOptionValue("objective_target", target + 0.5)
    highs.cbMipInterrupt += ask
    highs.run()
    finished = highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    info = highs.getInfo()
    has_values = info.primal_solution_status == 2  # feasible
    values = np.asarray(highs.getSolution().col_value)[: system.n_columns] if has_values else None
    return MipAnswer(int(np.ceil(info.mip_dual_bound - SURE)) if finished else 0, values, last, finished)


def _program(
    system: CountSystem,
    lower: IntArray,
    upper: IntArray,
    objective: Objective,
    known: IntArray,
    floors: Sequence[tuple[IntArray, int]],
) -> QuietHighs:
    """Return the program in HiGHS, with the solution ``known`` as its start: counts, then m, then z of each count in the middle."""
    n = system.n_columns
    columns, caps, weights = objective.columns, objective.caps, objective.weights
    middle = (lower[columns] < caps) & (caps < upper[columns])
    inside, h = columns[middle], caps[middle]
    low, high = lower[inside], upper[inside]
    k = len(inside)
    costs = np.zeros(n + 2 * k)
    linear = ~middle & (caps >= upper[columns])
    costs[columns[linear]] = weights[linear]
    costs[n : n + k] = weights[middle]
    constant = float((weights * np.minimum(lower[columns], caps))[~middle & ~linear].sum())
    matrix = _rows(system, inside, high - h, h - low)
    beside = np.where(middle | linear, 0, weights * np.minimum(lower[columns], caps))
    of_terms = _terms(n, k, objective, middle, linear)
    picks = [sp.csr_array(of_terms[terms].sum(axis=0)[None, :]) for terms, _ in floors]
    least = np.array([value - int(beside[terms].sum()) for terms, value in floors], np.float64)
    matrix = sp.csr_array(sp.vstack([matrix, *picks])) if picks else matrix
    m = np.minimum(known[inside], h)
    start = np.concatenate([known, m, (known[inside] > h).astype(np.int64)]).astype(np.float64)
    kinds = np.full(n + 2 * k, INTEGER, np.int32)
    kinds[n : n + k] = CONTINUOUS
    row_lower = np.concatenate([system.row_lower, np.zeros(k, np.int64), low, least])
    row_upper = np.concatenate([system.row_upper, np.full(2 * k + len(floors), np.inf)])
    column_lower = np.concatenate([lower, np.minimum(low, h), np.zeros(k, np.int64)])
    column_upper = np.concatenate([upper, h, np.ones(k, np.int64)])
    highs = QuietHighs(_OPTIONS)
    rows = (matrix.indptr, matrix.indices, matrix.data)
    highs.load(rows, (row_lower, row_upper), (column_lower, column_upper), costs, kinds, constant)
    solution = highspy.HighsSolution()
    solution.col_value = start.tolist()
    highs.setSolution(solution)
    return highs


def _terms(n: int, k: int, objective: Objective, middle: npt.NDArray[np.bool_], linear: npt.NDArray[np.bool_]) -> sp.csr_array:
    """Return (terms of the objective, variables) each term but its constant, in counts and m."""
    variable = np.where(linear, objective.columns, 0)
    variable[middle] = n + np.arange(k)
    used = np.flatnonzero(middle | linear)
    values = objective.weights[used].astype(np.float64)
    return sp.csr_array((values, (used, variable[used])), shape=(len(objective.columns), n + 2 * k))


def _rows(system: CountSystem, inside: IntArray, above: IntArray, below: IntArray) -> sp.csr_array:
    """Return the sums, then m - x + above z >= 0 and m - below z >= low for each count in the middle."""
    n, k = system.n_columns, len(inside)
    sums = sp.csr_array((np.ones(len(system.columns)), system.columns, system.starts), shape=(system.n_rows, n))
    pick = sp.csr_array((np.ones(k), (np.arange(k), inside)), shape=(k, n))
    identity, nothing = sp.eye_array(k), sp.csr_array((k, n))
    return sp.csr_array(
        sp.vstack(
            [
                sp.hstack([sums, sp.csr_array((system.n_rows, 2 * k))]),
                sp.hstack([-pick, identity, sp.diags_array(above.astype(np.float64))]),
                sp.hstack([nothing, identity, -sp.diags_array(below.astype(np.float64))]),
            ]
        )
    )


_OPTIONS: dict[str, bool | int | float | str] = {
    "random_seed": 0,
    "mip_abs_gap": 0.99,  # the values are whole
    "mip_rel_gap": 0.0,
}
