"""The installer, for real against the local AWS: package, deploy, deploy again, refuse, uninstall.

The functions are the debug binaries of this machine, by a line that becomes them. It judges by what is there, not by the status
of a stack.

    python tests/infra/test_installer.py    (STASIS_BINARIES names the folder of the binaries)
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "infra"), str(ROOT / "tests")]

from installer import InstallError, install, package, parameters, templates  # noqa: E402
from local import plant  # noqa: E402
from local import stack as local_stack  # noqa: E402

BINARIES = pathlib.Path(os.environ.get("STASIS_BINARIES", ROOT / "target/debug")).resolve()
STAGES = sorted(templates.stages(templates.read(ROOT / "infra/template.yaml")).values())


def elf(machine: int, body: bytes = b"") -> bytes:
    """The head of a 64-bit ELF program for a machine."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + machine.to_bytes(2, "little") + bytes(44) + body


class Case(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.temporary = pathlib.Path(folder.name)

    def inputs(self, function: bytes = elf(183), collectors: tuple[bytes, bytes] = (elf(62), elf(183))) -> tuple[pathlib.Path, pathlib.Path]:
        binaries, made = self.temporary / "binaries", self.temporary / "collectors"
        for folder in (binaries, made):
            folder.mkdir(exist_ok=True)
        for stage in STAGES:
            (binaries / stage).write_bytes(function + stage.encode())
        for name, content in zip(package.COLLECTORS.values(), collectors):
            (made / name).write_bytes(content)
        return binaries, made


class Packages(Case):
    def packaged(self, name: str = "dist", **options) -> pathlib.Path:
        folder = self.temporary / name
        package.package(ROOT / "infra", *self.inputs(), folder, **options)
        return folder

    def test_the_same_input_gives_the_same_bytes(self) -> None:
        one = self.packaged("one")
        for file in (self.temporary / "binaries").iterdir():
            os.utime(file, (1, 1))
        two = self.temporary / "two"
        package.package(ROOT / "infra", self.temporary / "binaries", self.temporary / "collectors", two)
        files = {p.relative_to(one): p.read_bytes() for p in one.rglob("*") if p.is_file()}
        self.assertEqual(files, {p.relative_to(two): p.read_bytes() for p in two.rglob("*") if p.is_file()})
        self.assertEqual(len(files), len(STAGES) + 7)

    def test_a_zip_holds_the_program_as_bootstrap_that_may_be_run(self) -> None:
        folder = self.packaged()
        (file,) = (folder / "functions").glob("triage-*.zip")
        with zipfile.ZipFile(file) as archive:
            (entry,) = archive.infolist()
            self.assertEqual((entry.filename, entry.date_time, entry.external_attr >> 16), ("bootstrap", (1980, 1, 1, 0, 0, 0), 0o100755))
            self.assertEqual(archive.read(entry), elf(183) + b"triage")

    def test_a_changed_program_gets_another_key_in_the_template_and_others_keep_theirs(self) -> None:
        def keys(folder: pathlib.Path) -> dict[str, str]:
            made = json.loads((folder / "hub.json").read_text())["Resources"]
            return {n: r["Properties"]["Code"]["S3Key"]["Fn::Sub"] for n, r in made.items() if r["Type"] == "AWS::Lambda::Function"}

        before = keys(self.packaged("before"))
        binaries = self.temporary / "binaries"
        (binaries / "protect").write_bytes(elf(183) + b"protect, mended")
        package.package(ROOT / "infra", binaries, self.temporary / "collectors", self.temporary / "after")
        after = keys(self.temporary / "after")
        self.assertEqual([n for n in before if before[n] != after[n]], ["ProtectFunction"])
        for name, key in after.items():
            self.assertTrue((self.temporary / "after" / key.removeprefix("${ArtefactPrefix}")).is_file(), f"{name}: {key}")

    def test_the_template_is_plain_and_holds_every_parameter(self) -> None:
        made = json.loads((self.packaged() / "hub.json").read_text())
        self.assertNotIn("Transform", made)
        self.assertFalse([n for n, r in made["Resources"].items() if r["Type"].startswith("AWS::Serverless")])
        source = templates.read(ROOT / "infra/template.yaml")
        self.assertEqual(set(made["Parameters"]), set(source["Parameters"]) | set(templates.ARTEFACT_PARAMETERS))
        self.assertEqual(set(made["Rules"]), set(source["Rules"]))

    def test_sam_finds_each_bootstrap_where_the_template_points(self) -> None:
        self.packaged(lambda_folder=self.temporary / "target/lambda")
        for resource in templates.read(ROOT / "infra/template.yaml")["Resources"].values():
            if resource["Type"] == "AWS::Serverless::Function":
                file = self.temporary / "infra" / resource["Properties"]["CodeUri"] / "bootstrap"
                self.assertTrue(os.access(os.path.normpath(file), os.X_OK), file)

    def test_a_program_for_another_machine_is_refused(self) -> None:
        for function, collectors in ((elf(62), (elf(62), elf(183))), (elf(183), (elf(183), elf(183))), (b"#!/bin/sh\n", (elf(62), elf(183)))):
            with self.assertRaisesRegex(InstallError, "is no program for"):
                package.package(ROOT / "infra", *self.inputs(function, collectors), self.temporary / "dist")
        self.assertFalse((self.temporary / "dist").exists())

    def test_what_is_missing_is_named(self) -> None:
        binaries, collectors = self.inputs()
        (binaries / "verify").unlink()
        with self.assertRaisesRegex(InstallError, "binaries/verify"):
            package.package(ROOT / "infra", binaries, collectors, self.temporary / "dist")

    def test_a_folder_with_other_things_is_left_alone(self) -> None:
        (self.temporary / "dist").mkdir()
        (self.temporary / "dist/thesis.txt").write_text("mine")
        with self.assertRaisesRegex(InstallError, "thesis.txt"):
            self.packaged()
        self.assertTrue((self.temporary / "dist/thesis.txt").is_file())

    def test_what_is_not_as_it_was_packaged_is_refused(self) -> None:
        folder = self.packaged()
        self.assertEqual(len(package.sums(folder)), len(STAGES) + 6)
        sums = (folder / "SHA256SUMS").read_text()
        for name in ("hub.json", "member.yaml", "collectors/stasis-collector-aarch64"):
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content + b" ")
            with self.assertRaisesRegex(InstallError, "is not as it was packaged"):
                package.sums(folder)
            (folder / name).write_bytes(content)
        (folder / "SHA256SUMS").write_text("".join(line for line in sums.splitlines(True) if "hub.json" not in line))
        with self.assertRaisesRegex(InstallError, "lacks hub.json"):
            package.sums(folder)
        (folder / "SHA256SUMS").write_text(sums.replace("member.yaml", "../member.yaml"))
        with self.assertRaisesRegex(InstallError, "none of a package"):
            package.sums(folder)


