"""Solvers: the same answer every time, and a clear word when there is none."""

from typing import Any

import gurobipy
import highspy
import numpy as np
import pytest

from dbrecon.errors import SolverError, UsageError
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.solve import gurobi, highs
from dbrecon.recon.solve.gurobi import gurobi_allows, no_token_free
from dbrecon.recon.solve.program import RESTRICTED_SIZE, Infeasible, LicenceError, Options, Program, TimeLimit, rounded
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.tract.model import Model, ModelBuilder
from dbrecon.recon.tract.verify import satisfies
from dbrecon.remedies import sentence
from tests.helpers import random_people, tables_of
from tests.paths import CHECKOUT

PRODUCT = load_product()


def program(rows: list[list[int]], rhs: list[float]) -> Program:
    """Sums of variables that must have these values."""
    columns = np.array([c for row in rows for c in row], np.int64)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    n = int(columns.max()) + 1
    values = np.array(rhs, float)
    return Program(starts, columns, np.ones(len(columns)), values, values, np.zeros(n), np.full(n, np.inf))


def large_program() -> Program:
    """Beyond Gurobi's size-limited licence."""
    n = RESTRICTED_SIZE + 1
    return program([list(range(n))], [5.0])


@pytest.mark.parametrize("solver", ["highs", "gurobi", "auto"])
def test_each_solver_satisfies_a_tract_s_program(solver: str) -> None:
    model = ModelBuilder(PRODUCT).build(tables_of(PRODUCT, random_people(2, blocks=4, people=80)))
    answer = solve(Program.of_model(model), Options(solver=solver), "a tract")
    assert satisfies(model, answer.values)
    assert answer.solver.startswith("HiGHS" if solver == "highs" else "Gurobi")


@pytest.mark.parametrize("solver", ["highs", "gurobi"])
def test_the_same_program_and_seed_give_the_same_answer(solver: str) -> None:
    model = ModelBuilder(PRODUCT).build(tables_of(PRODUCT, random_people(4, blocks=4, people=80)))
    answers = [solve(Program.of_model(model), Options(solver=solver, seed=7), "a tract").values for _ in range(3)]
    assert all(np.array_equal(answers[0], item) for item in answers)


