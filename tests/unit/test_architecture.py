"""Who may import whom, which names the secrets of the database stay behind, and that what is needed is pinned."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import pytest

from dbrecon import errors
from dbrecon.console.options import operator_groups
from dbrecon.errors import DBReconError, Subject
from dbrecon.remedies import REMEDIES
from dbrecon.settings import SETTINGS
from tests.paths import CHECKOUT
from tests.source_tree import PACKAGE, imports_of, modules, nodes_of

BASE = {"errors", "paths", "version"}  # what every room may import
NAMES = {"states", "place", "settings", "experiment", "remedies"}  # the nouns of every command and step
# What each room of the package may import of the others, beside itself and BASE. A test holds these arrows; docs/architecture.md
# says why they point that way.
ARROWS = {
    "errors": set[str](),
    "paths": set[str](),
    "version": set[str](),
    "ctools": set[str](),
    "recon": set[str](),
    "states": set[str](),
    "remedies": {"ctools"},
    "place": {"states"},
    "settings": {"states"},
    "experiment": {"states", "settings", "recon"},
    "ledger": NAMES | {"ctools"},
    "steps": NAMES | {"ctools", "recon", "ledger"},
    "node": NAMES | {"ctools", "recon", "ledger", "steps"},
    "spark": NAMES | {"ctools", "recon", "ledger", "steps", "node"},
    "fleet": NAMES | {"ctools", "ledger", "node", "recon", "spark"},
    "dashboard": NAMES | {"ctools", "ledger", "console"},
    "report": {"ctools", "recon"},
    "library": {"ctools", "recon", "states"},
    "console": NAMES | {"ctools", "recon", "ledger", "steps", "node", "spark", "fleet", "dashboard", "report"},
}
SQL_OWNERS = re.compile(r"dbrecon/ledger/\w+\.py|dbrecon/ctools/database\.py|dbrecon/fleet/probe_node\.py")  # it only logs in


def name_of(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_a_module_imports_only_what_its_room_may() -> None:
    found = []
    for path in modules():
        if path.is_relative_to(PACKAGE) and (room := room_of(path)) != "__init__":
            imported = {parts[1] for name in imports_of(path) if (parts := name.split("."))[0] == "dbrecon" and len(parts) > 1}
            rooms = {name for name in imported if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()}
            found += [f"{name_of(path)} imports {name}" for name in sorted(rooms - ARROWS.get(room, set()) - BASE - {room})]
    assert found == []


def test_every_room_has_its_arrows() -> None:
    rooms = {room_of(path) for path in modules() if path.is_relative_to(PACKAGE)} - {"__init__"}
    assert rooms == set(ARROWS)


def test_only_the_ledger_speaks_sql() -> None:
    drivers = {"sqlalchemy", "pymysql", "sqlite3", "MySQLdb"}
    others = [path for path in modules() if not SQL_OWNERS.fullmatch(name_of(path))]
    assert [name_of(path) for path in others if {name.split(".")[0] for name in imports_of(path)} & drivers] == []


def test_no_module_holds_an_experiment() -> None:
    """An experiment or a configuration is passed: nothing makes one while it is imported."""
    made = [
        f"{name_of(path)}: {ast.unparse(call.func)}"
        for path in modules()
        for statement in cast("ast.Module", nodes_of(path)[0]).body
        if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Expr)) and statement.value is not None
        for call in ast.walk(statement.value)
        if isinstance(call, ast.Call)
    ]
    assert [name for name in made if re.search(r"\b(Experiment|Config\.load)\b", name)] == []


def test_a_module_stays_readable_in_one_sitting() -> None:
    assert [name_of(path) for path in modules() if len(path.read_text(encoding="utf-8").splitlines()) > 600] == []


@pytest.mark.parametrize("folder", ["dbrecon", "bench", "docs/_ext", "tests"])
def test_a_function_is_seen_whole(folder: str) -> None:
    found = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in sorted((CHECKOUT / folder).rglob("*.py"))
        for node in nodes_of(path)
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None and node.end_lineno - node.lineno >= 60
    ]
    assert found == []


def caught_whole(nodes: Iterable[ast.AST]) -> list[int]:
    """The lines that catch every error and let it go no further: a bare ``except``, ``except Exception`` (in a tuple too),
    ``except BaseException`` that does not end by raising it again, and ``suppress`` of either."""
    found = []
    for node in nodes:
        match node:
            case ast.ExceptHandler(type=caught, body=body, lineno=line):
                names = {"BaseException"} if caught is None else names_in(caught)
                cleans_up = caught is not None and "Exception" not in names and ast.unparse(body[-1]) == "raise"
                if names & {"Exception", "BaseException"} and not cleans_up:
                    found.append(line)
            case ast.Call(func=function, args=args, lineno=line) if "suppress" in names_in(function):
                if {"Exception", "BaseException"} & {name for arg in args for name in names_in(arg)}:
                    found.append(line)
    return found


def names_in(node: ast.AST) -> set[str]:
    return {
        found.id if isinstance(found, ast.Name) else found.attr
        for found in ast.walk(node)
        if isinstance(found, (ast.Name, ast.Attribute))
    }


@pytest.mark.parametrize("folder", ["dbrecon", "bench", "docs/_ext", "tests"])
def test_no_handler_catches_everything(folder: str) -> None:
    """It would hide bugs. What a library may raise is named by its class, what we raise is an error of ``dbrecon.errors``."""
    paths = [*sorted((CHECKOUT / folder).rglob("*.py")), *CHECKOUT.glob("*.py")]
    found = [f"{name_of(path)}:{line}" for path in paths for line in caught_whole(nodes_of(path))]
    assert found == []


@pytest.mark.parametrize(
    "handler",
    [
        "except: pass",
        "except Exception: raise",
        "except (OSError, Exception) as error: log(error)",
        "except builtins.BaseException as error: keep(error)",
        "finally:\n with contextlib.suppress(Exception): work()",
    ],
)
def test_a_handler_that_catches_everything_would_be_seen(handler: str) -> None:
    assert caught_whole(ast.walk(ast.parse(f"try:\n work()\n{handler}")))


def test_the_arrows_would_be_seen_if_they_were_broken(tmp_path: Path) -> None:
    """The reading of imports itself: each way to write one is found."""
    path = PACKAGE / "ctools" / "s3.py"
    assert {"isal.isal_zlib", "dbrecon.errors.StorageError", "boto3", "smart_open.s3"} <= imports_of(path)


def test_no_two_modules_or_rooms_have_one_name() -> None:
    """Who looks for the dashboard or the nodes finds one file of that name. A room's first module may have the room's name. The
    library is a front: its modules are called after what they make plain."""
    paths = [
        path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(PACKAGE / "library") and path.stem != path.parent.name
    ]
    names = Counter(path.parent.name if path.stem == "__init__" else path.stem for path in paths)
    assert [name for name, count in names.items() if count > 1] == []


def strings_of(path: Path) -> list[tuple[int, str]]:
    """The strings of a module with their lines, without docstrings; of a formatted one the parts between the values."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in nodes_of(path) if isinstance(node, documented)]
    docs = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    found = [node for node in nodes_of(path) if isinstance(node, ast.Constant) and id(node) not in docs]
    return [(node.lineno, node.value) for node in found if isinstance(node.value, str)]


