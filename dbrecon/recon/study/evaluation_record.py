"""An evaluation of one county as plain data, for the file that keeps it; and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dbrecon.recon.study.evaluation import MEASURES, METHODS, Agreement, CountyEvaluation, Violations


def as_record(found: CountyEvaluation) -> dict[str, Any]:
    """Return what is found of a county, as JSON can hold it: counts alone. ``agreement`` is None without true people."""
    agreement = found.agreement
    tracts = zip(found.tracts.tolist(), found.true.tolist(), found.matched.tolist(), strict=True)
    return {
        "people": found.people,
        "violations": {level: {"wrong": v.wrong, "cells": v.cells} for level, v in found.violations.items()},
        "agreement": agreement
        and {
            "true_people_by_block_size": agreement.truth.tolist(),
            "blocks_by_block_size": agreement.blocks.tolist(),
            "matched_by_block_size": {
                method: dict(zip(MEASURES, sizes.tolist(), strict=True))
                for method, sizes in zip(METHODS, agreement.matched, strict=True)
                if agreement.known(method)
            },
        },
        "tracts": [
            {"tract": f"{tract % 10**6:06d}", "true_people": true, **dict(zip(MEASURES, matched, strict=True))}
            for tract, true, matched in tracts
        ],
    }


def from_record(county: int, record: Mapping[str, Any]) -> CountyEvaluation:
    """Return what :func:`as_record` was made of, without examples of cells; ``county`` is SSCCC as a number.

    Raises KeyError, TypeError or ValueError for what is no such record.
    """
    rows, kept = record["tracts"], record["agreement"]
    matched = [[row[measure] for measure in MEASURES] for row in rows]
    return CountyEvaluation(
        record["people"],
        {level: Violations(**counts) for level, counts in record["violations"].items()},
        None if kept is None else _agreement(kept),
        np.array([county * 10**6 + int(row["tract"]) for row in rows], np.int64),
        np.array([row["true_people"] for row in rows], np.int64),
        np.array(matched, np.int64).reshape(-1, len(MEASURES)),
    )


def _agreement(kept: Mapping[str, Any]) -> Agreement:
    truth, by_method = np.array(kept["true_people_by_block_size"], np.int64), kept["matched_by_block_size"]
    nothing = dict.fromkeys(MEASURES, [0] * len(truth))
    matched = [[by_method.get(method, nothing)[measure] for measure in MEASURES] for method in METHODS]
    blocks = np.array(kept["blocks_by_block_size"], np.int64)
    return Agreement(np.array(matched, np.int64), truth, blocks, baselines=set(METHODS) <= set(by_method))
