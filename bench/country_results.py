"""What a run of the country measured (bench/country.py): a JSON file a state and kind of measurement, and the report of all."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from dbrecon.ctools.progress import counted

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "country"
TABLE = HERE / "states_2010.csv"
"""People, counties and tracts by state: 2010 Census, resident population, and the Census Bureau's 2010 geographic entity tallies
(census.gov/geographies/reference-files/time-series/geo/tallies.2010.html). Sums, as published: 308,745,538, 3,143 and 73,057."""


@dataclass(frozen=True)
class State:
    """A state of 2010."""

    stusab: str
    people: int
    counties: int
    tracts: int


@dataclass(frozen=True)
class Measured:
    """Something of a state that was measured: in which sitting, and where."""

    stusab: str
    people: int
    tracts: int
    sitting: str
    machine: str

    @property
    def name(self) -> str:
        """Its file's, without the ending."""
        return self.stusab


@dataclass(frozen=True)
class Result(Measured):
    """What a state took. Seconds of processors are those of all processes; ``ledger_ms`` and ``dashboard_ms`` are one reading of
    --status, and of the dashboard's page, when ``ledger_tracts`` were in the ledger."""

    make_cpu: float
    steps_cpu: dict[str, float]
    steps_wall: dict[str, float]
    peak_mib: float
    zip_bytes: int
    files_bytes: int
    ledger_tracts: int
    ledger_bytes: int
    ledger_ms: float
    dashboard_ms: float

    @property
    def cpu(self) -> float:
        """CPU seconds of steps 1 to 5."""
        return sum(self.steps_cpu.values())

    @property
    def wall(self) -> float:
        """Wall seconds of steps 1 to 5."""
        return sum(self.steps_wall.values())


@dataclass(frozen=True)
class Certainty(Measured):
    """What step 6 of a state took, and what it found: blocks by the proof of their distance, and variability in per cent."""

    cpu: float
    wall: float
    peak_mib: float
    files_bytes: int
    blocks: int
    proofs: dict[str, int]
    cumulative_upper: float
    cumulative_blockwise: float
    blocks_without_variability_pct: float
    certain_pct: float


@dataclass(frozen=True)
class Together(Measured):
    """Steps 3 to 5 of a state by several schedulers, each a host with its own locks, that share a database server. ``cpu`` is all
    processes' but the server's; ``tracts_by_host`` are those that each has solved, the most first."""

    server: str
    schedulers: int
    workers: int
    cpu: float
    wall: float
    peak_mib: float
    tracts_by_host: list[int]
    server_cpu: float
    server_mib: float
    statements: int
    connections: int
    deadlocks: int

    @property
    def name(self) -> str:
        """Its file's, without the ending."""
        return f"{self.stusab}-{self.schedulers}-{self.server.partition(' ')[0].lower()}"


Kind = TypeVar("Kind", bound=Measured)
FOLDERS: dict[type[Measured], str] = {Result: "", Certainty: "certainty", Together: "schedulers"}


def states() -> list[State]:
    """All states, the smallest first."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [State(row["stusab"], int(row["people"]), int(row["counties"]), int(row["tracts"])) for row in csv.DictReader(file)]
    return sorted(rows, key=attrgetter("people"))


def kept(kind: type[Kind], folder: Path = RESULTS) -> dict[str, Kind]:
    """Read what is measured of a kind, by the name of its file."""
    paths = sorted((folder / FOLDERS[kind]).glob("*.json"))
    return {path.stem: kind(**json.loads(path.read_text(encoding="utf-8"))) for path in paths}


def keep(result: Measured, folder: Path = RESULTS) -> None:
    """Write a result into its file, which is whole or not there."""
    path = folder / FOLDERS[type(result)] / f"{result.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    part.replace(path)


# -- the report ---------------------------------------------------------------------------------------------------------

Column = tuple[str, str]
"""A column's head, and how its values are formatted."""
RUN_COLUMNS: Sequence[Column] = (
    ("state", ""), ("people", ","), ("tracts", ","), ("CPU s, steps 1 to 5", ".1f"), ("a million people", ".1f"), ("wall s", ".1f"),
    ("steps 1 and 2, wall s", ".1f"), ("peak MiB", ".0f"), ("MB of files", ",.0f"), ("tracts in the ledger", ","),
    ("its MB", ".1f"), ("--status ms", ".0f"), ("dashboard ms", ".0f"),
)  # fmt: skip
CERTAINTY_COLUMNS: Sequence[Column] = (
    ("state", ""), ("people", ","), ("tracts", ","), ("CPU s, step 6", ",.1f"), ("a million people", ".1f"), ("wall s", ",.1f"),
    ("peak MiB", ".0f"), ("blocks", ","), ("open", ","), ("cumulative variability %", ".2f"), ("blockwise %", ".2f"),
    ("blocks at 0 %", ".1f"), ("certain people %", ".1f"),
)  # fmt: skip
TOGETHER_COLUMNS: Sequence[Column] = (
    ("state", ""), ("server", ""), ("schedulers x workers", ""), ("tracts", ","), ("by each", ""), ("CPU s, steps 3 to 5", ",.1f"),
    ("a million people", ".1f"), ("wall s", ",.1f"), ("server's CPU s", ".1f"), ("its MiB", ".0f"), ("its statements", ","),
    ("connections", ""), ("deadlocks", ""), ("one scheduler, SQLite: CPU s", ",.1f"), ("wall s", ",.1f"),
)  # fmt: skip


