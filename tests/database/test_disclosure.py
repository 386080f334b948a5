"""What tables give away, as an operator asks: attackers drawn, people reidentified, records audited before they are published."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dbrecon.recon.census.geography import FixedHeader
from dbrecon.recon.product.release import load_release
from tests.database.test_step_commands import Operator
from tests.paths import CHECKOUT


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Operator, Path]:
    """A synthetic state that is reconstructed, and its true people."""
    folder = tmp_path_factory.mktemp("disclosure")
    operator, truth = Operator(folder / "root").register(), folder / "truth.csv.gz"
    made = ["bench/make_state.py", "-q", "--stusab", "de", "--people", "3000", "--counties", "2", "--seed", "4"]
    paths = ["--out", str(operator.base / "dist"), "--truth", str(truth)]
    subprocess.run([sys.executable, *made, *paths], cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    place_tracts(operator.base / "dist" / "de2010.sf1.zip")
    operator.done("--step1", "--step2", "--stusab", "all")
    operator.done("--run", "--step6")
    operator.done("--make_attacker", str(truth), "--coverage", "1", "--error_rate", "0", "--out", str(folder / "attacker"))
    return operator, folder


def place_tracts(path: Path) -> None:
    """Give the tracts of a state's zip the internal points that published headers have."""
    fields = load_release().header
    assert isinstance(fields, FixedHeader)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if "geo" in name)
    lines = members[name].splitlines(keepends=True)
    for i, line in enumerate(lines):
        if line[fields.fields["SUMLEV"]] == b"140":
            start, end = fields.fields["INTPTLAT"].start, fields.fields["INTPTLON"].stop
            lines[i] = line[:start] + f"+{39 + i / 1e5:.7f}-{75 + i / 1e5:011.7f}".encode() + line[end:]
    members[name] = b"".join(lines)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


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


def test_a_report_has_the_figures_of_the_commands_and_what_they_were_made_of(world: tuple[Operator, Path]) -> None:
    operator, folder = world
    known = [str(folder / "attacker/attacker.csv"), "--truth", str(folder / "attacker/truth.csv")]
    shown = operator.done("--report", "--reidentify", *known, "--what_if", "r1", "--out", str(folder / "report"))
    assert "of the true records are among them with age in bins" in shown
    evaluated = operator.evaluated(folder / "truth.csv.gz")["agreement"]["reconstruction"]
    assert read_table(folder, "agreement")[-1]["reconstruction, exact age, %"] == pytest.approx(100 * evaluated["exact_age"]["all"])
    told = json.loads(operator.done("--reidentify", *known, "--json", "--repeats", "1"))["methods"]["modal guess"]["nonmodal"]
    rows = read_table(folder, "reidentification")
    row = next(row for row in rows if (row["method"], row["people"]) == ("modal guess", "nonmodal"))
    assert (row["matched"], row["confirmed"]) == (told["putative"], told["confirmed"])
    certain = json.loads(operator.done("--certainty", "--json"))["sizes"][-1]
    assert read_table(folder, "certainty")[-1]["people certain, %"] == pytest.approx(certain["certain_pct"], abs=1e-4)
    ways = read_table(folder, "what_if")
    assert [way["agreement, bins, %"] for way in ways] == [100 * evaluated["binned_age"]["all"]] * 2
    figures = {path.stem for path in (folder / "report/figures").glob("*.svg")}
    assert {"map_tracts_certain", "map_counties_differ", "pyramid", "what_if", "precision"} <= figures
    made = json.loads((folder / "report/provenance.json").read_text(encoding="utf-8"))
    status = operator.status()["provenance"]
    assert status["states"]["de"]["zip"] in made["de2010.sf1.zip"]
    assert status["tables_toml_sha256"] in made["product"]
    assert [one["solver"] for one in status["solutions"]] == [made["solutions of 2 tracts"].split(",")[0]]


def test_a_report_without_a_truth_says_what_would_tell_more(world: tuple[Operator, Path]) -> None:
    operator, folder = world
    shown = operator.done("--report", "--out", str(folder / "county"), "de", "001")
    assert "--truth FILE compares them" in shown
    assert {path.stem for path in (folder / "county/tables").glob("*.csv")} == {"certainty", "counties", "pyramid"}


def read_table(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "report/tables" / f"{name}.parquet").to_pylist()
    return found


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--audit", "FILE", "--what_if", "swap=2"], 2, "'swap=2' is no way to publish"),
        (["--reidentify", "FILE"], 2, "give --truth FILE"),
        (["--make_attacker", "FILE"], 2, "say where with --out FOLDER"),
        (["--make_attacker", "FILE", "--coverage", "60", "--out", "x"], 2, "'60' is not a share"),
        (["--audit", "nothing.csv", "--out", "x"], 3, "nothing.csv: there is no such file"),
        (["--status", "--what_if", "block"], 2, "--what_if goes with --audit or --report"),
        (["--report", "--reidentify", "FILE"], 2, "give --truth FILE"),
        (["--report", "de", "001", "000100"], 2, "--report is of whole counties"),
        (["--report", "--what_if", "r9"], 5, "r9"),
    ],
)
def test_what_cannot_be_is_one_sentence(world: tuple[Operator, Path], words: list[str], code: int, said: str) -> None:
    operator, folder = world
    result = operator.run(*(str(folder / "truth.csv.gz") if word == "FILE" else word for word in words))
    assert (result.returncode, result.stderr.count("\n")) == (code, 1), result.stderr
    assert said in result.stderr
