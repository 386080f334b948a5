"""Reading a tract's tables from its county's files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbrecon.ctools import storage
from dbrecon.errors import InputError
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.tract.county_tables import CountyFile, CountyTables, parse_counts, rows_of

PRODUCT = load_product()
BLOCK, TRACT = PRODUCT.columns("block"), PRODUCT.columns("tract")


def county_file(level: str, geoids: list[str], value: int = 0) -> CountyFile:
    columns = BLOCK if level == "block" else TRACT
    lines = [",".join([f"geoid_{level}", "logrecno", *columns])]
    lines += [",".join([geoid, "0000007", *[str(value + i) for i in range(len(columns))]]) for geoid in geoids]
    return CountyFile(("\n".join(lines) + "\n").encode(), f"sf1_{level}_10001.csv")


BLOCKS = ["100010001001000", "100010001001001", "100010002001000", "100010010001000"]
TRACTS = ["10001000100", "10001000200", "10001001000", "10001990000"]


@pytest.fixture
def county() -> CountyTables:
    return CountyTables(PRODUCT, "10001", county_file("block", BLOCKS), county_file("tract", TRACTS, 5))


@given(st.lists(st.lists(st.integers(0, 10**15 - 1), min_size=3, max_size=3), min_size=1))
def test_counts_are_read_as_they_stand(rows: list[list[int]]) -> None:
    text = "".join(",".join(map(str, row)) + "\n" for row in rows).encode()
    assert parse_counts(text, "file").tolist() == [value for row in rows for value in row]


@pytest.mark.parametrize("text", [b"1,-2\n", b"1,,2\n", b"1,2", b"", b"1;2\n", b"1, 2\n", b"\n", b"1.0\n", b"1234567890123456\n"])
def test_what_is_no_count_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match=r"^file: "):
        parse_counts(text, "file")


def test_a_tract_has_its_own_blocks_and_no_others(county: CountyTables) -> None:
    tables = county.tract("000100")
    assert tables.geoid == "10001000100"
    assert tables.blocks.tolist() == [1000, 1001]
    assert tables.block_cells.shape == (2, 844)
    assert tables.tract_cells.tolist() == list(range(5, 5 + 3344))


def test_the_last_tract_is_found_too(county: CountyTables) -> None:
    assert county.tract("001000").blocks.tolist() == [1000]


def test_a_tract_whose_number_another_begins_with_is_not_taken_for_it(county: CountyTables) -> None:
    assert rows_of(county.tracts.text, b"10001000100").count(b"\n") == 1


def test_a_water_tract_has_no_blocks(county: CountyTables) -> None:
    tables = county.tract("990000")
    assert tables.blocks.tolist() == []
    assert tables.population == 0


def test_a_tract_that_is_not_there_is_named(county: CountyTables) -> None:
    with pytest.raises(InputError, match=r"sf1_tract_10001\.csv: has 0 rows of tract 10001555555"):
        county.tract("555555")


def test_a_file_of_other_tables_is_refused(county: CountyTables) -> None:
    other = CountyFile(county.blocks.text[:].replace(b"P0010001", b"P0010002", 1), "sf1_block_10001.csv")
    with pytest.raises(InputError, match="does not have the columns of this experiment's tables"):
        CountyTables(PRODUCT, "10001", other, county.tracts).tract("000100")


def test_a_file_that_is_cut_off_is_refused(county: CountyTables) -> None:
    cut = CountyFile(county.blocks.text[:-100], "sf1_block_10001.csv")
    with pytest.raises(InputError, match=r"sf1_block_10001\.csv: is cut off in its last line"):
        CountyTables(PRODUCT, "10001", cut, county.tracts).tract("000100")


def test_a_row_with_a_cell_too_few_is_refused(county: CountyTables) -> None:
    text = county.blocks.text[:]
    short = text.replace(b",0000007,0,1,2,", b",0000007,1,2,", 1)
    assert short != text
    with pytest.raises(InputError, match="a row of tract 10001000100 does not have 846 fields"):
        CountyTables(PRODUCT, "10001", CountyFile(short, "blocks"), county.tracts).tract("000100")


@pytest.mark.parametrize("value", ["1000000000", "1" * 30, str(2**64)])
def test_a_cell_of_more_people_than_there_are_is_refused_with_its_value(county: CountyTables, value: str) -> None:
    lines = county.blocks.text[:].decode().splitlines()
    lines[1] = lines[1].rsplit(",", 1)[0] + "," + value
    damaged = CountyTables(PRODUCT, "10001", CountyFile(("\n".join(lines) + "\n").encode(), "sf1_block_10001.csv"), county.tracts)
    with pytest.raises(InputError, match=r"^sf1_block_10001\.csv: .*") as refused:
        damaged.tract("000100")
    assert value in str(refused.value).replace(",", "")


def test_block_tables_alone_have_no_tract_cells(county: CountyTables) -> None:
    product = load_product(tables="block")
    tracts = CountyFile(b"geoid_tract,logrecno\n10001000100,0000007\n", "sf1_tract_10001.csv")
    tables = CountyTables(product, "10001", county.blocks, tracts).tract("000100")
    assert np.array_equal(tables.tract_cells, np.zeros(0))


def test_rows_out_of_order_are_refused(county: CountyTables) -> None:
    lines = county.blocks.text[:].split(b"\n")
    swapped = CountyFile(b"\n".join([lines[0], lines[2], lines[1], *lines[3:]]), "sf1_block_10001.csv")
    with pytest.raises(InputError, match=r"sf1_block_10001\.csv: the rows of tract 10001000100 are not in order"):
        CountyTables(PRODUCT, "10001", swapped, county.tracts).tract("000100")


@given(st.sets(st.integers(10, 99), min_size=1), st.integers(10, 99))
def test_bisection_finds_the_lines_that_searching_finds(tracts: set[int], wanted: int) -> None:
    lines = [f"{tract}{block},{'7' * block}" for tract in sorted(tracts) for block in range(100, 100 + tract % 4)]
    text = "\n".join(["geoid", *lines, ""]).encode()
    assert rows_of(text, str(wanted).encode()) == "".join(f"{line}\n" for line in lines if line.startswith(str(wanted))).encode()


def test_a_county_file_may_be_mapped(county: CountyTables, tmp_path: Path) -> None:
    for file in (county.blocks, county.tracts):
        (tmp_path / file.source).write_bytes(file.text[:])
    mapped = [CountyFile(storage.mapped(tmp_path / file.source), file.source) for file in (county.blocks, county.tracts)]
    tables = CountyTables(PRODUCT, "10001", *mapped).tract("000200")
    assert tables.block_cells.tolist() == county.tract("000200").block_cells.tolist()
    (tmp_path / "empty.csv").touch()
    assert storage.mapped(tmp_path / "empty.csv") == b""
