"""The drawings of a report, by matplotlib: each a function of numbers that returns a :class:`.document.Figure`.

The same numbers give the same bytes: no date, no random ids. Colours are told apart by those who see few (Okabe and Ito's palette).
"""

import functools
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import numpy.typing as npt

from dbrecon.ctools.extras import extra
from dbrecon.report.document import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

BLUE, ORANGE, GREEN, SKY, GREY, INK = "#0072b2", "#d55e00", "#009e73", "#56b4e9", "#8a94a0", "#1b2430"
COLOURS = {
    "reconstruction": BLUE,
    "modal guess": ORANGE,
    "modal": ORANGE,
    "proportional guess": GREEN,
    "random people": GREY,
    "random": GREY,
}
MAP_COLOURS = "viridis"
MARKS = 8
"""At most so many, about, on a scale."""
ROW_LETTERS, COLUMN_LETTERS = 30, 12
"""Where the names of rows and of columns are broken."""

_STYLE: Any = {  # matplotlib types its names one by one
    "font.size": 10.5,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#55606e",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e7ec",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "svg.hashsalt": "dbrecon",
    "svg.fonttype": "path",
    "figure.dpi": 100,
    "savefig.dpi": 200,
}

Floats = npt.NDArray[np.float64]
P = ParamSpec("P")


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the report's style, whatever matplotlib's settings are outside."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with extra("report"):
            from matplotlib import rc_context
        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def _drawing(width: float = 8.0, height: float = 4.2, columns: int = 1, **more: Any) -> "tuple[Drawing, Any]":
    """Return an empty drawing, not registered with any display, in inches."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(width, height), layout="constrained")
    return drawing, drawing.subplots(1, columns, **more)


def _finished(drawing: "Drawing", name: str, caption: str, alt: str) -> Figure:
    """Return the drawing as SVG and PNG."""
    files = {}
    for kind, metadata in (("svg", {"Date": None, "Creator": "dbrecon"}), ("png", {"Software": "dbrecon"})):
        out = io.BytesIO()
        drawing.savefig(out, format=kind, metadata=metadata)
        files[kind] = out.getvalue()
    return Figure(name, caption, alt, files["svg"], files["png"])


def _whole_per_cent(value: float) -> int:
    """Return a share in whole per cent, never rounded up to 100 or down to 0."""
    return 100 if value >= 1 else 0 if value <= 0 else min(99, max(1, round(100 * value)))


def _percent_axis(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _share_axes(axes: Any, right: float, x: str, y: str) -> None:
    """Make both axes shares of 1, from 0 to ``right`` and to a little above 1."""
    axes.set(xlim=(0, right), ylim=(0, 1.03), xlabel=x, ylabel=y)
    _percent_axis(axes.xaxis)
    _percent_axis(axes.yaxis)


def _people_axis(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):,.0f}"))


@_styled
def bars_by_group(
    name: str, caption: str, alt: str, groups: Sequence[str], series: Mapping[str, Sequence[float]], unit: str, wide: bool = True
) -> Figure:
    """Draw grouped bars of shares (0 to 1): one group a name, one bar a series. A NaN is a bar that is not there."""
    drawing, axes = _drawing(8.6 if wide else 6.4, 4.2)
    width = 0.8 / max(1, len(series))
    for number, (label, values) in enumerate(series.items()):
        at = np.arange(len(groups)) + (number - (len(series) - 1) / 2) * width
        colour = COLOURS.get(label, (BLUE, ORANGE, GREEN, GREY, SKY)[number % 5])
        bars = axes.bar(at, np.nan_to_num(values), width * 0.92, label=label, color=colour)
        texts = ["" if np.isnan(value) else f"{_whole_per_cent(value)}" for value in values]
        axes.bar_label(bars, texts, fontsize=8, padding=1, color=INK)
    axes.set_xticks(np.arange(len(groups)), ["\n".join(textwrap.wrap(group, 15)) for group in groups])
    axes.set_ylim(0, 1.08)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    _percent_axis(axes.yaxis)
    axes.set_ylabel(unit)
    axes.legend(ncols=4 if max(map(len, series)) < 20 else 2, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
    return _finished(drawing, name, caption, alt)


@_styled
def pyramid(name: str, caption: str, alt: str, labels: Sequence[str], published: Floats | None, reconstructed: Floats) -> Figure:
    """Draw a population pyramid.

    ``published`` (None: not told) and ``reconstructed`` are (2, groups) people, men first, youngest first.
    """
    from matplotlib.ticker import MaxNLocator

    drawing, (men, women) = _drawing(8.0, 4.8, 2, sharey=True)
    most = 1.08 * max(1.0, float(reconstructed.max()), 0.0 if published is None else float(published.max()))
    at = np.arange(len(labels))
    for sex, axes, title in ((0, men, "men"), (1, women, "women")):
        axes.barh(at, reconstructed[sex], 0.82, color=BLUE, label="reconstructed")
        if published is not None:
            mark = {"linestyle": "none", "marker": "|", "markersize": 9, "markeredgewidth": 2.2}
            axes.plot(published[sex], at, color=ORANGE, label="published", **mark)
        axes.set_xlim((most, 0) if sex == 0 else (0, most))
        axes.set_title(title, fontsize=11)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        _people_axis(axes.xaxis)
    men.set_yticks(at, labels)
    men.set_ylabel("age")
    drawing.legend(*women.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    drawing.supxlabel("people", fontsize=10.5)
    return _finished(drawing, name, caption, alt)


@_styled
def calibration(name: str, caption: str, alt: str, stated: Floats, true: Floats, people: npt.NDArray[np.integer]) -> Figure:
    """Draw the share of records that are true (0 to 1) against their stated confidence; marks grow with ``people``."""
    drawing, axes = _drawing(5.6, 5.0)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    size = 30 + 270 * np.sqrt(people / max(1, people.max(initial=1)))
    axes.scatter(stated, true, s=size, color=BLUE, alpha=0.85, edgecolor="white", label="records")
    _share_axes(axes, 1.03, "confidence: share of samples that have the record", "share of these records that are true")
    axes.legend(loc="upper left")
    return _finished(drawing, name, caption, alt)


@_styled
def curve_by_rank(name: str, caption: str, alt: str, curves: Mapping[str, Floats]) -> Figure:
    """Draw precision (0 to 1) against the share of matches taken, most confident first; each curve is (points, 2)."""
    drawing, axes = _drawing(7.2, 4.2)
    for label, curve in curves.items():
        axes.plot(curve[:, 0], curve[:, 1], color=COLOURS.get(label, INK), linewidth=2, label=label)
    _share_axes(axes, 1.0, "matches taken, most confident first", "precision")
    axes.legend(loc="lower left")
    return _finished(drawing, name, caption, alt)


@_styled
def bars_by_row(
    name: str,
    caption: str,
    alt: str,
    rows: Sequence[str],
    shares: Mapping[str, Sequence[float]],
    amounts: Mapping[str, Sequence[float]],
) -> Figure:
    """Draw a row for each name and a column for each measure: ``shares`` (0 to 1) and ``amounts``. The first row stands out; a NaN
    is a bar that is not there."""
    names = ["\n".join(textwrap.wrap(row, ROW_LETTERS)) for row in rows]
    lines = max(label.count("\n") + 1 for label in names)
    drawing, panels = _drawing(8.6, 0.9 + (0.15 + 0.15 * lines) * len(rows), len(shares) + len(amounts), sharey=True, squeeze=False)
    at = np.arange(len(rows))
    for axes, (label, values) in zip(panels[0], {**shares, **amounts}.items(), strict=True):
        bars = axes.barh(at, np.nan_to_num(values), 0.7, color=[BLUE, *[SKY] * (len(rows) - 1)])
        shown = _whole_per_cent if label in shares else "{:.2g}".format
        axes.bar_label(
            bars, ["–" if np.isnan(value) else f"{shown(value)}" for value in values], fontsize=8.5, padding=2, color=INK
        )
        axes.set_xlim(0, 1.4 * (1.0 if label in shares else max(1e-9, np.nanmax(values))))
        axes.set_title("\n".join(textwrap.wrap(label, COLUMN_LETTERS)), fontsize=9, loc="left")
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0, 0].set_yticks(at, names, fontsize=9.5)
    panels[0, 0].invert_yaxis()
    return _finished(drawing, name, caption, alt)


@_styled
def points_on_map(
    name: str, caption: str, alt: str, longitude: Floats, latitude: Floats, value: Floats, people: Floats, unit: str
) -> Figure:
    """Draw units (tracts, say) as points at their places, coloured by ``value`` (0 to 1), larger where more people live."""
    drawing, axes = _drawing(7.6, 5.6)
    _map_axes(axes, latitude)
    size = 8 + 110 * people / max(1.0, float(people.max(initial=1.0)))
    low, high = _ends(value)
    shown = axes.scatter(longitude, latitude, c=value, s=size, cmap=MAP_COLOURS, vmin=low, vmax=high, linewidth=0.3, edgecolor=INK)
    _colour_bar(drawing, axes, shown, unit)
    return _finished(drawing, name, caption, alt)


@_styled
def shapes_on_map(name: str, caption: str, alt: str, shapes: Sequence[Sequence[Floats]], value: Floats, unit: str) -> Figure:
    """Draw areas (counties, say), each a list of (points, 2) rings in plane coordinates with y downwards, coloured by ``value``."""
    from matplotlib import colormaps
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    drawing, axes = _drawing(7.6, 5.6)
    paths = [Path.make_compound_path(*(Path(ring, closed=True) for ring in rings)) for rings in shapes]
    colours = colormaps[MAP_COLOURS].with_extremes(bad="#e3e7ec")
    areas = PathCollection(paths, cmap=colours, edgecolors="white", linewidths=0.6)
    areas.set_array(np.ma.masked_invalid(value))
    areas.set_clim(*_ends(value))
    axes.add_collection(areas)
    axes.autoscale_view()
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_axis_off()
    _colour_bar(drawing, axes, areas, unit)
    return _finished(drawing, name, caption, alt)


def _colour_bar(drawing: "Drawing", axes: Any, shown: Any, unit: str) -> None:
    """Draw the scale of shares beside a map, with a mark at whole per cents."""
    low, high = (round(100 * end) for end in shown.get_clim())
    bar = drawing.colorbar(shown, ax=axes, shrink=0.8, label=unit)
    bar.set_ticks((np.arange(low, high + 1, max(1, -(-(high - low) // MARKS))) / 100).tolist())
    _percent_axis(bar.ax.yaxis)


def _ends(value: Floats) -> tuple[float, float]:
    """Return the ends of a colour scale of shares: the least and the most, in whole per cent outwards, at least one apart."""
    finite = value[np.isfinite(value)]
    if not len(finite):
        return 0.0, 1.0
    low, high = np.floor(100 * finite.min()), np.ceil(100 * finite.max())
    return float(low / 100), float(max(high, low + 1) / 100)


def _map_axes(axes: "Axes", latitude: Floats) -> None:
    """Degrees so that a square on the ground is about square."""
    middle = float(np.mean(latitude)) if len(latitude) else 0.0
    axes.set_aspect(1 / max(0.2, float(np.cos(np.radians(middle)))))
    axes.set_xlabel("longitude")
    axes.set_ylabel("latitude")
