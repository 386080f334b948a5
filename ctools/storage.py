"""Files and S3 objects under one set of functions. A path is a local one or ``s3://bucket/key``; ``.gz`` means gzip.

A file that is being written is never visible. Locally it has a temporary name in the same folder,
``.{name}.{pid}.{random}.tmp``, and is flushed to the disk (fsync: 0.4 ms measured on a local SSD, so a power cut leaves
no hollow file) and renamed when the ``with`` block ends well. On S3 it is spooled (in memory up to 32 MiB, then in an
unnamed temporary file) and sent by one PUT with a checksum when the block ends well: one request a file, no unfinished
multipart upload whatever dies, at most 5 GiB. When the block ends with any exception there is nothing.

Gzip is ISA-L's at level 2: on LP text it writes 430 MB/s at a ratio of 2.9, where zlib writes 110 MB/s at 2.7 (level 1)
or 14 MB/s at 3.5 (level 6); it reads 830 MB/s against 315. Headers hold no time and no name, so equal content gives
equal bytes (on processors of one family, with one version of isal).

Every failure is a ``StorageError`` whose sentence names the path.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any, Literal, Protocol, cast, overload

from isal import igzip, isal_zlib

from dbrerrors import StorageError

GZIP_LEVEL = 2
BUFFER_BYTES = 1 << 18
SPOOL_BYTES = 1 << 25
Path = str | os.PathLike[str]
_TEMPORARY = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.tmp")
_GZIP_ERRORS: tuple[type[BaseException], ...] = (
    EOFError,
    zlib.error,
    cast(type[BaseException], isal_zlib.error),
    igzip.BadGzipFile,
)
_MISSING = (errno.ENOENT, errno.ENOTDIR)

_clients: dict[tuple[object, ...], Any] = {}


@overload
def sopen(path: Path, mode: Literal["r", "w"] = "r", encoding: str = "utf-8") -> AbstractContextManager[IO[str]]: ...
@overload
def sopen(path: Path, mode: Literal["rb", "wb"], encoding: str = "utf-8") -> AbstractContextManager[IO[bytes]]: ...
def sopen(path: Path, mode: str = "r", encoding: str = "utf-8") -> AbstractContextManager[IO[Any]]:
    """Opens ``path`` for a ``with`` block: mode r, w (text), rb or wb (bytes).

    A written file appears, whole, when the block ends well, replacing what was there; its folder is made where needed.
    Lines end in "\\n" and are not translated. A binary file that is read can seek unless it is a ``.gz``.
    """
    if mode not in ("r", "w", "rb", "wb"):
        raise ValueError(f"mode {mode!r} is none of r, w, rb, wb")
    text = None if mode.endswith("b") else encoding
    return _reading(os.fspath(path), text) if mode[0] == "r" else _writing(os.fspath(path), text)


def read_bytes(path: Path) -> bytes:
    """The content of ``path``, unpacked if it is a ``.gz``. The fastest way to read a whole file."""
    path = os.fspath(path)
    with _reading(path, None, unpack=False) as file:
        content = cast(bytes, file.read())
    if not path.endswith(".gz"):
        return content
    try:
        if not content:
            raise EOFError
        return bytes(igzip.decompress(content))
    except _GZIP_ERRORS as error:
        raise _damaged(path) from error


def exists(path: Path) -> bool:
    """Whether there is a file or object at ``path`` (a folder is not one)."""
    return _size_or_none(os.fspath(path)) is not None


def size(path: Path) -> int:
    """The bytes that ``path`` has where it lies (packed, for a ``.gz``). StorageError where there is none."""
    found = _size_or_none(os.fspath(path))
    if found is None:
        raise _no_such(os.fspath(path))
    return found


def remove(path: Path) -> None:
    """Removes the file or object. One that is not there is fine."""
    path = os.fspath(path)
    try:
        if is_s3(path):
            bucket, key = split_s3(path)
            _client().delete_object(Bucket=bucket, Key=key)
        else:
            os.unlink(path)
    except _failures(path) as error:
        if not (isinstance(error, OSError) and error.errno in _MISSING):
            raise _explain(error, path, "remove") from error


def listdir(folder: Path) -> Iterator[str]:
    """The names in a folder (files and folders; below a prefix on S3), sorted. None where there is no such folder.

    Files under construction are left out.
    """
    folder = os.fspath(folder)
    try:
        names = _s3_names(folder) if is_s3(folder) else os.listdir(folder)
    except _failures(folder) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOENT:
            return
        raise _explain(error, folder, "list") from error
    yield from sorted(name for name in names if not _TEMPORARY.fullmatch(name))


@contextmanager
def local_copy(path: Path) -> Iterator[str]:
    """A local path with the bytes of ``path``: itself, or for an S3 object a temporary copy that lives as long as the
    block.

    For programs that open files by name. The copy keeps the name, so endings such as ``.lp.gz`` stay.
    """
    path = os.fspath(path)
    if not is_s3(path):
        if not exists(path):
            raise _no_such(path)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="dbrecon-") as folder:
        copy = os.path.join(folder, path.rsplit("/", 1)[1])
        with _reading(path, None, unpack=False) as source, open(copy, "wb") as target:
            shutil.copyfileobj(source, target, BUFFER_BYTES)
        yield copy


def make_writable_check(root: Path) -> None:
    """Writes and removes a small file below ``root``, made where needed. StorageError where that fails."""
    path = f"{os.fspath(root).rstrip('/')}/writable-check-{os.getpid()}-{secrets.token_hex(4)}"
    with sopen(path, "wb") as file:
        file.write(b"writable\n")
    remove(path)


def clear_leftovers(folder: Path, older_than_seconds: float = 86400.0) -> int:
    """Removes temporary files that killed writers left in a local folder. Returns how many. S3 has none.

    The age must be beyond the longest write, since the folder may be shared with hosts whose processes cannot be seen.
    """
    folder = os.fspath(folder)
    count = 0
    if is_s3(folder) or not os.path.isdir(folder):
        return count
    for entry in os.scandir(folder):
        if _TEMPORARY.fullmatch(entry.name):
            # Another node may clear the same folder.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - entry.stat().st_mtime > older_than_seconds:
                    os.unlink(entry.path)
                    count += 1
    return count


def is_s3(path: Path) -> bool:
    """Whether ``path`` is on S3."""
    return os.fspath(path).startswith("s3://")


def split_s3(path: str) -> tuple[str, str]:
    """(bucket, key) of an ``s3://bucket/key`` path."""
    bucket, _, key = path.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise StorageError(f"{path} is not the path of an S3 object: that is s3://bucket/key.")
    return bucket, key


