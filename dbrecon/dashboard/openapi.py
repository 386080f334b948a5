"""The API's description in OpenAPI 3.1, as ``/api/openapi.json`` gives it. Tests hold every answer to it."""

from typing import Any

from dbrecon.console.status_report import FILES
from dbrecon.dashboard.views import RANGES, VERSION
from dbrecon.experiment import MAX_REIDENT
from dbrecon.ledger.records import COUNTY_STATUSES, TRACT_STATUSES

Json = dict[str, Any]

TIME = {"type": "integer", "description": "Unix time (time_t), seconds"}
COUNT = {"type": "integer", "minimum": 0}
NUMBER = {"type": "number", "minimum": 0}
TEXT = {"type": "string"}
STUSAB = {"type": "string", "pattern": "^[a-z]{2}$", "description": "postal code of the state, lower case"}
COUNTY = {"type": "string", "pattern": "^[0-9]{3}$"}
TRACT = {"type": "string", "pattern": "^[0-9]{6}$"}
REIDENT = {"type": "string", "pattern": f"^[A-Za-z][A-Za-z0-9_]{{0,{MAX_REIDENT - 1}}}$", "description": "name of the experiment"}


def maybe(schema: Json) -> Json:
    """Return the schema, or null."""
    return schema | {"type": [schema["type"], "null"]}


def array(schema: Json) -> Json:
    """Return a list of it."""
    return {"type": "array", "items": schema}


def record(fields: Json, **more: Any) -> Json:
    """Return an object with exactly these fields."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False, **more}


def ref(name: str) -> Json:
    """Return a schema of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def either(name: str) -> Json:
    """Return a schema of the components, or null."""
    return {"anyOf": [ref(name), {"type": "null"}]}


def answer(fields: Json, of_experiment: bool = True) -> Json:
    """Return a whole answer: version and time before the fields, the database's state after them."""
    head: Json = {"version": {"const": VERSION}, "at": TIME | {"description": "when these data were read, Unix time"}}
    return record(head | ({"reident": REIDENT} if of_experiment else {}) | fields | {"database": ref("Database")})


_PROGRESS = {"tracts": COUNT, "tracts_solved": COUNT, "tracts_quarantined": COUNT, "people": COUNT, "people_solved": COUNT}
_WORK = {"people_quarantined": COUNT, "counties_to_write": COUNT, "counties_quarantined": COUNT, "tracts_running": COUNT,
         "hosts": {**array(TEXT), "description": "those that hold tracts"}}  # fmt: skip
_DEGREES = {"type": "number", "minimum": -180, "maximum": 180}
_PEOPLE = {"people_solved": COUNT, "people_quarantined": COUNT}
_BY_STATUS = {f"tracts_{status}": COUNT for status in ("new", "lp", "solved", "quarantined", "running")}
_PLACE = {"stusab": STUSAB, "county": COUNTY, "tract": TRACT}
_REGISTERED = {"tables": TEXT, "product": TEXT, "ages": TEXT, "seed": COUNT, "program": TEXT, "created": TIME}
_HELD = {"claimed_host": maybe(TEXT), "claimed_at": maybe(TIME), "lease_end": TIME, "held": {"type": "boolean"}}
_TRACT = {
    **_PLACE, "pop": COUNT, "status": {"enum": list(TRACT_STATUSES)}, "attempts": COUNT, "lost": COUNT, **_HELD,
    "lp_start": maybe(TIME), "lp_end": maybe(TIME), "lp_host": maybe(TEXT), "lp_seconds": maybe(NUMBER),
    "sol_start": maybe(TIME), "sol_end": maybe(TIME), "sol_host": maybe(TEXT), "solve_seconds": maybe(NUMBER),
    "solver": maybe(TEXT), "variables": maybe(COUNT), "constraints": maybe(COUNT), "nonzeros": maybe(COUNT),
    "memory_mib": maybe(COUNT),
}  # fmt: skip
_CERTAINTY = dict.fromkeys(("people", "differ_lower", "differ_upper", "certain", "blocks", "blocks_without_variability"), COUNT)
_REPORT = {
    "load1": maybe(NUMBER), "load5": maybe(NUMBER), "load15": maybe(NUMBER), "free_memory_mib": maybe(COUNT),
    "total_memory_mib": maybe(COUNT), "running": maybe(COUNT),
}  # fmt: skip
_ERROR = {"id": COUNT, "at": TIME, "host": TEXT, "pid": COUNT, "line": COUNT, "stusab": TEXT, "county": TEXT, "tract": TEXT,
          "message": TEXT, "file": TEXT}  # fmt: skip


