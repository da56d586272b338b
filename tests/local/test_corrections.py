"""Each correction of moto, asked through the AWS API of the running server: what it gives, and what it refuses.

Run `python tests/local/test_corrections.py`. It starts the emulators on free ports, and leaves nothing running. It says
nothing about AWS itself: only that the local AWS answers as the documents named in corrections.py say.
"""

from __future__ import annotations

import base64
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from typing import Any, Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import boto3  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402

from local import keeper, stack  # noqa: E402
from local.plant import plant  # noqa: E402

DOCUMENT = {
    "schemaVersion": "2.2",
    "description": "What the tests run.",
    "parameters": {
        "say": {"type": "String", "default": "hello", "allowedPattern": "^[a-z]*$"},
        "limit": {"type": "String", "default": "60"},
    },
    "mainSteps": [
        {
            "name": "unix",
            "action": "aws:runShellScript",
            "precondition": {"StringEquals": ["platformType", "Linux"]},
            "inputs": {
                "timeoutSeconds": "{{ limit }}",
                "runCommand": ["echo {{ say }} from $AWS_SSM_INSTANCE_ID", "echo trouble >&2"],
            },
        },
        {
            "name": "windows",
            "action": "aws:runPowerShellScript",
            "precondition": {"StringEquals": ["platformType", "Windows"]},
            "inputs": {"runCommand": ["Get-Process"]},
        },
        {
            "name": "macos",
            "action": "aws:runShellScript",
            "precondition": {"StringEquals": ["platformType", "MacOS"]},
            "inputs": {"runCommand": ["echo mac"]},
        },
    ],
}


def document(*commands: str, **inputs: Any) -> dict[str, Any]:
    return {
        "schemaVersion": "2.2",
        "mainSteps": [
            {"name": "only", "action": "aws:runShellScript", "inputs": {"runCommand": list(commands), **inputs}}
        ],
    }


class Local(unittest.TestCase):
    aws: stack.LocalAws

    def client(self, service: str) -> Any:
        return CLIENTS[service]

    def setUp(self) -> None:
        self.ec2 = self.client("ec2")
        self.ssm = self.client("ssm")
        self.scaling = self.client("autoscaling")
        self.balancing = self.client("elbv2")

    def plant(self, **options: Any) -> dict[str, Any]:
        options.setdefault("endpoints", False)
        options.setdefault("scaling_group", False)
        options.setdefault("target_groups", 0)
        return plant(self.client, stack.REGION, **options)

    def refused(self, code: str, call: Callable[..., Any], **arguments: Any) -> str:
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        error = caught.exception.response["Error"]
        self.assertEqual(error["Code"], code, error["Message"])
        return error["Message"]

    def instance(self, instance_id: str) -> dict[str, Any]:
        return self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def interface_groups(self, interface_id: str) -> list[str]:
        found = self.ec2.describe_network_interfaces(NetworkInterfaceIds=[interface_id])["NetworkInterfaces"][0]
        return [group["GroupId"] for group in found["Groups"]]

    def group(self, vpc_id: str, name: str = "quarantine") -> str:
        return self.ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc_id)["GroupId"]


class Quarantine(Local):
    def test_an_interface_shows_its_own_groups_and_no_others(self) -> None:
        planted = self.plant(extra_interfaces=1)
        first, second = planted["networkInterfaceIds"]
        quarantine = self.group(planted["vpcId"])
        self.ec2.modify_network_interface_attribute(NetworkInterfaceId=first, Groups=[quarantine])
        self.assertEqual(self.interface_groups(first), [quarantine])
        self.assertEqual(self.interface_groups(second), [planted["productionGroupId"]])
        instance = self.instance(planted["instanceId"])
        self.assertEqual([group["GroupId"] for group in instance["SecurityGroups"]], [quarantine])
        shown = {item["NetworkInterfaceId"]: item["Groups"] for item in instance["NetworkInterfaces"]}
        self.assertEqual([group["GroupId"] for group in shown[first]], [quarantine])
        self.assertEqual([group["GroupId"] for group in shown[second]], [planted["productionGroupId"]])

    def test_two_groups_become_one(self) -> None:
        planted = self.plant()
        interface = planted["networkInterfaceIds"][0]
        other, quarantine = self.group(planted["vpcId"], "other"), self.group(planted["vpcId"])
        self.ec2.modify_network_interface_attribute(
            NetworkInterfaceId=interface, Groups=[planted["productionGroupId"], other]
        )
        self.assertEqual(set(self.interface_groups(interface)), {planted["productionGroupId"], other})
        self.ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[quarantine])
        self.assertEqual(self.interface_groups(interface), [quarantine])

    def test_an_attribute_of_the_instance_leaves_its_groups_alone(self) -> None:
        planted = self.plant()
        name, interface = planted["instanceId"], planted["networkInterfaceIds"][0]
        for change in (
            {"InstanceInitiatedShutdownBehavior": {"Value": "terminate"}},
            {"InstanceInitiatedShutdownBehavior": {"Value": "stop"}},
            {"DisableApiTermination": {"Value": True}},
            {"DisableApiStop": {"Value": True}},
            {"Attribute": "instanceInitiatedShutdownBehavior", "Value": "terminate"},
        ):
            self.ec2.modify_instance_attribute(InstanceId=name, **change)
            groups = [group["GroupId"] for group in self.instance(name)["SecurityGroups"]]
            self.assertEqual(groups, [planted["productionGroupId"]], change)
            self.assertEqual(self.interface_groups(interface), [planted["productionGroupId"]], change)
        for attribute, key, value in (
            ("disableApiTermination", "DisableApiTermination", True),
            ("disableApiStop", "DisableApiStop", True),
            ("instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior", "terminate"),
        ):
            shown = self.ec2.describe_instance_attribute(InstanceId=name, Attribute=attribute)
            self.assertEqual(shown[key]["Value"], value)
        self.refused("OperationNotPermitted", self.ec2.terminate_instances, InstanceIds=[name])
        self.refused("OperationNotPermitted", self.ec2.stop_instances, InstanceIds=[name])

    def test_groups_of_an_instance_follow_only_where_it_has_one_interface(self) -> None:
        planted = self.plant()
        quarantine = self.group(planted["vpcId"])
        self.ec2.modify_instance_attribute(InstanceId=planted["instanceId"], Groups=[quarantine])
        self.assertEqual(self.interface_groups(planted["networkInterfaceIds"][0]), [quarantine])
        double = self.plant(extra_interfaces=1)
        self.refused(
            "InvalidInstanceID",
            self.ec2.modify_instance_attribute,
            InstanceId=double["instanceId"],
            Groups=[double["productionGroupId"]],
        )

    def test_one_attribute_at_a_time(self) -> None:
        planted = self.plant()
        self.refused(
            "InvalidParameterCombination",
            self.ec2.modify_instance_attribute,
            InstanceId=planted["instanceId"],
            DisableApiTermination={"Value": True},
            DisableApiStop={"Value": True},
        )
        self.refused(
            "InvalidParameterCombination", self.ec2.modify_instance_attribute, InstanceId=planted["instanceId"]
        )
        spot = self.plant(spot=True)
        self.assertEqual(self.instance(spot["instanceId"])["InstanceLifecycle"], "spot")
        self.refused(
            "UnsupportedOperation",
            self.ec2.modify_instance_attribute,
            InstanceId=spot["instanceId"],
            DisableApiTermination={"Value": True},
        )

    def test_groups_that_are_unknown_or_of_another_vpc_are_refused(self) -> None:
        planted, elsewhere = self.plant(), self.plant()
        interface = planted["networkInterfaceIds"][0]
        modify = self.ec2.modify_network_interface_attribute
        self.refused("InvalidGroup.NotFound", modify, NetworkInterfaceId=interface, Groups=["sg-0123456789abcdef0"])
        self.refused(
            "InvalidParameterValue", modify, NetworkInterfaceId=interface, Groups=[elsewhere["productionGroupId"]]
        )
        self.assertEqual(self.interface_groups(interface), [planted["productionGroupId"]])

    def test_a_group_in_use_is_not_deleted(self) -> None:
        planted = self.plant()
        self.refused("DependencyViolation", self.ec2.delete_security_group, GroupId=planted["productionGroupId"])
        spare = self.group(planted["vpcId"], "spare")
        self.ec2.delete_security_group(GroupId=spare)


