"""Talking to a running scheduler: a Unix socket of its node, one command a connection, answered in text.

The scheduler answers from a thread of its own, so that it is heard also while the database keeps its main thread waiting.
The socket lies beside the lock that makes a scheduler the only one on its node; whoever holds the lock owns it.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Mapping
from types import TracebackType

from dbrecon.ctools.locks import NodeLock, node_lock_path
from dbrecon.errors import DBReconError, StorageError

log = logging.getLogger(__name__)

COMMANDS = {
    "stop": "finish the tracts in work, then leave (as SIGTERM)",
    "halt": "put the tracts in work back, then leave (as SIGINT)",
    "list": "the tracts in work",
    "ps": "its processes",
    "uptime": "since when it runs, and what it did",
}
ANSWER_SECONDS = 10.0
ASK_SECONDS = 1.0  # for whoever has connected; others wait meanwhile
_LONGEST = 100  # bytes of a command
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid of a peer: struct ucred of unix(7)

Commands = Mapping[str, Callable[[], str]]


class NotRunning(DBReconError):
    """No scheduler runs on this node."""


def control_path() -> str:
    """Where this user's scheduler on this node listens."""
    return node_lock_path("scheduler").removesuffix(".lock") + ".socket"


class ControlServer:
    """Answers ``commands`` at ``path`` while its ``with`` block lasts. To be used by the holder of the node's lock alone:
    a socket that a dead one left is replaced."""

    def __init__(self, path: str, commands: Commands) -> None:
        """Raises StorageError where the socket cannot be made."""
        self._path, self._commands = path, commands
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)  # from its first moment only we may connect
        try:
            _remove_socket(path)
            self._socket.bind(path)
            self._socket.listen(8)
        except OSError as error:
            self._socket.close()
            reason = error.strerror or error
            raise StorageError(f"{path}: no socket can be made there ({reason}); remove what is in its way.") from error
        finally:
            os.umask(mask)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def __enter__(self) -> ControlServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """The socket goes first, so that nobody talks to one who no longer listens."""
        _remove_socket(self._path)
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # shut down
            with connection:
                connection.settimeout(ASK_SECONDS)
                try:
                    connection.sendall(self._answer(connection).encode())
                except OSError as error:
                    log.debug("whoever asked went away: %s", error)

    def _answer(self, connection: socket.socket) -> str:
        _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid not in (os.getuid(), 0):
            return "refused: another user's scheduler\n"
        command = _read_line(connection)
        if command not in self._commands:
            return f"unknown command {command!r}: one of {', '.join(self._commands)}\n"
        log.debug("told: %s", command)
        return self._commands[command]().rstrip("\n") + "\n"


def tell(command: str, path: str | None = None) -> str:
    """What this user's scheduler on this node answers to ``command``.

    Raises NotRunning, or DBReconError if one runs that does not answer.
    """
    path = path or control_path()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            if os.lstat(path).st_uid != os.getuid():
                raise StorageError(f"{path} is another user's; talk to a scheduler as the user that started it.")
            connection.connect(path)
            connection.sendall(command.encode() + b"\n")
            return _read_all(connection)
        except OSError as error:
            holder = NodeLock(node_lock_path("scheduler")).holder()
            if holder is None:
                raise NotRunning("no scheduler of yours runs on this node") from None
            raise DBReconError(
                f"the scheduler with {holder} does not answer ({error.strerror or error}); try again, or end it: kill {holder.pid}"
            ) from error


def _remove_socket(path: str) -> None:
    """Removes a socket; what is none stays and will be in the way."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return


def _read_line(connection: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\n") and len(data) < _LONGEST:
        part = connection.recv(_LONGEST)
        if not part:
            break
        data += part
    return data.decode(errors="replace").strip().lower()


def _read_all(connection: socket.socket) -> str:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts).decode()
