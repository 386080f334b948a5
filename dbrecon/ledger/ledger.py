"""The ledger: the one owner of all state of an experiment. No other module writes SQL.

A tract is EMPTY (nobody lives there), NEW (needs its LP), LP (needs solving), SOLVED or QUARANTINED. A worker ``claim()``s tracts
of one county for some seconds (the lease), extends the lease with ``heartbeat()``, and ends the claim with
``lp_written()``, ``solved()``, ``failed()`` or ``release()``. All of these are guarded by the claim's token: whoever lost
the lease gets LostLease and changes nothing. First the artifact is in place, then the ledger says so.

A lease that ends without a word frees its tract for the next claim, on any node. That does not count as a failed attempt, since
mostly the node is to blame and not the tract; but it is counted, and a tract that was lost ``max_lost`` times is
quarantined, for it may be what kills the nodes.

Every operation may be repeated: a token that is already the row's, in the state that was wanted, means "done before".
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Row, Select, Table, and_, select, update

from dbrecon.ctools.database import Database, NoSuchTable, describe
from dbrecon.errors import DatabaseError, UsageError
from dbrecon.ledger import claiming as sql
from dbrecon.ledger import places as ledger_geography
from dbrecon.ledger import registry as ledger_experiments
from dbrecon.ledger import reports as ledger_reports
from dbrecon.ledger import resets as ledger_reset
from dbrecon.ledger.claiming import AnyClaim, listed
from dbrecon.ledger.records import (
    EMPTY,
    LP,
    NEW,
    OPEN,
    QUARANTINED,
    SOLVED,
    WRITTEN,
    Claim,
    Claimant,
    CountyClaim,
    ErrorEntry,
    ErrorReport,
    ExperimentRow,
    GeoRow,
    InProgress,
    LostLease,
    LpStats,
    Quarantine,
    SolStats,
    Status,
    SysLoad,
    SysLoadEntry,
    TractRow,
    TractState,
    Work,
    Worker,
)
from dbrecon.ledger.schema import experiment_tables
from dbrecon.place import EVERYWHERE, Place

__all__ = [
    "EMPTY", "LP", "NEW", "OPEN", "QUARANTINED", "SOLVED", "WRITTEN",
    "Claim", "Claimant", "CountyClaim", "ErrorEntry", "ErrorReport", "ExperimentRow", "GeoRow", "InProgress", "Ledger",
    "LostLease", "LpStats", "Quarantine", "SolStats", "Status", "SysLoad", "SysLoadEntry", "TractRow", "TractState",
    "Work", "Worker",
]  # fmt: skip

T = TypeVar("T")
MAX_LOST = 8
ERROR_LENGTH = 65536  # characters of an error that a tract's row keeps; record_error() keeps all


class Ledger:
    """The state of all experiments in one database.

    ``patience``: seconds to wait for a database that is away (0 for commands, minutes for a scheduler). ``clock``: Unix time for
    tests; the default is the database's clock, which all nodes share. ``max_lost``: see the module. Picklable it is not: a
    process makes its own.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], int] | None = None,
        patience: float = 0.0,
        max_lost: int = MAX_LOST,
    ) -> None:
        self.engine = engine
        self._database = Database(engine, patience, clock)
        self._max_lost = max_lost
        self._ready = False

    # -- experiments ------------------------------------------------------------------------------------------------

    def register(self, reident: str, tables: str, product: str) -> None:
        """Makes the experiment's tables. UsageError if a REIDENT that differs at most in case exists."""
        place, now = describe(self.engine), self._database.now()
        self._run(
            lambda connection: ledger_experiments.reserve(connection, place, now, reident, tables, product),
            repeat_commit=False,
        )
        self._run(lambda connection: ledger_experiments.make(connection, now, reident), repeat_commit=False)

    def drop(self, reident: str) -> None:
        """Removes the experiment's tables and errors (no files). DatabaseError naming those that exist if it does not."""
        if not self._run(lambda connection: ledger_experiments.drop(connection, reident), repeat_commit=False):
            raise self._unknown(reident)

    def experiments(self) -> list[ExperimentRow]:
        """All registered experiments, oldest first."""
        return self._run(ledger_experiments.registered, write=False)

    def experiment(self, reident: str) -> ExperimentRow:
        """One experiment. DatabaseError naming those that exist if it is none."""
        found = {row.reident: row for row in self.experiments()}
        if reident not in found:
            raise self._unknown(reident)
        return found[reident]

    def _unknown(self, reident: str) -> DatabaseError:
        names = [row.reident for row in self.experiments()]
        there = f"it has {listed(names)}" if names else "it has none yet"
        return DatabaseError(
            f"REIDENT {reident} is not registered in {describe(self.engine)} ({there}): register it with --register {reident}"
        )

    # -- geography --------------------------------------------------------------------------------------------------

    def replace_geography(
        self,
        reident: str,
        stusab: str,
        geo_rows: Iterable[GeoRow],
        tracts: Iterable[TractRow],
        *,
        force: bool = False,
    ) -> bool:
        """Step 1's result in one transaction: the state's records, and its tracts and counties as new work.

        Returns False, with nothing changed and nothing read, if the state is there and not ``force``. With ``force`` the
        state begins anew: published tables may have changed in any cell, so no progress is kept, and claims on its
        tracts are lost. ``geo_rows`` is read to its end before ``tracts`` is; other writers wait on SQLite meanwhile,
        so give rows that need no long work. Whatever the iterables raise is passed on, and nothing is changed.
        """
        mine = experiment_tables(reident)
        self._run(lambda connection: ledger_geography.enter_state(connection, mine, stusab), reident=reident)
        now = self._database.now()
        return self._run(
            lambda connection: ledger_geography.replace(connection, mine, stusab, now, geo_rows, tracts, force),
            reident=reident,
            repeat=False,  # what was read of the iterables is gone
        )

    def has_geography(self, reident: str, stusab: str) -> bool:
        """True if step 1 of the state is complete."""
        states = experiment_tables(reident).states
        query = select(states.c.stusab).where(states.c.stusab == stusab, states.c.geo_end > 0)
        return self._run(lambda connection: connection.execute(query).first(), reident=reident, write=False) is not None

    def geography(self, reident: str, stusab: str, sumlev: str, county: str | None = None) -> list[GeoRow]:
        """The state's records of a summary level ("050", "140", "101"), of one county if given, by LOGRECNO."""
        geo = experiment_tables(reident).geo
        query = select(*(geo.c[name] for name in GeoRow._fields)).order_by(geo.c.logrecno)
        query = query.where(geo.c.stusab == stusab, geo.c.sumlev == sumlev)
        if county is not None:
            query = query.where(geo.c.county == county)
        return [GeoRow(*tuple(row)) for row in self._rows(reident, query)]

    def stusabs(self, reident: str) -> list[str]:
        """The states whose step 1 is complete, sorted."""
        states = experiment_tables(reident).states
        query = select(states.c.stusab).where(states.c.geo_end > 0).order_by(states.c.stusab)
        return [row.stusab for row in self._rows(reident, query)]

    def counties(self, reident: str, stusab: str) -> list[str]:
        """The state's counties (three digits), sorted."""
        return list(self.county_statuses(reident, stusab))

    def county_statuses(self, reident: str, stusab: str) -> dict[str, str]:
        """The state's counties, sorted, each with its status."""
        counties = experiment_tables(reident).counties
        query = select(counties.c.county, counties.c.status).where(counties.c.stusab == stusab).order_by(counties.c.county)
        return {row.county: row.status for row in self._rows(reident, query)}

    def tracts(self, reident: str, stusab: str, county: str) -> list[str]:
        """The county's tracts (six digits), those without people included, sorted."""
        tracts = experiment_tables(reident).tracts
        query = select(tracts.c.tract).where(tracts.c.stusab == stusab, tracts.c.county == county)
        return [row.tract for row in self._rows(reident, query.order_by(tracts.c.tract))]

    def tract_states(self, reident: str, stusab: str, county: str | None = None) -> list[TractState]:
        """Where the tracts of a state or county stand, by county and tract."""
        tracts = experiment_tables(reident).tracts
        names = TractState.__dataclass_fields__
        query = select(*(tracts.c[name] for name in names)).where(*sql.narrow(tracts, Place(stusab, county)))
        rows = self._rows(reident, query.order_by(tracts.c.county, tracts.c.tract))
        return [TractState(*tuple(row)) for row in rows]

    def check_place(self, reident: str, place: Place) -> None:
        """UsageError, naming those that exist, if the state, the county or a tract is not in the ledger."""
        stusab, county = place.stusab, place.county
        if stusab is None:
            return
        if stusab not in (states := self.stusabs(reident)):
            there = f"it has {listed(states)}" if states else "it has none yet"
            raise UsageError(f"{reident} has no state {stusab} ({there}): run --step1 --stusab {stusab} first")
        if county is None:
            return
        if county not in (counties := self.counties(reident, stusab)):
            raise UsageError(f"{stusab} has no county {county}: choose from {listed(counties)}")
        wrong = sorted(set(place.tracts or ()) - set(known := self.tracts(reident, stusab, county)))
        if wrong:
            raise UsageError(f"county {county} of {stusab} has no tract {listed(wrong)}: choose from {listed(known)}")

    # -- claims on tracts -------------------------------------------------------------------------------------------

    def claim(
        self,
        reident: str,
        worker: Worker,
        *,
        steps: Collection[int] = (3, 4),
        limit: int = 1,
        lease_seconds: int = 600,
        place: Place = EVERYWHERE,
        ascending: bool = False,
        max_pop: int | None = None,
    ) -> list[Claim]:
        """Up to ``limit`` tracts, all of one county, that nobody else gets until the lease ends.

        The county is that of the biggest free tract (with ``ascending`` the smallest), and the tracts come in that order.
        ``steps``: 3 gives NEW tracts, 4 gives those whose LP is in place, both give both (a NEW tract is then to be taken through
        both). ``place`` narrows it, ``max_pop`` leaves out tracts with more people. [] means that
        nothing is free just now; ``work_left()`` says whether something will be.
        """
        mine = experiment_tables(reident)
        table = mine.tracts
        wanted = [*sql.narrow(table, place), *([] if max_pop is None else [table.c.pop <= max_pop])]
        statuses = [status for step, status in ((3, NEW), (4, LP)) if step in steps]
        token, runs = uuid.uuid4().hex, 0

        def work(connection: Connection) -> list[Claim]:
            nonlocal runs
            runs += 1
            if runs > 1 and (before := sql.held_by_token(connection, table, token)):
                return [sql.tract_claim(reident, row, worker, token) for row in before]  # the commit whose answer was lost
            now = self._database.now()
            sql.reap(connection, table, table.c.lease_end <= now, self._max_lost)
            index = sql.index_for(place)
            best = sql.biggest(connection, table, statuses, wanted, 1, ascending, index)
            if not best:
                return []
            here = [*wanted, table.c.stusab == best[0].stusab, table.c.county == best[0].county]
            more = sql.biggest(connection, table, statuses, here, limit, ascending, "county")
            # The best is ours even if another holds its entry in this second index, which would be skipped then.
            rows = [best[0], *(row for row in more if row.tract != best[0].tract)][:limit]
            sql.mark(connection, table, rows, worker, token, now, lease_seconds)
            return [sql.tract_claim(reident, row, worker, token) for row in rows]

        return self._run(work, reident=reident) if statuses and limit > 0 else []

    def heartbeat(self, claims: Iterable[AnyClaim], lease_seconds: int = 600) -> list[AnyClaim]:
        """Extends the leases to ``lease_seconds`` from now. Returns the claims that are lost (or ended): stop their work."""
        until = self._database.now() + max(1, lease_seconds)
        return self._by_experiment(claims, lambda connection, some: sql.extend(connection, some, until))

    def release(self, claims: Iterable[AnyClaim]) -> None:
        """Puts claims back as they were, nothing counted. Those that are lost or ended are left alone."""

        def work(connection: Connection, some: list[AnyClaim]) -> list[AnyClaim]:
            for table, _group, held in sql.groups(some):
                connection.execute(update(table).where(*held).values(sql.FREE))
            return []

        self._by_experiment(claims, work)

    def lp_written(self, claim: Claim, stats: LpStats, *, keep_claim: bool = False) -> Claim:
        """Step 3 is done: the LP file is in place. Ends the claim unless ``keep_claim`` (step 4 follows in the same hands).

        Returns the claim as it is now. Raises LostLease.
        """
        values = self._lp_values(claim, stats) | {"status": LP} | ({} if keep_claim else sql.FREE)
        self._finish(claim, values, was=NEW, becomes=LP)
        return replace(claim, status=LP)

    def solved(self, claim: Claim, stats: SolStats, lp: LpStats | None = None) -> None:
        """Step 4 is done: the checked solution is in place; ends the claim. Raises LostLease.

        ``lp`` is given if the claim is of a NEW tract, taken through both steps (one update instead of two).
        """
        now = self._database.now()
        values = {
            "status": SOLVED,
            "sol_start": now - round(stats.seconds),
            "sol_end": now,
            "sol_host": claim.worker.host,
            "sol_count": experiment_tables(claim.reident).tracts.c.sol_count + 1,
            "solver": stats.solver[:100],
            "solve_seconds": stats.seconds,
            "memory_mib": stats.memory_mib,
            "error": None,
            **sql.FREE,
        }
        if lp is not None:
            values = self._lp_values(claim, lp, after=stats.seconds) | values
        self._finish(claim, values, was=LP if lp is None else NEW, becomes=SOLVED)

    def _lp_values(self, claim: Claim, stats: LpStats, after: float = 0.0) -> dict[str, Any]:
        """Columns of step 3, which ended ``after`` seconds ago."""
        end = self._database.now() - round(after)
        return {
            "lp_start": end - round(stats.seconds),
            "lp_end": end,
            "lp_host": claim.worker.host,
            "lp_seconds": stats.seconds,
            "lp_count": experiment_tables(claim.reident).tracts.c.lp_count + 1,
            "variables": stats.variables,
            "constraints": stats.constraints,
            "nonzeros": stats.nonzeros,
        }

    def _finish(self, claim: AnyClaim, values: dict[str, Any], was: str, becomes: str) -> None:
        table = sql.table_of(claim)

        def work(connection: Connection) -> None:
            held = [*sql.key(table, claim), table.c.token == claim.token, table.c.lease_end > 0]
            if connection.execute(update(table).where(*held, table.c.status == was).values(values)).rowcount == 1:
                return
            row = connection.execute(select(table.c.token, table.c.status).where(*sql.key(table, claim))).first()
            if row is None or row.token != claim.token:
                raise sql.lost(claim)
            if row.status != becomes:  # its own, but in a state that this step does not begin with
                raise DatabaseError(f"{claim} of {claim.reident} cannot become {becomes!r}: it is {row.status!r}, not {was!r}")

        self._run(work, reident=claim.reident)

    def failed(self, claim: AnyClaim, error: str, max_attempts: int, retry_seconds: int = 0) -> bool:
        """The attempt failed. Returns True if that was the last: the tract (county) is quarantined with the error.

        Otherwise it is free again after ``retry_seconds``. Raises LostLease.
        """
        table = sql.table_of(claim)
        kept = error if len(error) <= ERROR_LENGTH else f"{error[:ERROR_LENGTH]} ... ({len(error)} characters)"

        def work(connection: Connection) -> bool:
            row = connection.execute(select(table).where(*sql.key(table, claim)).with_for_update()).first()
            if row is None or row.token != claim.token:
                raise sql.lost(claim)
            if row.claimed_by is None:
                return bool(row.status == QUARANTINED)  # counted before
            last = bool(row.attempts + 1 >= max_attempts)
            values = dict(sql.FREE) | {"attempts": row.attempts + 1, "error": ledger_reports.storable(kept)}
            if last:
                values["status"] = QUARANTINED
            elif retry_seconds > 0:
                values["lease_end"] = self._database.now() + retry_seconds
            connection.execute(update(table).where(*sql.key(table, claim)).values(values))
            return last

        return self._run(work, reident=claim.reident)

    # -- counties ---------------------------------------------------------------------------------------------------

    def claim_county(
        self,
        reident: str,
        worker: Worker,
        *,
        lease_seconds: int = 600,
        place: Place = EVERYWHERE,
    ) -> CountyClaim | None:
        """A county (the biggest) whose every tract with people is solved and whose people are not written; else None.

        ``place`` narrows it; of its tracts only the county counts.
        """
        mine = experiment_tables(reident)
        token, runs = uuid.uuid4().hex, 0

        def work(connection: Connection) -> CountyClaim | None:
            nonlocal runs
            runs += 1
            if runs > 1 and (before := sql.held_by_token(connection, mine.counties, token)):
                return sql.county_claim(connection, mine, reident, before[0], worker, token)
            now = self._database.now()
            sql.reap(connection, mine.counties, mine.counties.c.lease_end <= now, self._max_lost)
            ready = sql.closable(mine, place).order_by(mine.counties.c.pop.desc())
            for candidate in connection.execute(ready.limit(20)).all():  # no locks yet: mostly there is none
                query = sql.closable(mine, Place(candidate.stusab, candidate.county)).with_for_update(skip_locked=True)
                row = connection.execute(query).first()
                if row is not None:
                    sql.mark(connection, mine.counties, [row], worker, token, now, lease_seconds)
                    return sql.county_claim(connection, mine, reident, row, worker, token)
            return None

        return self._run(work, reident=reident)

    def csv_written(self, claim: CountyClaim, seconds: float = 0.0) -> None:
        """Step 5 is done: the county's people are in place; ends the claim. Raises LostLease."""
        now = self._database.now()
        counties = experiment_tables(claim.reident).counties
        values = {
            "status": WRITTEN,
            "csv_start": now - round(seconds),
            "csv_end": now,
            "csv_host": claim.worker.host,
            "csv_count": counties.c.csv_count + 1,
            "error": None,
            **sql.FREE,
        }
        self._finish(claim, values, was=OPEN, becomes=WRITTEN)

    # -- what the operator does -------------------------------------------------------------------------------------

    def finished(self, reident: str, place: Place = EVERYWHERE) -> tuple[int, int]:
        """How many solved tracts and how many written counties a place has: what --force would put back."""
        mine = experiment_tables(reident)
        return self._run(lambda connection: ledger_reset.finished(connection, mine, place), reident=reident, write=False)

    def reset(self, reident: str, step: int, place: Place = EVERYWHERE) -> int:
        """For --force: 3 puts tracts with people back to NEW, 4 back to LP, and both reopen their counties; 5 reopens counties.

        Whoever is at work there loses the claim. Quarantined tracts are included (by 4 only if they have an LP). Returns the
        number of tracts (5: counties).
        """
        if step not in (3, 4, 5):
            raise UsageError(f"step {step} cannot be put back in the ledger: choose 3, 4 or 5")
        mine = experiment_tables(reident)
        return self._run(
            lambda connection: ledger_reset.reset(connection, mine, step, place),
            reident=reident,
            repeat_commit=False,
        )

    def retry_quarantined(self, reident: str, place: Place = EVERYWHERE) -> int:
        """Puts quarantined tracts and counties back to work, counters at 0. Returns how many.

        A tract becomes NEW even if it had an LP: what failed may be the LP file, and building it is the cheaper half.
        """
        mine = experiment_tables(reident)
        return self._run(lambda connection: ledger_reset.retry_quarantined(connection, mine, place), reident=reident)

    def claimants(self, reident: str) -> list[Claimant]:
        """Everyone who holds tracts or counties, live or not, by host and name: for unlocking the dead."""
        mine = experiment_tables(reident)
        return self._run(lambda connection: ledger_reports.claimants(connection, mine), reident=reident, write=False)

    def release_worker(self, reident: str, worker: Worker, *, died: bool = True) -> int:
        """Frees at once what a worker of whom you know that it is no more holds; with ``died`` counted as a lost lease.

        A scheduler does this for dead schedulers of its own node. Returns how many tracts and counties.
        """
        return self._free_holders(reident, died, lambda table: table.c.claimed_by == str(worker))

    def release_hosts(self, reident: str, hosts: Collection[str]) -> int:
        """For --unlock: frees what workers of these hosts hold, nothing counted. Returns how many tracts and counties."""
        return self._free_holders(reident, died=False, which=lambda table: table.c.claimed_host.in_(list(hosts)))

    def _free_holders(self, reident: str, died: bool, which: Callable[[Table], Any]) -> int:
        mine = experiment_tables(reident)

        def work(connection: Connection) -> int:
            if not died:
                return sql.free_holders(connection, mine, which)
            both = (mine.tracts, mine.counties)
            held = [(table, and_(table.c.claimed_by.is_not(None), which(table))) for table in both]
            return sum(sql.reap(connection, table, holder, self._max_lost, None) for table, holder in held)

        return self._run(work, reident=reident)

    # -- reports ----------------------------------------------------------------------------------------------------

    def work_left(
        self,
        reident: str,
        steps: Collection[int] = (3, 4, 5),
        place: Place = EVERYWHERE,
    ) -> Work:
        """What can be claimed now or later for these steps and this place, and what is quarantined there.

        With step 5 a county counts as claimable only if its tracts are solved. Work that a stale lease holds is claimable.
        """
        mine = experiment_tables(reident)
        now = self._database.now()
        places = (sql.narrow(mine.tracts, place), sql.narrow(mine.counties, place))
        closable, index = sql.closable(mine, place, held_too=True), sql.index_for(place)
        return self._run(
            lambda connection: ledger_reports.work_left(connection, mine, now, steps, places, index, closable),
            reident=reident,
            write=False,
        )

    def status(self, reident: str, place: Place = EVERYWHERE) -> Status:
        """Everything that --status prints, of a state or a county if ``place`` is one.

        It is read from sums over indexes: tens of milliseconds for the country's 73,057 tracts.
        """
        mine = experiment_tables(reident)
        now = self._database.now()
        return self._run(lambda connection: ledger_reports.status(connection, mine, now, place), reident=reident, write=False)

    def record_error(self, report: ErrorReport) -> None:
        """Keeps an error, texts of any length whole."""
        uid, now = uuid.uuid4().hex, self._database.now()
        self._run(lambda connection: ledger_reports.insert_error(connection, uid, now, report))

    def errors(self, reident: str | None = None, limit: int = 20) -> list[ErrorEntry]:
        """The newest errors, newest first, of one experiment or of all."""
        return self._run(lambda connection: ledger_reports.errors(connection, reident, limit), write=False)

    def record_sysload(self, load: SysLoad, keep_seconds: int = 7 * 86400) -> None:
        """Keeps a node's report, and forgets this host's that are older than ``keep_seconds``."""
        now = self._database.now()
        self._run(lambda connection: ledger_reports.insert_sysload(connection, now, load, keep_seconds))

    def sysload(self) -> list[SysLoadEntry]:
        """The newest report of every host, by host."""
        return self._run(ledger_reports.newest_sysload, write=False)

    def now(self) -> int:
        """The time by the clock of all records."""
        return self._run(lambda connection: int(connection.execute(select(self._database.now())).scalar_one()), write=False)

    def lose_patience(self) -> None:
        """From now on wait no more for a database that is away, nor go on waiting. Safe from any thread or signal handler."""
        self._database.patience = 0.0

    # -- inside -----------------------------------------------------------------------------------------------------

    def _run(
        self,
        work: Callable[[Connection], T],
        *,
        reident: str | None = None,
        write: bool = True,
        repeat: bool = True,
        repeat_commit: bool = True,
    ) -> T:
        if not self._ready:
            self._make_common()
        try:
            return self._database.run(work, write=write, repeat=repeat, repeat_commit=repeat_commit)
        except NoSuchTable:
            if reident is None or reident in [row.reident for row in self.experiments()]:
                raise
            raise self._unknown(reident) from None

    def _make_common(self) -> None:
        """The tables that all experiments share. Nothing is written when they are there: a reader may lack the right."""
        if self._database.run(ledger_experiments.lacks_common, write=False):
            self._database.run(ledger_experiments.make_common, write=True)
        self._ready = True

    def _rows(self, reident: str, query: Select[Any]) -> Sequence[Row[Any]]:
        return self._run(lambda connection: connection.execute(query).all(), reident=reident, write=False)

    def _by_experiment(
        self, claims: Iterable[AnyClaim], work: Callable[[Connection, list[AnyClaim]], list[AnyClaim]]
    ) -> list[AnyClaim]:
        """``work`` on the claims of each experiment in a transaction of its own; what it returned, together."""
        groups: dict[str, list[AnyClaim]] = defaultdict(list)
        for claim in claims:
            groups[claim.reident].append(claim)
        result: list[AnyClaim] = []
        for reident, some in groups.items():
            result += self._run(lambda connection, some=some: work(connection, some), reident=reident)  # type: ignore[misc]
        return result
