"""What the ledger tells operators: counts, rates, hosts, errors, load. On SQLite, MariaDB and MySQL."""

import pytest

from dbrecon.ledger.ledger import (
    ErrorReport,
    Ledger,
    SysLoad,
)
from dbrecon.place import Place
from tests.ledger_world import ANN, BOB, LP_STATS, SOL_STATS, Clock, R, clock, ledger, solve_all

__all__ = ["clock", "ledger"]


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
    assert [(host.host, host.tracts, clock.now - host.heard_at) for host in status.silent] == [("ann", 1, 181)]
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
    assert [(host.host, host.tracts, host.counties) for host in ledger.status(R).silent] == [("bob", 0, 1)]
    assert ledger.reporting() == []


def test_status_of_an_experiment_without_geography_is_all_zero(ledger: Ledger) -> None:
    ledger.register("bare", "all", "2010_sf1")
    status = ledger.status("bare")
    assert (status.lp_created, status.csv_remaining, status.people, status.completed_states) == (0, 0, 0, ())


def test_errors_keep_texts_of_any_length_whole(ledger: Ledger) -> None:
    stack = "".join(f"line {number}: Doña 'quoted' \\ \U0001f5fa\n" for number in range(600_000))
    report = ErrorReport(R, "ann", 7, "m" * 100_000, "s4.py" * 500, 12, stack, "oh", "001", "000100")
    ledger.record_error(report)
    ledger.record_error(ErrorReport(R, "bob", 8, "undecodable \udcff\x00, \x1b[2J"))
    ledger.record_error(ErrorReport("", "bob", 8, "elsewhere"))
    newest, whole = ledger.errors(R)
    assert newest.report.message == "undecodable \\udcff\\x00, \\x1b[2J", "a terminal obeys nothing of it"
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
