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
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from dbrecon.ctools import staging
from dbrecon.ctools.staging import Staged
from dbrecon.ctools.storage import MissingFile
from dbrecon.errors import DatabaseError, UsageError
from dbrecon.ledger import certain as ledger_certain
from dbrecon.ledger import claiming as sql
from dbrecon.ledger import holders, moves
from dbrecon.ledger import reconcile as ledger_files
from dbrecon.ledger import reports as ledger_reports
from dbrecon.ledger import resets as ledger_reset
from dbrecon.ledger.atlas import Atlas
from dbrecon.ledger.claiming import AnyClaim
from dbrecon.ledger.lifecycle import CERTAIN, FAIL, LEASED, RELEASE, SOLVE, WRITE_CERTAINTY, WRITE_LP, WRITE_PEOPLE
from dbrecon.ledger.reconcile import Change, CountyFound, Snapshot
from dbrecon.ledger.records import (
    EMPTY,
    LP,
    NEW,
    OPEN,
    QUARANTINED,
    SOLVED,
    WRITTEN,
    CertaintyClaim,
    Claim,
    Claimant,
    CountyClaim,
    ErrorEntry,
    ErrorReport,
    ExperimentRow,
    GeoRow,
    Holder,
    InProgress,
    LostLease,
    LpStats,
    Maker,
    Quarantine,
    SolStats,
    Status,
    SysLoad,
    SysLoadEntry,
    TractState,
    Work,
    Worker,
)
from dbrecon.ledger.schema import experiment_tables
from dbrecon.place import EVERYWHERE, Place

__all__ = [
    "EMPTY", "LP", "NEW", "OPEN", "QUARANTINED", "SOLVED", "WRITTEN",
    "Claim", "Claimant", "CountyClaim", "ErrorEntry", "ErrorReport", "ExperimentRow", "GeoRow", "InProgress", "Ledger",
    "LostLease", "LpStats", "Quarantine", "SolStats", "Status", "SysLoad", "SysLoadEntry", "TractState",
    "Work", "Worker",
]  # fmt: skip

ERROR_LENGTH = 65536  # characters of an error that a tract's row keeps; record_error() keeps all


