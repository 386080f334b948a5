"""What the ledger promises to schedulers and operators, on SQLite and on MariaDB."""

import multiprocessing
import pickle
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pymysql
import pytest
from sqlalchemy import Engine, event, text

from dbrecon.ctools.database import make_engine
from dbrecon.errors import DatabaseError, UsageError
from dbrecon.ledger.ledger import (
    EMPTY,
    LP,
    NEW,
    OPEN,
    SOLVED,
    WRITTEN,
    Claim,
    ErrorReport,
    GeoRow,
    Ledger,
    LostLease,
    LpStats,
    SolStats,
    SysLoad,
    Worker,
)
from dbrecon.place import EVERYWHERE, Place
from tests.helpers import TractRow, geography

R = "exp1"
ANN, BOB = Worker("ann", "1"), Worker("bob", "2")
LP_STATS = LpStats(variables=7000, constraints=5000, nonzeros=45000, seconds=2.0)
SOL_STATS = SolStats(solver="highs 1.15.0", seconds=5.0, memory_mib=200)

# Two counties with people (three tracts and one), one without; a water tract.
TRACTS = [
    TractRow("39", "001", "000100", 4000),
    TractRow("39", "001", "000200", 1000),
    TractRow("39", "001", "000300", 3000),
    TractRow("39", "001", "990000", 0),
    TractRow("39", "003", "000100", 2000),
    TractRow("39", "005", "990000", 0),
]


class Clock:
    """A clock that the test moves."""

    def __init__(self, start: int = 1_600_000_000) -> None:
        self.now = start

    def __call__(self) -> int:
        return self.now


def geo_rows(state: str = "39", counties: tuple[str, ...] = ("001", "003", "005")) -> list[GeoRow]:
    rows = [GeoRow("040", "00", 1, state, "", "", "", "Ohio", 10000, 5000, 1, 2, 40.4, -82.7)]
    for number, county in enumerate(counties, start=2):
        place = GeoRow("050", "00", number, state, county, "", "", f"Doña {county}", 5, 2, 10**10, 2, 40.5, -82.7)
        rows.append(place)
    return rows


def load(ledger: Ledger, tracts: list[TractRow] = TRACTS, stusab: str = "oh") -> None:
    ledger.replace_geography(R, stusab, [*geo_rows(counties=tuple(sorted({row.county for row in tracts}))), *geography(tracts)])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(engine: Engine, clock: Clock) -> Ledger:
    made = Ledger(engine, clock=clock)
    made.register(R, "all", "2010_sf1")
    load(made)
    return made


def states(ledger: Ledger) -> dict[str, str]:
    return {f"{row.county}{row.tract}": row.status for row in ledger.tract_states(R, "oh")}


def solve_all(ledger: Ledger, county: str | None = None) -> None:
    while claims := ledger.claim(R, ANN, limit=10, place=Place("oh", county) if county else EVERYWHERE):
        for claim in claims:
            ledger.solved(claim, SOL_STATS, LP_STATS if claim.needs_lp else None)


# -- experiments ----------------------------------------------------------------------------------------------------------


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
    assert [(one.row.reident, one.stusabs, one.solved, one.tracts) for one in ledger.progress()] == [(R, ("oh",), 1, 4)]
    alone = len(statements)
    for number in range(5):
        ledger.register(f"more{number}", "all", "2010_sf1")
    statements.clear()
    listed = {one.row.reident: (one.stusabs, one.solved, one.tracts) for one in ledger.progress()}
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


# -- geography ------------------------------------------------------------------------------------------------------------


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


# -- claims ---------------------------------------------------------------------------------------------------------------


def tracts_of(claims: list[Claim]) -> list[str]:
    return [claim.county + claim.tract for claim in claims]


def test_a_claim_gives_the_biggest_tracts_of_one_county(ledger: Ledger) -> None:
    assert tracts_of(ledger.claim(R, ANN, limit=2)) == ["001000100", "001000300"]
    assert tracts_of(ledger.claim(R, BOB, limit=2)) == ["003000100"]
    assert tracts_of(ledger.claim(R, BOB, limit=2)) == ["001000200"]
    assert ledger.claim(R, BOB, limit=2) == []


def test_a_claim_in_ascending_order_gives_the_smallest_first(ledger: Ledger) -> None:
    assert tracts_of(ledger.claim(R, ANN, limit=2, ascending=True)) == ["001000200", "001000300"]


