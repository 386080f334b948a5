"""What this node calls itself."""

from __future__ import annotations

import os
import re
import socket

from dbrecon.errors import UsageError

VARIABLE = "DBRECON_HOSTNAME"
"""The environment variable that names a node differently from its system: two nodes on one machine, say."""

MAX_LENGTH = 100


def host_name() -> str:
    """Return the node's name: $DBRECON_HOSTNAME, else the system's. UsageError if the variable's value cannot be a host's name."""
    given = os.environ.get(VARIABLE)
    if not given:
        return socket.gethostname()
    if len(given) > MAX_LENGTH or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", given):
        raise UsageError(
            f"{VARIABLE}={given} is no host name: give letters, digits, dots and hyphens, at most {MAX_LENGTH}, or unset it."
        )
    return given
