"""Patience with storage that is away for a while: how long a process waits for it, and how it says so.

Storage is away where S3 does not answer, its credentials have expired, or a disk is full. By default nobody waits: a person who
typed a command wants to know. Whoever works unattended does: ``with patient(600, tell): ...``.
"""

from __future__ import annotations

import errno
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)
LONGEST_PAUSE_SECONDS = 5.0
FIRST_WARNING_SECONDS, LONGEST_WARNING_SECONDS = 5.0, 300.0


def pause_seconds(attempt: int) -> float:
    """Return how long to wait before the ``attempt``-th repetition, from 1 on: growing, and not all at the same moment."""
    return random.uniform(0.5, 1.0) * min(0.2 * 2.0 ** min(attempt, 10), LONGEST_PAUSE_SECONDS)


class RareWarning:
    """A warning that is logged at once and then, while its cause lasts, at growing intervals."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._due, self._interval = 0.0, FIRST_WARNING_SECONDS

    def say(self, text: str) -> None:
        """Log it if it is time. What was silent for as long as twice its longest interval begins anew."""
        now = time.monotonic()
        if now > self._due + 2 * LONGEST_WARNING_SECONDS:
            self._interval = FIRST_WARNING_SECONDS
        if now >= self._due:
            self._logger.warning("%s", text)
            self._due = now + self._interval
            self._interval = min(2 * self._interval, LONGEST_WARNING_SECONDS)


@dataclass
class Patience:
    """How long this process waits for storage that is away. ``ran_out``: it did so in vain, and there is no use in more."""

    seconds: float = 0.0
    tell: Callable[[str], None] | None = None
    ran_out: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pause(self, since: float, attempt: int, text: str) -> float | None:
        """Return how long to wait before the next attempt at what fails since then (monotonic clock); None is not at all.

        ``text`` says what is wrong, and is told.
        """
        if self.seconds <= 0:
            return None
        if time.monotonic() - since >= self.seconds:
            self.ran_out = True
            return None
        with self.lock:  # several threads may wait
            (self.tell or log.warning)(f"{text}; waiting")
        return pause_seconds(attempt)


_patience = Patience()


def patience() -> Patience:
    """Return this process's."""
    return _patience


@contextmanager
def patient(seconds: float, tell: Callable[[str], None]) -> Iterator[Patience]:
    """Wait so long for storage within the block; ``tell`` gets what is waited for, at every attempt. For a whole process."""
    global _patience  # noqa: PLW0603 - reached by the S3 client's handlers, which nobody can hand it to
    before, _patience = _patience, Patience(seconds, tell)
    try:
        yield _patience
    finally:
        _patience = before


def outlast_full_disk(write: Callable[[], T], path: str) -> T:
    """Call ``write()``, again while the disk is full and patience lasts. Raises what it raises."""
    since, attempt = time.monotonic(), 0
    while True:
        try:
            return write()
        except OSError as error:
            attempt += 1
            full = f"{path} cannot be written: the disk is full: free some space"
            pause = patience().pause(since, attempt, full) if error.errno in FULL else None
            if pause is None:
                raise
        time.sleep(pause)
