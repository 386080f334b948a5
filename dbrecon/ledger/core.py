"""What every part of the ledger stands on: transactions on a database whose tables are of this program's version."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Row, Select, select

from dbrecon.ctools.database import Database, NoSuchTable, describe
from dbrecon.ledger import migrations
from dbrecon.ledger import registry as ledger_experiments
from dbrecon.ledger.claiming import AnyClaim, listed
from dbrecon.ledger.records import Beats, ExperimentProgress, ExperimentRow, UnknownExperiment
from dbrecon.ledger.schema import VERSION

T = TypeVar("T")
log = logging.getLogger(__name__)
MAX_LOST = 8


class Core:
    """See :class:`dbrecon.ledger.ledger.Ledger`."""

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], int] | None = None,
        patience: float = 0.0,
        max_lost: int = MAX_LOST,
        upgrade: bool = False,
        beats: Beats = Beats(),  # noqa: B008 - it is frozen
    ) -> None:
        self.engine = engine
        self.beats = beats
        self._upgrade = upgrade
        self._database = Database(engine, patience, clock)
        self._max_lost = max_lost
        self._ready = False

    @property
    def makes(self) -> bool:
        """Whether it makes and upgrades tables: that of a command that works, and does not only look."""
        return self._upgrade

    def experiments(self) -> list[ExperimentRow]:
        """Return all registered experiments, oldest first."""
        return self._run(ledger_experiments.registered, write=False)

    def progress(self) -> list[ExperimentProgress]:
        """Return the same with their states, and how many of their tracts are solved."""
        return self._run(ledger_experiments.progress, write=False)

    def _unknown(self, reident: str) -> UnknownExperiment:
        names = [row.reident for row in self.experiments()]
        present = f"it has {listed(names)}" if names else "it has none yet"
        return UnknownExperiment(
            f"REIDENT {reident} is not registered in {describe(self.engine)} ({present}): register it with --register {reident}",
            reident,
        )

    def now(self) -> int:
        """Return the time by the clock of all records."""
        return self._run(self._now, write=False)

    def lose_patience(self) -> None:
        """From now on wait no more for a database that is away, nor go on waiting. Safe from any thread or signal handler."""
        self._database.patience = 0.0

    # -- inside -----------------------------------------------------------------------------------------------------

    def _now(self, connection: Connection) -> int:
        return int(connection.execute(select(self._database.now())).scalar_one())

    def _run(
        self,
        work: Callable[[Connection], T],
        *,
        reident: str | None = None,
        write: bool = True,
        repeat: bool = True,
        repeat_commit: bool = True,
    ) -> T:
        if not self._ready:
            self._make_ready()
        try:
            return self._database.run(work, write=write, repeat=repeat, repeat_commit=repeat_commit)
        except NoSuchTable:
            if reident is None or reident in [row.reident for row in self.experiments()]:
                raise
            raise self._unknown(reident) from None

    def _make_ready(self) -> None:
        """See that the tables are this program's version. Nothing is written when they are: a reader may lack the right."""
        place = describe(self.engine)
        try:
            ready = self._database.run(lambda connection: migrations.check(connection, place), write=False)
        except migrations.OldSchema:
            if not self._upgrade:
                raise
            self.upgrade()
            ready = True
        if not ready:
            self._database.run(lambda connection: migrations.make(connection, self._now(connection)), write=True)
        self._ready = True

    def upgrade(self) -> tuple[int, int]:
        """Bring tables of an earlier version to this program's; the versions before and now. DatabaseError while they are in
        use."""
        place = describe(self.engine)
        before = self._database.run(lambda connection: migrations.upgrade(connection, place, self._now(connection)), write=True)
        if 0 < before < VERSION:
            log.warning("%s: the tables were of version %d, and are of version %d now", place, before, VERSION)
        return before, VERSION

    def _rows(self, reident: str, query: Select[Any]) -> Sequence[Row[Any]]:
        return self._run(lambda connection: connection.execute(query).all(), reident=reident, write=False)

    def _by_experiment(
        self, claims: Iterable[AnyClaim], work: Callable[[Connection, list[AnyClaim]], list[AnyClaim]]
    ) -> list[AnyClaim]:
        """Do ``work`` on the claims of each experiment in a transaction of its own; return what it returned, together."""
        groups: dict[str, list[AnyClaim]] = defaultdict(list)
        for claim in claims:
            groups[claim.reident].append(claim)
        result: list[AnyClaim] = []
        for reident, group in groups.items():
            try:
                result += self._run(lambda connection, group=group: work(connection, group), reident=reident)  # type: ignore[misc]
            except UnknownExperiment as error:  # it was dropped: those of the others are to be seen to all the same
                log.warning("%s", error)
                result += group
        return result
