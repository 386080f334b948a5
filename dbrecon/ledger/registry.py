"""Registering and dropping experiments, for ``dbrecon.ledger.ledger`` alone.

MySQL commits at every CREATE TABLE and DROP TABLE, so neither is one transaction. The row's ``stage`` says what is complete:
MAKING while its tables are being made, READY, DROPPING while they are removed. Whatever interrupts, both commands work again.
"""

from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, column, delete, func, insert, literal, select, table, union_all, update

from dbrecon.errors import UsageError
from dbrecon.ledger import reports as ledger_reports
from dbrecon.ledger.lifecycle import EMPTY, ENTERED, SOLVED
from dbrecon.ledger.records import ExperimentProgress, ExperimentRow
from dbrecon.ledger.schema import experiment_tables, experiments

MAKING, READY, DROPPING = "making", "ready", "dropping"
UNITED = 100
"""So many experiments' tables are read by one statement: SQLite unites 500 selections at most."""
REGISTERING_SECONDS = 60  # a registration that is not complete by then was broken off


def reserve(connection: Connection, place: str, now: ColumnElement[int], row: ExperimentRow) -> None:
    """Enters the name as being registered, so that no two do it at once. ``place`` names the database for errors."""
    folded = row.reident.lower()
    found = experiments.c.folded == folded
    present = connection.execute(select(experiments, now.label("now")).where(found).with_for_update()).first()
    if present is not None and present.stage == READY:
        raise UsageError(f"REIDENT {present.reident} exists in {place}: choose another name, or remove it with --drop")
    if present is not None and present.stage == MAKING and present.now - present.created < REGISTERING_SECONDS:
        raise UsageError(f"REIDENT {present.reident} is being registered in {place} just now: try again in a minute")
    if present is None:
        _refuse_foreign_tables(connection, place, row.reident)
    connection.execute(delete(experiments).where(found))
    values = {"folded": folded, "stage": MAKING, **asdict(row), "created": now}
    connection.execute(insert(experiments).values(values))


def _refuse_foreign_tables(connection: Connection, place: str, reident: str) -> None:
    """Refuse tables of others: the predecessor, say, has some of such names, and they are not ours to fill or drop."""
    for wanted in experiment_tables(reident).all():
        if connection.dialect.has_table(connection, wanted.name):
            raise UsageError(
                f"{place} has a table {wanted.name} that belongs to no registered REIDENT: choose another name, or remove "
                "that table by hand"
            )


def make(connection: Connection, now: ColumnElement[int], reident: str) -> None:
    """Make the tables of a reserved name."""
    tables = experiment_tables(reident)
    tables.metadata.drop_all(connection)  # of a registration that was broken off
    tables.metadata.create_all(connection)
    connection.execute(update(experiments).where(experiments.c.folded == reident.lower()).values(stage=READY, created=now))


def settle_seed(connection: Connection, row: ExperimentRow) -> None:
    """Enters the seed of an experiment of which a program that kept none has registered."""
    unsettled = (experiments.c.reident == row.reident, experiments.c.program == "")
    connection.execute(update(experiments).where(*unsettled).values(seed=row.seed, program=row.program))


def drop(connection: Connection, reident: str) -> bool:
    """Remove the tables, the errors and the row. False if there is no such name."""
    found = experiments.c.reident == reident
    if connection.execute(select(experiments.c.reident).where(found)).first() is None:
        return False
    connection.execute(update(experiments).where(found).values(stage=DROPPING))
    experiment_tables(reident).metadata.drop_all(connection)
    ledger_reports.delete_errors(connection, reident)
    connection.execute(delete(experiments).where(found))
    return True


def registered(connection: Connection) -> list[ExperimentRow]:
    """Return the experiments whose tables are there, oldest first."""
    columns: list[Any] = [experiments.c[name] for name in ExperimentRow.__dataclass_fields__]
    query = select(*columns).where(experiments.c.stage == READY).order_by(experiments.c.created, experiments.c.folded)
    return [ExperimentRow(*row) for row in connection.execute(query)]


def progress(connection: Connection) -> list[ExperimentProgress]:
    """Return every experiment with its states and tracts, in two statements for each ``UNITED`` of them."""
    rows = registered(connection)
    stusabs: dict[str, list[str]] = {row.reident: [] for row in rows}
    tracts: dict[str, dict[str, int]] = {row.reident: {} for row in rows}
    for begin in range(0, len(rows), UNITED):
        names = [row.reident for row in rows[begin : begin + UNITED]]
        for reident, stusab in connection.execute(union_all(*map(_states_of, names))):
            stusabs[reident].append(stusab)
        for reident, status, number in connection.execute(union_all(*map(_tracts_of, names))):
            tracts[reident][status] = number
    return [
        ExperimentProgress(
            row, tuple(sorted(stusabs[row.reident])), counts.get(SOLVED, 0), sum(counts.values()) - counts.get(EMPTY, 0)
        )
        for row in rows
        for counts in [tracts[row.reident]]
    ]


def _states_of(reident: str) -> Select[Any]:
    """Which states' step 1 is complete. (The tables by name alone: all of 100 experiments' take longer to make than to read.)"""
    states = table(f"{reident}_states", column("stusab"), column("status"))
    return select(literal(reident), states.c.stusab).where(states.c.status == ENTERED)


def _tracts_of(reident: str) -> Select[Any]:
    """Return tracts by status."""
    tracts = table(f"{reident}_tracts", column("status"))
    return select(literal(reident), tracts.c.status, func.count()).group_by(tracts.c.status)
