"""What may stand in a product's file of tables, and what values: all that is not known is named, none is passed over."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dbrecon.errors import InputError
from dbrecon.recon.census.kinds import FIRST_AGES, RACES, SEXES

Spec = Mapping[str, Any]

SELECTORS = frozenset({"sex", "ages", "race", "race_alone", "races", "race_group", "hisp"})
AGES = {"single_years_to": 99, "then_from": [100, 105, 110], "last": 110}
"""The categories of age that there are."""

_KEYS: dict[str, frozenset[str]] = {
    "": frozenset(
        {"product", "title", "races", "ages", "categories", "comparison", "divisions", "table", "difference", "constraint"}
    ),
    "table": frozenset(
        {"name", "prefix", "level", "segment", "cells", "universe", "divide", "rounded_to", "rounding", "suppressed_below"}
    ),
    "difference": frozenset({"name", "of", "less", "less_within", "label"}),
    "constraint": frozenset({"counts", "within", "outside"}),
    "division": frozenset({"parts", "ages_from", "ages_to", "each"}),
    "comparison": frozenset({"ages_from"}),
    "selector": SELECTORS,
}
_TYPES: dict[str, type] = {
    "product": str, "title": str, "name": str, "prefix": str, "level": str, "segment": int, "cells": int, "divide": str, "of": str,
    "less": str, "label": str, "counts": str, "then": str,
}  # fmt: skip
_NEEDED: dict[str, tuple[str, ...]] = {
    "": ("product", "title", "table", "constraint"),
    "table": ("name", "prefix", "level", "segment", "cells"),
    "difference": ("name", "of", "less", "label"),
    "constraint": ("counts",),
    "division": (),
}
_NAMES = {("table", "name"): r"[A-Za-z]\w*", ("table", "prefix"): r"[A-Za-z]\w*"}
_WORDS = ("all", "block", "tract")
"""Names of sets of tables, which no table has."""


def check_spec(spec: Spec, source: str) -> None:
    """Raise InputError, naming ``source`` and the place in it, for the first key or value that is not known."""
    _known(spec, "", source)
    if spec.get("ages", AGES) != AGES:
        raise InputError(f"{source}: [ages] must be {AGES}: these are the ages that people have here")
    if "comparison" in spec:
        _check_comparison(spec["comparison"], f"{source}: [comparison]")
    for kind in ("table", "difference", "constraint"):
        entries = spec.get(kind, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"{source}: [[{kind}]] must be a list of tables, each with its keys")
        for entry in entries:
            where = f"{source}: {kind} {entry.get('name', entry.get('counts', '?'))}"
            _known(entry, kind, where)
            for key in ("universe", "less_within", "within", "outside"):
                if key in entry:
                    check_selectors(entry[key], f"{where}, {key}")
    _twice([entry.get("name") for kind in ("table", "difference") for entry in spec.get(kind, [])], source)
    _twice([entry.get("prefix") for entry in spec.get("table", [])], source)
    divisions = spec.get("divisions", {})
    if not isinstance(divisions, Mapping):
        raise InputError(f"{source}: [divisions] must have divisions, each with its keys")
    for name, division in divisions.items():
        _check_division(division, f"{source}: division {name}")
    for name in divisions:
        _check_ends(divisions, (name,), source)


def _check_division(division: Any, where: str) -> None:
    _known(division, "division", where)
    parts = division.get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise InputError(f'{where}: parts must be a list of selectors, such as [{{ sex = "male" }}, {{ sex = "female" }}]')
    for part in parts:
        check_selectors({key: value for key, value in part.items() if key != "then"}, where)
        if not isinstance(part.get("then", ""), str):
            raise InputError(f"{where}: then is {part['then']!r}, but must be the name of a division")
    if "ages_from" in division:
        _check_starts(division, where)


def _check_ends(divisions: Mapping[str, Any], path: tuple[str, ...], source: str) -> None:
    """Raise InputError for a division that comes to itself again; ``path`` has led to its last."""
    for part in divisions.get(path[-1], {}).get("parts", []):
        following = part.get("then")
        if following in path:
            raise InputError(f"{source}: division {path[0]} has no end: {', then '.join([*path, following])}")
        if following is not None:
            _check_ends(divisions, (*path, following), source)


def check_selectors(selectors: Spec, where: str) -> None:
    """Raise InputError for a selector of people that is not known, or selects by what there is not."""
    _known(selectors, "selector", where)
    wrong = {
        "sex": lambda value: value not in SEXES,
        "race": lambda value: value not in RACES,
        "race_alone": lambda value: value not in RACES,
        "race_group": lambda value: not isinstance(value, str),
        "hisp": lambda value: not isinstance(value, bool),
        "ages": lambda value: not _is_interval(value, 0, 110) or value[0] not in FIRST_AGES,
        "races": lambda value: not _is_interval([value, value] if isinstance(value, int) else value, 1, len(RACES)),
    }
    for key, value in selectors.items():
        if wrong[key](value):
            raise InputError(f"{where}: {key} cannot be {value!r}; the head of sf1_2010/tables.toml says what there is")


def _is_interval(value: Any, least: int, most: int) -> bool:
    whole = isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)
    return whole and least <= value[0] <= value[1] <= most


def _check_starts(division: Spec, where: str) -> None:
    starts, last = division["ages_from"], division.get("ages_to")
    if starts == "every category" and last == AGES["last"]:
        return
    if not _ascend(starts) or type(last) is not int or last < starts[-1]:
        raise InputError(f"{where}: ages_from must be ages that ascend, and ages_to the last one; they are {starts!r} and {last!r}")


def _check_comparison(comparison: Any, where: str) -> None:
    _known(comparison, "comparison", where)
    starts = comparison.get("ages_from")
    if not _ascend(starts) or starts[0] != 0:
        raise InputError(
            f"{where}: ages_from must be the first ages of bins to compare people in, ascending from 0; it is {starts!r}"
        )


def _ascend(starts: Any) -> bool:
    """Whether this is a list of first ages of categories that ascend."""
    if not isinstance(starts, list) or not starts or not all(type(start) is int and start in FIRST_AGES for start in starts):
        return False
    return starts == sorted(set(starts))


def _known(entry: Any, kind: str, where: str) -> None:
    """Raise InputError for a key that is not known, one that lacks, and a value of another type than it must have."""
    keys, word = _KEYS[kind], "selector" if kind == "selector" else "key"
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: must have keys, as {', '.join(sorted(keys))}")
    for key, value in entry.items():
        if key not in keys:
            raise InputError(f"{where}: the {word} {key!r} is not known; there are {', '.join(sorted(keys))}")
        if key in _TYPES and type(value) is not _TYPES[key]:
            raise InputError(f"{where}: {key} is {value!r}, but must be {'text' if _TYPES[key] is str else 'a whole number'}")
        if (kind, key) in _NAMES and (not re.fullmatch(_NAMES[kind, key], value, re.ASCII) or value in _WORDS):
            raise InputError(
                f"{where}: {key} cannot be {value!r}; it is made of letters and digits, and none of {', '.join(_WORDS)}"
            )
    lacking = [key for key in _NEEDED.get(kind, ()) if key not in entry]
    if lacking:
        raise InputError(f"{where}: lacks {lacking[0]}; it must have {', '.join(_NEEDED[kind])}")


def _twice(names: list[Any], source: str) -> None:
    repeated = [name for name, times in Counter(names).items() if times > 1 and name is not None]
    if repeated:
        raise InputError(f"{source}: {repeated[0]!r} names two tables or differences; give each a name of its own")
