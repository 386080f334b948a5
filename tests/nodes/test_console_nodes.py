"""A cluster from the operator's chair: real OpenSSH servers as nodes, MariaDB, and an S3 server over HTTP."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from dbrecon.ctools import ssh
from dbrecon.fleet import doctor_nodes as probe_node
from tests.cluster_world import BUCKET, World, all_held, running, world
from tests.console_world import Operator, Result, assert_refused
from tests.helpers import TractRow, geography
from tests.paths import SHARED_DATA
from tests.s3_servers import moto_server
from tests.ssh_nodes import SshNode
from tests.waiting import wait_for

__all__ = ["moto_server", "running", "world"]

pytestmark = pytest.mark.mariadb

CTRL_C = bytes([3])
UPTIME = r"(\d+ days?, )?(\d+:\d\d|\d+ min), \d+ users?, load average: [\d.]+, [\d.]+, [\d.]+, free memory: [\d.]+ GiB"


# --- looking ---------------------------------------------------------------------------------------------------------


def test_each_node_has_a_line_in_the_manual_s_form(running: World) -> None:
    result = running.run("--clus")
    assert (result.returncode, result.stderr) == (0, "")
    lines = sorted(result.stdout.splitlines())
    assert [line.split()[1] for line in lines] == ["bare4", "n1", "n2", "n3"]
    assert all(re.fullmatch(rf"idle: \w+ {UPTIME}", line) for line in lines), lines


def test_nodes_that_are_dead_in_any_way_are_shown_with_the_reason_beside_those_that_live(running: World) -> None:
    """One refuses, one has another key than it had, one does not let us in."""
    refusing, changed = running.node("n3"), running.node("bare4")
    refusing.stop()
    other = (running.node("n1").folder / "host_key.pub").read_text()
    known = running.nodes.known_hosts.read_text().splitlines()
    kept = [line for line in known if not line.startswith(f"[{changed.address}]")]
    running.nodes.known_hosts.write_text("\n".join([*kept, f"[{changed.address}]:{changed.port} {other}"]))
    result = running.here("--cluster", hosts="n1 n3 bare4 stranger@n1", ssh_seconds="60")
    assert result.returncode == 0
    shown = {line.split()[1]: line for line in result.stdout.splitlines()}
    assert shown["n1"].startswith("idle: n1 ")
    assert shown["n3"] == "unreachable: n3 (Connection refused)"
    assert "shows another host key" in shown["bare4"]
    assert f"ssh-keygen -R '[{changed.address}]:{changed.port}'" in shown["bare4"]
    assert "refuses stranger" in shown["stranger@n1"]


def test_a_node_that_hangs_is_shown_so_after_the_time_that_is_set_beside_one_that_answers(running: World) -> None:
    hanging = running.node("n2")
    assert hanging.process is not None
    os.killpg(hanging.process.pid, signal.SIGSTOP)
    try:
        result = running.here("--cluster", hosts="n1 n2", ssh_seconds="5")
    finally:
        os.killpg(hanging.process.pid, signal.SIGCONT)
    assert result.returncode == 0
    lives, hangs = sorted(result.stdout.splitlines())
    assert lives.startswith("idle: n1 ")
    assert hangs == "unreachable: n2 (does not answer within 5 s)"


def test_lines_appear_as_nodes_answer_and_json_has_them_all(running: World) -> None:
    hanging = running.node("n2")
    assert hanging.process is not None
    os.killpg(hanging.process.pid, signal.SIGSTOP)
    try:
        process = running._typing(None, {"hosts": "n2 n1", "ssh_seconds": "30"}).start("--cluster")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("idle: n1 ")
        assert process.poll() is None, "n2 is waited for"
        process.terminate()
        process.communicate(timeout=60)
        shown = running.here("--cluster", "--json", hosts="n2 n1", ssh_seconds="5")
    finally:
        os.killpg(hanging.process.pid, signal.SIGCONT)
    lives, hangs = json.loads(shown.stdout)["nodes"]
    assert (lives["host"], lives["role"], lives["state"], lives["name"]) == ("n1", "TASK", "idle", running.node("n1").hostname)
    assert len(lives["load"]) == 3
    assert min(lives["time"], lives["uptime"], lives["free_kib"]) > 0
    assert hangs == {"host": "n2", "role": "TASK", "state": "unreachable", "error": "does not answer within 5 s"}


def test_where_no_node_answers_the_exit_code_says_so(running: World) -> None:
    running.nodes.known_hosts.write_text("")
    result = running.here("--cluster", hosts="n1 n2")
    assert result.returncode == 8
    assert result.stdout.count("unreachable: n") == 2
    assert result.stderr == "error: no node answers: see the reasons above, or try one with ssh\n"
    result = running.here("--cluster", "--json", hosts="n1 n2")
    assert (result.returncode, len(json.loads(result.stdout)["nodes"])) == (8, 2)


def test_a_node_whose_name_leads_nowhere_is_reached_at_its_address(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(running.operator.home))
    node = running.node("n1")
    config = running.operator.home / ".ssh" / "config"
    before = config.read_text()
    config.write_text(f"Host *.internal\n  Port {node.port}\n")
    try:
        done = ssh.run("ip-10-0-0-1.no-such.internal", "echo in\n", ssh.SshSettings(), 60.0, address=node.address)
        with pytest.raises(ssh.NameUnknown, match="cannot be resolved"):
            ssh.run("ip-10-0-0-1.no-such.internal", "echo in\n", ssh.SshSettings(), 60.0)
    finally:
        config.write_text(before)
    assert done.out == "in\n"


def test_a_new_host_is_refused_unless_the_setting_accepts_it_and_then_remembered(running: World) -> None:
    running.nodes.known_hosts.write_text("# mine\n|1|keep=|this=")
    assert "unreachable: n1 (its host key is not in" in running.here("--cluster", hosts="n1").stdout
    assert running.nodes.known_hosts.read_text() == "# mine\n|1|keep=|this="
    assert running.here("--cluster", hosts="n1 n2", ssh_new_hosts="accept").stdout.count("idle: ") == 2
    lines = running.nodes.known_hosts.read_text().splitlines()
    assert lines[:2] == ["# mine", "|1|keep=|this="]
    assert sorted(line.split()[0] for line in lines[2:]) == sorted(
        f"[{node.address}]:{node.port}" for node in (running.node("n1"), running.node("n2"))
    )
    running.nodes.known_hosts.write_text("\n".join(lines[2:]) + "\n")
    assert "idle: n1 " in running.here("--cluster", hosts="n1").stdout


def test_a_connection_that_breaks_off_is_an_error_of_that_host(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(running.operator.home))
    settings = ssh.SshSettings()
    with pytest.raises(ssh.SshError, match="n1: the connection broke off"):
        ssh.run("n1", 'kill -9 "$PPID"\nsleep 5\n', settings, 30.0)
    with pytest.raises(ssh.SshError, match=r"n1 did not finish within 4 s"):
        ssh.run("n1", "sleep 60\n", settings, 4.0)  # logging in counts too


def test_a_name_that_leads_nowhere_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", nowhere)
    with pytest.raises(ssh.SshError, match=r"n9: the name cannot be resolved .*: correct it"):
        ssh.run("n9", "true", ssh.SshSettings(config_file=os.devnull), 5.0)


@pytest.mark.parametrize("host", ["", "a b", "a:b", "@a"])
def test_what_cannot_be_a_host_is_refused(host: str) -> None:
    with pytest.raises(ssh.SshError, match=r"is no host: give \[user@\]host\[:port\]"):
        ssh.run(host, "true", ssh.SshSettings(config_file=os.devnull), 5.0)


def test_output_and_exit_code_of_a_script_come_back_whole(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(running.operator.home))
    done = ssh.run("n1", "head -c 3000000 /dev/zero | tr '\\0' x\necho sorry >&2\nexit 7\n", ssh.SshSettings(), 30.0)
    assert (done.code, len(done.out), done.err) == (7, 3_000_000, "sorry\n")


NO_BRANCHES = ["", "-x", "$(touch x)", "a;b", "a b", "a\nb", "a..b", "`x`", "a\x1b[2J"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--launch", "n9"], "n9 is no host of the cluster, which has n1, n2, n3, bare4"),
        (["--logs", "n1,n2"], "--logs shows one host's output"),
        (["--stop"], "which host?"),
        (["--launch", "all"], "--launch_all goes to all idle nodes"),
        *((["--launch", "n1", f"--branch={branch}"], f"{branch!r} is no branch") for branch in NO_BRANCHES),
        (["--launch_all", "--step1"], "schedulers do steps 3 and 4"),
        (["--stop", ","], "which host?"),
        (["--resize", "-3"], "the number of TASK nodes is 0 or more"),
        (["--resize", "3"], "a list of hosts ([cluster] hosts) cannot be resized"),
        (["--cluster", "--branch", "x"], "--branch goes with --launch"),
        (["--cluster", "-f"], "--follow and --lines go with --logs"),
        (["--cluster", "--yes"], "--yes goes with --resize"),
        (["--cluster", "--launch_all"], "cannot be done at once"),
    ],
)
def test_a_wrong_command_is_refused_in_one_sentence(world: World, arguments: list[str], said: str) -> None:
    assert_refused(world.here(*arguments), 2, said)


def test_without_a_cluster_it_says_how_to_name_one(world: World) -> None:
    operator = Operator(world.operator.home, "", world.operator.env)
    assert_refused(operator.here("--cluster"), 2, "[cluster] hosts", "EMR_CLUSTER_ID")


# --- a run on the cluster --------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """What was seen while a cluster worked: command lines of all processes, and what each command printed."""

    command_lines: set[bytes] = field(default_factory=set)
    results: list[Result] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    died_with: int = 0
    solved_by: set[str] = field(default_factory=set)


@contextmanager
def spying(seen: set[bytes]) -> Iterator[None]:
    """Collects the command lines of all processes, as ps shows them, again and again."""
    over = threading.Event()

    def spy() -> None:
        while not over.wait(0.05):
            for entry in os.listdir("/proc"):
                if entry.isdecimal():
                    try:
                        seen.add(Path("/proc", entry, "cmdline").read_bytes())
                    except (FileNotFoundError, ProcessLookupError):
                        continue

    thread = threading.Thread(target=spy)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def held_by(node: SshNode, world: World) -> int:
    """How many tracts of r1 it holds."""
    return sum(claimant.tracts for claimant in world.ledger.claimants("r1") if claimant.worker.host == node.hostname)


def frozen_at_work(node: SshNode, world: World) -> bool:
    """Whether it held tracts when its processes were stopped; where it held none they go on."""
    if not held_by(node, world):
        return False
    node.strike(signal.SIGSTOP)
    if held_by(node, world):
        return True
    node.strike(signal.SIGCONT)
    return False


@pytest.fixture(scope="module")
def run_to_the_end(world: World) -> Watched:
    """Real tracts of four states: a node dies while it works on them, one has no Python, the others do it all."""
    zips = sorted((SHARED_DATA / "real_tracts").glob("*.zip"))
    if not zips:
        pytest.skip("needs ../shared/data/real_tracts, which is not here")
    watched = Watched()
    client = boto3.client("s3", endpoint_url=world.operator.env["AWS_ENDPOINT_URL"], aws_access_key_id="test",
                          aws_secret_access_key="x", region_name="us-east-1")  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    for path in zips:
        client.upload_file(str(path), BUCKET, f"root/2010-re/r1/dist/{path.name}")

    def typed(*args: str) -> Result:
        watched.results.append(world.run(*args))
        return watched.results[-1]

    with spying(watched.command_lines):
        assert typed("--register", "r1").returncode == 0
        assert typed("--step1", "--step2", "--stusab", "all").returncode == 0
        typed("--launch", "n3")
        dies = world.node("n3")
        wait_for(lambda: frozen_at_work(dies, world), "a claim of n3's")
        dies.stop()
        watched.died_with = held_by(dies, world)
        typed("--launch_all")
        typed("--watch", "1")
        for name in ("n1", "n2"):
            wait_for(lambda name=name: not world.at_work(name), "the end of the work")  # type: ignore[misc]
        typed("--logs", "n1")
    watched.status = json.loads(world.run("--status", "--json").stdout)
    watched.solved_by = {name for name, _ in watched.status["sols_past_hour"].items()}
    return watched


def test_every_tract_is_solved_though_a_node_died_and_one_cannot_work(run_to_the_end: Watched, world: World) -> None:
    assert run_to_the_end.died_with > 0
    status = run_to_the_end.status
    assert (status["sol_created"], status["sol_remaining"], status["csv_completed"]) == (6, 0, 6)
    assert status["quarantined"] == []
    assert run_to_the_end.solved_by & {world.node(name).hostname for name in ("n1", "n2")}


def test_launch_all_names_each_node_that_it_launched_and_each_that_failed(run_to_the_end: Watched) -> None:
    launched = run_to_the_end.results[3]
    assert sorted(launched.stdout.splitlines()) == ["Launch:  n1", "Launch:  n2"]
    assert launched.returncode == 8
    assert "error: bare4: there is no Python: " in launched.stderr
    assert "error: n3: Connection refused" in launched.stderr


def test_watch_ends_with_all_that_is_done(run_to_the_end: Watched) -> None:
    watch = run_to_the_end.results[4]
    assert watch.returncode == 0
    last = watch.stdout.strip().split("\n\n\n")[-1]
    assert "100 %  6 of 6 tracts" in last
    assert "6,956 of 6,956 people solved" in last


def test_logs_show_how_a_scheduler_ended(run_to_the_end: Watched, world: World) -> None:
    logs = run_to_the_end.results[5]
    lines = logs.stdout.splitlines()
    assert re.fullmatch(r"==> .*/recon/output-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} <==", lines[0])
    assert lines[-1].endswith("scheduler.py ended with exit code 0")
    assert lines[0] == f"==> {world.node('n1').outputs()[-1]} <=="


def test_nothing_secret_was_in_a_list_of_processes_or_in_what_was_printed_or_written(run_to_the_end: Watched, world: World) -> None:
    assert any(b"scheduler.py" in line for line in run_to_the_end.command_lines), "it would have been seen"
    printed = "".join(result.stdout + result.stderr for result in run_to_the_end.results)
    written = b"".join(
        path.read_bytes() for node in world.nodes.nodes.values() for path in node.home.glob("dbrecon/**/*")
        if path.is_file() and "environment" not in path.parts and ".venv" not in path.parts
    )  # fmt: skip
    assert b"[cluster]" in written, "the settings were found"
    logged = "".join((node.folder / "log").read_text(errors="replace") for node in world.nodes.nodes.values())
    for secret in world.secrets:
        assert [line for line in run_to_the_end.command_lines if secret.encode() in line] == []
        assert secret not in printed
        assert secret.encode() not in written
        assert secret not in logged


# --- schedulers ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def waiting(world: World, run_to_the_end: Watched) -> Iterator[World]:
    """An experiment whose tracts all are held by another: n1's scheduler is launched and waits. The tests below are in order."""
    assert run_to_the_end.status
    world.node("n3").start()
    world.ledger.reset("r1", 4)
    with all_held(world, "r1", "elsewhere"):
        result = world.here("--launch", "n1")
        assert (result.returncode, result.stdout) == (0, "Launch:  n1\n"), result.stderr
        yield world
        world.quiet()