class Groups(Local):
    def test_a_rule_is_there_once(self) -> None:
        planted = self.plant(endpoints=True)
        quarantine = self.group(planted["vpcId"])
        lists = self.ec2.describe_prefix_lists(
            Filters=[{"Name": "prefix-list-name", "Values": [f"com.amazonaws.{stack.REGION}.s3"]}]
        )["PrefixLists"]
        self.assertEqual(len(lists), 1)
        managed = self.ec2.describe_managed_prefix_lists(
            Filters=[{"Name": "prefix-list-name", "Values": [f"com.amazonaws.{stack.REGION}.s3"]}]
        )["PrefixLists"]
        self.assertEqual(managed[0]["PrefixListId"], lists[0]["PrefixListId"])
        guard = planted["endpointGroupId"]
        way = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443}
        rules = [
            {**way, "UserIdGroupPairs": [{"GroupId": guard, "Description": "endpoints"}]},
            {**way, "PrefixListIds": [{"PrefixListId": lists[0]["PrefixListId"], "Description": "S3"}]},
            {**way, "IpRanges": [{"CidrIp": "10.40.1.5/32", "Description": "one address"}]},
        ]
        authorise = self.ec2.authorize_security_group_egress
        answered = authorise(GroupId=quarantine, IpPermissions=rules)["SecurityGroupRules"]
        self.assertEqual(len(answered), 3)
        self.assertEqual({rule.get("Description") for rule in answered}, {"endpoints", "S3", "one address"})
        for rule in rules:
            self.refused("InvalidPermission.Duplicate", authorise, GroupId=quarantine, IpPermissions=[rule])
            for key in ("UserIdGroupPairs", "PrefixListIds", "IpRanges"):
                for item in rule.get(key, []):
                    item.pop("Description")
            self.refused("InvalidPermission.Duplicate", authorise, GroupId=quarantine, IpPermissions=[rule])
        # A refusal leaves no part behind.
        fresh = {**way, "IpRanges": [{"CidrIp": "10.40.1.6/32"}]}
        self.refused("InvalidPermission.Duplicate", authorise, GroupId=quarantine, IpPermissions=[fresh, rules[0]])
        self.refused(
            "InvalidPrefixListID.NotFound",
            authorise,
            GroupId=quarantine,
            IpPermissions=[{**way, "PrefixListIds": [{"PrefixListId": "pl-0123456789abcdef0"}]}],
        )
        kept = self.rules(quarantine)
        self.assertEqual(len([rule for rule in kept if rule["IsEgress"]]), 4)
        everything = next(rule for rule in kept if rule.get("CidrIpv4") == "0.0.0.0/0")
        self.refused(
            "InvalidSecurityGroupRuleId.NotFound",
            self.ec2.revoke_security_group_egress,
            GroupId=quarantine,
            SecurityGroupRuleIds=["sgr-0123456789abcdef0"],
        )
        self.ec2.revoke_security_group_egress(
            GroupId=quarantine, SecurityGroupRuleIds=[everything["SecurityGroupRuleId"]]
        )
        kept = self.rules(quarantine)
        self.assertEqual(len(kept), 3)
        self.assertEqual(
            [rule["ReferencedGroupInfo"]["GroupId"] for rule in kept if "ReferencedGroupInfo" in rule], [guard]
        )
        self.assertEqual(
            [rule["PrefixListId"] for rule in kept if "PrefixListId" in rule], [lists[0]["PrefixListId"]]
        )

    def rules(self, group_id: str) -> list[dict[str, Any]]:
        return self.ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group_id]}])[
            "SecurityGroupRules"
        ]

    def test_endpoints_name_their_groups(self) -> None:
        planted = self.plant(endpoints=True)
        found = self.ec2.describe_vpc_endpoints(
            Filters=[
                {"Name": "vpc-id", "Values": [planted["vpcId"]]},
                {
                    "Name": "service-name",
                    "Values": [f"com.amazonaws.{stack.REGION}.{name}" for name in ("ssm", "ssmmessages", "ec2messages")],
                },
            ]
        )["VpcEndpoints"]
        self.assertEqual(len(found), 3)
        for endpoint in found:
            self.assertEqual([group["GroupId"] for group in endpoint["Groups"]], [planted["endpointGroupId"]])
            self.assertEqual(endpoint["State"].lower(), "available")
            self.assertEqual(endpoint["VpcEndpointType"], "Interface")


