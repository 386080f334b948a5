"""A database that an earlier version of this program has made, work half done, is brought to this one's tables."""

from typing import Any

import pytest
from sqlalchemy import Engine, inspect, select, text

from dbrecon.ctools.database import is_mysql, make_engine
from dbrecon.errors import DatabaseError
from dbrecon.ledger import migrations
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import LpStats, SolStats, Worker
from dbrecon.ledger.schema import VERSION, experiment_tables
from dbrecon.place import Place
from tests.paths import CHECKOUT

LATER = 1_600_010_000
STATUSES = {
    "000100": "solved", "000200": "lp", "000300": "new", "000400": "new", "000500": "new", "000600": "quarantined",
    "990000": "empty",
}  # fmt: skip


@pytest.fixture
def old(engine: Engine) -> Engine:
    """A database of version 1, as tests/assets/make_schema_1.py has it from that version's own definitions."""
    name = "mysql" if is_mysql(engine) else "sqlite"
    statements = (CHECKOUT / "tests" / "assets" / f"schema_1_{name}.sql").read_text(encoding="utf-8").splitlines()
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        for statement in statements:
            connection.exec_driver_sql(statement.rstrip(";"))
    return engine


def ledger_of(engine: Engine, now: int = LATER, **options: Any) -> Ledger:
    return Ledger(engine, clock=lambda: now, **options)


def shape(engine: Engine) -> dict[str, Any]:
    """Columns and indexes of every table, by name."""
    with engine.connect() as connection:
        looked = inspect(connection)
        return {
            table: (
                {(column["name"], column["nullable"]) for column in looked.get_columns(table)},
                {(index["name"], tuple(index["column_names"])) for index in looked.get_indexes(table)},
            )
            for table in looked.get_table_names()
        }


def test_the_tables_are_those_that_this_version_makes(old: Engine, database: dict[str, Any], tmp_path: Any) -> None:
    ledger_of(old, upgrade=True).experiments()
    migrated = shape(old)
    ledger = ledger_of(old, upgrade=True)
    ledger.drop("r1")
    ledger.register("r1", "all", "2010_sf1")
    assert migrated == shape(old)
    if not is_mysql(old):
        fresh = make_engine(sqlite_path=tmp_path / "fresh.sqlite3")
        Ledger(fresh).register("r1", "all", "2010_sf1")
        assert migrated == shape(fresh)
        fresh.dispose()


def test_work_that_was_half_done_goes_on(old: Engine) -> None:
    ledger = ledger_of(old, upgrade=True)
    assert [row.reident for row in ledger.experiments()] == ["r1"]
    assert {tract.tract: tract.status for tract in ledger.tract_states("r1", "de", "001")} == STATUSES
    assert ledger.county_statuses("r1", "de") == {"001": "open", "003": "written"}
    assert ledger.status("r1").quarantined[0].error == "it contradicts itself"
    claims = ledger.claim("r1", Worker("ann", "1-1"), limit=9, place=Place("de", "001"))
    assert [claim.tract for claim in claims] == ["000200", "000300", "000400", "000500"], "leases and rests are over"
    assert [claim.lp_digest for claim in claims] == ["", None, None, None], "what was accepted without a digest is taken as it is"
    assert claims[0].county_files is not None
    assert (claims[0].county_files.block, claims[0].county_files.zip) == ("", None)
    for claim in claims:
        ledger.solved(claim, SolStats("HiGHS", 0.1), None if claim.status == "lp" else LpStats(1, 1, 1, 0.1))
    assert ledger.retry_quarantined("r1") == 1
    ledger.register("r2", "block", "2010_sf1")  # its registration had been broken off


@pytest.mark.parametrize("lapse", [1_600_000_050, 1_600_000_299])
def test_nothing_is_changed_while_schedulers_of_the_older_version_are_at_work(old: Engine, lapse: int) -> None:
    before = shape(old)
    with pytest.raises(DatabaseError, match=r"schedulers of that version are at work \(gone\): stop them"):
        ledger_of(old, lapse, upgrade=True).experiments()
    assert shape(old) == before


def test_without_being_asked_older_tables_are_refused_with_the_remedy(old: Engine) -> None:
    before = shape(old)
    with pytest.raises(DatabaseError, match=f"tables of version 1, and this program needs version {VERSION}.*--upgrade_database"):
        ledger_of(old).experiments()
    assert shape(old) == before
    assert ledger_of(old).upgrade() == (1, VERSION)
    assert [row.reident for row in ledger_of(old).experiments()] == ["r1"]
    assert ledger_of(old).upgrade() == (VERSION, VERSION)


def test_tables_of_a_later_version_are_refused(engine: Engine) -> None:
    Ledger(engine).experiments()
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        connection.execute(text(f"INSERT INTO dbr_schema (version, since) VALUES ({VERSION + 1}, 1)"))
    with pytest.raises(DatabaseError, match=f"has tables of version {VERSION + 1}, and this program knows those to"):
        Ledger(engine, upgrade=True).experiments()


def test_an_upgrade_that_was_broken_off_goes_on(old: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """On MySQL every ALTER TABLE is committed at once; on SQLite all of it is undone."""
    seen: list[str] = []
    real = migrations._indexes

    def broken(connection: Any, table: Any) -> None:
        seen.append(table.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        real(connection, table)

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_indexes", broken)
        with pytest.raises(KeyboardInterrupt):
            ledger_of(old, upgrade=True).experiments()
    ledger = ledger_of(old, upgrade=True)
    assert {tract.tract: tract.status for tract in ledger.tract_states("r1", "de", "001")} == STATUSES
    tracts = experiment_tables("r1").tracts
    with old.connect() as connection:
        rows = connection.execute(select(tracts.c.tract, tracts.c.hold).where(tracts.c.county == "001"))
        holds = {row.tract: row.hold for row in rows}
    assert holds == dict.fromkeys(STATUSES, "free") | {"000400": "leased", "000500": "resting"}
