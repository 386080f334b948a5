"""A report as data: sections of paragraphs, figures and tables; and its files.

``report.html`` holds everything and asks for nothing from elsewhere: no script, no font, no image but those in it. Beside it lie
``figures/NAME.svg`` and ``.png``, and ``tables/NAME.csv`` and ``.parquet``.
"""

import base64
import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dbrecon.ctools.extras import extra
from dbrecon.ctools.storage import sopen

Value = str | int | float | None

TEMPLATE = Path(__file__).resolve().parent / "report.html.j2"


@dataclass(frozen=True)
class Figure:
    """A drawing. ``name`` is its file's; ``alt`` says in words what it shows, for those who do not see it."""

    name: str
    caption: str
    alt: str
    svg: bytes
    png: bytes


@dataclass(frozen=True)
class Table:
    """Numbers. ``columns`` have their unit in their names; ``digits`` is how many decimals a float is shown with (files have all).

    ``shown`` is how many rows the page shows at the most; the files have every one.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    digits: int = 1
    shown: int = 60

    def texts(self) -> list[list[str]]:
        """Return the rows as the page shows them."""
        return [[self._text(value) for value in row] for row in self.rows[: self.shown]]

    def is_number(self, column: int) -> bool:
        """Return whether a column holds numbers, which are set flush right."""
        return all(row[column] is None or isinstance(row[column], int | float) for row in self.rows)

    def _text(self, value: Value) -> str:
        if value is None or (isinstance(value, float) and value != value):
            return "–"
        return value if isinstance(value, str) else f"{value:,.{self.digits}f}" if isinstance(value, float) else f"{value:,}"


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading."""

    name: str
    heading: str
    paragraphs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Report:
    """A whole report. ``summary``: the findings, a sentence each; ``provenance``: what was used, its version, its hash."""

    title: str
    subtitle: str
    summary: tuple[str, ...]
    sections: tuple[Section, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> str:
        """Return the page."""
        with extra("report"):
            from jinja2 import Environment, StrictUndefined, select_autoescape

        environment = Environment(
            autoescape=select_autoescape(default=True), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters["svg"] = _inline_svg
        return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(report=self)

    def write(self, folder: str, kms_key: str | None = None) -> str:
        """Write all files below ``folder`` (local or on S3); return the page's path. The page comes last."""
        for section in self.sections:
            for figure in section.figures:
                _write(f"{folder}/figures/{figure.name}.svg", figure.svg, kms_key)
                _write(f"{folder}/figures/{figure.name}.png", figure.png, kms_key)
            for table in section.tables:
                _write(f"{folder}/tables/{table.name}.csv", csv_of(table.columns, table.rows), kms_key)
                _write(f"{folder}/tables/{table.name}.parquet", parquet_of(table.columns, table.rows), kms_key)
        _write(f"{folder}/provenance.json", json.dumps(dict(self.provenance), indent=2).encode(), kms_key)
        path = os.path.join(folder, "report.html")
        _write(path, self.html().encode(), kms_key)
        return path


def csv_of(columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> bytes:
    """Return a CSV file with a header line; floats with all their digits, None as nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet_of(columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> bytes:
    """Return the same as Parquet."""
    with extra("report"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(columns)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def _write(path: str, data: bytes, kms_key: str | None) -> None:
    with sopen(path, "wb", kms_key=kms_key) as file:
        file.write(data)


def _inline_svg(figure: Figure) -> str:
    """Return the drawing for an ``img`` element: an address that holds it, so that its styles and ids stay its own."""
    return "data:image/svg+xml;base64," + base64.b64encode(figure.svg).decode()
