"""The README is true: what it lists is what there is."""

import re

from dbrecon.console import main as dbrtool
from dbrecon.console import scheduler
from dbrecon.settings import settings_table
from tests.paths import CHECKOUT

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_settings_is_the_code_s() -> None:
    assert settings_table() in README


def test_its_exit_codes_are_those_that_the_commands_list() -> None:
    table = README.partition("\n| code | meaning |\n")[2].partition("\n\n")[0]
    codes = re.findall(r"^\| ([\d-]+) \|", table, re.M)
    assert codes == ["0", "10", "130", "1-8"]
    assert re.findall(r"^  ([\d-]+) ", scheduler.EPILOG, re.M) == codes
    listed = re.findall(r"^  (\d+) ", dbrtool.EPILOG, re.M)
    assert listed == ["0", *map(str, range(1, 9)), "10", "130"]


def test_every_script_and_file_it_names_is_there() -> None:
    named = set(re.findall(r"`\.?/?((?:[a-z_0-9]+/)*[a-z_0-9]+\.(?:py|toml|ini))\b", README))
    assert {"dbrtool.py", "scheduler.py", "config/products/sf1_2010/tables.toml"} <= named
    assert [name for name in sorted(named) if not (CHECKOUT / name).exists()] == []


def test_every_option_it_names_is_one() -> None:
    """Those in the product's commands and those that stand for themselves, `--like` this; other programs have options too."""
    sources = [*CHECKOUT.glob("*.py"), *(CHECKOUT / "dbrecon").rglob("*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    commands = [line for line in README.splitlines() if re.search(r"(dbrtool|scheduler|s\d_\w+)\.py", line)]
    options = {option for line in commands for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9_]+", line)}
    options |= set(re.findall(r"`(--[a-z][a-z0-9_]+)", README))
    assert [option for option in sorted(options - {"--help"}) if f'"{option}"' not in text] == []


def test_every_make_target_it_names_is_one() -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", README, re.M))
    names = {one or other for one, other in targets}
    assert {"demo", "test", "setup"} <= names
    assert [name for name in sorted(names) if f"\n{name}:" not in makefile] == []
