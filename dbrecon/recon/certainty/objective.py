"""What is minimised over the counts that fit the tables, its linear relaxation from below, and bounds that are proofs.

All arithmetic that a bound rests on is in scaled integers: costs and multipliers are multiples of 1 / SCALE, that is, exact
rationals.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.solve.propagation import UNBOUNDED, CountSystem

FloatArray = npt.NDArray[np.float64]

SCALE = 1 << 28
"""Costs and multipliers are multiples of its inverse. A cost has at most 53 significant bits, so that a double holds it exactly."""

_LARGEST = float(1 << 61)
_LARGEST_MULTIPLIER = float(1 << 20)


@dataclass(frozen=True)
class Objective:
    """The sum over ``columns`` of ``weights * min(x, caps)``. Three arrays of one length; a cap that binds needs a weight of at
    least 0.

    The people that a block shares with a reconstruction h are such a sum: weights 1, caps h. The least of a count is another
    (no cap),
    the most of it a third (weight -1).
    """

    columns: IntArray
    weights: IntArray
    caps: IntArray

    @classmethod
    def shared(cls, columns: IntArray, counts: IntArray) -> "Objective":
        """Return people in common with ``counts`` of ``columns``: the sum of the smaller of the two counts."""
        return cls(columns, np.ones(len(columns), np.int64), counts)

    @classmethod
    def total(cls, columns: IntArray, weight: int = 1) -> "Objective":
        """Return people of ``columns``, each ``weight`` times."""
        return cls(columns, np.full(len(columns), weight, np.int64), np.full(len(columns), UNBOUNDED))

    def value(self, counts: IntArray) -> IntArray:
        """Return the sum, of each of the vectors ``counts`` (..., all columns)."""
        return np.asarray((self.weights * np.minimum(counts[..., self.columns], self.caps)).sum(axis=-1))

    def relaxed(self, lower: IntArray, upper: IntArray, kept: IntArray | None = None) -> tuple[IntArray, int]:
        """(costs of ``columns``, constant), both times SCALE, of a linear function that is nowhere above the sum within the bounds.

        Where a cap lies strictly between a count's bounds this is the chord of min(x, cap), its convex envelope, rounded down;
        elsewhere it is the function itself. With ``kept`` (columns of the sum,) only that share of each term, times SCALE, counts.
        """
        slope, constant = self.lines(lower, upper, kept)
        return slope, int(constant.sum())

    def lines(self, lower: IntArray, upper: IntArray, kept: IntArray | None = None) -> tuple[IntArray, IntArray]:
        """As :meth:`relaxed`, with the constant of each term."""
        low, high = lower[self.columns], upper[self.columns]
        weights = self.weights * (SCALE if kept is None else kept)
        middle = self.bent(lower, upper)
        slope = np.where(self.caps >= high, weights, 0)
        slope[middle] = weights[middle] * (self.caps - low)[middle] // (high - low)[middle]
        return slope, np.where(self.caps >= high, 0, weights * np.minimum(low, self.caps) - slope * low)

    def bent(self, lower: IntArray, upper: IntArray) -> npt.NDArray[np.bool_]:
        """(columns of the sum,) where a cap lies strictly between a count's bounds: there the relaxation is not the term itself."""
        return np.asarray((lower[self.columns] < self.caps) & (self.caps < upper[self.columns]))

    def gaps(self, counts: FloatArray, lower: IntArray, upper: IntArray) -> FloatArray:
        """Return (columns of the sum,) how far each term lies above its relaxation at ``counts``."""
        costs, _ = self.relaxed(lower, upper)
        x, low = counts[self.columns], lower[self.columns]
        at_low = self.weights * np.minimum(low, self.caps)
        return np.asarray(self.weights * np.minimum(x, self.caps) - at_low - costs / SCALE * (x - low))


