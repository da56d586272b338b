"""Where moto's answer differs from AWS' documented answer, this file puts it right; nothing else here changes moto.

Each correction names the fault and the AWS document it follows. A correction that rests on anything weaker than a
document says so in its comment. None of this proves how AWS behaves: `EMULATED` lists the operations that are ours
from end to end, and the demo names them as "project-emulated, not verified on AWS".
"""

from __future__ import annotations

import base64
import datetime
import fnmatch
import ipaddress
import json
import re
import threading
import uuid
from dataclasses import dataclass
from typing import Any, Callable
from urllib.parse import parse_qsl, urlsplit

import xmltodict
from moto.autoscaling import models as autoscaling_models
from moto.autoscaling import responses as autoscaling_responses
from moto.autoscaling.exceptions import ValidationError
from moto.cloudtrail import responses as cloudtrail_responses
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2 import utils as ec2_utils
from moto.ec2.exceptions import (
    EC2ClientError,
    InvalidInstanceIdError,
    InvalidNetworkInterfaceIdError,
    InvalidSecurityGroupNotFoundError,
    InvalidSnapshotIdError,
)
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models import elastic_block_store as block_store
from moto.ec2.models import elastic_network_interfaces as interfaces
from moto.ec2.models import instances
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.instance_types import InstanceTypeBackend
from moto.ec2.models import security_groups
from moto.ec2.models.tags import TagBackend
from moto.ec2.responses import EC2Response
from moto.ec2.responses import instances as instance_responses
from moto.ec2.responses import security_groups as security_group_responses
from moto.ec2.utils import get_prefix, random_instance_id
from moto.elb import models as classic_models
from moto.elbv2 import models as target_models
from moto.ssm import responses as ssm_responses
from moto.ssm.exceptions import SSMException

from . import simulated_host

API = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_{}.html"
# What the hosts of these types have here.
SIMULATED_MEMORY_MIB = {"m6i.large": 4, "m6i.xlarge": 20}
AUTO_SCALING = "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_{}.html"
LOAD_BALANCING = "https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_{}.html"
SYSTEMS_MANAGER = "https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_{}.html"
CLOUDTRAIL = "https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_{}.html"

# Operations that moto does not have, or that this project answers by itself from end to end.
EMULATED = [
    "ssm SendCommand",
    "ssm GetCommandInvocation",
    "ssm ListCommandInvocations",
    "ssm ListCommands",
    "ssm CancelCommand",
    "ssm DescribeInstanceInformation",
    "ssm CreateOpsItem",
    "ssm GetOpsItem",
    "ec2 GetConsoleScreenshot",
    "ec2 LockSnapshot",
    "ec2 UnlockSnapshot",
    "ec2 DescribeLockedSnapshots",
    "cloudtrail LookupEvents",
    "iam SimulatePrincipalPolicy",
    "access-analyzer ListAnalyzers",
    "access-analyzer ListFindingsV2",
]


@dataclass(frozen=True)
class Correction:
    operation: str
    fault: str
    document: str
    apply: Callable[[], None]


CORRECTIONS: list[Correction] = []


