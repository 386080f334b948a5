"""The driver of a reconstruction on Spark: the scheduling loop, whose pool is Spark.

The driver alone talks to the database. Spark may run a task twice (retries, speculation): artifacts are published whole and are
identical, and an answer that was heard before changes nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dbrecon.ctools.progress import counted
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Claim, CountyClaim, Worker
from dbrecon.node.assignment import Assignment
from dbrecon.node.loop import Scheduler
from dbrecon.node.source import RECOUNT_SECONDS, Claimer, Experiments
from dbrecon.node.stages import CERTAINTY, COUNTIES, TRACTS, Stage
from dbrecon.node.tasks import ClaimedTask
from dbrecon.place import Place
from dbrecon.settings import Config
from dbrecon.spark.engine import Engine
from dbrecon.spark.plan import CountyWork, People, county_cost, group_seconds, grouped, make_plan, tract_cost
from dbrecon.spark.task_pool import SparkPool, claims_of

WAVE_SECONDS = 60.0
"""How much work a slot gets at once; the next wave is claimed when half of it is done."""


LOOK_AGAIN_SECONDS = 2.0


class Waves(Claimer):
    """Claims what a plan of ``experiment`` has, whole counties at a time, of tracts with ``people``."""

    def __init__(
        self,
        ledger: Ledger,
        config: Callable[[], Config],
        experiment: Experiment,
        assignment: Assignment,
        worker: Worker,
        pool: SparkPool,
        people: People,
    ) -> None:
        super().__init__(ledger, config, Experiments(lambda: [experiment], alone=True), assignment, worker, pool)
        self._experiment, self._people, self._spark = experiment, people, pool
        self._plan: deque[CountyWork] = deque()
        self._planned = float("-inf")
        self._jobs_seen = 0

    @property
    def claimable(self) -> int:
        """How many tracts are left in the plan."""
        return sum(len(work.tracts) for work in self._plan)

    def counties_due(self) -> bool:
        """Not for each one at once while others are at work, so that jobs stay few."""
        return super().counties_due() and (self._spark.idle or time.monotonic() - self._counties_looked > RECOUNT_SECONDS)

    def work_left(self) -> bool:
        """Return whether there is work, now or later, in these or in others' hands. Looks into the ledger anew, now and then."""
        if not self._plan and not self._look():
            return True  # looked just now: what was there may rest after a failure, or be another's
        return bool(self._plan) or any(self._is_left(stage) for stage in (COUNTIES, CERTAINTY))

    def left(self) -> tuple[int, int]:
        """Return how many tracts (of the range of people) and counties are not done, those that are quarantined aside."""
        return sum(len(work.tracts) for work in self._make_plan()), super().left()[1]

    def _is_left(self, stage: Stage) -> bool:
        steps = stage.steps & self._assignment.steps
        return bool(steps) and not self._ledger.work_left(self._experiment.reident, steps, self._assignment.place).nothing_left

    def _look(self) -> bool:
        """Plan anew, unless that was done just now and no job has ended since."""
        now, ended = time.monotonic(), self._spark.jobs_ended
        if now - self._planned <= LOOK_AGAIN_SECONDS and ended == self._jobs_seen:
            return False
        self._planned, self._jobs_seen, self._plan = now, ended, self._make_plan()
        return True

    def _make_plan(self) -> deque[CountyWork]:
        return deque(make_plan(self._ledger, self._experiment, self._assignment, self._people))

    def _next_tracts(self, experiment: Experiment, most: int | None) -> Sequence[ClaimedTask]:
        """Return a county's tracts, in groups; the next county's where another has taken all of them meanwhile."""
        if not self._assignment.steps & TRACTS.steps or most == 0:
            return []
        if not self._plan:
            self._look()
        while self._plan:
            left = sum(work.cost for work in self._plan)
            seconds = group_seconds(min(self._spark.wave, left), self._spark.size)
            work = self._plan.popleft()
            number = len(work.tracts) if most is None else min(most, len(work.tracts))
            place = Place(work.stusab, work.county, tuple(tract for tract, _ in work.tracts))
            wanted = replace(self._wanted(experiment, number), place=place)
            claims = [claim for claim in TRACTS.claim(self._ledger, wanted) if isinstance(claim, Claim)]
            if claims:
                groups = grouped(claims, seconds, work.pop)
                return [TRACTS.task(self._ledger, wanted, group) for group in groups if group]
        return []


class Driver(Scheduler):
    """See the module. ``shipped`` is the experiment as executors get it; ``work`` names what does tracts and counties there."""

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        experiment: Experiment,
        shipped: Experiment,
        work: str,
        assignment: Assignment,
        people: People | None = None,
    ) -> None:
        def name(tasks: Sequence[Any]) -> str:
            return job_name(experiment.reident, assignment, tasks)

        def ship(task: Any) -> Any:
            return replace(task, experiment=shipped)

        worker = Worker.here()
        pool = SparkPool(engine, name, work, ship, predicted_seconds, WAVE_SECONDS)
        waves = Waves(ledger, lambda: experiment.config, experiment, assignment, worker, pool, people or People())
        experiments = Experiments(lambda: [experiment], alone=True)
        super().__init__(ledger, lambda: experiment.config, experiments, assignment, worker, pool, waves)


def predicted_seconds(task: Any) -> float:
    """Return how long a task of tracts or of a county takes on one core."""
    return sum(tract_cost(claim.pop) if isinstance(claim, Claim) else county_cost(claim.pop) for claim in claims_of(task))


def job_name(reident: str, assignment: Assignment, tasks: Sequence[Any]) -> str:
    """Return what Spark's pages call a job of these tasks, and its stage."""
    steps = " and ".join(str(step) for step in sorted(assignment.steps & {3, 4}))
    tracts = [claim for task in tasks for claim in claims_of(task) if isinstance(claim, Claim)]
    counties = [claim for task in tasks for claim in claims_of(task) if isinstance(claim, CountyClaim)]
    parts = [f"{'steps' if len(steps) > 1 else 'step'} {steps} of {counted(len(tracts), 'tract')}"] if tracts else []
    parts += [f"step 5 of {counted(len(counties), 'county')}"] if counties else []
    states = sorted({claim.stusab for claim in tracts} | {claim.stusab for claim in counties})
    return f"{reident}: {', '.join(parts)} in {', '.join(states)}"
