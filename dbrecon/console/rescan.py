"""``--rescan``: every file of an experiment against the ledger, and whichever side is wrong put right."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dbrecon.console.commands import asked_place, asked_reident, open_ledger
from dbrecon.console.parser import Arguments
from dbrecon.ctools import storage
from dbrecon.ctools.database import NoSuchDatabase
from dbrecon.ctools.progress import Progress, counted
from dbrecon.errors import DBReconError, InputError, RemoteError, StorageError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.reconcile import Change, Snapshot, put_right, snapshot
from dbrecon.ledger.records import EMPTY, NEW, GeoRow, TractRow
from dbrecon.node.pool import Broken, Died, Message
from dbrecon.node.processes import WorkerPool
from dbrecon.node.tasks import Failed
from dbrecon.place import Place
from dbrecon.settings import Config
from dbrecon.states import STATES
from dbrecon.steps.prepare import open_experiment

if TYPE_CHECKING:
    from dbrecon.console.scan import Report, Task
    from dbrecon.spark.task_pool import SparkPool

log = logging.getLogger(__name__)

WORK = "dbrecon.console.scan:serve"
SHOWN = 20
NOT_ENTERED = "{} is not registered in this database, but has files: --rescan without --dry_run enters it"
PLURALS = {"file of people": "files of people"}


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
    strangers: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def rescan(args: Arguments, config: Config, pool: "WorkerPool | SparkPool | None" = None) -> int:
    """Check and put right; 4 if this user may not read a file, else 3, as for bad data, if something is left that only step 1 or 2
    can make again.

    ``pool`` runs :data:`WORK`; the default is as many processes as there are cores.
    """
    reident, place = asked_reident(args), asked_place(args)
    ledger, result = _open(config, reident, args.dry_run), _Result()
    _register(ledger, config, reident, args.dry_run, result)
    experiment = open_experiment(ledger, config, reident)
    for stusab in _states(experiment, ledger, place):
        result.states += _geography(experiment, ledger, stusab, args.dry_run, result)
    if not result.unread:
        ledger.check_place(reident, place)
    _scan(experiment, ledger, place, args.dry_run, result, pool)
    print(format_result(reident, result, args.dry_run, None if args.verbose else SHOWN))
    if result.unread:
        return StorageError.exit_code
    return InputError.exit_code if result.by_hand else 0


# -- the experiment and its states --------------------------------------------------------------------------------------


def _open(config: Config, reident: str, pretend: bool) -> Ledger:
    """The ledger; where there is none, one is made for an experiment whose files were copied here."""
    try:
        return open_ledger(config, make=False)
    except NoSuchDatabase:
        if _tables_of(Experiment.make(reident, config)) is None:
            raise
        if pretend:
            raise UsageError(NOT_ENTERED.format(reident)) from None
    return open_ledger(config)


def _register(ledger: Ledger, config: Config, reident: str, pretend: bool, result: _Result) -> None:
    """An experiment whose files were copied here is registered; one without files is refused as ever."""
    if reident in [row.reident for row in ledger.experiments()]:
        return
    tables = _tables_of(Experiment.make(reident, config))
    if tables is None:
        ledger.experiment(reident)  # raises, and names those that exist
        return
    if pretend:
        raise UsageError(NOT_ENTERED.format(reident))
    from dbrecon.recon.census.tables import load_product

    product = load_product(Path(config.sf1.tables), tables)
    ledger.register(reident, tables, product.name)
    result.entered.append(f"{reident}, on {tables} tables")


def _tables_of(experiment: Experiment) -> str | None:
    """Which tables an experiment is on, by the columns of its first county file; None if it has none."""
    for stusab in _folders_of_states(experiment):
        for name in storage.listdir(f"{experiment.base}/work/{stusab}"):
            path = experiment.tract_csv(stusab, name[2:])
            if name.isdecimal() and storage.exists(path):
                with storage.sopen(path) as file:
                    return "all" if file.readline().count(",") > 1 else "block"
    return None


def _folders_of_states(experiment: Experiment) -> list[str]:
    return [name for name in storage.listdir(f"{experiment.base}/work") if name in STATES]


def _states(experiment: Experiment, ledger: Ledger, place: Place) -> list[str]:
    """Those asked for: in the ledger, or with a folder."""
    if place.stusab:
        return [place.stusab]
    return sorted({*ledger.stusabs(experiment.reident), *_folders_of_states(experiment)})


def _geography(experiment: Experiment, ledger: Ledger, stusab: str, pretend: bool, result: _Result) -> bool:
    """The geofile of a state against its tracts in the ledger, which are entered if there are none. True if the state is one."""
    from dbrecon.recon.artifacts import read_geofile
    from dbrecon.recon.census.geography import TRACT_LEVEL
    from dbrecon.steps.geography_files import geo_row

    path, known = experiment.geofile(stusab), ledger.has_geography(experiment.reident, stusab)
    tracts: dict[tuple[str, str], TractRow] = {}

    def rows() -> Iterator[GeoRow]:
        with storage.sopen(path) as file:
            for unit in read_geofile(file, stusab, STATES[stusab].fips, path):
                if unit.sumlev == TRACT_LEVEL:
                    tracts[unit.county, unit.tract] = TractRow(unit.state, unit.county, unit.tract, unit.pop100)
                yield geo_row(unit)

    again = f"make it again (--step1 --stusab {stusab})"
    try:
        if known or pretend:
            for _ in rows():
                pass
        else:
            ledger.replace_geography(experiment.reident, stusab, rows(), _late(tracts))
            result.entered.append(f"the geography of {stusab}: {counted(len(tracts), 'tract')}")
    except storage.MissingFile:
        result.by_hand.append(f"{path} does not exist; {again}")
        return known
    except storage.DeniedFile as error:
        result.unread.append(f"{stusab}: {error}")
        return known
    except InputError as error:
        result.by_hand.append(str(error))
        _remove(path, pretend)
        return known
    except (UnicodeDecodeError, ValueError) as error:
        result.by_hand.append(f"{path} is damaged ({error}); {again}")
        _remove(path, pretend)
        return known
    if known and {key: row.pop for key, row in tracts.items()} != {
        (one.county, one.tract): one.pop for one in ledger.tract_states(experiment.reident, stusab)
    }:
        result.by_hand.append(f"{path} has other tracts than the ledger; begin anew with --step1 --step2 --force --stusab {stusab}")
    return known or not pretend


def _late(tracts: dict[tuple[str, str], TractRow]) -> Iterator[TractRow]:
    """The tracts as they are when the ledger asks for them: after it has read the geography."""
    yield from tracts.values()


def _remove(path: str, pretend: bool) -> None:
    """A file that is damaged goes, so that its step makes it again."""
    if not pretend:
        storage.remove(path)


# -- counties -----------------------------------------------------------------------------------------------------------


def tasks_of(experiment: Experiment, ledger: Ledger, place: Place) -> Iterator["Task"]:
    """Every county of the place, with its tracts with people."""
    from dbrecon.console.scan import Task

    reident = experiment.reident
    for stusab in [place.stusab] if place.stusab else ledger.stusabs(reident):
        people: dict[str, list[tuple[str, int]]] = {}
        for one in ledger.tract_states(reident, stusab, place.county):
            tracts = people.setdefault(one.county, [])
            if one.status != EMPTY:
                tracts.append((one.tract, one.pop))
        for county, tracts in people.items():
            yield Task(experiment, stusab, county, tuple(tracts))


def _scan(
    experiment: Experiment, ledger: Ledger, place: Place, pretend: bool, result: _Result, pool: "WorkerPool | SparkPool | None"
) -> None:
    """All counties, by ``pool`` or in as many processes as there are cores; this one alone talks to the database."""
    tasks = sorted(tasks_of(experiment, ledger, place), key=lambda task: -sum(population for _, population in task.tracts))
    pool = pool or WorkerPool(WORK, min(len(os.sched_getaffinity(0)), max(1, len(tasks))))
    before: dict[tuple[str, str], Snapshot] = {}
    with Progress("checked", "county", len(tasks)) as progress:
        try:
            waiting = iter(tasks)
            left = len(tasks)
            while left:
                while pool.free and (task := next(waiting, None)) is not None:
                    before[task.stusab, task.county] = snapshot(ledger, experiment.reident, task.stusab, task.county)
                    pool.submit(task)
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
                            result.unread.append(f"{task.stusab} {task.county}: {said}")
                        elif isinstance(said, StorageError):
                            raise said
                        else:
                            _settle(experiment, ledger, task, said, before.pop((task.stusab, task.county)), pretend, result)
                        left -= 1
                        progress.add(1)
        finally:
            pool.close()


def _settle(
    experiment: Experiment, ledger: Ledger, task: "Task", report: "Report", before: Snapshot, pretend: bool, result: _Result
) -> None:
    """Puts a county right and notes what was found."""
    faults = dict(report.faults)
    for change in put_right(ledger, experiment.reident, report.found, before, pretend):
        result.changes.append((change, _why(experiment, change, faults)))
    if report.tables_lack:
        county_files = (experiment.block_csv(task.stusab, task.county), experiment.tract_csv(task.stusab, task.county))
        for path in county_files:
            if path in faults:
                result.by_hand.append(faults.pop(path))
                _remove(path, pretend)
    result.faults += faults.values()
    result.strangers += report.strangers
    result.unread += [f"{task.stusab} {task.county} {tract or 'people'}: {denied}" for tract, denied in report.unread]
    result.whole.update(report.whole)
    result.counties += 1
    result.tracts += len(task.tracts)


def _why(experiment: Experiment, change: Change, faults: dict[str, str]) -> str:
    """What in the files made the change."""
    place = (change.stusab, change.county)
    if not change.tract:
        path = experiment.synth_out(*place)
        if change.becomes == "written":
            return "its people are there"
        return faults.pop(path, None) or "its people are not those of its solutions, or not all are there"
    paths = {"LP file": experiment.lp(*place, change.tract), "solution": experiment.sol(*place, change.tract)}
    wrong = [fault for path in paths.values() if (fault := faults.pop(path, None))]
    if wrong:
        return "; ".join(wrong)
    if change.becomes == "solved":
        return "its LP file and checked solution are there"
    return "it has no LP file" if change.becomes == NEW else "it has an LP file and no solution that is checked"


# -- telling ------------------------------------------------------------------------------------------------------------


def format_result(reident: str, result: _Result, pretend: bool, shown: int | None) -> str:
    """What a rescan found, for people. At most ``shown`` lines of each part; None is all."""
    whole = ", ".join(counted(count, name, PLURALS.get(name)) for name, count in result.whole.items())
    places = (counted(result.states, "state"), counted(result.counties, "county"), f"{counted(result.tracts, 'tract')} with people")
    lines = [f"{reident}: {', '.join(places)}"]
    lines.append(f"whole: {whole or 'nothing'}")
    changes = [
        f"{change.stusab} {change.county} {change.tract or 'people'}: {change.was} -> {change.becomes}: {why}"
        for change, why in result.changes
    ]
    parts = {
        "entered in the ledger": result.entered,
        "would be put right in the ledger" if pretend else "put right in the ledger": changes,
        "not whole (and not counted on)": result.faults,
        "to be made again, by hand": result.by_hand,
        "not verified, and the ledger left as it is, for want of the right to read": result.unread,
        "belongs to no tract of the experiment": result.strangers,
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
