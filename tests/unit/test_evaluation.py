"""The evaluation: cells that are not reproduced, agreement with the truth, and the two baselines."""

import gzip
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from dbrecon.ctools.storage import sopen
from dbrecon.errors import InputError
from dbrecon.recon.census.bins import COMPARISON_BINS, AgeBins
from dbrecon.recon.census.kinds import FIRST_AGES, N_KINDS, join_kind, split_kind
from dbrecon.recon.census.tables import COMPARISON_AGES, Product, load_product
from dbrecon.recon.people.people import People, people_csv
from dbrecon.recon.study.evaluation import (
    BlockCounts,
    County,
    CountyEvaluation,
    Evaluation,
    Margins,
    Units,
    compare,
    count_violations,
    evaluate,
    modal_people,
    random_people,
    read_units,
)
from dbrecon.recon.study.evaluation_record import as_record, from_record
from dbrecon.recon.study.evaluation_text import format_report
from dbrecon.recon.study.truth import TruthFile
from dbrecon.remedies import sentence
from tests.paths import SHARED_DATA

A, B, C = 390599771001000, 390599771001001, 390599772002000
WHITE, BLACK, BOTH = 32, 16, 48


def truth_file(text: bytes, name: str = "truth.csv") -> TruthFile:
    return TruthFile(name, partial(io.BytesIO, text))


Person = tuple[int, int, int, int, int]  # block, sex, age category, race code, Hispanic


@cache
def product() -> Product:
    return load_product()


def people_of(*persons: Person, times: int = 1) -> People:
    block, *parts = np.array(persons, np.int64).reshape(-1, 5).T
    return People(block, join_kind(*parts), np.full(len(block), times, np.int64))


def tabulated(people: People, level: str) -> Units:
    """The tables of these people, as published, of every unit where somebody lives."""
    where = people.geoid_block if level == "block" else people.geoid_tract
    units, row = np.unique(where, return_inverse=True)
    counts = sp.csr_array((people.count, (row, people.kind)), shape=(len(units), N_KINDS))
    return Units(units, (counts @ product().membership(level)).toarray())


def county(people: People, published: People | None = None) -> Callable[[], County]:
    """A county with these people, whose tables are those of ``published`` (else of the same people)."""
    published = people if published is None else published
    return lambda: County(people, lambda: iter([tabulated(published, "block")]), lambda: iter([tabulated(published, "tract")]))


def counts_of(people: People) -> BlockCounts:
    return Margins(product()).of(tabulated(people, "block"))


def evaluated(truth: People, counties: Mapping[str, Callable[[], County]]) -> Evaluation:
    return evaluate([truth_file(people_csv(truth))], counties, product())


# --- agreement -------------------------------------------------------------------------------------------------------


def test_there_are_38_bins_of_age() -> None:
    assert len(COMPARISON_AGES) == 38
    assert COMPARISON_AGES[:23] == tuple(range(23))
    assert COMPARISON_AGES[-1] == 85


def test_people_match_one_to_one() -> None:
    # Two of three equal records are reconstructed, and one that nobody is.
    truth = people_of((A, 0, 30, WHITE, 0), (A, 0, 30, WHITE, 0), (A, 0, 30, WHITE, 0), (A, 1, 30, WHITE, 0))
    guess = people_of((A, 0, 30, WHITE, 0), (A, 0, 30, WHITE, 0), (A, 1, 30, BLACK, 0), (A, 1, 30, BLACK, 0))
    result = evaluated(truth, {"39059": county(guess, truth)})
    assert result.agreement.share("reconstruction", "exact_age") == 2 / 4


@pytest.mark.parametrize(
    ("guessed", "true", "exact", "in_bins"),
    [(21, 21, 1, 1), (21, 22, 0, 0), (22, 24, 0, 1), (24, 25, 0, 0), (84, 85, 0, 0), (85, 99, 0, 1), (99, 102, 0, 1), (4, 5, 0, 0)],
)
def test_ages_match_exactly_or_in_their_bin(guessed: int, true: int, exact: int, in_bins: int) -> None:
    truth = people_of((A, 0, true, WHITE, 0))
    result = evaluated(truth, {"39059": county(people_of((A, 0, guessed, WHITE, 0)), truth)})
    assert result.agreement.share("reconstruction", "exact_age") == exact
    assert result.agreement.share("reconstruction", "binned_age") == in_bins


