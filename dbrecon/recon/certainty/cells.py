"""Feasibility intervals: the least and the most that a count can be over all solutions (an audit, in the field's word)."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.minimum import minimise
from dbrecon.recon.certainty.objective import Objective
from dbrecon.recon.certainty.part import Part
from dbrecon.recon.certainty.search import Budget


def tighten_lower(part: Part, columns: IntArray, group: IntArray, budget: Budget) -> None:
    """Make ``part.lower`` of ``columns`` the least that each can be, as far as the budget reaches.

    ``group`` (columns,) is what counts are first minimised together by: one solution shows the least of many at once.
    """
    _tighten(part, columns, group, budget, 1)


def tighten_upper(part: Part, columns: IntArray, group: IntArray, budget: Budget) -> None:
    """As :func:`tighten_lower`, for ``part.upper`` and the most that each count can be."""
    _tighten(part, columns, group, budget, -1)


def _tighten(part: Part, columns: IntArray, group: IntArray, budget: Budget, sign: int) -> None:
    proved = replace(budget, checks=0)  # other proofs will lean on these bounds: no word of the solver's here
    for number in np.unique(group).tolist():
        _push_together(part, columns[group == number], sign)
    for column in columns[_undecided(part, columns, sign)].tolist():
        if part.steps >= budget.tract:
            return
        if not _undecided(part, np.array([column]), sign).any():  # another count's solution has shown it
            continue
        found = minimise(part, Objective.total(np.array([column]), sign), proved)
        if sign > 0:
            part.lower[column] = max(part.lower[column], found.lower)
        else:
            part.upper[column] = min(part.upper[column], -found.lower)


def _undecided(part: Part, columns: IntArray, sign: int) -> npt.NDArray[np.bool_]:
    if sign > 0:
        return np.asarray(part.seen_lower[columns] > part.lower[columns])
    return np.asarray(part.seen_upper[columns] < part.upper[columns])


def _push_together(part: Part, columns: IntArray, sign: int) -> None:
    """Collect solutions in which as many of the undecided counts as possible are at their ends, until nothing new is seen."""
    seen = part.seen_lower if sign > 0 else part.seen_upper
    while True:
        left = columns[_undecided(part, columns, sign)]
        before = int(seen[left].sum())
        if not len(left) or not part.push(Objective.total(left, sign)) or int(seen[left].sum()) == before:
            return