class _Guard(io.RawIOBase):
    """A raw file whose failures are StorageErrors, and which swallows writes once its file is given up."""

    def __init__(self, inner: Any, path: str, action: str, packed: Any = None) -> None:
        self._inner = inner
        self._packed = packed
        self._path = path
        self._action = action
        self._errors = (*_failures(path), *_GZIP_ERRORS)
        self.failure: StorageError | None = None
        self.given_up = False

    def readable(self) -> bool:
        return self._action == "read"

    def writable(self) -> bool:
        return self._action == "write"

    def seekable(self) -> bool:
        return bool(self._action == "read" and self._inner.seekable())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with self._explained():
            return int(self._inner.seek(offset, whence))

    def tell(self) -> int:
        return int(self._inner.tell())

    def fileno(self) -> int:
        return int(self._inner.fileno())

    def readinto(self, buffer: Any) -> int:
        with self._explained():
            return self._not_hollow(int(self._inner.readinto(buffer)))

    def readall(self) -> bytes:
        with self._explained():
            content = bytes(self._inner.read())
            self._not_hollow(len(content))
            return content

    def _not_hollow(self, count: int) -> int:
        """``count``, unless nothing came because the packed file has no byte at all: gzip of nothing has 20."""
        if count == 0 and self._packed is not None and self._packed.tell() == 0:
            raise EOFError
        return count

    def write(self, data: Any) -> int:
        if self.given_up:
            return len(data)
        with self._explained():
            return int(self._inner.write(data))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            self.failure = _explain(error, self._path, self._action)
            raise self.failure from error


