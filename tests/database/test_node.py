"""The scheduler of a node: whatever happens to a tract or a worker, the rest is done and nothing is lost."""

import logging
import os
import re
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

import dbrecon.node.source
from dbrecon.errors import DatabaseError
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Beats, Claim, LpStats, SolStats, SysLoad, Worker
from dbrecon.ledger.schema import experiment_tables
from dbrecon.node.assignment import Assignment
from dbrecon.node.loop import free_dead_schedulers
from dbrecon.node.machine import WORK
from dbrecon.node.waiting import Waiting
from dbrecon.place import Place
from tests.node_world import ALL, R, claim_before, ledger_with, node_of, run, statuses
from tests.paths import CHECKOUT
from tests.waiting import wait_for


def test_everything_is_done_once_and_the_county_closed(engine: Engine, tmp_path: Path) -> None:
    tracts = [f"{i:06d}" for i in range(100, 110)]
    ledger = ledger_with(engine, tracts)
    outcome = run(ledger, tmp_path, Assignment(ALL))
    assert (outcome.solved, outcome.counties, outcome.quarantined) == (10, 1, [])
    assert all((s.lp_count, s.sol_count) == (1, 1) for s in ledger.tract_states(R, "oh"))
    assert ledger.status(R).csv_remaining == 0


def test_a_tract_that_kills_its_worker_is_quarantined_and_the_rest_is_done(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, ["000100", "000666", "000200", "000300"])
    outcome = run(ledger, tmp_path, Assignment(ALL))
    assert statuses(ledger) == {"000100": "solved", "000200": "solved", "000300": "solved", "000666": "quarantined"}
    [(_, bad)] = outcome.quarantined
    assert bad.attempts == 2
    assert "its worker process was ended by SIGKILL" in bad.error


def test_a_tract_that_fails_is_tried_again_then_quarantined_with_its_error(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, ["000100", "000500"])
    outcome = run(ledger, tmp_path, Assignment(ALL))
    assert statuses(ledger) == {"000100": "solved", "000500": "quarantined"}
    assert [tract.error for _, tract in outcome.quarantined] == ["the tables contradict each other"]
    assert [entry.report.tract for entry in ledger.errors(R)] == ["000500", "000500"]


def test_a_county_with_a_quarantined_tract_is_not_closed(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, ["000100", "000500"])
    assert run(ledger, tmp_path, Assignment(ALL)).counties == 0


def test_a_trouble_of_the_node_that_passes_is_not_counted_against_the_tract(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, ["000404", "000100"])
    outcome = run(ledger, tmp_path, Assignment(ALL))
    assert statuses(ledger) == {"000404": "solved", "000100": "solved"}
    assert outcome.node_failure is None
    assert all(state.attempts == 0 for state in ledger.tract_states(R, "oh"))


def test_claims_that_fail_together_are_one_fault_of_the_node(engine: Engine, tmp_path: Path) -> None:
    """Storage is away for a moment, and every tract in work fails: three of one claim, and more than three on a big node."""
    ledger = ledger_with(engine, [f"{i:06d}" for i in range(100, 112)])
    outcome = run(ledger, tmp_path, Assignment(frozenset({3, 4})), "tests.worker_tasks:serve_short_outage")
    assert (outcome.solved, outcome.node_failure) == (12, None)
    assert all((state.status, state.attempts) == ("solved", 0) for state in ledger.tract_states(R, "oh"))


def test_a_node_whose_disk_is_broken_gives_up_and_its_tracts_are_free_for_others(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, ["000100", "000200", "000300", "000400"])
    outcome = run(ledger, tmp_path, Assignment(ALL), "tests.worker_tasks:serve_broken_disk")
    assert outcome.node_failure is not None
    assert outcome.node_failure.exit_code == 4
    assert set(statuses(ledger).values()) == {"new"}
    assert all(state.claimed_by is None and state.attempts == 0 for state in ledger.tract_states(R, "oh"))


