"""Worker processes: what becomes of them, and of those who depend on them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dbrecon.ctools import staging
from dbrecon.errors import UsageError
from dbrecon.node.pool import Died, Finished, Message, WorkerEvent
from dbrecon.node.processes import WorkerPool
from tests.paths import CHECKOUT
from tests.waiting import wait_for

WORDS = "tests.worker_tasks:serve_words"


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(WORDS, 2)
    yield made
    made.close()


def until_done(pool: WorkerPool, seconds: float = 30) -> list[WorkerEvent]:
    """All events until no worker is busy."""
    events: list[WorkerEvent] = []
    end = time.monotonic() + seconds
    while pool.busy:
        assert time.monotonic() < end, events
        events += pool.wait(0.2)
    return events


def test_a_worker_says_what_it_does_and_when_it_is_through(pool: WorkerPool) -> None:
    worker = pool.submit("this")
    assert until_done(pool) == [Message(worker, "this", "did this"), Finished(worker, "this")]


def test_a_free_worker_is_used_again(pool: WorkerPool) -> None:
    pids = set()
    for _ in range(3):
        pool.submit("pid")
        pids |= {event.body for event in until_done(pool) if isinstance(event, Message)}
    assert len(pids) == 1


def test_no_more_tasks_run_at_once_than_the_pool_is_large(pool: WorkerPool) -> None:
    pool.submit("sleep")
    pool.submit("sleep")
    assert pool.free == 0
    with pytest.raises(ValueError, match="no worker is free"):
        pool.submit("this")


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("kill", "ended by SIGKILL"),
        ("segfault", "ended by SIGSEGV"),
        ("exit", "SystemExit: 3"),
        ("bug", "ZeroDivisionError: a bug"),
    ],
)
def test_a_worker_that_dies_is_reported_with_the_reason_and_replaced(pool: WorkerPool, task: str, reason: str) -> None:
    pool.submit(task)
    died = until_done(pool)[-1]
    assert isinstance(died, Died)
    assert died.task == task
    assert reason in died.reason
    pool.submit("this")
    assert [event.body for event in until_done(pool) if isinstance(event, Message)] == ["did this"]


def test_a_bug_s_traceback_reaches_the_parent(pool: WorkerPool) -> None:
    pool.submit("bug")
    died = until_done(pool)[-1]
    assert isinstance(died, Died)
    assert "serve_words" in died.stack


def test_a_worker_killed_by_the_parent_is_heard_of_no_more(pool: WorkerPool) -> None:
    worker = pool.submit("sleep")
    pid = pool.pid(worker)
    pool.kill(worker)
    assert pool.busy == 0
    assert pool.wait(0.1) == []
    assert not psutil.pid_exists(pid or 0)


def test_workers_that_are_ended_clear_away_what_they_were_writing(tmp_path: Path) -> None:
    pool = WorkerPool(WORDS, 2)
    first, second = (pool.submit(tmp_path / name) for name in ("first", "second"))
    ended: set[int] = set()
    while ended != {first, second}:
        ended |= {event.worker for event in pool.wait(20)}
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second"}
    pool.kill(first)
    assert {path.name for path in tmp_path.iterdir()} == {"second"}
    pool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_whole_file_that_nobody_will_accept_goes_with_its_worker(tmp_path: Path) -> None:
    """As where Ctrl-C comes between the last word of a step and the ledger's."""
    pool = WorkerPool(WORDS, 1)
    pool.submit(("stage", str(tmp_path / "accepted")))
    staging.accept(next(event.body for event in until_done(pool) if isinstance(event, Message)))
    pool.submit(("stage", str(tmp_path / "unheard")))
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2, "another file")
    pool.close()
    assert [path.name for path in tmp_path.iterdir()] == ["accepted"]


def test_closing_ends_all_workers() -> None:
    pool = WorkerPool(WORDS, 2)
    pids = [pool.pid(pool.submit("sleep")) or 0, pool.pid(pool.submit("pid")) or 0]
    pool.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed() -> None:
    code = (
        "import sys, time\n"
        "from dbrecon.node.processes import WorkerPool\n"
        f"pool = WorkerPool({WORDS!r}, 1)\n"
        "worker = pool.submit('sleep')\n"
        "pool.wait(30)\n"
        "print(pool.pid(worker), flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        assert psutil.wait_procs([worker], timeout=20)[0], "the worker lives on"


def forkserver() -> psutil.Process:
    """The workers' common ancestor."""
    [found] = [process for process in psutil.Process().children() if "multiprocessing.forkserver" in " ".join(process.cmdline())]
    return found


def test_when_the_workers_common_ancestor_is_killed_new_workers_start_all_the_same(pool: WorkerPool) -> None:
    pool.submit("this")
    until_done(pool)
    forkserver().kill()
    until_gone(pool)
    worker = pool.submit("that")
    assert Message(worker, "that", "did that") in until_done(pool)


def until_gone(pool: WorkerPool) -> None:
    """Until the pool knows that its idle workers are lost."""
    end = time.monotonic() + 20
    while pool.pids():
        assert time.monotonic() < end
        pool.wait(0.1)


@pytest.mark.slow
def test_workers_that_lost_their_common_ancestor_do_not_live_on(pool: WorkerPool) -> None:
    """They count as dead, and their tasks go to others: they must not take memory beside those."""
    worker = pool.submit("sleep")
    process = psutil.Process(pool.pid(worker))
    while not any(isinstance(event, Message) for event in pool.wait(1)):
        pass
    forkserver().kill()
    assert [type(event) for event in until_done(pool)] == [Died]
    process.wait(timeout=10)


def test_a_temporary_folder_with_too_long_a_name_is_named_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 76)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(UsageError, match=f"the folder for temporary files, {folder}, .* set TMPDIR to another"):
        WorkerPool("tests.worker_tasks:serve_tracts", 1)


# -- what starting costs --------------------------------------------------------------------------------------------------


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_workers_load_nothing_that_only_other_steps_need() -> None:
    heavy = "{'scipy.special', 'scipy.linalg', 'sqlalchemy', 'pyarrow', 'boto3', 'click'}"
    assert python(f"import sys, dbrecon.node.worker; print({heavy} & set(sys.modules))") == "set()\n"


def test_the_scheduler_s_own_process_loads_nothing_of_the_science() -> None:
    heavy = "{'numpy', 'scipy', 'highspy', 'pyarrow'}"
    assert python(f"import sys, dbrecon.node.daemon; print({heavy} & set(sys.modules))") == "set()\n"


@pytest.mark.slow
def test_the_workers_ancestor_derives_the_tables_once_for_all() -> None:
    tables = json.dumps([str(CHECKOUT / "config/products/sf1_2010/tables.toml"), "all", "bins"])
    code = "import dbrecon.node.ancestor; from dbrecon.steps import methods; print(methods.builder_of_tables.cache_info().currsize)"
    assert python(code, DBRECON_ANCESTOR_TABLES=tables) == "1\n"
    assert python(code) == "0\n"
    assert python(code, DBRECON_ANCESTOR_TABLES=tables.replace("tables.toml", "gone.toml")) == "0\n"
