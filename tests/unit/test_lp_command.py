"""./s4_run_gurobi.py --lp FILE: one LP file of no experiment. What it reads and what exists is never lost by a slip."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dbrecon.recon.census.tables import load_product
from dbrecon.recon.people.solution import parse_solution
from dbrecon.recon.tract.lp_text import format_lp
from dbrecon.recon.tract.model import ModelBuilder
from tests.helpers import random_people, tables_of
from tests.paths import CHECKOUT

PRODUCT = load_product()
PEOPLE = 40
TEXT = format_lp(ModelBuilder(PRODUCT).build(tables_of(PRODUCT, random_people(1, blocks=2, people=PEOPLE))), PEOPLE, "p", "all")


@pytest.fixture
def lp(tmp_path: Path) -> Path:
    path = tmp_path / "model.lp.gz"
    path.write_bytes(gzip.compress(TEXT))
    return path


def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [sys.executable, str(CHECKOUT / "s4_run_gurobi.py"), *map(str, arguments)]
    return subprocess.run(command, env=kept, capture_output=True, text=True, timeout=60, check=False)


def assert_refused(done: "subprocess.CompletedProcess[str]", code: int, said: str) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"error: {said}\n")


def test_the_solution_goes_beside_the_lp_file_and_replaces_one_with_force_alone(lp: Path) -> None:
    solution = lp.parent / "model.sol.gz"
    solution.write_bytes(b"an earlier one")
    assert_refused(run("--lp", lp), 2, f"{solution} exists: name another file with --sol, or overwrite it with --force")
    assert solution.read_bytes() == b"an earlier one"
    done = run("--lp", lp, "--force")
    assert done.returncode == 0, done.stderr
    assert parse_solution(gzip.decompress(solution.read_bytes()), "model.sol.gz").people.population == PEOPLE


def test_an_existing_file_is_refused_before_anything_is_read(lp: Path) -> None:
    lp.write_bytes(b"no LP file")
    there = lp.parent / "there.sol"
    there.write_text("")
    assert_refused(
        run("--lp", lp, "--sol", there), 2, f"{there} exists: name another file with --sol, or overwrite it with --force"
    )


def test_the_lp_file_is_not_overwritten_by_its_solution_under_any_name(lp: Path) -> None:
    before, other = lp.read_bytes(), lp.parent / "link.sol.gz"
    other.symlink_to(lp)
    for name in (lp, other, lp.parent / "." / ".." / lp.parent.name / lp.name):
        assert_refused(run("--lp", lp, "--sol", name, "--force"), 2, f"--sol {name} is the LP file itself: name another file")
    assert lp.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["oh", "059"], "leave the place (oh) out"),
        (["--stusab", "oh"], "leave the place (oh) out"),
        (["--tract", "977100"], "leave the place (977100) out"),
        (["--reident", "r1"], "leave --reident out"),
    ],
)
def test_what_means_nothing_for_a_file_is_refused(lp: Path, arguments: list[str], said: str) -> None:
    assert_refused(run("--lp", lp, *arguments), 2, f"--lp {lp} is solved for no experiment: {said}")
    assert list(lp.parent.iterdir()) == [lp]


def test_a_place_for_the_solution_of_no_file_is_refused() -> None:
    assert_refused(run("--sol", "x.sol"), 2, "--sol x.sol says where the solution of --lp FILE goes: give --lp too")


def test_a_folder_for_the_solution_is_refused(lp: Path) -> None:
    assert_refused(run("--lp", lp, "--sol", lp.parent), 2, f"--sol {lp.parent} is a folder: name a file")


def test_a_file_that_is_missing_or_cut_off_is_told_with_a_remedy_for_a_file_of_one_s_own(tmp_path: Path) -> None:
    packed, plain, missing = tmp_path / "a.lp.gz", tmp_path / "b.lp", tmp_path / "c.lp"
    packed.write_bytes(gzip.compress(TEXT)[:-20])
    plain.write_bytes(TEXT[: len(TEXT) // 2])
    remedy = "get a whole copy of it, or name another file"
    assert_refused(run("--lp", packed), 3, f"{packed}: the LP file is not a whole gzip file; {remedy}")
    assert_refused(run("--lp", plain), 3, f"{plain}: the LP file does not end with End: it is cut off; {remedy}")
    assert_refused(run("--lp", missing), 3, f"{missing}: there is no such file; correct the name.")
