"""What several tests need: random people and their tables, made from the product's own tabulation; and tidiness."""

from pathlib import Path

import numpy as np

from dbrecon.ctools.private_folder import run_folder
from dbrecon.recon.census.kinds import N_KINDS, IntArray
from dbrecon.recon.census.tables import Product
from dbrecon.recon.tract.model import TractTables
from dbrecon.recon.tract.verify import tabulate


def forget_host(name: str) -> None:
    """Removes the lock and socket of a host that was none but to a test ($DBRECON_HOSTNAME)."""
    for path in Path(run_folder()).glob(f"{name}-scheduler.*"):
        path.unlink(missing_ok=True)


def tables_of(product: Product, people: list[tuple[int, int]], geoid: str = "10001000100") -> TractTables:
    """The published tables of a tract whose people are (four-digit block, kind)."""
    blocks, at = np.unique(np.array([block for block, _ in people], np.int64), return_inverse=True)
    kinds = np.array([kind for _, kind in people], np.int64)
    block_cells, tract_cells = tabulate(product, len(blocks), at, kinds, np.ones(len(kinds), np.int64))
    return TractTables(geoid, blocks, block_cells, tract_cells)


def counts_of(model_block: IntArray, model_kind: IntArray, blocks: IntArray, people: list[tuple[int, int]]) -> IntArray | None:
    """How many of the people each variable counts; None if a person has no variable."""
    number = {(int(blocks[b]), int(k)): i for i, (b, k) in enumerate(zip(model_block, model_kind, strict=True))}
    counts = np.zeros(len(model_kind), np.int64)
    for person in people:
        if person not in number:
            return None
        counts[number[person]] += 1
    return counts


def random_people(seed: int, blocks: int, people: int, kinds: int = 60) -> list[tuple[int, int]]:
    """People of few kinds in some blocks, so that cells of all sizes occur."""
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, N_KINDS, kinds)
    weights = rng.dirichlet(np.full(kinds, 0.4))
    where = 1000 + rng.integers(0, blocks, people)
    return [(int(b), int(k)) for b, k in zip(where, rng.choice(palette, people, p=weights), strict=True)]
