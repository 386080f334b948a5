"""The driver of a reconstruction on Spark: claims tracts in bulk, gives them out as Spark jobs, tells the ledger what came of them.

The driver alone talks to the database. Spark may run a task twice (retries, speculation): artifacts are published whole and are
identical, and an answer that was heard before changes nothing. A Spark job that fails says which task was at fault, not which
tract; that task's tracts are then run one by one, with nothing else at work.
"""

import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from dbrecon.ctools.progress import Progress, counted
from dbrecon.ctools.signals import handled
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Claim, CountyClaim, LostLease, LpStats, Worker
from dbrecon.node.bookkeeping import count_failure, free_the_dead
from dbrecon.node.loop import Assignment, Outcome, note_end
from dbrecon.node.tasks import CountyTask, CountyWritten, Failed, Failure, LpMade, Solved, TractTask
from dbrecon.node.waiting import Waiting, in_work
from dbrecon.place import Place
from dbrecon.spark.accounts import cause, executors_trouble, failed_task, never_tried
from dbrecon.spark.engine import Answered, Ended, Engine
from dbrecon.spark.executor import Answer
from dbrecon.spark.plan import CountyWork, People, county_cost, group_seconds, grouped, make_plan, tract_cost
from dbrecon.spark.setup import SparkError

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
WAVE_SECONDS = 60.0
"""How much work a slot gets at once; the next wave is claimed when half of it is done."""
MOST_CLAIMS = 20_000
LOOK_AGAIN_SECONDS = 2.0
COUNTIES_AT_LEAST_EVERY = 5.0


@dataclass
class _Group:
    """A task and what it holds; ``claims`` by their index in the task."""

    task: TractTask | CountyTask
    claims: dict[int, Claim | CountyClaim]

    @property
    def cost(self) -> float:
        return sum(tract_cost(one.pop) if isinstance(one, Claim) else county_cost(one.pop) for one in self.claims.values())


@dataclass
class _Job:
    """The groups of a job that are not answered, by their index; ``alone``: whether nothing else was at work beside it."""

    groups: dict[int, _Group]
    alone: bool = False


@dataclass
class _Clocks:
    """When things were done last (monotonic clock)."""

    planned: float = float("-inf")
    beaten: float = field(default_factory=time.monotonic)
    counties: float = float("-inf")


