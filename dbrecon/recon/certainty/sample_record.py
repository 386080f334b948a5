"""What is kept of a tract's samples: how far they are from one another and from the people, and how many hold each person."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from dbrecon.errors import Subject
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.json_record import JsonRecord
from dbrecon.recon.certainty.record import counts_of, people_digest, tables_digest
from dbrecon.recon.certainty.sampling import Samples, draw_samples
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.certainty.walk import WalkFigures
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People
from dbrecon.recon.tract.model import Model, ModelBuilder, TractTables

_BLOCK_FIELDS = ("block", "people", "pair_differences", "differences", "most_different")
_CELL_FIELDS = ("block", "kind", "count", "total", "squares", "least", "most")


@dataclass(frozen=True)
class SampleOrder:
    """How many samples of each tract to draw, with which seed, whether by a walk, and whether to keep them."""

    number: int
    seed: int = 0
    keep: bool = False
    walking: bool = False


@dataclass(frozen=True)
class SampleRecord(JsonRecord):
    """A tract's samples, summed up. ``number`` of them were drawn with ``seed``, as corners or by ``walking``.

    ``blocks`` (columns by name) has one entry a block with people: its ``people``; ``pair_differences``, the people by which two
    samples differ (half the L1 norm), summed over all pairs; ``differences``, those by which samples differ from the
    people, summed; ``most_different``, the most of these. ``cells`` has one entry a count that samples or people tell
    differently: four-digit ``block``, ``kind`` over ``bins``, ``count`` of the people, and ``total``, ``squares``, ``least`` and
    ``most`` over samples.
    ``holders`` has ``count`` entries for each cell, in turn: the samples that hold at least 1, 2, ... people there.
    """

    FORMAT = 1
    WHAT = "samples"
    ABOUT = Subject.SAMPLES

    geoid: str
    people_digest: str
    tables_digest: str
    solver: str
    number: int
    seed: int
    walking: bool
    checks: int
    searched: int
    unfinished: int
    mixing: WalkFigures
    bins: tuple[int, ...]
    blocks: dict[str, IntArray]
    cells: dict[str, IntArray]
    holders: IntArray

    def mean_and_spread(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (cells,) the mean and the standard deviation of each cell over samples."""
        total, squares = self.cells["total"], self.cells["squares"]
        return total / self.number, np.sqrt(np.maximum(0, self.number * squares - total**2)) / self.number

    @classmethod
    def of_plain(cls, plain: dict[str, Any]) -> Self:
        """Return the record of parsed JSON."""
        return cls(
            str(plain["geoid"]),
            str(plain["people_digest"]),
            str(plain["tables_digest"]),
            str(plain["solver"]),
            int(plain["number"]),
            int(plain["seed"]),
            bool(plain["walking"]),
            int(plain["checks"]),
            int(plain["searched"]),
            int(plain["unfinished"]),
            WalkFigures(**plain["mixing"]),
            tuple(plain["bins"]),
            {name: np.array(plain["blocks"][name], np.int64) for name in _BLOCK_FIELDS},
            {name: np.array(plain["cells"][name], np.int64) for name in _CELL_FIELDS},
            np.array(plain["holders"], np.int64),
        )


def sample_record(
    builder: ModelBuilder, tables: TractTables, people: People, order: SampleOrder, budget: Budget, solver: str
) -> tuple[SampleRecord, Model, Samples]:
    """Draw samples of a tract and sum them up (of :func:`.record.certainty_builder`'s builder). Raises InputError if the people do
    not meet the tables."""
    model = builder.build(tables)
    counts = counts_of(model, people)
    drawn = draw_samples(model, counts, order.number, order.seed, budget, order.walking)
    cells, holders = _cells(model, counts, drawn)
    record = SampleRecord(
        tables.geoid, people_digest(people, builder.bins), tables_digest(tables), solver, order.number, order.seed, order.walking,
        budget.checks, drawn.searched, drawn.unfinished, drawn.mixing, builder.bins.starts, _blocks(model, counts, drawn), cells,
        holders,
    )  # fmt: skip
    return record, model, drawn


def _blocks(model: Model, counts: IntArray, drawn: Samples) -> dict[str, IntArray]:
    number, n_blocks = len(drawn.values), len(model.blocks)
    block = model.block[drawn.columns]
    ordered = np.sort(drawn.values, axis=0)
    weight = 2 * np.arange(number) - number + 1  # the i-th smallest is less than number - 1 - i others and more than i
    pairs, people = np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64)
    np.add.at(pairs, block, weight @ ordered)
    np.add.at(people, model.block, counts)
    apart = np.zeros((n_blocks, number), np.int64)
    np.add.at(apart, block, np.abs(drawn.values - counts[drawn.columns]).T)
    columns = (model.blocks, people, pairs // 2, apart.sum(axis=1) // 2, apart.max(axis=1, initial=0) // 2)
    return dict(zip(_BLOCK_FIELDS, columns, strict=True))


def _cells(model: Model, counts: IntArray, drawn: Samples) -> tuple[dict[str, IntArray], IntArray]:
    kept = np.flatnonzero((drawn.values != counts[drawn.columns]).any(axis=0))
    columns = drawn.columns[kept]
    order = np.lexsort((model.kind[columns], model.block[columns]))
    columns, values = columns[order], drawn.values[:, kept[order]]
    count = counts[columns]
    cell = np.repeat(np.arange(len(columns)), count)
    rank = np.arange(len(cell)) - np.repeat(np.cumsum(count) - count, count) + 1
    holders = (values[:, cell] >= rank).sum(axis=0)
    found = (
        model.blocks[model.block[columns]], model.kind[columns], count, values.sum(axis=0), (values * values).sum(axis=0),
        values.min(axis=0, initial=1 << 40), values.max(axis=0, initial=0),
    )  # fmt: skip
    return dict(zip(_CELL_FIELDS, found, strict=True)), holders


def holders_of(record: SampleRecord, wanted: IntArray, rank: IntArray) -> IntArray:
    """(people,) how many of the samples hold each person: the ``rank``-th of those alike, whose key is ``wanted``: the four-digit
    block times the number of binned kinds, plus the kind. Who is in none of the record's cells is in every sample."""
    n_kinds = 2 * len(record.bins) * 126
    cells = record.cells
    key = cells["block"] * n_kinds + cells["kind"]  # ascending
    first = np.cumsum(cells["count"]) - cells["count"]
    found = np.full(len(wanted), record.number, np.int64)
    if len(key):
        at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        known = key[at] == wanted
        found[known] = record.holders[first[at[known]] + rank[known] - 1]
    return found


def keys_of(record: SampleRecord, people: People, kind: IntArray) -> IntArray:
    """Return (people,) the keys that :func:`holders_of` wants, of people whose binned kinds are ``kind``."""
    return people.geoid_block % BLOCKS_PER_TRACT * (2 * len(record.bins) * 126) + kind
