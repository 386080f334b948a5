"""What `import dbrecon` offers, as somebody in a notebook uses it: with pandas and with polars."""

import doctest
import importlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import dbrecon
from dbrecon.library.table_sets import cells_of
from tests.paths import CHECKOUT

UNTYPED: Any = dbrecon
"""The library as somebody calls it who has no type checker."""
KINDS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.Table}
PEOPLE = ["geoid_tract", "geoid_block", "sex", "age", "white", "black", "aian", "asian", "nhopi", "sor", "hisp"]


def rows(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame of any kind."""
    found = nw.from_native(frame, eager_only=True).to_arrow().to_pylist()
    return [dict(row) for row in found]


def classroom(frames: str = "pandas", **counts: list[int]) -> dbrecon.Published:
    """Five people of a block in three tables."""
    tables = dbrecon.TableSet("a block of five", classroom_tables())
    published = {"AGE": [0, 1, 1, 1, 1, 1], "RACE": [3, 2, 0, 0, 0, 0, 0], "WOMEN": [2, 1, 1]}
    return dbrecon.tables_of_frames(tables, published | counts, frames=frames)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """A synthetic state's zip, and its people as a pandas frame."""
    made = dbrecon.make_state(4000, counties=2, seed=3)
    return made.write_zip(tmp_path_factory.mktemp("state")), made.people("pandas")


@pytest.fixture(scope="module")
def county(state: tuple[str, Any]) -> dbrecon.Reconstruction:
    """The first county of it, reconstructed from the zip."""
    return dbrecon.reconstruct(dbrecon.read_tables(state[0], "001", frames="pandas"))


def test_importing_it_loads_no_part_of_it_before_it_is_used() -> None:
    text = "import sys, dbrecon; print(sorted(n for n in sys.modules if n.split('.')[0] in ('numpy', 'pyarrow') or 'library' in n))"
    done = subprocess.run([sys.executable, "-c", text], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_that_it_lists_is_there_and_documented() -> None:
    for name in dbrecon.__all__:
        assert getattr(dbrecon, name).__doc__, name
    assert set(dbrecon.__all__) <= set(dir(dbrecon))
    with pytest.raises(AttributeError, match="nothing"):
        dbrecon.nothing  # noqa: B018 - the look-up is the test


@pytest.mark.parametrize("kind", KINDS)
def test_five_people_are_found_from_three_tables_of_one_s_own(kind: str) -> None:
    found = dbrecon.reconstruct(classroom(kind))
    people = found.people()
    assert isinstance(people, KINDS[kind])
    assert sorted((row["sex"], row["white"], row["black"]) for row in rows(people)) == [
        ("female", "N", "Y"), ("female", "Y", "N"), ("female", "Y", "N"), ("male", "N", "Y"), ("male", "Y", "N"),
    ]  # fmt: skip
    assert rows(dbrecon.check(people, found.published)) == []


def test_who_is_in_every_answer_is_said_of_each_of_them() -> None:
    """The three women are settled in sex, age and race but for the two younger ones; nothing tells anybody's origin."""
    found = dbrecon.certainty(dbrecon.reconstruct(classroom()))
    block = rows(found.blocks())[0]
    assert (block["geoid_block"], block["people"], block["certain"]) == ("990010001001000", 5, 0)
    origin = dbrecon.Table("ORIGIN", ["hisp"])
    tables = dbrecon.TableSet("with origin", [*classroom_tables(), origin])
    settled = dbrecon.tables_of_frames(
        tables, {"AGE": [0, 1, 1, 1, 1, 1], "RACE": [3, 2, 0, 0, 0, 0, 0], "WOMEN": [2, 1, 1], "ORIGIN": [5, 0]}, frames="polars"
    )
    people = rows(dbrecon.certainty(dbrecon.reconstruct(settled)).people())
    certain = [(row["sex"], row["age"] >= 65) for row in people if row["certain"]]
    assert certain == [("female", True)]


def classroom_tables() -> tuple[dbrecon.Table, ...]:
    return (
        dbrecon.Table("AGE", ["sex", dbrecon.ages(0, 18, 65)]),
        dbrecon.Table("RACE", ["race"]),
        dbrecon.Table("WOMEN", [dbrecon.ages(0, 65)], {"sex": "female", "race_alone": "white"}),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_table_tells_of_people_is_missing(kind: str) -> None:
    """None of the three tables has an origin. A frame in which it is missing is taken again."""
    found = dbrecon.reconstruct(classroom(kind))
    people = found.people()
    assert all(pd.isna(row["hisp"]) for row in rows(people))
    assert rows(dbrecon.check(people, found.published)) == []
    assert [row["certain"] for row in rows(dbrecon.certainty(people, found.published).people())] == [False] * 5


def test_cells_are_told_in_words() -> None:
    words = [row["counts"] for row in rows(cells_of(dbrecon.TableSet("three", classroom_tables()), "polars"))]
    assert words[:3] == ["everyone", "male", "male, under 18"]
    assert words[9:12] == ["everyone", "white alone", "black alone"]
    assert words[-3:] == ["female, white alone", "female, under 65, white alone", "female, 65 and over, white alone"]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"WOMEN": [3, 0, 3]}, "no people can make these counts together: .*WOMEN"),
        ({"AGE": [0, 1, 1, 1, 1]}, "table AGE: 5 counts are given, but it has 9 cells, 6 of them without parts"),
        ({"AGE": [0, 1, 1, 1, 1, -1]}, "no counts of people"),
        ({"MEN": [1]}, "has no table MEN; it has AGE, RACE, WOMEN"),
    ],
)
def test_counts_that_cannot_be_are_refused_in_a_sentence(counts: dict[str, list[int]], said: str) -> None:
    with pytest.raises(dbrecon.DBReconError, match=said):
        dbrecon.reconstruct(classroom("pandas", **counts))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: dbrecon.ages(5, 18), "give the first age of each group, ascending from 0"),
        (
            lambda: dbrecon.TableSet("x", [dbrecon.Table("A", ["colour"])]).product,
            "cannot divide by 'colour'; take sex, hisp, race",
        ),
        (lambda: dbrecon.TableSet("x", [dbrecon.Table("A", [], {"sex": "male"})]), "first block table must count everyone"),
        (lambda: dbrecon.product("sf1_2011"), "sf1_2011: no product"),
        (lambda: dbrecon.read_tables("/nowhere/ri2010.sf1.zip"), "/nowhere/ri2010.sf1.zip"),
        (lambda: dbrecon.certainty([1, 2], classroom()), "a list is no data frame; give one of pandas, polars, pyarrow"),
        (lambda: dbrecon.reconstruct(classroom()).people("excel"), "'excel' is not a kind of data frame"),
        (lambda: dbrecon.reconstruct(classroom(), objective="most"), "objective 'most' is not known; take one of spread, none"),
        (lambda: dbrecon.reconstruct(classroom(), seed=-1), "seed -1 is no seed: give a whole number from 0"),
        (lambda: dbrecon.reconstruct(classroom(), seconds=0), "seconds 0 leave no time"),
        (lambda: UNTYPED.reconstruct(pd.DataFrame()), "a DataFrame is given, where published tables are needed"),
        (lambda: UNTYPED.check(pd.DataFrame(), pd.DataFrame()), "a DataFrame is given, where published tables are needed"),
        (lambda: UNTYPED.certainty(pd.DataFrame(), "ri2010.sf1.zip"), "a str is given, where published tables are needed"),
        (lambda: dbrecon.reconstruct(classroom()).lp_text("1"), "tract 1 is not among the 1 tracts"),
        (lambda: classroom().only(), "name one or more"),
        (
            lambda: UNTYPED.tables_of_frames(dbrecon.TableSet("x", [dbrecon.Table("A", ["sex"])]), {"A": [[1], [2, 3]]}),
            "are no counts of people",
        ),
        (lambda: classroom(AGE=[True, 1, 1, 1, 1, 1]), "are no counts of people"),
        (lambda: classroom(AGE=[10**12, 1, 1, 1, 1, 1]), "are no counts of people: give whole numbers, at most 999,999,999"),
        (lambda: dbrecon.TableSet("x", [dbrecon.Table("A", "sex")]).product, "by= is a list, as in by=\\['sex'\\]"),
        (lambda: dbrecon.TableSet("x", [dbrecon.Table("A, B")]), "'A, B' is no name|'A, B' cannot be a table's name"),
        (lambda: UNTYPED.product(None), "a NoneType is no product"),
        (lambda: UNTYPED.read_tables(None), "a NoneType is no path"),
        (lambda: UNTYPED.read_tables("x.zip", 59), "county 59: give its three digits"),
        (lambda: UNTYPED.make_state("many"), "people 'many': give a whole number"),
        (lambda: dbrecon.make_state(1000).write_zip("s3://bucket/dist"), "a zip is written into a local folder"),
        (lambda: dbrecon.tabulate(pd.DataFrame({"sex": ["male"]})), "the column geoid_tract is missing"),
    ],
)
def test_what_cannot_be_is_refused_as_an_error_of_the_project(make: Any, said: str) -> None:
    with pytest.raises(dbrecon.DBReconError, match=said):
        make()


