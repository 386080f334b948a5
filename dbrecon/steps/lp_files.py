"""Step 3: a county's tables -> one integer program a tract, as LP text."""

import time

from dbrecon.ctools import storage
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import LpStats
from dbrecon.recon.census.tables import Product
from dbrecon.recon.tract.county_tables import CountyFile, CountyTables
from dbrecon.recon.tract.lp_text import format_lp
from dbrecon.recon.tract.model import Model, ModelBuilder, TractTables


def read_county(experiment: Experiment, product: Product, stusab: str, state: str, county: str) -> CountyTables:
    """A county's tables from its two files (step 2). ``state`` is the FIPS code, ``county`` has three digits.

    Raises InputError if a file is not there, StorageError if it cannot be read.
    """
    return CountyTables(
        product,
        state + county,
        _county_file(experiment.block_csv(stusab, county), stusab),
        _county_file(experiment.tract_csv(stusab, county), stusab),
    )


def _county_file(path: str, stusab: str) -> CountyFile:
    try:
        return CountyFile(storage.mapped(path), path)
    except storage.MissingFile:
        raise InputError(f"{path}: there is no such county file; make it (--step2 --stusab {stusab})") from None


def make_lp(experiment: Experiment, builder: ModelBuilder, stusab: str, tables: TractTables) -> tuple[Model, LpStats]:
    """Build a tract's program and write it where the experiment keeps it. Returns the program, for solving it at once.

    Raises InputError if the tables contradict each other on sight, StorageError if the file cannot be written.
    """
    begin = time.monotonic()
    model = builder.build(tables)
    text = format_lp(model, tables.population, builder.product.name, experiment.tables)
    path = experiment.lp(stusab, tables.geoid[2:5], tables.geoid[5:])
    with storage.sopen(path, "wb", kms_key=experiment.kms_key) as file:
        file.write(text)
    stats = LpStats(model.n_variables, model.n_constraints, model.n_nonzeros, time.monotonic() - begin)
    return model, stats
