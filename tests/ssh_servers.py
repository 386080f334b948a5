"""OpenSSH servers for tests of how to get in: several kinds of host keys, certificates, and an agent."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.ssh_nodes import sshd_path
from tests.waiting import wait_for

KINDS = ("ed25519", "rsa", "ecdsa")


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """A key pair of a kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bits = ["-b", "2048"] if kind == "rsa" else []
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *bits, "-N", passphrase, "-C", "test", "-f", str(path)], check=True)
    return path


def sign(authority: Path, key: Path, *options: str) -> Path:
    """A certificate for a key; its file."""
    command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", *options, f"{key}.pub"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return Path(f"{key}-cert.pub")


@dataclass
class Server:
    """An sshd; ``options`` are lines of its settings. ``keys`` are its host keys by kind."""

    folder: Path
    authorized: Path
    kinds: tuple[str, ...] = KINDS
    options: list[str] = field(default_factory=list)
    address: str = "127.0.0.1"
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> "Server":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port(self.address)
        for kind in self.kinds:
            if not self.key(kind).exists():
                keygen(self.key(kind), kind)
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        at = f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
        lines = [
            f"ListenAddress {at}", *(f"HostKey {self.key(kind)}" for kind in self.kinds), f"AuthorizedKeysFile {self.authorized}",
            "PidFile none", "UsePAM no", "StrictModes no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password", "PrintMotd no", "PrintLastLog no", "MaxStartups 100", *self.options,
        ]  # fmt: skip
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        log = self.folder / "log"
        with open(log, "ab") as out:
            command = [sshd_path(), "-D", "-e", "-f", str(self.folder / "sshd_config")]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        process = self.process
        wait_for(lambda: "Server listening" in log.read_text() or process.poll() is not None, "the server")
        assert process.poll() is None, log.read_text()
        return self

    def key(self, kind: str) -> Path:
        return self.folder / f"host_{kind}"

    def line(self, kind: str, name: str | None = None) -> str:
        """The line of known_hosts for one of its keys."""
        kind_and_key = " ".join(Path(f"{self.key(kind)}.pub").read_text().split()[:2])
        return f"{name or f'[{self.address}]:{self.port}'} {kind_and_key}\n"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def agent(folder: Path, *keys: Path) -> Iterator[str]:
    """An agent that holds keys; its socket."""
    path = folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        wait_for(path.exists, "the agent's socket")
        env = os.environ | {"SSH_AUTH_SOCK": str(path)}
        for key in keys:
            subprocess.run(["ssh-add", "-q", str(key)], env=env, check=True)
        yield str(path)
    finally:
        process.terminate()
        process.wait()
        path.unlink(missing_ok=True)


def openssh(config: Path, host: str, env: dict[str, str]) -> tuple[bool, str]:
    """Whether ssh(1) gets in, and what it says if not."""
    client = shutil.which("ssh")
    if client is None:
        pytest.skip("needs OpenSSH's client, which is not here: apt-get install openssh-client")
    match = re.fullmatch(r"(?:\[(.+)\]|([^:]+)):(\d+)", host)
    name, port = (match[1] or match[2], ["-p", match[3]]) if match else (host, [])
    command = [client, "-F", str(config), "-o", "BatchMode=yes", *port, "--", name, "echo", "in"]
    done = subprocess.run(
        command, env=os.environ | env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    return done.stdout == "in\n" and done.returncode == 0, done.stderr
