"""Contradictions in a tract's tables: told in published cells and their values, and written as ``.ilp`` beside its LP file."""

import re
import sys

import numpy as np

from dbrecon.ctools import storage
from dbrecon.ctools.progress import counted
from dbrecon.errors import ContradictoryTables, Subject
from dbrecon.experiment import Experiment
from dbrecon.recon.census.bins import cells_of_sum
from dbrecon.recon.census.kinds import IntArray, join_kind
from dbrecon.recon.people.people import BLOCKS_PER_TRACT, People
from dbrecon.recon.solve.conflict import Conflict, bounds_of, find_conflict, format_ilp, rulers_out
from dbrecon.recon.solve.program import Infeasible, NamedProgram, Program
from dbrecon.recon.tract.lp_text import model_names
from dbrecon.recon.tract.model import MOST_SUFFIX, Model, ModelBuilder, TractTables
from dbrecon.recon.tract.verify import Violation, violations

CONFLICT_SECONDS = 60.0
SHOWN = 6
OF_A_BLOCK = re.compile(rf"_\d{{4}}({MOST_SUFFIX})?$")


def explained(
    experiment: Experiment, builder: ModelBuilder, stusab: str, tables: TractTables, model: Model, program: Program
) -> Infeasible:
    """Return the error that names the contradiction in a tract's tables. A count that zeros alone forbid is the plainest one."""
    what, path = f"tract {tables.geoid}", experiment.ilp(stusab, tables.geoid[2:5], tables.geoid[5:])
    empty = np.flatnonzero((np.diff(model.starts) == 0) & (program.lower > 0))
    if len(empty):
        return _ruled_out(what, path, builder, tables, model, int(empty[0]), experiment.kms_key)
    return explained_by_names(path, what, _named(model, program), experiment.kms_key, Subject.TABLES)


def _named(model: Model, program: Program) -> NamedProgram:
    names = tuple(name.decode() for name in model_names(model).tolist())
    return NamedProgram(program, names, tuple(model.row_name(row) for row in range(model.n_constraints)))


def _ruled_out(
    what: str, path: str, builder: ModelBuilder, tables: TractTables, model: Model, row: int, kms_key: str | None
) -> Infeasible:
    """Return the error for a count whose people zeros rule out, all of them. The file has each zero that it takes."""
    count, people = model.row_name(row), int(model.rhs[row])
    zeros = rulers_out(builder, tables, model, row, sys.maxsize)
    shown = ", ".join(zeros[:SHOWN]) + (f" and {len(zeros) - SHOWN:,} more" if len(zeros) > SHOWN else "")
    text = (
        f"{what}: the published tables contradict each other: {count} counts {counted(people, 'person')}, but these are 0 and rule "
        f"all of them out: {shown}; all of them stand in {path}"
    )
    lines = [f"\\ {what}: {count} counts {counted(people, 'person')}, and each of them would be counted by one of the zeros."]
    lines += ["Minimize", f" obj: 0 n_{count}", "Subject To", f" {count}: n_{count} = {people}"]
    lines += [f" {zero}: n_{zero} = 0" for zero in zeros]
    lines += [f" {count}_among: n_{count}", *(f"  - n_{zero}" for zero in zeros), "  <= 0", "General"]
    _write(path, "\n".join([*lines, *(f" n_{name}" for name in (count, *zeros)), "End", ""]).encode(), kms_key)
    return Infeasible(text, about=Subject.TABLES)


def explained_cell(
    error: ContradictoryTables,
    experiment: Experiment,
    builder: ModelBuilder,
    stusab: str,
    tables: TractTables,
    model: Model,
    people: People,
) -> ContradictoryTables:
    """Return the ``error`` of a published cell that no constraint is, and that the ``people`` of an answer do not make, with the
    file to which the counts are written from which another value follows."""
    path = experiment.ilp(stusab, tables.geoid[2:5], tables.geoid[5:])
    at = np.searchsorted(tables.blocks, people.geoid_block % BLOCKS_PER_TRACT)
    first = violations(builder.product, tables, at, people.kind, people.count)[0]
    columns = _counted_by(first, builder, tables, model)
    head = (f"tract {tables.geoid}: {first}, and so does everybody whom the other counts allow.",)
    name = _cell_name(first)
    if columns is None:  # a cell of single years, which the program does not tell apart
        lines = [*(f"\\ {line}" for line in head), "Minimize", f" obj: 0 n_{name}", "Subject To"]
        lines += [f" {name}: n_{name} = {first.published}", f" {name}_follows: n_{name} = {first.reconstructed}"]
        lines += ["General", f" n_{name}", "End", ""]
        text = "\n".join(lines).encode()
    else:
        named = _with_cell(_named(model, Program.of_model(model)), columns, name, first.published)
        text = format_ilp(named, find_conflict(named.program, CONFLICT_SECONDS), (*head, ABSENT))
    _write(path, text, experiment.kms_key)
    return ContradictoryTables(f"{error}; the counts that say otherwise stand in {path}")


