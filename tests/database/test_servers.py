"""MariaDB and MySQL as administrators set them up: TLS, sockets, IPv6, odd modes and character sets, read-only for a while."""

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from dbrecon.ctools.database import Database, describe, make_engine
from dbrecon.errors import DatabaseError, Subject, UsageError
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Worker
from dbrecon.remedies import REMEDIES, sentence
from tests.console_world import Operator
from tests.helpers import TractRow, geography
from tests.mysql_server import server_or_skip
from tests.ports import free_port
from tests.servers import MariaServer, check_installed
from tests.waiting import wait_for

PASSWORD = "пароль '\\\" €"


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_authority(folder: Path, name: str) -> Path:
    """An authority's certificate; its key lies beside it."""
    path = folder / f"{name}.pem"
    subject = ["-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign"]
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", f"{path}.key", "-out", str(path), *subject)
    return path


def make_certificate(folder: Path, authority: Path, names: str) -> Path:
    """A server's certificate for ``names`` (DNS:... or IP:...); its key lies beside it."""
    path = folder / "server.pem"
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{path}.key", "-out", f"{path}.csr", "-subj", "/CN=server")
    (folder / "names").write_text(f"subjectAltName={names}\n")
    by = ["-CA", str(authority), "-CAkey", f"{authority}.key", "-CAcreateserial"]
    openssl("x509", "-req", "-in", f"{path}.csr", *by, "-days", "2", "-extfile", f"{folder}/names", "-out", str(path))
    return path


@pytest.fixture(
    scope="module",
    params=[pytest.param("mariadb", marks=pytest.mark.mariadb), pytest.param("mysql", marks=pytest.mark.mysql)],
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaServer]:
    """A server with TLS, on both loopback addresses and a socket, in a mode in which double quotes enclose names."""
    folder = tmp_path_factory.mktemp(request.param[1])
    if request.param == "mariadb":
        check_installed()
        server = MariaServer(folder, free_port())
        server.install()
    else:
        server = server_or_skip(folder, free_port())
    authority = make_authority(folder, "authority")
    certificate = make_certificate(folder, authority, "IP:127.0.0.1,DNS:localhost")
    files = (f"--ssl-ca={authority}", f"--ssl-cert={certificate}", f"--ssl-key={certificate}.key")
    server.options = (*files, "--sql-mode=ANSI_QUOTES", "--bind-address=*")
    try:
        server.start()
        quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
        for host in ("127.0.0.1", "::1", "localhost"):
            server.execute(f"CREATE USER '{server.user}'@'{host}' IDENTIFIED BY '{quoted}'")
        server.password = PASSWORD
        yield server
    finally:
        server.stop()


@pytest.fixture
def settings(server: MariaServer) -> dict[str, Any]:
    """Arguments of ``make_engine`` for a fresh database."""
    return {"sqlite_path": ""} | {name.lower(): value for name, value in server.settings(fresh(server)).items()}


def fresh(server: MariaServer, options: str = "") -> str:
    name = f"t_{time.monotonic_ns()}"
    grants = [f"GRANT ALL ON {name}.* TO '{server.user}'@'{host}'" for host in ("127.0.0.1", "::1", "localhost")]
    server.execute(f"CREATE DATABASE {name} {options}", *grants)
    return name


def ask(arguments: dict[str, Any], statement: str) -> Any:
    """The first column of a statement's first row; of SHOW STATUS the value."""
    engine = make_engine(**arguments)
    try:
        return Database(engine).run(lambda connection: connection.execute(text(statement)).one()[-1], write=False)
    finally:
        engine.dispose()


CIPHER = "SHOW STATUS LIKE 'Ssl_cipher'"


def test_without_a_ca_the_password_gets_there_whatever_its_letters(settings: dict[str, Any]) -> None:
    """MySQL's caching_sha2_password sends it under the server's RSA key, or in TLS."""
    assert ask(settings, "SELECT 7") == 7
    with pytest.raises(DatabaseError, match=r"Access denied .*check MYSQL_USER, MYSQL_PASSWORD"):
        ask(settings | {"mysql_password": "pässwort"}, "SELECT 7")


