"""A part of an experiment: all of it, a state, a county, or some of a county's tracts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dbrecon.errors import UsageError
from dbrecon.states import STATES, check_stusab


@dataclass(frozen=True)
class Place:
    """A part of an experiment, checked when it is made; None is no narrowing.

    ``stusab`` is a state's two letters in lower case, ``county`` its three digits (CCC), ``tracts`` six digits each (TTTTTT), kept
    sorted and without repetitions. A county needs its state and tracts their county. Whether the experiment has the place, the
    ledger alone knows (``Ledger.check_place``). Raises UsageError.
    """

    stusab: str | None = None
    county: str | None = None
    tracts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the codes and that nothing is left out between them."""
        if self.stusab is not None and self.stusab not in STATES:
            check_stusab(self.stusab)
            raise UsageError(f"{self.stusab!r} is not a state's two letters in lower case.")
        if self.county is not None and self.stusab is None:
            raise UsageError(f"county {self.county} is of no state: name the state too.")
        if self.county is not None and not re.fullmatch(r"[0-9]{3}", self.county):
            raise UsageError(f"{self.county!r} is not a county's three digits, as in 059.")
        if self.tracts is None:
            return
        if self.county is None:
            raise UsageError(f"tract {', '.join(self.tracts)} is of no county: name the county too.")
        if not self.tracts:
            raise UsageError(f"no tract of county {self.county} is named: name one, or leave tracts out for all.")
        for tract in self.tracts:
            if not re.fullmatch(r"[0-9]{6}", tract):
                raise UsageError(f"{tract!r} is not a tract's six digits, as in 977100.")
        object.__setattr__(self, "tracts", tuple(sorted(set(self.tracts))))

    def covers(self, stusab: str, county: str, tract: str | None = None) -> bool:
        """Return whether a county, or a tract of it, is in this place. (A county is in the place of some of its tracts.)"""
        if self.stusab not in (None, stusab) or self.county not in (None, county):
            return False
        return tract is None or self.tracts is None or tract in self.tracts

    def text(self) -> str:
        """As people say it: "all states", "oh", "oh 059", "oh 059 977100,977200"."""
        parts = [self.stusab or "all states", self.county, ",".join(self.tracts) if self.tracts else None]
        return " ".join(part for part in parts if part)


EVERYWHERE = Place()
"""The whole experiment."""
