"""Claims in words: what the grammar takes and refuses, what holds of them in every solution, and certificates that are checked."""

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbrecon.errors import UsageError, VerificationError
from dbrecon.recon.census.bins import AgeBins
from dbrecon.recon.census.kinds import FIRST_AGES, RACE_BITS
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.certainty.certificate import bins_for, bound_claim, check_certificate, columns_of
from dbrecon.recon.certainty.claims import parse_claim
from dbrecon.recon.certainty.record import certainty_bins, counts_of
from dbrecon.recon.certainty.search import Budget
from dbrecon.recon.people.people import People
from dbrecon.recon.tract.model import Model, ModelBuilder
from tests.certainty_world import SmallTract, listed, small_tracts
from tests.helpers import random_people, tables_of

BLOCK = "block 100010001001000: "
PRODUCT = load_product()


def test_the_example_is_read_as_it_is_meant() -> None:
    claim = parse_claim("block 390599771001005: a woman of 62 to 64, white and Asian, not Hispanic")
    assert (claim.geoid, claim.tract, claim.quantity) == ("390599771001005", "39059977100", 1)
    assert claim.sex.tolist() == [False, True]
    assert FIRST_AGES[claim.age].tolist() == [62, 63, 64]
    assert (np.flatnonzero(claim.race) + 1).tolist() == [RACE_BITS["white"] | RACE_BITS["asian"]]
    assert claim.hisp.tolist() == [True, False]
    assert claim.age_edges == (0, 62, 65)


@pytest.mark.parametrize(
    ("who", "quantity", "ages", "races"),
    [
        ("somebody", 1, 103, 63),
        ("at least two men of 85 and over", 2, 18, 63),
        ("at least 3 people under 5, black alone", 3, 5, 1),
        ("a person, white alone or in combination", 1, 103, 32),
        ("a person, white and black alone or in combination", 1, 103, 16),
        ("a person, white and black alone", 1, 103, 1),
        ("a person, two or more races", 1, 103, 57),
        ("a person, three races", 1, 103, 20),
        ("women, of 0, American Indian or Alaska Native alone", 1, 1, 1),
        ("a person of 100 to 104", 1, 1, 63),
    ],
)
def test_what_is_clear_is_taken(who: str, quantity: int, ages: int, races: int) -> None:
    claim = parse_claim(BLOCK + who)
    assert (claim.quantity, claim.age.sum(), claim.race.sum()) == (quantity, ages, races)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a woman of 62", "begins with its place"),
        ("block 39059977100: a woman", "15 digits, not 11"),
        ("tract 390599771001005: a woman", "11 digits, not 15"),
        (BLOCK + "a woman, white", "say 'white alone' or 'white alone or in combination'"),
        (BLOCK + "a woman, white in combination", "two ways"),
        (BLOCK + "two women", "say 'at least two'"),
        (BLOCK + "at least zero women", "no number"),
        (BLOCK + "at least 0 women", "one person at least"),
        (BLOCK + "a girl", "not a word for whom"),
        (BLOCK + "a woman of about 60", "is no age"),
        (BLOCK + "a woman of 64 to 62", "nobody is"),
        (BLOCK + "a woman under 0", "nobody is"),
        (BLOCK + "a woman of 102", "no table tells ages of 100 and over"),
        (BLOCK + "a woman, white alone, black alone", "the race twice"),
        (BLOCK + "a woman, white and white", "a race twice"),
        (BLOCK + "a woman of 5, of 6", "the age"),
        (BLOCK + "a woman, rich", "no condition"),
        (BLOCK + "a woman,", "no condition"),
    ],
)
def test_what_is_not_or_can_be_read_in_two_ways_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_claim(text)
    assert why in str(caught.value)
    assert "An example:" in str(caught.value)


CONDITIONS = ["not Hispanic", "Hispanic", "sor alone", "nhopi alone", "sor and nhopi", "sor alone or in combination"]


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(small_tracts(), st.sampled_from(CONDITIONS), st.sampled_from(["tract 10001000100", "block 100010001001000"]))
def test_bounds_are_those_of_all_solutions_and_certificates_prove_them(tract: SmallTract, condition: str, place: str) -> None:
    claim = parse_claim(f"{place}: a person, {condition}")
    found = bound_claim(tract.model, tract.counts, claim, Budget())
    totals = listed(tract.model)[:, columns_of(tract.model, claim)].sum(axis=1)
    assert (found.least, found.most) == (found.seen_least, found.seen_most) == (totals.min(), totals.max())
    expected = "true" if totals.min() >= 1 else "false in every" if totals.max() < 1 else "true in some"
    assert found.verdict.startswith(expected)
    certificate = json.loads(json.dumps(found.certificate))
    assert check_certificate(tract.model, claim, certificate, "here") == (totals.min(), totals.max())


@settings(max_examples=60, deadline=None)
@given(small_tracts(), st.sampled_from(CONDITIONS), st.sampled_from(["least", "most"]))
def test_a_certificate_cannot_claim_more_than_is_so(tract: SmallTract, condition: str, end: str) -> None:
    claim = parse_claim(f"tract 10001000100: a person, {condition}")
    found = bound_claim(tract.model, tract.counts, claim, Budget())
    for forged in forgeries(found.certificate, end):
        with pytest.raises(VerificationError, match="here: "):
            check_certificate(tract.model, claim, forged, "here")


