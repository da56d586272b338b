"""What the comparison of calls and grants rests on, on the local AWS: that calls are recorded, and whose; and that the roles
take a permissions boundary where one is named, and none where none is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Iterator

from local import record, stack
from local.plant import plant

import policies
import recording
from denied import STAGES

BINARIES = Path(os.environ.get("STASIS_BINARIES", "target/debug"))
BOUNDARY = "arn:aws:iam::111122223333:policy/org/boundary"


@contextlib.contextmanager
def recorded() -> Iterator[Path]:
    """A folder for the calls of the local AWSs that are started meanwhile."""
    with tempfile.TemporaryDirectory(dir=BINARIES.parent) as folder:
        before = os.environ.get(record.FOLDER)
        os.environ[record.FOLDER] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop(record.FOLDER)
            if before is not None:
                os.environ[record.FOLDER] = before


class Recorded(unittest.TestCase):
    def test_functions_are_told_from_others_by_their_user_agent(self) -> None:
        for agent, wanted in {
            "aws-sdk-rust/1.3 os/linux app/stasis-triage": {"function": "triage", "other": False},
            "aws-sdk-rust/1.3 app/stasis-quarantine lang/rust": {"function": "quarantine", "other": False},
            "aws-sdk-rust/1.3 app/other-triage-12": {"function": "triage", "other": True},
            "aws-sdk-rust/1.3 app/stasis-cli": None,
            "aws-sdk-rust/1.3 lang/rust": None,
            "Boto3/1.43 app/anything": None,
            "": None,
        }.items():
            with self.subTest(agent):
                self.assertEqual(record.function_of(agent), wanted)

    def test_what_is_long_is_left_out(self) -> None:
        given = {"Name": "/stasis/policy", "PolicyDocument": "x" * 301, "Entries": [{"Source": "stasis", "Detail": "x" * 301}]}
        self.assertEqual(record.short(given), {"Name": "/stasis/policy", "Entries": [{"Source": "stasis"}]})

    def test_nothing_is_written_where_no_folder_is_named(self) -> None:
        before = os.environ.pop(record.FOLDER, None)
        try:
            self.assertFalse(record.Record("moto").wanted)
        finally:
            if before is not None:
                os.environ[record.FOLDER] = before

    def test_calls_are_recorded_through_two_starts_and_roles_take_a_boundary(self) -> None:
        arns = []
        with recorded() as folder:
            for number, parameters in enumerate(({}, {"PermissionsBoundary": BOUNDARY})):
                with tempfile.TemporaryDirectory(dir=BINARIES.parent) as directory:
                    with stack.LocalAws(Path(directory), BINARIES, wait_scale=0.01, parameters=parameters) as aws:
                        aws.start()
                        aws.deploy()
                        arns.append(self.boundaries(aws))
                        self.triage(aws, number)
            lines = {name: recording.lines(folder, name) for name in ("moto", "ministack", "stack")}
            deployed = {stack["parameters"].get("PermissionsBoundary") for stack in lines["stack"]}
            written = "\n".join(path.read_text() for path in folder.glob("*.jsonl"))
            files = len(list(folder.glob("*.jsonl")))
        # No start wrote over another's: two of each emulator, and both stacks, which this process deployed.
        self.assertEqual((files, len(lines["stack"])), (5, 2))
        self.assertEqual(deployed, {None, BOUNDARY})
        self.assertEqual({found for found in arns[0].values()}, {None})
        self.assertEqual({found for found in arns[1].values()}, {BOUNDARY})
        self.assertEqual(len(arns[0]), 20)
        called = {(c["function"], c["service"], c["operation"]) for name in ("moto", "ministack") for c in lines[name]}
        self.assertIn(("triage", "ec2", "DescribeInstances"), called)
        self.assertIn(("triage", "s3", "PUT"), called)
        # Deploying calls every function with an empty input, at which they look who they are at most. What plants is no function.
        self.assertEqual({call for call in called if call[0] != "triage"} - {(f, "sts", "GetCallerIdentity") for f in [*STAGES, "ready"]}, set())
        self.assertNotIn("RunInstances", {operation for *_, operation in called})
        for secret in ("X-Amz-Signature", "Signature=", "SecretAccessKey", "x-amz-security-token"):
            self.assertNotIn(secret.lower(), written.lower())
        for line in lines["moto"] + lines["ministack"]:
            self.assertFalse({"body", "Body"} & set(line))

    def boundaries(self, aws: stack.LocalAws) -> dict[str, str | None]:
        """The boundary of each role of the stack, by the role's name."""
        formation = aws.client("cloudformation")
        resources = formation.describe_stack_resources(StackName=stack.STACK)["StackResources"]
        names = [r["PhysicalResourceId"] for r in resources if r["ResourceType"] == "AWS::IAM::Role"]
        # The stack's own roles are MiniStack's.
        import boto3

        iam = boto3.client(
            "iam", endpoint_url=aws.ministack_url, region_name=aws.region, aws_access_key_id=aws.account, aws_secret_access_key="local"
        )
        found = {}
        for name in names:
            bounded = iam.get_role(RoleName=name)["Role"].get("PermissionsBoundary", {})
            found[name] = bounded.get("PermissionsBoundaryArn")
        return found

    def triage(self, aws: stack.LocalAws, number: int) -> None:
        """Has one function look at an instance."""
        planted = plant(aws.client, aws.region, name=f"web-{number}", endpoints=False, scaling_group=False, target_groups=0)
        given = {"instanceId": planted["instanceId"], "reason": "a test", "ticket": f"SEC-{number}", "mode": "dry-run"}
        reply = aws.client("lambda").invoke(FunctionName="stasis-triage", Payload=json.dumps(given).encode())
        self.assertNotIn("FunctionError", reply, reply["Payload"].read())


