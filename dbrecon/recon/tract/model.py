"""The integer program of one tract: how many people of each kind each block has.

One non-negative integer variable for each (block, kind of person) that no published zero rules out; one equation for each count
that the product writes as a constraint and that is not zero. A cell that is rounded or withheld has a row for the least and one for
the most that it may stand for. All coefficients are 1. Vectorised over the tract.

Kinds are sex x age bin x race set x origin (:mod:`dbrecon.recon.census.bins`); with ``SINGLE_AGES`` each age category is a bin.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.errors import ContradictoryTables
from dbrecon.recon.census.bins import SINGLE_AGES, AgeBins, binned_constraint, binned_partition
from dbrecon.recon.census.kinds import N_RH, IntArray
from dbrecon.recon.census.tables import Partition, Product

MOST_SUFFIX = "_range"
"""What the name of the row for the most of a cell ends with."""

UNBOUNDED = np.int64(1) << 40
"""Stands for no bound: more than any count, and far enough from the end of an int64 that sums of millions of them still fit."""


@dataclass(frozen=True)
class TractTables:
    """What is published of one tract.

    geoid: 11 digits; blocks (B,): the four digits of each block with people, as ints; block_cells (B, block cells) and
    tract_cells (tract cells,): the counts in the order of ``product.columns(level)``.
    """

    geoid: str
    blocks: IntArray
    block_cells: IntArray
    tract_cells: IntArray

    @property
    def population(self) -> int:
        """People in the tract's blocks (the first cell of the first block table is everyone)."""
        return int(self.block_cells[:, 0].sum())


@dataclass(frozen=True)
class Model:
    """A tract's program in compressed rows: row i holds ``columns[starts[i]:starts[i+1]]``, all with coefficient 1, and
    must sum to ``rhs[i]``; or, where ``sense[i]`` is 1, to as many at the least, where it is -1 at the most (None: all are
    equations). Variable j counts people of ``kind[j]``, a kind over ``bins``, in ``blocks[block[j]]``.

    ``labels`` and ``of_one_sex`` (groups,) tell of the counts that rows stand for: ``row_group`` are positions there.

    Variables are in the order in which the rows name them first, so that a reader of the LP text numbers them alike.
    """

    geoid: str
    blocks: IntArray
    block: IntArray
    kind: IntArray
    starts: IntArray
    columns: IntArray
    rhs: IntArray
    row_group: IntArray
    row_block: IntArray
    labels: tuple[str, ...] = field(repr=False)
    of_one_sex: npt.NDArray[np.bool_] = field(repr=False)
    bins: AgeBins = SINGLE_AGES
    sense: npt.NDArray[np.int8] | None = None

    @property
    def n_variables(self) -> int:
        """Number of variables."""
        return len(self.kind)

    @property
    def n_constraints(self) -> int:
        """Number of rows."""
        return len(self.rhs)

    @property
    def n_nonzeros(self) -> int:
        """Number of coefficients."""
        return len(self.columns)

    def row_name(self, row: int) -> str:
        """Return the count a row stands for: its cell, and the block unless it is the tract's; ``_range`` where it is the most."""
        block = self.row_block[row]
        where = "" if block < 0 else f"_{self.blocks[block]:04d}"
        label: str = self.labels[self.row_group[row]]
        return label + where + (MOST_SUFFIX if self.sense is not None and self.sense[row] < 0 else "")

    def bounds(self) -> tuple[IntArray, IntArray]:
        """Return (rows,) the least and the most that each may sum to; 0 and ``UNBOUNDED`` where nothing is said."""
        if self.sense is None:
            return self.rhs, self.rhs
        return np.where(self.sense < 0, 0, self.rhs), np.where(self.sense > 0, UNBOUNDED, self.rhs)


class _Layers:
    """Partitions of one level merged into few index arrays: partitions that share no kind share a layer.

    ``index[l]`` (kinds,) holds for each kind the number of its group among all groups of the level, or -1.
    """

    def __init__(self, partitions: list[tuple[npt.NDArray[np.int16], int]]) -> None:
        layers: list[npt.NDArray[np.int32]] = []
        for local, offset in partitions:
            index = np.where(local >= 0, local.astype(np.int32) + offset, -1).ravel()
            for layer in layers:
                if not ((layer >= 0) & (index >= 0)).any():
                    layer[index >= 0] = index[index >= 0]
                    break
            else:
                layers.append(index)
        self.index = layers


