"""What the templates of infra/ grant: the policies of every role, their intrinsic functions resolved for one deployment.

It reads files and changes none.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.stack import load_template

ROOT = Path(__file__).resolve().parents[2]
FILES = {name: ROOT / "infra" / f"{name}.yaml" for name in ("template", "member", "evidence-account")}
# What is left out of a list or an object, as CloudFormation leaves it out.
NO_VALUE = object()


@dataclass
class Place:
    """Where a template is deployed and with which parameters; `resources` are the names and ARNs that are known."""

    account: str
    region: str
    parameters: dict[str, Any]
    resources: dict[str, str] = field(default_factory=dict)


def load() -> dict[str, dict[str, Any]]:
    """The templates by name, as data."""
    return {name: load_template(path) for name, path in FILES.items()}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class Resolver:
    """The intrinsic functions that policies use. One that it does not know is an error, never a text that matches nothing."""

    def __init__(self, template: dict[str, Any], place: Place) -> None:
        self.template = template
        self.place = place
        self.pseudo = {
            "AWS::AccountId": place.account,
            "AWS::Region": place.region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::NoValue": NO_VALUE,
        }

    def ref(self, name: str) -> Any:
        if name in self.pseudo:
            return self.pseudo[name]
        if name in self.template["Parameters"]:
            value = self.place.parameters.get(name, self.template["Parameters"][name].get("Default"))
            if value is None:
                raise KeyError(f"the parameter {name} has no value")
            return value
        return self.place.resources.get(name, name)

    def attribute(self, name: str, attribute: str) -> str:
        known = self.place.resources.get(f"{name}.{attribute}")
        if known is not None:
            return known
        kind = self.template["Resources"][name]["Type"]
        place = f"{self.place.region}:{self.place.account}"
        if (kind, attribute) == ("AWS::S3::Bucket", "Arn"):
            return f"arn:aws:s3:::{self.ref(name)}"
        if (kind, attribute) == ("AWS::Logs::LogGroup", "Arn"):
            return f"arn:aws:logs:{place}:log-group:{self.template['Resources'][name]['Properties']['LogGroupName']}:*"
        if (kind, attribute) == ("AWS::Serverless::Function", "Arn"):
            return f"arn:aws:lambda:{place}:function:{self.template['Resources'][name]['Properties']['FunctionName']}"
        if (kind, attribute) == ("AWS::KMS::Key", "Arn"):
            return f"arn:aws:kms:{place}:key/{name}"
        if (kind, attribute) == ("AWS::IAM::Role", "Arn"):
            return f"arn:aws:iam::{self.place.account}:role/stasis/stasis-{name}-0123456789AB"
        raise KeyError(f"{name}.{attribute} of {kind} is not known here")

    def holds(self, condition: Any) -> bool:
        if isinstance(condition, str):
            return self.holds(self.template["Conditions"][condition])
        ((function, of),) = condition.items()
        if function == "Condition":
            return self.holds(of)
        if function == "Fn::Equals":
            return self.resolve(of[0]) == self.resolve(of[1])
        if function == "Fn::Not":
            return not self.holds(of[0])
        if function == "Fn::And":
            return all(self.holds(part) for part in of)
        if function == "Fn::Or":
            return any(self.holds(part) for part in of)
        raise KeyError(f"{function} is no condition that is known here")

    def sub(self, of: Any) -> str:
        text, given = of if isinstance(of, list) else (of, {})
        given = {name: self.resolve(value) for name, value in given.items()}

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name in given:
                return str(given[name])
            if "." in name:
                return self.attribute(*name.split(".", 1))
            return str(self.ref(name))

        return re.sub(r"\$\{([^!}][^}]*)\}", value, text)

    def resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [found for item in value if (found := self.resolve(item)) is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, of),) = value.items()
            if function == "Ref":
                return self.ref(of)
            if function == "Fn::GetAtt":
                return self.attribute(*of)
            if function == "Fn::Sub":
                return self.sub(of)
            if function == "Fn::If":
                return self.resolve(of[1] if self.holds(of[0]) else of[2])
            if function == "Fn::Join":
                return of[0].join(str(part) for part in self.resolve(of[1]))
            if function == "Fn::Select":
                return self.resolve(of[1])[int(of[0])]
            if function == "Fn::Split":
                return self.resolve(of[1]).split(of[0])
            if function.startswith("Fn::"):
                raise KeyError(f"{function} is not known here")
        return {key: found for key, item in value.items() if (found := self.resolve(item)) is not NO_VALUE}


def as_iam_reads_it(document: dict[str, Any]) -> dict[str, Any]:
    """The policy as its evaluator wants it: texts in place of numbers, and truth values in place of their names."""
    document = copy.deepcopy(document)
    for statement in document["Statement"]:
        for operator, keys in statement.get("Condition", {}).items():
            for key, value in keys.items():
                values = [str(item) if isinstance(item, (int, float)) and not isinstance(item, bool) else item for item in listed(value)]
                if operator.removesuffix("IfExists").endswith(("Bool", "Null")):
                    values = [item if isinstance(item, bool) else item == "true" for item in values]
                keys[key] = values if isinstance(value, list) else values[0]
    return document


def roles(template: dict[str, Any], place: Place) -> dict[str, dict[str, Any]]:
    """The policy documents of the roles that this deployment makes, by logical id; several policies of a role as one."""
    resolver = Resolver(template, place)
    found = {}
    for name, resource in template["Resources"].items():
        if resource["Type"] != "AWS::IAM::Role" or ("Condition" in resource and not resolver.holds(resource["Condition"])):
            continue
        policies = resolver.resolve(resource["Properties"].get("Policies", []))
        statements = [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]
        found[name] = as_iam_reads_it({"Version": "2012-10-17", "Statement": statements})
    return found
