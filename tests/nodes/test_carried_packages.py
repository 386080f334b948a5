"""This machine's packages carried to nodes by a launch: to those that can use them, whole, and used instead of pip's."""

import time
from pathlib import Path

import pytest

from bench.make_state import make_state
from dbrecon.errors import RemoteError
from dbrecon.fleet.hosts import Host
from dbrecon.fleet.parcel import Parcel, carry
from dbrecon.recon.study.synthetic import plan_state
from dbrecon.settings import Config
from tests.cluster_world import World, running, world
from tests.s3_servers import client, fresh_bucket, moto_server
from tests.waiting import wait_for

__all__ = ["moto_server", "running", "world"]

pytestmark = pytest.mark.mariadb


def parcel_of(folder: Path, version: str = "") -> Parcel:
    """This machine's packages; with a version of a Python that no node has."""
    parcel = Parcel(folder)
    parcel.version = version or parcel.version
    return parcel


def test_packages_go_only_to_nodes_that_can_use_them_and_come_whole_or_not_at_all(
    running: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("HOME", str(running.operator.home))
    (tmp_path / "config.ini").write_text("[cluster]\nhosts = n2\nfolder = carried\n")
    config, home = Config.load(str(tmp_path / "config.ini")), running.node("n2").home
    monkeypatch.setattr("dbrecon.fleet.parcel.write_archive", lambda path, _extras: Path(path).write_bytes(b"packages" * 100_000))
    carry(config, Host("n2"), parcel_of(tmp_path, "3.99"), 60.0)
    assert "n2: it has no Python 3.99: its packages come from pip" in caplog.text
    assert not list(home.glob("carried/packages-*"))
    parcel = parcel_of(tmp_path)
    carry(config, Host("n2"), parcel, 60.0)
    [archive] = home.glob("carried/packages-*")
    assert archive.read_bytes() == b"packages" * 100_000
    assert archive.stat().st_mode & 0o77 == 0
    archive.unlink()
    parcel.archive()[0].write_bytes(b"others")  # not what its digest was taken of
    with pytest.raises(RemoteError, match="n2: the packages cannot be kept there: they did not come whole"):
        carry(config, Host("n2"), parcel, 60.0)
    (home / "carried" / f"venv-{parcel.digest}").mkdir()
    (home / "carried" / f"venv-{parcel.digest}" / "ready").touch()
    carry(config, Host("n2"), parcel, 60.0)
    assert not list(home.glob("carried/packages-*.gz"))


@pytest.mark.long
def test_a_cold_node_works_with_the_packages_that_a_launch_carries_and_never_asks_pip(running: World, tmp_path: Path) -> None:
    """The only package index that it is told of is one that nobody runs. A second launch finds what the first has brought."""
    node, server = running.node("n2"), running.operator.env["AWS_ENDPOINT_URL"]
    bucket, times = fresh_bucket(server), []
    make_state(plan_state("de", "10", 2000, 3, counties=1), str(tmp_path / "de2010.sf1.zip"), None)
    for reident in ("cold", "warm"):
        env = {"PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_RETRIES": "0", "DAS_S3ROOT": f"s3://{bucket}/root", "REIDENT": reident}
        assert running.run("--register", reident, env=env).returncode == 0
        client(server).upload_file(str(tmp_path / "de2010.sf1.zip"), bucket, f"root/2010-re/{reident}/dist/de2010.sf1.zip")
        assert running.run("--step1", "--step2", "--stusab", "de", env=env).returncode == 0
        begin = time.monotonic()
        launch = running.run(
            "--launch", "n2", "--reident", reident, env=env, venv="", packages="here", folder="dbrecon-cold", launch_seconds="400"
        )
        times.append(time.monotonic() - begin)
        assert (launch.returncode, launch.stdout) == (0, "Launch:  n2\n"), launch.stderr
        wait_for(lambda: running.ledger.work_left(reident, frozenset({3, 4, 5})).nothing_left, "its people", 120)  # noqa: B023
        wait_for(lambda: not running.at_work("n2"), "the scheduler's end")
    print(f"cold {times[0]:.1f} s, warm {times[1]:.1f} s")
    [venv] = node.home.glob("dbrecon-cold/venv-*")
    assert (venv / "ready").exists()
    assert not (venv / "bin" / "pip").exists()
    assert not list(node.home.glob("dbrecon-cold/packages-*"))
