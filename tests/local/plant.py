"""Plants a production web server in the local AWS, as an incident would find it.

It writes to the moto side only: what the suspect's account would hold before Stasis hears of anything.
"""

from __future__ import annotations

import json
from typing import Any, Callable

from .stack import ACCOUNT, DESTINATION_ACCOUNT

INSTANCE_ID = "i-0a1b2c3d4e5f67890"
ENDPOINTS = ("ssm", "ssmmessages", "ec2messages")


def tags(kind: str, **values: str) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in values.items()]}


def plant(
    client: Callable[[str], Any],
    region: str,
    instance_id: str | None = None,
    name: str = "web-7",
    agent: str | None = None,
    platform: str | None = None,
    extra_tags: dict[str, str] | None = None,
    encrypted: bool = True,
    data_volumes: int = 1,
    extra_interfaces: int = 0,
    endpoints: bool = True,
    scaling_group: bool = True,
    min_size: int = 1,
    target_groups: int = 2,
    classic: bool = False,
    spot: bool = False,
    ip_ports: list[int] | None = None,
    spread: bool = False,
    other_vpc: bool = False,
    endpoint_range: str = "10.40.0.0/16",
    own_profile: bool = False,
    owner: str | None = None,
    instance_type: str = "m6i.large",
    memory: str | None = None,
    disks: list[str] | None = None,
) -> dict[str, Any]:
    """`client` gives a boto3 client by service name; the answer holds every id that was made. `disks` says of each volume,
    the root first, what encrypts it: none, aws/ebs, customer (a key that the account of the copies may use too), closed (one
    that it may not use), or disabled (a key that nobody may use any longer); or broken, for a volume in state error.
    """
    ec2, balancing = client("ec2"), client("elbv2")
    vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16", TagSpecifications=[tags("vpc", Name="production")])["Vpc"]
    vpc_id = vpc["VpcId"]
    # Target groups and scaling groups have names of their own in the whole region.
    label = vpc_id[-8:]
    ec2.modify_vpc_attribute(VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    subnets = [
        ec2.create_subnet(
            VpcId=vpc_id,
            CidrBlock=f"10.40.{number}.0/24",
            AvailabilityZone=f"{region}{zone}",
            TagSpecifications=[tags("subnet", Name=f"web-{zone}")],
        )["Subnet"]["SubnetId"]
        # The third is in the instance's zone: an interface cannot be attached across zones.
        for number, zone in ((1, "a"), (2, "b"), (3, "a"))
    ]
    production = ec2.create_security_group(
        VpcId=vpc_id, GroupName="web-production", Description="Web servers, open to the world on 443"
    )["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=production,
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 443,
                "ToPort": 443,
                "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "the world"}],
            }
        ],
    )
    planted: dict[str, Any] = {
        "vpcId": vpc_id,
        "subnetIds": subnets,
        "productionGroupId": production,
        "endpointGroupId": None,
        "endpointIds": [],
    }

    if endpoints:
        guard = ec2.create_security_group(
            VpcId=vpc_id, GroupName="systems-manager-endpoints", Description="Interface endpoints of Systems Manager"
        )["GroupId"]
        ec2.authorize_security_group_ingress(
            GroupId=guard,
            IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": endpoint_range}]}
            ],
        )
        planted["endpointGroupId"] = guard
        for service in ENDPOINTS:
            endpoint = ec2.create_vpc_endpoint(
                VpcId=vpc_id,
                VpcEndpointType="Interface",
                ServiceName=f"com.amazonaws.{region}.{service}",
                SubnetIds=subnets[:2],
                SecurityGroupIds=[guard],
                PrivateDnsEnabled=True,
            )["VpcEndpoint"]
            planted["endpointIds"].append(endpoint["VpcEndpointId"])
        tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["RouteTables"]
        gateway = ec2.create_vpc_endpoint(
            VpcId=vpc_id,
            VpcEndpointType="Gateway",
            ServiceName=f"com.amazonaws.{region}.s3",
            RouteTableIds=[table["RouteTableId"] for table in tables],
        )["VpcEndpoint"]
        planted["endpointIds"].append(gateway["VpcEndpointId"])

    planted["instanceProfile"] = _profile(client("iam"), f"web-server-{label}" if own_profile else "web-server")
    wanted_image = "Windows_Server-*" if platform == "windows" else "al2023-ami-*"
    image = ec2.describe_images(Filters=[{"Name": "name", "Values": [wanted_image]}])["Images"][0]
    root = image["RootDeviceName"]
    wanted = {
        "Name": name,
        "Environment": "production",
        "Service": "storefront",
        **({"Owner": owner} if owner else {}),
        **(extra_tags or {}),
        **({"local:instance-id": instance_id} if instance_id else {}),
        **({"local:agent": agent} if agent else {}),
        **({"local:platform": platform} if platform else {}),
        **({"local:memory": memory} if memory else {}),
    }
    disks = disks or ["aws/ebs" if encrypted else "none"] * (1 + data_volumes)
    names = [root, *(f"/dev/sd{letter}" for letter in "fghijkl")]
    devices = [(name, 100 if number else 20, _encryption(client("kms"), disk)) for number, (name, disk) in enumerate(zip(names, disks))]
    instance = ec2.run_instances(
        ImageId=image["ImageId"],
        InstanceType=instance_type,
        MinCount=1,
        MaxCount=1,
        SubnetId=subnets[0],
        SecurityGroupIds=[production],
        IamInstanceProfile={"Name": planted["instanceProfile"]},
        # Here malware could end the instance, and with it the volumes, by a shutdown from within.
        InstanceInitiatedShutdownBehavior="terminate",
        BlockDeviceMappings=[
            {
                "DeviceName": device,
                "Ebs": {
                    "VolumeSize": size,
                    "VolumeType": "gp3",
                    **encryption,
                    # What the console does: the root goes with the instance, and here the data too, by negligence.
                    "DeleteOnTermination": True,
                },
            }
            for device, size, encryption in devices
        ],
        TagSpecifications=[tags("instance", **wanted), tags("volume", Name=name, Service="storefront")],
        **({"InstanceMarketOptions": {"MarketType": "spot"}} if spot else {}),
    )["Instances"][0]
    suspect = instance["InstanceId"]
    planted["instanceId"] = suspect
    for number in range(extra_interfaces):
        subnet = subnets[2] if spread and number else subnets[0]
        interface = ec2.create_network_interface(SubnetId=subnet, Groups=[production])["NetworkInterface"]
        ec2.attach_network_interface(
            NetworkInterfaceId=interface["NetworkInterfaceId"], InstanceId=suspect, DeviceIndex=number + 1
        )
    if other_vpc:
        _multi_vpc_interface(ec2, planted, region, extra_interfaces + 1)
    described = ec2.describe_instances(InstanceIds=[suspect])["Reservations"][0]["Instances"][0]
    planted["networkInterfaceIds"] = [item["NetworkInterfaceId"] for item in described["NetworkInterfaces"]]
    by_device = {item["DeviceName"]: item["Ebs"]["VolumeId"] for item in described["BlockDeviceMappings"]}
    planted["volumeIds"] = list(by_device.values())
    broken = [by_device[name] for name, disk in zip(names, disks) if disk == "broken"]
    if broken:
        ec2.create_tags(Resources=broken, Tags=[{"Key": "local:state", "Value": "error"}])
    planted["privateIpAddress"] = described["PrivateIpAddress"]

    planted["targetGroups"] = []
    if target_groups:
        balancer = balancing.create_load_balancer(
            Name=f"web-{label}", Subnets=subnets[:2], SecurityGroups=[production], Type="application"
        )["LoadBalancers"][0]["LoadBalancerArn"]
        for purpose, port in (("web", 443), ("metrics", 9100))[:target_groups]:
            by_address = purpose == "metrics" and ip_ports is not None
            arn = balancing.create_target_group(
                Name=f"{purpose}-{label}",
                Protocol="HTTPS" if port == 443 else "HTTP",
                Port=port,
                VpcId=vpc_id,
                TargetType="ip" if by_address else "instance",
            )["TargetGroups"][0]["TargetGroupArn"]
            balancing.create_listener(
                LoadBalancerArn=balancer,
                Protocol="HTTP",
                Port=port,
                DefaultActions=[{"Type": "forward", "TargetGroupArn": arn}],
            )
            targets = [{"Id": suspect, "Port": port}]
            if by_address:
                targets = [{"Id": planted["privateIpAddress"], "Port": number} for number in ip_ports or []]
            balancing.register_targets(TargetGroupArn=arn, Targets=targets)
            planted["targetGroups"].append({"arn": arn, "port": port, "name": purpose})

    planted["classicLoadBalancer"] = None
    if classic:
        planted["classicLoadBalancer"] = f"old-{label}"
        _classic(client("elb"), planted)
    planted["autoScalingGroup"] = None
    if scaling_group:
        planted["autoScalingGroup"] = f"web-{label}"
        _scaling_group(client, planted, image["ImageId"], min_size)
    return planted


