"""Logarithms of factorials of counts of people."""

import math

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import IntArray

_known = np.zeros(1)
_MOST_KNOWN = 1 << 20


def log_factorial(n: IntArray) -> npt.NDArray[np.float64]:
    """Return log(n!) of whole numbers from 0 on, in the shape of ``n``.

    Counts of people repeat: each is computed once a process (and scipy.special, which has it too, takes longer to load).
    """
    global _known  # noqa: PLW0603 - grown here alone
    most = int(n.max(initial=0))
    if most > _MOST_KNOWN:
        from scipy.special import gammaln

        return np.asarray(gammaln(n + 1.0))
    if most >= len(_known):
        more = range(len(_known), max(most + 1, 2 * len(_known)))
        _known = np.concatenate([_known, [math.lgamma(number + 1.0) for number in more]])
    values: npt.NDArray[np.float64] = _known[n]
    return values
