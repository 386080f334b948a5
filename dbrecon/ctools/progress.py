"""Progress that people see: a bar on a terminal, a plain line now and then in a log."""

import logging
import sys
import time

log = logging.getLogger(__name__)

FIRST_LOG_SECONDS, LOG_EVERY_SECONDS = 10.0, 30.0
PLURALS = {"county": "counties", "person": "people"}


class Progress:
    """How far some work is. Use it in a ``with`` block.

    ``unit`` is what is counted ("tract"; "B" is bytes); ``total`` is None where it is not known; ``done`` was done before.
    """

    def __init__(self, what: str, unit: str, total: int | None, done: int = 0) -> None:
        self._what, self._unit, self._total = what, unit, total
        self._done = self._first = done
        self._begun = time.monotonic()
        self._due = self._begun + FIRST_LOG_SECONDS
        self._bar = None
        if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
            from tqdm import tqdm

            self._bar = tqdm(desc=what, initial=done, total=total, unit=unit, unit_scale=unit == "B", leave=False)

    def __enter__(self) -> "Progress":
        return self

    def add(self, count: int) -> None:
        """``count`` more are done."""
        self.at(self._done + count)

    def at(self, done: int, total: int | None = None) -> None:
        """So many are done now, of ``total`` if that has changed."""
        if total is not None:
            self._total = total
        step, self._done = done - self._done, done
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.update(step)
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + LOG_EVERY_SECONDS
            log.info("%s", self.line())

    def line(self) -> str:
        """Return what a log says: how many, the rate, the time left."""
        seconds = time.monotonic() - self._begun
        rate = (self._done - self._first) / seconds if seconds > 0 else 0.0
        text = f"{self._what}: {self._so_far()}"
        speed = f"{_mb(rate)} MB" if self._unit == "B" else f"{rate:,.1f}"
        if not speed.startswith("0.0"):
            text += f", {speed} a second"
        if self._total and rate > 0:
            text += f", {duration((self._total - self._done) / rate)} left"
        return text

    def _so_far(self) -> str:
        if self._unit == "B":
            return f"{_mb(self._done)} of {_mb(self._total)} MB" if self._total else f"{_mb(self._done)} MB"
        if self._unit in self._what:  # said already
            return f"{self._done:,} of {self._total:,}" if self._total else f"{self._done:,}"
        return f"{self._done:,} of {counted(self._total, self._unit)}" if self._total else counted(self._done, self._unit)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _mb(size: float) -> str:
    return f"{size / 1e6:,.1f}"


def counted(number: int, unit: str, plural: str | None = None) -> str:
    """So many of something as people say it: "1 tract", "2,000 tracts"; ``plural`` where neither an s nor PLURALS makes it."""
    return f"{number:,} {unit if number == 1 else plural or PLURALS.get(unit, f'{unit}s')}"


def units(tracts: int, counties: int, states: int = 0) -> str:
    """So many tracts, counties and states as people say it; "" if there are none."""
    numbers = ((tracts, "tract"), (counties, "county"), (states, "state"))
    return " and ".join(counted(number, unit) for number, unit in numbers if number)


def held_units(number: int) -> str:
    """So many of what a host may hold, as people say it."""
    return counted(number, "tract, county or state", "tracts, counties or states")


def say(text: str) -> None:
    """Print a line of results, clear of a progress bar on the same terminal."""
    bars = sys.modules.get("tqdm")
    if bars is None:
        print(text, flush=True)
        return
    with bars.tqdm.external_write_mode(file=sys.stdout):
        print(text, flush=True)


def percent(part: int, whole: int) -> str:
    """Return a share, cut off after the tenth: 100 % only when all is done, 0 % only when nothing is. The dashboard's rule too."""
    tenths = 1000 * part // whole if whole else 0
    if part == 0 or not whole:
        return "0 %"
    return "100 %" if tenths >= 1000 else "<0.1 %" if tenths < 1 else f"{tenths / 10:.1f} %"


def duration(seconds: float) -> str:
    """Return a time span as people say it: "45 s", "3 min 20 s", "5 h 12 min", "2 d 3 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
