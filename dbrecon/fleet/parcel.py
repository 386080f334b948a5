"""This machine's packages, carried by SSH to nodes that have none yet, so that these need no package index, and no minutes."""

from __future__ import annotations

import hashlib
import logging
import platform
import re
import shlex
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

from dbrecon.ctools import ssh
from dbrecon.errors import UsageError
from dbrecon.fleet.hosts import Host, NodeError, node_variables, on_node, script, ssh_settings
from dbrecon.fleet.packing import NODES_EXTRAS, needed_packages, write_archive
from dbrecon.paths import HOME
from dbrecon.settings import Config

log = logging.getLogger(__name__)

CONSTRAINTS = HOME / "constraints.txt"


class Parcel:
    """The packages of this machine's Python that nodes need, by what pins them: packed below ``folder`` when the first node wants
    them. UsageError where they are not what constraints.txt says, by which a node would know them again."""

    def __init__(self, folder: Path) -> None:
        if not CONSTRAINTS.exists():
            raise UsageError(
                "[cluster] packages = here: an installed package has no constraints.txt; launch from a checkout, or set pip"
            )
        text = CONSTRAINTS.read_text(encoding="utf-8")
        _check_versions(dict(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", text)))
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.version = f"{sys.version_info.major}.{sys.version_info.minor}"
        self.machine = platform.machine()
        self._path = folder / f"packages-{self.digest}.tar.gz"
        self._lock, self._sha256 = threading.Lock(), ""

    def archive(self) -> tuple[Path, str]:
        """Return the archive, and its SHA-256."""
        with self._lock:
            if not self._sha256:
                write_archive(str(self._path), NODES_EXTRAS)
                with self._path.open("rb") as file:
                    self._sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return self._path, self._sha256


def _check_versions(pinned: dict[str, str]) -> None:
    others = [
        f"{name} is {found}, not {pinned[name]}"
        for name in sorted(needed_packages(NODES_EXTRAS))
        if name in pinned and (found := metadata.version(name)) != pinned[name]
    ]
    if others:
        raise UsageError(f"[cluster] packages = here: {', '.join(others)} as constraints.txt has it; make setup puts it right")


def carry(config: Config, host: Host, parcel: Parcel, seconds: float) -> None:
    """Bring the packages to a node that lacks them and can use them. Raises SshError, and NodeError if it cannot keep them."""
    end = time.monotonic() + seconds
    wanted = {"digest": parcel.digest, "version": parcel.version, "machine": parcel.machine}
    answer = on_node(config, host, script("wants_packages", node_variables(config) | wanted), seconds).strip()
    if answer != "yes":
        if answer:
            log.info("%s: %s: its packages come from pip", host.name, answer)
        return
    path, sha256 = parcel.archive()
    name = f"packages-{parcel.digest}-{parcel.version}.tar.gz"
    folder, part = shlex.quote(config.cluster.folder), f"{name}.part"
    checked = f"echo '{sha256}  {part}' | sha256sum -c --status && mv {part} {name}"
    command = f"umask 077; cd && mkdir -p {folder} && cd {folder} && cat >{part} && {checked}"
    done = ssh.send(
        host.name, f"sh -c {shlex.quote(command)}", path, ssh_settings(config), end - time.monotonic(), host.address or None
    )
    if done.code:
        said = done.err.strip().splitlines()
        raise NodeError(f"{host.name}: the packages cannot be kept there: {said[-1] if said else 'they did not come whole'}")
