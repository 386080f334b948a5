"""Clusters of counts, and the least that an objective is over each by its own sums: floors that close what chords do not.

A block's sums of one sex and a few ages bind its counts tightly to each other, and loosely, by few long sums, to the rest. Over
such a cluster, of some ten to sixty counts, the tree of :mod:`.search` finds the least of a concave objective in milliseconds. That
number holds for the whole: where f is a sum of terms and v a floor of its terms in a cluster, f is at least u v + (1 - u) times
these terms, for any u from 0 to 1, and of what is left the chords are taken. The best u are the prices of the floors in a
linear program that knows them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.objective import SCALE, FloatArray, Objective, Shares
from dbrecon.recon.certainty.part import Part
from dbrecon.recon.certainty.search import Floor, Proof, Search
from dbrecon.recon.certainty.warm_lp import Relaxation
from dbrecon.recon.solve.propagation import UNBOUNDED, CountSystem
from dbrecon.recon.tract.model import Model

STEPS_A_FLOOR = 3_000
"""Simplex steps that one floor may take; what is proved by then is the floor."""

DESCENTS = 8
"""Linear programs of a descent at the most."""

DESCEND_EVERY = 10
"""Pieces of a search from whose vertices one descent begins."""


def clusters_of(model: Model) -> IntArray:
    """(variables,) the cluster of each: those that sums of one block and one sex connect."""
    sex = model.bins.split(model.kind)[0]
    row_of = np.repeat(np.arange(model.n_constraints), np.diff(model.starts))
    men = np.bincount(row_of, weights=sex[model.columns] == 0, minlength=model.n_constraints)
    of_one_sex = (model.row_block >= 0) & ((men == 0) | (men == np.diff(model.starts)))
    used = of_one_sex[row_of]
    n = model.n_constraints + model.n_variables
    links = sp.coo_array(
        (np.ones(int(used.sum()), np.int8), (row_of[used], model.columns[used] + model.n_constraints)), shape=(n, n)
    )
    return np.asarray(connected_components(links, directed=False)[1][model.n_constraints :], np.int64)


@dataclass
class _Cluster:
    """``columns`` of the part, ``terms`` of the objective that lie among them, their own part and objective, floors by bounds."""

    columns: IntArray
    terms: IntArray
    part: Part
    objective: Objective
    known: dict[bytes, int]
    pattern: IntArray  # (terms,) of the last solution at the floor


class Clusters:
    """The clusters of a part over which an objective is concave."""

    def __init__(self, part: Part, objective: Objective) -> None:
        self.part = part
        bent = objective.bent(part.lower, part.upper)
        numbers = np.unique(part.cluster[objective.columns[bent]])
        self.members = [self._cluster(objective, number) for number in numbers[numbers >= 0].tolist()]
        self.outside = ~np.isin(part.cluster[objective.columns], numbers[numbers >= 0])

    @property
    def pattern(self) -> npt.NDArray[np.bool_]:
        """(terms of the objective,) which were above their caps where the last floors are reached, cluster by cluster."""
        above = np.zeros(len(self.outside), bool)
        for cluster in self.members:
            above[cluster.terms] = cluster.pattern > cluster.objective.caps
        return above

    def _cluster(self, objective: Objective, number: int) -> _Cluster:
        part = self.part
        columns = np.flatnonzero(part.cluster == number)
        terms = np.flatnonzero(part.cluster[objective.columns] == number)
        own = Objective(np.searchsorted(columns, objective.columns[terms]), objective.weights[terms], objective.caps[terms])
        system = _own_sums(part.system, columns)
        inside = Part(system, part.lower[columns], part.upper[columns], part.known[columns])
        return _Cluster(columns, terms, inside, own, {}, part.known[objective.columns[terms]])

    def floors(self, lower: IntArray, upper: IntArray) -> IntArray:
        """(clusters,) numbers that the objective's terms in each are nowhere below within bounds; UNBOUNDED if nothing fits."""
        found = [self._floor(cluster, lower[cluster.columns], upper[cluster.columns]) for cluster in self.members]
        return np.array(found, np.int64)

    def _floor(self, cluster: _Cluster, lower: IntArray, upper: IntArray) -> int:
        key = lower.tobytes() + upper.tobytes()
        if key not in cluster.known:
            part, objective = cluster.part, cluster.objective
            before = part.steps
            nobody = int((objective.weights * objective.caps).sum()) + 1
            best = part.best_within(objective, lower, upper) or (nobody, part.known)
            found = Search(part, objective, before + STEPS_A_FLOOR, best).run(lower, upper)
            self.part.steps += part.steps - before
            cluster.known[key] = int(UNBOUNDED) if found.lower == nobody else found.lower
            cluster.pattern = found.witness[objective.columns]
        return cluster.known[key]


