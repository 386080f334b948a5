"""Claims about people of an experiment: answered from the tables and the people of a tract; certificates, checked from the
tables."""

import json

from dbrecon.ctools import storage
from dbrecon.errors import InputError, UsageError, VerificationError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.recon.artifacts import read_geofile
from dbrecon.recon.certainty.certificate import ClaimBounds, bins_for, bound_claim, check_certificate
from dbrecon.recon.certainty.claims import Claim, parse_claim
from dbrecon.recon.certainty.record import counts_of, tables_digest
from dbrecon.recon.people.people import People
from dbrecon.recon.tract.model import ModelBuilder, TractTables
from dbrecon.remedies import sentence
from dbrecon.states import STATES
from dbrecon.steps.certainty_records import budget_of, builder_for, people_of_tract
from dbrecon.steps.lp_files import read_county
from dbrecon.steps.provenance import check_people, check_zip


def bound(experiment: Experiment, ledger: Ledger, stusab: str, claim: Claim) -> ClaimBounds:
    """Return the least and the most people whom a claim is about, with the certificate.

    Where nobody lives the answer is 0. Raises UsageError for a block that the tract does not have, InputError if its people are not
    written, or people or tables are not those that the ledger has accepted.
    """
    builder, tables = _tables(experiment, ledger, stusab, claim)
    block = int(claim.geoid[11:] or -1)
    if block >= 0 and block not in tables.blocks.tolist() and not _is_block(experiment, stusab, claim.geoid):
        raise UsageError(f"tract {claim.tract} has no block {claim.geoid[11:]}")
    model = builder.build(tables)
    people = _people(experiment, ledger, stusab, claim.tract) if len(tables.blocks) else People.concatenate([])
    found = bound_claim(model, counts_of(model, people), claim, budget_of(experiment))
    found.certificate["tables_digest"] = tables_digest(tables)
    found.certificate["product"] = builder.product.name
    return found


def _people(experiment: Experiment, ledger: Ledger, stusab: str, tract: str) -> People:
    county = tract[2:5]
    if ledger.people_digests(experiment.reident, stusab)[county] is None:
        raise InputError(f"{experiment.synth_out(stusab, county)}: the county's people are not written yet; step 5 comes first")
    check_people(experiment, ledger, stusab, [county])
    return people_of_tract(experiment, stusab, tract)


def _is_block(experiment: Experiment, stusab: str, geoid: str) -> bool:
    """Return whether a state's geography has a block (15 digits). County files list those with people alone."""
    path = experiment.geofile(stusab)
    with storage.sopen(path) as file:
        return any(unit.block and unit.geoid == geoid for unit in read_geofile(file, stusab, STATES[stusab].fips, path))


def _tables(experiment: Experiment, ledger: Ledger, stusab: str, claim: Claim) -> tuple[ModelBuilder, TractTables]:
    """Return the builder of the claim's program, and the tract's tables, as the ledger has accepted them."""
    check_zip(experiment, ledger, stusab)
    usual = builder_for(experiment)
    bins = bins_for(claim, usual.bins)
    builder = usual if bins == usual.bins else ModelBuilder(usual.product, bins)
    files = ledger.county_files(experiment.reident, stusab).get(claim.tract[2:5])
    county = read_county(experiment, builder.product, stusab, claim.tract[2:5], files)
    return builder, county.tract(claim.tract[5:])


def check_file(experiment: Experiment, ledger: Ledger, path: str) -> ClaimBounds:
    """Return the claim of a certificate's file, and the bounds that the certificate proves: checked in integers, without a solver.
    Who made it (``reident``) is not looked at: it holds for whoever has these tables.

    Raises VerificationError if it does not hold for the experiment's tables, InputError if it is no certificate.
    """
    try:
        certificate = json.loads(storage.read_bytes(path))
        claim = parse_claim(str(certificate["claim"]), builder_for(experiment).product.categories)
        said = certificate["tables_digest"], certificate["product"], certificate["tables"]
    except (ValueError, KeyError, TypeError, RecursionError, UsageError) as error:
        raise InputError(f"{path}: is no certificate of a claim ({sentence(error)})") from error
    stusab = next((name for name, state in STATES.items() if state.fips == claim.geoid[:2]), None)
    if stusab is None:
        raise InputError(f"{path}: its claim is about a state with the code {claim.geoid[:2]}, which no state has")
    builder, tables = _tables(experiment, ledger, stusab, claim)
    if said != (tables_digest(tables), builder.product.name, experiment.tables):
        raise VerificationError(f"{path}: is of other tables of tract {claim.tract} than {experiment.reident} has")
    least, most = check_certificate(builder.build(tables), claim, certificate, path)
    return ClaimBounds(claim, least, most, certificate["least"]["seen"], certificate["most"]["seen"], certificate)
