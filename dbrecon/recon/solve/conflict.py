"""Why a program has no solution: a minimal set of constraints that contradict each other.

By QuickXplain (Junker, AAAI 2004), after the duals of the relaxation have narrowed the set down where they can.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.solve.highs import feasible, infeasibility_duals
from dbrecon.recon.solve.program import NamedProgram, Program
from dbrecon.recon.tract.lp_text import NOBODY
from dbrecon.recon.tract.model import Model, ModelBuilder, TractTables

DUAL_ZERO = 1e-7
MOST_ZEROS = 8


@dataclass(frozen=True)
class Conflict:
    """Constraints (ascending numbers) that contradict each other; if ``minimal``, without any one of them the rest do not."""

    rows: IntArray
    minimal: bool


def find_conflict(program: Program, seconds: float) -> Conflict:
    """Return a conflict among the constraints of a program that has no solution. Takes about ``seconds`` at the most; when they do
    not suffice, the set is a conflict still, but perhaps not minimal."""
    deadline = time.monotonic() + seconds
    unknown = False

    def has_solution(rows: IntArray, integer: bool) -> bool:
        nonlocal unknown
        answer = feasible(program.with_rows(rows), integer, max(0.1, deadline - time.monotonic()))
        if answer is None:
            unknown = True
        return answer is not False  # not known to be infeasible: keep more constraints, which is safe

    rows, integer = np.arange(program.n_constraints), True
    duals = infeasibility_duals(program, seconds / 4)
    if duals is not None:
        narrowed = np.flatnonzero(np.abs(duals) > DUAL_ZERO)
        if not has_solution(narrowed, False):
            rows, integer = narrowed, False
    found = _quick_explain(np.zeros(0, np.int64), False, rows, lambda subset: has_solution(subset, integer))
    return Conflict(np.sort(found), not unknown)


def _quick_explain(kept: IntArray, kept_grew: bool, rows: IntArray, has_solution: Callable[[IntArray], bool]) -> IntArray:
    """Return the part of ``rows`` that, with ``kept``, makes a minimal conflict."""
    if kept_grew and not has_solution(kept):
        return np.zeros(0, np.int64)
    if len(rows) <= 1:
        return rows
    first, second = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    from_second = _quick_explain(np.concatenate([kept, first]), True, second, has_solution)
    from_first = _quick_explain(np.concatenate([kept, from_second]), len(from_second) > 0, first, has_solution)
    return np.concatenate([from_first, from_second])


def format_ilp(named: NamedProgram, conflict: Conflict, head: tuple[str, ...]) -> bytes:
    """Return the conflicting constraints as LP text, a file that a solver proves infeasible at once. ``head`` becomes comments."""
    lines = [f"\\ {line}" for line in head]
    lines += ["Minimize", f" obj: 0 {named.variables[0] if named.variables else NOBODY}", "Subject To"]
    program = named.program
    used: set[int] = set()
    for row in conflict.rows.tolist():
        start, end = int(program.starts[row]), int(program.starts[row + 1])
        columns, values = program.columns[start:end].tolist(), program.values[start:end].tolist()
        used.update(columns)
        terms = [_term(value, named.variables[column]) for column, value in zip(columns, values, strict=True)]
        for suffix, bound in bounds_of(program, row):
            lines += _wrapped(f" {named.constraints[row]}{suffix}:", terms or [f"0 {NOBODY}"], f" {bound}")
    lines.append("General")
    lines += [f" {named.variables[column]}" for column in sorted(used)]
    lines.append("End")
    return ("\n".join(lines) + "\n").encode()


def bounds_of(program: Program, row: int) -> list[tuple[str, str]]:
    """Return a constraint's bounds as text, ``= 3`` say, each with what its name ends with: two where it lies between two
    numbers."""
    low, high = program.lower[row], program.upper[row]
    if low == high:
        return [("", f"= {high:.15g}")]
    below = [("", f">= {low:.15g}")] if np.isfinite(low) else []
    return below + ([("_range" if below else "", f"<= {high:.15g}")] if np.isfinite(high) else [])


def _term(value: float, name: str) -> str:
    size = "" if abs(value) == 1 else f"{abs(value):g} "
    return f"{'+' if value >= 0 else '-'} {size}{name}"


def rulers_out(builder: ModelBuilder, tables: TractTables, model: Model, row: int, most: int = MOST_ZEROS) -> list[str]:
    """Names of counts that are zero and together forbid everyone whom an empty constraint counts: few, and ``most`` at the most.

    Chosen greedily: each time the zero that forbids most of those who are left.
    """
    group, block = int(model.row_group[row]), int(model.row_block[row])
    blocks = range(len(tables.blocks)) if block < 0 else [block]
    named: list[str] = []
    for b in blocks:
        zeros = builder.zeros(tables, b, group)
        left = np.ones(next(iter(zeros.values())).shape, bool) if zeros else np.zeros(0, bool)
        while left.any() and zeros:
            name = max(zeros, key=lambda zero: int((zeros[zero] & left).sum()))
            if not (zeros[name] & left).any():
                break
            left &= ~zeros[name]
            named.append(name)
            if len(named) >= most:
                return named
    return sorted(set(named), key=named.index)


def _wrapped(head: str, terms: list[str], tail: str) -> list[str]:
    """Return terms on lines of under 500 characters."""
    lines, line = [], head
    for term in terms:
        if len(line) + len(term) > 440:
            lines.append(line)
            line = " "
        line += f" {term}"
    return [*lines, line + tail]
