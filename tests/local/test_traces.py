"""What functions tell X-Ray of a run on the local AWS: each call once, under the trace of its invocation.

    python tests/local/test_traces.py    (STASIS_BINARIES names the folder of the binaries)
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import re
import socket
import sys
import tempfile
import threading
import unittest
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from local import record, stack  # noqa: E402
from local.world import World  # noqa: E402

# What X-Ray's segment documents are made of
# (https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html).
FIELDS = {
    "id": re.compile(r"[0-9a-f]{16}"),
    "trace_id": re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}"),
    "parent_id": re.compile(r"[0-9a-f]{16}"),
    "type": re.compile(r"subsegment"),
    "namespace": re.compile(r"aws"),
    "name": re.compile(r"[\w .:/%&#=+\\@-]{1,200}"),
}
OF_THE_CALL = {"operation", "region", "request_id", "retries", "account_id"}


class Daemon:
    """X-Ray's daemon, as far as it is told things."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self.socket.getsockname())
        self.told: list[bytes] = []
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        while datagram := self.socket.recv(1 << 16):
            self.told.append(datagram)

    def close(self) -> None:
        # An empty datagram ends it. What was sent before it over the loopback has arrived before it.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()

    def documents(self) -> list[dict[str, Any]]:
        header, documents = json.dumps({"format": "json", "version": 1}, separators=(",", ":")), []
        for datagram in self.told:
            first, _, document = datagram.decode().partition("\n")
            assert first == header, first
            documents.append(json.loads(document))
        return documents


class Traces(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon()
        with tempfile.TemporaryDirectory() as folder:
            calls, variable = pathlib.Path(folder) / "calls", os.environ.get(record.FOLDER)
            os.environ[record.FOLDER] = str(calls)
            try:
                with World(pathlib.Path(folder) / "aws", variables={"AWS_XRAY_DAEMON_ADDRESS": cls.daemon.address}) as world:
                    cls.lines = world.lines('"target":"audit"')
            finally:
                os.environ.pop(record.FOLDER)
                os.environ.update({record.FOLDER: variable} if variable else {})
            files = [path for path in calls.glob("*.jsonl") if not path.name.startswith("stack-")]
            cls.calls = [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
        cls.daemon.close()
        cls.documents = cls.daemon.documents()

    def test_each_document_is_one_that_x_ray_takes_and_says_nothing_of_what_was_asked(self) -> None:
        for document in self.documents:
            for field, form in FIELDS.items():
                self.assertRegex(document[field], rf"^(?:{form.pattern})$", document)
            self.assertTrue(0 < document["end_time"] - document["start_time"] < 60, document)
            known = {*FIELDS, "start_time", "end_time", "aws", "http", "error", "throttle", "fault"}
            self.assertLessEqual(set(document), known)
            self.assertLessEqual(set(document["aws"]), OF_THE_CALL)
        names = [document["id"] for document in self.documents]
        self.assertEqual(len(names), len(set(names)))

    def test_each_call_of_an_invocation_is_told_once(self) -> None:
        # Who a function is, it asks once, while it starts and before an invocation; signed addresses are the collector's.
        def counted(operation: str) -> bool:
            return operation != "GetCallerIdentity"

        told: collections.Counter[str] = collections.Counter()
        for document in self.documents:
            operation = "s3" if document["name"] == "S3" else document["aws"]["operation"]
            told[operation] += (1 + document["aws"]["retries"]) if counted(operation) else 0
        made: collections.Counter[str] = collections.Counter()
        for call in self.calls:
            operation = "s3" if call["service"] == "s3" else call["operation"]
            made[operation] += 1 if counted(operation) and call["function"] != "evidence-writer" else 0
        self.assertGreater(told["s3"], 50)
        # What is given up because it takes too long is not told: a message, the policy document, the search for target groups.
        given_up = {"Publish", "GetParameter", "DescribeTargetGroups", "DescribeTargetHealth"}
        for operation in set(told) | set(made):
            if operation in given_up:
                self.assertLessEqual(told[operation], made[operation], operation)
            else:
                self.assertEqual(told[operation], made[operation], operation)

    def test_each_change_is_found_in_the_trace_of_its_invocation(self) -> None:
        of_request = {document["aws"].get("request_id"): document for document in self.documents}
        done = [line for line in self.lines if line.get("aws_request")]
        self.assertGreater(len(done), 10)
        for line in done:
            document = of_request[line["aws_request"]]
            (header,) = [span["xrayTraceId"] for span in line["spans"] if "xrayTraceId" in span]
            self.assertIn(f"Root={document['trace_id']};Parent={document['parent_id']};", header)
            self.assertNotIn("fault", document)

    def test_a_call_to_another_account_or_region_says_so(self) -> None:
        places = collections.Counter((document["aws"].get("account_id"), document["aws"]["region"]) for document in self.documents)
        self.assertEqual(set(places), {(None, stack.REGION), (stack.DESTINATION_ACCOUNT, stack.DESTINATION_REGION)})


if __name__ == "__main__":
    program = unittest.main(exit=False, verbosity=1)
    ran, wrong = program.result.testsRun, len(program.result.failures) + len(program.result.errors)
    print(f"{ran - wrong} passed, {wrong} failed")
    sys.exit(1 if wrong else 0)
