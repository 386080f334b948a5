"""People of a county: counts of kinds of person by block, and the CSV file that lists them one a line.

The file's columns are ``COLUMNS``; one line a person, in a fixed order: block, male before female, age, then race and Hispanic
origin with Y before N, column by column. Ages are whole years, those of 100 and over the first age of their category.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, N_KINDS, N_RH, RACES, SEXES, IntArray, split_kind
from dbrecon.recon.people.attributes import RACE_GROUP, Attributes

COLUMNS = ("geoid_tract", "geoid_block", "sex", "age", *RACES, "hisp")
HEADER = ",".join(COLUMNS).encode() + b"\n"
BLOCKS_PER_TRACT = 10_000
OLDEST = 130
"""Ages above this are taken for an error; no table knows one above 110."""

_ROWS_AT_ONCE = 1 << 17


class _Counted:
    """Entries of so many people of a block each."""

    geoid_block: IntArray
    count: IntArray

    @property
    def population(self) -> int:
        """How many people these are."""
        return int(self.count.sum())

    @property
    def geoid_tract(self) -> IntArray:
        """The 11-digit tract of each entry, as a number."""
        return self.geoid_block // BLOCKS_PER_TRACT


@dataclass(frozen=True)
class People(_Counted):
    """``count[i]`` people of kind ``kind[i]`` (see :mod:`dbrecon.recon.census.kinds`) live in block ``geoid_block[i]``.

    ``geoid_block`` is the 15-digit id as a number (its leading zero comes back in text). Three int64 arrays of one length.
    """

    geoid_block: IntArray
    kind: IntArray
    count: IntArray

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return all entries of ``parts``, in their order."""
        empty = [np.empty(0, np.int64)]
        return cls(
            np.concatenate(empty + [part.geoid_block for part in parts]),
            np.concatenate(empty + [part.kind for part in parts]),
            np.concatenate(empty + [part.count for part in parts]),
        )

    def select(self, chosen: npt.NDArray[np.bool_]) -> Self:
        """Return the entries that ``chosen`` (one bool an entry) marks."""
        return type(self)(self.geoid_block[chosen], self.kind[chosen], self.count[chosen])

    def merged(self) -> Self:
        """Return the same people in the file's order, each (block, kind) once, without counts of 0."""
        first = int(self.geoid_block.min()) if len(self.geoid_block) else 0
        number, blocks = self.geoid_block - first, None
        # Blocks of one state span less than 10^13, times 25,956 kinds: within an int64. Those of states far apart are not.
        if number.max(initial=0) >= np.iinfo(np.int64).max // N_KINDS:
            blocks, number = np.unique(self.geoid_block, return_inverse=True)
        key = number * N_KINDS + _file_order(self.kind)
        unique, inverse = np.unique(key, return_inverse=True)
        count = np.zeros(len(unique), np.int64)
        np.add.at(count, inverse, self.count)
        unique, count = unique[count != 0], count[count != 0]
        block, order = np.divmod(unique, N_KINDS)
        return type(self)(block + first if blocks is None else blocks[block], _file_order(order), count)


@dataclass(frozen=True)
class BinnedPeople(_Counted):
    """People whose ages are known as intervals: ``count[i]`` of ``kind[i]`` live in block ``geoid_block[i]``, save that each may be
    of any age category from the kind's to ``last[i]``. Four int64 arrays of one length."""

    geoid_block: IntArray
    kind: IntArray
    last: IntArray
    count: IntArray

    @property
    def age(self) -> IntArray:
        """The first age category of each entry."""
        return self.kind // N_RH % N_AGES

    @property
    def exact(self) -> npt.NDArray[np.bool_]:
        """Which entries are of one age category."""
        exact: npt.NDArray[np.bool_] = self.last == self.age
        return exact

    def select(self, chosen: npt.NDArray[np.bool_]) -> "BinnedPeople":
        """Return the entries that ``chosen`` (one bool an entry) marks."""
        return BinnedPeople(self.geoid_block[chosen], self.kind[chosen], self.last[chosen], self.count[chosen])

    def order(self) -> IntArray:
        """Return the entries' numbers in the order of the people's file, narrower intervals first."""
        return np.lexsort((self.last, _file_order(self.kind), self.geoid_block))

    def merged(self) -> "BinnedPeople":
        """Return the same people in that order, each (block, kind, interval) once, without counts of 0."""
        order = self.order()
        order = order[self.count[order] != 0]
        block, kind, last, count = (values[order] for values in (self.geoid_block, self.kind, self.last, self.count))
        new = np.ones(len(order), bool)
        new[1:] = (block[1:] != block[:-1]) | (kind[1:] != kind[:-1]) | (last[1:] != last[:-1])
        starts = np.flatnonzero(new)
        return BinnedPeople(block[starts], kind[starts], last[starts], np.add.reduceat(count, starts) if len(starts) else count)


