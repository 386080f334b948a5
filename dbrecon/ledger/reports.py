"""What the ledger tells: progress, work left, errors, load. For ``dbrecon.ledger.ledger`` alone; nothing here changes a tract."""

import logging
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, case, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from dbrecon.ctools.terminal import printable
from dbrecon.ledger import certain
from dbrecon.ledger.claiming import by_index, county_names, index_for, narrow
from dbrecon.ledger.holders import holders
from dbrecon.ledger.lifecycle import FREE, LEASED, RESTING
from dbrecon.ledger.moves import Condition
from dbrecon.ledger.records import (
    EMPTY,
    FOUND,
    LP,
    NEW,
    OPEN,
    QUARANTINED,
    SOLVED,
    WRITTEN,
    Beats,
    ErrorEntry,
    ErrorReport,
    InProgress,
    Maker,
    Quarantine,
    Status,
    SysLoad,
    SysLoadEntry,
    Work,
)
from dbrecon.ledger.schema import ExperimentTables, error_texts, sysload
from dbrecon.ledger.schema import errors as errors_table
from dbrecon.place import Place

log = logging.getLogger(__name__)
HOUR = 3600
PIECE = 1 << 20  # characters; at most 8 MiB in a statement, half of the smallest usual max_allowed_packet
QUARANTINED_SHOWN = 1000
TEXT_FIELDS = ("message", "file", "stack")


# -- progress -----------------------------------------------------------------------------------------------------------


SHORT_SECONDS = 60
"""Solutions that are no farther apart than this count as one stretch of work: schedulers start, claim and read in between."""


def status(connection: Connection, tables: ExperimentTables, now: ColumnElement[int], place: Place, beats: Beats) -> Status:
    """Return all of ``--status``, of a place. Sums come from indexes that hold every column they need."""
    at = int(connection.execute(select(now)).scalar_one())
    tracts = tables.tracts
    counts, people = _by_status(connection, tracts, place)
    held = _held(connection, tracts, place)
    silent = tuple(holder for holder in holders(connection, tables, at, beats) if holder.silent)
    lp_held = [row for row in held if row.status == NEW]
    without_sol = (tracts.c.status == QUARANTINED, tracts.c.lp_end.is_not(None), *narrow(tracts, place))
    quarantined_lp = _count(connection, tracts, *without_sol, index=index_for(place))
    with_people = sum(counts.values()) - counts.get(EMPTY, 0)
    lp_created = counts.get(LP, 0) + counts.get(SOLVED, 0) + quarantined_lp
    csv_completed, county_quarantined, completed = _counties(connection, tables, place)
    of_silent = {holder.host for holder in silent}
    working = [row for row in held if row.hold_ends > at and row.claimed_host not in of_silent]
    since = min((row.claimed_at for row in working), default=None)
    rate = _people_per_second(connection, tracts, at, place, since)
    return Status(
        now=at,
        completed_states=completed,
        lp_created=lp_created,
        lp_remaining=with_people - lp_created,
        lp_in_process=sum(row.hold_ends > at for row in lp_held),
        lp_hostlocked=sum(row.hold_ends <= at for row in lp_held),
        sol_created=counts.get(SOLVED, 0),
        sol_remaining=with_people - counts.get(SOLVED, 0),
        sol_ready=counts.get(LP, 0),
        csv_completed=csv_completed,
        csv_remaining=with_people - csv_completed,
        lps_in_progress=_in_progress(held, NEW, at),
        sols_in_progress=_in_progress(held, LP, at),
        lps_past_hour=_past_hour(connection, tracts, "lp", at, place),
        sols_past_hour=_past_hour(connection, tracts, "sol", at, place),
        quarantined=_quarantined(connection, tables, place),
        quarantined_tracts=counts.get(QUARANTINED, 0),
        quarantined_counties=county_quarantined,
        people=sum(people.values()),
        people_solved=people.get(SOLVED, 0),
        people_quarantined=people.get(QUARANTINED, 0),
        people_per_hour=None if rate is None else rate * HOUR,
        seconds_left=_seconds_left(people.get(NEW, 0) + people.get(LP, 0), rate, held, of_silent, at) if working else None,
        at_work=bool(working),
        silent=silent,
        certainty=certain.status(connection, tables, place, at),
    )


