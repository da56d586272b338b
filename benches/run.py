"""How long it takes until the last interface is in quarantine, in calls that wait for one another, and what others need.

A recording proxy stands in front of every AWS call and lets each take the same set time. On it run: Stasis, as deployed,
for an ordinary instance in a scaling group with two target groups, once where the quarantine group must be made and once
where it exists; and, on instances of the same kind, the order of work that AWS publishes, written with boto3, Cloud
Custodian and libcloudforensics, as far as each gets. What is left undone is read from the AWS APIs.

It ends non-zero when the chain of calls to containment is longer than it may be.

    make bench                 everything
    make bench-ours            Stasis alone
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from local import stack  # noqa: E402  (the path is set just above)
from local.plant import plant  # noqa: E402

# The most calls that may wait for one another until the last interface is in quarantine.
CHAIN_EXISTING, CHAIN_MADE = 12, 15
# What the calls' own time may be above the chain's: calls at the same time never fit together perfectly.
SLACK = 1.3
# Who waits for whom: the functions on the way to the network cut, each with those before it.
WAITS_FOR = {
    "stasis-triage": [],
    "stasis-protect": ["stasis-triage"],
    "stasis-detach": ["stasis-protect"],
    "stasis-prepare": ["stasis-triage"],
    "stasis-quarantine": ["stasis-detach", "stasis-prepare"],
}
LIMIT_SECONDS = 90
# How often each of our cases is measured; the one in the middle is shown.
REPEAT = 3
WAKING = 0.003


class Proxy:
    """The proxy as a child, and what it recorded."""

    def __init__(self, python: str, delay_ms: float) -> None:
        self.python, self.delay_ms = python, delay_ms
        self.child: subprocess.Popen[str] | None = None
        self.at: dict[str, str] = {}

    def through(self, ministack: str, moto: str) -> dict[str, str]:
        self.child = subprocess.Popen(
            [
                *(self.python, str(ROOT / "benches" / "proxy.py"), "--delay-ms", str(self.delay_ms)),
                *(*self.options(), *self.upstreams(ministack, moto)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert self.child.stdout is not None
        for line in self.child.stdout:
            if line.strip() == "ready":
                break
            upstream, listens = line.split()
            self.at[upstream] = listens
        return self.variables(ministack, moto)

    def options(self) -> list[str]:
        return []

    def upstreams(self, ministack: str, moto: str) -> list[str]:
        return [ministack, moto]

    def variables(self, ministack: str, moto: str) -> dict[str, str]:
        ours = {f"AWS_ENDPOINT_URL_{name}": self.at[ministack] for name in ("S3", "SNS", "SFN")}
        return {**ours, **{f"AWS_ENDPOINT_URL_{name}": self.at[moto] for name in stack.MOTO_SERVICES.values()}}

    def take(self) -> list[dict[str, Any]]:
        assert self.child is not None and self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.write("take\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def stop(self) -> None:
        if self.child is not None:
            assert self.child.stdin is not None
            self.child.stdin.close()
            try:
                self.child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.child.kill()


# ---------------------------------------------------------------- what the record says


def is_cut(call: dict[str, Any], group: str) -> bool:
    return call["operation"] == "ModifyNetworkInterfaceAttribute" and group in call["about"] and call["status"] == 200


def longest_chain(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The longest chain of calls each of which began after the one before had ended, along WAITS_FOR.

    Within a function a call that began after another's end counts as waiting for it, whether it had to or not; so the
    chain is never too short.
    """
    best: dict[int, tuple[int, int | None]] = {}
    order = sorted(range(len(calls)), key=lambda n: calls[n]["begin"])

    def reaches(before: str, after: str) -> bool:
        return before == after or any(reaches(before, name) for name in WAITS_FOR[after])

    for n in order:
        length, via = 1, None
        for m in best:
            before, after = calls[m], calls[n]
            if before["end"] <= after["begin"] and reaches(before["function"], after["function"]) and best[m][0] + 1 > length:
                length, via = best[m][0] + 1, m
        best[n] = (length, via)
    at: int | None = max(best, key=lambda n: best[n][0])
    chain = []
    while at is not None:
        chain.append(calls[at])
        at = best[at][1]
    return chain[::-1]


def in_flight(calls: list[dict[str, Any]], longest: float = float("inf")) -> float:
    """Seconds in which at least one call was under way, each counted for so long at most."""
    total, until = 0.0, float("-inf")
    for call in sorted(calls, key=lambda c: c["begin"]):
        end = min(call["end"], call["begin"] + longest)
        total += max(0.0, end - max(until, call["begin"]))
        until = max(until, end)
    return total


# ---------------------------------------------------------------- what AWS says of the result


