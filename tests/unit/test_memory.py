"""A node does not run out of memory: what is free is read right, what does not fit waits, and the youngest is stopped in time."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dbrecon.ctools.database import make_engine
from dbrecon.ctools.proc import Memory, memory, process_facts
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.node.assignment import Assignment, Outcome
from dbrecon.node.machine import Node
from dbrecon.node.memory import Busy, Floors, MemoryGuard, Stopped
from dbrecon.node.pool import NO_ROOM
from dbrecon.node.source import Experiments
from dbrecon.settings import Config
from tests.node_world import ALL, SETTINGS, R, ledger_with
from tests.worker_tasks import at_work

GIB = 1024.0
FLOORS = Floors(start=1000.0, stop=500.0)


def machine(root: Path, free_kib: int, total_kib: int, groups: str) -> Path:
    """A root folder with /proc as a kernel would fill it."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemTotal: {total_kib} kB\nMemFree: 1 kB\nMemAvailable: {free_kib} kB\n")
    (root / "proc" / "self" / "cgroup").write_text(groups)
    return root


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_without_limits_the_machine_counts(tmp_path: Path) -> None:
    root = machine(tmp_path, 512 * 1024, 1024 * 1024, "0::/user.slice\n")
    group(root / "sys/fs/cgroup/user.slice", memory__max="max\n", memory__current="77\n", memory__stat="inactive_file 5\n")
    assert memory(str(root)) == Memory(512.0, 1024.0)


def test_a_control_group_s_limit_counts_and_page_cache_is_free(tmp_path: Path) -> None:
    root = machine(tmp_path, 512 * 1024, 1024 * 1024, "0::/a/b\n")
    group(root / "sys/fs/cgroup/a/b", memory__max="max\n", memory__current="1\n", memory__stat="inactive_file 0\n")
    used, cache = 150 << 20, 50 << 20
    stat = f"inactive_file {cache}\n"
    group(root / "sys/fs/cgroup/a", memory__max=f"{200 << 20}\n", memory__current=f"{used}\n", memory__stat=stat)
    assert memory(str(root)) == Memory(100.0, 200.0)


def test_a_container_s_group_of_the_older_version_counts(tmp_path: Path) -> None:
    """Its path is the host's, but its own group is mounted at the top."""
    root = machine(tmp_path, 512 * 1024, 1024 * 1024, "5:cpu:/\n4:memory:/docker/abc\n0::/\n")
    group(
        root / "sys/fs/cgroup/memory", memory__limit_in_bytes=f"{300 << 20}\n", memory__usage_in_bytes=f"{290 << 20}\n",
        memory__stat="total_inactive_file 0\n",
    )  # fmt: skip
    assert memory(str(root)) == Memory(10.0, 300.0)


def test_a_limit_above_the_machine_is_none(tmp_path: Path) -> None:
    root = machine(tmp_path, 512 * 1024, 1024 * 1024, "4:memory:/\n")
    group(
        root / "sys/fs/cgroup/memory", memory__limit_in_bytes="9223372036854771712\n", memory__usage_in_bytes="1\n",
        memory__stat="total_inactive_file 0\n",
    )  # fmt: skip
    assert memory(str(root)) == Memory(512.0, 1024.0)


def test_the_memory_of_this_machine_is_read() -> None:
    now = memory()
    assert 0 < now.free_mib < now.total_mib


def test_floors_are_a_tenth_and_half_of_it_unless_set(tmp_path: Path) -> None:
    ini = tmp_path / "config.ini"
    ini.write_text("[run]\n")
    assert Floors.of(Config.load(str(ini), env={}), 20 * GIB) == Floors(2 * GIB, GIB)
    assert Floors.of(Config.load(str(ini), env={}), 768 * GIB) == Floors(4 * GIB, 2 * GIB)
    ini.write_text("[run]\nmin_free_mib = 900\nstop_free_mib = 300\n")
    assert Floors.of(Config.load(str(ini), env={}), 20 * GIB) == Floors(900.0, 300.0)


def guard(free_mib: float, busy: list[Busy]) -> MemoryGuard:
    return MemoryGuard(FLOORS, lambda: busy, lambda: Memory(free_mib, 8 * GIB))


def test_under_the_floor_nothing_starts_even_on_an_idle_node() -> None:
    assert guard(999, []).room() == NO_ROOM


def test_on_an_idle_node_even_the_biggest_tract_starts() -> None:
    assert guard(1001, []).room() is None


def test_beside_others_only_what_fits_starts_and_what_they_will_still_take_is_reckoned() -> None:
    """This process plays a worker that has just begun a tract of a million people."""
    watch = guard(1000 + 4500, [Busy(0, os.getpid(), 0.0, 1_000_000)])
    room = watch.room()
    facts = process_facts(os.getpid())
    assert facts is not None
    assert room is not None
    left = 4500 - (watch.need_mib(1_000_000) - facts.rss_mib)
    assert watch.need_mib(room) == pytest.approx(left, abs=5)


