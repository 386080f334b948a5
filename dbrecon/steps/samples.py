"""Samples of step 6: whole data sets with a tract's tables, summed up in a record a tract; kept themselves on request."""

import io
from collections.abc import Sequence

from dbrecon.ctools import storage
from dbrecon.ctools.extras import extra
from dbrecon.experiment import Experiment
from dbrecon.recon.certainty.record import TractRecord, counts_of, people_digest, tables_digest
from dbrecon.recon.certainty.sample_record import SampleOrder, SampleRecord, sample_record
from dbrecon.recon.certainty.sampling import Samples
from dbrecon.recon.people.people import People
from dbrecon.recon.solve.highs import highs_version
from dbrecon.recon.tract.model import Model
from dbrecon.steps.certainty_records import budget_of, builder_for, people_of_tract, whole_record
from dbrecon.steps.lp_files import AS_THEY_ARE, read_county
from dbrecon.steps.methods import attributes_known


def make_samples_of(experiment: Experiment, stusab: str, county: str, tract: str, order: SampleOrder, force: bool = False) -> bool:
    """Draw samples of a tract (six digits), in any process; whether they had to be drawn: what is there and matches is taken.

    Raises InputError if the people are not there or do not meet the tables.
    """
    builder, budget = builder_for(experiment), budget_of(experiment)
    tables = read_county(experiment, builder.product, stusab, county, AS_THEY_ARE).tract(tract)
    people = people_of_tract(experiment, stusab, tables.geoid)
    path, kept = (where(stusab, county, tract) for where in (experiment.samples_record, experiment.samples))
    made_of = (people_digest(people, builder.bins), tables_digest(tables), budget.checks, highs_version())
    wanted = (*made_of, order.number, order.seed, order.walking)
    found = None if force else whole_record(SampleRecord, path)
    if found is not None and _made_of(found) == wanted and not (order.keep and not storage.exists(kept)):
        return False
    record, model, drawn = sample_record(builder, tables, people, order, budget, highs_version())
    if order.keep:
        _keep(experiment, kept, model, people, drawn)
    else:
        storage.remove(kept)  # of other people or tables, if it is there
    with storage.sopen(path, "wb", kms_key=experiment.kms_key) as file:
        file.write(record.text())
    return True


def _made_of(record: SampleRecord) -> tuple[str, str, int, str, int, int, bool]:
    made_of = record.people_digest, record.tables_digest, record.checks, record.solver
    return (*made_of, record.number, record.seed, record.walking)


def samples_of(experiment: Experiment, stusab: str, county: str, records: Sequence[TractRecord]) -> list[SampleRecord]:
    """Return the samples' records of a county's tracts; none unless all are there, of the same people and tables, and drawn
    alike."""
    found = []
    for record in records:
        path = experiment.samples_record(stusab, county, record.geoid[5:])
        samples = whole_record(SampleRecord, path, "samples are left out until --step6 --samples N draws them again")
        if samples is None or (samples.people_digest, samples.tables_digest) != (record.people_digest, record.tables_digest):
            return []
        found.append(samples)
    return found if len({(samples.number, samples.seed, samples.walking) for samples in found}) == 1 else []


def _keep(experiment: Experiment, path: str, model: Model, people: People, drawn: Samples) -> None:
    with extra("study"):
        from dbrecon.recon.certainty.sample_table import write_samples
    content = io.BytesIO()
    write_samples(model, builder_for(experiment).bins, counts_of(model, people), drawn, content, attributes_known(experiment))
    with storage.sopen(path, "wb", kms_key=experiment.kms_key) as file:
        file.write(content.getbuffer())
