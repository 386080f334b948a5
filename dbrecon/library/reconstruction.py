"""People from published tables, tract by tract, and what was made on the way."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from dbrecon.ctools import storage
from dbrecon.errors import ContradictoryTables, UsageError
from dbrecon.library import frames as frame_kinds
from dbrecon.library.published import Published
from dbrecon.recon.people.attributes import NOT_TOLD, Attributes
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People, header_of, write_rows
from dbrecon.recon.people.solution import format_solution
from dbrecon.recon.solve.conflict import find_conflict
from dbrecon.recon.solve.program import Infeasible, Options, Program
from dbrecon.recon.tract.lp_text import format_lp
from dbrecon.recon.tract.model import Model, TractTables
from dbrecon.recon.tract.reconstruct import Reconstruction as TractReconstruction
from dbrecon.recon.tract.reconstruct import Reconstructor
from dbrecon.recon.tract.verify import people_of

CONFLICT_SECONDS = 10.0

Progress = Callable[[int, int], object]
"""Hears how many tracts are done, of how many."""

OBJECTIVES = ("spread", "none")
MOST_SEED = 999_999_999


@dataclass(frozen=True, repr=False)
class Reconstruction:
    """The result of :func:`reconstruct`. ``by_tract``: of each tract (11 digits) its people, program and answer.

    Every published cell of every table was counted again from the people, in integers.
    """

    published: Published
    by_tract: Mapping[str, TractReconstruction] = field(repr=False)
    seed: int = 0

    def __repr__(self) -> str:
        return f"Reconstruction(people: {self.population:,}; tracts: {len(self.by_tract):,})"

    @property
    def records(self) -> People:
        """Everybody, as counts of kinds of person by block."""
        return People.concatenate([found.people for found in self.by_tract.values()])

    @property
    def population(self) -> int:
        """How many people these are."""
        return self.records.population

    def people(self, frames: str | None = None) -> Any:
        """Return a frame with a row a person: geoid_tract, geoid_block, sex, age, white, black, aian, asian, nhopi, sor, hisp.

        What no table tells of people (of a small set of tables) is missing there.

        >>> bool(found.people()["age"].between(0, 110).all())
        True
        """
        columns = frame_kinds.people_columns(self.records, self.published.attributes)
        return frame_kinds.native(columns, frames or self.published.frames)

    def model(self, tract: str) -> Model:
        """Return a tract's integer program, as arrays: a row a constraint, a column a variable. Raises UsageError for others.

        >>> model = found.model(found.published.tracts[0])
        >>> model.n_variables > 0 < model.n_constraints
        True
        """
        return self._of(tract).model

    def sizes(self, frames: str | None = None) -> Any:
        """Return a frame with a row a tract: people, blocks, and the program's variables, constraints and coefficients.

        >>> found.sizes()["people"].tolist()
        [1000]
        """
        found = self.by_tract.values()
        columns = {
            "geoid_tract": list(self.by_tract),
            "people": [tract.people.population for tract in found],
            "blocks": [len(tract.model.blocks) for tract in found],
            "variables": [tract.model.n_variables for tract in found],
            "constraints": [tract.model.n_constraints for tract in found],
            "coefficients": [tract.model.n_nonzeros for tract in found],
            "solver": [tract.solver for tract in found],
        }
        return frame_kinds.native(columns, frames or self.published.frames)

    def lp_text(self, tract: str) -> str:
        """Return a tract's program as CPLEX LP text, which Gurobi, HiGHS, CPLEX and GLPK read. Raises UsageError for another tract.

        >>> "Subject To" in found.lp_text(found.published.tracts[0])
        True
        """
        found, product = self._of(tract), self.published.product
        return format_lp(found.model, found.people.population, product.name, self._tables).decode()

    def solution_text(self, tract: str) -> str:
        """Return a tract's answer in the form of Gurobi's .sol: a line a variable that is not 0. Raises UsageError for others.

        >>> found.solution_text(found.published.tracts[0]).splitlines()[-1][0] in "MF"
        True
        """
        found = self._of(tract)
        notes = {"people": str(found.people.population), "solver": found.solver, "seed": str(self.seed)}
        return format_solution(tract, people_of(found.model, found.values), notes).decode()

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``people.csv``, and of each tract ``lp/model_{tract}.lp.gz`` and ``sol/model_{tract}.sol.gz``, into a folder.

        It is local, or ``s3://``. Raises StorageError if a file cannot be written.
        """
        for tract in self.by_tract:
            for name, text in (("lp", self.lp_text(tract)), ("sol", self.solution_text(tract))):
                with storage.sopen(f"{os.fspath(folder)}/{name}/model_{tract}.{name}.gz", "w") as file:
                    file.write(text)
        with storage.sopen(f"{os.fspath(folder)}/people.csv", "wb") as out:
            self.write_people(out)

    def write_people(self, out: IO[bytes]) -> int:
        """Write the people's file to an open binary file; how many they are."""
        out.write(header_of(self.published.attributes))
        return write_rows(self.records, out, self.published.attributes)

    def _of(self, tract: str) -> TractReconstruction:
        """Return what was found of a tract. Raises UsageError if it is not there."""
        if tract not in self.by_tract:
            raise UsageError(f"tract {tract} is not among the {len(self.by_tract):,} tracts that were reconstructed")
        return self.by_tract[tract]

    @property
    def _tables(self) -> str:
        return "all" if self.published.product.tables_of("tract") else "block"


