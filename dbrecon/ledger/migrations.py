"""The schema's version in a database, and the way from each version to the next.

Version 1 is the tables of before there was a version. A step is a function that changes the tables of one version into those of the
next; it may find its work half done, since MySQL commits at every ALTER TABLE (on SQLite all steps are one transaction), and does
what is left. Alembic does not fit: the tables are named after experiments, which only the database knows.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from sqlalchemy import Column, Connection, Table, func, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from dbrecon.errors import DatabaseError
from dbrecon.ledger.lifecycle import ENTERED, FREE, LEASED, NEW, RESTING
from dbrecon.ledger.schema import VERSION, common, experiment_tables, experiments, schema_versions, sysload

REPORTED_SECONDS = 90
"""A host that reported load so short a time ago has a scheduler: they report once a minute."""


class OldSchema(DatabaseError):
    """The tables are of an earlier version than this program's."""


def version_of(connection: Connection) -> int:
    """Return the version of the tables of a database; 0 if it has none of ours."""
    has = connection.dialect.has_table
    if has(connection, schema_versions.name):
        found = connection.execute(select(func.max(schema_versions.c.version))).scalar_one()
        if found is not None:
            return int(found)
    # Tables of today's shape without a version are being made by another node at this moment: MySQL commits at each of them.
    old = has(connection, experiments.name) and "stage" not in _columns(connection, experiments.name)
    return 1 if old else 0


def check(connection: Connection, place: str) -> bool:
    """Return whether the tables are there, as this program's version has them. ``place`` names the database for errors.

    Raises OldSchema for those of an earlier version, DatabaseError for those of a later one.
    """
    found = version_of(connection)
    if found > VERSION:
        raise DatabaseError(
            f"{place} has tables of version {found}, and this program knows those to version {VERSION}: use the newer program"
        )
    if 0 < found < VERSION:
        raise OldSchema(
            f"{place} has tables of version {found}, and this program needs version {VERSION}: stop the schedulers of the older "
            "program, then upgrade it with ./dbrtool.py --upgrade_database (a scheduler and --register do it too)"
        )
    return found == VERSION and all(connection.dialect.has_table(connection, table.name) for table in common.sorted_tables)


def make(connection: Connection, now: int) -> None:
    """Make the tables that all experiments share, those that are not there, and enter the version."""
    for table in common.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
    _enter(connection, VERSION, now)


def upgrade(connection: Connection, place: str, now: int) -> int:
    """Bring the tables to this program's version, from whichever they have. Returns the version they had.

    Raises DatabaseError, and changes nothing, while schedulers are at work on them.
    """
    found = version_of(connection)
    if 0 < found < VERSION:
        _refuse_at_work(connection, place, found, now)
        for version in range(found, VERSION):
            STEPS[version](connection)
        make(connection, now)
    return found


def _enter(connection: Connection, version: int, now: int) -> None:
    if connection.execute(select(schema_versions).where(schema_versions.c.version == version)).first() is None:
        with suppress(IntegrityError), connection.begin_nested():  # another node enters it at the same moment
            connection.execute(insert(schema_versions).values(version=version, since=now))


def _refuse_at_work(connection: Connection, place: str, version: int, now: int) -> None:
    """Refuse where an older program would find its tables changed under its hands."""
    hosts: set[str] = set()
    if connection.dialect.has_table(connection, sysload.name):
        hosts |= set(connection.execute(select(sysload.c.host).where(sysload.c.at > now - REPORTED_SECONDS)).scalars())
    for reident in _reidents(connection):
        for unit in ("tracts", "counties"):
            columns = _columns(connection, f"{reident}_{unit}")
            if "lease_end" in columns:
                held = text(f"SELECT DISTINCT claimed_host FROM {reident}_{unit} WHERE claimed_by IS NOT NULL AND lease_end > :now")
                hosts |= set(connection.execute(held, {"now": now}).scalars())
    if hosts:
        raise DatabaseError(
            f"{place} has tables of version {version}, and schedulers of that version are at work ({', '.join(sorted(hosts))}): "
            f"stop them (./scheduler.py --tell stop on each), and try again {REPORTED_SECONDS} seconds later"
        )


def _reidents(connection: Connection) -> list[str]:
    """Return the experiments whose tables are there, whichever version the table of experiments has."""
    names = connection.execute(select(experiments.c.reident)).scalars().all()
    return [name for name in names if _columns(connection, f"{name}_tracts")]


def _columns(connection: Connection, table: str) -> set[str]:
    """Return the names of a table's columns; none if there is no such table."""
    if not connection.dialect.has_table(connection, table):
        return set()
    return {column["name"] for column in inspect(connection).get_columns(table)}


def _add(connection: Connection, table: Table, names: Iterable[str], **filled: str) -> None:
    """Add those of a table's columns that are lacking. ``filled``: an SQL literal for the rows that are there."""
    present = _columns(connection, table.name)
    for name in names:
        if name in present:
            continue
        column: Column[object] = table.c[name]
        definition = str(CreateColumn(column).compile(dialect=connection.dialect))
        default = f" DEFAULT {filled[name]}" if name in filled else ""
        connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {definition}{default}"))


