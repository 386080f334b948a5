"""A tract's integer program as CPLEX LP text, which Gurobi, HiGHS, CPLEX and GLPK read unaided.

A variable's name is the person it counts, 13 characters: ``M1018_045r32N`` counts men (M or F) of block 1018, age 45 (the first
age of the category: 100 is 100 to 104, 105 is 105 to 109, 110 is 110 and over), race set 32 (the bits of white 32, black 16,
aian 8, asian 4, nhopi 2, sor 1), not Hispanic (H or N). The tract stands in the first line. A constraint's name is the cell it
comes from and, unless it is the tract's, the block: ``P012A003_1018``, ``P012A003_hisp_1018`` for a count by subtraction.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.people.solution import NAME_WIDTH, variable_names
from dbrecon.recon.tract.model import Model

Bytes = npt.NDArray[np.uint8]

TERMS_A_LINE = 28  # of 16 characters: with the constraint's name a line stays under 500 characters
NAMES_A_LINE = 34
NOBODY = "__nobody"
FIRST_LINE = "\\ Reconstruction of census tract "


def _tokens(names: Bytes, order: IntArray, lead: bytes) -> bytes:
    """The names in an order, each behind ``lead``, as one string."""
    tokens = np.empty((len(order), len(lead) + NAME_WIDTH), np.uint8)
    tokens[:, : len(lead)] = np.frombuffer(lead, np.uint8)
    tokens[:, len(lead) :] = names[order]
    return tokens.tobytes()


@lru_cache(maxsize=4)
def _encoded(labels: tuple[str, ...]) -> list[bytes]:
    return [label.encode() for label in labels]


def _rows(model: Model, names: Bytes) -> list[bytes]:
    """The constraints, in pieces."""
    width = NAME_WIDTH + 3
    tokens = _tokens(names, model.columns, b" + ")
    labels = _encoded(model.labels)
    suffixes = [b"_%04d" % block for block in model.blocks.tolist()] + [b""]  # the last, at -1, is the tract's
    bounds = (model.starts * width).tolist()
    full_line = TERMS_A_LINE * width
    pieces: list[bytes] = []
    for group, block, start, end, rhs in zip(
        model.row_group.tolist(), model.row_block.tolist(), bounds, bounds[1:], model.rhs.tolist(), strict=False
    ):
        terms = tokens[start:end] or b" 0 " + NOBODY.encode()
        if end - start > full_line:
            terms = b"\n".join([tokens[i : min(i + full_line, end)] for i in range(start, end, full_line)])
        pieces.append(b" %s%s:%s = %d\n" % (labels[group], suffixes[block], terms, rhs))
    return pieces


def format_lp(model: Model, population: int, product: str, tables: str, comments: tuple[str, ...] = ()) -> bytes:
    """The whole program as LP text. A pure function of its arguments; every line is under 500 characters.

    A count above zero that no variable can meet becomes ``0 __nobody = count``, which no solver can satisfy.
    """
    names = variable_names(model.blocks[model.block], model.kind).view(np.uint8).reshape(-1, NAME_WIDTH)
    head = [
        f"{FIRST_LINE}{model.geoid}",
        f"\\ Product {product}, tables {tables}: {population} people in {len(model.blocks)} blocks",
        f"\\ {model.n_variables} variables, {model.n_constraints} constraints, {model.n_nonzeros} coefficients",
        *(f"\\ {comment}" for comment in comments),
        "Minimize",
        f" obj: 0 {names[0].tobytes().decode() if len(names) else NOBODY}",
        "Subject To",
    ]
    pieces = ["\n".join(head).encode() + b"\n", *_rows(model, names), b"General\n"]
    listing = _tokens(names, np.arange(len(names)), b" ")
    line = NAMES_A_LINE * (NAME_WIDTH + 1)
    for start in range(0, len(listing), line):
        pieces.append(listing[start : start + line])
        pieces.append(b"\n")
    pieces.append(b"End\n")
    return b"".join(pieces)


def tract_of_lp(text: bytes) -> str | None:
    """The 11-digit tract that an LP text of ours names in its first line; None for a foreign file."""
    first = text[: text.find(b"\n")].decode("ascii", errors="replace")
    return first.removeprefix(FIRST_LINE).strip() if first.startswith(FIRST_LINE) else None
