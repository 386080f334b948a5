"""A random walk over all data sets with the same tables: near a uniform sample of them, as far as its moves reach.

Moves are circuits (:mod:`.circuits`) of differences of corners. A step takes a move as often, forwards or backwards, as a uniform
draw among all numbers of times that keep every count within its bounds (a heat bath: Gibbs sampling along a line), which leaves
the uniform distribution as it is. Moves that share no count are independent and taken at once; a sweep takes all of them, group by
group, in a random order. The moves are settled before the walk begins. Nothing proves that they connect all data sets:
:class:`WalkFigures` tells what was seen.
"""

from dataclasses import dataclass

import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.circuits import Move, circuits
from dbrecon.recon.certainty.objective import FloatArray
from dbrecon.recon.solve.propagation import UNBOUNDED, CountSystem

CORNERS = 80
"""Corners drawn for moves: neighbours in their order give the differences."""

CHAINS = 2
BURN_IN = 50
"""Sweeps of each chain before its first sample."""

BETWEEN = 10
"""Sweeps from one sample to the next."""

MIXED = 1.1
"""Gelman and Rubin's statistic (1992) of a count above which its chains count as not mixed."""


@dataclass(frozen=True)
class WalkFigures:
    """How well a walk mixed. ``moves``; ``stuck`` counts that differ among corners and never moved; ``unmixed`` counts whose chains
    disagree (:data:`MIXED`); of samples after one another ``covariance``, of all ``variance``, summed over counts."""

    moves: int = 0
    stuck: int = 0
    unmixed: int = 0
    covariance: float = 0.0
    variance: float = 0.0

    def __add__(self, other: "WalkFigures") -> "WalkFigures":
        return WalkFigures(
            self.moves + other.moves,
            self.stuck + other.stuck,
            self.unmixed + other.unmixed,
            round(self.covariance + other.covariance, 3),
            round(self.variance + other.variance, 3),
        )


class KernelWalk:
    """A system's counts and moves in groups, each of which touches every count once at the most."""

    def __init__(self, system: CountSystem, lower: IntArray, upper: IntArray, moves: list[Move]) -> None:
        n = system.n_columns
        # One count more, without bounds, stands in shorter moves for those they lack.
        self._lower, self._upper = np.append(lower, -UNBOUNDED), np.append(upper, UNBOUNDED)
        self._groups = [_padded(group, n) for group in _apart(moves, n)]

    def sweep(self, counts: IntArray, rng: np.random.Generator) -> None:
        """Take every move of the ``counts`` (columns + 1,), in place; the last one is none."""
        for number in rng.permutation(len(self._groups)):
            columns, change, size = self._groups[number]
            values = counts[columns]
            up, down = (self._upper[columns] - values) // size, (values - self._lower[columns]) // size
            rises = change > 0
            most, least = np.where(rises, up, down).min(axis=1), np.where(rises, down, up).min(axis=1)
            counts[columns] = values + rng.integers(-least, most + 1)[:, None] * change


def _apart(moves: list[Move], n: int) -> list[list[Move]]:
    """Move in groups of which no two share a column."""
    taken: list[np.ndarray] = []
    groups: list[list[Move]] = []
    for columns, change in moves:
        number = next((i for i, used in enumerate(taken) if not used[columns].any()), len(groups))
        if number == len(groups):
            taken.append(np.zeros(n, bool))
            groups.append([])
        taken[number][columns] = True
        groups[number].append((columns, change))
    return groups


def _padded(group: list[Move], filler: int) -> tuple[IntArray, IntArray, IntArray]:
    """Return (moves, longest) columns, changes, and their sizes, at least 1."""
    longest = max(len(columns) for columns, _ in group)
    where, by = np.full((len(group), longest), filler), np.zeros((len(group), longest), np.int64)
    for i, (columns, change) in enumerate(group):
        where[i, : len(columns)], by[i, : len(columns)] = columns, change
    return where, by, np.maximum(np.abs(by), 1)


def moves_between(system: CountSystem, corners: IntArray, rng: np.random.Generator) -> list[Move]:
    """Return the circuits of the differences of solutions ``corners`` (solutions, columns) that follow one another, each once."""
    found: dict[tuple[bytes, bytes], Move] = {}
    for difference in np.diff(corners, axis=0):
        for columns, change in circuits(system, difference, rng):
            found[columns.tobytes(), change.tobytes()] = (columns, change)
    return list(found.values())


def walk(
    system: CountSystem, lower: IntArray, upper: IntArray, corners: IntArray, number: int, rng: np.random.Generator
) -> tuple[IntArray, WalkFigures]:
    """Walk over the solutions within bounds from the first of ``corners`` (solutions, columns).

    Returns (``number``, columns) samples, those of each chain after one another, and how well it mixed.
    """
    moves = moves_between(system, corners, rng)
    going = KernelWalk(system, lower, upper, moves)
    each = -(-number // CHAINS)
    chains = [_Chain.of(going, corners[i % len(corners)], each, rng) for i in range(CHAINS)]
    return np.concatenate([chain.samples for chain in chains])[:number], _figures(len(moves), corners, chains)


@dataclass(frozen=True)
class _Chain:
    """A chain's ``samples`` (samples, columns); of its counts after each of ``sweeps`` sweeps the sum, that of squares, and the
    extremes (columns,)."""

    samples: IntArray
    sweeps: int
    total: IntArray
    squares: IntArray
    least: IntArray
    most: IntArray

    @classmethod
    def of(cls, going: KernelWalk, start: IntArray, number: int, rng: np.random.Generator) -> "_Chain":
        counts = np.append(start, 0)
        for _ in range(BURN_IN):
            going.sweep(counts, rng)
        samples = np.empty((number, len(start)), np.int64)
        total, squares = np.zeros(len(start), np.int64), np.zeros(len(start), np.int64)
        least, most = start.copy(), start.copy()
        for row in samples:
            for _ in range(BETWEEN):
                going.sweep(counts, rng)
                here = counts[:-1]
                total += here
                squares += here * here
                np.minimum(least, here, out=least)
                np.maximum(most, here, out=most)
            row[:] = counts[:-1]
        return cls(samples, number * BETWEEN, total, squares, least, most)


def _figures(moves: int, corners: IntArray, chains: list[_Chain]) -> WalkFigures:
    means = np.stack([chain.total / chain.sweeps for chain in chains])
    within = np.stack([chain.squares / chain.sweeps - mean**2 for chain, mean in zip(chains, means, strict=True)]).mean(axis=0)
    between = means.var(axis=0, ddof=1)
    moved = np.logical_or.reduce([chain.least < chain.most for chain in chains])
    apart: FloatArray = np.sqrt((within + between) / np.where(within > 0, within, 1.0))
    unmixed = moved & np.where(within > 0, apart > MIXED, between > 0)
    stuck = ~moved & (corners != corners[0]).any(axis=0)
    samples = np.stack([chain.samples for chain in chains]).astype(np.float64)
    deviations = samples - samples.mean(axis=(0, 1))
    covariance = (deviations[:, 1:] * deviations[:, :-1]).mean(axis=(0, 1)).sum() if samples.shape[1] > 1 else 0.0
    variance = samples.var(axis=(0, 1)).sum()
    return WalkFigures(moves, int(stuck.sum()), int(unmixed.sum()), round(float(covariance), 3), round(float(variance), 3))