def test_nothing_but_results_is_printed_by_a_command_that_solves(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = []
    enable: Any = highspy.Highs.enableCallbacks

    def may_print(highs: Any) -> None:
        """From HiGHS 1.16 on it is this that prints the solver's name, to stdout."""
        silent.append(not highs.getOptionValue("output_flag")[1])
        enable(highs)

    monkeypatch.setattr(highspy.Highs, "enableCallbacks", may_print)
    solve(program([[0, 1], [0]], [3, 1]), Options(), "tract 1")
    assert silent
    assert all(silent)
    speaking = [path.name for path in (CHECKOUT / "dbrecon").rglob("*.py") if "highspy.Highs(" in path.read_text(encoding="utf-8")]
    assert speaking == []


@pytest.mark.parametrize("solver", ["highs", "gurobi"])
def test_a_program_without_solution_is_infeasible(solver: str) -> None:
    with pytest.raises(Infeasible, match="tract 1: no people can make all of its published counts"):
        solve(program([[0, 1], [0], [1]], [3, 1, 1]), Options(solver=solver), "tract 1")


@pytest.mark.parametrize("solver", ["highs", "gurobi"])
def test_what_only_fractions_solve_is_infeasible(solver: str) -> None:
    with pytest.raises(Infeasible):
        solve(program([[0, 1], [1, 2], [0, 2]], [1, 1, 1]), Options(solver=solver), "tract 1")


def diverse_model() -> Model:
    """A tract that takes some work: many kinds of people in few blocks."""
    return ModelBuilder(PRODUCT).build(tables_of(PRODUCT, random_people(6, blocks=4, people=500, kinds=400)))


def test_a_tract_that_the_first_strategy_does_not_settle_is_solved_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    model = diverse_model()
    monkeypatch.setattr(highs, "FIRST_CHECKS", 1)
    assert satisfies(model, solve(Program.of_model(model), Options(), "tract 1").values)


def test_the_last_strategy_solves_what_the_rounded_relaxation_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = diverse_model()
    monkeypatch.setattr(highs, "FIRST_CHECKS", 1)
    monkeypatch.setattr(highs, "_round_relaxation", lambda *_: None)
    assert satisfies(model, solve(Program.of_model(model), Options(), "tract 1").values)


def test_what_is_infeasible_is_so_for_each_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(highs, "FIRST_CHECKS", 1)
    with pytest.raises(Infeasible):
        solve(program([[0, 1], [1, 2], [0, 2]], [1, 1, 1]), Options(), "tract 1")


def test_the_rounded_relaxation_is_exact() -> None:
    for seed in range(5):
        model = ModelBuilder(PRODUCT).build(tables_of(PRODUCT, random_people(seed, blocks=3, people=600, kinds=400)))
        values = highs._round_relaxation(Program.of_model(model), 1, lambda: 60.0)
        assert values is not None
        assert satisfies(model, rounded(values, "tract 1", "HiGHS"))


def test_an_empty_program_has_an_empty_answer() -> None:
    nothing = np.zeros(0, np.int64)
    empty = np.zeros(0)
    answer = solve(Program(np.zeros(1, np.int64), nothing, empty, empty, empty, empty, empty), Options(), "water")
    assert answer.values.tolist() == []


def test_the_time_limit_ends_a_solve() -> None:
    model = ModelBuilder(PRODUCT).build(tables_of(PRODUCT, random_people(6, blocks=60, people=4000, kinds=2000)))
    with pytest.raises(TimeLimit, match=r"found no answer in 0\.001 seconds$"):
        solve(Program.of_model(model), Options(seconds=0.001), "tract 1")


def test_an_unknown_solver_is_refused() -> None:
    with pytest.raises(UsageError, match="'cplex' is not a solver; take one of auto, highs, gurobi"):
        solve(program([[0]], [1]), Options(solver="cplex"), "tract 1")


def test_a_fraction_is_no_answer() -> None:
    with pytest.raises(SolverError, match="gave a value that is no integer"):
        rounded(np.array([1.0, 0.5]), "tract 1", "HiGHS")


def test_auto_takes_highs_for_what_gurobi_s_licence_does_not_allow() -> None:
    large = large_program()
    assert not gurobi_allows(large), "this test needs Gurobi's size-limited licence"
    assert solve(large, Options(solver="auto"), "tract 1").solver.startswith("HiGHS")


def test_a_licence_that_is_too_small_says_so_and_what_to_do() -> None:
    with pytest.raises(LicenceError, match=r"limited in size .*2001 variables") as caught:
        solve(large_program(), Options(solver="gurobi"), "tract 1")
    assert sentence(caught.value).endswith("; get a full licence, or set [solve] solver = auto or highs")


def test_a_missing_licence_says_so_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("GRB_LICENSE_FILE", f"{tmp_path}/none.lic")
    with pytest.raises(LicenceError, match="Gurobi has no licence here") as caught:
        solve(program([[0]], [1]), Options(solver="gurobi"), "tract 1")
    assert sentence(caught.value).endswith("; set GRB_LICENSE_FILE to one, or set [solve] solver = highs")


def test_only_a_token_that_is_in_use_is_worth_waiting_for() -> None:
    assert no_token_free("All tokens currently in use (limit 8)")
    assert no_token_free("No available token for this request")
    assert not no_token_free("License expired 2020-01-01")
    assert not no_token_free("No Gurobi license found (user root, host x)")


def token_error(message: str) -> gurobipy.GurobiError:
    return gurobipy.GurobiError(gurobipy.GRB.Error.NO_LICENSE, message)


def test_it_waits_until_a_token_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("dbrecon.recon.solve.gurobi.time.sleep", pauses.append)
    answers = [token_error("All tokens currently in use"), token_error("All tokens currently in use"), None]

    def start() -> str:
        error = answers.pop(0)
        if error is not None:
            raise error
        return "started"

    assert gurobi._with_token(start, wait=600) == "started"
    assert len(pauses) == 2
    assert 0.5 <= pauses[0] <= 1.5 < 2 * pauses[1] <= 6


def test_it_does_not_wait_for_a_token_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    def start() -> None:
        raise token_error("All tokens currently in use")

    monkeypatch.setattr("dbrecon.recon.solve.gurobi.time.sleep", sleep)
    monkeypatch.setattr("dbrecon.recon.solve.gurobi.time.monotonic", lambda: clock[0])
    with pytest.raises(LicenceError, match="no Gurobi token became free in 60 seconds"):
        gurobi._with_token(start, wait=60)
    assert clock[0] == pytest.approx(60)
