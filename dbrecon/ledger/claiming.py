"""The SQL of claims, for ``dbrecon.ledger.ledger`` alone: which rows are free, taking them, and giving them back.

``table`` is an experiment's table of tracts, of counties or of states; all carry the same columns of a holder.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, select

from dbrecon.ledger import moves
from dbrecon.ledger.lifecycle import CLAIM as CLAIM_IT
from dbrecon.ledger.lifecycle import (
    FREE,
    HEARTBEAT,
    LEASED,
    LP,
    NEW,
    OPEN,
    QUARANTINED,
    REAP,
    RELEASE,
    REST_ENDS,
    RESTING,
)
from dbrecon.ledger.moves import UNHELD, Condition
from dbrecon.ledger.records import CertaintyClaim, Claim, CountyClaim, CountyDigests, LostLease, SolvedTract, StateClaim, Worker
from dbrecon.ledger.schema import ExperimentTables, experiment_tables
from dbrecon.place import Place

AnyClaim = Claim | CountyClaim | StateClaim

REAP_AT_ONCE = 200
NAMES_SHOWN = 60


def narrow(table: Table, place: Place) -> list[Condition]:
    """Return conditions that narrow a query to a place. A table of counties is narrowed to the county, whatever its tracts."""
    conditions: list[Condition] = []
    if place.stusab is not None:
        conditions.append(table.c.stusab == place.stusab)
    if place.county is not None:
        conditions.append(table.c.county == place.county)
    if place.tracts is not None and "tract" in table.c:
        conditions.append(table.c.tract.in_(place.tracts))
    return conditions


def county_names(connection: Connection, tables: ExperimentTables, place: Place) -> dict[tuple[str, str], str]:
    """Return the names of a place's counties, as published."""
    counties = tables.counties
    query = select(counties.c.stusab, counties.c.county, counties.c.name).where(*narrow(counties, place))
    return {(row.stusab, row.county): row.name for row in connection.execute(query)}


def by_index(query: Select[Any], table: Table, name: str) -> Select[Any]:
    """Return the query, on MySQL by that index of the table: its optimizer may choose a scan while its statistics are old."""
    return query.with_hint(table, f"FORCE INDEX ({table.name}_{name})", "mysql")


def index_for(place: Place) -> str:
    """Return the index of tracts whose first columns are the place, then status and hold."""
    return "county" if place.county is not None else "state" if place.stusab is not None else "free"


def table_of(claim: AnyClaim) -> Table:
    """Return the table that holds the claim."""
    tables = experiment_tables(claim.reident)
    if isinstance(claim, CertaintyClaim):
        return tables.certainty
    if isinstance(claim, StateClaim):
        return tables.states
    return tables.tracts if isinstance(claim, Claim) else tables.counties


def key(table: Table, row: Any) -> list[Condition]:
    """Return the condition that finds the row of a row or claim."""
    return [table.c[name] == getattr(row, name) for name in ("stusab", "county", "tract") if name in table.c]


def lost(claim: AnyClaim) -> LostLease:
    """Return the error of a claim that is no longer its worker's."""
    return LostLease(
        f"{claim} of {claim.reident} is no longer held by {claim.worker}: its lease ended or it was taken away; "
        "drop this work, whoever holds it now does it"
    )


def groups(claims: Iterable[AnyClaim]) -> list[tuple[Table, list[AnyClaim], list[Condition]]]:
    """Return claims made together, with their table and the condition that finds those still held: one statement for each."""
    together: dict[tuple[str, str, str, str, str], list[AnyClaim]] = defaultdict(list)
    for claim in claims:
        together[claim.reident, claim.stusab, claim.county, claim.token, type(claim).__name__].append(claim)
    result = []
    for (_, stusab, county, token, _), group in sorted(together.items(), key=lambda item: item[0]):
        table = table_of(group[0])
        tracts = tuple(claim.tract for claim in group if isinstance(claim, Claim))
        held = narrow(table, Place(stusab, county or None, tracts or None))
        held += [table.c.token == token, table.c.hold == LEASED]
        result.append((table, group, held))
    return result


def extend(connection: Connection, claims: list[AnyClaim], until: ColumnElement[int]) -> list[AnyClaim]:
    """Move the end of the leases; the claims that are lost."""
    gone: list[AnyClaim] = []
    for table, group, held in groups(claims):
        if moves.move(connection, table, HEARTBEAT, held, {"hold_ends": until}) != len(group):
            held_names = {_name(row) for row in connection.execute(select(table).where(*held)).all()}
            gone += [claim for claim in group if _name(claim) not in held_names]
    return gone


def _name(row: Any) -> tuple[str, str, str]:
    tract = "" if isinstance(row, CountyClaim) else getattr(row, "tract", "")
    return row.stusab, getattr(row, "county", ""), tract


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
        query = select(table).where(table.c.status == status, table.c.hold == FREE, *wanted).order_by(order)
        query = query.limit(limit).with_for_update(skip_locked=True)
        rows += connection.execute(by_index(query, table, index)).all()
    rows.sort(key=lambda row: row.pop, reverse=not ascending)
    return rows[:limit]


