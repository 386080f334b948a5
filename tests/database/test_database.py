"""What the database layer promises: clear refusals without passwords, and repeats only where they are safe."""

import io
import itertools
import logging
import multiprocessing
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
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


@pytest.mark.parametrize(("name", "value"), [("mysql_host", "a..b"), ("mysql_host", "h\udcff"), ("mysql_user", "\udcff")])
def test_what_the_driver_could_not_send_is_refused(name: str, value: str, tmp_path: Path) -> None:
    given = {"mysql_host": "db", "mysql_user": "u", "mysql_password": PASSWORD, "mysql_database": "d"} | {name: value}
    with pytest.raises(UsageError, match=rf"^{name.upper()} is .*, which is no (host's name|text in UTF-8): correct it$"):
        make_engine(sqlite_path=tmp_path / "a", **given)


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


# -- odd passwords, packets, outages ------------------------------------------------------------------------------------


@pytest.mark.mariadb
@pytest.mark.parametrize("password", ["pässwörd €", "пароль", "', \\ \" # %s {x}", "\U0001f511 key"])
def test_a_password_may_have_any_letters(password: str, mariadb_env: dict[str, str], mariadb_server: Any) -> None:
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    name = mariadb_env["MYSQL_DATABASE"]
    mariadb_server.execute(f"CREATE USER 'ödd'@'127.0.0.1' IDENTIFIED BY '{quoted}'", f"GRANT ALL ON {name}.* TO 'ödd'@'127.0.0.1'")
    try:
        engine = make_engine(**mysql_arguments(mariadb_env, mysql_user="ödd", mysql_password=password))
        assert Database(engine).run(lambda connection: connection.execute(text("SELECT 7")).scalar_one(), write=False) == 7
        engine.dispose()
        wrong = make_engine(**mysql_arguments(mariadb_env, mysql_user="ödd", mysql_password=password + "\udcff"))
        with pytest.raises(DatabaseError, match=r"Access denied .*check MYSQL_USER, MYSQL_PASSWORD"):
            Database(wrong).run(lambda connection: None, write=False)
    finally:
        mariadb_server.execute("DROP USER 'ödd'@'127.0.0.1'")


@pytest.mark.mariadb
def test_a_statement_that_is_too_long_for_the_server_is_said_with_the_remedy(
    mariadb_env: dict[str, str], mariadb_server: Any
) -> None:
    [(before,)] = mariadb_server.execute("SELECT @@global.max_allowed_packet")
    mariadb_server.execute("SET GLOBAL max_allowed_packet = 16384")
    engine = make_engine(**mysql_arguments(mariadb_env))
    try:
        with pytest.raises(DatabaseError, match=r"max_allowed_packet.*: raise max_allowed_packet on the server to 16M"):
            Database(engine).run(lambda connection: connection.execute(text("SELECT :long"), {"long": "x" * 20000}), write=False)
    finally:
        mariadb_server.execute(f"SET GLOBAL max_allowed_packet = {before}")
        engine.dispose()


def test_an_outage_is_told_at_once_and_then_at_intervals_that_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes in which a database that is locked is asked again and again; then it answers."""
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", sleep)
    database = Database(make_engine(sqlite_path=tmp_path / "a.sqlite3"), patience=3600)
    attempts = []

    def work(_: Connection) -> str:
        attempts.append(clock[0])
        if clock[0] < 600:
            locked = sqlite3.OperationalError("database is locked")
            locked.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise OperationalError("SELECT", {}, locked)
        return "in"

    class Times(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert "is away (database is locked); waiting" in record.getMessage()
            moments.append(clock[0])

    moments: list[float] = []
    handler = Times()
    logging.getLogger("dbrecon.ctools.database").addHandler(handler)
    try:
        assert database.run(work, write=False) == "in"
    finally:
        logging.getLogger("dbrecon.ctools.database").removeHandler(handler)
    assert max(later - earlier for earlier, later in itertools.pairwise(attempts)) <= 5, "it is asked every few seconds"
    assert len(moments) > 4
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    doubling = [5.0 * 2**number for number in range(len(gaps))]
    assert all(due <= gap <= due + 5 for due, gap in zip(doubling, gaps, strict=True)), gaps


# -- a full disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """No byte more can be written there."""
    with (folder / "filler").open("ab", 0) as file:
        for size in (4096, 1):
            with pytest.raises(OSError, match="No space left"):
                endless(file, size)


def endless(file: io.FileIO, size: int) -> None:
    while True:
        file.write(b"x" * size)


def make_counter(path: Path) -> None:
    engine = make_engine(sqlite_path=path)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)"))
        connection.execute(text("CREATE TABLE other (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO counter VALUES (1, 0), (2, 0)"))
    engine.dispose()


def test_on_a_full_disk_the_ledger_is_read_changed_and_dropped_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    path = small_disk / "a.sqlite3"
    make_counter(path)
    fill(small_disk)
    full = Database(make_engine(sqlite_path=path))
    assert full.run(total, write=False) == 0
    full.run(add, write=True)
    full.run(lambda connection: connection.execute(text("DROP TABLE other")), write=True)
    assert full.run(total, write=False) == 1
    with pytest.raises(DatabaseError, match="the disk is full; free some space"):
        full.run(lambda connection: connection.execute(text("CREATE TABLE more AS SELECT zeroblob(100000)")), write=True)
    (small_disk / "filler").unlink()
    full.run(add, write=True)
    again = Database(make_engine(sqlite_path=path))
    assert again.run(total, write=False) == 2
    mode = again.run(lambda connection: connection.execute(text("PRAGMA journal_mode")).scalar_one(), write=False)
    assert mode == "wal"
    again.engine.dispose()


def total(connection: Connection) -> int:
    return int(connection.execute(text("SELECT SUM(n) FROM counter")).scalar_one())


def test_on_a_full_disk_what_a_killed_process_left_is_read_too(small_disk: Path, tmp_path: Path) -> None:
    path = small_disk / "a.sqlite3"
    make_counter(path)
    engine = make_engine(sqlite_path=path)
    with engine.begin() as connection:
        add(connection)
        connection.execute(text("CREATE TABLE more AS SELECT zeroblob(100000)"))
    for name in ("a.sqlite3", "a.sqlite3-wal"):
        shutil.copy(small_disk / name, tmp_path / name)
    engine.dispose()
    for name in ("a.sqlite3", "a.sqlite3-wal"):
        shutil.copy(tmp_path / name, small_disk / name)
    fill(small_disk)
    assert Database(make_engine(sqlite_path=path)).run(total, write=False) == 1


def test_on_a_full_disk_a_ledger_that_another_has_open_is_read_beside_him(small_disk: Path) -> None:
    path = small_disk / "a.sqlite3"
    make_counter(path)
    holder = make_engine(sqlite_path=path)
    with holder.connect() as connection:
        assert total(connection) == 0
        connection.rollback()
        fill(small_disk)
        assert Database(make_engine(sqlite_path=path)).run(total, write=False) == 0
    holder.dispose()
