"""The files that are made from npm packages are those that package-lock.json makes; nothing comes from elsewhere."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from dbrecon.dashboard.static_files import FOLDER, load_files
from dbrecon.recon.product.release import SHAPE_YEARS
from dbrecon.states import STATES

DASHBOARD = FOLDER.parent
OWN = sorted(path for path in FOLDER.rglob("*") if path.suffix in (".js", ".css", ".html", ".svg") and "vendor" not in path.parts)


def test_the_bundled_files_are_what_the_locked_packages_made() -> None:
    """``make dashboard-assets`` writes SOURCES.json with the files: an edit by hand, or a new lock without it, shows here."""
    sources = json.loads((FOLDER / "vendor" / "SOURCES.json").read_text())
    made = {name: hashlib.sha256((FOLDER / "vendor" / name).read_bytes()).hexdigest() for name in sources["sha256"]}
    assert made == sources["sha256"]
    locked = json.loads((DASHBOARD / "package-lock.json").read_text())["packages"]
    wanted = json.loads((DASHBOARD / "package.json").read_text())["devDependencies"]
    assert sources["packages"] == {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert {path.name for path in (FOLDER / "vendor").iterdir()} == {*sources["sha256"], "SOURCES.json"}


def test_every_locked_package_is_pinned_by_its_digest() -> None:
    locked = json.loads((DASHBOARD / "package-lock.json").read_text())["packages"]
    assert [name for name, package in locked.items() if name and not package.get("integrity", "").startswith("sha512-")] == []


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_no_file_of_the_page_names_another_server(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text, re.IGNORECASE) == []


def test_the_page_has_no_scripts_or_styles_of_its_own() -> None:
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", page) == []


def test_the_map_has_every_county_of_every_state() -> None:
    shapes = json.loads(load_files()["vendor/counties.json"].body)
    assert {code[:2] for code in shapes["counties"]} == {state.fips for state in STATES.values()} == set(shapes["states"])
    assert all(re.fullmatch(r"[Mmlz0-9 -]+", path) for path in shapes["counties"].values())


def test_the_map_has_the_counties_of_each_census() -> None:
    shapes = json.loads(load_files()["vendor/counties.json"].body)
    assert tuple(map(int, shapes["years"])) == SHAPE_YEARS
    of_2010, of_2020 = (set(shapes["counties"]) - set(shapes["years"][year]["without"]) for year in ("2010", "2020"))
    # 3,143 counties and equivalents in 2010 and 78 of Puerto Rico, but Bedford (51515), which is a county's part since 2013.
    assert (len(of_2010), len(of_2020)) == (3143 + 78 - 1, 3143 + 78)
    assert of_2010 - of_2020 == {"46113", "02270", "02261"}  # Shannon, Wade Hampton, Valdez-Cordova
    assert of_2020 - of_2010 == {"46102", "02158", "02063", "02066"}  # Oglala Lakota, Kusilvak, Chugach, Copper River
    assert not any(code.startswith("091") for code in of_2020)  # Connecticut's planning regions came in 2022
    assert all(year["source"] for year in shapes["years"].values())
