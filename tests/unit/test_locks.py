"""One process of a kind on a node: who comes second learns who was first, and a dead one is in nobody's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dbrecon.ctools.locks import Holder, NodeLock, node_lock_path
from dbrecon.errors import StorageError
from tests.paths import CHECKOUT

HOLD = """
import os, sys
from dbrecon.ctools.locks import NodeLock
print(NodeLock(sys.argv[1]).acquire(), flush=True)
if sys.argv[2] == "fork" and os.fork() == 0:
    os.close(1)
    sys.stdin.read()
    os._exit(0)
if sys.argv[2] != "leave":
    sys.stdin.read()
"""


@contextmanager
def holder(path: Path, how: str = "hold") -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock until its stdin ends."""
    command = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"None\n"
        yield process
        process.kill()


def test_the_first_gets_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()


def test_the_second_learns_who_holds_it_and_since_when(tmp_path: Path) -> None:
    before = int(time.time())
    with holder(tmp_path / "lock") as process:
        found = NodeLock(str(tmp_path / "lock")).acquire()
    assert found is not None
    assert found.pid == process.pid
    assert before <= found.since <= time.time()


def test_the_lock_of_a_killed_process_does_not_matter(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert "pid" in (tmp_path / "lock").read_text(), "it left its file behind"
        lock = NodeLock(str(tmp_path / "lock"))
        assert lock.acquire() is None
        lock.release()


def test_a_child_that_outlives_the_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path / "lock", "fork") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        lock = NodeLock(str(tmp_path / "lock"))
        assert lock.acquire() is None
        lock.release()


def test_a_released_lock_is_free(tmp_path: Path) -> None:
    lock = NodeLock(str(tmp_path / "lock"))
    assert lock.acquire() is None
    with lock:
        pass
    with holder(tmp_path / "lock", "leave"):
        pass


def test_a_second_attempt_in_the_same_process_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    first = NodeLock(str(tmp_path / "lock"))
    assert first.acquire() is None
    found = NodeLock(str(tmp_path / "lock")).acquire()
    assert found is not None
    assert (found.pid, abs(found.since - time.time()) < 60) == (os.getpid(), True)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock"), "leave"]
    other = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    first.release()
    assert other.stdout.startswith(f"pid {os.getpid()}, since ")


def test_a_child_that_releases_its_copy_takes_nothing_from_the_holder(tmp_path: Path) -> None:
    lock = NodeLock(str(tmp_path / "lock"))
    assert lock.acquire() is None
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock"), "leave"]
    other = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    lock.release()
    assert other.stdout.startswith(f"pid {os.getpid()}, since ")


def test_a_lock_file_full_of_rubbish_is_only_a_file(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("not ours\n" * 1000)
    lock = NodeLock(str(tmp_path / "lock"))
    assert lock.acquire() is None
    lock.release()


def test_a_holder_is_told_in_utc() -> None:
    assert str(Holder(4711, 1617825092)) == "pid 4711, since 2021-04-07 19:51:32 UTC"


def test_cron_and_a_terminal_meet_at_the_same_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    monkeypatch.delenv("DBRECON_HOSTNAME", raising=False)
    assert node_lock_path("scheduler") == f"/tmp/dbrecon-{os.getuid()}-scheduler.lock"


def test_a_lock_that_cannot_be_made_is_a_sentence() -> None:
    with pytest.raises(StorageError, match=r"/proc/dbrecon/lock cannot be used as a lock"):
        NodeLock("/proc/dbrecon/lock").acquire()
