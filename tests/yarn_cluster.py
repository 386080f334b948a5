"""A real YARN on the loopback interface: Hadoop's own ResourceManager and one or two NodeManagers, a process each.

Their classes are in the jar that Hadoop publishes for tests (``hadoop-client-minicluster``), of the version of PySpark's Hadoop.
Maven fetches it once from Maven Central into ``$DBRECON_TEST_YARN`` (else below ``~/.cache``; 70 MB). Where it cannot be had, the
tests that need it say so and are skipped.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import psutil
import pytest

from dbrecon.errors import DBReconError
from tests.ports import free_ports

START_SECONDS = 90
NODE_MIB = 2048
NODES = ("127.0.0.2", "127.0.0.3")
JVM = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m",
       "-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote",
       "-Djdk.lang.Process.launchMechanism=VFORK"]  # fmt: skip  # without Hadoop's native library each file's mode is a process
RESOURCE_MANAGER = "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager"
NODE_MANAGER = "org.apache.hadoop.yarn.server.nodemanager.NodeManager"
NEEDED = (
    "org.bouncycastle:bcpkix-jdk18on:1.78.1",
    "org.bouncycastle:bcprov-jdk18on:1.78.1",
    "org.bouncycastle:bcutil-jdk18on:1.78.1",
)
"""What the ResourceManager's start loads besides."""
SETTINGS = {
    "yarn.resourcemanager.hostname": "127.0.0.1",
    "yarn.nodemanager.resource.memory-mb": NODE_MIB,
    "yarn.nodemanager.resource.cpu-vcores": 4,
    "yarn.scheduler.minimum-allocation-mb": 64,
    "yarn.scheduler.capacity.per-node-heartbeat.multiple-assignments-enabled": "false",  # executors spread over the nodes
    "yarn.scheduler.capacity.root.queues": "default,tiny",
    "yarn.scheduler.capacity.root.default.capacity": 99,
    "yarn.scheduler.capacity.root.tiny.capacity": 1,
    "yarn.scheduler.capacity.root.tiny.maximum-capacity": 1,
    "yarn.scheduler.capacity.maximum-am-resource-percent": "1.0",
    "yarn.nodemanager.vmem-check-enabled": "false",
    "yarn.nodemanager.pmem-check-enabled": "false",
    "yarn.nodemanager.disk-health-checker.enable": "false",
    "yarn.nodemanager.delete.debug-delay-sec": 600,  # containers' logs stay to be looked at
    "yarn.nm.liveness-monitor.expiry-interval-ms": 3000,
    "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": 200,
    "yarn.acl.enable": "false",
}
PORTS = {
    "yarn.resourcemanager.address": "127.0.0.1", "yarn.resourcemanager.scheduler.address": "127.0.0.1",
    "yarn.resourcemanager.resource-tracker.address": "127.0.0.1", "yarn.resourcemanager.admin.address": "127.0.0.1",
    "yarn.resourcemanager.webapp.address": "127.0.0.1",
}  # fmt: skip


class CannotBeHad(DBReconError):
    """YARN's classes cannot be fetched here; the text says why."""


def pyspark_home() -> Path:
    """The folder of the installed PySpark, which is a Spark."""
    import pyspark

    return Path(pyspark.__file__).parent


def jars() -> Path:
    """The folder with the jars that PySpark has not, fetched where it is not there yet. Raises CannotBeHad."""
    api = next((pyspark_home() / "jars").glob("hadoop-client-api-*.jar"), None)
    if api is None:
        raise CannotBeHad("PySpark came without Hadoop")
    version = api.stem.removeprefix("hadoop-client-api-")
    base = Path(os.environ.get("DBRECON_TEST_YARN") or Path.home() / ".cache" / "dbrecon-tests" / "yarn")
    base.mkdir(parents=True, exist_ok=True)
    with (base / "lock").open("w") as lock:  # several processes of the tests want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = base / version
        if not folder.exists():
            _fetch(folder, [f"org.apache.hadoop:hadoop-client-minicluster:{version}", *NEEDED])
    return folder


def _fetch(folder: Path, artifacts: list[str]) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise CannotBeHad("it is fetched by Maven, which is not here: apt-get install maven")
    part = folder.with_suffix(".part")
    for artifact in artifacts:
        goal = ["dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={part}", "-Dmdep.useBaseVersion=true"]
        done = subprocess.run([maven, "-B", "-q", *goal], cwd=folder.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            said = re.sub(r"\[ERROR\]\s*", "", done.stdout + done.stderr).strip().splitlines() or ["no reason was given"]
            raise CannotBeHad(f"Maven cannot fetch {artifact} ({said[0][:300]})")
    part.rename(folder)


@dataclass
class YarnCluster:
    """The daemons, as processes of the test, with their folder."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        """What $HADOOP_CONF_DIR is."""
        return self.folder / "conf"

    def start(self) -> None:
        """Start all with one node, and wait until it is known."""
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        found = SETTINGS | {name: f"{host}:{self.ports[name]}" for name, host in PORTS.items()}
        rows = (f"<property><name>{name}</name><value>{escape(str(value))}</value></property>" for name, value in found.items())
        self.conf.mkdir()
        (self.conf / "yarn-site.xml").write_text("\n".join(["<configuration>", *rows, "</configuration>"]), encoding="utf-8")
        self._launch("resourcemanager", RESOURCE_MANAGER)
        self.start_node(NODES[0])

    def need_all_nodes(self) -> None:
        """Start the nodes that are not there yet."""
        for address in NODES:
            if address not in self.processes:
                self.start_node(address)

    def start_node(self, address: str) -> None:
        """Start the NodeManager of that address, and wait until it is known."""
        folder = self.folder / address
        found = {"hostname": address, "local-dirs": folder / "local", "log-dirs": folder / "logs"}
        found |= dict.fromkeys(("address", "localizer.address", "webapp.address"), f"{address}:0")
        self._launch(address, NODE_MANAGER, *(f"-Dyarn.nodemanager.{name}={value}" for name, value in found.items()))
        self.wait_for_nodes(sum(name in NODES for name in self.processes))

    def wait_for_nodes(self, number: int) -> None:
        """Return when so many nodes are in use."""
        deadline = time.monotonic() + START_SECONDS
        while self.active_nodes() != number:
            dead = [name for name, process in self.processes.items() if process.poll() not in (None, -signal.SIGKILL)]
            if dead or time.monotonic() > deadline:
                pytest.fail(f"YARN did not start: {self.log(dead[0] if dead else 'resourcemanager')[-2000:]}")
            time.sleep(0.1)

    def active_nodes(self) -> int | None:
        """How many nodes the ResourceManager knows to run; None while it does not answer."""
        try:
            return int(self.rest("cluster/metrics")["clusterMetrics"]["activeNodes"])
        except OSError:
            return None

    def page(self, path: str) -> str:
        """A page of the ResourceManager's."""
        address = f"http://127.0.0.1:{self.ports['yarn.resourcemanager.webapp.address']}/{path}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            return str(answer.read().decode("utf-8", errors="replace"))

    def rest(self, path: str) -> Any:
        """What its REST service says."""
        return json.loads(self.page(f"ws/v1/{path}"))

    def applications(self) -> list[dict[str, Any]]:
        """All applications, the newest first."""
        found = (self.rest("cluster/apps")["apps"] or {"app": []})["app"]
        return sorted(found, key=lambda app: str(app["id"]), reverse=True)

    def log(self, name: str) -> str:
        """What a daemon wrote."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def container_files(self) -> list[Path]:
        """All that the nodes keep of containers: their logs and what started them."""
        return [path for address in NODES for path in (self.folder / address / "logs").rglob("*") if path.is_file()]

    def executors(self, *addresses: str) -> list[psutil.Process]:
        """The executors' processes on these nodes (else on all), now."""
        found = []
        for address in addresses or [name for name in NODES if name in self.processes]:
            for process in psutil.Process(self.processes[address].pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    line = process.cmdline()
                    if "org.apache.spark.executor.YarnCoarseGrainedExecutorBackend" in line and line[0].endswith("java"):
                        found.append(process)
        return found

    def lose_node(self, address: str) -> None:
        """What a machine does whose power fails: its NodeManager and all that it has started are gone, without a word."""
        node = psutil.Process(self.processes[address].pid)
        lost = [node, *node.children(recursive=True)]
        for process in lost:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.processes[address].wait()

    def stop(self) -> None:
        """End all; those that do not end are killed."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _launch(self, name: str, main: str, *arguments: str) -> None:
        path = f"{self.conf}:{jars()}/*:{pyspark_home()}/jars/*"
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        command = ["java", *JVM, f"-Dyarn.log.dir={folder}", f"-Djava.io.tmpdir={folder}", "-cp", path, main, *arguments]
        env = os.environ | {"HADOOP_CONF_DIR": str(self.conf)}
        with open(self.folder / f"{name}.log", "ab") as log:
            made = subprocess.Popen(command, cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True)
        self.processes[name] = made


def cluster_or_skip(folder: Path) -> YarnCluster:
    """A cluster that may be started, or a skip that says why there is none."""
    try:
        jars()
    except CannotBeHad as reason:
        pytest.skip(f"YARN cannot be had here: {reason}")
    return YarnCluster(folder)
