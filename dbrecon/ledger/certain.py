"""The SQL of step 6's work, for ``dbrecon.ledger.ledger`` alone: which tracts' certainty is to be computed, of which people.

A county whose people are written has a row for each tract with people, and one of its own (its ``tract`` is ``COUNTY_FILES``),
which is to be done when all its tracts are. A row says of which file of people it is; when another is written it begins anew.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, literal, or_, select
from sqlalchemy.sql.elements import ColumnElement as Element

from dbrecon.ledger import claiming as sql
from dbrecon.ledger import moves
from dbrecon.ledger.lifecycle import (
    CERTAIN,
    CHANGE_PEOPLE,
    FREE,
    LEASED,
    NEW,
    QUARANTINED,
    RESCAN,
    RESET_CERTAINTY,
    RESTING,
    RETRY,
    WRITTEN,
)
from dbrecon.ledger.records import COUNTY_FILES, CertaintyClaim, CertaintyStatus, CountyDigests, Worker
from dbrecon.ledger.schema import ExperimentTables
from dbrecon.place import Place

Conditions = list[ColumnElement[bool]]


def enter(connection: Connection, tables: ExperimentTables, place: Place) -> None:
    """Enter rows for the counties that are written and have none, and begin anew those whose people have been written anew."""
    for county in connection.execute(_not_entered(tables, place)).all():
        where = sql.narrow(tables.certainty, Place(county.stusab, county.county))
        begun = connection.execute(select(tables.certainty.c.tract).where(*where).limit(1)).first()
        if begun is not None:
            values = moves.ANEW | moves.NO_CERTAINTY | {"people_digest": county.csv_digest or ""}
            moves.move(connection, tables.certainty, CHANGE_PEOPLE, where, values, NEW)
            continue
        names = ["stusab", "state", "county", "tract", "pop", "status", "hold", "attempts", "lost", "fence", "people_digest"]
        tracts, digest = tables.tracts, county.csv_digest or ""
        columns: list[Any] = [tracts.c[name] for name in names[:5]]
        columns += [literal(NEW), literal(FREE), literal(0), literal(0), tracts.c.fence, literal(digest)]
        rows = select(*columns).where(*sql.narrow(tracts, Place(county.stusab, county.county)), tracts.c.pop > 0)
        own = (county.stusab, county.state, county.county, COUNTY_FILES, 0, NEW, FREE, 0, 0, county.fence, digest)
        # Another node may enter them at the same time.
        add = insert(tables.certainty).prefix_with("IGNORE", dialect="mysql").prefix_with("OR IGNORE", dialect="sqlite")
        connection.execute(add.from_select(names, rows))
        connection.execute(add.values(dict(zip(names, own, strict=True))))


def _not_entered(tables: ExperimentTables, place: Place) -> Any:
    """Return the counties whose people are written, and certainty's rows lack or are of other people."""
    counties, own = tables.counties, tables.certainty
    joined = and_(own.c.stusab == counties.c.stusab, own.c.county == counties.c.county, own.c.tract == COUNTY_FILES)
    query = select(counties).select_from(counties.outerjoin(own, joined))
    other = or_(own.c.people_digest.is_(None), own.c.people_digest != func.coalesce(counties.c.csv_digest, ""))
    return query.where(counties.c.status == WRITTEN, other, *sql.narrow(counties, place))


def _is_written(tables: ExperimentTables) -> Element[bool]:
    """Return whether the people of a row's county are written, and are those that the row is of."""
    counties, own = tables.counties, tables.certainty
    here = and_(counties.c.stusab == own.c.stusab, counties.c.county == own.c.county)
    same = func.coalesce(counties.c.csv_digest, "") == own.c.people_digest
    return select(counties.c.county).where(here, counties.c.status == WRITTEN, same).exists()


def ready_counties(tables: ExperimentTables, place: Place) -> Conditions:
    """Return the counties' own rows that can be done: every tract is."""
    own, tracts = tables.certainty, tables.certainty.alias("of_tracts")
    of_county_tracts = and_(tracts.c.stusab == own.c.stusab, tracts.c.county == own.c.county, tracts.c.tract != COUNTY_FILES)
    undone = select(tracts.c.tract).where(of_county_tracts, tracts.c.status != CERTAIN).exists()
    return [own.c.tract == COUNTY_FILES, ~undone, _is_written(tables), *sql.narrow(own, Place(place.stusab, place.county))]


