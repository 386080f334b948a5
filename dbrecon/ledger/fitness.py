"""Whether a database is fit to hold the ledger: for --doctor."""

import secrets
import time
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Connection, Engine, Integer, MetaData, Table, insert, select, update

from dbrecon.ctools.database import Database, is_mysql

SKIPPED_ROW = 2


@dataclass(frozen=True)
class DatabaseFacts:
    """What a database told: its kind and version, its clock less ours in seconds, how long a small transaction takes."""

    version: str
    skew: float
    milliseconds: float


def examine_database(engine: Engine) -> DatabaseFacts:
    """Do in a database, with a table of its own that is removed again, what the ledger does. Raises DatabaseError."""
    database = Database(engine)
    columns = (Column("id", Integer, primary_key=True), Column("at", BigInteger, index=True))
    table = Table(f"dbr_doctor_{secrets.token_hex(4)}", MetaData(), *columns)
    try:
        database.run(table.create, write=True, repeat=False)
        begin = time.monotonic()
        at = database.run(lambda connection: _claim(connection, table, database), write=True, repeat=False)
        seconds = time.monotonic() - begin
        skew = at - time.time()
    finally:
        database.run(lambda connection: table.drop(connection, checkfirst=True), write=True)
    return DatabaseFacts(_version(engine), skew, 1000 * seconds)


def _claim(connection: Connection, table: Table, database: Database) -> int:
    """Insert, lock and update, as a claim does; the database's time."""
    connection.execute(insert(table), [{"id": 1, "at": 0}, {"id": SKIPPED_ROW, "at": 0}])
    rows = connection.execute(select(table).where(table.c.at == 0).with_for_update(skip_locked=True)).all()
    connection.execute(update(table).where(table.c.id == rows[0].id).values(at=database.now()))
    return int(connection.execute(select(table.c.at).where(table.c.id == rows[0].id)).scalar_one())


def _version(engine: Engine) -> str:
    numbers = ".".join(str(part) for part in engine.dialect.server_version_info or ())
    if not is_mysql(engine):
        import sqlite3

        return f"SQLite {sqlite3.sqlite_version}"
    return f"{'MariaDB' if getattr(engine.dialect, 'is_mariadb', False) else 'MySQL'} {numbers}"