VAGUE = {"told", "one", "mine", "some", "there", "pretend", "strangers", "mourn", "bury"}


def names_bound_in(path: Path) -> list[tuple[int, str]]:
    """What a module gives names to, with their lines: variables, parameters, functions, classes, attributes."""
    found = []
    for node in nodes_of(path):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.append((node.lineno, name))
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.append((node.lineno, name))
    return found


@pytest.mark.parametrize("folder", ["dbrecon", "bench", "docs/_ext", "tests"])
def test_names_say_what_they_name(folder: str) -> None:
    """A stranger searches for a tract, an answer or a holder, and finds them."""
    paths = [*CHECKOUT.glob("*.py"), *(CHECKOUT / folder).rglob("*.py")]
    bound = [(name_of(path), line, name) for path in paths for line, name in names_bound_in(path)]
    assert [where for where in bound if where[2].strip("_").lower() in VAGUE] == []


OPTION = re.compile(r"(?<![\w-])--[a-z]\w*")
SETTING = re.compile("|".join(rf"\[{setting.section}\] ?{setting.name}\b" for setting in SETTINGS))


@pytest.mark.parametrize("room", ["recon", "ctools"])
def test_science_and_tools_name_no_option_and_no_setting(room: str) -> None:
    """They say what is wrong; dbrecon.remedies says what to type."""
    found = [
        f"{name_of(path)}:{line}: {text}"
        for path in modules()
        if path.is_relative_to(PACKAGE / room)
        for line, text in strings_of(path)
        if OPTION.search(text) or SETTING.search(text)
    ]
    assert found == []


def test_remedies_name_options_and_settings_that_there_are() -> None:
    assert set(REMEDIES) == set(Subject)
    options = {name for group in operator_groups() for option in group.options for name in option.opts}
    settings = {f"[{setting.section}] {setting.name}" for setting in SETTINGS}
    for remedy in REMEDIES.values():
        assert set(OPTION.findall(remedy)) <= options
        assert set(re.findall(r"\[\w+\] \w+", remedy)) <= settings


def test_whoever_tells_an_error_tells_its_remedy() -> None:
    """The text of an error of ours, where commands are known, comes from dbrecon.remedies, never from the error itself."""
    paths = [path for path in modules() if path.is_relative_to(PACKAGE) and room_of(path) not in ("recon", "ctools")]
    assert [f"{name_of(path)}: below line {line}" for path in paths for line in bare_texts(path)] == []


OURS = {name for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, DBReconError)}


def bare_texts(path: Path) -> Iterator[int]:
    """The lines of handlers that write an error of ours as it stands."""
    for handler in nodes_of(path):
        if isinstance(handler, ast.ExceptHandler) and handler.type is not None and handler.name is not None:
            caught = {part.rpartition(".")[2] for part in ast.unparse(handler.type).strip("()").split(", ")}
            for node in ast.walk(handler) if caught & OURS else ():
                text = ast.unparse(node) if isinstance(node, (ast.Call, ast.FormattedValue)) else ""
                told_plainly = text in (f"str({handler.name})", f"f'{{{handler.name}}}'")
                if told_plainly or re.search(rf"^log\..*, {handler.name}\b[^(]*\)$", text):
                    yield handler.lineno
