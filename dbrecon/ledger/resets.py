"""Putting finished or quarantined work back, for ``dbrecon.ledger.ledger`` alone."""

from sqlalchemy import Connection, func, or_, select

from dbrecon.ledger import certain, moves
from dbrecon.ledger import claiming as sql
from dbrecon.ledger.lifecycle import (
    CHANGE_TABLES,
    LP,
    NEW,
    OPEN,
    QUARANTINED,
    RESET_LP,
    RESET_PEOPLE,
    RESET_SOLUTION,
    RETRY,
    SOLVED,
    WRITTEN,
)
from dbrecon.ledger.schema import ExperimentTables
from dbrecon.place import Place


def finished(connection: Connection, tables: ExperimentTables, place: Place) -> tuple[int, int]:
    """Return how many solved tracts and how many written counties a place has."""
    found = []
    for table, status in ((tables.tracts, SOLVED), (tables.counties, WRITTEN)):
        where = [table.c.status == status, *sql.narrow(table, place)]
        found.append(int(connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()))
    return found[0], found[1]


def reset(connection: Connection, tables: ExperimentTables, step: int, place: Place) -> int:
    """See ``Ledger.reset``."""
    table, counties = tables.tracts, tables.counties
    where = sql.narrow(table, place)
    event = {3: RESET_LP, 4: RESET_SOLUTION, 5: RESET_PEOPLE}[step]
    done = 0
    if step == 3:
        done = moves.move(connection, table, event, where, moves.ANEW | moves.NO_LP | moves.NO_SOL, NEW)
    elif step == 4:
        made = or_(table.c.status != QUARANTINED, table.c.lp_end.is_not(None))
        done = moves.move(connection, table, event, [*where, made], moves.ANEW | moves.NO_SOL, LP)
    reopened = moves.move(connection, counties, event, sql.narrow(counties, place), moves.ANEW | moves.NO_CSV, OPEN)
    return reopened if step == 5 else done


def tables_changed(connection: Connection, tables: ExperimentTables, place: Place) -> int:
    """Have a county's tracts begin anew, whose tables are others than those that they were made of. How many had begun."""
    tracts, counties = tables.tracts, tables.counties
    where = sql.narrow(tracts, place)
    query = select(func.count()).select_from(tracts).where(*where, tracts.c.status.in_([LP, SOLVED]))
    begun = int(connection.execute(query).scalar_one())
    moves.move(connection, tracts, CHANGE_TABLES, where, moves.ANEW | moves.NO_LP | moves.NO_SOL, NEW)
    moves.move(connection, tracts, CHANGE_TABLES, where, moves.NO_LP | moves.NO_SOL)  # in quarantine: what failed is kept
    moves.move(connection, counties, CHANGE_TABLES, sql.narrow(counties, place), moves.ANEW | moves.NO_CSV, OPEN)
    return begun


def retry_quarantined(connection: Connection, tables: ExperimentTables, place: Place) -> int:
    """See ``Ledger.retry_quarantined``."""
    table, counties = tables.tracts, tables.counties
    anew = moves.ANEW | moves.NO_LP | moves.NO_SOL
    back = moves.move(connection, table, RETRY, sql.narrow(table, place), anew, NEW)
    if place.tracts is None:
        back += moves.move(connection, counties, RETRY, sql.narrow(counties, place), moves.ANEW, OPEN)
        back += certain.retry(connection, tables, place)
    return back
