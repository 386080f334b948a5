"""What a set of tables gives away: the audit of records before they are published, and reidentification by an attacker."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from dbrecon.console.evaluate import truth_files
from dbrecon.console.parser import Arguments
from dbrecon.console.ways import ways_to_publish
from dbrecon.console.written import asked_counties, checked_counties
from dbrecon.ctools import storage
from dbrecon.ctools.extras import extra
from dbrecon.ctools.process_pool import process_pool
from dbrecon.ctools.progress import Progress, counted, duration
from dbrecon.ctools.signals import held_back
from dbrecon.errors import InputError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.recon.solve.program import Options
from dbrecon.settings import Config
from dbrecon.states import STATES
from dbrecon.version import PROGRAM

if TYPE_CHECKING:
    from dbrecon.recon.people.people import People
    from dbrecon.recon.risk.matching_study import County
    from dbrecon.recon.risk.reidentification import Known, Records
    from dbrecon.recon.study.truth import TruthFile

log = logging.getLogger(__name__)

FEW_PEOPLE = 5_000
"""Below, starting processes costs more than they save."""

CPU_SECONDS = 40e-6, 550e-6
"""Of one person in one way to publish, in villages and in cities, with certainty."""

KEPT_WAYS = "unfinished.json"
"""Of --audit --what_if, what has been found so far; gone when the report is there."""

REPEATS = 5
"""Draws of ties of --reidentify."""


def audit_records(args: Arguments, config: Config) -> int:
    """Tabulate records, reconstruct them from their tables, and write a report of what the tables give away."""
    load_arrow()
    with extra("report"):
        import numpy as np

        from dbrecon.recon.certainty.search import Budget
        from dbrecon.recon.people.people import People
        from dbrecon.report.audit import audit
        from dbrecon.report.kept_ways import KeptWays

    out = new_folder(args, "audit")
    variants = ways_to_publish(args.product, args.tables or "all", args.what_if)
    files = truth_files(args.audit)
    truth = People.concatenate([_read_people(file) for file in files]).merged()
    if not truth.population:
        raise InputError(f"{', '.join(args.audit)}: there is nobody in it; name files of people")
    name = ", ".join(os.path.basename(path.rstrip("/")) for path in args.audit)
    least, most = (duration(share * truth.population * len(variants)) for share in CPU_SECONDS)
    log.info("%s of %s: %s to %s of CPU time", counted(len(variants), "way"), counted(truth.population, "person"), least, most)
    options, budget = _options(args, config), Budget()
    records = hashlib.sha256(np.stack([truth.geoid_block, truth.kind, truth.count]).tobytes()).hexdigest()
    kept = KeptWays(f"{out}/{KEPT_WAYS}", f"{PROGRAM} {options} {budget} {records}", config.s3.kms_key)
    if len(variants) > 1:
        log.info("%s: each way that is done is kept here; --out with this folder goes on from there", out)
    tracts = len(np.unique(truth.geoid_tract)) * len(variants)
    with Progress("studied", "tract", tracts) as progress, workers(truth.population >= FEW_PEOPLE) as executor:
        report = audit(truth, variants, name, options, budget, executor, kept, progress.add, _made_of(args, files))
    path = report.write(out, config.s3.kms_key)
    kept.remove()
    for sentence in report.summary:
        print(sentence.replace("\u00a0", " "))
    print(f"{path}: the report; its figures and tables lie beside it")
    return 0


def _made_of(args: Arguments, files: Sequence[TruthFile]) -> dict[str, str]:
    """Return the digests of an audit's records and of its tables' definitions, and what made it."""
    import numpy as np

    from dbrecon.ctools.staging import digest_of
    from dbrecon.experiment import DEFAULT_PRODUCT
    from dbrecon.recon.product.release import load_release

    definitions = load_release(args.product or DEFAULT_PRODUCT).tables_path
    return {
        **{os.path.basename(file.name): f"SHA-256 {digest_of(file.name)}" for file in files},
        "table definitions": f"SHA-256 {digest_of(str(definitions))}",
        "report made by": f"{PROGRAM}, Python {platform.python_version()}, numpy {np.__version__}",
    }


def reidentify(args: Arguments, config: Config) -> int:
    """Match an attacker's file with the reconstructed people of an experiment, and print how often it is right."""
    load_arrow()
    with extra("study"):
        from dbrecon.recon.census.bins import comparison_bins
        from dbrecon.recon.risk.matching_study import format_study, study
        from dbrecon.recon.risk.record_files import read_attacker, read_truth
        from dbrecon.steps.county_results import population_of_counties, product_of

    if not args.truth:
        raise UsageError("--reidentify needs the true people to confirm matches: give --truth FILE")
    experiment, ledger, place = asked_counties(args, config, "--reidentify")
    product = product_of(experiment)
    truth = read_truth(truth_files(args.truth), comparison_bins(product), product.categories)
    known = read_attacker(truth_files(args.reidentify), truth)
    places = checked_counties(experiment, ledger, place)
    counties = {int(STATES[stusab].fips + county): partial(_county, experiment, stusab, county) for stusab, county in places}
    names = ", ".join(args.reidentify), ", ".join(args.truth)
    check_attacker(known, truth.records, list(counties), names)
    population = population_of_counties(experiment, places)
    result = study(known, truth.records, counties, names, args.seed or 0, args.repeats or REPEATS, population)
    text = result.as_json() if args.json else format_study(result).rstrip()
    print(text if args.json or result.knows_variability else f"{text} (--step6 finds it.)", flush=True)
    return 0


