"""Ways to protect records before they are tabulated, to be compared with one another: each makes other records of records.

None of them is an agency's production method: they are the plain textbook forms, each with its source. What is done to
tables before they are published is :class:`dbrecon.recon.census.inexact.Inexact`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, age_category
from dbrecon.recon.people.people import BLOCKS_PER_TRACT
from dbrecon.recon.risk.reidentification import Records

RecordProtection = Callable[[Records, np.random.Generator], Records]


@dataclass(frozen=True)
class Swap:
    """Exchange the race and origin of a share of people with those of others of the same sex and age in another block of the tract.

    Sex by age stays what it is in every block, and everything stays in every tract. Source: Dalenius and Reiss, "Data-swapping: a
    technique for disclosure control", Journal of Statistical Planning and Inference 6 (1982), in its simplest form.
    """

    rate: float

    def __call__(self, records: Records, rng: np.random.Generator) -> Records:
        """Return the records after the swap, in their order."""
        rh = records.rh.copy()
        drawn = np.flatnonzero(rng.random(len(records)) < self.rate)
        group = (records.block[drawn] // BLOCKS_PER_TRACT) * (2 * N_AGES) + records.sa[drawn]
        order = drawn[np.lexsort((rng.random(len(drawn)), group))]
        key = (records.block[order] // BLOCKS_PER_TRACT) * (2 * N_AGES) + records.sa[order]
        # Neighbours in the shuffled order of their group are partners, two by two.
        rank = np.arange(len(key)) - np.searchsorted(key, key, side="left")
        first = np.flatnonzero((rank % 2 == 0) & (np.append(key[1:], -1) == key))
        a, b = order[first], order[first + 1]
        rh[a], rh[b] = records.rh[b], records.rh[a]
        return replace(records, rh=rh)


@dataclass(frozen=True)
class CoarsenAges:
    """Replace each age by the first of its interval of ``years``, as published in intervals: global recoding.

    Source: Hundepool et al., Statistical Disclosure Control, Wiley (2012).
    """

    years: int

    def __call__(self, records: Records, rng: np.random.Generator) -> Records:
        """Return the records with coarser ages, in their order."""
        sex, age = np.divmod(records.sa, N_AGES)
        coarse = age_category(FIRST_AGES[age] // self.years * self.years)
        return replace(records, sa=sex * N_AGES + coarse)


@dataclass(frozen=True)
class MergeBlocks:
    """Put the people of small blocks into a neighbour until no block has fewer than ``least`` people, within each tract.

    Blocks are taken by their number; one that is left over at a tract's end joins the block before it. Source: a threshold on the
    people of a unit, as agencies ask for (Hundepool et al., 2012).
    """

    least: int

    def __call__(self, records: Records, rng: np.random.Generator) -> Records:
        """Return the records in the larger blocks, in their order."""
        blocks, of_record, people = np.unique(records.block, return_inverse=True, return_counts=True)
        merged = blocks.copy()
        start = 0
        while start < len(blocks):
            end, total = start, 0
            while end < len(blocks) and blocks[end] // BLOCKS_PER_TRACT == blocks[start] // BLOCKS_PER_TRACT and total < self.least:
                total += int(people[end])
                end += 1
            before = start > 0 and blocks[start - 1] // BLOCKS_PER_TRACT == blocks[start] // BLOCKS_PER_TRACT
            merged[start:end] = merged[start - 1] if total < self.least and before else blocks[start]
            start = end
        return replace(records, block=merged[of_record])