def _file_order(kind: IntArray) -> IntArray:
    """Return the rank of each kind within a block in the people's file. Its own inverse."""
    sex_and_age, race_and_origin = np.divmod(kind, N_RH)
    orders: IntArray = sex_and_age * N_RH + (N_RH - 1 - race_and_origin)
    return orders


def digits(values: IntArray, width: int) -> npt.NDArray[np.uint8]:
    """Return (n, width) the decimal digits of non-negative numbers as ASCII, with leading zeros."""
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    return (values[:, None] // powers % 10 + ord("0")).astype(np.uint8)


def header_of(attributes: Attributes | None) -> bytes:
    """Return the first line of a people's file whose tables tell ``attributes``: ``HEADER``, or that with the column of groups."""
    return HEADER if attributes is None or not attributes.groups else HEADER[:-1] + f",{RACE_GROUP}\n".encode()


def people_csv(people: People) -> bytes:
    """Return the people's file, header included, as bytes."""
    out = io.BytesIO()
    write_people(people, out)
    return out.getvalue()


def write_people(people: People, out: BinaryIO | IO[bytes]) -> int:
    """Write the file's header and one line a person, in the file's order; return the number of people.

    ``people`` may be in any order and hold a (block, kind) several times.
    """
    out.write(HEADER)
    return write_rows(people, out)


def write_rows(people: People, out: BinaryIO | IO[bytes], attributes: Attributes | None = None) -> int:
    """As :func:`write_people`, without the header. Tracts written one after the other, ascending, make their county's file.

    ``attributes``: what the tables tell of people, if that is not everything.
    """
    if attributes is not None:
        people = People(people.geoid_block, attributes.kind[people.kind], people.count)
    merged = people.merged()
    for lines in _chunks_of_lines(merged, attributes):
        out.write(lines)
    return merged.population


def _chunks_of_lines(merged: People, attributes: Attributes | None) -> Iterator[bytes]:
    blocks, block_number = np.unique(merged.geoid_block, return_inverse=True)
    kinds, kind_number = np.unique(merged.kind, return_inverse=True)
    heads = _heads(blocks)
    tails, used = _tails(kinds, attributes)
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
    """Return (blocks, 28) the first two columns: tract, block, each with its comma."""
    text = digits(blocks, 15)
    comma = np.full((len(blocks), 1), ord(","), np.uint8)
    return np.hstack([text[:, :11], comma, text, comma])


def _tails(kinds: IntArray, attributes: Attributes | None) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return (kinds, width) the other columns of each kind, padded, and a mask of what isn't padding."""
    sex, age, race, hisp = split_kind(kinds)
    lines = []
    for s, a, r, h in zip(sex.tolist(), FIRST_AGES[age].tolist(), race.tolist(), hisp.tolist(), strict=True):
        flags = ",".join("NY"[int(bit)] for bit in f"{r:06b}{h}")
        lines.append(f"{SEXES[s]},{a},{flags}\n".encode())
    if attributes is not None:
        lines = [f"{attributes.line(kind)}\n".encode() for kind in kinds.tolist()]
    width = max(map(len, lines), default=0)
    text = np.frombuffer(b"".join(line.ljust(width, b"\0") for line in lines), np.uint8).reshape(len(lines), width)
    return text, text != 0
