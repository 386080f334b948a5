"""The certainty of one tract: how far each block of a reconstruction may be from another data set with the same tables.

Definitions and what is exact: docs/certainty.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.aggregate import Aggregate, aggregate
from dbrecon.recon.certainty.blockwise import blockwise_system
from dbrecon.recon.certainty.cells import tighten_lower, tighten_upper
from dbrecon.recon.certainty.cluster_search import descend
from dbrecon.recon.certainty.joint import shared_minima
from dbrecon.recon.certainty.labels import Labels
from dbrecon.recon.certainty.minimum import minimise
from dbrecon.recon.certainty.objective import Objective
from dbrecon.recon.certainty.part import Part, members, part_of, split
from dbrecon.recon.certainty.search import Budget, Floor, Minimum, Proof, Search
from dbrecon.recon.solve.propagation import UNBOUNDED, CountSystem, components, propagate
from dbrecon.recon.tract.model import Model

STEPS_BESIDE_THE_OTHERS = 8_000
"""Simplex steps that a block may take beside the aggregate of the others."""


@dataclass(frozen=True)
class Distances:
    """Of each block (blocks,): the fewest and the most people by which some solution is known, or can at most, differ; what
    that rests on."""

    lower: IntArray
    upper: IntArray
    proof: IntArray

    def add(self, number: int, lower: int, upper: int, proof: Proof) -> None:
        """Add what some of block ``number``'s people may differ by."""
        self.lower[number] += lower
        self.upper[number] += upper
        self.proof[number] = max(int(self.proof[number]), proof)


@dataclass(frozen=True)
class Cells:
    """Of each count of the program (columns,): bounds that hold for all solutions, and the extremes over the solutions seen."""

    lower: IntArray
    upper: IntArray
    seen_lower: IntArray
    seen_upper: IntArray

    def take(self, columns: IntArray, part: Part) -> None:
        """Take over what a part knows of its columns."""
        self.lower[columns], self.upper[columns] = part.lower, part.upper
        self.seen_lower[columns], self.seen_upper[columns] = part.seen_lower, part.seen_upper


@dataclass(frozen=True)
class _OpenPart:
    """A part with blocks that are not closed: of each the least people in common that a solution is known to have."""

    columns: IntArray
    part: Part
    known: dict[int, int]


@dataclass(frozen=True)
class TractCertainty:
    """How sure a tract's reconstruction is. ``people``, ``certain``, ``any_two`` (blocks,); ``steps``: the work, in simplex
    steps."""

    people: IntArray
    exact: Distances
    blockwise: Distances
    certain: IntArray
    any_two: IntArray
    cells: Cells
    steps: int


def certainty(model: Model, counts: IntArray, budget: Budget, intervals: bool = False) -> TractCertainty:
    """Return the certainty of ``counts`` (variables,), a solution of the model; with ``intervals`` every count's least and most
    too.

    Raises InputError if ``counts`` is no solution, and for tables that are rounded or withheld: it is of equations alone.
    """
    if model.sense is not None:
        raise InputError(f"tract {model.geoid}: certainty is not available where cells are rounded or withheld")
    system = CountSystem.of_model(model)
    if (counts < 0).any() or not system.meets(counts):
        raise InputError(f"tract {model.geoid}: the people do not meet the published counts", about=Subject.PEOPLE)
    n_blocks = len(model.blocks)
    people = _by_block(model.block, counts, n_blocks)
    relaxed, _ = blockwise_system(system, model.block, model.row_block)
    lower, upper = bounds(relaxed)
    labels = Labels.of_model(model, lower < upper)
    blockwise, blockwise_steps = blockwise_distances(relaxed, lower, upper, model, labels, counts, budget)
    lower, upper = propagate(system, lower, upper)  # from what holds of blocks alone it is less far
    cells = Cells(lower.copy(), upper.copy(), counts.copy(), counts.copy())
    exact = Distances(np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64))
    steps = blockwise_steps
    still_open = []
    for columns, part in split(system, lower, upper, counts, labels):
        part.steps = steps
        left = _work_part(part, model.block[columns], exact, blockwise, budget, intervals)
        steps = part.steps
        cells.take(columns, part)
        if left:
            still_open.append(_OpenPart(columns, part, left))
    if still_open:
        beside = aggregate(system, model.block, model.row_block, cells.lower, cells.upper, counts)
        exact, more = _beside_the_others(beside, still_open, exact, model.block, counts, labels, budget)
        steps += more
        for open_part in still_open:
            cells.take(open_part.columns, open_part.part)
        np.maximum(cells.lower, beside.lower, out=cells.lower)
        np.minimum(cells.upper, beside.upper, out=cells.upper)
    certain = _by_block(model.block, np.minimum(cells.lower, counts), n_blocks)
    exact = _capped(_capped(exact, people - certain, np.int64(Proof.MIP_PROVED)), blockwise.upper, blockwise.proof)
    any_two = np.minimum(np.minimum(people, 2 * exact.upper), people - certain)
    return TractCertainty(people, exact, blockwise, certain, any_two, cells, steps)


