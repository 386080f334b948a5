"""What an operator and his scripts get from any of our commands: one line for an error, and an exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import dbrecon.errors as dbrerrors
from dbrecon.ctools.signals import held_back
from tests.paths import CHECKOUT

COMMAND = """
import logging, os, sys, time
from dbrecon.console.options import talk
from dbrecon.console.parser import Parser
from dbrecon.console.entry import start_program
from dbrecon.ctools.cli import confirm, run_command
from dbrecon.ctools.storage import sopen
from dbrecon.errors import *

def work(arguments):
    {body}
    return 0

run_command(lambda: start_program(Parser("try.py", "try.py", "", (talk(),), words=None), work))
"""


def script(body: str) -> str:
    return COMMAND.format(body=textwrap.indent(textwrap.dedent(body).strip(), "    ").strip())


def run(body: str, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script(body), *args],
        cwd=CHECKOUT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_memory_that_is_used_up_is_a_sentence() -> None:
    done = run("raise MemoryError")
    assert done.returncode == 1
    assert done.stderr == "error: the memory that this process may take is used up; free some, or raise its limit (ulimit -v)\n"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("DBReconError", 1),
        ("UsageError", 2),
        ("InputError", 3),
        ("StorageError", 4),
        ("DatabaseError", 5),
        ("SolverError", 6),
        ("VerificationError", 7),
        ("RemoteError", 8),
    ],
)
def test_each_kind_of_error_has_its_exit_code(name: str, code: int) -> None:
    assert getattr(dbrerrors, name).exit_code == code
    done = run(f"raise {name}('oh2010.sf1.zip is cut off; download it again.')")
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == "error: oh2010.sf1.zip is cut off; download it again.\n"


def test_a_command_that_went_well_leaves_with_what_it_returned() -> None:
    assert run("return 9").returncode == 9


def test_the_causes_follow_in_the_same_line() -> None:
    done = run("""
        try:
            {}["039"]
        except KeyError as error:
            raise InputError("The header has no county 039.") from error
    """)
    assert done.stderr == "error: The header has no county 039. <- KeyError: '039'\n"


def test_a_cause_that_adds_nothing_is_left_out() -> None:
    done = run("""
        try:
            raise ValueError("it ends too early")
        except ValueError as error:
            raise InputError(f"The zip is damaged ({error}).") from error
    """)
    assert done.stderr == "error: The zip is damaged (it ends too early).\n"


def test_a_cause_that_was_hidden_stays_hidden() -> None:
    done = run("""
        try:
            {}["039"]
        except KeyError:
            raise InputError("The header has no county 039.") from None
    """)
    assert done.stderr == "error: The header has no county 039.\n"


def test_debug_shows_where_an_error_came_from() -> None:
    done = run("raise InputError('It is cut off.')", "--debug")
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("error: It is cut off.\n")
    assert done.returncode == 3


def test_a_refusal_of_the_system_is_one_line_too() -> None:
    done = run("open('/nowhere/at/all')")
    assert (done.returncode, done.stderr) == (1, "error: [Errno 2] No such file or directory: '/nowhere/at/all'\n")


def test_a_bug_keeps_its_traceback() -> None:
    done = run("raise TypeError('a bug')")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


def test_a_wrong_option_leaves_with_2() -> None:
    assert run("pass", "--no-such-option").returncode == 2


def test_an_option_may_be_shortened() -> None:
    assert run("logging.debug('said')", "--verb").stderr.endswith("DEBUG said\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    body = "for _ in range(100_000): print('a line of results')"
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -1; exit ${PIPESTATUS[0]}', "bash", sys.executable, "-c", script(body)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, "a line of results\n", "")


@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")])
def test_a_stopped_command_clears_up_and_says_how_it_ended(tmp_path: Path, number: signal.Signals, code: int, said: str) -> None:
    body = f"""
        with sopen("{tmp_path}/model.lp.gz", "w") as file:
            file.write("half")
            print("half-way", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", script(body)], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half-way\n"
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (code, said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), ["INFO", "WARNING"]),
        (("-q",), ["WARNING"]),
        (("--quiet",), ["WARNING"]),
        (("-v",), ["DEBUG", "INFO", "WARNING"]),
        (("--debug",), ["DEBUG", "INFO", "WARNING"]),
    ],
)
def test_the_options_say_how_much_is_said(args: tuple[str, ...], said: list[str]) -> None:
    done = run("logging.debug('d'); logging.info('i'); logging.warning('w')", *args)
    assert [line.split()[3] for line in done.stderr.splitlines()] == said
    assert done.stdout == ""


