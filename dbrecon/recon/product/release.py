"""A release: how a census's published tables lie in files. A folder of data, ``config/products/NAME`` or one of somebody's own.

``product.toml`` names the zip, its members and their shape, ``header.csv`` the fields of the geographic header, ``segments.csv``
which tables a segment holds, ``tables.toml`` what their cells count. Two shapes of file are known, fixed width and separated;
nothing else of a release is in the code.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from string import Formatter
from typing import Any, BinaryIO, NamedTuple

from dbrecon.errors import InputError, UsageError
from dbrecon.paths import CONFIG
from dbrecon.recon.census.cell_names import cell_names
from dbrecon.recon.census.geography import COUNTY_LEVEL, STATE_LEVEL, TRACT_LEVEL, HeaderLayout, load_header_layout
from dbrecon.recon.census.table_keys import check_spec
from dbrecon.recon.definition_files import check_file, read_toml
from dbrecon.recon.product.archive import Archive

PRODUCTS = CONFIG / "products"
DEFAULT_RELEASE = "sf1_2010"
FIXED, SEPARATED = "fixed", "separated"
SHAPE_YEARS = (2010, 2020)
"""Censuses whose counties maps can show."""
_ANY_HEADER = re.compile(r"([a-z]{2})geo(\d{4})\.(\w+)")


class TableSpec(NamedTuple):
    """What must be known of a table to read it: see ``dbrecon.recon.census.tables.Table``, which has the same names.

    ``rounds``, ``withholds``: whether cells are rounded, small ones withheld.
    """

    name: str
    prefix: str
    level: str
    segment: int
    cells: int
    rounds: bool = False
    withholds: bool = False

    @property
    def cell_names(self) -> tuple[str, ...]:
        """Names as in the technical documentation: P0010001, P012A003, P012AA03, PCT0120209."""
        return cell_names(self.prefix, self.cells)


def _inexact(table: Mapping[str, Any]) -> dict[str, Any]:
    return {"rounds": table.get("rounded_to", 1) != 1, "withholds": bool(table.get("suppressed_below"))}


class SegmentTable(NamedTuple):
    """A table's place in its segment: the number of cells before it, and its own; of fixed width, the characters of each."""

    prefix: str
    start: int
    cells: int
    width: int = 0


@dataclass(frozen=True)
class Release:
    """A product's files. ``name`` is what ``--product`` takes; ``product`` is what LP files and the database call it.

    ``county_shapes`` is the census of whose year maps show the counties; ``header_whole`` are the header's fields that tell a whole
    unit from its parts; ``begin`` is what a segment's lines begin with, before LOGRECNO; ``sorted_by_level``: files have all
    counties, then all tracts, then all blocks; ``every_record``: segments with block tables have a line for every record of the
    header; ``withheld`` is what stands in the place of a cell that is not published. ``separator`` stands between the cells of a
    segment; of those of fixed width, between cells once they are cut.
    """

    folder: Path
    name: str
    product: str
    title: str
    year: int
    county_shapes: int
    prefix: str
    county_files: str
    source: str
    zip_name: str
    url: str
    header_name: str
    header_shape: str
    header_separator: str
    encodings: tuple[str, ...]
    file_id: str
    header_whole: Mapping[str, str]
    block_levels: tuple[str, ...]
    sorted_by_level: bool
    segment_name: str
    segment_shape: str
    separator: bytes
    begin: str
    every_record: bool
    withheld: bytes = b""

    @property
    def tables_path(self) -> Path:
        """What each cell of each table counts."""
        return self.folder / "tables.toml"

    def zip_of(self, stusab: str) -> str:
        """Return the name of a state's zip."""
        return self.zip_name.format(st=stusab, ST=stusab.upper())

    def header_member(self, stusab: str) -> str:
        """Return the zip's member with the geographic header."""
        return self.header_name.format(st=stusab, ST=stusab.upper())

    def segment_member(self, stusab: str, segment: int) -> str:
        """Return the zip's member with a data segment."""
        return self.segment_name.format(st=stusab, ST=stusab.upper(), segment=segment)

    def line_head(self, stusab: str, segment: int) -> bytes:
        """Return what every line of a segment begins with, before its LOGRECNO."""
        return self.begin.format(st=stusab, ST=stusab.upper(), segment=segment).encode()

    @cached_property
    def tables(self) -> tuple[TableSpec, ...]:
        """The tables in the file's order, which is that of the county files' columns. Raises InputError."""
        spec = read_toml(self.tables_path)
        check_spec(spec, str(self.tables_path))
        names = ("name", "prefix", "level", "segment", "cells")
        return tuple(TableSpec(*(t[name] for name in names))._replace(**_inexact(t)) for t in spec["table"])

    @cached_property
    def segments(self) -> dict[int, tuple[SegmentTable, ...]]:
        """The segments' tables in file order. Raises InputError."""
        return load_segments(self.folder / "segments.csv", fixed=self.segment_shape == FIXED)

    @cached_property
    def header(self) -> HeaderLayout:
        """The layout of the geographic header. Raises InputError."""
        return load_header_layout(
            self.folder / "header.csv",
            separator=self.header_separator.encode() if self.header_shape == SEPARATED else None,
            encodings=self.encodings,
            file_id=self.file_id,
            whole=tuple(sorted(self.header_whole.items())),
            block_levels=self.block_levels,
        )


