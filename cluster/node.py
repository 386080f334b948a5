"""The scheduler of one node: keeps its worker processes busy with claimed work until nothing is left.

This process alone talks to the database (one connection); workers get claims by a pipe, make the artifacts, and report. Only then
the ledger is told.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from cluster.ledger import Ledger
from cluster.pool import Died, Event, Finished, Message, WorkerPool
from cluster.records import Claim, CountyClaim, LostLease, LpStats, Quarantine, Worker
from cluster.tasks import Begun, CountyTask, CountyWritten, Failed, Failure, LpMade, Solved, TractTask
from ctools.progress import Progress
from dbrecon import Config, Experiment

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
RECOUNT_SECONDS = 5.0
LP_TOLD_AFTER_SECONDS = 2.0
NODE_FAULTS = 3
"""Failures of the node itself (disk, network, licence) in a row after which it gives up."""


@dataclass(frozen=True)
class Assignment:
    """What a scheduler is to do: ``steps`` of 3, 4, 5, where, and how much."""

    steps: frozenset[int]
    stusab: str | None = None
    county: str | None = None
    tracts: tuple[str, ...] | None = None
    limit: int | None = None
    ascending: bool = False

    @property
    def place(self) -> dict[str, Any]:
        """As the ledger's methods take it."""
        return {"stusab": self.stusab, "county": self.county, "tracts": self.tracts}


@dataclass
class Outcome:
    """What a scheduler did. ``seconds`` is wall time; ``lps`` counts LP files made by step 3 alone."""

    lps: int = 0
    solved: int = 0
    people: int = 0
    counties: int = 0
    put_back: int = 0
    quarantined: list[tuple[str, Quarantine]] = field(default_factory=list)
    seconds: float = 0.0
    node_failure: Failure | None = None
    halted: bool = False


@dataclass
class _Held:
    """The claims a worker has, by index in its task; the one it is at; and an LP that is made but not yet told to the ledger."""

    claims: dict[int, Claim | CountyClaim]
    current: int = 0
    lp: tuple[int, LpStats, float] | None = None


