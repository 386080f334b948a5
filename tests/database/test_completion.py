"""Completion in the shells themselves, by what --completion prints for each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dbrecon.console.completion import script
from dbrecon.ctools.database import make_engine
from dbrecon.ledger.ledger import Ledger
from tests.helpers import TractRow, geography
from tests.paths import CHECKOUT

# Each prints a line for each completion of the words $1, $2, ... the last of which is being typed.
BASH = """
source "$SCRIPT"
compopt() { echo FILES; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_dbrecon_complete "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { : }
source "$SCRIPT"
_describe() {
    print -rl -- "${(@P)3%%:*}"
    [[ -z ${(M)${(@P)3}:#*:} ]] || print -ru2 "error: values with empty descriptions, which zsh lists backwards, with dashes"
}
_files() { print FILES }
words=("$@") CURRENT=$#
_dbrecon_complete
"""
FISH = """
source $SCRIPT
for found in (complete -C "$argv")
    string split -f1 \\t -- $found
end
"""


def complete(shell: str, root: Path, *words: str) -> list[str]:
    """What a shell offers for the last of the words; "FILES" where it offers files of its own."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (root / "script").write_text(script(shell), encoding="utf-8")
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = kept | {"PATH": path, "DAS_S3ROOT": str(root), "SCRIPT": str(root / "script")}
    commands = {
        "bash": ["bash", "--norc", "-c", BASH, "bash", *words],
        "zsh": ["zsh", "-f", "-c", ZSH, "zsh", *words],
        "fish": ["fish", "--no-config", "-c", FISH, " ".join(words)],
    }
    done = subprocess.run(commands[shell], cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "rror" not in done.stderr, done.stderr
    return [line for line in done.stdout.splitlines() if line]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the experiments r1 and r2; Ohio has two counties in r1."""
    root = tmp_path_factory.mktemp("completion")
    engine = make_engine(sqlite_path=root / "2010-re" / "dbrecon.sqlite3")
    ledger = Ledger(engine)
    for reident in ("r1", "r2"):
        ledger.register(reident, "all", "2010_sf1")
    ledger.replace_geography("r1", "oh", geography([TractRow("39", county, "000100", 5) for county in ("001", "059")]))
    engine.dispose()
    return root


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_options_and_values_are_completed(shell: str, root: Path) -> None:
    assert complete(shell, root, "./dbrtool.py", "--stat") == ["--status"]
    assert sorted(complete(shell, root, "./dbrtool.py", "--reident", "")) == ["r1", "r2"]
    assert sorted(complete(shell, root, "./dbrtool.py", "--step1", "--stusab", "ri,o")) == ["ri,oh", "ri,ok", "ri,or"]
    assert sorted(complete(shell, root, "./dbrtool.py", "--tables", "")) == ["all", "block"]
    assert complete(shell, root, "./scheduler.py", "--tell", "up") == ["uptime"]
    assert complete(shell, root, "./s4_run_gurobi.py", "--reident", "r1", "oh", "05") == ["059"]
    assert complete(shell, root, "./dbrtool.py", "--reident", "r1", "--stusab", "oh", "--county", "0") == ["001", "059"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_file_names_are_the_shell_s_own(shell: str, root: Path) -> None:
    assert complete(shell, root, "./dbrtool.py", "--info", "con") == ["FILES"]


def test_fish_offers_file_names(root: Path) -> None:
    assert complete("fish", root, "./dbrtool.py", "--info", "constraints-s") == ["constraints-spark.txt"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_cannot_be_known_completes_to_nothing(shell: str, tmp_path: Path) -> None:
    assert complete(shell, tmp_path, "./dbrtool.py", "--reident", "") == []
    assert [path.name for path in tmp_path.iterdir()] == ["script"]
