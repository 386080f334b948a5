"""Claims about people, in words: a small grammar (docs/certainty.md), and nothing that could be read in two ways.

    block 390599771001005: at least two women of 62 to 64, white and Asian, not Hispanic

A place, a colon, how many (at least one if it is not said), who, and conditions separated by commas. What is ambiguous is
refused with
what to say instead.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbrecon.errors import UsageError
from dbrecon.recon.census.categories import EVERY_KIND, Categories
from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, N_RACE_SETS, RACE_BITS, RACE_COUNT

BoolArray = npt.NDArray[np.bool_]

_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NUMBERS = {"a": 1, "an": 1} | {word: number for number, word in enumerate(_NUMBER_WORDS, start=1)}
NOUNS = {
    "person": None, "people": None, "somebody": None, "man": 0, "men": 0, "male": 0, "males": 0,
    "woman": 1, "women": 1, "female": 1, "females": 1,
}  # fmt: skip
RACE_WORDS = {
    "white": "white", "black": "black", "african american": "black", "american indian": "aian", "alaska native": "aian", "aian":
    "aian",
    "american indian or alaska native": "aian", "asian": "asian", "pacific islander": "nhopi", "native hawaiian": "nhopi",
    "native hawaiian or other pacific islander": "nhopi", "nhopi": "nhopi", "some other race": "sor", "sor": "sor",
}  # fmt: skip
EXAMPLE = "'block 390599771001005: a woman of 62 to 64, white and Asian, not Hispanic'"
OLDEST = 10_000  # stands for the end of "and over"

_PLACE = re.compile(r"(block|tract)\s+(\d+)\s*:\s*(.+)", re.I | re.S)
_HEAD = re.compile(r"(?:(at least)\s+)?(?:(\d+|[a-z]+)\s+)?([a-z]+)(?:\s+(of|aged|under)\s+(.+))?", re.I)
_SPAN = re.compile(r"(\d+)(?:\s*(?:to|-)\s*(\d+)|\s+(?:and|or)\s+(over|older|more))?")
_RACE = "|".join(sorted(map(re.escape, RACE_WORDS), key=len, reverse=True))
_RACES = re.compile(rf"((?:{_RACE})(?:\s+and\s+(?:{_RACE}))*)(?:\s+(alone or in combination|alone|in combination))?", re.I)
_SEVERAL = re.compile(r"(two|three|four|five|six) or more races|(two|three|four|five|six) races", re.I)


@dataclass(frozen=True)
class Claim:
    """At least ``quantity`` people of a block or tract (``geoid``, 15 or 11 digits) are of these kinds: masks of sexes (2,), age
    categories (103,), race sets (63,) by code - 1, and origins (2,)."""

    text: str
    geoid: str
    quantity: int
    sex: BoolArray
    age: BoolArray
    race: BoolArray
    hisp: BoolArray

    @property
    def tract(self) -> str:
        """The tract that the claim is about, or in which its block lies, in 11 digits."""
        return self.geoid[:11]

    @property
    def age_edges(self) -> tuple[int, ...]:
        """The age categories at which a program must tell ages apart."""
        changes = np.flatnonzero(self.age[1:] != self.age[:-1]) + 1
        return (0, *changes.tolist())


def parse_claim(text: str, categories: Categories = EVERY_KIND) -> Claim:
    """Return the claim that a sentence makes, about people in a product's ``categories``: its race groups may be named.

    Raises UsageError for one that is not of the grammar, can be read in two ways, or tells apart what the product does not.
    """
    text = " ".join(text.split())
    match = _PLACE.fullmatch(text)
    if match is None:
        raise _refused(text, "a claim begins with its place and a colon")
    level, geoid, rest = match[1].lower(), match[2], match[3]
    if len(geoid) != {"block": 15, "tract": 11}[level]:
        raise _refused(text, f"a {level} has {15 if level == 'block' else 11} digits, not {len(geoid)}")
    head, *conditions = [piece.strip() for piece in rest.split(",")]
    quantity, sex, age = _head(text, head)
    race, hisp = np.ones(N_RACE_SETS, bool), np.ones(2, bool)
    said = set[str]() if age.all() else {"age"}
    for condition in conditions:
        about = _condition(text, condition, age, race, hisp, categories)
        if about in said:
            raise _refused(text, f"it says the {about} twice")
        said.add(about)
    if cut := categories.cut_by(sex, race, hisp):
        known = f"; their race groups are {', '.join(categories.groups)}" if not race.all() else ""
        raise _refused(text, f"it is about {cut}, which these tables do not tell apart{known}", example="")
    return Claim(text, geoid, quantity, sex, age, race, hisp)


def _head(text: str, head: str) -> tuple[int, BoolArray, BoolArray]:
    match = _HEAD.fullmatch(head)
    if match is None:
        raise _refused(text, f"{head!r} does not say who")
    at_least, number, noun, preposition, ages = match.groups()
    if noun.lower() not in NOUNS:
        raise _refused(text, f"{noun!r} is not a word for whom; take person, people, man, men, woman or women")
    if number is not None and not number.isdigit() and number.lower() not in NUMBERS:
        raise _refused(text, f"{number!r} is no number")
    quantity = 1 if number is None else int(number) if number.isdigit() else NUMBERS[number.lower()]
    if number is not None and number.lower() not in ("a", "an") and not at_least:
        raise _refused(text, f"{number!r} may mean exactly that many, or that many or more; say 'at least {number}'")
    if quantity < 1:
        raise _refused(text, "a claim is about one person at least")
    wanted = NOUNS[noun.lower()]
    sex = np.ones(2, bool) if wanted is None else np.arange(2) == wanted
    age = np.ones(N_AGES, bool)
    if ages is not None:
        _ages(text, preposition.lower(), ages, age)
    return quantity, sex, age


def _ages(text: str, preposition: str, words: str, age: BoolArray) -> None:
    """Narrow ``age`` to what the words after of, aged or under say."""
    match = _SPAN.fullmatch(words)
    if match is None or (preposition == "under" and (match[2] or match[3])):
        raise _refused(text, f"{words!r} is no age; say 'of 62', 'of 62 to 64', 'of 85 and over' or 'under 5'")
    first, last = int(match[1]), int(match[2] or match[1])
    if preposition == "under":
        first, last = 0, first - 1
    elif match[3]:
        last = OLDEST
    if last < first:
        raise _refused(text, f"nobody is {preposition} {words}")
    ends = np.append(FIRST_AGES[1:], OLDEST + 1)
    inside = (first <= FIRST_AGES) & (ends - 1 <= last)
    cut = ~inside & (ends > first) & (last >= FIRST_AGES)
    if cut.any():
        raise _refused(text, "no table tells ages of 100 and over apart but 100 to 104, 105 to 109, and 110 and over")
    age &= inside


def _condition(text: str, words: str, age: BoolArray, race: BoolArray, hisp: BoolArray, categories: Categories) -> str:
    """Narrow the masks to a condition; what it is about."""
    lower = words.lower()
    for name, sets in categories.groups.items():
        if name.lower() == lower:
            race &= sets
            return "race"
    if lower in ("hispanic", "not hispanic", "hispanic or latino", "not hispanic or latino"):
        hisp &= np.array([lower.startswith("not"), not lower.startswith("not")])
        return "origin"
    if lower.startswith(("of ", "aged ", "under ")):
        preposition, _, rest = lower.partition(" ")
        _ages(text, preposition, rest, age)
        return "age"
    if match := _SEVERAL.fullmatch(lower):
        least = NUMBERS[match[1] or match[2]]
        count = RACE_COUNT[1:]
        race &= (count >= least) if match[1] else (count == least)
        return "race"
    if match := _RACES.fullmatch(lower):
        race &= _race_sets(text, words, [RACE_WORDS[word] for word in re.split(r"\s+and\s+", match[1])], match[2])
        return "race"
    raise _refused(text, f"{words!r} is no condition that it knows")


def _race_sets(text: str, words: str, races: list[str], how: str | None) -> BoolArray:
    if len(set(races)) < len(races):
        raise _refused(text, f"{words!r} names a race twice")
    bits = sum(RACE_BITS[race] for race in races)
    codes = np.arange(1, N_RACE_SETS + 1)
    if (how is None and len(races) == 1) or how == "in combination":
        name = words.removesuffix("in combination").strip()
        raise _refused(text, f"{words!r} can be read in two ways; say '{name} alone' or '{name} alone or in combination'")
    if how == "alone or in combination":
        return np.asarray((codes & bits) == bits)
    return np.asarray(codes == bits)


def _refused(text: str, why: str, example: str = f" An example: {EXAMPLE}.") -> UsageError:
    return UsageError(f"the claim {text!r} is not understood: {why}.{example}")
