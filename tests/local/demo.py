"""Shows the main job on one instance, for someone who has never seen it.

It starts the local AWS, plants a production web server, sends one GuardDuty finding through EventBridge, tells what each
stage does while it happens, and reads the outcome from the AWS APIs and not from what the stages say of themselves.
It shows only what it read; where something failed it says so.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import sys
import textwrap
import threading
import time
from typing import Any

from . import stack
from .plant import INSTANCE_ID, plant

WIDTH = 100
LIMIT_SECONDS = 120
EVENTS = stack.ROOT / "events" / "guardduty"

# One sentence per stage: why it is there, and why just then.
REASONS = {
    "triage": "Opens the case and writes down how everything was before anything is touched: the way back.",
    "protect": "First of all, so that neither an operator, a script nor the malware can destroy the evidence.",
    "detach": "Before the quarantine: a cut-off instance fails its health checks, and its scaling group "
    "would terminate it.",
    "prepare": "Meanwhile: the groups of the quarantine are made ready, so that the cut waits for nothing.",
    "quarantine": "Cuts every network interface off, open connections too; only Systems Manager can still be reached, to collect evidence.",
    "capture": "What only a running host knows: processes, sockets, sessions. It would be gone with a reboot.",
    "memory": "The physical memory, streamed to the evidence bucket by a collector that writes nothing to the host's disks.",
    "preserve": "All disks at one point in time, tagged and locked, while the instance stays on line.",
    "replicate": "Copies under customer keys where whoever holds this account cannot reach them, shared only for the copying.",
    "verify": "Believes nobody: reads everything back from the AWS APIs and fills the security checklist.",
    "report": "Writes the report and the manifest of all evidence, and notifies the security team.",
}
STATUS_WORDS = {
    "DONE": "done",
    "INCOMPLETE": "INCOMPLETE",
    "WAITING": "under way",
    "FAILED": "FAILED",
    "PLANNED": "planned only",
    "SKIPPED": "left out",
}


class Screen:
    def __init__(self) -> None:
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def red(self, text: str) -> str:
        return self.paint(text, "31;1")

    def green(self, text: str) -> str:
        return self.paint(text, "32")

    def bold(self, text: str) -> str:
        return self.paint(text, "1")

    def dim(self, text: str) -> str:
        return self.paint(text, "2")

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def wrapped(self, text: str, indent: str = "", style: str | None = None) -> None:
        """`style` colours whole lines, so that no code is counted as width."""
        for part in textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent) or [""]:
            self.line(self.paint(part, style) if style else part)

    def table(self, heads: list[str], rows: list[list[str]], widths: list[int], marks: list[str] | None = None) -> None:
        """`marks` colours a row's first cell: ok, bad or none."""
        self.line("  " + self.bold("  ".join(head.ljust(width) for head, width in zip(heads, widths)).rstrip()))
        for number, row in enumerate(rows):
            cells = [
                [line for text in cell.split("\n") for line in (textwrap.wrap(text, width) or [""])]
                for cell, width in zip(row, widths)
            ]
            for line in range(max(len(cell) for cell in cells)):
                texts = [
                    (cell[line] if line < len(cell) else "").ljust(width) for cell, width in zip(cells, widths)
                ]
                if marks and line == 0:
                    texts[0] = {"ok": self.green, "bad": self.red}.get(marks[number], str)(texts[0])
                self.line(("  " + "  ".join(texts)).rstrip())


