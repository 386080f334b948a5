"""Step 0: a state's zip is downloaded whatever the server does, and gets its name only when it is whole."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dbrecon.console.step_scripts import step0
from dbrecon.ctools.cli import explain
from dbrecon.errors import InputError, StorageError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.settings import Config
from dbrecon.steps.download import ATTEMPTS, MAX_REDIRECTS, Partial, asked_states, download, open_zip, validate
from tests.paths import CHECKOUT
from tests.tiny_sf1 import SEGMENTS, environment, make_members, put_zip, some_records, zip_bytes

MEMBERS = make_members(some_records())
WHOLE = zip_bytes(MEMBERS)
HALF = len(WHOLE) // 2
BROKEN = WHOLE[:HALF] + bytes(200) + WHOLE[HALF + 200 :]

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A web server whose next answers a test lays down; after them it answers ``well``. Keeps the requests' Range headers."""

    def __init__(self) -> None:
        self.content = WHOLE
        self.etag = '"one"'
        self.script: list[Answer] = []
        self.asked: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.headers["Range"])
                (outer.script.pop(0) if outer.script else outer.well)(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def start_answer(self, handler: BaseHTTPRequestHandler, ranges: bool = True, length: bool = True) -> bytes:
        """Sends the head of a right answer; returns the body that belongs to it."""
        asked = handler.headers["Range"]
        body, status, span = self.content, 200, ""
        if ranges and asked and handler.headers["If-Range"] == self.etag:
            offset = int(asked.removeprefix("bytes=").removesuffix("-"))
            status, body = (206, self.content[offset:]) if offset < len(self.content) else (416, b"")
            first = f"{offset}-{len(self.content) - 1}" if body else "*"
            span = f"bytes {first}/{len(self.content)}"
        handler.send_response(status)
        if self.etag:
            handler.send_header("ETag", self.etag)
        if span:
            handler.send_header("Content-Range", span)
        if length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        return body

    def well(self, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(self.start_answer(handler))

    def without_ranges(self, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(self.start_answer(handler, ranges=False))

    def without_length(self, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(self.start_answer(handler, length=False))

    def cut_without_length(self, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(self.start_answer(handler, length=False)[:HALF])

    def cut_off(self, handler: BaseHTTPRequestHandler) -> None:
        """Closes the connection before the promised length."""
        body = self.start_answer(handler)
        handler.wfile.write(body[: len(body) // 2])

    def reset(self, handler: BaseHTTPRequestHandler) -> None:
        """Breaks the connection off."""
        body = self.start_answer(handler)
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def sent_to(self, address: str, code: int = 302) -> Answer:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(code)
            handler.send_header("Location", address)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        return answer

    @staticmethod
    def status(code: int) -> Answer:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(code)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        return answer


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def experiment(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setenv("no_proxy", "*")
    return experiment_at(tmp_path, server.url)


def experiment_at(root: Path, url: str) -> Experiment:
    settings = root / "config.ini"
    settings.write_text(f"[sf1]\nurl = {url}/{{State_Name}}/{{st}}2010.sf1.zip\n")
    return Experiment.make("r1", Config.load(str(settings), env=environment(root / "root")))


def in_dist(experiment: Experiment) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(experiment.dist).iterdir()}


def test_a_zip_is_fetched_from_its_states_address_and_nothing_else_is_left(experiment: Experiment, server: Server) -> None:
    paths = []
    server.script = [lambda handler: (paths.append(handler.path), server.well(handler))[1]]  # type: ignore[func-returns-value]
    assert download(experiment, "nm") == experiment.dist_zip("nm")
    assert paths == ["/New_Mexico/nm2010.sf1.zip"]
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


def test_what_is_whole_is_not_fetched_again_but_with_force(experiment: Experiment, server: Server) -> None:
    put_zip(experiment, WHOLE)
    download(experiment, "nm")
    assert server.asked == []
    download(experiment, "nm", force=True)
    assert server.asked == [None]


def test_what_is_not_whole_is_fetched_again(experiment: Experiment) -> None:
    put_zip(experiment, BROKEN)
    download(experiment, "nm")
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


@pytest.mark.parametrize("trouble", ["cut_off", "reset"])
def test_a_transfer_that_breaks_off_goes_on_where_it_ended(experiment: Experiment, server: Server, trouble: str) -> None:
    server.script = [getattr(server, trouble)] * 2
    download(experiment, "nm", pause=0)
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}
    # A reset may drop what was sent, so the later requests begin somewhere in the file or at its start.
    assert len(server.asked) == 3
    if trouble == "cut_off":
        assert server.asked == [None, f"bytes={HALF}-", f"bytes={HALF + (len(WHOLE) - HALF) // 2}-"]


def test_the_next_run_goes_on_where_the_last_was_broken_off(experiment: Experiment, server: Server) -> None:
    server.script = [server.cut_off] + [server.status(503)] * (ATTEMPTS - 1)
    with pytest.raises(StorageError, match=r"the server answered 503; the part that came is kept in .*run step 0 again"):
        download(experiment, "nm", pause=0)
    assert sorted(in_dist(experiment)) == ["nm2010.sf1.zip.part", "nm2010.sf1.zip.part.version"]
    server.asked.clear()
    download(experiment, "nm")
    assert server.asked == [f"bytes={HALF}-"]
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


def test_a_server_that_gives_nothing_leaves_nothing(experiment: Experiment, server: Server) -> None:
    server.script = [server.status(503)] * ATTEMPTS
    with pytest.raises(StorageError, match=r"the server answered 503; nothing came: see the network, the proxy and \[sf1\] url"):
        download(experiment, "nm", pause=0)
    assert in_dist(experiment) == {}


@pytest.mark.slow
def test_a_killed_download_is_resumed(experiment: Experiment, server: Server, tmp_path: Path) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        body = server.start_answer(handler)
        handler.wfile.write(body[:HALF])
        handler.wfile.flush()
        arrived.set()
        go_on.wait(60)

    server.script = [stall]
    settings = {"DBRECON_CONFIG": str(tmp_path / "config.ini"), "no_proxy": "*"}
    command = [sys.executable, str(CHECKOUT / "s0_download_data.py"), "nm"]
    process = subprocess.Popen(command, env=os.environ | environment(tmp_path / "root") | settings)
    try:
        assert arrived.wait(60)
        part = Path(experiment.dist_zip("nm") + ".part")
        assert not Path(experiment.dist_zip("nm")).exists()
    finally:
        process.kill()
        process.wait()
        go_on.set()
    kept = part.stat().st_size
    download(experiment, "nm")
    assert server.asked[1] == (f"bytes={kept}-" if kept else None)
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


def test_a_server_without_ranges_is_asked_from_the_beginning(experiment: Experiment, server: Server) -> None:
    server.script = [server.cut_off, server.without_ranges]
    download(experiment, "nm", pause=0)
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(experiment: Experiment, server: Server) -> None:
    server.script = [server.cut_off, server.status(503)]
    server.content = zip_bytes(make_members(some_records(["099"])))
    with pytest.raises(StorageError):
        _download_once(experiment, server)
    server.content, server.etag = WHOLE, '"two"'
    download(experiment, "nm")
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


def _download_once(experiment: Experiment, server: Server) -> None:
    server.script += [server.status(503)] * ATTEMPTS
    try:
        download(experiment, "nm", pause=0)
    finally:
        server.script.clear()


def test_a_server_that_marks_no_version_is_asked_from_the_beginning(experiment: Experiment, server: Server) -> None:
    server.etag = ""
    server.script = [server.cut_off]
    download(experiment, "nm", pause=0)
    assert server.asked == [None, None]
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


def test_a_part_that_has_everything_already_only_gets_its_name(experiment: Experiment, server: Server) -> None:
    put_zip(experiment, b"")
    part = Path(experiment.dist_zip("nm") + ".part")
    part.write_bytes(WHOLE)
    Path(f"{part}.version").write_text(server.etag)
    download(experiment, "nm")
    assert server.asked == [f"bytes={len(WHOLE)}-"]
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


def test_a_part_longer_than_the_file_is_thrown_away(experiment: Experiment, server: Server) -> None:
    put_zip(experiment, b"")
    part = Path(experiment.dist_zip("nm") + ".part")
    part.write_bytes(WHOLE + b"more")
    Path(f"{part}.version").write_text(server.etag)
    download(experiment, "nm", pause=0)
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


def test_a_body_without_length_is_taken_if_the_zip_is_whole(experiment: Experiment, server: Server) -> None:
    server.script = [server.cut_without_length, server.without_length]
    download(experiment, "nm", pause=0)
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (401, "access is denied; a proxy or firewall may stand between"),
        (403, "access is denied; a proxy or firewall may stand between"),
        (404, r"there is no such file; correct \[sf1\] url"),
        (410, r"there is no such file; correct \[sf1\] url"),
        (407, "the proxy wants to know who asks"),
        (400, r"correct \[sf1\] url"),
        (304, r"correct \[sf1\] url"),
    ],
)
def test_a_refusal_is_said_at_once_with_address_and_remedy(experiment: Experiment, server: Server, code: int, remedy: str) -> None:
    server.script = [server.status(code)]
    with pytest.raises(StorageError, match=rf"nm2010.sf1.zip: the server answered {code}: {remedy}"):
        download(experiment, "nm")
    assert len(server.asked) == 1
    assert not Path(experiment.dist_zip("nm")).exists()


def test_a_server_that_is_not_there_is_given_up_after_some_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        experiment = experiment_at(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StorageError, match=r"the transfer broke off .*refused"):
            download(experiment, "nm", pause=0)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(experiment: Experiment, server: Server, code: int) -> None:
    server.script = [server.sent_to("/elsewhere/x.zip", code), server.sent_to(f"{server.url}/y.zip", code)]
    download(experiment, "nm", pause=0)
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}
    assert len(server.asked) == 3


def test_a_download_that_broke_off_behind_a_redirect_goes_on_there(experiment: Experiment, server: Server) -> None:
    server.script = [server.sent_to("/x.zip"), server.cut_off, server.sent_to("/x.zip")]
    download(experiment, "nm", pause=0)
    assert server.asked == [None, None, f"bytes={HALF}-", f"bytes={HALF}-"]
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


def test_a_circle_of_redirects_is_said_at_once(experiment: Experiment, server: Server) -> None:
    server.script = [server.sent_to("/x.zip")] * 100
    with pytest.raises(StorageError, match=r"sends on and on to other addresses, 10 times; correct \[sf1\] url$") as refused:
        download(experiment, "nm", pause=0)
    assert explain(refused.value) == str(refused.value), "without what the library says of it"
    assert len(server.asked) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(experiment: Experiment, server: Server, code: int) -> None:
    server.script = [server.status(code)] * (ATTEMPTS - 1)
    download(experiment, "nm", pause=0)
    assert len(server.asked) == ATTEMPTS


def test_a_page_in_place_of_the_zip_is_said_at_once_and_costs_nothing_that_came(experiment: Experiment, server: Server) -> None:
    server.script = [server.cut_off] + [server.status(503)] * (ATTEMPTS - 1)
    with pytest.raises(StorageError):
        download(experiment, "nm", pause=0)
    server.asked.clear()

    def page(handler: BaseHTTPRequestHandler) -> None:
        body = b"<html><b>Request</b> Rejected. Support ID 1</html>"
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.script = [page]
    with pytest.raises(StorageError, match=r"answered with a page \('Request Rejected. Support ID 1'\), not with a zip; a proxy"):
        download(experiment, "nm", pause=0)
    download(experiment, "nm", pause=0)
    assert server.asked == [f"bytes={HALF}-", f"bytes={HALF}-"]
    assert in_dist(experiment) == {"nm2010.sf1.zip": WHOLE}


def test_an_address_that_is_none_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"correct \[sf1\] url"):
        download(experiment_at(tmp_path, "ftp://nowhere"), "nm")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(BROKEN, "member nm.* is damaged"), (b"PK and no more", "not a zip file"), (WHOLE[:-3000], "cut off")],
)
def test_a_file_that_is_damaged_at_the_server_never_gets_its_name(
    experiment: Experiment, server: Server, content: bytes, expected: str
) -> None:
    server.content = content
    with pytest.raises(InputError, match=f"downloaded twice, and not whole: .*{expected}"):
        download(experiment, "nm", pause=0)
    assert not Path(experiment.dist_zip("nm")).exists()
    assert len(server.asked) == 2