def test_a_county_is_read_from_its_zip_and_reconstructed(county: dbrecon.Reconstruction, state: tuple[str, Any]) -> None:
    people, truth = county.people(), state[1]
    of_county = truth[truth["geoid_block"].str.startswith("10001")]
    assert list(people.columns) == PEOPLE
    assert len(people) == len(of_county) == county.population
    assert (people.groupby(["geoid_block", "sex"]).size() == of_county.groupby(["geoid_block", "sex"]).size()).all()
    assert len(dbrecon.check(county)) == 0


def test_progress_is_told_tract_by_tract(state: tuple[str, Any]) -> None:
    calls: list[tuple[int, int]] = []
    published = dbrecon.read_tables(state[0], "001").only("10001")
    dbrecon.reconstruct(published, progress=lambda done, of: calls.append((done, of)))
    assert calls == [(n + 1, len(published)) for n in range(len(published))]


def test_what_a_progress_raises_goes_through_and_the_next_call_is_as_if_nothing_had_been(county: dbrecon.Reconstruction) -> None:
    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt(f"{done} of {of}")

    for work in (UNTYPED.reconstruct, UNTYPED.certainty):
        with pytest.raises(KeyboardInterrupt, match=f"1 of {len(county.published)}"):
            work(county.published if work is UNTYPED.reconstruct else county, progress=stop)
    assert dbrecon.reconstruct(county.published).people().equals(county.people())


