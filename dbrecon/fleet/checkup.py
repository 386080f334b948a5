"""What --doctor has to say of one thing."""

from __future__ import annotations

from dataclasses import dataclass

from dbrecon.ctools.proc import MIB

SKEW_SECONDS = 10
MEMORY_MIB = 1024
DISK_MIB = 2048
GIB = 1 << 20  # in KiB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``level`` is "ok", "warn" (a run may go on) or "FAIL"; ``text`` has the remedy."""

    level: str
    what: str
    text: str

    def line(self) -> str:
        """As --doctor prints it."""
        return f"{self.level:4}  {self.what}: {self.text}"


def skew(what: str, seconds: float) -> Finding:
    """Return a finding of a clock that is ``seconds`` ahead of this machine's."""
    if abs(seconds) <= SKEW_SECONDS:
        return Finding("ok", what, f"within {max(1, round(abs(seconds)))} s of this machine's")
    way = "ahead of" if seconds > 0 else "behind"
    return Finding("warn", what, f"{abs(seconds):,.0f} s {way} this machine's: let NTP (chrony) set both, or S3 and logs go wrong")


def enough(what: str, free_kib: int, needed_mib: int, remedy: str) -> Finding:
    """Return a finding of free memory or disk. With less than a tenth of what is needed nothing goes."""
    text = f"{free_kib / GIB:.1f} GiB free"
    if free_kib * 1024 >= needed_mib * MIB:
        return Finding("ok", what, text)
    level = "FAIL" if free_kib * 1024 < needed_mib * MIB / 10 else "warn"
    return Finding(level, what, f"{text}, less than {needed_mib / 1024:g} GiB: {remedy}")
