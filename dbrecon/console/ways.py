"""Ways to publish, as --what_if names them: some tables, some protections of records and of cells, another product."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dbrecon.ctools.progress import counted
from dbrecon.errors import UsageError
from dbrecon.experiment import TABLE_WORDS

if TYPE_CHECKING:
    from dbrecon.recon.census.inexact import Inexact
    from dbrecon.recon.risk.protections import RecordProtection
    from dbrecon.recon.risk.variants import Variant

log = logging.getLogger(__name__)

EACH = "each"
WAYS = (
    "tables (block, all-P8-P10), each, product=FOLDER, swap=SHARE, ages=YEARS, blocks=PEOPLE, round=BASE, random=BASE, "
    "suppress=BELOW (of some tables: round=5:P12A,P12B), with + between several"
)
_NUMBER = r"[1-9]\d{0,5}"
_CELLS = ("round", "random", "suppress")


@dataclass(frozen=True)
class _Said:
    """What has been read of a way so far: the words of its name, and what they mean."""

    product: str
    tables: str
    words: tuple[str, ...] = ()
    protection: RecordProtection | None = None
    inexact: Inexact | None = None
    inexact_tables: tuple[str, ...] = ()


def ways_to_publish(product: str | None, tables: str, words: Sequence[str]) -> list[Variant]:
    """Return the way in question, and the others of ``words``. Raises UsageError, InputError for a product that is none."""
    from dbrecon.experiment import DEFAULT_PRODUCT

    product = product or DEFAULT_PRODUCT
    first = _Said(product, tables)
    found = [_variant(first)]
    for word in words:
        if word == EACH:
            found += [_variant(replace(first, tables=less)) for less in _each_left_out(product, tables)]
        else:
            found.append(_variant(_read(word, product, tables)))
    names = [variant.name for variant in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"--what_if: '{twice[0]}' is asked for twice: name each way once")
    return found


def _variant(said: _Said) -> Variant:
    from dbrecon.recon.product.release import load_release
    from dbrecon.recon.risk.variants import Variant, product_of

    path = Path(load_release(said.product).tables_path)
    product_of(path, said.tables, said.inexact, said.inexact_tables)  # what there is not is said before anything is done
    name = ", ".join((f"{said.tables} tables", *said.words))
    return Variant(name, path, said.tables, said.protection, said.inexact, said.inexact_tables)


def _each_left_out(product: str, tables: str) -> list[str]:
    """Each table left out in turn, but the first block table, which tells how many people there are, and those that follow from
    the others, of which it is said."""
    from dbrecon.recon.census.tables import LEVELS
    from dbrecon.recon.product.coverage import each_redundant, redundant
    from dbrecon.recon.product.release import load_release
    from dbrecon.recon.risk.variants import product_of

    path = Path(load_release(product).tables_path)
    whole = product_of(path, tables)
    kept = tables.split(",")
    log.info("%s: looking which of %s follow from the others", EACH, counted(len(whole.tables), "table"))
    in_level = {name for level in LEVELS for name in each_redundant(whole, level)}
    found, follow = [], []
    for table in whole.tables:
        if table is whole.tables_of("block")[0]:
            continue
        less = ",".join(name for name in kept if name != table.name) if len(kept) > 1 else f"{tables}-{table.name}"
        of_other_level = table.level == "tract" or table.inexact is not None
        if table.name in in_level or (of_other_level and redundant(product_of(path, less), [table])):
            follow.append(table.name)
        else:
            found.append(less)
    if follow:
        log.warning("not left out in turn, since they follow from the others, which gives nothing less away: %s", ", ".join(follow))
    return found


def _read(word: str, product: str, tables: str) -> _Said:
    """Read a way of one word, "block+swap=0.1" say."""
    said = _Said(product, tables)
    for part in word.split("+"):
        kind, equals, text = part.partition("=")
        if not equals and TABLE_WORDS.fullmatch(part):
            said = replace(said, tables=part)
        elif kind == "product" and text:
            said = replace(said, product=text, words=(*said.words, f"of {text}"))
        elif kind in _CELLS and said.inexact is None:
            said = _with_cells(said, kind, text, word)
        elif kind in _RECORDS and said.protection is None and re.fullmatch(_RECORDS[kind][0], text):
            _, make, name = _RECORDS[kind]
            said = replace(said, protection=make(text), words=(*said.words, name.format(text)))
        elif (kind in _CELLS and said.inexact) or (kind in _RECORDS and said.protection):
            raise UsageError(f"--what_if {word}: one protection of records and one of cells at a time")
        else:
            raise UsageError(f"--what_if {word}: {part!r} is no way to publish; take {WAYS}")
    return said


def _with_cells(said: _Said, kind: str, text: str, word: str) -> _Said:
    from dbrecon.recon.census.inexact import Inexact

    number, colon, names = text.partition(":")
    if not re.fullmatch(_NUMBER, number) or int(number) < 2 or (colon and not re.fullmatch(r"\w+(,\w+)*", names)):
        raise UsageError(f"--what_if {word}: {kind}={text!r} is no way to publish; take {WAYS}")
    how = {
        "round": lambda n: Inexact(rounded_to=n),
        "random": lambda n: Inexact(rounded_to=n, rounding="either"),
        "suppress": lambda n: Inexact(suppressed_below=n),
    }[kind](int(number))
    where = f"{names.replace(',', ', ')} " if names else "cells "
    chosen = tuple(names.split(",")) if names else ()
    return replace(said, inexact=how, inexact_tables=chosen, words=(*said.words, f"{where}{how}"))


def _swap(text: str) -> RecordProtection:
    from dbrecon.recon.risk.protections import Swap

    return Swap(float(text))


def _coarse_ages(text: str) -> RecordProtection:
    from dbrecon.recon.risk.protections import CoarsenAges

    return CoarsenAges(int(text))


def _larger_blocks(text: str) -> RecordProtection:
    from dbrecon.recon.risk.protections import MergeBlocks

    return MergeBlocks(int(text))


_RECORDS: dict[str, tuple[str, Callable[[str], RecordProtection], str]] = {
    "swap": (r"0?\.\d+|1|0", _swap, "{} of people swapped"),
    "ages": (r"[1-9]\d?", _coarse_ages, "ages in intervals of {} years"),
    "blocks": (_NUMBER, _larger_blocks, "blocks of {} people or more"),
}
"""Protections of records: the form of what follows the =, what makes it, and what a report calls it."""
