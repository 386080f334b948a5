"""The paper's table of solution variability by size of block, of any set of blocks, beside the published national figures."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dbrecon.errors import InputError, Subject
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.county import BLOCK_HEADER
from dbrecon.recon.certainty.search import Proof

SIZE_STARTS: tuple[int, ...] = (1, 10, 50, 100, 250, 500, 1000)
"""Smallest populations of the classes of blocks."""

PERCENTILES = (75, 80, 85, 90, 95, 100)

SOURCE = "Abowd et al., arXiv 2312.11283, supplement: the country, a bound found block by block"
PUBLISHED_BLOCKS: tuple[int, ...] = (1_823_665, 2_671_753, 994_513, 540_455, 126_344, 40_492, 9_805)
PUBLISHED_PEOPLE: tuple[int, ...] = (8_070, 67_598, 69_073, 80_021, 42_911, 27_029, 14_043)  # thousands
PUBLISHED_BLOCKS_AT_0: tuple[int, ...] = (1_815_218, 2_096_508, 324_641, 67_884, 3_718, 308, 105)
PUBLISHED_PEOPLE_AT_0: tuple[int, ...] = (8_011, 48_409, 21_474, 9_156, 1_174, 196, 169)  # thousands
PUBLISHED_PERCENTILES = (1.7, 4.7, 7.3, 10.5, 14.6, 21.1)
PUBLISHED_CUMULATIVE = 10.0
PUBLISHED_ANY_TWO = 20.1

_NUMBERS = ("people", "differ_lower", "differ_upper", "blockwise_upper", "certain", "any_two_upper")
_PROOFS = {proof.name.lower().encode(): int(proof) for proof in Proof}


@dataclass(frozen=True)
class Blocks:
    """The certainty of blocks, an array (blocks,) a column of the county files; ``proof`` as in :class:`Proof`."""

    columns: dict[str, IntArray]

    @classmethod
    def parse(cls, text: bytes, source: str) -> "Blocks":
        """Return those of a county's file. Raises InputError, naming ``source``, if it is none."""
        header, _, rest = text.partition(b"\n")
        if header.decode("ascii", "replace") != BLOCK_HEADER or (rest and not rest.endswith(b"\n")):
            raise InputError(f"{source}: is no whole file of a county's certainty", about=Subject.CERTAINTY)
        names = BLOCK_HEADER.split(",")
        try:
            rows = [line.split(b",") for line in rest.splitlines()]
            columns = {name: np.array([int(row[names.index(name)]) for row in rows], np.int64) for name in _NUMBERS}
            columns["proof"] = np.array([_PROOFS[row[-1]] for row in rows], np.int64)
        except (ValueError, KeyError, IndexError) as error:
            raise InputError(f"{source}: has a line that is no block's certainty ({error})", about=Subject.CERTAINTY) from error
        return cls(columns)

    @classmethod
    def concatenate(cls, parts: Iterable["Blocks"]) -> "Blocks":
        """Return all blocks of ``parts``."""
        found = list(parts)
        names = (*_NUMBERS, "proof")
        return cls({name: np.concatenate([np.zeros(0, np.int64), *(part.columns[name] for part in found)]) for name in names})


def summarise(blocks: Blocks) -> dict[str, Any]:
    """Return all figures: ``sizes`` has a row a class of blocks and one for all, ``percentiles`` the largest variability of so many
    per cent of
    blocks, ``proofs`` the blocks by what their distance rests on. Percentages; None where there is nobody."""
    people = blocks.columns["people"]
    size = np.searchsorted(SIZE_STARTS, people, side="right") - 1
    rows = [_row(blocks, size == number, size_name(number), _published(number)) for number in range(len(SIZE_STARTS))]
    rows.append(_row(blocks, np.ones(len(people), bool), "all", _published(None)))
    proofs = {proof.name.lower(): int((blocks.columns["proof"] == proof).sum()) for proof in Proof}
    return {
        "sizes": rows,
        "percentiles": _percentiles(blocks),
        "proofs": proofs,
        "published": {"source": SOURCE, "cumulative": PUBLISHED_CUMULATIVE, "any_two": PUBLISHED_ANY_TWO},
    }


def size_name(number: int) -> str:
    """Return what a class of blocks is called: "10-49", "1000+"."""
    last = SIZE_STARTS[number + 1] - 1 if number + 1 < len(SIZE_STARTS) else None
    return f"{SIZE_STARTS[number]}+" if last is None else f"{SIZE_STARTS[number]}-{last}"


def _share(part: float, whole: float) -> float | None:
    return round(100 * part / whole, 4) if whole else None