@pytest.mark.parametrize("other", [(B, 0, 30, WHITE, 0), (A, 1, 30, WHITE, 0), (A, 0, 30, BOTH, 0), (A, 0, 30, WHITE, 1)])
def test_block_sex_race_and_origin_must_all_be_right(other: Person) -> None:
    truth = people_of((A, 0, 30, WHITE, 0))
    result = evaluated(truth, {"39059": county(people_of(other), truth)})
    assert result.agreement.share("reconstruction", "binned_age") == 0


@pytest.mark.slow
@settings(max_examples=40)
@given(st.data())
def test_agreement_is_the_plain_intersection_of_records(data: st.DataObject) -> None:
    persons = st.lists(
        st.tuples(
            st.sampled_from([A, B, C]), st.integers(0, 1), st.sampled_from([20, 22, 23, 85, 101]),
            st.sampled_from([WHITE, BOTH]), st.integers(0, 1),
        ),
        min_size=1, max_size=30,
    )  # fmt: skip
    truth, guess = data.draw(persons), data.draw(persons)
    first_ages = data.draw(st.sampled_from([COMPARISON_AGES, (0, 15, 40, 100)]))
    counts, bins = counts_of(people_of(*truth)), AgeBins.of_years(first_ages)
    agreement = compare(people_of(*guess), people_of(*truth), counts, np.random.default_rng(0), bins)

    def coarse(person: Person) -> Person:
        block, sex, age, race, hisp = person
        return block, sex, max(start for start in first_ages if start <= FIRST_AGES[age]), race, hisp

    exact = (Counter(truth) & Counter(guess)).total()
    in_bins = (Counter(map(coarse, truth)) & Counter(map(coarse, guess))).total()
    assert agreement.matched[0].sum(axis=1).tolist() == [exact, in_bins]
    assert agreement.truth.sum() == len(truth)


def test_agreement_is_told_by_the_blocks_true_population() -> None:
    small = people_of((A, 0, 30, WHITE, 0), times=9)
    large = people_of((C, 0, 30, WHITE, 0), (C, 0, 30, BLACK, 0), times=500)
    truth = People.concatenate([small, large])
    guess = People.concatenate([small, people_of((C, 0, 30, WHITE, 0), (C, 0, 31, BLACK, 0), times=500)])
    result = evaluated(truth, {"39059": county(guess, truth)})
    assert result.agreement.truth.tolist() == [9, 0, 0, 0, 0, 0, 1000]
    assert result.agreement.blocks.tolist() == [1, 0, 0, 0, 0, 0, 1]
    assert result.agreement.matched[0, 0].tolist() == [9, 0, 0, 0, 0, 0, 500]


def test_a_county_is_compared_in_pieces_that_leave_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    persons = [(block, sex, age, WHITE, 0) for block in (A, B, C, C + 5) for sex in (0, 1) for age in (3, 40, 41)]
    guess, truth = people_of(*persons[::2], (A - 1, 0, 3, WHITE, 0), times=2), people_of(*persons, (A - 1, 0, 3, WHITE, 0))
    published = counts_of(people_of(*persons))
    whole = compare(guess, truth, published, np.random.default_rng(0), COMPARISON_BINS)
    monkeypatch.setattr("dbrecon.recon.study.evaluation.PEOPLE_AT_ONCE", 7)
    pieces = compare(guess, truth, published, np.random.default_rng(0), COMPARISON_BINS)
    assert len(list(published.slices(7))) == 3
    np.testing.assert_array_equal(pieces.matched[:2], whole.matched[:2])
    assert pieces.truth.sum() == len(persons) + 1


def test_a_block_file_without_blocks_is_refused() -> None:
    people = people_of((A, 0, 30, WHITE, 0))
    empty = County(people, lambda: iter([]), lambda: iter([tabulated(people, "tract")]))
    with pytest.raises(InputError, match="county 39059: its block file lists no block"):
        evaluated(people, {"39059": lambda: empty})


# --- published cells -------------------------------------------------------------------------------------------------