def claimable_tracts(tables: ExperimentTables, place: Place, max_pop: int | None = None) -> Conditions:
    """Return the tracts' rows that can be done."""
    own = tables.certainty
    room = [] if max_pop is None else [own.c.pop <= max_pop]
    return [own.c.tract != COUNTY_FILES, _is_written(tables), *room, *sql.narrow(own, place)]


def take(
    connection: Connection, tables: ExperimentTables, place: Place, limit: int, ascending: bool, max_pop: int | None
) -> Sequence[Row[Any]]:
    """Free rows of one county, locked: a county's own, or ``limit`` of its tracts at the most."""
    own = tables.certainty
    county = sql.biggest(connection, own, [NEW], ready_counties(tables, place), 1, ascending, "free")
    if county:
        return county
    wanted = claimable_tracts(tables, place, max_pop)
    best = sql.biggest(connection, own, [NEW], wanted, 1, ascending, "free")
    if not best:
        return []
    here = [*wanted, own.c.stusab == best[0].stusab, own.c.county == best[0].county]
    more = sql.biggest(connection, own, [NEW], here, limit, ascending, "free")
    return [best[0], *(row for row in more if row.tract != best[0].tract)][:limit]


def claim_of(
    reident: str, row: Row[Any], worker: Worker, token: str, fence: int, tracts: tuple[str, ...], files: CountyDigests | None
) -> CertaintyClaim:
    """Return a claimed row; ``tracts`` are those of a county whose files are to be written, ``files`` its accepted tables."""
    return CertaintyClaim(
        reident, row.stusab, row.state, row.county, row.tract, row.pop, row.status, row.attempts, worker, token, fence,
        county_files=files, tracts=tracts, people_digest=row.people_digest or "",
    )  # fmt: skip


def tracts_of(connection: Connection, tables: ExperimentTables, row: Row[Any]) -> tuple[str, ...]:
    """Return the tracts with people of a county's own row, ascending; none for a tract's."""
    if row.tract != COUNTY_FILES:
        return ()
    own = tables.certainty
    query = select(own.c.tract).where(*sql.narrow(own, Place(row.stusab, row.county)), own.c.tract != COUNTY_FILES)
    return tuple(connection.execute(query.order_by(own.c.tract)).scalars())


def left(connection: Connection, tables: ExperimentTables, place: Place, at: int) -> tuple[int, int, int, int]:
    """How many rows can be claimed now or will be (those of counties that are not entered yet too), are held, rest, and are in
    quarantine."""
    own = tables.certainty
    of_county = and_(own.c.tract == COUNTY_FILES, _is_written(tables), *sql.narrow(own, place))
    claimable = or_(and_(*claimable_tracts(tables, place)), of_county)
    rows = connection.execute(select(own.c.hold, own.c.hold_ends).where(own.c.status == NEW, claimable)).all()
    running = sum(row.hold == LEASED and row.hold_ends > at for row in rows)
    resting = sum(row.hold == RESTING and row.hold_ends > at for row in rows)
    # A county waits for its tracts; where one of them is in quarantine it waits for an operator.
    stuck = connection.execute(select(func.count()).select_from(own).where(*_stuck(tables, place))).scalar_one()
    entered_later = len(connection.execute(_not_entered(tables, place)).all())
    quarantined = select(func.count()).select_from(own).where(own.c.status == QUARANTINED, *sql.narrow(own, place))
    bad = int(connection.execute(quarantined).scalar_one())
    return len(rows) - running - resting - int(stuck) + entered_later, running, resting, bad


def _stuck(tables: ExperimentTables, place: Place) -> Conditions:
    own, tracts = tables.certainty, tables.certainty.alias("of_tracts")
    of_county_tracts = and_(tracts.c.stusab == own.c.stusab, tracts.c.county == own.c.county, tracts.c.tract != COUNTY_FILES)
    bad = select(tracts.c.tract).where(of_county_tracts, tracts.c.status == QUARANTINED).exists()
    return [own.c.tract == COUNTY_FILES, own.c.status == NEW, own.c.hold == FREE, bad, _is_written(tables), *sql.narrow(own, place)]


