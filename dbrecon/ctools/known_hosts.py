"""Host keys: which are known (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), which certificates a known authority signed, and whether a
server's key is to be trusted, decided as OpenSSH's client decides it.

The library's own reader ends with an error at the first line that it cannot read, and knows no markers.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dbrecon.ctools.extras import extra
from dbrecon.ctools.ssh_errors import words

with extra("cluster"):
    import paramiko
    from cryptography.exceptions import UnsupportedAlgorithm
    from paramiko.message import Message
    from paramiko.pkey import UnknownKeyType

log = logging.getLogger(__name__)

CERTIFICATE = "-cert-v01@openssh.com"
HOST_CERTIFICATE = 2  # the type of a certificate for a host, PROTOCOL.certkeys
MARKERS = ("@cert-authority", "@revoked")
NO_KEY = (
    ValueError, ArithmeticError, AssertionError, NotImplementedError, paramiko.SSHException, UnknownKeyType, UnsupportedAlgorithm,
)  # fmt: skip
"""What the libraries raise for bytes that are no key, or one of a kind that they do not know."""


@dataclass(frozen=True)
class KnownKey:
    """A line of known_hosts that holds for a host: marker ("" for a plain key), the key's type and bytes, file and line number."""

    marker: str
    type: str
    blob: bytes
    place: str


@dataclass(frozen=True)
class KnownHost:
    """What is known of one host."""

    keys: tuple[KnownKey, ...]

    @property
    def plain(self) -> list[KnownKey]:
        """Its own keys."""
        return [key for key in self.keys if not key.marker]

    @property
    def authorities(self) -> list[KnownKey]:
        """The authorities that may sign its certificates."""
        return [key for key in self.keys if key.marker == "@cert-authority"]

    def revoked(self, *blobs: bytes) -> bool:
        """Return whether one of these keys is marked so."""
        return any(key.blob in blobs for key in self.keys if key.marker == "@revoked")

    def ordered(self, algorithms: list[str]) -> list[str]:
        """Algorithms for host keys in the order in which to ask for them: certificates where an authority is known, then those of
        the keys that are known, then the others. A server shows its key for the first that it has."""
        known = {key.type for key in self.plain}
        certificates = [name for name in algorithms if name.endswith(CERTIFICATE)] if self.authorities else []
        bare = [name for name in algorithms if not name.endswith(CERTIFICATE)]
        return certificates + sorted(bare, key=lambda name: key_type(name) not in known)


def key_type(algorithm: str) -> str:
    """Return the type of the keys that an algorithm signs with: ``rsa-sha2-512`` is one of ``ssh-rsa``."""
    bare = algorithm.removesuffix(CERTIFICATE)
    return "ssh-rsa" if bare.startswith("rsa-sha2-") else bare


def find(paths: Iterable[str], name: str) -> KnownHost:
    """Return what the files know of a host's ``name`` (``[host]:port`` where the port is not 22). Lines that cannot be read are
    passed over, as OpenSSH passes over them, and so are files that are not there."""
    found = []
    for path in paths:
        try:
            content = Path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            log.warning("%s cannot be read (%s): the keys in it count as not known", path, words(error))
            continue
        for number, line in enumerate(content.split(b"\n"), 1):
            key = _key(line.decode("utf-8", "surrogateescape"), name, f"{path}:{number}")
            if key is not None:
                found.append(key)
    return KnownHost(tuple(found))


def _key(line: str, name: str, place: str) -> KnownKey | None:
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", *MARKERS) or not _matches(fields[0], name):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
        if Message(blob).get_text() != fields[1] or load(blob).asbytes() != blob:
            raise ValueError("it is cut off, or of another type")
    except NO_KEY as error:
        log.debug("%s is no key (%s)", place, words(error))
        return None
    return KnownKey(marker, fields[1], blob, place)


def load(blob: bytes) -> paramiko.PKey:
    """Return the public key in its bytes, or in those of its certificate. One of ``NO_KEY`` if it is none."""
    kind = key_type(Message(blob).get_text())
    for key_class in paramiko.key_classes:
        if kind in key_class.identifiers():
            loaded: paramiko.PKey = key_class(data=blob)  # type: ignore[arg-type]
            return loaded
    raise UnknownKeyType(key_type=kind, key_bytes=blob)