def test_a_claim_can_be_narrowed(ledger: Ledger) -> None:
    load(ledger, [TractRow("34", "001", "000100", 9000)], "nj")
    assert tracts_of(ledger.claim(R, ANN, place=Place("oh", "003"), limit=5)) == ["003000100"]
    assert tracts_of(ledger.claim(R, ANN, place=Place("oh", "001", ("000200",)), limit=5)) == ["001000200"]
    assert tracts_of(ledger.claim(R, ANN, place=Place("oh"), max_pop=3500)) == ["001000300"]
    assert [claim.stusab for claim in ledger.claim(R, ANN, place=Place("nj"), limit=5)] == ["nj"]


def test_a_claim_says_all_that_a_worker_needs_and_can_be_sent_to_it(ledger: Ledger) -> None:
    claim = ledger.claim(R, ANN)[0]
    assert (claim.reident, claim.stusab, claim.state, claim.county, claim.tract) == (R, "oh", "39", "001", "000100")
    assert (claim.pop, claim.needs_lp, claim.attempts, claim.worker) == (4000, True, 0, ANN)
    assert pickle.loads(pickle.dumps(claim)) == claim


def test_steps_choose_what_is_claimed(ledger: Ledger) -> None:
    assert ledger.claim(R, ANN, steps=[4]) == []
    lp = ledger.claim(R, ANN, steps=[3])[0]
    ledger.lp_written(lp, LP_STATS)
    again = ledger.claim(R, ANN, steps=[4], limit=9)
    assert [(claim.tract, claim.status) for claim in again] == [("000100", LP)]
    assert "000100" not in [claim.tract for claim in ledger.claim(R, ANN, steps=[3], place=Place("oh", "001"), limit=9)]


def test_the_way_of_a_tract_through_both_steps_is_recorded(ledger: Ledger, clock: Clock) -> None:
    claim = ledger.claim(R, ANN)[0]
    clock.now += 100
    claim = ledger.lp_written(claim, LP_STATS, keep_claim=True)
    clock.now += 50
    ledger.solved(claim, SOL_STATS)
    row = next(row for row in ledger.tract_states(R, "oh") if row.status == SOLVED)
    start = 1_600_000_000
    assert (row.lp_start, row.lp_end, row.lp_host) == (start + 98, start + 100, "ann")
    assert (row.sol_start, row.sol_end, row.sol_host) == (start + 145, start + 150, "ann")
    assert (row.variables, row.constraints, row.nonzeros) == (7000, 5000, 45000)
    assert (row.solver, row.solve_seconds, row.claimed_by) == ("highs 1.15.0", 5.0, None)


def test_both_steps_can_be_finished_in_one_update(ledger: Ledger) -> None:
    claim = ledger.claim(R, ANN)[0]
    ledger.solved(claim, SOL_STATS, LP_STATS)
    row = next(row for row in ledger.tract_states(R, "oh") if row.status == SOLVED)
    assert (row.lp_count, row.sol_count) == (1, 1)
    assert (row.lp_start, row.lp_end, row.sol_start) == (1_600_000_000 - 7, 1_600_000_000 - 5, 1_600_000_000 - 5)


def test_a_solution_without_an_lp_is_refused(ledger: Ledger) -> None:
    claim = ledger.claim(R, ANN)[0]
    with pytest.raises(DatabaseError, match="it is 'new', not 'lp'"):
        ledger.solved(claim, SOL_STATS)
    assert SOLVED not in states(ledger).values()


def test_finishing_twice_counts_once(ledger: Ledger) -> None:
    claim = ledger.claim(R, ANN)[0]
    ledger.solved(claim, SOL_STATS, LP_STATS)
    ledger.solved(claim, SOL_STATS, LP_STATS)
    assert [row.sol_count for row in ledger.tract_states(R, "oh") if row.status == SOLVED] == [1]


def test_a_stale_claim_goes_to_another_and_the_first_cannot_finish(ledger: Ledger, clock: Clock) -> None:
    first = ledger.claim(R, ANN, lease_seconds=60)[0]
    clock.now += 59
    assert first.tract not in [claim.tract for claim in ledger.claim(R, BOB, place=Place("oh", "001"), limit=9)]
    clock.now += 1
    second = ledger.claim(R, BOB)[0]
    assert (second.county, second.tract) == (first.county, first.tract)
    attempts: list[Callable[[], object]] = [
        lambda: ledger.lp_written(first, LP_STATS),
        lambda: ledger.solved(first, SOL_STATS, LP_STATS),
        lambda: ledger.failed(first, "bad", 3),
    ]
    for finish in attempts:
        with pytest.raises(LostLease, match="oh 001 000100 of exp1 is no longer held by ann/1"):
            finish()
    ledger.release([first])
    assert ledger.heartbeat([first]) == [first]
    ledger.solved(second, SOL_STATS, LP_STATS)
    assert [row.sol_host for row in ledger.tract_states(R, "oh") if row.status == SOLVED] == ["bob"]


