"""The scheduling loop: claims work of an experiment, has a pool do it, and tells the ledger what came of it, until nothing is left.

The loop's process alone talks to the database (one connection). The pool's workers, be they processes of this node or Spark's
executors, get claims, make the artifacts, and report; only then the ledger is told.
"""

import logging
import signal
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import FrameType

from dbrecon.ctools.patience import RareWarning
from dbrecon.ctools.progress import Progress, counted, held_units
from dbrecon.ctools.signals import handled
from dbrecon.errors import DatabaseError, DBReconError, StorageError
from dbrecon.ledger.claiming import listed
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Claim, LostLease, LpStats, Quarantine, UnknownExperiment, Worker
from dbrecon.node.assignment import Assignment, Outcome
from dbrecon.node.pool import NO_ROOM, Died, Event, Finished, Message, Pool
from dbrecon.node.source import Claimer, Experiments
from dbrecon.node.stages import ENTRIES, AnyClaim
from dbrecon.node.tasks import Begun, ClaimedTask, Failed, Failure, LpMade, StorageAway
from dbrecon.node.waiting import Waiting, in_work
from dbrecon.remedies import sentence
from dbrecon.settings import Config

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
LP_ENTERED_AFTER_SECONDS = 2.0
NODE_FAULTS = 3
"""Failures of the node itself (disk, network, licence) in a row after which it gives up. All claims that fail of one cause, since
they were begun before the pause that follows it is over, are one."""
FAULT_PAUSE_SECONDS = 2.0
"""How long the first pause is; each further one is twice as long."""


@dataclass
class Held:
    """The claims of a task that are not answered, by index in it; the one it is at; and an LP that is made but not yet entered."""

    task: ClaimedTask
    claims: dict[int, AnyClaim]
    current: int = 0
    begun: float = field(default_factory=time.monotonic)
    lp: tuple[int, LpStats, float] | None = None


