"""Least privilege, proven: what each function called in the end-to-end suite beside what its role is granted.

1. The evaluator is probed.
2. What no role may do is asked of every role, and has to be refused.
3. Of a recording of the whole suite: every call has to be granted, with the resource and the tags that it was about; the same
   in another account has to be refused; and what is granted and was never called needs a reason in granted-not-called.json.
   A reason that is no longer true is a failure too.
4. Faults are seeded into copies of the templates: each has to be found by 2 or 3.

Without a whole recording it says so, and leaves 3 out. It reaches no network and changes no file.

    PYTHONPATH=tests python tests/privilege/check.py [--calls FOLDER] [--must-be-whole] [--table]
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

from calls import Need, UnknownCall, needs
from denied import OTHER, TO_EC2, requests
from faults import FAULTS
from judge import PROBES, decide, probes
from policies import Place, listed, load, roles
from recording import Incomplete, Recording, read

REASONS = Path(__file__).parent / "granted-not-called.json"
MEMBER_ACCOUNT = "333344445555"
# The roles that functions act as; those of state machines, rules and flow logs are for AWS' own services.
NOT_OF_FUNCTIONS = {"ForwardRole", "ContainRole", "ReleaseMachineRole", "StartContainRole", "QuarantineInstanceRole", "FlowLogsRole"}
# What parameters of the template name, and what they name in the local AWS.
OF_SETTINGS = {
    "ssm:GetParameter": (r":parameter/.*", ":parameter/stasis/policy"),
    "events:PutEvents": (r":event-bus/.*", ":event-bus/default"),
}
Templates = dict[str, dict[str, Any]]


def place_of(kind: str, recording: Recording) -> Place:
    """Where a template is deployed, where no call says so."""
    hub, destination = recording.hub, recording.hub.parameters
    if kind == "member":
        given = {"Revocation": hub.parameters.get("Revocation", "allowed"), "HubAccount": hub.account, "HubRegion": hub.region, "EvidenceBucket": hub.resources["EvidenceBucket"], "DestinationAccount": destination["DestinationAccount"]}
        return Place(MEMBER_ACCOUNT, hub.region, given)
    if kind == "evidence-account":
        return Place(destination["DestinationAccount"], destination["DestinationRegion"], {"StasisAccount": hub.account})
    return hub


@dataclass
class Granted:
    """The policies of every role of functions: named by template, role, account and region."""

    templates: Templates
    recording: Recording
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)

    def policy(self, kind: str, role: str, account: str = "", region: str = "") -> str:
        place = copy.copy(place_of(kind, self.recording))
        place.account, place.region = account or place.account, region or place.region
        where = f"{kind}/{place.account}/{place.region}"
        if f"{where}/" not in self.documents:
            self.documents[f"{where}/"] = {}
            self.documents |= {f"{where}/{name}": document for name, document in roles(self.templates[kind], place).items()}
        return f"{where}/{role}"

    def of_call(self, call: dict[str, Any]) -> str:
        """The policy of the role as which a call was made."""
        hub, stage = self.recording.hub, call["function"].capitalize()
        if call["function"] == "evidence-writer":
            return self.policy("template", "EvidenceWriterRole")
        if not call["session"]:
            if call["account"] != hub.account:
                raise UnknownCall(f"{stage} called as account {call['account']} without a session")
            return self.policy("template", f"{stage}Role")
        if call["account"] == hub.parameters["DestinationAccount"]:
            return self.policy("evidence-account", "CopiesRole")
        return self.policy("member", f"Spoke{stage}Role", call["account"], call["region"])

    def of_functions(self) -> Iterator[tuple[str, str, str]]:
        """Every role of functions: its template, its name and its policy."""
        for kind, template in self.templates.items():
            for name, resource in template["Resources"].items():
                if resource["Type"] == "AWS::IAM::Role" and name not in NOT_OF_FUNCTIONS:
                    yield kind, name, self.policy(kind, name)


def function_of(policy: str) -> str:
    """The function in the table that a policy belongs to: the roles of a stage in other accounts are its own."""
    role = policy.rpartition("/")[2]
    named = {"EvidenceWriterRole": "evidence-writer", "CopiesRole": "copies"}
    return named.get(role, role.removeprefix("Spoke").removesuffix("Role").lower())


# -- the checks: each gives what is wrong ------------------------------------------------------------------------------------


def what_must_be_refused(granted: Granted, only: set[str] | None = None) -> list[str]:
    asked: list[tuple[str, Need]] = []
    words: list[str] = []
    for kind, name, policy in granted.of_functions():
        if only is not None and policy not in only:
            continue
        for said, need in requests(kind, name, place_of(kind, granted.recording), granted.recording.hub):
            words.append(said)
            asked.append((policy, need))
    answers = decide(granted.documents, asked)
    return [
        f"{policy.rpartition('/')[2]} may {need.action} on {need.resource} by {', '.join(answer.by)} ({said})"
        for said, (policy, need), answer in zip(words, asked, answers, strict=True)
        if answer.decision == "allow"
    ]


def what_is_refused_where_roles_are_left_alone(granted: Granted) -> list[str]:
    """With Revocation=never, what revoke and release may do to a role otherwise. The rest of them is as ever."""
    wrong = []
    for choice in ("never", "allowed"):
        other = Granted(granted.templates, copy.deepcopy(granted.recording))
        other.recording.hub.parameters["Revocation"] = choice
        asked, words = [], []
        for kind, prefix in (("template", ""), ("member", "Spoke")):
            account = place_of(kind, other.recording).account
            role = f"arn:aws:iam::{account}:role/web"
            for stage, action in (("Revoke", "iam:PutRolePolicy"), ("Release", "iam:DeleteRolePolicy"), ("Release", "iam:PassRole")):
                asked.append((other.policy(kind, f"{prefix}{stage}Role"), Need(action, role, TO_EC2)))
            quarantine = f"arn:aws:iam::{account}:role/stasis-quarantine"
            asked.append((other.policy(kind, f"{prefix}RevokeRole"), Need("iam:PassRole", quarantine, TO_EC2)))
        expected = "deny" if choice == "never" else "allow"
        for (policy, need), answer in zip(asked, decide(other.documents, asked), strict=True):
            if answer.decision != expected:
                wrong.append(f"Revocation={choice}: {policy} and {need.action} on {need.resource}: {answer.decision}")
    return wrong


def who_is_reached_where_an_organisation_is_named(granted: Granted) -> list[str]:
    """With OrganizationId, roles of its accounts alone, and of those that AWS knows no organisation of; else of any account."""
    wrong = []
    for organisation, reached in (("o-a1b2c3d4e5", {"o-a1b2c3d4e5", None}), ("", {"o-a1b2c3d4e5", "o-f6e7d8c9b0", None})):
        other = Granted(granted.templates, copy.deepcopy(granted.recording))
        other.recording.hub.parameters["OrganizationId"] = organisation
        asked, expected = [], []
        for name, document in roles(other.templates["template"], place_of("template", other.recording)).items():
            stage = name.removesuffix("Role").lower()
            if f":role/stasis-spoke-{stage}-" not in json.dumps(document):
                continue
            for owner in ("o-a1b2c3d4e5", "o-f6e7d8c9b0", None):
                role = f"arn:aws:iam::999988887777:role/stasis-spoke-{stage}-eu-central-1"
                context = {"aws:ResourceOrgID": owner} if owner else {}
                asked.append((other.policy("template", name), Need("sts:AssumeRole", role, context)))
                expected.append("allow" if owner in reached else "none")
        for (policy, need), answer, wanted in zip(asked, decide(other.documents, asked), expected, strict=True):
            if answer.decision != wanted:
                wrong.append(f"OrganizationId={organisation}: {policy} and {need.resource} of {need.context or 'no organisation'}: {answer.decision}")
    return wrong


@dataclass
class Compared:
    """What came of the calls of a recording."""

    unknown: list[str]
    refused: list[str]
    abroad: list[str]
    # By function and action: how often it was called, and by which statements it was granted.
    called: Counter[tuple[str, str]]
    by: dict[tuple[str, str], set[str]]
    # Each different request under its policy.
    requests: list[tuple[str, Need]]


def compared(granted: Granted) -> Compared:
    unknown: set[str] = set()
    counted: Counter[tuple[str, str, str, str]] = Counter()
    for call in granted.recording.calls:
        try:
            policy = granted.of_call(call)
            for need in needs(call, granted.recording.stack):
                # A function to which a test gave other settings would have been granted what those name.
                if call["other"] and need.action in OF_SETTINGS:
                    pattern, settings = OF_SETTINGS[need.action]
                    need = need._replace(resource=re.sub(pattern, settings, need.resource))
                counted[policy, need.action, need.resource, json.dumps(need.context, sort_keys=True)] += 1
        except UnknownCall as problem:
            unknown.add(str(problem))
        except KeyError as missing:
            unknown.add(f"{call['function']} called {call['service']} {call['operation']} without {missing}")
    asked = [(policy, Need(action, resource, json.loads(context))) for policy, action, resource, context in counted]
    answers = decide(granted.documents, asked)
    called: Counter[tuple[str, str]] = Counter()
    by: dict[tuple[str, str], set[str]] = defaultdict(set)
    refused = []
    abroad: list[tuple[str, Need]] = []
    for (policy, need), answer, often in zip(asked, answers, counted.values(), strict=True):
        key = function_of(policy), need.action
        called[key] += often
        by[key] |= set(answer.by)
        if answer.decision != "allow":
            refused.append(f"{policy} may not {need.action} on {need.resource} in {json.dumps(need.context)} (called {often} times)")
        # The same call about a thing of another account; snapshots, buckets and AWS' documents are of none in their ARNs.
        parts = need.resource.split(":", 5)
        if answer.decision == "allow" and len(parts[4]) == 12 and parts[5] != "*" and need.action != "sts:AssumeRole":
            abroad.append((policy, need._replace(resource=":".join([*parts[:4], OTHER, parts[5]]))))
    far = [
        f"{policy} may {need.action} on {need.resource}, in another account"
        for (policy, need), answer in zip(abroad, decide(granted.documents, abroad), strict=True)
        if answer.decision == "allow"
    ]
    return Compared(sorted(unknown), sorted(refused), sorted(set(far)), called, by, asked)


def granted_actions(granted: Granted) -> dict[tuple[str, str], set[str]]:
    """What the roles are granted: function and action, with the statements."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for _, _, policy in granted.of_functions():
        for statement in granted.documents[policy]["Statement"]:
            if statement["Effect"] == "Allow":
                for action in listed(statement["Action"]):
                    found[function_of(policy), action].add(statement["Sid"])
    return found


