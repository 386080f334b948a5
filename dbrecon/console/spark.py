"""Workflow 2: steps 1 to 5 as a Spark job, and the packing of what its executors need."""

import argparse
import logging
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from dbrecon.console import rescan
from dbrecon.console.commands import asked_place, asked_reident, check_writable, open_experiment, open_ledger, reset
from dbrecon.console.options import Action, Actions, positive, states_asked
from dbrecon.console.steps import asked_steps
from dbrecon.ctools import storage
from dbrecon.ctools.progress import counted, say
from dbrecon.ctools.storage_errors import explain
from dbrecon.errors import InputError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.node.assignment import Assignment
from dbrecon.node.tasks import Failure
from dbrecon.paths import HOME, INSTALLED
from dbrecon.place import EVERYWHERE
from dbrecon.settings import Config
from dbrecon.spark.engine import Engine, Spark
from dbrecon.spark.plan import People, make_plan, need_mib
from dbrecon.spark.setup import portable
from dbrecon.spark.states import StateDone, StateTask, run_states
from dbrecon.spark.task_pool import SparkPool

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


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this module's actions."""
    group = parser.add_argument_group("Spark ([spark] settings)")
    group.add_argument("--spark", action="store_true", help="with --run, steps 1 to 5 or --rescan: do it as a Spark job")
    group.add_argument("--pop100", type=_people, metavar="MIN:MAX", help="with --spark: tracts of so many people (or MIN:, :MAX)")
    group.add_argument("--limit", type=positive, metavar="N", help="with --spark or --launch: stop after N tracts")
    group.add_argument("--spark_pack", metavar="FILE.tar.gz", help="pack the packages that executors need ([spark] environment)")


def _people(text: str) -> People:
    """MIN:MAX, either of which may be left out."""
    least, colon, most = text.partition(":")
    if colon and all(part.isdecimal() or not part for part in (least, most)) and (least or most):
        people = People(int(least) if least else None, int(most) if most else None)
        if people.least is None or people.most is None or people.least <= people.most:
            return people
    raise argparse.ArgumentTypeError(f"{text!r} is not MIN:MAX, as in 1000:5000, 1000: or :5000")


def check_options(args: argparse.Namespace, action: str) -> None:
    """UsageError for options that do not go with this action."""
    if action != "spark":
        if args.pop100 is not None:
            raise UsageError("--pop100 goes with --spark")
        if args.limit is not None and action not in ("launch", "launch_all"):
            raise UsageError("--limit goes with --spark, --launch or --launch_all")
        return
    steps = asked_steps(args)
    if 0 in steps:
        raise UsageError("--step0 downloads to where it is run: do it without --spark, then the other steps with it")
    if args.rescan and (steps or args.pop100 or args.limit or args.force):
        raise UsageError("--spark --rescan checks files: give steps, --force, --pop100 and --limit in a command of their own")
    if (args.pop100 or args.limit) and not args.run and not any(step > 2 for step in steps):
        raise UsageError("--pop100 and --limit choose tracts: they go with --run and steps 3 to 5")
    if not steps and not args.run and not args.rescan:
        raise UsageError("--spark does what? Give --step1 to --step5, --run for all of steps 3 to 5, or --rescan")


def run(args: argparse.Namespace, config: Config) -> int:
    """The steps asked for, in one Spark application."""
    if args.rescan:
        return rescan_there(args, config)
    from dbrecon.node.daemon import check_ready, exit_code, steps_of, summary
    from dbrecon.spark.driver import Driver

    steps, reident = asked_steps(args), asked_reident(args)
    of_tracts = steps_of(args.step3, args.step4) if args.run else frozenset(step for step in steps if step > 2)
    place = asked_place(args) if of_tracts else None
    check_writable(config)
    ledger = open_ledger(config, PATIENCE_SECONDS)
    experiment = open_experiment(ledger, config, reident)
    of_states = [step for step in steps if step < 3]
    if place and not of_states:
        ledger.check_place(reident, place)
    assignment = Assignment(of_tracts, place or EVERYWHERE, args.limit)
    work = make_plan(ledger, experiment, assignment, args.pop100 or People(), args.force)
    if args.pop100 and not work and not of_states:
        print("nothing is to be done: no tract that is left for these steps has so many people")
        return 0
    need = max(STATE_MIB if of_states else 0.0, need_mib(work))
    name = f"dbrecon {reident}: steps {', '.join(map(str, [*of_states, *sorted(of_tracts)]))}"
    with Spark(config, name, need, config.sf1.tables) as spark:
        shipped = portable(experiment, config.spark.master)
        for step in of_states:
            do_states(spark, ledger, experiment, shipped, step, states_asked(args), args.force)
        if not place:
            return 0
        not_ready = check_ready(experiment, ledger, place, of_tracts, args.force)
        if args.force:
            reset(ledger, reident, min(of_tracts), place)
        outcome = Driver(ledger, spark, experiment, shipped, TRACTS, assignment, args.pop100).run()
    print(summary(outcome, not_ready))
    return exit_code(outcome, who="")


def rescan_there(args: argparse.Namespace, config: Config) -> int:
    """Check all files by a task a county; what is found is put right by this process, as without Spark."""
    reident, master = asked_reident(args), config.spark.master
    with Spark(config, f"dbrecon {reident}: rescan", COUNTY_MIB, config.sf1.tables) as spark:

        def ship(task: "Task") -> "Task":
            return replace(task, experiment=portable(task.experiment, master))

        pool = SparkPool(spark, lambda tasks: rescan_name(reident, tasks), rescan.WORK, ship, lambda _: 1.0, COUNTIES_PER_SLOT)
        return rescan.rescan(args, config, pool)