def test_a_node_in_use_is_shown_and_spared(waiting: World) -> None:
    before = waiting.at_work("n1")
    assert "in use: n1 " in waiting.here("--cluster", hosts="n1").stdout
    spared = waiting.here("--launch", "n1")
    assert (spared.returncode, spared.stdout) == (8, "")
    assert "error: n1 is in use: --force" in spared.stderr
    assert "no idle node: --force" in waiting.here("--launch_all", hosts="n1").stderr
    assert waiting.at_work("n1") == before


def test_logs_are_followed_while_they_grow_until_ctrl_c(waiting: World) -> None:
    code, shown = waiting.operator.on_terminal("--logs", "n1", "-f", until="<==", keys=CTRL_C)
    assert code == 130
    assert "interrupted" in shown


def test_with_force_a_node_in_use_is_launched_anew(waiting: World) -> None:
    before, outputs = waiting.at_work("n1"), len(waiting.node("n1").outputs())
    forced = waiting.here("--launch", "n1", "--force")
    assert (forced.returncode, forced.stdout) == (0, "Launch:  n1\n"), forced.stderr
    assert before
    assert not set(before) & set(waiting.at_work("n1"))
    assert len(waiting.node("n1").outputs()) == outputs + 1, "the old outputs stay"


def test_stop_lets_schedulers_finish_and_leave(waiting: World) -> None:
    assert waiting.at_work("n1")
    stopped = waiting.here("--stop", "all", hosts="n1 n2")
    assert sorted(line[:10].rstrip() for line in stopped.stdout.splitlines()) == ["Stop:  n1", "idle:  n2"]
    wait_for(lambda: not waiting.at_work("n1"), "the scheduler's leaving")
    assert "ended with exit code 0" in waiting.node("n1").outputs()[-1].read_text()


