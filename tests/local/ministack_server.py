"""MiniStack on a listening socket that is bound already, as a process of the keeper, with corrections of its own.

MiniStack's own start binds a port by number and leaves a pid file in the temporary folder; this does neither.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import re
import sys
import threading
import urllib.parse
import uuid
from typing import Any
from xml.sax.saxutils import escape

CORRECTIONS = [
    (
        "cloudformation AWS::S3::Bucket",
        "ObjectLockEnabled, ObjectLockConfiguration, BucketEncryption and LoggingConfiguration are ignored",
        "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-s3-bucket.html",
    ),
    (
        "cloudformation DescribeChangeSet",
        "a change of a bucket or a key may replace it, whichever property it is of",
        "https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-s3-bucket.html",
    ),
    (
        "cloudformation AWS::IAM::Role",
        "PermissionsBoundary is ignored",
        "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-iam-role.html",
    ),
    (
        "sts AssumeRole",
        "the access key of a session tells nobody outside MiniStack which account the role is of; here it holds the account",
        "https://docs.aws.amazon.com/STS/latest/APIReference/API_GetAccessKeyInfo.html",
    ),
    (
        "sts AssumeRole",
        "any role of any account is given to anybody; here a role stasis-spoke-… is given where there is one, for "
        "its external id and for a session that is named after a case",
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html",
    ),
    (
        "stepfunctions lambda:invoke.waitForTaskToken",
        "an error of the function is swallowed, and TimeoutSeconds may be no expression; its time is scaled like a Wait's",
        "https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-wait-token",
    ),
    (
        "stepfunctions states:startExecution",
        "an execution that runs with this name and input is refused in place of being given, and errors lack their service's name",
        "https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html",
    ),
    (
        "s3 GetObject",
        "Range is ignored where a version is named",
        "https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html",
    ),
    (
        "cloudformation Conditions",
        "AWS::AccountId and its like are not known in a condition, so that each is unequal to whatever it is compared with; nor is Fn::Split",
        "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-conditions.html",
    ),
    (
        "cloudformation AWS::SSM::Document",
        "the type is not known; here the document is made at the local AWS' Systems Manager, which is moto's",
        "https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ssm-document.html",
    ),
    (
        "cloudformation AWS::Events::EventBusPolicy",
        "the type is not known; here the statement goes into the policy of the bus, and nobody asks it",
        "https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-events-eventbuspolicy.html",
    ),
]

# The account of the role that is being assumed, and the name of its session.
ASSUMED: contextvars.ContextVar[str] = contextvars.ContextVar("assumed", default="")
SESSION: contextvars.ContextVar[str] = contextvars.ContextVar("session", default="")


def apply_bucket_properties() -> None:
    """Passes on to MiniStack's S3 what the template says of lock and encryption, and nothing that it does not say."""
    from ministack.services import s3
    from ministack.services.cloudformation import provisioners

    original = provisioners._s3_apply_configurations

    def element(name: str, value: Any) -> str:
        if isinstance(value, dict):
            return f"<{name}>{''.join(element(key, item) for key, item in value.items())}</{name}>"
        if isinstance(value, list):
            return "".join(element(name, item) for item in value)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f"<{name}>{escape(text)}</{name}>"

    def accepted(reply: Any) -> None:
        if reply[0] >= 300:
            raise ValueError(f"S3 refuses the bucket's configuration: {reply[2]!r}")

    def apply(name: str, properties: dict[str, Any], old: dict[str, Any] | None = None) -> None:
        original(name, properties, old)
        if str(properties.get("ObjectLockEnabled", "")).lower() == "true":
            s3._bucket_versioning[name] = "Enabled"
            s3._bucket_object_lock.setdefault(name, {"enabled": True, "default_retention": None})
        lock = properties.get("ObjectLockConfiguration")
        if lock:
            accepted(s3._put_object_lock_configuration(name, element("ObjectLockConfiguration", lock).encode()))
        encryption = properties.get("BucketEncryption")
        if encryption:
            rules = [
                {
                    "ApplyServerSideEncryptionByDefault": rule.get("ServerSideEncryptionByDefault", {}),
                    **({"BucketKeyEnabled": rule["BucketKeyEnabled"]} if "BucketKeyEnabled" in rule else {}),
                }
                for rule in encryption.get("ServerSideEncryptionConfiguration", [])
            ]
            body = element("ServerSideEncryptionConfiguration", {"Rule": rules})
            accepted(s3._put_bucket_encryption(name, body.encode()))
        logging = properties.get("LoggingConfiguration")
        if logging:
            to = {"TargetBucket": logging["DestinationBucketName"], "TargetPrefix": logging.get("LogFilePrefix", "")}
            accepted(s3._put_bucket_logging(name, element("BucketLoggingStatus", {"LoggingEnabled": to}).encode()))

    provisioners._s3_apply_configurations = apply


