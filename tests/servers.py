"""Private database servers for tests, with all their files in a folder of their own."""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pymysql
import pytest

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
    options: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def socket(self) -> str:
        return str(self.folder / "s")

    def install(self) -> None:
        """Makes the server's own files."""
        self._do("mariadb-install-db", "--no-defaults", f"--datadir={self.folder / 'data'}", *as_root(),
                 "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")  # fmt: skip

    def _do(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment(), check=False)
        if done.returncode:
            pytest.fail(f"{command[0]} failed: {done.stdout[-1000:]} {done.stderr[-1000:]}")

    def _environment(self) -> dict[str, str]:
        """With a folder of its own for temporary tables: a server that starts removes whatever it finds in a shared one."""
        folder = self.folder / "tmp"
        folder.mkdir(exist_ok=True)
        return dict(os.environ) | {"TMPDIR": str(folder)}

    def command(self) -> list[str]:
        """The server's command line."""
        return [
            _mariadbd(), "--no-defaults", f"--datadir={self.folder / 'data'}", f"--socket={self.socket}", f"--port={self.port}",
            "--skip-networking=0", "--bind-address=127.0.0.1", "--skip-name-resolve", f"--pid-file={self.folder / 'pid'}",
            f"--default-time-zone={SERVER_TIME_ZONE}", "--innodb-buffer-pool-size=128M", "--innodb-log-file-size=32M",
            # Commits survive the death of the server, though not of the machine: enough here, and quick.
            "--innodb-flush-log-at-trx-commit=2", "--skip-log-bin", *as_root(), *self.options,
        ]  # fmt: skip

    @contextmanager
    def at_work(self) -> Iterator[Self]:
        """Starts the server with its user; stops it after the block."""
        try:
            self.start()
            self.make_user()
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        """Starts the server and returns when it answers."""
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, start_new_session=True, env=self._environment())
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start: {(self.folder / 'log').read_text(errors='replace')[-2000:]}")
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

    def make_user(self) -> None:
        """The user of the tests."""
        password = self.password.replace("'", "''")
        self.execute(f"CREATE USER '{self.user}'@'127.0.0.1' IDENTIFIED BY '{password}'")

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


def check_installed() -> None:
    """Fails with a sentence where there is no MariaDB."""
    _mariadbd()


def as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def _mariadbd() -> str:
    path = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
    if path is None or shutil.which("mariadb-install-db") is None:
        pytest.fail("this test needs a MariaDB server: apt-get install mariadb-server (make test does it)")
    return path
