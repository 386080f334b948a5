"""This Python's packages in an archive, for machines that have none: what nodes or Spark's executors use, and all that it needs."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path

from dbrecon.ctools.storage_errors import explain
from dbrecon.paths import HOME, INSTALLED

EXECUTORS_EXTRAS = frozenset({"aws", "gurobi"})
"""The driver alone opens the database, and reaches other machines."""
NODES_EXTRAS = EXECUTORS_EXTRAS | {"cluster", "study"}
"""What a checkout's scripts want to be there (:mod:`dbrecon.ctools.venv`)."""

NOT_PACKED = re.compile(r"/(tests?|__pycache__)/|\.(pyc|pyi|pyx|pxd|h|hpp|a)$")
"""What only testing and compiling need. Executors unpack each file; YARN's nodes start processes to set its mode."""
AWS_SERVICES = frozenset({"s3", "sts", "sso", "sso-oidc", "signin", "kms"})
"""What is spoken to: S3, those that give credentials for it, and the keeper of the key of secrets."""


def write_archive(path: str, extras: Collection[str]) -> list[str]:
    """Pack the packages of the product and of these extras into a .tar.gz, which is whole or not there; return their names.

    Raises StorageError.
    """
    names = sorted(needed_packages(extras))
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
    return names


def needed_packages(extras: Collection[str]) -> set[str]:
    """Return what the product and these extras need, and all that it needs in turn, by name."""
    todo, found = _declared(extras), set[str]()
    while todo:
        name = _name(todo.pop())
        if name not in found and (distribution := _installed(name)) is not None:
            found.add(name)
            todo += [requirement for requirement in distribution.requires or [] if "extra ==" not in requirement]
    return found


def _declared(extras: Collection[str]) -> list[str]:
    """Return the requirements of the product, and of the extras."""
    if INSTALLED:
        marked = [line.partition("; extra == ") for line in metadata.requires("dbrecon") or []]
        return [line for line, _, extra in marked if not extra or extra.strip("'\"") in extras]
    import tomllib

    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


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
    """Whether a file of a distribution is needed to run it, by its name there."""
    service = re.match(r"botocore/data/([^/]+)/", inside)
    return not NOT_PACKED.search(inside) and (service is None or service[1] in AWS_SERVICES)
