"""What a log tells of work that goes on, and how numbers of things are said."""

import logging
import time

import pytest

from dbrecon.ctools.progress import LOG_EVERY_SECONDS, Progress, counted


@pytest.mark.parametrize(
    ("number", "unit", "said"),
    [
        (1, "tract", "1 tract"),
        (0, "tract", "0 tracts"),
        (73057, "tract", "73,057 tracts"),
        (1, "county", "1 county"),
        (3, "county", "3 counties"),
        (1500, "person", "1,500 people"),
    ],
)
def test_a_number_of_things_is_said_as_people_say_it(number: int, unit: str, said: str) -> None:
    assert counted(number, unit) == said


def test_a_plural_of_its_own_may_be_given() -> None:
    assert [counted(number, "process", "processes") for number in (1, 2)] == ["1 process", "2 processes"]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr(time, "monotonic", lambda: self.now)


@pytest.mark.parametrize(
    ("what", "unit", "total", "first", "done", "said"),
    [
        ("tracts", "tract", 654, 0, 240, "tracts: 240 of 654, 8.0 a second, 52 s left"),
        ("tracts", "tract", None, 0, 1500, "tracts: 1,500, 50.0 a second"),
        ("tracts", "tract", None, 0, 0, "tracts: 0"),
        ("tracts", "tract", 9, 0, 0, "tracts: 0 of 9"),
        ("checked", "county", 12, 0, 3, "checked: 3 of 12 counties, 0.1 a second, 1 min 30 s left"),
        ("oh", "line", None, 0, 1, "oh: 1 line"),
        ("oh", "B", 40_100_000, 2_000_000, 12_000_000, "oh: 12.0 of 40.1 MB, 0.3 MB a second, 1 min 24 s left"),
    ],
)
def test_a_line_of_progress(
    what: str, unit: str, total: int | None, first: int, done: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with Progress(what, unit, total, first) as progress:
        clock.now += 30
        progress.at(done or first)
        assert progress.line() == said


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock(monkeypatch)
    with Progress("tracts", "tract", 300) as progress:
        for _ in range(130):
            clock.now += LOG_EVERY_SECONDS / 60
            progress.add(1)
    assert len(caplog.messages) == 2
