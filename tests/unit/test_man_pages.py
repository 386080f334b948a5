"""The man pages: every option of both commands is in them, and man(1) reads them without a complaint."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dbrecon.console.man_pages import PAGES, write_man_pages


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both pages, by their commands."""
    return {path.stem: path for path in write_man_pages(tmp_path_factory.mktemp("man") / "man1")}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_every_option_and_the_installed_names(name: str, pages: dict[str, Path]) -> None:
    text = pages[name].read_text(encoding="utf-8")
    shown = set(re.findall(r"--[a-z]\w*", " ".join(re.findall(r"^\.TP\n(.*)", text, re.M)).replace("\\-", "-")))
    assert shown == {option.long for group in PAGES[name][0]().groups for option in group.options}
    assert re.findall(r'^\.SH "?([A-Z ]+)', text, re.M)[:4] == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"]
    assert not re.search(r"(dbrtool|scheduler)\.py", text)


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff, which sets man pages")
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_set_without_a_warning(name: str, pages: dict[str, Path]) -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-c", "-P-b", "-P-u", pages[name]], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "EXIT CODES" in done.stdout
