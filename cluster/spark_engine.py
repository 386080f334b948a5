"""Spark itself: the session, what is shipped to the executors, and jobs whose answers come back task by task.

The driver is this process (Spark's client mode), so the ledger, its password and the exit code stay here. Secrets that executors
need (credentials of S3, where there is no instance role) are given to Spark's Python workers as their environment: on no command
line, in no property, and so in no web page or event log. PySpark is imported where it is needed: everything else does without.
"""

import contextlib
import importlib.util
import logging
import os
import queue
import re
import shutil
import signal
import sys
import tarfile
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cluster.spark_executor import Answer, do
from dbrecon import HOME, Config, Experiment
from dbrerrors import DBReconError, UsageError

log = logging.getLogger(__name__)

CODE, ENVIRONMENT = "dbrecon_code", "dbrecon_environment"
SHIPPED_TABLES = "shipped_tables.toml"
SHIPPED = ("cluster", "console", "ctools", "recon", "config")
TO_EXECUTORS = ("AWS_", "GRB_")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
JVM_MIB = 640
JVM_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""Spark's own processes have next to nothing to compute here: the quickest start, and the least memory."""
YARN_CORES = 4
PYTHON_WORKER_MIB = 100
LOCAL_TRIES = 4  # what other masters have by default
STOP_SECONDS = 30.0
POLL_SECONDS = 0.1


class SparkError(DBReconError):
    """Spark cannot be started, or has gone away."""


@dataclass(frozen=True)
class Answered:
    """A task of a job is done."""

    job: int
    index: int
    answer: Answer


@dataclass(frozen=True)
class Ended:
    """A job is over; everything that was answered has been reported. ``failure`` is Spark's account if it failed."""

    job: int
    failure: str | None


Event = Answered | Ended


class Engine(Protocol):
    """What the driver needs of Spark."""

    @property
    def slots(self) -> int:
        """How many tasks can run at once, as far as is known now."""

    def submit(self, name: str, work: str, tasks: Sequence[Any]) -> int:
        """Start a job of these tasks, each done by ``work``; returns its number at once."""

    def wait(self, seconds: float) -> list[Event]:
        """What happened, within ``seconds`` at the most."""

    def cancel(self) -> None:
        """Stop all jobs; each then ends as failed."""


def is_local(master: str) -> bool:
    """Whether executors are threads of this machine's driver."""
    return master.startswith("local")


def portable(experiment: Experiment, master: str) -> Experiment:
    """The experiment as executors get it: nothing of the database, and table definitions that are found there."""
    changes: dict[tuple[str, str], str | int | float | None] = {
        ("db", name): None for name in ("mysql_host", "mysql_database", "mysql_user", "mysql_password", "sqlite")
    }
    if not is_local(master):
        changes["sf1", "tables"] = f"{CODE}/{SHIPPED_TABLES}"
    config = experiment.config.with_values(changes)
    return Experiment(experiment.reident, experiment.root, experiment.tables, config)


