"""Workflow 2: steps 1 to 5, and --rescan, as a Spark job."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dbrecon.console import rescan
from dbrecon.console.certainty_commands import reopen_stale
from dbrecon.console.commands import asked_place, asked_reident, asked_steps, find_experiment, open_ledger, states_asked
from dbrecon.console.parser import Arguments
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.node.assignment import Assignment
from dbrecon.place import EVERYWHERE
from dbrecon.settings import Config
from dbrecon.spark.engine import Engine, Spark
from dbrecon.spark.plan import People, make_plan, need_mib
from dbrecon.spark.setup import portable
from dbrecon.spark.task_pool import SparkPool
from dbrecon.steps.prepare import check_writable, open_experiment, put_back

if TYPE_CHECKING:
    from dbrecon.console.scan import Task

log = logging.getLogger(__name__)

TRACTS, STATES = "dbrecon.node.worker:serve", "dbrecon.node.state_tasks:serve_whole"
"""What does the work on executors, by name: this process needs none of what it imports."""

STATE_MIB = COUNTY_MIB = 280.0  # with a JVM and a Python worker just below the 1 GiB of an ordinary standalone worker
PATIENCE_SECONDS = 600.0
COUNTIES_PER_SLOT = 8
"""How many counties a slot of Spark gets at once to check."""


def run(args: Arguments, config: Config) -> int:
    """Do the steps asked for, in one Spark application."""
    if args.rescan:
        return rescan_there(args, config)
    from dbrecon.node.daemon import check_ready, exit_code, steps_of, summary
    from dbrecon.spark.driver import Driver

    steps, reident = asked_steps(args), asked_reident(args)
    of_tracts = steps_of(args.step3, args.step4) | set(steps) & {6} if args.run else frozenset(step for step in steps if step > 2)
    place = asked_place(args) if of_tracts else None
    check_writable(config)
    ledger = open_ledger(config, PATIENCE_SECONDS)
    experiment = open_experiment(ledger, config, reident, to_solve=bool(of_tracts))
    of_states = [step for step in steps if step < 3]
    if place and not of_states:
        ledger.check_place(reident, place)
    if 6 in of_tracts:
        reopen_stale(experiment, ledger, place or EVERYWHERE)
    people = People(*args.pop100) if args.pop100 else People()
    assignment = Assignment(of_tracts, place or EVERYWHERE, args.limit)
    work = make_plan(ledger, experiment, assignment, people, args.force)
    if args.pop100 and not work and not of_states:
        print("nothing is to be done: no tract that is left for these steps has so many people")
        return 0
    need = max(STATE_MIB if of_states else 0.0, need_mib(work))
    name = f"dbrecon {reident}: steps {', '.join(map(str, [*of_states, *sorted(of_tracts)]))}"
    with Spark(config, name, need, experiment.release.folder) as spark:
        shipped = portable(experiment, config.spark.master)
        if of_states:
            do_states(spark, ledger, experiment, shipped, of_states, states_asked(args), args.force)
        if not place:
            return 0
        not_ready = check_ready(experiment, ledger, place, of_tracts, args.force)
        if args.force:
            put_back(ledger, reident, min(of_tracts), place)
        outcome = Driver(ledger, spark, experiment, shipped, TRACTS, assignment, people).run()
    print(summary(outcome, not_ready))
    return exit_code(outcome, who="", not_ready=not_ready)


def rescan_there(args: Arguments, config: Config) -> int:
    """Check all files by a task a county; what is found is put right by this process, as without Spark."""
    reident, master = asked_reident(args), config.spark.master
    with Spark(config, f"dbrecon {reident}: rescan", COUNTY_MIB, find_experiment(config, reident).release.folder) as spark:

        def ship(task: "Task") -> "Task":
            return replace(task, experiment=portable(task.experiment, master))

        pool = SparkPool(spark, lambda tasks: rescan_name(reident, tasks), rescan.WORK, ship, lambda _: 1.0, COUNTIES_PER_SLOT)
        return rescan.rescan(args, config, pool)


def rescan_name(reident: str, tasks: Sequence[object]) -> str:
    """Return what Spark's pages call a job of these counties."""
    return f"{reident}: rescan: {len(tasks):,} tasks"


def do_states(
    engine: Engine,
    ledger: Ledger,
    experiment: Experiment,
    shipped: Experiment,
    steps: Sequence[int],
    words: list[str],
    force: bool,
) -> None:
    """Do steps 1 and 2 (those in ``steps``) of the states asked for, each a task. A state whose data are bad does not stop the
    others: InputError names those at the end."""
    from dbrecon.console.state_steps import StateSteps
    from dbrecon.steps.download import asked_states

    def name(tasks: Sequence[Any]) -> str:
        return f"{experiment.reident}: {', '.join(f'step {task.step} of {task.stusab}' for task in tasks)}"

    course = StateSteps(ledger, experiment, shipped, steps, asked_states(experiment, words), force)
    course.run(SparkPool(engine, name, STATES, lambda task: task, lambda _: 0.0, 1.0))