def apply_replacements() -> None:
    """By which of its properties a bucket is another one; a key is by none."""
    from ministack.services.cloudformation import provisioners

    provisioners._REPLACING_PROPERTIES |= {"AWS::S3::Bucket": ("BucketName",), "AWS::KMS::Key": ()}


def apply_permissions_boundaries() -> None:
    """Keeps the boundary that the template gives to a role."""
    from ministack.services import iam
    from ministack.services.cloudformation import provisioners

    handlers = provisioners._RESOURCE_HANDLERS["AWS::IAM::Role"]
    create = handlers["create"]

    def create_role(logical_id: str, properties: dict[str, Any], *rest: Any, **named: Any) -> Any:
        made = create(logical_id, properties, *rest, **named)
        if "PermissionsBoundary" in properties:
            iam._roles[made[0]]["PermissionsBoundary"] = properties["PermissionsBoundary"]
        return made

    handlers["create"] = create_role


def apply_session_keys() -> None:
    """Has a session's access key say whose it is, and its token what it is named, so that moto, which never sees the call, can
    tell."""
    from ministack.services import sts

    original, generate, token = sts._assumed_role_arn, sts._gen_session_access_key, sts._gen_session_token

    def assumed_role_arn(role_arn: str, session: str) -> Any:
        ASSUMED.set(role_arn.split(":")[4] if role_arn.count(":") > 4 else "")
        SESSION.set(session if re.fullmatch(r"[A-Za-z0-9-]+", session or "") else "")
        return original(role_arn, session)

    def session_token() -> str:
        name = SESSION.get()
        return f"session.{name}.{token()}" if name else token()

    def session_access_key() -> str:
        account = ASSUMED.get()
        return f"ASIA{account}{uuid.uuid4().hex[:4].upper()}" if len(account) == 12 else generate()

    sts._assumed_role_arn = assumed_role_arn
    sts._gen_session_access_key = session_access_key
    sts._gen_session_token = session_token


def apply_spokes(home: str, spokes: list[str]) -> None:
    """The trust policies of infra/member.yaml, as far as a request shows what they ask for."""
    from ministack.services import sts

    handle = sts.handle_request

    async def handle_request(method: str, path: str, headers: Any, body: bytes, query: Any) -> Any:
        fields = {key: values[0] for key, values in urllib.parse.parse_qs((body or b"").decode("utf-8", "replace")).items()}
        role = re.fullmatch(r"arn:aws:iam::(\d{12}):role/stasis-spoke-[a-z]+-([a-z0-9-]+)", fields.get("RoleArn", ""))
        if fields.get("Action") == "AssumeRole" and role:
            is_case = fields.get("RoleSessionName", "").startswith("case-")
            if "/".join(role.groups()) not in spokes or fields.get("ExternalId") != f"stasis-{home}" or not is_case:
                words = f"not authorized to perform: sts:AssumeRole on resource: {role[0]}"
                return sts._error(403, "AccessDenied", words, ns="sts")
        return await handle(method, path, headers, body, query)

    sts.handle_request = handle_request


def apply_task_tokens() -> None:
    """A function's task that waits for its token fails with the function, and waits no longer than its expression says."""
    from ministack.services import stepfunctions

    execute = stepfunctions._execute_task

    def execute_task(state: dict[str, Any], raw_input: Any, execution: Any, context: Any) -> Any:
        seconds = state.get("TimeoutSeconds")
        if ".waitForTaskToken" in state.get("Resource", ""):
            if isinstance(seconds, str):
                expression = seconds.strip().removeprefix("{%").removesuffix("%}")
                seconds = stepfunctions._evaluate_jsonata(expression, raw_input, context)
            state = {**state, "TimeoutSeconds": seconds * stepfunctions._SFN_WAIT_SCALE}
        return execute(state, raw_input, execution, context)

    def invoke_with_callback(resource: str, data: Any, token: str, state: dict[str, Any]) -> Any:
        function = stepfunctions._resolve_lambda_function_ref(data["FunctionName"], optimized=True)
        answered = threading.Event()
        tokens = stepfunctions._task_tokens
        tokens[token] = {"event": answered, "result": None, "error": None, "heartbeat": None}
        try:
            stepfunctions._call_lambda(function, data["Payload"])
            if not answered.wait(timeout=state["TimeoutSeconds"]):
                raise stepfunctions._ExecutionError("States.Timeout", "")
            told = tokens[token]
        finally:
            tokens.pop(token, None)
        if told["error"]:
            raise stepfunctions._ExecutionError(told["error"].get("Error", ""), told["error"].get("Cause", ""))
        return json.loads(told["result"])

    stepfunctions._execute_task = execute_task
    stepfunctions._invoke_with_callback = invoke_with_callback


