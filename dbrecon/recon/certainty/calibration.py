"""Whether confidences say what they seem to say: of people whose confidence is c, the share that a truth has too."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.bins import AgeBins
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.county import rank_among_equals
from dbrecon.recon.people.people import People

STARTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Least confidences of the classes; the last is of who is in every sample."""

_BLOCKS_OF_COUNTY = 10**10
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """People by class of confidence (classes,): how many, the sum of their confidences, and how many of them the truth has."""

    people: IntArray
    stated: FloatArray
    true: IntArray

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(self.people + other.people, self.stated + other.stated, self.true + other.true)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row a class: its bounds, people, their mean confidence, and the share that is true; None where there is
        nobody."""
        ends = [*STARTS[1:], 1.0]
        return [
            {
                "from": start,
                "below": end if start < 1.0 else None,
                "people": int(people),
                "mean_confidence": round(float(stated) / int(people), 4) if people else None,
                "true_share": round(int(true) / int(people), 4) if people else None,
            }
            for start, end, people, stated, true in zip(STARTS, ends, self.people, self.stated, self.true, strict=True)
        ]


def calibrate(people: People, confidence: FloatArray, truth: People, bins: AgeBins) -> Calibration:
    """Count people of a county (one an entry, in the file's order) by their ``confidence`` (people,), and those that ``truth`` has.

    The k-th of people alike in block, sex, age bin, race and origin is true if the truth has at least k such people.
    """
    wanted = _key(people, bins)
    known, at = np.unique(_key(truth, bins), return_inverse=True)
    count = np.zeros(len(known) + 1, np.int64)
    np.add.at(count, at, truth.count)
    place = np.searchsorted(known, wanted)
    present = np.append(known, -1)[place] == wanted
    true = present & (rank_among_equals(wanted) <= count[place])
    group = np.searchsorted(STARTS, confidence, side="right") - 1
    n = len(STARTS)
    return Calibration(
        np.bincount(group, minlength=n), np.bincount(group, confidence, n).astype(np.float64), np.bincount(group[true], minlength=n)
    )


def _key(people: People, bins: AgeBins) -> IntArray:
    return people.geoid_block % _BLOCKS_OF_COUNTY * bins.n_kinds + bins.of_kind(people.kind)


def format_calibration(rows: list[dict[str, Any]]) -> str:
    """Return the table as text."""
    lines = ["confidence    people  mean confidence  truth has"]
    for row in rows:
        if not row["people"]:
            continue
        name = "1" if row["below"] is None else f"{row['from']:.1f} to {row['below']:.1f}"
        lines.append(f"{name:10}{row['people']:>10,}{row['mean_confidence']:>17.3f}{row['true_share']:>11.3f}")
    return "\n".join(lines)
