"""What a Spark application of ours needs before it starts: PySpark and Java, a master that answers, properties, what is shipped.

Secrets that executors need (credentials of S3, where there is no instance role) are given to Spark's Python workers as their
environment: on no command line, in no property, and so in no web page or event log.
"""

import importlib.util
import logging
import os
import re
import shutil
import socket
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dbrecon.ctools.extras import remedy
from dbrecon.ctools.proc import memory
from dbrecon.errors import RemoteError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.paths import CONFIG, IMPORT_ROOT, INSTALLED, PACKAGE
from dbrecon.settings import Config, DashboardSettings, DatabaseSettings

log = logging.getLogger(__name__)

CODE, ENVIRONMENT = "dbrecon_code", "dbrecon_environment"
SHIPPED_PRODUCT = "shipped_product"
SHIPPED = (".py", ".toml", ".csv", ".ini")
TO_EXECUTORS = ("AWS_", "GRB_")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
JVM_MIB = 640
JVM_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""Spark's own processes have next to nothing to compute here: the quickest start, and the least memory."""
QUIET = "-Xlog:disable -Xlog:all=error:stderr"  # an archive of classes that does not fit (another Java, say) is passed over
HERE_ALONE = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
YARN_CORES = 4
PYTHON_WORKER_MIB = 100
LOCAL_TRIES = 4  # what other masters have by default
MASTERS = re.compile(r"local(\[(\*|[1-9]\d*)(,\d+)?\])?|spark://.+|yarn")
STANDALONE, STANDALONE_PORT = "spark://", 7077
CONNECT_SECONDS = 5.0
NO_ROOM = "has not accepted any resources"
SETTINGS = "see [spark] in the settings, and Spark's own spark-defaults.conf"


class SparkError(RemoteError):
    """Spark cannot be started, or has gone away."""


def is_local(master: str) -> bool:
    """Return whether executors are threads of this machine's driver."""
    return master.startswith("local")


def portable(experiment: Experiment, master: str) -> Experiment:
    """Return the experiment as executors get it: no secrets, nothing of the database, and table definitions that are found
    there."""
    config = replace(experiment.config, db=DatabaseSettings(), dashboard=DashboardSettings())
    product = experiment.product if is_local(master) else f"{CODE}/{SHIPPED_PRODUCT}"
    return replace(experiment, config=config, product=product)


def local_master(master: str, need_mib: float, cores: int, free_mib: float) -> str:
    """``local``, ``local[N]`` or ``local[*]`` with Spark's usual number of tries; and for ``*`` as many of ``cores`` as tasks of
    ``need_mib`` have room in ``free_mib``."""
    match = re.fullmatch(r"local(?:\[(\*|\d+)\])?", master)
    if match is None:
        return master
    if match[1] != "*":
        return f"local[{match[1] or 1},{LOCAL_TRIES}]"
    room = max(1, int((free_mib - JVM_MIB) / (need_mib + PYTHON_WORKER_MIB)))
    if room < cores:
        log.info("%d of %d cores are used: a task may need %.0f MiB, and %.0f are free", room, cores, need_mib, free_mib)
    return f"local[{min(room, cores)},{LOCAL_TRIES}]"


