"""What certainty tells of blocks, as reports need it: block by block, and summed by size of block."""

from dataclasses import dataclass, field

import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.study.evaluation import SIZE_STARTS


@dataclass(frozen=True)
class SureBlocks:
    """Blocks with people, ascending: ``geoid``, ``people``, the most that can ``differ``, the ``certain`` ones; (B,) each."""

    geoid: IntArray
    people: IntArray
    differ: IntArray
    certain: IntArray


def _nothing() -> IntArray:
    return np.zeros(len(SIZE_STARTS), np.int64)


@dataclass(frozen=True)
class SureSizes:
    """Sums over blocks by their size (7 classes, ``SIZE_STARTS``): how many, their people, those who can differ and the certain
    ones; blocks of which only one solution exists (``settled_blocks``), and their people."""

    blocks: IntArray = field(default_factory=_nothing)
    people: IntArray = field(default_factory=_nothing)
    differ: IntArray = field(default_factory=_nothing)
    certain: IntArray = field(default_factory=_nothing)
    settled_blocks: IntArray = field(default_factory=_nothing)
    settled_people: IntArray = field(default_factory=_nothing)

    @classmethod
    def of(cls, blocks: SureBlocks) -> "SureSizes":
        """Return the sums over some blocks."""
        size = np.searchsorted(SIZE_STARTS, blocks.people, side="right") - 1
        settled = blocks.differ == 0
        sums = _nothing(), _nothing(), _nothing(), _nothing(), _nothing(), _nothing()
        columns = np.ones_like(blocks.people), blocks.people, blocks.differ, blocks.certain, settled, blocks.people * settled
        for total, column in zip(sums, columns, strict=True):
            np.add.at(total, size, column)
        return cls(*sums)

    def __add__(self, other: "SureSizes") -> "SureSizes":
        return SureSizes(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def without_variability(self) -> float:
        """The share of blocks with people of which only one solution exists, 0 to 1."""
        return _ratio(self.settled_blocks, self.blocks)

    @property
    def differ_share(self) -> float:
        """The share of people who can differ in another data set with these tables, at most, 0 to 1."""
        return _ratio(self.differ, self.people)

    @property
    def certain_share(self) -> float:
        """The share of people who are in every data set with these tables, 0 to 1."""
        return _ratio(self.certain, self.people)


def _ratio(part: IntArray, whole: IntArray) -> float:
    total = int(whole.sum())
    return int(part.sum()) / total if total else float("nan")
