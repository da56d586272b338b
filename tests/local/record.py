"""Writes down what the functions of Stasis ask of the local AWS, for the comparison with what their roles are granted.

Each emulator appends to a file of its own in the folder that STASIS_CALLS names; without it nothing is written. A line is
one call: the function, by the name that its SDK puts into the user agent, service, operation, the parameters that name
resources, and the tags that those bear at that moment. What people, tests and the collector's signed addresses ask is left
out. Never written: bodies of objects, signatures, policies and whatever else is long.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import threading
from typing import Any

FOLDER = "STASIS_CALLS"
# The command line (stasis-cli) is no function; one that a test made like another (tests/it/local.rs) has the same role.
FUNCTION = re.compile(r"\bapp/(stasis|other)-(?!cli\b)([a-z]+)(?:-\d+)?(?:\s|$)")
# Ids and ARNs are shorter; what is longer says something else than which resource is meant.
LONGEST = 300


class Record:
    """The file of one process; nothing where no folder is named."""

    def __init__(self, emulator: str) -> None:
        folder = os.environ.get(FOLDER)
        self._lock = threading.Lock()
        self._file = None
        if folder:
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
            # One line a write, so that a process that is killed leaves whole lines.
            self._file = open(pathlib.Path(folder) / f"{emulator}-{os.getpid()}.jsonl", "a", encoding="utf-8", buffering=1)

    @property
    def wanted(self) -> bool:
        return self._file is not None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, call: dict[str, Any]) -> None:
        if self._file is None:
            return
        line = json.dumps(call, separators=(",", ":"), default=str) + "\n"
        with self._lock:
            self._file.write(line)


def deployed(stack: dict[str, Any]) -> None:
    """Writes down what the stack of this local AWS is, so that its policies can be resolved."""
    record = Record("stack")
    record.write(stack)
    record.close()


def function_of(*agents: str) -> dict[str, Any] | None:
    """Which function calls, by its user agents, and whether it has other settings than the stack gives it."""
    found = FUNCTION.search(" ".join(agents))
    return {"function": found[2], "other": found[1] == "other"} if found else None


def short(parameters: Any) -> Any:
    """The parameters without what is long."""
    if isinstance(parameters, dict):
        return {key: kept for key, value in parameters.items() if (kept := short(value)) is not None}
    if isinstance(parameters, list):
        return [kept for value in parameters if (kept := short(value)) is not None]
    return None if isinstance(parameters, str) and len(parameters) > LONGEST else parameters


# -- what moto knows of what a request names -----------------------------------------------------------------------------


def tags_of(account: str, region: str, ids: list[str]) -> dict[str, dict[str, str]]:
    """The tags of each of these in EC2."""
    from moto.ec2.models import ec2_backends

    known = ec2_backends[account][region].tags
    return {resource: dict(known[resource]) for resource in sorted(set(ids)) if known.get(resource)}


def instance_of(account: str, region: str, association: str) -> str:
    """The instance of an association with a profile."""
    from moto.ec2.models import ec2_backends

    known = ec2_backends[account][region].iam_instance_profile_associations.values()
    return next((found.instance_id for found in known if found.association_id == association), "")


def roles_of(account: str, profile: str) -> list[str]:
    """The ARNs of the roles in an instance profile, which is named by its ARN."""
    from moto.iam.models import iam_backends

    for backend in iam_backends[account].values():
        for found in backend.instance_profiles.values():
            if found.arn == profile:
                return [role.arn for role in found.roles]
    return []


def key_of(account: str, region: str, named: str) -> dict[str, Any]:
    """The ARN of a key and its aliases, where moto has it."""
    from moto.kms.models import kms_backends

    name = named.rpartition(":")[2]
    for key in kms_backends[account][region].keys.values():
        if name in (key.id, f"key/{key.id}") or name in key.aliases:
            return {"arn": key.arn, "aliases": sorted(key.aliases)}
    return {}
