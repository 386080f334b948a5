"""The SQL of claims, for ``dbrecon.ledger.ledger`` alone: which rows are free, taking them, and giving them back.

``table`` is an experiment's table of tracts or of counties; both carry the same columns of a claim.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, select, update

from dbrecon.ledger.records import LP, NEW, OPEN, QUARANTINED, Claim, CountyClaim, LostLease, Worker
from dbrecon.ledger.schema import ExperimentTables, experiment_tables
from dbrecon.place import Place

AnyClaim = Claim | CountyClaim
Condition = ColumnElement[bool]

REAP_AT_ONCE = 200
NAMES_SHOWN = 60

FREE: dict[str, Any] = {"claimed_by": None, "claimed_host": None, "claimed_at": None, "lease_end": 0}
NO_SOL: dict[str, Any] = dict.fromkeys(["sol_start", "sol_end", "sol_host", "solver", "solve_seconds", "memory_mib"])
NO_LP: dict[str, Any] = dict.fromkeys(["lp_start", "lp_end", "lp_host", "lp_seconds", "variables", "constraints", "nonzeros"])
ANEW: dict[str, Any] = FREE | {"token": None, "attempts": 0, "lost": 0, "error": None}


def narrow(table: Table, place: Place) -> list[Condition]:
    """Conditions that narrow a query to a place. A table of counties is narrowed to the county, whatever its tracts."""
    conditions: list[Condition] = []
    if place.stusab is not None:
        conditions.append(table.c.stusab == place.stusab)
    if place.county is not None:
        conditions.append(table.c.county == place.county)
    if place.tracts is not None and "tract" in table.c:
        conditions.append(table.c.tract.in_(place.tracts))
    return conditions


def by_index(query: Select[Any], table: Table, name: str) -> Select[Any]:
    """The query, on MySQL by that index of the table: its optimizer may choose a scan while its statistics are old."""
    return query.with_hint(table, f"FORCE INDEX ({table.name}_{name})", "mysql")


def index_for(place: Place) -> str:
    """The index of tracts whose first columns are the place, then status and lease_end."""
    return "county" if place.county is not None else "state" if place.stusab is not None else "free"


def table_of(claim: AnyClaim) -> Table:
    """The table that holds the claim."""
    tables = experiment_tables(claim.reident)
    return tables.tracts if isinstance(claim, Claim) else tables.counties


def key(table: Table, row: Any) -> list[Condition]:
    """The condition that finds the row of a row or claim."""
    names = ("stusab", "county", "tract") if "tract" in table.c else ("stusab", "county")
    return [table.c[name] == getattr(row, name) for name in names]


def lost(claim: AnyClaim) -> LostLease:
    """The error of a claim that is no longer its worker's."""
    return LostLease(
        f"{claim} of {claim.reident} is no longer held by {claim.worker}: its lease ended or it was taken away; "
        "drop this work, whoever holds it now does it"
    )


def groups(claims: Iterable[AnyClaim]) -> list[tuple[Table, list[AnyClaim], list[Condition]]]:
    """Claims made together, with their table and the condition that finds those still held: one statement for each."""
    together: dict[tuple[str, str, str, str, bool], list[AnyClaim]] = defaultdict(list)
    for claim in claims:
        together[claim.reident, claim.stusab, claim.county, claim.token, isinstance(claim, Claim)].append(claim)
    result = []
    for (_, stusab, county, token, _), group in sorted(together.items(), key=lambda item: item[0]):
        table = table_of(group[0])
        tracts = tuple(claim.tract for claim in group if isinstance(claim, Claim))
        held = narrow(table, Place(stusab, county, tracts or None))
        held += [table.c.token == token, table.c.claimed_by.is_not(None), table.c.lease_end > 0]
        result.append((table, group, held))
    return result


def extend(connection: Connection, claims: list[AnyClaim], until: ColumnElement[int]) -> list[AnyClaim]:
    """Moves the end of the leases; the claims that are lost."""
    gone: list[AnyClaim] = []
    for table, group, held in groups(claims):
        if connection.execute(update(table).where(*held).values(lease_end=until)).rowcount != len(group):
            there = {_name(row) for row in connection.execute(select(table).where(*held)).all()}
            gone += [claim for claim in group if _name(claim) not in there]
    return gone


def _name(row: Any) -> tuple[str, str, str]:
    tract = "" if isinstance(row, CountyClaim) else getattr(row, "tract", "")
    return row.stusab, row.county, tract


