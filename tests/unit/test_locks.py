"""One process of a kind on a node: who comes second learns who was first, and a dead one is in nobody's way."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dbrecon.ctools.locks import Holder, NodeLock, node_lock_path
from dbrecon.ctools.private_folder import run_folder
from dbrecon.errors import StorageError, UsageError
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


@pytest.mark.parametrize("home", ["", "relative"])
def test_a_home_that_is_none_is_refused_and_no_lock_lies_in_the_root(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    with pytest.raises(UsageError, match=f"HOME is '{home}', and locks belong in your home folder: set HOME"):
        run_folder()


def test_cron_and_a_terminal_meet_at_the_same_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cron sets HOME, but neither of the others, which a terminal has."""
    monkeypatch.setenv("DBRECON_HOSTNAME", "node1")
    found = set()
    for variables in ({}, {"TMPDIR": "/var/tmp", "XDG_RUNTIME_DIR": "/run/user/1000"}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        found.add(node_lock_path("scheduler"))
    assert found == {os.path.expanduser("~/.dbrecon/node1-scheduler.lock")}


def test_a_lock_that_cannot_be_made_is_a_sentence() -> None:
    with pytest.raises(StorageError, match=r"/proc/dbrecon cannot be made \(No such file or directory\): set HOME to a folder"):
        NodeLock("/proc/dbrecon/lock").acquire()


# -- what others may have put there ------------------------------------------------------------------------------------------


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    made = tmp_path / "precious"
    made.write_text("of somebody")
    return made


def refused(path: Path, words: str) -> None:
    """Neither taken nor asked who holds it."""
    lock = NodeLock(str(path))
    for attempt in (lock.acquire, lock.holder):
        with pytest.raises(StorageError, match=words):
            attempt()


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "lock").symlink_to(precious)
    refused(tmp_path / "lock", "cannot be used as a lock")
    (tmp_path / "dangling").symlink_to(tmp_path / "new")
    refused(tmp_path / "dangling", "cannot be used as a lock")
    assert (precious.read_text(), (tmp_path / "new").exists()) == ("of somebody", False)


def test_another_name_of_a_file_is_no_lock(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "lock").hardlink_to(precious)
    refused(tmp_path / "lock", "is no regular file of this user's alone")
    assert precious.read_text() == "of somebody"


def test_what_is_no_file_is_no_lock_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    refused(tmp_path / "lock", "is no regular file of this user's alone")


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "folder").symlink_to(tmp_path / "elsewhere")
    refused(tmp_path / "folder" / "lock", "it is a link")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o755])
def test_a_folder_that_is_open_to_others_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    refused(folder / "lock", f"chmod 700 {re.escape(str(folder))}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_what_is_another_users_is_never_honoured(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    (folder / "lock").touch()
    os.chown(folder / "lock", 65534, 65534)
    refused(folder / "lock", "is no regular file of this user's alone")
    os.chown(folder, 65534, 65534)
    refused(folder / "lock", r"belongs to another user \(uid 65534\)")


def test_the_folder_is_made_for_this_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        lock = NodeLock(str(tmp_path / "home" / ".dbrecon" / "lock"))
        assert lock.acquire() is None
    finally:
        os.umask(before)
    with lock:
        assert stat.S_IMODE((tmp_path / "home" / ".dbrecon").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "home" / ".dbrecon" / "lock").stat().st_mode) == 0o600
