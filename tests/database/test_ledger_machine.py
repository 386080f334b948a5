"""The claim protocol against a plain model of it: any order of claims, heartbeats, clock jumps, deaths and finishes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
Key = tuple[str, str]


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

    def free(self) -> None:
        self.holder, self.lease_end = None, 0


@dataclass
class Model:
    """The rules, written down the plain way."""

    now: int = 1_600_000_000
    units: dict[Key, Unit] = field(default_factory=dict)

    def reap(self, counties: bool) -> None:
        for (_, tract), unit in self.units.items():
            if (tract == "") == counties and 0 < unit.lease_end <= self.now:
                self.lose(unit) if unit.holder else unit.free()

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
        tracts = [unit.status for (where, tract), unit in self.units.items() if where == county and tract]
        return unit.status == NEW and unit.lease_end == 0 and all(status in (EMPTY, SOLVED) for status in tracts)


def key_of(claim: Claim | CountyClaim) -> Key:
    return claim.county, claim.tract if isinstance(claim, Claim) else ""


class LedgerMachine(RuleBasedStateMachine):
    """Workers that do anything at any time; the ledger must agree with the model after every step."""

    arguments: dict[str, Any]
    tract_claims: Bundle[Claim] = Bundle("tract_claims")
    county_claims: Bundle[CountyClaim] = Bundle("county_claims")

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.engine = make_engine(**self.arguments)
        self.ledger = Ledger(self.engine, clock=lambda: self.model.now, max_lost=MAX_LOST)
        if self.ledger.experiments():
            self.ledger.drop("m")
        self.ledger.register("m", "all", "2010_sf1")
        self.ledger.replace_geography("m", "oh", geography(TRACTS))
        for row in TRACTS:
            self.model.units[row.county, row.tract] = Unit(NEW if row.pop else EMPTY, row.pop)
            county = self.model.units.setdefault((row.county, ""), Unit(NEW, 0))
            county.pop += row.pop

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
        self.model.reap(counties=False)
        wanted = [status for step, status in ((3, NEW), (4, LP)) if step in steps]
        free = {key: unit for key, unit in self.model.units.items() if key[1] and unit.status in wanted and unit.lease_end == 0}
        best = max(free, key=lambda key: free[key].pop, default=None)
        there = sorted((key for key in free if best and key[0] == best[0]), key=lambda key: -free[key].pop)
        assert [key_of(claim) for claim in claims] == there[:limit]
        for claim in claims:
            unit = self.model.units[key_of(claim)]
            assert (claim.status, claim.attempts, claim.pop) == (unit.status, unit.attempts, unit.pop)
            unit.holder, unit.token, unit.lease_end = worker, claim.token, self.model.now + LEASE
        return multiple(*claims)

    @rule(target=county_claims, worker=st.sampled_from(WORKERS))
    def claim_county(self, worker: Worker) -> Any:
        claim = self.ledger.claim_county("m", worker, lease_seconds=LEASE)
        self.model.reap(counties=True)
        ready = [county for county, tract in self.model.units if tract == "" and self.model.closable(county)]
        best = max(ready, key=lambda county: self.model.units[county, ""].pop, default=None)
        assert (claim.county if claim else None) == best
        if claim is None:
            return multiple()
        unit = self.model.units[claim.county, ""]
        unit.holder, unit.token, unit.lease_end = worker, claim.token, self.model.now + LEASE
        return claim

    @rule(claim=st.one_of(tract_claims, county_claims))
    def heartbeat(self, claim: Claim | CountyClaim) -> None:
        held = self.model.held(key_of(claim), claim.token)
        assert self.ledger.heartbeat([claim], LEASE) == ([] if held else [claim])
        if held:
            self.model.units[key_of(claim)].lease_end = self.model.now + LEASE

    @rule(claim=st.one_of(tract_claims, county_claims))
    def release(self, claim: Claim | CountyClaim) -> None:
        self.ledger.release([claim])
        if self.model.held(key_of(claim), claim.token):
            self.model.units[key_of(claim)].free()

    @rule(claim=tract_claims)
    def solve(self, claim: Claim) -> None:
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

    def finish(self, claim: Claim | CountyClaim, status: str, call: Any) -> None:
        unit = self.model.units[key_of(claim)]
        if unit.token != claim.token:
            with pytest.raises(LostLease):
                call()
        elif unit.holder is not None:
            call()
            unit.finishes += status in (SOLVED, WRITTEN)
            unit.status = status
            unit.free()
        elif unit.status == status:
            call()  # a repeat: nothing happens

    @rule(claim=st.one_of(tract_claims, county_claims), rest=st.sampled_from([0, REST]))
    def fail(self, claim: Claim | CountyClaim, rest: int) -> None:
        unit = self.model.units[key_of(claim)]
        if unit.token != claim.token:
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
        held = [unit for unit in self.model.units.values() if unit.holder == worker]
        assert self.ledger.release_worker("m", worker) == len(held)
        for unit in held:
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
            unit.status, unit.attempts, unit.lost, unit.token = NEW, 0, 0, ""

    @rule(county=st.sampled_from(["001", "003"]))
    def force_step_3(self, county: str) -> None:
        self.ledger.reset("m", 3, Place("oh", county))
        for (where, _), unit in self.model.units.items():
            if where == county and unit.status != EMPTY:
                unit.free()
                unit.status, unit.attempts, unit.lost, unit.token = NEW, 0, 0, ""

    @invariant()
    def the_ledger_agrees(self) -> None:
        if not hasattr(self, "ledger"):
            return
        tracts = {key: unit for key, unit in self.model.units.items() if key[1]}
        rows = {(row.county, row.tract): row for row in self.ledger.tract_states("m", "oh")}
        assert {key: (row.status, row.attempts, row.claimed_by, row.sol_count) for key, row in rows.items()} == {
            key: (unit.status, unit.attempts, str(unit.holder) if unit.holder else None, unit.finishes)
            for key, unit in tracts.items()
        }

    @invariant()
    def status_agrees(self) -> None:
        if not hasattr(self, "ledger"):
            return
        status, work = self.ledger.status("m"), self.ledger.work_left("m")
        tracts = [unit for key, unit in self.model.units.items() if key[1]]
        live = [unit for unit in tracts if unit.holder and unit.lease_end > self.model.now]
        assert status.sol_created == sum(unit.status == SOLVED for unit in tracts)
        assert status.lp_in_process + len(status.sols_in_progress) == len(live) == work.running
        assert status.quarantined_tracts == work.quarantined == sum(unit.status == QUARANTINED for unit in tracts)
        assert status.people == 1300
        open_tracts = sum(unit.status in (NEW, LP) for unit in tracts)
        assert work.claimable + work.running + work.waiting == open_tracts


@contextmanager
def machine_on(arguments: dict[str, Any]) -> Iterator[type[LedgerMachine]]:
    yield type("Machine", (LedgerMachine,), {"arguments": arguments})


def test_the_claim_protocol_keeps_its_rules_on_sqlite(tmp_path: Any) -> None:
    limits = settings(max_examples=40, stateful_step_count=40, derandomize=True, database=None,
                      suppress_health_check=list(HealthCheck))  # fmt: skip
    with machine_on({"sqlite_path": tmp_path / "a.sqlite3"}) as machine:
        run_state_machine_as_test(machine, settings=limits)


@pytest.mark.mariadb
def test_the_claim_protocol_keeps_its_rules_on_mariadb(mariadb_env: dict[str, str]) -> None:
    limits = settings(max_examples=8, stateful_step_count=40, derandomize=True, database=None,
                      suppress_health_check=list(HealthCheck))  # fmt: skip
    with machine_on({"sqlite_path": "unused"} | {name.lower(): value for name, value in mariadb_env.items()}) as machine:
        run_state_machine_as_test(machine, settings=limits)
