"""Processes for the pieces of a command's work end with it, however it ends, and a terminal's signals are for the command alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import CHECKOUT
from tests.waiting import wait_for

PROGRAM = """
import os, sys, time
from dbrecon.ctools.cli import run_command
from dbrecon.ctools.process_pool import process_pool
from dbrecon.ctools.storage import sopen

def write(path):
    with sopen(path, "w") as file:
        os.write(1, b"at work\\n")  # at once: two processes share the pipe
        time.sleep(600)

def work():
    with process_pool(2, sys.argv[1]) as pool:
        pool.submit(write, sys.argv[2])
        pool.submit(os.getpid).result()  # its process is idle then
        pool.submit(write, sys.argv[2] + ".2").result()

if __name__ == "__main__":
    run_command(work)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize(
    ("number", "all_of_them", "code", "said"),
    [
        (signal.SIGINT, True, 130, "interrupted\n"),
        (signal.SIGINT, False, 130, "interrupted\n"),
        (signal.SIGHUP, True, 129, ""),
        (signal.SIGTERM, False, 143, ""),
        (signal.SIGKILL, False, -9, None),
    ],
)
def test_they_end_with_the_command_and_say_nothing_of_it(
    method: str, number: signal.Signals, all_of_them: bool, code: int, said: str | None, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "out").mkdir()
    command = [sys.executable, str(tmp_path / "program.py"), method, str(tmp_path / "out" / "x.csv")]
    process = subprocess.Popen(
        command, env=dict(os.environ, PYTHONPATH=str(CHECKOUT)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["at work\n"] * 2
        (os.killpg if all_of_them else os.kill)(process.pid, number)
        process.wait(timeout=60)
        wait_for(lambda: not is_anybody_left(process.pid), "all have ended")
        assert process.returncode == code
        if said is not None:
            assert process.communicate() == ("", said)
            assert list((tmp_path / "out").iterdir()) == [], "what was being written is cleared away"
    finally:
        if is_anybody_left(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def is_anybody_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
