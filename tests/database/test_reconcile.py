"""What --rescan found is entered into the ledger, or is not: on SQLite, MariaDB and MySQL."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.readings import DashboardReader
from dbrecon.ledger.reconcile import CountyFound, LpFound, SolFound, TractFound
from dbrecon.ledger.records import CountyClaim, CountyDigests, GeoRow, LostLease, LpStats, SolStats, Worker
from dbrecon.place import Place
from tests.helpers import TractRow, geography


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    """Two tracts with people in a county, and one without."""
    made = Ledger(engine)
    made.register("r1", "all", "2010_sf1")
    geo = [GeoRow("050", "00", 1, "10", "001", "", "", "Kent", 30, 9, 1, 1, 39.0, -75.0)]
    tracts = [TractRow("10", "001", tract, pop) for tract, pop in (("000100", 10), ("000200", 20), ("990000", 0))]
    made.replace_geography("r1", "de", [*geo, *geography(tracts)])
    return made


FILES = CountyDigests(None, "a" * 64, "b" * 64, 10, 20)


def found(*tracts: str, people_at: int | None = None, checked: bool = True) -> CountyFound:
    each = [TractFound(tract, LpFound(1000, 5, 6, 7), SolFound(2000, "HiGHS", checked)) for tract in tracts]
    return CountyFound("de", "001", tuple(each), people_at, files=FILES)


def statuses(ledger: Ledger) -> dict[str, str]:
    return {state.tract: state.status for state in ledger.tract_states("r1", "de")}


def test_what_was_found_is_entered_with_the_files_own_times(ledger: Ledger) -> None:
    before = ledger.snapshot("r1", "de", "001")
    changes = ledger.put_right("r1", found("000100", "000200", people_at=3000), before)
    assert [(change.tract, change.becomes) for change in changes] == [
        ("000100", "solved"), ("000200", "solved"), ("", "written"),
    ]  # fmt: skip
    (first, *_) = ledger.tract_states("r1", "de")
    assert (first.lp_end, first.sol_end, first.variables, first.solver) == (1000, 2000, 5, "HiGHS")
    assert ledger.status("r1").completed_states == ("de",)
    assert ledger.work_left("r1").nothing_left


def test_what_was_found_does_not_count_as_made_in_the_past_hour(ledger: Ledger) -> None:
    """A copy's files are all as old as the copy. What this node has made meanwhile counts as ever."""
    before, now = ledger.snapshot("r1", "de", "001"), ledger.now()
    each = TractFound("000200", LpFound(now - 100, 5, 6, 7), SolFound(now - 90, "HiGHS", checked=True))
    ledger.put_right("r1", CountyFound("de", "001", (each,), None, files=FILES), before)
    status = ledger.status("r1")
    assert (status.sol_created, status.lps_past_hour, status.sols_past_hour, status.people_per_hour) == (1, (), (), None)
    assert DashboardReader(ledger.engine).hosts("r1")[1] == []
    (claim,) = ledger.claim("r1", Worker("node1", "1-1"))
    ledger.solved(claim, SolStats("HiGHS", 0.1), LpStats(1, 1, 1, 0.1))
    status = ledger.status("r1")
    assert (status.lps_past_hour, status.sols_past_hour) == ((("node1", 1),), (("node1", 1),))
    assert status.people_per_hour is None, "no two moments with solutions are known"


def test_what_somebody_holds_is_left_alone(ledger: Ledger) -> None:
    (claim,) = ledger.claim("r1", Worker.here(), place=Place("de", "001", ("000100",)))
    before = ledger.snapshot("r1", "de", "001")
    ledger.put_right("r1", found("000100", "000200"), before)
    assert statuses(ledger) == {"000100": "new", "000200": "solved", "990000": "empty"}
    ledger.release([claim])


