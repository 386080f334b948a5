"""``--register --run``: one command from nothing to the people, broken off in each way and gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.paths import CHECKOUT
from tests.waiting import wait_for

SECONDS = 240
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip of a small synthetic Delaware."""
    folder = tmp_path_factory.mktemp("published")
    options = ["-q", "--stusab", "de", "--people", "1200", "--counties", "1", "--seed", "8", "--out", str(folder)]
    subprocess.run([sys.executable, "bench/make_state.py", *options], cwd=CHECKOUT, check=True, capture_output=True, timeout=120)
    return folder / "de2010.sf1.zip"


@dataclass
class Office:
    """A web server that publishes a zip; ``stall_after`` bytes it says nothing more until ``go_on`` is set."""

    content: bytes
    status: int = 200
    stall_after: int | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.headers["Range"] or "")
        begin = int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        body = self.content[begin:] if self.status == 200 else b""
        handler.send_response(206 if begin else self.status)
        handler.send_header("ETag", '"one"')
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.stall_after is None:
            handler.wfile.write(body)
            return
        handler.wfile.write(body[: self.stall_after])
        handler.wfile.flush()
        self.stalled.set()
        self.go_on.wait(SECONDS)


@dataclass
class Newcomer:
    """Someone with an empty folder, and settings that name the office."""

    root: Path
    office: Office
    url: str

    def start(self, *more: str) -> subprocess.Popen[str]:
        ini = self.root.parent / "config.ini"
        ini.write_text(f"[sf1]\nurl = {self.url}/{{st}}2010.sf1.zip\n[run]\nretry_seconds = 0\n")
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment |= {"DAS_S3ROOT": str(self.root), "DBRECON_CONFIG": str(ini), "no_proxy": "*"}
        command = [sys.executable, str(CHECKOUT / "dbrtool.py"), "--reident", "r1", "--register", "--run", *more]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def run(self, *more: str) -> Done:
        with self.start(*more) as process:
            out, err = process.communicate(timeout=SECONDS)
        return Done(process.args, process.returncode, out, err)

    @property
    def base(self) -> Path:
        return self.root / "2010-re" / "r1"

    def people(self) -> list[int]:
        """How many people each county's file has."""
        return [len(path.read_text().splitlines()) - 1 for path in self.base.glob("work/*/*/synth_out_*.csv")]


@pytest.fixture
def newcomer(published: Path, tmp_path: Path) -> Iterator[Newcomer]:
    office = Office(published.read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            office.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    yield Newcomer(tmp_path / "root", office, f"http://127.0.0.1:{server.server_port}")
    office.go_on.set()
    server.shutdown()
    server.server_close()
    thread.join()


def assert_all_is_done(newcomer: Newcomer, done: Done) -> None:
    assert done.returncode == 0, done.stderr
    assert len(newcomer.people()) == 1
    assert newcomer.people()[0] > 1000


def test_one_command_leads_from_nothing_to_the_people_and_says_what_it_does(newcomer: Newcomer) -> None:
    done = newcomer.run("--stusab", "de")
    assert_all_is_done(newcomer, done)
    said = done.stdout.splitlines()
    order = [
        f"Registering r1 in SQLite database {newcomer.root}/2010-re/dbrecon.sqlite3, on all tables",
        f"Step 0: downloading {newcomer.url}/de2010.sf1.zip to {newcomer.base}/dist/de2010.sf1.zip",
        f"Steps 1 and 2: geography and county files of de, into {newcomer.base}/work",
        f"Steps 3 to 5: LP files, solutions and people of de, into {newcomer.base}/work",
    ]
    assert [line for line in said if line in order] == order
    assert "solved and checked (1,200 people)" in said[-1]
    before = {path: path.stat().st_mtime_ns for path in newcomer.base.rglob("*") if path.is_file()}
    again = newcomer.run("--stusab", "de")
    assert_all_is_done(newcomer, again)
    assert f"r1 is registered in SQLite database {newcomer.root}/2010-re/dbrecon.sqlite3 already" in again.stdout
    assert "going on with it" in again.stdout
    assert "nothing was left to do" in again.stdout
    assert newcomer.office.asked == [""]
    assert {path: path.stat().st_mtime_ns for path in newcomer.base.rglob("*") if path.is_file()} == before


def test_zips_that_are_there_are_enough(newcomer: Newcomer, published: Path) -> None:
    (newcomer.base / "dist").mkdir(parents=True)
    shutil.copy(published, newcomer.base / "dist")
    assert_all_is_done(newcomer, newcomer.run())
    assert newcomer.office.asked == []
    (newcomer.base / "dist" / "de2010.sf1.zip").unlink()  # to save space: nothing needs it any more
    sure = newcomer.run("--stusab", "de", "--step6")
    assert_all_is_done(newcomer, sure)
    assert f"Steps 3 to 6: LP files, solutions, people and their certainty of de, into {newcomer.base}/work" in sure.stdout
    assert len(list(newcomer.base.glob("work/de/*/certainty_*.csv"))) == 1
    assert newcomer.office.asked == []


def test_without_a_state_and_without_a_zip_it_says_what_to_name(newcomer: Newcomer) -> None:
    done = newcomer.run()
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].endswith("there is no zip of any state; name the states to download (--stusab ri)")


def test_a_failed_download_ends_it_as_step_0_ends_and_the_same_command_goes_on(newcomer: Newcomer) -> None:
    newcomer.office.status = 404
    done = newcomer.run("--stusab", "de")
    assert done.returncode == 4
    assert "404" in done.stderr.splitlines()[-1]
    assert newcomer.people() == []
    newcomer.office.status = 200
    assert_all_is_done(newcomer, newcomer.run("--stusab", "de"))


def test_ctrl_c_in_a_download_leaves_what_has_come_and_the_same_command_goes_on(newcomer: Newcomer) -> None:
    newcomer.office.stall_after = len(newcomer.office.content) // 2
    with newcomer.start("--stusab", "de") as process:
        assert newcomer.office.stalled.wait(SECONDS)
        part = newcomer.base / "dist" / "de2010.sf1.zip.part"
        wait_for(lambda: part.exists() and part.stat().st_size == newcomer.office.stall_after, "the bytes that were sent")
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted"
    newcomer.office.go_on.set()
    newcomer.office.stall_after = None
    assert_all_is_done(newcomer, newcomer.run("--stusab", "de"))
    assert newcomer.office.asked == ["", f"bytes={len(newcomer.office.content) // 2}-"]


def test_a_full_disk_ends_it_in_one_sentence_and_the_same_command_goes_on(newcomer: Newcomer) -> None:
    dist = newcomer.base / "dist"
    dist.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(dist)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        done = newcomer.run("--stusab", "de")
    finally:
        subprocess.run(["umount", str(dist)], check=True)
    assert done.returncode == 4
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert_all_is_done(newcomer, newcomer.run("--stusab", "de"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--step3"], "--register --run does all steps: leave --step3 and --step4 out"),
        (["--step5"], "leave --step5 out"),
        (["--force"], "--force goes with steps"),
        (["--stusab", "de,ri", "--county", "1"], "several states at once"),
        (["--county", "1"], "a county needs its state"),
        (["--register", "other"], "--register is given twice: without a value and other"),
    ],
)
def test_words_that_do_not_go_with_it_are_refused_before_anything_is_done(newcomer: Newcomer, words: list[str], said: str) -> None:
    done = newcomer.run(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert said in done.stderr
    assert not newcomer.root.exists()
