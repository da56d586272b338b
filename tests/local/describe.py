"""Everything that the AWS APIs say of a planted instance and of what is around it, so that before and after compare.

It only reads, and leaves out nothing but the answers' own metadata; lists without an order of their own are sorted.
"""

from __future__ import annotations

import json
from typing import Any, Callable

ATTRIBUTES = ("disableApiTermination", "disableApiStop", "instanceInitiatedShutdownBehavior", "sourceDestCheck")


def describe(client: Callable[[str], Any], planted: dict[str, Any]) -> dict[str, Any]:
    """`client` gives a boto3 client by service name; `planted` is the answer of plant()."""
    ec2, scaling, balancing, classic = client("ec2"), client("autoscaling"), client("elbv2"), client("elb")
    suspect = planted["instanceId"]

    def by(name: str, *values: str) -> list[dict[str, Any]]:
        return [{"Name": name, "Values": list(values)}]

    seen: dict[str, Any] = {
        "instance": ec2.describe_instances(InstanceIds=[suspect]),
        "attributes": {
            name: ec2.describe_instance_attribute(InstanceId=suspect, Attribute=name) for name in ATTRIBUTES
        },
        "interfaces": ec2.describe_network_interfaces(Filters=by("attachment.instance-id", suspect)),
        "volumes": ec2.describe_volumes(Filters=by("attachment.instance-id", suspect)),
        "profiles": ec2.describe_iam_instance_profile_associations(Filters=by("instance-id", suspect)),
        "acls": ec2.describe_network_acls(Filters=by("vpc-id", planted["vpcId"])),
        "production group": ec2.describe_security_groups(GroupIds=[planted["productionGroupId"]]),
        "memberships": scaling.describe_auto_scaling_instances(InstanceIds=[suspect]),
        "role policies": client("iam").list_role_policies(RoleName=planted["instanceProfile"]),
    }
    if planted["autoScalingGroup"]:
        seen["scaling group"] = scaling.describe_auto_scaling_groups(
            AutoScalingGroupNames=[planted["autoScalingGroup"]]
        )
    for group in planted["targetGroups"]:
        seen[f"targets {group['name']}"] = balancing.describe_target_health(TargetGroupArn=group["arn"])
    if planted["classicLoadBalancer"]:
        seen["classic"] = classic.describe_load_balancers(LoadBalancerNames=[planted["classicLoadBalancer"]])
    return ordered(seen)


def ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: ordered(item) for key, item in value.items() if key != "ResponseMetadata"}
    if isinstance(value, list):
        return sorted((ordered(item) for item in value), key=lambda item: json.dumps(item, default=str, sort_keys=True))
    return value
