"""Pages that are made from the code: a marker in a page is replaced by what the code says of itself.

```{from-code} options dbrtool
```
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

CHECKOUT = Path(__file__).resolve().parents[2]
MARKER = re.compile(r"^```\{from-code\} (\w+) ?(\S*)\n```$", re.M)


def options(program: str) -> Iterator[str]:
    """Yield the options of a program by group, and its examples."""
    from dbrecon.console import main, scheduler

    parser = {"dbrtool": main, "scheduler": scheduler}[program].make_parser()
    yield f"    {parser.usage}\n"
    for group in parser.groups:
        title = in_words(group.title[:1].upper() + group.title[1:])
        yield f"## {title}\n"
        yield "".join(f"`{option.shown()}`\n: {in_words(option.help or '')}\n\n" for option in group.options)
    for part in (parser.epilog or "").strip().split("\n\n"):
        heading, colon, rest = part.partition(":\n")
        yield f"## {heading.capitalize()}\n" if colon else ""
        yield "".join(f"    {line}\n" for line in (rest if colon else part).splitlines()) + "\n"


def in_words(text: str) -> str:
    """Return a help text with options set as code."""
    return re.sub(r"(?<![\w-])(--[a-z][a-z0-9\\_]*)", lambda found: f"`{found[1].replace(chr(92), '')}`", escaped(text))


def script_help(_: str) -> Iterator[str]:
    """Yield what each step's script prints for --help all."""
    for script in sorted(CHECKOUT.glob("s[0-9]_*.py")):
        environment = os.environ | {"COLUMNS": "110"}
        done = subprocess.run(
            [sys.executable, script, "--help", "all"], capture_output=True, text=True, check=True, env=environment
        )
        yield f"## {script.name}\n\n```text\n{done.stdout.rstrip()}\n```\n"


def http_api(_: str) -> Iterator[str]:
    """Yield the paths of the dashboard's API, with parameters, fields and answers."""
    from dbrecon.dashboard.openapi import description

    api = description()
    for path, operations in api["paths"].items():
        operation = operations["get"]
        yield f"## `{path}`\n\n{escaped(operation['summary'])}.\n"
        for parameter in operation["parameters"]:
            yield f"- `{parameter['name']}` ({parameter['in']}): {schema_text(parameter['schema'])}\n"
        content = operation["responses"]["200"]["content"]["application/json"]["schema"]
        yield "\n".join(["", "| field | type |", "|---|---|", *field_rows(content), "\n"])
        others = ", ".join(f"{code}: {answer['description']}" for code, answer in operation["responses"].items() if code != "200")
        yield f"Other answers: {escaped(others)}.\n"
    yield "## Records\n"
    for name, schema in api["components"]["schemas"].items():
        yield "\n".join([f"### {name}\n", "| field | type |", "|---|---|", *field_rows(schema), "\n"])


def field_rows(schema: dict[str, Any]) -> list[str]:
    """Return a row a field of an object; a single row for what is none."""
    fields = schema.get("properties", {"": schema})
    return [f"| {f'`{name}`' if name else ''} | {schema_text(kind)} |" for name, kind in fields.items()]


def schema_text(schema: dict[str, Any]) -> str:
    """Describe a schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    said = f": {escaped(schema['description'])}" if "description" in schema else ""
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"]) + said
    if "const" in schema:
        return f"`{schema['const']}`{said}"
    if schema.get("type") == "array":
        return f"list of {schema_text(schema['items'])}{said}"
    kinds = schema.get("type", "anything")
    return (" or ".join(kinds) if isinstance(kinds, list) else str(kinds)) + said


def products(_: str) -> Iterator[str]:
    """Yield the products that come with the program, and whom their tables count."""
    from dbrecon.library.table_sets import in_words as whom
    from dbrecon.recon.census.tables import load_product
    from dbrecon.recon.product.release import load_release, shipped

    for name in shipped():
        release = load_release(name)
        yield f"## {name}: {release.title}\n\n{escaped(release.source)}\n\nZips: `{release.zip_of('ri')}`.\n"
        yield "| table | of each | segment | cells | universe | first cells |\n|---|---|--:|--:|---|---|"
        for table in load_product(release.tables_path).tables:
            first = f"`{table.cell_names[0]}`" + (f" ... `{table.cell_names[-1]}`" if len(table.cells) > 1 else "")
            universe = whom(table.cells[0].box)
            yield f"| {table.name} | {table.level} | {table.segment} | {len(table.cells):,} | {universe} | {first} |"
        yield ""


INCLUDED = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "bench/README.md": "measuring.md",
    "bench/national.md": "national.md",
}
"""Pages of the checkout that the site shows among docs/developers/, and their names there."""


def checkout_page(name: str) -> Iterator[str]:
    """Yield a page of the checkout without its title, its links led to where they go on the site."""
    source = CHECKOUT / name
    title, _, text = source.read_text(encoding="utf-8").partition("\n")
    assert title.startswith("# "), source

    def led(found: re.Match[str]) -> str:
        words, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path = (source.parent / target).resolve().relative_to(CHECKOUT).as_posix()
        if path.startswith("docs/"):
            return f"[{words}](../{path.removeprefix('docs/')})"
        return f"[{words}]({INCLUDED[path]})" if path in INCLUDED else f"{words} (`{path}`)"

    yield re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", led, text)


def escaped(text: str) -> str:
    """Return text that Markdown shows as it stands."""
    return re.sub(r"([\\*_<>|\[\]`$])", r"\\\1", text)


SOURCES: dict[str, Callable[[str], Iterator[str]]] = {
    "options": options,
    "script_help": script_help,
    "http_api": http_api,
    "products": products,
    "page": checkout_page,
}


def replace_markers(_app: Sphinx, _docname: str, source: list[str]) -> None:
    """Put what the code says in place of a page's markers."""
    source[0] = MARKER.sub(lambda found: "\n".join(SOURCES[found[1]](found[2])), source[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Listen for pages that are read."""
    app.connect("source-read", replace_markers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
