"""The API's answers as JSON: what each path tells, made from the dashboard's queries (``openapi`` describes them)."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache, partial
from typing import Any

from dbrecon.console.place_results import census_of, certainty_of_county, evaluation_of, results_of_county, results_of_tract
from dbrecon.console.status_report import FILES
from dbrecon.ctools import storage
from dbrecon.dashboard.static_files import load_files
from dbrecon.errors import DBReconError, StorageError
from dbrecon.experiment import Experiment
from dbrecon.ledger.readings import DashboardReader, NothingThere, Overview
from dbrecon.ledger.records import LP, NEW, QUARANTINED, SOLVED, WRITTEN, Quarantine, Status
from dbrecon.remedies import sentence
from dbrecon.settings import Config
from dbrecon.states import STATES

Json = dict[str, Any]

VERSION = 1
SHOWN = 50  # tracts of each list in an experiment's own answer; /running and /quarantined have more
LISTED = 1000
ERRORS_LISTED = 50
SAME_MOMENT = 1.0  # seconds
FILES_AT_ONCE = 8
RESULTS_KEPT = 200  # counties whose people have been counted
NO_EVALUATION: Json = {"evaluation": None, "evaluation_problem": None}
NO_RESULTS: Json = {"pyramid": None, "certainty": None, "problem": None} | NO_EVALUATION
MINUTE, HOUR, DAY = 60, 3600, 86400
STEPS = (MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 7 * DAY, 30 * DAY)
INTERVALS = 72
RANGES: dict[str, int | None] = {"1h": HOUR, "6h": 6 * HOUR, "1d": DAY, "7d": 7 * DAY, "all": None}


class Views:
    """Every answer of the API. Each method makes one, from one reading of the database or the storage."""

    def __init__(self, reader: DashboardReader, config: Config) -> None:
        self._reader, self._config = reader, config
        self._counties: dict[str, tuple[float, tuple[int, list[Json]]]] = {}
        self._counties_lock = threading.Lock()
        self._certainty: dict[tuple[str, str, str], tuple[int, Json]] = {}
        self._results: dict[tuple[str, str, str], tuple[tuple[int | None, int | None], Json]] = {}

    def experiments(self) -> Json:
        """Return all experiments."""
        at, rows = self._reader.experiments()
        return {"version": VERSION, "at": at, "experiments": rows}

    def experiment(self, reident: str) -> Json:
        """Return one experiment: everything that --status tells."""
        return _experiment(reident, self._reader.overview(reident))

    def page(self, reident: str, span: str) -> Json:
        """Return all that the experiment's page shows, of one moment, so that no figure belies another."""
        page = self._reader.page(reident, RANGES[span], STEPS, INTERVALS, ERRORS_LISTED)
        start, step, rows = page.throughput
        counties = [_county(row) for row in page.counties]
        return _experiment(reident, page.overview) | {
            "throughput": {"range": span, "start": start, "step": step, "rows": rows},
            "hosts": _with_state(page.hosts),
            "errors": page.errors,
            "state_list": _states(page.counties),
            "state_names": _state_names(counties),
            "counties": counties,
        }

    def running(self, reident: str) -> Json:
        """Return tracts under a live lease, held for longest first."""
        status = self._reader.overview(reident).status
        found = _running(status)
        return {"version": VERSION, "at": status.now, "reident": reident, "total": len(found), "running": found[:LISTED]}

    def quarantined(self, reident: str) -> Json:
        """Return tracts and counties in quarantine."""
        status = self._reader.overview(reident).status
        total = status.quarantined_tracts + status.quarantined_counties
        listed = [_quarantine(unit) for unit in status.quarantined[:LISTED]]
        return {"version": VERSION, "at": status.now, "reident": reident, "total": total, "quarantine": listed}

    def throughput(self, reident: str, span: str) -> Json:
        """Return files over time by host; ``span`` is one of RANGES."""
        at, start, step, rows = self._reader.throughput(reident, RANGES[span], STEPS, INTERVALS)
        return {"version": VERSION, "at": at, "reident": reident, "range": span, "start": start, "step": step, "rows": rows}

    def hosts(self, reident: str) -> Json:
        """Return the hosts, with the past hour's history."""
        at, hosts = self._reader.hosts(reident)
        return {"version": VERSION, "at": at, "reident": reident, "hosts": _with_state(hosts)}

    def errors(self, reident: str, limit: int) -> Json:
        """Return the newest errors."""
        at, errors = self._reader.errors(reident, limit)
        return {"version": VERSION, "at": at, "reident": reident, "errors": errors}

    def error(self, reident: str, number: int) -> Json:
        """Return one error with its stack."""
        at, error = self._reader.error(reident, number)
        return {"version": VERSION, "at": at, "reident": reident, "error": error}

    def states(self, reident: str) -> Json:
        """Return the states, summed up from their counties."""
        at, counties = self._county_rows(reident)
        return {"version": VERSION, "at": at, "reident": reident, "states": _states(counties)}

    def counties(self, reident: str, stusab: str | None) -> Json:
        """Return the counties, of one state if given."""
        at, rows = self._county_rows(reident)
        counties = [_county(row) for row in rows if stusab in (None, row["stusab"])]
        if stusab is not None and not counties:
            raise NothingThere(f"{reident} has no state {stusab}; see its states for those there are")
        names = _state_names(counties)
        shapes = census_of(self._reader.product(reident))["county_shapes"]
        return {
            "version": VERSION,
            "at": at,
            "reident": reident,
            "county_shapes": shapes,
            "state_names": names,
            "counties": counties,
        }

    def county(self, reident: str, stusab: str, county: str) -> Json:
        """Return one county with its tracts."""
        at, row, tracts = self._reader.county(reident, stusab, county)
        row["geoid"] = row.pop("state") + county
        row["name"] = _name(row["geoid"], row["name"])
        return {"version": VERSION, "at": at, "reident": reident, "county": row, "tracts": tracts}

    def tract(self, reident: str, stusab: str, county: str, tract: str) -> Json:
        """Return one tract with its errors."""
        at, row, errors = self._reader.tract(reident, stusab, county, tract)
        row["geoid"] = STATES[stusab].fips + county + tract
        return {"version": VERSION, "at": at, "reident": reident, "tract": row, "errors": errors}

    def certainty(self, reident: str) -> Json:
        """Return the sums of certainty of each county where it is known. Each county's file is read once for each time it was
        written."""
        at, since = self._reader.certain_since(reident)
        experiment, found, unread = self._experiment(reident), [], 0
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            wanted = sorted(since)
            for (stusab, county), sums in zip(wanted, pool.map(partial(self._sums, experiment, since), wanted), strict=True):
                place = {"geoid": STATES[stusab].fips + county, "stusab": stusab, "county": county}
                if sums is None:
                    unread += 1
                else:
                    found.append(place | sums)
        return {"version": VERSION, "at": at, "reident": reident, "counties": found, "unread": unread}

    def _sums(self, experiment: Experiment, since: dict[tuple[str, str], int], place: tuple[str, str]) -> Json | None:
        key = (experiment.reident, *place)
        if self._certainty.get(key, (None, None))[0] != since[place]:
            try:
                self._certainty[key] = (since[place], certainty_of_county(experiment, *place))
            except DBReconError:
                return None
        return self._certainty[key][1]

    def county_results(self, reident: str, stusab: str, county: str) -> Json:
        """Return a county's people by sex and age, how sure they are, and how many are true, where that is known."""
        at, row, _ = self._reader.county(reident, stusab, county)
        since = self._reader.certain_since(reident)[1].get((stusab, county))
        results = NO_RESULTS | {"tracts": []}
        if row["status"] == WRITTEN:
            key, state = (reident, stusab, county), (row["csv_end"], since)
            if self._results.get(key, (None, None))[0] != state:
                while len(self._results) >= RESULTS_KEPT:
                    self._results.pop(next(iter(self._results)))
                found = results_of_county(self._experiment(reident), stusab, county, since is not None)
                self._results[key] = (state, found)
            results = self._results[key][1] | self._evaluation(reident, stusab, county)
        place = self._reader.unit(reident, stusab, county)
        return {"version": VERSION, "at": at, "reident": reident, "place": place, **results}

    def tract_results(self, reident: str, stusab: str, county: str, tract: str) -> Json:
        """Return the same of a tract."""
        at, row, _ = self._reader.county(reident, stusab, county)
        self._reader.tract(reident, stusab, county, tract)
        certain = (stusab, county) in self._reader.certain_since(reident)[1]
        results = NO_RESULTS
        if row["status"] == WRITTEN:
            results = results_of_tract(self._experiment(reident), stusab, county, tract, certain)
            results |= self._evaluation(reident, stusab, county, tract)
        place = self._reader.unit(reident, stusab, county, tract)
        return {"version": VERSION, "at": at, "reident": reident, "place": place, **results}

    def _evaluation(self, reident: str, stusab: str, county: str, tract: str | None = None) -> Json:
        digest = self._reader.people_digest(reident, stusab, county)
        return evaluation_of(self._experiment(reident), stusab, county, tract, digest)

    def county_files(self, reident: str, stusab: str, county: str) -> Json:
        """Return the files of a county: are they there, and how big."""
        at, row, _ = self._reader.county(reident, stusab, county)
        experiment = self._experiment(reident)
        kinds: list[tuple[str, Callable[..., str]]] = [
            ("sf1_block", experiment.block_csv),
            ("sf1_tract", experiment.tract_csv),
            ("synth_out", experiment.synth_out),
            ("certainty", experiment.certainty),
            ("people_certainty", experiment.people_certainty),
            ("evaluation", experiment.evaluation),
        ]
        files = _files((name, path(row["stusab"], county)) for name, path in kinds)
        return {"version": VERSION, "at": at, "reident": reident, "files": files}

    def tract_files(self, reident: str, stusab: str, county: str, tract: str) -> Json:
        """Return the files of a tract."""
        at, row, _ = self._reader.tract(reident, stusab, county, tract)
        experiment = self._experiment(reident)
        kinds: list[tuple[str, Callable[..., str]]] = [("lp", experiment.lp), ("sol", experiment.sol), ("ilp", experiment.ilp)]
        files = _files((name, path(row["stusab"], county, tract)) for name, path in kinds)
        return {"version": VERSION, "at": at, "reident": reident, "files": files}

    def _county_rows(self, reident: str) -> tuple[int, list[Json]]:
        """Return what the reader tells of all counties, kept for a moment: pages ask for states and counties at once."""
        with self._counties_lock:
            read, rows = self._counties.get(reident, (float("-inf"), (0, [])))
            if time.monotonic() - read > SAME_MOMENT:
                rows = self._reader.counties(reident)
                self._counties = {reident: (time.monotonic(), rows)}
            return rows

    def _experiment(self, reident: str) -> Experiment:
        return Experiment.make(reident, self._config, product=self._reader.product(reident))


