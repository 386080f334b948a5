"""The man pages of the two commands, made of their own parsers: ``python -m dbrecon.console.man_pages FOLDER`` writes them.

A wheel brings them as share/man/man1 (docs/_ext/hatch_build.py). Nothing is loaded for them but click.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from dbrecon.console import main, scheduler
from dbrecon.version import VERSION

PAGES = {
    "dbrtool": (main.make_parser, "register experiments, run their steps, show where they stand"),
    "scheduler": (scheduler.make_parser, "reconstruct tracts on this node until nothing is left"),
}


def man_page(name: str) -> str:
    """Return the page of one of ``PAGES`` in the language of man(7). Commands have the names of an installed package."""
    return "\n".join(_lines(name)) + "\n"


def write_man_pages(folder: Path) -> list[Path]:
    """Write the pages into a folder, which is made if need be; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.1" for name in PAGES]
    for path in paths:
        path.write_text(man_page(path.stem), encoding="utf-8")
    return paths


def _lines(name: str) -> Iterator[str]:
    make_parser, summary = PAGES[name]
    parser = make_parser()
    yield from (f'.TH {name.upper()} 1 "" "dbrecon {VERSION}"', ".SH NAME", f"{name} \\- {_text(summary)}")
    yield from (".SH SYNOPSIS", _text(parser.usage), ".SH DESCRIPTION", _text((parser.help or "").strip()), ".SH OPTIONS")
    for group in parser.groups:
        yield f'.SS "{_text(group.title[:1].upper() + group.title[1:])}"'
        for option in group.options:
            yield from (".TP", f"\\fB{_text(option.shown())}\\fR", _text(option.help or ""))
    for part in (parser.epilog or "").strip().split("\n\n"):
        heading, _, rest = part.partition(":\n")
        yield from (f'.SH "{heading.upper()}"', ".nf", *(_text(line) for line in rest.splitlines()), ".fi")
    yield from (".SH SEE ALSO", *(f"\\fB{other}\\fR(1)" for other in PAGES if other != name))


def _text(text: str) -> str:
    """Return text in which nothing is man(7)'s own, on one line."""
    words = re.sub(r"(?:\./)?\b(dbrtool|scheduler)\.py\b", r"\1", text.replace("\n", " "))
    plain = words.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    return f"\\&{plain}" if plain.startswith(".") else plain


if __name__ == "__main__":
    for written in write_man_pages(Path(sys.argv[1])):
        print(written)