def properties(config: Config, name: str, need_mib: float, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Spark's properties for an application whose tasks need ``need_mib`` MiB each, beside Spark's own defaults file.

    ``local[*]`` gets as many of this machine's cores as its free memory allows. A standalone master gets executors of one core, so
    that one fits whatever its workers are, and the memory is that of one tract; YARN and others get four cores. Settings beat both.
    """
    master = config.spark.master
    found = {
        "spark.app.name": name,
        "spark.master": local_master(master, need_mib, len(os.sched_getaffinity(0)), memory().free_mib),
        "spark.ui.showConsoleProgress": "false",
        "spark.ui.killEnabled": "false",  # whoever can see its page could end the run
        "spark.ui.liveUpdate.period": "0",  # Spark's status tracker lags behind by as much, and more: it decides what is finished
        "spark.driver.extraJavaOptions": JVM_OPTIONS,
        "spark.executor.extraJavaOptions": JVM_OPTIONS,
    }
    if not environment.get("SPARK_CONF_DIR") and not environment.get("SPARK_HOME"):
        quiet = CONFIG / "spark-log4j2.properties"
        found["spark.driver.extraJavaOptions"] += f" -Dlog4j2.configurationFile=file:{quiet}"
    if folder := config.spark.event_log:
        found |= {"spark.eventLog.enabled": "true", "spark.eventLog.dir": _folder_uri(folder)}
    if uses_archive(environment):
        found["spark.driver.extraJavaOptions"] += f" -XX:SharedArchiveFile={class_archive()} {QUIET}"
    if is_local(master):
        return found | HERE_ALONE
    cores, mib = executor_size(config, need_mib)
    found["spark.executor.cores"] = str(cores)
    if master.startswith(STANDALONE):  # there the heap's limit is all that the master reckons with
        found["spark.executor.memory"] = f"{mib}m"
    else:
        found |= {"spark.executor.memory": f"{JVM_MIB}m", "spark.executor.memoryOverhead": f"{max(384, mib - JVM_MIB)}m"}
    return found


def executor_size(config: Config, need_mib: float) -> tuple[int, int]:
    """Return cores and MiB of an executor whose tasks need ``need_mib`` each."""
    standalone = config.spark.master.startswith(STANDALONE)
    cores = config.spark.executor_cores or (1 if standalone else YARN_CORES)
    return cores, config.spark.executor_mib or JVM_MIB + cores * round(need_mib + PYTHON_WORKER_MIB)


def _folder_uri(folder: str) -> str:
    if "://" in folder:
        return folder
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(f"[spark] event_log = {folder} cannot be made ({error.strerror}): name another folder") from error
    return Path(folder).absolute().as_uri()


def executors_environment(config: Config, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what executors' Python workers get into their environment: where the code is, and credentials that this process
    has."""
    passed = {name: value for name, value in environment.items() if name.startswith(TO_EXECUTORS)}
    local = is_local(config.spark.master)
    path = str(IMPORT_ROOT) if local else CODE + (f"{os.pathsep}{ENVIRONMENT}" if config.spark.environment else "")
    return passed | ONE_THREAD | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore::FutureWarning"}


def pack_code(product: Path, path: str) -> None:
    """Write the code that executors run, its data files and the product's folder to ``path``, a .tar.gz."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for folder in [PACKAGE] if INSTALLED else [PACKAGE, CONFIG]:
            for file in sorted(folder.rglob("*")):
                if file.is_file() and file.suffix in SHIPPED:
                    archive.add(file, str(file.relative_to(folder.parent)))
        for file in sorted(product.iterdir()):
            if file.suffix in SHIPPED:
                archive.add(file, f"{SHIPPED_PRODUCT}/{file.name}")


def find_pyspark(environment: Mapping[str, str] = os.environ) -> None:
    """Make PySpark importable: that of $SPARK_HOME, which is the cluster's own, before an installed one. UsageError without."""
    home = environment.get("SPARK_HOME")
    if home and not os.path.exists(os.path.join(home, "bin", "spark-submit")):
        raise UsageError(f"SPARK_HOME={home} is no Spark, which has bin/spark-submit: correct or unset it")
    if home and os.path.exists(os.path.join(home, "python", "pyspark", "__init__.py")):
        zips = sorted(str(path) for path in Path(home, "python", "lib").glob("py4j-*.zip"))
        for path in [os.path.join(home, "python"), *zips]:
            if path not in sys.path:
                sys.path.insert(0, path)
    if importlib.util.find_spec("pyspark") is None:
        raise UsageError(
            f"Spark's Python package is not here: install it ({remedy('spark')}), or set SPARK_HOME to the cluster's Spark"
        )
    java = environment.get("JAVA_HOME")
    if shutil.which(os.path.join(java, "bin", "java") if java else "java") is None:
        raise UsageError("Spark needs Java 17 or newer: apt-get install default-jre-headless, or set JAVA_HOME")


def check_master(master: str, environment: Mapping[str, str] = os.environ) -> None:
    """Raise UsageError for what is no master, or YARN without its settings; SparkError where no standalone master answers.

    Spark itself would try for a minute, and say nothing meanwhile.
    """
    if not MASTERS.fullmatch(master):
        raise UsageError(f"[spark] master = {master} is none of local[*], spark://host:7077, yarn")
    if master == "yarn" and not environment.get("HADOOP_CONF_DIR") and not environment.get("YARN_CONF_DIR"):
        # $SPARK_CONF_DIR/spark-env.sh may set it, as it does on EMR.
        home = environment.get("SPARK_CONF_DIR") or os.path.join(environment.get("SPARK_HOME", ""), "conf")
        if not os.path.exists(os.path.join(home, "spark-env.sh")):
            raise UsageError("[spark] master = yarn: export HADOOP_CONF_DIR, the folder of yarn-site.xml, and SPARK_HOME")
    if master.startswith(STANDALONE):
        reasons = [_no_answer(place) for place in master.removeprefix(STANDALONE).split(",")]
        if all(reasons):
            raise SparkError(f"no Spark master answers at {master} ({reasons[0]}): start it, or correct [spark] master")


def _no_answer(place: str) -> str | None:
    """Return why a host:port does not take connections; None if it does."""
    host, _, port = place.rpartition(":") if ":" in place else (place, "", str(STANDALONE_PORT))
    if not port.isdecimal():
        return f"{port} is no port"
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        return str(error.strerror or error)
    return None


def class_archive() -> str:
    """Return where ``make spark`` keeps the classes that Spark's start loads, ready for Java (class data sharing)."""
    return os.path.join(sys.prefix, "spark.jsa")


def uses_archive(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the archive is there, and is that of the Spark in use."""
    return not environment.get("SPARK_HOME") and os.path.exists(class_archive())
