"""The report of an experiment: what its reconstruction gives away, in one page that a board reads."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dbrecon.console.commands import place_in_words
from dbrecon.console.disclosure import check_attacker, load_arrow, new_folder, warn_left_out, workers
from dbrecon.console.evaluate import truth_files
from dbrecon.console.parser import Arguments
from dbrecon.console.written import asked_counties, checked_counties
from dbrecon.ctools.extras import extra
from dbrecon.ctools.progress import Progress
from dbrecon.errors import InputError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.paths import PACKAGE
from dbrecon.settings import Config
from dbrecon.states import STATES
from dbrecon.steps.prepare import open_experiment
from dbrecon.version import PROGRAM

if TYPE_CHECKING:
    from dbrecon.recon.risk.findings import Findings, Truth
    from dbrecon.report.place_sections import Geography, Rings

SHAPES = PACKAGE / "dashboard" / "static" / "vendor" / "counties.json"
FEW_PEOPLE = 100_000
"""Below, starting processes costs more than they save."""
COUNTIES, TRACTS = "050", "140"

CountyKey = tuple[str, str]  # two letters of a state, three digits of a county


@dataclass(frozen=True)
class TrueCounties:
    """The true people by county, as :func:`dbrecon.steps.county_results.county_findings` takes them."""

    of: Mapping[CountyKey, Path | Truth]
    by_id: bool = True


def report_experiment(args: Arguments, config: Config) -> int:
    """Write the report of an experiment, or of a state or county of it, and print its summary."""
    load_arrow()
    with extra("report"):
        from dbrecon.report.experiment_report import Subject, experiment_report

    if args.reidentify and not args.truth:
        raise UsageError("--report --reidentify needs the true people to confirm matches: give --truth FILE")
    experiment, ledger, place = asked_counties(args, config, "--report")
    out = new_folder(args, f"report-{experiment.reident}")
    counties = checked_counties(experiment, ledger, place)
    others = {name: open_experiment(ledger, config, name) for name in args.what_if}
    for name, other in others.items():
        _check_same_counties(name, counties, checked_counties(other, ledger, place))
    with ExitStack() as stack:
        truth = true_counties(experiment, args, counties, stack)
        executor = stack.enter_context(workers(len(counties) > 1 and ledger.status(experiment.reident, place).people >= FEW_PEOPLE))
        progress = stack.enter_context(Progress("studied", "county", len(counties) * (1 + len(others))))

        def study(subject: Experiment) -> Findings:
            return findings(subject, counties, truth, args.seed or 0, args.repeats or 1, executor, progress.add)

        found, beside = study(experiment), {name: study(other) for name, other in others.items()}
    where = f"{experiment.reident}, {place_in_words(ledger, experiment.reident, place)}" if place.stusab else experiment.reident
    subject = Subject(
        title=where,
        product=experiment.release.title,
        tables=f"{experiment.tables} tables",
        geography=geography(experiment, ledger, counties),
        attacker=", ".join(args.reidentify) or None,
        truth=", ".join(args.truth) or None,
        by_id=truth.by_id,
        seed=args.seed or 0,
        others={f"{name}: {others[name].tables} tables": findings for name, findings in beside.items()},
    )
    provenance = report_provenance(experiment, ledger, counties, args)
    if found.evaluated_by:
        provenance["evaluation"] = f"kept by --evaluate, against {', '.join(sorted(found.evaluated_by))}"
    report = experiment_report(subject, found, provenance)
    path = report.write(out, config.s3.kms_key)
    for sentence in report.summary:
        print(sentence.replace("\u00a0", " "))
    print(f"{path}: the report; its figures and tables lie beside it")
    return 0


def _check_same_counties(name: str, wanted: Sequence[CountyKey], found: Sequence[CountyKey]) -> None:
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise InputError(
            f"{name} has no people written in {' '.join(missing[0])}, which the report is of: --run it first, or report less"
        )


def true_counties(experiment: Experiment, args: Arguments, counties: Sequence[CountyKey], stack: ExitStack) -> TrueCounties:
    """Return the true people of --truth by county, and what an attacker of --reidentify knows of them: without one, everybody.

    ``stack`` closes what lies in a temporary folder.
    """
    from dbrecon.recon.study.truth import sorted_by_county
    from dbrecon.steps.county_results import product_of

    if not args.truth:
        return TrueCounties({})
    codes = {STATES[stusab].fips + county: (stusab, county) for stusab, county in counties}
    files = truth_files(args.truth)
    if args.reidentify:
        return _known_counties(experiment, args, codes)
    categories = product_of(experiment).categories
    sorted_files, left_out = stack.enter_context(sorted_by_county(files, set(codes), categories))
    if not sorted_files:
        raise InputError(f"{', '.join(args.truth)}: has nobody in the reconstructed counties; name the truth of this experiment")
    warn_left_out(", ".join(args.truth), sum(left_out.values()))
    return TrueCounties({codes[code]: path for code, path in sorted_files.items()})


def _known_counties(experiment: Experiment, args: Arguments, codes: Mapping[str, CountyKey]) -> TrueCounties:
    import numpy as np

    from dbrecon.recon.census.bins import comparison_bins
    from dbrecon.recon.risk.findings import Truth
    from dbrecon.recon.risk.matching_study import county_part
    from dbrecon.recon.risk.record_files import read_attacker, read_truth
    from dbrecon.steps.county_results import product_of

    product = product_of(experiment)
    truth = read_truth(truth_files(args.truth), comparison_bins(product), product.categories)
    known = read_attacker(truth_files(args.reidentify), truth)
    found: dict[CountyKey, Path | Truth] = {}
    for code, county in codes.items():
        part, people = county_part(known, truth.records, int(code), np.random.default_rng([args.seed or 0, int(code)]))
        if len(people):
            found[county] = Truth(people, part)
    if not found:
        raise InputError(f"{', '.join(args.truth)}: has nobody in the reconstructed counties; name the truth of this experiment")
    check_attacker(known, truth.records, [int(code) for code in codes], (", ".join(args.reidentify), ", ".join(args.truth)))
    outside = ~np.isin(truth.records.block // 10**10, [int(code) for code in codes])
    warn_left_out(", ".join(args.truth), int(outside.sum()))
    return TrueCounties(found, known.by_id)


def findings(
    experiment: Experiment,
    counties: Sequence[CountyKey],
    truth: TrueCounties,
    seed: int,
    repeats: int,
    executor: Executor | None,
    done: Callable[[int], object],
) -> Findings:
    """Return what there is to tell of some counties. ``done`` hears of each county that is studied."""
    import numpy as np

    from dbrecon.recon.risk.findings import total
    from dbrecon.steps.county_results import county_findings, population_of_counties

    run: Callable[..., Iterator[Findings]] = executor.map if executor is not None else map
    states, names = [stusab for stusab, _ in counties], [county for _, county in counties]
    population = 0, np.zeros(0)
    if truth.of:
        population = population_of_counties(experiment, counties, run)
    work = partial(county_findings, experiment, population=population, seed=seed, repeats=repeats, with_kept=not truth.of)
    parts = []
    for part in run(work, states, names, [truth.of.get(county) for county in counties]):
        parts.append(part)
        done(1)
    return total(parts)


# -- where places lie, and what it was made of --------------------------------------------------------------------------


def geography(experiment: Experiment, ledger: Ledger, counties: Sequence[CountyKey]) -> Geography:
    """Return names and shapes of counties, and the points of their tracts, as the geographic header and the map have them."""
    from dbrecon.report.place_sections import Geography

    names, points = {}, {}
    for stusab in dict.fromkeys(stusab for stusab, _ in counties):
        for row in ledger.geography(experiment.reident, stusab, COUNTIES):
            names[f"{row.state}{row.county}"] = row.name
        for row in ledger.geography(experiment.reident, stusab, TRACTS):
            if (row.intptlat, row.intptlon) != (0.0, 0.0):
                points[int(f"{row.state}{row.county}{row.tract}")] = row.intptlon, row.intptlat
    wanted = {STATES[stusab].fips + county for stusab, county in counties}
    atlas = json.loads(SHAPES.read_text(encoding="utf-8"))
    year = atlas["years"][str(experiment.release.county_shapes)]
    shapes = {code: rings_of(path) for code, path in atlas["counties"].items() if code in wanted - set(year["without"])}
    return Geography(names, shapes, points, year["source"])


def rings_of(path: str) -> Rings:
    """Return the rings of a shape of the map: an SVG path of M, m, l and z with whole numbers, relative but for M."""
    import numpy as np

    rings, at = [], np.zeros(2)
    for start, lines in re.findall(r"[Mm]([-\d ]+)(?:l([-\d ]+))?z?", path):
        first = at + [int(number) for number in re.findall(r"-?\d+", start)]
        steps = np.array([int(number) for number in re.findall(r"-?\d+", lines)], np.float64).reshape(-1, 2)
        rings.append(np.vstack([first, first + np.cumsum(steps, axis=0), first]))
        at = first  # a closed ring ends where it began
    return rings


def report_provenance(experiment: Experiment, ledger: Ledger, counties: Sequence[CountyKey], args: Arguments) -> dict[str, str]:
    """Return what the report was made of, in words."""
    import numpy as np

    from dbrecon.ctools.staging import digest_of
    from dbrecon.steps.county_results import product_of
    from dbrecon.steps.provenance import made_of

    made, product = made_of(experiment, ledger), product_of(experiment)
    found = {
        "experiment": f"{experiment.reident}, registered by {made['program'] or 'an earlier version'}",
        "product": f"{product.title} ({experiment.product}); SHA-256 of its table definitions {made['tables_toml_sha256']}",
        "tables": ", ".join(table.name for table in product.tables),
        "ages in programs": experiment.ages,
    }
    for maker in made["solutions"]:
        seed = "not known" if maker["seed"] is None else maker["seed"]
        found[f"solutions of {maker['tracts']:,} tracts"] = (
            f"{maker['solver']}, seed {seed}, {maker['program'] or 'an earlier version'}"
        )
    for stusab in dict.fromkeys(stusab for stusab, _ in counties):
        digests = made["states"][stusab]
        found[os.path.basename(experiment.dist_zip(stusab))] = f"directory {digests['zip']}; geography {digests['geofile']}"
    for name in (*args.truth, *args.reidentify):
        for file in truth_files([name]):
            found[file.name] = f"SHA-256 {digest_of(file.name)}"
    found |= {
        "seed of draws": str(args.seed or 0),
        "draws of ties": str(args.repeats or 1),
        "report made by": f"{PROGRAM}, Python {platform.python_version()}, numpy {np.__version__}",
    }
    return found