class Parameters(unittest.TestCase):
    template = templates.read(ROOT / "infra/template.yaml")
    pseudo = {"AWS::AccountId": "111122223333", "AWS::Region": "eu-central-1"}

    def problems(self, **values: str) -> list[str]:
        return parameters.problems(self.template, values, self.pseudo)

    def test_the_defaults_are_right(self) -> None:
        self.assertEqual(self.problems(), [])

    def test_what_is_wrong_is_said_with_what_it_should_be(self) -> None:
        for values, said in (
            ({"Decision": "Contain"}, "Decision is one of ask, contain"),
            ({"RetentionDays": "0"}, "between 1 and 36500"),
            ({"RetentionDays": "a year"}, "is a number"),
            ({"NotificationEmail": "security"}, "an e-mail address"),
            ({"NotificationEmail": "a@b.c\n"}, "an e-mail address"),
            ({"RequestSources": "example.edr,9"}, "'9'"),
            ({"DestinationAccount": "222233334444"}, "needs DestinationRegion"),
            ({"DestinationAccount": "111122223333", "DestinationRegion": "eu-central-1"}, "out of nobody's reach"),
            ({"SnapshotKey": "alias/aws/ebs"}, "customer key"),
            ({"Credentials": "revoke", "Revocation": "never"}, "needs Revocation=allowed"),
            ({"Desicion": "ask"}, "Desicion is no parameter"),
            ({"CollectorArm64": "ABC"}, "64 lower-case hexadecimal digits"),
        ):
            found = self.problems(**values)
            self.assertEqual(len(found), 1, (values, found))
            self.assertIn(said, found[0])

    def test_what_is_right_is_taken(self) -> None:
        for values in (
            {"NotificationEmail": "security@example.org", "RetentionDays": "30"},
            {"RequestSources": "example.edr,example.siem"},
            {"DestinationAccount": "222233334444", "DestinationRegion": "eu-west-1"},
            {"DestinationAccount": "111122223333", "DestinationRegion": "eu-west-1"},
        ):
            self.assertEqual(self.problems(**values), [])


