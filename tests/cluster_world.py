"""A cluster and its operator: real OpenSSH servers as nodes, MariaDB, and an S3 server over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from dbrecon.ctools.database import make_engine
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Worker
from tests.console_world import AWS, Operator, Result
from tests.s3_servers import moto_server
from tests.servers import MariaServer
from tests.ssh_nodes import Nodes, SshNode

__all__ = ["moto_server"]

BUCKET = "cluster"
LEASE_SECONDS = 4
CLUSTER = {"hosts": "n1 n2, n3 bare4", "venv": "environment", "branch": "main", "ssh_seconds": "8"}
RUN = f"[run]\nlease_seconds = {LEASE_SECONDS}\nheartbeat_seconds = 2\nmax_lp = 1\nclaim_tracts = 2\n"


@dataclass
class World:
    """The nodes, an operator who may log in to them, and the database and storage that all share."""

    nodes: Nodes
    operator: Operator
    ledger: Ledger
    secrets: list[str]

    def node(self, name: str) -> SshNode:
        return self.nodes.nodes[name]

    def run(self, *args: str, env: dict[str, str] | None = None, **settings: str) -> Result:
        """A command of the operator, with some of the cluster's settings changed."""
        return self._typing(env, settings).run(*args)

    def here(self, *args: str, env: dict[str, str] | None = None, **settings: str) -> Result:
        """The same in this process."""
        return self._typing(env, settings).here(*args)

    def _typing(self, env: dict[str, str] | None, settings: dict[str, str]) -> Operator:
        values = CLUSTER | {"repository": self.nodes.repository} | settings
        lines = [f"{name} = {value}\n" for name, value in values.items()]
        return Operator(self.operator.home, f"[cluster]\n{''.join(lines)}{RUN}", self.operator.env | (env or {}))

    def at_work(self, name: str) -> list[int]:
        return self.node(name).processes("scheduler.py")

    def quiet(self) -> None:
        """No scheduler anywhere."""
        for node in self.nodes.nodes.values():
            node.kill("scheduler.py")


@pytest.fixture(scope="module")
def world(mariadb_server: MariaServer, moto_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    nodes = Nodes(tmp_path_factory.mktemp("nodes"))
    database = mariadb_server.settings(mariadb_server.fresh_database())
    env = AWS | database | {"AWS_ENDPOINT_URL": moto_server, "DAS_S3ROOT": f"s3://{BUCKET}/root", "REIDENT": "r1"}
    arguments: dict[str, Any] = {name.lower(): value for name, value in database.items()}
    engine = make_engine(sqlite_path="", **arguments)
    try:
        nodes.prepare({"n1": "127.0.0.2", "n2": "127.0.0.3", "n3": "127.0.0.4", "bare4": "127.0.0.5"})
        nodes.know_all()
        operator = Operator(nodes.operator_home, RUN + "[cluster]\nhosts = n1\n", env)
        more = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        operator.env |= more
        secrets = [database["MYSQL_PASSWORD"], AWS["AWS_SECRET_ACCESS_KEY"]]
        yield World(nodes, operator, Ledger(engine), secrets)
    finally:
        nodes.stop()
        engine.dispose()


@pytest.fixture
def running(world: World) -> World:
    """All nodes answer, and no scheduler is at work."""
    for node in world.nodes.nodes.values():
        if node.process is None:
            node.start()
    world.quiet()
    world.nodes.know_all()
    return world


@contextmanager
def all_held(world: World, reident: str, host: str) -> Iterator[None]:
    """Every tract of an experiment is held by a worker of ``host``, so that a scheduler has nothing to do but wait."""
    worker = Worker(host, "1-1")
    claims = []
    while batch := world.ledger.claim(reident, worker, limit=100, lease_seconds=3600):
        claims += batch
    assert claims, "there is something to hold"
    try:
        yield
    finally:
        world.ledger.release(claims)
