"""The pages for developers are true: the rooms' arrows are the test's, every piece of code that they name is there."""

import importlib
import re
from pathlib import Path

import pytest

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
