"""Where talk goes: to stderr, short on a terminal, with time, host and process in a log."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

from dbrecon.ctools.host import host_name
from dbrecon.ctools.terminal import printable


class _ShortFormatter(logging.Formatter):
    """The message alone; warnings and worse say what they are."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stderr`` is now, and stays clear of a progress bar on it."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # not setStream(), which flushes the one before: that may be closed
        bars = sys.modules.get("tqdm")
        if bars is None:
            super().emit(record)
            return
        with bars.tqdm.external_write_mode(file=sys.stderr):
            super().emit(record)


def set_up_logging(level: int = logging.INFO) -> None:
    """Send log records of ``level`` and above to stderr. Calling it again changes the level, and adds nothing twice.

    On a terminal a record is its message; elsewhere "2021-04-07T19:51:29Z host 4711 INFO message", time in UTC.
    """
    handler = _StderrHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(_ShortFormatter("%(message)s"))
    else:
        host = host_name().split(".")[0].replace("%", "%%")
        formatter = logging.Formatter(f"%(asctime)s {host} %(process)d %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _StderrHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # Libraries that log each request at INFO: only their warnings are for an operator.
    # A connection that was lost is told, and waited for, by our own code; SQLAlchemy adds its stack.
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL if level > logging.DEBUG else logging.WARNING)
    for name in ("boto3", "botocore", "s3transfer", "smart_open", "urllib3", "gurobipy"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else logging.INFO)