def _encryption(kms: Any, disk: str) -> dict[str, Any]:
    if disk in ("none", "aws/ebs", "broken"):
        return {"Encrypted": disk != "none"}
    accounts = [ACCOUNT, DESTINATION_ACCOUNT][: 2 if disk == "customer" else 1]
    principals = [f"arn:aws:iam::{account}:root" for account in accounts]
    statement = {"Effect": "Allow", "Principal": {"AWS": principals}, "Action": "kms:*", "Resource": "*"}
    key = kms.create_key(Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))["KeyMetadata"]
    if disk == "disabled":
        kms.disable_key(KeyId=key["KeyId"])
    return {"Encrypted": True, "KmsKeyId": key["Arn"]}


def _scaling_group(client: Callable[[str], Any], planted: dict[str, Any], image_id: str, min_size: int) -> None:
    name = planted["autoScalingGroup"]
    client("ec2").create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={
            "ImageId": image_id,
            "InstanceType": "m6i.large",
            "SecurityGroupIds": [planted["productionGroupId"]],
            "TagSpecifications": [tags("instance", Name="web-8", Environment="production")],
        },
    )
    scaling = client("autoscaling")
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchTemplate={"LaunchTemplateName": name, "Version": "$Latest"},
        MinSize=min_size,
        MaxSize=4,
        DesiredCapacity=1,
        VPCZoneIdentifier=",".join(planted["subnetIds"][:2]),
        HealthCheckType="ELB",
        HealthCheckGracePeriod=60,
        TargetGroupARNs=[group["arn"] for group in planted["targetGroups"][:1]],
    )
    # Attaching raises the desired capacity to 2.
    scaling.attach_instances(AutoScalingGroupName=name, InstanceIds=[planted["instanceId"]])


