"""The linear relaxation of a system of counts in HiGHS: passed once, then only costs and bounds change and the basis stays warm."""

from dataclasses import dataclass

import highspy
import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.objective import SCALE, FloatArray
from dbrecon.recon.solve.propagation import CountSystem

DUAL_SIMPLEX, PRIMAL_SIMPLEX = 1, 4
_OPTIMAL = highspy.HighsModelStatus.kOptimal
_INFEASIBLE = (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)
ITERATIONS_AT_MOST = 200_000
"""No relaxation of a tract needs nearly as many; one that does counts as unsettled."""


@dataclass(frozen=True)
class Relaxation:
    """A solver's word: ``values`` (columns,) at an optimum and ``multipliers`` (rows,) of the sums. Without an optimum
    ``values`` is None, and
    ``multipliers`` are those of a Farkas ray if the solver has one. ``iterations`` are the simplex steps it took.
    """

    values: FloatArray | None
    multipliers: FloatArray | None
    iterations: int


class WarmLp:
    """One program, many costs. After a change of costs the old vertex is still feasible: the primal simplex goes on from it;
    after a
    change of bounds the old basis is still dual feasible: the dual simplex does."""

    def __init__(self, system: CountSystem, lower: IntArray, upper: IntArray) -> None:
        self._highs = highspy.Highs()
        for name, value in _OPTIONS.items():
            self._highs.setOptionValue(name, value)
        n = system.n_columns
        self._all = np.arange(n, dtype=np.int32)
        self._costs = np.zeros(n)
        self._lower, self._upper = lower, upper
        self._highs.passModel(
            n,
            system.n_rows,
            len(system.columns),
            int(highspy.MatrixFormat.kRowwise),
            int(highspy.ObjSense.kMinimize),
            0.0,
            self._costs,
            lower.astype(np.float64),
            upper.astype(np.float64),
            system.row_lower.astype(np.float64),
            system.row_upper.astype(np.float64),
            system.starts.astype(np.int32),
            system.columns.astype(np.int32),
            np.ones(len(system.columns)),
            np.zeros(n, np.int32),
        )
        self._simplex = 0

    def minimise(self, columns: IntArray, costs: IntArray, lower: IntArray, upper: IntArray) -> Relaxation:
        """Minimise the sum of ``costs / SCALE`` of ``columns`` within bounds of all columns, from where the last call ended."""
        bounds_change = self._set_bounds(lower, upper)
        self._set_costs(columns, costs)
        self._choose(DUAL_SIMPLEX if bounds_change else PRIMAL_SIMPLEX)
        self._highs.run()
        iterations = max(0, int(self._highs.getInfo().simplex_iteration_count))
        status = self._highs.getModelStatus()
        if status == _OPTIMAL:
            solution = self._highs.getSolution()
            return Relaxation(np.asarray(solution.col_value), np.asarray(solution.row_dual), iterations)
        if status in _INFEASIBLE:
            return Relaxation(None, self._ray(), iterations)
        self._highs.clearSolver()
        return Relaxation(None, None, iterations)

    def _set_bounds(self, lower: IntArray, upper: IntArray) -> bool:
        changed = np.flatnonzero((lower != self._lower) | (upper != self._upper))
        if len(changed):
            self._highs.changeColsBounds(
                len(changed), self._all[changed], lower[changed].astype(np.float64), upper[changed].astype(np.float64)
            )
            self._lower, self._upper = lower, upper
        return len(changed) > 0

    def _set_costs(self, columns: IntArray, costs: IntArray) -> None:
        wanted = np.zeros(len(self._costs))
        wanted[columns] = costs / SCALE
        changed = np.flatnonzero(wanted != self._costs)
        if len(changed):
            self._highs.changeColsCost(len(changed), self._all[changed], wanted[changed])
            self._costs = wanted

    def _choose(self, simplex: int) -> None:
        if simplex != self._simplex:
            self._highs.setOptionValue("simplex_strategy", simplex)
            self._simplex = simplex

    def _ray(self) -> FloatArray | None:
        _, has_ray, ray = self._highs.getDualRay()  # type: ignore[attr-defined]  # the stubs lack it
        return np.asarray(ray, np.float64) if has_ray else None


_OPTIONS: dict[str, bool | int | str] = {
    "output_flag": False,
    "threads": 1,
    "parallel": "off",
    "presolve": "off",
    "solver": "simplex",
    "random_seed": 0,
    "simplex_iteration_limit": ITERATIONS_AT_MOST,
}