def test_threads_find_the_same_people_and_none_writes_a_file(
    county: dbrecon.Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tract = county.published.only(county.published.tracts[0])
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(dbrecon.reconstruct, [tract] * 3))
    assert found[0].people().equals(found[1].people())
    assert found[1].people().equals(found[2].people())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.assign(geoid_block=frame["geoid_block"].astype(float)), "was read as a number, which loses digits"),
        (
            lambda frame: frame.assign(geoid_block=[[1]] * len(frame)),
            "the column geoid_block holds list.*; give texts of 15 digits",
        ),
        (lambda frame: frame.assign(P0010001=True), "the column P0010001 holds bool that are no counts"),
        (lambda frame: pd.concat([frame, frame[["P0010001"]]], axis=1), "has two columns P0010001; leave one out"),
    ],
)
def test_frames_that_cannot_be_are_refused_in_a_sentence(change: Any, said: str, county: dbrecon.Reconstruction) -> None:
    published = county.published
    with pytest.raises(dbrecon.DBReconError, match=said):
        dbrecon.tables_of_frames("sf1_2010", change(published.blocks()), published.tract_cells())


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.assign(geoid_block=frame["geoid_block"].astype("int64")),  # no zero was lost: it is Delaware
        lambda frame: frame.assign(geoid_block=frame["geoid_block"].astype("category")),
        lambda frame: frame.set_index("geoid_block"),
        lambda frame: frame.astype({"P0010001": float, "P0120002": str}),
        lambda frame: pl.from_pandas(frame).with_columns(pl.col("geoid_block").cast(pl.Categorical)),
    ],
)
def test_frames_that_mean_the_same_are_the_same(change: Any, county: dbrecon.Reconstruction) -> None:
    published = county.published
    again = dbrecon.tables_of_frames("sf1_2010", change(published.blocks()), published.tract_cells())
    assert again.tracts == published.tracts
    assert all((a.block_cells == b.block_cells).all() for a, b in zip(again, published, strict=True))


