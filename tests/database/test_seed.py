"""A seed belongs to the experiment: settled when it is registered, kept with its solutions, and no node's to change."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from tests.database.test_step_commands import Operator
from tests.paths import CHECKOUT


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seed") / "de2010.sf1.zip"
    made = ["bench/make_state.py", "-q", "--stusab", "de", "--people", "1000", "--counties", "1", "--out", str(path)]
    subprocess.run([sys.executable, *made], cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    return path


def test_every_node_uses_the_experiment_s_seed_whatever_its_own_settings_say(tmp_path: Path, state: Path) -> None:
    operator = Operator(tmp_path / "root")
    operator.done("--register", "r1", "--seed", "5")
    (operator.base / "dist" / state.name).write_bytes(state.read_bytes())
    operator.done("--step1", "--step2")
    result = operator.run("--run", settings="[solve]\nseed = 9\n")
    assert result.returncode == 0, result.stderr
    assert "[solve] seed = 9 is not used for r1, which was registered with the seed 5" in result.stderr
    solutions = [gzip.decompress(path.read_bytes()) for path in operator.base.rglob("*.sol.gz")]
    assert solutions
    assert all(b"\n# seed = 5\n" in text for text in solutions)
    told = operator.status()
    assert told["experiment"]["seed"] == 5
    assert [(maker["seed"], maker["tracts"]) for maker in told["solutions_made_by"]] == [(5, len(solutions))]


def test_without_one_the_setting_of_the_registration_is_the_experiment_s(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "root")
    assert operator.run("--register", "r1", settings="[solve]\nseed = 7\n").returncode == 0
    assert operator.status()["experiment"]["seed"] == 7


def test_a_seed_where_it_means_nothing_is_refused(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "root").register()
    result = operator.run("--status", "--seed", "4")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "--seed goes with --register" in result.stderr
