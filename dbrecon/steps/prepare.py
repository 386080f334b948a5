"""What a step needs before it begins: the experiment, room to write, and finished work put back where it is to be done again."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from dbrecon.ctools import storage
from dbrecon.ctools.progress import counted
from dbrecon.experiment import Experiment
from dbrecon.ledger.lifecycle import WRITTEN
from dbrecon.place import Place
from dbrecon.settings import Config
from dbrecon.steps.origin import recorded_seed
from dbrecon.version import PROGRAM

if TYPE_CHECKING:  # workers need not load a database's driver
    from dbrecon.ledger.ledger import Ledger
    from dbrecon.ledger.records import ExperimentRow

log = logging.getLogger(__name__)

COUNTIES_NAMED = 5
"""So many of the counties that a sentence is about are named in it."""


def open_experiment(ledger: Ledger, config: Config, reident: str, *, to_solve: bool = False) -> Experiment:
    """Return the registered experiment of that name. Raises DatabaseError, naming those that exist, if it is none.

    ``to_solve``: it is opened to make solutions or people, so that a seed that is set here and not used is worth a word.
    """
    return experiment_of(ledger, ledger.experiment(reident), config, to_solve=to_solve)


def experiment_of(ledger: Ledger, row: ExperimentRow, config: Config, *, to_solve: bool = False) -> Experiment:
    """Return a registered experiment with the settings as they are here, but for its seed, which was settled when it was
    registered."""
    row = settled(ledger, row, config)
    if config.solve.seed != row.seed:
        if to_solve and ("solve", "seed") in config.given and row.reident not in _seeds_said:
            _seeds_said.add(row.reident)
            given = f"[solve] seed = {config.solve.seed}"
            log.warning("%s is not used for %s, which was registered with the seed %s", given, row.reident, row.seed)
        config = replace(config, solve=replace(config.solve, seed=row.seed))
    return Experiment.make(row.reident, config, row.tables, row.ages, row.product)


def settled(ledger: Ledger, row: ExperimentRow, config: Config) -> ExperimentRow:
    """Return the row with its seed. That of an experiment of before seeds were kept (its ``program`` is empty) is that of its
    solutions; where none is solved yet, the one that is set here. It is written down where this ledger makes what lacks."""
    if row.program:
        return row
    seed = ledger.seed_of_solutions(row.reident)
    if seed is None and (first := ledger.solved_tract(row.reident)) is not None:
        seed = recorded_seed(Experiment.make(row.reident, config, row.tables, row.ages, row.product).sol(*first))
    row = replace(row, seed=config.solve.seed if seed is None else seed, program=PROGRAM)
    return ledger.settle_seed(row) if ledger.makes else row


_seeds_said: set[str] = set()
"""Experiments of which it was said that this host's seed is not theirs: once a process."""


def put_back(ledger: Ledger, reident: str, step: int, place: Place) -> None:
    """Put what the step has made in a place back to work (``--force``), and say how much of it was finished."""
    solved, written = ledger.finished(reident, place)
    ledger.reset(reident, step, place)
    tell_put_back(0 if step == 5 else solved, written, place)


def tell_put_back(solved: int, written: int, place: Place) -> None:
    """Say how much finished work is to be done again, if there was any."""
    parts = [counted(solved, "solved tract")] if solved else []
    parts += [counted(written, "written county", "written counties")] if written else []
    if parts:
        verb = "is" if solved + written == 1 else "are"
        log.info("--force: %s of %s %s to be done again", " and ".join(parts), place.text(), verb)


def reopen_missing(experiment: Experiment, ledger: Ledger, place: Place) -> None:
    """Open the counties again that the ledger has as written and whose file of people is gone; each is named in the log."""
    reident, paths = experiment.reident, dict[str, Place]()
    for stusab in [place.stusab] if place.stusab else ledger.stusabs(reident):
        for county, status in ledger.county_statuses(reident, stusab).items():
            if status == WRITTEN and place.county in (None, county):
                paths[experiment.synth_out(stusab, county)] = Place(stusab, county)
    for path, size in storage.sizes(paths).items():
        if size is None:
            log.warning("%s is gone: the county's people are to be written again", path)
            ledger.reset(reident, 5, paths[path])


def check_writable(config: Config) -> None:
    """Raise StorageError if nothing can be written where the experiments lie: better now than after hours."""
    storage.make_writable_check(f"{config.root()}/2010-re", config.s3.kms_key)
