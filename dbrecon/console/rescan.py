"""``--rescan``: every file of an experiment against the ledger, and whichever side is wrong put right."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dbrecon.console.commands import asked_place, asked_reident, find_experiment, open_ledger
from dbrecon.console.parser import Arguments
from dbrecon.ctools import storage
from dbrecon.ctools.database import NoSuchDatabase
from dbrecon.ctools.progress import Progress, counted
from dbrecon.ctools.staging import digest_of
from dbrecon.errors import DBReconError, InputError, RemoteError, StorageError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.reconcile import Change, Snapshot
from dbrecon.ledger.records import CERTAIN, COUNTY_FILES, EMPTY, LP, NEW, SOLVED, WRITTEN, CountyDigests
from dbrecon.node.pool import Broken, Died, Message
from dbrecon.node.processes import WorkerPool
from dbrecon.node.tasks import Failed
from dbrecon.place import Place
from dbrecon.remedies import sentence
from dbrecon.settings import Config
from dbrecon.states import STATES
from dbrecon.steps.certainty_check import county_paths
from dbrecon.steps.origin import recorded_seed, recorded_tables
from dbrecon.steps.prepare import open_experiment
from dbrecon.version import PROGRAM

if TYPE_CHECKING:
    from dbrecon.console.scan import Report, Task
    from dbrecon.spark.task_pool import SparkPool

log = logging.getLogger(__name__)

WORK = "dbrecon.console.scan:serve"
SHOWN = 20
_Found = TypeVar("_Found")
AS_THEY_ARE = CountyDigests(None, "", "")
NOT_ENTERED = "{} is not registered in this database, but has files: --rescan without --dry_run enters it"
PLURALS = {
    "file of people": "files of people",
    "county's certainty": "counties' certainty",
    "county's evaluation": "counties' evaluation",
}
NO_ZIP = (
    "{}: there is no zip in dist/, nor was one ever read here: its county files are taken as they are. LP files, solutions and "
    "people were checked against every cell of these files; whether the files are what was published cannot be known without the "
    "zip: put it there, then --rescan"
)


@dataclass
class _Result:
    """What a rescan has found, all counties together."""

    states: int = 0
    counties: int = 0
    tracts: int = 0
    whole: Counter[str] = field(default_factory=Counter)
    entered: list[str] = field(default_factory=list)
    changes: list[tuple[Change, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    makers: Counter[tuple[int | None, str]] = field(default_factory=Counter)
    """How many whole solutions each seed and solver has made; None: the file does not say the seed."""
    zips: dict[str, str] = field(default_factory=dict)
    """The digests of the zips of which all county files are made, as far as they were looked at."""

    @property
    def is_wrong(self) -> bool:
        """Whether files and ledger differ, or files are damaged or lacking."""
        return bool(self.changes or self.faults or self.by_hand)


def rescan(args: Arguments, config: Config, pool: "WorkerPool | SparkPool | None" = None) -> int:
    """Check and put right; 4 if this user may not read a file, else 3, as for bad data, if something is left that only step 1 or 2
    can make again; with --dry_run if anything is wrong.

    ``pool`` runs :data:`WORK`; the default is as many processes as there are cores.
    """
    reident, place = asked_reident(args), asked_place(args)
    ledger, result = _open(config, reident, args.product, args.dry_run), _Result()
    _register(ledger, config, reident, args.product, args.dry_run, result)
    experiment = open_experiment(ledger, config, reident)
    for stusab in _states(experiment, ledger, place):
        result.states += _geography(experiment, ledger, stusab, args.dry_run, result)
    if not result.unread:
        ledger.check_place(reident, place)
    _scan(experiment, ledger, place, args.dry_run, result, pool)
    _note_zips(experiment, ledger, place, args.dry_run, result)
    print(format_result(reident, result, args.dry_run, None if args.verbose else SHOWN, experiment.config.solve.seed))
    if result.unread:
        return StorageError.exit_code
    wrong = result.is_wrong if args.dry_run else bool(result.by_hand)
    return InputError.exit_code if wrong else 0


def _note_zips(experiment: Experiment, ledger: Ledger, place: Place, dry_run: bool, result: _Result) -> None:
    """Enter a zip that the ledger did not know when all its state's county files are those that it gives."""
    if dry_run or place.county is not None:
        return
    for stusab, digest in result.zips.items():
        ledger.note_zip(experiment.reident, stusab, digest)


