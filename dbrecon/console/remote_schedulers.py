"""Schedulers on the cluster's nodes: launching them and stopping them, and their output."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dbrecon.console.commands import asked_place, asked_reident, asked_steps, open_ledger
from dbrecon.console.options import LOG_LINES
from dbrecon.console.parser import Arguments
from dbrecon.errors import InputError, RemoteError, UsageError
from dbrecon.place import EVERYWHERE
from dbrecon.settings import Config

if TYPE_CHECKING:  # what talks to other machines is slow to load, and most commands need none of it
    from dbrecon.fleet.hosts import Answer, Host
    from dbrecon.fleet.launch import Launch

log = logging.getLogger(__name__)

OUTPUT_LINES = 8
FOREVER = 10.0 * 365 * 86400


def show_logs(args: Arguments, config: Config) -> int:
    """Print the newest output of a node's scheduler."""
    from dbrecon.fleet.hosts import list_hosts, on_node, pick
    from dbrecon.fleet.launch import logs_script

    hosts = pick(list_hosts(config), args.logs)
    if len(hosts) != 1:
        raise UsageError("--logs shows one host's output: name one")

    def write(part: bytes) -> None:
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()

    seconds = FOREVER if args.follow else 60.0 + float(config.cluster.ssh_seconds)
    on_node(config, hosts[0], logs_script(config, args.lines or LOG_LINES, args.follow), seconds, write)
    return 0


def launch(args: Arguments, config: Config) -> int:
    """Launch schedulers on the hosts that are named, or on all that are idle; the exit code tells whether one failed."""
    from dbrecon.fleet.credentials import with_credentials
    from dbrecon.fleet.hosts import list_hosts
    from dbrecon.fleet.launch import plan

    config = with_credentials(config)
    with tempfile.TemporaryDirectory(prefix="dbrecon-launch-") as folder:
        what = plan(config, _scheduler_arguments(args), args.branch, args.force, Path(folder))
        asked = _asked(args, config, list_hosts(config))
        if not _has_work(args, config):
            return 0
        hosts, failed = _ready(args, config, asked)
        if hosts:
            log.info("checking out %s of %s on %s", what.branch, what.repository, ", ".join(host.name for host in hosts))
        failed |= _launch_each(config, hosts, what)
    return RemoteError.exit_code if failed else 0


def _launch_each(config: Config, hosts: Sequence[Host], what: Launch) -> bool:
    """Launch on all hosts side by side, and print what came of each; whether one failed."""
    from dbrecon.fleet.hosts import on_each
    from dbrecon.fleet.launch import launch as launch_on

    failed = False

    def work(host: Host) -> str:
        return launch_on(config, host, what)

    try:
        for host, result in on_each(hosts, work, float(config.cluster.launch_seconds)):
            if isinstance(result, RemoteError):
                failed = True
                _complain(host, result)
            else:
                print(f"Launch:  {host.name}", flush=True)
                log.debug("%s: its output is %s", host.name, result)
    except KeyboardInterrupt:
        log.warning("nodes that have begun go on without this command, and start their schedulers: --cluster shows them")
        raise
    return failed


def _scheduler_arguments(args: Arguments) -> list[str]:
    """Return the command line of scheduler.py that the options ask for."""
    place = asked_place(args)
    given = {
        "reident": asked_reident(args) if args.reident else None,
        "stusab": place.stusab,
        "county": place.county,
        "tract": ",".join(place.tracts or ()),
        "limit": args.limit,
    }
    options = [part for name, value in given.items() if value for part in (f"--{name}", str(value))]
    return options + [f"--step{step}" for step in asked_steps(args)]


def _has_work(args: Arguments, config: Config) -> bool:
    """Whether schedulers will find something to do; says so if not. Raises DatabaseError for what is not registered, and where the
    database does not let us in, InputError before step 1: better here, once, than on each node."""
    from dbrecon.node.daemon import steps_of

    ledger, place, steps = open_ledger(config, make=False), asked_place(args), steps_of(args.step3, args.step4)
    if not args.reident:
        reidents = [row.reident for row in ledger.experiments()]
        if not reidents:
            raise UsageError("no experiment is registered: --register R makes one")
    else:
        reidents = [asked_reident(args)]
        ledger.experiment(reidents[0])
        if not ledger.stusabs(reidents[0]):
            raise InputError(f"{reidents[0]} has no states yet: --step1 --step2 come first")
        ledger.check_place(reidents[0], place)
    for reident in reidents:
        if not ledger.work_left(reident, steps, place).nothing_left:
            return True
    where = "" if place == EVERYWHERE else f" in {place.text()}"
    print(f"nothing is left to do for {', '.join(reidents)}{where}: nothing was launched")
    return False


def _asked(args: Arguments, config: Config, hosts: list[Host]) -> list[Host]:
    """Return the hosts that the options name. UsageError for a CORE node without the setting that allows it."""
    from dbrecon.fleet.hosts import pick

    core_too = config.cluster.launch_core == "yes"
    asked = list(hosts) if args.launch_all else pick(hosts, args.launch)
    cores = [host.name for host in asked if host.role == "CORE"]
    if cores and not core_too:
        if not args.launch_all:
            raise UsageError(f"{', '.join(cores)}: a CORE node, the cluster ends with it; [cluster] launch_core = yes allows it")
        asked = [host for host in asked if host.role != "CORE"]
    return asked


def _ready(args: Arguments, config: Config, asked: list[Host]) -> tuple[list[Host], bool]:
    """Return the hosts to launch on, and whether some that were asked for cannot be."""
    from dbrecon.fleet.hosts import ask

    answers = ask(config, asked)
    dead = [answer for answer in answers if answer.report is None]
    for answer in dead:
        sys.stderr.write(f"error: {answer.host.name}: {answer.error}\n")
    used = [answer for answer in answers if answer.report is not None and answer.report.in_use and not args.force]
    for answer in [] if args.launch_all else used:
        sys.stderr.write(f"error: {answer.host.name} is in use: --force halts what runs there first\n")
    ready = [answer.host for answer in answers if answer.report is not None and answer not in used]
    if not ready and args.launch_all:
        log.warning("no idle node: %s", _remedy(answers, used))
    return ready, bool(dead) or (bool(used) and not args.launch_all)


def _remedy(answers: list[Answer], used: list[Answer]) -> str:
    """Return what to do where no node is idle."""
    if used:
        return "--force goes after nodes in use"
    if answers:
        return "none can be reached, for the reasons above"
    return "the cluster has no TASK nodes, --resize N asks for some"


def _complain(host: Host, error: RemoteError) -> None:
    """Say why a node failed, with the last lines of what it wrote before."""
    from dbrecon.fleet.hosts import reason

    said = reason(host, error).removeprefix("error: ")
    sys.stderr.write(f"error: {host.name}: {said}\n")
    for line in getattr(error, "output", "").splitlines()[-OUTPUT_LINES - 1 : -1]:
        sys.stderr.write(f"   {line}\n")


def stop(args: Arguments, config: Config) -> int:
    """Have schedulers finish their tracts and leave."""
    from dbrecon.fleet.hosts import list_hosts, on_each, pick
    from dbrecon.fleet.launch import STOP_SECONDS
    from dbrecon.fleet.launch import stop as stop_on

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
