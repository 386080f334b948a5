"""The user's keys for logging in, in OpenSSH's order: the agent's that the settings name, the agent's others, those in files.

A server lets a client try a few only, so that the order decides whether one with many keys gets in.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dbrecon.ctools import known_hosts
from dbrecon.ctools.extras import extra
from dbrecon.ctools.ssh_config import Target
from dbrecon.ctools.ssh_errors import words

with extra("cluster"):
    import paramiko
    from cryptography.exceptions import UnsupportedAlgorithm
    from paramiko.agent import AgentSSH
    from paramiko.pkey import PublicBlob

log = logging.getLogger(__name__)


class _Agent(AgentSSH):
    """The agent behind a socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout)
            connection.connect(path)
            self._connect(connection)  # type: ignore[attr-defined]
        except BaseException:
            connection.close()
            raise


def to_try(target: Target, seconds: float, locked: list[str]) -> Iterator[paramiko.PKey]:
    """Yield the keys to try, in order. An agent is waited for ``seconds``. ``locked`` takes what is to be said of unusable key
    files."""
    if target.values.get("pubkeyauthentication", "yes").lower() in ("no", "false"):
        return
    files = target.paths("identityfile")
    agent = {key.asbytes(): key for key in _agent_keys(target, seconds)}
    public = {path: _public_blob(path) for path in files}
    named = [blob for blob in public.values() if blob is not None and blob in agent]
    others = [] if target.yes("identitiesonly") else [blob for blob in agent if blob not in named]
    certificates = target.paths("certificatefile") + [f"{path}-cert.pub" for path in files]
    for blob in [*named, *others]:
        yield from _with_certificates(agent[blob], certificates)
    for path in files:
        if public[path] not in agent and (key := _private_key(path, locked)) is not None:
            yield from _with_certificates(key, certificates)


def _agent_keys(target: Target, seconds: float) -> list[Any]:
    path = target.values.get("identityagent", "SSH_AUTH_SOCK")
    if path == "SSH_AUTH_SOCK":
        path = os.environ.get("SSH_AUTH_SOCK", "")
    elif path.startswith("$"):
        path = os.environ.get(path[1:].strip("{}"), "")
    path = target.expanded(path)
    if path in ("", "none"):
        return []
    try:
        return list(_Agent(path, seconds).get_keys())
    except (OSError, paramiko.SSHException) as error:
        log.debug("no agent answers at %s: %s", path, words(error))
        return []


def _with_certificates(key: Any, certificates: list[str]) -> Iterator[paramiko.PKey]:
    """Yield a key with each of its certificates, then bare."""
    for path in certificates:
        if not os.path.exists(path):
            continue
        try:
            key.load_certificate(path)
            of_key = known_hosts.load(key.public_blob.key_blob).asbytes() == key.asbytes()
        except (OSError, *known_hosts.NO_KEY) as error:
            log.debug("%s is no certificate of this key: %s", path, words(error))
            continue
        if of_key:
            yield key
    inner = getattr(key, "inner_key", None)
    key.public_blob = getattr(inner, "public_blob", None)  # of an agent's key that is a certificate
    yield key


def _public_blob(path: str) -> bytes | None:
    """Return the public half of a key file: of ``path``.pub, or ``path`` itself where that is a public key."""
    for name in (f"{path}.pub", path):
        try:
            blob = PublicBlob.from_string(Path(name).read_text(encoding="utf-8").strip()).key_blob
        except (ValueError, OSError):
            continue
        return bytes(blob)
    return None


def _private_key(path: str, locked: list[str]) -> paramiko.PKey | None:
    """Return the key in a file; None if there is none that can be used, with what is to be said of it in ``locked``."""
    try:
        status = os.stat(path)
        if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o077:
            locked.append(f"{path} may be read by others, so it does not count: chmod 600 {path}")
            return None
        key = paramiko.PKey.from_path(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (paramiko.PasswordRequiredException, TypeError):  # the latter where the library asks for it
        locked.append("has a passphrase: give it to the agent first (ssh-add)")
        return None
    except UnsupportedAlgorithm as error:  # a security key's, say
        log.debug("%s: %s", path, words(error))
        locked.append(f"{path} is of a kind that is not read here: give it to the agent first (ssh-add)")
        return None
    except (OSError, *known_hosts.NO_KEY) as error:
        log.debug("%s is no private key: %s", path, words(error))
        return None
    key.public_blob = None  # its certificates are tried one by one
    return key
