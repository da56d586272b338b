"""Starts the two emulators, deploys the project's own template to them, and ends everything again.

The emulators are children of a keeper process and listen on sockets that this process binds itself, on the loopback
address: so what answers on a port is our child, and nothing outlives us. It never uses the caller's AWS credentials,
profile or region, and never reaches AWS.
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import hashlib
import io
import json
import os
import pathlib
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from typing import Any, Callable

from . import fake_memory, record

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
ACCOUNT = "111122223333"
REGION = "eu-central-1"
STACK = "stasis"
CODE_BUCKET = "stasis-local-code"
QUARANTINE_PROFILE = "stasis-quarantine"
# Where copies of snapshots are kept.
DESTINATION_ACCOUNT = "222233334444"
# An account whose instances Stasis contains from its own.
MEMBER_ACCOUNT = "333344445555"
# The region besides its own in which Stasis' own account has the roles of member.yaml.
FURTHER_REGION = "eu-west-2"
# A region of the member's account that has roles and no instance.
EMPTY_REGION = "eu-north-1"
DESTINATION_REGION = "eu-west-1"

# The services whose world is moto's; names as the AWS SDKs define them (AWS_ENDPOINT_URL_<service id>).
MOTO_SERVICES = {
    "ec2": "EC2",
    "autoscaling": "AUTO_SCALING",
    "elb": "ELASTIC_LOAD_BALANCING",
    "elbv2": "ELASTIC_LOAD_BALANCING_V2",
    "ssm": "SSM",
    "iam": "IAM",
    "cloudtrail": "CLOUDTRAIL",
    # The keys of volumes and snapshots; the keys of the stack's own bucket and logs stay inside MiniStack.
    "kms": "KMS",
    "accessanalyzer": "ACCESSANALYZER",
}


class LocalAwsError(Exception):
    """What went wrong, in words for the person at the terminal."""


class LocalAws:
    def __init__(
        self,
        directory: pathlib.Path,
        binaries: pathlib.Path | None = None,
        wait_scale: float = 1.0,
        verbose: bool = False,
        account: str = ACCOUNT,
        region: str = REGION,
        token: str | None = None,
        copy_binaries: bool = False,
        through: Callable[[str, str], dict[str, str]] | None = None,
        parameters: dict[str, str] | None = None,
        before: Callable[[str], str] | None = None,
    ) -> None:
        """`parameters` of the template besides those that every local AWS sets. `through` is told where the emulators answer
        (MiniStack, moto) and says by which variables the functions are to reach them instead. `before` gives a line of the shell
        that a function, by its stage, is started after."""
        self.directory = directory.resolve()
        self.binaries = binaries.resolve() if binaries else None
        self.copy_binaries = copy_binaries
        self.wait_scale = wait_scale
        self.verbose = verbose
        self.account = account
        self.region = region
        self.token = token or secrets.token_hex(16)
        self.through = through
        self.parameters = parameters or {}
        self.before = before or (lambda _: ":")
        self.outputs: dict[str, str] = {}
        self.settings: dict[str, str] = {}
        self.keeper: subprocess.Popen[bytes] | None = None
        self._session: Any = None
        self.ministack_url = ""
        self.moto_url = ""

    def __enter__(self) -> LocalAws:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    # -- processes ---------------------------------------------------------------------------------------------------

    @property
    def logs(self) -> pathlib.Path:
        return self.directory / "logs"

    def environment(self) -> dict[str, str]:
        """What any AWS client needs to reach this local AWS and nothing else."""
        values = {
            "AWS_ENDPOINT_URL": self.ministack_url,
            **{f"AWS_ENDPOINT_URL_{name}": self.moto_url for name in MOTO_SERVICES.values()},
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            # Twelve digits as the key: both emulators take them as the account.
            "AWS_ACCESS_KEY_ID": self.account,
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1,localhost",
        }
        return values

    def spokes(self) -> list[str]:
        """Where the roles of infra/member.yaml are."""
        return [f"{MEMBER_ACCOUNT}/{self.region}", f"{MEMBER_ACCOUNT}/{EMPTY_REGION}", f"{self.account}/{FURTHER_REGION}"]

    def start(self) -> None:
        for folder in (self.directory, self.logs, self.directory / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.directory / "lock", "w", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise LocalAwsError(f"a local AWS is running in {self.directory} already") from None
        for log in self.logs.glob("*.log"):
            log.unlink()
        ministack, moto = bound_socket(), bound_socket()
        ministack_port, moto_port = ministack.getsockname()[1], moto.getsockname()[1]
        self.ministack_url = f"http://127.0.0.1:{ministack_port}"
        self.moto_url = f"http://127.0.0.1:{moto_port}"
        common = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.directory / "tmp"),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.directory / "tmp"),
            "PYTHONPATH": str(TESTS),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.environment(),
        }
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", record.FOLDER):
            if name in os.environ:
                common[name] = os.environ[name]
        specification = [
            {
                "name": "MiniStack",
                "argv": [sys.executable, "-m", "local.ministack_server", str(ministack.fileno()), self.account, *self.spokes()],
                "env": {
                    **common,
                    "GATEWAY_PORT": str(ministack_port),
                    "MINISTACK_HOST": "127.0.0.1",
                    "MINISTACK_ACCOUNT_ID": self.account,
                    "MINISTACK_REGION": self.region,
                    "BIND_HOST": "127.0.0.1",
                    "IOT_MTLS_ENABLED": "0",
                    "SFTP_ENABLED": "0",
                    "SFN_WAIT_SCALE": str(self.wait_scale),
                    "LOG_LEVEL": "INFO" if self.verbose else "WARNING",
                    **(self.through(self.ministack_url, self.moto_url) if self.through else {}),
                },
                "cwd": str(self.directory),
                "log": str(self.logs / "ministack.log"),
                "fd": ministack.fileno(),
            },
            {
                "name": "moto",
                "argv": [
                    *(sys.executable, "-m", "local.moto_server"),
                    *("--fd", str(moto.fileno()), "--account", self.account, "--ministack", self.ministack_url),
                    *(["--verbose"] if self.verbose else []),
                ],
                "env": {
                    **common,
                    "STASIS_LOCAL_TOKEN": self.token,
                    "STASIS_LOCAL_TIME_SCALE": str(self.wait_scale),
                    # Two images in place of moto's thousands: they are loaded and searched in no time.
                    "MOTO_AMIS_PATH": str(TESTS / "local" / "images.json"),
                },
                "cwd": str(self.directory),
                "log": str(self.logs / "moto.log"),
                "fd": moto.fileno(),
            },
        ]
        with open(self.logs / "keeper.log", "ab") as log:
            self.keeper = subprocess.Popen(
                [sys.executable, "-m", "local.keeper"],
                env={"PATH": common["PATH"], "PYTHONPATH": str(TESTS), "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[ministack.fileno(), moto.fileno()],
                start_new_session=True,
            )
        ministack.close()
        moto.close()
        assert self.keeper.stdin is not None
        try:
            self.keeper.stdin.write(json.dumps(specification).encode() + b"\n")
            self.keeper.stdin.flush()
        except BrokenPipeError:
            pass
        self._wait_until_answering()

    def _wait_until_answering(self) -> None:
        deadline = time.monotonic() + 60
        pending = {f"{self.ministack_url}/_ministack/ready", f"{self.moto_url}/local/token"}
        while pending:
            for url in sorted(pending):
                self.require_running()
                try:
                    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as reply:
                        body = reply.read()
                except (urllib.error.URLError, OSError):
                    continue
                if url.endswith("/local/token") and json.loads(body)["token"] != self.token:
                    raise LocalAwsError(f"another process answers at {self.moto_url}")
                pending.discard(url)
            if pending and time.monotonic() > deadline:
                raise LocalAwsError(f"no answer from {', '.join(sorted(pending))} in 60 s (logs: {self.logs})")
            if pending:
                time.sleep(0.05)

    def running(self) -> bool:
        return self.keeper is not None and self.keeper.poll() is None

    def require_running(self) -> None:
        if not self.running():
            raise LocalAwsError(f"an emulator ended by itself (logs: {self.logs})")

    def stop(self) -> None:
        keeper, self.keeper = self.keeper, None
        if keeper is None:
            return
        if keeper.stdin:
            keeper.stdin.close()
        try:
            keeper.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pass
        # The keeper leads a session of its own; if it was killed, its group is all that is left of it.
        try:
            os.killpg(keeper.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        keeper.wait()
        shutil.rmtree(self.directory / "tmp", ignore_errors=True)
        self._lock.close()

    # -- clients -----------------------------------------------------------------------------------------------------

    def client(
        self, service: str, region: str | None = None, account: str | None = None, beside: bool = False, hub: bool = False
    ) -> Any:
        """For a service that both emulators have: `beside` as it is beside the suspect, `hub` as the stack has it."""
        import boto3
        from botocore.config import Config

        if self._session is None:
            self._session = boto3.Session(
                aws_access_key_id=self.account, aws_secret_access_key="local", region_name=self.region
            )
        other = {"aws_access_key_id": account, "aws_secret_access_key": "local"} if account else {}
        return self._session.client(
            service,
            **other,
            region_name=region or self.region,
            endpoint_url=self.moto_url if beside or (service in MOTO_SERVICES and not hub) else self.ministack_url,
            config=Config(
                proxies={}, read_timeout=120, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
            ),
        )

    def control(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """The control endpoint of the moto process (see moto_server)."""
        request = urllib.request.Request(
            f"{self.moto_url}{path}", method=method, data=json.dumps(body).encode() if body is not None else None
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
            return json.loads(reply.read())

    # -- deployment --------------------------------------------------------------------------------------------------

    def deploy(self, template: pathlib.Path | None = None, report_language: str = "en") -> None:
        template = template or ROOT / "infra" / "template.yaml"
        if not template.is_file():
            raise LocalAwsError(f"there is no template at {template}")
        if self.binaries is None:
            raise LocalAwsError("no folder of binaries was given")
        body = load_template(template)
        s3 = self.client("s3")
        s3.create_bucket(
            Bucket=CODE_BUCKET,
            **(
                {}
                if self.region == "us-east-1"
                else {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
            ),
        )
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda item: self._package(s3, template, *item), body["Resources"].items()))
        s3.put_object(Bucket=CODE_BUCKET, Key="template.json", Body=json.dumps(body).encode())
        formation = self.client("cloudformation")
        collector = (self.binaries / "stasis-collector").read_bytes()
        collector_hash = hashlib.sha256(collector).hexdigest()
        parameters = {
            # Every simulated host runs on this machine, whatever its instance says.
            "CollectorX8664": collector_hash,
            "CollectorArm64": collector_hash,
            "WindowsTool": hashlib.sha256(fake_memory.WINDOWS_TOOL).hexdigest(),
            "DestinationAccount": DESTINATION_ACCOUNT,
            "DestinationRegion": DESTINATION_REGION,
            "RequestSources": "example.edr",
            "Drills": "on",
            # The demo and the samples in events/ are to be contained, however old the samples have become.
            "Decision": "contain",
            "OldestFindingHours": "87600",
            # So that a slow machine does not find the clock at work among the tests, which ask for it themselves.
            "OpenCasesSchedule": "rate(1 day)",
            "ReportLanguage": report_language,
            **self.parameters,
        }
        formation.create_stack(
            StackName=STACK,
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
            TemplateURL=f"{self.ministack_url}/{CODE_BUCKET}/template.json",
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        deadline = time.monotonic() + 60
        while True:
            self.require_running()
            stack = formation.describe_stacks(StackName=STACK)["Stacks"][0]
            if stack["StackStatus"] == "CREATE_COMPLETE":
                break
            if not stack["StackStatus"].endswith("IN_PROGRESS") or time.monotonic() > deadline:
                raise LocalAwsError(f"the stack is {stack['StackStatus']}: {self._why(formation, stack)}")
            time.sleep(0.1)
        self.outputs = {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}
        record.deployed({"account": self.account, "region": self.region, "parameters": parameters, "outputs": self.outputs})
        # What `make package` puts there for a real account.
        for tool in (collector, fake_memory.WINDOWS_TOOL):
            s3.put_object(
                Bucket=self.outputs["EvidenceBucket"],
                Key=f"tools/collector/{hashlib.sha256(tool).hexdigest()}",
                Body=tool,
                ChecksumAlgorithm="SHA256",
            )
        self._create_member()
        self._show_roles()
        self.check()

    def _package(self, s3: Any, template: pathlib.Path, name: str, resource: dict[str, Any]) -> None:
        """What `sam package` does: local paths become objects in S3."""
        properties = resource.get("Properties", {})
        code = properties.get("CodeUri")
        if resource["Type"] == "AWS::Serverless::Function" and isinstance(code, str):
            stage = pathlib.PurePath(code).name
            key = f"functions/{stage}.zip"
            s3.put_object(Bucket=CODE_BUCKET, Key=key, Body=self._zip(stage))
            properties["CodeUri"] = {"Bucket": CODE_BUCKET, "Key": key}
        definition = properties.get("DefinitionUri")
        if resource["Type"] == "AWS::Serverless::StateMachine" and isinstance(definition, str):
            key = f"definitions/{pathlib.PurePath(definition).name}"
            text = (template.parent / definition).read_text(encoding="utf-8")
            s3.put_object(Bucket=CODE_BUCKET, Key=key, Body=text.encode())
            properties["DefinitionUri"] = {"Bucket": CODE_BUCKET, "Key": key}

    def _zip(self, stage: str) -> bytes:
        assert self.binaries is not None
        binary = self.binaries / stage
        if not binary.is_file():
            raise LocalAwsError(f"there is no binary for the stage {stage} in {self.binaries}: build first")
        if self.copy_binaries:
            content = binary.read_bytes()
        else:
            # Eight debug binaries travel through the emulator in 15 s and a gigabyte; a line that becomes the binary
            # takes none. What runs is the same file either way.
            content = f"#!/bin/sh\n{self.before(stage)}\nexec {shlex.quote(str(binary))}\n".encode()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, content)
        return buffer.getvalue()

    def _why(self, formation: Any, stack: dict[str, Any]) -> str:
        events = formation.describe_stack_events(StackName=STACK)["StackEvents"]
        reasons = [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
            for event in events
            if event["ResourceStatus"].endswith("FAILED")
        ]
        return "; ".join(reasons[:3]) or stack.get("StackStatusReason", "no reason given")

    def _create_member(self) -> None:
        """What infra/member.yaml puts beside the suspect, which here is moto's side, in each account that has instances."""
        for account, region in ((self.account, self.region), (MEMBER_ACCOUNT, self.region), (self.account, FURTHER_REGION)):
            # First the Command documents.
            ssm = self.client("ssm", account=account, region=region)
            for path in sorted((ROOT / "infra" / "ssm").glob("*.json")):
                name = "Stasis-" + "".join(part.capitalize() for part in path.stem.split("-"))
                ssm.create_document(
                    Name=name, Content=path.read_text(encoding="utf-8"), DocumentType="Command", DocumentFormat="JSON"
                )
            # The log group of flow logs.
            self.client("logs", account=account, region=region, beside=True).create_log_group(logGroupName="/stasis/flow-logs")
            # The key, which lets the account of the copies use it.
            both = [f"arn:aws:iam::{account}:root", f"arn:aws:iam::{DESTINATION_ACCOUNT}:root"]
            self.create_key(self.client("kms", account=account, region=region), "stasis-snapshots", both)
            # And the profile of quarantined instances, which belongs to the whole account.
            if region != self.region:
                continue
            iam = self.client("iam", account=account)
            role = load_template(ROOT / "infra" / "member.yaml")["Resources"]["QuarantineInstanceRole"]
            trust = json.dumps(role["Properties"]["AssumeRolePolicyDocument"]).replace("${AWS::URLSuffix}", "amazonaws.com")
            iam.create_role(RoleName=QUARANTINE_PROFILE, AssumeRolePolicyDocument=trust)
            iam.create_instance_profile(InstanceProfileName=QUARANTINE_PROFILE)
            iam.add_role_to_instance_profile(InstanceProfileName=QUARANTINE_PROFILE, RoleName=QUARANTINE_PROFILE)
        there = self.client("kms", DESTINATION_REGION, DESTINATION_ACCOUNT)
        self.create_key(there, "stasis-evidence-copies", [f"arn:aws:iam::{DESTINATION_ACCOUNT}:root"])

    def _show_roles(self) -> None:
        """The roles of the functions, which the stack made in MiniStack, for moto's IAM to be asked about."""
        made, shown = self.client("iam", hub=True), self.client("iam")
        for role in (role for page in made.get_paginator("list_roles").paginate() for role in page["Roles"]):
            if role["Path"] != "/stasis/":
                continue
            name = role["RoleName"]
            shown.create_role(Path=role["Path"], RoleName=name, AssumeRolePolicyDocument=json.dumps(role["AssumeRolePolicyDocument"]))
            for policy in made.list_role_policies(RoleName=name)["PolicyNames"]:
                document = made.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
                text = document if isinstance(document, str) else json.dumps(document)
                shown.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=text)

    def create_key(self, kms: Any, alias: str, principals: list[str]) -> None:
        statement = {"Effect": "Allow", "Principal": {"AWS": principals}, "Action": "kms:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        key = kms.create_key(Policy=policy)["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName=f"alias/{alias}", TargetKeyId=key)

    def check(self) -> None:
        """A deployment is judged by what it does: an emulator may call a stack complete that lacks half of it."""
        formation, functions = self.client("cloudformation"), self.client("lambda")
        events, s3 = self.client("events"), self.client("s3")
        resources = formation.describe_stack_resources(StackName=STACK)["StackResources"]
        by_type: dict[str, list[str]] = {}
        for item in resources:
            by_type.setdefault(item["ResourceType"], []).append(item["PhysicalResourceId"])
        names = by_type.get("AWS::Lambda::Function", [])
        rules = by_type.get("AWS::Events::Rule", [])
        if not names or not rules or not by_type.get("AWS::StepFunctions::StateMachine"):
            raise LocalAwsError(f"the stack lacks functions, rules or state machines: it has {sorted(by_type)}")

        def invoke(name: str) -> None:
            # An empty input is refused by the function itself, which is all that is asked here; it also warms it up.
            reply = functions.invoke(FunctionName=name, Payload=b"{}")
            body = reply["Payload"].read().decode("utf-8", "replace")
            if '"Runtime.' in body or '"Sandbox.' in body or "Mock response" in body:
                raise LocalAwsError(f"the function {name} cannot be invoked: {body[:300]}")

        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(invoke, names))
        aimed = {
            rule["Name"]
            for bus in events.list_event_buses()["EventBuses"]
            for rule in events.list_rules(EventBusName=bus["Name"])["Rules"]
            if events.list_targets_by_rule(Rule=rule["Name"], EventBusName=bus["Name"])["Targets"]
        }
        for rule in rules:
            rule = rule.split("|")[-1].split("/")[-1]
            if rule not in aimed:
                raise LocalAwsError(f"the rule {rule} has no target")
        bucket = self.outputs.get("EvidenceBucket")
        if not bucket:
            raise LocalAwsError("the stack has no output EvidenceBucket")
        try:
            lock = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
        except Exception as error:
            raise LocalAwsError(f"the evidence bucket has no Object Lock: {error}") from None
        if lock.get("ObjectLockEnabled") != "Enabled":
            raise LocalAwsError("the evidence bucket has no Object Lock")
        for name in names:
            configuration = functions.get_function_configuration(FunctionName=name)
            for key, value in configuration.get("Environment", {}).get("Variables", {}).items():
                if key.startswith("STASIS_"):
                    self.settings[key] = value

    # -- the env file ------------------------------------------------------------------------------------------------

    def variables(self) -> dict[str, str]:
        values = self.environment()
        values.update(self.settings)
        for key, value in self.outputs.items():
            values["STASIS_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).upper()] = value
        if "NotificationTopicArn" in self.outputs:
            values.setdefault("STASIS_TOPIC_ARN", self.outputs["NotificationTopicArn"])
        for key, value in {
            "STASIS_OWNER": "SecurityTeam",
            "STASIS_EGRESS": "endpoints",
            "STASIS_CAPTURE_DOCUMENT": "Stasis-CaptureVolatile",
            "STASIS_CAPTURE_LIMIT_SECONDS": "600",
        }.items():
            values.setdefault(key, value)
        values["STASIS_LOCAL_CONTROL"] = self.moto_url
        return values

    def write_environment(self) -> pathlib.Path:
        path = self.directory / "env"
        lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(self.variables().items())]
        temporary = path.with_suffix(".new")
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.replace(path)
        return path

    def last_lines(self, count: int = 15) -> str:
        """The ends of the logs, for a failure message."""
        parts = []
        for log in sorted(self.logs.glob("*.log")):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
            if lines:
                parts.append(f"--- {log}\n" + "\n".join(lines))
        return "\n".join(parts)


def bound_socket() -> socket.socket:
    """A free port that is ours from this moment: nothing else can answer on it."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def load_template(path: pathlib.Path) -> dict[str, Any]:
    """The template with the short forms of intrinsic functions spelled out, so that it can travel as JSON."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    # Dates such as a policy's Version must stay the text that they are.
    Loader.yaml_implicit_resolvers = {
        key: [item for item in items if item[0] != "tag:yaml.org,2002:timestamp"]
        for key, items in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def spelled_out(loader: Any, suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            value: Any = loader.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            value = loader.construct_sequence(node, deep=True)
        else:
            value = loader.construct_mapping(node, deep=True)
        if suffix == "GetAtt" and isinstance(value, str):
            value = value.split(".", 1)
        return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}

    Loader.add_multi_constructor("!", spelled_out)
    # Loader is a SafeLoader: it builds plain values only.
    return yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506