def test_where_others_will_take_all_that_is_left_nothing_starts() -> None:
    assert guard(1100, [Busy(0, os.getpid(), 0.0, 1_000_000)]).room() == NO_ROOM


def test_it_learns_when_a_tract_takes_more_than_predicted() -> None:
    watch = guard(8000, [])
    watch.learn(1, 10_000, 1000)
    assert watch.need_mib(10_000) == pytest.approx(1000)
    watch.learn(1, 100, 1000)  # the peak of the worker's life, which a bigger tract made
    assert watch.need_mib(10_000) == pytest.approx(1000)


@pytest.mark.parametrize(("rss", "alone", "blamed"), [(5000, True, True), (5000, False, False), (1000, True, False)])
def test_only_a_tract_that_had_most_of_the_memory_and_ran_alone_is_to_blame(rss: float, alone: bool, blamed: bool) -> None:
    assert Stopped(rss, 100.0, 8000.0, alone, 1).too_big is blamed


@pytest.mark.slow
def test_the_youngest_is_stopped_and_only_as_many_as_needed() -> None:
    """Two child processes play workers; when the younger has gone, memory is free again."""
    children = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)]
    old, young = children

    def read() -> Memory:
        return Memory(400.0 if young.poll() is None else 2000.0, 8 * GIB)

    try:
        with MemoryGuard(FLOORS, lambda: [Busy(7, old.pid, 1.0, 5000), Busy(8, young.pid, 2.0, 4000)], read) as watch:
            young.wait(timeout=20)
            time.sleep(1.2)
            assert old.poll() is None
            stopped = watch.was_stopped(8)
        assert stopped is not None
        assert not stopped.alone
        assert watch.was_stopped(7) is None
    finally:
        for child in children:
            child.kill()
            child.wait()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """SQLite: the database does not matter here."""
    made = make_engine(sqlite_path=str(tmp_path / "ledger.sqlite3"))
    yield made
    made.dispose()


# -- a node --------------------------------------------------------------------------------------------------------------


class Reading:
    """Free memory that is low the first ``scarce`` times, and while more than ``most`` workers are at work."""

    def __init__(self, root: Path, most: int, total: float = 8 * GIB, scarce: int = 0) -> None:
        self.root, self.most, self.total, self.scarce = root, most, total, scarce
        self.at_work_in_scarcity: list[int] = []

    def __call__(self) -> Memory:
        working = at_work(self.root)
        scarce = self.scarce > len(self.at_work_in_scarcity)
        if scarce:
            self.at_work_in_scarcity.append(working)
        return Memory(1.0 if scarce or working > self.most else 0.9 * self.total, self.total)


def run(engine: Engine, root: Path, reading: Reading, work: str, tracts: list[str], attempts: int = 2) -> Outcome:
    ledger = ledger_with(engine, tracts)
    (root / "config.ini").write_text(SETTINGS.replace("max_attempts = 2", f"max_attempts = {attempts}"), encoding="utf-8")
    config = Config.load(str(root / "config.ini"), env={"DAS_S3ROOT": str(root)})
    experiments = [Experiment.make(R, config)]
    return Node(
        ledger, lambda: config, Experiments(lambda: experiments, alone=True), f"tests.worker_tasks:{work}", Assignment(ALL), reading
    ).run()


@pytest.mark.slow
def test_while_memory_is_scarce_nothing_starts_and_then_all_is_done(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reading = Reading(tmp_path, most=9, scarce=6)
    outcome = run(engine, tmp_path, reading, "serve_steadily", ["000100"])
    assert outcome.solved == 1
    assert reading.at_work_in_scarcity == [0] * 6
    assert [line for line in caplog.messages if "waiting" in line] == [
        "1 MiB of memory are free, less than min_free_mib (819): waiting"
    ]


def test_a_tract_stopped_beside_others_is_put_back_uncounted_and_done_later(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reading = Reading(tmp_path, most=1)
    with caplog.at_level(logging.WARNING):
        outcome = run(engine, tmp_path, reading, "serve_when_alone", ["000100", "000200", "000300"])
    states = Ledger(engine).tract_states(R, "oh")
    assert outcome.quarantined == []
    assert [(state.status, state.attempts, state.sol_count) for state in states] == [("solved", 0, 1)] * 3
    assert sum("beside others" in record.getMessage() for record in caplog.records) >= 1


def test_a_tract_that_is_too_much_for_the_node_alone_is_quarantined_saying_so(engine: Engine, tmp_path: Path) -> None:
    reading = Reading(tmp_path, most=0, total=30.0)
    outcome = run(engine, tmp_path, reading, "serve_until_stopped", ["000100"], attempts=1)
    [(_, bad)] = outcome.quarantined
    assert "MiB, alone, when 1 MiB were free on this node" in bad.error