class _Values(NamedTuple):
    """(units, groups) the least and the most that each group of people may count: the same array where all cells are exact."""

    least: IntArray
    most: IntArray


class _Level:
    """What the builder needs of one level's partitions, worked out once for a product."""

    def __init__(self, product: Product, level: str, bins: AgeBins) -> None:
        self.bins = bins
        self.product, self.level = product, level
        of = {p.name: binned_partition(p, bins) for p in product.partitions.values() if p.level == level}
        ranges = [binned_partition(p, bins) for p in product.ranges if p.level == level]
        partitions = [*of.values(), *ranges]
        written = [binned_constraint(c, of[c.partition.name], bins) for c in product.constraints if c.partition.level == level]
        offsets = np.concatenate([[0], np.cumsum([len(p.labels) for p in partitions])]).astype(np.int64)
        offset_of = {p.name: int(offset) for p, offset in zip(partitions, offsets, strict=False)}
        self.n_groups, self.n_exact = int(offsets[-1]), int(offsets[len(of)])
        self.labels = tuple(label for p in partitions for label in p.labels)
        if partitions:
            self.coefficients = sp.csr_array(sp.hstack([p.coefficients for p in partitions]))

        def layers(chosen: list[Partition]) -> list[npt.NDArray[np.int32]]:
            return _Layers([(p.index, offset_of[p.name]) for p in chosen]).index

        self.by_sa = [layer.reshape(-1, N_RH)[:, 0] for layer in layers([p for p in partitions if p.by_sa_only])]
        self.by_rh = [layer.reshape(-1, N_RH)[0] for layer in layers([p for p in partitions if p.by_rh_only and not p.by_sa_only])]
        self.by_both = layers([p for p in partitions if not (p.by_sa_only or p.by_rh_only)])
        self.written = _Layers(
            [(np.where(c.written, c.partition.index, np.int16(-1)), offset_of[c.partition.name]) for c in written]
            + [(p.index, offset_of[p.name]) for p in ranges]
        ).index
        self.is_written = np.zeros(self.n_groups, bool)
        for layer in self.written:
            self.is_written[layer[layer >= 0]] = True
        self.of_one_sex = ~(self._counts_sex(0) & self._counts_sex(1))

    def _counts_sex(self, sex: int) -> npt.NDArray[np.bool_]:
        """Return (groups,) whether a written group counts people of a sex."""
        found = np.zeros(self.n_groups, bool)
        for layer in self.written:
            of_sex = layer.reshape(2, -1)[sex]
            found[of_sex[of_sex >= 0]] = True
        return found

    def all_layers(self) -> list[npt.NDArray[np.int32]]:
        """Return every layer over all kinds."""
        shape = (self.bins.n_sa, N_RH)
        wide = [np.broadcast_to(layer[:, None], shape).ravel() for layer in self.by_sa]
        wide += [np.broadcast_to(layer, shape).ravel() for layer in self.by_rh]
        return wide + self.by_both

    def values(self, cells: IntArray) -> "_Values":
        """Return the groups' counts from (units, cells)."""
        if self.n_exact == self.n_groups:
            exact = np.asarray(cells @ self.coefficients)
            return _Values(exact, exact)
        least, most = self.product.intervals(self.level, cells)
        return _Values(np.asarray(least @ self.coefficients), np.asarray(most @ self.coefficients))


