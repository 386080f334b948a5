"""S3 as it is on bad days: what helps is repeated, what does not is one sentence, and nothing damaged is ever to be seen."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dbrecon.ctools import s3, staging, storage
from dbrecon.ctools.cli import explain
from dbrecon.ctools.database import make_engine
from dbrecon.ctools.storage import sopen
from dbrecon.errors import StorageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.remedies import sentence
from dbrecon.settings import Config
from dbrecon.steps.county_files import make_county_files
from dbrecon.steps.geography_files import make_geo_files
from tests.paths import CHECKOUT
from tests.s3_proxy import S3Proxy, Trouble
from tests.s3_servers import client, moto_server, other_s3_root, other_server, s3_root
from tests.tiny_sf1 import make_members, some_records, zip_bytes

__all__ = ["moto_server", "other_s3_root", "other_server", "s3_root"]

ONE_CUT = next(
    seed for seed in range(100) for trouble in [Trouble(seed, {"cut": 0.5})]
    if [trouble.of("GET", "/any-bucket/some/prefix/big", number) for number in (1, 2)] == ["cut", ""]
)  # fmt: skip
ONE_DAMAGED_PART = next(
    seed for seed in range(1000) for trouble in [Trouble(seed, {"damage": 0.3})]
    if [(part, number) for part in (1, 2, 3) for number in (1, 2, 3, 4)
        if trouble.of("PUT", f"/any-bucket/some/prefix/big.zip?uploadId=any&partNumber={part}", number)] == [(2, 1)]
)  # fmt: skip
EVERYTHING = {"slow_down": 0.02, "error": 0.05, "reset": 0.08, "lost_answer": 0.06, "cut": 0.08, "slow": 0.03}


@pytest.fixture
def proxy(s3_root: str, moto_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Between the product and moto's server."""
    with S3Proxy(moto_server) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


