"""What is in contrib/ for operators: systemd's own opinion of its unit; Slurm's script as two tasks of an array on one machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dbrecon.console.commands import open_ledger
from dbrecon.settings import Config
from tests.paths import CHECKOUT

R = "array"


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    command = [analyze, "verify", "--user", str(CHECKOUT / "contrib" / "dbrecon-scheduler.service")]
    env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


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
