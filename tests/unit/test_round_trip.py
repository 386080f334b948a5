"""Random people, tabulated by product in a plain way, reconstructed, and tabulated again: every cell is equal.

The tabulator is that of the table outlines, written out person by person (tests/unit/test_release.py); it shares nothing with the
product's own. So are the subsets of a product's tables: whatever is left out, every cell that is kept is met.
"""

from collections import Counter
from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbrecon.errors import UsageError
from dbrecon.recon.census.kinds import FIRST_AGES, RACES, join_kind, split_kind
from dbrecon.recon.census.subset import chosen_tables, restricted
from dbrecon.recon.census.tables import Product, load_product
from dbrecon.recon.product.coverage import coverage, each_redundant, redundant
from dbrecon.recon.product.release import load_release
from dbrecon.recon.solve.program import Options
from dbrecon.recon.tract.model import TractTables
from dbrecon.recon.tract.reconstruct import Reconstructor
from tests.unit.test_release import cells_of_person

Person = tuple[int, int, int, int, int]  # block, sex, age category, race code, origin
GEOID = "10001000100"

PEOPLE = st.lists(
    st.tuples(
        st.integers(1000, 1003),
        st.integers(0, 1),
        st.one_of(st.sampled_from([0, 17, 19, 30, 31, 32, 90, 102]), st.integers(0, 102)),
        st.one_of(st.sampled_from([32, 16, 48]), st.integers(1, 63)),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=25,
)
EXAMPLES = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def tabulated(people: Iterable[Person]) -> Counter[tuple[int, str]]:
    """Every cell of every block (by its number), and of the tract (-1), that counts anybody."""
    cells: Counter[tuple[int, str]] = Counter()
    for block, sex, age, code, hisp in people:
        races = {race for bit, race in enumerate(RACES) if code >> (5 - bit) & 1}
        for name, count in cells_of_person(sex, int(FIRST_AGES[age]), races, bool(hisp)).items():
            cells[(-1 if name.startswith("PCT") else block), name] += count
    return cells


def published(product: Product, cells: Counter[tuple[int, str]]) -> TractTables:
    blocks = sorted({unit for unit, _ in cells if unit >= 0})
    of_blocks = np.array([[cells[block, name] for name in product.columns("block")] for block in blocks])
    of_tract = np.array([cells[-1, name] for name in product.columns("tract")], np.int64)
    return TractTables(GEOID, np.array(blocks), of_blocks, of_tract)


def reconstructed(reconstructor: Reconstructor, cells: Counter[tuple[int, str]], objective: str) -> list[Person]:
    found = reconstructor.reconstruct(published(reconstructor.product, cells), Options(objective=objective)).people
    rows = zip(found.geoid_block % 10_000, *split_kind(found.kind), found.count, strict=True)
    return [person for *row, count in rows for person in [tuple(int(value) for value in row)] * int(count)]  # type: ignore[misc]


@cache
def reconstructor_of(name: str, tables: str = "all") -> Reconstructor:
    return Reconstructor(load_product(load_release(name).tables_path, tables))


def kept(product: Product, cells: Counter[tuple[int, str]]) -> dict[tuple[int, str], int]:
    names = {*product.columns("block"), *product.columns("tract")}
    return {cell: count for cell, count in cells.items() if cell[1] in names}


@pytest.mark.parametrize("name", ["sf1_2010", "dhc2020"])
@EXAMPLES
@given(people=PEOPLE, objective=st.sampled_from(["spread", "none"]))
def test_people_tabulated_reconstructed_and_tabulated_again_make_the_same_cells(
    name: str, people: list[Person], objective: str
) -> None:
    reconstructor, cells = reconstructor_of(name), tabulated(people)
    again = tabulated(reconstructed(reconstructor, cells, objective))
    assert kept(reconstructor.product, again) == kept(reconstructor.product, cells)


SUBSETS = ("all-P12I-PCT12H", "P12A,P14,P1,PCT12", "block-P9-P11")


@pytest.mark.slow
@pytest.mark.parametrize("tables", SUBSETS)
def test_every_cell_that_is_kept_follows_from_what_is_written_and_is_met(tables: str) -> None:
    reconstructor = reconstructor_of("sf1_2010", tables)
    product = reconstructor.product
    for level in ("block", "tract"):
        assert coverage(product, level).missing == ()
    rng = np.random.default_rng(len(tables))
    people = [
        (
            1000 + int(rng.integers(3)),
            int(rng.integers(2)),
            int(rng.integers(103)),
            int(rng.choice([32, 16, 48, 3])),
            int(rng.integers(2)),
        )
        for _ in range(60)
    ]
    cells = tabulated(people)
    again = tabulated(reconstructed(reconstructor, cells, "spread"))
    assert kept(product, again) == kept(product, cells)


@pytest.mark.slow
@EXAMPLES
@given(left_out=st.sets(st.sampled_from(["P6", "P7", "P8", "P12", "P14"]), max_size=4), people=PEOPLE)
def test_any_list_of_tables_is_met(left_out: set[str], people: list[Person]) -> None:
    tables = ",".join(["P1", *sorted({"P6", "P7", "P8", "P12", "P14"} - left_out)])
    reconstructor, cells = reconstructor_of("sf1_2010", tables), tabulated(people)
    again = tabulated(reconstructed(reconstructor, cells, "none"))
    assert kept(reconstructor.product, again) == kept(reconstructor.product, cells)


def test_tables_that_follow_from_the_rest_are_named() -> None:
    whole = load_product()
    few = restricted(whole, "P8,P12,P12A")
    by_name = {table.name: table for table in whole.tables}
    wanted = [by_name[name] for name in ("P1", "P6", "P9", "P10", "P12I", "PCT12")]
    assert redundant(few, wanted) == ["P1", "P6"]  # everyone, and the tallies of races


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tables", "level", "follow"),
    [
        ("P1,P6,P7,P8,P9,P12H", "block", {"P1", "P6", "P7"}),
        ("P1,P12,P12A,P12B,P12C,P12D,P12E,P12F,P12G,P12I", "block", {"P1", "P12", *(f"P12{letter}" for letter in "ABCDEFG")}),
        ("P1,PCT12H,PCT12I,PCT12J,PCT12", "tract", set[str]()),
    ],
)
def test_one_elimination_tells_of_every_table_whether_it_follows_from_the_others(tables: str, level: str, follow: set[str]) -> None:
    whole = load_product()
    assert set(each_redundant(restricted(whole, tables), level)) == follow
    for table in whole.tables:
        left = ",".join(name for name in tables.split(",") if name != table.name)
        if table.level == level and left != tables and table.name in sorted(follow)[:2]:
            assert redundant(restricted(whole, left), [table])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("PCT12", "leaves no block table"),
        ("all-P1-P1", "P1 is named twice"),
        ("P1,P1", "P1 is named twice"),
        ("all-P99", "there is no table 'P99'"),
        ("block-PCT12", "taken from what does not hold it"),
        ("P1-P8", "tables are taken from all or block"),
    ],
)
def test_words_that_choose_no_tables_are_refused(words: str, expected: str) -> None:
    tables = [(table.name, table.level) for table in load_product().tables]
    with pytest.raises(UsageError, match=expected):
        chosen_tables(words, tables)


def test_the_kinds_of_the_plain_tabulator_are_those_of_the_program() -> None:
    kind = int(join_kind(*(np.array([value]) for value in (1, 102, 48, 1)))[0])
    assert [int(value[0]) for value in split_kind(np.array([kind]))] == [1, 102, 48, 1]
