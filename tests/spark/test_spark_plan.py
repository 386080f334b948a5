"""Spark without Spark: how work is grouped, what Spark's accounts of failures mean, what is shipped, and the options."""

import logging
import os
import re
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbrecon.ctools.database import make_engine
from dbrecon.errors import UsageError
from dbrecon.experiment import Experiment
from dbrecon.fleet.packing import EXECUTORS_EXTRAS, NODES_EXTRAS, needed_packages
from dbrecon.ledger.records import NEW, Claim, LpStats, SolStats, Worker
from dbrecon.node.assignment import Assignment
from dbrecon.node.tasks import Failure
from dbrecon.settings import Config, DatabaseSettings
from dbrecon.spark.accounts import cause, failed_task, never_tried, set_up_failure
from dbrecon.spark.executor import Trouble
from dbrecon.spark.jvm import Jvm
from dbrecon.spark.plan import GROUP_SECONDS, People, group_seconds, grouped, make_plan, tract_cost
from dbrecon.spark.room import Need, Room, Watch
from dbrecon.spark.setup import (
    NO_ROOM,
    SparkError,
    check_master,
    executors_environment,
    local_master,
    pack_code,
    portable,
    properties,
)
from tests.node_world import R, ledger_with
from tests.paths import CHECKOUT

KILLED = """Job aborted due to stage failure: Task 3 in stage 1.0 failed 4 times, most recent failure: Lost task 3.3 in stage 1.0 \
(TID 9) (127.0.0.1 executor 2): ExecutorLostFailure (executor 2 exited caused by one of the running tasks) Reason: Command exited \
with code 137
Driver stacktrace:"""
NO_MODULE = """Job aborted due to stage failure: Task 0 in stage 0.0 failed 4 times, most recent failure: Lost task 0.3 in stage \
0.0 (TID 7) (node executor 1): org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "worker.py", line 1, in main
ModuleNotFoundError: No module named 'cluster'

Driver stacktrace:"""

EXCLUDED = """Job aborted due to stage failure:
Aborting TaskSet 7.0 because task 2 (partition 2)
cannot run anywhere due to node and executor excludeOnFailure.
Most recent failure:
{failure}

ExcludeOnFailure behavior can be configured via spark.excludeOnFailure.*.
"""


def claims_of(pops: list[int]) -> list[Claim]:
    return [Claim("r", "oh", "39", "001", f"{i:06d}", pop, NEW, 0, Worker("h", "1"), "t") for i, pop in enumerate(pops)]


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=200), st.floats(0.5, 20))
def test_groups_hold_every_tract_once_and_none_is_a_straggler(pops: list[int], seconds: float) -> None:
    """Their predicted costs differ by one tract at the most."""
    groups = grouped(claims_of(pops), seconds, county_pop=0)
    assert sorted(claim.tract for group in groups for claim in group) == [f"{i:06d}" for i in range(len(pops))]
    loads = [sum(tract_cost(claim.pop) for claim in group) for group in groups]
    assert min(loads) > 0
    assert max(loads) - min(loads) <= tract_cost(max(pops)) + 1e-9


def test_with_force_what_is_solved_is_planned_too_so_that_there_is_memory_for_it(tmp_path: Path) -> None:
    engine = make_engine(sqlite_path=str(tmp_path / "ledger.sqlite3"))
    ledger = ledger_with(engine, ["000100", "000200", "000300"])
    for claim in ledger.claim(R, Worker("h", "1"), limit=3, lease_seconds=60):
        ledger.solved(claim, SolStats("none", 0.0), LpStats(1, 1, 1, 0.0))
    experiment = Experiment.make(R, Config.load(env={"DAS_S3ROOT": str(tmp_path)}))
    assignment = Assignment(frozenset({4, 5}))
    assert make_plan(ledger, experiment, assignment, People()) == []
    [work] = make_plan(ledger, experiment, assignment, People(150), force=True)
    assert sorted(work.tracts) == [("000200", 200), ("000300", 300)]
    engine.dispose()


def test_groups_get_smaller_towards_the_end_and_never_longer_than_the_limit() -> None:
    assert group_seconds(1e6, slots=10) == GROUP_SECONDS
    assert group_seconds(40.0, slots=4) == pytest.approx(1.25)


def test_a_county_whose_files_take_long_to_read_is_cut_into_fewer_groups() -> None:
    claims = claims_of([4000] * 500)
    assert len(grouped(claims, 2.0, county_pop=10_000_000)) < len(grouped(claims, 2.0, county_pop=500_000)) / 5


@pytest.mark.parametrize(("people", "inside", "outside"), [(People(10, 20), (10, 20), (9, 21)), (People(None, 5), (0, 5), (6,))])
def test_a_range_of_people_has_its_ends(people: People, inside: tuple[int, ...], outside: tuple[int, ...]) -> None:
    assert [pop in people for pop in inside] == [True] * len(inside)
    assert [pop in people for pop in outside] == [False] * len(outside)


def test_spark_s_account_of_a_lost_executor_names_the_task_and_the_cause() -> None:
    assert failed_task(KILLED) == 3
    assert "exited caused by one of the running tasks" in cause(KILLED)
    assert set_up_failure(KILLED) is None