@dataclass(frozen=True)
class DualBound:
    """A proof that a linear function is at least ``total / SCALE``; ``reduced`` (columns,) are its reduced costs times SCALE."""

    total: int
    reduced: IntArray

    @property
    def whole(self) -> int:
        """The least integer that is not below the bound."""
        return -(-self.total // SCALE)


def scaled(multipliers: FloatArray) -> IntArray | None:
    """Return a solver's multipliers as whole multiples of 1 / SCALE; None if they are no numbers, or too large for 64 bits."""
    if not np.isfinite(multipliers).all() or np.abs(multipliers).max(initial=0.0) > _LARGEST_MULTIPLIER:
        return None
    return np.rint(multipliers * SCALE).astype(np.int64)


def dual_bound(
    system: CountSystem, lower: IntArray, upper: IntArray, costs: IntArray, constant: int, multipliers: IntArray
) -> DualBound | None:
    """Return a lower bound of ``costs @ x + constant`` over the system, from any multipliers (rows,) of its sums; all three times
    SCALE.

    Weak duality: costs @ x = y @ (A x) + (costs - y A) @ x, and each term is at least its value at one end of its bounds. In
    integers, so exact. None if the numbers are too large for 64 bits.
    """
    reduced = costs - system.combine(multipliers)
    if too_large(system, lower, upper, reduced, multipliers):
        return None
    of_rows = np.where(multipliers > 0, multipliers * system.row_lower, multipliers * system.row_upper).sum()
    of_columns = np.where(reduced > 0, reduced * lower, reduced * upper).sum()
    return DualBound(constant + int(of_rows) + int(of_columns), reduced)


@dataclass(frozen=True)
class Shares:
    """A part of an objective's terms that is replaced by a number that it is never below: ``kept`` (columns of the sum,) is what
    is left of each term, ``replaced`` that number, both times SCALE."""

    kept: IntArray
    replaced: int


def too_large(system: CountSystem, lower: IntArray, upper: IntArray, reduced: IntArray, multipliers: IntArray) -> bool:
    """Return whether the sums of a bound may not fit into 64 bits."""
    ends = np.maximum(np.abs(system.row_lower), np.abs(system.row_upper)).astype(np.float64)
    size = np.abs(multipliers).astype(np.float64) @ ends
    size += np.abs(reduced).astype(np.float64) @ np.maximum(np.abs(lower), np.abs(upper)).astype(np.float64)
    return bool(size > _LARGEST)


def bound_of(
    system: CountSystem,
    lower: IntArray,
    upper: IntArray,
    objective: Objective,
    multipliers: IntArray,
    shares: Shares | None = None,
) -> DualBound | None:
    """Return the bound of an objective's relaxation within bounds (see :func:`dual_bound`)."""
    costs = np.zeros(system.n_columns, np.int64)
    costs[objective.columns], constant = objective.relaxed(lower, upper, None if shares is None else shares.kept)
    return dual_bound(system, lower, upper, costs, constant + (0 if shares is None else shares.replaced), multipliers)


def is_empty(system: CountSystem, lower: IntArray, upper: IntArray, multipliers: IntArray) -> bool:
    """Return whether multipliers prove that nothing fits within the bounds: the function 0 would be more than 0 (Farkas' lemma)."""
    bound = dual_bound(system, lower, upper, np.zeros(system.n_columns, np.int64), 0, multipliers)
    return bound is not None and bound.total > 0


def tightened(bound: DualBound, most: int, lower: IntArray, upper: IntArray) -> tuple[IntArray, IntArray]:
    """Bounds of all counts for which the function is at most ``most``, by the bound's reduced costs; ``most`` is not below the
    bound.

    A count with a reduced cost r > 0 that rises by d from its lower bound raises the bound by r d (the same from the upper bound).
    """
    slack = most * SCALE - bound.total
    step = np.minimum(slack // np.maximum(np.abs(bound.reduced), 1), upper - lower)
    new_upper = np.where(bound.reduced > 0, np.minimum(upper, lower + step), upper)
    new_lower = np.where(bound.reduced < 0, np.maximum(lower, upper - step), lower)
    return new_lower, new_upper