def properties(config: Config, name: str, need_mib: float, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Spark's properties for an application whose tasks need ``need_mib`` MiB each, beside Spark's own defaults file.

    A standalone master gets executors of one core, so that one fits whatever its workers are, and the memory is that of one
    tract; YARN and others get four cores. Settings beat both.
    """
    master = config.get("spark", "master")
    found = {
        "spark.app.name": name,
        "spark.master": re.sub(r"^local\[(\*|\d+)\]$", rf"local[\1,{LOCAL_TRIES}]", master),
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.extraJavaOptions": JVM_OPTIONS,
        "spark.executor.extraJavaOptions": JVM_OPTIONS,
    }
    if not environment.get("SPARK_CONF_DIR") and not environment.get("SPARK_HOME"):
        quiet = os.path.join(HOME, "config", "spark-log4j2.properties")
        found["spark.driver.extraJavaOptions"] += f" -Dlog4j2.configurationFile=file:{quiet}"
    if folder := config.get("spark", "event_log"):
        found |= {"spark.eventLog.enabled": "true", "spark.eventLog.dir": _folder_uri(folder)}
    if is_local(master):
        return found | {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    standalone = master.startswith("spark://")
    cores = config.get("spark", "executor_cores") or (1 if standalone else YARN_CORES)
    memory = config.get("spark", "executor_mib") or JVM_MIB + cores * round(need_mib + PYTHON_WORKER_MIB)
    found["spark.executor.cores"] = str(cores)
    if standalone:  # there the heap's limit is all that the master reckons with
        found["spark.executor.memory"] = f"{memory}m"
    else:
        found |= {"spark.executor.memory": f"{JVM_MIB}m", "spark.executor.memoryOverhead": f"{max(384, memory - JVM_MIB)}m"}
    return found


def _folder_uri(folder: str) -> str:
    if "://" in folder:
        return folder
    os.makedirs(folder, exist_ok=True)
    return Path(folder).absolute().as_uri()


def executors_environment(config: Config, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What executors' Python workers get into their environment: where the code is, and credentials that this process has."""
    passed = {name: value for name, value in environment.items() if name.startswith(TO_EXECUTORS)}
    local = is_local(config.get("spark", "master"))
    path = HOME if local else CODE + (f"{os.pathsep}{ENVIRONMENT}" if config.get("spark", "environment") else "")
    return passed | ONE_THREAD | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore::FutureWarning"}


def pack_code(tables: str, path: str) -> None:
    """Write the code that executors run, its data files and the product's table definitions to ``path``, a .tar.gz."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for file in sorted(Path(HOME).glob("*.py")):
            archive.add(file, file.name)
        for folder in SHIPPED:
            for file in sorted((Path(HOME) / folder).rglob("*")):
                if file.is_file() and file.suffix in (".py", ".toml", ".csv", ".ini"):
                    archive.add(file, str(file.relative_to(HOME)))
        archive.add(tables, SHIPPED_TABLES)


def find_pyspark(environment: Mapping[str, str] = os.environ) -> None:
    """Make PySpark importable: that of $SPARK_HOME, which is the cluster's own, before an installed one. UsageError without."""
    home = environment.get("SPARK_HOME")
    if home and os.path.isdir(os.path.join(home, "python", "pyspark")):
        zips = sorted(str(path) for path in Path(home, "python", "lib").glob("py4j-*.zip"))
        for path in [os.path.join(home, "python"), *zips]:
            if path not in sys.path:
                sys.path.insert(0, path)
    if importlib.util.find_spec("pyspark") is None:
        raise UsageError("Spark's Python package is not here: install it (make spark), or set SPARK_HOME to the cluster's Spark")
    java = environment.get("JAVA_HOME")
    if shutil.which(os.path.join(java, "bin", "java") if java else "java") is None:
        raise UsageError("Spark needs Java 17 or newer: apt-get install default-jre-headless, or set JAVA_HOME")


class Spark:
    """A Spark application, for the length of a ``with`` block."""

    def __init__(self, config: Config, name: str, need_mib: float, tables: str) -> None:
        """``tables`` is the product's table definitions, a local file. Raises UsageError without Spark, SparkError if it fails."""
        find_pyspark()
        logging.getLogger("py4j").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)  # which is not used here
        from py4j.protocol import Py4JError
        from pyspark import SparkConf, SparkContext
        from pyspark.errors import PySparkRuntimeError

        self._events: queue.Queue[Event] = queue.Queue()
        self._threads: dict[int, threading.Thread] = {}
        self._folder = tempfile.mkdtemp(prefix="dbrecon-spark-")
        found = properties(config, name, need_mib)
        master = config.get("spark", "master")
        if not is_local(master):
            found["spark.archives"] = self._archives(config, tables)
        try:
            with _without_database(), _own_interrupt():
                self._context: Any = SparkContext(conf=SparkConf().setAll(list(found.items())))
        except (PySparkRuntimeError, Py4JError) as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            why = _first_line(str(getattr(error, "java_exception", error)))
            remedy = "see [spark] master, and Spark's messages above"
            raise SparkError(f"Spark at {master} cannot be started ({why}): {remedy}") from error
        self._context.pythonExec = config.get("spark", "python") or sys.executable
        self._context.environment.update(executors_environment(config))
        self._answers: list[Answered] = []
        together: Any = _Together()  # Spark asks for its methods, and no class
        self._accumulator = self._context.accumulator(self._answers, together)
        place = self._context.uiWebUrl
        log.info("Spark %s at %s%s", self._context.version, master, f"; its page is {place}" if place else "")

    def _archives(self, config: Config, tables: str) -> str:
        code = os.path.join(self._folder, "code.tar.gz")
        pack_code(tables, code)
        environment = config.get("spark", "environment")
        return ",".join([f"{code}#{CODE}"] + ([f"{environment}#{ENVIRONMENT}"] if environment else []))

    def __enter__(self) -> "Spark":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        for thread in self._threads.values():
            thread.join(STOP_SECONDS)
        from py4j.protocol import Py4JError

        with contextlib.suppress(Py4JError, OSError):  # it has ended by itself, which was said
            self._context.stop()
        _end_jvm(type(self._context))
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def slots(self) -> int:
        """How many tasks can run at once, as far as is known now. Raises SparkError if Spark has gone away."""
        from py4j.protocol import Py4JError

        try:
            return int(self._context.defaultParallelism)
        except (Py4JError, OSError) as error:
            gone = f"Spark at {self._context.master} has gone away, or was never reached: see its messages above"
            raise SparkError(f"{gone}; what was done stays, run it again") from error

    def submit(self, name: str, work: str, tasks: Sequence[Any]) -> int:
        """Start a job of these tasks, each done by ``work``; returns its number at once. The name is the job's and its stage's."""
        number = len(self._threads)
        thread = threading.Thread(target=self._run, args=(number, name, work, list(tasks)), name=f"spark-{number}", daemon=True)
        self._threads[number] = thread
        thread.start()
        return number

    def wait(self, seconds: float) -> list[Event]:
        """What happened, within ``seconds`` at the most."""
        end = time.monotonic() + seconds
        while True:
            ended: list[Event] = []
            with contextlib.suppress(queue.Empty):
                ended.append(self._events.get(timeout=POLL_SECONDS))
            events = [*self._drain(), *ended]  # a job's last answers are in before its end is
            if events or time.monotonic() >= end:
                return events

    def cancel(self) -> None:
        """Stop all jobs; each then ends as failed."""
        from py4j.protocol import Py4JError

        if any(thread.is_alive() for thread in self._threads.values()):
            with contextlib.suppress(Py4JError, OSError):  # Spark has gone away, and its jobs with it
                self._context.cancelAllJobs()

    def _drain(self) -> Iterator[Event]:
        while self._answers:  # Spark's thread appends meanwhile
            yield self._answers.pop(0)

    def _run(self, number: int, name: str, work: str, tasks: list[Any]) -> None:
        """A job's thread."""
        from py4j.protocol import Py4JError, Py4JJavaError

        failure = None
        try:
            self._context.setJobGroup(f"dbrecon-{number}", name)
            self._context.setLocalProperty("callSite.short", name)
            rdd = self._context.parallelize(list(enumerate(tasks)), len(tasks)).setName(name)
            results = self._context.runJob(rdd, _Runner(number, work, self._accumulator))
        except Py4JJavaError as error:
            failure = str(error.java_exception.getMessage())
        except (Py4JError, OSError, EOFError) as error:  # the JVM is gone
            failure = f"Spark's driver has gone away: {error}"
        else:
            for answered in results:
                self._events.put(answered)  # again, in case that an accumulator's update was lost
        self._events.put(Ended(number, failure))


