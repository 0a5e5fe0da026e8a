"""The definition of a tool that a plugin brings. Imports nothing of Django: it also runs in the sandbox."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tools.spec import Tool

# What only the server's own tools may be.
_OWN = {"asks_person": False, "starts_job": False, "offered": True}


class NoTool(Exception):
    """What an entry point names is no tool."""


def tools_of(named: Any) -> list[Tool]:
    """Of what an entry point names: a subclass of `Tool`, or a list or tuple of such. Raises NoTool."""
    classes = list(named) if isinstance(named, Sequence) and not isinstance(named, str) else [named]
    if not classes:
        raise NoTool("It names an empty list.")
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, Tool)):
            raise NoTool(f"It names {one!r:.100}, which is no class of a tool.")
    return [one() for one in classes]


def definition_of(tool: Tool) -> dict[str, Any]:
    """All that an administrator accepts with it, as JSON. Raises NoTool: it is what only the server's own tools are."""
    for attribute, needed in _OWN.items():
        if getattr(tool, attribute) is not needed:
            raise NoTool(f"{tool.name}: `{attribute}` is for the server's own tools.")
    kind = type(tool)
    return {
        "name": str(tool.name),
        "summary": str(tool.summary),
        "schema": dict(tool.schema),
        "schema_version": int(tool.schema_version),
        "effect": str(tool.effect),
        "queue": str(tool.queue),
        "limits": asdict(tool.limits),
        "needs_profile": str(tool.needs_profile),
        "previews": kind.preview is not Tool.preview,
        "probes": kind.probe is not Tool.probe,
        "undone_by": str(tool.undone_by),
        "examples": [dict(one) for one in tool.examples],
    }