class Asks(Case):
    """The first run, without an account: what is asked, and what follows from the answers."""

    class Place:
        """As much of an account as the values need."""

        account, region, partition, artefact_bucket = "111122223333", "eu-central-1", "aws", "stasis-artefacts-111122223333-eu-central-1"

    def values(self, answers: dict[str, list[str]], given: dict[str, str] | None = None, stack: object = None) -> tuple[dict[str, str], list[str]]:
        folder = self.temporary / "dist"
        package.package(ROOT / "infra", *self.inputs(), folder)
        said: list[str] = []
        deployment = install.Install(folder, self.temporary / "answers.json", said.append)

        def ask(question: str) -> str:
            said.append(question)
            waiting = answers.get(question.split(" [")[0], [])
            return waiting.pop(0) if waiting else ""

        values = deployment._values(self.Place(), stack, given or {}, ask)
        self.assertEqual([name for name, left in answers.items() if left], [], "was never asked")
        return values, said

    def test_enter_keeps_the_default_and_the_default_asks_people_first(self) -> None:
        values, said = self.values({})
        self.assertEqual((values["Decision"], values["NotificationEmail"], values["RetentionDays"]), ("ask", "", "365"))
        self.assertEqual([line.split(" [")[0] for line in said if line.endswith("]: ")], list(install.ASKED))

    def test_an_answer_that_cannot_be_is_asked_again(self) -> None:
        values, said = self.values({"NotificationEmail": ["security", "soc@example.org"], "RetentionDays": ["0", "90"], "Decision": ["yes", "contain"]})
        self.assertEqual((values["Decision"], values["NotificationEmail"], values["RetentionDays"]), ("contain", "soc@example.org", "90"))
        self.assertTrue([line for line in said if line.startswith("Decision is one of ask, contain")])

    def test_what_is_given_is_not_asked(self) -> None:
        values, said = self.values({}, {"Decision": "notify"})
        self.assertEqual(values["Decision"], "notify")
        self.assertFalse([line for line in said if line.startswith("Decision [")])

    def test_answers_that_do_not_go_together_are_refused(self) -> None:
        with self.assertRaisesRegex(InstallError, "DestinationAccount needs DestinationRegion"):
            self.values({"DestinationAccount": ["222233334444"]})

    def test_an_upgrade_asks_nothing_and_goes_by_the_stack(self) -> None:
        (self.temporary / "answers.json").write_text(json.dumps({"111122223333/eu-central-1": {"Decision": "contain", "Owner": "Kept"}}))
        stack = install.Stack("UPDATE_COMPLETE", {"Decision": "preserve", "CollectorArm64": "0" * 64, "Gone": "x"}, {}, True)
        values, said = self.values({}, {"RetentionDays": "30"}, stack)
        self.assertEqual((values["Decision"], values["Owner"], values["RetentionDays"]), ("preserve", "Kept", "30"))
        self.assertNotEqual(values["CollectorArm64"], "0" * 64)
        self.assertNotIn("Gone", values)
        self.assertEqual(said, [])