def test_people_who_make_the_tables_violate_nothing() -> None:
    people = people_of((A, 0, 30, WHITE, 0), (B, 1, 102, BOTH, 1), (C, 1, 0, 63, 0))
    result = evaluated(people, {"39059": county(people)})
    assert {level: (v.wrong, v.cells) for level, v in result.violations.items()} == {"block": (0, 3 * 844), "tract": (0, 2 * 3344)}


def test_each_wrong_cell_is_counted_and_the_first_are_named() -> None:
    people = people_of((A, 0, 30, WHITE, 0))
    published = tabulated(people, "block")
    published.cells[0, [0, 100]] += [2, 1]
    names = product().columns("block")
    found = count_violations(people, published, product(), "block")
    assert (found.wrong, found.cells) == (2, 844)
    assert [(cell.cell, cell.geoid) for cell in found.examples] == [(names[0], str(A)), (names[100], str(A))]
    assert (found.examples[0].published, found.examples[0].reconstructed) == (3, 1)


def test_people_where_nobody_is_published_violate_cells() -> None:
    # P1, P6 to P12, P12A and P12I count a white man of 30 who isn't Hispanic; he's in no other block table.
    truth = people_of((A, 0, 30, WHITE, 0))
    result = evaluated(truth, {"39059": county(people_of((A, 0, 30, WHITE, 0), (B, 0, 30, WHITE, 0)), truth)})
    counted = int((tabulated(truth, "block").cells > 0).sum())
    assert (result.violations["block"].wrong, result.violations["block"].cells) == (counted, 2 * 844)


def test_a_published_unit_without_reconstructed_people_violates_cells() -> None:
    truth = people_of((A, 0, 30, WHITE, 0), (C, 0, 30, WHITE, 0))
    result = evaluated(truth, {"39059": county(people_of((A, 0, 30, WHITE, 0)), truth)})
    assert result.violations["block"].wrong == int((tabulated(people_of((C, 0, 30, WHITE, 0)), "block").cells > 0).sum())
    assert result.violations["tract"].wrong > 0


def test_block_tables_alone_are_checked_at_block_level_alone() -> None:
    people = people_of((A, 0, 30, WHITE, 0))
    result = evaluate([truth_file(people_csv(people))], {"39059": county(people)}, load_product(tables="block"))
    assert list(result.violations) == ["block"]


# --- baselines -------------------------------------------------------------------------------------------------------


def test_the_modal_baseline_gives_everyone_of_a_block_its_commonest_race_and_origin() -> None:
    published = people_of((A, 0, 1, WHITE, 1), (A, 1, 2, WHITE, 1), (A, 0, 3, BLACK, 0), (B, 0, 4, BOTH, 0))
    guess = people_of((A, 0, 1, BLACK, 0), (A, 1, 2, WHITE, 1), (A, 0, 7, WHITE, 0), (B, 0, 4, WHITE, 0))
    modal = modal_people(guess, counts_of(published))
    expected = people_of((A, 0, 1, WHITE, 1), (A, 1, 2, WHITE, 1), (A, 0, 7, WHITE, 1), (B, 0, 4, BOTH, 0)).merged()
    assert people_csv(modal) == people_csv(expected)


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [((WHITE, 0), (BLACK, 0), WHITE), ((BLACK, 1), (WHITE, 0), WHITE), ((BOTH, 0), (1, 0), 1), ((BLACK, 0), (BLACK, 1), BLACK)],
)
def test_of_equally_common_races_the_one_printed_first_is_modal(
    first: tuple[int, int], second: tuple[int, int], chosen: int
) -> None:
    published = people_of((A, 0, 1, *first), (A, 0, 1, *second))
    _, _, race, hisp = split_kind(modal_people(published, counts_of(published)).kind)
    assert (race.tolist(), hisp.tolist()) == ([chosen], [0])


def test_the_random_baseline_has_every_blocks_population() -> None:
    published = People.concatenate([people_of((A, 0, 1, WHITE, 0), times=7), people_of((C, 1, 40, BLACK, 1), times=30)])
    drawn = random_people(counts_of(published), np.random.default_rng(0))
    assert Counter(np.repeat(drawn.geoid_block, drawn.count).tolist()) == {A: 7, C: 30}


