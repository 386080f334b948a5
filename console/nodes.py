"""The cluster's nodes: showing them, changing their number, launching schedulers on them and stopping them, and their output."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cluster.commands import asked_reident, open_ledger
from console.options import Action, Actions, positive
from ctools import cli
from dbrecon import Config
from dbrerrors import DatabaseError, RemoteError, UsageError

if TYPE_CHECKING:  # what talks to other machines is slow to load, and most commands need none of it
    from cluster.nodes import Answer, Host
    from ctools.emr import Cluster, Group

log = logging.getLogger(__name__)

LOG_LINES = 100
OUTPUT_LINES = 8
FOREVER = 10.0 * 365 * 86400
LAUNCHES = ("launch", "launch_all")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this module's actions."""
    group = parser.add_argument_group("the cluster (nodes of EMR, or those of [cluster] hosts)")
    group.add_argument("--cluster", action="store_true", help="a line for each node: idle or in use, uptime, load, free memory")
    group.add_argument("--resize", metavar="N", help="so many TASK nodes; others are never changed")
    group.add_argument("--launch", metavar="HOST[,HOST]", help="start schedulers there from a fresh checkout (--force: in use too)")
    group.add_argument("--launch_all", action="store_true", help="the same on all idle TASK nodes")
    group.add_argument("--branch", metavar="B", help="with --launch: the branch or tag to check out")
    group.add_argument("--stop", metavar="HOST[,HOST]|all", help="schedulers there finish their tracts and leave")
    group.add_argument("--logs", metavar="HOST", help="the newest output of the node's scheduler (-f follows it)")
    group.add_argument("-f", "--follow", action="store_true", help="with --logs: go on as it grows, until Ctrl-C")
    group.add_argument("--lines", type=positive, metavar="N", help=f"with --logs: that many lines (default {LOG_LINES})")
    group.add_argument("--doctor", action="store_true", help="check everything that a run needs, here and on each node")
    group.add_argument("--yes", action="store_true", help="with --resize: do not ask")


def check_options(args: argparse.Namespace, action: str) -> None:
    """UsageError for options that mean nothing for this action."""
    if args.branch is not None and action not in LAUNCHES:
        raise UsageError("--branch goes with --launch or --launch_all")
    if args.yes and action != "resize":
        raise UsageError("--yes goes with --resize")
    if (args.follow or args.lines) and action != "logs":
        raise UsageError("--follow and --lines go with --logs")


# -- showing ------------------------------------------------------------------------------------------------------------


def show_cluster(_args: argparse.Namespace, config: Config) -> int:
    """A line for each node."""
    from cluster.nodes import ask, list_hosts, ordered

    hosts = list_hosts(config)
    if not hosts:
        print("the cluster has no CORE or TASK nodes: --resize N asks for some")
    for line in ordered(ask(config, hosts)):
        print(line)
    return 0


def show_logs(args: argparse.Namespace, config: Config) -> int:
    """The newest output of a node's scheduler."""
    from cluster.launch import logs_script
    from cluster.nodes import list_hosts, on_node, pick

    hosts = pick(list_hosts(config), args.logs)
    if len(hosts) != 1:
        raise UsageError("--logs shows one host's output: name one")

    def write(part: bytes) -> None:
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()

    seconds = FOREVER if args.follow else 60.0 + float(config.get("cluster", "ssh_seconds"))
    on_node(config, hosts[0], logs_script(config, args.lines or LOG_LINES, args.follow), seconds, write)
    return 0


# -- schedulers ---------------------------------------------------------------------------------------------------------


def launch(args: argparse.Namespace, config: Config) -> int:
    """Launch schedulers on the hosts that are named, or on all that are idle; the exit code tells whether one failed."""
    from cluster.credentials import with_credentials
    from cluster.launch import launch as launch_on
    from cluster.launch import plan
    from cluster.nodes import list_hosts, on_each

    arguments = ["--reident", asked_reident(args)] if args.reident else []
    arguments += ["--limit", str(args.limit)] if args.limit else []
    config = with_credentials(config)
    what = plan(config, arguments, args.branch, args.force)
    hosts, failed = _to_launch(args, config, list_hosts(config))
    log.info("checking out %s of %s on %d nodes", what.branch, what.repository, len(hosts))

    def work(host: Host) -> str:
        return launch_on(config, host, what)

    for host, result in on_each(hosts, work, float(config.get("cluster", "launch_seconds"))):
        if isinstance(result, RemoteError):
            failed = True
            _complain(host, result)
        else:
            print(f"Launch:  {host.name}", flush=True)
            log.debug("%s: its output is %s", host.name, result)
    return RemoteError.exit_code if failed else 0


