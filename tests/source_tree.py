"""The product's source as tests read it: its modules, and what they import."""

import ast
import functools
from pathlib import Path

from tests.paths import CHECKOUT

PACKAGE = CHECKOUT / "dbrecon"


def modules() -> list[Path]:
    """Every module of the product: those of the top level and of the package."""
    return sorted(CHECKOUT.glob("*.py")) + sorted(PACKAGE.rglob("*.py"))


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Every node of a module's syntax, the module first: parsed once for all tests."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports_of(path: Path) -> set[str]:
    """The dotted names that a module imports, wherever in it; ``from a import b`` counts as a and as a.b."""
    found: set[str] = set()
    package = path.relative_to(CHECKOUT).parent.parts
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return found
