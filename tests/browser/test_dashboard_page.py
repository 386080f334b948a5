"""The page in a real browser, on MariaDB, while a real run goes on. The tests follow each other, as the run does."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.chromium import AXE, browser
from tests.paths import CHECKOUT
from tests.servers import MariaServer

PATIENCE = 60
SMALL_BUDGET = "[certainty]\ntree_steps = 1000\nmip_checks = 20\ntract_steps = 20000\n"
DESKTOP, PHONE = (1360, 900), (390, 844)
T = TypeVar("T")

pytestmark = [pytest.mark.mariadb, pytest.mark.slow]


@dataclass
class Stage:
    """An experiment on a database, a dashboard, and a browser that looks at it."""

    server: MariaServer
    env: dict[str, str]
    root: Path
    base: str = ""
    driver: Any = None
    expected: list[str] = field(default_factory=list)  # messages in the browser's console that a test has caused

    def tool(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=CHECKOUT, env=self.env, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode in codes, done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.tool("dbrtool.py", "--status", "--json"))
        return found

    def open(self, path: str = "/re-recon/wall", size: tuple[int, int] = DESKTOP, theme: str = "light") -> None:
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(self.base + path)
        self.until(lambda: self.driver.find_elements(By.CSS_SELECTOR, "main h1"), "the page's heading")

    def find(self, selector: str) -> Any:
        return self.until(lambda: self.driver.find_elements(By.CSS_SELECTOR, selector), selector)[0]

    def text(self, selector: str) -> str:
        return str(self.driver.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def until(self, ready: Callable[[], T], what: str) -> T:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if found := ready():
                    return found
            except StaleElementReferenceException:  # drawn anew between two looks
                continue
            time.sleep(0.05)
        pytest.fail(f"{what} did not come; the page says: {self.text('body')[:1500]}")

    def settle(self) -> None:
        """Waits until nothing is being loaded any more."""
        loading = "return document.querySelector('.loading') !== null || document.querySelector('main table') === null"
        self.until(lambda: not self.driver.execute_script(loading), "the whole page")

    def counts(self) -> dict[str, int]:
        script = "return [...document.querySelectorAll('[data-count]')].map(e => [e.dataset.count, e.textContent])"
        return {name: int(text.replace(",", "")) for name, text in self.driver.execute_script(script)}

    def complaints(self) -> list[str]:
        """What the browser's console has complained about since the last call."""
        found = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        return [message for message in found if not any(part in message for part in self.expected)]


