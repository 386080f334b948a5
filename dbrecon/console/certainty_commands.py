"""How sure the people are: step 6 by hand, its summary, and claims about people."""

from __future__ import annotations

import csv
import json
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dbrecon.console.commands import asked_place, asked_reident, open_ledger, place_in_words
from dbrecon.console.parser import Arguments
from dbrecon.console.written import written_counties
from dbrecon.ctools import storage
from dbrecon.ctools.host import host_name
from dbrecon.ctools.process_pool import process_pool
from dbrecon.ctools.progress import Progress, counted
from dbrecon.errors import InputError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.claiming import listed
from dbrecon.ledger.ledger import Ledger
from dbrecon.place import Place
from dbrecon.remedies import sentence
from dbrecon.settings import Config
from dbrecon.states import STATES
from dbrecon.steps.prepare import COUNTIES_NAMED, open_experiment

if TYPE_CHECKING:
    from dbrecon.recon.certainty.certificate import ClaimBounds
    from dbrecon.recon.certainty.sample_record import SampleOrder

log = logging.getLogger(__name__)


# -- step 6 -------------------------------------------------------------------------------------------------------------


def certify_counties(
    experiment: Experiment, ledger: Ledger, place: Place, *, cells: str | None, force: bool, samples: SampleOrder | None = None
) -> None:
    """Step 6 of every county of a place whose people are written, with ``samples`` if they are ordered, and cells in the kind
    ``cells``: prints a line a county.

    Tracts are shared out to as many processes as there are cores. What is there and matches is not computed again unless ``force``.
    """
    from dbrecon.steps.certainty_check import check_sources, has_samples, is_current, read_sidecar
    from dbrecon.steps.certainty_records import check_available, make_record_of
    from dbrecon.steps.county_certainty import close_county, count_of, samples_line
    from dbrecon.steps.samples import make_samples_of

    check_available(experiment)
    counties = _written(experiment, ledger, place)
    accepted = accepted_digests(ledger, experiment.reident, counties)
    with process_pool(None, "spawn") as pool, Progress("certain", "tract", None) as progress:
        for stusab, county in counties:
            states = ledger.tract_states(experiment.reident, stusab, county)
            tracts = sorted(state.tract for state in states if state.pop)
            drawn = samples is None or has_samples(experiment, stusab, county, tracts, samples)
            known = accepted[stusab, county]
            if not force and drawn and is_current(experiment, stusab, county, cells, known):
                ledger.certainty_by_hand(experiment.reident, stusab, county, known["people"], host_name())
                log.info("%s exists; --force makes it again", experiment.certainty(stusab, county))
                continue
            check_sources(experiment, stusab, county, known)
            jobs = [pool.submit(make_record_of, experiment, stusab, county, tract, bool(cells), force) for tract in tracts]
            if samples is not None:
                jobs += [pool.submit(make_samples_of, experiment, stusab, county, tract, samples, force) for tract in tracts]
            for job in jobs:
                job.result()
                progress.add(1)
            records = close_county(experiment, stusab, county, tracts, cells)
            sidecar = read_sidecar(experiment.certainty_sidecar(stusab, county))
            ledger.certainty_by_hand(experiment.reident, stusab, county, sidecar["sha256"]["people"], host_name())
            print(f"{experiment.certainty(stusab, county)}: {count_of(records)}", flush=True)
            if samples is not None:
                print(f"{experiment.sample_blocks(stusab, county)}: {samples_line(sidecar)}", flush=True)


def asked_samples(args: Arguments) -> SampleOrder | None:
    """Return the samples that a command line asks for; None if it asks for none."""
    from dbrecon.recon.certainty.sample_record import SampleOrder

    return None if args.samples is None else SampleOrder(args.samples, args.seed or 0, args.keep_samples, args.walk)


