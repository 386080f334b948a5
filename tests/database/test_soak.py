"""The soak in its short form: `make soak` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import CHECKOUT


@pytest.mark.mariadb
@pytest.mark.slow
def test_whatever_dies_every_tract_is_done_once_and_the_people_are_the_same(tmp_path: Path) -> None:
    """Four schedulers, eight seconds of kills. What is checked at the end is said in bench/soak.py."""
    command = [sys.executable, "bench/soak.py", "--seconds", "8", "--people", "40000", "--seed", "5", "--keep", str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