def apply_nested_executions() -> None:
    """An execution that another starts: given again while it runs with the same input, and refused by the error that a state
    machine can match."""
    from ministack.services import stepfunctions

    start = stepfunctions._invoke_nested_start_execution

    def invoke_nested_start_execution(resource: str, data: dict[str, Any]) -> Any:
        machine, name = data["StateMachineArn"].replace(":stateMachine:", ":execution:"), data.get("Name")
        running = stepfunctions._executions.get(f"{machine}:{name}")
        if running and running["status"] == "RUNNING" and json.loads(running["input"]) == data["Input"]:
            return {"ExecutionArn": running["executionArn"], "StartDate": running["startDate"]}
        try:
            return start(resource, data)
        except stepfunctions._ExecutionError as error:
            raise stepfunctions._ExecutionError(f"StepFunctions.{error.error}Exception", error.cause) from error

    stepfunctions._invoke_nested_start_execution = invoke_nested_start_execution


def apply_ranges_of_versions() -> None:
    """A range of a version, cut out of the whole that MiniStack gives."""
    from ministack.services import s3

    original = s3._get_object

    def get_object(bucket: str, key: str, headers: Any, query: Any = None) -> Any:
        status, answered, body = original(bucket, key, headers, query)
        wanted = headers.get("range", "")
        if status != 200 or not wanted:
            return status, answered, body
        cut = s3._parse_range(wanted, len(body))
        if cut is None:
            return 416, {"Content-Type": "application/xml"}, s3._xml_body(s3._range_error_xml(bucket, key))
        start, end = cut
        part = body[start : end + 1]
        return 206, answered | {"Content-Length": str(len(part)), "Content-Range": f"bytes {start}-{end}/{len(body)}"}, part

    s3._get_object = get_object


# What a request to S3 names beside its path.
S3_HEADERS = {"x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-copy-source", "if-none-match"}


def recorded(app: Any, record: Any) -> Any:
    """The application, with what functions ask of it written down. Bodies of objects are not looked at."""
    from .record import function_of, short

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        function = function_of(headers.get("user-agent", ""), headers.get("x-amz-user-agent", ""))
        query = urllib.parse.parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        credential = query.pop("X-Amz-Credential", [""])[0]
        if function is None and credential.startswith("ASIA"):
            # An address that was signed with a session of the role for it. What signs is left out, as it is below.
            function = {"function": "evidence-writer", "other": False}
        signed = re.search(r"([^=/]+)/\d+/([^/]+)/([^/]+)/aws4_request", credential or headers.get("authorization", ""))
        if function is None or signed is None:
            return await app(scope, receive, send)
        key, region, service = signed.groups()
        call: dict[str, Any] = {**function, "service": service, "region": region, "session": key.startswith("ASIA")}
        call["account"] = key[4:16] if call["session"] else key
        if service == "s3":
            call["operation"], call["path"] = scope["method"], urllib.parse.unquote(scope["path"])
            named = {name: headers[name] for name in S3_HEADERS if name in headers}
            call["parameters"] = {**{name: values[0] for name, values in query.items() if not name.startswith("X-Amz-")}, **named}
            if not credential:
                record.write(call)
                return await app(scope, receive, send)

            async def answer(message: Any) -> None:
                # What S3 refuses was not signed for this.
                if message["type"] == "http.response.start" and message["status"] != 403:
                    record.write(call)
                await send(message)

            return await app(scope, receive, answer)

        told: list[bytes] = []

        async def listen() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                told.append(message.get("body", b""))
                if not message.get("more_body"):
                    record.write(call | described(headers, b"".join(told), short))
            return message

        return await app(scope, listen, send)

    return serve


def described(headers: dict[str, str], body: bytes, short: Any) -> dict[str, Any]:
    """Operation and parameters of a request to another service than S3."""
    target = headers.get("x-amz-target", "")
    if target:
        parameters = json.loads(body or b"{}")
        for entry in parameters.get("Entries", []):
            entry.pop("Detail", None)
        return {"operation": target.rpartition(".")[2], "parameters": short(parameters)}
    fields = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return {"operation": fields.pop("Action", ""), "parameters": short(fields)}


