"""What the dashboard reads, and nothing that writes: sums over indexes, in read-only transactions on one state of the data.

The database's user needs no right but SELECT. All times are Unix time; rows come as plain dicts, ready for JSON.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Select, Table, and_, event, func, select

from dbrecon.ctools.database import Database, NoSuchTable, describe, is_mysql
from dbrecon.errors import DBReconError
from dbrecon.ledger import certain as ledger_certain
from dbrecon.ledger import migrations
from dbrecon.ledger import registry as ledger_experiments
from dbrecon.ledger import reports as ledger_reports
from dbrecon.ledger.claiming import by_index
from dbrecon.ledger.holders import holders, is_silent, last_reports
from dbrecon.ledger.lifecycle import ENTERED, LEASED
from dbrecon.ledger.records import FOUND, LP, NEW, OPEN, QUARANTINED, SOLVED, Beats, Status
from dbrecon.ledger.schema import ExperimentTables, error_texts, experiment_tables, sysload
from dbrecon.ledger.schema import errors as errors_table
from dbrecon.place import EVERYWHERE

Json = dict[str, Any]
T = TypeVar("T")

CONNECT_SECONDS = 3
VERSION_SECONDS = 60  # how often the version of the tables is looked at
READ_SECONDS = 20  # of one statement: a database that is cut off must not hold the page for minutes
ERRORS_SEARCHED = 5000  # the newest errors of all experiments, in which one experiment's are looked for
SLOWEST_SHOWN = 20
HISTORY_SECONDS = 3600
HISTORY_STEP = 120
COUNTY_LEVEL, TRACT_LEVEL = "050", "140"  # of the geographic header's records
LIST_TEXT = 400  # characters of an error in a list
WHOLE_TEXT = 100_000  # characters of each text of one error

_TRACT = (
    "stusab", "county", "tract", "pop", "status", "attempts", "lost", "claimed_host", "claimed_at", "hold", "hold_ends", "lp_start",
    "lp_end", "lp_host", "lp_seconds", "sol_start", "sol_end", "sol_host", "solve_seconds", "solver", "variables", "constraints",
    "nonzeros", "memory_mib",
)  # fmt: skip
_COUNTY = (
    "stusab", "state", "county", "name", "tracts", "pop", "status", "attempts", "claimed_host", "claimed_at", "hold",
    "hold_ends",
    "csv_start", "csv_end", "csv_host",
)  # fmt: skip


class NothingThere(DBReconError):
    """An experiment or a place was asked for that the database does not have."""

    exit_code = 3


@dataclass(frozen=True)
class Overview:
    """An experiment as a whole. ``processor_seconds``: of the tracts and counties that are done, by step."""

    tables: str
    product: str
    created: int
    states: tuple[str, ...]
    status: Status
    slowest: list[Json]
    processor_seconds: dict[str, float]


@dataclass(frozen=True)
class Page:
    """All that an experiment's page shows, of one moment: ``overview.status.now``. ``throughput`` is (start, step, rows)."""

    overview: Overview
    counties: list[Json]
    hosts: list[Json]
    throughput: tuple[int, int, list[Json]]
    errors: list[Json]