ABSENT = "People whom a published zero rules out are absent from the sums."


def _cell_name(cell: Violation) -> str:
    level, _, unit = cell.unit.partition(" ")
    return f"{cell.cell}_{unit[-4:]}" if level == "block" else cell.cell


def _counted_by(cell: Violation, builder: ModelBuilder, tables: TractTables, model: Model) -> IntArray | None:
    """Return (variables,) how often the cell counts each variable of the model; None where it tells single years of a bin apart."""
    level, _, unit = cell.unit.partition(" ")
    product, bins = builder.product, model.bins
    counts = product.membership(level)[:, [product.columns(level).index(cell.cell)]].toarray().ravel()
    sex, number, race, hisp = bins.split(model.kind)
    first, last = bins.first[number], bins.last[number]
    found: IntArray = counts[join_kind(sex, first, race, hisp)].astype(np.int64)
    for year in range(1, int((last - first).max(initial=0)) + 1):
        if (counts[join_kind(sex, np.minimum(first + year, last), race, hisp)] != found).any():
            return None
    if level == "block":
        found = np.where(tables.blocks[model.block] == int(unit[-4:]), found, 0)
    return found


def _with_cell(named: NamedProgram, counts: IntArray, name: str, published: int) -> NamedProgram:
    """Return the program with the cell as one more constraint."""
    program, used = named.program, np.flatnonzero(counts)
    more = Program(
        np.append(program.starts, program.starts[-1] + len(used)),
        np.concatenate([program.columns, used]),
        np.concatenate([program.values, counts[used].astype(np.float64)]),
        np.append(program.lower, float(published)),
        np.append(program.upper, float(published)),
        program.column_lower,
        program.column_upper,
    )
    return NamedProgram(more, named.variables, (*named.constraints, name))


def explained_by_names(ilp_path: str, what: str, named: NamedProgram, kms_key: str | None, fault: Subject) -> Infeasible:
    """Find a minimal contradiction, write it to ``ilp_path``, and name it in the error."""
    conflict = find_conflict(named.program, CONFLICT_SECONDS)
    smallness = "without any one of them the rest would not" if conflict.minimal else "perhaps not all of them are needed"
    head = (
        f"{what}: these {counted(len(conflict.rows), 'count')} contradict each other; {smallness}.",
        ABSENT,
        *_sums(named, conflict),
    )
    _write(ilp_path, format_ilp(named, conflict, head), kms_key)
    names = sorted(
        (named.constraints[row], " and ".join(bound for _, bound in bounds_of(named.program, row)))
        for row in conflict.rows.tolist()
    )
    names.sort(key=lambda bound: bool(OF_A_BLOCK.search(bound[0])))  # the tract's own counts first: they are few
    counts = [f"{name} {bounds}" for name, bounds in names]
    shown = ", ".join(counts[:SHOWN]) + (f" and {len(counts) - SHOWN:,} more" if len(counts) > SHOWN else "")
    which = "the published tables" if fault is Subject.TABLES else "its constraints"
    return Infeasible(
        f"{what}: {which} contradict each other in {counted(len(counts), 'count')} ({shown}); all of them stand in {ilp_path}",
        about=fault,
    )


def _sums(named: NamedProgram, conflict: Conflict) -> list[str]:
    """For each count of the conflict that is a sum of published cells: which."""
    names = [named.constraints[row] for row in conflict.rows.tolist()]
    cells = {name: cells_of_sum(name) for name in sorted(names)}
    return [f"{name} is the sum of {', '.join(parts)}." for name, parts in cells.items() if len(parts) > 1]


def _write(path: str, text: bytes, kms_key: str | None) -> None:
    with storage.sopen(path, "wb", kms_key=kms_key) as file:
        file.write(text)