def test_a_heartbeat_keeps_a_claim_and_names_what_is_lost(ledger: Ledger, clock: Clock) -> None:
    claims = ledger.claim(R, ANN, limit=2, lease_seconds=60)
    clock.now += 50
    assert ledger.heartbeat(claims, 60) == []
    clock.now += 50
    ledger.solved(claims[1], SOL_STATS, LP_STATS)
    assert tracts_of(ledger.claim(R, BOB, place=Place("oh", "001"), limit=9)) == ["001000200"]
    assert ledger.heartbeat(claims, 60) == [claims[1]]


def test_a_worker_that_slept_past_its_lease_keeps_what_nobody_took(ledger: Ledger, clock: Clock) -> None:
    claim = ledger.claim(R, ANN, lease_seconds=60)[0]
    clock.now += 3600
    ledger.solved(claim, SOL_STATS, LP_STATS)
    assert ledger.status(R).sol_created == 1


def test_released_work_is_free_at_once_and_not_counted(ledger: Ledger) -> None:
    claims = ledger.claim(R, ANN, limit=3)
    ledger.release(claims)
    again = ledger.claim(R, BOB, limit=3)
    assert tracts_of(again) == tracts_of(claims)
    assert [claim.attempts for claim in again] == [0, 0, 0]


def test_a_tract_that_keeps_failing_is_quarantined_with_its_error_and_the_rest_goes_on(ledger: Ledger) -> None:
    for attempt in range(3):
        claim = ledger.claim(R, ANN)[0]
        assert (claim.tract, claim.attempts) == ("000100", attempt)
        assert ledger.failed(claim, f"infeasible: P12 of block 7, {attempt} \ud800\x00", 3) is (attempt == 2)
    assert tracts_of(ledger.claim(R, ANN, limit=9)) == ["001000300", "001000200"]
    quarantined = ledger.status(R).quarantined
    assert [(row.tract, row.attempts, row.error) for row in quarantined] == [
        ("000100", 3, "infeasible: P12 of block 7, 2 \\ud800\\x00")
    ]


def test_a_failed_tract_rests_before_its_next_attempt(ledger: Ledger, clock: Clock) -> None:
    ledger.failed(ledger.claim(R, ANN)[0], "S3 is slow", 3, retry_seconds=30)
    assert tracts_of(ledger.claim(R, ANN, limit=9)) == ["001000300", "001000200"]
    work = ledger.work_left(R)
    assert (work.claimable, work.running, work.waiting, work.nothing_left) == (1, 2, 1, False)
    assert ledger.status(R).lp_hostlocked == 0
    clock.now += 30
    assert tracts_of(ledger.claim(R, ANN)) == ["001000100"]


def test_a_failure_reported_twice_counts_once(ledger: Ledger) -> None:
    claim = ledger.claim(R, ANN)[0]
    assert [ledger.failed(claim, "bad", 2), ledger.failed(claim, "bad", 2)] == [False, False]
    assert ledger.claim(R, ANN)[0].attempts == 1


def test_retry_quarantined_puts_tracts_back_with_a_clean_sheet(ledger: Ledger) -> None:
    ledger.failed(ledger.claim(R, ANN)[0], "bad", 1)
    ledger.failed(ledger.claim(R, ANN, place=Place("oh", "003"))[0], "bad", 1)
    assert ledger.retry_quarantined(R, Place("oh", "003")) == 1
    assert ledger.retry_quarantined(R) == 1
    assert ledger.retry_quarantined(R) == 0
    claim = ledger.claim(R, ANN)[0]
    assert (claim.tract, claim.status, claim.attempts) == ("000100", NEW, 0)


def test_a_tract_whose_workers_keep_dying_is_quarantined(engine: Engine, clock: Clock) -> None:
    ledger = Ledger(engine, clock=clock, max_lost=3)
    ledger.register(R, "all", "2010_sf1")
    load(ledger, TRACTS[:1])
    for _ in range(3):
        assert ledger.claim(R, ANN, lease_seconds=10)[0].attempts == 0
        clock.now += 10
    assert ledger.claim(R, ANN) == []
    assert "lost 3 times; ann/1 was the last" in ledger.status(R).quarantined[0].error


def test_a_dead_worker_of_the_node_is_freed_at_once(ledger: Ledger) -> None:
    held = ledger.claim(R, ANN, limit=2)
    ledger.claim(R, BOB)
    assert [(row.worker, row.tracts, row.counties) for row in ledger.claimants(R)] == [(ANN, 2, 0), (BOB, 1, 0)]
    assert ledger.release_worker(R, ANN) == 2
    assert [row.worker for row in ledger.claimants(R)] == [BOB]
    with pytest.raises(LostLease):
        ledger.solved(held[0], SOL_STATS, LP_STATS)
    assert tracts_of(ledger.claim(R, BOB, limit=2)) == tracts_of(held)


