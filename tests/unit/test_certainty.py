"""How sure a reconstruction is, against the list of all data sets that have the same tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbrecon.errors import InputError
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.certainty.aggregate import aggregate
from dbrecon.recon.certainty.cluster_search import ClusterSearch, WideClusters, shares_at
from dbrecon.recon.certainty.clusters import Clusters
from dbrecon.recon.certainty.labels import Labels
from dbrecon.recon.certainty.objective import SCALE, Objective, bound_of, scaled
from dbrecon.recon.certainty.part import Part, split
from dbrecon.recon.certainty.record import certainty_builder, counts_of
from dbrecon.recon.certainty.search import Budget, Proof
from dbrecon.recon.certainty.tract_certainty import certainty
from dbrecon.recon.people.people import BLOCKS_PER_TRACT
from dbrecon.recon.solve.program import Options
from dbrecon.recon.solve.propagation import UNBOUNDED, Contradiction, CountSystem, components, propagate
from dbrecon.recon.study.synthetic import make_counties, plan_state
from dbrecon.recon.tract.model import TractTables
from dbrecon.recon.tract.reconstruct import Reconstructor
from dbrecon.recon.tract.verify import tabulate
from tests.certainty_world import SmallTract, listed, small_tracts


def farthest(solutions: IntArray, counts: IntArray, columns: IntArray) -> int:
    """The most people of some columns by which a solution differs from ``counts``."""
    return int(np.abs(solutions[:, columns] - counts[columns]).sum(axis=1).max()) // 2


def bounds_of(system: CountSystem) -> tuple[IntArray, IntArray]:
    return propagate(system, np.zeros(system.n_columns, np.int64), np.full(system.n_columns, UNBOUNDED))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(small_tracts())
def test_distances_and_certain_people_are_those_of_the_list_of_all_solutions(tract: SmallTract) -> None:
    model, counts = tract.model, tract.counts
    solutions = listed(model)
    found = certainty(model, counts, Budget())
    for number in range(len(model.blocks)):
        columns = np.flatnonzero(model.block == number)
        exact = farthest(solutions, counts, columns)
        assert (found.exact.lower[number], found.exact.upper[number]) == (exact, exact)
        assert found.exact.proof[number] != Proof.OPEN
        blockwise = farthest(listed(model, number), counts, columns)
        assert (found.blockwise.lower[number], found.blockwise.upper[number]) == (blockwise, blockwise)
        assert found.certain[number] == solutions[:, columns].min(axis=0).sum()
        diameter = max(farthest(solutions, item, columns) for item in solutions)
        people = int(counts[columns].sum())
        assert diameter <= found.any_two[number] == min(people, 2 * exact, people - found.certain[number])


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(small_tracts(most_people=4), st.data())
def test_floors_of_clusters_hold_and_a_search_with_them_finds_what_the_list_has(tract: SmallTract, data: st.DataObject) -> None:
    model = tract.model
    system = CountSystem.of_model(model)
    solutions = listed(model)
    cuts = data.draw(st.lists(st.tuples(st.integers(0, model.n_variables - 1), st.booleans()), max_size=3))
    for columns, part in split(system, *bounds_of(system), tract.counts, Labels.of_model(model, np.ones(model.n_variables, bool))):
        filled = np.flatnonzero((model.block[columns] == 0) & (part.known > 0))
        objective = Objective.shared(filled, part.known[filled])
        narrow = Clusters(part, objective)
        if not narrow.members:
            continue
        here, n_rows = np.unique(solutions[:, columns], axis=0), part.system.n_rows
        for clusters in (narrow, WideClusters(narrow)):
            lower, upper = narrowed(part, here, cuts)
            inside = here[((here >= lower) & (here <= upper)).all(axis=1)]
            floors = clusters.floors(lower, upper)
            for cluster, floor in zip(clusters.members, floors.tolist(), strict=True):
                own = Objective(filled[cluster.terms], objective.weights[cluster.terms], objective.caps[cluster.terms])
                assert (own.value(inside) >= floor).all()
            if (floors < UNBOUNDED).all():
                prices = np.array(data.draw(st.lists(st.floats(-0.1, 1.1), min_size=len(floors), max_size=len(floors))))
                multipliers = scaled(np.array(data.draw(st.lists(st.floats(-1, 1), min_size=n_rows, max_size=n_rows))))
                assert multipliers is not None
                shares = shares_at(prices, floors, clusters)
                bound = bound_of(part.system, lower, upper, objective, multipliers, shares)
                assert bound is not None
                assert (objective.value(inside) * SCALE >= bound.total).all()
            found = ClusterSearch(part, objective, clusters, part.steps + 10_000).run()
            assert found.lower == found.upper == int(objective.value(here).min()) == int(objective.value(found.witness))


def narrowed(part: Part, solutions: IntArray, cuts: list[tuple[int, bool]]) -> tuple[IntArray, IntArray]:
    """A part's bounds, but that some counts are at most, or at least, what they are in one of the solutions."""
    lower, upper = part.lower.copy(), part.upper.copy()
    for number, at_most in cuts:
        column, value = number % len(lower), int(solutions[number % len(solutions), number % len(lower)])
        if at_most:
            upper[column] = min(int(upper[column]), value)
        else:
            lower[column] = max(int(lower[column]), value)
    return lower, upper


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(small_tracts())
def test_intervals_are_the_least_and_the_most_of_every_count(tract: SmallTract) -> None:
    solutions = listed(tract.model)
    cells = certainty(tract.model, tract.counts, Budget(), intervals=True).cells
    assert np.array_equal(cells.lower, solutions.min(axis=0))
    assert np.array_equal(cells.upper, solutions.max(axis=0))
    assert np.array_equal(cells.seen_lower, cells.lower)
    assert np.array_equal(cells.seen_upper, cells.upper)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(small_tracts())
