"""The web application: the page, its files, and the API, for any WSGI server (``dbrecon.dashboard.app:create_app()``).

It only reads. No text of a client gets into a statement: an experiment and a place are looked up by what they must be.
"""

import json
import re
from collections.abc import Callable
from html import escape

from flask import Flask, Response, request
from werkzeug.exceptions import BadRequest, HTTPException, NotFound
from werkzeug.http import HTTP_STATUS_CODES

from dbrecon.console.commands import open_ledger
from dbrecon.dashboard.access import HEADERS, Access, Refused
from dbrecon.dashboard.openapi import description
from dbrecon.dashboard.snapshots import DatabaseAway, Snapshots
from dbrecon.dashboard.static_files import StaticFile, load_files, load_page
from dbrecon.dashboard.views import ERRORS_LISTED, RANGES, Json, Views
from dbrecon.experiment import MAX_REIDENT
from dbrecon.ledger.readings import DashboardReader, NothingThere
from dbrecon.remedies import sentence
from dbrecon.settings import Config

API = "/api/v1/experiments"
INDEX = ""  # the key of what is told of all experiments
EXPERIMENT = f"{API}/<reident>"
COUNTY = f"{EXPERIMENT}/states/<stusab>/counties/<county>"
TRACT = f"{COUNTY}/tracts/<tract>"
RULES = {
    "reident": re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,{MAX_REIDENT - 1}}}"),
    "stusab": re.compile(r"[a-z]{2}"),
    "county": re.compile(r"[0-9]{3}"),
    "tract": re.compile(r"[0-9]{6}"),
}
MOST_ERRORS = 500
LONGEST_ERROR_ID = 18  # digits
FILES_AGE = 20.0  # seconds: each look at S3 is a request


def create_app(config: Config | None = None) -> Flask:
    """Return the application with the settings that ``config`` holds; by default those that every command would read."""
    config = config or Config.load()
    access = Access.of(config)
    ledger = open_ledger(config, make=False)
    views = Views(DashboardReader(ledger.engine, ledger.beats), config)
    snapshots = Snapshots(config.dashboard.max_age)
    app = Flask("dashboard", static_folder=None)

    @app.before_request
    def check() -> None:
        access.check(request)
        for name, value in (request.view_args or {}).items():
            if name in RULES and not RULES[name].fullmatch(value):
                raise NotFound(f"{value[:100]!r} is no {name}")

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "private, no-cache")
        return response

    def answer(key: str, read: Callable[[], Json], max_age: float | None = None) -> Response:
        snapshot = snapshots.get(key, read, max_age)
        return _send(snapshot.body, snapshot.packed, snapshot.etag, "application/json")

    _add_pages(app)
    _add_api(app, views, snapshots, answer)
    _add_places(app, views, answer)
    _add_problems(app)
    return app


Answerer = Callable[..., Response]


def _send(body: bytes, packed: bytes | None, etag: str, mimetype: str) -> Response:
    """Return the answer, or 304 where the client has it; compressed where it may be."""
    response = Response(body, mimetype=mimetype)
    if packed is not None and request.accept_encodings.quality("gzip") > 0:
        response.data = packed
        response.headers["Content-Encoding"] = "gzip"
    response.set_etag(etag, weak=True)
    response.headers["Vary"] = "Accept-Encoding"
    response.make_conditional(request)
    return response


def _add_pages(app: Flask) -> None:
    """Add the page, under every address that a reader may keep, and its files."""
    files, page = load_files(), load_page()

    def show(**_place: str) -> Response:
        text = page.replace("{{root}}", escape(request.root_path, quote=True))
        file = StaticFile.of("index.html", text.encode())
        return _send(file.body, file.packed, file.etag, "text/html")

    place = "/re-recon"
    for rule in ("/", "/re-recon.html", place, *(place := f"{place}/<{name}>" for name in RULES)):
        app.add_url_rule(rule, f"page {rule}", show)

    @app.get("/static/<path:name>")
    def static_file(name: str) -> Response:
        if name not in files:
            raise NotFound(f"there is no file {name[:100]}")
        file = files[name]
        return _send(file.body, file.packed, file.etag, file.mimetype)

    @app.get("/favicon.ico")
    def favicon() -> Response:
        return static_file("icon.svg")


def _range() -> str:
    """Return how far back the request asks for. BadRequest for what is none of RANGES."""
    span = request.args.get("range", "1h")
    if span not in RANGES:
        raise BadRequest(f"range must be one of {', '.join(RANGES)}")
    return span