def status(connection: Connection, tables: ExperimentTables, place: Place, at: int) -> CertaintyStatus:
    """Return how far the certainty of a place is, where it has begun, of the people as they are."""
    own = tables.certainty
    where = [_is_written(tables), *sql.narrow(own, Place(place.stusab, place.county))]
    columns = [own.c.tract == COUNTY_FILES, own.c.status, and_(own.c.hold == LEASED, own.c.hold_ends > at)]
    rows = connection.execute(select(*columns, func.count()).where(*where).group_by(*columns)).all()
    tracts = [(row[1], bool(row[2]), int(row[3])) for row in rows if not row[0]]
    counties = [(row[1], int(row[3])) for row in rows if row[0]]
    return CertaintyStatus(
        created=sum(number for state, _, number in tracts if state == CERTAIN),
        remaining=sum(number for state, _, number in tracts if state != CERTAIN),
        in_process=sum(number for _, held, number in tracts if held),
        quarantined=sum(number for state, _, number in tracts if state == QUARANTINED),
        counties_created=sum(number for state, number in counties if state == CERTAIN),
        counties_remaining=sum(number for state, number in counties if state != CERTAIN),
        counties_quarantined=sum(number for state, number in counties if state == QUARANTINED),
    )


def mark(
    connection: Connection, tables: ExperimentTables, place: Place, event: str, people_digest: str, host: str, now: int
) -> int:
    """Enter that a county's files of certainty are in place, of people with that digest ("": not known). How many rows did not say
    so."""
    own = tables.certainty
    free = or_(own.c.hold != LEASED, own.c.hold_ends <= now)
    same = [own.c.people_digest.in_(("", people_digest))] if people_digest else []
    values = moves.ANEW | {"sure_start": now, "sure_end": now, "sure_host": host}
    where = [free, *same, _is_written(tables), *sql.narrow(own, place)]
    return moves.move(connection, own, event, where, values, CERTAIN)


def unmark(connection: Connection, tables: ExperimentTables, place: Place) -> int:
    """Enter that a county's files of certainty are not what they should be: they are made again, of records that match. How many
    rows."""
    values = moves.ANEW | moves.NO_CERTAINTY
    return moves.move(connection, tables.certainty, RESCAN, sql.narrow(tables.certainty, place), values, NEW)


def county_row(connection: Connection, tables: ExperimentTables, place: Place) -> Row[Any] | None:
    """Return the row of a county's own files; None if step 6 has not begun there."""
    own = tables.certainty
    return connection.execute(select(own).where(*sql.narrow(own, place), own.c.tract == COUNTY_FILES)).first()


def complete(connection: Connection, tables: ExperimentTables, place: Place) -> list[tuple[str, str]]:
    """Return state and county of those whose files of certainty are in place."""
    own = tables.certainty
    where = [own.c.tract == COUNTY_FILES, own.c.status == CERTAIN, *sql.narrow(own, Place(place.stusab, place.county))]
    query = select(own.c.stusab, own.c.county).where(*where).order_by(own.c.stusab, own.c.county)
    return [(row.stusab, row.county) for row in connection.execute(query)]


def certain_since(connection: Connection, tables: ExperimentTables) -> dict[tuple[str, str], int]:
    """Return state and county whose files of certainty are in place, of the people as they are: since when."""
    own = tables.certainty
    where = [own.c.tract == COUNTY_FILES, own.c.status == CERTAIN, _is_written(tables)]
    rows = connection.execute(select(own.c.stusab, own.c.county, own.c.sure_end).where(*where))
    return {(row.stusab, row.county): int(row.sure_end or 0) for row in rows}


def reset(connection: Connection, tables: ExperimentTables, place: Place) -> int:
    """For --force: the certainty of a place is computed anew. How many rows."""
    values = moves.ANEW | moves.NO_CERTAINTY
    own = tables.certainty
    return moves.move(connection, own, RESET_CERTAINTY, sql.narrow(own, place), values, NEW)


def retry(connection: Connection, tables: ExperimentTables, place: Place) -> int:
    """Put what is in quarantine back to work. How many rows."""
    values = moves.ANEW | moves.NO_CERTAINTY
    return moves.move(connection, tables.certainty, RETRY, sql.narrow(tables.certainty, place), values, NEW)
