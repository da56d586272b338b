"""Cases that were written by an earlier version are read, reported on and released by today's functions.

For each case in stored-cases/: an instance like the one of then is planted in the local AWS and contained; the documents of its case
are overwritten by the stored ones, with the ids of now in place of those of then; and the case is released. It is judged by the
instance, which must be as it was before, and by the report.

    python tests/upgrade/test_stored_cases.py                 (STASIS_BINARIES names the folder of the binaries)
    python tests/upgrade/test_stored_cases.py --record FILE   writes a contained case down, as today's functions make it

What is stored is never changed afterwards: it stands for the cases that installations have open when they are upgraded.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
import tempfile
import unittest
from typing import Any, Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from local.world import World  # noqa: E402

STORED = pathlib.Path(__file__).parent / "stored-cases"
# What differs from one local AWS to the next.
ID = re.compile(r"\b(?:sg|eni|subnet|vpc|vol|snap|eigw|igw|acl|iip-assoc)-[0-9a-f]{8,17}\b|\bcase-\d{8}T\d{6}Z-[0-9a-f]{8}\b")
SUFFIXED = re.compile(r"^(?:web|metrics)-[0-9a-f]{8}$|^arn:aws:elasticloadbalancing:|^arn:aws:states:|^stasis-evidencebucket-")
# By which a list of things is put into one order.
ORDER = ("device", "deviceIndex", "port")


def pairs(then: Any, now: Any) -> Iterator[tuple[str, str]]:
    """The texts that stand at the same place in two documents."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in then.keys() & now.keys():
            yield from pairs(then[key], now[key])
    elif isinstance(then, list) and isinstance(now, list):
        for one, other in zip(sorted(then, key=place), sorted(now, key=place)):
            yield from pairs(one, other)
    elif isinstance(then, str) and isinstance(now, str):
        yield then, now


def place(item: Any) -> str:
    return str(next((item[key] for key in ORDER if key in item), "")) if isinstance(item, dict) else ""


def fitted(stored: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The stored documents with the ids of now in place of those of then."""
    names: dict[str, str] = {}
    for then, other in pairs(stored, now):
        for old, new in [(then, other)] if SUFFIXED.match(then) else zip(ID.findall(then), ID.findall(other)):
            names.setdefault(old, new)
    text = json.dumps(stored)
    # At once, so that nothing is put in place twice; the longest first.
    known = re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)))
    made = json.loads(known.sub(lambda found: names[found[0]], text))
    unknown = set(ID.findall(json.dumps(made))) - set(ID.findall(json.dumps(now)))
    if unknown:
        raise AssertionError(f"the stored case names {sorted(unknown)}, which this one has nothing for")
    return made


class StoredCases(unittest.TestCase):
    def test_every_stored_case_is_released(self) -> None:
        files = sorted(STORED.glob("v*/*.json"))
        self.assertTrue(files, f"there is no case in {STORED}")
        for file in files:
            with self.subTest(file.relative_to(STORED)), tempfile.TemporaryDirectory() as folder, World(pathlib.Path(folder)) as world:
                stored = json.loads(file.read_text(encoding="utf-8"))
                documents = fitted(stored, world.documents())
                self.a_layout_that_is_not_known_is_refused(world, documents)
                world.overwrite(documents)
                contained = world.look()
                self.assertNotEqual(world.before, contained)
                result = world.run("ReleaseStateMachineArn", {"caseId": world.result["caseId"], "reason": "a false alarm"})
                self.assertEqual(result["status"], "RELEASED", result["reason"])
                (instance,) = result["instances"]
                self.assertEqual({check["status"] for check in instance["checklist"]}, {"PASS"}, instance["checklist"])
                self.assertEqual(without_marks(world.look()), without_marks(world.before))

    def a_layout_that_is_not_known_is_refused(self, world: World, documents: dict[str, Any]) -> None:
        """So that a version that cannot read a case says so, and touches nothing."""
        world.overwrite({**documents, "case.json": {**documents["case.json"], "schema": 99}})
        before = world.look()
        with self.assertRaisesRegex(AssertionError, "has layout 99"):
            world.run("ReleaseStateMachineArn", {"caseId": world.result["caseId"], "reason": "a false alarm"})
        self.assertEqual(world.look(), before)


# Tags that stay, on purpose: evidence and status.
OURS = {"IncidentTicket", "Owner", "Evidence", "stasis:case", "stasis:status"}


def without_marks(seen: Any) -> Any:
    """What AWS shows, without our tags and without what is then empty."""
    if isinstance(seen, dict):
        kept = {key: without_marks(value) for key, value in seen.items()}
        return {key: value for key, value in kept.items() if value != []}
    if isinstance(seen, list):
        return [without_marks(item) for item in seen if not (isinstance(item, dict) and item.get("Key") in OURS)]
    return seen


def record(file: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as folder, World(pathlib.Path(folder)) as world:
        file.write_text(json.dumps(world.documents(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{file}: look through it before it is committed")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        record(pathlib.Path(sys.argv[2]))
        sys.exit(0)
    program = unittest.main(exit=False, verbosity=1)
    ran, wrong = program.result.testsRun, len(program.result.failures) + len(program.result.errors)
    print(f"{ran - wrong} passed, {wrong} failed")
    sys.exit(1 if wrong else 0)