def _own_sums(system: CountSystem, columns: IntArray) -> CountSystem:
    """The sums that count some columns (ascending) and no others."""
    number = np.full(system.n_columns, -1)
    number[columns] = np.arange(len(columns))
    inside = np.bincount(system.row_of, weights=number[system.columns] >= 0, minlength=system.n_rows)
    lengths = np.diff(system.starts)
    rows = np.flatnonzero((inside == lengths) & (lengths > 0))
    entries = np.isin(system.row_of, rows)
    starts = np.concatenate([[0], np.cumsum(lengths[rows])])
    return CountSystem(starts, number[system.columns[entries]], system.row_lower[rows], system.row_upper[rows], len(columns))


def descend(part: Part, objective: Objective, above: npt.NDArray[np.bool_]) -> None:
    """Collect solutions ever lower from a pattern: ``above`` (terms of the objective,) are those that may rise above their caps
    without a cost, the others cost what they count. A concave function is nowhere above its tangents, so that each linear
    program's optimum is at least as low as the last solution; counts at their caps change sides.
    """
    best, _ = part.best_seen(objective)
    for _ in range(DESCENTS):
        costs = np.where(above, 0, objective.weights * SCALE)
        answer = part.relax(objective.columns, costs, part.lower, part.upper)
        if answer.values is None:
            return
        counts = part.offer(answer.values)
        values = answer.values[objective.columns] if counts is None else counts[objective.columns]
        if counts is not None and int(objective.value(counts)) < best:
            best = int(objective.value(counts))
        turned = (values > objective.caps) | ((values == objective.caps) & ~above)
        if (turned == above).all():
            return
        above = turned


class ClusterSearch(Search):
    """The same tree, with floors of clusters in every relaxation."""

    def __init__(self, part: Part, objective: Objective, clusters: Clusters, last_step: int, floor: Floor | None = None) -> None:
        super().__init__(part, objective, last_step, floor=floor)
        self.clusters = clusters
        self._lp = part.with_clusters([cluster.columns for cluster in clusters.members])

    def _relax(self, lower: IntArray, upper: IntArray) -> tuple[Relaxation, Shares | None] | None:
        objective, members = self.objective, self.clusters.members
        floors = self.clusters.floors(lower, upper)
        if (floors >= UNBOUNDED).any() or self._at_least(floors, lower, upper) >= self.best:
            return None
        if self.nodes == 1:
            self._descend(self.clusters.pattern)
        costs, constants = objective.lines(lower, upper)
        beside = np.array([constants[cluster.terms].sum() for cluster in members]) / SCALE
        answer = self.part.account(self._lp.minimise(objective.columns, costs, lower, upper, floors - beside))
        if answer.prices is None:
            return answer, None
        return answer, self._shares(answer.prices, floors)

    def _at_least(self, floors: IntArray, lower: IntArray, upper: IntArray) -> int:
        """What floors, and the bounds of all terms that are in no cluster, tell of the objective."""
        objective = self.objective
        ends = np.where(objective.weights > 0, lower[objective.columns], upper[objective.columns])
        least = objective.weights * np.minimum(ends, objective.caps)
        return int(floors.sum()) + int(least[self.clusters.outside].sum())

    def _take(self, values: FloatArray) -> None:
        super()._take(values)
        if self.nodes % DESCEND_EVERY == 1:
            self._descend(values[self.objective.columns] > self.objective.caps)

    def _descend(self, above: npt.NDArray[np.bool_]) -> None:
        """Look for a better solution from a pattern (see :func:`descend`)."""
        descend(self.part, self.objective, above)
        best, witness = self.part.best_seen(self.objective)
        if best < self.best:
            self.best, self.witness = best, witness

    def _proof(self) -> Proof:
        return Proof.MIP_PROVED

    def _shares(self, prices: FloatArray, floors: IntArray) -> Shares:
        price = np.clip(np.rint(np.nan_to_num(prices) * SCALE), 0, SCALE).astype(np.int64)
        kept = np.full(len(self.objective.columns), SCALE)
        for cluster, of_cluster in zip(self.clusters.members, price.tolist(), strict=True):
            kept[cluster.terms] -= of_cluster
        return Shares(kept, int((price * floors).sum()))
