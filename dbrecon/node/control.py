"""Talking to a running scheduler: a Unix socket of its node, one command a connection, answered in text.

The scheduler answers from a thread of its own, so that it is heard also while the database keeps its main thread waiting.
The socket lies beside the lock that makes a scheduler the only one on its node; whoever holds the lock owns it. Their folder is
this user's alone, so that nobody else can connect, or listen in a scheduler's place.

(multiprocessing.connection's listener was tried on paper and left: closing it does not wake a thread that accepts, and neither its
handshake nor its sending can be given a deadline.)
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from dbrecon.ctools.locks import NodeLock, node_lock_path
from dbrecon.ctools.private_folder import FILE_MODE, private_folder
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

Commands = Mapping[str, Callable[[], str]]


class NotRunning(DBReconError):
    """No scheduler runs on this node."""


def control_path() -> str:
    """Return where this user's scheduler on this node listens."""
    return node_lock_path("scheduler").removesuffix(".lock") + ".socket"


class ControlServer:
    """Answers ``commands`` at ``path`` while its ``with`` block lasts. To be used by the holder of the node's lock alone:
    a socket that a dead one left is replaced."""

    def __init__(self, path: str, commands: Commands) -> None:
        """Raise StorageError where the socket cannot be made, or where its folder is not this user's alone."""
        self._path, self._commands = path, commands
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _reached(path) as short:
                _remove_socket(short)
                self._socket.bind(short)
                os.chmod(short, FILE_MODE)
            self._socket.listen(8)
        except OSError as error:
            self._socket.close()
            reason = error.strerror or error
            raise StorageError(f"{path}: no socket can be made there ({reason}); remove what is in its way.") from error
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def __enter__(self) -> ControlServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Remove the socket first, so that nobody talks to one who no longer listens."""
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
        command = _read_line(connection)
        if command not in self._commands:
            return f"unknown command {command!r}: one of {', '.join(self._commands)}\n"
        log.debug("asked to: %s", command)
        return self._commands[command]().rstrip("\n") + "\n"


def tell(command: str, path: str | None = None) -> str:
    """Return what this user's scheduler on this node answers to ``command``.

    Raises NotRunning, or DBReconError if one runs that does not answer.
    """
    path = path or control_path()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            with _reached(path, make=False) as short:
                connection.connect(short)
            connection.sendall(command.encode() + b"\n")
            return _read_all(connection)
        except OSError as error:
            holder = NodeLock(node_lock_path("scheduler")).holder()
            if holder is None:
                raise NotRunning("no scheduler of yours runs on this node") from None
            raise DBReconError(
                f"the scheduler with {holder} does not answer ({error.strerror or error}); try again, or end it: kill {holder.pid}"
            ) from error


@contextmanager
def _reached(path: str, make: bool = True) -> Iterator[str]:
    """Yield a short name for a socket in a private folder: a socket's name has at most 107 bytes, and a home may lie deeper."""
    folder, name = os.path.split(path)
    with private_folder(folder, make) as descriptor:
        yield f"/proc/self/fd/{descriptor}/{name}"


def _remove_socket(path: str) -> None:
    """Remove a socket; what is none stays and will be in the way."""
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
