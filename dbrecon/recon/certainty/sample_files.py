"""A county's samples as text: by block, by cell, and each person's confidence."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dbrecon.recon.census.bins import AgeBins
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.county import DECIMALS, cell_key, cell_keys, rank_among_equals
from dbrecon.recon.certainty.sample_record import SampleRecord, holders_of, keys_of
from dbrecon.recon.certainty.walk import WalkFigures
from dbrecon.recon.people.attributes import Attributes
from dbrecon.recon.people.people import People

SAMPLE_BLOCK_HEADER = "geoid_block,people,mean_differ,mean_from_people,most_from_people"


def decimal(part: int, whole: int) -> str:
    """Return the fraction with ``DECIMALS`` decimals, computed in integers; 0 of nothing is 0."""
    unit = 10**DECIMALS
    value = (2 * unit * part + whole) // (2 * whole) if whole else 0
    return f"{value // unit}.{value % unit:0{DECIMALS}d}"


def pairs_of(number: int) -> int:
    """Return how many pairs of samples there are."""
    return number * (number - 1) // 2


def sample_block_lines(records: Iterable[SampleRecord]) -> Iterator[bytes]:
    """Yield the lines of the county's blocks, header first, a tract at a time."""
    yield SAMPLE_BLOCK_HEADER.encode() + b"\n"
    for record in records:
        rows = zip(*(values.tolist() for values in record.blocks.values()), strict=True)
        yield "".join(
            f"{record.geoid}{block:04d},{people},{decimal(pairs, pairs_of(record.number))},{decimal(total, record.number)},{most}\n"
            for block, people, pairs, total, most in rows
        ).encode()


def sample_cell_lines(records: Iterable[SampleRecord], attributes: Attributes | None = None) -> Iterator[bytes]:
    """Yield the lines of the cells in which samples or people differ, header first, a tract at a time."""
    yield f"{cell_key(attributes)},count,mean,standard_deviation,min,max\n".encode()
    for record in records:
        cells = record.cells
        _, spread = record.mean_and_spread()
        columns = (cells[name].tolist() for name in ("count", "total", "least", "most"))
        keys = cell_keys(AgeBins(record.bins), record.geoid, cells["block"], cells["kind"], attributes)
        rows = zip(keys, *columns, spread, strict=True)
        yield "".join(
            f"{key},{count},{decimal(total, record.number)},{deviation:.{DECIMALS}f},{least},{most}\n"
            for key, count, total, least, most, deviation in rows
        ).encode()


def confidence(record: SampleRecord, people: People) -> IntArray:
    """Return (people,) how many of a tract's samples hold each person, one an entry in the file's order.

    The k-th of people alike in block, sex, age bin, race and origin is held by a sample that has at least k such people.
    """
    wanted = keys_of(record, people, AgeBins(record.bins).of_kind(people.kind))
    return holders_of(record, wanted, rank_among_equals(wanted))


def samples_summary(records: Sequence[SampleRecord]) -> dict[str, Any]:
    """Return what a county's samples tell, for its sidecar: in people, of the county."""
    number, seed, walking = records[0].number, records[0].seed, records[0].walking
    totals = {name: sum(int(record.blocks[name].sum()) for record in records) for name in ("pair_differences", "differences")}
    found: dict[str, Any] = {
        "number": number,
        "seed": seed,
        "draws": "walk" if walking else "corners",
        "searched": sum(record.searched for record in records),
        "unfinished": sum(record.unfinished for record in records),
        "blocks_that_vary": sum(int((record.blocks["pair_differences"] > 0).sum()) for record in records),
        "cells_that_vary": sum(int((record.cells["least"] < record.cells["most"]).sum()) for record in records),
        "mean_differ": float(decimal(totals["pair_differences"], pairs_of(number))),
        "mean_from_people": float(decimal(totals["differences"], number)),
    }
    if walking:
        mixing = sum((record.mixing for record in records), WalkFigures())
        found |= {"moves": mixing.moves, "stuck_cells": mixing.stuck, "unmixed_cells": mixing.unmixed}
        found["autocorrelation"] = round(mixing.covariance / mixing.variance, 4) if mixing.variance else None
    return found
