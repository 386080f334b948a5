"""What the user's SSH settings make of a host's name.

OpenSSH's own client resolves it (``ssh -G``): Include, Match, canonical names, the system's settings. Where there is no client, the
library's parser does: a line that it cannot read is named and skipped.
"""

from __future__ import annotations

import getpass
import glob
import hashlib
import logging
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dbrecon.ctools.extras import extra
from dbrecon.ctools.ssh_errors import SshError, words
from dbrecon.errors import Subject

with extra("cluster"):
    import paramiko

log = logging.getLogger(__name__)

DEFAULT_CONFIG = "~/.ssh/config"
DEFAULT_PORT = 22
DEFAULT_IDENTITIES = ("id_rsa", "id_ecdsa", "id_ed25519")
USER_KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
GLOBAL_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
INCLUDE_DEPTH = 16
_LISTS = {"identityfile", "certificatefile"}
_HOST = re.compile(r"(?:(?P<user>.+)@)?(?:\[(?P<bracketed>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<name>[^@:\[\]]+))(?::(?P<port>\d+))?")
_ADDRESS_6 = re.compile(r"(?:(?P<user>.+)@)?(?P<name>[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%\w+)?)")
_UNSAFE = re.compile(r"[\s\x00-\x1f'\"`$;&<>|(){}]|\\$")  # what a shell that ProxyCommand starts would read otherwise


@dataclass(frozen=True)
class SshSettings:
    """How to log in. ``user``: None is what ~/.ssh/config says, else this user. ``accept_new``: whether a host that is not in
    known_hosts is accepted. ``connect_seconds``: for connecting and logging in."""

    user: str | None = None
    config_file: str = DEFAULT_CONFIG
    accept_new: bool = False
    connect_seconds: float = 10.0


@dataclass(frozen=True)
class HostWords:
    """The parts of ``[user@]host[:port]``; an IPv6 address with a port stands in brackets."""

    name: str
    user: str | None = None
    port: int | None = None

    def text(self) -> str:
        """As it would be typed."""
        name = f"[{self.name}]" if ":" in self.name and self.port else self.name
        return (f"{self.user}@" if self.user else "") + name + (f":{self.port}" if self.port else "")


@dataclass(frozen=True)
class Target:
    """Where a host's name leads to, and how. ``values`` are OpenSSH's settings for it, by their names in small letters; of those
    that may be given several times, one a line."""

    given: str
    name: str
    address: str
    port: int
    user: str
    values: dict[str, str]

    def get(self, name: str, default: str = "") -> str:
        """Return a setting; ``default`` where it is not set, or "none"."""
        value = self.values.get(name, "")
        return default if value.lower() in ("", "none") else value

    def yes(self, name: str) -> bool:
        """Return whether a setting is switched on."""
        return self.values.get(name, "").lower() in ("yes", "true")

    @property
    def alias(self) -> str | None:
        """The name under which known_hosts has its key, where that is not its address."""
        return self.get("hostkeyalias") or None

    @property
    def key_name(self) -> str:
        """Its name in known_hosts."""
        return (self.alias or (self.address if self.port == DEFAULT_PORT else f"[{self.address}]:{self.port}")).lower()

    @property
    def strict(self) -> str:
        """StrictHostKeyChecking: yes (also for ask, since nobody is asked), accept-new or no."""
        value = self.values.get("stricthostkeychecking", "ask").lower()
        return {"true": "yes", "ask": "yes", "off": "no", "false": "no"}.get(value, value)

    def algorithms(self, name: str, supported: list[str]) -> list[str]:
        """Those of a list of algorithms (``kexalgorithms``) that the library has too, in the settings' order. SshError if none."""
        value = self.values.get(name)
        if not value:
            return supported
        wanted = value.split(",")
        found = [name for name in wanted if name in supported]
        if not found:
            raise SshError(
                f"{self.given}: of the {name} that your SSH settings allow ({', '.join(wanted[:3])} ...) this program has none"
            )
        return found

    def paths(self, name: str) -> list[str]:
        """Return the files that a setting names, ``~`` and tokens (%h ...) filled in."""
        value = self.get(name)
        return [self.expanded(part) for part in (value.split("\n") if name in _LISTS else _files(value)) if part and part != "none"]

    def expanded(self, text: str) -> str:
        """Return ``text`` with OpenSSH's tokens, ``${NAME}`` and a leading ``~`` filled in."""
        tokens = self._tokens()
        text = re.sub(r"%(.)", lambda match: tokens.get(match[1], match[0]), text)
        text = re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], ""), text)
        return os.path.expanduser(text)

    def _tokens(self) -> dict[str, str]:
        here, me = socket.gethostname(), getpass.getuser()
        jump = self.get("proxyjump")
        digest = hashlib.sha1(f"{here}{self.address}{self.port}{self.user}{jump}".encode(), usedforsecurity=False).hexdigest()
        return {
            "%": "%", "h": self.address, "n": self.name, "p": str(self.port), "r": self.user, "u": me, "l": here,
            "L": here.partition(".")[0], "d": os.path.expanduser("~"), "i": str(os.getuid()), "j": jump, "C": digest,
            "k": self.alias or self.address,
        }  # fmt: skip


