"""The ledger put right by what lies in storage: for ``--rescan``, and for an experiment that was copied. For ``Ledger`` alone.

A file is adopted only if it was checked against today's tables: those of the county files that step 2 has entered. A tract is
SOLVED if its LP file and a solution are there that meets every cell of them, LP if only an LP file of them is, else NEW; a county
is WRITTEN if its people are there and are those of its solutions. Where the county files are not known to be today's, nothing is
adopted, and what is done stays only if its file is the one that was accepted. What is in work, or has changed since the files were
looked at, is left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from dbrecon.ledger import certain, moves
from dbrecon.ledger import claiming as sql
from dbrecon.ledger.lifecycle import CERTAIN, EMPTY, LEASED, LP, NEW, OPEN, QUARANTINED, RESCAN, SOLVED, WRITTEN
from dbrecon.ledger.records import COUNTY_FILES, FOUND, CountyDigests
from dbrecon.ledger.schema import ExperimentTables
from dbrecon.place import Place


@dataclass(frozen=True)
class LpFound:
    """A whole LP file, written ``at`` (Unix time). ``of_tables``: whether it is of the tables at hand; None if it does not say."""

    at: int
    variables: int | None
    constraints: int | None
    nonzeros: int | None
    digest: str = ""
    of_tables: bool | None = None


@dataclass(frozen=True)
class SolFound:
    """A whole solution of the right population; ``checked``: it meets every published cell of the tables at hand."""

    at: int
    solver: str
    checked: bool
    digest: str = ""
    seed: int | None = None
    program: str = ""


@dataclass(frozen=True)
class TractFound:
    """The files of a tract with people that are whole."""

    tract: str
    lp: LpFound | None
    sol: SolFound | None


@dataclass(frozen=True)
class CountyFound:
    """The files of a county. ``files``: its two files, if they are known to be those of today's tables. ``people_at``: when the
    people were written that its solutions give, None if they are not there, or ``people_unread``, since they could not be compared.
    Tracts that could not be read are not among ``tracts``."""

    stusab: str
    county: str
    tracts: tuple[TractFound, ...]
    people_at: int | None
    people_unread: bool = False
    files: CountyDigests | None = None
    people_digest: str = ""
    certain: bool | None = None
    """Whether its files of certainty are whole, and of its people and tables; None where they could not be read."""


@dataclass(frozen=True)
class Snapshot:
    """How a county stood in the ledger before its files were looked at: of its row and of each tract's what changes whenever it
    does."""

    county: tuple[object, ...] | None
    tracts: Mapping[str, "TractMark"]
    certainty: tuple[object, ...] | None = None

    def lp_digests(self) -> dict[str, str | None]:
        """By tract, that of the LP file that was accepted."""
        return {tract: mark.lp_digest for tract, mark in self.tracts.items()}


class TractMark(NamedTuple):
    """Of a tract's row what changes whenever it does."""

    status: str
    token: str | None
    fence: int
    lp_count: int
    sol_count: int
    lp_digest: str | None
    sol_digest: str | None


@dataclass(frozen=True)
class Change:
    """A tract that became something else, the county (``tract`` is "") or its certainty (``COUNTY_FILES``). If it stays what it
    was, another file was adopted."""

    stusab: str
    county: str
    tract: str
    was: str
    becomes: str


def snapshot(connection: Connection, tables: ExperimentTables, place: Place) -> Snapshot:
    """Return how a county stands. To be taken before its files are looked at."""
    tracts = connection.execute(select(tables.tracts).where(*sql.narrow(tables.tracts, place)))
    county = connection.execute(select(tables.counties).where(*sql.narrow(tables.counties, place))).first()
    own = certain.county_row(connection, tables, place)
    of_certainty = None if own is None else _certainty_mark(own)
    return Snapshot(None if county is None else _county_mark(county), {row.tract: _mark(row) for row in tracts}, of_certainty)


def _mark(row: Row[Any]) -> TractMark:
    return TractMark(*(getattr(row, name) for name in TractMark._fields))


def _certainty_mark(row: Row[Any]) -> tuple[object, ...]:
    return (row.status, row.token, row.fence, row.people_digest, row.sure_end)


