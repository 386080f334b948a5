"""The pages are true: the rooms' arrows are the test's, every piece of code that they name is there, every block is tried."""

import importlib
import re
from pathlib import Path

import pytest

from tests.blocks import BLOCKS, Block
from tests.paths import CHECKOUT
from tests.source_tree import PACKAGE
from tests.unit.test_architecture import ARROWS

FOLDERS = ("", "developers", "reference", "science")  # the manual is for operators: Spark's own settings look like code there
PAGES = [CHECKOUT / "CONTRIBUTING.md", *(page for folder in FOLDERS for page in sorted((CHECKOUT / "docs" / folder).glob("*.md")))]
ROOMS = "|".join(sorted(ARROWS))


def named_code() -> list[tuple[str, str]]:
    """(page, name) for each `room.module.name` in a page, as it stands below the package."""
    found = [(page.name, name) for page in PAGES for name in re.findall(rf"`((?:{ROOMS})\.[a-z_]+(?:\.\w+)*)`", page.read_text())]
    return sorted(set(found))


def look_up(name: str) -> object:
    """What a dotted name below the package stands for: a module, or something in one."""
    parts = name.split(".")
    depth = max(n for n in range(1, len(parts) + 1) if PACKAGE.joinpath(*parts[:n]).is_dir() or is_module(parts[:n]))
    found: object = importlib.import_module(".".join(["dbrecon", *parts[:depth]]))
    for part in parts[depth:]:
        found = getattr(found, part)
    return found


def is_module(parts: list[str]) -> bool:
    return PACKAGE.joinpath(*parts).with_suffix(".py").is_file()


def test_the_page_of_the_rooms_has_their_arrows() -> None:
    page = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.M)
    expected = {room: ", ".join(f"`{name}`" for name in sorted(may)) or "-" for room, may in ARROWS.items()}
    assert dict(rows) == expected, "write the table of docs/architecture.md so"


@pytest.mark.parametrize(("page", "name"), named_code(), ids=str)
def test_the_code_that_a_page_names_is_there(page: str, name: str) -> None:
    assert look_up(name) is not None, page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    named = set(re.findall(r"`((?:dbrecon|tests|bench|config|docs)/[\w./-]*\w)`", page.read_text(encoding="utf-8")))
    assert [name for name in sorted(named) if not (CHECKOUT / name).exists()] == []


def test_a_name_that_is_not_there_would_be_seen() -> None:
    with pytest.raises(AttributeError):
        look_up("recon.tract.model.nothing")


def test_every_block_is_run_or_says_by_what_or_why_not() -> None:
    assert [block.name for block in BLOCKS if not block.said] == [], (
        "put <!-- run -->, <!-- run by TEST --> or <!-- not run: why --> before"
    )
    assert [block.name for block in BLOCKS if block.said == "not run:" and len(block.reason.split()) < 2] == []
    assert sum(block.said == "run" for block in BLOCKS) >= 15


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.said == "run by"], ids=lambda block: block.name)
def test_a_test_that_is_said_to_run_a_block_has_its_words(block: Block) -> None:
    """The options of our commands; of others the program; of Python the page, from which the test takes it."""
    paths = [CHECKOUT / name for name in block.reason.split()]
    files = [file for path in paths for file in (path.glob("*.py") if path.is_dir() else [path])]
    tests = "".join(file.read_text(encoding="utf-8") for file in files)
    words = {option for command in block.commands for option in re.findall(r" (--[a-z]\w*)", command.partition(" #")[0])}
    if not words:
        words = {block.page} if block.text.startswith("import ") else {line.split()[0] for line in block.text.splitlines()}
    assert [word for word in sorted(words) if word not in tests] == []
