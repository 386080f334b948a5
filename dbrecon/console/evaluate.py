"""How near an experiment's people come to the published cells, and to a truth."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dbrecon.console.parser import Arguments
from dbrecon.console.written import asked_counties, written_counties
from dbrecon.ctools import storage
from dbrecon.ctools.extras import extra
from dbrecon.ctools.progress import Progress
from dbrecon.errors import InputError, StorageError, Subject, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.place import EVERYWHERE
from dbrecon.remedies import sentence
from dbrecon.settings import Config
from dbrecon.states import STATES

if TYPE_CHECKING:
    from dbrecon.recon.census.tables import Product
    from dbrecon.recon.study.evaluation import County, CountyEvaluation, Units
    from dbrecon.recon.study.truth import TruthFile

log = logging.getLogger(__name__)

READ = (".csv", ".csv.gz", ".parquet")
"""Names of files of people that are read of a folder."""


def evaluate_people(args: Arguments, config: Config) -> int:
    """Compare the counties that are written with the truth."""
    from dbrecon.recon.census.tables import load_product
    from dbrecon.steps.provenance import check_people, check_tables

    with extra("study"):
        from dbrecon.recon.study.evaluation import evaluate
        from dbrecon.recon.study.evaluation_text import format_report

    experiment, ledger, place = asked_counties(args, config, "--evaluate")
    truth = truth_files([name for name in args.evaluate if name])
    product = load_product(Path(experiment.tables_path), experiment.tables)
    counties = written_counties(ledger, experiment.reident, place)
    by_state: dict[str, list[str]] = {}
    for stusab, county in counties:
        by_state.setdefault(stusab, []).append(county)
    for stusab, of_state in by_state.items():
        check_tables(experiment, ledger, stusab, of_state)
    with Progress("evaluated", "county", len(counties)) as progress:

        def load(stusab: str, county: str) -> "County":
            progress.add(1)
            return _county(experiment, product, stusab, county)

        loaders = {STATES[stusab].fips + county: partial(load, stusab, county) for stusab, county in counties}
        found: dict[str, CountyEvaluation] = {}
        result = evaluate(truth, loaders, product, done=found.__setitem__)
    known = ledger.county_names(experiment.reident, EVERYWHERE)
    names = {STATES[stusab].fips + county: name for (stusab, county), name in known.items()}
    print(result.as_json() if args.json else format_report(result, names).rstrip(), flush=True)
    wrong, cells = (sum(getattr(level, name) for level in result.violations.values()) for name in ("wrong", "cells"))
    if wrong:
        raise InputError(
            f"these people do not give {wrong:,} of {cells:,} published cells: files have changed since their tracts were checked; "
            "--rescan finds which, and --run makes them again"
        )
    for stusab, of_state in by_state.items():
        check_people(experiment, ledger, stusab, of_state)
    _keep(experiment, ledger, by_state, found, [file.name for file in truth], result.seed)
    return 0


def _keep(
    experiment: Experiment,
    ledger: Ledger,
    by_state: Mapping[str, Sequence[str]],
    found: Mapping[str, "CountyEvaluation"],
    truth: Sequence[str],
    seed: int,
) -> None:
    """Keep each county's evaluation beside its people, for the dashboard and the report; a warning where that cannot be."""
    from dbrecon.recon.study.evaluation_record import as_record
    from dbrecon.steps.kept_evaluation import keep_evaluation

    for stusab, of_state in by_state.items():
        people, files = ledger.people_digests(experiment.reident, stusab), ledger.county_files(experiment.reident, stusab)
        for county in of_state:
            tables = files[county]
            known = {"people": people[county]}
            known |= {"block_tables": tables.block, "tract_tables": tables.tract} if tables else {}
            record = as_record(found[STATES[stusab].fips + county])
            try:
                keep_evaluation(experiment, (stusab, county), record, truth, seed, known)
            except StorageError as error:
                log.warning("evaluations are not kept, so that neither dashboard nor report shows them: %s", sentence(error))
                return


def truth_files(names: Sequence[str]) -> list["TruthFile"]:
    """Return the files that are named, and the .csv, .csv.gz and .parquet files of folders that are; others there are named in the
    log."""
    from dbrecon.recon.study.truth import TruthFile

    paths: list[str] = []
    for name in names:
        try:
            storage.look_named(name)
            paths.append(name)
        except storage.MissingFile:
            inside = [f"{name.rstrip('/')}/{file}" for file in storage.listdir(name)]
            found = [path for path in inside if path.endswith(READ)]
            if not inside and name in STATES:
                raise UsageError(f"{name}: there is no such file; if the state is meant, give --stusab {name}") from None
            if not inside:
                raise
            if not found:
                raise InputError(f"{name}: this folder has no .csv, .csv.gz or .parquet; name the files of true people") from None
            for other in sorted(set(inside) - set(found)):
                log.warning("%s: not read, being neither .csv, .csv.gz nor .parquet", other)
            paths += found
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise UsageError(f"{twice[0]} is named twice: give each file of true people once")
    return [TruthFile(path, partial(storage.sopen, path, "rb")) for path in paths]


def _county(experiment: Experiment, product: "Product", stusab: str, county: str) -> "County":
    """Return what is evaluated of a county."""
    from dbrecon.recon.people.people_reader import read_people
    from dbrecon.recon.study.evaluation import County
    from dbrecon.steps.methods import attributes_known

    path = experiment.synth_out(stusab, county)
    try:
        with storage.sopen(path, "rb") as file:
            people = read_people(file, path, attributes_known(experiment))
    except storage.MissingFile:
        raise InputError(f"{path}: the county's file of people is gone", about=Subject.PEOPLE, place=f"{stusab} {county}") from None
    blocks = partial(_units, experiment.block_csv(stusab, county), product, "block")
    return County(people, blocks, partial(_units, experiment.tract_csv(stusab, county), product, "tract"))


def _units(path: str, product: "Product", level: str) -> "Iterator[Units]":
    from dbrecon.recon.study.evaluation import read_units

    with storage.sopen(path, "rb") as file:
        yield from read_units(file, path, product, level)
