"""One process of a kind on a node: a lock file that says who holds it, and that dies with its holder.

The lock is a POSIX record lock (``fcntl.lockf``). The system drops it when the holder ends, however it ends, and a
forked child does not inherit it, so that orphaned workers of a killed scheduler cannot keep the next one out (flock(2), by
which the filelock package locks, is inherited; nor does that package tell who holds a lock). What the file says is for reading
only: a file left behind by a dead process locks nothing. It lies in a folder that no other user can write to, so that nobody
else can hold it, or lead it elsewhere by a link.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import time
from dataclasses import asdict, dataclass
from types import TracebackType

from dbrecon.ctools.host import host_name
from dbrecon.ctools.private_folder import open_private_file, run_folder
from dbrecon.errors import StorageError

_FLOCK = struct.Struct("@hhqqi")  # struct flock of fcntl(2): type, whence, start, length, pid


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: its process, and since when (Unix time)."""

    pid: int
    since: int

    def __str__(self) -> str:
        """pid 4711, since 2021-04-07 19:51:32 UTC"""
        return f"pid {self.pid}, since {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(self.since))} UTC"


# Locks that this process holds, by (pid, path). POSIX does not refuse the holder itself, and closing any descriptor of
# the file would drop the lock, so a second attempt must not even open it.
_held: dict[tuple[int, str], Holder] = {}


def node_lock_path(name: str) -> str:
    """Return where this user's lock called ``name`` lies on this node. It has the node's name: nodes may share a home."""
    return os.path.join(run_folder(), f"{host_name()}-{name}.lock")


class NodeLock:
    """A lock on this node. ``acquire`` does not wait; the lock is held until ``release``, or the end of the process.

    As a context manager it releases on leaving; ``acquire`` must have succeeded before.
    """

    def __init__(self, path: str) -> None:
        """``path`` is a file, made where needed, in a folder of this user's alone (see :mod:`dbrecon.ctools.private_folder`)."""
        self._path = os.path.abspath(path)
        self._descriptor: int | None = None

    def acquire(self) -> Holder | None:
        """None when the lock is now held here; otherwise who holds it. StorageError where the file cannot be used."""
        key = (os.getpid(), self._path)
        if key in _held:
            return _held[key]
        try:
            descriptor = open_private_file(self._path)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = self._parse(os.pread(descriptor, 1000, 0))
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return holder
            raise self._unusable(error) from error
        _held[key] = Holder(os.getpid(), int(time.time()))
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(_held[key])).encode() + b"\n", 0)
        return None

    def release(self) -> None:
        """Give the lock up. The file stays (to unlink it could take it from under another's feet)."""
        if self._descriptor is not None:
            # A forked child that leaves the same "with" holds nothing, and must not wipe out what the file says.
            if _held.pop((os.getpid(), self._path), None) is not None:
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> Holder | None:
        """Return who holds the lock; None if nobody does. StorageError where the file cannot be used."""
        key = (os.getpid(), self._path)
        if key in _held:
            return _held[key]
        try:
            descriptor = open_private_file(self._path, make=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        try:
            # Asks only: to take the lock for a moment could turn a scheduler away that starts just then.
            asked = fcntl.fcntl(descriptor, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            kind, _, _, _, pid = _FLOCK.unpack(asked)
            written = self._parse(os.pread(descriptor, 1000, 0))
        except OSError as error:
            raise self._unusable(error) from error
        finally:
            os.close(descriptor)
        return None if kind == fcntl.F_UNLCK else Holder(pid, written.since)

    def __enter__(self) -> NodeLock:
        """Return the lock itself."""
        if self._descriptor is None:
            raise ValueError(f"{self._path}: acquire() has not been called, or did not succeed")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Releases."""
        self.release()

    def _parse(self, content: bytes) -> Holder:
        """Return what the file says. Its holder may be between locking and writing: pid 0 then, for an unknown one."""
        try:
            fields = json.loads(content)
            return Holder(int(fields["pid"]), int(fields["since"]))
        except (ValueError, KeyError, TypeError):
            return Holder(0, int(time.time()))

    def _unusable(self, error: OSError) -> StorageError:
        return StorageError(f"{self._path} cannot be used as a lock ({error.strerror}); remove it or correct its rights.")
