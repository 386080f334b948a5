"""How schedulers claim tracts and counties, finish or lose them: what the ledger promises, on SQLite, MariaDB and MySQL."""

import pickle
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from dbrecon.errors import DatabaseError
from dbrecon.ledger.ledger import (
    EMPTY,
    LP,
    NEW,
    SOLVED,
    Ledger,
    LostLease,
)
from dbrecon.place import Place
from tests.helpers import TractRow
from tests.ledger_world import ANN, BOB, LP_STATS, SOL_STATS, TRACTS, Clock, R, clock, ledger, load, solve_all, states, tracts_of

__all__ = ["clock", "ledger"]


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
    assert [tract.tract for tract in county.solved] == ["000100", "000200", "000300"]
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