def _seconds_left(people: int, rate: float | None, held: Sequence[Any], silent: Collection[str], at: int) -> float | None:
    """Until all is solved, if those who work go on as they do. What silent hosts hold begins when their leases end."""
    if rate is None:
        return None
    stuck: list[Any] = [row for row in held if row.claimed_host in silent and row.hold_ends > at]
    wait = max((row.hold_ends - at for row in stuck), default=0)
    return float(max(people / rate, wait + sum(row.pop for row in stuck) / rate))


def _by_status(connection: Connection, tracts: Table, place: Place) -> tuple[dict[str, int], dict[str, int]]:
    """Return tracts and people of each status."""
    query = select(tracts.c.status, func.count(), func.sum(tracts.c.pop)).group_by(tracts.c.status)
    rows = connection.execute(by_index(query.where(*narrow(tracts, place)), tracts, index_for(place))).all()
    return {row[0]: int(row[1]) for row in rows}, {row[0]: int(row[2]) for row in rows}


def _count(connection: Connection, table: Table, *which: Condition, index: str) -> int:
    query = by_index(select(func.count()).select_from(table).where(*which), table, index)
    return int(connection.execute(query).scalar_one())


def _held(connection: Connection, tracts: Table, place: Place) -> Sequence[Any]:
    names = ("stusab", "county", "tract", "pop", "status", "claimed_host", "claimed_at", "hold_ends")
    query = select(*(tracts.c[name] for name in names)).where(tracts.c.hold == LEASED)
    query = query.where(*narrow(tracts, place)).order_by(tracts.c.stusab, tracts.c.county, tracts.c.tract)
    return connection.execute(by_index(query, tracts, "hold")).all()


def _in_progress(held: Sequence[Any], status: str, at: int) -> tuple[InProgress, ...]:
    return tuple(
        InProgress(row.stusab, row.county, row.tract, row.pop, row.claimed_host, row.claimed_at)
        for row in held
        if row.status == status and row.hold_ends > at
    )


def _counties(connection: Connection, tables: ExperimentTables, place: Place) -> tuple[int, int, tuple[str, ...]]:
    """Return tracts with people in counties whose people are written; quarantined counties; states of which all are written."""
    counties = tables.counties
    done = func.sum(case((counties.c.status == WRITTEN, counties.c.tracts), else_=0))
    bad = func.sum(case((counties.c.status == QUARANTINED, 1), else_=0))
    unwritten = func.sum(case((counties.c.status.in_([OPEN, QUARANTINED]), 1), else_=0))
    query = select(counties.c.stusab, done, bad, unwritten).group_by(counties.c.stusab).order_by(counties.c.stusab)
    rows = connection.execute(query.where(*narrow(counties, place))).all()
    completed = () if place.county else tuple(row[0] for row in rows if row[3] == 0)
    return int(sum(row[1] for row in rows)), int(sum(row[2] for row in rows)), completed


def _past_hour(connection: Connection, tracts: Table, step: str, at: int, place: Place) -> tuple[tuple[str, int], ...]:
    """Return (host, files) of step "lp" or "sol"."""
    end, host = tracts.c[f"{step}_end"], tracts.c[f"{step}_host"]
    query = select(host, func.count()).where(end > at - HOUR, host != FOUND, *narrow(tracts, place)).group_by(host).order_by(host)
    return tuple((row[0], int(row[1])) for row in connection.execute(by_index(query, tracts, step)))


def _people_per_second(connection: Connection, tracts: Table, at: int, place: Place, since: int | None) -> float | None:
    """Over the time of the past hour in which somebody worked: from the claim of a tract to its solution, and ``since`` those
    who work now have claimed theirs (None: nobody works).

    The first second's people began before it, so they are left out; None if there are no others.
    """
    end, minute = tracts.c.sol_end, tracts.c.sol_end // 60
    recent = and_(end > at - HOUR, end <= at, tracts.c.sol_host != FOUND, *narrow(tracts, place))  # a clock may have been set back
    by_minute = select(func.min(end), func.max(end), func.sum(tracts.c.pop)).where(recent).group_by(minute).order_by(minute)
    rows = connection.execute(by_index(by_minute, tracts, "sol")).all()
    if not rows:
        return None
    moments = [(int(row[0]), int(row[1])) for row in rows]
    begun: Sequence[int] = [begin for begin, _ in moments]
    if any(later[0] - earlier[1] > SHORT_SECONDS for earlier, later in pairwise(moments)):
        # Only now is the index left: the claim's number is its second (see moves.lease).
        claimed = select(func.min(tracts.c.fence)).where(recent).group_by(minute).order_by(minute)
        begun = [int(row[0]) for row in connection.execute(by_index(claimed, tracts, "sol"))]
    worked = worked_seconds(moments, begun, since, at)
    at_first = select(func.sum(tracts.c.pop)).where(recent, end == moments[0][0])
    solved = sum(int(row[2]) for row in rows) - int(connection.execute(by_index(at_first, tracts, "sol")).scalar_one())
    return solved / worked if solved and worked else None


