"""The ledger against a plain model of it: any order of claims, heartbeats, clock jumps, deaths and finishes, of what operators do
beside them (--force of every step, --rescan, --unlock, --drop), of steps 1 and 2 by whoever holds the state, and of certainty."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule, run_state_machine_as_test

from dbrecon.ctools.database import make_engine
from dbrecon.ledger.ledger import (
    EMPTY,
    LP,
    NEW,
    QUARANTINED,
    SOLVED,
    WRITTEN,
    Claim,
    CountyClaim,
    Ledger,
    LostLease,
    LpStats,
    SolStats,
    Worker,
)
from dbrecon.ledger.lifecycle import CERTAIN, ENTERED
from dbrecon.ledger.reconcile import CountyFound, LpFound, Snapshot, SolFound, TractFound
from dbrecon.ledger.records import COUNTY_FILES, CertaintyClaim, CountyDigests, HeldState, StateClaim
from dbrecon.place import Place
from tests.helpers import TractRow, geography

LEASE, MAX_ATTEMPTS, MAX_LOST, REST = 60, 3, 3, 20
TRACTS = [
    TractRow("39", "001", "000100", 500),
    TractRow("39", "001", "000200", 300),
    TractRow("39", "001", "000300", 0),
    TractRow("39", "003", "000100", 400),
    TractRow("39", "003", "000200", 100),
]
WORKERS = [Worker("ann", "1"), Worker("ann", "2"), Worker("bob", "1")]
LP_STATS, SOL_STATS = LpStats(1, 1, 1, 0.0), SolStats("highs", 0.0)
Key = tuple[str, ...]
"""County and tract; county and "" for a county; county, tract and "6" for a tract's certainty, or that of COUNTY_FILES; a state's
letters."""
COUNTIES = ["001", "003"]
FILES, OTHER_FILES = CountyDigests(None, "b1", "t1"), CountyDigests(None, "b2", "t2")
FOUND = [("lp sol",) * 3, ("lp sol",) * 3, ("lp sol", "lp", "lp"), ("", "lp sol", ""), ("", "", "")]
TRACT, COUNTY, CERTAINTY, STATE = "tract", "county", "certainty", "state"
OHIO = ("oh",)
AnyClaim = Claim | CountyClaim | StateClaim


def kind_of(key: Key) -> str:
    if len(key) == 1:
        return STATE
    return CERTAINTY if len(key) == 3 else TRACT if key[1] else COUNTY


@dataclass
class Unit:
    """What the model knows of a tract (or of a county: its tract is "")."""

    status: str
    pop: int
    attempts: int = 0
    lost: int = 0
    holder: Worker | None = None
    token: str = ""
    lease_end: int = 0
    finishes: int = 0
    has_lp: bool = False
    people: str | None = None
    """Of a county, the digest of its people ("": none was kept); of certainty, that of the people that it is of."""
    files: CountyDigests | None = None

    def free(self) -> None:
        self.holder, self.lease_end = None, 0

    def anew(self, status: str) -> None:
        self.free()
        self.status, self.attempts, self.lost, self.token = status, 0, 0, ""

    def lives(self, now: int) -> bool:
        return self.holder is not None and self.lease_end > now


@dataclass
class Model:
    """The rules, written down the plain way."""

    now: int = 1_600_000_000
    units: dict[Key, Unit] = field(default_factory=dict)

    def of(self, kind: str, county: str | None = None) -> dict[Key, Unit]:
        return {key: unit for key, unit in self.units.items() if kind_of(key) == kind and county in (None, key[0])}

    def begin(self) -> None:
        """What step 1 enters; the state's row stays, with whoever holds it."""
        self.units = {OHIO: self.units.get(OHIO, Unit(ENTERED, 0))}
        for row in TRACTS:
            self.units[row.county, row.tract] = Unit(NEW if row.pop else EMPTY, row.pop)
            self.units.setdefault((row.county, ""), Unit(NEW, 0)).pop += row.pop

    def reap(self, kind: str) -> None:
        for unit in self.of(kind).values():
            if 0 < unit.lease_end <= self.now:
                self.lose(unit) if unit.holder else unit.free()

    def reopen(self, county: str) -> None:
        unit = self.units[county, ""]
        unit.anew(NEW)
        unit.people = None

    def is_certain(self, county: str) -> bool:
        return all(unit.status == CERTAIN for key, unit in self.of(CERTAINTY, county).items() if key[1] != COUNTY_FILES)

    def can_be_certain(self, county: str) -> bool:
        """Whether the county's people are written, and are those that its rows of certainty are of."""
        people, own = self.units[county, ""], self.units.get((county, COUNTY_FILES, "6"))
        return own is not None and people.status == WRITTEN and people.people == own.people

    def enter_certainty(self) -> None:
        for county in COUNTIES:
            people, begun = self.units[county, ""], self.of(CERTAINTY, county)
            if people.status != WRITTEN or self.can_be_certain(county):
                continue
            for unit in begun.values():
                unit.anew(NEW)
            if not begun:
                tracts = {key[1]: unit.pop for key, unit in self.of(TRACT, county).items() if unit.pop}
                for tract, pop in {**tracts, COUNTY_FILES: 0}.items():
                    self.units[county, tract, "6"] = Unit(NEW, pop)
            for unit in self.of(CERTAINTY, county).values():
                unit.people = people.people

    def lose(self, unit: Unit) -> None:
        unit.free()
        unit.token = ""
        unit.lost += 1
        if unit.lost >= MAX_LOST:
            unit.status = QUARANTINED

    def held(self, key: Key, token: str) -> bool:
        return self.units[key].token == token and self.units[key].holder is not None

    def closable(self, county: str) -> bool:
        unit = self.units[county, ""]
        tracts = [unit.status for unit in self.of(TRACT, county).values()]
        return unit.status == NEW and unit.lease_end == 0 and all(status in (EMPTY, SOLVED) for status in tracts)


