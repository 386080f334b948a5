"""Ports of the loopback interface for the servers of tests."""

import secrets
import socket
from pathlib import Path

LOWEST = 10_000


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port of the address that nobody uses just now, and that the system gives to no client.

    A port of the clients' range could be a client's before the server has it, or while a test has stopped the server; and who then
    asks that port for an answer may be connected to himself.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        port = LOWEST + secrets.randbelow(_first_of_clients() - LOWEST)
        with socket.socket(family) as listener:
            try:
                listener.bind((address, port))
            except OSError:
                continue
            return port


def free_ports(number: int) -> list[int]:
    """So many different ones of 127.0.0.1."""
    found: set[int] = set()
    while len(found) < number:
        found.add(free_port())
    return sorted(found)


def _first_of_clients() -> int:
    setting = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(setting.read_text().split()[0]) if setting.exists() else 32_768
    return first if first > 2 * LOWEST else 32_768
