"""Makes the folder that a deployment needs from the release binaries. Calls nothing and knows no account.

What it writes depends on the binaries and infra/ alone: the same input gives the same bytes, so that a pipeline can tell by
SHA256SUMS whether anything changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import pathlib
import re
import shutil
import zipfile

from . import InstallError, templates

# What is deployed beside the hub as it stands in infra/.
ALONGSIDE = ("member.yaml", "evidence-account.yaml", "examine.yaml")
COLLECTORS = {"x86_64": "stasis-collector-x86_64", "arm64": "stasis-collector-aarch64"}
SUMS = "SHA256SUMS"
HUB = "hub.json"
# https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html: EM_AARCH64 and EM_X86_64.
MACHINES = {183: "arm64", 62: "x86_64"}
# Lambda's limit for a function's code, unzipped: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
UNZIPPED_LIMIT = 262_144_000


def machine(program: bytes) -> str | None:
    """The machine that an ELF program of 64 bits is for; None for what is none."""
    if program[:5] != b"\x7fELF\x02":
        return None
    return MACHINES.get(int.from_bytes(program[18:20], "little"))


def zipped(program: bytes) -> bytes:
    """A function's code: the program as `bootstrap`, with no time, no owner and no name of a machine in it."""
    buffer = io.BytesIO()
    entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o100755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(entry, program, compresslevel=9)
    return buffer.getvalue()


def package(
    infra: pathlib.Path,
    binaries: pathlib.Path,
    collectors: pathlib.Path,
    folder: pathlib.Path,
    lambda_folder: pathlib.Path | None = None,
    any_machine: bool = False,
) -> dict[str, int]:
    """Writes the package, and gives the size of each file. `lambda_folder` is where `sam` looks for each function's
    `bootstrap`; `any_machine` is for tests, which run what they package."""
    template = templates.read(infra / "template.yaml")
    programs = {stage: _program(binaries / stage, "arm64", any_machine) for stage in templates.stages(template).values()}
    for stage, program in programs.items():
        if len(program) > UNZIPPED_LIMIT:
            raise InstallError(f"{binaries / stage} has {len(program)} bytes, and Lambda takes {UNZIPPED_LIMIT}: strip it")
    files: dict[str, bytes] = {}
    for kind, name in COLLECTORS.items():
        files[f"collectors/{name}"] = _program(collectors / name, kind, any_machine)
    keys = {}
    for stage, program in sorted(programs.items()):
        content = zipped(program)
        # CloudFormation takes code for new where its key is new.
        keys[stage] = f"functions/{stage}-{hashlib.sha256(content).hexdigest()[:16]}.zip"
        files[keys[stage]] = content
    files[HUB] = (json.dumps(templates.plain(infra, keys.__getitem__), indent=1) + "\n").encode()
    for name in ALONGSIDE:
        files[name] = (infra / name).read_bytes()
    files[SUMS] = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)).encode()

    _clear(folder)
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o755 if name.startswith("collectors/") else 0o644)
    if lambda_folder is not None:
        for stage, program in programs.items():
            target = lambda_folder / stage / "bootstrap"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(program)
            target.chmod(0o755)
    return {name: len(content) for name, content in sorted(files.items())}


def _program(file: pathlib.Path, wanted: str, any_machine: bool) -> bytes:
    if not file.is_file():
        raise InstallError(f"there is no {file}: run make package, which builds it")
    content = file.read_bytes()
    if not any_machine and machine(content) != wanted:
        raise InstallError(f"{file} is no program for {wanted}: run make package, which builds it for that")
    return content


def _clear(folder: pathlib.Path) -> None:
    """Only ever what a former package left: a folder that holds anything else is left alone."""
    if not folder.exists():
        return
    known = {SUMS, HUB, *ALONGSIDE, "functions", "collectors"}
    for entry in folder.iterdir():
        if entry.name not in known:
            raise InstallError(f"{folder} holds {entry.name}, which is not of a package: name another folder, or empty it")
    shutil.rmtree(folder)


def sums(folder: pathlib.Path) -> dict[str, str]:
    """The files of a package with their SHA-256, once each has been compared with what it is.

    Raises InstallError where there is no package, or a file is not as it was packaged."""
    listed = folder / SUMS
    if not listed.is_file():
        raise InstallError(f"there is no package in {folder}: run make package first")
    found = {}
    for line in listed.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  ([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*)", line)
        if match is None or ".." in match[2].split("/"):
            raise InstallError(f"{listed} has a line that is none of a package: run make package again")
        file = folder / match[2]
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != match[1]:
            raise InstallError(f"{file} is not as it was packaged: run make package again")
        found[match[2]] = match[1]
    for needed in (HUB, *ALONGSIDE, *(f"collectors/{name}" for name in COLLECTORS.values())):
        if needed not in found:
            raise InstallError(f"the package in {folder} lacks {needed}: run make package again")
    return found
