"""Files that count only when somebody has accepted them, so that a writer that was overtaken overwrites nothing.

A worker whose claim may have gone to another meanwhile must not put its file in the other's place. So it *stages*:

- Locally the whole file stays under its temporary name, which ``storage.unfinished`` lists, until whoever keeps the claims renames
  it into place (:func:`accept`), or removes it (:func:`discard`).
- On S3, where nothing can be renamed, the object is put at once, on a condition: either nothing is there yet, or what is there is
  exactly what was looked at, and carries no higher *fence* (the number of the claim, which only grows). So it replaces what
  earlier claims have left, and never what a later one has made. In a store that knows no conditional put the object is looked at
  just before; who writes between look and put may be overwritten.

In either case readers compare the digest with the one that was accepted.
"""

import hashlib
import logging
import mmap
import os
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from dbrecon.ctools import s3, storage
from dbrecon.ctools.storage_errors import MISSING, explain, failures, is_s3, no_such
from dbrecon.errors import StorageError

log = logging.getLogger(__name__)

_last: deque[str] = deque(maxlen=1000)
"""Where the newest whole files of this process lie, or lay until they were accepted."""


class Overtaken(StorageError):
    """Somebody with a later claim has written the file: this one is not to be."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A whole file that waits to be accepted. ``temporary`` is where it lies, "" if it is at its ``path`` already (S3).

    ``digest`` is the SHA-256 (hex) of the content, unpacked; ``size`` its bytes, unpacked.
    """

    path: str
    temporary: str
    digest: str
    size: int


class Stage:
    """What :func:`stage` gives: a binary file to write to, and when its block has ended well, :attr:`made`."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self.size = 0
        self.made: Staged

    def write(self, data: bytes) -> int:
        """Write, as to any file."""
        assert self._file is not None
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    @contextmanager
    def on(self, path: str, sink: "_StagedLocal | _FencedS3") -> Iterator["Stage"]:
        """Yield a stage for the block of :func:`stage`."""
        with storage.writing(path, sink) as file:
            self._file = file
            yield self
        temporary = sink.temporary if isinstance(sink, _StagedLocal) else ""
        self.made = Staged(path, temporary, self._hash.hexdigest(), self.size)


@contextmanager
def stage(path: str, token: str = "", fence: int = 0, kms_key: str | None = None) -> Iterator[Stage]:
    """Write a file (gzip if it ends in ``.gz``) that is whole when the block ends well, and waits to be accepted.

    ``token`` names the claim in a local temporary name, ``fence`` is its number. Raises StorageError; Overtaken (S3) if the object
    there carries a higher fence. Then, and if the block raises, nothing is left.
    """
    sink = _FencedS3(path, kms_key, fence) if is_s3(path) else _StagedLocal(path, token)
    with Stage().on(path, sink) as made:
        yield made


def accept(staged: Staged) -> None:
    """Put a staged file in its place; once more is fine. Raises MissingFile if it is gone, another StorageError if it cannot be."""
    if not staged.temporary:
        return
    try:
        os.replace(staged.temporary, staged.path)
    except failures(staged.path) as error:
        gone = isinstance(error, OSError) and error.errno in MISSING
        if gone and storage.exists(staged.path) and digest_of(staged.path) == staged.digest:
            return  # an earlier call did it, and its caller did not learn of it
        if gone:
            raise no_such(staged.temporary) from error
        raise explain(error, staged.path, "write") from error


def discard(staged: Staged) -> None:
    """Remove a staged file that nobody accepts. An object on S3 stays: it may be another's by now, and nobody reads it
    unaccepted."""
    if staged.temporary:
        storage.remove(staged.temporary)


def discard_last() -> None:
    """Discard what this process staged last: for one that is ended, and whose word nobody hears any more."""
    with suppress(StorageError):
        for temporary in _last:
            storage.remove(temporary)


def digest(content: bytes | mmap.mmap) -> str:
    """Return the digest of an artifact's unpacked content."""
    return hashlib.sha256(content).hexdigest()


def digest_of(path: str) -> str:
    """Return the digest of a file's content, unpacked, read in pieces. Raises as reading does."""
    found = hashlib.sha256()
    with storage.sopen(path, "rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


class _StagedLocal(storage.LocalSink):
    """A temporary file beside its final name, which stays when it is whole."""

    def __init__(self, path: str, token: str) -> None:
        super().__init__(path)
        folder, name = os.path.split(path)
        claim = f".{token}" if token else ""
        self.temporary = os.path.join(folder, f".{name}{claim}.{os.getpid()}.{secrets.token_hex(4)}.tmp")

    def commit(self) -> None:
        self.close_synced()
        _last.append(self.temporary)


class _FencedS3(storage.S3Sink):
    """Bytes on their way to S3, to be seen unless a later claim's are there."""

    def __init__(self, path: str, kms_key: str | None, fence: int) -> None:
        super().__init__(path, kms_key)
        self._fence = fence

    def commit(self) -> None:
        if not s3.put_fenced(self.path, self.spool, self._fence, self.kms_key):
            raise Overtaken(f"{self.path}: a later claim has written it meanwhile; this one's content is dropped")
        self.spool.close()
