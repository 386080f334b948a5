"""An independent part of a tract's open counts: its bounds, its warm relaxation, and the solutions that have been seen of it."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.labels import Labels
from dbrecon.recon.certainty.objective import FloatArray, Objective
from dbrecon.recon.certainty.warm_lp import Relaxation, WarmLp
from dbrecon.recon.solve.propagation import CountSystem, components, propagate

WHOLE = 1e-6
"""A value nearer than this to an integer is tried as that integer; what is tried is checked exactly."""

STEPS_A_RELAXATION = 10
"""What a relaxation costs beside its simplex steps, counted in such steps."""

_MOST_SEEN = 1 << 22  # numbers: beyond it the oldest solutions but the first are forgotten


class Part:
    """Counts (columns,) between ``lower`` and ``upper`` that meet ``system``, of which ``known`` is a solution.

    ``labels`` are the clusters of its columns (:mod:`.clusters`). The bounds hold for all solutions and are tightened as more is
    proved. ``seen_lower``, ``seen_upper`` are the extremes over the solutions seen. ``steps`` counts the work done, in simplex
    steps.
    """

    def __init__(
        self, system: CountSystem, lower: IntArray, upper: IntArray, known: IntArray, labels: Labels | None = None
    ) -> None:
        self.system, self.lower, self.upper, self.known = system, lower.copy(), upper.copy(), known
        self.labels = Labels.none(system.n_columns) if labels is None else labels
        self.seen_lower, self.seen_upper = known.copy(), known.copy()
        self.steps = 0
        self._seen = np.empty((16, system.n_columns), np.int64)
        self._seen[0] = known
        self._n_seen = 1
        self._lp: WarmLp | None = None

    def best_seen(self, objective: Objective) -> tuple[int, IntArray]:
        """Return the least value of the objective among the solutions seen, and the first solution that has it."""
        values = objective.value(self._seen[: self._n_seen])
        best = int(np.argmin(values))
        return int(values[best]), self._seen[best].copy()

    def best_within(self, objective: Objective, lower: IntArray, upper: IntArray) -> tuple[int, IntArray] | None:
        """As :meth:`best_seen`, of the solutions seen that are within bounds; None if there is none."""
        seen = self._seen[: self._n_seen]
        inside = seen[((seen >= lower) & (seen <= upper)).all(axis=1)]
        if not len(inside):
            return None
        values = objective.value(inside)
        best = int(np.argmin(values))
        return int(values[best]), inside[best].copy()

    def offer(self, values: FloatArray) -> IntArray | None:
        """Return the solution that a solver's values stand for, remembered; None if they are not whole, or miss a sum or a
        bound."""
        counts = np.rint(values).astype(np.int64)
        if np.abs(values - counts).max(initial=0.0) > WHOLE:
            return None
        if (counts < self.lower).any() or (counts > self.upper).any() or not self.system.meets(counts):
            return None
        np.minimum(self.seen_lower, counts, out=self.seen_lower)
        np.maximum(self.seen_upper, counts, out=self.seen_upper)
        self._remember(counts)
        return counts

    def _remember(self, counts: IntArray) -> None:
        if self._n_seen == len(self._seen):
            if self._seen.size < _MOST_SEEN:
                self._seen = np.concatenate([self._seen, np.empty_like(self._seen)])
            else:
                half = len(self._seen) // 2
                self._seen[1:half] = self._seen[-(half - 1) :].copy()
                self._n_seen = half
        self._seen[self._n_seen] = counts
        self._n_seen += 1

    def relax(self, columns: IntArray, costs: IntArray, lower: IntArray, upper: IntArray) -> Relaxation:
        """Return the optimum of the linear relaxation within bounds, from the warm program (see :meth:`WarmLp.minimise`)."""
        if self._lp is None:
            self._lp = WarmLp(self.system, self.lower, self.upper)
        return self.account(self._lp.minimise(columns, costs, lower, upper))

    def account(self, answer: Relaxation) -> Relaxation:
        """Count the work of a relaxation."""
        self.steps += answer.iterations + STEPS_A_RELAXATION
        return answer

    def with_clusters(self, clusters: Sequence[IntArray]) -> WarmLp:
        """Return another warm program of this part, that knows floors of ``clusters`` (sets of columns)."""
        return WarmLp(self.system, self.lower, self.upper, clusters, self._lp)

    def push(self, objective: Objective) -> bool:
        """Look for a solution where the relaxation of an objective is least; whether it was whole, and so is remembered."""
        costs, _ = objective.relaxed(self.lower, self.upper)
        answer = self.relax(objective.columns, costs, self.lower, self.upper)
        return answer.values is not None and self.offer(answer.values) is not None

    def propagate(self) -> None:
        """Draw from the bounds what follows from them sum by sum."""
        self.lower, self.upper = propagate(self.system, self.lower, self.upper)


def split(
    system: CountSystem, lower: IntArray, upper: IntArray, counts: IntArray, labels: Labels | None = None
) -> Iterator[tuple[IntArray, Part]]:
    """Yield the independent parts of a system's open counts: their columns, ascending, and the part.

    ``counts`` is a solution, ``labels`` are the clusters of the columns.
    """
    label, n = components(system, lower, upper)
    for columns in members(label, n):
        yield columns, part_of(system, lower, upper, counts, columns, labels)


def members(label: IntArray, n: int) -> Iterator[IntArray]:
    """Yield the columns with each label from 0 on, ascending."""
    order = np.argsort(label, kind="stable")
    ends = np.searchsorted(label[order], np.arange(n + 1))
    return (order[start:end] for start, end in itertools.pairwise(ends.tolist()))


def part_of(
    system: CountSystem, lower: IntArray, upper: IntArray, counts: IntArray, columns: IntArray, labels: Labels | None
) -> Part:
    """Return some columns (ascending) of a system as a part, the others being as in ``counts``, a solution."""
    inside = None if labels is None else labels.within(columns)
    return Part(system.restrict(columns, counts)[0], lower[columns], upper[columns], counts[columns], inside)
