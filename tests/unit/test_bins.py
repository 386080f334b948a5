"""Age bins follow from the tables: as wide as every binned answer can be completed, and no wider."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dbrecon.recon.census.bins import SINGLE_AGES, AgeBins, derive_binning, sum_label
from dbrecon.recon.census.kinds import N_AGES, N_KINDS, N_RH, join_kind, split_kind
from dbrecon.recon.census.tables import DEFAULT_PRODUCT, Product, load_product
from dbrecon.recon.tract.model import Model, ModelBuilder
from tests.helpers import counts_of, tables_of

P12_STARTS = (0, 5, 10, 15, 18, 20, 21, 22, 25, 30, 35, 40, 45, 50, 55, 60, 62, 65, 67, 70, 75, 80, 85)
SF1_STARTS = (*range(22), *P12_STARTS[7:])

HEAD = """
product = "made_up"
title = "Tables that nobody publishes"
races = ["white", "black", "aian", "asian", "nhopi", "sor"]
[divisions.group]
ages_from = [0, 22, 25]
ages_to = 110
[divisions.year]
ages_from = [0, 22, 23, 24, 25]
ages_to = 110
[divisions.two_years]
ages_from = [0, 22, 24, 25]
ages_to = 110
[divisions.group_and_next]
ages_from = [0, 23, 26]
ages_to = 110
[divisions.sex_and_group]
parts = [{ sex = "male", then = "group" }, { sex = "female", then = "group" }]
[divisions.year_without_the_last]
ages_from = [22, 23]
ages_to = 23
"""


def table(name: str, level: str, cells: int, divide: str, universe: str = "", constraint: bool = True) -> str:
    text = f'[[table]]\nname = "{name}"\nprefix = "{name}"\nlevel = "{level}"\nsegment = 1\ncells = {cells}\ndivide = "{divide}"\n'
    text += f"universe = {{ {universe} }}\n" if universe else ""
    return text + (f'[[constraint]]\ncounts = "{name}"\n' if constraint else "")


def product_of(folder: Path, *tables: str, more: str = "") -> Product:
    path = folder / "tables.toml"
    path.write_text(HEAD + "".join(tables) + more)
    load_product.cache_clear()
    return load_product(path)


def starts_of(folder: Path, *tables: str, more: str = "") -> set[int]:
    """Where the bins of ages 22 to 24 begin."""
    return set(derive_binning(product_of(folder, *tables, more=more)).bins.starts) & {22, 23, 24}


BLOCK = table("B", "block", 4, "group")
WHITE, BLACK, HISPANIC = 'race_alone = "white"', 'race_alone = "black"', "hisp = true"


def test_the_2010_tables_make_the_38_bins_of_the_literature() -> None:
    assert derive_binning(load_product()).bins.starts == SF1_STARTS


def test_block_tables_alone_make_the_same_bins_and_tell_nothing_of_years() -> None:
    binning = derive_binning(load_product(tables="block"))
    assert binning.bins.starts == SF1_STARTS
    assert binning.years.n_groups == 0
    assert (binning.years.index == -1).all()


def test_without_p14_the_bins_are_the_23_groups_of_p12(tmp_path: Path) -> None:
    text = DEFAULT_PRODUCT.read_text().replace('\n[[constraint]]\ncounts = "P14"\n', "\n")
    begin = text.index('[[table]]\nname = "P14"')
    text = text[:begin] + text[text.index("[[table]]", begin + 1) :]
    (tmp_path / "tables.toml").write_text(text)
    assert derive_binning(load_product(tmp_path / "tables.toml")).bins.starts == P12_STARTS


def test_years_by_disjoint_groups_are_merged(tmp_path: Path) -> None:
    assert starts_of(tmp_path, BLOCK, table("TW", "tract", 6, "year", WHITE), table("TB", "tract", 6, "year", BLACK)) == {22}


def test_years_by_groups_within_one_another_are_merged_and_told_by_subtraction(tmp_path: Path) -> None:
    product = product_of(tmp_path, BLOCK, table("T", "tract", 6, "year"), table("TW", "tract", 6, "year", WHITE))
    binning = derive_binning(product)
    assert set(binning.bins.starts) & {22, 23, 24} == {22}
    cells = np.zeros(len(product.columns("tract")), np.int64)
    cells[[product.columns("tract").index(f"T{n:03d}") for n in (3, 4, 5)]] = 10, 20, 30
    cells[[product.columns("tract").index(f"TW{n:03d}") for n in (3, 4, 5)]] = 1, 2, 3
    years = binning.years
    shown = {tuple(years.values(cells)[a:b].tolist()) for a, b in zip(years.starts, years.starts[1:], strict=False)}
    assert shown == {(1, 2, 3), (9, 18, 27)}


@pytest.mark.parametrize(
    "tables",
    [
        pytest.param([table("TW", "tract", 6, "year", WHITE), table("TH", "tract", 6, "year", HISPANIC)], id="crossing"),
        pytest.param([table("TW", "tract", 6, "year", WHITE), table("TB", "tract", 4, "group_and_next", WHITE)], id="overlap"),
        pytest.param([table("TW", "tract", 3, "year_without_the_last", f"{WHITE}, ages = [22, 23]")], id="a year is missing"),
        pytest.param([table("T", "tract", 6, "year"), table("TW", "tract", 5, "two_years", WHITE)], id="other years within"),
        pytest.param([table("T", "tract", 6, "year"), table("TW", "tract", 6, "year", WHITE, constraint=False)], id="not written"),
        pytest.param(
            [table("TW", "tract", 6, "year", 'race = "white"'), table("TB", "tract", 6, "year", 'race = "black"')],
            id="races in combination",
        ),
    ],
)
def test_ages_stay_single_where_a_binned_answer_might_not_be_completed(tmp_path: Path, tables: list[str]) -> None:
    assert starts_of(tmp_path, BLOCK, *tables) == {22, 23, 24}


def test_groups_that_cross_are_merged_where_the_product_divides_them(tmp_path: Path) -> None:
    """White, Hispanic, and white Hispanic by year: by subtraction they are one partition."""
    tables = [
        table(f"T{i}", "tract", 6, "year", u, constraint=False) for i, u in enumerate([WHITE, HISPANIC, f"{WHITE}, {HISPANIC}"])
    ]
    more = "".join(
        f'[[difference]]\nname = "D{i}"\nof = "T{i}"\nless = "T2"\nlabel = "others"\n[[constraint]]\ncounts = "D{i}"\n'
        for i in (0, 1)
    )
    assert starts_of(tmp_path, BLOCK, *tables, more=more + '[[constraint]]\ncounts = "T2"\n') == {22}
    assert starts_of(tmp_path, BLOCK, *tables, more=more) == {22, 23, 24}, "the published cells need the common part"


def test_years_without_sex_are_merged_too(tmp_path: Path) -> None:
    assert starts_of(tmp_path, table("B", "block", 9, "sex_and_group"), table("TW", "tract", 6, "year", WHITE)) == {22}


def test_two_year_counts_of_disjoint_groups_are_merged_and_keep_their_intervals(tmp_path: Path) -> None:
    product = product_of(tmp_path, BLOCK, table("TW", "tract", 5, "two_years", WHITE), table("TB", "tract", 6, "year", BLACK))
    years = derive_binning(product).years
    of_22 = [
        list(zip(years.first[a:b].tolist(), years.last[a:b].tolist(), strict=True))
        for a, b in zip(years.starts, years.starts[1:], strict=False)
    ]
    assert sorted(of_22) == [[(22, 22), (23, 23), (24, 24)], [(22, 23), (24, 24)]]


def test_tract_groups_that_reach_from_one_block_group_into_the_next_cut_both(tmp_path: Path) -> None:
    """Ages 22 to 24 of blocks, 23 to 25 of tracts: bins are what neither tells apart, and a program can be built."""
    product = product_of(tmp_path, table("B", "block", 4, "group"), table("T", "tract", 4, "group_and_next"))
    bins = derive_binning(product).bins
    assert str(bins) == "0-21, 22, 23-24, 25, 26+"
    assert ModelBuilder(product, bins).labels


def test_bins_that_do_not_suit_a_constraint_are_refused(tmp_path: Path) -> None:
    product = product_of(tmp_path, BLOCK, table("TW", "tract", 4, "group_and_next", WHITE))
    with pytest.raises(ValueError, match="TW is not divided by ages"):
        ModelBuilder(product, AgeBins((0, 22, 25)))


@given(st.integers(0, N_KINDS - 1), st.sets(st.integers(1, N_AGES - 1)))
def test_a_kind_is_in_the_bin_that_holds_its_age(kind: int, starts: set[int]) -> None:
    bins = AgeBins((0, *sorted(starts)))
    (sex, age, race, hisp) = (int(v[0]) for v in split_kind(np.array([kind])))
    binned = bins.of_kind(np.array([kind]))
    got_sex, number, got_race, got_hisp = bins.split(binned)
    assert (got_sex[0], got_race[0], got_hisp[0]) == (sex, race, hisp)
    assert bins.first[number[0]] <= age <= bins.last[number[0]]
    assert bins.join(got_sex, number, got_race, got_hisp)[0] == binned[0]
    assert bins.of_kind(bins.first_kind(binned))[0] == binned[0]


def test_sums_are_named_by_their_cells() -> None:
    assert sum_label("PCT012I048", "PCT012I052") == "PCT012I048_052"
    assert sum_label("PCT0120048", "PCT0120052") == "PCT0120048_052"
    assert sum_label("PCT012A048_hisp", "PCT012A052_hisp") == "PCT012A048_052_hisp"


def solutions(model: Model) -> Iterator[tuple[int, ...]]:
    """All of a small program's solutions, variable by variable."""
    rows_of: list[list[int]] = [[] for _ in range(model.n_variables)]
    for row in range(model.n_constraints):
        for column in model.columns[model.starts[row] : model.starts[row + 1]].tolist():
            rows_of[column].append(row)
    last = [max((i for i in range(model.n_variables) if row in rows_of[i]), default=-1) for row in range(model.n_constraints)]
    left, x = model.rhs.tolist(), [0] * model.n_variables

    def extend(i: int) -> Iterator[tuple[int, ...]]:
        if i == model.n_variables:
            yield tuple(x)
            return
        for value in range(min(left[row] for row in rows_of[i]) + 1):
            x[i] = value
            for row in rows_of[i]:
                left[row] -= value
            if all(left[row] == 0 for row in rows_of[i] if last[row] == i):
                yield from extend(i + 1)
            for row in rows_of[i]:
                left[row] += value
        x[i] = 0

    if all(last[row] >= 0 for row in range(model.n_constraints)):
        yield from extend(0)


