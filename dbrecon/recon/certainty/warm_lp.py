"""The linear relaxation of a system of counts in HiGHS: passed once, then only costs and bounds change and the basis stays warm."""

from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.objective import SCALE, FloatArray
from dbrecon.recon.solve.propagation import CountSystem
from dbrecon.recon.solve.quiet_highs import CONTINUOUS, QuietHighs

DUAL_SIMPLEX, PRIMAL_SIMPLEX = 1, 4
_OPTIMAL = highspy.HighsModelStatus.kOptimal
_INFEASIBLE = (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)
ITERATIONS_AT_MOST = 200_000
"""No relaxation of a tract needs nearly as many; one that does counts as unsettled."""
SIMPLEX_OPTIONS: dict[str, bool | int | float | str] = {"presolve": "off", "solver": "simplex", "random_seed": 0}


@dataclass(frozen=True)
class Relaxation:
    """A solver's word: ``values`` (columns,) at an optimum and ``multipliers`` (rows,) of the sums. Without an optimum
    ``values`` is None, and
    ``multipliers`` are those of a Farkas ray if the solver has one. ``iterations`` are the simplex steps it took; ``prices``
    (clusters,) what the floors of clusters are worth at the optimum, from 0 to 1.
    """

    values: FloatArray | None
    multipliers: FloatArray | None
    iterations: int
    prices: FloatArray | None = None


class WarmLp:
    """One program, many costs. After a change of costs the old vertex is still feasible: the primal simplex goes on from it;
    after a
    change of bounds the old basis is still dual feasible: the dual simplex does.

    ``clusters`` are disjoint sets of columns whose costs together may be given a floor: the program has a surplus for each, which
    is what the floor is above the costs. ``begin`` is a program of the same system, from whose basis this one starts.
    """

    def __init__(
        self,
        system: CountSystem,
        lower: IntArray,
        upper: IntArray,
        clusters: Sequence[IntArray] = (),
        begin: "WarmLp | None" = None,
    ) -> None:
        self._highs = QuietHighs(SIMPLEX_OPTIONS | {"simplex_iteration_limit": ITERATIONS_AT_MOST})
        n, k = system.n_columns, len(clusters)
        self._n, self._n_rows = n, system.n_rows
        self._all = np.arange(n, dtype=np.int32)
        self._costs = np.zeros(n)
        self._lower, self._upper = lower, upper
        self._cluster = np.full(n, -1)
        for number, columns in enumerate(clusters):
            self._cluster[columns] = number
        self._floors = np.full(k, -np.inf)
        self._simplex = 0
        self._pass(system, k)
        if begin is not None:
            self._start_from(begin)

    def _pass(self, system: CountSystem, k: int) -> None:
        """Give the program to the solver: the sums, then a row a cluster, whose costs are not known yet, with its surplus."""
        n = self._n
        nothing, infinite = np.zeros(k), np.full(k, np.inf)
        starts = np.concatenate([system.starts, len(system.columns) + np.arange(1, k + 1)])
        columns = np.concatenate([system.columns, n + np.arange(k)])
        self._highs.load(
            (starts, columns, np.ones(len(columns))),
            (np.concatenate([system.row_lower, self._floors]), np.concatenate([system.row_upper, infinite])),
            (np.concatenate([self._lower, nothing]), np.concatenate([self._upper, infinite])),
            np.concatenate([self._costs, np.ones(k)]),
            CONTINUOUS,
        )

    def _start_from(self, other: "WarmLp") -> None:
        """Begin at another program's basis: its columns and sums as they are, surpluses at 0, clusters' rows free to move."""
        basis = other._highs.getBasis()
        if not basis.valid:
            return
        k = len(self._floors)
        basis.col_status = list(basis.col_status)[: self._n] + [highspy.HighsBasisStatus.kLower] * k
        basis.row_status = list(basis.row_status)[: self._n_rows] + [highspy.HighsBasisStatus.kBasic] * k
        self._highs.setBasis(basis)

    def minimise(
        self, columns: IntArray, costs: IntArray, lower: IntArray, upper: IntArray, floors: FloatArray | None = None
    ) -> Relaxation:
        """Minimise the sum of ``costs / SCALE`` of ``columns`` within bounds of all columns, from where the last call ended.

        A cluster's share of the sum counts as ``floors`` (clusters,) at the least.
        """
        bounds_change = self._set_bounds(lower, upper)
        self._set_costs(columns, costs)
        if floors is not None:
            self._set_floors(floors)
        self._choose(DUAL_SIMPLEX if bounds_change or floors is not None else PRIMAL_SIMPLEX)
        self._highs.run()
        iterations = max(0, int(self._highs.getInfo().simplex_iteration_count))
        status = self._highs.getModelStatus()
        if status == _OPTIMAL:
            solution = self._highs.getSolution()
            values, duals = np.asarray(solution.col_value), np.asarray(solution.row_dual)
            return Relaxation(values[: self._n], duals[: self._n_rows], iterations, duals[self._n_rows :])
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
        wanted = np.zeros(self._n)
        wanted[columns] = costs / SCALE
        changed = np.flatnonzero(wanted != self._costs)
        if len(changed):
            self._highs.changeColsCost(len(changed), self._all[changed], wanted[changed])
            self._costs = wanted
        for column in changed[self._cluster[changed] >= 0].tolist():
            self._highs.changeCoeff(self._n_rows + int(self._cluster[column]), column, float(wanted[column]))

    def _set_floors(self, floors: FloatArray) -> None:
        for number in np.flatnonzero(floors != self._floors).tolist():
            self._highs.changeRowBounds(self._n_rows + number, float(floors[number]), np.inf)
        self._floors = floors

    def _choose(self, simplex: int) -> None:
        if simplex != self._simplex:
            self._highs.setOptionValue("simplex_strategy", simplex)
            self._simplex = simplex

    def _ray(self) -> FloatArray | None:
        _, has_ray, ray = self._highs.getDualRay()  # type: ignore[attr-defined]  # the stubs lack it
        return np.asarray(ray, np.float64)[: self._n_rows] if has_ray else None