def _row(blocks: Blocks, chosen: npt.NDArray[np.bool_], name: str, published: dict[str, float | None]) -> dict[str, Any]:
    column = {key: values[chosen] for key, values in blocks.columns.items()}
    people, upper = column["people"], column["differ_upper"]
    without, total = upper == 0, int(people.sum())
    variability = 100 * upper / np.maximum(people, 1)
    return {
        "size": name,
        "blocks": len(people),
        "people": total,
        "blocks_without_variability": int(without.sum()),
        "people_without_variability": int(people[without].sum()),
        "blocks_without_variability_pct": _share(int(without.sum()), len(people)),
        "people_without_variability_pct": _share(int(people[without].sum()), total),
        "mean_variability": round(float(variability.mean()), 4) if len(people) else None,
        "cumulative_lower": _share(int(column["differ_lower"].sum()), total),
        "cumulative_upper": _share(int(upper.sum()), total),
        "cumulative_blockwise": _share(int(column["blockwise_upper"].sum()), total),
        "any_two_upper": _share(int(column["any_two_upper"].sum()), total),
        "certain_pct": _share(int(column["certain"].sum()), total),
        **published,
    }


def _published(number: int | None) -> dict[str, float | None]:
    pick = slice(0, len(SIZE_STARTS)) if number is None else slice(number, number + 1)
    blocks, people = sum(PUBLISHED_BLOCKS[pick]), sum(PUBLISHED_PEOPLE[pick])
    return {
        "published_blocks_pct": _share(sum(PUBLISHED_BLOCKS_AT_0[pick]), blocks),
        "published_people_pct": _share(sum(PUBLISHED_PEOPLE_AT_0[pick]), people),
    }


def _percentiles(blocks: Blocks) -> list[dict[str, float | int | None]]:
    people = blocks.columns["people"]
    rows: list[dict[str, float | int | None]] = []
    for percentile, published in zip(PERCENTILES, PUBLISHED_PERCENTILES, strict=True):
        row: dict[str, float | int | None] = {"percentile": percentile}
        for name in ("differ_upper", "blockwise_upper"):
            variability = np.sort(100 * blocks.columns[name] / np.maximum(people, 1))
            rank = -(-percentile * len(people) // 100) - 1  # the nearest rank
            row[name.replace("differ", "variability")] = round(float(variability[rank]), 4) if len(people) else None
        rows.append(row | {"published": published})
    return rows


SIZE_COLUMNS = (
    ("size", "people in block", ""),
    ("blocks", "blocks", ","),
    ("people", "people", ","),
    ("blocks_without_variability_pct", "blocks at 0 %", ".1f"),
    ("published_blocks_pct", "(published)", ".1f"),
    ("people_without_variability_pct", "their people %", ".1f"),
    ("published_people_pct", "(published)", ".1f"),
    ("mean_variability", "mean %", ".2f"),
    ("cumulative_upper", "cumulative %", ".2f"),
    ("cumulative_blockwise", "blockwise %", ".2f"),
    ("any_two_upper", "any two %", ".2f"),
    ("certain_pct", "certain %", ".1f"),
)


def format_summary(found: dict[str, Any]) -> str:
    """Return the figures as text."""
    lines = _table(SIZE_COLUMNS, found["sizes"])
    columns = (
        ("percentile", "per cent of blocks", ""),
        ("variability_upper", "have at most %", ".2f"),
        ("blockwise_upper", "blockwise", ".2f"),
        ("published", "(published)", ".1f"),
    )
    lines += ["", *_table(columns, found["percentiles"])]
    everyone = found["sizes"][-1]
    lower, upper = everyone["cumulative_lower"], everyone["cumulative_upper"]
    if lower != upper:
        lines += ["", f"cumulative variability lies between {lower:.3f} and {upper:.3f} %: some blocks are open"]
    total = sum(found["proofs"].values())
    proofs = ", ".join(f"{name} {count:,} ({100 * count / total:.2f} %)" for name, count in found["proofs"].items() if count)
    lines += ["", f"blocks by proof: {proofs}"]
    published = found["published"]
    lines.append(f"published: {published['source']}; cumulative {published['cumulative']} %, any two {published['any_two']} %")
    return "\n".join(lines)


def _table(columns: tuple[tuple[str, str, str], ...], rows: list[dict[str, Any]]) -> list[str]:
    cells = [[title for _, title, _ in columns]]
    cells += [["-" if row[key] is None else format(row[key], form) for key, _, form in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def summary_csv(found: dict[str, Any]) -> str:
    """Return the table by size as CSV."""
    names = list(found["sizes"][0])
    lines = [",".join(names)]
    lines += [",".join("" if row[name] is None else str(row[name]) for name in names) for row in found["sizes"]]
    return "\n".join(lines) + "\n"
