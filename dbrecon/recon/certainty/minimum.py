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
    """Return the least value of an objective over a part's integer solutions: proved by our own tree, else on HiGHS's word, else an
    interval. A ``floor`` that a solution reaches ends the search."""
    last_step = part.steps + budget.tree
    has_clusters = bool((part.labels.narrow[objective.columns[objective.bent(part.lower, part.upper)]] >= 0).any())
    found = Search(part, objective, last_step, floor=floor).run(most_nodes=1 if has_clusters else MOST_NODES)
    if found.proof is not Proof.OPEN:
        return found
    clusters = Clusters(part, objective)
    if clusters.members:
        found = _with_clusters(part, objective, clusters, last_step, floor)
    if found.proof is not Proof.OPEN or not budget.checks:
        return found
    return _by_mip(part, objective, clusters, budget.checks, found, floor)


def _with_clusters(part: Part, objective: Objective, clusters: Clusters, last_step: int, floor: Floor | None) -> Minimum:
    by_block = ClusterSearch(part, objective, clusters, last_step, floor=floor)
    if not (part.labels.wide >= 0).any():
        return by_block.run()
    found = by_block.run(most_nodes=NODES_BY_BLOCK)
    if found.proof is not Proof.OPEN or part.steps >= last_step:
        return found
    return ClusterSearch(part, objective, WideClusters(clusters), last_step, floor=floor).run()


def _by_mip(part: Part, objective: Objective, clusters: Clusters, checks: int, found: Minimum, floor: Floor | None) -> Minimum:
    """Return what HiGHS's branch and cut makes of a minimum that is not closed."""
    target = None if floor is None else floor.value
    floors = clusters.known_floors()
    answer = solve_mip(part.system, part.lower, part.upper, objective, found.witness, checks, target, floors)
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
