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
    existing = lp.parent / "there.sol"
    existing.write_text("")
    assert_refused(
        run("--lp", lp, "--sol", existing), 2, f"{existing} exists: name another file with --sol, or overwrite it with --force"
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


HEAD = "\\ Reconstruction of census tract 38005956500\n"
MEN, WOMEN = "M1002_040r32N", "F1002_041r32N"


def program(constraints: str, objective: str = f"Minimize\n obj: 0 {MEN}", rest: str = f"General\n {MEN} {WOMEN}\nEnd\n") -> str:
    return f"{HEAD}{objective}\nSubject To\n{constraints}\n{rest}"


def solved(folder: Path, text: str) -> str:
    """The solution's lines without its comments."""
    (folder / "p.lp").write_text(text)
    done = run("--lp", folder / "p.lp", "--sol", folder / "p.sol")
    assert (done.returncode, done.stderr) == (0, "")
    return "\n".join(line for line in (folder / "p.sol").read_text().splitlines() if not line.startswith("#"))


@pytest.mark.parametrize(
    "end", ["End", "END", "end", "  end  ", "End\n\\ a comment\n", "End\n\n", "end\nwhat follows is for no reader"]
)
def test_the_end_may_be_spelled_as_other_programs_do(tmp_path: Path, end: str) -> None:
    assert solved(tmp_path, program(f" c1: {MEN} = 1", rest=f"General\n {MEN}\n{end}\n")) == f"{MEN} 1"


@pytest.mark.parametrize(("sense", "expected"), [("Minimize", f"{WOMEN} 3"), ("Maximize", f"{MEN} 3"), ("max", f"{MEN} 3")])
def test_a_linear_objective_is_honoured(tmp_path: Path, sense: str, expected: str) -> None:
    assert solved(tmp_path, program(f" c1: {MEN} + {WOMEN} = 3", f"{sense}\n obj: {MEN}")) == expected


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        (f" c1: {MEN} + {WOMEN} => 3\n c2: {MEN} =< 2\n c3: {WOMEN} =< 1", f"{MEN} 2\n{WOMEN} 1"),
        (f" c1: 3 <= {MEN} + {WOMEN} <= 3\n c2: {MEN} >= 3", f"{MEN} 3"),
        (f" c1: 3 >= {MEN} + {WOMEN} >= 3\n c2: {WOMEN} >= 3", f"{WOMEN} 3"),
        (f" 2 <= {MEN} <= 2\n c2: {WOMEN} = 0", f"{MEN} 2"),
    ],
)
def test_signs_and_ranges_of_other_programs_are_read(tmp_path: Path, constraints: str, expected: str) -> None:
    assert solved(tmp_path, program(constraints, rest=f"Integer\n {MEN} {WOMEN}\nEnd\n")) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (program(f" c1: {MEN} = 1", rest=f"SOS\n s1: S1:: {MEN}:1\nEnd\n"), "has special ordered sets (SOS), which are not"),
        (program(f" c1: {MEN} = 1 -> {WOMEN} = 1"), "has indicator constraints (->), which are not supported here"),
        (program(f" c1: {MEN} = 1", f"Minimize\n obj: [ {MEN} ^ 2 ] / 2"), "has quadratic terms, which are not supported here"),
        (program(f" c1: {MEN} = 1", rest=f"Semi-Continuous\n {MEN}\nEnd\n"), "has semi-continuous variables, which"),
        (program(f" c1: 2 {MEN} = 3", rest="End\n"), f"the variable {MEN} need not be whole, but variables here count people"),
        (program(f" c1: {MEN} = 1", rest=f"Bounds\n 1.1 <= {MEN} <= 1\nGeneral\n {MEN}\nEnd\n"), f"{MEN} has the bounds 1.1 and 1"),
        (program(f" c1: {MEN} = 1").replace(f" {MEN} {WOMEN}", f" {MEN}\0x"), "has a NUL byte, at which other programs cut"),
        (program(f" c1: {MEN} = 1").replace("End", ""), "does not end with End: it is cut off; get a whole copy of it"),
        (program(f" c1: {MEN} + {WOMEN} >= 1", f"Maximize\n obj: {MEN}"), "its objective has no bound: no constraint"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "p.lp").write_text(text)
    done = run("--lp", tmp_path / "p.lp")
    assert said in done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1), "one sentence, and nothing of the solver's own"
    assert done.returncode in (3, 6)
    assert not (tmp_path / "p.sol.gz").exists()


def test_a_contradiction_of_no_experiment_is_told_with_its_bounds_and_blames_no_zip(tmp_path: Path) -> None:
    (tmp_path / "p.lp").write_text(program(f" c1: {MEN} + {WOMEN} >= 3\n c2: {MEN} + {WOMEN} <= 2"))
    done = run("--lp", tmp_path / "p.lp")
    assert "its constraints contradict each other in 2 counts (c1 >= 3, c2 <= 2)" in done.stderr
    assert done.stderr.endswith("p.ilp; correct the program\n")
    assert "c1: + M1002_040r32N + F1002_041r32N >= 3" in (tmp_path / "p.ilp").read_text()
