"""Processes for the pieces of a command's work: what a terminal sends does not reach them, and they end when the command does,
however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import ParamSpec, TypeVar

from dbrecon.ctools.signals import when_safe

P = ParamSpec("P")
T = TypeVar("T")
TIDY_SECONDS = 2.0
"""How long a process whose piece is not wanted any more may take to clear away the file that it was writing."""


@contextmanager
def shielded() -> Iterator[None]:
    """Have processes that are started within hear neither Ctrl-C nor the end of a terminal, which reach their whole group: their
    parent decides."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()  # it ignores SIGINT itself; starting it unblocks that
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end_with_parent() -> None:
    """Have this process end when its parent has ended, even in the middle of a library's work."""

    def leave() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


@contextmanager
def process_pool(number: int | None, method: str) -> Iterator[Executor]:
    """Yield an executor of so many processes (None: one a core), started by that method. Where the block raises, what is in work is
    ended."""
    others = multiprocessing.active_children()
    with shielded():  # making its locks starts the tracker of them
        pool = _Pool(number, multiprocessing.get_context(method), initializer=_begin)
    with pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _end([process for process in multiprocessing.active_children() if process not in others])
            raise


class _Pool(ProcessPoolExecutor):
    """It starts its processes when there is work for them."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        with shielded():
            return super().submit(fn, *args, **kwargs)


def _begin() -> None:
    end_with_parent()
    signal.signal(signal.SIGTERM, when_safe(lambda *_: sys.exit(1)))


def _end(processes: Sequence[BaseProcess]) -> None:
    left, deadline = {process.sentinel: process for process in processes}, time.monotonic() + TIDY_SECONDS
    for process in processes:
        process.terminate()
    while left and (ended := wait(list(left), max(0.0, deadline - time.monotonic()))):
        left = {sentinel: process for sentinel, process in left.items() if sentinel not in ended}
    for process in left.values():
        process.kill()
