"""The least of an objective over all integer counts that fit, with a proof: relaxation, reduced costs, branch and bound.

A lower bound counts only when it has been recomputed exactly from the solver's multipliers (:mod:`.objective`), an upper bound
only when its
counts meet every sum in integers. The solver's floating-point numbers merely suggest where to look.
"""

import enum
from dataclasses import dataclass

import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.objective import SCALE, FloatArray, Objective, Shares, bound_of, is_empty, scaled, tightened
from dbrecon.recon.certainty.part import WHOLE, Part
from dbrecon.recon.certainty.warm_lp import Relaxation
from dbrecon.recon.solve.propagation import UNBOUNDED, Contradiction, CountSystem, propagate


class Proof(enum.IntEnum):
    """What a value rests on, the strongest first."""

    PROPAGATION = 0  # integer sums alone
    LP = 1  # a dual bound in exact arithmetic, met by a whole solution
    MIP_PROVED = 2  # the same at every leaf of a tree
    MIP = 3  # the solver's floating-point word
    OPEN = 4  # not closed within the budget: an interval


@dataclass(frozen=True)
class Minimum:
    """``lower`` <= the least value <= ``upper``; ``witness`` (columns,) has the value ``upper``."""

    lower: int
    upper: int
    proof: Proof
    witness: IntArray


@dataclass(frozen=True)
class _Node:
    """A piece of the search space: bounds of all columns, and a proved lower bound of the objective within them."""

    bound: int
    lower: IntArray
    upper: IntArray


@dataclass(frozen=True)
class Budget:
    """How much work one minimum is worth. ``tree``: simplex steps of our own tree; ``checks``: what HiGHS's branch and cut may
    do for what the
    tree leaves, in the number of times that it asks whether to go on (0: it is not asked). ``tract``: simplex steps after which
    a whole tract gets no more than what is known by then."""

    tree: int = 200_000
    checks: int = 2_000
    tract: int = 2_000_000


MOST_NODES = 1 << 30


@dataclass(frozen=True)
class Floor:
    """A value below which an objective is known not to go, and what that rests on."""

    value: int
    proof: Proof


@dataclass(frozen=True)
class ProofStep:
    """What closes or cuts one piece of the search space: enough to check a proof without a solver (:mod:`.certificate`).

    ``multipliers`` (rows,), times SCALE, prove a bound of the objective there, or with ``empty`` that nothing fits. If the
    bound does
    not close the piece, ``cut`` is a column, the most that it is in one half (in the other it is more), and whether the other half
    is taken first.
    """

    multipliers: IntArray
    empty: bool = False
    cut: tuple[int, int, bool] | None = None


def prove(part: Part, objective: Objective, least: int, budget: Budget) -> list[ProofStep] | None:
    """Return the steps of a proof that the objective is nowhere below ``least``, in the order of the search; None if the budget
    ended."""
    search = Search(part, objective, part.steps + budget.tree)
    search.best, search.record = least, []
    found = search.run()
    return search.record if found.lower >= least and search.best == least else None