def test_unlock_frees_what_hosts_hold_that_are_gone(ledger: Ledger) -> None:
    ledger.claim(R, ANN, limit=9)
    ledger.claim(R, BOB, limit=9)
    assert ledger.release_hosts(R, ["ann", "carl"]) == 3
    assert [row.worker.host for row in ledger.claimants(R)] == ["bob"]


def test_force_puts_a_step_back(ledger: Ledger) -> None:
    solve_all(ledger)
    county = ledger.claim_county(R, ANN)
    assert county is not None
    ledger.csv_written(county)
    assert ledger.finished(R) == (4, 1)
    assert ledger.finished(R, Place("oh", "001", ("000100",))) == (1, 1)
    assert ledger.reset(R, 4, Place("oh", "001", ("000100",))) == 1
    assert ledger.finished(R) == (3, 0)
    assert (states(ledger)["001000100"], states(ledger)["001000300"]) == (LP, SOLVED)
    assert ledger.status(R).csv_completed == 0
    assert ledger.reset(R, 3, Place("oh", "003")) == 1
    row = next(row for row in ledger.tract_states(R, "oh", "003"))
    assert (row.status, row.lp_end, row.sol_end, row.variables) == (NEW, None, None, None)
    assert ledger.reset(R, 3) == 4
    assert states(ledger)["001990000"] == EMPTY


def test_force_takes_the_tract_from_whoever_works_on_it(ledger: Ledger) -> None:
    claim = ledger.claim(R, ANN)[0]
    ledger.reset(R, 3)
    with pytest.raises(LostLease):
        ledger.lp_written(claim, LP_STATS)


# -- counties -------------------------------------------------------------------------------------------------------------


def test_a_county_is_closed_when_its_last_tract_is_solved_by_exactly_one(ledger: Ledger) -> None:
    for claim in ledger.claim(R, ANN, limit=2):
        ledger.solved(claim, SOL_STATS, LP_STATS)
    assert ledger.claim_county(R, ANN) is None
    last = ledger.claim(R, ANN, place=Place("oh", "001"))[0]
    assert ledger.claim_county(R, ANN) is None
    ledger.solved(last, SOL_STATS, LP_STATS)
    county = ledger.claim_county(R, ANN)
    assert county is not None
    assert (county.stusab, county.state, county.county, county.pop) == ("oh", "39", "001", 8000)
    assert [one.tract for one in county.solved] == ["000100", "000200", "000300"]
    assert ledger.claim_county(R, BOB) is None
    ledger.csv_written(county, 3.0)
    ledger.csv_written(county, 3.0)
    assert ledger.claim_county(R, BOB) is None
    assert ledger.status(R).csv_completed == 3


def test_a_county_with_a_quarantined_tract_is_not_closed(ledger: Ledger) -> None:
    ledger.failed(ledger.claim(R, ANN, place=Place("oh", "001"))[0], "bad", 1)
    solve_all(ledger)
    county = ledger.claim_county(R, ANN)
    assert county is not None
    assert county.county == "003"
    assert ledger.claim_county(R, ANN) is None


def test_a_county_without_people_is_no_work_and_a_state_is_complete_without_it(ledger: Ledger) -> None:
    solve_all(ledger)
    while county := ledger.claim_county(R, ANN):
        assert county.county != "005"
        ledger.csv_written(county)
    assert ledger.status(R).completed_states == ("oh",)


def test_a_stale_county_goes_to_another_and_the_first_cannot_finish(ledger: Ledger, clock: Clock) -> None:
    solve_all(ledger, "001")
    first = ledger.claim_county(R, ANN, lease_seconds=60)
    assert first is not None
    assert ledger.heartbeat([first], 60) == []
    clock.now += 60
    second = ledger.claim_county(R, BOB)
    assert second is not None
    with pytest.raises(LostLease):
        ledger.csv_written(first)
    assert ledger.heartbeat([first, second]) == [first]
    ledger.csv_written(second)


def test_a_county_that_keeps_failing_is_quarantined_and_can_be_retried(ledger: Ledger) -> None:
    solve_all(ledger, "003")
    for attempt in range(2):
        county = ledger.claim_county(R, ANN)
        assert county is not None
        assert ledger.failed(county, "the disk is full", 2) is (attempt == 1)
    assert ledger.claim_county(R, ANN) is None
    assert [(row.county, row.tract, row.error) for row in ledger.status(R).quarantined] == [("003", "", "the disk is full")]
    assert ledger.work_left(R).counties_quarantined == 1
    assert ledger.retry_quarantined(R) == 1
    assert ledger.claim_county(R, ANN) is not None


