#!/usr/bin/env python3
"""Step 4: a tract's integer program -> its checked solution, with HiGHS or Gurobi."""

import argparse
import resource
import time
from dataclasses import dataclass

import numpy as np

from cluster.records import SolStats
from ctools import cli, storage
from dbrecon import Config, Experiment
from dbrerrors import InputError, StorageError
from recon.conflict import find_conflict, format_ilp, rulers_out
from recon.kinds import IntArray
from recon.lp_text import tract_of_lp
from recon.model import Model, ModelBuilder, TractTables
from recon.solution import decode_names, format_named_solution, format_solution, variable_names
from recon.solvers import Infeasible, NamedProgram, Options, Program, read_lp, solve
from recon.verify import verify, verify_people

CONFLICT_SECONDS = 60.0
SHOWN = 6


def solver_options(config: Config) -> Options:
    """How the settings want programs solved."""
    return Options(
        solver=config.get("solve", "solver"),
        seed=config.get("solve", "seed"),
        seconds=config.get("solve", "time_limit"),
        token_wait=config.get("solve", "gurobi_token_wait"),
    )


def solve_model(experiment: Experiment, builder: ModelBuilder, stusab: str, tables: TractTables, model: Model) -> SolStats:
    """Solve a tract's program that is in memory, check every cell of every table, and write the solution.

    Raises Infeasible (with the contradiction, which is written beside the LP file), TimeLimit, LicenceError, SolverError;
    VerificationError or InputError if a published cell is not met; StorageError. Nothing is written then.
    """
    begin = time.monotonic()
    what = f"tract {tables.geoid}"
    program = Program.of_model(model)
    try:
        answer = solve(program, solver_options(experiment.config), what)
    except Infeasible as error:
        raise _explained(experiment, builder, stusab, tables, model, program) from error
    verify(builder.product, tables, model, answer.values)
    text = format_solution(
        tables.geoid, model.blocks[model.block], model.kind, answer.values, _notes(tables.population, answer.solver, program)
    )
    _write(experiment.sol(stusab, tables.geoid[2:5], tables.geoid[5:]), text)
    return _stats(answer.solver, begin)


def solve_lp(experiment: Experiment, builder: ModelBuilder, stusab: str, tables: TractTables) -> SolStats:
    """Solve a tract's program from its LP file, ours or the predecessor's, check every cell, and write the solution.

    Raises as :func:`solve_model` does, and InputError for an LP file that is damaged or of another tract.
    """
    begin = time.monotonic()
    county, tract = tables.geoid[2:5], tables.geoid[5:]
    path = experiment.lp(stusab, county, tract)
    lp = _read(path, tables.geoid)
    try:
        answer = solve(lp.named.program, solver_options(experiment.config), f"tract {tables.geoid}")
    except Infeasible as error:
        raise _explained_by_names(experiment.ilp(stusab, county, tract), tables.geoid, lp.named) from error
    verify_people(builder.product, tables, lp.block[lp.counts], lp.kind[lp.counts], answer.values[lp.counts], path)
    notes = _notes(tables.population, answer.solver, lp.named.program)
    _write(experiment.sol(stusab, county, tract), lp.solution(answer.values, notes))
    return _stats(answer.solver, begin)


@dataclass(frozen=True)
class _LpFile:
    """An LP file: its program, and for each variable block (15 digits) and kind; -1 where it counts nobody."""

    geoid: str
    named: NamedProgram
    block: IntArray
    kind: IntArray

    @property
    def counts(self) -> IntArray:
        """The variables that count people."""
        return np.flatnonzero(self.kind >= 0)

    def solution(self, values: IntArray, notes: dict[str, str]) -> bytes:
        """The solution's text, in the names of this file's variables."""
        return format_named_solution(self.geoid, self.named.variables, values, notes)


def _read(path: str, geoid: str | None) -> _LpFile:
    """Read an LP file; ``geoid`` is the tract it should be of, where that is known."""
    try:
        text = storage.read_bytes(path)
    except StorageError as error:
        raise InputError(f"{path}: the LP file cannot be read; make it again (--step3 --force)") from error
    named = read_lp(text, path)
    told = tract_of_lp(text)
    if geoid is not None and told is not None and told != geoid:
        raise InputError(f"{path}: is the program of tract {told}, not of {geoid}; make it again (--step3 --force)")
    block, kind = decode_names(named.variables, told or geoid, path)
    blocks = block[kind >= 0]
    own = geoid or told or (f"{int(blocks[0]) // 10_000:011d}" if len(blocks) else "")
    return _LpFile(own, named, block, kind)