def parse_host(text: str) -> HostWords:
    """Return the parts of ``[user@]host[:port]``. SshError for what cannot be a host."""
    match = _ADDRESS_6.fullmatch(text) or _HOST.fullmatch(text)
    parts = match.groupdict() if match else {}
    name, user, port = parts.get("bracketed") or parts.get("name"), parts.get("user"), parts.get("port")
    wrong = not name or any(_UNSAFE.search(part) or part.startswith("-") for part in (name, user or ""))
    if wrong or not name or (port is not None and not 0 < int(port) < 65536):
        raise SshError(f"{text!r} is no host: give [user@]host[:port], with an IPv6 address before a port in brackets")
    return HostWords(name, user, int(port) if port else None)


def resolve(host: HostWords, settings: SshSettings, seconds: float, address: str | None = None) -> Target:
    """Return what the settings make of a host, within ``seconds``; ``address`` stands for the one that they name. SshError where
    OpenSSH would refuse the settings."""
    client = shutil.which("ssh")
    if client is None:
        values = _by_library(host, settings)
    else:
        with _config_options(settings.config_file) as options:
            values = _by_openssh([client, "-G", *options], host, settings, seconds)
    port = str(host.port or values.get("port", DEFAULT_PORT))
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise SshError(f"{host.text()}: Port {port} is no port: correct it in {settings.config_file}")
    user = host.user or settings.user or values.get("user") or getpass.getuser()
    return Target(host.text(), host.name, address or values.get("hostname", host.name), int(port), user, values)


# -- OpenSSH's own client -----------------------------------------------------------------------------------------------


@contextmanager
def _config_options(path: str) -> Iterator[list[str]]:
    """Yield the options that have ssh read the settings of ``path``. Without one it reads the user's and the system's; it looks for
    the user's in the home of the password database, and we in $HOME, so that a file is given where the two differ."""
    full = os.path.expanduser(path)
    elsewhere = os.path.expanduser("~") != _home()
    if path == DEFAULT_CONFIG and not elsewhere:
        yield []
    elif not os.path.exists(full):
        yield ["-F", os.devnull]
    elif not elsewhere:
        yield ["-F", full]
    else:
        with tempfile.NamedTemporaryFile("w", prefix="ssh_config-") as file:
            file.write("\n".join(_lines(full)) + "\n")
            file.flush()
            yield ["-F", file.name]


def _home() -> str:
    return pwd.getpwuid(os.getuid()).pw_dir


