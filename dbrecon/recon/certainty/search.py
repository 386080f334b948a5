"""The least of an objective over all integer counts that fit, with a proof: relaxation, reduced costs, branch and bound.

A lower bound counts only when it has been recomputed exactly from the solver's multipliers (:mod:`.objective`), an upper bound
only when its
counts meet every sum in integers. The solver's floating-point numbers merely suggest where to look.
"""

import enum
from dataclasses import dataclass

import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.mip import solve_mip
from dbrecon.recon.certainty.objective import SCALE, FloatArray, Objective, dual_bound, tightened
from dbrecon.recon.certainty.part import WHOLE, Part
from dbrecon.recon.solve.propagation import Contradiction, propagate


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

    tree: int = 1_500
    checks: int = 2_000
    tract: int = 2_000_000


STEPS_A_CHECK = 50
"""What HiGHS's branch and cut does between two checks, in simplex steps: for the accounts of a tract."""


def minimise(part: Part, objective: Objective, budget: Budget) -> Minimum:
    """The least value of an objective over a part's integer solutions: proved by our own tree, else on HiGHS's word, else an
    interval."""
    found = _Search(part, objective, part.steps + budget.tree).run()
    if found.proof is not Proof.OPEN or not budget.checks:
        return found
    answer = solve_mip(part.system, part.lower, part.upper, objective, found.witness, budget.checks)
    part.steps += answer.checks * STEPS_A_CHECK
    best, witness = found.upper, found.witness
    whole = None if answer.values is None else part.offer(answer.values)
    if whole is not None and int(objective.value(whole)) < best:
        best, witness = int(objective.value(whole)), whole
    if answer.finished and answer.bound >= best:
        return Minimum(best, best, Proof.MIP, witness)
    return Minimum(min(found.lower, best), best, Proof.OPEN if found.lower < best else Proof.MIP_PROVED, witness)


class _Search:
    def __init__(self, part: Part, objective: Objective, last_step: int) -> None:
        self.part, self.objective, self.last_step = part, objective, last_step
        self.best: int
        self.witness: IntArray
        self.best, self.witness = part.best_seen(objective)
        self.unsettled: int = self.best  # the least proved bound of pieces that could be neither closed nor cut further
        self.nodes = 0

    def run(self) -> Minimum:
        low, high = self.part.lower, self.part.upper
        costs, constant = self.objective.relaxed(low, high)
        least = np.where(costs > 0, costs * low[self.objective.columns], costs * high[self.objective.columns])
        root = _Node(-(-(int(least.sum()) + constant) // SCALE), low, high)
        stack = [root]
        while stack:
            if self.nodes and self.part.steps >= self.last_step:
                self.unsettled = min([self.unsettled] + [node.bound for node in stack])
                break
            node = stack.pop()
            if node.bound < self.best:
                stack += self._expand(node)
        proved = min(self.unsettled, self.best)
        return Minimum(proved, self.best, self._proof() if proved == self.best else Proof.OPEN, self.witness)

    def _proof(self) -> Proof:
        return (Proof.PROPAGATION, Proof.LP)[self.nodes] if self.nodes < 2 else Proof.MIP_PROVED

    def _expand(self, node: _Node) -> list[_Node]:
        """What is left of a piece: nothing, itself with tighter bounds, or two halves, the more promising one last."""
        self.nodes += 1
        lower, upper = node.lower, node.upper
        costs, constant = self.objective.relaxed(lower, upper)
        answer = self.part.relax(self.objective.columns, costs, lower, upper)
        if answer.values is None:
            return self._without_optimum(node, answer.multipliers)
        assert answer.multipliers is not None
        whole = self.part.offer(answer.values)
        if whole is not None:
            self._take(whole)
        all_costs = np.zeros(len(lower), np.int64)
        all_costs[self.objective.columns] = costs
        bound = dual_bound(self.part.system, lower, upper, all_costs, constant, answer.multipliers)
        least = node.bound if bound is None else max(node.bound, bound.whole)
        if least >= self.best:
            return []
        if bound is not None:
            try:
                lower, upper = propagate(self.part.system, *tightened(bound, self.best - 1, lower, upper))
            except Contradiction:
                return []
        return self._halves(_Node(least, lower, upper), answer.values)

    def _take(self, counts: IntArray) -> None:
        value = int(self.objective.value(counts))
        if value < self.best:
            self.best, self.witness = value, counts

    def _without_optimum(self, node: _Node, ray: FloatArray | None) -> list[_Node]:
        """Nothing is left of a piece that is proved empty (Farkas' lemma). One that the solver cannot settle stays open."""
        for multipliers in (ray, None if ray is None else -ray):
            if multipliers is not None and np.abs(multipliers).max(initial=0.0) > 0:
                scaled = multipliers / np.abs(multipliers).max()
                zero = np.zeros(len(node.lower), np.int64)
                bound = dual_bound(self.part.system, node.lower, node.upper, zero, 0, scaled)
                if bound is not None and bound.total > 0:
                    return []
        self.unsettled = min(self.unsettled, node.bound)
        return []

    def _halves(self, node: _Node, values: FloatArray) -> list[_Node]:
        values = np.clip(values, node.lower, node.upper)
        column, most = self._branching(node, values)
        left_upper, right_lower = node.upper.copy(), node.lower.copy()
        left_upper[column], right_lower[column] = most, most + 1
        halves = []
        for lower, upper in ((node.lower, left_upper), (right_lower, node.upper)):
            try:
                halves.append(_Node(node.bound, *propagate(self.part.system, lower, upper)))
            except Contradiction:
                continue
        if len(halves) == 2 and values[column] - most < 0.5:
            halves.reverse()
        return halves

    def _branching(self, node: _Node, values: FloatArray) -> tuple[int, int]:
        """A column and the most that it is in the lower half: where the relaxation is least true to the objective, else least
        whole."""
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
