"""The packing of what Spark's executors need into an archive."""

import logging
import os
import re
import tarfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from dbrecon.console.parser import Arguments
from dbrecon.ctools.progress import counted
from dbrecon.ctools.storage_errors import explain
from dbrecon.errors import UsageError
from dbrecon.paths import HOME, INSTALLED
from dbrecon.settings import Config

log = logging.getLogger(__name__)

EXECUTORS_EXTRAS = ("aws", "gurobi")
"""The driver alone opens the database, and reaches other machines."""

NOT_PACKED = re.compile(r"/(tests?|__pycache__)/|\.(pyc|pyi|pyx|pxd|h|hpp|a)$")
"""What only testing and compiling need. Executors unpack each file; YARN's nodes start processes to set its mode."""
AWS_SERVICES = frozenset({"s3", "sts", "sso", "sso-oidc", "signin"})
"""What executors speak to: S3, and those that give credentials for it."""


def pack(args: Arguments, _config: Config) -> int:
    """Pack this Python's packages that executors need, with all that they need, into a .tar.gz."""
    path = args.spark_pack
    if not path.endswith((".tar.gz", ".tgz")):
        raise UsageError(f"--spark_pack {path}: name a .tar.gz, which Spark unpacks on the executors")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"--spark_pack {path}: there is no folder {folder}; make it, or name another place")
    names = sorted(_needed_packages())
    try:
        with tarfile.open(f"{path}.part", "w:gz", compresslevel=3) as archive:
            for name in names:
                for file, inside in _files(name):
                    archive.add(file, inside, recursive=False)
        os.replace(f"{path}.part", path)
    except OSError as error:
        raise explain(error, path, "write") from error
    finally:
        Path(f"{path}.part").unlink(missing_ok=True)
    holds = f"{counted(len(names), 'package')}, {os.path.getsize(path) / 1e6:,.0f} MB"
    print(f"{path}: {holds}; [spark] environment takes its path or URI")
    return 0


def _needed_packages() -> set[str]:
    """Return what executors use, and all that it needs, by name."""
    todo, found = _declared(), set[str]()
    while todo:
        name = _name(todo.pop())
        if name not in found and (distribution := _installed(name)) is not None:
            found.add(name)
            todo += [requirement for requirement in distribution.requires or [] if "extra ==" not in requirement]
    return found


def _declared() -> list[str]:
    """Return the requirements of the product, and of the extras that executors use."""
    if INSTALLED:
        marked = [line.partition("; extra == ") for line in metadata.requires("dbrecon") or []]
        return [line for line, _, extra in marked if not extra or extra.strip("'\"") in EXECUTORS_EXTRAS]
    import tomllib

    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in EXECUTORS_EXTRAS for line in extras[extra])]


def _name(requirement: str) -> str:
    end = next((i for i, sign in enumerate(requirement) if not (sign.isalnum() or sign in "-_.")), len(requirement))
    return requirement[:end].lower().replace("_", "-")


def _installed(name: str) -> metadata.Distribution | None:
    """Return a distribution; None for one of another system or Python, which is not installed here."""
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _files(name: str) -> Iterator[tuple[str, str]]:
    """Yield a distribution's files: where they are, and their names in a folder of packages. Not its commands."""
    for file in metadata.files(name) or []:
        inside = file.as_posix()
        if not inside.startswith("..") and _is_needed(inside) and os.path.isfile(str(file.locate())):
            yield str(file.locate()), inside


def _is_needed(inside: str) -> bool:
    """Return whether executors need a file of a distribution, by its name there."""
    service = re.match(r"botocore/data/([^/]+)/", inside)
    return not NOT_PACKED.search(inside) and (service is None or service[1] in AWS_SERVICES)
