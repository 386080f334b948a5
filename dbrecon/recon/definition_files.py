"""The files of a product's definitions."""

import tomllib
from pathlib import Path
from typing import Any

from dbrecon.errors import InputError


def check_file(path: Path) -> None:
    """Raise InputError for what is there and no file: a pipe would keep us waiting."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no file; restore the product's folder")


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a file says. Raises InputError, naming it, if it is not there, cannot be read, or is no TOML."""
    check_file(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; restore the product's folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); restore the product's folder") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    except RecursionError:
        raise InputError(f"{path}: its values are nested too deeply; docs/products.md shows what there may be") from None
