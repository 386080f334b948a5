"""What an operator sees of certainty: step 6 by command, its table, stale files, claims and certificates."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from dbrecon.console.commands import open_ledger
from dbrecon.ledger.ledger import Ledger
from dbrecon.settings import Config
from tests.console_world import SECONDS, Operator, assert_refused
from tests.dashboard_world import API, Browser
from tests.paths import CHECKOUT
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def reconstructed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with r1, a state of two counties whose people are written."""
    root = tmp_path_factory.mktemp("certain") / "root"
    dist = root / "2010-re" / "r1" / "dist"
    options = ["-q", "--stusab", "de", "--people", "6000", "--counties", "2", "--seed", "8", "--out", str(dist)]
    subprocess.run([sys.executable, "bench/make_state.py", *options], cwd=CHECKOUT, check=True, capture_output=True, timeout=120)
    operator = Operator(root.parent / "home", env={"DAS_S3ROOT": str(root), "REIDENT": "r1"})
    operator.done("--register", "r1")
    operator.done("--step1", "--step2", "--stusab", "de")
    operator.done("--run")
    return root


@pytest.fixture
def operator(reconstructed: Path, tmp_path: Path) -> Operator:
    shutil.copytree(reconstructed, tmp_path / "root")
    return Operator(tmp_path / "home", env={"DAS_S3ROOT": str(tmp_path / "root"), "REIDENT": "r1"})


def county_folder(operator: Operator, county: str = "10001") -> Path:
    return Path(operator.env["DAS_S3ROOT"]) / "2010-re" / "r1" / "work" / "de" / county


def test_step_6_its_table_and_what_is_stale(operator: Operator) -> None:
    assert_refused(operator.here("--certainty"), 3, "do step 6 (--step6)")
    assert "the certainty of 2 tracts and 2 counties computed" in operator.done("--step6")
    folder = county_folder(operator)
    files = [folder / name for name in ("certainty_10001.csv", "certainty_10001.json", "people_certainty_10001.csv")]
    before = [file.read_bytes() for file in files]

    table = operator.done("--certainty")
    assert "blocks at 0 %" in table
    assert "published: Abowd et al." in table
    figures = json.loads(operator.done("--certainty", "--json"))
    everyone = figures["sizes"][-1]
    assert everyone["people"] == 6000
    assert everyone["blocks"] == sum(row["blocks"] for row in figures["sizes"][:-1])
    with files[0].open() as file, (county_folder(operator, "10003") / "certainty_10003.csv").open() as other:
        blocks = [*csv.DictReader(file), *csv.DictReader(other)]
    differ = sum(int(block["differ_upper"]) for block in blocks)
    assert everyone["cumulative_upper"] == pytest.approx(100 * differ / 6000, abs=1e-4)

    dashboard = Browser(Config.load(env=operator.env | {"DBRECON_CONFIG": str(operator.home / "config.ini")}))
    answer = dashboard.json(f"{API}/r1/certainty")
    assert {county["geoid"] for county in answer["counties"]} == {"10001", "10003"}
    assert sum(county["differ_upper"] for county in answer["counties"]) == differ
    results = dashboard.json(f"{API}/r1/states/de/counties/001/results")
    assert sum(results["pyramid"]["male"] + results["pyramid"]["female"]) == results["certainty"]["people"]
    assert sum(tract["certain"] for tract in results["tracts"]) == results["certainty"]["certain"]
    [tract] = [row["tract"] for row in results["tracts"]]
    of_tract = dashboard.json(f"{API}/r1/states/de/counties/001/tracts/{tract}/results")
    assert (of_tract["pyramid"], of_tract["certainty"]) == (results["pyramid"], results["certainty"]), "it has one tract"

    assert "nothing was left to do" in operator.done("--step6", "--stusab", "de")
    assert "the ledger and the files agree" in (rescanned := operator.done("--rescan"))
    assert "2 counties' certainty" in rescanned
    assert "belongs to no tract" not in rescanned, "these files are the experiment's"
    (folder / "certainty_10001.csv").unlink()
    assert "the certainty of 1 tract and 1 county computed" in operator.done("--step6")
    assert [file.read_bytes() for file in files] == before

    path = folder / "sf1_tract_10001.csv"
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    left = operator.here("--certainty")
    assert "stale, and left out: de 001" in left.stderr
    assert "--rescan and then --step6 make it again" in left.stderr, (
        "the ledger knows of no change, so --step6 alone would do nothing"
    )
    assert "1 county" in left.stdout