def test_what_a_dead_scheduler_left_running_is_ended_by_a_launch(waiting: World) -> None:
    """Its workers' ancestor is named in their command lines; here one is played that does not end by itself."""
    node = waiting.node("n1")
    waiting.quiet()
    play = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)  # dbrecon.node.worker"
    environment = os.environ | {"DBRECON_HOSTNAME": node.hostname}
    # By way of a shell that leaves: its parent is gone, as that of a straggler.
    subprocess.run(["sh", "-c", f"'{sys.executable}' -c '{play}' >/dev/null 2>&1 &"], env=environment, check=True)
    wait_for(lambda: bool(node.processes("# dbrecon.node.worker")), "the straggler")
    assert "idle: n1 " in waiting.here("--cluster", hosts="n1").stdout
    assert waiting.here("--launch", "n1").stdout == "Launch:  n1\n"
    assert node.processes("# dbrecon.node.worker") == []


def test_on_emr_core_nodes_are_shown_as_such_and_a_node_in_use_puts_its_tracts_back_before_it_ends(waiting: World) -> None:
    """The service is moto's; its hosts' names lead to our nodes. n1 was launched by the test before."""
    assert waiting.at_work("n1")
    emr = boto3.client("emr", endpoint_url=waiting.operator.env["AWS_ENDPOINT_URL"], aws_access_key_id="test",
                       aws_secret_access_key="x", region_name="us-east-1")  # fmt: skip
    roles = {"MASTER": 1, "CORE": 1, "TASK": 2}
    kind = {"InstanceType": "m5.xlarge"}
    groups = [{"Name": role, "InstanceRole": role, "InstanceCount": count} | kind for role, count in roles.items()]
    instances = {"KeepJobFlowAliveWhenNoSteps": True, "InstanceGroups": groups}
    cluster = emr.run_job_flow(Name="c", Instances=instances, JobFlowRole="r", ServiceRole="r")["JobFlowId"]
    ids = {row["InstanceGroupType"]: row["Id"] for row in emr.list_instance_groups(ClusterId=cluster)["InstanceGroups"]}
    hosts = {
        role: [
            host_row["PrivateDnsName"] for host_row in emr.list_instances(ClusterId=cluster, InstanceGroupId=ids[role])["Instances"]
        ]
        for role in roles
    }
    waiting.nodes.write_ssh_config({hosts["CORE"][0]: "n2", hosts["TASK"][0]: "n1", hosts["TASK"][1]: "n3"})
    try:
        shown = sorted(waiting.here("--cluster", hosts="", env={"EMR_CLUSTER_ID": cluster}).stdout.splitlines())
        resized = waiting.here("--resize", "0", "--yes", hosts="", env={"EMR_CLUSTER_ID": cluster})
    finally:
        waiting.nodes.write_ssh_config({name: name for name in waiting.nodes.nodes})
    expected = [("CORE", hosts["CORE"][0]), ("idle", hosts["TASK"][1]), ("in use", hosts["TASK"][0])]
    assert [re.fullmatch(rf"{kind}: {re.escape(host)} {UPTIME}", line) is not None
            for (kind, host), line in zip(expected, shown, strict=True)] == [True] * 3, shown  # fmt: skip
    assert f"{hosts['TASK'][0]} ends (in use: its tracts are put back first)" in resized.stderr
    assert resized.stdout.splitlines()[-1] == "RESIZING"
    assert not waiting.at_work("n1")
    assert "ended with exit code 130" in waiting.node("n1").outputs()[-1].read_text()