class Driver:
    """See the module. ``plan`` is what :func:`make_plan` found; ``shipped`` the experiment as executors get it; ``work`` names
    what does tracts and counties there."""

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
        self._ledger, self._engine, self._experiment, self._shipped = ledger, engine, experiment, shipped
        self._work, self._assignment, self._people = work, assignment, people or People()
        self._worker = Worker.here()
        self._plan: deque[CountyWork] = deque()
        self._jobs: dict[int, _Job] = {}
        self._again: list[_Group] = []
        self._suspects: deque[_Group] = deque()
        self._alone: set[str] = set()
        self._outcome = Outcome()
        self._clocks = _Clocks()
        self._waiting = Waiting(ledger, self._worker.host, assignment.steps, assignment.place)
        self._stopping = False
        self._last: set[tuple[int, int]] | None = None
        self._claimed = 0
        self._counties_due = True

    def run(self) -> Outcome:
        """Work until nothing is left, or a signal says stop. Claims that are held at the end are put back."""
        begin = time.monotonic()
        free_the_dead(self._ledger, [self._experiment.reident], self._worker.host)
        self._plan = self._make_plan()
        with self._signals(), Progress("tracts", "tract", sum(len(one.tracts) for one in self._plan)) as progress:
            try:
                while not self._over():
                    self._submit()
                    idle = not self._jobs
                    if idle:
                        self._waiting.say([self._experiment.reident])
                    else:
                        self._waiting.over()
                    for event in self._engine.wait(WAIT_SECONDS):
                        self._take(event)
                    self._beat()
                    if not idle:
                        done, planned = self._outcome.solved + self._outcome.lps, sum(len(one.tracts) for one in self._plan)
                        progress.at(done, done + planned + sum(isinstance(claim, Claim) for claim in self._held()))
            finally:
                self._engine.cancel()
                left = self._held()
                self._ledger.release(left)
        if self._outcome.halted or self._outcome.node_failure:
            self._outcome.put_back = sum(isinstance(claim, Claim) for claim in left)
        reident = self._experiment.reident
        self._outcome.quarantined = [(reident, one) for one in self._quarantined()]
        note_end(self._outcome, self._stopping, self._limit_reached, self._left)
        self._outcome.seconds = time.monotonic() - begin
        return self._outcome

    # -- what there is to do ----------------------------------------------------------------------------------------

    def _over(self) -> bool:
        if self._outcome.halted or self._outcome.node_failure:
            return True
        if self._stopping:
            return not self._finishing()
        if self._jobs or self._again or self._suspects:
            return False
        if self._limit_reached:
            return 5 not in self._assignment.steps or not self._counties_due
        return not self._plan and not self._anything_left()

    def _finishing(self) -> bool:
        """Whether tasks are at work that executors had begun when we were told to stop. They begin a job's tasks in their order."""
        begun = self._engine.at_work()
        given = {number: sorted(job.groups) for number, job in sorted(self._jobs.items())}
        if self._last is None:
            self._last = {(number, index) for number, left in given.items() for index in left[: begun.get(number, 0)]}
            claims = [claim for number, index in self._last for claim in self._jobs[number].groups[index].claims.values()]
            log.info("stopping: %s, what else was given to Spark is put back", in_work(claims, "finished first"))
        if not begun:  # what has ended meanwhile is heard first
            for event in self._engine.wait(0):
                self._take(event)
            return False
        return any((number, index) in self._last for number, left in given.items() for index in left)

    def _anything_left(self) -> bool:
        """Whether there is work, now or later, of this or another's hands. Looks into the ledger anew, now and then."""
        wait = self._clocks.planned + LOOK_AGAIN_SECONDS - time.monotonic()
        if wait > 0:
            return True  # looked just now: what was there may rest after a failure, or be another's
        self._look()
        if self._plan:
            return True
        return 5 in self._assignment.steps and self._counties_left()

    def _look(self) -> None:
        """Plan anew."""
        self._plan = self._make_plan()
        self._clocks.planned = time.monotonic()

    def _make_plan(self) -> deque[CountyWork]:
        return deque(make_plan(self._ledger, self._experiment, self._assignment, self._people))

    def _left(self) -> tuple[int, int]:
        """How many tracts (of the range of people) and counties are not done, those that are quarantined aside."""
        _, counties = self._assignment.left(self._ledger, [self._experiment.reident])
        return sum(len(work.tracts) for work in self._make_plan()), counties

    def _counties_left(self) -> bool:
        return not self._ledger.work_left(self._experiment.reident, {5}, self._assignment.place).nothing_left

    @property
    def _limit_reached(self) -> bool:
        return self._assignment.limit is not None and self._claimed >= self._assignment.limit

    def _held(self) -> list[Claim | CountyClaim]:
        groups = [group for job in self._jobs.values() for group in job.groups.values()]
        return [claim for group in [*groups, *self._again, *self._suspects] for claim in group.claims.values()]

    def _submit(self) -> None:
        """Start the next jobs: counties that are complete, more tracts, or, when nothing else is at work, one suspect."""
        if self._stopping or self._outcome.halted:
            return
        groups, self._again = self._again, []
        groups += self._county_groups()
        at_work = sum(group.cost for job in self._jobs.values() for group in job.groups.values())
        wave = WAVE_SECONDS * self._engine.slots
        if at_work < wave / 2:
            groups += self._tract_groups(wave - at_work)
        if groups:
            self._start(sorted(groups, key=lambda group: -group.cost))
        elif not self._jobs and self._suspects:
            self._start([self._suspects.popleft()], alone=True)

    def _start(self, groups: list[_Group], alone: bool = False) -> None:
        number = self._engine.submit(self._name(groups), self._work, [group.task for group in groups])
        self._jobs[number] = _Job(dict(enumerate(groups)), alone)

    def _name(self, groups: list[_Group]) -> str:
        """What Spark's pages call the job and its stage."""
        steps = " and ".join(str(step) for step in sorted(self._assignment.steps & {3, 4}))
        tracts = [claim for group in groups for claim in group.claims.values() if isinstance(claim, Claim)]
        counties = [claim for group in groups for claim in group.claims.values() if isinstance(claim, CountyClaim)]
        parts = [f"{'steps' if len(steps) > 1 else 'step'} {steps} of {counted(len(tracts), 'tract')}"] if tracts else []
        parts += [f"step 5 of {counted(len(counties), 'county')}"] if counties else []
        states = sorted({claim.stusab for claim in tracts} | {claim.stusab for claim in counties})
        return f"{self._experiment.reident}: {', '.join(parts)} in {', '.join(states)}"

    def _tract_groups(self, cost: float) -> list[_Group]:
        """Claim tracts that are predicted to take so many seconds, and group them."""
        if not self._plan and time.monotonic() - self._clocks.planned > LOOK_AGAIN_SECONDS:
            self._look()
        left = sum(work.cost for work in self._plan)
        seconds = group_seconds(min(cost, left), self._engine.slots)
        groups: list[_Group] = []
        while self._plan and cost > 0 and not self._limit_reached and len(self._held()) < MOST_CLAIMS:
            work = self._plan.popleft()
            claims = self._claim(work)
            self._claimed += len(claims)
            cost -= sum(tract_cost(claim.pop) for claim in claims)
            for claim in claims:
                if str(claim) in self._alone:
                    self._suspects.append(self._group([claim]))
            good = [claim for claim in claims if str(claim) not in self._alone]
            groups += [self._group(some) for some in grouped(good, seconds, work.pop) if some]
        return groups

    def _claim(self, work: CountyWork) -> list[Claim]:
        most = len(work.tracts)
        if self._assignment.limit is not None:
            most = min(most, self._assignment.limit - self._claimed)
        return self._ledger.claim(
            self._experiment.reident,
            self._worker,
            steps=self._assignment.steps & {3, 4},
            limit=most,
            lease_seconds=self._experiment.config.run.lease_seconds,
            place=Place(work.stusab, work.county, tuple(tract for tract, _ in work.tracts)),
            ascending=self._assignment.ascending,
        )

    def _group(self, claims: list[Claim]) -> _Group:
        task = TractTask(self._shipped, self._assignment.steps & {3, 4}, tuple(claims))
        return _Group(task, dict(enumerate(claims)))

    def _county_groups(self) -> list[_Group]:
        """Claim the counties that are complete; not for each one at once, so that jobs stay few."""
        idle = not self._jobs
        due = self._counties_due and (idle or time.monotonic() - self._clocks.counties > COUNTIES_AT_LEAST_EVERY)
        if 5 not in self._assignment.steps or not due:
            return []
        self._clocks.counties, self._counties_due = time.monotonic(), False
        groups = []
        place, reident = self._assignment.place, self._experiment.reident
        lease = self._experiment.config.run.lease_seconds
        while claim := self._ledger.claim_county(reident, self._worker, lease_seconds=lease, place=place):
            states = self._ledger.tract_states(reident, claim.stusab, claim.county)
            task = CountyTask(self._shipped, claim, tuple((one.tract, one.pop) for one in states if one.pop))
            groups.append(_Group(task, {0: claim}))
        return groups

    # -- what Spark says --------------------------------------------------------------------------------------------

    def _take(self, event: Answered | Ended) -> None:
        job = self._jobs.get(event.job)
        if job is None:
            return
        if isinstance(event, Answered):
            group = job.groups.pop(event.index, None)
            if group is not None:  # else Spark has run it twice
                self._hear(group, event.answer)
            return
        del self._jobs[event.job]
        self._clocks.planned = float("-inf")  # what is left may be seen at once
        if event.failure is not None:
            self._job_failed(job, event.failure)
        elif job.groups:
            self._again += job.groups.values()

    def _hear(self, group: _Group, answer: Answer) -> None:
        lps: dict[int, LpStats] = {}
        for said in answer.said:
            if isinstance(said, LpMade):
                lps[said.index] = said.stats
                if 4 not in self._assignment.steps:
                    self._lp_made(self._there(group, said.index, answer), said.stats)
            elif isinstance(said, Solved):
                self._solved(self._there(group, said.index, answer), said, lps.get(said.index))
            elif isinstance(said, CountyWritten):
                self._county_written(self._there(group, 0, answer), said)
            elif isinstance(said, Failed):
                self._fail(self._there(group, said.index, answer), said.failure, answer.pid)
        self._ledger.release(group.claims.values())

    def _there(self, group: _Group, index: int, answer: Answer) -> Claim | CountyClaim | None:
        """A group's claim, with the executor as the host that the ledger writes down. Its token stays."""
        claim = group.claims.pop(index, None)
        return None if claim is None else replace(claim, worker=Worker(answer.host, claim.worker.name))

    def _lp_made(self, claim: Claim | CountyClaim | None, stats: LpStats) -> None:
        if isinstance(claim, Claim) and _told(lambda: self._ledger.lp_written(claim, stats)):
            self._outcome.lps += 1

    def _solved(self, claim: Claim | CountyClaim | None, solved: Solved, lp: LpStats | None) -> None:
        if isinstance(claim, Claim) and _told(lambda: self._ledger.solved(claim, solved.stats, lp)):
            self._outcome.solved += 1
            self._outcome.people += claim.pop
            self._counties_due = True

    def _county_written(self, claim: Claim | CountyClaim | None, written: CountyWritten) -> None:
        if isinstance(claim, CountyClaim) and _told(lambda: self._ledger.csv_written(claim, written.seconds)):
            self._outcome.counties += 1

    def _fail(self, claim: Claim | CountyClaim | None, failure: Failure, pid: int, most: int | None = None) -> None:
        """A claim failed: count it, and say so. ``most`` failures are the last (default: as the settings say)."""
        if claim is None:
            return
        self._ledger.record_error(failure.report(claim, pid))
        count_failure(self._ledger, claim, failure, self._experiment.config, most)

    # -- jobs that fail ---------------------------------------------------------------------------------------------

    def _job_failed(self, job: _Job, account: str) -> None:
        """Find out what is to blame: the set-up, a task, or Spark itself. What the job had not done is done again."""
        groups = job.groups
        if self._outcome.halted or self._outcome.node_failure:  # it was cancelled
            self._again += groups.values()
            return
        reason = cause(account)
        trouble = executors_trouble(account)
        index = failed_task(account)
        if trouble is not None or index is None or index not in groups or (job.alone and never_tried(account)):
            gave_up = Failure(f"Spark gave up: {reason}", "", 0, account, SparkError.exit_code, "node")
            self._outcome.node_failure = trouble or gave_up
            self._again += groups.values()
            return
        culprit = groups.pop(index)
        self._again += groups.values()
        claims = list(culprit.claims.values())
        if job.alone:
            log.warning("Spark gave up a task of %s: %s", claims[0], reason)
            self._fail(claims[0], Failure(f"Spark gave up its task: {reason}", "", 0, account, 1, "tract"), 0, most=1)
            return
        number = counted(len(claims), "tract")
        log.warning("Spark gave up a task of %s (%s, ...), which is run tract by tract: %s", number, claims[0], reason)
        self._alone |= {str(claim) for claim in claims}
        tracts = [claim for claim in claims if isinstance(claim, Claim)]
        self._suspects += [self._group([claim]) for claim in tracts] or [culprit]

    # -- the clock, beginning and end -------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Extend the leases. What is lost is another's: its answer will find no claim."""
        config = self._experiment.config
        if time.monotonic() - self._clocks.beaten < config.run.heartbeat_seconds:
            return
        self._clocks.beaten = time.monotonic()
        self._counties_due = True
        lost = self._ledger.heartbeat(self._held(), config.run.lease_seconds)
        for claim in lost:
            log.warning("%s: its lease is lost; whoever has it now does it", claim)
        gone = {(claim.token, str(claim)) for claim in lost}
        for group in [*(group for job in self._jobs.values() for group in job.groups.values()), *self._again, *self._suspects]:
            for index in [index for index, claim in group.claims.items() if (claim.token, str(claim)) in gone]:
                del group.claims[index]

    def _quarantined(self) -> Iterator[Any]:
        for one in self._ledger.status(self._experiment.reident).quarantined:
            if self._assignment.place.covers(one.stusab, one.county):
                yield one

    def _signals(self) -> AbstractContextManager[None]:
        """SIGTERM: finish what executors are doing, and leave. SIGINT: put all back, and leave."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopping = True

        def halt(_number: int, _frame: FrameType | None) -> None:
            if self._outcome.halted:
                raise KeyboardInterrupt  # whoever asks twice waits for nothing more
            self._outcome.halted = True
            log.info("halting: %s", in_work(self._held(), "put back"))

        return handled({signal.SIGTERM: stop, signal.SIGINT: halt})


def _told(tell: Callable[[], Any]) -> bool:
    """Tell the ledger of something finished. False if the claim was no longer ours: another has it, and its word counts."""
    try:
        tell()
    except LostLease as error:
        log.warning("%s", error)
        return False
    return True