def check_attacker(known: Known, truth: Records, counties: Sequence[int], names: tuple[str, str]) -> None:
    """InputError for an attacker who knows nobody in the counties (SSCCC as numbers), and for a truth that can confirm nothing; a
    warning of records elsewhere, and of ids that the truth has not. ``names`` are the attacker's and the truth's."""
    import numpy as np

    inside = np.isin(known.records.block // 10**10, counties)
    if not inside.any():
        raise InputError(f"{names[0]}: has nobody in the reconstructed counties; name another attacker's file")
    warn_left_out(names[0], int((~inside).sum()))
    if not np.isin(known.records.block[inside] // 10**10, truth.block // 10**10).any():
        raise InputError(f"{names[1]}: has nobody in the counties of {names[0]}; name the truth of this experiment")
    unknown = int((known.true[inside] < 0).sum()) if known.by_id else 0
    if unknown == int(inside.sum()):
        raise InputError(f"{names[1]}: has none of the ids of {names[0]}; name the truth that it was drawn from")
    if unknown:
        log.warning("%s: the truth has not the ids of %s, none of which is ever confirmed", names[0], counted(unknown, "record"))


def make_attacker(args: Arguments, config: Config) -> int:
    """Write an attacker's file drawn from true people, and the truth with the ids that confirm it."""
    load_arrow()
    with extra("study"):
        import numpy as np

        from dbrecon.recon.risk.attacker import draw_attacker
        from dbrecon.recon.risk.record_files import read_truth, write_attacker, write_truth

    if args.out is None:
        raise UsageError("--make_attacker writes attacker.csv and truth.csv: say where with --out FOLDER")
    out = new_folder(args, "audit")
    truth = read_truth(truth_files(args.make_attacker))
    records = truth.records
    ids = truth.ids.to_pylist() if truth.ids is not None else [f"p{number}" for number in range(1, len(records) + 1)]
    known, chosen = draw_attacker(records, args.coverage, args.error_rate, np.random.default_rng(args.seed or 0))
    paths = f"{out}/attacker.csv", f"{out}/truth.csv"
    with storage.sopen(paths[1], "wb", kms_key=config.s3.kms_key) as file:
        write_truth(records, ids, file)
    with storage.sopen(paths[0], "wb", kms_key=config.s3.kms_key) as file:  # the last: by it a folder has results
        write_attacker(known, [ids[i] for i in chosen.tolist()], file)
    print(f"{paths[0]}: {counted(len(known), 'record')} known to the attacker")
    print(f"{paths[1]}: {counted(len(records), 'person')}, with their ids")
    return 0


def load_arrow() -> None:
    """Load pyarrow with what it loads for the first value that it is given, which is pandas: a Ctrl-C that strikes in there would
    be lost, or come out as another error."""
    with held_back(signal.SIGINT, signal.SIGTERM), extra("study"):
        import pyarrow as pa

        pa.scalar("")


def warn_left_out(name: str, records: int) -> None:
    """Say how many records of a file are of counties that were not looked at."""
    if records:
        log.warning("%s: left out: %s of counties not asked for, or without people written", name, counted(records, "record"))


def new_folder(args: Arguments, name: str) -> str:
    """Where results go: --out, or a new folder here of that name and the time. UsageError for one that holds results already, or
    cannot be written to: that is said before the work is done."""
    if args.out is None:
        out = os.path.abspath(time.strftime(f"{name}-%Y-%m-%d-%H%M%S", time.gmtime()))
    else:
        out = str(args.out).rstrip("/")
    if storage.exists(f"{out}/report.html") or storage.exists(f"{out}/attacker.csv"):
        raise UsageError(f"--out {out} has results of an earlier run: name another folder")
    check_writable(out)
    return out


def check_writable(folder: str) -> None:
    """UsageError for a local folder that cannot be made or written to."""
    if storage.is_s3(folder):
        return
    parent = os.path.abspath(folder)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        raise UsageError(f"--out {folder}: {parent} is no folder; name another")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"--out {folder}: nothing may be written into {parent}; name another folder, or ask for the right to it")


def _read_people(file: TruthFile) -> People:
    from dbrecon.recon.people.people_reader import read_people

    with file.open() as opened:
        return read_people(opened, file.name)


def _county(experiment: Experiment, stusab: str, county: str) -> County:
    """Read a county's people, and what certainty tells of them where it has been found for just these people and tables."""
    from dbrecon.recon.risk.matching_study import County
    from dbrecon.recon.risk.reidentification import Blocks, MarkedRecords
    from dbrecon.steps.county_results import read_results

    found = read_results(experiment, stusab, county)
    if found.blocks is None or found.certain is None:
        return County(found.people)
    return County(found.people, Blocks(found.blocks.geoid, found.blocks.differ == 0), MarkedRecords(found.certain))


def _options(args: Arguments, config: Config) -> Options:
    """Return how programs are solved: as the settings say, but for the seed where one is given."""
    solve = config.solve
    seed = solve.seed if args.seed is None else args.seed
    return Options(solve.solver, seed, solve.time_limit, solve.gurobi_token_wait, solve.objective)


@contextmanager
def workers(wanted: bool) -> Iterator[Executor | None]:
    """As many processes as there are cores; none where there is little to do."""
    if not wanted:
        yield None
        return
    with process_pool(len(os.sched_getaffinity(0)), "forkserver") as executor:
        yield executor
