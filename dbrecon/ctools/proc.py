"""What the system says of processes and memory: /proc and control groups, read directly."""

from __future__ import annotations

import os
from dataclasses import dataclass

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20


@dataclass(frozen=True)
class ProcessFacts:
    """A process now: its state's letter as in ps(1), CPU seconds so far, resident MiB, and when it started, in ticks since the
    machine did: clocks may be set meanwhile."""

    pid: int
    state: str
    cpu_seconds: float
    rss_mib: float
    started: int

    @property
    def gone(self) -> bool:
        """Whether it has ended and is only waiting to be asked how (a zombie)."""
        return self.state in ("Z", "X")


def process_facts(pid: int) -> ProcessFacts | None:
    """Return the facts of a process; None if there is none of that number."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # from the third field of proc(5) on: the name may hold anything
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    return ProcessFacts(pid, fields[0], cpu, int(fields[21]) * _PAGE / MIB, int(fields[19]))


def process_line(pid: int) -> str | None:
    """Return a process in a line of a table: pid, state, CPU seconds, MiB; None if it has gone."""
    facts = process_facts(pid)
    return f"{facts.pid:>8}  {facts.state:<5} {facts.cpu_seconds:>9.1f}  {facts.rss_mib:,.0f}" if facts else None


@dataclass(frozen=True)
class Memory:
    """Memory that processes of ours can still get, and all there is, in MiB."""

    free_mib: float
    total_mib: float


def memory(root: str = "/") -> Memory:
    """Return the machine's memory, or what this process's control groups leave of it, whichever is less.

    Free is what a process can get without swapping: page cache counts as free. ``root`` is where /proc and /sys lie.
    """
    with open(os.path.join(root, "proc/meminfo"), encoding="utf-8") as file:
        kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in file)}
    free, total = kib["MemAvailable"] / 1024, kib["MemTotal"] / 1024
    for limit, used in _group_limits(root):
        if limit < total * MIB:
            total = min(total, limit / MIB)
            free = min(free, max(0.0, limit - used) / MIB)
    return Memory(free, total)


def _group_limits(root: str) -> list[tuple[float, float]]:
    """Return (limit, used) in bytes of each control group that holds this process, versions 1 and 2 (man 7 cgroups)."""
    mount = os.path.join(root, "sys/fs/cgroup")
    found = []
    with open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8") as file:
        for line in file:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if number == "0" and not controllers:
                names, base = ("memory.max", "memory.current", "inactive_file"), mount
            elif "memory" in controllers.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                base = os.path.join(mount, "memory")
            else:
                continue
            parts = [part for part in path.split("/") if part not in ("", "..")]
            # In a container its own group may be mounted at the top, whatever path the line gives.
            folders = [os.path.join(base, *parts[:depth]) for depth in range(len(parts), -1, -1)]
            found += [limits for folder in folders if (limits := _limits_of(folder, *names)) is not None]
    return found


def _limits_of(folder: str, limit_name: str, used_name: str, cache_name: str) -> tuple[float, float] | None:
    """Return a group's limit and use, without page cache that goes when it is needed; None where the folder sets no limit."""
    try:
        with open(os.path.join(folder, limit_name), encoding="utf-8") as file:
            limit = file.read().strip()
        with open(os.path.join(folder, used_name), encoding="utf-8") as file:
            used = int(file.read())
        with open(os.path.join(folder, "memory.stat"), encoding="utf-8") as file:
            cache = next((int(line.split()[1]) for line in file if line.startswith(f"{cache_name} ")), 0)
    except (FileNotFoundError, PermissionError):
        return None
    return None if limit == "max" else (float(limit), float(used - cache))
