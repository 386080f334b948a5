"""The dealing of years that makes the most expected matches: a transportation problem, solved exactly for all groups at once.

A group of N people has ``p_a`` of each age a; its members are entries (people of a block who are alike but for the year) of n
people. If the years were dealt by lot, an entry of n would have X_a people of age a, hypergeometric; giving it k_a of them makes
sum over a of E min(k_a, X_a) matches on average. Entries of one size are interchangeable and gains fall with every further person
of an age, so what counts is how many years of each age a *size* gets: K of them, spread over its m entries as evenly as can be. The
gain of the next one is P(X_a >= K // m + 1). So: sizes are sources, ages are sinks, costs are convex: a minimum-cost flow with few
nodes, found by cancelling negative cycles, which ends at an optimum. Gains are rounded to multiples of 2^-40 and summed as
integers.

Ties: the flow begins with the proportional one that the even deal gives, the most negative exchange of two ages is taken first (of
equal ones the first in the order of ages and sizes), longer cycles when there is none.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbrecon.recon.census.factorials import log_factorial
from dbrecon.recon.census.kinds import IntArray

SCALE = 2.0**40
FORBIDDEN = np.int64(1) << 50
"""More than any sum of gains that can be had."""

MOST_ELEMENTS = 1 << 20
"""Of the gains that are held at once."""


@dataclass(frozen=True)
class Flows:
    """Transportation problems of one number of ages, padded to one number of sizes.

    ``size`` (g, s) people of an entry, 0 for padding; ``entries`` (g, s) how many such entries there are; ``ages`` (g, a) people of
    each age; ``flow`` (g, s, a) how many years each size has: rows sum to size x entries, columns to ages.
    """

    size: IntArray
    entries: IntArray
    ages: IntArray
    flow: IntArray


def gains(size: IntArray, ages: IntArray) -> IntArray:
    """Return (g, s, a, most + 1) what the j-th person of an age adds to an entry's expected matches, P(X >= j), in units of 2^-40.

    ``size`` (g, s), ``ages`` (g, a); ``most`` is the largest size.
    """
    most = int(size.max(initial=0))
    total = ages.sum(axis=1)[:, None, None, None]
    n, p = size[:, :, None, None], ages[:, None, :, None]
    x = np.arange(most + 1)
    possible = (x <= n) & (x <= p) & (n - x <= total - p)

    def log_choose(above: IntArray, below: IntArray) -> npt.NDArray[np.float64]:
        return log_factorial(above) - log_factorial(below) - log_factorial(above - below)

    safe = np.where(possible, x, np.maximum(0, n - (total - p)))
    log_p = log_choose(p, safe) + log_choose(total - p, n - safe) - log_choose(total, n)
    density = np.where(possible, np.exp(log_p), 0.0)
    at_least = np.cumsum(density[..., ::-1], axis=-1)[..., ::-1]
    return np.minimum.accumulate(np.rint(np.minimum(at_least, 1.0) * SCALE).astype(np.int64), axis=-1)


def improve(flows: Flows) -> IntArray:
    """Return (g, s, a) the best flows."""
    flow = flows.flow.copy()
    gain = gains(flows.size, flows.ages)
    active = np.arange(len(flow))
    while len(active):
        active = active[_exchange(flows, gain, flow, active)]
    for group in _with_cycle(flows, gain, flow, np.flatnonzero((flows.ages > 0).sum(axis=1) > 2)).tolist():
        while _cancel_cycle(flows, gain, flow, group):
            while _exchange(flows, gain, flow, np.array([group])).any():
                pass
    return flow


def _with_cycle(flows: Flows, gain: IntArray, flow: IntArray, chosen: IntArray) -> IntArray:
    """Return those of the chosen groups that have a negative cycle."""
    if not len(chosen):
        return chosen
    loss, _, more, _ = _slopes(flows, gain, flow, chosen)
    cost = _costs(loss, more)[0]
    negative = np.zeros(len(chosen), bool)
    nodes = np.arange(cost.shape[1])
    cost[:, nodes, nodes] = 0
    for k in nodes.tolist():
        np.minimum(cost, cost[:, :, k, None] + cost[:, None, k], out=cost)
        negative |= (cost[:, nodes, nodes] < 0).any(axis=1)
        cost[negative] = 0  # settled, and its sums would fall without end
    return chosen[negative]


def _slopes(flows: Flows, gain: IntArray, flow: IntArray, chosen: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """For (chosen groups, s, a): what is lost with the last year, how many can be taken at that; what the next one adds, and how
    many can be added at that."""
    entries = np.maximum(flows.entries[chosen], 1)[:, :, None]
    here, of = flow[chosen], gain[chosen]
    each, over = np.divmod(here, entries)
    size = flows.size[chosen][:, :, None]
    most = gain.shape[-1] - 1
    last = np.where(over > 0, each + 1, each)
    base = np.arange(here.size).reshape(here.shape) * (most + 1)
    loss, more = of.take(base + np.minimum(last, most)), of.take(base + np.minimum(each + 1, most))
    can_lose = np.where(over > 0, over, entries)
    allowed = (each < size) & (flows.ages[chosen][:, None, :] > 0)
    return np.where(here > 0, loss, FORBIDDEN), can_lose, np.where(allowed, more, -FORBIDDEN), entries - over


def _costs(loss: IntArray, more: IntArray) -> tuple[IntArray, IntArray]:
    """Return (g, a, b) the least cost of giving one size a year of b for one of a; and the size."""
    cost = loss[:, :, :, None] - more[:, :, None, :]
    size = cost.argmin(axis=1)
    groups, _, first, second = np.ogrid[[slice(n) for n in cost.shape]]
    return cost[groups[:, 0], size, first[:, 0], second[:, 0]], size


def _exchange(flows: Flows, gain: IntArray, flow: IntArray, chosen: IntArray) -> npt.NDArray[np.bool_]:
    """In each of the chosen groups do the best exchange of two ages between two sizes; which had one."""
    loss, can_lose, more, can_add = _slopes(flows, gain, flow, chosen)
    cost, size = _costs(loss, more)
    both = cost + cost.transpose(0, 2, 1)
    n_ages = both.shape[1]
    best = both.reshape(len(chosen), -1).argmin(axis=1)
    a, b = np.divmod(best, n_ages)
    row = np.arange(len(chosen))
    better = both[row, a, b] < 0
    row, a, b = row[better], a[better], b[better]
    first, second = size[row, a, b], size[row, b, a]
    most = np.minimum(
        np.minimum(can_lose[row, first, a], can_add[row, first, b]), np.minimum(can_lose[row, second, b], can_add[row, second, a])
    )
    group = chosen[row]
    for which, taken, given in ((first, a, b), (second, b, a)):
        np.add.at(flow, (group, which, taken), -most)
        np.add.at(flow, (group, which, given), most)
    return better


def _cancel_cycle(flows: Flows, gain: IntArray, flow: IntArray, group: int) -> bool:
    """In one group cancel a negative cycle of any length (Floyd and Warshall's), if there is one."""
    loss, _, more, _ = _slopes(flows, gain, flow, np.array([group]))
    costs, sizes = _costs(loss, more)
    cost, size = costs[0].copy(), sizes[0]
    n = len(cost)
    np.fill_diagonal(cost, 0)
    step = np.tile(np.arange(n), (n, 1))
    for k in range(n):
        through = cost[:, k, None] + cost[None, k]
        shorter = through < cost
        cost[shorter] = through[shorter]
        step[shorter] = np.broadcast_to(step[:, k, None], (n, n))[shorter]
        if (np.diagonal(cost) < 0).any():
            break
    else:
        return False
    start = int(np.argmin(np.diagonal(cost)))
    walk = [start]
    while len(walk) == 1 or walk[-1] != start:
        walk.append(int(step[walk[-1], start]))
    cycle = min(_cycles(walk), key=lambda nodes: sum(int(costs[0][a, b]) for a, b in _arcs(nodes)))
    for a, b in _arcs(cycle):
        flow[group, size[a, b], a] -= 1
        flow[group, size[a, b], b] += 1
    return True


def _arcs(cycle: list[int]) -> list[tuple[int, int]]:
    return list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))


