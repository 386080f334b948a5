"""Each block by itself: its own equations, and of each tract count that the block's part is at most the whole.

Source: the bound of Abowd et al., arXiv 2312.11283, eq. 4.10. It leaves out that the blocks share the tract's counts, so it
lies above the
exact distance.
"""

import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.solve.propagation import CountSystem


def blockwise_system(system: CountSystem, block: IntArray, row_block: IntArray) -> tuple[CountSystem, IntArray]:
    """Return the system in which every sum over several blocks is replaced by ceilings, one a block that it touches; and of each of
    its rows the sum of which it is a block's piece.

    ``block`` (columns,) is the block of each count, ``row_block`` (rows,) that of each sum, -1 for the tract's. Sums of a block
    stay as
    they are; they come first, then the ceilings by sum and block.
    """
    row_of = system.row_of
    of_tract = row_block[row_of] < 0
    width = int(block.max(initial=0)) + 1
    key = row_of[of_tract] * width + block[system.columns[of_tract]]
    order = np.argsort(key, kind="stable")
    pieces, lengths = np.unique(key, return_counts=True)
    own = row_block >= 0
    own_lengths = np.diff(system.starts)[own]
    columns = np.concatenate([system.columns[~of_tract], system.columns[of_tract][order]])
    starts = np.concatenate([[0], np.cumsum(np.concatenate([own_lengths, lengths]))])
    lower = np.concatenate([system.row_lower[own], np.zeros(len(pieces), np.int64)])
    upper = np.concatenate([system.row_upper[own], system.row_upper[pieces // width]])
    whole = np.concatenate([np.flatnonzero(own), pieces // width])
    return CountSystem(starts, columns, lower, upper, system.n_columns), whole