def histograms(model: Model, bins: AgeBins) -> set[frozenset[tuple[int, int, int]]]:
    """The solutions as sets of (block, binned kind, people)."""
    kinds = model.kind if model.bins == bins else bins.of_kind(model.bins.first_kind(model.kind))
    found = set()
    for solution in solutions(model):
        people: dict[tuple[int, int], int] = {}
        for b, k, n in zip(model.block.tolist(), kinds.tolist(), solution, strict=True):
            people[b, k] = people.get((b, k), 0) + n
        found.add(frozenset((b, k, n) for (b, k), n in people.items() if n))
    return found


def small_people(ages: list[int], races: list[int]) -> st.SearchStrategy[list[tuple[int, int]]]:
    kind = st.builds(
        lambda sex, age, race, hisp: int(join_kind(*(np.array([v]) for v in (sex, age, race, hisp)))[0]),
        st.integers(0, 1), st.sampled_from(ages), st.sampled_from(races), st.integers(0, 1),
    )  # fmt: skip
    return st.lists(st.tuples(st.integers(1000, 1001), kind), min_size=1, max_size=5)


MOST_VARIABLES = 40
"""All solutions of more would take too long to list."""

SF1 = load_product()
SF1_BINS = derive_binning(SF1).bins
SINGLE, BINNED = ModelBuilder(SF1), ModelBuilder(SF1, SF1_BINS)


