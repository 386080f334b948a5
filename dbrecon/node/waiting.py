"""What a scheduler says of tracts and counties: how many are at work, and for whose it waits."""

import logging
import time
from collections.abc import Collection, Iterable

from dbrecon.ctools.progress import LOG_EVERY_SECONDS, duration, units
from dbrecon.ledger.claiming import listed
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Claim, CountyClaim, InProgress, Status
from dbrecon.paths import as_typed
from dbrecon.place import Place

log = logging.getLogger(__name__)


class Waiting:
    """Says for what a scheduler on ``host`` waits: at once when it begins to wait, then now and then.

    ``steps`` and ``place`` are those of its assignment.
    """

    def __init__(self, ledger: Ledger, host: str, steps: Collection[int], place: Place) -> None:
        self._ledger, self._host, self._steps, self._place = ledger, host, steps, place
        self._said = float("-inf")

    def over(self) -> None:
        """There is work again."""
        self._said = float("-inf")

    def say(self, reidents: Iterable[str]) -> None:
        """Log what is waited for, unless that was done a short while ago."""
        if time.monotonic() - self._said < LOG_EVERY_SECONDS:
            return
        self._said = time.monotonic()
        for reident in reidents:
            work = self._ledger.work_left(reident, self._steps, self._place)
            if held := units(work.running, work.counties_running):
                log.info("waiting for %s of %s that %s", held, reident, self._holders(reident))
            elif resting := units(work.waiting, work.counties_waiting):
                log.info("waiting for %s of %s, put off for a moment after a failure", resting, reident)

    def _holders(self, reident: str) -> str:
        """Who holds what is waited for, and what to do about hosts that may be dead: those that have been silent."""
        status, claimants = self._ledger.status(reident), self._ledger.claimants(reident)
        hosts = {tract.host for tract in self._in_progress(status)}
        holders = [holder for holder in claimants if holder.worker.host in hosts or (holder.counties and 5 in self._steps)]
        elsewhere = [holder for holder in holders if holder.worker.host != self._host]
        if not elsewhere:
            return "another process of this node holds"
        names = sorted({holder.worker.host for holder in holders})
        gone = {holder.host for holder in status.silent}
        silent = [holder for holder in elsewhere if holder.worker.host in gone]
        if not silent:
            return f"{listed(names)} {'is' if len(names) == 1 else 'are'} at work on"
        seconds = duration(max(0, *(holder.lease_end - status.now for holder in silent)))
        if len(names) == 1:
            unlock = as_typed(f"dbrtool.py --unlock {names[0]}")
            return f"{names[0]} holds; if it is dead, its lease ends in {seconds} ({unlock} ends it now)"
        text = f"{listed(names)} hold; the lease of one that is dead ends in {seconds} at the latest"
        return f"{text} ({as_typed('dbrtool.py --unlock HOST')} ends it now)"

    def _in_progress(self, status: Status) -> list[InProgress]:
        """Return the tracts of the assignment that somebody holds."""
        held = (*(status.lps_in_progress if 3 in self._steps else ()), *(status.sols_in_progress if 4 in self._steps else ()))
        return [tract for tract in held if self._place.covers(tract.stusab, tract.county)]


def in_work(claims: Collection[Claim | CountyClaim], done: str) -> str:
    """Return what happens to claims: "2 tracts in work are finished first"."""
    tracts = sum(isinstance(claim, Claim) for claim in claims)
    what = units(tracts, len(claims) - tracts)
    return f"{what} in work {'is' if len(claims) == 1 else 'are'} {done}" if what else "nothing is in work"
