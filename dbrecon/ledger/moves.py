"""The one place that writes the state and the hold of tracts, counties and states, as :mod:`dbrecon.ledger.lifecycle` allows.

The states that a transition may begin with are part of each UPDATE's condition: what the table does not allow changes no row,
whatever was read before.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, case, update

from dbrecon.ledger.lifecycle import CERTAINTY, COUNTY, FREE, LEASED, RESTING, STATE, TRACT, Life

Condition = ColumnElement[bool]
Values = dict[str, Any]

UNHELD: Values = {"claimed_by": None, "claimed_host": None, "claimed_at": None, "hold": FREE, "hold_ends": None}
ANEW: Values = UNHELD | {"token": None, "attempts": 0, "lost": 0, "error": None}
NO_SOL: Values = dict.fromkeys(
    ["sol_start", "sol_end", "sol_host", "sol_digest", "sol_seed", "sol_program", "solver", "solve_seconds", "memory_mib"]
)
NO_LP: Values = dict.fromkeys(["lp_start", "lp_end", "lp_host", "lp_digest", "lp_seconds", "variables", "constraints", "nonzeros"])
NO_CSV: Values = dict.fromkeys(["csv_start", "csv_end", "csv_host", "csv_digest"])
NO_CERTAINTY: Values = dict.fromkeys(["sure_start", "sure_end", "sure_host"])
NO_COUNTY_FILES: Values = dict.fromkeys(["zip_digest", "block_digest", "tract_digest", "block_bytes", "tract_bytes"])


def life_of(table: Table) -> Life:
    """Return the life of the units that a table of an experiment holds."""
    if "people_digest" in table.c:
        return CERTAINTY
    return TRACT if "tract" in table.c else COUNTY if "county" in table.c else STATE


def move(
    connection: Connection, table: Table, event: str, where: Sequence[Condition], values: Values, after: str | None = None
) -> int:
    """Do a transition with the rows that meet ``where`` and are in a state that it may begin with. How many rows.

    ``after`` is the state they are in then; None leaves it. ValueError for a transition that the table of states does not have.
    """
    allowed = table.c.status.in_(life_of(table).before(event, after))
    values = values if after is None else values | {"status": after}
    return connection.execute(update(table).where(allowed, *where).values(values)).rowcount


def lease(worker: str, host: str, token: str, now: int, seconds: int, table: Table) -> Values:
    """Return what a claim writes: the row is the worker's for ``seconds``. The fence is that of :func:`next_fence`."""
    fence = case((table.c.fence >= now, table.c.fence + 1), else_=now)
    held = {"claimed_by": worker, "claimed_host": host, "claimed_at": now, "token": token, "fence": fence}
    return held | {"hold": LEASED, "hold_ends": now + max(1, seconds)}


def next_fence(before: int, now: int) -> int:
    """Return the number of a claim: higher than that of the one before, and, since rows are made anew, than that of any earlier
    second."""
    return max(before + 1, now)


def rest(until: ColumnElement[int]) -> Values:
    """Return what a failure writes after which the row is to be left alone for a while."""
    return UNHELD | {"hold": RESTING, "hold_ends": until}


def note(connection: Connection, table: Table, where: Sequence[Condition], values: Values) -> None:
    """Write what is known of the rows that meet ``where``, but neither their state nor their hold. ValueError for those."""
    if values.keys() & {"status", *ANEW}:
        raise ValueError(f"a state or a hold is written by a transition alone: {sorted(values)}")
    if values:
        connection.execute(update(table).where(*where).values(values))
