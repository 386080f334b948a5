"""What storage promises: whole files or none, on a disk and on S3 alike, and one clear sentence when it cannot."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dbrecon.ctools import storage
from dbrecon.ctools.cli import explain
from dbrecon.ctools.storage import sopen
from dbrecon.errors import StorageError
from tests.paths import CHECKOUT
from tests.s3_servers import client, moto_server, other_s3_root, other_server, s3_root

TEXT = "".join(f" c{i}: + b{i % 80}_0_{i % 103} + b{i % 79}_1_7 = {i % 11}\n" for i in range(40_000))


__all__ = ["moto_server", "other_s3_root", "other_server", "s3_root"]


@pytest.fixture(params=["local", "s3", "another_s3"])
def root(request: pytest.FixtureRequest) -> str:
    """A folder, or a prefix on one of two S3 servers: what is promised of one holds on the others."""
    if request.param == "local":
        return str(request.getfixturevalue("tmp_path") / "root")
    return str(request.getfixturevalue("s3_root" if request.param == "s3" else "other_s3_root"))


def s3_client() -> Any:
    return client(os.environ["AWS_ENDPOINT_URL"])


def everything_under(root: str) -> list[str]:
    """Every file or object, and every unfinished upload, whatever its name."""
    if not root.startswith("s3://"):
        return sorted(name for _, _, files in os.walk(root) for name in files)
    bucket = root.split("/")[2]
    objects = s3_client().list_objects_v2(Bucket=bucket).get("Contents", [])
    try:
        uploads = s3_client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchUpload":  # rclone's way of saying that there are none
            raise
        uploads = []
    return sorted(file["Key"].rsplit("/", 1)[-1] for file in [*objects, *uploads])


@pytest.mark.parametrize("name", ["model.lp", "model.lp.gz", "deep/er/model.lp.gz"])
def test_text_comes_back_as_it_was_written(root: str, name: str) -> None:
    with sopen(f"{root}/{name}", "w") as file:
        file.write(TEXT)
    with sopen(f"{root}/{name}") as file:
        assert file.read() == TEXT


@pytest.mark.parametrize("name", ["model.lp", "model.lp.gz"])
def test_lines_come_back_one_by_one(root: str, name: str) -> None:
    with sopen(f"{root}/{name}", "w") as file:
        file.writelines(TEXT.splitlines(keepends=True))
    with sopen(f"{root}/{name}") as file:
        assert list(file) == TEXT.splitlines(keepends=True)


@pytest.mark.parametrize("name", ["a.bin", "a.bin.gz"])
def test_bytes_come_back_as_they_were_written(root: str, name: str) -> None:
    content = bytes(range(256)) * 5000
    with sopen(f"{root}/{name}", "wb") as file:
        file.write(content)
    with sopen(f"{root}/{name}", "rb") as file:
        assert file.read() == content
    assert storage.read_bytes(f"{root}/{name}") == content


@pytest.mark.parametrize("name", ["empty.csv", "empty.csv.gz"])
def test_an_empty_file_is_a_file(root: str, name: str) -> None:
    with sopen(f"{root}/{name}", "wb"):
        pass
    assert storage.exists(f"{root}/{name}")
    assert storage.read_bytes(f"{root}/{name}") == b""


def test_text_is_utf8_and_line_ends_are_left_alone(root: str) -> None:
    with sopen(f"{root}/geo.csv", "w") as file:
        file.write("Doña Ana\r\nCataño\n")
    assert storage.read_bytes(f"{root}/geo.csv") == "Doña Ana\r\nCataño\n".encode()


def test_a_packed_file_is_ordinary_gzip(tmp_path: Path) -> None:
    with sopen(tmp_path / "model.lp.gz", "w") as file:
        file.write(TEXT)
    assert gzip.decompress((tmp_path / "model.lp.gz").read_bytes()).decode() == TEXT


def test_gzip_of_others_is_read_even_in_several_members(tmp_path: Path) -> None:
    (tmp_path / "theirs.gz").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert storage.read_bytes(tmp_path / "theirs.gz") == b"one\ntwo\n"
    with sopen(tmp_path / "theirs.gz") as file:
        assert file.read() == "one\ntwo\n"


def test_equal_content_gives_equal_bytes_whatever_name_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, now in (("a.gz", 1e9), ("b.gz", 1.5e9)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        with sopen(tmp_path / name, "w") as file:
            file.write(TEXT)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_a_file_on_its_way_is_not_there(root: str) -> None:
    with sopen(f"{root}/sol.gz", "w") as file:
        file.write(TEXT)
        file.flush()
        assert not storage.exists(f"{root}/sol.gz")
        assert list(storage.listdir(root)) == []
    assert list(storage.listdir(root)) == ["sol.gz"]


def test_ctrl_c_at_any_line_of_the_writing_leaves_the_whole_file_or_nothing(tmp_path: Path) -> None:
    left, whole, line = set(), False, 0
    while not whole:
        line += 1
        folder = tmp_path / str(line)
        with interrupted_at(line):
            with sopen(folder / "a.csv", "w") as file:
                file.write("all of it")
            whole = True
        left |= {(path.name, path.read_text()) for path in folder.glob("*")}
    assert line > 10
    assert left == {("a.csv", "all of it")}


@contextmanager
def interrupted_at(number: int) -> Iterator[None]:
    """KeyboardInterrupt before the ``number``-th line of the storage module that is run."""
    lines = itertools.count(1)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != storage.__file__:
            return trace if event == "call" else None
        if event == "line" and next(lines) == number:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    try:
        sys.settrace(trace)
        with suppress(KeyboardInterrupt):
            yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("error", [ValueError("bad tract"), KeyboardInterrupt(), SystemExit(143)])
@pytest.mark.parametrize("name", ["sol", "sol.gz"])
def test_a_writer_that_raises_leaves_nothing_at_all(root: str, name: str, error: BaseException) -> None:
    def write_and_raise() -> None:
        with sopen(f"{root}/{name}", "w") as file:
            file.write(TEXT * 3)
            raise error

    with pytest.raises(type(error)):
        write_and_raise()
    assert everything_under(root) == []


def test_a_writer_that_closes_its_file_and_then_raises_leaves_nothing(root: str) -> None:
    def write_close_and_raise() -> None:
        with sopen(f"{root}/sol.gz", "w") as file:
            file.write(TEXT)
            file.close()
            raise ValueError

    with pytest.raises(ValueError):
        write_close_and_raise()
    assert everything_under(root) == []


def test_a_file_that_its_writer_closed_is_whole(root: str) -> None:
    with sopen(f"{root}/sol.gz", "w") as file:
        file.write(TEXT)
        file.close()
    assert storage.read_bytes(f"{root}/sol.gz") == TEXT.encode()


def test_a_failed_rewrite_leaves_the_old_file(root: str) -> None:
    with sopen(f"{root}/people.csv", "w") as file:
        file.write("old\n")

    def rewrite() -> None:
        with sopen(f"{root}/people.csv", "w") as file:
            file.write("new\n")
            raise ValueError

    with pytest.raises(ValueError):
        rewrite()
    assert storage.read_bytes(f"{root}/people.csv") == b"old\n"


def test_a_rewrite_replaces_the_old_file(root: str) -> None:
    for content in (b"a long first content", b"short"):
        with sopen(f"{root}/people.csv", "wb") as file:
            file.write(content)
    assert storage.read_bytes(f"{root}/people.csv") == b"short"


def test_a_binary_file_can_be_read_from_anywhere(root: str) -> None:
    with sopen(f"{root}/a.zip", "wb") as file:
        file.write(bytes(range(256)) * 4000)
    with sopen(f"{root}/a.zip", "rb") as file:
        assert file.seek(-2, os.SEEK_END) == 1_023_998
        assert file.read() == b"\xfe\xff"
        file.seek(512_003)
        assert file.read(2) == b"\x03\x04"


def test_size_is_of_the_file_as_it_lies(root: str) -> None:
    with sopen(f"{root}/a.gz", "wb") as file:
        file.write(bytes(100_000))
    assert 0 < storage.size(f"{root}/a.gz") < 2000


def test_a_removed_file_is_gone_and_removing_it_again_is_fine(root: str) -> None:
    with sopen(f"{root}/a", "w") as file:
        file.write("x")
    storage.remove(f"{root}/a")
    assert not storage.exists(f"{root}/a")
    storage.remove(f"{root}/a")


def test_a_folder_lists_its_files_and_folders_by_name(root: str) -> None:
    for name in ("lp/one.lp.gz", "lp/two.lp.gz", "b.csv", "a.csv", "lpx"):
        with sopen(f"{root}/{name}", "w") as file:
            file.write("x")
    assert list(storage.listdir(root)) == ["a.csv", "b.csv", "lp", "lpx"]
    assert list(storage.listdir(f"{root}/lp/")) == ["one.lp.gz", "two.lp.gz"]


def test_a_folder_that_is_not_there_lists_nothing(root: str) -> None:
    assert list(storage.listdir(f"{root}/nowhere")) == []


def test_a_folder_is_not_a_file(root: str) -> None:
    with sopen(f"{root}/lp/one.lp.gz", "w") as file:
        file.write("x")
    assert not storage.exists(f"{root}/lp")


def test_everything_below_a_folder_is_found_with_its_size(root: str) -> None:
    for name in ("work/oh/39059/lp/one.lp", "work/oh/geofile_oh.csv", "dist/oh.zip", "workx"):
        with sopen(f"{root}/{name}", "w") as file:
            file.write("x" * len(name))
    found = list(storage.walk(f"{root}/work/"))
    assert [(item.path, item.size) for item in found] == [
        (f"{root}/work/oh/39059/lp/one.lp", 23),
        (f"{root}/work/oh/geofile_oh.csv", 22),
    ]
    assert all(abs(item.mtime - time.time()) < 100 for item in found)
    assert list(storage.walk(f"{root}/nowhere")) == []


def test_a_folder_that_may_not_be_looked_into_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "state" / "county").mkdir(parents=True)
    (tmp_path / "state").chmod(0)
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []  # root, but by permissions
    code = "import sys; from ctools import storage; print(list(storage.walk(sys.argv[1])))"
    command = [*bound, sys.executable, "-c", code, str(tmp_path / "state" / "county")]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    (tmp_path / "state").chmod(0o700)
    assert f"DeniedFile: Cannot list {tmp_path}/state/county (Permission denied)" in done.stderr


def test_the_sizes_of_many_are_told_in_their_order(root: str) -> None:
    for name in ("a", "c"):
        with sopen(f"{root}/{name}", "w") as file:
            file.write(name * 3)
    found = storage.sizes(f"{root}/{name}" for name in "dcba")
    assert list(found.items()) == [(f"{root}/d", None), (f"{root}/c", 3), (f"{root}/b", None), (f"{root}/a", 3)]


def test_a_large_file_is_read_by_ranges_in_any_order(root: str) -> None:
    content = random.Random(1).randbytes(9_000_000)
    with sopen(f"{root}/big.zip", "wb") as file:
        file.write(content)
    with storage.open_ranges(f"{root}/big.zip") as ranges:
        assert ranges.seek(-22, os.SEEK_END) == len(content) - 22
        assert ranges.read() == content[-22:]
        for start, count in ((8_900_000, 200_000), (4_194_300, 10), (0, 5_000_000), (4_000_000, 4_000_000)):
            ranges.seek(start)
            assert ranges.read(count) == content[start : start + count]
        with pytest.raises(OSError, match="Invalid argument"):
            ranges.seek(-9_000_001, os.SEEK_END)


def test_an_empty_file_has_no_ranges(root: str) -> None:
    with sopen(f"{root}/empty.zip", "wb"):
        pass
    with storage.open_ranges(f"{root}/empty.zip") as ranges:
        assert ranges.read() == b""


def test_a_missing_file_has_no_ranges(root: str) -> None:
    storage.make_writable_check(root)

    def open_it() -> None:
        with storage.open_ranges(f"{root}/nope.zip"):
            pass

    with pytest.raises(storage.MissingFile, match=re.escape(f"{root}/nope.zip")):
        open_it()


def test_a_pipe_or_a_device_in_the_place_of_a_zip_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "device.zip").symlink_to("/dev/zero")
    for name in ("pipe.zip", "device.zip"):
        with pytest.raises(StorageError, match=f"{name}: a pipe or a device"), storage.open_ranges(tmp_path / name):
            pass


def test_a_pipe_that_somebody_names_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "model.lp"
    os.mkfifo(pipe)
    with pytest.raises(StorageError, match=f"{pipe}: a pipe or a device stands where a file is needed"):
        storage.look_named(pipe)


def test_a_usable_root_passes_the_check_and_stays_clean(root: str) -> None:
    storage.make_writable_check(root)
    assert everything_under(root) == []


@pytest.mark.parametrize("use", [storage.read_bytes, storage.size])
def test_a_missing_file_is_named(root: str, use: Any) -> None:
    storage.make_writable_check(root)
    with pytest.raises(StorageError, match=re.escape(f"{root}/nope.gz") + ".*run the step that makes it"):
        use(f"{root}/nope.gz")


def test_a_missing_bucket_is_named(s3_root: str) -> None:
    missing = f"s3://b{uuid.uuid4().hex}/a.csv"

    def write() -> None:
        with sopen(missing, "w") as file:
            file.write("x")

    with pytest.raises(StorageError, match=re.escape(missing) + r" \(S3 PutObject: NoSuchBucket\); there is no such bucket"):
        write()


def test_a_server_that_cannot_be_reached_is_a_sentence(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageError, match=r"not reached .*AWS_ENDPOINT_URL"):
        storage.exists(f"{s3_root}/a")


def test_a_path_without_a_key_is_refused(s3_root: str) -> None:
    with pytest.raises(StorageError, match="s3://bucket/key"):
        storage.read_bytes("s3://bucket")


def test_an_upload_carries_a_checksum(s3_root: str) -> None:
    with sopen(f"{s3_root}/a.csv", "w") as file:
        file.write(TEXT)
    _, _, bucket, key = s3_root.split("/", 3)
    head = s3_client().head_object(Bucket=bucket, Key=f"{key}/a.csv", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"]


def damage(content: bytes, how: str) -> bytes:
    middle = len(content) // 2
    return {
        "cut off": content[:middle],
        "a byte short": content[:-1],
        "nothing": b"",
        "no gzip": b"model of tract 39059977100\n",
        "changed": content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 8]) + content[middle + 8 :],
    }[how]


@pytest.mark.parametrize("how", ["cut off", "a byte short", "nothing", "no gzip", "changed"])
def test_a_damaged_gzip_file_is_named(root: str, how: str) -> None:
    with sopen(f"{root}/whole", "wb") as file:
        file.write(damage(gzip.compress(TEXT.encode(), 1), how))
    path = f"{root}/damaged.gz"
    if root.startswith("s3://"):
        _, _, bucket, key = root.split("/", 3)
        s3_client().put_object(Bucket=bucket, Key=f"{key}/damaged.gz", Body=storage.read_bytes(f"{root}/whole"))
    else:
        os.rename(f"{root}/whole", path)

    def stream() -> None:
        with sopen(path, "rb") as file:
            while file.read(1000):
                pass

    for read in (stream, lambda: storage.read_bytes(path)):
        with pytest.raises(StorageError, match=re.escape(path) + " is not a whole gzip file"):
            read()


def test_an_error_of_the_block_is_not_taken_for_one_of_the_file(tmp_path: Path) -> None:
    def read_and_raise() -> None:
        with sopen(__file__) as file:
            file.read(10)
            raise FileNotFoundError("something else")

    with pytest.raises(FileNotFoundError, match="something else"):
        read_and_raise()


def test_a_file_where_a_folder_is_needed_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("in the way")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        storage.make_writable_check(tmp_path / "work")


def test_a_folder_where_a_file_is_needed_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="a folder stands where a file is needed") as refused:
        storage.read_bytes(tmp_path)
    assert explain(refused.value) == str(refused.value), "what the system said stands in it already"


def test_an_unwritable_root_is_a_sentence() -> None:
    # /proc refuses new folders to everybody, root included.
    with pytest.raises(StorageError, match=r"Cannot write /proc/dbrecon/.*"):
        storage.make_writable_check("/proc/dbrecon")


def run_python(code: str, *args: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, "-c", textwrap.dedent(code), *args],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


WRITE_TOO_MUCH = """
    import os, sys
    from dbrecon.ctools.storage import sopen
    from dbrecon.errors import StorageError
    try:
        with sopen(sys.argv[1], "wb") as file:
            for _ in range(100):
                file.write(os.urandom(10_000))
    except StorageError as error:
        print(error)
    print(os.listdir(os.path.dirname(sys.argv[1])))