def run(
    directory: pathlib.Path,
    binaries: pathlib.Path,
    template: pathlib.Path | None,
    event: pathlib.Path | None,
    wait_scale: float,
    copy_binaries: bool = False,
    report_language: str = "en",
) -> int:
    screen = Screen()
    source, finding = load_finding(event)
    detail = finding["resource"]["instanceDetails"]
    suspect = detail["instanceId"]
    state = directory / "demo"
    aws = stack.LocalAws(
        state,
        binaries=binaries,
        wait_scale=wait_scale,
        copy_binaries=copy_binaries,
        account=str(finding.get("accountId") or stack.ACCOUNT),
        region=str(finding.get("region") or stack.REGION),
    )
    began = time.monotonic()
    try:
        screen.line(screen.bold("Stasis: a compromised EC2 instance, held still"))
        screen.line()
        screen.wrapped(
            "Everything below runs on this machine: the real functions and the real state machine, deployed from "
            "infra/template.yaml to a local AWS. No AWS account is touched."
        )
        aws.start()
        aws.deploy(template, report_language)
        planted = plant(aws.client, aws.region, instance_id=suspect)
        screen.line()
        screen.line(screen.dim(f"  The local AWS is up and the stack is deployed ({time.monotonic() - began:.1f} s)."))
        screen.wrapped(
            f"{suspect} ({name_of(aws, suspect)}) serves the world on port 443: in a scaling group, behind a load "
            f"balancer, with {len(planted['volumeIds'])} volumes, and managed by Systems Manager.",
            "  ",
            "2",
        )
        return Story(screen, aws, planted, source, finding, directory).tell()
    except stack.LocalAwsError as error:
        failed(screen, aws, str(error))
    except (BrokenPipeError, KeyboardInterrupt):
        return 130
    except Exception as error:
        from .command import Ended

        if isinstance(error, Ended):
            raise
        failed(screen, aws, f"{type(error).__name__}: {error}")
    finally:
        aws.stop()
    return 1


def failed(screen: Screen, aws: stack.LocalAws, reason: str) -> None:
    screen.line()
    screen.line(screen.red("The demo failed."))
    screen.wrapped(reason, "  ")
    screen.line(f"  Logs: {aws.logs}")
    for line in aws.last_lines(10).splitlines():
        screen.line("  " + line[: WIDTH - 2])


