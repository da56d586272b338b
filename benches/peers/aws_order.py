"""The order of work that AWS publishes for a compromised EC2 instance, written down with boto3 as its samples do.

AWS' incident response guidance and its GuardDuty sample do one thing after another: record the metadata, protect from
termination and stop, keep the volumes, tag, snapshot, run commands by Systems Manager, leave the Auto Scaling group and
the load balancers, and isolate by security group at the end. Written for this comparison from that order; it is nobody's
code. Like the samples it keeps no baseline and reads nothing back.

    python aws_order.py INSTANCE_ID
"""

from __future__ import annotations

import sys

import boto3


def main(suspect: str) -> None:
    ec2, scaling = boto3.client("ec2"), boto3.client("autoscaling")
    balancing, classic, ssm = boto3.client("elbv2"), boto3.client("elb"), boto3.client("ssm")
    instance = ec2.describe_instances(InstanceIds=[suspect])["Reservations"][0]["Instances"][0]
    ec2.modify_instance_attribute(InstanceId=suspect, DisableApiTermination={"Value": True})
    ec2.modify_instance_attribute(InstanceId=suspect, DisableApiStop={"Value": True})
    ec2.modify_instance_attribute(InstanceId=suspect, InstanceInitiatedShutdownBehavior={"Value": "stop"})
    for mapping in instance["BlockDeviceMappings"]:
        ec2.modify_instance_attribute(
            InstanceId=suspect,
            BlockDeviceMappings=[{"DeviceName": mapping["DeviceName"], "Ebs": {"DeleteOnTermination": False}}],
        )
    ec2.create_tags(Resources=[suspect], Tags=[{"Key": "SecurityIncidentStatus", "Value": "quarantined"}])
    for mapping in instance["BlockDeviceMappings"]:
        ec2.create_snapshot(VolumeId=mapping["Ebs"]["VolumeId"], Description=f"forensics of {suspect}")
    if ssm.describe_instance_information(Filters=[{"Key": "InstanceIds", "Values": [suspect]}])["InstanceInformationList"]:
        ssm.send_command(
            InstanceIds=[suspect], DocumentName="Stasis-CaptureVolatile", Comment="volatile data of the comparison"
        )
    for membership in scaling.describe_auto_scaling_instances(InstanceIds=[suspect])["AutoScalingInstances"]:
        scaling.detach_instances(
            InstanceIds=[suspect],
            AutoScalingGroupName=membership["AutoScalingGroupName"],
            ShouldDecrementDesiredCapacity=True,
        )
    for balancer in classic.describe_load_balancers()["LoadBalancerDescriptions"]:
        if any(member["InstanceId"] == suspect for member in balancer["Instances"]):
            classic.deregister_instances_from_load_balancer(
                LoadBalancerName=balancer["LoadBalancerName"], Instances=[{"InstanceId": suspect}]
            )
    for group in balancing.describe_target_groups()["TargetGroups"]:
        for health in balancing.describe_target_health(TargetGroupArn=group["TargetGroupArn"])["TargetHealthDescriptions"]:
            if health["Target"]["Id"] == suspect:
                balancing.deregister_targets(TargetGroupArn=group["TargetGroupArn"], Targets=[health["Target"]])
    for interface in instance["NetworkInterfaces"]:
        group = ec2.create_security_group(
            VpcId=interface["VpcId"],
            GroupName=f"isolation-{interface['NetworkInterfaceId']}",
            Description="isolation",
        )["GroupId"]
        for rule in ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissionsEgress"]:
            ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[rule])
        ec2.modify_network_interface_attribute(NetworkInterfaceId=interface["NetworkInterfaceId"], Groups=[group])


if __name__ == "__main__":
    main(sys.argv[1])