def _county_mark(row: Row[Any]) -> tuple[object, ...]:
    return (row.status, row.token, row.fence, row.csv_count, row.block_digest, row.tract_digest, row.csv_digest)


def put_right(
    connection: Connection, tables: ExperimentTables, now: int, found: CountyFound, before: Snapshot, dry_run: bool
) -> list[Change]:
    """Make the ledger of a county agree with its files. What has changed, by tract, the county last. ``dry_run`` changes nothing.

    Quarantined tracts stay so unless their solution is there.
    """
    work = _Work(connection, tables, now, found, before, dry_run)
    work.county_files()
    changes = work.tracts()
    changes += work.people(bool(changes))
    return changes + work.certainty()


class _Work:
    """One county, in one transaction."""

    def __init__(
        self, connection: Connection, tables: ExperimentTables, now: int, found: CountyFound, before: Snapshot, dry_run: bool
    ) -> None:
        self._connection, self._tables, self._now = connection, tables, now
        self._found, self._before, self._dry_run = found, before, dry_run
        self._place = Place(found.stusab, found.county)
        counties = tables.counties
        query = select(counties).where(*sql.narrow(counties, self._place)).with_for_update()
        self._county = connection.execute(query).first()
        self._same = self._county is not None and _county_mark(self._county) == before.county
        self._all_solved = False

    def county_files(self) -> None:
        """Enter the county files, if none were, or none that were compared with a zip, and these are known to be today's."""
        files = self._found.files
        if files is None or self._county is None or not self._same or self._dry_run:
            return
        if self._county.block_digest and (self._county.zip_digest is not None or files.zip is None):
            return
        values = {
            "zip_digest": files.zip, "block_digest": files.block, "tract_digest": files.tract,
            "block_bytes": files.block_bytes, "tract_bytes": files.tract_bytes,
        }  # fmt: skip
        moves.note(self._connection, self._tables.counties, sql.narrow(self._tables.counties, self._place), values)

    def tracts(self) -> list[Change]:
        """Put each tract's row right; return what has changed."""
        table = self._tables.tracts
        query = select(table).where(*sql.narrow(table, self._place)).with_for_update()
        rows = {row.tract: row for row in self._connection.execute(query)}
        statuses = {row.tract: row.status for row in rows.values()}
        changes = []
        for tract in self._found.tracts:
            row = rows.get(tract.tract)
            if row is None or row.status == EMPTY or self._is_held(row) or self._before.tracts.get(tract.tract) != _mark(row):
                continue
            becomes = self._becomes(row, tract)
            other = becomes == SOLVED == row.status and tract.sol is not None and row.sol_digest not in ("", tract.sol.digest)
            if becomes != row.status or other:
                changes.append(Change(self._found.stusab, self._found.county, tract.tract, row.status, becomes))
                statuses[tract.tract] = becomes
                self._move(
                    table,
                    [*sql.key(table, row), table.c.token.is_not_distinct_from(row.token)],
                    _values(row, tract, becomes),
                    becomes,
                )
            elif not self._dry_run:
                moves.note(self._connection, table, sql.key(table, row), _unknown_digests(row, tract))
        self._all_solved = all(status in (SOLVED, EMPTY) for status in statuses.values())
        return changes

    def people(self, tracts_changed: bool) -> list[Change]:
        """Return the county's row. If a tract has changed, whoever writes the people loses the claim: he has read another
        solution."""
        row, found = self._county, self._found
        if row is None or row.status == EMPTY:
            return []
        if not tracts_changed and (self._is_held(row) or not self._same):
            return []
        values = dict(moves.ANEW)
        if self._all_solved and found.people_at is not None and self._same:
            becomes = WRITTEN
            values["csv_digest"] = found.people_digest
            if row.csv_end is None:
                values |= {"csv_start": found.people_at, "csv_end": found.people_at, "csv_host": FOUND}
        elif self._all_solved and found.people_unread and not tracts_changed:
            return []
        elif row.status == WRITTEN or tracts_changed:
            becomes = OPEN
            values |= moves.NO_CSV
        else:
            return []
        if becomes == row.status == WRITTEN and row.csv_digest == found.people_digest:
            return []
        self._move(self._tables.counties, sql.narrow(self._tables.counties, self._place), values, becomes)
        return [] if becomes == row.status else [Change(found.stusab, found.county, "", row.status, becomes)]

    def certainty(self) -> list[Change]:
        """Return the certainty of the county, where its people are written: what the files say, unless somebody works on it."""
        found, place = self._found, self._place
        county = self._connection.execute(select(self._tables.counties).where(*sql.narrow(self._tables.counties, place))).first()
        if found.certain is None or county is None or county.status != WRITTEN:
            return []
        own = certain.county_row(self._connection, self._tables, place)
        was = NEW if own is None else str(own.status)
        if own is not None and (self._is_held(own) or self._before.certainty != _certainty_mark(own)):
            return []
        becomes = CERTAIN if found.certain else NEW
        if becomes == was or (becomes == NEW and was == QUARANTINED):
            return []
        if not self._dry_run and found.certain:
            certain.enter(self._connection, self._tables, place)
            certain.mark(self._connection, self._tables, place, RESCAN, found.people_digest, FOUND, self._now)
        elif not self._dry_run:
            certain.unmark(self._connection, self._tables, place)
        return [Change(found.stusab, found.county, COUNTY_FILES, was, becomes)]

    def _move(self, table: Any, where: Any, values: dict[str, Any], becomes: str) -> None:
        if not self._dry_run:
            moves.move(self._connection, table, RESCAN, where, values, becomes)

    def _is_held(self, row: Row[Any]) -> bool:
        return bool(row.hold == LEASED and row.hold_ends > self._now)

    def _becomes(self, row: Row[Any], tract: TractFound) -> str:
        """Return what a tract is by its files."""
        was, known = str(row.status), self._found.files is not None
        lp = tract.lp is not None and self._is_lp(row, tract.lp, known)
        if lp and tract.sol is not None:
            accepted = was == SOLVED and row.sol_digest in ("", tract.sol.digest)
            if tract.sol.checked if known else accepted:
                return SOLVED
        if was == QUARANTINED:
            return was
        return LP if lp else NEW

    @staticmethod
    def _is_lp(row: Row[Any], lp: LpFound, known: bool) -> bool:
        """Return whether a whole LP file is the tract's: the one that was accepted; where none was, one of the ``known`` tables."""
        if not known:
            return row.lp_digest in ("", lp.digest)
        return row.lp_digest in (None, "", lp.digest) and lp.of_tables is not False


