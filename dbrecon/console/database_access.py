"""Secrets: encrypting the database's credentials, putting them into a shell, and the database's own client."""

from __future__ import annotations

import os
import sys

from dbrecon.console.parser import Arguments
from dbrecon.errors import DatabaseError, UsageError
from dbrecon.fleet import credentials
from dbrecon.paths import command
from dbrecon.settings import Config, DatabaseArguments

CLIENTS = ("mariadb", "mysql")

DBRTOOL = command("dbrtool")


def encrypt_config(args: Arguments, config: Config) -> int:
    """Encrypt a file of credentials."""
    target = credentials.encrypt_file(args.encrypt_config, config)
    print(f"{target} is written; it may be committed. Remove {args.encrypt_config} now: shred -u {args.encrypt_config}")
    if credentials.readable_by_others(args.encrypt_config):
        sys.stderr.write(f"warning: {args.encrypt_config} can be read by others on this machine\n")
    return 0


def print_env(_args: Arguments, config: Config) -> int:
    """Print what sets the credentials in a shell; on a terminal, for people, without the secrets."""
    found = credentials.variables(config)
    if "MYSQL_HOST" not in found:
        raise UsageError("no MySQL database is set: export MYSQL_HOST and its partners, or encrypt them with --encrypt_config")
    if sys.stdout.isatty():
        sys.stdout.write(credentials.masked_text(found))
        sys.stderr.write(f"Secrets are masked on a terminal, where others may look on. To set them: $({DBRTOOL} --env)\n")
    else:
        sys.stdout.write(credentials.shell_text(found))
    return 0


def open_client(_args: Arguments, config: Config) -> int:
    """Become the database's client. It reads the password from a file without a name, so that no list of processes shows it."""
    database = credentials.with_credentials(config).database()
    if not database["mysql_host"]:
        raise UsageError(f"there is no MySQL database: this one is SQLite, to be opened with: sqlite3 {database['sqlite_path']}")
    options = _way(database) | {
        "user": database["mysql_user"] or "",
        "password": database["mysql_password"] or "",
        "database": database["mysql_database"] or "",
    }
    text = "[client]\n" + "".join(f"{name}={_option(value)}\n" for name, value in options.items() if name != "database")
    text += f"[mysql]\ndatabase={_option(options['database'])}\n"
    descriptor = os.memfd_create("dbrecon-client", 0)
    os.fchmod(descriptor, 0o600)  # the client ignores a file that others could write to
    os.write(descriptor, text.encode("utf-8", "surrogateescape"))
    sys.stdout.flush()
    for client in CLIENTS:
        try:
            os.execvp(client, [client, f"--defaults-extra-file=/dev/fd/{descriptor}"])
        except FileNotFoundError:
            continue
    raise DatabaseError("there is no client here: install mariadb-client or mysql-client")


def _way(database: DatabaseArguments) -> dict[str, str]:
    """Return the client's options for reaching the server. MariaDB's and MySQL's clients each pass over the other's ``loose``
    ones."""
    host, authority = database["mysql_host"] or "", database["mysql_ssl_ca"]
    way = {"host": "localhost", "socket": host, "protocol": "SOCKET"} if host.startswith("/") else {"host": host, "protocol": "TCP"}
    if not host.startswith("/"):
        way["port"] = str(database["mysql_port"] or 3306)
    if authority:
        way |= {"ssl-ca": authority, "loose-ssl-verify-server-cert": "1", "loose-ssl-mode": "VERIFY_IDENTITY"}
    return way


def _option(value: str) -> str:
    """Return a value as an option file has it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
