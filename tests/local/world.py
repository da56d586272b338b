"""A local AWS with the stack deployed and one instance contained, for tests that look at what became of it."""

from __future__ import annotations

import json
import os
import pathlib
import re
import time
from typing import Any

from . import describe, plant, stack

BINARIES = pathlib.Path(os.environ.get("STASIS_BINARIES", stack.ROOT / "target/debug")).resolve()
INSTANCE = "i-0a1b2c3d4e5f67890"


class World:
    """A local AWS with a contained instance."""

    def __init__(self, folder: pathlib.Path, variables: dict[str, str] | None = None) -> None:
        """`variables` of the functions' environment, besides those that they have anyway."""
        self.aws = stack.LocalAws(folder, binaries=BINARIES, wait_scale=0.05, through=lambda *_: variables or {})

    def __enter__(self) -> World:
        self.aws.start()
        self.aws.deploy()
        self.planted = plant.plant(self.aws.client, self.aws.region, instance_id=INSTANCE)
        self.before = self.look()
        request = json.loads((stack.ROOT / "events/manual/contain.json").read_text())
        self.result = self.run("ContainStateMachineArn", request)
        if self.result["status"] != "CONTAINED":
            raise AssertionError(f"{self.result['status']}: {self.result['reason']}")
        return self

    def __exit__(self, *_: Any) -> None:
        self.aws.stop()

    def look(self) -> dict[str, Any]:
        return describe.describe(self.aws.client, self.planted)

    def run(self, machine: str, given: dict[str, Any]) -> dict[str, Any]:
        states = self.aws.client("stepfunctions")
        begun = states.start_execution(stateMachineArn=self.aws.outputs[machine], input=json.dumps(given))["executionArn"]
        deadline = time.monotonic() + 120
        while (told := states.describe_execution(executionArn=begun))["status"] == "RUNNING":
            if time.monotonic() > deadline:
                raise AssertionError(f"{machine} still runs: {self.aws.last_lines()}")
            time.sleep(0.1)
        if told["status"] != "SUCCEEDED":
            raise AssertionError(f"{told['status']}: {told.get('error')} {told.get('cause')}")
        return json.loads(told["output"])

    def lines(self, mark: str) -> list[dict[str, Any]]:
        """The lines of the functions' logs that bear a mark. One that something else came into is no JSON, and an error."""
        logs, found = self.aws.client("logs"), []
        for group in logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/stasis-")["logGroups"]:
            for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
                found += [json.loads(event["message"]) for event in page["events"] if mark in event["message"]]
        return found

    @property
    def prefix(self) -> str:
        return f"cases/{self.result['caseId']}/"

    def documents(self) -> dict[str, Any]:
        """The documents of the case by which stages go on: the case itself, and what every stage reported."""
        s3, bucket = self.aws.client("s3"), self.aws.outputs["EvidenceBucket"]
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=self.prefix)
        names = [item["Key"].removeprefix(self.prefix) for page in pages for item in page.get("Contents", [])]
        wanted = [name for name in names if name == "case.json" or re.fullmatch(r"stages/\w+/\d+\.json", name)]
        return {name: json.loads(s3.get_object(Bucket=bucket, Key=self.prefix + name)["Body"].read()) for name in sorted(wanted)}

    def overwrite(self, documents: dict[str, Any]) -> None:
        """In a bucket with versions this hides what was there, and the lock lets it."""
        s3, bucket = self.aws.client("s3"), self.aws.outputs["EvidenceBucket"]
        for name in set(self.documents()) - set(documents):
            s3.delete_object(Bucket=bucket, Key=self.prefix + name)
        for name, document in documents.items():
            s3.put_object(Bucket=bucket, Key=self.prefix + name, Body=json.dumps(document).encode(), ChecksumAlgorithm="SHA256")
