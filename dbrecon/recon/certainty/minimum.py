"""The least of an objective over all integer counts that fit: what closes most first, what closes the rest last."""

from dbrecon.recon.certainty.cluster_search import ClusterSearch, WideClusters
from dbrecon.recon.certainty.clusters import Clusters
from dbrecon.recon.certainty.mip import solve_mip
from dbrecon.recon.certainty.objective import Objective
from dbrecon.recon.certainty.part import Part
from dbrecon.recon.certainty.search import MOST_NODES, Budget, Floor, Minimum, Proof, Search

STEPS_A_CHECK = 50
"""What HiGHS's branch and cut does between two checks, in simplex steps: for the accounts of a tract."""

NODES_BY_BLOCK = 12
"""Pieces of a search that are looked at before floors of the whole tract are computed."""


def minimise(part: Part, objective: Objective, budget: Budget, floor: Floor | None = None) -> Minimum:
    """The least value of an objective over a part's integer solutions: proved by our own tree, else on HiGHS's word, else an
    interval. A ``floor`` that a solution reaches ends the search."""
    clusters = Clusters(part, objective)
    found = _search(part, objective, clusters, part.steps + budget.tree, floor)
    if found.proof is not Proof.OPEN or not budget.checks:
        return found
    target = None if floor is None else floor.value
    floors = clusters.known_floors()
    answer = solve_mip(part.system, part.lower, part.upper, objective, found.witness, budget.checks, target, floors)
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


def _search(part: Part, objective: Objective, clusters: Clusters, last_step: int, floor: Floor | None) -> Minimum:
    first = Search(part, objective, last_step, floor=floor)
    found = first.run(most_nodes=1 if clusters.members else MOST_NODES)
    if found.proof is not Proof.OPEN or not clusters.members:
        return found
    by_block = ClusterSearch(part, objective, clusters, last_step, floor)
    if not (part.labels.wide >= 0).any():
        return by_block.run()
    found = by_block.run(most_nodes=NODES_BY_BLOCK)
    if found.proof is not Proof.OPEN or part.steps >= last_step:
        return found
    return ClusterSearch(part, objective, WideClusters(clusters), last_step, floor).run()
