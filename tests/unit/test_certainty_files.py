"""Step 6's files: what a county's certainty looks like, and that it is never of other people or tables than it says."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbrecon.ctools.storage import read_bytes, sopen
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import CountyDigests
from dbrecon.recon.certainty.county import BLOCK_HEADER, CELL_HEADER, per_cent
from dbrecon.recon.certainty.record import TractRecord
from dbrecon.recon.certainty.sample_record import SampleOrder
from dbrecon.recon.certainty.search import Proof
from dbrecon.recon.people.people import People
from dbrecon.recon.people.people_reader import iter_people
from dbrecon.recon.people.rows import parse_rows
from dbrecon.settings import Config
from dbrecon.steps.certainty_check import is_current, stale_because
from dbrecon.steps.certainty_records import builder_for, lines_of, make_record
from dbrecon.steps.county_certainty import close_county
from dbrecon.steps.lp_files import read_county
from dbrecon.steps.samples import make_samples_of
from tests.certainty_world import write_county
from tests.helpers import random_people

TRACTS = {"000100": random_people(1, 6, 160), "000200": random_people(2, 3, 90, 30), "000300": random_people(3, 1, 1)}


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    experiment = Experiment("r1", str(tmp_path), "all", Config())
    write_county(experiment, "de", "001", TRACTS)
    return experiment


def step6(experiment: Experiment, cells: str | None = None) -> list[bool]:
    """Do step 6 of the county; which tracts had to be computed."""
    county = read_county(experiment, builder_for(experiment).product, "de", "001", CountyDigests(None, "", ""))
    made = [make_record(experiment, county, "de", tract, bool(cells)) for tract in TRACTS]
    close_county(experiment, "de", "001", sorted(TRACTS), cells)
    return [new for _, new in made]


def rows_of(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(read_bytes(path).decode())))


def test_each_block_has_its_line_and_each_person_hers(experiment: Experiment) -> None:
    step6(experiment)
    text = read_bytes(experiment.certainty("de", "001")).decode()
    assert text.startswith(BLOCK_HEADER + "\n")
    blocks = rows_of(experiment.certainty("de", "001"))
    people = rows_of(experiment.synth_out("de", "001"))
    flags = [row["certain"] for row in rows_of(experiment.people_certainty("de", "001"))]
    assert len(flags) == len(people)
    assert [row["geoid_block"] for row in blocks] == sorted({row["geoid_block"] for row in people})
    for row in blocks:
        existing = [flag for flag, person in zip(flags, people, strict=True) if person["geoid_block"] == row["geoid_block"]]
        assert len(existing) == int(row["people"])
        assert existing.count("Y") == int(row["certain"])
        assert row["proof"] in {proof.name.lower() for proof in Proof}
        assert int(row["differ_lower"]) == int(row["differ_upper"]) <= int(row["blockwise_upper"])
        assert float(row["variability_upper"]) == pytest.approx(100 * int(row["differ_upper"]) / int(row["people"]), abs=6e-5)
        assert int(row["any_two_upper"]) <= int(row["people"]) - int(row["certain"])
    assert 0 < sum(flag == "Y" for flag in flags) < len(flags), "a county of both kinds"


def test_the_sidecar_counts_what_the_file_says(experiment: Experiment) -> None:
    step6(experiment)
    sidecar = json.loads(read_bytes(experiment.certainty_sidecar("de", "001")))
    blocks = rows_of(experiment.certainty("de", "001"))
    for name in ("people", "differ_upper", "blockwise_upper", "certain", "any_two_upper"):
        assert sidecar[name] == sum(int(row[name]) for row in blocks)
    assert sum(sidecar["blocks_by_proof"].values()) == sidecar["blocks"] == len(blocks)
    assert sidecar["blocks_without_variability"] == sum(row["differ_upper"] == "0" for row in blocks)


def test_cells_on_request_lie_around_the_people(experiment: Experiment) -> None:
    step6(experiment, cells="csv")
    assert read_bytes(experiment.certainty_cells("de", "001")).decode().startswith(CELL_HEADER + "\n")
    cells = rows_of(experiment.certainty_cells("de", "001"))
    assert sum(int(row["count"]) for row in cells) == sum(map(len, TRACTS.values()))
    for row in cells:
        least, seen_least, count, seen_most, most = (int(row[name]) for name in ("min", "seen_min", "count", "seen_max", "max"))
        assert least <= seen_least <= count <= seen_most <= most
    assert {row["age_last"] for row in cells if row["age_first"] == "85"} <= {""}


def as_text(value: object) -> str:
    """A value of Parquet as CSV has it."""
    return "" if value is None else "NY"[value] if isinstance(value, bool) else str(value)


def test_cells_are_the_same_as_parquet_and_in_one_kind_at_a_time(experiment: Experiment) -> None:
    step6(experiment, cells="csv")
    csv_path, parquet_path = (Path(experiment.certainty_cells("de", "001", kind)) for kind in ("csv", "parquet"))
    rows = rows_of(str(csv_path))
    assert step6(experiment, cells="parquet") == [False] * 3, "no tract is computed again for it"
    assert not csv_path.exists()
    table = pq.read_table(parquet_path).to_pylist()
    assert [{name: as_text(value) for name, value in row.items()} for row in table] == rows
    assert is_current(experiment, "de", "001", "parquet")
    assert not is_current(experiment, "de", "001", "csv")
    assert step6(experiment) == [False] * 3
    assert parquet_path.exists(), "who does not say which kind gets the one that was there"
    step6(experiment, cells="csv")
    assert rows_of(str(csv_path)) == rows
    assert not parquet_path.exists()


def test_a_file_that_was_edited_is_stale_though_its_size_is_the_same(experiment: Experiment) -> None:
    step6(experiment)
    for path in (Path(experiment.certainty("de", "001")), Path(experiment.people_certainty("de", "001"))):
        right = path.read_bytes()
        path.write_bytes(right[:-2] + (b"x" if right[-2:-1] != b"x" else b"y") + b"\n")
        assert stale_because(experiment, "de", "001") == f"{path} is not what step 6 wrote"
        assert not is_current(experiment, "de", "001", None)
        step6(experiment)
        assert path.read_bytes() == right
    assert stale_because(experiment, "de", "001") is None


def test_a_sidecar_that_was_tampered_with_is_no_sidecar(experiment: Experiment) -> None:
    step6(experiment)
    path = Path(experiment.certainty_sidecar("de", "001"))
    whole = json.loads(path.read_text())
    files = whole["files"]
    damaged: list[object] = [
        [], {}, whole | {"sha256": {}}, whole | {"sha256": whole["sha256"] | {"people": 5}}, whole | {"files": []},
        whole | {"files": files | {"letters": files["certainty"]}}, whole | {"files": files | {"certainty": {"bytes": "9"}}},
    ]  # fmt: skip
    for content in damaged:
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"certainty_10001\.json: is no whole file"):
            stale_because(experiment, "de", "001")
        assert not is_current(experiment, "de", "001", None)


def test_what_is_there_is_not_computed_again_and_comes_out_the_same(experiment: Experiment) -> None:
    files = [experiment.certainty, experiment.certainty_sidecar, experiment.people_certainty]
    assert step6(experiment) == [True, True, True]
    first = [read_bytes(file("de", "001")) for file in files]
    Path(experiment.certainty_record("de", "001", "000200")).unlink()
    Path(experiment.certainty_record("de", "001", "000300")).write_bytes(b"half a file")
    assert step6(experiment) == [False, True, True]
    assert [read_bytes(file("de", "001")) for file in files] == first


def edit_record(path: str, name: str) -> None:
    """Raise the first number of a list of a tract's record by hand, digests and all else as they are."""
    text = read_bytes(path).decode()
    begin = text.index(f'"{name}":[') + len(name) + 4
    end = begin + re.match(r"\d+", text[begin:]).end()  # type: ignore[union-attr]
    with sopen(path, "wb") as file:
        file.write(f"{text[:begin]}{int(text[begin:end]) + 1}{text[end:]}".encode())


