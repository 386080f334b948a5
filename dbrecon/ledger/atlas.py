"""The part of the ledger that knows which experiments there are, and what steps 1 and 2 have entered of their states."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sqlalchemy import Connection, func, select

from dbrecon.ctools import staging
from dbrecon.ctools.database import describe
from dbrecon.ctools.staging import Staged
from dbrecon.errors import UsageError
from dbrecon.ledger import claiming as sql
from dbrecon.ledger import places as ledger_geography
from dbrecon.ledger import registry as ledger_experiments
from dbrecon.ledger.claiming import listed
from dbrecon.ledger.core import Core
from dbrecon.ledger.lifecycle import ENTERED, SOLVED
from dbrecon.ledger.records import (
    CountyDigests,
    ExperimentRow,
    GeoRow,
    HeldState,
    LostLease,
    StateClaim,
    StateDigests,
    TractState,
    Worker,
)
from dbrecon.ledger.schema import experiment_tables
from dbrecon.place import Place

T = TypeVar("T")


class Atlas(Core):
    """See :class:`dbrecon.ledger.ledger.Ledger`."""

    # -- experiments ------------------------------------------------------------------------------------------------

    def register(self, reident: str, tables: str, product: str, seed: int = 0, program: str = "", ages: str = "bins") -> None:
        """Make the experiment's tables. UsageError if a REIDENT that differs at most in case exists."""
        place, now = describe(self.engine), self._database.now()
        row = ExperimentRow(reident, tables, product, 0, seed, program, ages)
        self._run(lambda connection: ledger_experiments.reserve(connection, place, now, row), repeat_commit=False)
        self._run(lambda connection: ledger_experiments.make(connection, now, reident), repeat_commit=False)

    def drop(self, reident: str) -> None:
        """Remove the experiment's tables and errors (no files). DatabaseError naming those that exist if it does not."""
        if not self._run(lambda connection: ledger_experiments.drop(connection, reident), repeat_commit=False):
            raise self._unknown(reident)

    def experiment(self, reident: str) -> ExperimentRow:
        """Return one experiment. DatabaseError naming those that exist if it is none."""
        found = {row.reident: row for row in self.experiments()}
        if reident not in found:
            raise self._unknown(reident)
        return found[reident]

    def seed_of_solutions(self, reident: str) -> int | None:
        """Return the seed with which most of its solutions were made, as far as the ledger knows."""
        tracts = experiment_tables(reident).tracts
        query = select(tracts.c.sol_seed).where(tracts.c.sol_seed.is_not(None)).group_by(tracts.c.sol_seed)
        rows = self._rows(reident, query.order_by(func.count().desc(), tracts.c.sol_seed).limit(1))
        return int(rows[0].sol_seed) if rows else None

    def solved_tract(self, reident: str) -> tuple[str, str, str] | None:
        """Return state, county and tract of one that is solved; None if none is."""
        tracts = experiment_tables(reident).tracts
        query = select(tracts.c.stusab, tracts.c.county, tracts.c.tract).where(tracts.c.status == SOLVED).limit(1)
        rows = self._rows(reident, query)
        return (rows[0].stusab, rows[0].county, rows[0].tract) if rows else None

    def settle_seed(self, row: ExperimentRow) -> ExperimentRow:
        """Write down the seed of an experiment that had none; the row as it is then, for another node may have been first."""
        self._run(lambda connection: ledger_experiments.settle_seed(connection, row), reident=row.reident)
        return self.experiment(row.reident)

    # -- geography --------------------------------------------------------------------------------------------------

    def claim_state(self, reident: str, stusab: str, worker: Worker, *, lease_seconds: int = 600) -> StateClaim | HeldState:
        """Return the claim on a state for its step 1 or 2, or who has it. It is ended by ``release()``; ``heartbeat()`` and
        entering a county extend its lease."""
        tables, token = experiment_tables(reident), uuid.uuid4().hex

        def look(connection: Connection) -> HeldState | None:
            return ledger_geography.held_state(connection, tables, stusab, self._now(connection))

        def work(connection: Connection) -> StateClaim | HeldState:
            now = self._now(connection)
            return ledger_geography.claim_state(connection, tables, reident, stusab, worker, token, now, lease_seconds)

        if (held := self._run(look, reident=reident, write=False)) is not None:
            return held
        self._run(lambda connection: ledger_geography.enter_state(connection, tables, stusab), reident=reident)
        return self._run(work, reident=reident)

    def replace_geography(
        self,
        reident: str,
        stusab: str,
        rows: Iterable[GeoRow],
        *,
        force: bool = False,
        digests: StateDigests = StateDigests(),  # noqa: B008 - it is frozen
        file: Staged | None = None,
        claim: StateClaim | None = None,
    ) -> bool:
        """Step 1's result in one transaction: the state's records, and its tracts and counties as new work; ``file`` comes in
        place.

        Returns False, with nothing read and nothing changed but the file, if the state is there and not ``force``. With ``force``
        the state begins anew: published tables may have changed in any cell, so no progress is kept, and claims on its tracts are
        lost. Other writers wait on SQLite meanwhile, so give rows that need no long work. Whatever the iterable raises is passed
        on, and nothing is changed. With ``claim``: raises LostLease, and changes nothing, if the state is another's by now.
        """
        tables = experiment_tables(reident)
        self._run(lambda connection: ledger_geography.enter_state(connection, tables, stusab), reident=reident)
        now = self._database.now()

        def work(connection: Connection) -> bool:
            ledger_geography.check_held(connection, claim, now)
            entered = ledger_geography.replace(connection, tables, stusab, now, rows, force, digests)
            if file is not None:
                staging.accept(file)
            return entered

        # No repeat: what was read of the iterable is gone.
        return _accepting([] if file is None else [file], lambda: self._run(work, reident=reident, repeat=False))

    def state_digests(self, reident: str, stusab: str) -> StateDigests:
        """Of what step 1 has read and written of a state."""
        states = experiment_tables(reident).states
        query = select(states.c.zip_digest, states.c.geofile_digest).where(states.c.stusab == stusab)
        rows = self._rows(reident, query)
        return StateDigests(*rows[0]) if rows else StateDigests()

    def note_zip(self, reident: str, stusab: str, digest: str) -> None:
        """Enter the zip of which a state's files are, or are to be, made; it has the geography that was entered."""
        tables = experiment_tables(reident)
        self._run(lambda connection: ledger_geography.note_zip(connection, tables, stusab, digest), reident=reident)

    def county_files(self, reident: str, stusab: str) -> dict[str, CountyDigests | None]:
        """Return what step 2 has entered of each county's files; None where it has entered none."""
        tables = experiment_tables(reident)

        def work(connection: Connection) -> dict[str, CountyDigests | None]:
            return sql.files_of_counties(connection, tables, stusab)

        return self._run(work, reident=reident, write=False)

    def people_digests(self, reident: str, stusab: str) -> dict[str, str | None]:
        """Return the digest of each county's people that was accepted; None where none are written, "" where none was kept."""
        counties = experiment_tables(reident).counties
        query = select(counties.c.county, counties.c.csv_digest).where(counties.c.stusab == stusab)
        return {row.county: row.csv_digest for row in self._rows(reident, query)}

    def enter_county_files(
        self,
        reident: str,
        stusab: str,
        county: str,
        files: CountyDigests,
        staged: Sequence[Staged] = (),
        claim: StateClaim | None = None,
    ) -> int | None:
        """Step 2's result: the county's files, which come into place. If its tables are others than before, its tracts begin anew
        and claims on them are lost: returns how many had begun; else None. ``claim`` as in :meth:`replace_geography`."""
        tables, now = experiment_tables(reident), self._database.now()

        def work(connection: Connection) -> int | None:
            ledger_geography.check_held(connection, claim, now)
            begun = ledger_geography.enter_county_files(connection, tables, stusab, county, files)
            for file in staged:
                staging.accept(file)
            return begun

        return _accepting(staged, lambda: self._run(work, reident=reident))

    def forget_county_files(self, claim: StateClaim, counties: Iterable[str]) -> None:
        """Count on the counties' files no more: step 2 is to make them again, and what was made of them begins anew. Raises
        LostLease."""
        reident, stusab, counties = claim.reident, claim.stusab, list(counties)
        tables, now = experiment_tables(reident), self._database.now()

        def work(connection: Connection) -> None:
            ledger_geography.check_held(connection, claim, now)
            for county in counties:
                ledger_geography.forget_county_files(connection, tables, stusab, county)

        self._run(work, reident=reident)

    def has_geography(self, reident: str, stusab: str) -> bool:
        """Return True if step 1 of the state is complete."""
        states = experiment_tables(reident).states
        query = select(states.c.stusab).where(states.c.stusab == stusab, states.c.status == ENTERED)
        return self._run(lambda connection: connection.execute(query).first(), reident=reident, write=False) is not None

    def geography(self, reident: str, stusab: str, sumlev: str, county: str | None = None) -> list[GeoRow]:
        """Return the state's records of a summary level ("050", "140", "101"), of one county if given, by LOGRECNO."""
        geo = experiment_tables(reident).geo
        query = select(*(geo.c[name] for name in GeoRow._fields)).order_by(geo.c.logrecno)
        query = query.where(geo.c.stusab == stusab, geo.c.sumlev == sumlev)
        if county is not None:
            query = query.where(geo.c.county == county)
        return [GeoRow(*tuple(row)) for row in self._rows(reident, query)]

    def stusabs(self, reident: str) -> list[str]:
        """Return the states whose step 1 is complete, sorted."""
        states = experiment_tables(reident).states
        query = select(states.c.stusab).where(states.c.status == ENTERED).order_by(states.c.stusab)
        return [row.stusab for row in self._rows(reident, query)]

    def counties(self, reident: str, stusab: str) -> list[str]:
        """Return the state's counties (three digits), sorted."""
        return list(self.county_statuses(reident, stusab))

    def county_statuses(self, reident: str, stusab: str) -> dict[str, str]:
        """Return the state's counties, sorted, each with its status."""
        counties = experiment_tables(reident).counties
        query = select(counties.c.county, counties.c.status).where(counties.c.stusab == stusab).order_by(counties.c.county)
        return {row.county: row.status for row in self._rows(reident, query)}

    def county_names(self, reident: str, place: Place) -> dict[tuple[str, str], str]:
        """Return the names of a place's counties (state, three digits), as published."""
        tables = experiment_tables(reident)
        return self._run(lambda connection: sql.county_names(connection, tables, place), reident=reident, write=False)

    def tracts(self, reident: str, stusab: str, county: str) -> list[str]:
        """Return the county's tracts (six digits), those without people included, sorted."""
        tracts = experiment_tables(reident).tracts
        query = select(tracts.c.tract).where(tracts.c.stusab == stusab, tracts.c.county == county)
        return [row.tract for row in self._rows(reident, query.order_by(tracts.c.tract))]

    def tract_states(self, reident: str, stusab: str, county: str | None = None) -> list[TractState]:
        """Return where the tracts of a state or county stand, by county and tract."""
        tracts = experiment_tables(reident).tracts
        names = TractState.__dataclass_fields__
        query = select(*(tracts.c[name] for name in names)).where(*sql.narrow(tracts, Place(stusab, county)))
        rows = self._rows(reident, query.order_by(tracts.c.county, tracts.c.tract))
        return [TractState(*tuple(row)) for row in rows]

    def check_place(self, reident: str, place: Place) -> None:
        """Raise UsageError, naming those that exist, if the state, the county or a tract is not in the ledger."""
        stusab, county = place.stusab, place.county
        if stusab is None:
            return
        if stusab not in (states := self.stusabs(reident)):
            present = f"it has {listed(states)}" if states else "it has none yet"
            raise UsageError(f"{reident} has no state {stusab} ({present}): run --step1 --stusab {stusab} first")
        if county is None:
            return
        if county not in (counties := self.counties(reident, stusab)):
            raise UsageError(f"{stusab} has no county {county}: choose from {listed(counties)}")
        wrong = sorted(set(place.tracts or ()) - set(known := self.tracts(reident, stusab, county)))
        if wrong:
            raise UsageError(f"county {county} of {stusab} has no tract {listed(wrong)}: choose from {listed(known)}")


def _accepting(staged: Iterable[Staged], enter: Callable[[], T]) -> T:
    """Return what ``enter`` does, which accepts files; those of a claim that was lost are removed."""
    try:
        return enter()
    except LostLease:
        for file in staged:
            staging.discard(file)
        raise
