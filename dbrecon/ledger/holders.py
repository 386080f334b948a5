"""Who holds work, and which hosts are heard of: the one rule by which a host counts as gone. For ``dbrecon.ledger`` alone."""

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import Connection, func, select

from dbrecon.ledger.claiming import by_index
from dbrecon.ledger.lifecycle import LEASED
from dbrecon.ledger.records import Beats, Claimant, Holder, Worker
from dbrecon.ledger.schema import ExperimentTables, sysload


def claimants(connection: Connection, tables: ExperimentTables) -> list[Claimant]:
    """Return everyone who holds something."""
    found: dict[tuple[str, str], list[int]] = {}
    for slot, table in ((0, tables.tracts), (1, tables.counties), (0, tables.certainty), (2, tables.states)):
        columns = (table.c.claimed_host, table.c.claimed_by)
        query = select(*columns, func.count(), func.max(table.c.hold_ends), func.max(table.c.claimed_at))
        query = query.where(table.c.hold == LEASED).group_by(*columns)
        query = query if table is tables.states else by_index(query, table, "hold")
        for host, claimed_by, number, lease_end, claimed_at in connection.execute(query):
            sums = found.setdefault((host, claimed_by), [0, 0, 0, 0, 0])
            sums[slot] += number
            sums[3:] = [max(sums[3], lease_end), max(sums[4], claimed_at)]
    return [Claimant(Worker(host, by[len(host) + 1 :]), *sums) for (host, by), sums in sorted(found.items())]


def last_reports(connection: Connection, hosts: Iterable[str]) -> dict[str, int]:
    """Return when each of the hosts reported its load last; those that never did are left out."""
    names = list(hosts)
    if not names:
        return {}
    query = select(sysload.c.host, func.max(sysload.c.at)).where(sysload.c.host.in_(names)).group_by(sysload.c.host)
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def holders(connection: Connection, tables: ExperimentTables, now: int, beats: Beats) -> list[Holder]:
    """Every host that holds something, and when it was heard of: by a report, by a claim, or by the heartbeat that gave
    its lease."""
    by_host: dict[str, list[Claimant]] = defaultdict(list)
    for claimant in claimants(connection, tables):
        by_host[claimant.worker.host].append(claimant)
    reports = last_reports(connection, by_host)
    found = []
    for host, members in sorted(by_host.items()):
        end = max(member.lease_end for member in members)
        heard_at = max(end - beats.lease_seconds, reports.get(host, 0), *(member.claimed_at for member in members))
        tracts, counties = sum(member.tracts for member in members), sum(member.counties for member in members)
        states = sum(member.states for member in members)
        found.append(Holder(host, tracts, counties, end, heard_at, is_silent(heard_at, now, beats), states))
    return found


def is_silent(heard_at: int | None, now: int, beats: Beats) -> bool:
    """Return whether a host that was heard of then (None: never) counts as gone."""
    return heard_at is None or now - heard_at > beats.silence_seconds
