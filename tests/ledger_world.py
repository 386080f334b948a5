"""A ledger of a small state, on a fresh database of each kind, and a clock that the test moves: what tests of the ledger share."""

import pytest
from sqlalchemy import Engine

from dbrecon.ledger.ledger import (
    Claim,
    GeoRow,
    Ledger,
    LpStats,
    SolStats,
    Worker,
)
from dbrecon.place import EVERYWHERE, Place
from tests.helpers import TractRow, geography

R = "exp1"
ANN, BOB = Worker("ann", "1"), Worker("bob", "2")
LP_STATS = LpStats(variables=7000, constraints=5000, nonzeros=45000, seconds=2.0)
SOL_STATS = SolStats(solver="highs 1.15.0", seconds=5.0, memory_mib=200)

# Two counties with people (three tracts and one), one without; a water tract.
TRACTS = [
    TractRow("39", "001", "000100", 4000),
    TractRow("39", "001", "000200", 1000),
    TractRow("39", "001", "000300", 3000),
    TractRow("39", "001", "990000", 0),
    TractRow("39", "003", "000100", 2000),
    TractRow("39", "005", "990000", 0),
]


class Clock:
    """A clock that the test moves."""

    def __init__(self, start: int = 1_600_000_000) -> None:
        self.now = start

    def __call__(self) -> int:
        return self.now


def geo_rows(state: str = "39", counties: tuple[str, ...] = ("001", "003", "005")) -> list[GeoRow]:
    rows = [GeoRow("040", "00", 1, state, "", "", "", "Ohio", 10000, 5000, 1, 2, 40.4, -82.7)]
    for number, county in enumerate(counties, start=2):
        place = GeoRow("050", "00", number, state, county, "", "", f"Doña {county}", 5, 2, 10**10, 2, 40.5, -82.7)
        rows.append(place)
    return rows


def load(ledger: Ledger, tracts: list[TractRow] = TRACTS, stusab: str = "oh") -> None:
    ledger.replace_geography(R, stusab, [*geo_rows(counties=tuple(sorted({row.county for row in tracts}))), *geography(tracts)])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(engine: Engine, clock: Clock) -> Ledger:
    made = Ledger(engine, clock=clock)
    made.register(R, "all", "2010_sf1")
    load(made)
    return made


def states(ledger: Ledger) -> dict[str, str]:
    return {f"{row.county}{row.tract}": row.status for row in ledger.tract_states(R, "oh")}


def solve_all(ledger: Ledger, county: str | None = None) -> None:
    while claims := ledger.claim(R, ANN, limit=10, place=Place("oh", county) if county else EVERYWHERE):
        for claim in claims:
            ledger.solved(claim, SOL_STATS, LP_STATS if claim.needs_lp else None)


def tracts_of(claims: list[Claim]) -> list[str]:
    return [claim.county + claim.tract for claim in claims]
