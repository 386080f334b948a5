"""A written zip is what would be published of its people. The tabulation here is a second one, written the plain slow
way from the words of the documentation, without the table file."""

import csv
import gzip
import io
import itertools
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbrecon.errors import InputError, StorageError
from dbrecon.recon.census.geography import load_header_layout, read_units
from dbrecon.recon.census.kinds import FIRST_AGES, N_KINDS, RACE_BITS, RACES, IntArray, join_kind, split_kind
from dbrecon.recon.people.people import People
from dbrecon.recon.people.people_reader import read_people
from dbrecon.recon.product.writer import County, format_counts, write_state_zip
from tests.paths import CHECKOUT, SHARED_DATA

P12_AGES = (0, 5, 10, 15, 18, 20, 21, 22, 25, 30, 35, 40, 45, 50, 55, 60, 62, 65, 67, 70, 75, 80, 85)
PCT12_AGES = (*range(100), 100, 105, 110)
COMBINATIONS = [frozenset(c) for n in range(1, 7) for c in itertools.combinations(RACES, n)]

Person = tuple[str, int, frozenset[str], bool]
Cells = dict[str, dict[str, str]]


def segment_columns(segment: int) -> list[str]:
    """Names of a segment's cells by the documentation's rule."""
    names = []
    for row in csv.DictReader((CHECKOUT / "config" / "products" / "sf1_2010" / "segments.csv").open()):
        if int(row["segment"]) == segment:
            width = 4 if row["table"][-1].isdigit() else 3
            names += [f"{row['table']}{n:0{width}d}" for n in range(1, int(row["cells"]) + 1)]
    return names


def published(path: Path) -> tuple[Cells, dict[str, tuple[str, int]]]:
    """{unit: {cell: text}} and {unit: (level, POP100)}; a unit is its geoid, or STATE-URBAN for the component 01."""
    cells: Cells = {}
    units = {}
    by_record = {}
    with zipfile.ZipFile(path) as archive:
        stusab = path.name[:2]
        for line in archive.read(f"{stusab}geo2010.sf1").decode("latin-1").splitlines():
            geoid = (line[27:32] + line[54:60] + line[61:65]).replace(" ", "")
            geoid += "-URBAN" if line[11:13] == "01" else ""
            by_record[line[18:25]] = geoid
            units[geoid] = (line[8:11], int(line[318:327]))
            cells[geoid] = {}
        for segment in (*range(1, 9), 17, *range(20, 35)):
            names = segment_columns(segment)
            for text in archive.read(f"{stusab}{segment:05d}2010.sf1").decode().splitlines():
                fields = text.split(",")
                assert fields[:4] == ["SF1ST", stusab.upper(), "000", f"{segment:02d}"]
                cells[by_record[fields[4]]].update(zip(names, fields[5:], strict=True))
    return cells, units


def age_group(age: int, starts: tuple[int, ...]) -> int:
    return max(i for i, start in enumerate(starts) if age >= start)


def in_iteration(letter: str, races: frozenset[str], hisp: bool) -> bool:
    """Whether a person is in the universe of P12A ... P12I or PCT12A ... PCT12O."""
    if letter == "":
        return True
    if letter == "H":
        return hisp
    if letter >= "I":
        return not hisp and in_iteration("ABCDEFG"["IJKLMNO".index(letter)], races, hisp)
    return len(races) > 1 if letter == "G" else races == {RACES["ABCDEF".index(letter)]}


def race_set_cells(races: frozenset[str]) -> list[int]:
    """Cells of P8 that count a person."""
    place = COMBINATIONS.index(races)
    if len(races) == 1:
        return [1, 2, 3 + place]
    heads = {2: 10, 3: 26, 4: 47, 5: 63, 6: 70}
    first = next(i for i, c in enumerate(COMBINATIONS) if len(c) == len(races))
    return [1, 9, heads[len(races)], heads[len(races)] + 1 + place - first]


def cells_of(person: Person) -> Iterator[str]:
    """Every cell that counts the person, as often as it does."""
    sex, age, races, hisp = person
    yield "P0010001"
    tallied = [RACES.index(race) for race in races]
    yield from (f"P006{n:04d}" for race in tallied for n in (1, 2 + race))
    yield from (f"P007{n:04d}" for race in tallied for n in (1, 9 if hisp else 2, (10 if hisp else 3) + race))
    alone = tallied[0] if len(races) == 1 else 6
    yield from (f"P003{n:04d}" for n in (1, 2 + alone))
    yield from (f"P004{n:04d}" for n in (1, 3 if hisp else 2))
    yield from (f"P005{n:04d}" for n in (1, 10 if hisp else 2, (11 if hisp else 3) + alone))
    for everyone, not_hisp in (("P008", "P009"), ("P010", "P011"))[: 2 if age >= 18 else 1]:
        yield from (f"{everyone}{n:04d}" for n in race_set_cells(races))
        yield from (f"{not_hisp}{n:04d}" for n in ([1, 2] if hisp else [1, *(n + 2 for n in race_set_cells(races))]))
    female = sex == "female"
    for letter in ("", *"ABCDEFGHI"):
        if in_iteration(letter, races, hisp):
            head = 26 if female else 2
            width = 3 if letter else 4
            yield from (f"P012{letter}{n:0{width}d}" for n in (1, head, head + 1 + age_group(age, P12_AGES)))
    for letter in ("", *"ABCDEFGHIJKLMNO"):
        if in_iteration(letter, races, hisp):
            head = 106 if female else 2
            width = 3 if letter else 4
            yield from (f"PCT012{letter}{n:0{width}d}" for n in (1, head, head + 1 + age_group(age, PCT12_AGES)))
    if age < 20:
        yield from (f"P014{n:04d}" for n in (1, 23 if female else 2, (24 if female else 3) + age))


