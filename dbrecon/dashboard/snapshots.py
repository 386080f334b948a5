"""What the API last told, kept for a moment: a hundred viewers cost one query, and have an answer while the database is away."""

import gzip
import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import Any

from dbrecon.errors import DatabaseError, DBReconError
from dbrecon.remedies import sentence

log = logging.getLogger(__name__)

Json = dict[str, Any]

AWAY = "the database does not answer: see that it runs and can be reached from here (the dashboard's log says more)"
READERS = 2  # at once, as many as the database's engine has connections
KEPT = 500  # answers; a reader of the country's every county would fill memory otherwise
COMPRESSED_FROM = 1000  # bytes
OLD = 3  # times the age at which an answer is read anew: then everyone waits


class DatabaseAway(DBReconError):
    """The database does not answer, and there is nothing older to tell."""

    exit_code = 5


@dataclass(frozen=True)
class Snapshot:
    """An answer as it goes out: JSON, the same compressed (None if that is not worth it), and its entity tag.

    ``silent_since``: since when the database has not confirmed it, None if it has.
    """

    body: bytes
    packed: bytes | None
    etag: str
    silent_since: int | None

    @classmethod
    def of(cls, data: Json, silent_since: int | None) -> "Snapshot":
        """Return the answer that ``data`` makes, and whether the database answers."""
        whole = data | {"database": {"answers": silent_since is None, "silent_since": silent_since}}
        body = json.dumps(whole, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "backslashreplace")
        packed = gzip.compress(body, 6, mtime=0) if len(body) >= COMPRESSED_FROM else None
        return cls(body, packed, hashlib.sha256(body).hexdigest()[:32], silent_since)


@dataclass
class _Entry:
    """What is known of one question. ``begun`` and ``tried`` are the clock at the last attempt's beginning and end."""

    begun: float = float("-inf")
    tried: float = float("-inf")
    data: Json | None = None
    snapshot: Snapshot | None = None
    pending: "Future[Json] | None" = None


class Snapshots:
    """Answers by question, each read anew when it is asked for and older than ``max_age`` seconds.

    One who asks waits for that reading; others meanwhile get what was told last, unless it is really old. A reading that fails, or
    takes longer than ``patience`` seconds, gives what was told last, marked as such; the next attempt comes after ``max_age``.
    ``first_patience`` is for questions that nothing was told of yet.
    """

    def __init__(self, max_age: float, patience: float = 3.0, first_patience: float = 15.0) -> None:
        self._max_age, self._patience, self._first_patience = max_age, patience, first_patience
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="dashboard-reader")
        self._said_away = False

    def get(self, key: str, read: Callable[[], Json], max_age: float | None = None) -> Snapshot:
        """Return the answer to ``key``, which ``read`` makes. Raises DatabaseAway if there is none, and what else ``read``
        raises."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > KEPT:
                self._entries.popitem(last=False)
            now, max_age = time.monotonic(), self._max_age if max_age is None else max_age
            fresh = now - entry.tried < max_age
            if entry.snapshot is not None and (fresh or (entry.pending is not None and self._will_do(entry, now, max_age))):
                return entry.snapshot
            if entry.pending is None:
                if fresh:  # it failed a moment ago: do not stand in line for that again
                    raise DatabaseAway(AWAY)
                entry.begun, entry.pending = now, self._readers.submit(self._read, key, entry, read)
            patience = self._patience if entry.snapshot is not None else self._first_patience
            pending, patience = entry.pending, entry.begun + patience - now
        return self._wait(entry, pending, max(0.0, patience))

    def _will_do(self, entry: _Entry, now: float, max_age: float) -> bool:
        """Return whether what was told last will do while it is read anew: it is hardly old, or it says that it is."""
        hardly_old = now - entry.tried < OLD * max_age
        return entry.snapshot is not None and (hardly_old or entry.snapshot.silent_since is not None)

    def _wait(self, entry: _Entry, pending: "Future[Json]", seconds: float) -> Snapshot:
        try:
            pending.result(seconds)
        except NotYet:
            with self._lock:
                self._silent(entry)
        except DatabaseError as error:
            if entry.snapshot is None:
                raise DatabaseAway(AWAY) from error
        with self._lock:
            if entry.snapshot is None:
                raise DatabaseAway(AWAY)
            return entry.snapshot

    def _read(self, key: str, entry: _Entry, read: Callable[[], Json]) -> Json:
        """Run on a reader's thread; leaves its result in the entry."""
        try:
            data = read()
            snapshot = Snapshot.of(data, None)
        except DatabaseError as error:
            with self._lock:
                self._silent(entry)
                entry.tried, entry.pending = time.monotonic(), None
                if not self._said_away:
                    log.warning("%s", sentence(error))
                self._said_away = True
            raise
        except BaseException:
            with self._lock:
                self._entries.pop(key, None)  # nothing there, or a bug: either way nothing to keep
                entry.pending = None
            raise
        with self._lock:
            entry.data, entry.snapshot = data, snapshot
            entry.tried, entry.pending = time.monotonic(), None
            if self._said_away:
                log.warning("the database answers again")
            self._said_away = False
        return data

    def _silent(self, entry: _Entry) -> None:
        """Mark what was told last as older than it should be."""
        if entry.data is not None and entry.snapshot is not None and entry.snapshot.silent_since is None:
            entry.snapshot = Snapshot.of(entry.data, int(time.time()))
