"""The commands: serve, start, stop, plant, describe, demo.

`serve` ends when its standard input closes, on a signal, or when an emulator ends. `stop` ends only the process that
`start` left behind, and only if its command line carries the token that `start` wrote down.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import secrets
import select
import signal
import subprocess
import sys
import time
from typing import Any

from . import stack

DEFAULT_DIRECTORY = stack.ROOT / ".local"
DEFAULT_BINARIES = stack.ROOT / "target" / "debug"


class Ended(Exception):
    """A signal asked this process to end."""


def end_on_signals() -> None:
    def handler(number: int, _frame: Any) -> None:
        raise Ended(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)


def serve(arguments: argparse.Namespace) -> int:
    end_on_signals()
    aws = stack.LocalAws(
        arguments.dir,
        binaries=arguments.binaries,
        wait_scale=arguments.wait_scale,
        verbose=arguments.verbose,
        token=arguments.token,
        copy_binaries=arguments.copy_binaries,
    )
    environment = aws.directory / "env"
    try:
        aws.start()
        environment.unlink(missing_ok=True)
        if arguments.verbose:
            show_corrections(aws)
        aws.deploy(arguments.template)
        aws.write_environment()
        print("ready", flush=True)
        while aws.running():
            watched = [] if arguments.keep_without_stdin else [sys.stdin]
            ready, _, _ = select.select(watched, [], [], 0.5)
            if ready and not os.read(sys.stdin.fileno(), 4096):
                return 0
        print(f"an emulator ended by itself\n{aws.last_lines()}", file=sys.stderr)
        return 1
    except Ended:
        return 0
    except (stack.LocalAwsError, OSError) as error:
        print(f"the local AWS did not start: {error}\n{aws.last_lines()}", file=sys.stderr)
        return 1
    except Exception as error:
        print(f"the local AWS failed: {error!r}\n{aws.last_lines()}", file=sys.stderr)
        return 1
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if aws.keeper is not None:
            environment.unlink(missing_ok=True)
        aws.stop()


def show_corrections(aws: stack.LocalAws) -> None:
    listed = aws.control("/local/corrections")
    for item in listed["corrections"]:
        print(f"corrected: {item['operation']}: {item['fault']} ({item['document']})", file=sys.stderr)
    print(f"project-emulated, not verified on AWS: {', '.join(listed['emulated'])}", file=sys.stderr)


def start(arguments: argparse.Namespace) -> int:
    directory = arguments.dir.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    if running(directory):
        problem = check_running(directory)
        if problem is None:
            print(f"the local AWS is running already; its variables: {directory / 'env'}")
            return 0
        print(f"the running local AWS is not whole ({problem}); it is replaced", file=sys.stderr)
        stop(arguments)
    token = secrets.token_hex(16)
    command = [
        *(sys.executable, str(pathlib.Path(__file__).parent), "serve", "--keep-without-stdin", "--token", token),
        *("--dir", str(directory), "--binaries", str(arguments.binaries), "--wait-scale", str(arguments.wait_scale)),
        *(["--template", str(arguments.template)] if arguments.template else []),
        *(["--verbose"] if arguments.verbose else []),
        *(["--copy-binaries"] if arguments.copy_binaries else []),
    ]
    output = directory / "serve.log"
    with open(output, "wb") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    (directory / "serve.json").write_text(json.dumps({"pid": child.pid, "token": token}), encoding="utf-8")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (directory / "env").is_file() and b"ready\n" in output.read_bytes():
            print(f"the local AWS is up; its variables: . {directory / 'env'}")
            return 0
        if child.poll() is not None:
            break
        time.sleep(0.1)
    print(f"the local AWS did not start:\n{output.read_text(errors='replace')}", file=sys.stderr)
    stop(arguments, quiet=True)
    return 1


def running(directory: pathlib.Path) -> int | None:
    """The process that `start` left in this directory, if it still runs and carries the token."""
    try:
        noted = json.loads((directory / "serve.json").read_text(encoding="utf-8"))
        command = pathlib.Path(f"/proc/{int(noted['pid'])}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    return int(noted["pid"]) if noted["token"].encode() in command.split(b"\0") else None


def check_running(directory: pathlib.Path) -> str | None:
    """Why the running deployment is not to be used, judged by what it does."""
    try:
        values = read_environment(directory)
        aws = attached(directory, values)
        aws.outputs = {"EvidenceBucket": values["STASIS_EVIDENCE_BUCKET"]}
        aws.check()
    except Exception as error:
        return str(error)
    return None


def stop(arguments: argparse.Namespace, quiet: bool = False) -> int:
    directory = arguments.dir.resolve()
    pid = running(directory)
    if pid is None:
        if not quiet:
            print("no local AWS is running here")
    else:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 15
        while running(directory) and not zombie(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if running(directory) and not zombie(pid):
            # Its keeper sees the pipe close and ends the rest.
            os.kill(pid, signal.SIGKILL)
        if not quiet:
            print("the local AWS has ended")
    for name in ("serve.json", "env"):
        (directory / name).unlink(missing_ok=True)
    return 0


def zombie(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def read_environment(directory: pathlib.Path) -> dict[str, str]:
    import shlex

    values = {}
    for line in (directory / "env").read_text(encoding="utf-8").splitlines():
        words = shlex.split(line)
        if len(words) == 2 and words[0] == "export":
            name, _, value = words[1].partition("=")
            values[name] = value
    return values


def attached(directory: pathlib.Path, values: dict[str, str]) -> stack.LocalAws:
    """A handle on a local AWS that another process keeps."""
    aws = stack.LocalAws(directory, account=values["AWS_ACCESS_KEY_ID"], region=values["AWS_REGION"])
    aws.ministack_url, aws.moto_url = values["AWS_ENDPOINT_URL"], values["STASIS_LOCAL_CONTROL"]
    return aws


def plant(arguments: argparse.Namespace) -> int:
    from .plant import plant as do_plant

    try:
        values = read_environment(arguments.dir.resolve())
    except OSError:
        print("no local AWS is running here: start it first", file=sys.stderr)
        return 1
    aws = attached(arguments.dir.resolve(), values)
    options = {
        "instance_id": arguments.instance_id,
        "name": arguments.name,
        "agent": arguments.agent,
        "platform": arguments.platform,
        "extra_interfaces": arguments.extra_interfaces,
        "endpoints": not arguments.no_endpoints,
        **json.loads(arguments.options),
    }
    account, region = options.pop("account", aws.account), options.pop("region", aws.region)
    planted = do_plant(lambda service: aws.client(service, account=account, region=region), region, **options)
    planted |= {"account": account, "region": region}
    print(json.dumps(planted, indent=2))
    return 0


def describe(arguments: argparse.Namespace) -> int:
    from .describe import describe as do_describe

    aws = attached(arguments.dir.resolve(), read_environment(arguments.dir.resolve()))
    planted = json.loads(arguments.planted)
    print(json.dumps(do_describe(lambda service: aws.client(service, account=planted.get("account"), region=planted.get("region")), planted), indent=1, default=str))
    return 0


def demo(arguments: argparse.Namespace) -> int:
    from .demo import run

    end_on_signals()
    try:
        return run(
            arguments.dir.resolve(),
            arguments.binaries,
            arguments.template,
            arguments.event,
            arguments.wait_scale,
            arguments.copy_binaries,
            arguments.report_language,
        )
    except Ended:
        return 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="local", description="the local AWS of Stasis")
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        command.add_argument("--dir", type=pathlib.Path, default=DEFAULT_DIRECTORY, help="state, logs and env file")
        return command

    def deployable(command: argparse.ArgumentParser, wait_scale: float) -> None:
        command.add_argument("--binaries", type=pathlib.Path, default=DEFAULT_BINARIES, help="one file per stage")
        command.add_argument("--template", type=pathlib.Path, default=None, help="default: infra/template.yaml")
        command.add_argument("--wait-scale", type=float, default=wait_scale, help="1 = waits as long as on AWS")
        command.add_argument("--copy-binaries", action="store_true", help="package the files, not a line that runs them")
        command.add_argument("--verbose", action="store_true", help="list the corrections; fuller logs")

    command = add("serve", serve, "run in the foreground until standard input closes")
    deployable(command, 1.0)
    command.add_argument("--token", default=None, help=argparse.SUPPRESS)
    command.add_argument("--keep-without-stdin", action="store_true", help=argparse.SUPPRESS)
    deployable(add("start", start, "run in the background"), 1.0)
    add("stop", stop, "end what `start` left running")
    command = add("plant", plant, "plant a web server to contain")
    command.add_argument("--instance-id", default=None)
    command.add_argument("--name", default="web-7")
    command.add_argument("--agent", choices=["online", "offline", "slow", "lying", "unmanaged"], default=None)
    command.add_argument("--platform", choices=["linux", "windows", "macos"], default=None)
    command.add_argument("--extra-interfaces", type=int, default=0)
    command.add_argument("--no-endpoints", action="store_true")
    command.add_argument("--options", default="{}", help="further options of plant() as a JSON object")
    command = add("describe", describe, "everything that the APIs say of a planted instance")
    command.add_argument("--planted", required=True, help="the answer of plant")
    command = add("demo", demo, "show the main job on one instance")
    deployable(command, 0.05)
    command.add_argument("--event", type=pathlib.Path, default=None, help="default: the first of events/guardduty/")
    command.add_argument("--report-language", choices=["en", "ja"], default="en")

    arguments = parser.parse_args()
    return int(arguments.function(arguments))
