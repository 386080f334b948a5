"""The database: an engine for MySQL/MariaDB or SQLite, and transactions that survive what may be survived.

Isolation on MySQL is READ COMMITTED: the default, REPEATABLE READ, takes gap locks on every index range that a locking
read passes, which makes workers that claim side by side wait for (and deadlock with) each other over rows neither wants, and it
shows a transaction the state of its first read rather than the state of now.

A scheduler uses one connection: its parent process alone talks to the database, from one thread. ``POOL_SIZE`` bounds those of a
process that has more threads.
"""

import errno
import logging
import os
import random
import re
import sqlite3
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, BigInteger, ColumnElement, Connection, Engine, create_engine, event, func, literal
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool

from dbrecon.ctools.extras import extra
from dbrecon.ctools.patience import RareWarning, pause_seconds
from dbrecon.errors import DatabaseError, Subject, UsageError

T = TypeVar("T")
log = logging.getLogger(__name__)

POOL_SIZE = 2
BUSY_SECONDS = 60  # how long SQLite waits for another process's write
CONNECT_SECONDS = 10
READ_SECONDS = 300  # a cut-off node learns it; longer than any lock wait (50 s) or bulk statement
ROLLED_BACK_REPEATS = 20
NAP_SECONDS = 0.2
ROOM_BYTES = 1 << 18
ALONE_SECONDS = 1  # how long a command on a full disk waits for others of its kind

# MySQL error numbers. Dead: the server said that the transaction was rolled back, or (1205) we roll it back whole; (1684) another
# session was just making or changing a table whose description was asked for.
_DEADLOCK = {1205, 1213, 1684}
# The server or the way to it is away, for now: connecting (2002, 2003, 1040, 1203, 1226), lost (2006, 2013, 2055, 0),
# shutting down (1053, 1077, 1079, 1927), read-only for a while (1290, 1792, 1836), not in its cluster just now (1047, 3168), our
# session ended by the server (3169, 4031).
_AWAY = {0, 1040, 1047, 1053, 1077, 1079, 1203, 1226, 1290, 1792, 1836, 1927, 2002, 2003, 2006, 2013, 2055, 3168, 3169, 4031}
_TLS_WORDS = re.compile(r"\bSSL\b|certificate|\bTLS\b")  # what a repeat does not mend, though it comes as a lost connection
_NO_TABLE = {1146}
_LOGIN = "check MYSQL_USER, MYSQL_PASSWORD and what that user is granted"
_NO_ROOM = "make room on the disk of the database's server"
_HINTS = {
    1021: _NO_ROOM,
    1030: "see the server's log, and that its disk has room",
    1044: "check MYSQL_DATABASE, and what MYSQL_USER is granted",
    1045: _LOGIN,
    1049: "create that database or set MYSQL_DATABASE to one that exists",
    1114: _NO_ROOM,
    1130: "let MYSQL_USER in from this machine (CREATE USER ... @'host'), or check MYSQL_HOST",
    1142: _LOGIN,
    1153: "raise max_allowed_packet on the server to 16M or more (SET GLOBAL max_allowed_packet = 16777216)",
    1698: _LOGIN,
}
_MINIMUM = {True: ((10, 6), "MariaDB"), False: ((8, 0, 1), "MySQL")}


def make_engine(
    *,
    sqlite_path: str | Path,
    mysql_host: str | None = None,
    mysql_database: str | None = None,
    mysql_user: str | None = None,
    mysql_password: str | None = None,
    mysql_port: int | str | None = None,
    mysql_ssl_ca: str | None = None,
) -> Engine:
    """Return the engine of MySQL/MariaDB if ``mysql_host`` is given, else of SQLite in the file ``sqlite_path``.

    None and "" both mean "not set", but an empty password is a password. A host that begins with "/" is a socket's path. With
    ``mysql_ssl_ca`` (a PEM file) the connection is by TLS, and the server's certificate must be signed by an authority in it, and
    be for the host. Nothing is connected to, or made, yet. Raises UsageError if the MySQL settings are not complete or cannot be.
    """
    partners = {"MYSQL_HOST": mysql_host, "MYSQL_DATABASE": mysql_database, "MYSQL_USER": mysql_user}
    given = [name for name, value in partners.items() if value] + (["MYSQL_PASSWORD"] if mysql_password else [])
    missing = [name for name, value in partners.items() if not value]
    missing += ["MYSQL_PASSWORD"] if mysql_password is None else []
    if not given:
        return _sqlite_engine(Path(sqlite_path))
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} not set though {' and '.join(given)} {'is' if len(given) == 1 else 'are'}: "
            "set all of MYSQL_HOST, MYSQL_DATABASE, MYSQL_USER and MYSQL_PASSWORD for MySQL, or none of them for SQLite"
        )
    assert mysql_host is not None  # it is not missing
    for name, value in partners.items():
        _check_encodable(name, value or "", "utf-8" if name != "MYSQL_HOST" or mysql_host.startswith("/") else "idna")
    url = URL.create(
        "mysql+pymysql", username=mysql_user, host=mysql_host,
        port=_port(mysql_port), database=mysql_database, query={"charset": "utf8mb4"},
    )  # fmt: skip
    return _mysql_engine(url, mysql_host, mysql_password or "", mysql_ssl_ca)