class Described(Local):
    def test_filters_of_interfaces(self) -> None:
        planted = self.plant(extra_interfaces=1)
        loose = self.ec2.create_network_interface(SubnetId=planted["subnetIds"][0])["NetworkInterface"]

        def found(**filters: list[str]) -> set[str]:
            wanted = [{"Name": name.replace("__", ".").replace("_", "-"), "Values": v} for name, v in filters.items()]
            answer = self.ec2.describe_network_interfaces(Filters=wanted)["NetworkInterfaces"]
            return {item["NetworkInterfaceId"] for item in answer}

        both = set(planted["networkInterfaceIds"])
        name = planted["instanceId"]
        self.assertEqual(found(attachment__instance_id=[name]), both)
        self.assertEqual(found(attachment__instance_id=[name], attachment__status=["attached", "attaching"]), both)
        self.assertEqual(found(attachment__instance_id=[name], attachment__status=["detached"]), set())
        self.assertEqual(found(vpc_id=[planted["vpcId"]], status=["available"]), {loose["NetworkInterfaceId"]})
        self.assertEqual(found(group_id=[planted["productionGroupId"], "sg-0123456789abcdef0"]), both)
        self.assertEqual(
            found(vpc_id=[planted["vpcId"]], addresses__private_ip_address=[planted["privateIpAddress"]]),
            {planted["networkInterfaceIds"][0]},
        )

    def test_each_interface_has_an_address_of_its_own(self) -> None:
        vpc = self.ec2.create_vpc(CidrBlock="10.77.0.0/24")["Vpc"]["VpcId"]
        # Sixteen addresses, of which AWS keeps five.
        subnet = self.ec2.create_subnet(VpcId=vpc, CidrBlock="10.77.0.0/28")["Subnet"]["SubnetId"]
        wanted = self.ec2.create_network_interface(SubnetId=subnet, PrivateIpAddress="10.77.0.6")["NetworkInterface"]
        made = [self.ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"] for _ in range(10)]
        given = sorted(int(one["PrivateIpAddress"].rsplit(".", 1)[1]) for one in [wanted, *made])
        self.assertEqual(given, list(range(4, 15)))
        # One that is deleted gives its address back.
        self.ec2.delete_network_interface(NetworkInterfaceId=made[0]["NetworkInterfaceId"])
        again = self.ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]
        self.assertEqual(again["PrivateIpAddress"], made[0]["PrivateIpAddress"])

    def test_ids_that_are_malformed_and_unknown(self) -> None:
        describe = self.ec2.describe_instances
        self.refused("InvalidInstanceID.Malformed", describe, InstanceIds=["i-nonsense"])
        self.refused("InvalidInstanceID.NotFound", describe, InstanceIds=["i-0123456789abcdef0"])

    def test_filters_of_instances(self) -> None:
        planted = self.plant(extra_interfaces=1)
        quarantine = self.group(planted["vpcId"])
        self.ec2.modify_network_interface_attribute(
            NetworkInterfaceId=planted["networkInterfaceIds"][1], Groups=[quarantine]
        )
        for name, value in (
            ("instance.group-id", planted["productionGroupId"]),
            ("network-interface.group-id", quarantine),
            ("network-interface.vpc-id", planted["vpcId"]),
            ("block-device-mapping.volume-id", planted["volumeIds"][0]),
        ):
            answer = self.ec2.describe_instances(Filters=[{"Name": name, "Values": [value]}])["Reservations"]
            self.assertEqual([item["InstanceId"] for one in answer for item in one["Instances"]], [planted["instanceId"]])
        answer = self.ec2.describe_instances(Filters=[{"Name": "instance.group-id", "Values": [quarantine]}])
        self.assertEqual(answer["Reservations"], [])

    def test_the_profile_has_its_own_id(self) -> None:
        planted = self.plant()
        profile = self.client("iam").get_instance_profile(InstanceProfileName=planted["instanceProfile"])
        shown = self.instance(planted["instanceId"])["IamInstanceProfile"]
        self.assertEqual(shown["Id"], profile["InstanceProfile"]["InstanceProfileId"])
        self.assertEqual(shown["Arn"], profile["InstanceProfile"]["Arn"])

    def test_delete_on_termination_changes_and_shows(self) -> None:
        planted = self.plant()
        name = planted["instanceId"]
        devices = [item["DeviceName"] for item in self.instance(name)["BlockDeviceMappings"]]
        self.assertEqual(len(devices), 2)
        self.ec2.modify_instance_attribute(
            InstanceId=name,
            BlockDeviceMappings=[{"DeviceName": item, "Ebs": {"DeleteOnTermination": False}} for item in devices],
        )
        shown = self.instance(name)
        self.assertEqual([item["Ebs"]["DeleteOnTermination"] for item in shown["BlockDeviceMappings"]], [False, False])
        self.assertEqual([group["GroupId"] for group in shown["SecurityGroups"]], [planted["productionGroupId"]])
        asked = self.ec2.describe_instance_attribute(InstanceId=name, Attribute="blockDeviceMapping")
        self.assertEqual([item["Ebs"]["DeleteOnTermination"] for item in asked["BlockDeviceMappings"]], [False, False])
        volumes = self.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [name]}])["Volumes"]
        self.assertEqual([item["Attachments"][0]["DeleteOnTermination"] for item in volumes], [False, False])
        self.assertEqual([item["Attachments"][0]["State"] for item in volumes], ["attached", "attached"])
        self.refused(
            "InvalidInstanceAttributeValue",
            self.ec2.modify_instance_attribute,
            InstanceId=name,
            BlockDeviceMappings=[{"DeviceName": "/dev/nowhere", "Ebs": {"DeleteOnTermination": False}}],
        )

    def test_the_chosen_id(self) -> None:
        planted = self.plant(instance_id="i-0fedcba9876543210")
        self.assertEqual(planted["instanceId"], "i-0fedcba9876543210")
        shown = self.instance("i-0fedcba9876543210")
        self.assertNotIn("local:instance-id", {item["Key"] for item in shown["Tags"]})
        self.assertEqual(shown["BlockDeviceMappings"][0]["Ebs"]["Status"], "attached")

    def test_tags_need_a_resource(self) -> None:
        planted = self.plant()
        create = self.ec2.create_tags
        own = [{"Key": "Evidence", "Value": "Yes"}]
        for code, unknown in (
            ("InvalidInstanceID.NotFound", "i-0123456789abcdef0"),
            ("InvalidNetworkInterfaceID.NotFound", "eni-0123456789abcdef0"),
            ("InvalidVolume.NotFound", "vol-0123456789abcdef0"),
            ("InvalidSnapshot.NotFound", "snap-0123456789abcdef0"),
            ("InvalidVpcID.NotFound", "vpc-0123456789abcdef0"),
        ):
            self.refused(code, create, Resources=[planted["instanceId"], unknown], Tags=own)
        self.refused(
            "InvalidParameterValue", create, Resources=[planted["instanceId"]], Tags=[{"Key": "aws:x", "Value": "y"}]
        )
        everything = [
            *(planted["instanceId"], planted["vpcId"], planted["productionGroupId"]),
            *(*planted["volumeIds"], *planted["networkInterfaceIds"]),
        ]
        create(Resources=everything, Tags=own)
        self.assertIn(own[0], self.instance(planted["instanceId"])["Tags"])