def test_two_processes_do_not_write_one_part(experiment: Experiment) -> None:
    first = Partial(experiment.dist_zip("nm") + ".part")
    with pytest.raises(UsageError, match="another process is downloading this file"):
        download(experiment, "nm")
    first.close()
    download(experiment, "nm")


def test_validate_names_the_member_that_is_broken_or_missing(experiment: Experiment) -> None:
    put_zip(experiment, WHOLE, "nm")
    segments = {name.replace("nm", "oh", 1): content for name, content in MEMBERS.items()}
    put_zip(experiment, zip_bytes({name: text for name, text in segments.items() if "00008" not in name}), "oh")
    put_zip(experiment, b"hello", "al")
    put_zip(experiment, WHOLE[: len(WHOLE) - 1000], "ca")
    faults = validate(experiment, ["nm", "oh", "al", "ca", "nd"])
    assert faults["nm"] == []
    assert [len(faults[stusab]) for stusab in ("oh", "al", "ca", "nd")] == [1, 1, 1, 1]
    for stusab, expected in {
        "oh": "member oh000082010.sf1 is missing", "al": "not a zip file", "ca": "cut off", "nd": "there is no zip of North Dakota"
    }.items():  # fmt: skip
        assert expected in faults[stusab][0]
        assert experiment.dist_zip(stusab) in faults[stusab][0]


