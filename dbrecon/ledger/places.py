"""Putting a state's geography into the ledger, for ``dbrecon.ledger.ledger`` alone."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, func, insert, select

from dbrecon.ledger import claiming as sql
from dbrecon.ledger import moves, resets
from dbrecon.ledger.lifecycle import CLAIM, EMPTY, ENTER_GEOGRAPHY, ENTERED, FREE, LEASED, NEW, OPEN, REAP
from dbrecon.ledger.records import CountyDigests, GeoRow, HeldState, StateClaim, StateDigests, Worker
from dbrecon.ledger.schema import ExperimentTables
from dbrecon.place import Place

T = TypeVar("T")
BATCH = 5000
COUNTY_LEVEL, TRACT_LEVEL = "050", "140"


def enter_state(connection: Connection, tables: ExperimentTables, stusab: str) -> None:
    """Enter the state's row, which two that load it at once then lock in turn."""
    row = insert(tables.states).values(stusab=stusab, state="", status=NEW, hold=FREE, fence=0, geo_end=0)
    connection.execute(row.prefix_with("IGNORE", dialect="mysql").prefix_with("OR IGNORE", dialect="sqlite"))


def claim_state(
    connection: Connection, tables: ExperimentTables, reident: str, stusab: str, worker: Worker, token: str, now: int, lease: int
) -> StateClaim | HeldState:
    """Make the state's row the worker's for ``lease`` seconds, or tell who has it. ``enter_state`` has run."""
    states, found = tables.states, [tables.states.c.stusab == stusab]
    row = connection.execute(select(states).where(*found).with_for_update()).one()
    if row.hold == LEASED and row.token == token:  # the commit whose answer was lost
        return StateClaim(reident, stusab, worker, token, row.fence, lease)
    if (held := _held(row, now)) is not None:
        return held
    moves.move(connection, states, REAP, [*found, states.c.hold == LEASED], moves.UNHELD)
    moves.move(connection, states, CLAIM, found, moves.lease(str(worker), worker.host, token, now, lease, states))
    return StateClaim(reident, stusab, worker, token, moves.next_fence(row.fence, now), lease)


def held_state(connection: Connection, tables: ExperimentTables, stusab: str, now: int) -> HeldState | None:
    """Return who holds a state, without waiting for what he writes; None if nobody does."""
    row = connection.execute(select(tables.states).where(tables.states.c.stusab == stusab)).first()
    return None if row is None else _held(row, now)


def _held(row: Row[Any], now: int) -> HeldState | None:
    return HeldState(row.claimed_host, row.hold_ends - now) if row.hold == LEASED and row.hold_ends > now else None


def check_held(connection: Connection, claim: StateClaim | None, now: ColumnElement[int]) -> None:
    """Extend the lease on a state. Raises LostLease if it is another's by now."""
    if claim is not None and sql.extend(connection, [claim], now + claim.lease_seconds):
        raise sql.lost(claim)


def replace(
    connection: Connection,
    tables: ExperimentTables,
    stusab: str,
    now: ColumnElement[int],
    geo_rows: Iterable[GeoRow],
    force: bool,
    digests: StateDigests,
) -> bool:
    """Load the state, or False if it is there and not ``force``. ``enter_state`` has run."""
    states = tables.states
    found = states.c.stusab == stusab
    if connection.execute(select(states.c.status).where(found).with_for_update()).scalar_one() == ENTERED and not force:
        return False
    last = select(func.max(tables.tracts.c.fence)).where(tables.tracts.c.stusab == stusab)
    fence = connection.execute(last).scalar_one() or 0
    for table in (tables.geo, tables.tracts, tables.counties, tables.certainty):
        connection.execute(delete(table).where(table.c.stusab == stusab))
    names: dict[str, str] = {}
    tracts: list[GeoRow] = []
    _load(connection, tables.geo, ("stusab", *GeoRow._fields), _geo(stusab, geo_rows, names, tracts))
    _load(connection, tables.tracts, _TRACT_COLUMNS, (_tract(stusab, row, fence) for row in tracts))
    _load(connection, tables.counties, _COUNTY_COLUMNS, _counties(stusab, tracts, names, fence))
    state = tracts[0].state if tracts else ""
    values = {"state": state, "geo_end": now, "zip_digest": digests.zip, "geofile_digest": digests.geofile}
    moves.move(connection, states, ENTER_GEOGRAPHY, [found], values, ENTERED)
    return True