def undone(aws: stack.LocalAws, planted: dict[str, Any]) -> list[str]:
    """What an incident responder would still have to do, as the AWS APIs tell it."""
    ec2, suspect = aws.client("ec2"), planted["instanceId"]

    def attribute(name: str) -> Any:
        return ec2.describe_instance_attribute(InstanceId=suspect, Attribute=name)[name[0].upper() + name[1:]].get("Value")

    left = []
    instance = ec2.describe_instances(InstanceIds=[suspect])["Reservations"][0]["Instances"][0]
    if instance["State"]["Name"] != "running":
        left.append(f"the instance is {instance['State']['Name']}")
    if not attribute("disableApiTermination"):
        left.append("termination protection")
    if not attribute("disableApiStop"):
        left.append("stop protection")
    if attribute("instanceInitiatedShutdownBehavior") != "stop":
        left.append("shutdown terminates")
    if any(m["Ebs"]["DeleteOnTermination"] for m in instance["BlockDeviceMappings"]):
        left.append("volumes go with it")
    if aws.client("autoscaling").describe_auto_scaling_instances(InstanceIds=[suspect])["AutoScalingInstances"]:
        left.append("still in its scaling group")
    serving = 0
    for group in planted["targetGroups"]:
        health = aws.client("elbv2").describe_target_health(TargetGroupArn=group["arn"])["TargetHealthDescriptions"]
        serving += sum(h["Target"]["Id"] == suspect and h["TargetHealth"]["State"] != "draining" for h in health)
    if serving:
        left.append(f"still in {serving} target groups")
    for interface in instance["NetworkInterfaces"]:
        ids = [group["GroupId"] for group in interface["Groups"]]
        groups = ec2.describe_security_groups(GroupIds=ids)["SecurityGroups"]
        inbound = any(group["IpPermissions"] for group in groups)
        everywhere = any(
            r["CidrIp"] == "0.0.0.0/0" for g in groups for p in g["IpPermissionsEgress"] for r in p.get("IpRanges", [])
        )
        if inbound or everywhere:
            ways = [way for way, is_open in (("inbound", inbound), ("outbound to anywhere", everywhere)) if is_open]
            left.append(f"network open: {' and '.join(ways)}")
    volumes = [m["Ebs"]["VolumeId"] for m in instance["BlockDeviceMappings"]]
    snapshots = ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "volume-id", "Values": volumes}])["Snapshots"]
    if len({s["VolumeId"] for s in snapshots}) < len(volumes):
        left.append(f"{len(snapshots)} of {len(volumes)} volumes snapshotted")
    elif not all(s.get("Tags") for s in snapshots):
        left.append("snapshots untagged")
    commands = aws.client("ssm").list_commands(InstanceId=suspect)["Commands"]
    if not commands:
        left.append("no volatile data")
    keys = [o["Key"] for o in aws.client("s3").list_objects_v2(Bucket=aws.outputs["EvidenceBucket"], Prefix="open/").get("Contents", [])]
    if not any(suspect in key for key in keys):
        left.append("no former state on record")
    return left


# ---------------------------------------------------------------- the runs


def contain(aws: stack.LocalAws, suspect: str) -> dict[str, Any]:
    """Stasis, as the console starts it; gives the run's answer."""
    states = aws.client("stepfunctions")
    started = states.start_execution(
        stateMachineArn=aws.outputs["ContainStateMachineArn"], input=json.dumps({"instanceId": suspect})
    )
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        seen = states.describe_execution(executionArn=started["executionArn"])
        if seen["status"] != "RUNNING":
            return json.loads(seen["output"])
        time.sleep(0.1)
    raise SystemExit(f"the execution did not end in {LIMIT_SECONDS} s")