# -- the experiment and its states --------------------------------------------------------------------------------------


def _open(config: Config, reident: str, product: str | None, dry_run: bool) -> Ledger:
    """Return the ledger; where there is none, one is made for an experiment whose files were copied here."""
    try:
        return open_ledger(config, make=False)
    except NoSuchDatabase:
        if _tables_of(find_experiment(config, reident, product)) is None:
            raise
        if dry_run:
            raise UsageError(NOT_ENTERED.format(reident)) from None
    return open_ledger(config)


def _register(ledger: Ledger, config: Config, reident: str, product: str | None, dry_run: bool, result: _Result) -> None:
    """Register an experiment whose files were copied here; one without files is refused as ever."""
    if reident in [row.reident for row in ledger.experiments()]:
        return
    experiment = find_experiment(config, reident, product)
    tables = _tables_of(experiment)
    if tables is None:
        ledger.experiment(reident)  # raises, and names those that exist
        return
    if dry_run:
        raise UsageError(NOT_ENTERED.format(reident))
    from dbrecon.recon.census.tables import load_product

    load_product(Path(experiment.tables_path), tables)
    seed = _seed_of(experiment)
    seed = config.solve.seed if seed is None else seed
    ledger.register(reident, tables, experiment.product, seed=seed, program=PROGRAM)
    result.entered.append(f"{reident}, on {tables} tables, with the seed {seed}")


def _tables_of(experiment: Experiment) -> str | None:
    """Which tables an experiment is on: as its first solution says, else by the columns of its first county file; None if it has
    none."""
    recorded = _recorded(experiment, recorded_tables)
    if recorded is not None:
        return recorded
    for stusab in _folders_of_states(experiment):
        for name in storage.listdir(f"{experiment.base}/work/{stusab}"):
            path = experiment.tract_csv(stusab, name[2:])
            if name.isdecimal() and storage.exists(path):
                with storage.sopen(path) as file:
                    return "all" if file.readline().count(",") > 1 else "block"
    return None


def _seed_of(experiment: Experiment) -> int | None:
    """Return the seed of the first solution that says one; None if none does."""
    return _recorded(experiment, recorded_seed)


def _recorded(experiment: Experiment, of_solution: Callable[[str], _Found | None]) -> _Found | None:
    """Return what the first solution that says it has recorded; None if none does."""
    for stusab in _folders_of_states(experiment):
        for county in storage.listdir(f"{experiment.base}/work/{stusab}"):
            folder = f"{experiment.base}/work/{stusab}/{county}/sol"
            for name in storage.listdir(folder) if county.isdecimal() else []:
                if name.endswith(".sol.gz") and (found := of_solution(f"{folder}/{name}")) is not None:
                    return found
    return None


def _folders_of_states(experiment: Experiment) -> list[str]:
    """Return the states with files. (A step 1 that failed, or was killed, leaves an empty folder.)"""
    work = f"{experiment.base}/work"
    return [name for name in storage.listdir(work) if name in STATES and any(storage.listdir(f"{work}/{name}"))]


def _states(experiment: Experiment, ledger: Ledger, place: Place) -> list[str]:
    """Return those asked for: in the ledger, or with a folder."""
    if place.stusab:
        return [place.stusab]
    return sorted({*ledger.stusabs(experiment.reident), *_folders_of_states(experiment)})


