"""A connection to another machine, logged in: by way of whatever hosts the user's settings name, as OpenSSH's client would.

A server's key is checked against known_hosts before anything of ours is shown to it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from dbrecon.ctools import known_hosts, ssh_keys
from dbrecon.ctools.extras import extra
from dbrecon.ctools.ssh_config import HostWords, SshSettings, Target, parse_host, resolve
from dbrecon.ctools.ssh_errors import NameUnknown, SshError, Unreachable, words
from dbrecon.errors import Subject

with extra("cluster"):
    import paramiko

log = logging.getLogger(__name__)

# What goes wrong in a connection is raised too; the library would also log it, with a traceback.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

KEEPALIVE_SECONDS = 15
HOPS = 8
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
CERTIFICATES = [
    f"{name}{known_hosts.CERTIFICATE}"
    for name in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256")
]
_ALIASES = {"curve25519-sha256": "curve25519-sha256@libssh.org"}  # one method under two names


class Deadline:
    """A moment on the monotonic clock, ``seconds`` from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether it has passed, or is about to."""
        return time.monotonic() >= self._end - 0.05

    def left(self) -> float:
        """Return seconds until then. TimeoutError if there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


@contextmanager
def logged_in(host: HostWords, settings: SshSettings, seconds: float, address: str | None = None) -> Iterator[paramiko.Transport]:
    """Yield a connection on which commands can be run, made within ``seconds`` in all. Raises SshError."""
    deadline = Deadline(seconds)
    with ExitStack() as stack:
        yield _transport(stack, host, settings, deadline, address=address)


def _transport(
    stack: ExitStack, host: HostWords, settings: SshSettings, deadline: Deadline, *, jump: str | None = None, depth: int = 0,
    address: str | None = None,
) -> paramiko.Transport:  # fmt: skip
    """Connect and log in; ``jump`` are the hosts by way of which, where they are not those of the settings."""
    given = host.text()
    helper: IO[bytes] | None = None
    try:
        target = resolve(host, settings, deadline.left(), address)
        hops = jump if jump is not None else target.get("proxyjump")
        if hops:
            sock: Any = _by_way_of(stack, target, hops, settings, deadline, depth)
        elif command := target.get("proxycommand"):
            sock, helper = _by_command(stack, target, command)
        else:
            sock = stack.enter_context(_connect(target, deadline))
        transport = _handshake(stack, target, sock, deadline, local=not hops and helper is None)
        _authenticate(transport, target, deadline)
        transport.set_keepalive(KEEPALIVE_SECONDS)
        return transport
    except TimeoutError as error:
        raise Unreachable(f"{given} does not answer within {deadline.seconds:g} s{_said(helper)}") from error
    except (EOFError, OSError, *known_hosts.NO_KEY) as error:  # the last of what a server says
        if deadline.over:
            raise Unreachable(f"{given} does not answer within {deadline.seconds:g} s{_said(helper)}") from error
        raise Unreachable(f"{given}: {_said(helper, words(error))}") from error


# -- the way there --------------------------------------------------------------------------------------------------------


def _connect(target: Target, deadline: Deadline) -> socket.socket:
    """Return a TCP connection to the first of the host's addresses that answers. The time is divided among them."""
    family = FAMILIES.get(target.get("addressfamily", "any"), socket.AF_UNSPEC)
    try:
        found = socket.getaddrinfo(target.address, target.port, family, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = words(error)
        remedy = "correct it, or see DNS or ~/.ssh/config"
        raise NameUnknown(f"{target.given}: the name cannot be resolved ({reason}): {remedy}") from error
    bind = target.get("bindaddress")
    for index, (kind, type_, protocol, _, place) in enumerate(found):
        sock = socket.socket(kind, type_, protocol)
        try:
            sock.settimeout(deadline.left() / (len(found) - index))
            if bind:
                sock.bind((bind, 0))
            sock.connect(place)
        except OSError:
            sock.close()
            if index == len(found) - 1:
                raise
        else:
            return sock
    raise OSError("it has no address")


def _by_way_of(
    stack: ExitStack, target: Target, hops: str, settings: SshSettings, deadline: Deadline, depth: int
) -> paramiko.Channel:
    """Return a connection to the host that the last of the hops (``[user@]host[:port]``, with commas) makes; those before lead to
    it."""
    if depth >= HOPS:
        raise SshError(f"{target.given}: ProxyJump leads over more than {HOPS} hosts, or in a circle: see ~/.ssh/config")
    before, _, last = hops.strip().rpartition(",")
    host = parse_host(last.strip().removeprefix("ssh://").rstrip("/"))
    last = host.text()
    own = SshSettings(config_file=settings.config_file, accept_new=settings.accept_new)  # [cluster] ssh_user is the nodes' alone
    try:
        hop = _transport(stack, host, own, deadline, jump=before or None, depth=depth + 1)
    except SshError as error:
        text = f"{target.given}: by way of {last}: {str(error).removeprefix(last).lstrip(': ')}"
        about = None if error.about is Subject.SSH_LOGIN else error.about  # the nodes' user is not the hop's
        raise (Unreachable if isinstance(error, Unreachable) else SshError)(text, about=about) from error
    try:
        channel = hop.open_channel("direct-tcpip", (target.address, target.port), ("127.0.0.1", 0), timeout=deadline.left())
    except paramiko.ChannelException as error:
        raise Unreachable(f"{target.given}: {last} cannot reach {target.address}:{target.port} ({error.text})") from error
    return stack.enter_context(channel)


def _by_command(stack: ExitStack, target: Target, command: str) -> tuple[socket.socket, IO[bytes]]:
    """Return a connection through the program of ProxyCommand, run by the user's shell as ssh(1) runs it; and where its complaints
    are."""
    if target.yes("proxyusefdpass"):
        raise SshError(f"{target.given}: ProxyUseFdpass is not possible here: take it out of ~/.ssh/config for this host")
    ours, theirs = socket.socketpair()
    complaints = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)
    stack.enter_context(ours)
    shell = os.environ.get("SHELL") or "/bin/sh"
    with theirs:
        fd = theirs.fileno()
        process = subprocess.Popen(
            [shell, "-c", f"exec {target.expanded(command)}"], stdin=fd, stdout=fd, stderr=complaints, process_group=0
        )
    stack.callback(_end, process)
    return ours, complaints


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a ProxyCommand and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("%s has ended by itself", process.args)
    process.wait()


