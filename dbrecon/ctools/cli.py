"""What every command line does alike: errors as one line and an exit code, questions, output that any terminal takes.

Exit codes: 0 done; 1 to 8 as in ``dbrecon.errors`` (2: a wrong command line); 130 interrupted (Ctrl-C); 141
the reader of the output went away; 143 terminated; 129 the terminal went away.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from dbrecon.ctools.logs import set_up_logging
from dbrecon.ctools.signals import Interrupted, delivered_again, when_safe
from dbrecon.ctools.terminal import printable
from dbrecon.errors import DBReconError
from dbrecon.paths import as_typed

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143
EXIT_HUNG_UP = 129


class _Terminated(SystemExit):
    """SIGTERM came."""


class _HungUp(SystemExit):
    """The terminal went away."""


_RAISED = {KeyboardInterrupt: signal.SIGINT, Interrupted: signal.SIGINT, _Terminated: signal.SIGTERM, _HungUp: signal.SIGHUP}


class _Talk:
    """How much this process says, as its options have it."""

    debug = False


def show_tracebacks() -> None:
    """For --debug: from now on an error that ends the command shows where it came from."""
    _Talk.debug = True


def start(verbose: bool, quiet: bool) -> None:
    """Set logging up: everything, or warnings and errors only, or what an operator wants to know."""
    set_up_logging(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)


def run_command(main: Callable[[], int], sentence: Callable[[BaseException], str] = str) -> NoReturn:
    """Run ``main`` and leave the process with what it returns, or with the exit code of the error that it raised.

    An error that this project raises on purpose, or the system's refusal, becomes one line on stderr with its chain of
    causes; --debug adds the traceback. Any other exception is a bug and keeps its traceback. SIGTERM and SIGHUP end ``main`` by
    SystemExit, so that files under construction are cleared away, unless ``main`` handles the signal itself. ``sentence`` gives the
    text of an error.
    """
    _Talk.debug = False
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path that the terminal's encoding lacks is no reason to end
    if threading.current_thread() is threading.main_thread():
        handlers = {signal.SIGTERM: _terminated, signal.SIGHUP: _terminated, signal.SIGINT: signal.default_int_handler}
        for number, handler in handlers.items():
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, when_safe(handler))
    try:
        with delivered_again(_RAISED):
            code = main()
            sys.stdout.flush()
    except KeyboardInterrupt:
        code = _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Python would complain once more when it flushes stdout at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_BROKEN_PIPE
    except MemoryError:
        code = _fail("error: the memory that this process may take is used up; free some, or raise its limit (ulimit -v)", 1)
    except DBReconError as error:
        code = _fail(f"error: {as_typed(explain(error, sentence))}", error.exit_code)
    except OSError as error:
        code = _fail(f"error: {as_typed(explain(error, sentence))}", DBReconError.exit_code)
    sys.exit(code)


def explain(error: BaseException, sentence: Callable[[BaseException], str] = str) -> str:
    """Return the error and its causes in one line, ``error <- its cause``. A cause whose text is already there is left out.

    ``sentence`` gives the text of an error."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        message, text = (printable(" ".join(words.split())) for words in (str(seen), sentence(seen)))
        text = text or type(seen).__name__
        if not isinstance(seen, (DBReconError, OSError)):
            text = f"{type(seen).__name__}: {text}" if message else text
        if not any(text in part or (" " in message and message in part) or _tells(part, seen) for part in parts):
            parts.append(text)
        hidden = seen.__suppress_context__ or isinstance(seen.__context__, KeyboardInterrupt)
        cause = seen.__cause__ or (None if hidden else seen.__context__)
        complete = isinstance(seen, DBReconError) and seen.tells_cause and not isinstance(cause, DBReconError)
        seen = None if complete else cause
    return " <- ".join(parts)


def _tells(text: str, error: BaseException) -> bool:
    """Return whether a text has all that an error of the system tells: its reason, and the file."""
    if not isinstance(error, OSError) or not error.strerror:
        return False
    return error.strerror in text and (error.filename is None or str(error.filename) in text)


def confirm(question: str, answer: str = "yes") -> bool:
    """Asks on stderr and reads a line from stdin: True only if it is ``answer``, typed in full. No input means no."""
    sys.stderr.write(f"{question} ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == answer


def _fail(line: str, code: int) -> int:
    if _Talk.debug:
        traceback.print_exc(file=sys.stderr)
    sys.stderr.write(f"{line}\n")
    return code


def _terminated(number: int, _frame: FrameType | None) -> NoReturn:
    raise _HungUp(EXIT_HUNG_UP) if number == signal.SIGHUP else _Terminated(EXIT_TERMINATED)
