"""Where the scheduling loop gets its tasks: claims a few tracts of a county at a time, and counties that are complete."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import UnknownExperiment, Work, Worker
from dbrecon.node.assignment import Assignment
from dbrecon.node.pool import Pool
from dbrecon.node.stages import CERTAINTY, COUNTIES, TRACTS, Stage, Wanted
from dbrecon.node.tasks import ClaimedTask
from dbrecon.settings import Config

T = TypeVar("T")
log = logging.getLogger(__name__)

RECOUNT_SECONDS = 5.0
CERTAIN_AT_ONCE = 4


class Experiments:
    """The experiments to work on, with the settings as they are now: those that ``find`` gives, which may be other ones later.

    ``alone``: there is one, which is named, so that nothing can be done without it.
    """

    def __init__(self, find: Callable[[], list[Experiment]], *, alone: bool) -> None:
        self._find, self._alone = find, alone
        self._found: list[Experiment] = []
        self._dropped: set[str] = set()

    def __call__(self) -> list[Experiment]:
        """Return those that are there, as far as is known."""
        found = self._find()
        if found is not self._found:
            self._found, self._dropped = found, set()
        return [experiment for experiment in found if experiment.reident not in self._dropped]

    def those_left(self, work: Callable[[], T]) -> T:
        """Return what ``work`` does with the experiments; one that was dropped meanwhile is left out from then on, with a word."""
        while True:
            try:
                return work()
            except UnknownExperiment as error:
                if self._alone or error.reident in self._dropped:
                    raise
                log.warning("%s was dropped: what was at work there is lost, the other experiments go on", error.reident)
                self._dropped.add(error.reident)


class Claimer:
    """Claims tasks of ``assignment`` for ``pool``. ``experiments`` gives those to work on, with the settings as they are now."""

    def __init__(
        self,
        ledger: Ledger,
        config: Callable[[], Config],
        experiments: Experiments,
        assignment: Assignment,
        worker: Worker,
        pool: Pool,
    ) -> None:
        self._ledger, self._config, self._experiments = ledger, config, experiments
        self._assignment, self._worker, self._pool = assignment, worker, pool
        self._claimable = 0
        self._counted = self._counties_looked = float("-inf")
        self._entered = True

    @property
    def claimable(self) -> int:
        """How many tracts are left to claim, as far as is known now."""
        return self._claimable

    def next(self, most: int | None) -> Sequence[ClaimedTask]:
        """Return the next tasks, of ``most`` tracts in all (None: any number); none if there is nothing to claim now.

        Counties are looked at when one may be complete, and now and then: one that failed rests for a while.
        """
        return self._experiments.those_left(lambda: self._next(most))

    def _next(self, most: int | None) -> Sequence[ClaimedTask]:
        counties_due = self.counties_due()
        for experiment in self._experiments():
            if counties_due and (county := self._claim(COUNTIES, self._wanted(experiment))):
                return county
            if tracts := self._next_tracts(experiment, most):
                return tracts
        for experiment in self._experiments() if 6 in self._assignment.steps else []:  # never before people
            if certain := self._claim(CERTAINTY, self._wanted(experiment, self._certain_at_once(most), self._pool.room())):
                return certain
        if counties_due:
            self._counties_looked, self._entered = time.monotonic(), False
        return []

    def entered(self) -> None:
        """Something is done: a county may be complete."""
        self._entered = True

    def counties_due(self) -> bool:
        """Return whether to look for counties that are complete."""
        return 5 in self._assignment.steps and (self._entered or time.monotonic() - self._counties_looked > RECOUNT_SECONDS)

    def work_left(self) -> bool:
        """Return whether there is work, now or later, in these or in others' hands."""
        return any(not work.nothing_left for work in self._experiments.those_left(self._works))

    def left(self) -> tuple[int, int]:
        """Return how many tracts and counties are not done, those that are quarantined aside."""
        works = self._experiments.those_left(self._works)
        tracts = sum(work.claimable + work.running + work.waiting for work in works)
        tracts += sum(work.certainty_claimable + work.certainty_running + work.certainty_waiting for work in works)
        return tracts, sum(work.counties_claimable + work.counties_running + work.counties_waiting for work in works)

    def _works(self) -> list[Work]:
        steps, place = self._assignment.steps, self._assignment.place
        return [self._ledger.work_left(experiment.reident, steps, place) for experiment in self._experiments()]

    def _wanted(self, experiment: Experiment, limit: int = 1, max_pop: int | None = None) -> Wanted:
        wanted = self._assignment
        lease = self._config().run.lease_seconds
        steps = wanted.steps & TRACTS.steps
        return Wanted(experiment, self._worker, steps, wanted.place, lease, limit, max_pop, wanted.ascending)

    def _claim(self, stage: Stage, wanted: Wanted) -> Sequence[ClaimedTask]:
        """Return one task of a stage, if there is one."""
        claims = stage.claim(self._ledger, wanted)
        return [stage.task(self._ledger, wanted, claims)] if claims else []

    def _next_tracts(self, experiment: Experiment, most: int | None) -> Sequence[ClaimedTask]:
        if not self._assignment.steps & TRACTS.steps or most == 0:
            return []
        limits = [self._how_many(experiment), 1 if self._pool.one_at_a_time else sys.maxsize, sys.maxsize if most is None else most]
        wanted = self._wanted(experiment, min(limits), self._pool.room())
        tasks = self._claim(TRACTS, wanted)
        self._claimable = max(0, self._claimable - sum(len(task.claims) for task in tasks))
        return tasks

    def _certain_at_once(self, most: int | None) -> int:
        """Return how many tracts' certainty to claim at once: few, since one may take long."""
        few = 1 if self._pool.one_at_a_time else CERTAIN_AT_ONCE
        return few if most is None else min(few, most)

    def _how_many(self, experiment: Experiment) -> int:
        """How many tracts to claim at once: several, so that a county's files are read once, but fewer towards the end, so that
        no worker is left with many while others have none."""
        now = time.monotonic()
        if now - self._counted > RECOUNT_SECONDS or not self._claimable:
            left = self._ledger.work_left(experiment.reident, self._assignment.steps & TRACTS.steps, self._assignment.place)
            self._claimable, self._counted = left.claimable, now
        fair = max(1, self._claimable // (2 * self._pool.size))
        return min(int(self._config().run.claim_tracts), fair)