_TRACT_COLUMNS = (
    "stusab", "state", "county", "tract", "pop", "status", "hold", "attempts", "lost", "fence", "lp_count", "sol_count",
)  # fmt: skip
_COUNTY_COLUMNS = (
    "stusab", "state", "county", "name", "tracts", "pop", "status", "hold", "attempts", "lost", "fence", "csv_count",
)  # fmt: skip


def _geo(stusab: str, rows: Iterable[GeoRow], names: dict[str, str], tracts: list[GeoRow]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as the table has them; counties' names and the tracts are put aside on the way."""
    for row in rows:
        if row.sumlev == COUNTY_LEVEL:
            names[row.county] = row.name
        elif row.sumlev == TRACT_LEVEL:
            tracts.append(row)
        yield (stusab, *row)


def _tract(stusab: str, row: GeoRow, fence: int) -> tuple[Any, ...]:
    """Return a tract's row as step 1 enters it."""
    status = NEW if row.pop100 > 0 else EMPTY
    return (stusab, row.state, row.county, row.tract, row.pop100, status, FREE, 0, 0, fence, 0, 0)


def _counties(stusab: str, tracts: Iterable[GeoRow], names: dict[str, str], fence: int) -> Iterator[tuple[Any, ...]]:
    """Yield the counties' rows as step 1 enters them: tracts with people and people are sums of their tracts."""
    sums: dict[str, tuple[str, int, int]] = {}
    for row in tracts:
        state, with_people, people = sums.get(row.county, (row.state, 0, 0))
        sums[row.county] = (state, with_people + (row.pop100 > 0), people + row.pop100)
    for county, (state, with_people, people) in sorted(sums.items()):
        status = OPEN if people > 0 else EMPTY
        yield (stusab, state, county, names.get(county, ""), with_people, people, status, FREE, 0, 0, fence, 0)


def note_zip(connection: Connection, tables: ExperimentTables, stusab: str, digest: str) -> None:
    """Enter the zip of a state whose geography is that of the zip."""
    states = tables.states
    moves.note(connection, states, [states.c.stusab == stusab], {"zip_digest": digest})


def enter_county_files(
    connection: Connection, tables: ExperimentTables, stusab: str, county: str, files: CountyDigests
) -> int | None:
    """Step 2's result. How many tracts begin anew since their tables are others now; None if the tables are as before."""
    counties = tables.counties
    found = [counties.c.stusab == stusab, counties.c.county == county]
    row = connection.execute(select(counties).where(*found).with_for_update()).first()
    if row is None:
        return None
    before = (row.block_digest, row.tract_digest)
    values = {
        "zip_digest": files.zip, "block_digest": files.block, "tract_digest": files.tract,
        "block_bytes": files.block_bytes, "tract_bytes": files.tract_bytes,
    }  # fmt: skip
    moves.note(connection, counties, found, values)
    if before[0] is None or before == (files.block, files.tract):
        return None
    return resets.tables_changed(connection, tables, Place(stusab, county))


def forget_county_files(connection: Connection, tables: ExperimentTables, stusab: str, county: str) -> None:
    """Forget the county's files, and what was made of them."""
    counties = tables.counties
    found = [counties.c.stusab == stusab, counties.c.county == county]
    moves.note(connection, counties, found, moves.NO_COUNTY_FILES)
    resets.tables_changed(connection, tables, Place(stusab, county))


def _load(connection: Connection, table: Table, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert tuples in the order of ``columns`` through the driver's own bulk call, several times as fast as dicts."""
    quote = connection.dialect.identifier_preparer.quote
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    names = ", ".join(quote(name) for name in columns)
    statement = f"INSERT INTO {quote(table.name)} ({names}) VALUES ({', '.join([mark] * len(columns))})"
    for batch in _batches(rows):
        connection.exec_driver_sql(statement, batch)


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH)):
        yield batch
