"""Steps 1 and 2 of several states at once, by worker processes of this machine or by Spark; this process tells the ledger."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Collection, Sequence

from dbrecon.ctools import staging, storage
from dbrecon.ctools.proc import memory
from dbrecon.ctools.progress import counted, say
from dbrecon.errors import DBReconError, InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import HeldState, LostLease, StateClaim
from dbrecon.node.processes import WorkerPool
from dbrecon.node.state_tasks import Answer, CountyMade, StateDone, StatePool, StateTask, run_states
from dbrecon.node.tasks import Failure
from dbrecon.remedies import explain, sentence
from dbrecon.steps import county_files, geography_files
from dbrecon.steps.download import OF_A_ZIP
from dbrecon.steps.holding import LOOK_AGAIN_SECONDS, StateClaimer
from dbrecon.steps.provenance import zip_of

log = logging.getLogger(__name__)

WORK = "dbrecon.node.state_tasks:serve"
STATE_MIB = 280.0
"""What a process of steps 1 and 2 may take."""


def workers_for(states: int) -> int:
    """How many states to do at once here: as cores and free memory allow."""
    return max(1, min(states, len(os.sched_getaffinity(0)), int(memory().free_mib // STATE_MIB)))


def do_states_here(experiment: Experiment, ledger: Ledger, steps: Collection[int], stusabs: Sequence[str], force: bool) -> None:
    """Do steps 1 and 2 (those in ``steps``) of states in worker processes, those that no other node is at.

    A state whose data are bad does not stop the others; InputError names those at the end. Other errors end it.
    """
    course = StateSteps(ledger, experiment, experiment, steps, stusabs, force)
    course.run(WorkerPool(WORK, workers_for(len(stusabs))))


class StateSteps:
    """The course of steps 1 and 2 (those in ``steps``) of some states, the biggest zip first: each is claimed and taken through
    all steps. Where other nodes are at the same, each does other states. ``shipped`` is the experiment as workers get it."""

    def __init__(
        self,
        ledger: Ledger,
        experiment: Experiment,
        shipped: Experiment,
        steps: Collection[int],
        stusabs: Sequence[str],
        force: bool,
    ) -> None:
        self._ledger, self._experiment, self._shipped, self._force = ledger, experiment, shipped, force
        self._steps, self._stusabs = sorted(steps), stusabs
        self._claimer = StateClaimer(experiment, ledger)
        self._waiting: list[str] = []
        self._held: dict[str, StateClaim] = {}
        self._due: deque[tuple[StateClaim, int]] = deque()
        self._zips: dict[str, str | None] = {}
        self._entered: dict[str, list[str]] = {}
        self._failed: list[str] = []
        self._look_again = float("-inf")
        self._beaten = time.monotonic()

    def run(self, pool: StatePool) -> None:
        """Do them in a pool, which is closed. InputError at the end if the data of one are bad."""
        sizes = {stusab: _size(self._experiment.dist_zip(stusab)) for stusab in self._stusabs}
        self._waiting = sorted(sizes, key=lambda stusab: -sizes[stusab])
        steps = f"{'step' if len(self._steps) == 1 else 'steps'} {' and '.join(map(str, self._steps))}"
        try:
            run_states(pool, f"{self._experiment.reident}: {steps}", self)
        finally:
            self._ledger.release(self._held.values())
        if self._failed:
            number = f"{len(self._failed)} of {counted(len(self._stusabs), 'state')}"
            raise InputError(f"{number} failed, for the reasons given above: {', '.join(sorted(self._failed))}")

    @property
    def left(self) -> int:
        """How many states are not done."""
        return len(self._waiting) + len(self._held)

    def next(self) -> StateTask | None:
        """Return the next task: the next step of a state that is held, else one of a state that is free."""
        while self._due:
            if (task := self._task_from(*self._due.popleft())) is not None:
                return task
        if time.monotonic() < self._look_again:
            return None
        elsewhere: dict[str, HeldState] = {}
        for stusab in list(self._waiting):
            found = self._claimer.claim(stusab)
            if isinstance(found, HeldState):
                elsewhere[stusab] = found
                continue
            self._waiting.remove(stusab)
            self._held[stusab] = found
            if (task := self._task_from(found, self._steps[0])) is not None:
                return task
        self._look_again = time.monotonic() + LOOK_AGAIN_SECONDS
        if elsewhere and not self._held:
            self._claimer.tell(elsewhere)
        return None

    def ended(self, task: StateTask) -> None:
        """Note that the task's state is due for its next step, unless it is another's by now."""
        if self._holds(task):
            self._due.append((task.claim, task.step + 1))

    def beat(self) -> None:
        """Extend the leases. One that is lost shows when something is entered."""
        run = self._experiment.config.run
        if time.monotonic() - self._beaten >= run.heartbeat_seconds:
            self._beaten = time.monotonic()
            self._ledger.heartbeat(self._held.values(), run.lease_seconds)

    def hear(self, task: StateTask, said: Answer) -> None:
        """Tell the ledger. A state that was lost to another is waited for, like those that others had before."""
        if task.stusab in self._failed or not self._holds(task):
            _discard(said)
            return
        try:
            if isinstance(said, Failure):
                self._refused(task, said)
            elif isinstance(said, CountyMade):
                self._enter(task, said, self._zips[task.stusab])
            else:
                self._done(task, said)
        except LostLease as error:
            log.warning("%s", sentence(error))
            del self._held[task.stusab]
            self._entered.pop(task.stusab, None)
            self._waiting.append(task.stusab)
        except InputError as error:
            self._fail(task.stusab, explain(error))

    def _holds(self, task: StateTask) -> bool:
        return self._held.get(task.stusab) == task.claim

    def _task_from(self, claim: StateClaim, first: int) -> StateTask | None:
        """Return the next task of a held state, from a step on; where there is none it is let go."""
        try:
            for step in self._steps if claim.stusab not in self._failed else []:
                if step >= first and (task := self._task(step, claim)) is not None:
                    return task
        except OF_A_ZIP as error:
            self._fail(claim.stusab, explain(error))
        self._ledger.release([self._held.pop(claim.stusab)])
        return None

    def _task(self, step: int, claim: StateClaim) -> StateTask | None:
        stusab = claim.stusab
        if step == 1:
            anew = geography_files.needs_geofile(self._experiment, self._ledger, stusab, self._force)
            if anew is not None:
                return StateTask(self._shipped, claim, step, force=anew)
            say(f"{stusab}: step 1 is done already")
            return None
        counties, todo = county_files.files_to_make(self._experiment, self._ledger, stusab, self._force)
        if todo:
            self._zips[stusab] = zip_of(self._experiment, self._ledger, stusab).digest
            return StateTask(self._shipped, claim, step, tuple(counties), tuple(todo), self._force)
        say(county_files.what_was_made(stusab, 0, len(counties)))
        return None

    def _refused(self, task: StateTask, failure: Failure) -> None:
        """Take back what was made of a state whose data are bad. DBReconError where it failed of something else."""
        if failure.exit_code != InputError.exit_code:
            error = DBReconError(f"{task.stusab}: {failure.message}")
            error.exit_code = failure.exit_code
            raise error
        county_files.take_back(self._experiment, self._ledger, task.claim, self._entered.pop(task.stusab, []))
        self._fail(task.stusab, failure.message)

    def _enter(self, task: StateTask, made: CountyMade, zip_digest: str | None) -> None:
        county_files.enter_files(self._ledger, task.claim, made.county, zip_digest, made.block, made.tract)
        self._entered.setdefault(task.stusab, []).append(made.county)

    def _done(self, task: StateTask, done: StateDone) -> None:
        """Tell the ledger, and the operator, that a state's files are in place."""
        if done.geofile is not None:
            geography_files.enter_geofile(self._experiment, self._ledger, task.claim, done.geofile, task.force)
            say(geography_files.what_was_made(self._experiment, self._ledger, task.stusab))
            return
        for county in done.counties:
            self._enter(task, county, done.zip_digest)
        say(county_files.what_was_made(task.stusab, len(task.todo), len(task.counties)))

    def _fail(self, stusab: str, reason: str) -> None:
        log.error("%s: %s", stusab, reason)
        self._failed.append(stusab)


def _discard(said: Answer) -> None:
    """Remove the files that nobody is to accept."""
    made = [said] if isinstance(said, CountyMade) else said.counties if isinstance(said, StateDone) else ()
    files = [file for county in made for file in (county.block, county.tract)]
    if isinstance(said, StateDone) and said.geofile is not None:
        files.append(said.geofile.staged)
    for file in files:
        staging.discard(file)


def _size(path: str) -> int:
    """Return a zip's bytes; 0 where there is none, which its task will say."""
    return storage.size(path) if storage.exists(path) else 0