def _add_api(app: Flask, views: Views, snapshots: Snapshots, answer: Answerer) -> None:  # noqa: C901 - a list of addresses
    """Add what is told of the dashboard itself and of whole experiments."""

    @app.get("/api/openapi.json")
    def openapi() -> Response:
        return Response(json.dumps(description(request.root_path)), mimetype="application/json")

    @app.get("/api/health")
    def health() -> Response:
        snapshot = snapshots.get(INDEX, views.experiments)
        body = {"status": "ok" if snapshot.silent_since is None else "stale"}
        return Response(json.dumps(body), 200 if snapshot.silent_since is None else 503, mimetype="application/json")

    @app.get("/api/re-recon")
    @app.get(API)
    def experiments() -> Response:
        return answer(INDEX, views.experiments)

    @app.get(EXPERIMENT)
    def experiment(reident: str) -> Response:
        return answer(reident, lambda: views.experiment(reident))

    @app.get(f"{EXPERIMENT}/running")
    def running(reident: str) -> Response:
        return answer(f"{reident}/running", lambda: views.running(reident))

    @app.get(f"{EXPERIMENT}/quarantined")
    def quarantined(reident: str) -> Response:
        return answer(f"{reident}/quarantined", lambda: views.quarantined(reident))

    @app.get(f"{EXPERIMENT}/page")
    def page(reident: str) -> Response:
        span = _range()
        return answer(f"{reident}/page/{span}", lambda: views.page(reident, span))

    @app.get(f"{EXPERIMENT}/throughput")
    def throughput(reident: str) -> Response:
        span = _range()
        return answer(f"{reident}/throughput/{span}", lambda: views.throughput(reident, span))

    @app.get(f"{EXPERIMENT}/hosts")
    def hosts(reident: str) -> Response:
        return answer(f"{reident}/hosts", lambda: views.hosts(reident))

    @app.get(f"{EXPERIMENT}/errors")
    def errors(reident: str) -> Response:
        limit = _number(request.args.get("limit", str(ERRORS_LISTED)), MOST_ERRORS)
        return answer(f"{reident}/errors/{limit}", lambda: views.errors(reident, limit))

    @app.get(f"{EXPERIMENT}/errors/<number>")
    def error(reident: str, number: str) -> Response:
        if not re.fullmatch(rf"[0-9]{{1,{LONGEST_ERROR_ID}}}", number):
            raise NotFound(f"{number[:100]!r} is no error's number")
        return answer(f"{reident}/error/{int(number)}", lambda: views.error(reident, int(number)))


def _add_places(app: Flask, views: Views, answer: Answerer) -> None:
    """Add what is told of states, counties and tracts."""

    @app.get(f"{EXPERIMENT}/states")
    def states(reident: str) -> Response:
        return answer(f"{reident}/states", lambda: views.states(reident))

    @app.get(f"{EXPERIMENT}/counties")
    def counties(reident: str) -> Response:
        stusab = request.args.get("stusab")
        if stusab is not None and not RULES["stusab"].fullmatch(stusab):
            raise BadRequest("stusab must be a state's two letters in lower case")
        return answer(f"{reident}/counties/{stusab or ''}", lambda: views.counties(reident, stusab))

    @app.get(f"{EXPERIMENT}/certainty")
    def certainty(reident: str) -> Response:
        return answer(f"{reident}/certainty", lambda: views.certainty(reident), FILES_AGE)

    @app.get(f"{COUNTY}/results")
    def county_results(reident: str, stusab: str, county: str) -> Response:
        return answer(f"{reident}/{stusab}/{county}/results", lambda: views.county_results(reident, stusab, county), FILES_AGE)

    @app.get(f"{TRACT}/results")
    def tract_results(reident: str, stusab: str, county: str, tract: str) -> Response:
        key = f"{reident}/{stusab}/{county}/{tract}/results"
        return answer(key, lambda: views.tract_results(reident, stusab, county, tract), FILES_AGE)

    @app.get(COUNTY)
    def county(reident: str, stusab: str, county: str) -> Response:
        return answer(f"{reident}/{stusab}/{county}", lambda: views.county(reident, stusab, county))

    @app.get(f"{COUNTY}/files")
    def county_files(reident: str, stusab: str, county: str) -> Response:
        return answer(f"{reident}/{stusab}/{county}/files", lambda: views.county_files(reident, stusab, county), FILES_AGE)

    @app.get(TRACT)
    def tract(reident: str, stusab: str, county: str, tract: str) -> Response:
        return answer(f"{reident}/{stusab}/{county}/{tract}", lambda: views.tract(reident, stusab, county, tract))

    @app.get(f"{TRACT}/files")
    def tract_files(reident: str, stusab: str, county: str, tract: str) -> Response:
        key = f"{reident}/{stusab}/{county}/{tract}/files"
        return answer(key, lambda: views.tract_files(reident, stusab, county, tract), FILES_AGE)


def _number(text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= most:
        raise BadRequest(f"limit must be a whole number from 1 to {most}")
    return int(text)


def _add_problems(app: Flask) -> None:
    """Add what goes wrong, told as RFC 9457 has it."""

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        response = _problem(error.code or 500, error.description or error.name)
        for name, value in error.get_headers():
            if name in ("Allow", "Location"):
                response.headers[name] = value
        return response

    @app.errorhandler(NothingThere)
    def nothing(error: NothingThere) -> Response:
        return _problem(404, sentence(error))

    @app.errorhandler(DatabaseAway)
    def away(error: DatabaseAway) -> Response:
        response = _problem(503, sentence(error))
        response.headers["Retry-After"] = "5"
        return response

    @app.errorhandler(Refused)
    def not_answered(error: Refused) -> Response:
        response = _problem(error.status, sentence(error))
        if error.status == 401:
            response.headers["WWW-Authenticate"] = 'Basic realm="dbrecon", charset="UTF-8"'
        return response


def _problem(status: int, detail: str) -> Response:
    body = {"type": "about:blank", "title": HTTP_STATUS_CODES.get(status, "Error"), "status": status, "detail": detail}
    return Response(json.dumps(body), status=status, mimetype="application/problem+json")
