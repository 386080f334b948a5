"""Products: which there are, and whether their constraints tell every cell."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from dbrecon.console.parser import Arguments
from dbrecon.errors import InputError
from dbrecon.settings import Config

if TYPE_CHECKING:
    from dbrecon.recon.census.tables import Product

LEVELS = ("block", "tract")


def list_products(_args: Arguments, _config: Config) -> int:
    """List the products that come with the program."""
    from dbrecon.recon.product.release import load_release, shipped

    for name in shipped():
        release = load_release(name)
        print(f"{name}: {release.title} ({release.year})")
        for level in LEVELS:
            tables = [table for table in release.tables if table.level == level]
            if tables:
                cells = sum(table.cells for table in tables)
                print(f"   {level}: {len(tables)} tables, {cells:,} cells: {_shortened([table.name for table in tables])}")
        print(f"   zip: {release.zip_of('ri')} from {release.url}")
        print(f"   source: {release.source}")
    return 0


def _shortened(names: list[str]) -> str:
    """Table names, with iterations as a range: P12, P12A-P12AH."""
    groups = [list(group) for _, group in groupby(names, lambda name: name.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))]
    return ", ".join(
        name
        for group in groups
        for name in (group if len(group) < 4 else [group[0], f"{group[1]}-{group[-1]}"])  # the parent, its iterations
    )


def prove(product: Product, what: str) -> None:
    """Print that every exact cell of a product follows from what its constraints write; InputError, naming ``what``, if not."""
    from dbrecon.recon.product.coverage import coverage

    for level in LEVELS:
        found = coverage(product, level)
        if found.missing:
            raise InputError(
                f"{what}: {found.missing[0]} and {len(found.missing) - 1:,} other {level} cells do not follow from the "
                "constraints; write more of them in tables.toml"
            )
        exact = "exact " if any(table.level == level for table in product.inexact) else ""
        if found.cells:
            written = f"the {found.rows:,} counts that are written (rank {found.rank:,})"
            print(f"   {level}: all {found.cells:,} {exact}cells follow from {written}", flush=True)
    for how in dict.fromkeys(table.inexact for table in product.inexact):
        names = [table.name for table in product.inexact if table.inexact == how]
        print(f"   {how}, so that cells are intervals: {_shortened(names)}", flush=True)