_SUMMED = (
    "tracts",
    "pop",
    "people_solved",
    "people_quarantined",
    "tracts_running",
    *(f"tracts_{status}" for status in (NEW, LP, SOLVED, QUARANTINED)),
)


def _experiment(reident: str, overview: Overview) -> Json:
    """Return everything that --status tells."""
    status = overview.status
    running = _running(status)
    return {
        "version": VERSION,
        "at": status.now,
        "reident": reident,
        "tables": overview.tables,
        "product": overview.product,
        **census_of(overview.product),
        "created": overview.created,
        "states": list(overview.states),
        "completed_states": list(status.completed_states),
        "files": {name: getattr(status, name) for name in FILES},
        "people": _people(status),
        "quarantined": {"tracts": status.quarantined_tracts, "counties": status.quarantined_counties},
        "cost": _cost(overview),
        "past_hour": {"lp": dict(status.lps_past_hour), "sol": dict(status.sols_past_hour)},
        "running_tracts": len(running),
        "running": running[:SHOWN],
        "slowest": overview.slowest,
        "quarantine": [_quarantine(unit) for unit in status.quarantined[:SHOWN]],
    }


def _with_state(hosts: list[Json]) -> list[Json]:
    """Return the hosts with what they do: working, idle, lost (silent, with tracts) or left (silent, without)."""
    for host in hosts:
        silent, holds = host.pop("silent"), host["tracts_held"] or host["tracts_locked"]
        host["state"] = ("lost" if holds else "left") if silent else ("working" if host["tracts_held"] else "idle")
    return hosts


