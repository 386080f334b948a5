"""What the database layer promises: clear refusals without passwords, and repeats only where they are safe."""

import multiprocessing
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pymysql
import pytest
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import OperationalError

from dbrecon.ctools.database import Database, NoSuchTable, describe, make_engine
from dbrecon.errors import DatabaseError, UsageError

PASSWORD = "s3cret-word"


def mysql_arguments(settings: dict[str, str], **changes: str) -> dict[str, Any]:
    return {"sqlite_path": "unused"} | {name.lower(): value for name, value in settings.items()} | changes


# -- settings -------------------------------------------------------------------------------------------------------------


def test_without_mysql_settings_it_is_sqlite_in_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.sqlite3"
    engine = make_engine(sqlite_path=path, mysql_host="", mysql_database="", mysql_user="", mysql_password="")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (a INTEGER)"))
    engine.dispose()
    assert path.exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"mysql_host": "db", "mysql_user": "u", "mysql_password": PASSWORD}, "^MYSQL_DATABASE not set though"),
        ({"mysql_host": "db", "mysql_user": "u", "mysql_database": "d"}, "^MYSQL_PASSWORD not set though"),
        ({"mysql_database": "d"}, "^MYSQL_HOST and MYSQL_USER and MYSQL_PASSWORD not set though MYSQL_DATABASE is"),
        ({"mysql_password": PASSWORD}, "though MYSQL_PASSWORD is"),
    ],
)
def test_a_missing_partner_of_the_mysql_settings_is_named(given: dict[str, str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        make_engine(sqlite_path=tmp_path / "a", **given)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("port", ["x", "0", "70000", "-1"])
def test_a_port_that_is_none_is_refused(port: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="MYSQL_PORT is"):
        make_engine(
            sqlite_path="a", mysql_host="h", mysql_database="d", mysql_user="u", mysql_password="", mysql_port=port
        )  # fmt: skip


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match=r"file/sub.* cannot be made"):
        Database(make_engine(sqlite_path=tmp_path / "file" / "sub" / "a.sqlite3")).run(lambda connection: None, write=False)


def test_a_file_that_is_no_database_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    path.write_text("this is no database, whatever its name says " * 30)
    with pytest.raises(DatabaseError, match=r"a\.sqlite3 refuses \(file is not a database\): check the file") as caught:
        Database(make_engine(sqlite_path=path)).run(lambda connection: None, write=True)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    engine = make_engine(
        sqlite_path="a", mysql_host="127.0.0.1", mysql_port=1, mysql_database="d", mysql_user="u", mysql_password=PASSWORD
    )  # fmt: skip
    with pytest.raises(DatabaseError, match=r"d at 127\.0\.0\.1:1 \(user u\) does not answer .*see that it runs") as caught:
        Database(engine).run(lambda connection: None, write=True)
    assert PASSWORD not in whole_chain(caught.value) + describe(engine)


@pytest.mark.mariadb
def test_a_wrong_password_is_said_without_it(mariadb_env: dict[str, str]) -> None:
    engine = make_engine(**mysql_arguments(mariadb_env, mysql_password=PASSWORD))
    with pytest.raises(DatabaseError, match=r"Access denied .*check MYSQL_USER, MYSQL_PASSWORD") as caught:
        Database(engine, patience=60).run(lambda connection: None, write=True)
    assert PASSWORD not in whole_chain(caught.value)


@pytest.mark.mariadb
def test_a_database_that_is_not_there_is_named(mariadb_env: dict[str, str], mariadb_server: Any) -> None:
    mariadb_server.execute(f"GRANT ALL ON nosuch.* TO '{mariadb_env['MYSQL_USER']}'@'127.0.0.1'")
    with pytest.raises(DatabaseError, match=r"Unknown database 'nosuch'.*set MYSQL_DATABASE"):
        Database(make_engine(**mysql_arguments(mariadb_env, mysql_database="nosuch"))).run(lambda _: None, write=True)


def whole_chain(error: BaseException | None) -> str:
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__
    return " / ".join(texts)


# -- transactions ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def counter(engine: Engine) -> Engine:
    """A table of two counters at 0."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO counter VALUES (1, 0), (2, 0)"))
    return engine


def value(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT SUM(n) FROM counter")).scalar_one())


def add(connection: Connection) -> None:
    connection.execute(text("UPDATE counter SET n = n + 1 WHERE id = 1"))


def test_a_transaction_whose_work_raises_leaves_nothing(counter: Engine) -> None:
    def work(connection: Connection) -> None:
        add(connection)
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        Database(counter, patience=5).run(work, write=True)
    assert value(counter) == 0


def test_a_statement_that_is_wrong_is_not_repeated_and_shows_no_parameters(counter: Engine) -> None:
    runs = []

    def work(connection: Connection) -> None:
        runs.append(1)
        connection.execute(text("INSERT INTO counter VALUES (1, :n)"), {"n": 424242})

    with pytest.raises(DatabaseError) as caught:
        Database(counter, patience=30).run(work, write=True)
    assert len(runs) == 1
    assert "424242" not in whole_chain(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_an_error_of_its_own(engine: Engine) -> None:
    with pytest.raises(NoSuchTable, match="nosuch"):
        Database(engine).run(lambda connection: connection.execute(text("SELECT * FROM nosuch")), write=False)


def lost(engine: Engine) -> OperationalError:
    """A connection that broke, or SQLite's like of it, as SQLAlchemy raises it."""
    if engine.dialect.name == "sqlite":
        locked = sqlite3.OperationalError("database is locked")
        locked.sqlite_errorcode = sqlite3.SQLITE_BUSY
        return OperationalError("SELECT 1", {}, locked)
    return OperationalError("SELECT 1", {}, pymysql.err.OperationalError(2013, "Lost connection during query"))


@pytest.mark.parametrize(("patience", "runs_expected"), [(0.0, 1), (30.0, 3)])
def test_a_database_that_is_away_is_waited_for_as_long_as_asked(counter: Engine, patience: float, runs_expected: int) -> None:
    runs = []

    def work(connection: Connection) -> None:
        add(connection)
        runs.append(1)
        if len(runs) < 3:
            raise lost(counter)

    database = Database(counter, patience=patience)
    if patience:
        database.run(work, write=True)
    else:
        with pytest.raises(DatabaseError, match="does not answer"):
            database.run(work, write=True)
    assert (len(runs), value(counter)) == (runs_expected, 1 if patience else 0)


@pytest.mark.mariadb
def test_a_deadlock_is_repeated_and_nothing_is_lost(mariadb_env: dict[str, str]) -> None:
    """Two transactions that take two rows in opposite order, both holding their first before either asks for its second."""
    engine = make_engine(**mysql_arguments(mariadb_env))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO counter VALUES (1, 0), (2, 0)"))
    both_hold = threading.Barrier(2)
    runs: list[int] = []

    def both(first: int, second: int) -> None:
        own = 0

        def work(connection: Connection) -> None:
            nonlocal own
            own += 1
            runs.append(first)
            connection.execute(text("UPDATE counter SET n = n + 1 WHERE id = :id"), {"id": first})
            if own == 1:
                both_hold.wait(timeout=30)
            connection.execute(text("UPDATE counter SET n = n + 1 WHERE id = :id"), {"id": second})

        Database(engine).run(work, write=True)

    threads = [threading.Thread(target=both, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) >= 3  # one was rolled back
    assert value(engine) == 4
    engine.dispose()


def add_many(database: dict[str, Any], times: int) -> None:
    engine = make_engine(**database)
    for _ in range(times):
        Database(engine).run(read_then_add, write=True)
    engine.dispose()


def read_then_add(connection: Connection) -> None:
    """Reads first and writes then: loses updates unless the row (on SQLite the database) is locked."""
    lock = "" if connection.dialect.name == "sqlite" else " FOR UPDATE"
    n = connection.execute(text(f"SELECT n FROM counter WHERE id = 1{lock}")).scalar_one()
    connection.execute(text("UPDATE counter SET n = :n WHERE id = 1"), {"n": n + 1})


def test_several_processes_write_at_once_and_no_update_is_lost(counter: Engine, database: dict[str, Any]) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_many, args=(database, 50)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert value(counter) == 150


@pytest.mark.mariadb
def test_time_does_not_depend_on_the_time_zone_of_the_session(mariadb_env: dict[str, str]) -> None:
    """The server of these tests runs in a zone that nobody lives in."""
    engine = make_engine(**mysql_arguments(mariadb_env))
    database = Database(engine)

    def both(connection: Connection) -> tuple[int, int]:
        first = int(connection.execute(select(database.now())).scalar_one())
        connection.execute(text("SET SESSION time_zone = '-11:00'"))
        return first, int(connection.execute(select(database.now())).scalar_one())

    first, second = database.run(both, write=False)
    assert 0 <= second - first <= 5
    engine.dispose()


@pytest.mark.mariadb
def test_what_does_not_fit_is_refused_and_not_cut_off(mariadb_env: dict[str, str]) -> None:
    engine = make_engine(**mysql_arguments(mariadb_env))
    database = Database(engine)
    database.run(lambda connection: connection.execute(text("CREATE TABLE t (a VARCHAR(3))")), write=True)
    with pytest.raises(DatabaseError, match="Data too long"):
        database.run(lambda connection: connection.execute(text("INSERT INTO t VALUES ('abcd')")), write=True)
    engine.dispose()


@pytest.mark.mariadb
def test_a_node_uses_few_connections(mariadb_env: dict[str, str], mariadb_server: Any) -> None:
    engine = make_engine(**mysql_arguments(mariadb_env))
    database = Database(engine, patience=30)

    def work(_number: int) -> None:
        database.run(lambda connection: connection.execute(text("SELECT SLEEP(0.05)")).all(), write=False)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    name = mariadb_env["MYSQL_DATABASE"]
    rows = mariadb_server.execute(f"SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{name}'")
    assert rows[0][0] <= 2
    engine.dispose()
