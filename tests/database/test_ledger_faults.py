"""The ledger when many ask at once, and when the database fails: nothing is lost, counted twice or read in vain."""

import multiprocessing
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pymysql
import pytest
from sqlalchemy import Engine, event, text

from dbrecon.ctools.database import make_engine
from dbrecon.errors import DatabaseError
from dbrecon.ledger.ledger import (
    EMPTY,
    OPEN,
    SOLVED,
    WRITTEN,
    Claim,
    ErrorReport,
    Ledger,
    Worker,
)
from dbrecon.place import EVERYWHERE, Place
from tests.helpers import TractRow
from tests.ledger_world import (
    ANN,
    LP_STATS,
    SOL_STATS,
    TRACTS,
    Clock,
    R,
    clock,
    ledger,
    load,
    solve_all,
    tracts_of,
)

__all__ = ["clock", "ledger"]


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
