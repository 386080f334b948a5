"""Spark itself: the session, and jobs whose answers come back task by task.

The driver is this process (Spark's client mode), so the ledger, its password and the exit code stay here. PySpark is imported
where it is needed: everything else does without.
"""

import contextlib
import logging
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from dbrecon.ctools.signals import Interrupted, handled, held_back, when_safe
from dbrecon.settings import Config
from dbrecon.spark.executor import Answer, do
from dbrecon.spark.jvm import Jvm
from dbrecon.spark.room import Room, Watch, need, remedy_of, standalone_room, yarn_account, yarn_room
from dbrecon.spark.setup import (
    CODE,
    ENVIRONMENT,
    NO_ROOM,
    SETTINGS,
    STANDALONE,
    SparkError,
    check_master,
    executors_environment,
    find_pyspark,
    is_local,
    pack_code,
    properties,
)

log = logging.getLogger(__name__)

STOP_SECONDS = 30.0
POLL_SECONDS = 0.1
ACCEPTED_SECONDS = 10.0
"""An application that YARN has had for so long without starting it waits for something."""


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

    def at_work(self) -> dict[int, int]:
        """Return how many tasks of each job executors have begun and not ended."""

    def wait(self, seconds: float) -> list[Event]:
        """Return what happened, within ``seconds`` at the most."""

    def cancel(self) -> None:
        """Stop all jobs; each then ends as failed."""


