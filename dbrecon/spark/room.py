"""The room that a cluster has for executors, all in all: what it can never give is refused, what is only taken is waited for.

Both kinds of cluster are asked through Spark's own process: YARN by its client's interface, which also knows Kerberos and a pair of
ResourceManagers; a standalone master by the message that its page is made of.
"""

import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dbrecon.ctools.progress import counted
from dbrecon.settings import Config
from dbrecon.spark.setup import STANDALONE, SparkError, executor_size

log = logging.getLogger(__name__)

SAY_AGAIN_SECONDS = 55.0
"""What comes every 15 s is said once a minute."""
LEAST_OVERHEAD_MIB, OVERHEAD_SHARE = 384, 0.1
ANSWER_MS = 10_000
"""How long YARN may take to answer: its client's own patience is a quarter of an hour, without a word."""
REMEDY = "set [spark] executor_mib or executor_cores to less, or give the cluster a bigger node"


@dataclass(frozen=True)
class Room:
    """What a cluster has when nothing else runs there: nodes that are up, and the most that one of them has.

    ``queue`` is YARN's queue, ``queue_mib`` the most that all of its applications may have; None if that is not known.
    ``page`` is the address of the ResourceManager's pages.
    """

    nodes: int
    cores: int
    mib: int
    queue: str = ""
    queue_mib: int | None = None
    page: str = ""


@dataclass(frozen=True)
class Need:
    """What an executor needs, and besides, on YARN, the application's own master. ``cores`` are only compared where the cluster
    does so (YARN, as it comes, reckons with memory alone)."""

    cores: int
    mib: int
    master_mib: int = 0
    cores_count: bool = True

    def refusal(self, room: Room) -> str | None:
        """Return why this can never be had; None if it can, or if there are no nodes yet."""
        if not room.nodes:
            return None
        if self.mib > room.mib or (self.cores_count and self.cores > room.cores):
            has = f"{counted(room.cores, 'core')} and {room.mib:,} MiB"
            return f"an executor needs {self.text()}, and the biggest of {counted(room.nodes, 'node')} has {has}: {REMEDY}"
        if room.queue_mib is not None and self.mib + self.master_mib > room.queue_mib:
            needs = f"an executor of {self.mib:,} MiB and the application's master of {self.master_mib:,} MiB"
            return (
                f"YARN's queue {room.queue} may have {room.queue_mib:,} MiB at the most, which is too little for {needs}: "
                "name another queue (spark.yarn.queue in spark-defaults.conf), or raise its maximum-capacity"
            )
        return None

    def text(self) -> str:
        """Return it in words."""
        return f"{counted(self.cores, 'core')} and {self.mib:,} MiB"

    def waiting(self, room: Room | None) -> str:
        """Return what is waited for where there is not as much free just now."""
        if room is not None and not room.nodes:
            return f"waiting for a node: the cluster has none that is up, and an executor needs {self.text()}"
        biggest = f"; the biggest node has {counted(room.cores, 'core')} and {room.mib:,} MiB when it is idle" if room else ""
        return (
            f"waiting for room: an executor needs {self.text()}, and no node has as much free{biggest}; "
            "wait, or set [spark] executor_cores and executor_mib to less"
        )


REFUSALS = {
    "unknown queue": "name one of YARN's queues (spark.yarn.queue in spark-defaults.conf; `yarn queue -list` shows them)",
    "is above the max threshold": REMEDY,
    "cannot accept submission of application": "have the queue's administrator start it, or name another (spark.yarn.queue)",
}


def remedy_of(why: str) -> str | None:
    """Return what to do about Spark's or YARN's own refusal; None if it is none of those that are known."""
    return next((remedy for words, remedy in REFUSALS.items() if words in why), None)


def need(config: Config, need_mib: float, jvm: Any) -> Need:
    """Return what an application needs whose tasks need ``need_mib`` MiB each."""
    cores, mib = executor_size(config, need_mib)
    if config.spark.master.startswith(STANDALONE):
        return Need(cores, mib)
    defaults = jvm.org.apache.spark.SparkConf()
    master = int(defaults.getSizeAsMb("spark.yarn.am.memory", "512m"))
    overhead = max(LEAST_OVERHEAD_MIB, int(master * OVERHEAD_SHARE))
    overhead = int(defaults.getSizeAsMb("spark.yarn.am.memoryOverhead", f"{overhead}m"))
    return Need(cores, mib, master + overhead, cores_count=False)


