"""The Systems Manager agent of every instance of the local AWS, played by this process.

It runs the steps that SendCommand names, here and now, as child processes of this machine, and reports their true
status and output: so what a capture shows is this machine, not a guest. Only the memory is made up (fake_memory): a guest
kernel's is shown in a virtual machine (tests/vm). It never makes up output. The tag `local:agent` of an instance makes its agent offline, slow or lying (see `AGENTS`).
"""

from __future__ import annotations

import datetime
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time
from typing import Any

from . import fake_memory

AGENTS = {
    "online": "runs the steps and tells the truth",
    "slow": "runs the steps, and is In Progress for the first four polls",
    "lying": "claims success at once, without output and without a file in S3",
    "offline": "is registered but has lost its connection: the command is never delivered",
}
SLOW_POLLS = 4

# The agent's own limits (GetCommandInvocation and CommandPlugin in the API reference).
STDOUT_LIMIT = 24000
STDERR_LIMIT = 8000
OUTPUT_LIMIT = 2500
TRUNCATED = "--output truncated--"

# However long a step may run on a real host, here it must not hold up a test run.
STEP_LIMIT_SECONDS = float(os.environ.get("STASIS_LOCAL_STEP_LIMIT_SECONDS", "120"))
# Delivery time-outs shrink with the waits of the state machine, or an offline host would cost half a minute.
TIME_SCALE = float(os.environ.get("STASIS_LOCAL_TIME_SCALE", "1"))

PLATFORM_TYPES = {"linux": "Linux", "windows": "Windows", "macos": "MacOS"}
PLUGIN_FOLDERS = {"aws:runShellScript": "awsrunShellScript", "aws:runPowerShellScript": "awsrunPowerShellScript"}
PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z0-9_:.]+)\s*\}\}")


def utcnow() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def resolve_parameters(document: dict[str, Any], given: dict[str, list[str]]) -> dict[str, Any] | str:
    """The value of every parameter of the document, or the reason for which the command is refused."""
    declared = document.get("parameters", {})
    unknown = sorted(set(given) - set(declared))
    if unknown:
        return f"Parameter {unknown[0]} is not defined in the document."
    values: dict[str, Any] = {}
    for name, definition in declared.items():
        value: Any = given.get(name, definition.get("default"))
        if value is None:
            return f"Parameter {name} requires a value."
        if definition.get("type") == "StringList":
            value = value if isinstance(value, list) else [value]
        elif isinstance(value, list):
            value = value[0] if value else ""
        for item in value if isinstance(value, list) else [value]:
            pattern, allowed = definition.get("allowedPattern"), definition.get("allowedValues")
            if pattern and not re.search(pattern, str(item)):
                return f"Parameter {name} does not match the allowed pattern {pattern}."
            if allowed and item not in allowed:
                return f"Parameter {name} has a value that is not allowed."
        values[name] = value
    return values


class Command:
    """One SendCommand and what became of it on each instance."""

    def __init__(self, **fields: Any) -> None:
        self.command_id: str = fields["command_id"]
        self.account: str = fields["account"]
        self.region: str = fields["region"]
        self.document_name: str = fields["document_name"]
        self.document: dict[str, Any] = fields["document"]
        self.parameters: dict[str, list[str]] = fields["parameters"]
        self.values: dict[str, Any] = fields["values"]
        self.comment: str = fields["comment"]
        self.timeout_seconds: int = fields["timeout_seconds"]
        self.bucket: str = fields["bucket"]
        self.prefix: str = fields["prefix"]
        self.bucket_region: str = fields["bucket_region"]
        self.requested: datetime.datetime = fields["requested"]
        self.targets: list[dict[str, Any]] = fields["targets"]
        self.invocations: dict[str, Invocation] = {}

    def start(self, instance_id: str, agent: str, platform: str, eventual: bool, memory: tuple[str, int]) -> None:
        invocation = Invocation(self, instance_id, agent, platform, eventual)
        invocation.memory = memory
        self.invocations[instance_id] = invocation
        invocation.start()

    def describe(self, sent: bool = False) -> dict[str, Any]:
        states = [invocation.status()[0] for invocation in self.invocations.values()]
        done = [state for state in states if state in ("Success", "Failed", "TimedOut", "Cancelled")]
        bad = [state for state in done if state != "Success"]
        if sent or all(state == "Pending" for state in states):
            status = "Pending"
        elif len(done) < len(states):
            status = "InProgress"
        elif not bad:
            status = "Success"
        else:
            status = bad[0]
        return {
            "CommandId": self.command_id,
            "DocumentName": self.document_name,
            "DocumentVersion": "$DEFAULT",
            "Comment": self.comment,
            "ExpiresAfter": self.requested + datetime.timedelta(seconds=self.timeout_seconds),
            "Parameters": self.parameters,
            "InstanceIds": list(self.invocations),
            "Targets": self.targets,
            "RequestedDateTime": self.requested,
            "Status": status,
            "StatusDetails": status,
            "OutputS3Region": self.bucket_region,
            "OutputS3BucketName": self.bucket,
            "OutputS3KeyPrefix": self.prefix,
            "MaxConcurrency": "50",
            "MaxErrors": "0",
            "TargetCount": len(states),
            "CompletedCount": 0 if sent else len(done),
            "ErrorCount": 0 if sent else len(bad),
            "DeliveryTimedOutCount": 0
            if sent
            else sum(invocation.status()[1] == "DeliveryTimedOut" for invocation in self.invocations.values()),
            "ServiceRole": "",
            "TimeoutSeconds": self.timeout_seconds,
        }


