"""A county's files of certainty, as text: blocks, cells, and the people's certainty line for line."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.bins import AgeBins
from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, N_RH, RACES, SEXES, IntArray
from dbrecon.recon.certainty.record import TractRecord
from dbrecon.recon.certainty.search import Proof
from dbrecon.recon.people.attributes import RACE_GROUP, Attributes
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People

BLOCK_HEADER = (
    "geoid_block,people,differ_lower,differ_upper,variability_lower,variability_upper,blockwise_lower,blockwise_upper,"
    "certain,any_two_upper,proof"
)
CELL_KEY = ",".join(["geoid_block", "sex", "age_first", "age_last", *RACES, "hisp"])
"""The columns that say which cell a line is of."""

CELL_COUNTS = "count,min,max,seen_min,seen_max"
CELL_HEADER = f"{CELL_KEY},{CELL_COUNTS}"
PEOPLE_HEADER = "certain"
CONFIDENCE_HEADER = "certain,confidence"  # with samples
DECIMALS = 4
"""Of percentages; the last digit is rounded half up, in integers."""

OLDEST_OPEN = ""  # how the last age of the open interval at the end is written


def per_cent(part: int, whole: int) -> str:
    """Return a percentage with ``DECIMALS`` decimals, computed in integers."""
    unit = 10**DECIMALS
    value = (200 * unit * part + whole) // (2 * whole)
    return f"{value // unit}.{value % unit:0{DECIMALS}d}"


def block_lines(records: Iterable[TractRecord]) -> Iterator[bytes]:
    """Yield the lines of the county's blocks, header first, a tract at a time."""
    yield BLOCK_HEADER.encode() + b"\n"
    for record in records:
        blocks = {name: values.tolist() for name, values in record.blocks.items()}
        yield b"".join(_block_line(record.geoid, blocks, i) for i in range(len(blocks["block"])))


def _block_line(geoid: str, blocks: dict[str, list[int]], i: int) -> bytes:
    people, lower, upper = blocks["people"][i], blocks["differ_lower"][i], blocks["differ_upper"][i]
    values = [
        f"{geoid}{blocks['block'][i]:04d}",
        people,
        lower,
        upper,
        per_cent(lower, people),
        per_cent(upper, people),
        blocks["blockwise_lower"][i],
        blocks["blockwise_upper"][i],
        blocks["certain"][i],
        blocks["any_two_upper"][i],
        Proof(blocks["proof"][i]).name.lower(),
    ]
    return (",".join(map(str, values)) + "\n").encode()


def cell_key(attributes: Attributes | None) -> str:
    """Return ``CELL_KEY``, with the column of race groups where the product names some."""
    return f"{CELL_KEY},{RACE_GROUP}" if attributes is not None and attributes.groups else CELL_KEY


def cell_lines(records: Iterable[TractRecord], attributes: Attributes | None = None) -> Iterator[bytes]:
    """Yield the lines of the cells that are filled or may vary, header first, a tract at a time."""
    yield f"{cell_key(attributes)},{CELL_COUNTS}\n".encode()
    for record in records:
        cells = record.cells
        keys = cell_keys(AgeBins(record.bins), record.geoid, record.blocks["block"][cells["block"]], cells["kind"], attributes)
        counts = zip(*(cells[name].tolist() for name in ("count", "least", "most", "seen_least", "seen_most")), strict=True)
        lines = (f"{key},{','.join(map(str, numbers))}\n" for key, numbers in zip(keys, counts, strict=True))
        yield "".join(lines).encode()


def cell_keys(bins: AgeBins, geoid: str, block: IntArray, kind: IntArray, attributes: Attributes | None = None) -> Iterator[str]:
    """Yield the columns :func:`cell_key` of cells of a tract, by their four-digit ``block`` and their ``kind`` over ``bins``."""
    flags = _flags(attributes)
    sex, age, race, hisp = bins.split(kind)
    first = FIRST_AGES[bins.first[age]].tolist()
    last = [_last_age(category) for category in bins.last[age].tolist()]
    for number, s, begin, end, r, h in zip(block.tolist(), sex.tolist(), first, last, race.tolist(), hisp.tolist(), strict=True):
        yield f"{geoid}{number:04d},{SEXES[s]},{begin},{end},{flags[(r - 1) * 2 + h]}"


def _flags(attributes: Attributes | None) -> list[str]:
    """Return the columns of each pair of a race set and an origin: what the tables tell of it, where the product names groups."""
    if attributes is not None and attributes.groups:
        return [f"{flags},{group}" for flags, group in zip(attributes.flags, attributes.groups, strict=True)]
    return [",".join("NY"[int(bit)] for bit in f"{rh // 2 + 1:06b}{rh % 2}") for rh in range(N_RH)]


def _last_age(category: int) -> str:
    return OLDEST_OPEN if category == N_AGES - 1 else str(int(FIRST_AGES[category + 1]) - 1)


def certain_flags(record: TractRecord, people: People) -> npt.NDArray[np.bool_]:
    """Return (people,) whether each person of the tract, one an entry in the file's order, is in every data set with these tables.

    The k-th of people alike in block, sex, age bin, race and origin is if the least of their count is at least k.
    """
    bins = AgeBins(record.bins)
    n_kinds = bins.n_sa * 126
    cells = record.cells
    key = record.blocks["block"][cells["block"]] * n_kinds + cells["kind"]
    order = np.argsort(key)
    wanted = people.geoid_block % BLOCKS_PER_TRACT * n_kinds + bins.of_kind(people.kind)
    least = np.minimum(cells["least"], cells["count"])[order[np.searchsorted(key[order], wanted)]]
    return np.asarray(rank_among_equals(wanted) <= least)


def rank_among_equals(key: IntArray) -> IntArray:
    """Return number equal values: (n,) 1 for the first entry of each value, 2 for the second, in their order."""
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(key) else np.zeros(0, np.int64)
    lengths = np.diff(np.append(begins, len(key)))
    rank = np.empty(len(key), np.int64)
    rank[order] = np.arange(len(key)) - np.repeat(begins, lengths) + 1
    return rank


def summary_of(records: Sequence[TractRecord]) -> dict[str, Any]:
    """Return the sums of a county's records for its sidecar."""
    proofs: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for record in records:
        proofs.update(Proof(proof).name.lower() for proof in record.blocks["proof"].tolist())
        for name in ("people", "differ_lower", "differ_upper", "blockwise_upper", "certain", "any_two_upper"):
            sums[name] += int(record.blocks[name].sum())
        sums["blocks"] += len(record.blocks["block"])
        sums["blocks_without_variability"] += int((record.blocks["differ_upper"] == 0).sum())
        sums["steps"] += record.steps
    return {
        "tracts": len(records),
        **dict(sums),
        "blocks_by_proof": {proof.name.lower(): proofs[proof.name.lower()] for proof in Proof},
    }
