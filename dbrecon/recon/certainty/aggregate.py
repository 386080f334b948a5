"""Each block beside an aggregate of the others: what they can leave it of the counts of the tract, and must.

As the blockwise bound, but with both ends of a block's piece of each sum over several blocks. Its ends follow from the block's own
sums, by small linear programs; and the piece is at most what the sum leaves when all other pieces are as small as they can be, at
least what is missing when they are as large. A few rounds of both. All of it holds for every solution. What is left out is that the
others' pieces must go together.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.blockwise import blockwise_system
from dbrecon.recon.certainty.labels import Labels
from dbrecon.recon.certainty.objective import Objective
from dbrecon.recon.certainty.part import Part, members, part_of, split
from dbrecon.recon.certainty.search import Floor, Proof, Search
from dbrecon.recon.solve.propagation import CountSystem, components, propagate

ROUNDS = 3
"""A third one has changed next to nothing wherever it was tried."""


@dataclass(frozen=True)
class Aggregate:
    """Blocks' own systems, side by side in one, whose parts are of one block each; bounds (columns,) that hold for all solutions of
    the tract; the simplex steps it took."""

    system: CountSystem
    lower: IntArray
    upper: IntArray
    steps: int

    def parts(self, counts: IntArray, labels: Labels) -> Iterator[tuple[IntArray, Part]]:
        """Yield the independent parts, as :func:`split` does. ``counts`` is a solution."""
        return split(self.system, self.lower, self.upper, counts, labels.of_blocks())


def aggregate(
    system: CountSystem, block: IntArray, row_block: IntArray, lower: IntArray, upper: IntArray, counts: IntArray
) -> Aggregate:
    """Return what a tract's blocks are beside the aggregate of the others. ``block`` and ``row_block`` as of
    :func:`blockwise_system`, ``lower`` and ``upper`` (columns,) bounds that hold for all solutions, of which ``counts`` is one."""
    apart, whole = blockwise_system(system, block, row_block)
    steps = 0
    for _ in range(ROUNDS):
        apart = _shared_out(apart, whole, system, lower, upper)
        lower, upper = propagate(apart, lower, upper)
        closer, more = _by_programs(apart, lower, upper, counts)
        steps += more
        if (closer.row_lower == apart.row_lower).all() and (closer.row_upper == apart.row_upper).all():
            break
        apart = closer
    return Aggregate(apart, *propagate(apart, lower, upper), steps)


def _shared_out(apart: CountSystem, whole: IntArray, system: CountSystem, lower: IntArray, upper: IntArray) -> CountSystem:
    """Return the pieces with ends that their counts' bounds and all other pieces of the same sum leave; ``whole`` (rows,) is the
    number of that sum in ``system``."""
    least = np.maximum(apart.row_lower, apart.sums(lower))
    most = np.minimum(apart.row_upper, apart.sums(upper))
    while True:
        others_least, others_most = (_total(whole, ends, system.n_rows)[whole] - ends for ends in (least, most))
        more = np.maximum(least, system.row_lower[whole] - others_most)
        less = np.minimum(most, system.row_upper[whole] - others_least)
        if (more == least).all() and (less == most).all():
            return replace(apart, row_lower=least, row_upper=most)
        least, most = more, less


def _total(whole: IntArray, ends: IntArray, n: int) -> IntArray:
    total = np.zeros(n, np.int64)
    np.add.at(total, whole, ends)
    return total


def _by_programs(apart: CountSystem, lower: IntArray, upper: IntArray, counts: IntArray) -> tuple[CountSystem, int]:
    """Return the pieces with the ends that a linear program over their own block gives each, and the steps it took."""
    least, most = apart.row_lower.copy(), apart.row_upper.copy()
    label, n = components(apart, lower, upper)
    of_row = _parts_of_rows(apart, label, n)
    steps = 0
    for number, columns in enumerate(members(label, n)):
        rows = np.flatnonzero((of_row == number) & (least < most))
        part = part_of(apart, lower, upper, counts, columns, None)
        for row in rows.tolist():
            counted = apart.columns[apart.starts[row] : apart.starts[row + 1]]
            inside = np.searchsorted(columns, counted[label[counted] >= 0])
            if len(inside) > 1:  # of a single count the bounds say as much
                fixed = int(lower[counted[label[counted] < 0]].sum())
                least[row] = fixed + _end(part, inside, 1, int(least[row]) - fixed)
                most[row] = fixed - _end(part, inside, -1, fixed - int(most[row]))
        steps += part.steps
    return replace(apart, row_lower=least, row_upper=most), steps


def _parts_of_rows(apart: CountSystem, label: IntArray, n: int) -> IntArray:
    """Return (rows,) the part that has all open counts of a row; -1 where there is none or several have some."""
    if not apart.n_rows:
        return np.zeros(0, np.int64)
    of_entry = label[apart.columns]
    last = np.maximum.reduceat(of_entry, apart.starts[:-1])
    first = np.minimum.reduceat(np.where(of_entry < 0, n, of_entry), apart.starts[:-1])
    return np.where(first == last, last, -1)


def _end(part: Part, inside: IntArray, sign: int, known: int) -> int:
    """Return what the people of some columns, times ``sign``, are proved not to be below; ``known`` is such a number."""
    floor = Floor(known, Proof.LP)
    return max(known, Search(part, Objective.total(inside, sign), part.steps, floor=floor).run(most_nodes=1).lower)
