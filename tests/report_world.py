"""A report with every section there is, of invented people: for tests of what it looks like."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dbrecon.recon.census.kinds import N_SA
from dbrecon.recon.census.tables import load_product
from dbrecon.recon.people.people import BLOCKS_PER_TRACT
from dbrecon.recon.risk.findings import Findings, Results, Truth, find, five_years, total
from dbrecon.recon.risk.reidentification import Records, population_of
from dbrecon.recon.risk.sure import SureBlocks
from dbrecon.report.document import Report
from dbrecon.report.experiment_report import Subject, experiment_report
from dbrecon.report.place_sections import Geography

COUNTIES = (39_059, 39_061)
RACES = (62, 62, 62, 30, 3)


@dataclass(frozen=True)
class World:
    """Counties' results and their true people."""

    results: dict[int, Results] = field(default_factory=dict)
    truth: dict[int, Records] = field(default_factory=dict)


def invented(people: int = 800, seed: int = 1) -> World:
    """Two counties of three tracts each; a tenth of the people are wrong."""
    world, rng = World(), np.random.default_rng(seed)
    for county in COUNTIES:
        tract = 100 * rng.integers(1, 4, people)
        block = (county * 10**6 + tract) * BLOCKS_PER_TRACT + 1000 + rng.integers(0, 12, people) ** 2
        truth = Records(block, rng.integers(0, N_SA, people), rng.choice(RACES, people))
        truth = truth.select(np.lexsort((truth.rh, truth.sa, truth.block)))
        wrong = rng.random(people) < 0.1
        guess = Records(truth.block, truth.sa, np.where(wrong, 5, truth.rh))
        blocks, at, number = np.unique(guess.block, return_inverse=True, return_counts=True)
        differ = np.bincount(at[wrong], minlength=len(blocks))
        sure = ~wrong & (rng.random(people) < 0.7)
        confidence = np.where(sure, 1.0, rng.integers(1, 20, people) / 20)
        world.results[county] = Results(guess, SureBlocks(blocks, number, differ, np.bincount(at[sure])), sure, confidence)
        world.truth[county] = truth
    return world


def found(world: World) -> Findings:
    """What a report tells of them."""
    product, population = load_product(), population_of([result.people for result in world.results.values()])
    parts: Sequence[Findings] = [
        find(
            product,
            county,
            results,
            five_years(np.bincount(results.people.sa, minlength=N_SA)),
            Truth.known_to_all(world.truth[county]),
            population,
            0,
            2,
        )
        for county, results in world.results.items()
    ]
    return total(parts)


def whole_report() -> Report:
    """A report of every section."""
    square = np.array([[0.0, 0], [100, 0], [100, 100], [0, 100], [0, 0]])
    sums = found(invented())
    points = {int(geoid): (-81.5 + i / 7, 40 + i / 9) for i, geoid in enumerate(sums.tracts.geoid.tolist())}
    shapes = {str(county): [square + 100 * i] for i, county in enumerate(COUNTIES)}
    subject = Subject(
        "r1, oh",
        "2010 Census Summary File 1",
        "all tables",
        Geography({"39059": "Guernsey County", "39061": "Hamilton County"}, shapes, points),
        truth="truth.csv.gz",
        others={"r2: block tables": found(invented(seed=2))},
    )
    provenance = {"experiment": "r1", "oh2010.sf1.zip": "directory " + "0123456789abcdef" * 4, "/a/long/folder/truth.csv.gz": "-"}
    return experiment_report(subject, sums, provenance)