def blockwise_distances(
    relaxed: CountSystem, lower: IntArray, upper: IntArray, model: Model, labels: Labels, counts: IntArray, budget: Budget
) -> tuple[Distances, int]:
    """Return the blockwise bound of each block, and the steps it took. ``relaxed`` is that of :func:`blockwise_system`, ``lower``
    and ``upper`` its bounds, ``labels`` are the clusters of the columns."""
    n_blocks, block = len(model.blocks), model.block
    found = Distances(np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64))
    label, n = components(relaxed, lower, upper)
    if not n:
        return found, 0
    joint = shared_minima(relaxed, lower, upper, label, n, counts)
    steps = joint.steps
    for number, columns in enumerate(members(label, n)):
        at = int(block[columns[0]])
        if joint.closed[number]:
            differ = int(counts[columns].sum() - joint.least[number])
            found.add(at, differ, differ, Proof.PROPAGATION if joint.settled[number] else Proof.LP)
        else:
            part = part_of(relaxed, lower, upper, counts, columns, labels.of_blocks())
            _distance(part, block[columns], at, found, budget)
            steps += part.steps
    return found, steps


def bounds(system: CountSystem) -> tuple[IntArray, IntArray]:
    """Return the bounds (columns,) of all counts that follow from the sums one by one."""
    n = system.n_columns
    return propagate(system, np.zeros(n, np.int64), np.full(n, UNBOUNDED))


def _work_part(
    part: Part, block: IntArray, found: Distances, blockwise: Distances, budget: Budget, intervals: bool
) -> dict[int, int]:
    """Find the distance of each block of a part, then the least of what is filled: most of it has been seen by then.

    Returns the blocks that are not closed, and of each the least people in common that are known.
    """
    filled = np.flatnonzero(part.known > 0)
    left = {}
    for number in np.unique(block[filled]).tolist():
        least = _distance(part, block, number, found, budget, blockwise)
        if least.proof is Proof.OPEN:
            left[number] = least.upper
    tighten_lower(part, filled, block[filled], budget)
    if intervals:
        every = np.arange(len(block))
        tighten_lower(part, every, block, budget)
        tighten_upper(part, every, block, budget)
    return left


def _shared(part: Part, block: IntArray, number: int) -> Objective:
    """Return the people of block ``number`` that a part's solutions have in common with the known one."""
    columns = np.flatnonzero((block == number) & (part.known > 0))
    return Objective.shared(columns, part.known[columns])


def _distance(part: Part, block: IntArray, number: int, found: Distances, budget: Budget, most: Distances | None = None) -> Minimum:
    """Add a part's share of the distance of block ``number`` to what is found. It is never more than the block's ``most``."""
    objective = _shared(part, block, number)
    people = int(objective.caps.sum())
    floor = None if most is None else _floor(people, most, number)
    if part.steps < budget.tract:
        least = minimise(part, objective, budget, floor)
    else:  # one program closes most blocks, and a tract has no more of these than blocks
        least = Search(part, objective, part.steps, floor=floor).run(most_nodes=1)
    found.add(number, people - least.upper, people - least.lower, least.proof)
    return least


def _beside_the_others(
    beside: Aggregate,
    still_open: Sequence[_OpenPart],
    exact: Distances,
    block: IntArray,
    counts: IntArray,
    labels: Labels,
    budget: Budget,
) -> tuple[Distances, int]:
    """Return the distances with what the blocks that are not closed can be beside the aggregate of the others, and the steps it
    took: that is the most that they differ by, and where such a solution lies, descents find those of the whole tract."""
    n_blocks = len(exact.upper)
    bounded = Distances(np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64))
    numbers = {number for open_part in still_open for number in open_part.known}
    small = Budget(min(budget.tree, STEPS_BESIDE_THE_OTHERS), checks=0)
    pattern, steps = counts.copy(), beside.steps
    for columns, part in beside.parts(counts, labels):
        if (number := int(block[columns[0]])) in numbers:
            pattern[columns] = _distance(part, block[columns], number, bounded, small).witness
            steps += part.steps
    for columns, part, known in ((each.columns, each.part, each.known) for each in still_open):
        before = part.steps
        for number, least in known.items():
            objective = _shared(part, block[columns], number)
            above = pattern[columns][objective.columns] > objective.caps
            descend(part, objective, above, part.lower, part.upper, _floor(int(objective.caps.sum()), bounded, number).value)
            exact.lower[number] += max(0, least - part.best_seen(objective)[0])
        steps += part.steps - before
    of_open = np.isin(np.arange(n_blocks), list(numbers))
    upper = np.where(of_open, np.minimum(exact.upper, bounded.upper), exact.upper)
    proof = np.where(
        bounded.upper <= exact.lower, int(Proof.MIP_PROVED), int(Proof.MIP)
    )  # another part may rest on the solver's word
    return Distances(exact.lower, upper, np.where(of_open & (upper <= exact.lower), proof, exact.proof)), steps


def _floor(people: int, most: Distances, number: int) -> Floor:
    """Return what a part's people have in common at the least, since its block cannot differ by more than ``most``."""
    proof = Proof(int(most.proof[number]))
    return Floor(people - int(most.upper[number]), Proof.MIP_PROVED if proof is Proof.OPEN else proof)


def _capped(found: Distances, most: IntArray, proof: IntArray | np.int64) -> Distances:
    """Return what is found where another bound, with its own proof, may be tighter than a search that was not closed."""
    tighter = most < found.upper
    upper = np.where(tighter, most, found.upper)
    proofs = np.where(tighter, np.where(upper == found.lower, proof, int(Proof.OPEN)), found.proof)
    return Distances(found.lower, upper, proofs)


def _by_block(block: IntArray, counts: IntArray, n_blocks: int) -> IntArray:
    total = np.zeros(n_blocks, np.int64)
    np.add.at(total, block, counts)
    return total
