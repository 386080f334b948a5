"""The package as `pip install` leaves it: in an environment of its own, with no checkout, and no more packages than it declares."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.paths import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MYSQL = "[db]\nmysql_host = h\nmysql_database = d\nmysql_user = u\nmysql_password = p"

ON_S3 = "[paths]\nroot = s3://bucket/a\n[db]\nsqlite = local.sqlite3"


@dataclass
class Installed:
    """A virtual environment with the wheel in it, and a user who has his files elsewhere."""

    venv: Path
    home: Path

    def run(self, program: str, *args: str | Path, **env: str | Path) -> "subprocess.CompletedProcess[str]":
        usual = {"PATH": os.environ["PATH"], "HOME": self.home, "DAS_S3ROOT": self.home / "root", "REIDENT": "r1"}
        command = [str(self.venv / "bin" / program), *map(str, args)]
        return subprocess.run(
            command,
            cwd=self.home,
            env={name: str(value) for name, value in (usual | env).items()},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def done(self, program: str, *args: str | Path) -> str:
        """What a command that goes well prints."""
        result = self.run(program, *args)
        assert result.returncode == 0, f"{program} {args}: {result.stdout}{result.stderr}"
        return result.stdout


def requirements_of(names: list[str]) -> set[str]:
    """The distributions that some requirements bring, theirs too, as far as they are installed here."""
    todo, found = list(names), set[str]()
    while todo:
        line = todo.pop()
        name = re.split(r"[\[<>=~!;( ]", line)[0].lower().replace("_", "-")
        if name not in found and "extra ==" not in line:
            try:
                todo += metadata.requires(name) or []
            except metadata.PackageNotFoundError:  # of another system or Python
                continue
            found.add(name)
    return found


def link_packages(names: set[str], folder: Path) -> None:
    """A folder from which Python imports these distributions and no others: links to where they are installed here."""
    for name in names:
        for file in metadata.files(name) or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))


def build(target: str, tree: Path, folder: Path) -> Path:
    """What `pip wheel` makes of a tree, from no network: its "sdist" or its "wheel"."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    [made] = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sources")
    with tarfile.open(build("sdist", CHECKOUT, tmp_path_factory.mktemp("sdist"))) as archive:
        archive.extractall(folder, filter="data")
    [tree] = folder.iterdir()
    return tree


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made of the source distribution: what whoever has no checkout installs."""
    return build("wheel", sources, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment that has nothing but the packages which it declares without extras."""
    folder = tmp_path_factory.mktemp("installed")
    venv, packages, home = folder / "venv", folder / "packages", folder / "home"
    packages.mkdir()
    home.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", str(wheel)], check=True)
    link_packages(requirements_of(PROJECT["dependencies"]), packages)
    [site] = venv.glob("lib/python3*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n")
    return Installed(venv, home)


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="git alone knows what belongs to the project")
def test_the_source_distribution_has_all_that_the_checkout_has(sources: Path) -> None:
    """But for the link ctools, and what serves a checkout alone."""
    tracked = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.splitlines()
    here = {name for name in tracked if (CHECKOUT / name).is_file()}
    packed = {str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()}
    assert here - packed == {".ci/run", ".pre-commit-config.yaml"}
    untracked = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"], cwd=CHECKOUT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert packed - here - set(untracked) == {"PKG-INFO"}


def test_the_checkout_and_its_source_distribution_make_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """`pip install .` installs what `pip install dbrecon-....tar.gz` does."""
    contents = [
        {item.filename: item.CRC for item in ZipFile(path).infolist()} for path in (wheel, build("wheel", CHECKOUT, tmp_path))
    ]
    assert contents[0] == contents[1]


def test_it_brings_one_name_its_data_two_commands_and_their_man_pages(installed: Installed) -> None:
    [site] = installed.venv.glob("lib/python3*/site-packages")
    version = installed.done("python", "-c", "import dbrecon; print(dbrecon.__version__)").strip()
    assert sorted(path.name for path in site.iterdir() if not path.name.endswith(".pth")) == [
        "dbrecon",
        f"dbrecon-{version}.dist-info",
    ]
    assert (site / "dbrecon" / "config" / "config.ini").read_bytes() == (CHECKOUT / "config" / "config.ini").read_bytes()
    assert not list(site.glob("dbrecon/config/*_encrypted.json.*"))
    assert {"dbrtool", "scheduler"} <= {path.name for path in (installed.venv / "bin").iterdir()}
    assert sorted(path.name for path in (installed.venv / "share" / "man" / "man1").iterdir()) == ["dbrtool.1", "scheduler.1"]


