"""The states of the USA as the Census Bureau codes them: two letters (stusab), FIPS code, name."""

import difflib
from dataclasses import dataclass

from dbrecon.errors import UsageError


@dataclass(frozen=True)
class State:
    """A state: two-digit FIPS code, name, and its folder's name on the Census Bureau's server."""

    fips: str
    name: str

    @property
    def url_name(self) -> str:
        """The name as the Census Bureau's server spells it: underscores for spaces."""
        return self.name.replace(" ", "_")


_STATE_LIST = """
al 01 Alabama|ak 02 Alaska|az 04 Arizona|ar 05 Arkansas|ca 06 California|co 08 Colorado|ct 09 Connecticut
de 10 Delaware|dc 11 District of Columbia|fl 12 Florida|ga 13 Georgia|hi 15 Hawaii|id 16 Idaho|il 17 Illinois
in 18 Indiana|ia 19 Iowa|ks 20 Kansas|ky 21 Kentucky|la 22 Louisiana|me 23 Maine|md 24 Maryland|ma 25 Massachusetts
mi 26 Michigan|mn 27 Minnesota|ms 28 Mississippi|mo 29 Missouri|mt 30 Montana|ne 31 Nebraska|nv 32 Nevada
nh 33 New Hampshire|nj 34 New Jersey|nm 35 New Mexico|ny 36 New York|nc 37 North Carolina|nd 38 North Dakota
oh 39 Ohio|ok 40 Oklahoma|or 41 Oregon|pa 42 Pennsylvania|ri 44 Rhode Island|sc 45 South Carolina
sd 46 South Dakota|tn 47 Tennessee|tx 48 Texas|ut 49 Utah|vt 50 Vermont|va 51 Virginia|wa 53 Washington
wv 54 West Virginia|wi 55 Wisconsin|wy 56 Wyoming|pr 72 Puerto Rico
"""

STATES: dict[str, State] = {
    entry[:2]: State(entry[3:5], entry[6:]) for line in _STATE_LIST.strip().splitlines() for entry in line.split("|")
}
"""The 50 states, the District of Columbia and Puerto Rico by stusab (lower case), in FIPS order (FIPS PUB 5-2)."""


def check_stusab(text: str) -> str:
    """Return ``text`` as a stusab in lower case. UsageError for what is no state, with the known ones, the nearest first."""
    stusab = text.strip().lower()
    if stusab in STATES:
        return stusab

    def nearness(known: str) -> float:
        state = STATES[known]
        words = (known, state.name.lower(), state.fips)
        return max(difflib.SequenceMatcher(None, stusab, word).ratio() for word in words)

    ordered = sorted(STATES, key=lambda known: (-nearness(known), known))
    raise UsageError(f"{text!r} is no state; the two-letter codes are, the nearest first: {', '.join(ordered)}.")
