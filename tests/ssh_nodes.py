"""Nodes for tests: real OpenSSH servers on loopback addresses, each with its own home and name, and a repository to launch from."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.helpers import forget_host
from tests.paths import CHECKOUT
from tests.ports import free_port

START_SECONDS = 20.0
SOURCES = ("config", "dbrecon")
# All that a node's shell needs, but no Python: where to look for them is the test machine's own PATH.
TOOLS = [
    *("cat", "cut", "date", "df", "flock", "git", "grep", "head", "id", "ln", "ls", "make", "mkdir", "mv", "readlink", "rm", "sed"),
    *("setsid", "sh", "sha256sum", "sleep", "sort", "tail", "timeout", "touch", "tr", "uname", "wc", "who"),
]


def sshd_path() -> str:
    """The server's program; sshd insists on a full path."""
    path = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None or shutil.which("ssh-keygen") is None or shutil.which("git") is None:
        pytest.fail("this test needs OpenSSH's server and git: apt-get install openssh-server git (make test does it)")
    return path


def make_key(path: Path) -> Path:
    """A key pair without a passphrase."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path


@dataclass
class SshNode:
    """An sshd on an address of its own, whose sessions have ``home`` as HOME and ``hostname`` as DBRECON_HOSTNAME."""

    folder: Path
    name: str
    address: str
    authorized: Path
    python: bool = True
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def hostname(self) -> str:
        """What the node calls itself: a name that no other run of the tests on this machine has."""
        return f"{self.name}-{os.getpid()}"

    def prepare(self) -> None:
        self.home.mkdir(parents=True)
        make_key(self.folder / "host_key")
        self.port = free_port(self.address)
        if self.python:
            (self.home / "environment").symlink_to(sys.prefix)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where it locks itself in, as root
        (self.folder / "sshd_config").write_text(
            f"ListenAddress {self.address}:{self.port}\nHostKey {self.folder / 'host_key'}\nAuthorizedKeysFile {self.authorized}\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"PermitRootLogin prohibit-password\nPrintMotd no\nPrintLastLog no\nMaxStartups 100\n"
            f"SetEnv HOME={self.home} DBRECON_HOSTNAME={self.hostname} PATH={self._path()}\n"
        )
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [sshd_path(), "-D", "-e", "-f", str(self.folder / "sshd_config")], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"sshd did not start: {(self.folder / 'log').read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def _path(self) -> str:
        if self.python:
            return os.environ["PATH"]
        tools = self.folder / "bin"
        tools.mkdir(exist_ok=True)
        for tool in TOOLS:
            found = shutil.which(tool)
            if found is not None and not (tools / tool).exists():
                (tools / tool).symlink_to(found)
        return str(tools)

    def _answers(self) -> bool:
        with socket.socket() as client:
            client.settimeout(1.0)
            return client.connect_ex((self.address, self.port)) == 0

    def stop(self) -> None:
        """End the server, its sessions, and whatever of ours was started through them."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None
        self.kill()
        forget_host(self.hostname)

    def kill(self, word: str = "") -> None:
        """End the processes whose command lines have ``word``, and those that they start meanwhile."""
        deadline = time.monotonic() + START_SECONDS
        while pids := self.processes(word):
            assert time.monotonic() < deadline, f"processes of {self.name} do not end: {pids}"
            self.strike(signal.SIGKILL, word)
            time.sleep(0.02)

    def strike(self, number: signal.Signals, word: str = "") -> None:
        """Send a signal to the processes whose command lines have ``word``."""
        for pid in self.processes(word):
            with contextlib.suppress(ProcessLookupError):  # with another of them it has left by itself
                os.kill(pid, number)

    def processes(self, word: str = "") -> list[int]:
        """The processes that run in this node's home, whose command lines have ``word``."""
        found, mark = [], f"DBRECON_HOSTNAME={self.hostname}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                if mark in environment and word.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue
        return found

    def outputs(self) -> list[Path]:
        """What its schedulers wrote, oldest first."""
        return sorted(self.home.glob("dbrecon/recon/output-*"), key=lambda path: path.stat().st_mtime_ns)


@dataclass
class Nodes:
    """Some nodes, an operator's home that knows them, and a repository of the files as they are now."""

    folder: Path
    nodes: dict[str, SshNode] = field(default_factory=dict)

    @property
    def operator_home(self) -> Path:
        return self.folder / "operator"

    @property
    def repository(self) -> str:
        return f"file://{self.folder / 'repository'}"

    @property
    def known_hosts(self) -> Path:
        return self.operator_home / ".ssh" / "known_hosts"

    def prepare(self, names: dict[str, str]) -> None:
        """``names`` gives each node's loopback address; a node whose name begins with "bare" has no Python."""
        key = make_key(self.operator_home / ".ssh" / "id_ed25519")
        for name, address in names.items():
            node = SshNode(self.folder / name, name, address, key.with_suffix(".pub"), python=not name.startswith("bare"))
            node.prepare()
            node.start()
            self.nodes[name] = node
        self.write_ssh_config({name: name for name in names})
        self.make_repository()

    def write_ssh_config(self, names: dict[str, str]) -> None:
        """The operator's ~/.ssh/config: which of our nodes a host's name leads to."""
        lines = [f"Host {given}\n  HostName {node.address}\n  Port {node.port}\n"
                 for given, node in ((given, self.nodes[name]) for given, name in names.items())]  # fmt: skip
        (self.operator_home / ".ssh" / "config").write_text("".join(lines))

    def know_all(self) -> None:
        """All nodes' keys are in known_hosts."""
        lines = [f"[{node.address}]:{node.port} {(node.folder / 'host_key.pub').read_text()}" for node in self.nodes.values()]
        self.known_hosts.write_text("".join(lines))

    def make_repository(self) -> None:
        """A git repository of this checkout's files, those that are not committed too."""
        target = self.folder / "repository"
        target.mkdir()
        for path in [*CHECKOUT.glob("*.py"), CHECKOUT / "Makefile", CHECKOUT / "constraints.txt", CHECKOUT / "pyproject.toml"]:
            shutil.copy2(path, target / path.name)
        for name in SOURCES:
            shutil.copytree(CHECKOUT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*_encrypted.json.*"))
        (target / "ctools").symlink_to("dbrecon/ctools")
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        for command in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-q", "-m", "As it is"]):
            subprocess.run(["git", *command], cwd=target, check=True, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        for node in self.nodes.values():
            node.stop()


def user() -> str:
    return getpass.getuser()
