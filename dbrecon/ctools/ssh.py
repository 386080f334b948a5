"""A shell script run on another machine over SSH: within a deadline, as the user's own OpenSSH would reach it.

The user's agent, keys and ~/.ssh/config (HostName, Port, User, IdentityFile, HostKeyAlias, UserKnownHostsFile, ProxyJump,
ProxyCommand) count. A host's key must be the one in known_hosts; that of a new host is accepted and remembered only where that
is allowed (as with OpenSSH's ``StrictHostKeyChecking accept-new``). The script goes through the connection, so that nothing of it
shows in a list of processes.
"""

from __future__ import annotations

import fcntl
import getpass
import logging
import os
import re
import select
import shlex
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dbrecon.ctools.extras import extra
from dbrecon.errors import RemoteError

with extra("cluster"):
    import paramiko

# What goes wrong in a connection is raised too; the library would also log it, with a traceback.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
DEFAULT_PORT = 22
KEEPALIVE_SECONDS = 15
BACKGROUND_SECONDS = 3.0
CHUNK = 1 << 16


class SshError(RemoteError):
    """A machine that cannot be reached, that refuses, or whose key is not the one that is known."""


class Unreachable(SshError):
    """A machine that does not answer, or refuses the connection. The text says how, and has no remedy: lists of nodes show it."""


@dataclass(frozen=True)
class SshSettings:
    """How to log in. ``user``: None is what ~/.ssh/config says, else this user. ``accept_new``: whether a host that is not in
    known_hosts is accepted. ``connect_seconds``: for connecting and logging in."""

    user: str | None = None
    config_file: str = "~/.ssh/config"
    accept_new: bool = False
    connect_seconds: float = 10.0


@dataclass(frozen=True)
class Finished:
    """What a script left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class _Target:
    """Where a host's name leads to. ``alias`` is the name under which known_hosts has its key, where that is not the address."""

    given: str
    address: str
    port: int
    user: str | None
    identities: list[str]
    alias: str | None
    known_hosts: list[str]
    proxy: str | None

    @property
    def key_name(self) -> str:
        """Its name in known_hosts."""
        return self.alias or (self.address if self.port == DEFAULT_PORT else f"[{self.address}]:{self.port}")


