"""The templates as data: the SAM template as the plain CloudFormation that it becomes. Reads files, writes none."""

from __future__ import annotations

import copy
import json
import logging
import os
import pathlib
from typing import Any, Callable

# The translator asks boto3 for a Region although it calls nothing.
os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")

from samtranslator.parser.parser import Parser  # noqa: E402, F401  (its import registers the parser's plugins)
from samtranslator.translator.transform import transform  # noqa: E402
from samtranslator.yaml_helper import yaml_parse  # noqa: E402

# It measures itself for a service that runs it, and warns wherever there is none.
logging.getLogger("samtranslator.metrics.metrics").setLevel(logging.ERROR)

# Where the packaged template takes its code from. In no other template: `sam deploy` and the local AWS bring theirs.
ARTEFACT_PARAMETERS = {
    "ArtefactBucket": {
        "Description": "The bucket, in this Region, that holds the folder of the package.",
        "Type": "String",
        "AllowedPattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        "ConstraintDescription": "the name of a bucket.",
    },
    "ArtefactPrefix": {
        "Description": "The folder of the package in that bucket, with a slash at its end. Empty for the bucket's root.",
        "Type": "String",
        "Default": "stasis/",
        "AllowedPattern": "^([A-Za-z0-9_.-]+/)*$",
        "ConstraintDescription": "folders, each with a slash at its end, or nothing.",
    },
}


class NoManagedPolicies:
    """Our roles name no managed policy, so the translator has nothing to look up."""

    def load(self) -> dict[str, str]:
        return {}


def read(file: pathlib.Path) -> dict[str, Any]:
    """A template with the short forms of intrinsic functions spelled out."""
    return yaml_parse(file.read_text(encoding="utf-8"))


def stages(template: dict[str, Any]) -> dict[str, str]:
    """The name of the binary of each function, by logical id: the last folder of its CodeUri."""
    return {
        name: pathlib.PurePosixPath(resource["Properties"]["CodeUri"]).name
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def plain(infra: pathlib.Path, key: Callable[[str], str]) -> dict[str, Any]:
    """infra/template.yaml as plain CloudFormation. `key` gives, for a stage, the name of its zip below the package's folder."""
    template = read(infra / "template.yaml")
    keys = {name: key(stage) for name, stage in stages(template).items()}
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            properties["CodeUri"] = {"Bucket": "artefacts", "Key": keys[name]}
        if resource["Type"] == "AWS::Serverless::StateMachine":
            definition = infra / properties.pop("DefinitionUri")
            properties["Definition"] = json.loads(definition.read_text(encoding="utf-8"))
    # Through JSON, as the translator shares what it repeats.
    made = json.loads(json.dumps(transform(template, {}, NoManagedPolicies())))
    for name, resource in made["Resources"].items():
        if resource["Type"] == "AWS::Lambda::Function":
            resource["Properties"]["Code"] = {
                "S3Bucket": {"Ref": "ArtefactBucket"},
                "S3Key": {"Fn::Sub": f"${{ArtefactPrefix}}{keys[name]}"},
            }
    made["Parameters"] = {**copy.deepcopy(ARTEFACT_PARAMETERS), **made["Parameters"]}
    return made