def persons(people: People) -> list[tuple[int, Person, int]]:
    """(block, person, how many)."""
    sex, age, race, hisp = (a.tolist() for a in split_kind(people.kind))
    found = []
    for i, block in enumerate(people.geoid_block.tolist()):
        races = frozenset(name for name in RACES if race[i] & RACE_BITS[name])
        person = ("female" if sex[i] else "male", int(FIRST_AGES[age[i]]), races, bool(hisp[i]))
        found.append((block, person, int(people.count[i])))
    return found


def check_every_count(path: Path, people: People) -> None:
    cells, units = published(path)
    expected: dict[str, Counter[str]] = {unit: Counter() for unit in cells}
    for block, person, count in persons(people):
        geoid = f"{block:015d}"
        for unit in (geoid[:2], geoid[:2] + "-URBAN", geoid[:5], geoid[:11], geoid):
            for cell in cells_of(person):
                expected[unit][cell] += count
    for unit, of_unit in cells.items():
        counts = {name: int(text) for name, text in of_unit.items() if not name.startswith("P013")}
        wanted = {name: n for name, n in expected[unit].items() if name in counts}
        assert {name: n for name, n in counts.items() if n} == wanted, unit
        assert units[unit][1] == wanted.get("P0010001", 0)
        assert len(wanted) == len(expected[unit]) or units[unit][0] == "101", "only blocks lack PCT tables"


BLOCKS = (100010001001000, 100010001001001, 100010001002003, 100010040021000, 100030012021000)
EMPTY = np.array([100010001001002, 100010040022000, 100039900000001], np.int64)


def people_of(*rows: tuple[int, int, int]) -> People:
    """People from (block, kind, count)."""
    block, kind, count = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    return People(block, kind, count)


def person(block: int, sex: int = 0, age: int = 30, race: int = 32, hisp: int = 0, count: int = 1) -> tuple[int, int, int]:
    """A row for ``people_of``; ``age`` is a category."""
    return block, int(join_kind(np.array(sex), np.array(age), np.array(race), np.array(hisp))), count


def counties_of(people: People, empty_blocks: IntArray) -> Iterator[County]:
    """The counties of a state's people, ascending; further blocks by their 15-digit ids."""
    blocks = np.union1d(people.geoid_block, empty_blocks)
    for county in np.unique(blocks // 10**10).tolist():
        here, code = blocks[blocks // 10**10 == county], f"{county % 1000:03d}"
        lives_here = people.geoid_block // 10**10 == county
        yield County(code, f"County {code}", np.unique(here // 10**4), here, people.select(lives_here))


def write(folder: Path, people: People, empty: IntArray = EMPTY) -> Path:
    path = folder / "de2010.sf1.zip"
    write_state_zip(path, "de", "10", counties_of(people, empty))
    return path


rows_of_people = st.lists(
    st.tuples(st.sampled_from(BLOCKS), st.integers(0, N_KINDS - 1), st.sampled_from([1, 1, 1, 2, 9, 10, 104, 2000])),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=12)
@given(rows_of_people)
def test_every_count_of_every_unit_is_the_plain_tabulation_of_its_people(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]]
) -> None:
    people = people_of(*rows)
    check_every_count(write(tmp_path_factory.mktemp("zip"), people), people)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "stusab", "state", "truth"),
    [
        ("guernsey", "oh", "39", "truth_guernsey_oh.csv.gz"),
        ("real_tracts", "al", "01", "truth_rhdf_al.csv.gz"),
        ("real_tracts", "ca", "06", "truth_rhdf_ca.csv.gz"),
        ("real_tracts", "nd", "38", "truth_rhdf_nd.csv.gz"),
        ("real_tracts", "nj", "34", "truth_rhdf_nj.csv.gz"),
    ],
)
def test_published_people_make_the_published_tables(tmp_path: Path, folder: str, stusab: str, state: str, truth: str) -> None:
    original = SHARED_DATA / folder / f"{stusab}2010.sf1.zip"
    if not original.exists():
        pytest.skip(f"{original} is not here")
    people = read_people(io.BytesIO(gzip.decompress((SHARED_DATA / folder / truth).read_bytes())), truth)
    expected, expected_units = published(original)
    empty = np.array([int(unit) for unit in expected if len(unit) == 15], np.int64)
    path = tmp_path / original.name
    write_state_zip(path, stusab, state, counties_of(people, empty))
    found, units = published(path)
    assert units == expected_units
    for unit, cells in expected.items():  # the medians there are random numbers
        assert {k: v for k, v in found[unit].items() if "P013" not in k} == {k: v for k, v in cells.items() if "P013" not in k}, (
            unit
        )


