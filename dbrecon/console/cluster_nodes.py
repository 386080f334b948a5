"""The cluster's nodes: showing them, changing their number, and what a run needs of them."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dbrecon.console.commands import open_ledger
from dbrecon.console.parser import Arguments
from dbrecon.ctools import cli
from dbrecon.ctools.progress import held_units
from dbrecon.errors import DatabaseError, RemoteError, UsageError
from dbrecon.remedies import sentence
from dbrecon.settings import Config

if TYPE_CHECKING:  # what talks to other machines is slow to load, and most commands need none of it
    from dbrecon.ctools.emr import Cluster, Group
    from dbrecon.fleet.hosts import Answer, Host

log = logging.getLogger(__name__)


# -- showing ------------------------------------------------------------------------------------------------------------


def show_cluster(args: Arguments, config: Config) -> int:
    """Print a line for each node as it answers (with --json: all of them, by name); the exit code tells whether none did."""
    from dbrecon.fleet.hosts import answers, list_hosts

    hosts = list_hosts(config)
    if not hosts and not args.json:
        print("the cluster has no CORE or TASK nodes: --resize N asks for some")
    found = []
    for answer in answers(config, hosts):
        found.append(answer)
        if not args.json:
            print(answer.line(), flush=True)
    if args.json:
        print(json.dumps({"nodes": [answer.as_dict() for answer in sorted(found, key=lambda answer: answer.host.name)]}, indent=2))
    if hosts and not any(answer.report for answer in found):
        raise RemoteError("no node answers: see the reasons above, or try one with ssh")
    return 0


# -- the cluster's size -------------------------------------------------------------------------------------------------


def resize(args: Arguments, config: Config) -> int:
    """Change the number of TASK nodes."""
    from dbrecon.fleet.hosts import emr_cluster

    if not args.resize.isdecimal():
        raise UsageError(f"--resize {args.resize}: the number of TASK nodes is 0 or more")
    size = int(args.resize)
    cluster = emr_cluster(config)
    if cluster is None:
        raise UsageError("a list of hosts ([cluster] hosts) cannot be resized: add or take away hosts there")
    group = _task_group(cluster, config)
    if group.requested == group.running == size:
        print(f"{group.line()}: nothing is to be changed")
        return 0
    leaving = _leaving(cluster, group, config, size)
    unit = "units" if group.fleet else "nodes"
    sys.stderr.write(f"{group.name} of {cluster.id}: {group.requested} {unit} requested, {group.running} running\n")
    for answer in leaving:
        sys.stderr.write(f"   {_fate(answer, group.fleet)}\n")
    if not args.yes and not cli.confirm(f"Resize cluster to {size} nodes? (yes/no)"):
        print("Nothing was changed.")
        return 1
    _put_back(config, leaving)
    cluster.resize(group, size, [answer.host.instance for answer in leaving])
    print(f"clusterId: {cluster.id}")
    for line in (each.line() for each in cluster.groups()):
        print(line)
    print("RESIZING")
    return 0


def _task_group(cluster: Cluster, config: Config) -> Group:
    """Return the TASK group to change. UsageError where there is none, or more than one and none is named."""
    wanted = config.cluster.task_group
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
    """Return the nodes that are to go: those that do not answer, then idle ones, then those in use. Of a fleet, all, since EMR
    chooses."""
    from dbrecon.fleet.hosts import Host, ask

    running = sorted(
        (instance for instance in cluster.instances() if instance.group == group.id),
        key=lambda instance: (instance.host, instance.id),
    )
    too_many = len(running) if group.fleet and size < group.running else len(running) - size
    if too_many <= 0:
        return []
    answers = ask(config, [Host(instance.host, "TASK", instance.id, instance.address) for instance in running])
    answers.sort(key=lambda answer: 0 if answer.report is None else 2 if answer.report.in_use else 1)
    return answers[:too_many]


def _fate(answer: Answer, fleet: bool) -> str:
    verb = "may end" if fleet else "ends"
    if answer.report is None:
        return f"{answer.host.name} {verb} (it does not answer: {answer.error})"
    return f"{answer.host.name} {verb} ({'in use: its tracts are put back first' if answer.report.in_use else 'idle'})"


def _put_back(config: Config, leaving: Sequence[Answer]) -> None:
    """Before nodes end: what they have in work is put back by themselves, or else, in the ledger, for them."""
    from dbrecon.fleet.hosts import on_each, short_name
    from dbrecon.fleet.launch import HALT_SECONDS, halt

    def work(host: Host) -> None:
        halt(config, host)

    busy = [answer.host for answer in leaving if answer.report is not None and answer.report.in_use]
    for host, result in on_each(busy, work, HALT_SECONDS):
        if isinstance(result, RemoteError):
            log.warning("%s: its scheduler could not be halted: %s", host.name, result)
    holders = [answer for answer in leaving if answer.report is None or answer.report.in_use]
    names = {short_name(answer.report.name if answer.report else answer.host.name) for answer in holders}
    if not names:
        return
    try:
        freed = _free(config, lambda host: short_name(host) in names)
    except (DatabaseError, UsageError) as error:
        log.warning("what those nodes hold comes free when its lease ends: %s", sentence(error))
    else:
        if freed:
            log.info("what silent nodes held is put back: %s", held_units(freed))


def _free(config: Config, leaves: Callable[[str], bool]) -> int:
    """Free in all experiments what hosts that leave still hold."""
    ledger = open_ledger(config, make=False)
    freed = 0
    for row in ledger.experiments():
        held = {claimant.worker.host for claimant in ledger.claimants(row.reident)}
        hosts = [host for host in held if leaves(host)]
        freed += ledger.release_hosts(row.reident, hosts) if hosts else 0
    return freed


# -- what a run needs ---------------------------------------------------------------------------------------------------


def doctor(_args: Arguments, config: Config) -> int:
    """Print one line for each thing that a run needs; the exit code tells whether something is missing."""
    from dbrecon.fleet.doctor import examine

    failed = 0
    for finding in examine(config, lambda: _solver(config)):
        print(finding.line(), flush=True)
        failed += finding.level == "FAIL"
    print(f"{failed} of these must be mended" if failed else "all is well")
    return 1 if failed else 0


def _solver(config: Config) -> str:
    """Return the solver that solves a program larger than a size-limited licence allows. Raises SolverError."""
    import numpy as np

    from dbrecon.recon.solve.program import RESTRICTED_SIZE, Options, Program
    from dbrecon.recon.solve.solvers import solve

    n = RESTRICTED_SIZE + 1
    unit, ones = np.ones(1), np.ones(n)
    program = Program(np.array([0, n]), np.arange(n), ones, unit, unit, np.zeros(n), ones)
    options = Options(solver=config.solve.solver, seconds=60.0, token_wait=10.0)
    return f"{solve(program, options, 'a program to try').solver} solves ([solve] solver = {options.solver})"