def worked_seconds(moments: Sequence[tuple[int, int]], begun: Sequence[int], since: int | None, at: int) -> int:
    """Return the seconds in which somebody worked, from the first solution to ``at``.

    ``moments`` are the first and last solutions of some minutes in order, ``begun`` when the earliest work on those of each began,
    ``since`` that of the work that has not ended (None: there is none). What ends later may have begun before an earlier pause.
    """
    worked, earliest, later = 0, at if since is None else since, at if since is not None else None
    for (first, last), start in zip(reversed(moments), reversed(begun), strict=True):
        if later is not None:
            pause = max(0, later - last)
            worked += pause if pause <= SHORT_SECONDS else min(pause, max(0, later - earliest))
        worked += last - first
        earliest, later = min(earliest, start), first
    return worked


def _quarantined(connection: Connection, tables: ExperimentTables, place: Place) -> tuple[Quarantine, ...]:
    rows: list[tuple[str, Row[Any]]] = []
    for table in (tables.tracts, tables.counties, tables.certainty):
        query = select(table).where(table.c.status == QUARANTINED, *narrow(table, place)).order_by(*table.primary_key.columns)
        for row in connection.execute(by_index(query.limit(QUARANTINED_SHOWN), table, "free")):
            rows.append((row.tract if "tract" in table.c else "", row))
    names = county_names(connection, tables, place) if rows else {}
    return tuple(
        Quarantine(row.stusab, row.county, tract, row.pop, row.attempts, row.error or "", names.get((row.stusab, row.county), ""))
        for tract, row in rows
    )


def work_left(
    connection: Connection,
    tables: ExperimentTables,
    now: ColumnElement[int],
    steps: Collection[int],
    places: tuple[list[Condition], list[Condition]],
    index: str,
    closable: Select[Any],
) -> Work:
    """See ``Ledger.work_left``. ``places`` narrow tracts and counties, ``index`` is that of the tracts' place, ``closable``
    selects counties that can be closed."""
    at = int(connection.execute(select(now)).scalar_one())
    tracts, counties = tables.tracts, tables.counties
    statuses = [status for step, status in ((3, NEW), (4, LP)) if step in steps]
    claimable, running, waiting = _states(connection, tracts, at, index, tracts.c.status.in_(statuses), *places[0])
    found = connection.execute(closable).all() if 5 in steps else []
    bad = _count(connection, counties, counties.c.status == QUARANTINED, *places[1], index="free") if 5 in steps else 0
    return Work(
        claimable=claimable,
        running=running,
        waiting=waiting,
        counties_claimable=sum(row.hold == FREE or row.hold_ends <= at for row in found),
        counties_running=sum(row.hold == LEASED and row.hold_ends > at for row in found),
        counties_waiting=sum(row.hold == RESTING and row.hold_ends > at for row in found),
        quarantined=_count(connection, tracts, tracts.c.status == QUARANTINED, *places[0], index=index),
        counties_quarantined=bad,
    )


def _states(connection: Connection, table: Table, at: int, index: str, *which: Condition) -> tuple[int, int, int]:
    """Return how many rows are free (or held by a lease that is over), held, and resting."""
    free = _count(connection, table, table.c.hold == FREE, *which, index=index)
    query = select(table.c.hold, table.c.hold_ends).where(table.c.hold.in_([LEASED, RESTING]), *which)
    held = connection.execute(by_index(query, table, "hold")).all()
    running = sum(row.hold == LEASED and row.hold_ends > at for row in held)
    resting = sum(row.hold == RESTING and row.hold_ends > at for row in held)
    return free + len(held) - running - resting, running, resting


# -- errors -------------------------------------------------------------------------------------------------------------


