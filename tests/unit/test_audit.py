"""The audit's report: it holds what the studies found, and no record."""

import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from dbrecon.errors import InputError
from dbrecon.recon.census.tables import DEFAULT_PRODUCT
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.people.people import HEADER, People
from dbrecon.recon.risk.protections import Swap
from dbrecon.recon.risk.variants import Variant
from dbrecon.recon.solve.program import Options
from dbrecon.recon.study.synthetic import make_counties, plan_state
from dbrecon.report.audit import audit, by_sex_and_age
from dbrecon.report.document import Report
from dbrecon.report.kept_ways import KeptWays
from dbrecon.report.sections import per_cent
from tests.paths import CHECKOUT

VARIANTS = (
    Variant("all tables", DEFAULT_PRODUCT),
    Variant("block tables", DEFAULT_PRODUCT, "block"),
    Variant("swap", DEFAULT_PRODUCT, "all", Swap(0.2)),
)


@lru_cache(maxsize=1)
def people() -> People:
    plan = plan_state("de", "10", 2500, 5, 1, 0, 0)
    everyone = People.concatenate([county.people for county in make_counties(plan)]).merged()
    return everyone.select(everyone.geoid_tract == everyone.geoid_tract[0])


@lru_cache(maxsize=1)
def report() -> Report:
    return audit(people(), VARIANTS, "records.csv", Options(), Budget())


def table(name: str) -> list[dict[str, object]]:
    found = next(t for section in report().sections for t in section.tables if t.name == name)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


@pytest.mark.slow
def test_every_study_has_its_part_and_the_pyramid_is_that_of_the_records() -> None:
    names = [section.name for section in report().sections]
    assert names == ["agreement", "certainty", "reidentification", "what-if", "pyramid", "methods"]
    counts = by_sex_and_age(people())
    assert [row["men, reconstructed"] for row in table("pyramid")] == counts[0].tolist()
    assert [row["women, published"] for row in table("pyramid")] == counts[1].tolist()


@pytest.mark.slow
def test_sizes_add_up_to_all_people_and_blocks() -> None:
    for name in ("agreement", "certainty"):
        rows = table(name)
        for column in ("blocks", "people"):
            assert sum(row[column] for row in rows[:-1]) == rows[-1][column]  # type: ignore[misc]
        assert rows[-1]["people"] == people().population


@pytest.mark.slow
def test_a_rate_of_one_draw_of_ties_has_no_least_and_most() -> None:
    assert "precision, %" in table("reidentification")[0]
    assert "least, %" not in table("reidentification")[0]


@pytest.mark.slow
def test_ways_to_publish_stand_side_by_side_under_their_names() -> None:
    rows = table("what_if")
    assert [row["way to publish"] for row in rows] == [variant.name for variant in VARIANTS]
    assert rows[0]["mean error of a cell, people"] == 0.0
    assert rows[0]["people certain, %"] >= rows[1]["people certain, %"]  # type: ignore[operator]


@pytest.mark.slow
def test_an_audit_that_was_ended_goes_on_from_the_ways_that_were_done_and_its_report_is_the_same(tmp_path: Path) -> None:
    kept, tracts = str(tmp_path / "unfinished.json"), list[int]()

    def end_in_the_third_way(number: int) -> None:
        tracts.append(number)
        if len(tracts) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(people(), VARIANTS, "records.csv", Options(), Budget(), None, KeptWays(kept, "these"), end_in_the_third_way)
    tracts.clear()
    again = audit(people(), VARIANTS, "records.csv", Options(), Budget(), None, KeptWays(kept, "these"), tracts.append)
    assert len(tracts) == 2  # the way in question, and the third
    assert again.html() == report().html()
    assert KeptWays(kept, "others").find(VARIANTS[1]) is None
    assert KeptWays(kept, "these").find(VARIANTS[1]) is not None


SWALLOWS = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(100_000):
        pass
except KeyboardInterrupt:
    pass
__version__ = "0.1"
"""


@pytest.mark.slow
def test_ctrl_c_that_strikes_in_what_pyarrow_imports_ends_the_command(tmp_path: Path) -> None:
    """Pandas's import drops it, or makes another error of it."""
    (tmp_path / "pandas.py").write_text(SWALLOWS)
    (tmp_path / "records.csv").write_bytes(HEADER + b"10001000100,100010001001000,male,30,Y,N,N,N,N,N,N\n")
    words = ["--audit", str(tmp_path / "records.csv"), "--out", str(tmp_path / "out")]
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, str(CHECKOUT / "dbrtool.py"), *words],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (130, "interrupted")


def test_what_is_no_file_of_kept_ways_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "unfinished.json"
    for text in ("[]", "{", '{"a": {"name": "b"}}'):
        path.write_text(text)
        with pytest.raises(InputError, match="is not what an audit keeps of its ways to publish"):
            KeptWays(str(path))


@pytest.mark.slow
def test_no_block_of_the_records_stands_in_any_file(tmp_path: Path) -> None:
    report().write(str(tmp_path / "out"))
    text = b"".join(path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.suffix in (".html", ".csv", ".json"))
    for block in np.unique(people().geoid_block).tolist():
        assert str(block).encode() not in text


def test_shares_are_never_rounded_to_all_or_nothing() -> None:
    assert [per_cent(value) for value in (1.0, 0.9999, 0.5, 0.0001, 0.0, float("nan"))] == [
        "100.0\u00a0%", "over 99.9\u00a0%", "50.0\u00a0%", "under 0.1\u00a0%", "0.0\u00a0%", "–",
    ]  # fmt: skip
