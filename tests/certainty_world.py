"""Tracts so small that all their solutions can be listed, the plain slow way."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from dbrecon.ctools.storage import sopen
from dbrecon.experiment import Experiment
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.people.people import People, people_csv
from dbrecon.recon.tract.model import Model
from dbrecon.states import STATES
from tests.helpers import tables_of

MOST_SOLUTIONS = 1_500


@dataclass(frozen=True)
class SmallTract:
    """A model, and the people of it who were counted."""

    model: Model
    counts: IntArray


def listed(model: Model, blockwise: int | None = None) -> IntArray:
    """(solutions, variables) every solution of a model; of one block's variables under the blockwise relaxation if that is
    asked for."""
    rows = []
    for i in range(model.n_constraints):
        members = set(model.columns[model.starts[i] : model.starts[i + 1]].tolist())
        lowest = int(model.rhs[i])
        if blockwise is not None:
            if model.row_block[i] not in (-1, blockwise):
                continue
            if model.row_block[i] < 0:
                members, lowest = {j for j in members if model.block[j] == blockwise}, 0
        if members:
            rows.append((members, lowest, int(model.rhs[i])))
    columns = [j for j in range(model.n_variables) if blockwise is None or model.block[j] == blockwise]
    found = []
    for choice in itertools.islice(_fill(columns, rows), MOST_SOLUTIONS + 1):
        whole = np.zeros(model.n_variables, np.int64)
        whole[columns] = choice
        found.append(whole)
    assume(len(found) <= MOST_SOLUTIONS)
    return np.array(found)


def _fill(columns: list[int], rows: list[tuple[set[int], int, int]]) -> Iterator[list[int]]:
    if not columns:
        if all(low <= 0 <= high for _, low, high in rows):
            yield []
        return
    first, rest = columns[0], columns[1:]
    for value in range(min(high for members, _, high in rows if first in members) + 1):
        left = [(members, low - value * (first in members), high - value * (first in members)) for members, low, high in rows]
        if all(high >= 0 and (low <= 0 or members & set(rest)) for members, low, high in left):
            for values in _fill(rest, left):
                yield [value, *values]


@st.composite
def small_tracts(draw: st.DrawFn, most_blocks: int = 3, most_kinds: int = 4, most_people: int = 3) -> SmallTract:
    """Blocks of a few kinds of people; of each block and of the tract some groups of kinds are counted, everybody
    always. Which of the counts are of one sex, and so make clusters, is arbitrary."""
    n_blocks, n_kinds = draw(st.integers(1, most_blocks)), draw(st.integers(2, most_kinds))
    n = n_blocks * n_kinds
    counts = np.array(draw(st.lists(st.integers(0, most_people), min_size=n, max_size=n)), np.int64)
    groups = st.lists(st.sets(st.integers(0, n_kinds - 1), min_size=1), min_size=0, max_size=3)
    block = np.repeat(np.arange(n_blocks), n_kinds)
    kind = np.tile(np.arange(n_kinds), n_blocks)
    members: list[IntArray] = []
    row_block: list[int] = []
    for number in range(n_blocks):
        for group in [set(range(n_kinds)), *draw(groups)]:
            members.append(number * n_kinds + np.array(sorted(group)))
            row_block.append(number)
    for group in draw(groups):
        members.append(np.flatnonzero(np.isin(kind, sorted(group))))
        row_block.append(-1)
    starts = np.concatenate([[0], np.cumsum([len(columns) for columns in members])]).astype(np.int64)
    rhs = np.array([counts[columns].sum() for columns in members], np.int64)
    of_one_sex = draw(st.lists(st.booleans(), min_size=len(members), max_size=len(members)))
    model = Model(
        "10001000100",
        1000 + np.arange(n_blocks),
        block,
        kind,
        starts,
        np.concatenate(members),
        rhs,
        np.arange(len(members)),
        np.array(row_block, np.int64),
        ("count",) * len(members),
        np.array(of_one_sex),
    )
    return SmallTract(model, counts)


def write_county(experiment: Experiment, stusab: str, county: str, tracts: dict[str, list[tuple[int, int]]]) -> People:
    """Write a county's two table files and its people's file, of tracts (six digits) whose people are (four-digit block, kind)."""
    product = load_product(tables=experiment.tables)
    lines: dict[str, list[str]] = {"block": [], "tract": []}
    parts = []
    for tract, people in sorted(tracts.items()):
        geoid = STATES[stusab].fips + county + tract
        tables = tables_of(product, people, geoid)
        for number, cells in zip(tables.blocks.tolist(), tables.block_cells.tolist(), strict=True):
            lines["block"].append(",".join(map(str, [f"{geoid}{number:04d}", 1, *cells])))
        lines["tract"].append(",".join(map(str, [geoid, 1, *tables.tract_cells.tolist()])))
        block = int(geoid) * 10_000 + np.array([block for block, _ in people])
        parts.append(People(block, np.array([kind for _, kind in people]), np.ones(len(people), np.int64)))
    for level, path in (("block", experiment.block_csv(stusab, county)), ("tract", experiment.tract_csv(stusab, county))):
        header = ",".join([f"geoid_{level}", "logrecno", *product.columns(level)])
        with sopen(path, "w") as file:
            file.write("\n".join([header, *lines[level]]) + "\n")
    everyone = People.concatenate(parts)
    with sopen(experiment.synth_out(stusab, county), "wb") as file:
        file.write(people_csv(everyone))
    return everyone
