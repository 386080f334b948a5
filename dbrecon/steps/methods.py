"""What the steps make of an experiment's table definitions, once a process: its program builder, its age bins."""

from functools import lru_cache
from pathlib import Path

from dbrecon.experiment import Experiment
from dbrecon.recon.census.bins import SINGLE_AGES, Binning, derive_binning
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.people.attributes import Attributes, attributes_of
from dbrecon.recon.people.people import BinnedPeople, People
from dbrecon.recon.people.years import deal_years
from dbrecon.recon.tract.model import ModelBuilder, TractTables


def builder_of(experiment: Experiment) -> ModelBuilder:
    """Return the program builder for an experiment's tables and ages."""
    return builder_of_tables(experiment.tables_path, experiment.tables, experiment.ages)


def binning_of(experiment: Experiment) -> Binning:
    """Return the age bins of an experiment's tables, whether its programs count by them or not: its solutions may."""
    return binning_of_tables(experiment.tables_path, experiment.tables)


def attributes_known(experiment: Experiment) -> Attributes | None:
    """Return what an experiment's tables tell of people, for reading and writing their files; None where that is everything."""
    return attributes_of_tables(experiment.tables_path, experiment.tables)


def with_any_years(experiment: Experiment, people: BinnedPeople, tables: TractTables, source: str) -> People:
    """Return a solution's people with the years as they come, to check it: all dealings make the same tables."""
    return deal_years(people, binning_of(experiment), tables.tract_cells, 0, source, best=False)


@lru_cache(maxsize=4)
def attributes_of_tables(tables_file: str, tables: str) -> Attributes | None:
    """Return what a file of table definitions tells of people; None where that is everything."""
    return attributes_of(load_product(Path(tables_file), tables))


@lru_cache(maxsize=4)
def builder_of_tables(tables_file: str, tables: str, ages: str) -> ModelBuilder:
    """Return the program builder for a file of table definitions. Raises InputError for one that is none."""
    bins = binning_of_tables(tables_file, tables).bins if ages == "bins" else SINGLE_AGES
    return ModelBuilder(load_product(Path(tables_file), tables), bins)


@lru_cache(maxsize=4)
def binning_of_tables(tables_file: str, tables: str) -> Binning:
    """Return the age bins of a file of table definitions. Raises InputError for one that is none."""
    return derive_binning(load_product(Path(tables_file), tables))
