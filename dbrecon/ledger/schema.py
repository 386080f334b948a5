"""The ledger's tables, as :data:`VERSION` of the schema has them. :mod:`dbrecon.ledger.migrations` makes them of older ones.

Identifiers are ASCII with binary comparison, so that MySQL neither folds case nor widens indexes. Times are Unix time
in BIGINT. ``hold`` says who has a row (see :mod:`dbrecon.ledger.lifecycle`) and ``hold_ends`` until when; both are in the indexes
of claims, so that a claim finds the biggest free tract at once, however many are done or held.

Digests are SHA-256 in hex, of the unpacked content. NULL: nothing was accepted. "": accepted by a program that kept no digests.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from dbrecon.ledger.lifecycle import FREE
from dbrecon.ledger.records import WORKER_LENGTH

VERSION = 6
"""Of the tables below. Raise it with every change of them, and add the step to :mod:`dbrecon.ledger.migrations`."""

_MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def _ascii(length: int) -> TypeEngine[str]:
    """Return the type of codes: ASCII, compared byte by byte."""
    narrow = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return String(length).with_variant(narrow, "mysql", "mariadb")


def _long_text() -> TypeEngine[str]:
    return Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def _float() -> TypeEngine[float]:
    return Double().with_variant(mysql.DOUBLE(asdecimal=False), "mysql", "mariadb")


def _digest(name: str) -> Column[str]:
    return Column(name, _ascii(64))


common = MetaData()

# One row for each version that this database has had.
schema_versions = Table(
    "dbr_schema",
    common,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("since", BigInteger, nullable=False),
    **_MYSQL,
)

experiments = Table(
    "dbr_experiments",
    common,
    Column("folded", _ascii(40), primary_key=True),  # lower case: table names may be case-insensitive
    Column("reident", _ascii(40), nullable=False),
    Column("tables", _ascii(200), nullable=False),
    Column("product", _ascii(100), nullable=False),
    Column("created", BigInteger, nullable=False),  # when it was registered
    Column("stage", _ascii(10), nullable=False),  # see registry
    Column("seed", BigInteger, nullable=False),  # of the solver, for all tracts
    Column("program", _ascii(40), nullable=False),  # that registered it, or settled its seed; "" where neither did
    Column("ages", _ascii(10), nullable=False),  # what its programs count by: "bins" or "single"
    **_MYSQL,
)

errors = Table(
    "dbr_errors",
    common,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("uid", _ascii(32), nullable=False),  # from the writer, so that a repeated insert is not a second error
    Column("at", BigInteger, nullable=False),
    Column("reident", _ascii(40), nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("line", BigInteger, nullable=False),
    Column("stusab", String(20), nullable=False),
    Column("county", String(20), nullable=False),
    Column("tract", String(20), nullable=False),
    UniqueConstraint("uid", name="dbr_errors_uid"),
    **_MYSQL,
)

# A text of any length in pieces, since a server takes no statement above its max_allowed_packet.
error_texts = Table(
    "dbr_error_texts",
    common,
    Column("error_id", BigInteger, nullable=False),
    Column("field", _ascii(10), nullable=False),  # file, stack or message
    Column("piece", Integer, nullable=False),
    Column("text", _long_text(), nullable=False),
    PrimaryKeyConstraint("error_id", "field", "piece"),
    **_MYSQL,
)

sysload = Table(
    "dbr_sysload",
    common,
    Column("host", String(255), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("load1", _float(), nullable=False),
    Column("load5", _float(), nullable=False),
    Column("load15", _float(), nullable=False),
    Column("free_memory_mib", BigInteger, nullable=False),
    Column("total_memory_mib", BigInteger, nullable=False),
    Column("running", Integer, nullable=False),
    PrimaryKeyConstraint("host", "at"),
    **_MYSQL,
)


@dataclass(frozen=True)
class ExperimentTables:
    """The tables of one experiment, named after its REIDENT."""

    metadata: MetaData
    states: Table
    geo: Table
    tracts: Table
    counties: Table
    certainty: Table

    def all(self) -> tuple[Table, ...]:
        """Return every table, in the order of making them."""
        return (self.states, self.geo, self.tracts, self.counties, self.certainty)


def _claim_columns() -> list[Column[object]]:
    """Return the columns of work that schedulers claim: its holder, and what became of earlier ones."""
    return [
        *_holder_columns(),
        Column("attempts", Integer, nullable=False, default=0),  # failures
        Column("lost", Integer, nullable=False, default=0),  # leases that ended without a word
        Column("error", _long_text()),
    ]


def _holder_columns() -> list[Column[object]]:
    """Return the columns of a row's holder. ``token`` outlives the claim, so that a repeated finish is known as the same one."""
    return [
        Column("status", _ascii(12), nullable=False),
        Column("hold", _ascii(8), nullable=False, default=FREE),
        Column("hold_ends", BigInteger),  # of a lease or a rest; NULL where the row is free
        Column("claimed_by", String(WORKER_LENGTH)),
        Column("claimed_host", String(255)),
        Column("claimed_at", BigInteger),
        Column("token", _ascii(32)),
        Column("fence", BigInteger, nullable=False, default=0),  # the claim's number: of two claims the later has the higher
    ]


def _claim_indexes(name: str) -> tuple[Index, Index]:
    """Return what a claim finds the biggest free row by, and a reaper the holds that have ended."""
    return Index(f"{name}_free", "status", "hold", "pop"), Index(f"{name}_hold", "hold", "hold_ends")


