"""The certainty of one tract: how far each block of a reconstruction may be from another data set with the same tables.

Definitions and what is exact: docs/certainty.md.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.blockwise import blockwise_system
from dbrecon.recon.certainty.cells import tighten_lower, tighten_upper
from dbrecon.recon.certainty.joint import shared_minima
from dbrecon.recon.certainty.labels import Labels
from dbrecon.recon.certainty.minimum import minimise
from dbrecon.recon.certainty.objective import Objective
from dbrecon.recon.certainty.part import Part
from dbrecon.recon.certainty.search import Budget, Floor, Proof, Search
from dbrecon.recon.solve.propagation import UNBOUNDED, CountSystem, components, propagate
from dbrecon.recon.tract.model import Model


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
    labels = Labels.of_model(model)
    blockwise, blockwise_steps = blockwise_distances(system, model, labels, counts, budget)
    lower, upper = bounds(system)
    cells = Cells(lower.copy(), upper.copy(), counts.copy(), counts.copy())
    exact = Distances(np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64))
    steps = blockwise_steps
    for columns, part in split(system, lower, upper, counts, labels):
        part.steps = steps
        _work_part(part, model.block[columns], exact, blockwise, budget, intervals)
        steps = part.steps
        cells.lower[columns], cells.upper[columns] = part.lower, part.upper
        cells.seen_lower[columns], cells.seen_upper[columns] = part.seen_lower, part.seen_upper
    certain = _by_block(model.block, np.minimum(cells.lower, counts), n_blocks)
    exact = _capped(_capped(exact, people - certain, np.int64(Proof.MIP_PROVED)), blockwise.upper, blockwise.proof)
    any_two = np.minimum(np.minimum(people, 2 * exact.upper), people - certain)
    return TractCertainty(people, exact, blockwise, certain, any_two, cells, steps)


def split(
    system: CountSystem, lower: IntArray, upper: IntArray, counts: IntArray, labels: Labels | None = None
) -> Iterator[tuple[IntArray, Part]]:
    """Yield the independent parts of a system's open counts: their columns, ascending, and the part.

    ``counts`` is a solution, ``labels`` are the clusters of the columns.
    """
    label, n = components(system, lower, upper)
    for columns in _members(label, n):
        yield columns, _part(system, lower, upper, counts, columns, labels)


def _members(label: IntArray, n: int) -> Iterator[IntArray]:
    """Return the columns with each label from 0 on, ascending."""
    order = np.argsort(label, kind="stable")
    ends = np.searchsorted(label[order], np.arange(n + 1))
    return (order[start:end] for start, end in itertools.pairwise(ends.tolist()))


def _part(
    system: CountSystem, lower: IntArray, upper: IntArray, counts: IntArray, columns: IntArray, labels: Labels | None
) -> Part:
    inside = None if labels is None else labels.within(columns)
    return Part(system.restrict(columns, counts)[0], lower[columns], upper[columns], counts[columns], inside)


def blockwise_distances(
    system: CountSystem, model: Model, labels: Labels, counts: IntArray, budget: Budget
) -> tuple[Distances, int]:
    """Return the blockwise bound of each block, and the steps it took. ``labels`` are the clusters of the columns."""
    n_blocks, block = len(model.blocks), model.block
    relaxed = blockwise_system(system, block, model.row_block)
    found = Distances(np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64))
    lower, upper = bounds(relaxed)
    label, n = components(relaxed, lower, upper)
    if not n:
        return found, 0
    joint = shared_minima(relaxed, lower, upper, label, n, counts)
    steps = joint.steps
    for number, columns in enumerate(_members(label, n)):
        at = int(block[columns[0]])
        if joint.closed[number]:
            differ = int(counts[columns].sum() - joint.least[number])
            found.add(at, differ, differ, Proof.PROPAGATION if joint.settled[number] else Proof.LP)
        else:
            part = _part(relaxed, lower, upper, counts, columns, labels.of_blocks())
            _distance(part, block[columns], at, found, budget)
            steps += part.steps
    return found, steps


def bounds(system: CountSystem) -> tuple[IntArray, IntArray]:
    """Return the bounds (columns,) of all counts that follow from the sums one by one."""
    n = system.n_columns
    return propagate(system, np.zeros(n, np.int64), np.full(n, UNBOUNDED))


def _work_part(part: Part, block: IntArray, found: Distances, blockwise: Distances, budget: Budget, intervals: bool) -> None:
    """Find the distance of each block of a part, then the least of what is filled: most of it has been seen by then."""
    filled = np.flatnonzero(part.known > 0)
    for number in np.unique(block[filled]).tolist():
        _distance(part, block, number, found, budget, blockwise)
    tighten_lower(part, filled, block[filled], budget)
    if intervals:
        every = np.arange(len(block))
        tighten_lower(part, every, block, budget)
        tighten_upper(part, every, block, budget)


def _distance(part: Part, block: IntArray, number: int, found: Distances, budget: Budget, most: Distances | None = None) -> None:
    """Add a part's share of the distance of block ``number`` to what is found. It is never more than the block's ``most``."""
    columns = np.flatnonzero((block == number) & (part.known > 0))
    if not len(columns):
        return
    objective = Objective.shared(columns, part.known[columns])
    people = int(part.known[columns].sum())
    floor = None if most is None else _floor(people, most, number)
    if part.steps < budget.tract:
        least = minimise(part, objective, budget, floor)
    else:  # one program closes most blocks, and a tract has no more of these than blocks
        least = Search(part, objective, part.steps, floor=floor).run(most_nodes=1)
    found.add(number, people - least.upper, people - least.lower, least.proof)


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
