"""Faults to seed into copies of the templates and of the reasons; the suite has to find each. Changes nothing but the copies.

Each is named, says whether it takes a recording to find it, and changes (templates, reasons).
"""

from __future__ import annotations

from typing import Any, Callable

Seed = Callable[[dict[str, Any], list[dict[str, Any]]], Any]


def statements(templates: dict[str, Any], role: str, kind: str = "template") -> list[dict[str, Any]]:
    (policy,) = templates[kind]["Resources"][role]["Properties"]["Policies"]
    return policy["PolicyDocument"]["Statement"]


def statement(templates: dict[str, Any], role: str, sid: str, kind: str = "template") -> dict[str, Any]:
    return next(s for s in statements(templates, role, kind) if s["Sid"] == sid)


def without(role: str, sid: str, kind: str = "template") -> Seed:
    """Takes a statement out."""
    return lambda templates, _: statements(templates, role, kind).remove(statement(templates, role, sid, kind))


def with_(role: str, sid: str, key: str, value: Any, kind: str = "template") -> Seed:
    """Sets a part of a statement."""
    return lambda templates, _: statement(templates, role, sid, kind).__setitem__(key, value)


def unconditional(role: str, sid: str, kind: str = "template") -> Seed:
    """Takes the conditions of a statement out."""
    return lambda templates, _: statement(templates, role, sid, kind).pop("Condition")


def also(role: str, sid: str, action: str) -> Seed:
    """Adds an action to a statement."""

    def seed(templates: dict[str, Any], _: list[dict[str, Any]]) -> None:
        found = statement(templates, role, sid)
        given = found["Action"]
        found["Action"] = [*(given if isinstance(given, list) else [given]), action]

    return seed


def as_in(role: str, other: str, sid: str) -> Seed:
    """Gives a role a statement of another one."""
    return lambda templates, _: statements(templates, role).append(statement(templates, other, sid))


ANYTHING = "*"
OF_A_GROUP = {"StringEquals": {"aws:ResourceTag/stasis:role": "quarantin"}}
ANY_GROUP = {"Fn::Sub": "arn:${AWS::Partition}:ec2:${AWS::Region}:*:security-group/*"}
ELSEWHERE = {"Fn::Sub": "arn:${AWS::Partition}:ec2:us-east-1:${AWS::AccountId}:network-interface/*"}
ANY_DOCUMENT = {"Fn::Sub": "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:document/*"}
ALL_TAGS = {"ForAllValues:StringLike": {"aws:TagKeys": ["*"]}}