def _values(row: Row[Any], found: TractFound, becomes: str) -> dict[str, Any]:
    values: dict[str, Any] = dict(moves.ANEW)
    lp = found.lp
    if lp is None:
        return values | moves.NO_LP | moves.NO_SOL
    if becomes == NEW:  # the digest that was accepted stays, or the next rescan would adopt this file
        return values | moves.NO_LP | moves.NO_SOL | {"lp_digest": row.lp_digest}
    values["lp_digest"] = lp.digest
    if row.lp_end is None:
        values |= {"lp_start": lp.at, "lp_end": lp.at, "lp_host": FOUND}
        values |= {"variables": lp.variables, "constraints": lp.constraints, "nonzeros": lp.nonzeros}
    if becomes != SOLVED or found.sol is None:
        return values | moves.NO_SOL
    sol = found.sol
    values |= {"sol_digest": sol.digest, "sol_seed": sol.seed, "sol_program": sol.program[:40]}
    if row.sol_end is None or row.sol_digest != sol.digest:
        values |= {"sol_start": sol.at, "sol_end": sol.at, "sol_host": FOUND, "solver": sol.solver[:100]}
    return values


def _unknown_digests(row: Row[Any], found: TractFound) -> dict[str, Any]:
    """Return the digests of files that an earlier program accepted without one."""
    values: dict[str, Any] = {}
    if row.lp_digest == "" and found.lp is not None:
        values["lp_digest"] = found.lp.digest
    if row.sol_digest == "" and found.sol is not None and found.sol.checked:
        values |= {"sol_digest": found.sol.digest, "sol_seed": found.sol.seed, "sol_program": found.sol.program[:40]}
    return values
