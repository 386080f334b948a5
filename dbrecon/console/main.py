"""The operator's command line: registers experiments, runs their steps, and shows where they stand."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import NoReturn

from dbrecon.console.checks import check_options, given
from dbrecon.console.commands import asked_steps
from dbrecon.console.entry import run_program, start_program
from dbrecon.console.options import operator_groups
from dbrecon.console.parser import Arguments, Parser
from dbrecon.errors import UsageError
from dbrecon.settings import Config

USAGE = "dbrtool.py --reident R ACTION [options] [STUSAB [COUNTY [TRACT,...]]]"
EPILOG = """examples:
  ./dbrtool.py --reident r1 --register --run --stusab ri  from nothing to the people of Rhode Island; goes on where it ended
  ./dbrtool.py --register r1                              an experiment on all 34 tables
  ./dbrtool.py --reident r1 --step0 --stusab ri,de        two states' zips from the Census Bureau
  ./dbrtool.py --reident r1 --step1 --step2 --stusab all  geography and county files of all zips in dist/
  ./dbrtool.py --reident r1 --run                         LP files, solutions and people, until nothing is left
  ./dbrtool.py --reident r1 --step4 --stusab oh --county 059 --tract 977100,977200 --force
  watch './dbrtool.py --cluster; ./dbrtool.py --status --reident r1'
  ./dbrtool.py --reident r1 --launch_all                  a scheduler on each idle node of the cluster
  ./dbrtool.py --reident r1 --evaluate truth.csv.gz
  ./dbrtool.py --reident r1 --step6 --stusab oh; ./dbrtool.py --reident r1 --certainty
With `export REIDENT=r1` there is no need of --reident. A long option may be shortened while it stays unambiguous.

where things are:
  $DAS_S3ROOT   the folder (or s3://bucket/prefix) of all experiments; it must be set
  MYSQL_HOST, MYSQL_DATABASE, MYSQL_USER, MYSQL_PASSWORD   the database; without them, SQLite below $DAS_S3ROOT
  config/config.ini   the settings; $DBRECON_CONFIG names another file

exit codes:
  0    done (--run: every tract is solved)
  1    --doctor found what must be mended; a question (--drop, --resize) was answered otherwise; or an error of the system
  2    a wrong command, or a setting that is not valid
  3    data that are missing, damaged or contradictory; a file named here that is not there
  4    a file or bucket that cannot be read or written
  5    the database, or an experiment it does not have
  6    the solver or its licence
  7    a solution that does not give the published counts
  8    another machine, or a service of AWS, that cannot be reached or refuses
  10   nothing is left but tracts in quarantine (--status lists them)
  130  interrupted (Ctrl-C): the same command goes on from there
"""


@dataclass(frozen=True)
class Action:
    """What an option does: ``work`` is "module:function" of this package, loaded when it is asked for. ``takes_place``: whether
    --stusab, --county and --tract mean something for it."""

    work: str
    takes_place: bool = True


ACTIONS: dict[str, Action] = {
    "register": Action("registration:register", takes_place=False),
    "products": Action("products:list_products", takes_place=False),
    "check_product": Action("product_check:check_product", takes_place=False),
    "reidents": Action("registration:list_reidents", takes_place=False),
    "upgrade_database": Action("registration:upgrade_database", takes_place=False),
    "drop": Action("registration:drop", takes_place=False),
    "from_start": Action("from_start:run_from_start"),
    "validate": Action("step_commands:validate"),
    "steps": Action("step_commands:do_steps"),
    "run": Action("step_commands:do_steps"),
    "retry_quarantined": Action("step_commands:retry_quarantined"),
    "status": Action("status:show_status"),
    "watch": Action("live_status:watch"),
    "errors": Action("status:show_errors", takes_place=False),
    "evaluate": Action("evaluate:evaluate_people"),
    "export": Action("export_command:export"),
    "report": Action("report_command:report_experiment"),
    "audit": Action("disclosure:audit_records", takes_place=False),
    "reidentify": Action("disclosure:reidentify"),
    "make_attacker": Action("disclosure:make_attacker", takes_place=False),
    "certainty": Action("certainty_commands:show_certainty"),
    "claim": Action("certainty_commands:answer_claim", takes_place=False),
    "claims": Action("certainty_commands:answer_claims", takes_place=False),
    "check_claim": Action("certainty_commands:check_claim", takes_place=False),
    "crontab": Action("scheduler_upkeep:crontab", takes_place=False),
    "unlock": Action("scheduler_upkeep:unlock", takes_place=False),
    "dashboard": Action("dashboard_command:serve_dashboard", takes_place=False),
    "spark": Action("spark_run:run"),
    "spark_pack": Action("spark_pack:pack", takes_place=False),
    "cluster": Action("cluster_nodes:show_cluster", takes_place=False),
    "resize": Action("cluster_nodes:resize", takes_place=False),
    "doctor": Action("cluster_nodes:doctor", takes_place=False),
    "launch": Action("remote_schedulers:launch"),
    "launch_all": Action("remote_schedulers:launch"),
    "stop": Action("remote_schedulers:stop", takes_place=False),
    "logs": Action("remote_schedulers:show_logs", takes_place=False),
    "encrypt_config": Action("database_access:encrypt_config", takes_place=False),
    "env": Action("database_access:print_env", takes_place=False),
    "mysql": Action("database_access:open_client", takes_place=False),
    "ls": Action("file_info:list_files"),
    "info": Action("file_info:show_info", takes_place=False),
    "uploads": Action("file_info:list_unfinished"),
    "clear_uploads": Action("file_info:clear_unfinished"),
    "rescan": Action("rescan:rescan"),
}


def make_parser() -> Parser:
    """Return all options, grouped by task."""
    return Parser("dbrtool.py", USAGE, __doc__ or "", operator_groups(), EPILOG)


def asked_action(args: Arguments) -> str | None:
    """Return the one thing to do: one of ``ACTIONS``, or None if there is nothing. Raises UsageError for two."""
    actions = [name for name in ACTIONS if given(args, name)]
    steps = [f"step{step}" for step in asked_steps(args)]
    if set(actions) == {"register", "run"}:
        return "from_start"
    if set(actions) == {"report", "reidentify"}:
        return "report"
    if args.spark and set(actions) - {"spark"} in ({"run"}, {"rescan"}, set()):
        return "spark"
    if args.spark and len(actions) > 2:
        actions.remove("spark")
    if len(actions) > 1 or (steps and actions not in ([], ["run"], ["launch"], ["launch_all"])):
        together = " and ".join(f"--{name}" for name in [*actions, *steps][:2])
        raise UsageError(f"{together} cannot be done at once: give one command after the other")
    return actions[0] if actions else "steps" if steps else None


def work(args: Arguments) -> int:
    """Do what the arguments ask for."""
    name = asked_action(args)
    if name is None:
        sys.stderr.write(
            f"usage: {USAGE}\nnothing to do: name an action (--register, --run, --status, ...); --help shows what there is\n"
        )
        return UsageError.exit_code
    action = ACTIONS[name]
    check_options(args, name, takes_place=action.takes_place)
    module, _, function = action.work.partition(":")
    code: int = getattr(importlib.import_module(f"dbrecon.console.{module}"), function)(args, Config.load())
    return code


def main() -> int:
    """Run the command line."""
    return start_program(make_parser(), work)


def run() -> NoReturn:
    """Run the installed command ``dbrtool``."""
    run_program(main)