def test_a_tract_s_record_that_was_edited_is_told_and_made_again(experiment: Experiment, caplog: pytest.LogCaptureFixture) -> None:
    step6(experiment)
    files = [experiment.certainty, experiment.people_certainty]
    first = [read_bytes(file("de", "001")) for file in files]
    path = experiment.certainty_record("de", "001", "000200")
    right = read_bytes(path)
    for name in ("certain", "differ_upper", "least"):
        edit_record(path, name)
        with pytest.raises(InputError, match=r"tract_10001000200.json.gz: is not what step 6 wrote"):
            close_county(experiment, "de", "001", sorted(TRACTS))
        caplog.clear()
        assert step6(experiment) == [False, True, False]
        assert caplog.messages == [f"{path}: was changed or cut short since step 6 wrote it; it is made again"]
        assert read_bytes(path) == right
    assert [read_bytes(file("de", "001")) for file in files] == first


def test_a_record_of_samples_that_was_edited_is_left_out_with_a_word(
    experiment: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    step6(experiment)
    for tract in TRACTS:
        make_samples_of(experiment, "de", "001", tract, SampleOrder(2))
    close_county(experiment, "de", "001", sorted(TRACTS))
    assert "confidence" in rows_of(experiment.people_certainty("de", "001"))[0]
    path = experiment.samples_record("de", "001", "000100")
    edit_record(path, "holders")
    close_county(experiment, "de", "001", sorted(TRACTS))
    assert caplog.messages == [
        f"{path}: was changed or cut short since step 6 wrote it; samples are left out until --step6 --samples N draws them again"
    ]
    assert "confidence" not in rows_of(experiment.people_certainty("de", "001"))[0]
    assert make_samples_of(experiment, "de", "001", "000100", SampleOrder(2))
    close_county(experiment, "de", "001", sorted(TRACTS))
    assert "confidence" in rows_of(experiment.people_certainty("de", "001"))[0]


def test_other_people_make_it_stale_and_are_computed_anew(experiment: Experiment) -> None:
    step6(experiment)
    assert stale_because(experiment, "de", "001") is None
    others = TRACTS | {"000300": random_people(9, 1, 2)}
    write_county(experiment, "de", "001", others)
    assert "synth_out_10001.csv has changed" in (stale_because(experiment, "de", "001") or "")
    assert step6(experiment) == [False, False, True]
    assert stale_because(experiment, "de", "001") is None


def test_another_budget_is_another_answer(experiment: Experiment) -> None:
    step6(experiment)
    less = Config.load(env={"DBRECON_CONFIG": str(settings_file(experiment))})
    assert step6(Experiment("r1", experiment.root, "all", less)) == [True, True, True]


def settings_file(experiment: Experiment) -> Path:
    path = Path(experiment.root) / "config.ini"
    path.write_text("[certainty]\ntree_steps = 5\nmip_checks = 0\n")
    return path


def test_people_of_other_tables_have_no_certainty(experiment: Experiment) -> None:
    path = Path(experiment.synth_out("de", "001"))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]) + lines[-1])
    with pytest.raises(InputError, match="tract 10001000200: the people do not meet the published counts"):
        step6(experiment)
    path.unlink()
    with pytest.raises(InputError, match="step 5 comes first"):
        step6(experiment)


