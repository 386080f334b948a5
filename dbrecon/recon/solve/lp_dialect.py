"""LP text as other programs write it: turned into what HiGHS reads, where that can be done; else what it is is named.

CPLEX and Gurobi read ``=<``, ``<`` and ``=>``, constraints between two numbers, and more spellings of sections; HiGHS does not.
What HiGHS passes over without a word (a constant left of a relation, words before the first section, an objective that another
follows) is refused here: it would answer another program.
"""

import codecs
import re

SECTION = rb"(?im)^[ \t]*"
_END = re.compile(SECTION + rb"end[ \t]*(?:\\.*)?\r?$")
_COMMENT = re.compile(rb"\\[^\n]*")
_NUMBER = rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_SIGNED = rb"(?:[-+][ \t]*)?" + _NUMBER.removeprefix(rb"[-+]?")
_RANGE = re.compile(
    rb"(?:(?P<name>[^\s:<>=]+)[ \t]*:)?\s*(?P<low>" + _NUMBER + rb")\s*(?P<first><=|>=)\s*(?P<terms>[^<>=:]*?[A-Za-z_][^<>=:]*?)\s*"
    rb"(?P<second><=|>=)\s*(?P<high>" + _NUMBER + rb")"
)
_BOUND = re.compile(rb"(?m)^[ \t]*(" + _SIGNED + rb")[ \t]*>=[ \t]*(\S+)[ \t]*>=[ \t]*(" + _SIGNED + rb")")
_TURNED = {b"<=": b">=", b">=": b"<="}
_CONSTANT = re.compile(rb"(?<![^\s:+-])([0-9]+\.?[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(?=[-+<>=])")
_NO_NUMBER = re.compile(rb"(?i)(?<![^\s:+-])(?:nan|inf|infinity)[ \t]+(?=[A-Za-z_])")

_LINE = re.compile(rb"(?m)^.*\S.*$")
_LABEL = re.compile(rb"\s*[^\s:<>=]+\s*:")
_RIGHT_SIDE = re.compile(rb"[<>=]\s*[-+]?[^\s<>=]+\s*$")

_SPELLINGS = {
    "Minimize": rb"minimi[sz]e|minimum|min",
    "Maximize": rb"maximi[sz]e|maximum|max",
    "Subject To": rb"subject[ \t]+to|such[ \t]+that|s\.t\.|st\.?",
    "Bounds": rb"bounds?",
    "General": rb"generals?|gen|integers?|int",
    "Binary": rb"binary|binaries|bin",
}
_OTHERS = {
    "special ordered sets (SOS)": rb"sos[12]?",
    "semi-continuous variables": rb"semi-?(?:continuous|integers?)|semis?|sec|sin",
    "general constraints": rb"general[ \t]+constraints?|gencons?|g\.c\.",
    "piecewise linear objectives": rb"pwlobj",
    "several objectives": rb"(?:minimize|maximize|min|max|minimum|maximum)[ \t]+multi-objectives?",
    "lazy constraints or user cuts": rb"lazy[ \t]+constraints?|user[ \t]+cuts?",
    "scenarios": rb"scenario(?:[ \t]+\S+)?",
    "ranges in a section of their own": rb"ranges?",
}
_NAMED = [*_SPELLINGS, *_OTHERS]
_HEADING = re.compile(
    SECTION
    + rb"(?:"
    + rb"|".join(rb"(?P<other%d>%s)[ \t]*\r?$" % (i, pattern) for i, pattern in enumerate(_OTHERS.values()))
    + rb"|"
    + rb"|".join(rb"(?P<known%d>%s)" % (i, pattern) for i, pattern in enumerate(_SPELLINGS.values()))
    + rb")(?:[ \t]*:(?=[ \t]*\r?$)|(?=\s|\Z)(?![ \t]*:))"
)
_MARKS = {
    "indicator constraints (->)": re.compile(rb"->"),
    "quadratic terms": re.compile(rb"\[[^\]]*[\^*][^\]]*\]|\^"),
    "names with brackets": re.compile(rb"[A-Za-z_0-9]\["),
}


