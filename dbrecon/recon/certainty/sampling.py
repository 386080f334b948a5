"""Draws of data sets that have a tract's tables: corners, or a walk between them.

A corner minimises the sum over all open counts of an independent Gumbel cost times the count, part by part on the warm linear
relaxation; where the optimum is not whole, branch and cut finds one. Corners of the polytope of all data sets are *no uniform
sample* of them; a walk (:mod:`.walk`) comes near one, and takes longer. docs/certainty.md says what that means for a confidence.
"""

from dataclasses import dataclass, field

import numpy as np

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.mip import solve_mip
from dbrecon.recon.certainty.objective import SCALE, Objective
from dbrecon.recon.certainty.part import Part, split
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.certainty.tract_certainty import bounds
from dbrecon.recon.certainty.walk import CORNERS, WalkFigures, walk
from dbrecon.recon.solve.propagation import CountSystem
from dbrecon.recon.tract.model import Model

MIP_COSTS = 1 << 10
"""Branch and cut closes a gap under 1: costs times this, rounded, are told apart to a thousandth."""


@dataclass(frozen=True)
class Samples:
    """``values`` (samples, open counts) of the model's variables ``columns`` (open counts,), ascending. All others are as in every
    data set.

    ``searched`` counts the draws of a part that needed branch and cut, ``unfinished`` those that it broke off at its budget: whole
    data sets too, but not optima. ``mixing`` tells how well a walk mixed.
    """

    columns: IntArray
    values: IntArray
    searched: int
    unfinished: int
    mixing: WalkFigures = field(default_factory=WalkFigures)


def draw_samples(model: Model, counts: IntArray, number: int, seed: int, budget: Budget, walking: bool = False) -> Samples:
    """Draw ``number`` data sets with the tables of a model, of which ``counts`` (variables,) is one: corners, or a walk's.

    A pure function of the model, the seed, the budget and the solver's version; tracts differ in their draws by their GEOID.
    Raises InputError if ``counts`` does not meet the tables.
    """
    system = CountSystem.of_model(model)
    if (counts < 0).any() or not system.meets(counts):
        raise InputError(f"tract {model.geoid}: the people do not meet the published counts", about=Subject.PEOPLE)
    rng = np.random.default_rng([seed, int(model.geoid)])
    columns, values = [np.zeros(0, np.int64)], [np.zeros((number, 0), np.int64)]
    searched = unfinished = 0
    mixing = WalkFigures()
    for of_part, part in split(system, *bounds(system), counts):
        drawn, of_search, broken_off = _corners(part, CORNERS if walking else number, rng, budget)
        searched, unfinished = searched + of_search, unfinished + broken_off
        if walking:
            drawn, figures = walk(part.system, part.lower, part.upper, drawn, number, rng)
            mixing += figures
        columns.append(of_part)
        values.append(drawn)
    everywhere = np.concatenate(columns)
    order = np.argsort(everywhere)
    return Samples(everywhere[order], np.concatenate(values, axis=1)[:, order], searched, unfinished, mixing)


def _corners(part: Part, number: int, rng: np.random.Generator, budget: Budget) -> tuple[IntArray, int, int]:
    """Return (number, columns) optima of random costs; how many needed branch and cut, and how many of these it broke off."""
    drawn = np.empty((number, part.system.n_columns), np.int64)
    searched = unfinished = 0
    for row in drawn:
        costs = rng.gumbel(size=part.system.n_columns)
        corner = _vertex(part, costs)
        if corner is None:
            corner, finished = _searched(part, costs, budget)
            searched += 1
            unfinished += not finished
        row[:] = corner
    return drawn, searched, unfinished


def _vertex(part: Part, costs: np.ndarray) -> IntArray | None:
    """Return the optimum of the relaxation if it is whole."""
    every = np.arange(part.system.n_columns)
    answer = part.relax(every, np.rint(costs * SCALE).astype(np.int64), part.lower, part.upper)
    return None if answer.values is None else part.offer(answer.values)


def _searched(part: Part, costs: np.ndarray, budget: Budget) -> tuple[IntArray, bool]:
    """Return the best data set that branch and cut finds, and whether it is the optimum."""
    weights = np.rint(costs * MIP_COSTS).astype(np.int64)
    objective = Objective(np.arange(part.system.n_columns), weights, Objective.total(np.arange(len(weights))).caps)
    answer = solve_mip(part.system, part.lower, part.upper, objective, part.known, max(1, budget.checks))
    found = None if answer.values is None else part.offer(answer.values)
    return (part.known, False) if found is None else (found, answer.finished)
