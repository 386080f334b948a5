"""The ledger put right by what lies in storage: for ``--rescan``, and for an experiment that was copied.

A file counts more than the ledger's word, and a checked file more than a missing one: a tract is SOLVED if its LP file and its
checked solution are there, LP if only the LP file is, else NEW; a county is WRITTEN if its people are there and are those of its
solutions. What is in work, or has changed since the files were looked at, is left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from dbrecon.ctools.database import Database
from dbrecon.ledger import claiming as sql
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import EMPTY, FOUND, LP, NEW, OPEN, QUARANTINED, SOLVED, WRITTEN
from dbrecon.ledger.schema import ExperimentTables, experiment_tables
from dbrecon.place import Place


@dataclass(frozen=True)
class LpFound:
    """A whole LP file, written ``at`` (Unix time)."""

    at: int
    variables: int | None
    constraints: int | None
    nonzeros: int | None


@dataclass(frozen=True)
class SolFound:
    """A whole solution of the right population; ``checked``: it meets every published cell."""

    at: int
    solver: str
    checked: bool


@dataclass(frozen=True)
class TractFound:
    """The files of a tract with people that are whole."""

    tract: str
    lp: LpFound | None
    sol: SolFound | None


@dataclass(frozen=True)
class CountyFound:
    """The files of a county; ``people_at``: when the people were written that its solutions give, None if they are not there, or
    ``people_unread``, since they could not be compared. Tracts that could not be read are not among ``tracts``."""

    stusab: str
    county: str
    tracts: tuple[TractFound, ...]
    people_at: int | None
    people_unread: bool = False


@dataclass(frozen=True)
class Snapshot:
    """How a county stood in the ledger before its files were looked at: of each tract what changes whenever it does."""

    tracts: Mapping[str, tuple[object, ...]]


@dataclass(frozen=True)
class Change:
    """A tract (or the county: ``tract`` is "") that became something else."""

    stusab: str
    county: str
    tract: str
    was: str
    becomes: str


def snapshot(ledger: Ledger, reident: str, stusab: str, county: str) -> Snapshot:
    """To be taken before the files are looked at."""
    tables = experiment_tables(reident)

    def work(connection: Connection) -> Snapshot:
        query = select(tables.tracts).where(*sql.narrow(tables.tracts, Place(stusab, county)))
        return Snapshot({row.tract: _mark(row) for row in connection.execute(query)})

    return Database(ledger.engine).run(work, write=False)


def _mark(row: Row[Any]) -> tuple[object, ...]:
    return (row.status, row.token, row.lp_count, row.sol_count)


def put_right(ledger: Ledger, reident: str, found: CountyFound, before: Snapshot, pretend: bool = False) -> list[Change]:
    """Makes the ledger of a county agree with its files, in one transaction. What has changed, by tract, the county last.

    With ``pretend`` nothing is changed. Quarantined tracts stay so unless their solution is there.
    """
    tables = experiment_tables(reident)
    database = Database(ledger.engine)

    def work(connection: Connection) -> list[Change]:
        now = connection.execute(select(database.now())).scalar_one()
        table = tables.tracts
        where = sql.narrow(table, Place(found.stusab, found.county))
        rows = {row.tract: row for row in connection.execute(select(table).where(*where).with_for_update())}
        changes = []
        statuses = {row.tract: row.status for row in rows.values()}
        for one in found.tracts:
            row = rows.get(one.tract)
            if row is None or row.status == EMPTY or _is_held(row, now) or before.tracts.get(one.tract) != _mark(row):
                continue
            becomes = _status(row.status, one)
            if becomes != row.status:
                changes.append(Change(found.stusab, found.county, one.tract, row.status, becomes))
                statuses[one.tract] = becomes
                if not pretend:
                    connection.execute(update(table).where(*sql.key(table, row)).values(_values(row, one, becomes)))
        all_solved = all(status in (SOLVED, EMPTY) for status in statuses.values())
        return changes + _put_county_right(connection, tables, found, all_solved, bool(changes), now, pretend)

    return database.run(work, write=not pretend)


def _is_held(row: Row[Any], now: int) -> bool:
    return bool(row.claimed_by is not None and row.lease_end > now)


def _status(was: str, found: TractFound) -> str:
    """What a tract is by its files."""
    if found.lp and found.sol and (found.sol.checked or was == SOLVED):
        return SOLVED
    if was == QUARANTINED:
        return was
    return LP if found.lp else NEW


def _values(row: Row[Any], found: TractFound, becomes: str) -> dict[str, Any]:
    values: dict[str, Any] = dict(sql.ANEW) | {"status": becomes}
    if becomes == NEW:
        return values | sql.NO_LP | sql.NO_SOL
    if becomes == LP:
        values |= sql.NO_SOL
    if row.lp_end is None and found.lp is not None:
        lp = found.lp
        values |= {"lp_start": lp.at, "lp_end": lp.at, "lp_host": FOUND}
        values |= {"variables": lp.variables, "constraints": lp.constraints, "nonzeros": lp.nonzeros}
    if becomes == SOLVED and row.sol_end is None and found.sol is not None:
        at = found.sol.at
        values |= {"sol_start": at, "sol_end": at, "sol_host": FOUND, "solver": found.sol.solver[:100]}
    return values


def _put_county_right(
    connection: Connection,
    tables: ExperimentTables,
    found: CountyFound,
    all_solved: bool,
    tracts_changed: bool,
    now: int,
    pretend: bool,
) -> list[Change]:
    table = tables.counties
    where = sql.narrow(table, Place(found.stusab, found.county))
    row = connection.execute(select(table).where(*where).with_for_update()).first()
    if row is None or row.status == EMPTY or _is_held(row, now):
        return []
    values: dict[str, Any] = dict(sql.ANEW)
    if all_solved and found.people_at is not None:
        becomes = WRITTEN
        if row.csv_end is None:
            values |= {"csv_start": found.people_at, "csv_end": found.people_at, "csv_host": FOUND}
    elif all_solved and found.people_unread:
        return []
    elif row.status == WRITTEN or (row.status == QUARANTINED and tracts_changed):
        becomes = OPEN
        values |= {"csv_start": None, "csv_end": None, "csv_host": None}
    else:
        return []
    if becomes == row.status:
        return []
    if not pretend:
        connection.execute(update(table).where(*where).values(values | {"status": becomes}))
    return [Change(found.stusab, found.county, "", row.status, becomes)]
