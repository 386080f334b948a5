"""Step 6 in the ledger: who may compute which tract's certainty, and when a county's files of it may be written."""

import pytest
from sqlalchemy import Engine

from dbrecon.ledger.ledger import Ledger, LpStats, SolStats, Worker
from dbrecon.ledger.records import COUNTY_FILES, CertaintyClaim, CertaintyStatus, GeoRow, LostLease
from dbrecon.place import Place

R = "r1"
ANN, BOB = Worker("node1", "1-1"), Worker("node2", "2-2")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.at = 1_000_000

    def __call__(self) -> int:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(engine: Engine, clock: Clock) -> Ledger:
    """Two tracts with people in a county of Delaware, and one without; nothing is done."""
    made = Ledger(engine, clock=clock, max_lost=2)
    made.register(R, "all", "2010_sf1")
    geo = [GeoRow("050", "00", 1, "10", "001", "", "", "Kent", 30, 9, 1, 1, 39.0, -75.0)]
    tracts = (("000100", 10), ("000200", 20), ("990000", 0))
    geo += [
        GeoRow("140", "00", 2 + i, "10", "001", tract, "", "", pop, 1, 1, 1, 39.0, -75.0) for i, (tract, pop) in enumerate(tracts)
    ]
    made.replace_geography(R, "de", geo)
    return made


def write_people(ledger: Ledger) -> None:
    for claim in ledger.claim(R, ANN, limit=9):
        ledger.solved(claim, SolStats("HiGHS", 1.0, 1), LpStats(1, 1, 1, 1.0))
    county = ledger.claim_county(R, ANN)
    assert county is not None
    ledger.csv_written(county)


def claimed(ledger: Ledger, worker: Worker = ANN, limit: int = 9) -> list[CertaintyClaim]:
    return ledger.claim_certainty(R, worker, limit=limit, lease_seconds=60)


def test_nothing_is_to_be_done_before_people_are_written(ledger: Ledger) -> None:
    assert claimed(ledger) == []
    assert ledger.work_left(R, {6}).nothing_left
    write_people(ledger)
    assert not ledger.work_left(R, {6}).nothing_left
    assert ledger.work_left(R, {3, 4, 5}).nothing_left


def test_tracts_come_biggest_first_and_the_county_when_all_are_done(ledger: Ledger) -> None:
    write_people(ledger)
    [big] = claimed(ledger, limit=1)
    [small] = claimed(ledger, BOB)
    assert ledger.status(R).certainty == CertaintyStatus(remaining=2, in_process=2, counties_remaining=1)
    assert (big.tract, small.tract) == ("000200", "000100")
    assert claimed(ledger) == []
    ledger.certainty_written(big, 2.0)
    assert claimed(ledger) == [], "one tract is missing"
    ledger.certainty_written(small)
    [county] = claimed(ledger)
    assert county.of_county
    assert county.tracts == ("000100", "000200")
    assert ledger.certain_counties(R) == []
    ledger.certainty_written(county)
    assert ledger.certain_counties(R) == [("de", "001")]
    assert ledger.status(R).certainty == CertaintyStatus(created=2, counties_created=1)
    assert ledger.work_left(R, {6}).nothing_left
    assert claimed(ledger) == []


def test_a_place_and_a_limit_narrow_it(ledger: Ledger) -> None:
    write_people(ledger)
    assert ledger.claim_certainty(R, ANN, place=Place("de", "003")) == []
    [claim] = ledger.claim_certainty(R, ANN, place=Place("de", "001", ("000100",)), limit=5)
    assert claim.tract == "000100"
    assert ledger.claim_certainty(R, ANN, max_pop=15, limit=5) == []
    ledger.release([claim])
    assert [claim_row.tract for claim_row in ledger.claim_certainty(R, ANN, max_pop=15, limit=5)] == ["000100"]


def test_a_lease_that_ends_frees_its_tract_and_whoever_lost_it_changes_nothing(ledger: Ledger, clock: Clock) -> None:
    write_people(ledger)
    own = claimed(ledger)
    clock.at += 50
    assert ledger.heartbeat(own, 60) == []
    clock.at += 61
    theirs = claimed(ledger, BOB)
    assert {claim.tract for claim in theirs} == {claim.tract for claim in own}
    assert len(ledger.heartbeat(own, 60)) == 2
    with pytest.raises(LostLease):
        ledger.certainty_written(own[0])
    ledger.certainty_written(theirs[0])


def test_failures_are_counted_and_quarantined_and_put_back(ledger: Ledger) -> None:
    write_people(ledger)
    claims = claimed(ledger)
    assert ledger.failed(claims[0], "broken", 1)
    ledger.certainty_written(claims[1])
    left = ledger.work_left(R, {6})
    assert left.nothing_left, "the county waits for an operator"
    assert left.certainty_quarantined == 1
    [bad] = ledger.status(R).quarantined
    assert (bad.tract, bad.error) == (claims[0].tract, "broken")
    assert ledger.retry_quarantined(R) == 1
    assert [claim.tract for claim in claimed(ledger)] == [claims[0].tract]


def test_other_people_begin_it_anew(ledger: Ledger) -> None:
    write_people(ledger)
    for claim in claimed(ledger):
        ledger.certainty_written(claim)
    [county] = claimed(ledger)
    ledger.reset(R, 5)
    assert claimed(ledger, BOB) == [], "nobody is written now"
    again = ledger.claim_county(R, ANN)
    assert again is not None
    ledger.csv_written(again)
    ledger.certainty_written(county)
    ledger.reset_certainty(R)
    assert {claim.tract for claim in claimed(ledger)} == {"000100", "000200"}


def test_dead_holders_are_freed_and_dropping_leaves_nothing(ledger: Ledger) -> None:
    write_people(ledger)
    claimed(ledger)
    [holder] = ledger.claimants(R)
    assert (holder.worker, holder.tracts) == (ANN, 2)
    assert ledger.release_hosts(R, ["node1"]) == 2
    assert len(claimed(ledger, BOB)) == 2
    assert COUNTY_FILES not in {claim.tract for claim in claimed(ledger)}
    ledger.drop(R)
    ledger.register(R, "all", "2010_sf1")
    assert claimed(ledger) == []
