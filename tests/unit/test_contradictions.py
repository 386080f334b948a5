"""Whatever contradicts itself in a tract's tables is told in published cells, and stands in a file that no solver can solve."""

import dataclasses
import gzip
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dbrecon.ctools.staging import accept
from dbrecon.errors import ContradictoryTables, DBReconError, Subject, VerificationError
from dbrecon.experiment import Experiment
from dbrecon.recon.census.kinds import N_RH, join_kind
from dbrecon.recon.solve.lp_reader import read_lp
from dbrecon.recon.solve.program import Infeasible, NamedProgram, Options
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.tract.model import TractTables
from dbrecon.settings import Config
from dbrecon.steps.lp_files import make_lp
from dbrecon.steps.methods import builder_of
from dbrecon.steps.origin import Origin
from dbrecon.steps.solutions import solve_lp, solve_model
from tests.helpers import random_people, tables_of


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return Experiment.make("r1", Config.load(env={"DAS_S3ROOT": str(tmp_path)}, hostname="here"))


def changed(experiment: Experiment, tables: TractTables, level: str, cell: str, by: int) -> TractTables:
    product = builder_of(experiment).product
    name = f"{level}_cells"
    cells = getattr(tables, name).copy()
    cells[..., product.columns(level).index(cell)] += by
    return dataclasses.replace(tables, **{name: cells})


def with_lp_file(experiment: Experiment, tables: TractTables) -> Path:
    """Step 3 of the tables; its LP file."""
    _, stats = make_lp(experiment, builder_of(experiment), "al", tables, Origin())
    assert stats.file is not None
    accept(stats.file)
    return Path(stats.file.path)


def refused(experiment: Experiment, tables: TractTables, alone: bool = False) -> tuple[DBReconError, NamedProgram]:
    """What step 4 says of the tables, and the program that it has written. No solver can solve it. ``alone``: from the LP file."""
    builder = builder_of(experiment)
    step4 = solve_lp if alone else partial(solve_model, model=builder.build(tables))
    if alone:
        with_lp_file(experiment, tables)
    with pytest.raises((ContradictoryTables, Infeasible)) as error:
        step4(experiment, builder, "al", tables, origin=Origin())
    assert error.value.about is Subject.TABLES
    path = Path(experiment.ilp("al", tables.geoid[2:5], tables.geoid[5:]))
    assert str(path) in str(error.value)
    text = path.read_bytes()
    assert max(map(len, text.split(b"\n"))) < 500
    named = read_lp(text, str(path))
    with pytest.raises(Infeasible):
        solve(named.program, Options(), str(path))
    return error.value, named


def value(named: NamedProgram, name: str) -> float:
    return float(named.program.upper[named.constraints.index(name)])


@pytest.mark.parametrize(
    ("level", "cell", "alone"),
    [
        ("block", "P0010001", True), ("block", "P0120002", False), ("tract", "PCT0120001", False), ("tract", "PCT0120002", True),
    ],
)  # fmt: skip
def test_a_cell_that_follows_from_others_is_told_with_them(experiment: Experiment, level: str, cell: str, alone: bool) -> None:
    product = builder_of(experiment).product
    tables = tables_of(product, random_people(13, blocks=1, people=40))
    wrong = changed(experiment, tables, level, cell, 1)
    error, named = refused(experiment, wrong, alone)
    cells = getattr(wrong, f"{level}_cells")
    published = int(cells[..., product.columns(level).index(cell)].ravel()[0])
    assert re.search(rf"{cell} of {level} \d+ is {published}, the people make {published - 1}", str(error))
    name = f"{cell}_1000" if level == "block" else cell
    assert value(named, name) == published
    assert len(named.constraints) > 1, "and the counts from which another value follows"


def test_a_cell_of_single_years_is_told_in_a_program_that_is_read(experiment: Experiment) -> None:
    """The program counts these years together, so that no constraint of it says otherwise."""
    tables = tables_of(builder_of(experiment).product, random_people(5, blocks=2, people=30))
    error, named = refused(experiment, changed(experiment, tables, "tract", "PCT0120161", 2))
    assert re.search(r"PCT0120161 of tract \d+ is \d+, the people make \d+", str(error))
    assert named.constraints == ("PCT0120161", "PCT0120161_follows")


def test_zeros_that_rule_out_everybody_are_told_with_the_count(experiment: Experiment) -> None:
    """The tract's tables deny the only person of his kind, and have another in his stead, for whom the blocks have no place."""
    product = builder_of(experiment).product
    only_he = int(join_kind(*[np.array([value]) for value in (0, 33, 16, 0)])[0])
    tables = tables_of(product, [(1000, only_he), (1000, only_he + N_RH), (1001, only_he + N_RH)])
    for name, by in (("PCT012B036", -1), ("PCT012J036", -1), ("PCT012B046", 1), ("PCT012J046", 1)):
        tables = changed(experiment, tables, "tract", name, by)
    refused(experiment, tables, alone=True)
    error, named = refused(experiment, tables)
    assert "counts 1 person, but these are 0 and rule all of them out: " in str(error)
    (count,) = re.findall(r"each other: (\w+) counts 1 person", str(error))
    assert value(named, count) == 1
    zeros = [name for name in named.constraints if name not in (count, f"{count}_among")]
    assert zeros
    assert all(value(named, zero) == 0 for zero in zeros)


@pytest.mark.parametrize("all_counts", [True, False], ids=["without people", "with other people"])
def test_an_lp_file_is_blamed_where_the_tables_are_right(experiment: Experiment, all_counts: bool) -> None:
    """One count of it is another; or all are gone but that one, so that it has people."""
    tables = tables_of(builder_of(experiment).product, random_people(13, blocks=1, people=40))
    path = with_lp_file(experiment, tables)
    head, _, rest = gzip.decompress(path.read_bytes()).decode().partition("Subject To\n")
    counts, _, names = rest.partition("General\n")
    first, *others = [f" P{count}" for count in counts.split(" P")[1:]]
    wrong = re.sub(r"= (\d+)\n", "= 1000\n", first)
    path.write_bytes(
        gzip.compress("".join([head, "Subject To\n", wrong, *(others if all_counts else []), "General\n", names]).encode())
    )
    with pytest.raises((Infeasible, VerificationError), match=re.escape(str(path))) as error:
        solve_lp(experiment, builder_of(experiment), "al", tables, Origin())
    assert isinstance(error.value, Infeasible) == all_counts
    assert error.value.about in (Subject.LP_FILE, Subject.LP_AND_SOLUTION)