def test_nobody_at_all_is_an_empty_answer(county: dbrecon.Reconstruction) -> None:
    blocks, tracts = county.published.blocks().head(0), county.published.tract_cells().head(0)
    found = dbrecon.reconstruct(dbrecon.tables_of_frames("sf1_2010", blocks, tracts))
    assert (len(found.people()), len(dbrecon.check(found)), len(dbrecon.certainty(found).blocks())) == (0, 0, 0)


def test_frames_of_one_s_own_are_as_good_as_the_zip(county: dbrecon.Reconstruction) -> None:
    """Polars in, polars out; rows in any order, with columns that nobody asked for."""
    published = county.published
    blocks = published.blocks("polars").sample(fraction=1.0, shuffle=True, seed=1).with_columns(name=pl.lit("x"))
    again = dbrecon.tables_of_frames("sf1_2010", blocks, published.tract_cells("polars"))
    people = dbrecon.reconstruct(again).people()
    assert isinstance(people, pl.DataFrame)
    assert people.rows() == county.people("polars").rows()


def test_tables_made_of_people_are_those_of_the_zip(county: dbrecon.Reconstruction, state: tuple[str, Any]) -> None:
    truth = state[1]
    made = dbrecon.tabulate(truth[truth["geoid_block"].str.startswith("10001")])
    assert made.tracts == county.published.tracts
    for tabulated, published in zip(made, county.published, strict=True):
        assert (tabulated.block_cells == published.block_cells).all()
        assert (tabulated.tract_cells == published.tract_cells).all()


def test_a_cell_that_people_do_not_make_is_named(county: dbrecon.Reconstruction) -> None:
    people = county.people()
    people.loc[0, "hisp"] = "N" if people.loc[0, "hisp"] == "Y" else "Y"
    wrong = dbrecon.check(people, county.published)
    assert set(wrong["unit"]) == {f"block {people.loc[0, 'geoid_block']}", f"tract {people.loc[0, 'geoid_tract']}"}
    assert (wrong["published"] != wrong["reconstructed"]).all()


def test_a_truth_tells_how_many_records_came_back(county: dbrecon.Reconstruction, state: tuple[str, Any]) -> None:
    truth = state[1]
    true = truth[truth["geoid_block"].str.startswith("10001")]
    found = dbrecon.evaluate(county, true)
    share = found[found["block_size"] == "all"].set_index(["method", "measure"])["share"]
    assert share["reconstruction", "binned_age"] > share["modal", "binned_age"] > share["random", "binned_age"]
    perfect = dbrecon.evaluate(true, true, county.published)
    assert (perfect[perfect["method"] == "reconstruction"]["share"].dropna() == 1).all()


def test_an_attacker_is_right_of_everybody_if_the_people_are_the_truth(county: dbrecon.Reconstruction) -> None:
    people = county.people()
    sure = dbrecon.certainty(county)
    rates = dbrecon.reidentify(people, people, certainty=sure)
    by_method = rates[rates["people"] == "all"].set_index("method")["precision"]
    assert by_method["reconstruction"] > by_method["modal guess"]
    certain = rates[(rates["people"] == "certain") & (rates["method"] == "reconstruction")].iloc[0]
    assert certain["confirmed"] <= certain["putative"] <= sure.people()["certain"].sum()
    assert certain["putative"] > 0
    attacker = people[["geoid_block", "sex", "age"]].assign(id=[f"p{n}" for n in range(len(people))])
    by_id = dbrecon.reidentify(people, people.assign(id=attacker["id"]), attacker.head(100))
    assert by_id[by_id["people"] == "all"]["putative"].iloc[0] == 100


