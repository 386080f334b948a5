"""A shell script run on another machine over SSH: within a deadline, as the user's own OpenSSH would reach it.

What OpenSSH's client connects to, this connects to: that client reads the user's settings (:mod:`dbrecon.ctools.ssh_config`), and
agent, keys, known_hosts, ProxyJump and ProxyCommand mean what they mean there (:mod:`dbrecon.ctools.ssh_login`). A new host is
accepted and remembered only where that is allowed. The script goes through the connection: no list of processes shows any of it.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dbrecon.ctools.extras import extra
from dbrecon.ctools.ssh_config import SshSettings, parse_host
from dbrecon.ctools.ssh_errors import NameUnknown, SshError, Unreachable, words
from dbrecon.ctools.ssh_login import Deadline, logged_in

with extra("cluster"):
    import paramiko

__all__ = ["Finished", "NameUnknown", "SshError", "SshSettings", "Unreachable", "parse_host", "run", "send"]

BACKGROUND_SECONDS = 3.0
CHUNK = 1 << 16


@dataclass(frozen=True)
class Finished:
    """What a script left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


def run(
    host: str, script: str, settings: SshSettings, seconds: float, output: Callable[[bytes], None] | None = None,
    address: str | None = None,
) -> Finished:  # fmt: skip
    """Run a POSIX shell script on ``host`` (``[user@]host[:port]``) and return what it left, within ``seconds`` in all.

    With ``output`` what it writes to stdout goes there as it comes, and is not kept. ``address`` is where the host is found if its
    name cannot be resolved. Raises SshError.
    """
    return _done(host, "sh -s", [script.encode()], settings, seconds, output, address)


def send(host: str, command: str, path: str | Path, settings: SshSettings, seconds: float, address: str | None = None) -> Finished:
    """Run a shell command on ``host`` whose stdin is a file of this machine; the rest as with :func:`run`."""
    with open(path, "rb") as file:
        return _done(host, command, iter(lambda: file.read(CHUNK), b""), settings, seconds, None, address)


def _done(
    host: str, command: str, given: Iterable[bytes], settings: SshSettings, seconds: float,
    output: Callable[[bytes], None] | None, address: str | None,
) -> Finished:  # fmt: skip
    deadline = Deadline(seconds)

    def at(place: str | None) -> Finished:
        with logged_in(parse_host(host), settings, min(settings.connect_seconds, deadline.seconds), place) as transport:
            try:
                return _run(transport, command, given, deadline, output)
            except TimeoutError as error:
                raise SshError(f"{host} did not finish within {deadline.seconds:g} s") from error
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise SshError(f"{host}: the connection broke off ({words(error)})") from error

    try:
        return at(None)
    except NameUnknown:
        if address is None:
            raise
        return at(address)


def _feed(channel: paramiko.Channel, given: Iterable[bytes], deadline: Deadline) -> None:
    """Write all of it to the command's stdin, or as much as it reads before it ends."""
    try:
        for part in given:
            channel.settimeout(deadline.left())
            channel.sendall(part)
        channel.shutdown_write()
    except TimeoutError:
        raise
    except OSError:
        if not channel.closed:
            raise


def _run(
    transport: paramiko.Transport, command: str, given: Iterable[bytes], deadline: Deadline,
    output: Callable[[bytes], None] | None,
) -> Finished:  # fmt: skip
    with transport.open_session(timeout=deadline.left()) as channel:
        channel.settimeout(deadline.left())
        channel.exec_command(command)
        _feed(channel, given, deadline)
        out, err = bytearray(), bytearray()
        take = output or out.extend
        ended: float | None = None
        while True:
            # Before reading, so that all is there by then. The exit status alone may come before the last of the output.
            over = channel.closed or (channel.exit_status_ready() and channel.eof_received)
            if ended is None and channel.exit_status_ready():
                ended = time.monotonic()
            while channel.recv_ready():
                take(channel.recv(CHUNK))
            while channel.recv_stderr_ready():
                err.extend(channel.recv_stderr(CHUNK))
            # Whatever it left in the background may keep its output open for ever.
            if over or (ended is not None and time.monotonic() > ended + BACKGROUND_SECONDS):
                break
            if not transport.is_active():
                raise EOFError("the host hung up")
            if channel.eof_received:
                channel.status_event.wait(min(0.05, deadline.left()))  # select would not wait any more
            else:
                select.select([channel], [], [], min(1.0, deadline.left()))
        code = channel.recv_exit_status() if channel.exit_status_ready() else -1
    if code < 0:
        raise EOFError("the host hung up")
    return Finished(code, out.decode(errors="replace"), err.decode(errors="replace"))
