"""The report in a real browser: it asks for nothing, everybody can read it, and it fits a screen, a phone and a page."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import AXE, browser
from tests.report_world import whole_report

pytestmark = pytest.mark.slow

SECTIONS = ["agreement", "certainty", "places", "calibration", "reidentification", "what-if", "pyramid", "methods", "provenance"]
A4_INSIDE = 718  # CSS pixels between Chromium's own margins on A4


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser that has opened a report with every section."""
    folder = tmp_path_factory.mktemp("report")
    path = whole_report().write(str(folder / "out"))
    driver = browser(folder, performance="ALL")
    try:
        driver.get(Path(path).as_uri())
        yield driver
    finally:
        driver.quit()


def at_width(page: Any, width: int, media: str = "screen") -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_no_request_leaves_the_file_and_the_browser_has_nothing_to_complain_of(page: Any) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    asked = [event["request"]["url"] for event in sent if event["documentURL"].startswith("file:")]  # not the browser's own pages
    assert any(url.startswith("file:") for url in asked)
    assert [url[:80] for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.get_log("browser") == []


def test_every_section_and_every_drawing_is_there(page: Any) -> None:
    found = page.execute_script("return [...document.querySelectorAll('main section > h2')].map(e => e.id)")
    assert found == ["summary", *SECTIONS]
    drawn = page.execute_script("return [...document.images].map(e => [e.alt.length > 20, e.complete && e.naturalWidth > 100])")
    assert len(drawn) == 13
    assert drawn == [[True, True]] * len(drawn)


def test_axe_finds_nothing_serious(page: Any) -> None:
    at_width(page, 1280)
    page.execute_script(AXE.read_text(encoding="utf-8"))
    script = "const done = arguments[arguments.length - 1]; axe.run().then(found => done(found.violations), e => done(String(e)))"
    violations = page.execute_async_script(script)
    assert [(violation["id"], [node["html"][:120] for node in violation["nodes"]]) for violation in violations] == []


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_a_screen_and_a_phone(page: Any, width: int) -> None:
    at_width(page, width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_no_table_or_drawing_is_cut_off_on_paper(page: Any) -> None:
    at_width(page, A4_INSIDE, "print")
    script = """return [...document.querySelectorAll('.table, figure')].filter(e => e.scrollWidth > e.clientWidth + 1)
        .map(e => [e.getAttribute('aria-label') ?? e.textContent, e.scrollWidth, e.clientWidth])"""
    assert page.execute_script(script) == []