def _expand(sa: npt.NDArray[np.bool_], rh: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Return (block, kind) of every pair of an allowed (sex, age) and an allowed (race, origin) of the same block."""
    block_of_sa, which_sa = np.nonzero(sa)
    which_rh = np.nonzero(rh)[1]
    n_rh = rh.sum(axis=1)
    first_rh = np.cumsum(n_rh) - n_rh
    repeats = n_rh[block_of_sa]
    ends = np.cumsum(repeats)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - repeats, repeats)
    block = np.repeat(block_of_sa, repeats)
    kind = np.repeat(which_sa, repeats) * N_RH + which_rh[first_rh[block] + within]
    return block, kind


class ModelBuilder:
    """Builds tracts' models for one product. Make it once a process; :meth:`build` is a pure function of the tables."""

    def __init__(self, product: Product, bins: AgeBins = SINGLE_AGES) -> None:
        self.product = product
        self.bins = bins
        self.block_level = _Level(product, "block", bins)
        self.tract_level = _Level(product, "tract", bins) if product.tables_of("tract") else None
        rng = np.random.default_rng(20100401)
        self._hash = rng.integers(0, 2**63, 1 << 16, dtype=np.uint64)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of all groups: the blocks', then the tract's."""
        return self.block_level.labels + (self.tract_level.labels if self.tract_level else ())

    @cached_property
    def of_one_sex(self) -> npt.NDArray[np.bool_]:
        """Of all groups: whether they count one sex only."""
        return np.concatenate([level.of_one_sex for level in (self.block_level, self.tract_level) if level is not None])

    def build(self, tables: TractTables) -> Model:
        """Return the tract's model.

        Raises InputError if a count that follows by subtraction is negative: the tables contradict each other.
        """
        values = self.block_level.values(tables.block_cells)
        _refuse_negative(self.block_level, self.product.columns("block"), tables.block_cells, values.least, tables)
        if self.tract_level is None:
            of_tract = None
        else:
            cells = tables.tract_cells[None, :]
            of_tract = self.tract_level.values(cells)
            _refuse_negative(self.tract_level, self.product.columns("tract"), cells, of_tract.least, tables)
        block, kind = self._candidates(values.most, None if of_tract is None else of_tract.most[0])
        row_values, rows, columns = self._rows(values, of_tract, block, kind)
        return self._assemble(tables, block, kind, row_values, rows, columns)

    def zeros(self, tables: TractTables, block: int, group: int) -> dict[str, npt.NDArray[np.bool_]]:
        """For each count of a block, or of the tract, that is zero: which of the kinds in ``group`` it forbids.

        ``block`` is a position in ``tables.blocks``, ``group`` a number among the blocks' groups or, after those, the tract's. For
        explaining why nobody is left; slow.
        """
        n_block_groups = self.block_level.n_groups
        level, number = self.block_level, group
        if group >= n_block_groups and self.tract_level is not None:
            level, number = self.tract_level, group - n_block_groups
        kinds = np.unique(np.concatenate([np.flatnonzero(layer == number) for layer in level.written]))
        found: dict[str, npt.NDArray[np.bool_]] = {}
        units = [(self.block_level, tables.block_cells[block], f"_{tables.blocks[block]:04d}")]
        if self.tract_level is not None:
            units.append((self.tract_level, tables.tract_cells, ""))
        for unit, cells, suffix in units:
            values = unit.values(cells[None, :]).most[0]
            for layer in unit.all_layers():
                here = layer[kinds]
                for zero in np.unique(here[(here >= 0) & (values[here] == 0)]).tolist():
                    found[unit.labels[zero] + suffix] = here == zero
        return found

    def _candidates(self, values: IntArray, tract_values: IntArray | None) -> tuple[IntArray, IntArray]:
        """Return (block, kind) of the variables: kinds that no zero of the block or of the tract forbids."""
        n_blocks = len(values)
        positive = np.concatenate([values > 0, np.ones((n_blocks, 1), bool)], axis=1)  # index -1: not counted, allowed
        categories = self.product.categories
        sa = np.tile(np.repeat(categories.sexes, self.bins.n), (n_blocks, 1))
        for layer in self.block_level.by_sa:
            sa &= positive[:, layer]
        rh = np.tile(categories.race_and_origin, (n_blocks, 1))
        for layer in self.block_level.by_rh:
            rh &= positive[:, layer]
        if self.tract_level is not None and tract_values is not None:
            allowed = self._allowed_in_tract(self.tract_level, tract_values)
            sa &= allowed.any(axis=1)
            rh &= allowed.any(axis=0)
        block, kind = _expand(sa, rh)
        if self.tract_level is not None and tract_values is not None:
            keep = allowed.ravel()[kind]
            block, kind = block[keep], kind[keep]
        flat, width = positive.ravel(), positive.shape[1]
        for layer in self.block_level.by_both:
            group = layer[kind]
            group[group < 0] = width - 1
            keep = flat[block * width + group]
            block, kind = block[keep], kind[keep]
        return block, kind

    @staticmethod
    def _allowed_in_tract(level: _Level, tract_values: IntArray) -> npt.NDArray[np.bool_]:
        """Return (sexes and bins, 126) kinds that no zero of the tract's tables forbids."""
        positive = np.append(tract_values > 0, True)
        allowed = np.ones((level.bins.n_sa, N_RH), bool)
        for layer in level.by_sa:
            allowed &= positive[layer][:, None]
        for layer in level.by_rh:
            allowed &= positive[layer]
        for layer in level.by_both:
            allowed &= positive[layer].reshape(-1, N_RH)
        return allowed

    def _rows(
        self, values: _Values, of_tract: _Values | None, block: IntArray, kind: IntArray
    ) -> tuple[_Values, IntArray, IntArray]:
        """Return values of all possible rows (blocks x groups, then the tract's groups; 0 where none is written), and the
        coefficients as (row among those, column), sorted by row, then column."""
        width = self.block_level.n_groups
        row_values = self._row_values(values, of_tract)
        layers = [(layer[kind], block * width) for layer in self.block_level.written]
        if self.tract_level is not None and of_tract is not None:
            at = np.int64(values.least.size)
            layers += [(layer[kind], np.broadcast_to(at, len(kind))) for layer in self.tract_level.written]
        rows, columns = [], []
        for group, base in layers:
            counted = np.flatnonzero(group >= 0)
            rows.append(group[counted] + base[counted])
            columns.append(counted)
        all_rows, all_columns = np.concatenate(rows), np.concatenate(columns)
        order = np.argsort(all_rows, kind="stable")  # columns ascend within a layer; a row is of one layer
        return row_values, all_rows[order], all_columns[order]

    def _row_values(self, values: _Values, of_tract: _Values | None) -> _Values:
        """Return the least and the most of all possible rows."""
        levels = [(self.block_level, values)]
        if self.tract_level is not None and of_tract is not None:
            levels.append((self.tract_level, of_tract))
        least = np.concatenate([np.where(level.is_written, of.least, 0).ravel() for level, of in levels])
        if all(of.least is of.most for _, of in levels):
            return _Values(least, least)
        return _Values(least, np.concatenate([np.where(level.is_written, of.most, 0).ravel() for level, of in levels]))

    def _assemble(
        self, tables: TractTables, block: IntArray, kind: IntArray, values: _Values, rows: IntArray, columns: IntArray
    ) -> Model:
        """Return number the rows that are needed, drop those that repeat another, number the variables as they appear."""
        needed = np.flatnonzero(values.most)
        lengths = np.bincount(rows, minlength=len(values.most))[needed]
        rhs, sense = values.most[needed], None
        if values.least is not values.most:
            columns, needed, lengths, rhs, sense = _as_bounds(columns, needed, lengths, values)
        keep = self._distinct(lengths, columns, rhs, sense)
        columns = columns[np.repeat(keep, lengths)]
        needed, lengths = needed[keep], lengths[keep]
        order, columns = _by_first_appearance(columns, len(kind))
        width, n_blocks = self.block_level.n_groups, len(tables.blocks)
        of_tract = needed >= width * n_blocks
        return Model(
            geoid=tables.geoid,
            blocks=tables.blocks,
            block=block[order],
            kind=kind[order],
            starts=np.concatenate([[0], np.cumsum(lengths)]),
            columns=columns,
            rhs=rhs[keep],
            row_group=np.where(of_tract, needed - width * n_blocks + width, needed % width),
            row_block=np.where(of_tract, -1, needed // width),
            labels=self.labels,
            of_one_sex=self.of_one_sex,
            bins=self.bins,
            sense=None if sense is None else sense[keep],
        )

    def _distinct(
        self, lengths: IntArray, columns: IntArray, values: IntArray, sense: npt.NDArray[np.int8] | None
    ) -> npt.NDArray[np.bool_]:
        """Return which rows to keep: of rows with the same variables, the same value and sense the first one only.

        Rows are compared by a 64-bit hash of their variables, their length, value and sense.
        """
        mixed = self._hash[columns & 0xFFFF] * (2 * (columns.astype(np.uint64) >> np.uint64(16)) + np.uint64(1))
        total = np.concatenate([[np.uint64(0)], np.cumsum(mixed, dtype=np.uint64)])
        ends = np.cumsum(lengths)
        hashes = total[ends] - total[ends - lengths]
        hashes ^= values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + lengths.astype(np.uint64)
        if sense is not None:
            hashes += sense.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
        keep = np.zeros(len(lengths), bool)
        keep[np.unique(hashes, return_index=True)[1]] = True
        kept: npt.NDArray[np.bool_] = keep | (lengths == 0)
        return kept


def _as_bounds(
    columns: IntArray, needed: IntArray, lengths: IntArray, values: _Values
) -> tuple[IntArray, IntArray, IntArray, IntArray, npt.NDArray[np.int8]]:
    """Return rows with a least and a most as rows with one number: (columns, rows, lengths, numbers, senses).

    An equation where both are the same; else one for the least, unless it is 0, and one for the most, unless nobody is counted.
    """
    least, most = values.least[needed], values.most[needed]
    senses = np.array([0, 1, -1], np.int8)
    wanted = np.stack([least == most, (least < most) & (least > 0), (least < most) & (lengths > 0)], axis=1)
    row, which = np.nonzero(wanted)
    starts = np.cumsum(lengths) - lengths
    at = np.repeat(starts[row], lengths[row]) + _within(lengths[row])
    return columns[at], needed[row], lengths[row], np.where(which == 2, most[row], least[row]), senses[which]


def _within(lengths: IntArray) -> IntArray:
    """0, 1, 2 ... for each of the lengths."""
    return np.asarray(np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths))


def _by_first_appearance(columns: IntArray, n_columns: int) -> tuple[IntArray, IntArray]:
    """Old numbers of the variables in the order in which ``columns`` names them first, and ``columns`` renumbered."""
    first = np.full(n_columns, len(columns), np.int64)
    np.minimum.at(first, columns, np.arange(len(columns)))
    order = np.argsort(first, kind="stable")
    new = np.empty(n_columns, np.int64)
    new[order] = np.arange(n_columns)
    return order, new[columns]


SHOWN = 6
"""So many published cells are named in a sentence."""


class NegativeCount(ContradictoryTables):
    """Published cells that leave fewer than no people between them. ``cells`` are (name with its block, coefficient, value): a
    count is the sum of coefficient x value, here below zero; ``name`` is what the count is called."""

    def __init__(self, message: str, name: str, cells: tuple[tuple[str, int, int], ...]) -> None:
        super().__init__(message)
        self.name, self.cells = name, cells

    def __reduce__(self) -> tuple[type["NegativeCount"], tuple[str, str, tuple[tuple[str, int, int], ...]]]:
        """Return what an error is pickled as: its class and arguments."""
        return type(self), (str(self), self.name, self.cells)

    def ilp(self) -> bytes:
        """Return the contradiction as LP text that no solver can satisfy: each cell as published, and what they would leave."""
        names = [name for name, _, _ in self.cells]
        terms = " ".join(f"{'+' if times > 0 else '-'} {abs(times)} n_{name}" for name, times, _ in self.cells)
        lines = [f"\\ {self}", "Minimize", f" obj: 0 {self.name}", "Subject To", f" {self.name}_left: {terms} - {self.name} = 0"]
        lines += [f" {name}: n_{name} = {value}" for name, _, value in self.cells]
        return "\n".join(
            [*lines, "General", *(f" {name}" for name in [self.name, *(f"n_{name}" for name in names)]), "End", ""]
        ).encode()


def _refuse_negative(level: _Level, columns: tuple[str, ...], cells: IntArray, values: IntArray, tables: TractTables) -> None:
    """Raise NegativeCount for the first count of ``values`` (units, groups) that is below zero; ``cells`` (units, cells) are
    published, one unit for the tract."""
    if not (values < 0).any():
        return
    unit, group = np.argwhere(values < 0)[0]
    is_block = len(columns) == tables.block_cells.shape[1] and cells is tables.block_cells
    suffix = f"_{tables.blocks[unit]:04d}" if is_block else ""
    place = f"block {tables.geoid}{tables.blocks[unit]:04d}" if is_block else f"tract {tables.geoid}"
    column = sp.csc_array(level.coefficients[:, [group]])
    found = [(columns[i], int(times), int(cells[unit, i])) for i, times in zip(column.indices, column.data, strict=True) if times]
    found.sort(key=lambda cell: (-cell[1], cell[0]))
    shown = "".join(f"{'' if n == 0 else ' less ' if times < 0 else ' and '}{name} = {value}" for n, (name, times, value) in
                    enumerate(found[:SHOWN]))  # fmt: skip
    more = f" and {len(found) - SHOWN} cells more" if len(found) > SHOWN else ""
    raise NegativeCount(
        f"{place}: {level.labels[group]} counts {values[unit, group]} people: the published tables contradict each other there: "
        f"{shown}{more}",
        f"{level.labels[group]}{suffix}",
        tuple((f"{name}{suffix}", times, value) for name, times, value in found),
    )
