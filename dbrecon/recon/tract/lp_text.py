"""A tract's integer program as CPLEX LP text, which Gurobi, HiGHS, CPLEX and GLPK read unaided.

A variable's name is whom it counts (:mod:`dbrecon.recon.people.variable_names`): ``M1018_045_049r32N``, or ``M1018_020r32N``
where its bin is a single age. The tract stands in the first line. A constraint's name is the cell it comes from and, unless it is
the tract's, the block: ``P012A003_1018``, ``P012A003_hisp_1018`` for a count by subtraction, ``PCT012I048_052`` for a sum of
the tract's cells; ``P012A003_1018_range`` for the most of a cell that is published rounded or withheld, whose least is
``P012A003_1018``.
"""

import codecs
import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.people.variable_names import variable_names
from dbrecon.recon.tract.model import MOST_SUFFIX, Model

Bytes = npt.NDArray[np.uint8]

TERMS_BYTES = 448  # with the constraint's name a line stays under 500 characters
NAMES_BYTES = 476
NOBODY = "__nobody"
_NOBODY = NOBODY.encode()
_RELATIONS = {0: (b"", b"="), 1: (b"", b">="), -1: (MOST_SUFFIX.encode(), b"<=")}
FIRST_LINE = "\\ Reconstruction of census tract "
AGES_LINE = "\\ Ages that are counted together: "
HEAD_BYTES = 4096


@dataclass(frozen=True)
class _Tokens:
    """Names one after the other, each behind the same characters, as one string; token i is ``text[at[i]:at[i + 1]]``."""

    text: bytes
    at: IntArray

    @classmethod
    def of(cls, names: Bytes, order: IntArray, lead: bytes, on_new_line: npt.NDArray[np.bool_]) -> "_Tokens":
        """Return ``names`` (n, width) padded with zeros, in an order; before which of them a line ends."""
        before = np.frombuffer(b"\n" + lead, np.uint8)
        tokens = np.empty((len(order), len(before) + names.shape[1]), np.uint8)
        tokens[:, : len(before)] = before
        tokens[~on_new_line, 0] = 0
        tokens[:, len(before) :] = names[order]
        lengths = (names != 0).sum(axis=1)[order] + len(lead) + on_new_line
        return cls(tokens[tokens != 0].tobytes(), np.concatenate([[0], np.cumsum(lengths)]))


def model_names(model: Model) -> npt.NDArray[np.bytes_]:
    """Return (variables,) the variables' names."""
    bins = model.bins
    number = bins.split(model.kind)[1]
    return variable_names(model.blocks[model.block], bins.first_kind(model.kind), bins.last[number])


@lru_cache(maxsize=4)
def _encoded(labels: tuple[str, ...]) -> list[bytes]:
    return [label.encode() for label in labels]


def _rows(model: Model, names: Bytes) -> list[bytes]:
    """Return the constraints, in pieces."""
    term = np.arange(len(model.columns)) - np.repeat(model.starts[:-1], np.diff(model.starts))
    a_line = TERMS_BYTES // (names.shape[1] + 3)
    tokens = _Tokens.of(names, model.columns, b" + ", (term % a_line == 0) & (term > 0))
    labels = _encoded(model.labels)
    suffixes = [b"_%04d" % block for block in model.blocks.tolist()] + [b""]  # the last, at -1, is the tract's
    at = tokens.at[model.starts].tolist()
    nothing = b" 0 " + _NOBODY
    rows = zip(model.row_group.tolist(), model.row_block.tolist(), model.rhs.tolist(), itertools.pairwise(at), strict=True)
    senses = itertools.repeat(0) if model.sense is None else model.sense.tolist()
    return [
        b" %s%s%s:%s %s %d\n" % (labels[group], suffixes[block], mark, tokens.text[begin:end] or nothing, relation, count)
        for (group, block, count, (begin, end)), (mark, relation) in zip(rows, map(_RELATIONS.__getitem__, senses), strict=False)
    ]


def format_lp(model: Model, population: int, product: str, tables: str, comments: tuple[str, ...] = ()) -> bytes:
    """Return the whole program as LP text. A pure function of its arguments; every line is under 500 characters.

    A count above zero that no variable can meet becomes ``0 __nobody = count``, which no solver can satisfy.
    """
    named = model_names(model)
    names = named.view(np.uint8).reshape(len(named), named.dtype.itemsize)
    head = [
        f"{FIRST_LINE}{model.geoid}",
        f"\\ Product {product}, tables {tables}: {population} people in {len(model.blocks)} blocks",
        f"\\ {model.n_variables} variables, {model.n_constraints} constraints, {model.n_nonzeros} coefficients",
        *([] if model.bins.single else [f"{AGES_LINE}{model.bins.wide()}"]),
        *(f"\\ {comment}" for comment in comments),
        "Minimize",
        f" obj: 0 {named[0].decode() if len(named) else NOBODY}",
        "Subject To",
    ]
    pieces = ["\n".join(head).encode() + b"\n", *_rows(model, names), b"General\n"]
    number = np.arange(len(names))
    if len(names):
        a_line = NAMES_BYTES // (names.shape[1] + 1)
        pieces += [_Tokens.of(names, number, b" ", (number % a_line == 0) & (number > 0)).text, b"\n"]
    pieces.append(b"End\n")
    return b"".join(pieces)


def tract_of_lp(text: bytes) -> str | None:
    """Return the 11-digit tract that an LP text of ours names in its first line; None for a foreign file."""
    first = text[: text.find(b"\n")].removeprefix(codecs.BOM_UTF8).decode("ascii", errors="replace")
    return first.removeprefix(FIRST_LINE).strip() if first.startswith(FIRST_LINE) else None


def ages_of_lp(text: bytes) -> str | None:
    """Return the age bins of several years that an LP text of ours says it counts by; None for one of single ages, and a foreign
    file."""
    head = text[:HEAD_BYTES].decode("ascii", errors="replace").splitlines()
    return next((line.removeprefix(AGES_LINE) for line in head if line.startswith(AGES_LINE)), None)