def test_a_task_that_spark_excluded_everywhere_is_to_blame_only_if_it_was_tried() -> None:
    tried = EXCLUDED.format(failure="Lost task 2.1 in stage 7.0 (TID 4) (h executor 1): ExecutorLostFailure (gone)")
    assert failed_task(tried) == 2
    assert not never_tried(tried)
    assert cause(tried) == "(h executor 1): ExecutorLostFailure (gone)"
    assert never_tried(EXCLUDED.format(failure="null"))
    assert not never_tried(KILLED)


def test_packages_that_lack_on_executors_are_the_set_up_s_fault_and_no_tract_s() -> None:
    failure = set_up_failure(NO_MODULE)
    assert failure is not None
    assert "No module named 'cluster'" in failure.message


def test_a_python_that_is_not_there_is_the_set_up_s_fault_and_no_tract_s() -> None:
    account = "Task 0 in stage 1.0 failed 4 times, most recent failure: Lost task 0.3 in stage 1.0 (TID 3) (h executor 1): "
    failure = set_up_failure(f'{account}java.io.IOException: Cannot run program "/no/python": error=2, No such file or directory')
    assert failure is not None
    assert "[spark] python" in failure.message
    assert "/no/python" in failure.message
    assert failure.exit_code == 8


@pytest.mark.parametrize(
    ("master", "cores", "free", "expected"),
    [
        ("local", 8, 9000.0, "local[1,4]"),
        ("local[3]", 8, 100.0, "local[3,4]"),
        ("local[*]", 8, 90_000.0, "local[8,4]"),
        ("local[*]", 8, 640.0 + 3 * 300, "local[3,4]"),
        ("local[*]", 8, 100.0, "local[1,4]"),
        ("spark://h:1", 8, 100.0, "spark://h:1"),
    ],
)
def test_this_machine_s_tasks_are_as_many_as_cores_and_memory_allow(master: str, cores: int, free: float, expected: str) -> None:
    assert local_master(master, 200.0, cores, free) == expected


@pytest.mark.parametrize("master", ["locl[*]", "local[0]", "k8s://h", "mesos://h:1", "spark:/h"])
def test_what_is_no_master_is_refused(master: str) -> None:
    with pytest.raises(UsageError, match=r"is none of local\[\*\], spark://host:7077, yarn"):
        check_master(master, {})


