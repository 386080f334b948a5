"""A reconstruction on a real Spark: a standalone master with two workers on the loopback interface.

Whatever dies, the result is workflow 1's, byte for byte.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine as Database

from dbrecon.console import rescan
from dbrecon.console.commands import open_ledger
from dbrecon.console.parser import Arguments
from dbrecon.console.spark_run import COUNTIES_PER_SLOT, TRACTS, do_states
from dbrecon.console.step_commands import do_states as do_states_here
from dbrecon.ctools.database import make_engine
from dbrecon.ctools.progress import counted
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.node.assignment import Assignment, Outcome
from dbrecon.node.daemon import run_here
from dbrecon.node.pool import Broken
from dbrecon.place import Place
from dbrecon.recon.product.release import load_release
from dbrecon.settings import Config
from dbrecon.spark.driver import Driver
from dbrecon.spark.engine import Answered, Event, Spark
from dbrecon.spark.plan import People
from dbrecon.spark.setup import JVM_OPTIONS, portable
from dbrecon.spark.task_pool import SparkPool
from dbrecon.steps.prepare import open_experiment
from tests.database.test_dhc import tool
from tests.node_world import R, ledger_with, statuses
from tests.paths import CHECKOUT, SHARED_DATA
from tests.ports import free_port
from tests.spark_tasks import SLEEP_SECONDS
from tests.waiting import wait_for

ALL = frozenset({3, 4, 5})
START_SECONDS = 60
SECRET = "not-for-any-log"
DEFAULTS = """spark.eventLog.compress false
spark.ui.enabled false
spark.speculation true
spark.speculation.interval 100ms
spark.speculation.quantile 0.5
spark.speculation.multiplier 1.5
spark.speculation.minTaskRuntime 2s
"""
SETTINGS = """[spark]
master = spark://127.0.0.1:{port}
executor_mib = 700
event_log = {folder}/events
[run]
max_attempts = 2
retry_seconds = 0
"""


@dataclass
class SparkCluster:
    """A master and two workers of one core each, as processes of the test."""

    folder: Path
    port: int
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(self) -> None:
        self._launch("org.apache.spark.deploy.master.Master", "127.0.0.1", "--port", str(self.port))
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.processes[0].poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"Spark's master did not start: {(self.folder / 'log').read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        for number in (1, 2):
            work = ["--cores", "1", "--memory", "1g", "--work-dir", str(self.folder / f"worker{number}")]
            self._launch("org.apache.spark.deploy.worker.Worker", f"127.0.0.{number + 1}", *work, f"spark://127.0.0.1:{self.port}")

    def _launch(self, name: str, address: str, *arguments: str) -> None:
        """Each worker has an address of its own: Spark never copies a task to the same host."""
        import pyspark

        home = str(Path(pyspark.__file__).parent)
        # The tests' own work is found beside this checkout; the product's code comes first, as it was shipped.
        env = os.environ | {"SPARK_HOME": home, "SPARK_LOCAL_IP": address, "PYTHONPATH": str(CHECKOUT)}
        env |= {"JDK_JAVA_OPTIONS": f"-Djava.io.tmpdir={self.folder}"}  # one that is killed leaves its files
        env |= {"SPARK_DAEMON_MEMORY": "256m", "SPARK_DAEMON_JAVA_OPTS": f"{JVM_OPTIONS} -Dspark.ui.enabled=false"}
        command = [f"{home}/bin/spark-class", name, "--host", address, "--webui-port", "0", *arguments]
        with open(self.folder / "log", "ab") as log:
            made = subprocess.Popen(command, cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True)
        self.processes.append(made)

    def _answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def executors(self) -> list[psutil.Process]:
        """The executors' processes, now."""
        children = [child for process in self.processes[1:] for child in psutil.Process(process.pid).children()]
        alive = [process for process in children if process.status() != psutil.STATUS_ZOMBIE]
        return [process for process in alive if "CoarseGrainedExecutorBackend" in " ".join(process.cmdline())]

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(timeout=START_SECONDS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    if shutil.which("java") is None:
        pytest.fail("these tests need Java: apt-get install default-jre-headless (make test does it)")
    made = SparkCluster(tmp_path_factory.mktemp("spark"), free_port())
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def config(cluster: SparkCluster) -> Config:
    ini = cluster.folder / "config.ini"
    ini.write_text(SETTINGS.format(port=cluster.port, folder=cluster.folder), encoding="utf-8")
    return Config.load(str(ini), env={"DAS_S3ROOT": str(cluster.folder / "root")})


@pytest.fixture(scope="module")
def spark(cluster: SparkCluster, config: Config) -> Iterator[Spark]:
    """One application for all tests: its start takes longest. It is given a secret of each kind."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("MYSQL_PASSWORD", SECRET)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        (cluster.folder / "spark-defaults.conf").write_text(DEFAULTS, encoding="utf-8")
        patch.setenv("SPARK_CONF_DIR", str(cluster.folder))
        yield stack.enter_context(Spark(config, "dbrecon test", 200.0, load_release().folder))


@dataclass
class Rough:
    """Spark, each of whose answers comes twice, as by speculation; ``blow`` is dealt after the first one."""

    spark: Spark
    blow: Callable[[], None] | None = None

    @property
    def slots(self) -> int:
        return self.spark.slots

    def submit(self, name: str, work: str, tasks: Any) -> int:
        return self.spark.submit(name, work, tasks)

    def at_work(self) -> dict[int, int]:
        return self.spark.at_work()

    def wait(self, seconds: float) -> list[Event]:
        events = self.spark.wait(seconds)
        if self.blow is not None and events:
            self.blow()
            self.blow = None
        return [event for event in events for _ in range(2 if isinstance(event, Answered) else 1)]

    def cancel(self) -> None:
        self.spark.cancel()


def files_of(experiment: Experiment) -> dict[str, bytes]:
    """All files that are published; a process that was killed leaves what it was writing under a hidden temporary name."""
    base = Path(experiment.base)
    paths = [path for path in (base / "work").rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(base)): path.read_bytes() for path in paths}


def registered(config: Config, reident: str, zips: list[Path]) -> tuple[Ledger, Experiment]:
    ledger = open_ledger(config)
    ledger.register(reident, "all", "2010_sf1")
    experiment = open_experiment(ledger, config, reident)
    os.makedirs(experiment.dist)
    for path in zips:
        shutil.copy(path, experiment.dist)
    return ledger, experiment


@pytest.fixture(scope="module")
def zips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A synthetic state of 12,000 people, and the real tracts where they are."""
    folder = tmp_path_factory.mktemp("zips")
    command = ["bench/make_state.py", "-q", "--stusab", "de", "--people", "12000", "--seed", "3", "--out", str(folder)]
    subprocess.run([sys.executable, *command], cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    return [*folder.glob("*.zip"), *sorted((SHARED_DATA / "real_tracts").glob("*.zip"))]


def test_steps_1_to_6_are_workflow_1_s_byte_for_byte_though_an_executor_is_killed(
    spark: Spark, cluster: SparkCluster, config: Config, zips: list[Path]
) -> None:
    ledger, experiment = registered(config, "one", zips)
    do_states_here([1, 2], experiment, ledger, ["all"], force=False)
    assert run_here(ledger, config, "one", Place(), ALL | {6}) == 0

    ledger, other = registered(config, "two", zips)
    engine = Rough(spark)
    do_states(engine, ledger, other, shipped(other), [1, 2], [], force=False)
    engine.blow = lambda: cluster.executors()[0].send_signal(signal.SIGKILL)
    outcome = Driver(ledger, engine, other, shipped(other), TRACTS, Assignment(ALL | {6})).run()

    assert engine.blow is None
    assert outcome.quarantined == []
    states = [state for stusab in ledger.stusabs("two") for state in ledger.tract_states("two", stusab) if state.pop]
    assert outcome.solved == len(states) > 0
    assert {(state.status, state.lp_count, state.sol_count, state.claimed_by) for state in states} == {("solved", 1, 1, None)}
    made, expected = files_of(other), files_of(experiment)
    assert sorted(made) == sorted(expected)
    assert any("/certainty_" in name for name in made)
    assert [name for name in expected if made[name] != expected[name]] == []


def test_a_state_whose_zip_is_bad_does_not_stop_the_others(spark: Spark, config: Config, zips: list[Path]) -> None:
    ledger, experiment = registered(config, "bad", zips[:1])
    Path(experiment.dist_zip("ri")).write_text("no zip", encoding="utf-8")
    with pytest.raises(InputError, match="1 of 2 states failed"):
        do_states(spark, ledger, experiment, shipped(experiment), [1, 2], [], force=False)
    assert ledger.stusabs("bad") == ["de"]
    assert None not in ledger.county_files("bad", "de").values()


def test_a_rescan_by_spark_finds_what_one_without_finds(
    spark: Spark, config: Config, zips: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A solution is damaged: its tract goes back to work."""
    ledger, experiment = registered(config, "checked", zips[-1:])
    do_states_here([1, 2], experiment, ledger, ["all"], force=False)
    assert run_here(ledger, config, "checked", Place(), ALL) == 0
    solution = max(Path(experiment.base).rglob("*.sol.gz"))
    solution.write_bytes(solution.read_bytes()[:-20])
    args = Arguments(reident="checked", stusab=None, county=None, tract=None, dry_run=True, verbose=True, product=None)
    capsys.readouterr()
    codes, messages = [], []
    for pool in (None, rescan_pool(spark)):
        codes.append(rescan.rescan(args, config, pool))
        messages.append(capsys.readouterr().out)
    assert codes == [3, 3]  # something is wrong, and nothing was mended
    assert messages[0] == messages[1]
    assert str(solution) in messages[0]


def rescan_pool(spark: Spark, ship: Callable[[Any], Any] | None = None) -> SparkPool:
    ship = ship or (lambda task: replace(task, experiment=shipped(task.experiment)))
    return SparkPool(spark, lambda tasks: f"rescan: {len(tasks)} tasks", rescan.WORK, ship, lambda _: 1.0, COUNTIES_PER_SLOT)


def shipped(experiment: Experiment) -> Experiment:
    return portable(experiment, experiment.config.spark.master)


def run(spark: Spark | Rough, database: Database, root: Path, tracts: list[str], *options: Any) -> tuple[Ledger, Outcome]:
    """A driver with the tests' own work, on tracts of one county with 100, 200, ... people."""
    ledger = ledger_with(database, tracts)
    config = Config.load(os.fspath(root / "config.ini"), env={"DAS_S3ROOT": str(root)})
    experiment = Experiment.make(R, config)
    outcome = Driver(ledger, spark, experiment, experiment, "tests.spark_tasks:serve", *(options or [Assignment(ALL)])).run()
    return ledger, outcome


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    made = make_engine(sqlite_path=str(tmp_path / "ledger.sqlite3"))
    yield made
    made.dispose()


@pytest.fixture
def root(tmp_path: Path, cluster: SparkCluster) -> Path:
    shutil.copy(cluster.folder / "config.ini", tmp_path)
    return tmp_path


def test_tracts_that_fail_or_kill_are_quarantined_with_their_error_and_the_rest_is_done(
    spark: Spark, sqlite: Database, root: Path
) -> None:
    """000404 meets a full disk once and 000668 kills Spark's Python worker once: Spark tries their tasks again. 000667 kills it
    each time."""
    bad = {"000500": "the tables contradict each other", "000666": "ended by SIGKILL", "000667": "Spark gave up its task"}
    good = ["000100", "000200", "000300", "000404", "000668"]
    ledger, outcome = run(spark, sqlite, root, sorted([*good, *bad]))
    assert statuses(ledger) == dict.fromkeys(good, "solved") | dict.fromkeys(bad, "quarantined")
    errors = {tract_row.tract: tract_row.error for _, tract_row in outcome.quarantined}
    assert sorted(errors) == sorted(bad)
    assert [tract for tract, error in errors.items() if bad[tract] not in error] == []
    assert (root / "full").exists()
    assert outcome.node_failure is None
    assert all(state.claimed_by is None for state in ledger.tract_states(R, "oh"))


def test_a_task_that_hangs_is_done_by_its_copy_and_ended(spark: Spark, sqlite: Database, root: Path) -> None:
    """Speculative execution is on. The first who gets 000777 sleeps for longer than the test may last."""
    tracts = [f"{number:06d}" for number in range(100, 140)] + ["000777"]
    begin = time.monotonic()
    ledger, outcome = run(spark, sqlite, root, tracts)
    assert time.monotonic() - begin < SLEEP_SECONDS
    assert outcome.solved == len(tracts)
    assert {(tract.status, tract.sol_count, tract.attempts) for tract in ledger.tract_states(R, "oh")} == {("solved", 1, 0)}
    sleeper = int((root / "sleeper").read_text())
    wait_for(lambda: not psutil.pid_exists(sleeper), "the end of the process that hung")


def test_sigterm_finishes_what_executors_are_doing_and_puts_the_rest_back(spark: Spark, sqlite: Database, root: Path) -> None:
    tracts = [f"9{number:05d}" for number in range(80)]
    ledger, outcome = run(Rough(spark, lambda: os.kill(os.getpid(), signal.SIGTERM)), sqlite, root, tracts)
    assert outcome.ended == "told to stop"
    assert 0 < outcome.solved < len(tracts)
    assert outcome.left[0] == len(tracts) - outcome.solved
    states = [(tract.status, tract.claimed_by) for tract in ledger.tract_states(R, "oh")]
    assert states.count(("solved", None)) == outcome.solved
    assert states.count(("new", None)) == outcome.left[0]


def test_tasks_that_executors_have_begun_are_known_from_those_that_wait(spark: Spark, tmp_path: Path) -> None:
    """Two executors of a core each; what SIGTERM finishes goes by this."""
    gate = tmp_path / "gate"
    job = spark.submit("gate", "tests.spark_tasks:serve_gate", [str(gate)] * 5)
    wait_for(lambda: spark.at_work() == {job: 2}, "the begin of two tasks")
    gate.touch()
    ended(spark, job)
    wait_for(lambda: spark.at_work() == {}, "the end of all tasks")


def start_run(cluster: SparkCluster, zips: list[Path], folder: Path, executor_mib: int) -> "tuple[Ledger, subprocess.Popen[bytes]]":
    """Another application at the same master, whose talk goes to ``folder / "log"``. Spark says that there is no room after
    ``spark.starvation.timeout``."""
    ini = folder / "config.ini"
    ini.write_text(f"[spark]\nmaster = spark://127.0.0.1:{cluster.port}\nexecutor_mib = {executor_mib}\n", encoding="utf-8")
    (folder / "spark-defaults.conf").write_text("spark.ui.enabled false\nspark.starvation.timeout 500ms\n", encoding="utf-8")
    ledger, experiment = registered(Config.load(str(ini), env={"DAS_S3ROOT": str(folder)}), R, zips[-1:])
    do_states_here([1, 2], experiment, ledger, ["all"], force=False)
    env = {name: value for name, value in os.environ.items() if not name.startswith("MYSQL_")}
    env |= {"DAS_S3ROOT": str(folder), "DBRECON_CONFIG": str(ini), "SPARK_CONF_DIR": str(folder), "SPARK_LOCAL_IP": "127.0.0.1"}
    with open(folder / "log", "wb") as log:
        command = [sys.executable, "dbrtool.py", "--reident", R, "--spark", "--run"]
        return ledger, subprocess.Popen(command, cwd=CHECKOUT, env=env, stdout=log, stderr=log)


def all_put_back(ledger: Ledger) -> int:
    """How many tracts there are, none of which was done, or is held or blamed."""
    states = [tract for stusab in ledger.stusabs(R) for tract in ledger.tract_states(R, stusab) if tract.pop]
    assert {(state.status, state.attempts, state.claimed_by) for state in states} == {("new", 0, None)}
    return len(states)


def test_sigterm_ends_a_run_that_has_no_executors_at_once_and_puts_all_back(
    spark: Spark, cluster: SparkCluster, zips: list[Path], tmp_path: Path
) -> None:
    """The other application's executors leave no room for one of this size."""
    assert spark.slots
    ledger, run = start_run(cluster, zips, tmp_path, executor_mib=1000)
    said = tmp_path / "log"
    try:
        wait_for(lambda: "an executor needs 1 core and 1,000 MiB, and no node has as much free" in said.read_text(), "word of it")
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=START_SECONDS) == 0
    finally:
        run.kill()
    number = counted(all_put_back(ledger), "tract")
    assert f"nothing was done; told to stop, {number}" in said.read_text()


def test_a_run_whose_executors_no_worker_can_ever_hold_ends_with_what_to_change(
    cluster: SparkCluster, zips: list[Path], tmp_path: Path
) -> None:
    ledger, run = start_run(cluster, zips, tmp_path, executor_mib=5000)
    try:
        assert run.wait(timeout=START_SECONDS) == 8
    finally:
        run.kill()
    all_put_back(ledger)
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last == (
        "error: an executor needs 1 core and 5,000 MiB, and the biggest of 2 nodes has 1 core and 1,024 MiB: "
        "set [spark] executor_mib or executor_cores to less, or give the cluster a bigger node"
    )


def ended(spark: Spark, job: int) -> list[Answered]:
    """Waits for the job's end; its answers."""
    events: list[Event] = []
    while not any(event.job == job and not isinstance(event, Answered) for event in events):
        events += spark.wait(10)
    return [event for event in events if isinstance(event, Answered)]


def test_a_range_of_people_and_a_limit_narrow_the_work(spark: Spark, engine: Database, root: Path) -> None:
    tracts = [f"{number:06d}" for number in range(100, 110)]
    ledger, limited = run(spark, engine, root, tracts, Assignment(ALL, limit=1), People(300, 600))
    assert (limited.solved, limited.ended, limited.left) == (1, "the limit is reached", (3, 0))
    experiment = Experiment.make(R, Config.load(os.fspath(root / "config.ini"), env={"DAS_S3ROOT": str(root)}))
    work = "tests.spark_tasks:serve"
    outcome = Driver(ledger, spark, experiment, experiment, work, Assignment(ALL), People(300, 600)).run()
    assert outcome.solved == 3
    assert [tract for tract, status in statuses(ledger).items() if status == "solved"] == tracts[2:6]
    more = Driver(ledger, spark, experiment, experiment, work, Assignment(ALL, limit=2)).run()
    assert (more.solved, more.left) == (2, (4, 0))


def test_work_that_executors_cannot_import_stops_the_run_and_harms_no_tract(spark: Spark, sqlite: Database, root: Path) -> None:
    ledger = ledger_with(sqlite, ["000100", "000200"])
    experiment = Experiment.make(R, Config.load(os.fspath(root / "config.ini"), env={"DAS_S3ROOT": str(root)}))
    outcome = Driver(ledger, spark, experiment, experiment, "no_such_module:serve", Assignment(ALL)).run()
    assert outcome.node_failure is not None
    assert "No module named 'no_such_module'" in outcome.node_failure.message
    assert outcome.node_failure.exit_code == 8
    assert {(s.status, s.attempts, s.claimed_by) for s in ledger.tract_states(R, "oh")} == {("new", 0, None)}


def test_a_python_that_executors_do_not_have_ends_a_run_with_8_and_harms_no_tract(
    spark: Spark, sqlite: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spark._context, "pythonExec", "/nope/python")
    ledger, outcome = run(spark, sqlite, root, ["000100", "000200"])
    assert outcome.node_failure is not None
    assert "/nope/python" in outcome.node_failure.message
    assert outcome.node_failure.exit_code == 8
    assert {(s.status, s.attempts, s.claimed_by) for s in ledger.tract_states(R, "oh")} == {("new", 0, None)}


def test_a_python_that_executors_do_not_have_is_no_county_s_fault(spark: Spark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark._context, "pythonExec", "/nope/python")
    pool = rescan_pool(spark, lambda task: task)
    pool.submit("a county")
    events: list[Any] = []
    while not events:
        events += pool.wait(10)
    assert [type(event) for event in events] == [Broken]
    assert re.search(r"/nope/python.*see \[spark\] python", events[0].failure.message)


def test_executors_get_s3_s_secret_as_environment_and_the_database_s_never(spark: Spark) -> None:
    job = spark.submit("environment", "tests.spark_tasks:serve_environment", [["AWS_SECRET_ACCESS_KEY", "MYSQL_PASSWORD"]])
    said = {event_row for event in ended(spark, job) for event_row in map(repr, event.answer.said)}
    assert said == {repr({"AWS_SECRET_ACCESS_KEY": SECRET, "MYSQL_PASSWORD": None})}


def test_no_command_line_and_no_event_log_has_a_secret_and_jobs_have_names(
    spark: Spark, cluster: SparkCluster, config: Config
) -> None:
    """The event log is read as it is written, after all tests above."""
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert [line for line in lines if SECRET in line] == []
    spark._context._jsc.sc().listenerBus().waitUntilEmpty()
    text = "".join(path.read_text(encoding="utf-8") for path in (cluster.folder / "events").rglob("events_*"))
    assert SECRET not in text
    assert '"spark.job.description":"two: steps 3 and 4 of' in text
    assert '"Stage Name":"two: step 1 of' in text


def test_a_product_of_ones_own_is_reconstructed_on_spark_as_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine alone, by the commands that an operator types: other tables, other names of files."""
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    product = str(CHECKOUT / "tests" / "products" / "small_area")
    for reident, how in (("one", []), ("two", ["--spark"])):
        tool(tmp_path, "dbrtool.py", "--register", reident, "--product", product)
        dist = tmp_path / "small-re" / reident / "dist"
        tool(tmp_path, "bench/make_state.py", "-q", "--product", product, "--stusab", "de", "--people", "1000", "--out", str(dist))
        tool(tmp_path, "dbrtool.py", "-q", "--reident", reident, "--step1", "--step2")
        tool(tmp_path, "dbrtool.py", "-q", "--reident", reident, *how, "--run")
    made, expected = (
        {path.relative_to(base): path.read_bytes() for path in base.rglob("*") if path.is_file()}
        for base in (tmp_path / "small-re" / reident / "work" for reident in ("two", "one"))
    )
    assert made == expected
    assert any(path.name.startswith("synth_out_") for path in made)
