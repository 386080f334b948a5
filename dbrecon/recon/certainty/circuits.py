"""Moves from one data set to another: circuits, the least ways in which counts can change while all sums stay.

A difference of two data sets is a sum of circuits that agree with it in sign, each of which can be gone by itself. They are found
one by one as extreme rays of the cone of such changes: optima of a small linear program with one count's change fixed at 1.
"""

from collections.abc import Iterator

import highspy
import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.objective import FloatArray
from dbrecon.recon.certainty.warm_lp import SIMPLEX_OPTIONS
from dbrecon.recon.solve.propagation import CountSystem
from dbrecon.recon.solve.quiet_highs import CONTINUOUS, QuietHighs

Move = tuple[IntArray, IntArray]
"""Columns, ascending, and by how much each changes; the first rises. Going it backwards is a move too."""

MULTIPLES = (1, 2, 3, 4, 6)
"""A ray with fractions is made whole by one of these, or left out."""

EXACT = 1e-6


def circuits(system: CountSystem, difference: IntArray, rng: np.random.Generator) -> Iterator[Move]:
    """Circuits that sum up to ``difference`` (columns,), of two solutions of the system; fewer where one cannot be made whole."""
    columns = np.flatnonzero(difference)
    if not len(columns):
        return
    signs, left = np.sign(difference[columns]), np.abs(difference[columns])
    rays = _Rays(system.restrict(columns, np.zeros(system.n_columns, np.int64))[0], signs)
    while (open_ := np.flatnonzero(left)).size:
        ray = rays.find(int(rng.choice(open_)), left > 0, rng)
        if ray is None:
            return
        used = np.flatnonzero(ray)
        change = (signs * ray)[used]
        yield columns[used], change * np.sign(change[0])
        times = int((left[used] // ray[used]).min())
        if not times:
            return
        left[used] -= times * ray[used]


class _Rays:
    """The cone of changes with given signs that leave all sums as they are."""

    def __init__(self, system: CountSystem, signs: IntArray) -> None:
        n = system.n_columns
        self._all = np.arange(n, dtype=np.int32)
        self._highs = QuietHighs(SIMPLEX_OPTIONS)
        nothing = np.zeros(system.n_rows)
        self._highs.load(
            (system.starts, system.columns, signs[system.columns]),
            (nothing, nothing),
            (np.zeros(n), np.full(n, np.inf)),
            np.ones(n),
            CONTINUOUS,
        )

    def find(self, fixed: int, allowed: np.ndarray, rng: np.random.Generator) -> IntArray | None:
        """(columns,) a random ray in whole numbers in which ``fixed`` changes, of ``allowed`` columns; None if none is found."""
        n = len(self._all)
        lower, upper = np.zeros(n), np.where(allowed, np.inf, 0.0)
        lower[fixed] = upper[fixed] = 1.0
        self._highs.changeColsBounds(n, self._all, lower, upper)
        self._highs.changeColsCost(n, self._all, 0.2 + rng.random(n))
        self._highs.run()
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        return _whole(np.asarray(self._highs.getSolution().col_value))


def _whole(ray: FloatArray) -> IntArray | None:
    for multiple in MULTIPLES:
        counts = np.rint(multiple * ray)
        if np.abs(counts - multiple * ray).max() < EXACT:
            return counts.astype(np.int64)
    return None
