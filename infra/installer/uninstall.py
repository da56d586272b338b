"""Removes Stasis from an account and Region, and says what stays: whatever is evidence, or is needed to read it.

It contains no instance and releases none: one that is quarantined stays so, and the way back goes with the stack. So it
refuses while a case is open or a run goes on.
"""

from __future__ import annotations

from typing import Any, Callable

from . import InstallError
from .aws import Aws, Stack, in_words
from .install import HUB, MEMBER, Say

LISTED = 10


def uninstall(
    open_cases_may_stay: bool, confirm: Callable[[str], str] | None, wanted_account: str | None, say: Say = print
) -> None:
    """Removes the stacks and the bucket of the package. `wanted_account` is the account's id, said beforehand; without, `confirm`
    asks for it."""
    aws = Aws()
    hub, member = aws.stack(HUB), aws.stack(MEMBER)
    say(f"account {aws.account}, Region {aws.region}, as {aws.caller}")
    if hub is None and member is None:
        raise InstallError(f"there is no stack {HUB} or {MEMBER} in account {aws.account}, {aws.region}: nothing was removed")
    for name, stack in ((HUB, hub), (MEMBER, member)):
        if stack is not None and stack.status.endswith("_IN_PROGRESS"):
            raise InstallError(f"the stack {name} is {stack.status}: wait until it stands. Nothing was removed")
    busy = (_open_cases(aws, hub) + _running(aws, hub)) if hub else []
    if busy:
        for line in busy[:LISTED]:
            say(f"  {line}")
        if len(busy) > LISTED:
            say(f"  and {len(busy) - LISTED} more")
        if not open_cases_may_stay:
            raise InstallError(
                "nothing was removed: these go on, and nothing can be released once Stasis is gone. Release them (stasis release), "
                "or run make uninstall OPEN_CASES=stay, which leaves their instances as they are now, in quarantine"
            )
    undelivered = _undelivered(aws) if hub else 0
    if undelivered:
        say(f"  {undelivered} events that were not delivered go with their queue")
    kept = _kept(aws, hub, member)
    say("stays, and costs what it costs, until somebody removes it by hand:")
    for line in kept:
        say(f"  {line}")
    say("the functions' logs go with the stack; the case files say what was changed at AWS")
    if wanted_account is None and confirm is not None:
        wanted_account = confirm(f"remove the rest? Type the account's id, {aws.account}: ").strip()
    if wanted_account != aws.account:
        raise InstallError(f"nothing was removed: ACCOUNT={aws.account} says that it may be")
    for name, stack in ((HUB, hub), (MEMBER, member)):
        if stack is not None:
            if stack.protected:
                aws.protect(name, False)
            aws.delete(name)
            say(f"{name}: removed")
    _remove_artefacts(aws, say)
    say("removed. Roles in other accounts, and in other Regions of this one, go with their stacks of member.yaml, which stay until somebody deletes them")


def _open_cases(aws: Aws, hub: Stack) -> list[str]:
    """The instances whose case is open: the claims in the case file, which a release takes away."""
    bucket = hub.outputs.get("EvidenceBucket")
    if not bucket:
        return []
    with in_words(f"looking for open cases in {bucket}"):
        pages = aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="open/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return [f"a case is open for {key.removeprefix('open/').removesuffix('.json')}" for key in keys]


def _running(aws: Aws, hub: Stack) -> list[str]:
    """Executions that go on: of a case that is preserved only, there is no claim after its end."""
    return [f"an execution goes on: {arn}" for arn in aws.running(hub.outputs, ("ContainStateMachineArn", "ReleaseStateMachineArn"))]


def _undelivered(aws: Aws) -> int:
    with in_words("looking for undelivered events"):
        sqs = aws.client("sqs")
        queue = _resources(aws, HUB).get("UndeliveredEvents")
        if not queue:
            return 0
        told = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"])
    return int(told["Attributes"]["ApproximateNumberOfMessages"])


def _resources(aws: Aws, name: str) -> dict[str, str]:
    with in_words(f"reading the resources of {name}"):
        pages = aws.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=name)
        return {
            item["LogicalResourceId"]: item.get("PhysicalResourceId", "") for page in pages for item in page["StackResourceSummaries"]
        }


def _kept(aws: Aws, hub: Stack | None, member: Stack | None) -> list[str]:
    lines = []
    if hub:
        resources = _resources(aws, HUB)
        days, mode = hub.parameters.get("RetentionDays", "?"), hub.parameters.get("CaseFileLock", "governance")
        lines += [
            f"the evidence bucket {resources.get('EvidenceBucket')}, whose objects are locked for {days} days ({mode} mode) from when each was written",
            *([f"the bucket {logs}, where S3 logs who reads the evidence"] if (logs := resources.get("AccessLogs")) else []),
            f"the key {resources.get('EvidenceKey')}, without which no evidence can be read",
            f"the key {resources.get('SigningKey')}, which signed the manifests of cases",
        ]
    if member:
        resources = _resources(aws, MEMBER)
        lines += [
            f"the key {resources.get('SnapshotKey')}, without which snapshots that were copied under it, and the flow logs of cases, cannot be read",
            f"the log group {resources.get('FlowLogs')} of the flow logs that were switched on for cases",
        ]
    lines += _evidence_in_ec2(aws)
    return lines


def _evidence_in_ec2(aws: Aws) -> list[str]:
    """What cases left in EC2, in this Region: the installation's own tags tell."""
    with in_words("looking for what cases left in EC2"):
        ec2 = aws.client("ec2")
        snapshots: list[dict[str, Any]] = [
            snapshot
            for page in ec2.get_paginator("describe_snapshots").paginate(
                OwnerIds=["self"], Filters=[{"Name": "tag-key", "Values": ["stasis:case"]}]
            )
            for snapshot in page["Snapshots"]
        ]
        groups = [
            group["GroupId"]
            for page in ec2.get_paginator("describe_security_groups").paginate(
                Filters=[{"Name": "tag:stasis:role", "Values": ["quarantine", "pass-through"]}]
            )
            for group in page["SecurityGroups"]
        ]
    lines = [f"{len(snapshots)} snapshots with the tag stasis:case, locked for the days of retention"] if snapshots else []
    return lines + ([f"the security groups {', '.join(sorted(groups))}"] if groups else [])


def _remove_artefacts(aws: Aws, say: Say) -> None:
    """The bucket of the package holds nothing but what make package makes again."""
    s3, name = aws.client("s3"), aws.artefact_bucket
    own = {"Bucket": name, "ExpectedBucketOwner": aws.account}
    with in_words(f"removing the bucket {name}"):
        if name not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
            return
        for page in s3.get_paginator("list_object_versions").paginate(**own):
            versions = [
                {"Key": item["Key"], "VersionId": item["VersionId"]} for item in page.get("Versions", []) + page.get("DeleteMarkers", [])
            ]
            if versions:
                s3.delete_objects(**own, Delete={"Objects": versions, "Quiet": True})
        s3.delete_bucket(**own)
    say(f"{name}: removed")