@settings(max_examples=60, deadline=None)
@given(small_people([3, 22, 24, 47, 48, 90], [32, 16, 48, 40]))
def test_the_binned_program_has_the_solutions_of_the_single_one_summed(people: list[tuple[int, int]]) -> None:
    tables = tables_of(SF1, people)
    single, binned = SINGLE.build(tables), BINNED.build(tables)
    assume(single.n_variables <= MOST_VARIABLES)
    expected = histograms(single, SF1_BINS)
    assert expected
    assert histograms(binned, SF1_BINS) == expected


NOBODY_ELSE = [
    table(f"B{i}", "block", 4, "group", u)
    for i, u in enumerate(['race = "aian"', 'race = "asian"', 'race = "nhopi"', 'race = "sor"', "races = 2"])
]
"""Their zeros leave white and black alone."""


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(small_people([22, 23, 24], [32, 16]))
def test_so_do_nested_groups(tmp_path_factory: pytest.TempPathFactory, people: list[tuple[int, int]]) -> None:
    product = product_of(
        tmp_path_factory.mktemp("tables"), table("B", "block", 9, "sex_and_group"), *NOBODY_ELSE, table("T", "tract", 6, "year"),
        table("TW", "tract", 6, "year", WHITE), table("TWH", "tract", 6, "year", f"{WHITE}, {HISPANIC}"),
    )  # fmt: skip
    bins = derive_binning(product).bins
    assert not bins.single
    tables = tables_of(product, people)
    single = ModelBuilder(product).build(tables)
    assume(single.n_variables <= MOST_VARIABLES)
    assert histograms(ModelBuilder(product, bins).build(tables), bins) == histograms(single, bins)


