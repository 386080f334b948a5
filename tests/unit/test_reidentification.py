"""Reidentification against a second implementation, written the plain way, and against what must be so by construction."""

import json
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbrecon.recon.census.bins import COMPARISON_BINS, AgeBins
from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES
from dbrecon.recon.people.people import People
from dbrecon.recon.risk.attacker import draw_attacker
from dbrecon.recon.risk.matching import EXACT, match_equal, match_in_two_passes
from dbrecon.recon.risk.matching_study import County, format_study
from dbrecon.recon.risk.matching_study import study as run_study
from dbrecon.recon.risk.protections import CoarsenAges, MergeBlocks, Swap
from dbrecon.recon.risk.reidentification import (
    CLASSES,
    MEASURES,
    METHODS,
    Blocks,
    Certain,
    Known,
    MarkedRecords,
    Records,
    Tally,
    chance_of_somebody,
    in_two_passes,
    link_without_ids,
    marginal_people,
    modal_guess,
    most_frequent,
    population_of,
    proportional_guess,
    study_county,
)

WHITE, BLACK, ASIAN = 62, 30, 6  # race and origin numbers: white, black, asian alone, not Hispanic
TRACT = 39059977100


def records(rows: list[tuple[int, int, int]]) -> Records:
    """People given as (four-digit block, sex and age number, race and origin number)."""
    block, sa, rh = np.array(rows, np.int64).reshape(-1, 3).T
    return Records(block + TRACT * 10_000, sa, rh)


def random_records(seed: int, people: int, blocks: int = 4, ages: int = 6) -> Records:
    rng = np.random.default_rng(seed)
    sa = rng.integers(0, 2, people) * N_AGES + rng.integers(28, 28 + ages, people)
    return records(list(zip(1000 + rng.integers(0, blocks, people), sa, rng.choice([WHITE, BLACK, ASIAN], people), strict=True)))


def bin_of(sa: int) -> tuple[int, int]:
    """Sex and the first age of the bin, said the plain way."""
    age = int(FIRST_AGES[sa % N_AGES])
    starts = [*range(22), 22, 25, 30, 35, 40, 45, 50, 55, 60, 62, 65, 67, 70, 75, 80, 85]
    return sa // N_AGES, max(start for start in starts if start <= age)


def knows(truth: Records, chosen: np.ndarray | None = None) -> Known:
    """An attacker who knows block, sex and age of true people (all, or those chosen), and their ids."""
    at = np.arange(len(truth)) if chosen is None else chosen
    return Known.of_truth(truth.select(at).without_race(), at, truth)


def study(known: Known, reconstructed: Records, truth: Records, **more: object) -> Tally:
    everywhere, shares = population_of([reconstructed])
    return study_county(known, reconstructed, truth, everywhere, shares, np.random.default_rng(0), **more)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 5), max_size=30), st.lists(st.integers(0, 5), max_size=30), st.integers(0, 9))
def test_as_many_equal_records_are_paired_as_there_are_and_each_once(left: list[int], right: list[int], seed: int) -> None:
    a, b = match_equal(np.array(left, np.int64), np.array(right, np.int64), np.random.default_rng(seed))
    assert [left[i] for i in a] == [right[i] for i in b]
    assert len(set(a.tolist())) == len(set(b.tolist())) == len(a)
    assert len(a) == (Counter(left) & Counter(right)).total()