def test_force_of_step_5_opens_the_county_again(ledger: Ledger) -> None:
    solve_all(ledger, "003")
    county = ledger.claim_county(R, ANN)
    assert county is not None
    ledger.csv_written(county)
    assert ledger.reset(R, 5, Place("oh", "003")) == 1
    again = ledger.claim_county(R, ANN)
    assert again is not None
    assert again.county == "003"


# -- reports --------------------------------------------------------------------------------------------------------------


def test_work_left_says_when_there_is_nothing_left(ledger: Ledger, clock: Clock) -> None:
    work = ledger.work_left(R)
    assert (work.claimable, work.running, work.counties_claimable) == (4, 0, 0)
    ledger.claim(R, ANN, limit=9, lease_seconds=60)
    work = ledger.work_left(R, place=Place("oh", "001"))
    assert (work.claimable, work.running) == (0, 3)
    clock.now += 60
    assert ledger.work_left(R).claimable == 4
    solve_all(ledger)
    assert ledger.work_left(R, steps=[3, 4]).nothing_left
    assert ledger.work_left(R).counties_claimable == 2
    while county := ledger.claim_county(R, ANN):
        assert ledger.work_left(R).counties_running == 1
        ledger.csv_written(county)
    assert ledger.work_left(R).nothing_left


def test_status_counts_tracts_with_people(ledger: Ledger, clock: Clock) -> None:
    held = ledger.claim(R, ANN, limit=9)
    lp = ledger.lp_written(held[0], LP_STATS, keep_claim=True)
    ledger.solved(held[1], SOL_STATS, LP_STATS)
    ledger.failed(ledger.claim(R, BOB)[0], "bad", 1)
    clock.now += 100
    status = ledger.status(R)
    assert status.now == clock.now
    assert (status.lp_created, status.lp_remaining, status.lp_in_process, status.lp_hostlocked) == (2, 2, 1, 0)
    assert (status.sol_created, status.sol_remaining, status.sol_ready) == (1, 3, 1)
    assert (status.csv_completed, status.csv_remaining, status.completed_states) == (0, 4, ())
    assert [(row.tract, row.host, row.since) for row in status.lps_in_progress] == [("000200", "ann", 1_600_000_000)]
    assert [(row.tract, row.host) for row in status.sols_in_progress] == [(lp.tract, "ann")]
    assert status.lps_past_hour == (("ann", 2),)
    assert status.sols_past_hour == (("ann", 1),)
    assert (status.people, status.people_solved, status.people_quarantined) == (10000, 3000, 2000)
    clock.now += 3600
    status = ledger.status(R)
    assert (status.lp_in_process, status.lp_hostlocked, status.lps_past_hour) == (0, 1, ())


def test_status_gives_the_rate_and_the_time_left(ledger: Ledger, clock: Clock) -> None:
    held = ledger.claim(R, ANN, limit=9)
    assert ledger.status(R).seconds_left is None
    ledger.solved(held[0], SOL_STATS, LP_STATS)
    assert ledger.status(R).people_per_hour is None
    clock.now += 100
    assert ledger.status(R).people_per_hour is None, "one moment is no rate, however long ago"
    ledger.solved(held[1], SOL_STATS, LP_STATS)
    status = ledger.status(R)
    assert status.people_per_hour == pytest.approx(3000 / 100 * 3600)
    assert status.seconds_left == pytest.approx(3000 / 30)


def test_the_rate_is_of_the_time_in_which_somebody_worked(ledger: Ledger, clock: Clock) -> None:
    """3,000 people in 100 s, a pause of 1,000 s, and 2,000 in 50 s: neither the pause counts, nor people without their time."""
    held = ledger.claim(R, ANN, limit=2)
    ledger.solved(held[0], SOL_STATS, LP_STATS)
    clock.now += 100
    ledger.solved(held[1], SOL_STATS, LP_STATS)
    clock.now += 1000
    status = ledger.status(R)
    assert (status.at_work, status.seconds_left) == (False, None)
    assert status.people_per_hour == pytest.approx(3000 / 100 * 3600), "it stays what it was when the last one left"
    (again,) = ledger.claim(R, ANN, limit=1)
    clock.now += 50
    status = ledger.status(R)
    assert status.at_work
    assert status.people_per_hour == pytest.approx(3000 / 150 * 3600)
    ledger.solved(again, SOL_STATS, LP_STATS)
    assert again.pop == 2000
    assert ledger.status(R).people_per_hour == pytest.approx(5000 / 150 * 3600)


