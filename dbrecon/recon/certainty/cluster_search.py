"""Branch and bound with floors of clusters (:mod:`.clusters`) in every relaxation.

Where f is a sum of terms and v a floor of its terms in a cluster, f is at least u v + (1 - u) times these terms, for any u from 0
to 1, and of what is left the chords are taken. The best u are the prices of the floors in a linear program that knows them. A wide
cluster has the tract's sums of one sex too, beside those of its blocks: its floor takes what blocks share into account, and is
found by this search itself, with the floors of its block's clusters.
"""

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.clusters import Cluster, Clusters
from dbrecon.recon.certainty.objective import SCALE, FloatArray, Objective, Shares
from dbrecon.recon.certainty.part import Part
from dbrecon.recon.certainty.search import Floor, Proof, Search
from dbrecon.recon.certainty.warm_lp import Relaxation
from dbrecon.recon.solve.propagation import UNBOUNDED, Contradiction, propagate

STEPS_A_WIDE_FLOOR = 8_000
"""Simplex steps that the floor of a wide cluster may take."""

DESCENTS = 8
"""Linear programs of a descent at the most."""

ROUNDINGS = 6
"""Linear programs that a solution of one descent's step may take."""

DESCEND_EVERY = 10
"""Pieces of a search from whose vertices one descent begins."""


def descend(
    part: Part, objective: Objective, above: npt.NDArray[np.bool_], lower: IntArray, upper: IntArray, enough: int | None = None
) -> None:
    """Collect solutions within bounds, ever lower, from a pattern: ``above`` (terms of the objective,) are those that may rise
    above their caps without a cost, the others cost what they count. A concave function is nowhere above its tangents, so that each
    linear program's optimum is at least as low as the last solution; counts at their caps change sides. It ends where a step does
    not go down, or has reached what is ``enough``.
    """
    lowest = None
    for _ in range(DESCENTS):
        costs = np.where(above, 0, objective.weights * SCALE)
        counts = _rounded(part, objective.columns, costs, lower, upper)
        if counts is None:
            return
        value, values = int(objective.value(counts)), counts[objective.columns]
        if lowest is not None and value >= lowest:
            return
        if enough is not None and value <= enough:
            return
        lowest, above = value, (values > objective.caps) | ((values == objective.caps) & ~above)


def shares_at(prices: FloatArray, floors: IntArray, clusters: Clusters) -> Shares:
    """Return what a solver's prices (clusters,) of floors (clusters,) leave of an objective's terms; prices are taken as from 0 to
    1."""
    price = np.clip(np.rint(np.nan_to_num(prices) * SCALE), 0, SCALE).astype(np.int64)
    kept = np.full(len(clusters.objective.columns), SCALE)
    for cluster, of_cluster in zip(clusters.members, price.tolist(), strict=True):
        kept[cluster.terms] -= of_cluster
    return Shares(kept, int((price * floors).sum()))


def _rounded(part: Part, columns: IntArray, costs: IntArray, lower: IntArray, upper: IntArray) -> IntArray | None:
    """Return a solution at, or near, the least of the costs: what is not whole at a vertex is fixed at the next integer, one by
    one."""
    for _ in range(ROUNDINGS):
        answer = part.relax(columns, costs, lower, upper)
        if answer.values is None:
            return None
        counts = part.offer(answer.values)
        if counts is not None:
            return counts
        nearest = np.rint(answer.values)
        column = int(np.argmax(np.abs(answer.values - nearest)))
        low, high = lower.copy(), upper.copy()
        low[column] = high[column] = min(max(int(nearest[column]), int(lower[column])), int(upper[column]))
        try:
            lower, upper = propagate(part.system, low, high)
        except Contradiction:
            return None
    return None


class ClusterSearch(Search):
    """The same tree, with floors of clusters in every relaxation."""

    def __init__(
        self,
        part: Part,
        objective: Objective,
        clusters: Clusters,
        last_step: int,
        best: tuple[int, IntArray] | None = None,
        floor: Floor | None = None,
    ) -> None:
        super().__init__(part, objective, last_step, best, floor)
        self.clusters = clusters
        self._floors = np.zeros(len(clusters.members), np.int64)  # of the piece that is looked at
        self._lp = part.with_clusters([cluster.columns for cluster in clusters.members])

    def _relax(self, lower: IntArray, upper: IntArray) -> tuple[Relaxation, Shares | None] | None:
        objective, members = self.objective, self.clusters.members
        floors = self.clusters.floors(lower, upper)
        known = int(floors.sum()) + int(self.clusters.outside_floors(lower, upper).sum())
        if (floors >= UNBOUNDED).any():
            return None
        self._floors = floors
        if known >= self.best:
            return None
        costs, constants = objective.lines(lower, upper)
        beside = np.array([constants[cluster.terms].sum() for cluster in members]) / SCALE
        answer = self.part.account(self._lp.minimise(objective.columns, costs, lower, upper, floors - beside))
        if answer.prices is None:
            return answer, None
        return answer, shares_at(answer.prices, floors, self.clusters)

    def _improve(self, least: int, values: FloatArray) -> None:
        if self.nodes == 1:
            self._descend(self.clusters.pattern)
            self._repair(self._floors, least)
        if self.nodes % DESCEND_EVERY == 1 and least < self.best:
            self._descend(values[self.objective.columns] > self.objective.caps)

    def _descend(self, above: npt.NDArray[np.bool_]) -> None:
        """Look for a better solution from a pattern (see :func:`descend`)."""
        descend(self.part, self.objective, above, self.lower, self.upper)
        found = self.part.best_within(self.objective, self.lower, self.upper)
        if found is not None and found[0] < self.best:
            self.best, self.witness = found

    def _repair(self, floors: IntArray, least: int) -> None:
        """Descend from the best solution with one cluster as its floor has it, while that helps and the best is not the least that
        can be: the clusters above their floors are where a better solution differs."""
        objective, members = self.objective, self.clusters.members
        better = True
        while better and least < self.best:
            better = False
            counts = self.witness[objective.columns]
            terms = objective.weights * np.minimum(counts, objective.caps)
            above = counts > objective.caps
            slack = np.array([terms[cluster.terms].sum() for cluster in members]) - floors
            for number in np.argsort(-slack, kind="stable")[: int((slack > 0).sum())].tolist():
                before, trial = self.best, above.copy()
                trial[members[number].terms] = self.clusters.pattern[members[number].terms]
                self._descend(trial)
                if self.best < before:
                    better = True
                    break

    def _proof(self) -> Proof:
        return Proof.MIP_PROVED


class WideClusters(Clusters):
    """The clusters of a tract that contain those of a block."""

    def __init__(self, narrow: Clusters) -> None:
        part, objective = narrow.part, narrow.objective
        self.part, self.objective = part, objective
        label = part.labels.wide
        numbers = np.unique([label[cluster.columns[0]] for cluster in narrow.members])
        self.members = [Cluster.of(part, objective, np.flatnonzero(label == number)) for number in numbers]
        self.outside = ~np.isin(label[objective.columns], numbers)
        self.pattern = narrow.pattern.copy()
        self._inside = [Clusters(cluster.part, cluster.objective) for cluster in self.members]
        self._known: list[dict[bytes, int]] = [{} for _ in self.members]

    def _search(self, number: int, best: tuple[int, IntArray]) -> Search:
        cluster = self.members[number]
        last_step = cluster.part.steps + STEPS_A_WIDE_FLOOR
        return ClusterSearch(cluster.part, cluster.objective, self._inside[number], last_step, best)