def _check_encodable(name: str, value: str, encoding: str) -> None:
    """UsageError for a value that the driver could not send, or look up: it would say so with a traceback."""
    try:
        value.encode(encoding)
    except UnicodeError as error:
        kind = "host's name" if encoding == "idna" else "text in UTF-8"
        raise UsageError(f"{name} is {value!r}, which is no {kind}: correct it") from error


def _port(text: int | str | None) -> int:
    if text is None or text == "":
        return 3306
    if not str(text).isdigit() or not 0 < int(text) < 65536:
        raise UsageError(f"MYSQL_PORT is {text!r}, which is no port: give a number from 1 to 65535")
    return int(text)


def _mysql_engine(url: URL, host: str, password: str, ssl_ca: str | None) -> Engine:
    arguments = {
        "password": password.encode("utf-8", "surrogateescape"),  # text the driver would encode as Latin-1
        "unix_socket": host if host.startswith("/") else None,
        "ssl": _tls(ssl_ca) if ssl_ca else None,
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "write_timeout": READ_SECONDS,
        # Strict: what does not fit is refused, never cut off with a warning.
        "init_command": "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone='+00:00'",
    }
    with extra("cluster"):  # the driver
        return create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_pre_ping=True,
            pool_recycle=1800,
            hide_parameters=True,
            connect_args=arguments,
        )


def _tls(path: str) -> ssl.SSLContext:
    """TLS with a server whose certificate an authority in ``path`` has signed. UsageError where there is none in it."""
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # SSLError is one
        reason = error.strerror or str(error)
        raise UsageError(f"{path} cannot be read as certificates ({reason})", about=Subject.TLS_AUTHORITY) from error


def _sqlite_engine(path: Path) -> Engine:
    url = URL.create("sqlite", database=str(path))
    if os.path.exists(path) and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        # A connection a transaction: what is read-only to us others may begin to write (see _connect_to_read).
        engine = create_engine(url, creator=lambda: _connect_to_read(path), poolclass=NullPool, hide_parameters=True)
        return _beginning(engine)
    if os.path.exists(path) and not _has_room(path.parent):
        # A connection a transaction, too: it has the file for itself, and there may be room again for the next.
        engine = create_engine(url, creator=lambda: _connect_again(path), poolclass=NullPool, hide_parameters=True)
        return _beginning(engine)
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": BUSY_SECONDS},
    )

    @event.listens_for(engine, "do_connect")
    def make_folder(*_: Any) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(
                f"the folder {path.parent} for the database cannot be made ({error.strerror}): name a folder that can be written"
            ) from error

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver shall begin nothing by itself
        _write_ahead(connection)

    return _beginning(engine)


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection where file or folder cannot be written.

    WAL mode needs two files beside the database, also to read. While somebody has it open they are there; if not, nobody writes,
    and SQLite may be told that the file does not change.
    """
    unchanging = "" if os.path.exists(f"{path}-wal") else "&immutable=1"
    uri = f"{path.absolute().as_uri()}?mode=ro{unchanging}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _has_room(folder: Path) -> bool:
    """Return whether the disk has room for the two files that WAL mode makes beside the database."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
    except OSError as error:
        return error.errno not in (errno.ENOSPC, errno.EDQUOT)
    return True


def _connect_again(path: Path) -> sqlite3.Connection:
    """Return a connection where there was no room a while ago."""
    if not _has_room(path.parent):
        return _connect_without_room(path)
    connection = _connect(path)
    _write_ahead(connection)
    return connection


def _connect(path: Path, seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=seconds, isolation_level=None, check_same_thread=False)


