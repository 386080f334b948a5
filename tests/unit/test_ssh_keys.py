"""Keys and lines that are damaged, or of kinds that the library does not know, are passed over, and end nothing."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import paramiko
import pytest

from dbrecon.ctools import known_hosts, ssh_keys

SECURITY_KEY = b"sk-ssh-ed25519@openssh.com"


def framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def private_key(kind: bytes) -> str:
    """An unencrypted private key in OpenSSH's own format, of some kind."""
    public = framed(kind, b"\1" * 32)
    body = b"openssh-key-v1\0" + framed(b"none", b"none", b"") + (1).to_bytes(4, "big") + framed(public, b"\0" * 64)
    text = base64.encodebytes(body).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n"


@pytest.mark.slow
def test_damaged_lines_of_known_hosts_are_passed_over(tmp_path: Path) -> None:
    chance, key = random.Random(5), paramiko.RSAKey.generate(1024)
    negative = framed(b"ssh-rsa", b"\1\0\1", b"\xff" * 64)
    lines = [f"host ssh-rsa {base64.b64encode(negative).decode()}"]
    for _ in range(60):
        blob = bytearray(key.asbytes())
        blob[chance.randrange(len(blob))] ^= 1 << chance.randrange(8)
        lines.append(f"host ssh-rsa {base64.b64encode(bytes(blob[: chance.choice([len(blob), 40])])).decode()}")
    path = tmp_path / "known_hosts"
    path.write_text("\n".join([*lines, f"host {key.get_name()} {key.get_base64()}", ""]), encoding="ascii")
    assert known_hosts.find([str(path)], "host").plain[-1].blob == key.asbytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [(private_key(SECURITY_KEY), "is of a kind that is not read here: give it to the agent first (ssh-add)"),
     (private_key(b"ssh-ed25519"), ""), ("no key\n", "")],
)  # fmt: skip
def test_a_private_key_that_cannot_be_used_is_passed_over(tmp_path: Path, content: str, said: str) -> None:
    path, locked = tmp_path / "id", list[str]()
    path.write_text(content, encoding="ascii")
    path.chmod(0o600)
    assert ssh_keys._private_key(str(path), locked) is None
    assert locked == ([f"{path} {said}"] if said else [])
