"""Experiments: making them, listing them, and removing them from the database."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from dbrecon.console.commands import asked_reident, open_ledger
from dbrecon.console.parser import Arguments
from dbrecon.console.status_report import format_experiments
from dbrecon.ctools import cli, storage
from dbrecon.ctools.database import describe
from dbrecon.ctools.progress import counted
from dbrecon.errors import UsageError
from dbrecon.experiment import DEFAULT_PRODUCT, TABLE_CHOICES, Experiment, check_reident
from dbrecon.ledger.ledger import Ledger
from dbrecon.paths import command
from dbrecon.settings import Config
from dbrecon.steps.prepare import check_writable, open_experiment
from dbrecon.version import PROGRAM

log = logging.getLogger(__name__)
MAX_PRODUCT = 100


def register(args: Arguments, config: Config) -> int:
    """Make an experiment, and say what comes next."""
    reident, tables, config = chosen_name(args), args.tables or "all", seeded(args, config)
    experiment = Experiment.make(reident, config, tables, args.ages or "bins", chosen_product(args.product))
    check_writable(config)
    ledger = open_ledger(config)
    register_new(ledger, experiment)
    release = experiment.release
    which = f"{tables} tables" if tables in TABLE_CHOICES else f"the tables {tables}"
    of = "" if experiment.product == DEFAULT_PRODUCT else f" of the {release.title}"
    print(f"{reident} is registered in {describe(ledger.engine)}, on {which}{of}.")
    if tables not in TABLE_CHOICES:
        _tell_of_subset(experiment)
    print(f"Next: put states' zips into {experiment.dist} (as {release.zip_of('oh')}),")
    if release.url or config.sf1.url:
        print(f"      or download some:   {command('dbrtool')} --reident {reident} --step0 --stusab ri")
    print(f"then: {command('dbrtool')} --reident {reident} --step1 --step2")
    print(f"and:  {command('dbrtool')} --reident {reident} --run")
    return 0


def _tell_of_subset(experiment: Experiment) -> None:
    """Say that the tables' cells follow from what is written of them, and which tables follow that were left out."""
    from dbrecon.console.products import prove
    from dbrecon.recon.census.tables import load_product
    from dbrecon.recon.product.coverage import redundant

    path = Path(experiment.tables_path)
    product, whole = load_product(path, experiment.tables), load_product(path)
    prove(product, experiment.tables)
    names = {table.name for table in product.tables}
    follow = redundant(product, [table for table in whole.tables if table.name not in names])
    if follow:
        print(f"   left out, but following from the rest, so that leaving them out keeps nothing back: {', '.join(follow)}")


def seeded(args: Arguments, config: Config) -> Config:
    """Return the settings with the seed of ``--seed``, where it is given."""
    return config if args.seed is None else replace(config, solve=replace(config.solve, seed=args.seed))


def chosen_name(args: Arguments) -> str:
    """Return the REIDENT of --register, else that of --reident. UsageError for none, and for two."""
    name = args.register or args.reident
    if not name:
        raise UsageError("which name? Give it: --register R")
    if args.reident not in (None, name, os.environ.get("REIDENT")):
        raise UsageError(f"--register {args.register} and --reident {args.reident} name two experiments: name one")
    return check_reident(name)


def register_new(ledger: Ledger, experiment: Experiment) -> None:
    """Enter an experiment in the ledger, and make the folder for its zips. Raises UsageError if the name is taken."""
    from dbrecon.recon.census.tables import load_product

    load_product(Path(experiment.tables_path), experiment.tables)
    seed, ages = experiment.config.solve.seed, experiment.ages
    ledger.register(experiment.reident, experiment.tables, experiment.product, seed=seed, program=PROGRAM, ages=ages)
    if not storage.is_s3(experiment.dist):
        os.makedirs(experiment.dist, exist_ok=True)
    if next(storage.listdir(f"{experiment.base}/work"), None) is not None:
        left = "files of an earlier experiment: move them away, or begin with --step1 --step2 --force"
        log.warning("%s/work has %s", experiment.base, left)


def chosen_product(word: str | None) -> str:
    """Return what the database keeps of a product that is named: its own name, or the path of a folder of somebody's own.

    Raises UsageError if there is no such product, or its path is none that the database keeps.
    """
    from dbrecon.recon.product.release import load_release, shipped

    if not word:
        return DEFAULT_PRODUCT
    release = load_release(word)
    if release.name in shipped() and release == load_release(release.name):
        return release.product
    path = str(release.folder.resolve())  # at the same place on every node
    if not path.isascii() or len(path) > MAX_PRODUCT:
        raise UsageError(f"{path}: a product's folder has a path of at most {MAX_PRODUCT} ASCII characters; move it")
    return path


def upgrade_database(_args: Arguments, config: Config) -> int:
    """Bring the tables of an earlier version to this program's."""
    ledger = open_ledger(config, make=False)
    before, now = ledger.upgrade()
    place = describe(ledger.engine)
    print(f"{place}: its tables are of version {now} already" if before in (0, now) else f"{place}: upgraded to version {now}")
    return 0


def list_reidents(_args: Arguments, config: Config) -> int:
    """List the experiments."""
    ledger = open_ledger(config, make=False)
    rows = ledger.progress()
    if not rows:
        print(f"{describe(ledger.engine)} has no experiments yet: make one with --register R")
        return 0
    print(format_experiments(rows))
    return 0


def drop(args: Arguments, config: Config) -> int:
    """Remove an experiment's tables, if its name is typed."""
    reident, ledger = asked_reident(args), open_ledger(config, make=False)
    experiment = open_experiment(ledger, config, reident)
    status = ledger.status(reident)
    workers = len(ledger.claimants(reident))
    tracts = counted(status.sol_created + status.sol_remaining, "tract")
    at_work = f" At work on it: {counted(workers, 'scheduler')}." if workers else ""
    question = (
        f"{reident} in {describe(ledger.engine)}: {status.sol_created:,} of {tracts} solved.{at_work} "
        f"Its tables will be removed, its files stay.\nType its name to remove it:"
    )
    if not cli.confirm(question, reident):
        print("Nothing was removed.")
        return 1
    ledger.drop(reident)
    print(f"The tables of {reident} are removed. Its files stay in {experiment.base}")
    return 0
