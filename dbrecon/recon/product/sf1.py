"""A state's Summary File 1 as published: one zip with a geographic header and numbered segments.

:class:`Sf1Zip` opens the zip from any seekable binary file and streams a member's lines, checking length and checksum. Which cells
a segment holds is data: ``config/segments_2010_sf1.csv`` (2010 SF1 technical documentation, chapter "How to use the product",
file segments). Which tables are used is read from the product's TOML file, without the matrices of ``dbrecon.recon.census.tables``.
"""

import csv
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from isal import isal_zlib

from dbrecon.errors import InputError
from dbrecon.paths import CONFIG

DEFAULT_TABLES = CONFIG / "tables_2010_sf1.toml"
DEFAULT_SEGMENTS = CONFIG / "segments_2010_sf1.csv"

READ_SIZE = 1 << 16
PIECE_SIZE = 1 << 18
_READABLE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_LOCAL_HEADER = 30
_DAMAGE: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # the package declares an instance


def header_member(stusab: str) -> str:
    """The zip's member with the geographic header."""
    return f"{stusab}geo2010.sf1"


def segment_member(stusab: str, segment: int) -> str:
    """The zip's member with a data segment."""
    return f"{stusab}{segment:05d}2010.sf1"


class Sf1Zip:
    """A state's zip. ``file`` is open, binary and seekable; ``name`` is what errors call it. The caller closes ``file``."""

    def __init__(self, file: BinaryIO, stusab: str, name: str) -> None:
        """Reads the zip's directory. Raises InputError if there is none."""
        self.stusab = stusab
        self.name = name
        self._file = file
        try:
            with zipfile.ZipFile(file) as directory:
                self._infos = {info.filename: info for info in directory.infolist()}
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise self._no_zip() from (None if isinstance(error, zipfile.BadZipFile) else error)  # which tells no more

    def _no_zip(self) -> InputError:
        self._file.seek(0)
        if self._file.read(4) == b"PK\3\4":
            return InputError(f"{self.name}: cut off, the zip's directory at its end is missing; download it again (step 0)")
        return InputError(f"{self.name}: not a zip file; download it again (step 0)")

    @property
    def members(self) -> tuple[str, ...]:
        """Names of all members, in the directory's order."""
        return tuple(self._infos)

    def size(self, member: str) -> int:
        """The member's bytes when inflated, as the directory says. Raises InputError if it is missing."""
        self.require([member])
        return self._infos[member].file_size

    def require(self, members: Iterable[str]) -> None:
        """Raises InputError if a member is not there."""
        missing = [member for member in members if member not in self._infos]
        if missing:
            what = f"member {missing[0]} is" if len(missing) == 1 else f"members {', '.join(missing)} are"
            raise InputError(f"{self.name}: {what} missing; get a complete zip (step 0)")

    def faults(self, members: Iterable[str] | None = None) -> list[str]:
        """A sentence for each of the members (all of them unless given) that is missing or damaged."""
        found = []
        for member in self.members if members is None else members:
            try:
                for _ in self.pieces(member):
                    pass
            except InputError as error:
                found.append(str(error))
        return found

    def verify(self, members: Iterable[str]) -> None:
        """Inflates the members to nowhere. Raises InputError for the first that is missing or damaged."""
        members = list(members)
        self.require(members)
        for fault in self.faults(members):
            raise InputError(fault)

    def lines(self, member: str) -> Iterator[bytes]:
        """The member's lines without their ends (``\\n``, or ``\\r\\n`` throughout). Raises InputError for damage."""
        rest, carriage_returns = b"", None
        for piece in self.pieces(member):
            if carriage_returns is None:
                carriage_returns = piece.partition(b"\n")[0].endswith(b"\r")
            if carriage_returns:
                piece = piece.replace(b"\r", b"")
            lines = (rest + piece).split(b"\n")
            rest = lines.pop()
            yield from lines
        if rest:
            yield rest

    def pieces(self, member: str) -> Iterator[bytes]:
        """The member's bytes, at most 256 KiB at a time.

        Several members can be read in turns. The last piece comes before the checksum is known to be right; InputError if it is
        not, or the member is missing, cut off, or compressed in a way that is not read.
        """
        self.require([member])
        info = self._infos[member]
        if info.compress_type not in _READABLE or info.flag_bits & 1:
            how = "encrypted" if info.flag_bits & 1 else f"compressed by method {info.compress_type}"
            raise InputError(f"{self.name}: member {member} is {how}; unzip the file and zip it again with deflate")
        size, crc = 0, 0
        try:
            for piece in self._inflate(info):
                size += len(piece)
                crc = isal_zlib.crc32(piece, crc)
                yield piece
        except (_DAMAGE, EOFError) as error:
            raise self._damaged(member, str(error)) from error
        if size != info.file_size:
            raise self._damaged(member, f"{size} bytes instead of {info.file_size}")
        if crc != info.CRC:
            raise self._damaged(member, "its checksum is wrong")

    def _damaged(self, member: str, why: str) -> InputError:
        return InputError(f"{self.name}: member {member} is damaged ({why}); download the zip again (step 0)")

    def _inflate(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        """The member's bytes. A faster inflate than the standard library's takes a third of its time here."""
        compressed = self._compressed(info)
        if info.compress_type == zipfile.ZIP_STORED:
            yield from compressed
            return
        inflater = isal_zlib.decompressobj(-15)
        for data in compressed:
            while data and not inflater.eof:
                piece = inflater.decompress(data, PIECE_SIZE)
                data = inflater.unconsumed_tail
                if piece:
                    yield piece
            while not inflater.eof and (piece := inflater.decompress(b"", PIECE_SIZE)):
                yield piece
        if not inflater.eof:
            raise EOFError("it ends too early")

    def _compressed(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or not header.startswith(b"PK\3\4"):
            raise EOFError("it does not begin where the zip's directory says")
        position = info.header_offset + _LOCAL_HEADER
        position += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        left = info.compress_size
        while left:
            self._file.seek(position)  # other members are read in between
            data = self._file.read(min(left, READ_SIZE))
            if not data:
                raise EOFError("the zip ends within it")
            position += len(data)
            left -= len(data)
            yield data


class TableSpec(NamedTuple):
    """What must be known of a table to read it: see ``dbrecon.recon.census.tables.Table``, which has the same names."""

    name: str
    prefix: str
    level: str
    segment: int
    cells: int

    @property
    def cell_names(self) -> tuple[str, ...]:
        """Names as in the technical documentation: P0010001, P012A003, PCT0120209."""
        width = 4 if self.prefix[-1].isdigit() else 3
        return tuple(f"{self.prefix}{n:0{width}d}" for n in range(1, self.cells + 1))


@lru_cache(maxsize=4)
def read_tables(path: Path = DEFAULT_TABLES) -> tuple[TableSpec, ...]:
    """The product's tables in the file's order, which is that of the county files' columns.

    Raises InputError, naming the file, if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)["table"]
        return tuple(TableSpec(t["name"], t["prefix"], t["level"], t["segment"], t["cells"]) for t in tables)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); set [sf1] tables to a table file") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    except KeyError as error:
        raise InputError(f"{path}: a table lacks its {error}") from error


class SegmentTable(NamedTuple):
    """A table's place in its segment: the number of cells before it, and its own."""

    prefix: str
    start: int
    cells: int


@lru_cache(maxsize=4)
def load_segments(path: Path = DEFAULT_SEGMENTS) -> dict[int, tuple[SegmentTable, ...]]:
    """The segments' tables in file order: CSV with ``segment,table,cells``.

    Raises InputError, naming the file, if it cannot be read.
    """
    segments: dict[int, list[SegmentTable]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                tables = segments.setdefault(int(row["segment"]), [])
                start = tables[-1].start + tables[-1].cells if tables else 0
                tables.append(SegmentTable(row["table"], start, int(row["cells"])))
    except OSError as error:
        raise InputError(f"{path}: the segments' layout cannot be read ({error.strerror}); restore the file") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a segment layout ({error}); its columns are segment,table,cells") from error
    return {segment: tuple(tables) for segment, tables in segments.items()}
