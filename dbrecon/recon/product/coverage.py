"""Whether a product's published cells follow from the counts that its constraints write: a test of rank, by level.

Every person is a *kind*; kinds that no cell and no constraint tells apart are one. A cell follows if its column over the kinds is a
linear combination of the constraints' columns. Columns are projected by a random matrix over a prime field, which keeps ranks but
for a chance of about 1 in 2 ** 31, and then eliminated there: exact, with no tolerance.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.recon.census.kinds import N_KINDS
from dbrecon.recon.census.tables import Product

PRIME = 2**31 - 1
_SPARE = 8  # columns of the projection beyond the number of constraints

Matrix = npt.NDArray[np.int64]


class Coverage(NamedTuple):
    """``cells`` are published, ``rows`` written by constraints, of ``rank``; ``missing`` are the cells that do not follow."""

    level: str
    cells: int
    rows: int
    rank: int
    missing: tuple[str, ...]


def coverage(product: Product, level: str) -> Coverage:
    """The test for one level, "block" or "tract"; some seconds for the largest products.

    Cells that are the sum of others follow from those, so that undivided cells alone are tested, and apart from one another where
    no constraint joins them (single years of age, say).
    """
    names, cells = _undivided(product, level)
    written = _written(product, level)
    both = sp.csc_array(sp.hstack([written, cells]))
    _, component = sp.csgraph.connected_components(both.T @ both, directed=False)
    of_row, of_cell = component[: written.shape[1]], component[written.shape[1] :]
    rank, missing = 0, list[str]()
    for number in range(component.max(initial=-1) + 1):
        at = np.flatnonzero(of_cell == number)
        found, left = _follow(written[:, np.flatnonzero(of_row == number)], cells[:, at])
        rank += found
        missing += [names[i] for i in at[left].tolist()]
    return Coverage(level, len(product.columns(level)), written.shape[1], rank, tuple(missing))


def _follow(written: sp.csc_array, cells: sp.csc_array) -> tuple[int, npt.NDArray[np.bool_]]:
    """The rank of the written columns, and which cells do not follow from them."""
    draw = np.random.default_rng(1).integers(0, PRIME, (N_KINDS, written.shape[1] + _SPARE))
    rows, wanted = _project(written, draw), _project(cells, draw)
    rank = _eliminate(rows, wanted)
    left: npt.NDArray[np.bool_] = np.asarray(wanted.any(axis=1))
    return rank, left


def _undivided(product: Product, level: str) -> tuple[list[str], sp.csc_array]:
    """Names of the level's cells that have no parts, and (kinds, cells) which kinds each counts."""
    tables = product.tables_of(level)
    names = [table.cell_names[i] for table in tables for i in table.undivided]
    found = [sp.csc_array(table.membership())[:, list(table.undivided)] for table in tables]
    return names, sp.csc_array(sp.hstack(found)) if found else sp.csc_array((N_KINDS, 0), dtype=np.int64)


def _written(product: Product, level: str) -> sp.csc_array:
    """(kinds, rows): which kinds each written count counts."""
    found = []
    for constraint in product.constraints:
        if constraint.partition.level == level:
            index = np.where(constraint.written, constraint.partition.index, -1).ravel()
            kinds = np.flatnonzero(index >= 0)
            groups, column = np.unique(index[kinds], return_inverse=True)
            found.append(sp.csc_array((np.ones(len(kinds), np.int64), (kinds, column)), shape=(N_KINDS, len(groups))))
    return sp.csc_array(sp.hstack(found)) if found else sp.csc_array((N_KINDS, 0), dtype=np.int64)


def _project(columns: sp.csc_array, draw: Matrix) -> Matrix:
    """(columns, width): each column's product with the random matrix, modulo the prime. A column has at most 25,956 entries of at
    most 12, so that no sum overflows."""
    return np.asarray(sp.csr_array(columns.T).astype(np.int64) @ draw) % PRIME


def _eliminate(rows: Matrix, wanted: Matrix) -> int:
    """Gaussian elimination of ``rows``, and of ``wanted`` by them, in place; the rank of ``rows``."""
    both = np.concatenate([rows, wanted])
    n, rank, width = len(rows), 0, rows.shape[1]
    for column in range(width):
        pivots = np.flatnonzero(both[rank:n, column])
        if not len(pivots):
            continue
        pivot = rank + int(pivots[0])
        both[[rank, pivot]] = both[[pivot, rank]]
        both[rank, column:] = both[rank, column:] * pow(int(both[rank, column]), -1, PRIME) % PRIME
        below = rank + 1 + np.flatnonzero(both[rank + 1 :, column])
        factors = both[below, column]
        both[below, column:] = (both[below, column:] - factors[:, None] * both[rank, column:]) % PRIME
        rank += 1
    rows[:], wanted[:] = both[:n], both[n:]
    return rank
