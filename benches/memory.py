"""What a function's memory does to how long it takes: Lambda gives a share of a processor by it, one whole at 1769 MB
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html).

Each function runs in a control group that gives it just that share, for several sizes; the kernel counts how much processor it
used, how long it had to wait for its share, and how much memory it held at most. Shown: that per function, what the waiting adds
until the instance is cut off, cold and warm, and what the largest hosts need, for which memory signs ten thousand addresses.

Calls but those to S3 go over TLS, and each service has an address of its own, as at AWS: handshakes are part of what a start costs. It is
a model of Lambda on this machine's processor: Lambda's own, its network and its own work at a start are not in it. A start is charged with its
share too, which Lambda is said to be more generous about.

    make bench-memory          (as root, with control groups; builds the functions for this machine as they are released)
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import pathlib
import shlex
import shutil
import sys
import tempfile
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benches"), str(ROOT / "tests")]

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402
from cryptography.x509.oid import NameOID  # noqa: E402

import run as bench  # noqa: E402  (the path is set just above)
from local import stack  # noqa: E402
from local.plant import plant  # noqa: E402

WHOLE_PROCESSOR_MB = 1769
SIZES = (128, 256, 512, 1024, 1769)
# What an SDK call to AWS takes from within a Region, roughly; a function that waits uses no processor.
DELAY_MS = 20
# As often as a run is repeated on warm functions; the middle one counts.
WARM = 3
LARGEST = "u7in-32tb.224xlarge"
# Kernels count a share within a period; a short one waits in small pieces.
PERIOD_US = 20_000


class TlsProxy(bench.Proxy):
    """The recording proxy over TLS, at an address for each service."""

    SYSTEM = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")

    def __init__(self, python: str, delay_ms: float, folder: pathlib.Path) -> None:
        super().__init__(python, delay_ms)
        self.certificate, self.key, self.trusted = (folder / name for name in ("certificate.pem", "key.pem", "trusted.pem"))
        self._certify()

    def options(self) -> list[str]:
        # The collector trusts public roots alone, and sends to a loopback address in the clear.
        return ["--tls", str(self.certificate), str(self.key), "--clear", "S3"]

    def upstreams(self, ministack: str, moto: str) -> list[str]:
        of = dict.fromkeys(("S3", "SNS", "SFN", "STS", "EVENTBRIDGE"), ministack) | dict.fromkeys(stack.MOTO_SERVICES.values(), moto)
        return [f"{service}={upstream}" for service, upstream in of.items()]

    def variables(self, _ministack: str, _moto: str) -> dict[str, str]:
        return {"SSL_CERT_FILE": str(self.trusted), **{f"AWS_ENDPOINT_URL_{service}": at for service, at in self.at.items()}}

    def _certify(self) -> None:
        """A certificate for the loopback address, trusted beside all that a machine trusts: these are read at a start too."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")]), datetime.datetime.now(datetime.timezone.utc)
        at = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        made = made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1)).add_extension(at, False)
        certificate = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        self.certificate.write_bytes(certificate)
        plain = serialization.NoEncryption()
        self.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        system = self.SYSTEM.read_bytes() if self.SYSTEM.is_file() else b""
        self.trusted.write_bytes(system + certificate)