def solve_file(config: Config, lp_path: str, sol_path: str) -> str:
    """Solve an LP file that belongs to no experiment, and write its solution. Returns a sentence that says what came out.

    Nothing but the file's own constraints can be checked. Raises as :func:`solve_lp` does.
    """
    lp = _read(lp_path, None)
    what = f"{lp_path}"
    try:
        answer = solve(lp.named.program, solver_options(config), what)
    except Infeasible as error:
        raise _explained_by_names(_ilp_beside(lp_path), lp.geoid, lp.named) from error
    people = int(answer.values[lp.counts].sum())
    _write(sol_path, lp.solution(answer.values, _notes(people, answer.solver, lp.named.program)))
    return f"{sol_path}: {people} people of tract {lp.geoid}, solved with {answer.solver}"


def _ilp_beside(lp_path: str) -> str:
    stem = lp_path.removesuffix(".gz").removesuffix(".lp")
    return f"{stem}.ilp"


def _notes(people: int, solver: str, program: Program) -> dict[str, str]:
    return {
        "people": str(people),
        "variables": str(program.n_variables),
        "constraints": str(program.n_constraints),
        "solver": solver,
    }


def _write(path: str, text: bytes) -> None:
    with storage.sopen(path, "wb") as file:
        file.write(text)


def _stats(solver: str, begin: float) -> SolStats:
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return SolStats(solver, time.monotonic() - begin, peak_kib // 1024)


def _explained(
    experiment: Experiment, builder: ModelBuilder, stusab: str, tables: TractTables, model: Model, program: Program
) -> Infeasible:
    """The error that names the contradiction in a tract's tables. A count that zeros alone forbid is the plainest one."""
    empty = np.flatnonzero(np.diff(model.starts) == 0)
    if len(empty):
        row = int(empty[0])
        zeros = ", ".join(rulers_out(builder, tables, model, row))
        return Infeasible(
            f"tract {tables.geoid}: the published tables contradict each other: {model.row_name(row)} counts {model.rhs[row]} "
            f"people, but these are 0 and rule all of them out: {zeros}; mend or replace the state's SF1 zip"
        )
    names = variable_names(model.blocks[model.block], model.kind)
    named = NamedProgram(
        program,
        tuple(name.decode() for name in names.tolist()),
        tuple(model.row_name(row) for row in range(model.n_constraints)),
    )
    return _explained_by_names(experiment.ilp(stusab, tables.geoid[2:5], tables.geoid[5:]), tables.geoid, named)


def _explained_by_names(ilp_path: str, geoid: str, named: NamedProgram) -> Infeasible:
    """Find a minimal contradiction, write it to ``ilp_path``, and name it in the error."""
    conflict = find_conflict(named.program, CONFLICT_SECONDS)
    smallness = "without any one of them the rest would not" if conflict.minimal else "perhaps not all of them are needed"
    head = (
        f"Tract {geoid}: these {len(conflict.rows)} counts contradict each other; {smallness}.",
        "People whom a published zero rules out are absent from the sums.",
    )
    _write(ilp_path, format_ilp(named, conflict, head))
    counts = [f"{named.constraints[row]} = {named.program.upper[row]:g}" for row in conflict.rows.tolist()]
    shown = ", ".join(counts[:SHOWN]) + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")
    return Infeasible(
        f"tract {geoid}: the published tables contradict each other in {len(counts)} counts ({shown}); all of them stand in "
        f"{ilp_path}; mend or replace the state's SF1 zip"
    )


def _file_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a single LP file, of no experiment (the predecessor's, say)")
    group.add_argument("--lp", metavar="FILE", help="solve this LP file (.lp or .lp.gz)")
    group.add_argument("--sol", metavar="FILE", help="write its solution here (default: beside it, .sol.gz)")


def main() -> int:
    """Solve by hand."""
    import scheduler  # it imports this module

    def solve_one(args: argparse.Namespace, config: Config) -> bool:
        if not args.lp:
            return False
        sol = args.sol or f"{args.lp.removesuffix('.gz').removesuffix('.lp')}.sol.gz"
        print(solve_file(config, args.lp, sol))
        return True

    return scheduler.step_by_hand(4, __doc__ or "", _file_arguments, solve_one)


if __name__ == "__main__":
    cli.run_command(main)
