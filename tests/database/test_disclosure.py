"""What tables give away, as an operator asks: attackers drawn, people reidentified, records audited before they are published."""

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
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
    answer = json.loads(operator.done(*words, "--json", "--repeats", "2"))
    everybody = answer["methods"]["reconstruction"]["all"]
    assert answer["confirmed_by"] == "id"
    assert everybody["known"] == everybody["true_people"] == 3000
    assert everybody["putative"] <= 3000
    assert everybody["precision"]["mean"] > answer["methods"]["random people"]["all"]["precision"]["mean"]
    assert answer["methods"]["modal guess"]["nonmodal"]["precision"]["mean"] < 0.2
    shown = operator.done(*words)
    assert "Precision: confirmed / matched, %" in shown
    assert "2010 country: reconstruction" in shown


def test_records_of_counties_that_are_not_asked_for_are_counted_as_that(world: tuple[Operator, Path]) -> None:
    """Their people are written: nothing lacks there."""
    operator, folder = world
    files = ["--reidentify", str(folder / "attacker/attacker.csv"), "--truth", str(folder / "attacker/truth.csv")]
    found = operator.run(*files, "--stusab", "de", "--county", "001", "--repeats", "1")
    assert found.returncode == 0, found.stderr
    assert "records of counties not asked for, or without people written" in found.stderr


def test_an_audit_writes_one_report_and_says_its_findings(world: tuple[Operator, Path]) -> None:
    operator, folder = world
    shown = operator.done("--audit", str(folder / "truth.csv.gz"), "--what_if", "block", "swap=0.2", "--out", str(folder / "audit"))
    assert "of the people, with age in bins, are in every data set that has these tables" in shown
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
    answer = json.loads(operator.done("--reidentify", *known, "--json", "--repeats", "1"))["methods"]["modal guess"]["nonmodal"]
    rows = read_table(folder, "reidentification")
    row = next(row for row in rows if (row["method"], row["people"]) == ("modal guess", "nonmodal"))
    assert (row["matched"], row["confirmed"]) == (answer["putative"], answer["confirmed"])
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
    assert [item["solver"] for item in status["solutions"]] == [made["solutions of 2 tracts"].split(",")[0]]


def test_a_report_without_a_truth_says_what_would_tell_more(world: tuple[Operator, Path]) -> None:
    operator, folder = world
    for path in operator.base.glob("work/*/*/evaluation_*.json"):
        path.unlink()
    shown = operator.done("--report", "--out", str(folder / "county"), "de", "001")
    assert "no true records were given (--truth FILE)" in shown
    assert {path.stem for path in (folder / "county/tables").glob("*.csv")} == {"certainty", "counties", "pyramid"}


def test_an_evaluation_is_kept_until_its_people_are_others(world: tuple[Operator, Path]) -> None:
    operator, folder = world
    exact = operator.evaluated(folder / "truth.csv.gz")["agreement"]["reconstruction"]["exact_age"]["all"]
    operator.done("--evaluate")
    assert "2 counties' evaluation" in operator.done("--rescan", "--dry_run"), "without a truth what one has told stays"
    operator.done("--report", "--out", str(folder / "kept"))
    assert read_table(folder, "agreement", "kept")[-1]["reconstruction, exact age, %"] == pytest.approx(100 * exact)
    made = json.loads((folder / "kept/provenance.json").read_text(encoding="utf-8"))
    assert made["evaluation"] == f"kept by --evaluate, against {folder / 'truth.csv.gz'}"
    first, second = sorted(operator.base.glob("work/*/*/evaluation_*.json"))
    kept = json.loads(first.read_text())
    first.write_text(json.dumps(kept | {"sha256": kept["sha256"] | {"people": "0" * 64}}))
    second.write_text(second.read_text()[:50])
    wrong = operator.run("--report", "--out", str(folder / "damaged"))
    assert (wrong.returncode, f"{second}: is no whole file" in wrong.stderr) == (3, True), wrong.stderr
    rescanned = operator.done("--rescan")
    assert f"{first} is stale" in rescanned
    assert f"{second}: is no whole file" in rescanned
    assert [first.exists(), second.exists()] == [True, False], "what is damaged goes, what is stale is told of other people"
    left_out = operator.run("--report", "--out", str(folder / "stale"))
    assert f"{first} is stale" in left_out.stderr
    assert not (folder / "stale/tables/agreement.csv").exists()
    operator.evaluated(folder / "truth.csv.gz")
    assert "2 counties' evaluation" in operator.done("--rescan", "--dry_run")


def test_people_that_were_changed_since_are_not_studied(world: tuple[Operator, Path]) -> None:
    operator, folder = world
    path = next(operator.base.glob("work/*/*/synth_out_10001.csv"))
    people = path.read_bytes()
    head, first, second, *rest = people.splitlines(keepends=True)
    known = ["--reidentify", str(folder / "attacker/attacker.csv"), "--truth", str(folder / "attacker/truth.csv")]
    try:
        path.write_bytes(b"".join([head, second, first, *rest]))
        for words in (known, ["--export", "csv", "--out", str(folder / "changed")]):
            refused = operator.run(*words)
            assert (refused.returncode, "it was changed since" in refused.stderr) == (3, True), refused.stderr
    finally:
        path.write_bytes(people)