def test_among_equal_records_each_is_as_likely_to_be_taken() -> None:
    rng, taken = np.random.default_rng(1), Counter[int]()
    for _ in range(3000):
        taken.update(match_equal(np.zeros(1, np.int64), np.zeros(3, np.int64), rng)[1].tolist())
    assert all(900 < taken[i] < 1100 for i in range(3))


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_two_passes_pair_what_the_plain_way_pairs(seed: int) -> None:
    known, guess = random_records(seed, 25), random_records(seed + 1, 25)
    match = match_in_two_passes((known.exact, known.binned), (guess.exact, guess.binned), np.random.default_rng(seed))
    exact = Counter(zip(known.block, known.sa, strict=True)) & Counter(zip(guess.block, guess.sa, strict=True))
    assert (match.stage == EXACT).sum() == exact.total()
    rest = Counter(zip(known.block, known.sa, strict=True)) - exact, Counter(zip(guess.block, guess.sa, strict=True)) - exact
    binned = [Counter[tuple[int, tuple[int, int]]](), Counter[tuple[int, tuple[int, int]]]()]
    for side, counts in enumerate(rest):
        for (block, sa), number in counts.items():
            binned[side][int(block), bin_of(int(sa))] += number
    assert (match.stage != EXACT).sum() == (binned[0] & binned[1]).total()
    for a, b, stage in zip(match.left, match.right, match.stage, strict=True):
        assert known.block[a] == guess.block[b]
        assert (known.sa[a] == guess.sa[b]) if stage == EXACT else (bin_of(int(known.sa[a])) == bin_of(int(guess.sa[b])))


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_classes_and_confirmed_matches_are_those_of_the_plain_way(seed: int) -> None:
    """With everyone of a block, sex and age alike in race and origin, which of equals are paired cannot matter."""
    truth = random_records(seed, 30)
    race_of: dict[tuple[int, tuple[int, int]], int] = {}
    keys = [(int(block), bin_of(int(sa))) for block, sa in zip(truth.block, truth.sa, strict=True)]
    rh = [race_of.setdefault(key, int(r)) for key, r in zip(keys, truth.rh, strict=True)]
    truth = Records(truth.block, truth.sa, np.array(rh, np.int64))
    chosen = np.sort(np.random.default_rng(seed).choice(30, 17, replace=False))
    zero = Blocks(np.unique(truth.block), np.arange(len(np.unique(truth.block))) % 2 == 0)
    tally = study(knows(truth, chosen), truth, truth, blocks=zero)
    wanted = dict.fromkeys(CLASSES, 0)
    people_of: dict[int, list[int]] = defaultdict(list)
    for i, block in enumerate(truth.block.tolist()):
        people_of[block].append(i)
    for i in chosen.tolist():
        here = people_of[int(truth.block[i])]
        races = Counter(int(truth.rh[j]) for j in here)
        modal = races[int(truth.rh[i])] == max(races.values())
        alone = sum(bin_of(int(truth.sa[j])) == bin_of(int(truth.sa[i])) for j in here) == 1
        settled = bool(zero.zero(truth.block[[i]])[0])
        for name, member in {
            "all": True, "modal": modal, "nonmodal": not modal, "unique": alone, "variability 0": settled,
            "nonmodal, variability 0": not modal and settled, "nonmodal, unique, variability 0": not modal and alone and settled,
        }.items():  # fmt: skip
            wanted[name] += member
    found = {name: tally.count("reconstruction", name, "confirmed") for name in CLASSES}
    assert found == wanted
    assert {name: tally.count("reconstruction", name, "known") for name in CLASSES} == wanted
    assert tally.precision("reconstruction") == 1.0


Key = tuple[int, tuple[int, int]]


def alike(seed: int, people: int = 40) -> tuple[Records, list[Key]]:
    """People of whom those of one block, sex and bin of age are alike in race and origin; and the key of each."""
    drawn = random_records(seed, people, ages=9)
    keys = [(int(block), bin_of(int(sa))) for block, sa in zip(drawn.block, drawn.sa, strict=True)]
    race_of: dict[Key, int] = {}
    rh = [race_of.setdefault(key, int(r)) for key, r in zip(keys, drawn.rh, strict=True)]
    return Records(drawn.block, drawn.sa, np.array(rh, np.int64)), keys


