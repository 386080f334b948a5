"""Clusters of counts, and the least that an objective is over each by its own sums: floors that close what chords do not.

A block's sums of one sex and a few ages bind its counts tightly to each other, and loosely, by few long sums, to the rest. Over
such a cluster, of some ten to sixty counts, the tree of :mod:`.search` finds the least of a concave objective in milliseconds, and
that number holds for the whole.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.objective import Objective
from dbrecon.recon.certainty.part import Part
from dbrecon.recon.certainty.search import Search
from dbrecon.recon.solve.propagation import UNBOUNDED, CountSystem

STEPS_A_FLOOR = 3_000
"""Simplex steps that one floor may take; what is proved by then is the floor."""


@dataclass(frozen=True)
class Cluster:
    """``columns`` of a part, ``terms`` of an objective among them; the part that their own sums make, and the objective there."""

    columns: IntArray
    terms: IntArray
    part: Part
    objective: Objective

    @classmethod
    def of(cls, part: Part, objective: Objective, columns: IntArray) -> "Cluster":
        """Return the cluster of some columns, ascending, of a part."""
        terms = np.flatnonzero(np.isin(objective.columns, columns))
        own = Objective(np.searchsorted(columns, objective.columns[terms]), objective.weights[terms], objective.caps[terms])
        lower, upper = part.lower[columns], part.upper[columns]
        inside = Part(_own_sums(part.system, columns), lower, upper, part.known[columns], part.labels.within(columns))
        return cls(columns, terms, inside, own)

    @property
    def nobody(self) -> int:
        """More than the objective is anywhere: the least value where there is no solution."""
        return int((self.objective.weights * self.objective.caps).sum()) + 1


def _own_sums(system: CountSystem, columns: IntArray) -> CountSystem:
    """Return the sums that count some columns (ascending) and no others."""
    number = np.full(system.n_columns, -1)
    number[columns] = np.arange(len(columns))
    inside = np.bincount(system.row_of, weights=number[system.columns] >= 0, minlength=system.n_rows)
    lengths = np.diff(system.starts)
    rows = np.flatnonzero((inside == lengths) & (lengths > 0))
    entries = np.isin(system.row_of, rows)
    starts = np.concatenate([[0], np.cumsum(lengths[rows])])
    return CountSystem(starts, number[system.columns[entries]], system.row_lower[rows], system.row_upper[rows], len(columns))


class Clusters:
    """The clusters of a part over which an objective is concave, each of one block.

    ``pattern`` (terms of the objective,): which were above their caps in the solutions that had the last floors.
    """

    def __init__(self, part: Part, objective: Objective) -> None:
        self.part, self.objective = part, objective
        label = part.labels.narrow
        numbers = np.unique(label[objective.columns[objective.bent(part.lower, part.upper)]])
        self.members = [Cluster.of(part, objective, np.flatnonzero(label == number)) for number in numbers[numbers >= 0]]
        self.outside = ~np.isin(label[objective.columns], numbers[numbers >= 0])
        self.pattern = np.zeros(len(objective.columns), bool)
        self._known: list[dict[bytes, int]] = [{} for _ in self.members]

    def floors(self, lower: IntArray, upper: IntArray) -> IntArray:
        """(clusters,) numbers that the objective's terms in each are nowhere below within bounds; UNBOUNDED if nothing fits."""
        found = np.zeros(len(self.members), np.int64)
        for number, cluster in enumerate(self.members):
            low, high = lower[cluster.columns], upper[cluster.columns]
            key = low.tobytes() + high.tobytes()
            if key not in self._known[number]:
                self._known[number][key] = self._least(number, low, high)
            found[number] = self._known[number][key]
        return found

    def _least(self, number: int, lower: IntArray, upper: IntArray) -> int:
        cluster = self.members[number]
        part, objective = cluster.part, cluster.objective
        before = part.steps
        best = part.best_within(objective, lower, upper) or (cluster.nobody, part.known)
        found = self._search(number, best).run(lower, upper)
        self.part.steps += part.steps - before
        self.pattern[cluster.terms] = found.witness[objective.columns] > objective.caps
        return int(UNBOUNDED) if found.lower == cluster.nobody else found.lower

    def _search(self, number: int, best: tuple[int, IntArray]) -> Search:
        """Return a search over a cluster."""
        cluster = self.members[number]
        return Search(cluster.part, cluster.objective, cluster.part.steps + STEPS_A_FLOOR, best)

    def outside_floors(self, lower: IntArray, upper: IntArray) -> npt.NDArray[np.int64]:
        """Return (terms of the objective,) what bounds tell of each term that is in no cluster, 0 for the others."""
        objective = self.objective
        ends = np.where(objective.weights > 0, lower[objective.columns], upper[objective.columns])
        return np.where(self.outside, objective.weights * np.minimum(ends, objective.caps), 0)

    def known_floors(self) -> list[tuple[IntArray, int]]:
        """Return the terms of each cluster, and the floor of them that holds everywhere."""
        floors = self.floors(self.part.lower, self.part.upper)
        return [(cluster.terms, floor) for cluster, floor in zip(self.members, floors.tolist(), strict=True)]
