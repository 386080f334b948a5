"""Files and S3 objects under one set of functions. A path is a local one or ``s3://bucket/key``; ``.gz`` means gzip.

A file that is being written is never visible. Locally it has a temporary name in the same folder,
``.{name}.{pid}.{random}.tmp``, and is flushed to the disk (fsync: 0.4 ms measured on a local SSD, so a power cut leaves
no hollow file) and renamed when the ``with`` block ends well. On S3 it is spooled (in memory up to 32 MiB, then in an
unnamed temporary file) and sent with checksums when the block ends well (see ``dbrecon.ctools.s3``). When the block ends with any
exception there is nothing.

smart_open reads; writing is our own, since smart_open's writers also upload when they are closed or collected after
an exception, and a gzip stream over them does so from its own ``close``: what was half written would be visible.

Gzip is ISA-L's at level 2: on LP text it writes 430 MB/s at a ratio of 2.9, where zlib writes 110 MB/s at 2.7 (level 1)
or 14 MB/s at 3.5 (level 6); it reads 830 MB/s against 315. Headers hold no time and no name, so equal content gives
equal bytes (on processors of one family, with one version of isal).

Every failure is a ``StorageError`` whose sentence names the path; ``MissingFile`` and ``DamagedFile`` are those for which the
file is to blame, ``DeniedFile`` those of a right that this user lacks, and the rest those of the disk or the network.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any, BinaryIO, Literal, Protocol, cast, overload

from isal import igzip, isal_zlib

from dbrecon.ctools import s3
from dbrecon.ctools.patience import outlast_full_disk
from dbrecon.ctools.s3 import Entry, Unfinished, split_s3
from dbrecon.ctools.s3_ranges import RangedReader
from dbrecon.ctools.storage_errors import (
    GZIP_ERRORS,
    MISSING,
    DamagedFile,
    DeniedFile,
    MissingFile,
    NoRegularFile,
    bomb,
    damaged,
    explain,
    failures,
    is_missing,
    is_s3,
    no_such,
    no_such_name,
    too_large,
)
from dbrecon.errors import StorageError

__all__ = [
    "DamagedFile", "DeniedFile", "Entry", "MissingFile", "NoRegularFile", "Unfinished", "clear_leftovers", "exists",
    "is_s3", "keeps_conditions", "listdir", "look", "look_named", "make_writable_check", "open_ranges", "read_bytes",
    "remove", "remove_unfinished", "size", "sizes", "sopen", "split_s3", "unfinished", "walk", "writing",
]  # fmt: skip

GZIP_LEVEL = 2
BUFFER_BYTES = 1 << 18
SPOOL_BYTES = 1 << 25
MAX_RATIO = 300
"""How many times its packed size a gzip file may have. LP files have 3 times, sorted people some 50; deflate reaches 1,032."""
RATIO_FROM = 1 << 26
"""Files up to this many bytes may have any ratio."""
_GZIP = 31  # zlib's name for 15 bits of window, in gzip's frame
LOOKS_AT_ONCE = 16
Path = str | os.PathLike[str]
_TEMPORARY = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.tmp")


@overload
def sopen(
    path: Path, mode: Literal["r", "w"] = "r", encoding: str = "utf-8", kms_key: str | None = None
) -> AbstractContextManager[IO[str]]: ...
@overload
def sopen(
    path: Path, mode: Literal["rb", "wb"], encoding: str = "utf-8", kms_key: str | None = None
) -> AbstractContextManager[IO[bytes]]: ...
def sopen(path: Path, mode: str = "r", encoding: str = "utf-8", kms_key: str | None = None) -> AbstractContextManager[IO[Any]]:
    """Open ``path`` for a ``with`` block: mode r, w (text), rb or wb (bytes).

    A written file appears, whole, when the block ends well, replacing what was there; its folder is made where needed.
    Lines end in "\\n" and are not translated. A binary file that is read can seek unless it is a ``.gz``. ``kms_key``: on S3
    encrypt what is written with this key; None is the bucket's own default. Elsewhere it means nothing.
    """
    if mode not in ("r", "w", "rb", "wb"):
        raise ValueError(f"mode {mode!r} is none of r, w, rb, wb")
    text = None if mode.endswith("b") else encoding
    return _reading(os.fspath(path), text) if mode[0] == "r" else _writing(os.fspath(path), text, kms_key)


def read_bytes(path: Path) -> bytes:
    """Return the content of ``path``, unpacked if it is a ``.gz``. The fastest way to read a whole file: on S3, one request."""
    path = os.fspath(path)
    if is_s3(path):
        try:
            content = s3.read_all(path)
        except failures(path) as error:
            raise explain(error, path, "read") from error
    else:
        with _reading(path, None, unpack=False) as file:
            content = _in_memory(path, file.read)
    if not path.endswith(".gz"):
        return content
    try:
        if not content:
            raise EOFError
        return _in_memory(path, lambda: _unpacked(path, content))
    except GZIP_ERRORS as error:
        raise damaged(path) from error


def mapped(path: Path) -> bytes | mmap.mmap:
    """Return the content of ``path``, to look at here and there: a local file is mapped, so that only what is looked at is read.

    For files that are replaced as a whole and never changed in place, as all of ours are.
    """
    path = os.fspath(path)
    if is_s3(path) or path.endswith(".gz"):
        return read_bytes(path)
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return b""  # an empty file cannot be mapped
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except failures(path) as error:
        raise explain(error, path, "read") from error


def _in_memory(path: str, read: Callable[[], bytes]) -> bytes:
    """Return what ``read`` gives. StorageError if this process has not the memory for it."""
    try:
        return read()
    except MemoryError as error:
        raise too_large(path) from error


def _unpacked(path: str, packed: bytes) -> bytes:
    """Return the content of a gzip file. Raises DamagedFile for one that unpacks to far more than a file of ours."""
    most = max(RATIO_FROM, MAX_RATIO * len(packed))
    first = isal_zlib.decompressobj(_GZIP)
    content = first.decompress(packed, most + 1)
    if len(content) > most:
        raise bomb(path, MAX_RATIO)
    if not first.eof:
        raise EOFError
    if not first.unused_data.strip(b"\0"):
        return bytes(content)
    with igzip.IGzipFile(filename="", mode="rb", fileobj=io.BytesIO(packed)) as unpacked:  # of several members
        content = unpacked.read(most + 1)
    if len(content) > most:
        raise bomb(path, MAX_RATIO)
    return bytes(content)


@contextmanager
def open_ranges(path: Path) -> Iterator[BinaryIO]:
    """Yield a large binary file of which parts will be read, in any order, for a ``with`` block. Seekable.

    On S3 only the ranges that are read are fetched, once, into a temporary file that ends with the block or the process.
    """
    path = os.fspath(path)
    if not is_s3(path):
        try:
            _refuse_pipe(path)
            file = open(path, "rb")  # noqa: SIM115 - closed below; not guarded: zipfile counts on a file's own errors
        except OSError as error:
            raise explain(error, path, "read") from error
        with file:
            yield file
        return
    with contextlib.closing(RangedReader(path)) as ranges, io.BufferedReader(ranges, BUFFER_BYTES) as buffered:
        yield cast("BinaryIO", buffered)


def exists(path: Path) -> bool:
    """Return whether there is a file or object at ``path`` (a folder is not one)."""
    return _look(os.fspath(path)) is not None


def look(path: Path) -> Entry:
    """Return size and time of the file or object. MissingFile where there is none."""
    found = _look(os.fspath(path))
    if found is None:
        raise no_such(os.fspath(path))
    return found


def look_named(path: Path) -> Entry:
    """Return the same for a name that somebody typed: MissingFile says to correct it, or that it is a folder's."""
    path = os.fspath(path)
    found = _look(path)
    if found is not None and not is_s3(path):
        _refuse_pipe(path)
    if found is None:
        raise no_such_name(path, os.path.isdir(path) or next(listdir(path), None) is not None)
    return found


