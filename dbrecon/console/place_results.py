"""What files tell of an experiment's census and of a place's people, for the dashboard: their ages, how sure, and how true."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dbrecon.ctools import storage
from dbrecon.ctools.extras import extra
from dbrecon.errors import DBReconError, InputError
from dbrecon.experiment import Experiment
from dbrecon.remedies import sentence
from dbrecon.states import STATES
from dbrecon.steps.kept_evaluation import AGAIN, read_evaluation

if TYPE_CHECKING:
    from dbrecon.recon.census.kinds import IntArray

Json = dict[str, Any]

YEARS = 5
OLDEST = 85
"""First age of the last bar of a pyramid; the others are of ``YEARS`` years."""

TRUE = ("true_people", "exact_age", "binned_age")
_SUMS = ("people", "differ_lower", "differ_upper", "certain", "blocks", "blocks_without_variability")


def census_of(product: str) -> Json:
    """Return a product's title, and of which census the map has its counties; where its folder is not here, what stands in."""
    from dbrecon.recon.product.release import SHAPE_YEARS, load_release

    try:
        release = load_release(product)
    except DBReconError:
        return {"product_title": product, "county_shapes": SHAPE_YEARS[-1]}
    return {"product_title": release.title, "county_shapes": release.county_shapes}


def certainty_of_county(experiment: Experiment, stusab: str, county: str) -> Json:
    """Return the sums of a county's certainty. Raises InputError if its sidecar is not there or not whole, StorageError."""
    from dbrecon.steps.certainty_check import read_sidecar

    sidecar = read_sidecar(experiment.certainty_sidecar(stusab, county))
    return {name: int(sidecar[name]) for name in _SUMS}


def results_of_county(experiment: Experiment, stusab: str, county: str, certain: bool) -> Json:
    """Return a county's people by sex and age; where certainty is known, its sums and those of each tract. ``problem`` says what
    could not be read."""
    found: Json = {"pyramid": None, "certainty": None, "tracts": [], "problem": None}
    try:
        with extra("study"):
            from dbrecon.steps.county_results import county_population
        found["pyramid"] = _pyramid(county_population(experiment, stusab, county)[1])
        if certain:
            found["certainty"] = certainty_of_county(experiment, stusab, county)
            found["tracts"] = _tracts(experiment, stusab, county)
    except DBReconError as error:
        found["problem"] = sentence(error)
    return found


def results_of_tract(experiment: Experiment, stusab: str, county: str, tract: str, certain: bool) -> Json:
    """Return the same of a tract."""
    import numpy as np

    from dbrecon.recon.census.kinds import N_RH, N_SA
    from dbrecon.steps.certainty_records import people_of_tract

    found: Json = {"pyramid": None, "certainty": None, "problem": None}
    try:
        people = people_of_tract(experiment, stusab, STATES[stusab].fips + county + tract)
        found["pyramid"] = _pyramid(np.bincount(people.kind // N_RH, people.count, N_SA).astype(np.int64))
        if certain:
            sums = [row for row in _tracts(experiment, stusab, county) if row["tract"] == tract]
            found["certainty"] = {name: value for name, value in sums[0].items() if name != "tract"} if sums else None
    except DBReconError as error:
        found["problem"] = sentence(error)
    return found


def evaluation_of(experiment: Experiment, stusab: str, county: str, tract: str | None, people_digest: str) -> Json:
    """Return what --evaluate has kept of a county, or of a tract of it, if anything, as ``evaluation``; and as
    ``evaluation_problem`` why that is not told. ``people_digest`` is of the people as they are, "" where it is not known."""
    answer: Json = {"evaluation": None, "evaluation_problem": None}
    try:
        kept = read_evaluation(experiment.evaluation(stusab, county))
    except DBReconError as error:
        return answer | {"evaluation_problem": sentence(error)}
    if kept is None:
        return answer
    if people_digest and kept["sha256"]["people"] != people_digest:
        return answer | {"evaluation_problem": f"The evaluation is of earlier people; {AGAIN}."}
    rows = [row for row in kept["tracts"] if tract in (None, row["tract"])]
    levels = kept["violations"].values() if tract is None else []
    sums = {name: sum(row[name] for row in rows) if kept["agreement"] else None for name in TRUE}
    cells = {name: sum(level[name] for level in levels) if levels else None for name in ("wrong", "cells")}
    names = [os.path.basename(name) for name in kept["truth"]]
    return answer | {"evaluation": {"truth": names, **sums, **cells}}


def _pyramid(by_sex_and_age: IntArray) -> Json:
    """Bars of ``YEARS`` years, of counts (206,) by sex and age category."""
    import numpy as np

    from dbrecon.recon.census.kinds import FIRST_AGES

    bar = np.minimum(FIRST_AGES, OLDEST) // YEARS
    male, female = (np.bincount(bar, counts).astype(int).tolist() for counts in by_sex_and_age.reshape(2, -1))
    firsts = range(0, OLDEST + 1, YEARS)
    return {"ages": [f"{age}+" if age == OLDEST else f"{age}-{age + YEARS - 1}" for age in firsts], "male": male, "female": female}


def _tracts(experiment: Experiment, stusab: str, county: str) -> list[Json]:
    """Return the sums of each tract's blocks, from the county's file of certainty."""
    path = experiment.certainty(stusab, county)
    sums: dict[str, Json] = {}
    try:
        for line in storage.read_bytes(path).decode("ascii").splitlines()[1:]:
            geoid, people, lower, upper, _, _, _, _, certain, _, _ = line.split(",")
            row = sums.setdefault(geoid[5:11], {"tract": geoid[5:11]} | dict.fromkeys(_SUMS, 0))
            numbers: Sequence[int] = (int(people), int(lower), int(upper), int(certain), 1, int(upper) == 0)
            for name, value in zip(_SUMS, numbers, strict=True):
                row[name] += int(value)
    except ValueError as error:
        raise InputError(f"{path}: is no whole file of a county's certainty ({error})") from error
    return [sums[tract] for tract in sorted(sums)]