class Elsewhere(unittest.TestCase):
    """The templates that the local AWS does not deploy, as moto's CloudFormation deploys them."""

    def boundaries(self, kind: str, boundary: str) -> dict[str, str | None]:
        import boto3
        from moto import mock_aws

        given = {
            "member": {"HubAccount": "111122223333", "EvidenceBucket": "stasis-evidence", "DestinationAccount": "222233334444"},
            "evidence-account": {"StasisAccount": "111122223333"},
        }[kind]
        parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in {**given, "PermissionsBoundary": boundary}.items()]
        body = json.dumps(policies.load()[kind])
        with mock_aws():
            session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="eu-central-1")
            formation, iam = session.client("cloudformation"), session.client("iam")
            formation.create_stack(StackName=kind, TemplateBody=body, Parameters=parameters, Capabilities=["CAPABILITY_NAMED_IAM"])
            names = [role["RoleName"] for role in iam.list_roles()["Roles"]]
            found = {name: iam.get_role(RoleName=name)["Role"].get("PermissionsBoundary", {}) for name in names}
        return {name: bounded.get("PermissionsBoundaryArn") for name, bounded in found.items()}

    def test_every_role_takes_what_the_parameter_names(self) -> None:
        # Thirteen stages that work beside the instance, readiness, the quarantined instances' and that of flow logs.
        for kind, roles in {"member": 16, "evidence-account": 1}.items():
            for boundary, wanted in {"": None, BOUNDARY: BOUNDARY}.items():
                with self.subTest(f"{kind} {boundary}"):
                    found = self.boundaries(kind, boundary)
                    self.assertEqual((len(found), set(found.values())), (roles, {wanted}))

    def test_a_stack_set_names_the_policy_that_every_account_has(self) -> None:
        self.assertEqual(set(self.boundaries("member", "org/boundary").values()), {"arn:aws:iam::123456789012:policy/org/boundary"})

    def test_the_parameter_takes_policies_alone(self) -> None:
        for kind, template in policies.load().items():
            pattern = template["Parameters"]["PermissionsBoundary"]["AllowedPattern"]
            for good in ("", BOUNDARY, "arn:aws:iam::aws:policy/PowerUserAccess", "arn:aws-us-gov:iam::111122223333:policy/a"):
                self.assertRegex(good, pattern, kind)
            for bad in ("arn:aws:iam::111122223333:role/admin", "*", "arn:aws:iam::*:policy/a", "arn:aws:s3:::policy/a", "a b"):
                self.assertIsNone(re.search(pattern, bad), f"{kind} takes {bad}")


if __name__ == "__main__":
    program = unittest.main(verbosity=1, exit=False)
    result = program.result
    wrong = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - wrong} passed, {wrong} failed")
    sys.exit(1 if wrong else 0)
