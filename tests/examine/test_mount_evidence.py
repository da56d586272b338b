"""Mounts evidence: infra/examine/mount-evidence.sh, once with every program that it calls made up, for the options and their
order (that runs everywhere), and once on loop devices with real file systems, whose files must be the same byte for byte
before and after. Control cases mount the same files the usual way, and show that then they are not the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "infra/examine/mount-evidence.sh"
PACKAGES = ("e2fsprogs", "xfsprogs", "btrfs-progs", "dosfstools", "cryptsetup-bin", "fdisk", "lvm2")
TOOLS = ("mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "mkfs.vfat", "cryptsetup", "sfdisk", "lvm")
FAKED = "id blockdev lsblk blkid dd partx findmnt losetup mount umount modprobe lvm".split()
HARD = "ro,nodev,nosuid,noexec"
HOSTILE = '"\n$(touch x)`\\'  # 16 bytes are all that ext4 takes
MIB = 1 << 20


def setUpModule() -> None:
    if not all(map(shutil.which, TOOLS)) and shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], **quiet)


def records(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="ascii").splitlines()]


# ---------------------------------------------------------------- with every program made up


class WithProgramsMadeUp(unittest.TestCase):
    maxDiff = None

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="examine-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.record, self.to = self.folder / "record", self.folder / "to"
        for name in FAKED:
            file = self.folder / name
            file.write_text(f"#!{os.path.realpath(sys.executable)} -IS\n" + (ROOT / "tests/examine/fake.py").read_text())
            file.chmod(0o755)
        (self.folder / "filesystems").write_text("".join(f"\t{n}\n" for n in "ext2 ext3 ext4 xfs btrfs vfat ntfs3 iso9660".split()))
        source = SCRIPT.read_text()
        for old, new in (
            ("PATH=/usr/local/sbin:", f"PATH={self.folder}:/usr/local/sbin:"),
            ("/proc/filesystems", str(self.folder / "filesystems")),
        ):
            self.assertIn(old, source)
            source = source.replace(old, new)
        (self.folder / "mount-evidence").write_text(source)
        self.world = {"root": True, "devices": {}, "mounts": {}, "detached": [], "lvm": {"activates": {}}}
        self.device("/dev/evidence", TYPE="disk", content={"TYPE": "ext4", "LABEL": "root"}, SERIAL="vol0a1b")

    def device(self, name: str, **about: object) -> None:
        self.world["devices"][name] = {"bytes": f"content of {name}", **about}

    def run_it(self, *given: object, user: str | None = None) -> int:
        (self.folder / "calls").write_text("")
        (self.folder / "world.json").write_text(json.dumps(self.world))
        environment = {**os.environ, **({"SUDO_USER": user} if user else {})}
        run = subprocess.run(
            ["bash", self.folder / "mount-evidence", *map(str, given)],
            capture_output=True, text=True, check=False, timeout=60, env=environment, cwd=self.folder,
        )  # fmt: skip
        self.said = run.stdout + run.stderr
        self.assertNotRegex(self.said, r"line \d+:", "bash itself found something wrong")
        self.world = json.loads((self.folder / "world.json").read_text())
        self.calls = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        return run.returncode

    def mount(self, *devices: str, **others: str) -> int:
        return self.run_it("mount", *(devices or ["/dev/evidence"]), "--to", self.to, "--record", self.record, **others)

    def called(self, *begin: str) -> list[list[str]]:
        return [call for call in self.calls if call[: len(begin)] == list(begin)]

    def reasons(self) -> list[str]:
        return [line["reason"] for line in records(self.record) if line["event"] == "notMounted"]

    def test_each_file_system_with_its_options(self) -> None:
        wanted = {
            "ext2": HARD, "ext3": f"{HARD},noload", "ext4": f"{HARD},noload", "xfs": f"{HARD},norecovery,nouuid",
            "btrfs": f"{HARD},rescue=nologreplay", "vfat": HARD, "iso9660": HARD, "ntfs": HARD,
        }  # fmt: skip
        for kind, options in wanted.items():
            with self.subTest(kind):
                self.setUp()
                content = {"TYPE": kind, "UUID": "0f0e0d0c-0000-4000-8000-000000000000"}
                self.world["devices"]["/dev/evidence"]["content"] = content
                self.assertEqual(self.mount(), 0, self.said)
                driver = {"ntfs": "ntfs3"}.get(kind, kind)
                place = f"{self.to}/evidence"
                self.assertEqual(self.called("mount"), [["mount", "-t", driver, "-o", options, "/dev/loop90", place]])
                self.assertEqual(self.called("losetup")[0], ["losetup", "--find", "--show", "--read-only", "/dev/evidence"])
                self.assertEqual([line["event"] for line in records(self.record)], ["device", "mounted"])

    def test_first_locked_then_hashed_then_looked_at_then_mounted(self) -> None:
        self.device("/dev/evidence1", TYPE="part", content={"TYPE": "xfs"})
        self.device("/dev/evidence2", TYPE="part", content={"TYPE": "swap"})
        self.world["devices"]["/dev/evidence"] |= {"unread": ["/dev/evidence1", "/dev/evidence2"], "content": {"PTTYPE": "gpt"}}
        self.assertEqual(self.mount(), 0, self.said)
        telling = [" ".join(call) for call in self.calls]
        order = [
            "blockdev --setro /dev/evidence", "blockdev --getro /dev/evidence", "blkid -p -o value -s PTTYPE /dev/evidence",
            "partx -a /dev/evidence", "blockdev --setro /dev/evidence1", "blockdev --getro /dev/evidence1",
            "blockdev --setro /dev/evidence2", "dd if=/dev/evidence bs=4M iflag=direct status=none",
            "blkid -p -o value -s TYPE /dev/evidence1", "losetup --find --show --read-only /dev/evidence1",
            "blockdev --getro /dev/loop90",
            f"mount -t xfs -o {HARD},norecovery,nouuid /dev/loop90 {self.to}/evidence1", "losetup -d /dev/loop90",
        ]  # fmt: skip
        found = [telling.index(call) for call in order]
        self.assertEqual(found, sorted(found))
        self.assertIn("swap space", self.reasons()[0])
        for call in telling:
            self.assertRegex(
                call,
                r"^(id |lsblk -d?nrp?o |findmnt -rn -M |partx -a |losetup (--find --show --read-only|-d) |mount -t \w+ -o ro,"
                r"|blkid -p -o value -s |dd if=\S+ bs=4M iflag=direct status=none$|blockdev --(setro|getro|getsize64) )",
            )

    def test_a_device_that_stays_writable_is_refused_and_not_read(self) -> None:
        for stubborn in ("/dev/evidence", "/dev/evidence1"):
            with self.subTest(stubborn):
                self.setUp()
                self.device("/dev/evidence1", TYPE="part", content={"TYPE": "ext4"})
                self.world["devices"]["/dev/evidence"]["parts"] = ["/dev/evidence1"]
                self.world["devices"][stubborn]["locks"] = False
                self.assertEqual(self.mount(), 3)
                self.assertIn("/dev/evidence: stays writable", self.said)
                self.assertEqual(self.called("dd") + self.called("mount") + self.called("losetup"), [])
                self.assertIn("stays writable", self.reasons()[0])

    def test_no_mount_by_way_of_a_loop_device_that_writes(self) -> None:
        self.world["loops-write"] = True
        self.assertEqual(self.mount(), 0)
        self.assertEqual(self.called("mount"), [])
        self.assertIn("no read-only loop device", self.reasons()[0])
        self.assertEqual(self.world["detached"], ["/dev/loop90"])

    def test_what_is_not_mounted_is_named_with_what_to_do(self) -> None:
        for kind, why in {
            "swap": "swap space", "crypto_LUKS": "cryptsetup open --readonly", "BitLocker": "cryptsetup", "zfs_member": "zpool import",
            "linux_raid_member": "mdadm --assemble --readonly", "hfsplus": "no way is known", None: "nothing known", "f2fs": "no way",
            "exfat": "no driver", "btrfs": "of its UUID", "x'; touch x": "no way is known",
        }.items():  # fmt: skip
            with self.subTest(kind):
                self.setUp()
                self.world["devices"]["/dev/evidence"]["content"] = {"TYPE": kind} if kind else {}
                self.assertEqual(self.mount(), 0)
                self.assertEqual(self.called("mount"), [])
                self.assertIn(why, self.reasons()[0])
                self.assertIn("/dev/evidence: not mounted", self.said)
                self.assertFalse((self.folder / "x").exists())

    def test_a_mount_that_the_kernel_refuses_is_named_and_leaves_nothing(self) -> None:
        self.world["mount-fails"] = "wrong fs type, bad option"
        self.assertEqual(self.mount(), 0)
        self.assertIn("the kernel refuses it: wrong fs type, bad option", self.reasons()[0])
        self.assertEqual((list(self.to.iterdir()), self.world["detached"]), ([], ["/dev/loop90"]))

    def test_what_is_in_use_here_is_refused_and_not_touched(self) -> None:
        for users in (["/dev/evidence1 part /"], ["/dev/evidence1 part [SWAP]"], ["/dev/dm-0 lvm "], ["/dev/md0 raid1 "]):
            with self.subTest(users[0]):
                self.setUp()
                self.world["devices"]["/dev/evidence"]["users"] = users
                self.assertEqual(self.mount(), 3)
                self.assertIn("is in use here", self.said)
                self.assertEqual(self.called("blockdev") + self.called("dd") + self.called("mount"), [])

    def test_only_whole_devices_are_taken(self) -> None:
        self.device("/dev/evidence1", TYPE="part")
        for wrong in ("/dev/evidence1", "/dev/nothing", self.folder / "world.json", "/dev/x$(touch x)"):
            self.assertEqual(self.mount(str(wrong)), 3)
            self.assertIn("is no whole disk", self.said)
            self.assertEqual(self.called("blockdev"), [])
        self.assertEqual(self.mount("/dev/evidence1", "/dev/evidence"), 3, "the other one is mounted all the same")
        self.assertEqual(len(self.called("mount")), 1)

    def test_labels_are_escaped_whatever_they_hold(self) -> None:
        label = '","event":"device","x":"\\\n\r\x1b]0;x\x07$(touch x)`touch x`\'ä\xff'
        self.world["devices"]["/dev/evidence"]["content"]["LABEL"] = label
        self.assertEqual(self.mount(user='a"b'), 0)
        first, mounted = records(self.record)
        self.assertEqual((mounted["label"], mounted["by"], first["by"]), (label, 'a"b', 'a"b'))
        self.assertRegex(self.record.read_text(), r'"label":"[A-Za-z0-9 ._:/,=+@()\\-]*"')
        self.assertFalse((self.folder / "x").exists())
        self.assertNotIn("\x1b", self.said)
        self.assertEqual(self.run_it("verify", "--record", self.record), 0, self.said)

    def test_verify_says_what_became_of_each_device(self) -> None:
        self.device("/dev/other", TYPE="disk")
        self.mount("/dev/evidence", "/dev/other")
        self.assertEqual(self.run_it("verify", "--record", self.record), 0, self.said)
        sha256 = hashlib.sha256(b"content of /dev/other").hexdigest()
        self.assertIn(f"/dev/other: same as when it was first read, and read-only: SHA-256 {sha256}", self.said)
        for change, word in (
            ({"bytes": "Content of /dev/other"}, "CHANGED"), ({"ro": False}, "WRITABLE"),
            ({"unreadable": 1}, "unreadable"), ({"SERIAL": "vol9"}, "CHANGED"),
        ):  # fmt: skip
            with self.subTest(word):
                before = dict(self.world["devices"]["/dev/other"])
                self.world["devices"]["/dev/other"] |= change
                self.assertEqual(self.run_it("verify", "--record", self.record), 1)
                self.assertRegex(self.said, rf"/dev/evidence: same .*\n/dev/other: .*{word}")
                self.assertEqual(records(self.record)[-1]["result"], word.lower())
                self.world["devices"]["/dev/other"] = before
        del self.world["devices"]["/dev/other"]
        self.assertEqual((self.run_it("verify", "--record", self.record), records(self.record)[-1]["result"]), (1, "missing"))

    def test_what_changed_is_not_mounted_again(self) -> None:
        self.mount()
        self.run_it("unmount", "--record", self.record)
        self.world["devices"]["/dev/evidence"]["bytes"] = "something else"
        self.assertEqual(self.mount(), 1)
        self.assertIn("NOT what the record has", self.said)
        self.assertEqual(self.called("mount"), [])

    def test_what_cannot_be_read_is_refused(self) -> None:
        self.world["devices"]["/dev/evidence"]["unreadable"] = 1
        self.assertEqual(self.mount(), 3)
        self.assertIn("cannot be read to its end", self.said)
        self.assertEqual(self.called("mount"), [])

    def test_a_mount_in_use_stays_and_is_named(self) -> None:
        self.mount()
        self.world["busy"] = [f"{self.to}/evidence"]
        self.assertEqual(self.run_it("unmount", "--record", self.record), 4)
        self.assertIn("evidence: in use: end what reads it", self.said)
        self.world["busy"] = []
        self.assertEqual(self.run_it("unmount", "--record", self.record), 0)
        self.assertEqual([line["event"] for line in records(self.record)][-3:], ["verified", "unmounted", "verified"])

    def volume_group(self, rows: list[str] = ["0 case"]) -> None:  # noqa: B006
        self.world["devices"]["/dev/evidence"]["content"] = {"TYPE": "LVM2_member"}
        self.device("/dev/other", TYPE="disk", content={"TYPE": "LVM2_member"})
        activated = {
            "/dev/dm-97": {"ro": True, "bytes": "", "TYPE": "lvm", "content": {"TYPE": "ext4"}},
            "/dev/dm-98": {"ro": False, "locks": False, "bytes": "", "TYPE": "lvm", "content": {"TYPE": "ext4"}},
        }
        self.world["lvm"] = {"vgs": rows, "lvs": ["97 case/root", "98 case/var", "-1 case/thin"], "activates": activated}

    def test_lvm_sees_only_the_evidence_and_activates_it_for_reading(self) -> None:
        self.volume_group()
        self.assertEqual(self.mount("/dev/evidence", "/dev/other"), 0, self.said)
        for call in self.called("lvm"):
            self.assertEqual(call[2:5], ["--devices", "/dev/evidence,/dev/other", "--nohints"])
            self.assertIn("metadata_read_only=1", call[6])
            self.assertIn("backup{backup=0 archive=0}", call[6])
        self.assertEqual({call[1] for call in self.called("lvm")}, {"vgs", "vgchange", "lvs"})
        (active,) = self.called("lvm", "vgchange")
        self.assertIn('read_only_volume_list=["case"]', active[6])
        self.assertEqual(active[7:], ["-ay", "case"])
        self.assertEqual([call[-1] for call in self.called("mount")], [f"{self.to}/dm-97"])
        self.assertEqual(self.reasons()[0], "it is not read-only")
        self.assertIn("was not activated", self.reasons()[1])
        self.world["devices"]["/dev/other"]["users"] = ["/dev/dm-97 lvm "]
        self.assertEqual(self.mount("/dev/other"), 0, "a second time, by the other device: harmless")
        self.assertEqual(self.called("blockdev", "--setro") + self.called("mount") + self.called("lvm"), [])
        self.assertEqual(self.run_it("unmount", "--record", self.record), 0)
        (inactive,) = self.called("lvm")
        self.assertEqual((inactive[3], inactive[7:]), ("/dev/evidence,/dev/other", ["-an", "case"]))
        order = [call[0] for call in self.calls]
        self.assertLess(order.index("umount"), order.index("lvm"))
        self.assertLess(order.index("lvm"), order.index("dd"))

    def test_volume_groups_that_cannot_be_told_apart_or_are_not_whole_are_named(self) -> None:
        for rows, why in (
            (["0 case", "0 case"], "is there twice"), (["1 case"], "lacks 1 of its disks"), (["0 $(touch_x)"], "does not allow"),
            (['0 a"]}global{'], "does not allow"), (["0 ../x"], "does not allow"), ([], "no volume group"), (["0 null"], "or active"),
        ):  # fmt: skip
            with self.subTest(rows):
                self.setUp()
                self.volume_group(rows)
                self.assertEqual(self.mount(), 0)
                self.assertIn(why, self.reasons()[0])
                self.assertEqual(self.called("mount") + self.called("lvm", "vgchange"), [])

    def test_a_call_that_makes_no_sense_is_refused_before_anything_is_done(self) -> None:
        for given in (
            [], ["mount"], ["mount", "--record", self.record], ["mount", "/dev/evidence", "--record", self.record],
            ["mount", "/dev/evidence", "--to", "here", "--record", self.record], ["mount", "/dev/evidence", "--to"],
            ["mount", "/dev/evidence", "--to", self.to, "--record"], ["destroy", "--record", self.record],
            ["verify", "--record", self.record], ["unmount", "/dev/evidence", "--record", self.record],
            ["mount", "/dev/evidence", "--to", self.to, "--record", self.record, "--force"],
            ["mount", "/dev/evidence", "--to", f"{self.to}/a b", "--record", self.record],
        ):  # fmt: skip
            self.assertEqual(self.run_it(*given), 2, given)
            self.assertEqual([call for call in self.calls if call[0] != "id"], [], given)
        self.world["root"] = False
        self.assertEqual(self.mount(), 2)
        self.assertIn("must run as root", self.said)


# ---------------------------------------------------------------- with real file systems on loop devices


def out(*command: object) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout.strip()


def tried(*command: object) -> bool:
    try:
        return subprocess.run([*map(str, command)], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def driver(kind: str) -> bool:
    tried("modprobe", "-q", kind)
    return kind in Path("/proc/filesystems").read_text().split()


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() if sys.version_info >= (3, 11) else hashlib.sha256(content.read()).hexdigest()


class OnLoopDevices(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls) -> None:
        if os.geteuid() != 0:
            raise unittest.SkipTest("loop devices: needs root")
        tried("modprobe", "-q", "loop")
        if not tried("losetup", "-f"):
            raise unittest.SkipTest("loop devices: there are none here")

    def setUp(self) -> None:
        # Cleanups run in the reverse order: the last one looks whether anything is left.
        folder = tempfile.TemporaryDirectory(prefix="examine-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.addCleanup(self.leaves_nothing)
        self.record, self.to, self.plain = self.folder / "record", self.folder / "to", self.folder / "plain"
        self.plain.mkdir()
        self.addCleanup(self.end)

    def end(self) -> None:
        if self.record.exists() and self.record.stat().st_size:
            self.run_it("unmount", "--record", self.record)
        tried("umount", self.plain)

    def leaves_nothing(self) -> None:
        self.assertNotIn(str(self.folder), Path("/proc/mounts").read_text())
        self.assertNotIn(str(self.folder), out("losetup", "--list", "--noheadings", "-O", "BACK-FILE"))

    def image(self, name: str, mib: int) -> Path:
        file = self.folder / name
        with file.open("wb") as content:
            content.truncate(mib * MIB)
        return file

    def attach(self, file: Path) -> str:
        device = out("losetup", "--find", "--show", "--partscan", file)
        self.addCleanup(self.detach, device)
        return device

    def detach(self, device: str) -> None:
        self.end()
        # A loop device stays read-only for whoever has it next.
        tried("blockdev", "--setrw", device)
        tried("losetup", "-d", device)

    def run_it(self, *given: object) -> int:
        run = subprocess.run(["bash", SCRIPT, *map(str, given)], capture_output=True, text=True, check=False, timeout=300, cwd=self.folder)
        self.said = run.stdout + run.stderr
        self.assertNotRegex(self.said, r"line \d+:", "bash itself found something wrong")
        return run.returncode

    def mount(self, *devices: str) -> int:
        return self.run_it("mount", *devices, "--to", self.to, "--record", self.record)

    def events(self, name: str) -> list[dict]:
        return [line for line in records(self.record) if line["event"] == name]

    def dirty(self, kind: str) -> Path:
        """A file system as the snapshot of a running host has it: copied while it is mounted and was just written to."""
        if not driver(kind) or not shutil.which(f"mkfs.{kind}"):
            self.skipTest(f"{kind}: this kernel has no driver for it, or there is no mkfs.{kind}")
        made = self.image("made", {"ext4": 48, "xfs": 320, "btrfs": 128}[kind])
        out(f"mkfs.{kind}", "-q", made)
        out("mount", "-o", "loop", made, self.plain)
        (self.plain / "first").write_text("written before")
        out("umount", self.plain)
        out("mount", "-o", "loop", made, self.plain)
        for number in range(50):
            with (self.plain / f"later-{number}").open("w") as file:
                file.write("written last" * number)
                file.flush()
                os.fsync(file.fileno())
        out("cp", "--sparse=always", made, self.folder / "dirty")
        out("umount", self.plain)
        made.unlink()
        return self.folder / "dirty"

    def mounts_and_writes_nothing(self, kind: str) -> None:
        file = self.dirty(kind)
        before = sha256(file)
        control = self.folder / "control"
        out("cp", "--sparse=always", file, control)

        device = self.attach(file)
        self.assertEqual(self.mount(device), 0, self.said)
        (mounted,) = self.events("mounted")
        place = Path(mounted["place"])
        self.assertEqual(place, self.to / Path(device).name)
        self.assertEqual((place / "first").read_text(), "written before")
        self.assertFalse(tried("touch", place / "x"))
        self.assertFalse(tried("mount", "-o", "remount,rw", place), "not even root makes it writable again")
        self.assertEqual(self.events("device")[0]["sha256"], before)
        self.assertEqual(self.run_it("verify", "--record", self.record), 0, self.said)
        self.assertEqual(self.run_it("unmount", "--record", self.record), 0, self.said)
        self.assertEqual(sha256(file), before)
        self.assertEqual([line["result"] for line in self.events("verified")], ["same", "same"])

        # What the usual way of mounting, for reading alone, does to the very same bytes: so the equality says something.
        out("mount", "-o", "ro", self.attach(control), self.plain)
        out("umount", self.plain)
        self.assertNotEqual(sha256(control), before, "the control shows nothing: the file system was clean")

    def test_ext4_with_a_journal_to_replay(self) -> None:
        self.mounts_and_writes_nothing("ext4")

    def test_xfs_with_a_log_to_replay(self) -> None:
        self.mounts_and_writes_nothing("xfs")

    def test_btrfs_with_a_log_to_replay(self) -> None:
        self.mounts_and_writes_nothing("btrfs")

    def test_a_device_set_read_only_is_written_to_by_a_file_system_that_does_not_ask(self) -> None:
        """Why there are two locks. Where a kernel refuses this, one would do."""
        file = self.image("image", 48)
        out("mkfs.ext4", "-q", file)
        device = self.attach(file)
        out("mount", device, self.plain)
        out("blockdev", "--setro", device)
        before = sha256(file)
        (self.plain / "x").write_text("x" * 100_000)
        os.sync()
        written = sha256(file) != before
        out("umount", self.plain)
        if not written:
            self.skipTest("this kernel refuses what older ones only warn of")

    def test_two_of_the_same_file_system_at_once(self) -> None:
        file = self.dirty("xfs")
        out("cp", "--sparse=always", file, self.folder / "twin")
        self.assertEqual(self.mount(self.attach(file), self.attach(self.folder / "twin")), 0, self.said)
        self.assertEqual(len(self.events("mounted")), 2, self.said)
        self.assertEqual(self.run_it("unmount", "--record", self.record), 0, self.said)

    def test_two_of_the_same_btrfs_are_not_confused(self) -> None:
        file = self.dirty("btrfs")
        out("cp", "--sparse=always", file, self.folder / "twin")
        self.assertEqual(self.mount(self.attach(file), self.attach(self.folder / "twin")), 0, self.said)
        self.assertEqual(len(self.events("mounted")), 1, self.said)
        self.assertIn("of its UUID is mounted", self.events("notMounted")[0]["reason"])

    def test_every_partition_of_a_disk(self) -> None:
        file = self.image("disk", 128)
        layout = "label: gpt\nsize=48M\nsize=40M\nsize=16M\nsize=8M\n"
        subprocess.run(["sfdisk", "-q", file], input=layout, text=True, check=True, capture_output=True)
        device = self.attach(file)
        tried("partx", "-a", device)
        out("mkfs.ext4", "-q", "-L", HOSTILE, f"{device}p1")
        out("mkfs.vfat", f"{device}p2")
        out("mkswap", f"{device}p3")
        self.detach(device)
        before = sha256(file)
        device = self.attach(file)
        self.assertEqual(self.mount(device), 0, self.said)
        first = self.events("mounted")[0]
        self.assertEqual((first["what"], first["filesystem"], first["label"]), (f"{device}p1", "ext4", HOSTILE))
        self.assertEqual([out("blockdev", "--getro", f"{device}{part}") for part in ("", "p1", "p2", "p3", "p4")], ["1"] * 5)
        left = {line["what"]: (line["filesystem"], line["reason"]) for line in self.events("notMounted")}
        self.assertEqual(left[f"{device}p3"][0], "swap")
        self.assertEqual(left[f"{device}p4"][0], "unknown")
        if driver("vfat"):
            self.assertEqual(self.events("mounted")[1]["filesystem"], "vfat")
        else:
            self.assertEqual(left[f"{device}p2"], ("vfat", "the kernel has no driver for it: use an image that has"))
        self.assertEqual(sorted(p.name for p in self.to.iterdir()), sorted(Path(e["what"]).name for e in self.events("mounted")))
        self.assertFalse((self.folder / "x").exists())

        lines = len(records(self.record))
        self.assertEqual(self.mount(device), 0, "a second time: harmless")
        self.assertIn("mounted already", self.said)
        self.assertEqual(len(records(self.record)), lines)
        self.assertEqual(self.run_it("unmount", "--record", self.record), 0, self.said)
        self.assertEqual((sha256(file), list(self.to.iterdir())), (before, []))
        self.assertEqual(self.mount(device), 0, "and once more")
        self.assertEqual(len(self.events("device")), 1)

    def test_lvm(self) -> None:
        tried("modprobe", "-q", "dm-mod")
        if not shutil.which("lvm") or not tried("dmsetup", "version"):
            self.skipTest("LVM: this kernel has no device mapper, or lvm2 is missing")
        files = [self.image(name, 48) for name in ("disk-1", "disk-2")]
        devices = [self.attach(file) for file in files]
        ours = ("--devices", ",".join(devices), "--nohints", "-qq")
        out("lvm", "vgcreate", *ours, "stasis-test", *devices)
        for name, size, where in (("root", "36M", devices), ("over", "36M", devices)):
            out("lvm", "lvcreate", *ours, "-y", "-Wn", "-Zn", "-n", name, "-L", size, "stasis-test", *where)
        device = os.path.realpath("/dev/stasis-test/root")
        out("mkfs.ext4", "-q", device)
        out("mount", device, self.plain)
        (self.plain / "first").write_text("written before")
        out("umount", self.plain)
        out("mount", device, self.plain)
        (self.plain / "later").write_text("written last")
        os.sync()
        # Both disks at one moment, the file system mounted, as a snapshot of several volumes has them.
        copies = [self.folder / f"{file.name}-copy" for file in files]
        for file, copy in zip(files, copies):
            out("cp", "--sparse=always", file, copy)
        out("umount", self.plain)
        out("lvm", "vgchange", *ours, "-an", "stasis-test")
        for one in devices:
            out("losetup", "-d", one)
        before = [sha256(copy) for copy in copies]

        devices = [self.attach(copy) for copy in copies]
        self.assertEqual(self.mount(devices[0]), 0, self.said)
        self.assertIn("lacks 1 of its disks", self.events("notMounted")[0]["reason"])
        self.assertEqual(self.mount(*devices), 0, self.said)
        (mounted,) = self.events("mounted")
        self.assertEqual((mounted["filesystem"], mounted["name"]), ("ext4", "stasis-test/root"))
        self.assertRegex(mounted["place"], rf"^{self.to}/dm-\d+$")
        self.assertEqual((Path(mounted["place"]) / "first").read_text(), "written before")
        self.assertEqual(self.mount(devices[1]), 0, self.said)
        self.assertIn("mounted already", self.said)
        self.assertEqual(self.run_it("unmount", "--record", self.record), 0, self.said)
        self.assertEqual([sha256(copy) for copy in copies], before)
        self.assertFalse(Path("/dev/stasis-test").exists())
        self.assertFalse([line for line in out("dmsetup", "ls").splitlines() if line.startswith("stasis")])

    def test_an_encrypted_volume_is_named(self) -> None:
        file = self.image("image", 32)
        quick = ("--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-")
        made = shutil.which("cryptsetup") and subprocess.run(
            ["cryptsetup", "luksFormat", "-q", *quick, file], input=b"key", capture_output=True, check=False
        )
        if not made or made.returncode != 0:
            with file.open("r+b") as content:
                content.write(b"LUKS\xba\xbe\x00\x01")
        before = sha256(file)
        self.assertEqual(self.mount(self.attach(file)), 0, self.said)
        (left,) = self.events("notMounted")
        self.assertEqual(left["filesystem"], "crypto_LUKS")
        self.assertIn("cryptsetup open --readonly", left["reason"])
        self.assertEqual(sha256(file), before)

    def test_content_of_no_known_kind_is_named(self) -> None:
        file = self.image("image", 16)
        file.write_bytes(random.Random(7).randbytes(16 * MIB + 512))  # and a size that is no multiple of what is read at once
        device = self.attach(file)
        self.assertEqual(self.mount(device), 0, self.said)
        self.assertEqual(self.events("notMounted")[0]["filesystem"], "unknown")
        (first,) = self.events("device")
        self.assertEqual((first["sha256"], int(first["size"])), (sha256(file), file.stat().st_size))

    def test_a_change_behind_the_device_is_found(self) -> None:
        file = self.dirty("ext4")
        device = self.attach(file)
        self.assertEqual(self.mount(device), 0, self.said)
        with file.open("r+b") as content:
            content.seek(20 * MIB)
            content.write(b"changed")
        for what in ("verify", "unmount"):
            self.assertEqual(self.run_it(what, "--record", self.record), 1)
            self.assertIn(f"{device}: CHANGED since it was first read", self.said)
        self.assertEqual(self.mount(device), 1)
        self.assertIn("NOT what the record has", self.said)
        self.assertEqual(len(self.events("mounted")), 1)

    def test_a_device_that_is_made_writable_again_is_found(self) -> None:
        device = self.attach(self.dirty("ext4"))
        self.mount(device)
        out("blockdev", "--setrw", device)
        self.assertEqual(self.run_it("verify", "--record", self.record), 1)
        self.assertIn("WRITABLE", self.said)
        self.assertEqual(self.run_it("unmount", "--record", self.record), 1)
        self.assertEqual(self.mount(device), 0, self.said)
        self.assertEqual(self.run_it("verify", "--record", self.record), 0)

    def test_a_device_that_is_mounted_already_is_refused_and_stays_as_it_is(self) -> None:
        file = self.image("image", 48)
        out("mkfs.ext4", "-q", file)
        device = self.attach(file)
        out("mount", device, self.plain)
        self.assertEqual(self.mount(device), 3)
        self.assertIn("is in use here", self.said)
        self.assertEqual(out("blockdev", "--getro", device), "0")


def main() -> int:
    result = unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[1:]], exit=False, verbosity=1).result
    for test, why in result.skipped:
        print(f"skipped: {getattr(test, '_testMethodName', test)}: {why}")
    failed, skipped = len(result.failures) + len(result.errors), len(result.skipped)
    print(f"examine: {max(result.testsRun - failed - skipped, 0)} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
