"""The metrics that functions tell in their logs, of a run on the local AWS: each once, and so that CloudWatch finds them.

    python tests/local/test_metrics.py    (STASIS_BINARIES names the folder of the binaries)
"""

from __future__ import annotations

import collections
import pathlib
import sys
import tempfile
import unittest
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from local.world import World  # noqa: E402


class Metrics(unittest.TestCase):
    def test_a_run_and_its_release_are_told_once(self) -> None:
        with tempfile.TemporaryDirectory() as folder, World(pathlib.Path(folder)) as world:
            lines = world.lines('"_aws"')
            case = world.result["caseId"]
            (containment,) = [line for line in lines if "TimeToContain" in line]
            self.assertEqual(containment["case"], case)
            # From the opening until the last interface was in quarantine: within the run, which took less than a minute here.
            self.assertTrue(0 < containment["TimeToContain"] < 60_000, containment)
            self.assertEqual([line["Status"] for line in lines if "RunOutcome" in line], ["CONTAINED"])
            self.each_stage_tells_how_it_ended(world, lines)
            world.run("ReleaseStateMachineArn", {"caseId": case, "reason": "a false alarm"})
            lines = world.lines('"_aws"')
            self.assertEqual(sorted(line["Status"] for line in lines if "RunOutcome" in line), ["CONTAINED", "RELEASED"])
            self.assertEqual(len([line for line in lines if "TimeToContain" in line]), 1, "a release contains nothing")

    def each_stage_tells_how_it_ended(self, world: World, lines: list[dict[str, Any]]) -> None:
        """As often as it reported, with the status of each report."""
        outcomes = collections.Counter((line["Stage"], line["Status"]) for line in lines if "StageOutcome" in line)
        reports = [document for name, document in world.documents().items() if name.startswith("stages/")]
        self.assertEqual(outcomes, collections.Counter((report["stage"], report["status"]) for report in reports))
        for line in lines:
            if "StageOutcome" in line:
                self.assertGreaterEqual(line["StageDuration"], 0)
                self.assertEqual([d["Dimensions"] for d in line["_aws"]["CloudWatchMetrics"]], [[["Stage"]], [["Stage", "Status"]]])


if __name__ == "__main__":
    program = unittest.main(exit=False, verbosity=1)
    ran, wrong = program.result.testsRun, len(program.result.failures) + len(program.result.errors)
    print(f"{ran - wrong} passed, {wrong} failed")
    sys.exit(1 if wrong else 0)