def test_the_random_baseline_draws_sex_and_age_race_and_origin_apart() -> None:
    # Half are white girls under 5, not Hispanic, half black men of 60 or 61, Hispanic: drawn apart, each of eight mixtures is 1/8.
    published = people_of((A, 1, 2, WHITE, 0), (A, 0, 60, BLACK, 1), times=20_000)
    drawn = random_people(counts_of(published), np.random.default_rng(0))
    sex, age, race, hisp = split_kind(drawn.kind)
    assert set(zip(sex.tolist(), age.tolist(), strict=True)) == {(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (0, 60), (0, 61)}
    shares: dict[tuple[int, int, int], float] = defaultdict(float)
    for key, n in zip(zip(sex.tolist(), race.tolist(), hisp.tolist(), strict=True), drawn.count.tolist(), strict=True):
        shares[key] += n / 40_000
    assert set(shares) == {(s, r, h) for s in (0, 1) for r in (WHITE, BLACK) for h in (0, 1)}
    assert all(abs(share - 1 / 8) < 0.01 for share in shares.values())


def test_the_random_baseline_takes_the_ages_of_a_group_alike() -> None:
    published = people_of((A, 1, 86, WHITE, 0), times=18_000)
    drawn = random_people(counts_of(published), np.random.default_rng(0))
    assert split_kind(drawn.kind)[1].tolist() == list(range(85, 103))
    assert abs(drawn.count - 1000).max() < 150


def test_baselines_do_not_depend_on_the_truth() -> None:
    # Published is a block of black people but for one; that the truth says otherwise must change no guess.
    published = people_of((A, 0, 30, WHITE, 0), (A, 1, 40, BLACK, 0), (A, 1, 41, BLACK, 0))
    ours = {"39059": county(published)}
    assert evaluated(published, ours).agreement.matched[1, 0].sum() == 2
    assert evaluated(people_of((A, 0, 30, WHITE, 0), times=3), ours).agreement.matched[1, 0].sum() == 0


def test_an_evaluation_is_the_same_each_time() -> None:
    truth = people_of((A, 0, 30, WHITE, 0), (A, 1, 40, BLACK, 0), (B, 1, 41, BLACK, 1), times=50)
    assert evaluated(truth, {"39059": county(truth)}).as_json() == evaluated(truth, {"39059": county(truth)}).as_json()


# --- the truth's extent ----------------------------------------------------------------------------------------------

OTHER = 390610001001000


def test_only_reconstructed_counties_are_compared_and_the_rest_is_told() -> None:
    here, elsewhere = people_of((A, 0, 30, WHITE, 0)), people_of((OTHER, 0, 30, WHITE, 0), times=3)
    nowhere = people_of((390630001001000, 0, 1, WHITE, 0))
    result = evaluated(People.concatenate([here, elsewhere]), {"39059": county(here), "39063": county(nowhere)})
    assert result.compared == ("39059",)
    assert result.left_out == {"39061": 3}
    assert result.without_truth == ("39063",)
    assert result.agreement.truth.sum() == 1
    report = format_report(result)
    assert "3 true people of 1 county not reconstructed: 39061" in report
    assert "1 reconstructed county: 39063" in report
    named = format_report(result, {"39061": "Hamilton County", "39063": "Hancock County"})
    assert "not reconstructed: 39061 (Hamilton County)" in named
    assert "1 reconstructed county: 39063 (Hancock County)" in named


def test_the_truth_may_be_in_any_order() -> None:
    truth = people_of((A, 0, 30, WHITE, 0), (OTHER, 0, 30, WHITE, 0), times=2)
    header, *rows = people_csv(truth).splitlines(keepends=True)
    mixed = header + b"".join(rows[i] for i in (0, 2, 1, 3))
    counties = {
        "39059": county(people_of((A, 0, 30, WHITE, 0), times=2)),
        "39061": county(people_of((OTHER, 0, 30, WHITE, 0), times=2)),
    }
    result = evaluate([truth_file(mixed)], counties, product())
    assert result.agreement.share("reconstruction", "exact_age") == 1


def test_the_truth_may_be_in_several_files() -> None:
    here, elsewhere = people_of((A, 0, 30, WHITE, 0), (B, 1, 4, WHITE, 1)), people_of((OTHER, 0, 30, WHITE, 0))
    counties = {"39059": county(here), "39061": county(elsewhere)}
    whole = evaluate([truth_file(people_csv(People.concatenate([here, elsewhere])))], counties, product())
    parts = [people_of((A, 0, 30, WHITE, 0)), people_of((B, 1, 4, WHITE, 1)), elsewhere]
    files = [truth_file(people_csv(part), f"{number}.csv") for number, part in enumerate(parts)]
    result = evaluate(files, counties, product())
    assert result.truth_name == "0.csv, 1.csv, 2.csv"
    assert {**result.as_dict(), "truth": "truth.csv"} == whole.as_dict()


def test_a_block_in_two_files_is_refused() -> None:
    people = people_of((A, 0, 30, WHITE, 0), (B, 1, 4, WHITE, 1))
    files = [truth_file(people_csv(people), "a.csv"), truth_file(people_csv(people_of((B, 0, 3, WHITE, 0))), "b.csv")]
    with pytest.raises(
        InputError, match=rf"b\.csv: has people of block {B}, of which a\.csv has people too; give each person once"
    ):
        evaluate(files, {"39059": county(people)}, product())


def test_a_truth_of_other_counties_alone_is_refused() -> None:
    with pytest.raises(InputError, match=r"truth\.csv: has nobody in the reconstructed counties \(39061\), but people of 39059"):
        evaluated(people_of((A, 0, 30, WHITE, 0)), {"39061": county(people_of((OTHER, 0, 30, WHITE, 0)))})


def test_a_packed_truth_is_read(tmp_path: Path) -> None:
    people = people_of((A, 0, 30, WHITE, 0))
    path = tmp_path / "truth.csv.gz"
    path.write_bytes(gzip.compress(people_csv(people)))
    result = evaluate([TruthFile(str(path), partial(sopen, path, "rb"))], {"39059": county(people)}, product())
    assert result.agreement.share("reconstruction", "exact_age") == 1


# --- county files ----------------------------------------------------------------------------------------------------


def county_file(units: Units, level: str) -> str:
    width = 15 if level == "block" else 11
    rows = [f"{geoid:0{width}d},0000007,{','.join(map(str, cells))}" for geoid, cells in zip(*units, strict=True)]
    return "\n".join([",".join([f"geoid_{level}", "logrecno", *product().columns(level)]), *rows]) + "\n"


@pytest.mark.parametrize("level", ["block", "tract"])
def test_units_are_read_from_their_county_file(level: str) -> None:
    published = tabulated(people_of((10010201001000, 0, 30, WHITE, 0), (A, 1, 102, BOTH, 1)), level)
    pieces = list(read_units(io.BytesIO(county_file(published, level).encode()), "sf1.csv", product(), level))
    np.testing.assert_array_equal(np.concatenate([piece.geoid for piece in pieces]), published.geoid)
    np.testing.assert_array_equal(np.concatenate([piece.cells for piece in pieces]), published.cells)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("P0010001", "P0010009", "the column P0010001 is missing"),
        (",1,", ",x,", "not a county file"),
        (",1,", ",,", "not a county file"),
    ],
)
def test_a_county_file_of_another_form_is_refused(old: str, new: str, said: str) -> None:
    text = county_file(tabulated(people_of((A, 0, 30, WHITE, 0)), "block"), "block").replace(old, new, 1)

    def read() -> Iterator[Units]:
        return read_units(io.BytesIO(text.encode()), "sf1_block_39059.csv", product(), "block")

    with pytest.raises(InputError, match=rf"^sf1_block_39059\.csv: {said}") as caught:
        list(read())
    assert sentence(caught.value).endswith("; make the county files again (--step2 --force)")