def test_samples_give_confidences_that_a_truth_weighs(operator: Operator, tmp_path: Path) -> None:
    place = ("--stusab", "de", "--county", "001")
    said = operator.done("--step6", "--samples", "4", "--seed", "2", *place)
    assert "4 samples, seed 2: two of them differ by" in said
    folder = county_folder(operator)
    with (folder / "people_certainty_10001.csv").open() as file:
        confident = list(csv.DictReader(file))
    assert {row["confidence"] for row in confident} <= {"0.0000", "0.2500", "0.5000", "0.7500", "1.0000"}
    found = json.loads(operator.here("--certainty", "--json", "--truth", str(folder / "synth_out_10001.csv")).stdout)
    assert sum(row["people"] for row in found["calibration"]) == len(confident)
    assert {row["true_share"] for row in found["calibration"]} <= {1.0, None}, "they are compared with themselves"
    assert found["samples"]["counties"] == 1
    assert "truth has" in operator.here("--certainty", "--truth", str(folder / "synth_out_10001.csv")).stdout

    assert_refused(operator.here("--certainty", "--truth", str(tmp_path / "none.csv"), *place), 3, "none.csv")
    assert_refused(operator.here("--samples", "4", "--status"), 2, "--samples goes with --step6")
    assert_refused(operator.here("--keep_samples", "--step6"), 2, "--keep_samples goes with --samples N")
    assert_refused(operator.here("--samples", "0", "--step6"), 2, "--samples")


def test_rescan_names_what_is_wrong_with_files_of_certainty_and_step_6_puts_it_back(operator: Operator) -> None:
    place = ("--stusab", "de", "--county", "001")
    operator.done("--step6", *place, "--cells")
    folder = county_folder(operator)
    assert "certainty_counties: 1 of 1" in operator.done("--status", *place), "what was done by hand is done"
    assert "the ledger and the files agree" in operator.here("--rescan").stdout
    files = [*folder.glob("*certainty*.*"), *folder.glob("certainty/*")]
    before = {path: path.read_bytes() for path in files}
    names = ("certainty_10001.csv", "people_certainty_10001.csv", "certainty_cells_10001.csv", "certainty_10001.json")
    table, people, cells, sidecar = (folder / name for name in names)
    table.write_bytes(table.read_bytes().replace(b",lp", b",xp"))  # as long as it was
    people.unlink()
    cells.write_bytes(cells.read_bytes()[:-9])
    (record,) = folder.glob("certainty/tract_*")
    record.write_bytes(record.read_bytes()[:-9])

    tried = operator.here("--rescan", "--dry_run")
    assert tried.returncode == 3
    assert f"{cells} is not what step 6 wrote" in tried.stdout
    said = operator.here("--rescan").stdout
    assert "de 001 certainty: certain -> new: " in said
    for sentence in (
        f"{table} is not what step 6 wrote: it was changed; make it again (--step6 --force",
        f"{people} does not exist",
    ):
        assert sentence in said
    assert str(record) in said
    operator.done("--step6", *place)
    operator.done("--step6", *place, "--cells")
    assert {path: path.read_bytes() for path in files} == before
    assert "the ledger and the files agree" in operator.here("--rescan").stdout

    sidecar.unlink()
    assert f"{sidecar} does not exist, though" in operator.here("--rescan").stdout
    sidecar.write_bytes(before[sidecar].replace(b'"people": "', b'"people": "0'))
    assert f"{sidecar} is stale: {folder / 'synth_out_10001.csv'} has changed since" in operator.here("--rescan").stdout
    sidecar.write_bytes(before[sidecar])
    assert "de 001 certainty: new -> certain: its files are there" in operator.here("--rescan").stdout
    assert "certainty_counties: 1 of 1" in operator.done("--status", *place)
    for path in files:
        path.unlink()
    assert "de 001 certainty: certain -> new: its files are not there" in operator.here("--rescan").stdout


