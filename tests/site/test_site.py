"""The documentation as a reader has it: the site builds without a warning, its tutorials run, and it reads well on any screen."""

import html
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbrecon.console import main as dbrtool
from dbrecon.console import scheduler
from dbrecon.console.parser import Parser
from dbrecon.errors import UsageError
from dbrecon.ledger.lifecycle import LIVES
from tests.chromium import AXE, browser
from tests.paths import CHECKOUT
from tests.waiting import wait_for

PAGES = [CHECKOUT / "README.md", *sorted(CHECKOUT.glob("docs/*.md")), *sorted(CHECKOUT.glob("docs/[a-z]*/*.md"))]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the tutorials run, on whatever machine this is
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors; the tutorials have run."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-E", "-q", "-W", "--keep-going", "-b", "html", "docs", str(out)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window."""
    found = browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.quit()


def built(site: Path) -> list[str]:
    return sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if "_static" not in path.parts)


def test_the_tutorials_have_run_and_drawn(site: Path) -> None:
    for name in ("block_of_five", "county", "certain", "disclosure", "watched"):
        page = (site / "tutorials" / f"{name}.html").read_text(encoding="utf-8")
        assert "cell_output" in page, name
        assert re.search(r'<img [^>]*src="\.\./_images/', page), name
        assert "Traceback" not in page, name


def test_nothing_of_the_site_is_fetched_from_elsewhere(site: Path) -> None:
    for name in built(site):
        page = (site / name).read_text(encoding="utf-8")
        assert re.findall(r"<(?:script|img|iframe)[^>]*src=\"https?:[^\"]*", page) == [], name
        assert re.findall(r"<link[^>]*rel=\"stylesheet\"[^>]*href=\"https?:[^\"]*", page) == [], name


def test_every_link_within_the_site_leads_to_a_page_and_a_place_that_are_there(site: Path) -> None:
    places = {name: set(re.findall(r' (?:id|name)="([^"]+)"', (site / name).read_text(encoding="utf-8"))) for name in built(site)}
    astray = []
    for name in places:
        for target in set(re.findall(r'<a [^>]*href="([^":]+)"', (site / name).read_text(encoding="utf-8"))):
            path, _, place = html.unescape(target).partition("#")
            linked = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
            reached = not place or place in places[linked] if linked in places else (site / linked).is_file()
            if not reached:
                astray.append((name, target))
    assert len(places) > 40
    assert astray == []


def test_the_states_of_the_ledger_are_drawn(site: Path) -> None:
    page = (site / "states.html").read_text(encoding="utf-8")
    drawings = re.findall(r'<div class="state-diagram".*?</div>', page, re.S)
    assert len(drawings) == len(LIVES) + 1
    for life, drawing in zip(LIVES, drawings, strict=False):
        assert re.findall(r'class="state">(\w+)<', drawing) == list(life.states)
        shown = " ".join(re.sub(r"<[^>]*>", " ", drawing).split())
        moves = {move.event for move in life.transitions if set(move.before) != set(move.after)}
        assert [event for event in sorted(moves) if event not in shown] == []


def test_the_reference_has_every_option_function_and_path(site: Path) -> None:
    def page(name: str) -> str:
        return re.sub(r"<[^>]+>", "", (site / "reference" / name).read_text(encoding="utf-8"))

    for module, name in ((dbrtool, "dbrtool.html"), (scheduler, "scheduler.html")):
        for group in module.make_parser().groups:
            for option in group.options:
                assert option.long in page(name)
    import dbrecon

    functions = page("api.html")
    assert [name for name in dbrecon.__all__ if f"dbrecon.{name}" not in functions] == []
    assert "/api/v1/experiments/{reident}/throughput" in page("http_api.html")
    assert "PCT012O209" in page("products.html")


def look(driver: Any, site: Path, name: str, size: tuple[int, int]) -> None:
    """Opens a page in a window of that size."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get(f"{site.as_uri()}/{name}")


def test_no_page_is_wider_than_the_screen_of_a_phone_or_a_desk(site: Path, driver: Any) -> None:
    pages = [(name, PHONE) for name in built(site)]
    pages += [(name, DESKTOP) for name in ("index.html", "tutorials/county.html", "reference/settings.html")]
    wide = {}
    for name, size in pages:
        look(driver, site, name, size)
        wide[name, size] = driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    assert {page: excess for page, excess in wide.items() if excess > 0} == {}


def test_words_are_found_by_the_search(site: Path, driver: Any) -> None:
    look(driver, site, "search.html?q=quarantine", DESKTOP)
    results = "return [...document.querySelectorAll('#search-results li a')].map(a => a.textContent)"
    wait_for(lambda: "Troubleshooting, by symptom" in driver.execute_script(results), "the page on quarantine")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_have_no_serious_fault_of_accessibility(site: Path, driver: Any, theme: str) -> None:
    for name in ("index.html", "tutorials/block_of_five.html", "science/program.html"):
        look(driver, site, name, DESKTOP)
        driver.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
        driver.execute_script(AXE.read_text(encoding="utf-8"))
        # The article is ours, what is around it the theme's; the names of folded cells are MyST's.
        rules = "{rules: {'label-content-name-mismatch': {enabled: false}}}"
        run = f"axe.run('.bd-article-container', {rules}).then(arguments[arguments.length - 1])"
        found = driver.execute_async_script(run)
        assert len(found["passes"]) > 5
        serious = [
            (rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"] if rule["impact"] in ("serious", "critical")
        ]
        assert serious == [], name


# -- commands -----------------------------------------------------------------------------------------------------------

PARSERS = {"dbrtool": dbrtool.make_parser, "scheduler": scheduler.make_parser}


def commands() -> list[tuple[str, str]]:
    """(page, command) for each line of a page's code that starts one of the two commands."""
    found = []
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            code = re.fullmatch(r"    +(?:watch ')?((?:\./)?(?:dbrtool|scheduler)(?:\.py)? .*?)'?", line)
            if code and not line.rstrip().endswith(":"):
                found.append((str(page.relative_to(CHECKOUT)), code[1]))
    return sorted(set(found))


def test_there_are_commands_to_try() -> None:
    assert len(commands()) > 45


@pytest.mark.parametrize(("page", "command"), commands(), ids=str)
def test_every_command_that_a_page_shows_is_one(page: str, command: str) -> None:
    """Its words are read by the commands' own parser, and mean one thing to do."""
    words = shlex.split(re.sub(r"\[(--[^\]]*)\]", r"\1", command.replace("[--county 059]", "--county 059")), comments=True)
    program = Path(words[0]).stem
    parser: Parser = PARSERS[program]()
    try:
        arguments = parser.read(words[1:])
    except UsageError as error:
        pytest.fail(f"{page}: {command}: {error}")
    if program == "dbrtool":
        assert dbrtool.asked_action(arguments) is not None or arguments.completion


def test_a_command_that_is_none_would_be_seen() -> None:
    with pytest.raises(UsageError):
        dbrtool.make_parser().read(["--statsu"])
