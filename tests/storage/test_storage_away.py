"""Storage that is away for a while is waited for by whoever is asked to, and by nobody else."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from dbrecon.ctools import storage
from dbrecon.ctools.patience import FIRST_WARNING_SECONDS, LONGEST_WARNING_SECONDS, RareWarning, patient
from dbrecon.errors import StorageError
from tests.s3_proxy import S3Proxy
from tests.s3_servers import credentials, fresh_bucket, moto_server, s3_root

__all__ = ["moto_server", "s3_root"]


class Remedy:
    """What is done, in a thread of its own, when the wait is told for the first time; and what was told."""

    def __init__(self, do: Callable[[], object]) -> None:
        self._do = do
        self.messages: list[str] = []
        self.thread: threading.Thread | None = None

    def tell(self, text: str) -> None:
        self.messages.append(text)
        if self.thread is None:
            self.thread = threading.Thread(target=self._do)
            self.thread.start()


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Remedy]]:
    """The path of an object on a server of its own, which has just gone away; the remedy starts it again at the same port."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in credentials(f"http://{host}:{port}").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    path = f"s3://{fresh_bucket(f'http://{host}:{port}')}/some/file.gz"
    with storage.sopen(path, "wb") as file:
        file.write(b"before")
    server.stop()
    again = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    remedy = Remedy(again.start)
    yield path, remedy
    if remedy.thread is not None:
        remedy.thread.join()
        again.stop()


def test_a_server_that_is_away_is_waited_for_and_what_was_made_is_kept(away: tuple[str, Remedy]) -> None:
    path, remedy = away
    with patient(60, remedy.tell):
        with storage.sopen(path, "wb") as file:
            file.write(b"after")
        assert storage.read_bytes(path) == b"after"
    assert "PutObject: S3 is away (" in remedy.messages[0]
    assert path in remedy.messages[0]


def test_reading_waits_too(away: tuple[str, Remedy]) -> None:
    path, remedy = away
    with patient(60, remedy.tell):
        assert storage.read_bytes(path) == b"before"


def test_without_patience_it_is_said_at_once_and_with_it_when_it_is_over(away: tuple[str, Remedy]) -> None:
    path, _ = away
    with pytest.raises(StorageError, match="S3 was not reached"):
        storage.read_bytes(path)
    messages: list[str] = []
    with patient(1, messages.append) as patience, pytest.raises(StorageError, match="S3 was not reached"):
        storage.read_bytes(path)
    assert messages
    assert patience.ran_out


def test_credentials_that_have_expired_are_read_anew(
    s3_root: str, moto_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody renews them in the file that AWS's tools write."""
    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = secret\n"
    file.write_text(text.format("old"))
    remedy = Remedy(lambda: file.write_text(text.format("new")))
    with S3Proxy(moto_server) as proxy, patient(60, remedy.tell):
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with storage.sopen(f"{s3_root}/file", "w") as target:
            target.write("one")
        proxy.expired_key = "old"
        with storage.sopen(f"{s3_root}/file", "w") as target:
            target.write("two")
    assert storage.read_bytes(f"{s3_root}/file") == b"two"
    assert "the AWS credentials have expired: renew them" in remedy.messages[0]


def test_what_waiting_cannot_mend_is_said_at_once(s3_root: str, moto_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    with S3Proxy(moto_server) as proxy, patient(60, messages.append):
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.refuse = ("PUT", "", 403, "AccessDenied")
        with pytest.raises(StorageError, match="access is denied"), storage.sopen(f"{s3_root}/file", "w") as target:
            target.write("one")
    assert messages == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"needs the right to mount a disk: {made.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("name", ["file", "file.gz"])
def test_a_full_disk_is_waited_for_in_the_middle_of_a_file(small_disk: Path, name: str) -> None:
    (small_disk / "filler").write_bytes(bytes(700 << 10))
    remedy = Remedy((small_disk / "filler").unlink)
    content = os.urandom(600 << 10)
    with patient(60, remedy.tell), storage.sopen(small_disk / name, "wb") as file:
        file.write(content)
    assert storage.read_bytes(small_disk / name) == content
    assert f"{small_disk / name} cannot be written: the disk is full" in remedy.messages[0]
    assert [path.name for path in small_disk.iterdir()] == [name]


def test_a_warning_comes_at_once_and_then_at_growing_intervals(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr("dbrecon.ctools.patience.time.monotonic", lambda: now)
    warning, times = RareWarning(logging.getLogger("test")), list[float]()
    while now < 1600.0:
        warning.say(f"away {now}")
        if len(caplog.messages) > len(times):
            times.append(now - 1000.0)
        now += 1.0
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert (times[0], gaps[0]) == (0.0, FIRST_WARNING_SECONDS)
    assert gaps == sorted(gaps)
    assert len(times) < 10
    assert gaps[-1] <= LONGEST_WARNING_SECONDS