def _said(helper: IO[bytes] | None, instead: str = "") -> str:
    """Return what a ProxyCommand complained of, for the end of a sentence; ``instead`` where it said nothing."""
    if helper is None:
        return instead
    helper.seek(0)
    lines = [line.strip() for line in helper.read().decode(errors="replace").splitlines() if line.strip()]
    text = f"ProxyCommand says: {lines[-1][:300]}" if lines else ""
    return text if instead and text else f" ({text})" if text else instead


# -- the server's key -----------------------------------------------------------------------------------------------------


def _handshake(stack: ExitStack, target: Target, sock: Any, deadline: Deadline, *, local: bool) -> paramiko.Transport:
    """Agree on algorithms and keys with the server, and check that it is the one that is known."""
    files = target.paths("userknownhostsfile") + target.paths("globalknownhostsfile")
    known = known_hosts.find(files, target.key_name)
    if not known.keys and target.key_name.startswith("[") and target.alias is None:
        known = known_hosts.find(files, target.address.lower())  # as ssh(1): the same host on its ordinary port
    sock.settimeout(deadline.left())
    transport = paramiko.Transport(sock)
    stack.callback(transport.close)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = deadline.left()
    options: Any = transport.get_security_options()
    options.kex = _named(target, "kexalgorithms", options.kex)
    options.ciphers = target.algorithms("ciphers", list(options.ciphers))
    options.digests = target.algorithms("macs", list(options.digests))
    options.key_types = known.ordered(target.algorithms("hostkeyalgorithms", [*CERTIFICATES, *options.key_types]))
    transport.start_client(timeout=deadline.left())
    deadline.left()  # start_client returns also when its time is over
    _check(target, known, transport.get_remote_server_key(), files, local)
    return transport


def _named(target: Target, name: str, supported: tuple[str, ...]) -> list[str]:
    """Return algorithms under the library's names."""
    names = target.algorithms(name, [*supported, *(new for new, old in _ALIASES.items() if old in supported)])
    return list(dict.fromkeys(_ALIASES.get(name, name) for name in names))


def _check(target: Target, known: known_hosts.KnownHost, key: paramiko.PKey, files: list[str], local: bool) -> None:
    """Raise SshError unless the server's key is known, or may be accepted."""
    if local and target.yes("nohostauthenticationforlocalhost") and target.alias is None and _is_loopback(target.address):
        return
    certificate = known_hosts.certificate(key)
    signer = () if certificate is None else (certificate.authority,)
    place = files[0] if files else "known_hosts"
    if known.revoked(key.asbytes(), *signer) or _listed_as_revoked(target, key):
        if target.strict != "no":
            raise SshError(f"{target.given} shows a host key that is revoked: it may be another machine; see @revoked in {place}")
        return
    fault = "" if certificate is None else _certificate_fault(target, known, certificate)
    if (certificate is not None and not fault) or any(known_key.blob == key.asbytes() for known_key in known.plain):
        return
    if known.plain:
        if target.strict != "no":
            raise SshError(_changed(target, known, key))
    elif target.strict == "yes":
        why = f" (the certificate that it shows does not count: {fault})" if fault else ""
        raise SshError(f"{target.given}: its host key is not in {place}{why}", about=Subject.SSH_NEW_HOST)
    elif target.get("userknownhostsfile"):
        _remember(target, place, key)