def forgeries(certificate: dict[str, Any], end: str) -> list[dict[str, Any]]:
    """Certificates that say more than holds, in each way in which one can."""
    better = 1 if end == "least" else -1
    stated = copy.deepcopy(certificate)
    stated[end]["proved"] += better
    seen = copy.deepcopy(certificate)
    seen[end]["seen"] += 1
    invented = copy.deepcopy(certificate)
    invented[end]["witness"] = invented[end]["witness"][:-1]
    found = [stated, seen]
    if certificate[end]["witness"]:
        found.append(invented)
    if certificate[end]["proofs"]:
        stronger = copy.deepcopy(certificate)
        stronger[end]["proofs"][0]["value"] += 1
        stronger[end]["proved"] += better
        cut_short = copy.deepcopy(certificate)
        cut_short[end]["proofs"][0]["steps"] = []
        overflowing = copy.deepcopy(stronger)  # one half is empty, of the other a sum would not fit into 64 bits
        overflowing[end]["proofs"][0]["steps"] = [{"y": [], "cut": [0, 2**63 - 2, True]}]
        found += [stronger, cut_short, overflowing]
    return found


def test_a_solution_whose_sums_overflow_to_the_published_ones_is_refused() -> None:
    """Four kinds of whom nobody is published, 2^62 people of each: their sum is 0 in 64 bits."""
    everybody = np.arange(4)
    model = Model(
        "10001000100", np.array([1000]), np.zeros(4, np.int64), everybody, np.array([0, 4]), everybody, np.array([0]),
        np.array([0]), np.array([0]), ("count",), np.array([False]),
    )  # fmt: skip
    claim = parse_claim(BLOCK + "a person, sor alone, Hispanic")
    certificate = bound_claim(model, np.zeros(4, np.int64), claim, Budget()).certificate
    assert check_certificate(model, claim, certificate, "here") == (0, 0)
    certificate["least"] |= {"witness": [[1000, kind, 2**62] for kind in range(4)], "seen": 2**62, "proved": 2**62}
    with pytest.raises(VerificationError, match="does not meet the published counts"):
        check_certificate(model, claim, certificate, "here")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(small_tracts(), st.sampled_from(CONDITIONS), st.data())
def test_whatever_is_edited_in_a_certificate_nothing_false_is_said_to_hold(
    tract: SmallTract, condition: str, data: st.DataObject
) -> None:
    """Every field of it, at every depth: another number, another kind of value, left out. A proof may stand an edit (a multiplier
    that is a little smaller): then the same is proved."""
    claim = parse_claim(f"tract 10001000100: a person, {condition}")
    found = bound_claim(tract.model, tract.counts, claim, Budget())
    certificate = json.loads(json.dumps(found.certificate))
    for _ in range(10):
        forged = copy.deepcopy(certificate)
        edit(forged, data)
        try:
            proved = check_certificate(tract.model, claim, forged, "here")
        except VerificationError:
            continue
        assert proved == (found.least, found.most)
        assert [(forged[end]["proved"], forged[end]["seen"]) for end in ("least", "most")] == [
            (certificate[end]["proved"], certificate[end]["seen"]) for end in ("least", "most")
        ]


VALUES: list[Any] = [None, True, 0, 1, -1, 2**62, 2**63 - 2, 2**70, 1.0, 0.5, "1", [], [[]], {}, {"y": []}]


def edit(node: Any, data: st.DataObject) -> None:
    """Change one thing somewhere below ``node``."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key = data.draw(st.sampled_from(keys))
    child = node[key]
    if isinstance(child, (dict, list)) and child and data.draw(st.integers(0, 4)):
        edit(child, data)
    elif data.draw(st.booleans()):
        values = [*VALUES, *([child + 1, child - 1, -child, float(child)] if type(child) is int else [])]
        node[key] = data.draw(st.sampled_from(values))
    else:
        del node[key]


def test_ages_that_cut_a_bin_are_answered_exactly() -> None:
    """47 lies within P12's 45 to 49: the program tells it apart, and the tract's own years bound the answer."""
    people = random_people(4, blocks=3, people=120, kinds=25)
    tables = tables_of(PRODUCT, people)
    claim = parse_claim("tract 10001000100: a person of 47")
    bins = bins_for(claim, certainty_bins(PRODUCT))
    assert isinstance(bins, AgeBins)
    assert {47, 48} <= set(bins.starts)
    model = ModelBuilder(PRODUCT, bins).build(tables)
    block = int(tables.geoid) * 10_000 + np.array([block for block, _ in people])
    everyone = People(block, np.array([kind for _, kind in people]), np.ones(len(people), np.int64))
    found = bound_claim(model, counts_of(model, everyone), claim, Budget())
    exact = int((everyone.kind // 126 % 103 == 47).sum())
    assert (found.least, found.most) == (exact, exact), "the tract publishes single years"
    assert check_certificate(model, claim, found.certificate, "here") == (exact, exact)