class Snapshots(Local):
    def create(self, planted: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
        specification = {"InstanceId": planted["instanceId"], **options.pop("specification", {})}
        return self.ec2.create_snapshots(InstanceSpecification=specification, **options)["Snapshots"]

    def states(self, ids: list[str]) -> list[tuple[str, str]]:
        found = self.ec2.describe_snapshots(SnapshotIds=ids)["Snapshots"]
        return [(item["State"], item["Progress"]) for item in found]

    def test_they_take_time_carry_tags_and_stay_encrypted(self) -> None:
        planted = self.plant()
        case = [{"Key": "stasis:case", "Value": planted["vpcId"]}]
        made = self.create(
            planted,
            CopyTagsFromSource="volume",
            TagSpecifications=[{"ResourceType": "snapshot", "Tags": case}],
            Description="a case",
        )
        self.assertEqual([item["State"] for item in made], ["pending", "pending"])
        self.assertEqual({item["VolumeId"] for item in made}, set(planted["volumeIds"]))
        self.assertTrue(all(item["Encrypted"] for item in made))
        self.assertTrue(all(case[0] in item["Tags"] for item in made))
        ids = [item["SnapshotId"] for item in made]
        self.assertEqual(self.states(ids), [("pending", "50%"), ("pending", "50%")])
        self.assertEqual(self.states(ids), [("completed", "100%"), ("completed", "100%")])
        own = self.ec2.describe_snapshots(
            OwnerIds=["self"], Filters=[{"Name": "tag:stasis:case", "Values": [planted["vpcId"]]}]
        )["Snapshots"]
        self.assertEqual({item["SnapshotId"] for item in own}, set(ids))
        self.assertIn({"Key": "Service", "Value": "storefront"}, own[0]["Tags"])
        self.assertTrue(own[0]["KmsKeyId"].startswith("arn:aws:kms:"))
        self.assertEqual(
            self.ec2.describe_snapshots(
                OwnerIds=["999999999999"], Filters=[{"Name": "tag:stasis:case", "Values": [planted["vpcId"]]}]
            )["Snapshots"],
            [],
        )

    def test_unencrypted_volumes_give_unencrypted_snapshots_without_tags_unless_asked(self) -> None:
        planted = self.plant(encrypted=False)
        made = self.create(planted)
        self.assertFalse(any(item["Encrypted"] for item in made))
        self.assertFalse(any(item.get("Tags") for item in made))

    def test_their_fate_is_tagged(self) -> None:
        slow = self.plant(extra_tags={"local:snapshot": "never"})
        ids = [item["SnapshotId"] for item in self.create(slow)]
        for _ in range(3):
            self.assertEqual({state for state, _ in self.states(ids)}, {"pending"})
        broken = self.plant(extra_tags={"local:snapshot": "error"})
        ids = [item["SnapshotId"] for item in self.create(broken)]
        self.assertEqual({state for state, _ in self.states(ids)}, {"error"})

    def test_volumes_can_be_left_out(self) -> None:
        planted = self.plant()
        root, data = planted["volumeIds"]
        made = self.create(planted, specification={"ExcludeDataVolumeIds": [data]})
        self.assertEqual([item["VolumeId"] for item in made], [root])
        made = self.create(planted, specification={"ExcludeBootVolume": True})
        self.assertEqual([item["VolumeId"] for item in made], [data])
        with self.assertRaises(ClientError):
            self.create(planted, specification={"ExcludeDataVolumeIds": ["vol-0123456789abcdef0"]})

    def test_the_lock_holds(self) -> None:
        planted = self.plant()
        snapshot, other = (item["SnapshotId"] for item in self.create(planted))
        lock = self.ec2.lock_snapshot
        self.refused("InvalidSnapshot.NotFound", lock, SnapshotId="snap-0123456789abcdef0", LockMode="governance", LockDuration=1)
        self.refused("InvalidParameterCombination", lock, SnapshotId=snapshot, LockMode="governance")
        self.refused(
            "InvalidParameterCombination",
            lock,
            SnapshotId=snapshot,
            LockMode="governance",
            LockDuration=1,
            CoolOffPeriod=2,
        )
        locked = lock(SnapshotId=snapshot, LockMode="compliance", LockDuration=30)
        self.assertEqual(locked["LockState"], "compliance")
        found = self.ec2.describe_locked_snapshots(SnapshotIds=[snapshot, other])["Snapshots"]
        self.assertEqual([(item["SnapshotId"], item["LockDuration"]) for item in found], [(snapshot, 30)])
        self.refused("SnapshotLocked", self.ec2.delete_snapshot, SnapshotId=snapshot)
        self.refused("SnapshotLocked", self.ec2.unlock_snapshot, SnapshotId=snapshot)
        self.refused("SnapshotLocked", lock, SnapshotId=snapshot, LockMode="compliance", LockDuration=1)
        lock(SnapshotId=other, LockMode="governance", LockDuration=30)
        self.refused("SnapshotLocked", self.ec2.delete_snapshot, SnapshotId=other)
        self.ec2.unlock_snapshot(SnapshotId=other)
        self.ec2.delete_snapshot(SnapshotId=other)


class Copies(Local):
    """From one account and region to another account and region."""

    @classmethod
    def setUpClass(cls) -> None:
        there = LOCAL.client("kms", stack.DESTINATION_REGION, stack.DESTINATION_ACCOUNT)
        LOCAL.create_key(there, "stasis-evidence-copies", [f"arn:aws:iam::{stack.DESTINATION_ACCOUNT}:root"])

    def setUp(self) -> None:
        super().setUp()
        self.there = LOCAL.client("ec2", stack.DESTINATION_REGION, stack.DESTINATION_ACCOUNT)

    def whole(self, *disks: str) -> list[str]:
        """Snapshots of disks that are encrypted so, whole."""
        planted = self.plant(disks=list(disks))
        made = self.ec2.create_snapshots(InstanceSpecification={"InstanceId": planted["instanceId"]})["Snapshots"]
        ids = [item["SnapshotId"] for item in made]
        for _ in range(2):
            self.ec2.describe_snapshots(SnapshotIds=ids)
        return ids

    def copy(self, snapshot: str, **options: Any) -> dict[str, Any]:
        arguments = {
            "SourceRegion": stack.REGION,
            "SourceSnapshotId": snapshot,
            "DestinationRegion": stack.DESTINATION_REGION,
            "Encrypted": True,
            "KmsKeyId": "alias/stasis-evidence-copies",
        }
        # What AWS' SDK makes for the source region, had it not been told of another address.
        at_aws = boto3.client(
            "ec2", stack.REGION, aws_access_key_id=stack.DESTINATION_ACCOUNT, aws_secret_access_key="local"
        )
        signed = at_aws.generate_presigned_url("copy_snapshot", Params=arguments)
        return {"PresignedUrl": signed, **arguments, **options}

    def share(self, snapshot: str) -> None:
        self.ec2.modify_snapshot_attribute(
            SnapshotId=snapshot,
            Attribute="createVolumePermission",
            OperationType="add",
            UserIds=[stack.DESTINATION_ACCOUNT],
        )

    def fate(self, snapshot: str) -> dict[str, Any]:
        for _ in range(2):
            found = self.there.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
        return found

    def test_a_copy_needs_a_share_takes_time_and_forgets_the_volume(self) -> None:
        (snapshot,) = self.whole("customer")
        self.refused("InvalidSnapshot.NotFound", self.there.copy_snapshot, **self.copy(snapshot))
        self.share(snapshot)
        tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "stasis:case", "Value": "x"}]}]
        copy = self.there.copy_snapshot(**self.copy(snapshot, TagSpecifications=tags))["SnapshotId"]
        self.assertEqual(self.there.describe_snapshots(SnapshotIds=[copy])["Snapshots"][0]["State"], "pending")
        found = self.fate(copy)
        self.assertEqual((found["State"], found["Encrypted"], found["OwnerId"]), ("completed", True, stack.DESTINATION_ACCOUNT))
        self.assertEqual((found["VolumeId"], found["Tags"]), ("vol-ffffffff", tags[0]["Tags"]))
        self.assertIn(f":{stack.DESTINATION_REGION}:{stack.DESTINATION_ACCOUNT}:key/", found["KmsKeyId"])

    def test_an_encrypted_one_of_another_region_needs_a_signed_request_of_that_region(self) -> None:
        (snapshot,) = self.whole("customer")
        self.share(snapshot)
        good = self.copy(snapshot)
        for spoilt in (
            good["PresignedUrl"].replace(snapshot, "snap-0123456789abcdef0"),
            good["PresignedUrl"].replace("ec2.eu-central-1", "ec2.eu-west-1"),
            good["PresignedUrl"].split("&X-Amz-Signature")[0],
        ):
            self.refused("InvalidParameterValue", self.there.copy_snapshot, **{**good, "PresignedUrl": spoilt})
        (plain,) = self.whole("none")
        self.share(plain)
        self.fate(self.there.copy_snapshot(**self.copy(plain, PresignedUrl="none"))["SnapshotId"])

    def test_what_aws_own_key_encrypts_is_not_shared(self) -> None:
        (snapshot,) = self.whole("aws/ebs")
        with self.assertRaises(ClientError) as caught:
            self.share(snapshot)
        self.assertEqual(caught.exception.response["Error"]["Code"], "OperationNotPermitted")

    def test_keys_are_looked_at_later(self) -> None:
        for disk in ("closed", "disabled"):
            (snapshot,) = self.whole(disk)
            self.share(snapshot)
            found = self.fate(self.there.copy_snapshot(**self.copy(snapshot))["SnapshotId"])
            self.assertEqual((found["State"], found["StateMessage"]), ("error", "Given key ID is not accessible"), disk)

    def test_one_that_is_not_whole_is_not_copied(self) -> None:
        planted = self.plant(disks=["none"])
        made = self.ec2.create_snapshots(InstanceSpecification={"InstanceId": planted["instanceId"]})["Snapshots"]
        self.share(made[0]["SnapshotId"])
        self.refused("IncorrectState", self.there.copy_snapshot, **self.copy(made[0]["SnapshotId"]))

    def test_a_broken_volume_has_no_snapshot_and_spoils_the_set(self) -> None:
        planted = self.plant(disks=["none", "broken"])
        sound, broken = planted["volumeIds"]
        states = {v["VolumeId"]: v["State"] for v in self.ec2.describe_volumes(VolumeIds=[sound, broken])["Volumes"]}
        self.assertEqual(states, {sound: "in-use", broken: "error"})
        specification = {"InstanceId": planted["instanceId"]}
        self.refused("IncorrectState", self.ec2.create_snapshots, InstanceSpecification=specification)
        self.refused("IncorrectState", self.ec2.create_snapshot, VolumeId=broken)
        specification["ExcludeDataVolumeIds"] = [broken]
        self.assertEqual(len(self.ec2.create_snapshots(InstanceSpecification=specification)["Snapshots"]), 1)

    def test_a_session_acts_for_the_account_of_its_role(self) -> None:
        role = f"arn:aws:iam::{stack.DESTINATION_ACCOUNT}:role/stasis-copies"
        session = LOCAL.client("sts").assume_role(RoleArn=role, RoleSessionName="case")["Credentials"]
        there = boto3.client(
            "ec2",
            stack.DESTINATION_REGION,
            endpoint_url=LOCAL.moto_url,
            aws_access_key_id=session["AccessKeyId"],
            aws_secret_access_key=session["SecretAccessKey"],
            aws_session_token=session["SessionToken"],
        )
        volume = there.create_volume(Size=1, AvailabilityZone=f"{stack.DESTINATION_REGION}a")["VolumeId"]
        made = there.create_snapshot(VolumeId=volume)
        self.assertEqual(made["OwnerId"], stack.DESTINATION_ACCOUNT)


