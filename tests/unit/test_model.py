"""A tract's program: the true people always fit it, and whoever fits it reproduces every published cell."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbrecon.errors import InputError, VerificationError
from dbrecon.recon.census.kinds import N_KINDS, split_kind
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.people.people import BinnedPeople, People
from dbrecon.recon.solve.lp_reader import read_lp
from dbrecon.recon.solve.program import Infeasible, Options, Program
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.tract.model import Model, ModelBuilder, NegativeCount, TractTables
from dbrecon.recon.tract.verify import check_answer, people_of, satisfies, tabulate, verify, violations
from tests.helpers import counts_of, random_people, tables_of

PRODUCT = load_product()
BUILDER = ModelBuilder(PRODUCT)
BLOCK_BUILDER = ModelBuilder(load_product(tables="block"))

PEOPLE = st.lists(st.tuples(st.integers(1000, 1004), st.integers(0, N_KINDS - 1)), min_size=1, max_size=60)


def not_forbidden(tables: TractTables) -> set[tuple[int, int]]:
    """(block, kind) of everyone whom no published zero forbids, the slow way: one kind after another."""
    members = {level: PRODUCT.membership(level).tocsr() for level in ("block", "tract")}
    allowed = set()
    tract_ok = [
        bool((tables.tract_cells[members["tract"].indices[slice(*members["tract"].indptr[k : k + 2])]] > 0).all())
        for k in range(N_KINDS)
    ]
    for b, block in enumerate(tables.blocks.tolist()):
        for kind in range(N_KINDS):
            cells = members["block"].indices[slice(*members["block"].indptr[kind : kind + 2])]
            if tract_ok[kind] and (tables.block_cells[b, cells] > 0).all():
                allowed.add((block, kind))
    return allowed


def exact(people: BinnedPeople) -> People:
    assert people.exact.all()
    return People(people.geoid_block, people.kind, people.count)


def variables(model: Model) -> set[tuple[int, int]]:
    return set(zip(model.blocks[model.block].tolist(), model.kind.tolist(), strict=True))


@settings(max_examples=60)
@given(PEOPLE)
def test_the_true_people_satisfy_the_program(people: list[tuple[int, int]]) -> None:
    tables = tables_of(PRODUCT, people)
    model = BUILDER.build(tables)
    counts = counts_of(model.block, model.kind, model.blocks, people)
    assert counts is not None, "a published zero cannot forbid somebody who is there"
    assert satisfies(model, counts)


@settings(max_examples=40)
@given(PEOPLE)
def test_whoever_solves_the_program_reproduces_every_cell(people: list[tuple[int, int]]) -> None:
    tables = tables_of(PRODUCT, people)
    model = BUILDER.build(tables)
    answer = solve(Program.of_model(model), Options(), "a tract")
    block_cells, tract_cells = tabulate(PRODUCT, len(model.blocks), model.block, model.kind, answer.values)
    assert (block_cells == tables.block_cells).all()
    assert (tract_cells == tables.tract_cells).all()


@settings(max_examples=20)
@given(PEOPLE)
def test_block_tables_alone_are_reproduced_too(people: list[tuple[int, int]]) -> None:
    tables = tables_of(BLOCK_BUILDER.product, people)
    model = BLOCK_BUILDER.build(tables)
    answer = solve(Program.of_model(model), Options(), "a tract")
    assert violations(BLOCK_BUILDER.product, tables, model.block, model.kind, answer.values) == []


def test_nobody_has_a_variable_whom_a_published_zero_forbids() -> None:
    tables = tables_of(PRODUCT, random_people(3, blocks=2, people=25, kinds=8))
    assert variables(BUILDER.build(tables)) <= not_forbidden(tables)


def test_zeros_by_subtraction_forbid_people_as_well() -> None:
    """All Hispanics of the block are white, so no cell is zero for a black Hispanic, and yet there is none."""
    white_hispanic = [kind for kind in range(N_KINDS) if tuple(v.item() for v in split_kind(np.array(kind))) == (0, 30, 32, 1)]
    black = [kind for kind in range(N_KINDS) if tuple(v.item() for v in split_kind(np.array(kind))) == (0, 30, 16, 0)]
    tables = tables_of(PRODUCT, [(1000, white_hispanic[0]), (1000, black[0])])
    assert variables(BUILDER.build(tables)) == {(1000, white_hispanic[0]), (1000, black[0])}


def test_the_model_is_a_pure_function_of_the_tables() -> None:
    tables = tables_of(PRODUCT, random_people(5, blocks=6, people=300))
    first, two = BUILDER.build(tables), ModelBuilder(PRODUCT).build(tables)
    for name in ("block", "kind", "starts", "columns", "rhs"):
        assert np.array_equal(getattr(first, name), getattr(two, name)), name


def test_no_constraint_is_written_twice() -> None:
    model = BUILDER.build(tables_of(PRODUCT, random_people(7, blocks=5, people=200)))
    rows = {
        (tuple(model.columns[a:b].tolist()), int(v)) for a, b, v in zip(model.starts, model.starts[1:], model.rhs, strict=False)
    }
    assert len(rows) == model.n_constraints


def test_a_tract_without_people_has_an_empty_program() -> None:
    nobody = TractTables(
        "10001990000",
        np.zeros(0, np.int64),
        np.zeros((0, len(PRODUCT.columns("block"))), np.int64),
        np.zeros(len(PRODUCT.columns("tract")), np.int64),
    )
    model = BUILDER.build(nobody)
    assert (model.n_variables, model.n_constraints) == (0, 0)


def changed(tables: TractTables, level: str, cell: str, by: int) -> TractTables:
    column = PRODUCT.columns(level).index(cell)
    if level == "block":
        cells = tables.block_cells.copy()
        cells[0, column] += by
        return dataclasses.replace(tables, block_cells=cells)
    cells = tables.tract_cells.copy()
    cells[column] += by
    return dataclasses.replace(tables, tract_cells=cells)


def test_a_part_that_is_larger_than_its_whole_is_refused_by_name() -> None:
    tables = tables_of(PRODUCT, random_people(11, blocks=2, people=40))
    column = PRODUCT.columns("block").index("P0090003")
    assert tables.block_cells[0, column] > 0
    worse = changed(tables, "block", "P0110005", 1000)
    said = r"block 100010001001000: P.* counts -\d+ people: .*P\w+ = \d+ less P\w+ = \d+"
    with pytest.raises(NegativeCount, match=said) as refused:
        BUILDER.build(worse)
    assert sum(times * value for _, times, value in refused.value.cells) < 0
    assert all(name.endswith("_1000") for name, _, _ in refused.value.cells)
    conflict = read_lp(refused.value.ilp(), "model.ilp")
    with pytest.raises(Infeasible):
        solve(conflict.program, Options(), "model.ilp")


def test_a_cell_that_disagrees_with_those_it_follows_from_is_named() -> None:
    tables = tables_of(PRODUCT, random_people(13, blocks=2, people=40))
    model = BUILDER.build(tables)
    answer = solve(Program.of_model(model), Options(), "a tract")
    total = int(tables.block_cells[0, 0])
    with pytest.raises(InputError, match=f"P0010001 of block 100010001001000 is {total + 1}, the people make {total}"):
        verify(PRODUCT, changed(tables, "block", "P0010001", 1), exact(people_of(model, answer.values)))


@pytest.mark.parametrize("change", [1, -1])
def test_an_answer_that_breaks_a_constraint_is_never_kept(change: int) -> None:
    tables = tables_of(PRODUCT, random_people(17, blocks=2, people=40))
    model = BUILDER.build(tables)
    values = solve(Program.of_model(model), Options(), "a tract").values.copy()
    values[np.argmax(values)] += change
    with pytest.raises(VerificationError, match="the solver's answer breaks its own constraints"):
        check_answer(model, values)


def test_a_negative_answer_is_never_kept() -> None:
    tables = tables_of(PRODUCT, random_people(17, blocks=2, people=40))
    model = BUILDER.build(tables)
    values = solve(Program.of_model(model), Options(), "a tract").values
    with pytest.raises(VerificationError):
        check_answer(model, -values)