def untrue_reasons(grants: dict[tuple[str, str], set[str]], called: Counter[tuple[str, str]], reasons: list[dict[str, Any]]) -> list[str]:
    """What is granted and never called without a reason, and reasons for what is called or not granted."""
    wrong, explained = [], set()
    for entry in reasons:
        for action in entry["actions"]:
            of = {function for function, granted in grants if granted == action}
            named = of if entry["functions"] == "all" else set(entry["functions"])
            if not named:
                wrong.append(f"granted-not-called.json: {action} is granted to no function")
            for function in sorted(named):
                if function not in of:
                    wrong.append(f"granted-not-called.json: {function} is not granted {action}")
                elif called[function, action]:
                    wrong.append(f"granted-not-called.json: {function} called {action} {called[function, action]} times")
                explained.add((function, action))
    for function, action in sorted(grants):
        if not called[function, action] and (function, action) not in explained:
            wrong.append(f"{function} is granted {action} ({', '.join(sorted(grants[function, action]))}) and never called it")
    return wrong


def seeded_problems(granted: Granted, broken: Templates, found: Compared | None, reasons: list[dict[str, Any]]) -> list[str]:
    """What is wrong with broken templates or reasons that is right with those that are `granted`. Only the policies that differ
    are asked about anew."""
    other = Granted(broken, granted.recording)
    grants = granted_actions(other)
    changed = {name for name, document in other.documents.items() if document != granted.documents.get(name)}
    wrong = what_must_be_refused(other, changed) + what_is_refused_where_roles_are_left_alone(other)
    wrong += who_is_reached_where_an_organisation_is_named(other)
    if found is not None:
        for name in {policy for policy, _ in found.requests}:
            kind, account, region, role = name.split("/")
            other.policy(kind, role, account, region)
        changed = {name for name, document in other.documents.items() if document != granted.documents.get(name)}
        again = [(policy, need) for policy, need in found.requests if policy in changed]
        answers = decide(other.documents, again)
        wrong += [f"{policy} may not {need.action}" for (policy, need), answer in zip(again, answers, strict=True) if answer.decision != "allow"]
        wrong += untrue_reasons(grants, found.called, reasons)
    return wrong