@contextmanager
def _reading(path: str, encoding: str | None, unpack: bool = True) -> Iterator[IO[Any]]:
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(_open_s3_reader(path) if is_s3(path) else open(path, "rb", buffering=0))  # noqa: SIM115
        except _failures(path) as error:
            raise _explain(error, path, "read") from error
        guard = _Guard(raw, path, "read")
        if unpack and path.endswith(".gz"):
            inner = stack.enter_context(igzip.IGzipFile(filename="", mode="rb", fileobj=raw))
            guard = _Guard(inner, path, "read", packed=raw)
        buffered = stack.enter_context(io.BufferedReader(guard, BUFFER_BYTES))
        if encoding is None:
            yield buffered
        else:
            yield stack.enter_context(io.TextIOWrapper(buffered, encoding=encoding, newline="\n"))


class _Sink(Protocol):
    """Where bytes go until it is decided whether they are to be seen."""

    raw: Any

    def commit(self) -> None: ...

    def abort(self) -> None: ...


@contextmanager
def _writing(path: str, encoding: str | None) -> Iterator[IO[Any]]:
    try:
        sink: _Sink = _S3Sink(path) if is_s3(path) else _LocalSink(path)
    except _failures(path) as error:
        raise _explain(error, path, "write") from error
    guard = _Guard(sink.raw, path, "write")
    try:
        # Not "with": their exits would flush into a file that may have been given up.
        bottom = io.BufferedWriter(guard, BUFFER_BYTES)
        top: Any = bottom
        if path.endswith(".gz"):
            packer = igzip.IGzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=bottom, mtime=0)
            top = io.BufferedWriter(cast(io.RawIOBase, packer), BUFFER_BYTES)
        if encoding is not None:
            top = io.TextIOWrapper(top, encoding=encoding, newline="\n")
        yield top
        top.close()
        bottom.close()
        if guard.failure is not None:
            # The block caught a failed write and went on: the file is not whole.
            raise guard.failure
        try:
            sink.commit()
        except _failures(path) as error:
            raise _explain(error, path, "write") from error
    except BaseException:
        guard.given_up = True
        sink.abort()
        raise


class _LocalSink:
    """A temporary file beside its final name."""

    def __init__(self, path: str) -> None:
        folder, name = os.path.split(path)
        self._path = path
        self._temporary = os.path.join(folder, f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        os.makedirs(folder or ".", exist_ok=True)
        self.raw = open(self._temporary, "xb", buffering=0)  # noqa: SIM115 - closed by commit or abort

    def commit(self) -> None:
        os.fsync(self.raw.fileno())
        self.raw.close()
        os.replace(self._temporary, self._path)

    def abort(self) -> None:
        self.raw.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary)


class _S3Sink:
    """smart_open's writer of one PUT. Left alone it would upload when closed or collected: abort() must come first."""

    def __init__(self, path: str) -> None:
        from smart_open import s3

        bucket, key = split_s3(path)
        self._spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - closed by either
        self.raw: Any = s3.open(
            bucket, key, "wb", multipart_upload=False, client=_client(), writebuffer=cast(io.BytesIO, self._spool)
        )

    def commit(self) -> None:
        self.raw.close()

    def abort(self) -> None:
        if not self.raw.closed:
            self.raw.terminate()
        self._spool.close()


def _open_s3_reader(path: str) -> Any:
    from smart_open import s3

    bucket, key = split_s3(path)
    return s3.open(bucket, key, "rb", buffer_size=BUFFER_BYTES, client=_client())