def test_a_record_that_is_none_is_refused_with_its_name() -> None:
    for text in (b"", b"[]", b"{}", b"\xff"):
        with pytest.raises(InputError, match="here: is no whole record"):
            TractRecord.parse(text, "here")
    with pytest.raises(InputError, match="here: is not what step 6 wrote"):
        TractRecord.parse(b'{"format": 1}', "here")


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6000)), max_size=40), st.integers(0, 31))
def test_a_tract_s_lines_are_found_by_bisection(runs: list[tuple[int, int]], wanted: int) -> None:
    lines = [b"%02d,%s\n" % (number, b"x" * length) for number, length in sorted(runs)]
    file = io.BytesIO(b"header\n" + b"".join(lines))
    assert lines_of(file, b"%02d" % wanted) == b"".join(line for line in lines if line.startswith(b"%02d" % wanted))


def test_rows_are_read_as_by_the_reader_of_any_file(experiment: Experiment) -> None:
    text = read_bytes(experiment.synth_out("de", "001"))
    expected = People.concatenate(list(iter_people(io.BytesIO(text), "people")))
    found = parse_rows(text.partition(b"\n")[2], "people")
    assert np.array_equal(found.geoid_block, expected.geoid_block)
    assert np.array_equal(found.kind, expected.kind)
    with pytest.raises(InputError, match="no person"):
        parse_rows(b"10001000100,100010001001000,male,0,Y,N,N,N,N,N\n", "people")


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_percentages_have_four_decimals(part: int, whole: int) -> None:
    text = per_cent(part, whole)
    assert len(text.partition(".")[2]) == 4
    assert float(text) == pytest.approx(100 * part / whole, abs=5.1e-5)
