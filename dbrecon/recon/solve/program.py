"""An integer program as arrays, what is asked of a solver and what it answers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.errors import SolverError, Subject
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.tract.model import Model

FloatArray = npt.NDArray[np.float64]

ROUNDING = 1e-3
"""A value farther than this from an integer is no solution; what is rounded is checked in integers in any case."""

MOST_COUNTED = 2**53
"""Up to here a whole number is exact in floating point."""

RESTRICTED_SIZE = 2000
"""Variables, and constraints, that Gurobi's size-limited licence allows (its documentation, "pip license")."""


class Infeasible(SolverError):
    """No people can meet all constraints."""


class TimeLimit(SolverError):
    """The solver did not finish in the time it was given."""


class LicenceError(SolverError):
    """Gurobi cannot be used: no licence, one too small, or no token free."""


@dataclass(frozen=True)
class Program:
    """Find integers ``column_lower <= x <= column_upper`` with ``lower <= A x <= upper``; those with the least ``cost`` x if it has
    one.

    A is in compressed rows: row i has ``values[k]`` in column ``columns[k]`` for k from ``starts[i]`` up to ``starts[i + 1]``.
    """

    starts: IntArray
    columns: IntArray
    values: FloatArray
    lower: FloatArray
    upper: FloatArray
    column_lower: FloatArray
    column_upper: FloatArray
    cost: FloatArray | None = None

    @classmethod
    def of_model(cls, model: Model) -> "Program":
        """Return the program of a tract's model."""
        lower = upper = model.rhs.astype(np.float64)
        if model.sense is not None:
            lower, upper = np.where(model.sense < 0, -np.inf, lower), np.where(model.sense > 0, np.inf, upper)
        n = model.n_variables
        ones = np.ones(model.n_nonzeros)
        return cls(model.starts, model.columns, ones, lower, upper, np.zeros(n), np.full(n, np.inf))

    @property
    def n_variables(self) -> int:
        """Number of variables."""
        return len(self.column_upper)

    @property
    def n_constraints(self) -> int:
        """Number of constraints."""
        return len(self.lower)

    def matrix(self) -> sp.csr_array:
        """Return (constraints, variables) the coefficients."""
        return sp.csr_array((self.values, self.columns, self.starts), shape=(self.n_constraints, self.n_variables))

    def is_met_by(self, values: IntArray) -> bool:
        """Return whether integers meet all bounds and constraints: exactly where coefficients are integers, else within 1e-6."""
        sums = self.matrix() @ values.astype(np.float64)
        whole = bool((self.values == np.rint(self.values)).all())
        slack = 0.0 if whole else 1e-6
        within = (values >= self.column_lower) & (values <= self.column_upper)
        return bool(within.all() and (sums >= self.lower - slack).all() and (sums <= self.upper + slack).all())

    def without(self, whole: FloatArray) -> tuple["Program", IntArray]:
        """Return what is left of it (without negative coefficients) when ``whole`` is taken; and the old numbers of its columns."""
        matrix = self.matrix()
        taken = matrix @ whole
        lower, upper = self.lower - taken, self.upper - taken
        full = upper < 0.5
        forbidden = matrix.T @ full.astype(np.float64) > 0
        columns = np.flatnonzero(~forbidden & (self.column_upper - whole > 0.5))
        rows = np.flatnonzero(~full | (lower > 0.5))
        kept = sp.csr_array(matrix[rows][:, columns])
        room = self.column_upper[columns] - whole[columns]
        starts, indices = kept.indptr.astype(np.int64), kept.indices.astype(np.int64)
        return Program(starts, indices, kept.data, lower[rows], upper[rows], np.zeros(len(columns)), room), columns

    def with_rows(self, rows: IntArray) -> "Program":
        """Return the program that keeps only some of its constraints."""
        matrix = self.matrix()[rows]
        starts, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
        return Program(starts, columns, matrix.data, self.lower[rows], self.upper[rows], self.column_lower, self.column_upper)


@dataclass(frozen=True)
class NamedProgram:
    """A program read from an LP file, with the names of its variables and constraints."""

    program: Program
    variables: tuple[str, ...]
    constraints: tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """How to solve. ``seconds``: the time limit of one program; ``token_wait``: how long to wait for a free Gurobi token;
    ``objective``: "spread" for the most plausible answer (:mod:`dbrecon.recon.solve.spread`), "none" for the first that is
    found."""

    solver: str = "highs"
    seed: int = 1
    seconds: float = 600.0
    token_wait: float = 600.0
    objective: str = "none"


@dataclass(frozen=True)
class Answer:
    """(variables,) integers, and the solver's name and version."""

    values: IntArray
    solver: str


def rounded(values: FloatArray, what: str, solver: str) -> IntArray:
    """Return the integers that a solver's values stand for. Raises SolverError if one is no integer."""
    integers = np.rint(values)
    if len(values) and not (np.abs(values - integers).max() <= ROUNDING and np.abs(values).max() <= MOST_COUNTED):
        raise SolverError(f"{what}: {solver} gave a value that is no integer", about=Subject.ANSWER)
    return integers.astype(np.int64)
