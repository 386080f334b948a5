"""What --evaluate has found of a county, kept beside its people: evaluation_{SSCCC}.json.

It holds counts alone, and the digests of the people and tables that it is of. No step makes it, and the ledger knows nothing of it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dbrecon.ctools import storage
from dbrecon.errors import InputError
from dbrecon.experiment import Experiment
from dbrecon.states import STATES
from dbrecon.steps.certainty_check import Digests, changed_since, source_digests
from dbrecon.version import PROGRAM

AGAIN = "--evaluate TRUTH finds it anew"
_COUNTS = ("true_people", "exact_age", "binned_age")


def keep_evaluation(
    experiment: Experiment,
    place: tuple[str, str],
    record: Mapping[str, Any],
    truth: Sequence[str],
    seed: int,
    accepted: Digests,
) -> None:
    """Write what was found of a county (state, three digits): ``record`` is what ``as_record`` makes of it.

    ``truth`` are the names of the files of true people, ``accepted`` the digests of people and tables that are known. Without true
    people what was found with some, of the same people and tables, stays. Raises StorageError.
    """
    path, stusab, county = experiment.evaluation(*place), *place
    made_of = source_digests(experiment, stusab, county, accepted)
    if record["agreement"] is None and _is_of(path, made_of):
        return
    head = {
        "county": f"{STATES[stusab].fips}{county}",
        "stusab": stusab,
        "tables": experiment.tables,
        "product": experiment.product,
        "program": PROGRAM,
        "truth": list(truth) if record["agreement"] else [],
        "seed": seed,
        "sha256": made_of,
    }
    with storage.sopen(path, "wb", kms_key=experiment.kms_key) as file:
        file.write(json.dumps({**head, **record}, indent=1).encode() + b"\n")


def _is_of(path: str, made_of: Digests) -> bool:
    """Whether an evaluation with true people, of just these people and tables, is there."""
    try:
        kept = read_evaluation(path)
    except (InputError, storage.DamagedFile):
        return False
    return kept is not None and kept["agreement"] is not None and kept["sha256"] == dict(made_of)


def read_evaluation(path: str) -> dict[str, Any] | None:
    """Return a county's evaluation; None if there is none. Raises InputError for a file that is not whole, StorageError."""
    try:
        kept = json.loads(storage.read_bytes(path))
        kept["truth"], kept["seed"], kept["agreement"]
        sum(level["wrong"] + level["cells"] for level in kept["violations"].values())
        kept["sha256"]["people"], kept["sha256"]["block_tables"], kept["sha256"]["tract_tables"]
        sum(tract[name] for tract in kept["tracts"] for name in _COUNTS)
    except storage.MissingFile:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is no whole file of a county's evaluation; {AGAIN}") from error
    return dict(kept)


def stale_evaluation(
    experiment: Experiment, stusab: str, county: str, kept: Mapping[str, Any], accepted: Digests | None = None
) -> str | None:
    """Return the sentence for an evaluation that is not of the county's people and tables as they are now; None for one that is.

    ``accepted`` are digests that are known, and need no reading of files.
    """
    why = changed_since(experiment, stusab, county, kept["sha256"], accepted)
    return why and f"{experiment.evaluation(stusab, county)} is stale: {why}; {AGAIN}"
