"""The same words mean the same on every command line, and nothing that a person types is dropped without a word."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from dbrecon.console import main as dbrtool
from dbrecon.console import scheduler
from dbrecon.console.commands import asked_place
from dbrecon.console.options import step_groups
from dbrecon.console.parser import Arguments, Parser
from dbrecon.errors import UsageError
from dbrecon.place import EVERYWHERE, Place
from tests.paths import CHECKOUT

PROGRAMS = ["dbrtool.py", "scheduler.py", *sorted(path.name for path in CHECKOUT.glob("s[0-9]_*.py"))]


@pytest.fixture(autouse=True)
def no_reident(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REIDENT", raising=False)


def step(*words: str) -> Arguments:
    return Parser("s4_run_gurobi.py", "", "", step_groups("")).read(words)


def operator(*words: str) -> Arguments:
    return dbrtool.make_parser().read(words)


def refused(*words: str, by: Parser | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        (by or dbrtool.make_parser()).read(words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, *command], cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ([], EVERYWHERE),
        (["all"], EVERYWHERE),
        (["--stusab", "all"], EVERYWHERE),
        (["OH"], Place("oh")),
        (["oh", "059"], Place("oh", "059")),
        (["oh", "59"], Place("oh", "059")),
        (["--stusab", "oh", "--county", "59"], Place("oh", "059")),
        (["oh", "--county=059"], Place("oh", "059")),
        (["oh", "059", "977100,977200"], Place("oh", "059", ("977100", "977200"))),
        (["--tract", "977100", "--county", "59", "oh"], Place("oh", "059", ("977100",))),
        (["oh", "059", "--tract", "977200", "--tract", "977100"], Place("oh", "059", ("977100", "977200"))),
        (["oh", "059", "--county", "059"], Place("oh", "059")),
    ],
)
def test_a_place_is_the_same_by_words_and_by_options(words: list[str], place: Place) -> None:
    assert asked_place(step(*words)) == place
    assert asked_place(operator("--step4", *words)) == place
    assert asked_place(scheduler.make_parser().read(words)) == place


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["oh", "059", "000100", "000200"], "'000200' is a word too many"),
        (["oh", "059", "061"], "'061' is a word too many"),
        (["oh", "059", "all"], "'all' is a word too many"),
        (["059"], "'059' is a word too many"),
        (["oh", "977100"], "'977100' is a word too many"),
        (["oh", "9771"], "'9771' is a word too many"),
        (["de", "001", "--county", "003"], "the county is named twice: 003 and 001"),
        (["--county", "001", "--county", "003"], "--county is given twice: 001 and 003"),
        (["oh", "059", "977100", "--tract", "977200"], "the tract is named twice: 977200 and 977100"),
        (["--reident", "a", "--reident", "b"], "--reident is given twice: a and b"),
        (["all", "oh"], "name states, or all"),
        (["ohio"], "'ohio' is no state"),
        (["--verbose=yes"], "--verbose takes no value: leave =yes out"),
        (["--reident"], "--reident needs a value: --reident R"),
        (["--reident", "--quiet"], "--reident needs a value"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--conty", "059"], "did you mean --county?"),
        (["-x"], "No such option"),
    ],
)
def test_words_that_cannot_be_meant_are_refused_by_every_program(words: list[str], said: str) -> None:
    assert said.lower() in refused("--step4", *words).lower()
    assert said.lower() in refused(*words, by=scheduler.make_parser()).lower()
    assert said.lower() in refused(*words, by=Parser("s4_run_gurobi.py", "", "", step_groups(""))).lower()


@pytest.mark.parametrize("number", ["0", "-1", "-5", "1.5", "many", "٣"])
def test_a_limit_is_one_or_more_everywhere(number: str) -> None:
    for parser, words in ((dbrtool.make_parser(), ["--launch_all"]), (scheduler.make_parser(), [])):
        assert f"--limit: '{number}' is not a number of 1 or more" in refused(*words, "--limit", number, by=parser)


def test_a_long_option_may_be_shortened_while_it_is_unambiguous() -> None:
    assert operator("--clus").cluster
    assert operator("--retry_q").retry_quarantined
    assert operator("--reidents").reidents
    assert refused("--st").startswith("ambiguous option: --st could match --status, --step0, ")


def test_an_option_may_be_left_without_its_value() -> None:
    assert (operator("--errors").errors, operator("--errors", "5").errors, operator("--errors=5").errors) == (20, 5, 5)
    assert (operator("--register", "r1").register, operator("--register", "--run").register) == ("r1", "")
    assert (operator("--unlock").unlock, operator("--unlock", "a,b").unlock, operator().unlock) == ("", "a,b", None)
    assert operator("--evaluate", "a.csv", "b.csv", "--json").evaluate == ("a.csv", "b.csv")
    assert (operator("--evaluate").evaluate, operator().evaluate) == (("",), ())


def test_the_experiment_of_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REIDENT", "r7")
    assert (operator("--run").reident, operator("--run", "--reident", "r8").reident) == ("r7", "r8")
    monkeypatch.setenv("REIDENT", "")
    assert operator("--run").reident is None


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_has_help_version_and_completion(program: str) -> None:
    output = run(program, "--help")
    assert (output.returncode, output.stderr) == (0, "")
    assert output.stdout.startswith(f"usage: {program} ")
    assert {"--reident", "--stusab", "--county", "--tract", "--version", "--help", "--completion"} <= set(output.stdout.split())
    assert max(map(len, output.stdout.splitlines())) <= 132
    version = run(program, "--version")
    assert re.fullmatch(rf"{program} \d+\.\d+\S* \(Python 3\.\S+\)\n", version.stdout)


def test_help_has_three_levels() -> None:
    """A screen that names every option and group; a group; everything, with exit codes."""
    overview, everything = run("dbrtool.py", "--help").stdout, run("dbrtool.py", "--help", "all").stdout
    assert len(overview.splitlines()) <= 60 < len(everything.splitlines())
    names = {word for word in everything.split() if re.fullmatch(r"--[a-z][a-z0-9_]+", word)}
    assert names <= set(re.findall(r"--[a-z][a-z0-9_]+", overview))
    assert "exit codes:" in everything
    assert "examples:" in overview


def test_help_of_a_group_is_that_group_alone() -> None:
    output = run("dbrtool.py", "--help", "watching").stdout
    assert output.startswith("watching:\n")
    assert "--status" in output
    assert "--step1" not in output
    assert run("dbrtool.py", "--help", "watch").stdout == output
    assert run("dbrtool.py", "--help=errors").stdout == output
    wrong = run("dbrtool.py", "--help", "cooking")
    assert wrong.returncode == 2
    assert re.fullmatch(r"error: --help cooking: the groups are experiments, .*watching.*\n", wrong.stderr)


def test_what_an_option_does_is_loaded_only_when_it_is_asked_for() -> None:
    program = """
import sys
sys.argv = ["dbrtool.py", "--version"]
from dbrecon.console import main
main.main()
heavy = {"sqlalchemy", "numpy", "paramiko", "boto3", "flask", "dbrecon.node.loop", "dbrecon.spark.engine", "argparse"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run("-c", program).stdout.splitlines()[1:] == ["[]"]


@pytest.mark.parametrize("script", ["demo.py", "hard.py", "bench.py"])
def test_help_of_a_script_of_bench_only_helps(script: str) -> None:
    output = run(f"bench/{script}", "--help")
    assert output.returncode == 0, output.stderr
    assert output.stdout.startswith(f"usage: {script}")
    assert "reconstruction from beginning" not in output.stdout