class Scaling(Local):
    def test_detaching_keeps_the_minimum(self) -> None:
        planted = self.plant(scaling_group=True, target_groups=2, min_size=2)
        group, name = planted["autoScalingGroup"], planted["instanceId"]
        detach = self.scaling.detach_instances
        message = self.refused(
            "ValidationError",
            detach,
            AutoScalingGroupName=group,
            InstanceIds=[name],
            ShouldDecrementDesiredCapacity=True,
        )
        self.assertEqual(
            message,
            f"AutoScalingGroup {group} has min-size=2, max-size=4, and desired-size=2. To detach 1 instance, "
            "please update the AutoScalingGroup sizes appropriately.",
        )
        self.assertEqual(len(self.member(name)), 1)

    def member(self, name: str) -> list[dict[str, Any]]:
        return self.scaling.describe_auto_scaling_instances(InstanceIds=[name])["AutoScalingInstances"]

    def test_the_console_has_a_picture(self) -> None:
        name = self.plant()["instanceId"]
        picture = base64.b64decode(self.ec2.get_console_screenshot(InstanceId=name)["ImageData"])
        self.assertTrue(picture.startswith(b"\xff\xd8\xff"))

    def test_a_type_has_the_memory_of_the_simulated_hosts(self) -> None:
        types = self.ec2.describe_instance_types(InstanceTypes=["m6i.large", "m6i.xlarge"])["InstanceTypes"]
        sizes = {kind["InstanceType"]: kind["MemoryInfo"]["SizeInMiB"] for kind in types}
        self.assertEqual(sizes, {"m6i.large": 4, "m6i.xlarge": 20})

    def test_a_lifecycle_state_can_be_chosen(self) -> None:
        planted = self.plant(scaling_group=True, extra_tags={"local:lifecycle": "Detaching"})
        states = self.scaling.describe_auto_scaling_instances(InstanceIds=[planted["instanceId"]])
        self.assertEqual([s["LifecycleState"] for s in states["AutoScalingInstances"]], ["Detaching"])

    def test_a_detached_instance_runs_on_alone(self) -> None:
        planted = self.plant(scaling_group=True, target_groups=2)
        group, name = planted["autoScalingGroup"], planted["instanceId"]
        self.assertEqual(self.member(name)[0]["AutoScalingGroupName"], group)
        detach = self.scaling.detach_instances
        arguments = {"AutoScalingGroupName": group, "InstanceIds": [name], "ShouldDecrementDesiredCapacity": True}
        detach(**arguments)
        self.assertEqual(self.member(name), [])
        shown = self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"][0]
        self.assertEqual(shown["DesiredCapacity"], 1)
        self.assertNotIn(name, [item["InstanceId"] for item in shown["Instances"]])
        self.assertEqual(self.instance(name)["State"]["Name"], "running")
        # The group's own target group lets it go, the other keeps it.
        web, metrics = (
            {
                item["Target"]["Id"]: item["TargetHealth"]["State"]
                for item in self.balancing.describe_target_health(TargetGroupArn=one["arn"])["TargetHealthDescriptions"]
            }
            for one in planted["targetGroups"]
        )
        self.assertEqual(web[name], "draining")
        self.assertEqual(metrics[name], "healthy")
        message = self.refused("ValidationError", detach, **arguments)
        self.assertEqual(message, f"The instance {name} is not part of Auto Scaling group {group}.")
        self.refused("ValidationError", detach, **{**arguments, "AutoScalingGroupName": "nowhere"})

    def test_without_decrement_a_replacement_comes(self) -> None:
        planted = self.plant(scaling_group=True)
        group, name = planted["autoScalingGroup"], planted["instanceId"]
        self.scaling.detach_instances(
            AutoScalingGroupName=group, InstanceIds=[name], ShouldDecrementDesiredCapacity=False
        )
        shown = self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"][0]
        self.assertEqual((shown["DesiredCapacity"], len(shown["Instances"])), (2, 2))

    def test_launched_instances_have_each_group_once(self) -> None:
        planted = self.plant(scaling_group=True)
        shown = self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[planted["autoScalingGroup"]])
        for item in shown["AutoScalingGroups"][0]["Instances"]:
            groups = [group["GroupId"] for group in self.instance(item["InstanceId"])["SecurityGroups"]]
            self.assertEqual(groups, [planted["productionGroupId"]])


class Classic(Local):
    def test_deregistering(self) -> None:
        planted = self.plant()
        classic, name = self.client("elb"), f"classic-{planted['vpcId'][-8:]}"
        classic.create_load_balancer(
            LoadBalancerName=name,
            Listeners=[{"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 80}],
            Subnets=planted["subnetIds"][:1],
        )
        members = [{"InstanceId": planted["instanceId"]}]
        classic.register_instances_with_load_balancer(LoadBalancerName=name, Instances=members)
        classic.deregister_instances_from_load_balancer(LoadBalancerName=name, Instances=members)
        shown = classic.describe_load_balancers(LoadBalancerNames=[name])["LoadBalancerDescriptions"][0]
        self.assertEqual(shown["Instances"], [])
        self.refused(
            "LoadBalancerNotFound",
            classic.deregister_instances_from_load_balancer,
            LoadBalancerName="nowhere",
            Instances=members,
        )


class Targets(Local):
    def health(self, arn: str, *targets: dict[str, Any]) -> dict[tuple[str, int], tuple[str, str | None]]:
        answer = self.balancing.describe_target_health(TargetGroupArn=arn, **({"Targets": list(targets)} if targets else {}))
        return {
            (item["Target"]["Id"], item["Target"]["Port"]): (
                item["TargetHealth"]["State"],
                item["TargetHealth"].get("Reason"),
            )
            for item in answer["TargetHealthDescriptions"]
        }

    def test_each_port_is_a_registration_of_its_own(self) -> None:
        planted = self.plant(target_groups=1)
        arn, name = planted["targetGroups"][0]["arn"], planted["instanceId"]
        self.balancing.modify_target_group_attributes(
            TargetGroupArn=arn, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}]
        )
        self.balancing.register_targets(
            TargetGroupArn=arn, Targets=[{"Id": name, "Port": 8080}, {"Id": name, "Port": 8081}]
        )
        self.assertEqual({port for _, port in self.health(arn)}, {443, 8080, 8081})
        self.balancing.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": name, "Port": 8080}])
        now = self.health(arn)
        self.assertEqual(now[(name, 8080)], ("draining", "Target.DeregistrationInProgress"))
        self.assertEqual(now[(name, 443)][0], "healthy")
        self.assertEqual(now[(name, 8081)][0], "healthy")
        time.sleep(1.1)
        self.assertEqual({port for _, port in self.health(arn)}, {443, 8081})
        asked = self.health(arn, {"Id": name, "Port": 8080})
        self.assertEqual(asked[(name, 8080)], ("unused", "Target.NotRegistered"))
        self.assertEqual({port for _, port in self.health(arn, {"Id": name})}, {443, 8081})

    def test_an_unknown_target_is_deregistered_with_success(self) -> None:
        planted = self.plant(target_groups=1)
        arn = planted["targetGroups"][0]["arn"]
        self.balancing.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": "i-0123456789abcdef0"}])
        self.assertEqual(len(self.health(arn)), 1)
        self.refused(
            "TargetGroupNotFound",
            self.balancing.deregister_targets,
            TargetGroupArn=arn[:-1] + "x",
            Targets=[{"Id": planted["instanceId"]}],
        )

    def test_a_group_without_a_load_balancer_is_not_in_use_and_takes_addresses(self) -> None:
        planted = self.plant()
        arn = self.balancing.create_target_group(
            Name=f"ip-{planted['vpcId'][-8:]}", Protocol="TCP", Port=53, VpcId=planted["vpcId"], TargetType="ip"
        )["TargetGroups"][0]["TargetGroupArn"]
        address = planted["privateIpAddress"]
        self.balancing.register_targets(TargetGroupArn=arn, Targets=[{"Id": address}])
        self.assertEqual(self.health(arn), {(address, 53): ("unused", "Target.NotInUse")})
        self.balancing.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": address, "Port": 53}])
        self.assertEqual(self.health(arn), {})


