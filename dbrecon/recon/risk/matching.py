"""Matching records one to one, without replacement, on equal keys.

Source of the rule: Abowd et al., arXiv 2312.11283: within a block, first on sex and exact age, then, of those who are left, on
sex and bin of age. Which of several equal records are taken is drawn by a seed.
"""

from dataclasses import dataclass

import numpy as np

from dbrecon.recon.census.kinds import IntArray

EXACT, BINNED = 0, 1


@dataclass(frozen=True)
class Match:
    """Pairs of records: ``left[i]`` with ``right[i]``, in pass ``stage[i]`` (``EXACT`` or ``BINNED``). Each record at most once."""

    left: IntArray
    right: IntArray
    stage: IntArray

    def __len__(self) -> int:
        return len(self.left)


def match_equal(left: IntArray, right: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Pair records with equal keys, as many as there are: of each key the smaller of the two counts.

    ``left`` (n,) and ``right`` (m,) are keys >= 0. Returns positions in both, of one length. Among equal records all are
    equally likely.
    """
    left_order, left_key = _shuffled_order(left, rng)
    right_order, right_key = _shuffled_order(right, rng)
    # The k-th record of a key on one side goes with the k-th on the other.
    rank = np.arange(len(left_key)) - np.searchsorted(left_key, left_key, side="left")
    start = np.searchsorted(right_key, left_key, side="left")
    paired = rank < np.searchsorted(right_key, left_key, side="right") - start
    return left_order[paired], right_order[start[paired] + rank[paired]]


def _shuffled_order(key: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Return positions sorted by key, equal ones in random order; and the keys in that order."""
    shuffled = rng.permutation(len(key))
    order = shuffled[np.argsort(key[shuffled], kind="stable")]
    return order, key[order]


def match_in_two_passes(left: tuple[IntArray, IntArray], right: tuple[IntArray, IntArray], rng: np.random.Generator) -> Match:
    """Match on the first key, then those who are left on the second.

    ``left`` and ``right`` are pairs of keys of the same records: exact, and coarser.
    """
    first_left, first_right = match_equal(left[0], right[0], rng)
    left_over = np.setdiff1d(np.arange(len(left[0])), first_left, assume_unique=True)
    right_over = np.setdiff1d(np.arange(len(right[0])), first_right, assume_unique=True)
    second_left, second_right = match_equal(left[1][left_over], right[1][right_over], rng)
    return Match(
        np.concatenate([first_left, left_over[second_left]]),
        np.concatenate([first_right, right_over[second_right]]),
        np.repeat([EXACT, BINNED], [len(first_left), len(second_left)]),
    )
