"""Three nodes reached by SSH, MySQL's own server and an S3 server over HTTP, all of which die while the nodes work.

The operator types what contrib/emr_step.sh has; whatever dies, every tract is solved once, and the files are an undisturbed run's.
"""

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.make_state import make_state
from dbrecon.ctools.database import make_engine
from dbrecon.ledger.ledger import Ledger
from dbrecon.recon.study.synthetic import plan_state
from tests.console_world import AWS, Operator
from tests.mysql_server import MysqlServer, server_or_skip
from tests.paths import CHECKOUT
from tests.ports import free_port
from tests.s3_servers import client, fresh_bucket, moto_server
from tests.ssh_nodes import Nodes
from tests.waiting import wait_for

__all__ = ["moto_server"]

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

R = "kills"
SETTINGS = """[run]
lease_seconds = 5
heartbeat_seconds = 1
max_lp = 1
claim_tracts = 3
max_attempts = 100
retry_seconds = 0
[cluster]
hosts = n1 n2 n3
venv = environment
branch = main
"""
END_SECONDS = 300.0


@pytest.fixture
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MysqlServer]:
    server = server_or_skip(tmp_path_factory.mktemp("mysql"), free_port())
    with server.at_work():
        yield server


@pytest.fixture
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("nodes"))
    try:
        made.prepare({"n1": "127.0.0.2", "n2": "127.0.0.3", "n3": "127.0.0.4"})
        made.know_all()
        yield made
    finally:
        made.stop()


def holds(ledger: Ledger, host: str) -> bool:
    """Whether a host has tracts in work."""
    return any(holder.worker.host == host and holder.tracts for holder in ledger.claimants(R))


def published(endpoint: str, bucket: str) -> dict[str, bytes]:
    """The experiment's files on S3, by name below work/."""
    server, start = client(endpoint), f"root/2010-re/{R}/work/"
    pages = server.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start)
    keys = [entry["Key"] for found in pages for entry in found.get("Contents", [])]
    return {key.removeprefix(start): server.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def undisturbed(folder: Path, zip_path: Path) -> dict[str, bytes]:
    """The files that one machine makes of the state."""
    operator = Operator(folder / "alone", "", {"DAS_S3ROOT": str(folder / "root"), "REIDENT": R})
    operator.done("--register", R)
    dist = folder / "root" / "2010-re" / R / "dist"
    (dist / zip_path.name).write_bytes(zip_path.read_bytes())
    operator.done("--step1", "--step2", "--stusab", "de")
    operator.done("--run")
    work = folder / "root" / "2010-re" / R / "work"
    return {str(path.relative_to(work)): path.read_bytes() for path in work.rglob("*") if path.is_file()}


def test_nodes_and_the_database_die_at_work_and_every_tract_is_solved_once(
    mysql: MysqlServer, nodes: Nodes, moto_server: str, tmp_path: Path
) -> None:
    zip_path, bucket = tmp_path / "de2010.sf1.zip", fresh_bucket(moto_server)
    make_state(plan_state("de", "10", 600_000, 5, counties=6), str(zip_path), None)
    database = mysql.settings(mysql.fresh_database())
    git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    env = AWS | database | git | {"AWS_ENDPOINT_URL": moto_server, "DAS_S3ROOT": f"s3://{bucket}/root"}
    operator = Operator(nodes.operator_home, f"{SETTINGS}repository = {nodes.repository}\n", env)
    operator.done("--register", R)
    client(moto_server).upload_file(str(zip_path), bucket, f"root/2010-re/{R}/dist/{zip_path.name}")
    arguments: dict[str, Any] = {name.lower(): value for name, value in database.items()}
    ledger = Ledger(make_engine(sqlite_path="", **arguments), patience=60.0)
    first, second, third = (nodes.nodes[name] for name in ("n1", "n2", "n3"))

    with open(tmp_path / "step", "wb") as said:
        script = [str(CHECKOUT / "contrib" / "emr_step.sh"), R, "de"]
        in_checkout = operator.environment() | {"DBRECON_CHECKOUT": str(CHECKOUT)}
        step = subprocess.Popen(script, env=in_checkout, stdout=said, stderr=said)
    try:
        wait_for(lambda: b" LP files " in (tmp_path / "step").read_bytes(), "the --watch of the step", END_SECONDS)
        wait_for(lambda: holds(ledger, first.hostname), "work of n1", END_SECONDS)
        first.kill("scheduler.py")
        wait_for(lambda: holds(ledger, second.hostname), "work of n2", END_SECONDS)
        second.stop()  # all that ran there, and its sshd
        wait_for(lambda: bool(third.processes("forkserver")), "workers of n3", END_SECONDS)
        third.kill("forkserver")
        assert {state.status for state in ledger.tract_states(R, "de")} - {"solved", "empty"}, "the kills came when all was done"
        mysql.kill()
        mysql.start()
        second.start()
        assert operator.run("--launch", "n1,n2", "--reident", R).returncode == 0
        wait_for(lambda: step.poll() is not None, f"the end: {(tmp_path / 'step').read_text()[-2000:]}", END_SECONDS)
    finally:
        step.kill()
    assert step.returncode == 0, (tmp_path / "step").read_text()[-2000:]
    tracts = [state for state in ledger.tract_states(R, "de") if state.pop]
    ledger.engine.dispose()
    assert {(state.status, state.sol_count, state.lp_count, state.claimed_by) for state in tracts} == {("solved", 1, 1, None)}
    print(f"{len(tracts)} tracts: {dict(Counter(state.sol_host for state in tracts))}")
    made, expected = published(moto_server, bucket), undisturbed(tmp_path, zip_path)
    assert sorted(name for name in made.keys() | expected.keys() if made.get(name) != expected.get(name)) == []
