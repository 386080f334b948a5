"""The report of an experiment: what its reconstruction gives away, in a place or in all of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dbrecon.ctools.progress import counted
from dbrecon.recon.risk.findings import Findings, Floats, five_years
from dbrecon.recon.risk.matching_study import Study
from dbrecon.report import place_sections, sections
from dbrecon.report.document import Report, Section
from dbrecon.report.place_sections import Geography
from dbrecon.report.sections import WayToPublish, per_cent


@dataclass(frozen=True)
class Subject:
    """What a report is of. ``title`` names the place; ``product`` the tables, in words; ``attacker`` and ``truth`` are files'
    names, None without; ``by_id`` says whether ids confirm matches; ``others`` are experiments to stand beside it, by name."""

    title: str
    product: str
    tables: str
    geography: Geography = field(default_factory=Geography)
    attacker: str | None = None
    truth: str | None = None
    by_id: bool = True
    seed: int = 0
    others: Mapping[str, Findings] = field(default_factory=dict)


def experiment_report(subject: Subject, found: Findings, provenance: Mapping[str, str]) -> Report:
    """Make the report of what was found. Sections of which nothing is known are left out, and a sentence says what gives them."""
    study = _study(subject, found)
    parts: list[Section | None] = [
        sections.agreement(found.agreement, baselines=found.baselines) if found.knows_truth else None,
        sections.certainty(found.sure) if found.knows_certainty else None,
        place_sections.places(found.tracts, subject.geography),
        place_sections.calibration(found),
        None if study is None else sections.reidentification(study),
        sections.what_if(_ways(subject, found)) if subject.others else None,
        sections.pyramids(found.published, five_years(found.sex_age)),
        sections.METHODS_AND_LIMITS,
    ]
    tracts = found.tracts.geoid
    counties = len(np.unique(tracts // 10**6))
    places = [counted(int(found.blocks.sum()), "block"), counted(len(tracts), "tract"), counted(counties, "county")]
    size = f"{found.people:,} people in {', '.join(places)}"
    return Report(
        f"What the tables of {subject.title} give away",
        f"{subject.product}, {subject.tables}: {size}",
        tuple(_summary(found, study)),
        tuple(part for part in parts if part is not None),
        provenance,
    )


def _study(subject: Subject, found: Findings) -> Study | None:
    if not found.tallies:
        return None
    names = subject.attacker or f"everybody of {subject.truth}", subject.truth or ""
    return Study(*names, found.tallies, subject.by_id, found.knows_certainty, subject.seed)


def _ways(subject: Subject, found: Findings) -> list[WayToPublish]:
    return [way_to_publish(name, findings) for name, findings in {subject.tables: found, **subject.others}.items()]


def way_to_publish(name: str, found: Findings) -> WayToPublish:
    """Describe an experiment as one of several ways to publish."""
    agreement: list[float | None] = [None, None]
    sure: list[float | None] = [None, None, None]
    precision: list[float | None] = [None, None]
    if found.knows_truth:
        agreement = [found.agreement.share("reconstruction", measure) for measure in ("exact_age", "binned_age")]
    if found.knows_certainty:
        sure = [found.sure.without_variability, found.sure.differ_share, found.sure.certain_share]
    if found.tallies:
        rates = [[t.precision("reconstruction", group) for t in found.tallies] for group in ("all", "nonmodal")]
        precision = [float(np.mean(values)) for values in rates]
    return WayToPublish(name, *agreement, *sure, *precision)


def _summary(found: Findings, study: Study | None) -> Sequence[str]:
    """Return the findings, a sentence each."""
    words = [f"From published tables alone, {found.people:,} records of people were rebuilt that reproduce every published count."]
    if found.knows_truth:
        exact, bins = (found.agreement.share("reconstruction", measure) for measure in ("exact_age", "binned_age"))
        words.append(
            f"{per_cent(bins)} of the true records{_where(found, found.tracts.true)} are among them with age in bins, "
            f"{per_cent(exact)} with the exact year."
        )
    else:
        words.append("How many of them are true was not examined: no true records were given (--truth FILE).")
    if found.knows_certainty:
        words.append(
            f"{per_cent(found.sure.certain_share)} of the people{_where(found, found.tracts.differ)}, with age in bins, are in "
            "every data set that has these tables, which is known without any truth; "
            f"{per_cent(found.sure.without_variability)} of the blocks have only one solution."
        )
    else:
        words.append("How sure each of them is was not examined (--step6).")
    if study is not None:
        words.append(sections.attack_in_words(study))
    return words


def _where(found: Findings, known: Floats) -> str:
    """Of how many of the counties something is ``known`` (a value a tract, else NaN), in words; "" of all."""
    county = found.tracts.geoid // 10**6
    known_in, counties = (len(np.unique(codes)) for codes in (county[np.isfinite(known)], county))
    return "" if known_in == counties else f" of {known_in:,} of {counted(counties, 'county')}"