# --- the report ------------------------------------------------------------------------------------------------------


def test_the_report_is_one_screen() -> None:
    truth = people_of((A, 0, 30, WHITE, 0), (C, 1, 40, BLACK, 0), times=1500)
    report = format_report(evaluated(truth, {"39059": county(truth)}))
    assert len(report.splitlines()) <= 24
    assert max(map(len, report.splitlines())) <= 100
    assert report.splitlines()[-2].split()[:4] == ["all", "2", "3,000", "100.0"]


def test_one_missing_person_is_never_rounded_away() -> None:
    truth = people_of((A, 0, 30, WHITE, 0), times=100_000)
    guess = People(truth.geoid_block, truth.kind, truth.count - 1)
    report = format_report(evaluated(truth, {"39059": county(guess, truth)}))
    assert report.splitlines()[-2].split()[3] == "99.9"


def test_wrong_cells_are_named_in_the_report() -> None:
    truth = people_of((A, 0, 30, WHITE, 0))
    result = evaluated(truth, {"39059": county(people_of((A, 0, 31, BLACK, 0)), truth)})
    assert f"P0060002 of {A}: published 1, reconstructed 0" in format_report(result)
    assert f"P0060002 of {A} in Guernsey County: published 1" in format_report(result, {"39059": "Guernsey County"})


