"""A private server of MySQL's own, where Debian's stable suites have MariaDB alone.

It is fetched by apt from the unstable suite, by a source list of its own made of the machine's own sources, unpacked into a folder
(``$DBRECON_TEST_MYSQL``, else below ``~/.cache``; 330 MB) and started with the loader that came along. Nothing is installed, and no
list of the system's is touched. Where it cannot be had, the tests that need it say so and are skipped.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from dbrecon.errors import DBReconError
from tests.servers import SERVER_TIME_ZONE, MariaServer, as_root

PACKAGE = "mysql-server-core"
SUITE = "unstable"


class CannotBeHad(DBReconError):
    """MySQL's server cannot be fetched here; the text says why."""


class MysqlServer(MariaServer):
    """A mysqld; the rest is as with MariaDB's."""

    def install(self) -> None:
        self._do(*mysqld(), "--no-defaults", "--initialize-insecure", f"--datadir={self.folder / 'data'}", *as_root(),
                 "--innodb-redo-log-capacity=32M")  # fmt: skip

    def command(self) -> list[str]:
        return [
            *mysqld(), "--no-defaults", f"--datadir={self.folder / 'data'}", f"--socket={self.socket}", f"--port={self.port}",
            "--bind-address=127.0.0.1,::1", "--skip-name-resolve", f"--pid-file={self.folder / 'pid'}", "--mysqlx=OFF",
            f"--default-time-zone={SERVER_TIME_ZONE}", "--innodb-buffer-pool-size=128M", "--innodb-redo-log-capacity=32M",
            # As with MariaDB: commits survive the death of the server, though not of the machine.
            "--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=OFF", "--innodb-flush-method=nosync",
            "--disable-log-bin", "--secure-file-priv=", *as_root(), *self.options,
        ]  # fmt: skip


def mysqld() -> list[str]:
    """The server's program, started by its own loader. Raises CannotBeHad."""
    root = unpacked()
    loaders = sorted(root.glob("usr/lib*/ld-linux*.so.*")) + sorted(root.glob("usr/lib/*/ld-linux*.so.*"))
    if not loaders:
        raise CannotBeHad(f"{root} has no loader")
    libraries = ":".join(str(path) for path in [*sorted(root.glob("usr/lib/*-linux-gnu*")), root / "usr/lib/mysql/private"])
    return [str(loaders[0]), "--library-path", libraries, str(root / "usr/sbin/mysqld")]


def unpacked() -> Path:
    """The folder with the server and its libraries, fetched where it is not there yet. Raises CannotBeHad."""
    base = Path(os.environ.get("DBRECON_TEST_MYSQL") or Path.home() / ".cache" / "dbrecon-tests" / "mysql")
    base.mkdir(parents=True, exist_ok=True)
    with (base / "lock").open("w") as lock:  # several processes of the tests want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = base / "root"
        if not root.exists():
            _fetch(base, root)
    return root


def _fetch(base: Path, root: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise CannotBeHad("it is fetched by apt, and this is no Debian")
    with tempfile.TemporaryDirectory(dir=base) as folder:
        work = Path(folder)
        _configure(work)
        env = os.environ | {"APT_CONFIG": str(work / "apt.conf"), "LC_ALL": "C"}
        for command in (["update"], ["install", "-y", "--download-only", "--no-install-recommends", PACKAGE]):
            done = subprocess.run(["apt-get", "-q", *command], env=env, capture_output=True, text=True, check=False)
            complaints = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("E:", "W:", "Err"))]
            packages = list((work / "cache/archives").glob("*.deb"))
            if done.returncode or (command[0] == "install" and not packages):
                raise CannotBeHad(f"apt-get {command[0]} failed ({' '.join(complaints)[:300]})")
        for package in packages:
            subprocess.run(["dpkg-deb", "-x", str(package), str(work / "root")], check=True)
        (work / "root").rename(root)


def _configure(work: Path) -> None:
    """Settings of apt that touch nothing of the system's."""
    (work / "lists/partial").mkdir(parents=True)
    (work / "cache/archives/partial").mkdir(parents=True)
    uri, keyring = _debian_source()
    (work / "sources.list").write_text(f"deb {f'[signed-by={keyring}] ' if keyring else ''}{uri} {SUITE} main\n")
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list", "Dir::Etc::sourceparts": "-", "Dir::State::lists": work / "lists",
        "Dir::Cache": work / "cache", "Dir::State::status": "/dev/null", "Acquire::Languages": "none", "Acquire::Retries": "1",
        "Acquire::http::Timeout": "20", "Acquire::https::Timeout": "20", "APT::Sandbox::User": "root", "Debug::NoLocking": "1",
    }  # fmt: skip
    (work / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))


def _debian_source() -> tuple[str, str]:
    """Where this machine has Debian's packages from, and the keyring that they are checked with ("" for apt's own)."""
    folder = Path("/etc/apt")
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if not path.is_file() or path.suffix not in (".list", ".sources"):
            continue
        for stanza in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")) if path.suffix == ".sources" else [path.read_text()]:
            uri = re.search(r"^(?:URIs:|deb\s+(?:\[[^]]*\]\s+)?)\s*(\S+/debian/?)(?:\s|$)", stanza, re.MULTILINE)
            keyring = re.search(r"(?:Signed-By:\s*|signed-by=)(/[^\s\]]+)", stanza)
            if uri:
                return uri[1], keyring[1] if keyring else ""
    raise CannotBeHad("this machine's sources of apt name no mirror of Debian, which has MySQL's server")


def server_or_skip(folder: Path, port: int) -> MysqlServer:
    """A server that is installed, or a skip that says why there is none."""
    server = MysqlServer(folder, port)
    try:
        server.install()
    except CannotBeHad as reason:
        pytest.skip(f"MySQL's own server cannot be had here: {reason}")
    return server