@dataclass(frozen=True)
class _Runner:
    """What a task of Spark runs: its one element, and the answer at once to the driver, before the job is over."""

    job: int
    work: str
    accumulator: Any

    def __call__(self, tasks: Iterable[tuple[int, Any]]) -> Iterator[Answered]:
        from pyspark import TaskContext

        context = TaskContext.get()
        for index, task in tasks:
            answered = Answered(self.job, index, do(self.work, task, context.attemptNumber() if context else 0))
            self.accumulator.add([answered])
            yield answered


class _Together:
    """How Spark's accumulator adds lists."""

    def zero(self, _value: list[Any]) -> list[Any]:
        """Nothing yet."""
        return []

    def addInPlace(self, value: list[Any], more: list[Any]) -> list[Any]:
        """``value`` with more."""
        value.extend(more)
        return value


@contextlib.contextmanager
def _without_database() -> Iterator[None]:
    """Spark's processes do not inherit the database's password from this one."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("MYSQL_")}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextlib.contextmanager
def _own_interrupt() -> Iterator[None]:
    """Spark's handler of Ctrl-C is put away again: what it does is done when the ``with`` block of the application ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no reason was given"


def _end_jvm(contexts: Any) -> None:
    """End Spark's process if this one has started it: it would live on as long. The next application starts its own."""
    gateway = contexts._gateway
    process = getattr(gateway, "proc", None)
    if process is None:  # spark-submit has started this process, and not the other way round
        return
    gateway.shutdown()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.wait(STOP_SECONDS)
    contexts._gateway = contexts._jvm = None