def test_the_table_is_written_where_it_is_asked_for(operator: Operator, tmp_path: Path) -> None:
    place = ("--stusab", "de", "--county", "001")
    operator.done("--step6", *place, "--cells")
    cells = county_folder(operator) / "certainty_cells_10001.csv"
    n_cells = cells.read_text().count("\n") - 1
    assert "the certainty of" not in operator.done("--step6", *place, "--cells=csv"), "it is there"
    operator.done("--step6", *place, "--cells", "parquet")
    assert not cells.exists()
    assert pq.read_metadata(cells.with_suffix(".parquet")).num_rows == n_cells
    assert "the ledger and the files agree" in operator.here("--rescan").stdout
    assert_refused(operator.here("--step6", "--cells=xls"), 2, "--cells: 'xls' is not one of 'csv', 'parquet'")
    operator.here("--certainty", str(tmp_path / "t.csv"), "--stusab", "de", "--county", "1")
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["size"] for row in rows] == ["1-9", "10-49", "50-99", "100-249", "250-499", "500-999", "1000+", "all"]
    operator.here("--certainty", str(tmp_path / "t.json"))
    assert json.loads((tmp_path / "t.json").read_text())["counties"] == 1
    assert_refused(operator.here("--certainty", "t.txt"), 2, "name a .csv or .json")


def test_claims_in_words_and_their_certificates(operator: Operator, tmp_path: Path) -> None:
    with (county_folder(operator) / "synth_out_10001.csv").open() as file:
        somebody = next(csv.DictReader(file))
    block, certificate = somebody["geoid_block"], tmp_path / "certificate.json"
    answered = operator.here("--claim", f"block {block}: somebody", "--certificate", str(certificate))
    assert "exactly" in answered.stdout
    assert "true in every data set with these tables" in answered.stdout
    assert "holds" in operator.here("--check_claim", str(certificate)).stdout

    empty = operator.here("--claim", "block 100019900000001: a man", "--certificate", str(tmp_path / "empty.json"))
    assert "exactly 0 such people" in empty.stdout, "a block without people, which the county files do not list"
    assert "false in every data set" in operator.here("--check_claim", str(tmp_path / "empty.json")).stdout
    assert_refused(operator.here("--claim", "block 100019900009998: a man"), 2, "tract 10001990000 has no block 9998")

    forged = json.loads(certificate.read_text())
    certificate.write_text(json.dumps(forged | {"claim": forged["claim"].replace("somebody", "at least 9999 people")}))
    assert "false in every data set" in operator.here("--check_claim", str(certificate)).stdout, "the claim is not what is proved"
    forged["least"]["proved"] += 1
    certificate.write_text(json.dumps(forged))
    assert_refused(operator.here("--check_claim", str(certificate)), 7, "certificate.json: its parts prove")
    forged["tables_digest"] = "0" * 64
    certificate.write_text(json.dumps(forged))
    assert_refused(operator.here("--check_claim", str(certificate)), 7, "is of other tables")
    certificate.write_text("{}")
    assert_refused(operator.here("--check_claim", str(certificate)), 3, "is no certificate")
    assert_refused(operator.here("--check_claim", str(tmp_path / "none.json")), 3, "there is no such file")

    claims = tmp_path / "claims.txt"
    of_ages = "".join(f"block {block}: a man of {age}, Hispanic\nblock {block}: a woman of {age}\n" for age in (33, 47, 52))
    claims.write_text(f"# some claims\nblock {block}: at least 5000 people\n\nblock {block}: a child\n{of_ages}")
    found = operator.here("--claims", str(claims))
    assert found.returncode == 2
    lines = list(csv.DictReader(found.stdout.splitlines()))
    verdicts = [line["verdict"] for line in lines]
    assert verdicts[:2] == ["false in every data set with these tables", "not understood"]
    assert "true in some data sets with these tables, false in others" in verdicts
    assert [line["claim"] for line in lines] == [line for line in claims.read_text().splitlines()[1:] if line]
    assert "'child' is not a word for whom" in found.stderr
    claims.write_text(f"block {block}: at least 5000 people\n", encoding="utf-16")
    assert_refused(operator.here("--claims", str(claims)), 3, "claims.txt: is not UTF-8 text")