def _client() -> Any:
    """This process's S3 client, by the ordinary AWS settings; made when first needed, never inherited by a fork."""
    key = (os.getpid(), *(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE")))
    if key not in _clients:
        import boto3
        from botocore.config import Config

        retries: dict[str, Any] = {}
        if "AWS_RETRY_MODE" not in os.environ:
            retries["mode"] = "adaptive"
        if "AWS_MAX_ATTEMPTS" not in os.environ:
            retries["total_max_attempts"] = 6
        config = Config(retries=cast(Any, retries), connect_timeout=10, read_timeout=60)
        _clients.clear()
        _clients[key] = boto3.session.Session().client("s3", config=config)
    return _clients[key]


def _failures(path: str) -> tuple[type[BaseException], ...]:
    """What the system, or for S3 smart_open and botocore, raise where ``path`` cannot be used."""
    if not is_s3(path):
        return (OSError,)
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    return (OSError, ValueError, BotoCoreError, ClientError, HTTPError)


def _size_or_none(path: str) -> int | None:
    try:
        if is_s3(path):
            bucket, key = split_s3(path)
            return int(_client().head_object(Bucket=bucket, Key=key)["ContentLength"])
        found = os.stat(path)
        return None if os.path.isdir(path) else found.st_size
    except _failures(path) as error:
        if _is_missing(error):
            return None
        raise _explain(error, path, "look at") from error


def _s3_names(folder: str) -> list[str]:
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")
    prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    names: list[str] = []
    for page in _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
        names += [one["Prefix"][len(prefix) :].rstrip("/") for one in page.get("CommonPrefixes", [])]
        names += [one["Key"][len(prefix) :] for one in page.get("Contents", [])]
    return [name for name in names if name]


def _s3_code(error: BaseException) -> str:
    """The S3 error code behind ``error``, which smart_open may have wrapped; "" where there is none."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        seen = getattr(seen, "backend_error", None) or seen.__cause__ or seen.__context__
    return ""


def _is_missing(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _MISSING
    return _s3_code(error) in ("404", "NoSuchKey", "NotFound")


def _no_such(path: str) -> StorageError:
    return StorageError(f"{path} does not exist; run the step that makes it, or correct the path.")


def _damaged(path: str) -> StorageError:
    return StorageError(f"{path} is not a whole gzip file; remove it and make it again.")


def _explain(error: BaseException, path: str, action: str) -> StorageError:
    """The sentence for a failure of ``action`` ("read", "write", "remove", "list", "look at") on ``path``."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, _GZIP_ERRORS):
        return _damaged(path)
    if is_s3(path):
        return _explain_s3(error, path, action)
    if _is_missing(error) and action != "write":
        return _no_such(path)
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{path} cannot be written: the disk is full; free some space and run again.")
    reason = os.strerror(number) if number else str(error)
    remedy = {
        errno.EACCES: "give this user the right to it",
        errno.EPERM: "give this user the right to it",
        errno.EROFS: "choose a root that can be written",
        errno.EEXIST: "a file stands where a folder is needed: move it away",
        errno.ENOTDIR: "a file stands where a folder is needed: move it away",
        errno.EISDIR: "a folder stands where a file is needed: move it away",
        errno.EMFILE: "raise the limit on open files (ulimit -n)",
    }.get(number or 0, "check the disk and run again")
    return StorageError(f"Cannot {action} {path} ({reason}); {remedy}.")


_S3_REMEDIES = {
    "NoSuchBucket": "there is no such bucket: make it or correct DAS_S3ROOT",
    "NoSuchKey": "there is no such object: run the step that makes it",
    "404": "there is no such bucket or object: run the step that makes it, or correct DAS_S3ROOT",
    "403": "access is denied: give these credentials the right to the bucket and key (and to list the bucket)",
    "AccessDenied": "access is denied: give these credentials the right to the bucket and key",
    "ExpiredToken": "the AWS credentials have expired: renew them",
    "InvalidAccessKeyId": "the AWS access key is not known there: correct the credentials",
    "SignatureDoesNotMatch": "the AWS secret key is not right: correct the credentials",
    "SlowDown": "S3 keeps asking to slow down: run fewer workers, or again later",
    "EntityTooLarge": "the object is over the 5 GiB of one PUT",
}


def _explain_s3(error: BaseException, path: str, action: str) -> StorageError:
    code = _s3_code(error)
    cause: BaseException = error
    while isinstance(cause, (ValueError, OSError)) and cause.__cause__ is not None:
        cause = cause.__cause__
    name = type(cause).__name__
    if code:
        remedy = _S3_REMEDIES.get(code, f"S3 answered {code}: run again, and see the bucket's settings if it stays")
    elif "Credential" in name or "Profile" in name or "Token" in name:
        remedy = "there are no usable AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    else:
        remedy = f"S3 was not reached or broke off ({name}): check the network and AWS_ENDPOINT_URL, and run again"
    return StorageError(f"Cannot {action} {path}; {remedy}.")