def _indexes(connection: Connection, table: Table) -> None:
    """Make a table's indexes those of the schema: the same columns under the same names."""
    present = {index["name"]: list(index["column_names"]) for index in inspect(connection).get_indexes(table.name)}
    wanted = {str(index.name): [column.name for column in index.columns] for index in table.indexes}
    for name, columns in present.items():
        if name is not None and wanted.get(name) != columns:
            on_table = f" ON {table.name}" if connection.dialect.name in ("mysql", "mariadb") else ""
            connection.execute(text(f"DROP INDEX {name}{on_table}"))
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if present.get(str(index.name)) != wanted[str(index.name)]:
            connection.execute(CreateIndex(index))


# -- from version 1 to version 2 -----------------------------------------------------------------------------------------

_OF_CLAIMS = ("hold", "hold_ends", "fence")
_OF_TRACTS = ("lp_digest", "sol_digest", "sol_seed", "sol_program")
_OF_COUNTIES = ("zip_digest", "block_digest", "tract_digest", "block_bytes", "tract_bytes", "csv_digest")


def _holds_and_digests(connection: Connection) -> None:
    """Version 2: the hold is a column of its own, artifacts have digests, an experiment has a stage, a seed and a version."""
    _add(connection, experiments, ("stage", "seed", "program"), stage="'ready'", seed="0", program="''")
    connection.execute(update(experiments).where(experiments.c.created <= 0).values(stage="dropping", created=0))
    for reident in _reidents(connection):
        tables = experiment_tables(reident)
        _add(connection, tables.states, ("zip_digest", "geofile_digest"))
        for table, names in ((tables.tracts, _OF_TRACTS), (tables.counties, _OF_COUNTIES)):
            begun = "lease_end" in _columns(connection, table.name)
            _add(connection, table, (*_OF_CLAIMS, *names), hold=f"'{FREE}'", fence="0")
            if begun:
                _split_lease_end(connection, table)
            _indexes(connection, table)
            if begun:
                connection.execute(text(f"ALTER TABLE {table.name} DROP COLUMN lease_end"))


def _split_lease_end(connection: Connection, table: Table) -> None:
    """``lease_end`` meant three things: nobody holds the row, until when somebody does, until when it rests."""
    held = f"CASE WHEN lease_end = 0 THEN '{FREE}' WHEN claimed_by IS NULL THEN '{RESTING}' ELSE '{LEASED}' END"
    values = {"hold": held, "hold_ends": "CASE WHEN lease_end = 0 THEN NULL ELSE lease_end END"}
    # What was accepted before digests were kept is taken as it is; "" says so.
    if "tract" in table.c:
        values |= {"lp_digest": "CASE WHEN lp_end IS NULL THEN NULL ELSE '' END"}
        values |= {"sol_digest": "CASE WHEN sol_end IS NULL THEN NULL ELSE '' END"}
    else:
        values |= {"block_digest": "''", "tract_digest": "''", "csv_digest": "CASE WHEN csv_end IS NULL THEN NULL ELSE '' END"}
    connection.execute(text(f"UPDATE {table.name} SET {', '.join(f'{name} = {value}' for name, value in values.items())}"))


# -- from version 2 to version 3 -----------------------------------------------------------------------------------------


def _ages(connection: Connection) -> None:
    """Version 3: an experiment says what its programs count by. Solutions of single ages and of bins go together."""
    _add(connection, experiments, ("ages",), ages="'bins'")


# -- from version 3 to version 4 -----------------------------------------------------------------------------------------


def _certainty(connection: Connection) -> None:
    """Version 4: each experiment has a table of step 6's work."""
    for reident in _reidents(connection):
        table = experiment_tables(reident).certainty
        connection.execute(CreateTable(table, if_not_exists=True))
        _indexes(connection, table)


# -- from version 4 to version 5 -----------------------------------------------------------------------------------------


def _any_tables(connection: Connection) -> None:
    """Version 5: an experiment may be on any of a product's tables, so that their names need room. SQLite knows no length."""
    if connection.dialect.name != "sqlite":
        column = CreateColumn(experiments.c.tables).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {experiments.name} MODIFY COLUMN {column}"))


# -- from version 5 to version 6 -----------------------------------------------------------------------------------------

_OF_HOLDERS = ("status", "hold", "hold_ends", "claimed_by", "claimed_host", "claimed_at", "token", "fence")


def _states_held(connection: Connection) -> None:
    """Version 6: who does step 1 or 2 of a state holds its row."""
    for reident in _reidents(connection):
        states = experiment_tables(reident).states
        _add(connection, states, _OF_HOLDERS, status=f"'{NEW}'", hold=f"'{FREE}'", fence="0")
        connection.execute(update(states).where(states.c.geo_end > 0).values(status=ENTERED))


STEPS: dict[int, Callable[[Connection], None]] = {
    1: _holds_and_digests,
    2: _ages,
    3: _certainty,
    4: _any_tables,
    5: _states_held,
}