@pytest.fixture
def unfinished(world: World) -> Iterator[str]:
    """An experiment of which something is left to do."""
    world.ledger.register("unfinished", "all", "2010_sf1")
    world.ledger.replace_geography("unfinished", "de", geography([TractRow("10", "001", "000100", 10)]))
    yield "unfinished"
    world.ledger.drop("unfinished")


@pytest.mark.parametrize(
    ("branch", "env", "said"),
    [
        ("gone", {}, "branch gone of file://"),
        ("main", {"DAS_S3ROOT": "s3://no-such-bucket/root"}, "there is no such bucket"),
    ],
)
def test_a_launch_that_fails_says_why_with_the_last_lines(
    running: World, unfinished: str, branch: str, env: dict[str, str], said: str
) -> None:
    result = running.here("--launch", "n2", "--reident", unfinished, "--branch", branch, env=env)
    assert (result.returncode, result.stdout) == (8, ""), result.stderr
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: n2: ")
    assert line.count("error: ") == 1
    assert said in line
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("reident", "env", "said"),
    [
        ("nonex", {}, "REIDENT nonex is not registered"),
        ("r1", {"MYSQL_PASSWORD": "wrong"}, "Access denied"),
    ],
)
def test_what_no_node_could_do_is_refused_here_at_once(world: World, reident: str, env: dict[str, str], said: str) -> None:
    assert_refused(world.here("--launch_all", "--reident", reident, env=env), 5, said)


