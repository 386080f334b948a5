"""A private MariaDB server for the tests that need one, and a fresh database, MariaDB's or SQLite's, for each test."""

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pymysql
import pytest
from sqlalchemy import URL, Engine

from dbrecon.ctools.database import make_engine

# Whoever starts the tests with "nohup make test &" ignores Ctrl-C, and so would every process that they start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# What was started in the background (nohup make test &) has SIGINT ignored, which what the tests start would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

START_SECONDS = 60
# Neither the server's time zone nor the session's may matter: this one is nobody's.
SERVER_TIME_ZONE = "+05:45"


@dataclass
class MariaServer:
    """A mariadbd on a free port of the loopback interface, with all its files in ``folder``."""

    folder: Path
    port: int
    user: str = "dbr"
    password: str = "p w'@/:%"
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def socket(self) -> str:
        return str(self.folder / "s")

    def install(self) -> None:
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder / 'data'}", *_as_root(),
                   "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment(), check=False)
        if done.returncode:
            pytest.fail(f"mariadb-install-db failed: {done.stdout[-1000:]} {done.stderr[-1000:]}")

    def _environment(self) -> dict[str, str]:
        """With a folder of its own for temporary tables: a server that starts removes whatever it finds in a shared one."""
        folder = self.folder / "tmp"
        folder.mkdir(exist_ok=True)
        return dict(os.environ) | {"TMPDIR": str(folder)}

    def start(self) -> None:
        """Starts the server and returns when it answers."""
        options = [
            "--no-defaults", f"--datadir={self.folder / 'data'}", f"--socket={self.socket}", f"--port={self.port}",
            "--skip-networking=0", "--bind-address=127.0.0.1", "--skip-name-resolve", f"--pid-file={self.folder / 'pid'}",
            f"--default-time-zone={SERVER_TIME_ZONE}", "--innodb-buffer-pool-size=128M", "--innodb-log-file-size=32M",
            # Commits survive the death of the server, though not of the machine: enough here, and quick.
            "--innodb-flush-log-at-trx-commit=2", "--skip-log-bin", *_as_root(),
        ]  # fmt: skip
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [_mariadbd(), *options], stdout=log, stderr=log, start_new_session=True, env=self._environment()
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"mariadbd did not start: {(self.folder / 'log').read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=START_SECONDS)
            self.process = None

    def kill(self) -> None:
        """As by SIGKILL: what was committed is there after ``start()``."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs statements as the server's administrator; the rows of the last."""
        with pymysql.connect(unix_socket=self.socket, user="root", autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def fresh_database(self) -> str:
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}", f"GRANT ALL ON {name}.* TO '{self.user}'@'127.0.0.1'")
        return name

    def settings(self, database: str) -> dict[str, str]:
        """Environment variables that lead to a database."""
        return {
            "MYSQL_HOST": "127.0.0.1", "MYSQL_PORT": str(self.port), "MYSQL_DATABASE": database,
            "MYSQL_USER": self.user, "MYSQL_PASSWORD": self.password,
        }  # fmt: skip


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def _mariadbd() -> str:
    path = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
    if path is None or shutil.which("mariadb-install-db") is None:
        pytest.fail("this test needs a MariaDB server: apt-get install mariadb-server (make test does it)")
    return path


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaServer]:
    """The session's server, started when a test first asks for it."""
    _mariadbd()
    server = MariaServer(tmp_path_factory.mktemp("m"), free_port())
    server.install()
    try:
        server.start()
        password = server.password.replace("'", "''")
        server.execute(f"CREATE USER '{server.user}'@'127.0.0.1' IDENTIFIED BY '{password}'")
        yield server
    finally:
        server.stop()


@pytest.fixture
def mariadb_env(mariadb_server: MariaServer) -> Iterator[dict[str, str]]:
    """MYSQL_HOST and its partners, for a fresh database."""
    name = mariadb_server.fresh_database()
    yield mariadb_server.settings(name)
    if mariadb_server.process is not None:
        mariadb_server.execute(f"DROP DATABASE {name}")


@pytest.fixture
def mariadb_url(mariadb_env: dict[str, str]) -> str:
    """The same as one URL of SQLAlchemy."""
    url = URL.create(
        "mysql+pymysql", username=mariadb_env["MYSQL_USER"], password=mariadb_env["MYSQL_PASSWORD"],
        host=mariadb_env["MYSQL_HOST"], port=int(mariadb_env["MYSQL_PORT"]), database=mariadb_env["MYSQL_DATABASE"],
    )  # fmt: skip
    return url.render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Arguments of ``make_engine`` for a fresh database: the test runs once on SQLite and once on MariaDB."""
    arguments: dict[str, Any] = {"sqlite_path": str(tmp_path / "db" / "ledger.sqlite3")}
    if request.param == "mariadb":
        settings: dict[str, str] = request.getfixturevalue("mariadb_env")
        arguments |= {name.lower(): value for name, value in settings.items()}
    return arguments


@pytest.fixture
def engine(database: dict[str, Any]) -> Iterator[Engine]:
    """An engine on a fresh database of either kind."""
    made = make_engine(**database)
    yield made
    made.dispose()
