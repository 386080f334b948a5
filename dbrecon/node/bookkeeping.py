"""What a scheduler and Spark's driver do alike with claims: failures are counted, those of the dead freed, an early end noted."""

import logging
from collections.abc import Iterable

from dbrecon.ctools.proc import process_facts
from dbrecon.ctools.progress import counted
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Claim, CountyClaim, LostLease, Worker
from dbrecon.node.tasks import Failure
from dbrecon.settings import Config

log = logging.getLogger(__name__)

CLOCK_SLACK_SECONDS = 5.0


def count_failure(ledger: Ledger, claim: Claim | CountyClaim, failure: Failure, config: Config, most: int | None = None) -> None:
    """A claim failed: count it, and say so. ``most`` failures are the last (default: as the settings say)."""
    most = config.run.max_attempts if most is None else most
    try:
        last = ledger.failed(claim, failure.message, most, config.run.retry_seconds)
    except LostLease as error:
        log.warning("%s", error)
        return
    if last:
        log.error("%s: quarantined after %s: %s", claim, counted(claim.attempts + 1, "attempt"), failure.message)
    else:
        log.warning("%s: attempt %d failed: %s", claim, claim.attempts + 1, failure.message)


def free_the_dead(ledger: Ledger, reidents: Iterable[str], host: str) -> None:
    """What schedulers and drivers of this host hold that are no more is free at once."""
    for reident in reidents:
        for claimant in ledger.claimants(reident):
            if claimant.worker.host == host and not _lives(claimant.worker):
                freed = ledger.release_worker(reident, claimant.worker, died=False)
                number = counted(freed, "tract or county", "tracts or counties")
                log.info("free again: %s of a scheduler that died here", number)


def _lives(worker: Worker) -> bool:
    """Whether the process of a worker of this host is there, and is not a later one of the same number."""
    pid, _, named = worker.name.partition("-")
    facts = process_facts(int(pid))
    return facts is not None and not facts.gone and facts.started < int(named) / 1e9 + CLOCK_SLACK_SECONDS
