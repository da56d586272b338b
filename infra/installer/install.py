"""Deploys a package: first member.yaml, whose documents the hub sends, then the hub, then the collectors.

Whatever can be refused is refused before anything is made.
"""

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import sys
import textwrap
from typing import Callable

from . import InstallError, package, parameters, templates
from .aws import Aws, Stack
from .parameters import Values

HUB = "stasis"
MEMBER = "stasis-member"
PREFIX = "stasis/"
# What is asked on the first run; everything else has a default that is right for most (infra/template.yaml).
ASKED = ("NotificationEmail", "Decision", "RetentionDays", "CaseFileLock", "SnapshotLock", "DestinationAccount", "DestinationRegion", "OrganizationId")
# What the program sets itself.
OWN = {"ArtefactBucket", "ArtefactPrefix", "CollectorX8664", "CollectorArm64"}
# What holds evidence, or signs it. A stack that replaced one would leave the evidence in the old one and go on in a new one.
NEVER_REPLACED = {"EvidenceBucket", "AccessLogs", "EvidenceKey", "SigningKey", "SnapshotKey"}

Say = Callable[[str], None]


class Install:
    """One deployment."""

    def __init__(self, folder: pathlib.Path, answers: pathlib.Path, say: Say = print) -> None:
        self.folder = folder
        self.answers = answers
        self.say = say
        self.sums = package.sums(folder)
        self.hub = json.loads((folder / package.HUB).read_text(encoding="utf-8"))
        self.member = templates.read(folder / "member.yaml")
        self.email = ""
        self.failed: list[str] = []

    def run(self, given: Values, ask: Callable[[str], str] | None) -> Values:
        """Deploys with the values that are `given`, those that the stack has, those that were kept and the defaults, in this
        order. `ask` puts a question to whoever sits at the terminal; without, nothing is asked. Gives the hub's outputs."""
        # What is wrong by itself needs no account to be refused.
        _refuse(self._misgiven(given))
        aws = Aws()
        self.say(f"account {aws.account}, Region {aws.region}, as {aws.caller}")
        stacks = {name: self._usable(aws, name) for name in (MEMBER, HUB)}
        values = self._values(aws, stacks[HUB], given, ask)
        if ask and ask(f"deploy to account {aws.account} in {aws.region}? (yes/no) ").strip().lower() not in ("y", "yes"):
            raise InstallError("nothing was deployed")

        for name in self.failed:
            self.say(f"{name}: removing what a deployment that failed left behind")
            aws.delete(name)
        going_on = aws.running(stacks[HUB].outputs, ("ContainStateMachineArn", "ReleaseStateMachineArn")) if stacks[HUB] else []
        if going_on:
            self.say(f"{len(going_on)} executions go on; what they still do is done by the new functions (docs/operations.md)")
        aws.make_artefact_bucket()
        new = sum([aws.put_once(aws.artefact_bucket, PREFIX + name, self._read(name)) for name in sorted(self.sums) if name.startswith("functions/")])
        self.say(f"package: {new} new functions in s3://{aws.artefact_bucket}/{PREFIX}")
        known = self.member["Parameters"]
        shared = {name: value for name, value in values.items() if name in known}
        # Of no use to it in this account, and not known before the first deployment.
        known_bucket = {"EvidenceBucket": stacks[HUB].outputs["EvidenceBucket"]} if stacks[HUB] else {}
        self._deploy(aws, MEMBER, "member.yaml", {**shared, **known_bucket, "HubAccount": aws.account})
        made = {"ArtefactBucket": aws.artefact_bucket, "ArtefactPrefix": PREFIX}
        hub = self._deploy(aws, HUB, package.HUB, {**values, **made})
        aws.protect(HUB, True)
        for name, digest in self._collectors().items():
            aws.put_once(hub.outputs["EvidenceBucket"], f"tools/collector/{digest}", self._read(name))
        self.say("collectors: in the evidence bucket")
        self._keep_public_key(aws, hub.outputs["SigningKeyArn"])
        self._keep(aws, values)
        self.email = values["NotificationEmail"]
        return hub.outputs

    # -- values ----------------------------------------------------------------------------------------------------

    def _open_parameters(self) -> dict[str, dict[str, object]]:
        return {name: parameter for name, parameter in self.hub["Parameters"].items() if name not in OWN}

    def _collectors(self) -> Values:
        return {f"collectors/{name}": self.sums[f"collectors/{name}"] for name in package.COLLECTORS.values()}

    def _values(self, aws: Aws, stack: Stack | None, given: Values, ask: Callable[[str], str] | None) -> Values:
        known = self._open_parameters()
        kept = self._kept(aws)
        deployed = stack.parameters if stack else {}
        values = parameters.defaults({"Parameters": known})
        for source in (kept, deployed, given):
            values.update({name: value for name, value in source.items() if name in known})
        if ask and stack is None:
            for name in ASKED:
                if name in known and name not in given:
                    values[name] = self._answer(name, known[name], values[name], ask)
        for name, value in sorted(values.items()):
            if name in deployed and deployed[name] != value:
                self.say(f"{name}: {deployed[name]!r} becomes {value!r}")
        values["CollectorX8664"] = self.sums[f"collectors/{package.COLLECTORS['x86_64']}"]
        values["CollectorArm64"] = self.sums[f"collectors/{package.COLLECTORS['arm64']}"]
        pseudo = {"AWS::AccountId": aws.account, "AWS::Region": aws.region, "AWS::Partition": aws.partition}
        made = {"ArtefactBucket": aws.artefact_bucket, "ArtefactPrefix": PREFIX}
        _refuse(parameters.problems(self.hub, {**values, **made}, pseudo))
        return values

    def _answer(self, name: str, parameter: dict[str, object], default: str, ask: Callable[[str], str]) -> str:
        self.say(f"\n{name}. {parameter['Description']}")
        while True:
            value = ask(f"{name} [{default or 'none'}]: ").strip() or default
            problem = parameters.problem(name, parameter, value)
            if problem is None:
                return value
            self.say(problem)

    def _misgiven(self, given: Values) -> list[str]:
        """What is wrong with each value that was given, by itself."""
        known, found = self._open_parameters(), []
        for name, value in sorted(given.items()):
            if name in OWN:
                found.append(f"{name} is set by make deploy itself, from the package")
            elif name not in known:
                found.append(f"{name} is no parameter: see infra/template.yaml")
            else:
                found.append(parameters.problem(name, known[name], value) or "")
        return [text for text in found if text]

    def _kept(self, aws: Aws) -> Values:
        if not self.answers.is_file():
            return {}
        try:
            kept = json.loads(self.answers.read_text(encoding="utf-8"))
            return {str(k): str(v) for k, v in kept.get(f"{aws.account}/{aws.region}", {}).items()}
        except (ValueError, AttributeError):
            raise InstallError(f"{self.answers} is not what was kept there: mend or remove it") from None

    def _keep(self, aws: Aws, values: Values) -> None:
        """Keeps what differs from the defaults, for the next deployment from this checkout."""
        usual = parameters.defaults(self.hub)
        kept = json.loads(self.answers.read_text(encoding="utf-8")) if self.answers.is_file() else {}
        kept[f"{aws.account}/{aws.region}"] = {
            name: value for name, value in sorted(values.items()) if name not in OWN and usual.get(name) != value
        }
        self.answers.parent.mkdir(parents=True, exist_ok=True)
        self.answers.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _keep_public_key(self, aws: Aws, key: str) -> None:
        """Keeps the public half of the key that signs cases here: who checks a case later must not take it from the case."""
        der = aws.public_key(key)
        lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
        file = self.answers.parent / f"signing-key-{aws.account}-{aws.region}.pem"
        text = "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])
        before = file.read_text(encoding="utf-8") if file.is_file() else text
        if before != text:
            # Only a new installation has a new key; anything else is a matter for whoever answers for the evidence.
            file.rename(file.with_name(f"{file.stem}-before-{hashlib.sha256(before.encode()).hexdigest()[:8]}.pem"))
            self.say(f"the signing key is ANOTHER than at the last deployment from here: the former one is kept beside {file}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self.say(f"public key of the cases: {file}, SHA-256 {hashlib.sha256(der).hexdigest()}; keep a copy where nobody of this account can change it")

    # -- stacks ----------------------------------------------------------------------------------------------------

    def _usable(self, aws: Aws, name: str) -> Stack | None:
        stack = aws.stack(name)
        if stack is None:
            return None
        if stack.status == "ROLLBACK_COMPLETE":
            # Its first creation failed, so it holds nothing, and CloudFormation can do nothing with it but delete it.
            self.failed.append(name)
            return None
        if stack.status.endswith(("_IN_PROGRESS", "_FAILED")):
            raise InstallError(f"nothing was deployed: the stack {name} is {stack.status}. See to it in the CloudFormation console first")
        return stack

    def _deploy(self, aws: Aws, name: str, file: str, values: Values) -> Stack:
        content = self._read(file)
        # By its hash: a template that changes while CloudFormation reads it is another one.
        key = f"{PREFIX}templates/{self.sums[file][:16]}-{file}"
        aws.put_once(aws.artefact_bucket, key, content)
        proposed = aws.propose(name, aws.address(aws.artefact_bucket, key), values)
        if proposed is None:
            self.say(f"{name}: nothing to change")
            stack = aws.stack(name)
            if stack is None:
                raise InstallError(f"the stack {name} is gone")
            return stack
        change_set, changes = proposed
        lost = sorted(
            change["LogicalResourceId"]
            for change in changes
            if change["LogicalResourceId"] in NEVER_REPLACED
            and (change["Action"] == "Remove" or change.get("Replacement") in ("True", "Conditional"))
        )
        if lost:
            aws.drop(change_set)
            raise InstallError(
                f"the stack {name} was not changed: it would replace or drop {', '.join(lost)}, which hold or sign evidence"
            )
        self.say(f"{name}: {_count(changes)}")
        return aws.carry_out(name, change_set)

    def _read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def _refuse(found: list[str]) -> None:
    if found:
        raise InstallError("nothing was deployed:\n  " + "\n  ".join(found))


def _count(changes: list[dict[str, str]]) -> str:
    words = {"Add": "made", "Modify": "changed", "Remove": "removed", "Import": "taken over", "Dynamic": "perhaps changed"}
    counted = {word: sum(1 for change in changes if change["Action"] == action) for action, word in words.items()}
    return ", ".join(f"{number} {word}" for word, number in counted.items() if number) or "nothing to change"


def next_steps(outputs: Values, email: str) -> str:
    """What to do once it is deployed."""
    lines = [f"  {name:24} {value}" for name, value in sorted(outputs.items())]
    confirm = f"1. confirm the subscription that AWS mails to {email}\n" if email else "1. nobody is told yet: make deploy NotificationEmail=…\n"
    return (
        "deployed\n" + "\n".join(lines) + f"\n\n{confirm}"
        "2. GuardDuty must be on in this Region: aws guardduty list-detectors\n"
        "3. try it without touching anything: start stasis-contain with\n"
        '   {"instanceId": "i-…", "mode": "dry-run"}\n'
        "4. other accounts and Regions: docs/accounts.md; alarms and what to do at each: docs/operations.md"
    )


def asker() -> Callable[[str], str] | None:
    """How to ask, where somebody sits at the terminal."""
    return input if sys.stdin.isatty() else None