class Deploys(Case):
    """One local AWS for the whole of it, since each step stands on the one before."""

    def installer(self, *arguments: str, typed: str | None = None, **variables: str) -> tuple[int, str]:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "STASIS_"))},
            **self.aws.environment(),
            "PYTHONPATH": str(ROOT / "infra"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **variables,
        }
        command = [sys.executable, "-m", "installer", *arguments]
        done = subprocess.run(command, env=environment, input=typed or "", capture_output=True, text=True, timeout=240, cwd=self.temporary)
        return done.returncode, done.stdout + done.stderr

    def deploy(self, *arguments: str, **variables: str) -> tuple[int, str]:
        folder, answers = self.temporary / "dist", self.temporary / "answers.json"
        return self.installer("deploy", "--folder", str(folder), "--answers", str(answers), *arguments, **variables)

    def pack(self) -> None:
        binaries, collectors = self.temporary / "binaries", self.temporary / "collectors"
        for folder in (binaries, collectors):
            folder.mkdir(exist_ok=True)
        for stage in STAGES:
            self.assertTrue((BINARIES / stage).is_file(), f"build first: {BINARIES / stage} is missing")
            (binaries / stage).write_text(f"#!/bin/sh\nexec {shlex.quote(str(BINARIES / stage))}\n")
        for name in package.COLLECTORS.values():
            (collectors / name).write_text(f"#!/bin/sh\n# {name}\n")
        package.package(ROOT / "infra", binaries, collectors, self.temporary / "dist", any_machine=True)

    def buckets(self) -> list[str]:
        return [bucket["Name"] for bucket in self.aws.client("s3").list_buckets()["Buckets"]]

    def resources(self, name: str) -> dict[str, str]:
        listed = self.aws.client("cloudformation").describe_stack_resources(StackName=name)["StackResources"]
        return {item["LogicalResourceId"]: item["PhysicalResourceId"] for item in listed}

    def test_from_nothing_to_nothing_but_evidence(self) -> None:
        with local_stack.LocalAws(self.temporary / "aws", wait_scale=0.1) as self.aws:
            self.aws.start()
            self.pack()
            self.bad_input_makes_nothing()
            self.a_first_deployment_that_failed_is_cleared_away()
            outputs = self.first_deployment()
            self.it_runs(outputs)
            self.a_second_deployment_changes_nothing(outputs)
            execution = self.a_run_waits_for_an_answer(outputs)
            self.an_upgrade_keeps_what_was_chosen()
            self.the_run_goes_on_with_the_new_functions(execution)
            self.an_organisation_may_forward_findings()
            self.a_further_region_of_its_own_account_gets_the_roles()
            self.evidence_is_never_replaced()
            self.an_open_case_keeps_it_from_being_removed(outputs)
            self.removed_but_for_evidence(outputs)
            self.it_can_be_deployed_again(outputs)

    def bad_input_makes_nothing(self) -> None:
        for arguments, variables, said in (
            (["Decision=Contain"], {}, "Decision is one of ask"),
            (["NotificationEmail=security"], {}, "e-mail address"),
            ([], {"RetentionDays": "0"}, "between 1 and 36500"),
            (["--named", "Desicion"], {"Desicion": "ask"}, "Desicion is no parameter"),
            (["Desicion=ask"], {}, "Desicion is no parameter"),
            (["DestinationAccount=222233334444"], {}, "needs DestinationRegion"),
            (["CollectorArm64=" + "0" * 64], {}, "set by make deploy itself"),
            (["Decision"], {}, "no NAME=VALUE"),
            ([], {"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "no Region is set"),
            ([], {"AWS_REGION": "Frankfurt"}, "Frankfurt"),
            ([], {"AWS_PROFILE": "nobody"}, "nobody"),
        ):
            code, output = self.deploy(*arguments, **variables)
            self.assertEqual(code, 1, output)
            self.assertIn(said, output)
            self.assertNotIn("Traceback", output)
        self.assertEqual(self.buckets(), [])
        self.assertEqual(self.aws.client("cloudformation").list_stacks()["StackSummaries"], [])

    def a_first_deployment_that_failed_is_cleared_away(self) -> None:
        """It says why, such as a name that is taken, and the next one begins anew."""
        formation, systems_manager = self.aws.client("cloudformation"), self.aws.client("ssm")
        systems_manager.create_document(Name="Stasis-AcquireMemory", Content=json.dumps({"schemaVersion": "2.2", "mainSteps": []}), DocumentType="Command")
        code, output = self.deploy("Decision=preserve")
        self.assertEqual(code, 1, output)
        self.assertIn("the stack stasis-member is ROLLBACK_COMPLETE: AcquireMemoryDocument", output)
        self.assertEqual([s["StackName"] for s in formation.describe_stacks()["Stacks"]], [install.MEMBER])
        systems_manager.delete_document(Name="Stasis-AcquireMemory")

    def first_deployment(self) -> dict[str, str]:
        code, output = self.deploy("RetentionDays=30", NotificationEmail="security@example.org", Decision="preserve")
        self.assertEqual(code, 0, output + self.aws.last_lines())
        self.assertIn("stasis-member: removing what a deployment that failed left behind", output)
        self.assertIn("confirm the subscription that AWS mails to security@example.org", output)
        formation = self.aws.client("cloudformation")
        hub = formation.describe_stacks(StackName=install.HUB)["Stacks"][0]
        chosen = {p["ParameterKey"]: p["ParameterValue"] for p in hub["Parameters"]}
        self.assertEqual((chosen["RetentionDays"], chosen["Decision"]), ("30", "preserve"))
        self.assertTrue(hub["EnableTerminationProtection"])
        outputs = {o["OutputKey"]: o["OutputValue"] for o in hub["Outputs"]}
        # Every resource whose condition holds is there.
        made, source = self.resources(install.HUB), json.loads((self.temporary / "dist/hub.json").read_text())
        self.assertEqual({n for n, r in source["Resources"].items() if "Condition" not in r} - set(made), set())
        member, source = self.resources(install.MEMBER), templates.read(ROOT / "infra/member.yaml")
        always = {n for n, r in source["Resources"].items() if r.get("Condition", "MakesTheProfile") == "MakesTheProfile"}
        self.assertEqual(always - set(member), set())
        self.assertEqual({n: i for n, i in member.items() if n.startswith("Spoke")}, {})
        events = formation.describe_stack_events(StackName=install.MEMBER)["StackEvents"]
        first_of_hub = min(e["Timestamp"] for e in formation.describe_stack_events(StackName=install.HUB)["StackEvents"])
        self.assertLessEqual(max(e["Timestamp"] for e in events), first_of_hub, "the documents come before those that send them")
        documents = self.aws.client("ssm").list_documents(Filters=[{"Key": "Owner", "Values": ["Self"]}])["DocumentIdentifiers"]
        self.assertEqual({d["Name"] for d in documents}, {"Stasis-CaptureVolatile", "Stasis-AcquireMemory"})
        s3 = self.aws.client("s3")
        for name, parameter in (("x86_64", "CollectorX8664"), ("aarch64", "CollectorArm64")):
            content = (self.temporary / f"dist/collectors/stasis-collector-{name}").read_bytes()
            self.assertEqual(chosen[parameter], hashlib.sha256(content).hexdigest())
            there = s3.get_object(Bucket=outputs["EvidenceBucket"], Key=f"tools/collector/{chosen[parameter]}")
            self.assertEqual(there["Body"].read(), content)
        (public,) = self.temporary.glob("signing-key-*.pem")
        key = self.aws.client("kms", hub=True).get_public_key(KeyId=outputs["SigningKeyArn"])["PublicKey"]
        self.assertEqual(base64.b64decode("".join(public.read_text().splitlines()[1:-1])), key)
        self.assertIn(hashlib.sha256(key).hexdigest(), output)
        kept = json.loads((self.temporary / "answers.json").read_text())
        self.assertEqual(kept["111122223333/eu-central-1"], {"Decision": "preserve", "NotificationEmail": "security@example.org", "RetentionDays": "30"})
        self.bucket = outputs["EvidenceBucket"]
        logged = s3.get_bucket_logging(Bucket=self.bucket)["LoggingEnabled"]
        self.assertEqual((logged["TargetBucket"], logged["TargetPrefix"]), (made["AccessLogs"], "evidence/"))
        return outputs

    def it_runs(self, outputs: dict[str, str]) -> None:
        """A request about an instance that is not there comes to an answer: machine, functions and case file work together."""
        states = self.aws.client("stepfunctions")
        request = json.dumps({"instanceId": "i-00000000000000001", "mode": "dry-run"})
        begun = states.start_execution(stateMachineArn=outputs["ContainStateMachineArn"], input=request)["executionArn"]
        deadline = time.monotonic() + 120
        while (told := states.describe_execution(executionArn=begun))["status"] == "RUNNING" and time.monotonic() < deadline:
            time.sleep(0.2)
        self.assertIn("i-00000000000000001", told.get("output", "") + told.get("cause", ""), told)

    def a_second_deployment_changes_nothing(self, outputs: dict[str, str]) -> None:
        code, output = self.deploy()
        self.assertEqual(code, 0, output)
        self.assertIn("stasis: nothing to change", output)
        self.assertIn("0 new functions", output)
        versions = self.aws.client("s3").list_object_versions(Bucket=outputs["EvidenceBucket"], Prefix="tools/collector/")["Versions"]
        self.assertEqual(len(versions), 2, "a collector that is there is not uploaded again")

    def a_run_waits_for_an_answer(self, outputs: dict[str, str]) -> str:
        """A case in the middle of it: protected and preserved, and somebody is asked before it is contained."""
        self.suspect = plant.plant(self.aws.client, self.aws.region, instance_id="i-0a1b2c3d4e5f67890")
        states = self.aws.client("stepfunctions")
        request = json.dumps({"instanceId": self.suspect["instanceId"], "approve": "ask"})
        execution = states.start_execution(stateMachineArn=outputs["ContainStateMachineArn"], input=request)["executionArn"]
        deadline = time.monotonic() + 120
        while not (waits := [key for key in self.case_file() if key.endswith("/approval/token")]) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.assertTrue(waits, states.describe_execution(executionArn=execution))
        self.case = waits[0].split("/")[1]
        self.assertEqual(self.groups(), [self.suspect["productionGroupId"]])
        return execution

    def case_file(self) -> list[str]:
        pages = self.aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix="cases/")
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def groups(self) -> list[str]:
        found = self.aws.client("ec2").describe_instances(InstanceIds=[self.suspect["instanceId"]])
        return [group["GroupId"] for group in found["Reservations"][0]["Instances"][0]["SecurityGroups"]]

    def the_run_goes_on_with_the_new_functions(self, execution: str) -> None:
        states = self.aws.client("stepfunctions")
        self.assertEqual(states.describe_execution(executionArn=execution)["status"], "RUNNING")
        environment = {**os.environ, **self.aws.environment()}
        answer = [str(BINARIES / "stasis"), "approve", self.case, "--reason", "it is one"]
        said = subprocess.run(answer, env=environment, capture_output=True, text=True)
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
        deadline = time.monotonic() + 180
        while (told := states.describe_execution(executionArn=execution))["status"] == "RUNNING" and time.monotonic() < deadline:
            time.sleep(0.2)
        self.assertEqual(told["status"], "SUCCEEDED", told)
        (instance,) = json.loads(told["output"])["instances"]
        # Its memory is missing, as the collector of this test is none.
        undone = {stage for stage, outcome in instance["stages"].items() if outcome["status"] != "DONE"}
        self.assertLessEqual(undone, {"memory", "verify"}, instance["stages"])
        self.assertNotIn(self.suspect["productionGroupId"], self.groups())
        # From the change on the case file is kept as it says now, and what was there stays as it was.
        heads = {name: self.aws.client("s3").head_object(Bucket=self.bucket, Key=f"cases/{self.case}/{name}") for name in ("case.json", "manifest.json")}
        self.assertEqual({name: head["ObjectLockMode"] for name, head in heads.items()}, {"case.json": "GOVERNANCE", "manifest.json": "COMPLIANCE"})

    def an_upgrade_keeps_what_was_chosen(self) -> None:
        (self.temporary / "answers.json").unlink()
        binary = self.temporary / "binaries/protect"
        binary.write_text(binary.read_text() + "# newer\n")
        package.package(ROOT / "infra", binary.parent, self.temporary / "collectors", self.temporary / "dist", any_machine=True)
        functions = self.aws.client("lambda")
        before = {s: functions.get_function_configuration(FunctionName=f"stasis-{s}")["CodeSha256"] for s in STAGES}
        code, output = self.deploy("Egress=none", "CaseFileLock=compliance")
        self.assertEqual(code, 0, output)
        kept = self.aws.client("s3").get_object_lock_configuration(Bucket=self.bucket)["ObjectLockConfiguration"]["Rule"]
        self.assertEqual(kept["DefaultRetention"], {"Mode": "COMPLIANCE", "Days": 30})
        self.assertIn("1 new functions", output)
        self.assertIn("1 executions go on", output)
        self.assertIn("Egress: 'endpoints' becomes 'none'", output)
        self.assertNotIn("Decision:", output)
        after = {s: functions.get_function_configuration(FunctionName=f"stasis-{s}") for s in STAGES}
        self.assertEqual([s for s in STAGES if after[s]["CodeSha256"] != before[s]], ["protect"])
        variables = after["quarantine"]["Environment"]["Variables"]
        self.assertEqual((variables["STASIS_EGRESS"], variables["STASIS_RETENTION_DAYS"]), ("none", "30"))
        self.assertEqual(after["triage"]["Environment"]["Variables"]["STASIS_DECISION"], "preserve")

    def an_organisation_may_forward_findings(self) -> None:
        events = self.aws.client("events")
        self.assertNotIn("Policy", events.describe_event_bus(Name="stasis-findings"))
        code, output = self.deploy("OrganizationId=o-a1b2c3d4e5")
        self.assertEqual(code, 0, output)
        (statement,) = json.loads(events.describe_event_bus(Name="stasis-findings")["Policy"])["Statement"]
        self.assertEqual(statement["Condition"], {"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}})
        self.assertEqual((statement["Action"], statement["Principal"]), ("events:PutEvents", "*"))
        self.assertNotIn("FindingRule", self.resources(install.MEMBER), "Stasis' own account forwards nothing")
        # Another account: what forwards is there, aims at that bus, and may.
        account = local_stack.MEMBER_ACCOUNT
        formation, events = (self.aws.client(service, account=account) for service in ("cloudformation", "events"))
        s3 = self.aws.client("s3", account=account)
        place = {"CreateBucketConfiguration": {"LocationConstraint": self.aws.region}}
        s3.create_bucket(Bucket="templates-of-a-member", **place)
        s3.put_object(Bucket="templates-of-a-member", Key="member.yaml", Body=(self.temporary / "dist/member.yaml").read_bytes())
        values = {"HubAccount": self.aws.account, "HubRegion": self.aws.region, "EvidenceBucket": "the-evidence-bucket"}
        member = {
            "StackName": install.MEMBER,
            "TemplateURL": f"{self.aws.ministack_url}/templates-of-a-member/member.yaml",
            "Capabilities": ["CAPABILITY_NAMED_IAM"],
        }
        with self.assertRaisesRegex(Exception, "EvidenceBucket is needed everywhere but in Stasis' own account and Region"):
            formation.create_stack(**member, Parameters=[{"ParameterKey": "HubAccount", "ParameterValue": self.aws.account}])
        formation.create_stack(**member, Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in values.items()])
        formation.get_waiter("stack_create_complete").wait(StackName=install.MEMBER, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        made = formation.describe_stack_resources(StackName=install.MEMBER)["StackResources"]
        self.assertEqual({r["LogicalResourceId"] for r in made}, set(templates.read(ROOT / "infra/member.yaml")["Resources"]))
        (target,) = events.list_targets_by_rule(Rule="stasis-forward-findings")["Targets"]
        bus = self.aws.client("events").describe_event_bus(Name="stasis-findings")["Arn"]
        self.assertEqual(target["Arn"], bus)
        self.assertIn("arn:aws:iam::" + account, target["RoleArn"])
        self.assertIn("arn:aws:sqs:" + self.aws.region + ":" + account, target["DeadLetterConfig"]["Arn"])

    def a_further_region_of_its_own_account_gets_the_roles(self) -> None:
        """All but the profile of quarantined instances, which the stack in Stasis' own Region has made."""
        formation = self.aws.client("cloudformation", region=local_stack.FURTHER_REGION)
        values = {"HubAccount": self.aws.account, "HubRegion": self.aws.region, "ProfileRegion": self.aws.region}
        bucket, key = f"stasis-artefacts-{self.aws.account}-{self.aws.region}", "stasis/for-another-region/member.yaml"
        self.aws.client("s3").put_object(Bucket=bucket, Key=key, Body=(self.temporary / "dist/member.yaml").read_bytes())
        member = {
            "StackName": install.MEMBER,
            "TemplateURL": f"{self.aws.ministack_url}/{bucket}/{key}",
            "Capabilities": ["CAPABILITY_NAMED_IAM"],
        }
        with self.assertRaisesRegex(Exception, "EvidenceBucket is needed everywhere but in Stasis' own account and Region"):
            formation.create_stack(**member, Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in values.items()])
        values["EvidenceBucket"] = self.bucket
        formation.create_stack(**member, Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in values.items()])
        formation.get_waiter("stack_create_complete").wait(StackName=install.MEMBER, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        made = formation.describe_stack_resources(StackName=install.MEMBER)["StackResources"]
        left_out = {"QuarantineInstanceProfile", "QuarantineInstanceRole"}
        self.assertEqual({r["LogicalResourceId"] for r in made}, set(templates.read(ROOT / "infra/member.yaml")["Resources"]) - left_out)
        roles = {role["RoleName"] for page in self.aws.client("iam", hub=True).get_paginator("list_roles").paginate() for role in page["Roles"]}
        self.assertIn(f"stasis-spoke-quarantine-{local_stack.FURTHER_REGION}", roles)
        formation.delete_stack(StackName=install.MEMBER)
        formation.get_waiter("stack_delete_complete").wait(StackName=install.MEMBER, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    def evidence_is_never_replaced(self) -> None:
        """A package whose template has another evidence bucket is refused, and nothing of it is carried out."""
        folder = self.temporary / "dist"
        hub = json.loads((folder / "hub.json").read_text())
        before = self.resources(install.HUB)
        hub["Resources"]["EvidenceBucket"]["Properties"]["BucketName"] = "another-name"
        content = json.dumps(hub).encode()
        sums = (folder / "SHA256SUMS").read_text()
        original = (folder / "hub.json").read_bytes()
        (folder / "hub.json").write_bytes(content)
        (folder / "SHA256SUMS").write_text(sums.replace(hashlib.sha256(original).hexdigest(), hashlib.sha256(content).hexdigest()))
        code, output = self.deploy()
        self.assertEqual(code, 1, output)
        self.assertIn("would replace or drop EvidenceBucket", output)
        self.assertEqual(self.resources(install.HUB), before)
        (folder / "hub.json").write_bytes(original)
        (folder / "SHA256SUMS").write_text(sums)

    def an_open_case_keeps_it_from_being_removed(self, outputs: dict[str, str]) -> None:
        s3, bucket = self.aws.client("s3"), outputs["EvidenceBucket"]
        key = "open/111122223333/eu-central-1/i-0a1b2c3d4e5f67890.json"
        self.assertTrue(s3.head_object(Bucket=bucket, Key=key), "the case of before is open")
        code, output = self.installer("uninstall", "--account", self.aws.account)
        self.assertEqual(code, 1, output)
        self.assertIn("a case is open for 111122223333/eu-central-1/i-0a1b2c3d4e5f67890", output)
        self.assertIn("nothing was removed", output)
        s3.delete_object(Bucket=bucket, Key=key)
        for arguments in ([], ["--account", "999999999999"]):
            code, output = self.installer("uninstall", *arguments)
            self.assertEqual(code, 1, output)
            self.assertIn("nothing was removed: ACCOUNT=111122223333", output)
        self.assertTrue(self.resources(install.HUB))

    def removed_but_for_evidence(self, outputs: dict[str, str]) -> None:
        hub, member = self.resources(install.HUB), self.resources(install.MEMBER)
        code, output = self.installer("uninstall", "--account", self.aws.account)
        self.assertEqual(code, 0, output + self.aws.last_lines())
        for stays in (hub["EvidenceBucket"], hub["AccessLogs"], hub["EvidenceKey"], hub["SigningKey"], member["SnapshotKey"], member["FlowLogs"]):
            self.assertIn(stays, output)
        self.assertEqual(set(self.buckets()), {outputs["EvidenceBucket"], hub["AccessLogs"]})
        self.assertIn("locked for 30 days (compliance mode)", output)
        listed = self.aws.client("s3").list_objects_v2(Bucket=outputs["EvidenceBucket"], Prefix="tools/collector/")
        self.assertEqual(listed["KeyCount"], 2)
        self.assertEqual(self.aws.client("lambda").list_functions()["Functions"], [])
        self.assertEqual(self.aws.client("stepfunctions").list_state_machines()["stateMachines"], [])
        groups = {group["logGroupName"] for group in self.aws.client("logs").describe_log_groups()["logGroups"]}
        self.assertIn("/stasis/flow-logs", groups)
        code, output = self.installer("uninstall", "--account", self.aws.account)
        self.assertEqual(code, 1, output)
        self.assertIn("there is no stack", output)

    def it_can_be_deployed_again(self, outputs: dict[str, str]) -> None:
        """What stayed under a fixed name is taken over, and the evidence of before is not touched."""
        code, output = self.deploy()
        self.assertEqual(code, 0, output + self.aws.last_lines())
        self.assertIn("1 taken over", output)
        self.assertEqual(self.resources(install.MEMBER)["FlowLogs"], "/stasis/flow-logs")
        self.assertNotEqual(self.resources(install.HUB)["EvidenceBucket"], outputs["EvidenceBucket"])
        self.assertIn(outputs["EvidenceBucket"], self.buckets())
        # The key that signs is another one; that of before is what the cases of before are checked with.
        self.assertIn("the signing key is ANOTHER", output)
        self.assertEqual(len(list(self.temporary.glob("signing-key-*.pem"))), 2)


if __name__ == "__main__":
    program = unittest.main(exit=False, verbosity=1)
    ran, wrong = program.result.testsRun, len(program.result.failures) + len(program.result.errors)
    print(f"{ran - wrong} passed, {wrong} failed")
    sys.exit(1 if wrong else 0)