class Step:
    """One step of the document on one instance."""

    def __init__(self, name: str, action: str) -> None:
        self.name = name
        self.action = action
        self.status = "Pending"
        self.details = "Pending"
        self.code = -1
        self.started: datetime.datetime | None = None
        self.ended: datetime.datetime | None = None
        self.stdout = ""
        self.stderr = ""
        self.note = ""
        self.stdout_url = ""
        self.stderr_url = ""

    def finish(self, status: str, details: str, code: int, ended: datetime.datetime | None = None) -> None:
        self.status, self.details, self.code = status, details, code
        self.started = self.started or utcnow()
        self.ended = ended or utcnow()

    def output(self) -> str:
        # The agent joins both streams in the plugin's short output.
        text = self.note or self.stdout + (f"\n----------ERROR-------\n{self.stderr}" if self.stderr else "")
        return cut(text, OUTPUT_LIMIT)


class Invocation:
    """One command on one instance."""

    def __init__(self, command: Command, instance_id: str, agent: str, platform: str, eventual: bool) -> None:
        self.command = command
        self.instance_id = instance_id
        self.agent = agent
        self.platform = platform
        self._eventual = eventual
        # What its kernel is like, and how much memory it has, in MiB (see fake_memory).
        self.memory = ("whole", 4)
        self._polls = 0
        self._cancelled = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._status = ("Pending", "Pending")
        self.steps: dict[str, Step] = {
            step["name"]: Step(step["name"], step["action"]) for step in command.document.get("mainSteps", [])
        }

    # -- what a caller sees ------------------------------------------------------------------------------------------

    def hidden(self) -> bool:
        """Run Command is eventually consistent: with the tag local:ssm-consistency, the first look finds nothing."""
        if self._eventual:
            self._eventual = False
            return True
        return False

    def status(self) -> tuple[str, str]:
        if self.agent == "offline" and self._status[0] == "Pending":
            waited = (utcnow() - self.command.requested).total_seconds()
            if waited >= max(1.0, self.command.timeout_seconds * TIME_SCALE):
                self._status = ("TimedOut", "DeliveryTimedOut")
        if self.agent == "slow" and self._polls <= SLOW_POLLS and self._status[0] in ("Success", "Failed"):
            return ("InProgress", "InProgress")
        return self._status

    def polled(self) -> tuple[str, str]:
        self._polls += 1
        return self.status()

    def visible(self, step: Step, status: tuple[str, str]) -> bool:
        return status[0] not in ("Pending", "InProgress") or (self.agent != "slow" and step.ended is not None)

    def describe_step(self, name: str | None) -> dict[str, Any]:
        status = self.polled()
        common = {
            "CommandId": self.command.command_id,
            "InstanceId": self.instance_id,
            "Comment": self.command.comment,
            "DocumentName": self.command.document_name,
            "DocumentVersion": "$DEFAULT",
        }
        if name is None and len(self.steps) == 1:
            name = next(iter(self.steps))
        # The step's name may be left out only if there is one; that several then give the overall status without
        # output is believed, not documented.
        step = self.steps[name] if name else None
        if step is None or not self.visible(step, status):
            ended = status[0] in ("Success", "Failed")
            return {
                **common,
                "PluginName": name or "",
                "ResponseCode": 0 if status[0] == "Success" else -1,
                "ExecutionStartDateTime": "",
                "ExecutionElapsedTime": "",
                "ExecutionEndDateTime": iso(utcnow()) if ended and step is None else "",
                "Status": status[0],
                "StatusDetails": status[1],
                "StandardOutputContent": "",
                "StandardOutputUrl": "",
                "StandardErrorContent": "",
                "StandardErrorUrl": "",
            }
        if step.status == "Pending":
            step_status = status
        else:
            step_status = (step.status, step.details)
        elapsed = (step.ended - step.started).total_seconds() if step.started and step.ended else 0.0
        return {
            **common,
            "PluginName": step.name,
            "ResponseCode": step.code,
            "ExecutionStartDateTime": iso(step.started),
            "ExecutionElapsedTime": f"PT{elapsed:.3f}S" if step.ended else "",
            "ExecutionEndDateTime": iso(step.ended),
            "Status": step_status[0],
            "StatusDetails": step_status[1],
            "StandardOutputContent": cut(step.stdout, STDOUT_LIMIT),
            "StandardOutputUrl": step.stdout_url,
            "StandardErrorContent": cut(step.stderr, STDERR_LIMIT),
            "StandardErrorUrl": step.stderr_url,
        }

    def describe(self, details: bool) -> dict[str, Any]:
        status = self.polled()
        plugins = []
        for step in self.steps.values() if details else []:
            shown = self.visible(step, status)
            pair = (step.status, step.details) if shown and step.status != "Pending" else status
            plugins.append(
                {
                    "Name": step.name,
                    "Status": pair[0],
                    "StatusDetails": pair[1],
                    "ResponseCode": step.code if shown else -1,
                    "ResponseStartDateTime": step.started if shown else None,
                    "ResponseFinishDateTime": step.ended if shown else None,
                    "Output": step.output() if shown else "",
                    "StandardOutputUrl": step.stdout_url if shown else "",
                    "StandardErrorUrl": step.stderr_url if shown else "",
                    "OutputS3Region": self.command.bucket_region,
                    "OutputS3BucketName": self.command.bucket,
                    "OutputS3KeyPrefix": self.command.prefix,
                }
            )
        return {
            "CommandId": self.command.command_id,
            "InstanceId": self.instance_id,
            "InstanceName": "",
            "Comment": self.command.comment,
            "DocumentName": self.command.document_name,
            "DocumentVersion": "$DEFAULT",
            "RequestedDateTime": self.command.requested,
            "Status": status[0],
            "StatusDetails": status[1],
            "StandardOutputUrl": "",
            "StandardErrorUrl": "",
            "CommandPlugins": plugins,
            "ServiceRole": "",
        }

    # -- what the agent does -----------------------------------------------------------------------------------------

    def start(self) -> None:
        if self.agent == "offline":
            return
        if self.agent == "lying":
            for step in self.steps.values():
                step.finish("Success", "Success", 0)
            self._status = ("Success", "Success")
            return
        threading.Thread(target=self._run, daemon=True, name=f"agent-{self.instance_id}").start()

    def cancel(self) -> None:
        self._cancelled.set()
        if self.agent == "offline" or self._status[0] == "Pending":
            self._status = ("Cancelled", "Cancelled")

    def _run(self) -> None:
        self._status = ("InProgress", "InProgress")
        outcome = ("Success", "Success")
        try:
            with tempfile.TemporaryDirectory(prefix="simulated-host-") as folder:
                for definition in self.command.document.get("mainSteps", []):
                    step = self.steps[definition["name"]]
                    if self._cancelled.is_set():
                        step.finish("Cancelled", "Cancelled", -1)
                        outcome = ("Cancelled", "Cancelled")
                        continue
                    self._run_step(definition, step, folder)
                    if step.status not in ("Success",) and outcome[0] == "Success":
                        outcome = (step.status, step.details)
                    if step.status != "Success" and definition.get("onFailure") == "exit":
                        break
        except Exception as error:  # A fault of the harness must not look like a host that never answers.
            outcome = ("Failed", "Failed")
            for step in self.steps.values():
                if step.status == "Pending":
                    step.stderr = f"simulated_host: {error!r}"
                    step.finish("Failed", "Failed", 1)
        self._status = outcome

    def _run_step(self, definition: dict[str, Any], step: Step, folder: str) -> None:
        unmet = self._unmet_precondition(definition)
        if unmet:
            # The agent reports a step for another platform as a success that says it was skipped.
            step.note = f"Step execution skipped due to unsatisfied preconditions: '{unmet}'. Step name: {step.name}"
            step.finish("Success", "Success", 0)
            return
        if step.action not in PLUGIN_FOLDERS:
            step.note = f"Step execution skipped due to unsupported plugin: {step.action}. Step name: {step.name}"
            step.finish("Success", "Success", 0)
            return
        step.started = utcnow()
        if step.action == "aws:runPowerShellScript" and "ToolOutput" in self.command.values:
            kind, mib = self.memory
            step.stdout = fake_memory.take_windows(self.command.values, self.instance_id, mib, kind) + "\n"
            result = ("Failed", "Failed", 3) if "failed" in step.stdout else ("Success", "Success", 0)
        elif step.action == "aws:runPowerShellScript":
            step.stderr = "simulated_host: there is no PowerShell on this machine, so this step was not run"
            result = ("Failed", "Failed", 1)
        else:
            result = self._run_script(definition, step, folder)
        ended = utcnow()
        # The agent uploads first and reports then.
        self._upload(step)
        step.finish(*result, ended)

    def _unmet_precondition(self, definition: dict[str, Any]) -> str:
        for operator, operands in (definition.get("precondition") or {}).items():
            actual = [PLATFORM_TYPES[self.platform] if item == "platformType" else item for item in operands]
            if operator == "StringEquals" and len({str(item) for item in actual}) != 1:
                return f'"{operator}": [{", ".join(str(item) for item in operands)}]'
        return ""

    def _run_script(self, definition: dict[str, Any], step: Step, folder: str) -> tuple[str, str, int]:
        inputs = definition.get("inputs", {})
        environment = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "HOME": folder,
            "LANG": "C.UTF-8",
            "AWS_SSM_INSTANCE_ID": self.instance_id,
            "AWS_SSM_REGION_NAME": self.command.region,
        }
        if "CollectorUrl" in self.command.values:
            # The one thing of this machine that a collector must not read here.
            kind, mib = self.memory
            fake_memory.build(pathlib.Path(folder) / "host", self.instance_id, mib, kind)
            environment["STASIS_ROOT"] = os.path.join(folder, "host")
        lines: list[str] = []
        commands = inputs.get("runCommand", [])
        for line in commands if isinstance(commands, list) else [commands]:
            lines += self._substitute(line, environment)
        script = os.path.join(folder, f"{step.name}.sh")
        with open(script, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        limit = min(float(self._single(inputs.get("timeoutSeconds"), 3600.0)), STEP_LIMIT_SECONDS)
        deadline = time.monotonic() + limit
        with open(os.path.join(folder, "stdout"), "w+b") as out, open(os.path.join(folder, "stderr"), "w+b") as err:
            child = subprocess.Popen(
                ["sh", script],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
            ended = ""
            while child.poll() is None and not ended:
                if self._cancelled.is_set():
                    ended = "Cancelled"
                elif time.monotonic() > deadline:
                    ended = "TimedOut"
                else:
                    time.sleep(0.02)
            if ended:
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                child.wait()
            out.seek(0)
            err.seek(0)
            step.stdout = out.read().decode("utf-8", "replace")
            step.stderr = err.read().decode("utf-8", "replace")
        if ended == "Cancelled":
            return "Cancelled", "Cancelled", -1
        if ended == "TimedOut":
            step.stderr += f"\nsimulated_host: the step ran longer than {limit:g} s and was ended"
            return "TimedOut", "ExecutionTimedOut", -1
        if child.returncode == 0:
            return "Success", "Success", 0
        # The agent's own last line.
        step.stderr += f"failed to run commands: exit status {child.returncode}"
        return "Failed", "Failed", child.returncode

    def _substitute(self, line: str, environment: dict[str, str]) -> list[str]:
        declared = self.command.document.get("parameters", {})
        whole = PLACEHOLDER.fullmatch(line.strip())
        if whole and isinstance(self.command.values.get(whole[1]), list):
            return [str(item) for item in self.command.values[whole[1]]]

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name not in self.command.values:
                return match[0]
            found = self.command.values[name]
            text = " ".join(found) if isinstance(found, list) else str(found)
            # A parameter that the document passes as an environment variable never becomes part of the script.
            if declared.get(name, {}).get("interpolationType") == "ENV_VAR":
                environment[f"SSM_{name}"] = text
                return f"${{SSM_{name}}}"
            return text

        return [PLACEHOLDER.sub(value, line)]

    def _single(self, value: Any, otherwise: float) -> Any:
        if value is None:
            return otherwise
        text = PLACEHOLDER.sub(lambda match: str(self.command.values.get(match[1], otherwise)), str(value))
        try:
            return float(text)
        except ValueError:
            return otherwise

    def _upload(self, step: Step) -> None:
        """Whole output to S3, where and as the agent puts it; a stream without output gives no object."""
        if not self.command.bucket:
            return
        import boto3

        folder = "/".join(
            part
            for part in (
                self.command.prefix.strip("/"),
                self.command.command_id,
                self.instance_id,
                PLUGIN_FOLDERS[step.action],
                step.name,
            )
            if part
        )
        client = boto3.client("s3", region_name=self.command.bucket_region)
        for stream, text in (("stdout", step.stdout), ("stderr", step.stderr)):
            if not text:
                continue
            key = f"{folder}/{stream}"
            try:
                client.put_object(Bucket=self.command.bucket, Key=key, Body=text.encode())
            except Exception as error:
                # As on a real host, a refused upload does not change the step's result; the object is just not there.
                print(f"simulated_host: upload to {self.command.bucket}/{key} failed: {error}", flush=True)
                continue
            url = f"https://s3.{self.command.bucket_region}.amazonaws.com/{self.command.bucket}/{key}"
            if stream == "stdout":
                step.stdout_url = url
            else:
                step.stderr_url = url


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - len(TRUNCATED)] + TRUNCATED


def iso(moment: datetime.datetime | None) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z" if moment else ""