class Commands(Local):
    bucket = "run-command-output"

    @classmethod
    def setUpClass(cls) -> None:
        CLIENTS["s3"].create_bucket(
            Bucket=cls.bucket, CreateBucketConfiguration={"LocationConstraint": stack.REGION}
        )
        for name, content in (
            ("Test-Volatile", DOCUMENT),
            ("Test-Fails", document("echo before", "exit 3")),
            ("Test-Long", document("sleep 30", timeoutSeconds="1")),
            ("Test-Much", document("i=0; while [ $i -lt 4000 ]; do echo line-$i-0123456789; i=$((i+1)); done")),
            ("Test-Sleeps", document("sleep 20")),
        ):
            CLIENTS["ssm"].create_document(Name=name, Content=json.dumps(content), DocumentType="Command")

    def send(self, planted: dict[str, Any], name: str = "Test-Volatile", **options: Any) -> str:
        options.setdefault("OutputS3BucketName", self.bucket)
        options.setdefault("OutputS3KeyPrefix", f"cases/{planted['instanceId']}/volatile")
        command = self.ssm.send_command(InstanceIds=[planted["instanceId"]], DocumentName=name, **options)["Command"]
        self.assertEqual(command["Status"], "Pending")
        self.assertEqual(command["InstanceIds"], [planted["instanceId"]])
        return command["CommandId"]

    def ended(self, planted: dict[str, Any], command: str, step: str | None = None) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            answer = self.ssm.get_command_invocation(
                CommandId=command, InstanceId=planted["instanceId"], **({"PluginName": step} if step else {})
            )
            if answer["Status"] not in ("Pending", "InProgress"):
                return answer
            time.sleep(0.05)
        self.fail(f"the command did not end: {answer}")

    def invocation(self, planted: dict[str, Any], command: str) -> dict[str, Any]:
        found = self.ssm.list_command_invocations(
            CommandId=command, InstanceId=planted["instanceId"], Details=True
        )["CommandInvocations"]
        self.assertEqual(len(found), 1)
        return found[0]

    def test_who_has_an_agent(self) -> None:
        agents = {
            kind: self.plant(agent=kind)["instanceId"] for kind in ("online", "offline", "unmanaged", "slow", "lying")
        }
        windows = self.plant(platform="windows")["instanceId"]
        stopped = self.plant()["instanceId"]
        self.ec2.stop_instances(InstanceIds=[stopped])
        everyone = [*agents.values(), windows, stopped]
        found = {
            item["InstanceId"]: item
            for item in self.ssm.describe_instance_information(Filters=[{"Key": "InstanceIds", "Values": everyone}])[
                "InstanceInformationList"
            ]
        }
        self.assertEqual(set(found), set(everyone) - {agents["unmanaged"], stopped})
        self.assertEqual(found[agents["offline"]]["PingStatus"], "ConnectionLost")
        self.assertEqual(found[agents["online"]]["PingStatus"], "Online")
        self.assertEqual((found[agents["online"]]["PlatformType"], found[windows]["PlatformType"]), ("Linux", "Windows"))
        send = self.ssm.send_command
        for unknown in (agents["unmanaged"], stopped, "i-0123456789abcdef0"):
            message = self.refused("InvalidInstanceId", send, InstanceIds=[unknown], DocumentName="Test-Volatile")
            self.assertIn("not in a valid state for account", message)
        pages = list(self.ssm.get_paginator("describe_instance_information").paginate(PaginationConfig={"PageSize": 5}))
        self.assertGreater(len(pages), 1)
        self.refused(
            "InvalidFilterKey",
            self.ssm.describe_instance_information,
            Filters=[{"Key": "Nonsense", "Values": ["x"]}],
        )

    def test_it_runs_the_steps_of_the_platform_on_the_named_instance_only(self) -> None:
        planted, bystander = self.plant(), self.plant()
        command = self.send(planted, Parameters={"say": ["evidence"]})
        answer = self.ended(planted, command, "unix")
        self.assertEqual((answer["Status"], answer["ResponseCode"]), ("Success", 0))
        self.assertEqual(answer["StandardOutputContent"], f"evidence from {planted['instanceId']}\n")
        self.assertEqual(answer["StandardErrorContent"], "trouble\n")
        listed = self.ssm.list_command_invocations(CommandId=command)["CommandInvocations"]
        self.assertEqual([item["InstanceId"] for item in listed], [planted["instanceId"]])
        self.refused(
            "InvocationDoesNotExist",
            self.ssm.get_command_invocation,
            CommandId=command,
            InstanceId=bystander["instanceId"],
        )
        plugins = {item["Name"]: item for item in self.invocation(planted, command)["CommandPlugins"]}
        self.assertEqual(set(plugins), {"unix", "windows", "macos"})
        self.assertEqual(plugins["windows"]["Status"], "Success")
        self.assertIn("Step execution skipped due to unsatisfied preconditions", plugins["windows"]["Output"])
        self.assertIn("evidence from", plugins["unix"]["Output"])
        folder = f"cases/{planted['instanceId']}/volatile/{command}/{planted['instanceId']}/awsrunShellScript/unix"
        stored = {
            item["Key"]: self.client("s3").get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read()
            for item in self.client("s3").list_objects_v2(
                Bucket=self.bucket, Prefix=f"cases/{planted['instanceId']}/"
            )["Contents"]
        }
        self.assertEqual(
            stored,
            {
                f"{folder}/stdout": f"evidence from {planted['instanceId']}\n".encode(),
                f"{folder}/stderr": b"trouble\n",
            },
        )
        self.assertTrue(answer["StandardOutputUrl"].endswith(f"{folder}/stdout"))
        shown = self.ssm.list_commands(CommandId=command)["Commands"][0]
        self.assertEqual((shown["Status"], shown["TargetCount"], shown["CompletedCount"]), ("Success", 1, 1))
        self.assertEqual(self.ssm.list_commands(InstanceId=bystander["instanceId"])["Commands"], [])
        self.refused(
            "InvalidPluginName",
            self.ssm.get_command_invocation,
            CommandId=command,
            InstanceId=planted["instanceId"],
            PluginName="nowhere",
        )

    def test_other_platforms(self) -> None:
        windows, mac = self.plant(platform="windows"), self.plant(platform="macos")
        answer = self.ended(windows, self.send(windows), "windows")
        self.assertEqual(answer["Status"], "Failed")
        self.assertIn("no PowerShell on this machine", answer["StandardErrorContent"])
        answer = self.ended(mac, self.send(mac), "macos")
        self.assertEqual((answer["Status"], answer["StandardOutputContent"]), ("Success", "mac\n"))

    def test_failure_time_out_and_long_output_are_told_as_they_are(self) -> None:
        planted = self.plant()
        failing, long, much = (self.send(planted, name) for name in ("Test-Fails", "Test-Long", "Test-Much"))
        answer = self.ended(planted, failing)
        self.assertEqual((answer["Status"], answer["ResponseCode"]), ("Failed", 3))
        self.assertEqual(answer["StandardOutputContent"], "before\n")
        self.assertIn("exit status 3", answer["StandardErrorContent"])
        answer = self.ended(planted, much)
        self.assertEqual(len(answer["StandardOutputContent"]), 24000)
        self.assertTrue(answer["StandardOutputContent"].endswith("--output truncated--"))
        self.assertLessEqual(len(self.invocation(planted, much)["CommandPlugins"][0]["Output"]), 2500)
        key = f"cases/{planted['instanceId']}/volatile/{much}/{planted['instanceId']}/awsrunShellScript/only/stdout"
        self.assertGreater(self.client("s3").head_object(Bucket=self.bucket, Key=key)["ContentLength"], 24000)
        answer = self.ended(planted, long)
        self.assertEqual((answer["Status"], answer["StatusDetails"]), ("TimedOut", "ExecutionTimedOut"))

    def test_a_slow_agent(self) -> None:
        planted = self.plant(agent="slow")
        command = self.send(planted)
        seen = []
        while len(seen) < 400 and "Success" not in seen:
            answer = self.ssm.get_command_invocation(
                CommandId=command, InstanceId=planted["instanceId"], PluginName="unix"
            )
            seen.append(answer["Status"])
            time.sleep(0.02)
        self.assertEqual(set(seen[:4]), {"InProgress"})
        self.assertEqual(seen[-1], "Success")

    def test_a_lying_agent(self) -> None:
        planted = self.plant(agent="lying")
        command = self.send(planted)
        answer = self.ended(planted, command, "unix")
        self.assertEqual((answer["Status"], answer["StandardOutputContent"]), ("Success", ""))
        listed = self.client("s3").list_objects_v2(Bucket=self.bucket, Prefix=f"cases/{planted['instanceId']}/")
        self.assertEqual(listed["KeyCount"], 0)

    def test_an_agent_that_is_offline(self) -> None:
        planted = self.plant(agent="offline")
        command = self.send(planted, TimeoutSeconds=30)
        first = self.ssm.get_command_invocation(
            CommandId=command, InstanceId=planted["instanceId"], PluginName="unix"
        )
        self.assertEqual(first["Status"], "Pending")
        answer = self.ended(planted, command, "unix")
        self.assertEqual((answer["Status"], answer["StatusDetails"]), ("TimedOut", "DeliveryTimedOut"))

    def test_eventual_consistency(self) -> None:
        planted = self.plant(extra_tags={"local:ssm-consistency": "eventual"})
        command = self.send(planted)
        arguments = {"CommandId": command, "InstanceId": planted["instanceId"], "PluginName": "unix"}
        self.refused("InvocationDoesNotExist", self.ssm.get_command_invocation, **arguments)
        self.assertEqual(self.ended(planted, command, "unix")["Status"], "Success")

    def test_cancel(self) -> None:
        planted = self.plant()
        command = self.send(planted, "Test-Sleeps")
        time.sleep(0.2)
        self.ssm.cancel_command(CommandId=command)
        self.assertEqual(self.ended(planted, command)["Status"], "Cancelled")
        self.refused("InvalidCommandId", self.ssm.cancel_command, CommandId="0" * 36)

    def test_what_send_command_refuses(self) -> None:
        planted = self.plant()
        send = self.ssm.send_command
        named = {"InstanceIds": [planted["instanceId"]], "DocumentName": "Test-Volatile"}
        self.refused("InvalidDocument", send, **{**named, "DocumentName": "No-Such-Document"})
        self.refused("InvalidParameters", send, **named, Parameters={"nonsense": ["x"]})
        self.refused("InvalidParameters", send, **named, Parameters={"say": ["$(reboot)"]})
        self.refused("ValidationException", send, **named, Comment="x" * 101)
        self.refused("ValidationException", send, **named, TimeoutSeconds=2592001)

    def test_ops_items(self) -> None:
        create = self.ssm.create_ops_item
        data = {"/aws/dedup": {"Value": json.dumps({"dedupString": "stasis-i-1"}), "Type": "SearchableString"}}
        wanted = {"Title": "i-1 is contained", "Description": "why", "Source": "Stasis", "OperationalData": data}
        made = create(**wanted, Severity="1", Category="Security")["OpsItemId"]
        self.assertRegex(made, r"^oi-[0-9a-f]{12}$")
        with self.assertRaises(ClientError) as caught:
            create(**wanted)
        self.assertEqual(caught.exception.response["Error"]["Code"], "OpsItemAlreadyExistsException")
        self.assertEqual(caught.exception.response["OpsItemId"], made)
        item = self.ssm.get_ops_item(OpsItemId=made)["OpsItem"]
        self.assertEqual((item["Title"], item["Status"], item["Severity"]), ("i-1 is contained", "Open", "1"))
        self.refused("OpsItemNotFoundException", self.ssm.get_ops_item, OpsItemId="oi-000000000000")
        self.ssm.update_ops_item(OpsItemId=made, Status="Resolved")
        self.assertNotEqual(create(**wanted)["OpsItemId"], made)