def test_where_nothing_is_left_to_do_nothing_is_launched(world: World, run_to_the_end: Watched) -> None:
    assert run_to_the_end.status
    world.ledger.register("done", "all", "2010_sf1")
    assert_refused(world.here("--launch_all", "--reident", "done"), 3, "done has no states yet")
    world.ledger.replace_geography("done", "de", geography([TractRow("10", "001", "000100", 0)]))
    result = world.here("--launch_all", "--reident", "done")
    assert (result.returncode, result.stdout) == (0, "nothing is left to do for done: nothing was launched\n")
    assert not any(world.at_work(name) for name in world.nodes.nodes)


def test_a_launch_without_a_shared_database_is_refused(world: World) -> None:
    env = {name: "" for name in world.operator.env if name.startswith("MYSQL_")} | {"DAS_S3ROOT": str(world.nodes.folder)}
    assert_refused(world.here("--launch_all", env=env), 2, "nodes meet in MySQL or MariaDB")


def doctor_lines(result: Result) -> dict[str, list[str]]:
    """The lines of --doctor by what they are about, without it."""
    found: dict[str, list[str]] = {}
    for line in result.stdout.splitlines()[:-1]:
        what, _, text = line.partition(": ")
        found.setdefault(what, []).append(text)
    return found


def test_doctor_tells_of_each_node_and_what_is_missing(running: World, run_to_the_end: Watched) -> None:
    assert run_to_the_end.status
    result = running.run("--doctor")
    assert result.returncode == 1, result.stderr
    lines = doctor_lines(result)
    assert re.match(r"MariaDB 1\d\.\d+\.\d+, MySQL database ", lines["ok    database"][0])
    assert lines["ok    storage"] == [f"s3://{BUCKET}/root/2010-re can be written"]
    assert lines["ok    conditional puts"] == ["who was overtaken overwrites nothing"]
    assert "HiGHS" in lines["ok    solver"][0]
    assert "Java" in lines["ok    Spark"][0]
    assert re.match(r"SSH, git, Python 3\.\d+\.\d+, repository, database, storage, ", lines["ok    n1"][0])
    assert lines["FAIL  bare4"] == ["there is no python: make the environment ~/environment there, or leave [cluster] venv empty"]
    assert result.stdout.splitlines()[-1] == "1 of these must be mended"
    assert not [secret for secret in running.secrets if secret in result.stdout + result.stderr]
    left = storage_names(running)
    assert not [name for name in left if "doctor" in name or "check" in name]