def test_a_clock_that_was_set_back_makes_no_rate_of_the_future(ledger: Ledger, clock: Clock) -> None:
    held = ledger.claim(R, ANN, limit=2)
    ledger.solved(held[0], SOL_STATS, LP_STATS)
    clock.now += 100
    ledger.solved(held[1], SOL_STATS, LP_STATS)
    clock.now -= 3600
    ledger.claim(R, BOB)
    assert (ledger.status(R).at_work, ledger.status(R).people_per_hour, ledger.status(R).silent) == (True, None, ())
    clock.now += 7200
    assert (ledger.status(R).at_work, ledger.status(R).people_per_hour) == (False, None)


def test_a_tract_that_takes_longer_than_others_pause_is_work_all_the_time(ledger: Ledger, clock: Clock) -> None:
    first, long = ledger.claim(R, ANN, limit=2, lease_seconds=2000)
    ledger.solved(first, SOL_STATS, LP_STATS)
    clock.now += 900
    (short,) = ledger.claim(R, BOB, limit=1)
    clock.now += 30
    ledger.solved(short, SOL_STATS, LP_STATS)
    clock.now += 70
    ledger.solved(long, SOL_STATS, LP_STATS)
    assert ledger.status(R).people_per_hour == pytest.approx((short.pop + long.pop) / 1000 * 3600)


def test_where_a_dead_host_alone_holds_tracts_nobody_works_and_no_time_is_left(ledger: Ledger, clock: Clock) -> None:
    lease = ledger.beats.lease_seconds
    held = ledger.claim(R, ANN, limit=3, lease_seconds=lease)
    ledger.solved(held[0], SOL_STATS, LP_STATS)
    clock.now += 100
    ledger.solved(held[1], SOL_STATS, LP_STATS)
    assert ledger.status(R).seconds_left == pytest.approx(3000 / 30)
    clock.now += ledger.beats.silence_seconds - 100
    assert (ledger.status(R).at_work, ledger.status(R).silent) == (True, ())
    clock.now += 1
    status = ledger.status(R)
    assert (status.at_work, status.seconds_left, status.people_per_hour) == (False, None, 3000 / 100 * 3600)
    assert [(one.host, one.tracts, clock.now - one.heard_at) for one in status.silent] == [("ann", 1, 181)]
    ledger.claim(R, BOB, limit=1, lease_seconds=lease)
    status = ledger.status(R)
    assert status.at_work
    assert status.people_per_hour is not None
    rest = held[2].pop / (status.people_per_hour / 3600)
    assert status.seconds_left == pytest.approx(max(3000 / (status.people_per_hour / 3600), lease - 181 + rest))


def test_a_host_is_heard_of_by_reports_claims_and_heartbeats_and_holds_counties_too(ledger: Ledger, clock: Clock) -> None:
    solve_all(ledger, "001")
    lease, silence = ledger.beats.lease_seconds, ledger.beats.silence_seconds
    county = ledger.claim_county(R, BOB, lease_seconds=lease, place=Place("oh", "001"))
    assert county is not None
    clock.now += silence
    ledger.heartbeat([county], lease)
    clock.now += silence
    assert not ledger.holders(R)[0].silent
    ledger.record_sysload(SysLoad("bob", 1.0, 1.0, 1.0, 1, 2, 0))
    clock.now += silence
    assert ledger.status(R).silent == ()
    clock.now += 1
    assert [(one.host, one.tracts, one.counties) for one in ledger.status(R).silent] == [("bob", 0, 1)]
    assert ledger.reporting() == []


def test_status_of_an_experiment_without_geography_is_all_zero(ledger: Ledger) -> None:
    ledger.register("bare", "all", "2010_sf1")
    status = ledger.status("bare")
    assert (status.lp_created, status.csv_remaining, status.people, status.completed_states) == (0, 0, 0, ())


def test_errors_keep_texts_of_any_length_whole(ledger: Ledger) -> None:
    stack = "".join(f"line {number}: Doña 'quoted' \\ \U0001f5fa\n" for number in range(600_000))
    report = ErrorReport(R, "ann", 7, "m" * 100_000, "s4.py" * 500, 12, stack, "oh", "001", "000100")
    ledger.record_error(report)
    ledger.record_error(ErrorReport(R, "bob", 8, "undecodable \udcff\x00"))
    ledger.record_error(ErrorReport("", "bob", 8, "elsewhere"))
    newest, whole = ledger.errors(R)
    assert newest.report.message == "undecodable \\udcff\\x00"
    assert whole.report == report
    assert whole.at == 1_600_000_000
    assert [entry.report.message for entry in ledger.errors(limit=1)] == ["elsewhere"]