class Server(Local):
    def lookup(self, key: str, value: str) -> list[dict[str, Any]]:
        return self.client("cloudtrail").lookup_events(
            LookupAttributes=[{"AttributeKey": key, "AttributeValue": value}]
        )["Events"]

    def test_cloudtrail_shows_what_was_changed(self) -> None:
        planted = self.plant()
        Commands.setUpClass_once()
        sent = self.ssm.send_command(InstanceIds=[planted["instanceId"]], DocumentName="Trail-Document")["Command"]
        found = self.lookup("ResourceName", planted["instanceId"])
        names = [event["EventName"] for event in found]
        self.assertIn("RunInstances", names)
        self.assertNotIn("DescribeInstances", names)
        event = next(event for event in found if event["EventName"] == "SendCommand")
        self.assertEqual(event["EventSource"], "ssm.amazonaws.com")
        detail = json.loads(event["CloudTrailEvent"])
        self.assertEqual(detail["requestParameters"]["instanceIds"], [planted["instanceId"]])
        self.assertEqual(detail["requestParameters"]["documentName"], "Trail-Document")
        self.assertEqual(detail["responseElements"]["command"]["commandId"], sent["CommandId"])
        self.assertEqual(self.lookup("EventName", "NoSuchEvent"), [])
        latest = self.lookup("EventName", "SendCommand")[0]
        self.assertEqual(latest["EventId"], event["EventId"])
        LOCAL.control("/local/cloudtrail", "POST", {"delaySeconds": 900})
        try:
            self.assertEqual(self.lookup("ResourceName", planted["instanceId"]), [])
        finally:
            LOCAL.control("/local/cloudtrail", "POST", {"delaySeconds": 0})
        self.refused(
            "InvalidLookupAttributesException",
            self.client("cloudtrail").lookup_events,
            LookupAttributes=[
                {"AttributeKey": "EventName", "AttributeValue": "x"},
                {"AttributeKey": "EventSource", "AttributeValue": "y"},
            ],
        )

    def test_a_fault_hits_only_what_it_names(self) -> None:
        one, other = self.plant()["instanceId"], self.plant()["instanceId"]

        def interfaces(name: str) -> int:
            answer = self.ec2.describe_network_interfaces(
                Filters=[{"Name": "attachment.instance-id", "Values": [name]}]
            )
            return len(answer["NetworkInterfaces"])

        fault = LOCAL.control(
            "/local/faults",
            "POST",
            {"service": "ec2", "operation": "DescribeNetworkInterfaces", "contains": one, "times": 1},
        )
        self.assertEqual(interfaces(other), 1)
        with self.assertRaises(ClientError) as caught:
            interfaces(one)
        self.assertEqual(caught.exception.response["ResponseMetadata"]["HTTPStatusCode"], 500)
        self.assertEqual(interfaces(one), 1)
        self.assertEqual(LOCAL.control(f"/local/faults?id={fault['id']}", "DELETE"), {"removed": 1})
        for service, operation, call in (
            ("ssm", "DescribeInstanceInformation", self.ssm.describe_instance_information),
            ("autoscaling", "DescribeAutoScalingGroups", self.scaling.describe_auto_scaling_groups),
        ):
            LOCAL.control(
                "/local/faults",
                "POST",
                {"service": service, "operation": operation, "code": "ThrottlingException", "message": "Rate", "status": 400},
            )
            try:
                self.refused("ThrottlingException", call)
            finally:
                LOCAL.control("/local/faults", "DELETE")
            call()
        asked = LOCAL.control(f"/local/requests?operation=DescribeNetworkInterfaces&contains={one}")
        self.assertEqual([(item["status"], item["errorCode"]) for item in asked], [(500, "InternalError"), (200, None)])
        self.assertEqual(asked[0]["parameters"]["Filter.1.Value.1"], one)
        self.assertEqual(asked[0]["accessKeyId"], stack.ACCOUNT)
        answer = self.ec2.describe_vpcs()["ResponseMetadata"]
        self.assertEqual(
            answer["RequestId"], LOCAL.control("/local/requests?operation=DescribeVpcs")[-1]["requestId"]
        )

    def test_browsers_are_refused(self) -> None:
        request = urllib.request.Request(LOCAL.moto_url + "/local/token", headers={"Origin": "http://example.com"})
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        self.assertEqual(caught.exception.code, 403)

    def test_the_account_is_the_callers(self) -> None:
        planted = self.plant()
        self.assertEqual(self.instance(planted["instanceId"])["NetworkInterfaces"][0]["OwnerId"], stack.ACCOUNT)

    def test_the_corrections_are_listed(self) -> None:
        listed = LOCAL.control("/local/corrections")
        self.assertGreater(len(listed["corrections"]), 15)
        for item in listed["corrections"]:
            self.assertTrue(item["document"].startswith(("https://docs.aws.amazon.com/", "not an AWS behaviour")))