def _geography(experiment: Experiment, ledger: Ledger, stusab: str, dry_run: bool, result: _Result) -> bool:
    """Compare the geofile of a state with its tracts in the ledger, which are entered if there are none. True if the state is
    one."""
    from dbrecon.steps.geography_files import enter_geofile
    from dbrecon.steps.holding import state_held

    path, known = experiment.geofile(stusab), ledger.has_geography(experiment.reident, stusab)
    again = f"make it again (--step1 --stusab {stusab})"
    try:
        tracts = _tracts_of_geofile(path, stusab)
        if not known and not dry_run:
            with state_held(experiment, ledger, stusab) as claim:
                enter_geofile(experiment, ledger, claim, None)
            result.entered.append(f"the geography of {stusab}: {counted(len(tracts), 'tract')}")
    except storage.MissingFile:
        result.by_hand.append(f"{path} does not exist; {again}")
        return known
    except storage.DeniedFile as error:
        result.unread.append(f"{stusab}: {sentence(error)}")
        return known
    except InputError as error:
        result.by_hand.append(sentence(error))
        _remove(path, dry_run)
        return known
    except (UnicodeDecodeError, ValueError) as error:
        result.by_hand.append(f"{path} is damaged ({error}); {again}")
        _remove(path, dry_run)
        return known
    if known and _is_other(path, ledger.state_digests(experiment.reident, stusab).geofile):
        result.by_hand.append(f"{path} is not the geofile that step 1 has entered: it was changed; {again}")
        _remove(path, dry_run)
        return known
    if known and tracts != {(tract.county, tract.tract): tract.pop for tract in ledger.tract_states(experiment.reident, stusab)}:
        result.by_hand.append(f"{path} has other tracts than the ledger; begin anew with --step1 --step2 --force --stusab {stusab}")
    return known or not dry_run


def _is_other(path: str, accepted: str | None) -> bool:
    return bool(accepted) and digest_of(path) != accepted


def _tracts_of_geofile(path: str, stusab: str) -> dict[tuple[str, str], int]:
    """Return the tracts of a geofile, by county and tract, with their people."""
    from dbrecon.recon.artifacts import read_geofile
    from dbrecon.recon.census.geography import TRACT_LEVEL

    with storage.sopen(path) as file:
        units = read_geofile(file, stusab, STATES[stusab].fips, path)
        return {(unit.county, unit.tract): unit.pop100 for unit in units if unit.sumlev == TRACT_LEVEL}


def _remove(path: str, dry_run: bool) -> None:
    """Remove a file that is damaged, so that its step makes it again."""
    if not dry_run:
        storage.remove(path)


# -- counties -----------------------------------------------------------------------------------------------------------


def tasks_of(
    experiment: Experiment, ledger: Ledger, place: Place, result: _Result | None = None, dry_run: bool = False
) -> Iterator["Task"]:
    """Every county of the place, with its tracts with people, and what its files must be. ``result`` is told what is wrong with
    zips."""
    from dbrecon.console.scan import Task

    reident, result = experiment.reident, result or _Result()
    for stusab in [place.stusab] if place.stusab else ledger.stusabs(reident):
        people: dict[str, list[tuple[str, int]]] = {}
        for tract in ledger.tract_states(reident, stusab, place.county):
            tracts = people.setdefault(tract.county, [])
            if tract.status != EMPTY:
                tracts.append((tract.tract, tract.pop))
        files, derived = _county_files(experiment, ledger, stusab, list(people), result)
        for county, tracts in people.items():
            of_zip = county in derived
            # Without --dry_run a file that is not right is removed, and step 2 makes what lacks.
            again = f"--step2{' --force' if dry_run and not of_zip else ''} --stusab {stusab}"
            yield Task(experiment, stusab, county, tuple(tracts), files.get(county), of_zip, again)


def _county_files(
    experiment: Experiment, ledger: Ledger, stusab: str, counties: list[str], result: _Result
) -> tuple[dict[str, CountyDigests | None], Collection[str]]:
    """Return what the files of a state's counties must be: what step 2 has entered; where that is not known, what the zip gives;
    and the counties of which it is the latter.

    None where they are not today's. Where there is neither an entry nor a zip, as in a copied experiment, they are taken as they
    are.
    """
    from dbrecon.steps.county_files import derived_files
    from dbrecon.steps.provenance import broken_link, zip_of

    entered = ledger.county_files(experiment.reident, stusab)
    todo: list[str] = []
    try:
        found = zip_of(experiment, ledger, stusab)
        unknown = [county for county in counties if _is_unknown(entered.get(county), found.digest)]
        todo = [county for county in unknown if _is_there(experiment, stusab, county)]
        if found.changed:
            result.by_hand.append(broken_link(found, stusab))
        elif found.digest is not None:
            derived = derived_files(experiment, stusab, list(entered), todo) if todo else {}
            result.zips[stusab] = found.digest
            return entered | derived, derived
        elif found.entered is None:
            result.notes.append(NO_ZIP.format(stusab))
            return entered | dict.fromkeys([county for county in todo if entered.get(county) is None], AS_THEY_ARE), ()
    except InputError as error:
        result.by_hand.append(sentence(error))
    return entered, ()