# -- what is printed ---------------------------------------------------------------------------------------------------------


def table(grants: dict[tuple[str, str], set[str]], found: Compared, reasons: list[dict[str, Any]]) -> Iterator[str]:
    why = {}
    for number, entry in enumerate(reasons, 1):
        for action in entry["actions"]:
            for function in {f for f, a in grants if a == action and (entry["functions"] == "all" or f in entry["functions"])}:
                why[function, action] = number
    yield f"{'function':16} {'action':50} {'granted by':44} called"
    for function, action in sorted(set(grants) | set(found.called)):
        key = function, action
        # Where it was called, the statements that let it; else all that name it.
        by = ", ".join(sorted(found.by.get(key) or grants.get(key, set()))) or "NOTHING"
        often = str(found.called[key]) if found.called[key] else f"never, reason {why.get(key, 'MISSING')}"
        yield f"{function:16} {action:50} {by:44} {often}"
    yield ""
    for number, entry in enumerate(reasons, 1):
        yield f"reason {number}: {entry['reason']}"


def main() -> int:
    parser = argparse.ArgumentParser(description="least privilege of the roles of Stasis")
    parser.add_argument("--calls", type=Path, default=None, help="the recording of an end-to-end run")
    parser.add_argument("--must-be-whole", action="store_true", help="fail where the recording is not one of the whole suite")
    parser.add_argument("--table", action="store_true", help="print the table alone")
    arguments = parser.parse_args()
    passed = failed = skipped = 0

    def say(name: str, wrong: list[str]) -> None:
        nonlocal passed, failed
        passed, failed = (passed, failed + 1) if wrong else (passed + 1, failed)
        print(f"{'FAIL' if wrong else 'ok  '}  {name}")
        for problem in wrong[:40]:
            print(f"        {problem}")
        if len(wrong) > 40:
            print(f"        and {len(wrong) - 40} more")

    templates, reasons = load(), json.loads(REASONS.read_text(encoding="utf-8"))
    why_not = ""
    try:
        recording = read(arguments.calls)
    except Incomplete as problem:
        recording, why_not = Recording.none(), str(problem)
    granted = Granted(templates, recording)
    found: Compared | None = None

    if not arguments.table:
        say(f"the evaluator answers {len(PROBES)} probes rightly", probes())
        say("what no role may do is refused to each", what_must_be_refused(granted))
        say("no role is touched where that is never allowed", what_is_refused_where_roles_are_left_alone(granted))
        say("another organisation is not reached where one is named", who_is_reached_where_an_organisation_is_named(granted))
    if why_not:
        print(f"{'FAIL' if arguments.must_be_whole else 'skip'}  calls beside grants: {why_not}")
        failed, skipped = (failed + 1, skipped) if arguments.must_be_whole else (failed, skipped + 1)
    else:
        found, grants = compared(granted), granted_actions(granted)
        print("\n".join(table(grants, found, reasons)) + "\n")
        print(f"{len(recording.calls)} calls of {len({c['function'] for c in recording.calls})} functions, {len(found.requests)} different requests")
        say("every call is one whose permissions are known", found.unknown)
        say("every call is granted, with its resource and tags", found.refused)
        say("no call is granted in another account", found.abroad)
        say("what is granted and never called has a reason, and no reason is untrue", untrue_reasons(grants, found.called, reasons))
    if arguments.table:
        return 1 if failed else 0
    for name, needs_calls, seed in FAULTS:
        if needs_calls and not recording.calls:
            skipped += 1
            continue
        broken, given = copy.deepcopy(templates), copy.deepcopy(reasons)
        seed(broken, given)
        # What is wrong without the fault finds no fault.
        before = set(seeded_problems(granted, templates, found, reasons)) if failed else set()
        new = set(seeded_problems(granted, broken, found, given)) - before
        say(f"seeded fault is found: {name}", [] if new else ["nothing was found wrong"])
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