def test_a_file_that_cannot_come_into_place_ends_no_scheduler_if_that_passes(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, ["000100", "000200"])
    outcome = run(ledger, tmp_path, Assignment(frozenset({3, 4})), "tests.worker_tasks:serve_in_the_way")
    assert statuses(ledger) == {"000100": "solved", "000200": "solved"}
    assert (outcome.solved, outcome.node_failure) == (2, None)
    assert {path.name: path.read_text() for path in tmp_path.glob("0*.sol")} == {"000100.sol": "solved", "000200.sol": "solved"}
    assert all(state.claimed_by is None and state.attempts == 0 for state in ledger.tract_states(R, "oh"))


def test_a_node_where_no_file_can_come_into_place_gives_up_and_holds_nothing(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, ["000100", "000200"])
    outcome = run(ledger, tmp_path, Assignment(frozenset({3, 4})), "tests.worker_tasks:serve_always_in_the_way")
    assert outcome.node_failure is not None
    assert outcome.node_failure.exit_code == 4
    assert [(state.status, state.claimed_by, state.attempts) for state in ledger.tract_states(R, "oh")] == [("new", None, 0)] * 2


def test_a_node_that_is_set_up_wrong_gives_up_and_no_tract_is_blamed(engine: Engine, tmp_path: Path) -> None:
    """The product's table file is there, but is none."""
    product = tmp_path / "own"
    shutil.copytree(CHECKOUT / "config" / "products" / "sf1_2010", product)
    (product / "tables.toml").write_text("no = 1", encoding="utf-8")
    ledger = ledger_with(engine, ["000100", "000200", "000300"], str(product))
    outcome = node_of(ledger, tmp_path, Assignment(ALL), WORK, product=str(product)).run()
    assert outcome.node_failure is not None
    assert f"{product / 'tables.toml'}: the key 'no' is not known" in outcome.node_failure.message
    assert [(state.status, state.claimed_by, state.attempts) for state in ledger.tract_states(R, "oh")] == [("new", None, 0)] * 3