def _is_unknown(files: CountyDigests | None, zip_digest: str | None) -> bool:
    """Return whether it is not known what a county's files must be; also where they were entered of another zip, or of none."""
    return files is None or not files.block or (zip_digest is not None and files.zip != zip_digest)


def _is_there(experiment: Experiment, stusab: str, county: str) -> bool:
    return None not in storage.sizes([experiment.block_csv(stusab, county), experiment.tract_csv(stusab, county)]).values()


def _scan(
    experiment: Experiment, ledger: Ledger, place: Place, dry_run: bool, result: _Result, pool: "WorkerPool | SparkPool | None"
) -> None:
    """All counties, by ``pool`` or in as many processes as there are cores; this one alone talks to the database."""
    tasks = sorted(
        tasks_of(experiment, ledger, place, result, dry_run), key=lambda task: -sum(population for _, population in task.tracts)
    )
    pool = pool or WorkerPool(WORK, min(len(os.sched_getaffinity(0)), max(1, len(tasks))))
    before: dict[tuple[str, str], Snapshot] = {}
    with Progress("checked", "county", len(tasks)) as progress:
        try:
            waiting = iter(tasks)
            left = len(tasks)
            while left:
                while pool.free and (task := next(waiting, None)) is not None:
                    stands = ledger.snapshot(experiment.reident, task.stusab, task.county)
                    before[task.stusab, task.county] = stands
                    pool.submit(replace(task, lp_digests=stands.lp_digests()))
                for event in pool.wait(1.0):
                    if isinstance(event, Broken):
                        raise RemoteError(f"{event.failure.message}; run it again")
                    if isinstance(event, Died):
                        raise DBReconError(f"county {event.task.county} of {event.task.stusab}: {event.reason}; run it again")
                    if isinstance(event, Message):
                        task, said = event.task, event.body
                        if isinstance(said, Failed):
                            raise DBReconError(f"county {task.county} of {task.stusab}: {said.failure.message}; run it again")
                        if isinstance(said, storage.DeniedFile):
                            result.unread.append(f"{task.stusab} {task.county}: {sentence(said)}")
                        elif isinstance(said, StorageError):
                            raise said
                        else:
                            _settle(experiment, ledger, task, said, before.pop((task.stusab, task.county)), dry_run, result)
                        left -= 1
                        progress.add(1)
        finally:
            pool.close()


def _settle(
    experiment: Experiment, ledger: Ledger, task: "Task", report: "Report", before: Snapshot, dry_run: bool, result: _Result
) -> None:
    """Put a county right and notes what was found."""
    faults = dict(report.faults)
    changes = ledger.put_right(experiment.reident, report.found, before, dry_run)
    again = sum(change.becomes in (NEW, LP) for change in changes if change.tract)
    for change in changes:
        result.changes.append((change, _why(experiment, change, faults, again)))
    for tract in report.found.tracts:
        if tract.sol is not None:
            result.makers[tract.sol.seed, tract.sol.solver] += 1
    if report.tables_lack:
        result.zips.pop(task.stusab, None)
        county_files = (experiment.block_csv(task.stusab, task.county), experiment.tract_csv(task.stusab, task.county))
        for path in county_files:
            if path in faults:
                result.by_hand.append(faults.pop(path))
                _remove(path, dry_run)
    for path in report.damaged:
        _remove(path, dry_run)
    result.faults += faults.values()
    result.foreign += report.foreign
    result.unread += [f"{task.stusab} {task.county} {tract or 'people'}: {denied}" for tract, denied in report.unread]
    result.notes += report.notes
    result.whole.update(report.whole)
    result.counties += 1
    result.tracts += len(task.tracts)