class Processes(unittest.TestCase):
    def test_nothing_outlives_a_killed_parent(self) -> None:
        code = (
            "import pathlib, sys, time; sys.path.insert(0, sys.argv[1]); from local import stack\n"
            "aws = stack.LocalAws(pathlib.Path(sys.argv[2]))\n"
            "aws.start(); print(aws.keeper.pid, flush=True); time.sleep(60)\n"
        )
        with tempfile.TemporaryDirectory() as folder:
            parent = subprocess.Popen(
                [sys.executable, "-c", code, str(stack.TESTS), folder], stdout=subprocess.PIPE, text=True
            )
            assert parent.stdout is not None
            leader = int(parent.stdout.readline())
            below = keeper.children_of({leader})
            self.assertEqual(len(below), 2)
            second = stack.LocalAws(pathlib.Path(folder))
            with self.assertRaises(stack.LocalAwsError):
                second.start()
            parent.kill()
            parent.wait()
            parent.stdout.close()
            deadline = time.monotonic() + 10
            left = {leader, *below}
            while left and time.monotonic() < deadline:
                left = {pid for pid in left if pathlib.Path(f"/proc/{pid}").exists()}
                time.sleep(0.05)
            self.assertEqual(left, set())


class Scope(Local):
    def test_a_simulation_reads_the_policies_of_the_role(self) -> None:
        iam = self.client("iam")
        role = self.plant(own_profile=True)["instanceProfile"]
        statements = [
            {"Effect": "Allow", "Action": ["s3:Put*", "S3:DeleteObject"], "Resource": "arn:aws:s3:::data/*"},
            {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"},
            {"Effect": "Deny", "Action": "s3:PutObject", "Resource": "*", "Condition": {"ForAnyValue:StringEquals": {"aws:TagKeys": ["a"]}}},
            {"Effect": "Allow", "Action": "s3:PutObjectTagging", "Resource": "*"},
            {"Effect": "Deny", "Action": "s3:PutObjectTagging", "Resource": "*", "Condition": {"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}},
        ]
        iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}))
        arn = iam.get_role(RoleName=role)["Role"]["Arn"]
        results = iam.simulate_principal_policy(
            PolicySourceArn=arn,
            ActionNames=["s3:PutObject", "s3:DeleteObject", "s3:GetObject", "s3:PutObjectTagging"],
            ResourceArns=["arn:aws:s3:::data/*", "arn:aws:s3:::other/*"],
        )["EvaluationResults"]
        decisions = {(r["EvalActionName"], r["EvalResourceName"]): r["EvalDecision"] for r in results}
        self.assertEqual(len(decisions), 8)
        allowed = [key for key, decision in decisions.items() if decision == "allowed"]
        self.assertEqual(allowed, [("s3:PutObject", "arn:aws:s3:::data/*")])
        for action in ("s3:DeleteObject", "s3:PutObjectTagging"):
            self.assertEqual(decisions[action, "arn:aws:s3:::data/*"], "explicitDeny")
        self.refused("NoSuchEntity", iam.simulate_principal_policy, PolicySourceArn=f"{arn}x", ActionNames=["s3:GetObject"])

    def test_an_analyzer_finds_the_roles_that_another_account_may_assume(self) -> None:
        iam, analyzer = self.client("iam"), self.client("accessanalyzer")
        (found,) = analyzer.list_analyzers()["analyzers"]
        self.assertEqual(found["status"], "ACTIVE")
        for name, account, findings in (("own", stack.ACCOUNT, 0), ("shared", "999999999999", 1)):
            trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "sts:AssumeRole"}]}
            role = iam.create_role(RoleName=f"analyzed-{name}", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
            listed = analyzer.list_findings_v2(analyzerArn=found["arn"], filter={"resource": {"eq": [role]}})["findings"]
            self.assertEqual([item["resource"] for item in listed], [role] * findings)

    def test_ec2_says_what_it_would_have_done_and_does_nothing(self) -> None:
        planted = self.plant()
        interface = planted["networkInterfaceIds"][0]
        group = self.group(planted["vpcId"])
        self.refused(
            "DryRunOperation",
            self.ec2.modify_network_interface_attribute,
            NetworkInterfaceId=interface,
            Groups=[group],
            DryRun=True,
        )
        self.assertEqual(self.interface_groups(interface), [planted["productionGroupId"]])


def _trail_document(_: Any = None) -> None:
    CLIENTS["ssm"].create_document(
        Name="Trail-Document", Content=json.dumps(document("true")), DocumentType="Command"
    )


Commands.setUpClass_once = staticmethod(_trail_document)  # type: ignore[attr-defined]
CLIENTS: dict[str, Any] = {}
LOCAL: stack.LocalAws


def main() -> int:
    global LOCAL
    with tempfile.TemporaryDirectory(prefix="stasis-corrections-") as folder:
        with stack.LocalAws(pathlib.Path(folder), wait_scale=0.05) as LOCAL:
            LOCAL.start()
            for service in (*stack.MOTO_SERVICES, "s3"):
                CLIENTS[service] = LOCAL.client(service)
            result = unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[1:]], exit=False).result
            unexpected = [
                line
                for line in (LOCAL.logs / "moto.log").read_text(errors="replace").splitlines()
                if line.startswith("Traceback")
            ]
            if unexpected:
                print(f"moto raised {len(unexpected)} times; see its log:\n{LOCAL.last_lines(30)}", file=sys.stderr)
    failed = len(result.failures) + len(result.errors) + (1 if unexpected else 0)
    print(f"corrections: {result.testsRun - len(result.failures) - len(result.errors)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
