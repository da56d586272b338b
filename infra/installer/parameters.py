"""The parameters of a template: what each may be, and what its rules say of all of them together. Pure.

CloudFormation checks the same, but only once a bucket is made and everything is uploaded, and says less.
"""

from __future__ import annotations

import re
from typing import Any

Values = dict[str, str]


def problem(name: str, parameter: dict[str, Any], value: str) -> str | None:
    """Why a parameter cannot be this; None where it can."""
    allowed = [_text(item) for item in parameter.get("AllowedValues", [])]
    if allowed and value not in allowed:
        return f"{name} is one of {', '.join(allowed)}, not {value!r}"
    if parameter["Type"] == "Number":
        try:
            number = float(value)
        except ValueError:
            return f"{name} is a number, not {value!r}"
        least, most = parameter.get("MinValue"), parameter.get("MaxValue")
        if (least is not None and number < float(least)) or (most is not None and number > float(most)):
            return f"{name} is between {least} and {most}, not {value}"
    pattern = parameter.get("AllowedPattern")
    # Of a list, each item is compared.
    items = value.split(",") if parameter["Type"] == "CommaDelimitedList" else [value]
    for item in items:
        if pattern and not re.fullmatch(pattern, item):
            said = parameter.get("ConstraintDescription", f"what matches {pattern}").rstrip(".")
            return f"{name} cannot be {item!r}: it is {said}"
    return None


def problems(template: dict[str, Any], values: Values, pseudo: Values) -> list[str]:
    """Everything that is wrong with the values of a template's parameters, rules included."""
    known = template["Parameters"]
    found = [f"{name} is no parameter: see infra/template.yaml" for name in sorted(set(values) - set(known))]
    for name, parameter in known.items():
        if name in values:
            found.append(problem(name, parameter, values[name]))
        elif "Default" not in parameter:
            found.append(f"{name} has no value")
    complete = {**defaults(template), **values, **pseudo}
    found = [text for text in found if text]
    return found or broken_rules(template, complete)


def defaults(template: dict[str, Any]) -> Values:
    """What holds where nothing is said."""
    return {name: _text(p["Default"]) for name, p in template["Parameters"].items() if "Default" in p}


def broken_rules(template: dict[str, Any], values: Values) -> list[str]:
    """What the template's Rules say against these values."""
    return [
        assertion["AssertDescription"]
        for rule in template.get("Rules", {}).values()
        if "RuleCondition" not in rule or _holds(rule["RuleCondition"], values)
        for assertion in rule["Assertions"]
        if not _holds(assertion["Assert"], values)
    ]


def _holds(expression: Any, values: Values) -> Any:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-rules.html, as far as the
    templates use it."""
    if not isinstance(expression, dict):
        return expression
    ((function, argument),) = expression.items()
    if function == "Ref":
        return values[argument]
    parts = [_holds(item, values) for item in argument]
    match function:
        case "Fn::Equals":
            return _text(parts[0]) == _text(parts[1])
        case "Fn::Not":
            return not parts[0]
        case "Fn::And":
            return all(parts)
        case "Fn::Or":
            return any(parts)
    raise ValueError(f"{function} is not known here")


def _text(value: Any) -> str:
    return str(value)