def report(
    found: Sequence[Result], everyone: Sequence[State], certain: Sequence[Certainty] = (), together: Sequence[Together] = ()
) -> str:
    """Return what was measured, a table a sitting and kind, and what the country takes in proportion, as Markdown."""
    lines = []
    for title, group in _sittings(found):
        lines += [f"## {title}\n", *_head(RUN_COLUMNS), *(_line(RUN_COLUMNS, _run_row(item)) for item in group), _total(group), ""]
    lines.append(_share("run", found, everyone))
    if found:
        lines.append(_proportion([(item.cpu, item.people) for item in found], everyone, "steps 1 to 5"))
    if certain:
        for title, group_6 in _sittings(certain):
            lines += [f"\n## How sure: {title}\n", *_head(CERTAINTY_COLUMNS)]
            lines += [_line(CERTAINTY_COLUMNS, _certainty_row(item)) for item in group_6]
        lines += ["", _share("taken through step 6", certain, everyone)]
        lines.append(_proportion([(item.cpu, item.people) for item in certain], everyone, "step 6"))
    alone = {item.stusab: item for item in found}
    for title, group_together in _sittings(together):
        lines += [f"\n## Schedulers that share a server: {title}\n", *_head(TOGETHER_COLUMNS)]
        lines += [_line(TOGETHER_COLUMNS, _together_row(item, alone.get(item.stusab))) for item in group_together]
    return "\n".join(lines) + "\n"


def _sittings(found: Iterable[Kind]) -> list[tuple[str, list[Kind]]]:
    """Return the results by sitting and machine, the smallest state first."""
    in_order = sorted(found, key=lambda item: (item.sitting, item.machine, item.people))
    return [
        (f"{sitting}, {machine}", list(group)) for (sitting, machine), group in groupby(in_order, attrgetter("sitting", "machine"))
    ]


def _head(columns: Sequence[Column]) -> list[str]:
    return [f"| {' | '.join(name for name, _ in columns)} |", "|---|" + "--:|" * (len(columns) - 1)]


def _line(columns: Sequence[Column], values: Sequence[Any]) -> str:
    """Return a line of a table; None is nothing."""
    cells = ["" if value is None else format(value, form) for value, (_, form) in zip(values, columns, strict=True)]
    return f"| {' | '.join(cells)} |"


def _per_million(seconds: float, people: int) -> float:
    return seconds / people * 1e6


def _run_row(result: Result) -> list[Any]:
    early = sum(seconds for name, seconds in result.steps_wall.items() if name != "steps 3 to 5")
    return [
        result.stusab, result.people, result.tracts, result.cpu, _per_million(result.cpu, result.people), result.wall, early,
        result.peak_mib, result.files_bytes / 1e6, result.ledger_tracts, result.ledger_bytes / 1e6, result.ledger_ms,
        result.dashboard_ms,
    ]  # fmt: skip


def _total(group: Sequence[Result]) -> str:
    """Return the sum of a sitting."""
    people, cpu, wall = (sum(values) for values in zip(*((r.people, r.cpu, r.wall) for r in group), strict=True))
    tracts, size, peak = sum(r.tracts for r in group), sum(r.files_bytes for r in group), max(r.peak_mib for r in group)
    values = ["**all**", people, tracts, cpu, _per_million(cpu, people), wall, None, peak, size / 1e6, None, None, None, None]
    return _line(RUN_COLUMNS, values)


def _certainty_row(row: Certainty) -> list[Any]:
    return [
        row.stusab, row.people, row.tracts, row.cpu, _per_million(row.cpu, row.people), row.wall, row.peak_mib, row.blocks,
        row.proofs.get("open", 0), row.cumulative_upper, row.cumulative_blockwise, row.blocks_without_variability_pct,
        row.certain_pct,
    ]  # fmt: skip


def _together_row(row: Together, alone: Result | None) -> list[Any]:
    """With the same state by one scheduler beside it, where that was measured."""
    last = "steps 3 to 5"
    return [
        row.stusab, row.server, f"{row.schedulers} x {row.workers}", row.tracts, ", ".join(map(str, row.tracts_by_host)), row.cpu,
        _per_million(row.cpu, row.people), row.wall, row.server_cpu, row.server_mib, row.statements, row.connections, row.deadlocks,
        alone and alone.steps_cpu[last], alone and alone.steps_wall[last],
    ]  # fmt: skip


def _share(what: str, found: Sequence[Measured], everyone: Sequence[State]) -> str:
    people, country = sum(item.people for item in found), sum(state.people for state in everyone)
    share = f"{people:,} of {country:,} people ({people / country:.1%})"
    return f"{counted(len(found), 'state')} of {len(everyone)}, {share}, were {what}."


def _proportion(costs: Sequence[tuple[float, int]], everyone: Sequence[State], what: str) -> str:
    """Return what the country takes, if people cost there what they cost so far."""
    cpu, people = sum(seconds for seconds, _ in costs), sum(number for _, number in costs)
    country = cpu / people * sum(state.people for state in everyone)
    each = f"at {_per_million(cpu, people):.1f} CPU seconds a million"
    return f"{what[0].upper()}{what[1:]}: {each} the country takes {country:,.0f} CPU seconds (in proportion)."