def _county_columns() -> list[Column[str]]:
    codes = {"stusab": 2, "state": 2, "county": 3}
    return [Column(name, _ascii(length), nullable=False) for name, length in codes.items()]


@lru_cache(maxsize=64)
def experiment_tables(reident: str) -> ExperimentTables:
    """Return the table objects of an experiment whose REIDENT has been checked by the caller."""
    meta = MetaData()
    units = (_tracts(meta, reident), _counties(meta, reident), _certainty(meta, reident))
    return ExperimentTables(meta, _states(meta, reident), _geo(meta, reident), *units)


def _states(meta: MetaData, reident: str) -> Table:
    return Table(
        f"{reident}_states",
        meta,
        Column("stusab", _ascii(2), primary_key=True),
        Column("state", _ascii(2), nullable=False),
        *_holder_columns(),
        Column("geo_end", BigInteger, nullable=False),  # 0 until the geography is in place
        _digest("zip_digest"),  # of the zip that step 1 has read (see StateZip.digest); NULL where the geofile alone is known
        _digest("geofile_digest"),
        **_MYSQL,
    )


def _geo(meta: MetaData, reident: str) -> Table:
    return Table(
        f"{reident}_geo",
        meta,
        Column("stusab", _ascii(2), nullable=False),
        Column("sumlev", _ascii(3), nullable=False),
        Column("geocomp", _ascii(2), nullable=False),
        Column("logrecno", Integer, nullable=False, autoincrement=False),
        Column("state", _ascii(2), nullable=False),
        Column("county", _ascii(3), nullable=False),
        Column("tract", _ascii(6), nullable=False),
        Column("block", _ascii(4), nullable=False),
        Column("name", String(100), nullable=False),
        Column("pop100", BigInteger, nullable=False),
        Column("hu100", BigInteger, nullable=False),
        Column("arealand", BigInteger, nullable=False),
        Column("areawatr", BigInteger, nullable=False),
        Column("intptlat", _float(), nullable=False),
        Column("intptlon", _float(), nullable=False),
        PrimaryKeyConstraint("stusab", "logrecno"),
        sqlite_with_rowid=False,
        **_MYSQL,
    )


def _tracts(meta: MetaData, reident: str) -> Table:
    name = f"{reident}_tracts"
    return Table(
        name,
        meta,
        *_county_columns(),
        Column("tract", _ascii(6), nullable=False),
        Column("pop", BigInteger, nullable=False),
        *_claim_columns(),
        Column("lp_start", BigInteger),
        Column("lp_end", BigInteger),
        Column("lp_host", String(255)),
        Column("sol_start", BigInteger),
        Column("sol_end", BigInteger),
        Column("sol_host", String(255)),
        _digest("lp_digest"),
        _digest("sol_digest"),
        Column("sol_seed", BigInteger),
        Column("sol_program", _ascii(40)),
        Column("variables", BigInteger),
        Column("constraints", BigInteger),
        Column("nonzeros", BigInteger),
        Column("lp_seconds", _float()),
        Column("solver", String(100)),
        Column("solve_seconds", _float()),
        Column("memory_mib", BigInteger),
        Column("lp_count", Integer, nullable=False, default=0),
        Column("sol_count", Integer, nullable=False, default=0),
        PrimaryKeyConstraint("stusab", "county", "tract"),
        *_claim_indexes(name),
        Index(f"{name}_state", "stusab", "status", "hold", "pop"),
        Index(f"{name}_county", "stusab", "county", "status", "hold", "pop"),
        Index(f"{name}_lp", "lp_end", "lp_host"),
        Index(f"{name}_sol", "sol_end", "sol_host", "pop"),
        Index(f"{name}_cost", "solve_seconds", "lp_seconds"),
        **_MYSQL,
    )


def _counties(meta: MetaData, reident: str) -> Table:
    name = f"{reident}_counties"
    return Table(
        name,
        meta,
        *_county_columns(),
        Column("name", String(100), nullable=False),
        Column("tracts", Integer, nullable=False),  # with people
        Column("pop", BigInteger, nullable=False),
        *_claim_columns(),
        _digest("zip_digest"),  # of the zip that the two county files are made of
        _digest("block_digest"),
        _digest("tract_digest"),
        Column("block_bytes", BigInteger),
        Column("tract_bytes", BigInteger),
        Column("csv_start", BigInteger),
        Column("csv_end", BigInteger),
        Column("csv_host", String(255)),
        _digest("csv_digest"),
        Column("csv_count", Integer, nullable=False, default=0),
        PrimaryKeyConstraint("stusab", "county"),
        *_claim_indexes(name),
        **_MYSQL,
    )


def _certainty(meta: MetaData, reident: str) -> Table:
    name = f"{reident}_certainty"
    return Table(
        name,
        meta,
        *_county_columns(),
        Column("tract", _ascii(6), nullable=False),  # COUNTY_FILES is the county's own files
        Column("pop", BigInteger, nullable=False),
        *_claim_columns(),
        _digest("people_digest"),  # of the county's people
        Column("sure_start", BigInteger),
        Column("sure_end", BigInteger),
        Column("sure_host", String(255)),
        PrimaryKeyConstraint("stusab", "county", "tract"),
        *_claim_indexes(name),
        **_MYSQL,
    )
