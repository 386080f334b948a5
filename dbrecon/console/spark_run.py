"""Workflow 2: steps 1 to 5, and --rescan, as a Spark job."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dbrecon.console import rescan
from dbrecon.console.certainty_commands import reopen_stale
from dbrecon.console.commands import asked_place, asked_reident, asked_steps, find_experiment, open_ledger, states_asked
from dbrecon.console.parser import Arguments
from dbrecon.ctools import storage
from dbrecon.ctools.progress import counted, say
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.node.assignment import Assignment
from dbrecon.node.tasks import Failure
from dbrecon.place import EVERYWHERE
from dbrecon.remedies import sentence
from dbrecon.settings import Config
from dbrecon.spark.engine import Engine, Spark
from dbrecon.spark.plan import People, make_plan, need_mib
from dbrecon.spark.setup import portable
from dbrecon.spark.state_tasks import StateDone, StateTask, run_states
from dbrecon.spark.task_pool import SparkPool
from dbrecon.steps.prepare import check_writable, open_experiment, put_back

if TYPE_CHECKING:
    from dbrecon.console.scan import Task

log = logging.getLogger(__name__)

TRACTS, STATES = "dbrecon.node.worker:serve", "dbrecon.spark.job:serve_states"
"""What does the work on executors, by name: this process needs none of what it imports."""

EXECUTORS_EXTRAS = ("aws", "gurobi")
"""The driver alone opens the database, and reaches other machines."""

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
        for step in of_states:
            do_states(spark, ledger, experiment, shipped, step, states_asked(args), args.force)
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
    engine: Engine, ledger: Ledger, experiment: Experiment, shipped: Experiment, step: int, words: list[str], force: bool
) -> None:
    """Step 1 or 2 of the states asked for, a task a state. A state whose data are bad does not stop the others: InputError names
    those at the end."""
    from dbrecon.steps.county_files import files_to_make, what_was_made
    from dbrecon.steps.download import asked_states
    from dbrecon.steps.geography_files import needs_geofile

    reident, stusabs = experiment.reident, asked_states(experiment, words)
    tasks = []
    for stusab in sorted(stusabs, key=lambda name: -_size(experiment.dist_zip(name))):
        if step == 1:
            anew = needs_geofile(experiment, ledger, stusab, force)
            if anew is None:
                say(f"{stusab}: step 1 is done already")
            else:
                tasks.append(StateTask(shipped, stusab, step, force=anew))
            continue
        counties, todo = files_to_make(experiment, ledger, stusab, force)
        if todo:
            tasks.append(StateTask(shipped, stusab, step, tuple(counties), tuple(todo), force))
        else:
            say(what_was_made(stusab, 0, len(counties)))
    failed: list[str] = []

    def hear(task: StateTask, said: StateDone | Failure) -> None:
        try:
            if isinstance(said, Failure):
                raise InputError(said.message)
            _enter(ledger, experiment, task, said)
        except InputError as error:
            log.error("%s: %s", task.stusab, sentence(error))
            failed.append(task.stusab)

    if tasks:
        run_states(engine, f"{reident}: step {step} of {counted(len(tasks), 'state')}", STATES, tasks, hear)
    if failed:
        failures = f"{len(failed)} of {counted(len(tasks), 'state')} failed"
        raise InputError(f"{failures}, for the reasons given above: {', '.join(sorted(failed))}")


def _size(path: str) -> int:
    """Return a zip's bytes; 0 where there is none, which its task will say."""
    return storage.size(path) if storage.exists(path) else 0


def _enter(ledger: Ledger, experiment: Experiment, task: StateTask, done: StateDone) -> None:
    """Tell the ledger, and the operator, that a state's files are in place."""
    from dbrecon.steps import county_files, geography_files

    if done.geofile is not None:
        geography_files.enter_geofile(experiment, ledger, task.stusab, done.geofile, task.force)
        say(geography_files.what_was_made(experiment, ledger, task.stusab))
    else:
        for county, block, tract in done.counties:
            county_files.enter_files(ledger, experiment.reident, task.stusab, county, done.zip_digest, block, tract)
        say(county_files.what_was_made(task.stusab, len(done.counties), len(task.counties)))
