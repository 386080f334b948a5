"""Waiting in tests: for what is to happen, and no longer, however slow the machine is."""

import time
from collections.abc import Callable

SECONDS = 60.0


def wait_for(happened: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Returns when it has happened; fails, saying what did not, after a minute (or ``seconds``)."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)