def _to_launch(args: argparse.Namespace, config: Config, hosts: Sequence[Host]) -> tuple[list[Host], bool]:
    """The hosts to launch on, and whether some that were asked for cannot be."""
    from cluster.nodes import ask, pick

    core_too = config.get("cluster", "launch_core") == "yes"
    asked = list(hosts) if args.launch_all else pick(hosts, args.launch)
    cores = [host.name for host in asked if host.role == "CORE"]
    if cores and not core_too:
        if not args.launch_all:
            raise UsageError(f"{', '.join(cores)}: a CORE node, the cluster ends with it; [cluster] launch_core = yes allows it")
        asked = [host for host in asked if host.role != "CORE"]
    answers = ask(config, asked)
    dead = [one for one in answers if one.report is None]
    for one in dead:
        sys.stderr.write(f"error: {one.host.name}: {one.error}\n")
    used = [one for one in answers if one.report is not None and one.report.in_use and not args.force]
    for one in [] if args.launch_all else used:
        sys.stderr.write(f"error: {one.host.name} is in use: --force halts what runs there first\n")
    ready = [one.host for one in answers if one.report is not None and one not in used]
    if not ready and args.launch_all:
        remedy = "--force goes after nodes in use" if used else "--cluster shows them all, --resize N asks for more"
        log.warning("no idle node: %s", remedy)
    return ready, bool(dead) or (bool(used) and not args.launch_all)


def _complain(host: Host, error: RemoteError) -> None:
    """Say why a node failed, with the last lines of what it wrote."""
    from cluster.nodes import reason

    sys.stderr.write(f"error: {host.name}: {reason(host, error)}\n")
    lines = getattr(error, "output", "").splitlines()
    for line in lines[-OUTPUT_LINES:] if len(lines) > 1 else []:
        sys.stderr.write(f"   {line}\n")


def stop(args: argparse.Namespace, config: Config) -> int:
    """Have schedulers finish their tracts and leave."""
    from cluster.launch import STOP_SECONDS
    from cluster.launch import stop as stop_on
    from cluster.nodes import list_hosts, on_each, pick

    hosts = list_hosts(config)
    failed = False

    def work(host: Host) -> str:
        return stop_on(config, host)

    for host, result in on_each(hosts if args.stop == "all" else pick(hosts, args.stop), work, STOP_SECONDS):
        if isinstance(result, RemoteError):
            failed = True
            _complain(host, result)
        elif result:
            print(f"Stop:  {host.name}  {result}", flush=True)
        else:
            print(f"idle:  {host.name}  no scheduler runs there", flush=True)
    return RemoteError.exit_code if failed else 0


# -- the cluster's size -------------------------------------------------------------------------------------------------


def resize(args: argparse.Namespace, config: Config) -> int:
    """Change the number of TASK nodes."""
    from cluster.nodes import emr_cluster

    if not args.resize.isdecimal():
        raise UsageError(f"--resize {args.resize}: the number of TASK nodes is 0 or more")
    size = int(args.resize)
    cluster = emr_cluster(config)
    if cluster is None:
        raise UsageError("a list of hosts ([cluster] hosts) cannot be resized: add or take away hosts there")
    group = _task_group(cluster, config)
    leaving = _leaving(cluster, group, config, size)
    unit = "units" if group.fleet else "nodes"
    sys.stderr.write(f"{group.name} of {cluster.id}: {group.requested} {unit} requested, {group.running} running\n")
    for one in leaving:
        sys.stderr.write(f"   {_fate(one, group.fleet)}\n")
    if not args.yes and not cli.confirm(f"Resize cluster to {size} nodes?"):
        print("Nothing was changed.")
        return 1
    _put_back(config, leaving)
    cluster.resize(group, size, [one.host.instance for one in leaving])
    print(f"clusterId: {cluster.id}")
    for line in (each.line() for each in cluster.groups()):
        print(line)
    print("RESIZING")
    return 0


