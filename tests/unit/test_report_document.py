"""A report's files: one page that asks for nothing from elsewhere, and the same numbers beside it."""

import csv
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dbrecon.report import figures
from dbrecon.report.document import Figure, Report, Section, Table

RNG = np.random.default_rng(0)
LABELS = ["0-4", "5-9", "10-14"]


def drawings() -> list[Figure]:
    """One of each kind."""
    shares = np.array([0.1, 0.5, np.nan])
    square = np.array([[0.0, 0.0], [1, 0], [1, 1], [0, 0]])
    bars = {"reconstruction": [0.7, np.nan], "modal": [0.5, 0.1]}
    east, north = np.array([-81.0, -82, -80]), np.array([40.0, 41, 40])
    return [
        figures.bars_by_group("bars", "c", "a", ["all", "nonmodal, unique"], bars, "precision"),
        figures.pyramid("pyramid", "c", "a", LABELS, np.ones((2, 3)), np.ones((2, 3))),
        figures.calibration("calibration", "c", "a", np.array([0.5]), np.array([0.6]), np.array([10])),
        figures.curve_by_rank("rank", "c", "a", {"reconstruction": np.array([[0.5, 0.9], [1.0, 0.7]])}),
        figures.bars_by_row("ways", "c", "a", ["all"], {"certain": [0.9]}, {"error": [0.5]}),
        figures.points_on_map("points", "c", "a", east, north, shares, np.ones(3), "share"),
        figures.shapes_on_map("shapes", "c", "a", [[square], [square + 1], [square + 2]], shares, "share"),
    ]  # fmt: skip


def report(drawn: tuple[Figure, ...] = ()) -> Report:
    table = Table("sizes", "By <size>", ("block size", "blocks", "share, %"), (("1-9", 1200, 3.25), ("10-49", 7, None)), shown=1)
    section = Section("sizes", "Sizes & shares", ("A <b>paragraph</b>.",), drawn, (table,))
    return Report("What they give away", "Guernsey", ("First.",), (section,), {"seed": "0"})


@pytest.mark.slow
def test_the_same_numbers_draw_the_same_bytes_that_a_browser_reads() -> None:
    for first, second in zip(drawings(), drawings(), strict=True):
        assert first.svg == second.svg, first.name
        assert first.png == second.png, first.name
        assert ET.fromstring(first.svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert first.png.startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_page_holds_everything_and_asks_for_nothing_from_elsewhere() -> None:
    page = report(tuple(drawings()[:2])).html()
    assert re.findall(r"""(?:src|href)=["'](?!data:image/svg\+xml;base64,|#)[^"']*""", page) == []
    assert "<script" not in page
    assert re.search(r"url\(|@import", page) is None
    assert page.count("data:image/svg+xml;base64,") == 2


def test_words_that_look_like_markup_stay_words() -> None:
    page = report().html()
    assert "A &lt;b&gt;paragraph&lt;/b&gt;." in page
    assert "By &lt;size&gt;" in page


@pytest.mark.slow
def test_the_page_says_how_many_rows_it_leaves_out_and_the_files_have_all(tmp_path: Path) -> None:
    path = report(tuple(drawings()[:1])).write(str(tmp_path / "out"))
    page = Path(path).read_text(encoding="utf-8")
    assert "the first 1 of 2 rows; tables/sizes.csv has all" in page
    assert "1,200" in page
    with (tmp_path / "out/tables/sizes.csv").open(encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["block size", "blocks", "share, %"], ["1-9", "1200", "3.25"], ["10-49", "7", ""]]
    assert pq.read_table(tmp_path / "out/tables/sizes.parquet").to_pylist()[1] == {
        "block size": "10-49",
        "blocks": 7,
        "share, %": None,
    }
    assert {path.name for path in (tmp_path / "out/figures").iterdir()} == {"bars.svg", "bars.png"}


def test_numbers_are_shown_as_people_read_them() -> None:
    table = Table("t", "c", ("name", "people", "share"), (("a", 1234567, 0.5), ("b", None, float("nan"))), digits=2)
    assert table.texts() == [["a", "1,234,567", "0.50"], ["b", "–", "–"]]
    assert [table.is_number(column) for column in range(3)] == [False, True, True]
