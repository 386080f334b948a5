"""Files of records, one a person: CSV or Parquet, read a piece at a time as text, with errors that name file, line and column."""

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dbrecon.errors import InputError, StorageError
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.csv_pieces import CsvPieces

Source = str | Path | BinaryIO | IO[bytes]

_READ_BYTES = 1 << 22
_READ_ROWS = 1 << 17
_HEAD_BYTES = 1 << 12


@dataclass(frozen=True)
class TextRecords:
    """A piece of a file: columns of text. ``line`` is that of its first record in the file (of Parquet: its row, from 1)."""

    batch: pa.RecordBatch
    name: str
    line: int
    row_word: str = "line"

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def has(self, column: str) -> bool:
        """Return whether the file has the column."""
        return column in self.batch.schema.names

    def text(self, column: str) -> pa.Array:
        """Return a column as text; a missing value is empty."""
        return self.batch.column(column)

    def refuse(self, column: str, bad: npt.NDArray[np.bool_], expected: str) -> None:
        """Raise InputError for the first bad value, if there is one."""
        if bad.any():
            row = int(np.argmax(bad))
            value = self.batch.column(column)[row].as_py()
            where = f"{self.name}, {self.row_word} {self.line + row}"
            raise InputError(f"{where}: {column} is {value!r}, but must be {expected}; correct the file.")

    def choice(self, column: str, choices: tuple[str, ...], expected: str | None = None) -> IntArray:
        """Return the position of each value among ``choices``; ``expected`` is what an error calls these."""
        found = pc.index_in(self.batch.column(column), pa.array(choices, pa.string())).fill_null(-1)
        numbers: IntArray = found.to_numpy(zero_copy_only=False).astype(np.int64)
        self.refuse(column, numbers < 0, expected or " or ".join(choices))
        return numbers

    def age(self, column: str, oldest: int) -> IntArray:
        """Whole years, at most ``oldest``."""
        values = self.batch.column(column)
        fits = pc.match_substring_regex(values, r"^[0-9]{1,3}$").to_numpy(zero_copy_only=False)
        self.refuse(column, ~fits, "a whole number of years")
        years: IntArray = pc.cast(values, pa.int64()).to_numpy(zero_copy_only=False)
        self.refuse(column, years > oldest, f"at most {oldest}")
        return years

    def geoid(self, column: str, digits: int, level: str) -> IntArray:
        """Return GEOIDs of so many digits, as numbers."""
        values = self.batch.column(column)
        fits = pc.match_substring_regex(values, rf"^[0-9]{{{digits}}}$").to_numpy(zero_copy_only=False)
        self.refuse(column, ~fits, "" if fits.all() else _geoid(values[int(np.argmin(fits))].as_py(), digits, level))
        numbers: IntArray = pc.cast(values, pa.int64()).to_numpy(zero_copy_only=False)
        return numbers


@dataclass(frozen=True)
class Form:
    """What a file of ``what`` ("people") must have: the ``required`` columns. It may have those ``optional`` ones; or, in place of
    all of these, the columns ``instead``, if it has the first of them."""

    what: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()

    def columns(self, names: Sequence[str], where: str) -> list[str]:
        """Return the columns to read of a file with these names. Raises InputError for one that is missing or twice there."""
        required, optional = self.required, self.optional
        if self.instead and self.instead[0] in names:
            required, optional = self.instead, ()
        _check_columns(names, where, required, self.what)
        return [*required, *(column for column in optional if column in names)]


def iter_records(source: Source, name: str, form: Form) -> Iterator[TextRecords]:
    """Read a file of ``form`` a piece at a time.

    CSV is told from Parquet by the first bytes, and may have ``|`` instead of commas; a path that ends in .gz is unpacked. Columns
    may come in any order; others are ignored. Raises InputError for a file that is neither, or lacks a column; StorageError if it
    cannot be read.
    """
    parquet = False
    try:
        parquet = _is_parquet(source, name, form)
        if parquet:
            yield from _parquet_records(source, name, form)
        else:
            yield from _csv_records(source, name, form)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        if parquet:
            raise InputError(f"{name}: a damaged Parquet file ({reason}); get a whole copy of it.") from error
        first = ",".join(form.required)
        raise InputError(f"{name}: not a CSV file of {form.what} ({reason}); its first line must be {first}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: is not text; a file of {form.what} begins with the line {','.join(form.required)}.") from error
    except OSError as error:
        raise StorageError(f"{name}: the {form.what} cannot be read ({error.strerror or error}); check the path.") from error


def _csv_records(source: Source, name: str, form: Form) -> Iterator[TextRecords]:
    with _opened(source) as file:
        types = dict.fromkeys((*form.required, *form.optional, *form.instead), pa.string())
        pieces = CsvPieces(file, types, _READ_BYTES, delimiters=",|")
        wanted = form.columns(pieces.names, f"{name}, line 1")
        line = 2
        for batch in pieces:
            yield TextRecords(batch.select(wanted), name, line)
            line += batch.num_rows