def _cycles(walk: list[int]) -> list[list[int]]:
    """Return the simple cycles of a closed walk."""
    found: list[list[int]] = []
    path: list[int] = []
    for node in walk:
        if node in path:
            at = path.index(node)
            found.append(path[at:])
            path = path[:at]
        path.append(node)
    return found


@dataclass(frozen=True)
class Sizes:
    """Entries by group and size, ascending: ``group`` (n,), ``size`` (n,) people of each entry, ``entries`` (n,) how many there
    are."""

    group: IntArray
    size: IntArray
    entries: IntArray


def best_flows(sizes: Sizes, flow: IntArray, starts: IntArray, counts: IntArray) -> IntArray:
    """Return (n, ages) how many years of each age each size gets. ``flow`` is where to begin; ages are counted within each group.

    ``counts[starts[g]:starts[g + 1]]`` are the people of each age of group g. Groups whose gains would take too much memory (an
    entry of thousands) keep what ``flow`` has.
    """
    flow = flow.copy()
    n_groups = len(starts) - 1
    first = np.searchsorted(sizes.group, np.arange(n_groups))
    n_sizes = np.bincount(sizes.group, minlength=n_groups)
    n_ages = np.diff(starts)
    filled = np.add.reduceat(np.append(counts > 0, False), starts[:-1]) if n_groups else n_ages
    open_groups = np.flatnonzero((n_sizes > 1) & (filled > 1))
    largest = sizes.size[first[open_groups] + n_sizes[open_groups] - 1]
    width = 4 ** np.ceil(np.log2(n_sizes[open_groups]) / 2).astype(np.int64)
    depth = 4 ** np.ceil(np.log2(largest + 1) / 2).astype(np.int64)
    shapes = np.stack([n_ages[open_groups], width, depth], axis=1)
    for shape in np.unique(shapes, axis=0):
        alike = open_groups[(shapes == shape).all(axis=1)]
        a_group = int(shape.prod())
        for at in range(0, len(alike) if a_group <= MOST_ELEMENTS else 0, max(1, MOST_ELEMENTS // a_group)):
            _improve_alike(sizes, flow, alike[at : at + max(1, MOST_ELEMENTS // a_group)], (first, n_sizes, starts, counts))
    return flow


def _improve_alike(sizes: Sizes, flow: IntArray, groups: IntArray, index: tuple[IntArray, IntArray, IntArray, IntArray]) -> None:
    """Improve the flows of groups that have equally many ages."""
    first, n_sizes, starts, counts = index
    n_ages = int(starts[groups[0] + 1] - starts[groups[0]])
    place = np.arange(int(n_sizes[groups].max()))
    row, column = np.nonzero(place < n_sizes[groups][:, None])
    at = first[groups][row] + column
    size, entries = (np.zeros((len(groups), len(place)), np.int64) for _ in range(2))
    size[row, column], entries[row, column] = sizes.size[at], sizes.entries[at]
    begin = np.zeros((*size.shape, n_ages), np.int64)
    begin[row, column] = flow[at, :n_ages]
    ages = counts[starts[groups][:, None] + np.arange(n_ages)]
    flow[at, :n_ages] = improve(Flows(size, entries, ages, begin))[row, column]