def _schemas() -> Json:
    return {
        "Database": record(
            {"answers": {"type": "boolean"}, "silent_since": maybe(TIME)},
            description="Whether the database confirmed these data; if it does not answer they are the last known ones.",
        ),
        "Problem": record({"type": TEXT, "title": TEXT, "status": COUNT, "detail": TEXT}, description="RFC 9457"),
        "Progress": record({"reident": REIDENT, **_REGISTERED, **_PROGRESS, **_WORK}),
        "Running": record({**_PLACE, "pop": COUNT, "host": TEXT, "since": TIME, "step": {"enum": ["lp", "sol"]}}),
        "Slow": record({**_PLACE, "pop": COUNT, "sol_host": maybe(TEXT), "sol_end": maybe(TIME), "solve_seconds": NUMBER,
                        "variables": maybe(COUNT)}),
        "Quarantine": record({"stusab": STUSAB, "county": COUNTY, "tract": {**TEXT, "description": "empty for a county"},
                              "pop": COUNT, "attempts": COUNT, "error": TEXT, "name": {**TEXT, "description": "of the county"}}),
        "State": record({"stusab": STUSAB, "state": TEXT, "name": TEXT, "counties": COUNT, "counties_with_people": COUNT,
                         "counties_written": COUNT, "tracts": COUNT, "pop": COUNT, **_PEOPLE, **_BY_STATUS}),
        "County": record({"geoid": TEXT, "stusab": STUSAB, "county": COUNTY, "name": TEXT, "tracts": COUNT, "pop": COUNT,
                          "status": {"enum": list(COUNTY_STATUSES)}, "csv_end": maybe(TIME), **_PEOPLE, **_BY_STATUS}),
        "CountyRecord": record({"geoid": TEXT, "stusab": STUSAB, "county": COUNTY, "name": TEXT, "tracts": COUNT, "pop": COUNT,
                                "status": {"enum": list(COUNTY_STATUSES)}, "attempts": COUNT, **_HELD, "csv_start": maybe(TIME),
                                "csv_end": maybe(TIME), "csv_host": maybe(TEXT), "error": maybe(TEXT)}),
        "Tract": record(_TRACT),
        "TractRecord": record({**_TRACT, "error": maybe(TEXT), "geoid": TEXT}),
        "Host": record({"host": TEXT, "last_report": maybe(TIME), **_REPORT, "lp_past_hour": COUNT, "sol_past_hour": COUNT,
                        "people_past_hour": COUNT, "tracts_held": COUNT,
                        "tracts_locked": {**COUNT, "description": "held under leases that are over"},
                        "state": {"enum": ["working", "idle", "lost", "left"],
                                  "description": "lost, left: silent, with or without tracts"},
                        "history": ref("History")}),
        "History": record({"start": TIME, "step": COUNT, "lp": array(COUNT), "sol": array(COUNT), "load1": array(maybe(NUMBER)),
                           "free_memory_mib": array(maybe(COUNT))}, description="one value an interval, null where none is known"),
        "Error": record(_ERROR),
        "WholeError": record({**_ERROR, "stack": TEXT}),
        "File": record({"name": TEXT, "path": TEXT, "bytes": maybe(COUNT), "problem": maybe(TEXT)},
                       description="bytes is null where the file is not there"),
        "Certainty": record(_CERTAINTY, description="people who may differ in another data set with the same tables, or may not"),
        "CertainCounty": record({"geoid": TEXT, "stusab": STUSAB, "county": COUNTY, **_CERTAINTY}),
        "CertainTract": record({"tract": TRACT, **_CERTAINTY}),
        "Unit": record({"name": maybe(TEXT), "latitude": maybe(_DEGREES), "longitude": maybe(_DEGREES)},
                       description="a place's name, and a point inside it in degrees, as published"),
        "Pyramid": record({"ages": array(TEXT), "male": array(COUNT), "female": array(COUNT)},
                          description="people by sex and five years of age"),
        "Evaluation": record({"truth": array(TEXT),
                              **{name: maybe(COUNT) for name in ("true_people", "exact_age", "binned_age", "wrong", "cells")}},
                             description="true people, how many are matched one to one; cells not reproduced"),
        "Files": record({"kind": {"enum": ["lp", "sol"]}, "at": TIME, "host": maybe(TEXT), "files": COUNT, "people": COUNT}),
    }  # fmt: skip


