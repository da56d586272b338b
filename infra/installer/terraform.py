"""Writes infra/terraform/variables.tf and parameters.tf: the parameters of infra/template.yaml as variables of the Terraform module,
with their descriptions, defaults and limits. A check compares what lies there with what this writes.

    PYTHONPATH=infra python -m installer.terraform
"""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

from . import templates
from .install import OWN

HEAD = "# Made of infra/template.yaml by infra/installer/terraform.py: change it there.\n\n"
TYPES = {"Number": "number", "CommaDelimitedList": "list(string)"}


def variable_name(parameter: str) -> str:
    """The name of a parameter's variable: RetentionDays becomes retention_days."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", parameter).lower()


def quoted(text: str) -> str:
    """A string of HCL, in which ${ and %{ begin a template."""
    return json.dumps(text, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def open_parameters(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters that the module leaves to whoever uses it."""
    return {name: parameter for name, parameter in template["Parameters"].items() if name not in OWN}


def condition(name: str, parameter: dict[str, Any]) -> str | None:
    """What a variable must hold, as an expression; None where there is no limit."""
    value = f"var.{name}"
    parts = []
    if "AllowedValues" in parameter:
        allowed = [str(item) if parameter["Type"] == "Number" else quoted(str(item)) for item in parameter["AllowedValues"]]
        parts.append(f"contains([{', '.join(allowed)}], {value})")
    if "MinValue" in parameter:
        parts.append(f"{value} >= {parameter['MinValue']}")
    if "MaxValue" in parameter:
        parts.append(f"{value} <= {parameter['MaxValue']}")
    if "AllowedPattern" in parameter:
        pattern = quoted(parameter["AllowedPattern"])
        if parameter["Type"] == "CommaDelimitedList":
            parts.append(f"alltrue([for item in {value} : can(regex({pattern}, item))])")
        else:
            parts.append(f"can(regex({pattern}, {value}))")
    return " && ".join(parts) or None


def said(parameter: dict[str, Any]) -> str:
    """What a variable must hold, in words; Terraform wants a sentence."""
    if "AllowedValues" in parameter:
        words = "one of " + ", ".join(str(item) for item in parameter["AllowedValues"])
    elif parameter["Type"] == "Number":
        words = f"a number between {parameter['MinValue']} and {parameter['MaxValue']}"
    else:
        words = parameter["ConstraintDescription"].rstrip(".")
    return f"It must be {words}."


def variables(template: dict[str, Any]) -> str:
    """variables.tf."""
    blocks = []
    for parameter_name, parameter in open_parameters(template).items():
        name = variable_name(parameter_name)
        default = parameter["Default"]
        if parameter["Type"] == "CommaDelimitedList":
            shown = "[" + ", ".join(quoted(item) for item in str(default).split(",") if item) + "]"
        else:
            shown = str(default) if parameter["Type"] == "Number" else quoted(str(default))
        lines = [
            f'variable "{name}" {{',
            f"  description = {quoted(parameter['Description'])}",
            f"  type        = {TYPES.get(parameter['Type'], 'string')}",
            f"  default     = {shown}",
        ]
        if limit := condition(name, parameter):
            lines += ["", "  validation {", f"    condition     = {limit}", f"    error_message = {quoted(said(parameter))}", "  }"]
        blocks.append("\n".join([*lines, "}"]))
    return HEAD + "\n\n".join(blocks) + "\n"


def parameters(template: dict[str, Any]) -> str:
    """parameters.tf: the values of the stack's parameters, from the variables."""
    lines = []
    for parameter_name, parameter in open_parameters(template).items():
        name = variable_name(parameter_name)
        value = f'join(",", var.{name})' if parameter["Type"] == "CommaDelimitedList" else f"var.{name}"
        lines.append((parameter_name, value))
    width = max(len(name) for name, _ in lines)
    body = "\n".join(f"    {name.ljust(width)} = {value}" for name, value in lines)
    return f"{HEAD}locals {{\n  parameters = {{\n{body}\n  }}\n}}\n"


def main() -> None:
    infra = pathlib.Path(__file__).resolve().parents[1]
    template = templates.read(infra / "template.yaml")
    for name, text in (("variables.tf", variables(template)), ("parameters.tf", parameters(template))):
        (infra / "terraform" / name).write_text(text, encoding="utf-8")
        print(f"infra/terraform/{name} now holds the parameters of infra/template.yaml")


if __name__ == "__main__":
    main()
