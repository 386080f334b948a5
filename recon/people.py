"""People of a county: counts of kinds of person by block, and the CSV file that lists them one a line.

The file's columns are ``COLUMNS``; one line a person, in a fixed order: block, male before female, age, then race and Hispanic
origin with Y before N, column by column. Ages are whole years, those of 100 and over the first age of their category.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from dbrerrors import InputError, StorageError
from recon.kinds import FIRST_AGES, N_KINDS, N_RH, RACES, SEXES, IntArray, age_category, join_kind, split_kind

COLUMNS = ("geoid_tract", "geoid_block", "sex", "age", *RACES, "hisp")
HEADER = ",".join(COLUMNS).encode() + b"\n"
BLOCKS_PER_TRACT = 10_000
OLDEST = 130
"""Ages above this are taken for an error; no table knows one above 110."""

_ROWS_AT_ONCE = 1 << 17
_READ_BYTES = 1 << 22


@dataclass(frozen=True)
class People:
    """``count[i]`` people of kind ``kind[i]`` (see :mod:`recon.kinds`) live in block ``geoid_block[i]``.

    ``geoid_block`` is the 15-digit id as a number (its leading zero comes back in text). Three int64 arrays of one length.
    """

    geoid_block: IntArray
    kind: IntArray
    count: IntArray

    @property
    def population(self) -> int:
        """How many people these are."""
        return int(self.count.sum())

    @property
    def geoid_tract(self) -> IntArray:
        """The 11-digit tract of each entry, as a number."""
        return self.geoid_block // BLOCKS_PER_TRACT

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """All entries of ``parts``, in their order."""
        empty = [np.empty(0, np.int64)]
        return cls(
            np.concatenate(empty + [part.geoid_block for part in parts]),
            np.concatenate(empty + [part.kind for part in parts]),
            np.concatenate(empty + [part.count for part in parts]),
        )

    def select(self, chosen: npt.NDArray[np.bool_]) -> Self:
        """The entries that ``chosen`` (one bool an entry) marks."""
        return type(self)(self.geoid_block[chosen], self.kind[chosen], self.count[chosen])

    def merged(self) -> Self:
        """The same people in the file's order, each (block, kind) once, without counts of 0."""
        first = int(self.geoid_block.min()) if len(self.geoid_block) else 0
        # Blocks of one state span less than 10^13, times 25,956 kinds: within an int64. Those of all states would not be.
        if len(self.geoid_block) and int(self.geoid_block.max()) - first >= np.iinfo(np.int64).max // N_KINDS:
            raise ValueError("people of so many states cannot be merged at once")
        key = (self.geoid_block - first) * N_KINDS + _file_order(self.kind)
        unique, inverse = np.unique(key, return_inverse=True)
        count = np.zeros(len(unique), np.int64)
        np.add.at(count, inverse, self.count)
        unique, count = unique[count != 0], count[count != 0]
        block, order = np.divmod(unique, N_KINDS)
        return type(self)(block + first, _file_order(order), count)


def _file_order(kind: IntArray) -> IntArray:
    """The rank of each kind within a block in the people's file. Its own inverse."""
    sex_and_age, race_and_origin = np.divmod(kind, N_RH)
    return sex_and_age * N_RH + (N_RH - 1 - race_and_origin)


