"""What the installer asks of AWS: who calls, a bucket for the package, and stacks by change sets. Knows nothing of Stasis."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from typing import Any, Iterator

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from . import InstallError
from .parameters import Values

# Seconds between two looks at a stack that changes, and for how long at most.
LOOK_SECONDS = 5.0
LONGEST_SECONDS = 3600.0


@dataclasses.dataclass
class Stack:
    """A stack as it stands."""

    status: str
    parameters: Values
    outputs: Values
    protected: bool


@contextlib.contextmanager
def in_words(doing: str) -> Iterator[None]:
    """An error of AWS, said with what was being done."""
    try:
        yield
    except NoCredentialsError:
        raise InstallError("there are no AWS credentials: set AWS_PROFILE, or sign in (aws sso login)") from None
    except ClientError as error:
        detail = error.response.get("Error", {})
        code = detail.get("Code", "")
        if code in ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException"):
            raise InstallError(f"AWS does not take these credentials ({code}): sign in again (aws sso login)") from None
        raise InstallError(f"{doing}: {code}: {detail.get('Message', '')}") from None
    except BotoCoreError as error:
        raise InstallError(f"{doing}: {error}") from None


class Aws:
    """One account and Region, by the credentials of the environment."""

    def __init__(self) -> None:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        with in_words("reading the AWS configuration"):
            self._session = boto3.Session(region_name=region or None)
        self.region = self._session.region_name or ""
        if not self.region:
            raise InstallError("no Region is set: set AWS_REGION to the Region that Stasis is to run in")
        with in_words(f"looking {self.region} up"):
            self.partition = self._session.get_partition_for_region(self.region)
        with in_words(f"asking who calls, in {self.region}"):
            caller = self.client("sts").get_caller_identity()
        self.account: str = caller["Account"]
        self.caller: str = caller["Arn"]

    def client(self, service: str) -> Any:
        """A client for a service of this Region."""
        config = Config(retries={"mode": "standard", "total_max_attempts": 5})
        return self._session.client(service, region_name=self.region, config=config)

    def public_key(self, key: str) -> bytes:
        """The public half of an asymmetric key of KMS, as DER."""
        with in_words(f"reading the public half of {key}"):
            return bytes(self.client("kms").get_public_key(KeyId=key)["PublicKey"])

    # -- the bucket of the package ----------------------------------------------------------------------------------

    @property
    def artefact_bucket(self) -> str:
        """The bucket that the package is put into."""
        return f"stasis-artefacts-{self.account}-{self.region}"

    def make_artefact_bucket(self) -> None:
        """Makes it where it is not there, private and versioned. One of this name that another account made is refused."""
        s3, name = self.client("s3"), self.artefact_bucket
        try:
            s3.head_bucket(Bucket=name, ExpectedBucketOwner=self.account)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise InstallError(
                    f"the bucket {name} is not this account's to use ({error.response['Error']['Code']}): nothing was uploaded"
                ) from None
            place = {} if self.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
            with in_words(f"making the bucket {name}"):
                s3.create_bucket(Bucket=name, **place)
        own = {"Bucket": name, "ExpectedBucketOwner": self.account}
        arn = f"arn:{self.partition}:s3:::{name}"
        tls = {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        with in_words(f"setting the bucket {name} up"):
            s3.put_public_access_block(
                **own,
                PublicAccessBlockConfiguration=dict.fromkeys(
                    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
                ),
            )
            s3.put_bucket_versioning(**own, VersioningConfiguration={"Status": "Enabled"})
            s3.put_bucket_policy(**own, Policy=json.dumps({"Version": "2012-10-17", "Statement": [tls]}))

    def put_once(self, bucket: str, key: str, content: bytes) -> bool:
        """Puts an object whose key tells its content; says whether it was not there yet."""
        s3 = self.client("s3")
        own = {"Bucket": bucket, "Key": key, "ExpectedBucketOwner": self.account}
        try:
            if s3.head_object(**own)["ContentLength"] == len(content):
                return False
        except ClientError as error:
            # Whoever may not list gets 403 for what is not there.
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "403"):
                raise InstallError(f"looking for s3://{bucket}/{key}: {error}") from None
        with in_words(f"uploading s3://{bucket}/{key}"):
            s3.put_object(**own, Body=content, ChecksumAlgorithm="SHA256")
        return True

    def address(self, bucket: str, key: str) -> str:
        """The address by which CloudFormation reads a template; its own endpoint where one is set for S3."""
        endpoint = self.client("s3").meta.endpoint_url.rstrip("/")
        return f"{endpoint}/{bucket}/{key}"

    # -- stacks ----------------------------------------------------------------------------------------------------

    def stack(self, name: str) -> Stack | None:
        """A stack; None where there is none, or one that was only ever proposed."""
        try:
            found = self.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError":
                return None
            raise InstallError(f"reading the stack {name}: {error}") from None
        except BotoCoreError as error:
            raise InstallError(f"reading the stack {name}: {error}") from None
        if found["StackStatus"] == "REVIEW_IN_PROGRESS":
            return None
        return Stack(
            status=found["StackStatus"],
            parameters={p["ParameterKey"]: p.get("ParameterValue", "") for p in found.get("Parameters", [])},
            outputs={o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])},
            protected=found.get("EnableTerminationProtection", False),
        )

    def running(self, outputs: Values, names: tuple[str, ...]) -> list[str]:
        """The executions that go on, of the state machines that these outputs of a stack name."""
        found = []
        for arn in (outputs[name] for name in names if name in outputs):
            with in_words(f"looking for executions of {arn}"):
                pages = self.client("stepfunctions").get_paginator("list_executions").paginate(stateMachineArn=arn, statusFilter="RUNNING")
                found += [execution["executionArn"] for page in pages for execution in page["executions"]]
        return found

    def propose(self, name: str, template_url: str, values: Values) -> tuple[str, list[dict[str, Any]]] | None:
        """A change set, and what it would change; None where nothing would change. What has a fixed name, is kept when a stack
        is deleted, and is still there from a former stack is taken over."""
        formation = self.client("cloudformation")
        there = self.stack(name)
        with in_words(f"proposing the stack {name}"):
            change_set = formation.create_change_set(
                StackName=name,
                ChangeSetName=f"stasis-{time.time_ns()}",
                ChangeSetType="UPDATE" if there else "CREATE",
                TemplateURL=template_url,
                Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in sorted(values.items())],
                Capabilities=["CAPABILITY_NAMED_IAM"],
                ImportExistingResources=True,
            )["Id"]
        told = self._when(lambda: self._change_set(change_set), lambda c: c["Status"] in ("CREATE_COMPLETE", "FAILED"), name)
        if told["Status"] == "CREATE_COMPLETE":
            return change_set, [c["ResourceChange"] for c in told["Changes"]]
        reason = told.get("StatusReason", "")
        with in_words(f"dropping the change set of {name}"):
            formation.delete_change_set(ChangeSetName=change_set)
        # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-updating-stacks-changesets-create.html:
        # an empty change set fails, and only its words tell it from another failure.
        if there and ("didn't contain changes" in reason or "No updates are to be performed" in reason):
            return None
        raise InstallError(f"CloudFormation refuses the stack {name}: {reason}")

    def _change_set(self, change_set: str) -> dict[str, Any]:
        formation = self.client("cloudformation")
        told = formation.describe_change_set(ChangeSetName=change_set)
        following = told.get("NextToken")
        while following:
            page = formation.describe_change_set(ChangeSetName=change_set, NextToken=following)
            told["Changes"] += page["Changes"]
            following = page.get("NextToken")
        return told

    def drop(self, change_set: str) -> None:
        """Drops a change set that is not to be carried out."""
        with in_words("dropping a change set"):
            self.client("cloudformation").delete_change_set(ChangeSetName=change_set)

    def carry_out(self, name: str, change_set: str) -> Stack:
        """Carries a change set out, and waits until the stack stands. Raises InstallError with the reasons where it does not."""
        formation = self.client("cloudformation")
        begun = time.time()
        with in_words(f"changing the stack {name}"):
            formation.execute_change_set(ChangeSetName=change_set)
        stack = self._settled(name)
        if stack is None or stack.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
            why = "; ".join(self._failures(name, begun)) or "no reason was given"
            raise InstallError(f"the stack {name} is {stack.status if stack else 'gone'}: {why}")
        return stack

    def protect(self, name: str, on: bool) -> None:
        """Termination protection of the stack itself."""
        with in_words(f"setting the termination protection of the stack {name}"):
            self.client("cloudformation").update_termination_protection(StackName=name, EnableTerminationProtection=on)

    def delete(self, name: str) -> None:
        """Deletes a stack, and waits until it is gone."""
        begun = time.time()
        with in_words(f"deleting the stack {name}"):
            self.client("cloudformation").delete_stack(StackName=name)
        stack = self._settled(name)
        if stack is not None and stack.status != "DELETE_COMPLETE":
            why = "; ".join(self._failures(name, begun)) or "no reason was given"
            raise InstallError(f"the stack {name} is {stack.status}: {why}")

    def _settled(self, name: str) -> Stack | None:
        return self._when(lambda: self.stack(name), lambda s: s is None or not s.status.endswith("_IN_PROGRESS"), name)

    def _failures(self, name: str, since: float) -> list[str]:
        """Why resources failed, the first first."""
        with in_words(f"reading the events of {name}"):
            events = self.client("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
        return [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
            for event in reversed(events)
            if event["ResourceStatus"].endswith("_FAILED") and event["Timestamp"].timestamp() >= since - 60
        ][:5]

    def _when(self, look: Any, done: Any, name: str) -> Any:
        deadline = time.monotonic() + LONGEST_SECONDS
        pause = 0.2
        while True:
            with in_words(f"watching the stack {name}"):
                found = look()
            if done(found):
                return found
            if time.monotonic() > deadline:
                raise InstallError(f"the stack {name} still changes after an hour: look at it in the console")
            time.sleep(pause)
            pause = min(pause * 2, LOOK_SECONDS)
