"""What tables give away, as an operator asks: attackers drawn, people reidentified, records audited before they are published."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.database.test_step_commands import Operator
from tests.paths import CHECKOUT


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Operator, Path]:
    """A synthetic state that is reconstructed, and its true people."""
    folder = tmp_path_factory.mktemp("disclosure")
    operator, truth = Operator(folder / "root").register(), folder / "truth.csv.gz"
    made = ["bench/make_state.py", "-q", "--stusab", "de", "--people", "3000", "--counties", "1", "--seed", "4"]
    paths = ["--out", str(operator.base / "dist"), "--truth", str(truth)]
    subprocess.run([sys.executable, *made, *paths], cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    operator.done("--step1", "--step2", "--stusab", "all")
    operator.done("--run")
    operator.done("--make_attacker", str(truth), "--coverage", "1", "--error_rate", "0", "--out", str(folder / "attacker"))
    return operator, folder


def test_an_attacker_s_file_has_everybody_asked_for_and_the_truth_has_the_ids(world: tuple[Operator, Path]) -> None:
    operator, folder = world
    attacker = (folder / "attacker/attacker.csv").read_text().splitlines()
    truth = (folder / "attacker/truth.csv").read_text().splitlines()
    assert attacker[0] == "id,geoid_block,sex,age"
    assert len(attacker) == len(truth) == 3001
    assert truth[0].startswith("id,geoid_tract,geoid_block,sex,age,white")
    again = operator.run("--make_attacker", str(folder / "truth.csv.gz"), "--out", str(folder / "attacker"))
    assert (again.returncode, "has results of an earlier run" in again.stderr) == (2, True)


def test_an_attacker_is_told_how_often_the_reconstruction_is_right_beside_guesses(world: tuple[Operator, Path]) -> None:
    operator, folder = world
    words = ["--reidentify", str(folder / "attacker/attacker.csv"), "--truth", str(folder / "attacker/truth.csv")]
    told = json.loads(operator.done(*words, "--json", "--repeats", "2"))
    everybody = told["methods"]["reconstruction"]["all"]
    assert told["confirmed_by"] == "id"
    assert everybody["known"] == everybody["true_people"] == 3000
    assert everybody["putative"] <= 3000
    assert everybody["precision"]["mean"] > told["methods"]["random people"]["all"]["precision"]["mean"]
    assert told["methods"]["modal guess"]["nonmodal"]["precision"]["mean"] < 0.2
    shown = operator.done(*words)
    assert "Precision: confirmed / matched, %" in shown
    assert "2010 country: reconstruction" in shown


def test_an_audit_writes_one_report_and_says_its_findings(world: tuple[Operator, Path]) -> None:
    operator, folder = world
    shown = operator.done("--audit", str(folder / "truth.csv.gz"), "--what_if", "block", "swap=0.2", "--out", str(folder / "audit"))
    assert "of the people are in every data set that has these tables" in shown
    page = (folder / "audit/report.html").read_text(encoding="utf-8")
    assert "block tables" in page
    assert "all tables, 0.2 of people swapped" in page
    assert {path.suffix for path in (folder / "audit/tables").iterdir()} == {".csv", ".parquet"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--audit", "FILE", "--what_if", "swap=2"], 2, "'swap=2' is no way to publish"),
        (["--reidentify", "FILE"], 2, "give --truth FILE"),
        (["--make_attacker", "FILE"], 2, "say where with --out FOLDER"),
        (["--make_attacker", "FILE", "--coverage", "60", "--out", "x"], 2, "'60' is not a share"),
        (["--audit", "nothing.csv", "--out", "x"], 3, "nothing.csv: there is no such file"),
        (["--status", "--what_if", "block"], 2, "--what_if goes with --audit"),
    ],
)
def test_what_cannot_be_is_one_sentence(world: tuple[Operator, Path], words: list[str], code: int, said: str) -> None:
    operator, folder = world
    result = operator.run(*(str(folder / "truth.csv.gz") if word == "FILE" else word for word in words))
    assert (result.returncode, result.stderr.count("\n")) == (code, 1), result.stderr
    assert said in result.stderr