def size(path: Path) -> int:
    """Return the bytes that ``path`` has where it lies (packed, for a ``.gz``). MissingFile where there is none."""
    return look(path).size


def sizes(paths: Iterable[str]) -> dict[str, int | None]:
    """Return the bytes of each path as it lies, None where there is no file. On S3 many are looked at at a time."""
    paths = list(paths)
    if not paths or not is_s3(paths[0]):
        return {path: found.size if found else None for path, found in zip(paths, map(_look, paths), strict=True)}
    with ThreadPoolExecutor(LOOKS_AT_ONCE, "looks") as pool:
        return {path: found.size if found else None for path, found in zip(paths, pool.map(_look, paths), strict=True)}


def remove(path: Path) -> None:
    """Remove the file or object. One that is not there is fine."""
    path = os.fspath(path)
    try:
        if is_s3(path):
            s3.delete(path)
        else:
            os.unlink(path)
    except failures(path) as error:
        if not (isinstance(error, OSError) and error.errno in MISSING):
            raise explain(error, path, "remove") from error


def listdir(folder: Path) -> Iterator[str]:
    """Yield the names in a folder (files and folders; below a prefix on S3), sorted. None where there is no such folder.

    Files under construction are left out.
    """
    folder = os.fspath(folder)
    try:
        names = s3.names(folder) if is_s3(folder) else os.listdir(folder)
    except failures(folder) as error:
        if isinstance(error, OSError) and error.errno in MISSING:
            return
        raise explain(error, folder, "list") from error
    yield from sorted(name for name in names if not _TEMPORARY.fullmatch(name))


