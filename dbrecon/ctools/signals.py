"""Signals' handlers for the length of a ``with`` block, and signals that reach the program wherever they strike."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]
LOOK_SECONDS = 0.001


class Interrupted(BaseException):
    """Ctrl-C, where a library would log a KeyboardInterrupt with its stack."""


@contextmanager
def handled(actions: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Handle these signals so, and afterwards as before. Only the main thread can; in another nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, action) for number, action in actions.items()}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


@contextmanager
def held_back(*numbers: signal.Signals) -> Iterator[None]:
    """Deliver signals that come meanwhile at the end: for what must not be broken off, or would lose what their handlers raise."""
    come: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        come.append(number)

    try:
        with handled(dict.fromkeys(numbers, remember)):
            yield
    finally:
        for number in dict.fromkeys(come):
            signal.raise_signal(number)


@contextmanager
def delivered_again(signals: Mapping[type[BaseException], signal.Signals]) -> Iterator[None]:
    """Send a signal to the main thread once more whose handler's exception fell where Python drops it.

    A handler that raises can strike in a destructor, a weak reference's callback (an import has them), or a library's callback:
    there Python prints "Exception ignored in ..." and goes on, and Ctrl-C is lost. ``signals`` gives the signal behind each type of
    exception; all else is reported as before.
    """
    report = sys.unraisablehook
    main = threading.main_thread().ident or 0

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        number = next((signals[kind] for kind in dropped.exc_type.__mro__ if kind in signals), None)
        if number is None or threading.get_ident() != main:
            report(dropped)
            return
        # Sent from here, it would strike in this very function, and be dropped again.
        threading.Thread(target=_send_outside, args=(number, main, hook), daemon=True).start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = report


def _send_outside(number: signal.Signals, thread: int, function: Callable[..., None]) -> None:
    """Send the signal to a thread as soon as that is not within the function."""
    while _is_within(sys._current_frames().get(thread), function):
        time.sleep(LOOK_SECONDS)
    signal.pthread_kill(thread, number)


def _is_within(frame: FrameType | None, function: Callable[..., None]) -> bool:
    while frame is not None:
        if frame.f_code is function.__code__:
            return True
        frame = frame.f_back
    return False
