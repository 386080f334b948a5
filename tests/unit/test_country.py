"""The country's run (bench/country.py): its table of states, and its report."""

from dataclasses import replace

from bench.country import Result, asked, report, states
from dbrecon.recon.study.synthetic import plan_state
from dbrecon.states import STATES

WYOMING = Result(
    "wy", 563_626, 132, "2026-01-01 00:00", "one machine", 3.0,
    {"step 1": 1.0, "steps 3 to 5": 9.0}, {"step 1": 1.0, "steps 3 to 5": 5.0}, 120.0, 1, 60_000_000, 132, 5_000_000, 30.0, 32.0,
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


def test_states_that_have_results_are_left_out_and_sittings_are_told_apart() -> None:
    everyone = states()
    assert [state.stusab for state in asked("wy,dc", everyone, {"wy": WYOMING}, again=False)] == ["dc"]
    assert [state.stusab for state in asked("wy,dc", everyone, {"wy": WYOMING}, again=True)] == ["wy", "dc"]
    other = replace(WYOMING, stusab="dc", people=601_723, sitting="2026-01-02 00:00", machine="another machine")
    text = report([WYOMING, other], everyone)
    assert text.count("| **all** |") == 2
    assert "## 2026-01-02 00:00, another machine" in text
    assert "2 states of 51, 1,165,349 of 308,745,538 people (0.4%), were run." in text
    assert "At 17.2 CPU seconds a million the country takes 5,299 CPU seconds (in proportion)." in text