class DashboardReader:
    """Queries for the dashboard. ``engine`` becomes its own: it is made read-only, with short timeouts. ``beats`` say when a host
    counts as gone."""

    def __init__(self, engine: Engine, beats: Beats = Beats()) -> None:  # noqa: B008 - it is frozen
        self._mysql, self._beats, self._place = is_mysql(engine), beats, describe(engine)
        self._version_checked = float("-inf")
        self._database = Database(_read_only(engine))

    def experiments(self) -> tuple[int, list[Json]]:
        """Return the time, and every experiment, oldest first, with its tracts and people in all and solved."""

        def work(connection: Connection) -> tuple[int, list[Json]]:
            now = self._now(connection)
            return now, [
                asdict(row) | _progress(connection, experiment_tables(row.reident), now)
                for row in ledger_experiments.registered(connection)
            ]

        try:
            return self._read(work)
        except NoSuchTable:  # nobody has registered one yet, or one was dropped just now
            return self._read(lambda connection: (self._now(connection), []))

    def overview(self, reident: str) -> Overview:
        """Return everything that --status tells, what it has cost, and the tracts whose solution took longest."""

        return self._of(reident, lambda connection, tables: self._overview(connection, tables, reident))

    def page(self, reident: str, seconds: int | None, steps: Sequence[int], most: int, errors: int) -> Page:
        """Return what :meth:`overview`, :meth:`counties`, :meth:`hosts`, :meth:`throughput` and :meth:`errors` tell, of one
        moment."""

        def work(connection: Connection, tables: ExperimentTables) -> Page:
            overview = self._overview(connection, tables, reident)
            now = overview.status.now
            return Page(
                overview=overview,
                counties=_counties(connection, tables, now),
                hosts=_hosts(connection, tables, now, self._beats),
                throughput=_throughput(connection, tables.tracts, now, seconds, steps, most),
                errors=_errors(connection, reident, errors, []),
            )

        return self._of(reident, work)

    def _overview(self, connection: Connection, tables: ExperimentTables, reident: str) -> Overview:
        row = next(row for row in ledger_experiments.registered(connection) if row.reident == reident)
        loaded = select(tables.states.c.stusab).where(tables.states.c.status == ENTERED).order_by(tables.states.c.stusab)
        return Overview(
            tables=row.tables,
            product=row.product,
            created=row.created,
            states=tuple(connection.execute(loaded).scalars()),
            status=ledger_reports.status(connection, tables, self._database.now(), EVERYWHERE, self._beats),
            slowest=_slowest(connection, tables.tracts),
            processor_seconds=_processor_seconds(connection, tables),
        )

    def product(self, reident: str) -> str:
        """Return which product the experiment is of."""

        def work(connection: Connection, _tables: ExperimentTables) -> str:
            return next(row.product for row in ledger_experiments.registered(connection) if row.reident == reident)

        return self._of(reident, work)

    def counties(self, reident: str) -> tuple[int, list[Json]]:
        """Return the time, and every county, by state and county, with the numbers of its tracts by status and of its people."""
        return self._of(reident, lambda connection, tables: (now := self._now(connection), _counties(connection, tables, now)))

    def certain_since(self, reident: str) -> tuple[int, dict[tuple[str, str], int]]:
        """Return the time, and the counties whose files of certainty are in place: since when."""
        return self._of(
            reident, lambda connection, tables: (self._now(connection), ledger_certain.certain_since(connection, tables))
        )

    def county(self, reident: str, stusab: str, county: str) -> tuple[int, Json, list[Json]]:
        """Return the time, one county, and its tracts. Raises NothingThere."""

        def work(connection: Connection, tables: ExperimentTables) -> tuple[int, Json, list[Json]]:
            now = self._now(connection)
            found = [tables.counties.c.stusab == stusab, tables.counties.c.county == county]
            names = [tables.counties.c[name] for name in (*_COUNTY, "error")]
            row = connection.execute(select(*names).where(*found)).mappings().first()
            if row is None:
                raise NothingThere(f"{reident} has no county {county} in {stusab}; see its counties for those there are")
            tracts = tables.tracts
            query = select(*(tracts.c[name] for name in _TRACT)).where(tracts.c.stusab == stusab, tracts.c.county == county)
            rows = connection.execute(query.order_by(tracts.c.tract)).mappings()
            return now, _held(dict(row), now), [_held(dict(county), now) for county in rows]

        return self._of(reident, work)

    def people_digest(self, reident: str, stusab: str, county: str) -> str:
        """Return the digest of a county's people that was accepted; "" where there is none."""

        def work(connection: Connection, tables: ExperimentTables) -> str:
            counties = tables.counties
            query = select(counties.c.csv_digest).where(counties.c.stusab == stusab, counties.c.county == county)
            return connection.execute(query).scalar() or ""

        return self._of(reident, work)

    def tract(self, reident: str, stusab: str, county: str, tract: str) -> tuple[int, Json, list[Json]]:
        """Return the time, one tract with its last error, and what the table of errors has of it. Raises NothingThere."""

        def work(connection: Connection, tables: ExperimentTables) -> tuple[int, Json, list[Json]]:
            now, tracts = self._now(connection), tables.tracts
            found = [tracts.c.stusab == stusab, tracts.c.county == county, tracts.c.tract == tract]
            names = [tracts.c[name] for name in (*_TRACT, "error")]
            row = connection.execute(select(*names).where(*found)).mappings().first()
            if row is None:
                raise NothingThere(f"{reident} has no tract {tract} in {stusab} {county}; see the county for those there are")
            place = [errors_table.c.stusab == stusab, errors_table.c.county == county, errors_table.c.tract == tract]
            return now, _held(dict(row), now), _errors(connection, reident, 20, place)

        return self._of(reident, work)

    def unit(self, reident: str, stusab: str, county: str, tract: str = "") -> Json:
        """Return the name of a county or a tract, and a point inside it, as published; None for what is not known.

        It reads the state's records, which have no index but their order: not for pages that ask again and again.
        """

        def work(connection: Connection, tables: ExperimentTables) -> Json:
            geo, level = tables.geo, TRACT_LEVEL if tract else COUNTY_LEVEL
            found = [geo.c.stusab == stusab, geo.c.sumlev == level, geo.c.county == county, geo.c.tract == tract]
            row = connection.execute(select(geo.c.name, geo.c.intptlat, geo.c.intptlon).where(*found)).first()
            if row is None or (row.intptlat, row.intptlon) == (0.0, 0.0):
                return {"name": row.name if row else None, "latitude": None, "longitude": None}
            return {"name": row.name, "latitude": row.intptlat, "longitude": row.intptlon}

        return self._of(reident, work)

    def throughput(self, reident: str, seconds: int | None, steps: Sequence[int], most: int) -> tuple[int, int, int, list[Json]]:
        """LP and SOL files over time by host: (now, start, step, rows of {lp | sol, at, host, files, people}).

        ``seconds`` back from now, or None: from the first file. The step is the first of ``steps`` that gives at most ``most``
        intervals; ``at`` is where an interval begins, a multiple of the step.
        """

        def work(connection: Connection, tables: ExperimentTables) -> tuple[int, int, int, list[Json]]:
            now = self._now(connection)
            return now, *_throughput(connection, tables.tracts, now, seconds, steps, most)

        return self._of(reident, work)

    def hosts(self, reident: str) -> tuple[int, list[Json]]:
        """Return the time, and every host that holds a tract of the experiment, or made a file of it in the past hour."""
        beats = self._beats
        return self._of(reident, lambda connection, tables: (now := self._now(connection), _hosts(connection, tables, now, beats)))

    def errors(self, reident: str, limit: int) -> tuple[int, list[Json]]:
        """Return the time, and the experiment's newest errors without stacks, newest first."""
        return self._of(reident, lambda connection, _tables: (self._now(connection), _errors(connection, reident, limit, [])))

    def error(self, reident: str, number: int) -> tuple[int, Json]:
        """Return the time, and one error with its stack. Raises NothingThere."""

        def work(connection: Connection, _tables: ExperimentTables) -> tuple[int, Json]:
            query = select(errors_table).where(errors_table.c.id == number, errors_table.c.reident == reident)
            rows = connection.execute(query).mappings().all()
            if not rows:
                raise NothingThere(f"{reident} has no error {number}; see its errors for those there are")
            return self._now(connection), _with_texts(connection, rows, ("message", "file", "stack"), WHOLE_TEXT)[0]

        return self._of(reident, work)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _of(self, reident: str, work: Callable[[Connection, ExperimentTables], T]) -> T:
        """Do ``work`` on the tables of an experiment that is registered, else NothingThere."""

        def checked(connection: Connection) -> T:
            names = {row.reident for row in ledger_experiments.registered(connection)}
            if reident not in names:
                raise NothingThere(f"there is no experiment {reident}")
            return work(connection, experiment_tables(reident))

        try:
            return self._read(checked)
        except NoSuchTable:
            raise NothingThere(f"there is no experiment {reident}") from None

    def _read(self, work: Callable[[Connection], T]) -> T:
        def in_one_state(connection: Connection) -> T:
            if self._mysql:
                connection.exec_driver_sql("START TRANSACTION READ ONLY, WITH CONSISTENT SNAPSHOT")
            self._check_version(connection)
            return work(connection)

        return self._database.run(in_one_state, write=False)

    def _check_version(self, connection: Connection) -> None:
        """DatabaseError for tables of another version than this program's; it may be upgraded, or restarted as an older one."""
        if time.monotonic() - self._version_checked > VERSION_SECONDS and migrations.check(connection, self._place):
            self._version_checked = time.monotonic()

    def _now(self, connection: Connection) -> int:
        return int(connection.execute(select(self._database.now())).scalar_one())


