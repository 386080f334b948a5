"""Which counts follow from others: ranks over a prime field, exact, with no tolerance.

A count is a column over the kinds of person. Columns are projected by a random matrix over a prime field, which keeps ranks but for
a chance of about 1 in 2 ** 31, and then eliminated there, some rows at a time, so that the work is products of matrices.
"""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

PRIME = 2**31 - 1
_SPARE = 8  # columns of the projection beyond the number of rows that may be independent
_ROWS_AT_ONCE = 64  # 2^16 (half a factor) x 2^31 (an entry) x 64 is 2^53: sums of products are exact in doubles

Matrix = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def project(width: int, *columns: sp.csc_array) -> list[Matrix]:
    """Return each matrix's columns (kinds, n) as rows (n, width + spare) modulo the prime: their products with one random matrix.

    Kinds that no column tells apart count once. A column has at most 25,956 entries of at most 12, so that no sum overflows.
    """
    rng = np.random.default_rng(1)
    marks = np.zeros(columns[0].shape[0], np.int64)
    for matrix in columns:
        marks += matrix @ rng.integers(0, 2**62, matrix.shape[1])  # wraps around: equal for equal rows, else hardly ever
    _, kinds = np.unique(marks, return_index=True)
    draw = rng.integers(0, PRIME, (len(kinds), width + _SPARE))
    return [np.asarray(sp.csr_array(sp.csr_array(matrix)[kinds].T).astype(np.int64) @ draw) % PRIME for matrix in columns]


def dependencies(rows: Matrix) -> Matrix:
    """Return (dependencies, rows) a basis of the sums of rows, each times a factor, that are zero."""
    width = rows.shape[1]
    with_factors = np.hstack([rows, np.eye(len(rows), dtype=np.int64)])
    independent = reduce(with_factors, with_factors[:0], width)
    return with_factors[~independent, width:]


def reduce(rows: Matrix, wanted: Matrix, width: int | None = None) -> BoolArray:
    """Reduce ``wanted`` by ``rows``, in place: what is left of it is zero where it follows from these.

    Returns (rows,) which rows do not follow from those before them; as many are the rank. Changes ``rows`` too. With ``width`` the
    columns from there on are only carried along.
    """
    independent = np.zeros(len(rows), bool)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE]
        found, columns = _reduce_block(block, width)
        independent[start : start + len(block)] = found
        pivots = block[found]
        for rest in (rows[start + len(block) :], wanted):
            if len(columns) and len(rest):
                rest -= _product(rest[:, columns], pivots)
                rest %= PRIME
    return independent


def _reduce_block(block: Matrix, width: int | None) -> tuple[BoolArray, list[int]]:
    """Reduce some rows by one another, in place: those that are independent have a 1 in a column where all others have a 0. Returns
    which these are, and their columns."""
    found, columns = np.zeros(len(block), bool), list[int]()
    for i, row in enumerate(block):
        entries = np.flatnonzero(row[:width])
        if not len(entries):
            continue
        column = int(entries[0])
        row[:] = row * pow(int(row[column]), -1, PRIME) % PRIME
        others = np.flatnonzero(block[:, column])
        others = others[others != i]
        block[others] = (block[others] - block[others, column][:, None] * row) % PRIME
        found[i] = True
        columns.append(column)
    return found, columns


def _product(factors: Matrix, rows: Matrix) -> Matrix:
    """Return ``factors @ rows`` modulo the prime, for at most 64 rows."""
    right = rows.astype(np.float64)
    high, low = ((half.astype(np.float64) @ right).astype(np.int64) % PRIME for half in (factors >> 16, factors & 0xFFFF))
    return ((high << 16) + low) % PRIME