def corrects(operation: str, fault: str, document: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(apply: Callable[[], None]) -> Callable[[], None]:
        CORRECTIONS.append(Correction(operation, fault, document, apply))
        return apply

    return register


def apply_all() -> None:
    for correction in CORRECTIONS:
        correction.apply()


def utcnow() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def tag_of(resource: Any, key: str) -> str | None:
    return next((tag["value"] for tag in resource.get_tags() if tag["key"] == key), None)


# --------------------------------------------------------------------------------------------------------------------
# The two faults that would make a quarantine look right, or wrong, for the wrong reason
# --------------------------------------------------------------------------------------------------------------------


@corrects(
    "ec2 DescribeNetworkInterfaces, DescribeInstances",
    "a network interface shows the instance's security groups beside its own; the instance keeps a list of its own",
    API.format("NetworkInterface"),
)
def _groups_belong_to_the_interface() -> None:
    # API_Instance: an instance's groups are those of its primary interface; API_ModifyNetworkInterfaceAttribute:
    # "The new set of groups overrides the existing set."
    interfaces.NetworkInterface.group_set = property(lambda self: list(self._group_set))
    # DescribeInstances gives each interface its groups under the same name.
    interfaces.NetworkInterface.groups = property(lambda self: list(self._group_set))

    def groups_of_primary(self: instances.Instance) -> list[Any]:
        primary = getattr(self, "nics", {}).get(0)
        return list(primary._group_set) if primary else self.__dict__.get("_groups_at_launch", [])

    def set_groups(self: instances.Instance, groups: list[Any]) -> None:
        unique = list({group.id: group for group in groups}.values())
        primary = getattr(self, "nics", {}).get(0)
        if primary:
            primary._group_set = unique
        else:
            self.__dict__["_groups_at_launch"] = unique

    instances.Instance.security_groups = property(groups_of_primary, set_groups)


@corrects(
    "ec2 ModifyInstanceAttribute",
    "changing any attribute that moto does not know by name empties the instance's security groups",
    API.format("ModifyInstanceAttribute"),
)
def _modify_one_attribute_only() -> None:
    original = instance_responses.InstanceResponse.modify_instance_attribute
    structured = ["DisableApiTermination", "DisableApiStop", "EbsOptimized", "EnaSupport", "SourceDestCheck"]
    named = ["InstanceInitiatedShutdownBehavior", "InstanceType", "Kernel", "Ramdisk", "SriovNetSupport", "UserData"]

    def modify_instance_attribute(self: Any) -> ActionResult:
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        given = [name for name in structured + named if self._get_param(f"{name}.Value") is not None]
        groups = self._get_param("Groups", [])
        mappings = self._get_param("BlockDeviceMappings", [])
        given += ["Groups"] if groups else []
        given += ["BlockDeviceMappings"] if mappings else []
        if self._get_param("Attribute"):
            if self._get_param("Attribute") == "instanceInitiatedShutdownBehavior":
                self.error_on_dryrun()
                return set_shutdown_behaviour(instance, self._get_param("Value"))
            return original(self)
        # "Modifies the specified attribute of the specified instance. You can specify only one attribute at a time."
        if len(given) > 1:
            raise EC2ClientError("InvalidParameterCombination", "Fields for multiple attribute types specified")
        if not given:
            raise EC2ClientError("InvalidParameterCombination", "No attributes specified.")
        self.error_on_dryrun()
        if groups:
            return set_groups(self.ec2_backend, instance, groups)
        if mappings:
            return set_block_devices(instance, mappings)
        if given == ["InstanceInitiatedShutdownBehavior"]:
            return set_shutdown_behaviour(instance, self._get_param("InstanceInitiatedShutdownBehavior.Value"))
        # "You can't enable termination protection for Spot Instances": the refusal is documented, its code is believed.
        if given == ["DisableApiTermination"] and instance.lifecycle == "spot":
            raise EC2ClientError(
                "UnsupportedOperation",
                "The attribute 'disableApiTermination' cannot be modified for Spot Instances.",
            )
        return original(self)

    def set_shutdown_behaviour(instance: Any, value: str) -> ActionResult:
        if value not in ("stop", "terminate"):
            raise EC2ClientError(
                "InvalidParameterValue",
                f"Invalid value '{value}' for instanceInitiatedShutdownBehavior.",
            )
        instance.instance_initiated_shutdown_behavior = value
        return EmptyResult()

    def set_groups(backend: Any, instance: Any, group_ids: list[str]) -> ActionResult:
        # "you must specify the network interface" when there are several; the code is the one that EC2 gives.
        if len(instance.nics) > 1:
            raise EC2ClientError(
                "InvalidInstanceID",
                f"There are multiple interfaces attached to instance '{instance.id}'. "
                "Please specify an interface ID for the operation instead.",
            )
        instance.security_groups = [_group_of_vpc(backend, group_id, instance.vpc_id) for group_id in group_ids]
        return EmptyResult()

    def set_block_devices(instance: Any, mappings: list[dict[str, Any]]) -> ActionResult:
        for mapping in mappings:
            device = mapping.get("DeviceName")
            if device not in instance.block_device_mapping:
                raise EC2ClientError("InvalidInstanceAttributeValue", f"No device is currently mapped at {device}")
        for mapping in mappings:
            wanted = mapping.get("Ebs", {}).get("DeleteOnTermination")
            if wanted is not None:
                instance.block_device_mapping[mapping["DeviceName"]].delete_on_termination = wanted
        return EmptyResult()

    instance_responses.InstanceResponse.modify_instance_attribute = modify_instance_attribute


def _group_of_vpc(backend: Any, group_id: str, vpc_id: str) -> Any:
    group = backend.get_security_group_from_id(group_id)
    if group is None:
        raise InvalidSecurityGroupNotFoundError(group_id)
    if group.vpc_id != vpc_id:
        raise EC2ClientError(
            "InvalidParameterValue",
            f"You have specified two resources that belong to different networks: {group_id} is not in {vpc_id}.",
        )
    return group


# --------------------------------------------------------------------------------------------------------------------
# EC2: instances, interfaces, groups, tags
# --------------------------------------------------------------------------------------------------------------------


@corrects(
    "ec2 ModifyNetworkInterfaceAttribute",
    "an unknown group, or one of another VPC, is taken over as if it were there",
    API.format("ModifyNetworkInterfaceAttribute"),
)
def _interface_takes_known_groups_only() -> None:
    original = interfaces.NetworkInterfaceBackend.modify_network_interface_attribute

    def modify(self: Any, eni_id: str, group_ids: list[str], *args: Any, **kwargs: Any) -> None:
        interface = self.get_network_interface(eni_id)
        for group_id in group_ids:
            _group_of_vpc(self, group_id, interface.vpc_id)
        original(self, eni_id, list(dict.fromkeys(group_ids)), *args, **kwargs)

    interfaces.NetworkInterfaceBackend.modify_network_interface_attribute = modify


@corrects(
    "ec2 CreateNetworkInterface",
    "the address is any of its subnet, one that another interface has or that AWS keeps for itself among them",
    API.format("CreateNetworkInterface"),
)
def _interfaces_have_addresses_of_their_own() -> None:
    backend = interfaces.NetworkInterfaceBackend
    create_network_interface, delete_network_interface = backend.create_network_interface, backend.delete_network_interface

    def create(
        self: Any, subnet: Any, private_ip_address: Any, private_ip_addresses: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        subnet = self.get_subnet(subnet) if isinstance(subnet, str) else subnet
        wanted = private_ip_address if isinstance(private_ip_address, str) else None
        # moto gives the interfaces of an endpoint addresses that are none of their subnet's.
        foreign = wanted and ipaddress.ip_address(wanted) not in subnet.cidr
        if foreign or not private_ip_address and not private_ip_addresses:
            private_ip_address = subnet.get_available_subnet_ip(None)
        elif wanted and wanted not in subnet._subnet_ips:
            # An instance has taken its own already.
            subnet.request_ip(wanted, None)
        return create_network_interface(self, subnet, private_ip_address, private_ip_addresses, *args, **kwargs)

    def delete(self: Any, eni_id: str) -> None:
        interface = self.enis.get(eni_id)
        delete_network_interface(self, eni_id)
        interface.subnet.del_subnet_ip(interface.private_ip_address)

    backend.create_network_interface, backend.delete_network_interface = create, delete


@corrects(
    "ec2 DescribeNetworkInterfaces",
    "filters attachment.status, attachment.device-index, status, private addresses are missing; several values are "
    "taken as AND",
    API.format("DescribeNetworkInterfaces"),
)
def _interface_filters() -> None:
    original = interfaces.NetworkInterface.get_filter_value

    def get_filter_value(self: Any, filter_name: str, method_name: str | None = None) -> Any:
        attachment = self.attachment
        extra = {
            "attachment.status": attachment.status if attachment else None,
            "attachment.device-index": str(attachment.device_index) if attachment else None,
            "attachment.delete-on-termination": bool(attachment.delete_on_termination) if attachment else None,
            "status": self.status,
            "addresses.private-ip-address": [item["PrivateIpAddress"] for item in self.private_ip_addresses],
            "private-ip-address": [item["PrivateIpAddress"] for item in self.private_ip_addresses],
            "mac-address": self.mac_address,
            "owner-id": self.owner_id,
            "interface-type": self.interface_type,
        }
        if filter_name in extra:
            return extra[filter_name]
        return original(self, filter_name, method_name)

    interfaces.NetworkInterface.get_filter_value = get_filter_value

    # API_Filter: "If you specify multiple values for a filter, the values are joined with an OR".
    def is_filter_matching(obj: Any, name: str, wanted: Any) -> bool:
        value = obj.get_filter_value(name)
        if value is None or wanted is None:
            return False
        wanted = wanted if isinstance(wanted, (list, tuple, set)) else [wanted]
        values = list(value) if isinstance(value, (list, tuple, set, type({}.keys()))) else [value]
        texts = [
            str(item).lower()
            if isinstance(item, bool)
            else ec2_utils.format_timestamp(item)
            if isinstance(item, datetime.datetime)
            else str(item)
            for item in values
        ]
        return any(fnmatch.fnmatchcase(text, str(pattern)) for text in texts for pattern in wanted)

    ec2_utils.is_filter_matching = is_filter_matching


@corrects(
    "ec2 DescribeInstances",
    "a malformed id is reported as not found; filters by interface group, VPC of the interface and profile are missing",
    "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html",
)
def _describe_instances() -> None:
    original = EC2Response.describe_instances

    def describe_instances(self: Any) -> ActionResult:
        for instance_id in self._get_param("InstanceIds", []):
            if not re.fullmatch(r"i-([0-9a-f]{8}|[0-9a-f]{17})", instance_id):
                raise EC2ClientError("InvalidInstanceID.Malformed", f'Invalid id: "{instance_id}"')
        return original(self)

    EC2Response.describe_instances = describe_instances

    # The lookup by name of a list attribute fails because the property gives objects, not names.
    def instance_filter(instance: Any, filters: dict[str, Any]) -> bool:
        for name, wanted in filters.items():
            values = extra_values(instance, name)
            if values is not None:
                if not any(fnmatch.fnmatchcase(value, pattern) for value in values for pattern in wanted):
                    return False
            elif not passes({name: wanted}, instance):
                return False
        return True

    def extra_values(instance: Any, name: str) -> list[str] | None:
        nics = instance.network_interfaces
        if name in ("group-id", "instance.group-id"):
            return [group.id for group in instance.security_groups]
        if name in ("group-name", "instance.group-name"):
            return [group.name for group in instance.security_groups]
        if name == "network-interface.group-id":
            return [group.id for nic in nics for group in nic._group_set]
        if name == "network-interface.vpc-id":
            return [nic.vpc_id for nic in nics]
        if name == "network-interface.network-interface-id":
            return [nic.id for nic in nics]
        if name == "iam-instance-profile.arn":
            return [instance.iam_instance_profile["Arn"]] if instance.iam_instance_profile else []
        if name == "block-device-mapping.volume-id":
            return [device.volume_id for _, device in instance.get_block_device_mapping]
        return None

    original_passes = ec2_utils.passes_filter_dict

    def passes(filters: dict[str, Any], instance: Any) -> bool:
        return original_passes(instance, filters)

    ec2_utils.passes_filter_dict = instance_filter


@corrects(
    "ec2 DescribeInstanceAttribute",
    "blockDeviceMapping and productCodes are answered empty",
    API.format("DescribeInstanceAttribute"),
)
def _describe_instance_attribute() -> None:
    original = EC2Response.describe_instance_attribute

    def describe_instance_attribute(self: Any) -> ActionResult:
        attribute = self._get_param("Attribute")
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        if attribute == "blockDeviceMapping":
            return ActionResult({"InstanceId": instance.id, "BlockDeviceMappings": instance.block_device_mappings})
        if attribute == "productCodes":
            return ActionResult({"InstanceId": instance.id, "ProductCodes": []})
        return original(self)

    EC2Response.describe_instance_attribute = describe_instance_attribute


@corrects(
    "ec2 DescribeVolumes",
    "an attachment lacks DeleteOnTermination",
    API.format("VolumeAttachment"),
)
def _volume_attachment_tells_deletion() -> None:
    def delete_on_termination(self: Any) -> bool:
        device = self.instance.block_device_mapping.get(self.device)
        return bool(device and device.delete_on_termination)

    block_store.VolumeAttachment.delete_on_termination = property(delete_on_termination)


@corrects(
    "ec2 DescribeInstances",
    "the instance profile carries the id of the association in place of the profile's",
    API.format("IamInstanceProfile"),
)
def _profile_has_its_own_id() -> None:
    from moto.ec2.models.iam_instance_profile import IamInstanceProfileAssociation

    original = IamInstanceProfileAssociation.__init__

    def initialise(self: Any, ec2_backend: Any, association_id: str, instance: Any, iam_instance_profile: Any) -> None:
        original(self, ec2_backend, association_id, instance, iam_instance_profile)
        instance.iam_instance_profile = {"Arn": iam_instance_profile.arn, "Id": iam_instance_profile.id}

    IamInstanceProfileAssociation.__init__ = initialise


@corrects(
    "every describing operation of ec2",
    "to read one resource's tags, the tags of all resources are searched: a long test run grows slow. The answers are the same",
    API.format("DescribeTags"),
)
def _tags_are_looked_up() -> None:
    def get_tags(self: Any) -> list[dict[str, str]]:
        own = self.ec2_backend.tags.get(self.id, {}) if self.id else {}
        kind = ec2_utils.EC2_PREFIX_TO_RESOURCE.get(get_prefix(self.id), "") if own else ""
        return [
            {"resource_id": self.id, "key": key, "value": value, "resource_type": kind} for key, value in own.items()
        ]

    TaggedEC2Resource.get_tags = get_tags

    describe = TagBackend.describe_tags

    def describe_tags(self: Any, filters: dict[str, list[str]] | None = None) -> list[dict[str, str]]:
        ids = (filters or {}).get("resource-id", [])
        if not ids or any("*" in item or "?" in item for item in ids):
            return describe(self, filters)
        everything = self.tags
        self.tags = {item: everything[item] for item in ids if item in everything}
        try:
            return describe(self, filters)
        finally:
            self.tags = everything

    TagBackend.describe_tags = describe_tags


@corrects(
    "ec2 CreateTags",
    "an unknown instance, interface or VPC is tagged as if it were there; reserved keys are taken",
    API.format("CreateTags"),
)
def _tags_need_a_resource() -> None:
    original = EC2Backend.do_resources_exist

    def do_resources_exist(self: Any, resource_ids: list[str]) -> bool:
        for resource_id in resource_ids:
            prefix = get_prefix(resource_id)
            if prefix == "i" and self.get_instance_by_id(resource_id) is None:
                raise InvalidInstanceIdError(resource_id)
            if prefix == "eni" and resource_id not in self.enis:
                raise InvalidNetworkInterfaceIdError(resource_id)
            if prefix == "snap" and resource_id not in self.snapshots:
                raise EC2ClientError("InvalidSnapshot.NotFound", f"The snapshot '{resource_id}' does not exist.")
            if prefix == "vpc" and resource_id not in self.vpcs:
                raise EC2ClientError("InvalidVpcID.NotFound", f"The vpc ID '{resource_id}' does not exist")
        others = [item for item in resource_ids if get_prefix(item) not in ("i", "eni", "snap", "vpc")]
        return original(self, others)

    EC2Backend.do_resources_exist = do_resources_exist

    create_tags = EC2Response.create_tags

    def create(self: Any) -> ActionResult:
        # "Restrictions": keys with the prefix aws: are reserved.
        for tag in self._get_param("Tags", []):
            if str(tag.get("Key", "")).lower().startswith("aws:"):
                raise EC2ClientError(
                    "InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use"
                )
        return create_tags(self)

    EC2Response.create_tags = create


@corrects(
    "ec2 AuthorizeSecurityGroupIngress, AuthorizeSecurityGroupEgress",
    "a rule that is there already is added a second time when it names a group or prefix list with a description; "
    "only the last permission's rules are answered; a part stays when another part is refused",
    API.format("AuthorizeSecurityGroupEgress"),
)
def _duplicate_rules() -> None:
    def key(rule: Any) -> tuple[Any, ...]:
        return (
            rule.ip_protocol,
            None if rule.ip_protocol == "-1" else rule.from_port,
            None if rule.ip_protocol == "-1" else rule.to_port,
            rule.ip_range.get("CidrIp"),
            rule.ip_range.get("CidrIpv6"),
            rule.source_group.get("GroupId"),
            rule.prefix_list_id,
        )

    def equal(self: Any, other: Any) -> bool:
        return isinstance(other, security_groups.SecurityGroupRule) and key(self) == key(other)

    security_groups.SecurityGroupRule.__eq__ = equal
    security_groups.SecurityGroupRule.__hash__ = lambda self: hash(self.id)

    original = security_groups.SecurityGroupRule.__init__

    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        prefix_list = args[7] if len(args) > 7 else kwargs.get("prefix_list_id")
        self.rule_description = (
            self.ip_range.get("Description")
            or self.source_group.get("Description")
            or (prefix_list or {}).get("Description")
        )

    security_groups.SecurityGroupRule.__init__ = initialise
    security_groups.SecurityGroupRule.description = property(lambda self: self.rule_description)

    def authorise(direction: str) -> Callable[[Any], ActionResult]:
        def handler(self: Any) -> ActionResult:
            self.error_on_dryrun()
            backend = self.ec2_backend
            group = backend.get_security_group_by_name_or_id(self._get_param("GroupId") or self._get_param("GroupName"))
            if group is None:
                raise InvalidSecurityGroupNotFoundError(self._get_param("GroupId"))
            attribute = "egress_rules" if direction == "egress" else "ingress_rules"
            before = list(getattr(group, attribute))
            added: list[Any] = []
            try:
                for permission in self._process_rules_from_querystring():
                    for prefix_list in permission["prefix_list_ids"]:
                        if prefix_list["PrefixListId"] not in backend.managed_prefix_lists:
                            raise EC2ClientError(
                                "InvalidPrefixListID.NotFound",
                                f"The prefix list ID '{prefix_list['PrefixListId']}' does not exist",
                            )
                    rules, _ = getattr(backend, f"authorize_security_group_{direction}")(**permission)
                    added += rules
            except Exception:
                setattr(group, attribute, before)
                raise
            return ActionResult({"Return": True, "SecurityGroupRules": added})

        return handler

    EC2Response.authorize_security_group_egress = authorise("egress")
    EC2Response.authorize_security_group_ingress = authorise("ingress")


@corrects(
    "ec2 RevokeSecurityGroupIngress, RevokeSecurityGroupEgress",
    "an unknown rule id is reported as an unknown permission",
    API.format("RevokeSecurityGroupEgress"),
)
def _revoke_by_rule_id() -> None:
    def revoke(direction: str) -> Callable[[Any], ActionResult]:
        original = getattr(security_group_responses.SecurityGroups, f"revoke_security_group_{direction}")

        def handler(self: Any) -> ActionResult:
            wanted = self._get_param("SecurityGroupRuleIds", [])
            group = self.ec2_backend.get_security_group_from_id(self._get_param("GroupId") or "")
            if wanted and group:
                rules = group.egress_rules if direction == "egress" else group.ingress_rules
                unknown = [item for item in wanted if item not in {rule.id for rule in rules}]
                if unknown:
                    raise EC2ClientError(
                        "InvalidSecurityGroupRuleId.NotFound",
                        f"The security group rule ID '{unknown[0]}' does not exist",
                    )
            return original(self)

        return handler

    EC2Response.revoke_security_group_egress = revoke("egress")
    EC2Response.revoke_security_group_ingress = revoke("ingress")


@corrects(
    "ec2 DeleteSecurityGroup",
    "a group that an interface or another group's rule still uses is deleted",
    API.format("DeleteSecurityGroup"),
)
def _group_in_use_stays() -> None:
    original = EC2Response.delete_security_group

    def delete_security_group(self: Any) -> ActionResult:
        group_id = self._get_param("GroupId")
        if group_id:
            backend = self.ec2_backend
            used = any(group.id == group_id for interface in backend.enis.values() for group in interface._group_set)
            named = any(
                rule.source_group.get("GroupId") == group_id
                for groups in backend.groups.values()
                for group in groups.values()
                if group.id != group_id
                for rule in group.egress_rules + group.ingress_rules
            )
            if used or named:
                raise EC2ClientError("DependencyViolation", f"resource {group_id} has a dependent object")
        return original(self)

    EC2Response.delete_security_group = delete_security_group


@corrects(
    "ec2 RunInstances",
    "the harness needs an instance with the id that the sample findings carry: tag local:instance-id asks for it",
    "not an AWS behaviour: it only chooses the id of the new instance",
)
def _instance_id_by_tag() -> None:
    wanted: list[str] = []
    instances.random_instance_id = lambda: wanted.pop() if wanted else random_instance_id()
    original = instances.InstanceBackend.run_instances

    def run_instances(self: Any, image_id: str, count: int, *args: Any, **kwargs: Any) -> Any:
        tags = kwargs.get("tags", {}).get("instance", {})
        chosen = tags.pop("local:instance-id", None)
        if chosen:
            if count != 1 or self.get_instance_by_id(chosen):
                raise EC2ClientError("InvalidParameterValue", f"local:instance-id {chosen} is in use or not single")
            wanted.append(chosen)
        try:
            reservation = original(self, image_id, count, *args, **kwargs)
        finally:
            wanted.clear()
        reservation.instances[0].market_type = kwargs.get("instance_market_options") or None
        return reservation

    instances.InstanceBackend.run_instances = run_instances


# --------------------------------------------------------------------------------------------------------------------
# EBS
# --------------------------------------------------------------------------------------------------------------------


@corrects(
    "ec2 CreateSnapshots, CreateSnapshot, DescribeSnapshots",
    "a snapshot is complete at once and CreateSnapshots gives no State; CopyTagsFromSource, ExcludeDataVolumeIds and "
    "OwnerIds are ignored; the KMS key is lost",
    API.format("CreateSnapshots"),
)
def _snapshots_take_time() -> None:
    # API_SnapshotInfo has State and Progress. How often a snapshot is described before it completes is the harness'
    # choice: instance tag local:snapshot = a number (default 2), `error`, or `never`.
    def state(self: Any) -> str:
        return self.status

    def progress(self: Any) -> str:
        plan = getattr(self, "completes_after", 0)
        if self.status == "completed":
            return "100%"
        return f"{min(99, 100 * getattr(self, 'described', 0) // plan)}%" if isinstance(plan, int) and plan else "0%"

    block_store.Snapshot.state = property(state)
    block_store.Snapshot.progress = property(progress)

    original_create = block_store.EBSBackend.create_snapshot

    def create_snapshot(self: Any, volume_id: str, description: str, *args: Any, **kwargs: Any) -> Any:
        snapshot = original_create(self, volume_id, description, *args, **kwargs)
        volume = snapshot.volume
        snapshot.kms_key_id = volume.kms_key_id if volume.encrypted else None
        if kwargs.get("from_ami") or not volume.attachment:
            return snapshot
        plan = tag_of(volume, "local:snapshot") or tag_of(volume.attachment.instance, "local:snapshot") or "2"
        snapshot.completes_after = int(plan) if plan.isdigit() else plan
        snapshot.described = 0
        if snapshot.completes_after != 0:
            snapshot.status = "pending"
        return snapshot

    block_store.EBSBackend.create_snapshot = create_snapshot

    def create_snapshots(self: Any) -> ActionResult:
        specification = self._get_param("InstanceSpecification", {})
        description = self._get_param("Description", "")
        copied = self._get_param("CopyTagsFromSource")
        tags = self._parse_tag_specification().get("snapshot", {})
        backend = self.ec2_backend
        instance = backend.get_instance(specification.get("InstanceId"))
        self.error_on_dryrun()
        excluded = set(specification.get("ExcludeDataVolumeIds", []))
        mapping = instance.get_block_device_mapping
        unknown = excluded - {device.volume_id for name, device in mapping if name != instance.root_device_name}
        if unknown:
            raise EC2ClientError(
                "InvalidParameterValue",
                f"The volume {sorted(unknown)[0]} is not a data volume attached to {instance.id}.",
            )
        included = []
        for name, device in mapping:
            boot = name == instance.root_device_name
            if (boot and specification.get("ExcludeBootVolume") is True) or device.volume_id in excluded:
                continue
            # One that cannot be snapshotted has EC2 refuse the whole set; the code is believed.
            if backend.get_volume(device.volume_id).status == "error":
                raise EC2ClientError("IncorrectState", f"The volume '{device.volume_id}' is in the 'error' state.")
            included.append(device.volume_id)
        snapshots = []
        for volume_id in included:
            snapshot = backend.create_snapshot(volume_id, description=description)
            if copied == "volume":
                snapshot.add_tags(
                    {
                        tag["key"]: tag["value"]
                        for tag in snapshot.volume.get_tags()
                        if not tag["key"].startswith("aws:")
                    }
                )
            snapshot.add_tags(tags)
            snapshots.append(snapshot)
        return ActionResult({"Snapshots": snapshots})

    EC2Response.create_snapshots = create_snapshots

    original_describe = EC2Response.describe_snapshots

    def describe_snapshots(self: Any) -> ActionResult:
        result = original_describe(self)
        owners = self._get_param("OwnerIds", [])
        account = self.current_account
        snapshots = result.result["Snapshots"]
        if owners:
            wanted = {account if owner == "self" else owner for owner in owners}
            snapshots = [snapshot for snapshot in snapshots if snapshot.owner_id in wanted]
        for snapshot in snapshots:
            # When it was taken is the harness' choice too.
            if started := tag_of(snapshot, "local:started"):
                snapshot.start_time = datetime.datetime.fromisoformat(started)
            if snapshot.status != "pending":
                continue
            snapshot.described += 1
            if problem := getattr(snapshot, "problem", None):
                snapshot.status = "error"
                snapshot.state_message = problem
            elif snapshot.completes_after == "error":
                snapshot.status = "error"
                snapshot.state_message = "the harness was told to fail this snapshot (tag local:snapshot)"
            elif isinstance(snapshot.completes_after, int) and snapshot.described >= snapshot.completes_after:
                snapshot.status = "completed"
        return ActionResult({"Snapshots": snapshots})

    EC2Response.describe_snapshots = describe_snapshots


@corrects(
    "ec2 DescribeVolumes, CreateSnapshot",
    "no volume is ever in error, and one of another state is snapshotted; the harness asks for it by the volume tag local:state",
    API.format("Volume"),
)
def _volumes_can_be_broken() -> None:
    original = block_store.Volume.status.fget

    def status(self: Any) -> str:
        return tag_of(self, "local:state") or original(self)

    block_store.Volume.status = property(status)

    create = EC2Response.create_snapshot

    def create_snapshot(self: Any) -> ActionResult:
        volume_id = self._get_param("VolumeId")
        if self.ec2_backend.get_volume(volume_id).status == "error":
            raise EC2ClientError("IncorrectState", f"The volume '{volume_id}' is in the 'error' state.")
        return create(self)

    EC2Response.create_snapshot = create_snapshot


def _key_of(account: str, region: str, name: str) -> Any:
    """A KMS key by id, ARN or alias, as `account` means it in `region`; none where there is no such key."""
    from moto.kms import kms_backends

    if name.startswith("arn:"):
        region, account, name = name.split(":", 5)[3:6]
    backend = kms_backends[account][region]
    if name.startswith("alias/"):
        name = backend.get_key_id_from_alias(name) or ""
    return backend.keys.get(name.removeprefix("key/"))


def _is_default_key(snapshot: Any) -> bool:
    """Whether a snapshot is encrypted with the key that AWS manages for EBS."""
    region = snapshot.ec2_backend.region_name
    managed = _key_of(snapshot.owner_id, region, "alias/aws/ebs")
    return bool(managed and snapshot.encrypted and snapshot.kms_key_id == managed.arn)


def _unusable(account: str, key: Any) -> bool:
    """Whether EBS cannot use a key for an account: gone, disabled, or another's whose policy does not name the account."""
    if key is None or key.key_state != "Enabled":
        return True
    return key.account_id != account and account not in key.policy


@corrects(
    "ec2 CopySnapshot",
    "only snapshots of the caller's own account are found, whole or not; a copy is complete at once, keeps the volume's id and "
    "asks for no key; no PresignedUrl is wanted",
    API.format("CopySnapshot"),
)
def _copies_take_time_and_keys() -> None:
    # "CopySnapshot ... must be used with a snapshot that you own or that is shared with you"; "Snapshots copied ... have an
    # arbitrary source volume ID"; "PresignedUrl: when you copy an encrypted source snapshot using the Amazon EC2 Query API,
    # you must supply a pre-signed URL". The keys are validated asynchronously (aws-facts.md). The codes are believed.
    def copy_snapshot(self: Any) -> ActionResult:
        source_id, source_region = self._get_param("SourceSnapshotId"), self._get_param("SourceRegion")
        tags = self._parse_tag_specification().get("snapshot", {})
        wanted_key, account = self._get_param("KmsKeyId"), self.current_account
        self.error_on_dryrun()
        source = _readable_snapshot(account, source_region, source_id)
        if source is None:
            raise EC2ClientError("InvalidSnapshot.NotFound", f"The snapshot '{source_id}' does not exist.")
        if source.status != "completed":
            raise EC2ClientError("IncorrectState", f"The snapshot '{source_id}' is not in the 'completed' state.")
        if source.encrypted and source_region != self.region:
            _require_signed_copy(self._get_param("PresignedUrl") or "", source_id, source_region, self.region, wanted_key)
        backend = self.ec2_backend
        encrypted = source.encrypted or self._get_bool_param("Encrypted", False)
        key = _key_of(account, self.region, wanted_key) if wanted_key else None
        if encrypted and not wanted_key:
            key = _key_of(account, self.region, backend._create_default_encryption_key())
        snapshot = block_store.Snapshot(
            backend,
            ec2_utils.random_snapshot_id(),
            volume=CopiedVolume("vol-ffffffff", source.volume_size),
            description=self._get_param("Description") or "",
            encrypted=encrypted,
            kms_key_id=key.arn if key else None,
        )
        snapshot.status, snapshot.described, snapshot.completes_after = "pending", 0, 2
        source_key = _key_of(source.owner_id, source_region, source.kms_key_id) if source.encrypted else None
        if (encrypted and _unusable(account, key)) or (source.encrypted and _unusable(account, source_key)):
            snapshot.problem = "Given key ID is not accessible"
        backend.snapshots[snapshot.id] = snapshot
        snapshot.add_tags(tags)
        return ActionResult({"SnapshotId": snapshot.id, "Tags": snapshot.tag_set})

    EC2Response.copy_snapshot = copy_snapshot


@dataclass
class CopiedVolume:
    """What a copy knows of the volume: its size."""

    id: str
    size: int


def _readable_snapshot(account: str, region: str, snapshot_id: str) -> Any:
    for backends in ec2_backends.values():
        snapshot = backends[region].snapshots.get(snapshot_id)
        if snapshot is not None:
            shared = account in snapshot.create_volume_permission_userids or snapshot.create_volume_permission_groups
            return snapshot if snapshot.owner_id == account or shared else None
    return None


def _require_signed_copy(address: str, snapshot_id: str, source: str, destination: str, key: str | None) -> None:
    given = dict(parse_qsl(urlsplit(address).query))
    wanted = {
        "Action": "CopySnapshot",
        "SourceSnapshotId": snapshot_id,
        "SourceRegion": source,
        "DestinationRegion": destination,
        **({"KmsKeyId": key} if key else {}),
    }
    scope = given.get("X-Amz-Credential", "").split("/")
    if not address:
        raise EC2ClientError("MissingParameter", "PresignedUrl must be provided for an encrypted snapshot of another region.")
    if (
        any(given.get(name) != value for name, value in wanted.items())
        or not urlsplit(address).netloc.startswith(f"ec2.{source}.")
        or scope[2:4] != [source, "ec2"]
        or not given.get("X-Amz-Signature")
    ):
        raise EC2ClientError("InvalidParameterValue", "PresignedUrl is not of this copy, signed for the source region.")


@corrects(
    "ec2 ModifySnapshotAttribute",
    "a snapshot under the key that AWS manages is shared like any other, and so is one of another account",
    "https://docs.aws.amazon.com/ebs/latest/userguide/ebs-modifying-snapshot-permissions.html",
)
def _default_key_is_not_shared() -> None:
    original = EC2Response.modify_snapshot_attribute

    def modify_snapshot_attribute(self: Any) -> ActionResult:
        snapshot = self.ec2_backend.get_snapshot(self._get_param("SnapshotId"))
        if self._get_param("OperationType") == "add" and _is_default_key(snapshot):
            raise EC2ClientError("OperationNotPermitted", "Encrypted snapshots with EBS default key cannot be shared")
        return original(self)

    EC2Response.modify_snapshot_attribute = modify_snapshot_attribute


@corrects(
    "ec2 GetConsoleScreenshot",
    "moto does not have it; here it is the start and the end of a JPEG file and nothing between",
    API.format("GetConsoleScreenshot"),
)
def _console_screenshot() -> None:
    def get_console_screenshot(self: Any) -> ActionResult:
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        picture = base64.b64encode(bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")).decode()
        return ActionResult({"InstanceId": instance.id, "ImageData": picture})

    EC2Response.get_console_screenshot = get_console_screenshot


@corrects(
    "ec2 LockSnapshot, UnlockSnapshot, DescribeLockedSnapshots, DeleteSnapshot",
    "moto has no snapshot lock",
    API.format("LockSnapshot"),
)
def _snapshot_lock() -> None:
    def lock_snapshot(self: Any) -> ActionResult:
        snapshot = self.ec2_backend.get_snapshot(self._get_param("SnapshotId"))
        mode = self._get_param("LockMode")
        if mode not in ("governance", "compliance"):
            raise EC2ClientError("InvalidParameterValue", f"Invalid value '{mode}' for LockMode")
        hours = self._get_int_param("CoolOffPeriod")
        days = self._get_int_param("LockDuration")
        until = self._get_param("ExpirationDate")
        if (days is None) == (until is None):
            raise EC2ClientError(
                "InvalidParameterCombination", "Specify either LockDuration or ExpirationDate, but not both."
            )
        if hours is not None and (mode == "governance" or not 1 <= hours <= 72):
            raise EC2ClientError("InvalidParameterCombination", "CoolOffPeriod is for compliance mode, 1 to 72 hours.")
        if days is not None and not 1 <= days <= 36500:
            raise EC2ClientError("InvalidParameterValue", f"Invalid LockDuration {days}")
        now = utcnow()
        expires = now + datetime.timedelta(days=days) if days else until
        if isinstance(expires, str):
            expires = datetime.datetime.fromisoformat(expires.replace("Z", "+00:00"))
        old = getattr(snapshot, "lock", None)
        if old and old["LockState"] == "compliance" and expires < old["LockExpiresOn"]:
            raise EC2ClientError(
                "SnapshotLocked", f"The lock of {snapshot.id} is in compliance mode and can only be extended."
            )
        cool_off = now + datetime.timedelta(hours=hours) if hours else None
        snapshot.lock = {
            "SnapshotId": snapshot.id,
            "OwnerId": snapshot.owner_id,
            "LockState": "compliance-cooloff" if cool_off else mode,
            "LockDuration": days if days else max(1, (expires - now).days),
            "CoolOffPeriod": hours,
            "CoolOffPeriodExpiresOn": cool_off,
            "LockCreatedOn": now,
            "LockDurationStartTime": now,
            "LockExpiresOn": expires,
        }
        return ActionResult(snapshot.lock)

    def unlock_snapshot(self: Any) -> ActionResult:
        snapshot = self.ec2_backend.get_snapshot(self._get_param("SnapshotId"))
        lock = getattr(snapshot, "lock", None)
        if lock and lock["LockState"] == "compliance":
            raise EC2ClientError("SnapshotLocked", f"The lock of {snapshot.id} is in compliance mode.")
        snapshot.lock = None
        return ActionResult({"SnapshotId": snapshot.id})

    def describe_locked_snapshots(self: Any) -> ActionResult:
        wanted = self._get_param("SnapshotIds", [])
        for snapshot_id in wanted:
            self.ec2_backend.get_snapshot(snapshot_id)
        states = self._filters_from_querystring().get("lock-state")
        locks = [
            snapshot.lock
            for snapshot in self.ec2_backend.snapshots.values()
            if getattr(snapshot, "lock", None)
            and (not wanted or snapshot.id in wanted)
            and (not states or snapshot.lock["LockState"] in states)
        ]
        return ActionResult({"Snapshots": locks})

    EC2Response.lock_snapshot = lock_snapshot
    EC2Response.unlock_snapshot = unlock_snapshot
    EC2Response.describe_locked_snapshots = describe_locked_snapshots

    original = block_store.EBSBackend.delete_snapshot

    def delete_snapshot(self: Any, snapshot_id: str) -> Any:
        snapshot = self.snapshots.get(snapshot_id)
        if snapshot is None:
            raise InvalidSnapshotIdError()
        lock = getattr(snapshot, "lock", None)
        # The user guide says that a locked snapshot cannot be deleted; the error's code is believed.
        if lock and lock["LockExpiresOn"] > utcnow():
            raise EC2ClientError("SnapshotLocked", f"The snapshot '{snapshot_id}' is locked and cannot be deleted.")
        return original(self, snapshot_id)

    block_store.EBSBackend.delete_snapshot = delete_snapshot


# --------------------------------------------------------------------------------------------------------------------
# Auto Scaling and load balancing
# --------------------------------------------------------------------------------------------------------------------


@corrects(
    "autoscaling DetachInstances",
    "detaching below MinSize succeeds; an instance that is not in the group is accepted and lowers the capacity; the "
    "instance stays registered with the group's target groups",
    AUTO_SCALING.format("DetachInstances"),
)
def _detach_respects_the_group() -> None:
    def detach_instances(self: Any) -> ActionResult:
        name = self._get_param("AutoScalingGroupName")
        instance_ids = self._get_param("InstanceIds", [])
        decrement = self._get_bool_param("ShouldDecrementDesiredCapacity")
        backend = self.autoscaling_backend
        group = backend.autoscaling_groups.get(name)
        if group is None:
            raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup {name} not found")
        if decrement is None:
            raise ValidationError(
                "1 validation error detected: Value null at 'shouldDecrementDesiredCapacity' failed to satisfy "
                "constraint: Member must not be null"
            )
        members = {state.instance.id for state in group.instance_states}
        for instance_id in instance_ids:
            if instance_id not in members:
                raise ValidationError(f"The instance {instance_id} is not part of Auto Scaling group {name}.")
        count = len(instance_ids)
        # The guide: "you must decrement the minimum capacity of the group before you can detach". The wording is that
        # of an answer by AWS quoted in public.
        if decrement and group.desired_capacity - count < group.min_size:
            raise ValidationError(
                f"AutoScalingGroup {name} has min-size={group.min_size}, max-size={group.max_size}, and "
                f"desired-size={group.desired_capacity}. To detach {count} instance{'' if count == 1 else 's'}, "
                "please update the AutoScalingGroup sizes appropriately."
            )
        activities = backend.detach_instances(name, instance_ids, decrement)
        # "If there is a target group attached to the group, the instances are deregistered from the target group."
        for arn in group.target_group_arns or []:
            target_group = backend.elbv2_backend.target_groups.get(arn)
            if target_group is not None:
                target_group.deregister([{"Id": instance_id} for instance_id in instance_ids])
        backend.update_attached_elbs(name)
        return ActionResult({"Activities": activities})

    autoscaling_responses.AutoScalingResponse.detach_instances = detach_instances


@corrects(
    "ec2 DescribeInstanceTypes",
    "the simulated hosts have a few MiB of memory, and the type of an instance must say how much its host has: m6i.large "
    "says 4 MiB here, m6i.xlarge 20",
    API.format("DescribeInstanceTypes"),
)
def _types_have_the_memory_of_the_simulated_hosts() -> None:
    for kind in InstanceTypeBackend.instance_types:
        if kind["InstanceType"] in SIMULATED_MEMORY_MIB:
            kind["MemoryInfo"] = {"SizeInMiB": SIMULATED_MEMORY_MIB[kind["InstanceType"]]}


@corrects(
    "autoscaling DescribeAutoScalingInstances",
    "an instance is InService or in Standby, never between two states; the harness asks for one by the instance tag "
    "local:lifecycle",
    AUTO_SCALING.format("DescribeAutoScalingInstances"),
)
def _lifecycle_states_can_be_chosen() -> None:
    describe = autoscaling_models.AutoScalingBackend.describe_auto_scaling_instances

    def describe_auto_scaling_instances(self: Any, instance_ids: list[str]) -> list[Any]:
        states = describe(self, instance_ids)
        for state in states:
            chosen = tag_of(state.instance, "local:lifecycle")
            if chosen:
                state.lifecycle_state = chosen
        return states

    autoscaling_models.AutoScalingBackend.describe_auto_scaling_instances = describe_auto_scaling_instances


@corrects(
    "elasticloadbalancing RegisterTargets, DeregisterTargets, DescribeTargetHealth",
    "one port for a target, so a second registration replaces the first; deregistering one port removes all, and an "
    "unknown target is an error; a deregistered target vanishes at once",
    LOAD_BALANCING.format("DeregisterTargets"),
)
def _targets_have_ports() -> None:
    group_class = target_models.FakeTargetGroup

    def key(target_id: str, port: Any) -> str:
        return f"{target_id}:{port}"

    def register(self: Any, targets: list[dict[str, Any]]) -> None:
        for target in targets:
            if self.target_type == "instance":
                instance = self.ec2_backend.get_instance_by_id(target["Id"])
                if instance and instance.state != "running":
                    raise target_models.TargetNotRunning(instance_id=target["Id"])
        for target in targets:
            port = target.get("Port", self.port)
            entry = {"Id": target["Id"], "Port": port}
            self.targets[key(target["Id"], port)] = entry
            self.deregistered_targets.pop(key(target["Id"], port), None)

    def deregister(self: Any, targets: list[dict[str, Any]]) -> None:
        # API_DeregisterTargets: "If the specified target does not exist, the action returns successfully." A target
        # description names one port, so a registration on another port stays (API_TargetDescription); without a port
        # all registrations of the id go.
        for target in targets:
            for name, entry in list(self.targets.items()):
                if entry["Id"] == target["Id"] and str(target.get("Port") or entry["Port"]) == str(entry["Port"]):
                    self.targets.pop(name)
                    self.deregistered_targets[name] = {**entry, "since": utcnow()}

    def deregister_terminated_instances(self: Any, instance_ids: list[str]) -> None:
        deregister(self, [{"Id": instance_id} for instance_id in instance_ids])

    def draining(self: Any, entry: dict[str, Any]) -> bool:
        # Draining only where a load balancer stands before the group, for the group's own delay (default 300 s).
        if not self.load_balancer_arns:
            return False
        delay = float(self.attributes.get("deregistration_delay.timeout_seconds", 300))
        return (utcnow() - entry["since"]).total_seconds() < delay

    def health(self: Any, entry: dict[str, Any], state: str, reason: str = "", description: str = "") -> Any:
        port = entry.get("Port", self.port)
        check = str(port) if self.health_check_port == "traffic-port" else self.health_check_port
        return target_models.FakeHealthStatus(
            entry["Id"], port, check, state, reason or None, description or None
        )

    def health_of(self: Any, entry: dict[str, Any], ec2_backend: Any) -> Any:
        name = key(entry["Id"], entry.get("Port", self.port))
        if name in self.targets:
            instance = ec2_backend.get_instance_by_id(entry["Id"])
            if instance and instance.state == "stopped":
                return health(self, entry, "unused", "Target.InvalidState", "Target is in the stopped state")
            if not self.load_balancer_arns:
                return health(
                    self,
                    entry,
                    "unused",
                    "Target.NotInUse",
                    "Target group is not configured to receive traffic from the load balancer",
                )
            return health(self, entry, "healthy")
        gone = self.deregistered_targets.get(name)
        if gone and draining(self, gone):
            return health(
                self, entry, "draining", "Target.DeregistrationInProgress", "Target deregistration is in progress"
            )
        return health(
            self, entry, "unused", "Target.NotRegistered", "Target is not registered to the target group"
        )

    def describe_target_health(self: Any, target_group_arn: str, targets: list[dict[str, Any]]) -> list[Any]:
        group = self.target_groups.get(target_group_arn)
        if group is None:
            raise target_models.TargetGroupNotFoundError()
        wanted: list[dict[str, Any]] = []
        if targets:
            for target in targets:
                known = [entry for entry in group.targets.values() if entry["Id"] == target["Id"]]
                wanted += [target] if "Port" in target or not known else known
        else:
            wanted = list(group.targets.values())
            wanted += [entry for entry in group.deregistered_targets.values() if draining(group, entry)]
        return [group.health_for(target, self.ec2_backend) for target in wanted]

    group_class.register = register
    group_class.deregister = deregister
    group_class.deregister_terminated_instances = deregister_terminated_instances
    group_class.health_for = health_of
    target_models.ELBv2Backend.describe_target_health = describe_target_health


@corrects(
    "elasticloadbalancing DeregisterInstancesFromLoadBalancer",
    "an unknown classic load balancer is a fault of the server",
    "https://docs.aws.amazon.com/elasticloadbalancing/2012-06-01/APIReference/"
    "API_DeregisterInstancesFromLoadBalancer.html",
)
def _classic_load_balancer_must_exist() -> None:
    def checked(original: Callable[..., Any]) -> Callable[..., Any]:
        def handler(self: Any, load_balancer_name: str, *args: Any, **kwargs: Any) -> Any:
            if load_balancer_name not in self.load_balancers:
                raise classic_models.LoadBalancerNotFoundError(load_balancer_name)
            return original(self, load_balancer_name, *args, **kwargs)

        return handler

    backend = classic_models.ELBBackend
    backend.deregister_instances = checked(backend.deregister_instances)
    backend.register_instances = checked(backend.register_instances)


# --------------------------------------------------------------------------------------------------------------------
# Systems Manager
# --------------------------------------------------------------------------------------------------------------------


def ssm_error(code: str, message: str, **members: Any) -> SSMException:
    error = SSMException(code, message)
    for name, value in members.items():
        setattr(error, name, value)
    return error


def commands_of(self: Any) -> dict[str, simulated_host.Command]:
    backend = self.ssm_backend
    if not hasattr(backend, "local_commands"):
        backend.local_commands = {}
    return backend.local_commands


def managed_instances(self: Any) -> dict[str, Any]:
    """The running instances that have an agent, by id."""
    backend = ec2_backends[self.current_account][self.region]
    return {
        instance.id: instance
        for instance in backend.all_instances()
        if instance.state == "running" and (tag_of(instance, "local:agent") or "online") != "unmanaged"
    }


PLATFORMS = {
    "linux": ("Linux", "Amazon Linux", "2023"),
    "windows": ("Windows", "Microsoft Windows Server 2022 Datacenter", "10.0.20348"),
    "macos": ("MacOS", "macOS", "14.5"),
}


def platform_of(instance: Any) -> str:
    wanted = tag_of(instance, "local:platform") or ("windows" if instance.platform == "windows" else "linux")
    return wanted if wanted in PLATFORMS else "linux"


@corrects(
    "ssm DescribeInstanceInformation",
    "not implemented",
    SYSTEMS_MANAGER.format("DescribeInstanceInformation"),
)
def _describe_instance_information() -> None:
    keys = {
        "InstanceIds": lambda item: item["InstanceId"],
        "PingStatus": lambda item: item["PingStatus"],
        "PlatformTypes": lambda item: item["PlatformType"],
        "ResourceType": lambda item: item["ResourceType"],
        "AgentVersion": lambda item: item["AgentVersion"],
    }

    def describe_instance_information(self: Any) -> ActionResult:
        found = []
        for instance in managed_instances(self).values():
            platform, name, version = PLATFORMS[platform_of(instance)]
            agent = tag_of(instance, "local:agent") or "online"
            ping = utcnow() - datetime.timedelta(hours=3 if agent == "offline" else 0)
            found.append(
                {
                    "InstanceId": instance.id,
                    "PingStatus": "ConnectionLost" if agent == "offline" else "Online",
                    "LastPingDateTime": ping,
                    "AgentVersion": "3.3.2299.0",
                    "IsLatestVersion": True,
                    "PlatformType": platform,
                    "PlatformName": name,
                    "PlatformVersion": version,
                    "ResourceType": "EC2Instance",
                    "IPAddress": instance.private_ip_address,
                    "ComputerName": instance.private_dns_name,
                }
            )
        wanted = [(item["Key"], item["Values"]) for item in self._get_param("Filters", [])]
        wanted += [(item["key"], item["valueSet"]) for item in self._get_param("InstanceInformationFilterList", [])]
        for key, values in wanted:
            if key not in keys:
                raise ssm_error("InvalidFilterKey", f"The filter key {key} is not known to the local AWS.")
            found = [item for item in found if keys[key](item) in values]
        size = self._get_int_param("MaxResults") or 50
        if not 5 <= size <= 50:
            raise ssm_error("ValidationException", "MaxResults must be between 5 and 50")
        start = int(self._get_param("NextToken") or 0)
        result: dict[str, Any] = {"InstanceInformationList": found[start : start + size]}
        if start + size < len(found):
            result["NextToken"] = str(start + size)
        return ActionResult(result)

    ssm_responses.SimpleSystemManagerResponse.describe_instance_information = describe_instance_information


@corrects(
    "ssm SendCommand",
    "goes to every instance of the account, whatever InstanceIds says; succeeds at once for instances without an agent",
    SYSTEMS_MANAGER.format("SendCommand"),
)
def _send_command() -> None:
    def send_command(self: Any) -> ActionResult:
        managed = managed_instances(self)
        instance_ids = list(dict.fromkeys(self._get_param("InstanceIds", []) or []))
        for target in self._get_param("Targets", []) or []:
            key, values = target["Key"], target["Values"]
            if key == "InstanceIds":
                instance_ids += [item for item in values if item not in instance_ids]
            elif key.startswith("tag:"):
                instance_ids += [
                    name
                    for name, instance in managed.items()
                    if tag_of(instance, key[4:]) in values and name not in instance_ids
                ]
            else:
                raise ssm_error("InvalidTarget", f"The target {key} is not known to the local AWS.")
        unknown = [name for name in instance_ids if name not in managed]
        if unknown or not instance_ids:
            raise ssm_error(
                "InvalidInstanceId",
                f"Instances [[{', '.join(unknown)}]] not in a valid state for account {self.current_account}",
            )
        comment = self._get_param("Comment", "") or ""
        if len(comment) > 100:
            raise ssm_error("ValidationException", "Value at 'comment' failed to satisfy constraint: length <= 100")
        timeout = self._get_int_param("TimeoutSeconds")
        timeout = 3600 if timeout is None else timeout
        if not 30 <= timeout <= 2592000:
            raise ssm_error(
                "ValidationException", "Value at 'timeoutSeconds' failed to satisfy constraint: 30 to 2592000"
            )
        name = self._get_param("DocumentName")
        document = _document(self, name)
        parameters = self._get_param("Parameters", {}) or {}
        values = simulated_host.resolve_parameters(document, parameters)
        if isinstance(values, str):
            raise ssm_error("InvalidParameters", values)
        command = simulated_host.Command(
            command_id=str(uuid.uuid4()),
            account=self.current_account,
            region=self.region,
            document_name=name,
            document=document,
            parameters=parameters,
            values=values,
            comment=comment,
            timeout_seconds=timeout,
            bucket=self._get_param("OutputS3BucketName", "") or "",
            prefix=self._get_param("OutputS3KeyPrefix", "") or "",
            bucket_region=self._get_param("OutputS3Region", "") or self.region,
            requested=utcnow(),
            targets=self._get_param("Targets", []) or [],
        )
        for instance_id in instance_ids:
            instance = managed[instance_id]
            command.start(
                instance_id,
                agent=tag_of(instance, "local:agent") or "online",
                platform=platform_of(instance),
                eventual=tag_of(instance, "local:ssm-consistency") == "eventual",
                memory=(tag_of(instance, "local:memory") or "whole", SIMULATED_MEMORY_MIB.get(instance.instance_type, 4)),
            )
        commands_of(self)[command.command_id] = command
        return ActionResult({"Command": command.describe(sent=True)})

    def list_commands(self: Any) -> ActionResult:
        command_id = self._get_param("CommandId")
        instance_id = self._get_param("InstanceId")
        if command_id and not re.fullmatch(r"[0-9a-f-]{36}", command_id):
            raise ssm_error("InvalidCommandId", "")
        found = [
            command.describe()
            for command in reversed(commands_of(self).values())
            if (not command_id or command.command_id == command_id)
            and (not instance_id or instance_id in command.invocations)
        ]
        for item in self._get_param("Filters", []) or []:
            key, value = item["key"], item["value"]
            if key == "Status":
                found = [command for command in found if command["Status"] == value]
            elif key == "DocumentName":
                found = [command for command in found if command["DocumentName"] == value]
            elif key == "InvokedAfter":
                found = [command for command in found if _iso(command["RequestedDateTime"]) > value]
            elif key == "InvokedBefore":
                found = [command for command in found if _iso(command["RequestedDateTime"]) < value]
            else:
                raise ssm_error("InvalidFilterKey", f"The filter key {key} is not known to the local AWS.")
        return ActionResult({"Commands": found})

    ssm_responses.SimpleSystemManagerResponse.send_command = send_command
    ssm_responses.SimpleSystemManagerResponse.list_commands = list_commands


def _iso(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _document(self: Any, name: str) -> dict[str, Any]:
    try:
        found = self.ssm_backend.get_document((name or "").split("/")[-1], None, None, "JSON")
    except (SSMException, ServiceException):
        raise ssm_error("InvalidDocument", f"document {name} does not exist in this account and region") from None
    content = found["Content"]
    return json.loads(content) if isinstance(content, str) else content


@corrects(
    "ssm GetCommandInvocation, ListCommandInvocations, CancelCommand",
    "every command is a success without output at once; one made-up step; no list, no cancel",
    SYSTEMS_MANAGER.format("GetCommandInvocation"),
)
def _command_invocations() -> None:
    response = ssm_responses.SimpleSystemManagerResponse

    def get_command_invocation(self: Any) -> ActionResult:
        command_id, instance_id = self._get_param("CommandId"), self._get_param("InstanceId")
        if not re.fullmatch(r"[0-9a-f-]{36}", command_id or ""):
            raise ssm_error("InvalidCommandId", "")
        command = commands_of(self).get(command_id)
        invocation = command.invocations.get(instance_id) if command else None
        if invocation is None or invocation.hidden():
            raise ssm_error("InvocationDoesNotExist", "")
        step = self._get_param("PluginName")
        if step and step not in invocation.steps:
            raise ssm_error("InvalidPluginName", f"The plugin name {step} is not in the document.")
        return ActionResult(invocation.describe_step(step))

    def list_command_invocations(self: Any) -> ActionResult:
        command_id, instance_id = self._get_param("CommandId"), self._get_param("InstanceId")
        if command_id and not re.fullmatch(r"[0-9a-f-]{36}", command_id):
            raise ssm_error("InvalidCommandId", "")
        details = self._get_bool_param("Details", False)
        found = [
            invocation.describe(details)
            for command in reversed(commands_of(self).values())
            if not command_id or command.command_id == command_id
            for name, invocation in command.invocations.items()
            if (not instance_id or name == instance_id) and not invocation.hidden()
        ]
        return ActionResult({"CommandInvocations": found})

    def cancel_command(self: Any) -> ActionResult:
        command = commands_of(self).get(self._get_param("CommandId"))
        if command is None:
            raise ssm_error("InvalidCommandId", "")
        for name in self._get_param("InstanceIds", []) or list(command.invocations):
            if name not in command.invocations:
                raise ssm_error("InvalidInstanceId", f"Instances [[{name}]] not in a valid state for account")
            command.invocations[name].cancel()
        return EmptyResult()

    response.get_command_invocation = get_command_invocation
    response.list_command_invocations = list_command_invocations
    response.cancel_command = cancel_command


@corrects(
    "ssm CreateOpsItem, GetOpsItem, UpdateOpsItem",
    "not implemented",
    SYSTEMS_MANAGER.format("CreateOpsItem"),
)
def _ops_items() -> None:
    response = ssm_responses.SimpleSystemManagerResponse

    def items_of(self: Any) -> dict[str, dict[str, Any]]:
        backend = self.ssm_backend
        if not hasattr(backend, "local_ops_items"):
            backend.local_ops_items = {}
        return backend.local_ops_items

    def dedup(data: dict[str, Any]) -> str | None:
        value = (data.get("/aws/dedup") or {}).get("Value")
        if value is None:
            return None
        try:
            return json.loads(value)["dedupString"]
        except (ValueError, KeyError, TypeError):
            raise ssm_error(
                "OpsItemInvalidParameterException",
                'The value of /aws/dedup must be {"dedupString":"..."}.',
                ParameterNames=["OperationalData"],
            ) from None

    def create_ops_item(self: Any) -> ActionResult:
        for name, limit in (("Title", 1024), ("Description", 2048), ("Source", 128)):
            value = self._get_param(name)
            if not value or len(value) > limit:
                raise ssm_error(
                    "ValidationException",
                    f"Value at '{name[0].lower()}{name[1:]}' failed to satisfy constraint: 1 to {limit} characters",
                )
        data = self._get_param("OperationalData", {}) or {}
        key = dedup(data)
        for item in items_of(self).values():
            # The user guide on OperationalData: an unresolved OpsItem with the same dedup string refuses the new one.
            if key is not None and item["dedup"] == key and item["Status"] not in ("Resolved", "Closed"):
                raise ssm_error(
                    "OpsItemAlreadyExistsException",
                    f"An OpsItem already exists with the same dedup string: {item['OpsItemId']}",
                    OpsItemId=item["OpsItemId"],
                )
        item_id = "oi-" + uuid.uuid4().hex[:12]
        now = utcnow()
        arn = f"arn:aws:ssm:{self.region}:{self.current_account}:opsitem/{item_id}"
        items_of(self)[item_id] = {
            "OpsItemId": item_id,
            "OpsItemArn": arn,
            "Title": self._get_param("Title"),
            "Description": self._get_param("Description"),
            "Source": self._get_param("Source"),
            "Priority": self._get_int_param("Priority"),
            "Severity": self._get_param("Severity"),
            "Category": self._get_param("Category"),
            "OpsItemType": self._get_param("OpsItemType") or "/aws/issue",
            "OperationalData": data,
            "Status": "Open",
            "Version": "1",
            "CreatedTime": now,
            "LastModifiedTime": now,
            "CreatedBy": f"arn:aws:iam::{self.current_account}:root",
            "LastModifiedBy": f"arn:aws:iam::{self.current_account}:root",
            "dedup": key,
        }
        return ActionResult({"OpsItemId": item_id, "OpsItemArn": arn})

    def find(self: Any) -> dict[str, Any]:
        item_id = (self._get_param("OpsItemId") or "").split("/")[-1]
        item = items_of(self).get(item_id)
        if item is None:
            raise ssm_error("OpsItemNotFoundException", f"OpsItem ID {item_id} not found")
        return item

    def get_ops_item(self: Any) -> ActionResult:
        return ActionResult({"OpsItem": {name: value for name, value in find(self).items() if name != "dedup"}})

    def update_ops_item(self: Any) -> ActionResult:
        item = find(self)
        for name in ("Title", "Description", "Status", "Priority", "Severity", "Category"):
            if self._get_param(name) is not None:
                item[name] = self._get_param(name)
        item["OperationalData"] = {**item["OperationalData"], **(self._get_param("OperationalData", {}) or {})}
        item["LastModifiedTime"] = utcnow()
        return EmptyResult()

    response.create_ops_item = create_ops_item
    response.get_ops_item = get_ops_item
    response.update_ops_item = update_ops_item


# --------------------------------------------------------------------------------------------------------------------
# IAM
# --------------------------------------------------------------------------------------------------------------------


@corrects(
    "iam SimulatePrincipalPolicy",
    "not implemented; here: the role's own policies, Allow and Deny, actions and resources with wildcards; of "
    "conditions only that a Deny does not match that asks for a key to be there",
    "https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html",
)
def _simulation() -> None:
    from moto.iam import responses
    from moto.iam.exceptions import NotFoundException

    def listed(value: Any) -> list[str]:
        return value if isinstance(value, list) else [value]

    def statements(backend: Any, role: Any) -> list[dict[str, Any]]:
        documents = [*role.policies.values(), *(policy.document for policy in role.managed_policies.values())]
        return [item for text in documents for item in listed(json.loads(text)["Statement"])]

    def decided(found: list[dict[str, Any]], action: str, resource: str) -> str:
        def about(item: dict[str, Any]) -> bool:
            actions, resources = listed(item.get("Action", [])), listed(item.get("Resource", []))
            return any(fnmatch.fnmatchcase(action.lower(), one.lower()) for one in actions) and any(
                fnmatch.fnmatchcase(resource, one) for one in resources
            )

        def asks_for_a_key(item: dict[str, Any]) -> bool:
            # Which values the simulation was told is not looked at; an operator that matches without its key is.
            operators = item.get("Condition", {})
            return any("Not" not in one and not one.startswith("ForAll") and not one.endswith("IfExists") for one in operators if one != "Null")

        effects = {item["Effect"] for item in found if about(item) and not (item["Effect"] == "Deny" and asks_for_a_key(item))}
        return "explicitDeny" if "Deny" in effects else "allowed" if "Allow" in effects else "implicitDeny"

    def simulate_principal_policy(self: Any) -> ActionResult:
        arn = self._get_param("PolicySourceArn")
        role = next((role for role in self.backend.roles.values() if role.arn == arn), None)
        if role is None:
            raise NotFoundException(f"Role {arn} does not exist or is not attachable.")
        found = statements(self.backend, role)
        actions = self._get_param("ActionNames", [])
        resources = self._get_param("ResourceArns", []) or ["*"]
        results = [
            {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decided(found, action, resource)}
            for action in actions
            for resource in resources
        ]
        return ActionResult({"EvaluationResults": results, "IsTruncated": False})

    responses.IamResponse.simulate_principal_policy = simulate_principal_policy


def access_analyzer(account: str, region: str, path: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Access Analyzer, which moto has not: one analyzer in each account, which finds the roles that another account may
    assume (https://docs.aws.amazon.com/access-analyzer/latest/APIReference/API_ListFindingsV2.html)."""
    from moto.iam.models import iam_backends

    arn = f"arn:aws:access-analyzer:{region}:{account}:analyzer/account"
    now = utcnow().isoformat()
    if path == "/analyzer":
        return {"analyzers": [{"arn": arn, "name": "account", "type": "ACCOUNT", "createdAt": now, "status": "ACTIVE"}]}
    wanted = parameters.get("filter", {}).get("resource", {}).get("eq", [])
    roles = [role for role in iam_backends[account]["aws"].roles.values() if not wanted or role.arn in wanted]

    def is_shared(role: Any) -> bool:
        named = re.findall(r"arn:aws:iam::(\d{12}):", role.assume_role_policy_document or "")
        return any(other != account for other in named)

    return {
        "findings": [
            {
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, role.arn)),
                "findingType": "ExternalAccess",
                "resource": role.arn,
                "resourceType": "AWS::IAM::Role",
                "resourceOwnerAccount": account,
                "status": "ACTIVE",
                "createdAt": now,
                "updatedAt": now,
                "analyzedAt": now,
            }
            for role in roles
            if is_shared(role)
        ]
    }


# --------------------------------------------------------------------------------------------------------------------
# CloudTrail
# --------------------------------------------------------------------------------------------------------------------

EVENT_SOURCES = {
    "ec2": "ec2.amazonaws.com",
    "ssm": "ssm.amazonaws.com",
    "autoscaling": "autoscaling.amazonaws.com",
    "elasticloadbalancing": "elasticloadbalancing.amazonaws.com",
    "iam": "iam.amazonaws.com",
    "sts": "sts.amazonaws.com",
}
READ_ONLY = re.compile(r"^(Describe|Get|List|Lookup|Search|Preview)")
RESOURCE = re.compile(r"\b(?:i|vol|snap|sg|sgr|eni|vpc|subnet|ami|oi)-[0-9a-f]{8,17}\b")


class Trail:
    """What this moto served, as CloudTrail's event history would show it: mutating calls, newest first.

    The nesting of EC2 parameters follows the request, not CloudTrail's own xxxSet/items form.
    """

    def __init__(self) -> None:
        self.delay_seconds = 0.0
        self._events: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def record(self, call: dict[str, Any], response: bytes) -> None:
        source = EVENT_SOURCES.get(call["service"])
        if source is None or READ_ONLY.match(call["operation"] or ""):
            return
        now = utcnow()
        event_id = str(uuid.uuid4())
        parameters = _lower(_nested(call["parameters"]))
        elements = None if call["errorCode"] else _lower(_decoded(response))
        user = call.get("session") or call["accessKeyId"] or "anonymous"
        text = json.dumps([call["parameters"], elements], default=str)
        detail = {
            "eventVersion": "1.11",
            "userIdentity": {
                "type": "AssumedRole",
                "accountId": call["account"],
                "accessKeyId": call["accessKeyId"] or "anonymous",
                "arn": f"arn:aws:sts::{call['account']}:assumed-role/local/{user}",
            },
            "eventTime": _iso(now),
            "eventSource": source,
            "eventName": call["operation"],
            "awsRegion": call["region"],
            "sourceIPAddress": "127.0.0.1",
            "userAgent": call["userAgent"],
            "requestParameters": parameters,
            "responseElements": elements,
            "requestID": call["requestId"],
            "eventID": event_id,
            "readOnly": False,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": call["account"],
            "eventCategory": "Management",
        }
        if call["errorCode"]:
            detail["errorCode"] = call["errorCode"]
        with self._lock:
            self._events.append(
                {
                    "EventId": event_id,
                    "EventName": call["operation"],
                    "ReadOnly": "false",
                    "AccessKeyId": call["accessKeyId"] or "anonymous",
                    "EventTime": now,
                    "EventSource": source,
                    "Username": user,
                    "Resources": [
                        {"ResourceType": _resource_type(name), "ResourceName": name}
                        for name in sorted(set(RESOURCE.findall(text)))
                    ],
                    "CloudTrailEvent": json.dumps(detail, default=str),
                    "account": call["account"],
                    "region": call["region"],
                }
            )

    def lookup(self, account: str, region: str) -> list[dict[str, Any]]:
        limit = utcnow() - datetime.timedelta(seconds=self.delay_seconds)
        with self._lock:
            return [
                {name: value for name, value in event.items() if name not in ("account", "region")}
                for event in reversed(self._events)
                if event["account"] == account and event["region"] == region and event["EventTime"] <= limit
            ]


TRAIL = Trail()


def _resource_type(name: str) -> str:
    return {
        "i": "AWS::EC2::Instance",
        "vol": "AWS::EC2::Volume",
        "snap": "AWS::EC2::Snapshot",
        "sg": "AWS::EC2::SecurityGroup",
        "eni": "AWS::EC2::NetworkInterface",
    }.get(name.split("-")[0], "AWS::Other")


def _nested(parameters: dict[str, Any]) -> Any:
    """A query's `A.1.B=c` as nested values; JSON parameters pass through."""
    if not any("." in name for name in parameters):
        return {name: value for name, value in parameters.items() if name not in ("Action", "Version")}
    result: dict[str, Any] = {}
    for name, value in parameters.items():
        if name in ("Action", "Version"):
            continue
        place = result
        parts = name.split(".")
        for part in parts[:-1]:
            following = place.setdefault(part, {})
            place = following if isinstance(following, dict) else place
        place[parts[-1]] = value

    def lists(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = {name: lists(item) for name, item in value.items()}
        if set(value) == {"member"}:
            return value["member"]
        if value and all(name.isdigit() for name in value):
            return [value[name] for name in sorted(value, key=int)]
        return value

    return lists(result)


def _decoded(body: bytes) -> Any:
    try:
        text = body.decode()
        if text.lstrip().startswith("<"):
            parsed = next(iter(xmltodict.parse(text).values()))
            return {name: value for name, value in (parsed or {}).items() if not name.startswith("@")}
        return json.loads(text) if text else None
    except Exception:
        return None


def _lower(value: Any) -> Any:
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: _lower(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_lower(item) for item in value]
    return value


@corrects("cloudtrail LookupEvents", "not implemented", CLOUDTRAIL.format("LookupEvents"))
def _lookup_events() -> None:
    def lookup_events(self: Any) -> str:
        attributes = self._get_param("LookupAttributes") or []
        if len(attributes) > 1:
            return _trail_error("InvalidLookupAttributesException", "You can specify only one lookup attribute.")
        events = TRAIL.lookup(self.current_account, self.region)
        for attribute in attributes:
            key, value = attribute["AttributeKey"], attribute["AttributeValue"]
            if key in ("ResourceName", "ResourceType"):
                events = [event for event in events if any(item[key] == value for item in event["Resources"])]
            elif key in ("EventId", "EventName", "ReadOnly", "Username", "EventSource", "AccessKeyId"):
                events = [event for event in events if event[key] == value]
            else:
                return _trail_error("InvalidLookupAttributesException", f"Unknown attribute {key}.")
        start, end = self._get_param("StartTime"), self._get_param("EndTime")
        if start is not None:
            events = [event for event in events if event["EventTime"].timestamp() >= float(start)]
        if end is not None:
            events = [event for event in events if event["EventTime"].timestamp() <= float(end)]
        size = int(self._get_param("MaxResults") or 50)
        if not 1 <= size <= 50:
            return _trail_error("InvalidMaxResultsException", "MaxResults must be between 1 and 50.")
        first = int(self._get_param("NextToken") or 0)
        page = [{**event, "EventTime": event["EventTime"].timestamp()} for event in events[first : first + size]]
        answer: dict[str, Any] = {"Events": page}
        if first + size < len(events):
            answer["NextToken"] = str(first + size)
        return json.dumps(answer)

    def _trail_error(code: str, message: str) -> Any:
        return 400, {"status": 400}, json.dumps({"__type": code, "message": message})

    cloudtrail_responses.CloudTrailResponse.lookup_events = lookup_events