class StateZip(Archive):
    """A state's zip of a release."""

    def __init__(self, file: BinaryIO, release: Release, stusab: str, name: str) -> None:
        """Read the zip's directory. Raises InputError if there is none."""
        super().__init__(file, name)
        self.release = release
        self.stusab = stusab

    @property
    def header(self) -> str:
        """The member with the geographic header."""
        return self.release.header_member(self.stusab)

    def require(self, members: Iterable[str]) -> None:
        """Raise InputError if a member is not there; it says so if the zip is another state's, or of another release."""
        if not self.has(self.header):
            self._name_other()
        super().require(members)

    def _name_other(self) -> None:
        """Raise InputError if the header that is there is another state's, or another release's."""
        wanted = self.release.zip_of(self.stusab)
        for member in self.members:
            base = member.lower().rsplit("/", 1)[-1]
            found = _ANY_HEADER.fullmatch(base)
            if found is None:
                continue
            other = found[1]
            if base == self.release.header_member(other):
                raise InputError(
                    f"{self.name}: holds {member}: it is the zip of {other.upper()}, not of {self.stusab.upper()}; "
                    f"rename it to {self.release.zip_of(other)}, and get {self.stusab.upper()}'s (step 0)"
                )
            raise InputError(
                f"{self.name}: holds {member}: it is of {_release_named(base)}, not of the {self.release.title}; "
                f"get {wanted} (step 0)"
            )


def _release_named(header: str) -> str:
    """Return what a header's name tells of the release that it is of."""
    found = _ANY_HEADER.fullmatch(header)
    if found is None:
        return "another release"
    for name in shipped():
        release = load_release(name)
        if release.header_member(found[1]) == header:
            return f"the {release.title}"
    return "the Urban/Rural Update" if found[3].startswith("ur") else "another release"


def shipped() -> list[str]:
    """Return the names of the products that come with the program."""
    return sorted(path.parent.name for path in PRODUCTS.glob("*/product.toml"))


def release_of_zip(name: str, stusab: str) -> Release:
    """Return the shipped release whose zip of the state has that name. Raises InputError if none has."""
    for which in shipped():
        if load_release(which).zip_of(stusab) == name:
            return load_release(which)
    known = ", ".join(load_release(which).zip_of("ri") for which in shipped())
    raise InputError(f"{name}: no name of a state's zip; they are such as {known}")


@lru_cache(maxsize=16)
def load_release(which: str = DEFAULT_RELEASE) -> Release:
    """Return the release of that name, of that product (as the database has it), or in that folder.

    Raises UsageError if there is none, InputError for a folder whose product.toml is none.
    """
    names = shipped()
    if which in names:
        return _read(PRODUCTS / which)
    for name in names:
        if read_toml(PRODUCTS / name / "product.toml").get("product") == which:
            return _read(PRODUCTS / name)
    if (Path(which) / "product.toml").is_file():
        return _read(Path(which))
    raise UsageError(
        f"{which}: no product, and no folder with a product.toml; those that come with the program: {', '.join(names)}"
    )


