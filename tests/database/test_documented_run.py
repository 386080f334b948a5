"""What README and the pages show runs as it stands: each block of code is run here, or by a test that it names, or says why not."""

import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dbrecon
from tests.blocks import BLOCKS, Block
from tests.console_world import Operator
from tests.paths import CHECKOUT

SHOWN = [block for block in BLOCKS if block.said == "run"]
README, *_ = [block for block in SHOWN if block.page == "README.md"]
AGAIN, STEP_BY_STEP = [block for block in SHOWN if block.page == "docs/manual/one_machine.md"]
PYTHON = [block for block in SHOWN if block.text.startswith(("import ", "from "))]
LATER = [block for block in SHOWN if block not in (README, AGAIN, STEP_BY_STEP, *PYTHON)]
AROUND = ("make setup", "export ")
"""What a block may begin with beside commands: the tests have an environment, and settings, of their own."""


class Quiet(SimpleHTTPRequestHandler):
    """A web server for the files of a folder."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class World:
    """A folder with the zip of a small Rhode Island, which a web server has, its true people, and an operator's files."""

    folder: Path
    url: str

    def operator(self, root: str = "recon") -> Operator:
        env = {"DAS_S3ROOT": str(self.folder / root), "REIDENT": "ri1", "no_proxy": "*"}
        return Operator(self.folder / "home", f"[sf1]\nurl = {self.url}/{{st}}2010.sf1.zip\n", env)

    @property
    def people(self) -> Path:
        return self.folder / "recon" / "2010-re" / "ri1" / "work" / "ri" / "44001" / "synth_out_44001.csv"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Before anything is typed."""
    folder = tmp_path_factory.mktemp("published")
    state = dbrecon.make_state(1200, state="ri", counties=1, seed=8)
    state.write_zip(folder)
    dbrecon.write_people(state.people("pandas"), folder / "truth.csv.gz")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield World(folder, f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def done(world: World) -> World:
    """After README's first run, and the samples that some pages take for granted."""
    run_in_a_shell(README, world.operator())
    assert world.operator().here("--step6", "--samples", "2").returncode == 0
    assert len(world.people.read_bytes().splitlines()) == 1201
    return world


def run_in_a_shell(block: Block, operator: Operator) -> None:
    """Types the commands of a block as they stand."""
    for command in commands(block):
        words = ["bash", "-c", command]
        done = subprocess.run(
            words, cwd=CHECKOUT, env=operator.environment(), capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def commands(block: Block) -> list[str]:
    """The commands of a block that is run; nothing else may be in it but what is around them."""
    others = [line for line in block.text.splitlines() if not re.match(r"(watch ')?\./", line) and not line.startswith(AROUND)]
    assert others == [], block.name
    assert block.commands, block.name
    return block.commands


def in_this_world(command: str, block: Block, world: World) -> list[str]:
    """The words of a command, with what is here for what it names as an example."""
    text = re.sub(r"\[(--[^\[\]]*)", r"\1", command.partition(" #")[0]).replace("]", "")
    for example, here in (
        ("--reident R --drop", "--reident r3 --drop"),
        ("--reident R", "--reident ri1"),
        ("--samples 30", "--samples 2"),
        ("oh --county 059", "ri --county 001"),
        ("oh 059", "ri 001"),
        ("oh", "ri"),
        ("TRUTH.csv.gz", str(world.folder / "truth.csv.gz")),
        ("TRUTH.csv", str(world.folder / "truth.csv.gz")),
        ("PATH", str(world.people)),
        ("390599771001005", world.people.read_text().splitlines()[1].split(",")[1]),
    ):
        text = re.sub(rf"(?<![\w/.]){re.escape(example)}(?![\w/])", here, text)
    return shlex.split(text)[1:]


@pytest.mark.parametrize("block", [AGAIN, STEP_BY_STEP], ids=lambda block: block.name)
def test_the_commands_of_a_first_run_do_what_they_say(block: Block, done: World) -> None:
    """The first block goes on where README's has ended; the other begins with nothing."""
    operator = done.operator("recon" if block is AGAIN else "recon2")
    run_in_a_shell(block, operator)
    [people] = Path(operator.env["DAS_S3ROOT"]).glob("2010-re/ri1/work/ri/44001/synth_out_44001.csv")
    assert people.read_bytes() == done.people.read_bytes()


@pytest.mark.parametrize("block", LATER, ids=lambda block: block.name)
def test_what_a_page_shows_runs_on_that_experiment(
    block: Block, done: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    operator = done.operator()
    if "--drop" in block.text:
        assert operator.here("--register", "r3").returncode in (0, 2)  # there already, where another page has registered it
    for command in commands(block):
        result = operator.here(*in_this_world(command, block, done), stdin="r3\n")
        well = (0, 1) if "--doctor" in command else (0,)  # it may find something to mend on the machine of the tests
        assert result.returncode in well, f"{command}\n{result.stdout}{result.stderr}"


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_what_a_page_shows_of_python_runs(block: Block) -> None:
    columns = dbrecon.product().columns("block")
    names: dict[str, Any] = {"numpy": np, "cells": np.arange(len(columns))[None, :]}
    exec(block.text, names)
