"""The scheduler of one node: keeps its worker processes busy with claimed work until nothing is left.

This process alone talks to the database (one connection); workers get claims by a pipe, make the artifacts, and report. Only then
the ledger is told.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from dbrecon.ctools.proc import Memory, memory, process_line
from dbrecon.ctools.progress import Progress, counted, duration
from dbrecon.ctools.signals import handled
from dbrecon.errors import DatabaseError, DBReconError
from dbrecon.experiment import Experiment
from dbrecon.ledger.claiming import listed
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Claim, CountyClaim, LostLease, LpStats, Quarantine, SysLoad, Worker
from dbrecon.node.bookkeeping import count_failure, free_the_dead
from dbrecon.node.control import Commands
from dbrecon.node.memory import NO_ROOM, Busy, Floors, MemoryGuard
from dbrecon.node.processes import Died, Event, Finished, Message, WorkerPool
from dbrecon.node.tasks import Begun, CountyTask, CountyWritten, Failed, Failure, LpMade, Solved, TractTask
from dbrecon.node.waiting import Waiting, in_work
from dbrecon.place import EVERYWHERE, Place
from dbrecon.settings import Config

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
RECOUNT_SECONDS = 5.0
LP_TOLD_AFTER_SECONDS = 2.0
REPORT_SECONDS = 60.0
NODE_FAULTS = 3
"""Failures of the node itself (disk, network, licence) in a row after which it gives up."""


@dataclass(frozen=True)
class Assignment:
    """What a scheduler is to do: ``steps`` of 3, 4, 5, where, and how much."""

    steps: frozenset[int]
    place: Place = EVERYWHERE
    limit: int | None = None
    ascending: bool = False

    def text(self) -> str:
        """For people: "steps 3, 4 in oh 059, at most 10 tracts"."""
        text = f"{'step' if len(self.steps) == 1 else 'steps'} {', '.join(map(str, sorted(self.steps)))}"
        text += "" if self.place == EVERYWHERE else f" in {self.place.text()}"
        return text if self.limit is None else f"{text}, at most {counted(self.limit, 'tract')}"

    def left(self, ledger: Ledger, reidents: Iterable[str]) -> tuple[int, int]:
        """How many tracts and counties are not done, those that are quarantined aside."""
        works = [ledger.work_left(reident, self.steps, self.place) for reident in reidents]
        tracts = sum(work.claimable + work.running + work.waiting for work in works)
        return tracts, sum(work.counties_claimable + work.counties_running + work.counties_waiting for work in works)


@dataclass
class Outcome:
    """What a scheduler did. ``seconds``: wall time; ``lps`` counts LP files made by step 3 alone; ``ended`` says why it left early
    (its work in hand was finished first); ``left`` are the tracts and counties that remained then."""

    lps: int = 0
    solved: int = 0
    people: int = 0
    counties: int = 0
    put_back: int = 0
    quarantined: list[tuple[str, Quarantine]] = field(default_factory=list)
    seconds: float = 0.0
    node_failure: Failure | None = None
    halted: bool = False
    ended: str = ""
    left: tuple[int, int] = (0, 0)

    @property
    def did_something(self) -> bool:
        """Whether there is anything to tell."""
        broken_off = self.put_back or self.node_failure or self.halted or self.ended
        return bool(self.lps or self.solved or self.counties or broken_off)


@dataclass
class _Held:
    """The claims a worker has, by index in its task; the one it is at; and an LP that is made but not yet told to the ledger."""

    claims: dict[int, Claim | CountyClaim]
    current: int = 0
    begun: float = field(default_factory=time.monotonic)
    lp: tuple[int, LpStats, float] | None = None

    def tracts(self) -> list[Claim]:
        """The tracts among the claims. A county's file is written a tract at a time: it needs no more than a small one."""
        return [claim for claim in self.claims.copy().values() if isinstance(claim, Claim)]


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
        read_memory: Callable[[], Memory] = memory,
    ) -> None:
        self._ledger, self._config, self._experiments = ledger, config, experiments
        self._assignment = assignment
        self._worker = Worker.here()
        self._pool = WorkerPool(work, self._size())
        self._held: dict[int, _Held] = {}
        self._read_memory = read_memory
        self._guard = MemoryGuard(Floors.of(config(), read_memory().total_mib), self._busy, read_memory)
        self._returned: set[tuple[str, str]] = set()
        self._outcome = Outcome()
        self._started = time.monotonic()
        self._stopping = False
        self._claimed = 0
        self._faults = 0
        self._pause_until = 0.0
        self._claimable = 0
        self._counted = self._beaten = self._reported = float("-inf")
        self._waiting = Waiting(ledger, self._worker.host, assignment.steps, assignment.place)
        self._counties_looked = float("-inf")

    def run(self) -> Outcome:
        """Work until nothing is left, or a signal says stop. Claims that are held at the end are put back."""
        begin = self._started
        log.info("%s", self._what_it_does())
        free_the_dead(self._ledger, self._reidents(), self._worker.host)
        try:
            with self._signals(), self._guard, Progress("tracts", "tract", None) as progress:
                try:
                    self._work(progress)
                finally:
                    self._pool.close()
                    self._put_back([claim for held in self._held.values() for claim in held.claims.values()])
            self._outcome.quarantined = self._quarantined()
            note_end(self._outcome, self._stopping, self._limit_reached(), self._left)
        except DatabaseError as error:
            if not self._outcome.halted:
                raise
            log.warning("what was in work comes back when its lease ends: %s", error)
        if self._outcome.halted or self._outcome.node_failure:
            self._outcome.put_back = len(self._returned)
        self._outcome.seconds = time.monotonic() - begin
        return self._outcome

    def _work(self, progress: Progress) -> None:
        while not self._over():
            self._guard.floors = Floors.of(self._config(), self._read_memory().total_mib)
            idle = not self._fill() and not self._held
            if idle:
                self._waiting.say(self._reidents())
            else:
                self._waiting.over()
            for event in self._pool.wait(POLL_SECONDS):
                self._take(event)
            self._tell_lps()
            self._beat()
            self._report()
            if not idle:
                done = self._outcome.solved + self._outcome.lps
                progress.at(done, done + self._claimable + len(self._in_work()))

    # -- what there is to do ----------------------------------------------------------------------------------------

    def _size(self) -> int:
        run = self._config().run
        return (run.max_lp if 3 in self._assignment.steps else run.max_sol) or len(os.sched_getaffinity(0))

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
            not self._ledger.work_left(experiment.reident, self._assignment.steps, self._assignment.place).nothing_left
            for experiment in self._experiments()
        )

    def _fill(self) -> bool:
        """Give every free worker a task, if there is one. False if there was nothing to claim."""
        self._pool.size = self._size()
        while self._pool.free and not self._stopping and self._pause_until <= time.monotonic():
            room = self._guard.room()
            if room == NO_ROOM:
                return True
            task = self._next_task(room)
            if task is None:
                return False
            claims: tuple[Claim | CountyClaim, ...] = task.claims if isinstance(task, TractTask) else (task.claim,)
            try:
                worker = self._pool.submit(task)
            except DBReconError:
                self._put_back(list(claims))
                raise
            self._held[worker] = _Held(dict(enumerate(claims)))
        return True

    def _next_task(self, room: int | None) -> TractTask | CountyTask | None:
        """A task whose tracts have no more people than ``room`` (None: any). Counties are looked at when one may be complete, and
        now and then: one that failed rests for a while."""
        now = time.monotonic()
        counties_due = 5 in self._assignment.steps and now - self._counties_looked > RECOUNT_SECONDS
        for experiment in self._experiments():
            if counties_due and (county := self._county_task(experiment)):
                return county
            if tracts := self._tract_task(experiment, room):
                return tracts
        if counties_due:
            self._counties_looked = now
        return None

    def _county_task(self, experiment: Experiment) -> CountyTask | None:
        claim = self._ledger.claim_county(
            experiment.reident,
            self._worker,
            lease_seconds=self._config().run.lease_seconds,
            place=self._assignment.place,
        )
        if claim is None:
            return None
        states = self._ledger.tract_states(experiment.reident, claim.stusab, claim.county)
        return CountyTask(experiment, claim, tuple((state.tract, state.pop) for state in states if state.pop))

    def _tract_task(self, experiment: Experiment, room: int | None) -> TractTask | None:
        steps = self._assignment.steps & {3, 4}
        limit = min(self._how_many(experiment), 1 if self._guard.one_at_a_time else sys.maxsize)
        if not steps or limit < 1:
            return None
        claims = self._ledger.claim(
            experiment.reident,
            self._worker,
            steps=steps,
            limit=limit,
            lease_seconds=self._config().run.lease_seconds,
            ascending=self._assignment.ascending,
            max_pop=room,
            place=self._assignment.place,
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
            left = self._ledger.work_left(experiment.reident, self._assignment.steps & {3, 4}, self._assignment.place)
            self._claimable, self._counted = left.claimable, now
        fair = max(1, self._claimable // (2 * self._pool.size))
        most = min(int(self._config().run.claim_tracts), fair)
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
            held.current, held.begun = body.index, time.monotonic()
        elif isinstance(body, LpMade):
            held.lp = (body.index, body.stats, time.monotonic())
            if 4 not in message.task.steps:
                self._finish_lp(held, body)
        elif isinstance(body, Solved):
            self._finish_tract(message.worker, held, body)
        elif isinstance(body, CountyWritten):
            self._finish_county(held, body)
        elif isinstance(body, Failed):
            self._fail(held.claims.pop(body.index, None), body.failure, self._pool.pid(message.worker) or 0)
            held.lp = None

    def _finish_lp(self, held: _Held, made: LpMade) -> None:
        claim, held.lp = held.claims.pop(made.index, None), None
        if isinstance(claim, Claim) and self._told(lambda: self._ledger.lp_written(claim, made.stats)):
            self._outcome.lps += 1

    def _finish_tract(self, worker: int, held: _Held, solved: Solved) -> None:
        claim, lp = held.claims.pop(solved.index, None), held.lp
        held.lp = None
        stats = lp[1] if lp is not None and lp[0] == solved.index else None
        if isinstance(claim, Claim) and self._told(lambda: self._ledger.solved(claim, solved.stats, stats)):
            self._outcome.solved += 1
            self._outcome.people += claim.pop
            self._counties_looked = float("-inf")
            self._guard.learn(worker, claim.pop, solved.stats.memory_mib)

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
        count_failure(self._ledger, claim, failure, self._config())

    def _blame_node(self, claim: Claim | CountyClaim, failure: Failure) -> None:
        """Not the tract's fault: it goes back uncounted, and this node waits, or gives up when that happens again and again."""
        self._put_back([claim])
        self._faults += 1
        if self._faults >= NODE_FAULTS or failure.blame == "setup":
            self._outcome.node_failure = failure  # told at the end
        else:
            log.warning("%s: put back: %s", claim, failure.message)
        self._pause_until = time.monotonic() + 2.0**self._faults

    def _mourn(self, died: Died) -> None:
        """A worker died: that counts against the tract it was at, unless this node stopped it for memory that others had; its other
        tracts go back."""
        held = self._held.pop(died.worker)
        claim = held.claims.pop(held.current, None)
        stopped = self._guard.was_stopped(died.worker)
        if stopped is not None and not stopped.alone and claim is not None:
            held.claims[held.current], claim = claim, None
        self._put_back(list(held.claims.values()))
        if stopped is None:
            self._fail(claim, Failure(died.reason, "", 0, died.stack, 1, "tract"), 0)
        else:
            self._fail(claim, Failure(stopped.text(), "", 0, "", 1, "tract" if stopped.too_big else "node"), 0)

    def _busy(self) -> list[Busy]:
        """The workers at work; from any thread."""
        found = []
        for worker, held in self._held.copy().items():
            pid = self._pool.pid(worker)
            if pid is not None:
                found.append(Busy(worker, pid, held.begun, max((claim.pop for claim in held.tracts()), default=0)))
        return found

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
        if time.monotonic() - self._beaten < settings.run.heartbeat_seconds:
            return
        self._beaten = time.monotonic()
        claims = [claim for held in self._held.values() for claim in held.claims.values()]
        lost = {claim.token + str(claim) for claim in self._ledger.heartbeat(claims, settings.run.lease_seconds)}
        for worker, held in list(self._held.items()):
            if any(claim.token + str(claim) in lost for claim in held.claims.values()):
                log.warning("worker %s is stopped: its lease is lost", self._pool.pid(worker))
                self._pool.kill(worker)
                self._put_back(list(held.claims.values()))
                del self._held[worker]

    # -- what others ask (from another thread) -----------------------------------------------------------------------

    def commands(self) -> Commands:
        """What a running scheduler can be told: see :data:`dbrecon.node.control.COMMANDS`."""
        return {"stop": self.stop, "halt": self.halt, "list": self._list, "ps": self._ps, "uptime": self._uptime}

    def stop(self) -> str:
        """Take nothing new; leave when what is in work is done."""
        self._stopping = True
        return f"stopping: {in_work(self._in_work(), 'finished first')}"

    def halt(self) -> str:
        """Put back what is in work, and leave."""
        self._outcome.halted = True
        self._ledger.lose_patience()
        return f"halting: {in_work(self._in_work(), 'put back')}"

    def _in_work(self) -> list[Claim | CountyClaim]:
        return [claim for held in list(self._held.values()) for claim in held.claims.copy().values()]

    def _list(self) -> str:
        lines = []
        for worker, held in sorted(self._held.copy().items()):
            for index, claim in sorted(held.claims.copy().items()):
                what = f"{duration(time.monotonic() - held.begun)}" if index == held.current else "waits"
                lines.append(f"{self._pool.pid(worker) or 0:>8}  {claim.reident} {claim}  {counted(claim.pop, 'person')}  {what}")
        return "\n".join(lines) or "nothing is in work"

    def _ps(self) -> str:
        pids = [os.getpid(), *self._pool.pids()]
        return "\n".join(["     pid  state     cpu s  MiB", *filter(None, map(process_line, pids))])

    def _uptime(self) -> str:
        done, up = self._outcome, duration(time.monotonic() - self._started)
        return (
            f"pid {os.getpid()}, up {up}; workers: {self._pool.busy} of {self._pool.size} busy; "
            f"done: {counted(done.lps, 'LP file')}, {counted(done.solved, 'tract')} ({counted(done.people, 'person')}), "
            f"{counted(done.counties, 'county')}" + ("; halting" if done.halted else "; stopping" if self._stopping else "")
        )

    def _report(self) -> None:
        """What this node says of itself once a minute."""
        if time.monotonic() - self._reported < REPORT_SECONDS:
            return
        self._reported = time.monotonic()
        now, running = self._read_memory(), sum(len(held.claims) for held in self._held.values())
        load = SysLoad(self._worker.host, *os.getloadavg(), int(now.free_mib), int(now.total_mib), running)
        self._ledger.record_sysload(load)

    # -- beginning and end ------------------------------------------------------------------------------------------

    def _reidents(self) -> list[str]:
        return [experiment.reident for experiment in self._experiments()]

    def _left(self) -> tuple[int, int]:
        return self._assignment.left(self._ledger, self._reidents())

    def _what_it_does(self) -> str:
        """What an operator wants to know first of a log."""
        processes = counted(self._pool.size, "worker process", "worker processes")
        return f"{self._worker.host} works on {listed(self._reidents()) or 'nothing'}: {self._assignment.text()}; {processes}"

    def _quarantined(self) -> list[tuple[str, Quarantine]]:
        return [
            (experiment.reident, one)
            for experiment in self._experiments()
            for one in self._ledger.status(experiment.reident).quarantined
            if self._assignment.place.covers(one.stusab, one.county)
        ]

    def _signals(self) -> AbstractContextManager[None]:
        """SIGTERM: finish the tracts in work and leave. SIGINT: put them back and leave."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            log.info("%s", self.stop())

        def halt(_number: int, _frame: FrameType | None) -> None:
            if self._outcome.halted:
                raise KeyboardInterrupt  # whoever asks twice waits for nothing more
            log.info("%s", self.halt())

        return handled({signal.SIGTERM: stop, signal.SIGINT: halt})


def note_end(outcome: Outcome, stopping: bool, limit_reached: bool, left: Callable[[], tuple[int, int]]) -> None:
    """Note why a scheduler that finished what it had left before all was done, and what was left then."""
    if not outcome.halted and not outcome.node_failure and (stopping or limit_reached):
        outcome.ended, outcome.left = "told to stop" if stopping else "the limit is reached", left()
