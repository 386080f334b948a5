"""Some of a product's tables, or tables whose cells are rounded or withheld: which counts become constraints then.

The product's own differences and constraints stay where all that they are made of is still there and exact. What does not follow
from these any more is written too: those cells, of the finest tables first, that are independent of all before them, by a test of
rank (:mod:`dbrecon.recon.census.rank`). So every exact cell follows from what is written, whatever is left out.

Cells of inexact tables are no constraints but ranges: each by itself, with its sums.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from dbrecon.errors import InputError, UsageError
from dbrecon.recon.census.inexact import Inexact
from dbrecon.recon.census.kinds import N_KINDS, N_RH, N_SA
from dbrecon.recon.census.rank import project, reduce
from dbrecon.recon.census.tables import LEVELS, Constraint, Partition, Product, Table

WHOLE_SETS = ("all", *LEVELS)


def chosen_tables(words: str, tables: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the names that ``--tables`` chooses of (name, level), in their order.

    ``words``: ``all`` or ``block``, from which tables may be taken (``all-P8-P10``), or a list (``P1,P12,P14``). Raises UsageError
    for others, for tables that there are not, and where no block table is left.
    """
    levels = dict(tables)
    first, *less = words.split("-")
    listed = first.split(",")
    if first in WHOLE_SETS:
        kept = [name for name, level in tables if first in ("all", level)]
    elif less:
        raise UsageError(f"tables {words}: tables are taken from all or block (all-P8-P10); else give a list (P1,P12)")
    else:
        kept, less = list(listed), []
    for name in [*kept, *less]:
        if name not in levels:
            raise UsageError(f"tables {words}: there is no table {name!r}; those of this product: {', '.join(levels)}")
    repeated = [name for names in (kept, less) for name in names if names.count(name) > 1]
    absent = [name for name in less if name not in kept]
    if repeated or absent:
        raise UsageError(f"tables {words}: {(repeated or absent)[0]} is named twice, or taken from what does not hold it")
    chosen = tuple(name for name in levels if name in kept and name not in less)
    if not any(levels[name] == "block" for name in chosen):
        raise UsageError(f"tables {words}: leaves no block table, and people are reconstructed by block; keep one")
    return chosen


def restricted(product: Product, tables: str = "all", inexact: Mapping[str, Inexact] | None = None) -> Product:
    """Return the product with the tables that ``tables`` names (:func:`chosen_tables`).

    ``inexact`` says of more tables, by their names, how they are rounded or withheld. Raises UsageError as that function,
    InputError where the first block table does not count everyone, exactly.
    """
    names = chosen_tables(tables, [(table.name, table.level) for table in product.tables])
    more = inexact or {}
    unknown = set(more) - set(names)
    if unknown:
        raise UsageError(f"{sorted(unknown)[0]}: there is no such table among those that are used")
    kept = tuple(replace(t, inexact=more.get(t.name, t.inexact)) for t in product.tables if t.name in names)
    kept = tuple(replace(t, inexact=None) if t.inexact is not None and t.inexact.exact else t for t in kept)
    if kept == product.tables and not any(table.inexact for table in kept):
        return product
    tallies = [table.name for table in kept if table.inexact is not None and table.tallies]
    if tallies:
        raise InputError(
            f"{product.title}: {tallies[0]} counts some people in several cells, so that its sums cannot be intervals; "
            "leave it exact"
        )
    everyone = next(table for table in kept if table.level == "block")
    if everyone.inexact is not None or not everyone.counts_everyone:
        raise InputError(
            f"{product.title}: {everyone.name}, the first block table that is used, must count everyone, exactly, for it tells how "
            "many people a block has; put such a table first (P1, say)"
        )
    return _Restriction(product, kept).product()