def _write_ahead(connection: Any) -> None:
    """Set WAL mode."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # readers never wait for the writer
    cursor.execute("PRAGMA synchronous=NORMAL")  # a power cut may lose the last commits, never the consistency
    cursor.close()


def _connect_without_room(path: Path) -> sqlite3.Connection:
    """Return a connection on a full disk, so that the operator sees where it stands, and frees what is held.

    Whoever has the file alone needs no shared memory beside it, and with the journal in memory a change of pages that are there
    needs no more disk. (A machine that dies within the milliseconds of such a change may damage the file.) Where a journal is left
    that does not fit into the file, it can only be read. Where others have the file open, their shared memory is there already.
    """
    connection = _alone(path)
    try:
        connection.execute("PRAGMA journal_mode=MEMORY")
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return _connect(path)
        return _alone(path)
    return connection


def _alone(path: Path) -> sqlite3.Connection:
    connection = _connect(path, ALONE_SECONDS)
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    return connection


def _beginning(engine: Engine) -> Engine:
    """Return the engine of SQLite, which begins transactions for reading or for writing."""

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A transaction that reads first and writes later would fail at once, not wait, when another wrote in between.
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def check_exists(engine: Engine) -> None:
    """Raise NoSuchDatabase if it is a SQLite file that is not there, which connecting would make."""
    path = engine.url.database
    if is_mysql(engine) or path is None:
        return
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        missing = f"{path} does not exist, so no experiment is registered there"
        raise NoSuchDatabase(missing, about=Subject.DATABASE_FILE) from None
    except OSError as error:
        raise DatabaseError(f"{path} cannot be reached ({error.strerror}): check the permissions of its folders") from error


def describe(engine: Engine) -> str:
    """Return the database's place for people and logs, never with a password."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return f"SQLite database {url.database}"
    host = url.host or ""
    place = host if host.startswith("/") else f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"
    return f"MySQL database {url.database} at {place} (user {url.username})"


def is_mysql(engine: Engine) -> bool:
    """Return True for MySQL and MariaDB."""
    return engine.dialect.name in ("mysql", "mariadb")


class _Fault:
    """What went wrong, as far as it decides what to do next."""

    def __init__(self, engine: Engine, error: SQLAlchemyError) -> None:
        self.origin: BaseException = error
        self.code = -1
        self.rolled_back = self.away = self.full = self.no_table = self.tls = False
        if isinstance(error, PoolTimeout):
            self.away = True
        if not isinstance(error, DBAPIError) or error.orig is None:
            return
        self.origin = error.orig
        if is_mysql(engine):
            arguments = error.orig.args
            self.code = arguments[0] if arguments and isinstance(arguments[0], int) else -1
            self.rolled_back = self.code in _DEADLOCK
            self.tls = self.code in (2003, 2026) and _TLS_WORDS.search(self.text()) is not None
            self.away = not self.tls and (self.code in _AWAY or error.connection_invalidated)
            self.no_table = self.code in _NO_TABLE
        elif isinstance(error.orig, sqlite3.Error):
            self.code = getattr(error.orig, "sqlite_errorcode", -1)
            self.full = self.code >= 0 and self.code & 0xFF == sqlite3.SQLITE_FULL
            self.away = self.full or (self.code >= 0 and self.code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))
            self.no_table = "no such table" in str(error.orig)

    def text(self) -> str:
        """Return the driver's own words on one line (they hold no password; SQLAlchemy's would hold the statement)."""
        arguments = self.origin.args
        words = arguments[1] if len(arguments) > 1 and isinstance(arguments[1], str) else str(self.origin)
        return " ".join(str(words).split()).rstrip(".") or type(self.origin).__name__


class NoSuchTable(DatabaseError):
    """A statement named a table that is not there."""


class NoSuchDatabase(DatabaseError):
    """The file of a SQLite database is not there."""


