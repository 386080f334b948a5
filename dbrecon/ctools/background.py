"""Work that is waited for so long and no longer, by a main thread that goes on hearing signals."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from dbrecon.errors import DBReconError

T = TypeVar("T")


class Background(Generic[T]):
    """``work`` in a thread of its own, begun at once. A daemon's: what hangs for ever does not keep the process from ending."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._begun = time.monotonic()
        self._done: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()
        self._work = work
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._done.put(self._work())
        except (DBReconError, OSError) as error:
            self._done.put(error)  # raised where the result is taken
        except BaseException as error:  # a bug, which this thread shows too
            self._done.put(error)
            raise

    def result(self, seconds: float) -> T:
        """Return what it returned, or raises what it raised; TimeoutError if that is not there ``seconds`` after the beginning."""
        try:
            result = self._done.get(timeout=max(0.0, self._begun + seconds - time.monotonic()))
        except queue.Empty:
            raise TimeoutError(f"no answer within {seconds:g} s") from None
        if isinstance(result, BaseException):
            raise result
        return result
