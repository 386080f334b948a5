"""The daemon of one node: keeps its cores busy with claimed tracts, and closes counties."""

import logging
import os
import sys
import time
from contextlib import nullcontext

from dbrecon.ctools import cli
from dbrecon.ctools.progress import counted, duration, units
from dbrecon.errors import DBReconError, InputError, StorageError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.claiming import listed
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import UnknownExperiment
from dbrecon.node.assignment import Assignment, Outcome
from dbrecon.node.control import ControlServer, control_path
from dbrecon.node.machine import WORK, Node
from dbrecon.node.source import Experiments
from dbrecon.place import Place
from dbrecon.remedies import sentence
from dbrecon.settings import Config
from dbrecon.steps.prepare import COUNTIES_NAMED, check_writable, experiment_of, open_experiment, put_back, reopen_missing

log = logging.getLogger(__name__)

EXIT_QUARANTINED = 10
PATIENCE_SECONDS = 600.0
LOOK_AGAIN_SECONDS = 30.0

THREADS_OF_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class _Settings:
    """The settings, read anew when the file changes, so that limits can be changed without a restart."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._changed = self._stamp()

    def _stamp(self) -> int:
        try:
            return os.stat(self._config.path).st_mtime_ns
        except FileNotFoundError:
            return 0  # being replaced: what was read last holds

    def __call__(self) -> Config:
        stamp = self._stamp()
        if stamp not in (0, self._changed):
            self._changed = stamp
            try:
                self._config = Config.load(self._config.path)
                log.info("%s has changed and was read anew", self._config.path)
            except DBReconError as error:
                log.warning("the settings stay as they were: %s", sentence(error))
        return self._config


class _Finder:
    """The experiments to work on, with the settings as they are now: one by its name, or all that have work.

    Of all, those that lack files of step 2 are left out, with a warning; they come in when the files are there.
    """

    def __init__(self, ledger: Ledger, settings: _Settings, reident: str | None, assignment: Assignment) -> None:
        self._ledger, self._settings, self._reident, self._assignment = ledger, settings, reident, assignment
        self._found: list[Experiment] = []
        self._config: Config | None = None
        self._looked = float("-inf")
        self._said: set[str] = set()

    def __call__(self) -> list[Experiment]:
        config = self._settings()
        if config is not self._config or (self._reident is None and time.monotonic() - self._looked > LOOK_AGAIN_SECONDS):
            self._looked, self._config = time.monotonic(), config
            if self._reident is not None:
                self._found = [open_experiment(self._ledger, config, self._reident, to_solve=True)]
            else:
                rows = self._ledger.experiments()
                made = [experiment_of(self._ledger, row, config, to_solve=True) for row in rows]
                self._found = [experiment for experiment in made if self._is_ready(experiment)]
        return self._found

    def _is_ready(self, experiment: Experiment) -> bool:
        """Return whether it has work here, and what the work needs."""
        place, ledger = self._assignment.place, self._ledger
        try:
            ledger.check_place(experiment.reident, place)
            if not ledger.work_left(experiment.reident, self._assignment.steps, place).nothing_left:
                check_files(experiment, ledger, place, self._assignment.steps)
        except (InputError, UsageError, UnknownExperiment) as error:
            text = f"{experiment.reident} is left out: {sentence(error)}"
            log.log(logging.DEBUG if text in self._said else logging.WARNING, "%s", text)
            self._said.add(text)
            return False
        except StorageError as error:  # it may be back in a moment: whoever was at work stays at it
            log.warning("%s: %s", experiment.reident, sentence(error))
            return experiment.reident in {found.reident for found in self._found}
        return True


def work(ledger: Ledger, config: Config, reident: str | None, assignment: Assignment, listen: bool = False) -> Outcome:
    """Run a scheduler here until nothing is left of its assignment, in one experiment, or (None) in all.

    With ``listen`` it can be talked to (``--tell``).
    """
    settings = _Settings(config)
    for name in THREADS_OF_LIBRARIES:
        os.environ.setdefault(name, "1")  # a worker a core; more threads would only get in each other's way
    experiments = Experiments(_Finder(ledger, settings, reident, assignment), alone=reident is not None)
    node = Node(ledger, settings, experiments, WORK, assignment)
    with ControlServer(control_path(), node.commands()) if listen else nullcontext():
        return node.run()


def summary(outcome: Outcome, not_ready: int = 0) -> str:
    """Return what a scheduler did, in a few lines for people. ``not_ready``: so many tracts lacked an earlier step when it
    began."""
    done = []
    if outcome.lps:
        done.append(f"{counted(outcome.lps, 'LP file')} made")
    if outcome.solved:
        done.append(f"{counted(outcome.solved, 'tract')} solved and checked ({counted(outcome.people, 'person')})")
    if outcome.counties:
        done.append(f"the people of {counted(outcome.counties, 'county')} written")
    if outcome.certain_tracts or outcome.certain_counties:
        done.append(f"the certainty of {units(outcome.certain_tracts, outcome.certain_counties)} computed")
    broken_off = outcome.halted or outcome.node_failure or outcome.ended
    nothing = f"nothing {'else ' if outcome.quarantined else ''}was left to do"
    if broken_off or not_ready:
        nothing = "nothing was done"
    ended = [f"{outcome.ended}, {what_is_left(outcome)}"] if outcome.ended else []
    lines = ["; ".join([", ".join(done) or nothing, *ended, duration(outcome.seconds)])]
    if outcome.put_back:
        lines.append(f"put back: {counted(outcome.put_back, 'tract')}; run it again to go on")
    if outcome.quarantined:
        lines.append(f"quarantined: {len(outcome.quarantined):,} (mend the cause, then --retry_quarantined)")
        for reident, bad in outcome.quarantined:
            lines.append(f"   {reident} {bad.stusab} {bad.county} {bad.tract or 'county'}: {bad.error}")
    return "\n".join(lines)


def what_is_left(outcome: Outcome) -> str:
    """Return what a scheduler that left early has left undone: "2 tracts are left"; counties only where no tracts are."""
    tracts, counties = outcome.left
    return f"{units(tracts, 0 if tracts else counties) or 'nothing'} {'are' if (tracts or counties) > 1 else 'is'} left"


def exit_code(outcome: Outcome, who: str = "this node gives up: ", not_ready: int = 0) -> int:
    """Return the exit code of a command line after a scheduler's run; an error is said, after ``who``.

    ``not_ready``: so many tracts lacked an earlier step. Where that left nothing to be done, what was asked for is not there.
    """
    if outcome.halted:
        return cli.EXIT_INTERRUPTED
    if outcome.node_failure:
        sys.stderr.write(f"error: {who}{outcome.node_failure.message}\n")
        return outcome.node_failure.exit_code
    if not_ready and not outcome.did_something:
        return InputError.exit_code
    return EXIT_QUARANTINED if outcome.quarantined and not any(outcome.left) else 0


def run_here(ledger: Ledger, config: Config, reident: str, place: Place, steps: frozenset[int], force: bool = False) -> int:
    """Run steps of an experiment here until nothing is left; print what was done; return the exit code.

    With ``force`` what exists is made again.
    """
    experiment = open_experiment(ledger, config, reident)
    ledger.check_place(reident, place)
    if not ledger.stusabs(reident):
        raise InputError(f"{reident} has no states yet: put zips into {experiment.dist} and run --step1 --step2")
    not_ready = check_ready(experiment, ledger, place, steps, force)
    if 5 in steps:
        reopen_missing(experiment, ledger, place)
    if force:
        put_back(ledger, reident, min(steps), place)
    assignment = Assignment(steps, place)
    outcome = work(ledger, config, reident, assignment)
    print(summary(outcome, not_ready))
    return exit_code(outcome, not_ready=not_ready)


def check_ready(experiment: Experiment, ledger: Ledger, place: Place, steps: frozenset[int], force: bool = False) -> int:
    """Say so if what the steps need is not there: InputError without step 2, UsageError for step 6 on tables that are not exact; a
    warning where they will find less than asked.

    Returns how many tracts lack an earlier step.
    """
    reident = experiment.reident
    ledger.check_place(reident, place)
    if 6 in steps:
        from dbrecon.steps.certainty_records import check_available

        check_available(experiment)
    check_files(experiment, ledger, place, steps, force)
    first = "34" if steps <= {5, 6} else "3" if 3 not in steps else ""
    left = ledger.work_left(reident, [int(step) for step in first], place)
    number = left.claimable + left.running + left.waiting
    if number:
        log.warning("tracts that are not ready for this: %s; first comes --step%s", f"{number:,}", " --step".join(first))
    return number


def check_files(experiment: Experiment, ledger: Ledger, place: Place, steps: frozenset[int], force: bool = False) -> None:
    """Raise InputError if a zip is another than step 1 has read, or there is work (with ``force`` everything is) that lacks its
    files of step 2, or the census's tables."""
    from dbrecon.steps.provenance import check_zip, counties_to_make

    reident, tables = experiment.reident, experiment.tables_path
    if steps & {3, 4} and not os.path.isfile(tables):
        raise InputError(f"{tables}: no such table file; restore the product's folder")
    states = [place.stusab] if place.stusab else ledger.stusabs(reident)
    for stusab in states:
        zip_digest = check_zip(experiment, ledger, stusab)
        if not steps & {3, 4}:
            continue
        left = ledger.work_left(reident, steps & {3, 4}, place if place.stusab else Place(stusab))
        if left.nothing_left and 3 not in steps and not force:
            continue
        counties = [place.county] if place.county else ledger.counties(reident, stusab)
        lacking = counties_to_make(experiment, ledger, stusab, counties, zip_digest)
        if lacking:
            check_writable(experiment.config)  # what is not there may be the bucket
            raise InputError(
                f"{reident}: {stusab} lacks the county files of {len(lacking):,} of {counted(len(counties), 'county')} "
                f"({listed(lacking, COUNTIES_NAMED)}): run --step2 --stusab {stusab} first"
            )


def steps_of(step3: bool, step4: bool) -> frozenset[int]:
    """Return the steps of a scheduler: all of 3, 4 and 5 unless limited; with step 4 goes step 5, as soon as a county is solved."""
    if not step3 and not step4:
        return frozenset({3, 4, 5})
    return frozenset(({3} if step3 else set()) | ({4, 5} if step4 else set()))
