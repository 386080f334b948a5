"""The first commands that README and manual show, run as they stand, one after the other, on a zip that a web server has."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import dbrecon
from tests.paths import CHECKOUT

BLOCKS = [("README.md", "## A first run of your own"), ("docs/manual/one_machine.md", "The same, step by step:")]


class Quiet(SimpleHTTPRequestHandler):
    """A web server for the files of a folder."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the zip of a small Rhode Island is to be had."""
    folder = tmp_path_factory.mktemp("published")
    dbrecon.make_state(1200, state="ri", counties=1, seed=8).write_zip(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def commands(page: str, after: str) -> list[str]:
    """The commands of the block of code that follows some words of a page."""
    text = (CHECKOUT / page).read_text(encoding="utf-8").partition(after)[2]
    block = re.search(r"(?:^    .*\n)+", text, re.M)
    assert block is not None
    return [line for line in re.findall(r"^    (.*)", block[0], re.M) if line.startswith("./")]


@pytest.mark.parametrize(("page", "after"), BLOCKS, ids=lambda text: text.rpartition("/")[2])
def test_the_commands_of_a_first_run_do_what_they_say(page: str, after: str, url: str, tmp_path: Path) -> None:
    settings = tmp_path / "config.ini"
    settings.write_text(f"[sf1]\nurl = {url}/{{st}}2010.sf1.zip\n")
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment |= {"DAS_S3ROOT": str(tmp_path / "recon"), "REIDENT": "ri1", "DBRECON_CONFIG": str(settings), "no_proxy": "*"}
    shown = commands(page, after)
    assert len(shown) >= 5
    for command in shown:
        done = subprocess.run(
            ["bash", "-c", command], cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    (people,) = (tmp_path / "recon" / "2010-re" / "ri1" / "work" / "ri" / "44001").glob("synth_out_44001.csv")
    assert len(people.read_bytes().splitlines()) == 1201
