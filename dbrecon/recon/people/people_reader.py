"""Reading people's files. Apart from writing them, since it needs pyarrow, which workers need not load."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from dbrecon.errors import InputError, StorageError
from dbrecon.recon.census.kinds import RACES, SEXES, IntArray, age_category, join_kind
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, COLUMNS, OLDEST, People

_READ_BYTES = 1 << 22


def read_people(source: str | Path | BinaryIO | IO[bytes], name: str | None = None) -> People:
    """Read a people's file (a local path, or an open binary file) into merged People.

    Needs the columns ``COLUMNS`` in any order; others are ignored. ``name`` is what errors call the file. A path that ends
    in .gz is unpacked. Takes some 50 bytes of memory a person; for a file of many counties there is :func:`iter_people`.

    Raises InputError with file and line for a column or value that is not of the form, StorageError if it cannot be read.
    """
    return People.concatenate(list(iter_people(source, name))).merged()


def iter_people(source: str | Path | BinaryIO | IO[bytes], name: str | None = None) -> Iterator[People]:
    """As :func:`read_people`, a piece of the file at a time and not merged: one entry a line, in the file's order."""
    name = name or (str(source) if isinstance(source, str | Path) else str(getattr(source, "name", "people")))
    line = 2
    try:
        _refuse_other_formats(source, name)
        reader = pacsv.open_csv(
            source,
            read_options=pacsv.ReadOptions(block_size=_READ_BYTES),
            parse_options=pacsv.ParseOptions(newlines_in_values=False, ignore_empty_lines=False),
            convert_options=pacsv.ConvertOptions(
                column_types={column: pa.string() for column in COLUMNS}, strings_can_be_null=False, null_values=[]
            ),
        )
        names = reader.schema.names
        missing = [column for column in COLUMNS if column not in names]
        if missing:
            raise InputError(
                f"{name}, line 1: the column {missing[0]} is missing; a file of people has the columns {','.join(COLUMNS)}."
            )
        for batch in reader:
            yield _people_of(batch, name, line)
            line += batch.num_rows
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: not a CSV file of people ({reason}); its first line must be {','.join(COLUMNS)}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: is not text; a file of people begins with the line {','.join(COLUMNS)}.") from error
    except OSError as error:
        raise StorageError(f"{name}: the people cannot be read ({error.strerror or error}); check the path.") from error


_FORMATS = {
    b"PAR1": "a Parquet file", b"ARROW1": "an Arrow file", b"PK\3\4": "a zip or a spreadsheet",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
    b"\x1f\x8b": "gzip, though its name does not end in .gz", b"SQLite f": "a SQLite database", b"\x89HDF": "an HDF5 file",
    b"\xff\xfe": "UTF-16 text", b"\xfe\xff": "UTF-16 text", b"<stata_d": "a Stata file", b"BZh": "bzip2", b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "zstandard", b"7z\xbc\xaf": "a 7z archive",
}  # fmt: skip
"""What files begin with that people take for CSV."""


def _refuse_other_formats(source: str | Path | BinaryIO | IO[bytes], name: str) -> None:
    """Raises InputError for a file that by its first bytes is no CSV."""
    if isinstance(source, str | Path):
        if str(source).endswith(".gz"):
            return  # unpacked by the reader
        with open(source, "rb") as file:
            head = file.read(8)
    elif source.seekable():
        head = source.read(8)
        source.seek(0)
    else:
        return
    for magic, what in _FORMATS.items():
        if head.startswith(magic):
            raise InputError(f"{name}: is {what}, not CSV; write it out as CSV with the columns {','.join(COLUMNS)}.")


_LOST_ZERO = "{digits} digits of a {level}; it has lost its leading zero, as in spreadsheets: write 0 before it"
_SPREADSHEET = "{digits} digits of a {level}; a spreadsheet has made a number of it: have it written as text"


def _geoid(value: str, digits: int, level: str) -> str:
    """What a geoid must be, with a hint where it is plain what became of it."""
    if re.fullmatch(r"[1-9][0-9]*", value) and len(value) == digits - 1:
        return "the " + _LOST_ZERO.format(digits=digits, level=level)
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE]\+?[0-9]+)?", value) and not value.isdigit():
        return "the " + _SPREADSHEET.format(digits=digits, level=level)
    return f"the {digits} digits of a {level}"


def _people_of(batch: pa.RecordBatch, name: str, line: int) -> People:
    def refuse(column: str, bad: npt.NDArray[np.bool_], expected: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            value = batch.column(column)[row].as_py()
            raise InputError(f"{name}, line {line + row}: {column} is {value!r}, but must be {expected}; correct the file.")

    def choice(column: str, choices: tuple[str, ...]) -> IntArray:
        found = pc.index_in(batch.column(column), pa.array(choices, pa.string())).fill_null(-1)
        numbers: IntArray = found.to_numpy(zero_copy_only=False).astype(np.int64)
        refuse(column, numbers < 0, " or ".join(choices))
        return numbers

    def number(column: str, pattern: str, expected: str) -> IntArray:
        fits = pc.match_substring_regex(batch.column(column), pattern).to_numpy(zero_copy_only=False)
        refuse(column, ~fits, expected)
        numbers: IntArray = pc.cast(batch.column(column), pa.int64()).to_numpy(zero_copy_only=False)
        return numbers

    def geoid(level: str, digits: int) -> IntArray:
        values = batch.column(f"geoid_{level}")
        fits = pc.match_substring_regex(values, rf"^[0-9]{{{digits}}}$").to_numpy(zero_copy_only=False)
        refuse(f"geoid_{level}", ~fits, "" if fits.all() else _geoid(values[int(np.argmin(fits))].as_py(), digits, level))
        numbers: IntArray = pc.cast(values, pa.int64()).to_numpy(zero_copy_only=False)
        return numbers

    block, tract = geoid("block", 15), geoid("tract", 11)
    refuse("geoid_tract", tract != block // BLOCKS_PER_TRACT, "the first 11 digits of geoid_block")
    years = number("age", r"^[0-9]{1,3}$", "a whole number of years")
    refuse("age", years > OLDEST, f"at most {OLDEST}")
    race = sum((choice(column, ("N", "Y")) << (5 - i) for i, column in enumerate(RACES)), np.zeros(len(block), np.int64))
    refuse(RACES[0], race == 0, "Y, or one of the other races must")
    kind = join_kind(choice("sex", SEXES), age_category(years), race, choice("hisp", ("N", "Y")))
    return People(block, kind, np.ones(len(block), np.int64))
