"""Cells that are published rounded to a base, or withheld where they are small: what is published of a count, and which counts a
published cell may stand for.

Sources: deterministic and random rounding, and the minimum frequency rule, as in Hundepool et al., Statistical Disclosure Control,
Wiley (2012). No secondary suppression is made.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbrecon.errors import InputError
from dbrecon.recon.census.kinds import IntArray

SUPPRESSED = -1
"""What a withheld cell is in arrays and county files."""

ROUNDINGS = ("nearest", "either")


@dataclass(frozen=True)
class Inexact:
    """How a table's cells are published, each by itself, sums too.

    ``suppressed_below``: counts of 1 to one less are withheld (0: none are). ``rounded_to``: the others are rounded to multiples of
    this base (1: they are not), to the ``nearest``, halves up, or at random to ``either`` neighbour. Zeros are published as 0.
    """

    rounded_to: int = 1
    rounding: str = "nearest"
    suppressed_below: int = 0

    def __post_init__(self) -> None:
        """Raise InputError for what is none."""
        whole = all(type(number) is int for number in (self.rounded_to, self.suppressed_below))
        if not whole or self.rounded_to < 1 or self.suppressed_below < 0 or self.suppressed_below == 1:
            raise InputError("rounded_to is a whole number from 1, suppressed_below one from 2 (or 0)")
        if self.rounding not in ROUNDINGS:
            raise InputError(f"rounding {self.rounding!r} is not known; take one of {', '.join(ROUNDINGS)}")

    def __str__(self) -> str:
        """As ``rounded to 5, suppressed below 3``."""
        rounded = f"rounded to {self.rounded_to}" + (", at random" if self.rounding == "either" else "")
        words = [rounded] if self.rounded_to > 1 else []
        return ", ".join([*words, *([f"suppressed below {self.suppressed_below}"] if self.suppressed_below else [])]) or "exact"

    @property
    def exact(self) -> bool:
        """Whether cells are what they count."""
        return self.rounded_to == 1 and not self.suppressed_below

    def publish(self, counts: npt.NDArray[np.integer], rng: np.random.Generator | None = None) -> IntArray:
        """Return what is published of counts, of the same shape; ``SUPPRESSED`` where they are withheld. Rounding at random, which
        needs ``rng``, goes up with the chance that keeps the mean."""
        true, base = np.asarray(counts, np.int64), self.rounded_to
        if self.rounding == "either" and base > 1:
            if rng is None:
                raise ValueError("rounding at random needs a generator")
            shown = (true + rng.integers(0, base, true.shape)) // base * base
        else:
            shown = (true + base // 2) // base * base
        return np.where((true > 0) & (true < self.suppressed_below), np.int64(SUPPRESSED), shown)

    def interval(self, published: npt.NDArray[np.integer]) -> tuple[IntArray, IntArray]:
        """Return the least and the most that published cells may stand for, of the same shape."""
        shown, base = np.asarray(published, np.int64), self.rounded_to
        below = base - 1 if self.rounding == "either" else base // 2
        above = base - 1 if self.rounding == "either" else base - 1 - base // 2
        least, most = np.maximum(shown - below, 0), shown + above
        most = np.where((least == 0) & (most < self.suppressed_below), 0, most)
        least = np.where(least > 0, np.maximum(least, self.suppressed_below), least)
        withheld = shown == SUPPRESSED
        return np.where(withheld, 1, least), np.where(withheld, self.suppressed_below - 1, most)

    def impossible(self, published: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Return which cells cannot be published so."""
        shown = np.asarray(published, np.int64)
        least, most = self.interval(shown)
        withheld = (shown == SUPPRESSED) & (self.suppressed_below > 0)
        return np.asarray(~withheld & ((shown < 0) | (shown % self.rounded_to != 0) | (most < least)))