def _read(folder: Path) -> Release:
    path = folder / "product.toml"
    spec = read_toml(path)
    _check_keys(spec, path)
    try:
        header, segments = spec["header"], spec["segments"]
        release = Release(
            folder=folder,
            name=folder.name,
            product=spec["product"],
            title=spec["title"],
            year=spec["year"],
            county_shapes=spec.get("county_shapes", max((y for y in SHAPE_YEARS if y <= spec["year"]), default=SHAPE_YEARS[0])),
            prefix=spec["prefix"],
            county_files=spec["county_files"],
            source=spec["source"],
            zip_name=spec["zip"]["name"],
            url=spec["zip"]["url"],
            header_name=header["member"],
            header_shape=header["shape"],
            header_separator=header.get("separator", ""),
            encodings=tuple(header["encodings"]),
            file_id=header["file_id"],
            header_whole=header["whole"],
            block_levels=tuple(header["block_levels"]),
            sorted_by_level=header.get("sorted_by_level", False),
            segment_name=segments["member"],
            segment_shape=segments.get("shape", SEPARATED),
            separator=segments.get("separator", "").encode(),
            begin=segments["begin"],
            every_record=segments["every_record"],
            withheld=segments.get("withheld", "-1").encode(),
        )
    except KeyError as error:
        raise InputError(
            f"{path}: lacks {error}; config/products/{DEFAULT_RELEASE}/product.toml shows what there must be"
        ) from None
    _check(release, path)
    return replace(release, separator=_CELLS_CUT) if release.segment_shape == FIXED else release


_CELLS_CUT = b"\x1f"  # ASCII's unit separator, which no cell has


_KEYS: dict[str, frozenset[str]] = {
    "": frozenset({"product", "title", "year", "county_shapes", "prefix", "county_files", "source", "zip", "header", "segments"}),
    "zip": frozenset({"name", "url"}),
    "header": frozenset({"member", "shape", "separator", "encodings", "file_id", "whole", "block_levels", "sorted_by_level"}),
    "segments": frozenset({"member", "shape", "separator", "begin", "every_record", "withheld"}),
}
_FLAGS = {"sorted_by_level", "every_record"}
_LISTS = {"encodings", "block_levels"}


def _check_keys(spec: Mapping[str, Any], path: Path) -> None:
    """Raise InputError for a key that is not known, or a value of another type than it must have."""
    for section, keys in _KEYS.items():
        entries = spec.get(section, {}) if section else spec
        if not isinstance(entries, dict):
            raise InputError(f"{path}: [{section}] must have keys: {', '.join(sorted(keys))}")
        where = f"{path}: [{section}]" if section else str(path)
        for key, value in entries.items():
            if key not in keys:
                raise InputError(f"{where}: the key {key!r} is not known; there are {', '.join(sorted(keys))}")
            if not section and key in _KEYS:
                continue
            expected, word = _type_of(key)
            if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
                raise InputError(f"{where}: {key} is {value!r}, but must be {word}")


def _type_of(key: str) -> tuple[type, str]:
    if key in _FLAGS:
        return bool, "true or false"
    if key in _LISTS:
        return list, "a list"
    return {
        "year": (int, "a whole number"),
        "county_shapes": (int, "a whole number"),
        "whole": (dict, "fields with their values"),
    }.get(key, (str, "text"))


def _check_braces(text: str, allowed: tuple[str, ...], path: Path) -> None:
    """Raise InputError for braces that stand for nothing known: {st}, {segment:05d}, but no {st!r}, {year} or {segment:x}."""
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise InputError(f"{path}: {text!r}: its braces do not close; {_BRACES}") from error
    for name, spec, conversion in fields:
        plain = not spec or (name == "segment" and re.fullmatch(r"0[1-9]d", spec))
        if name not in allowed or conversion or not plain:
            raise InputError(f"{path}: {text!r}: {{{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}} "
                             f"stands for nothing; {_BRACES}")  # fmt: skip


_BRACES = (
    "{st}, {ST}, {State_Name} (in the url) and, of segments, {segment} or {segment:05d} may stand in names, and no other braces"
)


def _check(release: Release, path: Path) -> None:
    """Raise InputError for values that cannot be."""
    for section, shape, separator in (
        ("header", release.header_shape, release.header_separator),
        ("segments", release.segment_shape, release.separator.decode()),
    ):
        wanted = re.fullmatch(r"[^\w\s-]|\t", separator, re.ASCII) if shape == SEPARATED else not separator
        if shape not in (FIXED, SEPARATED) or not wanted or not separator.isascii():
            raise InputError(
                f"{path}: [{section}] shape is fixed, or separated with a separator, one sign that is no letter, digit or -"
            )
    if release.county_shapes not in SHAPE_YEARS:
        raise InputError(
            f"{path}: county_shapes is the year of a census whose counties there are: {', '.join(map(str, SHAPE_YEARS))}"
        )
    for text, allowed in (
        (release.zip_name, ("st", "ST")),
        (release.header_name, ("st", "ST")),
        (release.url, ("st", "ST", "State_Name", "zip")),
        (release.segment_name, ("st", "ST", "segment")),
        (release.begin, ("st", "ST", "segment")),
    ):
        _check_braces(text, allowed, path)
    if release.segment_member("xx", 1) == release.segment_member("xx", 2):
        raise InputError(f"{path}: [segments] member is the same for every segment: it has {{segment}}")
    if "/" in release.header_member("xx") + release.segment_member("xx", 1):
        raise InputError(f"{path}: a member is named without its folder in the zip, and so without /")
    _check_lines(release, path)
    unknown = [name for name in release.encodings if not _is_encoding(name)]
    if unknown or not release.encodings:
        raise InputError(f"{path}: [header] encodings has {unknown[:1] or 'none'}; name some such as utf-8, cp1252, latin-1")
    _check_names(release, path)