def test_validate_checks_members_that_no_table_needs(experiment: Experiment) -> None:
    unused = "nm000062010.sf1"
    assert 6 in SEGMENTS
    start = WHOLE.index(unused.encode()) + 500
    put_zip(experiment, WHOLE[:start] + bytes(100) + WHOLE[start + 100 :])
    faults = validate(experiment, ["nm"])["nm"]
    assert len(faults) == 1
    assert f"member {unused} is damaged" in faults[0]


def test_the_command_says_what_is_broken_and_exits_with_3(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(tmp_path / "root").items():
        monkeypatch.setenv(name, value)
    put_zip(experiment, WHOLE)
    put_zip(experiment, b"hello", "oh")
    os.mkfifo(experiment.dist_zip("al"))
    monkeypatch.setattr(sys, "argv", ["s0_download_data.py", "--validate"])
    assert step0() == 3
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"al: {experiment.dist_zip('al')}: a pipe or a device stands where a file is needed: move it away."
    assert said[1] == f"nm: {experiment.dist_zip('nm')} is whole"
    assert said[2].startswith(f"oh: {experiment.dist_zip('oh')}: not a zip file")


def test_files_in_dist_with_other_names_are_named_with_what_to_rename(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for name, value in environment(tmp_path / "root").items():
        monkeypatch.setenv(name, value)
    dist = put_zip(experiment, WHOLE).parent
    for name in ("CO2010.sf1.zip", "ks2010.zip", "nm2010.sf1 (1).zip", "zz2010.sf1.zip", "oh2010.sf1"):
        (dist / name).write_bytes(WHOLE)
    monkeypatch.setattr(sys, "argv", ["s0_download_data.py", "--validate"])
    assert step0() == 3
    assert capsys.readouterr().out.splitlines() == [
        f"nm: {dist}/nm2010.sf1.zip is whole",
        f"{dist}/CO2010.sf1.zip: not read: if it is the zip of Colorado, rename it to co2010.sf1.zip",
        f"{dist}/ks2010.zip: not read: if it is the zip of Kansas, rename it to ks2010.sf1.zip",
        f"{dist}/nm2010.sf1 (1).zip: not read, for nm2010.sf1.zip lies beside it; remove the one that is not wanted",
        f"{dist}/oh2010.sf1: not read: zip the files of Ohio into oh2010.sf1.zip",
        f"{dist}/zz2010.sf1.zip: not read: a state's zip has the name ST2010.sf1.zip, such as ri2010.sf1.zip",
    ]
    assert asked_states(experiment, ["all"]) == ["nm"]
    assert len(caplog.messages) == 5
    with (
        pytest.raises(InputError, match=r"no zip of Kansas; .*ks2010.zip: not read: .* rename it to ks2010.sf1.zip"),
        open_zip(experiment, "ks"),
    ):
        pass
    (dist / "nm2010.sf1.zip").unlink()
    with pytest.raises(InputError, match=r"no zip of any state; .*CO2010.sf1.zip: not read.*; .*ks2010.zip: not read"):
        asked_states(experiment, [])


def test_a_download_needs_a_state(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(tmp_path / "root").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["s0_download_data.py"])
    with pytest.raises(UsageError, match="which state"):
        step0()


def test_on_s3_what_has_come_so_far_lies_in_a_folder_that_no_other_user_can_write_to(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a name that can be guessed, a link of another user's would lead to any file of ours."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    own = tmp_path / f"dbrecon-{os.getuid()}"
    own.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "config.ini").write_text(f"[sf1]\nurl = {server.url}/{{State_Name}}/{{st}}2010.sf1.zip\n")
    experiment = Experiment.make("r1", Config.load(str(tmp_path / "config.ini"), env={"DAS_S3ROOT": "s3://bucket/root"}))
    with pytest.raises(StorageError, match="it is a link"):
        download(experiment, "nm", force=True)
    assert (server.asked, list((tmp_path / "elsewhere").iterdir())) == ([], [])
    own.unlink()
    server.script = [server.status(404)]
    with pytest.raises(StorageError, match="404"):
        download(experiment, "nm", force=True)
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
