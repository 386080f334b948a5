"""A place checks itself: nobody carries a county without its state, or codes that cannot be."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from dbrecon.errors import UsageError
from dbrecon.place import EVERYWHERE, Place


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (EVERYWHERE, "all states"),
        (Place("oh"), "oh"),
        (Place("oh", "059"), "oh 059"),
        (Place("oh", "059", ("977200", "977100", "977200")), "oh 059 977100,977200"),
    ],
)
def test_a_place_is_told_as_people_say_it(place: Place, text: str) -> None:
    assert place.text() == text


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ({"stusab": "xx"}, "'xx' is no state; the two-letter codes are"),
        ({"stusab": "OH"}, "'OH' is not a state's two letters in lower case"),
        ({"county": "059"}, "county 059 is of no state"),
        ({"stusab": "oh", "county": "59"}, "'59' is not a county's three digits"),
        ({"stusab": "oh", "county": "٠٥٩"}, "'٠٥٩' is not a county's three digits"),
        ({"stusab": "oh", "tracts": ("977100",)}, "tract 977100 is of no county"),
        ({"stusab": "oh", "county": "059", "tracts": ()}, "no tract of county 059 is named"),
        ({"stusab": "oh", "county": "059", "tracts": ("977100", "9771")}, "'9771' is not a tract's six digits"),
    ],
)
def test_a_place_that_cannot_be_is_refused(made: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        Place(**made)


@pytest.mark.parametrize("place", [EVERYWHERE, Place("oh"), Place("oh", "059"), Place("oh", "059", ("977100",))])
def test_a_place_covers_what_is_in_it(place: Place) -> None:
    assert place.covers("oh", "059")
    assert place.covers("oh", "059", "977100")


@pytest.mark.parametrize(
    ("place", "unit"),
    [
        (Place("oh"), ("de", "001")),
        (Place("oh", "059"), ("oh", "061")),
        (Place("oh", "059", ("977100",)), ("oh", "059", "977200")),
    ],
)
def test_a_place_does_not_cover_what_is_elsewhere(place: Place, unit: tuple[str, ...]) -> None:
    assert not place.covers(*unit)


def test_a_place_stays_what_it_is() -> None:
    with pytest.raises(FrozenInstanceError):
        EVERYWHERE.stusab = "oh"  # type: ignore[misc]
    assert len({Place("oh", "059", ("000200", "000100")), Place("oh", "059", ("000100", "000200"))}) == 1