def test_the_zip_has_the_published_members_and_all_are_whole(tmp_path: Path) -> None:
    path = write(tmp_path, people_of(person(BLOCKS[0])))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["degeo2010.sf1"] + [f"de{s:05d}2010.sf1" for s in (*range(1, 9), 17, *range(20, 35))]


def test_records_stand_in_order_and_pct_segments_have_those_above_blocks(tmp_path: Path) -> None:
    path = write(tmp_path, people_of(person(BLOCKS[0]), person(BLOCKS[-1])))
    with zipfile.ZipFile(path) as archive:
        header = archive.read("degeo2010.sf1").decode("latin-1").splitlines()
        numbers = [line[18:25] for line in header]
        assert numbers == [f"{n:07d}" for n in range(1, len(header) + 1)]
        above = [line[18:25] for line in header if line[8:11] != "101"]
        for segment in (*range(1, 9), 17, *range(20, 35)):
            lines = archive.read(f"de{segment:05d}2010.sf1").decode().splitlines()
            assert [line.split(",")[4] for line in lines] == (numbers if segment < 15 else above)


def test_the_header_is_read_back_with_names_and_populations(tmp_path: Path) -> None:
    people = people_of(person(BLOCKS[0], count=12_345), person(BLOCKS[3]))
    [county] = counties_of(people, np.array([100019900000001]))
    path = tmp_path / "de2010.sf1.zip"
    write_state_zip(path, "de", "10", [replace(county, name="Doña Ana County")])
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("degeo2010.sf1").splitlines()
    units = {u.geoid: u for u in read_units(lines, load_header_layout(), "de", "10", "header")}
    assert units["10001"].name == "Doña Ana County"
    assert units["10001004002"].name == "Census Tract 40.02"
    assert (units["10"].pop100, units["100010001001000"].pop100) == (12_346, 12_345)
    assert units["10001990000"].pop100 == units["100019900000001"].pop100 == 0


def test_the_same_people_make_the_same_bytes_in_whatever_order_they_come(tmp_path: Path) -> None:
    rows = [person(BLOCKS[0], age=a) for a in (3, 4)] + [person(BLOCKS[0], age=3), person(BLOCKS[4])]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a, b = write(tmp_path / "a", people_of(*rows)), write(tmp_path / "b", people_of(*rows[::-1]))
    assert a.read_bytes() == b.read_bytes()


def test_medians_are_interpolated_within_the_middle_year(tmp_path: Path) -> None:
    block = BLOCKS[0]
    rows = [person(block, age=10), person(block, age=20), person(block, 1, 40, count=4), person(block, 1, 50, race=16)]
    cells = published(write(tmp_path, people_of(*rows)))[0][str(block)]
    # All seven: half is 3.5, two are below 40, four are 40: 40 + 1.5 / 4. Males: half is 1, all of 10.
    assert [cells[f"P013{n:04d}"] for n in (1, 2, 3)] == ["40.4", "11.0", "40.6"]
    assert [cells[f"P013B{n:03d}"] for n in (1, 2, 3)] == ["50.5", "0.0", "50.5"]


def test_a_person_outside_the_countys_blocks_is_refused_and_named(tmp_path: Path) -> None:
    people = people_of(person(BLOCKS[0]))
    county = County("001", "Kent", np.array([10001000100]), np.array([BLOCKS[1]]), people)
    with pytest.raises(InputError, match=str(BLOCKS[0])):
        write_state_zip(tmp_path / "de2010.sf1.zip", "de", "10", [county])
    assert not list(tmp_path.iterdir())


def test_counties_out_of_order_are_refused(tmp_path: Path) -> None:
    counties = list(counties_of(people_of(person(BLOCKS[0]), person(BLOCKS[-1])), EMPTY))
    with pytest.raises(InputError, match="ascending"):
        write_state_zip(tmp_path / "de2010.sf1.zip", "de", "10", counties[::-1])


def test_an_interrupted_writer_keeps_the_old_zip_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, people_of(person(BLOCKS[0])))
    before = path.read_bytes()

    def interrupted() -> Iterator[County]:
        yield next(counties_of(people_of(person(BLOCKS[1])), EMPTY[:0]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_state_zip(path, "de", "10", interrupted())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no_such_folder"):
        write(tmp_path / "no_such_folder", people_of(person(BLOCKS[0])))


def test_counts_of_any_size_are_written_in_full() -> None:
    values = np.array([[0, 9, 10], [1234567, 0, 100]])
    text = [row.tobytes().replace(b"\0", b"") for row in format_counts(values)]
    assert text == [b"0,9,10,", b"1234567,0,100,"]
