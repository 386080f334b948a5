"""The nodes of the cluster: which there are, and what each says of itself when it is asked over SSH.

Nodes are those of an EMR cluster, or the hosts that ``[cluster] hosts`` lists (which are all like TASK nodes: to be worked on).
"""

from __future__ import annotations

import functools
import math
import os
import queue
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dbrecon.ctools import emr, ssh
from dbrecon.errors import RemoteError, UsageError
from dbrecon.remedies import sentence
from dbrecon.settings import Config

T = TypeVar("T")
SCRIPT = Path(__file__).resolve().parent / "on_node.sh"
ROLES = {"MASTER": 0, "CORE": 1, "TASK": 2}
AT_ONCE = 64
GRACE_SECONDS = 1.0


@dataclass(frozen=True)
class Host:
    """A node: how SSH reaches it, its role (MASTER, CORE, TASK), and on EMR EC2's id of its instance and its private address, at
    which it is reached where its name cannot be resolved."""

    name: str
    role: str = "TASK"
    instance: str = ""
    address: str = ""

    @property
    def short(self) -> str:
        """Its name up to the first dot, without user and port."""
        return short_name(self.name)


@dataclass(frozen=True)
class Report:
    """What a node says of itself. ``name`` is what its schedulers call it in the database; ``time`` is its clock's Unix time;
    ``free_kib`` is memory that programs can have (MemAvailable); ``state`` is idle, in use or launching."""

    name: str
    time: int
    uptime: float
    load: str
    users: int
    free_kib: int
    state: str

    @property
    def in_use(self) -> bool:
        """Whether something of ours is at work there, or about to be."""
        return self.state != "idle"


@dataclass(frozen=True)
class Answer:
    """A node's report, or why there is none."""

    host: Host
    report: Report | None
    error: str = ""

    def line(self) -> str:
        """As --cluster shows it."""
        if self.report is None:
            role = f"{self.host.role}, " if self.host.instance else ""  # hosts of a list have no roles
            return f"unreachable: {self.host.name} ({role}{self.error})"
        kind = self.host.role if self.host.role != "TASK" else "in use" if self.report.in_use else "idle"
        also = " (launching)" if self.report.state == "launching" else ""
        return f"{kind}: {self.host.name} {load_text(self.report)}{also}"

    def as_dict(self) -> dict[str, object]:
        """As --cluster --json shows it: Unix time, uptime in seconds, the three load averages, memory that is free in KiB."""
        report = self.report
        shown: dict[str, object] = {
            "host": self.host.name,
            "role": self.host.role,
            "state": report.state if report else "unreachable",
        }
        if report is None:
            return shown | {"error": self.error}
        load = [float(part) for part in report.load.split()]
        facts = {"name": report.name, "time": report.time, "uptime": report.uptime, "load": load}
        return shown | facts | {"users": report.users, "free_kib": report.free_kib}


class NodeError(RemoteError):
    """Something that was to be done on a node failed there. ``output`` is what it wrote to the end."""

    output = ""


def bare_name(host: str) -> str:
    """Return a host's name without user and port."""
    try:
        return ssh.parse_host(host).name
    except ssh.SshError:
        return host


def short_name(host: str) -> str:
    """Return a host's name up to its first dot, without user and port. An address stays whole."""
    bare = bare_name(host)
    return bare if ":" in bare or re.fullmatch(r"[0-9.]+", bare) else bare.partition(".")[0]


def load_text(report: Report) -> str:
    """As uptime(1) tells it, and free memory: "1 day, 15:36, 0 users, load average: 0.08, 0.06, 0.01, free memory: 371.2 GiB"."""
    minutes = int(report.uptime) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    up = f"{days} day{'s' if days != 1 else ''}, " if days else ""
    up += f"{hours}:{minutes:02d}" if hours else f"{minutes} min"
    users = f"{report.users} user{'s' if report.users != 1 else ''}"
    average = ", ".join(report.load.split())
    return f"{up}, {users}, load average: {average}, free memory: {report.free_kib / (1 << 20):.1f} GiB"


# -- which there are ----------------------------------------------------------------------------------------------------


def emr_cluster(config: Config) -> emr.Cluster | None:
    """Return the EMR cluster, unless the settings list hosts. UsageError if there is neither."""
    if config.cluster.hosts:
        return None
    found = emr.cluster_id(config.cluster.emr_cluster_id)
    if found is None:
        raise UsageError(
            f"no cluster is known here: list its hosts in [cluster] hosts of {config.path}, or export EMR_CLUSTER_ID for one of EMR"
        )
    return emr.Cluster(found)


def list_hosts(config: Config) -> list[Host]:
    """Return the cluster's nodes without the MASTER: CORE first, by name. Raises UsageError, AwsError."""
    cluster = emr_cluster(config)
    if cluster is None:
        names = [name for name in re.split(r"[\s,]+", config.cluster.hosts or "") if name]
        return [Host(name) for name in dict.fromkeys(names)]
    roles = {group.id: group.role for group in cluster.groups()}
    hosts = [
        Host(instance.host, roles[instance.group], instance.id, instance.address)
        for instance in cluster.instances()
        if instance.group in roles
    ]
    return sorted((host for host in hosts if host.role != "MASTER"), key=lambda host: (ROLES.get(host.role, 3), host.name))


def _same(word: str, name: str) -> bool:
    """Return whether a host is meant by ``word``: user and port may lack on either side, and all from the first dot on."""
    first, second = bare_name(word), bare_name(name)
    return first == second or first == short_name(second) or short_name(first) == second