def test_with_a_ca_the_connection_is_by_tls_and_the_server_must_be_the_one(
    settings: dict[str, Any], server: MariaServer, tmp_path: Path
) -> None:
    trusted = settings | {"mysql_ssl_ca": str(server.folder / "authority.pem")}
    assert ask(trusted, CIPHER)
    assert ask(trusted | {"mysql_host": "localhost"}, CIPHER)
    other = settings | {"mysql_ssl_ca": str(make_authority(tmp_path, "other"))}
    with pytest.raises(DatabaseError, match=r"refuses \(.*certificate.*\)$"):
        ask(other, "SELECT 7")
    with pytest.raises(DatabaseError, match=r"refuses \(.*certificate.*\)$") as caught:
        ask(trusted | {"mysql_host": "::1"}, "SELECT 7")  # not in the certificate
    assert sentence(caught.value).endswith("; " + REMEDIES[Subject.DATABASE_TLS])


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_that_cannot_be_read_is_a_setting_that_cannot_be(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    given = {"mysql_host": "h", "mysql_database": "d", "mysql_user": "u", "mysql_password": "p", "mysql_ssl_ca": str(path)}
    with pytest.raises(UsageError, match=r"ca\.pem cannot be read as certificates"):
        make_engine(sqlite_path="", **given)


def test_the_server_is_reached_by_its_socket_and_by_ipv6(settings: dict[str, Any], server: MariaServer) -> None:
    by_socket = settings | {"mysql_host": server.socket, "mysql_port": None}
    assert ask(by_socket, "SELECT 7") == 7
    assert f" at {server.socket} (user" in describe(make_engine(**by_socket))
    assert ask(settings | {"mysql_host": "::1"}, "SELECT 7") == 7
    assert f" at [::1]:{server.port} (user" in describe(make_engine(**settings | {"mysql_host": "::1"}))
    with pytest.raises(DatabaseError, match=rf"at {server.socket}x \(user .* does not answer"):
        ask(by_socket | {"mysql_host": f"{server.socket}x"}, "SELECT 7")


def test_the_commands_take_socket_and_ca_from_the_settings(settings: dict[str, Any], server: MariaServer, tmp_path: Path) -> None:
    env = {name.upper(): str(value) for name, value in settings.items() if name.startswith("mysql_")}
    env |= {"DAS_S3ROOT": str(tmp_path / "root"), "REIDENT": "r1"}
    tls = Operator(tmp_path / "home", f"[db]\nssl_ca = {server.folder / 'authority.pem'}\n", env)
    assert tls.here("--register", "r1").returncode == 0
    assert tls.here("--reidents").stdout.splitlines()[1].startswith("r1 ")
    by_socket = Operator(
        tmp_path / "home2", "[cluster]\nhosts = n1\nrepository = x\nbranch = main\n", env | {"MYSQL_HOST": server.socket}
    )
    assert by_socket.here("--reidents").stdout.splitlines()[1].startswith("r1 ")
    refused = by_socket.here("--launch_all")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "nodes cannot reach the database by the socket" in refused.stderr
    shown = by_socket.run("--mysql", stdin="SELECT CONCAT('se', 'ven') AS answer;\n")
    assert "seven" in shown.stdout, shown.stderr


def ledger_with(engine: Any, patience: float = 0.0) -> Ledger:
    ledger = Ledger(engine, patience=patience)
    ledger.register("r1", "all", "2010_sf1")
    ledger.replace_geography("r1", "de", geography([TractRow("10", "001", f"{number:06d}", 5) for number in range(12)]))
    return ledger


def test_the_ledger_lives_in_a_database_whose_character_set_is_utf8mb3(settings: dict[str, Any], server: MariaServer) -> None:
    engine = make_engine(**settings | {"mysql_database": fresh(server, "CHARACTER SET utf8mb3")})
    ledger = ledger_with(engine)
    [claim, *others] = ledger.claim("r1", Worker("a", "1-1"), limit=12, lease_seconds=60)
    ledger.release(others)
    ledger.failed(claim, "a message with \U0001f511 and ü", 3)
    assert len(ledger.claim("r1", Worker("b", "1-1"), limit=12, lease_seconds=60)) >= 11
    engine.dispose()


def test_a_connection_that_the_server_has_ended_for_idleness_is_made_again(settings: dict[str, Any], server: MariaServer) -> None:
    engine = make_engine(**settings)
    database = Database(engine, patience=60)

    def idle_for_ever(connection: Connection) -> int:
        connection.execute(text("SET SESSION wait_timeout = 1"))
        return int(connection.execute(text("SELECT CONNECTION_ID()")).scalar_one())

    number = database.run(idle_for_ever, write=False)
    living = f"SELECT COUNT(*) FROM information_schema.processlist WHERE id = {number}"
    assert server.execute(living) == [(1,)]
    wait_for(lambda: server.execute(living) == [(0,)], "the end of the connection")
    assert database.run(lambda connection: connection.execute(text("SELECT 1")).scalar_one(), write=True) == 1
    engine.dispose()


def test_a_server_that_is_read_only_for_a_while_is_waited_for(settings: dict[str, Any], server: MariaServer) -> None:
    """As with a replica that is promoted in the middle."""
    engine = make_engine(**settings)
    ledger = ledger_with(engine, patience=60)
    claims = ledger.claim("r1", Worker("a", "1-1"), limit=4, lease_seconds=600)
    server.execute("SET GLOBAL read_only = 1")
    tried = threading.Event()
    lines: list[str] = []

    def release() -> None:
        tried.set()
        ledger.release(claims)
        lines.append("released")

    thread = threading.Thread(target=release)
    try:
        thread.start()
        tried.wait()
        with pytest.raises(DatabaseError, match=r"read-only|does not answer"):
            Ledger(make_engine(**settings)).claim("r1", Worker("b", "1-1"), limit=4, lease_seconds=60)
        assert lines == []
    finally:
        server.execute("SET GLOBAL read_only = 0")
    thread.join(60)
    assert lines == ["released"]
    assert ledger.claimants("r1") == []
    engine.dispose()
