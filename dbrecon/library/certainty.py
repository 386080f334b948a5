"""How sure a reconstruction is: how far each block may be from another data set with the same tables, and who is in all of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbrecon.errors import UsageError
from dbrecon.library import frames as frame_kinds
from dbrecon.library.published import Published
from dbrecon.library.reconstruction import Progress, Reconstruction, by_tract, check_published, people_in_place
from dbrecon.recon.certainty.county import certain_flags
from dbrecon.recon.certainty.record import TractRecord, certainty_builder, tract_record
from dbrecon.recon.certainty.search import Budget, Proof
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People

COLUMNS = ("people", "differ_lower", "differ_upper", "blockwise_lower", "blockwise_upper", "certain", "any_two_upper")


@dataclass(frozen=True, repr=False)
class Certainty:
    """The result of :func:`certainty`. ``by_tract``: of each tract (11 digits) its record, and its people one an entry."""

    published: Published
    by_tract: dict[str, tuple[TractRecord, People]] = field(repr=False)

    def __repr__(self) -> str:
        return f"Certainty(tracts: {len(self.by_tract):,})"

    def blocks(self, frames: str | None = None) -> Any:
        """Return a frame with a row a block: geoid_block, people, and how many of them may differ in another data set with these
        tables.

        ``differ_lower`` and ``differ_upper`` are equal where the distance is proved; ``blockwise_...`` is the bound that looks at
        each block alone; ``certain`` people are in every data set; any two data sets differ in ``any_two_upper`` at the most;
        ``proof`` is what that rests on. All figures are people.

        >>> blocks = sure.blocks()
        >>> bool((blocks["differ_lower"] <= blocks["differ_upper"]).all())
        True
        """
        records = [record for record, _ in self.by_tract.values()]
        ids = [int(record.geoid) * BLOCKS_PER_TRACT + record.blocks["block"] for record in records]
        columns = {"geoid_block": frame_kinds.geoids(_joined(ids), 15)}
        columns |= {name: _joined([record.blocks[name] for record in records]) for name in COLUMNS}
        proofs = _joined([record.blocks["proof"] for record in records]).tolist()
        columns["proof"] = [Proof(proof).name.lower() for proof in proofs]
        return frame_kinds.native(columns, frames or self.published.frames)

    def people(self, frames: str | None = None) -> Any:
        """Return a frame with a row a person as :meth:`Reconstruction.people` gives it, and ``certain``: in every data set, or
        not.

        >>> int(sure.people()["certain"].sum()) == int(sure.blocks()["certain"].sum())
        True
        """
        flags = [certain_flags(record, people) for record, people in self.by_tract.values()]
        everyone = People.concatenate([people for _, people in self.by_tract.values()])
        block = everyone.geoid_block
        columns = {
            "geoid_tract": frame_kinds.geoids(block // BLOCKS_PER_TRACT, 11),
            "geoid_block": frame_kinds.geoids(block, 15),
            **frame_kinds.person_columns(everyone.kind, self.published.attributes),
        }
        return frame_kinds.native(
            columns | {"certain": np.concatenate([np.zeros(0, bool), *flags])}, frames or self.published.frames
        )


def _joined(parts: list[Any]) -> Any:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def certainty(people: Any, published: Published | None = None, *, progress: Progress | None = None) -> Certainty:
    """Find how sure people are: a reconstruction, or a frame of people who make every cell of ``published``.

    Ages count by the bins that the program, or the product's comparison, tells apart. ``progress`` is called with (done, all)
    tracts. It takes 5 to 250 CPU seconds a million people. Raises InputError if the people do not make the published cells,
    UsageError for what are no published tables.

    >>> dbrecon.certainty(found)
    Certainty(tracts: 1)
    """
    if published is None:
        published = people.published if isinstance(people, Reconstruction) else None
    if published is None:
        raise UsageError("certainty of a frame of people needs the published tables: certainty(people, published)")
    check_published(published)
    builder = certainty_builder(published.product)
    found = dict[str, tuple[TractRecord, People]]()
    for tables, residents in by_tract(people_in_place(people, published.attributes), published):
        singly = _singly(residents)
        found[tables.geoid] = tract_record(builder, tables, residents, Budget(), "", intervals=False), singly
        if progress is not None:
            progress(len(found), len(published))
    return Certainty(published, found)


def _singly(people: People) -> People:
    """Return the same people in the file's order, one an entry."""
    merged = people.merged()
    block, kind = np.repeat(merged.geoid_block, merged.count), np.repeat(merged.kind, merged.count)
    return People(block, kind, np.ones(len(kind), np.int64))
