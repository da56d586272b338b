"""The suspect's world: moto with the corrections, a request recorder and fault injection, in a process of our own.

Run by the keeper with a listening socket that is bound already: `python -m local.moto_server --fd N --account A`.
It answers on that socket only, and refuses browsers: SendCommand runs scripts on this machine.

Beside the AWS APIs:
    GET    /local/requests?contains=&service=&operation=   what was asked and answered
    POST   /local/faults {"service","operation","contains","code","message","status","times","delaySeconds"}
    GET    /local/faults ; DELETE /local/faults[?id=N|?contains=text]
    POST   /local/cloudtrail {"delaySeconds": N}
    GET    /local/corrections ; GET /local/token
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
import uuid
from http import HTTPStatus
from typing import Any, Callable, Iterable
from urllib.parse import parse_qs, parse_qsl, unquote_plus
from xml.sax.saxutils import escape

# Ids of what bears tags in EC2, as requests name them.
TAGGED = re.compile(r"(?:i|vol|eni|sg|snap|fl|acl|vpc)-[0-9a-f]{8,17}")
CREDENTIAL = re.compile(r"Credential=([^/]+)/(\d+)/([^/]+)/([^/]+)/aws4_request")
KEPT_REQUESTS = 50_000
# What the signing key of the stack is asked for; the stack's own keys are MiniStack's.
SIGNING = {"GetPublicKey", "Sign"}
QUERY_SERVICES = {"autoscaling", "elasticloadbalancing", "iam", "sts"}


class Faults:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 1
        self._faults: list[dict[str, Any]] = []

    def add(self, given: dict[str, Any]) -> dict[str, Any]:
        unknown = set(given) - {
            "service", "operation", "contains", "code", "message", "status", "times", "delaySeconds",
        }  # fmt: skip
        if unknown or not (given.get("service") or given.get("operation")):
            raise ValueError(f"a fault needs service or operation, and knows no {sorted(unknown)}")
        with self._lock:
            fault = {
                "id": self._next,
                "service": given.get("service"),
                "operation": given.get("operation"),
                "contains": given.get("contains"),
                "code": given.get("code", "InternalError"),
                "message": given.get("message", "A fault that the test asked for."),
                "status": int(given.get("status", 500)),
                "times": given.get("times"),
                "delaySeconds": float(given.get("delaySeconds", 0)),
                "used": 0,
            }
            self._next += 1
            self._faults.append(fault)
            return fault

    def remove(self, wanted: dict[str, str]) -> int:
        with self._lock:
            before = len(self._faults)
            self._faults = [
                fault
                for fault in self._faults
                if ("id" in wanted and str(fault["id"]) != wanted["id"])
                or ("contains" in wanted and fault["contains"] != wanted["contains"])
            ]
            return before - len(self._faults)

    def list(self) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(fault) for fault in self._faults]

    def match(self, service: str, operation: str, text: str) -> dict[str, Any] | None:
        with self._lock:
            for fault in self._faults:
                if fault["service"] not in (None, service) or fault["operation"] not in (None, operation):
                    continue
                if fault["contains"] and fault["contains"] not in text:
                    continue
                if fault["times"] is not None and fault["used"] >= fault["times"]:
                    continue
                fault["used"] += 1
                return dict(fault)
        return None


class Application:
    def __init__(self, account: str, token: str, verbose: bool, ministack: str = "") -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        from . import corrections, record

        corrections.apply_all()
        self.corrections = corrections
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.account = account
        self.token = token
        self.verbose = verbose
        self.ministack = ministack
        self.faults = Faults()
        self.recording = record
        self.record = record.Record("moto")
        self.requests: list[dict[str, Any]] = []
        self.count = 0
        # moto's state has no locks of its own; one call at a time makes "find, then create" as atomic as AWS' is.
        self.one_at_a_time = threading.RLock()
        self.record_lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_ORIGIN") or environ.get("HTTP_SEC_FETCH_SITE"):
            return answer(start_response, 403, b"not for browsers\n", "text/plain")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if environ["PATH_INFO"].startswith("/local/"):
            return self.control(environ, body, start_response)
        return self.serve(environ, body, start_response)

    # -- the AWS APIs ------------------------------------------------------------------------------------------------

    def serve(self, environ: dict[str, Any], body: bytes, start_response: Callable[..., Any]) -> Iterable[bytes]:
        began = time.monotonic()
        call = self.describe(environ, body)
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = call["account"]
        text = body.decode("utf-8", "replace")
        self.write_down(call, environ, body)
        fault = self.faults.match(call["service"], call["operation"], text + unquote_plus(text))
        if fault and fault["delaySeconds"]:
            time.sleep(fault["delaySeconds"])
        if fault and fault["code"]:
            status, headers, content = failure(call, fault["status"], fault["code"], fault["message"])
        elif call["service"] == "ec2" and call["parameters"].get("DryRun") == "true":
            # As EC2 does with every request, which moto does with some.
            words = "Request would have succeeded, but DryRun flag is set."
            status, headers, content = failure(call, 412, "DryRunOperation", words)
        else:
            status, headers, content = self.ask_moto(environ, call)
        call["status"] = status
        call["errorCode"] = error_code(headers, content) if status >= 300 else None
        call["durationMs"] = round((time.monotonic() - began) * 1000, 1)
        call["requestId"] = next(
            (value for name, value in headers if name.lower() == "x-amzn-requestid"), str(uuid.uuid4())
        )
        with self.record_lock:
            self.count += 1
            kept = {name: call[name] for name in KEPT_FIELDS}
            self.requests.append({"n": self.count, **kept})
            if len(self.requests) > KEPT_REQUESTS:
                del self.requests[: KEPT_REQUESTS // 10]
        self.corrections.TRAIL.record(call, content)
        start_response(f"{status} {phrase(status)}", headers)
        return [content]

    def write_down(self, call: dict[str, Any], environ: dict[str, Any], body: bytes) -> None:
        """What a function asks, before it is answered: the tags are those that IAM would look at."""
        if not self.record.wanted:
            return
        function = self.recording.function_of(call["userAgent"], environ.get("HTTP_X_AMZ_USER_AGENT", ""))
        if function is None:
            return
        account, region = place = call["account"], call["region"]
        parameters = call["parameters"]
        if call["service"] == "access-analyzer":
            parameters = json.loads(body or b"{}")
        parameters = self.recording.short(parameters)
        written = function | {name: call[name] for name in ("service", "operation", "region", "account")}
        written |= {"session": (call["accessKeyId"] or "").startswith("ASIA"), "parameters": parameters}
        if call["service"] == "access-analyzer":
            written["path"] = environ["PATH_INFO"]
        # Reads are granted for everything, whatever its tags.
        if call["service"] == "ec2" and not call["operation"].startswith("Describe"):
            ids = TAGGED.findall(json.dumps(parameters))
            if "AssociationId" in parameters:
                written["instance"] = self.recording.instance_of(*place, parameters["AssociationId"])
                ids.append(written["instance"])
            written["tags"] = self.recording.tags_of(*place, ids)
        if call["service"] == "ec2" and "IamInstanceProfile.Arn" in parameters:
            written["roles"] = self.recording.roles_of(account, parameters["IamInstanceProfile.Arn"])
        if call["service"] == "kms" and "KeyId" in parameters:
            written["key"] = self.recording.key_of(account, region, parameters["KeyId"])
        self.record.write(written)

    def describe(self, environ: dict[str, Any], body: bytes) -> dict[str, Any]:
        match = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        key, region, service = (match[1], match[3], match[4]) if match else ("", "us-east-1", "")
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        parameters: dict[str, Any] = {}
        if target:
            try:
                parameters = json.loads(body or b"{}")
            except ValueError:
                parameters = {"unparsed": body.decode("utf-8", "replace")}
            operation = target.split(".")[-1]
        else:
            parameters = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
            parameters = parameters or dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
            operation = parameters.get("Action", environ["REQUEST_METHOD"])
        return {
            "time": timestamp(time.time()),
            "service": service,
            "operation": operation,
            "parameters": parameters,
            "accessKeyId": key or None,
            "region": region,
            "userAgent": environ.get("HTTP_USER_AGENT", ""),
            "session": session_of(environ),
            "account": self.account_of(key),
            "json": bool(target),
        }

    def account_of(self, key: str) -> str:
        """The account of a caller: 12 digits are the account itself, a session is the role's, all else is ours."""
        if re.fullmatch(r"\d{12}", key):
            return key
        # A session that MiniStack gave (ministack_server.py).
        if session := re.fullmatch(r"ASIA(\d{12})[0-9A-F]{4}", key):
            return session[1]
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.iam.models import get_account_id_from

        found = get_account_id_from(key) if key else DEFAULT_ACCOUNT_ID
        return self.account if found == DEFAULT_ACCOUNT_ID else found

    def ask_moto(self, environ: dict[str, Any], call: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
        answered: dict[str, Any] = {}
        if call["service"] == "access-analyzer":
            parameters = json.loads(environ["wsgi.input"].read() or b"{}")
            result = self.corrections.access_analyzer(call["account"], call["region"], environ["PATH_INFO"], parameters)
            return 200, [("Content-Type", "application/json")], json.dumps(result).encode()

        if call["service"] == "kms" and call["operation"] in SIGNING and self.ministack:
            return self.ask_ministack(environ)

        def start(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Callable[[bytes], None]:
            answered["status"], answered["headers"] = int(status.split()[0]), headers
            return lambda _: None

        try:
            with self.one_at_a_time:
                chunks = self.moto(environ, start)
                content = b"".join(chunks)
                if hasattr(chunks, "close"):
                    chunks.close()
            return answered["status"], *with_request_id(answered["headers"], content)
        except NotImplementedError as error:
            # Not 500: a client would try again three times for nothing.
            return failure(call, 400, "LocalAwsNotImplemented", f"moto does not implement this: {error}")
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            return failure(call, 500, "InternalFailure", f"moto failed: {error!r}")

    def ask_ministack(self, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
        names = {"HTTP_AUTHORIZATION": "Authorization", "HTTP_X_AMZ_TARGET": "X-Amz-Target", "HTTP_X_AMZ_DATE": "X-Amz-Date"}
        headers = {to: environ[name] for name, to in names.items() if name in environ}
        headers["Content-Type"] = environ.get("CONTENT_TYPE", "application/x-amz-json-1.1")
        request = urllib.request.Request(self.ministack, data=environ["wsgi.input"].read(), headers=headers)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
                return reply.status, *with_request_id(list(reply.headers.items()), reply.read())
        except urllib.error.HTTPError as error:
            return error.code, *with_request_id(list(error.headers.items()), error.read())

    # -- the control endpoint ----------------------------------------------------------------------------------------

    def control(self, environ: dict[str, Any], body: bytes, start_response: Callable[..., Any]) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        query = {name: values[0] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
        try:
            if path == "/local/requests" and method == "GET":
                result: Any = self.found(query)
            elif path == "/local/faults" and method == "POST":
                result = self.faults.add(json.loads(body))
            elif path == "/local/faults" and method == "DELETE":
                result = {"removed": self.faults.remove(query)}
            elif path == "/local/faults" and method == "GET":
                result = self.faults.list()
            elif path == "/local/cloudtrail" and method == "POST":
                self.corrections.TRAIL.delay_seconds = float(json.loads(body)["delaySeconds"])
                result = {"delaySeconds": self.corrections.TRAIL.delay_seconds}
            elif path == "/local/corrections" and method == "GET":
                result = {
                    "corrections": [
                        {"operation": item.operation, "fault": item.fault, "document": item.document}
                        for item in self.corrections.CORRECTIONS
                    ],
                    "emulated": self.corrections.EMULATED,
                }
            elif path == "/local/token" and method == "GET":
                result = {"token": self.token, "pid": os.getpid()}
            else:
                return answer(start_response, 404, b'{"error":"no such control"}\n')
        except (ValueError, KeyError, TypeError) as error:
            return answer(start_response, 400, json.dumps({"error": str(error)}).encode())
        return answer(start_response, 200, json.dumps(result, default=str).encode())

    def found(self, query: dict[str, str]) -> list[dict[str, Any]]:
        with self.record_lock:
            requests = list(self.requests)
        for name in ("service", "operation"):
            if name in query:
                requests = [item for item in requests if item[name] == query[name]]
        if "after" in query:
            requests = [item for item in requests if item["n"] > int(query["after"])]
        if "contains" in query:
            requests = [item for item in requests if query["contains"] in json.dumps(item["parameters"])]
        return requests


KEPT_FIELDS = (
    *("time", "service", "operation", "parameters", "status", "errorCode", "durationMs", "accessKeyId"),
    *("region", "requestId"),
)


def session_of(environ: dict[str, Any]) -> str | None:
    """The name of the caller's role session: its token says it (ministack_server.py); at home, where Lambda names the session
    after the function, the SDK's own name for the application does. None for a person."""
    if named := re.match(r"session\.([A-Za-z0-9-]+)\.", environ.get("HTTP_X_AMZ_SECURITY_TOKEN", "")):
        return named[1]
    agent = re.search(r"\bapp/([A-Za-z0-9-]+)", environ.get("HTTP_USER_AGENT", ""))
    return agent[1] if agent else None


def timestamp(now: float) -> str:
    """A time to the millisecond, of one reading of the clock: two readings would now and then put a call a second back."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def with_request_id(headers: list[tuple[str, str]], content: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """moto's EC2 answers carry the words "request-id" in the body; AWS gives there the id of the header."""
    request_id = next((value for name, value in headers if name.lower() == "x-amzn-requestid"), None)
    if request_id is None or b"<requestId>request-id</requestId>" not in content:
        return headers, content
    content = content.replace(b"<requestId>request-id</requestId>", f"<requestId>{request_id}</requestId>".encode())
    kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
    return [*kept, ("Content-Length", str(len(content)))], content


def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def answer(
    start_response: Callable[..., Any], status: int, content: bytes, kind: str = "application/json"
) -> Iterable[bytes]:
    start_response(f"{status} {phrase(status)}", [("Content-Type", kind), ("Content-Length", str(len(content)))])
    return [content]


def failure(call: dict[str, Any], status: int, code: str, message: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """An error in the form of the service's protocol."""
    request_id = str(uuid.uuid4())
    if call["json"]:
        content = json.dumps({"__type": code, "message": message}).encode()
        headers = [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-RequestId", request_id)]
    elif call["service"] in QUERY_SERVICES:
        content = (
            f"<ErrorResponse><Error><Type>{'Sender' if status < 500 else 'Receiver'}</Type><Code>{escape(code)}</Code>"
            f"<Message>{escape(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        ).encode()
        headers = [("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id)]
    else:
        content = (
            f'<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>{escape(code)}</Code>'
            f"<Message>{escape(message)}</Message></Error></Errors><RequestID>{request_id}</RequestID></Response>"
        ).encode()
        headers = [("Content-Type", "text/xml;charset=UTF-8"), ("x-amzn-RequestId", request_id)]
    return status, headers + [("Content-Length", str(len(content)))], content


def error_code(headers: list[tuple[str, str]], content: bytes) -> str | None:
    for name, value in headers:
        if name.lower() == "x-amzn-errortype" and value:
            return value.split(":")[0].split("#")[-1]
    found = re.search(rb"<Code>([^<]*)</Code>", content) or re.search(rb'"__type"\s*:\s*"([^"]*)"', content)
    return found[1].decode("utf-8", "replace").split("#")[-1] if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description="moto with corrections, on a socket that is bound already")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--account", required=True)
    parser.add_argument("--ministack", default="", help="where MiniStack answers, which has the stack's own keys")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    # moto would let any web page call it.
    os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"

    import logging

    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    token = os.environ.get("STASIS_LOCAL_TOKEN", "")
    application = Application(arguments.account, token, arguments.verbose, arguments.ministack)
    if arguments.verbose:
        for item in application.corrections.CORRECTIONS:
            print(f"correction: {item.operation}: {item.fault} [{item.document}]", flush=True)

    from moto.moto_server.werkzeug_app import MotoRequestHandler

    class Quiet(MotoRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *_: Any) -> None:
            pass

    server = make_server(
        "127.0.0.1", 0, application, threaded=True, request_handler=Quiet, fd=arguments.fd
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