def storable(text: str) -> str:
    """Return the text without what a database refuses (lone surrogates of undecodable file names, NUL) or a terminal obeys, written
    as escapes."""
    return printable(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def insert_error(connection: Connection, uid: str, now: ColumnElement[int], report: ErrorReport) -> None:
    """Keep an error once, however often this runs with the same ``uid``."""
    found = connection.execute(select(errors_table.c.id).where(errors_table.c.uid == uid)).first()
    if found is not None:
        return
    values = {name: storable(getattr(report, name))[:20] for name in ("stusab", "county", "tract")}
    values |= {"reident": report.reident, "host": storable(report.host)[:255]}
    row = insert(errors_table).values(uid=uid, at=now, pid=report.pid, line=report.line, **values)
    primary_key = connection.execute(row).inserted_primary_key
    assert primary_key is not None  # both databases give it
    for field in TEXT_FIELDS:
        text = storable(getattr(report, field))
        for piece, start in enumerate(range(0, len(text), PIECE)):
            part = {"error_id": primary_key[0], "field": field, "piece": piece, "text": text[start : start + PIECE]}
            connection.execute(insert(error_texts).values(part))


def makers(connection: Connection, tables: ExperimentTables) -> list[Maker]:
    """By what the solutions were made, and how many by each, most first."""
    by = tables.tracts.c.solver, tables.tracts.c.sol_seed, tables.tracts.c.sol_program
    number = func.count().label("tracts")
    query = select(*by, number).where(tables.tracts.c.status == SOLVED).group_by(*by).order_by(number.desc(), *by)
    return [Maker(solver or "", seed, program or "", tracts) for solver, seed, program, tracts in connection.execute(query).all()]


def errors(connection: Connection, reident: str | None, limit: int) -> list[ErrorEntry]:
    """Return the newest errors, newest first."""
    query = select(errors_table).order_by(errors_table.c.id.desc()).limit(limit)
    if reident is not None:
        query = query.where(errors_table.c.reident == reident)
    return [_entry(connection, row) for row in connection.execute(query).all()]


def _entry(connection: Connection, row: Any) -> ErrorEntry:
    pieces = select(error_texts.c.field, error_texts.c.text).where(error_texts.c.error_id == row.id)
    texts = dict.fromkeys(TEXT_FIELDS, "")
    for field, text in connection.execute(pieces.order_by(error_texts.c.field, error_texts.c.piece)):
        texts[field] += text
    place = {"stusab": row.stusab, "county": row.county, "tract": row.tract}
    report = ErrorReport(reident=row.reident, host=row.host, pid=row.pid, line=row.line, **texts, **place)
    return ErrorEntry(row.id, row.at, report)


def delete_errors(connection: Connection, reident: str) -> None:
    """Forgets an experiment's errors."""
    ids = select(errors_table.c.id).where(errors_table.c.reident == reident)
    connection.execute(delete(error_texts).where(error_texts.c.error_id.in_(ids)))
    connection.execute(delete(errors_table).where(errors_table.c.reident == reident))


# -- load ---------------------------------------------------------------------------------------------------------------


def insert_sysload(connection: Connection, now: ColumnElement[int], load: SysLoad, keep_seconds: int) -> None:
    """Enter a node's report; the last one of a second stays."""
    at = int(connection.execute(select(now)).scalar_one())
    of_host = sysload.c.host == load.host
    connection.execute(delete(sysload).where(of_host, (sysload.c.at < at - keep_seconds) | (sysload.c.at == at)))
    values = {name: getattr(load, name) for name in SysLoad.__dataclass_fields__}
    try:
        connection.execute(insert(sysload).values(at=at, **values))
    except IntegrityError:
        # Another process of this host reported in this second. No savepoint: MySQL undoes the statement alone, and with a
        # deadlock it would undo the savepoint too, and hide the deadlock behind its loss.
        log.debug("%s has reported already", load.host)


def newest_sysload(connection: Connection) -> list[SysLoadEntry]:
    """Return the newest report of every host."""
    newest = select(sysload.c.host, func.max(sysload.c.at).label("at")).group_by(sysload.c.host).subquery()
    query = select(sysload).join(newest, and_(sysload.c.host == newest.c.host, sysload.c.at == newest.c.at))
    rows = connection.execute(query.order_by(sysload.c.host)).all()
    return [SysLoadEntry(row.at, SysLoad(*(getattr(row, name) for name in SysLoad.__dataclass_fields__))) for row in rows]
