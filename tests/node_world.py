"""A node at work in tests: an experiment of one county, and schedulers whose work is that of ``worker_tasks``."""

import time
from pathlib import Path

from sqlalchemy import Engine

from dbrecon.experiment import DEFAULT_PRODUCT, Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import GeoRow, Worker
from dbrecon.node.assignment import Assignment, Outcome
from dbrecon.node.machine import Node
from dbrecon.node.source import Experiments
from dbrecon.settings import Config
from tests.helpers import TractRow, geography

R = "run"
SERVE = "tests.worker_tasks:serve_tracts"
ALL = frozenset({3, 4, 5})
SETTINGS = """[run]
max_lp = 2
max_sol = 2
claim_tracts = 3
max_attempts = 2
retry_seconds = 0
lease_seconds = 60
heartbeat_seconds = 1
"""


def ledger_with(engine: Engine, tracts: list[str], product: str = DEFAULT_PRODUCT, reident: str = R) -> Ledger:
    """A ledger of one county (001 of oh) with these tracts; each has 100 people more than the one before."""
    ledger = Ledger(engine)
    ledger.register(reident, "all", product)
    rows = [TractRow("39", "001", tract, 100 * (i + 1)) for i, tract in enumerate(tracts)]
    county = GeoRow("050", "00", 1, "39", "001", "", "", "A County", 1, 0, 0, 0, 0.0, 0.0)
    ledger.replace_geography(reident, "oh", [county, *geography(rows)])
    return ledger


def claim_before(engine: Engine, seconds: int, host: str, lease_seconds: int) -> None:
    """A worker of ``host`` claimed the biggest free tract so many seconds ago, and was not heard of since."""
    past = Ledger(engine, clock=lambda: int(time.time()) - seconds)
    assert past.claim(R, Worker(host, f"1-{seconds}"), limit=1, lease_seconds=lease_seconds)


def node_of(
    ledger: Ledger,
    root: Path,
    assignment: Assignment,
    work: str = SERVE,
    workers: int = 2,
    settings: str = "",
    product: str = DEFAULT_PRODUCT,
    reidents: tuple[str, ...] = (R,),
) -> Node:
    """A node with its settings and storage there; ``settings`` beat the usual ones. Of several experiments each may go."""
    ini = root / "config.ini"
    changed = [line.partition(" ")[0] for line in settings.splitlines()]
    usual = [line for line in SETTINGS.splitlines() if line.partition(" ")[0] not in changed]
    text = "\n".join([*usual, settings]).replace("_sol = 2", f"_sol = {workers}").replace("_lp = 2", f"_lp = {workers}")
    ini.write_text(text, encoding="utf-8")
    config = Config.load(str(ini), env={"DAS_S3ROOT": str(root)})
    found = [Experiment.make(reident, config, product=product) for reident in reidents]
    experiments = Experiments(lambda: found, alone=len(found) == 1)
    return Node(ledger, lambda: config, experiments, work, assignment)


def run(ledger: Ledger, root: Path, assignment: Assignment, work: str = SERVE) -> Outcome:
    """Run a node there until nothing is left."""
    return node_of(ledger, root, assignment, work).run()


def statuses(ledger: Ledger) -> dict[str, str]:
    return {state.tract: state.status for state in ledger.tract_states(R, "oh")}
