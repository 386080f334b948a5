"""What the product imports is what pyproject.toml declares, in the extra that brings it, and constraints.txt pins."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dbrecon.ctools.extras import EXTRAS, PURPOSES, MissingPackage, extra
from tests.paths import CHECKOUT
from tests.source_tree import imports_of, modules

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_DEVELOPERS = {"all", "docs", "lint", "test"}
# Imported by names other than the packages' own: boto3's lower half, and what pyspark speaks by.
BROUGHT = {"botocore": "boto3", "py4j": "pyspark"}


def names(requirements: list[str]) -> set[str]:
    """The modules of some requirements, whose names are those of their packages."""
    return {re.split(r"[\[<>=~ ]", line)[0].replace("-", "_").lower() for line in requirements}


def imported() -> set[str]:
    """The packages of others that the product imports, anywhere in it."""
    used = {name.split(".")[0] for path in modules() for name in imports_of(path)}
    return {BROUGHT.get(name, name) for name in used - set(sys.stdlib_module_names) - {"dbrecon", "__future__", ""}}


def test_what_the_product_imports_is_declared_and_no_more_is() -> None:
    extras = {name: names(lines) for name, lines in PROJECT["optional-dependencies"].items() if name not in FOR_DEVELOPERS}
    assert imported() == names(PROJECT["dependencies"]).union(*extras.values())


def test_an_extra_brings_what_the_program_says_that_it_brings() -> None:
    extras = {name: names(lines) for name, lines in PROJECT["optional-dependencies"].items() if name not in FOR_DEVELOPERS}
    assert {name: {BROUGHT.get(module, module) for module in modules} for name, modules in EXTRAS.items()} == extras
    assert set(PURPOSES) == set(EXTRAS)
    table = (
        (CHECKOUT / "docs" / "manual" / "installing.md")
        .read_text(encoding="utf-8")
        .partition("| extra | for |")[2]
        .partition("\n\n")[0]
    )
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == {*EXTRAS, "all"}
    assert PROJECT["optional-dependencies"]["all"] == [f"dbrecon[{','.join(sorted(set(EXTRAS) - {'spark'}))}]"]


def test_whatever_is_needed_is_pinned() -> None:
    files = [CHECKOUT / f"constraints{part}.txt" for part in ("", "-docs", "-spark")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    pins = [re.fullmatch(r"([a-z0-9-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    assert all(pins), "every line pins one package at one version"
    pinned = {pin[1].replace("-", "_") for pin in pins if pin}
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    assert set().union(*map(names, groups)) - {"dbrecon"} <= pinned


def test_a_package_that_is_missing_is_named_with_its_extra() -> None:
    with (
        pytest.raises(MissingPackage, match=r"the dashboard needs waitress, which is not installed: make setup"),
        extra("dashboard"),
    ):
        raise ModuleNotFoundError("No module named 'waitress.server'", name="waitress.server")


def test_a_module_that_no_extra_brings_is_a_bug_and_keeps_its_traceback() -> None:
    with pytest.raises(ModuleNotFoundError), extra("dashboard"):
        raise ModuleNotFoundError("No module named 'dbrecon.nothing'", name="dbrecon.nothing")


def test_make_sets_up_an_environment_of_its_own_where_a_link_leads_to_anothers(tmp_path: Path) -> None:
    """A second checkout may borrow the first one's by a link; its constraints.txt is newer than what was set up there."""
    borrowed, package, checkout = tmp_path / "borrowed", tmp_path / "borrowed" / "package.py", tmp_path / "checkout"
    borrowed.mkdir()
    package.touch()
    checkout.mkdir()
    (checkout / "constraints.txt").touch()
    (checkout / ".venv").symlink_to(borrowed)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] || exec {sys.executable} "$@" --without-pip\n', encoding="utf-8")
    python.chmod(0o755)
    command = ["make", "-C", str(checkout), "-f", str(CHECKOUT / "Makefile"), f"PYTHON={python}", "setup"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "No module named pip" in done.stderr, "this environment has none, and so the set-up ends there"
    assert package.exists()
    assert not (checkout / ".venv").is_symlink()