def digits(values: IntArray, width: int) -> npt.NDArray[np.uint8]:
    """(n, width) the decimal digits of non-negative numbers as ASCII, with leading zeros."""
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    return (values[:, None] // powers % 10 + ord("0")).astype(np.uint8)


def people_csv(people: People) -> bytes:
    """The people's file, header included, as bytes."""
    out = io.BytesIO()
    write_people(people, out)
    return out.getvalue()


def write_people(people: People, out: BinaryIO | IO[bytes]) -> int:
    """Write the file's header and one line a person, in the file's order; return the number of people.

    ``people`` may be in any order and hold a (block, kind) several times.
    """
    out.write(HEADER)
    return write_rows(people, out)


def write_rows(people: People, out: BinaryIO | IO[bytes]) -> int:
    """As :func:`write_people`, without the header. Tracts written one after the other, ascending, make their county's file."""
    merged = people.merged()
    for lines in _chunks_of_lines(merged):
        out.write(lines)
    return merged.population


def _chunks_of_lines(merged: People) -> Iterator[bytes]:
    blocks, block_number = np.unique(merged.geoid_block, return_inverse=True)
    kinds, kind_number = np.unique(merged.kind, return_inverse=True)
    heads = _heads(blocks)
    tails, used = _tails(kinds)
    width = heads.shape[1]
    ends = np.cumsum(merged.count)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, total))
        entry = np.searchsorted(ends, rows, side="right")
        text = np.empty((len(rows), width + tails.shape[1]), np.uint8)
        kept = np.ones(text.shape, bool)
        text[:, :width] = heads[block_number[entry]]
        text[:, width:] = tails[kind_number[entry]]
        kept[:, width:] = used[kind_number[entry]]
        yield text[kept].tobytes()


def _heads(blocks: IntArray) -> npt.NDArray[np.uint8]:
    """(blocks, 28) the first two columns: tract, block, each with its comma."""
    text = digits(blocks, 15)
    comma = np.full((len(blocks), 1), ord(","), np.uint8)
    return np.hstack([text[:, :11], comma, text, comma])


def _tails(kinds: IntArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """(kinds, width) the other columns of each kind, padded, and a mask of what isn't padding."""
    sex, age, race, hisp = split_kind(kinds)
    lines = []
    for s, a, r, h in zip(sex.tolist(), FIRST_AGES[age].tolist(), race.tolist(), hisp.tolist(), strict=True):
        flags = ",".join("NY"[int(bit)] for bit in f"{r:06b}{h}")
        lines.append(f"{SEXES[s]},{a},{flags}\n".encode())
    width = max(map(len, lines), default=0)
    text = np.frombuffer(b"".join(line.ljust(width, b"\0") for line in lines), np.uint8).reshape(len(lines), width)
    return text, text != 0


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


def _people_of(batch: pa.RecordBatch, name: str, line: int) -> People:
    def refuse(column: str, bad: npt.NDArray[np.bool_], expected: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            value = batch.column(column)[row].as_py()
            raise InputError(f"{name}, line {line + row}: {column} is {value!r}, but must be {expected}; correct the file.")

    def choice(column: str, choices: tuple[str, ...]) -> IntArray:
        found = pc.index_in(batch.column(column), pa.array(choices, pa.string())).fill_null(-1)
        numbers = found.to_numpy(zero_copy_only=False).astype(np.int64)
        refuse(column, numbers < 0, " or ".join(choices))
        return numbers

    def number(column: str, pattern: str, expected: str) -> IntArray:
        fits = pc.match_substring_regex(batch.column(column), pattern).to_numpy(zero_copy_only=False)
        refuse(column, ~fits, expected)
        return pc.cast(batch.column(column), pa.int64()).to_numpy(zero_copy_only=False)

    block = number("geoid_block", r"^[0-9]{15}$", "the 15 digits of a block")
    tract = number("geoid_tract", r"^[0-9]{11}$", "the 11 digits of a tract")
    refuse("geoid_tract", tract != block // BLOCKS_PER_TRACT, "the first 11 digits of geoid_block")
    years = number("age", r"^[0-9]{1,3}$", "a whole number of years")
    refuse("age", years > OLDEST, f"at most {OLDEST}")
    race = sum((choice(column, ("N", "Y")) << (5 - i) for i, column in enumerate(RACES)), np.zeros(len(block), np.int64))
    refuse(RACES[0], race == 0, "Y, or one of the other races must")
    kind = join_kind(choice("sex", SEXES), age_category(years), race, choice("hisp", ("N", "Y")))
    return People(block, kind, np.ones(len(block), np.int64))
