"""Putting finished or quarantined work back, for ``dbrecon.ledger.ledger`` alone."""

from sqlalchemy import Connection, and_, func, or_, select, update

from dbrecon.ledger import claiming as sql
from dbrecon.ledger.records import EMPTY, LP, NEW, OPEN, QUARANTINED, SOLVED, WRITTEN
from dbrecon.ledger.schema import ExperimentTables
from dbrecon.place import Place


def finished(connection: Connection, tables: ExperimentTables, place: Place) -> tuple[int, int]:
    """How many solved tracts and how many written counties a place has."""
    found = []
    for table, status in ((tables.tracts, SOLVED), (tables.counties, WRITTEN)):
        where = [table.c.status == status, *sql.narrow(table, place)]
        found.append(int(connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()))
    return found[0], found[1]


def reset(connection: Connection, tables: ExperimentTables, step: int, place: Place) -> int:
    """See ``Ledger.reset``."""
    table, counties = tables.tracts, tables.counties
    if step == 3:
        which, values = table.c.status != EMPTY, sql.ANEW | {"status": NEW} | sql.NO_LP | sql.NO_SOL
    else:
        made = and_(table.c.status == QUARANTINED, table.c.lp_end.is_not(None))
        which, values = or_(table.c.status.in_([LP, SOLVED]), made), sql.ANEW | {"status": LP} | sql.NO_SOL
    done = 0
    if step != 5:
        done = connection.execute(update(table).where(which, *sql.narrow(table, place)).values(values)).rowcount
    reopened = sql.ANEW | {"status": OPEN, "csv_start": None, "csv_end": None, "csv_host": None}
    there = [counties.c.status != EMPTY, *sql.narrow(counties, place)]
    closed = connection.execute(update(counties).where(*there).values(reopened)).rowcount
    return closed if step == 5 else done


def retry_quarantined(connection: Connection, tables: ExperimentTables, place: Place) -> int:
    """See ``Ledger.retry_quarantined``."""
    table, counties = tables.tracts, tables.counties
    which = [table.c.status == QUARANTINED, *sql.narrow(table, place)]
    anew = sql.ANEW | {"status": NEW} | sql.NO_LP | sql.NO_SOL
    back = connection.execute(update(table).where(*which).values(anew)).rowcount
    if place.tracts is None:
        which = [counties.c.status == QUARANTINED, *sql.narrow(counties, place)]
        back += connection.execute(update(counties).where(*which).values(sql.ANEW | {"status": OPEN})).rowcount
    return back