def walk(folder: Path) -> Iterator[Entry]:
    """Yield every file below a folder, however deep, by path. None where there is no such folder.

    Files under construction are left out. On S3 one request lists a thousand.
    """
    folder = os.fspath(folder)
    try:
        yield from s3.walk(folder) if is_s3(folder) else _walk_local(folder)
    except failures(folder) as error:
        raise explain(error, folder, "list") from error


def _walk_local(folder: str, temporary: bool = False) -> Iterator[Entry]:
    """Yield the files below a local folder: those that are whole, or those under construction."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk_local(entry.path, temporary)
        elif bool(_TEMPORARY.fullmatch(entry.name)) == temporary:
            # It may have been renamed into place, or removed, since.
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat()
                yield Entry(entry.path, found.st_size, int(found.st_mtime))


def unfinished(folder: Path) -> list[Unfinished]:
    """Return what is being written below a folder, or was when its writer died: uploads in parts, or local temporary files."""
    folder = os.fspath(folder)
    try:
        if is_s3(folder):
            return list(s3.unfinished(folder))
        return [Unfinished(entry.path, entry.mtime, "") for entry in _walk_local(folder, temporary=True)]
    except failures(folder) as error:
        raise explain(error, folder, "list") from error


def remove_unfinished(found: Unfinished) -> None:
    """Remove something that ``unfinished`` has found. Whoever still writes it will fail."""
    try:
        if is_s3(found.path):
            s3.abort(found)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(found.path)
    except failures(found.path) as error:
        raise explain(error, found.path, "remove") from error


def make_writable_check(root: Path, kms_key: str | None = None) -> None:
    """Write and removes a small file below ``root``, made where needed. StorageError where that fails."""
    path = f"{os.fspath(root).rstrip('/')}/writable-check-{os.getpid()}-{secrets.token_hex(4)}"
    with sopen(path, "wb", kms_key=kms_key) as file:
        file.write(b"writable\n")
    remove(path)


def keeps_conditions(root: Path, kms_key: str | None = None) -> bool | None:
    """Return whether a store on S3 holds a put to its condition, on which the safety from overtaken writers rests. None: it refuses
    such puts, and says so."""
    path = f"{os.fspath(root).rstrip('/')}/condition-check-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        return s3.keeps_conditions(path, kms_key)
    except failures(path) as error:
        raise explain(error, path, "write") from error


def clear_leftovers(folder: Path, older_than_seconds: float = 86400.0) -> int:
    """Remove what killed writers left below a folder. Returns how many.

    The age must be beyond the longest write, since other hosts, whose processes cannot be seen, may write there.
    """
    old = [found for found in unfinished(folder) if time.time() - found.begun > older_than_seconds]
    for found in old:
        remove_unfinished(found)
    return len(old)


class _Guard(io.RawIOBase):
    """A raw file whose failures are StorageErrors, and which swallows writes once its file is given up."""

    def __init__(self, inner: Any, path: str, action: str, packed: Any = None) -> None:
        self._inner = inner
        self._packed = packed
        self._path = path
        self._action = action
        self._errors = (*failures(path), *GZIP_ERRORS)
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
            return self._checked(int(self._inner.readinto(buffer)))

    def readall(self) -> bytes:
        with self._explained():
            pieces = []
            while piece := self._inner.read(BUFFER_BYTES):
                pieces.append(bytes(piece))
                self._checked(len(piece))
            self._checked(sum(map(len, pieces)))
            return b"".join(pieces)

    def _checked(self, count: int) -> int:
        """``count`` of bytes that came, unless the packed file has no byte at all (gzip of nothing has 20), or unpacks to far more
        than a file of ours."""
        if self._packed is None:
            return count
        packed = self._packed.tell()
        if count == 0 and packed == 0:
            raise EOFError
        if self._inner.tell() > max(RATIO_FROM, MAX_RATIO * packed):
            raise bomb(self._path, MAX_RATIO)
        return count

    def write(self, data: Any) -> int:
        if self.given_up:
            return len(data)
        with self._explained():
            return outlast_full_disk(lambda: int(self._inner.write(data)), self._path)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            self.failure = explain(error, self._path, self._action)
            raise self.failure from error


@contextmanager
def _reading(path: str, encoding: str | None, unpack: bool = True) -> Iterator[IO[Any]]:
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(s3.open_reader(path) if is_s3(path) else open(path, "rb", buffering=0))  # noqa: SIM115
        except failures(path) as error:
            raise explain(error, path, "read") from error
        guard = _Guard(raw, path, "read")
        if unpack and path.endswith(".gz"):
            inner = stack.enter_context(igzip.IGzipFile(filename="", mode="rb", fileobj=raw))
            guard = _Guard(inner, path, "read", packed=raw)
        buffered = stack.enter_context(io.BufferedReader(guard, BUFFER_BYTES))
        if encoding is None:
            yield buffered
        else:
            yield stack.enter_context(io.TextIOWrapper(buffered, encoding=encoding, newline="\n"))


class Sink(Protocol):
    """Where bytes go until it is decided whether they are to be seen."""

    def open(self) -> Any: ...

    def commit(self) -> None: ...

    def abort(self) -> None: ...


def writing(path: str, sink: Sink, encoding: str | None = None) -> AbstractContextManager[IO[Any]]:
    """As ``sopen`` writes, with a sink that decides what becomes of the bytes (see ``dbrecon.ctools.staging``)."""
    return _through(path, encoding, sink)


def _writing(path: str, encoding: str | None, kms_key: str | None) -> AbstractContextManager[IO[Any]]:
    return _through(path, encoding, S3Sink(path, kms_key) if is_s3(path) else LocalSink(path))


@contextmanager
def _through(path: str, encoding: str | None, sink: Sink) -> Iterator[IO[Any]]:
    guard: _Guard | None = None
    try:  # from here on a signal may come at any time
        try:
            guard = _Guard(sink.open(), path, "write")
        except failures(path) as error:
            raise explain(error, path, "write") from error
        # Not "with": their exits would flush into a file that may have been given up.
        bottom = io.BufferedWriter(guard, BUFFER_BYTES)
        top: Any = bottom
        if path.endswith(".gz"):
            packer = igzip.IGzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=bottom, mtime=0)
            top = io.BufferedWriter(cast("io.RawIOBase", packer), BUFFER_BYTES)
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
        except failures(path) as error:
            raise explain(error, path, "write") from error
    except BaseException:
        if guard is not None:
            guard.given_up = True
        sink.abort()
        raise


class LocalSink:
    """A temporary file beside its final name."""

    def __init__(self, path: str) -> None:
        self._folder, name = os.path.split(path)
        self._path = path
        self.temporary = os.path.join(self._folder, f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        self._file: io.FileIO | None = None

    def open(self) -> io.FileIO:
        os.makedirs(self._folder or ".", exist_ok=True)
        self._file = outlast_full_disk(lambda: io.FileIO(self.temporary, "xb"), self._path)
        return self._file

    def close_synced(self) -> None:
        """Close the file, on the disk as a whole."""
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._file.close()

    def commit(self) -> None:
        self.close_synced()
        os.replace(self.temporary, self._path)

    def abort(self) -> None:
        if self._file is not None:
            self._file.close()
        if os.path.lexists(self.temporary):
            os.unlink(self.temporary)


class S3Sink:
    """Bytes on their way to S3: nothing is sent before ``commit``."""

    def __init__(self, path: str, kms_key: str | None) -> None:
        split_s3(path)
        self.path, self.kms_key = path, kms_key
        self.spool: Any = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - closed by either

    def open(self) -> Any:
        return self.spool

    def commit(self) -> None:
        s3.put(self.path, self.spool, self.kms_key)
        self.spool.close()

    def abort(self) -> None:
        self.spool.close()


def _refuse_pipe(path: str) -> None:
    """Raise StorageError for what is neither file nor folder: a pipe would keep us waiting, a device has no end."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise NoRegularFile(f"{path}: a pipe or a device stands where a file is needed: move it away.")


def _look(path: str) -> Entry | None:
    try:
        if is_s3(path):
            return s3.look(path)
        found = os.stat(path)
        return None if os.path.isdir(path) else Entry(path, found.st_size, int(found.st_mtime))
    except failures(path) as error:
        if is_missing(error):
            return None
        raise explain(error, path, "look at") from error
