"""A county's file of people: what is written, in which order, and what is refused when one is read."""

import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbrecon.ctools.storage import sopen
from dbrecon.errors import InputError, StorageError
from dbrecon.recon.census.kinds import FIRST_AGES, N_KINDS, RACES, SEXES, join_kind, split_kind
from dbrecon.recon.people.people import COLUMNS, People, people_csv, write_rows
from dbrecon.recon.people.people_reader import read_people
from tests.paths import SHARED_DATA

HEADER = "geoid_tract,geoid_block,sex,age,white,black,aian,asian,nhopi,sor,hisp\n"
GOOD = "01001020100,010010201001000,male,4,Y,N,N,N,N,N,N\n"

# A few blocks of two tracts in two counties, so that people meet in a block; Alabama's have a leading zero.
BLOCKS = (10010201001000, 10010201001001, 10010201009999, 10010201010000, 10030000001000)
ENTRIES = st.lists(st.tuples(st.sampled_from(BLOCKS), st.integers(0, N_KINDS - 1), st.integers(0, 3)), max_size=30)


def people_of(entries: list[tuple[int, int, int]]) -> People:
    block, kind, count = np.array(entries, np.int64).reshape(-1, 3).T
    return People(block, kind, count)


def plain_csv(entries: list[tuple[int, int, int]]) -> bytes:
    """The file, written the slow way."""
    rows = []
    for block, kind, count in entries:
        sex, age, race, hisp = (int(part[0]) for part in split_kind(np.array([kind])))
        flags = ["Y" if race & 32 >> i else "N" for i in range(6)] + ["NY"[hisp]]
        # Y before N: "Y" is the later letter, so the key turns it round.
        key = (block, sex, FIRST_AGES[age], [flag != "Y" for flag in flags])
        text = f"{block:015d}"
        rows += [(key, ",".join([text[:11], text, SEXES[sex], str(FIRST_AGES[age]), *flags]))] * count
    return (HEADER + "".join(row + "\n" for _, row in sorted(rows))).encode()


def test_the_file_lists_each_person_on_a_line_in_the_fixed_order() -> None:
    woman = join_kind(np.array([1]), np.array([102]), np.array([0b100001]), np.array([1]))[0]
    boy = join_kind(np.array([0]), np.array([4]), np.array([0b010000]), np.array([0]))[0]
    white_boy = join_kind(np.array([0]), np.array([4]), np.array([0b100000]), np.array([0]))[0]
    text = people_csv(people_of([(10010201001000, woman, 1), (10010201001000, boy, 2), (10010201001000, white_boy, 1)]))
    assert text.decode() == HEADER + (
        "01001020100,010010201001000,male,4,Y,N,N,N,N,N,N\n"
        "01001020100,010010201001000,male,4,N,Y,N,N,N,N,N\n"
        "01001020100,010010201001000,male,4,N,Y,N,N,N,N,N\n"
        "01001020100,010010201001000,female,110,Y,N,N,N,N,Y,Y\n"
    )


def test_nobody_is_a_header_alone() -> None:
    assert people_csv(people_of([])).decode() == HEADER


@given(ENTRIES)
def test_the_file_is_the_one_a_plain_implementation_writes(entries: list[tuple[int, int, int]]) -> None:
    assert people_csv(people_of(entries)) == plain_csv(entries)


@given(ENTRIES)
def test_what_is_written_is_read_again(entries: list[tuple[int, int, int]]) -> None:
    people = people_of(entries).merged()
    again = read_people(io.BytesIO(people_csv(people)))
    for name in ("geoid_block", "kind", "count"):
        np.testing.assert_array_equal(getattr(again, name), getattr(people, name))


def test_people_of_states_far_apart_are_merged_too() -> None:
    blocks = np.array([560019999991001, 10019999991000, 560019999991001])
    merged = People(blocks, np.array([N_KINDS - 1, 3, N_KINDS - 1]), np.ones(3, np.int64)).merged()
    assert merged.geoid_block.tolist() == [10019999991000, 560019999991001]
    assert (merged.kind.tolist(), merged.count.tolist()) == ([3, N_KINDS - 1], [1, 2])


def test_every_kind_of_person_survives_the_file() -> None:
    everyone = People(np.full(N_KINDS, 560019999009999), np.arange(N_KINDS), np.ones(N_KINDS, np.int64))
    again = read_people(io.BytesIO(people_csv(everyone)))
    np.testing.assert_array_equal(np.sort(again.kind), np.arange(N_KINDS))