def reconstruct(
    published: Published,
    *,
    seed: int = 0,
    objective: str = "spread",
    solver: str = "highs",
    seconds: float = 3600.0,
    single_ages: bool = False,
    progress: Progress | None = None,
) -> Reconstruction:
    """Find people who make every published cell. A pure function of the tables, the solver's version and these options.

    ``objective`` "spread" takes of all answers the one that spreads people most evenly over kinds, "none" the first that is found.
    ``solver``: "highs", "gurobi", or "auto". ``seconds``: the time limit of a tract. ``single_ages``: a variable for each single
    year. ``progress`` is called with (done, all) tracts.

    Raises UsageError for an option that is not known, ContradictoryTables where no people can be, naming cells that contradict each
    other; TimeLimit, LicenceError or SolverError as the solver does; and whatever ``progress`` raises.

    >>> dbrecon.reconstruct(published)
    Reconstruction(people: 1,000; tracts: 1)
    """
    check_published(published)
    if objective not in OBJECTIVES:
        raise UsageError(f"objective {objective!r} is not known; take one of {', '.join(OBJECTIVES)}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= MOST_SEED:
        raise UsageError(f"seed {seed!r} is no seed: give a whole number from 0 to {MOST_SEED:,}")
    if not seconds > 0:
        raise UsageError(f"seconds {seconds!r} leave no time: give a number above 0")
    reconstructor = Reconstructor(published.product, single_ages)
    options = Options(solver, seed, seconds, objective=objective)
    found = {}
    for tables in published:
        found[tables.geoid] = _tract(reconstructor, tables, options)
        if progress is not None:
            progress(len(found), len(published))
    return Reconstruction(published, found, seed)


def check_published(value: object) -> None:
    """Raise UsageError for what is no published tables."""
    if not isinstance(value, Published):
        made = "read_tables, tables_of_frames or tabulate"
        raise UsageError(f"a {type(value).__name__} is given, where published tables are needed: make them by {made}")


def _tract(reconstructor: Reconstructor, tables: TractTables, options: Options) -> TractReconstruction:
    try:
        return reconstructor.reconstruct(tables, options)
    except Infeasible:
        raise _contradiction(reconstructor.builder.build(tables)) from None


def _contradiction(model: Model) -> ContradictoryTables:
    """Return which published counts of a tract cannot all be true."""
    conflict = find_conflict(Program.of_model(model), CONFLICT_SECONDS)
    counts = [f"{model.row_name(row)} = {model.rhs[row]}" for row in conflict.rows.tolist()]
    shown = ", ".join(counts[:12]) + (f" and {len(counts) - 12} more" if len(counts) > 12 else "")
    return ContradictoryTables(f"tract {model.geoid}: no people can make these counts together: {shown}")


def people_in_place(people: Any, attributes: Attributes | None = None, what: str = "the frame of people") -> People:
    """Return people as a reconstruction, a frame (columns as in :meth:`Reconstruction.people`) or records give them.

    ``attributes``: what the frame's tables tell of people, if that is not everything. ``what`` is what errors call the frame.
    Raises InputError for a frame that is not of the form.
    """
    if isinstance(people, Reconstruction):
        return people.records
    if isinstance(people, People):
        return people
    from dbrecon.recon.people.people_reader import read_people

    file = frame_kinds.as_file(people, what, None if attributes is None else NOT_TOLD)
    with file.open() as opened:
        return read_people(opened, file.name, attributes)


def by_tract(people: People, published: Published) -> Iterator[tuple[TractTables, People]]:
    """Yield each published tract with those of the people who live there, by block."""
    order = np.argsort(people.geoid_block, kind="stable")
    sorted_people = People(people.geoid_block[order], people.kind[order], people.count[order])
    for tables in published:
        first = int(tables.geoid) * BLOCKS_PER_TRACT
        start, end = np.searchsorted(sorted_people.geoid_block, [first, first + BLOCKS_PER_TRACT])
        part = slice(start, end)
        yield tables, People(sorted_people.geoid_block[part], sorted_people.kind[part], sorted_people.count[part])