class Shares:
    """Control groups, one for each function: of version 1, or of version 2 where the machine has that (which was not tried)."""

    def __init__(self) -> None:
        root = pathlib.Path("/sys/fs/cgroup")
        self.unified = (root / "cgroup.controllers").is_file()
        name = f"stasis-bench-{os.getpid()}"
        self.parents = {kind: root / name if self.unified else root / kind / name for kind in ("cpu", "cpuacct")}
        try:
            for parent in set(self.parents.values()):
                parent.mkdir()
            if self.unified:
                (self.parents["cpu"] / "cgroup.subtree_control").write_text("+cpu")
        except OSError as error:
            self.remove()
            raise SystemExit(f"this needs root, and control groups for the processor: {error}") from None

    def folder(self, kind: str, function: str) -> pathlib.Path:
        return self.parents[kind] / function

    def make(self, function: str, megabytes: int) -> str:
        """Makes the group of a function, and gives the line of the shell that enters it."""
        quota = PERIOD_US * megabytes // WHOLE_PROCESSOR_MB
        folders = sorted({self.folder(kind, function) for kind in self.parents})
        for folder in folders:
            folder.mkdir()
        cpu = self.folder("cpu", function)
        if self.unified:
            (cpu / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        else:
            (cpu / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (cpu / "cpu.cfs_quota_us").write_text(str(quota))
        return "\n".join(f"echo $$ > {shlex.quote(str(folder / 'cgroup.procs'))}" for folder in folders)

    def used(self, function: str) -> dict[str, float]:
        """Since the group was made, milliseconds of processor and of waiting for it; and the most MiB that one of its processes held."""
        cpu = dict(line.split() for line in (self.folder("cpu", function) / "cpu.stat").read_text().splitlines())
        if self.unified:
            used, waited = int(cpu["usage_usec"]) / 1e3, int(cpu["throttled_usec"]) / 1e3
        else:
            used = int((self.folder("cpuacct", function) / "cpuacct.usage").read_text()) / 1e6
            waited = int(cpu["throttled_time"]) / 1e6
        processes = (self.folder("cpu", function) / "cgroup.procs").read_text().split()
        return {"used": used, "waited": waited, "held": max(map(bench.most_held, processes), default=0.0)}

    def remove(self) -> None:
        """The groups, deepest first; nothing is in them any more."""
        for parent in set(self.parents.values()):
            for folder in [*parent.glob("*/"), parent]:
                if folder.is_dir():
                    folder.rmdir()


def functions() -> list[str]:
    return sorted(path.parent.name for path in (ROOT / "functions").glob("*/Cargo.toml"))


def difference(after: dict[str, dict[str, float]], before: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {name: {**now, **{key: now[key] - before[name][key] for key in ("used", "waited")}} for name, now in after.items()}


def measured(megabytes: int, binaries: pathlib.Path, python: str) -> dict[str, Any]:
    """A containment with functions that start, some with functions that are warm, and one of the largest host."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=binaries))
    proxy, shares = TlsProxy(python, DELAY_MS, directory), Shares()
    aws = stack.LocalAws(directory, binaries=binaries, wait_scale=0.01, through=proxy.through, before=lambda stage: shares.make(stage, megabytes))

    def look() -> dict[str, dict[str, float]]:
        return {name: shares.used(name) for name in functions() if shares.folder("cpu", name).is_dir()}

    try:
        aws.start()
        aws.deploy()
        seen, runs = look(), []
        for _ in range(1 + WARM):
            run = bench.ours(aws, proxy, binaries.resolve(), existing=False)
            now = look()
            runs.append({"to_cut": run["to_cut"], "emulators": run["emulators"], "functions": difference(now, seen)})
            seen = now
        answer = bench.contain(aws, plant(aws.client, aws.region, instance_type=LARGEST)["instanceId"])
        (instance,) = answer["instances"]
        # The host that plays it shows 4 MiB; it was offered as many addresses as the type takes.
        if {failure["code"] for failure in instance["stages"]["memory"]["failures"]} != {"MemoryPartial"}:
            raise SystemExit(f"the memory of the largest host was not taken: {instance['stages']['memory']}")
        return {"cold": runs[0], "warm": sorted(runs[1:], key=lambda run: run["to_cut"])[WARM // 2], "largest": difference(look(), seen)}
    finally:
        proxy.stop()
        aws.stop()
        shares.remove()
        shutil.rmtree(directory, ignore_errors=True)


def show(results: dict[int, dict[str, Any]]) -> None:
    """Tables, with a column for each size."""
    header = "".join(f"{size:>8}" for size in results)

    def row(name: str, values: list[float], form: str = "8.0f") -> None:
        print(f"  {name:14}" + "".join(format(value, form) for value in values))

    for title, of in (("cold start and first call", "cold"), ("a run on warm functions", "warm")):
        print(f"\nms that a function waits for its share of the processor, {title} (its memory in MB)\n  {'':14}{header}   of its own")
        for name in functions():
            at = [results[size][of]["functions"][name] for size in results if name in results[size][of]["functions"]]
            if at and max(one["used"] for one in at) > 1:
                values = "".join(format(one["waited"], "8.0f") for one in at)
                print(f"  {name:14}{values}   {min(one['used'] for one in at):6.0f} ms")
    print(f"\nseconds until the instance was cut off, each AWS call {DELAY_MS} ms (emulators' own time taken out)\n  {'':14}{header}")
    for of in ("cold", "warm"):
        row(of, [results[size][of]["to_cut"] - results[size][of]["emulators"] for size in results], "8.2f")
    print(f"\nthe host with 32 TiB of memory ({LARGEST}): the function memory\n  {'':14}{header}")
    row("waits, ms", [results[size]["largest"]["memory"]["waited"] for size in results])
    row("used, ms", [results[size]["largest"]["memory"]["used"] for size in results])
    print(f"\nthe most memory held by any of these, MiB\n  {'':14}{header}")
    for name in functions():
        at = [results[size]["largest"].get(name) for size in results]
        if all(at):
            row(name, [one["held"] for one in at])


def main() -> int:
    parser = argparse.ArgumentParser(description="what a function's memory does to how long it takes")
    parser.add_argument("--binaries", type=pathlib.Path, required=True, help="the functions for this machine, built for release")
    parser.add_argument("--proxy-python", required=True, help="a Python with aiohttp")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    arguments = parser.parse_args()
    results = {}
    for size in arguments.sizes:
        print(f"{size} MB …", file=sys.stderr, flush=True)
        results[size] = measured(size, arguments.binaries.resolve(), arguments.proxy_python)
    show(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
