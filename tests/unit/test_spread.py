"""The most plausible answer: least sum of log(x!) of all that meet the counts, the same from memory and from the LP file."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from scipy.special import gammaln

from dbrecon.recon.census.bins import derive_binning
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.solve import spread as spread_module
from dbrecon.recon.solve.gurobi import gurobi_is_restricted
from dbrecon.recon.solve.lp_reader import read_lp
from dbrecon.recon.solve.program import FloatArray, Options, Program
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.solve.spread import spread
from dbrecon.recon.tract.lp_text import format_lp
from dbrecon.recon.tract.model import Model, ModelBuilder
from dbrecon.recon.tract.verify import satisfies
from tests.helpers import random_people, tables_of
from tests.unit.test_bins import MOST_VARIABLES, small_people, solutions

PRODUCT = load_product()
BUILDER = ModelBuilder(PRODUCT, derive_binning(PRODUCT).bins)
SPREAD = Options(objective="spread")


def arrangements(values: IntArray) -> float:
    """The sum of log(x!): the less it is, the more arrangements of the people there are."""
    return float(gammaln(values + 1.0).sum())


@pytest.fixture(scope="module")
def model() -> Model:
    return BUILDER.build(tables_of(PRODUCT, random_people(8, blocks=4, people=200, kinds=30)))


@settings(max_examples=40, deadline=None)
@given(small_people([3, 22, 24, 47, 48, 90], [32, 16, 48, 40]))
def test_no_other_answer_is_more_plausible(people: list[tuple[int, int]]) -> None:
    model = BUILDER.build(tables_of(PRODUCT, people))
    assume(model.n_variables <= MOST_VARIABLES)
    values = solve(Program.of_model(model), SPREAD, "a tract").values
    assert satisfies(model, values)
    best = min(arrangements(np.array(solution)) for solution in solutions(model))
    assert arrangements(values) == pytest.approx(best, abs=1e-9)


def test_people_are_spread_where_the_first_answer_puts_them_together(model: Model) -> None:
    program = Program.of_model(model)
    first, found = solve(program, Options(), "a tract").values, solve(program, SPREAD, "a tract").values
    assert satisfies(model, found)
    assert arrangements(found) < arrangements(first)


def test_the_lp_file_gives_the_answer_that_memory_gives(model: Model) -> None:
    named = read_lp(format_lp(model, 200, "2010_sf1", "all"), "model.lp")
    expected = solve(Program.of_model(model), SPREAD, "memory").values
    assert np.array_equal(solve(named.program, SPREAD, "file").values, expected)


def test_where_the_budget_does_not_suffice_the_first_answer_is_taken(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread_module, "STEPS", 0)
    monkeypatch.setattr(spread_module, "STEPS_A_ROW", 0)
    program = Program.of_model(model)
    assert np.array_equal(solve(program, SPREAD, "a tract").values, solve(program, Options(), "a tract").values)


def test_gurobi_finds_an_answer_as_plausible(model: Model) -> None:
    if gurobi_is_restricted() is None:
        pytest.skip("Gurobi has no licence here")
    program = Program.of_model(model)
    by_gurobi = solve(program, dataclasses.replace(SPREAD, solver="gurobi"), "a tract").values
    assert satisfies(model, by_gurobi)
    assert arrangements(by_gurobi) == pytest.approx(arrangements(solve(program, SPREAD, "a tract").values))


def test_what_a_relaxation_leaves_in_halves_is_completed_in_integers() -> None:
    """Three counts, of which any two make 2, each half of one: nobody is whole, and an integer program is asked for all."""
    starts, columns = np.array([0, 2, 4, 6]), np.array([0, 1, 1, 2, 0, 2])
    two = np.full(3, 2.0)
    program = Program(starts, columns, np.ones(6), two, two, np.zeros(3), np.full(3, np.inf))
    asked: list[int] = []

    def halves(units: Program, _steps: int) -> FloatArray:
        return np.full(units.n_variables, 0.25)  # two columns of a unit each

    def rest(few: Program) -> FloatArray:
        asked.append(few.n_variables)
        return np.ones(few.n_variables)

    found = spread(program, halves, rest)
    assert found is not None
    assert found.tolist() == [1, 1, 1]
    assert asked == [3]


def test_a_program_that_is_none_of_counts_is_left_alone() -> None:
    ones = np.ones(1)
    program = Program(np.array([0, 1]), np.array([0]), 2 * ones, 2 * ones, 2 * ones, np.zeros(1), ones)
    assert spread(program, lambda *_: None, lambda *_: None) is None
