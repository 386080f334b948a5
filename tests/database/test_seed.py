"""A seed belongs to the experiment: settled when it is registered, kept with its solutions, and no node's to change."""

import gzip
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbrecon.version import PROGRAM
from tests.database.test_step_commands import Operator, Result
from tests.paths import CHECKOUT


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seed") / "de2010.sf1.zip"
    made = ["bench/make_state.py", "-q", "--stusab", "de", "--people", "1000", "--counties", "1", "--out", str(path)]
    subprocess.run([sys.executable, *made], cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory, state: Path) -> tuple[Operator, Result]:
    """An experiment with the seed 5 that a node solved whose own seed is 9, and what that node said. To be copied, not changed."""
    operator = Operator(tmp_path_factory.mktemp("solved") / "root")
    operator.done("--register", "r1", "--seed", "5")
    (operator.base / "dist" / state.name).write_bytes(state.read_bytes())
    made = operator.run("--step1", "--step2", settings="[solve]\nseed = 9\n")
    assert (made.returncode, "seed" in made.stderr) == (0, False), "these steps use none"
    return operator, operator.run("--run", settings="[solve]\nseed = 9\n")


@pytest.fixture
def copied(tmp_path: Path, solved: tuple[Operator, Result]) -> Operator:
    shutil.copytree(solved[0].root, tmp_path / "root")
    return Operator(tmp_path / "root")


def seeds(operator: Operator) -> set[str]:
    texts = [gzip.decompress(path.read_bytes()) for path in operator.base.rglob("*.sol.gz")]
    assert texts
    return {re.findall(r"^# seed = (\d+)$", text.decode(), re.M)[0] for text in texts}


def test_every_node_uses_the_experiment_s_seed_whatever_its_own_settings_say(solved: tuple[Operator, Result]) -> None:
    operator, result = solved
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("[solve] seed = 9 is not used for r1, which was registered with the seed 5") == 1
    assert seeds(operator) == {"5"}
    shown = operator.status()
    assert shown["experiment"]["seed"] == 5
    assert [maker["seed"] for maker in shown["solutions_made_by"]] == [5]


def test_a_seed_that_is_set_is_not_dropped_without_a_word_though_it_is_the_default(copied: Operator) -> None:
    said = "[solve] seed = 0 is not used for r1"
    assert said in copied.run("--run", settings="[solve]\nseed = 0\n").stderr
    assert said not in copied.run("--run").stderr
    for command in (["--evaluate"], ["--rescan"], ["--status"]):
        assert said not in copied.run(*command, settings="[solve]\nseed = 0\n").stderr, "nothing is solved"


@pytest.mark.parametrize("known", [True, False], ids=["in the ledger", "in the files alone"])
def test_an_experiment_of_before_seeds_were_kept_has_that_of_its_solutions(copied: Operator, known: bool) -> None:
    with closing(sqlite3.connect(copied.root / "2010-re" / "dbrecon.sqlite3")) as connection, connection:
        connection.execute("UPDATE dbr_experiments SET seed = 0, program = ''")
        connection.execute("" if known else "UPDATE r1_tracts SET sol_seed = NULL, sol_program = NULL")
    assert copied.status()["experiment"]["seed"] == 5
    result = copied.run("--step4", "--force", settings="[solve]\nseed = 9\n")
    assert result.returncode == 0, result.stderr
    assert seeds(copied) == {"5"}


def test_a_copied_experiment_takes_its_solutions_seed_and_says_which_are_of_another(copied: Operator) -> None:
    (copied.root / "2010-re" / "dbrecon.sqlite3").unlink()
    entered = copied.run("--rescan", settings="[solve]\nseed = 9\n").stdout
    assert "r1, on all tables, with the seed 5" in entered
    assert "mixed" not in entered
    assert copied.status()["experiment"]["seed"] == 5
    for path in copied.base.rglob("*.sol.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"# seed = 5\n", b"# seed = 6\n")))
    mixed = copied.done("--rescan")
    assert re.search(r"mixed: .*\n   \d+ solutions?: HiGHS.*, seed 6 \(the experiment's is 5\)", mixed)


def test_the_makers_of_a_file_are_told(solved: tuple[Operator, Result]) -> None:
    operator, _ = solved
    path = next(operator.base.rglob("*.sol.gz"))
    facts = dict(re.findall(r"^(\w+): +(.*)$", operator.done("--info", str(path)), re.M))
    assert (facts["seed"], facts["product"], facts["tables"]) == ("5", "2010_sf1", "all")
    assert facts["program"] == PROGRAM


def test_without_one_the_setting_of_the_registration_is_the_experiment_s(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "root")
    assert operator.run("--register", "r1", settings="[solve]\nseed = 7\n").returncode == 0
    assert operator.status()["experiment"]["seed"] == 7


def test_a_seed_where_it_means_nothing_is_refused(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "root").register()
    result = operator.run("--status", "--seed", "4")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "--seed goes with --register" in result.stderr