def test_a_log_line_tells_time_in_utc_host_process_and_level() -> None:
    done = run("os.environ['TZ'] = 'Asia/Tokyo'; time.tzset(); print(time.time()); logging.info('tract solved')")
    stamp, host, pid, level, message = done.stderr.rstrip("\n").split(" ", 4)
    expected = [int(float(done.stdout)) + more for more in (0, 1)]
    import calendar
    import time

    assert calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")) in expected
    assert host
    assert pid.isdigit()
    assert (level, message) == ("INFO", "tract solved")


def test_what_is_quoted_in_a_log_commands_no_terminal() -> None:
    done = run("logging.warning('%s: not read', chr(27) + '[2J' + chr(155) + '.zip')")
    assert done.stderr.endswith(" \\x1b[2J\\x9b.zip: not read\n")


@pytest.mark.parametrize(("typed", "taken"), [("yes\n", True), ("y\n", False), ("\n", False), ("", False), ("YES\n", False)])
def test_only_the_full_answer_is_a_yes(typed: str, taken: bool) -> None:
    done = run("print(confirm('Resize cluster to 10 nodes?'))", stdin=typed)
    assert done.stdout == f"{taken}\n"
    assert done.stderr == "Resize cluster to 10 nodes? "


def test_an_answer_may_have_to_be_a_name() -> None:
    assert run("print(confirm('Type orig to drop it:', 'orig'))", stdin="orig\n").stdout == "True\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("place", ["a weak reference's callback", "a destructor"])
def test_a_signal_is_heard_where_python_drops_what_its_handler_raises(number: signal.Signals, code: int, place: str) -> None:
    done = run(
        f"""
        import signal, weakref

        class Thing:
            if {place == "a destructor"}:
                __del__ = lambda self: strike()

        def strike():
            os.kill(os.getpid(), {int(number)})
            return list(range(3))

        thing = Thing()
        watched = weakref.ref(thing, {"None" if place == "a destructor" else "lambda _: strike()"})
        try:
            del thing
            for _ in range(3000):
                time.sleep(0.01)
            print("went on")
        finally:
            print("cleared up")
        """
    )
    assert (done.returncode, done.stdout) == (code, "cleared up\n")
    assert done.stderr == ("interrupted\n" if number == signal.SIGINT else "")


def test_a_signal_that_is_held_back_comes_at_the_end_of_the_block() -> None:
    reached = list[str]()

    def work() -> None:
        with held_back(signal.SIGINT):
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["the end"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_in_an_import_ends_the_command_when_the_module_is_loaded(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """Modules in C turn what strikes there into errors of their own; a module half loaded is of no use to what clears up."""
    (tmp_path / "struck.py").write_text(
        "import os\n"
        "try:\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    struck = list(range(3))\n"
        "except BaseException:\n"
        "    raise AttributeError('half loaded') from None\n"
    )
    done = run(
        f"""
        sys.path.insert(0, {str(tmp_path)!r})
        try:
            import struck
            for _ in range(3000):
                time.sleep(0.01)
        finally:
            print("loaded" if struck.struck else "")
        """
    )
    assert (done.returncode, done.stdout) == (code, "loaded\n")
    assert done.stderr == ("interrupted\n" if number == signal.SIGINT else "")


def test_a_signal_that_strikes_while_a_condition_is_entered_leaves_it_free() -> None:
    """Who waits for a result enters one; who ends the pool would wait for its lock for ever."""
    done = run(
        """
        import signal, threading

        class Lock:
            def __init__(self):
                self.own = threading.Lock()
                self.acquire, self.release = self.own.acquire, self.own.release

            def __enter__(self):
                self.own.acquire()
                os.kill(os.getpid(), signal.SIGINT)
                return list(range(3))

            def __exit__(self, *_):
                self.own.release()

        lock = Lock()
        try:
            with threading.Condition(lock):
                for _ in range(3000):
                    time.sleep(0.01)
        finally:
            print("locked" if lock.own.locked() else "free")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "free\n", "interrupted\n")


def test_what_a_destructor_raises_on_its_own_is_reported_as_ever() -> None:
    done = run("type('Thing', (), {'__del__': lambda self: 1 / 0})()")
    assert done.returncode == 0
    assert "Exception ignored in: <function" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_ctrl_c_while_a_command_is_still_being_loaded_ends_it_without_a_word() -> None:
    """Here it comes when the parser's library is to be imported."""
    code = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv = ["dbrtool.py", "--help"]
runpy.run_path("dbrtool.py", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