def _check_names(release: Release, path: Path) -> None:
    """Raise InputError for what cannot be a name of the product, of its folders or of its zips."""
    if not re.fullmatch(r"\w+", release.product, re.ASCII):
        raise InputError(
            f"{path}: product is {release.product!r}, but must be made of letters, digits and _: files say by it what they are"
        )
    if not re.fullmatch(r"\w[\w.-]*", release.prefix) or not re.fullmatch(r"\w+", release.county_files):
        raise InputError(f"{path}: prefix and county_files become names of folders and files: letters, digits, _, - and .")
    if not release.zip_of("xx").endswith(".zip"):
        raise InputError(f"{path}: [zip] name ends in .zip")
    if release.url and not release.url.startswith(("https://", "http://")):
        raise InputError(f"{path}: [zip] url begins with https:// or http://; let it be empty where there is none")
    if "/" in release.zip_of("xx") or release.zip_of("xx") == release.zip_of("yy"):
        raise InputError(
            f"{path}: [zip] name is that of a file in dist/, another for each state: it has {{st}} or {{ST}}, and no /"
        )


def _check_lines(release: Release, path: Path) -> None:
    """Raise InputError for what lines of the members cannot have."""
    wrong = [f"{name} = {value!r}" for name, value in release.header_whole.items() if not isinstance(value, str)]
    if wrong or not release.file_id:
        raise InputError(
            f"{path}: [header] {wrong[0] if wrong else 'file_id is empty'}: it must be text that stands in the header's lines"
        )
    levels = release.block_levels
    other = {STATE_LEVEL, COUNTY_LEVEL, TRACT_LEVEL}
    if not levels or not all(isinstance(level, str) and re.fullmatch(r"\w{3}", level) and level not in other for level in levels):
        refused = ", ".join(sorted(other))
        raise InputError(
            f'{path}: [header] block_levels is {list(levels)}; it is the summary levels of blocks, as ["100"], not {refused}'
        )
    separator = release.separator.decode()
    if release.segment_shape == SEPARATED and not release.begin.endswith(separator):
        raise InputError(
            f"{path}: [segments] begin is {release.begin!r}, but LOGRECNO comes after a separator: let it end with {separator!r}"
        )
    withheld = release.withheld.decode()
    if withheld.isdigit() or any(sign in withheld for sign in (",", "\n", separator or ",")):
        raise InputError(f"{path}: [segments] withheld is {withheld!r}, which could not be told from counts; let it be X, or -1")


def _is_encoding(name: Any) -> bool:
    """Return whether it is an encoding in which separators and digits are ASCII's."""
    try:
        return isinstance(name, str) and "09|;,\n".encode(name) == b"09|;,\n"
    except (LookupError, UnicodeError):
        return False


@lru_cache(maxsize=4)
def load_segments(path: Path, fixed: bool = False) -> dict[int, tuple[SegmentTable, ...]]:
    """Return the segments' tables in file order: CSV with ``segment,table,cells``, and ``width`` if they are of ``fixed`` width.

    Raises InputError, naming the file, if it cannot be read.
    """
    segments: dict[int, list[SegmentTable]] = {}
    known: set[str] = set()
    columns = "segment,table,cells,width" if fixed else "segment,table,cells"
    check_file(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                cells, width = int(row["cells"]), int(row["width"]) if fixed else 0
                if cells < 1 or width < fixed:
                    raise ValueError(f"table {row['table']} has {cells} cells of width {width}")
                if row["table"] in known:
                    raise ValueError(f"table {row['table']} stands there twice")
                known.add(row["table"])
                tables = segments.setdefault(int(row["segment"]), [])
                start = tables[-1].start + tables[-1].cells if tables else 0
                tables.append(SegmentTable(row["table"], start, cells, width))
    except OSError as error:
        raise InputError(f"{path}: the segments' layout cannot be read ({error.strerror}); restore the file") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a segment layout ({error}); its columns are {columns}") from error
    return {segment: tuple(tables) for segment, tables in segments.items()}