class Spark:
    """A Spark application, for the length of a ``with`` block."""

    def __init__(self, config: Config, name: str, need_mib: float, product: Path) -> None:
        """``product`` is the product's folder. Raises UsageError without Spark, SparkError if it fails."""
        master = config.spark.master
        find_pyspark()
        check_master(master)
        logging.getLogger("py4j").setLevel(logging.CRITICAL)  # what goes wrong is raised too
        logging.getLogger().addFilter(_not_of_py4j)
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)  # which is not used here
        self._events: queue.Queue[Event] = queue.Queue()
        self._threads: dict[int, threading.Thread] = {}
        self._watch = Watch()
        self._jvm = Jvm({NO_ROOM: self._watch.starved})
        self._folder = tempfile.mkdtemp(prefix="dbrecon-spark-")
        log.info("starting Spark at %s", master)
        try:
            self._context = self._start(config, name, need_mib, product)
        except BaseException:
            with held_back(signal.SIGINT, signal.SIGTERM):
                self._jvm.break_off()
                self._clear()
            raise
        self._context.pythonExec = config.spark.python or sys.executable
        self._context.environment.update(executors_environment(config))
        self._answers: list[Answered] = []
        together: Any = _Together()  # Spark asks for its methods, and no class
        self._accumulator = self._context.accumulator(self._answers, together)
        self._need = need(config, need_mib, self._context._jvm)
        place = self._context.uiWebUrl
        where = f"{master}, application {self._context.applicationId}" if master == "yarn" else master
        log.info("Spark %s at %s%s", self._context.version, where, f"; its page is {place}" if place else "")

    def _start(self, config: Config, name: str, need_mib: float, product: Path) -> Any:
        from py4j.protocol import Py4JError, Py4JJavaError
        from pyspark import SparkConf, SparkContext

        found, master = properties(config, name, need_mib), config.spark.master
        if not is_local(master):
            found["spark.archives"] = self._archives(config, product)
        conf = SparkConf().setAll(list(found.items()))
        try:
            with _environment(master), held_back(signal.SIGINT, signal.SIGTERM):
                gateway = self._jvm.start(conf)
            with _own_interrupt(), self._accepted(config, need_mib, gateway, name):
                context = SparkContext(conf=conf, gateway=gateway)
                stopped = context._jsc.sc().isStopped()
        except Py4JJavaError as error:
            why = _first_line(str(error.java_exception))
            raise SparkError(f"Spark at {master} cannot be started ({why}): {remedy_of(why) or SETTINGS}") from None
        except (Py4JError, OSError) as error:
            raise SparkError(f"Spark at {master} cannot be started ({self._jvm.last_error or error}): {SETTINGS}") from None
        if stopped:
            raise SparkError(f"Spark at {master} cannot be started ({self._jvm.last_error}): {SETTINGS}")
        return context

    @contextlib.contextmanager
    def _accepted(self, config: Config, need_mib: float, gateway: Any, name: str) -> Iterator[None]:
        """While YARN has the application and does not start it, say why, once a minute. Raises SparkError if it never will."""
        if config.spark.master != "yarn":
            yield
            return
        found, wanted = yarn_room(gateway), need(config, need_mib, gateway.jvm)
        if refusal := wanted.refusal(found):
            raise SparkError(refusal)
        if not found.nodes:
            self._watch.say(wanted.waiting(found))
        over = threading.Event()
        thread = threading.Thread(target=self._say_why, args=(found.page, name, over), name="spark-accepted", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(STOP_SECONDS)

    def _say_why(self, page: str, name: str, over: threading.Event) -> None:
        while not over.wait(ACCEPTED_SECONDS):
            account = yarn_account(page, name)
            if account is not None and not over.is_set():
                self._watch.say(f"YARN has not started the application yet: {account}")

    def _room(self) -> Room | None:
        """Return what a standalone cluster has; YARN was asked before Spark's start, not again beside Spark's own threads."""
        return standalone_room(self._context) if self._context.master.startswith(STANDALONE) else None

    def _archives(self, config: Config, product: Path) -> str:
        code = os.path.join(self._folder, "code.tar.gz")
        pack_code(product, code)
        environment = config.spark.environment
        return ",".join([f"{code}#{CODE}"] + ([f"{environment}#{ENVIRONMENT}"] if environment else []))

    def __enter__(self) -> "Spark":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop()
        finally:
            self._clear()

    def _clear(self) -> None:
        """PySpark keeps the way to a process that has ended; the next application starts its own."""
        from pyspark import SparkContext

        SparkContext._gateway = SparkContext._jvm = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stop(self) -> None:
        from py4j.protocol import Py4JError

        self.cancel()
        for thread in self._threads.values():
            thread.join(STOP_SECONDS)
        # The server of answers would have us wait for a second. That its connection ends with Spark's process is no error.
        server, self._context._accumulatorServer = self._context._accumulatorServer, None
        server.handle_error = lambda *_: None
        threading.Thread(target=server.shutdown, daemon=True).start()
        with contextlib.suppress(Py4JError, OSError):  # it has ended by itself, which was said
            self._context.stop()
        self._jvm.end()

    @property
    def slots(self) -> int:
        """How many tasks can run at once, as far as is known now. Raises SparkError if Spark has gone away."""
        with self._reached():
            return int(self._context.defaultParallelism)

    def at_work(self) -> dict[int, int]:
        """Return how many tasks of each job executors have begun and not ended. Raises SparkError if Spark has gone away."""
        with self._reached():
            tracker = self._context.statusTracker()
            found = dict.fromkeys((number for number, thread in self._threads.items() if thread.is_alive()), 0)
            for number in found:
                jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(_job_group(number))]
                stages = [tracker.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
                found[number] = sum(stage.numActiveTasks for stage in stages if stage)
            return {number: count for number, count in found.items() if count}

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        from py4j.protocol import Py4JError

        try:
            yield
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
        """Return what happened, within ``seconds`` at the most. Raises SparkError if the cluster can never give executors."""
        self._watch.look(self._need, self._room)
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
        """Run a job in its thread. Whatever happens, the job's end is told."""
        failure: str | None = "it broke off"
        try:
            failure = self._outcome(number, name, work, tasks)
        finally:
            self._events.put(Ended(number, failure))

    def _outcome(self, number: int, name: str, work: str, tasks: list[Any]) -> str | None:
        """Run a job to its end; Spark's account if it failed."""
        from py4j.protocol import Py4JError, Py4JJavaError

        try:
            self._context.setJobGroup(_job_group(number), name)
            self._context.setLocalProperty("callSite.short", name)
            rdd = self._context.parallelize(list(enumerate(tasks)), len(tasks)).setName(name)
            results = self._context.runJob(rdd, _Runner(number, work, self._accumulator))
        except Py4JJavaError as error:
            account = str(error.java_exception.getMessage())
            return self._jvm.last_error or account if "stopped SparkContext" in account else account
        except (Py4JError, OSError, EOFError) as error:  # the JVM is gone
            return f"Spark's driver has gone away: {error}"
        for answered in results:
            self._events.put(answered)  # again, in case that an accumulator's update was lost
        return None


def _job_group(number: int) -> str:
    """By which Spark finds the job of this number."""
    return f"dbrecon-{number}"


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
        """Return nothing yet."""
        return []

    def addInPlace(self, value: list[Any], more: list[Any]) -> list[Any]:  # noqa: N802 - Spark calls it so
        """Return ``value`` with more."""
        value.extend(more)
        return value


@contextlib.contextmanager
def _environment(master: str) -> Iterator[None]:
    """Spark's processes do not inherit the database's password from this one; where all is on this machine, its page too is for
    this machine alone."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("MYSQL_")]:
        del os.environ[name]
    if is_local(master):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _own_interrupt() -> Iterator[None]:
    """Ctrl-C ends Spark's start. Its own handler is put away again: what it does is done when the application's block ends."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted  # a KeyboardInterrupt would be logged by py4j

    try:
        with handled({signal.SIGINT: when_safe(interrupt)}):
            yield
    except Interrupted:
        raise KeyboardInterrupt from None


def _not_of_py4j(record: logging.LogRecord) -> bool:
    """Py4J logs some of what it raises with the root logger."""
    return "py4j" not in record.pathname


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no reason was given"
