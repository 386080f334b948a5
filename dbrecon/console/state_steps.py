"""Steps 1 and 2 of several states at once, by worker processes of this machine or by Spark; this process tells the ledger."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence

from dbrecon.ctools import storage
from dbrecon.ctools.proc import memory
from dbrecon.ctools.progress import counted, say
from dbrecon.errors import DBReconError, InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.node.processes import WorkerPool
from dbrecon.node.state_tasks import Answer, CountyMade, StateDone, StatePool, StateTask, run_states
from dbrecon.node.tasks import Failure
from dbrecon.remedies import explain
from dbrecon.steps import county_files, geography_files
from dbrecon.steps.download import OF_A_ZIP
from dbrecon.steps.provenance import zip_of

log = logging.getLogger(__name__)

WORK = "dbrecon.node.state_tasks:serve"
STATE_MIB = 280.0
"""What a process of steps 1 and 2 may take."""


def workers_for(states: int) -> int:
    """How many states to do at once here: as cores and free memory allow."""
    return max(1, min(states, len(os.sched_getaffinity(0)), int(memory().free_mib // STATE_MIB)))


def do_states_here(experiment: Experiment, ledger: Ledger, steps: Collection[int], stusabs: Sequence[str], force: bool) -> None:
    """Do steps 1 and 2 (those in ``steps``) of states in worker processes, each step for all states before the next.

    A state whose data are bad does not stop the others; InputError names those at the end. Other errors end it.
    """
    course = StateSteps(ledger, experiment, experiment, force)
    for step in sorted(steps):
        tasks = course.tasks(step, stusabs)
        course.run(lambda tasks=tasks: WorkerPool(WORK, workers_for(len(tasks))), step, tasks)  # type: ignore[misc]
    course.end(len(stusabs))


class StateSteps:
    """The course of steps 1 and 2 of some states. ``shipped`` is the experiment as workers get it."""

    def __init__(self, ledger: Ledger, experiment: Experiment, shipped: Experiment, force: bool) -> None:
        self._ledger, self._experiment, self._shipped, self._force = ledger, experiment, shipped, force
        self._zips: dict[str, str | None] = {}
        self._entered: dict[str, list[str]] = {}
        self._failed: list[str] = []

    def tasks(self, step: int, stusabs: Sequence[str]) -> list[StateTask]:
        """Return what is to be done of a step, the biggest zip first. A state that is done already is said to be; one that failed
        is left out."""
        sizes = {stusab: _size(self._experiment.dist_zip(stusab)) for stusab in stusabs if stusab not in self._failed}
        found = []
        for stusab in sorted(sizes, key=lambda name: -sizes[name]):
            try:
                found += self._task(step, stusab)
            except OF_A_ZIP as error:
                self._fail(stusab, explain(error))
        return found

    def run(self, pool: Callable[[], StatePool], step: int, tasks: Sequence[StateTask]) -> None:
        """Run the tasks of a step in a pool, which is made if there are any."""
        if tasks:
            name = f"{self._experiment.reident}: step {step} of {counted(len(tasks), 'state')}"
            run_states(pool(), name, tasks, self._hear)

    def end(self, states: int) -> None:
        """InputError if one of so many states failed."""
        if self._failed:
            number = f"{len(self._failed)} of {counted(states, 'state')}"
            raise InputError(f"{number} failed, for the reasons given above: {', '.join(sorted(self._failed))}")

    def _task(self, step: int, stusab: str) -> list[StateTask]:
        if step == 1:
            anew = geography_files.needs_geofile(self._experiment, self._ledger, stusab, self._force)
            if anew is not None:
                return [StateTask(self._shipped, stusab, step, force=anew, fence=self._ledger.now())]
            say(f"{stusab}: step 1 is done already")
            return []
        counties, todo = county_files.files_to_make(self._experiment, self._ledger, stusab, self._force)
        if todo:
            self._zips[stusab] = zip_of(self._experiment, self._ledger, stusab).digest
            fence = self._ledger.now()
            return [StateTask(self._shipped, stusab, step, tuple(counties), tuple(todo), self._force, fence)]
        say(county_files.what_was_made(stusab, 0, len(counties)))
        return []

    def _hear(self, task: StateTask, said: Answer) -> None:
        if task.stusab in self._failed:
            return
        try:
            if isinstance(said, Failure):
                self._refused(task, said)
            elif isinstance(said, CountyMade):
                self._enter(task, said, self._zips[task.stusab])
            else:
                self._done(task, said)
        except InputError as error:
            self._fail(task.stusab, explain(error))

    def _refused(self, task: StateTask, failure: Failure) -> None:
        """Take back what was made of a state whose data are bad. DBReconError where it failed of something else."""
        if failure.exit_code != InputError.exit_code:
            error = DBReconError(f"{task.stusab}: {failure.message}")
            error.exit_code = failure.exit_code
            raise error
        county_files.take_back(self._experiment, self._ledger, task.stusab, self._entered.pop(task.stusab, []))
        self._fail(task.stusab, failure.message)

    def _enter(self, task: StateTask, made: CountyMade, zip_digest: str | None) -> None:
        reident = self._experiment.reident
        county_files.enter_files(self._ledger, reident, task.stusab, made.county, zip_digest, made.block, made.tract)
        self._entered.setdefault(task.stusab, []).append(made.county)

    def _done(self, task: StateTask, done: StateDone) -> None:
        """Tell the ledger, and the operator, that a state's files are in place."""
        if done.geofile is not None:
            geography_files.enter_geofile(self._experiment, self._ledger, task.stusab, done.geofile, task.force)
            say(geography_files.what_was_made(self._experiment, self._ledger, task.stusab))
            return
        for county in done.counties:
            self._enter(task, county, done.zip_digest)
        say(county_files.what_was_made(task.stusab, len(task.todo), len(task.counties)))

    def _fail(self, stusab: str, reason: str) -> None:
        log.error("%s: %s", stusab, reason)
        self._failed.append(stusab)


def _size(path: str) -> int:
    """Return a zip's bytes; 0 where there is none, which its task will say."""
    return storage.size(path) if storage.exists(path) else 0