"""


@pytest.mark.parametrize("name", ["model.lp", "model.lp.gz"])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    # A file system of 64 KiB in a mount namespace of our own: for root, or by a user namespace.
    mount = f"mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec "
    own = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    trial = subprocess.run([*own, "sh", "-c", mount + "true"], capture_output=True, check=False)
    if trial.returncode:
        pytest.skip("this system lets us mount no small file system")
    path = str(tmp_path / name)
    done = run_python(WRITE_TOO_MUCH, path, prefix=(*own, "sh", "-c", mount + '"$@"', "sh"))
    assert done.stdout == f"{path} cannot be written: the disk is full; free some space and run again.\n[]\n"
    assert done.stderr == ""


def test_a_file_over_the_users_limit_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    done = run_python(limit + textwrap.dedent(WRITE_TOO_MUCH), str(tmp_path / "model.lp"))
    sentence, left = done.stdout.splitlines()
    assert sentence.startswith(f"Cannot write {tmp_path}/model.lp (File too large)")
    assert left == "[]"


def test_a_block_that_passes_over_a_failed_write_gets_no_file(tmp_path: Path) -> None:
    code = """
        import os, resource, sys
        from dbrecon.ctools.storage import sopen
        from dbrecon.errors import StorageError
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            with sopen(sys.argv[1], "wb") as file:
                try:
                    file.write(bytes(1_000_000))
                except StorageError:
                    pass
        except StorageError:
            print("refused", os.listdir(os.path.dirname(sys.argv[1])))
    """
    assert run_python(code, str(tmp_path / "a")).stdout == "refused []\n"


def test_a_killed_writer_leaves_nothing_that_a_reader_sees(tmp_path: Path) -> None:
    code = """
        import sys
        from dbrecon.ctools.storage import sopen
        with sopen(sys.argv[1], "wb") as file:
            file.write(bytes(1_000_000))
            file.flush()
            print("half-way", flush=True)
            sys.stdin.read()
    """
    path = tmp_path / "people.csv"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half-way\n"
        process.send_signal(signal.SIGKILL)
    assert not storage.exists(path)
    assert list(storage.listdir(tmp_path)) == []
    assert storage.clear_leftovers(tmp_path) == 0, "it may still be written by another host"
    assert storage.clear_leftovers(tmp_path, older_than_seconds=-1) == 1
    assert os.listdir(tmp_path) == []


def test_reading_a_huge_file_by_pieces_takes_little_memory(tmp_path: Path) -> None:
    alike = b"".join(os.urandom(500) + bytes(9_500) for _ in range(100))
    with sopen(tmp_path / "alike.gz", "wb") as file:
        for _ in range(300):
            file.write(alike)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with sopen(tmp_path / "alike.gz", "rb") as file:
        while file.read(100_000):
            pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
