"""Who may see the dashboard, and what a browser may do with it.

Without a token it answers the same machine alone (a proxy may stand there), and only under names that are known: a page elsewhere
that has its own name point here (DNS rebinding) gets nothing. With a token it asks everyone for it: browsers by HTTP Basic
authentication with any user name, programs also by ``Authorization: Bearer``.
"""

import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from flask import Request

from dbrecon.errors import DBReconError, UsageError
from dbrecon.settings import Config

SHORTEST_TOKEN = 16
OPEN_PATH = "/api/health"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Headers of every answer."""


class Refused(DBReconError):
    """A request that is not answered. ``status`` is the HTTP status: 401 asks for the token."""

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(message, status)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Access:
    """The rule: a token, or none and the names under which this machine may be asked."""

    token: str | None
    names: frozenset[str]

    @classmethod
    def of(cls, config: Config) -> "Access":
        """Return what the settings say. UsageError for a token that can be guessed."""
        token = config.dashboard.token or None
        if token is not None and len(token) < SHORTEST_TOKEN:
            raise UsageError(
                f"[dashboard] token is too short: give at least {SHORTEST_TOKEN} characters, as from `openssl rand -hex 16`"
            )
        names = (config.dashboard.names or "").split(",")
        return cls(token, frozenset(name.strip().lower() for name in names if name.strip()))

    def check(self, request: Request) -> None:
        """Raise Refused unless the request may be answered."""
        if request.path == OPEN_PATH:
            return
        if self.token is not None:
            if not _matches(_given(request), self.token):
                raise Refused("a token is needed: give it as the password, with any user name", 401)
            return
        if not is_loopback(request.remote_addr or ""):
            raise Refused("without a token the dashboard answers its own machine alone: set [dashboard] token")
        if not is_local_name(hostname(request.host), self.names):
            name = request.host[:100]
            raise Refused(f"{name} is no name of this dashboard: add it to [dashboard] names, or set [dashboard] token")


def check_host(host: str, token: str | None) -> None:
    """Raise UsageError if the server would listen to other machines without a token."""
    if token is None and not is_loopback(host) and host != "localhost":
        how = "DBRECON_DASHBOARD_TOKEN in the environment, or [dashboard] token"
        raise UsageError(f"--host {host} lets other machines in: first set a token ({how})")


def is_loopback(address: str) -> bool:
    """Return whether it is an address of this machine; "" is a Unix socket's."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address == ""
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def is_local_name(name: str, more: Iterable[str]) -> bool:
    """Return whether it is this machine's own name for itself, or one of ``more``."""
    return name in ("localhost", *more) or (name != "" and is_loopback(name))


def hostname(host: str) -> str:
    """Return the name or address of a Host header, without its port, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _given(request: Request) -> str:
    authorization = request.authorization
    if authorization is None:
        return ""
    return (authorization.token if authorization.type == "bearer" else authorization.password) or ""


def _matches(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode("utf-8", "surrogateescape"))
