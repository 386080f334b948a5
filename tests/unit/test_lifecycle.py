"""The table of states: what it allows, and that the page drawn from it is the one in docs/."""

import ast

import pytest
from sqlalchemy import create_engine, insert, select

from dbrecon.ledger import moves
from dbrecon.ledger.lifecycle import (
    CLAIM,
    COUNTY,
    LIVES,
    LP,
    NEW,
    QUARANTINED,
    RESCAN,
    SOLVE,
    SOLVED,
    TRACT,
    WRITE_LP,
    Life,
    mermaid,
    page,
)
from dbrecon.ledger.schema import experiment_tables
from tests.paths import CHECKOUT


def test_the_page_is_drawn_from_the_table() -> None:
    written = (CHECKOUT / "docs" / "states.md").read_text(encoding="utf-8")
    assert written == page(), "make it again: python -m dbrecon.ledger.lifecycle > docs/states.md"


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.unit)
def test_every_state_is_known_and_can_be_reached(life: Life) -> None:
    named = {state for transition in life.transitions for state in (*transition.before, *transition.after)} | set(life.begins)
    assert named == set(life.states)
    reached = set(life.begins)
    for _ in life.states:
        reached |= {after for transition in life.transitions for after in transition.after if reached & set(transition.before)}
    assert reached == set(life.states)
    assert all(f" {state}" in mermaid(life) for state in life.states)


def test_what_the_table_does_not_have_is_refused() -> None:
    assert TRACT.before(SOLVE, SOLVED) == (NEW, LP)
    assert TRACT.allows(RESCAN, QUARANTINED, SOLVED)
    assert not TRACT.allows(RESCAN, QUARANTINED, NEW)
    with pytest.raises(ValueError, match="a county has no transition 'solve'"):
        COUNTY.before(SOLVE, SOLVED)


def test_a_move_changes_no_row_in_a_state_that_it_may_not_begin_with() -> None:
    """Whatever was read before: the states are part of the UPDATE's condition."""
    engine, tables = create_engine("sqlite://"), experiment_tables("r1")
    with engine.begin() as connection:
        tables.metadata.create_all(connection)
        row = {"stusab": "de", "state": "10", "county": "001", "tract": "000100", "pop": 1, "status": SOLVED}
        connection.execute(insert(tables.tracts).values(row))
        assert moves.move(connection, tables.tracts, WRITE_LP, [], moves.UNHELD, LP) == 0
        assert moves.move(connection, tables.tracts, CLAIM, [], moves.UNHELD) == 0
        assert connection.execute(select(tables.tracts.c.status)).scalar_one() == SOLVED
        with pytest.raises(ValueError, match="written by a transition alone"):
            moves.note(connection, tables.tracts, [], {"status": NEW})


def test_only_moves_changes_rows_of_tracts_counties_and_certainty() -> None:
    """Rows are entered by step 1 (places) and with a county's people (certain); what is updated elsewhere are other tables."""
    written: dict[str, set[tuple[str, str]]] = {}
    for path in (CHECKOUT / "dbrecon").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("update", "insert"):
                written.setdefault(path.stem, set()).add((node.func.id, ast.unparse(node.args[0])))
    others = {"experiments", "errors_table", "error_texts", "sysload"}
    assert written.pop("moves") == {("update", "table")}
    assert written.pop("fitness") == {("update", "table"), ("insert", "table")}, "a table of its own, to try a database"
    assert written.pop("certain") == {("insert", "tables.certainty")}
    assert written.pop("places") == {("insert", "tables.states")}
    assert written.pop("migrations") == {("insert", "schema_versions"), ("update", "experiments"), ("update", "states")}
    assert {table for calls in written.values() for _, table in calls} <= others
    assert "INSERT INTO" in (CHECKOUT / "dbrecon" / "ledger" / "places.py").read_text(encoding="utf-8"), "in bulk, step 1's rows"
