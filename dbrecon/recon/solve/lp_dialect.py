"""LP text as other programs write it: turned into what HiGHS reads, where that can be done; else what it is is named.

CPLEX and Gurobi read ``=<`` and ``=>``, sections ``Integer``, and constraints between two numbers; HiGHS does not.
"""

import re

SECTION = rb"(?im)^[ \t]*"
_INTEGERS = re.compile(SECTION + rb"integers?[ \t]*\r?$")
_END = re.compile(SECTION + rb"end[ \t]*(?:\\.*)?\r?$")
_COMMENT = re.compile(rb"\\[^\n]*")
_NUMBER = rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(
    rb"(?:(?P<name>[^\s:<>=]+)[ \t]*:)?\s*(?P<low>"
    + _NUMBER
    + rb")\s*(?P<first><=|>=|<|>)\s*(?P<terms>[^<>=:]*?[A-Za-z_][^<>=:]*?)\s*"
    rb"(?P<second><=|>=|<|>)\s*(?P<high>" + _NUMBER + rb")"
)
_CONSTRAINTS = re.compile(SECTION + rb"(?:subject[ \t]+to|such[ \t]+that|st|s\.t\.)[ \t]*:?")
_AFTER = re.compile(SECTION + rb"(?:bounds?|general|generals|gen|integers?|int|binary|binaries|bin|end|sos\w*|semi\w*)[ \t]*\r?$")
_TURNED = {b"<=": b">=", b"<": b">=", b">=": b"<=", b">": b"<="}

UNSUPPORTED = {
    "indicator constraints (->)": re.compile(rb"->"),
    "special ordered sets (SOS)": re.compile(SECTION + rb"sos[12]?[ \t]*\r?$"),
    "semi-continuous variables": re.compile(SECTION + rb"(?:semi-continuous|semis?|sec|sin)[ \t]*\r?$"),
    "general constraints": re.compile(SECTION + rb"(?:general[ \t]+constraints?|gencons?|g\.c\.)[ \t]*\r?$"),
    "piecewise linear objectives": re.compile(SECTION + rb"pwlobj[ \t]*\r?$"),
    "several objectives": re.compile(SECTION + rb"(?:minimize|maximize|min|max|minimum|maximum)[ \t]+multi-objectives?"),
    "lazy constraints or user cuts": re.compile(SECTION + rb"(?:lazy[ \t]+constraints?|user[ \t]+cuts?)[ \t]*\r?$"),
    "quadratic terms": re.compile(rb"\[[^\]]*[\^*][^\]]*\]"),
}


def up_to_end(text: bytes) -> bytes | None:
    """Return the text up to its ``End``, in any spelling; None if there is none: it is cut off. What follows is for no reader."""
    tail = max(0, len(text) - 4096)
    found = _END.search(text, text.rfind(b"\n", 0, tail) + 1) or _END.search(text)
    return text[: found.start()] + b"End\n" if found else None


def unsupported(text: bytes) -> str | None:
    """Return what the text has that is not honoured here; None if there is no such thing."""
    plain = _COMMENT.sub(b"", text)
    return next((name for name, pattern in UNSUPPORTED.items() if pattern.search(plain)), None)


def translated(text: bytes) -> bytes:
    """Return the same program as HiGHS reads it. A constraint between two numbers becomes two, the second one named
    ``..._range``."""
    text = _COMMENT.sub(b"", text).replace(b"=<", b"<=").replace(b"=>", b">=")
    text = _INTEGERS.sub(b"General", text)
    begin = _CONSTRAINTS.search(text)
    if begin is None:
        return text
    after = _AFTER.search(text, begin.end())
    end = after.start() if after else len(text)
    return text[: begin.end()] + _RANGE.sub(_two_constraints, text[begin.end() : end]) + text[end:]


def _two_constraints(match: re.Match[bytes]) -> bytes:
    low, first, terms, second, high = match.group("low", "first", "terms", "second", "high")
    name = match["name"]
    first_name, second_name = (b" %s:" % name, b" %s_range:" % name) if name else (b"", b"")
    return b"%s %s %s %s\n%s %s %s %s" % (first_name, terms, _TURNED[first], low, second_name, terms, second, high)