def _classic(balancing: Any, planted: dict[str, Any]) -> None:
    balancing.create_load_balancer(
        LoadBalancerName=planted["classicLoadBalancer"],
        Listeners=[{"Protocol": "TCP", "LoadBalancerPort": 25, "InstanceProtocol": "TCP", "InstancePort": 25}],
        Subnets=planted["subnetIds"][:2],
        SecurityGroups=[planted["productionGroupId"]],
    )
    balancing.register_instances_with_load_balancer(
        LoadBalancerName=planted["classicLoadBalancer"], Instances=[{"InstanceId": planted["instanceId"]}]
    )


def _multi_vpc_interface(ec2: Any, planted: dict[str, Any], region: str, index: int) -> None:
    """An interface of another VPC in the same zone, as multi-VPC interfaces are."""
    vpc = ec2.create_vpc(CidrBlock="10.50.0.0/16", TagSpecifications=[tags("vpc", Name="storage")])["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.50.1.0/24", AvailabilityZone=f"{region}a")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(VpcId=vpc, GroupName="storage", Description="Storage")["GroupId"]
    interface = ec2.create_network_interface(SubnetId=subnet, Groups=[group])["NetworkInterface"]
    ec2.attach_network_interface(
        NetworkInterfaceId=interface["NetworkInterfaceId"], InstanceId=planted["instanceId"], DeviceIndex=index
    )
    planted["otherVpcId"] = vpc


def _profile(iam: Any, name: str) -> str:
    try:
        iam.create_role(
            RoleName=name,
            AssumeRolePolicyDocument='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":'
            '{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}',
        )
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    except iam.exceptions.EntityAlreadyExistsException:
        pass
    return name
