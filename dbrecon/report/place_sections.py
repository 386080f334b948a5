"""Sections of an experiment's report: where it is surest, whether its confidence can be trusted, and what it was of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dbrecon.ctools.progress import counted
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.risk.findings import CONFIRMED, LEVELS, MATCHED, RECORDS, TRUE, Findings, Floats, Tracts, precision_by_rank
from dbrecon.report import figures
from dbrecon.report.document import Figure, Section, Table, Value
from dbrecon.report.sections import per_cent

Rings = Sequence[npt.NDArray[np.float64]]
FEWEST_COUNTIES = 2
CLASSES = 10
SHOWN = 6


@dataclass(frozen=True)
class Geography:
    """Where places lie: ``names`` of counties (SSCCC), their ``shapes`` (rings of points in one plane, y downwards) and the
    ``source`` of these, and of tracts (11 digits as numbers) ``points``, (longitude, latitude) in degrees. What is not known is
    left out."""

    names: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, Rings] = field(default_factory=dict)
    points: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    source: str = "another year's shapes"


@dataclass(frozen=True)
class Measure:
    """What a map is coloured by."""

    name: str
    label: str
    caption: str
    part: str
    whole: str

    def shares(self, places: Tracts) -> Floats:
        """Return (places,) shares, 0 to 1; NaN where it is not known."""
        part, whole = (np.asarray(getattr(places, name), np.float64) for name in (self.part, self.whole))
        shares: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
        return shares


MEASURES = (
    Measure("differ", "people who can differ", "People who can differ in another data set with these tables", "differ", "people"),
    Measure("certain", "people certain", "People who are in every data set with these tables", "certain", "people"),
    Measure("matched", "true records matched", "True records matched one to one, with ages in bins", "matched", "true"),
)


def places(tracts: Tracts, geography: Geography) -> Section | None:
    """Map of what is known: counties as areas, tracts as points, and the counties as a table; None where nothing is known."""
    counties = tracts.by_county()
    known = [measure for measure in MEASURES if np.isfinite(measure.shares(counties)).any()]
    if not known:
        return None
    drawn = [figure for measure in known for figure in _maps(measure, tracts, counties, geography)]
    rows = [_county_row(counties, i, known, geography) for i in range(len(counties.geoid))]
    columns = ("county", "name", "people", *(f"{measure.label}, %" for measure in known))
    number = f"{counted(len(counties.geoid), 'county')} and {counted(len(tracts.geoid), 'tract')} have people."
    words = [number + (" Points are tracts, larger where more people live." if geography.points else "")]
    codes = [f"{code:05d}" for code in counties.geoid.tolist()]
    missing = [code for code in codes if code not in geography.shapes]
    if drawn and len(missing) <= len(codes) - FEWEST_COUNTIES:
        words.append(f"Counties are drawn with {geography.source}.")
        words += [f"Not among them: {', '.join(missing[:SHOWN])}."] if missing else []
    return Section("places", "Where", tuple(words), tuple(drawn), (Table("counties", "By county", columns, tuple(rows)),))


def _county_row(counties: Tracts, i: int, known: Sequence[Measure], geography: Geography) -> tuple[Value, ...]:
    code = f"{int(counties.geoid[i]):05d}"
    shares = [100 * float(measure.shares(counties)[i]) for measure in known]
    return code, geography.names.get(code, ""), int(counties.people[i]), *shares


def _maps(measure: Measure, tracts: Tracts, counties: Tracts, geography: Geography) -> list[Figure]:
    """Return one of counties where there are several with a shape, one of tracts where places are known."""
    drawn = []
    value = measure.shares(counties)
    codes = [f"{int(code):05d}" for code in counties.geoid]
    with_shape = [i for i, code in enumerate(codes) if code in geography.shapes]
    if len(with_shape) >= FEWEST_COUNTIES:
        names = [geography.names.get(codes[i], codes[i]) for i in with_shape]
        alt = f"Map of {len(with_shape)} counties. {_ends(names, value[with_shape])}"
        shapes = [geography.shapes[codes[i]] for i in with_shape]
        caption = f"{measure.caption}, by county."
        drawn.append(figures.shapes_on_map(f"map_counties_{measure.name}", caption, alt, shapes, value[with_shape], measure.label))
    here = np.array([i for i, geoid in enumerate(tracts.geoid.tolist()) if geoid in geography.points], np.int64)
    if len(here):
        value = measure.shares(tracts)[here]
        at = np.array([geography.points[geoid] for geoid in tracts.geoid[here].tolist()])
        alt = f"Map of {len(here):,} tracts as points. {_ends([f'{g:011d}' for g in tracts.geoid[here].tolist()], value)}"
        people = tracts.people[here].astype(np.float64)
        caption = f"{measure.caption}, by tract."
        name = f"map_tracts_{measure.name}"
        drawn.append(figures.points_on_map(name, caption, alt, at[:, 0], at[:, 1], value, people, measure.label))
    return drawn


def _ends(names: Sequence[str], value: Floats) -> str:
    """Return the lowest and the highest of some places, in words."""
    if not np.isfinite(value).any():
        return "Nothing is known of them."
    low, high = int(np.nanargmin(value)), int(np.nanargmax(value))
    return f"Lowest: {names[low]}, {per_cent(float(value[low]))}; highest: {names[high]}, {per_cent(float(value[high]))}."


def calibration(found: Findings) -> Section | None:
    """Whether confidence can be trusted: of records with a confidence, how many are true; None where there is no truth for it."""
    certain, true = (int(n) for n in found.certain)
    levels = found.by_confidence
    if not certain and not levels.any():
        return None
    words, drawn, tables = [], [], []
    if certain:
        words.append(
            f"Of {certain:,} records that every data set with these tables has, {true:,} are among the true records "
            f"({per_cent(true / certain)}). It must be all of them where the tables were made of these very records, unprotected."
        )
    if levels.any():
        drawn, tables = [_calibration_figure(levels)], [_calibration_table(levels)]
        words.append(
            "Confidence is the share of sampled solutions that have the record. Samples are no even draw from all solutions, so "
            "that a confidence need not be the share that is true: the first figure shows how far it is."
        )
    if levels[:, MATCHED].any():
        drawn.append(_rank_figure(levels))
        words[-1] += " The second takes matches from the most confident on (Dick et al., PNAS 2023)."
    return Section("calibration", "How far to trust a record", tuple(words), tuple(drawn), tuple(tables))


def classes_of(levels: IntArray) -> tuple[IntArray, Floats]:
    """Return ((10, 4) counts by tenth of confidence, (10,) their mean confidence; NaN without a record)."""
    at = np.minimum(np.arange(LEVELS + 1) * CLASSES // LEVELS, CLASSES - 1)
    counts = np.zeros((CLASSES, levels.shape[1]), np.int64)
    np.add.at(counts, at, levels)
    stated = np.bincount(at, weights=levels[:, RECORDS] * np.arange(LEVELS + 1) / LEVELS, minlength=CLASSES)
    return counts, np.divide(stated, counts[:, RECORDS], out=np.full(CLASSES, np.nan), where=counts[:, RECORDS] > 0)


def _calibration_figure(levels: IntArray) -> Figure:
    counts, stated = classes_of(levels)
    here = counts[:, RECORDS] > 0
    true = counts[here, TRUE] / counts[here, RECORDS]
    points = "; ".join(f"confidence {per_cent(s, 0)}, true {per_cent(t, 0)}" for s, t in zip(stated[here], true, strict=True))
    caption = "Records by confidence: the share that is true."
    return figures.calibration("calibration", caption, f"Points. {points}.", stated[here], true, counts[here, RECORDS])


def _calibration_table(levels: IntArray) -> Table:
    counts, stated = classes_of(levels)
    rows: list[tuple[Value, ...]] = []
    for i, (row, mean) in enumerate(zip(counts.tolist(), stated.tolist(), strict=True)):
        true = 100 * row[TRUE] / row[RECORDS] if row[RECORDS] else None
        precision = 100 * row[CONFIRMED] / row[MATCHED] if row[MATCHED] else None
        rows.append((f"{i * 10}-{i * 10 + 10} %", row[RECORDS], 100 * mean, true, row[MATCHED], precision))
    columns = ("confidence", "records", "mean confidence, %", "true, %", "matched", "precision, %")
    return Table("calibration", "Records by confidence", columns, tuple(rows))


def _rank_figure(levels: IntArray) -> Figure:
    curve = precision_by_rank(levels)
    quarter = curve[np.searchsorted(curve[:, 0], 0.25), 1]
    alt = f"Curve. Precision of the surest quarter of matches {per_cent(float(quarter))}, of all {per_cent(float(curve[-1, 1]))}."
    return figures.curve_by_rank("precision_by_rank", "Precision by rank of confidence.", alt, {"reconstruction": curve})
