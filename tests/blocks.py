"""The blocks of code that the pages show, and what is said of each: run, run by a test, or why not."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.paths import CHECKOUT

PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted(CHECKOUT.glob("bench/*.md")),
    *(page for page in sorted(CHECKOUT.glob("docs/**/*.md")) if "_build" not in page.parts),
]
SAID = re.compile(r" *<!-- (not run:|run by|run)(?: (.+))? -->")


@dataclass(frozen=True)
class Block:
    """An indented block of a page: its lines, and the comment before it. ``line``: where it begins."""

    page: str
    line: int
    text: str
    said: str
    reason: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines that start one of the two commands, without what ``watch`` would repeat them with."""
        plain = [re.sub(r"^watch '(.*)'$", r"\1", line) for line in self.text.splitlines()]
        return [line for line in plain if re.match(r"\./(dbrtool|scheduler)\.py ", line)]


def blocks_of(page: Path) -> list[Block]:
    """All indented blocks of a page, those of lists too; what stands between fences is a notebook's, which runs as a whole."""
    text = re.sub(r"^```.*?^```$", lambda fence: "\n" * fence[0].count("\n"), page.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines, found, at = text.split("\n"), list[Block](), 0
    while at < len(lines):
        before = lines[at - 1] if at else ""
        if re.match(r" {4}", lines[at]) and lines[at].strip() and (not before.strip() or SAID.fullmatch(before)):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            said = SAID.fullmatch(before)
            shown = "\n".join(line.strip() if line.startswith("     ") else line[4:] for line in lines[at:end]).strip("\n")
            named = str(page.relative_to(CHECKOUT))
            found.append(Block(named, at + 1, shown, said[1] if said else "", (said[2] or "") if said else ""))
            at = end
        at += 1
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
