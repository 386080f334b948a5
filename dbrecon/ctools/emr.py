"""An EMR cluster: its groups of instances, what runs in them, and the size of its TASK group.

Only a TASK group (or a TASK fleet) is ever changed. If a MASTER or CORE instance goes, the whole cluster goes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dbrecon.ctools.aws import AwsError, client, explained
from dbrecon.errors import Subject, UsageError

JOB_FLOW_FILE = "/mnt/var/lib/info/job-flow.json"
"""Where an instance of EMR finds the cluster that it belongs to."""

TASK = "TASK"


@dataclass(frozen=True)
class Group:
    """An instance group, or an instance fleet, whose sizes are units of capacity. ``role`` is MASTER, CORE or TASK."""

    id: str
    name: str
    role: str
    requested: int
    running: int
    fleet: bool = False
    spot: bool = False

    def line(self) -> str:
        """As --resize shows it."""
        return f"{self.name}  requested: {self.requested}  running: {self.running}"


@dataclass(frozen=True)
class Instance:
    """A running instance: EC2's id, its private host name, its group's id, its private address ("" if EMR tells none)."""

    id: str
    host: str
    group: str
    address: str = ""


def cluster_id(given: str | None, job_flow_file: str = JOB_FLOW_FILE) -> str | None:
    """Return the cluster: the one that is given, else the one that this machine belongs to; None if it belongs to none."""
    if given:
        return given
    try:
        with open(job_flow_file, encoding="utf-8") as file:
            found = json.load(file).get("jobFlowId")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{job_flow_file} cannot be read ({error})", about=Subject.EMR_CLUSTER) from error
    return str(found) if found else None


class Cluster:
    """One cluster. All methods raise AwsError."""

    def __init__(self, id: str) -> None:
        self.id = id
        self._client = client("emr")
        self._fleets: bool | None = None

    def groups(self) -> list[Group]:
        """Return all groups, TASK first, then MASTER, then CORE."""
        found = self._fleet_list() if self._has_fleets() else self._group_list()
        order = {TASK: 0, "MASTER": 1, "CORE": 2}
        return sorted(found, key=lambda group: (order.get(group.role, 3), group.name))

    def instances(self) -> list[Instance]:
        """Return those that run."""
        key = "InstanceFleetId" if self._has_fleets() else "InstanceGroupId"
        rows = self._pages("list_instances", "Instances", InstanceStates=["RUNNING"])
        return [Instance(row["Ec2InstanceId"], row["PrivateDnsName"], row[key], row.get("PrivateIpAddress", "")) for row in rows]

    def resize(self, group: Group, size: int, terminate: Sequence[str] = ()) -> None:
        """Ask for ``size`` instances (of a fleet: units) in a TASK group. When it shrinks, those of ``terminate`` go (a fleet
        chooses by itself)."""
        if group.role != TASK:
            raise ValueError(f"{group.name} is {group.role}: only TASK may be resized")
        if group.fleet:
            target = "TargetSpotCapacity" if group.spot else "TargetOnDemandCapacity"
            with explained("emr"):
                self._client.modify_instance_fleet(ClusterId=self.id, InstanceFleet={"InstanceFleetId": group.id, target: size})
            return
        change: dict[str, Any] = {"InstanceGroupId": group.id, "InstanceCount": size}
        if terminate:
            change["ShrinkPolicy"] = {"InstanceResizePolicy": {"InstancesToTerminate": list(terminate)}}
        with explained("emr"):
            self._client.modify_instance_groups(ClusterId=self.id, InstanceGroups=[change])

    def _has_fleets(self) -> bool:
        if self._fleets is None:
            with explained("emr"):
                cluster = self._client.describe_cluster(ClusterId=self.id)["Cluster"]
            state = cluster.get("Status", {}).get("State", "")
            if state.startswith("TERMINAT"):
                raise AwsError(f"the EMR cluster {self.id} is {state.lower()}", about=Subject.EMR_CLUSTER)
            self._fleets = cluster.get("InstanceCollectionType") == "INSTANCE_FLEET"
        return self._fleets

    def _group_list(self) -> list[Group]:
        return [
            Group(row["Id"], row["Name"], row["InstanceGroupType"], row["RequestedInstanceCount"], row["RunningInstanceCount"])
            for row in self._pages("list_instance_groups", "InstanceGroups")
            if row.get("Status", {}).get("State") not in ("TERMINATING", "TERMINATED")
        ]

    def _fleet_list(self) -> list[Group]:
        found = []
        for row in self._pages("list_instance_fleets", "InstanceFleets"):
            target = [row.get("TargetOnDemandCapacity", 0), row.get("TargetSpotCapacity", 0)]
            running = row.get("ProvisionedOnDemandCapacity", 0) + row.get("ProvisionedSpotCapacity", 0)
            spot = target[1] > 0 and target[0] == 0
            name, kind = row.get("Name", row["Id"]), row["InstanceFleetType"]
            found.append(Group(row["Id"], name, kind, sum(target), running, fleet=True, spot=spot))
        return found

    def _pages(self, operation: str, key: str, **arguments: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        with explained("emr"):
            for page in self._client.get_paginator(operation).paginate(ClusterId=self.id, **arguments):
                rows += page[key]
        return rows
