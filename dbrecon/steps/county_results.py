"""A county's results as their files have them: people, how sure they are, what its tables say of ages."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dbrecon.ctools import storage
from dbrecon.ctools.extras import extra
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.recon.census.bins import comparison_bins
from dbrecon.recon.census.kinds import N_RH, N_SA, IntArray
from dbrecon.recon.census.tables import Product, load_product
from dbrecon.states import STATES
from dbrecon.steps.certainty_check import stale_because
from dbrecon.steps.kept_evaluation import read_evaluation, stale_evaluation
from dbrecon.steps.methods import attributes_known

with extra("study"):
    import pyarrow as pa
    import pyarrow.csv as pacsv

    from dbrecon.recon.people.people import People
    from dbrecon.recon.people.people_reader import iter_people
    from dbrecon.recon.risk.findings import Findings, Floats, Results, Truth, evaluated, find, published_ages
    from dbrecon.recon.risk.reidentification import Records
    from dbrecon.recon.risk.sure import SureBlocks
    from dbrecon.recon.study.evaluation import read_units
    from dbrecon.recon.study.evaluation_record import from_record
    from dbrecon.recon.study.truth import load_county

log = logging.getLogger(__name__)


def product_of(experiment: Experiment) -> Product:
    """Return the tables of an experiment."""
    return load_product(Path(experiment.tables_path), experiment.tables)


def read_results(experiment: Experiment, stusab: str, county: str) -> Results:
    """Return a county's people in their file's order, and how sure they are where that is known of just these people and tables.

    Raises InputError for files that are not whole, StorageError for those that cannot be read.
    """
    path = experiment.synth_out(stusab, county)
    with storage.sopen(path, "rb") as file:
        everyone = People.concatenate(list(iter_people(file, path, attributes_known(experiment))))
    people = Records.of_people(everyone, comparison_bins(product_of(experiment)))
    if not has_certainty(experiment, stusab, county):
        return Results(people)
    blocks = _blocks(experiment.certainty(stusab, county))
    flags = _columns(experiment.people_certainty(stusab, county))
    if len(flags) != len(people):
        raise InputError(
            f"{experiment.people_certainty(stusab, county)}: tells of {len(flags):,} people, but there are {len(people):,}; "
            "run --step6 --force"
        )
    confidence = _confidence(flags, experiment.people_certainty(stusab, county))
    return Results(people, blocks, np.asarray(flags.column("certain").to_numpy() == "Y"), confidence)


def has_certainty(experiment: Experiment, stusab: str, county: str) -> bool:
    """Return whether certainty of a county's people as they are is there. Warns of one that is stale."""
    if not storage.exists(experiment.certainty_sidecar(stusab, county)):
        return False
    stale = stale_because(experiment, stusab, county)
    if stale is not None:
        log.warning("%s %s: its certainty is left out, being stale: %s; --rescan and --step6 find it anew", stusab, county, stale)
    return stale is None


def read_published_ages(experiment: Experiment, product: Product, stusab: str, county: str) -> IntArray | None:
    """Return (2, 18) a county's people by sex and five years of age as its tables have them; None where they do not tell."""
    level = "tract" if product.tables_of("tract") else "block"
    path = experiment.tract_csv(stusab, county) if level == "tract" else experiment.block_csv(stusab, county)
    cells = np.zeros(len(product.columns(level)), np.int64)
    with storage.sopen(path, "rb") as file:
        for units in read_units(file, path, product, level):
            cells += units.cells.sum(axis=0)
    return published_ages(product, level, cells)


def _blocks(path: str) -> SureBlocks:
    """Return how sure the people of each block are."""
    table = _columns(path)
    names = ("geoid_block", "people", "differ_upper", "certain")
    columns = [table.column(name).to_numpy().astype(np.int64) for name in names]
    order = np.argsort(columns[0])
    return SureBlocks(*(column[order] for column in columns))


def _confidence(flags: pa.Table, path: str) -> Floats | None:
    """Return the share of samples that have each record, where samples were drawn. InputError for one outside 0 to 1."""
    if "confidence" not in flags.column_names:
        return None
    confidence: Floats = flags.column("confidence").cast(pa.float64()).to_numpy().astype(np.float64)
    if len(confidence) and not (0 <= confidence.min() <= confidence.max() <= 1):
        raise InputError(f"{path}: has a confidence that is not between 0 and 1; run --step6 --force")
    return confidence


def _columns(path: str) -> pa.Table:
    """Return a file of certainty. Raises InputError if it is none."""
    with storage.sopen(path, "rb") as file:
        try:
            table = pacsv.read_csv(file)
        except pa.ArrowInvalid as error:
            raise InputError(f"{path}: is no whole file of certainty ({error}); run --step6 --force") from error
    if "certain" not in table.column_names:
        raise InputError(f"{path}: has no column certain; run --step6 --force")
    return table


def county_population(experiment: Experiment, stusab: str, county: str) -> tuple[IntArray, IntArray]:
    """Return ((126,) a county's people by race and origin, (206,) by sex and age category)."""
    path = experiment.synth_out(stusab, county)
    rh, sa = np.zeros(N_RH, np.int64), np.zeros(N_SA, np.int64)
    with storage.sopen(path, "rb") as file:
        for people in iter_people(file, path, attributes_known(experiment)):
            rh += np.bincount(people.kind % N_RH, minlength=N_RH)
            sa += np.bincount(people.kind // N_RH, minlength=N_SA)
    return rh, sa


def population_of_counties(
    experiment: Experiment, counties: Sequence[tuple[str, str]], run: Callable[..., Iterable[Any]] = map
) -> tuple[int, Floats]:
    """Return what a guess knows of everybody in some counties (state, three digits): the most frequent race and origin, and the
    shares of sexes and ages. ``run`` maps."""
    states, names = zip(*counties, strict=True)
    rh, sa = (sum(numbers) for numbers in zip(*run(partial(county_population, experiment), states, names), strict=True))
    return int(np.argmax(rh)), sa / max(1, int(sa.sum()))


def county_findings(
    experiment: Experiment,
    stusab: str,
    county: str,
    truth: Path | Truth | None,
    population: tuple[int, Floats],
    seed: int,
    repeats: int,
    with_kept: bool,
) -> Findings:
    """Return all that a report tells of a county. ``truth``: its true people, or where they lie sorted
    (:func:`dbrecon.recon.study.truth.sorted_by_county`); then an attacker knows everybody. ``with_kept``: what --evaluate has kept
    tells how much is true."""
    product, code = product_of(experiment), int(f"{STATES[stusab].fips}{county}")
    if isinstance(truth, Path):
        truth = Truth.known_to_all(Records.of_people(load_county(truth), comparison_bins(product)))
    results = read_results(experiment, stusab, county)
    ages = read_published_ages(experiment, product, stusab, county)
    found = find(product, code, results, ages, truth, population, seed, repeats)
    kept = _kept_evaluation(experiment, stusab, county) if with_kept else None
    return found if kept is None else evaluated(found, from_record(code, kept), kept["truth"])


def _kept_evaluation(experiment: Experiment, stusab: str, county: str) -> dict[str, Any] | None:
    """Return what --evaluate has kept of just these people and tables. Warns of what is stale."""
    kept = read_evaluation(experiment.evaluation(stusab, county))
    stale = kept and stale_evaluation(experiment, stusab, county, kept)
    if stale:
        log.warning("%s %s: its evaluation is left out: %s", stusab, county, stale)
    return None if stale else kept
