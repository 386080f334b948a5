"""Whoever does step 1 or 2 of a state holds its row of the ledger meanwhile, so that of several nodes each does other states."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dbrecon.ctools.progress import LOG_EVERY_SECONDS, duration
from dbrecon.errors import DatabaseError
from dbrecon.experiment import Experiment
from dbrecon.ledger.claiming import listed
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import HeldState, StateClaim, Worker
from dbrecon.paths import as_typed
from dbrecon.remedies import sentence

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 1.0
"""How soon to ask again for a state that another holds."""


class StateClaimer:
    """Claims states of an experiment for this process."""

    def __init__(self, experiment: Experiment, ledger: Ledger) -> None:
        self._experiment, self._ledger = experiment, ledger
        self._worker = Worker.here()
        self._said_at = float("-inf")

    def claim(self, stusab: str) -> StateClaim | HeldState:
        """Return the claim on a state, or who has it. What a dead process of this node has is free at once."""
        found = self._claim(stusab)
        if isinstance(found, HeldState) and found.host == self._worker.host:
            self._ledger.release_dead(self._experiment.reident, found.host)
            found = self._claim(stusab)
        return found

    def tell(self, held: Mapping[str, HeldState]) -> None:
        """Log for which states this process waits, unless that was done a short while ago."""
        if time.monotonic() - self._said_at < LOG_EVERY_SECONDS:
            return
        self._said_at = time.monotonic()
        hosts = sorted({state.host for state in held.values()} - {self._worker.host})
        if not hosts:
            log.info("waiting for step 1 or 2 of %s, which another process of this node is at", listed(sorted(held)))
            return
        longest = duration(max(state.seconds for state in held.values()))
        at_it = f"{listed(hosts)} {'is' if len(hosts) == 1 else 'are'} at"
        dead = f"{hosts[0]} is dead, its lease ends" if len(hosts) == 1 else "one of them is dead, its lease ends"
        unlock = as_typed(f"./dbrtool.py --unlock {hosts[0] if len(hosts) == 1 else 'HOST'}")
        states = listed(sorted(held))
        log.info("waiting for step 1 or 2 of %s, which %s; if %s in %s (%s ends it now)", states, at_it, dead, longest, unlock)

    def _claim(self, stusab: str) -> StateClaim | HeldState:
        lease = self._experiment.config.run.lease_seconds
        return self._ledger.claim_state(self._experiment.reident, stusab, self._worker, lease_seconds=lease)


@contextmanager
def state_held(experiment: Experiment, ledger: Ledger, stusab: str) -> Iterator[StateClaim]:
    """Hold a state for the block, in which step 1 or 2 of it may be done; waits for whoever else has it."""
    claimer = StateClaimer(experiment, ledger)
    while isinstance(claim := claimer.claim(stusab), HeldState):
        claimer.tell({stusab: claim})
        time.sleep(LOOK_AGAIN_SECONDS)
    try:
        with _beating(ledger, claim, experiment.config.run.heartbeat_seconds):
            yield claim
    finally:
        ledger.release([claim])


@contextmanager
def _beating(ledger: Ledger, claim: StateClaim, seconds: float) -> Iterator[None]:
    """Extend the lease now and then, from a thread: to check and read a zip may take minutes."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(seconds):
            try:
                ledger.heartbeat([claim], claim.lease_seconds)
            except DatabaseError as error:  # where it matters, what is entered next fails of the same
                log.debug("%s", sentence(error))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
