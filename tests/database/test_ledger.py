"""What the ledger promises of experiments and their geography, on SQLite, MariaDB and MySQL."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from dbrecon.errors import DatabaseError, UsageError
from dbrecon.ledger.ledger import (
    EMPTY,
    NEW,
    SOLVED,
    ErrorReport,
    GeoRow,
    Ledger,
    LostLease,
)
from dbrecon.place import EVERYWHERE, Place
from tests.helpers import geography
from tests.ledger_world import ANN, LP_STATS, SOL_STATS, TRACTS, Clock, R, clock, geo_rows, ledger, load, solve_all, states

__all__ = ["clock", "ledger"]


def test_a_registered_experiment_is_listed_with_its_tables_and_time(ledger: Ledger, clock: Clock) -> None:
    row = ledger.experiment(R)
    assert (row.reident, row.tables, row.product, row.created) == (R, "all", "2010_sf1", clock.now)
    assert ledger.experiments() == [row]


def test_registering_a_name_that_exists_is_refused_and_keeps_its_work(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match=f"{R} exists"):
        ledger.register(R, "all", "2010_sf1")
    assert ledger.has_geography(R, "oh")


def test_names_that_differ_only_in_case_are_the_same_name(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match=f"{R} exists"):
        ledger.register(R.upper(), "all", "2010_sf1")


def test_an_unknown_experiment_is_refused_with_those_that_exist(ledger: Ledger) -> None:
    with pytest.raises(DatabaseError, match=rf"nosuch is not registered .*\(it has {R}\)"):
        ledger.experiment("nosuch")


@pytest.mark.parametrize("call", ["status", "stusabs", "claimants"])
def test_work_on_an_unknown_experiment_says_that_it_is_not_registered(ledger: Ledger, call: str) -> None:
    with pytest.raises(DatabaseError, match="nosuch is not registered"):
        getattr(ledger, call)("nosuch")


def test_a_fresh_database_has_no_experiments(engine: Engine) -> None:
    assert Ledger(engine).experiments() == []


def test_a_dropped_experiment_leaves_nothing_and_its_name_is_free(ledger: Ledger) -> None:
    ledger.record_error(ErrorReport(R, "ann", 1, "bad"))
    ledger.drop(R)
    assert ledger.experiments() == []
    ledger.register(R, "block", "2010_sf1")
    assert ledger.stusabs(R) == []
    assert ledger.errors(R) == []


def test_dropping_an_unknown_experiment_is_refused(ledger: Ledger) -> None:
    with pytest.raises(DatabaseError, match="not registered"):
        ledger.drop("nosuch")


def test_tables_that_somebody_else_made_are_not_taken_over(engine: Engine) -> None:
    ledger = Ledger(engine)
    assert ledger.experiments() == []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orig_geo (a INTEGER)"))
    with pytest.raises(UsageError, match="table orig_geo that belongs to no registered"):
        ledger.register("orig", "all", "2010_sf1")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM orig_geo")).scalar_one() == 0


def test_a_registration_that_was_broken_off_can_be_made_again(engine: Engine, clock: Clock) -> None:
    ledger = Ledger(engine, clock=clock)
    ledger.experiments()

    def break_off(*arguments: Any) -> None:
        if "_tracts" in arguments[2] and "CREATE TABLE" in arguments[2]:
            raise KeyboardInterrupt

    event.listen(engine, "before_cursor_execute", break_off)
    with pytest.raises(KeyboardInterrupt):
        ledger.register(R, "all", "2010_sf1")
    event.remove(engine, "before_cursor_execute", break_off)
    assert ledger.experiments() == []
    with pytest.raises(UsageError, match="being registered"):
        ledger.register(R, "all", "2010_sf1")
    clock.now += 61
    ledger.register(R, "all", "2010_sf1")
    load(ledger)
    assert ledger.claim(R, ANN)


def test_the_list_of_experiments_takes_no_more_statements_for_many(ledger: Ledger, engine: Engine) -> None:
    statements: list[str] = []
    ledger.solved(ledger.claim(R, ANN)[0], SOL_STATS, LP_STATS)

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    assert [
        (experiment.row.reident, experiment.stusabs, experiment.solved, experiment.tracts) for experiment in ledger.progress()
    ] == [(R, ("oh",), 1, 4)]
    alone = len(statements)
    for number in range(5):
        ledger.register(f"more{number}", "all", "2010_sf1")
    statements.clear()
    listed = {
        experiment.row.reident: (experiment.stusabs, experiment.solved, experiment.tracts) for experiment in ledger.progress()
    }
    assert len(statements) == alone
    assert listed == {R: (("oh",), 1, 4)} | {f"more{number}": ((), 0, 0) for number in range(5)}


def test_claims_of_other_experiments_are_put_back_though_one_was_dropped(ledger: Ledger) -> None:
    """A scheduler that works on all has claims on both, and leaves."""
    ledger.register("other", "all", "2010_sf1")
    ledger.replace_geography("other", "oh", [*geo_rows(), *geography(TRACTS)])
    dropped, kept = ledger.claim("other", ANN), ledger.claim(R, ANN)
    ledger.drop("other")
    assert ledger.heartbeat([*dropped, *kept]) == dropped
    ledger.release([*dropped, *kept])
    assert ledger.claimants(R) == []


def test_two_experiments_do_not_see_each_other(ledger: Ledger) -> None:
    ledger.register("other", "block", "2010_sf1")
    assert ledger.claim("other", ANN) == []
    ledger.replace_geography("other", "oh", [*geo_rows(), *geography(TRACTS[:1])])
    assert [claim.reident for claim in ledger.claim("other", ANN, limit=9)] == ["other"]
    assert ledger.status(R).lp_in_process == 0


def test_geography_comes_back_as_it_was_given(ledger: Ledger) -> None:
    assert ledger.geography(R, "oh", "050") == geo_rows()[1:]
    assert ledger.geography(R, "oh", "050", "003") == geo_rows()[2:3]
    assert ledger.stusabs(R) == ["oh"]
    assert ledger.counties(R, "oh") == ["001", "003", "005"]
    assert ledger.tracts(R, "oh", "001") == ["000100", "000200", "000300", "990000"]


def test_tracts_without_people_are_no_work(ledger: Ledger) -> None:
    assert states(ledger) == {
        "001000100": NEW, "001000200": NEW, "001000300": NEW, "001990000": EMPTY, "003000100": NEW, "005990000": EMPTY,
    }  # fmt: skip


def test_loading_a_state_twice_changes_nothing_and_reads_nothing(ledger: Ledger) -> None:
    solve_all(ledger)

    def untouched() -> Iterator[Any]:
        raise AssertionError("was read")
        yield

    assert ledger.replace_geography(R, "oh", untouched()) is False
    assert ledger.status(R).sol_created == 4


def test_loading_a_state_with_force_begins_it_anew_and_leaves_the_others(ledger: Ledger) -> None:
    load(ledger, TRACTS[:1], "nj")
    held = ledger.claim(R, ANN, place=Place("oh"), limit=1)[0]
    solve_all(ledger)
    assert ledger.replace_geography(R, "oh", [*geo_rows(), *geography(TRACTS[:2])], force=True) is True
    assert states(ledger) == {"001000100": NEW, "001000200": NEW}
    assert [row.status for row in ledger.tract_states(R, "nj")] == [SOLVED]
    with pytest.raises(LostLease):
        ledger.solved(held, SOL_STATS, LP_STATS)


def test_an_error_in_the_rows_leaves_the_state_as_it_was(ledger: Ledger) -> None:
    def broken() -> Iterator[GeoRow]:
        yield geo_rows()[0]
        raise ValueError("line 2 is cut off")

    with pytest.raises(ValueError, match="line 2"):
        ledger.replace_geography(R, "oh", broken(), force=True)
    with pytest.raises(ValueError, match="line 2"):
        ledger.replace_geography(R, "nj", broken())
    assert ledger.geography(R, "oh", "050") == geo_rows()[1:]
    assert ledger.stusabs(R) == ["oh"]
    load(ledger, TRACTS, "nj")
    assert ledger.stusabs(R) == ["nj", "oh"]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (Place("de"), "no state de .*it has oh.*--step1"),
        (Place("oh", "002"), "no county 002: choose from 001, 003, 005"),
        (Place("oh", "003", ("000100", "000900")), "no tract 000900: choose from 000100"),
    ],
)
def test_a_place_that_does_not_exist_is_refused_with_those_that_do(ledger: Ledger, place: Place, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        ledger.check_place(R, place)


def test_a_place_that_exists_is_accepted(ledger: Ledger) -> None:
    for place in (EVERYWHERE, Place("oh"), Place("oh", "001"), Place("oh", "001", ("000100", "990000"))):
        ledger.check_place(R, place)