def apply_pseudo_parameters() -> None:
    """The account, the Region and the partition, as a condition may name them."""
    from ministack.core.responses import get_account_id, get_region
    from ministack.services.cloudformation import changesets, engine, handlers, stacks

    original = engine._evaluate_conditions

    def split(value: Any, params: dict[str, Any]) -> Any:
        if isinstance(value, list):
            return [split(item, params) for item in value]
        if not isinstance(value, dict):
            return value
        if set(value) != {"Fn::Split"}:
            return {name: split(item, params) for name, item in value.items()}
        separator, text = value["Fn::Split"]
        return str(params[text["Ref"]]["Value"] if isinstance(text, dict) else text).split(separator)

    def evaluate(template: dict[str, Any], params: dict[str, Any]) -> dict[str, bool]:
        pseudo = {"AWS::AccountId": get_account_id(), "AWS::Region": get_region(), "AWS::Partition": "aws"}
        known = {**{name: {"Value": value} for name, value in pseudo.items()}, **params}
        return original({**template, "Conditions": split(template.get("Conditions", {}), known)}, known)

    for module in (changesets, engine, handlers, stacks):
        module._evaluate_conditions = evaluate


def apply_types_of_resources() -> None:
    """The types that CloudFormation knows and MiniStack does not."""
    import boto3
    from ministack.core.responses import get_account_id, get_region
    from ministack.services import eventbridge
    from ministack.services.cloudformation import provisioners

    # The environment of this process says where Systems Manager answers; the key says for which account.
    def systems_manager() -> Any:
        return boto3.client("ssm", region_name=get_region(), aws_access_key_id=get_account_id(), aws_secret_access_key="local")

    def document(properties: dict[str, Any]) -> dict[str, Any]:
        return {"Name": properties["Name"], "Content": json.dumps(properties["Content"]), "DocumentFormat": "JSON"}

    def create_document(_logical_id: str, properties: dict[str, Any], _stack: str) -> tuple[str, dict[str, Any]]:
        systems_manager().create_document(**document(properties), DocumentType=properties["DocumentType"])
        return properties["Name"], {}

    def update_document(name: str, _old: Any, properties: dict[str, Any], _stack: str) -> tuple[str, dict[str, Any]]:
        newest = systems_manager().update_document(**document(properties), DocumentVersion="$LATEST")
        version = newest["DocumentDescription"]["DocumentVersion"]
        systems_manager().update_document_default_version(Name=name, DocumentVersion=version)
        return name, {}

    def delete_document(name: str, _properties: Any) -> None:
        systems_manager().delete_document(Name=name)

    def create_statement(_logical_id: str, properties: dict[str, Any], _stack: str) -> tuple[str, dict[str, Any]]:
        bus = properties.get("EventBusName", "default")
        statement = {**properties["Statement"], "Sid": properties["StatementId"]}
        policy = eventbridge._event_bus_policies.setdefault(bus, {"Version": "2012-10-17", "Statement": []})
        policy["Statement"] = [s for s in policy["Statement"] if s.get("Sid") != statement["Sid"]] + [statement]
        return f"{bus}|{statement['Sid']}", {}

    def update_statement(_id: str, _old: Any, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        return create_statement("", properties, stack)

    def delete_statement(_id: str, properties: dict[str, Any]) -> None:
        named = {"EventBusName": properties.get("EventBusName", "default"), "StatementId": properties["StatementId"]}
        eventbridge._remove_permission(named)

    provisioners._RESOURCE_HANDLERS |= {
        "AWS::SSM::Document": {"create": create_document, "update": update_document, "delete": delete_document},
        "AWS::Events::EventBusPolicy": {"create": create_statement, "update": update_statement, "delete": delete_statement},
    }


def main() -> None:
    fd, home, *spokes = int(sys.argv[1]), *sys.argv[2:]

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    from .record import Record

    apply_bucket_properties()
    apply_replacements()
    apply_permissions_boundaries()
    apply_session_keys()
    apply_spokes(home, spokes)
    apply_task_tokens()
    apply_nested_executions()
    apply_ranges_of_versions()
    apply_pseudo_parameters()
    apply_types_of_resources()
    config = Config()
    config.bind = [f"fd://{fd}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    config.accesslog = None
    record = Record("ministack")
    asyncio.run(serve(recorded(app, record) if record.wanted else app, config))


if __name__ == "__main__":
    main()
