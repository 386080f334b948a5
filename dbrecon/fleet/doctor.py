"""What a run needs, looked at one by one: the database, the storage, the solver, memory and disk, and each node."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

from dbrecon.ctools import storage
from dbrecon.ctools.background import Background
from dbrecon.ctools.database import describe, make_engine
from dbrecon.ctools.emr import cluster_id
from dbrecon.ctools.extras import MissingPackage
from dbrecon.errors import DBReconError
from dbrecon.fleet.checkup import DISK_MIB, MEMORY_MIB, Finding, enough, skew
from dbrecon.fleet.credentials import encrypted_file, with_credentials
from dbrecon.ledger.fitness import examine_database
from dbrecon.remedies import explain, sentence
from dbrecon.settings import Config
from dbrecon.spark.setup import check_master, find_pyspark, is_local

CHECK_SECONDS = 15.0
SOLVER_SECONDS = 60.0  # a licence's token is waited for
CONDITIONS = "conditional puts"
SILENT = "something there takes the connection and says nothing, or a firewall drops what is sent"


def examine(config: Config, solver: Callable[[], str]) -> Iterator[Finding]:
    """Yield all findings, in a fixed order, as they come. ``solver`` tells which solver is ready, or raises SolverError.

    All checks run side by side, each with seconds of its own, so that one that hangs costs no more than that.
    """
    yield Finding("ok", "settings", config.path)
    checks: list[tuple[str, str, float, Callable[[], list[Finding]]]] = [
        ("credentials", "see that KMS can be reached from here", CHECK_SECONDS, lambda: list(_credentials(config))),
        ("database", f"see MYSQL_HOST and MYSQL_PORT: {SILENT}", CHECK_SECONDS, lambda: list(_database(config))),
        ("storage", f"see DAS_S3ROOT and AWS_ENDPOINT_URL: {SILENT}", CHECK_SECONDS, lambda: list(_storage(config))),
        ("solver", "see [solve] solver and its licence", SOLVER_SECONDS, lambda: [_tried("solver", solver)]),
        ("Spark", f"see [spark] master: {SILENT}", SOLVER_SECONDS, lambda: [_spark(config)]),
        ("this machine", "see its disks", CHECK_SECONDS, lambda: list(_this_machine(config))),
    ]
    begun = [(what, remedy, seconds, Background(work)) for what, remedy, seconds, work in checks]
    for what, remedy, seconds, work in begun:
        try:
            yield from work.result(seconds)
        except TimeoutError:
            yield Finding("FAIL", what, f"no answer within {seconds:g} s: {remedy}")
    yield from _nodes(config)


def _nodes(config: Config) -> Iterator[Finding]:
    """Yield what there is to say of nodes. What reaches them is loaded only where there are any: one machine needs no SSH."""
    if not config.cluster.hosts and cluster_id(config.cluster.emr_cluster_id) is None:
        yield Finding("ok", "nodes", "no cluster is set: this machine alone")
        return
    try:
        from dbrecon.fleet.doctor_nodes import examine_nodes
    except MissingPackage as error:
        yield Finding("FAIL", "nodes", sentence(error))
        return
    yield from examine_nodes(config, CHECK_SECONDS)


def _tried(what: str, look: Callable[[], str]) -> Finding:
    """Return a finding of something that tells what it is, or raises an error with a remedy."""
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
    yield skew("database clock", facts.skew)


def _storage(config: Config) -> Iterator[Finding]:
    def look() -> str:
        root = f"{config.root()}/2010-re"
        storage.make_writable_check(root, config.s3.kms_key)
        return f"{root} can be written"

    found = _tried("storage", look)
    yield found
    if found.level == "ok" and storage.is_s3(config.root()):
        try:
            yield _conditions(storage.keeps_conditions(f"{config.root()}/2010-re", config.s3.kms_key))
        except DBReconError as error:
            yield Finding("FAIL", CONDITIONS, explain(error))


def _conditions(kept: bool | None) -> Finding:
    """Return a finding of conditional puts, by which a process that has lost its lease overwrites nothing."""
    if kept:
        return Finding("ok", CONDITIONS, "who was overtaken overwrites nothing")
    how = "refuses them" if kept is None else "takes them and overwrites all the same"
    return Finding(
        "warn", CONDITIONS,
        f"this store {how}: a node that stood still for longer than its lease may overwrite what a later claim has put; "
        "readers notice (the ledger has the digests), and that tract is done again: see --rescan, or use a store that has them",
    )  # fmt: skip


def _spark(config: Config) -> Finding:
    """Return whether --spark could work here: a failure only where the settings ask for a cluster of Spark's."""
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
    yield enough("memory here", free, MEMORY_MIB, "end other programs")
    root = str(config.paths.root or "")
    folder = root if root and not storage.is_s3(root) and os.path.isdir(root) else "/tmp"
    yield enough(f"disk here ({folder})", shutil.disk_usage(folder).free // 1024, DISK_MIB, "make room")
