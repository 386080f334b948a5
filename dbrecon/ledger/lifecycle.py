"""The life of a tract, of a county and of a state's geography: every state, and every transition that a writer may make.

This table is the whole of it. :mod:`dbrecon.ledger.moves` is the one module that writes a row's state, and it takes the states that
a transition may begin with from here into the condition of its UPDATE, so that a lost update changes nothing. ``docs/states.md`` is
drawn from it (:func:`mermaid`), and a test holds the page to it.

Beside its state a row has a *hold*: nobody has it (FREE), a worker has it until its lease ends (LEASED), or it rests after a
failure (RESTING). A stage of work that is added later is one more :class:`Life` on a table of its own with the same columns of a
claim.
"""

from dataclasses import dataclass

EMPTY = "empty"  # nobody lives there: no work
NEW = "new"  # needs its LP file
LP = "lp"  # the LP file is in place, needs solving
SOLVED = "solved"  # the checked solution is in place
QUARANTINED = "quarantined"  # failed too often; the error is kept
OPEN = "open"  # a county whose file of people is not written
CERTAIN = "certain"  # a tract's certainty, or its county's files of it, is in place
WRITTEN = "written"  # a county whose file of people is in place
ENTERED = "entered"  # a state of the USA whose geography is in the ledger: its tracts and counties

FREE = "free"
LEASED = "leased"
RESTING = "resting"

ENTER = "enter"
ENTER_GEOGRAPHY = "enter geography"
CLAIM = "claim"
HEARTBEAT = "heartbeat"
RELEASE = "release"
REST_ENDS = "rest ends"
WRITE_LP = "write LP"
SOLVE = "solve"
WRITE_PEOPLE = "write people"
WRITE_CERTAINTY = "write certainty"
FAIL = "fail"
REAP = "reap"
RETRY = "retry"
RESET_LP = "make again from step 3"
RESET_SOLUTION = "make again from step 4"
RESET_PEOPLE = "make again from step 5"
CHANGE_TABLES = "tables changed"
CHANGE_PEOPLE = "people changed"
RESET_CERTAINTY = "make again from step 6"
RESCAN = "rescan"


@dataclass(frozen=True)
class Transition:
    """What ``event`` may do to a row that is in one of ``before``: it is in one of ``after`` then. ``who`` does it, for people."""

    event: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    who: str


@dataclass(frozen=True)
class Life:
    """The states of one kind of unit, and its transitions. ``begins`` are the states in which ``entered_by`` enters a row."""

    unit: str
    states: tuple[str, ...]
    begins: tuple[str, ...]
    transitions: tuple[Transition, ...]
    entered_by: str = "step 1"
    leaves_by: str = "--step1 --force or --drop"

    def before(self, event: str, after: str | None = None) -> tuple[str, ...]:
        """Return the states that ``event`` may begin with, if it ends in ``after`` (None: where it leaves the state as it is).

        Raises ValueError where the table has no such transition: a programmer's mistake.
        """
        found = [
            state
            for transition in self.transitions
            if transition.event == event
            for state in transition.before
            if (after is None and state in transition.after) or after in transition.after
        ]
        if not found:
            raise ValueError(f"a {self.unit} has no transition {event!r} to {after or 'the same state'}")
        return tuple(dict.fromkeys(found))

    def allows(self, event: str, before: str, after: str) -> bool:
        """Return whether ``event`` may lead from one state to another."""
        return any(
            transition.event == event and before in transition.before and after in transition.after
            for transition in self.transitions
        )


def _staying(states: tuple[str, ...], event: str, who: str) -> tuple[Transition, ...]:
    """Return an event of the hold, which leaves each of the states as it is."""
    return tuple(Transition(event, (state,), (state,), who) for state in states)


