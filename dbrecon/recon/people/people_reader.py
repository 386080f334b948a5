"""Reading people's files. Apart from writing them, since it needs pyarrow, which workers need not load."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import pyarrow.compute as pc

from dbrecon.recon.census.kinds import RACES, SEXES, IntArray, age_category, join_kind
from dbrecon.recon.people.attributes import Attributes
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, COLUMNS, OLDEST, People
from dbrecon.recon.people.record_reader import TextRecords, iter_records


def read_people(source: str | Path | BinaryIO | IO[bytes], name: str | None = None, attributes: Attributes | None = None) -> People:
    """Read a people's file (a local path, or an open binary file; CSV or Parquet) into merged People.

    Needs the columns ``COLUMNS`` in any order; others are ignored. ``name`` is what errors call the file. A path that ends
    in .gz is unpacked. Takes some 50 bytes of memory a person; for a file of many counties there is :func:`iter_people`.
    ``attributes``: what the file's tables tell of people, if that is not everything.

    Raises InputError with file and line for a column or value that is not of the form, StorageError if it cannot be read.
    """
    return People.concatenate(list(iter_people(source, name, attributes))).merged()


def iter_people(
    source: str | Path | BinaryIO | IO[bytes], name: str | None = None, attributes: Attributes | None = None
) -> Iterator[People]:
    """As :func:`read_people`, a piece of the file at a time and not merged: one entry a line, in the file's order."""
    name = name or (str(source) if isinstance(source, str | Path) else str(getattr(source, "name", "people")))
    for records in iter_records(source, name, COLUMNS, "people"):
        yield _people_of(records, attributes)


def _people_of(records: TextRecords, attributes: Attributes | None) -> People:
    block, tract = records.geoid("geoid_block", 15, "block"), records.geoid("geoid_tract", 11, "tract")
    records.refuse("geoid_tract", tract != block // BLOCKS_PER_TRACT, "the first 11 digits of geoid_block")
    if attributes is not None:
        return People(block, _known_kinds(records, attributes), np.ones(len(block), np.int64))
    years = records.age("age", OLDEST)
    flags = [records.choice(column, ("N", "Y")) for column in RACES]
    race = sum((flag << (5 - i) for i, flag in enumerate(flags)), np.zeros(len(block), np.int64))
    records.refuse(RACES[0], race == 0, "Y, or one of the other races must")
    kind = join_kind(records.choice("sex", SEXES), age_category(years), race, records.choice("hisp", ("N", "Y")))
    return People(block, kind, np.ones(len(block), np.int64))


def _known_kinds(records: TextRecords, attributes: Attributes) -> IntArray:
    """Return the kinds of people of whom the tables do not tell everything."""
    texts = pc.binary_join_element_wise(*(records.text(column) for column in COLUMNS[2:]), ",")
    words = texts.dictionary_encode()
    kinds = np.array([attributes.kind_of.get(word, -1) for word in words.dictionary.to_pylist()], np.int64)
    found: IntArray = kinds[words.indices.to_numpy(zero_copy_only=False)]
    records.refuse("sex", found < 0, "with the columns after it what this experiment's tables tell of a person")
    return found