def _why(experiment: Experiment, change: Change, faults: dict[str, str], again: int) -> str:
    """Return what in the files made the change. ``again``: so many tracts of the county are to be done again."""
    if change.tract == COUNTY_FILES:
        return _why_certainty(experiment, change, faults)
    if not change.tract:
        return _why_county(experiment, change, faults, again)
    place = (change.stusab, change.county, change.tract)
    wrong = [fault for path in (experiment.lp(*place), experiment.sol(*place)) if (fault := faults.pop(path, None))]
    if wrong:
        return "; ".join(wrong)
    if change.was == change.becomes:
        return "another solution was put there, which meets every cell too"
    reasons = {SOLVED: "its LP file and checked solution are there", NEW: "it has no LP file that is of today's tables"}
    return reasons.get(change.becomes, "it has an LP file and no solution that is checked")


def _why_certainty(experiment: Experiment, change: Change, faults: dict[str, str]) -> str:
    if change.becomes == CERTAIN:
        return "its files are there"
    place = (change.stusab, change.county)
    paths = [experiment.certainty_sidecar(*place), *county_paths(experiment, *place).values()]
    wrong = [fault for path in paths if (fault := faults.pop(path, None))]
    return "; ".join(wrong) or "its files are not there"


def _why_county(experiment: Experiment, change: Change, faults: dict[str, str], again: int) -> str:
    if change.becomes == WRITTEN:
        return "its people are there"
    if fault := faults.pop(experiment.synth_out(change.stusab, change.county), None):
        return fault
    if again:
        return f"{counted(again, 'tract')} of it {'is' if again == 1 else 'are'} to be done again"
    return "its people are not those of its solutions, or are not there"


# -- telling ------------------------------------------------------------------------------------------------------------


def format_result(reident: str, result: _Result, dry_run: bool, shown: int | None, seed: int) -> str:
    """Return what a rescan found, for people. At most ``shown`` lines of each part; None is all. ``seed`` is the experiment's."""
    whole = ", ".join(counted(count, name, PLURALS.get(name)) for name, count in result.whole.items())
    places = (counted(result.states, "state"), counted(result.counties, "county"), f"{counted(result.tracts, 'tract')} with people")
    lines = [f"{reident}: {', '.join(places)}"]
    lines.append(f"whole: {whole or 'nothing'}")
    changes = [
        f"{change.stusab} {change.county} {_unit(change)}: {change.was} -> {change.becomes}: {why}"
        for change, why in result.changes
    ]
    parts = {
        "entered in the ledger": result.entered,
        "would be put right in the ledger" if dry_run else "put right in the ledger": changes,
        "not whole or not right (and not counted on)": result.faults,
        "to be made again, by hand": result.by_hand,
        "not verified, and the ledger left as it is, for want of the right to read": result.unread,
        "belongs to no tract of the experiment": result.foreign,
        "solutions are mixed: not all are of one solver and the experiment's seed": _ways(result.makers, seed),
        "to be known": result.notes,
    }
    for title, entries in parts.items():
        if entries:
            lines.append(f"{title}: {len(entries):,}")
            lines += [f"   {entry}" for entry in entries[:shown]]
            if shown is not None and len(entries) > shown:
                lines.append(f"   and {len(entries) - shown:,} more (--verbose shows all)")
    if not (result.changes or result.faults or result.by_hand or result.entered or result.unread):
        lines.append("the ledger and the files agree")
    return "\n".join(lines)


def _unit(change: Change) -> str:
    """Of what of its county a change is."""
    return "certainty" if change.tract == COUNTY_FILES else change.tract or "people"


def _ways(makers: Counter[tuple[int | None, str]], of_experiment: int) -> list[str]:
    """Return how many solutions each seed and solver has made, if there are several, or one that is not the experiment's."""
    if len(makers) < 2 and all(seed in (None, of_experiment) for seed, _ in makers):
        return []
    lines = []
    for (seed, solver), number in makers.most_common():
        how = "seed not told" if seed is None else f"seed {seed}"
        how += "" if seed in (None, of_experiment) else f" (the experiment's is {of_experiment})"
        lines.append(f"{counted(number, 'solution')}: {solver or 'solver not told'}, {how}")
    return lines
