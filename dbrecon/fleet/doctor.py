"""What a run needs, looked at one by one: the database, the storage, the solver, memory and disk, and each node."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dbrecon.ctools import storage
from dbrecon.ctools.cli import explain
from dbrecon.ctools.database import describe, make_engine
from dbrecon.ctools.emr import cluster_id
from dbrecon.ctools.proc import MIB
from dbrecon.ctools.ssh import Unreachable
from dbrecon.errors import DBReconError, RemoteError
from dbrecon.fleet.credentials import encrypted_file, with_credentials
from dbrecon.fleet.hosts import Host, list_hosts, on_each, on_node, parse_report, reason, values
from dbrecon.fleet.launch import facts_script
from dbrecon.ledger.fitness import examine_database
from dbrecon.settings import Config
from dbrecon.spark.setup import check_master, find_pyspark, is_local

SKEW_SECONDS = 10
MEMORY_MIB = 1024
DISK_MIB = 2048
UNREACHABLE_REMEDY = "see that it is up and that sshd runs there, or take it out of [cluster] hosts"
GIB = 1 << 20  # in KiB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``level`` is "ok", "warn" (a run may go on) or "FAIL"; ``text`` has the remedy."""

    level: str
    what: str
    text: str

    def line(self) -> str:
        """As --doctor prints it."""
        return f"{self.level:4}  {self.what}: {self.text}"


def examine(config: Config, solver: Callable[[], str]) -> Iterator[Finding]:
    """All findings, as they come. ``solver`` tells which solver is ready, or raises SolverError."""
    yield Finding("ok", "settings", config.path)
    yield from _credentials(config)
    yield from _database(config)
    yield from _storage(config)
    yield _tried("solver", solver)
    yield _spark(config)
    yield from _this_machine(config)
    yield from _nodes(config)


def _tried(what: str, look: Callable[[], str]) -> Finding:
    """A finding of something that tells what it is, or raises an error with a remedy."""
    try:
        return Finding("ok", what, look())
    except DBReconError as error:
        return Finding("FAIL", what, explain(error))


def _credentials(config: Config) -> Iterator[Finding]:
    if config.db.mysql_host:
        needed = {"MYSQL_DATABASE": config.db.mysql_database, "MYSQL_USER": config.db.mysql_user}
        lacking = [name for name, value in needed.items() if not value]
        if lacking:
            yield Finding("FAIL", "credentials", f"MYSQL_HOST is set, but not {' and '.join(lacking)}: export them too")
        else:
            yield Finding("ok", "credentials", "from the environment or the settings")
    elif (path := encrypted_file(config)) is not None:
        yield _tried("credentials", lambda: f"{path}, decrypted for {with_credentials(config).db.mysql_user}")


def _database(config: Config) -> Iterator[Finding]:
    try:
        engine = make_engine(**with_credentials(config).database())
        facts = examine_database(engine)
    except DBReconError as error:
        yield Finding("FAIL", "database", explain(error))
        return
    yield Finding("ok", "database", f"{facts.version}, {describe(engine)}; tables can be made, rows locked and changed")
    yield _skew("database clock", facts.skew)


def _skew(what: str, seconds: float) -> Finding:
    if abs(seconds) <= SKEW_SECONDS:
        return Finding("ok", what, f"within {max(1, round(abs(seconds)))} s of this machine's")
    way = "ahead of" if seconds > 0 else "behind"
    return Finding("warn", what, f"{abs(seconds):,.0f} s {way} this machine's: let NTP (chrony) set both, or S3 and logs go wrong")


def _storage(config: Config) -> Iterator[Finding]:
    def look() -> str:
        root = f"{config.root()}/2010-re"
        storage.make_writable_check(root, config.s3.kms_key)
        return f"{root} can be written"

    yield _tried("storage", look)


def _spark(config: Config) -> Finding:
    """Whether --spark could work here: a failure only where the settings ask for a cluster of Spark's."""
    master = config.spark.master
    try:
        find_pyspark()
        check_master(master)
    except DBReconError as error:
        if is_local(master):
            return Finding("ok", "Spark", f"not set up, which --spark alone needs: {explain(error)}")
        return Finding("FAIL", "Spark", explain(error))
    return Finding("ok", "Spark", f"its package and Java are here; [spark] master = {master}")


def _this_machine(config: Config) -> Iterator[Finding]:
    with open("/proc/meminfo", encoding="ascii") as file:
        free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
    yield _enough("memory here", free, MEMORY_MIB, "end other programs")
    root = str(config.paths.root or "")
    folder = root if root and not storage.is_s3(root) and os.path.isdir(root) else "/tmp"
    yield _enough(f"disk here ({folder})", shutil.disk_usage(folder).free // 1024, DISK_MIB, "make room")


def _enough(what: str, free_kib: int, needed_mib: int, remedy: str) -> Finding:
    """A finding of free memory or disk. With less than a tenth of what is needed nothing goes."""
    text = f"{free_kib / GIB:.1f} GiB free"
    if free_kib * 1024 >= needed_mib * MIB:
        return Finding("ok", what, text)
    level = "FAIL" if free_kib * 1024 < needed_mib * MIB / 10 else "warn"
    return Finding(level, what, f"{text}, less than {needed_mib / 1024:g} GiB: {remedy}")


def _nodes(config: Config) -> Iterator[Finding]:
    if not config.cluster.hosts and cluster_id(config.cluster.emr_cluster_id) is None:
        yield Finding("ok", "nodes", "no cluster is set: this machine alone")
        return
    try:
        hosts = list_hosts(config)
    except DBReconError as error:
        yield Finding("FAIL", "nodes", explain(error))
        return
    if hosts and not with_credentials(config).db.mysql_host:
        yield Finding("FAIL", "nodes", "they meet in MySQL or MariaDB, and none is set: export MYSQL_HOST and its partners")
    text = facts_script(config)
    seconds = 2 * float(config.cluster.ssh_seconds)

    def work(host: Host) -> tuple[str, float]:
        return on_node(config, host, text, seconds), time.time()

    for host, result in on_each(hosts, work, seconds):
        if isinstance(result, RemoteError):
            remedy = f": {UNREACHABLE_REMEDY}" if isinstance(result, Unreachable) else ""
            yield Finding("FAIL", host.name, reason(host, result) + remedy)
        else:
            yield from _node(config, host, *result)


def _node(config: Config, host: Host, text: str, now: float) -> Iterator[Finding]:
    told, report = values(text), parse_report(host, text)
    needed = {"git": "install it there"}
    if config.cluster.venv:
        needed["python"] = f"make the environment ~/{config.cluster.venv} there, or leave [cluster] venv empty"
    else:
        needed["python"] = "install Python 3.11 or newer with its venv there"
    missing = [Finding("FAIL", host.name, f"there is no {name}: {remedy}") for name, remedy in needed.items() if not told.get(name)]
    others = [
        _skew(f"{host.name} clock", report.time - now),
        _enough(f"{host.name} memory", report.free_kib, MEMORY_MIB, "end other programs there"),
        _enough(f"{host.name} disk", int(told.get("disk_kib") or 0), DISK_MIB, "make room there"),
    ]
    wrong = missing + [one for one in others if one.level != "ok"]
    if not wrong:
        free = f"{report.free_kib / GIB:.1f} GiB of memory, {int(told['disk_kib']) / GIB:.1f} GiB of disk"
        yield Finding("ok", host.name, f"SSH, git, Python {told['python']}, {free}, clock")
    yield from wrong