@pytest.fixture
def other_proxy(other_s3_root: str, other_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Between the product and the server that checks what it gets."""
    with S3Proxy(other_server) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


def staged(path: str, fence: int) -> bytes:
    text = f"by claim {fence}".encode()
    with staging.stage(path, fence=fence) as file:
        file.write(text)
    return text


def test_a_store_without_conditional_puts_is_looked_at_before_a_later_claim_s_file_is_overwritten(
    proxy: S3Proxy, s3_root: str, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.no_conditions = True
    path = f"{s3_root}/model.sol"
    for fence in (4, 7):
        text = staged(path, fence)
        assert storage.read_bytes(path) == text
    assert caplog.text.count("this store knows no conditional put") <= 1
    with pytest.raises(staging.Overtaken):
        staged(path, 5)
    assert storage.read_bytes(path) == text


def test_a_store_that_forgets_conditions_is_found_out(proxy: S3Proxy, s3_root: str, moto_server: str) -> None:
    assert storage.keeps_conditions(s3_root) is True
    proxy.forgets_conditions = True
    assert storage.keeps_conditions(s3_root) is False
    proxy.no_conditions = True
    assert storage.keeps_conditions(s3_root) is None
    proxy.no_conditions, proxy.refuse = False, ("PUT", "", 403, "AccessDenied")
    with pytest.raises(StorageError):
        storage.keeps_conditions(s3_root)
    assert objects_of(s3_root, moto_server) == {}


def test_files_of_a_node_whose_clock_was_ahead_are_replaced(
    s3_root: str, moto_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 1 and 2 go by the ledger's clock."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
    experiment = Experiment.make("r1", Config.load(env={"DAS_S3ROOT": s3_root}, hostname="here"))
    ledger = Ledger(make_engine(sqlite_path=tmp_path / "ledger.sqlite3"))
    ledger.register("r1", "all", experiment.product)
    write(experiment.dist_zip("nm"), zip_bytes(make_members(some_records())))
    for seconds in (10**10, 10**9):
        monkeypatch.setattr(time, "time_ns", lambda seconds=seconds: seconds * 10**9)
        assert make_geo_files(experiment, ledger, "nm", force=True)
        assert make_county_files(experiment, ledger, "nm", force=True) == 2


def content(number: int) -> bytes:
    return random.Random(number).randbytes(20_000 + number)


def write(path: str, data: bytes) -> None:
    with sopen(path, "wb") as file:
        file.write(data)


def read_streaming(path: str) -> bytes:
    with sopen(path, "rb") as file:
        return b"".join(iter(lambda: file.read(7000), b""))


def read_ranges(path: str) -> bytes:
    with storage.open_ranges(path) as file:
        return file.read()


def objects_of(root: str, endpoint: str) -> dict[str, bytes]:
    """What lies in the bucket, seen past the proxy."""
    bucket = root.split("/")[2]
    found = client(endpoint).list_objects_v2(Bucket=bucket).get("Contents", [])
    return {item["Key"]: client(endpoint).get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found}


def test_what_a_bad_network_does_is_repeated_until_it_is_right(proxy: S3Proxy, s3_root: str) -> None:
    proxy.trouble = Trouble(seed=4, rates=EVERYTHING)
    paths = [f"{s3_root}/{number}.bin" for number in range(12)]
    for number, path in enumerate(paths):
        write(path, content(number))
    for number, path in enumerate(paths):
        assert storage.read_bytes(path) == content(number)
        assert read_ranges(path) == content(number)
        assert storage.size(path) == 20_000 + number
    assert sorted(file.path for file in storage.walk(s3_root)) == sorted(paths)
    for path in paths:
        storage.remove(path)
    assert list(storage.walk(s3_root)) == []
    assert {"slow_down", "error", "reset", "lost_answer", "cut"} <= set(proxy.struck)


def test_a_stream_that_breaks_off_goes_on_where_it_was(proxy: S3Proxy, s3_root: str) -> None:
    write(f"{s3_root}/big", content(200_000))
    proxy.trouble = Trouble(seed=ONE_CUT, rates={"cut": 0.5})
    assert read_streaming(f"{s3_root}/big") == content(200_000)
    assert proxy.struck["cut"] == 1


def test_a_body_changed_on_its_way_is_refused_by_the_server_and_sent_again(
    other_proxy: S3Proxy, other_s3_root: str, other_server: str
) -> None:
    other_proxy.trouble = Trouble(seed=1, rates={"damage": 0.4})
    for number in range(10):
        write(f"{other_s3_root}/{number}", content(number))
    assert other_proxy.struck["damage"] > 2
    assert sorted(objects_of(other_s3_root, other_server).values()) == sorted(content(number) for number in range(10))


def test_a_body_that_never_arrives_as_it_was_sent_is_a_sentence_and_leaves_nothing(
    other_proxy: S3Proxy, other_s3_root: str, other_server: str
) -> None:
    other_proxy.trouble = Trouble(rates={"damage": 1.0})
    with pytest.raises(StorageError, match=r"Cannot write .*/a .*PutObject: .*not what was sent"):
        write(f"{other_s3_root}/a", content(1))
    assert objects_of(other_s3_root, other_server) == {}


def test_a_large_file_goes_in_parts_that_are_checked_each(
    other_proxy: S3Proxy,
    other_s3_root: str,
    other_server: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(s3, "PART_FROM_BYTES", 6 << 20)
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
    other_proxy.trouble = Trouble(seed=ONE_DAMAGED_PART, rates={"damage": 0.3})
    data = random.Random(0).randbytes(13 << 20)
    write(f"{other_s3_root}/big.zip", data)
    assert list(objects_of(other_s3_root, other_server).values()) == [data]
    assert "part 2 did not arrive as it was sent (BadDigest): sent again" in caplog.text
    assert sum(method == "PUT" and "partNumber" in target for method, target in other_proxy.log) >= 4


def test_a_large_file_that_fails_half_way_leaves_no_parts(
    proxy: S3Proxy, s3_root: str, moto_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_FROM_BYTES", 6 << 20)
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
    proxy.refuse = ("PUT", "partNumber=2", 403, "AccessDenied")
    with pytest.raises(StorageError, match="UploadPart: AccessDenied"):
        write(f"{s3_root}/big.zip", bytes(13 << 20))
    assert objects_of(s3_root, moto_server) == {}
    assert storage.unfinished(s3_root) == []


def test_a_broken_object_is_told_by_its_checksum_when_it_is_read(proxy: S3Proxy, s3_root: str) -> None:
    """Not every fault is of the network: what S3 gives must be what was written."""
    write(f"{s3_root}/a", content(1))
    answer = s3.client().get_object(Bucket=s3_root.split("/")[2], Key="some/prefix/a", ChecksumMode="ENABLED")
    assert answer["ChecksumCRC32"]
    assert storage.read_bytes(f"{s3_root}/a") == content(1)


REFUSALS = [
    (503, "SlowDown", "run fewer workers"),
    (403, "AccessDenied", "give these credentials the right"),
    (400, "ExpiredToken", "the AWS credentials have expired"),
    (403, "InvalidAccessKeyId", "the AWS access key is not known"),
    (403, "RequestTimeTooSkewed", "clock is wrong"),
    (404, "NoSuchBucket", "there is no such bucket"),
    (400, "KMS.DisabledException", r"\[s3\] kms_key"),
    (409, "OperationAborted", "run again"),
]
USES: list[tuple[str, str, Callable[[str], Any]]] = [
    ("write", "PutObject", lambda path: write(path, b"x")),
    ("read", "GetObject", storage.read_bytes),
    ("read", "GetObject", read_ranges),
    ("list", "ListObjectsV2", lambda path: list(storage.walk(path))),
    ("list", "ListMultipartUploads", storage.unfinished),
]


@pytest.mark.parametrize(("status", "code", "remedy"), REFUSALS, ids=[code for _, code, _ in REFUSALS])
def test_what_repeating_does_not_help_is_one_sentence_with_bucket_key_and_operation(
    proxy: S3Proxy, s3_root: str, monkeypatch: pytest.MonkeyPatch, status: int, code: str, remedy: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_RETRY_MODE", "standard")  # the adaptive one would slow down the rest of the test
    write(f"{s3_root}/a", b"there")
    proxy.refuse = ("", "", status, code)
    for action, operation, use in USES:
        with pytest.raises(StorageError) as caught:
            use(f"{s3_root}/a")
        said = sentence(caught.value)
        begin = f"Cannot {action} {s3_root}/a (S3 {operation}: {code}); "
        assert said.startswith(begin)
        assert re.fullmatch(rf"[^\n]*{remedy}[^\n]*", said.removeprefix(begin))
    proxy.refuse = None
    assert storage.read_bytes(f"{s3_root}/a") == b"there", "a refused write changes nothing"


def test_a_wrong_secret_is_a_sentence(other_s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    with pytest.raises(StorageError, match=r"InvalidAccessKeyId.*correct the credentials"):
        write(f"{other_s3_root}/a", b"x")


def test_no_credentials_at_all_is_a_sentence(s3_root: str, tmp_path: Path) -> None:
    code = "import sys; from ctools import storage; storage.read_bytes(sys.argv[1])"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = kept | {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", code, f"{s3_root}/a"],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"StorageError: Cannot read {s3_root}/a; there are no usable AWS credentials: set AWS_PROFILE" in done.stderr


def test_a_profile_is_followed(s3_root: str, moto_server: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        f"[profile cluster]\nregion = us-east-1\nendpoint_url = {moto_server}\naws_access_key_id = k\naws_secret_access_key = s\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    code = "import sys; from ctools import storage; storage.make_writable_check(sys.argv[1]); print('written')"
    done = subprocess.run(
        [sys.executable, "-c", code, s3_root],
        cwd=CHECKOUT,
        env=kept | {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_PROFILE": "cluster"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("written\n", "")


def test_an_object_replaced_while_it_is_read_is_a_sentence(s3_root: str) -> None:
    write(f"{s3_root}/a.zip", random.Random(1).randbytes(5 << 20))
    with storage.open_ranges(f"{s3_root}/a.zip") as file:
        file.seek(-10, os.SEEK_END)
        write(f"{s3_root}/a.zip", random.Random(2).randbytes(5 << 20))
        file.seek(0)
        with pytest.raises(StorageError, match="replaced while it was read"):
            file.read(10)


def test_what_is_written_is_encrypted_with_the_key_that_is_asked_for(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_FROM_BYTES", 6 << 20)
    for name, size in (("small", 10), ("big", 7 << 20)):
        with sopen(f"{s3_root}/{name}", "wb", kms_key="alias/recon") as file:
            file.write(bytes(size))
        head = s3.client().head_object(Bucket=s3_root.split("/")[2], Key=f"some/prefix/{name}")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/recon")


WRITER = """
    import sys
    from dbrecon.ctools import s3
    from dbrecon.ctools.storage import sopen
    s3.PART_FROM_BYTES = int(sys.argv[2])
    with sopen(sys.argv[1], "wb") as file:
        file.write(bytes(40_000_000))
"""


@pytest.mark.parametrize(("in_parts", "left"), [(False, 0), (True, 1)])
def test_a_process_killed_in_the_middle_of_an_upload_leaves_no_object(
    proxy: S3Proxy, s3_root: str, moto_server: str, in_parts: bool, left: int
) -> None:
    """Of an upload in parts the parts that had arrived stay, where --uploads shows and --clear_uploads removes them."""
    write(f"{s3_root}/people.csv", b"old")
    proxy.log.clear()
    proxy.bandwidth = 20e6
    arguments = [f"{s3_root}/people.csv", str((20 if in_parts else 100) << 20)]
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), *arguments], cwd=CHECKOUT) as process:
        wanted = "partNumber=2" if in_parts else "people.csv"
        deadline = time.monotonic() + 60
        while not any(method == "PUT" and wanted in target for method, target in proxy.log):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    proxy.bandwidth = float("inf")
    assert list(objects_of(s3_root, moto_server).values()) == [b"old"]
    found = storage.unfinished(s3_root)
    assert [item.path for item in found] == [f"{s3_root}/people.csv"] * left
    assert storage.clear_leftovers(s3_root, older_than_seconds=1e11) == 0, "another node may be writing it"
    assert storage.clear_leftovers(s3_root, older_than_seconds=3600.0) == left, "moto says that all uploads began in 2010"
    assert storage.unfinished(s3_root) == []


def test_what_s3_says_is_said_once(s3_root: str) -> None:
    with pytest.raises(StorageError) as caught:
        storage.read_bytes("s3://no-such-bucket-anywhere/some/file")
    line = explain(caught.value)
    assert (line.count("NoSuchBucket"), line.count("no such bucket")) == (1, 1)
