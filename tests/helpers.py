"""What several tests need: random people and their tables, made from the product's own tabulation; and tidiness."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dbrecon.ctools.private_folder import run_folder
from dbrecon.ctools.staging import stage
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import CountyDigests, GeoRow
from dbrecon.place import Place
from dbrecon.recon.census.kinds import N_KINDS, IntArray
from dbrecon.recon.census.tables import Product
from dbrecon.recon.tract.model import TractTables
from dbrecon.recon.tract.verify import tabulate


class TractRow(NamedTuple):
    """A tract with its people, for a geography of nothing but tracts."""

    state: str
    county: str
    tract: str
    pop: int


def geography(tracts: Iterable[TractRow]) -> list[GeoRow]:
    """What step 1 would enter of a state that has these tracts, and no record of anything else."""
    return [
        GeoRow("140", "00", number, state, county, tract, "", "", pop, 0, 0, 0, 0.0, 0.0)
        for number, (state, county, tract, pop) in enumerate(tracts, 1000)
    ]


def county_texts(product: Product, county: str, people: Mapping[str, Iterable[tuple[int, int, int]]]) -> tuple[bytes, bytes]:
    """A county's two files, as step 2 would write them: blocks, tracts. ``people``: (block, kind, count) of each tract."""
    blocks = [f"geoid_block,logrecno,{','.join(product.columns('block'))}"]
    tracts = [f"geoid_tract,logrecno,{','.join(product.columns('tract'))}"]
    for tract, rows in sorted(people.items()):
        everyone = [(block, kind) for block, kind, count in rows for _ in range(count)]
        tables = tables_of(product, everyone, county + tract)
        for block, cells in zip(tables.blocks.tolist(), tables.block_cells.tolist(), strict=True):
            blocks.append(f"{county}{tract}{block:04d},1,{','.join(map(str, cells))}")
        tracts.append(f"{county}{tract},1,{','.join(map(str, tables.tract_cells.tolist()))}")
    return "\n".join([*blocks, ""]).encode(), "\n".join([*tracts, ""]).encode()


def put_county_files(experiment: Experiment, ledger: Ledger, place: Place, texts: tuple[bytes, bytes]) -> None:
    """What step 2 does with a county's files: they are there, and the ledger knows."""
    assert place.stusab is not None
    assert place.county is not None
    staged = []
    for path, text in zip((experiment.block_csv, experiment.tract_csv), texts, strict=True):
        with stage(path(place.stusab, place.county)) as file:
            file.write(text)
        staged.append(file.made)
    files = CountyDigests(None, staged[0].digest, staged[1].digest, staged[0].size, staged[1].size)
    ledger.enter_county_files(experiment.reident, place.stusab, place.county, files, staged)


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


def published_cells(folder: Path, county_files: str) -> Counter[tuple[str, str]]:
    """(unit, cell) of what an experiment's county files below a folder publish, but zeros. ``county_files`` begins their names."""
    found: Counter[tuple[str, str]] = Counter()
    for level in ("block", "tract"):
        for path in folder.rglob(f"{county_files}_{level}_*.csv"):
            with path.open() as file:
                for row in csv.DictReader(file):
                    geoid = row.pop(f"geoid_{level}")
                    del row["logrecno"]
                    found |= Counter({(geoid, name): int(value) for name, value in row.items() if value != "0"})
    return found
