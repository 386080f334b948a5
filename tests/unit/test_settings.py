"""What an operator may write in config.ini and the environment, and what is said about what he may not."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import mypy.api
import pytest

from dbrecon import settings as dbrecon
from dbrecon.errors import UsageError
from dbrecon.experiment import MAX_REIDENT, Experiment, check_reident
from dbrecon.paths import HOME
from dbrecon.settings import Config
from dbrecon.states import STATES, check_stusab


def load(tmp_path: Path, text: str, env: dict[str, str] | None = None, hostname: str = "ip-10-1.example.org") -> Config:
    path = tmp_path / "config.ini"
    path.write_text(text, encoding="utf-8")
    return Config.load(str(path), env=env or {}, hostname=hostname)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    return str(caught.value)


def test_the_shipped_file_changes_no_default(tmp_path: Path) -> None:
    assert Config.load(dbrecon.DEFAULT_CONFIG, env={}) == load(tmp_path, "")


def test_the_shipped_file_shows_every_setting_with_its_default() -> None:
    text = Path(dbrecon.DEFAULT_CONFIG).read_text(encoding="utf-8")
    shown = re.findall(r"^# (\w+) =[ ]?(.*)$", text, re.MULTILINE)
    assert shown == [(setting.name, setting.default) for setting in dbrecon.SETTINGS]


def test_the_settings_table_has_a_row_for_each() -> None:
    rows = dbrecon.settings_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [f"[{setting.section}] {setting.name}" for setting in dbrecon.SETTINGS]


def test_every_row_of_the_settings_table_has_three_cells() -> None:
    assert {row.count("|") for row in dbrecon.settings_table().splitlines()} == {4}


def test_a_value_of_the_file_beats_the_default(tmp_path: Path) -> None:
    assert load(tmp_path, "[run]\nmax_lp = 4\n").run.max_lp == 4


def test_values_have_their_settings_types(tmp_path: Path) -> None:
    config = load(tmp_path, "[solve]\ntime_limit = 1.5\nseed = 7\nsolver = highs\n")
    assert (config.solve.time_limit, config.solve.seed, config.solve.solver) == (
        1.5,
        7,
        "highs",
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("max_lp = 1\nmax_lp@ip-10-1 = 2", 2),
        ("max_lp@ip-10-1 = 2\nmax_lp = 1", 2),
        ("max_lp@ip-10-1.example.org = 3\nmax_lp@ip-10-1 = 2\nmax_lp = 1", 3),
        ("max_lp = 1\nmax_lp@IP-10-1 = 2", 2),
        ("max_lp = 1\nmax_lp@ip-10-2 = 2", 1),
        ("max_lp@ip-10-2 = 2", 0),
    ],
)
def test_a_host_of_its_own_beats_the_general_value(tmp_path: Path, lines: str, expected: int) -> None:
    assert load(tmp_path, f"[run]\n{lines}\n").run.max_lp == expected


@pytest.mark.parametrize("written", ["$DATA/x", "${DATA}/x"])
def test_variables_of_the_environment_are_filled_in(tmp_path: Path, written: str) -> None:
    assert load(tmp_path, f"[paths]\nroot = {written}\n", {"DATA": "/data"}).root() == "/data/x"


def test_what_a_variable_holds_is_not_expanded_again(tmp_path: Path) -> None:
    env = {"MYSQL_PASSWORD": "pa$HOME%(x)s$$", "HOME": "no"}
    assert load(tmp_path, "", env).db.mysql_password == "pa$HOME%(x)s$$"


def test_two_dollars_are_one(tmp_path: Path) -> None:
    assert load(tmp_path, "[db]\nmysql_password = a$$b\n").db.mysql_password == "a$b"


def test_a_setting_whose_variable_is_not_set_is_not_set(tmp_path: Path) -> None:
    assert load(tmp_path, "").db.mysql_host is None


def test_a_password_may_be_empty(tmp_path: Path) -> None:
    assert load(tmp_path, "", {"MYSQL_PASSWORD": ""}).db.mysql_password == ""


def test_no_root_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"set DAS_S3ROOT to a folder or to s3://bucket/prefix"):
        load(tmp_path, "").root()


@pytest.mark.parametrize("env", [{}, {"NOPE": ""}])
def test_a_root_with_a_variable_that_is_not_set_names_setting_and_variable(tmp_path: Path, env: dict[str, str]) -> None:
    written = "$NOPE" if env else "$NOPE/x"
    with pytest.raises(UsageError) as caught:
        load(tmp_path, f"[paths]\nroot = {written}\n", env).root()
    assert str(caught.value).startswith(f"{tmp_path}/config.ini: [paths] root = {written} needs NOPE, not set in the environment")
    assert "DAS_S3ROOT" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("/data/", "/data"),
        ("s3://bucket/a/b//", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("/a/../b", "/b"),
    ],
)
def test_a_root_has_one_spelling(tmp_path: Path, given: str, root: str) -> None:
    assert load(tmp_path, "", {"DAS_S3ROOT": given}).root() == root


def test_a_relative_root_is_fixed_where_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path, "", {"DAS_S3ROOT": "data"}).root() == str(tmp_path / "data")


@pytest.mark.parametrize("bad", ["s3://", "s3:///x", "hdfs://x/y", "http://host/x"])
def test_a_root_that_is_neither_folder_nor_bucket_is_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(UsageError, match=re.escape(bad)):
        load(tmp_path, "", {"DAS_S3ROOT": bad}).root()


def test_without_mysql_the_database_is_a_file_under_the_root(tmp_path: Path) -> None:
    arguments = load(tmp_path, "", {"DAS_S3ROOT": "/data"}).database()
    assert (arguments["mysql_host"], arguments["sqlite_path"]) == (None, "/data/2010-re/dbrecon.sqlite3")


def test_mysql_is_used_where_its_host_is_set(tmp_path: Path) -> None:
    env = {"MYSQL_HOST": "db1", "MYSQL_DATABASE": "d", "MYSQL_USER": "u", "MYSQL_PASSWORD": "p"}
    assert load(tmp_path, "[db]\nmysql_port = 3307\n", env).database() == {
        "mysql_host": "db1",
        "mysql_database": "d",
        "mysql_user": "u",
        "mysql_password": "p",
        "mysql_port": 3307,
        "mysql_ssl_ca": None,
        "sqlite_path": "",
    }


def test_sqlite_cannot_live_on_s3(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"s3://b/p is on S3, where SQLite cannot live: set MYSQL_HOST"):
        load(tmp_path, "", {"DAS_S3ROOT": "s3://b/p"}).database()


def test_a_file_of_the_checkout_is_found_from_anywhere(tmp_path: Path) -> None:
    experiment = Experiment.make("r1", load(tmp_path, "", {"DAS_S3ROOT": "/data"}))
    assert experiment.tables_path == os.path.join(str(HOME), "config/products/sf1_2010/tables.toml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[rum]\nmax_lp = 4\n", r"no section \[rum\]; did you mean run\?"),
        ("[run]\nmax_pl = 4\n", r"\[run\] has no setting max_pl; did you mean max_lp\?"),
        ("[run]\nmax_pl@elsewhere = 4\n", r"\[run\] has no setting max_pl"),
        ("[run]\nmax_lp = four\n", r"\[run\] max_lp = four must be a whole number"),
        ("[run]\nmax_lp = 4.5\n", r"\[run\] max_lp = 4.5 must be a whole number"),
        ("[run]\nmax_lp = -1\n", r"\[run\] max_lp = -1 must be at least 0"),
        ("[db]\nmysql_port = 99999\n", r"\[db\] mysql_port = 99999 must be at most 65535"),
        ("[solve]\ntime_limit = soon\n", r"\[solve\] time_limit = soon must be a number"),
        ("[solve]\ntime_limit = nan\n", r"\[solve\] time_limit = nan must be at least"),
        ("[solve]\ntime_limit = inf\n", r"\[solve\] time_limit = inf must be at most"),
        ("[cluster]\nssh_seconds = 1e17\n", r"\[cluster\] ssh_seconds = 1e17 must be at most 31536000"),
        ("[solve]\nsolver = cplex\n", r"\[solve\] solver = cplex must be one of auto, highs, gurobi"),
        ("[run]\nheartbeat_seconds = 200\n", r"heartbeat_seconds \(200\) must be at most half of lease_seconds \(300\)"),
        ("max_lp = 4\n", "is not a settings file"),
        ("[run]\nmax_lp = 4\nmax_lp = 5\n", "is not a settings file"),
    ],
)
def test_a_slip_in_the_file_is_named_with_the_file(tmp_path: Path, text: str, sentence: str) -> None:
    said = refused(tmp_path, text)
    assert said.startswith(str(tmp_path / "config.ini"))
    assert re.search(sentence, said)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the environment's MYSQL_PORT: abc must be a whole number."),
        ("[db]\nmysql_port = $MYSQL_PORT\n", "[db] mysql_port = abc (by the environment's MYSQL_PORT) must be a whole number."),
    ],
)
def test_a_slip_in_the_environment_is_named_with_its_variable(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text, {"MYSQL_PORT": "abc"})
    assert str(caught.value).endswith(sentence)
    assert text or "config.ini" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("written", ["", "$NOT_SET"])
def test_a_setting_that_must_be_has_its_default_where_it_is_empty(tmp_path: Path, written: str) -> None:
    config = load(tmp_path, f"[solve]\nsolver = {written}\nseed = {written}\n[spark]\nmaster = {written}\n")
    assert config == load(tmp_path, "")


def test_every_default_is_within_its_own_limits() -> None:
    """What a section has by itself is what an empty file gives."""
    assert Config.load(dbrecon.DEFAULT_CONFIG, env={}) == Config()


@pytest.mark.slow
@pytest.mark.parametrize("slip", ["config.run.lease_second", "config.rum", "len(config.run.lease_seconds)"])
def test_a_misspelt_setting_fails_the_type_check(slip: str) -> None:
    program = f"from dbrecon.settings import Config\nconfig = Config()\n{slip}\n"
    said, _, code = mypy.api.run(["--config-file", str(HOME / "pyproject.toml"), "-c", program])
    assert (code, "<string>:3: error" in said) == (1, True), said


def test_a_settings_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.ini: the settings cannot be read"):
        Config.load(str(tmp_path / "none.ini"), env={})


def test_a_variable_names_another_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "other.ini"
    path.write_text("[run]\nmax_lp = 17\n")
    assert Config.load(env={"DBRECON_CONFIG": str(path)}).run.max_lp == 17


def test_a_configuration_does_not_show_its_secrets(tmp_path: Path) -> None:
    config = load(tmp_path, "", {"MYSQL_PASSWORD": "hush", "DAS_S3ROOT": "/data"})
    assert "hush" not in repr(Experiment.make("r1", config))


def test_an_experiment_reaches_a_worker_as_it_is(tmp_path: Path) -> None:
    experiment = Experiment.make("r1", load(tmp_path, "[run]\nmax_lp = 4\n", {"DAS_S3ROOT": "/data"}), "block")
    assert pickle.loads(pickle.dumps(experiment)) == experiment


@pytest.mark.parametrize("root", ["/data", "s3://bucket/prefix"])
def test_every_artifact_lies_where_the_manual_says(tmp_path: Path, root: str) -> None:
    experiment = Experiment.make("orig", load(tmp_path, "", {"DAS_S3ROOT": root}))
    base = f"{root}/2010-re/orig"
    county = f"{base}/work/oh/39059"
    assert experiment.dist_zip("oh") == f"{base}/dist/oh2010.sf1.zip"
    assert experiment.geofile("oh") == f"{base}/work/oh/geofile_oh.csv"
    assert experiment.county_dir("oh", "059") == county
    assert experiment.block_csv("oh", "059") == f"{county}/sf1_block_39059.csv"
    assert experiment.tract_csv("oh", "059") == f"{county}/sf1_tract_39059.csv"
    assert experiment.lp("oh", "059", "977100") == f"{county}/lp/model_39059977100.lp.gz"
    assert experiment.ilp("oh", "059", "977100") == f"{county}/lp/model_39059977100.ilp"
    assert experiment.sol("oh", "059", "977100") == f"{county}/sol/model_39059977100.sol.gz"
    assert experiment.synth_out("oh", "059") == f"{county}/synth_out_39059.csv"


@pytest.mark.parametrize("tables", ["", "P1 P12", "all-", "P1-P12", "P1,,P12", "all;drop", "P1/../x"])
def test_tables_of_an_experiment_are_words_of_names(tmp_path: Path, tables: str) -> None:
    with pytest.raises(UsageError, match=r"tables are all, block, all but some \(all-P8-P10\), or a list"):
        Experiment.make("r1", load(tmp_path, "", {"DAS_S3ROOT": "/data"}), tables)


@pytest.mark.parametrize("name", ["orig", "R", "s005080090050030", "a_b", "sqlite1", "x" * MAX_REIDENT])
def test_a_good_reident_is_taken(name: str) -> None:
    assert check_reident(name) == name


@pytest.mark.parametrize("name", ["2010x", "a;drop", "", "_a", "a-b", "a b", "a.b", "é1", "a\n", "a/b", "x" * (MAX_REIDENT + 1)])
def test_a_bad_reident_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(UsageError, match="a REIDENT begins with a letter and has letters, digits and underscores only"):
        check_reident(name)


@pytest.mark.parametrize("name", ["sqlite", "SQLite_2"])
def test_a_reident_that_sqlite_keeps_for_itself_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="SQLite keeps table names"):
        check_reident(name)


def test_the_longest_reident_fits_mysqls_table_names() -> None:
    assert len("x" * MAX_REIDENT + "_counties") <= 64


def test_there_are_fifty_states_and_two_more() -> None:
    assert len({state.fips for state in STATES.values()}) == 52


@pytest.mark.parametrize(
    ("stusab", "fips", "url_name"),
    [("oh", "39", "Ohio"), ("nd", "38", "North_Dakota"), ("dc", "11", "District_of_Columbia"), ("al", "01", "Alabama")],
)
def test_a_state_has_its_code_and_its_folder(stusab: str, fips: str, url_name: str) -> None:
    state = STATES[stusab]
    assert (state.fips, state.url_name) == (fips, url_name)


@pytest.mark.parametrize("written", ["OH", "oh", " Oh "])
def test_a_state_may_be_written_in_capitals(written: str) -> None:
    assert check_stusab(written) == "oh"


@pytest.mark.parametrize(("written", "nearest"), [("Ohio", "oh"), ("39", "oh"), ("tx2", "tx"), ("n dakota", "nd")])
def test_an_unknown_state_is_refused_with_the_nearest_first(written: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"is no state; .* the nearest first: {nearest}, "):
        check_stusab(written)


def test_step_0_finds_a_state_where_the_census_bureau_has_it(tmp_path: Path) -> None:
    own = "https://www2.census.gov/census_2010/04-Summary_File_1/North_Dakota/nd2010.sf1.zip"
    experiment = Experiment.make("r1", load(tmp_path, "", {"DAS_S3ROOT": "/data"}))
    assert experiment.url("nd") == own
    mirror = load(tmp_path, "[sf1]\nurl = http://h/{st}/{zip}\n", {"DAS_S3ROOT": "/data"})
    assert Experiment.make("r1", mirror, product="2020_dhc").url("nd") == "http://h/nd/nd2020.dhc.zip"


def test_a_url_with_other_braces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\[sf1\] url = http://h/\{state\}.zip may hold \{State_Name\}, \{st\} and \{zip\}"):
        load(tmp_path, "[sf1]\nurl = http://h/{state}.zip\n").zip_url("nd", "", "nd2010.sf1.zip")