FAULTS: list[tuple[str, bool, Seed]] = [
    # Too little.
    ("quarantine may not move interfaces", True, without("QuarantineRole", "MoveInterface")),
    ("quarantine may not move into groups", True, without("QuarantineRole", "IntoGroups")),
    ("quarantine may move interfaces of another region only", True, with_("QuarantineRole", "MoveInterface", "Resource", ELSEWHERE)),
    ("quarantine looks for a tag that nothing bears", True, with_("QuarantineRole", "ConvergeGroup", "Condition", OF_A_GROUP)),
    ("prepare may not tag the group that it makes", True, without("PrepareRole", "TagNewGroup")),
    ("capture may not write its output", True, without("CaptureRole", "WriteOwnRecords")),
    ("protect may not tag", True, without("ProtectRole", "Tag")),
    ("scope may not pass the role of flow logs", True, without("ScopeRole", "PassDeliveryRole")),
    ("report may not sign", True, without("ReportRole", "SignManifest")),
    ("triage may not become its role in other accounts", True, without("TriageRole", "ActInOtherAccounts")),
    ("quarantine may not move interfaces of other accounts", True, without("SpokeQuarantineRole", "MoveInterface", "member")),
    ("copies may not be locked where they are", True, without("CopiesRole", "LockSnapshots", "evidence-account")),
    ("the collector's addresses may not be signed for parts", True, without("EvidenceWriterRole", "SendEvidence")),
    # Too much.
    ("quarantine may move interfaces of every account", False, with_("QuarantineRole", "MoveInterface", "Resource", ANYTHING)),
    ("prepare may change groups of every account", False, with_("PrepareRole", "ConvergeGroup", "Resource", ANY_GROUP)),
    ("prepare may change any group", False, unconditional("PrepareRole", "ConvergeGroup")),
    ("prepare may make any group", False, unconditional("PrepareRole", "MakeOwnGroupsOnly")),
    ("protect may set any tag", False, unconditional("ProtectRole", "Tag")),
    ("protect may set tags that match anything", False, with_("ProtectRole", "Tag", "Condition", ALL_TAGS)),
    ("preserve may lock snapshots of no case", False, unconditional("PreserveRole", "LockSnapshots")),
    ("replicate may share with anybody", False, unconditional("ReplicateRole", "ShareForTheCopying")),
    ("replicate may use every key by itself", False, unconditional("ReplicateRole", "EncryptCopies")),
    ("capture may send any document", False, with_("CaptureRole", "SendCommand", "Resource", [ANY_DOCUMENT])),
    ("memory may send commands of everything", False, with_("MemoryRole", "SendCommand", "Resource", ANYTHING)),
    ("revoke may pass any role", False, with_("RevokeRole", "PassQuarantineRole", "Resource", ANYTHING)),
    ("revoke may change the roles of Stasis", False, without("RevokeRole", "NeverRolesOfStasis")),
    ("revoke may change roles although that is never allowed", False, without("RevokeRole", "RolesAreLeftAlone")),
    ("revoke may change roles of other accounts although that is never allowed", False, without("SpokeRevokeRole", "RolesAreLeftAlone", "member")),
    ("release may change the roles of Stasis", False, without("ReleaseRole", "NeverRolesOfStasis")),
    ("release may unprotect instances of no case", False, unconditional("ReleaseRole", "RestoreProtections")),
    ("release may end any flow log", False, unconditional("ReleaseRole", "EndFlowLogs")),
    ("release may hide evidence", False, with_("ReleaseRole", "CloseClaim", "Resource", {"Fn::Sub": "${EvidenceBucket.Arn}/*"})),
    ("release may pass roles to functions", False, unconditional("ReleaseRole", "PassFormerRole")),
    ("release may terminate", False, also("ReleaseRole", "RestoreProtections", "ec2:TerminateInstances")),
    ("verify may unlock", False, also("VerifyRole", "ReadShares", "ec2:UnlockSnapshot")),
    ("triage may sign", False, as_in("TriageRole", "ReportRole", "SignManifest")),
    ("triage may write what capture writes", False, as_in("TriageRole", "CaptureRole", "WriteOwnRecords")),
    ("triage may use the key by itself", False, unconditional("TriageRole", "EncryptCaseFile")),
    ("approval may publish anywhere", False, with_("ApprovalRole", "Notify", "Resource", ANYTHING)),
    ("approval may send events of AWS", False, unconditional("ApprovalRole", "TellTicketBus")),
    ("protect may write every record", False, with_("ProtectRole", "WriteOwnRecords", "Resource", {"Fn::Sub": "${EvidenceBucket.Arn}/cases/*"})),
    ("detach may act in any organisation", False, unconditional("DetachRole", "ActInOtherAccounts")),
    ("protect may set user data", False, without("ProtectRole", "NoOtherAttributes")),
    ("release may set user data in other accounts", False, without("SpokeReleaseRole", "NoOtherAttributes", "member")),
    ("detach may become any role", False, with_("DetachRole", "ActInOtherAccounts", "Resource", "arn:aws:iam::*:role/*")),
    ("scope may pass any role to flow logs", False, unconditional("ScopeRole", "PassDeliveryRole")),
    ("a role beside the instance reads the evidence", False, with_("SpokeCaptureRole", "Read", "Action", ["s3:GetObject"], "member")),
    ("the role of the copies unlocks", False, with_("CopiesRole", "LockSnapshots", "Action", ["ec2:LockSnapshot", "ec2:UnlockSnapshot"], "evidence-account")),
    # More than is called, and reasons that are not true.
    ("triage is granted what it never calls", True, also("TriageRole", "Read", "ec2:DescribeSubnets")),
    ("a reason is missing", True, lambda _, reasons: reasons.pop(0)),
    ("a reason is for what is called", True, lambda _, reasons: reasons.append({"reason": "none", "functions": ["quarantine"], "actions": ["ec2:ModifyNetworkInterfaceAttribute"]})),
    ("a reason is for what is not granted", True, lambda _, reasons: reasons.append({"reason": "none", "functions": ["quarantine"], "actions": ["ec2:RebootInstances"]})),
]  # fmt: skip
