"""An operator at a terminal, for tests of the console: what he types, in an environment with nothing of the caller's."""

import contextlib
import io
import logging
import os
import pty
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dbrecon.console import main as dbrtool
from dbrecon.console.entry import run_program
from tests.paths import CHECKOUT

SECONDS = 120.0
Result = subprocess.CompletedProcess[str]
AWS = {
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "aws-secret/of+tests", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip


@dataclass
class Operator:
    """``home`` is his home directory, ``settings`` the text of his settings file, ``env`` what he has exported."""

    home: Path
    settings: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def command(self, *args: str) -> list[str]:
        return [sys.executable, str(CHECKOUT / "dbrtool.py"), *args]

    def environment(self) -> dict[str, str]:
        self.home.mkdir(parents=True, exist_ok=True)
        path = self.home / "config.ini"
        path.write_text(self.settings)
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return kept | {"HOME": str(self.home), "DBRECON_CONFIG": str(path)} | self.env

    def run(self, *args: str, stdin: str = "") -> Result:
        return subprocess.run(
            self.command(*args), env=self.environment(), input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    def here(self, *args: str, stdin: str = "") -> Result:
        """The same without a process of its own, which is quicker where there are many commands to try."""
        before, root = (dict(os.environ), sys.argv, sys.stdin, signal.getsignal(signal.SIGTERM)), logging.getLogger()
        handlers, level = list(root.handlers), root.level
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # servers of the test in this process
        environment, out, err = self.environment(), io.StringIO(), io.StringIO()
        try:
            os.environ.clear()
            os.environ.update(environment)
            sys.argv, sys.stdin = ["dbrtool.py", *args], io.StringIO(stdin)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
                run_program(dbrtool.main)
        finally:
            os.environ.clear()
            os.environ.update(before[0])
            sys.argv, sys.stdin = before[1:3]
            signal.signal(signal.SIGTERM, before[3])
            root.handlers[:] = handlers
            root.setLevel(level)
        assert isinstance(left.value.code, int)
        return subprocess.CompletedProcess(args, left.value.code, out.getvalue(), err.getvalue())

    def done(self, *args: str, stdin: str = "") -> str:
        """What a command that goes well prints."""
        result = self.run(*args, stdin=stdin)
        assert result.returncode == 0, f"{args}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def start(self, *args: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*args), env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip

    def on_terminal(self, *args: str, until: str | None = None, keys: bytes = b"") -> tuple[int, str]:
        """Exit code and all that appears on a terminal; ``keys`` are typed once ``until`` has appeared."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(sys.executable, self.command(*args), self.environment() | {"TERM": "xterm", "COLUMNS": "", "LINES": ""})
        shown, deadline = b"", time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 1.0)[0]:
                continue
            try:
                part = os.read(terminal, 65536)
            except OSError:  # its other side is closed
                break
            if not part:
                break
            shown += part
            if until is not None and until.encode() in shown:
                os.write(terminal, keys)
                until = None
        else:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
        return os.waitstatus_to_exitcode(status), shown.decode(errors="replace")


def assert_refused(result: Result, code: int, *said: str) -> None:
    """One line on stderr that says it, and nothing on stdout."""
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for part in said:
        assert part in result.stderr
