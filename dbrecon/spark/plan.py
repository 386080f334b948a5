"""What a Spark run has to do, in groups of tracts of one county whose predicted costs are alike."""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import LP, NEW, QUARANTINED, SOLVED, Claim
from dbrecon.node.assignment import Assignment
from dbrecon.node.memory import MIB_PER_PERSON, WORKER_MIB

# Measured with bench/spark.py: seconds of a tract's steps 3 and 4, and of reading a county's two files, by people.
SECONDS_PER_TRACT, SECONDS_PER_PERSON = 0.02, 4e-5
READ_SECONDS_PER_PERSON = 4e-7
WRITE_SECONDS_PER_PERSON = 1e-5
COUNTY_FILE_BYTES_PER_PERSON = 60

GROUP_SECONDS = 6.0
"""No group is planned to take longer, a single tract or a county apart: what a lost executor has to do again."""
GROUPS_PER_SLOT = 8
LEAST_SECONDS = 1.0
READS_WORTH = 5.0


@dataclass(frozen=True)
class People:
    """A range of tracts' populations; None is no bound."""

    least: int | None = None
    most: int | None = None

    def __contains__(self, pop: object) -> bool:
        return isinstance(pop, int) and (self.least is None or pop >= self.least) and (self.most is None or pop <= self.most)


@dataclass(frozen=True)
class CountyWork:
    """A county's tracts that are to be done, as the ledger had them. ``pop`` is the whole county's."""

    stusab: str
    county: str
    tracts: tuple[tuple[str, int], ...]
    pop: int

    @property
    def cost(self) -> float:
        """Predicted seconds on one core."""
        return sum(tract_cost(pop) for _, pop in self.tracts)


def tract_cost(pop: int) -> float:
    """Return predicted seconds of a tract's steps 3 and 4."""
    return SECONDS_PER_TRACT + SECONDS_PER_PERSON * pop


def county_cost(pop: int) -> float:
    """Return predicted seconds of a county's step 5."""
    return SECONDS_PER_TRACT + WRITE_SECONDS_PER_PERSON * pop


def make_plan(
    ledger: Ledger, experiment: Experiment, assignment: Assignment, people: People, force: bool = False
) -> list[CountyWork]:
    """Everything in the assignment that steps 3 and 4 have not done (with ``force``: that they may do again), whoever may hold it
    just now; costliest county first."""
    wanted = {status for step, status in ((3, NEW), (4, LP)) if step in assignment.steps}
    if wanted and force:
        wanted = {NEW, LP, SOLVED, QUARANTINED}
    place = assignment.place
    states = [place.stusab] if place.stusab else ledger.stusabs(experiment.reident)
    plan = []
    for stusab in states if wanted else []:
        todo: dict[str, list[tuple[str, int]]] = defaultdict(list)
        pops: dict[str, int] = defaultdict(int)
        for state in ledger.tract_states(experiment.reident, stusab, place.county):
            pops[state.county] += state.pop
            if state.status in wanted and state.pop in people and place.covers(stusab, state.county, state.tract):
                todo[state.county].append((state.tract, state.pop))
        plan += [CountyWork(stusab, county, tuple(tracts), pops[county]) for county, tracts in todo.items()]
    return sorted(plan, key=lambda work: (-work.cost, work.stusab, work.county))


def need_mib(plan: Sequence[CountyWork]) -> float:
    """Return the memory that one task may take at most: the biggest tract's program, and its county's tables."""
    biggest = max((pop for work in plan for _, pop in work.tracts), default=0)
    county = max((work.pop for work in plan), default=0)
    return WORKER_MIB + MIB_PER_PERSON * biggest + county * COUNTY_FILE_BYTES_PER_PERSON / 2**20


def group_seconds(cost: float, slots: int) -> float:
    """Return how long a group should take when ``cost`` seconds of work are left: several groups a slot, the last ones small."""
    return min(GROUP_SECONDS, max(LEAST_SECONDS, cost / (GROUPS_PER_SLOT * slots)))


def grouped(claims: Sequence[Claim], seconds: float, county_pop: int) -> list[list[Claim]]:
    """Return claims of one county in groups of about ``seconds``, each near the others in cost, costliest tract first.

    A group reads its county's files once; where that is long, groups are larger.
    """
    seconds = max(seconds, READS_WORTH * READ_SECONDS_PER_PERSON * county_pop)
    total = sum(tract_cost(claim.pop) for claim in claims)
    number = max(1, min(len(claims), round(total / seconds)))
    groups: list[list[Claim]] = [[] for _ in range(number)]
    loads = [(0.0, index) for index in range(number)]
    for claim in sorted(claims, key=lambda claim: (-claim.pop, claim.tract)):
        load, index = loads[0]
        groups[index].append(claim)
        heapq.heapreplace(loads, (load + tract_cost(claim.pop), index))
    return groups