def biggest(
    connection: Connection,
    table: Table,
    statuses: Sequence[str],
    wanted: Sequence[Condition],
    limit: int,
    ascending: bool,
    index: str,
) -> list[Row[Any]]:
    """Free rows, biggest first, locked. One query a status, each read from the index in order, so that no more rows than
    asked for are read or locked; a row that another transaction has locked is skipped."""
    order = table.c.pop.asc() if ascending else table.c.pop.desc()
    rows: list[Row[Any]] = []
    for status in statuses:
        query = select(table).where(table.c.status == status, table.c.lease_end == 0, *wanted).order_by(order)
        query = query.limit(limit).with_for_update(skip_locked=True)
        rows += connection.execute(by_index(query, table, index)).all()
    rows.sort(key=lambda row: row.pop, reverse=not ascending)
    return rows[:limit]


def mark(connection: Connection, table: Table, rows: Sequence[Row[Any]], worker: Worker, token: str, now: Any, lease: int) -> None:
    """Marks locked rows of one county as the worker's for ``lease`` seconds."""
    tracts = tuple(row.tract for row in rows) if "tract" in table.c else None
    values = {"claimed_by": str(worker), "claimed_host": worker.host, "claimed_at": now, "token": token}
    where = narrow(table, Place(rows[0].stusab, rows[0].county, tracts))
    connection.execute(update(table).where(*where).values(**values, lease_end=now + max(1, lease)))


def held_by_token(connection: Connection, table: Table, token: str) -> Sequence[Row[Any]]:
    """What an earlier run of the same claim got, when the answer to its commit was lost."""
    query = select(table).where(table.c.lease_end > 0, table.c.token == token, table.c.claimed_by.is_not(None))
    return connection.execute(query).all()


def reap(connection: Connection, table: Table, which: Condition, max_lost: int, limit: int | None = REAP_AT_ONCE) -> int:
    """Frees held rows: those that rest after a failure, and those whose holder is lost (which is counted). How many."""
    query = select(table).where(table.c.lease_end > 0, which).limit(limit).with_for_update(skip_locked=True)
    rows = connection.execute(by_index(query, table, "lease")).all()
    for row in rows:
        values: dict[str, Any] = dict(FREE)
        if row.claimed_by is not None:
            values.update(lost=row.lost + 1, token=None)
            if row.lost + 1 >= max_lost:
                last = f"{row.claimed_by} was the last: see whether it needs more memory than a node has"
                values.update(status=QUARANTINED, error=f"its worker was lost {row.lost + 1} times; {last}")
        connection.execute(update(table).where(*key(table, row)).values(values))
    return len(rows)


def free_holders(connection: Connection, tables: ExperimentTables, which: Callable[[Table], Condition]) -> int:
    """Frees tracts and counties whose holder fits, nothing counted. How many."""
    freed = 0
    for table in (tables.tracts, tables.counties):
        held = [table.c.lease_end > 0, table.c.claimed_by.is_not(None), which(table)]
        freed += connection.execute(update(table).where(*held).values(FREE | {"token": None})).rowcount
    return freed


def closable(tables: ExperimentTables, place: Place, held_too: bool = False) -> Select[Any]:
    """Counties with people whose every tract with people is solved and whose people are not written."""
    counties, tracts = tables.counties, tables.tracts
    there = and_(tracts.c.stusab == counties.c.stusab, tracts.c.county == counties.c.county)
    # LIMIT keeps MariaDB from turning the look-up by index, 3,143 times, into a join that reads every tract.
    unfinished = by_index(select(tracts.c.tract).where(there, tracts.c.status.in_([NEW, LP, QUARANTINED])), tracts, "county")
    done = unfinished.limit(1).scalar_subquery().is_(None)
    query = select(counties).where(counties.c.status == OPEN, *narrow(counties, place), done)
    return query if held_too else query.where(counties.c.lease_end == 0)


def tract_claim(reident: str, row: Row[Any], worker: Worker, token: str) -> Claim:
    """A claimed row of tracts."""
    return Claim(
        reident, row.stusab, row.state, row.county, row.tract, row.pop, row.status, row.attempts, worker, token
    )  # fmt: skip


def county_claim(
    connection: Connection, tables: ExperimentTables, reident: str, row: Row[Any], worker: Worker, token: str
) -> CountyClaim:
    """A claimed row of counties, with its tracts with people."""
    tracts = tables.tracts
    query = select(tracts.c.tract).where(*narrow(tracts, Place(row.stusab, row.county)), tracts.c.pop > 0)
    names = tuple(connection.execute(query.order_by(tracts.c.tract)).scalars())
    return CountyClaim(reident, row.stusab, row.state, row.county, names, row.pop, row.attempts, worker, token)


def listed(names: Iterable[str], most: int = NAMES_SHOWN) -> str:
    """Names for a sentence; a list of more than ``most`` is cut."""
    names = list(names)
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most:,} more"