def test_people_are_exported_for_pandas_polars_and_duckdb(world: tuple[Operator, Path]) -> None:
    operator, folder = world
    out = folder / "export"
    for words in (["parquet"], ["csv"], ["duckdb"], ["parquet", "--partitioned"]):
        operator.done("--export", *words, "--out", str(out))
    lines = [line.decode() for content in operator.people().values() for line in content.splitlines()[1:]]
    flags = [
        line.decode() for content in operator.files("work/*/*/people_certainty_*.csv").values() for line in content.split()[1:]
    ]
    wide = [f"{line},{flag}," for line, flag in zip(lines, flags, strict=True)]
    assert (out / "people_de.csv").read_text().splitlines()[1:] == wide
    header = (out / "people_de.csv").read_text().splitlines()[0]
    assert header == "geoid_tract,geoid_block,sex,age,white,black,aian,asian,nhopi,sor,hisp,certain,confidence"
    by_pandas = pd.read_parquet(out / "people_de.parquet")
    assert ",".join(by_pandas.columns) == header
    assert by_pandas["geoid_block"].dtype == "category"
    assert by_pandas.drop(columns="confidence").astype(str).agg(",".join, axis=1).tolist() == [line[:-1] for line in wide]
    by_polars = pl.read_parquet(out / "people_de.parquet")
    assert by_polars["geoid_block"].cast(pl.String).to_list() == by_pandas["geoid_block"].tolist()
    with duckdb.connect(out / "r1.duckdb", read_only=True) as connection:
        assert connection.sql("SELECT geoid_block, age, certain FROM people").fetchall() == [
            (row["geoid_block"], row["age"], row["certain"]) for row in by_pandas.to_dict("records")
        ]
        assert ("reident", '"r1"') in connection.sql("SELECT * FROM made_of").fetchall()
        parts = connection.sql(f"SELECT count(*) FROM read_parquet('{out}/people/*/*/*.parquet')").fetchall()
    assert parts == [(3000,)]
    assert json.loads(pq.read_schema(out / "people_de.parquet").metadata[b"dbrecon"])["reident"] == "r1"
    evaluated = operator.evaluated(out / "people_de.parquet")["agreement"]["reconstruction"]
    assert evaluated["exact_age"]["all"] == 1.0
    _check_places(operator, out)
    again = operator.run("--export", "csv", "--out", str(out))
    assert (again.returncode, "people_de.csv is there already" in again.stderr) == (2, True)


def _check_places(operator: Operator, out: Path) -> None:
    """Beside the people lie the names of counties, tracts and blocks, by the GEOIDs that people have."""
    (geofile,) = operator.files("work/de/geofile_de.csv").values()
    published = [row for row in csv.DictReader(geofile.decode().splitlines()) if row["SUMLEV"] != "040"]
    wanted = {row["STATE"] + row["COUNTY"] + row["TRACT"] + row["BLOCK"]: (row["NAME"], int(row["POP100"])) for row in published}
    places = pd.read_csv(out / "places_de.csv", dtype={"geoid": str})
    assert {row.geoid: (row.name_, row.people) for row in places.rename(columns={"name": "name_"}).itertuples()} == wanted
    assert set(places["level"]) == {"county", "tract", "block"}
    assert (places["latitude"].notna() == (places["level"] == "tract")).all()  # the points that this zip has
    by_parquet = pd.read_parquet(out / "places_de.parquet")
    assert by_parquet["geoid"].tolist() == places["geoid"].tolist()
    with duckdb.connect(out / "r1.duckdb", read_only=True) as connection:
        joined = connection.sql("SELECT DISTINCT name FROM people JOIN places ON geoid = geoid_tract").fetchall()
        assert {name for (name,) in joined} <= set(places["name"])
        assert joined
        parts = connection.sql(f"SELECT count(*) FROM read_parquet('{out}/places/*/*/*.parquet')").fetchall()
    assert parts == [(len(places),)]


def test_an_attacker_s_files_may_lie_in_a_folder_as_csv_and_parquet(world: tuple[Operator, Path]) -> None:
    operator, folder = world
    known = pd.read_csv(folder / "attacker/attacker.csv", dtype=str)
    parts = folder / "parts"
    parts.mkdir()
    known.iloc[:1000].to_parquet(parts / "first.parquet")
    known.iloc[1000:].to_csv(parts / "second.csv.gz", index=False)
    pd.read_csv(folder / "attacker/truth.csv", dtype=str).to_parquet(folder / "truth.parquet")
    answer = [
        json.loads(operator.done("--reidentify", str(attacker), "--truth", str(truth), "--json", "--repeats", "1"))["methods"]
        for attacker, truth in (
            (parts, folder / "truth.parquet"),
            (folder / "attacker/attacker.csv", folder / "attacker/truth.csv"),
        )
    ]
    assert answer[0] == answer[1]
    numbers = folder / "numbers.parquet"
    pd.read_csv(folder / "attacker/truth.csv").assign(geoid_block=lambda t: t["geoid_block"] - 10 * 10**13 + 10**13).to_parquet(
        numbers
    )
    wrong = operator.run("--evaluate", str(numbers))
    assert (wrong.returncode, "has lost its leading zero: read it as text" in wrong.stderr) == (3, True), wrong.stderr


def read_table(folder: Path, name: str, report: str = "report") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / report / "tables" / f"{name}.parquet").to_pylist()
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
        (["--report", "de", "001", "000100"], 2, "--report takes whole counties"),
        (["--report", "--what_if", "r9"], 5, "r9"),
        (["--report", "--reidentify", "NOBODY", "--truth", "FILE", "--out", "x"], 3, "has nobody in the reconstructed counties"),
    ],
)
def test_what_cannot_be_is_one_sentence(world: tuple[Operator, Path], words: list[str], code: int, said: str) -> None:
    operator, folder = world
    nobody = folder / "nobody.csv"
    nobody.write_text("id,geoid_block,sex,age\n")
    files = {"FILE": str(folder / "truth.csv.gz"), "NOBODY": str(nobody)}
    result = operator.run(*(files.get(word, word) for word in words))
    assert (result.returncode, result.stderr.count("\n")) == (code, 1), result.stderr
    assert said in result.stderr
