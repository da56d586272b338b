"""What no role of Stasis may do: for each role, requests that IAM has to refuse. They need no recording."""

from __future__ import annotations

from typing import Any

from calls import Need
from policies import Place

OTHER = "999988887777"
CASE = {"aws:ResourceTag/stasis:case": "case-20260101-0a1b2c3d"}
TO_EC2 = {"iam:PassedToService": "ec2.amazonaws.com"}
STAGES = [
    *("approval", "capture", "detach", "memory", "prepare", "preserve", "protect", "quarantine", "release", "replicate"),
    *("report", "revoke", "scope", "triage", "verify"),
]
# Objects of a case, and the one stage that writes them.
# What was taken from a host, and who reads it.
IMAGES = {
    "memory/image.lime": {"memory", "report"},
    "volatile/processes.txt": {"capture", "report"},
    "console/screenshot.jpg": {"report"},
}
OTHERS_WRITE = {
    "case.json": "triage",
    "baseline.json": "triage",
    "manifest.json": "report",
    "report.html": "report",
    "approval/1.json": "approval",
    "custody/1.json": "verify",
}
# What would end an instance, evidence, its trail or the limits of a role, whatever the resource.
NEVER = [
    "ec2:DeleteSnapshot",
    "ec2:DeleteTags",
    "ec2:DeleteVolume",
    "ec2:DetachVolume",
    "ec2:ModifyVolume",
    "ec2:RebootInstances",
    "ec2:ResetSnapshotAttribute",
    "ec2:RunInstances",
    "ec2:StartInstances",
    "ec2:StopInstances",
    "ec2:TerminateInstances",
    "ec2:UnlockSnapshot",
    "ec2:DisassociateIamInstanceProfile",
    "autoscaling:DeleteAutoScalingGroup",
    "autoscaling:TerminateInstanceInAutoScalingGroup",
    "cloudtrail:StopLogging",
    "iam:AttachRolePolicy",
    "iam:CreateRole",
    "iam:DeleteRolePermissionsBoundary",
    "iam:PutRolePermissionsBoundary",
    "iam:UpdateAssumeRolePolicy",
    "kms:DisableKey",
    "kms:PutKeyPolicy",
    "kms:ScheduleKeyDeletion",
    "lambda:UpdateFunctionCode",
    "lambda:UpdateFunctionConfiguration",
    "logs:DeleteLogGroup",
    "s3:BypassGovernanceRetention",
    "s3:DeleteBucketPolicy",
    "s3:DeleteObjectVersion",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutEncryptionConfiguration",
    "s3:PutObjectLegalHold",
    "ssm:CreateDocument",
    "ssm:StartSession",
    "ssm:UpdateDocument",
    "states:StopExecution",
    "states:UpdateStateMachine",
]