class Ledger(Atlas):
    """The state of all experiments in one database.

    ``patience``: seconds to wait for a database that is away (0 for commands, minutes for a scheduler). ``clock``: Unix time for
    tests; the default is the database's clock, which all nodes share. ``max_lost``: see the module. ``upgrade``: tables of an
    earlier version are brought to this one; else they are refused. ``beats``: how schedulers show that they live. Picklable it
    is not: a process makes its own.
    """

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
        tables = experiment_tables(reident)
        table = tables.tracts
        wanted = [*sql.narrow(table, place), *([] if max_pop is None else [table.c.pop <= max_pop])]
        statuses = [status for step, status in ((3, NEW), (4, LP)) if step in steps]
        token, runs = uuid.uuid4().hex, 0

        def work(connection: Connection) -> list[Claim]:
            nonlocal runs
            runs += 1
            if runs > 1 and (before := sql.held_by_token(connection, table, token)):  # the commit whose answer was lost
                files = sql.county_digests(connection, tables, before[0].stusab, before[0].county)
                return [sql.tract_claim(reident, row, worker, token, row.fence, files) for row in before]
            now = self._now(connection)
            sql.reap(connection, table, table.c.hold_ends <= now, self._max_lost)
            index = sql.index_for(place)
            best = sql.biggest(connection, table, statuses, wanted, 1, ascending, index)
            if not best:
                return []
            here = [*wanted, table.c.stusab == best[0].stusab, table.c.county == best[0].county]
            more = sql.biggest(connection, table, statuses, here, limit, ascending, "county")
            # The best is ours even if another holds its entry in this second index, which would be skipped then.
            rows = [best[0], *(row for row in more if row.tract != best[0].tract)][:limit]
            sql.mark(connection, table, rows, worker, token, now, lease_seconds)
            files = sql.county_digests(connection, tables, rows[0].stusab, rows[0].county)
            return [sql.tract_claim(reident, row, worker, token, moves.next_fence(row.fence, now), files) for row in rows]

        return self._run(work, reident=reident) if statuses and limit > 0 else []

    def heartbeat(self, claims: Iterable[AnyClaim], lease_seconds: int = 600) -> list[AnyClaim]:
        """Extend the leases to ``lease_seconds`` from now. Returns the claims that are lost (or ended): stop their work."""
        until = self._database.now() + max(1, lease_seconds)
        return self._by_experiment(claims, lambda connection, group: sql.extend(connection, group, until))

    def release(self, claims: Iterable[AnyClaim]) -> None:
        """Put claims back as they were, nothing counted. Those that are lost or ended are left alone."""

        def work(connection: Connection, group: list[AnyClaim]) -> list[AnyClaim]:
            for table, _group, held in sql.groups(group):
                moves.move(connection, table, RELEASE, held, moves.UNHELD)
            return []

        self._by_experiment(claims, work)

    def lp_written(self, claim: Claim, stats: LpStats, *, keep_claim: bool = False) -> Claim:
        """Step 3 is done: the LP file is in place. Ends the claim unless ``keep_claim`` (step 4 follows in the same hands).

        Returns the claim as it is now. Raises LostLease.
        """
        values = self._lp_values(claim, stats) | ({} if keep_claim else moves.UNHELD)
        self._finish(claim, WRITE_LP, values, was=NEW, becomes=LP, files=[stats.file])
        return replace(claim, status=LP)

    def solved(self, claim: Claim, stats: SolStats, lp: LpStats | None = None) -> None:
        """Step 4 is done: the checked solution is in place; ends the claim. Raises LostLease.

        ``lp`` is given if the claim is of a NEW tract, taken through both steps (one update instead of two).
        """
        now = self._database.now()
        values = {
            "sol_start": now - round(stats.seconds),
            "sol_end": now,
            "sol_host": claim.worker.host,
            "sol_count": experiment_tables(claim.reident).tracts.c.sol_count + 1,
            "sol_digest": stats.file.digest if stats.file else "",
            "sol_seed": stats.seed,
            "sol_program": stats.program,
            "solver": stats.solver[:100],
            "solve_seconds": stats.seconds,
            "memory_mib": stats.memory_mib,
            "error": None,
            **moves.UNHELD,
        }
        if lp is not None:
            values = self._lp_values(claim, lp, after=stats.seconds) | values
        files = [lp.file if lp else None, stats.file]
        self._finish(claim, SOLVE, values, was=LP if lp is None else NEW, becomes=SOLVED, files=files)

    def _lp_values(self, claim: Claim, stats: LpStats, after: float = 0.0) -> dict[str, Any]:
        """Return columns of step 3, which ended ``after`` seconds ago."""
        end = self._database.now() - round(after)
        return {
            "lp_start": end - round(stats.seconds),
            "lp_end": end,
            "lp_host": claim.worker.host,
            "lp_digest": stats.file.digest if stats.file else "",
            "lp_seconds": stats.seconds,
            "lp_count": experiment_tables(claim.reident).tracts.c.lp_count + 1,
            "variables": stats.variables,
            "constraints": stats.constraints,
            "nonzeros": stats.nonzeros,
        }

    def _finish(
        self, claim: AnyClaim, event: str, values: dict[str, Any], was: str, becomes: str, files: Iterable[Staged | None]
    ) -> None:
        """End a step: the row changes and the files come into place in one transaction, in which the row is locked."""
        table, staged = sql.table_of(claim), [file for file in files if file is not None]

        def work(connection: Connection) -> None:
            held = [*sql.key(table, claim), table.c.token == claim.token, table.c.hold == LEASED, table.c.status == was]
            if moves.move(connection, table, event, held, values, becomes) == 1:
                for file in staged:
                    staging.accept(file)
                return
            row = connection.execute(select(table.c.token, table.c.status).where(*sql.key(table, claim))).first()
            if row is None or row.token != claim.token:
                raise sql.lost(claim)
            if row.status != becomes:  # its own, but in a state that this step does not begin with
                raise DatabaseError(f"{claim} of {claim.reident} cannot become {becomes!r}: it is {row.status!r}, not {was!r}")

        try:
            self._run(work, reident=claim.reident)
        except LostLease:
            for file in staged:
                staging.discard(file)
            raise
        except MissingFile as error:  # an operator's --clear_uploads, say: the work is done again
            self.release([claim])
            raise LostLease(
                f"{claim} of {claim.reident}: what was made is gone before it was accepted; it is made again"
            ) from error

    def failed(self, claim: AnyClaim, error: str, max_attempts: int, retry_seconds: int = 0) -> bool:
        """Count an attempt that failed. Returns True if that was the last: the tract (county) is quarantined with the error.

        Otherwise it is free again after ``retry_seconds``. Raises LostLease.
        """
        table = sql.table_of(claim)
        kept = error if len(error) <= ERROR_LENGTH else f"{error[:ERROR_LENGTH]} ... ({len(error)} characters)"

        def work(connection: Connection) -> bool:
            row = connection.execute(select(table).where(*sql.key(table, claim)).with_for_update()).first()
            if row is None or row.token != claim.token:
                raise sql.lost(claim)
            if row.hold != LEASED:
                return bool(row.status == QUARANTINED)  # counted before
            last = bool(row.attempts + 1 >= max_attempts)
            resting = retry_seconds > 0 and not last
            hold = moves.rest(self._database.now() + retry_seconds) if resting else moves.UNHELD
            values = hold | {"attempts": row.attempts + 1, "error": ledger_reports.storable(kept)}
            moves.move(connection, table, FAIL, sql.key(table, claim), values, QUARANTINED if last else None)
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
        """Return a county (the biggest) whose every tract with people is solved and whose people are not written; else None.

        ``place`` narrows it; of its tracts only the county counts.
        """
        tables = experiment_tables(reident)
        token, runs = uuid.uuid4().hex, 0

        def work(connection: Connection) -> CountyClaim | None:
            nonlocal runs
            runs += 1
            if runs > 1 and (before := sql.held_by_token(connection, tables.counties, token)):
                return sql.county_claim(connection, tables, reident, before[0], worker, token, before[0].fence)
            now = self._now(connection)
            sql.reap(connection, tables.counties, tables.counties.c.hold_ends <= now, self._max_lost)
            ready = sql.closable(tables, place).order_by(tables.counties.c.pop.desc())
            for candidate in connection.execute(ready.limit(20)).all():  # no locks yet: mostly there is none
                query = sql.closable(tables, Place(candidate.stusab, candidate.county)).with_for_update(skip_locked=True)
                row = connection.execute(query).first()
                if row is not None:
                    sql.mark(connection, tables.counties, [row], worker, token, now, lease_seconds)
                    return sql.county_claim(connection, tables, reident, row, worker, token, moves.next_fence(row.fence, now))
            return None

        return self._run(work, reident=reident)

    def csv_written(self, claim: CountyClaim, seconds: float = 0.0, file: Staged | None = None) -> None:
        """Step 5 is done: the county's people are in place; ends the claim. Raises LostLease."""
        now = self._database.now()
        counties = experiment_tables(claim.reident).counties
        values = {
            "csv_start": now - round(seconds),
            "csv_end": now,
            "csv_host": claim.worker.host,
            "csv_digest": file.digest if file else "",
            "csv_count": counties.c.csv_count + 1,
            "error": None,
            **moves.UNHELD,
        }
        self._finish(claim, WRITE_PEOPLE, values, was=OPEN, becomes=WRITTEN, files=[file])

    # -- certainty --------------------------------------------------------------------------------------------------

    def claim_certainty(
        self,
        reident: str,
        worker: Worker,
        *,
        limit: int = 1,
        lease_seconds: int = 600,
        place: Place = EVERYWHERE,
        ascending: bool = False,
        max_pop: int | None = None,
    ) -> list[CertaintyClaim]:
        """Up to ``limit`` tracts of one county whose certainty is to be computed (step 6), or a county whose files of it are to be
        written, since all its tracts are done. Only counties whose people are written. As :meth:`claim` else."""
        tables = experiment_tables(reident)
        table = tables.certainty
        token, runs = uuid.uuid4().hex, 0

        def claims(connection: Connection, rows: Sequence[Row[Any]], now: int | None) -> list[CertaintyClaim]:
            tracts = ledger_certain.tracts_of(connection, tables, rows[0])
            fences = [row.fence if now is None else moves.next_fence(row.fence, now) for row in rows]
            files = sql.county_digests(connection, tables, rows[0].stusab, rows[0].county)
            found = zip(rows, fences, strict=True)
            return [ledger_certain.claim_of(reident, row, worker, token, fence, tracts, files) for row, fence in found]

        def work(connection: Connection) -> list[CertaintyClaim]:
            nonlocal runs
            runs += 1
            if runs > 1 and (before := sql.held_by_token(connection, table, token)):
                return claims(connection, before, None)
            now = self._now(connection)
            ledger_certain.enter(connection, tables, place)
            sql.reap(connection, table, table.c.hold_ends <= now, self._max_lost)
            rows = ledger_certain.take(connection, tables, place, limit, ascending, max_pop)
            if not rows:
                return []
            sql.mark(connection, table, rows, worker, token, now, lease_seconds)
            return claims(connection, rows, now)

        return self._run(work, reident=reident) if limit > 0 else []

    def certainty_written(self, claim: CertaintyClaim, seconds: float = 0.0) -> None:
        """Step 6 of a tract, or of a county's files, is done; ends the claim. Raises LostLease."""
        now = self._database.now()
        values = {
            "sure_start": now - round(seconds),
            "sure_end": now,
            "sure_host": claim.worker.host,
            "error": None,
            **moves.UNHELD,
        }
        self._finish(claim, WRITE_CERTAINTY, values | moves.UNHELD, was=NEW, becomes=CERTAIN, files=[])

    def certainty_by_hand(self, reident: str, stusab: str, county: str, people_digest: str, host: str) -> None:
        """Step 6 of a county is done outside any claim, of people with that digest ("": not known): its rows say so, but for those
        that somebody holds, and where the people have been written anew."""
        tables, place = experiment_tables(reident), Place(stusab, county)

        def work(connection: Connection) -> None:
            ledger_certain.enter(connection, tables, place)
            ledger_certain.mark(connection, tables, place, WRITE_CERTAINTY, people_digest, host, self._now(connection))

        self._run(work, reident=reident)

    def certain_counties(self, reident: str, place: Place = EVERYWHERE) -> list[tuple[str, str]]:
        """Return state and county of those whose files of certainty are in place, as far as the ledger knows."""
        tables = experiment_tables(reident)
        return self._run(lambda connection: ledger_certain.complete(connection, tables, place), reident=reident, write=False)

    def reset_certainty(self, reident: str, place: Place = EVERYWHERE) -> int:
        """For --step6 --force: the certainty of a place is computed anew. Returns how many tracts and counties."""
        tables = experiment_tables(reident)
        return self._run(lambda connection: ledger_certain.reset(connection, tables, place), reident=reident, repeat_commit=False)

    # -- what the operator does -------------------------------------------------------------------------------------

    def finished(self, reident: str, place: Place = EVERYWHERE) -> tuple[int, int]:
        """Return how many solved tracts and how many written counties a place has: what --force would put back."""
        tables = experiment_tables(reident)
        return self._run(lambda connection: ledger_reset.finished(connection, tables, place), reident=reident, write=False)

    def reset(self, reident: str, step: int, place: Place = EVERYWHERE) -> int:
        """For --force: 3 puts tracts with people back to NEW, 4 back to LP, and both reopen their counties; 5 reopens counties.

        Whoever is at work there loses the claim. Quarantined tracts are included (by 4 only if they have an LP). Returns the
        number of tracts (5: counties).
        """
        if step not in (3, 4, 5):
            raise UsageError(f"step {step} cannot be put back in the ledger: choose 3, 4 or 5")
        tables = experiment_tables(reident)
        return self._run(
            lambda connection: ledger_reset.reset(connection, tables, step, place),
            reident=reident,
            repeat_commit=False,
        )

    def retry_quarantined(self, reident: str, place: Place = EVERYWHERE) -> int:
        """Put quarantined tracts and counties back to work, counters at 0. Returns how many.

        A tract becomes NEW even if it had an LP: what failed may be the LP file, and building it is the cheaper half.
        """
        tables = experiment_tables(reident)
        return self._run(lambda connection: ledger_reset.retry_quarantined(connection, tables, place), reident=reident)

    def claimants(self, reident: str) -> list[Claimant]:
        """Return everyone who holds something, live or not, by host and name: for unlocking the dead."""
        tables = experiment_tables(reident)
        return self._run(lambda connection: holders.claimants(connection, tables), reident=reident, write=False)

    def holders(self, reident: str) -> list[Holder]:
        """Return every host that holds something, by name, and whether it counts as gone."""
        tables, beats = experiment_tables(reident), self.beats

        def work(connection: Connection) -> list[Holder]:
            return holders.holders(connection, tables, self._now(connection), beats)

        return self._run(work, reident=reident, write=False)

    def release_worker(self, reident: str, worker: Worker, *, died: bool = True) -> int:
        """Frees at once what a worker of whom you know that it is no more holds; with ``died`` counted as a lost lease.

        Returns how many tracts, counties and states.
        """
        return self._free_holders(reident, died, lambda table: table.c.claimed_by == str(worker))

    def release_dead(self, reident: str, host: str) -> int:
        """Frees at once what processes of ``host``, which is this machine, hold that are no more; nothing is counted. How many."""
        workers = {claimant.worker for claimant in self.claimants(reident) if claimant.worker.host == host}
        return sum(self.release_worker(reident, worker, died=False) for worker in workers if not worker.lives())

    def release_hosts(self, reident: str, hosts: Collection[str]) -> int:
        """For --unlock: frees what workers of these hosts hold, nothing counted. Returns how many tracts, counties and states."""
        return self._free_holders(reident, died=False, which=lambda table: table.c.claimed_host.in_(list(hosts)))

    def _free_holders(self, reident: str, died: bool, which: Callable[[Table], Any]) -> int:
        tables = experiment_tables(reident)

        def work(connection: Connection) -> int:
            counted = (tables.tracts, tables.counties, tables.certainty) if died else ()
            rest = [table for table in (tables.tracts, tables.counties, tables.certainty, tables.states) if table not in counted]
            freed = sql.free_holders(connection, rest, which)
            return freed + sum(sql.reap(connection, table, which(table), self._max_lost, None) for table in counted)

        return self._run(work, reident=reident)

    def snapshot(self, reident: str, stusab: str, county: str) -> Snapshot:
        """Return how a county stands, for :meth:`put_right`. To be taken before its files are looked at."""
        tables, place = experiment_tables(reident), Place(stusab, county)
        return self._run(lambda connection: ledger_files.snapshot(connection, tables, place), reident=reident, write=False)

    def put_right(self, reident: str, found: CountyFound, before: Snapshot, dry_run: bool = False) -> list[Change]:
        """For --rescan: make the ledger of a county agree with its files, in one transaction. What has changed."""
        tables = experiment_tables(reident)

        def work(connection: Connection) -> list[Change]:
            return ledger_files.put_right(connection, tables, self._now(connection), found, before, dry_run)

        return self._run(work, reident=reident, write=not dry_run)

    # -- reports ----------------------------------------------------------------------------------------------------

    def work_left(
        self,
        reident: str,
        steps: Collection[int] = (3, 4, 5),
        place: Place = EVERYWHERE,
    ) -> Work:
        """Return what can be claimed now or later for these steps and this place, and what is quarantined there.

        With step 5 a county counts as claimable only if its tracts are solved. Work that a stale lease holds is claimable.
        """
        tables = experiment_tables(reident)
        now = self._database.now()
        places = (sql.narrow(tables.tracts, place), sql.narrow(tables.counties, place))
        closable, index = sql.closable(tables, place, held_too=True), sql.index_for(place)

        def work(connection: Connection) -> Work:
            left = ledger_reports.work_left(connection, tables, now, steps, places, index, closable)
            if 6 not in steps:
                return left
            free, running, waiting, bad = ledger_certain.left(connection, tables, place, self._now(connection))
            return replace(
                left,
                certainty_claimable=free,
                certainty_running=running,
                certainty_waiting=waiting,
                certainty_quarantined=bad,
            )

        return self._run(work, reident=reident, write=False)

    def status(self, reident: str, place: Place = EVERYWHERE) -> Status:
        """Return everything that --status prints, of a state or a county if ``place`` is one.

        It is read from sums over indexes: tens of milliseconds for the country's 73,057 tracts.
        """
        tables = experiment_tables(reident)
        now, beats = self._database.now(), self.beats
        return self._run(
            lambda connection: ledger_reports.status(connection, tables, now, place, beats), reident=reident, write=False
        )

    def record_error(self, report: ErrorReport) -> None:
        """Keep an error, texts of any length whole."""
        uid, now = uuid.uuid4().hex, self._database.now()
        self._run(lambda connection: ledger_reports.insert_error(connection, uid, now, report))

    def errors(self, reident: str | None = None, limit: int = 20) -> list[ErrorEntry]:
        """Return the newest errors, newest first, of one experiment or of all."""
        return self._run(lambda connection: ledger_reports.errors(connection, reident, limit), write=False)

    def makers(self, reident: str) -> list[Maker]:
        """By what the experiment's solutions were made, and how many by each, most first."""
        tables = experiment_tables(reident)
        return self._run(lambda connection: ledger_reports.makers(connection, tables), reident=reident, write=False)

    def record_sysload(self, load: SysLoad, keep_seconds: int = 7 * 86400) -> None:
        """Keep a node's report, and forgets this host's that are older than ``keep_seconds``."""
        now = self._database.now()
        self._run(lambda connection: ledger_reports.insert_sysload(connection, now, load, keep_seconds))

    def sysload(self) -> list[SysLoadEntry]:
        """Return the newest report of every host, by host."""
        return self._run(ledger_reports.newest_sysload, write=False)

    def reporting(self) -> list[SysLoadEntry]:
        """Return the same of those that do not count as gone by it."""

        def work(connection: Connection) -> list[SysLoadEntry]:
            now = self._now(connection)
            return [
                entry for entry in ledger_reports.newest_sysload(connection) if not holders.is_silent(entry.at, now, self.beats)
            ]

        return self._run(work, write=False)

    def now(self) -> int:
        """Return the time by the clock of all records."""
        return self._run(self._now, write=False)

    def lose_patience(self) -> None:
        """From now on wait no more for a database that is away, nor go on waiting. Safe from any thread or signal handler."""
        self._database.patience = 0.0
