"""An attacker's file: what somebody could know of true people, of a given coverage and with a given share of errors."""

from dataclasses import replace

import numpy as np

from dbrecon.recon.census.kinds import N_AGES, IntArray
from dbrecon.recon.people.people import BLOCKS_PER_TRACT
from dbrecon.recon.risk.reidentification import Records

MOST_YEARS_OFF = 5
"""A wrong age is one to so many years off."""


def draw_attacker(truth: Records, coverage: float, errors: float, rng: np.random.Generator) -> tuple[Records, IntArray]:
    """Draw an attacker's records from true people, without race and origin.

    ``coverage`` (0 to 1) is the share of people that the attacker knows; ``errors`` (0 to 1) the share of these of whom one thing
    is wrong: the age (one to five years off), or the block (another inhabited one of the tract, where there is one), half each.
    Returns the records, and the position of each in ``truth`` (ascending).
    """
    chosen = np.sort(rng.choice(len(truth), round(coverage * len(truth)), replace=False))
    known = truth.select(chosen)
    wrong = rng.random(len(chosen)) < errors
    wrong_block = wrong & (rng.random(len(chosen)) < 0.5)
    block = np.where(wrong_block, _other_block(known.block, np.unique(truth.block), rng), known.block)
    stayed = block == known.block
    sa = np.where(wrong & stayed, _other_age(known.sa, rng), known.sa)
    return replace(known, block=block, sa=sa).without_race(), chosen


def _other_age(sa: IntArray, rng: np.random.Generator) -> IntArray:
    """Return the same sex, and an age category one to five away; mirrored at the ends."""
    sex, age = np.divmod(sa, N_AGES)
    off = rng.integers(1, MOST_YEARS_OFF + 1, len(sa)) * rng.choice([-1, 1], len(sa))
    moved = age + off
    moved = np.where((moved < 0) | (moved >= N_AGES), age - off, moved)
    cells: IntArray = sex * N_AGES + moved
    return cells


def _other_block(block: IntArray, inhabited: IntArray, rng: np.random.Generator) -> IntArray:
    """Another inhabited block of the same tract for each block; the same where it is the only one. ``inhabited`` is sorted."""
    tract = inhabited // BLOCKS_PER_TRACT
    first = np.searchsorted(tract, block // BLOCKS_PER_TRACT, side="left")
    number = np.searchsorted(tract, block // BLOCKS_PER_TRACT, side="right") - first
    here = np.searchsorted(inhabited, block) - first
    step = 1 + rng.integers(0, np.maximum(number - 1, 1))
    return np.where(number > 1, inhabited[first + (here + step) % number], block)
