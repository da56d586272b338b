"""Keeps the emulators, and everything they start, from outliving the process that asked for them.

It reads what to start from the first line of its standard input, then waits there. When that closes, whatever ended its parent, or when an
emulator ends by itself, it kills every process below it and ends. It is the reaper of its orphans, so that no function
or script of theirs can slip away. It starts nothing else and never looks at processes that are not its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def children_of(parents: set[int]) -> set[int]:
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                # The command in parentheses may itself hold blanks and parentheses.
                parent = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent in parents:
            found.add(int(name))
    return found


def end_everything_below() -> None:
    """Kills all descendants until none is left; orphans become our children and are found in the next round."""
    while True:
        below: set[int] = set()
        layer = {os.getpid()}
        while layer := children_of(layer) - below:
            below |= layer
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            if not children_of({os.getpid()}):
                return


def read_line() -> bytes:
    """The first line, unbuffered: select must see what follows."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(sys.stdin.fileno(), 1)
        if not part:
            sys.exit(0)
        line += part
    return line


def main() -> int:
    specification = json.loads(read_line())
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stop, notify = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(notify, b"x"))
    started: dict[int, str] = {}
    try:
        for item in specification:
            with open(item["log"], "ab") as log:
                child = subprocess.Popen(
                    item["argv"],
                    env=item["env"],
                    cwd=item["cwd"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[item["fd"]],
                    preexec_fn=die_with_parent,
                )
            os.close(item["fd"])
            started[child.pid] = item["name"]
            # The keeper reaps by itself; Popen must not.
            child.returncode = 0
        while True:
            ready, _, _ = select.select([sys.stdin.fileno(), stop], [], [], 0.2)
            if stop in ready or (ready and not os.read(sys.stdin.fileno(), 1)):
                return 0
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    return 1
                if pid == 0:
                    break
                if pid in started:
                    print(f"{started[pid]} ended by itself (status {status})", flush=True)
                    return 1
    finally:
        end_everything_below()


if __name__ == "__main__":
    sys.exit(main())