def test_the_figures_can_be_had_as_json() -> None:
    truth = people_of((A, 0, 30, WHITE, 0), times=20)
    figures = json.loads(evaluated(truth, {"39059": county(truth)}).as_json())
    assert figures["agreement"]["reconstruction"]["exact_age"]["10-49"] == 1
    assert figures["agreement"]["reconstruction"]["exact_age"]["1-9"] is None
    assert figures["violations"]["block"] == {"wrong": 0, "cells": 844, "examples": []}


def test_what_is_kept_of_a_county_is_told_by_tract_and_can_be_had_back() -> None:
    rng = np.random.default_rng(5)
    truth, guess = (
        [(int(rng.choice([A, B, C])), int(rng.integers(2)), int(rng.choice([23, 24, 30])), WHITE, 0) for _ in range(60)]
        for _ in range(2)
    )
    kept: dict[str, CountyEvaluation] = {}
    counties = {"39059": county(people_of(*guess), people_of(*truth)), "39061": county(people_of((A + 2 * 10**10, 0, 1, WHITE, 0)))}
    evaluate([truth_file(people_csv(people_of(*truth)))], counties, product(), done=kept.__setitem__)
    for tract in sorted({A // 10**4, C // 10**4}):
        true, guessed = (Counter(person for person in people if person[0] // 10**4 == tract) for people in (truth, guess))
        row = next(row for row in as_record(kept["39059"])["tracts"] if row["tract"] == f"{tract % 10**6:06d}")
        assert (row["true_people"], row["exact_age"]) == (true.total(), (true & guessed).total())
        in_bins = [Counter((*person[:2], person[2] < 25) for person in people.elements()) for people in (true, guessed)]
        assert row["binned_age"] == (in_bins[0] & in_bins[1]).total()
    for code, found in kept.items():
        again = from_record(int(code), json.loads(json.dumps(as_record(found))))
        assert as_record(again) == as_record(found)
    assert kept["39061"].agreement is None


def test_the_truth_of_a_real_county_agrees_with_itself() -> None:
    path = SHARED_DATA / "guernsey" / "truth_guernsey_oh.csv.gz"
    if not path.exists():
        pytest.skip("needs ../shared/data/guernsey, which is not here")
    from dbrecon.recon.people.people_reader import read_people

    result = evaluate([TruthFile(path.name, partial(sopen, path, "rb"))], {"39059": county(read_people(path))}, product())
    assert result.agreement.share("reconstruction", "exact_age") == 1
    assert 0.9 < result.agreement.share("modal", "exact_age") < 1
    assert result.agreement.share("random", "exact_age") < result.agreement.share("random", "binned_age") < 0.9


def test_without_a_truth_the_published_cells_are_counted() -> None:
    truth = people_of((A, 0, 30, WHITE, 0), (B, 0, 30, WHITE, 0))
    right = evaluate([], {"39059": county(truth)}, product())
    assert right.violations["block"].wrong == 0 < right.violations["block"].cells
    first, second = format_report(right).splitlines()
    assert first == "2 reconstructed people of 1 county, without a truth"
    assert second.startswith("  published cells not reproduced: 0 of ")
    wrong = evaluate([], {"39059": county(people_of((A, 0, 30, WHITE, 0)), truth)}, product())
    assert wrong.violations["block"].wrong > 0