def pick(hosts: Sequence[Host], words: str) -> list[Host]:
    """Return the hosts that are named, with commas: in full, or up to the first dot. UsageError for one that is none, or
    ambiguous."""
    picked = []
    for word in (part.strip() for part in words.split(",") if part.strip()):
        exact = [host for host in hosts if host.name == word]
        found = exact or [host for host in hosts if _same(word, host.name)]
        if len(found) != 1:
            known = ", ".join(host.name for host in hosts) or "no hosts at all"
            what = "several hosts" if found else "no host of the cluster"
            raise UsageError(f"{word} is {what}, which has {known}")
        picked += found
    if not picked:
        raise UsageError("which host? Name one of those that --cluster shows")
    return list(dict.fromkeys(picked))


# -- asking them --------------------------------------------------------------------------------------------------------


def ssh_settings(config: Config) -> ssh.SshSettings:
    """Return how to log in to nodes."""
    return ssh.SshSettings(
        user=config.cluster.ssh_user,
        config_file=config.cluster.ssh_config or os.devnull,
        accept_new=config.cluster.ssh_new_hosts == "accept",
        connect_seconds=config.cluster.ssh_seconds,
    )


@functools.cache
def _functions() -> str:
    return SCRIPT.read_text(encoding="utf-8")


def node_variables(config: Config) -> dict[str, str]:
    """Return what the functions of on_node.sh know of the settings."""
    return {"folder": config.cluster.folder, "venv": config.cluster.venv or ""}


def script(call: str, variables: dict[str, str], prologue: str = "") -> str:
    """Return what is sent to a node: variables, the functions of on_node.sh, and a call of one. Functions find nothing on their
    stdin."""
    given = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    return f"{given}{prologue}{_functions()}\n{{ {call}; exit $?; }} </dev/null\n"


def on_node(config: Config, host: Host, text: str, seconds: float, output: Callable[[bytes], None] | None = None) -> str:
    """Run a script of :func:`script` on a node; what it printed. Raises SshError, and NodeError if it failed."""
    done = ssh.run(host.name, text, ssh_settings(config), seconds, output, host.address or None)
    if done.code:
        lines = [line for line in done.err.rstrip().splitlines() if line.strip()] or [f"its shell ended with code {done.code}"]
        error = NodeError(f"{host.name}: {lines[-1].strip()}")
        error.output = "\n".join(lines)
        raise error
    return done.out


def on_each(hosts: Sequence[Host], work: Callable[[Host], T], seconds: float) -> Iterator[tuple[Host, T | RemoteError]]:
    """Do ``work`` for all hosts side by side; each host with its result, or the error of its node, as they come.

    ``work`` keeps a deadline of ``seconds`` itself; one that does not (a name server that hangs) is given up. Errors of other kinds
    are raised.
    """
    waiting: queue.SimpleQueue[Host] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[Host, T | BaseException]] = queue.SimpleQueue()
    for host in hosts:
        waiting.put(host)

    def serve() -> None:
        while True:
            try:
                host = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                results.put((host, work(host)))
            except RemoteError as error:
                results.put((host, error))
            except BaseException as error:  # a bug, to be raised where the results are taken
                results.put((host, error))
                raise

    workers = min(AT_ONCE, len(hosts))
    for _ in range(workers):
        threading.Thread(target=serve, daemon=True).start()  # daemons: one that hangs must not keep the command
    deadline = time.monotonic() + math.ceil(len(hosts) / max(1, workers)) * (seconds + GRACE_SECONDS)
    left = list(hosts)
    while left:
        try:
            host, result = results.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            yield from ((host, NodeError(f"{host.name} did not answer within {seconds:g} s")) for host in left)
            return
        left.remove(host)
        if isinstance(result, BaseException) and not isinstance(result, RemoteError):
            raise result
        yield host, result


def answers(config: Config, hosts: Sequence[Host]) -> Iterator[Answer]:
    """Yield what each host says of itself, as they answer. All that a node does has ``[cluster] ssh_seconds``."""
    text = script("report", node_variables(config))
    seconds = config.cluster.ssh_seconds

    def work(host: Host) -> Report:
        return parse_report(host, on_node(config, host, text, seconds))

    for host, result in on_each(hosts, work, seconds):
        yield answer(host, result)


def ask(config: Config, hosts: Sequence[Host]) -> list[Answer]:
    """Return what each host says of itself, in the hosts' order."""
    found = {answer.host: answer for answer in answers(config, hosts)}
    return [found[host] for host in hosts]


def answer(host: Host, result: Report | RemoteError) -> Answer:
    """Return a result of :func:`on_each` as an answer; the error without the host's name, which stands before it."""
    if isinstance(result, Report):
        return Answer(host, result)
    return Answer(host, None, reason(host, result))


def reason(host: Host, error: RemoteError) -> str:
    """Return an error's text without the host's name at its beginning."""
    return sentence(error).removeprefix(host.name).lstrip(": ")


def values(text: str) -> dict[str, str]:
    """Return the name=value lines that a node printed."""
    return {name: value for name, equals, value in (line.partition("=") for line in text.splitlines()) if equals}


def parse_report(host: Host, text: str) -> Report:
    """Return the Report in what on_node.sh printed. NodeError if it is none."""
    facts = values(text)
    try:
        return Report(
            name=facts["name"],
            time=int(facts["time"]),
            uptime=float(facts["uptime"]),
            load=facts["load"],
            users=int(facts["users"]),
            free_kib=int(facts["free_kib"]),
            state=facts["state"],
        )
    except (KeyError, ValueError) as error:
        said = text.strip()[:200]
        raise NodeError(f"{host.name} gives no report of itself (it must be Linux; its shell said {said!r})") from error
