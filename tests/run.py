"""Runs every suite one after another and ends with the counts of all of them.

Never hides a suite that did not run: one that fails to start counts as a failure. What the functions call in the end-to-end
suite is recorded, and the suite about least privilege compares it with what their roles are granted; a recording counts as
whole only where every test of the end-to-end suite ran and passed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARIES = Path(os.environ.get("STASIS_BINARIES", "target/debug"))
# Where the calls are recorded: beside what cargo built, and anew each time.
CALLS = BINARIES.parent / "calls"
END_TO_END = "Rust: plans, contracts, end to end"
SUITES = [
    (END_TO_END, ["cargo", "test", "--locked", "--workspace", "--no-fail-fast"]),
    ("least privilege", [sys.executable, "tests/privilege/check.py", "--calls", str(CALLS), "--must-be-whole"]),
    ("recording, and a permissions boundary", [sys.executable, "tests/privilege/test_local.py"]),
    ("corrections of the local AWS", [sys.executable, "tests/local/test_corrections.py"]),
    ("infrastructure", [sys.executable, "tests/infra/check.py"]),
    ("sam validate, and checkov", [sys.executable, "tests/infra/test_validators.py"]),
    ("packaged, deployed, removed", [sys.executable, "tests/infra/test_installer.py"]),
    ("metrics in the logs", [sys.executable, "tests/local/test_metrics.py"]),
    ("traces of calls", [sys.executable, "tests/local/test_traces.py"]),
    ("cases of earlier versions are released", [sys.executable, "tests/upgrade/test_stored_cases.py"]),
    ("the memory step of Windows, by Mono", [sys.executable, "tests/windows/test_memory_tool.py"]),
    ("the report in a browser", [sys.executable, "tests/browser/test_report.py"]),
    ("evidence is mounted and not written to", [sys.executable, "tests/examine/test_mount_evidence.py"]),
    # Slow calls, so that a busy machine cannot make two at the same time look like one after the other.
    (
        "calls that wait until containment",
        [
            *(sys.executable, "benches/run.py", "--ours-only", "--chain-only", "--delay-ms", "200"),
            *("--proxy-python", sys.executable, "--binaries", str(BINARIES)),
        ],
    ),
]
# cargo's closing line of each test binary, unittest's, and the plain one.
CARGO = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.M)
PLAIN = re.compile(r"^(?:\w+: )?(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)


def counts(output: str) -> tuple[int, int, int]:
    lines = CARGO.findall(output) or PLAIN.findall(output)[-1:]
    return tuple(sum(int(line[at] or 0) for line in lines) for at in range(3))


def every_end_to_end_test_passed(output: str) -> bool:
    """Whether cargo's output says so of the end-to-end suite: it was there, nothing was filtered out, ignored or failed."""
    found = re.search(r"Running .*[/(]end_to_end-\w+\)?$.*?^test result: (.*)$", output, re.M | re.S)
    return found is not None and re.match(r"ok\. [1-9]\d* passed; 0 failed; 0 ignored; .* 0 filtered out", found[1]) is not None


def run(command: list[str], **variables: str) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT / "tests"), **variables}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        sys.stdout.write(line)
        sys.stdout.flush()
    return process.wait(), "".join(lines)


def main() -> int:
    rows, passed, failed, skipped = [], 0, 0, 0
    for name, command in SUITES:
        print(f"\n== {name}", flush=True)
        begun = time.monotonic()
        if name == END_TO_END:
            shutil.rmtree(CALLS, ignore_errors=True)
            code, output = run(command, STASIS_CALLS=str(CALLS))
            if every_end_to_end_test_passed(output):
                run([sys.executable, "tests/privilege/recording.py", str(CALLS)])
        else:
            code, output = run(command)
        good, bad, left = counts(output)
        if code != 0 and bad == 0 or good == left == 0:
            bad += 1
        rows.append((name, good, bad, left, time.monotonic() - begun))
        passed, failed, skipped = passed + good, failed + bad, skipped + left
    print()
    for name, good, bad, left, took in rows:
        print(f"{name:40} {good:5} passed {bad:4} failed {left:4} skipped {took:7.1f} s")
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
