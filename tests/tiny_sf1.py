"""Small SF1 zips made by hand for tests, and the plain slow way of reading one. Shares no code with the readers it tests."""

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dbrecon.ctools.database import make_engine
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.settings import Config
from tests.paths import CHECKOUT

CONFIG = CHECKOUT / "config"
SEGMENTS = [1, 2, 3, 4, 5, 6, 7, 8, 17, *range(20, 35)]
STATE_CODES = {"nm": "35", "oh": "39", "al": "01", "ca": "06", "nd": "38", "nj": "34"}
BLOCK_TABLES = [f"P{n:03d}" for n in (1, 6, 7, 8, 9, 10, 11, 12)] + [f"P012{letter}" for letter in "ABCDEFGHI"] + ["P014"]
TRACT_TABLES = ["PCT012"] + [f"PCT012{letter}" for letter in "ABCDEFGHIJKLMNO"]


@dataclass
class Record:
    """A record of the header; codes are empty where its level has none."""

    sumlev: str
    county: str = ""
    tract: str = ""
    block: str = ""
    pop: int = 0
    name: str = ""
    geocomp: str = "00"


def some_records(counties: Sequence[str] = ("013", "001")) -> list[Record]:
    """Counties out of order, each with two tracts whose blocks lie apart, an empty block, and a water tract.

    As in real files other levels and components lie between, and tracts come in another part of the file than blocks.
    """
    records = [Record("040", pop=999), Record("040", pop=900, geocomp="01")]
    for county in counties:
        records += [Record("050", county, pop=40, name="Doña Ana County"), Record("060", county, pop=3)]
        for block, pop in [("1003", 7), ("1001", 0), ("1002", 5)]:
            records += [Record("101", county, tract, block, pop) for tract in ("000200", "000101")]
        records += [Record("101", county, "990000", "0001")]
    for county in counties:
        records += [Record("140", county, tract, "", 12) for tract in ("000200", "000101")]
        records += [Record("140", county, "000200", "", 3, geocomp="43"), Record("140", county, "990000")]
    return records


def segment_tables() -> dict[int, list[tuple[str, int]]]:
    """Each segment's tables and their numbers of cells, in file order."""
    tables: dict[int, list[tuple[str, int]]] = {}
    with (CONFIG / "products" / "sf1_2010" / "segments.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            tables.setdefault(int(row["segment"]), []).append((row["table"], int(row["cells"])))
    return tables


def make_members(records: Sequence[Record], stusab: str = "nm") -> dict[str, bytes]:
    """The members of a zip, by name. Cells are numbers that differ from one another, 0 in blocks without people; the first of each
    level is the population."""
    members: dict[str, list[str]] = {f"{stusab}geo2010.sf1": [_header_line(r, n, stusab) for n, r in enumerate(records, 1)]}
    tables = segment_tables()
    for segment in SEGMENTS:
        lines = members[f"{stusab}{segment:05d}2010.sf1"] = []
        for number, record in enumerate(records, 1):
            if segment >= 15 and record.block:
                continue
            cells: list[str] = []
            for table, count in tables[segment]:
                if record.block and not record.pop:
                    cells += ["0"] * count
                elif table.startswith("P013"):
                    cells += ["37.5"] * count
                else:
                    first = record.pop if table in ("P001", "PCT012") else number % 10
                    cells += [str(first)] + [str((number * 31 + segment * 7 + j) % 1000) for j in range(1, count)]
            lines.append(",".join(["SF1ST", stusab.upper(), "000", f"{segment:02d}", f"{number:07d}", *cells]))
    return {name: "".join(f"{line}\n" for line in lines).encode("latin-1") for name, lines in members.items()}


def _header_line(record: Record, number: int, stusab: str) -> str:
    values = {
        "FILEID": "SF1ST", "STUSAB": stusab.upper(), "SUMLEV": record.sumlev, "GEOCOMP": record.geocomp, "CHARITER": "000",
        "LOGRECNO": f"{number:07d}", "STATE": STATE_CODES[stusab], "COUNTY": record.county, "TRACT": record.tract,
        "BLOCK": record.block, "BLKGRP": record.block[:1], "NAME": record.name, "POP100": str(record.pop), "HU100": "4",
        "AREALAND": "1234567", "AREAWATR": "89", "INTPTLAT": "+32.3526466", "INTPTLON": "-106.8327890",
    }  # fmt: skip
    line = ""
    with (CONFIG / "products" / "sf1_2010" / "header.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            width = int(row["length"])
            value = values.get(row["field"], "")
            line += value.rjust(width) if row["field"] in ("POP100", "HU100", "AREALAND") else value.ljust(width)
    return line


def zip_bytes(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of the members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name, (2011, 6, 1, 0, 0, 0)), content, compression)
    return buffer.getvalue()


def put_zip(experiment: Experiment, content: bytes, stusab: str = "nm") -> Path:
    """Lays a state's zip into ``dist/``."""
    path = Path(experiment.dist_zip(stusab))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def environment(root: Path) -> dict[str, str]:
    """The environment of an experiment below ``root``, on SQLite."""
    return {"DAS_S3ROOT": str(root), "REIDENT": "r1"}


def make_experiment(root: Path, tables: str = "all") -> tuple[Experiment, Ledger]:
    """A registered experiment of the name r1 below ``root``."""
    config = Config.load(env=environment(root), hostname="here")
    ledger = Ledger(make_engine(**config.database()))
    ledger.register("r1", tables, "2010_sf1")
    return Experiment.make("r1", config, tables), ledger


def cell_names(table: str, count: int) -> list[str]:
    """The names of a table's cells: four digits after a digit, three after a letter."""
    return [f"{table}{n:04d}" if table[-1].isdigit() else f"{table}{n:03d}" for n in range(1, count + 1)]


def read_slowly(content: bytes, stusab: str) -> dict[tuple[str, str], list[list[str]]]:
    """(level, county) -> the rows that the county's file must have, header first: everything parsed, everything in memory."""
    cells: dict[int, dict[str, str]] = {}
    tables = segment_tables()
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        for segment in SEGMENTS:
            names = [name for table, count in tables[segment] for name in cell_names(table, count)]
            for fields in csv.reader(io.TextIOWrapper(file.open(f"{stusab}{segment:05d}2010.sf1"), "latin-1")):
                cells.setdefault(int(fields[4]), {}).update(zip(names, fields[5:], strict=True))
        header = io.TextIOWrapper(file.open(f"{stusab}geo2010.sf1"), "latin-1").read().splitlines()
    files: dict[tuple[str, str], list[list[str]]] = {}
    counts = {table: count for of_segment in tables.values() for table, count in of_segment}
    wanted = {"block": BLOCK_TABLES, "tract": TRACT_TABLES}
    for line in header:
        level = {"101": "block", "750": "block", "140": "tract"}.get(line[8:11])
        if level is None or line[11:13] != "00":
            continue
        of_record = cells[int(line[18:25])]
        geoid = line[27:32] + line[54:60] + (line[61:65] if level == "block" else "")
        names = [name for table in wanted[level] for name in cell_names(table, counts[table])]
        rows = files.setdefault((level, line[29:32]), [])
        if not rows:
            rows.append([f"geoid_{level}", "logrecno", *names])
        if level == "tract" or of_record["P0010001"] != "0":
            rows.append([geoid, line[18:25], *[of_record[name] for name in names]])
    return {key: [rows[0], *sorted(rows[1:])] for key, rows in files.items()}
