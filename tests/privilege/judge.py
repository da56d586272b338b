"""Asks the evaluator (tests/judge) what IAM would decide, and probes it first: it is believed as far as it answers these rightly.

What is right is by the IAM User Guide (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html), not by
the evaluator itself.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from calls import Need

JUDGE = Path(os.environ.get("STASIS_BINARIES", "target/debug")) / "stasis-judge"


class Answer(NamedTuple):
    """What IAM would say, and by which statements."""

    decision: str
    by: list[str]


def decide(policies: dict[str, dict[str, Any]], requests: list[tuple[str, Need]]) -> list[Answer]:
    """The answer to each request, which names the policy that it is made under."""
    if not requests:
        return []
    if not JUDGE.is_file():
        raise RuntimeError(f"there is no evaluator at {JUDGE}: make build")
    used = {name for name, _ in requests}
    lines = [json.dumps({"policy": [name, document]}) for name, document in policies.items() if name in used]
    for name, need in requests:
        lines.append(json.dumps({"by": name, "action": need.action, "resource": need.resource, "context": need.context}))
    said = subprocess.run([JUDGE], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if said.returncode != 0:
        raise RuntimeError(f"the evaluator refuses: {said.stderr.strip()}")
    answers = [Answer(**json.loads(line)) for line in said.stdout.splitlines()]
    if len(answers) != len(requests):
        raise RuntimeError(f"the evaluator gave {len(answers)} answers to {len(requests)} requests")
    return answers


def allow(resource: str | list[str] = "*", condition: dict[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    found = {"Sid": "One", "Effect": "Allow", "Action": "ec2:CreateTags", "Resource": resource, **other}
    return found | ({"Condition": condition} if condition else {})


INSTANCE = "arn:aws:ec2:eu-central-1:111122223333:instance/i-1"
ANY_INSTANCE = "arn:aws:ec2:eu-central-1:111122223333:instance/*"
TAG = "aws:ResourceTag/stasis:case"
OF_CASE = {"StringLike": {TAG: "case-*"}}
KEYS = {"ForAllValues:StringEquals": {"aws:TagKeys": ["Owner", "Evidence"]}}
ALIAS = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/stasis-signing"}}
IF_EXISTS = {"StringLikeIfExists": {"s3:prefix": ["open/*", "cases/*"]}}
DAYS = {"NumericGreaterThanEquals": {"ec2:SnapshotLockDuration": "30"}}
DENY = {"Sid": "Not", "Effect": "Deny", "Action": "ec2:CreateTags", "Resource": "arn:aws:ec2:*:*:instance/i-1"}
# What is asked, the statements, action, resource, context, and whether it is granted.
PROBES: list[tuple[str, list[dict[str, Any]], str, str, dict[str, Any], bool]] = [
    ("no statement", [], "ec2:CreateTags", INSTANCE, {}, False),
    ("the resource itself", [allow(INSTANCE)], "ec2:CreateTags", INSTANCE, {}, True),
    ("another resource", [allow(INSTANCE)], "ec2:CreateTags", INSTANCE + "2", {}, False),
    ("a pattern of resources", [allow(ANY_INSTANCE)], "ec2:CreateTags", INSTANCE, {}, True),
    ("a pattern of another account", [allow(ANY_INSTANCE)], "ec2:CreateTags", INSTANCE.replace("1111", "9999"), {}, False),
    ("a pattern of another region", [allow(ANY_INSTANCE)], "ec2:CreateTags", INSTANCE.replace("central", "west"), {}, False),
    ("a pattern of another kind", [allow(ANY_INSTANCE)], "ec2:CreateTags", INSTANCE.replace("instance/i", "volume/v"), {}, False),
    ("a resource without account", [allow("arn:aws:ec2:eu-central-1::snapshot/*")], "ec2:CreateTags", "arn:aws:ec2:eu-central-1::snapshot/snap-1", {}, True),
    ("a star in the midst", [allow("arn:aws:s3:::b/cases/*/stages/protect/*")], "ec2:CreateTags", "arn:aws:s3:::b/cases/case-1/stages/protect/1.json", {}, True),
    ("a star that spans slashes", [allow("arn:aws:s3:::b/cases/*/m.json")], "ec2:CreateTags", "arn:aws:s3:::b/cases/a/b/m.json", {}, True),
    ("what follows the star is not there", [allow("arn:aws:s3:::b/cases/*/m.json")], "ec2:CreateTags", "arn:aws:s3:::b/cases/a/n.json", {}, False),
    ("one of several resources", [allow([ANY_INSTANCE, "arn:aws:s3:::b"])], "ec2:CreateTags", "arn:aws:s3:::b", {}, True),
    ("a bucket is not its objects", [allow("arn:aws:s3:::b")], "ec2:CreateTags", "arn:aws:s3:::b/key", {}, False),
    ("everything", [allow("*")], "ec2:CreateTags", INSTANCE, {}, True),
    ("all of a kind is not everything", [allow(ANY_INSTANCE)], "ec2:CreateTags", "arn:aws:ec2:eu-central-1:111122223333:*", {}, False),
    ("another action", [allow()], "ec2:TerminateInstances", INSTANCE, {}, False),
    ("an action in other letters", [allow()], "EC2:createtags", INSTANCE, {}, True),
    ("one of several actions", [allow(Action=["ec2:A", "ec2:CreateTags"])], "ec2:CreateTags", INSTANCE, {}, True),
    ("a pattern of actions", [allow(Action="ec2:Create*")], "ec2:CreateTags", INSTANCE, {}, True),
    ("a deny goes before an allow", [allow(), DENY], "ec2:CreateTags", INSTANCE, {}, False),
    ("a deny about something else", [allow(), DENY], "ec2:CreateTags", INSTANCE + "2", {}, True),
    ("the tag", [allow(condition=OF_CASE)], "ec2:CreateTags", INSTANCE, {TAG: "case-1"}, True),
    ("another value of the tag", [allow(condition=OF_CASE)], "ec2:CreateTags", INSTANCE, {TAG: "other"}, False),
    ("without the tag", [allow(condition=OF_CASE)], "ec2:CreateTags", INSTANCE, {}, False),
    ("one of several values", [allow(condition={"StringEquals": {TAG: ["a", "b"]}})], "ec2:CreateTags", INSTANCE, {TAG: "b"}, True),
    ("a star is no pattern to StringEquals", [allow(condition={"StringEquals": {TAG: "case-*"}})], "ec2:CreateTags", INSTANCE, {TAG: "case-1"}, False),
    ("one of two conditions", [allow(condition={**OF_CASE, "StringEquals": {"a:b": "c"}})], "ec2:CreateTags", INSTANCE, {TAG: "case-1"}, False),
    ("both conditions", [allow(condition={**OF_CASE, "StringEquals": {"a:b": "c"}})], "ec2:CreateTags", INSTANCE, {TAG: "case-1", "a:b": "c"}, True),
    ("two keys of a condition are both wanted", [allow(condition={"StringEquals": {"a:b": "c", "a:d": "e"}})], "ec2:CreateTags", INSTANCE, {"a:b": "c"}, False),
    ("all keys are among the allowed", [allow(condition=KEYS)], "ec2:CreateTags", INSTANCE, {"aws:TagKeys": ["Owner"]}, True),
    ("one key is not among the allowed", [allow(condition=KEYS)], "ec2:CreateTags", INSTANCE, {"aws:TagKeys": ["Owner", "Name"]}, False),
    ("no keys: nothing that is not allowed", [allow(condition=KEYS)], "ec2:CreateTags", INSTANCE, {}, True),
    ("one of the values is the wanted", [allow(condition=ALIAS)], "ec2:CreateTags", INSTANCE, {"kms:ResourceAliases": ["alias/a", "alias/stasis-signing"]}, True),
    ("none of the values is the wanted", [allow(condition=ALIAS)], "ec2:CreateTags", INSTANCE, {"kms:ResourceAliases": ["alias/a"]}, False),
    ("no values at all", [allow(condition=ALIAS)], "ec2:CreateTags", INSTANCE, {}, False),
    ("if it exists, and it does", [allow(condition=IF_EXISTS)], "ec2:CreateTags", INSTANCE, {"s3:prefix": "cases/1"}, True),
    ("if it exists, and it is another", [allow(condition=IF_EXISTS)], "ec2:CreateTags", INSTANCE, {"s3:prefix": "tools/"}, False),
    ("if it exists, and it does not", [allow(condition=IF_EXISTS)], "ec2:CreateTags", INSTANCE, {}, True),
    ("a number that is as great", [allow(condition=DAYS)], "ec2:CreateTags", INSTANCE, {"ec2:SnapshotLockDuration": "30"}, True),
    ("a number that is smaller", [allow(condition=DAYS)], "ec2:CreateTags", INSTANCE, {"ec2:SnapshotLockDuration": "9"}, False),
    ("no number", [allow(condition=DAYS)], "ec2:CreateTags", INSTANCE, {}, False),
    ("a key that must not be there is not", [allow(condition={"Null": {"ec2:Add/group": True}})], "ec2:CreateTags", INSTANCE, {}, True),
    ("a key that must not be there is", [allow(condition={"Null": {"ec2:Add/group": True}})], "ec2:CreateTags", INSTANCE, {"ec2:Add/group": "all"}, False),
    ("a truth value", [allow(condition={"Bool": {"kms:GrantIsForAWSResource": True}})], "ec2:CreateTags", INSTANCE, {"kms:GrantIsForAWSResource": True}, True),
    ("another truth value", [allow(condition={"Bool": {"kms:GrantIsForAWSResource": True}})], "ec2:CreateTags", INSTANCE, {"kms:GrantIsForAWSResource": False}, False),
    ("a pattern of services", [allow(condition={"StringLike": {"kms:ViaService": "ec2.*.amazonaws.com"}})], "ec2:CreateTags", INSTANCE, {"kms:ViaService": "ec2.eu-west-1.amazonaws.com"}, True),
]  # fmt: skip


def probes() -> list[str]:
    """Which probes the evaluator answers wrongly."""
    policies = {name: {"Version": "2012-10-17", "Statement": statements} for name, statements, *_ in PROBES}
    requests = [(name, Need(action, resource, context)) for name, _, action, resource, context, _ in PROBES]
    wrong = []
    for (name, *_, granted), answer in zip(PROBES, decide(policies, requests), strict=True):
        if (answer.decision == "allow") != granted:
            wrong.append(f"{name}: {answer.decision}, which is not what IAM says")
    return wrong