def accepted_digests(ledger: Ledger, reident: str, counties: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, str]]:
    """Return what the ledger has accepted of each county's people and tables, by the sidecar's names; "" where it keeps no
    digest."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for state in sorted({stusab for stusab, _ in counties}):
        people, tables = ledger.people_digests(reident, state), ledger.county_files(reident, state)
        for county in [county for stusab, county in counties if stusab == state]:
            files = tables.get(county)
            block, tract = (files.block, files.tract) if files else ("", "")
            found[state, county] = {"people": people.get(county) or "", "block_tables": block, "tract_tables": tract}
    return found


def reopen_stale(experiment: Experiment, ledger: Ledger, place: Place) -> None:
    """Begin the certainty anew of counties whose files of it are gone, or not of their people, tables and budget as they are
    now."""
    from dbrecon.steps.certainty_check import is_current

    counties = ledger.certain_counties(experiment.reident, place)
    accepted = accepted_digests(ledger, experiment.reident, counties)
    for stusab, county in counties:
        if not is_current(experiment, stusab, county, cells=None, accepted=accepted[stusab, county]):
            log.info("the certainty of %s %s is stale or its files are gone: it is made again", stusab, county)
            ledger.reset_certainty(experiment.reident, Place(stusab, county))


def _written(experiment: Experiment, ledger: Ledger, place: Place) -> list[tuple[str, str]]:
    """Return state and county of a place where people are written, as :func:`written_counties` has them. InputError where a zip is
    another than step 1 has read."""
    from dbrecon.steps.provenance import check_zip

    if place.tracts:
        raise UsageError("certainty is of whole counties: leave --tract out")
    ledger.check_place(experiment.reident, place)
    counties = written_counties(ledger, experiment.reident, place)
    for stusab in dict.fromkeys(stusab for stusab, _ in counties):
        check_zip(experiment, ledger, stusab)
    return counties


# -- the summary --------------------------------------------------------------------------------------------------------


def show_certainty(args: Arguments, config: Config) -> int:
    """Print the table of variability by size of block, or write it to a file."""
    from dbrecon.recon.certainty.summary import Blocks, format_summary, summarise, summary_csv
    from dbrecon.steps.certainty_records import check_available

    reident, place, ledger = asked_reident(args), asked_place(args), open_ledger(config, make=False)
    experiment = open_experiment(ledger, config, reident)
    check_available(experiment)
    target = str(args.certainty)
    if target and not target.endswith((".csv", ".json")):
        raise UsageError(f"--certainty {target}: name a .csv or .json to write, or none to print the table")
    counties = _computed(experiment, ledger, _written(experiment, ledger, place))
    parts = [Blocks.parse(storage.read_bytes(path), path) for path in (experiment.certainty(*county) for county in counties)]
    found = summarise(Blocks.concatenate(parts)) | {"reident": reident, "place": place.text(), "counties": len(counties)}
    if drawn := sample_figures(experiment, counties):
        found["samples"] = drawn
    if args.truth:
        from dbrecon.console.calibration_command import calibration_of

        found["calibration"] = calibration_of(experiment, counties, args.truth).rows()
    if target:
        text = summary_csv(found) if target.endswith(".csv") else json.dumps(found, indent=1) + "\n"
        with storage.sopen(target, "w") as file:
            file.write(text)
    title = _title(found, experiment, place_in_words(ledger, reident, place))
    print(json.dumps(found, indent=1) if args.json else f"{title}\n\n{format_summary(found)}{_drawn(found)}")
    return 0


def _drawn(found: dict[str, Any]) -> str:
    """Return what samples tell, under the table."""
    from dbrecon.recon.certainty.calibration import format_calibration

    lines = [""]
    if drawn := found.get("samples"):
        counties, people = counted(drawn["counties"], "county"), drawn["people"]
        apart, away = (100 * drawn[name] / people for name in ("mean_differ", "mean_from_people"))
        lines.append(
            f"samples ({counties}): two data sets differ by {apart:.2f} % of the people on average, one from the reconstruction by "
            f"{away:.2f} %"
        )
    if rows := found.get("calibration"):
        lines += ["", format_calibration(rows)]
    return "\n".join(lines)


def _title(found: dict[str, Any], experiment: Experiment, place: str) -> str:
    known = {"all": "block and tract tables", "block": "block tables alone"}
    tables = known.get(experiment.tables, f"the tables {experiment.tables}")
    return f"{found['reident']}, {place}, {counted(found['counties'], 'county')}: people who may differ, from {tables}"


def sample_figures(experiment: Experiment, counties: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the sums over those of the counties that have samples; nothing if none has."""
    from dbrecon.steps.certainty_check import read_sidecar

    sidecars = [read_sidecar(experiment.certainty_sidecar(*county)) for county in counties]
    drawn = [(sidecar["people"], sidecar["samples"]) for sidecar in sidecars if sidecar.get("samples")]
    if not drawn:
        return {}
    sums = {name: round(sum(samples[name] for _, samples in drawn), 4) for name in ("mean_differ", "mean_from_people")}
    return {"counties": len(drawn), "people": sum(people for people, _ in drawn), **sums}