def plain_tally(
    truth: tuple[Records, list[Key]], chosen: list[int], guess: tuple[Records, list[Key]], zero: set[int], certain: set[Key]
) -> dict[tuple[str, int, str], int]:
    """The paper's table key by key: which of equal records are matched cannot matter to people who are alike."""
    (people, keys), (guessed, guessed_keys), found = truth, guess, Counter[tuple[str, int, str]]()
    races = defaultdict(Counter)  # type: ignore[var-annotated]
    for block, rh in zip(people.block.tolist(), people.rh.tolist(), strict=True):
        races[block][rh] += 1
    for key in set(keys):
        true_at, guessed_at = ([i for i, k in enumerate(side) if k == key] for side in (keys, guessed_keys))
        known = [i for i in true_at if i in chosen]
        exact = Counter(people.sa[known].tolist()) & Counter(guessed.sa[guessed_at].tolist())
        rh, number = int(people.rh[true_at[0]]), min(len(known), len(guessed_at))
        right = bool(guessed_at) and int(guessed.rh[guessed_at[0]]) == rh
        modal, settled = races[key[0]][rh] == max(races[key[0]].values()), key[0] in zero
        size = int(sum(k[0] == key[0] for k in guessed_keys) >= 10)
        classes = {"all": True, "modal": modal, "nonmodal": not modal, "unique": len(true_at) == 1, "variability 0": settled}
        classes |= {"nonmodal, variability 0": not modal and settled, "certain": key in certain}
        classes["nonmodal, unique, variability 0"] = not modal and len(true_at) == 1 and settled
        measures = {"putative": number, "putative_exact": exact.total(), "confirmed": number * right}
        measures |= {"confirmed_exact": exact.total() * right, "known": len(known), "true_people": len(true_at)}
        of_matches = measures | {"known": number, "true_people": 0}  # certain is a class of matches, not of people
        for group in (name for name, member in classes.items() if member):
            for measure, count in (of_matches if group == "certain" else measures).items():
                found[group, size, measure] += count
    return found


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_the_tables_are_those_of_a_plain_count_for_reconstruction_and_modal_guess(seed: int) -> None:
    truth, guess = alike(seed), alike(seed + 1)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(40, 25, replace=False))
    blocks = np.unique(truth[0].block)
    zero, certain = {int(b) for b in blocks if rng.random() < 0.5}, {key for key in guess[1] if rng.random() < 0.5}
    marks = MarkedRecords(np.array([key in certain for key in guess[1]]))
    known = knows(truth[0], chosen)
    settled = Blocks(blocks, np.isin(blocks, list(zero)))
    tally = study(known, guess[0], truth[0], blocks=settled, certain=marks)
    everywhere, _ = population_of([guess[0]])
    modal = modal_guess(guess[0], everywhere), guess[1]
    for method, of_method, sure in (("reconstruction", guess, certain), ("modal guess", modal, set[Key]())):
        wanted = plain_tally(truth, chosen.tolist(), of_method, zero, sure)
        found = {
            (group, size, measure): tally.count(method, group, measure, size)
            for group in CLASSES
            for size in range(2)
            for measure in MEASURES
        }
        assert found == {key: wanted[key] for key in found}


def test_guesses_draw_in_proportion_and_independently() -> None:
    people = records([(1000, 30, WHITE)] * 3 + [(1000, N_AGES + 40, BLACK)])
    everyone = people.select(np.tile(np.arange(4), 2000))
    rng = np.random.default_rng(4)
    proportional, random = proportional_guess(everyone, rng), marginal_people(everyone, rng)
    assert (proportional.rh == BLACK).mean() == pytest.approx(0.25, abs=0.03)
    assert (random.sa >= N_AGES).mean() == pytest.approx(0.25, abs=0.03)
    assert ((random.sa >= N_AGES) & (random.rh == BLACK)).mean() == pytest.approx(1 / 16, abs=0.02)


def test_rates_over_repeats_are_their_mean_least_and_most() -> None:
    truth, guess = random_records(11, 60), random_records(12, 60)
    counties = {39059: lambda: County(guess)}
    result = run_study(knows(truth), truth, counties, ("known.csv", "truth.csv"), repeats=4)
    alone = [tally.precision("random people") for tally in result.tallies]
    rate = result.precision("random people")
    assert len(set(alone)) > 1
    assert rate.mean == pytest.approx(sum(alone) / 4)
    assert (rate.least, rate.most) == (min(alone), max(alone))


def test_an_attacker_who_has_the_truth_of_a_true_reconstruction_is_always_right() -> None:
    truth = records([(1000, 30, WHITE), (1000, 31, BLACK), (1001, 30, ASIAN)])
    tally = study(knows(truth), truth, truth)
    assert (tally.precision("reconstruction"), tally.recall("reconstruction")) == (1.0, 1.0)
    assert tally.count("reconstruction", "all", "putative_exact") == 3


def test_a_study_adds_counties_up_and_an_id_of_somebody_elsewhere_counts_in_all_alone() -> None:
    here, away = records([(1000, 30, WHITE), (1000, 31, WHITE)]), records([(1000, 30, BLACK)])
    elsewhere = Records(away.block + 2 * 10**10, away.sa, away.rh)
    truth = Records.concatenate([here, elsewhere])
    moved = Records(np.append(here.block, here.block[0]), np.append(here.sa, 31), np.full(3, -1, np.int64))
    known = Known.of_truth(moved, np.array([0, -1, 2]), truth)
    counties = {39059: lambda: County(here), 39061: lambda: County(elsewhere)}
    result = run_study(known, truth, counties, ("known.csv", "truth.csv"), repeats=3)
    assert result.count("reconstruction", "all", "known") == 3
    assert result.count("reconstruction", "modal", "known") == 1
    assert result.count("reconstruction", "all", "putative") == 2
    assert result.count("reconstruction", "all", "true_people") == 3
    assert result.precision("reconstruction").mean == 0.5
    assert json.loads(result.as_json())["methods"]["reconstruction"]["all"]["precision"]["mean"] == 0.5
    text = format_study(result)
    assert "3 records the attacker knows; matched 2 (2 on exact age)" in text
    assert "variability" in text.splitlines()[-1]
    assert max(map(len, text.splitlines())) <= 120


