"""Tables that contradict each other: the contradiction is found, is minimal, and can be read."""

import dataclasses

import numpy as np
import pytest

from recon.conflict import Conflict, find_conflict, format_ilp, rulers_out
from recon.kinds import IntArray
from recon.model import Model, ModelBuilder, TractTables
from recon.solution import variable_names
from recon.solvers import NamedProgram, Program, feasible, read_lp
from recon.tables import load_product
from tests.helpers import random_people, tables_of

PRODUCT = load_product()
BUILDER = ModelBuilder(PRODUCT)


def named_program(model: Model) -> NamedProgram:
    names = variable_names(model.blocks[model.block], model.kind)
    rows = tuple(model.row_name(row) for row in range(model.n_constraints))
    return NamedProgram(Program.of_model(model), tuple(name.decode() for name in names.tolist()), rows)


def with_tract_cell(tables: TractTables, cell: str, by: int) -> TractTables:
    cells = tables.tract_cells.copy()
    cells[PRODUCT.columns("tract").index(cell)] += by
    return dataclasses.replace(tables, tract_cells=cells)


def a_positive_cell(tables: TractTables, prefix: str) -> str:
    names = PRODUCT.columns("tract")
    return next(n for n, v in zip(names, tables.tract_cells, strict=True) if v > 0 and n.startswith(prefix) and int(n[-3:]) > 2)


@pytest.fixture(scope="module")
def contradictory() -> Model:
    """A tract whose blocks have one person fewer of some kind than the tract's tables say."""
    tables = tables_of(PRODUCT, random_people(21, blocks=6, people=300))
    cell = a_positive_cell(tables, "PCT012I")
    worse = with_tract_cell(with_tract_cell(tables, cell, 1), cell.replace("PCT012I", "PCT012A"), 1)
    return BUILDER.build(worse)


@pytest.fixture(scope="module")
def conflict(contradictory: Model) -> Conflict:
    return find_conflict(Program.of_model(contradictory), 30)


def solvable(model: Model, rows: IntArray) -> bool | None:
    return feasible(Program.of_model(model).with_rows(rows), True, 30)


def test_the_constraints_found_contradict_each_other(contradictory: Model, conflict: Conflict) -> None:
    assert solvable(contradictory, conflict.rows) is False


def test_without_any_one_of_them_the_rest_do_not(contradictory: Model, conflict: Conflict) -> None:
    assert conflict.minimal
    for i in range(len(conflict.rows)):
        assert solvable(contradictory, np.delete(conflict.rows, i)) is True


def test_the_file_written_is_infeasible_and_names_the_counts(contradictory: Model, conflict: Conflict) -> None:
    named = named_program(contradictory)
    text = format_ilp(named, conflict, ("Some explanation.",))
    again = read_lp(text, "model.ilp")
    assert again.constraints == tuple(named.constraints[row] for row in conflict.rows.tolist())
    assert feasible(again.program, True, 30) is False
    assert max(map(len, text.split(b"\n"))) < 500


def test_a_contradiction_that_only_integers_see_is_found() -> None:
    """Three sums of two: halves would do, and a fourth constraint that has nothing to do with it."""
    columns = np.array([0, 1, 1, 2, 0, 2, 3], np.int64)
    starts = np.array([0, 2, 4, 6, 7], np.int64)
    one = np.ones(4)
    program = Program(starts, columns, np.ones(7), one, one, np.zeros(4), np.full(4, np.inf))
    found = find_conflict(program, 30)
    assert found.rows.tolist() == [0, 1, 2]
    assert found.minimal


def test_zeros_that_rule_everybody_out_are_named() -> None:
    tables = tables_of(PRODUCT, random_people(23, blocks=2, people=30))
    cell = a_positive_cell(tables, "PCT012I")
    both = with_tract_cell(tables, cell, 0)
    for name in (cell, cell.replace("PCT012I", "PCT012A"), cell.replace("PCT012I", "PCT0120")):
        column = PRODUCT.columns("tract").index(name)
        cells = both.tract_cells.copy()
        cells[column] = 0
        both = dataclasses.replace(both, tract_cells=cells)
    model = BUILDER.build(both)
    empty = np.flatnonzero(np.diff(model.starts) == 0)
    if not len(empty):  # others of the age group are left: the counts contradict, but none of them is empty
        assert feasible(Program.of_model(model), True, 30) is False
        return
    assert cell in " ".join(rulers_out(BUILDER, both, model, int(empty[0])))
