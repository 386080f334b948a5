"""An attacker's file and a truth with ids, read; an attacker's file, written.

An attacker's file has the columns ``id,geoid_block,sex,age``; a truth those of a people's file, and perhaps an ``id``, or those of
a privacy-protected microdata file. All are CSV or Parquet.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dbrecon.errors import InputError
from dbrecon.recon.census.bins import COMPARISON_BINS, AgeBins
from dbrecon.recon.census.categories import EVERY_KIND, Categories
from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, N_RH, SEXES, IntArray, age_category
from dbrecon.recon.people.people import HEADER, OLDEST
from dbrecon.recon.people.people_reader import TRUTH_FORM, block_and_kind
from dbrecon.recon.people.record_reader import Form, TextRecords, iter_records
from dbrecon.recon.risk.reidentification import Known, Records

ATTACKER_COLUMNS = ("id", "geoid_block", "sex", "age")
ATTACKER_HEADER = ",".join(ATTACKER_COLUMNS).encode() + b"\n"


class NamedFile(Protocol):
    """A file that can be opened: what errors call it, and what opens it as bytes for a ``with`` block."""

    @property
    def name(self) -> str:
        """What errors call it."""

    def open(self) -> AbstractContextManager[IO[Any]]:
        """Open it at its beginning."""


@dataclass(frozen=True)
class TrueRecords:
    """True people, one an entry, and their ids; ``ids`` is None where the files have none."""

    records: Records
    ids: pa.ChunkedArray | None


def read_truth(files: Sequence[NamedFile], bins: AgeBins = COMPARISON_BINS, categories: Categories = EVERY_KIND) -> TrueRecords:
    """Read true people with their ids; their ages are compared in ``bins``, they themselves in ``categories``.

    Raises InputError for a file that is not of the form, an empty id, an id that comes twice, and ids in some of the files alone.
    """
    blocks, sas, rhs, ids, without = [], [], [], [], []
    for file in files:
        with file.open() as opened:
            for piece in iter_records(opened, file.name, TRUTH_FORM):
                block, kind = block_and_kind(piece)
                kind = categories.standing_for(kind)
                blocks.append(block)
                sas.append(kind // N_RH)
                rhs.append(kind % N_RH)
                if piece.has("id"):
                    ids.append(_ids(piece))
                else:
                    without.append(file.name)
    if ids and without:
        raise InputError(f"{without[0]}: has no column id, but others of the truth's files have one: give it to all or to none.")
    columns = [np.concatenate([np.empty(0, np.int64), *parts]) for parts in (blocks, sas, rhs)]
    records = Records(columns[0], columns[1], columns[2], bins)
    return TrueRecords(records, _once(ids, files[0].name) if ids else None)


def read_attacker(files: Sequence[NamedFile], truth: TrueRecords) -> Known:
    """Read an attacker's files, and find each id in the truth. Raises InputError as :func:`read_truth` does."""
    blocks, sas, ids = [], [], []
    for file in files:
        with file.open() as opened:
            for piece in iter_records(opened, file.name, Form("an attacker", ATTACKER_COLUMNS)):
                block, sa = _block_and_sa(piece)
                blocks.append(block)
                sas.append(sa)
                ids.append(_ids(piece))
    block, sa = (np.concatenate([np.empty(0, np.int64), *parts]) for parts in (blocks, sas))
    records = Records(block, sa, np.full(len(block), -1, np.int64), truth.records.bins)
    own = _once(ids, files[0].name) if ids else pa.chunked_array([], pa.string())
    if truth.ids is None:
        nobody = np.full(len(block), -1, np.int64)
        return Known(records, nobody, nobody, by_id=False)
    true: IntArray = pc.index_in(own, truth.ids).fill_null(-1).to_numpy().astype(np.int64)
    return Known.of_truth(records, true, truth.records)


def _block_and_sa(piece: TextRecords) -> tuple[IntArray, IntArray]:
    age = age_category(piece.age("age", OLDEST))
    return piece.geoid("geoid_block", 15, "block"), piece.choice("sex", SEXES) * N_AGES + age


def _ids(piece: TextRecords) -> pa.Array:
    ids = piece.text("id")
    piece.refuse("id", pc.equal(ids, "").to_numpy(zero_copy_only=False), "the person's id")
    piece.refuse("id", pc.match_substring_regex(ids, r"[\r\n]").to_numpy(zero_copy_only=False), "without an end of line")
    return ids


def _once(ids: list[pa.Array], name: str) -> pa.ChunkedArray:
    """Return all ids. Raises InputError for one that comes twice."""
    everyone = pa.chunked_array(ids)
    counts = pc.value_counts(everyone)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise InputError(
            f"{name}: the id {twice[0]['values'].as_py()!r} comes {twice[0]['counts'].as_py()} times; give each person once."
        )
    return everyone


def write_attacker(known: Records, ids: Sequence[str], out: BinaryIO | IO[bytes]) -> None:
    """Write an attacker's file as CSV: one line a record, in the order given."""
    out.write(ATTACKER_HEADER)
    for lines in _lines(known, _quoted(ids)):
        out.write(lines)


def write_truth(records: Records, ids: Sequence[str], out: BinaryIO | IO[bytes], at_once: int = 1 << 16) -> None:
    """Write true people with their ids as CSV: a column ``id``, then those of a people's file; in the order given."""
    out.write(b"id," + HEADER)
    ids = _quoted(ids)
    sex, age = np.divmod(records.sa, N_AGES)
    flags = [",".join("NY"[int(bit)] for bit in f"{rh // 2 + 1:06b}{rh % 2}") for rh in range(N_RH)]
    for start in range(0, len(records), at_once):
        part = slice(start, start + at_once)
        columns = (
            ids[part],
            records.block[part].tolist(),
            sex[part].tolist(),
            FIRST_AGES[age[part]].tolist(),
            records.rh[part].tolist(),
        )
        rows = zip(*columns, strict=True)
        out.write("".join(f"{i},{b // 10_000:011d},{b:015d},{SEXES[s]},{y},{flags[rh]}\n" for i, b, s, y, rh in rows).encode())


def _quoted(ids: Sequence[str]) -> list[str]:
    """Ids as CSV has them."""
    return ['"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text for text in ids]


def _lines(known: Records, ids: Sequence[str], at_once: int = 1 << 16) -> Iterator[bytes]:
    sex, age = np.divmod(known.sa, N_AGES)
    years = FIRST_AGES[age]
    for start in range(0, len(known), at_once):
        part = slice(start, start + at_once)
        rows = zip(ids[part], known.block[part].tolist(), sex[part].tolist(), years[part].tolist(), strict=True)
        yield "".join(f"{i},{block:015d},{SEXES[s]},{year}\n" for i, block, s, year in rows).encode()
