"""Names of cells, as the technical documentation has them."""

import re

_LETTERS = re.compile(r"(?<=\d)[A-Z]+\Z|[A-Z]?\Z")


def cell_names(prefix: str, cells: int) -> tuple[str, ...]:
    """P0120001, P012A001, P012AA01, PCT0120209: letters at the prefix's end take the place of the number's first digits."""
    found = _LETTERS.search(prefix)
    width = 4 - len(found[0] if found else "")
    return tuple(f"{prefix}{n:0{width}d}" for n in range(1, cells + 1))
