"""The least of an objective over all integer counts that fit: what closes most first, what closes the rest last."""

from dbrecon.recon.certainty.clusters import Clusters, ClusterSearch
from dbrecon.recon.certainty.mip import solve_mip
from dbrecon.recon.certainty.objective import Objective
from dbrecon.recon.certainty.part import Part
from dbrecon.recon.certainty.search import MOST_NODES, Budget, Floor, Minimum, Proof, Search

STEPS_A_CHECK = 50
"""What HiGHS's branch and cut does between two checks, in simplex steps: for the accounts of a tract."""


def minimise(part: Part, objective: Objective, budget: Budget, floor: Floor | None = None) -> Minimum:
    """The least value of an objective over a part's integer solutions: proved by our own tree, else on HiGHS's word, else an
    interval. A ``floor`` that a solution reaches ends the search."""
    found = _search(part, objective, part.steps + budget.tree, floor)
    if found.proof is not Proof.OPEN or not budget.checks:
        return found
    target = None if floor is None else floor.value
    answer = solve_mip(part.system, part.lower, part.upper, objective, found.witness, budget.checks, target)
    part.steps += answer.checks * STEPS_A_CHECK
    best, witness = found.upper, found.witness
    whole = None if answer.values is None else part.offer(answer.values)
    if whole is not None and int(objective.value(whole)) < best:
        best, witness = int(objective.value(whole)), whole
    if floor is not None and best <= floor.value:
        return Minimum(best, best, max(floor.proof, Proof.MIP_PROVED), witness)
    if answer.finished and answer.bound >= best:
        return Minimum(best, best, Proof.MIP, witness)
    return Minimum(min(found.lower, best), best, Proof.OPEN if found.lower < best else Proof.MIP_PROVED, witness)


def _search(part: Part, objective: Objective, last_step: int, floor: Floor | None) -> Minimum:
    clusters = Clusters(part, objective)
    first = Search(part, objective, last_step, floor=floor)
    found = first.run(most_nodes=1 if clusters.members else MOST_NODES)
    if found.proof is not Proof.OPEN or not clusters.members:
        return found
    return ClusterSearch(part, objective, clusters, last_step, floor).run()
