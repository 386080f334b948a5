"""Bounds of counts that follow from sums alone, in integers: exact, without a solver.

A system asks for integers ``lower <= x <= upper`` whose sums over rows lie between ``row_lower`` and ``row_upper``. A count is
at most
what its row leaves when all others are as low as they can be, and at least what is missing when all others are as high as they
can be.
Applied to a fixed point this gives valid bounds (interval or bounds propagation; the shuttle algorithm of statistical
disclosure control).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.errors import InputError
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.tract.model import UNBOUNDED, Model

__all__ = ["UNBOUNDED", "Contradiction", "CountSystem", "components", "propagate"]


class Contradiction(InputError):
    """No integers meet all sums and bounds."""


@dataclass(frozen=True)
class CountSystem:
    """Sums of counts in compressed rows: row i counts ``columns[starts[i]:starts[i + 1]]``, each once, at least one.

    ``row_lower``, ``row_upper`` (rows,) bound its sum; they are equal where a count is published. ``n_columns`` counts in all.
    """

    starts: IntArray
    columns: IntArray
    row_lower: IntArray
    row_upper: IntArray
    n_columns: int

    @classmethod
    def of_model(cls, model: Model) -> "CountSystem":
        """Return the rows of a tract's model. Raises Contradiction for a count of nobody that is not 0."""
        lengths = np.diff(model.starts)
        if (lengths == 0).any():
            row = int(np.flatnonzero(lengths == 0)[0])
            raise Contradiction(
                f"tract {model.geoid}: {model.row_name(row)} counts {model.rhs[row]} people, but others forbid everyone it counts"
            )
        return cls(model.starts, model.columns, *model.bounds(), model.n_variables)

    @property
    def n_rows(self) -> int:
        """Number of sums."""
        return len(self.row_lower)

    @cached_property
    def row_of(self) -> IntArray:
        """(nonzeros,) the row of each coefficient."""
        return np.repeat(np.arange(self.n_rows), np.diff(self.starts))

    @cached_property
    def by_column(self) -> tuple[IntArray, IntArray, IntArray]:
        """(coefficients ordered by column, starts of the columns that have any, those columns)."""
        order = np.argsort(self.columns, kind="stable")
        counts = np.bincount(self.columns, minlength=self.n_columns)
        used = np.flatnonzero(counts)
        return order, np.cumsum(counts[used]) - counts[used], used

    def sums(self, values: npt.NDArray[np.int64]) -> IntArray:
        """Return (rows,) the sum of ``values`` (columns,) over each row."""
        if not self.n_rows:
            return np.zeros(0, np.int64)
        return np.asarray(np.add.reduceat(values[self.columns], self.starts[:-1]))

    def combine(self, weights: npt.NDArray[np.int64]) -> IntArray:
        """Return (columns,) the sum of ``weights`` (rows,) over the rows that count each column: the transposed product."""
        total = np.zeros(self.n_columns, np.int64)
        order, starts, used = self.by_column
        if len(used):
            total[used] = np.add.reduceat(weights[self.row_of][order], starts)
        return total

    def meets(self, values: IntArray) -> bool:
        """Return whether every sum of ``values`` lies within its bounds, in integers."""
        sums = self.sums(values)
        return bool(((sums >= self.row_lower) & (sums <= self.row_upper)).all())

    def restrict(self, columns: IntArray, fixed: IntArray) -> tuple["CountSystem", IntArray]:
        """Return the system of some columns when all others have the values ``fixed`` (columns,); and the old numbers of its rows.

        Rows without a column that is left are dropped: it is for the caller to know that they hold. ``columns`` ascend.
        """
        number = np.full(self.n_columns, -1, np.int64)
        number[columns] = np.arange(len(columns))
        elsewhere = fixed.copy()
        elsewhere[columns] = 0
        taken = self.sums(elsewhere)
        kept = number[self.columns] >= 0
        lengths = np.bincount(self.row_of[kept], minlength=self.n_rows)
        rows = np.flatnonzero(lengths)
        starts = np.concatenate([[0], np.cumsum(lengths[rows])])
        lower, upper = self.row_lower[rows] - taken[rows], self.row_upper[rows] - taken[rows]
        return CountSystem(starts, number[self.columns[kept]], lower, upper, len(columns)), rows


def propagate(system: CountSystem, lower: IntArray, upper: IntArray) -> tuple[IntArray, IntArray]:
    """Return the tightest bounds (columns,) that follow sum by sum from ``lower`` and ``upper``, at their fixed point.

    The fixed point does not depend on the order of the sums. Raises Contradiction if a count's bounds cross or a sum cannot be met.
    """
    if not system.n_rows:
        return lower, upper
    order, starts, used = system.by_column
    columns, row_of = system.columns, system.row_of
    while True:
        room = system.row_upper - system.sums(lower)
        missing = system.sums(upper) - system.row_lower
        if (room < 0).any() or (missing < 0).any():
            raise Contradiction("the counts contradict each other: one of the sums cannot be met")
        highest = (lower[columns] + room[row_of])[order]
        lowest = (upper[columns] - missing[row_of])[order]
        new_upper, new_lower = upper.copy(), lower.copy()
        new_upper[used] = np.minimum(upper[used], np.minimum.reduceat(highest, starts))
        new_lower[used] = np.maximum(lower[used], np.maximum.reduceat(lowest, starts))
        if (new_lower > new_upper).any():
            raise Contradiction("the counts contradict each other: the least that one of them can be is more than the most")
        if (new_lower == lower).all() and (new_upper == upper).all():
            return lower, upper
        lower, upper = new_lower, new_upper


def components(system: CountSystem, lower: IntArray, upper: IntArray) -> tuple[IntArray, int]:
    """(columns,) the number of the independent part that each open count belongs to, -1 for those that are fixed; how many parts.

    Two open counts are of one part if a sum that can be missed counts both. Parts are numbered by their first column.
    """
    is_open = lower < upper
    binding = (system.sums(upper) > system.row_upper) | (system.sums(lower) < system.row_lower)
    used = is_open[system.columns] & binding[system.row_of]
    number = np.cumsum(is_open) - 1
    linked = connected(system.row_of[used], number[system.columns[used]], int(is_open.sum()))
    names, first, inverse = np.unique(linked, return_index=True, return_inverse=True)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(names))
    label = np.full(system.n_columns, -1, np.int64)
    label[is_open] = rank[inverse]
    return label, len(names)


def connected(rows: IntArray, columns: IntArray, n_columns: int) -> IntArray:
    """(n_columns,) a number that two columns share if rows connect them. Entry i is that row ``rows[i]``, ascending, has column
    ``columns[i]``."""
    from scipy.sparse.csgraph import connected_components  # it loads scipy.linalg, which no other step of a worker needs

    lengths = np.bincount(rows)
    lengths = lengths[lengths > 0]
    n = len(lengths) + n_columns
    starts = np.zeros(n + 1, np.int32)
    np.cumsum(lengths, out=starts[1 : len(lengths) + 1])
    starts[len(lengths) + 1 :] = len(columns)
    links = sp.csr_array((np.ones(len(columns)), (columns + len(lengths)).astype(np.int32), starts), shape=(n, n))
    return np.asarray(connected_components(links, directed=False)[1][len(lengths) :], np.int64)
