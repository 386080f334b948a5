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


def when_safe(handler: Handler) -> Handler:
    """Return the handler, which waits until no import is under way in the thread that it strikes, and no condition being entered.

    What it raises in the middle of an import may come out as another error (C modules clear it, and fail on what they have not
    got), and leaves modules that are half loaded. A condition that it strikes between its lock and its block stays locked for ever.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if _is_within(frame, _is_fragile):
            _send_outside(signal.Signals(number), threading.get_ident(), _is_fragile)
        else:
            handler(number, frame)

    return handle


@contextmanager
def delivered_again(signals: Mapping[type[BaseException], signal.Signals]) -> Iterator[None]:
    """Send a signal to the main thread once more whose handler's exception fell where Python drops it.

    A handler that raises can strike in a destructor, a weak reference's callback, or a library's callback:
    there Python prints "Exception ignored in ..." and goes on, and Ctrl-C is lost. ``signals`` gives the signal behind each type of
    exception; all else is reported as before.
    """
    report, main = sys.unraisablehook, threading.main_thread().ident or 0

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        number = next((signals[kind] for kind in dropped.exc_type.__mro__ if kind in signals), None)
        if number is None or threading.get_ident() != main:
            report(dropped)
            return
        _send_outside(number, main, lambda frame: frame.f_code is hook.__code__)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = report


def _send_outside(number: signal.Signals, thread: int, place: Callable[[FrameType], bool]) -> None:
    """Send the signal to a thread as soon as that has left a place in the code, where it would be lost."""

    def send() -> None:
        while _is_within(sys._current_frames().get(thread), place):
            time.sleep(LOOK_SECONDS)
        signal.pthread_kill(thread, number)

    threading.Thread(target=send, daemon=True).start()


def _is_fragile(frame: FrameType) -> bool:
    return frame.f_code.co_filename == "<frozen importlib._bootstrap>" or frame.f_code is threading.Condition.__enter__.__code__


def _is_within(frame: FrameType | None, place: Callable[[FrameType], bool]) -> bool:
    while frame is not None:
        if place(frame):
            return True
        frame = frame.f_back
    return False
