"""What AWS' own validator and a security scanner say of infra/: nothing, but for what is suppressed with a reason.

Each must also find a defect that is put into a copy. Nothing is reached but this machine.

    SAM=… CHECKOV=… python tests/infra/test_validators.py    (the programs; make test installs both)
"""

from __future__ import annotations

import fnmatch
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
sys.path.insert(0, str(INFRA))
from installer import templates  # noqa: E402

SAM, CHECKOV = os.environ.get("SAM", "sam"), os.environ.get("CHECKOV", "checkov")
SUPPRESSED = json.loads((pathlib.Path(__file__).parent / "validators/suppressed.json").read_text(encoding="utf-8"))
PLAIN = ("member.yaml", "evidence-account.yaml", "examine.yaml")


class Validators(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def ask(self, *command: str) -> subprocess.CompletedProcess[str]:
        variables = {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-central-1", "HOME": str(self.folder), "LOG_LEVEL": "ERROR"}
        return subprocess.run(command, env={**os.environ, **variables}, cwd=self.folder, capture_output=True, text=True, timeout=300)

    # -- sam validate ------------------------------------------------------------------------------------------------

    def validated(self, template: pathlib.Path) -> subprocess.CompletedProcess[str]:
        return self.ask(SAM, "validate", "--lint", "--template-file", str(template), "--region", "eu-central-1")

    def test_sam_finds_the_template_valid(self) -> None:
        said = self.validated(INFRA / "template.yaml")
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
        self.assertIn("is a valid SAM Template", said.stdout)

    def test_sam_finds_a_misspelt_property_and_a_reference_to_nothing(self) -> None:
        text = (INFRA / "template.yaml").read_text(encoding="utf-8")
        for right, wrong in (("MessageRetentionPeriod:", "MessageRetentionPeriode:"), ("!GetAtt EvidenceKey.Arn", "!GetAtt EvidenceKeys.Arn")):
            broken = self.folder / "template.yaml"
            broken.write_text(text.replace(right, wrong, 1), encoding="utf-8")
            said = self.validated(broken)
            self.assertNotEqual(said.returncode, 0, wrong)
            self.assertIn(wrong.rstrip(":").removeprefix("!GetAtt ").split(".")[0], said.stdout + said.stderr)

    # -- checkov -----------------------------------------------------------------------------------------------------

    def scanned(self, template: dict[str, object]) -> list[tuple[str, str]]:
        """What fails: the check, and the file with the resource."""
        (self.folder / "hub.json").write_text(json.dumps(template, indent=1), encoding="utf-8")
        for name in PLAIN:
            shutil.copy(INFRA / name, self.folder)
        (self.folder / "terraform").mkdir()
        for file in (INFRA / "terraform").glob("*.tf"):
            shutil.copy(file, self.folder / "terraform")
        frameworks = ("--framework", "cloudformation", "terraform")
        said = self.ask(CHECKOV, "--directory", ".", *frameworks, "--compact", "--skip-download", "--output", "json")
        self.assertTrue(said.stdout, said.stderr)
        failed, looked_at = [], set()
        for report in json.loads(said.stdout):
            self.assertEqual(report["summary"]["parsing_errors"], 0, report["results"].get("parsing_errors"))
            for result in report["results"]["failed_checks"] + report["results"]["passed_checks"]:
                of = pathlib.PurePosixPath(result["file_path"].lstrip("/"))
                file = "terraform" if of.suffix == ".tf" else of.name
                looked_at.add(file)
                if result["check_result"]["result"] == "FAILED":
                    failed.append((result["check_id"], f"{file}: {result['resource']}"))
        self.assertEqual(looked_at, {"hub.json", *PLAIN, "terraform"}, said.stderr)
        return failed

    def plain(self) -> dict[str, object]:
        return templates.plain(INFRA, lambda stage: f"functions/{stage}.zip")

    def test_checkov_finds_what_is_suppressed_with_a_reason_and_nothing_else(self) -> None:
        found, used = self.scanned(self.plain()), set()
        for check, resource in found:
            by = [
                (check, pattern) for one in SUPPRESSED if one["check"] == check for pattern in one["resources"] if fnmatch.fnmatchcase(resource, pattern)
            ]
            self.assertTrue(by, f"{check} of {resource} is not suppressed")
            used |= set(by)
        for one in SUPPRESSED:
            self.assertGreater(len(one["reason"].split()), 5, one)
            for pattern in one["resources"]:
                self.assertIn((one["check"], pattern), used, "suppresses nothing")

    def test_checkov_finds_defects(self) -> None:
        template = self.plain()
        resources = template["Resources"]
        resources["DetachLogs"]["Properties"].pop("KmsKeyId")
        resources["EvidenceBucket"]["Properties"]["PublicAccessBlockConfiguration"]["BlockPublicPolicy"] = False
        resources["EvidenceKey"]["Properties"]["EnableKeyRotation"] = False
        resources["ProtectRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].append({"Effect": "Allow", "Action": "*", "Resource": "*"})
        found = self.scanned(template)
        for defect in (
            ("CKV_AWS_158", "hub.json: AWS::Logs::LogGroup.DetachLogs"),
            ("CKV_AWS_54", "hub.json: AWS::S3::Bucket.EvidenceBucket"),
            ("CKV_AWS_7", "hub.json: AWS::KMS::Key.EvidenceKey"),
            ("CKV_AWS_107", "hub.json: AWS::IAM::Role.ProtectRole"),
        ):
            self.assertIn(defect, found)


if __name__ == "__main__":
    program = unittest.main(exit=False, verbosity=1)
    ran, wrong = program.result.testsRun, len(program.result.failures) + len(program.result.errors)
    print(f"{ran - wrong} passed, {wrong} failed")
    sys.exit(1 if wrong else 0)