def _states(counties: Iterable[Json]) -> list[Json]:
    """Return the states of counties as the reader tells them, by their two letters."""
    states: dict[str, Json] = {}
    for county in counties:
        stusab = county["stusab"]
        state = states.setdefault(stusab, _new_state(stusab))
        state["counties"] += 1
        state["counties_written"] += county["status"] == WRITTEN
        state["counties_with_people"] += county["pop"] > 0
        for name in _SUMMED:
            state[name] += county[name]
    return [states[stusab] for stusab in sorted(states)]


def _state_names(counties: Iterable[Json]) -> dict[str, str]:
    return {code: STATES[code].name for code in sorted({county["stusab"] for county in counties})}


def _new_state(stusab: str) -> Json:
    counts = {"counties": 0, "counties_with_people": 0, "counties_written": 0, **dict.fromkeys(_SUMMED, 0)}
    return {"stusab": stusab, "state": STATES[stusab].fips, "name": STATES[stusab].name, **counts}


def _county(row: Json) -> Json:
    geoid = row["state"] + row["county"]
    return {"geoid": geoid} | {name: value for name, value in row.items() if name != "state"} | {"name": _name(geoid, row["name"])}


def _name(geoid: str, published: str) -> str:
    """Return a county's name as published, or the map's where the published one is its number."""
    if published and not re.fullmatch(r"County \d{3}", published):
        return published
    return _map_names().get(geoid, published)


