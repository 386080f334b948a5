"""Programs from LP text, as HiGHS reads it."""

import tempfile
from pathlib import Path

import highspy
import numpy as np
import scipy.sparse as sp

from dbrecon.errors import InputError
from dbrecon.recon.solve.program import REMEDY, NamedProgram, Program


def read_lp(text: bytes, source: str, remedy: str = REMEDY) -> NamedProgram:
    """A program from LP text (ours, the predecessor's, or any that HiGHS reads). ``source`` names the file in errors, which
    end with ``remedy``.

    Raises InputError if the text is cut off or is no LP.
    """
    if not text.rstrip().endswith(b"End"):
        raise InputError(f"{source}: the LP file does not end with End: it is cut off; {remedy}")
    # HiGHS wants a name that ends in .lp. The file itself has none, so that a kill leaves no more than a link that leads nowhere.
    with tempfile.TemporaryFile() as file, tempfile.TemporaryDirectory(prefix="dbrecon-lp-") as folder:
        file.write(text)
        file.flush()
        path = Path(folder) / "model.lp"
        path.symlink_to(f"/proc/self/fd/{file.fileno()}")
        highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        status = highs.readModel(str(path))
    lp = highs.getLp()
    if status == highspy.HighsStatus.kError or lp.num_row_ == 0:  # HiGHS takes a text without sections for an empty program
        raise InputError(f"{source}: this is no LP file that HiGHS can read; {remedy}")
    matrix = sp.csc_array(
        (np.array(lp.a_matrix_.value_), np.array(lp.a_matrix_.index_), np.array(lp.a_matrix_.start_)),
        shape=(lp.num_row_, lp.num_col_),
    ).tocsr()
    program = Program(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int64),
        matrix.data,
        np.array(lp.row_lower_, np.float64),
        np.array(lp.row_upper_, np.float64),
        np.array(lp.col_lower_, np.float64),
        np.array(lp.col_upper_, np.float64),
    )
    return NamedProgram(program, tuple(lp.col_names_), tuple(lp.row_names_))


# Gurobi