def _by_openssh(command: list[str], host: HostWords, settings: SshSettings, seconds: float) -> dict[str, str]:
    if settings.accept_new:
        command += ["-o", "StrictHostKeyChecking=accept-new"]
    user = host.user or settings.user
    command += (["-l", user] if user else []) + (["-p", str(host.port)] if host.port else []) + ["--", host.name]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        errors="surrogateescape", process_group=0,
    )  # fmt: skip
    try:
        printed, complaints = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)  # with the command that it waits for
        process.communicate()
        raise SshError(
            f"{host.text()}: a command in {settings.config_file} (Match exec) does not end: see ssh -G {host.name}"
        ) from error
    if process.returncode:
        lines = [line for line in complaints.splitlines() if line.strip() and "terminating" not in line] or ["no reason given"]
        raise SshError(f"{host.text()}: ssh refuses its settings ({lines[-1].strip()}): see ssh -G {host.name}")
    return _parsed(printed)


def _parsed(text: str) -> dict[str, str]:
    """Return what ``ssh -G`` prints, as a dictionary."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        values[name] = f"{values[name]}\n{value}" if name in _LISTS and name in values else value
    ours, home = os.path.expanduser("~"), _home()
    if ours != home and (known := values.get("userknownhostsfile")):  # printed with the other home filled in
        values["userknownhostsfile"] = " ".join(re.sub(f"^{re.escape(home)}/", f"{ours}/", part) for part in known.split(" "))
    return values


def _files(value: str) -> list[str]:
    """Return paths with spaces between them; ``ssh -G`` does not say which spaces belong to a path."""
    return [value] if os.path.exists(os.path.expanduser(value)) else value.split()


# -- without it -----------------------------------------------------------------------------------------------------------


def _by_library(host: HostWords, settings: SshSettings) -> dict[str, str]:
    path = os.path.expanduser(settings.config_file)
    lines = [line for line in _lines(path) if _readable(line, path)] if os.path.exists(path) else []
    try:
        asked = paramiko.SSHConfig.from_text("\n".join(lines) + "\n").lookup(host.name)
    except (paramiko.SSHException, ValueError, OSError) as error:
        raise SshError(f"{host.text()}: {path} cannot be read ({words(error)}): correct it, or install OpenSSH's client") from error
    values = {name: "\n".join(value) if isinstance(value, list) else str(value) for name, value in asked.items()}
    if settings.accept_new:
        values["stricthostkeychecking"] = "accept-new"
    values.setdefault("identityfile", "\n".join(f"~/.ssh/{name}" for name in DEFAULT_IDENTITIES))
    values.setdefault("userknownhostsfile", USER_KNOWN_HOSTS)
    values.setdefault("globalknownhostsfile", GLOBAL_KNOWN_HOSTS)
    return values


def _readable(line: str, path: str) -> bool:
    """Return whether the library's parser can read a line; says so where not."""
    try:
        paramiko.SSHConfig.from_text(line + "\n")
    except (paramiko.SSHException, ValueError) as error:
        log.warning("%s: the line %r is passed over: %s", path, line.strip(), words(error))
        return False
    return True


def _lines(path: str, depth: int = 0) -> list[str]:
    """Return the lines of a settings file without comments, those of included files in their places."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError as error:
        raise SshError(f"{path} cannot be read ({words(error)})", about=Subject.SSH_SETTINGS) from error
    found: list[str] = []
    block = ""
    for line in text.splitlines():
        bare = _without_comment(line)
        word, value = (bare.replace("=", " ", 1).strip().split(None, 1) + ["", ""])[:2]
        if word.lower() in ("host", "match"):
            block = bare
        if word.lower() != "include":
            found.append(bare)
            continue
        if depth >= INCLUDE_DEPTH:
            raise SshError(f"{path} includes files {INCLUDE_DEPTH} deep: take out the circle")
        for pattern in shlex.split(value):
            for name in sorted(glob.glob(os.path.join(os.path.expanduser("~/.ssh"), os.path.expanduser(pattern)))):
                found += _lines(name, depth + 1)
        found.append(block or "Host *")  # what follows belongs to the block that the Include stands in
    return [line for line in found if line.strip()]


def _without_comment(line: str) -> str:
    """Return a line up to a ``#`` that stands outside quotes at the beginning of a word."""
    return re.sub(r"""^((?:"[^"]*"|'[^']*'|[^"'#]|(?<=\S)#)*?)(?:(?:^|\s+)#.*)?$""", r"\1", line)