@cache
def _map_names() -> dict[str, str]:
    """Return names by SSCCC, from the package that has the map's shapes."""
    names: dict[str, str] = json.loads(load_files()["vendor/county_names.json"].body)
    return names


def _people(status: Status) -> Json:
    return {
        "total": status.people,
        "solved": status.people_solved,
        "quarantined": status.people_quarantined,
        "per_hour": status.people_per_hour,
        "seconds_left": status.seconds_left,
        "at_work": status.at_work,
    }


def _cost(overview: Overview) -> Json:
    seconds = overview.processor_seconds
    return {f"{step}_processor_seconds": value for step, value in seconds.items()} | {
        "processor_hours": sum(seconds.values()) / HOUR
    }


def _running(status: Status) -> list[Json]:
    steps = (("lp", status.lps_in_progress), ("sol", status.sols_in_progress))
    found = [asdict(unit) | {"step": step} for step, running in steps for unit in running]
    return sorted(found, key=lambda unit: (unit["since"], unit["stusab"], unit["county"], unit["tract"]))


def _quarantine(unit: Quarantine) -> Json:
    """With the first line of its error; the tract's own answer has all of it."""
    lines = unit.error.strip().splitlines()
    return asdict(unit) | {"error": lines[0][:400] if lines else ""}


def _files(paths: Iterable[tuple[str, str]]) -> list[Json]:
    """Name, path, and size in bytes (None where the file is not there) of each; ``problem`` where the storage does not tell."""
    found: list[Json] = []
    for name, path in paths:
        size, problem = None, None
        try:
            if storage.exists(path):
                size = storage.size(path)
        except StorageError as error:
            problem = sentence(error)
        found.append({"name": name, "path": path, "bytes": size, "problem": problem})
    return found