class Database:
    """Transactions on an engine, repeated where a repeat is safe.

    ``patience``: for how many seconds to wait, with backoff and jitter, for a database that is away (restart, lost
    connection, too many connections, read-only, locked) before DatabaseError is raised; 0 for a command that a person waits
    for; it may be set to 0 at any time, from any thread. ``clock``: Unix time in whole seconds, for tests. The default is the
    database server's UNIX_TIMESTAMP() on MySQL, the one clock that all nodes share and that knows no time zone; SQLite is
    used by one machine, whose clock it is.
    """

    def __init__(self, engine: Engine, patience: float = 0.0, clock: Callable[[], int] | None = None) -> None:
        self.engine = engine
        self.patience = patience
        self.mysql = is_mysql(engine)
        self._clock = clock
        self._checked = False

    def now(self) -> ColumnElement[int]:
        """Return the time, as an expression for use within a statement."""
        if self._clock is not None:
            return literal(int(self._clock()), BigInteger)
        if self.mysql:
            return func.unix_timestamp(type_=BigInteger)
        return literal(int(time.time()), BigInteger)

    def run(self, work: Callable[[Connection], T], *, write: bool, repeat: bool = True, repeat_commit: bool = True) -> T:
        """Run ``work(connection)`` in one transaction; return what it returns.

        A transaction that the server rolled back whole (deadlock, lock wait) or that never got to its commit is run
        again: ``work`` must have no effect but on the connection (else ``repeat=False``). When the connection is lost
        during the commit nobody knows whether it happened: only with ``repeat_commit`` (work guarded by token or state, so
        that a second time does no harm) is it run again. Raises DatabaseError.
        """
        started, waits, rolled_back = time.monotonic(), 0, 0
        away = RareWarning(log)
        while True:
            phase = _Phase()
            try:
                with self._transaction(write, phase) as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                fault = _Fault(self.engine, error)
                again = repeat and (fault.rolled_back or not phase.committing or repeat_commit)
                if again and fault.rolled_back and rolled_back < ROLLED_BACK_REPEATS:
                    rolled_back += 1
                    log.debug("transaction rolled back (%s), repeated", fault.text())
                    time.sleep(random.uniform(0.002, 0.02) * min(rolled_back, 10))
                elif again and fault.away and time.monotonic() - started < self.patience:
                    waits += 1
                    away.say(f"{describe(self.engine)} is away ({fault.text()}); waiting")
                    self._nap(pause_seconds(waits))
                else:
                    raise self._error(fault) from fault.origin

    def _nap(self, seconds: float) -> None:
        """Sleeps, but not when patience is lost meanwhile."""
        end = time.monotonic() + seconds
        while self.patience > 0 and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, NAP_SECONDS))

    @contextmanager
    def _transaction(self, write: bool, phase: "_Phase") -> Iterator[Connection]:
        with self.engine.connect() as connection:
            self._check_server(connection)
            connection = connection.execution_options(write=write)
            transaction = connection.begin()
            try:
                yield connection
                phase.committing = True
                transaction.commit()
            except BaseException:
                _roll_back(transaction)
                raise

    def _check_server(self, connection: Connection) -> None:
        """Refuses a server that cannot skip locked rows: claims would wait for each other in a row."""
        if self._checked or not self.mysql:
            return
        dialect = connection.dialect
        version = tuple(part for part in dialect.server_version_info or () if isinstance(part, int))
        minimum, name = _MINIMUM[bool(getattr(dialect, "is_mariadb", False))]
        if version < minimum:
            needed = ".".join(map(str, minimum))
            raise DatabaseError(
                f"{describe(self.engine)} is {name} {'.'.join(map(str, version))}, which has no SKIP LOCKED: "
                f"use {name} {needed} or later"
            )
        self._checked = True

    def _error(self, fault: _Fault) -> DatabaseError:
        if fault.no_table:
            return NoSuchTable(f"{describe(self.engine)} lacks a table: {fault.text()}")
        if fault.full:
            return DatabaseError(f"{describe(self.engine)} cannot be written: the disk is full; free some space and run this again")
        if fault.away:
            nowhere = re.search("name resolution|Name or service not known|nodename nor servname", fault.text())
            hint = "check MYSQL_HOST" if nowhere else "see that it runs and can be reached, then run this again"
        elif fault.tls:
            return DatabaseError(f"{describe(self.engine)} refuses ({fault.text()})", about=Subject.DATABASE_TLS)
        else:
            hint = _HINTS.get(fault.code, "see its log for more")
        verb = "does not answer" if fault.away else "refuses"
        return DatabaseError(f"{describe(self.engine)} {verb} ({fault.text()}): {_hint_sqlite(self.mysql, hint)}")


class _Phase:
    """Whether the commit has been sent."""

    def __init__(self) -> None:
        self.committing = False


def _roll_back(transaction: Any) -> None:
    """Roll back; a connection that is gone has been rolled back by the server."""
    try:
        transaction.rollback()
    except SQLAlchemyError as error:
        log.debug("rollback on a lost connection: %s", error)


def _hint_sqlite(mysql: bool, hint: str) -> str:
    if mysql or hint.startswith("see that it runs"):
        return hint
    return "check the file, its folder's permissions and the space on the disk"