def key_of(claim: AnyClaim) -> Key:
    if isinstance(claim, StateClaim):
        return (claim.stusab,)
    if isinstance(claim, CertaintyClaim):
        return claim.county, claim.tract, "6"
    return claim.county, claim.tract if isinstance(claim, Claim) else ""


class LedgerMachine(RuleBasedStateMachine):
    """Workers that do anything at any time; the ledger must agree with the model after every step."""

    arguments: dict[str, Any]
    tract_claims: Bundle[Claim] = Bundle("tract_claims")
    county_claims: Bundle[CountyClaim] = Bundle("county_claims")
    certainty_claims: Bundle[CertaintyClaim] = Bundle("certainty_claims")
    state_claims: Bundle[StateClaim] = Bundle("state_claims")

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.engine = make_engine(**self.arguments)
        self.ledger = Ledger(self.engine, clock=lambda: self.model.now, max_lost=MAX_LOST)
        if self.ledger.experiments():
            self.ledger.drop("m")
        self.ledger.register("m", "all", "2010_sf1")
        self.ledger.replace_geography("m", "oh", geography(TRACTS))
        self.model.begin()
        self.seen: dict[str, Snapshot] = {}

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.dispose()

    @rule(seconds=st.sampled_from([1, REST, LEASE - 1, LEASE, 10 * LEASE]))
    def time_passes(self, seconds: int) -> None:
        self.model.now += seconds

    @rule(
        target=tract_claims, worker=st.sampled_from(WORKERS), steps=st.sampled_from([(3,), (4,), (3, 4)]), limit=st.integers(1, 3)
    )
    def claim(self, worker: Worker, steps: tuple[int, ...], limit: int) -> Any:
        claims = self.ledger.claim("m", worker, steps=steps, limit=limit, lease_seconds=LEASE)
        self.model.reap(TRACT)
        wanted = [status for step, status in ((3, NEW), (4, LP)) if step in steps]
        free = {key: unit for key, unit in self.model.of(TRACT).items() if unit.status in wanted and unit.lease_end == 0}
        best = max(free, key=lambda key: free[key].pop, default=None)
        existing = sorted((key for key in free if best and key[0] == best[0]), key=lambda key: -free[key].pop)
        assert [key_of(claim) for claim in claims] == existing[:limit]
        for claim in claims:
            unit = self.model.units[key_of(claim)]
            assert (claim.status, claim.attempts, claim.pop) == (unit.status, unit.attempts, unit.pop)
            unit.holder, unit.token, unit.lease_end = worker, claim.token, self.model.now + LEASE
        return multiple(*claims)

    @rule(target=county_claims, worker=st.sampled_from(WORKERS))
    def claim_county(self, worker: Worker) -> Any:
        claim = self.ledger.claim_county("m", worker, lease_seconds=LEASE)
        self.model.reap(COUNTY)
        ready = [county for county in COUNTIES if self.model.closable(county)]
        best = max(ready, key=lambda county: self.model.units[county, ""].pop, default=None)
        assert (claim.county if claim else None) == best
        if claim is None:
            return multiple()
        unit = self.model.units[claim.county, ""]
        unit.holder, unit.token, unit.lease_end = worker, claim.token, self.model.now + LEASE
        return claim

    @rule(target=certainty_claims, worker=st.sampled_from(WORKERS), limit=st.integers(1, 3))
    def claim_certainty(self, worker: Worker, limit: int) -> Any:
        return self.take_certainty(worker, limit)

    def take_certainty(self, worker: Worker, limit: int) -> Any:
        claims = self.ledger.claim_certainty("m", worker, limit=limit, lease_seconds=LEASE)
        model = self.model
        model.enter_certainty()
        model.reap(CERTAINTY)
        free = {
            key: unit
            for key, unit in model.of(CERTAINTY).items()
            if unit.status == NEW and unit.lease_end == 0 and model.can_be_certain(key[0])
        }
        whole = [key for key in free if key[1] == COUNTY_FILES and model.is_certain(key[0])]
        found = [key_of(claim) for claim in claims]
        if whole:
            assert len(found) == 1
            assert found[0] in whole, "what completes something comes first"
        else:
            tracts = {key: unit.pop for key, unit in free.items() if key[1] != COUNTY_FILES}
            best = max(tracts, key=lambda key: tracts[key], default=None)
            here = sorted((key for key in tracts if best and key[0] == best[0]), key=lambda key: -tracts[key])
            assert found == here[:limit]
        for claim in claims:
            unit = model.units[key_of(claim)]
            unit.holder, unit.token, unit.lease_end = worker, claim.token, model.now + LEASE
        return multiple(*claims)

    @rule(claim=certainty_claims)
    def write_certainty(self, claim: CertaintyClaim) -> None:
        self.finish(claim, CERTAIN, lambda: self.ledger.certainty_written(claim))

    @rule(target=state_claims, worker=st.sampled_from(WORKERS))
    def claim_state(self, worker: Worker) -> Any:
        found, unit = self.ledger.claim_state("m", "oh", worker, lease_seconds=LEASE), self.model.units[OHIO]
        if unit.holder is not None and unit.lives(self.model.now):
            assert found == HeldState(unit.holder.host, unit.lease_end - self.model.now)
            return multiple()
        assert isinstance(found, StateClaim)
        unit.holder, unit.token, unit.lease_end = worker, found.token, self.model.now + LEASE
        return found

    @rule(claim=state_claims, step=st.sampled_from([1, 1, 2]), force=st.booleans(), county=st.sampled_from(COUNTIES))
    def step_1_or_2_of_a_held_state(self, claim: StateClaim, step: int, force: bool, county: str) -> None:
        if not self.model.held(OHIO, claim.token):
            with pytest.raises(LostLease):
                self.ledger.replace_geography("m", "oh", geography(TRACTS), force=True, claim=claim)
            with pytest.raises(LostLease):
                self.ledger.enter_county_files("m", "oh", county, OTHER_FILES, claim=claim)
            with pytest.raises(LostLease):
                self.ledger.forget_county_files(claim, [county])
            return
        if step == 2:
            self.step_2(county, FILES, claim)
        else:
            assert self.ledger.replace_geography("m", "oh", geography(TRACTS), force=force, claim=claim) is force
            if force:
                self.model.begin()
        self.model.units[OHIO].lease_end = self.model.now + LEASE

    def force_step_6(self, county: str) -> None:
        rows = self.model.of(CERTAINTY, county)
        assert self.ledger.reset_certainty("m", Place("oh", county)) == len(rows)
        for unit in rows.values():
            unit.anew(NEW)

    @rule(claim=st.one_of(tract_claims, county_claims, certainty_claims, state_claims))
    def heartbeat(self, claim: AnyClaim) -> None:
        held = key_of(claim) in self.model.units and self.model.held(key_of(claim), claim.token)
        assert self.ledger.heartbeat([claim], LEASE) == ([] if held else [claim])
        if held:
            self.model.units[key_of(claim)].lease_end = self.model.now + LEASE

    @rule(claim=st.one_of(tract_claims, county_claims, certainty_claims, state_claims))
    def release(self, claim: AnyClaim) -> None:
        self.ledger.release([claim])
        if key_of(claim) in self.model.units and self.model.held(key_of(claim), claim.token):
            self.model.units[key_of(claim)].free()

    @rule(claim=tract_claims)
    def solve(self, claim: Claim) -> None:
        self.solve_claim(claim)

    def solve_claim(self, claim: Claim) -> None:
        """Both steps in one, or the second of a tract that has its LP."""
        unit = self.model.units[key_of(claim)]
        self.finish(claim, SOLVED, lambda: self.ledger.solved(claim, SOL_STATS, LP_STATS if unit.status == NEW else None))

    @rule(claim=tract_claims)
    def write_lp(self, claim: Claim) -> None:
        unit = self.model.units[key_of(claim)]
        if unit.status == NEW or unit.token != claim.token:
            self.finish(claim, LP, lambda: self.ledger.lp_written(claim, LP_STATS))

    @rule(claim=county_claims)
    def write_county(self, claim: CountyClaim) -> None:
        self.finish(claim, WRITTEN, lambda: self.ledger.csv_written(claim))

    def unit_of(self, claim: Claim | CountyClaim) -> Unit | None:
        """None if it is gone: certainty's rows go with step 1."""
        return self.model.units.get(key_of(claim))

    def finish(self, claim: Claim | CountyClaim, status: str, call: Any) -> None:
        unit = self.unit_of(claim)
        if unit is None or unit.token != claim.token:
            with pytest.raises(LostLease):
                call()
        elif unit.holder is not None:
            call()
            unit.finishes += status in (SOLVED, WRITTEN)
            unit.has_lp |= status in (LP, SOLVED)
            unit.people = "" if status == WRITTEN else unit.people
            unit.status = status
            unit.free()
        elif unit.status == status:
            call()  # a repeat: nothing happens

    @rule(claim=st.one_of(tract_claims, county_claims, certainty_claims), rest=st.sampled_from([0, REST]))
    def fail(self, claim: Claim | CountyClaim, rest: int) -> None:
        unit = self.unit_of(claim)
        if unit is None or unit.token != claim.token:
            with pytest.raises(LostLease):
                self.ledger.failed(claim, "bad", MAX_ATTEMPTS, rest)
            return
        ended = unit.holder is None
        last = self.ledger.failed(claim, "bad", MAX_ATTEMPTS, rest)
        if ended:
            return
        unit.free()
        unit.attempts += 1
        assert last is (unit.attempts >= MAX_ATTEMPTS)
        if last:
            unit.status = QUARANTINED
        elif rest:
            unit.lease_end = self.model.now + rest

    @rule(worker=st.sampled_from(WORKERS))
    def worker_is_found_dead(self, worker: Worker) -> None:
        held = {key: unit for key, unit in self.model.units.items() if unit.holder == worker}
        assert self.ledger.release_worker("m", worker) == len(held)
        for key, unit in held.items():
            if key == OHIO:  # nothing is counted of a state
                unit.free()
                unit.token = ""
            else:
                self.model.lose(unit)

    @rule(host=st.sampled_from(["ann", "bob"]))
    def unlock(self, host: str) -> None:
        held = [unit for unit in self.model.units.values() if unit.holder and unit.holder.host == host]
        assert self.ledger.release_hosts("m", [host]) == len(held)
        for unit in held:
            unit.free()
            unit.token = ""

    @rule()
    def retry_quarantined(self) -> None:
        bad = [unit for unit in self.model.units.values() if unit.status == QUARANTINED]
        assert self.ledger.retry_quarantined("m") == len(bad)
        for unit in bad:
            unit.anew(NEW)
            unit.has_lp = False

    @rule(
        county=st.sampled_from(COUNTIES),
        what=st.sampled_from(["--force", "--force 6", "step 2", "step 1", "--drop"]),
        step=st.integers(3, 5),
    )
    def operator_begins_anew(self, county: str, what: str, step: int) -> None:
        """One rule, or they would leave workers no time."""
        if what == "--force":
            self.force(county, step)
        elif what == "--force 6":
            self.force_step_6(county)
        elif what == "step 2":
            self.step_2(county, FILES if step == 3 else OTHER_FILES)
        else:
            self.step_1_again(what == "--drop")

    def force(self, county: str, step: int) -> None:
        back = [
            unit
            for unit in self.model.of(TRACT, county).values()
            if unit.status != EMPTY and (step == 3 or (step == 4 and unit.status != NEW and unit.has_lp))
        ]
        assert self.ledger.reset("m", step, Place("oh", county)) == (1 if step == 5 else len(back))
        for unit in back:
            unit.anew(NEW if step == 3 else LP)
            unit.has_lp = step == 4
        self.model.reopen(county)

    def step_1_again(self, dropped: bool) -> None:
        if dropped:
            self.ledger.drop("m")
            self.ledger.register("m", "all", "2010_sf1")
            del self.model.units[OHIO]
        assert self.ledger.replace_geography("m", "oh", geography(TRACTS), force=not dropped)
        self.model.begin()

    def step_2(self, county: str, files: CountyDigests, claim: StateClaim | None = None) -> None:
        unit, tracts = self.model.units[county, ""], self.model.of(TRACT, county).values()
        changed = unit.files not in (None, files)
        begun = sum(tract.status in (LP, SOLVED) for tract in tracts)
        assert self.ledger.enter_county_files("m", "oh", county, files, claim=claim) == (begun if changed else None)
        unit.files = files
        for tract in tracts if changed else []:
            tract.has_lp = False
            if tract.status not in (EMPTY, QUARANTINED):
                tract.anew(NEW)
        if changed:
            self.model.reopen(county)

    @rule(target=certainty_claims, county=st.sampled_from(COUNTIES), worker=st.sampled_from(WORKERS))
    def do_all_that_is_free(self, county: str, worker: Worker) -> Any:
        """Solve what is free of a county, write its people if that was all, and claim certainty."""
        place = Place("oh", county)
        claims = self.ledger.claim("m", worker, limit=9, lease_seconds=LEASE, place=place)
        self.model.reap(TRACT)
        free = [key for key, unit in self.model.of(TRACT, county).items() if unit.status in (NEW, LP) and unit.lease_end == 0]
        assert sorted(map(key_of, claims)) == sorted(free)
        for claim in claims:
            unit = self.model.units[key_of(claim)]
            unit.holder, unit.token, unit.lease_end = worker, claim.token, self.model.now + LEASE
            self.solve_claim(claim)
        self.model.reap(COUNTY)
        people = self.ledger.claim_county("m", worker, lease_seconds=LEASE, place=place)
        assert (people is not None) == self.model.closable(county)
        if people is None:
            return multiple()
        unit = self.model.units[county, ""]
        unit.holder, unit.token, unit.lease_end = worker, people.token, self.model.now + LEASE
        self.finish(people, WRITTEN, lambda: self.ledger.csv_written(people))
        return self.take_certainty(worker, 3)

    @rule(
        county=st.sampled_from(COUNTIES),
        late=st.booleans(),
        files=st.sampled_from(FOUND),
        people=st.sampled_from([True, True, False]),
    )
    def rescan(self, county: str, late: bool, files: tuple[str, ...], people: bool) -> None:
        """What was found of a county's files, some time ago if ``late``; what has changed since, or is held, is left alone."""
        own, tracts, now = self.model.units[county, ""], self.model.of(TRACT, county), self.ledger.snapshot("m", "oh", county)
        before = self.seen.setdefault(county, now) if late else now
        if late:
            self.seen[county] = now
        lp, sol = LpFound(1, 1, 1, 1, "l"), SolFound(1, "highs", checked=True, digest="s")
        existing = dict(zip(tracts, files, strict=False))
        found = tuple(
            TractFound(key[1], lp if existing[key] else None, sol if "sol" in existing[key] else None)
            for key, unit in tracts.items()
            if unit.pop
        )
        self.ledger.put_right("m", CountyFound("oh", county, found, 1 if people else None, files=FILES, people_digest="p"), before)
        same = before.county == now.county
        own.files = own.files or (FILES if same else None)
        changed = False
        for key, unit in tracts.items():
            if not unit.pop or unit.lives(self.model.now) or before.tracts.get(key[1]) != now.tracts[key[1]]:
                continue
            becomes = (
                SOLVED if "sol" in existing[key] else QUARANTINED if unit.status == QUARANTINED else LP if existing[key] else NEW
            )
            if becomes != unit.status:
                changed = True
                unit.anew(becomes)
                unit.has_lp = becomes != NEW
        self.rescan_people(county, people and same, changed, same)

    def rescan_people(self, county: str, people: bool, changed: bool, same: bool) -> None:
        """The county's row after its tracts'."""
        own = self.model.units[county, ""]
        solved = all(unit.status in (SOLVED, EMPTY) for unit in self.model.of(TRACT, county).values())
        if not changed and (own.lives(self.model.now) or not same):
            return
        if solved and people:
            if (own.status, own.people) != (WRITTEN, "p"):
                own.anew(WRITTEN)
                own.people = "p"
        elif own.status == WRITTEN or changed:
            self.model.reopen(county)

    @invariant()
    def the_ledger_agrees(self) -> None:
        if not hasattr(self, "ledger"):
            return
        tracts = self.model.of(TRACT)
        rows = {(row.county, row.tract): row for row in self.ledger.tract_states("m", "oh")}
        assert {key: (row.status, row.attempts, row.claimed_by, row.sol_count) for key, row in rows.items()} == {
            key: (unit.status, unit.attempts, str(unit.holder) if unit.holder else None, unit.finishes)
            for key, unit in tracts.items()
        }
        counties = self.ledger.county_statuses("m", "oh")
        expected = {key[0]: "open" if unit.status == NEW else unit.status for key, unit in self.model.of(COUNTY).items()}
        assert counties == expected
        holder = self.model.units[OHIO].holder
        assert [claimant.worker for claimant in self.ledger.claimants("m") if claimant.states] == ([holder] if holder else [])

    @invariant()
    def status_agrees(self) -> None:
        if not hasattr(self, "ledger"):
            return
        status, work = self.ledger.status("m"), self.ledger.work_left("m")
        tracts = list(self.model.of(TRACT).values())
        live = [unit for unit in tracts if unit.lives(self.model.now)]
        sure = [
            unit for key, unit in self.model.of(CERTAINTY).items() if unit.status == CERTAIN and self.model.can_be_certain(key[0])
        ]
        assert status.certainty.created + status.certainty.counties_created == len(sure)
        assert status.sol_created == sum(unit.status == SOLVED for unit in tracts)
        assert status.lp_in_process + len(status.sols_in_progress) == len(live) == work.running
        assert status.quarantined_tracts == work.quarantined == sum(unit.status == QUARANTINED for unit in tracts)
        assert status.people == 1300
        open_tracts = sum(unit.status in (NEW, LP) for unit in tracts)
        assert work.claimable + work.running + work.waiting == open_tracts


@contextmanager
def machine_on(arguments: dict[str, Any]) -> Iterator[type[LedgerMachine]]:
    yield type("Machine", (LedgerMachine,), {"arguments": arguments})


def check_rules(arguments: dict[str, Any], examples: int, *, random: bool = False) -> None:
    limits = settings(max_examples=examples, stateful_step_count=40, derandomize=not random, database=None,
                      suppress_health_check=list(HealthCheck))  # fmt: skip
    with machine_on(arguments) as machine:
        run_state_machine_as_test(machine, settings=limits)


def test_the_claim_protocol_keeps_its_rules_on_sqlite(tmp_path: Path) -> None:
    check_rules({"sqlite_path": tmp_path / "a.sqlite3"}, 16)


@pytest.mark.mariadb
def test_the_claim_protocol_keeps_its_rules_on_mariadb(mariadb_env: dict[str, str]) -> None:
    check_rules({"sqlite_path": "", **{name.lower(): value for name, value in mariadb_env.items()}}, 5)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_claim_protocol_keeps_its_rules_whatever_is_done(tmp_path: Path) -> None:
    """Other sequences each time, and many more of them."""
    check_rules({"sqlite_path": tmp_path / "a.sqlite3"}, 300, random=True)