def test_a_block_of_hundreds_of_thousands_is_written_whole() -> None:
    text = people_csv(people_of([(BLOCKS[0], 0, 150_000), (BLOCKS[0], 130, 150_001)]))
    lines = text.decode().splitlines()[1:]
    assert len(lines) == 300_001
    assert [line.split(",")[3] for line in lines] == ["0"] * 150_000 + ["1"] * 150_001


def test_tracts_written_one_after_the_other_make_their_countys_file() -> None:
    people = people_of([(block, kind, 2) for block in BLOCKS for kind in (5, 9000, 25955)])
    out = io.BytesIO()
    for tract in np.unique(people.geoid_tract):
        write_rows(people.select(people.geoid_tract == tract), out)
    assert HEADER.encode() + out.getvalue() == people_csv(people)


def test_ages_beyond_99_are_read_as_their_category() -> None:
    rows = "".join(GOOD.replace(",4,", f",{age},") for age in (99, 100, 104, 105, 109, 110, 115))
    people = read_people(io.BytesIO((HEADER + rows).encode()))
    ages = FIRST_AGES[split_kind(people.kind)[1]]
    assert dict(zip(ages.tolist(), people.count.tolist(), strict=True)) == {99: 1, 100: 2, 105: 2, 110: 2}


def test_columns_may_come_in_another_order_and_with_others_between() -> None:
    order = [*reversed(COLUMNS)]
    values = dict(zip(COLUMNS, GOOD.strip().split(","), strict=True))
    text = ",".join(["person", *order]) + "\n" + ",".join(["17", *(values[name] for name in order)]) + "\n"
    assert people_csv(read_people(io.BytesIO(text.encode()))) == (HEADER + GOOD).encode()


def test_a_packed_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "people.csv.gz"
    path.write_bytes(gzip.compress((HEADER + GOOD).encode()))
    assert read_people(path).population == 1


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("geoid_block", "10010201001000", "geoid_block is '10010201001000', but must be the 15 digits"),
        ("geoid_block", "010010202001000", "must be the first 11 digits of geoid_block"),
        ("geoid_tract", "1", "geoid_tract is '1', but must be the 11 digits"),
        ("sex", "M", "sex is 'M', but must be male or female"),
        ("age", "-1", "age is '-1', but must be a whole number"),
        ("age", "4.0", "age is '4.0', but must be a whole number"),
        ("age", "131", "age is '131', but must be at most 130"),
        ("age", "", "age is '', but must be a whole number"),
        ("hisp", "y", "hisp is 'y', but must be N or Y"),
        ("white", "N", "white is 'N', but must be Y, or one of the other races must"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_line(column: str, value: str, said: str) -> None:
    bad = dict(zip(COLUMNS, GOOD.strip().split(","), strict=True)) | {column: value}
    text = HEADER + GOOD * 3 + ",".join(bad.values()) + "\n" + GOOD
    with pytest.raises(InputError, match=r"^truth\.csv, line 5: ") as caught:
        read_people(io.BytesIO(text.encode()), "truth.csv")
    assert said in str(caught.value)


@pytest.mark.parametrize("column", ["geoid_block", "age", RACES[3], "hisp"])
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(InputError, match=f"^truth.csv, line 1: the column {column} is missing"):
        read_people(io.BytesIO(HEADER.replace(column, "x").encode()), "truth.csv")


def test_an_empty_line_is_named_as_a_wrong_one() -> None:
    with pytest.raises(InputError, match=r"^truth\.csv, line 3: "):
        read_people(io.BytesIO((HEADER + GOOD + "\n" + GOOD).encode()), "truth.csv")


@pytest.mark.parametrize("text", ["", HEADER + GOOD + "01001020100,0100\n", "geoid_block\0,\n1,2,3\n"])
def test_what_is_no_table_of_people_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^truth\.csv: not a CSV file of people"):
        read_people(io.BytesIO(text.encode()), "truth.csv")


def test_a_binary_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"^truth\.csv"):
        read_people(io.BytesIO(b"\x89PNG\r\n\x1a\n\xff\xfe" * 40), "truth.csv")


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere\.csv: the people cannot be read"):
        read_people(tmp_path / "nowhere.csv")


