"""The stages of a scheduler's work, as data: what is claimed, as which task it is given out, and how an answer is entered.

A further stage is one more :class:`Stage` in :data:`STAGES`, and what the worker answers to its task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import CertaintyClaim, Claim, CountyClaim, LpStats, Worker
from dbrecon.node.assignment import Outcome
from dbrecon.node.tasks import CertaintyMade, CertaintyTask, ClaimedTask, CountyTask, CountyWritten, LpMade, Solved, TractTask
from dbrecon.place import Place

AnyClaim = Claim | CountyClaim


@dataclass(frozen=True)
class Wanted:
    """What may be claimed now: ``limit`` claims at the most, of no more than ``max_pop`` people each (None: any)."""

    experiment: Experiment
    worker: Worker
    steps: frozenset[int]
    place: Place
    lease_seconds: int
    limit: int = 1
    max_pop: int | None = None
    ascending: bool = False


@dataclass(frozen=True)
class Entry:
    """How an answer is entered: ``enter(ledger, claim, answer, stats of the LP that was made with it)``, and what it counts as."""

    enter: Callable[[Ledger, Any, Any, LpStats | None], object]
    count: Callable[[Outcome, Any], None]


@dataclass(frozen=True)
class Stage:
    """One kind of work. ``steps`` are those of which it does one or more at once; ``entries`` are by the answer's type."""

    steps: frozenset[int]
    claim: Callable[[Ledger, Wanted], Sequence[AnyClaim]]
    task: Callable[[Ledger, Wanted, Sequence[Any]], ClaimedTask]
    entries: Mapping[type, Entry]


def _claim_tracts(ledger: Ledger, wanted: Wanted) -> Sequence[Claim]:
    return ledger.claim(
        wanted.experiment.reident,
        wanted.worker,
        steps=wanted.steps,
        limit=wanted.limit,
        lease_seconds=wanted.lease_seconds,
        ascending=wanted.ascending,
        max_pop=wanted.max_pop,
        place=wanted.place,
    )


def _claim_county(ledger: Ledger, wanted: Wanted) -> Sequence[CountyClaim]:
    reident, worker = wanted.experiment.reident, wanted.worker
    claim = ledger.claim_county(reident, worker, lease_seconds=wanted.lease_seconds, place=wanted.place)
    return [claim] if claim else []


def _county_task(ledger: Ledger, wanted: Wanted, claims: Sequence[CountyClaim]) -> CountyTask:
    [claim] = claims
    states = ledger.tract_states(wanted.experiment.reident, claim.stusab, claim.county)
    return CountyTask(wanted.experiment, claim, tuple((state.tract, state.pop) for state in states if state.pop))


def _claim_certainty(ledger: Ledger, wanted: Wanted) -> Sequence[CertaintyClaim]:
    return ledger.claim_certainty(
        wanted.experiment.reident,
        wanted.worker,
        limit=wanted.limit,
        lease_seconds=wanted.lease_seconds,
        ascending=wanted.ascending,
        max_pop=wanted.max_pop,
        place=wanted.place,
    )


TRACTS = Stage(
    frozenset({3, 4}),
    _claim_tracts,
    lambda _ledger, wanted, claims: TractTask(wanted.experiment, wanted.steps, tuple(claims)),
    {
        LpMade: Entry(lambda ledger, claim, made, _lp: ledger.lp_written(claim, made.stats), Outcome.count_lp),
        Solved: Entry(lambda ledger, claim, solved, lp: ledger.solved(claim, solved.stats, lp), Outcome.count_solved),
    },
)
COUNTIES = Stage(
    frozenset({5}),
    _claim_county,
    _county_task,
    {
        CountyWritten: Entry(
            lambda ledger, claim, written, _lp: ledger.csv_written(claim, written.seconds, written.file), Outcome.count_county
        )
    },
)
CERTAINTY = Stage(
    frozenset({6}),
    _claim_certainty,
    lambda _ledger, wanted, claims: CertaintyTask(wanted.experiment, tuple(claims)),
    {CertaintyMade: Entry(lambda ledger, claim, made, _lp: ledger.certainty_written(claim, made.seconds), Outcome.count_certain)},
)
STAGES = (COUNTIES, TRACTS, CERTAINTY)
"""In the order in which a scheduler looks for work: what completes something comes first."""

ENTRIES: Mapping[type, Entry] = {kind: entry for stage in STAGES for kind, entry in stage.entries.items()}
