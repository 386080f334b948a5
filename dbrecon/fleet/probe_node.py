"""Run by --doctor on a node, with whatever Python is there and nothing but it: what a scheduler there could reach.

Reads PROBE_... from the environment and prints name=value lines: database=..., storage=...; database_error=..., storage_error=...
where something fails. With pymysql there (an environment that a launch made) it logs in to the database too.
"""

import os
import socket
import ssl
import sys
import urllib.request


def words(error: Exception) -> str:
    """Return an error on one line."""
    return " ".join(str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error).split())[:300]


def greeting(host: str, port: int, seconds: float) -> str:
    """Return the server's version, from its first packet; an OSError with its own words where it refuses this machine."""
    with socket.create_connection((host, port), timeout=seconds) as connection:
        data = connection.recv(1024)
    if len(data) < 6:
        raise OSError("it closed the connection")
    if data[4] == 0xFF:
        raise OSError(data[7:].decode("utf-8", "replace"))
    return data[5:].split(b"\0")[0].decode("ascii", "replace")


def database(seconds: float) -> str:
    """Return what the database says. OSError if it does not answer, or refuses."""
    host, port = os.environ["PROBE_MYSQL_HOST"], int(os.environ["PROBE_MYSQL_PORT"])
    version = greeting(host, port, seconds)
    try:
        import pymysql
    except ImportError:
        return version
    name, user, password = (os.environ["PROBE_MYSQL_" + part] for part in ("DATABASE", "USER", "PASSWORD"))
    authority = os.environ.get("PROBE_MYSQL_SSL_CA")
    context = ssl.create_default_context(cafile=authority) if authority else None
    try:
        pymysql.connect(
            host=host,
            port=port,
            database=name,
            user=user,
            password=password.encode("utf-8", "surrogateescape"),
            ssl=context,
            connect_timeout=seconds,
            read_timeout=seconds,
        ).close()
    except pymysql.MySQLError as error:
        raise OSError(error.args[-1]) from error
    return version + ", logged in"


def storage(seconds: float) -> str:
    """Return that the storage is the one where the console wrote PROBE_CONTENT. OSError if not."""
    content = os.environ["PROBE_CONTENT"]
    if os.environ.get("PROBE_PATH"):
        path = os.environ["PROBE_PATH"]
        with open(path) as file:
            if file.read() != content:
                raise OSError("it is another folder than here")
        if not os.access(os.path.dirname(path), os.W_OK | os.X_OK):
            raise OSError("it cannot be written")
        return "the folder is the same as here"
    with urllib.request.urlopen(os.environ["PROBE_URL"], timeout=seconds) as answer:
        if answer.read().decode() != content:
            raise OSError("it gives something else than was written here")
    return "what was written here is read there"


def main() -> None:
    """Look at what is asked for."""
    seconds = float(os.environ["PROBE_SECONDS"])
    for name, wanted, look in (("database", "PROBE_MYSQL_HOST", database), ("storage", "PROBE_CONTENT", storage)):
        if not os.environ.get(wanted):
            continue
        try:
            print(name + "=" + look(seconds))
        except (OSError, ValueError) as error:
            print(name + "_error=" + words(error))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
