"""LP files: any solver reads them unaided, names say whom they count, and the file is the program that was in memory."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import gurobipy
import numpy as np
import pytest

from dbrecon.errors import InputError, Subject
from dbrecon.recon.artifacts import read_lp_file
from dbrecon.recon.census.bins import SINGLE_AGES, derive_binning
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.people.variable_names import decode_names
from dbrecon.recon.solve.lp_reader import read_lp
from dbrecon.recon.solve.program import NamedProgram, Options, Program
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.tract.lp_text import format_lp, model_names, tract_of_lp
from dbrecon.recon.tract.model import Model, ModelBuilder
from tests.helpers import random_people, tables_of
from tests.paths import CHECKOUT

PRODUCT = load_product()
BINS = derive_binning(PRODUCT).bins


@pytest.fixture(scope="module", params=[SINGLE_AGES, BINS], ids=["single", "bins"])
def model(request: pytest.FixtureRequest) -> Model:
    """A tract small enough for Gurobi's size-limited licence, and with a block large enough for long lines."""
    return ModelBuilder(PRODUCT, request.param).build(tables_of(PRODUCT, random_people(1, blocks=5, people=600, kinds=120)))


@pytest.fixture(scope="module")
def text(model: Model) -> bytes:
    return format_lp(model, 600, "2010_sf1", "all")


@pytest.fixture(scope="module")
def read(text: bytes) -> NamedProgram:
    return read_lp(text, "model.lp")


def test_lines_are_under_500_characters(text: bytes) -> None:
    assert max(len(line) for line in text.split(b"\n")) < 500
    assert any(line.startswith(b" + ") for line in text.split(b"\n")), "some constraint is long enough to be wrapped"


def test_names_are_under_24_characters_and_decode_to_block_and_person(model: Model, read: NamedProgram) -> None:
    assert max(len(name) for name in read.variables) < 24
    block, kind, last = decode_names(read.variables, model.geoid, "model.lp", Subject.LP_FILE)
    assert (block % 10_000 == model.blocks[model.block]).all()
    assert (kind == model.bins.first_kind(model.kind)).all()
    assert (last == model.bins.last[model.bins.split(model.kind)[1]]).all()


def test_a_binned_program_says_which_ages_it_counts_together(model: Model, text: bytes) -> None:
    expected = None if model.bins.single else "22-24, 25-29, 30-34, 35-39, 40-44, 45-49, 50-54, 55-59, 60-61, 62-64, 65-66, 67-69, "
    assert read_lp_file(text, "model.lp").ages_together == (expected and expected + "70-74, 75-79, 80-84, 85+")


def test_the_file_is_the_same_program_in_the_same_order(model: Model, read: NamedProgram) -> None:
    own = Program.of_model(model)
    assert np.array_equal(read.program.matrix().toarray(), own.matrix().toarray())
    for name in ("lower", "upper", "column_lower", "column_upper"):
        assert np.array_equal(getattr(read.program, name), getattr(own, name)), name
    assert list(read.constraints) == [model.row_name(row) for row in range(model.n_constraints)]


def test_solving_the_file_gives_the_answer_that_solving_in_memory_gives(model: Model, read: NamedProgram) -> None:
    options = Options()
    from_memory = solve(Program.of_model(model), options, "memory").values
    assert np.array_equal(solve(read.program, options, "file").values, from_memory)


def test_the_text_is_deterministic(model: Model, text: bytes) -> None:
    assert format_lp(model, 600, "2010_sf1", "all") == text


def test_gurobi_reads_it_unaided(model: Model, text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.lp"
    path.write_bytes(text)
    with gurobipy.Env(params={"OutputFlag": 0}) as env, gurobipy.read(str(path), env) as read:
        assert (read.NumVars, read.NumConstrs, read.NumNZs) == (model.n_variables, model.n_constraints, model.n_nonzeros)
        assert read.NumIntVars == model.n_variables
        assert [v.VarName for v in read.getVars()] == [n.decode() for n in names_of(model)]


def test_glpk_reads_it_unaided(model: Model, text: bytes, tmp_path: Path) -> None:
    glpsol = shutil.which("glpsol")
    if glpsol is None:
        pytest.skip("needs GLPK's glpsol: apt-get install glpk-utils (make test does it)")
    path = tmp_path / "model.lp"
    path.write_bytes(text)
    done = subprocess.run([glpsol, "--lp", str(path), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert f"{model.n_constraints} rows, {model.n_variables} columns, {model.n_nonzeros} non-zeros" in done.stdout
    assert f"{model.n_variables} integer variables" in done.stdout


def names_of(model: Model) -> list[bytes]:
    names: list[bytes] = model_names(model).tolist()
    return names


def test_the_first_line_tells_the_tract(text: bytes) -> None:
    assert tract_of_lp(text) == "10001000100"


def test_a_foreign_file_tells_no_tract() -> None:
    assert tract_of_lp(b"\\* DB Recon *\\\nMinimize\n") is None


def test_a_file_that_is_cut_off_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match=r"model\.lp: the LP file does not end with End: it is cut off"):
        read_lp(text[: len(text) // 2], "model.lp")


def test_a_file_that_is_no_lp_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.lp: this is no LP file"):
        read_lp(b"Dear reader,\n this = is no = program\nEnd\n", "model.lp")


def test_a_kill_while_a_file_is_read_leaves_no_copy_of_it(text: bytes, tmp_path: Path) -> None:
    """It is killed at the worst moment: the solver has read it, and what it read from is about to be removed."""
    (tmp_path / "model.lp").write_bytes(text)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    script = """
import os, pathlib, signal, sys
from dbrecon.recon.solve.lp_reader import read_lp
sys.addaudithook(lambda event, _: os.kill(os.getpid(), signal.SIGKILL) if event == "shutil.rmtree" else None)
read_lp(pathlib.Path(sys.argv[1]).read_bytes(), "model.lp")
"""
    command = [sys.executable, "-c", script, str(tmp_path / "model.lp")]
    done = subprocess.run(command, cwd=CHECKOUT, env={**os.environ, "TMPDIR": str(temporary)}, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path for path in temporary.rglob("*") if path.is_file()] == []


FOREIGN = b"""\\* DB Recon *\\
Minimize
Objective: __dummy
Subject To
c1: a + b = 1
c2: a >= 0
Bounds
 __dummy = 0
Binaries
a b
End
"""


def test_the_constraints_of_a_foreign_file_are_counted_without_its_bounds() -> None:
    assert read_lp_file(FOREIGN, "model.lp").constraints == len(read_lp(FOREIGN, "model.lp").constraints) == 2