class _Restriction:
    """Makes a product of some of another's tables, which may be inexact now."""

    def __init__(self, whole: Product, tables: tuple[Table, ...]) -> None:
        self.whole = whole
        self.tables = tables
        self.exact = {table.name for table in tables if table.inexact is None}

    def product(self) -> Product:
        partitions = {
            name: self._moved(partition)
            for name, partition in self.whole.partitions.items()
            if self._made_of(partition) <= self.exact
        }
        overlapping = [table for table in self.tables if table.name in self.exact and table.index is None]
        for table in overlapping:
            partitions |= {partition.name: partition for partition in self._groups(table, table.undivided)}
        kept = [
            replace(constraint, partition=partitions[constraint.partition.name])
            for constraint in self.whole.constraints
            if constraint.partition.name in partitions
        ]
        inexact = [table for table in self.tables if table.inexact is not None]
        ranges = [partition for table in inexact for partition in self._groups(table, range(len(table.cells)))]
        found = replace(
            self.whole, tables=self.tables, partitions=partitions, constraints=tuple(kept), ranges=tuple(ranges), _membership={}
        )
        changed = [level for level in LEVELS if found.tables_of(level) != self.whole.tables_of(level)]
        lacking = [constraint for level in changed for constraint in lacking_constraints(found, level)]
        return replace(found, constraints=(*kept, *lacking))

    def _made_of(self, partition: Partition) -> set[str]:
        """Return the tables of whose cells a partition is made."""
        used = np.unique(partition.coefficients.tocoo().coords[0])
        owner = [table.name for table in self.whole.tables_of(partition.level) for _ in table.cells]
        return {owner[i] for i in used.tolist()}

    def _moved(self, partition: Partition) -> Partition:
        """Return the same groups, made of the columns that are left."""
        chosen = {table.name for table in self.tables}
        kept = [table.name in chosen for table in self.whole.tables_of(partition.level) for _ in table.cells]
        return replace(partition, coefficients=sp.csr_array(partition.coefficients[np.flatnonzero(kept)]))

    def _groups(self, table: Table, cells: Sequence[int]) -> list[Partition]:
        """Return cells of a table in as few partitions of disjoint ones as come."""
        layers: list[tuple[npt.NDArray[np.int16], list[int]]] = []
        for i in cells:
            at = table.cells[i].box.sa[:, None], table.cells[i].box.rh
            if not (table.cells[i].box.sa.size and table.cells[i].box.rh.size):
                continue  # a cell that nobody can be in
            index, numbers = next((layer for layer in layers if not (layer[0][at] >= 0).any()), (None, None))
            if index is None or numbers is None:
                index, numbers = np.full((N_SA, N_RH), -1, np.int16), []
                layers.append((index, numbers))
            index[at] = len(numbers)
            numbers.append(i)
        of_level = [table_of_level for table_of_level in self.tables if table_of_level.level == table.level]
        offset = sum(len(before.cells) for before in of_level[: of_level.index(table)])
        width = sum(len(table_of_level.cells) for table_of_level in of_level)
        return [
            Partition(
                f"{table.name}.{number}",
                table.level,
                index,
                sp.csr_array((np.ones(len(n), np.int64), (np.array(n) + offset, np.arange(len(n)))), shape=(width, len(n))),
                tuple(table.cell_names[i] for i in n),
            )
            for number, (index, n) in enumerate(layers)
        ]


def lacking_constraints(product: Product, level: str) -> list[Constraint]:
    """Constraints for the level's exact cells that do not follow from those that are written: few, those of the finest tables."""
    names = {table.name for table in product.tables}
    partitions = [
        partition for partition in product.partitions.values() if partition.level == level and partition.name.split(".")[0] in names
    ]
    partitions.sort(key=lambda partition: -len(partition.labels))  # a total that follows from its parts would be a dense constraint
    counted = [counted_kinds(partition.index) for partition in partitions]
    if not counted:
        return []
    written, cells = written_counts(product, level), sp.csc_array(sp.hstack(counted))
    lacking = np.zeros(cells.shape[1], bool)
    for rows, columns in components(written, cells):
        lacking[columns] = _lacking(written[:, rows], cells[:, columns])
    ends = np.cumsum([cells_counted.shape[1] for cells_counted in counted])
    found = []
    for partition, of_partition in zip(partitions, np.split(lacking, ends[:-1]), strict=True):
        if of_partition.any():
            is_written = np.append(of_partition, False)  # the last: of no group
            found.append(Constraint(partition, is_written[partition.index]))
    return found


def _lacking(written: sp.csc_array, cells: sp.csc_array) -> npt.NDArray[np.bool_]:
    """Return which cells follow neither from the written counts nor from the cells before them."""
    rows, wanted = project(written.shape[1], written, cells)  # wide enough for what follows from the written ones: most
    reduce(rows, wanted)
    lacking = np.asarray(wanted.any(axis=1))
    rows, wanted = project(written.shape[1] + int(lacking.sum()), written, cells[:, np.flatnonzero(lacking)])
    reduce(rows, wanted)
    lacking[lacking] = reduce(wanted, wanted[:0])
    return lacking


def counted_kinds(index: npt.NDArray[np.integer]) -> sp.csc_array:
    """Return (kinds, groups) which kinds each group of a partition's index counts."""
    flat = index.ravel()
    kinds = np.flatnonzero(flat >= 0)
    return sp.csc_array((np.ones(len(kinds), np.int64), (kinds, flat[kinds])), shape=(N_KINDS, int(flat.max(initial=-1)) + 1))


def written_counts(product: Product, level: str) -> sp.csc_array:
    """Return (kinds, rows) which kinds each count counts that the level's constraints write."""
    found = []
    for constraint in product.constraints:
        if constraint.partition.level == level:
            counted = counted_kinds(np.where(constraint.written, constraint.partition.index, -1))
            found.append(counted[:, np.flatnonzero(np.diff(counted.indptr))])
    return sp.csc_array(sp.hstack(found)) if found else sp.csc_array((N_KINDS, 0), dtype=np.int64)


def components(written: sp.csc_array, cells: sp.csc_array) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Part counts and cells that have no kind in common with others; return the numbers of both, for each part."""
    both = sp.csc_array(sp.hstack([written, cells]))
    _, part = sp.csgraph.connected_components(both.T @ both, directed=False)
    of_row, of_cell = part[: written.shape[1]], part[written.shape[1] :]
    return [(np.flatnonzero(of_row == number), np.flatnonzero(of_cell == number)) for number in np.unique(part)]
