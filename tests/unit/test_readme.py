"""The README and the manual's pages are true: what they list is what there is."""

import importlib
import re
from pathlib import Path

import pytest

from dbrecon.console import main as dbrtool
from dbrecon.console import scheduler
from dbrecon.settings import settings_table
from tests.paths import CHECKOUT

README = CHECKOUT / "README.md"
PAGES = [README, *sorted((CHECKOUT / "docs").glob("**/*.md"))]
BUILT = "docs/_build/"


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def named(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def everything() -> str:
    return "".join(text(page) for page in PAGES if BUILT not in named(page))


def test_the_readme_stays_a_page() -> None:
    assert len(text(README).splitlines()) <= 150


def test_the_table_of_settings_is_the_code_s() -> None:
    assert settings_table() in text(CHECKOUT / "docs" / "reference" / "settings.md")


def test_its_exit_codes_are_those_that_the_commands_list() -> None:
    page = text(CHECKOUT / "docs" / "reference" / "exit_codes.md")
    first, second = (part.partition("\n\n")[0] for part in re.split(r"\n\| code \| [\w ]+ \|\n", page)[1:])
    codes = re.findall(r"^\| ([\d-]+) \|", first, re.M)
    assert codes == ["0", "10", "130", "1-8"]
    assert re.findall(r"^  ([\d-]+) ", scheduler.EPILOG, re.M) == codes
    listed = re.findall(r"^  (\d+) ", dbrtool.EPILOG, re.M)
    assert listed == ["0", *re.findall(r"^\| (\d+) \|", second, re.M), "10", "130"]


def test_every_script_and_file_that_is_named_is_there() -> None:
    files = set(re.findall(r"`\.?/?((?:[a-z_0-9]+/)*[a-z_0-9]+\.(?:py|toml|ini))\b", everything()))
    files -= {"product.toml", "tables.toml"}  # of any product's folder
    assert {"dbrtool.py", "scheduler.py", "config/products/sf1_2010/tables.toml"} <= files
    assert [name for name in sorted(files) if not (CHECKOUT / name).exists()] == []


def test_every_option_that_is_named_is_one() -> None:
    """Those in the product's commands and those that stand for themselves, `--like` this; other programs have options too."""
    sources = [*CHECKOUT.glob("*.py"), *(CHECKOUT / "dbrecon").rglob("*.py"), *(CHECKOUT / "bench").glob("*.py")]
    code = "".join(text(path) for path in sources)
    commands = [line for line in everything().splitlines() if re.search(r"(dbrtool|scheduler|s\d_\w+)(\.py)? ", line)]
    options = {option for line in commands for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9_]+", line)}
    options |= set(re.findall(r"`(--[a-z][a-z0-9_]+)", everything()))
    assert [option for option in sorted(options - {"--help"}) if f'"{option}"' not in code] == []


def test_every_make_target_that_is_named_is_one() -> None:
    makefile = text(CHECKOUT / "Makefile")
    names = {either or other for either, other in re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", everything(), re.M)}
    assert {"demo", "test", "setup"} <= names
    assert [name for name in sorted(names) if f"\n{name}:" not in makefile] == []


def test_every_message_that_troubleshooting_quotes_is_one() -> None:
    page = text(CHECKOUT / "docs" / "manual" / "troubleshooting.md")
    quoted = {phrase for bold in re.findall(r"\*\*(.*?)\*\*", page, re.S) for phrase in re.findall(r'"([^"]+)"', bold)}
    assert len(quoted) >= 15
    # Adjacent literals of a long sentence are one.
    sources = [CHECKOUT / "Makefile", *(CHECKOUT / "dbrecon").rglob("*.py")]
    code = re.sub(r'"\s*\n\s*f?"', "", "".join(text(path) for path in sources))
    assert [phrase for phrase in sorted(quoted) if " ".join(phrase.split()) not in code] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_page_that_is_linked_to_is_there(page: Path) -> None:
    """Links within the documentation, and from it into the checkout; a place in a page too."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, place = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if place:
            headings = re.findall(r"^#+ (.*)", text(linked), re.M)
            assert place in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


@pytest.mark.slow
def test_the_readme_s_python_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"(?:^    .*\n|^\n)*^    import dbrecon\n(?:^    .*\n|^\n)*", text(README), re.M)
    monkeypatch.chdir(tmp_path)
    importlib.import_module("matplotlib").use("agg")
    names: dict[str, object] = {}
    exec(re.sub(r"^    ", "", block, flags=re.M), names)
    people = names["people"]
    assert len(people) == names["found"].population  # type: ignore[arg-type,attr-defined]


def test_the_readme_begins_with_the_main_job_and_the_tests() -> None:
    first = README.read_text().split("## Two commands")[1].split("## ")[0]
    assert re.findall(r"^    make (\w+)", first, re.MULTILINE) == ["demo", "test"]
