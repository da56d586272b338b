"""Stands for every program that mount-evidence calls: does nothing but answer from a world in a file beside it, change that
world as the program would, and write down how it was called. Runs everywhere, without root and without a device.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(sys.argv[0]).absolute().parent
NAME, GIVEN = Path(sys.argv[0]).name, sys.argv[1:]
WORLD = HERE / "world.json"


def value_of(option: str) -> str | None:
    return GIVEN[GIVEN.index(option) + 1] if option in GIVEN else None


def answer(world: dict) -> int:
    devices, last = world["devices"], GIVEN[-1]
    it = devices.get(last)
    match NAME:
        case "id":
            print(0 if "-u" in GIVEN else "root") if world["root"] else print(1000)
        case "blockdev" if it is None:
            return 1
        case "blockdev":
            match GIVEN[0]:
                case "--setro":
                    it["ro"] = it.get("locks", True)
                case "--getro":
                    print(int(it.get("ro", False)))
                case "--getsize64":
                    print(len(it["bytes"]))
        case "lsblk" if it is None:
            return 32
        case "lsblk":
            shown = [last] if "-dnro" in GIVEN else [last, *it.get("parts", [])]
            for name in shown:
                columns = {"NAME": name, "MOUNTPOINT": "", "SERIAL": "", "TYPE": "disk", **devices[name]}
                print(*(columns[key] for key in GIVEN[1].split(",")))
            for user in [] if "-dnro" in GIVEN else it.get("users", []):
                print(user)
        case "blkid":
            content = it.get("content", {}).get(value_of("-s"))
            if content is None:
                return 2
            sys.stdout.buffer.write(content.encode("latin-1") + b"\n")
        case "dd":
            it = devices[GIVEN[0].removeprefix("if=")]
            sys.stdout.write(it["bytes"])
            return int(it.get("unreadable", 0))
        case "partx":
            it["parts"] = it.pop("unread", [])
        case "findmnt":
            return 0 if last in world["mounts"] else 1
        case "losetup" if GIVEN[0] == "-d":
            world["detached"].append(last)
        case "losetup":
            name = f"/dev/loop{90 + len(world['detached'])}"
            devices[name] = {"ro": "--read-only" in GIVEN and not world.get("loops-write"), "bytes": "", "TYPE": "loop"}
            print(name)
        case "mount":
            if message := world.get("mount-fails"):
                print(f"mount: {last}: {message}", file=sys.stderr)
                return 32
            world["mounts"][last] = GIVEN[-2]
        case "umount":
            if last in world.get("busy", []):
                return 32
            del world["mounts"][last]
        case "modprobe":
            return 1
        case "lvm":
            for row in world["lvm"].get(GIVEN[0], []):
                print("  ", row)
            if GIVEN[0] == "vgchange" and "-ay" in GIVEN:
                devices.update(world["lvm"]["activates"])
    return 0


def main() -> int:
    with (HERE / "calls").open("a") as calls:
        print(json.dumps([NAME, *GIVEN]), file=calls)
    world = json.loads(WORLD.read_text())
    code = answer(world)
    WORLD.write_text(json.dumps(world))
    return code


if __name__ == "__main__":
    sys.exit(main())
