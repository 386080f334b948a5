"""The tables are data: what config/products/sf1_2010/tables.toml makes of them is what the Census Bureau documents."""

import csv
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dbrecon.errors import InputError, UsageError
from dbrecon.recon.census.geography import load_header_layout
from dbrecon.recon.census.kinds import N_RH, N_SA, RACES, age_category, join_kind
from dbrecon.recon.census.subset import restricted
from dbrecon.recon.census.tables import DEFAULT_PRODUCT, Product, load_product
from dbrecon.recon.product.release import load_segments

BLOCK_TABLES = [
    "P1",
    "P6",
    "P7",
    "P8",
    "P9",
    "P10",
    "P11",
    "P12",
    "P12A",
    "P12B",
    "P12C",
    "P12D",
    "P12E",
    "P12F",
    "P12G",
    "P12H",
    "P12I",
    "P14",
]
TRACT_TABLES = ["PCT12", *(f"PCT12{letter}" for letter in "ABCDEFGHIJKLMNO")]


@pytest.fixture(scope="module")
def product() -> Product:
    return load_product()


def cells_that_count(product: Product, sex: int, age: int, races: set[str], hisp: int) -> dict[str, int]:
    race = sum(1 << (5 - RACES.index(name)) for name in races)
    person = [np.array([value]) for value in (sex, age_category(np.array([age]))[0], race, hisp)]
    kind = int(join_kind(*person)[0])
    found: dict[str, int] = {}
    for level in ("block", "tract"):
        row = product.membership(level)[[kind]].toarray()[0]
        found |= {name: int(n) for name, n in zip(product.columns(level), row, strict=True) if n}
    return found


def test_the_34_tables_have_their_published_cells(product: Product) -> None:
    assert [table.name for table in product.tables_of("block")] == BLOCK_TABLES
    assert [table.name for table in product.tables_of("tract")] == TRACT_TABLES
    assert len(product.columns("block")) == 844
    assert len(product.columns("tract")) == 16 * 209


def test_cells_are_named_as_in_the_files(product: Product) -> None:
    names = product.columns("block") + product.columns("tract")
    for name in ("P0010001", "P0080071", "P012A003", "P0140043", "PCT0120001", "PCT012O209"):
        assert name in names


def test_every_table_stands_in_the_segment_that_the_layout_says(product: Product) -> None:
    with (Path(DEFAULT_PRODUCT).parent / "segments.csv").open(encoding="utf-8") as file:
        layout = {row["table"]: (int(row["segment"]), int(row["cells"])) for row in csv.DictReader(file)}
    for table in product.tables:
        assert layout[table.prefix] == (table.segment, len(table.cells)), table.name


def test_a_white_hispanic_man_of_45_is_counted_where_the_documentation_says(product: Product) -> None:
    found = cells_that_count(product, 0, 45, {"white"}, 1)
    assert found == {
        "P0010001": 1,
        "P0060001": 1,
        "P0060002": 1,
        "P0070001": 1,
        "P0070009": 1,
        "P0070010": 1,
        "P0080001": 1,
        "P0080002": 1,
        "P0080003": 1,
        "P0090001": 1,
        "P0090002": 1,
        "P0100001": 1,
        "P0100002": 1,
        "P0100003": 1,
        "P0110001": 1,
        "P0110002": 1,
        "P0120001": 1,
        "P0120002": 1,
        "P0120015": 1,
        "P012A001": 1,
        "P012A002": 1,
        "P012A015": 1,
        "P012H001": 1,
        "P012H002": 1,
        "P012H015": 1,
        "PCT0120001": 1,
        "PCT0120002": 1,
        "PCT0120048": 1,
        "PCT012A001": 1,
        "PCT012A002": 1,
        "PCT012A048": 1,
        "PCT012H001": 1,
        "PCT012H002": 1,
        "PCT012H048": 1,
    }


def test_a_girl_of_3_of_two_races_not_hispanic_is_counted_where_the_documentation_says(product: Product) -> None:
    found = cells_that_count(product, 1, 3, {"black", "asian"}, 0)
    assert found == {
        "P0010001": 1,
        "P0060001": 2,
        "P0060003": 1,
        "P0060005": 1,  # races tallied: two for one person
        "P0070001": 2,
        "P0070002": 2,
        "P0070004": 1,
        "P0070006": 1,
        "P0080001": 1,
        "P0080009": 1,
        "P0080010": 1,
        "P0080017": 1,
        "P0090001": 1,
        "P0090003": 1,
        "P0090011": 1,
        "P0090012": 1,
        "P0090019": 1,
        "P0120001": 1,
        "P0120026": 1,
        "P0120027": 1,
        "P012G001": 1,
        "P012G026": 1,
        "P012G027": 1,
        "P0140001": 1,
        "P0140023": 1,
        "P0140027": 1,
        "PCT0120001": 1,
        "PCT0120106": 1,
        "PCT0120110": 1,
        "PCT012G001": 1,
        "PCT012G106": 1,
        "PCT012G110": 1,
        "PCT012O001": 1,
        "PCT012O106": 1,
        "PCT012O110": 1,
    }


