"""Files of an experiment: which there are, what one holds, and what was never finished."""

import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from dbrecon.console.commands import asked_place, asked_reident, find_experiment, open_ledger
from dbrecon.console.parser import Arguments
from dbrecon.ctools import storage
from dbrecon.ctools.extras import extra
from dbrecon.ctools.progress import counted, duration
from dbrecon.ctools.terminal import printable
from dbrecon.errors import DBReconError, InputError, UsageError
from dbrecon.remedies import sentence
from dbrecon.settings import Config
from dbrecon.states import STATES

if TYPE_CHECKING:
    from dbrecon.ledger.records import TractState
    from dbrecon.recon.product.release import Release

Facts = list[tuple[str, str]]

WITHHELD = "-1"
"""What county files have for a cell that is not published."""


def _folder(args: Arguments, config: Config) -> str:
    """Return what is asked for: the experiment, a state, or a county. (No database is needed.)"""
    experiment, place = find_experiment(config, asked_reident(args)), asked_place(args)
    if place.tracts:
        raise UsageError("a tract has no folder of its own: leave --tract out")
    if place.stusab and place.county:
        return experiment.county_dir(place.stusab, place.county)
    return f"{experiment.base}/work/{place.stusab}" if place.stusab else experiment.base


def when(at: float) -> str:
    """Return a time for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def list_files(args: Arguments, config: Config) -> int:
    """Print bytes, time and path of each file; the sum on stderr."""
    count = total = 0
    for entry in storage.walk(_folder(args, config)):
        print(f"{entry.size:>12} {when(entry.mtime)} {printable(entry.path)}")
        count, total = count + 1, total + entry.size
    sys.stderr.write(f"{counted(count, 'file')}, {counted(total, 'byte')}\n")
    return 0


def list_unfinished(args: Arguments, config: Config) -> int:
    """Upload in parts that were not completed (on local disks, temporary files)."""
    found = storage.unfinished(_folder(args, config))
    for upload in found:
        print(f"{when(upload.begun)} {printable(upload.path)}")
    sys.stderr.write(f"{len(found):,} unfinished\n")
    return 0


def clear_unfinished(args: Arguments, config: Config) -> int:
    """Remove those that are old."""
    hours = float(args.clear_uploads)
    count = storage.clear_leftovers(_folder(args, config), hours * 3600.0)
    print(f"{count:,} removed, begun more than {hours:g} {'hour' if hours == 1 else 'hours'} ago")
    return 0


# -- what a file holds --------------------------------------------------------------------------------------------------


def show_info(args: Arguments, config: Config) -> int:
    """Print what a file of any kind holds, a line a fact."""
    path = args.info
    entry = storage.look_named(path)
    facts = [("file", path), ("bytes", f"{entry.size:,}"), ("written", when(entry.mtime))]
    facts += _reader_of(path, config)(path)
    facts += _from_ledger(path, config)
    width = max(len(name) for name, _ in facts) + 1
    for name, value in facts:
        print(f"{name + ':':<{width}} {value}")
    return 0


def _reader_of(path: str, config: Config) -> Callable[[str], Facts]:
    name = path.rsplit("/", 1)[-1].removesuffix(".gz")
    kinds: dict[str, Callable[[str], Facts]] = {
        r".*\.lp": _lp, r".*\.sol": _solution, r".*\.ilp": _ilp, r"\w+_(block|tract)_\d{5}\.csv": _county_file,
        r"geofile_[a-z]{2}\.csv": _geofile, r".*\.zip": partial(_zip, config), r".*\.csv": _people,
    }  # fmt: skip
    for pattern, reader in kinds.items():
        if re.fullmatch(pattern, name):
            return reader
    raise InputError(f"{path}: no kind of file that an experiment has (.lp, .sol, .ilp, .csv, .zip)")


def _known(*facts: tuple[str, object]) -> Facts:
    """Return the facts that are known."""
    return [(name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in facts if value not in (None, "")]


def _lp(path: str) -> Facts:
    from dbrecon.recon.artifacts import read_lp_file

    found = read_lp_file(storage.read_bytes(path), path)
    return _known(
        ("kind", "a tract's integer program (step 3)" if found.tract else "an integer program, of another system"),
        ("tract", found.tract), ("people", found.people), ("blocks", found.blocks),
        ("product", found.product), ("tables", found.tables),
        ("variables", found.variables), ("constraints", found.constraints), ("coefficients", found.nonzeros),
        ("ages counted together", found.ages_together),
    )  # fmt: skip


def _solution(path: str) -> Facts:
    from dbrecon.recon.artifacts import read_solution_file

    found = read_solution_file(storage.read_bytes(path), path)
    blocks = len(set(found.people.geoid_block.tolist()))
    return _known(
        ("kind", "a tract's solution (step 4)"), ("tract", found.tract), ("people", found.people.population),
        ("blocks", blocks), ("kinds of people by block", len(found.people.kind)), ("variables", found.variables),
        ("constraints", found.constraints), ("solver", found.solver),
        *((name, found.notes.get(name)) for name in ("seed", "product", "tables", "program")),
        ("people counted by age bins", int(found.people.count[~found.people.exact].sum())),
    )  # fmt: skip


def _ilp(path: str) -> Facts:
    text = storage.read_bytes(path).decode("utf-8", "replace")
    comments = [line.lstrip("\\ ") for line in text.splitlines() if line.startswith("\\")]
    return _known(("kind", "counts that contradict each other (step 4)"), *(("says", line) for line in comments))


def _people(path: str) -> Facts:
    import numpy as np

    with extra("study"):
        from dbrecon.recon.people.people_reader import PEOPLE_FORM, block_and_untold
        from dbrecon.recon.people.record_reader import iter_records

    total, blocks, untold = 0, set[int](), Counter[str]()
    with storage.sopen(path, "rb") as file:
        for records in iter_records(file, path, PEOPLE_FORM):
            total += len(records)
            block, of_columns = block_and_untold(records)
            blocks.update(np.unique(block).tolist())
            untold.update(of_columns)
    tracts = {block // 10_000 for block in blocks}
    counties = sorted({f"{tract:011d}"[:5] for tract in tracts})
    named = ", ".join(counties[:5]) + (", ..." if len(counties) > 5 else "")
    columns = ", ".join(f"{column} of {count:,}" for column, count in untold.items() if count)
    return _known(
        ("kind", "people, one a line (step 5)"), ("county", named), ("people", total), ("tracts", len(tracts)),
        ("blocks", len(blocks)), ("not told by any table", columns),
    )  # fmt: skip


def _county_file(path: str) -> Facts:
    people = rows = withheld = 0
    tracts: set[str] = set()
    with storage.sopen(path) as file:
        header = file.readline().rstrip("\n").split(",")
        level = header[0].removeprefix("geoid_")
        for line in file:
            fields = line.rstrip("\n").split(",")
            if len(fields) != len(header) or not all(field.isdigit() or field == WITHHELD for field in fields):
                raise InputError(f"{path}, line {rows + 2}: does not have {len(header)} counts; make it again (--step2 --force)")
            rows += 1
            withheld += fields.count(WITHHELD)
            people += int(fields[2]) if len(fields) > 2 and fields[2] != WITHHELD else 0
            tracts.add(fields[0][:11])
    return _known(
        ("kind", f"a county's {level} tables (step 2)"), ("county", min(tracts, default="")[:5]), ("tracts", len(tracts)),
        ("blocks", rows if level == "block" else None),
        ("cells of each", len(header) - 2),
        ("cells withheld", withheld or None),
        ("people", people if len(header) > 2 else None),
    )  # fmt: skip


def _geofile(path: str) -> Facts:
    from dbrecon.recon.artifacts import read_geofile

    stusab = path[-6:-4]
    if stusab not in STATES:
        raise InputError(f"{path}: {stusab!r} is no state; a geofile is called geofile_ST.csv, after its state")
    levels: dict[str, int] = {}
    people = 0
    with storage.sopen(path) as file:
        for unit in read_geofile(file, stusab, STATES[stusab].fips, path):
            levels[unit.sumlev] = levels.get(unit.sumlev, 0) + 1
            people += unit.pop100 if unit.sumlev == "140" else 0
    return _known(
        ("kind", "a state's geography (step 1)"), ("state", STATES[stusab].name), ("counties", levels.get("050")),
        ("tracts", levels.get("140")), ("blocks", sum(levels.get(level, 0) for level in ("101", "750", "100"))), ("people", people),
    )  # fmt: skip


def _zip(config: Config, path: str) -> Facts:
    from dbrecon.recon.product.release import StateZip, release_of_zip

    folder, name = path.rpartition("/")[::2]
    found = re.search(r"/(\w+)/dist$", folder)
    known: dict[str, Release] = {}
    if found and config.paths.root and path.startswith(f"{config.root()}/"):
        release = find_experiment(config, found[1]).release
        known = {release.zip_of(stusab): release for stusab in STATES}
    with storage.open_ranges(path) as file:
        stusab = next((stusab for stusab in STATES if name in known and known[name].zip_of(stusab) == name), name[:2])
        release = known[name] if name in known else release_of_zip(name, stusab)
        archive = StateZip(file, release, stusab, path)
    state = STATES[stusab].name if stusab in STATES else ""
    return _known(
        ("kind", "a state's tables, as published (step 0)"), ("product", release.title), ("state", state),
        ("members", len(archive.members)), ("unpacked bytes", archive.unpacked),
    )  # fmt: skip


def _from_ledger(path: str, config: Config) -> Facts:
    """Return what the ledger knows of the tract that a file of an experiment is of; nothing for other files."""
    match = re.search(r"/[\w.-]+/(\w+)/work/([a-z]{2})/\d{5}/(?:lp|sol)/model_\d{2}(\d{3})(\d{6})\.", path)
    if match is None or not config.paths.root or not path.startswith(f"{config.root()}/"):
        return []
    reident, stusab, county, tract = match.groups()
    try:
        states = open_ledger(config, make=False).tract_states(reident, stusab, county)
    except DBReconError as error:
        return [("ledger", f"not asked ({sentence(error)})")]
    found = next((state for state in states if state.tract == tract), None)
    return [("ledger", "has no such tract")] if found is None else _tract_facts(found)


def _tract_facts(found: "TractState") -> Facts:
    facts = [("status", found.status), ("people published", f"{found.pop:,}")]
    if found.lp_end is not None:
        facts.append(("LP file made", f"{when(found.lp_end)} on {found.lp_host}"))
    if found.sol_end is not None:
        seconds = found.solve_seconds
        took = "" if seconds is None else f", in {seconds:.2f} s" if seconds < 60 else f", in {duration(seconds)}"
        facts.append(("solved", f"{when(found.sol_end)} on {found.sol_host}{took}"))
    if found.error:
        facts.append(("error", found.error))
    return facts