def in_utf8(text: bytes) -> bytes:
    """Return the text as UTF-8 without a mark of it. Names of another encoding are taken for Latin-1: no letter is lost."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1").encode()
    return text.removeprefix(codecs.BOM_UTF8)


def up_to_end(text: bytes) -> bytes | None:
    """Return the text up to its ``End``, in any spelling; None if there is none: it is cut off. What follows is for no reader."""
    found = _END.search(text)
    return text[: found.start()] + b"End\n" if found else None


def plain(text: bytes) -> bytes:
    """Return the same program without comments, its sections as HiGHS spells them."""
    return _HEADING.sub(lambda match: _heading(match).encode() if match.lastgroup else match[0], _COMMENT.sub(b"", text))


def _heading(match: re.Match[bytes]) -> str:
    group = str(match.lastgroup)
    if group.startswith("other"):
        return match[0].decode("latin-1")
    return list(_SPELLINGS)[int(group.removeprefix("known"))]


def unsupported(text: bytes) -> str | None:
    """Return what a :func:`plain` text has that is not supported here; None if there is no such thing."""
    headings = [(match.start(), str(match.lastgroup), _heading(match)) for match in _HEADING.finditer(text)]
    for _, group, _ in headings:
        if group.startswith("other"):
            return list(_OTHERS)[int(group.removeprefix("other"))]
    names = [name for _, _, name in headings]
    if sum(name in ("Minimize", "Maximize") for name in names) > 1:
        return "several objectives"
    before = text[: headings[0][0]].strip() if headings else b""
    if before:
        return f"words before its first section ({before[:40].decode('latin-1')!r})"
    constraints = _constraints(text)
    if _NO_NUMBER.search(constraints):
        return "coefficients that are no numbers"
    constant = next((match[1] for match in _CONSTANT.finditer(constraints) if _is_constant(constraints, match)), None)
    return None if constant is None else f"constants left of a relation ({constant.decode()})"


def marks(text: bytes) -> str | None:
    """Return what a :func:`plain` text that HiGHS cannot read has of signs that it does not know; None if there is none."""
    return next((name for name, pattern in _MARKS.items() if pattern.search(text)), None)


def _is_constant(text: bytes, match: re.Match[bytes]) -> bool:
    """Return whether a number that no variable follows is neither a relation's right side, nor a range's left one, nor 0."""
    before = text[max(0, match.start() - 80) : match.start()]
    relation = before.rstrip(b" \t\r\n+-").endswith((b"<", b">", b"="))
    begins = before.rstrip(b" \t").endswith((b":", b"\n")) and not before.rstrip().endswith((b"+", b"-"))
    return not relation and not (begins and text[match.end()] in b"<>=") and float(match[1]) != 0


def _constraints(text: bytes) -> bytes:
    begin, end = _place_of(text, "Subject To")
    return text[begin:end]


def _place_of(text: bytes, section: str) -> tuple[int, int]:
    """Where the section's content begins and ends; twice the text's length if it has none."""
    headings = list(_HEADING.finditer(text))
    ends = [*(match.start() for match in headings[1:]), len(text)]
    for match, end in zip(headings, ends, strict=False):
        if _heading(match) == section:
            return match.end(), end
    return len(text), len(text)


def statements(text: bytes) -> list[int]:
    """Return where statements of a :func:`plain` text begin, as far as its lines tell: headings, names with a colon, what follows a
    relation's right side, and each line behind the constraints."""
    found, ended = [], True
    _, behind = _place_of(text, "Subject To")
    for match in _LINE.finditer(text):
        heading = _HEADING.match(text, match.start())
        if heading or ended or match.start() >= behind or _LABEL.match(match[0]):
            found.append(match.start())
        ended = heading is not None or _RIGHT_SIDE.search(match[0]) is not None
    return found


def translated(text: bytes) -> bytes:
    """Return the same program, :func:`plain` text, in relations that HiGHS reads. A constraint between two numbers becomes two, the
    second one named ``..._range``."""
    text = re.sub(rb"==|[<>]=?|=[<>]", lambda match: _RELATIONS.get(match[0], match[0]), text)
    begin, end = _place_of(text, "Subject To")
    text = text[:begin] + _RANGE.sub(_two_constraints, text[begin:end]) + text[end:]
    begin, end = _place_of(text, "Bounds")
    return text[:begin] + _BOUND.sub(rb" \3 <= \2 <= \1", text[begin:end]) + text[end:]


_RELATIONS = {b"==": b"=", b"<": b"<=", b"=<": b"<=", b">": b">=", b"=>": b">="}


def _two_constraints(match: re.Match[bytes]) -> bytes:
    low, first, terms, second, high = match.group("low", "first", "terms", "second", "high")
    name = match["name"]
    first_name, second_name = (b" %s:" % name, b" %s_range:" % name) if name else (b"", b"")
    return b"%s %s %s %s\n%s %s %s %s" % (first_name, terms, _TURNED[first], low, second_name, terms, second, high)
