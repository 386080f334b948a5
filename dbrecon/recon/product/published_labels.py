"""Published labels of cells against what a product says that they count, where words tell: ``labels.csv``, ``table,cell,label``.

A label says only how a cell differs from the one that it is a part of ("Male:", then "5 to 9 years"). So each word is held to one
side of the cell's box: a sex, an interval of ages, a set of races, an origin, all within the table's universe.
"""

import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dbrecon.errors import InputError
from dbrecon.recon.census.kinds import FIRST_AGES, N_RACE_SETS, RACE_BITS, RACE_COUNT
from dbrecon.recon.census.tables import BoolArray, Box, Product, Table

_RACES = {
    "white": "white", "black or african american": "black", "american indian and alaska native": "aian", "asian": "asian",
    "native hawaiian and other pacific islander": "nhopi", "some other race": "sor",
}  # fmt: skip
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_CODES = np.arange(1, N_RACE_SETS + 1)
_AGES = (
    (re.compile(r"under (\d+) years?"), lambda n: (0, n[0] - 1)),
    (re.compile(r"(\d+) to (\d+) years"), lambda n: (n[0], n[1])),
    (re.compile(r"(\d+) and (\d+) years"), lambda n: (n[0], n[1])),
    (re.compile(r"(\d+) years? and over"), lambda n: (n[0], 999)),
    (re.compile(r"(\d+) years?"), lambda n: (n[0], n[0])),
)


class Agreement(NamedTuple):
    """How many cells' labels agree with what they count, and how many tell nothing."""

    agree: int
    silent: int


def check_labels(product: Product, path: Path) -> Agreement:
    """Hold every label of the file to its cell. Tables whose letters are an iteration have their parent's labels.

    Raises InputError for a label that belies its cell, or whose cell is none of its table.
    """
    labels = _read(path)
    agree = silent = 0
    unknown = set(labels) - {table.name for table in product.tables} - {_parent(table) for table in product.tables}
    if unknown:
        raise InputError(f"{path}: has labels of {min(unknown)}, which is none of the product's tables; correct its name")
    for table in product.tables:
        known = labels.get(table.name) or labels.get(_parent(table), [])
        if known and len(known) != len(table.cells):
            raise InputError(f"{path}: has {len(known)} labels for {table.name}, not {len(table.cells)}: one a cell")
        named = [name for name, _ in labels.get(table.name, [])]
        if named and named != list(table.cell_names):
            wrong, right = next((given, own) for given, own in zip(named, table.cell_names, strict=True) if given != own)
            raise InputError(
                f"{path}: has {wrong} of {table.name} where its cell {right} belongs; labels stand in the cells' order"
            )
        for i, (_, label) in enumerate(known):
            speaks = _is_so(table, i, label, str(path))
            agree, silent = agree + speaks, silent + (not speaks)
    return Agreement(agree, silent)


def _parent(table: Table) -> str:
    return table.name.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _read(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Return each table's cells, in the file's order, with their labels."""
    labels: dict[str, list[tuple[str, str]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                labels.setdefault(row["table"], []).append((row["cell"], row["label"]))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); correct its rights, or leave it out") from error
    except (KeyError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no list of labels ({error}); its columns are table,cell,label") from error
    return labels


def _is_so(table: Table, i: int, label: str, source: str) -> bool:
    """Return whether the label tells anything; InputError if that is not what the cell counts."""
    box, universe = table.cells[i].box, table.cells[0].box
    wanted = _sides(label)
    for side, mask in wanted.items():
        if not np.array_equal(getattr(box, side), mask & getattr(universe, side)):
            raise InputError(
                f"{source}: {table.cell_names[i]} of {table.name} is {label!r}, but tables.toml has it count others by {side}"
            )
    return bool(wanted)


def _sides(label: str) -> dict[str, BoolArray]:
    """Return the masks that a label's words name, by side of a box; none where they are not known."""
    words = label.strip().rstrip(":").strip().lower()
    if words in ("male", "female"):
        return {"sex": np.array([words == "male", words == "female"])}
    if words in ("hispanic or latino", "not hispanic or latino"):
        return {"hisp": np.array([words.startswith("not"), not words.startswith("not")])}
    if words.startswith("total"):
        everyone = Box(np.ones(2, bool), np.ones(len(FIRST_AGES), bool), np.ones(N_RACE_SETS, bool), np.ones(2, bool))
        return {side: getattr(everyone, side) for side in ("sex", "age", "race", "hisp")}
    for pattern, interval in _AGES:
        found = pattern.fullmatch(words)
        if found:
            first, last = interval([int(number) for number in found.groups()])
            return {"age": (first <= FIRST_AGES) & (last >= FIRST_AGES)}
    races = _races(words)
    return {} if races is None else {"race": races}


def _races(words: str) -> BoolArray | None:
    """Return the race sets that words name, (63,); None if they name none."""
    words = words.removeprefix("population of ")
    if words == "two or more races":
        return np.asarray(RACE_COUNT[_CODES] > 1)
    number = _NUMBERS.get(words.removesuffix("races").removesuffix("race").strip())
    if number is not None:
        return np.asarray(RACE_COUNT[_CODES] == number)
    combined = words.partition(" alone or in combination")
    if combined[1] and combined[0] in _RACES:
        return np.asarray(_CODES & RACE_BITS[_RACES[combined[0]]] > 0)
    names = [name.strip() for name in words.removesuffix(" alone").split(";")]
    if all(name in _RACES for name in names):
        return np.asarray(sum(RACE_BITS[_RACES[name]] for name in names) == _CODES)
    return None
