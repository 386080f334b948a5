"""What --status, --errors and --reidents print.

The first part of --status has the sections and names of the predecessor's, which operators watch and scripts read.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dbrecon.ctools.progress import counted, duration, percent, units
from dbrecon.ledger.records import CertaintyStatus, ErrorEntry, ExperimentProgress, InProgress, Status

RULE = "----------------------"
FILES = (
    "lp_created",
    "lp_remaining",
    "lp_in_process",
    "lp_hostlocked",
    "sol_created",
    "sol_remaining",
    "sol_ready",
    "csv_completed",
    "csv_remaining",
)
SHOWN = 10
STATES_IN_A_LINE = 20


def utc(at: int) -> str:
    """Return a Unix time as people read it, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def format_status(status: Status, width: int | None = None, shown: int | None = SHOWN) -> str:
    """Return the report of one experiment. Lines are cut to ``width`` characters, lists to ``shown`` entries; None is no limit."""
    lines = ["Current Time", f"   now(): {utc(status.now)} UTC (time_t {status.now})", RULE]
    lines += ["Completed States:", *_states(status.completed_states), RULE]
    lines += ["Files created and remaining", *(f"   {name}: {getattr(status, name)}" for name in FILES), "", RULE]
    lines += ["LP files in progress", *_in_progress(status.lps_in_progress, status.now, shown), RULE]
    lines += ["SOLs in progress", *_in_progress(status.sols_in_progress, status.now, shown), RULE]
    lines += ["Number of LP files created in past hour:", *_by_host(status.lps_past_hour), RULE]
    lines += ["Number of SOL files created in past hour:", *_by_host(status.sols_past_hour), RULE]
    lines += [*_quarantined(status, shown), RULE]
    lines += [*_certainty(status.certainty), RULE] if status.certainty.begun else []
    lines += [*_people(status), *(f"   {line}" for line in silent_hosts(status))]
    return "\n".join(line if width is None else _cut(line, width) for line in lines)


def silent_hosts(status: Status) -> list[str]:
    """Return a line for each host that holds something and counts as gone: what --unlock frees."""
    return [
        f"{holder.host} was not heard of for {duration(status.now - holder.heard_at)} and holds "
        f"{units(holder.tracts, holder.counties, holder.states)}: {_free_when(holder.lease_end - status.now)}, "
        f"or now with --unlock {holder.host}"
        for holder in status.silent
    ]


def _free_when(seconds: int) -> str:
    return f"free when its lease ends, in {duration(seconds)}" if seconds > 0 else "free for the next scheduler that claims it"


def status_dict(reident: str, status: Status) -> dict[str, Any]:
    """Return everything that --status tells, as JSON can hold it."""
    by_host = {name: dict(getattr(status, name)) for name in ("lps_past_hour", "sols_past_hour")}
    return {"reident": reident} | asdict(status) | by_host


def format_errors(errors: Sequence[ErrorEntry], stacks: bool) -> str:
    """Return the entries of the table of errors, as they are given; with their stacks if asked."""
    lines: list[str] = []
    for entry in errors:
        report = entry.report
        place = " ".join(part for part in (report.reident, report.stusab, report.county, report.tract) if part)
        source = f" {report.file}:{report.line}" if report.file else ""
        lines.append(f"{utc(entry.at)} UTC {report.host} pid {report.pid}: {place}:{source} {report.message}")
        if stacks and report.stack:
            lines += [f"   {line}" for line in report.stack.rstrip().splitlines()]
    return "\n".join(lines)


def format_experiments(rows: Sequence[ExperimentProgress]) -> str:
    """Return a line for each experiment: its row, its states, where it stands."""
    table = [("REIDENT", "TABLES", "CREATED (UTC)", "SOLVED/TRACTS", "STATES")]
    for experiment in rows:
        solved, states = f"{experiment.solved:,}/{experiment.tracts:,}", " ".join(experiment.stusabs) or "none yet"
        table.append((experiment.row.reident, experiment.row.tables, utc(experiment.row.created), solved, states))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in table)


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: max(0, width - 3)]}..."


def _states(stusabs: Sequence[str]) -> list[str]:
    return ["   " + " ".join(stusabs[i : i + STATES_IN_A_LINE]) for i in range(0, len(stusabs), STATES_IN_A_LINE)]


def _in_progress(tracts: Sequence[InProgress], now: int, shown: int | None) -> list[str]:
    """Return those at work for longest first: they are the ones to look at."""
    oldest = sorted(tracts, key=lambda tract: (tract.since, tract.stusab, tract.county, tract.tract))
    lines = []
    for tract in oldest[:shown]:
        place, since = f"{tract.stusab} {tract.county} {tract.tract}", duration(max(0, now - tract.since))
        lines.append(f"   {place}: {tract.pop:,} people, {tract.host}, since {since}")
    return lines + _more(len(tracts), shown)


def _more(number: int, shown: int | None) -> list[str]:
    return [f"   and {number - shown:,} more (--verbose shows all)"] if shown is not None and number > shown else []


def _by_host(numbers: Sequence[tuple[str, int]]) -> list[str]:
    return [f"   {host}: {number}" for host, number in numbers]


def _quarantined(status: Status, shown: int | None) -> list[str]:
    number = status.quarantined_tracts + status.quarantined_counties
    lines = [f"Quarantined: {number:,}"] if number else ["Quarantined: none"]
    for unit in status.quarantined[:shown]:
        message = unit.error.strip().splitlines()[0] if unit.error.strip() else "no error is recorded"
        name = f" ({unit.name})" if unit.name else ""
        lines.append(f"   {unit.stusab} {unit.county} {unit.tract or 'county'}{name}: {message}")
    return lines + _more(number, shown)


def _certainty(found: CertaintyStatus) -> list[str]:
    counties = found.counties_created + found.counties_remaining
    return [
        "Certainty (step 6)",
        f"   certainty_created: {found.created}",
        f"   certainty_remaining: {found.remaining}",
        f"   certainty_in_process: {found.in_process}",
        f"   certainty_counties: {found.counties_created} of {counties}",
    ]


def _people(status: Status) -> list[str]:
    share = f" ({percent(status.people_solved, status.people)})" if status.people else ""
    lines = ["People", f"   solved: {status.people_solved:,} of {status.people:,}{share}"]
    if status.people_quarantined:
        lines.append(f"   quarantined: {status.people_quarantined:,}")
    if status.people_per_hour:
        lines.append(f"   rate: {status.people_per_hour:,.0f} an hour")
    if status.sol_remaining > status.quarantined_tracts and status.seconds_left is not None:
        lines.append(f"   time left: {duration(status.seconds_left)}")
    return lines + [f"   {line}" for line in nobody_at_work(status)]


def nobody_at_work(status: Status) -> list[str]:
    """Return a line where tracts are left and nobody holds one."""
    left = status.sol_remaining - status.quarantined_tracts
    if left <= 0 or status.at_work:
        return []
    return [f"nobody is at work on the {counted(left, 'tract')} left: --run or a scheduler goes on with them"]