def _read_only(engine: Engine) -> Engine:
    """Return the engine with timeouts for a page, on which nothing can be written and a transaction sees one state."""
    if is_mysql(engine):

        @event.listens_for(engine, "do_connect")
        def shorten(_dialect: Any, _record: Any, _arguments: Any, options: Json) -> None:
            options.update(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS)

        return engine.execution_options(isolation_level="REPEATABLE READ")

    @event.listens_for(engine, "connect")
    def forbid_writing(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA query_only = ON")

    return engine


def _progress(connection: Connection, tables: ExperimentTables, now: int) -> Json:
    """Tracts and people in all, solved and in quarantine; counties that can be written, and in quarantine; what is in work."""
    tracts, counties = tables.tracts, tables.counties
    query = select(tracts.c.status, func.count(), func.sum(tracts.c.pop)).group_by(tracts.c.status)
    found = {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(by_index(query, tracts, "free"))}
    with_people = [pair for pair in found.values() if pair[1]]
    bad_places = select(tracts.c.stusab, tracts.c.county).where(tracts.c.status == QUARANTINED).distinct()
    stuck = select(func.count()).select_from(by_index(bad_places, tracts, "free").subquery())
    by_status = select(counties.c.status, func.count()).group_by(counties.c.status)
    of_counties = {row[0]: int(row[1]) for row in connection.execute(by_index(by_status, counties, "free"))}
    holders = _holders(connection, tracts)
    return {
        "tracts": sum(pair[0] for pair in with_people),
        "tracts_solved": found.get(SOLVED, (0, 0))[0],
        "tracts_quarantined": found.get(QUARANTINED, (0, 0))[0],
        "people": sum(pair[1] for pair in with_people),
        "people_solved": found.get(SOLVED, (0, 0))[1],
        "people_quarantined": found.get(QUARANTINED, (0, 0))[1],
        "counties_to_write": of_counties.get(OPEN, 0) - int(connection.execute(stuck).scalar_one()),
        "counties_quarantined": of_counties.get(QUARANTINED, 0),
        "tracts_running": sum(holder.tracts for holder in holders if holder.lease_end > now),
        "hosts": sorted({holder.claimed_host for holder in holders if holder.lease_end > now}),
    }


def _throughput(
    connection: Connection, tracts: Table, now: int, seconds: int | None, steps: Sequence[int], most: int
) -> tuple[int, int, list[Json]]:
    """Return where the time begins, its step, and the files of each interval and host."""
    begin = _first_file(connection, tracts, now) if seconds is None else now - seconds
    step = next((step for step in steps if now - begin <= step * most), steps[-1])
    begin -= begin % step
    return begin, step, [*_files(connection, tracts, "lp", begin, step), *_files(connection, tracts, "sol", begin, step)]


def _slowest(connection: Connection, tracts: Table) -> list[Json]:
    names = ("stusab", "county", "tract", "pop", "sol_host", "sol_end", "solve_seconds", "variables")
    query = select(*(tracts.c[name] for name in names)).where(tracts.c.solve_seconds > 0)
    query = by_index(query.order_by(tracts.c.solve_seconds.desc()).limit(SLOWEST_SHOWN), tracts, "cost")
    return [dict(row) for row in connection.execute(query).mappings()]


def _processor_seconds(connection: Connection, tables: ExperimentTables) -> dict[str, float]:
    """Return seconds of a processor by kind of file: one process makes each, so its wall time counts."""
    tracts, counties = tables.tracts, tables.counties
    query = by_index(select(func.sum(tracts.c.lp_seconds), func.sum(tracts.c.solve_seconds)), tracts, "cost")
    lp, sol = connection.execute(query).one()
    csv = connection.execute(select(func.sum(counties.c.csv_end - counties.c.csv_start))).scalar_one()
    return {"lp": float(lp or 0), "sol": float(sol or 0), "csv": float(csv or 0)}


def _counties(connection: Connection, tables: ExperimentTables, now: int) -> list[Json]:
    tracts, counties = tables.tracts, tables.counties
    place = (tracts.c.stusab, tracts.c.county)
    query = select(*place, tracts.c.status, func.count(), func.sum(tracts.c.pop)).group_by(*place, tracts.c.status)
    numbers: dict[tuple[str, str], dict[str, tuple[int, int]]] = defaultdict(dict)
    for stusab, county, status, files, people in connection.execute(by_index(query, tracts, "county")):
        numbers[stusab, county][status] = (int(files), int(people))
    held = select(*place, func.count()).where(tracts.c.hold == LEASED, tracts.c.hold_ends > now).group_by(*place)
    running = {(row[0], row[1]): int(row[2]) for row in connection.execute(by_index(held, tracts, "hold"))}
    names = (counties.c.stusab, counties.c.state, counties.c.county, counties.c.name, counties.c.tracts, counties.c.pop)
    rows = connection.execute(select(*names, counties.c.status, counties.c.csv_end).order_by(*counties.primary_key.columns))
    return [_county(dict(row), numbers[row.stusab, row.county], running) for row in rows.mappings()]


def _county(row: Json, numbers: dict[str, tuple[int, int]], running: dict[tuple[str, str], int]) -> Json:
    row |= {f"tracts_{status}": numbers.get(status, (0, 0))[0] for status in (NEW, LP, SOLVED, QUARANTINED)}
    row |= {"tracts_running": running.get((row["stusab"], row["county"]), 0), "people_solved": numbers.get(SOLVED, (0, 0))[1]}
    return row | {"people_quarantined": numbers.get(QUARANTINED, (0, 0))[1]}


def _held(row: Json, now: int) -> Json:
    """Return the row with ``held`` (under a live lease) and when its lease ends (0: it has none) instead of a hold's inside."""
    leased, ends = row.pop("hold") == LEASED, row.pop("hold_ends")
    return row | {"lease_end": ends if leased else 0, "held": leased and ends > now}


def _first_file(connection: Connection, tracts: Table, now: int) -> int:
    """Return when the oldest file of the experiment was made; now if there is none."""
    moments = [connection.execute(select(func.min(tracts.c[name]))).scalar_one() for name in ("lp_end", "sol_end")]
    return min([int(moment) for moment in moments if moment is not None], default=now)


def _files(connection: Connection, tracts: Table, kind: str, begin: int, step: int) -> list[Json]:
    """Return files of kind "lp" or "sol" since ``begin``, by interval and host. SOLs bring their people."""
    end, host = tracts.c[f"{kind}_end"], tracts.c[f"{kind}_host"]
    at = (end - end % step).label("at")
    people: ColumnElement[Any] = func.sum(tracts.c.pop) if kind == "sol" else func.count() * 0
    query = select(at, host, func.count(), people).where(end >= begin).group_by(at, host).order_by(at, host)
    rows = connection.execute(by_index(query, tracts, kind))
    return [{"kind": kind, "at": int(row[0]), "host": row[1], "files": int(row[2]), "people": int(row[3])} for row in rows]


# -- hosts --------------------------------------------------------------------------------------------------------------


def _hosts(connection: Connection, tables: ExperimentTables, now: int, beats: Beats) -> list[Json]:
    """Return who holds a tract, or made a file in the past hour; ``silent`` says whether the host counts as gone."""
    begin = now - HISTORY_SECONDS
    begin -= begin % HISTORY_STEP
    slots = (now - begin) // HISTORY_STEP + 1
    found: dict[str, Json] = {}

    def host(name: str) -> Json:
        return found.setdefault(name, _new_host(name, begin, slots))

    for kind in ("lp", "sol"):
        for row in _files(connection, tables.tracts, kind, begin, HISTORY_STEP):
            if row["host"] == FOUND:
                continue
            entry = host(row["host"])
            entry["history"][kind][min((row["at"] - begin) // HISTORY_STEP, slots - 1)] += row["files"]
            entry[f"{kind}_past_hour"] += row["files"]
            entry["people_past_hour"] += row["people"]
    for holder in _holders(connection, tables.tracts):
        host(holder.claimed_host)["tracts_held" if holder.lease_end > now else "tracts_locked"] += int(holder.tracts)
    for report in _reports(connection, begin, list(found)):
        _take_report(host(report["host"]), report, begin, slots)
    silent = {holder.host: holder.silent for holder in holders(connection, tables, now, beats)}
    for name, entry in found.items():
        entry["silent"] = silent.get(name, is_silent(entry["last_report"], now, beats))
    return [found[name] for name in sorted(found)]


def _take_report(entry: Json, report: Json, begin: int, slots: int) -> None:
    slot = (report["at"] - begin) // HISTORY_STEP
    if 0 <= slot < slots:
        entry["history"]["load1"][slot] = report["load1"]
        entry["history"]["free_memory_mib"][slot] = report["free_memory_mib"]
    if entry["last_report"] is None or report["at"] >= entry["last_report"]:
        entry["last_report"] = report["at"]
        entry |= {name: report[name] for name in _REPORTED}


_REPORTED = ("load1", "load5", "load15", "free_memory_mib", "total_memory_mib", "running")


def _new_host(name: str, begin: int, slots: int) -> Json:
    nothing: list[Any] = [None] * slots
    history = {
        "start": begin, "step": HISTORY_STEP, "lp": [0] * slots, "sol": [0] * slots,
        "load1": nothing, "free_memory_mib": list(nothing),
    }  # fmt: skip
    counts = {"lp_past_hour": 0, "sol_past_hour": 0, "people_past_hour": 0, "tracts_held": 0, "tracts_locked": 0}
    return {"host": name, "last_report": None, **dict.fromkeys(_REPORTED), **counts, "history": history}


def _reports(connection: Connection, begin: int, hosts: Sequence[str]) -> list[Json]:
    """Return the reports of hosts since ``begin``, and the last one of those that have been silent since."""
    if not hosts:
        return []
    last = last_reports(connection, hosts)
    columns = [sysload.c[name] for name in ("host", "at", *_REPORTED)]
    live = [name for name, at in last.items() if at >= begin]
    which = [and_(sysload.c.host.in_(live), sysload.c.at >= begin)] if live else []
    which += [and_(sysload.c.host == name, sysload.c.at == at) for name, at in last.items() if at < begin]
    return [dict(row) for condition in which for row in connection.execute(select(*columns).where(condition)).mappings()]


def _holders(connection: Connection, tracts: Table) -> Sequence[Any]:
    """Return (claimed_host, lease_end, tracts) of what is held; leases that are over too."""
    columns = (tracts.c.claimed_host, tracts.c.hold_ends)
    query = select(columns[0], columns[1].label("lease_end"), func.count().label("tracts"))
    query = query.where(tracts.c.hold == LEASED).group_by(*columns)
    return connection.execute(by_index(query, tracts, "hold")).all()


# -- errors -------------------------------------------------------------------------------------------------------------


def _errors(connection: Connection, reident: str, limit: int, place: Iterable[ColumnElement[bool]]) -> list[Json]:
    """Return the newest errors without stacks, looked for among the newest of all experiments alone: there may be millions."""
    newest = connection.execute(select(func.max(errors_table.c.id))).scalar_one() or 0
    query = select(errors_table).where(errors_table.c.id > newest - ERRORS_SEARCHED, errors_table.c.reident == reident, *place)
    rows = connection.execute(query.order_by(errors_table.c.id.desc()).limit(limit)).mappings().all()
    return _with_texts(connection, rows, ("message", "file"), LIST_TEXT)


def _with_texts(connection: Connection, rows: Sequence[Any], fields: Sequence[str], length: int) -> list[Json]:
    """Return the rows of errors with the beginnings of their texts."""
    ids = [row["id"] for row in rows]
    if not ids:
        return []
    text: Select[Any] = select(error_texts.c.error_id, error_texts.c.field, func.substr(error_texts.c.text, 1, length))
    text = text.where(error_texts.c.error_id.in_(ids), error_texts.c.field.in_(fields), error_texts.c.piece == 0)
    texts = {(row[0], row[1]): row[2] for row in connection.execute(text)}
    names = ("id", "at", "host", "pid", "line", "stusab", "county", "tract")
    return [{name: row[name] for name in names} | {field: texts.get((row["id"], field), "") for field in fields} for row in rows]
