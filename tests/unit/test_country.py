"""The country's run (bench/country.py): its table of states, and its report."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.country import asked, left
from bench.country_results import Certainty, Result, Together, keep, kept, report, states
from dbrecon.errors import UsageError
from dbrecon.recon.study.synthetic import plan_state
from dbrecon.states import STATES

WYOMING = Result(
    "wy", 563_626, 132, "2026-01-01 00:00", "one machine", 3.0,
    {"step 1": 1.0, "steps 3 to 5": 9.0}, {"step 1": 1.0, "steps 3 to 5": 5.0}, 120.0, 1, 60_000_000, 132, 5_000_000, 30.0, 32.0,
)  # fmt: skip

CERTAINTY = Certainty(
    "wy", 563_626, 132, "2026-01-01 00:00", "one machine", 40.0, 25.0, 200.0, 1_000_000, 900, {"lp": 898, "open": 2}, 5.5, 6.25,
    30.0, 45.1,
)  # fmt: skip
TOGETHER = Together(
    "wy", 563_626, 132, "2026-01-01 00:00", "one machine", "MySQL 9.7.4", 4, 1, 12.0, 7.0, 130.0, [40, 36, 30, 26], 1.5, 400.0, 900,
    9, 0,
)  # fmt: skip


def test_the_states_of_2010_add_up_to_what_is_published() -> None:
    everyone = states()
    assert {state.stusab for state in everyone} <= STATES.keys()
    assert len({state.stusab for state in everyone}) == 51
    assert [sum(getattr(state, name) for state in everyone) for name in ("people", "counties", "tracts")] == [
        308_745_538,
        3_143,
        73_057,
    ]


def test_a_state_has_about_as_many_tracts_as_are_asked_for() -> None:
    plan = plan_state("wy", "56", 100_000, 1, counties=5, tracts=50)
    assert plan.population == 100_000
    assert abs(sum(len(county.tracts) for county in plan.counties) - 50) <= len(plan.counties)


def test_what_has_its_figures_is_left_out_and_sittings_are_told_apart() -> None:
    everyone = states()
    chosen = asked("wy,dc", everyone)
    assert [state.stusab for state in chosen] == ["wy", "dc"]
    with pytest.raises(UsageError, match="xx is none of the 51"):
        asked("wy,xx", everyone)
    wyoming, dc = chosen
    assert left(chosen, {Result: ["wy"]}, again=False) == {dc: {Result}}
    assert left(chosen, {Result: ["wy", "dc"], Certainty: ["dc"]}, again=False) == {wyoming: {Certainty}}
    assert left(chosen, {Result: ["wy"]}, again=True) == {wyoming: {Result}, dc: {Result}}
    other = replace(WYOMING, stusab="dc", people=601_723, sitting="2026-01-02 00:00", machine="another machine")
    text = report([WYOMING, other], everyone)
    assert text.count("| **all** |") == 2
    assert "## 2026-01-02 00:00, another machine" in text
    assert "2 states of 51, 1,165,349 of 308,745,538 people (0.4%), were run." in text
    assert "Steps 1 to 5: at 17.2 CPU seconds a million the country takes 5,299 CPU seconds (in proportion)." in text


def test_results_are_kept_by_kind_and_reported_beside_each_other(tmp_path: Path) -> None:
    measured = (WYOMING, CERTAINTY, TOGETHER)
    for item in measured:
        keep(item, tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == [
        "certainty/wy.json", "schedulers/wy-4-mysql.json", "wy.json",
    ]  # fmt: skip
    assert (kept(Result, tmp_path), kept(Certainty, tmp_path)) == ({"wy": WYOMING}, {"wy": CERTAINTY})
    text = report([WYOMING], states(), [CERTAINTY], list(kept(Together, tmp_path).values()))
    assert "| wy | 563,626 | 132 | 40.0 | 71.0 | 25.0 | 200 | 900 | 2 | 5.50 | 6.25 | 30.0 | 45.1 |" in text
    assert "Step 6: at 71.0 CPU seconds a million the country takes 21,911 CPU seconds (in proportion)." in text
    assert "| wy | MySQL 9.7.4 | 4 x 1 | 132 | 40, 36, 30, 26 | 12.0 | 21.3 | 7.0 | 1.5 | 400 | 900 | 9 | 0 | 9.0 | 5.0 |" in text
