"""Step 3: a county's tables -> one integer program a tract, as LP text."""

import time

from dbrecon.ctools import storage
from dbrecon.errors import InputError, Subject
from dbrecon.experiment import Experiment
from dbrecon.ledger.records import CountyDigests, LpStats
from dbrecon.recon.census.tables import Product
from dbrecon.recon.tract.county_tables import CountyFile, CountyTables
from dbrecon.recon.tract.lp_text import format_lp
from dbrecon.recon.tract.model import Model, ModelBuilder, NegativeCount, TractTables
from dbrecon.states import STATES
from dbrecon.steps.origin import Origin, check_accepted, staged

AS_THEY_ARE = CountyDigests(None, "", "")
"""For :func:`read_county`, where the files are compared with the people, and not with the ledger."""


def read_county(experiment: Experiment, product: Product, stusab: str, county: str, files: CountyDigests | None) -> CountyTables:
    """Return a county's tables from its two files (step 2). ``county`` has three digits, ``files`` is what the ledger has accepted
    of them.

    Raises InputError if it has accepted none, or a file is not there or not that one; StorageError if one cannot be read.
    """
    path = experiment.block_csv(stusab, county)
    if files is None:
        raise InputError(f"{path}: step 2 has not made it since step 1; make it (--step2 --stusab {stusab})")
    return CountyTables(
        product,
        STATES[stusab].fips + county,
        _county_file(path, stusab, files.block),
        _county_file(experiment.tract_csv(stusab, county), stusab, files.tract),
    )


def _county_file(path: str, stusab: str, accepted: str) -> CountyFile:
    try:
        content = storage.mapped(path)
    except storage.MissingFile:
        raise InputError(f"{path}: there is no such county file; make it (--step2 --stusab {stusab})") from None
    check_accepted(content, accepted, path, "the county file", Subject.COUNTY_FILES, stusab)
    return CountyFile(content, path)


def make_lp(
    experiment: Experiment, builder: ModelBuilder, stusab: str, tables: TractTables, origin: Origin
) -> tuple[Model, LpStats]:
    """Build a tract's program and write it, to be accepted. Returns the program, for solving it at once.

    Raises InputError if the tables contradict each other on sight, StorageError if the file cannot be written.
    """
    begin = time.monotonic()
    model = build_model(experiment, builder, stusab, tables)
    text = format_lp(model, tables.population, builder.product.name, experiment.tables, origin.lp_notes())
    path = experiment.lp(stusab, tables.geoid[2:5], tables.geoid[5:])
    with staged(path, origin, experiment.kms_key) as file:
        file.write(text)
    stats = LpStats(model.n_variables, model.n_constraints, model.n_nonzeros, time.monotonic() - begin, file.made)
    return model, stats


def build_model(experiment: Experiment, builder: ModelBuilder, stusab: str, tables: TractTables) -> Model:
    """Return a tract's program. Raises InputError if the tables contradict each other on sight; the cells are written to the
    ``.ilp`` file then."""
    try:
        return builder.build(tables)
    except NegativeCount as error:
        path = experiment.ilp(stusab, tables.geoid[2:5], tables.geoid[5:])
        with storage.sopen(path, "wb", kms_key=experiment.kms_key) as ilp:
            ilp.write(error.ilp())
        raise NegativeCount(f"{error.args[0]}; the cells stand in {path}", error.name, error.cells) from None