class Search:
    """Branch and bound of our own over a part's solutions, or those within other bounds.

    ``best`` and ``witness`` are the least value known and a solution that has it; ``floor`` is a value that it is known not to go
    below.
    """

    def __init__(
        self,
        part: Part,
        objective: Objective,
        last_step: int,
        best: tuple[int, IntArray] | None = None,
        floor: Floor | None = None,
    ) -> None:
        self.part, self.objective, self.last_step, self.floor = part, objective, last_step, floor
        self.lower, self.upper = part.lower, part.upper  # of all that is searched
        self.best: int
        self.witness: IntArray
        self.best, self.witness = part.best_seen(objective) if best is None else best
        self.unsettled = int(UNBOUNDED)  # the least proved bound of pieces that could be neither closed nor cut further
        self.nodes = 0
        self.record: list[ProofStep] | None = None

    def run(self, lower: IntArray | None = None, upper: IntArray | None = None, most_nodes: int = MOST_NODES) -> Minimum:
        """Search until all is closed, the steps have ended, or so many pieces have been looked at."""
        self.lower, self.upper = self.part.lower if lower is None else lower, self.part.upper if upper is None else upper
        stack = [_Node(self._by_bounds(self.lower, self.upper), self.lower, self.upper)]
        while stack:
            if self.floor is not None and self.best <= self.floor.value:
                return Minimum(self.best, self.best, max(self.floor.proof, Proof(min(self.nodes, 1))), self.witness)
            if self.nodes and (self.part.steps >= self.last_step or self.nodes >= most_nodes):
                self.unsettled = min([self.unsettled] + [node.bound for node in stack])
                break
            node = stack.pop()
            if node.bound < self.best or self.record is not None:
                stack += self._expand(node)
        proved = min(self.unsettled, self.best)
        return Minimum(proved, self.best, self._proof() if proved == self.best else Proof.OPEN, self.witness)

    def _by_bounds(self, lower: IntArray, upper: IntArray) -> int:
        """Return what the bounds of the counts alone tell of the objective."""
        columns = self.objective.columns
        costs, constant = self.objective.relaxed(lower, upper)
        least = np.where(costs > 0, costs * lower[columns], costs * upper[columns])
        return -(-(int(least.sum()) + constant) // SCALE)

    def _proof(self) -> Proof:
        return (Proof.PROPAGATION, Proof.LP)[self.nodes] if self.nodes < 2 else Proof.MIP_PROVED

    def _expand(self, node: _Node) -> list[_Node]:
        """Return what is left of a piece: nothing, or two halves, the more promising one last."""
        self.nodes += 1
        lower, upper = node.lower, node.upper
        relaxed = self._relax(lower, upper)
        if relaxed is None:
            return []
        answer, shares = relaxed
        if answer.values is None or answer.multipliers is None:
            return self._without_optimum(node, answer.multipliers)
        self._take(answer.values)
        system = self.part.system
        multipliers = scaled(answer.multipliers)
        bound = None if multipliers is None else bound_of(system, lower, upper, self.objective, multipliers, shares)
        if multipliers is None or bound is None:
            multipliers = np.zeros(system.n_rows, np.int64)
            bound = bound_of(system, lower, upper, self.objective, multipliers, shares)
        least = node.bound if bound is None else max(node.bound, bound.whole)
        if bound is None:
            self.unsettled = min(self.unsettled, node.bound)
            return []
        if least < self.best:
            self._improve(least, answer.values)
        if bound.whole >= self.best or (least >= self.best and self.record is None):
            self._note(ProofStep(multipliers))
            return []
        try:
            lower, upper = propagate(self.part.system, *tightened(bound, self.best - 1, lower, upper))
        except Contradiction:
            self._note(ProofStep(multipliers))
            return []
        return self._halves(_Node(least, lower, upper), answer.values, multipliers)

    def _relax(self, lower: IntArray, upper: IntArray) -> tuple[Relaxation, Shares | None] | None:
        """Return a relaxation of the objective within bounds, and what of it is replaced by proved numbers; None for a piece that
        is closed without one."""
        costs, _ = self.objective.relaxed(lower, upper)
        return self.part.relax(self.objective.columns, costs, lower, upper), None

    def _note(self, step: ProofStep) -> None:
        if self.record is not None:
            self.record.append(step)

    def _take(self, values: FloatArray) -> None:
        """Keep the solution that a vertex is, if it is one and the best."""
        counts = self.part.offer(values)
        if counts is not None and int(self.objective.value(counts)) < self.best:
            self.best, self.witness = int(self.objective.value(counts)), counts

    def _improve(self, least: int, values: FloatArray) -> None:
        """Look for a better solution, where a piece with this bound and vertex is not closed."""

    def _without_optimum(self, node: _Node, ray: FloatArray | None) -> list[_Node]:
        """Note that a piece is proved empty (Farkas' lemma), or that the solver cannot settle it; return no pieces of it."""
        size = 0.0 if ray is None else float(np.abs(ray).max(initial=0.0))
        if ray is not None and 0.0 < size < np.inf:
            for sign in (1.0, -1.0):
                multipliers = scaled(sign * ray / size)
                if multipliers is not None and is_empty(self.part.system, node.lower, node.upper, multipliers):
                    self._note(ProofStep(multipliers, empty=True))
                    return []
        self.unsettled = min(self.unsettled, node.bound)
        return []

    def _halves(self, node: _Node, values: FloatArray, multipliers: IntArray) -> list[_Node]:
        values = np.clip(values, node.lower, node.upper)
        column, most = self._branching(node, values)
        upper_first = bool(values[column] - most >= 0.5)
        self._note(ProofStep(multipliers, cut=(column, most, upper_first)))
        bounds = halves(self.part.system, node.lower, node.upper, column, most, upper_first)
        return [_Node(node.bound, lower, upper) for lower, upper in bounds]

    def _branching(self, node: _Node, values: FloatArray) -> tuple[int, int]:
        """Return a column and the most that it is in the lower half: where the relaxation is least true to the objective, else
        least whole."""
        objective = self.objective
        gaps = objective.gaps(values, node.lower, node.upper)
        if len(gaps) and gaps.max() > WHOLE:
            at = int(np.argmax(gaps))
            return int(objective.columns[at]), int(objective.caps[at])
        fraction = np.abs(values - np.rint(values))
        if fraction.max(initial=0.0) > WHOLE:
            column = int(np.argmax(fraction))
            return column, int(np.floor(values[column]))
        column = int(np.argmax(node.upper - node.lower))
        return column, int((node.lower[column] + node.upper[column]) // 2)


def halves(
    system: CountSystem, lower: IntArray, upper: IntArray, column: int, most: int, upper_first: bool
) -> list[tuple[IntArray, IntArray]]:
    """Return the bounds of the halves in which a count is at most ``most``, and more, without those that contradict a sum; the one
    to be taken first is last."""
    left_upper, right_lower = upper.copy(), lower.copy()
    left_upper[column], right_lower[column] = most, most + 1
    found = []
    for low, high in ((lower, left_upper), (right_lower, upper)):
        try:
            found.append(propagate(system, low, high))
        except Contradiction:
            continue
    return found if upper_first else found[::-1]
