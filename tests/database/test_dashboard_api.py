"""What the dashboard's API tells, to whom, and at what price."""

import base64
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from sqlalchemy import Engine, event, text
from werkzeug.test import Client

from dbrecon.console.status_report import FILES
from dbrecon.ctools.database import Database, make_engine
from dbrecon.dashboard.access import check_host
from dbrecon.dashboard.snapshots import DatabaseAway, Snapshots
from dbrecon.errors import DatabaseError, UsageError
from dbrecon.ledger.ledger import Ledger, SysLoad
from dbrecon.ledger.readings import DashboardReader, NothingThere
from dbrecon.ledger.schema import VERSION
from tests.dashboard_world import API, REIDENT, Browser, fill, settings
from tests.servers import MariaServer

TOKEN = "0123456789abcdef"
R = f"{API}/{REIDENT}"
OHIO = f"{R}/states/oh/counties/059"


@dataclass
class World:
    ledger: Ledger
    database: dict[str, Any]
    folder: Path

    def browser(self, **dashboard: object) -> Browser:
        return Browser(settings(self.folder, self.database, **dashboard))


@pytest.fixture
def fresh(engine: Engine, database: dict[str, Any], tmp_path: Path) -> World:
    """One that a test may change, on SQLite and on MariaDB."""
    return World(fill(engine), database, tmp_path)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One to read, on SQLite and on MariaDB."""
    folder = tmp_path_factory.mktemp("world")
    database = {"sqlite_path": str(folder / "ledger.sqlite3")}
    if request.param == "mariadb":
        server: MariaServer = request.getfixturevalue("mariadb_server")
        database |= {name.lower(): value for name, value in server.settings(server.fresh_database()).items()}
    engine = make_engine(**database)
    yield World(fill(engine), database, folder)
    engine.dispose()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """On SQLite, for what has nothing to do with the database."""
    folder = tmp_path_factory.mktemp("small")
    database = {"sqlite_path": str(folder / "ledger.sqlite3")}
    engine = make_engine(**database)
    yield World(fill(engine), database, folder)
    engine.dispose()


# -- what is told -------------------------------------------------------------------------------------------------------


def test_an_experiment_tells_what_status_tells(world: World) -> None:
    answer, status = world.browser().json(R), world.ledger.status(REIDENT)
    assert answer["files"] == {name: getattr(status, name) for name in FILES}
    assert (answer["people"]["total"], answer["people"]["solved"]) == (status.people, status.people_solved) == (4200, 1600)
    assert answer["quarantined"] == {"tracts": 1, "counties": 0}
    assert answer["completed_states"] == ["de"]
    assert answer["past_hour"] == {"lp": dict(status.lps_past_hour), "sol": dict(status.sols_past_hour)}
    assert abs(answer["at"] - time.time()) < 60


def test_the_cost_is_the_sum_of_what_was_worked(world: World) -> None:
    cost = world.browser().json(R)["cost"]
    assert (cost["lp_processor_seconds"], cost["sol_processor_seconds"]) == pytest.approx((1.7, 5.5))
    assert cost["processor_hours"] == pytest.approx((1.7 + 5.5 + cost["csv_processor_seconds"]) / 3600)


def test_running_slowest_and_quarantined_tracts_are_named(world: World) -> None:
    answer = world.browser().json(R)
    assert [(item["tract"], item["step"], item["host"]) for item in answer["running"]] == [("000300", "sol", "node-b")]
    assert [item["tract"] for item in answer["slowest"]][:1] == ["000100"]
    assert [(item["tract"], item["error"]) for item in answer["quarantine"]] == [
        ("000200", "P0120003 of block 1002 contradicts PCT0120003")
    ]
    assert world.browser().json(f"{R}/running")["total"] == world.browser().json(f"{R}/quarantined")["total"] == 1


def test_states_are_the_sums_of_their_counties(world: World) -> None:
    states = {state["stusab"]: state for state in world.browser().json(f"{R}/states")["states"]}
    counties = world.browser().json(f"{R}/counties")["counties"]
    assert [county["geoid"] for county in counties] == ["10001", "39059"]
    assert (states["de"]["name"], states["de"]["counties_written"], states["de"]["tracts_solved"]) == ("Delaware", 1, 2)
    ohio = counties[1]
    assert {name: ohio[name] for name in ("tracts", "tracts_new", "tracts_lp", "tracts_solved", "tracts_quarantined")} == {
        "tracts": 5, "tracts_new": 1, "tracts_lp": 2, "tracts_solved": 1, "tracts_quarantined": 1,
    }  # fmt: skip
    assert (ohio["tracts_running"], ohio["people_solved"], ohio["name"], ohio["status"]) == (1, 900, "Guernsey", "open")
    assert world.browser().json(f"{R}/counties?stusab=oh")["counties"] == [ohio]


def test_a_county_and_a_tract_tell_everything_that_is_known(world: World) -> None:
    county = world.browser().json(OHIO)
    assert [(tract["tract"], tract["status"], tract["held"]) for tract in county["tracts"]] == [
        ("000100", "solved", False), ("000200", "quarantined", False), ("000300", "lp", True), ("000400", "lp", False),
        ("000500", "new", False), ("000600", "empty", False),
    ]  # fmt: skip
    answer = world.browser().json(f"{OHIO}/tracts/000200")
    assert answer["tract"]["geoid"] == "39059000200"
    assert answer["tract"]["error"].endswith("second line")
    error = world.browser().json(f"{R}/errors/{answer['errors'][0]['id']}")["error"]
    assert (error["stack"], error["file"], error["line"]) == ("Traceback: in build", "recon/model.py", 211)


def test_files_are_looked_for_where_the_experiment_has_them(fresh: World) -> None:
    lp = fresh.folder / "root/2010-re/r1/work/oh/39059/lp/model_39059000100.lp.gz"
    lp.parent.mkdir(parents=True)
    lp.write_bytes(b"12345")
    files = {file["name"]: file for file in fresh.browser().json(f"{OHIO}/tracts/000100/files")["files"]}
    assert (files["lp"]["bytes"], files["lp"]["path"]) == (5, str(lp))
    assert files["sol"]["bytes"] is None
    assert [item["bytes"] for item in fresh.browser().json(f"{OHIO}/files")["files"]] == [None] * 6


def test_files_over_time_are_counted_by_host(world: World) -> None:
    for span in ("1h", "all"):
        answer = world.browser().json(f"{R}/throughput?range={span}")
        files = {kind: sum(row["files"] for row in answer["rows"] if row["kind"] == kind) for kind in ("lp", "sol")}
        assert files == {"lp": 5, "sol": 3}
        assert all((row["at"] - answer["start"]) % answer["step"] == 0 and row["at"] >= answer["start"] for row in answer["rows"])
        assert sum(row["people"] for row in answer["rows"]) == 1600


def test_hosts_tell_load_memory_throughput_and_what_they_hold(world: World) -> None:
    hosts = {host["host"]: host for host in world.browser().json(f"{R}/hosts")["hosts"]}
    assert list(hosts) == ["node-a", "node-b"]
    a, b = hosts["node-a"], hosts["node-b"]
    assert (a["load1"], a["free_memory_mib"], a["sol_past_hour"], sum(a["history"]["sol"])) == (1.5, 4000, 3, 3)
    assert (b["last_report"], b["tracts_held"], b["lp_past_hour"]) == (None, 1, 1)
    assert a["history"]["load1"][-2:].count(1.5) == 1


def change(world: World, statement: str) -> None:
    with world.ledger.engine.connect().execution_options(write=True) as connection, connection.begin():
        connection.execute(text(statement))


def states_of_hosts(world: World) -> dict[str, str]:
    return {host["host"]: host["state"] for host in world.browser().json(f"{R}/hosts")["hosts"]}


def test_tables_of_a_later_version_are_not_read_as_if_they_were_ours(fresh: World) -> None:
    change(fresh, f"INSERT INTO dbr_schema (version, since) VALUES ({VERSION + 1}, 1)")
    reader = DashboardReader(make_engine(**fresh.database))
    with pytest.raises(DatabaseError, match=f"has tables of version {VERSION + 1}, and this program knows"):
        reader.overview("r1")


def test_a_host_works_or_is_idle_and_has_left_or_is_lost_when_it_is_silent(fresh: World) -> None:
    assert states_of_hosts(fresh) == {"node-a": "idle", "node-b": "working"}
    fresh.ledger.record_sysload(SysLoad("node-b", 1.5, 1.0, 0.5, 4000, 16000, 2))
    change(fresh, "UPDATE dbr_sysload SET at = at - 20000")
    assert states_of_hosts(fresh) == {"node-a": "left", "node-b": "working"}, "its heartbeats are heard"
    ago = fresh.ledger.now() - 200
    change(fresh, f"UPDATE r1_tracts SET claimed_at = {ago}, hold_ends = {ago + 300} WHERE hold = 'leased'")
    assert states_of_hosts(fresh) == {"node-a": "left", "node-b": "lost"}
    answer = fresh.browser().json(f"{R}/hosts")
    for host in answer["hosts"]:
        assert answer["at"] - host["last_report"] >= 20000
        assert set(host["history"]["load1"]) == {None}
    change(fresh, "UPDATE r1_tracts SET hold_ends = 5 WHERE hold = 'leased'")
    (host,) = [host_row for host_row in fresh.browser().json(f"{R}/hosts")["hosts"] if host_row["host"] == "node-b"]
    assert (host["tracts_held"], host["tracts_locked"], host["state"]) == (0, 1, "lost")


def test_hosts_of_other_experiments_are_not_told(fresh: World) -> None:
    fresh.ledger.record_sysload(SysLoad("node-c", 1.5, 1.0, 0.5, 4000, 16000, 2))
    assert list(states_of_hosts(fresh)) == ["node-a", "node-b"]


def test_the_page_is_of_one_moment_and_tells_what_its_parts_tell(fresh: World) -> None:
    browser = fresh.browser()
    page = browser.json(f"{R}/page?range=6h")
    parts = {name: browser.json(f"{R}{path}") for name, path in {
        "whole": "", "counties": "/counties", "states": "/states", "hosts": "/hosts", "throughput": "/throughput?range=6h",
        "errors": "/errors",
    }.items()}  # fmt: skip
    moment = {"at", "people"}  # the rate and the time left change with the moment
    assert {name: page[name] for name in parts["whole"] if name not in moment} == {
        name: value for name, value in parts["whole"].items() if name not in moment
    }
    assert page["county_shapes"] == parts["counties"]["county_shapes"] == 2010
    assert page["product_title"] == "2010 Census Summary File 1"
    assert page["state_list"] == parts["states"]["states"]
    for name in ("counties", "errors"):
        assert page[name] == parts[name][name]
    assert [host_row["state"] for host_row in page["hosts"]] == [host_row["state"] for host_row in parts["hosts"]["hosts"]]
    assert page["throughput"]["rows"] == parts["throughput"]["rows"]
    solved = sum(county["tracts_solved"] for county in page["counties"])
    assert solved == page["files"]["sol_created"] == sum(host["sol_past_hour"] for host in page["hosts"])
    assert page["running_tracts"] == sum(host["tracts_held"] for host in page["hosts"])
    assert browser.get(f"{R}/page?range=2h").status_code == 400


def test_the_list_tells_whether_anybody_works_and_what_is_in_quarantine(fresh: World) -> None:
    (first,) = fresh.browser().json(API)["experiments"]
    expected = {"tracts_running": 1, "hosts": ["node-b"], "tracts_quarantined": 1, "people_quarantined": 800,
                "counties_to_write": 0, "counties_quarantined": 0}  # fmt: skip
    assert {name: first[name] for name in expected} == expected
    change(fresh, "UPDATE r1_tracts SET hold_ends = 5 WHERE hold = 'leased'")
    (first,) = fresh.browser().json(API)["experiments"]
    assert (first["tracts_running"], first["hosts"]) == (0, [])


@pytest.mark.parametrize(
    "path",
    ["nope", "nope/counties", "r1/states/oh/counties/061", "r1/states/oh/counties/059/tracts/999999", "r1/errors/999",
     "r1/counties?stusab=ny", "r1/states/xx/counties/059/files", "r1_tracts",
     "a;drop", "r1/errors/x", "r1/states/OH/counties/059", "ñ", "r1/nothing"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(world: World, path: str) -> None:
    response = world.browser().get(f"{API}/{path}")
    assert (response.status_code, response.mimetype) == (404, "application/problem+json")
    assert '"detail": "' in response.text


@pytest.mark.parametrize(
    "path", ["throughput?range=2h", "errors?limit=0", "errors?limit=501", "errors?limit=x", "counties?stusab=Ohio"]
)
def test_a_wrong_parameter_is_refused_in_a_sentence(small: World, path: str) -> None:
    assert "must be" in small.browser().json(f"{R}/{path}", 400)["detail"]


def test_a_database_without_any_experiment_is_told_as_such(engine: Engine, database: dict[str, Any], tmp_path: Path) -> None:
    assert Ledger(engine).experiments() == []
    assert Browser(settings(tmp_path, database)).json("/api/re-recon")["experiments"] == []


def test_an_experiment_that_is_dropped_meanwhile_is_not_found_any_more(fresh: World) -> None:
    browser = fresh.browser()
    browser.json(R)
    fresh.ledger.drop(REIDENT)
    browser.json(R, 404)
    assert browser.json("/api/re-recon")["experiments"] == []


# -- who may see it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "address", "status"),
    [
        ("http://localhost:8050", "127.0.0.1", 200),
        ("http://[::1]:8050", "::1", 200),
        ("http://127.0.0.1:8050", "192.0.2.7", 403),  # another machine
        ("http://evil.example", "127.0.0.1", 403),  # a name that was made to point here
        ("http://recon.example", "127.0.0.1", 200),  # a proxy's name, from the settings
    ],
)
def test_without_a_token_this_machine_alone_is_answered(small: World, base: str, address: str, status: int) -> None:
    browser = small.browser(names="recon.example, other.example")
    for path in ("/", "/api/re-recon", "/static/main.js"):
        assert browser.get(path, base, address).status_code == status


def test_with_a_token_everyone_is_asked_for_it(small: World) -> None:
    browser = small.browser(token=TOKEN)
    basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    wrong = base64.b64encode(f"{TOKEN}:wrong".encode()).decode()
    refused = browser.get("/", "http://127.0.0.1")
    assert (refused.status_code, refused.headers["WWW-Authenticate"].split()[0]) == (401, "Basic")
    asked = [(f"Basic {basic}", 200), (f"Bearer {TOKEN}", 200), (f"Basic {wrong}", 401), ("Bearer é", 401), ("x", 401)]
    for header, status in asked:
        assert browser.get(R, "http://anything.example", "192.0.2.7", Authorization=header).status_code == status
    assert browser.get("/api/health", "http://anything.example", "192.0.2.7").status_code == 200


def test_a_token_that_can_be_guessed_is_refused(small: World) -> None:
    with pytest.raises(UsageError, match="too short"):
        small.browser(token="secret")


def test_other_machines_are_not_let_in_without_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(UsageError, match="set a token"):
            check_host(host, None)
        check_host(host, TOKEN)
    for host in ("127.0.0.1", "::1", "localhost"):
        check_host(host, None)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed_over_the_web(small: World, method: str) -> None:
    for path in ("/", R, "/api/re-recon", OHIO):
        assert small.browser().get(path, method=method).status_code == 405


def test_the_dashboards_connection_cannot_write(world: World) -> None:
    reader = DashboardReader(make_engine(**world.database))
    with pytest.raises(DatabaseError):
        reader._read(lambda connection: connection.execute(text("DELETE FROM r1_tracts")))
    assert world.ledger.status(REIDENT).sol_created == 3


def test_every_answer_carries_a_strict_policy(small: World) -> None:
    for path in ("/", "/static/main.js", R, "/api/openapi.json", "/nothing"):
        headers = small.browser().get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "vendor/SOURCES.json", "index.html", "", "/etc/passwd"])
def test_only_the_pages_own_files_are_served(small: World, name: str) -> None:
    assert small.browser().get(f"/static/{name}").status_code in (404, 308)


def test_the_page_is_there_under_every_address_that_a_reader_may_keep(small: World) -> None:
    browser = small.browser()
    for path in ("/", "/re-recon.html", "/re-recon/r1", "/re-recon/r1/oh", "/re-recon/r1/oh/059", "/re-recon/r1/oh/059/000100"):
        response = browser.get(path)
        assert (response.status_code, response.mimetype) == (200, "text/html")
        assert 'src="/static/main.js"' in response.text


def test_below_a_path_of_a_proxy_every_address_has_that_path(small: World) -> None:
    response = Client(small.browser().app).get("/", base_url="http://localhost/recon/")
    assert 'data-root="/recon"' in response.text
    assert 'src="/recon/static/main.js"' in response.text


@pytest.mark.filterwarnings("error")
def test_the_application_keeps_the_rules_of_wsgi(small: World) -> None:
    client = Client(validator(small.browser().app))
    for path in ("/", R, "/static/vendor/counties.json", "/nothing"):
        with client.get(path, base_url="http://localhost") as response:
            assert response.get_data()


# -- at what price ------------------------------------------------------------------------------------------------------


def test_an_answer_that_the_client_has_is_not_sent_again(small: World) -> None:
    browser = small.browser(max_age=60)
    first = browser.get(R)
    again = browser.get(R, If_None_Match=first.headers["ETag"])
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert browser.get(R, If_None_Match='"another"').status_code == 200
    packed = browser.get(R, Accept_Encoding="gzip")
    assert (packed.headers["Content-Encoding"], packed.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert len(packed.data) < len(first.data)


def test_a_hundred_viewers_cost_one_reading() -> None:
    readings, answers = [], []
    snapshots = Snapshots(60)

    def read() -> dict[str, Any]:
        readings.append(1)
        time.sleep(0.05)
        return {"value": 7}

    viewers = [threading.Thread(target=lambda: answers.append(snapshots.get("key", read).body)) for _ in range(100)]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join()
    assert (len(readings), len(set(answers)), len(answers)) == (1, 1, 100)


def test_within_its_age_an_answer_costs_no_query(small: World) -> None:
    browser, statements = small.browser(max_age=60), []
    browser.json(R)

    def listen(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        for _ in range(5):
            browser.json(R)
        assert statements == []
        browser.json(OHIO)
        assert statements != []
    finally:
        event.remove(Engine, "before_cursor_execute", listen)


def test_a_slow_database_does_not_hold_viewers_who_have_an_answer() -> None:
    snapshots, wait = Snapshots(0, patience=0.05), threading.Event()
    assert snapshots.get("key", lambda: {"value": 1}).silent_since is None

    def slow() -> dict[str, Any]:
        wait.wait(30)
        return {"value": 2}

    try:
        held = snapshots.get("key", slow)
        assert (b'"value":1' in held.body, held.silent_since is not None) == (True, True)
        assert snapshots.get("key", slow) == held
    finally:
        wait.set()
    deadline = time.monotonic() + 10
    while b'"value":2' not in (answer := snapshots.get("key", slow)).body and time.monotonic() < deadline:
        time.sleep(0.01)
    assert answer.silent_since is None


def test_what_is_not_there_is_not_remembered() -> None:
    snapshots = Snapshots(60)

    def nothing() -> dict[str, Any]:
        raise NothingThere("nothing")

    with pytest.raises(NothingThere):
        snapshots.get("key", nothing)
    assert snapshots.get("key", lambda: {"value": 1}).silent_since is None


def test_a_database_that_is_away_is_asked_again_only_after_a_while() -> None:
    snapshots, attempts = Snapshots(60), []

    def away() -> dict[str, Any]:
        attempts.append(1)
        raise DatabaseError("away")

    for _ in range(3):
        with pytest.raises(DatabaseAway):
            snapshots.get("key", away)
    assert len(attempts) == 1


@pytest.mark.mariadb
def test_while_the_database_is_away_the_last_answer_is_told_and_marked(
    mariadb_server: MariaServer, mariadb_env: dict[str, str], tmp_path: Path
) -> None:
    database: dict[str, Any] = {"sqlite_path": "", **{name.lower(): value for name, value in mariadb_env.items()}}
    world = World(fill(make_engine(**database)), database, tmp_path)
    browser = world.browser()
    before = browser.json(R)
    mariadb_server.stop()
    try:
        answer = browser.json(R)
        assert answer["database"]["answers"] is False
        assert answer["database"]["silent_since"] >= before["at"] - 2
        assert {**answer, "database": None} == {**before, "database": None}
        never_told = browser.get(OHIO)
        assert (never_told.status_code, never_told.mimetype) == (503, "application/problem+json")
        assert "does not answer" in never_told.text
        assert database["mysql_password"] not in never_told.text
        assert browser.get("/api/health").status_code == 503
    finally:
        mariadb_server.start()
    assert browser.json(R)["database"] == {"answers": True, "silent_since": None}
    assert browser.json("/api/health") == {"status": "ok"}


def test_a_reader_sees_one_state_of_the_data(fresh: World) -> None:
    """What others commit between two of its statements does not show: sums agree with each other."""
    reader, seen = DashboardReader(make_engine(**fresh.database)), []

    def twice(connection: Any) -> None:
        for _ in range(2):
            seen.append(connection.execute(text("SELECT COUNT(*) FROM r1_tracts WHERE status = 'solved'")).scalar_one())
            if len(seen) == 1:
                change = Database(fresh.ledger.engine)
                change.run(lambda other: other.execute(text("UPDATE r1_tracts SET status = 'lp'")), write=True)

    reader._read(twice)
    assert seen == [3, 3]
