"""What --doctor looks at on each node: that it can be reached, and, from the node itself, all that a launch there needs."""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dbrecon.ctools import s3, storage
from dbrecon.ctools.background import Background
from dbrecon.ctools.ssh import Unreachable
from dbrecon.errors import DBReconError, RemoteError, UsageError
from dbrecon.fleet.checkup import DISK_MIB, GIB, MEMORY_MIB, Finding, enough, skew
from dbrecon.fleet.credentials import with_credentials
from dbrecon.fleet.hosts import Host, list_hosts, node_variables, on_each, on_node, parse_report, reason, script, values
from dbrecon.fleet.launch import check_reachable, passed_on, source
from dbrecon.remedies import explain
from dbrecon.settings import Config

PROBE = Path(__file__).resolve().parent / "probe_node.py"
PROBE_SECONDS = 6
"""How long a node waits for the repository, the database and the storage, each."""

URL_SECONDS = 600
MYSQL_PORT = 3306
UNREACHABLE_REMEDY = "see that it is up and that sshd runs there, or take it out of [cluster] hosts"


def examine_nodes(config: Config, seconds: float) -> Iterator[Finding]:
    """Yield the findings of all nodes, as they answer. What is asked of EMR and of the storage here has ``seconds``."""
    try:
        hosts = Background(lambda: list_hosts(config)).result(seconds)
    except TimeoutError as error:
        yield Finding("FAIL", "nodes", f"EMR gives {error}: see AWS_DEFAULT_REGION and the way to it")
        return
    except DBReconError as error:
        yield Finding("FAIL", "nodes", explain(error))
        return
    given: dict[str, dict[str, str]] = {"source": {}, "database": {}}
    for name, look in (("source", _source), ("database", _database)):
        try:
            given[name] = look(config)
        except DBReconError as error:  # the nodes are looked at all the same
            yield Finding("FAIL", "nodes", explain(error))
    with _marker(config, seconds) as marker:
        text = _script(config, given["source"], given["database"] | marker)
        limit = config.cluster.ssh_seconds + 3 * PROBE_SECONDS + 2

        def work(host: Host) -> tuple[str, float]:
            return on_node(config, host, text, limit), time.time()

        for host, result in on_each(hosts, work, limit):
            if isinstance(result, RemoteError):
                remedy = f": {UNREACHABLE_REMEDY}" if isinstance(result, Unreachable) else ""
                yield Finding("FAIL", host.name, reason(host, result) + remedy)
            else:
                yield from _node(config, host, *result)


# -- what is sent ---------------------------------------------------------------------------------------------------------


def _source(config: Config) -> dict[str, str]:
    repository, branch = source(config)
    return {"repository": repository, "branch": branch}


def _database(config: Config) -> dict[str, str]:
    """Return what the program on a node needs for looking at the database. UsageError where nodes have none in which to meet."""
    given = with_credentials(config).database()
    if not given["mysql_host"]:
        raise UsageError("they meet in MySQL or MariaDB, and none is set: export MYSQL_HOST and its partners")
    check_reachable(given["mysql_host"])
    found = {
        "PROBE_MYSQL_HOST": given["mysql_host"],
        "PROBE_MYSQL_PORT": str(given["mysql_port"] or MYSQL_PORT),
        "PROBE_MYSQL_DATABASE": given["mysql_database"],
        "PROBE_MYSQL_USER": given["mysql_user"],
        "PROBE_MYSQL_PASSWORD": given["mysql_password"],
        "PROBE_MYSQL_SSL_CA": given["mysql_ssl_ca"],
    }
    return {name: value or "" for name, value in found.items()}


@contextmanager
def _marker(config: Config, seconds: float) -> Iterator[dict[str, str]]:
    """Yield a small file in the storage, which nodes must find there; what the program on a node needs for it. Nothing where it
    cannot be written, which is told already."""
    content = secrets.token_hex(16)
    path = f"{config.root().rstrip('/')}/2010-re/doctor-{secrets.token_hex(4)}"

    def write() -> dict[str, str]:
        with storage.sopen(path, "w", kms_key=config.s3.kms_key) as file:
            file.write(content)
        where = {"PROBE_URL": s3.presigned(path, URL_SECONDS)} if storage.is_s3(path) else {"PROBE_PATH": os.path.abspath(path)}
        return where | {"PROBE_CONTENT": content}

    try:
        refusal = Background(write).result(seconds)
    except (DBReconError, TimeoutError):
        yield {}
        return
    try:
        yield refusal
    finally:
        Background(lambda: storage.remove(path)).result(seconds)


def _script(config: Config, variables: Mapping[str, str], probe: Mapping[str, str]) -> str:
    """For a node: its own facts, and what the program finds there. Secrets go through the connection, as with a launch."""
    exported = passed_on(config.cluster.environment or "", os.environ) | dict(probe) | {"PROBE_SECONDS": str(PROBE_SECONDS)}
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in exported.items())
    end = f"end_{secrets.token_hex(8)}"
    program = f"probe() {{ cat <<'{end}'\n{PROBE.read_text(encoding='utf-8')}{end}\n}}\n"
    return script("facts", {"repository": "", "branch": "", **node_variables(config), **variables}, lines + program)


# -- what comes back ------------------------------------------------------------------------------------------------------


def _node(config: Config, host: Host, text: str, now: float) -> Iterator[Finding]:
    facts, report = values(text), parse_report(host, text)
    wrong = [Finding("FAIL", host.name, sentence) for sentence in [*_missing(config, facts), *_unreachable_from(facts)]]
    others = [
        skew(f"{host.name} clock", report.time - now),
        enough(f"{host.name} memory", report.free_kib, MEMORY_MIB, "end other programs there"),
        enough(f"{host.name} disk", int(facts.get("disk_kib") or 0), DISK_MIB, "make room there"),
    ]
    wrong += [finding for finding in others if finding.level != "ok"]
    if not wrong:
        free = f"{report.free_kib / GIB:.1f} GiB of memory, {int(facts['disk_kib']) / GIB:.1f} GiB of disk"
        reached = [name for name in ("repository", "database", "storage") if facts.get(name)]
        tools = ["SSH", "git", *(["make"] if not config.cluster.venv else []), f"Python {facts['python']}"]
        yield Finding("ok", host.name, f"{', '.join([*tools, *reached, free])}, clock")
    yield from wrong


def _missing(config: Config, facts: Mapping[str, str]) -> Iterator[str]:
    """Yield what a node lacks of the programs that a launch needs."""
    if not facts.get("git"):
        yield "there is no git: install it there"
    if config.cluster.venv:
        if not facts.get("python"):
            yield f"there is no python: make the environment ~/{config.cluster.venv} there, or leave [cluster] venv empty"
        return
    if not facts.get("make"):
        yield "there is no make: install it there, or set [cluster] venv"
    if not facts.get("python"):
        yield "there is no python: install Python 3.11 or newer with its venv there"
    elif not facts.get("venv"):
        yield f"Python {facts['python']} has no venv there: install it (python3-venv), or set [cluster] venv"


def _unreachable_from(facts: Mapping[str, str]) -> Iterator[str]:
    """Yield what cannot be reached from a node."""
    remedies = {
        "repository": "see [cluster] repository and branch, and that the node may read it",
        "database": "see MYSQL_HOST (a name that is right on all nodes), the server's bind-address and grants, and firewalls",
        "storage": "see DAS_S3ROOT: all nodes must have the one storage, at the same place",
    }
    for name, remedy in remedies.items():
        if error := facts.get(f"{name}_error"):
            yield f"the {name} cannot be used from there ({error}): {remedy}"
