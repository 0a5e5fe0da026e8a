"""From what a server says of a tool to a definition that an administrator can accept. Pure; everything is a stranger's."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import mcp_types

from tools.admission import Found
from tools.definitions import SIZE_MAX_BYTES, SUMMARY_MAX, digest_of
from tools.mcp.models import McpServer
from tools.mcp.naming import origin_of, tool_names
from tools.mcp.reading import ours
from tools.spec import Effect

TOOLS_MAX = 300
QUEUE = "mcp"
_NAME_MAX = 100
_DIALECTS = ("json-schema.org/draft-07/schema", "json-schema.org/draft/2019-09/schema")


def found_of(server: McpServer, tools: Iterable[mcp_types.Tool]) -> list[Found]:
    """The server's tools as `tools.admission.note` takes them."""
    given = {tool.name: tool for tool in list(tools)[:TOOLS_MAX]}
    names = tool_names(server.name, given)
    return [_found(server, names[original], tool) for original, tool in given.items()]


def definition_of(server: McpServer, name: str, tool: mcp_types.Tool) -> dict[str, Any]:
    """All that is accepted with the tool: what it says of itself, and how its server is started or reached.

    Its hints (`readOnlyHint` and the like) are shown and decide nothing: the effect is `once` until somebody who answers
    for it says otherwise.
    """
    said = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "name": name,
        "summary": _summary(said),
        "schema": _schema(said.get("inputSchema", {})),
        "effect": str(Effect.READ if ours(tool) else Effect.ONCE),
        "queue": QUEUE,
        "limits": {"timeout_s": server.timeout_s},
        "needs_profile": "read",
        "examples": [],
        "undone_by": "",
        "mcp": {
            "server": server.name,
            "tool": tool.name,
            "title": said.get("title", ""),
            "description": said.get("description", ""),
            "hints": said.get("annotations", {}),
            "output": said.get("outputSchema", {}),
            "reached": server.facts(),
        },
    }


def _found(server: McpServer, name: str, tool: mcp_types.Tool) -> Found:
    definition, problem = definition_of(server, name, tool), ""
    try:
        digest_of(definition)
        size = len(json.dumps(definition))
    except (ValueError, TypeError, RecursionError) as error:
        problem, size = f"Its definition is no plain JSON: {type(error).__name__}.", 0
    if size > SIZE_MAX_BYTES:
        problem = f"Its definition is longer than {SIZE_MAX_BYTES} bytes."
    if len(tool.name) > 4 * _NAME_MAX:
        problem = "Its name is too long."
    if problem:
        sha256 = hashlib.sha256(repr(definition).encode(errors="replace")).hexdigest()
        definition = {"name": name, "summary": problem, "mcp": {"server": server.name, "sha256": sha256}}
    return Found(name=name, origin=origin_of(server.name), definition=definition, problem=problem)


def _summary(said: Mapping[str, Any]) -> str:
    """What it says it does, on one line; what cannot be seen stays in it, and makes it unusable (`definitions.flaw`)."""
    text = " ".join(str(said.get("description") or said.get("title") or said.get("name", "")).split())
    return text if len(text) <= SUMMARY_MAX else f"{text[: SUMMARY_MAX - 1]}…"


def _schema(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of an object that takes no fields but those it names. An older dialect is read as today's, if it says so at the top."""
    schema = {key: value for key, value in given.items() if not (key == "$schema" and _older(value))}
    return {**schema, "type": schema.get("type", "object"), "additionalProperties": False}


def _older(dialect: Any) -> bool:
    return isinstance(dialect, str) and dialect.partition("://")[2].rstrip("#") in _DIALECTS
