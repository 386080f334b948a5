"""Mermaid's state diagrams as pictures, drawn when the site is built: no script, no network, in the page's own colours.

States stand in a row. What leads to a later state is an arc above them, what leads back an arc below; events of one arc are
stacked. Understood are lines ``A --> B: event``, which is what ``ledger.lifecycle.mermaid`` writes.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

FENCE = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", re.M | re.S)
EVENT = re.compile(r"^ +(\S+) --> (\S+?)(?:: (.*))?$", re.M)
OUTSIDE = "[*]"
STEP, BOX, TALL, LINE, LETTER, MARGIN = 188, 108, 34, 15, 6.4, 14
WORDS = 26  # an event's longest line, in letters


@dataclass(frozen=True)
class Arc:
    """The events that lead from one place of the row to another."""

    start: int
    end: int
    events: tuple[str, ...]

    @property
    def span(self) -> int:
        """How many places it goes; 0 where the state stays."""
        return abs(self.end - self.start)

    @property
    def above(self) -> bool:
        """Whether it is drawn above the states."""
        return self.end >= self.start


def drawing(text: str) -> str:
    """Return a state diagram as an SVG element for a page of HTML. A dot stands before each state in which a life begins."""
    edges = EVENT.findall(text)
    states = list(dict.fromkeys(state for edge in edges for state in edge[:2] if state != OUTSIDE))
    events: dict[tuple[int, int], list[str]] = {}
    for start, end, event in edges:
        if OUTSIDE not in (start, end):
            events.setdefault((states.index(start), states.index(end)), []).extend(textwrap.wrap(event, WORDS))
    arcs = [Arc(*ends, tuple(dict.fromkeys(found))) for ends, found in events.items()]
    up, down = _reaches(arcs, above=True), _reaches(arcs, above=False)
    middle = max([0, *up.values()]) + TALL / 2 + MARGIN
    notes = list(_notes(edges))
    height = middle + max([0, *down.values()]) + TALL / 2 + MARGIN + LINE * len(notes)
    width = STEP * (len(states) - 1) + BOX + 60
    parts = [*_states(states, {end for start, end, _ in edges if start == OUTSIDE}, middle)]
    parts += [part for arc in sorted(arcs, key=lambda arc: -arc.span) for part in _arc(arc, middle, up if arc.above else down)]
    for number, note in enumerate(reversed(notes)):
        parts.append(f'<text x="30" y="{height - LINE * number - 4:g}">{escape(note)}</text>')
    named = escape(f"States {', '.join(states)}, and the events that lead from one to another; the table below has them all.")
    size = f'viewBox="0 0 {width} {height:g}" style="min-width:{0.62 * width:g}px;max-width:{width}px"'
    picture = f'<svg {size} role="img" aria-label="{named}">{"".join(parts)}</svg>'
    return f'<div class="state-diagram" tabindex="0" role="group" aria-label="Drawing of the states">{picture}</div>'


def _notes(edges: list[tuple[str, str, str]]) -> Iterator[str]:
    """How a life begins and ends, in words."""
    begins = dict.fromkeys(event for start, _, event in edges if start == OUTSIDE and event)
    ends = dict.fromkeys(event for _, end, event in edges if end == OUTSIDE)
    if begins:
        yield f"\u25cf {', '.join(begins)}"
    if ends:
        yield f"From every state out of the table: {', '.join(ends)}"


def _reaches(arcs: list[Arc], *, above: bool) -> dict[int, float]:
    """How far from the row of states the arcs of each span go: beyond the shorter ones and their events."""
    found, reach = dict[int, float](), TALL / 2 + 8.0
    for span in sorted({arc.span for arc in arcs if arc.above is above}):
        lines = max(len(arc.events) for arc in arcs if arc.above is above and arc.span == span)
        found[span] = reach = reach + LINE * lines + 12
    return found


def _x(place: int) -> float:
    return 30 + BOX / 2 + STEP * place


def _states(states: list[str], begins: set[str], middle: float) -> Iterator[str]:
    for number, state in enumerate(states):
        left = _x(number) - BOX / 2
        if state in begins:
            yield f'<circle class="head" cx="{left - 22:g}" cy="{middle:g}" r="5"/>'
            yield f'<path class="arc" d="M{left - 17:g} {middle:g}h10"/><path class="head" d="M{left:g} {middle:g}l-8 -4v8z"/>'
        yield f'<rect x="{left:g}" y="{middle - TALL / 2:g}" width="{BOX}" height="{TALL}" rx="8"/>'
        yield f'<text x="{_x(number):g}" y="{middle + 5:g}" text-anchor="middle" class="state">{escape(state)}</text>'


def _arc(arc: Arc, middle: float, reaches: dict[int, float]) -> Iterator[str]:
    """Draw the arc with its head, and its events at its top."""
    side, reach = (-1 if arc.above else 1), reaches[arc.span]
    ahead = 1 if arc.end >= arc.start else -1
    edge = middle + side * TALL / 2
    # Long arcs end nearer to the middle of a state than short ones, so that none crosses another where they begin.
    lean = ahead * max(6.0, 40.0 - 12 * (arc.span - 1))
    begin, end, top = _x(arc.start) + lean, _x(arc.end) - lean, middle + side * reach
    if arc.span == 0:
        begin, end = _x(arc.start) - 22, _x(arc.start) + 22
    x, pull = (begin + end) / 2, 0.22 * (end - begin)
    rise = f"C{begin + pull / 2:g} {top:g} {begin + pull:g} {top:g} {x:g} {top:g}"
    fall = f"S{end - pull / 2:g} {top:g} {end:g} {edge + side * 5:g}"
    yield f'<path class="arc" d="M{begin:g} {edge:g}{rise}{fall}"/>'
    yield f'<path class="head" d="M{end:g} {edge:g}l-4.5 {side * 9:g}h9z"/>'
    for number, event in enumerate(arc.events):
        y = top + (LINE * number + 4 if arc.above else -LINE * (len(arc.events) - 1 - number) + 4)
        wide = LETTER * len(event) + 8
        yield f'<rect class="behind" x="{x - wide / 2:g}" y="{y - 11.5:g}" width="{wide:g}" height="{LINE}"/>'
        yield f'<text x="{x:g}" y="{y:g}" text-anchor="middle">{escape(event)}</text>'


def draw(_app: Sphinx, _docname: str, source: list[str]) -> None:
    """Put drawings in place of a page's state diagrams."""
    source[0] = FENCE.sub(lambda found: f"```{{raw}} html\n{drawing(found[1])}\n```", source[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Listen for pages that are read."""
    app.connect("source-read", draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
