"""What is in contrib/ for operators: systemd's own opinion of its unit; Slurm's script as two tasks of an array on one machine;
EMR's bootstrap action (its step runs in tests/nodes/test_node_kills.py); what the image is made of."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dbrecon.console.commands import open_ledger
from dbrecon.settings import Config
from tests.paths import CHECKOUT
from tests.ssh_nodes import Nodes

R = "array"


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    command = [analyze, "verify", "--user", str(CHECKOUT / "contrib" / "dbrecon-scheduler.service")]
    env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_emr_s_bootstrap_has_the_packages_where_a_launch_looks_and_the_checkout_on_the_primary_node(tmp_path: Path) -> None:
    """Run as on a primary node, then again as on another; the packages were brought before."""
    nodes, home = Nodes(tmp_path), tmp_path / "home"
    nodes.make_repository()
    digest = hashlib.sha256((CHECKOUT / "constraints.txt").read_bytes()).hexdigest()[:16]
    venv = home / "dbrecon" / f"venv-{digest}"
    venv.parent.mkdir(parents=True)
    venv.symlink_to(sys.prefix)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3.11").symlink_to(sys.executable)
    info = tmp_path / "instance.json"
    env = os.environ | {"HOME": str(home), "EMR_INSTANCE_INFO": str(info), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    script = [str(CHECKOUT / "contrib" / "emr_bootstrap.sh"), nodes.repository, "main"]
    for primary in (True, False):
        info.write_text(json.dumps({"isMaster": primary}), encoding="utf-8")
        done = subprocess.run(script, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert sorted(path.name for path in (home / "dbrecon").iterdir()) == [venv.name]
    assert (home / "recon" / ".venv").resolve() == venv.resolve()
    assert (home / "recon" / "dbrtool.py").exists()


def test_the_image_s_recipe_takes_only_what_is_there_and_what_the_package_needs() -> None:
    """Each COPY names files of the checkout, none is ignored, and the extras are the package's own."""
    contrib = CHECKOUT / "contrib"
    recipe, ignored = (
        (contrib / "Containerfile").read_text(encoding="utf-8"),
        (contrib / "containerignore").read_text(encoding="utf-8"),
    )
    sources = [word for words in re.findall(r"^COPY (.*)$", recipe, re.MULTILINE) for word in words.split()[:-1]]
    kept = {line[1:] for line in ignored.splitlines() if line.startswith("!")}
    assert set(sources) == kept
    assert [name for name in sources if not (CHECKOUT / name).exists()] == []
    written = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    project, wheel = written["project"], written["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {wheel["hooks"]["custom"]["path"], *wheel["only-include"], project["readme"]} <= set(sources)
    [extras] = re.findall(r"/opt/dbrecon\[([\w,]+)\]", recipe)
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()


@pytest.mark.slow
def test_two_tasks_of_a_slurm_array_share_the_work_as_hosts_of_their_own(tmp_path: Path) -> None:
    dist = tmp_path / "2010-re" / R / "dist"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MYSQL_", "DBRECON_", "SLURM_"))}
    env |= {"DAS_S3ROOT": str(tmp_path), "REIDENT": R, "HOME": str(tmp_path)}
    (tmp_path / ".dbrecon.env").write_text("export FROM_CRON_S_FILE=1\n", encoding="utf-8")

    def run(*command: str) -> None:
        subprocess.run([sys.executable, *command], cwd=CHECKOUT, env=env, check=True, capture_output=True)

    run("dbrtool.py", "--register", R)
    run("bench/make_state.py", "-q", "--stusab", "de", "--people", "12000", "--out", str(dist))
    run("dbrtool.py", "--step1", "--step2", "--stusab", "de")
    tasks = []
    for number in (1, 2):
        slurm = {"SLURM_SUBMIT_DIR": str(CHECKOUT), "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(number)}
        command = [str(CHECKOUT / "contrib" / "dbrecon.sbatch"), "--reident", R]
        tasks.append(subprocess.Popen(command, env=env | slurm, cwd=tmp_path, stderr=subprocess.PIPE, text=True))
    said = [task.communicate()[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert [f"-7-{number} " in text for number, text in enumerate(said, 1)] == [True, True], said
    ledger = open_ledger(Config.load(env={"DAS_S3ROOT": str(tmp_path)}))
    assert {tract.status for tract in ledger.tract_states(R, "de") if tract.pop} == {"solved"}
