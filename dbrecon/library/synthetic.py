"""A synthetic state to try things on: invented people, and the zip of tables as it would be published of them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbrecon.errors import UsageError
from dbrecon.library import frames as frame_kinds
from dbrecon.library.published import path_of
from dbrecon.recon.people.people import People
from dbrecon.recon.product.release import load_release
from dbrecon.recon.product.writer import write_state_zip
from dbrecon.recon.study.synthetic import StatePlan, make_counties, plan_state
from dbrecon.states import STATES, check_stusab


@dataclass(frozen=True)
class SyntheticState:
    """A state whose people are invented. The same people, counties and seed make the same."""

    plan: StatePlan

    @property
    def counties(self) -> tuple[str, ...]:
        """The three digits of each county."""
        return tuple(county.code for county in self.plan.counties)

    def people(self, frames: str | None = None) -> Any:
        """Return a frame of its people, the truth, with the columns of a people's file.

        >>> state.people("pandas")["geoid_block"].str[:5].unique().tolist()
        ['10001']
        """
        everyone = People.concatenate([county.people for county in make_counties(self.plan)])
        return frame_kinds.native(frame_kinds.people_columns(everyone), frames)

    def write_zip(self, folder: str | os.PathLike[str], product: str = "sf1_2010") -> str:
        """Write the zip of a product's tables into a local folder, under the name that the product gives it; return its path.

        Raises StorageError if it cannot be written, UsageError for a product that does not exist, and for a folder on S3.
        """
        release = load_release(product)
        if path_of(folder).startswith("s3://"):
            raise UsageError(f"{folder}: a zip is written into a local folder; copy it from there")
        path = Path(folder, release.zip_of(self.plan.stusab))
        write_state_zip(path, self.plan.stusab, self.plan.state, make_counties(self.plan), release)
        return str(path)


def make_state(people: int, *, state: str = "de", counties: int | None = None, seed: int = 1) -> SyntheticState:
    """Lay out a synthetic state of exactly so many people. Its code is a real one (``state``), since there are no others.

    Raises UsageError for numbers that cannot be.

    >>> state = dbrecon.make_state(1000, counties=1, seed=3)
    >>> state.counties
    ('001',)
    >>> len(state.people("pandas"))
    1000
    """
    if isinstance(people, bool) or not isinstance(people, int):
        raise UsageError(f"people {people!r}: give a whole number")
    stusab = check_stusab(state)
    return SyntheticState(plan_state(stusab, STATES[stusab].fips, people, seed, counties))