def _is_loopback(address: str) -> bool:
    return address == "localhost" or address.startswith("127.") or address == "::1"


def _certificate_fault(target: Target, known: known_hosts.KnownHost, certificate: known_hosts.Certificate) -> str:
    """Return why a certificate does not vouch for the host; "" if it does."""
    if all(authority.blob != certificate.authority for authority in known.authorities):
        return "its authority is another than that of @cert-authority"
    signing = target.get("casignaturealgorithms")
    return certificate.fault((target.alias or target.address).lower(), signing.split(",") if signing else [])


def _changed(target: Target, known: known_hosts.KnownHost, key: paramiko.PKey) -> str:
    """Return the sentence about a host that shows another key than it had."""
    first = known.plain[0]
    types = sorted({key.type for key in known.plain})
    remedy = f"it may be another machine; if it was set up anew: ssh-keygen -R '{target.key_name}'"
    if key.get_name() not in types:
        kinds = " and ".join(types)
        kind = f"{key.get_name()}, and none of {kinds}"
        return f"{target.given} shows another host key ({kind}) than {first.place.rpartition(':')[0]} has: {remedy}"
    return f"{target.given} shows another host key than {first.place.rpartition(':')[0]} has: {remedy}"


def _listed_as_revoked(target: Target, key: paramiko.PKey) -> bool:
    """Return whether the key is in a file of RevokedHostKeys. A revocation list of OpenSSH's own format is read by ssh-keygen."""
    for path in target.paths("revokedhostkeys"):
        try:
            listed = known_hosts.revoked_in(path)
            if listed is None:
                listed = {key.asbytes()} if _in_revocation_list(path, key) else set()
        except OSError as error:
            raise SshError(
                f"{target.given}: RevokedHostKeys {path} cannot be read ({words(error)}): correct ~/.ssh/config"
            ) from error
        if key.asbytes() in listed:
            return True
    return False


def _in_revocation_list(path: str, key: paramiko.PKey) -> bool:
    """Ask ssh-keygen. OSError where it is not there, or cannot read the list."""
    with tempfile.NamedTemporaryFile("w", suffix=".pub") as file:
        file.write(f"{key.get_name()} {key.get_base64()}\n")
        file.flush()
        done = subprocess.run(["ssh-keygen", "-Q", "-f", path, file.name], capture_output=True, text=True, check=False)
    if done.returncode and "REVOKED" not in done.stdout:
        raise OSError(" ".join(done.stderr.split()))
    return done.returncode != 0


def _remember(target: Target, path: str, key: paramiko.PKey) -> None:
    try:
        known_hosts.remember(path, target.key_name, key, hashed=target.yes("hashknownhosts"))
    except OSError as error:
        log.warning("%s: its host key could not be added to %s: %s", target.given, path, words(error))


# -- who we are -----------------------------------------------------------------------------------------------------------


def _authenticate(transport: paramiko.Transport, target: Target, deadline: Deadline) -> None:
    """Log in with the user's keys, in OpenSSH's order: those of the agent that the settings name, its others, those in files."""
    locked: list[str] = []
    refused, offered = f"{target.given} refuses {target.user}", 0
    try:
        allowed = _attempt(lambda: transport.auth_none(target.user))
        for key in ssh_keys.to_try(target, deadline.left(), locked):
            if transport.is_authenticated():
                return
            if "publickey" not in allowed:
                break
            offered += 1
            transport.auth_timeout = deadline.left()
            allowed = _attempt(lambda key=key: transport.auth_publickey(target.user, key)) or allowed  # type: ignore[misc]
    except (paramiko.SSHException, EOFError, OSError) as error:
        deadline.left()
        if not offered or transport.is_active():
            raise
        raise SshError(
            f"{refused} after {offered} keys ({words(error)}): name the right one in ~/.ssh/config, with IdentityFile and "
            "IdentitiesOnly yes"
        ) from error
    if transport.is_authenticated():
        return
    if "publickey" not in allowed:
        raise SshError(
            f"{refused}: it takes no keys there, but {', '.join(allowed) or 'nothing'}: allow PubkeyAuthentication for nodes"
        )
    if locked:
        raise SshError(f"{target.given}: your key {locked[0]}")
    if not offered:
        raise SshError(f"{target.given}: you have no SSH key here: make one (ssh-keygen), and put it on the nodes")
    raise SshError(f"{refused}: none of your keys is in that user's ~/.ssh/authorized_keys", about=Subject.SSH_LOGIN)


def _attempt(log_in: Callable[[], list[str]]) -> list[str]:
    """Try to log in; the methods that are allowed then, as far as the server tells them."""
    try:
        return log_in()
    except paramiko.BadAuthenticationType as error:
        return list(error.allowed_types)
    except paramiko.AuthenticationException as error:
        if type(error) is not paramiko.AuthenticationException or "failed." not in str(error):
            raise
        return []
