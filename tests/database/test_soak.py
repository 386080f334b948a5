"""The soak in its short form: `make soak` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mysql_server import CannotBeHad, unpacked
from tests.paths import CHECKOUT


@pytest.mark.slow
@pytest.mark.parametrize(
    "server", ["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb), pytest.param("mysql", marks=pytest.mark.mysql)]
)
def test_whatever_dies_every_tract_is_done_once_and_the_people_are_the_same(server: str, tmp_path: Path) -> None:
    """Four schedulers, eight seconds of kills. What is checked at the end is said in bench/soak.py."""
    if server == "mysql":
        try:
            unpacked()
        except CannotBeHad as reason:
            pytest.skip(f"MySQL's own server cannot be had here: {reason}")
    command = [sys.executable, "bench/soak.py", "--seconds", "8", "--people", "40000", "--seed", "5", "--keep", str(tmp_path)]
    command += ["--server", server]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