def test_a_tract_keeps_the_beginning_of_an_endless_error(ledger: Ledger) -> None:
    ledger.failed(ledger.claim(R, ANN)[0], "x" * 20_000_000, 1)
    error = ledger.status(R).quarantined[0].error
    assert error.startswith("xxx")
    assert error.endswith("... (20000000 characters)")


def test_the_newest_load_of_every_node_is_known(ledger: Ledger, clock: Clock) -> None:
    for seconds in (0, 60, 60):
        clock.now += seconds
        ledger.record_sysload(SysLoad("ann", 1.5, 1.0, 0.5, 1000 + seconds, 8000, 2))
    ledger.record_sysload(SysLoad("bob", 0.1, 0.1, 0.1, 500, 4000, 0))
    loads = ledger.sysload()
    assert [(entry.load.host, entry.at, entry.load.free_memory_mib) for entry in loads] == [
        ("ann", 1_600_000_120, 1060),
        ("bob", 1_600_000_120, 500),
    ]


# -- many at once, and faults ---------------------------------------------------------------------------------------------


def claim_until_empty(database: dict[str, Any], name: str, queue: "multiprocessing.Queue[list[str]]") -> None:
    """One node: claims, finishes, closes counties, until nothing is left."""
    engine = make_engine(**database)
    ledger = Ledger(engine, patience=30)
    worker = Worker(name, "1")
    done: list[str] = []
    while not ledger.work_left(R).nothing_left:
        for claim in ledger.claim(R, worker, limit=3):
            ledger.solved(claim, SOL_STATS, LP_STATS)
            done.append(str(claim))
        if county := ledger.claim_county(R, worker):
            ledger.csv_written(county)
            done.append(str(county))
    engine.dispose()
    queue.put(done)


def test_processes_that_claim_at_once_never_get_the_same_work(ledger: Ledger, database: dict[str, Any]) -> None:
    tracts = [TractRow("34", f"{c:03}", f"{t:06}", 1 + (c * 37 + t * 11) % 400) for c in range(1, 9) for t in range(1, 31)]
    load(ledger, tracts, "nj")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    nodes = [context.Process(target=claim_until_empty, args=(database, f"n{number}", queue)) for number in range(6)]
    for node in nodes:
        node.start()
    done = Counter(name for _ in nodes for name in queue.get(timeout=120))
    for node in nodes:
        node.join()
    expected = {f"nj {row.county} {row.tract}" for row in tracts} | {f"nj {c:03}" for c in range(1, 9)}
    expected |= {f"oh {row.county} {row.tract}" for row in TRACTS if row.pop} | {"oh 001", "oh 003"}
    assert done == Counter(expected)
    assert {row.sol_count for row in ledger.tract_states(R, "nj")} == {1}
    assert ledger.claimants(R) == []


def break_after_commit(monkeypatch: pytest.MonkeyPatch, engine: Engine, breaks: Iterator[bool]) -> None:
    """Lets the connection fail right after a commit that happened, where ``breaks`` says so."""
    commit = engine.dialect.do_commit

    def commit_and_break(connection: Any) -> None:
        commit(connection)
        if next(breaks):
            raise away(engine)

    monkeypatch.setattr(engine.dialect, "do_commit", commit_and_break)


