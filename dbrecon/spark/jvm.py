"""Spark's own process (a JVM), which PySpark starts: its talk goes through our log, and it ends with us.

``python -m dbrecon.spark.jvm`` makes the archive of the classes that its start loads; ``make spark`` does so. A start takes a third
less time with it.
"""

import contextlib
import logging
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import Any

from dbrecon.spark.setup import HERE_ALONE, JVM_OPTIONS, QUIET, SparkError, class_archive

log = logging.getLogger(__name__)

END_SECONDS = 30.0
LAST_WORDS_SECONDS = 2.0
NOISE = (  # of Spark's own start, about its own start
    "Using incubator modules",
    "Using Spark's default log4j profile",
    "Setting default log level",
    "To adjust logging level",
    "NativeCodeLoader: Unable to load native-hadoop library",
    # and about a start that fails, for which a sentence is said
    "Error initializing SparkContext",
    "before the AM has registered",
    "Stopping a MetricsSystem that is not running",
)
_LEVELS = {"TRACE": logging.DEBUG, "DEBUG": logging.DEBUG, "INFO": logging.DEBUG, "WARN": logging.WARNING,
           "ERROR": logging.ERROR, "FATAL": logging.ERROR}  # fmt: skip
_LEVEL = re.compile(rf"^(?:spark:|[\d/:., T-]*)\s*({'|'.join(_LEVELS)})\s+(.*)$")
_STACK = re.compile(r"^\s+at |^\s*\.\.\. \d+ more|^Caused by: |^java\.|^Exception in thread|^org\.apache\.")


class Jvm:
    """Spark's process, started by :meth:`start`, or by spark-submit, which has then started us."""

    def __init__(self, instead: Mapping[str, Callable[[], None]] | None = None) -> None:
        """``instead``: what is called, in a thread of its own, in the place of saying a line of Spark's that has these words."""
        self._instead = dict(instead or {})
        self.last_error = ""
        """What Spark said of the last error that it logged."""
        self._gateway: Any = None
        self._listener: threading.Thread | None = None

    def start(self, conf: Any) -> Any:
        """PySpark's gateway to a new process, whose properties are ``conf``'s. Raises SparkError."""
        from pyspark.errors import PySparkRuntimeError
        from pyspark.java_gateway import launch_gateway

        reading, writing = os.pipe()
        self._listener = threading.Thread(target=self._listen, args=(reading,), name="spark-talk", daemon=True)
        self._listener.start()
        try:
            # In a process group of its own: a signal to all of ours (Ctrl-C, systemd) is for us to heed.
            with open(writing, "wb") as talk:
                self._gateway = launch_gateway(conf, {"stdout": talk, "stderr": talk, "process_group": 0})
        except PySparkRuntimeError as error:
            self._listener.join(LAST_WORDS_SECONDS)
            why = self.last_error or "see its messages above; it needs Java 17 or newer, and a spark-defaults.conf that is right"
            raise SparkError(f"Spark cannot be started: {why}") from error
        return self._gateway

    def end(self) -> None:
        """End the process if it is ours: it would live on as long as this one."""
        gateway, self._gateway = self._gateway, None
        process: subprocess.Popen[bytes] | None = getattr(gateway, "proc", None)
        if gateway is None or process is None:
            return
        assert process.stdin is not None
        gateway.shutdown()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # it ends when nobody is there
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._listener is not None:
            self._listener.join(LAST_WORDS_SECONDS)

    def break_off(self) -> None:
        """End it in the middle of its start; it removes its temporary files."""
        process: subprocess.Popen[bytes] | None = getattr(self._gateway, "proc", None)
        if process is not None:
            process.terminate()
        self.end()

    def _listen(self, descriptor: int) -> None:
        with open(descriptor, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self.hear(line.rstrip())

    def hear(self, line: str) -> None:
        """One line of its talk: what an operator can act on is said, the rest is for --verbose."""
        found = _LEVEL.match(line)
        if found is not None:
            level, text = _LEVELS[found[1]], found[2]
        else:
            level, text = logging.DEBUG if _STACK.match(line) or not line else logging.WARNING, line
        ours = [heard for words, heard in self._instead.items() if words in line]
        if ours or any(words in line for words in NOISE):
            level = logging.DEBUG
        if level == logging.ERROR:
            self.last_error = text.partition(": ")[2] or text
        elif line.startswith("Exception in thread"):
            self.last_error = line.rpartition("Exception: ")[2]
        log.log(level, "Spark: %s", text)
        for heard in ours:
            heard()


def make_archive() -> None:
    """Start Spark once, have Java write down which classes that took, and put the archive of them into place."""
    from pyspark import SparkConf, SparkContext

    folder = os.path.dirname(class_archive())
    with tempfile.TemporaryDirectory(dir=folder) as name:
        made = os.path.join(name, "spark.jsa")
        options = f"{JVM_OPTIONS} {QUIET} -XX:ArchiveClassesAtExit={made}"
        found = {"spark.app.name": "archive", "spark.master": "local[1]", "spark.driver.extraJavaOptions": options}
        conf = SparkConf().setAll(list((found | HERE_ALONE).items()))
        jvm = Jvm()
        context = SparkContext(conf=conf, gateway=jvm.start(conf))
        context.parallelize([1], 1).map(abs).collect()
        context.stop()
        jvm.end()
        os.replace(made, class_archive())


if __name__ == "__main__":
    make_archive()