def storage_names(world: World) -> list[str]:
    client = boto3.client("s3", endpoint_url=world.operator.env["AWS_ENDPOINT_URL"], aws_access_key_id="test",
                          aws_secret_access_key="x", region_name="us-east-1")  # fmt: skip
    return [file["Key"] for file in client.list_objects_v2(Bucket=BUCKET, Prefix="root/2010-re/")["Contents"]]


def test_doctor_looks_from_the_node_itself_at_what_a_launch_needs_there(running: World, run_to_the_end: Watched) -> None:
    """The database is reached from here through localhost, which is another machine there; repository and branch are wrong."""
    assert run_to_the_end.status
    lines = doctor_lines(running.here("--doctor", hosts="n1", repository="file:///no/such/repository"))
    [repository] = lines["FAIL  n1"]
    assert re.match(r"the repository cannot be used from there \(.*no/such/repository.*\): see \[cluster\] repository", repository)
    lines = doctor_lines(running.here("--doctor", hosts="n1", branch="gone"))
    assert lines["FAIL  n1"][0].startswith("the repository cannot be used from there (it has no branch or tag gone): ")
    lines = doctor_lines(running.here("--doctor", hosts="n1", branch="-x", env={"MYSQL_HOST": "/run/some.sock"}))
    assert [text.partition(":")[0] for text in lines["FAIL  nodes"]] == [
        "'-x' is no branch",
        "nodes cannot reach the database by the socket /run/some.sock",
    ]
    assert "repository" not in lines["ok    n1"][0]
    lines = doctor_lines(running.here("--doctor", hosts="bare4", venv=""))
    assert lines["FAIL  bare4"] == ["there is no python: install Python 3.11 or newer with its venv there"]


