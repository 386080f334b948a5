"""Which counts of a tract's program are bound tightly to each other: clusters, by number."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.solve.propagation import connected
from dbrecon.recon.tract.model import Model


@dataclass(frozen=True)
class Labels:
    """Numbers of the clusters that columns belong to, -1 for none: ``narrow`` those of one block, ``wide`` those of the tract."""

    narrow: IntArray
    wide: IntArray

    @classmethod
    def of_model(cls, model: Model) -> "Labels":
        """Return the clusters of a tract's program: columns that sums of one sex connect, a block's sums, or the tract's too."""
        row_of = np.repeat(np.arange(model.n_constraints), np.diff(model.starts))
        of_one_sex = model.of_one_sex[model.row_group]
        narrow, wide = (_connected(model, row_of, rows) for rows in (of_one_sex & (model.row_block >= 0), of_one_sex))
        return cls(narrow, wide)

    @classmethod
    def none(cls, n_columns: int) -> "Labels":
        """No clusters."""
        return cls(np.full(n_columns, -1), np.full(n_columns, -1))

    def within(self, columns: IntArray) -> "Labels":
        """Return those of some columns."""
        return Labels(self.narrow[columns], self.wide[columns])

    def of_blocks(self) -> "Labels":
        """Without the tract's."""
        return Labels(self.narrow, np.full(len(self.wide), -1))


def _connected(model: Model, row_of: IntArray, rows: npt.NDArray[np.bool_]) -> IntArray:
    """Return (variables,) a number that two variables share if some of the ``rows`` (rows,) connect them."""
    used = rows[row_of]
    return connected(row_of[used], model.columns[used], model.n_variables)
