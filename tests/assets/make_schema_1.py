"""Write schema_1_sqlite.sql and schema_1_mysql.sql: the tables of version 1, before there was a version, with work half done.

    git worktree add /tmp/old 27b6a3b && python tests/assets/make_schema_1.py /tmp/old

Tables and indexes are those of that commit's own definitions; a statement a line.
"""

import importlib
import sys
from pathlib import Path

from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

HERE = Path(__file__).parent
FREE = "NULL, NULL, NULL, NULL, 0"
TRACTS = [  # tract, pop, status, attempts, lost, error, claimed_by, claimed_host, claimed_at, token, lease_end, lp_end, sol_end
    "('000100', 900, 'solved', 0, 0, NULL, NULL, NULL, NULL, 't1', 0, 1600000100, 1600000200)",
    f"('000200', 800, 'lp', 0, 1, NULL, {FREE}, 1600000100, NULL)",
    f"('000300', 700, 'new', 0, 0, NULL, {FREE}, NULL, NULL)",
    "('000400', 600, 'new', 0, 0, NULL, 'gone/1-1', 'gone', 1600000000, 't4', 1600000300, NULL, NULL)",
    "('000500', 500, 'new', 1, 0, 'bad', NULL, NULL, NULL, 't5', 1600000310, NULL, NULL)",
    f"('000600', 400, 'quarantined', 3, 0, 'it contradicts itself', {FREE}, 1600000100, NULL)",
    f"('990000', 0, 'empty', 0, 0, NULL, {FREE}, NULL, NULL)",
]


def main() -> None:
    """Write both files."""
    sys.path.insert(0, sys.argv[1])
    schema = importlib.import_module("cluster.schema")
    tables = [*schema.common.sorted_tables, *schema.experiment_tables("r1").all()]
    for name, dialect in (("sqlite", sqlite.dialect()), ("mysql", mysql.dialect())):
        statements = [str(CreateTable(table).compile(dialect=dialect)) for table in tables]
        indexes = [index for table in tables for index in sorted(table.indexes, key=lambda item: item.name)]
        statements += [str(CreateIndex(index).compile(dialect=dialect)) for index in indexes]
        lines = [" ".join(statement.split()) for statement in [*statements, *rows()]]
        (HERE / f"schema_1_{name}.sql").write_text("".join(f"{line};\n" for line in lines), encoding="utf-8")


def rows() -> list[str]:
    """An experiment in the middle of its work, and one whose registration was broken off."""
    columns = "tract, pop, status, attempts, lost, error, claimed_by, claimed_host, claimed_at, token, lease_end, lp_end, sol_end"
    found = [
        "INSERT INTO dbr_experiments (folded, reident, tables, product, created) VALUES ('r1', 'r1', 'all', '2010_sf1', 1599999)",
        "INSERT INTO dbr_experiments (folded, reident, tables, product, created) VALUES ('r2', 'r2', 'all', '2010_sf1', -1599999)",
        "INSERT INTO r1_states (stusab, state, geo_end) VALUES ('de', '10', 1600000000)",
    ]
    for item in TRACTS:
        found.append(
            f"INSERT INTO r1_tracts (stusab, state, county, lp_count, sol_count, {columns}) "
            f"VALUES ('de', '10', '001', 0, 0, {item[1:]}"
        )
    found += [
        "INSERT INTO r1_tracts (stusab, state, county, lp_count, sol_count, " + columns + ") VALUES ('de', '10', '003', 1, 1, "
        f"'000100', 50, 'solved', 0, 0, NULL, {FREE}, 1600000100, 1600000200)",
        "INSERT INTO r1_counties (stusab, state, county, name, tracts, pop, status, attempts, lost, lease_end, csv_count) "
        "VALUES ('de', '10', '001', 'Kent', 6, 3900, 'open', 0, 0, 0, 0)",
        "INSERT INTO r1_counties (stusab, state, county, name, tracts, pop, status, attempts, lost, lease_end, csv_count, "
        "csv_start, csv_end, csv_host) "
        "VALUES ('de', '10', '003', 'Sussex', 1, 50, 'written', 0, 0, 0, 1, 1600000200, 1600000201, 'ann')",
        "INSERT INTO dbr_sysload (host, at, load1, load5, load15, free_memory_mib, total_memory_mib, running) "
        "VALUES ('gone', 1600000000, 1, 1, 1, 1, 1, 1)",
    ]
    return found


if __name__ == "__main__":
    main()