def yarn_room(gateway: Any) -> Room:
    """Return the room of the YARN that $HADOOP_CONF_DIR leads to. Raises SparkError where it does not answer."""
    with _yarn(gateway) as client:
        jvm = gateway.jvm
        states = gateway.new_array(jvm.org.apache.hadoop.yarn.api.records.NodeState, 1)
        states[0] = jvm.org.apache.hadoop.yarn.api.records.NodeState.RUNNING
        sizes = [node.getCapability() for node in client.getNodeReports(states)]
        queue = str(jvm.org.apache.spark.SparkConf().get("spark.yarn.queue", "default"))
        found = client.getQueueInfo(queue)
        limits = dict(found.getQueueConfigurations() or {}) if found is not None else {}
        limit = limits[""].getEffectiveMaxCapacity() if "" in limits else None
        return Room(
            len(sizes),
            max((int(size.getVirtualCores()) for size in sizes), default=0),
            max((int(size.getMemorySize()) for size in sizes), default=0),
            queue,
            int(limit.getMemorySize()) if limit is not None else None,
            str(client.getConfig().get("yarn.resourcemanager.webapp.address")),
        )


def yarn_account(page: str, name: str) -> str | None:
    """Return what the ResourceManager, whose pages are at ``page``, says of the application of this name that it has
    accepted and not started; None if there is none.

    Asked by HTTP: while Spark starts in its own process, nothing else may use Hadoop's classes there. Where this does not
    lead there (Kerberos, TLS), the answer is how to ask it.
    """
    try:
        with urllib.request.urlopen(f"http://{page}/ws/v1/cluster/apps?states=ACCEPTED", timeout=ANSWER_MS / 1000) as answer:
            found = (json.load(answer)["apps"] or {"app": []})["app"]
    except (OSError, ValueError, KeyError):
        return "`yarn application -list -appStates ACCEPTED` shows which do so"
    said = [
        f"{app['id']} in queue {app['queue']}: {' '.join(str(app['diagnostics']).split())}" for app in found if app["name"] == name
    ]
    return said[-1] if said else None


@contextmanager
def _yarn(gateway: Any) -> Iterator[Any]:
    """Yield a client of YARN. What it raises becomes SparkError."""
    from py4j.protocol import Py4JJavaError

    jvm = gateway.jvm
    hadoop = jvm.org.apache.spark.deploy.SparkHadoopUtil.get().newConfiguration(jvm.org.apache.spark.SparkConf())
    conf = jvm.org.apache.hadoop.yarn.conf.YarnConfiguration(hadoop)  # with spark.hadoop.* of spark-defaults.conf
    conf.setInt("yarn.resourcemanager.connect.max-wait.ms", ANSWER_MS)
    conf.setInt("yarn.resourcemanager.connect.retry-interval.ms", ANSWER_MS // 10)
    conf.setInt("ipc.client.connect.max.retries", 1)
    client = jvm.org.apache.hadoop.yarn.client.api.YarnClient.createYarnClient()
    try:
        client.init(conf)
        client.start()
        yield client
    except Py4JJavaError as error:
        why = str(error.java_exception.getMessage() or error.java_exception).split(";", maxsplit=1)[0]
        where = conf.get("yarn.resourcemanager.address")
        remedy = "start it, or correct yarn.resourcemanager.* in yarn-site.xml ($HADOOP_CONF_DIR)"
        raise SparkError(f"YARN's ResourceManager at {where} does not answer ({why}): {remedy}") from None
    finally:
        client.stop()


def standalone_room(context: Any) -> Room | None:
    """Return the room of a standalone master's workers that are alive; None where it cannot be known."""
    from py4j.protocol import Py4JError

    jvm, spark = context._jvm, context._jsc.sc()
    found: list[tuple[int, int]] = []
    try:
        request = getattr(jvm.org.apache.spark.deploy, "DeployMessages$RequestMasterState$")
        for url in context.master.removeprefix(STANDALONE).split(","):
            address = jvm.org.apache.spark.rpc.RpcAddress.fromSparkURL(f"{STANDALONE}{url}")
            master = spark.schedulerBackend().rpcEnv().setupEndpointRef(address, "Master")
            state = master.askSync(getattr(request, "MODULE$"), jvm.scala.reflect.ClassTag.Any())
            found += [(int(w.cores()), int(w.memory())) for w in state.workers() if w.isAlive()]
    except Py4JError:  # a master that is a spare, or of another version: Spark's own interface, which it may change
        if not found:
            return None
    return Room(len(found), max((cores for cores, _ in found), default=0), max((mib for _, mib in found), default=0))


class Watch:
    """Looks for room when Spark says that it gets none, and says what is waited for, once a minute.

    ``starved`` may be called by any thread; ``look`` is the driver's own.
    """

    def __init__(self) -> None:
        self._starved = threading.Event()
        self._said = float("-inf")

    def starved(self) -> None:
        """Spark gets no executors."""
        self._starved.set()

    def look(self, need: Need, room: Callable[[], Room | None]) -> None:
        """If Spark has got no executors, look whether it ever can. Raises SparkError if not."""
        if not self._starved.is_set():
            return
        self._starved.clear()
        found = room()
        if found is not None and (refusal := need.refusal(found)):
            raise SparkError(refusal)
        self.say(need.waiting(found))

    def say(self, sentence: str) -> None:
        """Warn, unless there was a warning a short while ago."""
        now = time.monotonic()
        if now - self._said >= SAY_AGAIN_SECONDS:
            self._said = now
            log.warning("%s", sentence)
