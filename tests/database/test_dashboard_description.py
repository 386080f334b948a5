"""The API is what its OpenAPI description says: for every path with real places, and for whatever a fuzzer thinks of."""

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from dbrecon.ctools.database import make_engine
from dbrecon.dashboard.openapi import description
from tests.dashboard_world import REIDENT, Browser, fill
from tests.dashboard_world import settings as dashboard_settings
from tests.paths import CHECKOUT

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
EXAMPLES = 10
PLAIN = {"Accept-Encoding": "identity"}  # the client over WSGI unpacks nothing
PLACE = {"reident": REIDENT, "stusab": "oh", "county": "059", "tract": "000200", "number": "1"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    folder = tmp_path_factory.mktemp("described")
    database = {"sqlite_path": str(folder / "ledger.sqlite3")}
    fill(make_engine(**database))
    return Browser(dashboard_settings(folder, database))


@pytest.fixture(scope="module")
def described(browser: Browser) -> Any:
    return schemathesis.openapi.from_wsgi("/api/openapi.json", browser.app)


def paths() -> list[str]:
    return [path for path in description()["paths"] if path != "/api/health"]


def test_every_path_of_the_api_is_described_and_no_other(browser: Browser) -> None:
    rules = {re.sub(r"<(\w+)>", r"{\1}", str(rule)) for rule in browser.app.url_map.iter_rules()}
    api = {rule for rule in rules if rule.startswith("/api/")} - {"/api/openapi.json"}
    assert set(browser.json("/api/openapi.json")["paths"]) == api


def test_every_answer_about_a_real_place_is_as_described(described: Any, browser: Browser) -> None:
    for result in described.get_all_operations():
        operation = result.ok()
        path = {name: PLACE[name] for name in re.findall(r"\{(\w+)\}", operation.path)}
        response = operation.Case(path_parameters=path, headers=PLAIN).call()
        assert response.status_code == 200, (operation.path, response.text)
        operation.validate_response(response)


def fuzz(operation: Any, mode: schemathesis.GenerationMode, known: dict[str, str]) -> None:
    """Ask what schemathesis makes of the description, with the known parts of a place put in."""

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.path_parameters |= {name: value for name, value in known.items() if name in case.path_parameters}
        case.headers = {**(case.headers or {}), **PLAIN}
        case.call_and_validate(checks=CHECKS)

    ask()


@pytest.mark.parametrize("path", paths())
def test_whatever_is_asked_there_is_an_answer_as_described(described: Any, path: str) -> None:
    operation = described[path]["GET"]
    fuzz(operation, schemathesis.GenerationMode.POSITIVE, {})
    fuzz(operation, schemathesis.GenerationMode.POSITIVE, {"reident": REIDENT, "stusab": "oh"})
    if operation.path_parameters or operation.query:
        fuzz(operation, schemathesis.GenerationMode.NEGATIVE, {})


def test_the_description_has_no_hosts_and_no_files_of_this_machine(browser: Browser) -> None:
    text = browser.get("/api/openapi.json").text
    assert str(CHECKOUT) not in text
    assert "http://" not in text