def test_a_cut_off_packed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.csv.gz"
    path.write_bytes(gzip.compress((HEADER + GOOD * 1000).encode())[:-20])
    with pytest.raises((InputError, StorageError), match=r"people\.csv\.gz"):
        read_people(path)
    with pytest.raises(StorageError, match=r"people\.csv\.gz"), sopen(path, "rb") as file:
        read_people(file)


@settings(max_examples=20)
@given(ENTRIES, st.integers(1, 5))
def test_merging_parts_is_merging_all(entries: list[tuple[int, int, int]], pieces: int) -> None:
    whole = people_of(entries).merged()
    parts = People.concatenate([people_of(entries[i::pieces]).merged() for i in range(pieces)]).merged()
    assert parts.population == sum(count for *_, count in entries)
    np.testing.assert_array_equal(parts.kind, whole.kind)


def test_the_truth_of_a_county_survives_reading_and_writing() -> None:
    path = SHARED_DATA / "guernsey" / "truth_guernsey_oh.csv.gz"
    if not path.exists():
        pytest.skip("needs ../shared/data/guernsey, which is not here")
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    # The one difference: ages of 100 and over come back as the first of their category.
    plain = [line for line in lines[1:] if int(line.split(",")[3]) < 100]
    again = people_csv(read_people(path)).decode().splitlines()
    assert again[0] == lines[0]
    assert len(again) == len(lines)
    assert sorted(line for line in again[1:] if int(line.split(",")[3]) < 100) == sorted(plain)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\3\4\x14", "a zip or a spreadsheet"),
        (gzip.compress(HEADER.encode(), mtime=0), "gzip, though its name does not end in .gz"),
        (HEADER.encode("utf-16"), "UTF-16 text"),
    ],
)
def test_a_file_of_another_format_is_named_for_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "truth.csv"
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        with pytest.raises(InputError, match=rf"is {what}, not CSV; write it out as CSV or Parquet with the columns geoid_tract,"):
            read_people(source)


