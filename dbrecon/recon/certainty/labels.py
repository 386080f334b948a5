"""Which counts of a tract's program are bound tightly to each other: clusters, by number."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.solve.propagation import connected
from dbrecon.recon.tract.model import Model

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Labels:
    """Numbers of the clusters that columns belong to, -1 for none: ``narrow`` those of one block, ``wide`` those of the tract."""

    narrow: IntArray
    wide: IntArray

    @classmethod
    def of_model(cls, model: Model, is_open: BoolArray) -> "Labels":
        """Return the clusters of a tract's program: columns that ``is_open`` and that sums of one sex connect, a block's sums, or
        the tract's too."""
        row_of = np.repeat(np.arange(model.n_constraints), np.diff(model.starts))
        rows = model.of_one_sex[model.row_group]
        used = rows[row_of] & is_open[model.columns]
        narrow = used & (model.row_block >= 0)[row_of]
        return cls(*(_connected(row_of[entries], model.columns[entries], is_open) for entries in (narrow, used)))

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


def _connected(rows: IntArray, columns: IntArray, is_open: BoolArray) -> IntArray:
    """Return (columns,) a number that two open columns share if some of the ``rows`` connect them, -1 for the others."""
    number = np.cumsum(is_open) - 1
    label = np.full(len(is_open), -1)
    label[is_open] = connected(rows, number[columns], int(is_open.sum()))
    return label