_WORK = (NEW, LP)
_PEOPLED = (NEW, LP, SOLVED, QUARANTINED)
TRACT = Life(
    "tract",
    (EMPTY, NEW, LP, SOLVED, QUARANTINED),
    (EMPTY, NEW),
    (
        *_staying(_WORK, CLAIM, "a scheduler"),
        *_staying(_WORK, HEARTBEAT, "its holder"),
        *_staying(_WORK, RELEASE, "its holder, or --unlock"),
        *_staying(_WORK, REST_ENDS, "the next claim, when the rest after a failure is over"),
        Transition(WRITE_LP, (NEW,), (LP,), "its holder (step 3)"),
        Transition(SOLVE, _WORK, (SOLVED,), "its holder (step 4)"),
        Transition(FAIL, (NEW,), (NEW, QUARANTINED), "its holder"),
        Transition(FAIL, (LP,), (LP, QUARANTINED), "its holder"),
        Transition(REAP, (NEW,), (NEW, QUARANTINED), "the next claim, when the lease is over"),
        Transition(REAP, (LP,), (LP, QUARANTINED), "the next claim, when the lease is over"),
        Transition(RETRY, (QUARANTINED,), (NEW,), "--retry_quarantined"),
        Transition(RESET_LP, _PEOPLED, (NEW,), "--step3 --force"),
        Transition(RESET_SOLUTION, (LP, SOLVED, QUARANTINED), (LP,), "--step4 --force"),
        Transition(CHANGE_TABLES, (NEW, LP, SOLVED), (NEW,), "step 2, when it has made another county file"),
        Transition(CHANGE_TABLES, (QUARANTINED,), (QUARANTINED,), "the same: until --retry_quarantined"),
        Transition(RESCAN, (NEW,), (LP, SOLVED), "--rescan"),
        Transition(RESCAN, (LP,), (NEW, SOLVED), "--rescan"),
        Transition(RESCAN, (SOLVED,), (NEW, LP, SOLVED), "--rescan"),
        Transition(RESCAN, (QUARANTINED,), (SOLVED,), "--rescan"),
    ),
)
COUNTY = Life(
    "county",
    (EMPTY, OPEN, WRITTEN, QUARANTINED),
    (EMPTY, OPEN),
    (
        *_staying((OPEN,), CLAIM, "a scheduler, when all its tracts are solved"),
        *_staying((OPEN,), HEARTBEAT, "its holder"),
        *_staying((OPEN,), RELEASE, "its holder, or --unlock"),
        *_staying((OPEN,), REST_ENDS, "the next claim, when the rest after a failure is over"),
        Transition(WRITE_PEOPLE, (OPEN,), (WRITTEN,), "its holder (step 5)"),
        Transition(FAIL, (OPEN,), (OPEN, QUARANTINED), "its holder"),
        Transition(REAP, (OPEN,), (OPEN, QUARANTINED), "the next claim, when the lease is over"),
        Transition(RETRY, (QUARANTINED,), (OPEN,), "--retry_quarantined"),
        Transition(RESET_LP, (OPEN, WRITTEN, QUARANTINED), (OPEN,), "--step3 --force"),
        Transition(RESET_SOLUTION, (OPEN, WRITTEN, QUARANTINED), (OPEN,), "--step4 --force"),
        Transition(RESET_PEOPLE, (OPEN, WRITTEN, QUARANTINED), (OPEN,), "--step5 --force"),
        Transition(CHANGE_TABLES, (OPEN, WRITTEN, QUARANTINED), (OPEN,), "step 2, when it has made another county file"),
        Transition(RESCAN, (OPEN, QUARANTINED), (WRITTEN,), "--rescan"),
        Transition(RESCAN, (OPEN, WRITTEN, QUARANTINED), (OPEN,), "--rescan"),
        Transition(RESCAN, (WRITTEN,), (WRITTEN,), "--rescan"),
    ),
)
CERTAINTY = Life(
    "tract's certainty",
    (NEW, CERTAIN, QUARANTINED),
    (NEW,),
    (
        *_staying((NEW,), CLAIM, "a scheduler, when the county's people are written (a county, when all its tracts are certain)"),
        *_staying((NEW,), HEARTBEAT, "its holder"),
        *_staying((NEW,), RELEASE, "its holder, or --unlock"),
        *_staying((NEW,), REST_ENDS, "the next claim, when the rest after a failure is over"),
        Transition(WRITE_CERTAINTY, (NEW,), (CERTAIN,), "its holder (step 6)"),
        Transition(WRITE_CERTAINTY, (QUARANTINED,), (CERTAIN,), "step 6 by hand"),
        Transition(RESCAN, (NEW, QUARANTINED), (CERTAIN,), "--rescan"),
        Transition(RESCAN, (CERTAIN,), (NEW,), "--rescan"),
        Transition(FAIL, (NEW,), (NEW, QUARANTINED), "its holder"),
        Transition(REAP, (NEW,), (NEW, QUARANTINED), "the next claim, when the lease is over"),
        Transition(RETRY, (QUARANTINED,), (NEW,), "--retry_quarantined"),
        Transition(RESET_CERTAINTY, (NEW, CERTAIN, QUARANTINED), (NEW,), "--step6 --force"),
        Transition(CHANGE_PEOPLE, (NEW, CERTAIN, QUARANTINED), (NEW,), "step 6, when the county's people were written anew"),
    ),
    entered_by="step 6",
)
STATE = Life(
    "state of the USA",
    (NEW, ENTERED),
    (NEW,),
    (
        *_staying((NEW, ENTERED), CLAIM, "step 1 or 2 of it, on any node"),
        *_staying((NEW, ENTERED), HEARTBEAT, "its holder"),
        *_staying((NEW, ENTERED), RELEASE, "its holder, or --unlock"),
        *_staying((NEW, ENTERED), REAP, "the next claim, when the lease is over"),
        Transition(ENTER_GEOGRAPHY, (NEW, ENTERED), (ENTERED,), "its holder (step 1)"),
    ),
    leaves_by="--drop",
)
LIVES = (TRACT, COUNTY, CERTAINTY, STATE)