def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_counted_twice(
    engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks right after each commit: the ledger cannot know whether it happened, and must cope."""
    ledger = Ledger(engine, clock=clock, patience=30)
    ledger.register(R, "all", "2010_sf1")
    load(ledger)
    with monkeypatch.context() as patch:
        break_after_commit(patch, engine, cycle([True, False]))
        claim = ledger.claim(R, ANN)[0]
        assert ledger.claimants(R)[0].tracts == 1
        ledger.failed(claim, "bad", 9)
        claim = ledger.claim(R, ANN)[0]
        ledger.solved(claim, SOL_STATS, LP_STATS)
        ledger.record_error(ErrorReport(R, "ann", 1, "once"))
    row = next(row for row in ledger.tract_states(R, "oh") if row.status == SOLVED)
    assert (row.attempts, row.sol_count, row.lp_count) == (1, 1, 1)
    assert len(ledger.errors(R)) == 1
    assert ledger.claimants(R) == []


def away(engine: Engine) -> Exception:
    """What the driver raises when the database cannot be reached."""
    if engine.dialect.name == "sqlite":
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        return error
    return pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")


def test_an_order_that_is_unsafe_to_repeat_is_not_repeated(engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset that is done again could take away what others claimed in between."""
    ledger = Ledger(engine, clock=clock, patience=30)
    ledger.register(R, "all", "2010_sf1")
    load(ledger)
    breaks = iter([True, False])
    with monkeypatch.context() as patch:
        break_after_commit(patch, engine, breaks)
        with pytest.raises(DatabaseError):
            ledger.reset(R, 3)
    assert list(breaks) == [False]  # one commit was tried


def test_counties_are_open_until_they_are_written(ledger: Ledger, engine: Engine) -> None:
    solve_all(ledger, "003")
    county = ledger.claim_county(R, ANN)
    assert county is not None
    ledger.csv_written(county)
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT county, status, csv_count FROM {R}_counties ORDER BY county")).all()
    assert [tuple(row) for row in rows] == [("001", OPEN, 0), ("003", WRITTEN, 1), ("005", EMPTY, 0)]


@pytest.mark.mariadb
def test_a_server_that_restarts_is_waited_for(mariadb_server: Any, mariadb_env: dict[str, str]) -> None:
    engine = make_engine(sqlite_path="unused", **{name.lower(): value for name, value in mariadb_env.items()})
    ledger = Ledger(engine, patience=60)
    ledger.register(R, "all", "2010_sf1")
    load(ledger)
    claim = ledger.claim(R, ANN)[0]
    mariadb_server.kill()
    starter = threading.Timer(1.0, mariadb_server.start)
    starter.start()
    try:
        ledger.solved(claim, SOL_STATS, LP_STATS)
    finally:
        starter.join()
    assert [row.sol_count for row in ledger.tract_states(R, "oh") if row.status == SOLVED] == [1]
    engine.dispose()


@pytest.mark.mariadb
def test_a_claim_gets_its_best_tract_though_another_reads_the_same_county(mariadb_env: dict[str, str]) -> None:
    """Another transaction holds the county's entries in one index only, as a claim does that passes over locked rows."""
    engine = make_engine(sqlite_path="unused", **{name.lower(): value for name, value in mariadb_env.items()})
    ledger = Ledger(engine)
    ledger.register(R, "all", "2010_sf1")
    load(ledger)
    claims: list[Claim] = []
    claimer = threading.Thread(target=lambda: claims.extend(ledger.claim(R, ANN, limit=3)))
    with engine.begin() as connection:
        query = f"SELECT pop FROM {R}_tracts FORCE INDEX ({R}_tracts_county) WHERE stusab = 'oh' LOCK IN SHARE MODE"
        assert len(connection.execute(text(query)).all()) == len(TRACTS)
        claimer.start()
        claimer.join(timeout=1)
    claimer.join()
    assert tracts_of(claims)[0] == "001000100"
    engine.dispose()


@pytest.mark.mariadb
def test_a_claim_reads_a_few_rows_however_many_tracts_are_done(mariadb_env: dict[str, str]) -> None:
    """The server's own count of rows read: 100 done or 20,000 done, it is the same."""
    engine = make_engine(sqlite_path="unused", **{name.lower(): value for name, value in mariadb_env.items()})
    ledger = Ledger(engine)
    ledger.register(R, "all", "2010_sf1")
    done = [TractRow("39", f"{c:03}", f"{t:06}", 9000 - t) for c in range(1, 41) for t in range(1, 501)]
    load(ledger, done)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {R}_tracts SET status = 'solved'"))
    load(ledger, [TractRow("34", "001", f"{t:06}", t) for t in range(1, 50)], "nj")
    for place in (EVERYWHERE, Place("nj"), Place("nj", "001")):
        before = _rows_read(engine)
        assert len(ledger.claim(R, ANN, limit=4, place=place)) == 4
        assert _rows_read(engine) - before < 100
    engine.dispose()


def _rows_read(engine: Engine) -> int:
    with engine.connect() as connection:
        rows = connection.execute(text("SHOW GLOBAL STATUS LIKE 'Handler_read%'")).all()
    return sum(int(row[1]) for row in rows)


def test_a_claim_on_sqlite_is_read_from_an_index_in_order(tmp_path: Any) -> None:
    engine = make_engine(sqlite_path=tmp_path / "a.sqlite3")
    ledger = Ledger(engine)
    ledger.register(R, "all", "2010_sf1")
    load(ledger)
    plans: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if statement.startswith("SELECT") and "ORDER BY" in statement and "_tracts.hold = ?" in statement:
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            plans.append(" ".join(row[3] for row in rows))

    event.listen(engine, "before_cursor_execute", explain)
    ledger.claim(R, ANN)
    ledger.claim(R, ANN, place=Place("oh"))
    assert len(plans) >= 4
    assert [plan for plan in plans if "INDEX" not in plan or "TEMP B-TREE" in plan] == []
    engine.dispose()