def test_where_everybody_is_of_one_kind_every_guess_is_right() -> None:
    truth = records([(1000, sa, WHITE) for sa in (30, 31, 40, 40)])
    tally = study(knows(truth), truth, truth)
    assert [tally.precision(method) for method in METHODS[:3]] == [1.0, 1.0, 1.0]
    assert tally.count("modal guess", "nonmodal", "known") == 0


def test_where_nobody_lives_nothing_matches() -> None:
    truth, elsewhere = records([(1000, 30, WHITE)]), records([(1001, 30, WHITE)])
    tally = study(knows(truth), elsewhere, truth)
    assert tally.count("reconstruction", "all", "putative") == 0
    assert np.isnan(tally.precision("reconstruction"))
    assert tally.recall("reconstruction") == 0.0


def test_somebody_of_the_wrong_race_is_a_putative_match_that_is_not_confirmed() -> None:
    truth, guess = records([(1000, 30, WHITE)]), records([(1000, 31, BLACK)])
    tally = study(knows(truth), guess, truth)
    assert [tally.count("reconstruction", "all", m) for m in ("putative", "putative_exact", "confirmed")] == [1, 0, 0]


def test_an_attacker_s_record_without_a_true_person_is_never_confirmed_and_counts_in_no_class_but_all() -> None:
    truth = records([(1000, 30, WHITE)])
    known = Known.of_truth(records([(1000, 30, -1)]), np.array([-1]), truth)
    tally = study(known, truth, truth)
    assert [tally.count("reconstruction", name, "known") for name in CLASSES] == [1, 0, 0, 0, 0, 0, 0, 0]
    assert (tally.count("reconstruction", "all", "putative"), tally.count("reconstruction", "all", "confirmed")) == (1, 0)


def test_without_ids_a_true_person_of_the_same_block_sex_age_race_and_origin_confirms_each_once() -> None:
    truth = records([(1000, 30, WHITE), (1000, 30, BLACK)])
    guess = records([(1000, 30, WHITE), (1000, 30, WHITE)])
    known = Records(truth.block, truth.sa, np.full(2, -1, np.int64))
    linked = link_without_ids(known, truth, np.random.default_rng(0))
    assert sorted(linked.tolist()) == [0, 1]
    tally = study(Known(known, linked, np.full(2, -1), by_id=False), guess, truth)
    assert [tally.count("reconstruction", "all", m) for m in ("putative", "confirmed")] == [2, 1]


def test_the_modal_guess_takes_the_block_group_s_where_the_block_has_one_person_or_a_tie() -> None:
    people = records(
        [(1000, 30, WHITE), (1001, 30, BLACK), (1001, 31, BLACK), (1002, 30, BLACK), (1002, 31, ASIAN), (2000, 30, ASIAN)]
    )
    assert modal_guess(people, WHITE).rh.tolist() == [BLACK, BLACK, BLACK, BLACK, BLACK, ASIAN]
    assert modal_guess(people.select(np.array([4, 0])), WHITE).rh.tolist() == [WHITE, WHITE]  # the group ties: everywhere's


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_most_frequent_is_the_plain_way_s(pairs: list[tuple[int, int]]) -> None:
    unit, rh = np.array(pairs, np.int64).T
    units, mode, single = most_frequent(unit, rh)
    for i, u in enumerate(units.tolist()):
        counts = Counter(r for v, r in pairs if v == u)
        best = [r for r, n in counts.items() if n == max(counts.values())]
        assert mode[i] in best
        assert bool(single[i]) == (len(best) == 1)


