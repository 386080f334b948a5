"""Text for a terminal or a log."""

_CONTROLS = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160)) if chr(number) not in "\t\n"}


def printable(text: str) -> str:
    """Return a text with escapes for control characters: what comes of files, servers and others may hold a terminal's commands."""
    return text.translate(_CONTROLS)