_SHAPES = {**COUNT, "description": "the census of whose year the map shows the counties"}


def _experiment(more: Json | None = None) -> Json:
    by_host = {"type": "object", "additionalProperties": COUNT}
    files = record(dict.fromkeys(FILES, COUNT), description="as in --status")
    people = {"total": COUNT, "solved": COUNT, "quarantined": COUNT, "per_hour": maybe(NUMBER), "seconds_left": maybe(NUMBER)}
    people["at_work"] = {"type": "boolean"}
    cost = {f"{step}_processor_seconds": NUMBER for step in ("lp", "sol", "csv")} | {"processor_hours": NUMBER}
    return answer({
        "tables": TEXT, "product": TEXT, "product_title": TEXT, "county_shapes": _SHAPES, "created": TIME,
        "states": array(STUSAB), "completed_states": array(STUSAB),
        "files": files, "people": record(people), "quarantined": record({"tracts": COUNT, "counties": COUNT}),
        "cost": record(cost), "past_hour": record({"lp": by_host, "sol": by_host}), "running_tracts": COUNT,
        "running": array(ref("Running")), "slowest": array(ref("Slow")), "quarantine": array(ref("Quarantine")),
        **(more or {}),
    })  # fmt: skip


def _paths() -> dict[str, tuple[str, Json, list[Json]]]:
    """Return path: what it tells, the answer, and its query's parameters."""
    root = "/api/v1/experiments/{reident}"
    county = f"{root}/states/{{stusab}}/counties/{{county}}"
    tract = f"{county}/tracts/{{tract}}"
    index = answer({"experiments": array(ref("Progress"))}, of_experiment=False)
    span = _query("range", {"enum": list(RANGES), "default": "1h"}, "how far back; all: from the first file")
    limit = _query("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}, "at most so many")
    stusab = _query("stusab", STUSAB, "of this state alone")
    rows = {"range": {"enum": list(RANGES)}, "start": TIME, "step": COUNT, "rows": array(ref("Files"))}
    tracts = {"county": ref("CountyRecord"), "tracts": array(ref("Tract"))}
    names = {"type": "object", "additionalProperties": TEXT, "description": "the states' names by stusab"}
    places = {"state_names": names, "counties": array(ref("County"))}
    counties = {"county_shapes": _SHAPES, **places}
    page = {"throughput": record(rows), "hosts": array(ref("Host")), "errors": array(ref("Error")),
            "state_list": array(ref("State")), **places}  # fmt: skip
    results = {"place": ref("Unit"), "pyramid": either("Pyramid"), "certainty": either("Certainty"), "problem": maybe(TEXT),
               "evaluation": either("Evaluation"), "evaluation_problem": maybe(TEXT)}  # fmt: skip
    return {
        "/api/re-recon": ("All experiments: what /api/v1/experiments tells, in the newest version", index, []),
        "/api/v1/experiments": ("All experiments, oldest first", index, []),
        root: ("One experiment: all of --status, its cost, and what to look at first", _experiment(), []),
        f"{root}/page": ("All that the experiment's page shows, of one moment", _experiment(page), [span]),
        f"{root}/running": ("Tracts held by a worker, longest first, at most 1000",
                           answer({"total": COUNT, "running": array(ref("Running"))}), []),
        f"{root}/quarantined": ("Tracts and counties in quarantine, at most 1000",
                               answer({"total": COUNT, "quarantine": array(ref("Quarantine"))}), []),
        f"{root}/throughput": ("LP and SOL files over time, by host", answer(rows), [span]),
        f"{root}/hosts": ("Hosts: load, free memory, throughput, and their past hour", answer({"hosts": array(ref("Host"))}), []),
        f"{root}/errors": ("The newest errors, newest first, without stacks", answer({"errors": array(ref("Error"))}), [limit]),
        f"{root}/errors/{{number}}": ("One error, with its stack", answer({"error": ref("WholeError")}), []),
        f"{root}/states": ("The states, with counts", answer({"states": array(ref("State"))}), []),
        f"{root}/counties": ("The counties, with counts", answer(counties), [stusab]),
        f"{root}/certainty": ("How sure the people of each county are, where that is known",
                              answer({"counties": array(ref("CertainCounty")),
                                      "unread": {**COUNT, "description": "counties whose files cannot be read"}}), []),
        f"{county}/results": ("A county's people by sex and age, how sure they are, how many are true; null where it is not known",
                              answer({**results, "tracts": array(ref("CertainTract"))}), []),
        f"{tract}/results": ("The same of a tract", answer(results), []),
        county: ("One county and its tracts", answer(tracts), []),
        f"{county}/files": ("The files of a county", answer({"files": array(ref("File"))}), []),
        tract: ("One tract, and its errors", answer({"tract": ref("TractRecord"), "errors": array(ref("Error"))}), []),
        f"{tract}/files": ("The files of a tract", answer({"files": array(ref("File"))}), []),
        "/api/health": ("Whether the database answers; needs no token", record({"status": {"enum": ["ok", "stale"]}}), []),
    }  # fmt: skip


_PATH_PARAMETERS = {
    "{reident}": REIDENT, "{stusab}": STUSAB, "{county}": COUNTY, "{tract}": TRACT,
    "{number}": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
}  # fmt: skip


def _query(name: str, schema: Json, text: str) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _operation(path: str, summary: str, schema: Json, query: list[Json]) -> Json:
    in_path = [
        {"name": name.strip("{}"), "in": "path", "required": True, "schema": schema_of}
        for name, schema_of in _PATH_PARAMETERS.items()
        if name in path
    ]
    problem = {"application/problem+json": {"schema": ref("Problem")}}
    content = {"application/json": {"schema": schema}}
    etag = {"ETag": {"schema": TEXT, "description": "send it back in If-None-Match: 304 says that nothing changed"}}
    responses: Json = {"200": {"description": summary, "headers": {} if path == "/api/health" else etag, "content": content}}
    if path == "/api/health":
        responses["503"] = {"description": "The database does not answer", "content": content | problem}
    else:
        responses["304"] = {"description": "Nothing changed"}
        responses["503"] = {"description": "The database does not answer, and nothing older is known", "content": problem}
        responses["401"] = {"description": "The token is missing or wrong", "content": problem}
        responses["403"] = {"description": "No token is set, and another machine asks, or by an unknown name", "content": problem}
    if query:
        responses["400"] = {"description": "A parameter is wrong", "content": problem}
    if in_path:
        responses["404"] = {"description": "There is no such experiment, place or error", "content": problem}
    return {"summary": summary, "operationId": _name(path), "parameters": [*in_path, *query], "responses": responses}


def _name(path: str) -> str:
    words = [word for word in path.split("/") if word and word not in ("api", "v1")]
    return "_".join(word.strip("{}").replace("-", "_") for word in words)


def description(root: str = "") -> Json:
    """Return the whole description. ``root``: the path that a proxy has put the dashboard under."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dbrecon dashboard",
            "version": f"{VERSION}.0.0",
            "description": "Where each reconstruction stands. Read-only. All times are Unix time (time_t). Fields may be added "
            "within a version; none is removed or changes its meaning.",
            "license": {"name": "MIT"},
        },
        "servers": [{"url": root or "/"}],
        "security": [{}, {"password": []}, {"token": []}],
        "paths": {path: {"get": _operation(path, *what)} for path, what in _paths().items()},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "password": {"type": "http", "scheme": "basic", "description": "any user name, the token as password"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }
