"""A reconstruction on a real YARN (see tests/yarn_cluster.py): by command, in client mode, on executors in YARN's containers.

Whatever YARN takes away, the result is workflow 1's, byte for byte; what it can never give is refused in a sentence.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from dbrecon.console.commands import open_ledger
from dbrecon.ledger.ledger import Ledger
from dbrecon.settings import Config
from dbrecon.spark.setup import JVM_OPTIONS
from tests.paths import CHECKOUT
from tests.s3_servers import client, credentials, fresh_bucket, moto_server
from tests.waiting import wait_for
from tests.yarn_cluster import NODES, YarnCluster, cluster_or_skip, pyspark_home

__all__ = ["moto_server"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

END_SECONDS = 240
SECRET = "not-for-any-page"
R = "yarn"
DEFAULTS = """spark.yarn.jars local:{jars}/*
spark.yarn.stagingDir file:{folder}/staging
spark.yarn.am.memory 128m
spark.yarn.am.extraJavaOptions {options}
spark.yarn.scheduler.heartbeat.interval-ms 200
spark.yarn.report.interval 100ms
spark.ui.port 0
"""
SETTINGS = f"[spark]\nmaster = yarn\npython = {sys.executable}\nexecutor_cores = 1\nexecutor_mib = 900\n"
STEPS = ["--step1", "--step2", "--step3", "--step4", "--step5", "--step6", "--stusab", "de"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[YarnCluster]:
    made = cluster_or_skip(tmp_path_factory.mktemp("yarn"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def state_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic state of 3,000 people in two counties."""
    folder = tmp_path_factory.mktemp("zips")
    shape = ["--people", "3000", "--counties", "2", "--tracts", "4", "--seed", "3"]
    command = ["bench/make_state.py", "-q", "--stusab", "de", *shape, "--out", str(folder)]
    subprocess.run([sys.executable, *command], cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    return folder / "de2010.sf1.zip"


@dataclass
class Operator:
    """Somebody with a checkout, a settings file and an environment; all that he types works on one experiment."""

    folder: Path
    env: dict[str, str]

    @classmethod
    def at(cls, folder: Path, cluster: YarnCluster, settings: str = SETTINGS, **env: str) -> "Operator":
        """``folder`` is new; the files of the experiment lie there, unless ``env`` says otherwise."""
        folder.mkdir(exist_ok=True)
        (folder / "config.ini").write_text(settings, encoding="utf-8")
        defaults = DEFAULTS.format(jars=pyspark_home() / "jars", folder=folder, options=JVM_OPTIONS)
        (folder / "spark-defaults.conf").write_text(defaults, encoding="utf-8")
        found = {name: value for name, value in os.environ.items() if not name.startswith(("MYSQL_", "AWS_", "SPARK_"))}
        found |= {"DAS_S3ROOT": str(folder), "DBRECON_CONFIG": str(folder / "config.ini"), "SPARK_CONF_DIR": str(folder)}
        found |= {"HADOOP_CONF_DIR": str(cluster.conf), "SPARK_LOCAL_IP": "127.0.0.1", "REIDENT": R}
        return cls(folder, found | env)

    @property
    def said(self) -> str:
        """What the last command said."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        with open(self.folder / "log", "wb") as log:
            command = [sys.executable, "dbrtool.py", *words]
            return subprocess.Popen(command, cwd=CHECKOUT, env=self.env, stdout=log, stderr=log, start_new_session=True)

    def types(self, *words: str) -> int:
        """Type a command, and wait for its end; its exit code."""
        return self.ends(self.start(*words))

    def ends(self, run: "subprocess.Popen[bytes]") -> int:
        """Wait for the end of a command; its exit code."""
        try:
            return run.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"no end of it: {self.said[-3000:]}")
        finally:
            run.kill()

    def brings(self, state_zip: Path) -> None:
        """Register the experiment, and put the state's zip where it belongs."""
        assert self.types("--register", R) == 0
        root = self.env["DAS_S3ROOT"]
        if root.startswith("s3://"):
            bucket, _, prefix = root.removeprefix("s3://").partition("/")
            client(self.env["AWS_ENDPOINT_URL"]).upload_file(str(state_zip), bucket, f"{prefix}/2010-re/{R}/dist/{state_zip.name}")
        else:
            dist = Path(root) / "2010-re" / R / "dist"
            dist.mkdir(parents=True, exist_ok=True)
            shutil.copy(state_zip, dist)

    def files(self) -> dict[str, bytes]:
        """All files that are published, by name."""
        root = self.env["DAS_S3ROOT"]
        if not root.startswith("s3://"):
            work = Path(root) / "2010-re" / R / "work"
            paths = [path for path in work.rglob("*") if path.is_file() and not path.name.startswith(".")]
            return {str(path.relative_to(work)): path.read_bytes() for path in paths}
        bucket, _, prefix = root.removeprefix("s3://").partition("/")
        server, start = client(self.env["AWS_ENDPOINT_URL"]), f"{prefix}/2010-re/{R}/work/"
        found = server.list_objects_v2(Bucket=bucket, Prefix=start)["Contents"]
        return {item["Key"].removeprefix(start): server.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found}

    def ledger(self) -> Ledger:
        return open_ledger(Config.load(str(self.folder / "config.ini"), env={"DAS_S3ROOT": str(self.folder)}))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, cluster: YarnCluster, state_zip: Path) -> dict[str, bytes]:
    """The files that workflow 1 makes."""
    here = Operator.at(tmp_path_factory.mktemp("here"), cluster)
    here.brings(state_zip)
    assert here.types("--step1", "--step2", "--stusab", "de") == 0
    assert here.types("--run", "--step6") == 0
    return here.files()


def differing(made: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """The files that are not the same, by name."""
    return sorted(name for name in made.keys() | expected.keys() if made.get(name) != expected.get(name))


def everything_shown(who: Operator, cluster: YarnCluster) -> dict[str, str]:
    """YARN's and Spark's pages about the application at work, all processes' command lines, and an executor's log."""
    found = re.search(r"application (application_\w+).*its page is (http\S+)", who.said)
    assert found is not None, who.said
    name, address = found.groups()
    shown = {path: cluster.page(path) for path in ("cluster/apps", f"cluster/app/{name}", "conf", "ws/v1/cluster/apps")}
    shown |= {path: page(f"{address}/{path}") for path in ("environment/", "executors/", f"api/v1/applications/{name}/environment")}
    executors: list[dict[str, Any]] = json.loads(page(f"{address}/api/v1/applications/{name}/executors"))
    log = next(executor["executorLogs"]["stderr"] for executor in executors if executor["id"] != "driver")
    shown[log] = page(log.replace("start=-4096", "start=0"))
    assert "Successfully registered with driver" in shown[log]
    shown["processes"] = "\n".join(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    return shown


def page(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return str(answer.read().decode("utf-8", errors="replace"))


def test_steps_1_to_6_with_packed_packages_are_workflow_1_s_though_a_container_is_killed_and_no_page_has_a_secret(
    cluster: YarnCluster, state_zip: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """The executors' Python has none of our packages: they come with the archive that --spark_pack makes."""
    python, packed = tmp_path / "venv/bin/python", tmp_path / "env.tar.gz"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    settings = SETTINGS.replace(sys.executable, str(python)) + f"environment = {packed}\n"
    who = Operator.at(tmp_path, cluster, settings, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY=SECRET)
    assert who.types("--spark_pack", str(packed)) == 0
    who.brings(state_zip)
    run = who.start("--spark", *STEPS)
    wait_for(lambda: "geofile_de.csv" in who.said or run.poll() is not None, "step 1", END_SECONDS)
    executor = cluster.executors()[0]
    executor.suspend()  # so that nothing goes on while the pages are read
    pages = everything_shown(who, cluster)
    executor.kill()
    assert who.ends(run) == 0, who.said
    assert differing(who.files(), expected) == []
    assert [name for name, text in pages.items() if SECRET in text] == []
    assert [path for path in cluster.container_files() if SECRET in path.read_text(errors="replace")] == []
    newest = cluster.applications()[0]
    assert (newest["state"], newest["finalStatus"]) == ("FINISHED", "SUCCEEDED")


# What of the settings, what of Spark's defaults, and what is said.
REFUSALS = {
    "memory": ("5000", "", r"of 1 node has 4 cores and 2,048 MiB: set \[spark\] executor_mib"),
    "queue": ("900", "spark.yarn.queue nope", "unknown queue: nope.*: name one of YARN's queues"),
    "small": ("900", "spark.yarn.queue tiny", r"YARN's queue tiny may have \d+ MiB at the most.*: name another queue"),
    "away": ("900", "spark.hadoop.yarn.resourcemanager.address 127.0.0.1:1", "127.0.0.1:1 does not answer .*: start it"),
}


@pytest.mark.parametrize("names", [("memory", "queue"), pytest.param(("small", "away"), marks=pytest.mark.long)], ids="_".join)
def test_what_yarn_can_never_give_is_refused_with_what_to_change(
    cluster: YarnCluster, state_zip: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    cases = {
        name: (SETTINGS.replace("900", mib), default, said) for name, (mib, default, said) in REFUSALS.items() if name in names
    }
    first = Operator.at(tmp_path, cluster)
    first.brings(state_zip)
    assert first.types("--step1", "--step2", "--stusab", "de") == 0
    runs = {}
    for name, (settings, default, _) in cases.items():
        who = Operator.at(tmp_path / name, cluster, settings, DAS_S3ROOT=str(tmp_path))
        with open(who.folder / "spark-defaults.conf", "a", encoding="utf-8") as file:
            file.write(f"{default}\n")
        runs[name] = who, who.start("--spark", "--run")
    for name, (who, run) in runs.items():
        assert who.ends(run) == 8, who.said
        assert re.match(rf"error: .*{cases[name][2]}", who.said.splitlines()[-1]), who.said
    states = first.ledger().tract_states(R, "de")
    assert {(state.status, state.attempts, state.claimed_by) for state in states if state.pop} == {("new", 0, None)}


def held(ledger: Ledger) -> bool:
    """Whether a run holds tracts."""
    return any(tract.claimed_by for tract in ledger.tract_states(R, "de"))


@pytest.mark.long
def test_sigterm_and_ctrl_c_put_back_what_is_not_done_and_the_next_run_goes_on(
    cluster: YarnCluster, state_zip: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    who = Operator.at(tmp_path, cluster)
    with open(tmp_path / "spark-defaults.conf", "a", encoding="utf-8") as file:
        file.write("spark.executor.instances 1\n")
    who.brings(state_zip)
    assert who.types("--step1", "--step2", "--stusab", "de") == 0
    ledger = who.ledger()
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        run = who.start("--spark", "--run")
        wait_for(lambda: "its page is" in who.said or run.poll() is not None, "Spark", END_SECONDS)  # noqa: B023
        executors = cluster.executors()
        for process in executors:  # so that none has done anything yet when the signal comes
            process.suspend()
        wait_for(lambda: held(ledger) or run.poll() is not None, "work", END_SECONDS)  # noqa: B023
        run.send_signal(number)
        if number == signal.SIGTERM:
            wait_for(lambda: "told to stop" in who.said or "stopping:" in who.said or run.poll() is not None, "word of it")  # noqa: B023
            for process in executors:
                process.resume()
        assert who.ends(run) == code, who.said
        states = [tract for tract in ledger.tract_states(R, "de") if tract.pop]
        assert {(state.attempts, state.claimed_by) for state in states} == {(0, None)}
        assert any(state.status != "solved" for state in states)
        wait_for(lambda: cluster.applications()[0]["state"] == "FINISHED", "the end of YARN's application", END_SECONDS)
    assert who.types("--run", "--step6") == 0, who.said  # workflow 1 goes on where workflow 2 was stopped
    assert differing(who.files(), expected) == []


@pytest.mark.long
def test_on_s3_a_node_is_lost_and_no_page_has_a_secret(
    cluster: YarnCluster, state_zip: Path, expected: dict[str, bytes], tmp_path: Path, moto_server: str
) -> None:
    """The node without the application's master holds an executor, for which the other has no room. The last test: the node
    stays lost."""
    cluster.need_all_nodes()
    settings = f"[db]\nsqlite = {tmp_path}/ledger.sqlite3\n{SETTINGS}"
    aws = credentials(moto_server) | {
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "DAS_S3ROOT": f"s3://{fresh_bucket(moto_server)}/some/prefix",
    }
    who = Operator.at(tmp_path, cluster, settings, **aws)
    who.brings(state_zip)
    run = who.start("--spark", *STEPS)
    wait_for(lambda: "its page is" in who.said or run.poll() is not None, "Spark with its executors", END_SECONDS)
    master = cluster.applications()[0]["amHostHttpAddress"].partition(":")[0]
    lost = next(node for node in NODES if node != master)
    assert len(cluster.executors(lost)) == 1
    pages = everything_shown(who, cluster)
    cluster.lose_node(lost)
    assert who.ends(run) == 0, who.said
    assert differing(who.files(), expected) == []
    assert [name for name, text in pages.items() if SECRET in text] == []
    assert [path for path in cluster.container_files() if SECRET in path.read_text(errors="replace")] == []
    with open(tmp_path / "spark-defaults.conf", "a", encoding="utf-8") as file:
        file.write("spark.executor.instances 1\n")
    assert who.types("--spark", "--rescan") == 0, who.said