def test_a_state_is_reconstructed_with_no_checkout_and_no_extra(installed: Installed) -> None:
    dist = installed.home / "root" / "2010-re" / "r1" / "dist"
    state = ["--stusab", "de", "--people", "3000", "--seed", "1", "--out", dist, "--truth", installed.home / "truth.csv"]
    subprocess.run([sys.executable, "bench/make_state.py", "-q", *map(str, state)], cwd=CHECKOUT, check=True)
    assert "then: dbrtool --reident r1 --step1 --step2" in installed.done("dbrtool", "--register")
    installed.done("dbrtool", "--step1", "--step2", "--stusab", "all")
    installed.done("scheduler", "--reident", "r1")
    assert re.search(r"sol_remaining: +0\b", installed.done("dbrtool", "--status"))
    people = [line for path in dist.parent.glob("work/de/*/synth_out_*.csv") for line in path.read_text().splitlines()[1:]]
    assert len(people) == 3000
    assert "the ledger and the files agree" in installed.done("dbrtool", "--rescan")


@pytest.mark.parametrize(
    ("args", "settings", "sentence"),
    [
        (["--dashboard"], "", "the dashboard needs waitress, which is not installed: pip install 'dbrecon[dashboard]'"),
        (["--reident", "r1", "--evaluate"], "", "needs pyarrow, which is not installed: pip install 'dbrecon[study]'"),
        (["--cluster"], "[cluster]\nhosts = n1", "SSH needs paramiko, which is not installed: pip install 'dbrecon[cluster]'"),
        (
            ["--reidents"],
            "[db]\nmysql_host = h\nmysql_database = d\nmysql_user = u\nmysql_password = p",
            "pip install 'dbrecon[cluster]'",
        ),
        (
            ["--uploads"],
            ON_S3,
            "needs boto3, which is not installed: pip install 'dbrecon[aws]'",
        ),
        (["--run", "--spark"], "", "Spark's Python package is not here: install it (pip install 'dbrecon[spark]')"),
    ],
)
def test_what_lacks_a_package_names_the_extra_that_brings_it(
    installed: Installed, args: list[str], settings: str, sentence: str
) -> None:
    (installed.home / "settings.ini").write_text(settings)
    done = installed.run("dbrtool", *args, DBRECON_CONFIG=installed.home / "settings.ini")
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_doctor_needs_no_extra_on_one_machine_and_names_that_of_nodes(installed: Installed) -> None:
    assert "nodes: no cluster is set: this machine alone" in re.sub(r" +", " ", installed.run("dbrtool", "--doctor").stdout)
    (installed.home / "nodes.ini").write_text("[cluster]\nhosts = n1\n")
    done = installed.run("dbrtool", "--doctor", DBRECON_CONFIG=installed.home / "nodes.ini")
    assert "pip install 'dbrecon[cluster]'" in done.stdout


def test_a_relative_path_in_the_settings_is_beside_them(installed: Installed) -> None:
    (installed.home / "settings.ini").write_text("[db]\nsqlite = mine.sqlite3\n")
    done = installed.run("dbrtool", "--register", "r2", DBRECON_CONFIG=installed.home / "settings.ini")
    assert done.returncode == 0, done.stderr
    assert (installed.home / "mine.sqlite3").is_file()


def test_help_and_errors_name_the_commands_that_are_installed(installed: Installed) -> None:
    for program in ("dbrtool", "scheduler"):
        text = installed.done(program, "--help")
        assert text.startswith(f"usage: {program} ")
        assert not re.search(r"(dbrtool|scheduler)\.py", text)
    refused = installed.run("dbrtool", "--nothing")
    assert "see dbrtool --help" in refused.stderr


def test_cron_starts_the_installed_scheduler(installed: Installed) -> None:
    line = installed.done("dbrtool", "--crontab").splitlines()[0]
    assert f"&& exec {installed.venv / 'bin' / 'scheduler'} --quiet --reident r1)" in line
