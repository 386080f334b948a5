"""Whether a product's published cells follow from the counts that its constraints write: a test of rank, by level.

A cell follows if its column over the kinds of person is a linear combination of the constraints' columns
(:mod:`dbrecon.recon.census.rank`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.recon.census.kinds import N_KINDS
from dbrecon.recon.census.rank import dependencies, project, reduce
from dbrecon.recon.census.subset import components, written_counts
from dbrecon.recon.census.tables import Product, Table


class Coverage(NamedTuple):
    """``cells`` are published, ``rows`` written by constraints, of ``rank``; ``missing`` are the cells that do not follow."""

    level: str
    cells: int
    rows: int
    rank: int
    missing: tuple[str, ...]


def coverage(product: Product, level: str) -> Coverage:
    """Return the test for one level, "block" or "tract"; some seconds for the largest products.

    Cells that are the sum of others follow from those, so that undivided cells alone are tested, and apart from one another where
    no constraint joins them (single years of age, say). Cells of inexact tables need not follow.
    """
    exact = [table for table in product.tables_of(level) if table.inexact is None]
    names, cells = _undivided(exact)
    written = written_counts(product, level)
    rank, missing = _follow(written, cells)
    n_cells = sum(len(table.cells) for table in exact)
    return Coverage(level, n_cells, written.shape[1], rank, tuple(names[i] for i in missing.tolist()))


def redundant(product: Product, tables: Sequence[Table]) -> list[str]:
    """Return the names of those of ``tables`` that follow from what the product writes: leaving them out keeps nothing back.

    A tract's cell may follow from its blocks' too.
    """
    block = written_counts(product, "block")
    all_levels = sp.csc_array(sp.hstack([block, written_counts(product, "tract")]))
    of_level = {"block": block, "tract": all_levels}
    return [table.name for table in tables if not len(_follow(of_level[table.level], _undivided([table])[1])[1])]


def each_redundant(product: Product, level: str) -> list[str]:
    """Return the names of those exact tables of a level of which each follows from all the others of the level that are exact.

    A table follows from the others if every one of its cells is part of a dependency that has no other of the table's cells: one
    elimination of all cells tells it of all tables.
    """
    tables = [table for table in product.tables_of(level) if table.inexact is None]
    _, cells = _undivided(tables)
    owner = np.repeat(np.arange(len(tables)), [len(table.undivided) for table in tables])
    follows = np.ones(len(tables), bool)
    for rows, _ in components(cells, cells[:, :0]):
        [projected] = project(len(rows), cells[:, rows])
        among = dependencies(projected)
        for number in np.unique(owner[rows]).tolist():
            of_table = np.ascontiguousarray(among[:, owner[rows] == number].T)
            follows[number] &= bool(reduce(of_table, of_table[:0]).all())
    return [table.name for table, follow in zip(tables, follows, strict=True) if follow]


def _follow(written: sp.csc_array, cells: sp.csc_array) -> tuple[int, npt.NDArray[np.intp]]:
    """Return the rank of the written counts, and the numbers of the cells that do not follow from them."""
    left, rank = np.zeros(cells.shape[1], bool), 0
    for rows, columns in components(written, cells):
        basis, wanted = project(len(rows), written[:, rows], cells[:, columns])
        rank += int(reduce(basis, wanted).sum())
        left[columns] = wanted.any(axis=1)
    return rank, np.flatnonzero(left)


def _undivided(tables: Sequence[Table]) -> tuple[list[str], sp.csc_array]:
    """Return names of the tables' cells that have no parts, and (kinds, cells) which kinds each counts."""
    names = [table.cell_names[i] for table in tables for i in table.undivided]
    found = [sp.csc_array(table.membership())[:, list(table.undivided)] for table in tables]
    return names, sp.csc_array(sp.hstack(found)) if found else sp.csc_array((N_KINDS, 0), dtype=np.int64)
