"""Private database servers for measurements, and what a server tells of its own cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.mysql_server import MysqlServer
from tests.ports import free_port
from tests.servers import MariaServer

SERVERS: dict[str, type[MariaServer]] = {"mariadb": MariaServer, "mysql": MysqlServer}


@dataclass(frozen=True)
class Served:
    """What a server has done since it started: CPU seconds, MiB now, statements, the most connections at once, deadlocks."""

    version: str
    cpu: float
    mib: float
    statements: int
    connections: int
    deadlocks: int


@contextmanager
def server_at_work(kind: str, folder: Path, *options: str) -> Iterator[MariaServer]:
    """Start a server of a kind with a user, its files below ``folder``; stop it after the block. Raises CannotBeHad."""
    server = SERVERS[kind](folder, free_port(), options=options)
    server.install()
    with server.at_work():
        yield server


def served(server: MariaServer) -> Served:
    """Return what a server has done."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    times = process.cpu_times()
    status = dict(server.execute("SHOW GLOBAL STATUS"))
    counters = "SELECT SUM(count) FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'"
    [(deadlocks,)] = server.execute(counters)
    [(version,)] = server.execute("SELECT VERSION()")
    return Served(
        f"{'MariaDB' if 'MariaDB' in version else 'MySQL'} {version.partition('-')[0]}", times.user + times.system,
        process.memory_info().rss / (1 << 20), int(status["Questions"]), int(status["Max_used_connections"]), int(deadlocks),
    )  # fmt: skip
