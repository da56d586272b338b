"""Which permissions a recorded call needs: the IAM actions, each with the resources and the condition keys that IAM looks at.

By the Service Authorization Reference (https://docs.aws.amazon.com/service-authorization/latest/reference/). For most services
an action is called as the operation is; what differs is written out here. A call that nothing here knows is an error, so that
no new call passes for granted.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, NamedTuple

Context = dict[str, Any]


class Need(NamedTuple):
    """A permission: an action on one resource, in a context."""

    action: str
    resource: str
    context: Context


class UnknownCall(Exception):
    """A call of which nobody has written down what it needs."""


# What is made gets its id later; IAM looks at its kind, and at the tags of the request.
NEW = {"snapshot": "snap-new", "security-group": "sg-new", "vpc-flow-log": "fl-new", "volume": "vol-any"}
KINDS = {
    "i": "instance",
    "vol": "volume",
    "eni": "network-interface",
    "sg": "security-group",
    "snap": "snapshot",
    "fl": "vpc-flow-log",
    "acl": "network-acl",
    "vpc": "vpc",
}
# Operations of EC2 on what one parameter names; `.` for numbered ones.
EC2 = {
    "AuthorizeSecurityGroupEgress": ["GroupId"],
    "AuthorizeSecurityGroupIngress": ["GroupId"],
    "RevokeSecurityGroupEgress": ["GroupId"],
    "RevokeSecurityGroupIngress": ["GroupId"],
    "CreateNetworkAclEntry": ["NetworkAclId"],
    "DeleteNetworkAclEntry": ["NetworkAclId"],
    "CreateTags": ["ResourceId."],
    "DeleteFlowLogs": ["FlowLogId."],
    "DescribeInstanceAttribute": ["InstanceId"],
    "DescribeSnapshotAttribute": ["SnapshotId"],
    "GetConsoleOutput": ["InstanceId"],
    "GetConsoleScreenshot": ["InstanceId"],
    "LockSnapshot": ["SnapshotId"],
    "ModifyInstanceAttribute": ["InstanceId", "GroupId."],
    "ModifyNetworkInterfaceAttribute": ["NetworkInterfaceId", "SecurityGroupId."],
    "ModifySnapshotAttribute": ["SnapshotId"],
    "CreateSecurityGroup": ["VpcId"],
    "CreateSnapshot": ["VolumeId"],
    "CreateSnapshots": ["InstanceSpecification.InstanceId"],
    "CreateFlowLogs": ["ResourceId."],
    "CopySnapshot": [],
    "ReplaceIamInstanceProfileAssociation": [],
}
# What these make beside, which they need the right to make and to tag.
MAKES = {
    "CreateSecurityGroup": "security-group",
    "CreateSnapshot": "snapshot",
    "CreateSnapshots": "snapshot",
    "CopySnapshot": "snapshot",
    "CreateFlowLogs": "vpc-flow-log",
}
BUCKET_READS = {
    "object-lock": "s3:GetBucketObjectLockConfiguration",
    "policy": "s3:GetBucketPolicy",
    "publicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "versioning": "s3:GetBucketVersioning",
    "encryption": "s3:GetEncryptionConfiguration",
    "replication": "s3:GetReplicationConfiguration",
    "uploads": "s3:ListBucketMultipartUploads",
}
# Reads for which IAM knows no resource.
EVERYTHING = {
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "cloudtrail:LookupEvents",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
    "ssm:CreateOpsItem",
    "ssm:DescribeInstanceInformation",
    "ssm:GetCommandInvocation",
    "ssm:ListCommandInvocations",
    "ssm:ListCommands",
}
# Each sets what the key of the condition is named after.
SCALING_KEYS = {
    "MaxSize": "autoscaling:MaxSize",
    "MinSize": "autoscaling:MinSize",
    "VPCZoneIdentifier": "autoscaling:VPCZoneIdentifiers",
    "LaunchConfigurationName": "autoscaling:LaunchConfigurationName",
}


def needs(call: dict[str, Any], stack: dict[str, Any]) -> list[Need]:
    """The permissions of a call; none where AWS asks for none. `stack` is what the local AWS had deployed.

    Raises UnknownCall.
    """
    makers = {
        "access-analyzer": access_analyzer,
        "autoscaling": autoscaling,
        "ec2": ec2,
        "elasticloadbalancing": load_balancing,
        "events": events,
        "iam": iam,
        "kms": kms,
        "s3": s3,
        "sns": sns,
        "ssm": ssm,
        "states": states,
        "sts": sts,
    }
    if f"{call['service']}:{call['operation']}" in EVERYTHING:
        return [anything(call)]
    maker = makers.get(call["service"])
    found = list(maker(call, stack)) if maker else None
    if found is None or (not found and not free(call)):
        raise UnknownCall(f"{call['function']} called {call['service']} {call['operation']}")
    return found


def free(call: dict[str, Any]) -> bool:
    """Whether AWS answers a call without looking at permissions: who one is, it tells everybody, and a role that is named by no
    ARN it refuses before."""
    if call["service"] != "sts":
        return False
    return call["operation"] == "GetCallerIdentity" or not call["parameters"].get("RoleArn", "arn:").startswith("arn:")


def anything(call: dict[str, Any]) -> Need:
    """An action for which IAM knows no resource: only a statement about everything grants it."""
    service = call["service"]
    return Need(f"{service}:{call['operation']}", f"arn:aws:{service}:{call['region']}:{call['account']}:*", {})


def ec2_arn(call: dict[str, Any], kind: str, name: str, region: str | None = None) -> str:
    # Snapshots are of no account in their ARNs.
    account = "" if kind == "snapshot" else call["account"]
    return f"arn:aws:ec2:{region or call['region']}:{account}:{kind}/{name}"


def numbered(parameters: dict[str, Any], name: str) -> list[str]:
    """The values of a parameter, or of a numbered one, whose name ends with a point."""
    if not name.endswith("."):
        return [parameters[name]] if name in parameters else []
    return [value for key, value in parameters.items() if re.fullmatch(re.escape(name) + r"\d+", key)]


def request_tags(parameters: dict[str, Any], prefix: str) -> Context:
    """The tags that a request sets, as condition keys."""
    keys = {key: value for key, value in parameters.items() if re.fullmatch(prefix + r"Tag\.\d+\.Key", key)}
    tags = {value: parameters.get(key.removesuffix("Key") + "Value", "") for key, value in keys.items()}
    return {**{f"aws:RequestTag/{key}": value for key, value in tags.items()}, "aws:TagKeys": sorted(tags)} if tags else {}


def resource_tags(call: dict[str, Any], name: str) -> Context:
    return {f"aws:ResourceTag/{key}": value for key, value in call.get("tags", {}).get(name, {}).items()}


def ec2(call: dict[str, Any], _stack: dict[str, Any]) -> Iterator[Need]:
    operation, parameters = call["operation"], call["parameters"]
    action = f"ec2:{operation}"
    if operation not in EC2:
        if operation.startswith("Describe"):
            yield anything(call)
        return
    context: Context = {}
    if operation == "CreateTags":
        context = request_tags(parameters, "")
    if operation == "ModifyInstanceAttribute":
        # As AWS documents it of images: the name of what is changed.
        context = {"ec2:Attribute": sorted({key.split(".")[0] for key in parameters if "." in key})}
    if operation == "LockSnapshot":
        context = {"ec2:SnapshotLockDuration": str(parameters["LockDuration"])}
    if operation == "ModifySnapshotAttribute":
        for way in ("Add", "Remove"):
            for key, name in (("UserId", "userId"), ("Group", "group")):
                values = [v for k, v in parameters.items() if re.fullmatch(rf"CreateVolumePermission\.{way}\.\d+\.{key}", k)]
                context |= {f"ec2:{way}/{name}": values[0] if len(values) == 1 else values} if values else {}
    for parameter in EC2[operation]:
        for name in numbered(parameters, parameter):
            kind = KINDS[name.split("-")[0]]
            yield Need(action, ec2_arn(call, kind, name), context | resource_tags(call, name))
    if operation == "ModifyInstanceAttribute" and any(key.startswith("BlockDeviceMapping.") for key in parameters):
        yield Need(action, ec2_arn(call, "volume", NEW["volume"]), {})
    if operation == "CreateSnapshots":
        yield Need(action, ec2_arn(call, "volume", NEW["volume"]), {})
    if operation == "CopySnapshot":
        source = parameters["SourceSnapshotId"]
        yield Need(action, ec2_arn(call, "snapshot", source, parameters["SourceRegion"]), {})
    if operation == "ReplaceIamInstanceProfileAssociation":
        yield Need(action, ec2_arn(call, "instance", call["instance"]), resource_tags(call, call["instance"]))
        for role in call["roles"]:
            yield Need("iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"})
    if operation == "CreateFlowLogs" and "DeliverLogsPermissionArn" in parameters:
        to = {"iam:PassedToService": "vpc-flow-logs.amazonaws.com"}
        yield Need("iam:PassRole", parameters["DeliverLogsPermissionArn"], to)
    if operation in MAKES:
        made = ec2_arn(call, MAKES[operation], NEW[MAKES[operation]])
        tags = request_tags(parameters, r"TagSpecification\.\d+\.")
        yield Need(action, made, tags)
        if tags:
            yield Need("ec2:CreateTags", made, tags | {"ec2:CreateAction": operation})


def autoscaling(call: dict[str, Any], _stack: dict[str, Any]) -> Iterator[Need]:
    operation, parameters = call["operation"], call["parameters"]
    if operation not in ("AttachInstances", "DetachInstances", "EnterStandby", "SetInstanceProtection", "UpdateAutoScalingGroup"):
        return
    name = parameters["AutoScalingGroupName"]
    group = f"autoScalingGroup:0a1b2c3d-0000-4000-8000-000000000000:autoScalingGroupName/{name}"
    context = {key: str(parameters[given]) for given, key in SCALING_KEYS.items() if given in parameters}
    if any(given.startswith(("LaunchTemplate", "MixedInstancesPolicy")) for given in parameters):
        context["autoscaling:LaunchTemplateVersionSpecified"] = "true"
    yield Need(f"autoscaling:{operation}", f"arn:aws:autoscaling:{call['region']}:{call['account']}:{group}", context)


def load_balancing(call: dict[str, Any], _stack: dict[str, Any]) -> Iterator[Need]:
    operation, parameters = call["operation"], call["parameters"]
    action = f"elasticloadbalancing:{operation}"
    if operation in ("RegisterTargets", "DeregisterTargets"):
        yield Need(action, parameters["TargetGroupArn"], {})
    if operation in ("RegisterInstancesWithLoadBalancer", "DeregisterInstancesFromLoadBalancer"):
        name = parameters["LoadBalancerName"]
        yield Need(action, f"arn:aws:elasticloadbalancing:{call['region']}:{call['account']}:loadbalancer/{name}", {})


def iam(call: dict[str, Any], _stack: dict[str, Any]) -> Iterator[Need]:
    operation, parameters = call["operation"], call["parameters"]
    if operation == "GetInstanceProfile":
        named = f"instance-profile/{parameters['InstanceProfileName']}"
    elif operation == "SimulatePrincipalPolicy":
        yield Need(f"iam:{operation}", parameters["PolicySourceArn"], {})
        return
    elif operation in ("GetRolePolicy", "PutRolePolicy", "DeleteRolePolicy", "ListInstanceProfilesForRole"):
        named = f"role/{parameters['RoleName']}"
    else:
        return
    yield Need(f"iam:{operation}", f"arn:aws:iam::{call['account']}:{named}", {})


def kms(call: dict[str, Any], stack: dict[str, Any]) -> Iterator[Need]:
    operation, named = call["operation"], call["parameters"]["KeyId"]
    if operation not in ("DescribeKey", "GetPublicKey", "Sign"):
        return
    key = call.get("key") or {}
    if not key and named == stack["outputs"]["SigningKeyArn"]:
        # MiniStack's, which moto does not know.
        key = {"arn": named, "aliases": ["alias/stasis-signing"]}
    alias = named.rpartition(":")[2] if ":alias/" in named else named
    context: Context = {"kms:RequestAlias": alias} if alias.startswith("alias/") else {}
    if key.get("aliases"):
        context["kms:ResourceAliases"] = key["aliases"]
    # AWS' own keys are made when they are first used; each is a key of the account.
    unknown = f"arn:aws:kms:{call['region']}:{call['account']}:key/{'of-aws' if 'alias/aws/' in named else 'unknown'}"
    yield Need(f"kms:{operation}", key.get("arn", named if ":key/" in named else unknown), context)


def s3(call: dict[str, Any], _stack: dict[str, Any]) -> Iterator[Need]:
    method, parameters = call["operation"], call["parameters"]
    bucket, _, key = call["path"].lstrip("/").partition("/")
    asked = {name.lower() for name in parameters}
    if not bucket:
        yield Need("s3:ListAllMyBuckets", f"arn:aws:s3:{call['region']}:{call['account']}:*", {})
        return
    where = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
    if not key:
        if method != "GET":
            return
        for name, action in BUCKET_READS.items():
            if name.lower() in asked:
                yield Need(action, where, {})
                return
        prefix = {"s3:prefix": parameters["prefix"]} if "prefix" in parameters else {}
        yield Need("s3:ListBucketVersions" if "versions" in asked else "s3:ListBucket", where, prefix)
    elif "retention" in asked:
        yield Need("s3:PutObjectRetention" if method == "PUT" else "s3:GetObjectRetention", where, {})
    elif method in ("GET", "HEAD"):
        if "uploadid" in asked:
            yield Need("s3:ListMultipartUploadParts", where, {})
        else:
            yield Need("s3:GetObjectVersion" if "versionid" in asked else "s3:GetObject", where, {})
    elif method in ("PUT", "POST"):
        # Each step of an upload in parts is a PutObject to IAM.
        yield Need("s3:PutObject", where, {})
        if any(name.startswith("x-amz-object-lock-") for name in asked):
            yield Need("s3:PutObjectRetention", where, {})
    elif method == "DELETE" and "uploadid" not in asked:
        yield Need("s3:DeleteObjectVersion" if "versionid" in asked else "s3:DeleteObject", where, {})


def ssm(call: dict[str, Any], _stack: dict[str, Any]) -> Iterator[Need]:
    operation, parameters = call["operation"], call["parameters"]
    action, place = f"ssm:{operation}", f"{call['region']}:{call['account']}"
    if operation == "GetParameter":
        name = parameters["Name"]
        yield Need(action, f"arn:aws:ssm:{place}:parameter{name if name.startswith('/') else '/' + name}", {})
    if operation == "DescribeDocument":
        yield Need(action, f"arn:aws:ssm:{place}:document/{parameters['Name']}", {})
    if operation == "UpdateOpsItem":
        yield Need(action, f"arn:aws:ssm:{place}:opsitem/{parameters['OpsItemId']}", {})
    if operation == "SendCommand":
        document = parameters["DocumentName"]
        of_aws = "" if document.startswith("AWS-") else call["account"]
        yield Need(action, f"arn:aws:ssm:{call['region']}:{of_aws}:document/{document}", {})
        for instance in parameters["InstanceIds"]:
            yield Need(action, f"arn:aws:ec2:{place}:instance/{instance}", {})
        if "OutputS3BucketName" in parameters:
            yield Need(action, f"arn:aws:s3:::{parameters['OutputS3BucketName']}", {})


def sns(call: dict[str, Any], _stack: dict[str, Any]) -> Iterator[Need]:
    if call["operation"] == "Publish":
        yield Need("sns:Publish", call["parameters"]["TopicArn"], {})


def events(call: dict[str, Any], _stack: dict[str, Any]) -> Iterator[Need]:
    if call["operation"] != "PutEvents":
        return
    for entry in call["parameters"]["Entries"]:
        bus = entry.get("EventBusName", "default").rpartition("/")[2]
        where = f"arn:aws:events:{call['region']}:{call['account']}:event-bus/{bus}"
        yield Need("events:PutEvents", where, {"events:source": entry["Source"], "events:detail-type": entry["DetailType"]})


def states(call: dict[str, Any], _stack: dict[str, Any]) -> Iterator[Need]:
    if call["operation"] == "DescribeExecution":
        yield Need("states:DescribeExecution", call["parameters"]["executionArn"], {})


def sts(call: dict[str, Any], _stack: dict[str, Any]) -> Iterator[Need]:
    parameters = call["parameters"]
    if call["operation"] == "AssumeRole" and not free(call):
        context = {"sts:RoleSessionName": parameters["RoleSessionName"]}
        context |= {"sts:ExternalId": parameters["ExternalId"]} if "ExternalId" in parameters else {}
        yield Need("sts:AssumeRole", parameters["RoleArn"], context)


def access_analyzer(call: dict[str, Any], _stack: dict[str, Any]) -> Iterator[Need]:
    if call["path"].rstrip("/") == "/analyzer":
        yield anything(call | {"operation": "ListAnalyzers"})
    if call["path"].rstrip("/") in ("/finding", "/findingv2"):
        yield Need("access-analyzer:ListFindings", call["parameters"]["analyzerArn"], {})
