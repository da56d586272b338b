"""The step of the Command document that takes the memory of a Windows host, as far as it runs without Windows: its source in
C# is compiled by Mono's compiler in the language version of Windows PowerShell 5.1, and run with a tool made up here, against
the bucket of the proof in a virtual machine. What calls it in PowerShell is parsed (tests/infra/check.py) and not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/vm"))
import bucket as buckets  # noqa: E402

PACKAGES = ("mono-mcs", "mono-runtime", "libmono-system-web-extensions4.0-cil")
MIB = 1 << 20
# Stands for PowerShell's call, with the arguments that it gives.
CALLER = """
public static class Caller
{
    public static int Main(string[] given)
    {
        return StasisMemory.Acquire(given[0], given[1], given[2], given[3], given[4], given[5], long.Parse(given[6]));
    }
}
"""
# A tool such as winpmem: ends with 1 where all went well, and talks on its standard error.
TOOL = """#!/bin/sh
echo "driver loaded" >&2
[ "$1" = - ] && cat "{memory}" || cat "{memory}" >"$1"
{then}
exit 1
"""


def installed() -> bool:
    return bool(shutil.which("mcs") and shutil.which("mono"))


def setUpModule() -> None:
    if not installed() and shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], **quiet)
    if not installed():
        raise unittest.SkipTest("Mono cannot be had here (Debian: mono-mcs)")


def crc64nvme(data: bytes) -> str:
    """Bit by bit, as the catalogue of CRCs defines it: nothing in common with the tables of the step."""
    crc = (1 << 64) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0)
    return base64.b64encode((crc ^ ((1 << 64) - 1)).to_bytes(8, "big")).decode()


class MemoryToolOfWindows(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls) -> None:
        cls.made = tempfile.TemporaryDirectory(prefix="windows-")
        cls.addClassCleanup(cls.made.cleanup)
        cls.program = Path(cls.made.name) / "step.exe"
        source = (ROOT / "infra/ssm/acquire-memory.cs").read_text()
        (Path(cls.made.name) / "step.cs").write_text(source + CALLER)
        command = ["mcs", "-langversion:5", "-warnaserror", "-r:System.Web.Extensions", f"-out:{cls.program}"]
        subprocess.run([*command, Path(cls.made.name) / "step.cs"], check=True)

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="windows-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "received").mkdir()
        (self.folder / "host").mkdir()
        self.bucket = buckets.Bucket(self.folder / "received")
        self.addCleanup(self.bucket.close)
        self.memory = b"".join(hashlib.sha256(number.to_bytes(8, "big")).digest() * 128 for number in range(5 * 256))[:-5]

    def acquire(self, output: str = "file", memory_bytes: int | None = None, then: str = "", **others: object) -> tuple[int, list[dict]]:
        (self.folder / "memory").write_bytes(self.memory)
        tool = self.folder / "tool.exe"
        tool.write_text(TOOL.format(memory=self.folder / "memory", then=then))
        tool.chmod(0o755)
        manifest = self.bucket.manifest(5, part_mib=1, **{"format": "raw", **others})
        size = len(self.memory) if memory_bytes is None else memory_bytes
        given = [manifest, tool, "cc" * 32, "{output}", output, self.folder / "host", str(size)]
        environment = {**os.environ, "TMPDIR": str(self.folder)}
        run = subprocess.run(["mono", self.program, *given], capture_output=True, text=True, timeout=120, check=False, env=environment)
        return run.returncode, [json.loads(line) for line in run.stdout.splitlines()]

    def summary(self) -> dict:
        return json.loads((self.bucket.folder / "summary.json").read_text())

    def test_the_memory_arrives_by_file_and_by_stream(self) -> None:
        for output in ("file", "stream"):
            with self.subTest(output):
                self.setUp()
                code, said = self.acquire(output)
                self.assertEqual((code, [line["event"] for line in said]), (0, ["started", "finished"]))
                self.assertEqual(self.bucket.image(), self.memory)
                summary = self.summary()
                self.assertEqual((summary["taken"], summary["reason"], summary["memoryBytes"]), ("memory", None, len(self.memory)))
                stream = summary["stream"]
                self.assertEqual(
                    (stream["format"], stream["bytes"], stream["complete"], stream["retries"]), ("raw", len(self.memory), True, 0)
                )
                self.assertEqual(stream["sha256"], hashlib.sha256(self.memory).hexdigest())
                self.assertEqual([part["bytes"] for part in stream["parts"]], [MIB] * 4 + [MIB - 5])
                self.assertEqual(stream["parts"][0]["crc64nvme"], crc64nvme(self.memory[:MIB]))
                self.assertEqual(stream["parts"][-1]["sha256"], stream["sha256"])
                self.assertIn("the tool ended with 1: driver loaded", summary["errors"])
                self.assertEqual(list((self.folder / "host").iterdir()), [], "what the tool wrote is removed")
                for method, path, headers in self.bucket.requests:
                    self.assertFalse([name for name in headers if name.lower().startswith("x-amz-")], path)
                    if method == "PUT" and "partNumber" not in path:
                        self.assertEqual(headers["if-none-match"], "*", path)

    def test_the_checksum_of_the_whole_is_that_of_the_catalogue(self) -> None:
        self.memory = b"123456789"
        self.acquire(memory_bytes=9)
        self.assertEqual(self.summary()["stream"]["parts"][0]["crc64nvme"], base64.b64encode(bytes.fromhex("AE8B14860A799888")).decode())

    def test_parts_that_fail_are_sent_again(self) -> None:
        self.bucket.faults = {2: [500], 4: [0], 5: [503, 503]}
        code, _ = self.acquire()
        # The answer 403 to a part that then succeeds comes of an address whose time was over.
        self.assertEqual((code, self.bucket.image(), self.summary()["stream"]["retries"]), (0, self.memory, 4))

    def test_a_part_that_is_refused_for_good_ends_it_and_keeps_the_image(self) -> None:
        self.bucket.faults = {3: [403]}
        code, said = self.acquire()
        self.assertEqual((code, said[-1]["event"]), (3, "failed"))
        self.assertIn("part 3 was not accepted: status 403", said[-1]["error"])
        summary = self.summary()
        self.assertEqual((summary["stream"]["complete"], summary["stream"]["bytes"]), (False, 2 * MIB))
        self.assertEqual(self.bucket.image(), self.memory[: 2 * MIB])
        self.assertEqual(summary["stream"]["parts"][-1]["crc64nvme"], crc64nvme(self.memory[: 2 * MIB]))
        self.assertEqual([file.name for file in (self.folder / "host").iterdir()], ["image.raw"])

    def test_an_image_shorter_than_the_memory_is_not_called_complete(self) -> None:
        code, said = self.acquire("stream", memory_bytes=len(self.memory) + MIB)
        self.assertEqual(code, 3)
        self.assertIn("the tool gave 4 MiB, and the host has 5", said[-1]["error"])
        self.assertEqual((self.summary()["stream"]["complete"], self.bucket.image()), (False, self.memory))

    def test_a_tool_that_gives_nothing_is_quoted(self) -> None:
        self.memory = b""
        code, said = self.acquire("stream", memory_bytes=MIB, then="echo access denied >&2")
        self.assertEqual(code, 3)
        self.assertIn("the tool gave nothing: driver loadedaccess denied", said[-1]["error"])
        self.assertEqual(self.summary()["taken"], "nothing")

    def test_addresses_are_renewed(self) -> None:
        later = json.loads(self.bucket.served[self.served(number=2)])
        self.bucket.served["/next.json"] = json.dumps(later).encode()
        self.bucket.faults = {2: [403, 500]}
        code, _ = self.acquire(next=f"{self.bucket.address}/next.json?X-Amz-Signature=0")
        self.assertEqual((code, self.bucket.image()), (0, self.memory))
        later_parts = [path for method, path, _ in self.bucket.requests if method == "PUT" and "uploadId=later" in path]
        self.assertEqual(len(later_parts), 5, "the part that was refused, once more after a fault, and the three after it")

    def served(self, number: int) -> str:
        """Puts the next manifest where it will be asked for, with addresses that can be told from the first ones."""
        self.bucket.manifest(5, part_mib=1, format="raw", number=number)
        text = self.bucket.served["/manifest.json"].replace(b"uploadId=u&", b"uploadId=later&")
        self.bucket.served["/manifest.json"] = text
        return "/manifest.json"

    def test_a_manifest_for_another_kind_of_host_is_refused_before_anything_runs(self) -> None:
        for others, why in (({"format": "lime"}, "format"), ({"schema": 2}, "layout 2"), ({"partBytes": 1 << 40}, "parts of")):
            code, said = self.acquire(**others)
            self.assertEqual((code, self.bucket.image()), (2, b""))
            self.assertIn(why, said[-1]["error"])
        self.assertFalse([path for method, path, _ in self.bucket.requests if method == "PUT"])


def main() -> int:
    result = unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[1:]], exit=False).result
    failed, skipped = len(result.failures) + len(result.errors), len(result.skipped)
    print(f"windows: {max(result.testsRun - failed, 0)} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
