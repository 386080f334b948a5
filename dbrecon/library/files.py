"""Files that the commands make, as frames; and programs that are files, solved."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dbrecon.ctools import storage
from dbrecon.library import frames as frame_kinds
from dbrecon.library.published import path_of
from dbrecon.library.reconstruction import Reconstruction, people_in_place
from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES
from dbrecon.recon.people import people as people_files
from dbrecon.recon.people.attributes import NOT_TOLD, RACE_GROUP
from dbrecon.recon.people.people import COLUMNS, People
from dbrecon.recon.people.people_reader import PEOPLE_FORM, block_and_kind, block_and_untold, untold_in
from dbrecon.recon.people.record_reader import TextRecords, iter_records
from dbrecon.recon.people.solution import format_named_solution, parse_solution
from dbrecon.recon.solve.lp_reader import read_lp
from dbrecon.recon.solve.program import Options
from dbrecon.recon.solve.solvers import solve
from dbrecon.recon.tract.lp_text import tract_of_lp

Path = str | os.PathLike[str]


def read_people(path: Path, frames: str | None = None) -> Any:
    """Return a frame of a people's file (``synth_out_SSCCC.csv``, a truth): CSV, perhaps with .gz, or Parquet; local or ``s3://``.

    What a file says that no table tells ("not told") is null. Raises InputError, naming file and line, for a file that is not of
    the form; StorageError if it cannot be read.

    >>> dbrecon.write_people(found, "people.csv.gz")
    1000
    >>> dbrecon.read_people("people.csv.gz", "pandas").equals(found.people())
    True
    """
    name = path_of(path)
    with storage.sopen(name, "rb") as file:
        pieces = list(iter_records(file, name, PEOPLE_FORM))
    if any(any(untold_in(piece).values()) or piece.has(RACE_GROUP) for piece in pieces):
        return frame_kinds.native(_told_columns(pieces), frames)
    parts = [People(*block_and_kind(piece), np.ones(len(piece), np.int64)) for piece in pieces]
    return frame_kinds.native(frame_kinds.people_columns(People.concatenate(parts)), frames)


def _told_columns(pieces: Sequence[TextRecords]) -> pa.Table:
    """Return the columns of people of whom tables do not tell everything: what they do not is null."""
    for piece in pieces:
        block_and_untold(piece)  # refuses what is none of a person
    table = pa.Table.from_batches([piece.batch for piece in pieces])
    names = [*COLUMNS, *([RACE_GROUP] if pieces[0].has(RACE_GROUP) else [])]
    columns = {name: pc.if_else(pc.equal(table.column(name), NOT_TOLD), None, table.column(name)) for name in names}
    return pa.table(columns | {"age": columns["age"].cast(pa.int16())})


def write_people(people: Any, path: Path) -> int:
    """Write people (a reconstruction, or a frame) as such a file: CSV, packed if the path ends in .gz, or Parquet if in .parquet.

    Returns how many they are. Raises InputError for a frame that is not of the form, StorageError if it cannot be written.

    >>> dbrecon.write_people(people.head(5), "five.csv")
    5
    """
    name = path_of(path)
    records = people_in_place(people)
    attributes = people.published.attributes if isinstance(people, Reconstruction) else None
    with storage.sopen(name, "wb") as file:
        if name.endswith(".parquet"):
            pq.write_table(pa.table(frame_kinds.people_columns(records, attributes)), file)
        elif isinstance(people, Reconstruction):
            people.write_people(file)
        else:
            people_files.write_people(records, file)
    return records.population


def read_solution(path: Path, frames: str | None = None) -> Any:
    """Return a frame of a tract's solution (``model_SSCCCTTTTTT.sol.gz``): a row a variable that is not 0.

    Its columns are those of people, with ``age_first`` and ``age_last`` (empty: no end) in place of the age, and ``count``. Raises
    InputError, naming file and line, for a file that is not of the form; StorageError if it cannot be read.

    >>> found.write("out")
    >>> solution = dbrecon.read_solution(f"out/sol/model_{found.published.tracts[0]}.sol.gz", "pandas")
    >>> int(solution["count"].sum())
    1000
    """
    name = path_of(path)
    return _solution_frame(storage.read_bytes(name), name, frames)


def solve_lp(path: Path, *, solver: str = "highs", seconds: float = 3600.0, seed: int = 0, frames: str | None = None) -> Any:
    """Solve a tract's LP file, ours or the predecessor's; a frame as :func:`read_solution` gives it.

    Raises InputError for a file that is no LP file, Infeasible where nobody can meet it, TimeLimit, LicenceError or SolverError.

    >>> found.write("out")
    >>> solved = dbrecon.solve_lp(f"out/lp/model_{found.published.tracts[0]}.lp.gz", frames="pandas")
    >>> int(solved["count"].sum())
    1000
    """
    name = path_of(path)
    text = storage.read_bytes(name)
    named = read_lp(text, name)
    answer = solve(named.program, Options(solver, seed, seconds), name)
    tract = tract_of_lp(text) or "99001000100"
    return _solution_frame(format_named_solution(tract, named.variables, answer.values, {}), name, frames)


def _solution_frame(text: bytes, name: str, frames: str | None) -> Any:
    people = parse_solution(text, name).people.merged()
    columns = frame_kinds.person_columns(people.kind)
    first = columns.pop("age")
    ends = np.append(FIRST_AGES[1:] - 1, 0)[people.last]
    age_last = pa.array(ends.astype(np.int16), mask=people.last == N_AGES - 1)
    places = {"geoid_block": frame_kinds.geoids(people.geoid_block, 15), "sex": columns.pop("sex")}
    return frame_kinds.native(places | {"age_first": first, "age_last": age_last} | columns | {"count": people.count}, frames)