def test_a_county_that_failed_is_tried_again_soon(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when the leases are extended, which is once an hour here."""
    monkeypatch.setattr(dbrecon.node.source, "RECOUNT_SECONDS", 0.1)
    ledger = ledger_with(engine, ["000100"])
    settings = "retry_seconds = 1\nheartbeat_seconds = 3600\nlease_seconds = 7200\n"
    outcome = node_of(ledger, tmp_path, Assignment(ALL), "tests.worker_tasks:serve_bad_county", settings=settings).run()
    assert (outcome.solved, outcome.counties, outcome.quarantined) == (1, 1, [])


def test_a_limit_counts_what_is_solved_and_not_who_died(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, ["000100", "000200", "000300", "000400", "000666"])
    outcome = run(ledger, tmp_path, Assignment(ALL, limit=3))
    assert (outcome.solved, [tract.tract for _, tract in outcome.quarantined]) == (3, ["000666"])


def test_what_force_puts_back_beside_a_scheduler_is_done_again(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, ["000100", "000200", "000300", "000400"])
    node = node_of(ledger, tmp_path, Assignment(ALL), "tests.worker_tasks:serve_steadily")
    with ThreadPoolExecutor() as threads:
        working = threads.submit(node.run)
        for step in (3, 4):
            before = ledger.status(R).sol_created
            wait_for(lambda before=before: ledger.status(R).sol_created > before, "a solution")  # type: ignore[misc]
            assert ledger.reset(R, step)
        outcome = working.result()
    assert (set(statuses(ledger).values()), ledger.county_statuses(R, "oh")) == ({"solved"}, {"001": "written"})
    assert outcome.solved == sum(state.sol_count for state in ledger.tract_states(R, "oh")) > 4


def test_a_scheduler_whose_experiment_is_dropped_leaves_with_a_sentence(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, [f"{i:06d}" for i in range(100, 108)])
    node = node_of(ledger, tmp_path, Assignment(ALL), "tests.worker_tasks:serve_steadily")
    with ThreadPoolExecutor() as threads:
        working = threads.submit(node.run)
        wait_for(lambda: ledger.status(R).sol_created > 0, "a solution")
        ledger.drop(R)
        with pytest.raises(DatabaseError, match=f"REIDENT {R} is not registered in "):
            working.result()


def test_a_limit_is_kept(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, [f"{i:06d}" for i in range(100, 110)])
    outcome = run(ledger, tmp_path, Assignment(ALL, limit=3))
    assert (outcome.solved, outcome.ended, outcome.left) == (3, "the limit is reached", (7, 0))


@pytest.mark.parametrize(("ascending", "first"), [(False, "000103"), (True, "000100")])
def test_the_biggest_tract_comes_first_unless_the_smallest_is_wanted(
    engine: Engine, tmp_path: Path, ascending: bool, first: str
) -> None:
    ledger = ledger_with(engine, [f"{i:06d}" for i in range(100, 104)])
    run(ledger, tmp_path, Assignment(ALL, limit=1, ascending=ascending))
    assert [state.tract for state in ledger.tract_states(R, "oh") if state.status == "solved"] == [first]


def test_step_3_alone_makes_lp_files_and_step_4_alone_solves_them(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, ["000100", "000200"])
    assert run(ledger, tmp_path, Assignment(frozenset({3}))).lps == 2
    assert set(statuses(ledger).values()) == {"lp"}
    outcome = run(ledger, tmp_path, Assignment(frozenset({4, 5})))
    assert (outcome.solved, outcome.counties) == (2, 1)


def test_a_scheduler_on_several_experiments_goes_on_when_one_is_dropped(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger_with(engine, ["000100", "000200", "000300"], reident="other")
    ledger = ledger_with(engine, ["000100", "000200"])
    node = node_of(ledger, tmp_path, Assignment(ALL), "tests.worker_tasks:serve_when_told", reidents=("other", R))
    with ThreadPoolExecutor() as threads:
        working = threads.submit(node.run)
        wait_for(lambda: node.commands()["list"]().count("other oh") > 0, "a tract of the other experiment in work")
        ledger.drop("other")
        (tmp_path / "go").touch()
        outcome = working.result()
    assert (set(statuses(ledger).values()), ledger.county_statuses(R, "oh")) == ({"solved"}, {"001": "written"})
    assert (outcome.solved, outcome.node_failure) == (2, None)
    assert caplog.text.count("other was dropped: what was at work there is lost, the other experiments go on") == 1


def test_a_scheduler_lives_whatever_the_clock_says_until_another_has_its_number(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began when the clock was years behind; another process of its number would have begun at another moment."""
    ledger = ledger_with(engine, ["000100", "000200"])
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    alive = Worker.here()
    gone = Worker(alive.host, alive.name + "1")
    for worker in (alive, gone):
        assert ledger.claim(R, worker, lease_seconds=3600)
    free_dead_schedulers(ledger, [R], alive.host)
    assert [claimant.worker for claimant in ledger.claimants(R)] == [alive]


def test_what_a_dead_scheduler_of_this_host_held_is_done_at_once(engine: Engine, tmp_path: Path) -> None:
    ledger = ledger_with(engine, ["000100", "000200"])
    dead = Worker(Worker.here().host, "999999999-1")  # beyond the largest pid
    assert len(ledger.claim(R, dead, limit=2, lease_seconds=3600)) == 2
    assert run(ledger, tmp_path, Assignment(ALL)).solved == 2


def test_what_another_host_holds_is_waited_for_and_taken_when_its_lease_ends(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = ledger_with(engine, ["000100", "000200"])
    claim_before(engine, 200, "elsewhere", 300)
    tracts = experiment_tables(R).tracts
    caplog.set_level(logging.INFO)

    def said() -> list[str]:
        return [line for line in caplog.messages if line.startswith("waiting")]

    def end_the_lease() -> None:
        wait_for(lambda: bool(said()), "a word of the wait")
        time.sleep(1.5)  # it looks again once a second, and says nothing more
        with engine.begin() as connection:
            connection.execute(update(tracts).where(tracts.c.claimed_host == "elsewhere").values(hold_ends=1))

    with ThreadPoolExecutor() as threads:
        ended = threads.submit(end_the_lease)
        assert run(ledger, tmp_path, Assignment(ALL)).solved == 2
        ended.result()
    assert len(said()) == 1, "and not once a second"
    assert said()[0].startswith(f"waiting for 1 tract of {R} that elsewhere holds; if it is dead, its lease ends in ")


def test_the_lease_of_several_that_are_waited_for_is_the_last_to_end(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A tract held in another county is none of ours."""
    ledger_with(engine, [f"{i:06d}" for i in range(100, 104)])
    ledger = Ledger(engine, beats=Beats(lease_seconds=5400))
    for ago, host in ((200, "node3"), (600, "node5"), (900, "node5")):
        claim_before(engine, ago, host, 5400)
    caplog.set_level(logging.INFO)
    Waiting(ledger, "here", ALL, Place("oh", "001")).say([R])
    Waiting(ledger, "here", {3}, Place("oh", "003")).say([R])
    assert len(caplog.messages) == 1
    assert re.fullmatch(
        rf"waiting for 3 tracts of {R} that node3, node5 hold; the lease of one that is dead ends in 1 h 26 min at the latest "
        r"\(dbrtool.py --unlock HOST ends it now\)",
        caplog.messages[0],
    )


def test_who_is_heard_of_is_waited_for_and_nobody_is_advised_to_unlock_it(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """By a report, or by the heartbeat that a lease tells of."""
    ledger = ledger_with(engine, [f"{i:06d}" for i in range(100, 104)])
    claim_before(engine, 200, "node3", 300)
    claim_before(engine, 200, "node5", 480)
    caplog.set_level(logging.INFO)
    Waiting(ledger, "here", ALL, Place("oh")).say([R])
    ledger.record_sysload(SysLoad("node3", 1.0, 1.0, 1.0, 1, 1, 1))
    Waiting(ledger, "here", ALL, Place("oh")).say([R])
    silent = r"node3, node5 hold; the lease of one that is dead ends in (1 min \d\d|\d+) s at the latest .*"
    assert re.fullmatch(rf"waiting for 2 tracts of {R} that {silent}", caplog.messages[0])
    assert caplog.messages[1:] == [f"waiting for 2 tracts of {R} that node3, node5 are at work on"]


def test_a_worker_whose_lease_was_taken_is_stopped_and_the_other_s_word_counts(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The node has one worker, which is busy: it does not take the tract again before the thief does."""
    ledger = ledger_with(engine, ["000100"])
    node = node_of(ledger, tmp_path, Assignment(frozenset({3, 4})), "tests.worker_tasks:serve_slowly", workers=1)

    def steal() -> None:
        others = Ledger(engine)
        claims: list[Claim] = []

        def taken() -> bool:  # a claim passes over a row that the node's heartbeat has locked; the node may be first, too
            claims.extend(others.claim(R, Worker("elsewhere", "1"), limit=1, lease_seconds=3600))
            if not claims:
                others.release_hosts(R, [Worker.here().host])
            return bool(claims)

        wait_for(lambda: others.release_hosts(R, [Worker.here().host]) == 1, "a claim of the node's")
        wait_for(taken, "a claim of the other's")
        wait_for(lambda: any("its lease is lost" in line for line in caplog.messages), "the end of the node's worker")
        others.solved(claims[0], SolStats("theirs", 0.0), LpStats(1, 1, 1, 0.0))

    with ThreadPoolExecutor() as threads:
        stolen = threads.submit(steal)
        assert node.run().solved == 0
        stolen.result()
    assert [state.solver for state in ledger.tract_states(R, "oh")] == ["theirs"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_stays_claimed(engine: Engine, tmp_path: Path, number: signal.Signals) -> None:
    """SIGINT, and the end of the terminal, put back what is in work; SIGTERM finishes it first."""
    ledger = ledger_with(engine, ["000100", "000200", "000300"])
    node = node_of(ledger, tmp_path, Assignment(ALL), "tests.worker_tasks:serve_when_told")

    def strike() -> None:
        wait_for(lambda: node.commands()["list"]().count("people") == 2, "two tracts in work")
        os.kill(os.getpid(), number)
        if number == signal.SIGTERM:
            wait_for(lambda: node.commands()["uptime"]().endswith("; stopping"), "the signal")
            (tmp_path / "go").touch()

    before = signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup, or where SIGINT is ignored
    try:
        with ThreadPoolExecutor() as threads:
            struck = threads.submit(strike)
            outcome = node.run()
            struck.result()
    finally:
        signal.signal(number, before)
    done = 2 if number == signal.SIGTERM else 0
    assert (outcome.halted, outcome.solved, outcome.put_back) == (not done, done, 2 - done)
    assert all(state.claimed_by is None and state.attempts == 0 for state in ledger.tract_states(R, "oh"))
