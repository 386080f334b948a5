"""A small country in a ledger for the tests of the dashboard: every state that a tract can be in, hosts, errors."""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from werkzeug.test import Client, TestResponse

from dbrecon.dashboard.app import create_app
from dbrecon.ledger.ledger import ErrorReport, GeoRow, Ledger, LpStats, SolStats, SysLoad, Worker
from dbrecon.place import Place
from dbrecon.settings import Config
from tests.helpers import TractRow, geography

REIDENT = "r1"
API = "/api/v1/experiments"
LOCAL = "http://127.0.0.1:8050"


def fill(engine: Engine) -> Ledger:
    """Two states: Delaware solved and written, Ohio with one tract of each kind (quarantined, held, LP made, new, empty)."""
    ledger = Ledger(engine)
    ledger.register(REIDENT, "all", "2010_sf1")
    add_state(ledger, "de", "10", {"001": [400, 300]})
    add_state(ledger, "oh", "39", {"059": [900, 800, 700, 600, 500, 0]})
    node = Worker("node-a", "1-1")
    for _ in range(2):
        (claim,) = ledger.claim(REIDENT, node, place=Place("de"), lease_seconds=600)
        ledger.solved(claim, SolStats("HiGHS 1.15.1", 1.5, 140), LpStats(900, 500, 4000, 0.25))
    county = ledger.claim_county(REIDENT, node)
    assert county is not None
    ledger.csv_written(county, 1.0)
    (first,) = ledger.claim(REIDENT, node, place=Place("oh"), lease_seconds=600)
    ledger.solved(first, SolStats("HiGHS 1.15.1", 2.5, 150), LpStats(2000, 900, 9000, 0.5))
    (second,) = ledger.claim(REIDENT, node, place=Place("oh"))
    assert ledger.failed(second, "P0120003 of block 1002 contradicts PCT0120003\nsecond line", 1)
    report = ErrorReport(REIDENT, "node-a", 77, "P0120003 of block 1002 contradicts PCT0120003", "recon/model.py", 211,
                         "Traceback: in build", "oh", "059", "000200")  # fmt: skip
    ledger.record_error(report)
    (third,) = ledger.claim(REIDENT, Worker("node-b", "2-2"), place=Place("oh"), lease_seconds=6000)
    ledger.lp_written(third, LpStats(1500, 700, 7000, 0.4), keep_claim=True)
    (fourth,) = ledger.claim(REIDENT, node, place=Place("oh"), steps=(3,))
    ledger.lp_written(fourth, LpStats(1000, 600, 6000, 0.3))
    ledger.record_sysload(SysLoad("node-a", 1.5, 1.0, 0.5, 4000, 16000, 2))
    return ledger


def add_state(ledger: Ledger, stusab: str, state: str, counties: dict[str, list[int]]) -> None:
    """A state whose counties have tracts of so many people, the first numbered 000100."""
    geo = [
        GeoRow("050", "00", number, state, county, "", "", f"County {county}", sum(pops), 1, 1, 1, 40.0, -80.0)
        for number, (county, pops) in enumerate(sorted(counties.items()), 1)
    ]
    tracts = [
        TractRow(state, county, f"{100 * number:06d}", pop)
        for county, pops in counties.items()
        for number, pop in enumerate(pops, 1)
    ]
    ledger.replace_geography(REIDENT, stusab, [*geo, *geography(tracts)])


def settings(folder: Path, database: dict[str, Any], **dashboard: object) -> Config:
    """The settings of a dashboard on this database; an answer is read anew each time unless ``max_age`` says otherwise."""
    path = folder / "dashboard.ini"
    lines = [f"{name} = {value}" for name, value in ({"max_age": 0} | dashboard).items()]
    path.write_text("[dashboard]\n" + "\n".join(lines) + f"\n[db]\nsqlite = {database['sqlite_path']}\n", encoding="utf-8")
    env = {name.upper(): str(value) for name, value in database.items() if name.startswith("mysql")}
    return Config.load(str(path), env=env | {"DAS_S3ROOT": str(folder / "root")})


class Browser:
    """Asks an application as a browser on the same machine does."""

    def __init__(self, config: Config) -> None:
        self.app = create_app(config)
        self._client = Client(self.app)

    def get(self, path: str, base: str = LOCAL, address: str = "127.0.0.1", method: str = "GET", **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.open(path, method=method, base_url=base, headers=named, environ_overrides={"REMOTE_ADDR": address})

    def json(self, path: str, status: int = 200) -> Any:
        response = self.get(path)
        assert response.status_code == status, response.text
        return response.json
