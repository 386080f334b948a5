"""What can go wrong on the way to another machine."""

from __future__ import annotations

from dbrecon.errors import RemoteError


class SshError(RemoteError):
    """A machine that cannot be reached, that refuses, or whose key is not the one that is known."""


class Unreachable(SshError):
    """A machine that does not answer, or refuses the connection. The text says how, and has no remedy: lists of nodes show it."""


class NameUnknown(SshError):
    """A host's name that leads to no address."""


def words(error: BaseException) -> str:
    """Return a library's error on one line, for the middle of a sentence."""
    silent = "the connection was closed" if isinstance(error, EOFError) else type(error).__name__
    text = (isinstance(error, OSError) and error.strerror) or str(error) or silent
    return " ".join(text.split()).rstrip(".")