class _NewHost(paramiko.MissingHostKeyPolicy):
    """Accepts and remembers the key of a host that is not known, or refuses it."""

    def __init__(self, target: _Target, accept: bool) -> None:
        self._target, self._accept = target, accept

    def missing_host_key(self, _client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Called by the library for a host without an entry in known_hosts."""
        target = self._target
        if not self._accept:
            raise SshError(
                f"{target.given}: its host key is not in {target.known_hosts[0]}: log in once with ssh, or set "
                "[cluster] ssh_new_hosts = accept"
            )
        _remember(target.known_hosts[0], target.key_name, key)


def run(host: str, script: str, settings: SshSettings, seconds: float, output: Callable[[bytes], None] | None = None) -> Finished:
    """Run a POSIX shell script on ``host`` (``[user@]host[:port]``) and return what it left, within ``seconds`` in all.

    With ``output`` what it writes to stdout goes there as it comes, and is not kept. Raises SshError.
    """
    deadline = time.monotonic() + seconds
    with _connected(host, settings, deadline) as client:
        transport = client.get_transport()
        assert transport is not None  # it is connected
        try:
            return _run(transport, script, deadline, output)
        except TimeoutError as error:
            raise SshError(f"{host} did not finish within {seconds:g} s") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise SshError(f"{host}: the connection broke off ({_words(error)})") from error


def _run(transport: paramiko.Transport, script: str, deadline: float, output: Callable[[bytes], None] | None) -> Finished:
    with transport.open_session(timeout=_left(deadline)) as channel:
        channel.settimeout(_left(deadline))
        channel.exec_command("sh -s")
        channel.sendall(script.encode())
        channel.shutdown_write()
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
                channel.status_event.wait(min(0.05, _left(deadline)))  # select would not wait any more
            else:
                select.select([channel], [], [], min(1.0, _left(deadline)))
        code = channel.recv_exit_status() if channel.exit_status_ready() else -1
    if code < 0:
        raise EOFError("the host hung up")
    return Finished(code, out.decode(errors="replace"), err.decode(errors="replace"))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@contextmanager
def _connected(host: str, settings: SshSettings, deadline: float) -> Iterator[paramiko.SSHClient]:
    target = _target(host, settings)
    client = paramiko.SSHClient()
    try:
        _log_in(client, target, settings, min(settings.connect_seconds, round(deadline - time.monotonic(), 1)))
        yield client
    finally:
        client.close()


def _log_in(client: paramiko.SSHClient, target: _Target, settings: SshSettings, seconds: float) -> None:
    """Connect and log in, or raise SshError with the reason."""
    host, deadline = target.given, time.monotonic() + seconds
    for path in [SYSTEM_KNOWN_HOSTS, *target.known_hosts]:
        if os.path.exists(path):
            client.load_system_host_keys(path)
    client.set_missing_host_key_policy(_NewHost(target, settings.accept_new))
    try:
        sock = _connect(target, deadline)
        left = _left(deadline)
        name, port = target.alias or target.address, DEFAULT_PORT if target.alias else target.port
        times: dict[str, Any] = dict.fromkeys(("timeout", "banner_timeout", "auth_timeout", "channel_timeout"), left)
        keys: Any = target.identities  # a list is one of the things that it takes
        client.connect(name, port, username=target.user, key_filename=keys, sock=sock, **times)
    except paramiko.BadHostKeyException as error:
        raise SshError(
            f"{host} shows another host key than {target.known_hosts[0]} has: it may be another machine; if it was set up anew: "
            f"ssh-keygen -R '{target.key_name}'"
        ) from error
    except paramiko.PasswordRequiredException as error:
        raise SshError(f"{host}: your key has a passphrase: give it to the agent first (ssh-add)") from error
    except paramiko.AuthenticationException as error:
        user = target.user or getpass.getuser()
        raise SshError(
            f"{host} refuses {user}: your key must be in that user's ~/.ssh/authorized_keys (another user: [cluster] ssh_user)"
        ) from error
    except socket.gaierror as error:
        raise SshError(f"{host}: the name leads nowhere ({error.strerror}): correct it, or see DNS or ~/.ssh/config") from error
    except TimeoutError as error:
        raise Unreachable(f"{host} does not answer within {seconds:g} s") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        if time.monotonic() >= deadline - 0.05:
            raise Unreachable(f"{host} does not answer within {seconds:g} s") from error
        if "No authentication methods" in str(error):
            raise SshError(f"{host}: you have no SSH key here: make one (ssh-keygen), and put it on the nodes") from error
        raise Unreachable(f"{host}: {_words(error)}") from error
    transport = client.get_transport()
    if transport is not None:
        transport.set_keepalive(KEEPALIVE_SECONDS)


def _connect(target: _Target, deadline: float) -> paramiko.ProxyCommand | socket.socket:
    if target.proxy is not None:
        return paramiko.ProxyCommand(target.proxy)
    return socket.create_connection((target.address, target.port), timeout=_left(deadline))


def _words(error: BaseException) -> str:
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")


def _target(host: str, settings: SshSettings) -> _Target:
    """What ~/.ssh/config makes of a host's name."""
    match = re.fullmatch(r"(?:(?P<user>[^@\s]+)@)?(?P<name>[^@:\s]+)(?::(?P<port>\d+))?", host)
    if match is None:
        raise SshError(f"{host!r} is no host: give [user@]host[:port]")
    asked = _ssh_config(settings.config_file).lookup(match["name"])
    address = asked.get("hostname", match["name"])
    port = int(match["port"] or asked.get("port", DEFAULT_PORT))
    known = shlex.split(asked.get("userknownhostsfile", "~/.ssh/known_hosts"))
    jump, command = asked.get("proxyjump"), asked.get("proxycommand")
    if jump and jump != "none":
        path = os.path.expanduser(settings.config_file)
        same = f"-F {shlex.quote(path)} " if os.path.exists(path) else ""
        command = f"ssh {same}-o BatchMode=yes -W {shlex.quote(f'{address}:{port}')} {shlex.quote(jump)}"
    return _Target(
        given=host,
        address=address,
        port=port,
        user=match["user"] or settings.user or asked.get("user"),
        identities=[os.path.expanduser(path) for path in asked.get("identityfile", [])],
        alias=asked.get("hostkeyalias"),
        known_hosts=[os.path.expanduser(path) for path in known],
        proxy=None if command in (None, "none") else command,
    )


def _ssh_config(path: str) -> paramiko.SSHConfig:
    path = os.path.expanduser(path)
    if not os.path.exists(path):
        return paramiko.SSHConfig()
    try:
        return paramiko.SSHConfig.from_path(path)
    except (paramiko.SSHException, OSError) as error:
        raise SshError(f"{path} cannot be read ({_words(error)}): correct it, or name another in [cluster] ssh_config") from error


def _remember(path: str, name: str, key: paramiko.PKey) -> None:
    """Add a line to known_hosts. What is there stays as it is; others may add theirs at the same time."""
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        before = file.read()
        line = f"{name} {key.get_name()} {key.get_base64()}\n".encode()
        if line not in before:
            file.write((b"" if before.endswith(b"\n") or not before else b"\n") + line)
