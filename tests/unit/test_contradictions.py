"""Whatever contradicts itself in a tract's tables is told in published cells, and stands in a file that no solver can solve."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from dbrecon.errors import ContradictoryTables, DBReconError
from dbrecon.experiment import Experiment
from dbrecon.recon.census.kinds import N_RH, join_kind
from dbrecon.recon.solve.lp_reader import read_lp
from dbrecon.recon.solve.program import Infeasible, NamedProgram, Options
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.tract.model import TractTables
from dbrecon.settings import Config
from dbrecon.steps.methods import builder_of
from dbrecon.steps.origin import Origin
from dbrecon.steps.solutions import solve_model
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


def refused(experiment: Experiment, tables: TractTables) -> tuple[DBReconError, NamedProgram]:
    """What step 4 says of the tables, and the program that it has written. No solver can solve it."""
    builder = builder_of(experiment)
    with pytest.raises((ContradictoryTables, Infeasible)) as error:
        solve_model(experiment, builder, "al", tables, builder.build(tables), Origin())
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
    ("level", "cell"), [("block", "P0010001"), ("block", "P0120002"), ("tract", "PCT0120001"), ("tract", "PCT0120002")]
)
def test_a_cell_that_follows_from_others_is_told_with_them(experiment: Experiment, level: str, cell: str) -> None:
    product = builder_of(experiment).product
    tables = tables_of(product, random_people(13, blocks=1, people=40))
    wrong = changed(experiment, tables, level, cell, 1)
    error, named = refused(experiment, wrong)
    cells = getattr(wrong, f"{level}_cells")
    published = int(cells[..., product.columns(level).index(cell)].ravel()[0])
    assert re.search(rf"{cell} of {level} \d+ is {published}, the people make {published - 1}", str(error))
    name = f"{cell}_1000" if level == "block" else cell
    assert value(named, name) == published
    assert len(named.constraints) > 1, "and the counts from which another value follows"


def test_zeros_that_rule_out_everybody_are_told_with_the_count(experiment: Experiment) -> None:
    """The tract's tables deny the only person of his kind, and have another in his stead, for whom the blocks have no place."""
    product = builder_of(experiment).product
    only_he = int(join_kind(*[np.array([value]) for value in (0, 33, 16, 0)])[0])
    tables = tables_of(product, [(1000, only_he), (1000, only_he + N_RH), (1001, only_he + N_RH)])
    for name, by in (("PCT012B036", -1), ("PCT012J036", -1), ("PCT012B046", 1), ("PCT012J046", 1)):
        tables = changed(experiment, tables, "tract", name, by)
    error, named = refused(experiment, tables)
    assert "counts 1 person, but these are 0 and rule all of them out: " in str(error)
    (count,) = re.findall(r"each other: (\w+) counts 1 person", str(error))
    assert value(named, count) == 1
    zeros = [name for name in named.constraints if name not in (count, f"{count}_among")]
    assert zeros
    assert all(value(named, zero) == 0 for zero in zeros)
