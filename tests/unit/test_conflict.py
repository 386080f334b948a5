"""Tables that contradict each other: the contradiction is found, is minimal, and can be read."""

import dataclasses

import numpy as np
import pytest

from dbrecon.recon.census.kinds import N_RH, IntArray, join_kind
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.solve.conflict import Conflict, find_conflict, format_ilp, rulers_out
from dbrecon.recon.solve.highs import feasible
from dbrecon.recon.solve.lp_reader import read_lp
from dbrecon.recon.solve.program import NamedProgram, Program
from dbrecon.recon.tract.lp_text import model_names
from dbrecon.recon.tract.model import Model, ModelBuilder, TractTables
from tests.helpers import random_people, tables_of

PRODUCT = load_product()
BUILDER = ModelBuilder(PRODUCT)


def named_program(model: Model) -> NamedProgram:
    names = model_names(model)
    rows = tuple(model.row_name(row) for row in range(model.n_constraints))
    return NamedProgram(Program.of_model(model), tuple(name.decode() for name in names.tolist()), rows)


def with_tract_cell(tables: TractTables, cell: str, by: int) -> TractTables:
    cells = tables.tract_cells.copy()
    cells[PRODUCT.columns("tract").index(cell)] += by
    return dataclasses.replace(tables, tract_cells=cells)


def a_counted_group(tables: TractTables) -> tuple[str, str]:
    """Two cells of one sex, age and race group that are not zero: of everyone, and of those who are not Hispanic."""
    value = dict(zip(PRODUCT.columns("tract"), tables.tract_cells.tolist(), strict=True))
    for everyone, not_hispanic in zip("ABCDEFG", "IJKLMNO", strict=True):
        for number in [n for n in range(3, 210) if n != 106]:
            pair = f"PCT012{everyone}{number:03d}", f"PCT012{not_hispanic}{number:03d}"
            if value[pair[1]]:
                return pair
    raise AssertionError("nobody is not Hispanic")


@pytest.fixture(scope="module")
def contradictory() -> Model:
    """A tract whose blocks have one person fewer of some kind than the tract's tables say."""
    tables = tables_of(PRODUCT, random_people(21, blocks=6, people=300))
    everyone, not_hispanic = a_counted_group(tables)
    return BUILDER.build(with_tract_cell(with_tract_cell(tables, everyone, 1), not_hispanic, 1))


@pytest.fixture(scope="module")
def conflict(contradictory: Model) -> Conflict:
    return find_conflict(Program.of_model(contradictory), 30)


def solvable(model: Model, rows: IntArray) -> bool | None:
    return feasible(Program.of_model(model).with_rows(rows), integer=True, seconds=30)


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
    assert feasible(again.program, integer=True, seconds=30) is False
    assert max(map(len, text.split(b"\n"))) < 500


def test_a_contradiction_that_only_integers_see_is_found() -> None:
    """Three sums of two: halves would do, and a fourth constraint that has nothing to do with it."""
    columns = np.array([0, 1, 1, 2, 0, 2, 3], np.int64)
    starts = np.array([0, 2, 4, 6, 7], np.int64)
    ones = np.ones(4)
    program = Program(starts, columns, np.ones(7), ones, ones, np.zeros(4), np.full(4, np.inf))
    found = find_conflict(program, 30)
    assert found.rows.tolist() == [0, 1, 2]
    assert found.minimal


def test_zeros_that_rule_everybody_out_are_named() -> None:
    """The tract's tables deny the only person of his kind that a block has."""
    only_he = int(join_kind(*[np.array([value]) for value in (0, 33, 16, 0)])[0])
    tables = tables_of(PRODUCT, [(1000, only_he), (1000, only_he + N_RH), (1001, only_he + N_RH)])
    zero = ("PCT012B036", "PCT012J036")
    value = dict(zip(PRODUCT.columns("tract"), tables.tract_cells.tolist(), strict=True))
    assert [value[name] for name in zero] == [1, 1]
    for name in zero:
        tables = with_tract_cell(tables, name, -1)
    one_more = "PCT012B046", "PCT012J046"  # so that the totals agree: a man of 43
    for name in one_more:
        tables = with_tract_cell(tables, name, 1)
    model = BUILDER.build(tables)
    empty = np.flatnonzero(np.diff(model.starts) == 0)
    named = [model.row_name(int(row)) for row in empty]
    assert named == ["PCT012J046"], "nobody in the blocks is in his forties"
    found = rulers_out(BUILDER, tables, model, int(empty[0]))
    assert any(name.startswith("P012") and name.endswith("_1000") for name in found)