def test_what_is_written_is_read_again(county: dbrecon.Reconstruction, tmp_path: Path) -> None:
    county.write(tmp_path)
    assert dbrecon.read_people(tmp_path / "people.csv", "pandas").equals(county.people())
    tract = county.published.tracts[0]
    solution = dbrecon.read_solution(tmp_path / "sol" / f"model_{tract}.sol.gz", "pandas")
    assert solution["count"].sum() == county.by_tract[tract].people.population
    solved = dbrecon.solve_lp(tmp_path / "lp" / f"model_{tract}.lp.gz", frames="pandas")
    assert solved.groupby("geoid_block")["count"].sum().equals(solution.groupby("geoid_block")["count"].sum())
    assert dbrecon.write_people(county.people("polars"), tmp_path / "again.csv.gz") == county.population
    assert dbrecon.read_people(tmp_path / "again.csv.gz", "pandas").equals(county.people())
    assert dbrecon.write_people(county, tmp_path / "people.parquet") == county.population
    assert pd.read_parquet(tmp_path / "people.parquet").astype(object).equals(county.people().astype(object))


def test_a_folder_serves_by_its_zip_or_its_county_files(
    county: dbrecon.Reconstruction, state: tuple[str, Any], tmp_path: Path
) -> None:
    of_zip = dbrecon.read_tables(Path(state[0]).parent, "001")
    assert of_zip.tracts == county.published.tracts
    for level, frame in (("block", county.published.blocks()), ("tract", county.published.tract_cells())):
        frame.insert(1, "logrecno", 1)
        frame.to_csv(tmp_path / f"sf1_{level}_10001.csv", index=False)
    of_files = dbrecon.read_tables(tmp_path)
    assert of_files.tracts == county.published.tracts
    assert (of_files.tract(of_files.tracts[0]).block_cells == county.published.tract(of_files.tracts[0]).block_cells).all()
    with pytest.raises(dbrecon.DBReconError, match=r"has neither ri2010\.sf1\.zip"):
        dbrecon.read_tables(tmp_path, state="ri")


def test_block_tables_alone_can_be_asked_for(state: tuple[str, Any]) -> None:
    published = dbrecon.read_tables(state[0], "001", subset="block", frames="pyarrow")
    first = published.only(published.tracts[0])
    assert first.tract_cells().num_columns == 1
    found = dbrecon.reconstruct(first)
    assert np.sum(found.sizes("pandas")["people"]) == found.population


def test_geoids_that_lost_their_zero_are_explained() -> None:
    tables = dbrecon.TableSet("one", [dbrecon.Table("P1")])
    with pytest.raises(dbrecon.DBReconError, match="it has lost its leading zero: keep GEOIDs as text"):
        dbrecon.tables_of_frames(tables, pd.DataFrame({"geoid_block": [10010201001000], "P10001": [3]}))


@pytest.mark.slow
def test_the_examples_of_the_reference_are_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each function that it shows has one, or belongs to a class that has; they begin with what its first block makes."""
    page = (CHECKOUT / "docs/reference/api.md").read_text(encoding="utf-8")
    beginning = re.search(r"(?:^    .*\n|^\n)*^    import dbrecon\n(?:^    .*\n|^\n)*", page, re.M)
    assert beginning is not None
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(re.sub(r"^    ", "", beginning[0], flags=re.M), names)
    homes = {getattr(dbrecon, name).__module__ for name in dbrecon.__all__} - {"dbrecon.errors"}
    tried = {
        example.name.removeprefix(f"{home}."): result.attempted
        for home in sorted(homes)
        for example in doctest.DocTestFinder().find(importlib.import_module(home), extraglobs=names)
        for result in [doctest.DocTestRunner().run(example)]
        if result.failed == 0
    }
    shown = set(re.findall(r"auto(?:function|class):: dbrecon\.(\w+)", page))
    assert shown == set(dbrecon.__all__) - {"DBReconError"}
    assert [name for name in sorted(shown) if not sum(n for of, n in tried.items() if re.match(rf"{name}(\.|$)", of))] == []
