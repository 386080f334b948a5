"""Watching an experiment on a terminal, refreshed in place: a bar for each kind of file, rate, time left, each host's share."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Sequence

from dbrecon.console.commands import asked_place, asked_reident, open_ledger
from dbrecon.console.parser import Arguments
from dbrecon.console.status_report import nobody_at_work, silent_hosts, utc
from dbrecon.ctools.progress import counted, duration, percent
from dbrecon.errors import DatabaseError
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Status, SysLoadEntry
from dbrecon.place import Place
from dbrecon.remedies import sentence
from dbrecon.settings import Config

log = logging.getLogger(__name__)

BAR = 40
EXIT_QUARANTINED = 10
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def watch(args: Arguments, config: Config) -> int:
    """Show where an experiment stands until nothing is left (0, or 10 with tracts in quarantine) or Ctrl-C (0)."""
    reident, ledger = asked_reident(args), open_ledger(config, make=False)
    place = asked_place(args)
    ledger.experiment(reident)
    ledger.check_place(reident, place)
    screen = _Screen(sys.stdout.isatty())
    try:
        with screen:
            while True:
                over = _show(screen, reident, ledger, place)
                if over is not None:
                    break
                time.sleep(args.watch)
    except KeyboardInterrupt:
        over = 0
    screen.leave_last()
    return over


def _show(screen: _Screen, reident: str, ledger: Ledger, place: Place) -> int | None:
    """Show it once; the exit code if nothing is left. A database that is away is shown, and asked again."""
    try:
        status, loads = ledger.status(reident, place), ledger.reporting()
    except DatabaseError as error:
        screen.note(sentence(error))
        return None
    size = shutil.get_terminal_size()
    screen.show(page(reident, status, loads, size.columns if screen.terminal else None), size.lines)
    waiting = status.sol_remaining - status.quarantined_tracts
    counties = status.csv_remaining > 0 and not status.quarantined_tracts and not status.quarantined_counties
    if waiting > 0 or counties or status.lps_in_progress or status.sols_in_progress or not status.people:
        return None
    certainty = status.certainty
    if certainty.waiting:
        return None
    quarantined = status.quarantined_tracts + status.quarantined_counties + certainty.quarantined + certainty.counties_quarantined
    return EXIT_QUARANTINED if quarantined else 0


class _Screen:
    """A terminal whose page is replaced in place; elsewhere one page after the other."""

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal
        self._last: list[str] = []

    def __enter__(self) -> _Screen:
        if self.terminal:
            sys.stdout.write(ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        if self.terminal:
            sys.stdout.write(LEAVE)
            sys.stdout.flush()

    def show(self, lines: list[str], height: int) -> None:
        """Put a page on the screen."""
        self._last = lines
        if self.terminal:
            body = "".join(f"{line}{CLEAR_LINE}\n" for line in lines[: height - 1])
            sys.stdout.write(HOME + body + CLEAR_BELOW)
        else:
            sys.stdout.write("\n".join(lines) + "\n\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Say something below the page that stays."""
        if self.terminal:
            self.show([*self._last[:-2], "", text], shutil.get_terminal_size().lines)
        else:
            log.warning("%s", text)

    def leave_last(self) -> None:
        """Leave the last page on the terminal when all is over."""
        if self.terminal and self._last:
            sys.stdout.write("\n".join(self._last) + "\n")


def page(reident: str, status: Status, loads: Sequence[SysLoadEntry], width: int | None) -> list[str]:
    """Return the lines of a page, at most ``width`` wide. ``loads`` are the last reports of hosts that are heard of."""
    tracts = status.sol_created + status.sol_remaining
    lines = [
        f"{reident}   {utc(status.now)} UTC   {counted(len(status.completed_states), 'state')} completed",
        "",
        _bar("LP files", status.lp_created, tracts),
        _bar("solutions", status.sol_created, tracts),
        _bar("people", status.csv_completed, tracts),
        *_certainty_bar(status),
        "",
        _rate(status),
    ]
    if status.lp_hostlocked:
        lines.append(f"held by hosts that are heard of no more: {status.lp_hostlocked:,} (free when claimed; or --unlock)")
    number = status.quarantined_tracts + status.quarantined_counties
    if number:
        first = status.quarantined[0]
        lines.append(f"quarantined: {number:,}, the first {first.stusab} {first.county} {first.tract}: {_first_line(first.error)}")
    lines += silent_hosts(status)
    lines += ["", *_hosts(status, loads), ""]
    return [line if width is None or len(line) <= width else line[: width - 1] + "…" for line in lines]


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no error is recorded"


def _bar(name: str, done: int, total: int) -> str:
    share = done / total if total else 0.0
    filled = int(BAR * share)
    return f"{name:>10} [{'#' * filled}{'.' * (BAR - filled)}] {percent(done, total):>7}  {done:,} of {total:,} tracts"


def _certainty_bar(status: Status) -> list[str]:
    """Step 6, where it has begun."""
    found = status.certainty
    return [_bar("certainty", found.created, found.created + found.remaining)] if found.begun else []


def _rate(status: Status) -> str:
    rate = f"{status.people_per_hour:,.0f} people an hour" if status.people_per_hour else "no rate yet"
    left = f", {duration(status.seconds_left)} left" if status.seconds_left else ""
    return "; ".join([f"{status.people_solved:,} of {status.people:,} people solved, {rate}{left}", *nobody_at_work(status)])


def _hosts(status: Status, loads: Sequence[SysLoadEntry]) -> list[str]:
    """Return what each host has in work, and made in the past hour; its last report."""
    work: dict[str, int] = {}
    for running in (*status.lps_in_progress, *status.sols_in_progress):
        work[running.host] = work.get(running.host, 0) + 1
    lps, sols = dict(status.lps_past_hour), dict(status.sols_past_hour)
    reports = {entry.load.host: entry for entry in loads}
    hosts = sorted({*work, *lps, *sols, *reports})
    if not hosts:
        return ["no host is at work, and none was in the past hour"]
    wide = max(4, *(len(host) for host in hosts))
    lines = [f"{'host':<{wide}}  in work   LPs/hour  SOLs/hour     load  free memory"]
    for host in hosts:
        entry = reports.get(host)
        load = f"{entry.load.load1:7.2f}  {entry.load.free_memory_mib / 1024:7.1f} GiB" if entry else f"{'-':>7}"
        lines.append(f"{host:<{wide}}  {work.get(host, 0):7,}  {lps.get(host, 0):9,}  {sols.get(host, 0):9,}  {load}")
    return lines
