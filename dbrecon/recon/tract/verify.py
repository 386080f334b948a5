"""The check: every published cell, in integers, against the people of a solution."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from dbrecon.errors import ContradictoryTables, Subject, VerificationError
from dbrecon.recon.census.inexact import SUPPRESSED
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.census.tables import Product
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, BinnedPeople, People
from dbrecon.recon.tract.model import Model, TractTables

SHOWN = 5


@dataclass(frozen=True)
class Violation:
    """A published cell that the people do not reproduce. ``interval``: the least and the most that it may stand for, if it is not
    exact."""

    unit: str
    cell: str
    published: int
    reconstructed: int
    interval: tuple[int, int] | None = None

    def __str__(self) -> str:
        shown = "withheld" if self.published == SUPPRESSED else str(self.published)
        between = f" (from {self.interval[0]} to {self.interval[1]})" if self.interval else ""
        return f"{self.cell} of {self.unit} is {shown}{between}, the people make {self.reconstructed}"


def tabulate(product: Product, n_blocks: int, block: IntArray, kind: IntArray, count: IntArray) -> tuple[IntArray, IntArray]:
    """Return cells of people: ``count`` people of ``kind`` in each ``block`` (0..n_blocks-1).

    Returns (n_blocks, block cells) and (tract cells,), in the order of ``product.columns(level)``.
    """
    block_cells = _sums(product.membership("block"), block, n_blocks, kind, count)
    if not product.tables_of("tract"):
        return block_cells, np.zeros(0, np.int64)
    return block_cells, _sums(product.membership("tract"), np.zeros_like(block), 1, kind, count)[0]


def _sums(membership: sp.csr_array, unit: IntArray, n_units: int, kind: IntArray, count: IntArray) -> IntArray:
    """Return (units, cells) what people of ``kind`` in each ``unit`` add to the cells, (kinds, cells) how often each counts a kind.

    Half the time of a product of sparse matrices. Sums are exact up to 2^53, far above any population.
    """
    length = np.diff(membership.indptr)[kind]
    first = membership.indptr[kind] - (np.cumsum(length) - length)
    at = np.repeat(first, length) + np.arange(int(length.sum()))
    n_cells = membership.shape[1]
    cell = np.repeat(unit * n_cells, length) + membership.indices[at]
    weight = np.repeat(count, length) * membership.data[at]
    return np.bincount(cell, weight, n_units * n_cells).astype(np.int64).reshape(n_units, n_cells)


def violations(product: Product, tables: TractTables, block: IntArray, kind: IntArray, count: IntArray) -> list[Violation]:
    """Return the cells of a tract's tables that people do not reproduce, by their intervals; empty if all of them agree."""
    block_cells, tract_cells = tabulate(product, len(tables.blocks), block, kind, count)
    blocks = [f"block {tables.geoid}{number:04d}" for number in tables.blocks.tolist()]
    found = _outside(product, "block", blocks, tables.block_cells, block_cells)
    if product.tables_of("tract"):
        found += _outside(product, "tract", [f"tract {tables.geoid}"], tables.tract_cells[None, :], tract_cells[None, :])
    return found


def _outside(product: Product, level: str, units: list[str], published: IntArray, made: IntArray) -> list[Violation]:
    """Return the cells (units, cells) that people's do not reproduce."""
    least, most = product.intervals(level, published)
    outside = made != published if least is most else (made < least) | (made > most)
    columns, found = product.columns(level), []
    for unit, cell in np.argwhere(outside):
        interval = (int(least[unit, cell]), int(most[unit, cell]))
        shown = None if interval[0] == interval[1] else interval
        found.append(Violation(units[unit], columns[cell], int(published[unit, cell]), int(made[unit, cell]), shown))
    return found


def satisfies(model: Model, count: IntArray) -> bool:
    """Return whether counts of the model's variables are non-negative and meet every row, in integers."""
    ends = np.concatenate([[0], np.cumsum(count[model.columns])])
    sums = ends[model.starts[1:]] - ends[model.starts[:-1]]
    least, most = model.bounds()
    return bool((count >= 0).all() and (sums >= least).all() and (sums <= most).all())


def _shown(found: list[Violation]) -> str:
    shown = "; ".join(str(violation) for violation in found[:SHOWN])
    return shown + (f" (and {len(found) - SHOWN} cells more)" if len(found) > SHOWN else "")


def people_of(model: Model, count: IntArray) -> BinnedPeople:
    """Return the people whom an answer, (variables,) integers, counts."""
    bins = model.bins
    block = int(model.geoid) * BLOCKS_PER_TRACT + model.blocks[model.block]
    people = BinnedPeople(block, bins.first_kind(model.kind), bins.last[bins.split(model.kind)[1]], count)
    return people.select(count != 0)


def check_answer(model: Model, count: IntArray) -> None:
    """Check a solver's answer against the model's equations. Raises VerificationError if it breaks one: the solver is at fault."""
    if not satisfies(model, count):
        raise VerificationError(
            f"tract {model.geoid}: the solver's answer breaks its own constraints; nothing was kept", about=Subject.ANSWER
        )


def verify(product: Product, tables: TractTables, people: People) -> None:
    """Check the people of an answer that meets its model against every cell of every table.

    Raises InputError if a cell disagrees: it contradicts cells from which it follows.
    """
    at = np.searchsorted(tables.blocks, people.geoid_block % BLOCKS_PER_TRACT)
    found = violations(product, tables, at, people.kind, people.count)
    if found:
        raise ContradictoryTables(f"tract {tables.geoid}: the published tables contradict each other: {_shown(found)}")


def verify_people(product: Product, tables: TractTables, people: People, source: str, about: Subject) -> None:
    """Check people from a file against every cell of every table of their tract.

    ``about`` is what kind of file it is. Raises VerificationError, naming ``source``, if a cell disagrees, a count is negative, or
    a block is not the tract's.
    """
    ids = int(tables.geoid) * BLOCKS_PER_TRACT + tables.blocks
    at = np.searchsorted(ids, people.geoid_block)
    known = at < len(ids)
    known[known] = ids[at[known]] == people.geoid_block[known]
    if (people.count < 0).any() or people.count[~known].any():
        raise VerificationError(
            f"{source}: its solution puts people where tract {tables.geoid} has none; nothing was kept", about=about
        )
    found = violations(product, tables, at[known], people.kind[known], people.count[known])
    if found:
        raise VerificationError(
            f"{source}: its solution does not reproduce the published tables: {_shown(found)}; nothing was kept", about=about
        )
