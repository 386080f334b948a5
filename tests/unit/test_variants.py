"""What other tables and protections give away: directions that must hold, and the same figures however many work at it."""

import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from dbrecon.console.ways import ways_to_publish
from dbrecon.errors import InputError, UsageError
from dbrecon.recon.census.inexact import SUPPRESSED, Inexact
from dbrecon.recon.census.tables import DEFAULT_PRODUCT, load_product
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.people.people import People
from dbrecon.recon.risk.protections import CoarsenAges, MergeBlocks, RecordProtection, Swap
from dbrecon.recon.risk.variants import Variant, VariantResult, cell_error, check_size, product_of, study_variant, tracts_of
from dbrecon.recon.solve.program import Options
from dbrecon.recon.study.synthetic import make_counties, plan_state
from dbrecon.report.sections import WayToPublish, what_if

ALL = Variant("all tables", DEFAULT_PRODUCT)
BLOCK = Variant("block tables", DEFAULT_PRODUCT, "block")


@lru_cache(maxsize=1)
def people() -> People:
    """Some hundred people of two tracts, in households."""
    plan = plan_state("de", "10", 4000, 3, 1, 0, 0)
    everyone = People.concatenate([county.people for county in make_counties(plan)]).merged()
    tracts = np.unique(everyone.geoid_tract)[:2]
    return everyone.select(np.isin(everyone.geoid_tract, tracts))


@lru_cache(maxsize=8)
def result(variant: Variant) -> VariantResult:
    return study_variant(variant, people(), 1, Options(), Budget())


@pytest.mark.slow
def test_all_tables_give_away_at_least_as_much_as_block_tables_alone() -> None:
    everything, blocks = result(ALL), result(BLOCK)
    assert everything.truth == people().population
    assert everything.agreement[0] > blocks.agreement[0]
    assert everything.agreement[1] >= blocks.agreement[1] > 0.5
    assert everything.sizes is not None
    assert blocks.sizes is not None
    assert everything.sizes.differ_share <= blocks.sizes.differ_share
    assert everything.sizes.certain_share >= blocks.sizes.certain_share
    assert everything.sizes.without_variability >= blocks.sizes.without_variability


def test_a_certain_person_is_a_true_person_and_a_sure_block_is_the_true_block() -> None:
    """What every data set with these tables has, the true one has."""
    tally = result(ALL).tally
    assert tally.count("reconstruction", "certain", "putative") > 0
    exact = tally.count("reconstruction", "variability 0", "putative")
    assert tally.count("reconstruction", "variability 0", "confirmed") <= exact
    everything = result(ALL)
    assert everything.certain_people is not None
    assert everything.matched[1] >= everything.certain_people.population


def test_unprotected_tables_have_no_error_and_protections_cost_some() -> None:
    swapped = result(Variant("swap", DEFAULT_PRODUCT, "all", Swap(0.5)))
    coarse = result(Variant("coarse", DEFAULT_PRODUCT, "all", CoarsenAges(5)))
    assert result(ALL).error == 0.0
    assert swapped.error > 0.0
    assert coarse.error > 0.0
    assert swapped.agreement[1] < result(ALL).agreement[1]
    assert coarse.agreement[0] < result(ALL).agreement[0]


@pytest.mark.parametrize("protection", [CoarsenAges(5), MergeBlocks(60)], ids=["ages", "blocks"])
def test_who_knows_that_ages_or_blocks_are_coarser_finds_everybody_as_they_are_published(protection: RecordProtection) -> None:
    tally = result(Variant("coarse", DEFAULT_PRODUCT, "P1,P12,P14", protection)).tally
    assert tally.count("reconstruction", "all", "putative") == tally.count("reconstruction", "all", "known") == people().population


@pytest.mark.slow
def test_rounded_cells_cost_accuracy_and_their_certainty_is_not_told() -> None:
    rounded = result(Variant("rounded", DEFAULT_PRODUCT, "all", None, Inexact(5), ("P12A", "P12B")))
    withheld = result(Variant("withheld", DEFAULT_PRODUCT, "P1,P12", None, Inexact(suppressed_below=3)))
    assert rounded.error > 0.0
    assert withheld.error > 0.0
    assert withheld.agreement[1] < rounded.agreement[1]
    assert rounded.sizes is None
    assert rounded.certain_people is None
    assert rounded.agreement[1] <= 1.0
    assert rounded.tally.count("reconstruction", "all", "putative") > 0
    assert rounded.people.population == people().population
    ways = [WayToPublish.of(item) for item in (result(ALL), rounded)]
    rows = what_if(ways).tables[0].rows
    assert rows[1][3:6] == (None, None, None)
    assert rows[1][-1] == rounded.error