class Story:
    def __init__(
        self,
        screen: Screen,
        aws: stack.LocalAws,
        planted: dict[str, Any],
        source: str,
        finding: dict[str, Any],
        directory: pathlib.Path,
    ) -> None:
        self.screen = screen
        self.aws = aws
        self.planted = planted
        self.suspect: str = planted["instanceId"]
        self.source = source
        self.finding = finding
        self.directory = directory
        self.s3 = aws.client("s3")
        self.ec2 = aws.client("ec2")
        self.bucket = aws.outputs["EvidenceBucket"]
        self.machine = aws.outputs["ContainStateMachineArn"]
        self.seen: set[str] = set()
        self.told: set[str] = set()
        self.sent = 0.0
        self.sent_at = 0.0
        self.contained: float | None = None

    def tell(self) -> int:
        screen = self.screen
        before = self.facts()
        groups_before = {interface: set(groups) for interface, groups in self.groups().items()}
        over = threading.Event()
        watcher = threading.Thread(target=self.watch_interfaces, args=(groups_before, over), daemon=True)
        first_request = max((item["n"] for item in self.aws.control("/local/requests")), default=0)
        screen.line()
        screen.line(screen.bold(f"GuardDuty reports: {self.finding.get('type', 'a finding')}"))
        screen.wrapped(str(self.finding.get("description") or self.finding.get("title") or ""), "  ")
        screen.line(screen.dim(f"  ({self.source}, sent through EventBridge)"))
        screen.line()
        self.sent, self.sent_at = time.monotonic(), time.time()
        watcher.start()
        try:
            reply = self.aws.client("events").put_events(
                Entries=[
                    {
                        "Source": "stasis.drill",
                        "DetailType": "GuardDuty Finding",
                        "Detail": json.dumps(self.finding),
                        "Resources": [],
                    }
                ]
            )
            if reply.get("FailedEntryCount"):
                raise stack.LocalAwsError(f"EventBridge refused the event: {reply['Entries']}")
            execution = self.follow()
        finally:
            over.set()
            watcher.join(timeout=5)
        output = json.loads(execution.get("output") or "{}")
        if execution["status"] != "SUCCEEDED":
            raise stack.LocalAwsError(
                f"the execution ended {execution['status']}: {execution.get('error', '')} {execution.get('cause', '')}"
            )
        ended = time.monotonic() - self.sent
        self.show_silent_stages(output)
        screen.line()
        self.show_changes(before, self.facts())
        screen.line()
        good = self.show_checklist(output)
        screen.line()
        self.show_end(output, ended, good, first_request)
        return 0 if good and output.get("status") == "CONTAINED" and self.contained is not None else 1

    # -- while it happens --------------------------------------------------------------------------------------------

    def follow(self) -> dict[str, Any]:
        states = self.aws.client("stepfunctions")
        deadline = time.monotonic() + LIMIT_SECONDS
        execution: dict[str, Any] = {}
        while True:
            self.aws.require_running()
            self.show_new_stages()
            found = states.list_executions(stateMachineArn=self.machine)["executions"]
            if found:
                execution = states.describe_execution(executionArn=found[0]["executionArn"])
                if execution["status"] != "RUNNING":
                    self.show_new_stages()
                    return execution
            if time.monotonic() > deadline:
                what = "is still running" if found else "did not start"
                raise stack.LocalAwsError(f"the state machine {what} after {LIMIT_SECONDS} s")
            time.sleep(0.1)

    def show_new_stages(self) -> None:
        """Every stage writes its report to the case file; a new one is news."""
        fresh = []
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix="cases/"):
            for item in page.get("Contents", []):
                if re.fullmatch(r"cases/[^/]+/stages/[^/]+/\d+\.json", item["Key"]) and item["Key"] not in self.seen:
                    self.seen.add(item["Key"])
                    body = self.s3.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read()
                    fresh.append(json.loads(body))
        for report in sorted(fresh, key=lambda item: (item.get("finishedAt", ""), item.get("attempt", 0))):
            self.show_stage(report)

    def show_silent_stages(self, output: dict[str, Any]) -> None:
        """A function that could not answer leaves no report; the state machine noted it in the output."""
        for instance in output.get("instances") or []:
            for stage, outcome in (instance.get("stages") or {}).items():
                outcome = outcome if isinstance(outcome, dict) else {"status": outcome}
                if stage not in self.told and outcome.get("status") == "FAILED":
                    self.show_stage({**outcome, "stage": stage})

    def since(self, moment: str | None) -> float:
        """Seconds from the event to a moment that a stage wrote down."""
        import datetime

        try:
            when = datetime.datetime.fromisoformat((moment or "").replace("Z", "+00:00")).timestamp()
        except ValueError:
            return time.monotonic() - self.sent
        return max(0.0, when - self.sent_at)

    def show_stage(self, report: dict[str, Any]) -> None:
        screen, stage, status = self.screen, report["stage"], report["status"]
        again = stage in self.told
        self.told.add(stage)
        if again and status == "WAITING" and not report.get("actions"):
            return
        word = STATUS_WORDS.get(status, status)
        bad = status in ("FAILED", "INCOMPLETE")
        shown = screen.red(word) if bad else screen.green(word) if status == "DONE" else word
        clock = f"{self.since(report.get('finishedAt')):6.1f} s"
        title = f"{stage}{' (again)' if again else ''}"
        screen.line(f"{clock}  {screen.bold(title.ljust(18))} {shown}")
        if not again:
            screen.wrapped(REASONS.get(stage, ""), " " * 10, "2")
        if report.get("summary"):
            screen.wrapped(report["summary"], " " * 10)
        self.show_actions(report.get("actions", []))
        for note in report.get("notes", [])[:4] if bad or not again else []:
            screen.wrapped(f"note: {note}", " " * 10, "2")

    def show_actions(self, actions: list[dict[str, Any]]) -> None:
        screen = self.screen
        grouped: dict[tuple[str, str, str], list[str]] = {}
        for action in actions:
            outcome = action.get("outcome", "")
            if outcome == "ALREADY_SO":
                continue
            error = action.get("error") or {}
            reason = f": {error.get('code', '')} {error.get('message', '')}".rstrip() if outcome == "FAILED" else ""
            grouped.setdefault((outcome, action.get("words", ""), reason), []).append(action.get("target", ""))
        for (outcome, words, reason), targets in grouped.items():
            kind = {"APPLIED": "+", "PLANNED": "would", "FAILED": "x"}.get(outcome, outcome.lower())
            where = ", ".join(short(target) for target in dict.fromkeys(targets) if target)
            text = f"{kind} {words}" + (f" ({where})" if where and where not in words else "") + reason
            wrapped = textwrap.wrap(text, WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 12)
            for line in wrapped:
                screen.line(screen.red(line) if outcome == "FAILED" else line)

    def groups(self) -> dict[str, list[str]]:
        found = self.ec2.describe_network_interfaces(
            Filters=[{"Name": "attachment.instance-id", "Values": [self.suspect]}]
        )["NetworkInterfaces"]
        return {item["NetworkInterfaceId"]: [group["GroupId"] for group in item["Groups"]] for item in found}

    def watch_interfaces(self, before: dict[str, set[str]], over: threading.Event) -> None:
        """The moment at which the API shows no interface in any of the groups that it was in before."""
        while not over.is_set():
            try:
                now = self.groups()
            except Exception:  # A refused look says nothing; the next one may.
                time.sleep(0.05)
                continue
            if now and all(groups and not before.get(name, set()) & set(groups) for name, groups in now.items()):
                self.contained = time.monotonic() - self.sent
                return
            time.sleep(0.03)

    # -- afterwards --------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What the AWS APIs say of the instance now."""
        instance = self.ec2.describe_instances(InstanceIds=[self.suspect])["Reservations"][0]["Instances"][0]

        def attribute(name: str) -> Any:
            answer = self.ec2.describe_instance_attribute(InstanceId=self.suspect, Attribute=name)
            return answer[name[0].upper() + name[1:]]["Value"]

        groups = sorted({group for names in self.groups().values() for group in names})
        described = self.ec2.describe_security_groups(GroupIds=groups)["SecurityGroups"]
        scaling = self.aws.client("autoscaling").describe_auto_scaling_instances(InstanceIds=[self.suspect])
        balancing = self.aws.client("elbv2")
        health = []
        for group in self.planted["targetGroups"]:
            name = group["arn"].split("/")[1].rsplit("-", 1)[0]
            states = [
                item["TargetHealth"]["State"]
                for item in balancing.describe_target_health(TargetGroupArn=group["arn"])["TargetHealthDescriptions"]
                if item["Target"]["Id"] == self.suspect
            ]
            health.append(f"{name}: {', '.join(states) or 'not registered'}")
        snapshots = self.ec2.describe_snapshots(
            OwnerIds=["self"], Filters=[{"Name": "volume-id", "Values": self.planted["volumeIds"]}]
        )["Snapshots"]
        copies = self.aws.client("ec2", stack.DESTINATION_REGION, stack.DESTINATION_ACCOUNT).describe_snapshots(
            OwnerIds=["self"], Filters=[{"Name": "tag:stasis:volume", "Values": self.planted["volumeIds"]}]
        )["Snapshots"]
        tags = {item["Key"]: item["Value"] for item in instance.get("Tags", [])}
        return {
            "instance": instance["State"]["Name"],
            "security groups": "\n".join(group["GroupName"] for group in described),
            "lets in": "\n".join(sorted({self.rules(group["IpPermissions"]) for group in described})),
            "lets out": "\n".join(sorted({self.rules(group["IpPermissionsEgress"]) for group in described})),
            "termination protection": on(attribute("disableApiTermination")),
            "stop protection": on(attribute("disableApiStop")),
            "on shutdown": attribute("instanceInitiatedShutdownBehavior"),
            "volumes deleted with it": ", ".join(
                yes(item["Ebs"]["DeleteOnTermination"]) for item in instance["BlockDeviceMappings"]
            ),
            "scaling group": ", ".join(item["AutoScalingGroupName"] for item in scaling["AutoScalingInstances"])
            or "none",
            "load balancer targets": "\n".join(health),
            "snapshots": states_of(snapshots),
            f"copies in {stack.DESTINATION_REGION}": states_of(copies),
            "incident ticket": tags.get("IncidentTicket", "none"),
        }

    def rules(self, permissions: list[dict[str, Any]]) -> str:
        if not permissions:
            return "nothing"
        parts = []
        for permission in permissions:
            port = "all" if permission["IpProtocol"] == "-1" else str(permission.get("FromPort"))
            for item in permission.get("IpRanges", []):
                parts.append(f"{port}: {'anyone' if item['CidrIp'] == '0.0.0.0/0' else item['CidrIp']}")
            for item in permission.get("Ipv6Ranges", []):
                parts.append(f"{port}: {'anyone (IPv6)' if item['CidrIpv6'] == '::/0' else item['CidrIpv6']}")
            for item in permission.get("UserIdGroupPairs", []):
                found = self.ec2.describe_security_groups(GroupIds=[item["GroupId"]])["SecurityGroups"]
                parts.append(f"{port}: {found[0]['GroupName']}")
            for item in permission.get("PrefixListIds", []):
                found = self.ec2.describe_managed_prefix_lists(PrefixListIds=[item["PrefixListId"]])["PrefixLists"]
                parts.append(f"{port}: {found[0]['PrefixListName'] if found else item['PrefixListId']}")
        return "\n".join(parts)

    def show_changes(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        self.screen.line(self.screen.bold("Before and after, as the AWS APIs show it"))
        rows = [[name, str(before[name]), str(after[name])] for name in before]
        self.screen.table(["", "before", "after"], rows, [23, 34, 37])

    def show_checklist(self, output: dict[str, Any]) -> bool:
        screen = self.screen
        screen.line(screen.bold("Security checklist"))
        rows, marks = [], []
        for instance in output.get("instances") or []:
            for item in instance.get("checklist") or []:
                rows.append(
                    [item.get("status", ""), item.get("name", ""), words(item.get("expected")), words(item.get("observed"))]
                )
                marks.append("ok" if item.get("status") == "PASS" else "bad")
        if not rows:
            screen.line(screen.red("  there is none: nothing was verified"))
            return False
        screen.table(["result", "check", "expected", "observed"], rows, [7, 28, 27, 30], marks)
        return all(mark == "ok" for mark in marks)

    def show_end(self, output: dict[str, Any], ended: float, good: bool, first_request: int) -> None:
        screen = self.screen
        status = output.get("status", "unknown")
        screen.line(
            f"{screen.bold('Status')}           "
            f"{screen.green(status) if status == 'CONTAINED' else screen.red(status)}"
        )
        if output.get("reason"):
            screen.wrapped(str(output["reason"]), " " * 17)
        if self.contained is None:
            screen.line(f"{screen.bold('Time to contain')}  {screen.red('never: an interface is not in quarantine')}")
        else:
            screen.line(
                f"{screen.bold('Time to contain')}  {self.contained:.1f} s, from the event until the API showed the last "
                "interface in quarantine"
            )
            screen.line(f"{screen.bold('Time in all')}      {ended:.1f} s")
        if output.get("evidence"):
            screen.line(f"{screen.bold('Evidence')}         {output['evidence']}"[: WIDTH + 20])
        target = self.directory / "report.html"
        if self.save_report(output.get("report"), target):
            try:
                shown = target.relative_to(pathlib.Path.cwd())
            except ValueError:
                shown = target
            screen.line(f"{screen.bold('Report')}           {shown}")
        else:
            screen.line(f"{screen.bold('Report')}           {screen.red('there is none')}")
        if output.get("caseId"):
            undo = json.dumps({"caseId": output["caseId"], "reason": "a false alarm"})
            screen.line(f"{screen.bold('Undo')}             start stasis-release with {undo}")
        listed = self.aws.control("/local/corrections")
        used = {
            f"{item['service']} {item['operation']}"
            for item in self.aws.control(f"/local/requests?after={first_request}")
        }
        emulated = [name for name in listed["emulated"] if name in used]
        screen.line()
        screen.wrapped(f"project-emulated, not verified on AWS: {', '.join(emulated) or 'nothing'}", "", "2")
        screen.wrapped("What was captured is this machine's own data: it plays the suspect host. Only its memory is made up.", "", "2")

    def save_report(self, location: str | None, target: pathlib.Path) -> bool:
        match = re.fullmatch(r"s3://([^/]+)/(.+)", location or "")
        if not match:
            return False
        try:
            body = self.s3.get_object(Bucket=match[1], Key=match[2])["Body"]
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as file:
                shutil.copyfileobj(body, file)
        except Exception:
            return False
        return True


def states_of(snapshots: list[dict[str, Any]]) -> str:
    states = (
        f"{item['SnapshotId'][:11]}… {item['State']}, {'encrypted' if item['Encrypted'] else 'NOT encrypted'}"
        for item in snapshots
    )
    return "\n".join(states) or "none"


def short(target: str) -> str:
    """The name in an ARN; everything else as it is."""
    if not target.startswith("arn:"):
        return target
    parts = target.split(":")[-1].split("/")
    return parts[1] if parts[0] == "targetgroup" and len(parts) == 3 else parts[-1]


def on(value: Any) -> str:
    return "ON" if value is True else "off" if value is False else str(value)


def yes(value: Any) -> str:
    return "yes" if value is True else "no" if value is False else str(value)


def words(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def name_of(aws: stack.LocalAws, instance_id: str) -> str:
    instance = aws.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    return next((tag["Value"] for tag in instance.get("Tags", []) if tag["Key"] == "Name"), "no name")


def load_finding(path: pathlib.Path | None) -> tuple[str, dict[str, Any]]:
    """A sample event's finding; without samples, a finding of our own on the instance that is planted."""
    if path is None:
        samples = [item for item in sorted(EVENTS.glob("*.json")) if about(item)[0] == INSTANCE_ID]
        # The best known kind of finding makes the best story.
        samples.sort(key=lambda item: (not about(item)[1].startswith("CryptoCurrency"), item.name != "coin-miner.json"))
        path = samples[0] if samples else None
    if path is None:
        return "a finding made up by the demo", {
            "schemaVersion": "2.0",
            "accountId": stack.ACCOUNT,
            "region": stack.REGION,
            "partition": "aws",
            "id": "16afba5c5c43e07c9e3e5e2e544e95df",
            "arn": f"arn:aws:guardduty:{stack.REGION}:{stack.ACCOUNT}:detector/46ba0ac2845071e23ccdeb2ae03bfdea/finding/"
            "16afba5c5c43e07c9e3e5e2e544e95df",
            "type": "CryptoCurrency:EC2/BitcoinTool.B!DNS",
            "title": f"The EC2 instance {INSTANCE_ID} is querying a domain name of Bitcoin mining.",
            "description": f"EC2 instance {INSTANCE_ID} is querying a domain name that is associated with Bitcoin-related "
            "activity.",
            "severity": 8,
            "createdAt": "2026-11-23T06:00:00.000Z",
            "updatedAt": "2026-11-23T06:00:00.000Z",
            "resource": {"resourceType": "Instance", "instanceDetails": {"instanceId": INSTANCE_ID}},
            "service": {"serviceName": "guardduty", "archived": False, "count": 1, "resourceRole": "TARGET"},
        }
    content = json.loads(path.read_text(encoding="utf-8"))
    finding = content["detail"] if "detail" in content else content
    try:
        shown = str(path.resolve().relative_to(stack.ROOT))
    except ValueError:
        shown = str(path)
    return shown, finding


def about(path: pathlib.Path) -> tuple[str | None, str]:
    """The instance that a sample is about, and the finding's type."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        finding = content.get("detail", content)
        return finding["resource"]["instanceDetails"]["instanceId"], str(finding.get("type", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, ""
