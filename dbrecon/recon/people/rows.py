"""Lines of a people's file as written by :mod:`.people`, without the libraries that reading anybody's file needs."""

from functools import lru_cache

import numpy as np

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.kinds import RACES, SEXES, age_category, join_kind
from dbrecon.recon.people.attributes import Attributes
from dbrecon.recon.people.people import OLDEST, People

_BLOCK = slice(12, 27)
_REST = 28  # where the columns after the block begin


def parse_rows(rows: bytes, source: str, attributes: Attributes | None = None) -> People:
    """Return the people of whole lines (no header), one an entry in their order. Raises InputError, naming ``source``, for a line
    that is none. ``attributes``: what the file's tables tell of people, if that is not everything."""
    lines = rows.splitlines()
    try:
        block = [int(line[_BLOCK]) for line in lines]
        if attributes is None:
            kind = [_kind_of(line[_REST:]) for line in lines]
        else:
            kind = [attributes.kind_of_line(line[_REST:].decode()) for line in lines]
    except (ValueError, KeyError) as error:
        raise InputError(f"{source}: has a line that is no person ({error})", about=Subject.PEOPLE) from error
    return People(np.array(block, np.int64), np.array(kind, np.int64), np.ones(len(lines), np.int64))


@lru_cache(maxsize=1 << 16)
def _kind_of(columns: bytes) -> int:
    """Return the kind of person that the columns after the block tell. Raises ValueError."""
    sex, age, *flags = columns.decode("ascii").split(",")
    if len(flags) != len(RACES) + 1 or not set(flags) <= {"Y", "N"} or sex not in SEXES or not 0 <= int(age) <= OLDEST:
        raise ValueError(columns.decode("ascii"))
    race = int("".join("01"[flag == "Y"] for flag in flags[:-1]), 2)
    if race == 0:
        raise ValueError(columns.decode("ascii"))
    unit = np.ones(1, np.int64)
    kind = join_kind(unit * SEXES.index(sex), age_category(unit * int(age)), unit * race, unit * (flags[-1] == "Y"))
    return int(kind[0])
