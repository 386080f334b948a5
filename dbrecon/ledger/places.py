"""Putting a state's geography into the ledger, for ``dbrecon.ledger.ledger`` alone."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, delete, insert, select, update

from dbrecon.ledger.records import EMPTY, NEW, OPEN, GeoRow, TractRow
from dbrecon.ledger.schema import ExperimentTables

T = TypeVar("T")
BATCH = 5000
COUNTY_LEVEL = "050"


def enter_state(connection: Connection, tables: ExperimentTables, stusab: str) -> None:
    """The state's row, which two that load it at once then lock in turn."""
    row = insert(tables.states).values(stusab=stusab, state="", geo_end=0)
    connection.execute(row.prefix_with("IGNORE", dialect="mysql").prefix_with("OR IGNORE", dialect="sqlite"))


def replace(
    connection: Connection,
    tables: ExperimentTables,
    stusab: str,
    now: ColumnElement[int],
    geo_rows: Iterable[GeoRow],
    tract_rows: Iterable[TractRow],
    force: bool,
) -> bool:
    """Loads the state, or False if it is there and not ``force``. ``enter_state`` has run."""
    states = tables.states
    found = states.c.stusab == stusab
    if connection.execute(select(states.c.geo_end).where(found).with_for_update()).scalar_one() > 0 and not force:
        return False
    for table in (tables.geo, tables.tracts, tables.counties):
        connection.execute(delete(table).where(table.c.stusab == stusab))
    names: dict[str, str] = {}
    _load(connection, tables.geo, ("stusab", *GeoRow._fields), _geo(stusab, geo_rows, names))
    counties: dict[str, list[Any]] = {}
    _load(connection, tables.tracts, _TRACT_COLUMNS, _tracts(stusab, tract_rows, counties))
    rows = [
        (stusab, state, county, names.get(county, ""), tracts, pop, OPEN if pop > 0 else EMPTY, 0, 0, 0, 0)
        for county, (state, tracts, pop) in sorted(counties.items())
    ]
    _load(connection, tables.counties, _COUNTY_COLUMNS, rows)
    state = next((row[1] for row in rows), "")
    connection.execute(update(states).where(found).values(state=state, geo_end=now))
    return True


_TRACT_COLUMNS = (
    "stusab", "state", "county", "tract", "pop", "status", "attempts", "lost", "lease_end", "lp_count", "sol_count",
)  # fmt: skip
_COUNTY_COLUMNS = (
    "stusab", "state", "county", "name", "tracts", "pop", "status", "attempts", "lost", "lease_end", "csv_count",
)  # fmt: skip


def _geo(stusab: str, rows: Iterable[GeoRow], names: dict[str, str]) -> Iterator[tuple[Any, ...]]:
    """The rows as the table has them; county names are put aside on the way."""
    for row in rows:
        if row[0] == COUNTY_LEVEL:
            names[row.county] = row.name
        yield (stusab, *row)


def _tracts(stusab: str, rows: Iterable[TractRow], counties: dict[str, list[Any]]) -> Iterator[tuple[Any, ...]]:
    """The rows as the table has them; [state, tracts with people, people] of each county are summed on the way."""
    for state, county, tract, pop in rows:
        sums = counties.setdefault(county, [state, 0, 0])
        sums[1] += pop > 0
        sums[2] += pop
        yield (stusab, state, county, tract, pop, NEW if pop > 0 else EMPTY, 0, 0, 0, 0, 0)


def _load(connection: Connection, table: Table, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    """Inserts tuples in the order of ``columns`` through the driver's own bulk call, several times as fast as dicts."""
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