def test_a_master_that_does_not_answer_is_said_at_once_and_yarn_needs_its_settings(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(SparkError, match=r"no Spark master answers at .*: start it, or correct"):
            check_master(f"spark://127.0.0.1:{nobody.getsockname()[1]}", {})
    with pytest.raises(UsageError, match="export HADOOP_CONF_DIR"):
        check_master("yarn", {})
    check_master("yarn", {"YARN_CONF_DIR": "/"})
    (tmp_path / "spark-env.sh").touch()
    check_master("yarn", {"SPARK_CONF_DIR": str(tmp_path)})


def test_where_no_worker_has_room_it_says_once_a_minute_what_an_executor_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Spark's own warning, every 15 s, is for --verbose."""
    watch, now = Watch(), 1000.0
    jvm = Jvm({NO_ROOM: watch.starved})
    monkeypatch.setattr("dbrecon.spark.room.time.monotonic", lambda: now)
    with caplog.at_level(logging.INFO):
        for _ in range(9):
            jvm.hear("spark: WARN TaskSchedulerImpl: Initial job has not accepted any resources; check your cluster UI")
            watch.look(Need(1, 1040), lambda: Room(2, 4, 2048))
            now += 15.0
    said = [record.getMessage() for record in caplog.records]
    assert said == [said[0]] * 3
    assert said[0].startswith("waiting for room: an executor needs 1 core and 1,040 MiB")


@pytest.mark.parametrize(
    ("need", "room", "refusal"),
    [
        (
            Need(1, 3000),
            Room(2, 4, 2048),
            "needs 1 core and 3,000 MiB, and the biggest of 2 nodes has 4 cores and 2,048 MiB: set",
        ),
        (Need(8, 500), Room(2, 4, 2048), "an executor needs 8 cores"),
        (Need(8, 500, cores_count=False), Room(2, 4, 2048), None),
        (Need(1, 3000), Room(0, 0, 0), None),  # nodes may come
        (
            Need(1, 900, 896),
            Room(2, 4, 2048, "small", 1500),
            "queue small may have 1,500 MiB .* 900 MiB .* 896 MiB: name",
        ),
        (Need(1, 900, 500), Room(2, 4, 2048, "small", 1500), None),
    ],
)
def test_what_a_cluster_can_never_give_is_refused(need: Need, room: Room, refusal: str | None) -> None:
    said = need.refusal(room)
    assert said is None if refusal is None else re.search(refusal, str(said))


def test_a_full_disk_on_an_executor_is_found_again_in_spark_s_account() -> None:
    trouble = Trouble.of("oh 001 000100", Failure("the disk is full", "", 0, "", 4, "node"))
    found = Trouble.found_in(f"Lost task 0.3: PythonException: dbrecon.spark.executor.Trouble: {trouble}\n\nDriver stacktrace:")
    assert found is not None
    assert found.message.startswith("oh 001 000100: the disk is full (on ")
    assert found.exit_code == 4


def settings(tmp_path: Path, spark: str) -> Config:
    (tmp_path / "c.ini").write_text(f"[db]\nmysql_host = db\nmysql_password = hush\n[spark]\n{spark}\n", encoding="utf-8")
    return Config.load(str(tmp_path / "c.ini"), env={"DAS_S3ROOT": str(tmp_path)})


def test_executors_get_no_word_of_the_database(tmp_path: Path) -> None:
    config = settings(tmp_path, "master = yarn")
    shipped = portable(Experiment.make("r", config), "yarn").config
    assert shipped.db == DatabaseSettings()
    assert "hush" not in repr(properties(config, "x", 200.0, {})) + repr(executors_environment(config, {"MYSQL_PASSWORD": "hush"}))


def test_credentials_of_s3_are_passed_by_the_workers_environment_and_are_no_property(tmp_path: Path) -> None:
    config, environment = settings(tmp_path, "master = yarn"), {"AWS_SECRET_ACCESS_KEY": "hush", "HOME": "/"}
    assert executors_environment(config, environment)["AWS_SECRET_ACCESS_KEY"] == "hush"
    assert "hush" not in repr(properties(config, "x", 200.0, environment))


def test_whoever_sees_spark_s_page_cannot_end_a_run_there(tmp_path: Path) -> None:
    assert properties(settings(tmp_path, "master = yarn"), "x", 200.0, {})["spark.ui.killEnabled"] == "false"


def test_executors_memory_fits_the_tracts_and_settings_beat_it(tmp_path: Path) -> None:
    alone = properties(settings(tmp_path, "master = spark://h:7077"), "x", 300.0, {})
    assert (alone["spark.executor.cores"], alone["spark.executor.memory"]) == ("1", "1040m")
    yarn = properties(settings(tmp_path, "master = yarn"), "x", 300.0, {})
    assert (yarn["spark.executor.cores"], yarn["spark.executor.memoryOverhead"]) == ("4", "1600m")
    asked = properties(settings(tmp_path, "master = yarn\nexecutor_cores = 8\nexecutor_mib = 5640"), "x", 300.0, {})
    assert (asked["spark.executor.cores"], asked["spark.executor.memoryOverhead"]) == ("8", "5000m")


def test_the_shipped_code_runs_without_this_checkout(tmp_path: Path) -> None:
    """Unpacked elsewhere, with the packages alone, it finds its own files and the product's tables."""
    pack_code(CHECKOUT / "config" / "products" / "dhc2020", str(tmp_path / "code.tar.gz"))
    with tarfile.open(tmp_path / "code.tar.gz") as archive:
        archive.extractall(tmp_path / "dbrecon_code", filter="data")
    code = (
        "import dbrecon.node.worker, dbrecon.node.state_tasks\n"
        "from dbrecon.recon.census.tables import load_product\n"
        "from dbrecon.recon.product.release import load_release\n"
        "load_release().header\n"
        "release = load_release('dbrecon_code/shipped_product')\n"
        "print(dbrecon.node.worker.__file__, load_product(release.tables_path).name, len(release.segments))"
    )
    env = os.environ | {"PYTHONPATH": str(tmp_path / "dbrecon_code")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path))
    assert done.stdout.endswith(" 2020_dhc 44\n")


def test_what_is_packed_is_what_the_product_needs() -> None:
    packages = needed_packages(EXECUTORS_EXTRAS)
    assert {"numpy", "scipy", "highspy", "botocore", "sqlalchemy"} <= packages
    assert packages & {"pyspark", "pytest", "mypy", "moto", "pymysql"} == set()
    assert needed_packages(NODES_EXTRAS) - packages >= {"pymysql", "paramiko"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--spark"], "--spark does what?"),
        (["--spark", "--step0", "--stusab", "de"], "do it without --spark"),
        (["--status", "--pop100", "1:2"], "--pop100 goes with --spark"),
        (["--status", "--limit", "5"], "--limit goes with"),
        (["--spark", "--step1", "--limit", "5"], "--pop100 and --limit choose tracts"),
        (["--spark", "--rescan", "--force"], "give steps, --force"),
        (["--spark", "--run", "--pop100", "5:1"], "'5:1' is not MIN:MAX"),
        (["--spark", "--status"], "cannot be done at once"),
        (["--spark", "--rescan", "--run"], "--run and --rescan cannot be done at once"),
        (["--spark_pack", "x.zip"], "name a .tar.gz"),
        (["--spark_pack", "/nope/x.tar.gz"], "there is no folder /nope; make it, or name another place"),
    ],
)
def test_options_that_mean_nothing_are_refused_with_a_sentence(options: list[str], sentence: str, tmp_path: Path) -> None:
    env = os.environ | {"DAS_S3ROOT": str(tmp_path), "REIDENT": "r"}
    done = subprocess.run(
        [sys.executable, "dbrtool.py", *options], cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