def as_parquet(path: Path, columns: dict[str, object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    """With text, numbers or dictionaries for columns, in another order, with others among them."""
    (tmp_path / "people.csv").write_text(HEADER + GOOD)
    expected = read_people(tmp_path / "people.csv")
    values = dict(zip(COLUMNS, ([value] for value in GOOD.strip().split(",")), strict=True))
    columns: dict[str, object] = {"id": ["x"], **dict(reversed(values.items()))}
    columns["age"] = [int(values["age"][0])]
    columns["sex"] = pa.array(values["sex"]).dictionary_encode()
    found = read_people(as_parquet(tmp_path / "people.parquet", columns))
    assert [found.geoid_block.tolist(), found.kind.tolist()] == [expected.geoid_block.tolist(), expected.kind.tolist()]


def test_parquet_whose_geoids_are_numbers_is_told_of_the_lost_zero_with_its_row(tmp_path: Path) -> None:
    values = dict(zip(COLUMNS, ([value] for value in GOOD.strip().split(",")), strict=True))
    path = as_parquet(tmp_path / "people.parquet", {**values, "geoid_block": [10010201001000]})
    with pytest.raises(InputError, match=r"people\.parquet, row 1: geoid_block is '10010201001000'.*lost its leading zero"):
        read_people(path)


def test_parquet_that_is_cut_off_or_lacks_a_column_is_refused_for_that(tmp_path: Path) -> None:
    whole = as_parquet(tmp_path / "people.parquet", {"geoid_block": ["1"]})
    with pytest.raises(InputError, match=r"people\.parquet: the column geoid_tract is missing"):
        read_people(whole)
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"cut\.parquet: a damaged Parquet file"):
        read_people(tmp_path / "cut.parquet")


@pytest.mark.parametrize(
    ("tract", "block", "expected"),
    [
        (
            "1001020100",
            "10010201001005",
            "geoid_block is '10010201001005', .* lost its leading zero: read it as text",
        ),
        (
            "1001020100",
            "010010201001005",
            "geoid_tract is '1001020100', .* the 11 digits of a tract; .* lost its leading zero",
        ),
        ("39059977100", "3.90599771001005E+14", "geoid_block is .* it was read as a number: read it as text"),
        ("39059977100", "39059977100100", "geoid_block is .* lost its leading zero"),
        ("39059977100", "390599", "geoid_block is '390599', but must be the 15 digits of a block; correct"),
    ],
)
def test_geoids_that_a_spreadsheet_has_spoilt_are_told_with_a_hint(tract: str, block: str, expected: str) -> None:
    text = f"{HEADER}{tract},{block},male,0,Y,N,N,N,N,N,N\n"
    with pytest.raises(InputError, match=f"truth.csv, line 2: {expected}"):
        read_people(io.BytesIO(text.encode()), "truth.csv")


# --- the Census Bureau's privacy-protected microdata (PPMF) -------------------------------------------------------------

MICRODATA = (
    "SCHEMA_TYPE_CODE|SCHEMA_BUILD_ID|TABBLKST|TABBLKCOU|TABTRACTCE|TABBLKGRPCE|TABBLK|EPNUM|RTYPE|GQTYPE|RELSHIP|QSEX|QAGE|CENHISP"
    "|CENRACE|CITIZEN|LIVE_ALONE\n"
)


def microdata(*persons: tuple[str, str, str, str]) -> bytes:
    """Records of (QSEX, QAGE, CENHISP, CENRACE) in one block, as the 2020 disclosure avoidance system writes them."""
    lines = [
        f"MPD|1.1|01|001|020100|1|1000|{i}|3|000|20|{sex}|{age}|{hisp}|{race}|9|9\n"
        for i, (sex, age, hisp, race) in enumerate(persons)
    ]
    return (MICRODATA + "".join(lines)).encode()


def test_a_file_of_privacy_protected_microdata_is_read() -> None:
    """Sets of races by number and then in order, as tables print them: 01 White, 07 White and Black, 21 the last pair, 63 all."""
    found = read_people(
        io.BytesIO(microdata(("1", "4", "2", "01"), ("2", "35", "1", "07"), ("2", "112", "1", "21"), ("1", "0", "1", "63")))
    )
    assert people_csv(found).decode().splitlines()[1:] == [
        "01001020100,010010201001000,male,0,Y,Y,Y,Y,Y,Y,N",
        "01001020100,010010201001000,male,4,Y,N,N,N,N,N,Y",
        "01001020100,010010201001000,female,35,Y,Y,N,N,N,N,N",
        "01001020100,010010201001000,female,110,N,N,N,N,Y,Y,N",
    ]


def test_microdata_may_have_commas_too_and_other_columns_of_any_kind() -> None:
    """A column of numbers that becomes text after megabytes is none of ours: no type is guessed for it."""
    head = MICRODATA.replace("|", ",")
    line = "MPD,1.1,01,001,020100,1,1000,{},3,000,20,1,4,2,01,9,9\n"
    text = head + line.format(7) * 90_000 + line.format("one more")
    assert read_people(io.BytesIO(text.encode())).population == 90_001


def test_microdata_that_were_read_as_numbers_are_read(tmp_path: Path) -> None:
    columns = {
        "TABBLKST": [21],
        "TABBLKCOU": [101],
        "TABTRACTCE": [120100],
        "TABBLK": [1000],
        "QSEX": [2],
        "QAGE": [5],
        "CENHISP": [1],
    }
    pq.write_table(pa.table({**columns, "CENRACE": [7]}), tmp_path / "ppmf.parquet")
    assert people_csv(read_people(tmp_path / "ppmf.parquet")).decode().endswith("211011201001000,female,5,Y,Y,N,N,N,N,N\n")


@pytest.mark.parametrize(
    ("person", "said"),
    [
        (("0", "4", "1", "01"), "QSEX is '0', but must be 1 or 2"),
        (("1", "999", "1", "01"), "QAGE is '999', but must be at most 130"),
        (("1", "4", "Y", "01"), "CENHISP is 'Y', but must be 1 or 2"),
        (("1", "4", "1", "64"), "CENRACE is '64', but must be one of 01 to 63"),
    ],
)
def test_a_wrong_code_of_microdata_is_named(person: tuple[str, str, str, str], said: str) -> None:
    with pytest.raises(InputError, match=f"^ppmf.csv, line 3: {said}"):
        read_people(io.BytesIO(microdata(("1", "4", "1", "01"), person)), "ppmf.csv")


def test_microdata_of_housing_units_are_no_people() -> None:
    with pytest.raises(InputError, match=r"^ppmf\.csv, line 1: the column QSEX is missing; .* TABBLKST,.*,CENRACE"):
        read_people(io.BytesIO(MICRODATA.replace("QSEX", "HHSIZE").encode()), "ppmf.csv")
