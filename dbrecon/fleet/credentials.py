"""The database's credentials: from the environment, else from the file that --encrypt_config made."""

from __future__ import annotations

import glob
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from dbrecon.ctools import storage
from dbrecon.errors import InputError, UsageError
from dbrecon.settings import Config

NEEDED = ("MYSQL_HOST", "MYSQL_DATABASE", "MYSQL_USER", "MYSQL_PASSWORD")
OPEN_NAMES = {
    *("MYSQL_HOST", "MYSQL_PORT", "MYSQL_DATABASE", "MYSQL_USER", "MYSQL_SSL_CA"),
    *("DAS_S3ROOT", "REIDENT", "AWS_DEFAULT_REGION"),
}
"""Variables whose values anybody may see."""

_UNQUOTED = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def with_credentials(config: Config, env: Mapping[str, str] | None = None) -> Config:
    """Return ``config`` with the database's credentials: itself if it names a database, or if there is no encrypted file.

    Raises UsageError, InputError, AwsError for an encrypted file that does not help.
    """
    env = os.environ if env is None else env
    if config.db.mysql_host or config.db.mysql_database or config.db.mysql_user or config.db.sqlite:
        return config  # what is incomplete is told by whoever connects
    path = encrypted_file(config)
    return config if path is None else Config.load(config.path, {**env, **read_encrypted(path)})


def encrypted_file(config: Config) -> str | None:
    """Return the encrypted file; None if there is none. UsageError if there are several."""
    pattern = config.secrets.file
    found = sorted(path for path in glob.glob(pattern) if not path.endswith(".tmp")) if pattern else []
    if len(found) > 1:
        raise UsageError(f"{' and '.join(found)} are both there: name one in [secrets] file of {config.path}")
    return found[0] if found else None


def read_encrypted(path: str) -> dict[str, str]:
    """Return the variables in an encrypted file, by KMS. Raises InputError, StorageError, AwsError."""
    from dbrecon.ctools import kms

    with storage.sopen(path) as file:
        content = file.read()
    return parse_variables(kms.decrypt(content, path), path)


def encrypt_file(plain: str, config: Config) -> str:
    """Encrypt a plain JSON file of variables; where the encrypted one is. Raises UsageError, InputError, StorageError, AwsError."""
    from dbrecon.ctools import kms

    key, pattern = config.secrets.kms_key, config.secrets.file
    if not key:
        raise UsageError(f"which KMS key? Set [secrets] kms_key in {config.path} (an id, an ARN or alias/NAME), or DBRECON_KMS_KEY")
    if not pattern:
        raise UsageError(f"where to? Set [secrets] file in {config.path}")
    with storage.sopen(plain, "rb") as file:
        text = file.read()
    found = parse_variables(text, plain)
    missing = [name for name in NEEDED if name not in found]
    if missing:
        example = ", ".join(f'"{name}": "..."' for name in NEEDED)
        raise InputError(f"{plain} lacks {', '.join(missing)}: it is a JSON object such as {{{example}}}")
    target = str(pattern).replace("*", re.sub(r"[^A-Za-z0-9_-]", "_", Path(plain).stem))
    content = kms.encrypt(text, key)
    with storage.sopen(target, "w") as out:
        out.write(content)
    return target


def readable_by_others(path: str) -> bool:
    """Return whether a file's permissions let others than its owner read it."""
    return bool(os.stat(path).st_mode & (stat.S_IRGRP | stat.S_IROTH))


def parse_variables(text: bytes, path: str) -> dict[str, str]:
    """Return a JSON object of environment variables. InputError, which never quotes a value, if it is none."""
    try:
        written = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON (line {getattr(error, 'lineno', '?')}): correct it") from None
    if not isinstance(written, dict):
        raise InputError(f"{path} must be a JSON object of variables and their values")
    found: dict[str, str] = {}
    for name, value in written.items():
        if not _NAME.fullmatch(name):
            raise InputError(f"{path}: {name!r} cannot be the name of an environment variable")
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise InputError(f"{path}: the value of {name} must be a text or a number")
        if any(ord(character) < 32 or ord(character) == 127 for character in str(value)):
            raise InputError(f"{path}: the value of {name} has a line end or another control character")
        found[name] = str(value)
    return found


def variables(config: Config) -> dict[str, str]:
    """Return what --env puts into a shell: all of the encrypted file where that is used, else the database's settings."""
    path = None if config.db.mysql_host else encrypted_file(config)
    found = {} if path is None else read_encrypted(path)
    credentials = with_credentials(config) if path is None else Config.load(config.path, {**os.environ, **found})
    database = credentials.db
    named = {
        "MYSQL_HOST": database.mysql_host,
        "MYSQL_PORT": database.mysql_port,
        "MYSQL_DATABASE": database.mysql_database,
        "MYSQL_USER": database.mysql_user,
        "MYSQL_PASSWORD": database.mysql_password,
        "MYSQL_SSL_CA": database.ssl_ca,
    }
    return {name: str(value) for name, value in named.items() if value is not None} | found


def shell_text(found: Mapping[str, str]) -> str:
    """Return commands that set the variables, for ``$(./dbrtool.py --env)`` and for ``eval "$(./dbrtool.py --env)"``.

    The first form never takes quotes away, so the text begins with ``eval``, which does: its words are put together again with one
    space between them. For that a value must have no space and nothing that a file name could match: such values are given to
    printf in octal. In the second form the line with ``eval`` alone does nothing.
    """
    if not found:
        return ""
    return "eval\nexport " + " ".join(f"{name}={_quoted(value)}" for name, value in found.items()) + "\n"


def masked_text(found: Mapping[str, str]) -> str:
    """For a terminal: a line a variable, the values of secrets hidden."""
    return "".join(f"export {name}={value if name in OPEN_NAMES else '********'}\n" for name, value in found.items())


def _quoted(value: str) -> str:
    if _UNQUOTED.fullmatch(value):
        return value
    octal = "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\0{byte:03o}" for byte in value.encode())
    return f"\"$(printf %b '{octal}')\""
