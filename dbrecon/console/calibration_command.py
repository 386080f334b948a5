"""``--certainty --truth``: confidences of the people against the true people."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbrecon.console.evaluate import truth_files
from dbrecon.ctools import storage
from dbrecon.ctools.extras import extra
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.ledger.claiming import listed
from dbrecon.states import STATES
from dbrecon.steps.prepare import COUNTIES_NAMED

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dbrecon.recon.certainty.calibration import Calibration
    from dbrecon.recon.people.people import People

log = logging.getLogger(__name__)


def calibration_of(experiment: Experiment, counties: Sequence[tuple[str, str]], names: Sequence[str]) -> Calibration:
    """Count the people of counties by confidence, and those whom the files ``names`` of true people have too.

    Warns of counties without samples and of those of which the truth has nobody; InputError if none is left.
    """
    from dbrecon.recon.certainty.calibration import calibrate
    from dbrecon.steps.certainty_records import builder_for

    with extra("study"):
        from dbrecon.recon.study.truth import load_county, sorted_by_county

    drawn = [place for place in counties if storage.exists(experiment.sample_blocks(*place))]
    _tell(counties, drawn, "left out, having no samples (--step6 --samples N draws them)")
    if not drawn:
        raise InputError(f"{experiment.reident} has no samples to compare with the truth: draw them with --step6 --samples N")
    codes = {STATES[stusab].fips + county: (stusab, county) for stusab, county in drawn}
    builder, found = builder_for(experiment), []
    with sorted_by_county(truth_files(names), set(codes), builder.product.categories) as (files, _):
        _tell(drawn, [codes[code] for code in files], "left out, since the truth has nobody there")
        for code, file in files.items():
            people, confidence = _people(experiment, *codes[code])
            found.append(calibrate(people, confidence, load_county(file), builder.bins))
    if not found:
        raise InputError(f"{', '.join(names)}: nobody there lives in a county with samples; name the truth of these counties")
    return sum(found[1:], found[0])


def _tell(wanted: Sequence[tuple[str, str]], taken: Sequence[tuple[str, str]], why: str) -> None:
    lacking = [" ".join(place) for place in wanted if place not in taken]
    if lacking and taken:
        log.warning("%s: %s", why, listed(lacking, COUNTIES_NAMED))


def _people(experiment: Experiment, stusab: str, county: str) -> tuple[People, npt.NDArray[np.float64]]:
    """Return a county's people in their file's order, and the confidence of each."""
    import numpy as np

    from dbrecon.recon.certainty.county import CONFIDENCE_HEADER
    from dbrecon.recon.people.rows import parse_rows
    from dbrecon.steps.methods import attributes_known

    path, beside = experiment.synth_out(stusab, county), experiment.people_certainty(stusab, county)
    people = parse_rows(storage.read_bytes(path).partition(b"\n")[2], path, attributes_known(experiment))
    header, _, lines = storage.read_bytes(beside).partition(b"\n")
    try:
        shares = np.array([line.split(b",")[1] for line in lines.splitlines()], np.float64)
    except (IndexError, ValueError):
        shares = np.zeros(0)
    if header.decode("ascii", "replace") != CONFIDENCE_HEADER or len(shares) != len(people.kind):
        raise InputError(f"{beside}: is no whole file of confidences of {path}; make it again (--step6 --samples N --force)")
    return people, shares
