"""Private servers of MariaDB and MySQL for the tests that need one, and a fresh database of each kind for each test."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from sqlalchemy import URL, Engine

from dbrecon.ctools.database import make_engine
from tests.mysql_server import MysqlServer, server_or_skip
from tests.ports import free_port
from tests.servers import MariaServer, check_installed

# Whoever starts the tests with "nohup make test &" ignores Ctrl-C and the end of a terminal, and so would every process that they
# start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaServer]:
    """The session's server, started when a test first asks for it."""
    check_installed()
    server = MariaServer(tmp_path_factory.mktemp("m"), free_port())
    server.install()
    with server.at_work():
        yield server


@pytest.fixture(scope="session")
def mysql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MysqlServer]:
    """A server of MySQL's own; the tests that ask for it are skipped, with a sentence, where it cannot be had."""
    server = server_or_skip(tmp_path_factory.mktemp("q"), free_port())
    with server.at_work():
        yield server


def fresh_database(server: MariaServer | MysqlServer) -> Iterator[dict[str, str]]:
    """The settings of a new database, which is removed afterwards."""
    name = server.fresh_database()
    yield server.settings(name)
    if server.process is not None:
        server.execute(f"DROP DATABASE {name}")


@pytest.fixture
def mysql_env(mysql_server: MysqlServer) -> Iterator[dict[str, str]]:
    """MYSQL_HOST and its partners, for a fresh database of MySQL's own."""
    yield from fresh_database(mysql_server)


@pytest.fixture
def mariadb_env(mariadb_server: MariaServer) -> Iterator[dict[str, str]]:
    """MYSQL_HOST and its partners, for a fresh database."""
    yield from fresh_database(mariadb_server)


@pytest.fixture
def mariadb_url(mariadb_env: dict[str, str]) -> str:
    """The same as one URL of SQLAlchemy."""
    url = URL.create(
        "mysql+pymysql", username=mariadb_env["MYSQL_USER"], password=mariadb_env["MYSQL_PASSWORD"],
        host=mariadb_env["MYSQL_HOST"], port=int(mariadb_env["MYSQL_PORT"]), database=mariadb_env["MYSQL_DATABASE"],
    )  # fmt: skip
    return url.render_as_string(hide_password=False)


ENGINES = ["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb), pytest.param("mysql", marks=pytest.mark.mysql)]


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Arguments of ``make_engine`` for a fresh database: the test runs once on SQLite, MariaDB and MySQL each."""
    arguments: dict[str, Any] = {"sqlite_path": str(tmp_path / "db" / "ledger.sqlite3")}
    if request.param != "sqlite":
        settings: dict[str, str] = request.getfixturevalue(f"{request.param}_env")
        arguments |= {name.lower(): value for name, value in settings.items()}
    return arguments


@pytest.fixture
def engine(database: dict[str, Any]) -> Iterator[Engine]:
    """An engine on a fresh database of either kind."""
    made = make_engine(**database)
    yield made
    made.dispose()