def _task_group(cluster: Cluster, config: Config) -> Group:
    """The TASK group to change. UsageError where there is none, or more than one and none is named."""
    wanted = config.get("cluster", "task_group")
    groups = [group for group in cluster.groups() if group.role == "TASK"]
    if wanted:
        groups = [group for group in groups if wanted in (group.name, group.id)]
    if len(groups) == 1:
        return groups[0]
    if groups:
        names = ", ".join(group.name for group in groups)
        raise UsageError(f"{cluster.id} has several TASK groups ({names}): name one in [cluster] task_group")
    called = f" called {wanted}" if wanted else ""
    raise UsageError(f"{cluster.id} has no TASK group{called}: add one (aws emr add-instance-groups); no other is ever changed")


def _leaving(cluster: Cluster, group: Group, config: Config, size: int) -> list[Answer]:
    """The nodes that are to go: those that do not answer, then idle ones, then those in use. Of a fleet, all, since EMR chooses."""
    from cluster.nodes import Host, ask

    running = sorted(one for one in ((one.host, one.id) for one in cluster.instances() if one.group == group.id))
    too_many = len(running) if group.fleet and size < group.running else len(running) - size
    if too_many <= 0:
        return []
    answers = ask(config, [Host(name, "TASK", instance) for name, instance in running])
    answers.sort(key=lambda one: 0 if one.report is None else 2 if one.report.in_use else 1)
    return answers[:too_many]


def _fate(one: Answer, fleet: bool) -> str:
    verb = "may end" if fleet else "ends"
    if one.report is None:
        return f"{one.host.name} {verb} (it does not answer: {one.error})"
    return f"{one.host.name} {verb} ({'in use: its tracts are put back first' if one.report.in_use else 'idle'})"


def _put_back(config: Config, leaving: Sequence[Answer]) -> None:
    """Before nodes end: what they have in work is put back by themselves, or else, in the ledger, for them."""
    from cluster.launch import HALT_SECONDS, halt
    from cluster.nodes import on_each, short_name

    def work(host: Host) -> None:
        halt(config, host)

    busy = [one.host for one in leaving if one.report is not None and one.report.in_use]
    for host, result in on_each(busy, work, HALT_SECONDS):
        if isinstance(result, RemoteError):
            log.warning("%s: its scheduler could not be halted: %s", host.name, result)
    holders = [one for one in leaving if one.report is None or one.report.in_use]
    names = {short_name(one.report.name if one.report else one.host.name) for one in holders}
    if not names:
        return
    try:
        freed = _free(config, lambda host: short_name(host) in names)
    except (DatabaseError, UsageError) as error:
        log.warning("what those nodes hold comes free when its lease ends: %s", error)
    else:
        log.info("tracts and counties put back for nodes that end: %d", freed)


def _free(config: Config, leaves: Callable[[str], bool]) -> int:
    """Free in all experiments what hosts that leave still hold."""
    ledger = open_ledger(config)
    freed = 0
    for row in ledger.experiments():
        held = {claimant.worker.host for claimant in ledger.claimants(row.reident)}
        hosts = [host for host in held if leaves(host)]
        freed += ledger.release_hosts(row.reident, hosts) if hosts else 0
    return freed


# -- what a run needs ---------------------------------------------------------------------------------------------------


def doctor(_args: argparse.Namespace, config: Config) -> int:
    """One line for each thing that a run needs; the exit code tells whether something is missing."""
    from cluster.doctor import examine

    failed = 0
    for finding in examine(config, lambda: _solver(config)):
        print(finding.line(), flush=True)
        failed += finding.level == "FAIL"
    print(f"{failed} of these must be mended" if failed else "all is well")
    return 1 if failed else 0


def _solver(config: Config) -> str:
    """The solver that solves a program larger than a size-limited licence allows. Raises SolverError."""
    import numpy as np

    from recon.solvers import RESTRICTED_SIZE, Options, Program, solve

    n = RESTRICTED_SIZE + 1
    one, ones = np.ones(1), np.ones(n)
    program = Program(np.array([0, n]), np.arange(n), ones, one, one, np.zeros(n), ones)
    options = Options(solver=config.get("solve", "solver"), seconds=60.0, token_wait=10.0)
    return f"{solve(program, options, 'a program to try').solver} solves ([solve] solver = {options.solver})"


ACTIONS: Actions = {
    "cluster": Action(show_cluster, takes_place=False),
    "resize": Action(resize, takes_place=False),
    "launch": Action(launch, takes_place=False),
    "launch_all": Action(launch, takes_place=False),
    "stop": Action(stop, takes_place=False),
    "logs": Action(show_logs, takes_place=False),
    "doctor": Action(doctor, takes_place=False),
}