def mark(connection: Connection, table: Table, rows: Sequence[Row[Any]], worker: Worker, token: str, now: int, lease: int) -> None:
    """Mark locked rows of one county as the worker's for ``lease`` seconds."""
    tracts = tuple(row.tract for row in rows) if "tract" in table.c else None
    where = [*narrow(table, Place(rows[0].stusab, rows[0].county, tracts)), table.c.hold == FREE]
    moves.move(connection, table, CLAIM_IT, where, moves.lease(str(worker), worker.host, token, now, lease, table))


def held_by_token(connection: Connection, table: Table, token: str) -> Sequence[Row[Any]]:
    """Return what an earlier run of the same claim got, when the answer to its commit was lost."""
    query = select(table).where(table.c.hold == LEASED, table.c.token == token)
    return connection.execute(query).all()


def reap(connection: Connection, table: Table, which: Condition, max_lost: int, limit: int | None = REAP_AT_ONCE) -> int:
    """Frees held rows: those that rest after a failure, and those whose holder is lost (which is counted). How many."""
    query = select(table).where(table.c.hold.in_([LEASED, RESTING]), which).limit(limit).with_for_update(skip_locked=True)
    rows = connection.execute(by_index(query, table, "hold")).all()
    for row in rows:
        if row.hold == RESTING:
            moves.move(connection, table, REST_ENDS, [*key(table, row), table.c.hold == RESTING], UNHELD)
            continue
        values: dict[str, Any] = UNHELD | {"lost": row.lost + 1, "token": None}
        after = None
        if row.lost + 1 >= max_lost:
            last = f"{row.claimed_by} was the last: see whether it needs more memory than a node has"
            values["error"], after = f"its worker was lost {row.lost + 1} times; {last}", QUARANTINED
        moves.move(connection, table, REAP, [*key(table, row), table.c.hold == LEASED], values, after)
    return len(rows)


def free_holders(connection: Connection, tables: Iterable[Table], which: Callable[[Table], Condition]) -> int:
    """Frees rows whose holder fits, nothing counted. How many."""
    freed = 0
    for table in tables:
        held = [table.c.hold == LEASED, which(table)]
        freed += moves.move(connection, table, RELEASE, held, UNHELD | {"token": None})
    return freed


def closable(tables: ExperimentTables, place: Place, held_too: bool = False) -> Select[Any]:
    """Return counties with people whose every tract with people is solved and whose people are not written."""
    counties, tracts = tables.counties, tables.tracts
    of_county_tracts = and_(tracts.c.stusab == counties.c.stusab, tracts.c.county == counties.c.county)
    # LIMIT keeps MariaDB from turning the look-up by index, 3,143 times, into a join that reads every tract.
    unfinished = by_index(
        select(tracts.c.tract).where(of_county_tracts, tracts.c.status.in_([NEW, LP, QUARANTINED])), tracts, "county"
    )
    done = unfinished.limit(1).scalar_subquery().is_(None)
    query = select(counties).where(counties.c.status == OPEN, *narrow(counties, place), done)
    return query if held_too else query.where(counties.c.hold == FREE)


def tract_claim(reident: str, row: Row[Any], worker: Worker, token: str, fence: int, files: CountyDigests | None) -> Claim:
    """Return a claimed row of tracts, with what was accepted of what it is to be made of."""
    return Claim(
        reident, row.stusab, row.state, row.county, row.tract, row.pop, row.status, row.attempts, worker, token,
        fence, row.lp_digest, files,
    )  # fmt: skip


def files_of_counties(
    connection: Connection, tables: ExperimentTables, stusab: str, county: str | None = None
) -> dict[str, CountyDigests | None]:
    """Return what step 2 has entered of each county's files; None where it has entered none."""
    counties = tables.counties
    names = ("county", "zip_digest", "block_digest", "tract_digest", "block_bytes", "tract_bytes")
    query = select(*(counties.c[name] for name in names)).where(*narrow(counties, Place(stusab, county)))
    rows = connection.execute(query.order_by(counties.c.county)).all()
    return {row.county: None if row.block_digest is None else CountyDigests(*row[1:]) for row in rows}


def county_digests(connection: Connection, tables: ExperimentTables, stusab: str, county: str) -> CountyDigests | None:
    """Return the same of one county."""
    return files_of_counties(connection, tables, stusab, county).get(county)


def county_claim(
    connection: Connection, tables: ExperimentTables, reident: str, row: Row[Any], worker: Worker, token: str, fence: int
) -> CountyClaim:
    """Return a claimed row of counties, with its tracts with people and their accepted solutions."""
    tracts = tables.tracts
    query = select(tracts.c.tract, tracts.c.pop, tracts.c.sol_digest)
    query = query.where(*narrow(tracts, Place(row.stusab, row.county)), tracts.c.pop > 0).order_by(tracts.c.tract)
    solved = tuple(SolvedTract(*row) for row in connection.execute(query))
    digests = county_digests(connection, tables, row.stusab, row.county)
    return CountyClaim(reident, row.stusab, row.state, row.county, solved, row.pop, row.attempts, worker, token, fence, digests)


def listed(names: Iterable[str], most: int = NAMES_SHOWN) -> str:
    """Return names for a sentence; a list of more than ``most`` is cut."""
    names = list(names)
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most:,} more"