@pytest.fixture(scope="module")
def stage(mariadb_server: MariaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two counties' tracts ready to be solved, a contradiction in one of them, and the dashboard open."""
    root = tmp_path_factory.mktemp("wall")
    config = root / "config.ini"
    config.write_text("[run]\nmax_attempts = 1\nretry_seconds = 0\nmax_lp = 1\n[dashboard]\nmax_age = 0.5\n" + SMALL_BUDGET)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DBRECON_", "MYSQL_"))}
    env = kept | mariadb_server.settings(mariadb_server.fresh_database())
    stage = Stage(mariadb_server, env | {"DAS_S3ROOT": str(root), "REIDENT": "wall", "DBRECON_CONFIG": str(config)}, root)
    dist = root / "2010-re" / "wall" / "dist"
    stage.tool("bench/make_state.py", "-q", "--stusab", "de", "--people", "9000", "--counties", "3", "--out", str(dist))
    stage.tool("dbrtool.py", "--register", "wall")
    stage.tool("dbrtool.py", "-q", "--step1", "--step2", "--stusab", "de")
    contradict(root / "2010-re" / "wall" / "work" / "de" / "10003" / "sf1_tract_10003.csv")
    command = [sys.executable, "dbrtool.py", "--dashboard", "--port", "0"]
    process = subprocess.Popen(command, cwd=CHECKOUT, env=stage.env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        stage.base = process.stdout.readline().strip().removesuffix("/re-recon.html")
        assert stage.base.startswith("http://127.0.0.1:")
        stage.driver = browser(root)
        yield stage
    finally:
        if stage.driver is not None:
            stage.driver.quit()
        process.terminate()
        assert process.wait(30) == 0


def contradict(path: Path) -> None:
    """One person more in a cell of the county's first tract with people than its blocks have."""
    lines = path.read_text(encoding="utf-8").splitlines()
    column = lines[0].split(",").index("PCT0120001")
    number = next(number for number, line in enumerate(lines[1:], 1) if int(line.split(",")[column]))
    cells = lines[number].split(",")
    cells[column] = str(int(cells[column]) + 1)
    lines[number] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_before_the_run_the_page_says_that_nothing_is_done(stage: Stage) -> None:
    stage.open("/")  # the only experiment is shown at once
    assert stage.find("h1").text.startswith("wall")
    assert stage.text(".headline-share") == "0 %"
    assert stage.text("[data-stat=tracts] .value") == "0"
    stage.find("path.p0[data-county='10001']")
    assert "No tract is in work" in stage.text("#running")


def test_while_a_run_goes_on_the_page_follows_it_in_place(stage: Stage) -> None:
    """No reload: the reader's scroll position, open parts, focus and order of a table stay, and the numbers become --status's."""
    stage.open()
    stage.find("#throughput .as-table summary").click()
    stage.find("#places thead button").click()
    script = "window.mine = 1; window.scrollTo(0, 300); document.querySelector('#places thead button').focus({preventScroll: true})"
    stage.driver.execute_script(script)
    place = "return [window.mine, window.scrollY, document.querySelector('.as-table').open, "
    place += "document.activeElement.textContent.trim(), document.querySelector('#places th[aria-sort]').ariaSort]"
    before = stage.driver.execute_script(place)
    run = subprocess.Popen([sys.executable, "dbrtool.py", "-q", "--run"], cwd=CHECKOUT, env=stage.env, stdout=subprocess.DEVNULL)
    try:
        stage.until(lambda: int(stage.text("[data-stat=tracts] .value") or 0) > 0, "a solved tract")
        assert run.wait(120) == 10  # one tract is quarantined
    finally:
        if run.poll() is None:
            run.kill()
    status = stage.status()
    wanted = {name: status[name] for name in stage.counts()}
    stage.until(lambda: stage.counts() == wanted, f"the counts of --status, {wanted}")
    assert len(wanted) == 9
    assert stage.driver.execute_script(place) == before
    stage.until(lambda: stage.text("[data-stat=people] .value") == f"{status['people_solved']:,}", "the people solved")
    assert stage.text("[data-stat=people] .note") == f"of {status['people']:,}"
    assert stage.text("[data-stat=quarantined] .value") == "1"
    assert float(stage.text("[data-stat=cost] .value")) > 0


def test_the_map_colours_a_finished_county_and_one_with_a_failure(stage: Stage) -> None:
    stage.open()
    stage.find("path.written[data-county='10001']")
    stage.find("path.bad[data-county='10003']")
    assert stage.driver.find_elements(By.CSS_SELECTOR, "path.written[data-county='51001']") == []


def test_the_failure_is_listed_with_its_stack_and_leads_to_its_tract(stage: Stage) -> None:
    (failure,) = stage.status()["quarantined"]
    stage.open()
    assert failure["error"].splitlines()[0][:60] in stage.find("#quarantine").text
    stage.find("#errors details summary").click()
    stage.until(lambda: "Traceback" in stage.text("#errors details pre"), "the stack")
    stage.find("#quarantine tbody a").click()
    stage.until(lambda: failure["error"].splitlines()[0][:60] in stage.text(".failure"), "the tract's page with its error")
    assert stage.driver.current_url.endswith(f"/re-recon/wall/de/003/{failure['tract']}")


def test_one_gets_from_the_state_to_a_county_to_a_tract_and_back(stage: Stage) -> None:
    stage.open("/re-recon/wall/de")
    assert stage.find("h1").text.startswith("Delaware")
    stage.find("path.written[data-county='10001']").click()
    stage.until(lambda: stage.driver.current_url.endswith("/re-recon/wall/de/001"), "the county's page")
    stage.until(lambda: "synth_out_10001.csv" in stage.text("main"), "the county's files")
    stage.find("tr[data-key='000101'] a").click()
    stage.until(lambda: "model_10001000101.lp.gz" in stage.text("main"), "the tract's files")
    for part in ("HiGHS", "Variables", "Peak memory"):
        assert part in stage.text("main")
    assert stage.driver.execute_script("return document.activeElement.id") == "main"
    stage.driver.back()
    stage.until(lambda: stage.driver.current_url.endswith("/de/001") and "Tracts solved" in stage.text("main"), "the county again")
    stage.open("/re-recon/wall/de/999")
    stage.until(lambda: "has no county 999" in stage.text("main"), "what is wrong with the address")
    stage.expected.append("/counties/999")


def test_results_stand_on_the_pages_of_places_once_they_are_known(stage: Stage) -> None:
    stage.open("/re-recon/wall/de/001")
    stage.until(lambda: "Not known yet" in stage.text("main"), "the word that certainty is not known")
    stage.until(lambda: "Not compared yet" in stage.text("main"), "the word that nothing is compared")
    stage.tool("dbrtool.py", "-q", "--step6", "--stusab", "de", "--county", "001")
    folder = stage.root / "2010-re" / "wall" / "work" / "de" / "10001"
    stage.tool("dbrtool.py", "-q", "--evaluate", str(folder / "synth_out_10001.csv"), "--stusab", "de", "--county", "001")
    sidecar = json.loads((folder / "certainty_10001.json").read_text())
    stage.open("/re-recon/wall/de")
    choice = "//div[contains(@class, 'map-choice')]/button[text()='May differ']"
    [button] = stage.until(lambda: stage.driver.find_elements(By.XPATH, choice), "what the map can be coloured by")
    button.click()
    stage.until(lambda: not stage.driver.find_elements(By.CSS_SELECTOR, "path.written[data-county='10001']"), "another colour")
    assert stage.find("path[data-county='10003']").get_attribute("class") == "p0", "its certainty is not known"
    stage.open("/re-recon/wall/de/001")
    stage.until(
        lambda: f"{sidecar['certain']:,} people are in every data set" in stage.text("[data-stat=certain]"), "who is certain"
    )
    assert f"at most {sidecar['differ_upper']:,} of {sidecar['people']:,} people" in stage.text("[data-stat=differ]")
    assert len(stage.driver.find_elements(By.CSS_SELECTOR, ".pyramid rect")) == 2 * 18
    people = (folder / "synth_out_10001.csv").read_text()
    assert f"male: {people.count(',male,'):,}" in stage.text(".pyramid")
    everybody = f"{sidecar['people']:,} of {sidecar['people']:,} true people"
    stage.until(lambda: everybody in stage.text("[data-stat=exact]"), "that these people are all true of themselves")
    assert "published" in stage.text("[data-stat=wrong] .note")
    stage.open("/re-recon/wall/de/001/000101")
    stage.until(lambda: "people are in every data set" in stage.text("[data-stat=certain]"), "the tract's certainty")
    assert "true people" in stage.text("[data-stat=binned]")


def test_the_chart_is_read_with_the_keyboard(stage: Stage) -> None:
    stage.open()
    plot = stage.find("#throughput .plot")
    plot.send_keys(Keys.HOME)
    stage.until(lambda: plot.get_attribute("aria-valuenow") == "0", "the first interval")
    plot.send_keys(Keys.ARROW_RIGHT)
    stage.until(lambda: plot.get_attribute("aria-valuenow") == "1", "the second interval")
    assert "Solutions" in (plot.get_attribute("aria-valuetext") or "")


PAGES = ["/re-recon/wall", "/re-recon/wall/de", "/re-recon/wall/de/003", "/re-recon/wall/de/001/000101"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_serious_fault_of_accessibility(stage: Stage, theme: str) -> None:
    # The dark colours are the same on all pages: one with everything on it will do.
    for path, size in [(PAGES[0], PHONE), *((path, DESKTOP) for path in (PAGES if theme == "light" else PAGES[:1]))]:
        stage.open(path, size, theme)
        stage.settle()
        stage.driver.execute_script(AXE.read_text(encoding="utf-8"))
        # The map is one picture to those who hear it: its 3,220 shapes are left out, which takes most of the time.
        run = "axe.run({include: [['html']], exclude: [['.map path']]}, {resultTypes: ['violations']})"
        found = stage.driver.execute_async_script(f"{run}.then(arguments[arguments.length - 1])")
        assert len(found["passes"]) > 20
        serious = [
            (rule["id"], [node["html"] for node in rule["nodes"]][:3])
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
        ]
        assert serious == [], path


def test_on_a_phone_nothing_is_wider_than_the_screen(stage: Stage) -> None:
    for path in PAGES:
        stage.open(path, PHONE)
        stage.settle()
        assert stage.driver.execute_script("return document.documentElement.scrollWidth") <= PHONE[0], path


def test_on_a_phone_why_a_tract_is_in_quarantine_can_be_read_whole(stage: Stage) -> None:
    (failure,) = stage.status()["quarantined"]
    stage.open(PAGES[0], PHONE)
    stage.settle()
    script = "const box = document.querySelector('#quarantine td.wide').getBoundingClientRect(); return [box.left, box.right]"
    left, right = stage.driver.execute_script(script)
    assert 0 <= left < right <= PHONE[0]
    assert failure["error"].splitlines()[0] in stage.text("#quarantine td.wide")


def test_the_figures_of_a_page_agree_with_one_another_and_with_status(stage: Stage) -> None:
    stage.open()
    stage.settle()
    solved = stage.text("[data-stat=tracts] .value")
    rows = stage.driver.execute_script(
        "return [...document.querySelectorAll('#places tbody td')].map(e => e.textContent).join('|')"
    )
    share = stage.text(".headline-share")
    assert stage.counts()["sol_created"] == int(solved.replace(",", ""))
    assert f"({share})" in stage.tool("dbrtool.py", "--status")
    assert sum(int(text) for text in re.findall(r"(\d+) / \d+", rows)) == int(solved)
    hosts = stage.driver.execute_script("return [...document.querySelectorAll('#hosts .beat')].map(e => e.className)")
    assert hosts in (["beat idle"], ["beat left"])


def test_an_experiment_that_is_not_there_is_not_loading_any_more(stage: Stage) -> None:
    stage.open("/re-recon/nowhere")
    stage.until(lambda: "there is no experiment nowhere" in stage.text("main"), "the sentence")
    stage.until(lambda: stage.text(".fresh").startswith("Connected"), "the frame's word")
    stage.expected.append("/nowhere/page")


def test_no_label_of_the_chart_is_cut(stage: Stage) -> None:
    for size in (DESKTOP, PHONE):
        stage.open(size=size)
        stage.settle()
        script = "const svg = document.querySelector('.plot svg').getBoundingClientRect(); return [svg.left, svg.right, "
        script += "...[...document.querySelectorAll('.plot text.mark')].flatMap(e => [e.getBoundingClientRect().left, "
        script += "e.getBoundingClientRect().right])]"
        left, right, *edges = stage.driver.execute_script(script)
        assert len(edges) > 8
        assert left - 1 <= min(edges) < max(edges) <= right + 1


def test_the_browser_has_nothing_to_complain_about(stage: Stage) -> None:
    assert stage.complaints() == []


def test_a_script_that_gets_into_the_page_does_not_run(stage: Stage) -> None:
    stage.open()
    script = "const s = document.createElement('script'); s.textContent = 'window.bad = 1'; document.body.append(s);"
    script += "return window.bad"
    assert stage.driver.execute_script(script) is None
    stage.expected.append("Content Security Policy")


def test_the_page_says_when_the_database_is_away_and_recovers(stage: Stage) -> None:
    stage.open()
    stage.until(lambda: stage.text(".fresh").startswith("Live"), "live data")
    stage.driver.execute_script("window.mine = 2")
    counts = stage.counts()
    stage.server.stop()
    try:
        stage.until(lambda: "The database is away" in stage.text(".warning"), "the warning")
        assert stage.text(".fresh").startswith("Database away")
        assert stage.counts() == counts  # what is known stays
    finally:
        stage.server.start()
    stage.until(lambda: stage.text(".warning") == "" and stage.text(".fresh").startswith("Live"), "live data again")
    assert stage.driver.execute_script("return window.mine") == 2


def test_the_page_says_when_its_server_is_away(stage: Stage) -> None:
    stage.open()
    stage.until(lambda: stage.text(".fresh").startswith("Live"), "live data")
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    stage.driver.execute_cdp_cmd("Network.enable", {})
    stage.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    stage.until(lambda: "No connection" in stage.text(".warning"), "the warning")
    online = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    stage.driver.execute_cdp_cmd("Network.emulateNetworkConditions", online)
    stage.until(lambda: stage.text(".warning") == "", "live data again")