def ours(aws: stack.LocalAws, proxy: Proxy, binaries: pathlib.Path, existing: bool) -> dict[str, Any]:
    planted = plant(aws.client, aws.region)
    suspect = planted["instanceId"]
    if existing:
        # An earlier incident in the same VPC made the groups.
        neighbour = aws.client("ec2").run_instances(
            ImageId=aws.client("ec2").describe_instances(InstanceIds=[suspect])["Reservations"][0]["Instances"][0]["ImageId"],
            MinCount=1,
            MaxCount=1,
            SubnetId=planted["subnetIds"][0],
            SecurityGroupIds=[planted["productionGroupId"]],
        )["Instances"][0]["InstanceId"]
        contain(aws, neighbour)
    proxy.take()
    begun = time.monotonic()
    answer = contain(aws, suspect)
    took = time.monotonic() - begun
    calls = proxy.take()
    group = next(
        g["GroupId"]
        for g in aws.client("ec2").describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [planted["vpcId"]]}])["SecurityGroups"]
        if g["GroupName"].startswith("stasis-quarantine-")
    )
    interfaces = set(planted["networkInterfaceIds"])
    cuts = [c for c in calls if is_cut(c, group) and any(i in c["about"] for i in interfaces)]
    if not cuts or answer["status"] != "CONTAINED":
        raise SystemExit(f"it was not contained: {answer['status']}: {answer['reason']}")
    end = max(c["end"] for c in cuts)
    on_the_way = [c for c in calls if c["function"] in WAITS_FOR and c["end"] <= end]
    start = min(c["begin"] for c in on_the_way)
    chain = longest_chain(on_the_way)
    whole = in_flight(on_the_way)
    # Waking up takes the proxy some milliseconds; what goes beyond is an emulator that took longer than the set time.
    busy = in_flight(on_the_way, proxy.delay_ms / 1000 + WAKING)
    return {
        "name": f"Stasis, quarantine group {'exists' if existing else 'must be made'}",
        "to_cut": end - start,
        "in_calls": busy,
        "emulators": whole - busy,
        "own": end - start - whole,
        "calls_to_cut": len(on_the_way),
        "chain": chain,
        "limit": CHAIN_EXISTING if existing else CHAIN_MADE,
        "calls": len(calls),
        "wall": took,
        "memory": largest_function(binaries),
        "undone": undone(aws, planted),
    }