@contextmanager
def _opened(source: Source) -> Iterator[IO[Any]]:
    """Yield what is read; a path that ends in .gz is unpacked. Raises OSError for one that is not whole gzip."""
    if not isinstance(source, str | Path):
        yield source
        return
    opened: Any = gzip.open if str(source).endswith(".gz") else open
    try:
        with opened(source, "rb") as file:
            yield file
    except (EOFError, zlib.error) as error:
        raise OSError(f"it is not a whole gzip file: {error}") from error


def _parquet_records(source: Source, name: str, form: Form) -> Iterator[TextRecords]:
    with pq.ParquetFile(source) as file:
        wanted = form.columns(file.schema_arrow.names, name)
        row = 1
        for batch in file.iter_batches(batch_size=_READ_ROWS, columns=wanted):
            texts = [_as_text(batch.column(column), name, column) for column in wanted]
            yield TextRecords(pa.record_batch(texts, names=wanted), name, row, "row")
            row += batch.num_rows


def _as_text(values: pa.Array, name: str, column: str) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        return pc.cast(values, pa.string()).fill_null("")
    except pa.ArrowNotImplementedError as error:
        raise InputError(f"{name}: the column {column} holds {values.type}, not text; write it as text.") from error


def _check_columns(names: Sequence[str], where: str, required: Sequence[str], what: str) -> None:
    missing = [column for column in required if column not in names]
    if missing:
        columns = f"a file of {what} has the columns {','.join(required)}"
        raise InputError(f"{where}: the column {missing[0]} is missing{_why_missing(missing[0], names)}; {columns}.")
    twice = [column for column in required if names.count(column) > 1]
    if twice:
        raise InputError(f"{where}: there are two columns {twice[0]}; rename or remove the one that is not meant.")


def _why_missing(column: str, names: Sequence[str]) -> str:
    """Return a hint where it is plain what became of a column."""
    apart = {"\t": "tabulators", ";": "semicolons", "|": "bars"}
    found = next((word for mark, word in apart.items() if any(mark in name for name in names)), None)
    if found is not None:
        return f" (its fields are set apart by {found}: write it with commas)"
    alike = next((name for name in names if name.strip().lower() == column), None)
    return f" (there is {alike!r}: rename it)" if alike is not None else ""


_FORMATS = {
    b"ARROW1": "an Arrow file", b"PK\3\4": "a zip or a spreadsheet",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
    b"\x1f\x8b": "gzip, though its name does not end in .gz", b"SQLite f": "a SQLite database", b"\x89HDF": "an HDF5 file",
    b"\xff\xfe": "UTF-16 text", b"\xfe\xff": "UTF-16 text", b"<stata_d": "a Stata file", b"BZh": "bzip2", b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "zstandard", b"7z\xbc\xaf": "a 7z archive",
}  # fmt: skip
"""What files begin with that people take for CSV."""


def _is_parquet(source: Source, name: str, form: Form) -> bool:
    """Return whether a file is Parquet by its first bytes. Raises InputError for one that by them is neither that nor CSV."""
    if isinstance(source, str | Path):
        if str(source).endswith(".gz"):
            return False  # unpacked by the reader
        with open(source, "rb") as file:
            head = file.read(_HEAD_BYTES)
    elif source.seekable():
        head = source.read(_HEAD_BYTES)
        source.seek(0)
    else:
        return False
    columns = ",".join(form.required)
    for magic, kind in _FORMATS.items():
        if head.startswith(magic):
            raise InputError(f"{name}: is {kind}, not CSV; write it out as CSV or Parquet with the columns {columns}.")
    parquet = head.startswith(b"PAR1")
    if b"\0" in head and not parquet:
        raise InputError(f"{name}: not a CSV file of {form.what} (it holds a NUL, and is not text); it has the columns {columns}.")
    return parquet


_AS_TEXT = "read it as text where the file was made (pandas: dtype=str; R: colClasses='character'; a spreadsheet: import as text)"
_LOST_ZERO = f"{{digits}} digits of a {{level}}; it was read as a number and has lost its leading zero: {_AS_TEXT}"
_SPREADSHEET = f"{{digits}} digits of a {{level}}; it was read as a number: {_AS_TEXT}"


def _geoid(value: str, digits: int, level: str) -> str:
    """Return what a geoid must be, with a hint where it is plain what became of it."""
    if re.fullmatch(r"[1-9][0-9]*", value) and len(value) == digits - 1:
        return "the " + _LOST_ZERO.format(digits=digits, level=level)
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE]\+?[0-9]+)?", value) and not value.isdigit():
        return "the " + _SPREADSHEET.format(digits=digits, level=level)
    return f"the {digits} digits of a {level}"