def requests(kind: str, name: str, place: Place, hub: Place) -> list[tuple[str, Need]]:
    """What is to be refused to a role: in words, and as IAM sees it. `kind` is the template that makes it."""
    account, region = place.account, place.region
    stage = name.removeprefix("Spoke").removesuffix("Role").lower()
    bucket = f"arn:aws:s3:::{hub.resources['EvidenceBucket']}"

    def arn(what: str, service: str = "ec2", of: str = account, where: str = region) -> str:
        return f"arn:aws:{service}:{where}:{of}:{what}"

    instance, elsewhere = arn("instance/i-1"), arn("instance/i-1", of=OTHER)
    snapshot = f"arn:aws:ec2:{region}::snapshot/snap-1"
    found: list[tuple[str, Need]] = []

    def refuse(words: str, action: str, resource: str, context: dict[str, Any] | None = None) -> None:
        found.append((words, Need(action, resource, context or {})))

    for action in NEVER:
        about = {"s3": f"{bucket}/cases/case-1/case.json", "iam": f"arn:aws:iam::{account}:role/web"}
        resource = snapshot if "Snapshot" in action else about.get(action.split(":")[0], instance)
        # Whatever a condition may ask for is there.
        refuse("never", action, resource, CASE | {"ec2:SnapshotLockDuration": "36500"})
        if action.startswith("s3:"):
            refuse("never, even our bucket", action, bucket)
        if action.startswith("kms:"):
            refuse("never, even our key", action, arn("key/EvidenceKey", "kms", hub.account))

    # Another account's.
    for action in (
        *("ec2:CreateTags", "ec2:ModifyInstanceAttribute", "ec2:ReplaceIamInstanceProfileAssociation", "ec2:CreateSnapshots"),
        *("ec2:GetConsoleOutput", "ec2:DescribeInstanceAttribute", "ssm:SendCommand"),
    ):
        refuse("another account's instance", action, elsewhere, CASE | {"aws:TagKeys": ["Owner"]})
    refuse("another account's interface", "ec2:ModifyNetworkInterfaceAttribute", arn("network-interface/eni-1", of=OTHER), CASE)
    refuse("another account's group", "ec2:ModifyNetworkInterfaceAttribute", arn("security-group/sg-1", of=OTHER), CASE)
    for operation in ("AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress", "RevokeSecurityGroupEgress"):
        refuse("another account's group", f"ec2:{operation}", arn("security-group/sg-1", of=OTHER), {"aws:ResourceTag/stasis:role": "pass-through"})
    refuse("another account's VPC", "ec2:CreateSecurityGroup", arn("vpc/vpc-1", of=OTHER))
    refuse("another account's scaling group", "autoscaling:DetachInstances", arn("autoScalingGroup:1:autoScalingGroupName/web", "autoscaling", OTHER))
    refuse("another account's target group", "elasticloadbalancing:DeregisterTargets", arn("targetgroup/web/1", "elasticloadbalancing", OTHER))
    refuse("another account's role", "iam:PutRolePolicy", f"arn:aws:iam::{OTHER}:role/web")
    refuse("another account's role", "iam:DeleteRolePolicy", f"arn:aws:iam::{OTHER}:role/web")

    # What bears no tag of a case, or the wrong one.
    for action in ("ec2:LockSnapshot", "ec2:ModifySnapshotAttribute"):
        refuse("a snapshot of no case", action, snapshot, {"ec2:SnapshotLockDuration": "36500"})
    refuse("a lock that is shorter", "ec2:LockSnapshot", snapshot, CASE | {"ec2:SnapshotLockDuration": "1"})
    refuse("sharing with anybody", "ec2:ModifySnapshotAttribute", snapshot, CASE | {"ec2:Add/userId": OTHER})
    refuse("sharing with everybody", "ec2:ModifySnapshotAttribute", snapshot, CASE | {"ec2:Add/group": "all"})
    refuse("a flow log of no case", "ec2:DeleteFlowLogs", arn("vpc-flow-log/fl-1"))
    for action in ("AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress", "RevokeSecurityGroupEgress", "RevokeSecurityGroupIngress"):
        refuse("a group of somebody else", f"ec2:{action}", arn("security-group/sg-1"), {"aws:ResourceTag/Name": "web"})
    quarantine = {"aws:ResourceTag/stasis:role": "quarantine"}
    refuse("letting in to the quarantine", "ec2:AuthorizeSecurityGroupIngress", arn("security-group/sg-1"), quarantine)
    refuse("a group without our tag", "ec2:CreateSecurityGroup", arn("security-group/sg-1"), {"aws:TagKeys": ["Name"]})
    for thing in ("instance/i-1", "volume/vol-1", "network-interface/eni-1", "security-group/sg-1"):
        refuse("another tag", "ec2:CreateTags", arn(thing), {"aws:TagKeys": ["Owner", "aws:autoscaling:groupName"]})
    # By our own tag any group would become one whose rules may be changed.
    for thing in ("security-group/sg-1", "instance/i-1"):
        role = {"aws:RequestTag/stasis:role": "quarantine", "aws:TagKeys": ["stasis:role"]}
        refuse("our tag on what is not ours", "ec2:CreateTags", arn(thing), role)
    refuse("the case's tag on a snapshot of somebody else", "ec2:CreateTags", snapshot, {"aws:TagKeys": ["stasis:case"]})
    refuse("changing an instance's groups", "ec2:ModifyInstanceAttribute", arn("security-group/sg-1"), CASE)
    for attribute in ("UserData", "userData", "InstanceType", "sourceDestCheck", "kernel"):
        refuse("another attribute of an instance", "ec2:ModifyInstanceAttribute", instance, CASE | {"ec2:Attribute": [attribute]})
    if stage == "release":
        refuse("turning off what protects an instance of no case", "ec2:ModifyInstanceAttribute", instance)
        refuse("another profile for an instance of no case", "ec2:ReplaceIamInstanceProfileAssociation", instance)

    # Systems Manager: our documents and no other.
    for document in ("AWS-RunShellScript", "AWS-RunPowerShellScript"):
        refuse("a document of AWS", "ssm:SendCommand", f"arn:aws:ssm:{region}::document/{document}")
    for document in ("Admin", "Stasis-CaptureVolatile-2", "Stasis-"):
        refuse("somebody else's document", "ssm:SendCommand", arn(f"document/{document}", "ssm"))
    refuse("another account's document", "ssm:SendCommand", arn("document/Stasis-CaptureVolatile", "ssm", OTHER))
    if stage != "capture":
        refuse("capture's document", "ssm:SendCommand", arn("document/Stasis-CaptureVolatile", "ssm"))
    if stage != "memory":
        refuse("memory's document", "ssm:SendCommand", arn("document/Stasis-AcquireMemory", "ssm"))
    refuse("a parameter", "ssm:GetParameter", arn("parameter/database/password", "ssm"))

    # Roles.
    for role in ("admin", "stasis-copies-2"):
        refuse("becoming another role", "sts:AssumeRole", f"arn:aws:iam::{OTHER}:role/{role}")
        refuse("becoming another role", "sts:AssumeRole", f"arn:aws:iam::{account}:role/{role}")
    for other in ("quarantine", "release", "replicate"):
        if other != stage:
            refuse("becoming another stage", "sts:AssumeRole", f"arn:aws:iam::{OTHER}:role/stasis-spoke-{other}-{region}")
    passed = {"release": "role/stasis/stasis-ReportRole-1"}.get(stage, "role/admin")
    refuse("passing another role", "iam:PassRole", f"arn:aws:iam::{account}:{passed}", TO_EC2)
    refuse("passing a role to a function", "iam:PassRole", f"arn:aws:iam::{account}:role/admin", {"iam:PassedToService": "lambda.amazonaws.com"})
    for service in ("lambda", "ec2", "ecs-tasks"):
        delivery = f"arn:aws:iam::{account}:role/stasis-flow-logs-{region}"
        refuse("passing the role of flow logs to others", "iam:PassRole", delivery, {"iam:PassedToService": f"{service}.amazonaws.com"})
    # Whoever could change a role of Stasis could do whatever any of them may, and more.
    for role in (
        *("stasis/stasis-RevokeRole-1", "stasis/stasis-ReleaseRole-1", "stasis-evidence-writer-eu-central-1", "stasis-quarantine"),
        *("stasis-spoke-revoke-eu-central-1", "stasis-copies"),
    ):
        for action in ("iam:PutRolePolicy", "iam:DeleteRolePolicy"):
            refuse("changing a role of Stasis", action, f"arn:aws:iam::{account}:role/{role}")
    refuse("a policy on something else than a role", "iam:PutUserPolicy", f"arn:aws:iam::{account}:user/ada")

    # Keys: only the report signs; nobody uses the evidence key but through S3 and SNS.
    signing = arn("key/SigningKey", "kms", hub.account, hub.region)
    if stage != "report":
        refuse("signing", "kms:Sign", signing, {"kms:ResourceAliases": ["alias/stasis-signing"]})
    refuse("signing with another key", "kms:Sign", arn("key/other", "kms"), {"kms:ResourceAliases": ["alias/release"]})
    for action in ("kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant"):
        refuse("a key by itself", action, arn("key/EvidenceKey", "kms", hub.account, hub.region))
        refuse("a key by itself", action, arn("key/other", "kms"))
    through = {"kms:ViaService": f"ec2.{region}.amazonaws.com"}
    refuse("a grant for anybody", "kms:CreateGrant", arn("key/other", "kms"), through | {"kms:GrantIsForAWSResource": False})

    # The bucket: no stage writes another's record, and nobody another bucket.
    for other in STAGES:
        if other != stage or kind != "template":
            refuse("another stage's record", "s3:PutObject", f"{bucket}/cases/case-1/stages/{other}/1.json")
    for key, writer in OTHERS_WRITE.items():
        if writer != stage or kind != "template":
            refuse("what another stage writes", "s3:PutObject", f"{bucket}/cases/case-1/{key}")
    for key, readers in IMAGES.items():
        if stage not in readers or kind != "template":
            refuse("evidence that others read", "s3:GetObject", f"{bucket}/cases/case-1/{key}")
    refuse("a collector", "s3:PutObject", f"{bucket}/tools/collector/abc")
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        refuse("another bucket", action, "arn:aws:s3:::other/cases/case-1/case.json")
    refuse("hiding evidence", "s3:DeleteObject", f"{bucket}/cases/case-1/case.json")
    if stage != "release" or kind != "template":
        refuse("hiding a claim", "s3:DeleteObject", f"{bucket}/open/i-1.json")
    if kind != "template":
        refuse("the hub's evidence", "s3:GetObject", f"{bucket}/cases/case-1/case.json")

    # People.
    refuse("another topic", "sns:Publish", arn("other", "sns"))
    refuse("another bus", "events:PutEvents", arn("event-bus/other", "events"), {"events:source": "stasis"})
    refuse("an event of AWS", "events:PutEvents", arn("event-bus/default", "events", hub.account), {"events:source": "aws.guardduty"})
    refuse("a drill", "events:PutEvents", arn("event-bus/default", "events", hub.account), {"events:source": "stasis.drill"})
    refuse("starting Stasis", "states:StartExecution", arn("stateMachine:stasis-contain", "states", hub.account))
    return found