def most_held(process: str) -> float:
    """The most MiB that a process ever held, its program among them; nothing of one that is gone."""
    try:
        status = pathlib.Path("/proc", process, "status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0.0)


def largest_function(binaries: pathlib.Path) -> float:
    """The most memory that any one of our function processes ever held, in MiB."""

    def is_ours(process: pathlib.Path) -> bool:
        try:
            return binaries in (process / "exe").resolve().parents
        except OSError:
            return False

    return max((most_held(process.name) for process in pathlib.Path("/proc").glob("[0-9]*") if is_ours(process)), default=0.0)


def peer(
    aws: stack.LocalAws, proxy: Proxy, name: str, command: Any, cwd: pathlib.Path | None = None
) -> dict[str, Any]:
    planted = plant(aws.client, aws.region)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(cwd or aws.directory / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        **aws.environment(),
        **proxy.variables(aws.ministack_url, aws.moto_url),
    }
    argv = command(planted)
    proxy.take()
    begun = time.monotonic()
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(argv, env=environment, cwd=cwd, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        took = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode("utf-8", "replace")
    calls = proxy.take()
    cuts = [c["end"] for c in calls if c["operation"] in ("ModifyNetworkInterfaceAttribute", "ModifyInstanceAttribute") and "sg-" in c["about"]]
    left = undone(aws, planted)
    cut = bool(cuts) and not any(item.startswith("network open: inbound") for item in left)
    return {
        "name": name,
        "to_cut": max(cuts) - min(c["begin"] for c in calls) if cut else None,
        "calls": len(calls),
        "wall": took,
        "memory": usage.ru_maxrss / 1024,
        "undone": left,
        "exit": child.returncode,
        "said": said,
    }


def peers(aws: stack.LocalAws, proxy: Proxy, python: str, scratch: pathlib.Path) -> list[dict[str, Any]]:
    tools = pathlib.Path(python).parent

    def custodian(planted: dict[str, Any]) -> list[str]:
        group = aws.client("ec2").create_security_group(
            VpcId=planted["vpcId"], GroupName="isolation", Description="isolation, made beforehand as its documentation asks"
        )["GroupId"]
        for rule in aws.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissionsEgress"]:
            aws.client("ec2").revoke_security_group_egress(GroupId=group, IpPermissions=[rule])
        policy = {
            "policies": [
                {
                    "name": "contain",
                    "resource": "aws.ec2",
                    "query": [{"instance-id": planted["instanceId"]}],
                    "filters": [{"InstanceId": planted["instanceId"]}],
                    "actions": [
                        {"type": "snapshot", "copy-tags": ["Name"]},
                        {"type": "modify-security-groups", "remove": "all", "isolation-group": group},
                        {"type": "tag", "tags": {"SecurityIncidentStatus": "quarantined"}},
                    ],
                }
            ]
        }
        (scratch / "policy.yml").write_text(json.dumps(policy))
        return [str(tools / "custodian"), "run", "-s", "out", "--cache-period", "0", "--region", aws.region, "policy.yml"]

    return [
        peer(
            aws,
            proxy,
            "AWS' published order of work, boto3",
            lambda planted: [python, str(ROOT / "benches/peers/aws_order.py"), planted["instanceId"]],
            scratch,
        ),
        peer(aws, proxy, "Cloud Custodian 0.9.53", custodian, scratch),
        peer(
            aws,
            proxy,
            "libcloudforensics 20260916",
            lambda planted: [str(tools / "cloudforensics"), "aws", f"{aws.region}a", "quarantinevm", planted["instanceId"]],
            scratch,
        ),
    ]


# ---------------------------------------------------------------- what is printed


def show_ours(run: dict[str, Any], delay_ms: float, chain_only: bool) -> list[str]:
    chain, allowed = run["chain"], SLACK * len(run["chain"]) * delay_ms / 1000
    print(f"\n{run['name']}")
    print(f"  start to the last interface in quarantine   {run['to_cut']:6.2f} s")
    print(f"    AWS calls under way                       {run['in_calls']:6.2f} s   (at most {SLACK} x chain x {delay_ms:.0f} ms = {allowed:.2f} s)")
    print(f"    emulators that took longer than that      {run['emulators']:6.2f} s   (moto answers one at a time; AWS does not)")
    print(f"    orchestrator and our own code             {run['own']:6.2f} s   (MiniStack, debug build)")
    print(f"  calls until then                            {run['calls_to_cut']:6d}")
    print(f"  longest chain of calls that wait            {len(chain):6d}     (at most {run['limit']})")
    for number, call in enumerate(chain, 1):
        print(f"    {number:2}. {call['function'].removeprefix('stasis-'):10} {call['service']}:{call['operation']}")
    problems = []
    if len(chain) > run["limit"]:
        problems.append(f"{run['name']}: the chain is {len(chain)} calls long, at most {run['limit']} are allowed")
    if run["in_calls"] > allowed and not chain_only:
        problems.append(
            f"{run['name']}: the calls took {run['in_calls']:.2f} s, at most {allowed:.2f} s are allowed"
        )
    return problems


def show_table(runs: list[dict[str, Any]]) -> None:
    print(f"\n{'':44} {'cut off':>8} {'whole run':>10} {'calls':>6} {'memory':>9}  left undone")
    for run in runs:
        cut = f"{run['to_cut']:.2f} s" if run["to_cut"] is not None else "never"
        left = run["undone"] or ["nothing"]
        print(f"{run['name']:44} {cut:>8} {run['wall']:8.2f} s {run['calls']:6} {run['memory']:5.0f} MiB  {left[0]}")
        for item in left[1:]:
            print(f"{'':83}{item}")
        if run.get("exit"):
            print(f"{'':83}(it ended with code {run['exit']})")
            print("\n".join(f"{'':83}{line}" for line in run["said"].strip().splitlines()[-3:]))


def main() -> int:
    parser = argparse.ArgumentParser(description="time to contain, and what others need")
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--proxy-python", required=True, help="a Python with aiohttp")
    parser.add_argument("--peers-python", help="a Python with boto3, c7n and libcloudforensics")
    parser.add_argument("--delay-ms", type=float, default=50)
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--chain-only", action="store_true", help="judge the chain of calls, not the clock; measure once")
    arguments = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.binaries))
    proxy = Proxy(arguments.proxy_python, arguments.delay_ms)
    aws = stack.LocalAws(directory, binaries=arguments.binaries, wait_scale=0.01, through=proxy.through)
    problems: list[str] = []
    try:
        aws.start()
        aws.deploy()
        # The first call of a process makes its connections; what is measured is a function that is warm.
        contain(aws, plant(aws.client, aws.region)["instanceId"])
        runs = []
        for existing in (True, False):
            repeat = 1 if arguments.chain_only else REPEAT
            tries = [ours(aws, proxy, arguments.binaries.resolve(), existing) for _ in range(repeat)]
            runs.append(sorted(tries, key=lambda run: run["in_calls"])[repeat // 2])
            # The chain must never be longer, not only in the middle.
            runs[-1]["chain"] = max((run["chain"] for run in tries), key=len)
        print(f"every AWS call takes {arguments.delay_ms:.0f} ms; an instance in a scaling group with two target groups")
        for run in runs:
            problems += show_ours(run, arguments.delay_ms, arguments.chain_only)
        if not arguments.ours_only:
            scratch = directory / "peers"
            scratch.mkdir()
            show_table(runs + peers(aws, proxy, arguments.peers_python, scratch))
            print(
                "\ncut off: from the first AWS call to the end of the one that moved the last interface. whole run: with the start of\n"
                "the process, for Stasis with capture, snapshots, checks and report. memory: the largest process of each."
            )
    finally:
        proxy.stop()
        aws.stop()
        shutil.rmtree(directory, ignore_errors=True)
    for problem in problems:
        print(f"\nTOO SLOW: {problem}")
    print(f"\n{2 - len(problems) if len(problems) < 2 else 0} passed, {len(problems)} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