def test_proportional_and_random_people_keep_the_block_s_number_and_draw_from_its_own() -> None:
    people, rng = random_records(3, 400), np.random.default_rng(0)
    for drawn in (proportional_guess(people, rng), marginal_people(people, rng)):
        assert drawn.block.tolist() == people.block.tolist()
        assert set(zip(drawn.block, drawn.rh, strict=True)) <= set(zip(people.block, people.rh, strict=True))
    only = records([(1000, 30, WHITE), (1000, 30, WHITE)])
    assert proportional_guess(only, rng).rh.tolist() == [WHITE, WHITE]
    assert {bin_of(int(sa)) for sa in marginal_people(only, rng).sa} == {bin_of(30)}


def test_ages_are_compared_in_the_bins_that_records_bring() -> None:
    """A product's own bins (docs/products.md): 28 and 52 are of one, 28 and 15 are not."""
    bins = AgeBins.of_years((0, 20, 60))
    truth = replace(records([(1000, 28, WHITE), (1001, 15, BLACK)]), bins=bins)
    guess = replace(records([(1000, 52, WHITE), (1001, 28, BLACK)]), bins=bins)
    tally = study(knows(truth), guess, truth)
    assert tally.count("reconstruction", "all", "putative") == tally.count("reconstruction", "all", "confirmed") == 1
    assert tally.count("reconstruction", "all", "putative_exact") == 0
    with pytest.raises(ValueError, match="are not compared with ages in bins"):
        in_two_passes(truth, replace(guess, bins=COMPARISON_BINS), np.random.default_rng(0))


def test_certain_records_are_marked_as_often_as_they_are_certain() -> None:
    people = records([(1000, 30, WHITE), (1000, 31, WHITE), (1000, 30, BLACK)])
    certain = Certain(People(people.block[:1], people.sa[:1] * 126 + WHITE, np.array([1])))
    assert certain.marks(people).tolist() == [True, False, False]  # 30 and 31 are of one bin


def test_the_chance_of_somebody_is_the_share_of_people_of_a_sex_and_age_that_the_block_has() -> None:
    people = records([(1000, 30, WHITE), (1000, 31, WHITE), (1001, 40, WHITE), (1001, 40, WHITE)])
    _, shares = population_of([people])
    exact, binned = chance_of_somebody(people.block, people, shares)
    assert exact == pytest.approx(2 * 0.5 + 2 * 0.5)
    assert binned == pytest.approx(exact)
    assert chance_of_somebody(np.array([1]), people, shares).tolist() == [0.0, 0.0]


def test_an_attacker_s_file_has_the_coverage_and_the_share_of_errors_asked_for() -> None:
    truth = random_records(5, 4000, blocks=30)
    known, chosen = draw_attacker(truth, 0.6, 0.25, np.random.default_rng(2))
    assert len(known) == len(set(chosen.tolist())) == 2400
    wrong = (known.block != truth.block[chosen]) | (known.sa != truth.sa[chosen])
    assert 0.22 < wrong.mean() < 0.28
    assert (known.block // 10_000 == TRACT).all()
    assert (known.sa // N_AGES == truth.sa[chosen] // N_AGES).all()
    right, everyone = draw_attacker(truth, 1.0, 0.0, np.random.default_rng(2))
    assert everyone.tolist() == list(range(4000))
    assert right.sa.tolist() == truth.sa.tolist()


def test_swapping_keeps_sex_by_age_of_blocks_and_everything_of_the_tract() -> None:
    people = random_records(7, 3000, blocks=20)
    swapped = Swap(0.3)(people, np.random.default_rng(0))
    assert (swapped.block == people.block).all()
    assert (swapped.sa == people.sa).all()
    assert Counter(zip(swapped.sa, swapped.rh, strict=True)) == Counter(zip(people.sa, people.rh, strict=True))
    assert 0.05 < (swapped.rh != people.rh).mean() < 0.3
    assert (Swap(0.0)(people, np.random.default_rng(0)).rh == people.rh).all()


def test_coarser_ages_and_larger_blocks_are_what_they_say() -> None:
    people = records([(1000, 37, WHITE), (1000, 102, WHITE), (1001, N_AGES + 3, BLACK), (1002, 5, ASIAN), (1002, 6, ASIAN)])
    assert CoarsenAges(5)(people, np.random.default_rng(0)).sa.tolist() == [35, 102, N_AGES, 5, 5]
    merged = MergeBlocks(3)(people, np.random.default_rng(0)).block % 10_000
    assert merged.tolist() == [1000, 1000, 1000, 1000, 1000]
    assert (MergeBlocks(2)(people, np.random.default_rng(0)).block % 10_000).tolist() == [1000, 1000, 1001, 1001, 1001]