def test_what_the_other_blocks_can_leave_a_block_holds_in_every_solution(tract: SmallTract) -> None:
    model, solutions = tract.model, listed(tract.model)
    system = CountSystem.of_model(model)
    beside = aggregate(system, model.block, model.row_block, *bounds_of(system), tract.counts)
    for solution in solutions:
        assert ((beside.lower <= solution) & (solution <= beside.upper)).all()
        assert beside.system.meets(solution)


@pytest.mark.slow
def test_where_a_tract_s_budget_has_ended_blocks_are_closed_beside_the_aggregate_of_the_others() -> None:
    """Of this one 15 blocks stay open, 390 to 467 people in all, when each gets a linear program and nothing else."""
    product = load_product()
    [county] = make_counties(plan_state("de", "10", 3_000, 5, 1))
    blocks, at = np.unique(county.people.geoid_block % BLOCKS_PER_TRACT, return_inverse=True)
    cells = tabulate(product, len(blocks), at, county.people.kind, county.people.count)
    tables = TractTables(f"{int(county.people.geoid_tract[0]):011d}", blocks, *cells)
    model = certainty_builder(product).build(tables)
    counts = counts_of(model, Reconstructor(product).reconstruct(tables, Options()).people)
    searched, ended = (certainty(model, counts, Budget(tract=steps)) for steps in (Budget.tract, 0))
    assert Proof.OPEN not in ended.exact.proof
    assert (ended.exact.lower == searched.exact.lower).all()
    assert (ended.exact.upper == searched.exact.upper).all()
    assert Proof.MIP not in ended.exact.proof, "it needs no word of the solver's"


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(small_tracts(), st.sampled_from([Budget(1, 0), Budget(1, 0, 0), Budget(1, 3), Budget(40, 0, 60)]))
def test_whatever_the_budget_the_intervals_hold_the_truth(tract: SmallTract, budget: Budget) -> None:
    model, counts = tract.model, tract.counts
    solutions = listed(model)
    found = certainty(model, counts, budget, intervals=True)
    for number in range(len(model.blocks)):
        columns = np.flatnonzero(model.block == number)
        exact = farthest(solutions, counts, columns)
        assert found.exact.lower[number] <= exact <= found.exact.upper[number] <= found.blockwise.upper[number]
        assert (found.exact.proof[number] == Proof.OPEN) == (found.exact.lower[number] < found.exact.upper[number])
        assert found.certain[number] <= solutions[:, columns].min(axis=0).sum()
    assert (found.cells.lower <= solutions.min(axis=0)).all()
    assert (found.cells.upper >= solutions.max(axis=0)).all()
    assert (found.cells.seen_lower >= solutions.min(axis=0)).all()
    assert (found.cells.seen_upper <= solutions.max(axis=0)).all()


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(small_tracts(), st.data())
def test_any_multipliers_prove_a_bound_that_every_solution_keeps(tract: SmallTract, data: st.DataObject) -> None:
    model = tract.model
    system = CountSystem.of_model(model)
    lower, upper = bounds_of(system)
    columns = np.flatnonzero((model.block == 0) & (tract.counts > 0))
    objective = Objective.shared(columns, tract.counts[columns])
    multipliers = np.array(data.draw(st.lists(st.floats(-4, 4), min_size=system.n_rows, max_size=system.n_rows)))
    whole = scaled(multipliers)
    assert whole is not None
    bound = bound_of(system, lower, upper, objective, whole)
    assert bound is not None
    solutions = listed(model)
    assert (objective.value(solutions) * SCALE >= bound.total).all()
    costs, constant = objective.relaxed(lower, upper)
    relaxed = solutions[:, columns] @ costs + constant
    assert (relaxed <= objective.value(solutions) * SCALE).all(), "the relaxation lies below"


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(small_tracts())
def test_propagated_bounds_lose_no_solution_and_parts_are_independent(tract: SmallTract) -> None:
    system = CountSystem.of_model(tract.model)
    lower, upper = bounds_of(system)
    solutions = listed(tract.model)
    assert (solutions >= lower).all()
    assert (solutions <= upper).all()
    label, n_parts = components(system, lower, upper)
    assert ((label >= 0) == (lower < upper)).all()
    ways = [len(np.unique(solutions[:, label == part], axis=0)) for part in range(n_parts)]
    assert len(solutions) == int(np.prod(ways)), "every choice of one part goes with every choice of the others"


def test_sums_that_contradict_each_other_are_found() -> None:
    system = CountSystem(np.array([0, 2, 4]), np.array([0, 1, 0, 1]), np.array([2, 3]), np.array([2, 3]), 2)
    with pytest.raises(Contradiction):
        bounds_of(system)


@settings(max_examples=1)
@given(small_tracts())
def test_people_who_do_not_meet_the_tables_have_no_certainty(tract: SmallTract) -> None:
    with pytest.raises(InputError, match="do not meet"):
        certainty(tract.model, np.full(tract.model.n_variables, 99), Budget())