def revoked_in(path: str) -> set[bytes] | None:
    """Return the keys in a file of RevokedHostKeys; None if it is a revocation list in OpenSSH's own format. Raises OSError."""
    content = Path(path).read_bytes()
    if content.startswith(b"SSHKRL"):
        return None
    found = set()
    for line in content.split(b"\n"):
        fields = line.split()
        for word in fields[1:2] if fields and not fields[0].startswith(b"#") else []:
            with contextlib.suppress(ValueError):
                found.add(base64.b64decode(word))
    return found


def _matches(patterns: str, name: str) -> bool:
    """Return whether a line's first field means a host: a hash, or patterns with ``*``, ``?`` and ``!``."""
    if patterns.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part) for part in patterns.split("|")[2:4])
        except (ValueError, binascii.Error):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
    found = False
    for pattern in patterns.lower().split(","):
        if _glob(pattern.removeprefix("!")).fullmatch(name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _glob(pattern: str) -> re.Pattern[str]:
    """Return a pattern of OpenSSH's, in which brackets are themselves."""
    return re.compile("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern))


def remember(path: str, name: str, key: paramiko.PKey, hashed: bool = False) -> None:
    """Add a line to known_hosts. What is there stays as it is; others may add theirs at the same time. Raises OSError."""
    if os.path.exists(path) and not os.path.isfile(path):
        return  # /dev/null, by which people say that nothing is to be remembered
    if folder := os.path.dirname(path):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(path, "ab+", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if any(known.blob == key.asbytes() for known in find([path], name).plain):
            return
        file.seek(0)
        before = file.read()
        line = f"{_hashed(name) if hashed else name} {key.get_name()} {key.get_base64()}\n".encode()
        file.write((b"" if before.endswith(b"\n") or not before else b"\n") + line)


def _hashed(name: str) -> str:
    salt = os.urandom(20)
    parts = (salt, hmac.new(salt, name.encode(), hashlib.sha1).digest())
    return "|1|" + "|".join(base64.b64encode(part).decode() for part in parts)


# -- certificates ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    """A host's certificate: the names it is for (none: any), the Unix times it holds between, its authority's key and signature."""

    kind: int
    principals: tuple[str, ...]
    after: int
    before: int
    critical: bytes
    authority: bytes
    signed: bytes
    signature: bytes

    def fault(self, name: str, algorithms: list[str]) -> str:
        """Why it does not hold for the host ``name`` now; "" if it holds. ``algorithms``: those that an authority may sign with."""
        if self.kind != HOST_CERTIFICATE:
            return "it is not a host's"
        if not self.after <= time.time() < self.before:
            return "it has expired, or does not hold yet"
        if self.principals and name not in self.principals:
            return f"it is for {', '.join(self.principals)}"
        if self.critical:
            return "it has critical options"
        algorithm = Message(self.signature).get_text()
        if algorithms and algorithm not in algorithms:
            return f"it is signed with {algorithm}"
        authority = load(self.authority)
        return "" if authority.verify_ssh_sig(self.signed, Message(self.signature)) else "its signature is wrong"


def certificate(key: paramiko.PKey) -> Certificate | None:
    """Return the certificate that a server showed with its key; None if it showed a plain key. ValueError if it is damaged."""
    shown = getattr(key, "public_blob", None)
    if shown is None:
        return None
    blob = bytes(shown.key_blob)
    message = Message(blob)
    kind = message.get_text()
    message.get_binary()  # the nonce
    for _ in range({"ssh-rsa": 2, "ssh-ed25519": 1}.get(kind.removesuffix(CERTIFICATE), 2)):
        message.get_binary()  # the key's numbers
    message.get_int64()  # the serial number
    type_ = message.get_int()
    message.get_binary()  # the key's id
    names = Message(message.get_binary())
    principals = []
    while names.get_remainder():
        principals.append(names.get_text())
    after, before = message.get_int64(), message.get_int64()
    critical = message.get_binary()
    message.get_binary()  # extensions
    message.get_binary()  # reserved
    authority = message.get_binary()
    signed = blob[: len(blob) - len(message.get_remainder())]
    return Certificate(type_, tuple(principals), after, before, critical, authority, signed, message.get_binary())