def rescan_name(reident: str, tasks: Sequence[object]) -> str:
    """What Spark's pages call a job of these counties."""
    return f"{reident}: rescan: {len(tasks):,} tasks"


def do_states(
    engine: Engine, ledger: Ledger, experiment: Experiment, shipped: Experiment, step: int, words: list[str], force: bool
) -> None:
    """Step 1 or 2 of the states asked for, a task a state. A state whose data are bad does not stop the others: InputError names
    those at the end."""
    from dbrecon.steps.download import asked_states

    reident, stusabs = experiment.reident, asked_states(experiment, words)
    tasks = []
    for stusab in sorted(stusabs, key=lambda one: -_size(experiment.dist_zip(one))):
        if step == 1 and not force and ledger.has_geography(reident, stusab) and storage.exists(experiment.geofile(stusab)):
            say(f"{stusab}: step 1 is done already")
        elif step == 2 and not ledger.has_geography(reident, stusab):
            raise InputError(f"{stusab}: step 1 has not been done; do it first (--step1 --stusab {stusab})")
        else:
            counties = tuple(ledger.counties(reident, stusab)) if step == 2 else ()
            tasks.append(StateTask(shipped, stusab, step, counties, force))
    failed: list[str] = []

    def hear(task: StateTask, said: StateDone | Failure) -> None:
        try:
            if isinstance(said, Failure):
                raise InputError(said.message)
            _enter(ledger, experiment, task, said)
        except InputError as error:
            log.error("%s: %s", task.stusab, error)
            failed.append(task.stusab)

    if tasks:
        run_states(engine, f"{reident}: step {step} of {counted(len(tasks), 'state')}", STATES, tasks, hear)
    if failed:
        failures = f"{len(failed)} of {counted(len(tasks), 'state')} failed"
        raise InputError(f"{failures}, for the reasons given above: {', '.join(sorted(failed))}")


def _size(path: str) -> int:
    """A zip's bytes; 0 where there is none, which its task will say."""
    return storage.size(path) if storage.exists(path) else 0


def _enter(ledger: Ledger, experiment: Experiment, task: StateTask, done: StateDone) -> None:
    """A state's files are in place: tell the ledger, and the operator."""
    import dbrecon.steps.county_files as s2_pandas_build_csv
    import dbrecon.steps.geography_files as s1_make_geo_files

    if task.step == 1:
        if task.force or not ledger.has_geography(experiment.reident, task.stusab):
            s1_make_geo_files.enter_geofile(experiment, ledger, task.stusab, task.force)
        say(s1_make_geo_files.what_was_made(experiment, ledger, task.stusab))
    else:
        say(s2_pandas_build_csv.what_was_made(task.stusab, done.made, len(task.counties)))


def pack(args: argparse.Namespace, _config: Config) -> int:
    """Pack this Python's packages that executors need, with all that they need, into a .tar.gz."""
    path = args.spark_pack
    if not path.endswith((".tar.gz", ".tgz")):
        raise UsageError(f"--spark_pack {path}: name a .tar.gz, which Spark unpacks on the executors")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"--spark_pack {path}: there is no folder {folder}; make it, or name another place")
    names = sorted(_needed_packages())
    try:
        with tarfile.open(f"{path}.part", "w:gz", compresslevel=3) as archive:
            for name in names:
                for file, inside in _files(name):
                    archive.add(file, inside, recursive=False)
        os.replace(f"{path}.part", path)
    except OSError as error:
        raise explain(error, path, "write") from error
    finally:
        Path(f"{path}.part").unlink(missing_ok=True)
    holds = f"{counted(len(names), 'package')}, {os.path.getsize(path) / 1e6:,.0f} MB"
    print(f"{path}: {holds}; [spark] environment takes its path or URI")
    return 0


def _needed_packages() -> set[str]:
    """What executors use, and all that it needs, by name."""
    todo, found = _declared(), set[str]()
    while todo:
        name = _name(todo.pop())
        if name not in found and (distribution := _installed(name)) is not None:
            found.add(name)
            todo += [one for one in distribution.requires or [] if "extra ==" not in one]
    return found


def _declared() -> list[str]:
    """The requirements of the product, and of the extras that executors use."""
    if INSTALLED:
        marked = [line.partition("; extra == ") for line in metadata.requires("dbrecon") or []]
        return [line for line, _, extra in marked if not extra or extra.strip("'\"") in EXECUTORS_EXTRAS]
    import tomllib

    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in EXECUTORS_EXTRAS for line in extras[extra])]


def _name(requirement: str) -> str:
    end = next((i for i, sign in enumerate(requirement) if not (sign.isalnum() or sign in "-_.")), len(requirement))
    return requirement[:end].lower().replace("_", "-")


def _installed(name: str) -> metadata.Distribution | None:
    """A distribution; None for one of another system or Python, which is not installed here."""
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _files(name: str) -> Iterator[tuple[str, str]]:
    """A distribution's files: where they are, and their names in a folder of packages. Not its commands, nor compiled Python."""
    for file in metadata.files(name) or []:
        inside = file.as_posix()
        if not inside.startswith("..") and not inside.endswith(".pyc") and os.path.isfile(str(file.locate())):
            yield str(file.locate()), inside


ACTIONS: Actions = {
    "spark": Action(run),
    "spark_pack": Action(pack, takes_place=False),
}
