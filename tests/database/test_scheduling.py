"""Schedulers on many nodes: the line for cron, hosts that are no more, and experiments that are not ready."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbrecon.ctools.database import make_engine
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import SysLoad, Worker
from tests.helpers import forget_host
from tests.node_world import R, claim_before, ledger_with
from tests.paths import CHECKOUT

SECRET = "k7 secret"


@pytest.fixture(autouse=True)
def _no_locks_left() -> Iterator[None]:
    """The locks of this test's nodes go with it."""
    yield
    for name in (f"all-{os.getpid()}", f"cron-{os.getpid()}"):
        forget_host(name)


def run(root: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, str(CHECKOUT / arguments[0]), *arguments[1:]]
    return subprocess.run(command, env=kept | {"DAS_S3ROOT": str(root)} | env, capture_output=True, text=True, check=False)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return ledger_with(make_engine(sqlite_path=str(tmp_path / "2010-re" / "dbrecon.sqlite3")), ["000100", "000200", "000300"])


def test_the_line_for_cron_holds_no_secret_and_says_where_secrets_belong(tmp_path: Path) -> None:
    done = run(tmp_path, "dbrtool.py", "--crontab", "--reident", R, MYSQL_HOST="db", MYSQL_PASSWORD=SECRET)
    assert done.returncode == 0
    assert SECRET not in done.stdout + done.stderr
    [line] = done.stdout.splitlines()
    assert line.startswith("* * * * * ")
    assert f"./scheduler.py --quiet --reident {R})" in line
    assert "DAS_S3ROOT|MYSQL_HOST|MYSQL_PASSWORD" in done.stderr


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_line_for_cron_runs_with_nothing_but_what_cron_gives_and_the_file(shell: str, tmp_path: Path, ledger: Ledger) -> None:
    """The file is written by the command that is printed, in the operator's shell; then the line is run as cron does: by /bin/sh,
    in an environment of HOME alone. Here the scheduler meets an error that it must log: no county files."""
    printed = run(tmp_path, "dbrtool.py", "--crontab", "--reident", R, MYSQL_PASSWORD="")
    line = printed.stdout.strip().removeprefix("* * * * * ")
    [write] = [item for item in printed.stderr.splitlines() if "umask 077" in item]
    name = f"cron-{os.getpid()}"
    exported = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "DAS_S3ROOT": str(tmp_path), "DBRECON_HOSTNAME": name}
    subprocess.run([shell, "-c", write], env=exported, check=True)
    assert (tmp_path / ".dbrecon.env").stat().st_mode & 0o077 == 0
    path = os.path.dirname(sys.executable)  # this interpreter, in place of the checkout's .venv
    env = {"HOME": str(tmp_path), "PATH": f"{path}:/usr/bin:/bin", "DBRECON_HOSTNAME": name}
    subprocess.run(["/bin/sh", "-c", line.replace("\\%", "%")], env=env, capture_output=True, check=False)
    assert "oh lacks the county files" in (tmp_path / "dbrecon-scheduler.log").read_text()


def test_what_keeps_the_line_for_cron_from_starting_is_logged(tmp_path: Path) -> None:
    line = run(tmp_path, "dbrtool.py", "--crontab").stdout.strip().removeprefix("* * * * * ")
    done = subprocess.run(["/bin/sh", "-c", line], env={"HOME": str(tmp_path)}, capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert ".dbrecon.env" in (tmp_path / "dbrecon-scheduler.log").read_text()


def test_where_nothing_is_to_be_unlocked_the_hosts_that_hold_are_named(tmp_path: Path, ledger: Ledger) -> None:
    ledger.claim(R, Worker("beats", "1-1"), lease_seconds=300)
    done = run(tmp_path, "dbrtool.py", "--unlock")
    assert done.stdout.startswith("nothing to unlock: ")
    assert "beats: " in done.stdout
    assert "--unlock beats" in done.stdout


def test_hosts_that_are_silent_are_unlocked_and_the_others_not(tmp_path: Path, ledger: Ledger) -> None:
    claim_before(ledger.engine, 200, "gone", 300)
    claim_before(ledger.engine, 200, "reports", 300)
    ledger.record_sysload(SysLoad("reports", 1.0, 1.0, 1.0, 100, 200, 1))
    ledger.claim(R, Worker("beats", "1-1"), lease_seconds=300)
    status = run(tmp_path, "dbrtool.py", "--status", "--reident", R).stdout
    assert re.findall(r"--unlock \w+", status) == ["--unlock gone"], "recommended exactly where it acts"
    done = run(tmp_path, "dbrtool.py", "--unlock")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gone, not heard of for ")
    assert done.stdout.endswith(" s: 1 tract, county or state freed\n")
    assert [claimant.worker.host for claimant in ledger.claimants(R)] == ["beats", "reports"]


def test_a_host_that_is_named_is_unlocked_at_once(tmp_path: Path, ledger: Ledger) -> None:
    ledger.claim(R, Worker("beats", "1-1"), lease_seconds=300)
    done = run(tmp_path, "dbrtool.py", "--unlock", "beats,other", "--reident", R)
    assert done.stdout == "beats: 1 tract, county or state freed\nother holds nothing\n"
    assert ledger.claimants(R) == []


def test_without_a_name_all_experiments_are_worked_on_and_one_without_county_files_is_left_out(
    tmp_path: Path, ledger: Ledger
) -> None:
    """The other experiment has no states yet: nothing is left to do in it, and that is no error."""
    ledger.register("empty", "all", "2010_sf1")
    done = run(tmp_path, "scheduler.py", DBRECON_HOSTNAME=f"all-{os.getpid()}")
    assert done.returncode == 0, done.stderr
    assert f"{R} is left out: {R}: oh lacks the county files of 1 of 1 county (001): run --step2 --stusab oh first" in done.stderr
    assert {state.status for state in ledger.tract_states(R, "oh")} == {"new"}, "nothing is quarantined for it"
    assert "nothing was left to do" in done.stdout
