"""The daemon of one node: keeps its cores busy with claimed tracts, and closes counties."""

from __future__ import annotations

from typing import NoReturn

from dbrecon.console.commands import asked_place, open_ledger
from dbrecon.console.entry import run_program, start_program
from dbrecon.console.options import scheduler_groups
from dbrecon.console.parser import PLACE_WORDS, Arguments, Parser
from dbrecon.experiment import check_reident
from dbrecon.node.control import COMMANDS, tell
from dbrecon.settings import Config

EXIT_QUARANTINED = 10
EPILOG = f"""exit codes:
  0    nothing is left, and every tract is solved; or it was told to stop, or --limit is reached; or a scheduler runs on this
       node already
  {EXIT_QUARANTINED}   nothing is left but tracts that are quarantined (--status lists them)
  130  halted (Ctrl-C): the tracts in work were put back; run it again to go on
  1-8  an error; the last line says which (dbrtool.py --help all lists them)

examples:
  scheduler.py --reident R                     everything of R, until nothing is left
  scheduler.py                                 everything of all experiments
  scheduler.py --reident R --stusab oh         Ohio only
  scheduler.py --reident R --step3 --limit 10  ten LP files
"""


def make_parser() -> Parser:
    """Return all options."""
    usage = f"scheduler.py [--reident R] [options] [{PLACE_WORDS}]"
    return Parser("scheduler.py", usage, __doc__ or "", scheduler_groups(COMMANDS), EPILOG)


def work(args: Arguments) -> int:
    """Talk to the scheduler of this node, or be it."""
    if args.tell:
        print(tell(args.tell), end="")
        return 0
    place, reident = asked_place(args), check_reident(args.reident) if args.reident else None
    config = Config.load()
    from dbrecon.ctools.locks import NodeLock, node_lock_path

    lock = NodeLock(node_lock_path("scheduler"))
    holder = lock.acquire()
    if holder is not None:
        if not args.quiet:
            print(f"a scheduler runs on this node already: {holder}")
        return 0
    from dbrecon.node import daemon
    from dbrecon.node.assignment import Assignment
    from dbrecon.steps.prepare import open_experiment

    with lock:
        ledger = open_ledger(config, daemon.PATIENCE_SECONDS)
        steps, not_ready = daemon.steps_of(args.step3, args.step4) | ({6} if args.step6 else set()), 0
        if reident is not None:
            not_ready = daemon.check_ready(open_experiment(ledger, config, reident), ledger, place, steps)
        assignment = Assignment(steps, place, args.limit, args.asc)
        outcome = daemon.work(ledger, config, reident, assignment, listen=True)
    if not args.quiet or outcome.did_something:
        print(daemon.summary(outcome, not_ready))
    return daemon.exit_code(outcome)


def main() -> int:
    """Run the command line."""
    return start_program(make_parser(), work)


def run() -> NoReturn:
    """Run the installed command ``scheduler``."""
    run_program(main)