class Node:
    """See the module. ``experiments`` gives those to work on, with the settings as they are now; ``work`` names what workers run,
    as in :class:`WorkerPool`."""

    def __init__(
        self,
        ledger: Ledger,
        config: Callable[[], Config],
        experiments: Callable[[], list[Experiment]],
        work: str,
        assignment: Assignment,
    ) -> None:
        self._ledger, self._config, self._experiments = ledger, config, experiments
        self._assignment = assignment
        self._worker = Worker.here()
        self._pool = WorkerPool(work, self._size())
        self._held: dict[int, _Held] = {}
        self._returned: set[tuple[str, str]] = set()
        self._outcome = Outcome()
        self._stopping = False
        self._claimed = 0
        self._faults = 0
        self._pause_until = 0.0
        self._claimable = 0
        self._counted = self._beaten = float("-inf")
        self._counties_due = True

    def run(self) -> Outcome:
        """Work until nothing is left, or a signal says stop. Claims that are held at the end are put back."""
        begin = time.monotonic()
        self._free_the_dead()
        with self._signals(), Progress("tracts", "tract", None) as progress:
            try:
                while not self._over():
                    self._fill()
                    for event in self._pool.wait(POLL_SECONDS):
                        self._take(event)
                    self._tell_lps()
                    self._beat()
                    done = self._outcome.solved + self._outcome.lps
                    progress.at(done, done + self._claimable + sum(len(held.claims) for held in self._held.values()))
            finally:
                self._pool.close()
                self._put_back([claim for held in self._held.values() for claim in held.claims.values()])
        if self._outcome.halted or self._outcome.node_failure:
            self._outcome.put_back = len(self._returned)
        self._outcome.quarantined = self._quarantined()
        self._outcome.seconds = time.monotonic() - begin
        return self._outcome

    # -- what there is to do ----------------------------------------------------------------------------------------

    def _size(self) -> int:
        config = self._config()
        name = "max_lp" if 3 in self._assignment.steps else "max_sol"
        return int(config.get("run", name)) or len(os.sched_getaffinity(0))

    def _over(self) -> bool:
        """Whether to leave: told to, out of patience with this node, or nothing left for anybody."""
        if self._outcome.halted or self._outcome.node_failure:
            return True
        if self._held:
            return False
        if self._stopping or self._limit_reached():
            return True
        return self._pause_until <= time.monotonic() and not self._work_is_left()

    def _limit_reached(self) -> bool:
        limit = self._assignment.limit
        return limit is not None and self._claimed >= limit

    def _work_is_left(self) -> bool:
        return any(
            not self._ledger.work_left(experiment.reident, self._assignment.steps, **self._assignment.place).nothing_left
            for experiment in self._experiments()
        )

    def _fill(self) -> None:
        """Give every free worker a task, if there is one."""
        self._pool.size = self._size()
        while self._pool.free and not self._stopping and self._pause_until <= time.monotonic():
            task = self._next_task()
            if task is None:
                return
            claims: tuple[Claim | CountyClaim, ...] = task.claims if isinstance(task, TractTask) else (task.claim,)
            self._held[self._pool.submit(task)] = _Held(dict(enumerate(claims)))

    def _next_task(self) -> TractTask | CountyTask | None:
        for experiment in self._experiments():
            task = self._county_task(experiment) or self._tract_task(experiment)
            if task is not None:
                return task
        self._counties_due = False
        return None

    def _county_task(self, experiment: Experiment) -> CountyTask | None:
        if 5 not in self._assignment.steps or not self._counties_due:
            return None
        claim = self._ledger.claim_county(
            experiment.reident,
            self._worker,
            lease_seconds=self._config().get("run", "lease_seconds"),
            stusab=self._assignment.stusab,
            county=self._assignment.county,
        )
        if claim is None:
            return None
        states = self._ledger.tract_states(experiment.reident, claim.stusab, claim.county)
        return CountyTask(experiment, claim, tuple((state.tract, state.pop) for state in states if state.pop))

    def _tract_task(self, experiment: Experiment) -> TractTask | None:
        steps = self._assignment.steps & {3, 4}
        limit = self._how_many(experiment)
        if not steps or limit < 1:
            return None
        claims = self._ledger.claim(
            experiment.reident,
            self._worker,
            steps=steps,
            limit=limit,
            lease_seconds=self._config().get("run", "lease_seconds"),
            ascending=self._assignment.ascending,
            **self._assignment.place,
        )
        if not claims:
            return None
        self._claimed += len(claims)
        self._claimable = max(0, self._claimable - len(claims))
        return TractTask(experiment, steps, tuple(claims))

    def _how_many(self, experiment: Experiment) -> int:
        """How many tracts to claim at once: several, so that a county's files are read once, but fewer towards the end, so that
        no worker is left with many while others have none."""
        now = time.monotonic()
        if now - self._counted > RECOUNT_SECONDS or not self._claimable:
            left = self._ledger.work_left(experiment.reident, self._assignment.steps & {3, 4}, **self._assignment.place)
            self._claimable, self._counted = left.claimable, now
        fair = max(1, self._claimable // (2 * self._pool.size))
        most = min(int(self._config().get("run", "claim_tracts")), fair)
        limit = self._assignment.limit
        return most if limit is None else min(most, limit - self._claimed)

    # -- what workers say -------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if isinstance(event, Message):
            self._hear(event)
        elif isinstance(event, Finished):
            self._held.pop(event.worker, None)
        else:
            self._mourn(event)

    def _hear(self, message: Message) -> None:
        held, body = self._held[message.worker], message.body
        if isinstance(body, Begun):
            held.current = body.index
        elif isinstance(body, LpMade):
            held.lp = (body.index, body.stats, time.monotonic())
            if 4 not in message.task.steps:
                self._finish_lp(held, body)
        elif isinstance(body, Solved):
            self._finish_tract(held, body)
        elif isinstance(body, CountyWritten):
            self._finish_county(held, body)
        elif isinstance(body, Failed):
            self._fail(held.claims.pop(body.index, None), body.failure, self._pool.pid(message.worker) or 0)
            held.lp = None

    def _finish_lp(self, held: _Held, made: LpMade) -> None:
        claim, held.lp = held.claims.pop(made.index, None), None
        if isinstance(claim, Claim) and self._told(lambda: self._ledger.lp_written(claim, made.stats)):
            self._outcome.lps += 1

    def _finish_tract(self, held: _Held, solved: Solved) -> None:
        claim, lp = held.claims.pop(solved.index, None), held.lp
        held.lp = None
        stats = lp[1] if lp is not None and lp[0] == solved.index else None
        if isinstance(claim, Claim) and self._told(lambda: self._ledger.solved(claim, solved.stats, stats)):
            self._outcome.solved += 1
            self._outcome.people += claim.pop
            self._counties_due = True

    def _finish_county(self, held: _Held, written: CountyWritten) -> None:
        claim = held.claims.pop(0, None)
        if isinstance(claim, CountyClaim) and self._told(lambda: self._ledger.csv_written(claim, written.seconds)):
            self._outcome.counties += 1

    def _told(self, tell: Callable[[], Any]) -> bool:
        """Tell the ledger of something finished. False if the claim was no longer ours: another has it, and its word counts."""
        self._faults = 0
        try:
            tell()
        except LostLease as error:
            log.warning("%s", error)
            return False
        return True

    def _fail(self, claim: Claim | CountyClaim | None, failure: Failure, pid: int) -> None:
        """A claim failed: put it back, or count the failure against it, and say so."""
        if claim is None:
            return
        self._ledger.record_error(failure.report(claim, pid))
        if failure.blame != "tract":
            self._blame_node(claim, failure)
            return
        settings = self._config()
        try:
            attempts = settings.get("run", "max_attempts")
            last = self._ledger.failed(claim, failure.message, attempts, settings.get("run", "retry_seconds"))
        except LostLease as error:
            log.warning("%s", error)
            return
        if last:
            log.error("%s: quarantined after %d attempts: %s", claim, claim.attempts + 1, failure.message)
        else:
            log.warning("%s: attempt %d failed: %s", claim, claim.attempts + 1, failure.message)

    def _blame_node(self, claim: Claim | CountyClaim, failure: Failure) -> None:
        """Not the tract's fault: it goes back uncounted, and this node waits, or gives up when that happens again and again."""
        self._put_back([claim])
        self._faults += 1
        log.warning("%s: put back: %s", claim, failure.message)
        if self._faults >= NODE_FAULTS or failure.blame == "setup":
            self._outcome.node_failure = failure
        self._pause_until = time.monotonic() + 2.0**self._faults

    def _mourn(self, died: Died) -> None:
        """A worker died: that counts against the tract it was at; its other tracts go back."""
        held = self._held.pop(died.worker)
        claim = held.claims.pop(held.current, None)
        self._put_back(list(held.claims.values()))
        self._fail(claim, Failure(died.reason, "", 0, died.stack, 1, "tract"), 0)

    def _put_back(self, claims: list[Claim | CountyClaim]) -> None:
        self._returned |= {(claim.reident, str(claim)) for claim in claims}
        self._ledger.release(claims)

    # -- the clock --------------------------------------------------------------------------------------------------

    def _tell_lps(self) -> None:
        """An LP whose solve takes long is told to the ledger meanwhile; mostly both steps are told at once."""
        now = time.monotonic()
        for held in self._held.values():
            if held.lp is None or now - held.lp[2] < LP_TOLD_AFTER_SECONDS:
                continue
            index, stats, _ = held.lp
            held.lp = None
            claim = held.claims.get(index)
            if isinstance(claim, Claim) and claim.needs_lp:
                try:
                    held.claims[index] = self._ledger.lp_written(claim, stats, keep_claim=True)
                except LostLease as error:
                    log.warning("%s", error)

    def _beat(self) -> None:
        """Extend the leases; a worker that lost one is stopped, and what else it has goes back."""
        settings = self._config()
        if time.monotonic() - self._beaten < settings.get("run", "heartbeat_seconds"):
            return
        self._beaten = time.monotonic()
        self._counties_due = True
        claims = [claim for held in self._held.values() for claim in held.claims.values()]
        lost = {claim.token + str(claim) for claim in self._ledger.heartbeat(claims, settings.get("run", "lease_seconds"))}
        for worker, held in list(self._held.items()):
            if any(claim.token + str(claim) in lost for claim in held.claims.values()):
                log.warning("worker %s is stopped: its lease is lost", self._pool.pid(worker))
                self._pool.kill(worker)
                self._put_back(list(held.claims.values()))
                del self._held[worker]

    # -- beginning and end ------------------------------------------------------------------------------------------

    def _free_the_dead(self) -> None:
        """What schedulers of this host hold that are no more is free at once."""
        for experiment in self._experiments():
            for claimant in self._ledger.claimants(experiment.reident):
                if claimant.worker.host == self._worker.host and not _lives(claimant.worker):
                    freed = self._ledger.release_worker(experiment.reident, claimant.worker, died=False)
                    log.info("%d tracts or counties of a scheduler that died here are free again", freed)

    def _quarantined(self) -> list[tuple[str, Quarantine]]:
        place = self._assignment
        return [
            (experiment.reident, one)
            for experiment in self._experiments()
            for one in self._ledger.status(experiment.reident).quarantined
            if place.stusab in (None, one.stusab) and place.county in (None, one.county)
        ]

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM: finish the tracts in work and leave. SIGINT: put them back and leave."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopping = True
            log.info("told to stop: %d tracts in work are finished first", sum(len(held.claims) for held in self._held.values()))

        def halt(_number: int, _frame: FrameType | None) -> None:
            self._outcome.halted = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, action) for number, action in ((signal.SIGTERM, stop), (signal.SIGINT, halt))}
        try:
            yield
        finally:
            for number, action in before.items():
                signal.signal(number, action)


def _lives(worker: Worker) -> bool:
    """Whether the process of a worker of this host is there. Its name begins with its pid."""
    pid = worker.name.partition("-")[0]
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