def test_places_and_options_that_do_not_fit_are_refused(operator: Operator) -> None:
    assert_refused(operator.here("--claim", "block 100019999991000: somebody"), 2, "has no tract 999999")
    assert_refused(operator.here("--claim", "block 990019999991000: somebody"), 2, "no state has the code 99")
    assert_refused(operator.here("--certificate", "c.json", "--certainty"), 2, "--certificate goes with --claim")
    assert_refused(operator.here("--cells", "--certainty"), 2, "--cells goes with --step6")
    assert_refused(
        operator.here("--step6", "--cells", "--stusab", "de", "--county", "1", "--tract", "000102"), 2, "leave --tract out"
    )


def files_of_step_6(operator: Operator) -> dict[Path, bytes]:
    """All files of certainty, by their paths below the experiment's. What a killed process was writing stays, under a temporary
    name, until --clear_uploads: it is none of them."""
    work = county_folder(operator).parent
    paths = {path.relative_to(work): path for path in work.rglob("*") if path.is_file() and not path.name.startswith(".")}
    return {name: path.read_bytes() for name, path in paths.items() if "certain" in str(name)}


def workers_of(scheduler: int) -> list[psutil.Process]:
    """What a scheduler's pool has started to work."""
    try:
        return [process for process in psutil.Process(scheduler).children(recursive=True) if process.ppid() != scheduler]
    except psutil.NoSuchProcess:
        return []


def test_schedulers_that_are_killed_and_gone_on_with_make_the_same_bytes_as_by_hand(operator: Operator) -> None:
    running = operator.start("--step6")
    try:
        wait_for(lambda: any(county_folder(operator).parent.rglob("tract_*.json.gz")), "a tract's record")
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    operator.done("--step6")
    made = files_of_step_6(operator)
    assert len(made) == 2 * 4, "of each county three files, and the record of its tract"
    operator.done("--step6", "--force")
    assert files_of_step_6(operator) == made, "by hand, and nothing disturbs it"


def deaths_in_tracts(ledger: Ledger) -> list[str]:
    """What the ledger has of workers that died while they were in a tract; of one that had not begun it has nothing."""
    return [error.report.message for error in ledger.errors("r1") if error.report.tract.isdigit()]


def strike(running: "subprocess.Popen[str]", ledger: Ledger) -> bool:
    """Kill a worker if tracts are in work; whether one has died in a tract, or all is done."""
    workers = workers_of(running.pid) if ledger.status("r1").certainty.in_process else []
    if workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            workers[0].kill()
        wait_for(partial(noticed, running, workers, ledger), "what the scheduler makes of a death")
    return running.poll() is not None or bool(deaths_in_tracts(ledger))


def noticed(running: "subprocess.Popen[str]", before: list[psutil.Process], ledger: Ledger) -> bool:
    """Whether a scheduler has ended, has told of a death in a tract, or has another worker."""
    return running.poll() is not None or bool(deaths_in_tracts(ledger)) or bool({*workers_of(running.pid)} - {*before})


def step_6_with_a_worker_killed_in_a_tract(operator: Operator, ledger: Ledger) -> str:
    """Do step 6 while workers are killed, once more if that was done before one was in a tract; what the ledger says of it."""
    while True:
        running = operator.start("--step6")
        try:
            wait_for(partial(strike, running, ledger), "a worker's death in a tract, or the end")
        finally:
            said, _ = running.communicate(timeout=SECONDS)
        assert running.returncode == 0, said
        if deaths := deaths_in_tracts(ledger):
            return deaths[0]
        ledger.reset_certainty("r1")
        for path in county_folder(operator).parent.rglob("tract_*.json.gz"):
            path.unlink()


@pytest.mark.parametrize("database", ["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def test_a_worker_that_is_killed_in_a_tract_leaves_the_same_bytes(
    operator: Operator, database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    env = {"DAS_S3ROOT": str(tmp_path / "copy"), "REIDENT": "r1"}
    env |= request.getfixturevalue("mariadb_env") if database == "mariadb" else {}
    disturbed = Operator(tmp_path / "other", "[run]\nretry_seconds = 0\n", env)
    shutil.copytree(operator.env["DAS_S3ROOT"], disturbed.env["DAS_S3ROOT"])
    disturbed.done("--rescan")
    ledger = open_ledger(Config.load(env=disturbed.environment()), make=False)
    assert "its worker process was ended by SIGKILL" in step_6_with_a_worker_killed_in_a_tract(disturbed, ledger)
    ledger.engine.dispose()
    operator.done("--step6")
    assert files_of_step_6(disturbed) == files_of_step_6(operator)