def mermaid(life: Life) -> str:
    """Return the life as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {state}: {ENTER} ({life.entered_by})" for state in life.begins]
    for transition in life.transitions:
        lines += [
            f"    {before} --> {after}: {transition.event}"
            for before in transition.before
            for after in transition.after
            if before != after
        ]
    lines += [f"    {state} --> [*]: {life.leaves_by}" for state in life.states]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return ``docs/states.md``, whole."""
    parts = [
        "# The states of tracts, counties and states of the USA\n",
        "Drawn from the table in `dbrecon/ledger/lifecycle.py` (`python -m dbrecon.ledger.lifecycle > docs/states.md`); a test",
        "holds this page to it. A row is removed by `--drop` and, to be entered anew, by `--step1 --force`, or a changed zip.\n",
    ]
    for life in LIVES:
        parts += [f"## A {life.unit}\n", "```mermaid", mermaid(life) + "```\n", "| event | from | to | by |", "|---|---|---|---|"]
        parts += [
            f"| {transition.event} | {', '.join(transition.before)} | {', '.join(transition.after)} | {transition.who} |"
            for transition in life.transitions
        ]
        parts.append("")
    parts += [
        "## The hold on each\n",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> free",
        "    free --> leased: claim",
        "    leased --> leased: heartbeat, or step 3 when step 4 follows in the same hands",
        "    leased --> free: finish, release, unlock, reap, and whatever makes the work anew",
        "    leased --> resting: fail, and try again later",
        "    resting --> free: the rest is over",
        "```",
        "",
        "A claim on a row carries a token and a number that only grows. Whoever finishes, fails or releases must show the token of",
        "the claim that holds the row now: a worker whose lease has ended, or was taken away, changes nothing.",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
