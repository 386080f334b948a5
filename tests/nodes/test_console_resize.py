"""The cluster's size on EMR: moto's server over HTTP for instance groups, botocore's own model of the service for fleets."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from dbrecon.console import cluster_nodes as console_nodes
from dbrecon.ctools import emr
from dbrecon.ctools.aws import AwsError
from dbrecon.ctools.database import make_engine
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import Worker
from dbrecon.settings import ClusterSettings, Config
from tests.console_world import AWS, Operator, assert_refused
from tests.helpers import TractRow, geography
from tests.s3_servers import moto_server

__all__ = ["moto_server"]

GROUPS = [("DASEMRDriverGroup", "MASTER", 1), ("DASEMRCoreGroup", "CORE", 2), ("DASTaskInstanceGroup", "TASK", 3)]


@dataclass
class EmrCluster:
    """A cluster, and an operator at its MASTER. None of its nodes can be reached: they exist in the service alone."""

    id: str
    client: Any
    operator: Operator

    def groups(self) -> dict[str, tuple[int, int]]:
        """Requested and running instances of each group."""
        rows = self.client.list_instance_groups(ClusterId=self.id)["InstanceGroups"]
        return {row["Name"]: (row["RequestedInstanceCount"], row["RunningInstanceCount"]) for row in rows}


Make = Callable[[list[tuple[str, str, int]]], EmrCluster]


@pytest.fixture
def no_nodes(tmp_path: Path) -> Path:
    """Settings of OpenSSH by which every host refuses: port 1 of this machine."""
    path = tmp_path / "ssh_config"
    path.write_text("Host *\n  HostName 127.0.0.1\n  Port 1\n")
    return path


@pytest.fixture
def make_cluster(moto_server: str, no_nodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    env = AWS | {"AWS_ENDPOINT_URL": moto_server}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("emr")

    def make(groups: list[tuple[str, str, int]]) -> EmrCluster:
        kind = {"InstanceType": "m5.xlarge"}
        wanted = [{"Name": name, "InstanceRole": role, "InstanceCount": count} | kind for name, role, count in groups]
        instances = {"KeepJobFlowAliveWhenNoSteps": True, "InstanceGroups": wanted}
        made = client.run_job_flow(Name="das", Instances=instances, JobFlowRole="role", ServiceRole="role")["JobFlowId"]
        settings = f"[cluster]\nssh_config = {no_nodes}\n"
        operator = Operator(tmp_path / "home", settings, env | {"EMR_CLUSTER_ID": made, "DAS_S3ROOT": str(tmp_path)})
        return EmrCluster(made, client, operator)

    return make


def test_growing_prints_what_the_manual_shows(make_cluster: Make) -> None:
    cluster = make_cluster(GROUPS)
    result = cluster.operator.run("--resize", "10", stdin="yes\n")
    assert result.returncode == 0
    assert result.stderr.endswith("Resize cluster to 10 nodes? (yes/no) ")
    assert result.stdout.splitlines() == [
        f"clusterId: {cluster.id}",
        "DASTaskInstanceGroup  requested: 10  running: 10",
        "DASEMRDriverGroup  requested: 1  running: 1",
        "DASEMRCoreGroup  requested: 2  running: 2",
        "RESIZING",
    ]
    assert cluster.groups() == {"DASEMRDriverGroup": (1, 1), "DASEMRCoreGroup": (2, 2), "DASTaskInstanceGroup": (10, 10)}


@pytest.mark.parametrize("answer", ["", "no\n", "y\n"])
def test_nothing_is_changed_unless_the_answer_is_yes(make_cluster: Make, answer: str) -> None:
    cluster = make_cluster(GROUPS)
    result = cluster.operator.here("--resize", "4", stdin=answer)
    assert (result.returncode, result.stdout) == (1, "Nothing was changed.\n")
    assert cluster.groups()["DASTaskInstanceGroup"] == (3, 3)


def test_yes_asks_nothing_and_shrinking_says_which_nodes_end_and_frees_what_they_hold(make_cluster: Make, tmp_path: Path) -> None:
    cluster = make_cluster(GROUPS)
    ledger = Ledger(make_engine(sqlite_path=tmp_path / "2010-re" / "dbrecon.sqlite3"))
    ledger.register("r1", "all", "sf1_2010")
    ledger.replace_geography("r1", "de", geography([TractRow("10", "001", f"00010{i}", 100 + i) for i in range(3)]))
    task = cluster.client.list_instance_groups(ClusterId=cluster.id)["InstanceGroups"]
    group = next(row["Id"] for row in task if row["InstanceGroupType"] == "TASK")
    instances = cluster.client.list_instances(ClusterId=cluster.id, InstanceGroupId=group)["Instances"]
    hosts = [host_row["PrivateDnsName"] for host_row in instances]
    for host in (hosts[0].partition(".")[0], "stays"):
        assert ledger.claim("r1", Worker(host, "1-1"), lease_seconds=3600)
    result = cluster.operator.here("--resize", "0", "--yes")
    assert result.returncode == 0, result.stderr
    assert "Resize cluster" not in result.stderr
    assert sorted(re.findall(r"(\S+) ends \(it does not answer", result.stderr)) == sorted(hosts)
    assert cluster.groups()["DASTaskInstanceGroup"][0] == 0
    assert [claimant.worker.host for claimant in ledger.claimants("r1")] == ["stays"]


def test_shrinking_names_to_emr_the_instances_that_were_chosen(make_cluster: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_cluster(GROUPS)
    cluster = emr.Cluster(made.id)
    group = next(group_row for group_row in cluster.groups() if group_row.role == "TASK")
    sent: list[dict[str, Any]] = []
    cluster._client.meta.events.register(
        "provide-client-params.emr.ModifyInstanceGroups", lambda params, **_: sent.append(dict(params))
    )
    cluster.resize(group, 2, ["i-7"])
    policy = {"InstanceResizePolicy": {"InstancesToTerminate": ["i-7"]}}
    change = {"InstanceGroupId": group.id, "InstanceCount": 2, "ShrinkPolicy": policy}
    assert sent == [{"ClusterId": made.id, "InstanceGroups": [change]}]


def test_a_cluster_without_a_task_group_says_how_to_get_one(make_cluster: Make) -> None:
    assert_refused(make_cluster(GROUPS[:2]).operator.here("--resize", "3", "--yes"), 2, "has no TASK group", "add-instance-groups")


def test_of_several_task_groups_one_must_be_named(make_cluster: Make) -> None:
    cluster = make_cluster([*GROUPS, ("Spot", "TASK", 1)])
    assert_refused(cluster.operator.here("--resize", "3", "--yes"), 2, "DASTaskInstanceGroup, Spot", "[cluster] task_group")
    cluster.operator.settings += "task_group = Spot\n"
    assert cluster.operator.here("--resize", "2", "--yes").returncode == 0
    assert (cluster.groups()["Spot"][0], cluster.groups()["DASTaskInstanceGroup"][0]) == (2, 3)


def test_no_group_but_task_can_be_resized(make_cluster: Make) -> None:
    cluster = emr.Cluster(make_cluster(GROUPS).id)
    for group in cluster.groups():
        if group.role != "TASK":
            with pytest.raises(ValueError, match="only TASK"):
                cluster.resize(group, 1)


def test_cluster_shows_core_nodes_as_such_and_leaves_the_master_out(make_cluster: Make) -> None:
    result = make_cluster(GROUPS).operator.here("--cluster")
    found = [re.match(r"unreachable: ip-[0-9-]+\.ec2\.internal \((CORE|TASK), ", line) for line in result.stdout.splitlines()]
    assert sorted(match[1] for match in found if match) == ["CORE", "CORE", "TASK", "TASK", "TASK"]
    assert result.returncode == 8


def test_a_core_node_gets_no_scheduler_unless_the_setting_allows_it(make_cluster: Make) -> None:
    cluster = make_cluster(GROUPS)
    cluster.operator.env |= {"MYSQL_HOST": "h", "MYSQL_DATABASE": "d", "MYSQL_USER": "u", "MYSQL_PASSWORD": "p"}
    cluster.operator.settings += "repository = file:///none\nbranch = main\n"
    rows = cluster.client.list_instance_groups(ClusterId=cluster.id)["InstanceGroups"]
    group = next(row["Id"] for row in rows if row["InstanceGroupType"] == "CORE")
    core = cluster.client.list_instances(ClusterId=cluster.id, InstanceGroupId=group)["Instances"][0]["PrivateDnsName"]
    assert_refused(cluster.operator.here("--launch", core), 2, core, "CORE", "[cluster] launch_core")


# -- fleets, permissions ------------------------------------------------------------------------------------------------


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """A client whose answers are checked against botocore's model of EMR, which knows what moto does not."""
    client = boto3.client("emr", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    monkeypatch.setattr(emr, "client", lambda _service: client)
    with Stubber(client) as stubber:
        yield stubber


def test_a_task_fleet_is_resized_by_its_own_kind_of_capacity(stubbed: Stubber) -> None:
    fleet = {"Id": "if-1", "Name": "tasks", "InstanceFleetType": "TASK", "TargetOnDemandCapacity": 0, "TargetSpotCapacity": 4,
             "ProvisionedOnDemandCapacity": 0, "ProvisionedSpotCapacity": 3}  # fmt: skip
    stubbed.add_response("describe_cluster", {"Cluster": {"InstanceCollectionType": "INSTANCE_FLEET"}}, {"ClusterId": "j-1"})
    stubbed.add_response("list_instance_fleets", {"InstanceFleets": [fleet]}, {"ClusterId": "j-1"})
    changed = {"ClusterId": "j-1", "InstanceFleet": {"InstanceFleetId": "if-1", "TargetSpotCapacity": 9}}
    stubbed.add_response("modify_instance_fleet", {}, changed)
    cluster = emr.Cluster("j-1")
    (group,) = cluster.groups()
    assert group.line() == "tasks  requested: 4  running: 3"
    cluster.resize(group, 9, [])
    stubbed.assert_no_pending_responses()


def test_a_missing_permission_is_named(stubbed: Stubber) -> None:
    stubbed.add_client_error("describe_cluster", "AccessDeniedException", "User is not authorized")
    with pytest.raises(AwsError, match="your role needs the IAM permission elasticmapreduce:DescribeCluster"):
        emr.Cluster("j-1").groups()


def test_a_cluster_that_is_no_more_is_said_so(stubbed: Stubber) -> None:
    stubbed.add_response("describe_cluster", {"Cluster": {"Status": {"State": "TERMINATED"}}})
    with pytest.raises(AwsError, match=r"j-1 is terminated$"):
        emr.Cluster("j-1").groups()


def test_a_machine_of_emr_knows_its_own_cluster(tmp_path: Path) -> None:
    path = tmp_path / "job-flow.json"
    assert emr.cluster_id(None, str(path)) is None
    path.write_text('{"jobFlowId": "j-7", "jobFlowCreationInstant": 1}')
    assert emr.cluster_id(None, str(path)) == "j-7"
    assert emr.cluster_id("j-8", str(path)) == "j-8"


def test_a_fleet_that_shrinks_may_lose_any_of_its_nodes(stubbed: Stubber, no_nodes: Path) -> None:
    """EMR chooses: so all are told about, and halted."""
    group = emr.Group("if-1", "tasks", "TASK", 3, 3, fleet=True)
    rows = [{"Ec2InstanceId": f"i-{i}", "PrivateDnsName": f"ip-{i}.invalid", "InstanceFleetId": "if-1"} for i in range(3)]
    stubbed.add_response("describe_cluster", {"Cluster": {"InstanceCollectionType": "INSTANCE_FLEET"}})
    stubbed.add_response("list_instances", {"Instances": rows})
    config = Config(cluster=ClusterSettings(ssh_config=str(no_nodes)))
    leaving = console_nodes._leaving(emr.Cluster("j-1"), group, config, 2)
    assert [host.host.instance for host in leaving] == ["i-0", "i-1", "i-2"]


def test_a_cluster_that_has_the_size_already_is_left_alone(make_cluster: Make) -> None:
    cluster = make_cluster(GROUPS)
    result = cluster.operator.here("--resize", "3")
    assert (result.returncode, result.stdout) == (0, "DASTaskInstanceGroup  requested: 3  running: 3: nothing is to be changed\n")
