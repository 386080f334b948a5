"""The operator's command line: registers experiments, runs their steps, and shows where they stand."""

import argparse
import sys
from typing import NoReturn

from dbrecon.console import (
    dashboard,
    experiments,
    files,
    launching,
    nodes,
    rescan,
    scheduling,
    secrets,
    spark,
    steps,
    watch,
    watching,
)
from dbrecon.console.options import Action
from dbrecon.console.steps import asked_steps
from dbrecon.ctools import cli
from dbrecon.errors import UsageError
from dbrecon.settings import Config

MODULES = (experiments, steps, watching, scheduling, dashboard, watch, spark, nodes, launching, secrets, files, rescan)
ACTIONS: dict[str, Action] = {name: action for module in MODULES for name, action in module.ACTIONS.items()}

USAGE = "dbrtool.py --reident R ACTION [options]"
EPILOG = """examples:
  ./dbrtool.py --register r1                              an experiment on all 34 tables
  ./dbrtool.py --reident r1 --step0 --stusab ri,de        two states' zips from the Census Bureau
  ./dbrtool.py --reident r1 --step1 --step2 --stusab all  geography and county files of all zips in dist/
  ./dbrtool.py --reident r1 --run                         LP files, solutions and people, until nothing is left
  ./dbrtool.py --reident r1 --step4 --stusab oh --county 059 --tract 977100,977200 --force
  watch './dbrtool.py --cluster; ./dbrtool.py --status --reident r1'
  ./dbrtool.py --reident r1 --launch_all                  a scheduler on each idle node of the cluster
  ./dbrtool.py --reident r1 --evaluate truth.csv.gz
With `export REIDENT=r1` there is no need of --reident. A long option may be shortened while it stays unambiguous.

where things are:
  $DAS_S3ROOT   the folder (or s3://bucket/prefix) of all experiments; it must be set
  MYSQL_HOST, MYSQL_DATABASE, MYSQL_USER, MYSQL_PASSWORD   the database; without them, SQLite below $DAS_S3ROOT
  config/config.ini   the settings

exit codes:
  0    done (--run: every tract is solved)
  1    the answer to --drop was not the name; or an error of the system
  2    a wrong command, or a setting that cannot be
  3    data that are missing, damaged or contradictory; a file named here that is not there
  4    a file or bucket that cannot be read or written
  5    the database, or an experiment it does not have
  6    the solver or its licence
  7    a solution that does not give the published counts
  8    another machine, or a service of AWS, that cannot be reached or refuses
  10   nothing is left but tracts in quarantine (--status lists them)
  130  interrupted (Ctrl-C): the same command goes on from there
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage of forty options."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)") from None


def make_parser() -> argparse.ArgumentParser:
    """All options, grouped by task."""
    parser = _Parser(
        prog="dbrtool.py",
        usage=USAGE,
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for module in MODULES:
        module.add_options(parser)
    cli.add_common(parser)
    return parser


def asked_action(args: argparse.Namespace) -> str | None:
    """The one thing to do: one of ``ACTIONS``, or None if there is nothing. Raises UsageError for two."""
    actions = [name for name in ACTIONS if getattr(args, name, None) not in (None, False)]
    steps_asked = [f"step{step}" for step in asked_steps(args)]
    if args.spark and set(actions) - {"spark"} in ({"run"}, {"rescan"}, set()):
        return "spark"
    if args.spark and len(actions) > 2:
        actions.remove("spark")
    if len(actions) > 1 or (steps_asked and actions not in ([], ["run"], ["launch"], ["launch_all"])):
        together = " and ".join(f"--{name}" for name in [*actions, *steps_asked][:2])
        raise UsageError(f"{together} cannot be done at once: give one command after the other")
    return actions[0] if actions else "steps" if steps_asked else None


def check_options(args: argparse.Namespace, action: str) -> None:
    """UsageError for options that mean nothing for this action."""
    if args.tables and action != "register":
        raise UsageError("--tables is settled when an experiment is registered: give it with --register")
    if args.json and action not in ("status", "evaluate", "cluster"):
        raise UsageError("--json goes with --status, --evaluate or --cluster")
    named = [name for name in ("stusab", "county", "tract") if getattr(args, name) is not None]
    if named and not ACTIONS[action].takes_place:
        raise UsageError(f"--{action} takes no --{named[0]}")
    for module in MODULES:
        if hasattr(module, "check_options"):
            module.check_options(args, action)


def main() -> int:
    """The command line."""
    args = make_parser().parse_args()
    cli.start(args)
    action = asked_action(args)
    if action is None:
        sys.stderr.write(f"usage: {USAGE}\nnothing to do: name an action (--register, --run, --status, ...); --help shows all\n")
        return UsageError.exit_code
    check_options(args, action)
    return ACTIONS[action].run(args, Config.load())


def run() -> NoReturn:
    """The installed command ``dbrtool``."""
    cli.run_command(main)