def test_merging_groups_that_cross_would_admit_people_who_cannot_be(tmp_path: Path) -> None:
    """Why they stay single: a white non-Hispanic of 22 and a black Hispanic of 23, where no table tells race by origin."""
    product = product_of(
        tmp_path,
        *(table(f"B{i}", "block", 4, "group", u) for i, u in enumerate([WHITE, BLACK, HISPANIC, "hisp = false"])),
        *(table(f"T{i}", "tract", 6, "year", u) for i, u in enumerate([WHITE, BLACK, HISPANIC, "hisp = false"])),
    )
    kinds = [int(join_kind(*(np.array([v]) for v in kind))[0]) for kind in [(0, 22, 32, 0), (0, 23, 16, 1)]]
    tables = tables_of(product, [(1000, kind) for kind in kinds])
    bins = AgeBins((0, 22, 25))
    possible = histograms(ModelBuilder(product).build(tables), bins)
    assert possible < histograms(ModelBuilder(product, bins).build(tables), bins)


def test_the_summed_rows_of_a_tract_hold_everyone_of_their_cells() -> None:
    """Also where a single year's row would be left out as a repeat of a block's."""
    kind = [int(join_kind(*(np.array([v]) for v in (0, age, 32, 0)))[0]) for age in (45, 46, 47)]
    people = [(1000, kind[0]), (1000, kind[1]), (1001, kind[2])]
    model = BINNED.build(tables_of(SF1, people))
    names = [model.row_name(row) for row in range(model.n_constraints)]
    row = names.index("PCT012I048_052")
    columns = model.columns[model.starts[row] : model.starts[row + 1]]
    assert model.rhs[row] == 3
    assert {(int(model.blocks[model.block[c]]), int(model.kind[c])) for c in columns} == {
        (block, int(SF1_BINS.of_kind(np.array(kind))[0])) for block in (1000, 1001)
    }


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1000, 1004), st.integers(0, N_KINDS - 1)), min_size=1, max_size=60))
def test_the_true_people_satisfy_the_binned_program(people: list[tuple[int, int]]) -> None:
    model = BINNED.build(tables_of(SF1, people))
    summed = [(block, int(SF1_BINS.of_kind(np.array([kind]))[0])) for block, kind in people]
    counts = counts_of(model.block, model.kind, model.blocks, summed)
    assert counts is not None
    sums = np.add.reduceat(counts[model.columns], model.starts[:-1])
    assert (sums == model.rhs).all()


def test_single_ages_are_the_categories() -> None:
    assert SINGLE_AGES.single
    assert SINGLE_AGES.n_kinds == N_KINDS
    assert (SINGLE_AGES.of_kind(np.arange(N_KINDS)) == np.arange(N_KINDS)).all()
    assert SF1_BINS.n_kinds == 38 * 2 * N_RH
    assert "45-49" in str(SF1_BINS)
    assert SF1_BINS.refined(AgeBins((0, 48))).n == 39