@pytest.mark.slow
def test_cells_that_leave_too_much_possible_are_refused_before_anything_is_done() -> None:
    many = [People(people().geoid_block + 100 * number, people().kind, people().count) for number in range(8)]
    rounded = Variant("all rounded", DEFAULT_PRODUCT, "all", None, Inexact(3))
    with pytest.raises(InputError, match=r"all rounded: so many cells leave .* too many to be solved for"):
        check_size(rounded, People.concatenate(many), 1)
    for few in (ALL, Variant("withheld", DEFAULT_PRODUCT, "all", None, Inexact(suppressed_below=3))):
        check_size(few, people(), 1)


@pytest.mark.slow
def test_how_sure_it_is_is_told_in_the_same_bins_of_ages_whatever_the_tables_tell() -> None:
    """Without P14 no table tells single years of children: programs count them in P12's groups, but not so their certainty."""
    more, less = (result(Variant(tables, DEFAULT_PRODUCT, tables)).sizes for tables in ("P1,P7,P12,P14", "P1,P7,P12"))
    assert more is not None
    assert less is not None
    assert less.certain_share < more.certain_share
    assert less.differ_share > 0.0


def test_a_cell_that_is_withheld_counts_as_the_middle_of_what_it_may_be() -> None:
    product = product_of(DEFAULT_PRODUCT, "P1,P12,P14", Inexact(suppressed_below=4), ("P14",))
    true = next(tracts_of(product, people()))
    published = replace(
        true, block_cells=product.publish("block", true.block_cells), tract_cells=product.publish("tract", true.tract_cells)
    )
    small = true.block_cells[published.block_cells == SUPPRESSED]
    assert set(small.tolist()) == {1, 2, 3}
    total, cells = cell_error(product, published, true)
    assert total == np.abs(small - 2).sum()
    assert cells == true.block_cells.size + true.tract_cells.size


def test_ways_are_read_as_they_are_typed() -> None:
    words = ["block+swap=0.1", "P1,P12,P14+round=5:P12,P14", "P1,P12+suppress=3+ages=5", "product=dhc2020"]
    first, *others = ways_to_publish(None, "all", words)
    assert [item.name for item in others] == [
        "block tables, 0.1 of people swapped",
        "P1,P12,P14 tables, P12, P14 rounded to 5",
        "P1,P12 tables, cells suppressed below 3, ages in intervals of 5 years",
        "all tables, of dhc2020",
    ]
    assert (first.name, first.tables) == ("all tables", "all")
    assert others[1].inexact == Inexact(5)
    assert others[1].inexact_tables == ("P12", "P14")
    assert others[3].product != first.product


@pytest.mark.slow
def test_each_table_is_left_out_in_turn_but_those_that_follow_from_others(caplog: pytest.LogCaptureFixture) -> None:
    names = [item.tables for item in ways_to_publish(None, "P1,P6,P7,P12,P14", ["each"])]
    assert names[0] == "P1,P6,P7,P12,P14"
    assert "P1,P6,P12,P14" in names
    assert "P6,P7,P12,P14" not in names  # P1 tells how many people there are
    tried = set(names[1:])
    left = {table for table in ("P6", "P7", "P12", "P14") if table not in caplog.text}
    assert len(tried) == len(left)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("swap=0.1+ages=5", "one protection of records and one of cells at a time"),
        ("round=1", "round='1' is no way to publish"),
        ("suppress=3:", "no way to publish"),
        ("blocks=0", "'blocks=0' is no way to publish"),
        ("round=5:P99", "there is no such table"),
        ("round=5:P7", "P7 counts some people in several cells"),
        ("all-P99", "there is no table 'P99'"),
        ("all", "'all tables' is asked for twice"),
    ],
)
def test_a_word_that_is_no_way_is_refused(word: str, said: str) -> None:
    with pytest.raises((UsageError, InputError), match=re.escape(said)):
        ways_to_publish(None, "all", [word])


def test_workers_find_the_same_as_one_process() -> None:
    with ProcessPoolExecutor(2) as executor:
        parallel = study_variant(ALL, people(), 1, Options(), Budget(), executor)
    alone = result(ALL)
    assert parallel.matched == alone.matched
    assert (parallel.tally.counts == alone.tally.counts).all()


def test_tables_of_people_are_those_of_each_tract_ascending() -> None:
    product = load_product()
    tables = list(tracts_of(product, people()))
    assert [t.geoid for t in tables] == [f"{g:011d}" for g in np.unique(people().geoid_tract)]
    assert sum(t.population for t in tables) == people().population


def test_no_people_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="there is nobody to study"):
        study_variant(ALL, people().select(np.zeros(len(people().kind), bool)), 1, Options(), Budget())
