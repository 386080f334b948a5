"""What other tables and protections give away: directions that must hold, and the same figures however many work at it."""

from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache

import numpy as np
import pytest

from dbrecon.errors import InputError
from dbrecon.recon.census.tables import DEFAULT_PRODUCT, load_product
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.people.people import People
from dbrecon.recon.risk.protections import CoarsenAges, Swap
from dbrecon.recon.risk.variants import Variant, VariantResult, study_variant, tracts_of
from dbrecon.recon.solve.program import Options
from dbrecon.recon.study.synthetic import make_counties, plan_state

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


def test_all_tables_give_away_at_least_as_much_as_block_tables_alone() -> None:
    everything, blocks = result(ALL), result(BLOCK)
    assert everything.truth == people().population
    assert everything.agreement[0] > blocks.agreement[0]
    assert everything.agreement[1] >= blocks.agreement[1] > 0.5
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
    assert everything.matched[1] >= everything.certain_people.population


def test_unprotected_tables_have_no_error_and_protections_cost_some() -> None:
    swapped = result(Variant("swap", DEFAULT_PRODUCT, "all", Swap(0.5)))
    coarse = result(Variant("coarse", DEFAULT_PRODUCT, "all", CoarsenAges(5)))
    assert result(ALL).error == 0.0
    assert swapped.error > 0.0
    assert coarse.error > 0.0
    assert swapped.agreement[1] < result(ALL).agreement[1]
    assert coarse.agreement[0] < result(ALL).agreement[0]


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