def test_doctor_sees_from_the_node_that_the_storage_is_another_or_the_database_is_not_there(
    running: World, run_to_the_end: Watched, tmp_path: Path
) -> None:
    """What a node's own shell sets is not what is set here: its database's port and its folder are others."""
    assert run_to_the_end.status
    (tmp_path / "root").mkdir()
    wrong = {"DAS_S3ROOT": str(tmp_path / "root")}
    assert doctor_lines(running.here("--doctor", hosts="n1", env=wrong))["ok    n1"], "one machine, so it is the same folder"
    config = running._typing(wrong, {"hosts": "n1"})
    probe = probe_node.PROBE.read_text()
    assert probe.endswith("main()\n")
    environment = {"PROBE_SECONDS": "5", "PROBE_MYSQL_HOST": "127.0.0.1", "PROBE_MYSQL_PORT": "1", "PROBE_CONTENT": "x",
                   "PROBE_PATH": str(tmp_path / "elsewhere" / "marker")}  # fmt: skip
    environment |= config.environment()
    done = subprocess.run([sys.executable, "-"], input=probe, env=environment, capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout == "database_error=Connection refused\nstorage_error=No such file or directory\n"


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections and says nothing; its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield int(listener.getsockname()[1])


def test_doctor_gives_up_a_database_and_a_storage_that_stay_silent_and_answers_sigterm(world: World) -> None:
    with silent_server() as port:
        env = {"MYSQL_HOST": "127.0.0.1", "MYSQL_PORT": str(port), "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        result = world.run("--doctor", env=env, hosts="n1")
        process = world._typing(env, {"hosts": "n1"}).start("--doctor")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ok    settings: ")
        began = time.monotonic()
        process.terminate()
        process.communicate(timeout=60)
        waited = time.monotonic() - began
    lines = doctor_lines(result)
    assert lines["FAIL  database"][0].startswith(("no answer within 15 s: see MYSQL_HOST", "MySQL database"))
    assert lines["FAIL  storage"][0].startswith("no answer within 15 s: see DAS_S3ROOT and AWS_ENDPOINT_URL: something there takes")
    assert "ok    n1" in lines or "FAIL  n1" in lines, "the nodes are looked at all the same"
    assert process.returncode not in (0, None)
    assert waited < 15, "it does not wait for the silent servers"