def test_what_has_changed_since_the_files_were_looked_at_is_left_alone(ledger: Ledger) -> None:
    before = ledger.snapshot("r1", "de", "001")
    (claim,) = ledger.claim("r1", Worker.here(), place=Place("de", "001", ("000100",)))
    ledger.release([claim])
    ledger.put_right("r1", found("000100", "000200"), before)
    assert statuses(ledger) == {"000100": "new", "000200": "solved", "990000": "empty"}


def test_a_county_is_not_written_while_a_tract_is_not_solved(ledger: Ledger) -> None:
    before = ledger.snapshot("r1", "de", "001")
    changes = ledger.put_right("r1", found("000100", people_at=3000), before)
    assert [(change.tract, change.becomes) for change in changes] == [("000100", "solved")]


def test_nothing_is_adopted_where_the_tables_are_not_known_to_be_todays(ledger: Ledger) -> None:
    """After step 1 --force, say: the county files that lie there may be of other tables."""
    before = ledger.snapshot("r1", "de", "001")
    assert ledger.put_right("r1", replace(found("000100", "000200", people_at=3000), files=None), before) == []
    assert set(statuses(ledger).values()) == {"new", "empty"}


def solve_all(ledger: Ledger, worker: Worker) -> None:
    """What schedulers do with all tracts."""
    for claim in ledger.claim("r1", worker, limit=9):
        ledger.solved(claim, SolStats("HiGHS", 0.1), LpStats(1, 1, 1, 0.1))


def claimed_county(ledger: Ledger, worker: Worker) -> CountyClaim:
    """The county whose tracts are solved, claimed for its people."""
    county = ledger.claim_county("r1", worker)
    assert county is not None
    return county


def solve_and_write(ledger: Ledger, worker: Worker) -> None:
    """What a scheduler does beside a rescan."""
    solve_all(ledger, worker)
    county = claimed_county(ledger, worker)
    ledger.csv_written(county)


def test_a_county_that_was_written_since_it_was_looked_at_stays_written(ledger: Ledger) -> None:
    worker = Worker.here()
    solve_all(ledger, worker)
    before = ledger.snapshot("r1", "de", "001")
    county = claimed_county(ledger, worker)
    ledger.csv_written(county)
    assert ledger.put_right("r1", found("000100", "000200"), before) == []
    assert ledger.county_statuses("r1", "de") == {"001": "written"}


def test_who_writes_people_of_a_tract_that_is_put_back_loses_the_claim(ledger: Ledger) -> None:
    worker = Worker.here()
    solve_all(ledger, worker)
    before = ledger.snapshot("r1", "de", "001")
    county = claimed_county(ledger, worker)
    gone = CountyFound("de", "001", (TractFound("000100", None, None), *found("000200").tracts), None, files=FILES)
    assert [(change.tract, change.becomes) for change in ledger.put_right("r1", gone, before)] == [("000100", "new")]
    with pytest.raises(LostLease):
        ledger.csv_written(county)


def test_another_solution_that_meets_every_cell_is_adopted_and_its_county_written_anew(ledger: Ledger) -> None:
    solve_and_write(ledger, Worker.here())
    other = [
        TractFound(tract.tract, tract.lp, SolFound(2000, "HiGHS", checked=True, digest="c" * 64))
        for tract in found("000100").tracts
    ]
    known = CountyFound("de", "001", (*found("000100").tracts, *found("000200").tracts), 3000, files=FILES)
    ledger.put_right("r1", known, ledger.snapshot("r1", "de", "001"))  # the digests, which the stub of a worker did not give
    changed = CountyFound("de", "001", (*other, *found("000200").tracts), None, files=FILES)
    changes = ledger.put_right("r1", changed, ledger.snapshot("r1", "de", "001"))
    assert [(change.tract, change.was, change.becomes) for change in changes] in (
        [("000100", "solved", "solved"), ("", "written", "open")],
        [("", "written", "open")],
    )


def test_a_solution_that_was_not_checked_is_not_entered(ledger: Ledger) -> None:
    before = ledger.snapshot("r1", "de", "001")
    ledger.put_right("r1", found("000100", checked=False), before)
    assert statuses(ledger)["000100"] == "lp"