def test_race_combinations_come_in_lexicographic_order(product: Product) -> None:
    cell = 11  # of P8: the first pair
    for size, first in ((2, 11), (3, 27), (4, 48), (5, 64), (6, 71)):
        cell = first
        for races in itertools.combinations(RACES, size):
            assert cells_that_count(product, 0, 30, set(races), 0)[f"P008{cell:04d}"] == 1
            cell += 1


@pytest.mark.slow
def test_all_cells_of_a_block_follow_from_its_constraints(product: Product) -> None:
    """Every published cell is a linear combination of the counts that are written: what satisfies those satisfies all."""
    block = restricted(product, "block")
    cells = block.membership("block").toarray().astype(float)
    groups = []
    for constraint in block.constraints:
        index = np.where(constraint.written, constraint.partition.index, -1).ravel()
        groups += [(index == group).astype(float) for group in np.unique(index[index >= 0])]
    both = np.unique(np.hstack([cells, np.stack(groups, axis=1)]), axis=0)  # kinds that nothing tells apart are one
    cells, written = both[:, : cells.shape[1]], both[:, cells.shape[1] :]
    combination = np.linalg.pinv(written.T @ written) @ (written.T @ cells)
    assert np.abs(written @ combination - cells).max() < 1e-6


def test_all_cells_of_a_tract_follow_from_its_constraints(product: Product) -> None:
    """By single (sex, age), of which the undivided cells are made; the others are their sums."""
    leaves = [product.partitions[name] for name in TRACT_TABLES]
    written = [c for c in product.constraints if c.partition.level == "tract"]
    for sa in range(N_SA):
        rows = [np.where(c.written[sa], c.partition.index[sa], -1) for c in written]
        basis = np.stack([(row == group).astype(float) for row in rows for group in np.unique(row[row >= 0])], axis=1)
        cells = np.stack([(leaf.index[sa] >= 0).astype(float) for leaf in leaves], axis=1)
        assert cells.shape == (N_RH, 16)
        assert np.linalg.matrix_rank(np.hstack([basis, cells])) == np.linalg.matrix_rank(basis)


def test_block_tables_alone_leave_out_what_tracts_publish(product: Product) -> None:
    block = load_product(tables="block")
    assert block.columns("tract") == ()
    assert block.columns("block") == product.columns("block")
    assert {c.partition.level for c in block.constraints} == {"block"}


def test_an_unknown_choice_of_tables_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no table 'tracts'; those of this product: P1, P6"):
        load_product(tables="tracts")


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("cells = 71", "cells = 72", "table P8 has 72 cells, but its division makes 71"),
        ('divide = "race_set"', 'divide = "race_sets"', "division 'race_sets' is not defined"),
        ('less = "P12I"', 'less = "P12X"', "'P12X' is neither a table nor an earlier difference"),
        ('less = "P12I"', 'less = "P12B"', "the cells of P12B do not lie within those of P12A"),
        ("hisp = true }", "hispanic = true }", "selector 'hispanic' is not known"),
        ('level = "block"', 'level = "county"', "has level 'county'; take one of block, tract"),
        ("[[table]]", "[[table]", "not TOML"),
        ('prefix = "P008"\n', "", "lacks prefix; it must have name, prefix"),
    ],
)
def test_a_mistake_in_the_table_file_is_named(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    text = DEFAULT_PRODUCT.read_text(encoding="utf-8")
    assert before in text
    path = tmp_path / "tables.toml"
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_product(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_table_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: no such file"):
        load_product(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("load", "name"), [(load_product, "tables.toml"), (load_segments, "segments.csv"), (load_header_layout, "header.csv")]
)
def test_a_pipe_among_a_product_s_files_is_named_and_not_waited_for(
    load: Callable[[Path], object], name: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: is no file; restore the product's folder"):
        load(tmp_path / name)


def test_values_that_are_nested_without_end_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "tables.toml").write_text("x = " + "[" * 100_000)
    with pytest.raises(InputError, match=r"tables\.toml: its values are nested too deeply"):
        load_product(tmp_path / "tables.toml")
