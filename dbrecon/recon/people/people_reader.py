"""Reading people's files. Apart from writing them, since it needs pyarrow, which workers need not load.

A person file of the Census Bureau's privacy-protected microdata (PPMF) is read too: fields separated by ``|`` or commas, with
the columns ``MICRODATA_COLUMNS`` among others. Source of their codes: the writer of microdata in the Census Bureau's release of
the 2020 disclosure avoidance system, and that of its replication archive of the 2010 reconstruction.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import pyarrow.compute as pc

from dbrecon.recon.census.kinds import N_RACE_SETS, RACE_SETS_IN_ORDER, RACES, SEXES, IntArray, age_category, join_kind
from dbrecon.recon.people.attributes import NOT_TOLD, RACE_GROUP, Attributes
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, COLUMNS, OLDEST, People
from dbrecon.recon.people.record_reader import Form, TextRecords, iter_records

MICRODATA_COLUMNS = ("TABBLKST", "TABBLKCOU", "TABTRACTCE", "TABBLK", "QSEX", "QAGE", "CENHISP", "CENRACE")
PEOPLE_FORM = Form("people", COLUMNS, optional=(RACE_GROUP,), instead=MICRODATA_COLUMNS)
TRUTH_FORM = Form("people", COLUMNS, optional=("id",), instead=MICRODATA_COLUMNS)

_PLACES = (("TABBLKST", 2, "state"), ("TABBLKCOU", 3, "county"), ("TABTRACTCE", 6, "tract"), ("TABBLK", 4, "block"))
_CENRACE = (*(f"{number:02d}" for number in range(1, N_RACE_SETS + 1)), *"123456789")  # the last, where they were read as numbers


def read_people(source: str | Path | BinaryIO | IO[bytes], name: str | None = None, attributes: Attributes | None = None) -> People:
    """Read a people's file (a local path, or an open binary file; CSV or Parquet) into merged People.

    Needs the columns ``COLUMNS`` in any order, or a PPMF's; others are ignored. ``name`` is what errors call the file. A path that
    ends in .gz is unpacked. Takes some 50 bytes of memory a person; for a file of many counties there is :func:`iter_people`.
    ``attributes``: what the file's tables tell of people, if that is not everything.

    Raises InputError with file and line for a column or value that is not of the form, StorageError if it cannot be read.
    """
    return People.concatenate(list(iter_people(source, name, attributes))).merged()


def iter_people(
    source: str | Path | BinaryIO | IO[bytes], name: str | None = None, attributes: Attributes | None = None
) -> Iterator[People]:
    """As :func:`read_people`, a piece of the file at a time and not merged: one entry a line, in the file's order."""
    name = name or (str(source) if isinstance(source, str | Path) else str(getattr(source, "name", "people")))
    for records in iter_records(source, name, PEOPLE_FORM):
        yield _people_of(records, attributes)


def _people_of(records: TextRecords, attributes: Attributes | None) -> People:
    if attributes is None or records.has(MICRODATA_COLUMNS[0]):
        block, kind = block_and_kind(records)
    else:
        block, kind = _blocks(records), _known_kinds(records, attributes)
    return People(block, kind, np.ones(len(block), np.int64))


def block_and_kind(records: TextRecords) -> tuple[IntArray, IntArray]:
    """Return the block (15 digits as a number) and the kind of each person of a piece. Raises InputError for what is none."""
    if records.has(MICRODATA_COLUMNS[0]):
        return _microdata(records)
    block, years = _blocks(records), records.age("age", OLDEST)
    flags = [records.choice(column, ("N", "Y")) for column in RACES]
    race = sum((flag << (5 - i) for i, flag in enumerate(flags)), np.zeros(len(block), np.int64))
    records.refuse(RACES[0], race == 0, "Y, or one of the other races must")
    return block, join_kind(records.choice("sex", SEXES), age_category(years), race, records.choice("hisp", ("N", "Y")))


def block_and_untold(records: TextRecords) -> tuple[IntArray, dict[str, int]]:
    """Return the block of each person of a piece, and of how many each column says that no table tells it.

    Raises InputError for a value that is neither that nor one of a person.
    """
    untold = untold_in(records)
    if not any(untold.values()):
        return block_and_kind(records)[0], untold
    for column, words in (("sex", SEXES), *((flag, ("N", "Y")) for flag in (*RACES, "hisp"))):
        records.choice(column, (*words, NOT_TOLD))
    if not untold["age"]:
        records.age("age", OLDEST)
    return _blocks(records), untold


def untold_in(records: TextRecords) -> dict[str, int]:
    """Return of how many people of a piece each column says that no table tells it."""
    if records.has(MICRODATA_COLUMNS[0]):
        return {}
    columns = [*COLUMNS[2:], *([RACE_GROUP] if records.has(RACE_GROUP) else [])]
    return {column: pc.sum(pc.equal(records.text(column), NOT_TOLD)).as_py() or 0 for column in columns}


def _blocks(records: TextRecords) -> IntArray:
    block, tract = records.geoid("geoid_block", 15, "block"), records.geoid("geoid_tract", 11, "tract")
    records.refuse("geoid_tract", tract != block // BLOCKS_PER_TRACT, "the first 11 digits of geoid_block")
    return block


def _microdata(records: TextRecords) -> tuple[IntArray, IntArray]:
    """:func:`block_and_kind` of a PPMF's records."""
    block = np.zeros(len(records), np.int64)
    for column, digits, level in _PLACES:
        block = block * 10**digits + records.geoid(column, digits, level)
    race = np.array(RACE_SETS_IN_ORDER, np.int64)[records.choice("CENRACE", _CENRACE, "one of 01 to 63") % N_RACE_SETS]
    sex, hisp = records.choice("QSEX", ("1", "2")), records.choice("CENHISP", ("1", "2"))
    return block, join_kind(sex, age_category(records.age("QAGE", OLDEST)), race, hisp)


def _known_kinds(records: TextRecords, attributes: Attributes) -> IntArray:
    """Return the kinds of people of whom the tables do not tell everything."""
    texts = pc.binary_join_element_wise(*(records.text(column) for column in COLUMNS[2:]), ",")
    words = texts.dictionary_encode()
    kinds = np.array([attributes.kind_of.get(word, -1) for word in words.dictionary.to_pylist()], np.int64)
    found: IntArray = kinds[words.indices.to_numpy(zero_copy_only=False)]
    records.refuse("sex", found < 0, "with the columns after it what this experiment's tables tell of a person")
    return found
