"""Looking at a county's files, one worker process a county: what ``--rescan`` finds. Nothing here talks to the database."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar, cast

from dbrecon.ctools import storage
from dbrecon.ctools.staging import digest
from dbrecon.errors import InputError, StorageError, Subject, VerificationError
from dbrecon.experiment import Experiment
from dbrecon.ledger.reconcile import CountyFound, LpFound, SolFound, TractFound
from dbrecon.ledger.records import CountyDigests
from dbrecon.recon.artifacts import PeopleComparison, check_county_tables, check_lp, check_program, check_solution
from dbrecon.recon.people.people import People
from dbrecon.recon.tract.county_tables import CountyTables
from dbrecon.recon.tract.lp_text import format_lp
from dbrecon.remedies import sentence
from dbrecon.states import STATES
from dbrecon.steps.certainty_check import Digests, certainty_faults, county_paths, records_of
from dbrecon.steps.kept_evaluation import read_evaluation, stale_evaluation
from dbrecon.steps.lp_files import read_county
from dbrecon.steps.methods import attributes_known, binning_of, builder_of
from dbrecon.steps.origin import NotAccepted, check_accepted

T = TypeVar("T")
READ_AHEAD = 8
OF_CERTAINTY, OF_EVALUATION = "county's certainty", "county's evaluation"
WRONG = (InputError, VerificationError, storage.DamagedFile)
"""What a file is blamed for. Other failures of storage end the scan: they say nothing of the file."""


@dataclass(frozen=True)
class Task:
    """A county to look at; ``tracts`` are those with people (six digits), with their populations."""

    experiment: Experiment
    stusab: str
    county: str
    tracts: tuple[tuple[str, int], ...]
    files: CountyDigests | None = None
    """What the county's two files must be; with digests "" whatever they are is taken; None: they are not today's."""
    of_zip: bool = False
    """Whether ``files`` are what the zip gives that lies in ``dist/``, since step 2 has entered none of it."""
    again: str = ""
    """The options that make the two files again."""
    lp_digests: Mapping[str, str | None] = field(default_factory=dict)
    """By tract, that of the LP file which the ledger has accepted. Where there is none ("", None), a file is compared with the
    program of the tables."""


@dataclass(frozen=True)
class Report:
    """What a county's files are. ``faults``: path and sentence of each that is missing (and makes work by hand) or wrong;
    ``whole`` counts those that are right, by kind; ``foreign`` are files that belong to no tract of the county; ``unread`` says
    of each tract ("" is the county's people) that is not verified which file this user may not read; ``damaged`` are files of
    certainty and evaluation that go, to be made again; ``notes`` tell what is stale and nobody need mend."""

    found: CountyFound
    faults: tuple[tuple[str, str], ...]
    whole: dict[str, int]
    foreign: tuple[str, ...]
    tables_lack: bool
    unread: tuple[tuple[str, str], ...]
    damaged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def serve(task: Task, send: Callable[[Report | StorageError], None]) -> None:
    """Look at a county in a worker process."""
    try:
        send(_Scan(task).report())
    except StorageError as error:
        send(error)


class _Scan:
    """One county. Memory: its two files, and the files of ``READ_AHEAD`` tracts."""

    def __init__(self, task: Task) -> None:
        self._task, self._experiment = task, task.experiment
        self._place = (task.stusab, task.county)
        self._present = {entry.path: entry.mtime for entry in storage.walk(task.experiment.county_dir(*self._place))}
        self._faults: list[tuple[str, str]] = []
        self._unread: list[tuple[str, str]] = []
        self._whole = dict.fromkeys(("LP file", "solution", "county file", "file of people"), 0)
        self._files: CountyDigests | None = None
        self._damaged: tuple[str, ...] = ()
        self._notes: tuple[str, ...] = ()

    def report(self) -> Report:
        tables = self._tables()
        found = []
        with ExitStack() as stack:
            comparison = self._comparison(stack)
            for (tract, population), lp, sol in self._texts():
                denied = [sentence(error) for error in (lp, sol) if isinstance(error, storage.DeniedFile)]
                if denied:
                    self._unread += [(tract, text) for text in denied]
                    comparison = None
                    continue
                lp_found = self._lp(tract, population, lp, tables)
                sol_found, people = self._solution(tract, population, sol, tables)
                found.append(TractFound(tract, lp_found, sol_found))
                if comparison is not None and (people is None or not self._fits(comparison, tract, people)):
                    comparison = None
            written = comparison is not None and self._ends(comparison)
        people_digest = comparison.digest if comparison is not None and written else ""
        people_at = self._present[self._experiment.synth_out(*self._place)] if written else None
        people_unread = bool(self._unread)
        known = self._digests(people_digest)
        certain = self._certainty(known)
        self._evaluation(known)
        return Report(
            CountyFound(*self._place, tuple(found), people_at, people_unread, self._files, people_digest, certain),
            tuple(self._faults),
            self._whole,
            tuple(sorted(set(self._present) - self._expected())),
            tables is None,
            tuple(self._unread),
            self._damaged,
            self._notes,
        )

    def _expected(self) -> set[str]:
        experiment, tracts = self._experiment, self._task.tracts
        of_county = (
            experiment.block_csv,
            experiment.tract_csv,
            experiment.synth_out,
            experiment.certainty_sidecar,
            experiment.evaluation,
        )
        of_tract = (experiment.lp, experiment.sol, experiment.ilp, *records_of(experiment))
        expected = {path(*self._place) for path in of_county} | set(county_paths(experiment, *self._place).values())
        return expected | {path(*self._place, tract) for tract, _ in tracts for path in of_tract}

    def _digests(self, people_digest: str) -> Digests:
        """Return the digests of the people and tables at hand, "" where they are not known."""
        block, tract = (self._files.block, self._files.tract) if self._files else ("", "")
        return {"people": people_digest, "block_tables": block, "tract_tables": tract}

    def _evaluation(self, known: Digests) -> None:
        """Look whether an evaluation that is kept is whole, and of the people and tables at hand."""
        path = self._experiment.evaluation(*self._place)
        if path not in self._present:
            return
        try:
            kept = read_evaluation(path)
            stale = kept and stale_evaluation(self._experiment, *self._place, kept, known)
        except storage.DeniedFile as error:
            self._unread.append((OF_EVALUATION, sentence(error)))
        except WRONG as error:
            self._fault(path, error)
            self._damaged += (path,)
        else:
            self._whole[OF_EVALUATION] = int(not stale)
            self._notes = (stale,) if stale else ()

    def _certainty(self, known: Digests) -> bool | None:
        """Return whether the files of step 6 are whole and of the people and tables at hand; None if one may not be read."""
        try:
            tracts = [tract for tract, _ in self._task.tracts]
            faults = certainty_faults(self._experiment, *self._place, tracts, known)
        except storage.DeniedFile as error:
            self._unread.append((OF_CERTAINTY, sentence(error)))
            return None
        for fault in faults or []:
            self._fault(fault.path, fault.error)
        self._damaged = tuple(fault.path for fault in faults or [] if not fault.stale)
        if faults is None:
            return False
        whole = all(fault.record for fault in faults)
        self._whole[OF_CERTAINTY] = int(whole)
        return whole

    def _fault(self, path: str, error: Exception) -> None:
        self._faults.append((path, sentence(error)))

    def _tables(self) -> CountyTables | None:
        """Return the county's tables, None if a file is missing or wrong."""
        experiment = self._experiment
        paths = [experiment.block_csv(*self._place), experiment.tract_csv(*self._place)]
        lacking = [path for path in paths if path not in self._present]
        for path in lacking:
            self._faults.append((path, f"{path} does not exist; make it (--step2 --stusab {self._task.stusab})."))
        if lacking:
            return None
        product = builder_of(experiment).product
        try:
            tables = read_county(experiment, product, self._task.stusab, self._task.county, self._task.files)
            check_county_tables(tables, self._task.tracts)
        except InputError as error:
            path = next((path for path in paths if sentence(error).startswith(path)), paths[0])
            self._faults.append((path, self._of_county_file(path, error)))
            return None
        self._whole["county file"] += 2
        texts = (tables.blocks.text, tables.tracts.text)
        wanted = self._task.files
        zip_digest = wanted.zip if wanted else None
        self._files = CountyDigests(zip_digest, digest(texts[0]), digest(texts[1]), len(texts[0]), len(texts[1]))
        return tables

    def _of_county_file(self, path: str, error: InputError) -> str:
        """Return what is wrong with a county file, and what makes it again as matters stand."""
        if error.about is not Subject.COUNTY_FILES:
            return sentence(error)
        error.about = None  # the remedy is another here
        of_zip = self._task.of_zip and isinstance(error, NotAccepted)
        wrong = f"{path}: is not what the zip gives that lies in dist/ now" if of_zip else sentence(error)
        return f"{wrong}; make it again ({self._task.again})"

    def _texts(self) -> Iterator[tuple[tuple[str, int], bytes | Exception | None, bytes | Exception | None]]:
        """Yield the tracts with the text of LP file and solution, each read ahead: None if not there, an error if damaged or
        denied."""
        experiment = self._experiment

        def read(path: str) -> bytes | Exception | None:
            if path not in self._present:
                return None
            try:
                return storage.read_bytes(path)
            except storage.MissingFile:
                return None  # removed since it was listed
            except (storage.DamagedFile, storage.DeniedFile) as error:
                return error

        def both(tract: tuple[str, int]) -> tuple[bytes | Exception | None, bytes | Exception | None]:
            place = (*self._place, tract[0])
            return read(experiment.lp(*place)), read(experiment.sol(*place))

        for tract, (lp, sol) in read_ahead(both, self._task.tracts):
            yield tract, lp, sol

    def _lp(self, tract: str, population: int, text: bytes | Exception | None, tables: CountyTables | None) -> LpFound | None:
        path = self._experiment.lp(*self._place, tract)
        if not isinstance(text, bytes):
            if text is not None:
                self._fault(path, text)
            return None
        try:
            of_tables = tables.digest(tract) if tables is not None else None
            found = check_lp(text, path, self._geoid(tract), population, self._experiment.tables, of_tables)
        except WRONG as error:
            self._fault(path, error)
            return None
        own, same = digest(text), None
        try:
            if accepted := self._task.lp_digests.get(tract):
                check_accepted(text, accepted, path, "the LP file", Subject.LP_FILE)
            elif tables is not None:
                check_program(text, path, self._program(tables, tract))
            same = None if tables is None else True
            self._whole["LP file"] += 1
        except InputError as error:
            self._fault(path, error)
            same = False
        return LpFound(self._present[path], found.variables, found.constraints, found.nonzeros, own, same)

    def _program(self, tables: CountyTables, tract: str) -> bytes:
        """Return the LP text of a tract's tables, as step 3 would write it."""
        of_tract, builder = tables.tract(tract), builder_of(self._experiment)
        return format_lp(builder.build(of_tract), of_tract.population, builder.product.name, self._experiment.tables)

    def _solution(
        self, tract: str, population: int, text: bytes | Exception | None, tables: CountyTables | None
    ) -> tuple[SolFound | None, People | None]:
        path = self._experiment.sol(*self._place, tract)
        if not isinstance(text, bytes):
            if text is not None:
                self._fault(path, text)
            return None, None
        try:
            binning = binning_of(self._experiment)
            found, people = check_solution(text, path, self._geoid(tract), population, tables, binning)
        except WRONG as error:
            self._fault(path, error)
            return None, None
        self._whole["solution"] += 1
        program, seed = found.notes.get("program", ""), found.seed if "seed" in found.notes else None
        return SolFound(self._present[path], found.solver, tables is not None, digest(text), seed, program), people

    def _geoid(self, tract: str) -> str:
        return STATES[self._task.stusab].fips + self._task.county + tract

    def _comparison(self, stack: ExitStack) -> PeopleComparison | None:
        path = self._experiment.synth_out(*self._place)
        if path not in self._present or not self._task.tracts:
            return None
        try:
            file = stack.enter_context(storage.sopen(path, "rb"))
        except storage.DeniedFile as error:
            self._unread.append(("", sentence(error)))
            return None
        try:
            return PeopleComparison(cast("BinaryIO", file), path, attributes_known(self._experiment))
        except InputError as error:
            self._fault(path, error)
            return None

    def _fits(self, comparison: PeopleComparison, tract: str, people: People) -> bool:
        try:
            comparison.add(tract, people)
        except InputError as error:
            self._fault(self._experiment.synth_out(*self._place), error)
            return False
        return True

    def _ends(self, comparison: PeopleComparison) -> bool:
        try:
            comparison.end()
        except InputError as error:
            self._fault(self._experiment.synth_out(*self._place), error)
            return False
        self._whole["file of people"] += 1
        return True


def read_ahead(work: Callable[[Any], T], items: Sequence[Any]) -> Iterator[tuple[Any, T]]:
    """Yield each item with ``work(item)``, in order; the next few are done in threads meanwhile."""
    with ThreadPoolExecutor(READ_AHEAD, "read-ahead") as pool:
        waiting: deque[tuple[Any, Future[T]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > READ_AHEAD:
                    first, result = waiting.popleft()
                    yield first, result.result()
            for first, result in waiting:
                yield first, result.result()
        finally:
            pool.shutdown(cancel_futures=True)
