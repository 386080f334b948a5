"""--watch: what its page says, and how it behaves on a terminal and in a pipe."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from dbrecon.console.live_status import page
from dbrecon.console.status_report import format_status
from dbrecon.ctools.database import make_engine
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import (
    CertaintyStatus,
    Holder,
    InProgress,
    LpStats,
    Quarantine,
    SolStats,
    Status,
    SysLoad,
    SysLoadEntry,
    Worker,
)
from tests.console_world import Operator, assert_refused
from tests.helpers import TractRow, geography
from tests.servers import MariaServer

NOW = 1_800_000_000


def status(**changes: object) -> Status:
    """Half done: 4 tracts of 8, at 1,000 people an hour."""
    values = {
        "now": NOW, "completed_states": ("de",), "lp_created": 6, "lp_remaining": 2, "lp_in_process": 1, "lp_hostlocked": 0,
        "sol_created": 4, "sol_remaining": 4, "sol_ready": 2, "csv_completed": 2, "csv_remaining": 6, "sols_in_progress": (),
        "lps_past_hour": (("n1", 6),), "sols_past_hour": (("n1", 3), ("n2", 1)),
        "lps_in_progress": (InProgress("oh", "001", "000100", 9, "n2", NOW - 5),),
        "quarantined": (), "quarantined_tracts": 0, "quarantined_counties": 0, "people": 4000, "people_solved": 1500,
        "people_quarantined": 0, "people_per_hour": 1000.0, "seconds_left": 9000.0, "at_work": True, "silent": (),
    }  # fmt: skip
    return Status(**(values | changes))  # type: ignore[arg-type]


def load(host: str, at: int) -> SysLoadEntry:
    return SysLoadEntry(at, SysLoad(host, 3.5, 2.0, 1.0, 51200, 65536, 2))


def test_the_page_has_bars_the_rate_the_time_left_and_each_host_s_share() -> None:
    lines = page("r1", status(), [load("n1", NOW - 30)], None)
    text = "\n".join(lines)
    assert re.search(r"solutions \[#{20}\.{20}\]  50\.0 %  4 of 8 tracts", text)
    assert re.search(r"LP files \[#{30}\.{10}\]  75\.0 %", text)
    assert "1,500 of 4,000 people solved, 1,000 people an hour, 2 h 30 min left" in text
    assert re.search(r"^n1 +0 +6 +3 +3\.50 +50\.0 GiB$", text, re.M)
    assert re.search(r"^n2 +1 +0 +1 +-$", text, re.M)


def test_a_host_that_is_silent_while_it_holds_tracts_is_named_with_the_remedy() -> None:
    gone = status(silent=(Holder("n2", 2, 1, lease_end=NOW + 100, heard_at=NOW - 200, silent=True),))
    line = (
        "n2 was not heard of for 3 min 20 s and holds 2 tracts and 1 county: free when its lease ends, in 1 min 40 s, "
        "or now with --unlock n2"
    )
    assert line in page("r1", gone, [load("n1", NOW - 30)], None)
    assert f"   {line}" in format_status(gone).splitlines()
    ended = status(silent=(Holder("n2", 2, 0, lease_end=NOW - 100, heard_at=NOW - 400, silent=True),))
    assert "holds 2 tracts: free for the next scheduler that claims it, or now with" in "\n".join(page("r1", ended, [], None))


def test_the_page_names_what_is_wrong() -> None:
    bad = (Quarantine("oh", "001", "000100", 9, 3, "infeasible\nmore"),)
    text = "\n".join(page("r1", status(quarantined=bad, quarantined_tracts=1, lp_hostlocked=2), [], None))
    assert "quarantined: 1, the first oh 001 000100: infeasible" in text
    assert "held by hosts that are heard of no more: 2" in text


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(len(line) for line in page("r1", status(), [load("n1", NOW)], width)) <= width


def test_step_6_has_its_bar_and_section_where_it_has_begun() -> None:
    begun = status(certainty=CertaintyStatus(created=1, remaining=3, in_process=2, counties_created=0, counties_remaining=2))
    assert "certainty" not in "\n".join(page("r1", status(), [], None))
    assert "Certainty" not in format_status(status())
    assert re.search(r"certainty \[#{10}\.{30}\]  25\.0 %  1 of 4 tracts", "\n".join(page("r1", begun, [], None)))
    section = "certainty_created: 1\n   certainty_remaining: 3\n   certainty_in_process: 2\n   certainty_counties: 0 of 2\n"
    assert f"Certainty (step 6)\n   {section}" in format_status(begun)


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[tuple[Operator, Ledger]]:
    """An experiment of two tracts in SQLite."""
    engine = make_engine(sqlite_path=tmp_path / "2010-re" / "dbrecon.sqlite3")
    ledger = Ledger(engine)
    ledger.register("r1", "all", "sf1_2010")
    ledger.replace_geography("r1", "de", geography([TractRow("10", "001", f"00010{i}", 100) for i in range(2)]))
    yield Operator(tmp_path / "home", "", {"DAS_S3ROOT": str(tmp_path), "REIDENT": "r1"}), ledger
    engine.dispose()


def test_on_a_terminal_it_is_refreshed_in_place_until_ctrl_c_and_leaves_its_last_page(watcher: tuple[Operator, Ledger]) -> None:
    code, shown = watcher[0].on_terminal("--watch", "1", until="0 of 2 tracts", keys=bytes([3]))
    assert code == 0
    assert "\x1b[H" in shown
    assert shown.rindex("\x1b[?1049l") < shown.rindex("0 of 2 tracts"), "the last page stays"
    assert "Traceback" not in shown


def test_in_a_pipe_it_ends_when_all_is_done_or_quarantined(watcher: tuple[Operator, Ledger]) -> None:
    operator, ledger = watcher
    first, second = ledger.claim("r1", Worker("n1", "1-1"), limit=2)
    ledger.solved(first, SolStats("HiGHS", 1.0), LpStats(10, 10, 10, 1.0))
    ledger.failed(second, "no licence", 1)
    result = operator.run("--watch", "1")
    assert result.returncode == 10
    assert "\x1b" not in result.stdout
    assert "quarantined: 1, the first de 001 00010" in result.stdout


def test_watching_goes_on_until_step_6_is_done_too(watcher: tuple[Operator, Ledger]) -> None:
    operator, ledger = watcher
    for claim in ledger.claim("r1", Worker("n1", "1-1"), limit=2):
        ledger.solved(claim, SolStats("HiGHS", 1.0), LpStats(10, 10, 10, 1.0))
    county = ledger.claim_county("r1", Worker("n1", "1-1"))
    assert county is not None
    ledger.csv_written(county)
    assert operator.run("--watch", "1").returncode == 0
    tracts = ledger.claim_certainty("r1", Worker("n1", "1-1"), limit=2)
    watching = operator.start("--watch", "1")
    line_with(watching.stdout, "0 of 2 tracts")
    for tract in tracts:
        ledger.certainty_written(tract)
    (files,) = ledger.claim_certainty("r1", Worker("n1", "1-1"))
    ledger.certainty_written(files)
    shown, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    assert re.search(r"certainty \[#{40}\]   100 %  2 of 2 tracts", shown)


def test_an_experiment_that_is_none_is_refused(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "home", "", {"DAS_S3ROOT": str(tmp_path), "REIDENT": "r1"})
    operator.done("--register", "r2")
    assert_refused(operator.run("--watch"), 5, "r1 is not registered")


def line_with(stream: IO[str] | None, *words: str) -> str:
    """The next line that has one of the words."""
    assert stream is not None
    for line in stream:
        if any(word in line for word in words):
            return line
    pytest.fail(f"it ended without {words}")


@pytest.mark.mariadb
def test_a_database_that_goes_away_is_said_and_asked_again(
    mariadb_server: MariaServer, mariadb_env: dict[str, str], tmp_path: Path
) -> None:
    operator = Operator(tmp_path / "home", "", mariadb_env | {"DAS_S3ROOT": str(tmp_path), "REIDENT": "r1"})
    engine = make_engine(sqlite_path="", **{name.lower(): value for name, value in mariadb_env.items()})
    ledger = Ledger(engine)
    ledger.register("r1", "all", "sf1_2010")
    ledger.replace_geography("r1", "de", geography([TractRow("10", "001", "000100", 100)]))
    process = operator.start("--watch", "1")
    try:
        line_with(process.stdout, "0 of 1 tracts")
        mariadb_server.kill()
        assert "127.0.0.1" in line_with(process.stderr, "does not answer")
        mariadb_server.start()
        line_with(process.stdout, "0 of 1 tracts")
        engine.dispose()
        (claim,) = ledger.claim("r1", Worker("n1", "1-1"))
        ledger.failed(claim, "no licence", 1)
        process.communicate(timeout=60)
        assert process.returncode == 10
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None and process.stderr is not None:
            process.stdout.close()
            process.stderr.close()
        engine.dispose()
