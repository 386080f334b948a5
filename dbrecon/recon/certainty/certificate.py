"""What holds of a claim in every data set with a tract's tables, and a certificate of it that is checked without a solver.

A certificate gives for each end, the least and the most, a whole solution that has it, and the steps of a proof that no
solution goes
beyond: multipliers whose bound is recomputed in integers, and the cuts between them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dbrecon.errors import VerificationError
from dbrecon.recon.census.bins import AgeBins
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.claims import Claim
from dbrecon.recon.certainty.minimum import minimise
from dbrecon.recon.certainty.objective import Objective, bound_of, is_empty, tightened
from dbrecon.recon.certainty.part import Part, split
from dbrecon.recon.certainty.search import Budget, ProofStep, halves, prove
from dbrecon.recon.certainty.tract_certainty import bounds
from dbrecon.recon.people.people import BLOCKS_PER_TRACT
from dbrecon.recon.solve.propagation import Contradiction, CountSystem, propagate
from dbrecon.recon.tract.model import Model

FORMAT = 1
PROOF_BUDGET = 4
"""How many times the steps of the search a proof may take that is written down."""
MOST = 1 << 48  # of a multiplier, so that sums of them stay within 64 bits
ENDS = {"least": 1, "most": -1}


@dataclass(frozen=True)
class ClaimBounds:
    """In every data set with the tables there are at least ``least`` and at most ``most`` such people: proved. ``seen_least`` and
    ``seen_most`` are numbers that occur; where they differ from the proved ones the search was not closed."""

    claim: Claim
    least: int
    most: int
    seen_least: int
    seen_most: int
    certificate: dict[str, Any]

    @property
    def verdict(self) -> str:
        """What that means for the claim: true in every data set, in none, in some but not all, or not settled."""
        if self.least >= self.claim.quantity:
            return "true in every data set with these tables"
        if self.most < self.claim.quantity:
            return "false in every data set with these tables"
        if self.seen_least < self.claim.quantity <= self.seen_most:
            return "true in some data sets with these tables, false in others"
        return "not settled within the budget"


def columns_of(model: Model, claim: Claim) -> IntArray:
    """Return the variables that count the people whom a claim is about. The model's bins must not cut the claim's ages."""
    sex, age, race, hisp = model.bins.split(model.kind)
    inside = claim.sex[sex] & claim.age[model.bins.first[age]] & claim.race[race - 1] & claim.hisp[hisp]
    if len(claim.geoid) > 11:
        inside &= model.blocks[model.block] == int(claim.geoid) % BLOCKS_PER_TRACT
    return np.flatnonzero(inside)


def bins_for(claim: Claim, bins: AgeBins) -> AgeBins:
    """Return the bins of a program that tells apart what a claim does."""
    return bins.refined(AgeBins(claim.age_edges))


def bound_claim(model: Model, counts: IntArray, claim: Claim, budget: Budget) -> ClaimBounds:
    """Return the least and the most people whom a claim is about, over all solutions, of which ``counts`` is one."""
    system = CountSystem.of_model(model)
    lower, upper = bounds(system)
    columns = columns_of(model, claim)
    parts = list(split(system, lower, upper, counts))
    proved: dict[str, int] = {}
    seen: dict[str, int] = {}
    certificate: dict[str, Any] = {"format": FORMAT, "claim": claim.text, "tract": model.geoid, "bins": list(model.bins.starts)}
    for end, sign in ENDS.items():
        witness, total, proofs = counts.copy(), int(counts[columns].sum()), []
        for part_columns, objective, part in _concerned(parts, columns, sign):
            found = minimise(part, objective, replace(budget, checks=0))  # no word of the solver's in a proof
            total += sign * found.lower - int(counts[part_columns][objective.columns].sum())
            witness[part_columns] = found.witness
            steps = prove(part, objective, found.lower, replace(budget, tree=PROOF_BUDGET * budget.tree))
            proofs.append({"value": found.lower, "steps": None if steps is None else [_step_text(step) for step in steps]})
        proved[end], seen[end] = total, int(witness[columns].sum())
        certificate[end] = {"proved": total, "seen": seen[end], "witness": _witness_text(model, witness), "proofs": proofs}
    return ClaimBounds(claim, proved["least"], proved["most"], seen["least"], seen["most"], certificate)


def _concerned(parts: Sequence[tuple[IntArray, Part]], columns: IntArray, sign: int) -> Iterator[tuple[IntArray, Objective, Part]]:
    """Yield the parts that have some of the columns: their own columns, what to minimise in them, and the part."""
    for part_columns, part in parts:
        inside = np.flatnonzero(np.isin(part_columns, columns))
        if len(inside):
            yield part_columns, Objective.total(inside, sign), part


def _step_text(step: ProofStep) -> dict[str, Any]:
    rows = np.flatnonzero(step.multipliers)
    text: dict[str, Any] = {"y": [[int(row), int(step.multipliers[row])] for row in rows]}
    if step.empty:
        text["empty"] = True
    if step.cut is not None:
        text["cut"] = list(step.cut)
    return text


def _witness_text(model: Model, counts: IntArray) -> list[list[int]]:
    filled = np.flatnonzero(counts)
    return [[int(model.blocks[model.block[j]]), int(model.kind[j]), int(counts[j])] for j in filled]


def check_certificate(model: Model, claim: Claim, certificate: dict[str, Any], source: str) -> tuple[int, int]:
    """Return the least and the most that a certificate proves, after every step has been checked in integers, without a solver.

    ``model`` is the claim's program. Raises VerificationError, naming ``source`` and what is wrong.
    """
    system = CountSystem.of_model(model)
    lower, upper = bounds(system)
    columns = columns_of(model, claim)
    for name, value in (("format", FORMAT), ("tract", model.geoid), ("bins", list(model.bins.starts))):
        if certificate.get(name) != value:
            raise VerificationError(f"{source}: its {name} cannot be that of a certificate of this claim")
    try:
        found = [_check_end(model, system, lower, upper, columns, certificate[end], ENDS[end], source) for end in ENDS]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise VerificationError(f"{source}: is no whole certificate ({type(error).__name__}: {error})") from error
    return found[0], found[1]


def _check_end(
    model: Model,
    system: CountSystem,
    lower: IntArray,
    upper: IntArray,
    columns: IntArray,
    end: dict[str, Any],
    sign: int,
    source: str,
) -> int:
    what = "least" if sign > 0 else "most"
    witness = _witness(model, end["witness"], source)
    if (witness < lower).any() or (witness > upper).any() or not system.meets(witness):  # within bounds no sum overflows
        raise VerificationError(f"{source}: the solution that has the {what} does not meet the published counts")
    if int(witness[columns].sum()) != _whole(end["seen"]):
        raise VerificationError(f"{source}: the solution that has the {what} has {int(witness[columns].sum())}, not {end['seen']}")
    total = int(witness[columns].sum())
    proofs = iter(end["proofs"])
    for part_columns, objective, part in _concerned(list(split(system, lower, upper, witness)), columns, sign):
        proof = next(proofs, None)
        if proof is None or proof["steps"] is None:
            raise VerificationError(f"{source}: a part of the {what} is not proved")
        if not holds(part, objective, _whole(proof["value"]), proof["steps"]):
            raise VerificationError(f"{source}: the proof of the {what} does not hold")
        total += sign * proof["value"] - int(witness[part_columns][objective.columns].sum())
    if next(proofs, None) is not None:
        raise VerificationError(f"{source}: has more proofs of the {what} than there are parts")
    if total != _whole(end["proved"]):
        raise VerificationError(f"{source}: its parts prove {total} for the {what}, not {end['proved']}")
    return total


def _whole(value: Any, below: int | None = None) -> int:
    """Return a value that is a whole number (with ``below``, one from 0 up to it). Raises TypeError for others, floats and booleans
    too, ValueError."""
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    if below is not None and not 0 <= value < below:
        raise ValueError(f"{value} is not from 0 to {below - 1}")
    return value


def _witness(model: Model, text: Sequence[Sequence[int]], source: str) -> IntArray:
    number = {(int(model.blocks[b]), int(kind)): j for j, (b, kind) in enumerate(zip(model.block, model.kind, strict=True))}
    counts = np.zeros(model.n_variables, np.int64)
    for block, kind, count in text:
        if (block, kind) not in number:
            raise VerificationError(f"{source}: a solution has people of kind {kind} in block {block:04d}, whom the tables forbid")
        counts[number[block, kind]] += _whole(count)
    return counts


def holds(part: Part, objective: Objective, least: int, steps: Sequence[dict[str, Any]]) -> bool:
    """Return whether the steps prove that an objective is nowhere below ``least`` over a part's solutions. Raises ValueError,
    TypeError or KeyError for what is no step."""
    system = part.system
    stack = [(part.lower, part.upper)]
    for step in steps:
        if not stack:
            return False
        lower, upper = stack.pop()
        multipliers = _multipliers(step["y"], system.n_rows)
        if step.get("empty"):
            if not is_empty(system, lower, upper, multipliers):
                return False
            continue
        bound = bound_of(system, lower, upper, objective, multipliers)
        if bound is None:
            return False
        if bound.whole >= least:
            continue
        try:
            lower, upper = propagate(system, *tightened(bound, least - 1, lower, upper))
        except Contradiction:
            continue
        if step.get("cut") is None:
            return False
        column, most = _whole(step["cut"][0], system.n_columns), _whole(step["cut"][1])
        if not lower[column] <= most < upper[column]:  # what is no cut would widen the bounds until sums overflow
            return False
        stack += halves(system, lower, upper, column, most, bool(step["cut"][2]))
    return not stack


def _multipliers(pairs: Sequence[Sequence[Any]], n_rows: int) -> IntArray:
    """(rows,) the multipliers that a step names."""
    multipliers = np.zeros(n_rows, np.int64)
    for row, value in pairs:
        if abs(_whole(value)) > MOST:
            raise ValueError(f"the multiplier {value} is too large")
        multipliers[_whole(row, n_rows)] = value
    return multipliers
