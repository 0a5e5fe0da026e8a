"""Secrets that a command is given in its environment: {variable: handle}. The call holds names, never values."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tools import secrets
from tools.errors import ToolRefused
from tools.sandbox.environment import forbidden
from tools.spec import Risk, RiskScore

SCHEMA: dict[str, Any] = {
    "type": "object",
    "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,99}$"},
    "additionalProperties": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"},
    "minProperties": 1,
    "maxProperties": 16,
    "description": "Secrets that the command is given as environment variables, each by the name of its handle: "
    '`{"NPM_TOKEN": "npm-token"}`. Nobody sees their values; what an administrator has not allowed for this tool, agent '
    "and variable is refused. With a network, its hosts must be those that the secret may be sent to.",
}


def check(arguments: Mapping[str, Any]) -> None:
    """Raises ToolRefused: a variable would be set twice, or may not be set at all."""
    for variable in arguments.get("secrets", {}):
        if forbidden(variable) or variable in arguments.get("env", {}):
            raise ToolRefused(f"The environment variable {variable} may not be set.", name=variable)


def allowed(tool: str, arguments: Mapping[str, Any]) -> None:
    """Before people are asked: raises ToolRefused where a secret is not for this command."""
    for variable, name in arguments.get("secrets", {}).items():
        secrets.allowed(name, tool=tool, env=variable, hosts=arguments.get("network", ()))


def with_secrets(score: RiskScore, arguments: Mapping[str, Any]) -> RiskScore:
    """Who holds a secret can use it up to its rights: people are asked."""
    names = sorted(set(arguments.get("secrets", {}).values()))
    if not names:
        return score
    told = f"it is given the secret{'s' if len(names) > 1 else ''} {', '.join(names)}"
    return replace(score, level=Risk.HIGH, reasons=(told, *score.reasons))


def told(arguments: Mapping[str, Any]) -> str:
    """`[secrets: NPM_TOKEN=npm-token] `, in front of what a command is described by."""
    given = arguments.get("secrets", {})
    return f"[secrets: {', '.join(f'{name}={given[name]}' for name in sorted(given))}] " if given else ""


def environment(tool: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """The variables with their values. Raises ToolRefused: one of them is not for this command."""
    given = arguments.get("secrets", {})
    return secrets.environment(given, tool=tool, hosts=arguments.get("network", ())) if given else {}
