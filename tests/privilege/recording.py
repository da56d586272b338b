"""A recording of what the functions called (tests/local/record.py writes it), and whether it is one of the whole suite.

tests/run.py marks a recording as whole once every test of the end-to-end suite has run on the programs that are there now.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policies import Place

WHOLE = "whole.json"
BINARIES = Path(os.environ.get("STASIS_BINARIES", "target/debug"))


class Incomplete(Exception):
    """Why there is nothing to compare."""


@dataclass
class Recording:
    """The calls, and the stack that they were made in."""

    calls: list[dict[str, Any]]
    stack: dict[str, Any]
    hub: Place = field(init=False)

    def __post_init__(self) -> None:
        outputs = self.stack["outputs"]
        # Roles name the topic by a reference, which is its ARN.
        known = {"EvidenceBucket": outputs["EvidenceBucket"], "NotificationTopic": outputs["NotificationTopicArn"]}
        self.hub = Place(self.stack["account"], self.stack["region"], self.stack["parameters"], known)

    @classmethod
    def none(cls) -> Recording:
        """No calls, in a stack as the local AWS has it."""
        place = "eu-central-1:111122223333"
        outputs = {
            "EvidenceBucket": "stasis-evidence",
            "NotificationTopicArn": f"arn:aws:sns:{place}:stasis",
            "SigningKeyArn": f"arn:aws:kms:{place}:key/signing",
        }
        parameters = {"DestinationAccount": "222233334444", "DestinationRegion": "eu-west-1"}
        return cls([], {"account": "111122223333", "region": "eu-central-1", "parameters": parameters, "outputs": outputs})


def fingerprint(binaries: Path) -> dict[str, list[int]]:
    """Which programs the functions are, as far as telling whether they were built anew takes."""
    root = Path(__file__).resolve().parents[2]
    names = sorted(path.parent.name for path in (root / "functions").glob("*/Cargo.toml"))
    return {name: [(binaries / name).stat().st_size, (binaries / name).stat().st_mtime_ns] for name in names}


def mark_whole(folder: Path, binaries: Path) -> None:
    """Says of a recording that it is of the whole suite."""
    (folder / WHOLE).write_text(json.dumps(fingerprint(binaries)), encoding="utf-8")


def lines(folder: Path, emulator: str) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob(f"{emulator}-*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()]


def read(folder: Path | None) -> Recording:
    """The recording in a folder.

    Raises Incomplete where it is not one of the whole suite, or of other programs than there are now.
    """
    if folder is None:
        raise Incomplete("no recording was named; make test makes one")
    if not (folder / WHOLE).is_file():
        raise Incomplete(f"{folder} holds no recording of the whole end-to-end suite; make test makes one")
    if json.loads((folder / WHOLE).read_text(encoding="utf-8")) != fingerprint(BINARIES):
        raise Incomplete(f"the recording in {folder} is of functions that were built anew since; make test makes another")
    stacks = lines(folder, "stack")
    if not stacks or any(stack["parameters"] != stacks[0]["parameters"] for stack in stacks):
        raise Incomplete("the stacks of the recording differ in their parameters")
    # Several local AWSs are one: what each named anew gets one name.
    first = stacks[0]
    text = json.dumps(lines(folder, "moto") + lines(folder, "ministack"))
    for stack in stacks[1:]:
        for output, name in stack["outputs"].items():
            text = text.replace(json.dumps(name)[1:-1], json.dumps(first["outputs"][output])[1:-1])
    calls = json.loads(text)
    if not calls:
        raise Incomplete(f"no function called anything in the recording in {folder}")
    return Recording(calls, first)


if __name__ == "__main__":
    mark_whole(Path(sys.argv[1]), BINARIES)