class Scheduler:
    """See the module. ``experiments`` gives those to work on, with the settings as they are now; ``pool`` does what ``source``
    has claimed for ``worker``."""

    def __init__(
        self,
        ledger: Ledger,
        config: Callable[[], Config],
        experiments: Experiments,
        assignment: Assignment,
        worker: Worker,
        pool: Pool,
        source: Claimer,
    ) -> None:
        self._ledger, self._config, self._experiments = ledger, config, experiments
        self._assignment, self._worker, self._pool, self._source = assignment, worker, pool, source
        self._held: dict[int, Held] = {}
        self._returned: set[tuple[str, str]] = set()
        self._outcome = Outcome()
        self._started = time.monotonic()
        self._stopping = self._stop_noted = False
        self._faults = 0
        self._pause_until = 0.0
        self._beaten = float("-inf")
        self._storage_away = RareWarning(log)
        self._waiting = Waiting(ledger, self._worker.host, assignment.steps, assignment.place)

    def run(self) -> Outcome:
        """Work until nothing is left, or a signal says stop. Claims that are held at the end are put back."""
        log.info("%s", self._what_it_does())
        self._experiments.those_left(lambda: free_dead_schedulers(self._ledger, self._reidents(), self._worker.host))
        try:
            try:
                with self._signals(), self._pool, Progress("tracts", "tract", None) as progress:
                    self._work(progress)
            finally:
                self._put_back(self._in_work())
            self._outcome.quarantined = self._experiments.those_left(self._quarantined)
            self._note_end()
        except DatabaseError as error:
            if not self._outcome.halted:
                raise
            log.warning("what was in work comes back when its lease ends: %s", sentence(error))
        if self._outcome.halted or self._outcome.node_failure:
            self._outcome.put_back = len(self._returned)
        self._outcome.seconds = time.monotonic() - self._started
        return self._outcome

    def _work(self, progress: Progress) -> None:
        while not self._over():
            idle = not self._fill() and not self._held
            if idle:
                self._experiments.those_left(lambda: self._waiting.say(self._reidents()))
            else:
                self._waiting.over()
            for event in self._pool.wait(POLL_SECONDS):
                self._take(event)
            self._tick()
            if not idle:
                done = self._outcome.solved + self._outcome.lps
                progress.at(done, done + self._source.claimable + len(self._in_work()))

    def _tick(self) -> None:
        """Do what is due by the clock."""
        self._enter_lps()
        self._beat()

    # -- what there is to do ----------------------------------------------------------------------------------------

    def _over(self) -> bool:
        """Return whether to leave: told to, out of patience with this node, or nothing left for anybody."""
        if self._outcome.halted or self._outcome.node_failure:
            return True
        if self._stopping:
            return not self._finishing()
        if self._held:
            return False
        if self._limit_left() == 0:
            return not self._source.counties_due()
        return self._pause_until <= time.monotonic() and not self._source.work_left()

    def _finishing(self) -> bool:
        """Return whether tasks are at work that had begun when it was told to stop."""
        begun = self._pool.begun() & self._held.keys()
        if not self._pool.begins_at_once and not self._stop_noted:
            self._stop_noted = True
            finished = in_work([claim for number in begun for claim in self._held[number].claims.values()], "finished first")
            log.info("stopping: %s, what else was given to Spark is put back", finished)
        if not begun:
            for event in self._pool.wait(0):  # what has ended meanwhile
                self._take(event)
        return bool(begun)

    def _limit_left(self) -> int | None:
        """Return how many tracts more may be claimed; None is no limit."""
        if self._assignment.limit is None:
            return None
        done = self._outcome.solved + self._outcome.lps
        return max(0, self._assignment.limit - done - sum(isinstance(claim, Claim) for claim in self._in_work()))

    def _fill(self) -> bool:
        """Give the pool what it has room for. False if there was nothing to claim."""
        while not self._stopping and self._pause_until <= time.monotonic() and self._pool.room() != NO_ROOM:
            tasks = self._source.next(self._limit_left())
            if not tasks:
                return False
            for number, task in enumerate(tasks):
                try:
                    worker = self._pool.submit(task)
                except DBReconError:
                    self._put_back([claim for unsubmitted in tasks[number:] for claim in unsubmitted.claims])
                    raise
                self._held[worker] = Held(task, dict(enumerate(task.claims)))
        return True

    # -- what the pool says -----------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if isinstance(event, Message):
            self._hear(event)
        elif isinstance(event, Finished):
            held = self._held.pop(event.worker, None)
            if held is not None:
                self._put_back(list(held.claims.values()))
        elif isinstance(event, Died):
            self._worker_died(event)
        elif not self._outcome.halted:
            self._outcome.node_failure = self._outcome.node_failure or event.failure

    def _hear(self, message: Message) -> None:
        held, body = self._held.get(message.worker), message.body
        if held is None:
            return
        if isinstance(body, Begun):
            held.current, held.begun = body.index, time.monotonic()
        elif isinstance(body, StorageAway):
            self._storage_away.say(body.text)
        elif isinstance(body, LpMade) and 4 in message.task.steps:
            held.lp = (body.index, body.stats, time.monotonic())
        elif isinstance(body, Failed):
            self._fail(held.claims.pop(body.index, None), body.failure, held.begun, message.host, message.pid)
            held.lp = None
        else:
            self._enter(held, message)

    def _enter(self, held: Held, message: Message) -> None:
        """Tell the ledger of something finished. A claim that was lost meanwhile is another's, whose word counts.

        Where the storage fails as a file comes into place, the claim goes back like one whose worker could not write.
        """
        body, lp = message.body, held.lp
        claim, held.lp = held.claims.pop(body.index, None), None
        if claim is None:
            return
        stats = lp[1] if lp is not None and lp[0] == body.index else None
        entry = ENTRIES[type(body)]
        try:
            entry.enter(self._ledger, made_at(claim, message.host), body, stats)
        except (LostLease, UnknownExperiment) as error:
            log.warning("%s", sentence(error))
            return
        except StorageError as error:
            self._fail(claim, Failure.of(error, "node"), held.begun, message.host, message.pid)
            return
        self._faults = 0
        entry.count(self._outcome, claim)
        self._returned.discard((claim.reident, str(claim)))
        self._source.entered()

    def _fail(self, claim: AnyClaim | None, failure: Failure, begun: float, host: str = "", pid: int = 0) -> None:
        """Put a claim back that failed, or count the failure against it, and say so; it was begun then (monotonic)."""
        if claim is None:
            return
        claim = made_at(claim, host)
        self._ledger.record_error(failure.report(claim, pid))
        if failure.blame != "tract":
            self._blame_node(claim, failure, begun)
            return
        most = 1 if failure.final else self._config().run.max_attempts
        try:
            last = self._ledger.failed(claim, failure.message, most, self._config().run.retry_seconds)
        except (LostLease, UnknownExperiment) as error:
            log.warning("%s", sentence(error))
            return
        if last:
            log.error("%s: quarantined after %s: %s", claim, counted(claim.attempts + 1, "attempt"), failure.message)
        else:
            log.warning("%s: attempt %d failed: %s", claim, claim.attempts + 1, failure.message)

    def _blame_node(self, claim: AnyClaim, failure: Failure, begun: float) -> None:
        """Not the tract's fault: it goes back uncounted, and this node waits, or gives up when that happens again and again."""
        self._put_back([claim])
        if not self._faults or begun >= self._pause_until:
            self._pause_until = time.monotonic() + FAULT_PAUSE_SECONDS * 2.0**self._faults
            self._faults += 1
        if self._faults >= NODE_FAULTS or failure.blame == "setup":
            self._outcome.node_failure = failure  # told at the end
        else:
            log.warning("%s: put back: %s", claim, failure.message)

    def _worker_died(self, died: Died) -> None:
        """Count a worker's death against the tract it was at, unless nobody is to blame; its other tracts go back."""
        held = self._held.pop(died.worker, None)
        if held is None:
            return
        claim = held.claims.pop(held.current, None) if died.blame else None
        self._put_back(list(held.claims.values()))
        self._fail(claim, Failure(died.reason, "", 0, died.stack, 1, died.blame), held.begun)

    def _in_work(self) -> list[AnyClaim]:
        """Return the claims that are held; from any thread."""
        return [claim for held in list(self._held.values()) for claim in held.claims.copy().values()]

    def _put_back(self, claims: Collection[AnyClaim]) -> None:
        self._returned |= {(claim.reident, str(claim)) for claim in claims if isinstance(claim, Claim)}
        self._ledger.release(claims)

    # -- the clock --------------------------------------------------------------------------------------------------

    def _enter_lps(self) -> None:
        """Enter LP files whose solves take long meanwhile; mostly both steps are entered at once."""
        now = time.monotonic()
        for held in self._held.values():
            if held.lp is None or now - held.lp[2] < LP_ENTERED_AFTER_SECONDS:
                continue
            index, stats, _ = held.lp
            held.lp = None
            claim = held.claims.get(index)
            if isinstance(claim, Claim) and claim.needs_lp:
                try:
                    held.claims[index] = self._ledger.lp_written(claim, stats, keep_claim=True)
                except (LostLease, UnknownExperiment) as error:
                    log.warning("%s", sentence(error))
                except StorageError as error:  # it is tried again, at the latest with the solution
                    held.lp = (index, stats, now)
                    self._storage_away.say(sentence(error))

    def _beat(self) -> None:
        """Extend the leases. Whoever has what is lost does it; a worker that can be stopped is, and what else it has goes back."""
        settings = self._config()
        if time.monotonic() - self._beaten < settings.run.heartbeat_seconds:
            return
        self._beaten = time.monotonic()
        lost = {claim.token + str(claim) for claim in self._ledger.heartbeat(self._in_work(), settings.run.lease_seconds)}
        for worker, held in list(self._held.items()) if lost else []:
            gone = {index: claim for index, claim in held.claims.items() if claim.token + str(claim) in lost}
            if not gone:
                continue
            for index, claim in gone.items():
                log.warning("%s: its lease is lost; whoever has it now does it", claim)
                del held.claims[index]
            if self._pool.abandon(worker):
                self._put_back(list(held.claims.values()))
                del self._held[worker]

    # -- beginning and end ------------------------------------------------------------------------------------------

    def stop(self) -> str:
        """Take nothing new; leave when what is in work is done."""
        self._stopping = True
        return f"stopping: {in_work(self._in_work(), 'finished first')}" if self._pool.begins_at_once else "stopping"

    def halt(self) -> str:
        """Put back what is in work, and leave."""
        self._outcome.halted = True
        self._ledger.lose_patience()
        return f"halting: {in_work(self._in_work(), 'put back')}"

    def _reidents(self) -> list[str]:
        return [experiment.reident for experiment in self._experiments()]

    def _what_it_does(self) -> str:
        """Return what an operator wants to know first of a log."""
        what = f"{listed(self._reidents()) or 'nothing'}: {self._assignment.text()}"
        return f"{self._worker.host} works on {what}; {self._pool.text()}"

    def _quarantined(self) -> list[tuple[str, Quarantine]]:
        return [
            (reident, quarantine)
            for reident in self._reidents()
            for quarantine in self._ledger.status(reident).quarantined
            if self._assignment.place.covers(quarantine.stusab, quarantine.county)
        ]

    def _note_end(self) -> None:
        """Note why it left before all was done, having finished what was in work, and what was left then."""
        outcome, reached = self._outcome, self._limit_left() == 0
        if not outcome.halted and not outcome.node_failure and (self._stopping or reached):
            outcome.ended, outcome.left = "told to stop" if self._stopping else "the limit is reached", self._source.left()

    def _signals(self) -> AbstractContextManager[None]:
        """SIGTERM: finish what is in work and leave. SIGINT, and SIGHUP where it is not ignored (nohup): put it back and leave."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            log.info("%s", self.stop())

        def halt(_number: int, _frame: FrameType | None) -> None:
            if self._outcome.halted:
                raise KeyboardInterrupt  # whoever asks twice waits for nothing more
            log.info("%s", self.halt())

        hung_up = {} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else {signal.SIGHUP: halt}
        return handled({signal.SIGTERM: stop, signal.SIGINT: halt} | hung_up)


def made_at(claim: AnyClaim, host: str) -> AnyClaim:
    """Return the claim with the host that the ledger shall write down, if it is another than the claimant's. Its token stays."""
    return replace(claim, worker=Worker(host, claim.worker.name)) if host else claim


def free_dead_schedulers(ledger: Ledger, reidents: Iterable[str], host: str) -> None:
    """Free at once what schedulers of this host hold that are no more."""
    for reident in reidents:
        if freed := ledger.release_dead(reident, host):
            log.info("free again: %s of a scheduler that died here", held_units(freed))
