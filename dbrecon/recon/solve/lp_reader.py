"""Programs from LP text, as HiGHS reads it."""

import tempfile
from pathlib import Path
from typing import Any

import highspy
import numpy as np
import scipy.sparse as sp

from dbrecon.errors import InputError, Subject
from dbrecon.recon.people.variable_names import DUMMIES, is_variable
from dbrecon.recon.solve.lp_dialect import in_utf8, marks, plain, statements, translated, unsupported, up_to_end
from dbrecon.recon.solve.program import MOST_COUNTED, FloatArray, NamedProgram, Program
from dbrecon.recon.solve.quiet_highs import QuietHighs


def read_lp(text: bytes, source: str) -> NamedProgram:
    """Return a program from LP text (ours, the predecessor's, or another's that HiGHS reads or
    :mod:`dbrecon.recon.solve.lp_dialect` translates). ``source`` names the file in errors, which are about an LP file where another
    copy of it may help.

    A linear objective is the program's cost. Raises InputError if the text is cut off or no LP, has what is not honoured, or a
    variable that need not be whole or cannot be.
    """
    if b"\0" in text:
        raise InputError(f"{source}: the LP file has a NUL byte, at which other programs cut names off", about=Subject.LP_FILE)
    whole = up_to_end(in_utf8(text))
    if whole is None:
        raise InputError(f"{source}: the LP file does not end with End: it is cut off", about=Subject.LP_FILE)
    whole = plain(whole)
    marked = b"->" in whole or b"^" in whole  # of an arrow HiGHS would tell the terminal
    what = (marks(whole) if marked else None) or unsupported(whole)
    highs = None if what else _parsed(whole)
    if highs is None and (what := what or marks(whole)):
        raise InputError(f"{source}: has {what}, which are not supported here; write the program without them")
    highs = highs or _parsed(translated(whole))
    if highs is None:
        raise InputError(f"{source}{_unreadable(whole)}", about=Subject.LP_DIALECT)
    lp = highs.getLp()
    names = tuple(lp.col_names_)
    cost = np.array(lp.col_cost_, np.float64) * (-1 if lp.sense_ == highspy.ObjSense.kMaximize else 1)
    low, high = np.array(lp.col_lower_, np.float64), np.array(lp.col_upper_, np.float64)
    if highs.getModel().hessian_.dim_:
        raise InputError(f"{source}: has quadratic terms, which are not supported here; write the program without them")
    _check_variables(lp, names, low, high, source)
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
        low,
        high,
        cost if (cost[low < high] != 0).any() else None,
    )
    return NamedProgram(program, names, tuple(lp.row_names_))


def _parsed(text: bytes, empty: bool = False) -> QuietHighs | None:
    """Return a solver that holds the text's program; None if HiGHS cannot read it, or, unless ``empty`` will do, finds no
    constraints."""
    # HiGHS wants a name that ends in .lp. The file itself has none, so that a kill leaves no more than a link that leads nowhere.
    with tempfile.TemporaryFile() as file, tempfile.TemporaryDirectory(prefix="dbrecon-lp-") as folder:
        file.write(text)
        file.flush()
        path = Path(folder) / "model.lp"
        path.symlink_to(f"/proc/self/fd/{file.fileno()}")
        highs = QuietHighs({})
        status = highs.readModel(str(path))
    # HiGHS takes a text without sections for an empty program.
    return None if status == highspy.HighsStatus.kError or not (empty or highs.getLp().num_row_) else highs


def _unreadable(text: bytes) -> str:
    """Return which line of a :func:`plain` text HiGHS cannot read, which does not tell itself, as the end of a sentence."""
    begins = [*statements(text), len(text)]
    read, unread = 0, len(begins) - 1  # as far as begins[read] it can, as far as begins[unread] not
    while unread - read > 1:
        middle = (read + unread) // 2
        if _parsed(translated(text[: begins[middle]]) + b"End\n", empty=True) is None:
            unread = middle
        else:
            read = middle
    before, line = text[: begins[read]], text[begins[read] : begins[unread]].strip().partition(b"\n")[0]
    if unread == len(begins) - 1 and _parsed(translated(text), empty=True) is not None:
        return ": this is no LP file: HiGHS finds no constraints in it"
    return f", line {len(before.splitlines()) + 1}: {line[:60].decode(errors='ignore')!r} is nothing that HiGHS can read"


def _check_variables(lp: Any, names: tuple[str, ...], low: FloatArray, high: FloatArray, source: str) -> None:
    """Whether every variable that is not fixed must be whole, and can be."""
    kinds = np.array([int(kind) for kind in lp.integrality_], np.int64) if len(lp.integrality_) else np.zeros(len(names), np.int64)
    semi = (kinds != int(highspy.HighsVarType.kInteger)) & (kinds != int(highspy.HighsVarType.kContinuous))
    if semi.any():
        raise InputError(f"{source}: has semi-continuous variables, which are not supported here; write the program without them")
    if (np.ceil(low) > np.floor(high)).any():
        i = int(np.argmax(np.ceil(low) > np.floor(high)))
        raise InputError(
            f"{source}: the variable {names[i]} has the bounds {low[i]:g} and {high[i]:g}, between which no whole number lies; "
            "mend them"
        )
    counts = (np.diff(np.array(lp.a_matrix_.start_)) > 0) | (np.array(lp.col_cost_) != 0)
    for i in np.flatnonzero(~counts & (low < high)).tolist():
        if names[i] not in DUMMIES and not is_variable(names[i]):
            raise InputError(
                f"{source}: {names[i]!r} stands in no constraint and counts nobody: if it begins a section, that is none that is "
                "read here; write the program without it"
            )
    if (below := counts & (low < 0) & (low < high)).any():
        i = int(np.argmax(below))
        raise InputError(f"{source}: the variable {names[i]} may be {low[i]:g}, but variables here count people: let it begin at 0")
    ends = np.concatenate([low, high, lp.row_lower_, lp.row_upper_])
    if (np.abs(ends[np.isfinite(ends)]) > MOST_COUNTED).any():
        raise InputError(f"{source}: has a bound beyond {MOST_COUNTED:,}: no people are so many; correct it")
    loose = (kinds == int(highspy.HighsVarType.kContinuous)) & (low < high) & counts
    if loose.any():
        i = int(np.argmax(loose))
        raise InputError(
            f"{source}: the variable {names[i]} need not be whole, but variables here count people: list it under General or Binary"
        )
