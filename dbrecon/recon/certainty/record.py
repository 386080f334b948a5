"""What is kept of a tract's certainty: a small JSON text, the same bytes for the same tables, people, budget and solver.

A record says what it was made of by two digests. It holds for people and tables that have these digests, whoever wrote it and when.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.bins import AgeBins, comparison_bins, derive_binning
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.census.tables import Product
from dbrecon.recon.certainty.json_record import JsonRecord
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.certainty.tract_certainty import TractCertainty, certainty
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People
from dbrecon.recon.tract.model import Model, ModelBuilder, TractTables

_BLOCK_FIELDS = (
    "people",
    "differ_lower",
    "differ_upper",
    "blockwise_lower",
    "blockwise_upper",
    "certain",
    "any_two_upper",
    "proof",
)
_CELL_FIELDS = ("block", "kind", "count", "least", "most", "seen_least", "seen_most")


def certainty_bins(product: Product) -> AgeBins:
    """Return the ages that certainty tells apart: the common refinement of the program's bins and the product's comparison bins."""
    return derive_binning(product).bins.refined(comparison_bins(product))


def certainty_builder(product: Product) -> ModelBuilder:
    """Build the programs of which certainty is told."""
    return ModelBuilder(product, certainty_bins(product))


@dataclass(frozen=True)
class TractRecord(JsonRecord):
    """A tract's certainty as it is kept.

    ``blocks`` (columns by name) has one entry a block with people, ``cells`` one a count of the program that is filled or may vary;
    ``cells["block"]`` are positions in ``blocks["block"]``, ``cells["kind"]`` kinds over ``bins`` (their first age categories).
    ``people_digest`` and ``tables_digest`` are SHA-256, in hex.
    """

    FORMAT = 1
    WHAT = "certainty"
    ABOUT = Subject.CERTAINTY

    geoid: str
    people_digest: str
    tables_digest: str
    budget: Budget
    solver: str
    bins: tuple[int, ...]
    intervals: bool
    steps: int
    blocks: dict[str, IntArray]
    cells: dict[str, IntArray]

    @classmethod
    def of_plain(cls, plain: dict[str, Any]) -> Self:
        """Return the record of parsed JSON."""
        return cls(
            str(plain["geoid"]),
            str(plain["people_digest"]),
            str(plain["tables_digest"]),
            Budget(**plain["budget"]),
            str(plain["solver"]),
            tuple(plain["bins"]),
            bool(plain["intervals"]),
            int(plain["steps"]),
            {name: np.array(plain["blocks"][name], np.int64) for name in ("block", *_BLOCK_FIELDS)},
            {name: np.array(plain["cells"][name], np.int64) for name in _CELL_FIELDS},
        )


def people_digest(people: People, bins: AgeBins) -> str:
    """SHA-256 of who lives in which block, in the bins that certainty tells apart. The order of the people does not matter."""
    kind = bins.of_kind(people.kind)
    key = people.geoid_block * (bins.n_sa * 126) + kind
    unique, inverse = np.unique(key, return_inverse=True)
    count = np.zeros(len(unique), np.int64)
    np.add.at(count, inverse, people.count)
    return hashlib.sha256(np.stack([unique, count]).astype("<i8").tobytes()).hexdigest()


def tables_digest(tables: TractTables) -> str:
    """Return SHA-256 of all that is published of a tract."""
    parts = (tables.blocks, tables.block_cells.ravel(), tables.tract_cells)
    return hashlib.sha256(tables.geoid.encode() + np.concatenate(parts).astype("<i8").tobytes()).hexdigest()


def counts_of(model: Model, people: People) -> IntArray:
    """Return (variables,) how many of the people each variable counts. Raises InputError if somebody is in no block, or of no kind,
    that the tables allow: then the people are no reconstruction from them."""
    n_kinds = model.bins.n_sa * 126
    block = np.searchsorted(model.blocks, people.geoid_block % BLOCKS_PER_TRACT)
    known = model.block * n_kinds + model.kind
    order = np.argsort(known)
    wanted = block * n_kinds + model.bins.of_kind(people.kind)
    at = np.searchsorted(known[order], wanted)
    at[at == len(known)] = 0
    position = order[at] if len(order) else at
    if len(wanted) and (not len(known) or (known[position] != wanted).any()):
        raise InputError(f"tract {model.geoid}: somebody is in it whom its published tables forbid", about=Subject.PEOPLE)
    counts = np.zeros(model.n_variables, np.int64)
    np.add.at(counts, position, people.count)
    return counts


def tract_record(
    builder: ModelBuilder, tables: TractTables, people: People, budget: Budget, solver: str, intervals: bool
) -> TractRecord:
    """Return the certainty of a tract's people (of :func:`certainty_builder`'s builder). Raises InputError if they do not meet the
    tables."""
    model = builder.build(tables)
    counts = counts_of(model, people)
    found = certainty(model, counts, budget, intervals)
    return TractRecord(
        tables.geoid,
        people_digest(people, builder.bins),
        tables_digest(tables),
        budget,
        solver,
        builder.bins.starts,
        intervals,
        found.steps,
        _blocks(model, found),
        _cells(model, counts, found),
    )


def _blocks(model: Model, found: TractCertainty) -> dict[str, IntArray]:
    columns = (
        found.people,
        found.exact.lower,
        found.exact.upper,
        found.blockwise.lower,
        found.blockwise.upper,
        found.certain,
        found.any_two,
        found.exact.proof,
    )
    return {"block": model.blocks} | dict(zip(_BLOCK_FIELDS, columns, strict=True))


def _cells(model: Model, counts: IntArray, found: TractCertainty) -> dict[str, IntArray]:
    cells = found.cells
    kept = np.flatnonzero((counts > 0) | (cells.lower < cells.upper))
    kept = kept[np.lexsort((model.kind[kept], model.block[kept]))]
    columns = (model.block, model.kind, counts, cells.lower, cells.upper, cells.seen_lower, cells.seen_upper)
    return {name: column[kept] for name, column in zip(_CELL_FIELDS, columns, strict=True)}
