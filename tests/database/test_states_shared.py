"""Steps 1 and 2 on several nodes: each state is done by one of them, whatever becomes of the others."""

import logging
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dbrecon.console import state_steps
from dbrecon.console.step_commands import do_states
from dbrecon.ctools.database import make_engine
from dbrecon.ctools.host import host_name
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import LostLease, StateClaim, Worker
from dbrecon.settings import Config
from dbrecon.steps import county_files, geography_files, holding
from dbrecon.steps.county_files import make_county_files
from dbrecon.steps.geography_files import make_geo_files
from tests.console_world import Operator
from tests.tiny_sf1 import environment, make_members, put_zip, some_records, zip_bytes
from tests.waiting import wait_for

STATES = ["al", "ca", "nd", "nj", "nm", "oh"]
ELSEWHERE = Worker("n2", "4711-1-1")


@dataclass
class World:
    """An experiment with six states' zips, and the environment of its operators."""

    experiment: Experiment
    env: dict[str, str]

    def ledger(self) -> Ledger:
        return Ledger(make_engine(**self.experiment.config.database()))

    def files(self) -> dict[str, bytes]:
        root = Path(self.experiment.base) / "work"
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def operator(self, home: Path, host: str) -> Operator:
        return Operator(home, env=self.env | {"DBRECON_HOSTNAME": host})


@pytest.fixture
def world(database: dict[str, Any], tmp_path: Path) -> World:
    env = environment(tmp_path / "root") | {name.upper(): value for name, value in database.items() if name != "sqlite_path"}
    experiment = Experiment.make("r1", Config.load(env=env, hostname="here"))
    made = World(experiment, env)
    made.ledger().register("r1", "all", "2010_sf1")
    for stusab in STATES:
        put_zip(experiment, zip_bytes(make_members(some_records(), stusab)), stusab)
    return made


def claimed(ledger: Ledger, stusab: str, worker: Worker = ELSEWHERE) -> StateClaim:
    claim = ledger.claim_state("r1", stusab, worker, lease_seconds=600)
    assert isinstance(claim, StateClaim)
    return claim


def test_of_nodes_at_the_same_states_each_does_others_and_none_is_done_twice(world: World, tmp_path: Path) -> None:
    """Three commands at once, as on three machines with one folder and one database."""
    nodes = [world.operator(tmp_path / host, host).start("--step1", "--step2", "--stusab", "all") for host in ("n1", "n2", "n3")]
    said = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0, 0], said
    made: Counter[str] = Counter()
    for out, _ in said:
        made.update(line.partition(":")[0] for line in out.splitlines() if "files of 2 counties written" in line)
    assert made == dict.fromkeys(STATES, 1)
    ledger = world.ledger()
    assert ledger.stusabs("r1") == STATES
    assert all(None not in ledger.county_files("r1", stusab).values() for stusab in STATES)
    assert ledger.claimants("r1") == []
    assert not [name for name in world.files() if name.endswith(".tmp")]


@pytest.mark.parametrize("states", [["nm"], ["nm", "oh"]], ids=["one", "several"])
def test_a_state_that_another_node_is_at_is_waited_for_until_an_operator_frees_it(
    world: World, tmp_path: Path, states: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_steps, "workers_for", lambda states: states)
    caplog.set_level(logging.INFO)
    ledger = world.ledger()
    claimed(ledger, "nm")
    at_work = threading.Thread(target=do_states, args=([1, 2], world.experiment, world.ledger(), states, False), daemon=True)
    at_work.start()
    waits = "waiting for step 1 or 2 of nm, which n2 is at; if n2 is dead, its lease ends in "
    wait_for(lambda: waits in caplog.text, "the sentence of a node that waits")
    assert "(./dbrtool.py --unlock n2 ends it now)" in caplog.text
    assert "nm" not in ledger.stusabs("r1")
    assert world.operator(tmp_path, "n1").here("--unlock", "n2").stdout == "n2: 1 tract, county or state freed\n"
    at_work.join()
    assert ledger.stusabs("r1") == states
    assert None not in ledger.county_files("r1", "nm").values()


def test_what_a_dead_process_of_this_node_was_at_is_taken_up_at_once(world: World) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    ledger = world.ledger()
    claimed(ledger, "nm", Worker(host_name(), f"{process.pid}-1-1"))
    assert make_geo_files(world.experiment, ledger, "nm")
    assert ledger.claimants("r1") == []


def test_a_lease_that_is_over_frees_the_state_and_shows_who_had_it_until_then(world: World) -> None:
    time = [1_600_000_000]
    ledger = Ledger(make_engine(**world.experiment.config.database()), clock=lambda: time[0])
    first = claimed(ledger, "nm")
    [holder] = ledger.holders("r1")
    assert (holder.host, holder.tracts, holder.counties, holder.states, holder.silent) == ("n2", 0, 0, 1, False)
    time[0] += 599
    assert ledger.heartbeat([first], 600) == []
    time[0] += 599
    assert [holder.silent for holder in ledger.holders("r1")] == [True]
    time[0] += 1
    second = claimed(ledger, "nm", Worker("n3", "1-1-1"))
    assert second.fence > first.fence
    assert ledger.heartbeat([first], 600) == [first]
    ledger.release([first])
    assert [claimant.worker.host for claimant in ledger.claimants("r1")] == ["n3"]


def take_away_in(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, ledger: Ledger) -> None:
    """In the call of a function another node gets the state whose claim it is given."""
    real: Callable[..., Any] = getattr(module, name)

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(module, name, real)
        ledger.release_hosts("r1", [host_name()])
        [claim] = [arg for arg in args if isinstance(arg, StateClaim)]
        claimed(ledger, claim.stusab)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, overtaken)


def test_who_has_lost_a_state_enters_nothing_and_leaves_no_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = world.ledger()
    take_away_in(monkeypatch, geography_files, "enter_geofile", world.ledger())
    with pytest.raises(LostLease, match="nm of r1 is no longer held by"):
        make_geo_files(world.experiment, ledger, "nm")
    assert (ledger.stusabs("r1"), world.files()) == ([], {})
    ledger.release_hosts("r1", ["n2"])
    make_geo_files(world.experiment, ledger, "nm")
    before = world.files()
    take_away_in(monkeypatch, county_files, "enter_files", world.ledger())
    with pytest.raises(LostLease, match="nm of r1 is no longer held by"):
        make_county_files(world.experiment, ledger, "nm")
    assert world.files() == before
    assert set(ledger.county_files("r1", "nm").values()) == {None}


@pytest.mark.parametrize(("module", "name"), [(geography_files, "enter_geofile"), (county_files, "enter_files")])
def test_of_several_states_one_that_is_lost_is_waited_for_and_the_others_go_on(
    world: World, module: Any, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other node does nothing with it, and lets it go when it is waited for. What a worker makes of it meanwhile is removed."""
    other = world.ledger()
    take_away_in(monkeypatch, module, name, other)
    monkeypatch.setattr(holding.StateClaimer, "tell", lambda _self, _held: other.release_hosts("r1", ["n2"]))
    monkeypatch.setattr(state_steps, "workers_for", lambda _states: 1)
    world_ledger = world.ledger()
    state_steps.do_states_here(world.experiment, world_ledger, [1, 2], ["nm", "oh"], force=False)
    assert " of r1 is no longer held by" in caplog.text
    assert all(None not in world_ledger.county_files("r1", stusab).values() for stusab in ("nm", "oh"))
    assert not [name for name in world.files() if name.endswith(".tmp")]
