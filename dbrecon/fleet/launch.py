"""Schedulers on other nodes: launching them with a fresh checkout, stopping them, reading what they write."""

from __future__ import annotations

import fnmatch
import os
import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbrecon.ctools.host import VARIABLE as HOSTNAME_VARIABLE
from dbrecon.errors import UsageError
from dbrecon.fleet.hosts import Host, node_variables, on_node, script
from dbrecon.fleet.parcel import Parcel, carry
from dbrecon.paths import HOME, INSTALLED
from dbrecon.settings import Config

HALT_SECONDS = 60.0
STOP_SECONDS = 30.0
_BRANCH = re.compile(r"[\w.@+#=%,][\w.@+#=%,/-]*")
"""Fewer names than git takes: none that an option begins like, or that a shell would not leave alone."""


@dataclass(frozen=True)
class Launch:
    """What is launched: ``arguments`` of scheduler.py, the repository and branch it is from, whether nodes in use are taken too,
    the environment it gets (secrets among it), the text of its settings file, the packages that are carried along (None: none)."""

    arguments: tuple[str, ...]
    repository: str
    branch: str
    force: bool
    environment: Mapping[str, str]
    settings: str
    parcel: Parcel | None = None

    def __repr__(self) -> str:
        """Without the environment, which has secrets."""
        return f"Launch({self.arguments!r}, {self.repository!r}, {self.branch!r})"


def plan(
    config: Config,
    arguments: Sequence[str],
    branch: str | None,
    force: bool,
    folder: Path,
    env: Mapping[str, str] | None = None,
) -> Launch:
    """Return a launch by the settings. ``config`` has the database's credentials; what is to be carried to nodes is packed below
    ``folder``. UsageError where something is missing."""
    database = config.database()
    if not database["mysql_host"]:
        raise UsageError("nodes meet in MySQL or MariaDB, and none is set: export MYSQL_HOST and its partners, or --encrypt_config")
    check_reachable(database["mysql_host"])
    repository, branch = source(config, branch)
    environment = passed_on(config.cluster.environment or "", os.environ if env is None else env)
    environment |= {name.upper(): str(value) for name, value in database.items() if name.startswith("mysql_") and value is not None}
    environment["DAS_S3ROOT"] = config.root()
    text = Path(config.path).read_text(encoding="utf-8")
    parcel = Parcel(folder) if config.cluster.packages == "here" and not config.cluster.venv else None
    return Launch(tuple(arguments), repository, branch, force, environment, text, parcel)


def check_reachable(host: str) -> None:
    """Raise UsageError for a database that is reached by a socket, which no other machine can."""
    if host.startswith("/"):
        raise UsageError(
            f"nodes cannot reach the database by the socket {host}: set MYSQL_HOST to a name that is right on all nodes"
        )


def source(config: Config, branch: str | None = None) -> tuple[str, str]:
    """Return the repository and the branch (or tag) that nodes check out. UsageError where one is not known."""
    repository = config.cluster.repository or _git("remote", "get-url", "origin")
    if not repository:
        lacking = "An installed package has none" if INSTALLED else "This checkout has no origin"
        raise UsageError(f"which repository? {lacking}: set [cluster] repository in {config.path}")
    if branch is None:
        branch = config.cluster.branch or _git("rev-parse", "--abbrev-ref", "HEAD")
        if not branch or branch == "HEAD":
            raise UsageError("which branch? This checkout is on none: give --branch")
    if not _BRANCH.fullmatch(branch) or ".." in branch:
        raise UsageError(f"{branch!r} is no branch: see --branch, and [cluster] branch in {config.path}")
    if repository.startswith("-") or not repository.isprintable():
        raise UsageError(f"{repository!r} is no repository: correct [cluster] repository in {config.path}")
    return repository, branch


def passed_on(patterns: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the environment that match one of the patterns ("MYSQL_* GRB_*"); never the name of this node."""
    wanted = patterns.replace(",", " ").split()
    matching = {name: value for name, value in env.items() if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)}
    matching.pop(HOSTNAME_VARIABLE, None)
    return matching


def launch(config: Config, host: Host, what: Launch) -> str:
    """Launch a scheduler on a node; where its output is there, after what it says if it has left already. Raises RemoteError."""
    seconds = float(config.cluster.launch_seconds)
    end_at = time.monotonic() + seconds
    if what.parcel is not None:
        carry(config, host, what.parcel, seconds)
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in what.environment.items())
    end = f"end_{secrets.token_hex(8)}"
    settings = f"settings() {{ cat <<'{end}'\n{what.settings.rstrip()}\n{end}\n}}\n"
    wanted = {"repository": what.repository, "branch": what.branch, "force": "yes" if what.force else "no"}
    call = " ".join(["launch", *map(shlex.quote, what.arguments)])
    left = max(0.0, end_at - time.monotonic())
    return on_node(config, host, script(call, node_variables(config) | wanted, exports + settings), left).strip()


def stop(config: Config, host: Host) -> str:
    """Have a node's scheduler finish its tracts and leave; what it answers, "" if there is none. Raises RemoteError."""
    return on_node(config, host, script("stop", node_variables(config)), STOP_SECONDS).strip()


def halt(config: Config, host: Host) -> None:
    """Have a node put its tracts in work back, and end everything of ours there. Raises RemoteError."""
    on_node(config, host, script("halt_all 20", node_variables(config)), HALT_SECONDS)


def logs_script(config: Config, lines: int, follow: bool) -> str:
    """For :func:`dbrecon.fleet.hosts.on_node`: the end of the newest output."""
    return script(f"logs {lines} '{'-f' if follow else ''}'", node_variables(config))


def _git(*arguments: str) -> str:
    """Return what git says of this checkout; "" where it has nothing to say, or is not there, or this is an installed package."""
    if INSTALLED:  # git would speak of whatever checkout the package lies in
        return ""
    try:
        done = subprocess.run(["git", "-C", HOME, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