def _computed(experiment: Experiment, ledger: Ledger, counties: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the counties whose certainty is computed. Warns of those that lack it or are stale; InputError if none is left."""
    from dbrecon.steps.certainty_check import stale_because

    found, lacking, stale, remedy = [], [], [], "--step6 makes it again"
    accepted = accepted_digests(ledger, experiment.reident, counties)
    for stusab, county in counties:
        if not storage.exists(experiment.certainty_sidecar(stusab, county)):
            lacking.append(f"{stusab} {county}")
        elif why := stale_because(experiment, stusab, county):
            stale.append(f"{stusab} {county} ({why})")
            if stale_because(experiment, stusab, county, accepted[stusab, county]) is None:  # the ledger knows of no change
                remedy = "--rescan and then --step6 make it again"
        else:
            found.append((stusab, county))
    if not found:
        why = f"it is stale for {listed(stale, COUNTIES_NAMED)}" if stale else f"it lacks {listed(lacking, COUNTIES_NAMED)}"
        remedy = remedy if stale else "do step 6 (--step6)"
        raise InputError(f"{experiment.reident} has no certainty of its people as they are: {why}; {remedy}")
    if stale:
        log.warning("stale, and left out: %s; %s", listed(stale, COUNTIES_NAMED), remedy)
    if lacking:
        log.warning("left out, since step 6 is not done: %s", listed(lacking, COUNTIES_NAMED))
    return found


# -- claims -------------------------------------------------------------------------------------------------------------


def answer_claim(args: Arguments, config: Config) -> int:
    """Say what holds of one claim in every data set with the tables; write the certificate where one is asked for."""
    reident, ledger = asked_reident(args), open_ledger(config, make=False)
    experiment = open_experiment(ledger, config, reident)
    bounds = _bound(experiment, ledger, args.claim)
    print(_answer(bounds))
    if args.certificate:
        with storage.sopen(args.certificate, "w") as file:
            json.dump(bounds.certificate | {"reident": reident, "tables": experiment.tables}, file)
            file.write("\n")
        print(f"{args.certificate}: the certificate; --check_claim {args.certificate} checks it without a solver")
    return 0


def answer_claims(args: Arguments, config: Config) -> int:
    """Answer the claims of a file, one a line, as CSV on stdout. One that cannot be answered is said so in its line; then the exit
    code is its error's."""
    from dbrecon.steps.certainty_records import check_available

    reident, ledger = asked_reident(args), open_ledger(config, make=False)
    experiment = open_experiment(ledger, config, reident)
    check_available(experiment)
    storage.look_named(args.claims)
    try:
        lines = storage.read_bytes(args.claims).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{args.claims}: is not UTF-8 text ({error.reason}); give a file with a claim a line") from error
    texts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["claim", "least", "most", "verdict"])
    code = 0
    for text in texts:
        try:
            bounds = _bound(experiment, ledger, text)
        except (UsageError, InputError) as error:
            code = max(code, error.exit_code)
            log.error("%s", sentence(error))
            table.writerow([text, "", "", "not understood" if isinstance(error, UsageError) else "not answered"])
        else:
            table.writerow([text, bounds.least, bounds.most, bounds.verdict])
        sys.stdout.flush()
    return code


def check_claim(args: Arguments, config: Config) -> int:
    """Check a certificate in integers, without a solver, against the experiment's tables."""
    from dbrecon.steps.claim_answers import check_file

    reident, ledger = asked_reident(args), open_ledger(config, make=False)
    experiment = open_experiment(ledger, config, reident)
    storage.look_named(args.check_claim)
    bounds = check_file(experiment, ledger, args.check_claim)
    print(f"{args.check_claim}: holds\n{bounds.claim.text}\n{_answer(bounds)}")
    return 0


def _bound(experiment: Experiment, ledger: Ledger, text: str) -> ClaimBounds:
    from dbrecon.recon.certainty.claims import parse_claim
    from dbrecon.steps.certainty_records import check_available
    from dbrecon.steps.claim_answers import bound
    from dbrecon.steps.county_results import product_of

    check_available(experiment)
    claim = parse_claim(text, product_of(experiment).categories)
    states = {info.fips: stusab for stusab, info in STATES.items()}
    stusab = states.get(claim.geoid[:2])
    if stusab is None:
        raise UsageError(f"the claim {text!r}: no state has the code {claim.geoid[:2]}")
    ledger.check_place(experiment.reident, Place(stusab, claim.geoid[2:5], (claim.geoid[5:11],)))
    return bound(experiment, ledger, stusab, claim)


def _ends(least: int, most: int) -> str:
    people = counted(most, "such person", "such people")
    return f"exactly {people}" if least == most else f"at least {least:,}, at most {people}"


def _answer(bounds: ClaimBounds) -> str:
    lines = [f"{_ends(bounds.least, bounds.most)} in every data set with these tables", bounds.verdict]
    if (bounds.least, bounds.most) != (bounds.seen_least, bounds.seen_most):
        lines.append(f"not closed within the budget: data sets with {bounds.seen_least:,} and {bounds.seen_most:,} are known")
    return "\n".join(lines)
